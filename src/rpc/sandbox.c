#include "rpc/sandbox.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>

struct sandboxes *rpc_sandboxes(struct rpc_call *call)
{
	struct rpc_services *services = call->services;

	if (!services->sandboxes)
		rpc_error(
		    call->server, call->token, RPC_UNAVAILABLE, "sandbox service unavailable");
	return services->sandboxes;
}

int32_t rpc_sandbox_code(int rc)
{
	switch (rc) {
	case -ENOENT: return RPC_NOT_FOUND;
	case -EINVAL: return RPC_CANNOT_DECODE;
	case -EAGAIN:
	case -ESHUTDOWN: return RPC_UNAVAILABLE;
	default: return RPC_FAILED;
	}
}

static struct sandbox_caller caller_of(const struct rpc_call *call)
{
	return (struct sandbox_caller){
	    .owner = call->server, .id = {call->token.slot, call->token.generation}};
}

static struct rpc_token token_of(const struct sandbox_caller *caller)
{
	return (struct rpc_token){caller->id[0], caller->id[1]};
}

static void answer(const struct sandbox_caller *caller, const void *response)
{
	rpc_answer(caller->owner, token_of(caller), response);
}

static void no_memory(const struct sandbox_caller *caller)
{
	rpc_error(caller->owner, token_of(caller), RPC_FAILED, "cannot answer: no memory");
}

/* Whether the request failed, and the host was told. */
static bool has_failed(const struct sandbox_answer *a, const struct sandbox_caller *caller)
{
	if (a->rc < 0)
		rpc_error(caller->owner, token_of(caller), rpc_sandbox_code(a->rc), a->why);
	return a->rc < 0;
}

/* The response is empty. */
static void answer_done(const struct sandbox_answer *a, const struct sandbox_caller *caller)
{
	if (!has_failed(a, caller))
		answer(caller, NULL);
}

/* --- labels and commands ---------------------------------------------------------------------- */

/* What a request's map says, as views in `items`. False when it cannot be, and the host was told.
 */
static bool read_labels(
    struct rpc_call *call, struct pb_list map, struct label items[LABELS_MAX], struct labels *out)
{
	const struct pb_pair *pairs = map.items;

	if (map.n > LABELS_MAX) {
		rpc_error(call->server, call->token, RPC_CANNOT_DECODE, "more than 64 labels");
		return false;
	}
	for (size_t i = 0; i < map.n; i++)
		items[i] = (struct label){pairs[i].key, pairs[i].value};
	*out = (struct labels){items, map.n};
	return true;
}

/* Appends labels to an array in which there is room for them. */
static struct pb_list write_labels(struct labels l, struct pb_pair **at)
{
	struct pb_list list = {*at, l.n};

	for (size_t i = 0; i < l.n; i++)
		*(*at)++ = (struct pb_pair){l.items[i].key, l.items[i].value};
	return list;
}

static int fill_command(const struct rpc_command *from, struct command *to)
{
	const struct span *args = from->cmd.items;
	const struct pb_pair *env = from->env.items;
	int rc = 0;

	for (size_t i = 0; i < from->cmd.n && rc == 0; i++)
		rc = command_add_arg(to, args[i]);
	for (size_t i = 0; i < from->env.n && rc == 0; i++)
		rc = command_add_env(to, env[i].key, env[i].value);
	if (rc == 0 &&
	    (!span_to_cstr(from->working_dir, to->working_dir, sizeof to->working_dir) ||
		!span_to_cstr(from->user, to->user, sizeof to->user)))
		rc = -EINVAL;
	return rc;
}

bool rpc_read_command(struct rpc_call *call, const struct rpc_command *from, struct command *to)
{
	int rc = from->cmd.n ? fill_command(from, to) : -ENOENT;

	if (rc == 0)
		return true;
	rpc_error(call->server, call->token, rc == -ENOMEM ? RPC_FAILED : RPC_CANNOT_DECODE,
	    rc == -ENOENT       ? "cannot run: there is no command"
		: rc == -ENOMEM ? "cannot run the command: no memory"
		: rc == -E2BIG  ? "cannot run the command: its arguments or its environment are "
				  "larger than 1 MiB"
				: "cannot run the command: a NUL in it, a name in its environment "
				  "that is empty or has a '=', or too long a directory or user");
	return false;
}

/* --- life ------------------------------------------------------------------------------------- */

static void answer_create(const struct sandbox_answer *a, const struct sandbox_caller *caller)
{
	if (!has_failed(a, caller))
		answer(caller,
		    &(struct rpc_create_sandbox_response){
			.id = span_str(a->infos->id),
			.ip_address = span_str(a->infos->ip),
			.state = span_str(sandbox_state_name(a->infos->state)),
		    });
}

