#include "base/utc.h"
#include "suite.h"

static const char *text_of(uint64_t secs, uint32_t ns)
{
	static char text[64];
	struct wr w = wr_of(text, sizeof text);

	utc_write(&w, secs, ns);
	wr_nul(&w);
	ck_assert_int_eq(w.err, E_OK);
	return text;
}

START_TEST(the_calendar)
{
	static const struct {
		uint64_t secs;
		const char *text;
	} cases[] = {
	    {0, "1970-01-01T00:00:00.000Z"},
	    {951782399, "2000-02-28T23:59:59.000Z"},
	    {951782400, "2000-02-29T00:00:00.000Z"},
	    {951868800, "2000-03-01T00:00:00.000Z"},
	    {1769860800, "2026-01-31T12:00:00.000Z"},
	    {1798761599, "2026-12-31T23:59:59.000Z"},
	    {4107542400, "2100-03-01T00:00:00.000Z"},
	    {253402300799, "9999-12-31T23:59:59.000Z"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		ck_assert_str_eq(text_of(cases[i].secs, 0), cases[i].text);
}
END_TEST

START_TEST(fractions_are_cut)
{
	ck_assert_str_eq(text_of(0, 1999999), "1970-01-01T00:00:00.001Z");
	ck_assert_str_eq(text_of(0, 999999999), "1970-01-01T00:00:00.999Z");
	ck_assert_uint_eq(strlen(text_of(0, 0)), UTC_TEXT_BYTES - 1);
}
END_TEST

START_TEST(what_does_not_fit_sticks)
{
	char text[UTC_TEXT_BYTES - 2];
	struct wr w = wr_of(text, sizeof text);

	utc_write(&w, 0, 0);
	ck_assert_int_eq(w.err, E_SPACE);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    the_calendar,
	    fractions_are_cut,
	    what_does_not_fit_sticks,
	    NULL,
	};

	return suite_of("utc", tests);
}
