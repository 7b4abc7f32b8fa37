#include "runtime/notes.h"

#include "suite.h"

static struct notes notes;

START_TEST(are_joined)
{
	notes_clear(&notes);
	ck_assert_str_eq(notes.text, "");
	notes_add(&notes, "one", span_str(""));
	ck_assert_str_eq(notes.text, "one");
	notes_add(&notes, "two", span_str("why"));
	notes_add(&notes, "three", span_str(""));
	ck_assert_str_eq(notes.text, "one; two: why; three");
	notes_clear(&notes);
	notes_add(&notes, "four", span_str(""));
	ck_assert_str_eq(notes.text, "four");
}
END_TEST

START_TEST(hold_nothing_but_plain_text)
{
	notes_clear(&notes);
	notes_add(&notes, "a\nb", span_of("\0\x1b\x7f\xff~ ", 6));
	ck_assert_str_eq(notes.text, "a?b: ????~ ");
}
END_TEST

START_TEST(are_cut_where_they_do_not_fit)
{
	static char long_text[NOTES_BYTES];

	memset(long_text, 'x', sizeof long_text);
	for (size_t n = NOTES_BYTES - 12; n <= NOTES_BYTES; n++) {
		notes_clear(&notes);
		notes_add(&notes, "a", span_of(long_text, n));
		notes_add(&notes, "b", span_str("c"));
		notes_add(&notes, "d", span_str("e"));
		ck_assert_uint_lt(strlen(notes.text), NOTES_BYTES);
		ck_assert_uint_ge(strlen(notes.text), NOTES_BYTES - 12);
	}
	ck_assert_uint_eq(strlen(notes.text), NOTES_BYTES - 1);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    are_joined, hold_nothing_but_plain_text, are_cut_where_they_do_not_fit, NULL};

	return suite_of("notes", tests);
}
