#include "sys/child.h"

#include "base/container.h"
#include "fault.h"
#include "suite.h"
#include "sys/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct loop loop;
static struct signals signals;
static struct reaper reaper;
static bool reaper_sleeps;
static unsigned fds;

static void on_signal(struct signals *s, int sig)
{
	(void)s;
	if (sig == SIGCHLD && !reaper_sleeps)
		reaper_drain(&reaper);
}

static void setup(void)
{
	signals_block();
	ck_assert_int_eq(loop_init(&loop), 0);
	ck_assert_int_eq(signals_init(&signals, &loop, on_signal), 0);
	reaper_init(&reaper, &loop);
	fds = fault_fds();
}

/* Of one child, which is left for the reaper to bury. */
static void await_death(idtype_t type, id_t id)
{
	siginfo_t info;
	int rc;

	do
		rc = waitid(type, id, &info, WEXITED | WNOWAIT);
	while (rc < 0 && errno == EINTR);
	ck_assert_int_eq(rc, 0);
}

/* Waits for what was forgotten, too: the reaper buries it. */
static void check_nothing_left(void)
{
	for (unsigned turns = 0; fault_children() > 0; turns++) {
		ck_assert_uint_lt(turns, 500);
		reaper_drain(&reaper);
		usleep(10000);
	}
	ck_assert_uint_eq(reaper_count(&reaper), 0);
	ck_assert_uint_eq(fault_fds(), fds);
}

static void teardown(void)
{
	check_nothing_left();
	signals_done(&signals);
	loop_done(&loop);
}

static void turn_until(const bool *condition)
{
	for (unsigned turns = 0; !*condition; turns++) {
		ck_assert_uint_lt(turns, 100);
		ck_assert_int_eq(loop_turn(&loop, 1000), 0);
	}
}

/* --- programs -------------------------------------------------------------------------------- */

/* A child that remembers its end. */
struct program {
	struct child child;
	bool ended;
	int status, exec_rc;
	struct program *next; /* started at the end of this one */
};

static const char *const run_true[] = {"true", NULL};
static const struct child_spec true_spec = {
    .path = "/bin/true", .argv = run_true, .in_fd = -1, .out_fd = -1, .err_fd = -1};

static void ended(struct child *c, int status)
{
	struct program *p = container_of(c, struct program, child);

	ck_assert(!p->ended);
	ck_assert_int_eq(c->pid, 0);
	p->ended = true;
	p->status = status;
	p->exec_rc = c->exec_rc;
	if (p->next)
		ck_assert_int_eq(child_launch(&reaper, &p->next->child, &true_spec), 0);
}

/* Runs a shell script with its output in `out`; returns its exit status. */
static int run(const char *script, const char *const *envp, char *out, size_t cap)
{
	const char *const argv[] = {"sh", "-c", script, NULL};
	struct program p = {.child.fn = ended};
	int pipe_fds[2];
	size_t n = 0;

	ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
	ck_assert_int_eq(child_launch(&reaper, &p.child,
			     &(struct child_spec){.path = "/bin/sh",
				 .argv = argv,
				 .envp = envp,
				 .in_fd = -1,
				 .out_fd = pipe_fds[1],
				 .err_fd = pipe_fds[1]}),
	    0);
	close(pipe_fds[1]);
	for (ssize_t got; n < cap - 1 && (got = read(pipe_fds[0], out + n, cap - 1 - n)) > 0;)
		n += (size_t)got;
	out[n] = 0;
	close(pipe_fds[0]);
	turn_until(&p.ended);
	ck_assert(WIFEXITED(p.status));
	return WEXITSTATUS(p.status);
}

START_TEST(runs_a_program)
{
	char out[256];

	setup();
	ck_assert_int_eq(run("echo out; echo err >&2; exit 7", NULL, out, sizeof out), 7);
	ck_assert_str_eq(out, "out\nerr\n");
	ck_assert_int_eq(run("cat; echo $?", NULL, out, sizeof out), 0); /* of /dev/null */
	ck_assert_str_eq(out, "0\n");
	teardown();
}
END_TEST

START_TEST(gives_the_environment)
{
	const char *const envp[] = {"COLOUR=blue", NULL};
	char out[256];

	setup();
	ck_assert_int_eq(setenv("COLOUR", "red", 1), 0);
	ck_assert_int_eq(run("echo $COLOUR", NULL, out, sizeof out), 0);
	ck_assert_str_eq(out, "red\n");
	ck_assert_int_eq(run("echo $COLOUR", envp, out, sizeof out), 0);
	ck_assert_str_eq(out, "blue\n");
	teardown();
}
END_TEST

