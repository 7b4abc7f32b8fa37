#include "codec/vmframe.h"

#include "cases.h"
#include "suite.h"

static const struct vmframe untouched = {0xdd, {NULL, 7}};

static void refuse(struct span in, enum err want)
{
	struct vmframe f = untouched;
	size_t used = 11;

	ck_assert_int_eq(vmframe_read(in, &f, &used), want);
	ck_assert_uint_eq(f.type, untouched.type);
	ck_assert_uint_eq(f.payload.n, untouched.payload.n);
	ck_assert_uint_eq(used, 11);
}

/* Reads the one frame that `in` has to be. */
static struct vmframe read_whole(struct span in)
{
	struct vmframe f;
	size_t used = 0;

	ck_assert_int_eq(vmframe_read(in, &f, &used), E_OK);
	ck_assert_uint_eq(used, in.n);
	ck_assert_uint_eq(vmframe_need(in), in.n);
	return f;
}

START_TEST(read_one)
{
	struct vmframe f = read_whole(unhex("10 03000000 616263"));

	ck_assert_uint_eq(f.type, VMFRAME_STDOUT);
	ck_assert(span_eq_str(f.payload, "abc"));
	f = read_whole(unhex("04 00000000"));
	ck_assert_uint_eq(f.type, VMFRAME_EOF);
	ck_assert_uint_eq(f.payload.n, 0);
	f = read_whole(unhex("ff 01000000 00"));
	ck_assert_uint_eq(f.type, 0xff);
}
END_TEST

static void cut_is_more(struct span cut, void *whole_bytes)
{
	size_t whole = *(size_t *)whole_bytes;

	ck_assert_uint_eq(vmframe_need(cut), cut.n < VMFRAME_HEAD_BYTES ? 0 : whole);
	if (cut.n < whole)
		refuse(cut, E_MORE);
	else
		read_whole(cut);
}

START_TEST(cut_at_each_length)
{
	struct span in = unhex("11 03000000 616263");

	each_cut(in, cut_is_more, &in.n);
}
END_TEST

START_TEST(in_a_row)
{
	struct span in = unhex("01 02000000 7b7d 04 00000000 10");
	struct vmframe f;
	size_t used;

	ck_assert_int_eq(vmframe_read(in, &f, &used), E_OK);
	ck_assert_uint_eq(used, 7);
	ck_assert_uint_eq(f.type, VMFRAME_START);
	in = span_from(in, used);
	ck_assert_int_eq(vmframe_read(in, &f, &used), E_OK);
	ck_assert_uint_eq(used, 5);
	ck_assert_uint_eq(f.type, VMFRAME_EOF);
	refuse(span_from(in, used), E_MORE);
}
END_TEST

START_TEST(limit_as_soon_as_it_shows)
{
	refuse(unhex("10 01000001"), E_LIMIT);
	refuse(unhex("10 ffffffff"), E_LIMIT);
	refuse(unhex("10 00000001"), E_MORE);
	ck_assert_uint_eq(vmframe_need(unhex("10 00000001")), (16 << 20) + 5);
}
END_TEST

START_TEST(written)
{
	uint8_t buf[16];
	struct wr w = wr_of(buf, sizeof buf);

	vmframe_write(&w, VMFRAME_STDIN, span_str("hi"));
	vmframe_write(&w, VMFRAME_EOF, span_of(NULL, 0));
	ck_assert_int_eq(w.err, E_OK);
	ck_assert(span_eq(wr_span(&w), unhex("02 02000000 6869 04 00000000")));

	w = wr_of(buf, sizeof buf);
	vmframe_head_write(&w, VMFRAME_DATA, VMFRAME_PAYLOAD_MAX);
	ck_assert(span_eq(wr_span(&w), unhex("21 00000001")));
	w = wr_of(buf, sizeof buf);
	vmframe_head_write(&w, VMFRAME_DATA, VMFRAME_PAYLOAD_MAX + 1);
	ck_assert_int_eq(w.err, E_LIMIT);
	ck_assert_uint_eq(w.n, 0);
}
END_TEST

