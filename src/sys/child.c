#include "sys/child.h"

#include "base/container.h"
#include "base/log.h"
#include "sys/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	KILL_GRACE_MS = 500, /* for a worker to die of SIGKILL */
	DRAIN_BURST = 256,   /* children that are waited for in one turn */
};

/* What a child says over its pipe: the end of the pipe is a successful exec. */
static int exec_result(int report_fd, int wait_ms)
{
	struct pollfd report = {.fd = report_fd, .events = POLLIN};
	int rc = 0;
	ssize_t n;

	if (poll(&report, 1, wait_ms) == 0)
		return -ETIMEDOUT;
	do
		n = read(report_fd, &rc, sizeof rc);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : rc;
}

/* --- the reaper ------------------------------------------------------------------------------ */

static void drain_more(struct task *t)
{
	reaper_drain(container_of(t, struct reaper, more));
}

void reaper_init(struct reaper *r, struct loop *l)
{
	*r = (struct reaper){.loop = l, .more = {.fn = drain_more}};
	list_init(&r->children);
}

void reaper_done(struct reaper *r)
{
	task_cancel(&r->more);
}

static struct child *find(const struct reaper *r, pid_t pid)
{
	for (struct link *l = r->children.next; l != &r->children; l = l->next) {
		struct child *c = container_of(l, struct child, link);

		if (c->pid == pid)
			return c;
	}
	return NULL;
}

void reaper_drain(struct reaper *r)
{
	for (unsigned n = 0; n < DRAIN_BURST; n++) {
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);
		struct child *c;

		if (pid < 0 && errno == EINTR)
			continue;
		if (pid <= 0)
			return;
		c = find(r, pid);
		if (!c)
			continue;
		c->exec_rc = c->exec_fd < 0 ? 0 : exec_result(c->exec_fd, 0);
		child_forget(c);
		c->fn(c, status);
	}
	task_defer(r->loop, &r->more);
}

bool reaper_is_alone(void)
{
	siginfo_t info;
	return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
}

unsigned reaper_count(const struct reaper *r)
{
	unsigned n = 0;

	for (struct link *l = r->children.next; l != &r->children; l = l->next)
		n++;
	return n;
}

void reaper_kill_all(struct reaper *r, int sig)
{
	for (struct link *l = r->children.next; l != &r->children; l = l->next)
		kill(container_of(l, struct child, link)->pid, sig);
}

static void track(struct reaper *r, struct child *c, pid_t pid, int exec_fd)
{
	c->pid = pid;
	c->exec_fd = exec_fd;
	list_append(&r->children, &c->link);
}

void child_forget(struct child *c)
{
	if (c->pid == 0)
		return;
	list_remove(&c->link);
	if (c->exec_fd >= 0)
		close(c->exec_fd);
	c->pid = 0;
}

/* fork(2) for a child with the signal state of a fresh process. No signal arrives in between, when
 * it could still be taken for one to the parent. A pid, 0 in the child, or -errno. */
static pid_t fork_clean(void)
{
	sigset_t all, before;
	pid_t pid;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0) {
		signals_reset();
		return 0;
	}
	if (pid < 0)
		pid = -errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	return pid;
}

/* --- programs -------------------------------------------------------------------------------- */

static void close_range_of(int first, int last)
{
	if (first <= last)
		syscall(SYS_close_range, (unsigned)first, (unsigned)last, 0U);
}

/* A connection that the parent closes must not stay open because a child has a copy of it, which
 * may hang in its exec. What is left where the kernel cannot do it (before 5.9) is close-on-exec.
 */
static void close_inherited(int keep_a, int keep_b)
{
	int low = keep_a < keep_b ? keep_a : keep_b;
	int high = keep_a < keep_b ? keep_b : keep_a;

	close_range_of(3, low - 1);
	close_range_of(low < 3 ? 3 : low + 1, high - 1);
	close_range_of(high < 3 ? 3 : high + 1, INT32_MAX);
}

/* A copy of fd (of /dev/null for -1) above 2, so that putting one in its place overwrites no other.
 * An fd or -errno. */
static int lift(int fd)
{
	int from = fd < 0 ? open("/dev/null", O_RDWR | O_CLOEXEC) : fd;
	int above = from < 0 ? -1 : fcntl(from, F_DUPFD_CLOEXEC, 3);
	return above < 0 ? -errno : above;
}

/* An fd or -1. The directory may be one that others can write to, too: a fifo in it would hang the
 * child, and a link lead elsewhere. */
static int open_regular(const char *path)
{
	int fd = open(path,
	    O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0640);
	struct stat st;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && fcntl(fd, F_SETFL, O_APPEND) == 0)
		return fd;
	close(fd);
	return -1;
}

