/* host.h - the programs of the host, on unix sockets, with Firecracker's rules for vsock:
 *
 * A program connects to PATH and sends `CONNECT <port>\n`; when the guest has accepted it is
 * answered `OK <its own port>\n`, and bytes flow. A connection of the guest to port P of the host
 * goes to the unix socket PATH_<P>. */
#ifndef BRIDGE_HOST_H
#define BRIDGE_HOST_H

#include "sys/sock.h"
#include "vsock.h"

enum {
	HOST_LINE_BYTES = 32, /* the longest `CONNECT <port>\n`, with room for blanks and zeros */
	HOST_LINE_MS = 10 * 1000, /* for a program to send it */
};

/* Memory of the caller. Private. */
struct host {
	struct loop *loop;
	struct vsock *vsock;
	const char *path;
	unsigned max_callers;
	struct link callers; /* who have not sent their line yet */
	unsigned n_callers;
};

/* `path` and `vsock` stay the caller's. */
void host_init(
    struct host *h, struct loop *l, struct vsock *v, const char *path, unsigned max_callers);

/* Closes callers that have not sent their line; the memory may go at the end of the turn. */
void host_done(struct host *h);

/* Takes over a program's connection. */
void host_call(struct host *h, int fd);

/* Connects to who serves a port of the host. A stream socket, or -errno. */
int host_dial(const struct host *h, uint32_t port);

#endif
