#include "system/shutdown.h"

#include "base/log.h"
#include "fault.h"
#include "suite.h"
#include "sys/signals.h"

#include <errno.h>
#include <sys/wait.h>

enum { PATIENCE_TURNS = 500 };

static struct loop loop;
static struct reaper reaper;
static struct signals signals;
static struct shutdown sd;
static struct child child;
static int status;

static void on_signal(struct signals *s, int sig)
{
	(void)s;
	if (sig == SIGCHLD)
		reaper_drain(&reaper);
}

static void child_ended(struct child *c, int how)
{
	(void)c;
	status = how;
}

static void setup(void)
{
	struct span bad;

	signals_block();
	ck_assert_int_eq(log_filter(span_str("off"), &bad), E_OK);
	status = -1;
	child = (struct child){.fn = child_ended};
	ck_assert_int_eq(loop_init(&loop), 0);
	reaper_init(&reaper, &loop);
	ck_assert_int_eq(signals_init(&signals, &loop, on_signal), 0);
	shutdown_init(&sd, &loop, &reaper);
	ck_assert(!shutdown_begun(&sd));
}

static void start_child(const char *script)
{
	const char *const argv[] = {"sh", "-c", script, NULL};
	const struct child_spec spec = {
	    .path = "/bin/sh", .argv = argv, .in_fd = -1, .out_fd = -1, .err_fd = -1};

	ck_assert_int_eq(child_start(&reaper, &child, &spec), 0);
}

static void turns_until_stopped(void)
{
	for (int i = 0; i < PATIENCE_TURNS && !loop.stopping; i++)
		ck_assert_int_eq(loop_turn(&loop, 100), 0);
	ck_assert(loop.stopping);
}

static void teardown(void)
{
	signals_done(&signals);
	loop_done(&loop);
	ck_assert_uint_eq(fault_children(), 0);
}

START_TEST(without_children_it_ends_soon)
{
	setup();
	shutdown_begin(&sd, 0);
	ck_assert(shutdown_begun(&sd));
	ck_assert_uint_eq(sd.secs, SHUTDOWN_DEFAULT_SECS);
	shutdown_begin(&sd, 3); /* changes nothing */
	ck_assert_uint_eq(sd.secs, SHUTDOWN_DEFAULT_SECS);
	turns_until_stopped();
	teardown();
}
END_TEST

START_TEST(a_child_ends_by_sigterm)
{
	setup();
	start_child("sleep 100");
	shutdown_begin(&sd, 20);
	turns_until_stopped();
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	teardown();
}
END_TEST

START_TEST(a_child_that_ignores_it_is_killed)
{
	setup();
	start_child("trap '' TERM; while :; do sleep 0.1; done");
	for (int i = 0; i < 5; i++) /* the trap is set */
		ck_assert_int_eq(loop_turn(&loop, 50), 0);
	shutdown_begin(&sd, 1);
	turns_until_stopped();
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	teardown();
}
END_TEST

START_TEST(the_time_is_bounded)
{
	setup();
	shutdown_begin(&sd, UINT32_MAX);
	ck_assert_uint_eq(sd.secs, SHUTDOWN_LONGEST_SECS);
	turns_until_stopped();
	teardown();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    without_children_it_ends_soon,
	    a_child_ends_by_sigterm,
	    a_child_that_ignores_it_is_killed,
	    the_time_is_bounded,
	    NULL,
	};

	return suite_of("shutdown", tests);
}
