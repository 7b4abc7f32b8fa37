#include "base/span.h"

#include "suite.h"

static const struct span none = {NULL, 0};

static struct span lit(const char *s)
{
	return span_str(s);
}

#define ck_span(s, text)                                                                           \
	ck_assert_msg(span_eq_str((s), (text)), "%.*s", (int)(s).n, (const char *)(s).p)

START_TEST(makes_views)
{
	static const struct span table[] = {SPAN_LIT("ab"), SPAN_LIT(""), SPAN_LIT("a\0b")};

	ck_span(table[0], "ab");
	ck_assert_uint_eq(table[1].n, 0);
	ck_assert_uint_eq(table[2].n, 3);
	ck_assert_uint_eq(span_of("abc", 2).n, 2);
}
END_TEST

START_TEST(cuts)
{
	struct span s = lit("hello");

	ck_span(span_from(s, 0), "hello");
	ck_span(span_from(s, 3), "lo");
	ck_span(span_from(s, 5), "");
	ck_assert_ptr_eq(span_from(s, 5).p, s.p + 5);
	ck_span(span_from(s, SIZE_MAX), "");
	ck_assert_ptr_null(span_from(none, 3).p);
	ck_span(span_first(s, 0), "");
	ck_span(span_first(s, 2), "he");
	ck_span(span_first(s, SIZE_MAX), "hello");
	ck_assert_uint_eq(span_first(none, 4).n, 0);
}
END_TEST

START_TEST(compares)
{
	ck_assert(span_eq(none, lit("")));
	ck_assert(span_eq(lit("abc"), lit("abc")));
	ck_assert(!span_eq(lit("abc"), lit("abd")));
	ck_assert(!span_eq(lit("abc"), lit("ab")));
	ck_assert(span_eq_str(lit("abc"), "abc"));
	ck_assert(!span_eq_str(span_of("a\0b", 3), "a"));
}
END_TEST

START_TEST(folds_ascii_letters_only)
{
	ck_assert(span_eq_nocase(lit("Docker.INTERNAL"), lit("docker.internal")));
	ck_assert(!span_eq_nocase(lit("docker"), lit("dockes")));
	ck_assert(!span_eq_nocase(lit("docker"), lit("docke")));
	ck_assert(span_eq_nocase(none, lit("")));
	/* neighbours of the letters, 32 apart, and letters beyond ASCII */
	ck_assert(!span_eq_nocase(lit("@["), lit("`{")));
	ck_assert(!span_eq_nocase(lit("\xc3\x84"), lit("\xc3\xa4")));
	for (unsigned c = 0; c < 256; c++) {
		bool upper = c >= 'A' && c <= 'Z';

		ck_assert_uint_eq(ascii_lower((uint8_t)c), upper ? c + 32 : c);
		ck_assert(ascii_digit((uint8_t)c) == (c >= '0' && c <= '9'));
	}
}
END_TEST

START_TEST(looks_at_the_ends)
{
	ck_assert(span_starts(lit("/var/run"), lit("/var")));
	ck_assert(span_starts(lit("/var"), lit("/var")));
	ck_assert(span_starts(lit("/var"), none));
	ck_assert(!span_starts(lit("/va"), lit("/var")));
	ck_assert(!span_starts(lit("/vax/"), lit("/var")));
	ck_assert(span_ends(lit("a.local"), lit(".local")));
	ck_assert(span_ends(lit(".local"), lit(".local")));
	ck_assert(span_ends(lit("a"), none));
	ck_assert(span_ends(none, none));
	ck_assert(!span_ends(lit("local"), lit(".local")));
	ck_assert(!span_ends(lit("a.locaL"), lit(".local")));
}
END_TEST

START_TEST(finds)
{
	ck_assert_uint_eq(span_find(lit("a=b=c"), '='), 1);
	ck_assert_uint_eq(span_find(lit("abc"), '='), 3);
	ck_assert_uint_eq(span_find(span_of("a\0", 2), 0), 1);
	ck_assert_uint_eq(span_find(none, 'a'), 0);
}
END_TEST

START_TEST(trims)
{
	ck_span(span_trim(lit(" \ta b\t ")), "a b");
	ck_span(span_trim(lit("a")), "a");
	ck_span(span_trim(lit(" \t ")), "");
	ck_span(span_trim(lit("\n")), "\n");
	ck_assert_uint_eq(span_trim(none).n, 0);
}
END_TEST

START_TEST(splits)
{
	struct span rest = lit("a,,bc,");

	ck_span(span_split(&rest, ','), "a");
	ck_span(span_split(&rest, ','), "");
	ck_span(span_split(&rest, ','), "bc");
	ck_assert_ptr_nonnull(rest.p);
	ck_span(span_split(&rest, ','), "");
	ck_assert_ptr_null(rest.p);
	ck_assert_uint_eq(rest.n, 0);
	ck_assert_uint_eq(span_split(&rest, ',').n, 0);
	rest = lit("whole");
	ck_span(span_split(&rest, ','), "whole");
	ck_assert_ptr_null(rest.p);
}
END_TEST

START_TEST(copies_to_c_strings)
{
	char buf[4] = "xyz";

	ck_assert(span_to_cstr(lit("abc"), buf, sizeof buf));
	ck_assert_str_eq(buf, "abc");
	ck_assert(!span_to_cstr(lit("abcd"), buf, sizeof buf));
	ck_assert_str_eq(buf, "");
	ck_assert(!span_to_cstr(span_of("a\0b", 3), buf, sizeof buf));
	ck_assert_str_eq(buf, "");
	ck_assert(span_to_cstr(none, buf, 1));
	ck_assert_str_eq(buf, "");
	buf[0] = 'k';
	ck_assert(!span_to_cstr(none, buf, 0));
	ck_assert_int_eq(buf[0], 'k');
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    makes_views,
	    cuts,
	    compares,
	    folds_ascii_letters_only,
	    looks_at_the_ends,
	    finds,
	    trims,
	    splits,
	    copies_to_c_strings,
	    NULL,
	};

	return suite_of("span", tests);
}
