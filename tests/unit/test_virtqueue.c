#include "../../tools/vsock-bridge/virtqueue.h"

#include "suite.h"
#include "sys/fs.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum {
	SIZE = 8,
	MEMORY_BYTES = 1 << 16,
	DESC = 0,
	AVAIL = 0x1000,
	USED = 0x2000,
	TABLE = 0x3000, /* for indirect descriptors */
	DATA = 0x8000,
};

static const uint64_t guest = 0x40000000, user = 0x7f0000000000;

/* The driver's side: the memory as this test sees it, and the queue under test. */
static struct guest_memory memory;
static struct virtqueue vq;
static uint8_t *bytes;
static struct vring_desc *desc;
static struct vring_avail *avail;
static struct vring_used *used;
static struct iovec pieces[VIRTQUEUE_SIZE_MAX];
static struct chain chain;

static void setup(void)
{
	const struct guest_layout layouts[] = {
	    {guest, MEMORY_BYTES / 2, user, 0},
	    {guest + MEMORY_BYTES / 2, MEMORY_BYTES / 2, user + (1 << 20), MEMORY_BYTES / 2},
	};
	int file = fs_memfd("guest");

	ck_assert_int_eq(ftruncate(file, MEMORY_BYTES), 0);
	for (size_t i = 0; i < 2; i++)
		ck_assert_int_eq(guest_memory_add(&memory, file, &layouts[i]), 0);
	close(file);
	bytes = memory.regions[0].at;
	desc = (void *)(bytes + DESC);
	avail = (void *)(bytes + AVAIL);
	used = (void *)(bytes + USED);
	vq = (struct virtqueue){
	    .memory = &memory,
	    .size = SIZE,
	    .desc_user = user + DESC,
	    .avail_user = user + AVAIL,
	    .used_user = user + USED,
	};
}

static void teardown(void)
{
	guest_memory_clear(&memory);
}

static void start(void)
{
	ck_assert_int_eq(virtqueue_start(&vq), 0);
}

static void offer(uint16_t head)
{
	avail->ring[avail->idx % vq.size] = head;
	avail->idx++;
}

static struct vring_desc data(unsigned offset, uint32_t len, unsigned flags, unsigned next)
{
	return (struct vring_desc){guest + DATA + offset, len, (uint16_t)flags, (uint16_t)next};
}

static struct vring_desc table(uint32_t descriptors, unsigned flags)
{
	return (struct vring_desc){guest + TABLE, descriptors * (uint32_t)sizeof *desc,
	    (uint16_t)(flags | VRING_DESC_F_INDIRECT), 0};
}

static struct vring_desc *in_table(unsigned i)
{
	return (struct vring_desc *)(void *)(bytes + TABLE) + i;
}

static int pop(void)
{
	return virtqueue_pop(&vq, pieces, VIRTQUEUE_SIZE_MAX, &chain);
}

/* --- starting --------------------------------------------------------------------------------- */

START_TEST(rings_must_lie_in_memory)
{
	const uint16_t good_sizes[] = {1, 2, 64, 256}, bad_sizes[] = {0, 3, 129, 1023, 2048, 32768};

	for (size_t i = 0; i < sizeof good_sizes / sizeof *good_sizes; i++) {
		vq.size = good_sizes[i];
		start();
	}
	for (size_t i = 0; i < sizeof bad_sizes / sizeof *bad_sizes; i++) {
		vq.size = bad_sizes[i];
		ck_assert_int_eq(virtqueue_start(&vq), -EINVAL);
	}
	vq.size = SIZE;
	for (unsigned i = 0; i < 3; i++) {
		uint64_t *field[] = {&vq.desc_user, &vq.avail_user, &vq.used_user};
		uint64_t good = *field[i];
		const uint64_t bad[] = {
		    0, guest, user - 16, user + MEMORY_BYTES / 2 - 16, UINT64_MAX - 15, good + 1};

		for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
			*field[i] = bad[k];
			ck_assert_int_eq(virtqueue_start(&vq), -EINVAL);
			ck_assert(!vq.live);
			ck_assert_int_eq(pop(), 0);
		}
		*field[i] = good;
	}
	start();
}
END_TEST

START_TEST(a_stopped_queue_is_silent)
{
	desc[0] = data(0, 10, 0, 0);
	offer(0);
	ck_assert_int_eq(pop(), 0);
	ck_assert(!virtqueue_await(&vq));
	ck_assert(!virtqueue_wants_call(&vq));
	virtqueue_mute(&vq);
	start();
	virtqueue_stop(&vq);
	ck_assert_int_eq(pop(), 0);
	ck_assert(!virtqueue_await(&vq));
}
END_TEST

