#include "sys/btrfs.h"

#include "cell.h"
#include "fault.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <linux/fs.h>
#include <linux/loop.h>

/* --- without a Btrfs ------------------------------------------------------------------------- */

START_TEST(other_filesystems)
{
	unsigned fds = fault_fds();

	if (!cell_enter())
		return;
	ck_assert_int_eq(mkdir("/dir", 0755), 0);
	cell_write("/file", "");
	ck_assert(!btrfs_is_there("/"));
	ck_assert(!btrfs_is_there("/missing"));
	ck_assert_int_eq(btrfs_make_subvolume("/", "x"), -ENOTTY);
	ck_assert_int_eq(btrfs_make_subvolume("/missing", "x"), -ENOENT);
	ck_assert_int_eq(btrfs_make_subvolume("/file", "x"), -ENOTDIR);
	ck_assert_int_lt(btrfs_stop_cow("/dir"), 0);
	ck_assert_int_eq(btrfs_stop_cow("/missing"), -ENOENT);
	ck_assert_int_eq(btrfs_stop_cow("/file"), -ENOTDIR);
	ck_assert_uint_eq(fault_fds(), fds);
}
END_TEST

START_TEST(names_that_are_too_long)
{
	char name[8192];

	memset(name, 'x', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	ck_assert_int_eq(btrfs_make_subvolume("/", name), -ENAMETOOLONG);
}
END_TEST

/* --- with one, on a loop device ------------------------------------------------------------- */

static char dir[] = "/tmp/btrfs.XXXXXX";

/* A loop device over the file, which goes when it is neither open nor mounted; -1 where there are
 * none. */
static int make_device(int file, char device[32])
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
	struct loop_info64 info = {.lo_flags = LO_FLAGS_AUTOCLEAR};
	int loop;

	if (control >= 0)
		close(control);
	snprintf(device, 32, "/dev/loop%d", number);
	loop = number < 0 ? -1 : open(device, O_RDWR | O_CLOEXEC);
	if (loop < 0)
		return -1;
	if (ioctl(loop, LOOP_SET_FD, file) == 0 && ioctl(loop, LOOP_SET_STATUS64, &info) == 0)
		return loop;
	close(loop);
	return -1;
}

/* Makes a Btrfs and mounts it on `dir`, in a namespace of this test's own. */
static bool mount_btrfs(void)
{
	char image[64], command[128], device[32];
	int file, loop, rc;

	snprintf(image, sizeof image, "%s.image", dir);
	file = open(image, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ck_assert_int_ge(file, 0);
	ck_assert_int_eq(ftruncate(file, 128 << 20), 0);
	snprintf(command, sizeof command,
	    "PATH=$PATH:/usr/sbin:/sbin mkfs.btrfs -q %s >/dev/null 2>&1", image);
	rc = system(command);
	unlink(image);
	loop = rc == 0 ? make_device(file, device) : -1;
	close(file);
	if (loop < 0 || unshare(CLONE_NEWNS) < 0)
		return false;
	ck_assert_int_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	rc = mount(device, dir, "btrfs", 0, NULL);
	close(loop);
	return rc == 0;
}

static bool is_without_cow(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int flags = 0;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ioctl(fd, FS_IOC_GETFLAGS, &flags), 0);
	close(fd);
	return flags & FS_NOCOW_FL;
}

static void check_subvolumes(void)
{
	struct stat top, below;

	ck_assert(btrfs_is_there(dir));
	ck_assert_int_eq(btrfs_make_subvolume(dir, "@one"), 1);
	ck_assert_int_eq(btrfs_make_subvolume(dir, "@one"), 0);
	ck_assert_int_eq(stat(".", &top), 0);
	ck_assert_int_eq(stat("@one", &below), 0);
	ck_assert_uint_ne(top.st_dev, below.st_dev);
	ck_assert_int_eq(mkdir("@two", 0755), 0);
	ck_assert_int_eq(btrfs_make_subvolume(dir, "@two"), -EEXIST);
	cell_write("@three", "");
	ck_assert_int_eq(btrfs_make_subvolume(dir, "@three"), -EEXIST);
	ck_assert_int_eq(symlink("@one", "@four"), 0);
	ck_assert_int_eq(btrfs_make_subvolume(dir, "@four"), -EEXIST);
}

static void check_cow(void)
{
	ck_assert(!is_without_cow("@one"));
	ck_assert_int_eq(btrfs_stop_cow("@one"), 0);
	ck_assert_int_eq(btrfs_stop_cow("@one"), 0);
	ck_assert(is_without_cow("@one"));
	cell_write("@one/file", "x");
	ck_assert(is_without_cow("@one/file"));
	ck_assert(!is_without_cow("@two"));
}

START_TEST(subvolumes_and_flags)
{
	unsigned fds = fault_fds();

	ck_assert_ptr_nonnull(mkdtemp(dir));
	if (mount_btrfs()) {
		ck_assert_int_eq(chdir(dir), 0);
		check_subvolumes();
		check_cow();
		ck_assert_int_eq(chdir("/"), 0);
		ck_assert_int_eq(umount(dir), 0);
	} else {
		skip_test("no Btrfs can be made here");
	}
	ck_assert_int_eq(rmdir(dir), 0);
	ck_assert_uint_eq(fault_fds(), fds);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    other_filesystems,
	    names_that_are_too_long,
	    subvolumes_and_flags,
	    NULL,
	};

	return suite_of("btrfs", tests);
}