START_TEST(gives_a_fresh_signal_state)
{
	/* 32 and 33 are the C library's own; it lets nobody change them, and make ignores them */
	const unsigned long long reserved = 3ULL << 31;
	char out[4096];
	const char *ignored;

	setup();
	ck_assert_int_eq(run("exec cat /proc/self/status", NULL, out, sizeof out), 0);
	ck_assert_ptr_nonnull(strstr(out, "SigBlk:\t0000000000000000\n"));
	ignored = strstr(out, "SigIgn:\t");
	ck_assert_ptr_nonnull(ignored);
	ck_assert_uint_eq(strtoull(ignored + strlen("SigIgn:\t"), NULL, 16) & ~reserved, 0);
	teardown();
}
END_TEST

START_TEST(gives_no_other_descriptor)
{
	char out[256];

	setup();
	ck_assert_int_eq(dup2(1, 77), 77); /* not close-on-exec */
	ck_assert_int_eq(run("exec ls /proc/self/fd", NULL, out, sizeof out), 0);
	ck_assert_str_eq(out, "0\n1\n2\n3\n"); /* the last is the directory */
	close(77);
	teardown();
}
END_TEST

START_TEST(puts_crossed_descriptors_in_place)
{
	const char *const argv[] = {"cat", NULL};
	struct program p = {.child.fn = ended};
	int in[2], out[2];
	char buf[16];

	setup();
	ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	ck_assert_int_eq(write(in[1], "crossed", 7), 7);
	close(in[1]);
	ck_assert_int_eq(dup2(out[1], 0), 0);
	ck_assert_int_eq(dup2(in[0], 1), 1);
	ck_assert_int_eq(
	    child_launch(&reaper, &p.child,
		&(struct child_spec){
		    .path = "/bin/cat", .argv = argv, .in_fd = 1, .out_fd = 0, .err_fd = 0}),
	    0);
	turn_until(&p.ended);
	ck_assert_int_eq(read(out[0], buf, sizeof buf), 7);
	ck_assert_mem_eq(buf, "crossed", 7);
	close(in[0]);
	close(out[0]);
	close(out[1]);
	teardown();
}
END_TEST

START_TEST(needs_no_open_descriptors)
{
	struct program p = {.child.fn = ended};
	struct child_spec absent = true_spec;

	setup();
	absent.path = "/nowhere/at/all";
	for (int fd = 0; fd < 3; fd++) { /* so that the pipe takes their numbers */
		ck_assert_int_eq(close(fd), 0);
		fds--;
	}
	ck_assert_int_eq(child_launch(&reaper, &p.child, &absent), 0);
	turn_until(&p.ended);
	ck_assert_int_eq(p.exec_rc, -ENOENT);
	p.ended = false;
	ck_assert_int_eq(child_launch(&reaper, &p.child, &true_spec), 0);
	turn_until(&p.ended);
	ck_assert_int_eq(p.exec_rc, 0);
	ck_assert_int_eq(p.status, 0);
	teardown();
}
END_TEST

START_TEST(makes_a_group_when_asked)
{
	const char *const argv[] = {"sleep", "60", NULL};
	struct child_spec spec = {
	    .path = "/bin/sleep", .argv = argv, .in_fd = -1, .out_fd = -1, .err_fd = -1};
	struct program mine = {.child.fn = ended}, own = {.child.fn = ended};

	setup();
	ck_assert_int_eq(child_launch(&reaper, &mine.child, &spec), 0);
	spec.new_group = true;
	ck_assert_int_eq(child_launch(&reaper, &own.child, &spec), 0);
	ck_assert_int_eq(getpgid(mine.child.pid), getpgrp());
	ck_assert_int_eq(getpgid(own.child.pid), own.child.pid);
	ck_assert_int_eq(child_launch(&reaper, &own.child, &spec), -EBUSY);
	ck_assert_uint_eq(reaper_count(&reaper), 2);
	reaper_kill_all(&reaper, SIGTERM);
	turn_until(&mine.ended);
	turn_until(&own.ended);
	ck_assert_int_eq(WTERMSIG(own.status), SIGTERM);
	teardown();
}
END_TEST

