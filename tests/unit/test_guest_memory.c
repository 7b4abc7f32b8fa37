#include "../../tools/vsock-bridge/guest_memory.h"

#include "fault.h"
#include "suite.h"
#include "sys/fs.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, FILE_BYTES = 8 * PAGE };

static const uint64_t guest = 0x40000000, user = 0x7f0000000000;

static int file;
static struct guest_memory memory;

static void setup(void)
{
	file = fs_memfd("guest");
	ck_assert_int_ge(file, 0);
	ck_assert_int_eq(ftruncate(file, FILE_BYTES), 0);
}

static void teardown(void)
{
	guest_memory_clear(&memory);
	close(file);
}

static struct guest_layout layout(uint64_t bytes, uint64_t offset)
{
	return (struct guest_layout){guest, bytes, user, offset};
}

static void add(uint64_t guest_addr, uint64_t bytes, uint64_t user_addr, uint64_t offset)
{
	struct guest_layout l = {guest_addr, bytes, user_addr, offset};

	ck_assert_int_eq(guest_memory_add(&memory, file, &l), 0);
}

/* What lies at an address in one piece, of `wanted` bytes; 0 for nothing. */
static size_t piece(uint64_t guest_addr, size_t wanted)
{
	return guest_memory_at(&memory, guest_addr, &wanted) ? wanted : 0;
}

START_TEST(both_addresses_lead_to_the_same_bytes)
{
	size_t n = 4;
	char *by_guest, *by_user;

	add(guest, 2 * PAGE, user, 3 * PAGE);
	by_guest = guest_memory_at(&memory, guest + 100, &n);
	by_user = guest_memory_of_user(&memory, user + 100, 4);
	ck_assert_uint_eq(n, 4);
	ck_assert_ptr_eq(by_guest, by_user);
	ck_assert_int_eq(pwrite(file, "moby", 4, 3 * PAGE + 100), 4);
	ck_assert_mem_eq(by_guest, "moby", 4);
}
END_TEST

START_TEST(a_piece_ends_with_its_region)
{
	add(guest, PAGE, user, 0);
	ck_assert_uint_eq(piece(guest, PAGE), PAGE);
	ck_assert_uint_eq(piece(guest, SIZE_MAX), PAGE);
	ck_assert_uint_eq(piece(guest + PAGE - 1, 2), 1);
	ck_assert_uint_eq(piece(guest + PAGE, 1), 0);
	ck_assert_uint_eq(piece(guest - 1, 1), 0);
	ck_assert_uint_eq(piece(0, 1), 0);
	ck_assert_uint_eq(piece(UINT64_MAX, 1), 0);
}
END_TEST

START_TEST(a_user_address_is_for_the_whole)
{
	add(guest, PAGE, user, 0);
	ck_assert_ptr_nonnull(guest_memory_of_user(&memory, user, PAGE));
	ck_assert_ptr_nonnull(guest_memory_of_user(&memory, user + PAGE - 1, 1));
	ck_assert_ptr_null(guest_memory_of_user(&memory, user, PAGE + 1));
	ck_assert_ptr_null(guest_memory_of_user(&memory, user + 1, PAGE));
	ck_assert_ptr_null(guest_memory_of_user(&memory, user + 1, SIZE_MAX));
	ck_assert_ptr_null(guest_memory_of_user(&memory, user - 1, 1));
	ck_assert_ptr_null(guest_memory_of_user(&memory, guest, 1));
}
END_TEST

START_TEST(regions_are_told_apart)
{
	const uint64_t high = UINT64_C(1) << 32;
	size_t n = 1;
	uint8_t *first, *second;

	add(guest, PAGE, user, 0);
	add(guest + PAGE, PAGE, user + 16 * PAGE, 5 * PAGE); /* adjacent for the guest only */
	add(high, PAGE, user + PAGE, PAGE);
	first = guest_memory_at(&memory, guest + PAGE - 1, &n);
	second = guest_memory_at(&memory, guest + PAGE, &n);
	ck_assert_uint_eq(piece(guest + PAGE - 1, 10), 1);
	ck_assert_ptr_ne(first + 1, second);
	ck_assert_uint_eq(piece(high, 10), 10);
	ck_assert_ptr_null(guest_memory_of_user(&memory, user + PAGE - 1, 2));
}
END_TEST

START_TEST(impossible_layouts_are_refused)
{
	const struct guest_layout bad[] = {
	    layout(0, 0),
	    layout(FILE_BYTES + 1, 0),
	    layout(FILE_BYTES, 1),
	    layout(PAGE, UINT64_MAX - 1),
	    layout(UINT64_MAX, PAGE),
	    layout(UINT64_MAX, 0),
	    {UINT64_MAX - 10, PAGE, user, 0},
	    {guest, PAGE, UINT64_MAX - 10, 0},
	};

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ck_assert_int_eq(guest_memory_add(&memory, file, &bad[i]), -EINVAL);
	ck_assert_uint_eq(memory.n, 0);
}
END_TEST

START_TEST(regions_are_limited)
{
	const struct guest_layout one_more = layout(PAGE, 0);

	for (unsigned i = 0; i < GUEST_REGIONS; i++)
		add(guest + i * PAGE, PAGE, user + i * PAGE, i * PAGE);
	ck_assert_int_eq(guest_memory_add(&memory, file, &one_more), -ENOSPC);
	ck_assert_uint_eq(piece(guest + 7 * PAGE, PAGE), PAGE);
}
END_TEST

START_TEST(a_failure_leaves_nothing)
{
	const struct guest_layout l = layout(PAGE, 0);
	static const char *const calls[] = {"fstat", "mmap"};

	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		fault_arm(calls[i], 1, EACCES, false);
		ck_assert_int_eq(guest_memory_add(&memory, file, &l), -EACCES);
		ck_assert(fault_disarm());
		ck_assert_uint_eq(memory.n, 0);
	}
	ck_assert_int_eq(guest_memory_add(&memory, -1, &l), -EBADF);
}
END_TEST

START_TEST(what_is_cleared_is_unmapped)
{
	unsigned char resident[1];
	size_t n = 1;
	uint8_t *p;

	add(guest, PAGE, user, PAGE);
	p = guest_memory_at(&memory, guest, &n);
	guest_memory_clear(&memory);
	ck_assert_int_eq(mincore(p, PAGE, resident), -1);
	ck_assert_uint_eq(piece(guest, 1), 0);
	guest_memory_clear(&memory);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    both_addresses_lead_to_the_same_bytes,
	    a_piece_ends_with_its_region,
	    a_user_address_is_for_the_whole,
	    regions_are_told_apart,
	    impossible_layouts_are_refused,
	    regions_are_limited,
	    a_failure_leaves_nothing,
	    what_is_cleared_is_unmapped,
	    NULL,
	};
	TCase *tcase = tcase_create("guest_memory");
	Suite *s = suite_create("guest_memory");

	tcase_add_checked_fixture(tcase, setup, teardown);
	for (size_t i = 0; tests[i]; i++)
		tcase_add_test(tcase, tests[i]);
	suite_add_tcase(s, tcase);
	return s;
}
