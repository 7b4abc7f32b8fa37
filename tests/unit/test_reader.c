#include "system/reader.h"

#include "cases.h"
#include "fault.h"
#include "suite.h"
#include "sys/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATIENCE_TURNS = 500, WORKERS = 2, WAITING = 3, FILE_BYTES = 10000 };

static struct loop loop;
static struct reaper reaper;
static struct signals signals;
static struct reader *reader;
static char dir[32], path[64];
static unsigned fds, children;

/* What the last read came to. */
static struct {
	unsigned ends;
	int rc;
	uint64_t n;
	uint8_t bytes[FILE_BYTES];
} seen;

static void on_signal(struct signals *s, int sig)
{
	(void)s;
	if (sig == SIGCHLD)
		reaper_drain(&reaper);
}

static void ended(struct read_job *job, int rc, int fd, uint64_t n)
{
	ck_assert_ptr_eq(read_job_caller(job).owner, &seen);
	ck_assert_uint_eq(read_job_caller(job).id[1], 7);
	seen.ends++;
	seen.rc = rc;
	seen.n = n;
	if (rc < 0) {
		ck_assert_int_eq(fd, -1);
		return;
	}
	ck_assert_uint_le(n, sizeof seen.bytes);
	ck_assert_int_eq(pread(fd, seen.bytes, sizeof seen.bytes, 0), (ssize_t)n);
	close(fd);
}

static uint8_t byte_at(uint64_t i)
{
	return (uint8_t)('a' + i % 26);
}

/* Makes the file anew. */
static void write_file(size_t n)
{
	FILE *f = fopen(path, "we");

	ck_assert_ptr_nonnull(f);
	for (size_t i = 0; i < n; i++)
		putc(byte_at(i), f);
	ck_assert_int_eq(fclose(f), 0);
}

static void setup(void)
{
	signals_block();
	memset(&seen, 0, sizeof seen);
	strcpy(dir, "/tmp/reader.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/file", dir);
	write_file(FILE_BYTES);
	fds = fault_fds();
	children = fault_children();
	ck_assert_int_eq(loop_init(&loop), 0);
	reaper_init(&reaper, &loop);
	ck_assert_int_eq(signals_init(&signals, &loop, on_signal), 0);
	reader = reader_new(&loop, &reaper, WORKERS, WAITING, 5000);
	ck_assert_ptr_nonnull(reader);
}

static void turns_until(unsigned ends)
{
	for (int i = 0; i < PATIENCE_TURNS && (seen.ends < ends || reaper_count(&reaper)); i++)
		ck_assert_int_eq(loop_turn(&loop, 20), 0);
	ck_assert_uint_eq(seen.ends, ends);
}

static void teardown(void)
{
	reader_free(reader);
	for (int i = 0; i < PATIENCE_TURNS && fault_children() > children; i++) {
		ck_assert_int_eq(loop_turn(&loop, 20), 0);
		reaper_drain(&reaper);
	}
	signals_done(&signals);
	loop_done(&loop);
	unlink(path);
	rmdir(dir);
	ck_assert_uint_eq(fault_fds(), fds);
	ck_assert_uint_eq(fault_children(), children);
}

static int ask(const char *of, uint64_t offset, uint64_t length)
{
	const struct read_range range = {span_str(of), offset, length};

	return reader_read(reader, &range, ended, (struct read_caller){&seen, {1, 7}});
}

static void check_read(uint64_t offset, uint64_t length, uint64_t n)
{
	unsigned before = seen.ends;

	ck_assert_int_eq(ask(path, offset, length), 0);
	ck_assert_uint_eq(seen.ends, before);
	turns_until(before + 1);
	ck_assert_int_eq(seen.rc, 0);
	ck_assert_uint_eq(seen.n, n);
	for (uint64_t i = 0; i < n; i++)
		ck_assert_uint_eq(seen.bytes[i], byte_at(offset + i));
}

START_TEST(reads_ranges)
{
	setup();
	check_read(0, FILE_BYTES, FILE_BYTES);
	check_read(0, READER_RANGE_BYTES, FILE_BYTES);
	check_read(4097, 10, 10);
	check_read(FILE_BYTES - 1, 10, 1);
	check_read(FILE_BYTES, 10, 0);
	check_read(UINT64_MAX, 10, 0);
	teardown();
}
END_TEST

static void check_failure(const char *of, int rc)
{
	unsigned before = seen.ends;

	ck_assert_int_eq(ask(of, 0, 10), 0);
	turns_until(before + 1);
	ck_assert_int_eq(seen.rc, rc);
}

START_TEST(tells_why_it_cannot)
{
	setup();
	check_failure("/nonexistent/file", -ENOENT);
	check_failure(dir, -EISDIR);
	check_failure("/dev/null", -EINVAL);
	teardown();
}
END_TEST

