/* load_sandbox PATH SANDBOXES COMMANDS - makes so many sandboxes at once, runs so many commands in
 * each, one in every sandbox at a time, and removes them all. Prints `ID EVENT NS` for each, NS
 * being CLOCK_REALTIME: "create" and "ready", "run" and "byte". */
#include "bench.h"
#include "codec/frame.h"
#include "codec/messages.h"
#include "sys/clock.h"

#include <poll.h>
#include <unistd.h>

enum { MAX_SANDBOXES = 256, MAX_COMMANDS = 1000, BUFFER_BYTES = 65536, PATIENCE_MS = 30000 };

struct peer {
	int fd;
	uint8_t buf[BUFFER_BYTES];
	size_t n;
};

struct box {
	char id[32];
	struct peer peer;
	bool has_said;
};

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "load_sandbox: %s\n", what);
	exit(EXIT_FAILURE);
}

static void note(struct span id, const char *event, int64_t ns)
{
	printf("%.*s %s %lld\n", (int)id.n, (const char *)id.p, event, (long long)ns);
}

/* --- frames ----------------------------------------------------------------------------------- */

static void ask(struct peer *p, uint32_t type, const struct pb_table *t, const void *message)
{
	uint8_t buf[512];
	struct wr w = wr_of(buf, sizeof buf);

	frame_head_write(&w, type, span_of(NULL, 0), pb_size(t, message));
	pb_write(&w, t, message);
	must("write", w.err == E_OK && write(p->fd, w.p, w.n) == (ssize_t)w.n ? 0 : -1);
}

/* Whether there is a frame; it lives until drop(). */
static bool has_frame(struct peer *p, struct frame *f, size_t *used)
{
	return frame_read(span_of(p->buf, p->n), BUFFER_BYTES, f, used) == E_OK;
}

static void drop(struct peer *p, size_t used)
{
	p->n -= used;
	memmove(p->buf, p->buf + used, p->n);
}

static void take_bytes(struct peer *p)
{
	ssize_t got = read(p->fd, p->buf + p->n, sizeof p->buf - p->n);

	if (got <= 0)
		fail("the agent closed the connection");
	p->n += (size_t)got;
}

/* Waits for the frame, which has to be of that type. */
static void await(struct peer *p, uint32_t type)
{
	struct pollfd source = {.fd = p->fd, .events = POLLIN};
	struct frame f;
	size_t used;

	while (!has_frame(p, &f, &used)) {
		if (poll(&source, 1, PATIENCE_MS) <= 0)
			fail("no answer");
		take_bytes(p);
	}
	if (f.type != type)
		fail("not the answer that was expected");
	drop(p, used);
}

/* --- what is asked ---------------------------------------------------------------------------- */

static void create(struct box *boxes, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const struct rpc_create_sandbox_request request = {.id = span_str(boxes[i].id)};

		note(request.id, "create", clock_real_ns());
		ask(&boxes[i].peer, RPC_SANDBOX_CREATE_REQUEST, &rpc_create_sandbox_request_table,
		    &request);
	}
	for (unsigned i = 0; i < n; i++)
		await(&boxes[i].peer, RPC_CREATE_SANDBOX_RESPONSE);
}

/* The agent says itself when that was. */
static void await_ready(struct peer *events, unsigned n)
{
	uint8_t memory[1024];
	struct pollfd source = {.fd = events->fd, .events = POLLIN};

	while (n > 0) {
		struct pb_arena arena = pb_arena_of(memory, sizeof memory);
		struct rpc_sandbox_event event;
		struct frame f;
		size_t used;

		if (!has_frame(events, &f, &used)) {
			if (poll(&source, 1, PATIENCE_MS) <= 0)
				fail("a sandbox does not become ready");
			take_bytes(events);
			continue;
		}
		if (pb_read(f.payload, &rpc_sandbox_event_table, &arena, &event) != E_OK ||
		    span_eq_str(event.action, "failed"))
			fail("a sandbox failed");
		if (span_eq_str(event.action, "ready")) {
			note(event.sandbox_id, "ready", event.timestamp);
			n--;
		}
		drop(events, used);
	}
}

static bool is_last(const struct frame *f)
{
	uint8_t memory[256];
	struct pb_arena arena = pb_arena_of(memory, sizeof memory);
	struct rpc_output output;

	if (f->type != RPC_RUN_OUTPUT ||
	    pb_read(f->payload, &rpc_output_table, &arena, &output) != E_OK)
		fail("a command failed");
	return output.done;
}

/* Whether the command has ended. */
static bool take_output(struct box *b)
{
	bool ended = false;
	struct frame f;
	size_t used;

	take_bytes(&b->peer);
	if (!b->has_said)
		note(span_str(b->id), "byte", clock_real_ns());
	b->has_said = true;
	while (has_frame(&b->peer, &f, &used)) {
		ended |= is_last(&f);
		drop(&b->peer, used);
	}
	return ended;
}

static void run(struct box *boxes, unsigned n)
{
	static const struct span command[] = {SPAN_LIT("echo")};
	struct pollfd sources[MAX_SANDBOXES];
	unsigned left = n;

	for (unsigned i = 0; i < n; i++) {
		const struct rpc_run_request request = {
		    .id = span_str(boxes[i].id), .cmd = PB_LIST(command)};

		boxes[i].has_said = false;
		sources[i] = (struct pollfd){.fd = boxes[i].peer.fd, .events = POLLIN};
		note(request.id, "run", clock_real_ns());
		ask(&boxes[i].peer, RPC_SANDBOX_RUN_REQUEST, &rpc_run_request_table, &request);
	}
	while (left > 0) {
		if (poll(sources, n, PATIENCE_MS) <= 0)
			fail("a command does not end");
		for (unsigned i = 0; i < n; i++)
			if (sources[i].revents)
				left -= take_output(&boxes[i]);
	}
}

static void remove_all(struct box *boxes, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const struct rpc_remove_sandbox_request request = {
		    .id = span_str(boxes[i].id), .force = true};

		ask(&boxes[i].peer, RPC_SANDBOX_REMOVE_REQUEST, &rpc_remove_sandbox_request_table,
		    &request);
	}
	for (unsigned i = 0; i < n; i++)
		await(&boxes[i].peer, RPC_SANDBOX_REMOVE_RESPONSE);
}

int main(int argc, char **argv)
{
	static struct box boxes[MAX_SANDBOXES];
	static struct peer events;
	const struct rpc_sandbox_events_request all = {.id = SPAN_LIT("")};
	unsigned n, commands;

	need_args(argc, argv, 3, "PATH SANDBOXES COMMANDS");
	n = number_arg(argv, 2, MAX_SANDBOXES);
	commands = number_arg(argv, 3, MAX_COMMANDS);
	events.fd = unix_connect(argv[1]);
	ask(&events, RPC_SANDBOX_EVENTS_REQUEST, &rpc_sandbox_events_request_table, &all);
	for (unsigned i = 0; i < n; i++) {
		snprintf(boxes[i].id, sizeof boxes[i].id, "box%u", i);
		boxes[i].peer.fd = unix_connect(argv[1]);
	}
	create(boxes, n);
	await_ready(&events, n);
	for (unsigned i = 0; i < commands; i++)
		run(boxes, n);
	remove_all(boxes, n);
}
