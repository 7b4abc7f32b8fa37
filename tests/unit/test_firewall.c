#include "init/firewall.h"

#include "base/log.h"
#include "fault.h"
#include "suite.h"
#include "sys/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct loop loop;
static struct signals signals;
static struct reaper reaper;
static unsigned fds;

static char dir[] = "/tmp/test_firewall.XXXXXX";
static char program[64], calls[64], rules[64], mood[64], log_path[64];

/* --- a stand-in for iptables ------------------------------------------------------------------ */

/* Notes its arguments in `calls`, and keeps the rules that it was given in `rules`, the last one
 * first. `mood` makes it behave otherwise for commands that hold its first word. */
static const char script[] =
    "#!/bin/sh\n"
    "cd \"${0%/*}\"\n"
    "echo \"$*\" >>calls\n"
    "read -r about how <mood\n"
    "case \"$* \" in\n"
    "*\" $about \"*)\n"
    "	case $how in\n"
    "	refuse) echo 'iptables: no such thing' >&2; echo more >&2; exit 2 ;;\n"
    "	hang) exec sleep 1000 ;;\n"
    "	die) kill -9 $$ ;;\n"
    "	esac ;;\n"
    "esac\n"
    "shift 2\n"
    "what=$1\n"
    "shift\n"
    "case $what in\n"
    "-C) grep -qx -e \"$*\" rules || { echo 'Bad rule' >&2; exit 1; } ;;\n"
    "-I) echo \"$*\" >new; cat rules >>new; mv new rules ;;\n"
    "*) exit 2 ;;\n"
    "esac\n";

static void write_file(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static const char *read_file(const char *path)
{
	static char text[4096];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);

	ck_assert_int_ge(n, 0);
	text[n] = '\0';
	if (fd >= 0)
		close(fd);
	return text;
}

/* How often `text` is in the log. */
static unsigned logged(const char *text)
{
	unsigned n = 0;

	for (const char *p = read_file(log_path); (p = strstr(p, text)); p += strlen(text))
		n++;
	return n;
}

/* --- set-up ----------------------------------------------------------------------------------- */

static void on_signal(struct signals *s, int sig)
{
	(void)s;
	if (sig == SIGCHLD)
		reaper_drain(&reaper);
}

static int log_fd;

static void setup(void)
{
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(program, sizeof program, "%s/iptables", dir);
	snprintf(calls, sizeof calls, "%s/calls", dir);
	snprintf(rules, sizeof rules, "%s/rules", dir);
	snprintf(mood, sizeof mood, "%s/mood", dir);
	snprintf(log_path, sizeof log_path, "%s/log", dir);
	write_file(program, script, 0755);
	write_file(rules, "", 0644);
	write_file(mood, "nothing ever\n", 0644);
	log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	log_sinks(&log_fd, 1);
	signals_block();
	ck_assert_int_eq(loop_init(&loop), 0);
	ck_assert_int_eq(signals_init(&signals, &loop, on_signal), 0);
	reaper_init(&reaper, &loop);
	fds = fault_fds();
}

static void teardown(void)
{
	for (unsigned turns = 0; fault_children() > 0; turns++) {
		ck_assert_uint_lt(turns, 500);
		reaper_drain(&reaper);
		usleep(10000);
	}
	ck_assert_uint_eq(reaper_count(&reaper), 0);
	ck_assert_uint_eq(fault_fds(), fds);
	signals_done(&signals);
	reaper_done(&reaper);
	loop_done(&loop);
	log_sinks(NULL, 0);
	close(log_fd);
	unlink(program);
	unlink(calls);
	unlink(rules);
	unlink(mood);
	unlink(log_path);
	ck_assert_int_eq(rmdir(dir), 0);
}

static void finish(const struct firewall *fw)
{
	for (unsigned turns = 0; !firewall_is_idle(fw); turns++) {
		ck_assert_uint_lt(turns, 200);
		ck_assert_int_eq(loop_turn(&loop, 5000), 0);
	}
}

static const struct firewall_rule from_second = {.in = "eth1"};
static const struct firewall_rule to_second = {.out = "eth1", .established = true};
static const struct firewall_rule from_subnet = {.source = "172.20.0.0/16"};
static const struct firewall_rule to_subnet = {.destination = "172.20.0.0/16"};

static void accept_all(struct firewall *fw)
{
	firewall_accept(fw, &from_second);
	firewall_accept(fw, &to_second);
	firewall_accept(fw, &from_subnet);
	firewall_accept(fw, &to_subnet);
	finish(fw);
}

