#include "names/registry.h"

#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static struct registry *r;

static struct dns_name name_of(const char *text)
{
	struct dns_name name;

	ck_assert_int_eq(dns_name_from_text(span_str(text), &name), E_OK);
	return name;
}

static struct ip ip_of(const char *text)
{
	struct ip ip;

	ck_assert_int_eq(ip_parse(span_str(text), &ip), E_OK);
	return ip;
}

static struct registry_conf conf(void)
{
	return (struct registry_conf){
	    .domain = name_of("arcbox.local"),
	    .max_owners = 16,
	    .max_names = 64,
	    .max_names_per_owner = 16,
	    .max_addrs_per_owner = 8,
	    .seed = {1, 2},
	};
}

static void setup(void)
{
	struct registry_conf c = conf();

	r = registry_new(&c);
	ck_assert_ptr_nonnull(r);
}

static void teardown(void)
{
	registry_free(r);
	r = NULL;
}

/* Splits words at blanks into spans. */
static size_t words(const char *text, struct span *out, size_t max)
{
	struct span rest = span_str(text);
	size_t n = 0;

	while (rest.n) {
		ck_assert_uint_lt(n, max);
		out[n++] = span_split(&rest, ' ');
	}
	return n;
}

static int set(const char *owner, const char *names, const char *addrs)
{
	struct span name[32], addr[32];
	struct ip ip[32];
	size_t n_names = words(names, name, 32), n_addrs = words(addrs, addr, 32);

	for (size_t i = 0; i < n_addrs; i++)
		ck_assert_int_eq(ip_parse(addr[i], &ip[i]), E_OK);
	return registry_set(r, span_str(owner), name, n_names, ip, n_addrs);
}

/* What a name leads to, in the order of the answer: "!" and the match when it is not found. */
static const char *find(const char *name, uint8_t family)
{
	static const char *const matches[] = {"!foreign", "!apex", "!absent", "!between"};
	static char text[4096];
	struct dns_name n = name_of(name);
	struct registry_answer a;
	enum registry_match match = registry_lookup(r, &n, family, &a);
	size_t at = 0;

	if (match != REGISTRY_FOUND) {
		ck_assert_uint_eq(a.n, 0);
		return matches[match];
	}
	text[0] = 0;
	for (size_t i = 0; i < a.n; i++) {
		char ip[IP_TEXT_BYTES];

		ip_format(a.addrs[i], ip);
		at += (size_t)snprintf(text + at, sizeof text - at, i ? " %s" : "%s", ip);
	}
	return text;
}

static const char *reverse(const char *addr)
{
	static char text[REGISTRY_ANSWER_NAMES * DNS_NAME_TEXT_BYTES];
	struct dns_name names[REGISTRY_ANSWER_NAMES];
	struct ip ip = ip_of(addr);
	size_t n = registry_reverse(r, &ip, names), at = 0;

	text[0] = 0;
	for (size_t i = 0; i < n; i++) {
		char name[DNS_NAME_TEXT_BYTES];

		dns_name_to_text(&names[i], name);
		at += (size_t)snprintf(text + at, sizeof text - at, i ? " %s" : "%s", name);
	}
	return text;
}

START_TEST(names_and_where_they_answer)
{
	ck_assert_int_eq(set("a", "web Web.Proj", "10.0.0.1 fd00::1"), 0);
	ck_assert_str_eq(find("web", 4), "10.0.0.1");
	ck_assert_str_eq(find("WEB", 6), "fd00::1");
	ck_assert_str_eq(find("web", 0), "");
	ck_assert_str_eq(find("web.arcbox.local", 4), "10.0.0.1");
	ck_assert_str_eq(find("web.proj.ARCBOX.local", 4), "10.0.0.1");
	ck_assert_str_eq(find("web.proj", 4), "!foreign");
	ck_assert_str_eq(find("arcbox.local", 4), "!apex");
	ck_assert_str_eq(find("local", 4), "!foreign");
	ck_assert_str_eq(find(".", 4), "!foreign");
	ck_assert_str_eq(find("xarcbox.local", 4), "!foreign");
	ck_assert_str_eq(find("other.arcbox.local", 4), "!absent");
	ck_assert_str_eq(find("x.web.arcbox.local", 4), "!absent");
	ck_assert_str_eq(find("other", 4), "!foreign");
}
END_TEST