/* The log of a child that has none is /dev/null. */
static int open_log(const char *const *paths)
{
	int fd = -1;

	for (; fd < 0 && *paths; paths++)
		fd = open_regular(*paths);
	return fd;
}

static int place_fds(const struct child_spec *spec)
{
	const int log_fd = spec->log_paths ? open_log(spec->log_paths) : -1;
	const int from[] = {spec->in_fd, spec->log_paths ? log_fd : spec->out_fd,
	    spec->log_paths ? log_fd : spec->err_fd};
	int above[3];

	for (int i = 0; i < 3; i++) {
		above[i] = lift(from[i]);
		if (above[i] < 0)
			return above[i];
	}
	for (int i = 0; i < 3; i++)
		if (dup2(above[i], i) < 0)
			return -errno;
	return 0;
}

static int become_program(const struct child_spec *spec)
{
	execve(spec->path, (char *const *)spec->argv,
	    spec->envp ? (char *const *)spec->envp : environ);
	return -errno;
}

/* In the child, after which nothing of it is left but the program or an error code in the pipe. */
static _Noreturn void run_program(const struct child_spec *spec, int report_fd)
{
	int report_above = lift(report_fd);
	int rc = report_above < 0 ? report_above : place_fds(spec);

	if (rc == 0)
		close_inherited(report_above, spec->keep_fd);
	if (rc == 0 && spec->new_group && setpgid(0, 0) < 0)
		rc = -errno;
	if (rc == 0)
		rc = spec->become ? spec->become(spec->become_arg) : become_program(spec);
	(void)!write(report_above < 0 ? report_fd : report_above, &rc, sizeof rc);
	_exit(127);
}

/* One that is late is left to the reaper. */
static void bury(pid_t pid, int rc)
{
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, rc == -ETIMEDOUT ? WNOHANG : 0) < 0 && errno == EINTR)
		;
}

/* Forks; *report_fd tells how the exec went. A pid or -errno. */
static pid_t start(const struct child_spec *spec, int *report_fd)
{
	int report[2];
	pid_t pid;

	if (pipe2(report, O_CLOEXEC) < 0)
		return -errno;
	pid = fork_clean();
	if (pid == 0)
		run_program(spec, report[1]);
	close(report[1]);
	if (pid > 0 && spec->new_group)
		setpgid(pid, pid); /* by both sides: it may be killed before it has come to that */
	if (pid < 0)
		close(report[0]);
	else
		*report_fd = report[0];
	return pid;
}

int child_launch(struct reaper *r, struct child *c, const struct child_spec *spec)
{
	int exec_fd;
	pid_t pid;

	if (c->pid != 0)
		return -EBUSY;
	pid = start(spec, &exec_fd);
	if (pid < 0)
		return pid;
	track(r, c, pid, exec_fd);
	return 0;
}

int child_run(const struct child_spec *spec)
{
	int report_fd, rc, status;
	pid_t pid = start(spec, &report_fd);

	if (pid < 0)
		return pid;
	rc = exec_result(report_fd, -1);
	close(report_fd);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return rc < 0 ? rc : status;
}

/* --- workers --------------------------------------------------------------------------------- */

struct work {
	worker_body_fn *body;
	void *arg;
	int report_fd, keep_fd;
	pid_t parent; /* it dies with this one; 0: it does not */
};

/* In the worker. */
static _Noreturn void run_work(const struct work *work)
{
	setpgid(0, 0);
	if (work->parent) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != work->parent) /* it died before the prctl */
			_exit(1);
	}
	log_sinks(NULL, 0); /* their descriptors go */
	close_inherited(work->report_fd, work->keep_fd);
	_exit(work->body(work->arg, work->report_fd));
}

/* What the pipe holds, at most cap bytes. Their number or -errno. */
static ssize_t read_report(int fd, uint8_t *buf, size_t cap)
{
	size_t n = 0;

	while (n < cap) {
		ssize_t got = read(fd, buf + n, cap - n);

		if (got == 0 || (got < 0 && errno == EAGAIN))
			break;
		if (got > 0)
			n += (size_t)got;
		else if (errno != EINTR)
			return -errno;
	}
	return (ssize_t)n;
}

static void let_go(struct worker *w)
{
	child_forget(&w->child);
	timer_at(&w->deadline, 0);
	close(w->report_fd);
	w->running = false;
}

