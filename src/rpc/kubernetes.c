#include "rpc/methods.h"

#include <errno.h>

static void ask(struct rpc_call *call, enum kubernetes_request what, kubernetes_fn *fn)
{
	struct rpc_services *services = call->services;
	struct runtime_caller caller = rpc_caller_of(call);
	struct kubernetes *k = services->kubernetes;
	int rc = k ? kubernetes_ask(k, what, fn, &caller) : -ENOMEM;

	if (rc == -EAGAIN)
		rpc_error(call->server, call->token, RPC_UNAVAILABLE,
		    "Kubernetes is busy: too many requests wait for it");
	else if (rc < 0)
		rpc_error(call->server, call->token, RPC_UNAVAILABLE,
		    rc == -ENOMEM ? "Kubernetes is not available: no memory"
				  : "Kubernetes is not available: the agent is shutting down");
}

/* Whether the request failed, and the host was told. */
static bool has_failed(const struct kubernetes_answer *a, const struct runtime_caller *caller)
{
	int32_t code = a->rc == -ENOENT ? RPC_NOT_FOUND
	    : a->rc == -ESHUTDOWN       ? RPC_UNAVAILABLE
					: RPC_FAILED;

	if (a->rc < 0)
		rpc_error(caller->owner, rpc_token_of(caller), code, a->detail);
	return a->rc < 0;
}

static void answer(const struct runtime_caller *caller, const void *response)
{
	rpc_answer(caller->owner, rpc_token_of(caller), response);
}

static void answer_start(const struct kubernetes_answer *a, const struct runtime_caller *caller)
{
	if (!has_failed(a, caller))
		answer(caller,
		    &(struct rpc_kubernetes_start_response){
			.running = a->running,
			.api_ready = a->api_ready,
			.endpoint = SPAN_LIT(KUBERNETES_ENDPOINT),
			.detail = span_str(a->detail),
		    });
}

void rpc_kubernetes_start(struct rpc_call *call, const void *message)
{
	(void)message;
	ask(call, KUBERNETES_START, answer_start);
}

static void answer_stop(const struct kubernetes_answer *a, const struct runtime_caller *caller)
{
	if (!has_failed(a, caller))
		answer(caller,
		    &(struct rpc_kubernetes_stop_response){
			.stopped = true, .detail = span_str(a->detail)});
}

void rpc_kubernetes_stop(struct rpc_call *call, const void *message)
{
	(void)message;
	ask(call, KUBERNETES_STOP, answer_stop);
}

static void answer_delete(const struct kubernetes_answer *a, const struct runtime_caller *caller)
{
	if (!has_failed(a, caller))
		answer(caller,
		    &(struct rpc_kubernetes_delete_response){.detail = span_str(a->detail)});
}

void rpc_kubernetes_delete(struct rpc_call *call, const void *message)
{
	(void)message;
	ask(call, KUBERNETES_DELETE, answer_delete);
}

static void answer_status(const struct kubernetes_answer *a, const struct runtime_caller *caller)
{
	struct rpc_service_status services[2];

	if (has_failed(a, caller))
		return;
	services[0] = rpc_service("containerd", a->containerd_ready, false, a->containerd_detail);
	services[1] = rpc_service("k3s", a->api_ready, a->k3s_failed, a->k3s_detail);
	answer(caller,
	    &(struct rpc_kubernetes_status_response){
		.running = a->running,
		.api_ready = a->api_ready,
		.endpoint = SPAN_LIT(KUBERNETES_ENDPOINT),
		.detail = span_str(a->detail),
		.services = PB_LIST(services),
	    });
}

void rpc_kubernetes_status(struct rpc_call *call, const void *message)
{
	(void)message;
	ask(call, KUBERNETES_STATUS, answer_status);
}

static void answer_kubeconfig(
    const struct kubernetes_answer *a, const struct runtime_caller *caller)
{
	if (!has_failed(a, caller))
		answer(caller,
		    &(struct rpc_kubernetes_kubeconfig_response){
			.kubeconfig = a->kubeconfig,
			.context_name = SPAN_LIT(KUBERNETES_CONTEXT),
			.endpoint = SPAN_LIT(KUBERNETES_ENDPOINT),
		    });
}

void rpc_kubernetes_kubeconfig(struct rpc_call *call, const void *message)
{
	(void)message;
	ask(call, KUBERNETES_KUBECONFIG, answer_kubeconfig);
}
