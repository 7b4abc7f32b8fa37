#include "base/err.h"

#include "suite.h"

#include <errno.h>
#include <limits.h>

START_TEST(each_code_has_a_text_of_its_own)
{
	for (int a = 0; a < E_COUNT; a++) {
		ck_assert_str_ne(err_text(a), "");
		ck_assert_str_ne(err_text(a), "unknown error");
		for (int b = 0; b < a; b++)
			ck_assert_str_ne(err_text(a), err_text(b));
	}
}
END_TEST

START_TEST(negative_errno_has_the_system_text)
{
	ck_assert_str_eq(err_text(-ENOENT), "No such file or directory");
	ck_assert_str_eq(err_text(-ENOMEM), "Cannot allocate memory");
}
END_TEST

START_TEST(numbers_that_nobody_uses_have_a_text)
{
	ck_assert_str_eq(err_text(E_COUNT), "unknown error");
	ck_assert_str_eq(err_text(INT_MAX), "unknown error");
	ck_assert_str_ne(err_text(-INT_MAX), "");
	ck_assert_str_ne(err_text(INT_MIN), "");
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    each_code_has_a_text_of_its_own,
	    negative_errno_has_the_system_text,
	    numbers_that_nobody_uses_have_a_text,
	    NULL,
	};

	return suite_of("err", tests);
}
