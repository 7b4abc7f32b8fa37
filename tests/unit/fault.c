#include "fault.h"

#include "suite.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

/* --- the fault that is armed ----------------------------------------------------------------- */

struct fault {
	const char *call; /* NULL: none is armed */
	unsigned nth;
	int err;
	bool stuck;
	atomic_uint calls; /* made since it was armed */
};

/* Shared with forked children, so that the test learns of a fault that a child ran into. */
static struct fault *fault;

/* Set while Check does its own bookkeeping, whose calls are not those of the code under test. */
static bool paused;

static size_t short_bytes; /* 0: no limit */

static bool fails(const char *call)
{
	unsigned n;

	if (!fault || !fault->call || paused || strcmp(fault->call, call) != 0)
		return false;
	n = atomic_fetch_add(&fault->calls, 1) + 1;
	if (n < fault->nth || (n > fault->nth && !fault->stuck))
		return false;
	errno = fault->err;
	return true;
}

static size_t at_most(size_t n)
{
	return short_bytes && short_bytes < n ? short_bytes : n;
}

/* --- the wrappers ---------------------------------------------------------------------------- */

/* Calls that need no more than failing: type, value on failure, name, parameters, arguments. */
// clang-format off
#define PLAIN_CALLS(ROW) \
	ROW(void *, NULL, malloc, (size_t n), (n)) \
	ROW(void *, NULL, calloc, (size_t n, size_t size), (n, size)) \
	ROW(void *, NULL, realloc, (void *p, size_t n), (p, n)) \
	ROW(void *, MAP_FAILED, mmap, (void *p, size_t n, int prot, int flags, int fd, off_t at), \
	    (p, n, prot, flags, fd, at)) \
	ROW(ssize_t, -1, read, (int fd, void *p, size_t n), (fd, p, at_most(n))) \
	ROW(ssize_t, -1, write, (int fd, const void *p, size_t n), (fd, p, at_most(n))) \
	ROW(ssize_t, -1, recvfrom, \
	    (int fd, void *p, size_t n, int flags, struct sockaddr *from, socklen_t *len), \
	    (fd, p, at_most(n), flags, from, len)) \
	ROW(ssize_t, -1, sendto, \
	    (int fd, const void *p, size_t n, int flags, const struct sockaddr *to, socklen_t len), \
	    (fd, p, at_most(n), flags, to, len)) \
	ROW(int, -1, socket, (int domain, int type, int protocol), (domain, type, protocol)) \
	ROW(int, -1, bind, (int fd, const struct sockaddr *sa, socklen_t len), (fd, sa, len)) \
	ROW(int, -1, listen, (int fd, int backlog), (fd, backlog)) \
	ROW(int, -1, connect, (int fd, const struct sockaddr *sa, socklen_t len), (fd, sa, len)) \
	ROW(int, -1, accept4, (int fd, struct sockaddr *sa, socklen_t *len, int flags), \
	    (fd, sa, len, flags)) \
	ROW(int, -1, getsockname, (int fd, struct sockaddr *sa, socklen_t *len), (fd, sa, len)) \
	ROW(int, -1, getsockopt, (int fd, int level, int name, void *p, socklen_t *len), \
	    (fd, level, name, p, len)) \
	ROW(int, -1, setsockopt, (int fd, int level, int name, const void *p, socklen_t len), \
	    (fd, level, name, p, len)) \
	ROW(int, -1, epoll_create1, (int flags), (flags)) \
	ROW(int, -1, epoll_ctl, (int epfd, int op, int fd, struct epoll_event *ev), (epfd, op, fd, ev)) \
	ROW(int, -1, epoll_wait, (int epfd, struct epoll_event *ev, int max, int wait_ms), \
	    (epfd, ev, max, wait_ms)) \
	ROW(int, -1, timerfd_create, (int clock, int flags), (clock, flags)) \
	ROW(int, -1, timerfd_settime, \
	    (int fd, int flags, const struct itimerspec *to, struct itimerspec *old), \
	    (fd, flags, to, old)) \
	ROW(int, -1, clock_settime, (clockid_t clock, const struct timespec *to), (clock, to)) \
	ROW(int, -1, signalfd, (int fd, const sigset_t *mask, int flags), (fd, mask, flags)) \
	ROW(int, -1, pipe2, (int fds[2], int flags), (fds, flags)) \
	ROW(pid_t, -1, fork, (void), ()) \
	ROW(int, -1, execve, (const char *path, char *const *argv, char *const *envp), \
	    (path, argv, envp)) \
	ROW(pid_t, -1, waitpid, (pid_t pid, int *status, int options), (pid, status, options)) \
	ROW(int, -1, fstat, (int fd, struct stat *st), (fd, st)) \
	ROW(int, -1, ftruncate, (int fd, off_t n), (fd, n)) \
	ROW(int, -1, fsync, (int fd), (fd)) \
	ROW(int, -1, rename, (const char *from, const char *to), (from, to)) \
	ROW(ssize_t, -1, splice, \
	    (int in, off64_t *in_at, int out, off64_t *out_at, size_t n, unsigned flags), \
	    (in, in_at, out, out_at, n, flags)) \
	ROW(ssize_t, -1, sendfile, (int out, int in, off_t *at, size_t n), (out, in, at, n)) \
	ROW(ssize_t, -1, getrandom, (void *p, size_t n, unsigned flags), (p, n, flags)) \
	ROW(int, -1, memfd_create, (const char *name, unsigned flags), (name, flags)) \
	ROW(int, -1, inotify_init1, (int flags), (flags)) \
	ROW(int, -1, inotify_add_watch, (int fd, const char *path, uint32_t mask), (fd, path, mask))
