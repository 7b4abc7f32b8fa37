#include "session/exec_server.h"

#include "session/launch.h"
#include "session_case.h"

#include <errno.h>
#include <sys/socket.h>

enum { SESSIONS = 2, ANSWER_BYTES = 8 << 20 };

static struct exec_server server;

static void server_start(void)
{
	const struct exec_server_conf conf = {.max_sessions = SESSIONS, .sets_clock = true};

	case_start();
	exec_server_init(&server, &loop, &reaper, &conf);
}

static bool is_idle(void *ctx)
{
	(void)ctx;
	return server.sessions == 0 && server.refusals == 0 && server.executor.running == 0;
}

static void server_end(void)
{
	case_turn_until(is_idle, NULL);
	case_end();
}

/* --- the peer --------------------------------------------------------------------------------- */

struct peer {
	int fd;
	uint8_t *in; /* what has come */
	size_t n;
	bool eof;
	/* out of the frames */
	char out[4096], err[4096];
	size_t n_out, out_bytes; /* the second counts what did not fit in `out`, too */
	size_t n_err;
	unsigned exits;
	int32_t code;
};

static struct peer peer_new(void)
{
	struct peer p = {.in = malloc(ANSWER_BYTES)};
	int pair[2];

	ck_assert_ptr_nonnull(p.in);
	ck_assert_int_eq(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	p.fd = pair[0];
	exec_server_accept(&server, pair[1]);
	return p;
}

static void peer_free(struct peer *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
	free(p->in);
}

static void receive(struct peer *p)
{
	ssize_t n;

	while ((n = read(p->fd, p->in + p->n, ANSWER_BYTES - p->n)) > 0)
		p->n += (size_t)n;
	p->eof |= n == 0 || (n < 0 && errno != EAGAIN);
}

/* All of it, however long the server takes. */
static void send_bytes(struct peer *p, struct span s)
{
	while (s.n) {
		ssize_t n = send(p->fd, s.p, s.n, MSG_NOSIGNAL);

		if (n > 0)
			s = span_from(s, (size_t)n);
		else if (errno != EAGAIN)
			ck_abort_msg("send: %s", strerror(errno));
		ck_assert_int_eq(loop_turn(&loop, 1), 0);
		receive(p);
	}
}

static void send_frame(struct peer *p, enum vmframe_type type, struct span payload)
{
	uint8_t head[VMFRAME_HEAD_BYTES];
	struct wr w = wr_of(head, sizeof head);

	vmframe_head_write(&w, (uint8_t)type, payload.n);
	send_bytes(p, wr_span(&w));
	send_bytes(p, payload);
}

static void take_frame(struct peer *p, const struct vmframe *f)
{
	ck_assert_uint_eq(p->exits, 0); /* EXIT is the last */
	if (f->type == VMFRAME_STDOUT) {
		size_t n = sizeof p->out - 1 - p->n_out;

		n = n < f->payload.n ? n : f->payload.n;
		memcpy(p->out + p->n_out, f->payload.p, n);
		p->n_out += n;
		p->out_bytes += f->payload.n;
	} else if (f->type == VMFRAME_STDERR) {
		ck_assert_uint_lt(p->n_err + f->payload.n, sizeof p->err);
		memcpy(p->err + p->n_err, f->payload.p, f->payload.n);
		p->n_err += f->payload.n;
	} else {
		ck_assert_uint_eq(f->type, VMFRAME_EXIT);
		ck_assert_int_eq(vmframe_exit_read(f->payload, &p->code), E_OK);
		p->exits++;
	}
}

static void take_frames(struct peer *p)
{
	struct span in = span_of(p->in, p->n);
	struct vmframe f;
	size_t used;

	while (vmframe_read(in, &f, &used) == E_OK) {
		take_frame(p, &f);
		in = span_from(in, used);
	}
	memmove(p->in, in.p, in.n);
	p->n = in.n;
}

/* Reads to the end of the stream. */
static void read_whole(struct peer *p)
{
	for (uint64_t end = clock_mono_ns() + 20 * NS_PER_SEC; !p->eof; receive(p)) {
		ck_assert_uint_lt(clock_mono_ns(), end);
		ck_assert_int_eq(loop_turn(&loop, 20), 0);
		take_frames(p);
	}
	take_frames(p);
}

static void wait_for_output(struct peer *p)
{
	for (uint64_t end = clock_mono_ns() + 20 * NS_PER_SEC; p->out_bytes == 0;) {
		ck_assert_uint_lt(clock_mono_ns(), end);
		ck_assert_int_eq(loop_turn(&loop, 20), 0);
		receive(p);
		take_frames(p);
	}
}

static void check_end(struct peer *p, int32_t code, const char *out, const char *err)
{
	read_whole(p);
	ck_assert_uint_eq(p->n, 0);
	ck_assert_str_eq(p->err, err);
	ck_assert_str_eq(p->out, out);
	ck_assert_uint_eq(p->exits, 1);
	ck_assert_int_eq(p->code, code);
	peer_free(p);
}

static void send_start(struct peer *p, const char *json)
{
	send_frame(p, VMFRAME_START, span_str(json));
}

/* --- START ------------------------------------------------------------------------------------ */

static void check_start(const char *json, int32_t code, const char *out, const char *err)
{
	struct peer p = peer_new();

	send_start(&p, json);
	send_frame(&p, VMFRAME_EOF, span_of(NULL, 0));
	check_end(&p, code, out, err);
}

#define SH(script) "\"cmd\":[\"sh\",\"-c\",\"" script "\"]"

START_TEST(runs_what_start_says)
{
	server_start();
	check_start("{" SH("echo o; echo e >&2; exit 3") "}", 3, "o\n", "e\n");
	check_start("{" SH("echo $A") ",\"env\":{\"A\":\"b c\"}}", 0, "b c\n", "");
	check_start("{" SH("pwd") ",\"working_dir\":\"/usr\"}", 0, "/usr\n", "");
	check_start("{" SH("id -u") ",\"user\":\"0:0\"}", 0, "0\n", "");
	check_start("{" SH("stty size") ",\"tty\":true}", 0, "24 80\r\n", "");
	check_start("{" SH("stty size") ",\"tty\":true,\"tty_width\":99,\"tty_height\":11}", 0,
	    "11 99\r\n", "");
	check_start("{" SH("kill -KILL $$") "}", 137, "", "");
	check_start("{" SH("sleep 60") ",\"timeout_seconds\":1}", 124, "", "");
	check_start(
	    "{\"cmd\":[\"nosuch\"]}", 127, "", "cannot run nosuch: No such file or directory\n");
	server_end();
}
END_TEST

START_TEST(says_what_is_wrong_with_start)
{
	server_start();
	check_start("", LAUNCH_NOT_EXECUTABLE, "", "START is not understood: cut short\n");
	check_start(
	    "{\"cmd\":1}", LAUNCH_NOT_EXECUTABLE, "", "START is not understood: malformed\n");
	check_start(
	    "{}", LAUNCH_NOT_FOUND, "", "cannot run an empty command: No such file or directory\n");
	server_end();
}
END_TEST

START_TEST(wants_start_first)
{
	static const enum vmframe_type types[] = {VMFRAME_STDIN, VMFRAME_RESIZE, VMFRAME_EOF};

	server_start();
	for (size_t i = 0; i < 3; i++) {
		struct peer p = peer_new();

		send_frame(&p, types[i], span_str("x"));
		check_end(&p, LAUNCH_NOT_EXECUTABLE, "",
		    "cannot start the command: no START came first\n");
	}
	server_end();
}
END_TEST

START_TEST(start_has_a_limit)
{
	static uint8_t json[EXEC_SERVER_START_BYTES + 1];
	struct peer p;

	server_start();
	memset(json, ' ', sizeof json);
	memcpy(json, "{\"cmd\":[\"true\"]}", 16);
	p = peer_new();
	send_frame(&p, VMFRAME_START, span_of(json, sizeof json - 1));
	check_end(&p, 0, "", "");
	p = peer_new();
	send_frame(&p, VMFRAME_START, span_of(json, sizeof json));
	check_end(&p, LAUNCH_NOT_EXECUTABLE, "", "START is too large: Argument list too long\n");
	server_end();
}
END_TEST

START_TEST(takes_frames_byte_by_byte)
{
	uint8_t bytes[256];
	struct wr w = wr_of(bytes, sizeof bytes);
	struct peer p;

	server_start();
	vmframe_write(&w, 0x7f, span_str("nobody knows this"));
	vmframe_write(
	    &w, VMFRAME_START, span_str("{" SH("read a; stty size; cat") ",\"tty\":true}"));
	vmframe_write(&w, 0x00, span_of(NULL, 0));
	vmframe_resize_write(&w, (struct vmframe_size){70, 20});
	vmframe_write(&w, VMFRAME_RESIZE, span_str("no size"));
	vmframe_write(&w, VMFRAME_START, span_str("{}"));
	vmframe_write(&w, VMFRAME_STDIN, span_str("a\nbc\n"));
	vmframe_write(&w, VMFRAME_EOF, span_of(NULL, 0));
	ck_assert_int_eq(w.err, E_OK);
	p = peer_new();
	for (size_t i = 0; i < w.n; i++)
		send_bytes(&p, span_of(bytes + i, 1));
	read_whole(&p);
	ck_assert_msg(strstr(p.out, "20 70\r\n"), "%s|%s", p.out, p.err);
	ck_assert_ptr_nonnull(strstr(p.out, "bc\r\n"));
	ck_assert_int_eq(p.code, 0);
	peer_free(&p);
	server_end();
}
END_TEST

/* --- CLOCK_SYNC ------------------------------------------------------------------------------- */

static void check_clock(struct vmframe_clock clock, int32_t code)
{
	uint8_t frame[32];
	struct wr w = wr_of(frame, sizeof frame);
	struct peer p = peer_new();

	vmframe_clock_write(&w, clock);
	send_bytes(&p, wr_span(&w));
	check_end(&p, code, "", "");
}

START_TEST(answers_clock_sync)
{
	struct peer p;

	server_start();
	fault_arm("clock_settime", 1, EPERM, true);
	check_clock((struct vmframe_clock){1700000000, 5}, -1);
	ck_assert(fault_disarm());
	fault_arm("clock_settime", 1, EPERM, true);
	check_clock((struct vmframe_clock){-1, 0}, -1);
	check_clock((struct vmframe_clock){INT64_MAX, 0}, -1);
	check_clock((struct vmframe_clock){1, 1000000000}, -1);
	server.conf.sets_clock = false;
	check_clock((struct vmframe_clock){1700000000, 5}, -1);
	ck_assert(!fault_disarm()); /* none of these touched the clock */
	p = peer_new();
	send_frame(&p, VMFRAME_CLOCK_SYNC, span_str("short"));
	check_end(&p, -1, "", "");
	server_end();
}
END_TEST

/* --- bytes ------------------------------------------------------------------------------------ */

START_TEST(is_binary_safe)
{
	static uint8_t data[3 << 20];
	struct peer p;

	server_start();
	p = peer_new();
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 7 + i / 256);
	send_start(&p, "{\"cmd\":[\"sha256sum\"]}");
	send_frame(&p, VMFRAME_STDIN, span_of(data, sizeof data));
	send_frame(&p, VMFRAME_EOF, span_of(NULL, 0));
	read_whole(&p);
	ck_assert_int_eq(p.code, 0);
	ck_assert_uint_eq(p.n_out, 68);
	peer_free(&p);
	p = peer_new();
	send_start(&p, "{\"cmd\":[\"cat\"]}");
	send_frame(&p, VMFRAME_STDIN, span_of(data, sizeof data));
	send_frame(&p, VMFRAME_EOF, span_of(NULL, 0));
	read_whole(&p);
	ck_assert_uint_eq(p.out_bytes, sizeof data);
	ck_assert_mem_eq(p.out, data, p.n_out);
	peer_free(&p);
	server_end();
}
END_TEST

