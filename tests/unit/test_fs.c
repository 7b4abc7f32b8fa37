#include "sys/fs.h"

#include "fault.h"
#include "suite.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BIG_BYTES = (9 << 20) + 12345 }; /* three windows of fs_copy_range, the last one not full */

static char dir[] = "/tmp/test_fs.XXXXXX";
static char path[64];
static unsigned fds;

static void setup(void)
{
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/file", dir);
	fds = fault_fds();
}

static unsigned entries(void)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	for (struct dirent *e = readdir(d); e; e = readdir(d))
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

/* Nothing may be left in the directory but the file. */
static void teardown(void)
{
	unlink(path);
	ck_assert_int_eq(rmdir(dir), 0);
	ck_assert_uint_eq(fault_fds(), fds);
}

static void put(struct span s)
{
	ck_assert_int_eq(fs_replace_file(path, s, 0644), 0);
}

static void check_content(const char *expected)
{
	char buf[256];
	ssize_t n = fs_read_file(path, buf, sizeof buf);

	ck_assert_int_eq(n, (ssize_t)strlen(expected));
	ck_assert_mem_eq(buf, expected, (size_t)n);
}

/* --- whole files ----------------------------------------------------------------------------- */

START_TEST(reads_up_to_the_limit)
{
	char buf[8] = "........";

	setup();
	put(span_str("12345678"));
	ck_assert_int_eq(fs_read_file(path, buf, 7), -EFBIG);
	ck_assert_int_eq(fs_read_file(path, buf, 8), 8);
	ck_assert_mem_eq(buf, "12345678", 8);
	put(span_str(""));
	ck_assert_int_eq(fs_read_file(path, buf, 8), 0);
	ck_assert_int_eq(fs_read_file(path, buf, 0), 0);
	ck_assert_int_eq(fs_read_file("/nowhere/at/all", buf, 8), -ENOENT);
	ck_assert_int_eq(fs_read_file(dir, buf, 8), -EISDIR);
	teardown();
}
END_TEST

/* In a directory that others can write to, a file may be anything. */
START_TEST(does_not_wait_for_a_writer)
{
	char buf[8];

	setup();
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	ck_assert_int_eq(fs_read_file(path, buf, sizeof buf), 0);
	teardown();
}
END_TEST

START_TEST(reads_in_pieces)
{
	setup();
	put(span_str("one byte at a time"));
	fault_short(1);
	check_content("one byte at a time");
	put(span_str("written that way, too"));
	fault_short(0);
	check_content("written that way, too");
	teardown();
}
END_TEST

START_TEST(reads_pseudo_files)
{
	char buf[4096];

	setup();
	ck_assert_int_gt(fs_read_file("/proc/self/status", buf, sizeof buf), 100);
	teardown();
}
END_TEST

START_TEST(interruptions_do_not_show)
{
	setup();
	FAULT_EACH("write", EINTR)
	put(span_str("text"));
	FAULT_EACH("read", EINTR)
	check_content("text");
	teardown();
}
END_TEST

START_TEST(failed_read_is_told)
{
	char buf[8];

	setup();
	put(span_str("text"));
	fault_arm("read", 2, EIO, false);
	ck_assert_int_eq(fs_read_file(path, buf, sizeof buf), -EIO);
	fault_arm("open", 1, EMFILE, false);
	ck_assert_int_eq(fs_read_file(path, buf, sizeof buf), -EMFILE);
	fault_disarm();
	teardown();
}
END_TEST

START_TEST(replaces_with_mode)
{
	mode_t before = umask(077);
	struct stat st;

	setup();
	put(span_str("old"));
	ck_assert_int_eq(fs_replace_file(path, span_str("new"), 0751), 0);
	check_content("new");
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0751);
	ck_assert_uint_eq(entries(), 1);
	umask(before);
	teardown();
}
END_TEST

START_TEST(replaces_a_symlink_not_its_target)
{
	char target[80];
	struct stat st;

	setup();
	snprintf(target, sizeof target, "%s-target", path);
	ck_assert_int_eq(fs_replace_file(target, span_str("kept"), 0600), 0);
	ck_assert_int_eq(symlink(target, path), 0);
	put(span_str("new"));
	ck_assert_int_eq(lstat(path, &st), 0);
	ck_assert(S_ISREG(st.st_mode));
	check_content("new");
	ck_assert_int_eq(rename(target, path), 0);
	check_content("kept");
	teardown();
}
END_TEST

START_TEST(replaces_beside_itself)
{
	char cwd[4096];

	setup();
	ck_assert_ptr_nonnull(getcwd(cwd, sizeof cwd));
	ck_assert_int_eq(chdir(dir), 0);
	ck_assert_int_eq(fs_replace_file("file", span_str("relative"), 0600), 0);
	ck_assert_int_eq(chdir(cwd), 0);
	check_content("relative");
	teardown();
}
END_TEST