/* --- chains ----------------------------------------------------------------------------------- */

START_TEST(chains_come_in_order)
{
	start();
	ck_assert_int_eq(pop(), 0);
	desc[5] = data(0, 10, 0, 0);
	desc[2] = data(16, 20, VRING_DESC_F_WRITE, 0);
	offer(5);
	offer(2);
	ck_assert_int_eq(pop(), 1);
	ck_assert_uint_eq(chain.head, 5);
	ck_assert_uint_eq(chain.readable.n, 1);
	ck_assert_uint_eq(chain.writable.n, 0);
	ck_assert_ptr_eq(chain.readable.p->iov_base, memory.regions[1].at);
	ck_assert_uint_eq(chain.readable.p->iov_len, 10);
	ck_assert_int_eq(pop(), 1);
	ck_assert_uint_eq(chain.head, 2);
	ck_assert_uint_eq(chain.readable.n, 0);
	ck_assert_uint_eq(chain.writable.n, 1);
	ck_assert_uint_eq(iov_bytes(chain.writable), 20);
	ck_assert_int_eq(pop(), 0);
}
END_TEST

START_TEST(a_chain_is_read_and_then_written)
{
	start();
	desc[0] = data(0, 44, VRING_DESC_F_NEXT, 3);
	desc[3] = data(64, 0, VRING_DESC_F_NEXT, 1); /* of no bytes, and no piece */
	desc[1] = data(128, 7, VRING_DESC_F_NEXT, 2);
	desc[2] = data(256, 9, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 7);
	desc[7] = data(512, 11, VRING_DESC_F_WRITE, 0);
	offer(0);
	ck_assert_int_eq(pop(), 1);
	ck_assert_uint_eq(chain.readable.n, 2);
	ck_assert_uint_eq(chain.writable.n, 2);
	ck_assert_uint_eq(iov_bytes(chain.readable), 51);
	ck_assert_uint_eq(iov_bytes(chain.writable), 20);
	ck_assert_ptr_eq(chain.writable.p[1].iov_base, memory.regions[1].at + 512);
}
END_TEST

START_TEST(a_chain_may_be_as_long_as_the_queue)
{
	start();
	for (unsigned i = 0; i < SIZE; i++)
		desc[i] = data(i, 1, i + 1 < SIZE ? VRING_DESC_F_NEXT : 0, i + 1);
	offer(0);
	ck_assert_int_eq(pop(), 1);
	ck_assert_uint_eq(chain.readable.n, SIZE);
}
END_TEST

START_TEST(a_table_stands_for_its_descriptors)
{
	start();
	for (unsigned i = 0; i < SIZE; i++)
		*in_table(i) = data(i, 1, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, i + 1);
	in_table(SIZE - 1)->flags = VRING_DESC_F_WRITE;
	desc[4] = table(SIZE, 0);
	offer(4);
	ck_assert_int_eq(pop(), 1);
	ck_assert_uint_eq(chain.head, 4);
	ck_assert_uint_eq(chain.writable.n, SIZE);
	in_table(SIZE - 2)->flags = VRING_DESC_F_WRITE;
	desc[6] = data(0, 44, VRING_DESC_F_NEXT, 4); /* one before the table */
	offer(6);
	ck_assert_int_eq(pop(), 1);
	ck_assert_uint_eq(chain.head, 6);
	ck_assert_uint_eq(chain.readable.n, 1);
	ck_assert_uint_eq(chain.writable.n, SIZE - 1);
}
END_TEST

START_TEST(what_lies_in_two_regions_is_two_pieces)
{
	start();
	desc[0] = (struct vring_desc){guest + MEMORY_BYTES / 2 - 3, 10, 0, 0};
	offer(0);
	ck_assert_int_eq(pop(), 1);
	ck_assert_uint_eq(chain.readable.n, 2);
	ck_assert_uint_eq(chain.readable.p[0].iov_len, 3);
	ck_assert_uint_eq(chain.readable.p[1].iov_len, 7);
	ck_assert_ptr_eq(chain.readable.p[1].iov_base, memory.regions[1].at);
}
END_TEST

START_TEST(a_chain_waits_for_room)
{
	start();
	desc[0] = data(0, 1, VRING_DESC_F_NEXT, 1);
	desc[1] = data(1, 1, 0, 0);
	offer(0);
	ck_assert_int_eq(virtqueue_pop(&vq, pieces, 0, &chain), -ENOSPC);
	ck_assert_int_eq(virtqueue_pop(&vq, pieces, 1, &chain), -ENOSPC);
	ck_assert_int_eq(virtqueue_pop(&vq, pieces, 2, &chain), 1);
}
END_TEST