START_TEST(the_end_of_the_stream_is_the_end_of_the_input)
{
	struct peer p;

	server_start();
	p = peer_new();
	send_start(&p, "{\"cmd\":[\"cat\"]}");
	send_frame(&p, VMFRAME_STDIN, span_str("last"));
	shutdown(p.fd, SHUT_WR);
	check_end(&p, 0, "last", "");
	server_end();
}
END_TEST

START_TEST(a_command_that_does_not_read_stops_its_peer)
{
	static uint8_t zeros[65536];
	size_t sent = 0;
	uint8_t head[VMFRAME_HEAD_BYTES];
	struct wr w = wr_of(head, sizeof head);
	struct peer p;

	server_start();
	p = peer_new();
	send_start(&p, "{\"cmd\":[\"sleep\",\"60\"]}");
	vmframe_head_write(&w, VMFRAME_STDIN, VMFRAME_PAYLOAD_MAX);
	send_bytes(&p, wr_span(&w));
	for (int idle = 0; idle < 50;) {
		ssize_t n = send(p.fd, zeros, sizeof zeros, MSG_NOSIGNAL);

		sent += n > 0 ? (size_t)n : 0;
		idle += n < 0;
		ck_assert_int_eq(loop_turn(&loop, 1), 0);
	}
	ck_assert_uint_lt(sent, 2 << 20); /* what sockets and the pipe hold */
	peer_free(&p);
	server_end();
}
END_TEST