START_TEST(tells_why_it_cannot_exec)
{
	const struct {
		const char *path;
		int rc;
	} cases[] = {
	    {"/nowhere/at/all", -ENOENT},
	    {"/", -EACCES},
	    {"/etc/passwd", -EACCES},
	    {"/etc/passwd/x", -ENOTDIR},
	};

	setup();
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct program p = {.child.fn = ended};
		struct child_spec spec = true_spec;

		spec.path = cases[i].path;
		ck_assert_int_eq(child_launch(&reaper, &p.child, &spec), 0);
		turn_until(&p.ended);
		ck_assert_int_eq(p.exec_rc, cases[i].rc);
		ck_assert_int_eq(p.child.pid, 0);
		ck_assert_uint_eq(fault_children(), 0); /* not even a zombie */
	}
	teardown();
}
END_TEST

static void start_fails(const char *call, int err)
{
	unsigned failed = 0;

	FAULT_EACH(call, err)
	{
		struct program p = {.child.fn = ended};
		int rc = child_launch(&reaper, &p.child, &true_spec);

		ck_assert_uint_eq(fault_children(), rc == 0);
		if (rc == 0) {
			turn_until(&p.ended);
			rc = p.exec_rc;
		}
		ck_assert(rc == 0 || rc == -err);
		failed += rc < 0;
		ck_assert_uint_eq(fault_fds(), fds);
	}
	ck_assert_uint_gt(failed, 0);
}

START_TEST(failed_start_leaves_nothing)
{
	setup();
	start_fails("pipe2", EMFILE);
	start_fails("fork", EAGAIN);
	start_fails("open", ENFILE);
	start_fails("execve", ENOEXEC);
	teardown();
}
END_TEST

START_TEST(interruptions_do_not_show)
{
	struct program absent = {.child.fn = ended};

	setup();
	FAULT_EACH("waitpid", EINTR)
	{
		struct program p = {.child.fn = ended};

		ck_assert_int_eq(child_launch(&reaper, &p.child, &true_spec), 0);
		turn_until(&p.ended);
	}
	ck_assert_int_eq(child_launch(&reaper, &absent.child,
			     &(struct child_spec){.path = "/nowhere", .argv = run_true}),
	    0);
	await_death(P_PID, (id_t)absent.child.pid);
	fault_arm("read", 2, EINTR, false); /* the second is of what the exec came to */
	turn_until(&absent.ended);
	ck_assert(fault_disarm());
	ck_assert_int_eq(absent.exec_rc, -ENOENT);
	teardown();
}
END_TEST

START_TEST(buries_what_is_not_tracked)
{
	struct program p = {.child.fn = ended};

	setup();
	for (unsigned i = 0; i < 10; i++)
		if (fork() == 0)
			_exit(0);
	ck_assert_int_eq(child_launch(&reaper, &p.child, &true_spec), 0);
	child_forget(&p.child);
	child_forget(&p.child);
	check_nothing_left();
	ck_assert(!p.ended);
	teardown();
}
END_TEST

START_TEST(end_may_start_another)
{
	struct program second = {.child.fn = ended};
	struct program first = {.child.fn = ended, .next = &second};

	setup();
	ck_assert_int_eq(child_launch(&reaper, &first.child, &true_spec), 0);
	turn_until(&second.ended);
	ck_assert(first.ended);
	teardown();
}
END_TEST

/* --- workers --------------------------------------------------------------------------------- */

/* A worker that remembers what it was told. */
struct job {
	struct worker worker;
	bool ended, again;
	int rc;
	char report[WORKER_REPORT_BYTES + 1];
	size_t n;
};

static int say_hello(void *arg, int report_fd)
{
	(void)arg;
	return write(report_fd, "hello", 5) != 5;
}

static void reported(struct worker *w, int rc, struct span report)
{
	struct job *j = container_of(w, struct job, worker);

	ck_assert(!w->running);
	j->ended = true;
	j->rc = rc;
	j->n = report.n;
	ck_assert(span_to_cstr(report, j->report, sizeof j->report));
	if (!j->again)
		return;
	j->again = false;
	j->ended = false;
	ck_assert_int_eq(worker_start(w, &reaper, say_hello, NULL, 10000), 0);
}

static void work(struct job *j, worker_body_fn *body, void *arg, uint64_t timeout_ms)
{
	j->worker.fn = reported;
	j->ended = false;
	ck_assert_int_eq(worker_start(&j->worker, &reaper, body, arg, timeout_ms), 0);
	ck_assert(j->worker.running);
	turn_until(&j->ended);
}

