#include "session/exec.h"

#include "base/container.h"
#include "session/launch.h"
#include "sys/pty.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* An end of a pipe or of the terminal. */
struct end {
	struct source source;
	struct exec *exec;
	bool last; /* of an output: only `last_bytes` more are read */
	int last_bytes;
};

enum { INPUT, OUTPUT, ERRORS, ENDS };

/* What the timer is armed for. */
enum phase {
	RUNNING,   /* the time that the command has, if any */
	HUNG_UP,   /* SIGKILL follows SIGHUP */
	KILLED,    /* to be given up if it does not die */
	LISTENING, /* it has ended; its output may go on for a while */
	ENDED
};

struct exec {
	struct executor *executor;
	const struct exec_ops *ops; /* NULL: nobody is interested any more */
	void *ctx;
	struct child child;
	struct end ends[ENDS];
	unsigned sources; /* of the ends; those included whose `done` is due */
	struct timer timer;
	struct task end;
	enum phase phase;
	int code;
	bool tty, paused;
	bool ending_input; /* once the terminal takes the end-of-file character */
	bool mid_line;     /* the last byte that the terminal got did not end a line */
};

void executor_init(struct executor *x, struct loop *l, struct reaper *r, unsigned max)
{
	*x = (struct executor){.loop = l, .reaper = r, .max = max};
}

static bool is_open(const struct end *end)
{
	return end->source.loop && end->source.fd >= 0;
}

/* --- the end ---------------------------------------------------------------------------------- */

/* The memory may go once the loop knows none of it any more. */
static void free_if_over(struct exec *e)
{
	if (e->phase != ENDED || e->sources > 0)
		return;
	e->executor->running--;
	free(e);
}

static void source_gone(struct source *s)
{
	struct exec *e = container_of(s, struct end, source)->exec;

	e->sources--;
	free_if_over(e);
}

static void close_all(struct exec *e)
{
	for (int i = 0; i < ENDS; i++)
		source_remove(&e->ends[i].source);
}

static void tell_end(struct task *t)
{
	struct exec *e = container_of(t, struct exec, end);

	if (e->ops)
		e->ops->ended(e->ctx, e->code);
	e->ops = NULL;
	close_all(e);
	e->phase = ENDED;
	free_if_over(e);
}

/* Puts the end off until nobody up the stack uses the exec. */
static void end_if_done(struct exec *e)
{
	if (e->phase != LISTENING || is_open(&e->ends[OUTPUT]) || is_open(&e->ends[ERRORS]))
		return;
	timer_at(&e->timer, 0);
	task_defer(e->executor->loop, &e->end);
}

/* --- output ----------------------------------------------------------------------------------- */

static void close_output(struct end *out)
{
	source_remove(&out->source);
	end_if_done(out->exec);
}

static void read_output(struct end *out)
{
	static uint8_t shared[EXEC_PIECE_BYTES];
	struct exec *e = out->exec;
	bool few = out->last && out->last_bytes < EXEC_PIECE_BYTES;
	ssize_t n = read(out->source.fd, shared, few ? (size_t)out->last_bytes : sizeof shared);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		out->last_bytes -= out->last ? (int)n : 0;
		e->ops->output(e->ctx, out == &e->ends[ERRORS] ? EXEC_STDERR : EXEC_STDOUT,
		    span_of(shared, (size_t)n));
	}
	/* A terminal that nobody has open any more says EIO. */
	if (n <= 0 || (out->last && out->last_bytes <= 0))
		close_output(out);
}

static int output_ready(struct source *s, uint32_t events)
{
	struct end *out = container_of(s, struct end, source);

	(void)events;
	if (!out->exec->paused)
		read_output(out);
	return 0;
}

/* What is in the pipe now is the command's own; more would be of those it left behind. */
static void listen_to_last(struct end *out)
{
	if (!is_open(out))
		return;
	out->last = true;
	if (ioctl(out->source.fd, FIONREAD, &out->last_bytes) < 0 || out->last_bytes <= 0)
		close_output(out);
}

static void watch_output(struct exec *e)
{
	/* A hang-up cannot be masked; edge-triggered, it is told once and not for ever. */
	uint32_t events = e->paused ? EPOLLET : EPOLLIN;

	source_want(&e->ends[OUTPUT].source, events);
	source_want(&e->ends[ERRORS].source, events);
}

void exec_pause(struct exec *e)
{
	e->paused = true;
	watch_output(e);
}