START_TEST(a_peer_that_does_not_read_stops_its_command)
{
	struct peer p, other;

	server_start();
	p = peer_new();
	send_start(&p, "{" SH("yes; exit 1") "}");
	for (int i = 0; i < 100; i++)
		ck_assert_int_eq(loop_turn(&loop, 2), 0);
	other = peer_new(); /* which is not held up */
	send_start(&other, "{" SH("echo fine") "}");
	check_end(&other, 0, "fine\n", "");
	for (int i = 0; i < 100; i++) {
		receive(&p);
		ck_assert_int_eq(loop_turn(&loop, 2), 0);
		take_frames(&p);
	}
	ck_assert_uint_gt(p.out_bytes, 1 << 20); /* it goes on */
	ck_assert_uint_eq(p.exits, 0);
	peer_free(&p);
	server_end();
}
END_TEST

/* --- ends ------------------------------------------------------------------------------------- */

START_TEST(ends_the_command_of_a_peer_that_is_gone)
{
	struct peer p;

	server_start();
	for (int paused = 0; paused < 2; paused++) {
		p = peer_new();
		send_start(&p, paused ? "{\"cmd\":[\"yes\"]}" : "{" SH("echo on; sleep 60") "}");
		wait_for_output(&p);
		peer_free(&p);
		case_turn_until(is_idle, NULL);
	}
	p = peer_new();
	send_start(&p, "{\"cmd\":[\"sleep\",\"60\"]}");
	send_frame(&p, VMFRAME_STDIN, span_of(p.in, 300000)); /* it does not read */
	peer_free(&p);
	server_end();
}
END_TEST

