#include "fault.h"

#include "cases.h"
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- every wrapped call fails when told ------------------------------------------------------- */

/* Arguments for calls that would fail by themselves, but never with the error that is armed. */
static char byte;
static struct iovec iov = {&byte, 1};
static struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
static struct sockaddr sa;
static socklen_t sa_len = sizeof sa;
static struct epoll_event ev;
static struct itimerspec spec;
static struct timespec ts;
static struct stat st;
static sigset_t mask;
static int fds[2];
static char *const no_args[] = {NULL};

struct call_row {
	const char *name;
	bool (*failed)(void); /* makes the call */
};

#define INT_CALL(name, ...)                                                                        \
	static bool name##_failed(void)                                                            \
	{                                                                                          \
		return name(__VA_ARGS__) == -1;                                                    \
	}

INT_CALL(read, -1, &byte, 1)
INT_CALL(write, -1, &byte, 1)
INT_CALL(readv, -1, &iov, 1)
INT_CALL(writev, -1, &iov, 1)
INT_CALL(recvmsg, -1, &msg, 0)
INT_CALL(sendmsg, -1, &msg, 0)
INT_CALL(recvfrom, -1, &byte, 1, 0, NULL, NULL)
INT_CALL(sendto, -1, &byte, 1, 0, NULL, 0)
INT_CALL(socket, -1, 0, 0)
INT_CALL(bind, -1, &sa, sa_len)
INT_CALL(listen, -1, 1)
INT_CALL(connect, -1, &sa, sa_len)
INT_CALL(accept4, -1, NULL, NULL, 0)
INT_CALL(getsockname, -1, &sa, &sa_len)
INT_CALL(getsockopt, -1, SOL_SOCKET, SO_ERROR, &byte, &sa_len)
INT_CALL(setsockopt, -1, SOL_SOCKET, SO_REUSEADDR, &byte, 1)
INT_CALL(epoll_create1, -1)
INT_CALL(epoll_ctl, -1, EPOLL_CTL_ADD, -1, &ev)
INT_CALL(epoll_wait, -1, &ev, 1, 0)
INT_CALL(timerfd_create, -1, 0)
INT_CALL(timerfd_settime, -1, 0, &spec, NULL)
INT_CALL(clock_settime, -1, &ts)
INT_CALL(signalfd, -2, &mask, 0)
INT_CALL(pipe2, fds, -1)
INT_CALL(fork)
INT_CALL(execve, "/nonexistent", no_args, no_args)
INT_CALL(waitpid, -1, NULL, 0)
INT_CALL(open, "/nonexistent", O_RDONLY)
INT_CALL(openat, -1, "nonexistent", O_RDONLY)
INT_CALL(close, -1)
INT_CALL(fstat, -1, &st)
INT_CALL(ftruncate, -1, 0)
INT_CALL(fsync, -1)
INT_CALL(rename, "", "")
INT_CALL(splice, -1, NULL, -1, NULL, 1, 0)
INT_CALL(sendfile, -1, -1, NULL, 1)
INT_CALL(getrandom, &byte, 1, ~0u)
INT_CALL(memfd_create, "", ~0u)
INT_CALL(inotify_init1, -1)
INT_CALL(inotify_add_watch, -1, "/nonexistent", IN_CREATE)

/* The compiler may do away with an allocation that it sees unused. */
static bool no_memory(void *volatile p)
{
	bool failed = p == NULL;

	free(p);
	return failed;
}

static bool malloc_failed(void)
{
	return no_memory(malloc(1));
}

static bool calloc_failed(void)
{
	return no_memory(calloc(1, 1));
}

static bool realloc_failed(void)
{
	void *volatile none = NULL; /* or else the compiler makes a malloc of it */

	return no_memory(realloc(none, 1));
}

static bool mmap_failed(void)
{
	return mmap(NULL, 1, PROT_READ, MAP_SHARED, -1, 0) == MAP_FAILED;
}

#define ROW(name)                                                                                  \
	{                                                                                          \
#name, name##_failed                                                               \
	}
static const struct call_row rows[] = {
    ROW(malloc),
    ROW(calloc),
    ROW(realloc),
    ROW(mmap),
    ROW(read),
    ROW(write),
    ROW(readv),
    ROW(writev),
    ROW(recvmsg),
    ROW(sendmsg),
    ROW(recvfrom),
    ROW(sendto),
    ROW(socket),
    ROW(bind),
    ROW(listen),
    ROW(connect),
    ROW(accept4),
    ROW(getsockname),
    ROW(getsockopt),
    ROW(setsockopt),
    ROW(epoll_create1),
    ROW(epoll_ctl),
    ROW(epoll_wait),
    ROW(timerfd_create),
    ROW(timerfd_settime),
    ROW(clock_settime),
    ROW(signalfd),
    ROW(pipe2),
    ROW(fork),
    ROW(execve),
    ROW(waitpid),
    ROW(open),
    ROW(openat),
    ROW(close),
    ROW(fstat),
    ROW(ftruncate),
    ROW(fsync),
    ROW(rename),
    ROW(splice),
    ROW(sendfile),
    ROW(getrandom),
    ROW(memfd_create),
    ROW(inotify_init1),
    ROW(inotify_add_watch),
};