START_TEST(names_between)
{
	ck_assert_int_eq(set("a", "a.b.c", "10.0.0.1"), 0);
	ck_assert_str_eq(find("b.c.arcbox.local", 4), "!between");
	ck_assert_str_eq(find("c.arcbox.local", 4), "!between");
	ck_assert_str_eq(find("b.arcbox.local", 4), "!absent");
	ck_assert_str_eq(find("c", 4), "!foreign");
	ck_assert_int_eq(set("b", "c", "10.0.0.2"), 0);
	ck_assert_str_eq(find("c.arcbox.local", 4), "10.0.0.2");
	ck_assert_str_eq(find("c", 4), "10.0.0.2");
	registry_drop(r, span_str("b"));
	ck_assert_str_eq(find("c.arcbox.local", 4), "!between");
	registry_drop(r, span_str("a"));
	ck_assert_str_eq(find("c.arcbox.local", 4), "!absent");
}
END_TEST

START_TEST(bare_dotted)
{
	struct registry_conf c = conf();

	teardown();
	c.bare_dotted = true;
	r = registry_new(&c);
	ck_assert_int_eq(set("a", "github.com", "10.0.0.1"), 0);
	ck_assert_str_eq(find("github.com", 4), "10.0.0.1");
	ck_assert_str_eq(find("github.com.arcbox.local", 4), "10.0.0.1");
	/* The rest of .com is not ours for that. */
	ck_assert_str_eq(find("com", 4), "!foreign");
	ck_assert_str_eq(find("x.github.com", 4), "!foreign");
}
END_TEST

START_TEST(names_given_with_the_domain)
{
	ck_assert_int_eq(set("a", "db.arcbox.local cache.arcbox.local.", "10.0.0.1"), 0);
	ck_assert_str_eq(find("db", 4), "10.0.0.1");
	ck_assert_str_eq(find("cache.arcbox.local", 4), "10.0.0.1");
	ck_assert_str_eq(find("db.arcbox.local.arcbox.local", 4), "!absent");
}
END_TEST

START_TEST(unusable_names)
{
	char name[300];
	struct span names[] = {span_str(""), span_str("a..b"), span_str("a b"),
	    span_str("arcbox.local"), span_str("."), span_str("good"), span_of(name, 0)};
	struct ip ip = ip_of("10.0.0.1");

	/* 255 bytes without the domain, and the longest that fits with it: 4 labels, 1 + 240 bytes
	 */
	memset(name, 'a', sizeof name);
	name[63] = name[127] = name[191] = '.';
	names[6].n = 253;
	ck_assert_int_eq(registry_set(r, span_str("a"), names, 7, &ip, 1), 6);
	ck_assert_str_eq(find("good", 4), "10.0.0.1");
	names[6].n = 253 - 13;
	ck_assert_int_eq(registry_set(r, span_str("b"), &names[6], 1, &ip, 1), 0);
	names[6].n++;
	ck_assert_int_eq(registry_set(r, span_str("b"), &names[6], 1, &ip, 1), 1);
	ck_assert_uint_eq(registry_owners(r), 1);
	/* An owner that has nothing but those is dropped. */
	ck_assert_int_eq(registry_set(r, span_str("a"), names, 5, &ip, 1), 5);
	ck_assert_uint_eq(registry_owners(r), 0);
	ck_assert_int_eq(registry_set(r, span_str("a"), NULL, 0, NULL, 0), 0);
}
END_TEST

