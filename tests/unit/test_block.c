#include "sys/block.h"

#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/loop.h>

static char path[] = "/tmp/block.XXXXXX";
static unsigned fds;

static void make_file(const char *content)
{
	int fd;

	fds = fault_fds();
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, content, strlen(content)), (ssize_t)strlen(content));
	close(fd);
}

static void remove_file(void)
{
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_uint_eq(fault_fds(), fds);
}

START_TEST(a_file_stands_for_a_device)
{
	char buf[8] = "";
	uint64_t size = 0;
	int fd;

	make_file("0123456789");
	fd = block_open(path, &size);
	ck_assert_int_ge(fd, 0);
	ck_assert_uint_eq(size, 10);
	ck_assert_int_eq(block_read(fd, 3, buf, 5), 0);
	ck_assert_str_eq(buf, "34567");
	ck_assert_int_eq(block_read(fd, 10, buf, 0), 0);
	ck_assert_int_eq(block_read(fd, 8, buf, 3), -EIO);
	ck_assert_int_eq(block_read(fd, UINT64_MAX, buf, 1), -EINVAL);
	close(fd);
	ck_assert_int_eq(block_read(fd, 0, buf, 1), -EBADF);
	remove_file();
}
END_TEST

START_TEST(what_is_no_device)
{
	uint64_t size = 7;

	make_file("");
	ck_assert_int_eq(block_open(path, &size), -ENOMEDIUM);
	ck_assert_int_eq(block_open("/dev/null", &size), -ENOTBLK);
	ck_assert_int_eq(block_open("/", &size), -ENOTBLK);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(block_open(path, &size), -ENOENT);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	ck_assert_int_eq(block_open(path, &size), -ENOTBLK);
	fault_arm("open", 1, EMFILE, false);
	ck_assert_int_eq(block_open(path, &size), -EMFILE);
	ck_assert(fault_disarm());
	fault_arm("fstat", 1, EIO, false);
	ck_assert_int_eq(block_open(path, &size), -EIO);
	ck_assert(fault_disarm());
	ck_assert_uint_eq(size, 7);
	remove_file();
}
END_TEST

/* A loop device over the file, which goes when it is closed; -1 where there are none. */
static int make_device(char device[32])
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
	struct loop_info64 info = {.lo_flags = LO_FLAGS_AUTOCLEAR};
	int file, loop;

	if (control >= 0)
		close(control);
	snprintf(device, 32, "/dev/loop%d", number);
	loop = number < 0 ? -1 : open(device, O_RDWR | O_CLOEXEC);
	if (loop < 0)
		return -1;
	file = open(path, O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(file, 0);
	if (ioctl(loop, LOOP_SET_FD, file) < 0 || ioctl(loop, LOOP_SET_STATUS64, &info) < 0) {
		close(loop);
		loop = -1;
	}
	close(file);
	return loop;
}

START_TEST(a_device_has_its_own_size)
{
	char device[32], buf[4] = "";
	uint64_t size = 0;
	int loop, fd;

	make_file("abc");
	ck_assert_int_eq(truncate(path, 1 << 20), 0);
	loop = make_device(device);
	if (loop < 0) {
		skip_test("no loop devices here");
	} else {
		fd = block_open(device, &size);
		ck_assert_int_ge(fd, 0);
		ck_assert_uint_eq(size, 1 << 20);
		ck_assert_int_eq(block_read(fd, 0, buf, 3), 0);
		ck_assert_str_eq(buf, "abc");
		ck_assert_int_eq(block_read(fd, (1 << 20) - 1, buf, 2), -EIO);
		close(fd);
		close(loop);
	}
	remove_file();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    a_file_stands_for_a_device,
	    what_is_no_device,
	    a_device_has_its_own_size,
	    NULL,
	};

	return suite_of("block", tests);
}