/* A report of `arg` bytes, and failure when it is short. */
static int say_bytes(void *arg, int report_fd)
{
	size_t n = *(size_t *)arg;

	for (size_t i = 0; i < n; i++)
		if (write(report_fd, "x", 1) != 1)
			return 1;
	return n > 100 ? 0 : (int)n;
}

START_TEST(worker_reports)
{
	struct job j = {0};
	size_t n;

	setup();
	work(&j, say_hello, NULL, 10000);
	ck_assert_int_eq(j.rc, 0);
	ck_assert_str_eq(j.report, "hello");
	n = 0;
	work(&j, say_bytes, &n, 10000);
	ck_assert_int_eq(j.rc, 0);
	ck_assert_uint_eq(j.n, 0);
	n = WORKER_REPORT_BYTES;
	work(&j, say_bytes, &n, 10000);
	ck_assert_int_eq(j.rc, 0);
	ck_assert_uint_eq(j.n, WORKER_REPORT_BYTES);
	n++;
	work(&j, say_bytes, &n, 10000);
	ck_assert_int_eq(j.rc, -EMSGSIZE);
	ck_assert_uint_eq(j.n, WORKER_REPORT_BYTES);
	teardown();
}
END_TEST

START_TEST(worker_starts_again_when_it_ends)
{
	struct job j = {.again = true};

	setup();
	work(&j, say_hello, NULL, 10000);
	ck_assert(!j.again);
	ck_assert_str_eq(j.report, "hello");
	teardown();
}
END_TEST

static int fail_silently(void *arg, int report_fd)
{
	(void)arg;
	(void)report_fd;
	return 3;
}

static int die(void *arg, int report_fd)
{
	(void)arg;
	say_hello(NULL, report_fd);
	return raise(SIGKILL);
}

START_TEST(worker_fails)
{
	size_t three = 3;
	struct job j = {0};

	setup();
	work(&j, say_bytes, &three, 10000); /* and says something */
	ck_assert_int_eq(j.rc, 0);
	ck_assert_int_eq(j.worker.status, 3);
	ck_assert_str_eq(j.report, "xxx");
	work(&j, fail_silently, NULL, 10000);
	ck_assert_int_eq(j.rc, -EIO);
	ck_assert_int_eq(j.worker.status, 3);
	work(&j, die, NULL, 10000);
	ck_assert_int_eq(j.rc, -EIO);
	ck_assert_int_eq(j.worker.status, -1);
	ck_assert_str_eq(j.report, "hello");
	teardown();
}
END_TEST

static int hang_alone(void *arg, int report_fd)
{
	(void)arg;
	(void)report_fd;
	while (pause() < 0)
		;
	return 0;
}

/* Never ends, nor does its child. */
static int hang(void *arg, int report_fd)
{
	say_hello(NULL, report_fd);
	fork();
	return hang_alone(arg, report_fd);
}

/* Whether all that had the writing end of the pipe have gone. */
static bool hung_up(int fd)
{
	struct pollfd p = {.fd = fd};

	return poll(&p, 1, 5000) == 1 && (p.revents & POLLHUP);
}

START_TEST(late_worker_is_killed_with_its_group)
{
	uint64_t start_ns = clock_mono_ns();
	struct job j = {0};
	int life[2];

	setup();
	ck_assert_int_eq(pipe2(life, O_CLOEXEC), 0);
	j.worker.keep_fd = life[1];
	work(&j, hang, NULL, 50);
	ck_assert_int_eq(j.rc, -ETIMEDOUT);
	ck_assert_str_eq(j.report, "hello");
	ck_assert_uint_ge(clock_mono_ns() - start_ns, 50 * NS_PER_MS);
	close(life[1]);
	ck_assert(hung_up(life[0]));
	close(life[0]);
	teardown();
}
END_TEST

START_TEST(worker_that_does_not_die_is_given_up)
{
	struct job j = {0};

	setup();
	reaper_sleeps = true; /* as if the kernel had not let go of it */
	work(&j, hang, NULL, 20);
	ck_assert_int_eq(j.rc, -ETIMEDOUT);
	ck_assert_uint_eq(reaper_count(&reaper), 0);
	ck_assert_uint_eq(fault_children(), 1);
	memset(&j, 0xa5, sizeof j); /* the memory is ours */
	teardown();
}
END_TEST

