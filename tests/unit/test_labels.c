#include "sandbox/labels.h"

#include "fault.h"
#include "suite.h"

#include <errno.h>

#define LABEL(k, v)                                                                                \
	{                                                                                          \
		SPAN_LIT(k), SPAN_LIT(v)                                                           \
	}

static const struct label three[] = {LABEL("a", "1"), LABEL("b", ""), LABEL("", "x")};

START_TEST(a_copy_is_its_own)
{
	char key[] = "key", value[] = "value";
	const struct label one = {span_str(key), span_str(value)};
	struct labels copy;

	ck_assert_int_eq(labels_copy(&copy, (struct labels){&one, 1}), 0);
	key[0] = value[0] = 'X';
	ck_assert_uint_eq(copy.n, 1);
	ck_assert(span_eq_str(copy.items[0].key, "key"));
	ck_assert(span_eq_str(copy.items[0].value, "value"));
	labels_done(&copy);
	ck_assert_uint_eq(copy.n, 0);
	labels_done(&copy);
}
END_TEST

START_TEST(a_copy_keeps_order_and_empty_texts)
{
	struct labels copy;

	ck_assert_int_eq(labels_copy(&copy, (struct labels){three, 3}), 0);
	ck_assert_uint_eq(copy.n, 3);
	for (size_t i = 0; i < 3; i++) {
		ck_assert(span_eq(copy.items[i].key, three[i].key));
		ck_assert(span_eq(copy.items[i].value, three[i].value));
	}
	labels_done(&copy);
	ck_assert_int_eq(labels_copy(&copy, (struct labels){NULL, 0}), 0);
	ck_assert_uint_eq(copy.n, 0);
	ck_assert_ptr_null(copy.items);
}
END_TEST

START_TEST(limits_are_kept)
{
	static struct label many[LABELS_MAX + 1];
	static uint8_t text[LABELS_BYTES + 1];
	struct label large[] = {{span_of(text, LABELS_BYTES - 1), span_of(text, 1)},
	    {span_of(text, 1), span_of(NULL, 0)}};
	const struct label huge = {span_of(text, 0), span_of(text, SIZE_MAX)};
	struct labels copy = {three, 3};

	ck_assert_int_eq(labels_copy(&copy, (struct labels){many, LABELS_MAX + 1}), -E2BIG);
	ck_assert_int_eq(labels_copy(&copy, (struct labels){large, 2}), -E2BIG);
	ck_assert_int_eq(labels_copy(&copy, (struct labels){&huge, 1}), -E2BIG);
	ck_assert_ptr_eq(copy.items, three);
	ck_assert_int_eq(labels_copy(&copy, (struct labels){large, 1}), 0);
	labels_done(&copy);
	ck_assert_int_eq(labels_copy(&copy, (struct labels){many, LABELS_MAX}), 0);
	labels_done(&copy);
}
END_TEST

START_TEST(all_that_is_wanted_has_to_be_there)
{
	static const struct label one[] = {LABEL("b", "")}, other[] = {LABEL("b", "2")},
				  two[] = {LABEL("", "x"), LABEL("a", "1")},
				  foreign[] = {LABEL("a", "1"), LABEL("c", "")};
	const struct labels have = {three, 3}, none = {NULL, 0};

	ck_assert(labels_match(have, none));
	ck_assert(labels_match(none, none));
	ck_assert(labels_match(have, have));
	ck_assert(labels_match(have, (struct labels){one, 1}));
	ck_assert(labels_match(have, (struct labels){two, 2}));
	ck_assert(!labels_match(have, (struct labels){other, 1}));
	ck_assert(!labels_match(have, (struct labels){foreign, 2}));
	ck_assert(!labels_match(none, (struct labels){one, 1}));
}
END_TEST

START_TEST(without_memory_there_is_no_copy)
{
	struct labels copy = {three, 3};
	int rc = 0;

	FAULT_EACH("malloc", ENOMEM)
	{
		copy = (struct labels){three, 3};
		rc = labels_copy(&copy, (struct labels){three, 2});
		ck_assert(rc == 0 || (rc == -ENOMEM && copy.items == three));
		if (rc == 0)
			labels_done(&copy);
	}
	ck_assert_int_eq(rc, 0);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    a_copy_is_its_own,
	    a_copy_keeps_order_and_empty_texts,
	    limits_are_kept,
	    all_that_is_wanted_has_to_be_there,
	    without_memory_there_is_no_copy,
	    NULL,
	};

	return suite_of("labels", tests);
}
