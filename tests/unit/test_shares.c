#include "init/shares.h"

#include "base/log.h"
#include "cell.h"
#include "fault.h"
#include "sys/mount.h"
#include "sys/signals.h"

#include <errno.h>

/* Shares are mounted for real by the tests that boot a machine; here the kernel is told to have
 * virtiofs, but has no device with such a tag. */

static struct loop loop;
static struct reaper reaper;
static struct signals signals;
static struct shares shares;
static unsigned calls;

static void on_signal(struct signals *s, int sig)
{
	(void)s;
	if (sig == SIGCHLD)
		reaper_drain(&reaper);
}

static void mounted(struct shares *s)
{
	ck_assert_ptr_eq(s, &shares);
	calls++;
}

static void setup(void)
{
	struct span bad;

	signals_block();
	ck_assert_int_eq(log_filter(span_str("off"), &bad), E_OK);
	ck_assert_int_eq(loop_init(&loop), 0);
	reaper_init(&reaper, &loop);
	ck_assert_int_eq(signals_init(&signals, &loop, on_signal), 0);
}

static void teardown(void)
{
	ck_assert_uint_eq(reaper_count(&reaper), 0);
	signals_done(&signals);
	loop_done(&loop);
	ck_assert_uint_eq(fault_children(), 0);
}

static void pretend_virtiofs(void)
{
	cell_write("/filesystems", "nodev\tproc\nnodev\tvirtiofs\n");
	ck_assert_int_eq(mount("/filesystems", "/proc/filesystems", NULL, MS_BIND, NULL), 0);
}

static void turn_until_mounted(void)
{
	for (int i = 0; i < 500 && !calls; i++)
		ck_assert_int_eq(loop_turn(&loop, 20), 0);
	ck_assert_uint_eq(calls, 1);
}

START_TEST(without_virtiofs_nothing_is_touched)
{
	if (!cell_enter())
		return;
	setup();
	cell_write("/filesystems", "nodev\tproc\n\text4\n");
	ck_assert_int_eq(mount("/filesystems", "/proc/filesystems", NULL, MS_BIND, NULL), 0);
	shares_mount(&shares, &reaper, true, 1000, mounted);
	ck_assert_uint_eq(calls, 1);
	ck_assert_int_eq(access("/arcbox", F_OK), -1);
	teardown();
}
END_TEST

START_TEST(absent_shares_leave_no_directories)
{
	if (!cell_enter())
		return;
	setup();
	pretend_virtiofs();
	shares_mount(&shares, &reaper, true, 5000, mounted);
	ck_assert_uint_eq(calls, 0);
	ck_assert_uint_eq(reaper_count(&reaper), 4);
	turn_until_mounted();
	ck_assert_int_eq(access("/arcbox", F_OK), -1);
	ck_assert_int_eq(access("/media/rosetta", F_OK), -1);
	teardown();
}
END_TEST

START_TEST(others_than_pid_1_mount_the_standard_ones)
{
	if (!cell_enter())
		return;
	setup();
	pretend_virtiofs();
	shares_mount(&shares, &reaper, false, 5000, mounted);
	ck_assert_uint_eq(reaper_count(&reaper), 2);
	turn_until_mounted();
	teardown();
}
END_TEST

START_TEST(workers_that_cannot_start_are_given_up)
{
	if (!cell_enter())
		return;
	setup();
	pretend_virtiofs();
	fault_arm("fork", 1, EAGAIN, true);
	shares_mount(&shares, &reaper, true, 5000, mounted);
	ck_assert(fault_disarm());
	ck_assert_uint_eq(calls, 1);
	teardown();
}
END_TEST

START_TEST(cancelled_ones_end)
{
	if (!cell_enter())
		return;
	setup();
	pretend_virtiofs();
	shares_mount(&shares, &reaper, true, 5000, mounted);
	shares_cancel(&shares);
	for (int i = 0; i < 500 && fault_children(); i++)
		ck_assert_int_eq(loop_turn(&loop, 20), 0);
	ck_assert_uint_eq(calls, 0);
	teardown();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    without_virtiofs_nothing_is_touched,
	    absent_shares_leave_no_directories,
	    others_than_pid_1_mount_the_standard_ones,
	    workers_that_cannot_start_are_given_up,
	    cancelled_ones_end,
	    NULL,
	};

	return suite_of("shares", tests);
}
