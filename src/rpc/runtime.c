#include "rpc/methods.h"

#include "base/cursor.h"
#include "runtime/notes.h"

static void probe(struct rpc_call *call, runtime_status_fn *fn)
{
	struct rpc_services *services = call->services;
	struct runtime_caller caller = rpc_caller_of(call);

	if (!services->runtime || runtime_probe(services->runtime, fn, &caller) < 0)
		rpc_error(call->server, call->token, RPC_UNAVAILABLE,
		    "cannot probe the container runtime: too many requests wait for it, or no "
		    "memory");
}

static void answer_status(const struct runtime_status *st, const struct runtime_caller *caller)
{
	const struct rpc_service_status services[] = {
	    rpc_service(
		"containerd", st->containerd_ready, st->containerd_failed, st->containerd_detail),
	    rpc_service("dockerd", st->docker_ready, st->docker_failed, st->docker_detail),
	};
	const struct rpc_runtime_status_response response = {
	    .containerd_ready = st->containerd_ready,
	    .docker_ready = st->docker_ready,
	    .endpoint = span_str(st->endpoint),
	    .detail = span_str(st->detail),
	    .services = PB_LIST(services),
	};

	rpc_answer(caller->owner, rpc_token_of(caller), &response);
}

void rpc_runtime_status(struct rpc_call *call, const void *message)
{
	(void)message;
	probe(call, answer_status);
}

/* An engine whose API has no way to the host is ready all the same: the endpoint is "" then. */
static void answer_ensured(struct rpc_server *server, struct rpc_token token, const char *status,
    const char *endpoint, const char *message)
{
	bool ready = strcmp(status, "reused") == 0;

	rpc_answer(server, token,
	    &(struct rpc_runtime_ensure_response){
		.ready = ready,
		.endpoint = span_str(ready ? endpoint : ""),
		.message = span_str(message),
		.status = span_str(status),
	    });
}

/* The message is the notes of the start, if there was one, and what the probe says. */
static void answer_probed(const struct runtime_status *st, const struct runtime_caller *caller)
{
	char text[NOTES_BYTES + RUNTIME_DETAIL_BYTES + 2];
	struct wr w = wr_of(text, sizeof text);
	const char *status = st->docker_ready ? "reused" : st->starting ? "starting" : "failed";

	wr_str(&w, st->notes);
	wr_str(&w, st->notes[0] ? "; " : "");
	wr_str(&w, st->detail);
	wr_nul(&w);
	answer_ensured(caller->owner, rpc_token_of(caller), status, st->endpoint, text);
}

void rpc_ensure_runtime(struct rpc_call *call, const void *message)
{
	const struct rpc_runtime_ensure_request *request = message;
	struct rpc_services *services = call->services;
	struct runtime *runtime = services->runtime;

	if (runtime && runtime_is_ready(runtime))
		answer_ensured(call->server, call->token, "reused", runtime_endpoint(runtime),
		    runtime_notes(runtime));
	else if (runtime && request->start_if_needed && runtime_start(runtime))
		answer_ensured(
		    call->server, call->token, "starting", "", "runtime start in progress");
	else
		probe(call, answer_probed);
}
