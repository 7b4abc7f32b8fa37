#include "codec/frame.h"

#include "cases.h"
#include "codec/messages.h"
#include "suite.h"

#define LIMIT (16u << 20)

static const struct frame untouched = {0xdead, {NULL, 7}, {NULL, 9}};

static void assert_text(struct span s, const char *text)
{
	ck_assert_uint_eq(s.n, strlen(text));
	ck_assert(span_eq_str(s, text));
}

static void assert_untouched(const struct frame *f)
{
	ck_assert_uint_eq(f->type, untouched.type);
	ck_assert_uint_eq(f->trace.n, untouched.trace.n);
	ck_assert_uint_eq(f->payload.n, untouched.payload.n);
}

/* Reads the one frame that `in` has to be. */
static struct frame read_whole(struct span in)
{
	struct frame f;
	size_t used = 0;

	ck_assert_int_eq(frame_read(in, LIMIT, &f, &used), E_OK);
	ck_assert_uint_eq(used, in.n);
	ck_assert_uint_eq(frame_need(in), in.n);
	return f;
}

/* Reads bytes that have to be refused with `want`; the outputs stay as they are. */
static void refuse(struct span in, uint32_t limit_bytes, enum err want)
{
	struct frame f = untouched;
	size_t used = 11;

	ck_assert_int_eq(frame_read(in, limit_bytes, &f, &used), want);
	assert_untouched(&f);
	ck_assert_uint_eq(used, 11);
}

START_TEST(read_one)
{
	struct frame f = read_whole(unhex("0000000b 00000001 0003 612d62 0a00"));

	ck_assert_uint_eq(f.type, RPC_PING_REQUEST);
	assert_text(f.trace, "a-b");
	ck_assert(span_eq(f.payload, span_of("\x0a\x00", 2)));
}
END_TEST

START_TEST(without_trace_and_payload)
{
	struct frame f = read_whole(unhex("00000006 00000002 0000"));

	ck_assert_uint_eq(f.type, RPC_GET_SYSTEM_INFO_REQUEST);
	ck_assert_uint_eq(f.trace.n, 0);
	ck_assert_uint_eq(f.payload.n, 0);
}
END_TEST

START_TEST(without_trace_field)
{
	struct frame f = read_whole(unhex("00000004 00001021"));

	ck_assert_uint_eq(f.type, RPC_SANDBOX_STOP_RESPONSE);
	ck_assert_uint_eq(f.trace.n, 0);
	ck_assert_uint_eq(f.payload.n, 0);

	f = read_whole(unhex("00000005 00000033 78"));
	ck_assert_uint_eq(f.type, RPC_SANDBOX_EXEC_INPUT);
	ck_assert_uint_eq(f.trace.n, 0);
	assert_text(f.payload, "x");
}
END_TEST

START_TEST(trace_of_opaque_bytes)
{
	struct frame f = read_whole(unhex("00000009 ffffffff 0003 ff00fe"));

	ck_assert_uint_eq(f.type, 0xffffffff);
	ck_assert(span_eq(f.trace, span_of("\xff\x00\xfe", 3)));
	ck_assert_uint_eq(f.payload.n, 0);
}
END_TEST

static void cut_is_more(struct span cut, void *whole_bytes)
{
	size_t whole = *(size_t *)whole_bytes;
	struct frame f;
	size_t used;

	ck_assert_uint_eq(frame_need(cut), cut.n < 4 ? 0 : whole);
	if (cut.n < whole)
		refuse(cut, LIMIT, E_MORE);
	else
		ck_assert_int_eq(frame_read(cut, LIMIT, &f, &used), E_OK);
}

START_TEST(cut_at_each_length)
{
	static const char *const frames[] = {
	    "0000000b 00000001 0003 612d62 0a00",
	    "00000006 00000002 0000",
	    "00000005 00000033 78",
	    "00000004 00001021",
	};

	for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) {
		struct span whole = unhex(frames[i]);

		each_cut(whole, cut_is_more, &whole.n);
	}
}
END_TEST

