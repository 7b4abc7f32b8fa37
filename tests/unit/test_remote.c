#include "sandbox/remote.h"

#include "codec/json.h"
#include "fault.h"
#include "sandbox/guest_port.h"
#include "suite.h"
#include "sys/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* The test is the way there (guest_port.h), and vm-agent. */

static struct loop loop;
static unsigned fds;
static struct guest_port *connecting; /* the connection that is being made */
static int connect_rc;
static int agent; /* vm-agent's end */

static char out[1 << 20], err[256];
static size_t n_out, n_err;
static unsigned writable_calls, ended_calls;
static int end_rc;
static int32_t end_code;
static struct remote *remote;
static unsigned pause_after; /* pieces of output; 0 = never */

int guest_port_connect(struct guest_port *p, struct loop *l, const char *root, const char *path,
    uint32_t port, uint64_t timeout_ms, guest_port_fn *fn)
{
	ck_assert_ptr_eq(l, &loop);
	ck_assert_str_eq(root, "/jail");
	ck_assert_str_eq(path, "/vsock");
	ck_assert_uint_eq(port, REMOTE_PORT);
	ck_assert_uint_eq(timeout_ms, 1234);
	p->fn = fn;
	connecting = connect_rc < 0 ? NULL : p;
	return connect_rc;
}

void guest_port_cancel(struct guest_port *p, int rc)
{
	ck_assert_ptr_eq(p, connecting);
	connecting = NULL;
	p->fn(p, rc);
}

static void output(void *ctx, enum exec_stream stream, struct span bytes)
{
	char *to = stream == EXEC_STDOUT ? out : err;
	size_t *n = stream == EXEC_STDOUT ? &n_out : &n_err;

	ck_assert_ptr_eq(ctx, &loop);
	ck_assert_uint_gt(bytes.n, 0);
	ck_assert_uint_le(bytes.n, EXEC_PIECE_BYTES);
	ck_assert_uint_le(*n + bytes.n, stream == EXEC_STDOUT ? sizeof out : sizeof err);
	memcpy(to + *n, bytes.p, bytes.n);
	*n += bytes.n;
	if (pause_after && --pause_after == 0)
		remote_pause(remote);
}

static void writable(void *ctx)
{
	ck_assert_ptr_eq(ctx, &loop);
	writable_calls++;
}

static void ended(void *ctx, int rc, int32_t exit_code)
{
	ck_assert_ptr_eq(ctx, &loop);
	ended_calls++;
	end_rc = rc;
	end_code = exit_code;
}

static const struct remote_ops ops = {output, writable, ended};
static const struct remote_conf conf = {&loop, "/vsock", 1234, &ops, &loop, "/jail"};

static void setup(void)
{
	fds = fault_fds();
	ck_assert_int_eq(loop_init(&loop), 0);
	n_out = n_err = writable_calls = ended_calls = pause_after = 0;
	end_rc = end_code = 77;
	connecting = NULL;
	connect_rc = 0;
	agent = -1;
}

static void teardown(void)
{
	if (agent >= 0)
		close(agent);
	loop_bury(&loop);
	loop_done(&loop);
	ck_assert_uint_eq(fault_fds(), fds);
}

static void turns(unsigned n)
{
	while (n-- > 0)
		ck_assert_int_eq(loop_turn(&loop, 1), 0);
}

/* The command `true`. */
static void start(bool input)
{
	struct command c;

	command_init(&c);
	ck_assert_int_eq(command_add_arg(&c, span_str("true")), 0);
	ck_assert_int_eq(remote_start(&conf, &c, input, &remote), 0);
	command_done(&c);
}

