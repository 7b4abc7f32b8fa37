#include "sandbox/id.h"

#include "fault.h"
#include "suite.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

START_TEST(takes_names_of_files)
{
	static const char *const legal[] = {"a", "web-1", "My.Box_2", "...", ".hidden", "a b",
	    "@host", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "!~"};

	for (size_t i = 0; i < sizeof legal / sizeof *legal; i++)
		ck_assert_msg(!sandbox_id_problem(span_str(legal[i])), "%s", legal[i]);
}
END_TEST

START_TEST(refuses_what_would_be_something_else)
{
	static const char *const refused[] = {"", ".", "..", "a/b", "/", "a\\b", "a\tb", "a\n",
	    "\x7f", "\xc3\xbc", "\xff", "@guest",
	    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdefg"};

	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
		ck_assert_msg(sandbox_id_problem(span_str(refused[i])), "%s", refused[i]);
	ck_assert_ptr_nonnull(sandbox_id_problem(span_of("a\0b", 3)));
	ck_assert_ptr_nonnull(sandbox_id_problem(span_of(NULL, 0)));
}
END_TEST

START_TEST(makes_random_uuids)
{
	sandbox_id first, id;

	ck_assert_int_eq(sandbox_id_new(first), 0);
	for (int i = 0; i < 100; i++) {
		ck_assert_int_eq(sandbox_id_new(id), 0);
		ck_assert_uint_eq(strlen(id), 36);
		for (size_t at = 0; at < 36; at++)
			if (at == 8 || at == 13 || at == 18 || at == 23)
				ck_assert_int_eq(id[at], '-');
			else
				ck_assert(isxdigit((unsigned char)id[at]) &&
				    !isupper((unsigned char)id[at]));
		ck_assert_int_eq(id[14], '4');
		ck_assert_ptr_nonnull(strchr("89ab", id[19]));
		ck_assert_str_ne(id, first);
		ck_assert_ptr_null(sandbox_id_problem(span_str(id)));
	}
}
END_TEST

START_TEST(tells_that_there_is_no_entropy)
{
	sandbox_id id = "as it was";

	fault_arm("getrandom", 1, EAGAIN, true);
	ck_assert_int_eq(sandbox_id_new(id), -EAGAIN);
	ck_assert(fault_disarm());
	ck_assert_str_eq(id, "as it was");
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {takes_names_of_files, refuses_what_would_be_something_else,
	    makes_random_uuids, tells_that_there_is_no_entropy, NULL};

	return suite_of("id", tests);
}
