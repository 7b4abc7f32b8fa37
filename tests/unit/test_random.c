#include "sys/random.h"

#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <string.h>

START_TEST(fills_all_of_the_buffer)
{
	uint8_t buf[1024] = {0}, zero[16] = {0};

	ck_assert_int_eq(random_fill(buf, sizeof buf), 0);
	for (size_t i = 0; i < sizeof buf; i += sizeof zero)
		ck_assert_mem_ne(buf + i, zero, sizeof zero);
	ck_assert_int_eq(random_fill(NULL, 0), 0);
}
END_TEST

START_TEST(says_that_there_is_no_entropy)
{
	uint8_t byte;

	fault_arm("getrandom", 1, EAGAIN, false);
	ck_assert_int_eq(random_fill(&byte, 1), -EAGAIN);
	ck_assert(fault_disarm());
	fault_arm("getrandom", 1, EINTR, false);
	ck_assert_int_eq(random_fill(&byte, 1), 0);
	ck_assert(fault_disarm());
}
END_TEST

/* Of n draws from 65536 numbers about n - n²/131072 differ. */
static unsigned distinct(unsigned n)
{
	static uint8_t seen[65536];
	unsigned found = 0;

	memset(seen, 0, sizeof seen);
	for (unsigned i = 0; i < n; i++) {
		uint16_t x = random_u16();

		found += !seen[x];
		seen[x] = 1;
	}
	return found;
}

START_TEST(seeds_are_random_without_entropy_too)
{
	uint64_t a[2], b[2], early[2];

	random_seed(a);
	random_seed(b);
	ck_assert_mem_ne(a, b, sizeof a);
	fault_arm("getrandom", 1, EAGAIN, true);
	random_seed(early);
	ck_assert(fault_disarm());
	ck_assert(early[0] != 0 && early[1] != 0);
	ck_assert_mem_ne(early, b, sizeof b);
}
END_TEST

START_TEST(draws_different_numbers)
{
	ck_assert_uint_gt(distinct(4096), 3500);
}
END_TEST

/* Whether the next draw asks the kernel, which says no then. */
static bool draw_asks(void)
{
	fault_arm("getrandom", 1, EAGAIN, false);
	random_u16();
	return fault_disarm();
}

START_TEST(asks_the_kernel_once_for_64)
{
	ck_assert(draw_asks());
	random_u16(); /* fills the pool and takes the first */
	for (unsigned drawn = 1; drawn < 64; drawn++)
		ck_assert(!draw_asks());
	ck_assert(draw_asks());
}
END_TEST

START_TEST(guesses_without_entropy)
{
	fault_arm("getrandom", 1, EAGAIN, true);
	ck_assert_uint_gt(distinct(4096), 3500);
	ck_assert(fault_disarm());
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    fills_all_of_the_buffer,
	    says_that_there_is_no_entropy,
	    seeds_are_random_without_entropy_too,
	    draws_different_numbers,
	    asks_the_kernel_once_for_64,
	    guesses_without_entropy,
	    NULL,
	};

	return suite_of("random", tests);
}
