#include "init/init.h"

#include "base/log.h"
#include "cell.h"
#include "sys/mount.h"

#include <string.h>
#include <sys/resource.h>

static const char *const nameservers[] = {"127.0.0.1"};
static struct init_conf conf = {
    .modules_ms = 1000,
    .etc = {.nameservers = nameservers, .n_nameservers = 1, .domain = "arcbox.local"},
};

static bool enter(void)
{
	struct span bad;

	ck_assert_int_eq(log_filter(span_str("off"), &bad), E_OK);
	return cell_enter();
}

static const char *hostname(void)
{
	static char now[65];

	ck_assert_int_eq(gethostname(now, sizeof now), 0);
	return now;
}

START_TEST(makes_a_guest)
{
	if (!enter())
		return;
	ck_assert_int_eq(sethostname("(none)", 6), 0);
	init_first();
	ck_assert(init_rest(&conf));
	ck_assert(mount_is_there("/etc"));
	ck_assert_str_eq(hostname(), "arcbox");
	ck_assert_str_eq(
	    cell_read("/etc/resolv.conf"), "nameserver 127.0.0.1\nsearch arcbox.local\n");
}
END_TEST

START_TEST(a_second_time_changes_nothing)
{
	static char before[8192];

	if (!enter())
		return;
	init_first();
	ck_assert(init_rest(&conf));
	ck_assert_int_eq(sethostname("leased", 6), 0);
	strcpy(before, cell_read("/proc/self/mounts"));
	ck_assert(init_rest(&conf));
	ck_assert_str_eq(hostname(), "leased");
	ck_assert_str_eq(cell_read("/proc/self/mounts"), before);
}
END_TEST

START_TEST(the_hostname_asked_for_wins)
{
	if (!enter())
		return;
	ck_assert_int_eq(sethostname("other", 5), 0);
	conf.hostname = "guest";
	init_first();
	ck_assert(init_rest(&conf));
	ck_assert_str_eq(hostname(), "guest");
	ck_assert_ptr_nonnull(strstr(cell_read("/etc/hosts"), "127.0.1.1 guest\n"));
}
END_TEST

/* From what to what the limit of descriptors is raised; false where that is not allowed. */
static bool raise(rlim_t from, struct rlimit *to)
{
	const struct rlimit before = {from, from};

	if (setrlimit(RLIMIT_NOFILE, &before) < 0) {
		skip_test("the limit of descriptors cannot be raised here");
		return false;
	}
	ck_assert(init_rest(&conf));
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, to), 0);
	return true;
}

START_TEST(descriptors_are_raised_but_not_lowered)
{
	struct rlimit now;

	if (!enter())
		return;
	init_first();
	if (!raise(1048576 + 1, &now)) /* first, so that raising is known to be allowed */
		return;
	ck_assert_uint_eq(now.rlim_cur, 1048576 + 1);
	if (!raise(1024, &now))
		return;
	ck_assert_uint_eq(now.rlim_cur, 1048576);
	ck_assert_uint_eq(now.rlim_max, 1048576);
}
END_TEST

START_TEST(says_when_later_steps_cannot_work)
{
	if (!enter())
		return;
	ck_assert_int_eq(mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	init_first();
	ck_assert(!init_rest(&conf));
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    makes_a_guest,
	    a_second_time_changes_nothing,
	    the_hostname_asked_for_wins,
	    descriptors_are_raised_but_not_lowered,
	    says_when_later_steps_cannot_work,
	    NULL,
	};

	return suite_of("init", tests);
}
