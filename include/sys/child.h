/* child.h - child processes: started with a clean signal state, waited for in one place.
 *
 * The reaper is the only caller of waitpid: when SIGCHLD comes (signals.h) it drains every child
 * that ended, hands each tracked one's status to its owner exactly once, and drops orphans. */
#ifndef SYS_CHILD_H
#define SYS_CHILD_H

#include "base/span.h"
#include "sys/loop.h"
#include "sys/timer.h"

#include <signal.h>
#include <sys/types.h>

struct child;

/* `status` as from waitpid. The child is no longer tracked when this is called. */
typedef void child_fn(struct child *c, int status);

/* Memory owned by the caller, zeroed but for fn; in place until fn was called or child_forget. */
struct child {
	child_fn *fn;
	pid_t pid;   /* 0 = not running */
	int exec_rc; /* in fn: 0, or -errno when its exec failed */

	/* private */
	struct link link;
	int exec_fd; /* while it runs: the pipe that tells of its exec; -1 for a worker */
};

struct reaper {
	struct loop *loop;
	struct link children; /* tracked ones; bounded by what the services start */
	struct task more;     /* children wait that had no turn yet */
};

void reaper_init(struct reaper *r, struct loop *l);

/* Waits for those that have ended, without blocking. Called on SIGCHLD. When many end at once it
 * goes on in the next turn, so that they delay nothing else. A child_fn may start and forget
 * children. */
void reaper_drain(struct reaper *r);

/* Stops going on; children are no longer waited for. */
void reaper_done(struct reaper *r);

/* Whether no child is left, tracked or not, running or not yet waited for. For PID 1, which
 * inherits the children of all that end, this means that no other process is left. */
bool reaper_is_alone(void);

/* How many tracked children run. */
unsigned reaper_count(const struct reaper *r);

/* Sends a signal to every tracked child. */
void reaper_kill_all(struct reaper *r, int sig);

/* What to start. */
struct child_spec {
	const char *path;             /* program, absolute */
	const char *const *argv;      /* ends with NULL */
	const char *const *envp;      /* ends with NULL; NULL = this process's own */
	int in_fd, out_fd, err_fd;    /* become 0, 1, 2; -1 = /dev/null; they stay the caller's */
	const char *const *log_paths; /* instead of out_fd and err_fd: ends with NULL;
				       * the first that is or can be made a regular file is
				       * appended to */
	bool new_group;               /* in a process group of its own */
	int (*become)(void *arg);     /* instead of path, argv and envp, in the child: comes back
				       * only with why it could not, which is told like an errno */
	void *become_arg;
	int keep_fd; /* stays open until the exec; 0 = none */
};

/* Starts a program and tracks it. Signals are unblocked and default in it, and no descriptor but 0,
 * 1, 2 and the one to keep is open. Its exec is not waited for, which hangs when the program's
 * filesystem does: 0 says that there is a child now, and fn will say what became of it, c->exec_rc
 * with it; or -errno. -EBUSY while it runs already. */
int child_launch(struct reaper *r, struct child *c, const struct child_spec *spec);

/* Starts a program and waits for its end: for a worker. Its status as from waitpid, or -errno. */
int child_run(const struct child_spec *spec);

/* No longer interested: fn will not be called; the reaper still buries it. */
void child_forget(struct child *c);

/* A worker: a forked copy of this process that may block, and reports bytes over a pipe. It is in a
 * process group of its own and dies with this process. */
struct worker;
enum { WORKER_REPORT_BYTES = 4096 };

/* The worker has ended, or cannot be killed: called exactly once, from the reaper or a timer. The
 * report is what it wrote, valid during the call. `rc` is
 *   0           it wrote a report, or returned 0; a report that comes with a failure says so
 * itself, or w->status does -EIO        it was killed by a signal, or failed without a word
 *   -ETIMEDOUT  it was killed for being late
 *   -EMSGSIZE   it wrote more than WORKER_REPORT_BYTES, of which the report is the start
 * The worker no longer runs and may be started again or freed. */
typedef void worker_fn(struct worker *w, int rc, struct span report);

/* Runs in the worker; what it writes to report_fd reaches the parent when it has ended. It may
 * block and must not touch the loop. All descriptors but 0, 1, 2, report_fd and the one to keep are
 * closed. Its return value is the exit status (8 bits). */
typedef int worker_body_fn(void *arg, int report_fd);

/* Memory owned by the caller, zeroed but for fn and keep_fd; in place while it runs. */
struct worker {
	worker_fn *fn;
	int keep_fd; /* stays open in the worker and stays the caller's here; 0 = none */
	bool running;
	int status; /* in fn: what the body returned; -1 when it did not come to that */

	/* private */
	int report_fd;
	bool late;
	struct child child;
	struct timer deadline;
};

/* Forks. 0 or -errno (-EBUSY while it runs). The worker's group is killed with SIGKILL after
 * timeout_ms (0 = never); a worker that cannot be killed (stuck in the kernel) is reported as late
 * half a second later all the same and buried when it ends. */
int worker_start(
    struct worker *w, struct reaper *r, worker_body_fn *body, void *arg, uint64_t timeout_ms);

/* Runs a worker to its end: for the start, before the loop turns. How many bytes it reported, of
 * which those that fit are in `report`, or -errno as above. One that is late is killed and left to
 * the reaper. */
ssize_t worker_run(
    worker_body_fn *body, void *arg, uint64_t timeout_ms, uint8_t report[WORKER_REPORT_BYTES]);

/* A worker that nobody waits for: it goes on when this process ends, until its body returns, and
 * the reaper buries it. The body gets `fd` instead of one to report to; it stays the caller's here.
 * 0 or -errno. */
int worker_detach(worker_body_fn *body, void *arg, int fd);

/* Kills it as if its time were up: fn is told of that when it has ended. One that does
 * not run is left alone. */
void worker_kill(struct worker *w);

/* Kills it and forgets it; fn is not called, and the memory may go. What it is at in the kernel may
 * still come to be. One that does not run is left alone. */
void worker_cancel(struct worker *w);

#endif
