#include "commands.h"

#include "codec/messages.h"
#include "print.h"
#include "sys/clock.h"
#include "sys/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	ARENA_BYTES = 4 << 20,   /* for lists and sub-messages of one answer */
	RANGE_BYTES = 64 << 20,  /* the most that MmapReadFile gives at once */
	PAYLOAD_BYTES = 16 << 20 /* the most that an agent takes */
};

/* --- messages there and back ------------------------------------------------------------------ */

static int decode(const struct client *c, const struct frame *f, const struct pb_table *t,
    struct pb_arena *arena, void *out)
{
	enum err err = pb_read(f->payload, t, arena, out);

	if (err)
		return fail(EXIT_BROKEN,
		    "%s: the %s of %s does not decode: %s; check the agent's version", c->doing,
		    t->name, c->host->text, err_text((int)err));
	return 0;
}

int command_begin(struct client *c, uint32_t type, const void *request)
{
	const struct pb_table *t = message_by_type(type)->table;
	size_t cap = request ? pb_size(t, request) : 0;
	uint8_t *payload = malloc(cap + 1);
	struct wr w = wr_of(payload, cap);
	enum err err = E_OK;
	int rc;

	if (!payload || cap > PAYLOAD_BYTES) {
		free(payload);
		return fail(
		    EXIT_USAGE, "%s: cannot put the arguments into a request: too long", c->doing);
	}
	if (request)
		err = pb_write(&w, t, request);
	rc = err ? fail(EXIT_USAGE, "%s: cannot put the arguments into a request: %s", c->doing,
		       err_text((int)err))
		 : client_begin(c, type, wr_span(&w));
	free(payload);
	return rc;
}

int command_read(const struct client *c, const struct frame *answer, uint32_t type,
    const struct pb_table *t, struct pb_arena *arena, void *out)
{
	if (answer->type != type)
		return fail(EXIT_BROKEN,
		    "%s: %s answered with type 0x%04" PRIx32 " where %s was due; check the agent's "
		    "version",
		    c->doing, c->host->text, answer->type, message_by_type(type)->name);
	return decode(c, answer, t, arena, out);
}

int command_call(struct client *c, uint32_t type, const void *request, const struct pb_table *t,
    struct pb_arena *arena, void *response)
{
	struct frame answer;
	int rc = command_begin(c, type, request);

	if (rc == 0)
		rc = client_next(c, c->timeout_ms, &answer);
	return rc ? rc : command_read(c, &answer, type | 0x1000, t, arena, response);
}

struct pb_list command_pairs(const struct texts *texts, struct pb_pair pairs[TEXTS_MAX])
{
	for (size_t i = 0; i < texts->n; i++) {
		struct span value = span_str(texts->values[i]);
		struct span key = span_split(&value, '=');

		pairs[i] = (struct pb_pair){key, value};
	}
	return (struct pb_list){pairs, texts->n};
}

struct pb_list command_env(const struct settings *s, struct pb_pair pairs[TEXTS_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < s->env.n; i++) {
		struct span value = span_str(s->env.values[i]);
		struct span key = span_split(&value, '=');
		const char *here = value.p ? NULL : getenv(s->env.values[i]);

		if (value.p || here)
			pairs[n++] = (struct pb_pair){key, here ? span_str(here) : value};
	}
	return (struct pb_list){pairs, n};
}

struct pb_list command_words(char **words, struct pb_arena *arena)
{
	struct span *spans;
	size_t n = 0;

	while (words[n])
		n++;
	spans = pb_alloc(arena, n * sizeof *spans);
	for (size_t i = 0; spans && i < n; i++)
		spans[i] = span_str(words[i]);
	return (struct pb_list){spans, spans ? n : 0};
}

int command_print(const struct settings *s, const struct pb_table *t, const void *msg)
{
	if (s->json)
		return print_json(stdout, t, msg);
	print_message(stdout, t, msg);
	return EXIT_OK;
}

