/* Sandboxes: create, ps, inspect, stop, rm, events, and their snapshots. */
#include "base/utc.h"
#include "codec/messages.h"
#include "commands.h"
#include "print.h"
#include "sys/clock.h"

#include <poll.h>
#include <stdlib.h>

enum { POLL_MS = 50, ID_BYTES = 65 };

/* --- texts for people ------------------------------------------------------------------------- */

struct time_text {
	char p[UTC_TEXT_BYTES + 8];
};

/* A time since 1970, or "" for none. */
static struct span time_of(struct time_text *t, int64_t secs, int64_t ns)
{
	struct wr w = wr_of(t->p, sizeof t->p);

	if (secs <= 0)
		return span_str("");
	utc_write(&w, (uint64_t)secs, (uint32_t)ns);
	return wr_span(&w);
}

/* A word for programs, or for people what they would give to the next command. */
static int print_id(
    const struct settings *s, struct span id, const struct pb_table *t, const void *response)
{
	if (s->json)
		return print_json(stdout, t, response);
	print_text(stdout, id);
	putchar('\n');
	return EXIT_OK;
}

static struct span text_of(const char *text)
{
	return span_str(text ? text : "");
}

/* --- until it is ready ------------------------------------------------------------------------ */

static int ask_info(
    struct client *c, struct span id, struct pb_arena *arena, struct rpc_sandbox_info *out)
{
	const struct rpc_inspect_sandbox_request request = {id};

	return command_call(
	    c, RPC_SANDBOX_INSPECT_REQUEST, &request, &rpc_sandbox_info_table, arena, out);
}

static int judge(const struct client *c, const struct rpc_sandbox_info *info)
{
	if (span_eq_str(info->state, "ready") || span_eq_str(info->state, "running"))
		return EXIT_OK;
	return fail(EXIT_REFUSED, "%s: the sandbox is %.*s: %.*s", c->doing, (int)info->state.n,
	    (const char *)info->state.p, (int)info->error.n, (const char *)info->error.p);
}

/* The new sandbox boots: waits for the end of that, if it is to, as long as for an answer. */
static int await_ready(struct client *c, const struct settings *s, const char *id)
{
	uint64_t end_ns = clock_mono_ns() + c->timeout_ms * NS_PER_MS;
	uint8_t memory[16 * 1024];
	struct rpc_sandbox_info info;
	int rc = EXIT_OK;

	while (s->wait && rc == 0 && clock_mono_ns() < end_ns) {
		struct pb_arena arena = pb_arena_of(memory, sizeof memory);

		rc = ask_info(c, span_str(id), &arena, &info);
		if (rc == 0 && !span_eq_str(info.state, "starting"))
			return judge(c, &info);
		poll(NULL, 0, POLL_MS);
	}
	if (!s->wait || rc)
		return rc;
	return fail(EXIT_BROKEN, "%s: the sandbox %s still boots", c->doing, id);
}

/* Tells the id of a new sandbox, which lives as long as the answer that it is in. */
static int print_new(struct client *c, const struct settings *s, struct span id,
    const struct pb_table *t, const void *response)
{
	char text[ID_BYTES];
	int rc = print_id(s, id, t, response);

	fflush(stdout);
	if (rc || !s->wait)
		return rc;
	if (!span_to_cstr(id, text, sizeof text))
		return fail(EXIT_BROKEN, "%s: %s sent no id", c->doing, c->host->text);
	return await_ready(c, s, text);
}

/* --- create ----------------------------------------------------------------------------------- */

static int create(struct client *c, const struct settings *s, char **args, struct pb_arena *arena)
{
	struct pb_pair labels[TEXTS_MAX], env[TEXTS_MAX];
	const struct rpc_resource_limits limits = {(uint32_t)s->cpus, s->memory_bytes >> 20};
	const struct rpc_network_spec network = {text_of(s->network)};
	struct rpc_create_sandbox_response response;
	const struct rpc_create_sandbox_request request = {
	    .id = text_of(s->id),
	    .labels = command_pairs(&s->labels, labels),
	    .kernel = text_of(s->kernel),
	    .rootfs = text_of(s->rootfs),
	    .boot_args = text_of(s->boot_args),
	    .limits = &limits,
	    .cmd = command_words(args, arena),
	    .env = command_env(s, env),
	    .working_dir = text_of(s->workdir),
	    .user = text_of(s->user),
	    .network = s->network ? &network : NULL,
	    .ttl_seconds = (uint32_t)(s->ttl_ms / 1000),
	};
	int rc = command_call(c, RPC_SANDBOX_CREATE_REQUEST, &request,
	    &rpc_create_sandbox_response_table, arena, &response);

	return rc ? rc
		  : print_new(c, s, response.id, &rpc_create_sandbox_response_table, &response);
}

