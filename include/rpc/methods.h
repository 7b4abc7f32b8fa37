/* methods.h - what the host can ask for: one row a request. */
#ifndef RPC_METHODS_H
#define RPC_METHODS_H

#include "rpc/server.h"
#include "runtime/kubernetes.h"
#include "system/host_clock.h"
#include "system/reader.h"
#include "system/shutdown.h"

/* The services behind the handlers: rpc_call.services. All outlive the server. */
struct rpc_services {
	struct host_clock clock;
	struct reader *reader;
	struct shutdown *shutdown;
	struct runtime *runtime;
	struct kubernetes *kubernetes;
	struct sandboxes *sandboxes; /* NULL: they cannot be had */
};

extern const struct rpc_method rpc_methods[];
extern const size_t rpc_method_count;

/* The handlers, by the room that they translate for. */
rpc_handler_fn rpc_ping, rpc_get_system_info, rpc_mmap_read_file, rpc_shutdown; /* system.c */
rpc_handler_fn rpc_ensure_runtime, rpc_runtime_status;                          /* runtime.c */
rpc_handler_fn rpc_kubernetes_start, rpc_kubernetes_stop, rpc_kubernetes_delete,
    rpc_kubernetes_status, rpc_kubernetes_kubeconfig; /* kubernetes.c */
rpc_handler_fn rpc_sandbox_create, rpc_sandbox_stop, rpc_sandbox_remove, rpc_sandbox_inspect,
    rpc_sandbox_list, rpc_sandbox_checkpoint, rpc_sandbox_restore, rpc_sandbox_list_snapshots,
    rpc_sandbox_delete_snapshot;                                      /* sandbox.c */
rpc_handler_fn rpc_sandbox_run, rpc_sandbox_exec, rpc_sandbox_events; /* sandbox_streams.c */

/* What a service keeps of a request until its answer is there, and back. */
static inline struct runtime_caller rpc_caller_of(const struct rpc_call *call)
{
	return (struct runtime_caller){
	    .owner = call->server, .id = {call->token.slot, call->token.generation}};
}

static inline struct rpc_token rpc_token_of(const struct runtime_caller *caller)
{
	return (struct rpc_token){caller->id[0], caller->id[1]};
}

/* A row of a status; `failed`: it was up, or should be, and died. Views the texts. */
static inline struct rpc_service_status rpc_service(
    const char *name, bool ready, bool failed, const char *detail)
{
	return (struct rpc_service_status){
	    .name = span_str(name),
	    .status = span_str(ready ? "ready"
		    : failed         ? "error"
				     : "not_ready"),
	    .detail = span_str(detail),
	};
}

#endif
