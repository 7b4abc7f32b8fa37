/* shutdown.h - the orderly end, by signals that get harsher.
 *
 * Of the agent, when it is not PID 1: its own children are ended, no other process is signalled,
 * and the loop is stopped. Of the machine, when it is: every process is ended, every disk
 * unmounted, and the power goes off; the loop never stops. */
#ifndef SYSTEM_SHUTDOWN_H
#define SYSTEM_SHUTDOWN_H

#include "sys/child.h"

enum { SHUTDOWN_LONGEST_SECS = 3600 };

struct shutdown;

struct shutdown_conf {
	bool machine;          /* its end, else the agent's only */
	uint32_t default_secs; /* for all to end before SIGKILL, when nobody says */
	uint64_t disks_ms;     /* for unmounting and syncing */
	bool restarts; /* the machine, instead of switching it off: a Firecracker microVM has no
			* power switch, and ends when it is reset */

	/* Ends what has an order of its own, within wait_ms; shutdown_services_ended() is called
	 * when that is done, perhaps from inside. NULL: there is nothing of the kind. */
	void (*services)(struct shutdown *s, uint64_t wait_ms);

	/* Everything has ended and the disks are about to be unmounted: what the owner has open
	 * there is to be closed. Of a machine only. */
	void (*last)(struct shutdown *s);
};

enum shutdown_step {
	SHUTDOWN_NOT,
	SHUTDOWN_ANSWER,
	SHUTDOWN_SERVICES,
	SHUTDOWN_TERM,
	SHUTDOWN_KILL
};

struct shutdown {
	struct loop *loop;
	struct reaper *reaper;
	const struct shutdown_conf *conf;
	struct timer timer;
	enum shutdown_step step;
	bool services_ended;
	uint64_t until_ns; /* of this step */
	uint64_t end_ns;   /* of all but SIGKILL: what the request gave */
	uint32_t secs;
	struct worker disks;
};

/* `conf` outlives it. */
void shutdown_init(
    struct shutdown *s, struct loop *l, struct reaper *r, const struct shutdown_conf *conf);

/* Begins; once begun, further calls change nothing. `secs` is for all to end before SIGKILL, 0 =
 * the default. Answers that are under way have time to leave first. */
void shutdown_begin(struct shutdown *s, uint32_t secs);

void shutdown_services_ended(struct shutdown *s);

static inline bool shutdown_begun(const struct shutdown *s)
{
	return s->step != SHUTDOWN_NOT;
}

#endif