// clang-format on

/* The real functions are weak so that a program which wraps nothing links, too. */
#define DECLARE(type, name, params)                                                                \
	type __real_##name params __attribute__((weak));                                           \
	type __wrap_##name params

#define DEFINE_PLAIN(type, failure, name, params, args)                                            \
	DECLARE(type, name, params);                                                               \
	type __wrap_##name params                                                                  \
	{                                                                                          \
		return fails(#name) ? failure : __real_##name args;                                \
	}

PLAIN_CALLS(DEFINE_PLAIN)

DECLARE(int, open, (const char *path, int flags, ...));
DECLARE(int, openat, (int dir, const char *path, int flags, ...));
DECLARE(int, close, (int fd));
DECLARE(ssize_t, readv, (int fd, const struct iovec *iov, int n));
DECLARE(ssize_t, writev, (int fd, const struct iovec *iov, int n));
DECLARE(ssize_t, recvmsg, (int fd, struct msghdr *m, int flags));
DECLARE(ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags));

/* The mode stands among the arguments only where a file may be made. */
static mode_t mode_of(int flags, va_list ap)
{
	return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(ap, mode_t) : 0;
}

int __wrap_open(const char *path, int flags, ...)
{
	mode_t mode;
	va_list ap;

	va_start(ap, flags);
	mode = mode_of(flags, ap);
	va_end(ap);
	return fails("open") ? -1 : __real_open(path, flags, mode);
}

int __wrap_openat(int dir, const char *path, int flags, ...)
{
	mode_t mode;
	va_list ap;

	va_start(ap, flags);
	mode = mode_of(flags, ap);
	va_end(ap);
	return fails("openat") ? -1 : __real_openat(dir, path, flags, mode);
}

/* Linux frees the descriptor even when close reports an error. */
int __wrap_close(int fd)
{
	int rc = __real_close(fd);

	return fails("close") ? -1 : rc;
}

enum { IOV_ROOM = 64 };

/* Copies the front of `from` that fault_short lets through, and returns the number of pieces. */
static int cut_iov(struct iovec to[IOV_ROOM], const struct iovec *from, size_t n)
{
	size_t left = short_bytes;
	int pieces = 0;

	ck_assert_uint_le(n, IOV_ROOM);
	for (size_t i = 0; i < n && (left || !short_bytes); i++) {
		struct iovec piece = from[i];

		if (short_bytes && piece.iov_len > left)
			piece.iov_len = left;
		left -= short_bytes ? piece.iov_len : 0;
		to[pieces++] = piece;
	}
	return pieces;
}

ssize_t __wrap_readv(int fd, const struct iovec *iov, int n)
{
	struct iovec cut[IOV_ROOM];

	return fails("readv") ? -1 : __real_readv(fd, cut, cut_iov(cut, iov, (size_t)n));
}

ssize_t __wrap_writev(int fd, const struct iovec *iov, int n)
{
	struct iovec cut[IOV_ROOM];

	return fails("writev") ? -1 : __real_writev(fd, cut, cut_iov(cut, iov, (size_t)n));
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *m, int flags)
{
	struct iovec cut[IOV_ROOM], *iov = m->msg_iov;
	size_t pieces = m->msg_iovlen;
	ssize_t n;

	if (fails("recvmsg"))
		return -1;
	m->msg_iovlen = (size_t)cut_iov(cut, iov, pieces);
	m->msg_iov = cut;
	n = __real_recvmsg(fd, m, flags);
	m->msg_iov = iov;
	m->msg_iovlen = pieces;
	return n;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags)
{
	struct iovec cut[IOV_ROOM];
	struct msghdr shorter = *m;

	if (fails("sendmsg"))
		return -1;
	shorter.msg_iovlen = (size_t)cut_iov(cut, m->msg_iov, m->msg_iovlen);
	shorter.msg_iov = cut;
	return __real_sendmsg(fd, &shorter, flags);
}

/* --- Check's own calls --------------------------------------------------------------------- */

