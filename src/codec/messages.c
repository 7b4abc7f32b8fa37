#include "codec/messages.h"

/* The formatter takes initializers in macros for blocks. */
/* clang-format off */

const struct pb_table rpc_empty_table = {"Empty", 0, NULL, 0};

/* --- arcbox.v1: the system -------------------------------------------------------------------- */

PB_TABLE(rpc_ping_request, "PingRequest",
    PB_FIELD(rpc_ping_request, 1, message, PB_STRING),
    PB_FIELD(rpc_ping_request, 2, timestamp_secs, PB_INT64));

PB_TABLE(rpc_ping_response, "PingResponse",
    PB_FIELD(rpc_ping_response, 1, message, PB_STRING),
    PB_FIELD(rpc_ping_response, 2, version, PB_STRING));

PB_TABLE(rpc_system_info, "SystemInfo",
    PB_FIELD(rpc_system_info, 1, kernel_version, PB_STRING),
    PB_FIELD(rpc_system_info, 2, os_name, PB_STRING),
    PB_FIELD(rpc_system_info, 3, os_version, PB_STRING),
    PB_FIELD(rpc_system_info, 4, arch, PB_STRING),
    PB_FIELD(rpc_system_info, 5, total_memory, PB_UINT64),
    PB_FIELD(rpc_system_info, 6, available_memory, PB_UINT64),
    PB_FIELD(rpc_system_info, 7, cpu_count, PB_UINT32),
    PB_REPEATED(rpc_system_info, 8, load_average, PB_DOUBLE),
    PB_FIELD(rpc_system_info, 9, hostname, PB_STRING),
    PB_FIELD(rpc_system_info, 10, uptime, PB_UINT64),
    PB_REPEATED(rpc_system_info, 11, ip_addresses, PB_STRING));

PB_TABLE(rpc_shutdown_request, "ShutdownRequest",
    PB_FIELD(rpc_shutdown_request, 1, timeout_seconds, PB_UINT32));

PB_TABLE(rpc_shutdown_response, "ShutdownResponse",
    PB_FIELD(rpc_shutdown_response, 1, accepted, PB_BOOL));

PB_TABLE(rpc_mmap_read_file_request, "MmapReadFileRequest",
    PB_FIELD(rpc_mmap_read_file_request, 1, path, PB_STRING),
    PB_FIELD(rpc_mmap_read_file_request, 2, offset, PB_UINT64),
    PB_FIELD(rpc_mmap_read_file_request, 3, length, PB_UINT64));

PB_TABLE(rpc_mmap_read_file_response, "MmapReadFileResponse",
    PB_FIELD(rpc_mmap_read_file_response, 1, data, PB_BYTES),
    PB_FIELD(rpc_mmap_read_file_response, 2, bytes_read, PB_UINT64));

PB_TABLE(rpc_port_binding, "PortBinding",
    PB_FIELD(rpc_port_binding, 1, container_port, PB_UINT32),
    PB_FIELD(rpc_port_binding, 2, host_port, PB_UINT32),
    PB_FIELD(rpc_port_binding, 3, protocol, PB_STRING),
    PB_FIELD(rpc_port_binding, 4, host_ip, PB_STRING));

PB_TABLE(rpc_port_bindings_changed, "PortBindingsChanged",
    PB_FIELD(rpc_port_bindings_changed, 1, container_id, PB_STRING),
    PB_SUBMESSAGES(rpc_port_bindings_changed, 2, bindings, rpc_port_binding));

PB_TABLE(rpc_port_bindings_removed, "PortBindingsRemoved",
    PB_FIELD(rpc_port_bindings_removed, 1, container_id, PB_STRING));

/* --- arcbox.v1: container runtime and Kubernetes ---------------------------------------------- */

PB_TABLE(rpc_service_status, "ServiceStatus",
    PB_FIELD(rpc_service_status, 1, name, PB_STRING),
    PB_FIELD(rpc_service_status, 2, status, PB_STRING),
    PB_FIELD(rpc_service_status, 3, detail, PB_STRING));

PB_TABLE(rpc_runtime_ensure_request, "RuntimeEnsureRequest",
    PB_FIELD(rpc_runtime_ensure_request, 1, start_if_needed, PB_BOOL));

