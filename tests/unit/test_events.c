#include "sandbox/events.h"

#include "fault.h"
#include "suite.h"

#include <errno.h>

enum { RING = 4 };

/* A subscriber that counts how often it is woken. */
struct reader {
	struct subscriber s;
	unsigned woken;
	bool takes, leaves; /* when woken: all there is; its leave */
	unsigned taken;
};

static struct loop loop;
static struct events events;

static void woken(struct subscriber *s)
{
	struct reader *r = s->ctx;
	struct event e;

	r->woken++;
	while (r->takes && events_next(s, &e))
		r->taken++;
	if (r->leaves)
		events_unsubscribe(s);
}

static void subscribe(struct reader *r, const char *id, const char *action)
{
	*r = (struct reader){0};
	ck_assert_int_eq(
	    events_subscribe(&events, &r->s, span_str(id), span_str(action), woken, r), 0);
}

static void setup(void)
{
	ck_assert_int_eq(loop_init(&loop), 0);
	ck_assert_int_eq(events_init(&events, &loop, RING, 2), 0);
}

static void teardown(void)
{
	ck_assert_uint_eq(events.n_subscribers, 0);
	events_done(&events);
	loop_done(&loop);
}

static void turn(void)
{
	ck_assert_int_eq(loop_turn(&loop, 0), 0);
}

static void publish(const char *id, const char *action)
{
	events_publish(&events, id, action, NULL, NULL);
}

static void assert_next(struct reader *r, const char *id, const char *action)
{
	struct event e;

	ck_assert(events_next(&r->s, &e));
	ck_assert_str_eq(e.id, id);
	ck_assert_str_eq(e.action, action);
}

static void assert_lagged(struct reader *r, const char *missed)
{
	struct event e;

	ck_assert(events_next(&r->s, &e));
	ck_assert_str_eq(e.action, EVENTS_LAGGED);
	ck_assert_str_eq(e.id, "");
	ck_assert_str_eq(e.key, "missed");
	ck_assert_str_eq(e.value, missed);
}

static void assert_no_more(struct reader *r)
{
	struct event e = {.at_ns = 7};

	ck_assert(!events_next(&r->s, &e));
	ck_assert_int_eq(e.at_ns, 7);
}

START_TEST(an_event_reaches_all_who_want_it)
{
	struct reader all, one;
	struct event e;

	setup();
	publish("a", "before");
	subscribe(&all, "", "");
	subscribe(&one, "a", "ready");
	events_publish(&events, "a", "failed", "error", "why");
	publish("b", "ready");
	publish("a", "ready");
	turn();
	ck_assert_uint_eq(all.woken, 1);
	ck_assert_uint_eq(one.woken, 1);
	ck_assert(events_next(&all.s, &e));
	ck_assert_str_eq(e.id, "a");
	ck_assert_str_eq(e.action, "failed");
	ck_assert_str_eq(e.key, "error");
	ck_assert_str_eq(e.value, "why");
	ck_assert_int_gt(e.at_ns, INT64_C(1600000000000000000));
	assert_next(&all, "b", "ready");
	assert_next(&all, "a", "ready");
	assert_no_more(&all);
	assert_next(&one, "a", "ready");
	assert_no_more(&one);
	events_unsubscribe(&all.s);
	events_unsubscribe(&one.s);
	teardown();
}
END_TEST

START_TEST(a_subscriber_is_woken_once_until_it_has_read_all)
{
	struct reader r;

	setup();
	subscribe(&r, "", "");
	publish("a", "one");
	turn();
	publish("a", "two");
	turn();
	ck_assert_uint_eq(r.woken, 1);
	assert_next(&r, "a", "one");
	publish("a", "three");
	assert_next(&r, "a", "two");
	assert_next(&r, "a", "three");
	assert_no_more(&r);
	turn();
	ck_assert_uint_eq(r.woken, 1);
	publish("a", "four");
	turn();
	ck_assert_uint_eq(r.woken, 2);
	events_unsubscribe(&r.s);
	teardown();
}
END_TEST

START_TEST(one_that_wants_something_else_is_not_woken)
{
	struct reader r;

	setup();
	subscribe(&r, "a", "");
	for (unsigned i = 0; i < 3 * RING; i++)
		publish("b", "ready");
	turn();
	ck_assert_uint_eq(r.woken, 0);
	publish("a", "ready");
	turn();
	ck_assert_uint_eq(r.woken, 1);
	assert_next(&r, "a", "ready");
	assert_no_more(&r);
	events_unsubscribe(&r.s);
	teardown();
}
END_TEST