void exec_resume(struct exec *e)
{
	e->paused = false;
	watch_output(e);
}

/* --- input ------------------------------------------------------------------------------------ */

static void close_input(struct exec *e)
{
	source_remove(&e->ends[INPUT].source);
	e->ending_input = false;
}

/* How much was taken: all, when there is nobody to read it. */
static size_t write_input(struct exec *e, struct span bytes)
{
	ssize_t n = write(e->ends[INPUT].source.fd, bytes.p, bytes.n);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0) {
		close_input(e);
		return bytes.n;
	}
	if (n > 0)
		e->mid_line = bytes.p[n - 1] != '\n';
	return (size_t)n;
}

size_t exec_input(struct exec *e, struct span bytes)
{
	size_t at = 0;

	while (at < bytes.n && is_open(&e->ends[INPUT]) && !e->ending_input) {
		size_t n = write_input(e, span_from(bytes, at));

		at += n;
		if (n > 0)
			continue;
		source_want(&e->ends[INPUT].source, EPOLLOUT);
		return at;
	}
	return bytes.n;
}

/* In the middle of a line the first one ends what is read of it, and only the second the input. */
static void write_eof_character(struct exec *e)
{
	int c = pty_eof_character(e->ends[INPUT].source.fd);
	const uint8_t twice[2] = {(uint8_t)c, (uint8_t)c};
	size_t n = e->mid_line ? 2 : 1;

	if (c >= 0 && write_input(e, span_of(twice, n)) == 0)
		source_want(&e->ends[INPUT].source, EPOLLOUT);
	else
		close_input(e);
}

void exec_end_input(struct exec *e)
{
	if (!is_open(&e->ends[INPUT]))
		return;
	e->ending_input = e->tty;
	if (e->tty)
		write_eof_character(e);
	else
		close_input(e);
}

static int input_ready(struct source *s, uint32_t events)
{
	struct exec *e = container_of(s, struct end, source)->exec;

	source_want(s, 0);
	if (e->ending_input)
		write_eof_character(e);
	else if (events & (EPOLLERR | EPOLLHUP)) /* nobody reads it any more */
		close_input(e);
	if (e->ops && !e->ending_input)
		e->ops->writable(e->ctx);
	return 0;
}

void exec_resize(struct exec *e, struct vmframe_size size)
{
	if (e->tty && is_open(&e->ends[OUTPUT]))
		pty_resize(e->ends[OUTPUT].source.fd, size.width, size.height);
}

/* --- signals and time ------------------------------------------------------------------------- */

/* To the group, of which there is none before the child has begun its session. A terminal's
 * foreground may be another group of that session. */
static void signal_group(struct exec *e, int sig)
{
	if (e->child.pid == 0)
		return;
	if (e->tty && is_open(&e->ends[OUTPUT]))
		pty_signal(e->ends[OUTPUT].source.fd, sig);
	if (kill(-e->child.pid, sig) < 0)
		kill(e->child.pid, sig);
}

static void enter(struct exec *e, enum phase phase, uint64_t ms)
{
	e->phase = phase;
	timer_in(&e->timer, ms * NS_PER_MS);
}

static void kill_group(struct exec *e)
{
	signal_group(e, SIGKILL);
	enter(e, KILLED, EXEC_KILL_MS);
}

static void run_out(struct timer *t)
{
	struct exec *e = container_of(t, struct exec, timer);

	switch (e->phase) {
	case RUNNING:
		e->code = EXEC_TIMED_OUT;
		kill_group(e);
		break;
	case HUNG_UP: kill_group(e); break;
	case KILLED: /* stuck in the kernel; the reaper buries it when it comes out */
		child_forget(&e->child);
		close_all(e);
		e->phase = LISTENING;
		end_if_done(e);
		break;
	case LISTENING:
		listen_to_last(&e->ends[OUTPUT]);
		listen_to_last(&e->ends[ERRORS]);
		break;
	case ENDED: break;
	}
}

