/* proxy.h - byte relays: what connects to a listener is joined to a backend.
 *
 * Bytes go through pipes by splice(2), and a pipe is taken from a pool only while bytes are under
 * way, so an idle pair costs two descriptors and a small struct. A direction that gets no pipe, or
 * whose sockets cannot splice, copies through a smaller buffer that it holds as briefly. Each
 * direction has its own back-pressure and its own end: the end of one side's bytes is passed on
 * behind the last of them, and the pair closes once both directions have ended.
 *
 * A client that comes while the backend is not up is parked, its bytes left in the kernel, and the
 * backend tried again, at most for park_ms; then the client gets the refusal, if there is one, and
 * is closed. A parked client that only half-closed is still served; one that left is dropped. */
#ifndef NET_PROXY_H
#define NET_PROXY_H

#include "net/listen.h"

struct proxy;

enum {
	PROXY_PIPES_MAX = 128,         /* pipes of one proxy at once */
	PROXY_PIPES_IDLE = 32,         /* of those, kept when they are not in use */
	PROXY_PIPE_BYTES = 256 * 1024, /* what a direction holds at most */
	PROXY_CHUNK_BYTES = 64 * 1024, /* and what it holds without a pipe */
	PROXY_REFUSAL_BYTES = 1024,    /* the longest refusal */
	PROXY_LINGER_MS = 1000,        /* how long a refused client may take to read it */
	PROXY_PROBE_MS = 1000 /* how often a client that has ended is asked if it is there */
};

struct proxy_conf {
	struct addr listen, backend;
	const struct peer_list *peers;
	/* Its `told` is used; `accepted` is the proxy's own. The listener's ctx is the proxy. */
	const struct listener_ops *listener_ops;
	uint64_t park_ms;    /* from accept until the backend has taken the connection */
	uint64_t retry_ms;   /* how often the backend is tried while clients are parked; not 0 */
	unsigned max_relays; /* one more client is closed */
	/* Writes what a client is told when the backend did not come up (rc = why); NULL = nothing.
	 * Returns the number of bytes put in buf. */
	size_t (*refusal)(const struct proxy *p, int rc, char *buf, size_t cap);
	/* Something worth a log line: a client that was refused or given up, with the reason. May
	 * be NULL. */
	void (*told)(const struct proxy *p, const char *what, int rc);
};

/* A new proxy that listens, or NULL without memory. `conf` is copied, what it points to must live
 * as long as the proxy. */
struct proxy *proxy_new(struct loop *l, const struct proxy_conf *conf);

const struct proxy_conf *proxy_conf(const struct proxy *p);

/* How many clients there are, parked ones and refused ones that still read included. */
unsigned proxy_relays(const struct proxy *p);

/* Closes all and frees. Between turns of the loop only; sources are done with when it returns. NULL
 * is left alone. */
void proxy_free(struct proxy *p);

#endif
