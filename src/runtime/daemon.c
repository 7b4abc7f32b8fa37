#include "runtime/daemon.h"

#include "base/container.h"
#include "base/log.h"
#include "sys/fs.h"
#include "sys/sock.h"
#include "sys/tail.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

enum {
	WORDS_MS = 1000, /* for reading the end of its log file */
	WORDS_LINES = 3,
};

enum event {
	EVENT_START,   /* it is wanted */
	EVENT_REACHED, /* it takes connections */
	EVENT_TIME,    /* the time of this state, or this rung, is over */
	EVENT_EXIT,    /* the process has ended */
	EVENT_STOP,    /* it is not wanted any more */
	EVENTS
};

typedef void action_fn(struct daemon *d);

static void happen(struct daemon *d, enum event event);
static void ended(struct daemon *d);

/* --- what it takes connections on ----------------------------------------------------------------
 */

bool daemon_answers(const struct addr *addr)
{
	int fd = sock_connect(addr);
	struct pollfd made = {.fd = fd, .events = POLLOUT};
	bool answers = fd == -EAGAIN; /* a full backlog is somebody, too */

	if (fd < 0)
		return answers;
	/* Over loopback and unix sockets the answer is there by now. */
	answers = poll(&made, 1, 0) == 1 && sock_error(fd) == 0;
	close(fd);
	return answers;
}

static bool is_reachable(const struct daemon *d)
{
	for (size_t i = 0; i < DAEMON_ADDRS; i++)
		if (d->conf->ready[i].len && daemon_answers(&d->conf->ready[i]))
			return true;
	return false;
}

/* --- its last words ------------------------------------------------------------------------------
 */

/* In the worker, for the file may lie on a shared filesystem. */
static int read_words(void *arg, int report_fd)
{
	const struct daemon *d = arg;
	char words[DAEMON_WORDS_BYTES];
	int rc = -ENOENT;

	for (const char *const *path = d->conf->log_paths; rc < 0 && *path; path++)
		rc = tail_lines(*path, WORDS_LINES, words, sizeof words);
	return rc < 0 || fs_write_all(report_fd, span_str(words)) < 0;
}

/* --- the table -----------------------------------------------------------------------------------
 */

static void enter(struct daemon *d, enum daemon_state state)
{
	d->state = state;
	d->since_ns = d->reaper->loop->now_ns;
	d->changed(d);
}

static void fail(struct daemon *d, int rc)
{
	d->rc = rc;
	timer_at(&d->timer, 0);
	enter(d, DAEMON_DOWN);
}

static void await_restart(struct daemon *d)
{
	log_warn("runtime", "a daemon ended, starting it again", KV_STR("daemon", d->conf->name),
	    KV_NUM("in_ms", d->restart_ms));
	timer_in(&d->timer, d->restart_ms * NS_PER_MS);
	d->restart_ms *= 2;
	if (d->restart_ms > d->conf->restart_max_ms)
		d->restart_ms = d->conf->restart_max_ms;
	enter(d, DAEMON_WAITING);
}

static void launch(struct daemon *d)
{
	const struct child_spec spec = {
	    .path = d->conf->argv[0],
	    .argv = d->conf->argv,
	    .envp = d->conf->envp,
	    .in_fd = -1,
	    .log_paths = d->conf->log_paths,
	    .new_group = d->conf->group,
	};
	int rc = child_launch(d->reaper, &d->child, &spec);

	if (rc < 0 && d->was_ready) {
		await_restart(d);
	} else if (rc < 0) {
		fail(d, rc);
	} else {
		d->pid = d->child.pid;
		d->deadline_ns = d->reaper->loop->now_ns + d->conf->ready_ms * NS_PER_MS;
		timer_in(&d->timer, d->conf->poll_ms * NS_PER_MS);
		enter(d, DAEMON_STARTING);
	}
}

static void start(struct daemon *d)
{
	d->rc = 0;
	d->words[0] = '\0';
	d->wanted = true;
	d->was_ready = false;
	d->restart_ms = d->conf->restart_ms;
	launch(d);
}

static void be_ready(struct daemon *d)
{
	d->was_ready = true;
	timer_at(&d->timer, 0);
	log_info(
	    "runtime", "a daemon is ready", KV_STR("daemon", d->conf->name), KV_NUM("pid", d->pid));
	enter(d, DAEMON_READY);
}

static void signal_it(const struct daemon *d, int sig)
{
	if (d->pid > 0)
		kill(d->conf->group ? -d->pid : d->pid, sig);
}

static void climb(struct daemon *d, uint64_t wait_ms)
{
	const struct daemon_rung *rung = &d->conf->stop[d->rung++];

	signal_it(d, rung->sig);
	timer_in(&d->timer, (wait_ms ? wait_ms : rung->wait_ms) * NS_PER_MS);
}

static void next_rung(struct daemon *d)
{
	if (d->rung < DAEMON_RUNGS && d->conf->stop[d->rung].sig) {
		climb(d, 0);
		return;
	}
	log_error("runtime", "a daemon does not die", KV_STR("daemon", d->conf->name),
	    KV_NUM("pid", d->pid));
	child_forget(&d->child);
	d->pid = 0;
	d->rc = -ETIMEDOUT;
	ended(d);
}

