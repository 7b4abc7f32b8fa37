/* The memory of a guest, rings and all: whatever stands in it, each chain is within it, and no
 * longer than the rings allow. */
#include "../../tools/vsock-bridge/virtqueue.h"
#include "fuzz.h"

enum { SIZE = 8, AVAIL = 128, USED = 160, HALF = 512 };

static const uint64_t guest = 4096;
static _Alignas(4096) uint8_t bytes[2 * HALF];

static void must(bool held)
{
	if (!held)
		__builtin_trap();
}

static void check_pieces(struct iov v)
{
	for (unsigned i = 0; i < v.n; i++) {
		size_t at = (size_t)((uint8_t *)v.p[i].iov_base - bytes);
		size_t end = at < HALF ? HALF : 2 * HALF; /* of the region */

		must(at < sizeof bytes && v.p[i].iov_len > 0 && v.p[i].iov_len <= end - at);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	/* The halves are apart for the guest, and in the other order. */
	const struct guest_memory memory = {
	    .regions = {{{guest + HALF, HALF, 0, 0}, bytes},
		{{guest, HALF, HALF, 0}, bytes + HALF}},
	    .n = 2,
	};
	struct virtqueue vq = {
	    .memory = &memory, .size = SIZE, .avail_user = AVAIL, .used_user = USED};
	struct iovec pieces[4 * SIZE];
	struct chain chain;

	if (n > sizeof bytes)
		return 0;
	memcpy(bytes, data, n);
	memset(bytes + n, 0, sizeof bytes - n);
	vq.event_idx = n % 2;
	must(virtqueue_start(&vq) == 0);
	for (unsigned i = 0; i < SIZE; i++) {
		if (virtqueue_pop(&vq, pieces, sizeof pieces / sizeof *pieces, &chain) != 1)
			break;
		must(chain.readable.n + chain.writable.n <= 2 * (SIZE + 1));
		check_pieces(chain.readable);
		check_pieces(chain.writable);
		virtqueue_push(&vq, chain.head, 1);
	}
	virtqueue_wants_call(&vq);
	virtqueue_await(&vq);
	return 0;
}
