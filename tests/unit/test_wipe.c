#include "runtime/wipe.h"

#include "cell.h"
#include "suite.h"

#include <fcntl.h>

static const char *const paths[] = {"/a", "/b", NULL};
static struct notes notes;

static bool setup(void)
{
	if (!cell_enter())
		return false;
	ck_assert_int_eq(mkdir("/a", 0755), 0);
	ck_assert_int_eq(mkdir("/precious", 0755), 0);
	cell_write("/precious/file", "dear");
	return true;
}

static void wipe(const char *text)
{
	notes_clear(&notes);
	wipe_directories(paths, &notes);
	ck_assert_str_eq(notes.text, text);
	ck_assert_str_eq(cell_read("/precious/file"), "dear");
}

static void mount_at(const char *source, const char *path)
{
	mkdir(path, 0755);
	if (source)
		ck_assert_int_eq(mount(source, path, NULL, MS_BIND, NULL), 0);
	else
		ck_assert_int_eq(mount("tmpfs", path, "tmpfs", 0, NULL), 0);
}

START_TEST(files)
{
	if (!setup())
		return;
	cell_write("/a/x", "");
	wipe("/a emptied");
	ck_assert_int_eq(mkdir("/b", 0755), 0);
	wipe("/a emptied; /b emptied");
}
END_TEST

START_TEST(mounts_on_mounts)
{
	if (!setup())
		return;
	mount_at("/precious", "/a/bind");
	mount_at(NULL, "/a/bind");
	mount_at(NULL, "/a/m");
	mount_at("/precious", "/a/m/inner blank");
	cell_write("/a/m/x", "");
	wipe("4 unmounted below /a; /a emptied");
}
END_TEST

/* A directory may be a mount itself: it stays, and what has a name that only begins like it. */
START_TEST(mounts_that_are_not_below)
{
	if (!setup())
		return;
	mount_at(NULL, "/a");
	mount_at(NULL, "/ab");
	cell_write("/a/x", "");
	cell_write("/ab/x", "other");
	wipe("/a emptied");
	ck_assert_str_eq(cell_read("/ab/x"), "other");
	ck_assert_int_eq(umount("/a"), 0);
}
END_TEST

START_TEST(busy_mount)
{
	int fd;

	if (!setup())
		return;
	mount_at("/precious", "/a/one");
	mount_at(NULL, "/a/two");
	cell_write("/a/two/x", "held");
	fd = open("/a/two/x", O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	wipe("1 unmounted below /a; 1 still mounted below /a, /a/two: Device or resource busy; "
	     "/a not empty, 1 left, first two: something is mounted there");
	ck_assert_str_eq(cell_read("/a/two/x"), "held");
	close(fd);
	wipe("1 unmounted below /a; /a emptied");
}
END_TEST

START_TEST(links_in_the_place_of_directories)
{
	if (!setup())
		return;
	mount_at("/precious", "/precious/below");
	ck_assert_int_eq(symlink("/precious", "/b"), 0);
	wipe("/a emptied; /b left alone: Not a directory");
	ck_assert_str_eq(cell_read("/precious/below/file"), "dear");
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {files, mounts_on_mounts, mounts_that_are_not_below,
	    busy_mount, links_in_the_place_of_directories, NULL};

	return suite_of("wipe", tests);
}