static const char all_rules[] =
    "FORWARD -d 172.20.0.0/16 -j ACCEPT\n"
    "FORWARD -s 172.20.0.0/16 -j ACCEPT\n"
    "FORWARD -o eth1 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
    "FORWARD -i eth1 -j ACCEPT\n";

/* --- the tests -------------------------------------------------------------------------------- */

START_TEST(makes_rules_once)
{
	struct firewall *fw;

	setup();
	for (int twice = 0; twice < 2; twice++) {
		fw = firewall_new(&loop, &reaper, program, 10000);
		ck_assert(firewall_is_idle(fw));
		accept_all(fw);
		firewall_free(fw);
		ck_assert_str_eq(read_file(rules), all_rules);
	}
	ck_assert_str_eq(read_file(log_path), "");
	teardown();
}
END_TEST

START_TEST(looks_before_it_inserts)
{
	struct firewall *fw;

	setup();
	fw = firewall_new(&loop, &reaper, program, 10000);
	firewall_accept(fw, &from_second);
	finish(fw);
	firewall_accept(fw, &from_second);
	finish(fw);
	ck_assert_str_eq(read_file(calls),
	    "-w 5 -C FORWARD -i eth1 -j ACCEPT\n"
	    "-w 5 -I FORWARD -i eth1 -j ACCEPT\n"
	    "-w 5 -C FORWARD -i eth1 -j ACCEPT\n");
	firewall_free(fw);
	teardown();
}
END_TEST

START_TEST(joins_all_that_a_rule_gives)
{
	const struct firewall_rule r = {
	    .in = "0123456789abcde",
	    .out = "fedcba987654321",
	    .source = "255.255.255.255/32",
	    .destination = "255.255.255.254/32",
	    .established = true,
	};
	struct firewall *fw;

	setup();
	fw = firewall_new(&loop, &reaper, program, 10000);
	firewall_accept(fw, &r);
	finish(fw);
	ck_assert_str_eq(read_file(rules),
	    "FORWARD -i 0123456789abcde -o fedcba987654321 -s 255.255.255.255/32 "
	    "-d 255.255.255.254/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n");
	firewall_free(fw);
	teardown();
}
END_TEST

/* The texts of a rule are the caller's, and may go. */
START_TEST(copies_rules)
{
	char name[16] = "eth1";
	const struct firewall_rule r = {.in = name};
	struct firewall *fw;

	setup();
	fw = firewall_new(&loop, &reaper, program, 10000);
	firewall_accept(fw, &from_subnet);
	firewall_accept(fw, &r);
	memset(name, 'x', sizeof name - 1);
	finish(fw);
	ck_assert_str_eq(read_file(rules),
	    "FORWARD -i eth1 -j ACCEPT\n"
	    "FORWARD -s 172.20.0.0/16 -j ACCEPT\n");
	firewall_free(fw);
	teardown();
}
END_TEST

/* It would accept everything. */
START_TEST(ignores_a_rule_that_gives_nothing)
{
	struct firewall *fw;

	setup();
	fw = firewall_new(&loop, &reaper, program, 10000);
	firewall_accept(fw, &(struct firewall_rule){0});
	ck_assert(firewall_is_idle(fw));
	ck_assert_str_eq(read_file(calls), "");
	firewall_free(fw);
	teardown();
}
END_TEST

START_TEST(refuses_too_many_rules)
{
	struct firewall *fw;

	setup();
	fw = firewall_new(&loop, &reaper, program, 10000);
	for (unsigned i = 0; i < FIREWALL_RULES; i++)
		firewall_accept(fw, i % 2 ? &from_second : &to_second);
	ck_assert_uint_eq(logged("one is missing"), 0);
	firewall_accept(fw, &from_subnet);
	ck_assert_uint_eq(logged("one is missing"), 1);
	finish(fw);
	ck_assert_str_eq(read_file(rules),
	    "FORWARD -i eth1 -j ACCEPT\n"
	    "FORWARD -o eth1 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n");
	firewall_accept(fw, &from_subnet); /* there is room again */
	finish(fw);
	ck_assert_ptr_nonnull(strstr(read_file(rules), "172.20"));
	firewall_free(fw);
	teardown();
}
END_TEST

