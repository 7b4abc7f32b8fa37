#include "session/exec_server.h"

#include "base/container.h"
#include "session/channel.h"
#include "session/launch.h"
#include "sys/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	REASON_BYTES = 256,
};

struct session {
	struct exec_server *server;
	struct channel channel;
	struct exec *exec; /* while the command runs */
	bool refused;      /* one too many */
	bool over;         /* EXIT was sent, or nobody is there to get it */
};

/* --- to the peer ------------------------------------------------------------------------------ */

/* The last frame. */
static void send_exit(struct session *s, int32_t code)
{
	uint8_t frame[VMFRAME_HEAD_BYTES + sizeof code];
	struct wr w = wr_of(frame, sizeof frame);

	vmframe_exit_write(&w, code);
	s->over = true;
	conn_send(&s->channel.conn, wr_span(&w));
	conn_finish(&s->channel.conn);
}

/* Ends a session whose command cannot be started. */
static void refuse(struct session *s, const char *what, const char *why)
{
	char text[REASON_BYTES];
	struct wr w = wr_of(text, sizeof text);

	wr_str(&w, what);
	wr_str(&w, ": ");
	wr_str(&w, why);
	wr_str(&w, "\n");
	channel_send(&s->channel, VMFRAME_STDERR, wr_span(&w));
	send_exit(s, LAUNCH_NOT_EXECUTABLE);
}

static void on_output(void *ctx, enum exec_stream stream, struct span bytes)
{
	struct session *s = ctx;
	enum vmframe_type type = stream == EXEC_STDERR ? VMFRAME_STDERR : VMFRAME_STDOUT;
	int rc = channel_send(&s->channel, type, bytes);

	if (rc < 0)
		conn_close(&s->channel.conn, rc);
	if (rc < 0 || channel_is_behind(&s->channel))
		exec_pause(s->exec);
}

static void on_drained(struct channel *c)
{
	struct session *s = container_of(c, struct session, channel);

	if (s->exec)
		exec_resume(s->exec);
}

static void on_writable(void *ctx)
{
	struct session *s = ctx;

	channel_resume(&s->channel);
}

static void on_ended(void *ctx, int code)
{
	struct session *s = ctx;

	s->exec = NULL;
	send_exit(s, code);
}

static const struct exec_ops exec_ops = {
    .output = on_output, .writable = on_writable, .ended = on_ended};

/* --- from the peer ---------------------------------------------------------------------------- */

static void set_clock(struct session *s, struct span payload)
{
	struct vmframe_clock clock;
	int rc = -EPERM;

	if (vmframe_clock_read(payload, &clock) != E_OK || clock.secs < 0 ||
	    (uint64_t)clock.secs >= INT64_MAX / NS_PER_SEC)
		rc = -EINVAL;
	else if (s->server->conf.sets_clock)
		rc = clock_step(clock.secs * (int64_t)NS_PER_SEC + clock.nsecs);
	send_exit(s, rc < 0 ? -1 : 0);
}

static void start(struct session *s, struct span json)
{
	struct command c;
	enum err err;
	int rc;

	command_init(&c);
	err = command_read(&c, json);
	if (err != E_OK) {
		refuse(s, "START is not understood", err_text((int)err));
	} else {
		rc = exec_start(&s->server->executor, &c, &exec_ops, s, &s->exec);
		if (rc == -EBUSY)
			refuse(s, "cannot start the command", "too many run already");
		else if (rc < 0)
			refuse(s, "cannot start the command", err_text(rc));
	}
	command_done(&c);
}

/* Before there is a command. How much of the frame was taken. */
static size_t take_first(struct session *s, uint8_t type, struct span payload, size_t left)
{
	if (type != VMFRAME_START && type != VMFRAME_CLOCK_SYNC) {
		if (type == VMFRAME_STDIN || type == VMFRAME_RESIZE || type == VMFRAME_EOF)
			refuse(s, "cannot start the command", "no START came first");
		return payload.n;
	}
	if (s->channel.length > EXEC_SERVER_START_BYTES) {
		refuse(s, "START is too large", err_text(-E2BIG));
		return payload.n;
	}
	if (left > 0)
		return 0;
	if (type == VMFRAME_START)
		start(s, payload);
	else
		set_clock(s, payload);
	return payload.n;
}

static size_t take_resize(struct session *s, struct span payload, size_t left)
{
	struct vmframe_size size;

	if (s->channel.length != sizeof size)
		return payload.n;
	if (left > 0)
		return 0;
	if (vmframe_resize_read(payload, &size) == E_OK)
		exec_resize(s->exec, size);
	return payload.n;
}

static size_t take_input(struct session *s, struct span payload)
{
	size_t n = exec_input(s->exec, payload);

	if (n < payload.n)
		channel_pause(&s->channel);
	return n;
}

static ssize_t on_frame(struct channel *c, uint8_t type, struct span payload, size_t left)
{
	struct session *s = container_of(c, struct session, channel);

	if (s->over)
		return (ssize_t)payload.n;
	if (!s->exec)
		return (ssize_t)take_first(s, type, payload, left);
	if (type == VMFRAME_STDIN)
		return (ssize_t)take_input(s, payload);
	if (type == VMFRAME_RESIZE)
		return (ssize_t)take_resize(s, payload, left);
	if (type == VMFRAME_EOF)
		exec_end_input(s->exec);
	return (ssize_t)payload.n;
}

/* A peer that sends no more still gets the output. */
static void on_eof(struct channel *c)
{
	struct session *s = container_of(c, struct session, channel);

	if (s->exec)
		exec_end_input(s->exec);
	else if (!s->over)
		conn_finish(&c->conn);
}

static void on_closed(struct channel *c, int rc)
{
	struct session *s = container_of(c, struct session, channel);

	(void)rc;
	if (s->exec)
		exec_cancel(s->exec);
	if (s->refused)
		s->server->refusals--;
	else
		s->server->sessions--;
	free(s);
}

static const struct channel_ops channel_ops = {
    .frame = on_frame, .eof = on_eof, .drained = on_drained, .closed = on_closed};

/* --- the server ------------------------------------------------------------------------------- */

void exec_server_init(
    struct exec_server *s, struct loop *l, struct reaper *r, const struct exec_server_conf *conf)
{
	*s = (struct exec_server){.conf = *conf};
	executor_init(&s->executor, l, r, conf->max_sessions);
}

static struct session *open_session(struct exec_server *server, int fd)
{
	struct session *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->server = server;
	if (channel_init(&s->channel, server->executor.loop, fd, "exec session",
		EXEC_SERVER_START_BYTES + VMFRAME_HEAD_BYTES, &channel_ops) < 0) {
		free(s);
		return NULL;
	}
	conn_probe(&s->channel.conn, true);
	return s;
}

void exec_server_accept(struct exec_server *server, int fd)
{
	bool refused = server->sessions >= server->conf.max_sessions;
	struct session *s = NULL;

	if (!refused || server->refusals < EXEC_SERVER_REFUSALS)
		s = open_session(server, fd);
	if (!s) {
		close(fd);
		return;
	}
	s->refused = refused;
	if (!refused) {
		server->sessions++;
		return;
	}
	server->refusals++;
	refuse(s, "cannot start the command", "too many sessions are open");
}
