/* queue.h - a bounded queue of bytes in one piece of memory.
 *
 * Bytes go in at the tail and come out at the head, and what is queued can always be seen as one
 * span. The buffer is made when the first byte comes, grows by doubling up to `limit`, and is given
 * back when the queue runs empty, but for a small one that saves the next request an allocation. */
#ifndef BASE_QUEUE_H
#define BASE_QUEUE_H

#include "base/err.h"
#include "base/span.h"

/* What a group of queues may hold in buffers together. A queue that is not in a group has no
 * budget. */
struct budget {
	size_t used, limit; /* bytes */
};

enum { QUEUE_KEEP_BYTES = 1024 }; /* an empty queue holds on to a buffer of at most this size */

struct queue {
	uint8_t *p;
	size_t cap;            /* size of the buffer */
	size_t head;           /* first queued byte */
	size_t n;              /* queued bytes */
	size_t limit;          /* n never exceeds it */
	struct budget *budget; /* NULL, or what buffers over QUEUE_KEEP_BYTES are counted against */
};

/* The budget, when there is one, must outlive the queue. */
void queue_init(struct queue *q, size_t limit_bytes, struct budget *budget);

/* Frees the buffer; the queue is empty and can be used again. */
void queue_done(struct queue *q);

/* What is queued, oldest byte first. The view lives until the queue is next written or emptied. */
static inline struct span queue_span(const struct queue *q)
{
	return span_of(q->p ? q->p + q->head : NULL, q->n);
}

/* How many more bytes the limit lets in. */
static inline size_t queue_room(const struct queue *q)
{
	return q->limit - q->n;
}

/* How many bytes in all the queue could hold now: its limit, or less where the budget does not let
 * the buffer grow so far. Without regard to memory. */
size_t queue_reach(const struct queue *q);

/* Appends a copy. 0, -ENOBUFS over the limit, or -ENOMEM over the budget or without memory; on
 * failure nothing was appended. */
int queue_put(struct queue *q, struct span s);

/* A place for n more bytes at the tail, to be filled by the caller and then made part of the queue
 * with queue_commit. NULL when the limit, the budget or memory forbids it. The place lives until
 * the next call. */
uint8_t *queue_reserve(struct queue *q, size_t n);
void queue_commit(struct queue *q, size_t n);

/* Takes the n oldest bytes out; n <= q->n. */
void queue_take(struct queue *q, size_t n);

#endif
