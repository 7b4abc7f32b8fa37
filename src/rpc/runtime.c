#include "rpc/methods.h"

#include <stdio.h>

/* What a waiting request needs when the probe is done. */
static struct runtime_caller caller_of(const struct rpc_call *call, bool start)
{
	return (struct runtime_caller){
	    .owner = call->server, .id = {call->token.slot, call->token.generation}, .tag = start};
}

static struct rpc_token token_of(const struct runtime_caller *caller)
{
	return (struct rpc_token){caller->id[0], caller->id[1]};
}

static void probe(struct rpc_call *call, runtime_status_fn *fn, bool start)
{
	struct rpc_services *services = call->services;
	struct runtime_caller caller = caller_of(call, start);

	if (runtime_probe(services->runtime, fn, &caller) < 0)
		rpc_error(call->server, call->token, RPC_UNAVAILABLE,
		    "cannot probe the container runtime: too many requests wait for it");
}

static struct rpc_service_status service(const char *name, bool ready, const char *detail)
{
	return (struct rpc_service_status){
	    .name = span_str(name),
	    .status = span_str(ready ? "ready" : "not_ready"),
	    .detail = span_str(detail),
	};
}

static void answer_status(const struct runtime_status *st, const struct runtime_caller *caller)
{
	const struct rpc_service_status services[] = {
	    service("containerd", st->containerd_ready, st->containerd_detail),
	    service("dockerd", st->docker_ready, st->docker_detail),
	};
	const struct rpc_runtime_status_response response = {
	    .containerd_ready = st->containerd_ready,
	    .docker_ready = st->docker_ready,
	    .endpoint = span_str(st->endpoint),
	    .detail = span_str(st->detail),
	    .services = PB_LIST(services),
	};

	rpc_answer(caller->owner, token_of(caller), &response);
}

void rpc_runtime_status(struct rpc_call *call, const void *message)
{
	(void)message;
	probe(call, answer_status, false);
}

static void answer_ensure(const struct runtime_status *st, const struct runtime_caller *caller)
{
	char text[RUNTIME_DETAIL_BYTES + 128];
	bool start = caller->tag;

	snprintf(text, sizeof text, "%s%s",
	    start && !st->docker_ready ? "agent " AGENT_VERSION
					 " cannot start the runtime, start it in the guest; "
				       : "",
	    st->detail);
	rpc_answer(caller->owner, token_of(caller),
	    &(struct rpc_runtime_ensure_response){
		.ready = st->docker_ready,
		.endpoint = span_str(st->docker_ready ? st->endpoint : ""),
		.message = span_str(text),
		.status = span_str(st->docker_ready ? "reused" : "failed"),
	    });
}

void rpc_ensure_runtime(struct rpc_call *call, const void *message)
{
	const struct rpc_runtime_ensure_request *request = message;

	probe(call, answer_ensure, request->start_if_needed);
}
