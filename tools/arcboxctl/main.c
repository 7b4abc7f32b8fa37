/* arcboxctl - the host's client of arcbox-agent: options, help, and the way to a command. */
#include "base/parse.h"
#include "commands.h"
#include "print.h"

#include <getopt.h>
#include <stdlib.h>
#include <unistd.h>

/* --- options ---------------------------------------------------------------------------------- */

enum kind { SWITCH, TEXT, TEXTS, NUMBER, BYTES, DURATION };

struct option_row {
	char letter; /* one of the command's own hides the same one of all commands; 0: none */
	const char *name;
	const char *value;   /* what stands for the value in the help; NULL for a switch */
	const char *command; /* those that take it; NULL: all do */
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
    {'o', "output", "FILE", "read, k8s", TEXT, AT(output), 0, 0, "write the file here"},
    {'O', "offset", "BYTES", "read", BYTES, AT(offset_bytes), 0, INT64_MAX, "start there"},
    {'l', "length", "BYTES", "read", BYTES, AT(length_bytes), 0, INT64_MAX, "at most so much"},
    {'g', "grace", "SECONDS", "shutdown, stop", NUMBER, AT(grace_secs), 0, UINT32_MAX,
	"what services or a sandbox get to stop; 0 = the agent's own"},
    {'d', "docker-host", "HOST", "docker", TEXT, AT(docker_host), 0, 0,
	"where the Docker proxy is; else port 2375 of the agent's machine"},
    {'i', "interactive", NULL, "exec", SWITCH, AT(interactive), 0, 0, "pass standard input on"},
    {'t', "tty", NULL, "exec, run", SWITCH, AT(tty), 0, 0, "give the command a terminal"},
    {'w', "workdir", "PATH", "exec, run, create", TEXT, AT(workdir), 0, 0, "run it there"},
    {'u', "user", "USER[:GROUP]", "exec, run, create", TEXT, AT(user), 0, 0, "run it as this user"},
    {'e', "env", "NAME=VALUE", "exec, run, create", TEXTS, AT(env), 0, 0,
	"add to its environment; NAME alone takes it from here"},
    {0, "time-limit", "TIME", "exec, run", DURATION, AT(limit_ms), 1000, UINT32_MAX,
	"kill it after so long, counted in whole seconds"},
    {'l', "label", "KEY=VALUE", "create, ps, checkpoint, restore, snapshots", TEXTS, AT(labels), 0,
	0, "give it this label, or list only what has it; may be repeated"},
    {0, "id", "ID", "create, restore", TEXT, AT(id), 0, 0, "the id of the new sandbox"},
    {'c', "cpus", "N", "create", NUMBER, AT(cpus), 1, 32, "virtual processors"},
    {'m', "memory", "BYTES", "create", BYTES, AT(memory_bytes), 1 << 20, INT64_MAX,
	"memory, like 512M"},
    {0, "kernel", "PATH", "create", TEXT, AT(kernel), 0, 0, "a kernel of the guest's"},
    {0, "rootfs", "PATH", "create", TEXT, AT(rootfs), 0, 0,
	"an ext4 image of the guest's, or the directory of an image's layer"},
    {0, "boot-args", "TEXT", "create", TEXT, AT(boot_args), 0, 0, "the kernel's command line"},
    {0, "network", "MODE", "create", TEXT, AT(network), 0, 0, "tap or none"},
    {0, "ttl", "TIME", "create, restore", DURATION, AT(ttl_ms), 1000, UINT32_MAX,
	"remove it after so long, counted in whole seconds"},
    {0, "wait", NULL, "create, restore", SWITCH, AT(wait), 0, 0,
	"until it is ready, or has failed"},
    {0, "new-network", NULL, "restore", SWITCH, AT(new_network), 0, 0,
	"with an address of its own, not that of the snapshot"},
    {'n', "name", "NAME", "checkpoint", TEXT, AT(name), 0, 0, "of the snapshot"},
    {'s', "state", "STATE", "ps", TEXT, AT(state), 0, 0,
	"list only those in this state; guest is that of @guest"},
    {'a', "action", "ACTION", "events", TEXT, AT(action), 0, 0, "tell only of this"},
    {'f', "force", NULL, "rm", SWITCH, AT(force), 0, 0, "also one that runs"},
    {'h', "help", NULL, NULL, SWITCH, AT(help), 0, 0, "show this"},
    {'V', "version", NULL, NULL, SWITCH, AT(version), 0, 0, "show the version"},
};

