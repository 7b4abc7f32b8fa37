#include "system/reader.h"

#include "sys/fs.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

struct read_job {
	struct reader *reader;
	struct link link; /* on `waiting` or `working` */
	struct worker worker;
	read_fn *fn;
	struct read_caller caller;
	uint64_t offset, length;
	int fd;      /* the file in memory that the worker fills */
	char path[]; /* ends with NUL */
};

struct reader {
	struct loop *loop;
	struct reaper *reaper;
	unsigned max_workers, max_waiting;
	uint64_t timeout_ms;
	struct link waiting, working;
	unsigned n_waiting, n_working;
	struct task start;
};

/* In the worker. */
static int copy_range(void *arg, int report_fd)
{
	const struct read_job *job = arg;
	int64_t rc = fs_copy_range(job->path, job->offset, job->length, job->fd);

	return fs_write_all(report_fd, span_of(&rc, sizeof rc)) < 0;
}

/* The job goes with its end. */
static void end(struct read_job *job, int rc, uint64_t n)
{
	int fd = job->fd;

	job->fd = -1;
	if (rc < 0 && fd >= 0)
		close(fd);
	job->fn(job, rc, rc < 0 ? -1 : fd, n);
	free(job);
}

static void worked(struct worker *w, int rc, struct span report)
{
	struct read_job *job = container_of(w, struct read_job, worker);
	struct reader *r = job->reader;
	int64_t copied = -EIO;

	if (rc == 0 && report.n == sizeof copied)
		memcpy(&copied, report.p, sizeof copied);
	else if (rc < 0)
		copied = rc;
	list_remove(&job->link);
	r->n_working--;
	task_defer(r->loop, &r->start);
	end(job, copied < 0 ? (int)copied : 0, copied < 0 ? 0 : (uint64_t)copied);
}

static int start(struct reader *r, struct read_job *job)
{
	job->fd = fs_memfd("read");
	if (job->fd < 0)
		return job->fd;
	job->worker.fn = worked;
	job->worker.keep_fd = job->fd;
	return worker_start(&job->worker, r->reaper, copy_range, job, r->timeout_ms);
}

static void start_waiting(struct task *t)
{
	struct reader *r = container_of(t, struct reader, start);
	struct link *node;

	while (r->n_working < r->max_workers && (node = list_first(&r->waiting))) {
		struct read_job *job = container_of(node, struct read_job, link);
		int rc = start(r, job);

		list_remove(node);
		r->n_waiting--;
		if (rc < 0) {
			end(job, rc, 0);
			continue;
		}
		list_append(&r->working, node);
		r->n_working++;
	}
}

struct reader *reader_new(struct loop *l, struct reaper *reaper, unsigned max_workers,
    unsigned max_waiting, uint64_t timeout_ms)
{
	struct reader *r = calloc(1, sizeof *r);

	if (!r)
		return NULL;
	*r = (struct reader){
	    .loop = l,
	    .reaper = reaper,
	    .max_workers = max_workers,
	    .max_waiting = max_waiting,
	    .timeout_ms = timeout_ms,
	    .start = {.fn = start_waiting},
	};
	list_init(&r->waiting);
	list_init(&r->working);
	return r;
}

static void free_jobs(struct link *jobs)
{
	struct link *node;

	while ((node = list_first(jobs))) {
		struct read_job *job = container_of(node, struct read_job, link);

		list_remove(node);
		if (job->fd >= 0)
			close(job->fd);
		free(job);
	}
}

void reader_free(struct reader *r)
{
	if (!r)
		return;
	task_cancel(&r->start);
	for (struct link *node = r->working.next; node != &r->working; node = node->next)
		worker_cancel(&container_of(node, struct read_job, link)->worker);
	free_jobs(&r->working);
	free_jobs(&r->waiting);
	free(r);
}

static int check(const struct reader *r, const struct read_range *range)
{
	if (range->length > READER_RANGE_BYTES || range->path.n == 0)
		return -EINVAL;
	if (span_find(range->path, '\0') != range->path.n)
		return -EINVAL;
	if (range->path.n >= PATH_MAX)
		return -ENAMETOOLONG;
	return r->n_waiting == r->max_waiting ? -EAGAIN : 0;
}

int reader_read(
    struct reader *r, const struct read_range *range, read_fn *fn, struct read_caller caller)
{
	int rc = check(r, range);
	struct read_job *job;

	if (rc < 0)
		return rc;
	job = calloc(1, sizeof *job + range->path.n + 1);
	if (!job)
		return -ENOMEM;
	job->reader = r;
	job->fn = fn;
	job->caller = caller;
	job->offset = range->offset;
	job->length = range->length;
	job->fd = -1;
	memcpy(job->path, range->path.p, range->path.n);
	list_append(&r->waiting, &job->link);
	r->n_waiting++;
	task_defer(r->loop, &r->start);
	return 0;
}

struct read_caller read_job_caller(const struct read_job *job)
{
	return job->caller;
}
