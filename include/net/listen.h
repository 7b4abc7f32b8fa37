/* listen.h - listening sockets that come up by themselves.
 *
 * An address that cannot be bound is tried again for ever (120 ms, then half as long again each
 * time, up to 2 s). Over vsock only peers on a list may connect: any process of a container can
 * open a vsock socket, so the host's CID alone says who is asking. When descriptors run out,
 * accepting rests for LISTEN_REST_MS instead of spinning. */
#ifndef NET_LISTEN_H
#define NET_LISTEN_H

#include "sys/loop.h"
#include "sys/sock.h"
#include "sys/timer.h"

enum {
	LISTEN_FIRST_RETRY_MS = 120,
	LISTEN_LAST_RETRY_MS = 2000,
	LISTEN_REST_MS = 100,
	LISTEN_REFUSED_MS = 1000,
	LISTEN_BURST = 16
};

struct listener;

struct listener_ops {
	/* A connection; the fd is the callee's. The callee may stop the listener. */
	void (*accepted)(struct listener *l, int fd, const struct addr *peer);
	/* Something to tell, once each time it changes but for LISTEN_REFUSED. `peer` is NULL but
	 * for LISTEN_REFUSED: the last one. May be NULL. */
	void (*told)(struct listener *l, int what, int rc, const struct addr *peer);
};

enum {
	LISTEN_BOUND,   /* rc 0; may be told from inside listener_start, as may LISTEN_FAILED */
	LISTEN_FAILED,  /* rc = why; tried again */
	LISTEN_REFUSED, /* rc = how many peers that are not on the list were closed since this was
			 * told last; told once in LISTEN_REFUSED_MS at most */
	LISTEN_RESTING  /* rc = why nothing is accepted for a while: -EMFILE or the like */
};

/* Who may connect over vsock. Lives as long as the listener. */
struct peer_list {
	const uint32_t *cids;
	size_t n;
};

/* Memory of the caller, in place until the end of the turn of listener_stop. Fields are private but
 * for `ctx`, which is set before listener_start, and `addr`. */
struct listener {
	const struct listener_ops *ops;
	void *ctx;
	struct addr addr;
	const struct peer_list *peers;
	struct source source;
	struct timer retry;
	uint64_t retry_ms;
	int last_rc; /* told last */
	int refused; /* since that was told */
	uint64_t refused_told_ns;
	uint32_t own_cid; /* of this machine, 0 = none */
};

/* Starts to listen, now or as soon as it can be. `addr` is copied; without `peers` nobody may
 * connect over vsock. Cannot fail. */
void listener_start(struct listener *l, struct loop *loop, const struct addr *addr,
    const struct peer_list *peers, const struct listener_ops *ops);

/* Stops, and removes the path of a unix socket that it bound. A zeroed listener is left alone. */
void listener_stop(struct listener *l);

/* Whether a peer may connect: always on other families; on vsock when its CID is on the list and it
 * is not this machine's own (1, or own_cid), whatever the list says. */
bool peer_allowed(const struct peer_list *peers, uint32_t own_cid, const struct addr *peer);

#endif