PB_TABLE(rpc_runtime_ensure_response, "RuntimeEnsureResponse",
    PB_FIELD(rpc_runtime_ensure_response, 1, ready, PB_BOOL),
    PB_FIELD(rpc_runtime_ensure_response, 2, endpoint, PB_STRING),
    PB_FIELD(rpc_runtime_ensure_response, 3, message, PB_STRING),
    PB_FIELD(rpc_runtime_ensure_response, 4, status, PB_STRING));

PB_TABLE(rpc_runtime_status_response, "RuntimeStatusResponse",
    PB_FIELD(rpc_runtime_status_response, 1, containerd_ready, PB_BOOL),
    PB_FIELD(rpc_runtime_status_response, 2, docker_ready, PB_BOOL),
    PB_FIELD(rpc_runtime_status_response, 3, endpoint, PB_STRING),
    PB_FIELD(rpc_runtime_status_response, 4, detail, PB_STRING),
    PB_SUBMESSAGES(rpc_runtime_status_response, 5, services, rpc_service_status));

PB_TABLE(rpc_kubernetes_start_response, "KubernetesStartResponse",
    PB_FIELD(rpc_kubernetes_start_response, 1, running, PB_BOOL),
    PB_FIELD(rpc_kubernetes_start_response, 2, api_ready, PB_BOOL),
    PB_FIELD(rpc_kubernetes_start_response, 3, endpoint, PB_STRING),
    PB_FIELD(rpc_kubernetes_start_response, 4, detail, PB_STRING));

PB_TABLE(rpc_kubernetes_stop_response, "KubernetesStopResponse",
    PB_FIELD(rpc_kubernetes_stop_response, 1, stopped, PB_BOOL),
    PB_FIELD(rpc_kubernetes_stop_response, 2, detail, PB_STRING));

PB_TABLE(rpc_kubernetes_delete_response, "KubernetesDeleteResponse",
    PB_FIELD(rpc_kubernetes_delete_response, 1, detail, PB_STRING));

PB_TABLE(rpc_kubernetes_status_response, "KubernetesStatusResponse",
    PB_FIELD(rpc_kubernetes_status_response, 1, running, PB_BOOL),
    PB_FIELD(rpc_kubernetes_status_response, 2, api_ready, PB_BOOL),
    PB_FIELD(rpc_kubernetes_status_response, 3, endpoint, PB_STRING),
    PB_FIELD(rpc_kubernetes_status_response, 4, detail, PB_STRING),
    PB_SUBMESSAGES(rpc_kubernetes_status_response, 5, services, rpc_service_status));

PB_TABLE(rpc_kubernetes_kubeconfig_response, "KubernetesKubeconfigResponse",
    PB_FIELD(rpc_kubernetes_kubeconfig_response, 1, kubeconfig, PB_STRING),
    PB_FIELD(rpc_kubernetes_kubeconfig_response, 2, context_name, PB_STRING),
    PB_FIELD(rpc_kubernetes_kubeconfig_response, 3, endpoint, PB_STRING));

/* --- sandbox.v1: parts ------------------------------------------------------------------------ */

PB_TABLE(rpc_resource_limits, "ResourceLimits",
    PB_FIELD(rpc_resource_limits, 1, vcpus, PB_UINT32),
    PB_FIELD(rpc_resource_limits, 2, memory_mib, PB_UINT64));

PB_TABLE(rpc_network_spec, "NetworkSpec",
    PB_FIELD(rpc_network_spec, 1, mode, PB_STRING));

PB_TABLE(rpc_mount, "Mount",
    PB_FIELD(rpc_mount, 1, source, PB_STRING),
    PB_FIELD(rpc_mount, 2, target, PB_STRING),
    PB_FIELD(rpc_mount, 3, readonly, PB_BOOL));

PB_TABLE(rpc_terminal_size, "TerminalSize",
    PB_FIELD(rpc_terminal_size, 1, width, PB_UINT32),
    PB_FIELD(rpc_terminal_size, 2, height, PB_UINT32));

PB_TABLE(rpc_sandbox_network, "SandboxNetwork",
    PB_FIELD(rpc_sandbox_network, 1, ip_address, PB_STRING),
    PB_FIELD(rpc_sandbox_network, 2, gateway, PB_STRING),
    PB_FIELD(rpc_sandbox_network, 3, tap_name, PB_STRING));

