#include "base/log.h"

#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The clock that the code under test sees; the real one while this is 0. */
static struct timespec fake_now;

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	if (clock != CLOCK_REALTIME || fake_now.tv_sec == 0)
		return (int)syscall(SYS_clock_gettime, clock, ts);
	*ts = fake_now;
	return 0;
}

#define HEAD "2026-01-31T12:00:00.123Z "

static int sink[2]; /* a pipe; the log writes to [1] */

static void set_up(void)
{
	fake_now = (struct timespec){1769860800, 123999999};
	ck_assert_int_eq(pipe2(sink, O_NONBLOCK | O_CLOEXEC), 0);
	log_sinks(&sink[1], 1);
}

static void tear_down(void)
{
	close(sink[0]);
	close(sink[1]);
}

/* All that has been written since the last call, as a string. */
static const char *written(void)
{
	static char buf[65536 + 1];
	size_t n = 0;
	ssize_t got;

	while ((got = read(sink[0], buf + n, sizeof buf - 1 - n)) > 0)
		n += (size_t)got;
	buf[n] = '\0';
	return buf;
}

/* --- lines ------------------------------------------------------------------------------------ */

START_TEST(a_line_has_the_documented_format)
{
	set_up();
	log_warn(
	    "dns", "upstream does not answer", KV_STR("server", "10.0.2.1:53"), KV_NUM("tries", 2));
	ck_assert_str_eq(
	    written(), HEAD "WARN dns: upstream does not answer server=10.0.2.1:53 tries=2\n");
	log_error("rpc", "gone");
	ck_assert_str_eq(written(), HEAD "ERROR rpc: gone\n");
	log_info("rpc", "up");
	ck_assert_str_eq(written(), HEAD "INFO rpc: up\n");
	tear_down();
}
END_TEST

START_TEST(numbers_are_written_whole)
{
	set_up();
	log_info("m", "n", KV_NUM("a", 0), KV_NUM("b", -1), KV_NUM("c", INT64_MIN),
	    KV_NUM("d", INT64_MAX), KV_NUM("e", (uint8_t)7));
	ck_assert_str_eq(written(),
	    HEAD "INFO m: n a=0 b=-1 c=-9223372036854775808 d=9223372036854775807 e=7\n");
	log_info("m", "h", KV_HEX("a", 0), KV_HEX("b", 0x10), KV_HEX("c", UINT64_MAX));
	ck_assert_str_eq(written(), HEAD "INFO m: h a=0x0 b=0x10 c=0xffffffffffffffff\n");
	log_info("m", "e", KV_ERR(-ENOENT));
	ck_assert_str_eq(written(), HEAD "INFO m: e error=\"No such file or directory\"\n");
	log_info("m", "e", KV_ERR(E_UNKNOWN));
	ck_assert_str_eq(written(), HEAD "INFO m: e error=unknown\n");
	tear_down();
}
END_TEST

START_TEST(values_are_escaped)
{
	static const struct {
		struct span value;
		const char *text;
	} cases[] = {
	    {SPAN_LIT("plain-._:/@[]{}~!"), "plain-._:/@[]{}~!"},
	    {SPAN_LIT(""), "\"\""},
	    {{NULL, 0}, "\"\""},
	    {SPAN_LIT("two words"), "\"two words\""},
	    {SPAN_LIT("a=b"), "\"a=b\""},
	    {SPAN_LIT("say \"hi\""), "\"say \\\"hi\\\"\""},
	    {SPAN_LIT("back\\slash"), "\"back\\\\slash\""},
	    {SPAN_LIT("a\nERROR forged: line\n"), "\"a\\nERROR forged: line\\n\""},
	    {SPAN_LIT("\t\r\0\x1b[31m\x7f"), "\"\\t\\x0d\\x00\\x1b[31m\\x7f\""},
	    {SPAN_LIT("gr\xc3\xbc\xc3\x9f"), "\"gr\xc3\xbc\xc3\x9f\""},
	    {SPAN_LIT("\xf0\x9f\x90\xb3"), "\"\xf0\x9f\x90\xb3\""},
	    {SPAN_LIT("\xff\xfe"), "\"\\xff\\xfe\""},
	    {SPAN_LIT("a\xc3"), "\"a\\xc3\""},
	    {SPAN_LIT("\xc0\xaf"), "\"\\xc0\\xaf\""},
	    {SPAN_LIT("\xed\xa0\x80"), "\"\\xed\\xa0\\x80\""},
	    {SPAN_LIT("\xc2\x9b"), "\"\\xc2\\x9b\""},
	    {SPAN_LIT("\xe2\x80\xa8"), "\"\\xe2\\x80\\xa8\""},
	};

	set_up();
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char expected[128];

		snprintf(expected, sizeof expected, HEAD "INFO m: x v=%s\n", cases[i].text);
		log_info("m", "x", KV_SPAN("v", cases[i].value));
		ck_assert_str_eq(written(), expected);
	}
	log_info("m", "x", KV_STR("v", "a b"), KV_STR("w", NULL));
	ck_assert_str_eq(written(), HEAD "INFO m: x v=\"a b\" w=\"\"\n");
	tear_down();
}
END_TEST

