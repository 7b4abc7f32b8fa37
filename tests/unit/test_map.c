#include "base/map.h"

#include "cases.h"
#include "fault.h"
#include "suite.h"

#include <errno.h>

static const uint64_t seed[2] = {0x0706050403020100, 0x0f0e0d0c0b0a0908};

static struct map new_map(size_t expected)
{
	struct map m;

	ck_assert_int_eq(map_init(&m, expected, seed), 0);
	return m;
}

/* SipHash-1-3 of 00 01 02 … of each length, under the key 00 01 … 0f. */
START_TEST(hashes_as_siphash_1_3)
{
	static const uint64_t expected[] = {
	    0xabac0158050fc4dc,
	    0xc9f49bf37d57ca93,
	    0x82cb9b024dc7d44d,
	    0x8bf80ab8e7ddf7fb,
	    0xcf75576088d38328,
	    0xdef9d52f49533b67,
	    0xc50d2b50c59f22a7,
	    0xd3927d989bb11140,
	    0x369095118d299a8e,
	    0x25a48eb36c063de4,
	    0x79de85ee92ff097f,
	    0x70c118c1f94dc352,
	    0x78a384b157b4d9a2,
	    0x306f760c1229ffa7,
	    0x605aa111c0f95d34,
	    0xd320d86d2a519956,
	    0xcc4fdd1a7d908b66,
	    0x9cf2689063dbd80c,
	    0x8ffc389cb473e63e,
	    0xf21f9de58d297d1c,
	    0xc0dc2f46a6cce040,
	    0xb992abfe2b45f844,
	    0x7ffe7b9ba320872e,
	    0x525a0e7fdae6c123,
	};
	struct map m = new_map(1);
	uint8_t input[300];

	for (size_t i = 0; i < sizeof input; i++)
		input[i] = (uint8_t)i;
	for (size_t n = 0; n < sizeof expected / sizeof *expected; n++) {
		struct guard g = guard_copy(span_of(input, n));

		ck_assert_uint_eq(map_hash(&m, g.s), expected[n]);
		guard_free(&g);
	}
	ck_assert_uint_eq(map_hash(&m, span_of(NULL, 0)), expected[0]);
	/* the length goes in modulo 256 */
	ck_assert_uint_eq(map_hash(&m, span_of(input, sizeof input)), 0x4016a23bda5a2224);
	map_done(&m);
}
END_TEST

START_TEST(another_seed_gives_other_hashes)
{
	struct map a = new_map(1), b;

	ck_assert_int_eq(map_init(&b, 1, (const uint64_t[2]){seed[0], seed[1] ^ 1}), 0);
	ck_assert_uint_ne(map_hash(&a, span_str("name")), map_hash(&b, span_str("name")));
	map_done(&a);
	map_done(&b);
}
END_TEST

START_TEST(has_as_many_buckets_as_expected)
{
	static const size_t expected[][2] = {{0, 8}, {1, 8}, {8, 8}, {9, 16}, {1000, 1024}};

	for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
		struct map m = new_map(expected[i][0]);

		ck_assert_uint_eq(m.mask + 1, expected[i][1]);
		ck_assert_uint_eq(m.n, 0);
		ck_assert_ptr_null(map_walk(&m, NULL));
		map_done(&m);
	}
}
END_TEST

START_TEST(is_not_made_without_memory)
{
	unsigned made = 0, rounds = 0;

	FAULT_EACH("calloc", ENOMEM)
	{
		struct map m;
		int rc = map_init(&m, 100, seed);

		ck_assert(rc == 0 || rc == -ENOMEM);
		made += rc == 0;
		rounds++;
		if (rc == 0)
			map_done(&m);
	}
	ck_assert_uint_eq(rounds, 2);
	ck_assert_uint_eq(made, 1);
}
END_TEST

