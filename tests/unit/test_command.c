#include "session/command.h"

#include "cases.h"
#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <stdlib.h>

static struct command command;

static enum err read_text(const char *json)
{
	command_done(&command);
	command_init(&command);
	return command_read(&command, span_str(json));
}

/* The C strings of a queue, separated by '|'. */
static const char *joined(const struct queue *q)
{
	static char text[1024];
	struct span s = queue_span(q);

	ck_assert_uint_lt(s.n, sizeof text);
	if (s.n == 0)
		return "";
	memcpy(text, s.p, s.n);
	for (size_t i = 0; i + 1 < s.n; i++)
		if (text[i] == '\0')
			text[i] = '|';
	return text;
}

static const char whole[] = "{\"cmd\": [\"sh\", \"-c\", \"echo \\u00e4 \\\"\\n\", \"\"], "
			    "\"env\": {\"A\": \"1\", \"B_\\u0041\": \"\", \"C\": \"x=y\"}, "
			    "\"working_dir\": \"/tmp/\\u00fc\", \"user\": \"joe:users\", "
			    "\"tty\": true, \"tty_width\": 132, \"tty_height\": 65535, "
			    "\"timeout_seconds\": 4294967295}";

START_TEST(reads_every_member)
{
	ck_assert_int_eq(read_text(whole), E_OK);
	ck_assert_str_eq(joined(&command.args), "sh|-c|echo ä \"\n|");
	ck_assert_uint_eq(command.args.n, strlen("sh|-c|echo ä \"\n||"));
	ck_assert_str_eq(joined(&command.env), "A=1|B_A=|C=x=y");
	ck_assert_str_eq(command.working_dir, "/tmp/ü");
	ck_assert_str_eq(command.user, "joe:users");
	ck_assert(command.tty);
	ck_assert_uint_eq(command.size.width, 132);
	ck_assert_uint_eq(command.size.height, 65535);
	ck_assert_uint_eq(command.timeout_secs, UINT32_MAX);
}
END_TEST

static void is_refused(struct span cut, void *ctx)
{
	(void)ctx;
	command_done(&command);
	command_init(&command);
	if (cut.n < sizeof whole - 1)
		ck_assert_int_eq(command_read(&command, cut), E_MORE);
}

static void is_survived(struct span mutated, void *ctx)
{
	(void)ctx;
	command_done(&command);
	command_init(&command);
	if (command_read(&command, mutated) == E_OK && command.args.n > 0)
		ck_assert_uint_eq(queue_span(&command.args).p[command.args.n - 1], 0);
}

START_TEST(takes_no_cut_or_damaged_text)
{
	each_cut(span_of(whole, sizeof whole - 1), is_refused, NULL);
	each_mutation(span_of(whole, sizeof whole - 1), is_survived, NULL);
}
END_TEST

START_TEST(leaves_out_what_is_absent_null_or_unknown)
{
	ck_assert_int_eq(read_text("{\"cmd\":[\"ls\"],\"env\":null,\"working_dir\":null,\"user\":"
				   "null,\"tty\":null,\"tty_width\":null,\"tty_height\":null,"
				   "\"timeout_seconds\":null,\"more\":[{\"x\":1}]}"),
	    E_OK);
	ck_assert_str_eq(joined(&command.args), "ls");
	ck_assert_uint_eq(command.env.n, 0);
	ck_assert_str_eq(command.working_dir, "");
	ck_assert_str_eq(command.user, "");
	ck_assert(!command.tty);
	ck_assert_uint_eq(command.size.width, 0);
	ck_assert_uint_eq(command.timeout_secs, 0);
	ck_assert_int_eq(read_text("{}"), E_OK);
	ck_assert_uint_eq(command.args.n, 0);
}
END_TEST

START_TEST(the_later_of_two_lists_counts)
{
	ck_assert_int_eq(read_text("{\"cmd\":[\"a\",\"b\"],\"env\":{\"A\":\"1\",\"A\":\"2\"},"
				   "\"cmd\":[\"c\"],\"env\":{\"B\":\"3\"}}"),
	    E_OK);
	ck_assert_str_eq(joined(&command.args), "c");
	ck_assert_str_eq(joined(&command.env), "B=3");
}
END_TEST

