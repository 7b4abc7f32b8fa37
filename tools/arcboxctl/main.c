/* arcboxctl - the host's client of arcbox-agent: options, help, and the way to a command. */
#include "base/parse.h"
#include "commands.h"
#include "print.h"

#include <getopt.h>
#include <stdlib.h>
#include <unistd.h>

/* --- options ---------------------------------------------------------------------------------- */

enum kind { SWITCH, TEXT, NUMBER, BYTES, DURATION };

struct option_row {
	char letter;
	const char *name;
	const char *value;   /* what stands for the value in the help; NULL for a switch */
	const char *command; /* the only one that takes it; NULL: all do */
	enum kind kind;
	size_t offset;     /* in struct settings */
	uint64_t min, max; /* of a number, in its unit */
	const char *help;
};

#define AT(member) offsetof(struct settings, member)
#define DAY_MS     (24 * 60 * 60 * UINT64_C(1000))

static const struct option_row rows[] = {
    {'H', "host", "HOST", NULL, TEXT, AT(host), 0, 0, "where the agent is; else $ARCBOX_HOST"},
    {'j', "json", NULL, NULL, SWITCH, AT(json), 0, 0, "write JSON, one line for each answer"},
    {'t', "timeout", "TIME", NULL, DURATION, AT(timeout_ms), 1, DAY_MS,
	"for the connection and for each answer, like 500ms, 5s or 2m"},
    {'c', "count", "N", "ping", NUMBER, AT(count), 1, UINT32_MAX, "ask N times"},
    {'s', "start", NULL, "ensure", SWITCH, AT(start), 0, 0, "start the runtime if it is not up"},
    {'o', "output", "FILE", "read", TEXT, AT(output), 0, 0, "write the file here"},
    {'O', "offset", "BYTES", "read", BYTES, AT(offset_bytes), 0, INT64_MAX, "start there"},
    {'l', "length", "BYTES", "read", BYTES, AT(length_bytes), 0, INT64_MAX, "at most so much"},
    {'g', "grace", "SECONDS", "shutdown", NUMBER, AT(grace_secs), 0, UINT32_MAX,
	"what services get to stop; 0 = the agent's own"},
    {'h', "help", NULL, NULL, SWITCH, AT(help), 0, 0, "show this"},
    {'V', "version", NULL, NULL, SWITCH, AT(version), 0, 0, "show the version"},
};

enum { ROWS = sizeof rows / sizeof *rows };

static const struct option_row *row_of(int letter)
{
	for (size_t i = 0; i < ROWS; i++)
		if (rows[i].letter == letter)
			return &rows[i];
	return NULL;
}

static enum err set_option(struct settings *s, const struct option_row *row, const char *value)
{
	void *at = (uint8_t *)s + row->offset;

	switch (row->kind) {
	case SWITCH: *(bool *)at = true; return E_OK;
	case TEXT: *(const char **)at = value; return E_OK;
	case NUMBER: return parse_u64(span_str(value), row->min, row->max, at);
	case BYTES: return parse_size(span_str(value), row->min, row->max, at);
	default: return parse_duration_ms(span_str(value), row->min, row->max, at);
	}
}

/* What getopt_long wants, from the rows. */
static void getopt_tables(struct option longs[ROWS + 1], char shorts[2 * ROWS + 2])
{
	*shorts++ = ':'; /* tells a missing value from an unknown option */
	for (size_t i = 0; i < ROWS; i++) {
		const struct option_row *row = &rows[i];

		longs[i] = (struct option){row->name, row->value != NULL, NULL, row->letter};
		*shorts++ = row->letter;
		if (row->value)
			*shorts++ = ':';
	}
	*shorts = '\0';
	longs[ROWS] = (struct option){0};
}

static int usage(const char *what, const char *which, const char *advice)
{
	return fail(EXIT_USAGE, "%s \"%s\": %s; see arcboxctl --help", what, which, advice);
}

/* Reads all options, wherever they stand; given[letter] tells which were there. Returns 0 or
 * EXIT_USAGE. */
