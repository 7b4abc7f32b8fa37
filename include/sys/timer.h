/* timer.h - timers on the loop's one timerfd.
 *
 * A pairing heap of intrusive nodes: arming and disarming never allocate or fail. Times are
 * absolute CLOCK_MONOTONIC nanoseconds, so that a clock step moves nothing. All timers due in a
 * turn are collected before the first callback runs: a callback that arms a timer in the past waits
 * for the next turn. */
#ifndef SYS_TIMER_H
#define SYS_TIMER_H

#include "sys/clock.h"
#include "sys/loop.h"

typedef void timer_fn(struct timer *t);

struct timer {
	timer_fn *fn;
	struct loop *loop;
	uint64_t at_ns;                       /* 0 = not armed */
	struct timer *child, *sibling, *prev; /* prev: elder sibling, or parent of the eldest */
	struct link due;                      /* expired, callback not run yet */
};

void timer_init(struct timer *t, struct loop *l, timer_fn *fn);

/* Arms the timer for an absolute time; 0 disarms. An armed timer is moved, one that is due but
 * whose callback did not run yet too. Disarming a timer that is zeroed and was never initialised
 * does nothing. */
void timer_at(struct timer *t, uint64_t at_ns);

/* Arms the timer for the start of this turn + ns. */
void timer_in(struct timer *t, uint64_t ns);

static inline bool timer_armed(const struct timer *t)
{
	return t->at_ns != 0;
}

/* For the loop: runs what is due at l->now_ns; sets the timerfd for the first that is not, 0 or
 * -errno. */
void timers_run(struct loop *l);
int timers_arm(struct loop *l);

#endif