START_TEST(cancelled_worker_says_nothing)
{
	struct job *j = calloc(1, sizeof *j);
	int life[2];

	setup();
	ck_assert_ptr_nonnull(j);
	ck_assert_int_eq(pipe2(life, O_CLOEXEC), 0);
	worker_cancel(&j->worker); /* does not run */
	j->worker.fn = reported;
	j->worker.keep_fd = life[1];
	ck_assert_int_eq(worker_start(&j->worker, &reaper, hang, NULL, 10000), 0);
	ck_assert_int_eq(worker_start(&j->worker, &reaper, hang, NULL, 10000), -EBUSY);
	ck_assert_int_eq(loop_turn(&loop, 0), 0);
	worker_cancel(&j->worker);
	ck_assert(!j->ended);
	free(j);
	close(life[1]);
	ck_assert(hung_up(life[0]));
	close(life[0]);
	teardown();
}
END_TEST

START_TEST(killed_worker_is_told_of_when_it_has_ended)
{
	struct job j = {.worker.fn = reported};
	pid_t pid;

	setup();
	worker_kill(&j.worker); /* does not run */
	ck_assert_int_eq(worker_start(&j.worker, &reaper, hang, NULL, 0), 0);
	pid = j.worker.child.pid;
	worker_kill(&j.worker);
	worker_kill(&j.worker);
	ck_assert(!j.ended);
	while (!j.ended)
		ck_assert_int_eq(loop_turn(&loop, 1000), 0);
	ck_assert_int_eq(j.rc, -ETIMEDOUT);
	ck_assert_int_lt(kill(pid, 0), 0);
	teardown();
}
END_TEST

/* Says which of the first 256 descriptors are open. */
static int say_open(void *arg, int report_fd)
{
	(void)arg;
	for (int fd = 0; fd < 256; fd++)
		if (fd != report_fd && fcntl(fd, F_GETFD) >= 0)
			dprintf(report_fd, "%d ", fd);
	return 0;
}

START_TEST(worker_has_the_descriptor_to_keep_only)
{
	struct job j = {0};
	char expected[32];
	int low, high;

	setup();
	low = fcntl(1, F_DUPFD_CLOEXEC, 3);
	high = fcntl(1, F_DUPFD_CLOEXEC, 200);
	ck_assert_int_eq(high, 200);
	work(&j, say_open, NULL, 10000);
	ck_assert_str_eq(j.report, "0 1 2 ");
	j.worker.keep_fd = high;
	work(&j, say_open, NULL, 10000);
	ck_assert_str_eq(j.report, "0 1 2 200 ");
	j.worker.keep_fd = low;
	work(&j, say_open, NULL, 10000);
	snprintf(expected, sizeof expected, "0 1 2 %d ", low);
	ck_assert_str_eq(j.report, expected);
	close(low);
	close(high);
	teardown();
}
END_TEST

static int say_signals(void *arg, int report_fd)
{
	sigset_t mask;

	(void)arg;
	sigprocmask(SIG_SETMASK, NULL, &mask);
	dprintf(report_fd, "%d %d %d", sigismember(&mask, SIGTERM), getpgrp() == getpid(),
	    signal(SIGPIPE, SIG_DFL) == SIG_DFL);
	return 0;
}

START_TEST(worker_has_a_fresh_signal_state)
{
	struct job j = {0};

	setup();
	work(&j, say_signals, NULL, 10000);
	ck_assert_str_eq(j.report, "0 1 1");
	teardown();
}
END_TEST

/* The kernel kills the worker alone, not its group. */
START_TEST(worker_dies_with_its_parent)
{
	struct job j = {0};
	int life[2];
	pid_t pid;

	setup();
	ck_assert_int_eq(pipe2(life, O_CLOEXEC), 0);
	j.worker.fn = reported;
	j.worker.keep_fd = life[1];
	pid = fork();
	if (pid == 0)
		_exit(worker_start(&j.worker, &reaper, hang_alone, NULL, 10000) < 0);
	close(life[1]);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	ck_assert(hung_up(life[0]));
	close(life[0]);
	teardown();
}
END_TEST

START_TEST(failed_worker_start_leaves_nothing)
{
	const char *calls[] = {"pipe2", "fork"};

	setup();
	for (size_t i = 0; i < 2; i++) {
		struct job j = {.worker.fn = reported};

		fault_arm(calls[i], 1, EAGAIN, false);
		ck_assert_int_eq(worker_start(&j.worker, &reaper, say_hello, NULL, 100), -EAGAIN);
		ck_assert(fault_disarm());
		ck_assert(!j.worker.running);
		check_nothing_left();
	}
	teardown();
}
END_TEST

