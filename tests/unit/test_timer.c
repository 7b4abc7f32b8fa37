#include "sys/timer.h"

#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <stdlib.h>

enum { TIMERS = 300, OPERATIONS = 20000 };

static struct loop loop;

static void setup(void)
{
	ck_assert_int_eq(loop_init(&loop), 0);
}

/* A timer that remembers its calls, and may do something to another one. */
struct probe {
	struct timer timer;
	unsigned calls;
	unsigned order; /* of its last call among all */
	struct timer *other;
	uint64_t other_at_ns;
};

static unsigned calls;

static void called(struct timer *t)
{
	struct probe *p = container_of(t, struct probe, timer);

	ck_assert(!timer_armed(t));
	p->calls++;
	p->order = ++calls;
	if (p->other)
		timer_at(p->other, p->other_at_ns);
}

static void probe_init(struct probe *p)
{
	*p = (struct probe){0};
	timer_init(&p->timer, &loop, called);
}

static void run_at(uint64_t now_ns)
{
	loop.now_ns = now_ns;
	timers_run(&loop);
}

/* --- the heap against a model ---------------------------------------------------------------- */

/* The number of timers below and beside `t`; every link is checked on the way. */
static size_t check_heap(const struct timer *t, const struct timer *prev, uint64_t parent_ns)
{
	size_t n = 0;

	for (; t; prev = t, t = t->sibling) {
		ck_assert_ptr_eq(t->prev, prev);
		ck_assert_uint_ge(t->at_ns, parent_ns);
		n += 1 + check_heap(t->child, t, t->at_ns);
	}
	return n;
}

static size_t expect_at(const struct probe *probes, const uint64_t *model)
{
	size_t armed = 0;

	for (size_t i = 0; i < TIMERS; i++) {
		ck_assert_uint_eq(probes[i].timer.at_ns, model[i]);
		armed += model[i] != 0;
	}
	return armed;
}

static void expect_run(struct probe *probes, uint64_t *model, uint64_t now_ns)
{
	unsigned before[TIMERS];

	for (size_t i = 0; i < TIMERS; i++)
		before[i] = probes[i].calls;
	run_at(now_ns);
	for (size_t i = 0; i < TIMERS; i++) {
		bool due = model[i] && model[i] <= now_ns;

		ck_assert_uint_eq(probes[i].calls - before[i], due);
		if (due)
			model[i] = 0;
	}
}

START_TEST(does_as_a_model_does)
{
	static struct probe probes[TIMERS];
	static uint64_t model[TIMERS];
	uint64_t now_ns = 1000;

	srandom(1);
	setup();
	for (size_t i = 0; i < TIMERS; i++)
		probe_init(&probes[i]);
	for (size_t op = 0; op < OPERATIONS; op++) {
		size_t i = (size_t)random() % TIMERS;

		switch (random() % 8) {
		case 0: model[i] = 0; break;
		case 1: expect_run(probes, model, now_ns += (uint64_t)random() % 50); continue;
		case 2: model[i] = 1 + (uint64_t)random() % now_ns; break; /* in the past */
		default: model[i] = now_ns + (uint64_t)random() % 1000; break;
		}
		timer_at(&probes[i].timer, model[i]);
		ck_assert_uint_eq(check_heap(loop.timers, NULL, 0), expect_at(probes, model));
	}
	expect_run(probes, model, UINT64_MAX);
	ck_assert_ptr_null(loop.timers);
	loop_done(&loop);
}
END_TEST

START_TEST(runs_in_order_of_time)
{
	static struct probe probes[TIMERS];

	setup();
	for (size_t i = 0; i < TIMERS; i++) {
		probe_init(&probes[i]);
		timer_at(&probes[i].timer, 1 + (i * 7919) % TIMERS);
	}
	run_at(TIMERS);
	for (size_t i = 0; i < TIMERS; i++)
		ck_assert_uint_eq(probes[i].order, 1 + (i * 7919) % TIMERS);
	loop_done(&loop);
}
END_TEST

/* --- one acts on another --------------------------------------------------------------------- */

START_TEST(disarms_another_that_is_due)
{
	struct probe a, b;

	setup();
	probe_init(&a);
	probe_init(&b);
	a.other = &b.timer;
	timer_at(&a.timer, 1);
	timer_at(&b.timer, 2);
	run_at(10);
	ck_assert_uint_eq(a.calls, 1);
	ck_assert_uint_eq(b.calls, 0);
	ck_assert(!timer_armed(&b.timer));
	loop_done(&loop);
}
END_TEST