DECLARE(void, _mark_point, (const char *file, int line));
DECLARE(void, _ck_assert_failed,
    (const char *file, int line, const char *expr, const char *format, ...));

/* Check allocates on every assertion, also on those that hold. */
void __wrap__mark_point(const char *file, int line)
{
	paused = true;
	__real__mark_point(file, line);
	paused = false;
}

/* Does not return; a test that has failed needs no more faults. */
void __wrap__ck_assert_failed(const char *file, int line, const char *expr, const char *format, ...)
{
	char message[4096];
	va_list ap;

	fault_disarm();
	if (!format)
		__real__ck_assert_failed(file, line, expr, NULL);
	va_start(ap, format);
	vsnprintf(message, sizeof message, format, ap);
	va_end(ap);
	__real__ck_assert_failed(file, line, expr, "%s", message);
}

/* --- what the tests call --------------------------------------------------------------------- */

/* The real function is NULL where the program was linked without wrapping it. */
struct call {
	const char *name;
	void (*real)(void);
};

#define CALL_ROW(name)                               {#name, (void (*)(void))__real_##name},
#define PLAIN_ROW(type, failure, name, params, args) CALL_ROW(name)

// clang-format off
static const struct call calls[] = {
	PLAIN_CALLS(PLAIN_ROW)
	CALL_ROW(open)
	CALL_ROW(openat)
	CALL_ROW(close)
	CALL_ROW(readv)
	CALL_ROW(writev)
	CALL_ROW(recvmsg)
	CALL_ROW(sendmsg)
};
// clang-format on

static bool is_wrapped(const char *call)
{
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		if (strcmp(calls[i].name, call) == 0)
			return calls[i].real != NULL;
	return false;
}

void fault_arm(const char *call, unsigned nth, int err, bool stuck)
{
	fault_disarm();
	if (!is_wrapped(call))
		ck_abort_msg("%s is not wrapped: see FAULTS in the Makefile", call);
	if (!fault) {
		void *p = __real_mmap(
		    NULL, sizeof *fault, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

		ck_assert(p != MAP_FAILED);
		fault = p;
	}
	fault->nth = nth;
	fault->err = err;
	fault->stuck = stuck;
	atomic_store(&fault->calls, 0);
	fault->call = call;
}

bool fault_disarm(void)
{
	if (!fault || !fault->call)
		return false;
	fault->call = NULL;
	return atomic_load(&fault->calls) >= fault->nth;
}

void fault_short(unsigned n)
{
	short_bytes = n;
}

static DIR *open_dir(const char *path)
{
	DIR *d = opendir(path);

	if (!d)
		ck_abort_msg("%s: %s", path, strerror(errno));
	return d;
}

unsigned fault_fds(void)
{
	DIR *d = open_dir("/proc/self/fd");
	unsigned n = 0;

	for (struct dirent *e = readdir(d); e; e = readdir(d))
		if (e->d_name[0] != '.')
			n++;
	closedir(d);
	return n - 1; /* the one that was open for counting */
}

/* The parent of a process, or 0 when it is gone. proc(5): the fields after the name in parentheses,
 * which may hold anything, are the state and the parent. */
static pid_t parent_of(const char *pid)
{
	char path[64], stat[512];
	const char *name_end;
	size_t n;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
	f = fopen(path, "r");
	if (!f)
		return 0;
	n = fread(stat, 1, sizeof stat - 1, f);
	fclose(f);
	stat[n] = '\0';
	name_end = strrchr(stat, ')');
	return name_end && strlen(name_end) > 4 ? atoi(name_end + 4) : 0;
}

unsigned fault_children(void)
{
	DIR *d = open_dir("/proc");
	unsigned n = 0;

	for (struct dirent *e = readdir(d); e; e = readdir(d))
		if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && parent_of(e->d_name) == getpid())
			n++;
	closedir(d);
	return n;
}

/* --- coverage --------------------------------------------------------------------------------- */

/* Writes the counts of a coverage build, where it is one. */
extern void __gcov_dump(void) __attribute__((weak));
_Noreturn void __real__exit(int status);
_Noreturn void __wrap__exit(int status);

static bool root_is_changed;

static void change_root_back(void)
{
	if (root_is_changed && fchdir(STDIN_FILENO) == 0)
		(void)!chroot(".");
}

void fault_keep_coverage(void)
{
	int root = __gcov_dump ? open("/", O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;

	if (root < 0)
		return;
	dup2(root, STDIN_FILENO); /* which workers keep, too */
	close(root);
	root_is_changed = true;
	atexit(change_root_back); /* libgcov writes after that */
}

/* How forked children end, whom libgcov does not see go. */
void __wrap__exit(int status)
{
	if (__gcov_dump) {
		paused = true; /* here; the parent's fault is shared */
		change_root_back();
		__gcov_dump();
	}
	__real__exit(status);
}
