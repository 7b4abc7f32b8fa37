/* shutdown.h - the orderly end of the agent when it is not PID 1: its own children are ended, by
 * signals that get harsher, and then the loop is stopped. No other process is signalled. */
#ifndef SYSTEM_SHUTDOWN_H
#define SYSTEM_SHUTDOWN_H

#include "sys/child.h"

enum { SHUTDOWN_DEFAULT_SECS = 25, SHUTDOWN_LONGEST_SECS = 3600 };

struct shutdown {
	struct loop *loop;
	struct reaper *reaper;
	struct timer timer;
	uint64_t until_ns; /* of this step */
	uint32_t secs;     /* what the request gave */
	unsigned step;     /* 0 = not shutting down, else 1 + the step of the ladder */
};

void shutdown_init(struct shutdown *s, struct loop *l, struct reaper *r);

/* Begins; once begun, further calls change nothing. `secs` is for the children to end by SIGTERM, 0
 * = the default. Answers that are under way have time to leave first. */
void shutdown_begin(struct shutdown *s, uint32_t secs);

static inline bool shutdown_begun(const struct shutdown *s)
{
	return s->step != 0;
}

#endif
