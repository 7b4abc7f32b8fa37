#include "runtime/earlier.h"

#include "base/container.h"
#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The daemon is a child of this test, which stands for whoever inherits it. */

static struct loop loop;
static struct earlier earlier;
static char pid_path[64], self[PATH_MAX], dir[PATH_MAX];
static const char *programs[3];
static unsigned fds, ends;
static int end_rc;
static bool end_forced;

static void ended(struct earlier *e, int rc, bool forced)
{
	ck_assert_ptr_eq(e, &earlier);
	ends++;
	end_rc = rc;
	end_forced = forced;
}

static void setup(void)
{
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

	ck_assert_int_gt(n, 0);
	strcpy(dir, self);
	strrchr(dir, '/')[1] = '\0';
	snprintf(pid_path, sizeof pid_path, "/tmp/earlier.%d", (int)getpid());
	programs[0] = "/nonexistent/k3s";
	programs[1] = self;
	fds = fault_fds();
	ck_assert_int_eq(loop_init(&loop), 0);
	earlier = (struct earlier){.fn = ended};
}

static void teardown(void)
{
	earlier_forget(&earlier);
	loop_bury(&loop);
	loop_done(&loop);
	unlink(pid_path);
	ck_assert_uint_eq(fault_fds(), fds);
}

static void write_pid(const char *text)
{
	FILE *f = fopen(pid_path, "we");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
}

/* A process that leads its group, or not. */
static pid_t start(bool stubborn, bool leader)
{
	char text[16];
	int ready[2];
	pid_t pid;
	char byte;

	ck_assert_int_eq(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		if (leader)
			setpgid(0, 0);
		signal(SIGTERM, stubborn ? SIG_IGN : SIG_DFL);
		(void)!write(ready[1], "x", 1);
		for (;;)
			pause();
	}
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	close(ready[1]);
	snprintf(text, sizeof text, "%d\n", (int)pid);
	write_pid(text);
	return pid;
}

static int status_of(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WTERMSIG(status);
}

static void turns_until_end(void)
{
	for (int i = 0; i < 300 && ends == 0; i++)
		ck_assert_int_eq(loop_turn(&loop, 20), 0);
	ck_assert_uint_eq(ends, 1);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(loop_turn(&loop, 5), 0);
	ck_assert_uint_eq(ends, 1);
}

START_TEST(pid_files_that_name_nothing)
{
	static const char *const texts[] = {
	    "", "\n", "0\n", "1\n", "-1\n", "x", "12x", "99999999999", " 5", "2147483647\n"};

	setup();
	ck_assert_int_eq(earlier_find("/nonexistent", programs), 0);
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		write_pid(texts[i]);
		ck_assert_int_eq(earlier_find(pid_path, programs), 0);
	}
	teardown();
}
END_TEST

START_TEST(only_what_it_should_be_is_found)
{
	pid_t pid;

	setup();
	pid = start(false, true);
	ck_assert_int_eq(earlier_find(pid_path, programs), pid);
	programs[1] = dir;
	ck_assert_int_eq(earlier_find(pid_path, programs), pid);
	programs[1] = "/usr/sbin/";
	ck_assert_int_eq(earlier_find(pid_path, programs), 0);
	programs[1] = NULL;
	ck_assert_int_eq(earlier_find(pid_path, programs), 0);
	kill(pid, SIGKILL);
	ck_assert_int_eq(status_of(pid), SIGKILL);
	programs[1] = self;
	ck_assert_int_eq(earlier_find(pid_path, programs), 0);
	teardown();
}
END_TEST

START_TEST(member_of_another_group_is_not_found)
{
	pid_t pid;

	setup();
	pid = start(false, false);
	ck_assert_int_eq(earlier_find(pid_path, programs), 0);
	kill(pid, SIGKILL);
	status_of(pid);
	teardown();
}
END_TEST

START_TEST(zombie_is_not_found)
{
	pid_t pid;
	siginfo_t info;

	setup();
	pid = start(false, true);
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	ck_assert_int_eq(earlier_find(pid_path, programs), 0);
	status_of(pid);
	teardown();
}
END_TEST

START_TEST(ends_by_sigterm)
{
	pid_t pid;

	setup();
	pid = start(false, true);
	ck_assert_int_eq(earlier_stop(&earlier, &loop, pid, 5000), 0);
	ck_assert_uint_eq(ends, 0);
	turns_until_end();
	ck_assert(end_rc == 0 && !end_forced);
	ck_assert_int_eq(status_of(pid), SIGTERM);
	teardown();
}
END_TEST

START_TEST(ends_by_sigkill)
{
	pid_t pid;

	setup();
	pid = start(true, true);
	ck_assert_int_eq(earlier_stop(&earlier, &loop, pid, 50), 0);
	turns_until_end();
	ck_assert(end_rc == 0 && end_forced);
	ck_assert_int_eq(status_of(pid), SIGKILL);
	teardown();
}
END_TEST

START_TEST(one_that_is_gone)
{
	pid_t pid;

	setup();
	pid = start(false, true);
	kill(pid, SIGKILL);
	status_of(pid);
	ck_assert_int_eq(earlier_stop(&earlier, &loop, pid, 50), -ESRCH);
	teardown();
}
END_TEST

START_TEST(forgotten)
{
	pid_t pid;

	setup();
	earlier_forget(&earlier);
	pid = start(true, true);
	ck_assert_int_eq(earlier_stop(&earlier, &loop, pid, 20), 0);
	earlier_forget(&earlier);
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(loop_turn(&loop, 10), 0);
	ck_assert_uint_eq(ends, 0);
	kill(pid, SIGKILL);
	status_of(pid);
	teardown();
}
END_TEST

START_TEST(loop_that_takes_no_more)
{
	pid_t pid;

	setup();
	pid = start(true, true);
	fault_arm("epoll_ctl", 1, ENOSPC, false);
	ck_assert_int_eq(earlier_stop(&earlier, &loop, pid, 20), -ENOSPC);
	ck_assert(fault_disarm());
	kill(pid, SIGKILL);
	ck_assert_int_eq(status_of(pid), SIGKILL);
	teardown();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {pid_files_that_name_nothing, only_what_it_should_be_is_found,
	    member_of_another_group_is_not_found, zombie_is_not_found, ends_by_sigterm,
	    ends_by_sigkill, one_that_is_gone, forgotten, loop_that_takes_no_more, NULL};

	return suite_of("earlier", tests);
}
