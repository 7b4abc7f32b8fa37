#include "sandbox/remote.h"

#include "base/container.h"
#include "codec/json.h"
#include "sandbox/guest_port.h"
#include "session/channel.h"
#include "session/exec_server.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	JSON_GROWTH = 6,        /* a byte may become \u001f */
	JSON_FRAME_BYTES = 512, /* keys and numbers */
	IN_BYTES = 64 * 1024,   /* of frames that are not taken as they come */
};

struct remote {
	const struct remote_ops *ops; /* NULL once it is cancelled */
	void *ctx;
	struct loop *loop;
	struct guest_port port;
	struct channel channel;
	bool connected, paused;
	struct queue first; /* what is left of the first frame */
	struct vmframe_size size;
	bool resizes, ends_input; /* to be told behind it */
	bool input_ended, wants_input;
	int32_t exit_code;
};

static struct remote *remote_of(struct channel *c)
{
	return container_of(c, struct remote, channel);
}

/* The last that is done with it. */
static void end(struct remote *r, int rc)
{
	if (r->ops)
		r->ops->ended(r->ctx, rc, r->exit_code);
	queue_done(&r->first);
	free(r);
}

/* --- what is said --------------------------------------------------------------------------------
 */

static void put_args(struct json_writer *jw, struct span args)
{
	json_put_key(jw, "cmd");
	json_put_array(jw);
	while (args.n)
		json_put_string(jw, span_split(&args, '\0'));
	json_put_array_end(jw);
}

static void put_env(struct json_writer *jw, struct span env)
{
	json_put_key(jw, "env");
	json_put_object(jw);
	while (env.n) {
		struct span value = span_split(&env, '\0');

		json_put_key_span(jw, span_split(&value, '='));
		json_put_string(jw, value);
	}
	json_put_object_end(jw);
}

static void put_command(struct wr *w, const struct command *c)
{
	struct json_writer jw = json_writer_of(w);

	json_put_object(&jw);
	put_args(&jw, queue_span(&c->args));
	put_env(&jw, queue_span(&c->env));
	json_put_key(&jw, "working_dir");
	json_put_str(&jw, c->working_dir);
	json_put_key(&jw, "user");
	json_put_str(&jw, c->user);
	json_put_key(&jw, "tty");
	json_put_bool(&jw, c->tty);
	json_put_key(&jw, "tty_width");
	json_put_u64(&jw, c->size.width ? c->size.width : COMMAND_COLUMNS);
	json_put_key(&jw, "tty_height");
	json_put_u64(&jw, c->size.height ? c->size.height : COMMAND_ROWS);
	json_put_key(&jw, "timeout_seconds");
	json_put_u64(&jw, c->timeout_secs);
	json_put_object_end(&jw);
}

/* The longest that the frame can become, or what vm-agent takes. */
static size_t start_bytes(const struct command *c)
{
	size_t text = c->args.n + c->env.n + strlen(c->working_dir) + strlen(c->user);
	size_t n = text * JSON_GROWTH + JSON_FRAME_BYTES;

	return VMFRAME_HEAD_BYTES + (n < EXEC_SERVER_START_BYTES ? n : EXEC_SERVER_START_BYTES);
}

static int put_start(struct queue *q, const struct command *c)
{
	size_t cap = start_bytes(c);
	uint8_t *to = queue_reserve(q, cap);
	struct wr head = wr_of(to, VMFRAME_HEAD_BYTES), json;

	if (!to)
		return -ENOMEM;
	json = wr_of(to + VMFRAME_HEAD_BYTES, cap - VMFRAME_HEAD_BYTES);
	put_command(&json, c);
	if (json.err != E_OK)
		return -E2BIG;
	vmframe_head_write(&head, VMFRAME_START, json.n);
	queue_commit(q, head.n + json.n);
	return 0;
}

static int put_clock(struct queue *q)
{
	uint8_t buf[32];
	struct wr w = wr_of(buf, sizeof buf);
	int64_t now_ns = clock_real_ns();

	vmframe_clock_write(&w,
	    (struct vmframe_clock){.secs = now_ns / (int64_t)NS_PER_SEC,
		.nsecs = (uint32_t)(now_ns % (int64_t)NS_PER_SEC)});
	return queue_put(q, wr_span(&w));
}

/* Whether a frame can be sent now. */
static bool can_send(const struct remote *r)
{
	return r->connected && r->first.n == 0 && !channel_is_behind(&r->channel);
}

static void send_first(struct remote *r)
{
	while (r->first.n && !channel_is_behind(&r->channel)) {
		struct span piece = span_first(queue_span(&r->first), CHANNEL_PIECE_BYTES);

		if (conn_send(&r->channel.conn, piece) < 0)
			return;
		queue_take(&r->first, piece.n);
	}
}

static void send_resize(struct remote *r)
{
	uint8_t payload[4];
	struct wr w = wr_of(payload, sizeof payload);

	wr_u16le(&w, r->size.width);
	wr_u16le(&w, r->size.height);
	if (channel_send(&r->channel, VMFRAME_RESIZE, wr_span(&w)) == 0)
		r->resizes = false;
}

static void send_end(struct remote *r)
{
	if (channel_send(&r->channel, VMFRAME_EOF, span_of(NULL, 0)) == 0)
		r->ends_input = false;
}

/* All that waits, in its order, as far as the peer takes it. */
static void send_more(struct remote *r)
{
	send_first(r);
	if (r->resizes && can_send(r))
		send_resize(r);
	if (r->ends_input && can_send(r))
		send_end(r);
	if (!r->wants_input || !can_send(r))
		return;
	r->wants_input = false;
	if (r->ops)
		r->ops->writable(r->ctx);
}