START_TEST(refuses_what_cannot_be)
{
	static const struct {
		const char *json;
		enum err err;
	} rows[] = {
	    {"", E_MORE},
	    {"[]", E_MALFORMED},
	    {"\"ls\"", E_MALFORMED},
	    {"{} {}", E_MALFORMED},
	    {"{\"cmd\":\"ls\"}", E_MALFORMED},
	    {"{\"cmd\":[1]}", E_MALFORMED},
	    {"{\"cmd\":[\"a\\u0000b\"]}", E_MALFORMED},
	    {"{\"cmd\":[\"\xff\"]}", E_UTF8},
	    {"{\"env\":[]}", E_MALFORMED},
	    {"{\"env\":{\"A\":1}}", E_MALFORMED},
	    {"{\"env\":{\"\":\"1\"}}", E_MALFORMED},
	    {"{\"env\":{\"A=B\":\"1\"}}", E_MALFORMED},
	    {"{\"env\":{\"A\":\"\\u0000\"}}", E_MALFORMED},
	    {"{\"env\":{\"A\\u0000\":\"1\"}}", E_MALFORMED},
	    {"{\"working_dir\":\"\\u0000\"}", E_MALFORMED},
	    {"{\"working_dir\":7}", E_MALFORMED},
	    {"{\"user\":0}", E_MALFORMED},
	    {"{\"tty\":1}", E_MALFORMED},
	    {"{\"tty_width\":65536}", E_RANGE},
	    {"{\"tty_height\":-1}", E_MALFORMED},
	    {"{\"tty_height\":1.5}", E_MALFORMED},
	    {"{\"timeout_seconds\":4294967296}", E_RANGE},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		ck_assert_msg(read_text(rows[i].json) == rows[i].err, "%s: %s", rows[i].json,
		    err_text((int)read_text(rows[i].json)));
}
END_TEST

/* `before`, n times 'x', `after`. */
static char *stretched(const char *before, size_t n, const char *after)
{
	char *text = malloc(strlen(before) + n + strlen(after) + 1);

	ck_assert_ptr_nonnull(text);
	strcpy(text, before);
	memset(text + strlen(before), 'x', n);
	strcpy(text + strlen(before) + n, after);
	return text;
}

START_TEST(keeps_to_its_limits)
{
	static const struct {
		const char *before;
		size_t n;
		const char *after;
		enum err err;
	} rows[] = {
	    {"{\"cmd\":[\"", COMMAND_TEXT_BYTES - 1, "\"]}", E_OK},
	    {"{\"cmd\":[\"", COMMAND_TEXT_BYTES, "\"]}", E_LIMIT},
	    {"{\"cmd\":[\"", COMMAND_TEXT_BYTES - 1, "\",\"\"]}", E_LIMIT},
	    {"{\"env\":{\"A\":\"", COMMAND_TEXT_BYTES - 3, "\"}}", E_OK},
	    {"{\"env\":{\"A\":\"", COMMAND_TEXT_BYTES - 2, "\"}}", E_LIMIT},
	    {"{\"user\":\"", COMMAND_USER_BYTES - 1, "\"}", E_OK},
	    {"{\"user\":\"", COMMAND_USER_BYTES, "\"}", E_SPACE},
	    {"{\"working_dir\":\"", COMMAND_DIR_BYTES - 1, "\"}", E_OK},
	    {"{\"working_dir\":\"", COMMAND_DIR_BYTES, "\"}", E_SPACE},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char *text = stretched(rows[i].before, rows[i].n, rows[i].after);

		ck_assert_msg(read_text(text) == rows[i].err, "row %zu", i);
		free(text);
	}
}
END_TEST

START_TEST(is_built_piece_by_piece)
{
	char *large = stretched("", COMMAND_TEXT_BYTES, "");
	struct span all = span_of(large, COMMAND_TEXT_BYTES);

	ck_assert_int_eq(command_add_arg(&command, span_str("ls")), 0);
	ck_assert_int_eq(command_add_arg(&command, span_of(NULL, 0)), 0);
	ck_assert_int_eq(command_add_arg(&command, span_of("a\0b", 3)), -EINVAL);
	ck_assert_int_eq(command_add_arg(&command, all), -E2BIG);
	ck_assert_int_eq(command_add_env(&command, span_str("K"), span_str("v=w")), 0);
	ck_assert_int_eq(command_add_env(&command, span_str("L"), span_of(NULL, 0)), 0);
	ck_assert_int_eq(command_add_env(&command, span_of(NULL, 0), span_str("v")), -EINVAL);
	ck_assert_int_eq(command_add_env(&command, span_str("a=b"), span_str("v")), -EINVAL);
	ck_assert_int_eq(command_add_env(&command, span_of("\0", 1), span_str("v")), -EINVAL);
	ck_assert_int_eq(command_add_env(&command, span_str("K"), span_of("\0", 1)), -EINVAL);
	ck_assert_int_eq(command_add_env(&command, all, all), -E2BIG);
	ck_assert_int_eq(command_add_env(&command, span_str("K"), all), -E2BIG);
	ck_assert_str_eq(joined(&command.args), "ls|");
	ck_assert_str_eq(joined(&command.env), "K=v=w|L=");
	free(large);
}
END_TEST

START_TEST(says_that_memory_is_short)
{
	FAULT_EACH("malloc", ENOMEM)
	{
		enum err err = read_text(whole);

		ck_assert(err == E_OK || err == E_SPACE);
	}
	command_done(&command);
	command_init(&command);
	fault_arm("malloc", 1, ENOMEM, true);
	ck_assert_int_eq(command_add_arg(&command, span_str("ls")), -ENOMEM);
	ck_assert_int_eq(command_add_env(&command, span_str("K"), span_str("v")), -ENOMEM);
	ck_assert(fault_disarm());
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {reads_every_member, takes_no_cut_or_damaged_text,
	    leaves_out_what_is_absent_null_or_unknown, the_later_of_two_lists_counts,
	    refuses_what_cannot_be, keeps_to_its_limits, is_built_piece_by_piece,
	    says_that_memory_is_short, NULL};

	command_init(&command);
	return suite_of("command", tests);
}