START_TEST(chains_can_be_given_back)
{
	start();
	for (uint16_t i = 0; i < 4; i++) {
		desc[i] = data(i, 1, 0, 0);
		offer(i);
	}
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pop(), 1);
	virtqueue_unpop(&vq, 3);
	ck_assert_int_eq(pop(), 1);
	ck_assert_uint_eq(chain.head, 1);
}
END_TEST

START_TEST(impossible_chains_are_refused)
{
	const unsigned next = VRING_DESC_F_NEXT, write = VRING_DESC_F_WRITE;
	const struct {
		struct vring_desc first, second, in_table;
	} bad[] = {
	    {.first = data(0, 1, next, SIZE)},
	    {.first = data(0, 1, next, UINT16_MAX)},
	    {.first = data(0, 1, next, 0)},
	    {.first = data(0, 1, next, 1), .second = data(0, 1, next, 0)},
	    {.first = data(0, 0, next, 1), .second = data(0, 0, next, 0)},
	    {.first = data(0, 1, next | write, 1), .second = data(0, 1, 0, 0)},
	    {.first = {0, 1, 0, 0}},
	    {.first = {guest - 1, 2, 0, 0}},
	    {.first = {guest + MEMORY_BYTES, 1, 0, 0}},
	    {.first = {guest + MEMORY_BYTES - 1, 2, 0, 0}},
	    {.first = {guest, UINT32_MAX, 0, 0}},
	    {.first = {UINT64_MAX, 2, 0, 0}},
	    {.first = table(0, 0)},
	    {.first = table(SIZE + 1, 0)},
	    {.first = table(1, next)},
	    {.first = {guest + TABLE, 15, VRING_DESC_F_INDIRECT, 0}},
	    {.first = {guest + TABLE, 17, VRING_DESC_F_INDIRECT, 0}},
	    {.first = {0, 16, VRING_DESC_F_INDIRECT, 0}},
	    {.first = {guest + MEMORY_BYTES / 2 - 8, 16, VRING_DESC_F_INDIRECT, 0}},
	    {.first = table(1, 0), .in_table = table(1, 0)},
	    {.first = table(1, 0), .in_table = data(0, 1, next, 0)},
	    {.first = table(1, 0), .in_table = data(0, 1, next, 1)},
	};

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		start();
		desc[0] = bad[i].first;
		desc[1] = bad[i].second;
		*in_table(0) = bad[i].in_table;
		offer(0);
		ck_assert_msg(pop() == -EPROTO, "case %zu", i);
		ck_assert_uint_eq(vq.next_avail, i);
		vq.next_avail++;
	}
	offer(SIZE); /* no descriptor at all */
	ck_assert_int_eq(pop(), -EPROTO);
}
END_TEST

START_TEST(an_index_that_leaps_is_refused)
{
	start();
	avail->idx = SIZE + 1;
	ck_assert_int_eq(pop(), -EPROTO);
	avail->idx = UINT16_MAX;
	ck_assert_int_eq(pop(), -EPROTO);
	ck_assert(virtqueue_await(&vq)); /* there is something to look at */
}
END_TEST

/* --- giving back ------------------------------------------------------------------------------ */

START_TEST(used_chains_are_handed_over)
{
	start();
	virtqueue_push(&vq, 3, 100);
	virtqueue_push(&vq, 1, 0);
	ck_assert_uint_eq(used->idx, 2);
	ck_assert_uint_eq(used->ring[0].id, 3);
	ck_assert_uint_eq(used->ring[0].len, 100);
	ck_assert_uint_eq(used->ring[1].id, 1);
}
END_TEST

START_TEST(indices_wrap_around)
{
	avail->idx = UINT16_MAX - 1;
	used->idx = UINT16_MAX - 1;
	vq.next_avail = UINT16_MAX - 1;
	start();
	for (uint16_t i = 0; i < 4; i++) {
		desc[i] = data(i, i + 1u, 0, 0);
		offer(i);
	}
	for (uint16_t i = 0; i < 4; i++) {
		ck_assert_int_eq(pop(), 1);
		ck_assert_uint_eq(chain.head, i);
		virtqueue_push(&vq, chain.head, 0);
	}
	ck_assert_int_eq(pop(), 0);
	ck_assert_uint_eq(used->idx, 2);
	ck_assert_uint_eq(used->ring[1].id, 3);
	virtqueue_unpop(&vq, 3);
	ck_assert_uint_eq(vq.next_avail, UINT16_MAX);
}
END_TEST

