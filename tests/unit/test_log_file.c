#include "system/log_file.h"

#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char place[] = "/tmp/test_log_file.XXXXXX";
static char path[128];

static void setup(void)
{
	signal(SIGPIPE, SIG_IGN);
	ck_assert_ptr_nonnull(mkdtemp(place));
	snprintf(path, sizeof path, "%s/log/agent.log", place);
}

static void remove_all(void)
{
	char dir[128];

	unlink(path);
	snprintf(dir, sizeof dir, "%s/log", place);
	rmdir(dir);
	rmdir(place);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static void write_and_close(int fd, const char *lines)
{
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, lines, strlen(lines)), (ssize_t)strlen(lines));
	close(fd);
	while (waitpid(-1, NULL, 0) > 0) /* the writer, which ends by that */
		;
}

START_TEST(lines_are_appended)
{
	char text[64] = "";
	int fd;

	setup();
	write_and_close(log_file_open(path), "one\ntwo\n");
	write_and_close(log_file_open(path), "three\n");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_gt(read(fd, text, sizeof text - 1), 0);
	ck_assert_str_eq(text, "one\ntwo\nthree\n");
	close(fd);
	remove_all();
}
END_TEST

START_TEST(a_place_is_needed)
{
	setup();
	ck_assert_int_eq(log_file_open("/nonexistent/log/agent.log"), -ENOENT);
	ck_assert_int_eq(log_file_open("agent.log"), -ENOENT);
	ck_assert_int_eq(log_file_open("/agent.log"), -ENOENT);
	ck_assert(!log_file_is_open(-ENOENT));
	remove_all();
}
END_TEST

START_TEST(one_that_cannot_be_opened_is_found_out)
{
	int fd;

	setup();
	fd = log_file_open("/dev/null/log/agent.log");
	ck_assert_int_ge(fd, 0);
	for (int i = 0; i < 500 && log_file_is_open(fd); i++)
		usleep(10000);
	ck_assert(!log_file_is_open(fd));
	close(fd);
	remove_all();
}
END_TEST

START_TEST(one_that_hangs_costs_lines_only)
{
	char line[1000];
	int fd, lost = 0;

	setup();
	snprintf(path, sizeof path, "%s/fifo", place); /* opening it waits for a reader */
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	fd = log_file_open(path);
	ck_assert_int_ge(fd, 0);
	memset(line, 'x', sizeof line);
	for (int i = 0; i < 1000; i++)
		lost += write(fd, line, sizeof line) < 0 && errno == EAGAIN;
	ck_assert_int_gt(lost, 0);
	ck_assert(log_file_is_open(fd));
	close(fd);
	close(open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)); /* the writer goes on, and ends */
	remove_all();
}
END_TEST

START_TEST(failures_leave_nothing)
{
	static const char *const calls[] = {"pipe2", "fork"};
	unsigned fds;

	setup();
	fds = fault_fds();
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		FAULT_EACH(calls[i], EMFILE)
		{
			int fd = log_file_open(path);

			ck_assert(fd >= 0 || fd == -EMFILE);
			if (fd >= 0)
				close(fd);
			ck_assert_uint_eq(fault_fds(), fds);
		}
	}
	while (waitpid(-1, NULL, 0) > 0)
		;
	remove_all();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    lines_are_appended,
	    a_place_is_needed,
	    one_that_cannot_be_opened_is_found_out,
	    one_that_hangs_costs_lines_only,
	    failures_leave_nothing,
	    NULL,
	};

	return suite_of("log_file", tests);
}
