#include "system/shutdown.h"

#include "base/container.h"
#include "base/log.h"
#include "sys/fs.h"
#include "sys/mount.h"
#include "sys/power.h"

#include <unistd.h>

enum {
	ANSWER_MS = 50, /* for the answer to the request to leave */
	KILL_MS = 500,
	REST_MS = 2000, /* of the whole time, what the services leave to all others; or a quarter */
	POLL_MS = 20,
	POWER_RETRY_MS = 1000,
};

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
	struct shutdown *s = container_of(t, struct shutdown, timer);
	int rc = s->conf->restarts ? power_restart() : power_off();

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
	s->conf->last(s);
	s->disks = (struct worker){.fn = disks_released};
	rc = worker_start(&s->disks, s->reaper, release_disks, NULL, s->conf->disks_ms);
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
	if (!s->conf->machine) {
		reaper_kill_all(s->reaper, sig);
		return;
	}
	power_signal_all(sig);
	power_signal_all(SIGCONT); /* a stopped process takes no SIGTERM */
}

static bool is_any_left(const struct shutdown *s)
{
	return s->conf->machine ? !reaper_is_alone() : reaper_count(s->reaper) > 0;
}

static void finish(struct shutdown *s)
{
	if (s->conf->machine)
		end_machine(s);
	else
		end_agent(s);
}

static uint64_t rest_ns(const struct shutdown *s)
{
	uint64_t quarter_ms = (uint64_t)s->secs * 1000 / 4;
	return (quarter_ms < REST_MS ? quarter_ms : REST_MS) * NS_PER_MS;
}

static void begin_services(struct shutdown *s)
{
	s->until_ns = s->end_ns - rest_ns(s);
	if (s->conf->services)
		s->conf->services(s, (s->until_ns - s->loop->now_ns) / NS_PER_MS);
	else
		s->services_ended = true;
}

static void begin_term(struct shutdown *s)
{
	signal_all(s, SIGTERM);
	s->until_ns = s->end_ns;
}

static void begin_kill(struct shutdown *s)
{
	signal_all(s, SIGKILL);
	s->until_ns = s->loop->now_ns + KILL_MS * NS_PER_MS;
}

/* What each step begins with, and what ends it before its time. */
static void (*const begin[])(struct shutdown *) = {
    [SHUTDOWN_SERVICES] = begin_services,
    [SHUTDOWN_TERM] = begin_term,
    [SHUTDOWN_KILL] = begin_kill,
};

static bool is_over(const struct shutdown *s)
{
	return s->loop->now_ns >= s->until_ns ||
	    (s->step == SHUTDOWN_SERVICES && s->services_ended);
}

static void tick(struct timer *t)
{
	struct shutdown *s = container_of(t, struct shutdown, timer);
	bool all_ended = s->step >= SHUTDOWN_TERM && !is_any_left(s);

	if (all_ended || (s->step == SHUTDOWN_KILL && is_over(s))) {
		finish(s);
		return;
	}
	if (is_over(s))
		begin[++s->step](s);
	timer_in(t, POLL_MS * NS_PER_MS);
}

void shutdown_services_ended(struct shutdown *s)
{
	s->services_ended = true;
}

void shutdown_init(
    struct shutdown *s, struct loop *l, struct reaper *r, const struct shutdown_conf *conf)
{
	*s = (struct shutdown){.loop = l, .reaper = r, .conf = conf};
	timer_init(&s->timer, l, tick);
}

void shutdown_begin(struct shutdown *s, uint32_t secs)
{
	if (shutdown_begun(s))
		return;
	s->secs = secs == 0 ? s->conf->default_secs : secs;
	if (s->secs > SHUTDOWN_LONGEST_SECS)
		s->secs = SHUTDOWN_LONGEST_SECS;
	log_info("shutdown", s->conf->machine ? "powering off" : "ending",
	    KV_NUM("children", reaper_count(s->reaper)), KV_NUM("seconds", s->secs));
	s->step = SHUTDOWN_ANSWER;
	s->until_ns = s->loop->now_ns + ANSWER_MS * NS_PER_MS;
	s->end_ns = s->until_ns + (uint64_t)s->secs * NS_PER_SEC;
	timer_in(&s->timer, POLL_MS * NS_PER_MS);
}