START_TEST(no_value_ends_its_line)
{
	set_up();
	for (unsigned c = 0; c < 65536; c += 7) {
		uint8_t bytes[] = {(uint8_t)(c >> 8), (uint8_t)c, 'x'};
		const char *line;

		log_info("m", "x", KV_SPAN("v", span_of(bytes, sizeof bytes)));
		line = written();
		ck_assert_ptr_eq(strchr(line, '\n'), line + strlen(line) - 1);
		for (const char *p = line; p[1]; p++)
			if ((uint8_t)*p < 0x20 || *p == 0x7f)
				ck_abort_msg("a raw control byte: %s", line);
	}
	tear_down();
}
END_TEST

/* --- long lines ------------------------------------------------------------------------------- */

/* Logs a value of n times `unit`, and returns the line. */
static const char *long_line(const char *unit, size_t n)
{
	static uint8_t value[8 * LOG_LINE_BYTES];
	size_t size = strlen(unit);

	for (size_t i = 0; i < n; i++)
		memcpy(value + i * size, unit, size);
	log_info("m", "x", KV_SPAN("v", span_of(value, n * size)));
	return written();
}

static bool has_suffix(const char *s, const char *suffix)
{
	return span_ends(span_str(s), span_str(suffix));
}

START_TEST(a_line_that_is_too_long_is_cut_and_marked)
{
	static const struct {
		const char *unit, *end;
	} cases[] = {
	    {"a", "a [cut]\n"},
	    {"a ", "\" [cut]\n"},
	    {"\n", "\\n\" [cut]\n"},
	    {"\x01", "\\x01\" [cut]\n"},
	    {"\xe2\x82\xac", "\xe2\x82\xac\" [cut]\n"},
	};

	set_up();
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		bool cut = false;

		for (size_t n = 200; n < 1100; n++) {
			const char *line = long_line(cases[i].unit, n);

			ck_assert_uint_le(strlen(line), LOG_LINE_BYTES);
			ck_assert_ptr_eq(strchr(line, '\n'), line + strlen(line) - 1);
			ck_assert(!cut || has_suffix(line, cases[i].end));
			cut = has_suffix(line, " [cut]\n");
		}
		ck_assert(cut);
	}
	ck_assert_uint_eq(strlen(long_line("a", 8 * LOG_LINE_BYTES)), LOG_LINE_BYTES - 1);
	tear_down();
}
END_TEST

START_TEST(what_follows_a_cut_is_left_out)
{
	static const char big[2 * LOG_LINE_BYTES] = "begins";
	const char *line;

	set_up();
	log_info("m", "x", KV_SPAN("v", span_of(big, sizeof big)), KV_NUM("n", 1),
	    KV_STR("after", "wards"));
	line = written();
	ck_assert(has_suffix(line, "\\x00\" [cut]\n"));
	ck_assert_ptr_null(strstr(line, "after"));
	tear_down();
}
END_TEST

/* --- time ------------------------------------------------------------------------------------- */

static void check_time(time_t secs)
{
	char expected[64];
	struct tm tm;

	fake_now = (struct timespec){secs, 7000000};
	ck_assert_ptr_nonnull(gmtime_r(&secs, &tm));
	ck_assert_uint_gt(
	    strftime(expected, sizeof expected, "%Y-%m-%dT%H:%M:%S.007Z INFO m: x\n", &tm), 0);
	log_info("m", "x");
	ck_assert_str_eq(written(), expected);
}

START_TEST(times_are_those_of_the_calendar)
{
	static const time_t edges[] = {
	    1,           /* 1970-01-01T00:00:01 */
	    951782399,   /* 2000-02-28T23:59:59 */
	    951782400,   /* 2000-02-29 */
	    951868800,   /* 2000-03-01 */
	    2147483648,  /* 2038-01-19T03:14:08 */
	    4107542399,  /* 2100-02-28T23:59:59: no leap day follows */
	    4107542400,  /* 2100-03-01 */
	    253402300799 /* 9999-12-31T23:59:59 */
	};

	set_up();
	for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
		check_time(edges[i]);
	/* a day and a bit at a time, through two of the 400-year eras */
	for (time_t secs = 1; secs < 20000000000; secs += 37 * 86401)
		check_time(secs);
	fake_now = (struct timespec){-5, 0};
	log_info("m", "x");
	ck_assert_str_eq(written(), "1970-01-01T00:00:00.000Z INFO m: x\n");
	tear_down();
}
END_TEST