START_TEST(a_frame_that_is_too_large_ends_the_connection)
{
	static const uint8_t head[] = {VMFRAME_STDIN, 1, 0, 0, 1};
	struct peer p;

	server_start();
	p = peer_new();
	send_bytes(&p, span_of(head, sizeof head));
	read_whole(&p);
	ck_assert_uint_eq(p.exits, 0);
	peer_free(&p);
	p = peer_new();
	send_start(&p, "{\"cmd\":[\"sleep\",\"60\"]}");
	send_bytes(&p, span_of(head, sizeof head));
	read_whole(&p);
	ck_assert_uint_eq(p.exits, 0);
	peer_free(&p);
	server_end();
}
END_TEST

START_TEST(a_peer_may_leave_without_a_word)
{
	struct peer p;

	server_start();
	p = peer_new();
	peer_free(&p);
	case_turn_until(is_idle, NULL);
	p = peer_new();
	send_bytes(&p, span_of("\x01\x10", 2));
	shutdown(p.fd, SHUT_WR);
	read_whole(&p);
	ck_assert_uint_eq(p.exits, 0);
	peer_free(&p);
	server_end();
}
END_TEST

START_TEST(refuses_one_session_too_many)
{
	struct peer open[SESSIONS], refused[EXEC_SERVER_REFUSALS], silent;

	server_start();
	for (int i = 0; i < SESSIONS; i++)
		open[i] = peer_new();
	for (int i = 0; i < EXEC_SERVER_REFUSALS; i++)
		refused[i] = peer_new();
	silent = peer_new(); /* nor are there more refusals than that */
	read_whole(&silent);
	ck_assert_uint_eq(silent.exits, 0);
	peer_free(&silent);
	for (int i = 0; i < EXEC_SERVER_REFUSALS; i++)
		check_end(&refused[i], LAUNCH_NOT_EXECUTABLE, "",
		    "cannot start the command: too many sessions are open\n");
	for (int i = 0; i < SESSIONS; i++) {
		send_start(&open[i], "{\"cmd\":[\"true\"]}");
		check_end(&open[i], 0, "", "");
	}
	server_end();
}
END_TEST

