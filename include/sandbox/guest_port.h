/* guest_port.h - connecting to a port of a sandbox's vsock, by the unix socket that Firecracker
 * makes for it (docs/vsock.md of its sources, "host-initiated connections").
 *
 * While nobody listens there, in the guest or on this side, it is tried again and again. */
#ifndef SANDBOX_GUEST_PORT_H
#define SANDBOX_GUEST_PORT_H

#include "sys/addr.h"
#include "sys/loop.h"
#include "sys/timer.h"

enum {
	GUEST_PORT_RETRY_MS = 200,
	GUEST_PORT_ANSWER_BYTES = 64, /* the longest answer, its line end included */
};

struct guest_port;

/* The end, called exactly once: an fd, which is the callee's and whose bytes are the guest's from
 * now on; or -ETIMEDOUT; -EPROTO for an answer that is none; or what guest_port_cancel() gave. The
 * memory may go. */
typedef void guest_port_fn(struct guest_port *p, int fd);

/* Memory of the caller, in place until fn was called. Zeroed, it does nothing. */
struct guest_port {
	guest_port_fn *fn;

	/* private */
	struct loop *loop;
	struct source source;
	struct timer timer; /* the next try, or the end of all */
	struct addr addr;
	uint32_t port;
	uint64_t give_up_ns;
	bool asked;      /* CONNECT was sent */
	size_t answered; /* bytes of the answer */
	char answer[GUEST_PORT_ANSWER_BYTES];
	bool over;
	int result; /* for fn, once it is over */
};

/* Begins; the socket is at `path` (in `root`, which lives until the end; as addr.root). 0: fn will
 * be called, never from inside this call; or -EINVAL or -ENAMETOOLONG for the path. */
int guest_port_connect(struct guest_port *p, struct loop *l, const char *root, const char *path,
    uint32_t port, uint64_t timeout_ms, guest_port_fn *fn);

/* Gives up: fn is told rc at the end of this turn, or before this returns. One that does not
 * connect is left alone. */
void guest_port_cancel(struct guest_port *p, int rc);

#endif