/* --- filters ---------------------------------------------------------------------------------- */

static enum err set_filter(const char *text)
{
	struct span bad;

	return log_filter(span_str(text), &bad);
}

/* The most talkative level that is on for a module; -1 for none. */
static int on(const char *module)
{
	int top = -1;

	for (int level = LOG_ERROR; level <= LOG_TRACE; level++) {
		if (log_on((enum log_level)level, module)) {
			ck_assert_int_eq(top, level - 1);
			top = level;
		}
	}
	return top;
}

START_TEST(filters_choose_levels)
{
	ck_assert_int_eq(on("dns"), LOG_INFO);
	ck_assert_int_eq(set_filter("warn,dns=debug"), E_OK);
	ck_assert_int_eq(on("dns"), LOG_DEBUG);
	ck_assert_int_eq(on("dnsx"), LOG_WARN);
	ck_assert_int_eq(on("dn"), LOG_WARN);
	ck_assert_int_eq(set_filter("off"), E_OK);
	ck_assert_int_eq(on("dns"), -1);
	ck_assert_int_eq(set_filter("dns=TRACE, rpc = Off ,\terror "), E_OK);
	ck_assert_int_eq(on("dns"), LOG_TRACE);
	ck_assert_int_eq(on("rpc"), -1);
	ck_assert_int_eq(on("x"), LOG_ERROR);
	ck_assert_int_eq(set_filter("dns=warn,dns=debug"), E_OK);
	ck_assert_int_eq(on("dns"), LOG_DEBUG);
	ck_assert_int_eq(on("x"), LOG_INFO);
}
END_TEST

START_TEST(what_is_filtered_is_not_written)
{
	set_up();
	ck_assert_int_eq(set_filter("warn,dns=debug"), E_OK);
	log_info("rpc", "x");
	log_debug("rpc", "x");
	ck_assert_str_eq(written(), "");
	log_debug("dns", "x");
	ck_assert_str_eq(written(), HEAD "DEBUG dns: x\n");
	tear_down();
}
END_TEST

START_TEST(bad_filters_change_nothing)
{
	static const struct {
		const char *text, *bad;
	} cases[] = {
	    {"", ""},
	    {"loud", "loud"},
	    {"warn,dns=loud,info", "dns=loud"},
	    {"warn,=info", "=info"},
	    {"warn,dns=", "dns="},
	    {"warn,", ""},
	    {"warn,dns=info=debug", "dns=info=debug"},
	    {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=info",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=info"},
	};

	ck_assert_int_eq(set_filter("error"), E_OK);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct span bad = span_str("untouched");

		ck_assert_int_eq(log_filter(span_str(cases[i].text), &bad), E_MALFORMED);
		ck_assert(span_eq_str(bad, cases[i].bad));
		ck_assert_int_eq(on("dns"), LOG_ERROR);
	}
}
END_TEST

START_TEST(filters_have_a_limited_number_of_modules)
{
	char text[8 * (LOG_FILTERS + 1) + 1] = "";

	for (int i = 0; i < LOG_FILTERS; i++)
		snprintf(text + strlen(text), sizeof text - strlen(text), "%sm%02d=off",
		    i ? "," : "", i);
	ck_assert_int_eq(set_filter(text), E_OK);
	ck_assert_int_eq(on("m00"), -1);
	ck_assert_int_eq(on("m15"), -1);
	strcat(text, ",m=off");
	ck_assert_int_eq(set_filter(text), E_LIMIT);
	ck_assert_int_eq(on("m"), LOG_INFO);
}
END_TEST

/* --- sinks ------------------------------------------------------------------------------------ */

START_TEST(a_full_sink_loses_lines_and_says_how_many)
{
	unsigned sent = 0, got = 0;

	set_up();
	while (log_lost() < 3) {
		log_info("m", "x");
		sent++;
	}
	for (const char *p = written(); (p = strstr(p, HEAD "INFO m: x\n")) != NULL; p++)
		got++;
	ck_assert_uint_eq(got, sent - 3);
	log_info("m", "y");
	ck_assert_str_eq(written(), HEAD "WARN log: 3 lines lost\n" HEAD "INFO m: y\n");
	log_info("m", "z");
	ck_assert_str_eq(written(), HEAD "INFO m: z\n");
	ck_assert_uint_eq(log_lost(), 3);
	tear_down();
}
END_TEST

