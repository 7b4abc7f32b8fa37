#include "cases.h"
#include "codec/hosts.h"
#include "suite.h"

#include <stdio.h>

/* Writes an entry as "line address name name…" or "line! problem". */
static void entry_text(const struct hosts_entry *e, char *buf, size_t cap)
{
	struct span names = e->names, name;
	char ip[IP_TEXT_BYTES];
	int n;

	if (e->problem) {
		snprintf(buf, cap, "%u! %s", e->line, e->problem);
		return;
	}
	ip_format(&e->ip, ip);
	n = snprintf(buf, cap, "%u %s", e->line, ip);
	while (hosts_name_next(&names, &name))
		n += snprintf(buf + n, cap - (size_t)n, " %.*s", (int)name.n, (const char *)name.p);
}

static void expect(struct span file, const char *const *lines)
{
	struct guard g = guard_copy(file);
	struct hosts_reader r = hosts_reader_of(g.s);
	struct hosts_entry e;
	char text[256];

	for (; *lines; lines++) {
		ck_assert_msg(hosts_next(&r, &e), "no entry for \"%s\"", *lines);
		entry_text(&e, text, sizeof text);
		ck_assert_str_eq(text, *lines);
	}
	ck_assert(!hosts_next(&r, &e));
	ck_assert(!hosts_next(&r, &e));
	guard_free(&g);
}
#define EXPECT(file, ...) expect(span_str(file), (const char *const[]){__VA_ARGS__, NULL})

START_TEST(entries)
{
	EXPECT("127.0.0.1 localhost\n", "1 127.0.0.1 localhost");
	EXPECT("127.0.0.1 localhost", "1 127.0.0.1 localhost");
	EXPECT("\n\n::1\tlocalhost  ip6-localhost\tlo6\n", "3 ::1 localhost ip6-localhost lo6");
	EXPECT("  10.0.0.1 \t a\t\n10.0.0.2 b ", "1 10.0.0.1 a", "2 10.0.0.2 b");
	EXPECT("1.2.3.4 a\r\n\r\n5.6.7.8 b c\r\n", "1 1.2.3.4 a", "3 5.6.7.8 b c");
	EXPECT("1.2.3.4 Web.Local caf\xc3\xa9", "1 1.2.3.4 Web.Local caf\xc3\xa9");
}
END_TEST

START_TEST(comments)
{
	EXPECT("# 1.2.3.4 a\n  # b\n1.2.3.4 c # d\n1.2.3.5 e#f\n", "3 1.2.3.4 c", "4 1.2.3.5 e");
	EXPECT("#\n#\r\n# bad \x01 bytes are nobody's concern\n::1 a", "4 ::1 a");
	EXPECT("1.2.3.4 # no name", "1! no name behind the address");
}
END_TEST

START_TEST(problems)
{
	EXPECT("1.2.3.4\n1.2.3.4 a", "1! no name behind the address", "2 1.2.3.4 a");
	EXPECT("1.2.3 a\nlocalhost\nfe80::1%lo0 b\n::1 c", "1! not an IP address",
	    "2! not an IP address", "3! not an IP address", "4 ::1 c");
	EXPECT("1.2.3.4 a\x7f\n1.2.3.4 a\r b\n", "1! a control byte in the line",
	    "2! a control byte in the line");
	expect(span_of("1.2.3.4 a\0b\n", 12),
	    (const char *const[]){"1! a control byte in the line", NULL});
}
END_TEST

START_TEST(nothing)
{
	static const char *const files[] = {"", "\n", "\n\n", " \t\r\n", "#", "# x", "\r"};

	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		expect(span_str(files[i]), (const char *const[]){NULL});
	expect(span_of(NULL, 0), (const char *const[]){NULL});
}
END_TEST

START_TEST(long_lines)
{
	static char file[HOSTS_LINE_BYTES + 64];
	struct hosts_reader r;
	struct hosts_entry e;

	memset(file, 'a', sizeof file);
	memcpy(file, "1.2.3.4 ", 8);
	memcpy(file + HOSTS_LINE_BYTES, "\n::1 b", 7);
	r = hosts_reader_of(span_str(file));
	ck_assert(hosts_next(&r, &e));
	ck_assert_ptr_null(e.problem);
	ck_assert_uint_eq(e.names.n, HOSTS_LINE_BYTES - 8);
	ck_assert(hosts_next(&r, &e));
	ck_assert_ptr_null(e.problem);

	memcpy(file + HOSTS_LINE_BYTES, "a\n::1 b", 8);
	expect(span_str(file), (const char *const[]){"1! the line is too long", "2 ::1 b", NULL});
}
END_TEST

START_TEST(untouched_at_the_end)
{
	struct hosts_reader r = hosts_reader_of(span_str("# only this"));
	struct hosts_entry e = {.line = 7};
	struct span names = span_str(" \t"), name = span_str("before");

	ck_assert(!hosts_next(&r, &e));
	ck_assert_uint_eq(e.line, 7);
	ck_assert(!hosts_name_next(&names, &name));
	ck_assert(span_eq_str(name, "before"));
}
END_TEST

static void read_all(struct span file, void *ctx)
{
	struct hosts_reader r = hosts_reader_of(file);
	struct hosts_entry e;
	unsigned last = 0;

	(void)ctx;
	while (hosts_next(&r, &e)) {
		struct span name;

		ck_assert_uint_gt(e.line, last);
		last = e.line;
		if (!e.problem)
			ck_assert(hosts_name_next(&e.names, &name) && name.n > 0);
	}
}

START_TEST(any_bytes)
{
	static const char file[] =
	    "127.0.0.1\tlocalhost a\r\n# c\n\n::1 lo6 b # d\nbad\n10.0.0.1 x";

	each_cut(span_str(file), read_all, NULL);
	each_mutation(span_str(file), read_all, NULL);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {entries, comments, problems, nothing, long_lines,
	    untouched_at_the_end, any_bytes, NULL};

	return suite_of("hosts", tests);
}