int command_with_arena(answer_fn *fn, struct client *c, const struct settings *s, char **args)
{
	void *memory = malloc(ARENA_BYTES);
	struct pb_arena arena = pb_arena_of(memory, ARENA_BYTES);
	int rc = memory ? fn(c, s, args, &arena) : fail(EXIT_LOCAL, "%s: no memory", c->doing);

	free(memory);
	return rc;
}

/* --- ping ------------------------------------------------------------------------------------- */

struct ping_report {
	uint64_t number; /* from 1 */
	struct span message, version;
	double round_trip_ms;
};

static PB_TABLE(ping_report, "PingReport", PB_FIELD(ping_report, 1, number, PB_UINT64),
    PB_FIELD(ping_report, 2, message, PB_STRING), PB_FIELD(ping_report, 3, version, PB_STRING),
    PB_FIELD(ping_report, 4, round_trip_ms, PB_DOUBLE));

struct ping_sums {
	double least_ms, most_ms, total_ms;
};

static void print_ping(const struct client *c, const struct ping_report *r)
{
	printf("%s: ", c->host->text);
	print_text(stdout, r->message);
	printf(" from agent ");
	print_text(stdout, r->version);
	printf(", number %" PRIu64 ", %.3f ms\n", r->number, r->round_trip_ms);
}

static int ping_once(
    struct client *c, const struct settings *s, uint64_t number, struct ping_sums *sums)
{
	const struct rpc_ping_request request = {0}; /* no time: the guest's clock is left alone */
	struct rpc_ping_response response;
	struct ping_report report = {.number = number};
	uint8_t memory[256];
	struct pb_arena arena = pb_arena_of(memory, sizeof memory);
	uint64_t start_ns = clock_mono_ns();
	int rc;

	rc = command_call(
	    c, RPC_PING_REQUEST, &request, &rpc_ping_response_table, &arena, &response);
	if (rc)
		return rc;
	report.message = response.message;
	report.version = response.version;
	report.round_trip_ms = (double)(clock_mono_ns() - start_ns) / (double)NS_PER_MS;
	sums->total_ms += report.round_trip_ms;
	if (number == 1 || report.round_trip_ms < sums->least_ms)
		sums->least_ms = report.round_trip_ms;
	if (report.round_trip_ms > sums->most_ms)
		sums->most_ms = report.round_trip_ms;
	if (s->json)
		return print_json(stdout, &ping_report_table, &report);
	print_ping(c, &report);
	return EXIT_OK;
}

static int run_ping(struct client *c, const struct settings *s, char **args)
{
	struct ping_sums sums = {0};

	(void)args;
	for (uint64_t i = 1; i <= s->count; i++) {
		int rc = ping_once(c, s, i, &sums);

		if (rc)
			return rc;
	}
	if (!s->json && s->count > 1)
		printf("%" PRIu64 " round trips: least %.3f, mean %.3f, most %.3f ms\n", s->count,
		    sums.least_ms, sums.total_ms / (double)s->count, sums.most_ms);
	return EXIT_OK;
}

/* --- info ------------------------------------------------------------------------------------- */

/* SystemInfo in people's units. */
struct info_view {
	struct span hostname, kernel, system, cpus, memory, load, uptime;
	struct pb_list addresses;
};

static PB_TABLE(info_view, "Info", PB_FIELD(info_view, 1, hostname, PB_STRING),
    PB_FIELD(info_view, 2, kernel, PB_STRING), PB_FIELD(info_view, 3, system, PB_STRING),
    PB_FIELD(info_view, 4, cpus, PB_STRING), PB_FIELD(info_view, 5, memory, PB_STRING),
    PB_FIELD(info_view, 6, load, PB_STRING), PB_FIELD(info_view, 7, uptime, PB_STRING),
    PB_REPEATED(info_view, 8, addresses, PB_STRING));

struct text {
	char p[512];
};

/* A printed text as a span; what does not fit is cut. */
__attribute__((format(printf, 2, 3))) static struct span format(
    struct text *t, const char *pattern, ...)
{
	va_list ap;