static void replace_fails(const char *call)
{
	put(span_str("old"));
	FAULT_EACH(call, ENOSPC)
	{
		int rc = fs_replace_file(path, span_str("new"), 0600);

		ck_assert(rc == 0 || rc == -ENOSPC);
		ck_assert_uint_eq(entries(), 1);
		ck_assert_uint_eq(fault_fds(), fds);
		fault_disarm();
		check_content(rc == 0 ? "new" : "old");
		if (rc == 0)
			break;
	}
}

START_TEST(failed_replacement_leaves_the_old_file)
{
	setup();
	replace_fails("open");
	replace_fails("write");
	replace_fails("close");
	replace_fails("rename");
	fault_arm("fsync", 1, EIO, false);
	ck_assert_int_eq(fs_replace_file(path, span_str("newer"), 0600), -EIO);
	fault_arm("fsync", 2, EINVAL, false); /* a directory that cannot be synced is no failure */
	ck_assert_int_eq(fs_replace_file(path, span_str("newest"), 0600), 0);
	ck_assert(fault_disarm());
	unlink(path);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	ck_assert_int_eq(fs_replace_file(path, span_str("x"), 0600), -EISDIR);
	ck_assert_uint_eq(entries(), 1);
	ck_assert_int_eq(rmdir(path), 0);
	teardown();
}
END_TEST

START_TEST(replacement_needs_a_name_that_fits)
{
	static char name[5000];

	setup();
	memset(name, '/', sizeof name - 1);
	ck_assert_int_eq(fs_replace_file(name, span_str("x"), 0600), -ENAMETOOLONG);
	ck_assert_int_eq(fs_replace_file("/nowhere/file", span_str("x"), 0600), -ENOENT);
	teardown();
}
END_TEST

/* --- descriptors ----------------------------------------------------------------------------- */

/* Reads the pipe to its end in a child, slowly, and exits with 0 when all of `n` bytes came. */
static pid_t drain_slowly(const int pipe_fds[2], size_t n)
{
	pid_t pid = fork();
	char buf[4096];

	if (pid != 0)
		return pid;
	close(pipe_fds[1]);
	usleep(20000);
	for (ssize_t got; (got = read(pipe_fds[0], buf, sizeof buf)) > 0;)
		n -= (size_t)got;
	_exit(n != 0);
}

