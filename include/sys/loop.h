/* loop.h - the reactor: one epoll set, level-triggered, one thread.
 *
 * Sources, timers and tasks are intrusive: their memory belongs to the caller, and the loop never
 * allocates. One turn of the loop is: wait; the timers that are due; the sources that are ready;
 * the tasks put off; and then the `done` of every source removed meanwhile, which is the one place
 * where a source's memory may go. A callback may remove its own source, or any other: an event for
 * a removed source is dropped.
 *
 * A callback that returns a negative errno costs its source, never the process: the loop logs it
 * once with the source's name and removes the source. */
#ifndef SYS_LOOP_H
#define SYS_LOOP_H

#include "base/list.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

struct loop;
struct source;
struct task;

/* What happened is a hint (EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR, EPOLLRDHUP): the callback tries
 * and takes EAGAIN as an answer. 0, or -errno to have the source removed. */
typedef int source_fn(struct source *s, uint32_t events);

struct source {
	source_fn *fn;
	void (*done)(
	    struct source *s); /* called at the end of the turn of the removal; may be NULL */
	const char *name;      /* a literal, for the log */
	int fd;                /* owned by the source once added; -1 when not added or removed */
	uint32_t events;       /* what the loop waits for; 0 waits for nothing but errors */
	bool dead;             /* removed, `done` not called yet */
	struct loop *loop;
	struct link link; /* on the loop's list of dead sources */
};

/* Work put off to the end of this turn, e.g. so that a long queue of requests takes turns with
 * others. The task is the caller's; `queued` says whether the loop still has it. */
typedef void task_fn(struct task *t);
struct task {
	task_fn *fn;
	bool queued;
	struct link link;
};

struct timer;

struct loop {
	int epfd;
	bool stopping;
	uint64_t now_ns;      /* CLOCK_MONOTONIC at the start of the turn */
	struct link tasks;    /* put off */
	struct link dead;     /* sources whose `done` is due */
	struct source alarm;  /* the timerfd */
	uint64_t armed_ns;    /* what the timerfd is set to, 0 = disarmed */
	struct timer *timers; /* root of a pairing heap, earliest first */

	/* A turn that takes so long is logged: everybody else waited for it. 0, as after loop_init:
	 * none is. At most a line a second, but for turns that are slower still. */
	uint64_t slow_ns;
	uint64_t slow_told_ns, slowest_ns; /* the last such line, and what it said */
	unsigned slow_turns;               /* since then */
};

enum {
	LOOP_EVENTS =
	    64 /* events taken from epoll a turn; also the bound for a callback's own loops */
};

/* 0 or -errno; on failure nothing is held. */
int loop_init(struct loop *l);

/* Frees what the loop itself holds. Sources must have been removed before; their `done` runs here.
 */
void loop_done(struct loop *l);

/* Runs one turn, waiting at most `wait_ms` (-1: until something happens). 0, or -errno when the
 * loop could not wait: nothing ran then. */
int loop_turn(struct loop *l, int wait_ms);

/* Runs the `done` of every removed source now instead of at the end of the turn, for an owner that
 * goes away. Between turns only. */
void loop_bury(struct loop *l);

/* Turns until loop_stop. A loop that cannot wait is logged and retried; this never gives up. */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);

/* Adds a source that was zeroed but for fn, done and name, or whose `done` was called. Takes fd
 * over on success. 0 or -errno (-EBUSY: it is in the loop, or was removed and its `done` is still
 * due). */
int source_add(struct loop *l, struct source *s, int fd, uint32_t events);

/* Changes what the source waits for; the same set costs nothing, a source that is not in the loop
 * is left alone. 0 or -errno. */
int source_want(struct source *s, uint32_t events);

/* Closes the fd at once; `done` follows at the end of the turn. A source that is dead already, or
 * was never added (zeroed will do), is left alone. */
void source_remove(struct source *s);

/* Like source_remove, but hands the open fd back to the caller instead of closing it. -1 when none.
 */
int source_detach(struct source *s);

/* Runs t->fn at the end of this turn (once, however often it is asked for). Tasks put off by a task
 * run in the next turn, which does not wait then. */
void task_defer(struct loop *l, struct task *t);
void task_cancel(struct task *t);

#endif
