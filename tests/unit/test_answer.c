#include "names/answer.h"

#include "cases.h"
#include "dns_case.h"
#include "suite.h"

static struct registry *registry;
static struct answerer answerer;
static uint8_t buf[DNS_MESSAGE_BYTES];

static void add(const char *owner, const char *name, struct ip ip)
{
	struct span s = span_str(name);

	ck_assert_int_eq(registry_set(registry, span_str(owner), &s, 1, &ip, 1), 0);
}

static void setup(void)
{
	struct registry_conf conf = {
	    .max_owners = 512,
	    .max_names = 1024,
	    .max_names_per_owner = 16,
	    .max_addrs_per_owner = 8,
	};

	ck_assert_int_eq(dns_name_from_text(span_str("arcbox.local"), &conf.domain), E_OK);
	registry = registry_new(&conf);
	answerer_init(&answerer, registry, 5);
	add("a", "web", ip_v4(10, 0, 0, 1));
	add("b", "db.proj", ip_v4(10, 0, 0, 2));
	add("c", "six", (struct ip){6, {0xfd, [15] = 1}});
}

static void teardown(void)
{
	registry_free(registry);
}

/* The answer as text, "drop" or "forward". */
static const char *judge(enum answer_front front, struct span packet)
{
	struct guard g = guard_copy(packet);
	struct dns_query query;
	struct span reply = {0};
	enum answer_verdict verdict = answer_request(&answerer, front, g.s, buf, &query, &reply);
	const char *text = verdict == ANSWER_DROP ? "drop" : "forward";

	if (verdict == ANSWER_READY) {
		ck_assert_uint_le(reply.n, answer_limit(front, &query));
		text = case_text(reply);
	}
	guard_free(&g);
	return text;
}

static const char *ask(const struct dns_case *c)
{
	uint8_t request[DNS_UDP_BYTES];

	return judge(ANSWER_UDP, case_request(c, request));
}
#define ASK(name_, type_, ...)                                                                     \
	ask(&(struct dns_case){.name = (name_), .type = (type_)__VA_OPT__(, ) __VA_ARGS__})

#define SOA "arcbox.local 5 6 arcbox.local;"

START_TEST(addresses)
{
	ck_assert_str_eq(ASK("web", DNS_A), "0 aa: web 5 1 10.0.0.1;");
	ck_assert_str_eq(ASK("WEB.arcbox.LOCAL", DNS_A), "0 aa: web.arcbox.local 5 1 10.0.0.1;");
	ck_assert_str_eq(
	    ASK("db.proj.arcbox.local", DNS_ANY), "0 aa: db.proj.arcbox.local 5 1 10.0.0.2;");
	ck_assert_str_eq(ASK("six", DNS_AAAA), "0 aa: six 5 28 fd00::1;");
	ck_assert_str_eq(ASK("six", DNS_ANY), "0 aa: six 5 28 fd00::1;");
	add("d", "six", ip_v4(10, 0, 0, 6));
	ck_assert_str_eq(ASK("six", DNS_ANY), "0 aa: six 5 1 10.0.0.6; six 5 28 fd00::1;");
}
END_TEST

START_TEST(no_data)
{
	ck_assert_str_eq(ASK("web.arcbox.local", DNS_AAAA), "0 aa: " SOA);
	ck_assert_str_eq(ASK("web.arcbox.local", DNS_MX), "0 aa: " SOA);
	ck_assert_str_eq(ASK("proj.arcbox.local", DNS_A), "0 aa: " SOA);
	ck_assert_str_eq(ASK("proj.arcbox.local", DNS_ANY), "0 aa: " SOA);
	ck_assert_str_eq(ASK("web", DNS_AAAA), "0 aa: web 5 6 arcbox.local;");
	ck_assert_str_eq(ASK("six", DNS_TXT), "0 aa: six 5 6 arcbox.local;");
}
END_TEST

START_TEST(absent)
{
	ck_assert_str_eq(ASK("nope.arcbox.local", DNS_A), "3 aa: " SOA);
	ck_assert_str_eq(ASK("nope.arcbox.local", DNS_TXT), "3 aa: " SOA);
	ck_assert_str_eq(ASK("x.web.arcbox.local", DNS_ANY), "3 aa: " SOA);
}
END_TEST

START_TEST(apex)
{
	ck_assert_str_eq(ASK("arcbox.local", DNS_SOA), "0 aa: " SOA);
	ck_assert_str_eq(ASK("arcbox.local", DNS_ANY), "0 aa: " SOA);
	ck_assert_str_eq(ASK("arcbox.local", DNS_A), "0 aa: " SOA);
	ck_assert_str_eq(ASK("arcbox.local", DNS_NS), "0 aa: " SOA);
}
END_TEST