int run_create(struct client *c, const struct settings *s, char **args)
{
	return command_with_arena(create, c, s, args);
}

/* --- ps and inspect --------------------------------------------------------------------------- */

struct ps_row {
	struct span id, state, address, created;
	struct pb_list labels;
	struct time_text text;
};

static PB_TABLE(ps_row, "Row", PB_FIELD(ps_row, 1, id, PB_STRING),
    PB_FIELD(ps_row, 2, state, PB_STRING), PB_FIELD(ps_row, 3, address, PB_STRING),
    PB_FIELD(ps_row, 4, created, PB_STRING), PB_MAP(ps_row, 5, labels));

static int print_ps(const struct pb_list *sandboxes)
{
	const struct rpc_sandbox_summary *from = sandboxes->items;
	struct ps_row *rows = calloc(sandboxes->n + 1, sizeof *rows);

	if (!rows)
		return fail(EXIT_LOCAL, "ps: no memory");
	for (size_t i = 0; i < sandboxes->n; i++) {
		rows[i].id = from[i].id;
		rows[i].state = from[i].state;
		rows[i].address = from[i].ip_address;
		rows[i].created = time_of(&rows[i].text, from[i].created_at, 0);
		rows[i].labels = from[i].labels;
	}
	print_list(stdout, &ps_row_table, &(struct pb_list){rows, sandboxes->n});
	free(rows);
	return EXIT_OK;
}

static int ps(struct client *c, const struct settings *s, char **args, struct pb_arena *arena)
{
	struct pb_pair labels[TEXTS_MAX];
	const struct rpc_list_sandboxes_request request = {
	    text_of(s->state), command_pairs(&s->labels, labels)};
	struct rpc_list_sandboxes_response response;
	int rc = command_call(c, RPC_SANDBOX_LIST_REQUEST, &request,
	    &rpc_list_sandboxes_response_table, arena, &response);

	(void)args;
	if (rc)
		return rc;
	if (s->json)
		return print_json(stdout, &rpc_list_sandboxes_response_table, &response);
	return print_ps(&response.sandboxes);
}

int run_ps(struct client *c, const struct settings *s, char **args)
{
	return command_with_arena(ps, c, s, args);
}

struct info_view {
	struct span id, state;
	uint32_t cpus;
	uint64_t memory_mib;
	struct span address, gateway, tap, created, ready, last_exit;
	int32_t last_exit_code;
	struct span error;
	struct pb_list labels;
};

static PB_TABLE(info_view, "Sandbox", PB_FIELD(info_view, 1, id, PB_STRING),
    PB_FIELD(info_view, 2, state, PB_STRING), PB_FIELD(info_view, 3, cpus, PB_UINT32),
    PB_FIELD(info_view, 4, memory_mib, PB_UINT64), PB_FIELD(info_view, 5, address, PB_STRING),
    PB_FIELD(info_view, 6, gateway, PB_STRING), PB_FIELD(info_view, 7, tap, PB_STRING),
    PB_FIELD(info_view, 8, created, PB_STRING), PB_FIELD(info_view, 9, ready, PB_STRING),
    PB_FIELD(info_view, 10, last_exit, PB_STRING),
    PB_FIELD(info_view, 11, last_exit_code, PB_INT32), PB_FIELD(info_view, 12, error, PB_STRING),
    PB_MAP(info_view, 13, labels));

static void print_info(const struct rpc_sandbox_info *i)
{
	static const struct rpc_resource_limits no_limits;
	static const struct rpc_sandbox_network no_network;
	const struct rpc_resource_limits *limits = i->limits ? i->limits : &no_limits;
	const struct rpc_sandbox_network *network = i->network ? i->network : &no_network;
	struct time_text created, ready, exited;
	const struct info_view view = {
	    .id = i->id,
	    .state = i->state,
	    .cpus = limits->vcpus,
	    .memory_mib = limits->memory_mib,
	    .address = network->ip_address,
	    .gateway = network->gateway,
	    .tap = network->tap_name,
	    .created = time_of(&created, i->created_at, 0),
	    .ready = time_of(&ready, i->ready_at, 0),
	    .last_exit = time_of(&exited, i->last_exited_at, 0),
	    .last_exit_code = i->last_exit_code,
	    .error = i->error,
	    .labels = i->labels,
	};

	print_message(stdout, &info_view_table, &view);
}

