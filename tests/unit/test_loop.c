#include "sys/loop.h"

#include "base/log.h"
#include "fault.h"
#include "suite.h"
#include "sys/clock.h"
#include "sys/timer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct loop loop;
static int log_pipe[2];

static void setup(void)
{
	ck_assert_int_eq(pipe2(log_pipe, O_CLOEXEC | O_NONBLOCK), 0);
	log_sinks(&log_pipe[1], 1);
	ck_assert_int_eq(loop_init(&loop), 0);
}

/* How many lines were logged, and that each holds `text`. */
static unsigned logged(const char *text)
{
	char buf[8192];
	ssize_t n = read(log_pipe[0], buf, sizeof buf - 1);
	unsigned lines = 0;

	buf[n < 0 ? 0 : n] = 0;
	for (char *line = strtok(buf, "\n"); line; line = strtok(NULL, "\n"), lines++)
		ck_assert_msg(strstr(line, text) != NULL, "%s", line);
	return lines;
}

static void turn(void)
{
	ck_assert_int_eq(loop_turn(&loop, 0), 0);
}

/* A source over the reading end of a pipe that has a byte in it. */
struct probe {
	struct source source;
	int other_end;
	unsigned calls, dones;
	uint32_t events;
	struct source *removes;
	int rc;
};

static int called(struct source *s, uint32_t events)
{
	struct probe *p = container_of(s, struct probe, source);

	p->calls++;
	p->events = events;
	if (p->removes)
		source_remove(p->removes);
	return p->rc;
}

static void done(struct source *s)
{
	struct probe *p = container_of(s, struct probe, source);

	ck_assert(!s->dead);
	ck_assert_int_eq(s->fd, -1);
	p->dones++;
}