START_TEST(written_into_too_little)
{
	uint8_t buf[7];

	for (size_t cap = 0; cap < sizeof buf; cap++) {
		struct wr w = wr_of(buf, cap);

		vmframe_write(&w, VMFRAME_STDIN, span_str("hi"));
		ck_assert_int_eq(w.err, E_SPACE);
	}
}
END_TEST

START_TEST(resize)
{
	uint8_t buf[16];
	struct wr w = wr_of(buf, sizeof buf);
	struct vmframe_size size = {0};

	vmframe_resize_write(&w, (struct vmframe_size){.width = 80, .height = 0x1234});
	ck_assert(span_eq(wr_span(&w), unhex("03 04000000 5000 3412")));
	ck_assert_int_eq(vmframe_resize_read(read_whole(wr_span(&w)).payload, &size), E_OK);
	ck_assert_uint_eq(size.width, 80);
	ck_assert_uint_eq(size.height, 0x1234);
}
END_TEST

START_TEST(exit_code)
{
	uint8_t buf[16];
	struct wr w = wr_of(buf, sizeof buf);
	int32_t code = 0;

	vmframe_exit_write(&w, -1);
	ck_assert(span_eq(wr_span(&w), unhex("12 04000000 ffffffff")));
	ck_assert_int_eq(vmframe_exit_read(read_whole(wr_span(&w)).payload, &code), E_OK);
	ck_assert_int_eq(code, -1);
	ck_assert_int_eq(vmframe_exit_read(unhex("89000000"), &code), E_OK);
	ck_assert_int_eq(code, 137);
}
END_TEST

START_TEST(clock_sync)
{
	uint8_t buf[32];
	struct wr w = wr_of(buf, sizeof buf);
	struct vmframe_clock clock = {0};

	vmframe_clock_write(&w, (struct vmframe_clock){.secs = -2, .nsecs = 999999999});
	ck_assert(span_eq(wr_span(&w), unhex("05 0c000000 feffffffffffffff ffc99a3b")));
	ck_assert_int_eq(vmframe_clock_read(read_whole(wr_span(&w)).payload, &clock), E_OK);
	ck_assert_int_eq(clock.secs, -2);
	ck_assert_uint_eq(clock.nsecs, 999999999);
	ck_assert_int_eq(vmframe_clock_read(unhex("0100000000000000 00ca9a3b"), &clock), E_RANGE);
	ck_assert_int_eq(clock.secs, -2);
}
END_TEST

/* Each of the three takes its own size and no other. */
static void wrong_size_is_malformed(struct span cut, void *ctx)
{
	struct vmframe_size size = {3, 4};
	struct vmframe_clock clock = {5, 6};
	int32_t code = 7;

	(void)ctx;
	if (cut.n != 4) {
		ck_assert_int_eq(vmframe_resize_read(cut, &size), E_MALFORMED);
		ck_assert_int_eq(vmframe_exit_read(cut, &code), E_MALFORMED);
	}
	if (cut.n != 12)
		ck_assert_int_eq(vmframe_clock_read(cut, &clock), E_MALFORMED);
	ck_assert(size.width == 3 && size.height == 4 && code == 7);
	ck_assert(clock.secs == 5 && clock.nsecs == 6);
}

START_TEST(payloads_of_a_wrong_size)
{
	each_cut(unhex("00000000 00000000 00000000 00"), wrong_size_is_malformed, NULL);
}
END_TEST

static void mutation_stays_inside(struct span in, void *ctx)
{
	struct vmframe f;
	size_t used;

	(void)ctx;
	if (vmframe_read(in, &f, &used) != E_OK)
		return;
	ck_assert_uint_le(used, in.n);
	ck_assert(f.payload.p + f.payload.n == in.p + used);
}

START_TEST(mutations)
{
	each_mutation(unhex("10 03000000 616263 04 00000000"), mutation_stays_inside, NULL);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {read_one, cut_at_each_length, in_a_row,
	    limit_as_soon_as_it_shows, written, written_into_too_little, resize, exit_code,
	    clock_sync, payloads_of_a_wrong_size, mutations, NULL};

	return suite_of("vmframe", tests);
}