START_TEST(shared_names)
{
	ck_assert_int_eq(set("a", "web", "10.0.0.1 10.0.0.1 10.0.0.9"), 0);
	ck_assert_int_eq(set("b", "web web WEB", "10.0.0.2 10.0.0.9"), 0);
	ck_assert_str_eq(find("web", 4), "10.0.0.2 10.0.0.9 10.0.0.1");
	ck_assert_str_eq(find("web", 4), "10.0.0.9 10.0.0.1 10.0.0.2");
	ck_assert_str_eq(find("web", 6), "");
	ck_assert_str_eq(find("web", 4), "10.0.0.1 10.0.0.2 10.0.0.9");
	ck_assert_str_eq(find("web", 4), "10.0.0.2 10.0.0.9 10.0.0.1");
	registry_drop(r, span_str("b"));
	registry_drop(r, span_str("b"));
	registry_drop(r, span_str("unknown"));
	ck_assert_str_eq(find("web", 4), "10.0.0.1 10.0.0.9");
	registry_drop(r, span_str("a"));
	ck_assert_str_eq(find("web", 4), "!foreign");
	ck_assert_str_eq(find("web.arcbox.local", 4), "!absent");
}
END_TEST

/* A and AAAA asked in turn, as resolvers do: each family has a rotation of its own. */
START_TEST(families_rotate_apart)
{
	ck_assert_int_eq(set("a", "web", "10.0.0.1 10.0.0.2 fd00::1 fd00::2"), 0);
	ck_assert_str_eq(find("web", 4), "10.0.0.1 10.0.0.2");
	ck_assert_str_eq(find("web", 6), "fd00::1 fd00::2");
	ck_assert_str_eq(find("web", 4), "10.0.0.2 10.0.0.1");
	ck_assert_str_eq(find("web", 6), "fd00::2 fd00::1");
}
END_TEST

START_TEST(replacing)
{
	uint32_t serial = registry_serial(r);

	ck_assert_int_eq(set("a", "x y.z", "10.0.0.1"), 0);
	ck_assert_uint_gt(registry_serial(r), serial);
	serial = registry_serial(r);
	ck_assert_int_eq(set("a", "x y.z", "10.0.0.1"), 0);
	ck_assert_int_eq(set("a", "X x Y.z", "10.0.0.1 10.0.0.1"), 0);
	ck_assert_uint_eq(registry_serial(r), serial);
	ck_assert_int_eq(set("a", "x y.z", "10.0.0.2"), 0);
	ck_assert_uint_gt(registry_serial(r), serial);
	ck_assert_str_eq(find("x", 4), "10.0.0.2");
	ck_assert_str_eq(reverse("10.0.0.1"), "");
	ck_assert_int_eq(set("a", "v", "10.0.0.2"), 0);
	ck_assert_str_eq(find("x", 4), "!foreign");
	ck_assert_str_eq(find("y.z.arcbox.local", 4), "!absent");
	ck_assert_str_eq(find("z.arcbox.local", 4), "!absent");
	ck_assert_int_eq(set("a", "w", "10.0.0.2"), 0);
	ck_assert_str_eq(find("v", 4), "!foreign");
	ck_assert_int_eq(set("a", "a.w", "10.0.0.2"), 0);
	ck_assert_int_eq(set("a", "w a.w", "10.0.0.2"), 0);
	ck_assert_str_eq(find("w", 4), "10.0.0.2");
	/* A host network gives a name without any address. */
	ck_assert_int_eq(set("a", "w", ""), 0);
	ck_assert_str_eq(find("w", 4), "");
	ck_assert_str_eq(reverse("10.0.0.2"), "");
	ck_assert_uint_eq(registry_owners(r), 1);
}
END_TEST

START_TEST(reverse_names)
{
	ck_assert_str_eq(reverse("10.0.0.1"), "");
	ck_assert_int_eq(set("a", "web web.proj WEB", "10.0.0.1 fd00::1"), 0);
	ck_assert_str_eq(reverse("10.0.0.1"), "web.arcbox.local web.proj.arcbox.local");
	ck_assert_str_eq(reverse("fd00::1"), "web.arcbox.local web.proj.arcbox.local");
	ck_assert_int_eq(set("b", "other web", "10.0.0.1"), 0);
	ck_assert_str_eq(
	    reverse("10.0.0.1"), "other.arcbox.local web.arcbox.local web.proj.arcbox.local");
	registry_drop(r, span_str("a"));
	ck_assert_str_eq(reverse("10.0.0.1"), "other.arcbox.local web.arcbox.local");
	ck_assert_str_eq(reverse("fd00::1"), "");
}
END_TEST

