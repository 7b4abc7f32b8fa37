#include "sys/timer.h"

#include <errno.h>
#include <sys/timerfd.h>

/* The later of two roots becomes the eldest child of the earlier one. */
static struct timer *meld(struct timer *a, struct timer *b)
{
	if (!a)
		return b;
	if (!b)
		return a;
	if (b->at_ns < a->at_ns) {
		struct timer *swap = a;

		a = b;
		b = swap;
	}
	b->prev = a;
	b->sibling = a->child;
	if (a->child)
		a->child->prev = b;
	a->child = b;
	return a;
}

/* Two passes over a list of siblings: meld pairs from left to right, then the pairs from right to
 * left. Iterative, since the list can be as long as there are timers. */
static struct timer *meld_siblings(struct timer *first)
{
	struct timer *pairs = NULL;
	struct timer *root = NULL;

	while (first) {
		struct timer *a = first;
		struct timer *b = a->sibling;
		struct timer *pair;

		first = b ? b->sibling : NULL;
		a->sibling = NULL;
		if (b)
			b->sibling = NULL;
		pair = meld(a, b);
		pair->sibling = pairs;
		pairs = pair;
	}
	while (pairs) {
		struct timer *pair = pairs;

		pairs = pair->sibling;
		pair->sibling = NULL;
		root = meld(root, pair);
	}
	if (root)
		root->prev = NULL;
	return root;
}

static void heap_remove(struct loop *l, struct timer *t)
{
	struct timer *rest = meld_siblings(t->child);

	t->child = NULL;
	if (t == l->timers) {
		l->timers = rest;
		return;
	}
	if (t->prev->child == t)
		t->prev->child = t->sibling;
	else
		t->prev->sibling = t->sibling;
	if (t->sibling)
		t->sibling->prev = t->prev;
	t->sibling = t->prev = NULL;
	l->timers = meld(l->timers, rest);
}

void timer_init(struct timer *t, struct loop *l, timer_fn *fn)
{
	*t = (struct timer){.fn = fn, .loop = l};
	list_init(&t->due);
}

void timer_at(struct timer *t, uint64_t at_ns)
{
	if (t->at_ns && !list_empty(&t->due))
		list_remove(&t->due);
	else if (t->at_ns)
		heap_remove(t->loop, t);
	t->at_ns = at_ns;
	if (at_ns)
		t->loop->timers = meld(t->loop->timers, t);
}

void timer_in(struct timer *t, uint64_t ns)
{
	uint64_t now = t->loop->now_ns;
	timer_at(t, ns < UINT64_MAX - now ? now + ns : UINT64_MAX);
}

void timers_run(struct loop *l)
{
	struct link due;
	struct link *node;

	list_init(&due);
	while (l->timers && l->timers->at_ns <= l->now_ns) {
		struct timer *t = l->timers;

		heap_remove(l, t);
		list_append(&due, &t->due);
	}
	while ((node = list_first(&due))) {
		struct timer *t = container_of(node, struct timer, due);

		list_remove(node);
		t->at_ns = 0;
		t->fn(t);
	}
}

/* An alarm that is set too early costs one idle turn, a system call for every change of the first
 * timer would cost more: a timerfd that is set is only ever moved to an earlier time. */
int timers_arm(struct loop *l)
{
	struct itimerspec when = {0};
	uint64_t at = l->timers ? l->timers->at_ns : 0;

	if (!at || (l->armed_ns && l->armed_ns <= at))
		return 0;
	when.it_value.tv_sec = (time_t)(at / NS_PER_SEC);
	when.it_value.tv_nsec = (long)(at % NS_PER_SEC);
	if (timerfd_settime(l->alarm.fd, TFD_TIMER_ABSTIME, &when, NULL) < 0)
		return -errno;
	l->armed_ns = at;
	return 0;
}