static int read_options(struct settings *s, int argc, char **argv, bool given[UINT8_MAX + 1])
{
	struct option longs[ROWS + 1];
	char shorts[2 * ROWS + 2];
	int letter;

	getopt_tables(longs, shorts);
	opterr = 0;
	while ((letter = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		const struct option_row *row = row_of(letter);
		enum err err;

		if (!row)
			return usage("option", argv[optind - 1],
			    letter == ':' ? "it needs a value" : "there is no such option here");
		err = set_option(s, row, optarg);
		if (err)
			return fail(EXIT_USAGE, "--%s \"%s\": %s; see arcboxctl --help", row->name,
			    optarg, err_text((int)err));
		given[(uint8_t)letter] = true;
	}
	return 0;
}

/* --- help ------------------------------------------------------------------------------------- */

static void print_option(const struct option_row *row)
{
	char left[32];

	snprintf(left, sizeof left, "-%c, --%s%s%s", row->letter, row->name, row->value ? "=" : "",
	    row->value ? row->value : "");
	printf("  %-24s %s%s%s\n", left, row->command ? row->command : "", row->command ? ": " : "",
	    row->help);
}

static int help(void)
{
	fputs("usage: arcboxctl [-H HOST] [OPTION...] COMMAND [ARGUMENT...]\n\n"
	      "Asks the arcbox-agent of a guest.\n\nCommands:\n",
	    stdout);
	for (size_t i = 0; i < command_count; i++) {
		char left[32];

		snprintf(left, sizeof left, "%s %s", commands[i].name, commands[i].args);
		printf("  %-18s %s\n", left, commands[i].help);
	}
	fputs("\nOptions:\n", stdout);
	for (size_t i = 0; i < ROWS; i++)
		print_option(&rows[i]);
	fputs("\nHOST is one of\n"
	      "  vsock:CID[:PORT]   a guest by its context id; port 1024 unless given\n"
	      "  unix:PATH          a unix socket that the agent, or a relay to it, listens on\n"
	      "  fc:PATH[:PORT]     a Firecracker guest, by the VM's unix socket for vsock\n"
	      "\nExit status:\n"
	      "  0  the agent did what was asked\n"
	      "  1  the agent answered with an error, or: not ready, not accepted\n"
	      "  2  the command line is wrong\n"
	      "  3  there is no connection\n"
	      "  4  the answer did not come in time, broke off, or makes no sense\n"
	      "  5  something here failed: a file, memory\n"
	      "\nExamples:\n"
	      "  export ARCBOX_HOST=vsock:3\n"
	      "  arcboxctl ping -c 3\n"
	      "  arcboxctl status --json | jq -r '.services[] | .name + \" \" + .status'\n"
	      "  arcboxctl ensure --start --timeout=5m\n"
	      "  arcboxctl read /var/log/dockerd.log --output=dockerd.log\n"
	      "  arcboxctl -H fc:/run/vm/v.sock raw SandboxListRequest\n",
	    stdout);
	return EXIT_OK;
}

/* --- the way to a command --------------------------------------------------------------------- */

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < command_count; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static int check_usage(
    const struct command *command, int n, char **args, const bool given[UINT8_MAX + 1])
{
	if (n < command->args_min || n > command->args_max)
		return fail(EXIT_USAGE, "usage: arcboxctl %s%s%s; see arcboxctl --help",
		    command->name, *command->args ? " " : "", command->args);
	for (size_t i = 0; i < ROWS; i++)
		if (given[(uint8_t)rows[i].letter] && rows[i].command &&
		    strcmp(rows[i].command, command->name) != 0)
			return fail(EXIT_USAGE, "--%s goes with %s, not with %s", rows[i].name,
			    rows[i].command, command->name);
	return command->check ? command->check(args) : 0;
}

static int find_host(const struct settings *s, struct host *host)
{
	const char *text = s->host ? s->host : getenv("ARCBOX_HOST");
	enum err err;

	if (!text || !*text)
		return fail(EXIT_USAGE,
		    "which agent? give -H HOST or set ARCBOX_HOST, for example "
		    "to vsock:3; see arcboxctl --help");
	err = host_parse(text, host);
	if (err)
		return fail(EXIT_USAGE,
		    "host \"%s\": %s; it is vsock:CID[:PORT], unix:PATH or fc:PATH[:PORT]", text,
		    err_text((int)err));
	return 0;
}

static int run(const struct command *command, const struct settings *s, char **args)
{
	const uint64_t connect_ms = 10000;
	struct client client;
	struct host host;
	int rc = find_host(s, &host);

	if (rc == 0)
		rc = client_open(
		    &client, &host, command->name, s->timeout_ms ? s->timeout_ms : connect_ms);
	if (rc)
		return rc;
	client.timeout_ms = s->timeout_ms ? s->timeout_ms : command->timeout_ms;
	rc = command->run(&client, s, args);
	client_close(&client);
	return rc;
}

/* What was printed has to arrive: a full disk is a failure. */
static int finish(int rc)
{
	if ((fflush(stdout) != 0 || ferror(stdout)) && rc == EXIT_OK)
		return fail(EXIT_LOCAL, "cannot write to standard output");
	return rc;
}

int main(int argc, char **argv)
{
	struct settings settings = {.count = 1, .length_bytes = UINT64_MAX};
	bool given[UINT8_MAX + 1] = {false};
	const struct command *command;
	char **args;
	int rc = read_options(&settings, argc, argv, given);

	if (rc)
		return rc;
	if (settings.help)
		return finish(help());
	if (settings.version)
		return finish(printf("arcboxctl " AGENT_VERSION "\n") < 0);
	if (optind == argc)
		return fail(EXIT_USAGE, "which command? see arcboxctl --help");
	command = find_command(argv[optind]);
	if (!command)
		return usage("command", argv[optind], "there is no such command");
	args = argv + optind + 1;
	rc = check_usage(command, argc - optind - 1, args, given);
	return finish(rc ? rc : run(command, &settings, args));
}
