/* run and exec: a command in a sandbox, as if it ran here. Its exit status becomes this program's.
 */
#include "codec/messages.h"
#include "commands.h"
#include "print.h"
#include "sys/fs.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

enum {
	INPUT_BYTES = 32 * 1024, /* read, and sent in one frame */
	ARENA_BYTES = 4096,      /* of an answer: it has no lists */
};

/* --- the terminal ----------------------------------------------------------------------------- */

/* What ends this program while the terminal is raw: it has to be as it was before. */
static const int ending[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};
enum { ENDING = sizeof ending / sizeof *ending };

static volatile sig_atomic_t ended_by;

static void on_end(int sig)
{
	ended_by = sig;
}

struct terminal {
	bool raw;
	struct termios before;
};

static void terminal_raw(struct terminal *t)
{
	struct sigaction action = {.sa_handler = on_end};
	struct termios raw;

	if (tcgetattr(STDIN_FILENO, &t->before) < 0)
		return;
	for (size_t i = 0; i < ENDING; i++)
		sigaction(ending[i], &action, NULL);
	raw = t->before;
	cfmakeraw(&raw);
	t->raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

/* A signal that came meanwhile does what it would have done. */
static void terminal_restore(struct terminal *t)
{
	if (!t->raw)
		return;
	tcsetattr(STDIN_FILENO, TCSADRAIN, &t->before);
	if (!ended_by)
		return;
	signal(ended_by, SIG_DFL);
	raise(ended_by);
}

/* Of the terminal that this program writes to, or reads from. */
static bool terminal_size(struct rpc_terminal_size *out)
{
	struct winsize size;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 &&
	    ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0)
		return false;
	*out = (struct rpc_terminal_size){size.ws_col, size.ws_row};
	return true;
}

/* --- what comes --------------------------------------------------------------------------------
 */

struct session {
	struct client *client;
	const struct settings *settings;
	uint32_t answer;  /* type of the frames that come */
	struct queue out; /* frames that wait to be sent */
	bool takes_input; /* standard input is read */
	bool done;        /* the command has ended, with */
	int32_t exit_code;
};

/* Bytes go out as they are, as those of a command that ran here would. */
static int print_output(const struct session *s, const struct rpc_output *o)
{
	int fd = span_eq_str(o->stream, "stderr") ? STDERR_FILENO : STDOUT_FILENO;
	int rc;

	if (s->settings->json) {
		rc = print_json(stdout, &rpc_output_table, o);
		fflush(stdout);
		return rc;
	}
	rc = fs_write_all(fd, o->data);
	return rc < 0
	    ? fail(EXIT_LOCAL, "%s: cannot write what it says: %s", s->client->doing, err_text(rc))
	    : EXIT_OK;
}

/* Takes all answers that are there. */
static int take_answers(struct session *s)
{
	uint8_t memory[ARENA_BYTES];
	struct frame answer;
	bool whole = true;
	int rc = 0;

	while (rc == 0 && !s->done) {
		struct pb_arena arena = pb_arena_of(memory, sizeof memory);
		struct rpc_output output;

		rc = client_take(s->client, &answer, &whole);
		if (rc || !whole)
			return rc;
		rc =
		    command_read(s->client, &answer, s->answer, &rpc_output_table, &arena, &output);
		if (rc == 0)
			rc = print_output(s, &output);
		if (rc == 0 && output.done) {
			s->done = true;
			s->exit_code = output.exit_code;
		}
	}
	return rc;
}

/* --- what goes -------------------------------------------------------------------------------- */

/* Queues a frame of input; an empty one is its end. */
static int put_input(struct session *s, struct span bytes)
{
	uint8_t head[FRAME_HEAD_BYTES + CLIENT_TRACE_BYTES];
	struct wr w = wr_of(head, sizeof head);

	frame_head_write(&w, RPC_SANDBOX_EXEC_INPUT, span_str(s->client->trace), bytes.n);
	if (queue_put(&s->out, wr_span(&w)) < 0 || queue_put(&s->out, bytes) < 0)
		return fail(EXIT_LOCAL, "%s: no memory", s->client->doing);
	return 0;
}

/* An input that cannot be read is at its end. */
static int read_input(struct session *s)
{
	uint8_t buf[INPUT_BYTES];
	ssize_t n = read(STDIN_FILENO, buf, sizeof buf);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n <= 0)
		s->takes_input = false;
	return put_input(s, span_of(buf, n > 0 ? (size_t)n : 0));
}