/* --- sandbox.v1: life of a sandbox ------------------------------------------------------------ */

PB_TABLE(rpc_create_sandbox_request, "CreateSandboxRequest",
    PB_FIELD(rpc_create_sandbox_request, 1, id, PB_STRING),
    PB_MAP(rpc_create_sandbox_request, 2, labels),
    PB_FIELD(rpc_create_sandbox_request, 3, kernel, PB_STRING),
    PB_FIELD(rpc_create_sandbox_request, 4, rootfs, PB_STRING),
    PB_FIELD(rpc_create_sandbox_request, 5, boot_args, PB_STRING),
    PB_SUBMESSAGE(rpc_create_sandbox_request, 6, limits, rpc_resource_limits),
    PB_FIELD(rpc_create_sandbox_request, 7, image, PB_STRING),
    PB_REPEATED(rpc_create_sandbox_request, 8, cmd, PB_STRING),
    PB_MAP(rpc_create_sandbox_request, 9, env),
    PB_FIELD(rpc_create_sandbox_request, 10, working_dir, PB_STRING),
    PB_FIELD(rpc_create_sandbox_request, 11, user, PB_STRING),
    PB_SUBMESSAGES(rpc_create_sandbox_request, 12, mounts, rpc_mount),
    PB_SUBMESSAGE(rpc_create_sandbox_request, 13, network, rpc_network_spec),
    PB_FIELD(rpc_create_sandbox_request, 14, ttl_seconds, PB_UINT32),
    PB_OPTIONAL(rpc_create_sandbox_request, 15, ssh_public_key, PB_STRING));

PB_TABLE(rpc_create_sandbox_response, "CreateSandboxResponse",
    PB_FIELD(rpc_create_sandbox_response, 1, id, PB_STRING),
    PB_FIELD(rpc_create_sandbox_response, 2, ip_address, PB_STRING),
    PB_FIELD(rpc_create_sandbox_response, 3, state, PB_STRING));

PB_TABLE(rpc_stop_sandbox_request, "StopSandboxRequest",
    PB_FIELD(rpc_stop_sandbox_request, 1, id, PB_STRING),
    PB_FIELD(rpc_stop_sandbox_request, 2, timeout_seconds, PB_UINT32));

PB_TABLE(rpc_remove_sandbox_request, "RemoveSandboxRequest",
    PB_FIELD(rpc_remove_sandbox_request, 1, id, PB_STRING),
    PB_FIELD(rpc_remove_sandbox_request, 2, force, PB_BOOL));

PB_TABLE(rpc_inspect_sandbox_request, "InspectSandboxRequest",
    PB_FIELD(rpc_inspect_sandbox_request, 1, id, PB_STRING));

PB_TABLE(rpc_sandbox_info, "SandboxInfo",
    PB_FIELD(rpc_sandbox_info, 1, id, PB_STRING),
    PB_FIELD(rpc_sandbox_info, 2, state, PB_STRING),
    PB_MAP(rpc_sandbox_info, 3, labels),
    PB_SUBMESSAGE(rpc_sandbox_info, 4, limits, rpc_resource_limits),
    PB_SUBMESSAGE(rpc_sandbox_info, 5, network, rpc_sandbox_network),
    PB_FIELD(rpc_sandbox_info, 6, created_at, PB_INT64),
    PB_FIELD(rpc_sandbox_info, 7, ready_at, PB_INT64),
    PB_FIELD(rpc_sandbox_info, 8, last_exited_at, PB_INT64),
    PB_FIELD(rpc_sandbox_info, 9, last_exit_code, PB_INT32),
    PB_FIELD(rpc_sandbox_info, 10, error, PB_STRING));

PB_TABLE(rpc_list_sandboxes_request, "ListSandboxesRequest",
    PB_FIELD(rpc_list_sandboxes_request, 1, state, PB_STRING),
    PB_MAP(rpc_list_sandboxes_request, 2, labels));