START_TEST(pipelined)
{
	struct span in = unhex("00000006 00000001 0000 00000007 00000002 0000 61 0000");
	struct frame f;
	size_t used;

	ck_assert_int_eq(frame_read(in, LIMIT, &f, &used), E_OK);
	ck_assert_uint_eq(used, 10);
	ck_assert_uint_eq(f.type, RPC_PING_REQUEST);
	in = span_from(in, used);
	ck_assert_int_eq(frame_read(in, LIMIT, &f, &used), E_OK);
	ck_assert_uint_eq(used, 11);
	assert_text(f.payload, "a");
	refuse(span_from(in, used), LIMIT, E_MORE);
}
END_TEST

/* Errors are seen with the first byte that shows them. */
START_TEST(malformed_early)
{
	for (uint8_t length = 0; length < 4; length++) {
		const uint8_t head[] = {0, 0, 0, length};

		refuse(span_of(head, sizeof head), LIMIT, E_MALFORMED);
		refuse(span_of(head, 3), LIMIT, E_MORE);
	}
	refuse(unhex("00000006 00000001 0001"), LIMIT, E_MALFORMED);
	refuse(unhex("00000006 00000001 00"), LIMIT, E_MORE);
	refuse(unhex("00000009 00000001 0004 616263"), LIMIT, E_MALFORMED);
	refuse(unhex("0000ffff 00000001 fffa"), LIMIT, E_MALFORMED);
	refuse(unhex("0000ffff 00000001 fff9"), LIMIT, E_MORE);
}
END_TEST

START_TEST(limit_early)
{
	struct frame f;
	size_t used;

	refuse(unhex("01000001"), LIMIT, E_LIMIT);
	refuse(unhex("01000000"), LIMIT, E_MORE);
	refuse(unhex("ffffffff"), LIMIT, E_LIMIT);
	refuse(unhex("ffffffff"), UINT32_MAX, E_MORE);
	ck_assert_uint_eq(frame_need(unhex("ffffffff")), (size_t)UINT32_MAX + 4);
	refuse(unhex("00000006 00000001 0000"), 5, E_LIMIT);
	ck_assert_int_eq(frame_read(unhex("00000006 00000001 0000"), 6, &f, &used), E_OK);
}
END_TEST

START_TEST(head_says_what_is_to_come)
{
	struct frame_head h;

	ck_assert_int_eq(frame_head_read(unhex("00000010 000000aa 0003"), LIMIT, &h), E_OK);
	ck_assert_uint_eq(h.type, 0xaa);
	ck_assert_uint_eq(h.head_bytes, FRAME_HEAD_BYTES);
	ck_assert_uint_eq(h.trace_len, 3);
	ck_assert_uint_eq(h.payload_len, 7);

	ck_assert_int_eq(frame_head_read(unhex("00000005 000000aa"), LIMIT, &h), E_OK);
	ck_assert_uint_eq(h.head_bytes, 8);
	ck_assert_uint_eq(h.trace_len, 0);
	ck_assert_uint_eq(h.payload_len, 1);
}
END_TEST

static void mutation_stays_inside(struct span in, void *ctx)
{
	struct frame f = untouched;
	size_t used = 0;
	enum err err = frame_read(in, LIMIT, &f, &used);

	(void)ctx;
	if (err) {
		assert_untouched(&f);
		return;
	}
	ck_assert_uint_le(used, in.n);
	ck_assert_uint_eq(used, frame_need(in));
	ck_assert(f.payload.p + f.payload.n == in.p + used);
}

START_TEST(mutations)
{
	each_mutation(unhex("0000000b 00000001 0003 612d62 0a00"), mutation_stays_inside, NULL);
	each_mutation(unhex("00000005 00000033 78"), mutation_stays_inside, NULL);
}
END_TEST

START_TEST(written)
{
	uint8_t buf[64];
	struct wr w = wr_of(buf, sizeof buf);

	frame_head_write(&w, RPC_PING_RESPONSE, span_str("a-b"), 2);
	wr_str(&w, "\x0a");
	wr_u8(&w, 0);
	ck_assert_int_eq(w.err, E_OK);
	ck_assert(span_eq(wr_span(&w), unhex("0000000b 00001001 0003 612d62 0a00")));
}
END_TEST

