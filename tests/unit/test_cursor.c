#include "base/cursor.h"

#include "cases.h"
#include "suite.h"

#include <errno.h>

static const uint8_t eight[] = {0x01, 0x82, 0x03, 0x84, 0x05, 0x86, 0x07, 0x88};

static struct rd reader(size_t n)
{
	return rd_of(span_of(eight, n));
}

START_TEST(reads_numbers_of_each_size)
{
	struct rd r = reader(8);

	ck_assert_uint_eq(rd_u8(&r), 0x01);
	ck_assert_uint_eq(rd_u16be(&r), 0x8203);
	ck_assert_uint_eq(rd_u32be(&r), 0x84058607);
	ck_assert_uint_eq(rd_left(&r), 1);
	r = reader(8);
	ck_assert_uint_eq(rd_u16le(&r), 0x8201);
	ck_assert_uint_eq(rd_u32le(&r), 0x86058403);
	r = reader(8);
	ck_assert_uint_eq(rd_u64le(&r), 0x8807860584038201);
	ck_assert_uint_eq(rd_left(&r), 0);
	ck_assert_int_eq(r.err, E_OK);
}
END_TEST

static uint64_t read_u8(struct rd *r)
{
	return rd_u8(r);
}

static uint64_t read_u16be(struct rd *r)
{
	return rd_u16be(r);
}

static uint64_t read_u32be(struct rd *r)
{
	return rd_u32be(r);
}

static uint64_t read_u16le(struct rd *r)
{
	return rd_u16le(r);
}

static uint64_t read_u32le(struct rd *r)
{
	return rd_u32le(r);
}

static const struct {
	uint64_t (*fn)(struct rd *r);
	size_t size;
} numbers[] = {
    {read_u8, 1},
    {read_u16be, 2},
    {read_u32be, 4},
    {read_u16le, 2},
    {read_u32le, 4},
    {rd_u64le, 8},
};

static void read_each_number(struct span cut, void *ctx)
{
	(void)ctx;
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		struct rd r = rd_of(cut);
		uint64_t v = numbers[i].fn(&r);

		if (numbers[i].size <= cut.n) {
			ck_assert_int_eq(r.err, E_OK);
			ck_assert_uint_eq(r.at, numbers[i].size);
			ck_assert_uint_ne(v, 0);
		} else {
			ck_assert_int_eq(r.err, E_MORE);
			ck_assert_uint_eq(r.at, 0);
			ck_assert_uint_eq(v, 0);
		}
	}
}

START_TEST(a_cut_number_reads_as_nothing)
{
	each_cut(span_of(eight, sizeof eight), read_each_number, NULL);
}
END_TEST

START_TEST(reads_views)
{
	struct rd r = reader(8);
	struct span s = rd_bytes(&r, 3);

	ck_assert_ptr_eq(s.p, eight);
	ck_assert_uint_eq(s.n, 3);
	s = rd_bytes(&r, 0);
	ck_assert_uint_eq(s.n, 0);
	s = rd_rest(&r);
	ck_assert_ptr_eq(s.p, eight + 3);
	ck_assert_uint_eq(s.n, 5);
	ck_assert_uint_eq(rd_rest(&r).n, 0);
	ck_assert_int_eq(r.err, E_OK);
}
END_TEST

START_TEST(an_empty_input_may_be_null)
{
	struct rd r = rd_of(span_of(NULL, 0));

	ck_assert_uint_eq(rd_bytes(&r, 0).n, 0);
	ck_assert_uint_eq(rd_rest(&r).n, 0);
	ck_assert_int_eq(r.err, E_OK);
	ck_assert_uint_eq(rd_u8(&r), 0);
	ck_assert_int_eq(r.err, E_MORE);
}
END_TEST

START_TEST(no_length_overflows)
{
	struct rd r = reader(8);

	rd_u8(&r);
	ck_assert_ptr_null(rd_bytes(&r, SIZE_MAX).p);
	ck_assert_int_eq(r.err, E_MORE);
	ck_assert_uint_eq(r.at, 1);
}
END_TEST

START_TEST(the_first_read_error_stays)
{
	struct rd r = reader(8);

	rd_fail(&r, E_LIMIT);
	rd_fail(&r, E_DEPTH);
	ck_assert_uint_eq(rd_u8(&r), 0);
	ck_assert_ptr_null(rd_rest(&r).p);
	ck_assert_uint_eq(rd_bytes(&r, 100).n, 0);
	ck_assert_int_eq(r.err, E_LIMIT);
	ck_assert_uint_eq(r.at, 0);
}
END_TEST

static void write_all(struct wr *w)
{
	wr_u8(w, 0x01);
	wr_u16be(w, 0x0203);
	wr_u32be(w, 0x04050607);
	wr_u16le(w, 0x0908);
	wr_u32le(w, 0x0d0c0b0a);
	wr_u64le(w, 0x1514131211100f0e);
	wr_bytes(w, span_of("\x16\x17", 2));
	wr_bytes(w, span_of(NULL, 0));
	wr_str(w, "\x18");
}