static void accept_it(void)
{
	struct guest_port *p = connecting;
	int pair[2];

	ck_assert_ptr_nonnull(p);
	ck_assert_int_eq(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	agent = pair[0];
	connecting = NULL;
	p->fn(p, pair[1]);
	turns(2);
}

/* What the remote has said so far and was not read yet. */
static struct span hear(void)
{
	static uint8_t buf[2 << 20];
	size_t n = 0;

	for (unsigned idle = 0; idle < 3;) {
		ssize_t got = read(agent, buf + n, sizeof buf - n);

		turns(1);
		if (got > 0)
			n += (size_t)got;
		else
			idle++;
	}
	return span_of(buf, n);
}

static struct vmframe next_frame(struct span *in)
{
	struct vmframe f;
	size_t used;

	ck_assert_int_eq(vmframe_read(*in, &f, &used), E_OK);
	*in = span_from(*in, used);
	return f;
}

static void assert_frame(struct span *in, enum vmframe_type type, const char *payload)
{
	struct vmframe f = next_frame(in);

	ck_assert_uint_eq(f.type, type);
	ck_assert(span_eq_str(f.payload, payload));
}

static void say_bytes(struct span bytes)
{
	ck_assert_int_eq(write(agent, bytes.p, bytes.n), (ssize_t)bytes.n);
	turns(4);
}

static void say(enum vmframe_type type, const char *payload)
{
	uint8_t buf[256];
	struct wr w = wr_of(buf, sizeof buf);

	vmframe_write(&w, (uint8_t)type, span_str(payload));
	say_bytes(wr_span(&w));
}

static void say_exit(int32_t code)
{
	uint8_t buf[16];
	struct wr w = wr_of(buf, sizeof buf);

	vmframe_exit_write(&w, code);
	say_bytes(wr_span(&w));
}

static void assert_ended(int rc, int32_t code)
{
	turns(3);
	ck_assert_uint_eq(ended_calls, 1);
	ck_assert_int_eq(end_rc, rc);
	ck_assert_int_eq(end_code, code);
}

/* --- what is said ----------------------------------------------------------------------------- */

START_TEST(a_command_is_told_whole)
{
	struct command c, got;
	struct span in;
	struct vmframe f;

	setup();
	command_init(&c);
	ck_assert_int_eq(command_add_arg(&c, span_str("echo")), 0);
	ck_assert_int_eq(command_add_arg(&c, span_str("")), 0);
	ck_assert_int_eq(command_add_arg(&c, span_str("a\"\n\x01")), 0);
	ck_assert_int_eq(command_add_env(&c, span_str("K"), span_str("v=w")), 0);
	strcpy(c.working_dir, "/tmp");
	strcpy(c.user, "u:g");
	c.tty = true;
	c.size = (struct vmframe_size){100, 0};
	c.timeout_secs = 9;
	ck_assert_int_eq(remote_start(&conf, &c, false, &remote), 0);
	accept_it();
	in = hear();
	f = next_frame(&in);
	ck_assert_uint_eq(f.type, VMFRAME_START);
	command_init(&got);
	ck_assert_int_eq(command_read(&got, f.payload), E_OK);
	ck_assert(span_eq(queue_span(&got.args), queue_span(&c.args)));
	ck_assert(span_eq(queue_span(&got.env), queue_span(&c.env)));
	ck_assert_str_eq(got.working_dir, "/tmp");
	ck_assert_str_eq(got.user, "u:g");
	ck_assert(got.tty);
	ck_assert_uint_eq(got.size.width, 100);
	ck_assert_uint_eq(got.size.height, COMMAND_ROWS);
	ck_assert_uint_eq(got.timeout_secs, 9);
	assert_frame(&in, VMFRAME_EOF, "");
	ck_assert_uint_eq(in.n, 0);
	command_done(&got);
	command_done(&c);
	say_exit(0);
	assert_ended(0, 0);
	teardown();
}
END_TEST

START_TEST(a_large_command_is_told_in_pieces)
{
	static char arg[600 * 1024];
	struct command c;
	struct span in;
	struct vmframe f;

	setup();
	memset(arg, 'x', sizeof arg);
	command_init(&c);
	ck_assert_int_eq(command_add_arg(&c, span_of(arg, sizeof arg)), 0);
	ck_assert_int_eq(remote_start(&conf, &c, false, &remote), 0);
	accept_it();
	in = hear();
	f = next_frame(&in);
	ck_assert_uint_eq(f.type, VMFRAME_START);
	ck_assert_uint_gt(f.payload.n, sizeof arg);
	assert_frame(&in, VMFRAME_EOF, "");
	remote_cancel(remote);
	/* In JSON this one is six times as large. */
	memset(arg, '\x01', sizeof arg);
	command_done(&c);
	command_init(&c);
	ck_assert_int_eq(command_add_arg(&c, span_of(arg, sizeof arg)), 0);
	ck_assert_int_eq(remote_start(&conf, &c, false, &remote), -E2BIG);
	command_done(&c);
	teardown();
}
END_TEST

START_TEST(input_follows_the_start_and_ends)
{
	struct span in;

	setup();
	start(true);
	ck_assert_uint_eq(remote_input(remote, span_str("early")), 0);
	accept_it();
	ck_assert_uint_eq(writable_calls, 1);
	in = hear();
	ck_assert_uint_eq(next_frame(&in).type, VMFRAME_START);
	ck_assert_uint_eq(in.n, 0);
	ck_assert_uint_eq(remote_input(remote, span_str("one")), 3);
	remote_end_input(remote);
	remote_end_input(remote);
	ck_assert_uint_eq(remote_input(remote, span_str("late")), 4);
	in = hear();
	assert_frame(&in, VMFRAME_STDIN, "one");
	assert_frame(&in, VMFRAME_EOF, "");
	ck_assert_uint_eq(in.n, 0);
	remote_cancel(remote);
	turns(2);
	ck_assert_uint_eq(ended_calls, 0);
	teardown();
}
END_TEST

START_TEST(what_is_asked_before_the_connection_stands_is_told_then)
{
	struct span in;
	struct vmframe_size size;
	struct vmframe f;

	setup();
	start(true);
	remote_resize(remote, (struct vmframe_size){1, 2});
	remote_resize(remote, (struct vmframe_size){300, 400});
	remote_end_input(remote);
	remote_pause(remote);
	accept_it();
	in = hear();
	ck_assert_uint_eq(next_frame(&in).type, VMFRAME_START);
	f = next_frame(&in);
	ck_assert_uint_eq(f.type, VMFRAME_RESIZE);
	ck_assert_int_eq(vmframe_resize_read(f.payload, &size), E_OK);
	ck_assert_uint_eq(size.width, 300);
	ck_assert_uint_eq(size.height, 400);
	assert_frame(&in, VMFRAME_EOF, "");
	ck_assert_uint_eq(in.n, 0);
	say(VMFRAME_STDOUT, "x");
	ck_assert_uint_eq(n_out, 0);
	remote_resume(remote);
	turns(2);
	ck_assert_uint_eq(n_out, 1);
	remote_resize(remote, (struct vmframe_size){5, 6});
	in = hear();
	ck_assert_uint_eq(next_frame(&in).type, VMFRAME_RESIZE);
	remote_cancel(remote);
	teardown();
}
END_TEST

/* All that is handed on comes out, and what is not taken is not lost. */
START_TEST(input_that_is_not_read_is_not_taken)
{
	static uint8_t bytes[1 << 20];
	size_t taken = 0, got = 0, n;
	struct span in;
	unsigned woken;

	setup();
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 7 + (i >> 8));
	start(true);
	accept_it();
	in = hear();
	while ((n = remote_input(remote, span_from(span_of(bytes, sizeof bytes), taken))) > 0)
		taken += n;
	ck_assert_uint_lt(taken, 512 * 1024);
	turns(5);
	ck_assert_uint_eq(remote_input(remote, span_of(bytes, 1)), 0);
	woken = writable_calls;
	remote_end_input(remote); /* waits behind what was taken */
	in = hear();
	while (in.n) {
		struct vmframe f = next_frame(&in);

		if (f.type == VMFRAME_EOF)
			break;
		ck_assert_uint_eq(f.type, VMFRAME_STDIN);
		ck_assert_int_eq(memcmp(f.payload.p, bytes + got, f.payload.n), 0);
		got += f.payload.n;
	}
	ck_assert_uint_eq(got, taken);
	ck_assert_uint_eq(in.n, 0);
	ck_assert_uint_eq(writable_calls, woken); /* the input is at its end */
	remote_cancel(remote);
	teardown();
}
END_TEST