/* Of several they are told one after the other, up to the first that fails. */
static int inspect(struct client *c, const struct settings *s, char **args, struct pb_arena *arena)
{
	for (; *args; args++) {
		const struct rpc_inspect_sandbox_request request = {span_str(*args)};
		struct rpc_sandbox_info response;
		int rc;

		arena->used = 0;
		rc = command_call(c, RPC_SANDBOX_INSPECT_REQUEST, &request, &rpc_sandbox_info_table,
		    arena, &response);
		if (rc == 0 && s->json)
			rc = print_json(stdout, &rpc_sandbox_info_table, &response);
		else if (rc == 0)
			print_info(&response);
		if (rc)
			return rc;
		if (!s->json && args[1])
			putchar('\n');
	}
	return EXIT_OK;
}

int run_inspect(struct client *c, const struct settings *s, char **args)
{
	return command_with_arena(inspect, c, s, args);
}

/* --- stop, rm, rm-snapshot -------------------------------------------------------------------- */

/* Asks for what has an empty answer, and prints the id. */
static int do_to(
    struct client *c, const struct settings *s, uint32_t type, const void *request, const char *id)
{
	uint8_t nothing[8];
	struct pb_arena arena = pb_arena_of(nothing, sizeof nothing);
	int rc = command_call(c, type, request, &rpc_empty_table, &arena, nothing);

	return rc ? rc : print_id(s, span_str(id), &rpc_empty_table, nothing);
}

/* Does that to each of `ids`. The first failure counts; the others are done nevertheless, as long
 * as there is a connection. */
static int do_to_all(struct client *c, const struct settings *s, char **ids,
    int (*one)(struct client *c, const struct settings *s, const char *id))
{
	int first = EXIT_OK, rc = EXIT_OK;

	for (; *ids && (rc == EXIT_OK || rc == EXIT_REFUSED); ids++) {
		rc = one(c, s, *ids);
		first = first ? first : rc;
	}
	return first;
}

static int stop_one(struct client *c, const struct settings *s, const char *id)
{
	const struct rpc_stop_sandbox_request request = {span_str(id), (uint32_t)s->grace_secs};

	return do_to(c, s, RPC_SANDBOX_STOP_REQUEST, &request, id);
}

int run_stop(struct client *c, const struct settings *s, char **args)
{
	return do_to_all(c, s, args, stop_one);
}

static int remove_one(struct client *c, const struct settings *s, const char *id)
{
	const struct rpc_remove_sandbox_request request = {span_str(id), s->force};

	return do_to(c, s, RPC_SANDBOX_REMOVE_REQUEST, &request, id);
}

int run_rm(struct client *c, const struct settings *s, char **args)
{
	return do_to_all(c, s, args, remove_one);
}

static int remove_one_snapshot(struct client *c, const struct settings *s, const char *id)
{
	const struct rpc_delete_snapshot_request request = {span_str(id)};

	return do_to(c, s, RPC_SANDBOX_DELETE_SNAPSHOT_REQUEST, &request, id);
}

int run_rm_snapshot(struct client *c, const struct settings *s, char **args)
{
	return do_to_all(c, s, args, remove_one_snapshot);
}

/* --- snapshots -------------------------------------------------------------------------------- */

static int checkpoint(
    struct client *c, const struct settings *s, char **args, struct pb_arena *arena)
{
	struct pb_pair labels[TEXTS_MAX];
	const struct rpc_checkpoint_request request = {
	    span_str(args[0]), text_of(s->name), command_pairs(&s->labels, labels)};
	struct rpc_checkpoint_response response;
	int rc = command_call(c, RPC_SANDBOX_CHECKPOINT_REQUEST, &request,
	    &rpc_checkpoint_response_table, arena, &response);

	return rc ? rc
		  : print_id(s, response.snapshot_id, &rpc_checkpoint_response_table, &response);
}

int run_checkpoint(struct client *c, const struct settings *s, char **args)
{
	return command_with_arena(checkpoint, c, s, args);
}