START_TEST(each_call_fails_when_told)
{
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		bool failed;

		fault_arm(rows[i].name, 1, EXDEV, false);
		errno = 0;
		failed = rows[i].failed();
		ck_assert_msg(failed && errno == EXDEV, "%s did not fail", rows[i].name);
		ck_assert_msg(fault_disarm(), "%s was not reached", rows[i].name);
	}
}
END_TEST

START_TEST(no_call_fails_for_another)
{
	fault_arm("getrandom", 1, EXDEV, true);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		if (strcmp(rows[i].name, "getrandom") == 0 || strcmp(rows[i].name, "fork") == 0)
			continue;
		errno = 0;
		rows[i].failed();
		ck_assert_msg(errno != EXDEV, "%s failed", rows[i].name);
	}
	ck_assert(!fault_disarm());
}
END_TEST

/* --- counting --------------------------------------------------------------------------------- */

static unsigned pattern(unsigned nth, bool stuck)
{
	unsigned failed = 0;

	fault_arm("malloc", nth, ENOMEM, stuck);
	for (unsigned i = 0; i < 4; i++)
		failed |= (unsigned)malloc_failed() << i;
	fault_disarm();
	return failed;
}

START_TEST(the_nth_call_fails)
{
	ck_assert_uint_eq(pattern(1, false), 1);
	ck_assert_uint_eq(pattern(3, false), 4);
	ck_assert_uint_eq(pattern(5, false), 0);
	ck_assert_uint_eq(pattern(1, true), 15);
	ck_assert_uint_eq(pattern(3, true), 12);
	ck_assert(!malloc_failed());
}
END_TEST

START_TEST(arming_again_starts_over)
{
	fault_arm("malloc", 2, ENOMEM, false);
	ck_assert(!malloc_failed());
	fault_arm("malloc", 2, ENOMEM, false);
	ck_assert(!malloc_failed());
	ck_assert(malloc_failed());
	ck_assert(fault_disarm());
	ck_assert(!fault_disarm());
}
END_TEST

START_TEST(each_round_fails_one_call)
{
	unsigned rounds = 0, failures = 0;

	FAULT_EACH("calloc", ENOMEM)
	{
		for (int i = 0; i < 3; i++)
			failures += calloc_failed();
		rounds++;
	}
	ck_assert_uint_eq(rounds, 4);
	ck_assert_uint_eq(failures, 3);
}
END_TEST

START_TEST(assertions_are_not_counted)
{
	fault_arm("malloc", 1, ENOMEM, true);
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(i, i);
	ck_assert(!fault_disarm());
}
END_TEST

START_TEST(a_fault_in_a_child_is_seen)
{
	unsigned rounds = 0;

	FAULT_EACH("execve", ENOEXEC)
	{
		int status;
		pid_t pid = fork();

		if (pid == 0) {
			execve("/nonexistent", no_args, no_args);
			_exit(errno == ENOEXEC);
		}
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_int_eq(WEXITSTATUS(status), ++rounds == 1);
	}
	ck_assert_uint_eq(rounds, 2);
}
END_TEST

/* --- tests that must fail --------------------------------------------------------------------- */

START_TEST(arms_an_unknown_name)
{
	fault_arm("nonesuch", 1, ENOMEM, false);
}
END_TEST

START_TEST(fails_while_armed)
{
	fault_arm("malloc", 1, ENOMEM, true);
	ck_assert_int_eq(2 + 2, 5);
}
END_TEST

/* Whether `test` fails with `message`, seen from a runner of its own in a process of its own. */
static bool fails_with(const TTest *test, const char *message)
{
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		SRunner *runner =
		    srunner_create(suite_of("inner", (const TTest *const[]){test, NULL}));
		TestResult **failures;

		srunner_set_fork_status(runner, CK_NOFORK);
		srunner_run_all(runner, CK_SILENT);
		if (srunner_ntests_failed(runner) != 1)
			_exit(2);
		failures = srunner_failures(runner);
		_exit(strstr(tr_msg(failures[0]), message) ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

START_TEST(an_unknown_name_fails_the_test)
{
	ck_assert(fails_with(arms_an_unknown_name, "nonesuch is not wrapped"));
}
END_TEST

START_TEST(a_failure_while_armed_is_told)
{
	ck_assert(fails_with(fails_while_armed, "2 + 2 == 4, 5 == 5"));
}
END_TEST

/* --- what calls still do ---------------------------------------------------------------------- */

START_TEST(close_closes_even_when_it_fails)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	fault_arm("close", 1, EIO, false);
	ck_assert_int_eq(close(fd), -1);
	ck_assert_int_eq(errno, EIO);
	ck_assert(fault_disarm());
	ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
}
END_TEST

START_TEST(open_passes_the_mode_on)
{
	char dir[] = "/tmp/fault.XXXXXX";
	char path[64];
	struct stat got;
	int fd, dirfd;

	umask(0);
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/a", dir);
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0641);
	ck_assert_int_eq(fstat(fd, &got), 0);
	ck_assert_uint_eq(got.st_mode & 07777, 0641);
	close(fd);
	fd = openat(dirfd, "b", O_CREAT | O_WRONLY | O_CLOEXEC, 0604);
	ck_assert_int_eq(fstat(fd, &got), 0);
	ck_assert_uint_eq(got.st_mode & 07777, 0604);
	close(fd);
	unlinkat(dirfd, "a", 0);
	unlinkat(dirfd, "b", 0);
	close(dirfd);
	rmdir(dir);
}
END_TEST

