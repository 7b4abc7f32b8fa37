#include "names/fair.h"

#include "fault.h"
#include "suite.h"

#include <errno.h>

enum { MAX = 8 };

static const uint64_t seed[2] = {1, 2};
static struct fair fair;
static struct fair_waiter waiters[MAX + 1];

static void setup(void)
{
	ck_assert_int_eq(fair_init(&fair, MAX, seed), 0);
}

static void teardown(void)
{
	fair_done(&fair);
}

static bool join(unsigned i, uint8_t host)
{
	struct ip ip = ip_v4(10, 0, 0, host);

	return fair_join(&fair, &ip, &waiters[i]);
}

/* waiters[i] joins from the address that the i-th digit names. */
static void all_join(const char *hosts)
{
	for (unsigned i = 0; hosts[i]; i++)
		ck_assert(join(i, (uint8_t)hosts[i]));
}

/* All give way in this order. */
static void leave_in_order(const char *order)
{
	for (; *order; order++) {
		struct fair_waiter *w = fair_first(&fair);

		ck_assert_ptr_nonnull(w);
		ck_assert_int_eq(w - waiters, *order - '0');
		fair_leave(&fair, w);
	}
	ck_assert_ptr_null(fair_first(&fair));
	ck_assert_uint_eq(fair.n, 0);
	ck_assert_uint_eq(fair.most, 0);
	ck_assert_uint_eq(fair.sources.n, 0);
}

START_TEST(the_oldest_of_one)
{
	ck_assert_ptr_null(fair_first(&fair));
	all_join("11111");
	leave_in_order("01234");
}
END_TEST

START_TEST(the_oldest_of_each_once)
{
	all_join("12345");
	leave_in_order("01234");
}
END_TEST

/* Those that most wait for come down to the others first. */
START_TEST(the_crowd_first)
{
	all_join("12223341");
	ck_assert_uint_eq(fair.most, 3);
	leave_in_order("14026573");
}
END_TEST

START_TEST(anyone_may_leave)
{
	all_join("11122");
	fair_leave(&fair, &waiters[1]);
	fair_leave(&fair, &waiters[2]);
	ck_assert_uint_eq(fair.most, 2);
	fair_leave(&fair, &waiters[4]);
	ck_assert(join(1, '2'));
	leave_in_order("301");
}
END_TEST

START_TEST(addresses_are_compared_whole)
{
	struct ip v4 = ip_v4(10, 0, 0, 1), v6 = {6, {10, 0, 0, 1}}, none = {0};

	ck_assert(fair_join(&fair, &v4, &waiters[0]));
	ck_assert(fair_join(&fair, &v6, &waiters[1]));
	ck_assert(fair_join(&fair, &none, &waiters[2]));
	ck_assert_uint_eq(fair.sources.n, 3);
	ck_assert_uint_eq(fair.most, 1);
}
END_TEST

START_TEST(no_more_than_fit)
{
	all_join("11111111");
	ck_assert_uint_eq(fair.most, MAX);
	ck_assert(!join(MAX, '1'));
	ck_assert(!join(MAX, '2'));
	fair_leave(&fair, &waiters[0]);
	ck_assert(join(MAX, '2'));
	leave_in_order("12345687");
}
END_TEST

START_TEST(without_memory)
{
	struct fair other;

	ck_assert(join(0, '1'));
	fault_arm("malloc", 1, ENOMEM, true);
	ck_assert(!join(1, '2'));
	ck_assert(join(2, '1'));
	ck_assert(fault_disarm());
	leave_in_order("02");
	FAULT_EACH("calloc", ENOMEM)
	{
		if (fair_init(&other, MAX, seed) == 0)
			fair_done(&other);
	}
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {the_oldest_of_one, the_oldest_of_each_once, the_crowd_first,
	    anyone_may_leave, addresses_are_compared_whole, no_more_than_fit, without_memory};
	Suite *s = suite_create("fair");
	TCase *c = tcase_create("fair");

	tcase_add_checked_fixture(c, setup, teardown);
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
		tcase_add_test(c, tests[i]);
	suite_add_tcase(s, c);
	return s;
}