START_TEST(a_failed_write_loses_the_line)
{
	set_up();
	fault_arm("write", 1, EAGAIN, false);
	log_info("m", "x");
	ck_assert(fault_disarm());
	/* this time the line about the loss is lost, and the one behind it with it */
	fault_arm("write", 1, ENOSPC, false);
	log_info("m", "x");
	ck_assert(fault_disarm());
	ck_assert_uint_eq(log_lost(), 2);
	/* and this time only the line itself */
	fault_arm("write", 2, EIO, false);
	log_info("m", "x");
	ck_assert(fault_disarm());
	ck_assert_str_eq(written(), HEAD "WARN log: 2 lines lost\n");
	log_info("m", "y");
	ck_assert_str_eq(written(), HEAD "WARN log: 1 line lost\n" HEAD "INFO m: y\n");
	tear_down();
}
END_TEST

START_TEST(a_torn_line_is_ended_before_the_next)
{
	set_up();
	fault_short(10);
	log_info("m", "x");
	fault_short(0);
	ck_assert_uint_eq(log_lost(), 1);
	log_info("m", "y");
	ck_assert_str_eq(
	    written(), "2026-01-31\n" HEAD "WARN log: 1 line lost\n" HEAD "INFO m: y\n");
	log_info("m", "z");
	ck_assert_str_eq(written(), HEAD "INFO m: z\n");
	tear_down();
}
END_TEST

START_TEST(a_blocking_sink_does_not_block)
{
	set_up();
	ck_assert_int_eq(fcntl(sink[1], F_SETFL, 0), 0);
	for (int i = 0; i < 5000; i++)
		log_info("m", "x");
	ck_assert_uint_gt(log_lost(), 0);
	written();
	log_info("m", "y");
	ck_assert(has_suffix(written(), " lines lost\n" HEAD "INFO m: y\n"));
	tear_down();
}
END_TEST

START_TEST(a_reader_that_vanished_does_no_harm)
{
	set_up();
	close(sink[0]);
	log_info("m", "x"); /* SIGPIPE would end the test */
	ck_assert_uint_eq(log_lost(), 1);
	close(sink[1]);
	log_info("m", "x");
	ck_assert_uint_eq(log_lost(), 2);
}
END_TEST

START_TEST(sinks_lose_lines_one_by_one)
{
	int both[2];

	set_up();
	both[0] = open("/dev/full", O_WRONLY | O_CLOEXEC);
	both[1] = sink[1];
	log_sinks(both, 2);
	log_info("m", "x");
	log_info("m", "y");
	ck_assert_str_eq(written(), HEAD "INFO m: x\n" HEAD "INFO m: y\n");
	ck_assert_uint_eq(log_lost(), 2);
	close(both[0]);
	tear_down();
}
END_TEST

START_TEST(sinks_beyond_the_limit_are_left_out)
{
	int three[3];

	set_up();
	three[0] = three[1] = three[2] = sink[1];
	log_sinks(three, 3);
	log_info("m", "x");
	ck_assert_str_eq(written(), HEAD "INFO m: x\n" HEAD "INFO m: x\n");
	tear_down();
}
END_TEST

START_TEST(without_sinks_standard_error_is_used)
{
	int kept = dup(2);

	set_up();
	ck_assert_int_eq(dup2(sink[1], 2), 2);
	log_sinks(NULL, 0);
	log_info("m", "x");
	dup2(kept, 2);
	close(kept);
	ck_assert_str_eq(written(), HEAD "INFO m: x\n");
	tear_down();
}
END_TEST

START_TEST(errno_is_left_alone)
{
	set_up();
	errno = ENOTTY;
	fault_arm("write", 1, EIO, false);
	log_info("m", "x");
	fault_disarm();
	ck_assert_int_eq(errno, ENOTTY);
	tear_down();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    a_line_has_the_documented_format,
	    numbers_are_written_whole,
	    values_are_escaped,
	    no_value_ends_its_line,
	    a_line_that_is_too_long_is_cut_and_marked,
	    what_follows_a_cut_is_left_out,
	    times_are_those_of_the_calendar,
	    filters_choose_levels,
	    what_is_filtered_is_not_written,
	    bad_filters_change_nothing,
	    filters_have_a_limited_number_of_modules,
	    a_full_sink_loses_lines_and_says_how_many,
	    a_failed_write_loses_the_line,
	    a_torn_line_is_ended_before_the_next,
	    a_blocking_sink_does_not_block,
	    a_reader_that_vanished_does_no_harm,
	    sinks_lose_lines_one_by_one,
	    sinks_beyond_the_limit_are_left_out,
	    without_sinks_standard_error_is_used,
	    errno_is_left_alone,
	    NULL,
	};

	return suite_of("log", tests);
}