START_TEST(waits_for_a_full_descriptor)
{
	static char data[300000];
	int pipe_fds[2], status;
	pid_t pid;

	setup();
	ck_assert_int_eq(pipe(pipe_fds), 0);
	ck_assert_int_eq(fcntl(pipe_fds[1], F_SETFL, O_NONBLOCK), 0);
	pid = drain_slowly(pipe_fds, sizeof data);
	close(pipe_fds[0]);
	ck_assert_int_eq(fs_write_all(pipe_fds[1], span_of(data, sizeof data)), 0);
	close(pipe_fds[1]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	teardown();
}
END_TEST

START_TEST(failed_write_is_told)
{
	setup();
	ck_assert_int_eq(fs_write_all(-1, span_str("x")), -EBADF);
	ck_assert_int_eq(fs_write_all(-1, span_str("")), 0);
	teardown();
}
END_TEST

START_TEST(makes_a_file_in_memory)
{
	int fd;

	setup();
	fd = fs_memfd("test");
	ck_assert_int_ge(fd, 0);
	ck_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	fault_arm("memfd_create", 1, ENFILE, false);
	ck_assert_int_eq(fs_memfd("test"), -ENFILE);
	ck_assert(fault_disarm());
	teardown();
}
END_TEST

START_TEST(knows_a_program)
{
	setup();
	ck_assert(fs_is_program("/bin/sh"));
	ck_assert(!fs_is_program("/bin"));
	ck_assert(!fs_is_program("/nowhere/at/all"));
	put(span_str("#!/bin/sh\n"));
	ck_assert(!fs_is_program(path));
	ck_assert_int_eq(chmod(path, 0700), 0);
	ck_assert(fs_is_program(path));
	teardown();
}
END_TEST

/* --- ranges ---------------------------------------------------------------------------------- */

static uint8_t big[BIG_BYTES];

static void put_big(void)
{
	for (size_t i = 0; i < sizeof big; i++)
		big[i] = (uint8_t)(i * 7 + i / 251);
	put(span_of(big, sizeof big));
}

static void check_copy(uint64_t offset, uint64_t length, uint64_t expected)
{
	static uint8_t got[BIG_BYTES + 1];
	int out = fs_memfd("copy");

	ck_assert_int_eq(fs_copy_range(path, offset, length, out), (int64_t)expected);
	ck_assert_int_eq(pread(out, got, sizeof got, 0), (ssize_t)expected);
	if (expected)
		ck_assert_mem_eq(got, big + offset, expected);
	close(out);
}

START_TEST(copies_ranges)
{
	const uint64_t window = 4 << 20;

	setup();
	put_big();
	check_copy(0, BIG_BYTES, BIG_BYTES);
	check_copy(0, 0, 0);
	check_copy(0, 1, 1);
	check_copy(4095, 2, 2);
	check_copy(4097, 100000, 100000);
	check_copy(window - 1, 2, 2);
	check_copy(window, window, window);
	check_copy(window + 1, 2 * window, BIG_BYTES - window - 1);
	check_copy(BIG_BYTES - 1, 1, 1);
	teardown();
}
END_TEST

START_TEST(range_past_the_end_is_short)
{
	setup();
	put_big();
	check_copy(BIG_BYTES - 10, 4096, 10);
	check_copy(BIG_BYTES, 1, 0);
	check_copy(BIG_BYTES + 1, 1, 0);
	check_copy(5, UINT64_MAX, BIG_BYTES - 5);
	check_copy(UINT64_MAX, UINT64_MAX, 0);
	check_copy(INT64_MAX, INT64_MAX, 0);
	put(span_str(""));
	check_copy(0, 100, 0);
	teardown();
}
END_TEST

START_TEST(copies_in_pieces)
{
	setup();
	put_big();
	fault_short(100000);
	check_copy(3, 5 << 20, 5 << 20);
	fault_short(0);
	FAULT_EACH("write", EINTR)
	check_copy(3, 5 << 20, 5 << 20);
	teardown();
}
END_TEST

START_TEST(copies_from_files_only)
{
	setup();
	ck_assert_int_eq(fs_copy_range(dir, 0, 1, -1), -EISDIR);
	ck_assert_int_eq(fs_copy_range("/dev/zero", 0, 1, -1), -EINVAL);
	ck_assert_int_eq(fs_copy_range("/nowhere/at/all", 0, 1, -1), -ENOENT);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	ck_assert_int_eq(fs_copy_range(path, 0, 1, -1), -EINVAL); /* does not wait for a writer */
	unlink(path);
	put(span_str("text"));
	ck_assert_int_eq(fs_copy_range(path, 0, 1, -1), -EBADF);
	teardown();
}
END_TEST

/* Whether rc tells of the end of a file that has shrunk to `left` bytes: its last page may be read
 * as a whole. */
static bool is_short(int64_t rc, uint64_t left)
{
	return rc >= 0 && rc < BIG_BYTES && (uint64_t)rc <= left + 4096;
}

/* The copy goes to a pipe whose reader shrinks the file once it has seen the first bytes. */
START_TEST(file_that_shrinks_is_short)
{
	const off_t left = (5 << 20) + 1000;
	int pipe_fds[2], status;
	char buf[65536];
	int64_t rc;
	pid_t pid;

	setup();
	put_big();
	ck_assert_int_eq(pipe(pipe_fds), 0);
	pid = fork();
	if (pid == 0) {
		close(pipe_fds[1]);
		if (read(pipe_fds[0], buf, 1) != 1 || truncate(path, left) < 0)
			_exit(1);
		while (read(pipe_fds[0], buf, sizeof buf) > 0)
			;
		_exit(0);
	}
	close(pipe_fds[0]);
	rc = fs_copy_range(path, 0, BIG_BYTES, pipe_fds[1]);
	ck_assert_msg(is_short(rc, (uint64_t)left), "%lld", (long long)rc);
	ck_assert_int_ge(rc, left);
	close(pipe_fds[1]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	teardown();
}
END_TEST

START_TEST(failed_copy_is_told)
{
	int out;

	setup();
	put_big();
	out = fs_memfd("copy");
	fault_arm("open", 1, EMFILE, false);
	ck_assert_int_eq(fs_copy_range(path, 0, 1, out), -EMFILE);
	fault_arm("fstat", 1, EIO, false);
	ck_assert_int_eq(fs_copy_range(path, 0, 1, out), -EIO);
	fault_arm("mmap", 1, ENODEV, false);
	ck_assert_int_eq(fs_copy_range(path, 0, 1, out), -ENODEV);
	fault_arm("mmap", 2, ENOMEM, false);
	ck_assert_int_eq(fs_copy_range(path, 0, BIG_BYTES, out), -ENOMEM);
	fault_arm("write", 1, ENOSPC, false);
	ck_assert_int_eq(fs_copy_range(path, 0, 1, out), -ENOSPC);
	/* The pages cannot be read although the file reaches there. */
	fault_arm("write", 1, EFAULT, false);
	ck_assert_int_eq(fs_copy_range(path, 0, 1, out), -EIO);
	ck_assert(fault_disarm());
	close(out);
	teardown();
}
END_TEST

START_TEST(ensures_a_content)
{
	struct stat before, after;

	setup();
	ck_assert_int_eq(fs_ensure_file(path, span_str("one"), 0640), 1);
	ck_assert_int_eq(stat(path, &before), 0);
	ck_assert_uint_eq(before.st_mode & 07777, 0640);
	ck_assert_int_eq(fs_ensure_file(path, span_str("one"), 0640), 0);
	ck_assert_int_eq(stat(path, &after), 0);
	ck_assert_uint_eq(after.st_ino, before.st_ino);
	ck_assert_int_eq(fs_ensure_file(path, span_str("on"), 0640), 1); /* a start is not all */
	ck_assert_int_eq(fs_ensure_file(path, span_str("one"), 0640), 1);
	fault_arm("malloc", 1, ENOMEM, false);
	ck_assert_int_eq(fs_ensure_file(path, span_str("one"), 0640), 1); /* not known: written */
	ck_assert(fault_disarm());
	ck_assert_int_eq(fs_ensure_file("/dev/null/file", span_str("one"), 0640), -ENOTDIR);
	teardown();
}
END_TEST

START_TEST(writes_a_value)
{
	char now[8];

	setup();
	ck_assert_int_eq(fs_write_value(path, "1"), -ENOENT);
	ck_assert_int_eq(fs_ensure_file(path, span_of(NULL, 0), 0600), 1);
	ck_assert_int_eq(fs_write_value(path, "1"), 0);
	ck_assert_int_eq(fs_read_file(path, now, sizeof now), 1);
	FAULT_EACH("write", EINVAL)
	{
		int rc = fs_write_value(path, "1");

		ck_assert(rc == 0 || rc == -EINVAL);
	}
	fault_arm("close", 1, EIO, false); /* some files of the kernel refuse a value so late */
	ck_assert_int_eq(fs_write_value(path, "1"), -EIO);
	ck_assert(fault_disarm());
	teardown();
}
END_TEST

START_TEST(makes_directories)
{
	char deep[PATH_MAX + 16];
	struct stat st;

	setup();
	snprintf(deep, sizeof deep, "%s.d/a/b", path);
	umask(077);
	ck_assert_int_eq(fs_make_dirs(deep, 01777), 1);
	umask(022);
	ck_assert_int_eq(stat(deep, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 01777);
	ck_assert_int_eq(fs_make_dirs(deep, 0700), 0);
	ck_assert_int_eq(stat(deep, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 01777); /* as it was */
	rmdir(deep);
	deep[strlen(deep) - 2] = '\0';
	ck_assert_int_eq(stat(deep, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0755);
	rmdir(deep);
	deep[strlen(deep) - 2] = '\0';
	rmdir(deep);
	ck_assert_int_eq(fs_make_dirs("/dev/null", 0755), -ENOTDIR);
	ck_assert_int_eq(fs_make_dirs("/dev/null/a", 0755), -ENOTDIR);
	memset(deep, 'x', sizeof deep - 1);
	deep[sizeof deep - 1] = '\0';
	ck_assert_int_eq(fs_make_dirs(deep, 0755), -ENAMETOOLONG);
	teardown();
}
END_TEST

START_TEST(ensures_a_link)
{
	setup();
	ck_assert_int_eq(fs_ensure_symlink("/proc/self/fd", path), 1);
	ck_assert_int_eq(fs_ensure_symlink("/proc/self/fd", path), 0);
	ck_assert_int_eq(fs_ensure_symlink("/proc/self", path), -EEXIST);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(fs_ensure_file(path, span_of(NULL, 0), 0600), 1);
	ck_assert_int_eq(fs_ensure_symlink("/proc/self", path), -EEXIST);
	ck_assert_int_eq(fs_ensure_symlink("/proc/self", "/dev/null/link"), -ENOTDIR);
	teardown();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    reads_up_to_the_limit,
	    does_not_wait_for_a_writer,
	    reads_in_pieces,
	    reads_pseudo_files,
	    interruptions_do_not_show,
	    failed_read_is_told,
	    replaces_with_mode,
	    replaces_a_symlink_not_its_target,
	    replaces_beside_itself,
	    failed_replacement_leaves_the_old_file,
	    replacement_needs_a_name_that_fits,
	    waits_for_a_full_descriptor,
	    failed_write_is_told,
	    makes_a_file_in_memory,
	    knows_a_program,
	    ensures_a_content,
	    writes_a_value,
	    makes_directories,
	    ensures_a_link,
	    copies_ranges,
	    range_past_the_end_is_short,
	    copies_in_pieces,
	    copies_from_files_only,
	    file_that_shrinks_is_short,
	    failed_copy_is_told,
	    NULL,
	};

	return suite_of("fs", tests);
}