static int code_of(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void command_ended(struct child *c, int status)
{
	struct exec *e = container_of(c, struct exec, child);

	if (e->code != EXEC_TIMED_OUT)
		e->code = c->exec_rc ? c->exec_rc : code_of(status);
	if (e->code < 0)
		e->code = LAUNCH_NOT_EXECUTABLE;
	close_input(e);
	enter(e, LISTENING, EXEC_GRACE_MS);
	end_if_done(e);
}

void exec_cancel(struct exec *e)
{
	e->ops = NULL;
	signal_group(e, SIGHUP);
	signal_group(e, SIGCONT); /* a stopped process takes no SIGHUP */
	close_all(e);
	if (e->phase == RUNNING)
		enter(e, HUNG_UP, EXEC_HANGUP_MS);
	end_if_done(e);
}

/* --- the start -------------------------------------------------------------------------------- */

/* Both sides of what a command is connected by; -1 = closed, or the engine's now. */
struct wires {
	int ours[ENDS], theirs[ENDS];
};

static void close_wires(int fds[ENDS])
{
	for (int i = 0; i < ENDS; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

/* Non-blocking on our side alone: the two ends of a pipe are not one file. 0 or -errno. */
static int make_pipe(struct wires *w, int i)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	w->ours[i] = fds[i == INPUT];
	w->theirs[i] = fds[i != INPUT];
	return fcntl(w->ours[i], F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

static int make_terminal(struct wires *w, struct vmframe_size size)
{
	int rc = pty_open(&w->ours[OUTPUT], &w->theirs[OUTPUT]);

	if (rc < 0)
		return rc;
	pty_resize(w->ours[OUTPUT], size.width ? size.width : COMMAND_COLUMNS,
	    size.height ? size.height : COMMAND_ROWS);
	w->ours[INPUT] = fcntl(w->ours[OUTPUT], F_DUPFD_CLOEXEC, 0);
	return w->ours[INPUT] < 0 ? -errno : 0;
}

/* With a terminal, the errors are those of the launch only. */
static int make_wires(const struct command *c, struct wires *w)
{
	int rc;

	if (c->tty) {
		rc = make_terminal(w, c->size);
	} else {
		rc = make_pipe(w, INPUT);
		rc = rc < 0 ? rc : make_pipe(w, OUTPUT);
	}
	return rc < 0 ? rc : make_pipe(w, ERRORS);
}

static int add_ends(struct exec *e, struct wires *w)
{
	static source_fn *const fns[ENDS] = {input_ready, output_ready, output_ready};

	for (int i = 0; i < ENDS; i++) {
		struct end *end = &e->ends[i];
		int rc;

		*end = (struct end){.exec = e,
		    .source = {.fn = fns[i], .done = source_gone, .name = "exec", .fd = -1}};
		rc = source_add(
		    e->executor->loop, &end->source, w->ours[i], i == INPUT ? 0 : EPOLLIN);
		if (rc < 0)
			return rc;
		w->ours[i] = -1;
		e->sources++;
	}
	return 0;
}

static int launch_child(struct exec *e, const struct command *c, const struct wires *w)
{
	int in = c->tty ? w->theirs[OUTPUT] : w->theirs[INPUT];
	int errors = c->tty ? w->theirs[OUTPUT] : w->theirs[ERRORS];
	struct launch l = {c, w->theirs[ERRORS]};

	return child_launch(e->executor->reaper, &e->child,
	    &(struct child_spec){.in_fd = in,
		.out_fd = w->theirs[OUTPUT],
		.err_fd = errors,
		.become = launch,
		.become_arg = &l,
		.keep_fd = w->theirs[ERRORS]});
}

static int start(struct exec *e, const struct command *c)
{
	struct wires w = {{-1, -1, -1}, {-1, -1, -1}};
	int rc = make_wires(c, &w);

	if (rc == 0)
		rc = add_ends(e, &w);
	if (rc == 0)
		rc = launch_child(e, c, &w);
	close_wires(w.theirs);
	close_wires(w.ours);
	return rc;
}

int exec_start(struct executor *x, const struct command *c, const struct exec_ops *ops, void *ctx,
    struct exec **out)
{
	struct exec *e;
	int rc;

	if (x->running >= x->max)
		return -EBUSY;
	e = calloc(1, sizeof *e);
	if (!e)
		return -ENOMEM;
	*e = (struct exec){.executor = x,
	    .ops = ops,
	    .ctx = ctx,
	    .child = {.fn = command_ended},
	    .end = {.fn = tell_end},
	    .tty = c->tty};
	timer_init(&e->timer, x->loop, run_out);
	x->running++;
	rc = start(e, c);
	if (rc < 0) {
		close_all(e);
		e->phase = ENDED;
		free_if_over(e);
		return rc;
	}
	if (c->timeout_secs)
		timer_in(&e->timer, (uint64_t)c->timeout_secs * NS_PER_SEC);
	*out = e;
	return 0;
}
