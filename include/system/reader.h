/* reader.h - ranges of files, read for the host.
 *
 * A file may lie on a shared filesystem whose server hangs, so each read is a worker's: it copies
 * the range into a file in memory, and that file is the answer. At most `max_workers` read at once;
 * further requests wait in order. */
#ifndef SYSTEM_READER_H
#define SYSTEM_READER_H

#include "sys/child.h"

enum { READER_RANGE_BYTES = 64 * 1024 * 1024 };

struct reader;
struct read_job;

/* The end of a read, called exactly once: rc >= 0 and `fd` holds `n` bytes from offset 0, to be
 * closed by the callee; or rc is -errno and fd -1. `job->ctx` is the caller's; the job goes after
 * the call. */
typedef void read_fn(struct read_job *job, int rc, int fd, uint64_t n);

struct read_range {
	struct span path; /* copied */
	uint64_t offset, length;
};

/* What the caller keeps with a read; large enough for a server and a token. */
struct read_caller {
	void *owner;
	uint32_t id[2];
};

/* NULL without memory. */
struct reader *reader_new(struct loop *l, struct reaper *r, unsigned max_workers,
    unsigned max_waiting, uint64_t timeout_ms);

/* Drops the waiting, kills the working. Between turns of the loop only. */
void reader_free(struct reader *r);

/* Reads a range; short where the file ends. 0: `fn` will be called, never from inside this call.
 * Else -errno: -EINVAL (a length over READER_RANGE_BYTES, a path that is empty or holds a NUL),
 * -ENAMETOOLONG, -EAGAIN (too many wait), -ENOMEM. */
int reader_read(
    struct reader *r, const struct read_range *range, read_fn *fn, struct read_caller caller);

struct read_caller read_job_caller(const struct read_job *job);

#endif