START_TEST(refuses_a_rule_that_is_too_long)
{
	char name[200] = {0};
	struct firewall *fw;

	setup();
	memset(name, 'x', sizeof name - 1);
	fw = firewall_new(&loop, &reaper, program, 10000);
	firewall_accept(fw, &(struct firewall_rule){.in = name});
	ck_assert(firewall_is_idle(fw));
	ck_assert_uint_eq(logged("one is missing"), 1);
	accept_all(fw);
	ck_assert_str_eq(read_file(rules), all_rules);
	firewall_free(fw);
	teardown();
}
END_TEST

/* The others are made all the same. */
static void check_failure(const char *how, const char *expected)
{
	struct firewall *fw;

	setup();
	write_file(mood, how, 0644);
	fw = firewall_new(&loop, &reaper, program, 10000);
	accept_all(fw);
	ck_assert_str_eq(read_file(rules),
	    "FORWARD -d 172.20.0.0/16 -j ACCEPT\n"
	    "FORWARD -o eth1 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
	    "FORWARD -i eth1 -j ACCEPT\n");
	ck_assert_uint_eq(logged("a rule is missing"), 1);
	ck_assert_uint_eq(logged("rule=\"-s 172.20.0.0/16 -j ACCEPT\""), 1);
	ck_assert_uint_eq(logged(expected), 1);
	ck_assert_uint_eq(logged("more"), 0);
	firewall_free(fw);
	teardown();
}

START_TEST(goes_on_after_a_refusal)
{
	check_failure("-s refuse\n", "status=2 message=\"iptables: no such thing\"\n");
}
END_TEST

START_TEST(goes_on_after_a_death)
{
	check_failure("-s die\n", "status=137 message=\"\"\n");
}
END_TEST

/* Only the exit status for it says that a rule is absent: when the look fails, it is not doubled.
 */
START_TEST(does_not_insert_after_a_look_that_failed)
{
	struct firewall *fw;

	setup();
	write_file(mood, "-C refuse\n", 0644);
	fw = firewall_new(&loop, &reaper, program, 10000);
	accept_all(fw);
	ck_assert_str_eq(read_file(rules), "");
	ck_assert_uint_eq(logged("a rule is missing"), 4);
	firewall_free(fw);
	teardown();
}
END_TEST

START_TEST(logs_an_insertion_that_failed)
{
	struct firewall *fw;

	setup();
	write_file(mood, "-I refuse\n", 0644);
	fw = firewall_new(&loop, &reaper, program, 10000);
	accept_all(fw);
	ck_assert_str_eq(read_file(rules), "");
	ck_assert_uint_eq(logged("a rule is missing"), 4);
	ck_assert_uint_eq(logged("Bad rule"), 0);
	firewall_free(fw);
	teardown();
}
END_TEST

/* The deadline is the only timer of the loop, and its time comes now. */
static void let_time_pass(void)
{
	ck_assert_ptr_nonnull(loop.timers);
	timer_at(loop.timers, 1);
}

START_TEST(kills_a_command_that_hangs)
{
	struct firewall *fw;

	setup();
	write_file(mood, "-s hang\n", 0644);
	fw = firewall_new(&loop, &reaper, program, 10000);
	firewall_accept(fw, &from_subnet);
	firewall_accept(fw, &to_subnet);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(loop_turn(&loop, 50), 0);
	ck_assert(!firewall_is_idle(fw));
	ck_assert_str_eq(read_file(calls), "-w 5 -C FORWARD -s 172.20.0.0/16 -j ACCEPT\n");
	let_time_pass();
	finish(fw);
	ck_assert_str_eq(read_file(rules), "FORWARD -d 172.20.0.0/16 -j ACCEPT\n");
	ck_assert_uint_eq(logged("iptables hangs"), 1);
	ck_assert_uint_eq(logged("missing"), 1);
	firewall_free(fw);
	teardown();
}
END_TEST

START_TEST(ends_at_any_time)
{
	setup();
	for (int turns = 0; turns < 6; turns++) {
		struct firewall *fw = firewall_new(&loop, &reaper, program, 10000);

		firewall_accept(fw, &from_subnet);
		firewall_accept(fw, &to_subnet);
		for (int i = 0; i < turns; i++)
			ck_assert_int_eq(loop_turn(&loop, 100), 0);
		firewall_free(fw);
		ck_assert_ptr_null(loop.timers);
	}
	write_file(mood, "-s hang\n", 0644);
	for (int i = 0; i < 3; i++) {
		struct firewall *fw = firewall_new(&loop, &reaper, program, 10000);

		firewall_accept(fw, &from_subnet);
		firewall_free(fw); /* teardown sees that the child has ended, too */
	}
	teardown();
}
END_TEST