PB_TABLE(rpc_sandbox_summary, "SandboxSummary",
    PB_FIELD(rpc_sandbox_summary, 1, id, PB_STRING),
    PB_FIELD(rpc_sandbox_summary, 2, state, PB_STRING),
    PB_MAP(rpc_sandbox_summary, 3, labels),
    PB_FIELD(rpc_sandbox_summary, 4, ip_address, PB_STRING),
    PB_FIELD(rpc_sandbox_summary, 5, created_at, PB_INT64));

PB_TABLE(rpc_list_sandboxes_response, "ListSandboxesResponse",
    PB_SUBMESSAGES(rpc_list_sandboxes_response, 1, sandboxes, rpc_sandbox_summary));

/* --- sandbox.v1: commands and events ---------------------------------------------------------- */

PB_TABLE(rpc_run_request, "RunRequest",
    PB_FIELD(rpc_run_request, 1, id, PB_STRING),
    PB_REPEATED(rpc_run_request, 2, cmd, PB_STRING),
    PB_MAP(rpc_run_request, 3, env),
    PB_FIELD(rpc_run_request, 4, working_dir, PB_STRING),
    PB_FIELD(rpc_run_request, 5, user, PB_STRING),
    PB_FIELD(rpc_run_request, 6, tty, PB_BOOL),
    PB_FIELD(rpc_run_request, 7, timeout_seconds, PB_UINT32));

PB_TABLE(rpc_exec_request, "ExecRequest",
    PB_FIELD(rpc_exec_request, 1, id, PB_STRING),
    PB_REPEATED(rpc_exec_request, 2, cmd, PB_STRING),
    PB_MAP(rpc_exec_request, 3, env),
    PB_FIELD(rpc_exec_request, 4, working_dir, PB_STRING),
    PB_FIELD(rpc_exec_request, 5, user, PB_STRING),
    PB_FIELD(rpc_exec_request, 6, tty, PB_BOOL),
    PB_SUBMESSAGE(rpc_exec_request, 7, tty_size, rpc_terminal_size),
    PB_FIELD(rpc_exec_request, 8, timeout_seconds, PB_UINT32));

PB_TABLE(rpc_output, "ExecOutput",
    PB_FIELD(rpc_output, 1, stream, PB_STRING),
    PB_FIELD(rpc_output, 2, data, PB_BYTES),
    PB_FIELD(rpc_output, 3, exit_code, PB_INT32),
    PB_FIELD(rpc_output, 4, done, PB_BOOL));

PB_TABLE(rpc_sandbox_events_request, "SandboxEventsRequest",
    PB_FIELD(rpc_sandbox_events_request, 1, id, PB_STRING),
    PB_FIELD(rpc_sandbox_events_request, 2, action, PB_STRING));

PB_TABLE(rpc_sandbox_event, "SandboxEvent",
    PB_FIELD(rpc_sandbox_event, 1, sandbox_id, PB_STRING),
    PB_FIELD(rpc_sandbox_event, 2, action, PB_STRING),
    PB_FIELD(rpc_sandbox_event, 3, timestamp, PB_INT64),
    PB_MAP(rpc_sandbox_event, 4, attributes));

/* --- sandbox.v1: snapshots -------------------------------------------------------------------- */

PB_TABLE(rpc_checkpoint_request, "CheckpointRequest",
    PB_FIELD(rpc_checkpoint_request, 1, sandbox_id, PB_STRING),
    PB_FIELD(rpc_checkpoint_request, 2, name, PB_STRING),
    PB_MAP(rpc_checkpoint_request, 3, labels));

PB_TABLE(rpc_checkpoint_response, "CheckpointResponse",
    PB_FIELD(rpc_checkpoint_response, 1, snapshot_id, PB_STRING),
    PB_FIELD(rpc_checkpoint_response, 2, snapshot_dir, PB_STRING),
    PB_FIELD(rpc_checkpoint_response, 3, created_at, PB_STRING));

PB_TABLE(rpc_restore_request, "RestoreRequest",
    PB_FIELD(rpc_restore_request, 1, id, PB_STRING),
    PB_FIELD(rpc_restore_request, 2, snapshot_id, PB_STRING),
    PB_MAP(rpc_restore_request, 3, labels),
    PB_FIELD(rpc_restore_request, 4, network_override, PB_BOOL),
    PB_FIELD(rpc_restore_request, 5, ttl_seconds, PB_UINT32));