enum { ROWS = sizeof rows / sizeof *rows };

/* Whether a row is for that command. */
static bool takes(const struct option_row *row, const char *command)
{
	struct span names = span_str(row->command);

	while (names.n)
		if (span_eq_str(span_trim(span_split(&names, ',')), command))
			return true;
	return false;
}

/* What a letter means behind the name of a command, which is NULL before it is known: its own; or
 * that of all; or else that of another, which check_usage() refuses. */
static const struct option_row *row_of(int letter, const struct command *command)
{
	const struct option_row *found = NULL;

	for (size_t i = 0; i < ROWS; i++) {
		const struct option_row *row = &rows[i];

		if (row->letter != letter)
			continue;
		if (row->command && command && takes(row, command->name))
			return row;
		if (!found || (found->command && !row->command))
			found = row;
	}
	return found;
}

static enum err add_text(struct texts *list, const char *value)
{
	if (list->n == TEXTS_MAX)
		return E_LIMIT;
	list->values[list->n++] = value;
	return E_OK;
}

static enum err set_option(struct settings *s, const struct option_row *row, const char *value)
{
	void *at = (uint8_t *)s + row->offset;

	switch (row->kind) {
	case SWITCH: *(bool *)at = true; return E_OK;
	case TEXT: *(const char **)at = value; return E_OK;
	case TEXTS: return add_text(at, value);
	case NUMBER: return parse_u64(span_str(value), row->min, row->max, at);
	case BYTES: return parse_size(span_str(value), row->min, row->max, at);
	default: return parse_duration_ms(span_str(value), row->min, row->max, at);
	}
}

enum { WORD = 1, FIRST_LONG = UINT8_MAX + 1 }; /* what getopt_long says of a word, and of rows[0] */

static void long_options(struct option longs[ROWS + 1])
{
	for (size_t i = 0; i < ROWS; i++)
		longs[i] =
		    (struct option){rows[i].name, rows[i].value != NULL, NULL, FIRST_LONG + (int)i};
	longs[ROWS] = (struct option){0};
}

/* The letters as getopt_long wants them. */
static void short_options(const struct command *command, char shorts[2 * ROWS + 3])
{
	*shorts++ = '-'; /* words are told, too, in their order */
	*shorts++ = ':'; /* a missing value is told from an unknown option */
	for (size_t i = 0; i < ROWS; i++) {
		const struct option_row *row = &rows[i];

		if (!row->letter || row_of(row->letter, command) != row)
			continue;
		*shorts++ = row->letter;
		if (row->value)
			*shorts++ = ':';
	}
	*shorts = '\0';
}

static int usage(const char *what, const char *which, const char *advice)
{
	return fail(EXIT_USAGE, "%s \"%s\": %s; see arcboxctl --help", what, which, advice);
}

/* What is no option: the command and its arguments, which end with NULL. */
struct words {
	char **at;
	int n;
};

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < command_count; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static int read_option(struct settings *s, const struct option_row *row, char **argv, bool cut)
{
	enum err err;

	if (!row || cut)
		return usage("option", argv[optind - 1],
		    cut ? "it needs a value" : "there is no such option here");
	err = set_option(s, row, optarg);
	if (err)
		return fail(EXIT_USAGE, "--%s \"%s\": %s; see arcboxctl --help", row->name, optarg,
		    err_text((int)err));
	return 0;
}

/* Reads all options, wherever they stand; given[i] tells whether rows[i] was there. The words move
 * to the front of argv. Returns 0 or EXIT_USAGE. */
static int read_options(
    struct settings *s, int argc, char **argv, bool given[ROWS], struct words *words)
{
	struct option longs[ROWS + 1];
	char shorts[2 * ROWS + 3];
	const struct command *command = NULL;
	int what;

