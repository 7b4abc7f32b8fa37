/* ring.h - a virtqueue with the eventfds by which guest and device wake each other. */
#ifndef BRIDGE_RING_H
#define BRIDGE_RING_H

#include "sys/loop.h"
#include "virtqueue.h"

struct ring;

/* The guest has put chains into the ring, or it has just come to life. */
typedef void ring_fn(struct ring *r);

/* Memory of the caller. Fields are private but for `vq` and `ctx`. */
struct ring {
	struct virtqueue vq;
	ring_fn *kicked;
	void *ctx;
	struct loop *loop;
	struct source kick;
	int kick_fd, call_fd, err_fd; /* -1 = none; the first until the loop has it */
	bool enabled;
};

void ring_init(struct ring *r, struct loop *l, ring_fn *kicked, void *ctx);

/* Stops and closes all. */
void ring_done(struct ring *r);

/* Each takes the fd over, also on failure, in place of the one before; -1 for none. */
int ring_start(struct ring *r, int kick_fd);
void ring_set_call(struct ring *r, int fd);
void ring_set_err(struct ring *r, int fd);

/* Stops; the kick fd is closed, and vq.next_avail says where to go on. */
void ring_stop(struct ring *r);

void ring_enable(struct ring *r, bool on);

/* Takes a chain like virtqueue_pop, but from an enabled ring only, and with failures dealt with.
 * False when there is none, or it does not fit in what a batch has left of its VIRTQUEUE_SIZE_MAX
 * pieces. */
bool ring_pop(struct ring *r, struct iovec *pieces, unsigned cap, struct chain *out);

/* As virtqueue_await, for an enabled ring. */
bool ring_await(struct ring *r);

/* Stops a ring whose guest does what it must not, and tells the log and the front end. */
void ring_fail(struct ring *r, int rc);

/* Interrupts the guest if it wants to be for what was pushed. */
void ring_call(struct ring *r);

#endif
