#include "names/cache.h"

#include "dns_case.h"
#include "fault.h"
#include "suite.h"
#include "sys/clock.h"

#include <errno.h>
#include <stdlib.h>

static struct cache *cache;
static const uint64_t start_ns = 1000 * NS_PER_SEC;
static uint8_t out[DNS_MESSAGE_BYTES];

#define TTLS .ttl_secs = 3600, .negative_ttl_secs = 300, .stale_secs = 30

static const struct cache_conf conf = {
    .max_entries = 4, .max_bytes = 64 * 1024, TTLS, .seed = {1, 2}};

static void setup(void)
{
	cache = cache_new(&conf);
	ck_assert_ptr_nonnull(cache);
}

static void teardown(void)
{
	cache_free(cache);
}

static struct dns_query query_of(const char *name, uint16_t type)
{
	static uint8_t buf[DNS_UDP_BYTES];
	struct dns_case c = {.name = name, .type = type};
	struct dns_query q;

	ck_assert_int_eq(dns_query_read(case_request(&c, buf), &q), E_OK);
	return q;
}

/* A response as it is stored: the question, and an address, or a SOA, with that TTL; `pad` bytes
 * longer. Returns how long dns_response_read() says that it may be kept. */
static uint32_t response(
    const struct dns_query *q, uint16_t rcode, uint32_t ttl_secs, size_t pad, struct span *message)
{
	static uint8_t buf[DNS_MESSAGE_BYTES];
	struct dns_soa soa = {.ttl_secs = ttl_secs, .minimum_secs = ttl_secs};
	struct ip ip = ip_v4(192, 0, 2, 1);
	struct dns_response r;
	struct dns_reply reply;

	soa.zone = soa.mname = soa.rname = (struct dns_name){1, {0}};
	dns_reply_begin(&reply, buf, sizeof buf, q, 0);
	reply.rcode = rcode;
	for (size_t i = 0; i <= pad / 16 && rcode == DNS_NOERROR; i++)
		dns_reply_addr(&reply, ttl_secs, &ip);
	if (rcode == DNS_NXDOMAIN)
		dns_reply_soa(&reply, DNS_AUTHORITY, &soa);
	*message = dns_reply_finish(&reply);
	ck_assert_int_eq(dns_response_read(*message, &r), E_OK);
	return r.ttl_secs;
}

static void put(const char *name, uint16_t rcode, uint32_t ttl_secs, size_t pad)
{
	struct dns_query q = query_of(name, DNS_A);
	struct cache_key key = cache_key_of(&q);
	struct span message;
	uint32_t keep_secs = response(&q, rcode, ttl_secs, pad, &message);

	cache_put(cache, &key, message, keep_secs, start_ns);
}

static const char *get_key(const struct cache_key *key, enum cache_want want, uint64_t after_secs)
{
	size_t n = cache_get(cache, key, want, start_ns + after_secs * NS_PER_SEC, out);

	return n ? case_text(span_of(out, n)) : "none";
}

static const char *get(const char *name, enum cache_want want, uint64_t after_secs)
{
	struct dns_query q = query_of(name, DNS_A);
	struct cache_key key = cache_key_of(&q);

	return get_key(&key, want, after_secs);
}

START_TEST(ttl)
{
	put("a.example", DNS_NOERROR, 60, 0);
	ck_assert_str_eq(get("a.example", CACHE_FRESH, 0), "0: a.example 60 1 192.0.2.1;");
	ck_assert_str_eq(get("A.example", CACHE_FRESH, 59), "0: a.example 1 1 192.0.2.1;");
	ck_assert_str_eq(get("a.example", CACHE_STALE, 10), "0: a.example 50 1 192.0.2.1;");
	ck_assert_str_eq(get("b.example", CACHE_FRESH, 0), "none");
	ck_assert_str_eq(get("a.example", CACHE_FRESH, 60), "none");
	put("a.example", DNS_NOERROR, 10, 0);
	ck_assert_str_eq(get("a.example", CACHE_FRESH, 0), "0: a.example 10 1 192.0.2.1;");
	ck_assert_uint_eq(cache_entries(cache), 1);
}
END_TEST

START_TEST(stale)
{
	put("a.example", DNS_NOERROR, 60, 0);
	ck_assert_str_eq(get("a.example", CACHE_STALE, 60), "0: a.example 1 1 192.0.2.1;");
	ck_assert_str_eq(get("a.example", CACHE_STALE, 89), "0: a.example 1 1 192.0.2.1;");
	ck_assert_str_eq(get("a.example", CACHE_STALE, 90), "none");
	ck_assert_uint_eq(cache_entries(cache), 0);
}
END_TEST