static void stop(struct daemon *d)
{
	d->rung = 0;
	climb(d, 0);
	enter(d, DAEMON_STOPPING);
}

/* It runs, but was not ready in time. */
static void give_up(struct daemon *d)
{
	log_error("runtime", "a daemon was not ready in time", KV_STR("daemon", d->conf->name),
	    KV_NUM("ms", d->conf->ready_ms));
	d->rc = -ETIMEDOUT;
	stop(d);
}

static void poll_it(struct daemon *d)
{
	if (is_reachable(d))
		happen(d, EVENT_REACHED);
	else if (d->reaper->loop->now_ns >= d->deadline_ns)
		give_up(d);
	else
		timer_in(&d->timer, d->conf->poll_ms * NS_PER_MS);
}

/* Its state changes once its last words are known; it is not ready either way. */
static void listen_or(struct daemon *d, void (*otherwise)(struct daemon *d))
{
	timer_at(&d->timer, 0);
	if (worker_start(&d->listener, d->reaper, read_words, d, WORDS_MS) < 0)
		otherwise(d);
}

static void died(struct daemon *d)
{
	int rc = d->child.exec_rc ? d->child.exec_rc : -ECHILD;

	if (d->was_ready)
		await_restart(d);
	else
		fail(d, rc);
}

static void died_early(struct daemon *d)
{
	listen_or(d, died);
}

static void died_ready(struct daemon *d)
{
	if (d->reaper->loop->now_ns - d->since_ns >= d->conf->healthy_ms * NS_PER_MS)
		d->restart_ms = d->conf->restart_ms;
	enter(d, DAEMON_STARTING); /* whatever comes next, it is not ready any more */
	listen_or(d, died);
}

/* The end of a ladder. One that only was too slow with its restart gets another. */
static void ended(struct daemon *d)
{
	if (d->wanted && d->was_ready)
		await_restart(d);
	else
		fail(d, d->rc);
}

static action_fn *const table[DAEMON_STATES][EVENTS] = {
    [DAEMON_DOWN] = {[EVENT_START] = start},
    [DAEMON_STARTING] =
	{
	    [EVENT_REACHED] = be_ready,
	    [EVENT_TIME] = poll_it,
	    [EVENT_EXIT] = died_early,
	    [EVENT_STOP] = stop,
	},
    [DAEMON_READY] = {[EVENT_EXIT] = died_ready, [EVENT_STOP] = stop},
    [DAEMON_WAITING] = {[EVENT_TIME] = launch, [EVENT_STOP] = ended},
    [DAEMON_STOPPING] = {[EVENT_TIME] = next_rung, [EVENT_EXIT] = ended},
};

static void happen(struct daemon *d, enum event event)
{
	if (table[d->state][event])
		table[d->state][event](d);
}

/* --- what happens --------------------------------------------------------------------------------
 */

static void on_exit_of_child(struct child *c, int status)
{
	struct daemon *d = container_of(c, struct daemon, child);

	(void)status;
	signal_it(d, SIGKILL); /* what it leaves in its group */
	d->pid = 0;
	happen(d, EVENT_EXIT);
}

static void on_time(struct timer *t)
{
	happen(container_of(t, struct daemon, timer), EVENT_TIME);
}

static void on_words(struct worker *w, int rc, struct span report)
{
	struct daemon *d = container_of(w, struct daemon, listener);

	if (rc == 0)
		span_to_cstr(report, d->words, sizeof d->words);
	if (d->state == DAEMON_STARTING)
		died(d);
	else if (d->state == DAEMON_STOPPING)
		ended(d);
}

void daemon_init(struct daemon *d, struct loop *l, struct reaper *r, const struct daemon_conf *conf,
    daemon_fn *changed)
{
	*d = (struct daemon){.conf = conf,
	    .changed = changed,
	    .reaper = r,
	    .child = {.fn = on_exit_of_child},
	    .listener = {.fn = on_words}};
	timer_init(&d->timer, l, on_time);
}

void daemon_start(struct daemon *d)
{
	happen(d, EVENT_START);
}

void daemon_stop(struct daemon *d, uint64_t wait_ms)
{
	uint64_t end_ns = d->reaper->loop->now_ns + wait_ms * NS_PER_MS;
	bool climbs = d->state == DAEMON_STOPPING;

	if (d->state == DAEMON_DOWN)
		return;
	d->rc = 0;
	d->wanted = false;
	happen(d, EVENT_STOP);
	if (!wait_ms || d->state != DAEMON_STOPPING || d->rung > 1)
		return;
	if (!climbs || end_ns < d->timer.at_ns)
		timer_at(&d->timer, end_ns);
}

void daemon_done(struct daemon *d)
{
	child_forget(&d->child);
	worker_cancel(&d->listener);
	timer_at(&d->timer, 0);
	d->pid = 0;
	d->state = DAEMON_DOWN;
}
