#include "system/shutdown.h"

#include "base/log.h"
#include "fault.h"
#include "suite.h"
#include "sys/signals.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_TURNS = 500 };

static struct loop loop;
static struct reaper reaper;
static struct signals signals;
static struct shutdown sd;
static struct child child;
static int status;
static uint64_t services_ms;
static bool services_hang;

static void services(struct shutdown *s, uint64_t wait_ms)
{
	services_ms = wait_ms;
	ck_assert_int_eq(status, -1); /* all others still run */
	if (!services_hang)
		shutdown_services_ended(s);
}

static const struct shutdown_conf agent_conf = {.default_secs = 25},
				  services_conf = {.services = services};

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
	shutdown_init(&sd, &loop, &reaper, &agent_conf);
	ck_assert(!shutdown_begun(&sd));
}

static void start_child(const char *script)
{
	const char *const argv[] = {"sh", "-c", script, NULL};
	const struct child_spec spec = {
	    .path = "/bin/sh", .argv = argv, .in_fd = -1, .out_fd = -1, .err_fd = -1};

	ck_assert_int_eq(child_launch(&reaper, &child, &spec), 0);
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
	ck_assert_uint_eq(sd.secs, 25);
	shutdown_begin(&sd, 3); /* changes nothing */
	ck_assert_uint_eq(sd.secs, 25);
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

START_TEST(services_come_first)
{
	setup();
	shutdown_init(&sd, &loop, &reaper, &services_conf);
	start_child("sleep 100");
	shutdown_begin(&sd, 20);
	turns_until_stopped();
	ck_assert_uint_eq(services_ms / 1000, 17); /* the rest is for the others */
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	teardown();
}
END_TEST

START_TEST(services_that_hang_have_their_time_only)
{
	uint64_t start_ns = clock_mono_ns();

	setup();
	shutdown_init(&sd, &loop, &reaper, &services_conf);
	services_hang = true;
	start_child("sleep 100");
	shutdown_begin(&sd, 1);
	turns_until_stopped();
	ck_assert_uint_ge(clock_mono_ns() - start_ns, 750 * NS_PER_MS);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	teardown();
}
END_TEST

/* --- the machine's end: in a PID namespace, which ends as a machine does ------------------------
 */

/* What the machine says last is in this file of the parent's. */
static int diary;

static void last(struct shutdown *s)
{
	ck_assert_ptr_eq(s, &sd);
	dprintf(diary, "last;");
}

/* Processes that PID 1 did not start itself, but has to end. */
static void start_others(bool stubborn)
{
	for (int i = 0; i < 3; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			signals_reset();
			setsid();
			if (stubborn) {
				signal(SIGTERM, SIG_IGN);
				raise(SIGSTOP);
			}
			for (;;)
				pause();
		}
		ck_assert_int_gt(pid, 0);
	}
}

static const struct shutdown_conf machine_conf = {.machine = true, .disks_ms = 10000, .last = last};

/* The life of PID 1. */
static void live_and_end(bool stubborn)
{
	const int sinks[] = {diary};

	signals_block();
	log_sinks(sinks, 1);
	ck_assert_int_eq(loop_init(&loop), 0);
	reaper_init(&reaper, &loop);
	ck_assert_int_eq(signals_init(&signals, &loop, on_signal), 0);
	shutdown_init(&sd, &loop, &reaper, &machine_conf);
	start_others(stubborn);
	shutdown_begin(&sd, 1);
	for (;;)
		loop_turn(&loop, 100);
}

/* PID 1 of a new namespace. Its maker can have no more children then, so that is a process of its
 * own, whose exit status is the signal by which the machine ended. */
static void make_machine(bool stubborn)
{
	pid_t pid;
	int how = 0;

	if (unshare(CLONE_NEWPID) < 0)
		_exit(EPERM);
	pid = fork();
	if (pid == 0)
		live_and_end(stubborn);
	_exit(pid > 0 && waitpid(pid, &how, 0) == pid ? WTERMSIG(how) : 255);
}

/* The signal by which the machine ended, and in `said` what it said. -1 when there can be none. */
static int machine(bool stubborn, char *said, size_t cap)
{
	pid_t pid;
	ssize_t n;
	int how;

	diary = memfd_create("diary", MFD_CLOEXEC);
	ck_assert_int_ge(diary, 0);
	pid = fork();
	if (pid == 0)
		make_machine(stubborn);
	ck_assert_int_eq(waitpid(pid, &how, 0), pid);
	ck_assert(WIFEXITED(how));
	if (WEXITSTATUS(how) == EPERM) {
		skip_test("a PID namespace needs root");
		return -1;
	}
	n = pread(diary, said, cap - 1, 0);
	ck_assert_int_ge(n, 0);
	said[n] = '\0';
	return WEXITSTATUS(how);
}

/* reboot(2): in a PID namespace, power-off is a SIGINT to its PID 1 (pid_namespaces(7)). */

START_TEST(the_machine_powers_off)
{
	char said[4096];
	int how = machine(false, said, sizeof said);

	if (how < 0)
		return;
	ck_assert_int_eq(how, SIGINT);
	ck_assert_ptr_nonnull(strstr(said, "powering off children="));
	ck_assert_ptr_nonnull(strstr(said, "last;"));
	ck_assert_ptr_null(strstr(said, "do not die"));
}
END_TEST

START_TEST(the_machine_ends_the_stubborn_and_the_stopped)
{
	char said[4096];
	int how = machine(true, said, sizeof said);

	if (how < 0)
		return;
	ck_assert_int_eq(how, SIGINT);
	ck_assert_ptr_nonnull(strstr(said, "last;"));
	ck_assert_ptr_null(strstr(said, "do not die"));
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    the_machine_powers_off,
	    the_machine_ends_the_stubborn_and_the_stopped,
	    without_children_it_ends_soon,
	    a_child_ends_by_sigterm,
	    a_child_that_ignores_it_is_killed,
	    the_time_is_bounded,
	    services_come_first,
	    services_that_hang_have_their_time_only,
	    NULL,
	};

	return suite_of("shutdown", tests);
}
