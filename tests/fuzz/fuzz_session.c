/* What a host sends to an exec session. The first byte of an input says how the rest is cut at
 * first. The engine that runs commands is the target's own: its command reads and writes by fits
 * and starts, and ends with its input. */
#include "fuzz.h"

#include "kernel.h"
#include "session/exec_server.h"
#include "sys/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	TURNS_MAX = 100000,
	TURN_MS = 100,
	FULL_TURNS = 2,
	PIECES = 64,
	ANSWER_BYTES = 1 << 20,
	INPUT_BYTES = 1 << 20,
	CODE = 42
};

static struct loop loop;
static struct reaper reaper;
static struct exec_server server;

/* --- the command --------------------------------------------------------------------------------
 */

struct exec {
	const struct exec_ops *ops;
	void *ctx;
	bool paused, ended;
	unsigned full; /* turns until it takes more input */
	size_t output; /* bytes that are still to be written */
};

static struct exec command;
static bool runs;
static uint8_t input[INPUT_BYTES];
static size_t n_input;

void executor_init(struct executor *x, struct loop *l, struct reaper *r, unsigned max)
{
	*x = (struct executor){.loop = l, .reaper = r, .max = max};
}

int exec_start(struct executor *x, const struct command *c, const struct exec_ops *ops, void *ctx,
    struct exec **out)
{
	if (runs)
		abort();
	if (x->max == 0 || c->args.n == 0)
		return -EBUSY;
	runs = true;
	command = (struct exec){.ops = ops, .ctx = ctx, .output = c->args.n * 100};
	*out = &command;
	return 0;
}

size_t exec_input(struct exec *e, struct span bytes)
{
	size_t n = bytes.n < 100 ? bytes.n : 100;

	if (!runs || e->full)
		abort();
	if (e->ended)
		return bytes.n;
	e->full = n < bytes.n ? FULL_TURNS : 0;
	if (n > sizeof input - n_input)
		abort();
	memcpy(input + n_input, bytes.p, n);
	n_input += n;
	return n;
}

void exec_end_input(struct exec *e)
{
	if (!runs)
		abort();
	e->ended = true;
}

void exec_resize(struct exec *e, struct vmframe_size size)
{
	(void)e;
	(void)size;
	if (!runs)
		abort();
}

void exec_pause(struct exec *e)
{
	e->paused = true;
}

void exec_resume(struct exec *e)
{
	e->paused = false;
}

void exec_cancel(struct exec *e)
{
	(void)e;
	if (!runs)
		abort();
	runs = false;
}

static void write_output(struct exec *e)
{
	static const uint8_t bytes[EXEC_PIECE_BYTES];
	size_t n = e->output < sizeof bytes ? e->output : sizeof bytes;

	e->output -= n;
	e->ops->output(e->ctx, n % 2 ? EXEC_STDERR : EXEC_STDOUT, span_of(bytes, n));
}

static void turn_command(void)
{
	if (!runs)
		return;
	if (command.full && --command.full == 0)
		command.ops->writable(command.ctx);
	if (command.output && !command.paused)
		write_output(&command);
	if (runs && command.ended && command.output == 0) {
		runs = false;
		command.ops->ended(command.ctx, CODE);
	}
}

/* --- the host -----------------------------------------------------------------------------------
 */

static uint8_t answer[ANSWER_BYTES];
static size_t n_answer;
static bool closed;

static void turn(void)
{
	kernel_now_ns += TURN_MS * NS_PER_MS;
	if (loop_turn(&loop, 0) < 0)
		abort();
	turn_command();
}

static void turn_and_receive(int fd)
{
	ssize_t n;

	turn();
	n = recv(fd, answer + n_answer, sizeof answer - n_answer, MSG_DONTWAIT);
	if (n > 0)
		n_answer += (size_t)n;
	closed |= n == 0 || (n < 0 && errno != EAGAIN);
}

/* In pieces at first, then as a whole. */
static void feed(int fd, struct span in, size_t piece)
{
	for (unsigned turns = 0; in.n && !closed; turns++) {
		struct span now = span_first(in, turns < PIECES ? piece : in.n);
		ssize_t n = send(fd, now.p, now.n, MSG_NOSIGNAL);

		if (turns > TURNS_MAX)
			abort();
		if (n > 0)
			in = span_from(in, (size_t)n);
		turn_and_receive(fd);
	}
}

/* The input of a command is what its frames hold, up to the end that they say. */
static void check_input(struct span in)
{
	size_t at = 0, used;
	bool started = false;
	struct vmframe f;

	for (; vmframe_read(in, &f, &used) == E_OK && n_input > 0; in = span_from(in, used)) {
		size_t n = n_input - at < f.payload.n ? n_input - at : f.payload.n;

		if (!started || f.type != VMFRAME_STDIN) {
			started |= f.type == VMFRAME_START;
			continue;
		}
		if (memcmp(input + at, f.payload.p, n) != 0)
			abort();
		at += n;
		if (at == n_input)
			return;
	}
	/* the last frame may be cut: its head says what it is */
	if (at < n_input &&
	    (in.n < VMFRAME_HEAD_BYTES || in.p[0] != VMFRAME_STDIN ||
		memcmp(input + at, in.p + VMFRAME_HEAD_BYTES, n_input - at) != 0))
		abort();
}

/* Whether no frame is longer than any may be, which ends a session at once. */
static bool is_well_formed(struct span in)
{
	struct vmframe f;
	size_t used;
	enum err err;

	while ((err = vmframe_read(in, &f, &used)) == E_OK)
		in = span_from(in, used);
	return err == E_MORE;
}

/* Frames and nothing else; EXIT is the last. */
static void check_answer(bool whole)
{
	struct span in = span_of(answer, n_answer);
	struct vmframe f = {0};
	size_t used;

	while (vmframe_read(in, &f, &used) == E_OK) {
		if (f.type != VMFRAME_STDOUT && f.type != VMFRAME_STDERR && f.type != VMFRAME_EXIT)
			abort();
		in = span_from(in, used);
		if (f.type == VMFRAME_EXIT && in.n)
			abort();
	}
	if (whole && in.n)
		abort();
}

static void fuzz_exec(struct span in, size_t piece)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		return;
	n_answer = n_input = 0;
	closed = false;
	exec_server_accept(&server, pair[1]);
	feed(pair[0], in, piece);
	shutdown(pair[0], SHUT_WR);
	for (unsigned turns = 0; !closed; turns++) {
		if (turns > TURNS_MAX)
			abort();
		turn_and_receive(pair[0]);
	}
	close(pair[0]);
	for (unsigned turns = 0; server.sessions && turns < TURNS_MAX; turns++)
		turn();
	if (server.sessions || runs)
		abort();
	check_input(in);
	check_answer(is_well_formed(in));
}

static void start(void)
{
	const struct exec_server_conf conf = {.max_sessions = 1};

	if (loop_init(&loop) < 0)
		abort();
	reaper_init(&reaper, &loop);
	exec_server_init(&server, &loop, &reaper, &conf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (!loop.now_ns)
		start();
	if (n > 0 && n <= INPUT_BYTES)
		fuzz_exec(span_of(data + 1, n - 1), data[0] < 128 ? n : (size_t)data[0] - 127);
	return 0;
}
