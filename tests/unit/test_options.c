#include "agent/option_text.h"

#include "base/cursor.h"
#include "fault.h"
#include "suite.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct options o;

static bool parse(const char *first, const char *second, struct option_problem *p)
{
	char *argv[] = {(char *)"agent", (char *)first, (char *)second, NULL};

	options_default(&o);
	return options_parse(&o, second ? 3 : 2, argv, p);
}

static void check_good(const char *first, const char *second)
{
	struct option_problem p;

	ck_assert_msg(parse(first, second, &p), "%s %s", first, second ? second : "");
}

static void check_bad(const char *first, const char *second, const char *line)
{
	struct option_problem p;
	char text[512];

	ck_assert(!parse(first, second, &p));
	ck_assert_str_eq(option_problem_text(&p, text, sizeof text), line);
}

START_TEST(defaults_are_those_of_the_rows)
{
	options_default(&o);
	ck_assert_uint_eq(o.listen.n, 1);
	ck_assert_str_eq(o.listen.values[0], "vsock:1024");
	ck_assert_uint_eq(o.proxy.n, 2);
	ck_assert_str_eq(o.dns, "0.0.0.0:53");
	ck_assert_uint_eq(o.max_frame_bytes, 16u << 20);
	ck_assert_uint_eq(o.park_ms, 30000);
	ck_assert_ptr_null(o.dns_hosts);
	ck_assert(!o.set_clock);
}
END_TEST

/* A default that its own row would refuse could not be written on the command line. */
START_TEST(every_default_is_legal)
{
	char text[128], arg[256];

	for (size_t i = 0; i < option_row_count; i++) {
		const struct option_row *row = &option_rows[i];
		struct wr w = wr_of(arg, sizeof arg);

		wr_str(&w, "--");
		wr_str(&w, row->name);
		if (row->kind == OPTION_LIST) {
			for (size_t k = 0; k < 3 && row->text[k]; k++) {
				w.n = 2 + strlen(row->name);
				wr_str(&w, "=");
				wr_str(&w, row->text[k]);
				wr_nul(&w);
				check_good(arg, NULL);
			}
		} else if (row->kind != OPTION_SWITCH &&
		    (row->kind != OPTION_TEXT || row->text[0])) {
			wr_str(&w, "=");
			wr_str(&w, option_default_text(row, text, sizeof text));
			wr_nul(&w);
			check_good(arg, NULL);
		}
		ck_assert(row->min <= row->number && row->number <= row->max);
	}
}
END_TEST

START_TEST(every_kind_is_read)
{
	check_good("--dns-bare-dotted", NULL);
	ck_assert(o.dns_bare_dotted);
	check_good("--dns", "off");
	ck_assert_str_eq(o.dns, "off");
	check_good("--listen=unix:/a", "--listen=vsock:7");
	ck_assert_uint_eq(o.listen.n, 2);
	ck_assert_str_eq(o.listen.values[1], "vsock:7");
	check_good("--max-frame", "64K");
	ck_assert_uint_eq(o.max_frame_bytes, 65536);
	check_good("--park-time=2m", NULL);
	ck_assert_uint_eq(o.park_ms, 120000);
	check_good("--dns-ttl", "0");
	ck_assert_uint_eq(o.dns_ttl_secs, 0);
	check_good("--max-reads", "64");
	ck_assert_uint_eq(o.max_reads, 64);
	check_good("--dns-name", "db.shop=fd00::1");
	check_good("--proxy", "unix:/a=tcp:127.0.0.1:80");
}
END_TEST

START_TEST(what_is_wrong_is_said_in_one_line)
{
	check_bad("--nope", NULL, "unknown option '--nope'; --help lists them");
	check_bad("file", NULL, "unknown option 'file'; --help lists them");
	check_bad("--dns", NULL, "option --dns needs a value: answer DNS there, or off");
	check_bad("--set-clock=1", NULL, "option --set-clock takes no value");
	check_bad("--dns", "1.2.3.4",
	    "option --dns: '1.2.3.4' is malformed (wanted ADDR:PORT: answer DNS there, or off)");
	check_bad("--allow-peer", "host",
	    "option --allow-peer: 'host' is malformed (wanted CID: CID that may connect over "
	    "vsock; repeatable)");
	check_bad("--max-reads", "65", "option --max-reads: '65' is out of range (wanted 1 to 64)");
	check_bad(
	    "--max-frame", "12x", "option --max-frame: '12x' is malformed (wanted 1K to 64M)");
	check_bad("--park-time", "5", "option --park-time: '5' is malformed (wanted 0s to 60m)");
}
END_TEST

START_TEST(an_option_repeats_so_often_and_no_more)
{
	char *argv[OPTIONS_LIST + 3] = {(char *)"agent"};
	struct option_problem p;

	for (int i = 1; i <= OPTIONS_LIST + 1; i++)
		argv[i] = (char *)"--allow-peer=3";
	options_default(&o);
	ck_assert(options_parse(&o, OPTIONS_LIST + 1, argv, &p));
	ck_assert_uint_eq(o.allow_peer.n, OPTIONS_LIST);
	ck_assert(!options_parse(&o, OPTIONS_LIST + 2, argv, &p));
	ck_assert_int_eq(p.err, E_LIMIT);
}
END_TEST

static unsigned wrongs;

