#include "sys/clock.h"

#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <time.h>

START_TEST(monotonic_goes_forward)
{
	uint64_t before = clock_mono_ns();

	for (unsigned i = 0; i < 1000; i++) {
		uint64_t now = clock_mono_ns();

		ck_assert_uint_gt(now, 0);
		ck_assert_uint_ge(now, before);
		before = now;
	}
}
END_TEST

START_TEST(real_is_the_time_of_day)
{
	int64_t secs = clock_real_ns() / (int64_t)NS_PER_SEC;

	ck_assert_int_le(secs - (int64_t)time(NULL), 1);
	ck_assert_int_ge(secs - (int64_t)time(NULL), -1);
}
END_TEST

/* Never for real: the fault stands before the call, and a time before 1970 is refused. */
START_TEST(step_tells_why_not)
{
	fault_arm("clock_settime", 1, EPERM, true);
	ck_assert_int_eq(clock_step(clock_real_ns()), -EPERM);
	ck_assert(fault_disarm());
	ck_assert_int_lt(clock_step(-1), 0);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    monotonic_goes_forward,
	    real_is_the_time_of_day,
	    step_tells_why_not,
	    NULL,
	};

	return suite_of("clock", tests);
}