START_TEST(refuses_one_command_too_many)
{
	struct peer p;

	server_start();
	p = peer_new();
	send_start(&p, "{" SH("trap '' HUP; echo on; while :; do sleep 0.1; done") "}");
	wait_for_output(&p);
	peer_free(&p);
	server.executor.max = 1; /* which is that of the peer that has gone */
	ck_assert_int_eq(loop_turn(&loop, 5), 0);
	p = peer_new();
	send_start(&p, "{\"cmd\":[\"true\"]}");
	check_end(
	    &p, LAUNCH_NOT_EXECUTABLE, "", "cannot start the command: too many run already\n");
	server_end();
}
END_TEST

/* As on vsock, where nothing tells of it but a send. */
START_TEST(asks_whether_the_peer_is_still_there)
{
	struct peer p;

	server_start();
	p = peer_new();
	send_start(&p, "{\"cmd\":[\"sleep\",\"60\"]}");
	shutdown(p.fd, SHUT_WR);
	for (int i = 0; i < 15; i++)
		ck_assert_int_eq(loop_turn(&loop, 100), 0);
	ck_assert_uint_eq(server.sessions, 1);
	fault_arm("sendto", 1, EPIPE, true);
	case_turn_until(is_idle, NULL);
	ck_assert(fault_disarm());
	peer_free(&p);
	server_end();
}
END_TEST

/* --- faults ----------------------------------------------------------------------------------- */

static void check_fault(const char *call, int err)
{
	FAULT_EACH(call, err)
	{
		static const char start[] =
		    "\x01\x24\0\0\0{\"cmd\":[\"sh\",\"-c\",\"echo x; exit 8\"]}";
		static uint8_t in[65536];
		struct peer p = {.in = in};
		int pair[2];

		ck_assert_int_eq(
		    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
		p.fd = pair[0];
		ck_assert_int_eq(
		    (int)send(p.fd, start, sizeof start - 1, MSG_NOSIGNAL), (int)sizeof start - 1);
		exec_server_accept(&server, pair[1]);
		read_whole(&p);
		ck_assert_uint_le(p.exits, 1);
		if (p.exits && p.n_err == 0)
			ck_assert_msg(p.code == 8, "%s: %d", call, p.code);
		close(p.fd);
		case_turn_until(is_idle, NULL);
		ck_assert_uint_eq(fault_fds(), fds);
	}
}

START_TEST(a_failing_call_ends_one_session_at_most)
{
	server_start();
	check_fault("calloc", ENOMEM);
	check_fault("malloc", ENOMEM);
	check_fault("pipe2", EMFILE);
	check_fault("fork", EAGAIN);
	check_fault("epoll_ctl", ENOMEM);
	server_end();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    runs_what_start_says,
	    says_what_is_wrong_with_start,
	    wants_start_first,
	    start_has_a_limit,
	    takes_frames_byte_by_byte,
	    answers_clock_sync,
	    is_binary_safe,
	    the_end_of_the_stream_is_the_end_of_the_input,
	    a_command_that_does_not_read_stops_its_peer,
	    a_peer_that_does_not_read_stops_its_command,
	    ends_the_command_of_a_peer_that_is_gone,
	    a_frame_that_is_too_large_ends_the_connection,
	    a_peer_may_leave_without_a_word,
	    refuses_one_session_too_many,
	    refuses_one_command_too_many,
	    asks_whether_the_peer_is_still_there,
	    a_failing_call_ends_one_session_at_most,
	    NULL,
	};

	return suite_of("exec_server", tests);
}
