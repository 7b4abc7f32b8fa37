#include "base/parse.h"
#include "cases.h"
#include "suite.h"

#define UNTOUCHED 0x5a5a5a5a

struct row {
	const char *text;
	uint64_t min, max;
	enum err err;
	uint64_t value;
};

typedef enum err parse_fn(struct span text, uint64_t min, uint64_t max, uint64_t *out);

static void run(parse_fn *parse, const struct row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct guard g = guard_copy(span_str(rows[i].text));
		uint64_t v = UNTOUCHED;
		enum err err = parse(g.s, rows[i].min, rows[i].max, &v);

		ck_assert_msg(err == rows[i].err, "\"%s\": %s", rows[i].text, err_text((int)err));
		ck_assert_msg(v == (err ? UNTOUCHED : rows[i].value), "\"%s\"", rows[i].text);
		guard_free(&g);
	}
}
#define RUN(parse, rows) run(parse, rows, sizeof rows / sizeof *rows)

START_TEST(unsigned_decimal)
{
	static const struct row rows[] = {
	    {"0", 0, UINT64_MAX, E_OK, 0},
	    {"7", 7, 7, E_OK, 7},
	    {"007", 0, 10, E_OK, 7},
	    {"18446744073709551615", 0, UINT64_MAX, E_OK, UINT64_MAX},
	    {"00000000000000000000000000001", 0, 1, E_OK, 1},
	    {"18446744073709551616", 0, UINT64_MAX, E_RANGE, 0},
	    {"18446744073709551620", 0, UINT64_MAX, E_RANGE, 0},
	    {"99999999999999999999999", 0, UINT64_MAX, E_RANGE, 0},
	    {"6", 7, 9, E_RANGE, 0},
	    {"10", 7, 9, E_RANGE, 0},
	    {"", 0, 9, E_MALFORMED, 0},
	    {"+1", 0, 9, E_MALFORMED, 0},
	    {"-1", 0, 9, E_MALFORMED, 0},
	    {" 1", 0, 9, E_MALFORMED, 0},
	    {"1 ", 0, 9, E_MALFORMED, 0},
	    {"1a", 0, 9, E_MALFORMED, 0},
	    {"0x1", 0, 9, E_MALFORMED, 0},
	    {"1.0", 0, 9, E_MALFORMED, 0},
	    {"99999999999999999999999x", 0, 9, E_MALFORMED, 0},
	};

	RUN(parse_u64, rows);
	ck_assert_int_eq(parse_u64(span_of(NULL, 0), 0, 1, &(uint64_t){0}), E_MALFORMED);
	ck_assert_int_eq(parse_u64(span_of("1\0", 2), 0, 1, &(uint64_t){0}), E_MALFORMED);
}
END_TEST

START_TEST(signed_decimal)
{
	static const struct {
		const char *text;
		int64_t min, max;
		enum err err;
		int64_t value;
	} rows[] = {
	    {"0", -1, 1, E_OK, 0},
	    {"-0", -1, 1, E_OK, 0},
	    {"-1", -1, 1, E_OK, -1},
	    {"42", 0, 42, E_OK, 42},
	    {"9223372036854775807", INT64_MIN, INT64_MAX, E_OK, INT64_MAX},
	    {"-9223372036854775808", INT64_MIN, INT64_MAX, E_OK, INT64_MIN},
	    {"9223372036854775808", INT64_MIN, INT64_MAX, E_RANGE, 0},
	    {"-9223372036854775809", INT64_MIN, INT64_MAX, E_RANGE, 0},
	    {"-99999999999999999999", INT64_MIN, INT64_MAX, E_RANGE, 0},
	    {"-2", -1, 1, E_RANGE, 0},
	    {"2", -1, 1, E_RANGE, 0},
	    {"", -1, 1, E_MALFORMED, 0},
	    {"-", -1, 1, E_MALFORMED, 0},
	    {"--1", -1, 1, E_MALFORMED, 0},
	    {"+1", -1, 1, E_MALFORMED, 0},
	    {"- 1", -1, 1, E_MALFORMED, 0},
	    {"1-", -1, 1, E_MALFORMED, 0},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct guard g = guard_copy(span_str(rows[i].text));
		int64_t v = UNTOUCHED;
		enum err err = parse_i64(g.s, rows[i].min, rows[i].max, &v);

		ck_assert_msg(err == rows[i].err, "\"%s\": %s", rows[i].text, err_text((int)err));
		ck_assert_int_eq(v, err ? UNTOUCHED : rows[i].value);
		guard_free(&g);
	}
}
END_TEST

