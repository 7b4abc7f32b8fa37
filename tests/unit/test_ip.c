#include "base/ip.h"
#include "cases.h"
#include "suite.h"

static struct ip ip_of(const char *text)
{
	struct ip ip;

	ck_assert_msg(ip_parse(span_str(text), &ip) == E_OK, "\"%s\"", text);
	return ip;
}

START_TEST(reads_and_writes)
{
	static const struct {
		const char *text, *canonical;
		uint8_t family;
	} rows[] = {
	    {"0.0.0.0", "0.0.0.0", 4},
	    {"255.255.255.255", "255.255.255.255", 4},
	    {"10.0.2.1", "10.0.2.1", 4},
	    {"::", "::", 6},
	    {"::1", "::1", 6},
	    {"1::", "1::", 6},
	    {"fe80::1", "fe80::1", 6},
	    {"FE80::ABCD", "fe80::abcd", 6},
	    {"2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1", 6},
	    {"2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1", 6},
	    {"2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1", 6},
	    {"2001:0:0:1:0:0:0:1", "2001:0:0:1::1", 6},
	    {"2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1", 6},
	    {"1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0", 6},
	    {"::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8", 6},
	    {"0:0:3:4:5:6:0:0", "::3:4:5:6:0:0", 6},
	    {"1:2:3:4:5:6:0:0", "1:2:3:4:5:6::", 6},
	    {"::ffff:192.0.2.1", "::ffff:192.0.2.1", 6},
	    {"::ffff:c000:201", "::ffff:192.0.2.1", 6},
	    {"64:ff9b::192.0.2.33", "64:ff9b::c000:221", 6},
	    {"1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304", 6},
	    {"::1.2.3.4", "::102:304", 6},
	    {"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255",
		"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 6},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct guard g = guard_copy(span_str(rows[i].text));
		char text[IP_TEXT_BYTES];
		struct ip ip, again;

		ck_assert_msg(ip_parse(g.s, &ip) == E_OK, "\"%s\"", rows[i].text);
		ck_assert_uint_eq(ip.family, rows[i].family);
		ck_assert_uint_eq(ip_format(&ip, text), strlen(rows[i].canonical));
		ck_assert_str_eq(text, rows[i].canonical);
		again = ip_of(text);
		ck_assert(ip_eq(&ip, &again));
		guard_free(&g);
	}
}
END_TEST

START_TEST(refuses)
{
	static const char *const texts[] = {"", " ", ".", ":", ":::", "1", "1.2.3", "1.2.3.4.",
	    ".1.2.3.4", "1..2.3", "1.2.3.4.5", "1.2.3.256", "1.2.3.1000", "01.2.3.4", "1.2.3.00",
	    "0x1.2.3.4", "1.2.3.-4", "1.2.3.+4", " 1.2.3.4", "1.2.3.4 ", "1.2.3.4/8", "1.2.3.a",
	    "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8:", ":1:2:3:4:5:6:7:8",
	    "1:2:3:4:5:6:7:8::", "::1:2:3:4:5:6:7:8", "1:2:3:4::5:6:7:8", "1::2::3", "1:::2",
	    ":1::", "::1:", "12345::", "00000::", "g::", "::-1", "fe80::1%eth0", "fe80::1/64",
	    "[::1]", "::1.2.3", "::1.2.3.4:5", "1.2.3.4::", "1:2:3:4:5:6:7:1.2.3.4", "::01.2.3.4",
	    "1:2:3:4:5:1.2.3.4", "::1.2.3.4.5"};

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct guard g = guard_copy(span_str(texts[i]));
		struct ip ip = ip_v4(9, 9, 9, 9);

		ck_assert_msg(ip_parse(g.s, &ip) == E_MALFORMED, "\"%s\"", texts[i]);
		ck_assert(ip.family == 4 && ip.b[0] == 9 && ip.b[3] == 9);
		guard_free(&g);
	}
	ck_assert_int_eq(ip_parse(span_of(NULL, 0), &(struct ip){0}), E_MALFORMED);
	ck_assert_int_eq(ip_parse(span_of("1.2.3.4\0", 8), &(struct ip){0}), E_MALFORMED);
}
END_TEST

static void parse_only(struct span text, void *ctx)
{
	struct ip ip = {0};

	(void)ctx;
	if (ip_parse(text, &ip) == E_OK)
		ck_assert(ip.family == 4 || ip.family == 6);
	else
		ck_assert_uint_eq(ip.family, 0);
}

START_TEST(any_bytes)
{
	each_cut(span_str("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"), parse_only, NULL);
	each_mutation(span_str("2001:db8::192.168.100.200"), parse_only, NULL);
	each_mutation(span_str("192.168.100.200"), parse_only, NULL);
}
END_TEST

START_TEST(kinds)
{
	static const struct {
		const char *text;
		bool loopback, link_local, unspecified;
	} rows[] = {
	    {"127.0.0.1", true, false, false},
	    {"127.255.255.255", true, false, false},
	    {"128.0.0.1", false, false, false},
	    {"::1", true, false, false},
	    {"::2", false, false, false},
	    {"1::1", false, false, false},
	    {"169.254.0.1", false, true, false},
	    {"169.253.0.1", false, false, false},
	    {"fe80::1", false, true, false},
	    {"febf:ffff::", false, true, false},
	    {"fec0::1", false, false, false},
	    {"0.0.0.0", false, false, true},
	    {"0.0.0.1", false, false, false},
	    {"::", false, false, true},
	    {"::ffff:0.0.0.0", false, false, false},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct ip ip = ip_of(rows[i].text);

		ck_assert_msg(ip_is_loopback(&ip) == rows[i].loopback, "%s", rows[i].text);
		ck_assert_msg(ip_is_link_local(&ip) == rows[i].link_local, "%s", rows[i].text);
		ck_assert_msg(ip_is_unspecified(&ip) == rows[i].unspecified, "%s", rows[i].text);
	}
}
END_TEST

START_TEST(equality)
{
	struct ip v4 = ip_v4(127, 0, 0, 1), same = ip_of("127.0.0.1");
	struct ip other = ip_of("127.0.0.2"), mapped = ip_of("::ffff:127.0.0.1");

	ck_assert(ip_eq(&v4, &same));
	ck_assert(!ip_eq(&v4, &other));
	ck_assert(!ip_eq(&v4, &mapped));
	same.b[15] = 1; /* means nothing in a 4 */
	ck_assert(ip_eq(&v4, &same));
	ck_assert_uint_eq(ip_bytes(&v4).n, 4);
	ck_assert_uint_eq(ip_bytes(&mapped).n, 16);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {reads_and_writes, refuses, any_bytes, kinds, equality, NULL};

	return suite_of("ip", tests);
}
