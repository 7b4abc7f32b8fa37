#include "base/queue.h"

#include <errno.h>
#include <stdlib.h>

void queue_init(struct queue *q, size_t limit_bytes, struct budget *budget)
{
	*q = (struct queue){.limit = limit_bytes, .budget = budget};
}

/* What a buffer of this size costs the budget: small ones are bounded by the number of queues. */
static size_t cost(size_t cap)
{
	return cap > QUEUE_KEEP_BYTES ? cap : 0;
}

static void set_buffer(struct queue *q, uint8_t *p, size_t cap)
{
	if (q->budget)
		q->budget->used += cost(cap) - cost(q->cap);
	free(q->p);
	q->p = p;
	q->cap = cap;
	q->head = 0;
}

void queue_done(struct queue *q)
{
	set_buffer(q, NULL, 0);
	q->n = 0;
}

static size_t grown(size_t cap, size_t want, size_t limit)
{
	size_t n = cap ? cap : QUEUE_KEEP_BYTES;

	while (n < want)
		n = n > limit / 2 ? limit : 2 * n;
	return n < limit ? n : limit;
}

/* Whether the budget allows a buffer that is not smaller than the present one. */
static bool affordable(const struct queue *q, size_t cap)
{
	const struct budget *b = q->budget;

	return !b || cost(cap) - cost(q->cap) <= b->limit - b->used;
}

size_t queue_reach(const struct queue *q)
{
	size_t cap = q->cap;

	while (cap < q->limit) {
		size_t next = grown(cap, cap + 1, q->limit);

		if (!affordable(q, next))
			break;
		cap = next;
	}
	return cap;
}

static int queue_grow(struct queue *q, size_t want)
{
	size_t cap = grown(q->cap, want, q->limit);
	uint8_t *p;

	if (!affordable(q, cap))
		return -ENOMEM;
	p = malloc(cap);
	if (!p)
		return -ENOMEM;
	if (q->n)
		memcpy(p, q->p + q->head, q->n);
	set_buffer(q, p, cap);
	return 0;
}

uint8_t *queue_reserve(struct queue *q, size_t n)
{
	if (n == 0 || n > queue_room(q))
		return NULL;
	if (n > q->cap - q->n) {
		if (queue_grow(q, q->n + n) < 0)
			return NULL;
	} else if (n > q->cap - q->head - q->n) {
		memmove(q->p, q->p + q->head, q->n);
		q->head = 0;
	}
	return q->p + q->head + q->n;
}

void queue_commit(struct queue *q, size_t n)
{
	q->n += n;
}

int queue_put(struct queue *q, struct span s)
{
	uint8_t *to;

	if (s.n == 0)
		return 0;
	if (s.n > queue_room(q))
		return -ENOBUFS;
	to = queue_reserve(q, s.n);
	if (!to)
		return -ENOMEM;
	memcpy(to, s.p, s.n);
	queue_commit(q, s.n);
	return 0;
}

void queue_take(struct queue *q, size_t n)
{
	q->head += n;
	q->n -= n;
	if (q->n)
		return;
	q->head = 0;
	if (q->cap > QUEUE_KEEP_BYTES)
		queue_done(q);
}