START_TEST(a_reader_that_catches_up_makes_it_writable)
{
	static uint8_t bytes[64 * 1024];

	setup();
	start(true);
	accept_it();
	hear();
	writable_calls = 0;
	while (remote_input(remote, span_of(bytes, sizeof bytes)) == sizeof bytes)
		;
	turns(5);
	ck_assert_uint_eq(writable_calls, 0);
	hear();
	ck_assert_uint_eq(writable_calls, 1);
	ck_assert_uint_gt(remote_input(remote, span_of(bytes, sizeof bytes)), 0);
	remote_cancel(remote);
	teardown();
}
END_TEST

START_TEST(the_clock_is_told_and_answered)
{
	struct vmframe_clock clock;
	struct span in;
	struct vmframe f;

	setup();
	ck_assert_int_eq(remote_sync_clock(&conf, &remote), 0);
	accept_it();
	in = hear();
	f = next_frame(&in);
	ck_assert_uint_eq(f.type, VMFRAME_CLOCK_SYNC);
	ck_assert_int_eq(vmframe_clock_read(f.payload, &clock), E_OK);
	ck_assert_int_gt(clock.secs, 1600000000);
	ck_assert_uint_eq(in.n, 0);
	say_exit(-1);
	assert_ended(0, -1);
	teardown();
}
END_TEST