START_TEST(finds_all_entries_of_a_hash)
{
	struct map m = new_map(1);
	struct map_node a, b, c, neighbour;

	map_add(&m, &a, 3);
	map_add(&m, &neighbour, 3 + 8); /* in the same bucket */
	map_add(&m, &b, 3);
	map_add(&m, &c, 4);
	ck_assert_uint_eq(m.n, 4);
	ck_assert_ptr_eq(map_first(&m, 3), &b);
	ck_assert_ptr_eq(map_next(&b), &a);
	ck_assert_ptr_null(map_next(&a));
	ck_assert_ptr_eq(map_first(&m, 11), &neighbour);
	ck_assert_ptr_null(map_next(&neighbour));
	ck_assert_ptr_null(map_first(&m, 19));
	ck_assert_ptr_null(map_first(&m, 5));
	map_remove(&m, &b);
	ck_assert_ptr_eq(map_first(&m, 3), &a);
	map_remove(&m, &a);
	ck_assert_ptr_null(map_first(&m, 3));
	ck_assert_ptr_eq(map_first(&m, 11), &neighbour);
	ck_assert_uint_eq(m.n, 2);
	map_done(&m);
}
END_TEST

/* --- against a model: a table that says which keys are in ------------------------------------- */

enum { KEYS = 500, ROUNDS = 50000 };

struct item {
	uint16_t key;
	bool in;      /* what the model says */
	bool visited; /* by the walk under way */
	struct map_node node;
};

static struct item items[KEYS];

static struct span key_of(const struct item *item)
{
	return span_of(&item->key, sizeof item->key);
}

static struct item *lookup(const struct map *m, const struct item *wanted)
{
	for (struct map_node *n = map_first(m, map_hash(m, key_of(wanted))); n; n = map_next(n)) {
		struct item *item = container_of(n, struct item, node);

		if (item->key == wanted->key)
			return item;
	}
	return NULL;
}

static void toggle(struct map *m, struct item *item)
{
	if (item->in)
		map_remove(m, &item->node);
	else
		map_add(m, &item->node, map_hash(m, key_of(item)));
	item->in = !item->in;
}

/* Walks all entries; those with a key divisible by `drop` are taken out on the way. */
static void check_walk(struct map *m, unsigned drop)
{
	struct map_node *next;

	for (size_t i = 0; i < KEYS; i++)
		items[i].visited = false;
	for (struct map_node *n = map_walk(m, NULL); n; n = next) {
		struct item *item = container_of(n, struct item, node);

		next = map_walk(m, n);
		ck_assert(item->in && !item->visited);
		item->visited = true;
		if (drop && item->key % drop == 0) {
			map_remove(m, n);
			item->in = false;
		}
	}
	for (size_t i = 0; i < KEYS; i++)
		ck_assert(items[i].visited || !items[i].in);
}

static size_t model_count(void)
{
	size_t n = 0;

	for (size_t i = 0; i < KEYS; i++)
		n += items[i].in;
	return n;
}

START_TEST(behaves_like_its_model)
{
	struct map m = new_map(64); /* fewer buckets than entries: chains get long */
	uint32_t random = 1;

	for (size_t i = 0; i < KEYS; i++)
		items[i] = (struct item){.key = (uint16_t)i};
	for (int round = 0; round < ROUNDS; round++) {
		struct item *item;

		random = random * 1664525 + 1013904223; /* Numerical Recipes' generator */
		item = &items[(random >> 16) % KEYS];
		toggle(&m, item);
		ck_assert_ptr_eq(lookup(&m, item), item->in ? item : NULL);
		if (round % 1000 == 0)
			check_walk(&m, round % 7000 == 0 ? 3 : 0);
		if (round % 500 == 0)
			ck_assert_uint_eq(m.n, model_count());
	}
	check_walk(&m, 1);
	ck_assert_uint_eq(m.n, 0);
	ck_assert_ptr_null(map_walk(&m, NULL));
	map_done(&m);
}
END_TEST

START_TEST(a_map_that_is_done_is_empty)
{
	struct map m = new_map(10);

	map_done(&m);
	ck_assert_uint_eq(m.n, 0);
	ck_assert_ptr_null(map_walk(&m, NULL));
	map_done(&m);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    hashes_as_siphash_1_3,
	    another_seed_gives_other_hashes,
	    has_as_many_buckets_as_expected,
	    is_not_made_without_memory,
	    finds_all_entries_of_a_hash,
	    behaves_like_its_model,
	    a_map_that_is_done_is_empty,
	    NULL,
	};

	return suite_of("map", tests);
}
