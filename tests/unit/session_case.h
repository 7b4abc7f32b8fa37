/* session_case.h - a loop that commands and workers run on. */
#ifndef TESTS_SESSION_CASE_H
#define TESTS_SESSION_CASE_H

#include "fault.h"
#include "session/exec.h"
#include "suite.h"
#include "sys/signals.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { RUNNING_MAX = 4 };

static struct loop loop;
static struct signals signals;
static struct reaper reaper;
static struct executor executor;
static unsigned fds;

static void case_signal(struct signals *s, int sig)
{
	(void)s;
	if (sig == SIGCHLD)
		reaper_drain(&reaper);
}

static void case_start(void)
{
	signals_block();
	/* As the first process would, this one buries what commands leave behind. */
	ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	ck_assert_int_eq(loop_init(&loop), 0);
	ck_assert_int_eq(signals_init(&signals, &loop, case_signal), 0);
	reaper_init(&reaper, &loop);
	executor_init(&executor, &loop, &reaper, RUNNING_MAX);
	fds = fault_fds();
}

static inline void case_turn_until(bool (*condition)(void *), void *ctx)
{
	uint64_t end_ns = clock_mono_ns() + 30 * NS_PER_SEC;

	while (!condition(ctx)) {
		ck_assert_uint_lt(clock_mono_ns(), end_ns);
		ck_assert_int_eq(loop_turn(&loop, 20), 0);
	}
}

static inline bool nothing_runs(void *ctx)
{
	(void)ctx;
	return executor.running == 0;
}

/* Nothing may be left of what the test started. */
static void case_end(void)
{
	case_turn_until(nothing_runs, NULL);
	for (unsigned turns = 0; fault_children() > 0; turns++) {
		ck_assert_uint_lt(turns, 500);
		reaper_drain(&reaper);
		usleep(10000);
	}
	ck_assert_uint_eq(reaper_count(&reaper), 0);
	ck_assert_uint_eq(fault_fds(), fds);
	reaper_done(&reaper);
	signals_done(&signals);
	loop_done(&loop);
}

#endif