PB_TABLE(rpc_restore_response, "RestoreResponse",
    PB_FIELD(rpc_restore_response, 1, id, PB_STRING),
    PB_FIELD(rpc_restore_response, 2, ip_address, PB_STRING));

PB_TABLE(rpc_list_snapshots_request, "ListSnapshotsRequest",
    PB_FIELD(rpc_list_snapshots_request, 1, sandbox_id, PB_STRING),
    PB_MAP(rpc_list_snapshots_request, 2, labels));

PB_TABLE(rpc_snapshot_summary, "SnapshotSummary",
    PB_FIELD(rpc_snapshot_summary, 1, id, PB_STRING),
    PB_FIELD(rpc_snapshot_summary, 2, sandbox_id, PB_STRING),
    PB_FIELD(rpc_snapshot_summary, 3, name, PB_STRING),
    PB_MAP(rpc_snapshot_summary, 4, labels),
    PB_FIELD(rpc_snapshot_summary, 5, snapshot_dir, PB_STRING),
    PB_FIELD(rpc_snapshot_summary, 6, created_at, PB_STRING));

PB_TABLE(rpc_list_snapshots_response, "ListSnapshotsResponse",
    PB_SUBMESSAGES(rpc_list_snapshots_response, 1, snapshots, rpc_snapshot_summary));

PB_TABLE(rpc_delete_snapshot_request, "DeleteSnapshotRequest",
    PB_FIELD(rpc_delete_snapshot_request, 1, snapshot_id, PB_STRING));

/* clang-format on */

/* --- types of frames -------------------------------------------------------------------------- */