static void count_wrong(const struct option_problem *p)
{
	ck_assert_ptr_nonnull(p->row);
	wrongs++;
}

START_TEST(the_kernel_command_line_sets_options)
{
	wrongs = 0;
	options_default(&o);
	options_kernel(&o,
	    "quiet arcbox.dns_ttl=9 arcbox.set_clock arcbox.dns_bare_dotted=1 arcbox.max_reads=99 "
	    "arcbox.unknown=1 "
	    "arcbox.dns arcbox.listen=vsock:5\tarcbox.listen=vsock:6 dns_ttl=1\n",
	    count_wrong);
	ck_assert_uint_eq(o.dns_ttl_secs, 9);
	ck_assert(o.set_clock && o.dns_bare_dotted);
	ck_assert_uint_eq(o.max_reads, 4);
	ck_assert_uint_eq(o.listen.n, 2);
	ck_assert_str_eq(o.listen.values[1], "vsock:6");
	ck_assert_uint_eq(wrongs, 2); /* max_reads, and dns without a value */
}
END_TEST

START_TEST(the_command_line_wins_over_the_kernels)
{
	char *argv[] = {(char *)"agent", (char *)"--allow-peer=3", (char *)"--allow-peer=4", NULL};
	struct option_problem p;

	options_default(&o);
	options_kernel(
	    &o, "arcbox.allow_peer=7 arcbox.allow_peer=8 arcbox.listen=vsock:5", count_wrong);
	ck_assert(options_parse(&o, 3, argv, &p));
	ck_assert_uint_eq(o.allow_peer.n, 2);
	ck_assert_str_eq(o.allow_peer.values[0], "3");
	ck_assert_str_eq(o.listen.values[0], "vsock:5");
}
END_TEST

static const char *docker_proxy(const char *variable, const char *cmdline)
{
	options_default(&o);
	options_docker_port(&o, variable, cmdline);
	return o.proxy.values[0];
}

START_TEST(the_docker_port_has_older_settings)
{
	const char *preset = "vsock:2375=unix:/var/run/docker.sock";

	ck_assert_str_eq(docker_proxy(NULL, ""), preset);
	ck_assert_str_eq(docker_proxy("99", "arcbox.guest_docker_vsock_port=7"),
	    "vsock:99=unix:/var/run/docker.sock");
	ck_assert_str_eq(docker_proxy("x", "a arcbox.guest_docker_vsock_port=7\n"),
	    "vsock:7=unix:/var/run/docker.sock");
	ck_assert_str_eq(docker_proxy("-1", "arcbox.guest_docker_vsock_port=0"), preset);
	ck_assert_str_eq(docker_proxy("", "arcbox.guest_docker_vsock_port="), preset);
}
END_TEST

START_TEST(help_has_every_row)
{
	static char text[32768];
	ssize_t n, all = 0;
	int fds[2];

	ck_assert_int_eq(pipe(fds), 0);
	options_help(fds[1]);
	close(fds[1]);
	while ((n = read(fds[0], text + all, sizeof text - 1 - (size_t)all)) > 0)
		all += n;
	close(fds[0]);
	for (size_t i = 0; i < option_row_count; i++) {
		ck_assert_ptr_nonnull(strstr(text, option_rows[i].name));
		ck_assert_ptr_nonnull(strstr(text, option_rows[i].help));
	}
}
END_TEST

START_TEST(one_word_is_a_command)
{
	check_good("init", NULL);
	ck_assert_int_eq(o.command, COMMAND_INIT);
	check_good("--log=debug", "serve");
	ck_assert_int_eq(o.command, COMMAND_SERVE);
	check_good("--log=debug", NULL);
	ck_assert_int_eq(o.command, COMMAND_ALL);
	check_bad("init", "serve", "unknown option 'serve'; --help lists them");
	check_bad("run", NULL, "unknown option 'run'; --help lists them");
}
END_TEST

START_TEST(what_brings_a_system_up)
{
	check_good("--hostname=web-1.example", "--keep-root");
	ck_assert_str_eq(o.hostname, "web-1.example");
	ck_assert(o.keep_root);
	ck_assert_uint_eq(o.docker_dns.n, 1);
	ck_assert_str_eq(o.docker_dns.values[0], "10.0.2.1");
	check_good("--docker-dns=1.1.1.1", "--docker-dns=fd00::1");
	ck_assert_uint_eq(o.docker_dns.n, 2);
	check_bad("--docker-dns=dns.example", NULL,
	    "option --docker-dns: 'dns.example' is malformed (wanted ADDR: resolver that dockerd "
	    "gives to "
	    "containers; repeatable)");
	check_bad("--hostname=no name", NULL,
	    "option --hostname: 'no name' is malformed (wanted NAME: the guest's name; else the "
	    "one that "
	    "DHCP gives, else arcbox)");
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    defaults_are_those_of_the_rows,
	    every_default_is_legal,
	    every_kind_is_read,
	    what_is_wrong_is_said_in_one_line,
	    an_option_repeats_so_often_and_no_more,
	    the_kernel_command_line_sets_options,
	    the_command_line_wins_over_the_kernels,
	    the_docker_port_has_older_settings,
	    help_has_every_row,
	    one_word_is_a_command,
	    what_brings_a_system_up,
	    NULL,
	};

	return suite_of("options", tests);
}
