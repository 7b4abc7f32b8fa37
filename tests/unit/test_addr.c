#include "sys/addr.h"

#include "cases.h"
#include "suite.h"

#include <stddef.h>

static enum err parse(const char *text, struct addr *out)
{
	struct guard g = guard_copy(span_str(text));
	enum err err = addr_parse(g.s, out);

	guard_free(&g);
	return err;
}

static void check_text(const struct addr *a, const char *text)
{
	char buf[ADDR_TEXT_BYTES];

	ck_assert_str_eq(addr_text(a, buf), text);
}

START_TEST(reads_what_it_writes)
{
	const char *texts[] = {
	    "vsock:1024",
	    "vsock:0",
	    "vsock:2:1024",
	    "vsock:0:4294967294",
	    "unix:/run/arcbox.sock",
	    "unix:relative:with:colons",
	    "tcp:127.0.0.1:6443",
	    "tcp:0.0.0.0:0",
	    "tcp:[::1]:53",
	    "tcp:[2001:db8::1]:65535",
	};

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct addr a, again;

		ck_assert_int_eq(parse(texts[i], &a), E_OK);
		check_text(&a, texts[i]);
		ck_assert_int_eq(parse(texts[i], &again), E_OK);
		ck_assert(addr_eq(&a, &again));
	}
}
END_TEST

START_TEST(refuses)
{
	const struct {
		const char *text;
		enum err err;
	} cases[] = {
	    {"", E_MALFORMED},
	    {"vsock", E_MALFORMED},
	    {"vsock:", E_MALFORMED},
	    {"vsock::1", E_MALFORMED},
	    {"vsock:2:", E_MALFORMED},
	    {"vsock:1:2:3", E_MALFORMED},
	    {"vsock:4294967295", E_RANGE},
	    {"vsock:4294967295:1", E_RANGE},
	    {"vsock:-1", E_MALFORMED},
	    {"unix:", E_MALFORMED},
	    {"UNIX:/x", E_MALFORMED},
	    {"/run/x", E_MALFORMED},
	    {"tcp:", E_MALFORMED},
	    {"tcp:127.0.0.1", E_MALFORMED},
	    {"tcp:127.0.0.1:", E_MALFORMED},
	    {"tcp:127.0.0.1:65536", E_RANGE},
	    {"tcp:127.0.0.1:1x", E_MALFORMED},
	    {"tcp:localhost:1", E_MALFORMED},
	    {"tcp:::1:53", E_MALFORMED},
	    {"tcp:[::1", E_MALFORMED},
	    {"tcp:[::1]", E_MALFORMED},
	    {"tcp:[::1]53", E_MALFORMED},
	    {"tcp:[127.0.0.1]:53", E_MALFORMED},
	    {"tcp:[]:53", E_MALFORMED},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct addr a = {.len = 77};

		ck_assert_msg(parse(cases[i].text, &a) == cases[i].err, "%s", cases[i].text);
		ck_assert_uint_eq(a.len, 77);
	}
}
END_TEST

static void parse_cut(struct span cut, void *ctx)
{
	struct addr a;

	(void)ctx;
	addr_parse(cut, &a);
	addr_parse_inet(cut, 53, &a);
}

START_TEST(reads_within_bounds)
{
	each_cut(span_str("tcp:[2001:db8::1]:65535"), parse_cut, NULL);
	each_mutation(span_str("tcp:[2001:db8::1]:65535"), parse_cut, NULL);
	each_mutation(span_str("[2001:db8::1]:65535"), parse_cut, NULL);
	each_mutation(span_str("vsock:2:1024"), parse_cut, NULL);
	each_mutation(span_str("unix:/run/x"), parse_cut, NULL);
}
END_TEST

