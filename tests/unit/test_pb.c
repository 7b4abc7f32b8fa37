#include "codec/pb.h"

#include "cases.h"
#include "suite.h"

#include <stdalign.h>

/* A message with a field of each kind. */
struct thing {
	struct span text;
	struct span bytes;
	bool flag;
	int32_t i32;
	int64_t i64;
	uint32_t u32;
	uint64_t u64;
	double real;
	const struct thing *sub;
	struct span maybe;
	struct pb_list texts;
	struct pb_list flags;
	struct pb_list i32s;
	struct pb_list i64s;
	struct pb_list u32s;
	struct pb_list u64s;
	struct pb_list reals;
	struct pb_list subs;
	struct pb_list map;
	struct span maybe_bytes;
};

extern const struct pb_table thing_table;
PB_TABLE(thing, "Thing", PB_FIELD(thing, 1, text, PB_STRING), PB_FIELD(thing, 2, bytes, PB_BYTES),
    PB_FIELD(thing, 3, flag, PB_BOOL), PB_FIELD(thing, 4, i32, PB_INT32),
    PB_FIELD(thing, 5, i64, PB_INT64), PB_FIELD(thing, 6, u32, PB_UINT32),
    PB_FIELD(thing, 7, u64, PB_UINT64), PB_FIELD(thing, 8, real, PB_DOUBLE),
    PB_SUBMESSAGE(thing, 9, sub, thing), PB_OPTIONAL(thing, 10, maybe, PB_STRING),
    PB_REPEATED(thing, 11, texts, PB_STRING), PB_REPEATED(thing, 12, flags, PB_BOOL),
    PB_REPEATED(thing, 13, i32s, PB_INT32), PB_REPEATED(thing, 14, i64s, PB_INT64),
    PB_REPEATED(thing, 15, u32s, PB_UINT32), PB_REPEATED(thing, 16, u64s, PB_UINT64),
    PB_REPEATED(thing, 17, reals, PB_DOUBLE), PB_SUBMESSAGES(thing, 18, subs, thing),
    PB_MAP(thing, 19, map), PB_OPTIONAL(thing, 536870911, maybe_bytes, PB_BYTES));

static alignas(max_align_t) uint8_t memory[1 << 20];

static enum err read_thing(struct span in, struct thing *out)
{
	struct pb_arena a = pb_arena_of(memory, sizeof memory);

	return pb_read(in, &thing_table, &a, out);
}

static struct thing read_ok(const char *hex)
{
	struct thing t;

	ck_assert_int_eq(read_thing(unhex(hex), &t), E_OK);
	return t;
}

static void refuse(const char *hex, enum err want)
{
	struct pb_arena a = pb_arena_of(memory, sizeof memory);
	struct thing t = {.i32 = 77};

	ck_assert_int_eq(pb_read(unhex(hex), &thing_table, &a, &t), want);
	ck_assert_int_eq(t.i32, 77);
	ck_assert_uint_eq(a.used, 0);
}

static void assert_written(const struct thing *t, const char *hex)
{
	static uint8_t buf[4096];
	struct wr w = wr_of(buf, sizeof buf);

	ck_assert_int_eq(pb_write(&w, &thing_table, t), E_OK);
	ck_assert(span_eq(wr_span(&w), unhex(hex)));
	ck_assert_uint_eq(pb_size(&thing_table, t), w.n);
}

/* What reads to the same message as `hex`, which is how the agent itself writes it. */
static void assert_same(const char *other, const char *hex)
{
	struct thing t = read_ok(other);

	assert_written(&t, hex);
}

static void assert_stays(const char *hex)
{
	assert_same(hex, hex);
}

/* --- one field -------------------------------------------------------------------------------- */

START_TEST(text_and_bytes)
{
	struct thing t = read_ok("0a03 c3a478 1202 ff00");

	ck_assert(span_eq_str(t.text, "\xc3\xa4x"));
	ck_assert(span_eq(t.bytes, span_of("\xff\x00", 2)));
	assert_written(&t, "0a03 c3a478 1202 ff00");
}
END_TEST

