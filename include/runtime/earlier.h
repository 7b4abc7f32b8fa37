/* earlier.h - a daemon that an earlier run of the agent started and left behind when it died. It is
 * no child of this one: it is found by its pid file, and watched through a pidfd (pidfd_open(2),
 * Linux 5.3). */
#ifndef RUNTIME_EARLIER_H
#define RUNTIME_EARLIER_H

#include "sys/timer.h"

#include <sys/types.h>

/* The process that a pid file names: only while it leads a process group and runs one of
 * `programs`, which ends with NULL; of these, a path that ends with '/' stands for all below it.
 * Else 0. */
pid_t earlier_find(const char *pid_path, const char *const *programs);

struct earlier;

/* It has ended: rc 0, with `forced` when that took SIGKILL; or -ETIMEDOUT: not even by that. */
typedef void earlier_fn(struct earlier *e, int rc, bool forced);

/* Memory owned by the caller, zeroed but for fn; in place until fn was called, and then to the end
 * of the loop's turn, or until earlier_forget. */
struct earlier {
	earlier_fn *fn;

	/* private */
	struct source source;
	struct timer timer;
	pid_t pid;
	bool forced;
};

/* Sends SIGTERM to the process group that earlier_find() found, and SIGKILL after wait_ms. 0: fn
 * will be called, never from inside this call; or -errno (-ESRCH: it has ended meanwhile). */
int earlier_stop(struct earlier *e, struct loop *l, pid_t pid, uint64_t wait_ms);

/* No longer interested: fn is not called. One that is not being stopped is left alone. */
void earlier_forget(struct earlier *e);

#endif