static enum err hex(struct span text, uint64_t min, uint64_t max, uint64_t *out)
{
	ck_assert_uint_eq(min, 0);
	return parse_hex_u64(text, max, out);
}

START_TEST(hexadecimal)
{
	static const struct row rows[] = {
	    {"0", 0, 0, E_OK, 0},
	    {"9aF", 0, 0xfff, E_OK, 0x9af},
	    {"ffffffffffffffff", 0, UINT64_MAX, E_OK, UINT64_MAX},
	    {"00ffffffffffffffff", 0, UINT64_MAX, E_OK, UINT64_MAX},
	    {"10000000000000000", 0, UINT64_MAX, E_RANGE, 0},
	    {"10", 0, 0xf, E_RANGE, 0},
	    {"", 0, 1, E_MALFORMED, 0},
	    {"g", 0, 99, E_MALFORMED, 0},
	    {"@", 0, 99, E_MALFORMED, 0},
	    {"`", 0, 99, E_MALFORMED, 0},
	    {"/", 0, 99, E_MALFORMED, 0},
	    {":", 0, 99, E_MALFORMED, 0},
	    {"0x1", 0, 99, E_MALFORMED, 0},
	};

	RUN(hex, rows);
}
END_TEST

START_TEST(sizes)
{
	static const struct row rows[] = {
	    {"0", 0, 1, E_OK, 0},
	    {"512", 0, 1024, E_OK, 512},
	    {"64K", 0, 1 << 20, E_OK, 65536},
	    {"64k", 0, 1 << 20, E_OK, 65536},
	    {"16M", 0, 1 << 30, E_OK, 16 << 20},
	    {"2G", 0, UINT64_MAX, E_OK, 2ull << 30},
	    {"1T", 0, UINT64_MAX, E_OK, 1ull << 40},
	    {"16777215T", 0, UINT64_MAX, E_OK, 16777215ull << 40},
	    {"16777216T", 0, UINT64_MAX, E_RANGE, 0},
	    {"18446744073709551616K", 0, UINT64_MAX, E_RANGE, 0},
	    {"1K", 2048, 4096, E_RANGE, 0},
	    {"5K", 2048, 4096, E_RANGE, 0},
	    {"", 0, 9, E_MALFORMED, 0},
	    {"K", 0, 9, E_MALFORMED, 0},
	    {"-1K", 0, 9, E_MALFORMED, 0},
	    {"1KB", 0, 9999, E_MALFORMED, 0},
	    {"1 K", 0, 9999, E_MALFORMED, 0},
	    {"1.5M", 0, 9999, E_MALFORMED, 0},
	    {"1X", 0, 9999, E_MALFORMED, 0},
	};

	RUN(parse_size, rows);
}
END_TEST

START_TEST(durations)
{
	static const struct row rows[] = {
	    {"0s", 0, 1, E_OK, 0},
	    {"500ms", 0, 1000, E_OK, 500},
	    {"5s", 0, 10000, E_OK, 5000},
	    {"2m", 0, UINT64_MAX, E_OK, 120000},
	    {"1h", 0, UINT64_MAX, E_OK, 3600000},
	    {"18446744073709551615ms", 0, UINT64_MAX, E_OK, UINT64_MAX},
	    {"18446744073709551615s", 0, UINT64_MAX, E_RANGE, 0},
	    {"1s", 0, 999, E_RANGE, 0},
	    {"1ms", 2, 999, E_RANGE, 0},
	    {"5", 0, 9, E_MALFORMED, 0},
	    {"", 0, 9, E_MALFORMED, 0},
	    {"s", 0, 9, E_MALFORMED, 0},
	    {"1m30s", 0, 9, E_MALFORMED, 0},
	    {"-1s", 0, 9, E_MALFORMED, 0},
	    {"1d", 0, 9, E_MALFORMED, 0},
	};

	RUN(parse_duration_ms, rows);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    unsigned_decimal, signed_decimal, hexadecimal, sizes, durations, NULL};

	return suite_of("parse", tests);
}
