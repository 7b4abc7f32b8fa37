#include "rpc/methods.h"

#include <stdio.h>

/* The service of this request has not come to this version; the host is told so at once. */
static void unavailable(struct rpc_call *call, const void *request)
{
	char text[128];

	(void)request;
	snprintf(text, sizeof text, "%s: the service is not available in agent " AGENT_VERSION,
	    message_by_type(call->type)->name);
	rpc_error(call->server, call->token, RPC_UNAVAILABLE, text);
}

const struct rpc_method rpc_methods[] = {
    {RPC_PING_REQUEST, RPC_PING_RESPONSE, &rpc_ping_request_table, &rpc_ping_response_table,
	rpc_ping},
    {RPC_GET_SYSTEM_INFO_REQUEST, RPC_SYSTEM_INFO, NULL, &rpc_system_info_table,
	rpc_get_system_info},
    {RPC_ENSURE_RUNTIME_REQUEST, RPC_RUNTIME_ENSURE_RESPONSE, &rpc_runtime_ensure_request_table,
	&rpc_runtime_ensure_response_table, rpc_ensure_runtime},
    {RPC_RUNTIME_STATUS_REQUEST, RPC_RUNTIME_STATUS_RESPONSE, &rpc_empty_table,
	&rpc_runtime_status_response_table, rpc_runtime_status},
    {RPC_SHUTDOWN_REQUEST, RPC_SHUTDOWN_RESPONSE, &rpc_shutdown_request_table,
	&rpc_shutdown_response_table, rpc_shutdown},
    {RPC_MMAP_READ_FILE_REQUEST, RPC_MMAP_READ_FILE_RESPONSE, &rpc_mmap_read_file_request_table,
	&rpc_mmap_read_file_response_table, rpc_mmap_read_file},

    {RPC_KUBERNETES_START_REQUEST, RPC_KUBERNETES_START_RESPONSE, &rpc_empty_table,
	&rpc_kubernetes_start_response_table, rpc_kubernetes_start},
    {RPC_KUBERNETES_STOP_REQUEST, RPC_KUBERNETES_STOP_RESPONSE, &rpc_empty_table,
	&rpc_kubernetes_stop_response_table, rpc_kubernetes_stop},
    {RPC_KUBERNETES_DELETE_REQUEST, RPC_KUBERNETES_DELETE_RESPONSE, &rpc_empty_table,
	&rpc_kubernetes_delete_response_table, rpc_kubernetes_delete},
    {RPC_KUBERNETES_STATUS_REQUEST, RPC_KUBERNETES_STATUS_RESPONSE, &rpc_empty_table,
	&rpc_kubernetes_status_response_table, rpc_kubernetes_status},
    {RPC_KUBERNETES_KUBECONFIG_REQUEST, RPC_KUBERNETES_KUBECONFIG_RESPONSE, &rpc_empty_table,
	&rpc_kubernetes_kubeconfig_response_table, rpc_kubernetes_kubeconfig},

    {RPC_SANDBOX_CREATE_REQUEST, RPC_CREATE_SANDBOX_RESPONSE, &rpc_create_sandbox_request_table,
	&rpc_create_sandbox_response_table, unavailable},
    {RPC_SANDBOX_STOP_REQUEST, RPC_SANDBOX_STOP_RESPONSE, &rpc_stop_sandbox_request_table, NULL,
	unavailable},
    {RPC_SANDBOX_REMOVE_REQUEST, RPC_SANDBOX_REMOVE_RESPONSE, &rpc_remove_sandbox_request_table,
	NULL, unavailable},
    {RPC_SANDBOX_INSPECT_REQUEST, RPC_SANDBOX_INFO, &rpc_inspect_sandbox_request_table,
	&rpc_sandbox_info_table, unavailable},
    {RPC_SANDBOX_LIST_REQUEST, RPC_LIST_SANDBOXES_RESPONSE, &rpc_list_sandboxes_request_table,
	&rpc_list_sandboxes_response_table, unavailable},
    {RPC_SANDBOX_RUN_REQUEST, RPC_RUN_OUTPUT, &rpc_run_request_table, &rpc_output_table,
	unavailable},
    {RPC_SANDBOX_EXEC_REQUEST, RPC_EXEC_OUTPUT, &rpc_exec_request_table, &rpc_output_table,
	unavailable},
    {RPC_SANDBOX_EVENTS_REQUEST, RPC_SANDBOX_EVENT, &rpc_sandbox_events_request_table,
	&rpc_sandbox_event_table, unavailable},
    {RPC_SANDBOX_CHECKPOINT_REQUEST, RPC_CHECKPOINT_RESPONSE, &rpc_checkpoint_request_table,
	&rpc_checkpoint_response_table, unavailable},
    {RPC_SANDBOX_RESTORE_REQUEST, RPC_RESTORE_RESPONSE, &rpc_restore_request_table,
	&rpc_restore_response_table, unavailable},
    {RPC_SANDBOX_LIST_SNAPSHOTS_REQUEST, RPC_LIST_SNAPSHOTS_RESPONSE,
	&rpc_list_snapshots_request_table, &rpc_list_snapshots_response_table, unavailable},
    {RPC_SANDBOX_DELETE_SNAPSHOT_REQUEST, RPC_SANDBOX_DELETE_SNAPSHOT_RESPONSE,
	&rpc_delete_snapshot_request_table, NULL, unavailable},
};
const size_t rpc_method_count = sizeof rpc_methods / sizeof *rpc_methods;
