#include "names/hosts_file.h"

#include "base/log.h"
#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct registry *registry;
static char path[64];
static struct hosts_file file;

static void setup(void)
{
	struct registry_conf conf = {
	    .max_owners = 6,
	    .max_names = 64,
	    .max_names_per_owner = 8,
	    .max_addrs_per_owner = 1,
	};
	struct span bad;

	ck_assert_int_eq(log_filter(span_str("off"), &bad), E_OK);
	ck_assert_int_eq(dns_name_from_text(span_str("arcbox.local"), &conf.domain), E_OK);
	registry = registry_new(&conf);
	snprintf(path, sizeof path, "/tmp/hosts.%d", (int)getpid());
	file = hosts_file_of(registry, path);
}

static void teardown(void)
{
	registry_free(registry);
	unlink(path);
}

static void write_file(const char *text)
{
	FILE *f = fopen(path, "we");

	ck_assert_ptr_nonnull(f);
	ck_assert_int_ge(fputs(text, f), 0);
	ck_assert_int_eq(fclose(f), 0);
}

/* The first address of a name in the domain; "" when there is none. */
static const char *find(const char *text)
{
	static char buf[IP_TEXT_BYTES];
	struct registry_answer answer;
	struct dns_name name;

	buf[0] = 0;
	ck_assert_int_eq(dns_name_from_text(span_str(text), &name), E_OK);
	if (registry_lookup(registry, &name, 4, &answer) == REGISTRY_FOUND && answer.n)
		ip_format(answer.addrs[0], buf);
	else if (registry_lookup(registry, &name, 6, &answer) == REGISTRY_FOUND && answer.n)
		ip_format(answer.addrs[0], buf);
	return buf;
}

START_TEST(options)
{
	struct span name = span_str("untouched");
	struct ip addr;

	ck_assert_int_eq(host_option_parse(span_str("db=10.0.0.1"), &name, &addr), E_OK);
	ck_assert(span_eq_str(name, "db"));
	ck_assert_int_eq(addr.family, 4);
	ck_assert_int_eq(host_option_parse(span_str("a.b=fd00::1"), &name, &addr), E_OK);
	ck_assert(span_eq_str(name, "a.b"));
	ck_assert_int_eq(addr.family, 6);
	ck_assert_int_eq(host_option_set(registry, 0, span_str("db=10.0.0.1")), 0);
	ck_assert_int_eq(host_option_set(registry, 1, span_str("db=10.0.0.2")), 0);
	ck_assert_int_eq(host_option_set(registry, 2, span_str("six=fd00::1")), 0);
	ck_assert_uint_eq(registry_owners(registry), 3);
	ck_assert_str_eq(find("six"), "fd00::1");
}
END_TEST

START_TEST(bad_options)
{
	static const char *const bad[] = {"", "db", "=10.0.0.1", "db=", "db=10.0.0", "a b=10.0.0.1",
	    "db=10.0.0.1=", "db=10.0.0.1 ", "db=web"};
	struct span name = span_str("untouched");
	struct ip addr;

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		ck_assert_int_eq(host_option_parse(span_str(bad[i]), &name, &addr), E_MALFORMED);
		ck_assert_int_eq(host_option_set(registry, 0, span_str(bad[i])), -EINVAL);
	}
	ck_assert(span_eq_str(name, "untouched"));
}
END_TEST

START_TEST(load_and_load_again)
{
	write_file("# static\n10.0.0.1 db db.proj\n\nfd00::1 six\nbad line\n10.0.0.3 web a..b\n");
	ck_assert_int_eq(hosts_file_load(&file), 0);
	ck_assert_uint_eq(registry_owners(registry), 3);
	ck_assert_str_eq(find("db"), "10.0.0.1");
	ck_assert_str_eq(find("db.proj.arcbox.local"), "10.0.0.1");
	ck_assert_str_eq(find("six"), "fd00::1");
	ck_assert_str_eq(find("web"), "10.0.0.3");
	write_file("10.0.0.9 db\n");
	ck_assert_int_eq(hosts_file_load(&file), 0);
	ck_assert_uint_eq(registry_owners(registry), 1);
	ck_assert_str_eq(find("db"), "10.0.0.9");
	ck_assert_str_eq(find("web"), "");
	ck_assert_str_eq(find("db.proj.arcbox.local"), "");
	hosts_file_drop(&file);
	ck_assert_uint_eq(registry_owners(registry), 0);
}
END_TEST

START_TEST(unreadable)
{
	write_file("10.0.0.1 db\n");
	ck_assert_int_eq(hosts_file_load(&file), 0);
	unlink(path);
	ck_assert_int_eq(hosts_file_load(&file), -ENOENT);
	ck_assert_str_eq(find("db"), "10.0.0.1");
	fault_arm("malloc", 1, ENOMEM, false);
	ck_assert_int_eq(hosts_file_load(&file), -ENOMEM);
	ck_assert(fault_disarm());
	ck_assert_str_eq(find("db"), "10.0.0.1");
	/* One byte too many. */
	write_file("10.0.0.1 web\n");
	ck_assert_int_eq(truncate(path, HOSTS_FILE_BYTES + 1), 0);
	ck_assert_int_eq(hosts_file_load(&file), -EFBIG);
	ck_assert_str_eq(find("db"), "10.0.0.1");
}
END_TEST

/* A line that finds no room takes nothing with it but what its predecessor was called. */
START_TEST(limits)
{
	write_file("10.0.0.1 a\n10.0.0.2 b\n10.0.0.3 c\n");
	ck_assert_int_eq(hosts_file_load(&file), 0);
	write_file("10.0.0.1 a\n10.0.0.2 1 2 3 4 5 6 7 8 9\n10.0.0.3 c\n10.0.0.4 d\n10.0.0.5 e\n"
		   "10.0.0.6 f\n10.0.0.7 g\n10.0.0.8 h\n");
	ck_assert_int_eq(hosts_file_load(&file), 0);
	ck_assert_str_eq(find("a"), "10.0.0.1");
	ck_assert_str_eq(find("b"), "");
	ck_assert_str_eq(find("1"), "");
	ck_assert_str_eq(find("c"), "10.0.0.3");
	ck_assert_str_eq(find("g"), "10.0.0.7");
	ck_assert_str_eq(find("h"), "");
	ck_assert_uint_eq(registry_owners(registry), 6);
	write_file("");
	ck_assert_int_eq(hosts_file_load(&file), 0);
	ck_assert_uint_eq(registry_owners(registry), 0);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    options, bad_options, load_and_load_again, unreadable, limits};
	Suite *s = suite_create("hosts_file");
	TCase *c = tcase_create("hosts_file");

	tcase_add_checked_fixture(c, setup, teardown);
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
		tcase_add_test(c, tests[i]);
	suite_add_tcase(s, c);
	return s;
}