START_TEST(numbers)
{
	struct thing t = read_ok("1801 2096 01 2803 30ffffffff0f 38ffffffffffffffffff01");

	ck_assert(t.flag);
	ck_assert_int_eq(t.i32, 150);
	ck_assert_int_eq(t.i64, 3);
	ck_assert_uint_eq(t.u32, UINT32_MAX);
	ck_assert_uint_eq(t.u64, UINT64_MAX);
	assert_written(&t, "1801 209601 2803 30ffffffff0f 38ffffffffffffffffff01");
}
END_TEST

START_TEST(negative_numbers_take_ten_bytes)
{
	const struct thing t = {.i32 = -1, .i64 = INT64_MIN};
	struct thing back = read_ok("20ffffffffffffffffff01 2880808080808080808001");

	assert_written(&t, "20ffffffffffffffffff01 2880808080808080808001");
	ck_assert_int_eq(back.i32, -1);
	ck_assert_int_eq(back.i64, INT64_MIN);
}
END_TEST

START_TEST(real)
{
	const struct thing minus_zero = {.real = -0.0};
	struct thing t = read_ok("41 000000000000f83f");

	ck_assert_double_eq(t.real, 1.5);
	assert_written(&t, "41 000000000000f83f");
	assert_written(&minus_zero, "41 0000000000000080");
}
END_TEST

START_TEST(submessage)
{
	struct thing t = read_ok("4a04 0a00 2005");

	ck_assert_ptr_nonnull(t.sub);
	ck_assert_int_eq(t.sub->i32, 5);
	ck_assert_ptr_null(t.sub->sub);
	assert_written(&t, "4a02 2005");
	assert_stays("4a00");
	assert_stays("4a06 4a04 4a02 2001");
}
END_TEST

START_TEST(defaults_are_not_sent)
{
	const struct thing t = {.text = span_str(""), .bytes = span_str("")};

	assert_written(&t, "");
	assert_same("0a00 1200 1800 2000 2800 3000 3800 41 0000000000000000", "");
}
END_TEST

START_TEST(optional_is_sent_when_set)
{
	struct thing t = read_ok("");

	ck_assert_ptr_null(t.maybe.p);
	t = read_ok("5200");
	ck_assert_ptr_nonnull(t.maybe.p);
	ck_assert_uint_eq(t.maybe.n, 0);
	assert_stays("5200 faffffff0f 00");
	assert_stays("5201 61 faffffff0f 02 6263");
}
END_TEST

START_TEST(last_wins)
{
	assert_same("0a0161 2001 0a0162 2002", "0a0162 2002");
	assert_same("1801 1800", "");
}
END_TEST

START_TEST(submessages_merge)
{
	assert_same("4a05 0a0161 2001 4a02 2002", "4a05 0a0161 2002");
	assert_same("4a03 5a0161 3801 4a03 5a0162", "3801 4a06 5a0161 5a0162");
	assert_same("4a04 4a02 2001 4a04 4a02 3002", "4a06 4a04 2001 3002");
}
END_TEST

/* --- lists ------------------------------------------------------------------------------------ */

START_TEST(repeated_text)
{
	struct thing t = read_ok("5a0161 5a00 5a0262 63");
	const struct span *texts = t.texts.items;

	ck_assert_uint_eq(t.texts.n, 3);
	ck_assert(span_eq_str(texts[0], "a"));
	ck_assert_uint_eq(texts[1].n, 0);
	ck_assert(span_eq_str(texts[2], "bc"));
	assert_stays("5a0161 5a00 5a0262 63");
}
END_TEST

/* Packed, one by one, and both at once; written packed. */
START_TEST(repeated_numbers)
{
	assert_stays("6203 010001");
	assert_same("6001 6000 6205 01ffffff7f", "6204 01000101");
	assert_stays("6a0c 01 ffffffffffffffffff01 02");
	assert_same("6801 68ffffffffffffffffff01 6802", "6a0c 01 ffffffffffffffffff01 02");
	assert_stays("7203 8001 03");
	assert_same("708001 7003", "7203 8001 03");
	assert_same("7801 7a02 0203 7804", "7a04 01020304");
	assert_same("800101 82010102", "820102 0102");
	assert_stays("8a0110 000000000000f03f 0000000000000040");
	assert_same("8901 000000000000f03f 8a0108 0000000000000040",
	    "8a0110 000000000000f03f 0000000000000040");
	assert_same("6200 6a00 7200 7a00 820100 8a0100", "");
}
END_TEST

