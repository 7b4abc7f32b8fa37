#include "virtqueue.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <string.h>

/* --- single reads and writes of what is shared ------------------------------------------------ */

static uint16_t load16(const uint16_t *p)
{
	return le16toh(__atomic_load_n(p, __ATOMIC_ACQUIRE));
}

static void store16(uint16_t *p, uint16_t v)
{
	__atomic_store_n(p, htole16(v), __ATOMIC_RELEASE);
}

/* Copies a descriptor. The fence keeps the compiler from reading it again behind the checks; a
 * table need not be aligned. */
static struct vring_desc load_descriptor(const void *table, uint16_t i)
{
	struct vring_desc d;

	memcpy(&d, (const uint8_t *)table + sizeof d * i, sizeof d);
	atomic_signal_fence(memory_order_seq_cst);
	return (struct vring_desc){
	    le64toh(d.addr), le32toh(d.len), le16toh(d.flags), le16toh(d.next)};
}

/* The last field of either ring is an index at which the other side wants to be told (2.7.10). */
static uint16_t *used_event(const struct virtqueue *vq)
{
	return &vq->avail->ring[vq->size];
}

static uint16_t *avail_event(const struct virtqueue *vq)
{
	return (uint16_t *)(void *)&vq->used->ring[vq->size];
}

/* --- start and stop --------------------------------------------------------------------------- */

static void *ring_at(const struct virtqueue *vq, uint64_t user_addr, size_t bytes, size_t align)
{
	uint8_t *p = guest_memory_of_user(vq->memory, user_addr, bytes);

	return (uintptr_t)p % align ? NULL : p;
}

int virtqueue_start(struct virtqueue *vq)
{
	const size_t event = sizeof(uint16_t);
	const size_t n = vq->size;

	virtqueue_stop(vq);
	if (n == 0 || n > VIRTQUEUE_SIZE_MAX || (n & (n - 1)))
		return -EINVAL;
	vq->desc = ring_at(vq, vq->desc_user, n * sizeof *vq->desc, VRING_DESC_ALIGN_SIZE);
	vq->avail = ring_at(vq, vq->avail_user,
	    sizeof *vq->avail + n * sizeof *vq->avail->ring + event, VRING_AVAIL_ALIGN_SIZE);
	vq->used = ring_at(vq, vq->used_user, sizeof *vq->used + n * sizeof *vq->used->ring + event,
	    VRING_USED_ALIGN_SIZE);
	if (!vq->desc || !vq->avail || !vq->used)
		return -EINVAL;
	vq->next_used = vq->called_at = load16(&vq->used->idx);
	vq->live = true;
	return 0;
}

void virtqueue_stop(struct virtqueue *vq)
{
	vq->live = false;
	vq->desc = NULL;
	vq->avail = NULL;
	vq->used = NULL;
}

/* --- taking chains ---------------------------------------------------------------------------- */

/* A walk along one chain. */
struct walk {
	const struct virtqueue *vq;
	const void *table; /* descriptors: the queue's or an indirect one */
	uint16_t size;     /* of the table */
	uint16_t left;     /* descriptors that may follow: a longer chain is a loop */
	bool indirect, writing;
	struct iovec *pieces;
	unsigned cap, readable, writable;
};

/* Adds the memory of a descriptor, in as many pieces as regions it lies in. */
static int add_pieces(struct walk *w, const struct vring_desc *d)
{
	uint64_t addr = d->addr;
	size_t left = d->len;

	if (left > UINT64_MAX - addr)
		return -EPROTO;
	while (left) {
		size_t n = left;
		void *p = guest_memory_at(w->vq->memory, addr, &n);

		if (!p)
			return -EPROTO;
		if (w->readable + w->writable == w->cap)
			return -ENOSPC;
		w->pieces[w->readable + w->writable] = (struct iovec){p, n};
		if (w->writing)
			w->writable++;
		else
			w->readable++;
		addr += n;
		left -= n;
	}
	return 0;
}

