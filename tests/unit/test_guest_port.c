#include "sandbox/guest_port.h"

#include "fault.h"
#include "suite.h"
#include "sys/sock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The test is Firecracker. */

static struct loop loop;
static unsigned fds;
static char dir[32], path[64];
static int listener = -1, peer = -1;
static struct guest_port port;
static unsigned calls;
static int result;

static void ended(struct guest_port *p, int fd)
{
	ck_assert_ptr_eq(p, &port);
	calls++;
	result = fd;
	memset(p, 0xee, sizeof *p); /* the memory may go */
}

static void setup(void)
{
	strcpy(dir, "/tmp/port.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/vsock", dir);
	fds = fault_fds();
	ck_assert_int_eq(loop_init(&loop), 0);
	calls = 0;
	peer = listener = -1;
}

static void teardown(void)
{
	if (peer >= 0)
		close(peer);
	if (listener >= 0)
		close(listener);
	loop_done(&loop);
	ck_assert_uint_eq(fault_fds(), fds);
	unlink(path);
	ck_assert_int_eq(rmdir(dir), 0);
}

static void listen_there(void)
{
	struct addr addr;

	ck_assert_int_eq(addr_unix(path, &addr), E_OK);
	listener = sock_listen(&addr, 4);
	ck_assert_int_ge(listener, 0);
}

static void begin(uint64_t timeout_ms)
{
	ck_assert_int_eq(guest_port_connect(&port, &loop, NULL, path, 52, timeout_ms, ended), 0);
	ck_assert_uint_eq(calls, 0);
}

static void turns(unsigned ms)
{
	uint64_t end_ns = clock_mono_ns() + ms * NS_PER_MS;

	do
		ck_assert_int_eq(loop_turn(&loop, 5), 0);
	while (clock_mono_ns() < end_ns);
}

static void await_peer(void)
{
	struct addr from;

	for (unsigned i = 0; i < 200; i++) {
		peer = sock_accept(listener, &from);
		if (peer >= 0)
			return;
		turns(5);
	}
	ck_abort_msg("nobody connects");
}

static void await_end(void)
{
	for (unsigned i = 0; i < 400 && calls == 0; i++)
		turns(5);
	ck_assert_uint_eq(calls, 1);
}

/* What was asked, by a connection that stands. */
static void assert_asked(void)
{
	char text[64] = "";

	for (unsigned i = 0; i < 100 && read(peer, text, sizeof text - 1) <= 0; i++)
		turns(2);
	ck_assert_str_eq(text, "CONNECT 52\n");
}

static void say(const char *text)
{
	ck_assert_int_eq(write(peer, text, strlen(text)), (ssize_t)strlen(text));
	turns(5);
}

static void assert_connected(const char *first)
{
	char text[64] = "";

	await_end();
	ck_assert_int_ge(result, 0);
	ck_assert_int_eq(
	    read(result, text, sizeof text - 1), *first ? (ssize_t)strlen(first) : (ssize_t)-1);
	ck_assert_str_eq(text, first);
	close(result);
}

START_TEST(what_follows_the_answer_is_the_guests)
{
	setup();
	listen_there();
	begin(1000);
	await_peer();
	assert_asked();
	say("OK 1073741824\nfrom the guest\nOK ");
	assert_connected("from the guest\nOK ");
	teardown();
}
END_TEST

START_TEST(an_answer_may_come_byte_by_byte)
{
	static const char answer[] = "OK 7\n";

	setup();
	listen_there();
	begin(1000);
	await_peer();
	assert_asked();
	for (size_t i = 0; answer[i]; i++) {
		ck_assert_uint_eq(calls, 0);
		say((const char[]){answer[i], '\0'});
	}
	assert_connected("");
	teardown();
}
END_TEST

START_TEST(an_answer_that_is_none_is_an_error)
{
	static const char *const bad[] = {"NO\n", "\n", "OK\n", "ok 1\n", "OKAY 1\n",
	    "OK 1234567890123456789012345678901234567890123456789012345678901\n"};

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		setup();
		listen_there();
		begin(1000);
		await_peer();
		assert_asked();
		say(bad[i]);
		await_end();
		ck_assert_int_eq(result, -EPROTO);
		teardown();
	}
}
END_TEST

