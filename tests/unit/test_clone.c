#include "sys/clone.h"

#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[32], from[64], to[64];
static unsigned fds;

static void setup(void)
{
	strcpy(dir, "/tmp/clone.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(from, sizeof from, "%s/from", dir);
	snprintf(to, sizeof to, "%s/to", dir);
	fds = fault_fds();
}

static void teardown(void)
{
	ck_assert_uint_eq(fault_fds(), fds);
	unlink(from);
	unlink(to);
	ck_assert_int_eq(rmdir(dir), 0);
}

static void put(off_t at, const char *text)
{
	int fd = open(from, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, text, strlen(text), at), (ssize_t)strlen(text));
	close(fd);
}

static void assert_same(void)
{
	char command[160];

	snprintf(command, sizeof command, "cmp -s %s %s", from, to);
	ck_assert_int_eq(system(command), 0);
}

START_TEST(a_copy_has_the_same_bytes_and_holes)
{
	struct stat a, b;

	setup();
	put(0, "begin");
	put(3 << 20, "middle");
	ck_assert_int_eq(truncate(from, 16 << 20), 0);
	ck_assert_int_eq(clone_file(from, to, 0600), 0);
	assert_same();
	ck_assert_int_eq(stat(from, &a), 0);
	ck_assert_int_eq(stat(to, &b), 0);
	ck_assert_int_eq(b.st_size, 16 << 20);
	ck_assert_int_eq(b.st_mode & 07777, 0600);
	ck_assert_int_le(b.st_blocks, a.st_blocks + 64);
	teardown();
}
END_TEST

START_TEST(sizes_at_the_edge_are_copied)
{
	setup();
	put(0, "");
	ck_assert_int_eq(clone_file(from, to, 0600), 0);
	assert_same();
	unlink(to);
	ck_assert_int_eq(truncate(from, 5000), 0); /* nothing but a hole */
	ck_assert_int_eq(clone_file(from, to, 0600), 0);
	assert_same();
	unlink(to);
	put(4998, "end");
	ck_assert_int_eq(clone_file(from, to, 0600), 0);
	assert_same();
	teardown();
}
END_TEST

START_TEST(what_is_there_is_not_overwritten)
{
	setup();
	put(0, "new");
	ck_assert_int_eq(clone_file(from, to, 0600), 0);
	put(0, "newer");
	ck_assert_int_eq(clone_file(from, to, 0600), -EEXIST);
	teardown();
}
END_TEST

START_TEST(only_a_file_is_copied)
{
	setup();
	ck_assert_int_eq(clone_file(from, to, 0600), -ENOENT);
	ck_assert_int_eq(clone_file("/dev/null", to, 0600), -EINVAL);
	ck_assert_int_ne(access(to, F_OK), 0);
	ck_assert_int_eq(clone_file(dir, to, 0600), -EINVAL);
	ck_assert_int_eq(mkfifo(from, 0600), 0);
	ck_assert_int_eq(clone_file(from, to, 0600), -EINVAL); /* without waiting for a writer */
	teardown();
}
END_TEST

START_TEST(a_link_is_followed_to_its_file)
{
	char link_path[64];

	setup();
	put(0, "text");
	snprintf(link_path, sizeof link_path, "%s/link", dir);
	ck_assert_int_eq(symlink("from", link_path), 0);
	ck_assert_int_eq(clone_file(link_path, to, 0600), 0);
	assert_same();
	unlink(to);
	ck_assert_int_eq(clone_file_of_others(link_path, to, 0600), -ELOOP);
	ck_assert_int_ne(access(to, F_OK), 0);
	ck_assert_int_eq(clone_file_of_others(from, to, 0600), 0);
	assert_same();
	unlink(link_path);
	teardown();
}
END_TEST

START_TEST(on_failure_nothing_is_left)
{
	static const struct {
		const char *call;
		int err;
	} faults[] = {{"open", EMFILE}, {"fstat", EIO}, {"ftruncate", ENOSPC}, {"sendfile", ENOSPC},
	    {"close", EIO}};
	int rc = 0;

	setup();
	put(0, "text");
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
		FAULT_EACH(faults[i].call, faults[i].err)
		{
			rc = clone_file(from, to, 0600);
			ck_assert(rc == 0 || rc == -faults[i].err);
			ck_assert_int_eq(access(to, F_OK) == 0, rc == 0);
			unlink(to);
		}
		ck_assert_int_eq(rc, 0);
	}
	fault_arm("sendfile", 1, EINTR, false);
	ck_assert_int_eq(clone_file(from, to, 0600), 0);
	fault_disarm();
	assert_same();
	teardown();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    a_copy_has_the_same_bytes_and_holes,
	    sizes_at_the_edge_are_copied,
	    what_is_there_is_not_overwritten,
	    only_a_file_is_copied,
	    a_link_is_followed_to_its_file,
	    on_failure_nothing_is_left,
	    NULL,
	};

	return suite_of("clone", tests);
}