/* --- what is heard ---------------------------------------------------------------------------- */

START_TEST(output_and_exit_reach_the_owner)
{
	setup();
	start(false);
	accept_it();
	say(VMFRAME_STDOUT, "out");
	say(VMFRAME_STDERR, "err");
	say(0x7f, "which nobody knows");
	say(VMFRAME_STDOUT, "");
	ck_assert_uint_eq(n_out, 3);
	ck_assert_uint_eq(n_err, 3);
	ck_assert_int_eq(memcmp(out, "out", 3), 0);
	ck_assert_int_eq(memcmp(err, "err", 3), 0);
	ck_assert_uint_eq(ended_calls, 0);
	say_exit(139);
	assert_ended(0, 139);
	teardown();
}
END_TEST

START_TEST(frames_may_come_byte_by_byte)
{
	uint8_t buf[64];
	struct wr w = wr_of(buf, sizeof buf);

	setup();
	start(false);
	accept_it();
	vmframe_write(&w, VMFRAME_STDOUT, span_str("abc"));
	vmframe_exit_write(&w, -5);
	for (size_t i = 0; i < w.n; i++)
		say_bytes(span_of(buf + i, 1));
	ck_assert_uint_eq(n_out, 3);
	assert_ended(0, -5);
	teardown();
}
END_TEST

START_TEST(nothing_counts_behind_the_exit)
{
	uint8_t buf[64];
	struct wr w = wr_of(buf, sizeof buf);

	setup();
	start(false);
	accept_it();
	vmframe_exit_write(&w, 3);
	vmframe_write(&w, VMFRAME_STDOUT, span_str("more"));
	vmframe_exit_write(&w, 4);
	say_bytes(wr_span(&w));
	ck_assert_uint_eq(n_out, 0);
	assert_ended(0, 3);
	teardown();
}
END_TEST

