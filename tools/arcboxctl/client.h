/* client.h - the host's end of RPC: one connection, one request at a time.
 *
 * A blocking client with deadlines. Whoever gives up says so on standard error, in one line, and
 * returns the exit code of the program (print.h); 0 is success. */
#ifndef ARCBOXCTL_CLIENT_H
#define ARCBOXCTL_CLIENT_H

#include "base/queue.h"
#include "codec/frame.h"
#include "sys/addr.h"

#define AGENT_PORT 1024 /* vsock, of the agent's RPC */

/* The most that the agent sends: 64 MiB of a file, and what stands around it. */
#define ANSWER_MAX_BYTES ((64u << 20) + (1u << 20))

/* Where an agent is. */
struct host {
	const char *text; /* as it was given, for error lines */
	struct addr addr;
	bool firecracker; /* addr is the unix socket of a Firecracker VM: ask it for `port` */
	uint32_t port;
};

/* Reads `vsock:CID[:PORT]`, `unix:PATH` or `fc:PATH[:PORT]`; *out views `text`. E_MALFORMED,
 * E_RANGE (port or CID) or E_LIMIT (path too long for a socket). */
enum err host_parse(const char *text, struct host *out);

/* The same machine, another vsock port; false for a unix socket, behind which there is only one. */
bool host_with_port(const struct host *host, uint32_t port, struct host *out);

/* Connects: 0 with a non-blocking descriptor in *fd, or the exit code. `doing` is the command, for
 * error lines. */
int host_connect(const struct host *host, const char *doing, uint64_t timeout_ms, int *fd);

enum { CLIENT_TRACE_BYTES = 32 };

struct client {
	const struct host *host;
	const char *doing; /* the command, for error lines */
	uint64_t timeout_ms;
	int fd;
	struct queue in; /* what has come */
	size_t taken;    /* of it, the answer that was handed out last */
	uint32_t calls;
	char trace[CLIENT_TRACE_BYTES]; /* of the request that was begun last */
};

/* Connects; `host` and `doing` must outlive the client. On failure there is nothing to close. */
int client_open(struct client *c, const struct host *host, const char *doing, uint64_t timeout_ms);
void client_close(struct client *c);

/* Sends a request; its answers come by the functions below. Takes at most timeout_ms. */
int client_begin(struct client *c, uint32_t type, struct span payload);

/* Waits for the next answer to the request that was begun last; for ever with a timeout_ms of 0. It
 * is a view that lives until the next call. An answer of another request is a failure, and so is an
 * Error. */
int client_next(struct client *c, uint64_t timeout_ms, struct frame *answer);

/* The same in pieces, for those who have more to wait for: reads what has come on `fd`, which is
 * ready to be read; and takes an answer off it, *whole telling whether there was one. */
int client_read(struct client *c);
int client_take(struct client *c, struct frame *answer, bool *whole);

/* Sends a request and waits at most timeout_ms for all of its one answer, as client_next(). */
int client_call(struct client *c, uint32_t type, struct span payload, struct frame *answer);

/* Where the frames of a peer break off. */
int client_lost(const struct client *c, int rc);

#endif
