#include "sys/tail.h"

#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[32], out[64];

static void setup(const char *text, size_t n)
{
	int fd;

	strcpy(path, "/tmp/tail.XXXXXX");
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, n), (ssize_t)n);
	close(fd);
}

static void assert_tail(const char *text, const char *expected)
{
	setup(text, strlen(text));
	ck_assert_int_eq(tail_lines(path, 2, out, sizeof out), 0);
	ck_assert_str_eq(out, expected);
	unlink(path);
}

START_TEST(the_last_lines_are_told)
{
	assert_tail("", "");
	assert_tail("\n\n", "");
	assert_tail("one", "one");
	assert_tail("one\n", "one");
	assert_tail("one\ntwo", "one|two");
	assert_tail("one\ntwo\n", "one|two");
	assert_tail("one\ntwo\nthree\n", "two|three");
	assert_tail("one\ntwo\nthree\n\n\n", "two|three");
	assert_tail("one\n\nthree\n", "|three");
}
END_TEST

START_TEST(what_is_not_printable_is_replaced)
{
	assert_tail("a\tb\x7f\x80\xff~ \n", "a?b???~ ");
}
END_TEST

START_TEST(of_a_long_line_the_end_is_kept)
{
	static char text[3 * TAIL_READ_BYTES];

	memset(text, 'x', sizeof text);
	memcpy(text + sizeof text - 4, "end\n", 4);
	setup(text, sizeof text);
	ck_assert_int_eq(tail_lines(path, 2, out, sizeof out), 0);
	ck_assert_uint_eq(strlen(out), sizeof out - 1);
	ck_assert_str_eq(out + sizeof out - 5, "xend");
	ck_assert_int_eq(tail_lines(path, 2, out, 3), 0);
	ck_assert_str_eq(out, "nd");
	unlink(path);
}
END_TEST

START_TEST(what_is_no_file_is_an_error)
{
	char link[40];

	ck_assert_int_eq(tail_lines("/nowhere/log", 2, out, sizeof out), -ENOENT);
	ck_assert_int_eq(tail_lines("/tmp", 2, out, sizeof out), -EISDIR);
	setup("secret\n", 7);
	snprintf(link, sizeof link, "%s.link", path);
	ck_assert_int_eq(symlink(path, link), 0);
	ck_assert_int_eq(tail_lines(link, 2, out, sizeof out), -ELOOP);
	unlink(link);
	unlink(path);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    the_last_lines_are_told,
	    what_is_not_printable_is_replaced,
	    of_a_long_line_the_end_is_kept,
	    what_is_no_file_is_an_error,
	    NULL,
	};

	return suite_of("tail", tests);
}