START_TEST(packed_numbers_that_are_cut)
{
	refuse("6a02 0180", E_MALFORMED);
	refuse("6a0b ffffffffffffffffffff01", E_MALFORMED);
	refuse("8a0107 00000000000000", E_MALFORMED);
	refuse("8a0109 000000000000000000", E_MALFORMED);
	refuse("6a03 0180", E_MALFORMED);
}
END_TEST

START_TEST(repeated_messages)
{
	struct thing t = read_ok("920102 2001 920100 920105 5a0161 2003");
	const struct thing *subs = t.subs.items;

	ck_assert_uint_eq(t.subs.n, 3);
	ck_assert_int_eq(subs[0].i32, 1);
	ck_assert_int_eq(subs[1].i32, 0);
	ck_assert_int_eq(subs[2].i32, 3);
	ck_assert_uint_eq(subs[2].texts.n, 1);
	assert_written(&t, "920102 2001 920100 920105 2003 5a0161");
}
END_TEST

START_TEST(interleaved)
{
	assert_same("5a0161 6a0101 920102 2001 5a0162 6802 920102 2002 5a0163 6803",
	    "5a0161 5a0162 5a0163 6a03 010203 920102 2001 920102 2002");
}
END_TEST

START_TEST(long_lists_keep_their_order)
{
	static uint8_t buf[16384];
	struct wr w = wr_of(buf, sizeof buf);
	const uint32_t *u32s;
	struct thing t;

	for (uint32_t i = 0; i < 1000; i++)
		wr_bytes(&w,
		    span_of(
			(const uint8_t[]){0x78, (uint8_t)(i | 0x80), (uint8_t)(i >> 7 & 7)}, 3));
	ck_assert_int_eq(w.err, E_OK);
	ck_assert_int_eq(read_thing(wr_span(&w), &t), E_OK);
	ck_assert_uint_eq(t.u32s.n, 1000);
	u32s = t.u32s.items;
	for (uint32_t i = 0; i < 1000; i++)
		ck_assert_uint_eq(u32s[i], i);
}
END_TEST

/* --- maps ------------------------------------------------------------------------------------- */

START_TEST(map_is_sorted_and_last_wins)
{
	struct thing t = read_ok("9a0106 0a0162 120131 9a0106 0a0161 120132 9a0106 120134 0a0162"
				 "9a0107 0a026161 120133");
	const struct pb_pair *pairs = t.map.items;

	ck_assert_uint_eq(t.map.n, 3);
	ck_assert(span_eq_str(pairs[0].key, "a") && span_eq_str(pairs[0].value, "2"));
	ck_assert(span_eq_str(pairs[1].key, "aa") && span_eq_str(pairs[1].value, "3"));
	ck_assert(span_eq_str(pairs[2].key, "b") && span_eq_str(pairs[2].value, "4"));
}
END_TEST

START_TEST(map_entries_that_lack_something)
{
	struct thing t = read_ok("9a0103 0a0161 9a0103 120162 9a0100");
	const struct pb_pair *pairs = t.map.items;

	ck_assert_uint_eq(t.map.n, 2);
	ck_assert(pairs[0].key.n == 0 && pairs[0].value.n == 0);
	ck_assert(span_eq_str(pairs[1].key, "a") && pairs[1].value.n == 0);
	assert_stays("9a0100 9a0103 0a0161");
	assert_same("9a0108 0a0161 120162 1801", "9a0106 0a0161 120162");
	refuse("9a0104 0a016112", E_MALFORMED);
	refuse("9a0103 0a01ff", E_UTF8);
	refuse("9a0103 1201ff", E_UTF8);
}
END_TEST

/* A map with n keys, then the first of them once more. */
static struct span big_map(uint32_t n)
{
	static uint8_t buf[65536];
	struct wr w = wr_of(buf, sizeof buf);