	va_start(ap, pattern);
	vsnprintf(t->p, sizeof t->p, pattern, ap);
	va_end(ap);
	return span_str(t->p);
}

static double gib(uint64_t bytes)
{
	return (double)bytes / (double)(1u << 30);
}

static struct span load_text(struct text *t, const struct pb_list *load)
{
	const double *over = load->items;

	if (load->n != 3)
		return span_str("");
	return format(t, "%.2f %.2f %.2f over 1, 5 and 15 min", over[0], over[1], over[2]);
}

static void print_info(const struct rpc_system_info *i)
{
	struct text kernel, system, cpus, memory, load, uptime;
	uint64_t min = i->uptime / 60;
	struct info_view v = {
	    .hostname = i->hostname,
	    .kernel = format(&kernel, "%.*s %.*s", (int)i->kernel_version.n,
		(const char *)i->kernel_version.p, (int)i->arch.n, (const char *)i->arch.p),
	    .system = format(&system, "%.*s %.*s", (int)i->os_name.n, (const char *)i->os_name.p,
		(int)i->os_version.n, (const char *)i->os_version.p),
	    .cpus = format(&cpus, "%" PRIu32, i->cpu_count),
	    .memory = format(&memory, "%.2f GiB, %.2f GiB available", gib(i->total_memory),
		gib(i->available_memory)),
	    .load = load_text(&load, &i->load_average),
	    .uptime = format(&uptime, "%" PRIu64 " d %02" PRIu64 ":%02" PRIu64, min / 1440,
		min / 60 % 24, min % 60),
	    .addresses = i->ip_addresses,
	};

	print_message(stdout, &info_view_table, &v);
}

static int info(struct client *c, const struct settings *s, char **args, struct pb_arena *arena)
{
	struct rpc_system_info response;
	int rc = command_call(
	    c, RPC_GET_SYSTEM_INFO_REQUEST, NULL, &rpc_system_info_table, arena, &response);

	(void)args;
	if (rc)
		return rc;
	if (s->json)
		return print_json(stdout, &rpc_system_info_table, &response);
	print_info(&response);
	return EXIT_OK;
}

static int run_info(struct client *c, const struct settings *s, char **args)
{
	return command_with_arena(info, c, s, args);
}

/* --- the end ---------------------------------------------------------------------------------- */

static int shut_down(
    struct client *c, const struct settings *s, char **args, struct pb_arena *arena)
{
	const struct rpc_shutdown_request request = {.timeout_seconds = (uint32_t)s->grace_secs};
	struct rpc_shutdown_response response;
	int rc = command_call(
	    c, RPC_SHUTDOWN_REQUEST, &request, &rpc_shutdown_response_table, arena, &response);

	(void)args;
	if (rc == 0)
		rc = command_print(s, &rpc_shutdown_response_table, &response);
	return rc || response.accepted ? rc : EXIT_REFUSED;
}

static int run_shutdown(struct client *c, const struct settings *s, char **args)
{
	return command_with_arena(shut_down, c, s, args);
}

/* --- read ------------------------------------------------------------------------------------- */

/* Where the bytes of a file go. */
struct sink {
	int fd;           /* -1: not opened yet */
	bool terminal;    /* bytes are escaped */
	const char *name; /* of the file */
};

/* A file is made when the first answer is there, so that a failed request leaves an old one alone.
 */
