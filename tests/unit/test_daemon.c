#include "runtime/daemon.h"

#include "base/log.h"
#include "fault.h"
#include "suite.h"
#include "sys/signals.h"
#include "sys/sock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* The daemon is a shell, the socket by which it is reached the test's. */

static struct loop loop;
static struct reaper reaper;
static struct signals signals;
static struct daemon d;
static char dir[32], log_path[64];
static int listener = -1;
static unsigned fds;
static char states[1024]; /* that it went through, by their first letters */

static const char *argv[] = {"/bin/sh", "-c", NULL, NULL};
static const char *const no_env[] = {NULL};
static const char *const log_paths[] = {"/dev/null/no", log_path, NULL};
static struct daemon_conf conf;

static void on_signal(struct signals *s, int sig)
{
	(void)s;
	if (sig == SIGCHLD)
		reaper_drain(&reaper);
}

static void changed(struct daemon *which)
{
	static const char letters[] = "dsrwx"; /* down, starting, ready, waiting, stopping */
	size_t n = strlen(states);

	ck_assert_ptr_eq(which, &d);
	ck_assert_uint_lt(n, sizeof states - 1);
	if (n == 0 || states[n - 1] != letters[d.state])
		states[n] = letters[d.state];
}

static void setup(const char *script)
{
	struct span bad;
	struct addr addr;
	char path[64];

	signals_block();
	ck_assert_int_eq(log_filter(span_str("off"), &bad), E_OK);
	strcpy(dir, "/tmp/daemon.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(log_path, sizeof log_path, "%s/log", dir);
	snprintf(path, sizeof path, "%s/sock", dir);
	ck_assert_int_eq(addr_unix(path, &addr), E_OK);
	fds = fault_fds();
	ck_assert_int_eq(loop_init(&loop), 0);
	reaper_init(&reaper, &loop);
	ck_assert_int_eq(signals_init(&signals, &loop, on_signal), 0);
	argv[2] = script;
	conf = (struct daemon_conf){
	    .name = "test",
	    .argv = argv,
	    .envp = no_env,
	    .log_paths = log_paths,
	    .ready = {addr},
	    .poll_ms = 10,
	    .ready_ms = 300,
	    .stop = {{SIGTERM, 2000}, {SIGKILL, 500}},
	    .restart_ms = 30,
	    .restart_max_ms = 60,
	    .healthy_ms = 1000,
	};
	daemon_init(&d, &loop, &reaper, &conf, changed);
}

static void listen_there(void)
{
	listener = sock_listen(&conf.ready[0], 16);
	ck_assert_int_ge(listener, 0);
}

static void listen_no_more(void)
{
	if (listener >= 0) {
		unlink(conf.ready[0].u.un.sun_path);
		close(listener);
	}
	listener = -1;
}

/* Until it went through these, and perhaps more. */
static void turn_past(const char *wanted)
{
	size_t n = strlen(wanted);

	for (int i = 0; i < 1000 && strncmp(states, wanted, n) != 0; i++)
		ck_assert_int_eq(loop_turn(&loop, 10), 0);
	ck_assert_msg(strncmp(states, wanted, n) == 0, "%s", states);
}

static void turn_until(const char *wanted)
{
	turn_past(wanted);
	ck_assert_str_eq(states, wanted);
}

/* A shell says so once it takes no SIGTERM. */
#define STUBBORN "trap '' TERM; echo stubborn; while :; do sleep 0.05; done"

static void start_stubborn(void)
{
	struct stat st = {0};

	listen_there();
	daemon_start(&d);
	turn_until("sr");
	for (int i = 0; i < 1000 && (stat(log_path, &st) < 0 || st.st_size == 0); i++)
		ck_assert_int_eq(loop_turn(&loop, 10), 0);
	ck_assert_int_gt(st.st_size, 0);
}

static void teardown(void)
{
	listen_no_more();
	daemon_done(&d);
	for (int i = 0; i < 500 && fault_children(); i++)
		ck_assert_int_eq(loop_turn(&loop, 10), 0);
	signals_done(&signals);
	loop_done(&loop);
	ck_assert_uint_eq(fault_children(), 0);
	ck_assert_uint_eq(fault_fds(), fds);
	unlink(log_path);
	unlink(conf.ready[0].u.un.sun_path);
	rmdir(dir);
}

START_TEST(starts_is_ready_and_stops)
{
	setup("exec sleep 100");
	daemon_stop(&d, 0); /* nothing to stop */
	daemon_start(&d);
	ck_assert_str_eq(states, "s");
	ck_assert_int_gt(d.pid, 0);
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(loop_turn(&loop, 20), 0);
	ck_assert_str_eq(states, "s");
	listen_there();
	turn_until("sr");
	daemon_start(&d); /* it is */
	daemon_stop(&d, 0);
	daemon_stop(&d, 0);
	turn_until("srxd");
	ck_assert_int_eq(d.rc, 0);
	ck_assert_int_eq(d.pid, 0);
	daemon_start(&d);
	turn_until("srxdsr");
	daemon_stop(&d, 0);
	turn_until("srxdsrxd");
	teardown();
}
END_TEST

START_TEST(one_that_dies_early_failed)
{
	setup("echo one; echo two; printf 'th\\tree\\nfour\\n' >&2; exit 1");
	daemon_start(&d);
	turn_until("sd");
	ck_assert_int_eq(d.rc, -ECHILD);
	ck_assert_str_eq(d.words, "two|th?ree|four");
	teardown();
}
END_TEST

START_TEST(one_that_cannot_be_run_says_why)
{
	setup("");
	argv[0] = "/nonexistent/daemon";
	daemon_start(&d);
	turn_until("sd");
	ck_assert_int_eq(d.rc, -ENOENT);
	argv[0] = "/bin/sh";
	fault_arm("fork", 1, EAGAIN, false);
	daemon_start(&d);
	ck_assert(fault_disarm());
	ck_assert_int_eq(d.rc, -EAGAIN);
	teardown();
}
END_TEST

START_TEST(one_that_is_not_ready_in_time_is_stopped)
{
	setup("exec sleep 100");
	daemon_start(&d);
	turn_until("sxd");
	ck_assert_int_eq(d.rc, -ETIMEDOUT);
	teardown();
}
END_TEST

START_TEST(one_that_dies_is_started_again)
{
	pid_t first;

	setup("exec sleep 100");
	listen_there();
	daemon_start(&d);
	turn_until("sr");
	first = d.pid;
	ck_assert_int_eq(kill(d.pid, SIGKILL), 0);
	turn_until("srswsr");
	ck_assert_int_ne(d.pid, first);
	daemon_stop(&d, 0);
	turn_until("srswsrxd");
	teardown();
}
END_TEST

/* Each time after twice the wait, up to the longest; from the first one again after health. */
START_TEST(restarts_take_longer_each_time)
{
	setup("exec sleep 100");
	conf.healthy_ms = 100000;
	listen_there();
	daemon_start(&d);
	turn_until("sr");
	ck_assert_uint_eq(d.restart_ms, 30);
	kill(d.pid, SIGKILL);
	turn_until("srswsr");
	ck_assert_uint_eq(d.restart_ms, 60);
	kill(d.pid, SIGKILL);
	turn_until("srswsrswsr");
	ck_assert_uint_eq(d.restart_ms, 60);
	conf.healthy_ms = 0;
	kill(d.pid, SIGKILL);
	turn_until("srswsrswsrsw");
	ck_assert_uint_eq(d.restart_ms, 60); /* 30, doubled */
	daemon_stop(&d, 0);
	ck_assert_str_eq(states, "srswsrswsrswd");
	teardown();
}
END_TEST

/* Once it was ready it is not given up, however often a restart fails. */
START_TEST(a_restart_that_fails_is_followed_by_another)
{
	setup("exec sleep 100");
	listen_there();
	daemon_start(&d);
	turn_until("sr");
	argv[0] = "/nonexistent/daemon";
	listen_no_more();
	kill(d.pid, SIGKILL);
	turn_past("srswswsw");
	listen_there();
	argv[0] = "/bin/sh";
	fault_arm("fork", 1, EAGAIN, true);
	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(loop_turn(&loop, 10), 0);
	fault_disarm();
	for (int i = 0; i < 200 && d.state != DAEMON_READY; i++)
		ck_assert_int_eq(loop_turn(&loop, 10), 0);
	ck_assert_int_eq(d.state, DAEMON_READY);
	daemon_stop(&d, 0);
	for (int i = 0; i < 200 && d.state != DAEMON_DOWN; i++)
		ck_assert_int_eq(loop_turn(&loop, 10), 0);
	teardown();
}
END_TEST

START_TEST(a_restart_that_hangs_is_given_another_chance)
{
	setup("exec sleep 100");
	listen_there();
	daemon_start(&d);
	turn_until("sr");
	listen_no_more();
	kill(d.pid, SIGKILL);
	turn_until("srswsxw"); /* not ready in time: stopped, and again */
	listen_there();
	turn_until("srswsxwsr");
	daemon_stop(&d, 0);
	turn_until("srswsxwsrxd");
	teardown();
}
END_TEST

START_TEST(the_stubborn_are_killed)
{
	setup(STUBBORN);
	conf.stop[0].wait_ms = 60;
	start_stubborn();
	daemon_stop(&d, 0);
	turn_until("srxd");
	ck_assert_int_eq(d.rc, 0);
	teardown();
}
END_TEST

START_TEST(the_first_rung_may_have_less_time)
{
	uint64_t start_ns;

	setup(STUBBORN);
	conf.stop[0].wait_ms = 60000;
	start_stubborn();
	start_ns = clock_mono_ns();
	daemon_stop(&d, 50);
	turn_until("srxd");
	ck_assert_uint_lt(clock_mono_ns() - start_ns, 10 * NS_PER_SEC);
	teardown();
}
END_TEST

/* Nobody knew at first how little time there is. */
START_TEST(a_rung_that_is_climbed_may_have_less_time_still)
{
	setup(STUBBORN);
	conf.stop[0].wait_ms = 60000;
	start_stubborn();
	daemon_stop(&d, 0);
	daemon_stop(&d, 50);
	daemon_stop(&d, 60000); /* not more */
	turn_until("srxd");
	teardown();
}
END_TEST

START_TEST(one_that_does_not_even_die_is_let_go)
{
	pid_t pid;

	setup(STUBBORN);
	conf.stop[0].wait_ms = 50;
	conf.stop[1] = (struct daemon_rung){0};
	start_stubborn();
	pid = d.pid;
	daemon_stop(&d, 0);
	turn_until("srxd");
	ck_assert_int_eq(d.rc, -ETIMEDOUT);
	ck_assert_uint_eq(reaper_count(&reaper), 0);
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	teardown();
}
END_TEST

START_TEST(a_group_ends_as_a_whole)
{
	char pid_path[80], text[16];
	FILE *f;

	setup("sleep 100 & echo $! >&2; wait");
	ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0); /* so that the orphan is buried */
	conf.group = true;
	listen_there();
	daemon_start(&d);
	turn_until("sr");
	snprintf(pid_path, sizeof pid_path, "%s", log_path);
	for (int i = 0; i < 100 && (access(pid_path, R_OK) < 0 || !(f = fopen(pid_path, "re")));
	     i++)
		usleep(10000);
	text[0] = '\0';
	for (int i = 0; i < 100 && !text[0]; i++) {
		rewind(f);
		if (!fgets(text, sizeof text, f))
			usleep(10000);
	}
	fclose(f);
	kill(d.pid, SIGKILL);
	turn_until("srswsr");
	for (int i = 0; i < 100 && kill(atoi(text), 0) == 0; i++)
		ck_assert_int_eq(loop_turn(&loop, 10), 0);
	ck_assert_int_eq(kill(atoi(text), 0), -1); /* what the dead one left behind */
	daemon_stop(&d, 0);
	turn_until("srswsrxd");
	teardown();
}
END_TEST

