#include "names/hosts_file.h"

#include "base/log.h"
#include "fault.h"
#include "suite.h"
#include "sys/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct loop loop;
static struct reaper reaper;
static struct signals signals;
static unsigned fds;
static struct registry *registry;
static char path[64];
static struct hosts_file file;

static void on_signal(struct signals *s, int sig)
{
	(void)s;
	if (sig == SIGCHLD)
		reaper_drain(&reaper);
}

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
	signals_block();
	fds = fault_fds();
	ck_assert_int_eq(loop_init(&loop), 0);
	reaper_init(&reaper, &loop);
	ck_assert_int_eq(signals_init(&signals, &loop, on_signal), 0);
	hosts_file_init(&file, &reaper, registry, path);
}

static void teardown(void)
{
	hosts_file_done(&file);
	for (int i = 0; i < 500 && fault_children(); i++)
		ck_assert_int_eq(loop_turn(&loop, 10), 0);
	signals_done(&signals);
	loop_done(&loop);
	ck_assert_uint_eq(fault_fds(), fds);
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

static void turn(void)
{
	for (int i = 0; i < 1000 && file.worker.running; i++)
		ck_assert_int_eq(loop_turn(&loop, 10), 0);
	ck_assert(!file.worker.running);
}

static void load(void)
{
	hosts_file_load(&file);
	turn();
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
	load();
	ck_assert_uint_eq(registry_owners(registry), 3);
	ck_assert_str_eq(find("db"), "10.0.0.1");
	ck_assert_str_eq(find("db.proj.arcbox.local"), "10.0.0.1");
	ck_assert_str_eq(find("six"), "fd00::1");
	ck_assert_str_eq(find("web"), "10.0.0.3");
	write_file("10.0.0.9 db\n");
	load();
	ck_assert_uint_eq(registry_owners(registry), 1);
	ck_assert_str_eq(find("db"), "10.0.0.9");
	ck_assert_str_eq(find("web"), "");
	ck_assert_str_eq(find("db.proj.arcbox.local"), "");
}
END_TEST

START_TEST(asked_for_while_it_is_read)
{
	write_file("10.0.0.1 db\n");
	hosts_file_load(&file);
	hosts_file_load(&file);
	write_file("10.0.0.9 db\n");
	turn();
	ck_assert_str_eq(find("db"), "10.0.0.9");
	hosts_file_load(&file); /* and given up */
}
END_TEST

/* Nobody will ever write to it. */
START_TEST(a_fifo_is_not_waited_for)
{
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	load();
	ck_assert_uint_eq(registry_owners(registry), 0);
}
END_TEST

START_TEST(unreadable)
{
	write_file("10.0.0.1 db\n");
	load();
	unlink(path);
	load();
	ck_assert_str_eq(find("db"), "10.0.0.1");
	/* One byte too many. */
	write_file("10.0.0.1 web\n");
	ck_assert_int_eq(truncate(path, HOSTS_FILE_BYTES + 1), 0);
	load();
	ck_assert_str_eq(find("db"), "10.0.0.1");
}
END_TEST

/* What is known stays, whatever fails. */
START_TEST(faults)
{
	static const char *const calls[] = {"malloc", "memfd_create", "pipe2", "fork"};

	write_file("10.0.0.1 db\n");
	load();
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		fault_arm(calls[i], 1, EIO, false);
		load();
		ck_assert_msg(fault_disarm(), "%s", calls[i]);
		ck_assert_str_eq(find("db"), "10.0.0.1");
	}
}
END_TEST

/* A line that finds no room takes nothing with it but what its predecessor was called. */
START_TEST(limits)
{
	write_file("10.0.0.1 a\n10.0.0.2 b\n10.0.0.3 c\n");
	load();
	write_file("10.0.0.1 a\n10.0.0.2 1 2 3 4 5 6 7 8 9\n10.0.0.3 c\n10.0.0.4 d\n10.0.0.5 e\n"
		   "10.0.0.6 f\n10.0.0.7 g\n10.0.0.8 h\n");
	load();
	ck_assert_str_eq(find("a"), "10.0.0.1");
	ck_assert_str_eq(find("b"), "");
	ck_assert_str_eq(find("1"), "");
	ck_assert_str_eq(find("c"), "10.0.0.3");
	ck_assert_str_eq(find("g"), "10.0.0.7");
	ck_assert_str_eq(find("h"), "");
	ck_assert_uint_eq(registry_owners(registry), 6);
	write_file("");
	load();
	ck_assert_uint_eq(registry_owners(registry), 0);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {options, bad_options, load_and_load_again,
	    asked_for_while_it_is_read, a_fifo_is_not_waited_for, unreadable, faults, limits};
	Suite *s = suite_create("hosts_file");
	TCase *c = tcase_create("hosts_file");

	tcase_add_checked_fixture(c, setup, teardown);
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
		tcase_add_test(c, tests[i]);
	suite_add_tcase(s, c);
	return s;
}