START_TEST(report_that_cannot_be_read_is_a_failure)
{
	struct job j = {.worker.fn = reported};

	setup();
	ck_assert_int_eq(worker_start(&j.worker, &reaper, say_hello, NULL, 10000), 0);
	await_death(P_ALL, 0);
	fault_arm("read", 2, EINTR, false); /* the first is the signalfd's */
	turn_until(&j.ended);
	ck_assert(fault_disarm());
	ck_assert_str_eq(j.report, "hello");
	j.ended = false;
	ck_assert_int_eq(worker_start(&j.worker, &reaper, say_hello, NULL, 10000), 0);
	await_death(P_ALL, 0);
	fault_arm("read", 2, EIO, false);
	turn_until(&j.ended);
	ck_assert(fault_disarm());
	ck_assert_int_eq(j.rc, -EIO);
	teardown();
}
END_TEST

/* --- workers that are waited for ---------------------------------------------------------------
 */

static int says_hello(void *arg, int report_fd)
{
	return write(report_fd, arg, 5) == 5 ? 3 : 1;
}

static int says_too_much(void *arg, int report_fd)
{
	char much[WORKER_REPORT_BYTES + 1] = "";

	(void)arg;
	return write(report_fd, much, sizeof much) < 0;
}

static int fills_its_report(void *arg, int report_fd)
{
	char all[WORKER_REPORT_BYTES] = "";

	(void)arg;
	return write(report_fd, all, sizeof all) < 0;
}

static int hangs(void *arg, int report_fd)
{
	(void)arg, (void)report_fd;
	while (pause() < 0)
		;
	return 0;
}

START_TEST(a_worker_is_run_to_its_end)
{
	uint8_t report[WORKER_REPORT_BYTES];
	char hello[] = "hello";

	setup();
	ck_assert_int_eq(worker_run(says_hello, hello, 5000, report), 5);
	ck_assert_mem_eq(report, "hello", 5);
	ck_assert_int_eq(worker_run(fills_its_report, NULL, 5000, report), WORKER_REPORT_BYTES);
	ck_assert_int_eq(worker_run(says_too_much, NULL, 5000, report), WORKER_REPORT_BYTES + 1);
	ck_assert_int_eq(worker_run(hangs, NULL, 50, report), -ETIMEDOUT);
	teardown();
}
END_TEST

/* Says that it goes on until the other end of its descriptor is closed, and then that it ends. */
static int outlives(void *arg, int fd)
{
	char byte;

	(void)arg;
	if (write(fd, "1", 1) != 1)
		return 1;
	while (read(fd, &byte, 1) > 0)
		;
	return write(fd, "2", 1) != 1;
}

START_TEST(a_detached_worker_is_not_waited_for)
{
	char byte;
	int pair[2];

	setup();
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	ck_assert_int_eq(worker_detach(outlives, NULL, pair[1]), 0);
	close(pair[1]);
	ck_assert_uint_eq(reaper_count(&reaper), 0);
	ck_assert_int_eq(read(pair[0], &byte, 1), 1);
	ck_assert_int_eq(shutdown(pair[0], SHUT_WR), 0);
	ck_assert_int_eq(read(pair[0], &byte, 1), 1);
	ck_assert_int_eq(read(pair[0], &byte, 1), 0);
	close(pair[0]);
	fault_arm("fork", 1, EAGAIN, false);
	ck_assert_int_eq(worker_detach(outlives, NULL, 0), -EAGAIN);
	ck_assert(fault_disarm());
	teardown();
}
END_TEST

/* A program that cannot be run is told by its end. */
static struct {
	struct child child;
	int exec_rc, status;
	bool ended;
} launched;

static void launched_ended(struct child *c, int status)
{
	launched.exec_rc = c->exec_rc;
	launched.status = status;
	launched.ended = true;
}