static void assert_broken(const void *bytes, size_t n, int rc)
{
	setup();
	start(false);
	accept_it();
	say_bytes(span_of(bytes, n));
	assert_ended(rc, 0);
	teardown();
}

START_TEST(what_makes_no_sense_ends_it)
{
	assert_broken("\x12\x03\0\0\0\0\0\0", 8, -EPROTO);
	assert_broken("\x12\x05\0\0\0\0\0\0\0\0", 10, -EPROTO);
	assert_broken("\x12\xff\0\0\0\0", 6, -EPROTO);
	assert_broken("\x12\0\0\0\0", 5, -EPROTO);
	assert_broken("\x10\x01\0\0\x01z", 6, -EMSGSIZE);
}
END_TEST

START_TEST(an_end_without_an_exit_is_an_error)
{
	setup();
	start(false);
	accept_it();
	say(VMFRAME_STDOUT, "half");
	close(agent);
	agent = -1;
	turns(5);
	ck_assert_uint_eq(n_out, 4);
	assert_ended(-ECONNRESET, 0);
	teardown();
}
END_TEST

/* A frame of 256 KiB in one go is handed on in pieces that a frame of ours can hold. */
START_TEST(large_frames_come_in_pieces)
{
	static uint8_t bytes[256 * 1024 + VMFRAME_HEAD_BYTES];
	struct wr w = wr_of(bytes, sizeof bytes);
	size_t at = 0;

	setup();
	vmframe_head_write(&w, VMFRAME_STDOUT, sizeof bytes - VMFRAME_HEAD_BYTES);
	for (size_t i = VMFRAME_HEAD_BYTES; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 11 + (i >> 8));
	start(false);
	accept_it();
	while (at < sizeof bytes) {
		ssize_t n = write(agent, bytes + at, sizeof bytes - at);

		at += n > 0 ? (size_t)n : 0;
		turns(1);
	}
	turns(10);
	ck_assert_uint_eq(n_out, sizeof bytes - VMFRAME_HEAD_BYTES);
	ck_assert_int_eq(memcmp(out, bytes + VMFRAME_HEAD_BYTES, n_out), 0);
	say_exit(0);
	assert_ended(0, 0);
	teardown();
}
END_TEST

START_TEST(a_pause_holds_the_other_side_up)
{
	static uint8_t piece[1000];
	uint8_t head[VMFRAME_HEAD_BYTES];
	struct wr w = wr_of(head, sizeof head);
	size_t sent = 0, n;

	setup();
	start(false);
	accept_it();
	pause_after = 1;
	say(VMFRAME_STDOUT, "first");
	ck_assert_uint_eq(n_out, 5);
	vmframe_head_write(&w, VMFRAME_STDOUT, sizeof out - 100);
	say_bytes(wr_span(&w));
	for (unsigned idle = 0; idle < 20;) {
		ssize_t got = write(agent, piece, sizeof piece);

		idle = got > 0 ? 0 : idle + 1;
		sent += got > 0 ? (size_t)got : 0;
		turns(1);
	}
	ck_assert_uint_eq(n_out, 5);
	ck_assert_uint_lt(sent, 512 * 1024); /* what the kernel holds, and one queue */
	remote_resume(remote);
	for (n = 0; n_out < 5 + sent && n < 1000; n++)
		turns(1);
	ck_assert_uint_eq(n_out, 5 + sent);
	remote_cancel(remote);
	teardown();
}
END_TEST

/* A slow host reads what was said before the VM was gone. */
START_TEST(the_last_words_outlive_a_pause)
{
	setup();
	start(true);
	accept_it();
	hear();
	remote_pause(remote);
	say(VMFRAME_STDOUT, "last words");
	say_exit(3);
	close(agent);
	agent = -1;
	turns(20);
	ck_assert_uint_eq(ended_calls, 0);
	remote_input(remote, span_str("to nobody"));
	turns(20);
	remote_resume(remote);
	turns(5);
	ck_assert_uint_eq(n_out, 10);
	assert_ended(0, 3);
	teardown();
}
END_TEST

