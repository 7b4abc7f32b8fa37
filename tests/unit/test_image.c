#include "sys/image.h"

#include "fault.h"
#include "suite.h"
#include "sys/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[32];

static const char *in(const char *name)
{
	static char path[4][128];
	static unsigned at;
	char *to = path[at++ % 4];

	snprintf(to, sizeof path[0], "%s/%s", dir, name);
	return to;
}

static void setup(void)
{
	strcpy(dir, "/tmp/image.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(mkdir(in("root"), 0755), 0);
	ck_assert_int_eq(fs_replace_file(in("from"), span_str("content"), 0600), 0);
}

static void teardown(void)
{
	char command[64];

	snprintf(command, sizeof command, "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
}

static int open_root(void)
{
	int fd = open(in("root"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	return fd;
}

static void check_file(const char *name, mode_t mode)
{
	char text[16] = "";
	struct stat st;

	ck_assert_int_eq(lstat(in(name), &st), 0);
	ck_assert(S_ISREG(st.st_mode));
	ck_assert_uint_eq(st.st_mode & 07777, mode);
	ck_assert_int_eq(fs_read_file(in(name), text, sizeof text), 7);
	ck_assert_str_eq(text, "content");
}

START_TEST(a_file_is_put_in_place_of_another)
{
	int root;

	setup();
	root = open_root();
	ck_assert_int_eq(image_put(root, "sbin", "init", in("from"), 0755), 0);
	check_file("root/sbin/init", 0755);
	ck_assert_int_eq(image_put(root, "sbin", "init", in("from"), 0700), 0);
	check_file("root/sbin/init", 0700);
	ck_assert_int_eq(unlink(in("root/sbin/init")), 0);
	ck_assert_int_eq(symlink(in("from"), in("root/sbin/init")), 0);
	ck_assert_int_eq(image_put(root, "sbin", "init", in("from"), 0711), 0);
	check_file("root/sbin/init", 0711);
	check_file("from", 0600);
	close(root);
	teardown();
}
END_TEST

START_TEST(links_lead_to_nowhere_but_the_tree)
{
	int root;

	setup();
	root = open_root();
	ck_assert_int_eq(mkdir(in("outside"), 0755), 0);
	ck_assert_int_eq(symlink(in("outside"), in("root/sbin")), 0);
	ck_assert_int_eq(image_put(root, "sbin", "init", in("from"), 0755), -ENOENT);
	ck_assert_int_eq(unlink(in("root/sbin")), 0);
	ck_assert_int_eq(symlink("../../outside", in("root/sbin")), 0);
	ck_assert_int_eq(image_put(root, "sbin", "init", in("from"), 0755), -ENOENT);
	ck_assert_int_eq(rmdir(in("outside")), 0);
	ck_assert_int_eq(mkdir(in("root/usr"), 0755), 0);
	ck_assert_int_eq(unlink(in("root/sbin")), 0);
	ck_assert_int_eq(symlink("/usr", in("root/sbin")), 0);
	ck_assert_int_eq(image_put(root, "sbin", "init", in("from"), 0755), 0);
	check_file("root/usr/init", 0755);
	close(root);
	teardown();
}
END_TEST

START_TEST(what_cannot_be_put_is_told)
{
	int root;

	setup();
	root = open_root();
	ck_assert_int_eq(image_put(root, "sbin", "init", in("nothing"), 0755), -ENOENT);
	ck_assert_int_eq(unlink(in("root/sbin/init")), 0); /* it was made, though empty */
	ck_assert_int_eq(mkdir(in("root/sbin/init"), 0755), 0);
	ck_assert_int_eq(image_put(root, "sbin", "init", in("from"), 0755), -EISDIR);
	ck_assert_int_eq(fs_replace_file(in("root/file"), span_str("x"), 0600), 0);
	ck_assert_int_eq(image_put(root, "file", "init", in("from"), 0755), -ENOTDIR);
	close(root);
	teardown();
}
END_TEST

START_TEST(failing_calls_are_told)
{
	static const char *const calls[] = {"openat", "open", "fsync", "write"};
	unsigned fds;
	int root;

	setup();
	root = open_root();
	fds = fault_fds();
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		FAULT_EACH(calls[i], EIO)
		{
			int rc = image_put(root, "sbin", "init", in("from"), 0755);

			ck_assert(rc == 0 || rc == -EIO);
			ck_assert_uint_eq(fault_fds(), fds);
		}
	close(root);
	teardown();
}
END_TEST

START_TEST(what_is_no_image_is_not_mounted)
{
	unsigned fds = fault_fds();

	setup();
	ck_assert_int_eq(image_mount(in("nothing"), "ext4"), -ENOENT);
	if (access("/dev/loop-control", W_OK) < 0) {
		skip_test("loop devices need root");
	} else {
		ck_assert_int_lt(image_mount(in("from"), "ext4"), 0);
		ck_assert_int_lt(image_mount(in("from"), "nofs"), 0);
		fault_arm("open", 2, EMFILE, false);
		ck_assert_int_eq(image_mount(in("from"), "ext4"), -EMFILE);
		fault_arm("open", 3, EMFILE, false);
		ck_assert_int_eq(image_mount(in("from"), "ext4"), -EMFILE);
		fault_disarm();
	}
	ck_assert_uint_eq(fault_fds(), fds);
	teardown();
}
END_TEST

START_TEST(an_image_takes_files_until_it_is_closed)
{
	char command[128];
	int root;

	if (access("/dev/loop-control", W_OK) < 0 || access("/usr/sbin/mkfs.ext4", X_OK) < 0) {
		skip_test("an image needs root, loop devices and mkfs.ext4");
		return;
	}
	setup();
	snprintf(command, sizeof command, "truncate -s 4M %s && /usr/sbin/mkfs.ext4 -q -F %s 2>&1",
	    in("image"), in("image"));
	ck_assert_int_eq(system(command), 0);
	root = image_mount(in("image"), "ext4");
	ck_assert_int_ge(root, 0);
	ck_assert_int_eq(image_put(root, "sbin", "init", in("from"), 0755), 0);
	ck_assert_int_eq(close(root), 0);
	root = image_mount(in("image"), "ext4");
	ck_assert_int_ge(root, 0);
	ck_assert_int_eq(faccessat(root, "sbin/init", X_OK, 0), -1); /* noexec, as it is mounted */
	ck_assert_int_eq(faccessat(root, "sbin/init", R_OK, 0), 0);
	close(root);
	teardown();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    a_file_is_put_in_place_of_another,
	    links_lead_to_nowhere_but_the_tree,
	    what_cannot_be_put_is_told,
	    failing_calls_are_told,
	    what_is_no_image_is_not_mounted,
	    an_image_takes_files_until_it_is_closed,
	    NULL,
	};

	return suite_of("image", tests);
}