START_TEST(does_without_the_program)
{
	struct firewall *fw;

	setup();
	ck_assert_int_eq(unlink(program), 0);
	fw = firewall_new(&loop, &reaper, program, 10000);
	accept_all(fw);
	ck_assert(firewall_is_idle(fw));
	ck_assert_uint_eq(logged("there is no iptables"), 1);
	ck_assert_uint_eq(logged("WARN"), 0);
	write_file(program, script, 0644); /* not executable */
	firewall_accept(fw, &from_second);
	ck_assert(!firewall_is_idle(fw)); /* not even its exec is waited for */
	finish(fw);
	ck_assert_uint_eq(logged("cannot start iptables"), 1);
	firewall_free(fw);
	teardown();
}
END_TEST

START_TEST(does_without_memory)
{
	setup();
	fault_arm("calloc", 1, ENOMEM, false);
	ck_assert_ptr_null(firewall_new(&loop, &reaper, program, 10000));
	ck_assert(fault_disarm());
	firewall_accept(NULL, &from_second);
	ck_assert(firewall_is_idle(NULL));
	firewall_free(NULL);
	teardown();
}
END_TEST

static void check_faults(const char *call, int err)
{
	FAULT_EACH(call, err)
	{
		struct firewall *fw = firewall_new(&loop, &reaper, program, 10000);

		firewall_accept(fw, &from_subnet);
		firewall_accept(fw, &to_subnet);
		finish(fw);
		firewall_free(fw);
		ck_assert_uint_eq(fault_fds(), fds);
	}
	/* Whatever failed, no rule was made twice. */
	ck_assert_ptr_null(strstr(strstr(read_file(rules), "-d") + 2, "-d"));
}

START_TEST(survives_faults)
{
	setup();
	check_faults("pipe2", EMFILE);
	check_faults("fork", EAGAIN);
	ck_assert_uint_ge(logged("cannot start iptables"), 4);
	teardown();
}
END_TEST

/* --- the real one ----------------------------------------------------------------------------- */

static const char *const places[] = {"/sbin/iptables", "/usr/sbin/iptables"};

static const char *real_iptables(void)
{
	for (size_t i = 0; i < sizeof places / sizeof *places; i++)
		if (access(places[i], X_OK) == 0)
			return places[i];
	return NULL;
}

/* The rules of the chain. False when it does not work here. */
static bool list_chain(const char *iptables, char *out, size_t cap)
{
	char command[128];
	size_t n;
	FILE *f;

	snprintf(command, sizeof command, "%s -S FORWARD 2>&1", iptables);
	f = popen(command, "r");
	ck_assert_ptr_nonnull(f);
	n = fread(out, 1, cap - 1, f);
	out[n] = '\0';
	return pclose(f) == 0;
}

static bool iptables_works(const char *iptables)
{
	char out[1024];

	return iptables && unshare(CLONE_NEWNET) == 0 && list_chain(iptables, out, sizeof out);
}

START_TEST(works_with_the_real_one)
{
	const char *iptables = real_iptables();
	struct firewall *fw;
	char chain[1024];

	setup();
	if (!iptables_works(iptables)) {
		skip_test("iptables does not work here");
		teardown();
		return;
	}
	for (int twice = 0; twice < 2; twice++) {
		fw = firewall_new(&loop, &reaper, iptables, 10000);
		accept_all(fw);
		firewall_free(fw);
	}
	ck_assert(list_chain(iptables, chain, sizeof chain));
	ck_assert_str_eq(chain,
	    "-P FORWARD ACCEPT\n"
	    "-A FORWARD -d 172.20.0.0/16 -j ACCEPT\n"
	    "-A FORWARD -s 172.20.0.0/16 -j ACCEPT\n"
	    "-A FORWARD -o eth1 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
	    "-A FORWARD -i eth1 -j ACCEPT\n");
	ck_assert_str_eq(read_file(log_path), "");
	teardown();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    makes_rules_once,
	    looks_before_it_inserts,
	    joins_all_that_a_rule_gives,
	    copies_rules,
	    ignores_a_rule_that_gives_nothing,
	    refuses_too_many_rules,
	    refuses_a_rule_that_is_too_long,
	    goes_on_after_a_refusal,
	    goes_on_after_a_death,
	    does_not_insert_after_a_look_that_failed,
	    logs_an_insertion_that_failed,
	    kills_a_command_that_hangs,
	    ends_at_any_time,
	    does_without_the_program,
	    does_without_memory,
	    survives_faults,
	    works_with_the_real_one,
	    NULL,
	};

	return suite_of("firewall", tests);
}