/* Turns to the table that a descriptor points to (2.7.5.3): one level, the end of its chain. */
static int enter_table(struct walk *w, const struct vring_desc *d)
{
	size_t bytes = d->len;
	size_t n = bytes / sizeof *d;

	if (w->indirect || (d->flags & VRING_DESC_F_NEXT))
		return -EPROTO;
	if (n == 0 || n > w->vq->size || bytes % sizeof *d)
		return -EPROTO;
	w->table = guest_memory_at(w->vq->memory, d->addr, &bytes);
	if (!w->table || bytes != d->len)
		return -EPROTO;
	w->size = (uint16_t)n;
	w->indirect = true;
	return 0;
}

/* Follows the chain from descriptor i of the table on. */
static int follow(struct walk *w, uint16_t i)
{
	for (;;) {
		struct vring_desc d;
		int rc;

		if (i >= w->size || w->left-- == 0)
			return -EPROTO;
		d = load_descriptor(w->table, i);
		if (d.flags & VRING_DESC_F_INDIRECT) {
			rc = enter_table(w, &d);
			if (rc < 0)
				return rc;
			i = 0;
			continue;
		}
		if (w->writing && !(d.flags & VRING_DESC_F_WRITE))
			return -EPROTO; /* 2.7.4.2: what is readable comes first */
		w->writing = d.flags & VRING_DESC_F_WRITE;
		rc = add_pieces(w, &d);
		if (rc < 0 || !(d.flags & VRING_DESC_F_NEXT))
			return rc;
		i = d.next;
	}
}

/* How many chains wait, or -EPROTO for more than there can be. */
static int waiting(const struct virtqueue *vq)
{
	uint16_t n = (uint16_t)(load16(&vq->avail->idx) - vq->next_avail);

	return n > vq->size ? -EPROTO : n;
}

int virtqueue_pop(struct virtqueue *vq, struct iovec *pieces, unsigned cap, struct chain *out)
{
	struct walk w = {
	    .vq = vq, .table = vq->desc, .size = vq->size, .pieces = pieces, .cap = cap};
	uint16_t head;
	int rc = vq->live ? waiting(vq) : 0;

	if (rc <= 0)
		return rc;
	head = load16(&vq->avail->ring[vq->next_avail % vq->size]);
	w.left = (uint16_t)(vq->size + 1); /* one more for that which points to a table */
	rc = follow(&w, head);
	if (rc < 0)
		return rc;
	vq->next_avail++;
	*out = (struct chain){
	    .head = head,
	    .readable = {pieces, w.readable},
	    .writable = {pieces + w.readable, w.writable},
	};
	return 1;
}

void virtqueue_unpop(struct virtqueue *vq, uint16_t n)
{
	vq->next_avail = (uint16_t)(vq->next_avail - n);
}

/* --- giving them back ------------------------------------------------------------------------- */

void virtqueue_push(struct virtqueue *vq, uint16_t head, uint32_t written)
{
	vq->used->ring[vq->next_used % vq->size] =
	    (struct vring_used_elem){htole32(head), htole32(written)};
	store16(&vq->used->idx, ++vq->next_used);
}

/* Whether stepping from `before` to `now` passed `event` (2.7.10.1). */
static bool passed(uint16_t event, uint16_t before, uint16_t now)
{
	return (uint16_t)(now - event - 1) < (uint16_t)(now - before);
}

bool virtqueue_wants_call(struct virtqueue *vq)
{
	uint16_t before = vq->called_at;

	if (!vq->live || before == vq->next_used)
		return false;
	vq->called_at = vq->next_used;
	/* What was pushed must be seen before the driver's wish is read. */
	atomic_thread_fence(memory_order_seq_cst);
	if (!vq->event_idx)
		return !(load16(&vq->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	return passed(load16(used_event(vq)), before, vq->next_used);
}

bool virtqueue_await(struct virtqueue *vq)
{
	if (!vq->live)
		return false;
	if (vq->event_idx)
		store16(avail_event(vq), vq->next_avail);
	else
		store16(&vq->used->flags, 0);
	/* The wish must be seen before the index is read again. */
	atomic_thread_fence(memory_order_seq_cst);
	return waiting(vq) != 0;
}

void virtqueue_mute(struct virtqueue *vq)
{
	/* With event indices no kick comes until the one asked for next. */
	if (vq->live && !vq->event_idx)
		store16(&vq->used->flags, VRING_USED_F_NO_NOTIFY);
}
