/* job.h - one step that may block, for something that lives in the loop: a worker (sys/child.h)
 * does it, and its owner is told how that went and, in words, why. */
#ifndef SANDBOX_JOB_H
#define SANDBOX_JOB_H

#include "base/cursor.h"
#include "sys/child.h"

/* Runs in the worker, as a worker_body_fn. 0 or -errno, and in *why what a person is to read of
 * that; when it fails and writes nothing, that is err_text(). */
typedef int job_step_fn(void *arg, struct wr *why);

/* What the step has returned, or -errno when it did not come to that: it could not be started, or
 * as of a worker_fn. `why` is what the step wrote, never "" of a failure; valid during the call.
 * The job no longer runs and may be started again or freed. */
typedef void job_then_fn(void *arg, int rc, const char *why);

/* Memory owned by the caller, zeroed but for the first three; in place while it runs. */
struct job {
	struct reaper *reaper;
	void *arg;   /* of both functions */
	int keep_fd; /* as of a worker */

	/* private */
	struct worker worker;
	job_step_fn *step;
	job_then_fn *then;
	struct task not_started;
	int start_rc;
};

/* Starts one that does not run. `then` is called once, by the loop, never from in here. The step is
 * killed after timeout_ms (0: never). */
void job_start(struct job *j, job_step_fn *step, job_then_fn *then, uint64_t timeout_ms);

/* Whether `then` is still to be called. */
static inline bool job_runs(const struct job *j)
{
	return j->worker.running || j->not_started.queued;
}

/* Kills it; `then` is told, of one that runs, once nothing of the step can come to be any more. */
void job_kill(struct job *j);

/* Kills it and forgets it: `then` is not called. One that does not run is left alone. */
void job_cancel(struct job *j);

#endif
