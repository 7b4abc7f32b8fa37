#include "system/shutdown.h"

#include "base/container.h"
#include "base/log.h"
#include "sys/fs.h"
#include "sys/mount.h"
#include "sys/power.h"

#include <unistd.h>

/* The ladder: what is sent to those that are left, and how long they have afterwards. */
static const struct step {
	int sig;
	uint64_t wait_ms; /* 0 = what the request gave */
} ladder[] = {
    {0, 50}, /* the answer to the request leaves */
    {SIGTERM, 0},
    {SIGKILL, 500},
};
enum { STEPS = sizeof ladder / sizeof *ladder, POLL_MS = 20, POWER_RETRY_MS = 1000 };

/* --- the machine's end --------------------------------------------------------------------------
 */

/* In the worker. What may hang comes last, so that the disks are done with before. Where PID 1 is
 * that of a container, the disks are not its own. */
static int release_disks(void *arg, int report_fd)
{
	char stayed[WORKER_REPORT_BYTES / 2] = "";
	int n = 0;

	(void)arg;
	if (power_is_machines())
		n = mount_release_all(stayed, sizeof stayed);
	if (n < 0)
		fs_write_all(report_fd, span_str(err_text(n)));
	fs_write_all(report_fd, span_str(stayed));
	sync();
	return n != 0;
}

static void power_down(struct timer *t)
{
	int rc = power_off();

	log_error("shutdown", "cannot power off, trying again", KV_ERR(rc));
	timer_in(t, POWER_RETRY_MS * NS_PER_MS);
}

static void disks_released(struct worker *w, int rc, struct span report)
{
	struct shutdown *s = container_of(w, struct shutdown, disks);

	if (rc < 0)
		log_warn("shutdown", "powering off with disks that do not settle", KV_ERR(rc));
	else if (w->status)
		log_warn("shutdown", "powering off with busy disks", KV_SPAN("busy", report));
	else
		log_info("shutdown", "powering off clean");
	timer_init(&s->timer, s->loop, power_down);
	power_down(&s->timer);
}

static void end_machine(struct shutdown *s)
{
	int rc;

	if (!reaper_is_alone())
		log_warn("shutdown", "some processes do not die");
	s->last(s);
	s->disks = (struct worker){.fn = disks_released};
	rc = worker_start(&s->disks, s->reaper, release_disks, NULL, SHUTDOWN_DISKS_MS);
	if (rc < 0) {
		sync();
		disks_released(&s->disks, rc, span_of(NULL, 0));
	}
}

/* --- the agent's end ----------------------------------------------------------------------------
 */

static void end_agent(struct shutdown *s)
{
	unsigned left = reaper_count(s->reaper);

	if (left)
		log_warn(
		    "shutdown", "ended with children that do not die", KV_NUM("children", left));
	else
		log_info("shutdown", "ended clean");
	loop_stop(s->loop);
}

/* --- the ladder ---------------------------------------------------------------------------------
 */

static void signal_all(struct shutdown *s, int sig)
{
	if (!s->last) {
		reaper_kill_all(s->reaper, sig);
		return;
	}
	power_signal_all(sig);
	power_signal_all(SIGCONT); /* a stopped process takes no SIGTERM */
}

static bool is_any_left(const struct shutdown *s)
{
	return s->last ? !reaper_is_alone() : reaper_count(s->reaper) > 0;
}

static void finish(struct shutdown *s)
{
	if (s->last)
		end_machine(s);
	else
		end_agent(s);
}

static void enter(struct shutdown *s, unsigned step)
{
	uint64_t wait_ms = ladder[step].wait_ms ? ladder[step].wait_ms : (uint64_t)s->secs * 1000;

	if (ladder[step].sig)
		signal_all(s, ladder[step].sig);
	s->step = step + 1;
	s->until_ns = s->loop->now_ns + wait_ms * NS_PER_MS;
	timer_in(&s->timer, POLL_MS * NS_PER_MS);
}

static void tick(struct timer *t)
{
	struct shutdown *s = container_of(t, struct shutdown, timer);
	bool answered = s->step > 1;

	if (answered && !is_any_left(s))
		finish(s);
	else if (s->loop->now_ns < s->until_ns)
		timer_in(t, POLL_MS * NS_PER_MS);
	else if (s->step < STEPS)
		enter(s, s->step);
	else
		finish(s);
}

void shutdown_init(struct shutdown *s, struct loop *l, struct reaper *r, shutdown_fn *last)
{
	*s = (struct shutdown){.loop = l, .reaper = r, .last = last};
	timer_init(&s->timer, l, tick);
}

void shutdown_begin(struct shutdown *s, uint32_t secs)
{
	if (s->step)
		return;
	s->secs = secs == 0 ? SHUTDOWN_DEFAULT_SECS : secs;
	if (s->secs > SHUTDOWN_LONGEST_SECS)
		s->secs = SHUTDOWN_LONGEST_SECS;
	log_info("shutdown", s->last ? "powering off" : "ending",
	    KV_NUM("children", reaper_count(s->reaper)), KV_NUM("seconds", s->secs));
	enter(s, 0);
}