START_TEST(a_queue_goes_on_after_a_stop)
{
	start();
	desc[0] = data(0, 1, 0, 0);
	offer(0);
	ck_assert_int_eq(pop(), 1);
	virtqueue_push(&vq, 0, 0);
	virtqueue_stop(&vq);
	offer(0);
	start();
	ck_assert_int_eq(pop(), 1);
	virtqueue_push(&vq, 0, 0);
	ck_assert_uint_eq(used->idx, 2);
	ck_assert_int_eq(pop(), 0);
}
END_TEST

/* --- telling each other ----------------------------------------------------------------------- */

START_TEST(flags_hold_calls_back)
{
	start();
	ck_assert(!virtqueue_wants_call(&vq));
	virtqueue_push(&vq, 0, 0);
	ck_assert(virtqueue_wants_call(&vq));
	ck_assert(!virtqueue_wants_call(&vq));
	avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	virtqueue_push(&vq, 0, 0);
	ck_assert(!virtqueue_wants_call(&vq));
	avail->flags = 0;
	virtqueue_push(&vq, 0, 0);
	ck_assert(virtqueue_wants_call(&vq));
}
END_TEST

static void call_at(uint16_t index)
{
	avail->ring[SIZE] = index;
}

/* With an event index the driver is called when that one is used, whatever is used with it. */
START_TEST(event_indices_hold_calls_back)
{
	for (unsigned from = 0; from <= UINT16_MAX; from += 13107) {
		used->idx = (uint16_t)from;
		vq.event_idx = true;
		start();
		virtqueue_push(&vq, 0, 0);
		virtqueue_wants_call(&vq); /* for which nothing was set yet */
		call_at((uint16_t)(from + 3));
		virtqueue_push(&vq, 0, 0);
		virtqueue_push(&vq, 0, 0);
		ck_assert(!virtqueue_wants_call(&vq));
		virtqueue_push(&vq, 0, 0);
		ck_assert(virtqueue_wants_call(&vq));
		virtqueue_push(&vq, 0, 0);
		ck_assert(!virtqueue_wants_call(&vq));
		call_at((uint16_t)(from + 6));
		for (int i = 0; i < 4; i++)
			virtqueue_push(&vq, 0, 0);
		ck_assert(virtqueue_wants_call(&vq));
	}
}
END_TEST

START_TEST(kicks_are_asked_for_by_flag)
{
	start();
	virtqueue_mute(&vq);
	ck_assert_uint_eq(used->flags, VRING_USED_F_NO_NOTIFY);
	ck_assert(!virtqueue_await(&vq));
	ck_assert_uint_eq(used->flags, 0);
	offer(0);
	ck_assert(virtqueue_await(&vq));
}
END_TEST

START_TEST(kicks_are_asked_for_by_index)
{
	const uint16_t *avail_event = (const void *)&used->ring[SIZE];

	vq.event_idx = true;
	avail->idx = 7;
	vq.next_avail = 7;
	start();
	virtqueue_mute(&vq);
	ck_assert_uint_eq(used->flags, 0);
	ck_assert(!virtqueue_await(&vq));
	ck_assert_uint_eq(*avail_event, 7);
	offer(0);
	ck_assert(virtqueue_await(&vq));
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    rings_must_lie_in_memory,
	    a_stopped_queue_is_silent,
	    chains_come_in_order,
	    a_chain_is_read_and_then_written,
	    a_chain_may_be_as_long_as_the_queue,
	    a_table_stands_for_its_descriptors,
	    what_lies_in_two_regions_is_two_pieces,
	    a_chain_waits_for_room,
	    chains_can_be_given_back,
	    impossible_chains_are_refused,
	    an_index_that_leaps_is_refused,
	    used_chains_are_handed_over,
	    indices_wrap_around,
	    a_queue_goes_on_after_a_stop,
	    flags_hold_calls_back,
	    event_indices_hold_calls_back,
	    kicks_are_asked_for_by_flag,
	    kicks_are_asked_for_by_index,
	    NULL,
	};
	TCase *tcase = tcase_create("virtqueue");
	Suite *s = suite_create("virtqueue");

	tcase_add_checked_fixture(tcase, setup, teardown);
	for (size_t i = 0; tests[i]; i++)
		tcase_add_test(tcase, tests[i]);
	suite_add_tcase(s, tcase);
	return s;
}
