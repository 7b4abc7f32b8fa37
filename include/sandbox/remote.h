/* remote.h - a command in a sandbox, from this side of its vsock: what session/exec.h does here,
 * done there by vm-agent, which is told by the frames of codec/vmframe.h on port 52.
 *
 * Nothing is buffered beyond what a connection holds: a command whose output is not taken stops,
 * and input that it does not read is not taken here. */
#ifndef SANDBOX_REMOTE_H
#define SANDBOX_REMOTE_H

#include "session/command.h"
#include "session/exec.h"
#include "sys/loop.h"

enum { REMOTE_PORT = 52 };

struct remote;

/* Called by the loop, and by remote_abandon(). Any may call the functions below. */
struct remote_ops {
	/* It wrote something, at most EXEC_PIECE_BYTES, viewed for the time of the call; all of it
	 * is taken. remote_pause() keeps more from coming. */
	void (*output)(void *ctx, enum exec_stream stream, struct span bytes);
	/* Input is taken again after remote_input() took less than it was given. */
	void (*writable)(void *ctx);
	/* The last call; the remote is gone afterwards. rc 0: the command has exited; or
	 * -ETIMEDOUT: vm-agent takes no connection; -EPROTO: it says what makes no sense; or what
	 * else ended the connection. */
	void (*ended)(void *ctx, int rc, int32_t exit_code);
};

struct remote_conf {
	struct loop *loop;
	const char *path;    /* of the unix socket of the sandbox's vsock; copied */
	uint64_t connect_ms; /* for vm-agent to take the connection */
	const struct remote_ops *ops;
	void *ctx;
	const char *root; /* that the path is in, as addr.root; outlives the connecting */
};

/* Starts a command; without `input` its input is at its end at once. 0 with *out, which lives until
 * `ended` or remote_cancel(); or -errno (-E2BIG: it is too large to be told). */
int remote_start(
    const struct remote_conf *conf, const struct command *c, bool input, struct remote **out);

/* Sets the sandbox's clock to this machine's instead: `ended` says how that went. */
int remote_sync_clock(const struct remote_conf *conf, struct remote **out);

/* As the functions of exec.h. */
size_t remote_input(struct remote *r, struct span bytes);
void remote_end_input(struct remote *r);
void remote_resize(struct remote *r, struct vmframe_size size);
void remote_pause(struct remote *r);
void remote_resume(struct remote *r);
void remote_cancel(struct remote *r);

/* The VM is no more: nobody will take a connection any more. What came over one that stands is
 * still handed on. */
void remote_abandon(struct remote *r);

#endif