/* Hosts may ask for more than a sandbox has. */
static void tell_ignored(const struct rpc_create_sandbox_request *r)
{
	if (r->image.n || r->mounts.n || r->ssh_public_key.n)
		log_warn("rpc", "a sandbox has no images, mounts and SSH keys: left out",
		    KV_SPAN("id", r->id));
}

void rpc_sandbox_create(struct rpc_call *call, const void *message)
{
	const struct rpc_create_sandbox_request *r = message;
	const struct rpc_command from = {r->cmd, r->env, r->working_dir, r->user};
	struct sandboxes *sandboxes = rpc_sandboxes(call);
	struct sandbox_caller caller = caller_of(call);
	struct label labels[LABELS_MAX];
	struct command first;
	struct sandbox_spec spec = {
	    .id = r->id,
	    .kernel = r->kernel,
	    .rootfs = r->rootfs,
	    .boot_args = r->boot_args,
	    .vcpus = r->limits ? r->limits->vcpus : 0,
	    .memory_mib = r->limits ? r->limits->memory_mib : 0,
	    .network_mode = r->network ? r->network->mode : span_of(NULL, 0),
	    .ttl_secs = r->ttl_seconds,
	    .first = r->cmd.n ? &first : NULL,
	};

	if (!sandboxes || !read_labels(call, r->labels, labels, &spec.labels))
		return;
	command_init(&first);
	if (!spec.first || rpc_read_command(call, &from, &first)) {
		tell_ignored(r);
		sandbox_create(sandboxes, &spec, answer_create, &caller);
	}
	command_done(&first);
}

void rpc_sandbox_stop(struct rpc_call *call, const void *message)
{
	const struct rpc_stop_sandbox_request *r = message;
	struct sandboxes *sandboxes = rpc_sandboxes(call);
	struct sandbox_caller caller = caller_of(call);

	if (sandboxes)
		sandbox_stop(sandboxes, r->id, r->timeout_seconds, answer_done, &caller);
}

void rpc_sandbox_remove(struct rpc_call *call, const void *message)
{
	const struct rpc_remove_sandbox_request *r = message;
	struct sandboxes *sandboxes = rpc_sandboxes(call);
	struct sandbox_caller caller = caller_of(call);

	if (sandboxes)
		sandbox_remove(sandboxes, r->id, r->force, answer_done, &caller);
}

static void send_info(
    const struct sandbox_info *i, struct pb_pair *pairs, const struct sandbox_caller *caller)
{
	const struct rpc_resource_limits limits = {(uint32_t)i->vcpus, i->memory_mib};
	const struct rpc_sandbox_network network = {
	    span_str(i->ip), span_str(i->gateway), span_str(i->tap)};

	answer(caller,
	    &(struct rpc_sandbox_info){
		.id = span_str(i->id),
		.state = span_str(sandbox_state_name(i->state)),
		.labels = write_labels(i->labels, &pairs),
		.limits = &limits,
		.network = i->ip[0] ? &network : NULL,
		.created_at = i->created_at,
		.ready_at = i->ready_at,
		.last_exited_at = i->last_exited_at,
		.last_exit_code = i->last_exit_code,
		.error = span_str(i->error),
	    });
}

static void answer_inspect(const struct sandbox_answer *a, const struct sandbox_caller *caller)
{
	struct pb_pair pairs[LABELS_MAX];

	if (!has_failed(a, caller))
		send_info(a->infos, pairs, caller);
}

void rpc_sandbox_inspect(struct rpc_call *call, const void *message)
{
	const struct rpc_inspect_sandbox_request *r = message;
	struct sandboxes *sandboxes = rpc_sandboxes(call);
	struct sandbox_caller caller = caller_of(call);

	if (sandboxes)
		sandbox_inspect(sandboxes, r->id, answer_inspect, &caller);
}

static void send_list(const struct sandbox_answer *a, struct rpc_sandbox_summary *rows,
    struct pb_pair *pairs, const struct sandbox_caller *caller)
{
	for (size_t i = 0; i < a->n_infos; i++)
		rows[i] = (struct rpc_sandbox_summary){
		    .id = span_str(a->infos[i].id),
		    .state = span_str(sandbox_state_name(a->infos[i].state)),
		    .labels = write_labels(a->infos[i].labels, &pairs),
		    .ip_address = span_str(a->infos[i].ip),
		    .created_at = a->infos[i].created_at,
		};
	answer(caller, &(struct rpc_list_sandboxes_response){{rows, a->n_infos}});
}

static void answer_list(const struct sandbox_answer *a, const struct sandbox_caller *caller)
{
	struct rpc_sandbox_summary *rows;
	struct pb_pair *pairs;
	size_t n_pairs = 1;

	if (has_failed(a, caller))
		return;
	for (size_t i = 0; i < a->n_infos; i++)
		n_pairs += a->infos[i].labels.n;
	rows = calloc(a->n_infos + 1, sizeof *rows);
	pairs = calloc(n_pairs, sizeof *pairs);
	if (rows && pairs)
		send_list(a, rows, pairs, caller);
	else
		no_memory(caller);
	free(pairs);
	free(rows);
}