START_TEST(knows_how_long_a_unix_path_may_be)
{
	enum { MOST = sizeof(struct sockaddr_un) - offsetof(struct sockaddr_un, sun_path) - 1 };
	char path[MOST + 2], text[ADDR_TEXT_BYTES];
	struct addr a;

	memset(path, 'p', sizeof path);
	path[MOST + 1] = 0;
	ck_assert_int_eq(addr_unix(path, &a), E_LIMIT);
	path[MOST] = 0;
	ck_assert_int_eq(addr_unix(path, &a), E_OK);
	ck_assert_uint_eq(a.len, sizeof a.u.un);
	ck_assert_str_eq(addr_text(&a, text) + 5, path);
	ck_assert_int_eq(addr_unix("", &a), E_MALFORMED);
	ck_assert_int_eq(addr_parse(span_of("unix:/a\0b", 9), &a), E_MALFORMED);
}
END_TEST

START_TEST(fills_in_the_port)
{
	struct addr a;

	ck_assert_int_eq(addr_parse_inet(span_str("10.0.2.1"), 53, &a), E_OK);
	check_text(&a, "tcp:10.0.2.1:53");
	ck_assert_int_eq(addr_parse_inet(span_str("10.0.2.1:5353"), 53, &a), E_OK);
	check_text(&a, "tcp:10.0.2.1:5353");
	ck_assert_int_eq(addr_parse_inet(span_str("[fd00::1]"), 53, &a), E_OK);
	check_text(&a, "tcp:[fd00::1]:53");
	ck_assert_int_eq(addr_parse_inet(span_str("fd00::1"), 53, &a), E_MALFORMED);
	ck_assert_int_eq(addr_parse_inet(span_str("10.0.2.1:"), 53, &a), E_MALFORMED);
	ck_assert_int_eq(addr_parse_inet(span_str("10.0.2.1"), 0, &a), E_MALFORMED);
}
END_TEST

START_TEST(goes_to_ip_and_back)
{
	const struct ip v4 = ip_v4(192, 0, 2, 7);
	struct ip v6, out = {.family = 99};
	struct addr a;

	addr_from_ip(&v4, 80, &a);
	ck_assert_uint_eq(addr_port(&a), 80);
	ck_assert(addr_to_ip(&a, &out) && ip_eq(&out, &v4));
	ck_assert_int_eq(ip_parse(span_str("2001:db8::7"), &v6), E_OK);
	addr_from_ip(&v6, 81, &a);
	ck_assert_uint_eq(addr_port(&a), 81);
	ck_assert(addr_to_ip(&a, &out) && ip_eq(&out, &v6));
	ck_assert_int_eq(parse("vsock:2:1", &a), E_OK);
	ck_assert(!addr_to_ip(&a, &out));
	ck_assert(ip_eq(&out, &v6));
	ck_assert_uint_eq(addr_port(&a), 0);
}
END_TEST

START_TEST(tells_addresses_apart)
{
	const char *texts[] = {"vsock:1", "vsock:2", "vsock:3:1", "unix:/a", "unix:/ab",
	    "tcp:10.0.0.1:1", "tcp:10.0.0.1:2", "tcp:10.0.0.2:1", "tcp:[::1]:1", "tcp:[::2]:1"};
	enum { N = sizeof texts / sizeof *texts };
	struct addr addrs[N + 1] = {0}; /* the last is none */

	for (size_t i = 0; i < N; i++)
		ck_assert_int_eq(parse(texts[i], &addrs[i]), E_OK);
	for (size_t i = 0; i <= N; i++)
		for (size_t k = 0; k <= N; k++)
			ck_assert_int_eq(addr_eq(&addrs[i], &addrs[k]), i == k);
}
END_TEST

START_TEST(writes_what_the_kernel_gives)
{
	struct addr a = {0};

	check_text(&a, "none");
	a.u.un.sun_family = AF_UNIX;
	a.len = offsetof(struct sockaddr_un, sun_path); /* a peer that did not bind */
	check_text(&a, "unix:");
	memcpy(a.u.un.sun_path, "\0abstract", 9);
	a.len += 9;
	check_text(&a, "unix:@abstract");
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    reads_what_it_writes,
	    refuses,
	    reads_within_bounds,
	    knows_how_long_a_unix_path_may_be,
	    fills_in_the_port,
	    goes_to_ip_and_back,
	    tells_addresses_apart,
	    writes_what_the_kernel_gives,
	    NULL,
	};

	return suite_of("addr", tests);
}