static const struct message_type message_types[] = {
    {RPC_EMPTY, "Empty", &rpc_empty_table},
    {RPC_PING_REQUEST, "PingRequest", &rpc_ping_request_table},
    {RPC_GET_SYSTEM_INFO_REQUEST, "GetSystemInfoRequest", NULL},
    {RPC_ENSURE_RUNTIME_REQUEST, "EnsureRuntimeRequest", &rpc_runtime_ensure_request_table},
    {RPC_RUNTIME_STATUS_REQUEST, "RuntimeStatusRequest", &rpc_empty_table},
    {RPC_KUBERNETES_START_REQUEST, "KubernetesStartRequest", &rpc_empty_table},
    {RPC_KUBERNETES_STOP_REQUEST, "KubernetesStopRequest", &rpc_empty_table},
    {RPC_KUBERNETES_DELETE_REQUEST, "KubernetesDeleteRequest", &rpc_empty_table},
    {RPC_KUBERNETES_STATUS_REQUEST, "KubernetesStatusRequest", &rpc_empty_table},
    {RPC_KUBERNETES_KUBECONFIG_REQUEST, "KubernetesKubeconfigRequest", &rpc_empty_table},
    {RPC_SHUTDOWN_REQUEST, "ShutdownRequest", &rpc_shutdown_request_table},
    {RPC_MMAP_READ_FILE_REQUEST, "MmapReadFileRequest", &rpc_mmap_read_file_request_table},
    {RPC_SANDBOX_CREATE_REQUEST, "SandboxCreateRequest", &rpc_create_sandbox_request_table},
    {RPC_SANDBOX_STOP_REQUEST, "SandboxStopRequest", &rpc_stop_sandbox_request_table},
    {RPC_SANDBOX_REMOVE_REQUEST, "SandboxRemoveRequest", &rpc_remove_sandbox_request_table},
    {RPC_SANDBOX_INSPECT_REQUEST, "SandboxInspectRequest", &rpc_inspect_sandbox_request_table},
    {RPC_SANDBOX_LIST_REQUEST, "SandboxListRequest", &rpc_list_sandboxes_request_table},
    {RPC_SANDBOX_RUN_REQUEST, "SandboxRunRequest", &rpc_run_request_table},
    {RPC_SANDBOX_EXEC_REQUEST, "SandboxExecRequest", &rpc_exec_request_table},
    {RPC_SANDBOX_EVENTS_REQUEST, "SandboxEventsRequest", &rpc_sandbox_events_request_table},
    {RPC_SANDBOX_EXEC_INPUT, "SandboxExecInput", NULL},
    {RPC_SANDBOX_CHECKPOINT_REQUEST, "SandboxCheckpointRequest", &rpc_checkpoint_request_table},
    {RPC_SANDBOX_RESTORE_REQUEST, "SandboxRestoreRequest", &rpc_restore_request_table},
    {RPC_SANDBOX_LIST_SNAPSHOTS_REQUEST, "SandboxListSnapshotsRequest",
	&rpc_list_snapshots_request_table},
    {RPC_SANDBOX_DELETE_SNAPSHOT_REQUEST, "SandboxDeleteSnapshotRequest",
	&rpc_delete_snapshot_request_table},
    {RPC_PING_RESPONSE, "PingResponse", &rpc_ping_response_table},
    {RPC_SYSTEM_INFO, "SystemInfo", &rpc_system_info_table},
    {RPC_RUNTIME_ENSURE_RESPONSE, "RuntimeEnsureResponse", &rpc_runtime_ensure_response_table},
    {RPC_RUNTIME_STATUS_RESPONSE, "RuntimeStatusResponse", &rpc_runtime_status_response_table},
    {RPC_KUBERNETES_START_RESPONSE, "KubernetesStartResponse",
	&rpc_kubernetes_start_response_table},
    {RPC_KUBERNETES_STOP_RESPONSE, "KubernetesStopResponse", &rpc_kubernetes_stop_response_table},
    {RPC_KUBERNETES_DELETE_RESPONSE, "KubernetesDeleteResponse",
	&rpc_kubernetes_delete_response_table},
    {RPC_KUBERNETES_STATUS_RESPONSE, "KubernetesStatusResponse",
	&rpc_kubernetes_status_response_table},
    {RPC_KUBERNETES_KUBECONFIG_RESPONSE, "KubernetesKubeconfigResponse",
	&rpc_kubernetes_kubeconfig_response_table},
    {RPC_SHUTDOWN_RESPONSE, "ShutdownResponse", &rpc_shutdown_response_table},
    {RPC_MMAP_READ_FILE_RESPONSE, "MmapReadFileResponse", &rpc_mmap_read_file_response_table},
    {RPC_CREATE_SANDBOX_RESPONSE, "CreateSandboxResponse", &rpc_create_sandbox_response_table},
    {RPC_SANDBOX_STOP_RESPONSE, "SandboxStopResponse", &rpc_empty_table},
    {RPC_SANDBOX_REMOVE_RESPONSE, "SandboxRemoveResponse", &rpc_empty_table},
    {RPC_SANDBOX_INFO, "SandboxInfo", &rpc_sandbox_info_table},
    {RPC_LIST_SANDBOXES_RESPONSE, "ListSandboxesResponse", &rpc_list_sandboxes_response_table},
    {RPC_PORT_BINDINGS_CHANGED, "PortBindingsChanged", &rpc_port_bindings_changed_table},
    {RPC_PORT_BINDINGS_REMOVED, "PortBindingsRemoved", &rpc_port_bindings_removed_table},
    {RPC_RUN_OUTPUT, "RunOutput", &rpc_output_table},
    {RPC_EXEC_OUTPUT, "ExecOutput", &rpc_output_table},
    {RPC_SANDBOX_EVENT, "SandboxEvent", &rpc_sandbox_event_table},
    {RPC_CHECKPOINT_RESPONSE, "CheckpointResponse", &rpc_checkpoint_response_table},
    {RPC_RESTORE_RESPONSE, "RestoreResponse", &rpc_restore_response_table},
    {RPC_LIST_SNAPSHOTS_RESPONSE, "ListSnapshotsResponse", &rpc_list_snapshots_response_table},
    {RPC_SANDBOX_DELETE_SNAPSHOT_RESPONSE, "SandboxDeleteSnapshotResponse", &rpc_empty_table},
    {RPC_ERROR, "Error", NULL},
};

const struct message_type *message_by_type(uint32_t type)
{
	for (size_t i = 0; i < sizeof message_types / sizeof *message_types; i++)
		if (message_types[i].type == type)
			return &message_types[i];
	return NULL;
}

const struct message_type *message_by_name(struct span name)
{
	for (size_t i = 0; i < sizeof message_types / sizeof *message_types; i++)
		if (span_eq_str(name, message_types[i].name))
			return &message_types[i];
	return NULL;
}
