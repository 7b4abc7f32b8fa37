#include "init/modules.h"

#include "base/log.h"
#include "cell.h"
#include "sys/clock.h"

#include <string.h>
#include <sys/mman.h>

static int diary;

static const char *load(uint64_t timeout_ms)
{
	static char said[8192];
	ssize_t n;

	diary = memfd_create("log", MFD_CLOEXEC);
	ck_assert_int_ge(diary, 0);
	log_sinks(&diary, 1);
	modules_load(timeout_ms);
	n = pread(diary, said, sizeof said - 1, 0);
	ck_assert_int_ge(n, 0);
	said[n] = '\0';
	return said;
}

static void make_dirs(void)
{
	ck_assert_int_eq(mkdir("/etc", 0755), 0);
	ck_assert_int_eq(mkdir("/lib", 0755), 0);
	ck_assert_int_eq(mkdir("/lib/modules", 0755), 0);
}

START_TEST(no_list_is_no_failure)
{
	if (!cell_enter())
		return;
	ck_assert_str_eq(load(5000), "");
}
END_TEST

START_TEST(each_failure_is_told)
{
	const char *said;

	if (!cell_enter())
		return;
	make_dirs();
	cell_write(
	    "/lib/modules/load.list", "# a comment\n\n /absent/one.ko # and why\n\ttwo\n/bad\n");
	cell_write("/bad", "not a module");
	said = load(5000);
	ck_assert_ptr_nonnull(strstr(said, "module=\"/absent/one.ko: No such file or directory\""));
	ck_assert_ptr_nonnull(strstr(said, "module=\"two: No such file or directory\""));
	ck_assert_ptr_nonnull(strstr(said, "module=\"/bad: "));
	ck_assert_ptr_null(strstr(said, "comment"));
	ck_assert_ptr_null(strstr(said, "why"));
}
END_TEST

START_TEST(the_lists_of_etc_come_first)
{
	const char *said;

	if (!cell_enter())
		return;
	make_dirs();
	cell_write("/lib/modules/load.list", "one\n");
	cell_write("/etc/modules-load.conf", "two\n");
	said = load(5000);
	ck_assert_ptr_nonnull(strstr(said, "two: "));
	ck_assert_ptr_null(strstr(said, "one: "));
}
END_TEST

START_TEST(what_hangs_costs_a_bounded_time)
{
	uint64_t start_ns = clock_mono_ns();

	if (!cell_enter())
		return;
	make_dirs();
	ck_assert_int_eq(mkfifo("/slow.ko", 0600), 0); /* opening it waits for a writer */
	cell_write("/lib/modules/load.list", "/slow.ko\n");
	ck_assert_ptr_nonnull(strstr(load(200), "cannot load all modules"));
	ck_assert_uint_lt(clock_mono_ns() - start_ns, 5 * NS_PER_SEC);
}
END_TEST

START_TEST(a_list_that_is_too_long_is_told)
{
	static char text[70 * 1024];

	if (!cell_enter())
		return;
	make_dirs();
	memset(text, '#', sizeof text - 1);
	cell_write("/lib/modules/load.list", text);
	ck_assert_ptr_nonnull(strstr(load(5000), "cannot load all modules"));
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    no_list_is_no_failure,
	    each_failure_is_told,
	    the_lists_of_etc_come_first,
	    what_hangs_costs_a_bounded_time,
	    a_list_that_is_too_long_is_told,
	    NULL,
	};

	return suite_of("modules", tests);
}
