#include "session/channel.h"

#include "base/container.h"

#include <errno.h>

static struct channel *channel_of(struct conn *conn)
{
	return container_of(conn, struct channel, conn);
}

/* Whether a frame is under way, of which there may be more in the input from *at on. */
static bool begin_frame(struct channel *c, struct span in, size_t *at)
{
	struct rd r = rd_of(span_from(in, *at));
	uint8_t type = rd_u8(&r);
	uint32_t length = rd_u32le(&r);

	if (c->in_frame)
		return true;
	if (r.err != E_OK)
		return false;
	c->in_frame = true;
	c->type = type;
	c->length = c->left = length;
	*at += r.at;
	return true;
}

void channel_pause(struct channel *c)
{
	c->paused = true;
	conn_pause(&c->conn);
}

void channel_resume(struct channel *c)
{
	c->paused = false;
	conn_resume(&c->conn);
}

/* Hands frames on until the input is at its end, or the owner takes no more. How much was taken, or
 * -errno. */
static ssize_t take_frames(struct channel *c, struct span in)
{
	size_t at = 0;

	while (!c->paused && begin_frame(c, in, &at)) {
		struct span payload = span_first(span_from(in, at), c->left);
		ssize_t n;

		if (c->left > VMFRAME_PAYLOAD_MAX)
			return -EMSGSIZE;
		if (payload.n == 0 && c->left > 0)
			break;
		n = c->ops->frame(c, c->type, payload, c->left - payload.n);
		if (n < 0)
			return n;
		at += (size_t)n;
		c->left -= (size_t)n;
		c->in_frame = c->left > 0;
		if ((size_t)n < payload.n)
			break;
	}
	return (ssize_t)at;
}

static ssize_t on_data(struct conn *conn, struct span in, bool eof)
{
	struct channel *c = channel_of(conn);
	ssize_t n = take_frames(c, in);

	if (n < 0 || !eof || c->paused || c->eof_told)
		return n;
	c->eof_told = true;
	c->ops->eof(c);
	return n;
}

static void on_drained(struct conn *conn)
{
	struct channel *c = channel_of(conn);

	c->ops->drained(c);
}

static void on_closed(struct conn *conn, int rc)
{
	struct channel *c = channel_of(conn);

	c->ops->closed(c, rc);
}

static const struct conn_ops conn_ops = {
    .data = on_data, .drained = on_drained, .closed = on_closed};

int channel_init(struct channel *c, struct loop *l, int fd, const char *name, size_t in_bytes,
    const struct channel_ops *ops)
{
	const struct conn_limits limits = {.in_bytes = in_bytes, .out_bytes = CHANNEL_OUT_BYTES};

	*c = (struct channel){.ops = ops};
	return conn_init(&c->conn, l, fd, name, &conn_ops, &limits);
}

int channel_send(struct channel *c, enum vmframe_type type, struct span payload)
{
	uint8_t *place = conn_reserve(&c->conn, VMFRAME_HEAD_BYTES + payload.n);
	struct wr w = wr_of(place, place ? VMFRAME_HEAD_BYTES + payload.n : 0);

	if (!place)
		return -ENOBUFS;
	vmframe_write(&w, (uint8_t)type, payload);
	conn_commit(&c->conn, w.n);
	return 0;
}