START_TEST(others_names)
{
	ck_assert_str_eq(ASK("example.com", DNS_A), "forward");
	ck_assert_str_eq(ASK("db.proj", DNS_A), "forward");
	ck_assert_str_eq(ASK("local", DNS_SOA), "forward");
	ck_assert_str_eq(ASK("", DNS_NS), "forward");
	ck_assert_str_eq(ASK("4.0.0.10.in-addr.arpa", DNS_PTR), "forward");
	ck_assert_str_eq(ASK("0.0.10.in-addr.arpa", DNS_SOA), "forward");
}
END_TEST

START_TEST(reverse)
{
	ck_assert_str_eq(ASK("1.0.0.10.in-addr.arpa", DNS_PTR),
	    "0 aa: 1.0.0.10.in-addr.arpa 5 12 web.arcbox.local;");
	ck_assert_str_eq(ASK("2.0.0.10.IN-ADDR.ARPA", DNS_ANY),
	    "0 aa: 2.0.0.10.in-addr.arpa 5 12 db.proj.arcbox.local;");
	ck_assert_str_eq(
	    ASK("1.0.0.10.in-addr.arpa", DNS_A), "0 aa: 1.0.0.10.in-addr.arpa 5 6 arcbox.local;");
	ck_assert_str_eq(
	    ASK("1.0.0.127.in-addr.arpa", DNS_PTR), "0 aa: 1.0.0.127.in-addr.arpa 5 12 localhost;");
}
END_TEST

START_TEST(localhost)
{
	/* Whatever a hosts file says of it. */
	add("d", "localhost", ip_v4(10, 0, 0, 9));
	ck_assert_str_eq(ASK("localhost", DNS_A), "0 aa: localhost 5 1 127.0.0.1;");
	ck_assert_str_eq(ASK("a.LocalHost", DNS_AAAA), "0 aa: a.localhost 5 28 ::1;");
	ck_assert_str_eq(
	    ASK("localhost", DNS_ANY), "0 aa: localhost 5 1 127.0.0.1; localhost 5 28 ::1;");
	ck_assert_str_eq(ASK("localhost", DNS_MX), "0 aa: localhost 5 6 arcbox.local;");
}
END_TEST

START_TEST(refused)
{
	ck_assert_str_eq(ASK("version.bind", DNS_TXT, .class = 3), "5:");
	ck_assert_str_eq(ASK("web", DNS_A, .class = 255), "5:");
	ck_assert_str_eq(ASK("arcbox.local", DNS_AXFR), "5:");
	ck_assert_str_eq(ASK("example.com", DNS_IXFR, .payload = 1232), "5: opt 1232;");
}
END_TEST

START_TEST(edns)
{
	ck_assert_str_eq(ASK("web", DNS_A, .payload = 4096), "0 aa: web 5 1 10.0.0.1; opt 1232;");
	ck_assert_str_eq(ASK("web", DNS_A, .payload = 512, .version = 1), "16: opt 1232;");
	ck_assert_str_eq(ASK("example.com", DNS_A, .payload = 4096), "forward");
}
END_TEST

/* Id, RD, CD and opcode come back; the question in the case it came in. */
START_TEST(header)
{
	uint8_t request[DNS_UDP_BYTES];
	struct dns_case c = {.name = "WeB", .type = DNS_A, .id = 0xbeef, .flags = DNS_CD};
	struct span packet = case_request(&c, request), reply;
	struct dns_query query;
	struct dns_response response;

	ck_assert_int_eq(
	    answer_request(&answerer, ANSWER_UDP, packet, buf, &query, &reply), ANSWER_READY);
	ck_assert_int_eq(dns_response_read(reply, &response), E_OK);
	ck_assert_uint_eq(response.header.id, 0xbeef);
	ck_assert_uint_eq(response.header.flags, DNS_QR | DNS_AA | DNS_RD | DNS_RA | DNS_CD);
	ck_assert(span_eq(response.raw, span_of("\3WeB\0\0\1\0\1", 9)));
	request[2] = 0x28; /* UPDATE */
	ck_assert_int_eq(
	    answer_request(&answerer, ANSWER_UDP, packet, buf, &query, &reply), ANSWER_READY);
	ck_assert_uint_eq(reply.n, DNS_HEADER_BYTES);
	ck_assert(span_eq(reply, span_of("\xbe\xef\xa8\x94\0\0\0\0\0\0\0\0", 12)));
}
END_TEST

