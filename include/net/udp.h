/* udp.h - datagram sockets on the loop. */
#ifndef NET_UDP_H
#define NET_UDP_H

#include "sys/loop.h"
#include "sys/sock.h"

enum { UDP_PACKET_BYTES = 65535 };

struct udp;

/* Where a datagram came from, and (with pktinfo) the address it was sent to, by the family of
 * `from`: see ip(7) and RFC 3542 section 6. */
struct udp_peer {
	struct addr from;
	union {
		struct in_pktinfo in;
		struct in6_pktinfo in6;
	} to;
};

/* One datagram, which may be empty, viewed for the time of the call. */
typedef void udp_fn(struct udp *u, struct span packet, const struct udp_peer *peer);
/* The socket could not receive; it stays in use. -ECONNREFUSED on a connected one: nobody is there
 * (ICMP). */
typedef void udp_error_fn(struct udp *u, int rc);

/* Memory of the caller, in place until source.done. */
struct udp {
	udp_fn *fn;
	udp_error_fn *error;
	void *ctx;
	struct source source;
	bool pktinfo;
};

/* Takes over an fd of sock_udp_bind or sock_udp_connect. 0 or -errno (the fd stays the caller's).
 * fn, error (may be NULL), ctx and source.done are set before, the rest is zero. A turn handles at
 * most LOOP_EVENTS datagrams. Ends with source_remove. */
int udp_init(struct udp *u, struct loop *l, int fd, bool pktinfo, const char *name);

/* Answers a datagram from the address that it was sent to. 0 or -errno; a full send buffer drops it
 * (-EAGAIN), as the network may. */
int udp_reply(struct udp *u, struct span packet, const struct udp_peer *peer);

/* Sends on a connected socket. 0 or -errno (-ECONNREFUSED: what was sent before reached nobody). */
int udp_send(struct udp *u, struct span packet);

#endif
