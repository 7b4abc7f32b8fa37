#include "base/queue.h"

#include "fault.h"
#include "suite.h"

#include <errno.h>

static uint64_t random_state = 0x9e3779b97f4a7c15;

/* xorshift64: the same numbers on each run. */
static size_t random_below(size_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (size_t)(random_state % n);
}

static struct span lit(const char *s)
{
	return span_str(s);
}

static void check_holds(const struct queue *q, const char *text)
{
	ck_assert(span_eq_str(queue_span(q), text));
}

START_TEST(gives_back_what_was_put)
{
	struct queue q;

	queue_init(&q, 100, NULL);
	check_holds(&q, "");
	ck_assert_int_eq(queue_put(&q, lit("abc")), 0);
	ck_assert_int_eq(queue_put(&q, lit("")), 0);
	ck_assert_int_eq(queue_put(&q, lit("de")), 0);
	check_holds(&q, "abcde");
	ck_assert_uint_eq(queue_room(&q), 95);
	queue_take(&q, 0);
	queue_take(&q, 2);
	check_holds(&q, "cde");
	queue_take(&q, 3);
	check_holds(&q, "");
	ck_assert_uint_eq(queue_room(&q), 100);
	queue_done(&q);
}
END_TEST

START_TEST(the_limit_holds)
{
	struct queue q;

	queue_init(&q, 4, NULL);
	ck_assert_int_eq(queue_put(&q, lit("abcde")), -ENOBUFS);
	ck_assert_int_eq(queue_put(&q, lit("abc")), 0);
	ck_assert_int_eq(queue_put(&q, lit("de")), -ENOBUFS);
	ck_assert_ptr_null(queue_reserve(&q, 2));
	ck_assert_ptr_null(queue_reserve(&q, SIZE_MAX));
	ck_assert_ptr_null(queue_reserve(&q, 0));
	check_holds(&q, "abc");
	ck_assert_int_eq(queue_put(&q, lit("d")), 0);
	ck_assert_uint_eq(queue_room(&q), 0);
	ck_assert_uint_eq(q.cap, 4);
	queue_take(&q, 1);
	ck_assert_int_eq(queue_put(&q, lit("e")), 0);
	check_holds(&q, "bcde");
	queue_done(&q);
}
END_TEST

START_TEST(reserved_bytes_count_once_committed)
{
	struct queue q;
	uint8_t *p;

	queue_init(&q, 10, NULL);
	p = queue_reserve(&q, 8);
	ck_assert_ptr_nonnull(p);
	memcpy(p, "abcdefgh", 8);
	check_holds(&q, "");
	queue_commit(&q, 3);
	check_holds(&q, "abc");
	queue_take(&q, 1);
	p = queue_reserve(&q, 8);
	ck_assert_ptr_nonnull(p);
	memcpy(p, "12345678", 8);
	queue_commit(&q, 8);
	check_holds(&q, "bc12345678");
	queue_done(&q);
}
END_TEST

START_TEST(an_empty_queue_keeps_a_small_buffer_only)
{
	static const uint8_t big[2 * QUEUE_KEEP_BYTES];
	struct queue q;

	queue_init(&q, sizeof big, NULL);
	ck_assert_int_eq(queue_put(&q, lit("a")), 0);
	queue_take(&q, 1);
	ck_assert_ptr_nonnull(q.p);
	ck_assert_uint_eq(q.cap, QUEUE_KEEP_BYTES);
	ck_assert_int_eq(queue_put(&q, span_of(big, sizeof big)), 0);
	queue_take(&q, sizeof big - 1);
	ck_assert_ptr_nonnull(q.p);
	queue_take(&q, 1);
	ck_assert_ptr_null(q.p);
	ck_assert_int_eq(queue_put(&q, lit("again")), 0);
	check_holds(&q, "again");
	queue_done(&q);
	check_holds(&q, "");
	ck_assert_uint_eq(queue_room(&q), sizeof big);
}
END_TEST

/* Buffers grow by doubling, and it is their size that the budget is asked for. */
START_TEST(knows_how_far_it_reaches)
{
	static const uint8_t big[8 * QUEUE_KEEP_BYTES];
	static const struct {
		size_t limit, budget, reach;
	} cases[] = {
	    {10, 0, 10},
	    {sizeof big, 0, QUEUE_KEEP_BYTES},
	    {sizeof big, 2 * QUEUE_KEEP_BYTES - 1, QUEUE_KEEP_BYTES},
	    {sizeof big, 2 * QUEUE_KEEP_BYTES, 2 * QUEUE_KEEP_BYTES},
	    {sizeof big, 4 * QUEUE_KEEP_BYTES - 1, 2 * QUEUE_KEEP_BYTES},
	    {sizeof big, SIZE_MAX, sizeof big},
	    {sizeof big - 1, sizeof big - 2, sizeof big / 2},
	    {sizeof big - 1, sizeof big - 1, sizeof big - 1},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct budget budget = {.limit = cases[i].budget};
		struct queue q;

		for (size_t had = 0; had <= cases[i].reach; had++) {
			queue_init(&q, cases[i].limit, &budget);
			ck_assert_int_eq(queue_put(&q, span_of(big, had)), 0);
			ck_assert_uint_eq(queue_reach(&q), cases[i].reach);
			ck_assert_int_lt(queue_put(&q, span_of(big, cases[i].reach - had + 1)), 0);
			ck_assert_int_eq(queue_put(&q, span_of(big, cases[i].reach - had)), 0);
			queue_done(&q);
		}
		queue_init(&q, cases[i].limit, NULL);
		ck_assert_uint_eq(queue_reach(&q), cases[i].limit);
	}
}
END_TEST