START_TEST(wrong)
{
	uint8_t request[DNS_UDP_BYTES];
	struct dns_case c = {.name = "web", .type = DNS_A};
	struct span packet = case_request(&c, request);

	for (size_t n = 0; n < DNS_HEADER_BYTES; n++)
		ck_assert_str_eq(judge(ANSWER_UDP, span_first(packet, n)), "drop");
	for (size_t n = DNS_HEADER_BYTES; n < packet.n; n++)
		ck_assert_str_eq(judge(ANSWER_UDP, span_first(packet, n)), "1:");
	request[2] |= 0x80; /* QR */
	ck_assert_str_eq(judge(ANSWER_UDP, packet), "drop");
	request[2] &= 0x7f;
	request[5] = 2; /* QDCOUNT */
	ck_assert_str_eq(judge(ANSWER_UDP, packet), "1:");
	request[5] = 0;
	ck_assert_str_eq(judge(ANSWER_UDP, span_first(packet, DNS_HEADER_BYTES)), "1:");
}
END_TEST

/* 100 addresses of 16 bytes a record are too many for any datagram of ours. */
START_TEST(truncation)
{
	uint8_t request[DNS_UDP_BYTES];
	struct dns_case c = {.name = "many", .type = DNS_A, .payload = 4096};
	char owner[] = "m00";

	for (uint8_t i = 0; i < 100; i++) {
		owner[1] = (char)('0' + i / 10);
		owner[2] = (char)('0' + i % 10);
		add(owner, "many", ip_v4(10, 0, 1, i));
	}
	ck_assert_str_eq(ask(&c), "0 aa tc: opt 1232;");
	ck_assert_uint_eq(strlen(judge(ANSWER_TCP, case_request(&c, request))),
	    strlen("0 aa: opt 1232;") + 100 * strlen(" many 5 1 10.0.1.1;") + 90);
	for (uint8_t i = 40; i < 100; i++) {
		owner[1] = (char)('0' + i / 10);
		owner[2] = (char)('0' + i % 10);
		registry_drop(registry, span_str(owner));
	}
	ck_assert_uint_gt(strlen(ask(&c)), 40 * strlen(" many 5 1 10.0.1.1;"));
	c.payload = CASE_NO_EDNS;
	ck_assert_str_eq(ask(&c), "0 aa tc:");
}
END_TEST

START_TEST(serial)
{
	uint32_t before = registry_serial(registry);

	ck_assert_str_eq(ASK("nope.arcbox.local", DNS_A), "3 aa: " SOA);
	ck_assert_uint_eq(answerer.soa.serial, before);
	add("z", "z", ip_v4(10, 0, 0, 26));
	ASK("nope.arcbox.local", DNS_A);
	ck_assert_uint_gt(answerer.soa.serial, before);
}
END_TEST

/* A domain so long that no name fits below it is its own mail address, too. */
START_TEST(longest_domain)
{
	struct registry_conf conf = {.max_owners = 1, .max_names = 1};
	struct registry *r;
	struct answerer a;
	char name[253];

	memset(name, 'a', sizeof name);
	name[63] = name[127] = name[191] = '.';
	ck_assert_int_eq(dns_name_from_text(span_of(name, sizeof name), &conf.domain), E_OK);
	r = registry_new(&conf);
	answerer_init(&a, r, 5);
	ck_assert(dns_name_eq(&a.soa.rname, &conf.domain));
	registry_free(r);
}
END_TEST

static void judge_bytes(struct span packet, void *ctx)
{
	(void)ctx;
	ck_assert_str_ne(judge(ANSWER_UDP, packet), "malformed");
	ck_assert_str_ne(judge(ANSWER_TCP, packet), "malformed");
}

START_TEST(any_bytes)
{
	static const struct dns_case c[] = {
	    {.name = "web", .type = DNS_A, .payload = 1232},
	    {.name = "x.arcbox.local", .type = DNS_ANY},
	    {.name = "1.0.0.10.in-addr.arpa", .type = DNS_PTR, .payload = 512},
	};
	uint8_t request[DNS_UDP_BYTES];

	for (size_t i = 0; i < 3; i++) {
		each_cut(case_request(&c[i], request), judge_bytes, NULL);
		each_mutation(case_request(&c[i], request), judge_bytes, NULL);
	}
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {addresses, no_data, absent, apex, others_names, reverse,
	    localhost, refused, edns, header, wrong, truncation, serial, longest_domain, any_bytes};
	Suite *s = suite_create("answer");
	TCase *c = tcase_create("answer");

	tcase_add_checked_fixture(c, setup, teardown);
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
		tcase_add_test(c, tests[i]);
	suite_add_tcase(s, c);
	return s;
}