	for (uint32_t i = 0; i <= n; i++) {
		uint32_t key = i % n;

		wr_bytes(&w, unhex("9a0106 0a04"));
		for (unsigned shift = 0; shift < 16; shift += 4)
			wr_u8(&w, (uint8_t)('a' + (key >> shift & 15)));
	}
	ck_assert_int_eq(w.err, E_OK);
	return wr_span(&w);
}

START_TEST(map_has_a_limit)
{
	struct thing t;

	ck_assert_int_eq(read_thing(big_map(PB_MAP_MAX), &t), E_OK);
	ck_assert_uint_eq(t.map.n, PB_MAP_MAX);
	for (size_t i = 1; i < t.map.n; i++) {
		const struct pb_pair *pair = (const struct pb_pair *)t.map.items + i;

		ck_assert_int_lt(memcmp(pair[-1].key.p, pair->key.p, 4), 0);
	}
	ck_assert_int_eq(read_thing(big_map(PB_MAP_MAX + 1), &t), E_LIMIT);
}
END_TEST

START_TEST(map_of_the_caller_is_written_as_it_stands)
{
	const struct pb_pair pairs[] = {
	    {span_str("b"), span_str("1")}, {span_str("a"), span_of(NULL, 0)}};
	const struct thing t = {.map = PB_LIST(pairs)};

	assert_written(&t, "9a0106 0a0162 120131 9a0103 0a0161");
}
END_TEST

/* --- what is not known ------------------------------------------------------------------------ */

START_TEST(unknown_fields_are_skipped)
{
	assert_same("a00601 2001", "2001");                                  /* varint */
	assert_same("a106 0102030405060708 2001", "2001");                   /* i64 */
	assert_same("a206 03 010203 2001", "2001");                          /* len */
	assert_same("a506 01020304 2001", "2001");                           /* i32 */
	assert_same("a306 a406 2001", "2001");                               /* group */
	assert_same("a306 0801 1100000000000000001a0161 a406 2001", "2001"); /* with fields */
	assert_same("a306 ab06 ac06 ab06 ac06 a406 2001", "2001");           /* and groups */
	assert_same("f8ffffff0f 01 2001", "2001"); /* the highest number */
}
END_TEST

START_TEST(unknown_fields_that_are_cut)
{
	refuse("a006", E_MALFORMED);
	refuse("a00680", E_MALFORMED);
	refuse("a106 01020304050607", E_MALFORMED);
	refuse("a206 03 0102", E_MALFORMED);
	refuse("a206 ffffffffffffffffff01", E_MALFORMED);
	refuse("a506 010203", E_MALFORMED);
	refuse("a306", E_MALFORMED);
	refuse("a306 0801", E_MALFORMED);
}
END_TEST

START_TEST(another_wire_type_is_another_field)
{
	assert_same("0801 2203 616263 2d 01020304 1b1c 4801 2001", "2001");
	assert_same("21 0000000000000000 4201 00 5801 980101 2001", "2001");
	assert_same("65 00000000 8d01 00000000 2001", "2001");
}
END_TEST

START_TEST(groups_that_do_not_match)
{
	refuse("a306 ac06", E_MALFORMED);
	refuse("a306 ab06 a406 ac06", E_MALFORMED);
	refuse("a406", E_MALFORMED);
	refuse("24", E_MALFORMED);
	refuse("4a02 a306 a406", E_MALFORMED);
}
END_TEST

/* `depth` groups in each other, then a field. */
static struct span groups(unsigned depth)
{
	static uint8_t buf[256];
	struct wr w = wr_of(buf, sizeof buf);

	for (unsigned i = 0; i < depth; i++)
		wr_u16be(&w, 0xa306);
	for (unsigned i = 0; i < depth; i++)
		wr_u16be(&w, 0xa406);
	wr_u16be(&w, 0x2001);
	return wr_span(&w);
}