static void probe_add(struct probe *p)
{
	int fds[2];

	ck_assert_int_eq(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	*p = (struct probe){.source = {.fn = called, .done = done, .name = "probe"}};
	p->other_end = fds[1];
	ck_assert_int_eq(source_add(&loop, &p->source, fds[0], EPOLLIN), 0);
}

static void probe_done(struct probe *p)
{
	source_remove(&p->source);
	turn();
	ck_assert_uint_eq(p->dones, 1);
	close(p->other_end);
}

/* --- sources --------------------------------------------------------------------------------- */

START_TEST(calls_what_is_ready)
{
	struct probe p;
	char byte;

	setup();
	probe_add(&p);
	turn();
	turn(); /* level-triggered */
	ck_assert_uint_eq(p.calls, 2);
	ck_assert_uint_eq(p.events, EPOLLIN);
	ck_assert_int_eq(read(p.source.fd, &byte, 1), 1);
	turn();
	ck_assert_uint_eq(p.calls, 2);
	close(p.other_end);
	turn();
	ck_assert_uint_eq(p.events, EPOLLHUP);
	source_remove(&p.source);
	turn();
	ck_assert_uint_eq(p.dones, 1);
	loop_done(&loop);
}
END_TEST

START_TEST(removes_itself)
{
	unsigned fds;
	struct probe p;

	setup();
	fds = fault_fds();
	probe_add(&p);
	p.removes = &p.source;
	p.rc = -EIO; /* of no interest any more */
	turn();
	turn();
	ck_assert_uint_eq(p.calls, 1);
	ck_assert_uint_eq(p.dones, 1);
	ck_assert_uint_eq(logged("nothing"), 0);
	close(p.other_end);
	ck_assert_uint_eq(fault_fds(), fds);
	loop_done(&loop);
}
END_TEST

START_TEST(drops_the_event_of_a_removed_source)
{
	struct probe a, b;

	setup();
	probe_add(&a);
	probe_add(&b);
	a.removes = &b.source;
	b.removes = &a.source;
	turn();
	ck_assert_uint_eq(a.calls + b.calls, 1);
	ck_assert_uint_eq(a.dones + b.dones, 1);
	ck_assert_uint_ne(a.calls, a.dones); /* the one that was called is alive */
	probe_done(a.dones ? &b : &a);
	close(a.dones ? a.other_end : b.other_end);
	loop_done(&loop);
}
END_TEST

static struct probe *victim;

static void remove_late(struct timer *t)
{
	(void)t;
	source_remove(&victim->source);
}

START_TEST(drops_the_event_of_a_source_that_a_timer_removed)
{
	struct probe p;
	struct timer t;

	setup();
	probe_add(&p);
	victim = &p;
	timer_init(&t, &loop, remove_late);
	timer_at(&t, 1);
	turn();
	ck_assert_uint_eq(p.calls, 0);
	ck_assert_uint_eq(p.dones, 1);
	close(p.other_end);
	loop_done(&loop);
}
END_TEST

START_TEST(failure_costs_one_source)
{
	struct probe bad, good;

	setup();
	probe_add(&bad);
	probe_add(&good);
	bad.source.name = "unlucky";
	bad.rc = -ECONNRESET;
	turn();
	turn();
	ck_assert_uint_eq(bad.calls, 1);
	ck_assert_uint_eq(bad.dones, 1);
	ck_assert_uint_eq(good.calls, 2);
	ck_assert_uint_eq(logged("unlucky"), 1);
	close(bad.other_end);
	probe_done(&good);
	loop_done(&loop);
}
END_TEST

START_TEST(detaches_an_open_descriptor)
{
	struct probe p;
	char byte;
	int fd;

	setup();
	probe_add(&p);
	fd = source_detach(&p.source);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(source_detach(&p.source), -1);
	turn();
	ck_assert_uint_eq(p.calls, 0);
	ck_assert_uint_eq(p.dones, 1);
	ck_assert_int_eq(read(fd, &byte, 1), 1);
	close(fd);
	close(p.other_end);
	loop_done(&loop);
}
END_TEST

START_TEST(removal_is_idempotent)
{
	struct source never = {0}; /* its fd reads as 0 */
	unsigned fds = fault_fds();
	struct probe p;

	setup();
	source_remove(&never);
	ck_assert_int_eq(source_want(&never, EPOLLIN), 0);
	probe_add(&p);
	source_remove(&p.source);
	source_remove(&p.source);
	turn();
	source_remove(&p.source);
	turn();
	ck_assert_uint_eq(p.dones, 1);
	close(p.other_end);
	loop_done(&loop);
	close(log_pipe[0]);
	close(log_pipe[1]);
	ck_assert_uint_eq(fault_fds(), fds);
}
END_TEST

START_TEST(is_added_again_after_done_only)
{
	struct probe p;
	int fd;

	setup();
	probe_add(&p);
	fd = dup(p.source.fd);
	ck_assert_int_eq(source_add(&loop, &p.source, fd, EPOLLIN), -EBUSY);
	source_remove(&p.source);
	ck_assert_int_eq(source_add(&loop, &p.source, fd, EPOLLIN), -EBUSY);
	turn();
	ck_assert_int_eq(source_add(&loop, &p.source, fd, EPOLLIN), 0);
	turn();
	ck_assert_uint_eq(p.calls, 1);
	source_remove(&p.source);
	turn();
	ck_assert_uint_eq(p.dones, 2);
	close(p.other_end);
	loop_done(&loop);
}
END_TEST

START_TEST(add_that_fails_leaves_the_descriptor)
{
	struct source s = {.fn = called, .name = "file"};
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	setup();
	ck_assert_int_eq(source_add(&loop, &s, fd, EPOLLIN), -EPERM);
	source_remove(&s);
	ck_assert_int_eq(close(fd), 0);
	loop_done(&loop);
}
END_TEST

START_TEST(changes_what_it_wants)
{
	struct probe p;

	setup();
	probe_add(&p);
	fault_arm("epoll_ctl", 1, ENOMEM, false);
	ck_assert_int_eq(source_want(&p.source, EPOLLIN), 0); /* no call */
	ck_assert_int_eq(source_want(&p.source, 0), -ENOMEM);
	ck_assert(fault_disarm());
	ck_assert_uint_eq(p.source.events, EPOLLIN);
	ck_assert_int_eq(source_want(&p.source, 0), 0);
	turn();
	ck_assert_uint_eq(p.calls, 0);
	ck_assert_int_eq(source_want(&p.source, EPOLLIN), 0);
	turn();
	ck_assert_uint_eq(p.calls, 1);
	source_remove(&p.source);
	ck_assert_int_eq(source_want(&p.source, EPOLLOUT), 0);
	turn();
	close(p.other_end);
	loop_done(&loop);
}
END_TEST

static unsigned freed;

static void free_probe(struct source *s)
{
	freed++;
	free(container_of(s, struct probe, source));
}

/* The memory of an even one goes when it is called, and takes that of the next one along. */
START_TEST(memory_may_go_in_done)
{
	enum { N = LOOP_EVENTS };
	struct probe *probes[N];

	setup();
	for (size_t i = 0; i < N; i++) {
		probes[i] = malloc(sizeof *probes[i]);
		ck_assert_ptr_nonnull(probes[i]);
		probe_add(probes[i]);
		close(probes[i]->other_end);
		probes[i]->source.done = free_probe;
	}
	for (size_t i = 0; i < N; i += 2) {
		probes[i]->removes = &probes[i + 1]->source;
		probes[i]->rc = -EIO;
	}
	turn();
	ck_assert_uint_eq(freed, N);
	ck_assert_uint_eq(logged("probe"), N / 2);
	loop_done(&loop);
}
END_TEST

START_TEST(serves_more_than_a_batch)
{
	enum { N = 2 * LOOP_EVENTS + 1 };
	static struct probe probes[N];

	setup();
	for (size_t i = 0; i < N; i++)
		probe_add(&probes[i]);
	for (unsigned turns = 0; turns < 3; turns++)
		turn();
	for (size_t i = 0; i < N; i++) {
		ck_assert_uint_ge(probes[i].calls, 1);
		probe_done(&probes[i]);
	}
	loop_done(&loop);
}
END_TEST

/* --- tasks ----------------------------------------------------------------------------------- */

struct job {
	struct task task;
	unsigned calls, order;
	struct job *defers, *cancels;
};

static unsigned runs;

static void run_job(struct task *t)
{
	struct job *j = container_of(t, struct job, task);

	j->calls++;
	j->order = ++runs;
	if (j->defers)
		task_defer(&loop, &j->defers->task);
	if (j->cancels)
		task_cancel(&j->cancels->task);
}

START_TEST(runs_tasks_once_and_in_order)
{
	struct job a = {.task.fn = run_job}, b = {.task.fn = run_job};

	setup();
	task_defer(&loop, &b.task);
	task_defer(&loop, &a.task);
	task_defer(&loop, &b.task);
	ck_assert_int_eq(loop_turn(&loop, -1), 0); /* does not wait */
	ck_assert_uint_eq(b.order, 1);
	ck_assert_uint_eq(a.order, 2);
	turn();
	ck_assert_uint_eq(a.calls + b.calls, 2);
	loop_done(&loop);
}
END_TEST

START_TEST(task_put_off_by_a_task_takes_a_turn)
{
	struct job j = {.task.fn = run_job};

	setup();
	j.defers = &j;
	task_defer(&loop, &j.task);
	for (unsigned turns = 1; turns < 4; turns++) {
		ck_assert_int_eq(loop_turn(&loop, -1), 0);
		ck_assert_uint_eq(j.calls, turns);
	}
	task_cancel(&j.task);
	task_cancel(&j.task);
	turn();
	ck_assert_uint_eq(j.calls, 3);
	loop_done(&loop);
}
END_TEST

START_TEST(task_cancels_one_of_the_same_turn)
{
	struct job a = {.task.fn = run_job}, b = {.task.fn = run_job};

	setup();
	a.cancels = &b;
	task_defer(&loop, &a.task);
	task_defer(&loop, &b.task);
	turn();
	turn();
	ck_assert_uint_eq(a.calls, 1);
	ck_assert_uint_eq(b.calls, 0);
	loop_done(&loop);
}
END_TEST

/* --- the loop -------------------------------------------------------------------------------- */

static void init_fails(const char *call)
{
	unsigned fds = fault_fds();

	FAULT_EACH(call, EMFILE)
	{
		int rc = loop_init(&loop);

		ck_assert(rc == 0 || rc == -EMFILE);
		if (rc == 0)
			loop_done(&loop);
		ck_assert_uint_eq(fault_fds(), fds);
	}
}

START_TEST(init_that_fails_holds_nothing)
{
	init_fails("epoll_create1");
	init_fails("timerfd_create");
	init_fails("epoll_ctl");
}
END_TEST

START_TEST(end_calls_what_is_done)
{
	struct probe p;

	setup();
	probe_add(&p);
	source_remove(&p.source);
	loop_done(&loop);
	ck_assert_uint_eq(p.dones, 1);
	close(p.other_end);
}
END_TEST

START_TEST(interrupted_wait_is_a_turn)
{
	setup();
	fault_arm("epoll_wait", 1, EINTR, false);
	ck_assert_int_eq(loop_turn(&loop, -1), 0);
	ck_assert(fault_disarm());
	fault_arm("epoll_wait", 1, EBADF, false);
	ck_assert_int_eq(loop_turn(&loop, -1), -EBADF);
	ck_assert(fault_disarm());
	loop_done(&loop);
}
END_TEST

static void stop(struct timer *t)
{
	loop_stop(t->loop);
}

START_TEST(runs_on_after_a_failure_until_stopped)
{
	struct timer t;

	setup();
	timer_init(&t, &loop, stop);
	timer_in(&t, NS_PER_MS);
	fault_arm("epoll_wait", 1, ENOMEM, false);
	loop_run(&loop);
	ck_assert(fault_disarm());
	ck_assert_uint_eq(logged("cannot wait"), 1);
	loop_done(&loop);
}
END_TEST

/* A source whose callback takes as long as it says, by the loop's own clock. */
struct sleeper {
	struct probe probe;
	uint64_t ms;
};

static int oversleep(struct source *s, uint32_t events)
{
	(void)events;
	loop.now_ns -= container_of(s, struct sleeper, probe.source)->ms * NS_PER_MS;
	return 0;
}

static void turn_of(struct sleeper *sleeper, uint64_t ms)
{
	sleeper->ms = ms;
	turn();
}

START_TEST(tells_of_a_turn_that_took_long)
{
	struct sleeper sleeper;

	setup();
	probe_add(&sleeper.probe);
	sleeper.probe.source.fn = oversleep;
	turn_of(&sleeper, 100000);
	ck_assert_uint_eq(logged("nothing"), 0);
	loop.slow_ns = 50000 * NS_PER_MS;
	turn_of(&sleeper, 0);
	ck_assert_uint_eq(logged("nothing"), 0);
	turn_of(&sleeper, 100000);
	ck_assert_uint_eq(logged("first=probe sources=1 slow_turns=1"), 1);
	turn_of(&sleeper, 60000);
	turn_of(&sleeper, 70000);
	ck_assert_uint_eq(logged("told within a second only if it is slower still"), 0);
	turn_of(&sleeper, 200000);
	ck_assert_uint_eq(logged("slow_turns=3"), 1);
	loop.slow_told_ns -= NS_PER_SEC;
	turn_of(&sleeper, 60000);
	ck_assert_uint_eq(logged("slow_turns=1"), 1);
	probe_done(&sleeper.probe);
	loop_done(&loop);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    calls_what_is_ready,
	    removes_itself,
	    drops_the_event_of_a_removed_source,
	    drops_the_event_of_a_source_that_a_timer_removed,
	    failure_costs_one_source,
	    detaches_an_open_descriptor,
	    removal_is_idempotent,
	    is_added_again_after_done_only,
	    add_that_fails_leaves_the_descriptor,
	    changes_what_it_wants,
	    memory_may_go_in_done,
	    serves_more_than_a_batch,
	    runs_tasks_once_and_in_order,
	    task_put_off_by_a_task_takes_a_turn,
	    task_cancels_one_of_the_same_turn,
	    init_that_fails_holds_nothing,
	    end_calls_what_is_done,
	    interrupted_wait_is_a_turn,
	    runs_on_after_a_failure_until_stopped,
	    tells_of_a_turn_that_took_long,
	    NULL,
	};

	return suite_of("loop", tests);
}
