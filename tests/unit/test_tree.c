#include "sys/tree.h"

#include "cell.h"
#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <string.h>

static struct tree_report report;

static bool setup(void)
{
	if (!cell_enter())
		return false;
	ck_assert_int_eq(mkdir("/d", 0755), 0);
	ck_assert_int_eq(mkdir("/precious", 0755), 0);
	cell_write("/precious/file", "dear");
	return true;
}

static void check_unhurt(void)
{
	ck_assert_str_eq(cell_read("/precious/file"), "dear");
}

/* That all is gone but the directory. */
static void check_emptied(uint64_t removed)
{
	ck_assert_int_eq(tree_empty("/d", &report), 0);
	ck_assert_uint_eq(report.removed, removed);
	ck_assert_uint_eq(report.stayed, 0);
	ck_assert_int_eq(report.rc, 0);
	ck_assert_str_eq(report.first, "");
	check_unhurt();
	ck_assert_int_eq(rmdir("/d"), 0);
}

START_TEST(of_all_kinds)
{
	if (!setup())
		return;
	cell_write("/d/file", "x");
	ck_assert_int_eq(mkfifo("/d/fifo", 0600), 0);
	ck_assert_int_eq(mkdir("/d/sub", 0), 0);
	cell_write("/d/sub/read-only", "x");
	ck_assert_int_eq(chmod("/d/sub/read-only", 0), 0);
	cell_write("/d/.hidden", "x");
	cell_write("/d/\x01\n\xff", "x");
	check_emptied(6);
}
END_TEST

START_TEST(of_nothing)
{
	if (!setup())
		return;
	check_emptied(0);
	ck_assert_int_eq(tree_empty("/d", &report), -ENOENT);
}
END_TEST

START_TEST(links_are_not_followed)
{
	if (!setup())
		return;
	ck_assert_int_eq(symlink("/precious", "/d/dir"), 0);
	ck_assert_int_eq(symlink("/precious/file", "/d/file"), 0);
	ck_assert_int_eq(symlink("../precious", "/d/up"), 0);
	ck_assert_int_eq(symlink("nowhere", "/d/dangling"), 0);
	ck_assert_int_eq(mkdir("/d/sub", 0755), 0);
	ck_assert_int_eq(symlink("..", "/d/sub/loop"), 0);
	ck_assert_int_eq(link("/precious/file", "/d/hard"), 0);
	check_emptied(7);
}
END_TEST

START_TEST(of_a_link_or_a_file)
{
	if (!setup())
		return;
	ck_assert_int_eq(symlink("/precious", "/link"), 0);
	ck_assert_int_eq(tree_empty("/link", &report), -ENOTDIR);
	ck_assert_int_eq(tree_empty("/precious/file", &report), -ENOTDIR);
	check_unhurt();
}
END_TEST

static void check_mount_stays(const char *first, uint64_t removed)
{
	memset(&report, 0xff, sizeof report);
	ck_assert_int_eq(tree_empty("/d", &report), 0);
	ck_assert_uint_eq(report.removed, removed);
	ck_assert_uint_eq(report.stayed, 1);
	ck_assert_str_eq(report.first, first);
	check_unhurt();
}

/* The same filesystem, so that a device number would not tell. */
START_TEST(bind_mount_of_the_same_filesystem)
{
	if (!setup())
		return;
	cell_write("/d/x", "");
	ck_assert_int_eq(mkdir("/d/m", 0755), 0);
	ck_assert_int_eq(mount("/precious", "/d/m", NULL, MS_BIND, NULL), 0);
	check_mount_stays("m", 1);
	ck_assert_int_eq(report.rc, -EXDEV);
	ck_assert_str_eq(cell_read("/d/m/file"), "dear");
	ck_assert_int_eq(umount("/d/m"), 0);
	check_emptied(1);
}
END_TEST