START_TEST(groups_have_a_depth)
{
	struct thing t;

	ck_assert_int_eq(read_thing(groups(PB_DEPTH_MAX), &t), E_OK);
	ck_assert_int_eq(t.i32, 1);
	ck_assert_int_eq(read_thing(groups(PB_DEPTH_MAX + 1), &t), E_DEPTH);
}
END_TEST

/* `depth` messages in each other, the outermost counted. */
static struct span nested(unsigned depth)
{
	static uint8_t buf[256];
	struct wr w = wr_of(buf, sizeof buf);

	for (unsigned i = 1; i < depth; i++) {
		wr_u8(&w, 0x4a);
		wr_u8(&w, (uint8_t)(2 * (depth - i - 1)));
	}
	return wr_span(&w);
}

START_TEST(messages_have_a_depth)
{
	struct thing t;

	ck_assert_int_eq(read_thing(nested(PB_DEPTH_MAX), &t), E_OK);
	ck_assert_int_eq(read_thing(nested(PB_DEPTH_MAX + 1), &t), E_DEPTH);
}
END_TEST

START_TEST(tags)
{
	refuse("00", E_MALFORMED);                  /* field 0 */
	refuse("0001", E_MALFORMED);                /* likewise */
	refuse("0e01", E_MALFORMED);                /* wire type 6 */
	refuse("0f01", E_MALFORMED);                /* wire type 7 */
	refuse("a60600", E_MALFORMED);              /* likewise, unknown field */
	refuse("808080801001", E_MALFORMED);        /* over 32 bits */
	refuse("80", E_MALFORMED);                  /* cut */
	assert_same("a080808080808000 01", "2001"); /* longer than it need be */
}
END_TEST

START_TEST(varints)
{
	assert_same("2081808080808080808000", "2001");
	refuse("208180808080808080808000", E_MALFORMED);
	refuse("20ffffffffffffffffff8001", E_MALFORMED);
	assert_same("38ffffffffffffffffff7f", "38ffffffffffffffffff01"); /* bits over 64 */
	assert_same("1880808080808080808001", "1801");                   /* true is not 0 */
	assert_same("2081808080f0ffffffff01", "2001");                   /* 32 bits of 64 */
	assert_same("3081808080f0ffffffff01", "3001");
	assert_same("20ffffffff0f", "20ffffffffffffffffff01");
}
END_TEST

START_TEST(utf8)
{
	const struct span bad = span_of("\xc0\x80", 2);
	const struct thing text = {.text = bad}, bytes = {.bytes = bad};
	uint8_t buf[16];
	struct wr w = wr_of(buf, sizeof buf);

	refuse("0a01ff", E_UTF8);
	refuse("0a03eda080", E_UTF8);
	refuse("5a01ff", E_UTF8);
	refuse("5201ff", E_UTF8);
	refuse("4a03 0a01ff", E_UTF8);
	assert_stays("1201ff");
	ck_assert_int_eq(pb_write(&w, &thing_table, &text), E_UTF8);
	w = wr_of(buf, sizeof buf);
	ck_assert_int_eq(pb_write(&w, &thing_table, &bytes), E_OK);
}
END_TEST

/* --- whole messages --------------------------------------------------------------------------- */

static const char full[] = "0a0161 1202ff00 1801 20ffffffffffffffffff01 2805 3006 3807"
			   "41 000000000000f83f 4a0b 2001 4a02 2002 5a0178 5200 6a03 010203"
			   "5a0161 5a0162 6202 0100 8a0108 000000000000f03f 920102 2001 920100"
			   "9a0106 0a0161 120162 9a0103 0a0162 faffffff0f 0161";

static void reads_or_leaves_alone(struct span in, void *ctx)
{
	static uint8_t first[4096], second[4096];
	struct wr w1 = wr_of(first, sizeof first), w2 = wr_of(second, sizeof second);
	struct thing t = {.i32 = 77};
	enum err err = read_thing(in, &t);

	(void)ctx;
	if (err) {
		ck_assert(err == E_MALFORMED || err == E_UTF8);
		ck_assert(t.i32 == 77 && !t.text.p && !t.sub && !t.texts.items);
		return;
	}
	ck_assert_int_eq(pb_write(&w1, &thing_table, &t), E_OK);
	ck_assert_int_eq(read_thing(wr_span(&w1), &t), E_OK);
	ck_assert_int_eq(pb_write(&w2, &thing_table, &t), E_OK);
	ck_assert(span_eq(wr_span(&w1), wr_span(&w2)));
}