/* --- what is heard ------------------------------------------------------------------------------
 */

/* Of a piece that is too large the rest is offered again. */
static ssize_t take_output(struct remote *r, enum exec_stream stream, struct span bytes)
{
	struct span piece = span_first(bytes, EXEC_PIECE_BYTES);

	if (r->ops && piece.n)
		r->ops->output(r->ctx, stream, piece);
	if (piece.n < bytes.n && !r->paused)
		channel_resume(&r->channel);
	return (ssize_t)piece.n;
}

/* The last frame: what came with it is not looked at. A payload that is no exit code ends the
 * connection as any that makes no sense. */
static ssize_t take_exit(struct remote *r, struct span payload, size_t left)
{
	if (left > 0)
		return payload.n + left <= sizeof r->exit_code ? 0 : -EPROTO;
	if (vmframe_exit_read(payload, &r->exit_code) != E_OK)
		return -EPROTO;
	channel_pause(&r->channel);
	conn_close(&r->channel.conn, 0);
	return (ssize_t)payload.n;
}

static ssize_t on_frame(struct channel *c, uint8_t type, struct span payload, size_t left)
{
	struct remote *r = remote_of(c);

	switch (type) {
	case VMFRAME_STDOUT: return take_output(r, EXEC_STDOUT, payload);
	case VMFRAME_STDERR: return take_output(r, EXEC_STDERR, payload);
	case VMFRAME_EXIT: return take_exit(r, payload, left);
	default: return (ssize_t)payload.n;
	}
}

static void on_eof(struct channel *c)
{
	conn_close(&c->conn, -ECONNRESET);
}

static void on_drained(struct channel *c)
{
	send_more(remote_of(c));
}

static void on_closed(struct channel *c, int rc)
{
	end(remote_of(c), rc);
}

static const struct channel_ops channel_ops = {
    .frame = on_frame, .eof = on_eof, .drained = on_drained, .closed = on_closed};

/* --- beginning and end --------------------------------------------------------------------------
 */

static void on_connected(struct guest_port *p, int fd)
{
	struct remote *r = container_of(p, struct remote, port);
	int rc = fd;

	if (fd >= 0 && !r->ops)
		rc = -ECANCELED;
	else if (fd >= 0)
		rc = channel_init(
		    &r->channel, r->loop, fd, "command in a sandbox", IN_BYTES, &channel_ops);
	if (rc < 0) {
		if (fd >= 0)
			close(fd);
		end(r, rc);
		return;
	}
	r->connected = true;
	conn_keep_input(&r->channel.conn);
	if (r->paused)
		channel_pause(&r->channel);
	send_more(r);
}

/* One that connects and will say what is in `first`; NULL with *rc. */
static struct remote *remote_new(const struct remote_conf *conf)
{
	struct remote *r = calloc(1, sizeof *r);

	if (!r)
		return NULL;
	r->ops = conf->ops;
	r->ctx = conf->ctx;
	r->loop = conf->loop;
	queue_init(&r->first, VMFRAME_HEAD_BYTES + EXEC_SERVER_START_BYTES, NULL);
	return r;
}

/* `rc` is how it went so far. */
static int begin(struct remote *r, const struct remote_conf *conf, int rc, struct remote **out)
{
	if (rc == 0)
		rc = guest_port_connect(&r->port, r->loop, conf->root, conf->path, REMOTE_PORT,
		    conf->connect_ms, on_connected);
	if (rc < 0) {
		queue_done(&r->first);
		free(r);
		return rc;
	}
	*out = r;
	return 0;
}

int remote_start(
    const struct remote_conf *conf, const struct command *c, bool input, struct remote **out)
{
	struct remote *r = remote_new(conf);

	if (!r)
		return -ENOMEM;
	r->ends_input = r->input_ended = !input;
	return begin(r, conf, put_start(&r->first, c), out);
}

int remote_sync_clock(const struct remote_conf *conf, struct remote **out)
{
	struct remote *r = remote_new(conf);

	return r ? begin(r, conf, put_clock(&r->first), out) : -ENOMEM;
}

size_t remote_input(struct remote *r, struct span bytes)
{
	size_t taken = 0;

	if (r->input_ended)
		return bytes.n;
	while (taken < bytes.n && can_send(r)) {
		struct span piece = span_first(span_from(bytes, taken), CHANNEL_PIECE_BYTES);

		if (channel_send(&r->channel, VMFRAME_STDIN, piece) < 0)
			break;
		taken += piece.n;
	}
	r->wants_input = taken < bytes.n;
	return taken;
}

void remote_end_input(struct remote *r)
{
	if (r->input_ended)
		return;
	r->input_ended = r->ends_input = true;
	r->wants_input = false;
	if (can_send(r))
		send_end(r);
}

void remote_resize(struct remote *r, struct vmframe_size size)
{
	r->size = size;
	r->resizes = true;
	if (can_send(r))
		send_resize(r);
}

void remote_pause(struct remote *r)
{
	r->paused = true;
	if (r->connected)
		channel_pause(&r->channel);
}

void remote_resume(struct remote *r)
{
	r->paused = false;
	if (r->connected)
		channel_resume(&r->channel);
}

void remote_abandon(struct remote *r)
{
	if (!r->connected)
		guest_port_cancel(&r->port, -ECONNRESET);
}

void remote_cancel(struct remote *r)
{
	r->ops = NULL;
	if (r->connected)
		conn_close(&r->channel.conn, -ECANCELED);
	else
		guest_port_cancel(&r->port, -ECANCELED);
}
