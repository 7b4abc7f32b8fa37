#include "sandbox/job.h"

#include "fault.h"
#include "sandbox/sandbox.h"
#include "suite.h"
#include "sys/fs.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static struct loop loop;
static struct reaper reaper;
static unsigned fds;
static int a_number = 7;
static struct job job;

/* What `then` was told. */
static unsigned told;
static int rc;
static char why[SANDBOX_WHY_BYTES];

static void setup(void)
{
	ck_assert_int_eq(loop_init(&loop), 0);
	reaper_init(&reaper, &loop);
	fds = fault_fds();
	job = (struct job){.reaper = &reaper, .arg = &a_number};
	told = 0;
}

static void turn(void)
{
	ck_assert_int_eq(loop_turn(&loop, 10), 0);
	reaper_drain(&reaper);
}

static void teardown(void)
{
	for (unsigned i = 0; i < 2000 && fault_children(); i++)
		turn();
	ck_assert_uint_eq(fault_children(), 0);
	ck_assert_uint_eq(fault_fds(), fds);
	reaper_done(&reaper);
	loop_done(&loop);
}

static void then(void *arg, int rc_told, const char *words)
{
	ck_assert_ptr_eq(arg, &a_number);
	ck_assert(!job_runs(&job));
	told++;
	rc = rc_told;
	ck_assert(span_to_cstr(span_str(words), why, sizeof why));
}

/* Exactly one word of how it went, though there is time for more. */
static void assert_then(int rc_told, const char *words)
{
	for (unsigned i = 0; i < 2000 && told == 0; i++)
		turn();
	turn();
	ck_assert_uint_eq(told, 1);
	ck_assert_int_eq(rc, rc_told);
	ck_assert_str_eq(why, words);
	told = 0;
}

static void run(job_step_fn *step, uint64_t timeout_ms)
{
	job_start(&job, step, then, timeout_ms);
	ck_assert_uint_eq(told, 0);
	ck_assert(job_runs(&job));
}

static int succeed(void *arg, struct wr *w)
{
	(void)w;
	return *(int *)arg == 7 ? 0 : -EINVAL;
}

static int succeed_with_words(void *arg, struct wr *w)
{
	(void)arg;
	wr_str(w, "one was left out");
	return 0;
}

static int fall_short(void *arg, struct wr *w)
{
	(void)arg;
	return wr_failure(w, "cannot copy", "/disk", -ENOSPC);
}

static int fall_silently(void *arg, struct wr *w)
{
	(void)arg;
	(void)w;
	return -ENOENT;
}

static int talk(void *arg, struct wr *w)
{
	(void)arg;
	while (w->err == E_OK)
		wr_u8(w, 'x');
	return -EIO;
}

static int die(void *arg, struct wr *w)
{
	(void)arg;
	wr_str(w, "lost");
	kill(getpid(), SIGKILL);
	return 0;
}

static int last(void *arg, struct wr *w)
{
	(void)arg;
	(void)w;
	while (pause() < 0)
		;
	return 0;
}

/* Leaves a mark in what its owner keeps for it. */
static int write_down(void *arg, struct wr *w)
{
	(void)w;
	return fs_write_all(job.keep_fd, span_of(arg, sizeof a_number));
}

START_TEST(a_step_is_told_with_its_words)
{
	setup();
	run(succeed, 0);
	assert_then(0, "");
	run(succeed_with_words, 60000);
	assert_then(0, "one was left out");
	run(fall_short, 0);
	assert_then(-ENOSPC, "cannot copy /disk: No space left on device");
	run(fall_silently, 0);
	assert_then(-ENOENT, "No such file or directory");
	teardown();
}
END_TEST

START_TEST(long_words_are_cut)
{
	char all[SANDBOX_WHY_BYTES] = "";

	memset(all, 'x', sizeof all - 1);
	setup();
	run(talk, 0);
	assert_then(-EIO, all);
	teardown();
}
END_TEST

START_TEST(a_step_that_does_not_end_well_is_told)
{
	setup();
	run(die, 0);
	assert_then(-EIO, "Input/output error");
	run(last, 1);
	assert_then(-ETIMEDOUT, err_text(-ETIMEDOUT));
	teardown();
}
END_TEST

START_TEST(a_descriptor_is_kept_for_it)
{
	int number = 0;

	setup();
	job.keep_fd = fs_memfd("job");
	ck_assert_int_gt(job.keep_fd, 0);
	run(write_down, 0);
	assert_then(0, "");
	ck_assert_int_eq(pread(job.keep_fd, &number, sizeof number, 0), sizeof number);
	ck_assert_int_eq(number, 7);
	close(job.keep_fd);
	teardown();
}
END_TEST

/* By the loop, as all else. */
START_TEST(one_that_cannot_be_started_is_told)
{
	static const struct {
		const char *call;
		int err;
	} faults[] = {{"fork", EAGAIN}, {"pipe2", EMFILE}};

	setup();
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
		fault_arm(faults[i].call, 1, faults[i].err, false);
		run(succeed, 0);
		ck_assert(fault_disarm());
		assert_then(-faults[i].err, err_text(-faults[i].err));
	}
	teardown();
}
END_TEST

START_TEST(one_that_is_cancelled_is_not_told)
{
	setup();
	job_cancel(&job); /* it does not run */
	run(last, 0);
	job_cancel(&job);
	ck_assert(!job_runs(&job));
	fault_arm("fork", 1, EAGAIN, false);
	run(succeed, 0);
	ck_assert(fault_disarm());
	job_cancel(&job);
	ck_assert(!job_runs(&job));
	turn();
	ck_assert_uint_eq(told, 0);
	run(succeed, 0); /* it can be used again */
	assert_then(0, "");
	teardown();
}
END_TEST

static void again(void *arg, int rc_told, const char *words)
{
	ck_assert_int_eq(rc_told, 0);
	ck_assert_str_eq(words, "");
	ck_assert_ptr_eq(arg, &a_number);
	job_start(&job, fall_short, then, 0);
}

START_TEST(one_step_may_follow_another)
{
	setup();
	job_start(&job, succeed, again, 0);
	assert_then(-ENOSPC, "cannot copy /disk: No space left on device");
	teardown();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    a_step_is_told_with_its_words,
	    long_words_are_cut,
	    a_step_that_does_not_end_well_is_told,
	    a_descriptor_is_kept_for_it,
	    one_that_cannot_be_started_is_told,
	    one_that_is_cancelled_is_not_told,
	    one_step_may_follow_another,
	    NULL,
	};

	return suite_of("job", tests);
}