	*words = (struct words){argv + 1, 0};
	long_options(longs);
	opterr = 0;
	do {
		const struct option_row *row;
		int rc;

		short_options(command, shorts);
		what = getopt_long(argc, argv, shorts, longs, NULL);
		if (what == -1)
			break;
		if (what == WORD) {
			words->at[words->n++] = optarg;
			command = find_command(words->at[0]);
			continue;
		}
		row = what >= FIRST_LONG ? &rows[what - FIRST_LONG] : row_of(what, command);
		rc = read_option(s, row, argv, what == ':');
		if (rc)
			return rc;
		given[row - rows] = true;
	} while (!command || words->n != command->verbatim);
	if (command && command->verbatim > 1 && optind < argc && strcmp(argv[optind], "--") == 0)
		optind++; /* exec SANDBOX -- COMMAND */
	while (optind < argc)
		words->at[words->n++] = argv[optind++];
	words->at[words->n] = NULL;
	return 0;
}

/* --- help ------------------------------------------------------------------------------------- */

static void print_option(const struct option_row *row)
{
	char left[32], letter[8] = "    ";

	if (row->letter)
		snprintf(letter, sizeof letter, "-%c, ", row->letter);
	snprintf(left, sizeof left, "%s--%s%s%s", letter, row->name, row->value ? "=" : "",
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
		printf("  %-23s %s\n", left, commands[i].help);
	}
	fputs("\nOptions:\n", stdout);
	for (size_t i = 0; i < ROWS; i++)
		print_option(&rows[i]);
	fputs(
	    "\nHOST is one of\n"
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
	    "run and exec end with the status of their command, or 125 instead of 1, 3, 4 and 5.\n"
	    "\nExamples:\n"
	    "  export ARCBOX_HOST=vsock:3\n"
	    "  arcboxctl ping -c 3\n"
	    "  arcboxctl status --json | jq -r '.services[] | .name + \" \" + .status'\n"
	    "  arcboxctl ensure --start --timeout=5m\n"
	    "  arcboxctl docker run --rm hello-world\n"
	    "  eval \"$(arcboxctl k8s kubeconfig --output=arcbox.yaml)\"\n"
	    "  arcboxctl exec -it \"$(arcboxctl create --wait --memory=256M)\" sh\n"
	    "  arcboxctl read /var/log/dockerd.log --output=dockerd.log\n"
	    "  arcboxctl -H fc:/run/vm/v.sock raw SandboxListRequest\n",
	    stdout);
	return EXIT_OK;
}

/* --- the way to a command --------------------------------------------------------------------- */

static int check_usage(const struct command *command, int n, char **args, const bool given[ROWS])
{
	if (n < command->args_min || n > command->args_max)
		return fail(EXIT_USAGE, "usage: arcboxctl %s%s%s; see arcboxctl --help",
		    command->name, *command->args ? " " : "", command->args);
	for (size_t i = 0; i < ROWS; i++)
		if (given[i] && rows[i].command && !takes(&rows[i], command->name))
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

	if (rc == 0 && command->run_on)
		return command->run_on(&host, s, args);
	if (rc == 0)
		rc = client_open(
		    &client, &host, command->name, s->timeout_ms ? s->timeout_ms : connect_ms);
	if (rc)
		return command->failure ? command->failure : rc;
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
	bool given[ROWS] = {false};
	const struct command *command;
	struct words words;
	int rc = read_options(&settings, argc, argv, given, &words);

	if (rc)
		return rc;
	if (settings.help)
		return finish(help());
	if (settings.version)
		return finish(printf("arcboxctl " AGENT_VERSION "\n") < 0);
	if (words.n == 0)
		return fail(EXIT_USAGE, "which command? see arcboxctl --help");
	command = find_command(words.at[0]);
	if (!command)
		return usage("command", words.at[0], "there is no such command");
	rc = check_usage(command, words.n - 1, words.at + 1, given);
	return finish(rc ? rc : run(command, &settings, words.at + 1));
}