/* --- short reads and writes ------------------------------------------------------------------- */

static char text[] = "abcdefgh";

static ssize_t put_write(int fd)
{
	return write(fd, text, 8);
}

static ssize_t put_sendto(int fd)
{
	return sendto(fd, text, 8, 0, NULL, 0);
}

static ssize_t put_writev(int fd)
{
	return writev(fd, (struct iovec[]){{text, 2}, {text + 2, 3}, {text + 5, 3}}, 3);
}

static ssize_t put_sendmsg(int fd)
{
	struct iovec v[] = {{text, 2}, {text + 2, 3}, {text + 5, 3}};

	return sendmsg(fd, &(struct msghdr){.msg_iov = v, .msg_iovlen = 3}, 0);
}

static ssize_t get_read(int fd, char *to)
{
	return read(fd, to, 8);
}

static ssize_t get_recvfrom(int fd, char *to)
{
	return recvfrom(fd, to, 8, 0, NULL, NULL);
}

static ssize_t get_readv(int fd, char *to)
{
	return readv(fd, (struct iovec[]){{to, 2}, {to + 2, 3}, {to + 5, 3}}, 3);
}

static ssize_t get_recvmsg(int fd, char *to)
{
	struct iovec v[] = {{to, 2}, {to + 2, 3}, {to + 5, 3}};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 3};
	ssize_t n = recvmsg(fd, &m, 0);

	ck_assert_ptr_eq(m.msg_iov, v);
	ck_assert_uint_eq(m.msg_iovlen, 3);
	return n;
}

static ssize_t (*const puts_[])(int fd) = {put_write, put_sendto, put_writev, put_sendmsg};
static ssize_t (*const gets_[])(int fd, char *to) = {
    get_read, get_recvfrom, get_readv, get_recvmsg};

/* Sends the whole text with one call and the limit `out`, and receives it with the limit `in`. */
static void transfer(size_t call, unsigned out, unsigned in)
{
	size_t sent = out && out < 8 ? out : 8;
	size_t want = in && in < sent ? in : sent;
	char got[8] = {0};
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	fault_short(out);
	ck_assert_int_eq(puts_[call](pair[0]), (ssize_t)sent);
	fault_short(in);
	ck_assert_int_eq(gets_[call](pair[1], got), (ssize_t)want);
	ck_assert_mem_eq(got, text, want);
	fault_short(0);
	close(pair[0]);
	close(pair[1]);
}

START_TEST(short_calls_move_at_most_n)
{
	for (size_t call = 0; call < sizeof puts_ / sizeof *puts_; call++)
		for (unsigned n = 0; n <= 9; n++) {
			transfer(call, n, 0);
			transfer(call, 0, n);
		}
}
END_TEST

/* --- accounting ------------------------------------------------------------------------------- */

START_TEST(descriptors_are_counted)
{
	unsigned before = fault_fds();
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	ck_assert_uint_eq(fault_fds(), before + 1);
	close(fd);
	ck_assert_uint_eq(fault_fds(), before);
}
END_TEST

START_TEST(children_are_counted_dead_or_alive)
{
	pid_t pid;

	ck_assert_uint_eq(fault_children(), 0);
	pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	ck_assert_uint_eq(fault_children(), 1);
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOWAIT), 0);
	ck_assert_uint_eq(fault_children(), 1);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	ck_assert_uint_eq(fault_children(), 0);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    each_call_fails_when_told,
	    no_call_fails_for_another,
	    the_nth_call_fails,
	    arming_again_starts_over,
	    each_round_fails_one_call,
	    assertions_are_not_counted,
	    a_fault_in_a_child_is_seen,
	    an_unknown_name_fails_the_test,
	    a_failure_while_armed_is_told,
	    close_closes_even_when_it_fails,
	    open_passes_the_mode_on,
	    short_calls_move_at_most_n,
	    descriptors_are_counted,
	    children_are_counted_dead_or_alive,
	    NULL,
	};

	return suite_of("fault", tests);
}
