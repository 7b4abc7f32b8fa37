#include "delivery.h"

#include <errno.h>

enum {
	BATCH_BUFFERS = 64, /* filled by one readv: Linux makes them of 4 KiB */
	HEADER_PIECES = 4,  /* any driver puts the header in one */
};

/* A buffer of the guest: a place for a header and one for payload. */
struct buffer {
	uint16_t chain;
	struct iovec header[HEADER_PIECES];
	unsigned header_pieces;
	size_t payload_bytes;
};

/* Buffers taken from the ring, the places for payload all in one list for readv. */
struct batch {
	struct buffer buffers[BATCH_BUFFERS];
	uint16_t n;
	struct iovec payload[VIRTQUEUE_SIZE_MAX];
	unsigned payload_pieces;
	size_t payload_bytes;
};

/* Takes the place of a header off the front of `v`. False when there is none, or no room behind it,
 * or when it is in so many pieces that no driver made it. */
static bool split_header(struct buffer *b, struct iov *v)
{
	struct iov header = {b->header, v->n < HEADER_PIECES ? v->n : HEADER_PIECES};

	memcpy(b->header, v->p, header.n * sizeof *b->header);
	if (iov_bytes(header) < PACKET_BYTES)
		return false;
	iov_cut(&header, PACKET_BYTES);
	b->header_pieces = header.n;
	iov_skip(v, PACKET_BYTES);
	return v->n > 0;
}

/* The arrays stay as they are: clearing them would cost more than a small packet. */
static void start(struct batch *batch)
{
	batch->n = 0;
	batch->payload_pieces = 0;
	batch->payload_bytes = 0;
}

/* Adds the guest's next buffer to the batch. False when there is none that fits. */
static bool take_buffer(struct ring *rx, struct batch *batch)
{
	struct iovec *pieces = batch->payload + batch->payload_pieces;
	struct buffer *b = &batch->buffers[batch->n];
	struct chain chain;

	if (batch->n == BATCH_BUFFERS ||
	    !ring_pop(rx, pieces, VIRTQUEUE_SIZE_MAX - batch->payload_pieces, &chain))
		return false;
	if (chain.readable.n || !split_header(b, &chain.writable)) {
		ring_fail(rx, -EPROTO);
		return false;
	}
	b->chain = chain.head;
	b->payload_bytes = iov_bytes(chain.writable);
	memmove(pieces, chain.writable.p, chain.writable.n * sizeof *pieces);
	batch->payload_pieces += chain.writable.n;
	batch->payload_bytes += b->payload_bytes;
	batch->n++;
	return true;
}

/* Hands over a buffer with n bytes of payload in it. */
static void fill(struct ring *rx, struct buffer *b, struct packet *p, size_t n)
{
	uint8_t header[PACKET_BYTES];

	p->len = (uint32_t)n;
	packet_write(p, header);
	iov_write((struct iov){b->header, b->header_pieces}, header, sizeof header);
	virtqueue_push(&rx->vq, b->chain, (uint32_t)(PACKET_BYTES + n));
}

/* Hands over the buffers that n bytes are in, and gives the others back. */
static void fill_batch(struct ring *rx, struct batch *batch, struct packet *p, size_t n)
{
	uint16_t used = 0;

	while (n) {
		struct buffer *b = &batch->buffers[used++];
		size_t here = n < b->payload_bytes ? n : b->payload_bytes;

		fill(rx, b, p, here);
		n -= here;
	}
	virtqueue_unpop(&rx->vq, (uint16_t)(batch->n - used));
}

int delivery_send(struct ring *rx, struct packet *p)
{
	struct batch batch;

	start(&batch);
	if (!take_buffer(rx, &batch))
		return -ENOBUFS;
	fill(rx, batch.buffers, p, 0);
	return 0;
}

ssize_t delivery_read(struct ring *rx, struct packet *p, int fd, size_t bytes)
{
	struct batch batch;
	struct iov payload;
	ssize_t n;

	start(&batch);
	while (batch.payload_bytes < bytes && take_buffer(rx, &batch))
		;
	if (!rx->vq.live || batch.n == 0)
		return -ENOBUFS;
	payload = (struct iov){batch.payload, batch.payload_pieces};
	iov_cut(&payload, bytes);
	do
		n = readv(fd, payload.p, (int)payload.n);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		n = -errno;
	fill_batch(rx, &batch, p, n > 0 ? (size_t)n : 0);
	return n;
}
