#include "system/host_clock.h"

#include "base/log.h"
#include "fault.h"
#include "suite.h"
#include "sys/clock.h"

#include <errno.h>

#define SEC ((int64_t)NS_PER_SEC)

START_TEST(a_second_off_is_right_and_more_is_not)
{
	ck_assert(!host_clock_is_off(100 * SEC, 100));
	ck_assert(!host_clock_is_off(100 * SEC + SEC - 1, 100));
	ck_assert(!host_clock_is_off(101 * SEC + SEC - 1, 100));
	ck_assert(!host_clock_is_off(99 * SEC, 100));
	ck_assert(host_clock_is_off(102 * SEC, 100));
	ck_assert(host_clock_is_off(98 * SEC + SEC - 1, 100));
	ck_assert(host_clock_is_off(0, INT64_MAX));
}
END_TEST

/* The one call that would set the clock is made to fail: it must be reached exactly when it should
 * be. */
static bool would_set(bool may_set, int64_t secs)
{
	struct host_clock c = {.may_set = may_set};

	fault_arm("clock_settime", 1, EPERM, true);
	host_clock_follow(&c, secs);
	return fault_disarm();
}

START_TEST(is_set_when_it_may_be_and_is_off)
{
	int64_t now = clock_real_ns() / SEC;
	struct span bad;

	ck_assert_int_eq(log_filter(span_str("off"), &bad), E_OK);
	ck_assert(would_set(true, now + 100));
	ck_assert(would_set(true, now - 100));
	ck_assert(!would_set(true, now));
	ck_assert(!would_set(false, now + 100));
	ck_assert(!would_set(true, 0));
	ck_assert(!would_set(true, -5));
	ck_assert(!would_set(true, INT64_MAX)); /* past what the clock can show */
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    a_second_off_is_right_and_more_is_not,
	    is_set_when_it_may_be_and_is_off,
	    NULL,
	};

	return suite_of("host_clock", tests);
}
