/* channel.h - frames of codec/vmframe.h over a connection, both ways.
 *
 * Payloads may be larger than what anybody wants to hold, so a frame is handed on in the pieces in
 * which it comes; whoever needs it whole waits for the rest of it. */
#ifndef SESSION_CHANNEL_H
#define SESSION_CHANNEL_H

#include "codec/vmframe.h"
#include "net/conn.h"

enum {
	CHANNEL_PIECE_BYTES = 64 * 1024 - VMFRAME_HEAD_BYTES, /* one channel_send takes at most */
	CHANNEL_OUT_BYTES = 128 * 1024,                       /* may wait for the peer */
};

struct channel;

/* Called by the loop only. Any of them may send, pause, and finish or close the connection. */
struct channel_ops {
	/* What has come of a frame's payload and was not taken yet; `left` bytes of it are still to
	 * come. Returns how many bytes were taken, or -errno to close. What was not taken is
	 * offered again, after channel_resume() or with more of the payload: a frame that fits in
	 * `in_bytes` can be waited for. */
	ssize_t (*frame)(struct channel *c, uint8_t type, struct span payload, size_t left);
	/* The peer will send no more. */
	void (*eof)(struct channel *c);
	/* What had to wait has left. */
	void (*drained)(struct channel *c);
	/* As conn_ops.closed: the last call, after which the memory may go. */
	void (*closed)(struct channel *c, int rc);
};

/* Memory of the caller, in place until `closed`. */
struct channel {
	const struct channel_ops *ops;
	struct conn conn; /* to finish or close */
	bool in_frame, eof_told, paused;
	uint8_t type;        /* of the frame that is being received */
	size_t length, left; /* of its payload: in all, and what was not taken */
};

/* Takes over the fd of a stream socket. `in_bytes` bounds what is held of frames that are not taken
 * as they come. 0 or -errno (the fd then stays the caller's, and `closed` is not called). */
int channel_init(struct channel *c, struct loop *l, int fd, const char *name, size_t in_bytes,
    const struct channel_ops *ops);

/* Sends a frame; as conn_send(). */
int channel_send(struct channel *c, enum vmframe_type type, struct span payload);

/* Whether the peer is behind: something waits to be sent. */
static inline bool channel_is_behind(const struct channel *c)
{
	return conn_pending(&c->conn) > 0;
}

/* Stops and resumes the reading; meanwhile no frame is handed on. */
void channel_pause(struct channel *c);
void channel_resume(struct channel *c);

#endif