static int sink_put(const struct client *c, struct sink *to, struct span data)
{
	int rc = 0;

	if (to->fd < 0)
		to->fd = open(to->name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (to->fd < 0)
		return fail(EXIT_LOCAL, "%s: cannot open %s for writing: %s", c->doing, to->name,
		    err_text(-errno));
	if (to->terminal)
		print_lines(stdout, data);
	else
		rc = fs_write_all(to->fd, data);
	if (rc < 0)
		return fail(EXIT_LOCAL, "%s: cannot write to %s: %s; what is there is incomplete",
		    c->doing, to->name, err_text(rc));
	return 0;
}

/* Copies one range; *got is less than asked for where the file ends. */
static int read_range(struct client *c, const struct rpc_mmap_read_file_request *range,
    struct sink *to, uint64_t *got)
{
	struct rpc_mmap_read_file_response response;
	uint8_t memory[256];
	struct pb_arena arena = pb_arena_of(memory, sizeof memory);
	int rc = command_call(c, RPC_MMAP_READ_FILE_REQUEST, range,
	    &rpc_mmap_read_file_response_table, &arena, &response);

	if (rc)
		return rc;
	if (response.data.n != response.bytes_read || response.data.n > range->length)
		return fail(EXIT_BROKEN,
		    "%s: %s sent %zu bytes, counted %" PRIu64 ", and was asked for %" PRIu64
		    "; check the agent's version",
		    c->doing, c->host->text, response.data.n, response.bytes_read, range->length);
	*got = response.data.n;
	return sink_put(c, to, response.data);
}

/* Ranges are as large as they can be: a file that fits into one is read at one moment. */
static int read_ranges(
    struct client *c, const struct settings *s, const char *path, struct sink *to)
{
	struct rpc_mmap_read_file_request range = {span_str(path), s->offset_bytes, 0};
	uint64_t left = s->length_bytes;
	uint64_t got = 0;
	int rc = 0;

	while (rc == 0 && left && got == range.length) {
		range.length = left < RANGE_BYTES ? left : RANGE_BYTES;
		rc = read_range(c, &range, to, &got);
		range.offset += got;
		left -= got;
	}
	return rc;
}

static int run_read(struct client *c, const struct settings *s, char **args)
{
	struct sink to = {STDOUT_FILENO, isatty(STDOUT_FILENO), "standard output"};
	int rc;

	if (s->output)
		to = (struct sink){-1, false, s->output};
	rc = read_ranges(c, s, args[0], &to);
	if (s->output && to.fd >= 0 && close(to.fd) < 0 && rc == 0)
		rc = fail(
		    EXIT_LOCAL, "%s: cannot write to %s: %s", c->doing, to.name, err_text(-errno));
	return rc;
}

/* --- raw -------------------------------------------------------------------------------------- */

/* An answer of any type; its message, where it has one, is behind a pointer whose table is known at
 * run time only. */
struct raw_answer {
	struct span type;
	const void *message;
	struct span payload;
};

static int print_raw_message(
    const struct settings *s, struct raw_answer *a, const struct pb_table *t)
{
	const struct pb_field fields[] = {
	    {1, PB_STRING, PB_LABEL_SINGULAR, offsetof(struct raw_answer, type), NULL, "type"},
	    {2, PB_MESSAGE, PB_LABEL_SINGULAR, offsetof(struct raw_answer, message), t, "message"},
	};
	const struct pb_table table = {"Answer", sizeof *a, fields, 2};

	return command_print(s, &table, a);
}

static int print_raw_payload(const struct settings *s, struct raw_answer *a)
{
	const struct pb_field fields[] = {
	    {1, PB_STRING, PB_LABEL_SINGULAR, offsetof(struct raw_answer, type), NULL, "type"},
	    {2, PB_BYTES, PB_LABEL_SINGULAR, offsetof(struct raw_answer, payload), NULL, "payload"},
	};
	const struct pb_table table = {"Answer", sizeof *a, fields, 2};

	return command_print(s, &table, a);
}

static int print_raw(
    const struct client *c, const struct settings *s, const struct frame *f, struct pb_arena *arena)
{
	const struct message_type *known = message_by_type(f->type);
	struct text text;
	struct raw_answer a = {.payload = f->payload};
	void *msg = known && known->table ? pb_alloc(arena, known->table->size) : NULL;
	int rc;

	a.type = known ? format(&text, "%s", known->name) : format(&text, "0x%04" PRIx32, f->type);
	a.message = msg;
	if (!msg)
		return print_raw_payload(s, &a);
	rc = decode(c, f, known->table, arena, msg);
	return rc ? rc : print_raw_message(s, &a, known->table);
}

/* A number, decimal or 0x..., or the name of a message. */
static enum err parse_type(const char *text, uint32_t *out)
{
	const struct message_type *known = message_by_name(span_str(text));
	char *end;
	unsigned long long n;

	if (!known && !ascii_digit((uint8_t)text[0]))
		return E_UNKNOWN;
	errno = 0;
	n = known ? known->type : strtoull(text, &end, 0);
	if (!known && (*end || errno || n > UINT32_MAX))
		return E_RANGE;
	*out = (uint32_t)n;
	return E_OK;
}

/* Reads all of a file, `-` being standard input, into the queue. 0 or -errno. */
static int read_file(const char *path, struct queue *q)
{
	bool standard = strcmp(path, "-") == 0;
	int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : 1;
	int rc;

	while (n > 0) {
		size_t room = queue_room(q) < BUFSIZ ? queue_room(q) : BUFSIZ;
		uint8_t *place = room ? queue_reserve(q, room) : NULL;

		if (!place)
			errno = room ? ENOMEM : EFBIG;
		n = place ? read(fd, place, room) : -1;
		if (n > 0)
			queue_commit(q, (size_t)n);
	}
	rc = n < 0 ? -errno : 0;
	if (!standard && fd >= 0)
		close(fd);
	return rc;
}

static int raw_call(struct client *c, const struct settings *s, uint32_t type, struct span payload)
{
	void *memory = malloc(ARENA_BYTES);
	struct pb_arena arena = pb_arena_of(memory, ARENA_BYTES);
	struct frame answer;
	int rc = memory ? client_call(c, type, payload, &answer)
			: fail(EXIT_LOCAL, "%s: no memory", c->doing);

	if (rc == 0)
		rc = print_raw(c, s, &answer, &arena);
	free(memory);
	return rc;
}

static int check_raw(char **args)
{
	uint32_t type;

	if (parse_type(args[0], &type) == E_OK)
		return 0;
	return fail(EXIT_USAGE,
	    "raw: \"%s\" is no type; give a number like 0x0001 or a name like PingRequest",
	    args[0]);
}

static int run_raw(struct client *c, const struct settings *s, char **args)
{
	struct queue payload;
	uint32_t type = 0;
	int rc;

	parse_type(args[0], &type); /* check_raw knows that it is one */
	queue_init(&payload, PAYLOAD_BYTES, NULL);
	rc = args[1] ? read_file(args[1], &payload) : 0;
	if (rc < 0)
		rc = fail(
		    EXIT_LOCAL, "raw: cannot read the payload from %s: %s", args[1], err_text(rc));
	else
		rc = raw_call(c, s, type, queue_span(&payload));
	queue_done(&payload);
	return rc;
}

/* --- the rows --------------------------------------------------------------------------------- */

/* clang-format off */
const struct command commands[] = {
    {.name = "ping", .args = "", .timeout_ms = 10000, .run = run_ping,
        .help = "ask whether the agent answers, and how fast"},
    {.name = "info", .args = "", .timeout_ms = 10000, .run = run_info,
        .help = "show the guest's system: kernel, memory, addresses"},
    {.name = "status", .args = "", .timeout_ms = 30000, .run = run_status,
        .help = "show the container runtime as it is"},
    {.name = "ensure", .args = "", .timeout_ms = 300000, .run = run_ensure,
        .help = "wait until the container runtime is ready; 1 when it is not"},
    {.name = "k8s", .args = "ACTION", .args_min = 1, .args_max = 1, .timeout_ms = 300000,
        .check = check_k8s, .run = run_k8s,
        .help = "Kubernetes: start, stop, delete, status or kubeconfig"},
    {.name = "logs", .args = "[SERVICE]", .args_max = 1, .timeout_ms = 60000,
        .check = check_logs, .run = run_logs,
        .help = "last words of containerd, dockerd or k3s when it died"},
    {.name = "docker", .args = "[ARGUMENT...]", .args_max = INT_MAX, .verbatim = 1,
        .timeout_ms = 40000, .run_on = run_docker,
        .help = "run the docker command on the guest's engine"},
    {.name = "create", .args = "[COMMAND...]", .args_max = INT_MAX, .verbatim = 2,
        .timeout_ms = 60000, .run = run_create,
        .help = "make a sandbox, and run COMMAND in it once it is ready; prints its id"},
    {.name = "run", .args = "SANDBOX COMMAND...", .args_min = 2, .args_max = INT_MAX,
        .verbatim = 2, .failure = EXIT_NOT_RUN, .timeout_ms = 60000, .run = run_run,
        .help = "run COMMAND in a sandbox, without input; @guest is the guest itself"},
    {.name = "exec", .args = "SANDBOX COMMAND...", .args_min = 2, .args_max = INT_MAX,
        .verbatim = 2, .failure = EXIT_NOT_RUN, .timeout_ms = 60000, .run = run_exec,
        .help = "the same with input and a terminal: exec -it SANDBOX sh"},
    {.name = "ps", .args = "", .timeout_ms = 30000, .run = run_ps,
        .help = "list the sandboxes"},
    {.name = "inspect", .args = "SANDBOX...", .args_min = 1, .args_max = INT_MAX,
        .timeout_ms = 30000, .run = run_inspect,
        .help = "show all of a sandbox"},
    {.name = "stop", .args = "SANDBOX...", .args_min = 1, .args_max = INT_MAX,
        .timeout_ms = 120000, .run = run_stop,
        .help = "shut a sandbox down"},
    {.name = "rm", .args = "SANDBOX...", .args_min = 1, .args_max = INT_MAX,
        .timeout_ms = 60000, .run = run_rm,
        .help = "remove a sandbox with all that is in it"},
    {.name = "events", .args = "[SANDBOX]", .args_max = 1, .timeout_ms = 30000,
        .run = run_events,
        .help = "tell what happens to sandboxes, as it happens"},
    {.name = "checkpoint", .args = "SANDBOX", .args_min = 1, .args_max = 1,
        .timeout_ms = 900000, .run = run_checkpoint,
        .help = "take a snapshot of a sandbox; prints its id"},
    {.name = "restore", .args = "SNAPSHOT", .args_min = 1, .args_max = 1,
        .timeout_ms = 60000, .run = run_restore,
        .help = "make a sandbox of a snapshot; prints its id"},
    {.name = "snapshots", .args = "[SANDBOX]", .args_max = 1, .timeout_ms = 30000,
        .run = run_snapshots,
        .help = "list the snapshots, oldest first"},
    {.name = "rm-snapshot", .args = "SNAPSHOT...", .args_min = 1, .args_max = INT_MAX,
        .timeout_ms = 60000, .run = run_rm_snapshot,
        .help = "remove a snapshot"},
    {.name = "cp", .args = "FROM TO", .args_min = 2, .args_max = 2, .timeout_ms = 60000,
        .check = check_cp, .run_on = run_cp,
        .help = "copy a file; one of both is :PATH, in the sandbox whose socket HOST is"},
    {.name = "read", .args = "PATH", .args_min = 1, .args_max = 1, .timeout_ms = 60000,
        .run = run_read,
        .help = "copy a file of the guest to standard output"},
    {.name = "shutdown", .args = "", .timeout_ms = 30000, .run = run_shutdown,
        .help = "power the guest off"},
    {.name = "raw", .args = "TYPE [FILE]", .args_min = 1, .args_max = 2, .timeout_ms = 60000,
        .check = check_raw, .run = run_raw,
        .help = "send a request by number or name, with FILE (- = standard input) as payload"},
};
/* clang-format on */

const size_t command_count = sizeof commands / sizeof *commands;
