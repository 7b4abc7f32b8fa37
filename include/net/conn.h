/* conn.h - a stream connection: one fd, a bounded queue each way, half-close and back-pressure.
 *
 * A connection that waits for its peer holds no buffer: bytes are read into a buffer that all
 * connections of the process share, handed to the owner as one span, and only what the owner does
 * not consume is queued. What is sent is written at once; only what the kernel does not take is
 * queued. */
#ifndef NET_CONN_H
#define NET_CONN_H

#include "base/queue.h"
#include "sys/loop.h"
#include "sys/timer.h"

#include <sys/types.h>

struct conn;

enum {
	CONN_READ_BYTES = 64 * 1024, /* the shared buffer: the most that one read takes */
	CONN_LINGER_MS = 1000,       /* see conn_finish */
	CONN_PROBE_MS = 1000         /* see conn_probe */
};

/* Called by the loop only, never from inside a conn_ call. Any of them may send, pause, finish and
 * close. */
struct conn_ops {
	/* All bytes that came and were not consumed, as one view for the time of the call; `eof`
	 * says that no more will come. Returns how many were consumed, or -errno to close the
	 * connection. Called when bytes came, once at the end of the stream (which leaves the
	 * connection open for sending), after conn_resume when bytes are left or the stream has
	 * ended, and a last time before -ENOMEM ends a connection for which the budget has no more
	 * room. Consuming nothing of a full queue stops the reading until conn_resume. */
	ssize_t (*data)(struct conn *c, struct span in, bool eof);
	/* What had to wait has all left for the kernel. Not called for what left at once, nor after
	 * conn_finish. May be NULL. */
	void (*drained)(struct conn *c);
	/* The connection is over: rc is 0 after a clean conn_finish, what conn_close or `data`
	 * gave, or the -errno that ended it (-ETIMEDOUT: the peer took nothing for too long;
	 * -EPIPE: it has gone; -EIO: a file was too short). The last call; the memory may go. */
	void (*closed)(struct conn *c, int rc);
};

struct conn_limits {
	size_t in_bytes, out_bytes; /* of the queues, at least 1 */
	struct budget *budget;      /* shared by connections; may be NULL */
	/* A peer that takes nothing of what is queued, or cannot be connected to, for so long is
	 * cut off; 0 = never. */
	uint64_t stall_ms;
};

/* Memory of the caller, in place until `closed`. Zeroed, it counts as a connection that is over.
 * Fields are private but for `ops`, and `ctx`, which the owner sets after the init. */
struct conn {
	const struct conn_ops *ops;
	void *ctx;
	struct source source;
	struct queue in, out;
	struct timer stall, probe;
	struct task resume;
	uint64_t stall_ns;
	int rc;
	bool paused, eof, finishing, connecting;
	bool keeps_input, hung_up; /* see conn_keep_input */
	int file; /* sent after the `file_after` oldest bytes of `out`; -1 = none */
	size_t file_after;
	off_t file_at;
	uint64_t file_left;
};

/* Takes over the fd of a stream socket and begins to read. 0 or -errno (the fd then stays the
 * caller's, and `closed` is not called). `name` is a literal for the log. */
int conn_init(struct conn *c, struct loop *l, int fd, const char *name, const struct conn_ops *ops,
    const struct conn_limits *limits);

/* Like conn_init for an fd from sock_connect: what is sent meanwhile waits; a connection that fails
 * is reported by `closed`. */
int conn_init_connecting(struct conn *c, struct loop *l, int fd, const char *name,
    const struct conn_ops *ops, const struct conn_limits *limits);

/* Sends a copy. 0; -ENOBUFS or -ENOMEM when it does not fit what is queued already (nothing is sent
 * then, or the connection is closed); or -EPIPE on a connection that is over or finishing. */
int conn_send(struct conn *c, struct span s);

/* The same without a copy: a place for up to n bytes, filled by the caller and sent by conn_commit.
 * NULL when it does not fit, or the connection is over or finishing. */
uint8_t *conn_reserve(struct conn *c, size_t n);
void conn_commit(struct conn *c, size_t n);

/* Sends `n` bytes of a file from `offset` on, behind all that was sent before; later bytes follow
 * it. Takes the fd over, also on failure: -EPIPE as above, or -EBUSY, since only one file can wait
 * at a time. A file that turns out shorter ends the connection with -EIO. */
int conn_send_file(struct conn *c, int fd, off_t offset, uint64_t n);

/* Sets the limit of the peer's patience anew; as conn_limits.stall_ms. */
void conn_set_stall(struct conn *c, uint64_t stall_ms);

/* Bytes (and file bytes) that wait to be sent. */
uint64_t conn_pending(const struct conn *c);

/* Asks each CONN_PROBE_MS whether the peer is still there, and closes with -EPIPE when it is not;
 * or asks no more. vsock(7) tells of that only when something is sent, which may be never. */
void conn_probe(struct conn *c, bool on);

/* Stops reading: the peer feels it. Bytes read already are not offered meanwhile. A peer that goes
 * away altogether, both directions, ends a paused connection at once: nobody is left to answer. */
void conn_pause(struct conn *c);

/* For a peer that may say its last word while reading is paused, and go: all that it sent is read
 * nevertheless, and what is sent to it then is lost without an error. Set after the init. */
static inline void conn_keep_input(struct conn *c)
{
	c->keeps_input = true;
}

/* Reads again, and offers what is queued at the end of this turn. */
void conn_resume(struct conn *c);

/* Closes once everything sent has left, or the peer stalled. Input is dropped from now on, but
 * still read until the peer closes too, at most for CONN_LINGER_MS: closing over unread bytes would
 * reset the connection, and the peer might lose the answer that it was just sent. */
void conn_finish(struct conn *c);

/* Closes now; what waits is lost. `closed` is called at the end of the turn, once, with the rc of
 * the first call. */
void conn_close(struct conn *c, int rc);

#endif
