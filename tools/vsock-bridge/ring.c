#include "ring.h"

#include "base/log.h"

#include <errno.h>
#include <unistd.h>

/* An eventfd counts: one more. A full counter wakes the other side all the same. */
static void wake_peer(int fd)
{
	const uint64_t one = 1;

	if (fd >= 0)
		(void)!write(fd, &one, sizeof one);
}

static void replace(int *fd, int with)
{
	if (*fd >= 0)
		close(*fd);
	*fd = with;
}

/* The source is edge-triggered, so that each kick wakes the loop and the counter need not be read.
 */
static int on_kick(struct source *s, uint32_t events)
{
	struct ring *r = container_of(s, struct ring, kick);

	(void)events;
	r->kicked(r);
	return 0;
}

static int listen_for_kicks(struct ring *r)
{
	int rc = source_add(r->loop, &r->kick, r->kick_fd, EPOLLIN | EPOLLET);

	if (rc == 0)
		r->kick_fd = -1;
	return rc;
}

/* The kick fd before has gone: now there is room for the one that replaces it. */
static void kick_removed(struct source *s)
{
	struct ring *r = container_of(s, struct ring, kick);
	int rc = r->kick_fd >= 0 ? listen_for_kicks(r) : 0;

	if (rc < 0)
		ring_fail(r, rc);
}

void ring_init(struct ring *r, struct loop *l, ring_fn *kicked, void *ctx)
{
	*r = (struct ring){
	    .kicked = kicked,
	    .ctx = ctx,
	    .loop = l,
	    .kick = {.fn = on_kick, .done = kick_removed, .name = "kick", .fd = -1},
	    .kick_fd = -1,
	    .call_fd = -1,
	    .err_fd = -1,
	};
}

void ring_done(struct ring *r)
{
	ring_stop(r);
	replace(&r->call_fd, -1);
	replace(&r->err_fd, -1);
	r->enabled = false;
}

int ring_start(struct ring *r, int kick_fd)
{
	int rc;

	ring_stop(r);
	r->kick_fd = kick_fd;
	rc = virtqueue_start(&r->vq);
	if (rc == 0 && !r->kick.dead)
		rc = listen_for_kicks(r);
	if (rc < 0)
		ring_stop(r);
	return rc;
}

void ring_stop(struct ring *r)
{
	virtqueue_stop(&r->vq);
	replace(&r->kick_fd, -1);
	source_remove(&r->kick);
}

/* What was pushed before this fd came may have rung no bell, or another one. */
void ring_set_call(struct ring *r, int fd)
{
	replace(&r->call_fd, fd);
	wake_peer(fd);
}

void ring_set_err(struct ring *r, int fd)
{
	replace(&r->err_fd, fd);
}

void ring_enable(struct ring *r, bool on)
{
	r->enabled = on;
}

bool ring_pop(struct ring *r, struct iovec *pieces, unsigned cap, struct chain *out)
{
	int rc = r->enabled ? virtqueue_pop(&r->vq, pieces, cap, out) : 0;

	if (rc == -ENOSPC && cap < VIRTQUEUE_SIZE_MAX)
		return false;
	if (rc < 0)
		ring_fail(r, rc);
	return rc > 0;
}

bool ring_await(struct ring *r)
{
	return r->enabled && virtqueue_await(&r->vq);
}

void ring_fail(struct ring *r, int rc)
{
	log_error("ring", "the guest broke its queue, which rests until its driver starts anew",
	    KV_ERR(rc));
	ring_stop(r);
	wake_peer(r->err_fd);
}

void ring_call(struct ring *r)
{
	if (virtqueue_wants_call(&r->vq))
		wake_peer(r->call_fd);
}