START_TEST(limits)
{
	char owner[8], name[8];
	struct span names[17];
	struct ip ips[9] = {{0}};

	for (size_t i = 0; i < 17; i++)
		names[i] = span_str("n");
	ck_assert_int_eq(registry_set(r, span_str("a"), names, 17, ips, 1), -ENOSPC);
	ck_assert_int_eq(registry_set(r, span_str("a"), names, 1, ips, 9), -ENOSPC);
	for (unsigned i = 0; i < 16; i++) {
		snprintf(owner, sizeof owner, "o%u", i);
		snprintf(name, sizeof name, "n%u", i);
		ck_assert_int_eq(set(owner, name, "10.0.0.1"), 0);
	}
	ck_assert_int_eq(set("o16", "n16", "10.0.0.1"), -ENOSPC);
	ck_assert_int_eq(set("o0", "n0 n16", "10.0.0.1"), 0);
	ck_assert_uint_eq(registry_owners(r), 16);
	/* 17 labels there are, of which 2 go: 49 are left to o0 of 64. */
	ck_assert_int_eq(set("o0",
			     "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.u.v.w.x.y "
			     "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.u.v.w.x",
			     "10.0.0.1"),
	    0);
	ck_assert_int_eq(set("o1", "n1 m1", "10.0.0.1"), -ENOSPC);
	ck_assert_str_eq(find("n1", 4), "10.0.0.1");
	ck_assert_str_eq(find("m1", 4), "!foreign");
	ck_assert_int_eq(set("o1", "m1", "10.0.0.1"), 0);
}
END_TEST

/* More owners of a name than an answer can have addresses. */
START_TEST(crowded_names)
{
	struct registry_conf c = conf();
	struct span web = span_str("web");
	struct dns_name name = name_of("web"), names[REGISTRY_ANSWER_NAMES];
	struct registry_answer a;
	struct ip shared = ip_of("10.9.9.9");
	char text[16];

	teardown();
	c.max_owners = c.max_names = 1000;
	r = registry_new(&c);
	for (unsigned i = 0; i < 300; i++) {
		struct ip ip = ip_v4(10, 0, (uint8_t)(i >> 8), (uint8_t)i);

		ck_assert_int_eq(registry_set(r, span_of(&i, sizeof i), &web, 1, &ip, 1), 0);
	}
	for (unsigned i = 0; i < 300; i++) {
		ck_assert_int_eq(registry_lookup(r, &name, 4, &a), REGISTRY_FOUND);
		ck_assert_uint_eq(a.n, REGISTRY_ANSWER_ADDRS);
	}
	for (unsigned i = 0; i < 300; i++) {
		struct span s = span_of(text, (size_t)snprintf(text, sizeof text, "h%u", i));

		ck_assert_int_eq(registry_set(r, span_of(&i, sizeof i), &s, 1, &shared, 1), 0);
	}
	ck_assert_uint_eq(registry_reverse(r, &shared, names), REGISTRY_ANSWER_NAMES);
	ck_assert_int_eq(registry_lookup(r, &name, 4, &a), REGISTRY_FOREIGN);
}
END_TEST

START_TEST(without_memory)
{
	struct registry_conf c = conf();

	teardown();
	FAULT_EACH("calloc", ENOMEM)
	{
		r = registry_new(&c);
		registry_free(r);
	}
	r = registry_new(&c);
	ck_assert_int_eq(set("a", "web", "10.0.0.1"), 0);
	fault_arm("malloc", 1, ENOMEM, false);
	ck_assert_int_eq(set("a", "db", "10.0.0.2"), -ENOMEM);
	ck_assert(fault_disarm());
	ck_assert_str_eq(find("web", 4), "10.0.0.1");
	ck_assert_str_eq(find("db", 4), "!foreign");
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {names_and_where_they_answer, names_between, bare_dotted,
	    names_given_with_the_domain, unusable_names, shared_names, families_rotate_apart,
	    replacing, reverse_names, limits, crowded_names, without_memory};
	Suite *s = suite_create("registry");
	TCase *c = tcase_create("registry");

	tcase_add_checked_fixture(c, setup, teardown);
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
		tcase_add_test(c, tests[i]);
	suite_add_tcase(s, c);
	return s;
}