START_TEST(queues_share_a_budget)
{
	static const uint8_t big[8 * QUEUE_KEEP_BYTES];
	struct budget budget = {.limit = sizeof big};
	struct queue a, b;

	queue_init(&a, sizeof big, &budget);
	queue_init(&b, sizeof big, &budget);
	ck_assert_int_eq(queue_put(&a, lit("small buffers are free")), 0);
	ck_assert_uint_eq(budget.used, 0);
	ck_assert_int_eq(queue_put(&a, span_of(big, sizeof big / 4)), 0);
	ck_assert_uint_eq(budget.used, a.cap);
	ck_assert_int_eq(queue_put(&b, span_of(big, sizeof big)), -ENOMEM);
	check_holds(&b, "");
	ck_assert_int_eq(queue_put(&b, span_of(big, sizeof big / 2)), 0);
	ck_assert_uint_eq(budget.used, sizeof big);
	ck_assert_int_eq(queue_put(&a, span_of(big, sizeof big / 2)), -ENOMEM);
	queue_take(&b, b.n);
	ck_assert_uint_eq(budget.used, a.cap);
	/* growing costs the difference, so a queue alone gets all of the budget */
	ck_assert_int_eq(queue_put(&a, span_of(big, queue_room(&a))), 0);
	ck_assert_uint_eq(budget.used, sizeof big);
	queue_done(&a);
	queue_done(&b);
	ck_assert_uint_eq(budget.used, 0);
}
END_TEST

START_TEST(nothing_is_appended_without_memory)
{
	static uint8_t big[3 * QUEUE_KEEP_BYTES];
	struct queue q;
	unsigned rounds = 0;

	FAULT_EACH("malloc", ENOMEM)
	{
		int first, second;

		queue_init(&q, sizeof big, NULL);
		first = queue_put(&q, lit("abc"));
		ck_assert_int_eq(first, rounds == 0 ? -ENOMEM : 0);
		second = queue_put(&q, span_of(big, QUEUE_KEEP_BYTES));
		ck_assert_int_eq(second, rounds == 1 ? -ENOMEM : 0);
		ck_assert_uint_eq(q.n, (first ? 0 : 3) + (second ? 0 : (size_t)QUEUE_KEEP_BYTES));
		if (!first)
			ck_assert(span_eq_str(span_first(queue_span(&q), 3), "abc"));
		queue_done(&q);
		rounds++;
	}
	ck_assert_uint_eq(rounds, 3);
}
END_TEST

/* Against a model that numbers the bytes: whatever is queued reads as consecutive numbers. */
enum { MODEL_LIMIT = 10000 };

static void put_numbers(struct queue *q, uint64_t *tail, size_t n)
{
	static uint8_t buf[MODEL_LIMIT + 1];
	bool fits = n <= MODEL_LIMIT - q->n;

	for (size_t i = 0; i < n; i++)
		buf[i] = (uint8_t)(*tail + i);
	ck_assert_int_eq(queue_put(q, span_of(buf, n)), fits ? 0 : -ENOBUFS);
	*tail += fits ? n : 0;
}

static void reserve_numbers(struct queue *q, uint64_t *tail, size_t n)
{
	bool fits = n > 0 && n <= MODEL_LIMIT - q->n;
	uint8_t *p = queue_reserve(q, n);
	size_t used = random_below(n + 1);

	ck_assert((p != NULL) == fits);
	if (!p)
		return;
	for (size_t i = 0; i < used; i++)
		p[i] = (uint8_t)(*tail + i);
	queue_commit(q, used);
	*tail += used;
}

START_TEST(behaves_like_its_model)
{
	uint64_t head = 0, tail = 0; /* numbers of the first queued byte and of the next to come */
	struct budget budget = {.limit = MODEL_LIMIT};
	struct queue q;

	queue_init(&q, MODEL_LIMIT, &budget);
	for (int round = 0; round < 20000; round++) {
		size_t n = random_below(random_below(8) ? 100 : MODEL_LIMIT + 2);
		struct span s;

		switch (random_below(5)) {
		case 0:
		case 1: put_numbers(&q, &tail, n); break;
		case 2: reserve_numbers(&q, &tail, n); break;
		default:
			n = n < q.n ? n : q.n;
			queue_take(&q, n);
			head += n;
		}
		s = queue_span(&q);
		ck_assert_uint_eq(s.n, tail - head);
		ck_assert_uint_le(q.cap, MODEL_LIMIT);
		ck_assert_uint_eq(budget.used, q.cap > QUEUE_KEEP_BYTES ? q.cap : 0);
		for (size_t i = 0; i < s.n; i++)
			if (s.p[i] != (uint8_t)(head + i))
				ck_abort_msg("byte %zu of %zu in round %d", i, s.n, round);
	}
	queue_done(&q);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    gives_back_what_was_put,
	    the_limit_holds,
	    reserved_bytes_count_once_committed,
	    an_empty_queue_keeps_a_small_buffer_only,
	    knows_how_far_it_reaches,
	    queues_share_a_budget,
	    nothing_is_appended_without_memory,
	    behaves_like_its_model,
	    NULL,
	};

	return suite_of("queue", tests);
}