START_TEST(a_launch_does_not_wait_for_the_exec)
{
	const char *const argv[] = {"sh", "-c", "echo out; echo err >&2; exit 3", NULL};
	const char *const logs[] = {"/dev/null/log", "/tmp/test_child.log", NULL};
	struct child_spec spec = {.path = "/bin/sh", .argv = argv, .in_fd = -1, .log_paths = logs};
	char text[16];
	int fd;

	setup();
	unlink(logs[1]);
	launched.child.fn = launched_ended;
	ck_assert_int_eq(child_launch(&reaper, &launched.child, &spec), 0);
	ck_assert_int_eq(child_launch(&reaper, &launched.child, &spec), -EBUSY);
	turn_until(&launched.ended);
	ck_assert_int_eq(launched.exec_rc, 0);
	ck_assert_int_eq(WEXITSTATUS(launched.status), 3);
	fd = open(logs[1], O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(read(fd, text, sizeof text), 8);
	ck_assert_mem_eq(text, "out\nerr\n", 8);
	close(fd);
	unlink(logs[1]);

	launched.ended = false;
	spec.path = "/nonexistent";
	ck_assert_int_eq(child_launch(&reaper, &launched.child, &spec), 0);
	turn_until(&launched.ended);
	ck_assert_int_eq(launched.exec_rc, -ENOENT);
	unlink(logs[1]);
	FAULT_EACH("fork", EAGAIN)
	{
		int rc = child_launch(&reaper, &launched.child, &spec);

		ck_assert(rc == 0 || rc == -EAGAIN);
		child_forget(&launched.child);
	}
	unlink(logs[1]);
	teardown();
}
END_TEST

/* What stands between the fork and the exec, with the one descriptor that is kept. */
struct becoming {
	int kept, other;
	int rc; /* that it comes to; 0: it is the program */
};

static int become_shell(void *arg)
{
	const struct becoming *b = arg;
	char script[64];

	if (fcntl(b->other, F_GETFD) >= 0)
		return -EEXIST;
	if (write(b->kept, "k", 1) != 1)
		return -errno;
	if (b->rc < 0)
		return b->rc;
	snprintf(script, sizeof script, "test -e /proc/self/fd/%d || exit 5", b->kept);
	execl("/bin/sh", "sh", "-c", script, (char *)NULL);
	return -errno;
}

static void launch_becoming(struct becoming *b, int keep_fd, int exec_rc)
{
	const struct child_spec spec = {.in_fd = -1,
	    .out_fd = -1,
	    .err_fd = -1,
	    .become = become_shell,
	    .become_arg = b,
	    .keep_fd = keep_fd};

	launched.ended = false;
	launched.child.fn = launched_ended;
	ck_assert_int_eq(child_launch(&reaper, &launched.child, &spec), 0);
	turn_until(&launched.ended);
	ck_assert_int_eq(launched.exec_rc, exec_rc);
	ck_assert(WIFEXITED(launched.status));
	ck_assert_int_eq(WEXITSTATUS(launched.status), exec_rc ? 127 : 5);
}

START_TEST(a_child_becomes_its_program_in_its_own_way)
{
	struct becoming b;
	int low[2], high;
	char said[8];

	setup();
	ck_assert_int_eq(pipe2(low, O_CLOEXEC), 0);
	high = fcntl(low[1], F_DUPFD_CLOEXEC, 200);
	b = (struct becoming){.kept = low[1], .other = high};
	launch_becoming(&b, low[1], 0);
	b = (struct becoming){.kept = high, .other = low[1]};
	launch_becoming(&b, high, 0);
	ck_assert_int_eq(read(low[0], said, sizeof said), 2);
	b.rc = -EPERM; /* it could not */
	launch_becoming(&b, high, -EPERM);
	ck_assert_int_eq(read(low[0], said, sizeof said), 1);
	launch_becoming(&b, 0, -EBADF); /* nothing is kept */
	close(low[0]);
	close(low[1]);
	close(high);
	teardown();
}
END_TEST

/* In a directory that others can write to a log may be anything. */
START_TEST(a_log_is_a_file_and_nothing_else)
{
	const char *const argv[] = {"sh", "-c", "echo out", NULL};
	const char *const logs[] = {
	    "/tmp/test_child.fifo", "/tmp/test_child.link", "/tmp/test_child.log", NULL};
	const struct child_spec spec = {
	    .path = "/bin/sh", .argv = argv, .in_fd = -1, .log_paths = logs};
	char text[16];
	int fifo = -1, log;

	setup();
	for (size_t i = 0; logs[i]; i++)
		unlink(logs[i]);
	ck_assert_int_eq(mkfifo(logs[0], 0600), 0);
	ck_assert_int_eq(symlink("/dev/full", logs[1]), 0);
	launched.child.fn = launched_ended;
	for (int i = 0; i < 2; i++) {
		launched.ended = false;
		ck_assert_int_eq(child_launch(&reaper, &launched.child, &spec), 0);
		turn_until(&launched.ended);
		if (i == 0) /* somebody listens now */
			fifo = open(logs[0], O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	}
	ck_assert_int_eq(read(fifo, text, sizeof text), 0);
	log = open(logs[2], O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(read(log, text, sizeof text), 8);
	ck_assert_mem_eq(text, "out\nout\n", 8);
	close(log);
	close(fifo);
	for (size_t i = 0; logs[i]; i++)
		unlink(logs[i]);
	teardown();
}
END_TEST

START_TEST(a_worker_that_cannot_run_leaves_nothing)
{
	static const char *const calls[] = {"pipe2", "fork", "read"};
	uint8_t report[WORKER_REPORT_BYTES];
	char hello[] = "hello";

	setup();
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		FAULT_EACH(calls[i], EIO)
		{
			ssize_t n = worker_run(says_hello, hello, 5000, report);

			ck_assert(n == 5 || n == -EIO);
			check_nothing_left();
		}
	}
	teardown();
}
END_TEST

START_TEST(a_program_is_run_to_its_end)
{
	static const char *const calls[] = {"pipe2", "fork", "read"};
	const char *const exits[] = {"sh", "-c", "exit 7", NULL};
	const char *const dies[] = {"sh", "-c", "kill -9 $$", NULL};
	struct child_spec spec = true_spec;
	int status;

	setup();
	ck_assert_int_eq(child_run(&spec), 0);
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		FAULT_EACH(calls[i], EIO)
		{
			status = child_run(&spec);
			ck_assert(status == 0 || status == -EIO);
			check_nothing_left();
		}
	}
	FAULT_EACH("waitpid", EINTR)
	ck_assert_int_eq(child_run(&spec), 0);
	spec.path = "/bin/sh";
	spec.argv = exits;
	status = child_run(&spec);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	spec.argv = dies;
	status = child_run(&spec);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	spec.path = "/bin/missing";
	ck_assert_int_eq(child_run(&spec), -ENOENT);
	check_nothing_left();
	teardown();
}
END_TEST

/* --- many at once -------------------------------------------------------------------------------
 */

START_TEST(a_storm_of_ends_takes_turns)
{
	enum { ORPHANS = 600 };

	setup();
	ck_assert(reaper_is_alone());
	for (int i = 0; i < ORPHANS; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		ck_assert_int_gt(pid, 0);
		await_death(P_PID, (id_t)pid);
	}
	ck_assert(!reaper_is_alone());
	reaper_drain(&reaper);
	ck_assert(!reaper_is_alone()); /* the rest has to wait for the loop's other business */
	ck_assert_int_eq(loop_turn(&loop, 0), 0);
	for (int i = 0; i < 100 && !reaper_is_alone(); i++)
		ck_assert_int_eq(loop_turn(&loop, 10), 0);
	ck_assert(reaper_is_alone());
	teardown();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    runs_a_program,
	    gives_the_environment,
	    gives_a_fresh_signal_state,
	    gives_no_other_descriptor,
	    puts_crossed_descriptors_in_place,
	    needs_no_open_descriptors,
	    makes_a_group_when_asked,
	    tells_why_it_cannot_exec,
	    failed_start_leaves_nothing,
	    interruptions_do_not_show,
	    buries_what_is_not_tracked,
	    end_may_start_another,
	    worker_reports,
	    worker_starts_again_when_it_ends,
	    worker_fails,
	    late_worker_is_killed_with_its_group,
	    worker_that_does_not_die_is_given_up,
	    cancelled_worker_says_nothing,
	    killed_worker_is_told_of_when_it_has_ended,
	    worker_has_the_descriptor_to_keep_only,
	    worker_has_a_fresh_signal_state,
	    worker_dies_with_its_parent,
	    failed_worker_start_leaves_nothing,
	    report_that_cannot_be_read_is_a_failure,
	    a_worker_is_run_to_its_end,
	    a_worker_that_cannot_run_leaves_nothing,
	    a_detached_worker_is_not_waited_for,
	    a_launch_does_not_wait_for_the_exec,
	    a_child_becomes_its_program_in_its_own_way,
	    a_log_is_a_file_and_nothing_else,
	    a_program_is_run_to_its_end,
	    a_storm_of_ends_takes_turns,
	    NULL,
	};

	return suite_of("child", tests);
}
