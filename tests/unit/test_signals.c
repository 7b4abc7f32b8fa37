#include "sys/signals.h"

#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

static struct loop loop;
static struct signals signals;
static unsigned arrived[_NSIG];
static bool stop_at_once;

static void count(struct signals *s, int sig)
{
	ck_assert_ptr_eq(s, &signals);
	arrived[sig]++;
	if (stop_at_once)
		signals_done(s);
}

static void setup(void)
{
	signals_block();
	ck_assert_int_eq(loop_init(&loop), 0);
	ck_assert_int_eq(signals_init(&signals, &loop, count), 0);
}

static void teardown(void)
{
	signals_done(&signals);
	loop_done(&loop);
}

static void turn(void)
{
	ck_assert_int_eq(loop_turn(&loop, 0), 0);
}

START_TEST(blocks_all_but_crashes)
{
	sigset_t mask;

	signals_block();
	sigprocmask(SIG_SETMASK, NULL, &mask);
	for (int sig = 1; sig < 32; sig++) {
		bool crash = sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL ||
		    sig == SIGTRAP || sig == SIGSYS || sig == SIGABRT;
		bool always = sig == SIGKILL || sig == SIGSTOP;

		ck_assert_int_eq(sigismember(&mask, sig), !crash && !always);
	}
	ck_assert_int_eq(sigismember(&mask, SIGRTMAX), 1);
}
END_TEST

START_TEST(written_to_a_closed_pipe_is_an_error)
{
	int fds[2];

	signals_block();
	ck_assert_int_eq(pipe(fds), 0);
	close(fds[0]);
	ck_assert_int_eq(write(fds[1], "x", 1), -1);
	ck_assert_int_eq(errno, EPIPE);
	close(fds[1]);
}
END_TEST

START_TEST(tells_each_signal)
{
	const int sigs[] = {SIGTERM, SIGINT, SIGHUP, SIGPWR};

	setup();
	turn();
	for (size_t i = 0; i < sizeof sigs / sizeof *sigs; i++)
		ck_assert_int_eq(kill(getpid(), sigs[i]), 0);
	kill(getpid(), SIGTERM); /* the same again is one */
	kill(getpid(), SIGUSR1); /* blocked and of no interest */
	turn();
	for (int sig = 1; sig < _NSIG; sig++) {
		bool expected = sig == SIGTERM || sig == SIGINT || sig == SIGHUP || sig == SIGPWR;

		ck_assert_uint_eq(arrived[sig], expected);
	}
	teardown();
}
END_TEST

START_TEST(tells_of_a_child_whatever_was_inherited)
{
	int status;
	pid_t pid;

	signal(SIGCHLD, SIG_IGN);
	setup();
	pid = fork();
	if (pid == 0)
		_exit(7);
	ck_assert_int_eq(loop_turn(&loop, 5000), 0);
	ck_assert_uint_eq(arrived[SIGCHLD], 1);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(WEXITSTATUS(status), 7);
	teardown();
}
END_TEST

START_TEST(may_be_stopped_by_a_signal)
{
	setup();
	stop_at_once = true;
	kill(getpid(), SIGTERM);
	kill(getpid(), SIGHUP);
	turn();
	ck_assert_uint_eq(arrived[SIGTERM] + arrived[SIGHUP], 1);
	teardown();
}
END_TEST

START_TEST(reset_gives_a_fresh_state)
{
	int status;
	pid_t pid;

	signals_block();
	pid = fork();
	if (pid == 0) {
		sigset_t mask;

		signals_reset();
		sigprocmask(SIG_SETMASK, NULL, &mask);
		for (int sig = 1; sig < _NSIG; sig++)
			if (sigismember(&mask, sig) == 1)
				_exit(1);
		raise(SIGPIPE); /* ignored before */
		_exit(2);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(WTERMSIG(status), SIGPIPE);
}
END_TEST

static void init_fails(const char *call)
{
	unsigned fds;

	ck_assert_int_eq(loop_init(&loop), 0);
	fds = fault_fds();
	fault_arm(call, 1, EMFILE, false);
	ck_assert_int_eq(signals_init(&signals, &loop, count), -EMFILE);
	ck_assert(fault_disarm());
	ck_assert_uint_eq(fault_fds(), fds);
	loop_done(&loop);
}

START_TEST(failed_init_holds_nothing)
{
	signals_block();
	init_fails("signalfd");
	init_fails("epoll_ctl");
}
END_TEST

START_TEST(interrupted_read_loses_nothing)
{
	setup();
	kill(getpid(), SIGHUP);
	fault_arm("read", 1, EINTR, false);
	turn();
	ck_assert(fault_disarm());
	ck_assert_uint_eq(arrived[SIGHUP], 0);
	turn();
	ck_assert_uint_eq(arrived[SIGHUP], 1);
	teardown();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    blocks_all_but_crashes,
	    written_to_a_closed_pipe_is_an_error,
	    tells_each_signal,
	    tells_of_a_child_whatever_was_inherited,
	    may_be_stopped_by_a_signal,
	    reset_gives_a_fresh_state,
	    failed_init_holds_nothing,
	    interrupted_read_loses_nothing,
	    NULL,
	};

	return suite_of("signals", tests);
}