START_TEST(refuses_at_once)
{
	static char longest[PATH_MAX + 1];
	const struct read_range with_nul = {span_of("a\0b", 3), 0, 1};

	setup();
	memset(longest, 'x', PATH_MAX);
	ck_assert_int_eq(ask("", 0, 1), -EINVAL);
	ck_assert_int_eq(ask(path, 0, READER_RANGE_BYTES + 1), -EINVAL);
	ck_assert_int_eq(ask(longest, 0, 1), -ENAMETOOLONG);
	ck_assert_int_eq(reader_read(reader, &with_nul, ended, (struct read_caller){0}), -EINVAL);
	teardown();
}
END_TEST

START_TEST(many_wait_in_order_and_one_more_is_refused)
{
	setup();
	for (int i = 0; i < WAITING; i++)
		ck_assert_int_eq(ask(path, 0, 5), 0);
	ck_assert_int_eq(ask(path, 0, 5), -EAGAIN);
	turns_until(WAITING);
	check_read(3, 5, 5);
	teardown();
}
END_TEST

START_TEST(is_freed_with_work_under_way)
{
	setup();
	for (int i = 0; i < WAITING; i++)
		ck_assert_int_eq(ask(path, 0, 5), 0);
	ck_assert_int_eq(loop_turn(&loop, 0), 0);
	teardown();
	ck_assert_uint_eq(seen.ends, 0);
}
END_TEST

START_TEST(a_fifo_that_nobody_writes_does_not_hang_it)
{
	char fifo[64];

	setup();
	snprintf(fifo, sizeof fifo, "%s/fifo", dir);
	ck_assert_int_eq(mkfifo(fifo, 0600), 0);
	check_failure(fifo, -EINVAL);
	unlink(fifo);
	teardown();
}
END_TEST

/* --- a file that shrinks meanwhile ------------------------------------------------------------ */

enum { LARGE_BYTES = 8 << 20, SEEN_BYTES = 1 << 20, LEFT_BYTES = 5000, ROUNDS = 50 };

/* How much the worker has copied: the answer is the one file in memory that is open here. */
static off_t copied_bytes(void)
{
	for (int fd = 3; fd < 64; fd++) {
		char link[32], name[32] = "";
		struct stat st;

		snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
		if (readlink(link, name, sizeof name - 1) > 0 && strstr(name, "memfd:read") &&
		    fstat(fd, &st) == 0)
			return st.st_size;
	}
	return -1;
}

/* All that was copied before the file shrank is right, and nothing was copied that was not there.
 */
static void ended_large(struct read_job *job, int rc, int fd, uint64_t n)
{
	static uint8_t bytes[LARGE_BYTES];

	(void)job;
	seen.ends++;
	seen.n = n;
	ck_assert_int_eq(rc, 0);
	ck_assert_int_eq(pread(fd, bytes, sizeof bytes, 0), (ssize_t)n);
	for (size_t i = 0; i < SEEN_BYTES; i++)
		if (bytes[i] != byte_at(i))
			ck_abort_msg("byte %zu of %zu", i, (size_t)n);
	close(fd);
}

/* Reads the file, cutting it when a part has been copied. Whether there was still more to copy. */
static bool shrinks_in_time(void)
{
	const struct read_range range = {span_str(path), 0, LARGE_BYTES};
	unsigned before = seen.ends;

	write_file(LARGE_BYTES);
	fault_short(256); /* a slow worker */
	ck_assert_int_eq(
	    reader_read(reader, &range, ended_large, (struct read_caller){&seen, {1, 7}}), 0);
	ck_assert_int_eq(loop_turn(&loop, 0), 0);
	fault_short(0);
	while (copied_bytes() < SEEN_BYTES)
		sched_yield();
	ck_assert_int_eq(truncate(path, LEFT_BYTES), 0);
	turns_until(before + 1);
	ck_assert_uint_ge(seen.n, SEEN_BYTES);
	return seen.n < LARGE_BYTES;
}

START_TEST(a_file_that_shrinks_is_short)
{
	bool shrank = false;

	setup();
	for (int i = 0; i < ROUNDS && !shrank; i++)
		shrank = shrinks_in_time();
	ck_assert(shrank);
	check_read(0, LEFT_BYTES, LEFT_BYTES);
	teardown();
}
END_TEST

START_TEST(failing_calls_fail_one_read)
{
	static const char *const calls[] = {
	    "memfd_create", "fork", "pipe2", "calloc", "mmap", "openat", "open", "fstat"};

	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		setup();
		FAULT_EACH(calls[i], EMFILE)
		{
			unsigned before = seen.ends;
			int rc = ask(path, 0, 10);

			if (rc == 0)
				turns_until(before + 1);
			ck_assert(rc < 0 || seen.rc <= 0);
		}
		check_read(0, 10, 10);
		teardown();
	}
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    reads_ranges,
	    tells_why_it_cannot,
	    refuses_at_once,
	    many_wait_in_order_and_one_more_is_refused,
	    is_freed_with_work_under_way,
	    a_fifo_that_nobody_writes_does_not_hang_it,
	    a_file_that_shrinks_is_short,
	    failing_calls_fail_one_read,
	    NULL,
	};

	return suite_of("reader", tests);
}