START_TEST(moves_another_that_is_due)
{
	struct probe a, b;

	setup();
	probe_init(&a);
	probe_init(&b);
	a.other = &b.timer;
	a.other_at_ns = 20;
	timer_at(&a.timer, 1);
	timer_at(&b.timer, 2);
	run_at(10);
	ck_assert_uint_eq(b.calls, 0);
	ck_assert_uint_eq(b.timer.at_ns, 20);
	run_at(20);
	ck_assert_uint_eq(b.calls, 1);
	loop_done(&loop);
}
END_TEST

START_TEST(armed_in_the_past_waits_a_turn)
{
	struct probe a;

	setup();
	probe_init(&a);
	a.other = &a.timer; /* again and again */
	a.other_at_ns = 1;
	timer_at(&a.timer, 1);
	for (unsigned turn = 1; turn <= 3; turn++) {
		ck_assert_int_eq(loop_turn(&loop, -1), 0);
		ck_assert_uint_eq(a.calls, turn);
	}
	timer_at(&a.timer, 0);
	loop_done(&loop);
}
END_TEST

START_TEST(saturates)
{
	struct probe a;

	setup();
	probe_init(&a);
	timer_in(&a.timer, UINT64_MAX);
	ck_assert_uint_eq(a.timer.at_ns, UINT64_MAX);
	ck_assert_int_eq(timers_arm(&loop), 0);
	timer_in(&a.timer, 5);
	ck_assert_uint_eq(a.timer.at_ns, loop.now_ns + 5);
	timer_at(&a.timer, 0);
	loop_done(&loop);
}
END_TEST

START_TEST(zeroed_can_be_disarmed)
{
	struct timer t = {0};

	timer_at(&t, 0);
	ck_assert(!timer_armed(&t));
}
END_TEST

/* --- with the timerfd ------------------------------------------------------------------------ */

static void turn_until(const struct probe *p)
{
	for (unsigned turns = 0; p->calls == 0; turns++) {
		ck_assert_uint_lt(turns, 10);
		ck_assert_int_eq(loop_turn(&loop, -1), 0);
	}
}

START_TEST(wakes_the_loop)
{
	struct probe late, soon;
	uint64_t start_ns;

	setup();
	start_ns = loop.now_ns;
	probe_init(&late);
	probe_init(&soon);
	timer_in(&late.timer, 30 * NS_PER_MS);
	ck_assert_int_eq(loop_turn(&loop, 0), 0);
	timer_in(&soon.timer, 5 * NS_PER_MS); /* moves the alarm forward */
	turn_until(&soon);
	ck_assert_uint_eq(late.calls, 0);
	ck_assert_uint_ge(loop.now_ns - start_ns, 5 * NS_PER_MS);
	turn_until(&late);
	ck_assert_uint_ge(loop.now_ns - start_ns, 30 * NS_PER_MS);
	loop_done(&loop);
}
END_TEST

START_TEST(early_alarm_costs_a_turn_only)
{
	struct probe gone, late;

	setup();
	probe_init(&gone);
	probe_init(&late);
	timer_in(&gone.timer, 2 * NS_PER_MS);
	timer_in(&late.timer, 10 * NS_PER_MS);
	ck_assert_int_eq(loop_turn(&loop, 0), 0);
	timer_at(&gone.timer, 0);
	turn_until(&late);
	ck_assert_uint_eq(gone.calls, 0);
	loop_done(&loop);
}
END_TEST

START_TEST(alarm_that_cannot_be_set_is_tried_again)
{
	struct probe p;

	setup();
	probe_init(&p);
	timer_in(&p.timer, NS_PER_MS);
	fault_arm("timerfd_settime", 1, ENOMEM, false);
	ck_assert_int_eq(loop_turn(&loop, -1), -ENOMEM);
	ck_assert(fault_disarm());
	turn_until(&p);
	loop_done(&loop);
}
END_TEST

START_TEST(alarm_that_cannot_be_read_rings_again)
{
	struct probe p;

	setup();
	for (unsigned round = 0; round < 3; round++) {
		probe_init(&p);
		timer_in(&p.timer, NS_PER_MS);
		fault_arm("read", 1, EIO, false);
		turn_until(&p);
		ck_assert_int_eq(loop_turn(&loop, 0), 0);
		ck_assert(fault_disarm());
	}
	ck_assert_int_ge(loop.alarm.fd, 0);
	loop_done(&loop);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    does_as_a_model_does,
	    runs_in_order_of_time,
	    disarms_another_that_is_due,
	    moves_another_that_is_due,
	    armed_in_the_past_waits_a_turn,
	    saturates,
	    zeroed_can_be_disarmed,
	    wakes_the_loop,
	    early_alarm_costs_a_turn_only,
	    alarm_that_cannot_be_set_is_tried_again,
	    alarm_that_cannot_be_read_rings_again,
	    NULL,
	};

	return suite_of("timer", tests);
}
