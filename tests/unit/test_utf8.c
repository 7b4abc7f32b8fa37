#include "base/utf8.h"
#include "cases.h"
#include "suite.h"

static bool valid_at_page_end(struct span text)
{
	struct guard g = guard_copy(text);
	bool valid = utf8_valid(g.s);

	guard_free(&g);
	return valid;
}

START_TEST(every_code_point_round_trips)
{
	for (uint32_t cp = 0; cp <= 0x110010; cp++) {
		uint8_t buf[UTF8_MAX] = {0xaa, 0xaa, 0xaa, 0xaa};
		size_t n = utf8_put(cp, buf);
		uint32_t back = 0;

		if ((cp >= 0xd800 && cp <= 0xdfff) || cp > 0x10ffff) {
			ck_assert_uint_eq(n, 0);
			ck_assert_uint_eq(buf[0], 0xaa);
			continue;
		}
		if (n == 0 || utf8_get(span_of(buf, n), &back) != n || back != cp ||
		    !utf8_valid(span_of(buf, n)) || utf8_get(span_of(buf, n - 1), &back) != 0)
			ck_abort_msg("U+%04X", (unsigned)cp);
	}
	ck_assert_uint_eq(utf8_put(UINT32_MAX, (uint8_t[UTF8_MAX]){0}), 0);
}
END_TEST

/* Every text of three bytes with a lead byte is right exactly when it is what utf8_put() makes. */
START_TEST(short_texts_are_judged_by_the_encoder)
{
	for (uint32_t v = 0x800000; v <= 0xffffff; v++) {
		const uint8_t text[] = {(uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
		uint8_t again[UTF8_MAX];
		uint32_t cp;
		size_t n = utf8_get(span_of(text, sizeof text), &cp);

		if (n && (utf8_put(cp, again) != n || memcmp(text, again, n) != 0))
			ck_abort_msg("%06x", (unsigned)v);
	}
}
END_TEST

START_TEST(refused)
{
	static const char *const texts[] = {
	    "80",          /* a continuation alone */
	    "bf",          /* likewise */
	    "c2",          /* cut */
	    "c2 41",       /* lead without continuation */
	    "c0 80",       /* overlong NUL */
	    "c1 bf",       /* overlong DEL */
	    "e0 80 80",    /* overlong */
	    "e0 9f bf",    /* overlong U+07FF */
	    "ed a0 80",    /* U+D800 */
	    "ed bf bf",    /* U+DFFF */
	    "e2 82",       /* cut */
	    "e2 82 41",    /* broken off */
	    "f0 80 80 80", /* overlong */
	    "f0 8f bf bf", /* overlong U+FFFF */
	    "f4 90 80 80", /* U+110000 */
	    "f5 80 80 80", /* above */
	    "f8 88 80 80 80",
	    "fe",
	    "ff",
	    "41 42 43 44 45 46 47 48 ff",
	    "41 42 43 44 45 46 47 ff 48",
	    "41 42 43 44 45 46 47 48 49 c2",
	};

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		ck_assert_msg(!valid_at_page_end(unhex(texts[i])), "%s", texts[i]);
}
END_TEST

START_TEST(accepted)
{
	static const char *const texts[] = {
	    "",
	    "plain",
	    "exactly8",
	    "more than eight bytes of ASCII",
	    "gr\xc3\xbc\xc3\x9f",
	    "eight ASCII, then \xe2\x82\xac and \xf0\x9f\x90\xb3 and more",
	    "\xf4\x8f\xbf\xbf",
	    "\xed\x9f\xbf\xee\x80\x80",
	};

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		ck_assert_msg(valid_at_page_end(span_str(texts[i])), "%s", texts[i]);
	ck_assert(utf8_valid(span_of(NULL, 0)));
	ck_assert(utf8_valid(span_of("a\0b", 3)));
}
END_TEST

static void cut_inside_a_character(struct span cut, void *ctx)
{
	(void)ctx;
	ck_assert_int_eq(utf8_valid(cut), cut.n % 3 == 0);
}

START_TEST(cut)
{
	each_cut(span_str("\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac"),
	    cut_inside_a_character, NULL);
}
END_TEST

START_TEST(first_cuts_between_characters)
{
	static const struct span text = SPAN_LIT("a\xe2\x82\xac\xf0\x9f\x90\xb3z");
	static const size_t bytes[] = {0, 1, 1, 1, 4, 4, 4, 4, 8, 9, 9};

	for (size_t n = 0; n < sizeof bytes / sizeof *bytes; n++)
		ck_assert_uint_eq(utf8_first(text, n).n, bytes[n]);
	ck_assert_uint_eq(utf8_first(span_of(NULL, 0), 0).n, 0);
	ck_assert_uint_eq(utf8_first(span_str("\x80\x80"), 1).n, 0); /* no UTF-8: no overrun */
}
END_TEST

START_TEST(get_leaves_the_output_alone)
{
	uint32_t cp = 7;

	ck_assert_uint_eq(utf8_get(span_of(NULL, 0), &cp), 0);
	ck_assert_uint_eq(utf8_get(span_str("\xed\xa0\x80"), &cp), 0);
	ck_assert_uint_eq(cp, 7);
	ck_assert_uint_eq(utf8_get(span_str("ab"), &cp), 1);
	ck_assert_uint_eq(cp, 'a');
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {every_code_point_round_trips,
	    short_texts_are_judged_by_the_encoder, refused, accepted, cut,
	    first_cuts_between_characters, get_leaves_the_output_alone, NULL};

	return suite_of("utf8", tests);
}