/* The last that is done with a worker: its memory may be gone when this returns. */
static void finish(struct worker *w, int rc)
{
	uint8_t buf[WORKER_REPORT_BYTES + 1];
	ssize_t n = read_report(w->report_fd, buf, sizeof buf);

	if (rc == 0 && n < 0)
		rc = (int)n;
	else if (rc == 0 && n > WORKER_REPORT_BYTES)
		rc = -EMSGSIZE;
	else if (rc == 0 && n == 0 && w->status != 0)
		rc = -EIO;
	let_go(w);
	w->fn(w, rc, span_first(span_of(buf, n < 0 ? 0 : (size_t)n), WORKER_REPORT_BYTES));
}

static void worker_ended(struct child *c, int status)
{
	struct worker *w = container_of(c, struct worker, child);

	w->status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	finish(w, w->late ? -ETIMEDOUT : WIFEXITED(status) ? 0 : -EIO);
}

void worker_kill(struct worker *w)
{
	if (!w->running || w->late)
		return;
	w->late = true;
	kill(-w->child.pid, SIGKILL);
	timer_in(&w->deadline, KILL_GRACE_MS * NS_PER_MS);
}

static void worker_late(struct timer *t)
{
	struct worker *w = container_of(t, struct worker, deadline);

	if (w->late)
		finish(w, -ETIMEDOUT);
	else
		worker_kill(w);
}

int worker_start(
    struct worker *w, struct reaper *r, worker_body_fn *body, void *arg, uint64_t timeout_ms)
{
	struct work work = {.body = body, .arg = arg, .keep_fd = w->keep_fd, .parent = getpid()};
	int report[2];
	pid_t pid;

	if (w->running)
		return -EBUSY;
	if (pipe2(report, O_CLOEXEC) < 0)
		return -errno;
	work.report_fd = report[1];
	pid = fork_clean();
	if (pid == 0)
		run_work(&work);
	close(report[1]);
	if (pid < 0) {
		close(report[0]);
		return pid;
	}
	setpgid(pid, pid); /* by both sides, so that neither has to wait for the other */
	/* For the case that it is read while a worker that cannot be killed has the other end. */
	fcntl(report[0], F_SETFL, O_NONBLOCK);
	w->report_fd = report[0];
	w->running = true;
	w->late = false;
	w->status = 0;
	w->child = (struct child){.fn = worker_ended};
	track(r, &w->child, pid, -1);
	timer_init(&w->deadline, r->loop, worker_late);
	if (timeout_ms)
		timer_in(&w->deadline, timeout_ms * NS_PER_MS);
	return 0;
}

/* Reads until the worker is done with the pipe, and keeps what fits. How much there was, or -errno.
 */
static ssize_t await_report(int fd, uint64_t timeout_ms, uint8_t report[WORKER_REPORT_BYTES])
{
	uint64_t end_ns = clock_mono_ns() + timeout_ms * NS_PER_MS;
	struct pollfd source = {.fd = fd, .events = POLLIN};
	size_t n = 0;

	for (;;) {
		uint64_t now_ns = clock_mono_ns();
		size_t room = n < WORKER_REPORT_BYTES ? WORKER_REPORT_BYTES - n : 0;
		uint8_t beyond[256];
		ssize_t got;

		if (now_ns >= end_ns ||
		    poll(&source, 1, (int)((end_ns - now_ns) / NS_PER_MS) + 1) == 0)
			return -ETIMEDOUT;
		got = room ? read(fd, report + n, room) : read(fd, beyond, sizeof beyond);
		if (got == 0)
			return (ssize_t)n;
		if (got > 0)
			n += (size_t)got;
		else if (errno != EINTR)
			return -errno;
	}
}

ssize_t worker_run(
    worker_body_fn *body, void *arg, uint64_t timeout_ms, uint8_t report[WORKER_REPORT_BYTES])
{
	struct work work = {.body = body, .arg = arg, .parent = getpid()};
	int pipe_fds[2];
	ssize_t n;
	pid_t pid;

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return -errno;
	work.report_fd = pipe_fds[1];
	pid = fork_clean();
	if (pid == 0)
		run_work(&work);
	close(pipe_fds[1]);
	n = pid < 0 ? pid : await_report(pipe_fds[0], timeout_ms, report);
	close(pipe_fds[0]);
	if (pid > 0)
		bury(pid, n < 0 ? -ETIMEDOUT : 0);
	return n;
}

int worker_detach(worker_body_fn *body, void *arg, int fd)
{
	const struct work work = {.body = body, .arg = arg, .report_fd = fd};
	pid_t pid = fork_clean();

	if (pid == 0)
		run_work(&work);
	return pid < 0 ? pid : 0;
}

void worker_cancel(struct worker *w)
{
	if (!w->running)
		return;
	kill(-w->child.pid, SIGKILL);
	let_go(w);
}
