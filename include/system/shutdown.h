/* shutdown.h - the orderly end, by signals that get harsher.
 *
 * Of the agent, when it is not PID 1: its own children are ended, no other process is signalled,
 * and the loop is stopped. Of the machine, when it is: every process is ended, every disk
 * unmounted, and the power goes off; the loop never stops. */
#ifndef SYSTEM_SHUTDOWN_H
#define SYSTEM_SHUTDOWN_H

#include "sys/child.h"

enum {
	SHUTDOWN_DEFAULT_SECS = 25,
	SHUTDOWN_LONGEST_SECS = 3600,
	SHUTDOWN_DISKS_MS = 10000, /* for unmounting and syncing */
};

struct shutdown;

/* Everything else has ended and the disks are about to be unmounted: what the owner has open there
 * is to be closed. */
typedef void shutdown_fn(struct shutdown *s);

struct shutdown {
	struct loop *loop;
	struct reaper *reaper;
	shutdown_fn *last; /* the machine's end; NULL: the agent's only */
	struct timer timer;
	uint64_t until_ns; /* of this step */
	uint32_t secs;     /* what the request gave */
	unsigned step;     /* 0 = not shutting down, else 1 + the step of the ladder */
	struct worker disks;
};

void shutdown_init(struct shutdown *s, struct loop *l, struct reaper *r, shutdown_fn *last);

/* Begins; once begun, further calls change nothing. `secs` is for the processes to end by SIGTERM,
 * 0 = the default. Answers that are under way have time to leave first. */
void shutdown_begin(struct shutdown *s, uint32_t secs);

static inline bool shutdown_begun(const struct shutdown *s)
{
	return s->step != 0;
}

#endif
