/* connection.h - one stream between a socket of the host and a port of the guest.
 *
 * Bytes to the guest are read from the socket into the guest's own buffers, and only as many as it
 * has given credit for. Bytes of the guest are written to the socket from where they are; only what
 * the host program does not take at once is copied, at most the buffer that the guest has credit
 * for. So a slow end slows the other, and no memory is held by a stream that flows.
 *
 * The socket is edge-triggered: `readable` remembers what it said. Its fd is held until the
 * connection is over, and the memory goes with it. */
#ifndef BRIDGE_CONNECTION_H
#define BRIDGE_CONNECTION_H

#include "base/queue.h"
#include "sys/timer.h"
#include "vsock.h"

enum {
	CONNECT_MS = 10 * 1000, /* for the guest to take or refuse a connection */
	CLOSE_MS = 10 * 1000,   /* for it to answer the end of both directions by a reset */
};

struct connection {
	struct vsock *vsock;
	struct map_node node; /* in vsock->table, while `known` */
	struct link all, ready;
	struct source source;
	struct timer deadline;
	uint32_t host_port, guest_port;

	/* credit (5.10.6.3); the counters wrap around */
	struct queue out;       /* bytes of the guest that the host program has not taken */
	uint32_t received;      /* from the guest */
	uint32_t told;          /* the fwd_cnt that the guest heard last */
	uint32_t sent;          /* to the guest */
	uint32_t guest_alloc;   /* the guest's buf_alloc and */
	uint32_t guest_fwd_cnt; /* fwd_cnt, as heard last */

	uint8_t due;            /* packets to be sent: DUE_... of connection.c */
	uint8_t guest_shutdown; /* VIRTIO_VSOCK_SHUTDOWN_... that the guest has said */
	uint8_t host_shutdown;  /* that apply to the host program, */
	uint8_t told_shutdown;  /* of which the guest knows */
	bool known;             /* the guest can reach it */
	bool open;              /* it has been answered */
	bool passed_on;         /* the host program knows the end of the guest's bytes */
	bool readable, hung_up; /* the socket */
	bool starved;           /* out of credit, and the guest was asked for more */
};

/* Opens a connection: that the guest asked for by `request`, or, NULL, that it is to be asked for.
 * Takes the fd over on success. 0 or -errno. */
int connection_open(
    struct vsock *v, int fd, uint32_t host_port, uint32_t guest_port, const struct packet *request);

/* Ends it at once, without a word to the guest. The memory goes at the end of the turn. */
void connection_end(struct connection *c);

/* The one that the guest means by these ports, or NULL. */
struct connection *connection_find(const struct vsock *v, uint32_t host_port, uint32_t guest_port);

/* A packet from the guest, with its payload, which is p->len bytes. */
void connection_receive(struct connection *c, const struct packet *p, struct iov payload);

/* Sends the guest what is due, and bytes up to a quantum. 0; or -ENOBUFS when the guest has no
 * buffer left. */
int connection_transmit(struct connection *c);

/* Whether there is something for the guest now. */
bool connection_wants(const struct connection *c);

#endif
