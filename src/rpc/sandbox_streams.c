#include "rpc/sandbox.h"

#include <errno.h>
#include <stdlib.h>

/* --- commands: Run and Exec ------------------------------------------------------------------- */

/* A command and the stream that its output goes to: each holds the other back. */
struct command_stream {
	struct rpc_server *server;
	struct rpc_token token;
	struct sandbox_command *command;
};

static void command_wrote(void *ctx, enum exec_stream stream, struct span bytes)
{
	struct command_stream *s = ctx;
	const struct rpc_output output = {
	    .stream = span_str(stream == EXEC_STDOUT ? "stdout" : "stderr"),
	    .data = bytes,
	};

	if (!rpc_stream_send(s->server, s->token, &output))
		sandbox_command_pause(s->command);
}

static void command_takes_input(void *ctx)
{
	struct command_stream *s = ctx;

	rpc_stream_resume_input(s->server, s->token);
}

static void command_ended(void *ctx, int rc, int32_t exit_code, const char *why)
{
	struct command_stream *s = ctx;
	const struct rpc_output last = {
	    .stream = SPAN_LIT("exit"), .exit_code = exit_code, .done = true};

	if (rc < 0) {
		rpc_error(s->server, s->token, rpc_sandbox_code(rc), why);
	} else {
		rpc_stream_send(s->server, s->token, &last);
		rpc_stream_end(s->server, s->token);
	}
	free(s);
}

static const struct sandbox_command_ops command_ops = {
    .output = command_wrote,
    .writable = command_takes_input,
    .ended = command_ended,
};

static size_t host_sent_input(void *ctx, struct span bytes)
{
	struct command_stream *s = ctx;

	return sandbox_command_input(s->command, bytes);
}

static void host_ended_input(void *ctx)
{
	struct command_stream *s = ctx;

	sandbox_command_end_input(s->command);
}

static void host_takes_output(void *ctx)
{
	struct command_stream *s = ctx;

	sandbox_command_resume(s->command);
}

static void host_has_gone(void *ctx)
{
	struct command_stream *s = ctx;

	sandbox_command_cancel(s->command);
	free(s);
}

static const struct rpc_stream_ops run_ops = {
    .writable = host_takes_output,
    .closed = host_has_gone,
};

static const struct rpc_stream_ops exec_ops = {
    .input_type = RPC_SANDBOX_EXEC_INPUT,
    .input = host_sent_input,
    .input_ended = host_ended_input,
    .writable = host_takes_output,
    .closed = host_has_gone,
};

static void start(struct rpc_call *call, struct sandboxes *sandboxes, struct span id,
    const struct command *c, const struct rpc_stream_ops *ops)
{
	struct command_stream *s = malloc(sizeof *s);
	char why[SANDBOX_WHY_BYTES] = "cannot run the command: no memory";
	int rc = -ENOMEM;

	if (s) {
		*s = (struct command_stream){.server = call->server, .token = call->token};
		rc = sandbox_run(
		    sandboxes, id, c, ops->input_type != 0, &command_ops, s, &s->command, why);
	}
	if (rc < 0) {
		rpc_error(call->server, call->token, rpc_sandbox_code(rc), why);
		free(s);
		return;
	}
	rpc_stream_begin(call->server, call->token, ops, s);
}

void rpc_sandbox_run(struct rpc_call *call, const void *message)
{
	const struct rpc_run_request *r = message;
	const struct rpc_command from = {r->cmd, r->env, r->working_dir, r->user};
	struct sandboxes *sandboxes = rpc_sandboxes(call);
	struct command c;

	if (!sandboxes)
		return;
	command_init(&c);
	c.tty = r->tty;
	c.timeout_secs = r->timeout_seconds;
	if (rpc_read_command(call, &from, &c))
		start(call, sandboxes, r->id, &c, &run_ops);
	command_done(&c);
}

/* Whether a terminal may be that large; else the host was told. */
static bool read_size(
    struct rpc_call *call, const struct rpc_terminal_size *from, struct vmframe_size *to)
{
	if (!from)
		return true;
	if (from->width > UINT16_MAX || from->height > UINT16_MAX) {
		rpc_error(call->server, call->token, RPC_CANNOT_DECODE,
		    "a terminal has at most 65535 columns and rows");
		return false;
	}
	*to = (struct vmframe_size){(uint16_t)from->width, (uint16_t)from->height};
	return true;
}

void rpc_sandbox_exec(struct rpc_call *call, const void *message)
{
	const struct rpc_exec_request *r = message;
	const struct rpc_command from = {r->cmd, r->env, r->working_dir, r->user};
	struct sandboxes *sandboxes = rpc_sandboxes(call);
	struct command c;

	if (!sandboxes)
		return;
	command_init(&c);
	c.tty = r->tty;
	c.timeout_secs = r->timeout_seconds;
	if (read_size(call, r->tty_size, &c.size) && rpc_read_command(call, &from, &c))
		start(call, sandboxes, r->id, &c, &exec_ops);
	command_done(&c);
}

/* --- events ----------------------------------------------------------------------------------- */

/* Until the host goes. */
struct event_stream {
	struct rpc_server *server;
	struct rpc_token token;
	struct subscriber subscriber;
};

static bool send_event(struct event_stream *s, const struct event *e)
{
	const struct pb_pair attribute = {span_str(e->key ? e->key : ""), span_str(e->value)};
	const struct rpc_sandbox_event message = {
	    .sandbox_id = span_str(e->id),
	    .action = span_str(e->action),
	    .timestamp = e->at_ns,
	    .attributes = {&attribute, e->key ? 1 : 0},
	};

	return rpc_stream_send(s->server, s->token, &message);
}

/* As many as the host takes. */
static void send_events(void *ctx)
{
	struct event_stream *s = ctx;
	struct event e;

	while (events_next(&s->subscriber, &e))
		if (!send_event(s, &e))
			return;
}

static void something_happened(struct subscriber *subscriber)
{
	send_events(subscriber->ctx);
}

static void listener_has_gone(void *ctx)
{
	struct event_stream *s = ctx;

	events_unsubscribe(&s->subscriber);
	free(s);
}

static const struct rpc_stream_ops events_ops = {
    .writable = send_events,
    .closed = listener_has_gone,
};

void rpc_sandbox_events(struct rpc_call *call, const void *message)
{
	const struct rpc_sandbox_events_request *r = message;
	struct sandboxes *sandboxes = rpc_sandboxes(call);
	struct event_stream *s;
	int rc = -ENOMEM;

	if (!sandboxes)
		return;
	s = calloc(1, sizeof *s);
	if (s)
		rc = sandbox_subscribe(
		    sandboxes, &s->subscriber, r->id, r->action, something_happened, s);
	if (rc < 0) {
		rpc_error(call->server, call->token, rpc_sandbox_code(rc),
		    rc == -EAGAIN          ? "cannot tell of events: too many listen already"
			: rc == -ESHUTDOWN ? "cannot tell of events: the agent is shutting down"
					   : "cannot tell of events: no memory");
		free(s);
		return;
	}
	s->server = call->server;
	s->token = call->token;
	rpc_stream_begin(call->server, call->token, &events_ops, s);
}