START_TEST(writes_what_fits_and_nothing_behind_it)
{
	for (size_t cap = 0; cap <= 24; cap++) {
		uint8_t buf[25];
		struct wr w = wr_of(buf, cap);

		memset(buf, 0xee, sizeof buf);
		write_all(&w);
		ck_assert_int_eq(w.err, cap == 24 ? E_OK : E_SPACE);
		ck_assert_uint_le(w.n, cap);
		for (size_t i = 0; i < sizeof buf; i++)
			ck_assert_uint_eq(buf[i], i < w.n ? i + 1 : 0xee);
		ck_assert_uint_eq(wr_span(&w).n, w.n);
	}
}
END_TEST

START_TEST(the_first_write_error_stays)
{
	uint8_t buf[8];
	struct wr w = wr_of(buf, sizeof buf);

	wr_u8(&w, 1);
	wr_bytes(&w, span_of("123456789", 9));
	wr_fail(&w, E_LIMIT);
	wr_u8(&w, 2);
	ck_assert_int_eq(w.err, E_SPACE);
	ck_assert_uint_eq(w.n, 1);
	w = wr_of(buf, sizeof buf);
	wr_fail(&w, E_LIMIT);
	wr_bytes(&w, span_of("123456789", 9));
	ck_assert_int_eq(w.err, E_LIMIT);
}
END_TEST

START_TEST(writes_decimals)
{
	static const struct {
		uint64_t v;
		const char *text;
	} cases[] = {
	    {0, "0"},
	    {9, "9"},
	    {10, "10"},
	    {1234567890, "1234567890"},
	    {UINT64_MAX, "18446744073709551615"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char buf[DEC_TEXT_BYTES];
		struct wr w = wr_of(buf, sizeof buf);

		wr_dec(&w, cases[i].v);
		wr_nul(&w);
		ck_assert_int_eq(w.err, E_OK);
		ck_assert_str_eq(buf, cases[i].text);
		ck_assert_uint_eq(w.n, strlen(buf));
		ck_assert_str_eq(dec_text(cases[i].v, buf), cases[i].text);
		w = wr_of(buf, strlen(cases[i].text) - 1);
		wr_dec(&w, cases[i].v);
		ck_assert_int_eq(w.err, E_SPACE);
		ck_assert_uint_eq(w.n, 0);
	}
}
END_TEST

START_TEST(bytes_are_written_in_hexadecimal)
{
	char buf[5];
	struct wr w = wr_of(buf, sizeof buf);

	wr_hex8(&w, 0x0f);
	wr_hex8(&w, 0xa9);
	wr_nul(&w);
	ck_assert_int_eq(w.err, E_OK);
	ck_assert_str_eq(buf, "0fa9");
	w = wr_of(buf, 1);
	wr_hex8(&w, 0);
	ck_assert_int_eq(w.err, E_SPACE);
}
END_TEST

START_TEST(the_nul_needs_room_but_does_not_count)
{
	char buf[3] = "xxx";
	struct wr w = wr_of(buf, sizeof buf);

	wr_str(&w, "ab");
	wr_nul(&w);
	ck_assert_int_eq(w.err, E_OK);
	ck_assert_uint_eq(w.n, 2);
	ck_assert_str_eq(buf, "ab");
	wr_str(&w, "c");
	wr_nul(&w);
	ck_assert_int_eq(w.err, E_SPACE);
	ck_assert_uint_eq(w.n, 3);
}
END_TEST

START_TEST(joins_texts)
{
	char buf[8] = "xxxxxxx";

	ck_assert(text_join(buf, sizeof buf, "a", "", "bc"));
	ck_assert_str_eq(buf, "abc");
	ck_assert(text_join(buf, sizeof buf, "abc", "defg"));
	ck_assert_str_eq(buf, "abcdefg");
	ck_assert(!text_join(buf, sizeof buf, "abcd", "efgh", "i"));
	ck_assert_str_eq(buf, "abcdefg");
	ck_assert(!text_join(buf, 1, "a"));
	ck_assert_str_eq(buf, "");
}
END_TEST

START_TEST(a_failure_has_its_reason)
{
	char text[64];
	struct wr w = wr_of(text, sizeof text);

	ck_assert_int_eq(wr_failure(&w, "cannot copy", "/x", -ENOENT), -ENOENT);
	ck_assert(span_eq_str(wr_span(&w), "cannot copy /x: No such file or directory"));
}
END_TEST

START_TEST(strangers_are_quoted_plainly)
{
	char text[8];
	struct wr w = wr_of(text, sizeof text);

	wr_plain(&w, span_of("a\nb\x7f\0~", 6));
	wr_plain(&w, span_str("\xc3\xa4 and more"));
	ck_assert_int_eq(w.err, E_OK);
	ck_assert(span_eq_str(wr_span(&w), "a?b??~??"));
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    reads_numbers_of_each_size,
	    a_cut_number_reads_as_nothing,
	    reads_views,
	    an_empty_input_may_be_null,
	    no_length_overflows,
	    the_first_read_error_stays,
	    writes_what_fits_and_nothing_behind_it,
	    the_first_write_error_stays,
	    writes_decimals,
	    bytes_are_written_in_hexadecimal,
	    the_nul_needs_room_but_does_not_count,
	    joins_texts,
	    strangers_are_quoted_plainly,
	    a_failure_has_its_reason,
	    NULL,
	};

	return suite_of("cursor", tests);
}