START_TEST(not_kept)
{
	put("a.example", DNS_NOERROR, 0, 0);
	put("a.example", DNS_SERVFAIL, 60, 0);
	put("a.example", DNS_NOERROR, 60, 16 * 1024);
	ck_assert_uint_eq(cache_entries(cache), 0);
}
END_TEST

START_TEST(ttl_limits)
{
	put("a.example", DNS_NOERROR, 86400, 0);
	ck_assert_str_eq(get("a.example", CACHE_FRESH, 0), "0: a.example 3600 1 192.0.2.1;");
	ck_assert_str_ne(get("a.example", CACHE_FRESH, 3599), "none");
	ck_assert_str_eq(get("a.example", CACHE_FRESH, 3600), "none");
	put("b.example", DNS_NXDOMAIN, 86400, 0);
	ck_assert_str_eq(get("b.example", CACHE_FRESH, 0), "3: . 300 6 .;");
	ck_assert_str_ne(get("b.example", CACHE_FRESH, 299), "none");
	ck_assert_str_eq(get("b.example", CACHE_FRESH, 300), "none");
	put("b.example", DNS_NXDOMAIN, 20, 0);
	ck_assert_str_eq(get("b.example", CACHE_FRESH, 5), "3: . 15 6 .;");
}
END_TEST

START_TEST(keys)
{
	struct dns_query q = query_of("a.example", DNS_A), other = q;
	struct cache_key key = cache_key_of(&q), different;

	put("a.example", DNS_NOERROR, 60, 0);
	ck_assert_str_ne(get_key(&key, CACHE_FRESH, 0), "none");
	other.question.type = DNS_AAAA;
	different = cache_key_of(&other);
	ck_assert_str_eq(get_key(&different, CACHE_FRESH, 0), "none");
	other = q;
	other.edns.dnssec_ok = true;
	different = cache_key_of(&other);
	ck_assert_str_eq(get_key(&different, CACHE_FRESH, 0), "none");
	other = q;
	other.flags |= DNS_CD;
	different = cache_key_of(&other);
	ck_assert_str_eq(get_key(&different, CACHE_FRESH, 0), "none");
}
END_TEST

START_TEST(least_used_goes_first)
{
	put("a.example", DNS_NOERROR, 60, 0);
	put("b.example", DNS_NOERROR, 60, 0);
	put("c.example", DNS_NOERROR, 60, 0);
	put("d.example", DNS_NOERROR, 60, 0);
	ck_assert_str_ne(get("a.example", CACHE_FRESH, 0), "none");
	put("e.example", DNS_NOERROR, 60, 0);
	ck_assert_uint_eq(cache_entries(cache), 4);
	ck_assert_str_eq(get("b.example", CACHE_FRESH, 0), "none");
	ck_assert_str_ne(get("a.example", CACHE_FRESH, 0), "none");
	ck_assert_str_ne(get("e.example", CACHE_FRESH, 0), "none");
}
END_TEST

START_TEST(bounded_bytes)
{
	struct cache_conf small = {.max_entries = 1000, .max_bytes = 32 * 1024, TTLS};
	char name[] = "a0.example";

	cache_free(cache);
	cache = cache_new(&small);
	for (unsigned i = 0; i < 100; i++) {
		name[0] = (char)('a' + i / 10);
		name[1] = (char)('0' + i % 10);
		put(name, DNS_NOERROR, 60, 3000);
	}
	ck_assert_uint_ge(cache_entries(cache), 8);
	ck_assert_uint_le(cache_entries(cache), 10);
	ck_assert_str_ne(get("j9.example", CACHE_FRESH, 0), "none");
	ck_assert_str_eq(get("a0.example", CACHE_FRESH, 0), "none");
}
END_TEST

START_TEST(without_memory)
{
	FAULT_EACH("calloc", ENOMEM)
	{
		cache_free(cache_new(&conf));
	}
	fault_arm("malloc", 1, ENOMEM, false);
	put("a.example", DNS_NOERROR, 60, 0);
	ck_assert(fault_disarm());
	ck_assert_uint_eq(cache_entries(cache), 0);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {ttl, stale, not_kept, ttl_limits, keys, least_used_goes_first,
	    bounded_bytes, without_memory};
	Suite *s = suite_create("cache");
	TCase *c = tcase_create("cache");

	tcase_add_checked_fixture(c, setup, teardown);
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
		tcase_add_test(c, tests[i]);
	suite_add_tcase(s, c);
	return s;
}