START_TEST(mount_deep_below)
{
	if (!setup())
		return;
	ck_assert_int_eq(mkdir("/d/a", 0755), 0);
	ck_assert_int_eq(mkdir("/d/a/b", 0755), 0);
	cell_write("/d/a/x", "");
	cell_write("/d/a/b/x", "");
	ck_assert_int_eq(mkdir("/d/a/b/m", 0755), 0);
	ck_assert_int_eq(mount("tmpfs", "/d/a/b/m", "tmpfs", 0, NULL), 0);
	cell_write("/d/a/b/m/x", "here");
	check_mount_stays("a", 2);
	ck_assert_int_eq(report.rc, -EXDEV);
	ck_assert_str_eq(cell_read("/d/a/b/m/x"), "here");
	ck_assert_int_eq(umount("/d/a/b/m"), 0);
	check_emptied(3);
}
END_TEST

START_TEST(file_that_is_mounted)
{
	if (!setup())
		return;
	cell_write("/d/f", "below");
	ck_assert_int_eq(mount("/precious/file", "/d/f", NULL, MS_BIND, NULL), 0);
	check_mount_stays("f", 0);
	ck_assert_int_eq(report.rc, -EBUSY);
	ck_assert_int_eq(umount("/d/f"), 0);
	check_emptied(1);
}
END_TEST

/* Deeper than there are descriptors, and than a path can be long. */
START_TEST(deep)
{
	enum { LEVELS = 3000 };

	if (!setup())
		return;
	ck_assert_int_eq(chdir("/d"), 0);
	for (int i = 0; i < LEVELS; i++) {
		ck_assert_int_eq(mkdir("d", 0755), 0);
		ck_assert_int_eq(chdir("d"), 0);
		if (i % 100 == 0)
			cell_write("file", "x");
	}
	ck_assert_int_eq(chdir("/"), 0);
	check_emptied(LEVELS + LEVELS / 100);
}
END_TEST

/* One that cannot be removed keeps those above it, and only those. */
START_TEST(deep_around_a_mount)
{
	enum { LEVELS = 100 };

	if (!setup())
		return;
	ck_assert_int_eq(chdir("/d"), 0);
	for (int i = 0; i < LEVELS; i++) {
		ck_assert_int_eq(mkdir("d", 0755), 0);
		ck_assert_int_eq(chdir("d"), 0);
	}
	ck_assert_int_eq(mount("/precious", ".", NULL, MS_BIND, NULL), 0);
	ck_assert_int_eq(chdir("/"), 0);
	ck_assert_int_eq(tree_empty("/d", &report), 0);
	ck_assert_uint_eq(report.stayed, 1);
	ck_assert_int_eq(report.rc, -EXDEV);
	check_unhurt();
}
END_TEST

START_TEST(wide)
{
	char path[64];

	if (!setup())
		return;
	for (int i = 0; i < 5000; i++) {
		snprintf(path, sizeof path, "/d/%d", i);
		cell_write(path, "");
	}
	check_emptied(5000);
}
END_TEST

START_TEST(faults)
{
	unsigned fds;

	if (!setup())
		return;
	ck_assert_int_eq(mkdir("/d/a", 0755), 0);
	cell_write("/d/a/x", "");
	fds = fault_fds();
	fault_arm("malloc", 1, ENOMEM, true);
	ck_assert_int_eq(tree_empty("/d", &report), 0);
	fault_disarm();
	ck_assert_uint_eq(fault_fds(), fds);
	FAULT_EACH("openat", EMFILE)
	{
		tree_empty("/d", &report);
	}
	ck_assert_uint_eq(fault_fds(), fds);
	fault_arm("open", 1, EMFILE, false);
	ck_assert_int_eq(tree_empty("/d", &report), -EMFILE);
	fault_disarm();
	ck_assert_int_eq(tree_empty("/d", &report), 0);
	ck_assert_int_eq(rmdir("/d"), 0);
	check_unhurt();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {of_all_kinds, of_nothing, links_are_not_followed,
	    of_a_link_or_a_file, bind_mount_of_the_same_filesystem, mount_deep_below,
	    file_that_is_mounted, deep, deep_around_a_mount, wide, faults, NULL};

	return suite_of("tree", tests);
}