START_TEST(longest_trace)
{
	static uint8_t trace[UINT16_MAX + 1], buf[FRAME_HEAD_BYTES + sizeof trace];
	struct wr w = wr_of(buf, sizeof buf);
	struct frame f;

	frame_head_write(&w, 1, span_of(trace, UINT16_MAX), 0);
	ck_assert_int_eq(w.err, E_OK);
	f = read_whole(wr_span(&w));
	ck_assert_uint_eq(f.trace.n, UINT16_MAX);

	w = wr_of(buf, sizeof buf);
	frame_head_write(&w, 1, span_of(trace, sizeof trace), 0);
	ck_assert_int_eq(w.err, E_LIMIT);
	ck_assert_uint_eq(w.n, 0);
}
END_TEST

START_TEST(longest_payload)
{
	uint8_t buf[16];
	struct wr w = wr_of(buf, sizeof buf);

	frame_head_write(&w, 1, span_str("t"), UINT32_MAX - 7);
	ck_assert_int_eq(w.err, E_OK);
	ck_assert(span_eq(wr_span(&w), unhex("ffffffff 00000001 0001 74")));

	w = wr_of(buf, sizeof buf);
	frame_head_write(&w, 1, span_str("t"), UINT32_MAX - 6);
	ck_assert_int_eq(w.err, E_LIMIT);
	w = wr_of(buf, sizeof buf);
	frame_head_write(&w, 1, span_str("t"), SIZE_MAX);
	ck_assert_int_eq(w.err, E_LIMIT);
}
END_TEST

START_TEST(error_written)
{
	static const char hex[] = "00000015 0000ffff 0002 7431 00000194 00000005 676f6e6521";
	uint8_t buf[64];

	for (size_t cap = 0; cap <= 25; cap++) {
		struct wr w = wr_of(buf, cap);

		frame_error_write(&w, span_str("t1"), 404, span_str("gone!"));
		ck_assert_int_eq(w.err, cap < 25 ? E_SPACE : E_OK);
	}
	ck_assert(span_eq(span_of(buf, 25), unhex(hex)));
}
END_TEST

START_TEST(error_read)
{
	int32_t code = 0;
	struct span text;

	ck_assert_int_eq(frame_error_read(unhex("00000194 00000003 6e6f21"), &code, &text), E_OK);
	ck_assert_int_eq(code, 404);
	assert_text(text, "no!");
	ck_assert_int_eq(frame_error_read(unhex("fffffffe 00000000"), &code, &text), E_OK);
	ck_assert_int_eq(code, -2);
	ck_assert_uint_eq(text.n, 0);
	ck_assert_int_eq(
	    frame_error_read(unhex("00000001 00000001 6162"), &code, &text), E_MALFORMED);
	ck_assert_int_eq(
	    frame_error_read(unhex("00000001 ffffffff 6162"), &code, &text), E_MALFORMED);
	ck_assert_int_eq(code, -2);
}
END_TEST

static void cut_error_is_malformed(struct span cut, void *ctx)
{
	int32_t code = 5;
	struct span text = {NULL, 6};

	(void)ctx;
	if (cut.n == 11)
		return;
	ck_assert_int_eq(frame_error_read(cut, &code, &text), E_MALFORMED);
	ck_assert_int_eq(code, 5);
	ck_assert_uint_eq(text.n, 6);
}

START_TEST(error_cut)
{
	each_cut(unhex("00000194 00000003 6e6f21"), cut_error_is_malformed, NULL);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {read_one, without_trace_and_payload, without_trace_field,
	    trace_of_opaque_bytes, cut_at_each_length, pipelined, malformed_early, limit_early,
	    head_says_what_is_to_come, mutations, written, longest_trace, longest_payload,
	    error_written, error_read, error_cut, NULL};

	return suite_of("frame", tests);
}