void rpc_sandbox_list(struct rpc_call *call, const void *message)
{
	const struct rpc_list_sandboxes_request *r = message;
	struct sandboxes *sandboxes = rpc_sandboxes(call);
	struct sandbox_caller caller = caller_of(call);
	struct label items[LABELS_MAX];
	struct labels labels;

	if (sandboxes && read_labels(call, r->labels, items, &labels))
		sandbox_list(sandboxes, r->state, labels, answer_list, &caller);
}

/* --- snapshots -------------------------------------------------------------------------------- */

static void answer_checkpoint(const struct sandbox_answer *a, const struct sandbox_caller *caller)
{
	if (!has_failed(a, caller))
		answer(caller,
		    &(struct rpc_checkpoint_response){
			.snapshot_id = span_str(a->snapshots->id),
			.snapshot_dir = span_str(a->snapshots->dir),
			.created_at = span_str(a->snapshots->created_at),
		    });
}

void rpc_sandbox_checkpoint(struct rpc_call *call, const void *message)
{
	const struct rpc_checkpoint_request *r = message;
	struct sandboxes *sandboxes = rpc_sandboxes(call);
	struct sandbox_caller caller = caller_of(call);
	struct label items[LABELS_MAX];
	struct labels labels;

	if (sandboxes && read_labels(call, r->labels, items, &labels))
		sandbox_checkpoint(
		    sandboxes, r->sandbox_id, r->name, labels, answer_checkpoint, &caller);
}

static void answer_restore(const struct sandbox_answer *a, const struct sandbox_caller *caller)
{
	if (!has_failed(a, caller))
		answer(caller,
		    &(struct rpc_restore_response){
			.id = span_str(a->infos->id),
			.ip_address = span_str(a->infos->ip),
		    });
}

void rpc_sandbox_restore(struct rpc_call *call, const void *message)
{
	const struct rpc_restore_request *r = message;
	struct sandboxes *sandboxes = rpc_sandboxes(call);
	struct sandbox_caller caller = caller_of(call);
	struct label items[LABELS_MAX];
	struct sandbox_restore_spec spec = {
	    .id = r->id,
	    .snapshot_id = r->snapshot_id,
	    .network_override = r->network_override,
	    .ttl_secs = r->ttl_seconds,
	};

	if (sandboxes && read_labels(call, r->labels, items, &spec.labels))
		sandbox_restore(sandboxes, &spec, answer_restore, &caller);
}

static void send_snapshots(const struct sandbox_answer *a, struct rpc_snapshot_summary *rows,
    struct pb_pair *pairs, const struct sandbox_caller *caller)
{
	for (size_t i = 0; i < a->n_snapshots; i++)
		rows[i] = (struct rpc_snapshot_summary){
		    .id = span_str(a->snapshots[i].id),
		    .sandbox_id = span_str(a->snapshots[i].sandbox_id),
		    .name = span_str(a->snapshots[i].name),
		    .labels = write_labels(a->snapshots[i].labels, &pairs),
		    .snapshot_dir = span_str(a->snapshots[i].dir),
		    .created_at = span_str(a->snapshots[i].created_at),
		};
	answer(caller, &(struct rpc_list_snapshots_response){{rows, a->n_snapshots}});
}

static void answer_snapshots(const struct sandbox_answer *a, const struct sandbox_caller *caller)
{
	struct rpc_snapshot_summary *rows;
	struct pb_pair *pairs;
	size_t n_pairs = 1;

	if (has_failed(a, caller))
		return;
	for (size_t i = 0; i < a->n_snapshots; i++)
		n_pairs += a->snapshots[i].labels.n;
	rows = calloc(a->n_snapshots + 1, sizeof *rows);
	pairs = calloc(n_pairs, sizeof *pairs);
	if (rows && pairs)
		send_snapshots(a, rows, pairs, caller);
	else
		no_memory(caller);
	free(pairs);
	free(rows);
}

void rpc_sandbox_list_snapshots(struct rpc_call *call, const void *message)
{
	const struct rpc_list_snapshots_request *r = message;
	struct sandboxes *sandboxes = rpc_sandboxes(call);
	struct sandbox_caller caller = caller_of(call);
	struct label items[LABELS_MAX];
	struct labels labels;

	if (sandboxes && read_labels(call, r->labels, items, &labels))
		sandbox_snapshots(sandboxes, r->sandbox_id, labels, answer_snapshots, &caller);
}

void rpc_sandbox_delete_snapshot(struct rpc_call *call, const void *message)
{
	const struct rpc_delete_snapshot_request *r = message;
	struct sandboxes *sandboxes = rpc_sandboxes(call);
	struct sandbox_caller caller = caller_of(call);

	if (sandboxes)
		sandbox_snapshot_delete(sandboxes, r->snapshot_id, answer_done, &caller);
}
