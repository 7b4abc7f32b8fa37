#include "sys/loop.h"

#include "base/log.h"
#include "sys/timer.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int alarm_rang(struct source *s, uint32_t events)
{
	uint64_t times;

	(void)events;
	/* Nothing is lost with a failed read: setting the timerfd anew, as the next turn does,
	 * resets it. */
	(void)!read(s->fd, &times, sizeof times);
	s->loop->armed_ns = 0;
	return 0;
}

int loop_init(struct loop *l)
{
	int fd, rc;

	*l = (struct loop){.epfd = epoll_create1(EPOLL_CLOEXEC), .now_ns = clock_mono_ns()};
	if (l->epfd < 0)
		return -errno;
	list_init(&l->tasks);
	list_init(&l->dead);
	l->alarm = (struct source){.fn = alarm_rang, .name = "alarm", .fd = -1};
	fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (fd < 0) {
		rc = -errno;
		close(l->epfd);
		return rc;
	}
	rc = source_add(l, &l->alarm, fd, EPOLLIN);
	if (rc < 0) {
		close(fd);
		close(l->epfd);
	}
	return rc;
}

void loop_bury(struct loop *l)
{
	struct link *node;

	while ((node = list_first(&l->dead))) {
		struct source *s = container_of(node, struct source, link);

		list_remove(node);
		s->dead = false;
		if (s->done)
			s->done(s);
	}
}

void loop_done(struct loop *l)
{
	source_remove(&l->alarm);
	loop_bury(l);
	close(l->epfd);
	l->epfd = -1;
}

static void run_tasks(struct loop *l)
{
	struct link now;
	struct link *node;

	list_init(&now);
	while ((node = list_first(&l->tasks))) {
		list_remove(node);
		list_append(&now, node);
	}
	while ((node = list_first(&now))) {
		struct task *t = container_of(node, struct task, link);

		list_remove(node);
		t->queued = false;
		t->fn(t);
	}
}

static void dispatch(struct source *s, uint32_t events)
{
	int rc;

	if (s->dead)
		return;
	rc = s->fn(s, events);
	if (rc >= 0 || s->dead)
		return;
	log_warn("loop", "source failed and was removed", KV_STR("source", s->name), KV_ERR(rc));
	source_remove(s);
}

/* Looks at the clock once, so it does not know which one of several sources it was. */
static void mind_time(struct loop *l, const char *first, int n)
{
	uint64_t now_ns = clock_mono_ns();
	uint64_t took_ns = now_ns - l->now_ns;

	if (took_ns < l->slow_ns)
		return;
	l->slow_turns++;
	if (took_ns <= l->slowest_ns && now_ns - l->slow_told_ns < NS_PER_SEC)
		return;
	log_warn("loop", "a turn took long", KV_NUM("ms", took_ns / NS_PER_MS),
	    KV_STR("first", first), KV_NUM("sources", n), KV_NUM("slow_turns", l->slow_turns));
	l->slow_told_ns = now_ns;
	l->slowest_ns = took_ns;
	l->slow_turns = 0;
}

static const char *name_of(const struct source *s)
{
	return s->name;
}

int loop_turn(struct loop *l, int wait_ms)
{
	struct epoll_event events[LOOP_EVENTS];
	const char *first;
	int n, rc;

	rc = timers_arm(l);
	if (rc < 0)
		return rc;
	n = epoll_wait(l->epfd, events, LOOP_EVENTS, list_empty(&l->tasks) ? wait_ms : 0);
	if (n < 0 && errno != EINTR)
		return -errno;
	l->now_ns = clock_mono_ns();
	first = n > 0 ? name_of(events[0].data.ptr) : "tasks";
	timers_run(l);
	for (int i = 0; i < n; i++)
		dispatch(events[i].data.ptr, events[i].events);
	run_tasks(l);
	loop_bury(l);
	if (l->slow_ns)
		mind_time(l, first, n);
	return 0;
}

void loop_run(struct loop *l)
{
	while (!l->stopping) {
		int rc = loop_turn(l, -1);

		if (rc < 0) {
			log_error("loop", "cannot wait for events, trying again", KV_ERR(rc));
			usleep(100 * 1000);
		}
	}
}

void loop_stop(struct loop *l)
{
	l->stopping = true;
}

static bool in_loop(const struct source *s)
{
	return s->loop && s->fd >= 0;
}

int source_add(struct loop *l, struct source *s, int fd, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = s};

	if (s->dead || in_loop(s))
		return -EBUSY;
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	s->loop = l;
	s->fd = fd;
	s->events = events;
	return 0;
}

int source_want(struct source *s, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = s};

	if (!in_loop(s) || s->events == events)
		return 0;
	if (epoll_ctl(s->loop->epfd, EPOLL_CTL_MOD, s->fd, &ev) < 0)
		return -errno;
	s->events = events;
	return 0;
}

int source_detach(struct source *s)
{
	int fd = s->fd;

	if (!in_loop(s))
		return -1;
	epoll_ctl(s->loop->epfd, EPOLL_CTL_DEL, fd, NULL);
	s->fd = -1;
	s->dead = true;
	list_append(&s->loop->dead, &s->link);
	return fd;
}

void source_remove(struct source *s)
{
	int fd = source_detach(s);

	if (fd >= 0)
		close(fd);
}

void task_defer(struct loop *l, struct task *t)
{
	if (t->queued)
		return;
	t->queued = true;
	list_append(&l->tasks, &t->link);
}

void task_cancel(struct task *t)
{
	if (!t->queued)
		return;
	t->queued = false;
	list_remove(&t->link);
}