START_TEST(the_longest_answer_is_taken)
{
	char answer[GUEST_PORT_ANSWER_BYTES + 1] = "OK ";

	setup();
	listen_there();
	memset(answer + 3, '1', sizeof answer - 5);
	answer[sizeof answer - 2] = '\n';
	begin(1000);
	await_peer();
	assert_asked();
	say(answer);
	assert_connected("");
	teardown();
}
END_TEST

START_TEST(it_is_tried_again_until_somebody_listens)
{
	setup();
	begin(5000);
	turns(50); /* there is no socket */
	listen_there();
	await_peer();
	assert_asked();
	close(peer); /* nobody listens in the guest */
	await_peer();
	assert_asked();
	say("OK");
	close(peer); /* nor now */
	await_peer();
	assert_asked();
	say("OK 1\n");
	assert_connected("");
	teardown();
}
END_TEST

START_TEST(it_gives_up_after_a_while)
{
	setup();
	begin(60); /* before it would be tried again */
	await_end();
	ck_assert_int_eq(result, -ETIMEDOUT);
	calls = 0;
	listen_there();
	begin(60);
	await_peer();
	say("O"); /* and then nothing */
	await_end();
	ck_assert_int_eq(result, -ETIMEDOUT);
	teardown();
}
END_TEST

START_TEST(a_partial_answer_is_waited_for_without_spinning)
{
	unsigned n = 0;
	uint64_t end_ns;

	setup();
	listen_there();
	begin(5000);
	await_peer();
	assert_asked();
	say("OK ");
	for (end_ns = clock_mono_ns() + 50 * NS_PER_MS; clock_mono_ns() < end_ns; n++)
		ck_assert_int_eq(loop_turn(&loop, 20), 0);
	ck_assert_uint_lt(n, 10);
	guest_port_cancel(&port, -ECANCELED);
	await_end();
	teardown();
}
END_TEST

START_TEST(it_can_be_cancelled_at_any_time)
{
	setup();
	begin(1000); /* waits for the next try */
	guest_port_cancel(&port, -ECANCELED);
	ck_assert_uint_eq(calls, 1);
	ck_assert_int_eq(result, -ECANCELED);
	turns(20);
	listen_there();
	for (unsigned asked = 0; asked < 2; asked++) {
		calls = 0;
		begin(1000);
		await_peer();
		if (asked)
			assert_asked();
		guest_port_cancel(&port, -ESRCH);
		guest_port_cancel(&port, -EIO); /* which is too late */
		await_end();
		ck_assert_int_eq(result, -ESRCH);
		close(peer);
	}
	peer = -1;
	port = (struct guest_port){0};
	guest_port_cancel(&port, -ECANCELED);
	ck_assert_uint_eq(calls, 1);
	teardown();
}
END_TEST

START_TEST(paths_that_are_none_are_refused)
{
	char long_path[200];

	setup();
	memset(long_path, 'x', sizeof long_path - 1);
	long_path[sizeof long_path - 1] = '\0';
	ck_assert_int_eq(
	    guest_port_connect(&port, &loop, NULL, long_path, 52, 100, ended), -ENAMETOOLONG);
	ck_assert_int_eq(guest_port_connect(&port, &loop, NULL, "", 52, 100, ended), -EINVAL);
	turns(20);
	ck_assert_uint_eq(calls, 0);
	teardown();
}
END_TEST

/* With each call failing once, it is tried again. */
static void connects_nevertheless(const char *call, int err)
{
	setup();
	listen_there();
	fault_arm(call, 1, err, false);
	begin(2000);
	await_peer();
	fault_disarm();
	if (read(peer, (char[64]){0}, 64) == 0) { /* what had failed is behind us */
		close(peer);
		await_peer();
	}
	say("OK 1\n");
	assert_connected("");
	teardown();
}

START_TEST(what_fails_once_is_tried_again)
{
	connects_nevertheless("socket", EMFILE);
	connects_nevertheless("connect", ECONNREFUSED);
	connects_nevertheless("epoll_ctl", ENOMEM);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    what_follows_the_answer_is_the_guests,
	    an_answer_may_come_byte_by_byte,
	    an_answer_that_is_none_is_an_error,
	    the_longest_answer_is_taken,
	    it_is_tried_again_until_somebody_listens,
	    it_gives_up_after_a_while,
	    a_partial_answer_is_waited_for_without_spinning,
	    it_can_be_cancelled_at_any_time,
	    paths_that_are_none_are_refused,
	    what_fails_once_is_tried_again,
	    NULL,
	};

	return suite_of("guest_port", tests);
}