START_TEST(a_slow_one_is_told_how_many_it_missed)
{
	struct reader slow, picky;

	setup();
	subscribe(&slow, "", "");
	subscribe(&picky, "a", "");
	for (unsigned i = 0; i < RING + 3; i++)
		publish(i % 2 ? "b" : "a", "changed");
	assert_lagged(&slow, "3");
	for (unsigned i = 3; i < RING + 3; i++)
		assert_next(&slow, i % 2 ? "b" : "a", "changed");
	assert_no_more(&slow);
	assert_lagged(&picky, "2");
	assert_next(&picky, "a", "changed");
	assert_next(&picky, "a", "changed");
	assert_no_more(&picky);
	events_unsubscribe(&slow.s);
	events_unsubscribe(&picky.s);
	teardown();
}
END_TEST

START_TEST(a_fast_one_misses_nothing_beside_a_slow_one)
{
	struct reader fast, slow;

	setup();
	subscribe(&fast, "", "");
	subscribe(&slow, "", "");
	fast.takes = true;
	for (unsigned i = 0; i < 100; i++) {
		publish("a", "changed");
		turn();
	}
	ck_assert_uint_eq(fast.taken, 100);
	ck_assert_uint_eq(slow.woken, 1);
	assert_lagged(&slow, "96");
	events_unsubscribe(&fast.s);
	events_unsubscribe(&slow.s);
	teardown();
}
END_TEST

START_TEST(without_memory_an_event_is_missed)
{
	struct reader r;

	setup();
	subscribe(&r, "b", "ready");
	publish("b", "ready");
	fault_arm("calloc", 1, ENOMEM, false);
	publish("a", "failed");
	ck_assert(fault_disarm());
	publish("b", "ready");
	turn();
	assert_next(&r, "b", "ready");
	assert_lagged(&r, "1");
	assert_next(&r, "b", "ready");
	assert_no_more(&r);
	events_unsubscribe(&r.s);
	teardown();
}
END_TEST

START_TEST(values_are_printable_and_cut)
{
	static char value[EVENTS_VALUE_BYTES + 10];
	struct reader r;
	struct event e;

	setup();
	subscribe(&r, "", "");
	memset(value, 'x', sizeof value - 1);
	memcpy(value, "a\n\x80z", 4);
	events_publish(&events, "a", "failed", "error", value);
	ck_assert(events_next(&r.s, &e));
	ck_assert_uint_eq(strlen(e.value), EVENTS_VALUE_BYTES - 1);
	ck_assert_int_eq(memcmp(e.value, "a??zx", 5), 0);
	events_unsubscribe(&r.s);
	teardown();
}
END_TEST

START_TEST(subscribers_are_limited_and_come_and_go)
{
	struct reader a, b, c = {0};

	setup();
	subscribe(&a, "", "");
	subscribe(&b, "", "");
	ck_assert_int_eq(
	    events_subscribe(&events, &c.s, span_str(""), span_str(""), woken, &c), -EAGAIN);
	events_unsubscribe(&c.s); /* which is not subscribed */
	b.leaves = true;
	publish("a", "ready");
	turn();
	ck_assert_uint_eq(b.woken, 1);
	ck_assert_uint_eq(events.n_subscribers, 1);
	assert_no_more(&b);
	subscribe(&c, "", "");
	assert_no_more(&c);
	assert_next(&a, "a", "ready");
	publish("a", "removed");
	events_unsubscribe(&a.s); /* which is about to be woken */
	events_unsubscribe(&c.s);
	turn();
	ck_assert_uint_eq(c.woken, 0);
	teardown();
}
END_TEST

START_TEST(a_filter_that_nothing_matches_is_not_one_for_all)
{
	static const char long_id[SANDBOX_ID_MAX + 2] = {[0 ... SANDBOX_ID_MAX] = 'a'};
	struct reader id, action;

	setup();
	subscribe(&id, long_id, "");
	subscribe(&action, "", "an action that nobody has heard of");
	publish("a", "ready");
	assert_no_more(&id);
	assert_no_more(&action);
	events_unsubscribe(&id.s);
	events_unsubscribe(&action.s);
	teardown();
}
END_TEST

START_TEST(without_memory_there_is_no_ring)
{
	ck_assert_int_eq(loop_init(&loop), 0);
	fault_arm("calloc", 1, ENOMEM, false);
	ck_assert_int_eq(events_init(&events, &loop, RING, 2), -ENOMEM);
	ck_assert(fault_disarm());
	events_done(&events);
	loop_done(&loop);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    an_event_reaches_all_who_want_it,
	    a_subscriber_is_woken_once_until_it_has_read_all,
	    one_that_wants_something_else_is_not_woken,
	    a_slow_one_is_told_how_many_it_missed,
	    a_fast_one_misses_nothing_beside_a_slow_one,
	    without_memory_an_event_is_missed,
	    values_are_printable_and_cut,
	    subscribers_are_limited_and_come_and_go,
	    a_filter_that_nothing_matches_is_not_one_for_all,
	    without_memory_there_is_no_ring,
	    NULL,
	};

	return suite_of("events", tests);
}