static int restore(struct client *c, const struct settings *s, char **args, struct pb_arena *arena)
{
	struct pb_pair labels[TEXTS_MAX];
	const struct rpc_restore_request request = {
	    .id = text_of(s->id),
	    .snapshot_id = span_str(args[0]),
	    .labels = command_pairs(&s->labels, labels),
	    .network_override = s->new_network,
	    .ttl_seconds = (uint32_t)(s->ttl_ms / 1000),
	};
	struct rpc_restore_response response;
	int rc = command_call(c, RPC_SANDBOX_RESTORE_REQUEST, &request, &rpc_restore_response_table,
	    arena, &response);

	return rc ? rc : print_new(c, s, response.id, &rpc_restore_response_table, &response);
}

int run_restore(struct client *c, const struct settings *s, char **args)
{
	return command_with_arena(restore, c, s, args);
}

struct snapshot_row {
	struct span id, sandbox, name, created;
	struct pb_list labels;
};

static PB_TABLE(snapshot_row, "Row", PB_FIELD(snapshot_row, 1, id, PB_STRING),
    PB_FIELD(snapshot_row, 2, sandbox, PB_STRING), PB_FIELD(snapshot_row, 3, name, PB_STRING),
    PB_FIELD(snapshot_row, 4, created, PB_STRING), PB_MAP(snapshot_row, 5, labels));

static int print_snapshots(const struct pb_list *snapshots)
{
	const struct rpc_snapshot_summary *from = snapshots->items;
	struct snapshot_row *rows = calloc(snapshots->n + 1, sizeof *rows);

	if (!rows)
		return fail(EXIT_LOCAL, "snapshots: no memory");
	for (size_t i = 0; i < snapshots->n; i++)
		rows[i] = (struct snapshot_row){from[i].id, from[i].sandbox_id, from[i].name,
		    from[i].created_at, from[i].labels};
	print_list(stdout, &snapshot_row_table, &(struct pb_list){rows, snapshots->n});
	free(rows);
	return EXIT_OK;
}

static int snapshots(
    struct client *c, const struct settings *s, char **args, struct pb_arena *arena)
{
	struct pb_pair labels[TEXTS_MAX];
	const struct rpc_list_snapshots_request request = {
	    text_of(args[0]), command_pairs(&s->labels, labels)};
	struct rpc_list_snapshots_response response;
	int rc = command_call(c, RPC_SANDBOX_LIST_SNAPSHOTS_REQUEST, &request,
	    &rpc_list_snapshots_response_table, arena, &response);

	if (rc)
		return rc;
	if (s->json)
		return print_json(stdout, &rpc_list_snapshots_response_table, &response);
	return print_snapshots(&response.snapshots);
}

int run_snapshots(struct client *c, const struct settings *s, char **args)
{
	return command_with_arena(snapshots, c, s, args);
}

/* --- events ----------------------------------------------------------------------------------- */

static void print_event(const struct rpc_sandbox_event *e)
{
	const int64_t ns_per_sec = (int64_t)NS_PER_SEC;
	const struct pb_pair *attributes = e->attributes.items;
	struct time_text text;

	print_text(stdout, time_of(&text, e->timestamp / ns_per_sec, e->timestamp % ns_per_sec));
	putchar(' ');
	print_text(stdout, e->action);
	putchar(' ');
	print_text(stdout, e->sandbox_id.n ? e->sandbox_id : span_str("-"));
	for (size_t i = 0; i < e->attributes.n; i++) {
		putchar(' ');
		print_text(stdout, attributes[i].key);
		putchar('=');
		print_text(stdout, attributes[i].value);
	}
	putchar('\n');
}

static int next_event(struct client *c, const struct settings *s, struct pb_arena *arena)
{
	struct rpc_sandbox_event event;
	struct frame answer;
	int rc = client_next(c, 0, &answer);

	arena->used = 0;
	if (rc == 0)
		rc = command_read(
		    c, &answer, RPC_SANDBOX_EVENT, &rpc_sandbox_event_table, arena, &event);
	if (rc)
		return rc;
	if (s->json)
		rc = print_json(stdout, &rpc_sandbox_event_table, &event);
	else
		print_event(&event);
	fflush(stdout);
	return rc;
}

/* Until the connection ends, or the reader of the output. */
static int events(struct client *c, const struct settings *s, char **args, struct pb_arena *arena)
{
	const struct rpc_sandbox_events_request request = {text_of(args[0]), text_of(s->action)};
	int rc = command_begin(c, RPC_SANDBOX_EVENTS_REQUEST, &request);

	while (rc == 0 && !ferror(stdout))
		rc = next_event(c, s, arena);
	return rc;
}

int run_events(struct client *c, const struct settings *s, char **args)
{
	return command_with_arena(events, c, s, args);
}