START_TEST(answers_are_those_of_somebody)
{
	struct addr addr;

	setup("");
	ck_assert(!daemon_answers(&conf.ready[0]));
	listen_there();
	ck_assert(daemon_answers(&conf.ready[0]));
	listen_no_more();
	ck_assert_int_eq(addr_parse(span_str("tcp:127.0.0.1:1"), &addr), E_OK);
	ck_assert(!daemon_answers(&addr));
	ck_assert_int_eq(addr_parse(span_str("tcp:127.0.0.1:0"), &addr), E_OK);
	listener = sock_listen(&addr, 4);
	ck_assert_int_ge(listener, 0);
	ck_assert_int_eq(getsockname(listener, &addr.u.sa, &addr.len), 0);
	ck_assert(daemon_answers(&addr));
	close(listener);
	listener = -1;
	teardown();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    starts_is_ready_and_stops,
	    one_that_dies_early_failed,
	    one_that_cannot_be_run_says_why,
	    one_that_is_not_ready_in_time_is_stopped,
	    one_that_dies_is_started_again,
	    restarts_take_longer_each_time,
	    a_restart_that_fails_is_followed_by_another,
	    a_restart_that_hangs_is_given_another_chance,
	    the_stubborn_are_killed,
	    the_first_rung_may_have_less_time,
	    a_rung_that_is_climbed_may_have_less_time_still,
	    one_that_does_not_even_die_is_let_go,
	    a_group_ends_as_a_whole,
	    answers_are_those_of_somebody,
	    NULL,
	};

	return suite_of("daemon", tests);
}