/* --- its end ---------------------------------------------------------------------------------- */

START_TEST(a_connection_that_cannot_be_had_ends_it)
{
	struct guest_port *p;

	setup();
	start(false);
	p = connecting;
	p->fn(p, -ETIMEDOUT);
	assert_ended(-ETIMEDOUT, 0);
	teardown();
}
END_TEST

START_TEST(a_vm_that_is_no_more_ends_it_before_it_is_connected)
{
	setup();
	start(false);
	remote_abandon(remote);
	assert_ended(-ECONNRESET, 0);
	ended_calls = 0;
	start(false);
	accept_it();
	remote_abandon(remote); /* the connection says when it is over */
	turns(3);
	ck_assert_uint_eq(ended_calls, 0);
	say_exit(1);
	assert_ended(0, 1);
	teardown();
}
END_TEST

START_TEST(a_cancelled_one_says_nothing_any_more)
{
	setup();
	start(true);
	remote_cancel(remote);
	ck_assert_ptr_null(connecting);
	start(true);
	accept_it();
	say(VMFRAME_STDOUT, "x");
	ck_assert_uint_eq(n_out, 1);
	remote_cancel(remote);
	turns(3);
	ck_assert_uint_eq(ended_calls, 0);
	ck_assert_uint_eq(hear().n > 0, 1);
	ck_assert_int_eq(read(agent, err, 1), 0); /* it is closed */
	teardown();
}
END_TEST

START_TEST(what_cannot_be_had_is_an_error)
{
	struct command c;
	int rc = -1;

	setup();
	command_init(&c);
	ck_assert_int_eq(command_add_arg(&c, span_str("true")), 0);
	connect_rc = -ENAMETOOLONG;
	ck_assert_int_eq(remote_start(&conf, &c, false, &remote), -ENAMETOOLONG);
	ck_assert_int_eq(remote_sync_clock(&conf, &remote), -ENAMETOOLONG);
	connect_rc = 0;
	FAULT_EACH("calloc", ENOMEM)
	{
		rc = remote_start(&conf, &c, false, &remote);
		if (rc == 0)
			remote_cancel(remote);
		else
			ck_assert_int_eq(rc, -ENOMEM);
		rc = remote_sync_clock(&conf, &remote);
		if (rc == 0)
			remote_cancel(remote);
	}
	FAULT_EACH("malloc", ENOMEM)
	{
		rc = remote_start(&conf, &c, false, &remote);
		if (rc == 0)
			remote_cancel(remote);
		else
			ck_assert_int_eq(rc, -ENOMEM);
	}
	ck_assert_int_eq(rc, 0);
	command_done(&c);
	start(false);
	fault_arm("epoll_ctl", 1, ENOMEM, false);
	accept_it();
	ck_assert(fault_disarm());
	assert_ended(-ENOMEM, 0);
	teardown();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    a_command_is_told_whole,
	    a_large_command_is_told_in_pieces,
	    input_follows_the_start_and_ends,
	    what_is_asked_before_the_connection_stands_is_told_then,
	    input_that_is_not_read_is_not_taken,
	    a_reader_that_catches_up_makes_it_writable,
	    the_clock_is_told_and_answered,
	    output_and_exit_reach_the_owner,
	    frames_may_come_byte_by_byte,
	    nothing_counts_behind_the_exit,
	    what_makes_no_sense_ends_it,
	    an_end_without_an_exit_is_an_error,
	    large_frames_come_in_pieces,
	    a_pause_holds_the_other_side_up,
	    the_last_words_outlive_a_pause,
	    a_connection_that_cannot_be_had_ends_it,
	    a_vm_that_is_no_more_ends_it_before_it_is_connected,
	    a_cancelled_one_says_nothing_any_more,
	    what_cannot_be_had_is_an_error,
	    NULL,
	};

	return suite_of("remote", tests);
}
