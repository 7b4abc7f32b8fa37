#include "base/hostname.h"
#include "suite.h"

static const char long_label[] = "a123456789a123456789a123456789a123456789a123456789a123456789a123";

START_TEST(names_of_machines)
{
	static const char *const legal[] = {
	    "a", "arcbox", "a-b", "A1", "1a", "web.my-project.local", "x--y", &long_label[1]};
	static const char *const illegal[] = {"", ".", "a.", ".a", "a..b", "-a", "a-", "a.-b",
	    "a b", "a_b", "a\n", "a/b", "\xc3\xa4", long_label};

	for (size_t i = 0; i < sizeof legal / sizeof *legal; i++)
		ck_assert_msg(hostname_is_legal(span_str(legal[i])), "%s", legal[i]);
	for (size_t i = 0; i < sizeof illegal / sizeof *illegal; i++)
		ck_assert_msg(!hostname_is_legal(span_str(illegal[i])), "%s", illegal[i]);
	ck_assert(!hostname_is_legal(span_of("a\0b", 3)));
	ck_assert(!hostname_is_legal(span_of(NULL, 0)));
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {names_of_machines, NULL};

	return suite_of("hostname", tests);
}
