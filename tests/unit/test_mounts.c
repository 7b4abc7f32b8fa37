#include "init/mounts.h"

#include "base/log.h"
#include "cell.h"
#include "sys/mount.h"

#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>

static void quiet(void)
{
	struct span bad;

	ck_assert_int_eq(log_filter(span_str("off"), &bad), E_OK);
}

static void check_dir(const char *path, mode_t mode, bool mounted)
{
	struct stat st;

	ck_assert_msg(stat(path, &st) == 0, "%s is missing", path);
	ck_assert_msg((st.st_mode & 07777) == mode, "%s has mode %o", path, st.st_mode);
	ck_assert_msg(mount_is_there(path) == mounted, "%s", path);
}

/* Everything that a kernel has not. */
static void check_guest(void)
{
	char target[64] = "";

	check_dir("/sys/fs/cgroup", 0555, true);
	check_dir("/dev/pts", 0755, true);
	check_dir("/dev/shm", 01777, true);
	check_dir("/var/lib/docker", 0755, false);
	check_dir("/run/docker", 0755, false);
	check_dir("/run/containerd", 0755, false);
	ck_assert_int_gt(readlink("/dev/fd", target, sizeof target - 1), 0);
	ck_assert_str_eq(target, "/proc/self/fd");
	ck_assert_int_eq(access("/dev/stdin", F_OK), 0);
	ck_assert_ptr_nonnull(strstr(cell_read("/proc/self/mounts"), " devpts rw,nosuid,noexec,"));
	ck_assert_ptr_nonnull(strstr(cell_read("/proc/self/mounts"), ",gid=5,mode=620,"));
	ck_assert(mounts_are_writable());
}

START_TEST(layers_are_in_memory)
{
	struct statvfs fs;

	if (!cell_enter())
		return;
	quiet();
	mounts_first();
	check_dir("/sys", 0555, true);
	check_dir("/dev", 0755, true);
	mounts_rest(false);
	check_dir("/tmp", 01777, true);
	check_dir("/run", 0755, true);
	check_dir("/var", 0755, true);
	check_dir("/etc", 0755, true);
	ck_assert_int_eq(statvfs("/etc", &fs), 0);
	ck_assert((fs.f_flag & ST_NODEV) && (fs.f_flag & ST_NOSUID));
	check_guest();
}
END_TEST

START_TEST(a_second_time_changes_nothing)
{
	static char before[8192];

	if (!cell_enter())
		return;
	quiet();
	mounts_first();
	mounts_rest(false);
	cell_write("/etc/kept", "x");
	strcpy(before, cell_read("/proc/self/mounts"));
	mounts_first();
	mounts_rest(false);
	ck_assert_str_eq(cell_read("/proc/self/mounts"), before);
	ck_assert_int_eq(access("/etc/kept", F_OK), 0);
}
END_TEST

START_TEST(a_writable_root_is_kept)
{
	if (!cell_enter())
		return;
	quiet();
	ck_assert_int_eq(mkdir("/etc", 0755), 0);
	ck_assert_int_eq(mkdir("/tmp", 01777), 0);
	mounts_first();
	mounts_rest(true);
	ck_assert(!mount_is_there("/etc"));
	ck_assert(!mount_is_there("/var"));
	check_guest();
}
END_TEST

START_TEST(a_root_that_is_not_writable_is_not_kept)
{
	static const char *const dirs[] = {"/etc", "/tmp", "/run", "/var", "/sys", "/dev"};

	if (!cell_enter())
		return;
	quiet();
	for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++)
		ck_assert_int_eq(mkdir(dirs[i], 0755), 0);
	ck_assert_int_eq(mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	mounts_first();
	mounts_rest(true);
	ck_assert(mount_is_there("/etc"));
	check_guest();
}
END_TEST

START_TEST(says_when_a_layer_is_missing)
{
	if (!cell_enter())
		return;
	quiet();
	ck_assert_int_eq(mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	mounts_first();
	mounts_rest(false); /* there is no directory to mount on, and none can be made */
	ck_assert(!mounts_are_writable());
}
END_TEST

START_TEST(a_kernel_without_console_leaves_no_hole)
{
	if (!cell_enter())
		return;
	quiet();
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	mounts_first();
	ck_assert_int_ge(fcntl(STDIN_FILENO, F_GETFD), 0);
	ck_assert_int_ge(fcntl(STDOUT_FILENO, F_GETFD), 0);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    layers_are_in_memory,
	    a_second_time_changes_nothing,
	    a_writable_root_is_kept,
	    a_root_that_is_not_writable_is_not_kept,
	    says_when_a_layer_is_missing,
	    a_kernel_without_console_leaves_no_hole,
	    NULL,
	};

	return suite_of("mounts", tests);
}