START_TEST(cut_and_mutated)
{
	each_cut(unhex(full), reads_or_leaves_alone, NULL);
	each_mutation(unhex(full), reads_or_leaves_alone, NULL);
}
END_TEST

START_TEST(arena_too_small)
{
	struct span in = unhex(full);
	struct pb_arena a = pb_arena_of(memory, sizeof memory);
	struct thing t;
	size_t need;

	ck_assert_int_eq(pb_read(in, &thing_table, &a, &t), E_OK);
	need = a.used;
	for (size_t cap = 0; cap <= need; cap++) {
		struct thing out = {.i32 = 77};

		a = pb_arena_of(memory, cap);
		ck_assert_int_eq(pb_read(in, &thing_table, &a, &out), cap < need ? E_LIMIT : E_OK);
		ck_assert_int_eq(out.i32, cap < need ? 77 : -1);
		ck_assert_uint_eq(a.used, cap < need ? 0 : need);
	}
}
END_TEST

START_TEST(output_too_small)
{
	static uint8_t buf[4096];
	struct thing t = read_ok(full);
	size_t n = pb_size(&thing_table, &t);

	for (size_t cap = 0; cap <= n; cap++) {
		struct wr w = wr_of(buf, cap);

		ck_assert_int_eq(pb_write(&w, &thing_table, &t), cap < n ? E_SPACE : E_OK);
	}
}
END_TEST

/* Several messages may live in one arena. */
START_TEST(arena_is_shared)
{
	struct pb_arena a = pb_arena_of(memory, sizeof memory);
	struct thing one, two;
	const struct span *texts;

	ck_assert_int_eq(pb_read(unhex("5a0161"), &thing_table, &a, &one), E_OK);
	ck_assert_int_eq(pb_read(unhex("5a026162"), &thing_table, &a, &two), E_OK);
	ck_assert_ptr_ne(one.texts.items, two.texts.items);
	texts = one.texts.items;
	ck_assert_uint_eq(texts->n, 1);
}
END_TEST

START_TEST(alloc)
{
	struct pb_arena a = pb_arena_of(memory + 1, 256);
	uint8_t *p, *q;

	memset(memory, 0xff, 512);
	p = pb_alloc(&a, 3);
	q = pb_alloc(&a, 8);
	ck_assert_uint_eq((uintptr_t)p % alignof(max_align_t), 0);
	ck_assert_uint_eq((uintptr_t)q % alignof(max_align_t), 0);
	ck_assert(q >= p + 3);
	ck_assert(p[0] == 0 && p[2] == 0 && q[0] == 0 && q[7] == 0 && q[8] == 0xff);
	ck_assert_ptr_null(pb_alloc(&a, 256));
	ck_assert_ptr_null(pb_alloc(&a, SIZE_MAX));
	ck_assert_ptr_nonnull(pb_alloc(&a, 200));
	ck_assert_uint_le(a.used, a.cap);
	ck_assert_ptr_null(pb_alloc(&a, 32));
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {text_and_bytes, numbers, negative_numbers_take_ten_bytes,
	    real, submessage, defaults_are_not_sent, optional_is_sent_when_set, last_wins,
	    submessages_merge, repeated_text, repeated_numbers, packed_numbers_that_are_cut,
	    repeated_messages, interleaved, long_lists_keep_their_order,
	    map_is_sorted_and_last_wins, map_entries_that_lack_something, map_has_a_limit,
	    map_of_the_caller_is_written_as_it_stands, unknown_fields_are_skipped,
	    unknown_fields_that_are_cut, another_wire_type_is_another_field,
	    groups_that_do_not_match, groups_have_a_depth, messages_have_a_depth, tags, varints,
	    utf8, cut_and_mutated, arena_too_small, output_too_small, arena_is_shared, alloc, NULL};

	return suite_of("pb", tests);
}
