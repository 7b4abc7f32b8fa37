#include "sandbox/job.h"

#include "base/container.h"
#include "sandbox/sandbox.h"
#include "sys/fs.h"

#include <errno.h>
#include <string.h>

struct report {
	int rc;
	char why[SANDBOX_WHY_BYTES];
};
_Static_assert(sizeof(struct report) <= WORKER_REPORT_BYTES, "it arrives whole");

static int work(void *arg, int report_fd)
{
	const struct job *j = arg;
	struct report r = {0};
	struct wr why = wr_of(r.why, sizeof r.why - 1);

	r.rc = j->step(j->arg, &why);
	return fs_write_all(report_fd, span_of(&r, sizeof r)) < 0;
}

static void worked(struct worker *w, int rc, struct span report)
{
	struct job *j = container_of(w, struct job, worker);
	struct report r = {.rc = rc < 0 ? rc : -EIO};

	if (rc == 0 && report.n == sizeof r)
		memcpy(&r, report.p, sizeof r);
	j->then(j->arg, r.rc, r.rc < 0 && !r.why[0] ? err_text(r.rc) : r.why);
}

static void not_started(struct task *t)
{
	struct job *j = container_of(t, struct job, not_started);

	worked(&j->worker, j->start_rc, span_of(NULL, 0));
}

void job_start(struct job *j, job_step_fn *step, job_then_fn *then, uint64_t timeout_ms)
{
	j->step = step;
	j->then = then;
	j->worker.fn = worked;
	j->worker.keep_fd = j->keep_fd;
	j->not_started.fn = not_started;
	j->start_rc = worker_start(&j->worker, j->reaper, work, j, timeout_ms);
	if (j->start_rc < 0)
		task_defer(j->reaper->loop, &j->not_started);
}

void job_kill(struct job *j)
{
	worker_kill(&j->worker);
}

void job_cancel(struct job *j)
{
	worker_cancel(&j->worker);
	task_cancel(&j->not_started);
}