/* The agent may have closed: its last answers tell why. */
static void send_input(struct session *s)
{
	struct span waits = queue_span(&s->out);
	ssize_t n = send(s->client->fd, waits.p, waits.n, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	queue_take(&s->out, n < 0 ? waits.n : (size_t)n);
	if (n < 0)
		s->takes_input = false;
}

/* --- the session ------------------------------------------------------------------------------ */

/* Input is read when the last of it has left: a command that reads slowly slows its source. */
static int turn(struct session *s)
{
	bool sends = s->out.n > 0;
	struct pollfd fds[] = {
	    {.fd = s->client->fd, .events = (short)(POLLIN | (sends ? POLLOUT : 0))},
	    {.fd = s->takes_input && !sends ? STDIN_FILENO : -1, .events = POLLIN},
	};
	int rc = 0;

	if (poll(fds, 2, -1) < 0)
		return errno == EINTR
		    ? 0
		    : fail(EXIT_LOCAL, "%s: %s", s->client->doing, err_text(-errno));
	if (fds[0].revents & POLLOUT)
		send_input(s);
	if (fds[1].revents)
		rc = read_input(s);
	if (rc == 0 && fds[0].revents & (POLLIN | POLLHUP | POLLERR))
		rc = client_read(s->client);
	return rc ? rc : take_answers(s);
}

static int go_on(struct session *s)
{
	struct terminal terminal = {0};
	int rc = 0;

	if (s->takes_input && s->settings->tty)
		terminal_raw(&terminal);
	while (rc == 0 && !s->done && !ended_by)
		rc = turn(s);
	terminal_restore(&terminal);
	return rc;
}

static int follow(struct client *c, const struct settings *s, uint32_t answer, bool exec)
{
	struct session session = {
	    .client = c,
	    .settings = s,
	    .answer = answer,
	    .takes_input = exec && s->interactive,
	};
	int rc = 0;

	queue_init(&session.out, 4 * INPUT_BYTES, NULL);
	if (exec && !s->interactive)
		rc = put_input(&session, span_of(NULL, 0));
	if (rc == 0)
		rc = go_on(&session);
	queue_done(&session.out);
	return rc ? EXIT_NOT_RUN : session.exit_code & 0xff;
}

/* --- the commands ----------------------------------------------------------------------------- */

static uint32_t limit_secs(const struct settings *s)
{
	return (uint32_t)(s->limit_ms / 1000);
}

static int run(struct client *c, const struct settings *s, char **args, struct pb_arena *arena)
{
	struct pb_pair env[TEXTS_MAX];
	const struct rpc_run_request request = {
	    .id = span_str(args[0]),
	    .cmd = command_words(args + 1, arena),
	    .env = command_env(s, env),
	    .working_dir = span_str(s->workdir ? s->workdir : ""),
	    .user = span_str(s->user ? s->user : ""),
	    .tty = s->tty,
	    .timeout_seconds = limit_secs(s),
	};

	if (command_begin(c, RPC_SANDBOX_RUN_REQUEST, &request))
		return EXIT_NOT_RUN;
	return follow(c, s, RPC_RUN_OUTPUT, false);
}

int run_run(struct client *c, const struct settings *s, char **args)
{
	return command_with_arena(run, c, s, args);
}

static int exec(struct client *c, const struct settings *s, char **args, struct pb_arena *arena)
{
	struct pb_pair env[TEXTS_MAX];
	struct rpc_terminal_size size;
	const struct rpc_exec_request request = {
	    .id = span_str(args[0]),
	    .cmd = command_words(args + 1, arena),
	    .env = command_env(s, env),
	    .working_dir = span_str(s->workdir ? s->workdir : ""),
	    .user = span_str(s->user ? s->user : ""),
	    .tty = s->tty,
	    .tty_size = s->tty && terminal_size(&size) ? &size : NULL,
	    .timeout_seconds = limit_secs(s),
	};

	if (s->tty && s->interactive && !isatty(STDIN_FILENO))
		return fail(EXIT_USAGE,
		    "exec: -it needs a terminal as standard input; leave -t out for a pipe or "
		    "file");
	if (command_begin(c, RPC_SANDBOX_EXEC_REQUEST, &request))
		return EXIT_NOT_RUN;
	return follow(c, s, RPC_EXEC_OUTPUT, true);
}

int run_exec(struct client *c, const struct settings *s, char **args)
{
	return command_with_arena(exec, c, s, args);
}
