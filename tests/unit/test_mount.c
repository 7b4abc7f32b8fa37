#include "sys/mount.h"

#include "cell.h"
#include "fault.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static struct mount_spec memory_at(const char *target)
{
	return (struct mount_spec){"tmpfs", target, "tmpfs", MS_NODEV, "mode=0711", 0700};
}

START_TEST(mounts_once)
{
	struct mount_spec spec = memory_at("/a/b/c");
	struct stat st;

	if (!cell_enter())
		return;
	ck_assert(!mount_is_there("/a/b/c"));
	ck_assert_int_eq(mount_ensure(&spec), 1);
	ck_assert_int_eq(mount_ensure(&spec), 0);
	ck_assert(mount_is_there("/a/b/c"));
	ck_assert(!mount_is_there("/a/b"));
	ck_assert_int_eq(stat("/a/b/c", &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0711);
	ck_assert_int_eq(stat("/a/b", &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0755);
}
END_TEST

START_TEST(knows_what_the_kernel_has)
{
	ck_assert(mount_knows("tmpfs"));
	ck_assert(mount_knows("proc"));
	ck_assert(!mount_knows("tmp"));
	ck_assert(!mount_knows("nodev"));
	ck_assert(!mount_knows(""));
}
END_TEST

START_TEST(a_failure_leaves_nothing)
{
	struct mount_spec spec = memory_at("/new");

	if (!cell_enter())
		return;
	spec.type = "no-such-filesystem";
	ck_assert_int_eq(mount_ensure(&spec), -ENODEV);
	ck_assert_int_eq(access("/new", F_OK), -1);
	ck_assert_int_eq(mkdir("/old", 0700), 0);
	spec.target = "/old";
	ck_assert_int_eq(mount_ensure(&spec), -ENODEV);
	ck_assert_int_eq(access("/old", F_OK), 0);
	cell_write("/file", "");
	spec.target = "/file/dir";
	ck_assert_int_eq(mount_ensure(&spec), -ENOTDIR);
}
END_TEST

START_TEST(tells_who_takes_writes)
{
	struct mount_spec spec = memory_at("/ro");

	if (!cell_enter())
		return;
	spec.flags |= MS_RDONLY;
	ck_assert_int_eq(mount_ensure(&spec), 1);
	ck_assert(!mount_is_writable("/ro"));
	ck_assert(mount_is_writable("/"));
	ck_assert(!mount_is_writable("/missing"));
}
END_TEST

START_TEST(shares_what_is_mounted_later)
{
	if (!cell_enter())
		return;
	ck_assert_int_eq(mount_share("/"), 0);
	ck_assert_ptr_nonnull(strstr(cell_read("/proc/self/mountinfo"), " shared:"));
	ck_assert_int_eq(mount_share("/missing"), -ENOENT);
}
END_TEST

/* The targets in the order in which they were told, each with its type. */
static char told[512];

static void tell(void *ctx, const char *target, const char *type)
{
	ck_assert_ptr_eq(ctx, told);
	if (strstr(target, "proc"))
		return;
	strcat(strcat(strcat(told, target), "="), type);
	strcat(told, ";");
}

START_TEST(lists_the_youngest_first)
{
	struct mount_spec one = memory_at("/one"), two = memory_at("/with blank\\and\ttab");

	if (!cell_enter())
		return;
	ck_assert_int_eq(mount_ensure(&one), 1);
	ck_assert_int_eq(mount_ensure(&two), 1);
	ck_assert_int_eq(mount_each(tell, told), 0);
	ck_assert_str_eq(told, "/with blank\\and\ttab=tmpfs;/one=tmpfs;/=tmpfs;");
	FAULT_EACH("open", EMFILE)
	{
		int rc = mount_each(tell, told);

		ck_assert(rc == 0 || rc == -EMFILE);
	}
	fault_arm("malloc", 1, ENOMEM, false);
	ck_assert_int_eq(mount_each(tell, told), -ENOMEM);
	ck_assert(fault_disarm());
}
END_TEST

/* A filesystem that holds data, of the one kind that needs no disk. */
static bool overlay_at(const char *target)
{
	const struct mount_spec spec = {
	    "overlay", target, "overlay", 0, "lowerdir=/l,upperdir=/u,workdir=/w", 0755};
	int rc;

	mkdir("/l", 0755);
	mkdir("/u", 0755);
	mkdir("/w", 0755);
	rc = mount_ensure(&spec);
	if (rc < 0)
		skip_test("the kernel has no overlay filesystem");
	return rc == 1;
}

START_TEST(releases_what_holds_data)
{
	struct mount_spec below = memory_at("/data/memory");
	char stayed[64] = "x";

	if (!cell_enter() || !overlay_at("/data"))
		return;
	ck_assert_int_eq(mount_ensure(&below), 1);
	ck_assert_int_eq(mount_release_all(stayed, sizeof stayed), 0);
	ck_assert_str_eq(stayed, "");
	ck_assert(!mount_is_there("/data"));
	ck_assert(mount_is_there("/proc"));
}
END_TEST

START_TEST(names_what_is_busy)
{
	char stayed[64];
	int fd;

	if (!cell_enter() || !overlay_at("/data"))
		return;
	fd = open("/data/file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(mount_release_all(stayed, sizeof stayed), 1);
	ck_assert_str_eq(stayed, "/data");
	close(fd);
	fd = open("/data/file", O_RDONLY | O_CLOEXEC); /* busy, but it can be made read-only */
	ck_assert_int_eq(mount_release_all(stayed, sizeof stayed), 0);
	ck_assert(!mount_is_writable("/data"));
	close(fd);
	fault_arm("open", 1, EMFILE, true);
	ck_assert_int_eq(mount_release_all(stayed, sizeof stayed), -EMFILE);
	fault_disarm();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    mounts_once,
	    knows_what_the_kernel_has,
	    a_failure_leaves_nothing,
	    tells_who_takes_writes,
	    shares_what_is_mounted_later,
	    lists_the_youngest_first,
	    releases_what_holds_data,
	    names_what_is_busy,
	    NULL,
	};

	return suite_of("mount", tests);
}
