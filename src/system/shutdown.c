#include "system/shutdown.h"

#include "base/log.h"

/* The ladder: what is sent to the children that are left, and how long they have afterwards. */
static const struct step {
	int sig;
	uint64_t wait_ms; /* 0 = what the request gave */
} ladder[] = {
    {0, 50}, /* the answer to the request leaves */
    {SIGTERM, 0},
    {SIGKILL, 500},
};
enum { STEPS = sizeof ladder / sizeof *ladder, POLL_MS = 20 };

static void finish(struct shutdown *s)
{
	unsigned left = reaper_count(s->reaper);

	if (left)
		log_warn(
		    "shutdown", "ended with children that do not die", KV_NUM("children", left));
	else
		log_info("shutdown", "ended clean");
	loop_stop(s->loop);
}

static void enter(struct shutdown *s, unsigned step)
{
	uint64_t wait_ms = ladder[step].wait_ms ? ladder[step].wait_ms : (uint64_t)s->secs * 1000;

	if (ladder[step].sig)
		reaper_kill_all(s->reaper, ladder[step].sig);
	s->step = step + 1;
	s->until_ns = s->loop->now_ns + wait_ms * NS_PER_MS;
	timer_in(&s->timer, POLL_MS * NS_PER_MS);
}

static void tick(struct timer *t)
{
	struct shutdown *s = container_of(t, struct shutdown, timer);
	bool answered = s->step > 1;

	if (answered && reaper_count(s->reaper) == 0)
		finish(s);
	else if (s->loop->now_ns < s->until_ns)
		timer_in(t, POLL_MS * NS_PER_MS);
	else if (s->step < STEPS)
		enter(s, s->step);
	else
		finish(s);
}

void shutdown_init(struct shutdown *s, struct loop *l, struct reaper *r)
{
	*s = (struct shutdown){.loop = l, .reaper = r};
	timer_init(&s->timer, l, tick);
}

void shutdown_begin(struct shutdown *s, uint32_t secs)
{
	if (s->step)
		return;
	s->secs = secs == 0 ? SHUTDOWN_DEFAULT_SECS : secs;
	if (s->secs > SHUTDOWN_LONGEST_SECS)
		s->secs = SHUTDOWN_LONGEST_SECS;
	log_info("shutdown", "ending", KV_NUM("children", reaper_count(s->reaper)),
	    KV_NUM("seconds", s->secs));
	enter(s, 0);
}
