/* virtqueue.h - the device's side of a split virtqueue (virtio 1.2, section 2.7).
 *
 * The driver makes buffers available as chains of descriptors; the device takes a chain, uses it
 * and gives it back. Everything in the rings belongs to a guest that may be broken or hostile: each
 * index, descriptor and table is read once and checked, and an impossible one is -EPROTO. */
#ifndef BRIDGE_VIRTQUEUE_H
#define BRIDGE_VIRTQUEUE_H

#include "guest_memory.h"
#include "iov.h"

#include <linux/virtio_ring.h>
#include <stdbool.h>

enum { VIRTQUEUE_SIZE_MAX = 1024 }; /* descriptors; readv(2) takes no more pieces either */

/* A chain: views of guest memory in the order of the descriptors. They live until the chain is
 * pushed, and the guest may write to both at any time. */
struct chain {
	uint16_t head;
	struct iov readable; /* from the driver */
	struct iov writable; /* for the driver */
};

struct virtqueue {
	/* Set by the owner while the queue is stopped. */
	const struct guest_memory *memory;
	uint16_t size;                             /* descriptors, a power of two */
	uint16_t next_avail;                       /* entry of the available ring to take next */
	bool event_idx;                            /* VIRTIO_F_EVENT_IDX was negotiated */
	uint64_t desc_user, avail_user, used_user; /* where the front end sees the rings */

	bool live; /* between start and stop */

	/* private */
	const struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t next_used;
	uint16_t called_at; /* next_used when the driver's wish was last asked for */
};

/* Finds the rings in guest memory, and goes on where `next_avail` and the used ring say. 0, or
 * -EINVAL for a size or for addresses that cannot be; the queue is stopped then. */
int virtqueue_start(struct virtqueue *vq);
void virtqueue_stop(struct virtqueue *vq);

/* Takes the next chain, its pieces put into pieces[cap]. 1; 0 when there is none, or the queue is
 * not live; -ENOSPC when it has more pieces than `cap` (nothing is taken then); or -EPROTO. */
int virtqueue_pop(struct virtqueue *vq, struct iovec *pieces, unsigned cap, struct chain *out);

/* Gives the last n chains taken back untouched, to be taken again. */
void virtqueue_unpop(struct virtqueue *vq, uint16_t n);

/* Hands a used chain to the driver, `written` bytes of it written. Chains may be pushed in any
 * order. */
void virtqueue_push(struct virtqueue *vq, uint16_t head, uint32_t written);

/* Whether the driver wants to be interrupted for what was pushed since this was last asked. */
bool virtqueue_wants_call(struct virtqueue *vq);

/* Asks the driver for a kick when it next makes a chain available. True when there is one already:
 * take it first. */
bool virtqueue_await(struct virtqueue *vq);

/* Asks it to save its kicks until virtqueue_await. */
void virtqueue_mute(struct virtqueue *vq);

#endif
