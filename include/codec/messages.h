/* messages.h - every message of the RPC protocol: types of frames, structs, and their tables.
 *
 * How a field of the .proto stands in its struct, and who owns what, is told in codec/pb.h; members
 * stand by field number. Messages without fields share rpc_empty_table. */
#ifndef CODEC_MESSAGES_H
#define CODEC_MESSAGES_H

#include "codec/pb.h"

/* What the `type` of a frame says (codec/frame.h). A response is its request + 0x1000, the three
 * streams apart. */
enum rpc_type {
	RPC_EMPTY = 0x0000,

	RPC_PING_REQUEST = 0x0001,
	RPC_GET_SYSTEM_INFO_REQUEST = 0x0002,
	RPC_ENSURE_RUNTIME_REQUEST = 0x0003,
	RPC_RUNTIME_STATUS_REQUEST = 0x0004,
	RPC_KUBERNETES_START_REQUEST = 0x0005,
	RPC_KUBERNETES_STOP_REQUEST = 0x0006,
	RPC_KUBERNETES_DELETE_REQUEST = 0x0007,
	RPC_KUBERNETES_STATUS_REQUEST = 0x0008,
	RPC_KUBERNETES_KUBECONFIG_REQUEST = 0x0009,
	RPC_SHUTDOWN_REQUEST = 0x000a,
	RPC_MMAP_READ_FILE_REQUEST = 0x000b,

	RPC_SANDBOX_CREATE_REQUEST = 0x0020,
	RPC_SANDBOX_STOP_REQUEST = 0x0021,
	RPC_SANDBOX_REMOVE_REQUEST = 0x0022,
	RPC_SANDBOX_INSPECT_REQUEST = 0x0023,
	RPC_SANDBOX_LIST_REQUEST = 0x0024,
	RPC_SANDBOX_RUN_REQUEST = 0x0030,
	RPC_SANDBOX_EXEC_REQUEST = 0x0031,
	RPC_SANDBOX_EVENTS_REQUEST = 0x0032,
	RPC_SANDBOX_EXEC_INPUT = 0x0033, /* raw stdin of a running exec; empty = its end */
	RPC_SANDBOX_CHECKPOINT_REQUEST = 0x0040,
	RPC_SANDBOX_RESTORE_REQUEST = 0x0041,
	RPC_SANDBOX_LIST_SNAPSHOTS_REQUEST = 0x0042,
	RPC_SANDBOX_DELETE_SNAPSHOT_REQUEST = 0x0043,

	RPC_PING_RESPONSE = 0x1001,
	RPC_SYSTEM_INFO = 0x1002,
	RPC_RUNTIME_ENSURE_RESPONSE = 0x1003,
	RPC_RUNTIME_STATUS_RESPONSE = 0x1004,
	RPC_KUBERNETES_START_RESPONSE = 0x1005,
	RPC_KUBERNETES_STOP_RESPONSE = 0x1006,
	RPC_KUBERNETES_DELETE_RESPONSE = 0x1007,
	RPC_KUBERNETES_STATUS_RESPONSE = 0x1008,
	RPC_KUBERNETES_KUBECONFIG_RESPONSE = 0x1009,
	RPC_SHUTDOWN_RESPONSE = 0x100a,
	RPC_MMAP_READ_FILE_RESPONSE = 0x100b,

	RPC_CREATE_SANDBOX_RESPONSE = 0x1020,
	RPC_SANDBOX_STOP_RESPONSE = 0x1021,   /* empty */
	RPC_SANDBOX_REMOVE_RESPONSE = 0x1022, /* empty */
	RPC_SANDBOX_INFO = 0x1023,
	RPC_LIST_SANDBOXES_RESPONSE = 0x1024,
	RPC_PORT_BINDINGS_CHANGED = 0x1030, /* never sent unasked */
	RPC_PORT_BINDINGS_REMOVED = 0x1031, /* likewise */
	RPC_RUN_OUTPUT = 0x1035,            /* a stream */
	RPC_EXEC_OUTPUT = 0x1036,           /* a stream */
	RPC_SANDBOX_EVENT = 0x1037,         /* a stream */
	RPC_CHECKPOINT_RESPONSE = 0x1040,
	RPC_RESTORE_RESPONSE = 0x1041,
	RPC_LIST_SNAPSHOTS_RESPONSE = 0x1042,
	RPC_SANDBOX_DELETE_SNAPSHOT_RESPONSE = 0x1043, /* empty */

	RPC_ERROR = 0xffff, /* frame_error_read() */
};

struct message_type {
	uint32_t type; /* enum rpc_type */
	const char *name;
	const struct pb_table *table; /* NULL: the payload is no message, or is to be ignored */
};

/* The row of a type; NULL for a number that nobody knows. */
const struct message_type *message_by_type(uint32_t type);

/* The row of a name, "PingRequest"; NULL when nobody knows it. */
const struct message_type *message_by_name(struct span name);

extern const struct pb_table rpc_empty_table;

/* --- arcbox.v1: the system -------------------------------------------------------------------- */

struct rpc_ping_request {
	struct span message;
	int64_t timestamp_secs; /* the host's time, unix s; 0 = leave the clock alone */
};
extern const struct pb_table rpc_ping_request_table;

struct rpc_ping_response {
	struct span message;
	struct span version; /* of the agent */
};
extern const struct pb_table rpc_ping_response_table;

struct rpc_system_info {
	struct span kernel_version;
	struct span os_name;
	struct span os_version;
	struct span arch;
	uint64_t total_memory;     /* bytes */
	uint64_t available_memory; /* bytes */
	uint32_t cpu_count;
	struct pb_list load_average; /* double: over 1, 5 and 15 min */
	struct span hostname;
	uint64_t uptime;             /* s */
	struct pb_list ip_addresses; /* span */
};
extern const struct pb_table rpc_system_info_table;

struct rpc_shutdown_request {
	uint32_t timeout_seconds; /* 0 = the agent's own */
};
extern const struct pb_table rpc_shutdown_request_table;

struct rpc_shutdown_response {
	bool accepted;
};
extern const struct pb_table rpc_shutdown_response_table;

struct rpc_mmap_read_file_request {
	struct span path;
	uint64_t offset; /* bytes */
	uint64_t length; /* bytes */
};
extern const struct pb_table rpc_mmap_read_file_request_table;

struct rpc_mmap_read_file_response {
	struct span data; /* bytes */
	uint64_t bytes_read;
};
extern const struct pb_table rpc_mmap_read_file_response_table;

struct rpc_port_binding {
	uint32_t container_port;
	uint32_t host_port;
	struct span protocol;
	struct span host_ip;
};
extern const struct pb_table rpc_port_binding_table;

struct rpc_port_bindings_changed {
	struct span container_id;
	struct pb_list bindings; /* struct rpc_port_binding */
};
extern const struct pb_table rpc_port_bindings_changed_table;

struct rpc_port_bindings_removed {
	struct span container_id;
};
extern const struct pb_table rpc_port_bindings_removed_table;

/* --- arcbox.v1: container runtime and Kubernetes ---------------------------------------------- */

struct rpc_service_status {
	struct span name;
	struct span status; /* "ready", "not_ready" or "error" */
	struct span detail;
};
extern const struct pb_table rpc_service_status_table;

struct rpc_runtime_ensure_request {
	bool start_if_needed;
};
extern const struct pb_table rpc_runtime_ensure_request_table;

struct rpc_runtime_ensure_response {
	bool ready;
	struct span endpoint;
	struct span message;
	struct span status; /* "reused", "starting", "started" or "failed" */
};
extern const struct pb_table rpc_runtime_ensure_response_table;

struct rpc_runtime_status_response {
	bool containerd_ready;
	bool docker_ready;
	struct span endpoint;
	struct span detail;
	struct pb_list services; /* struct rpc_service_status */
};
extern const struct pb_table rpc_runtime_status_response_table;

struct rpc_kubernetes_start_response {
	bool running;
	bool api_ready;
	struct span endpoint;
	struct span detail;
};
extern const struct pb_table rpc_kubernetes_start_response_table;

struct rpc_kubernetes_stop_response {
	bool stopped;
	struct span detail;
};
extern const struct pb_table rpc_kubernetes_stop_response_table;

struct rpc_kubernetes_delete_response {
	struct span detail;
};
extern const struct pb_table rpc_kubernetes_delete_response_table;

struct rpc_kubernetes_status_response {
	bool running;
	bool api_ready;
	struct span endpoint;
	struct span detail;
	struct pb_list services; /* struct rpc_service_status */
};
extern const struct pb_table rpc_kubernetes_status_response_table;

struct rpc_kubernetes_kubeconfig_response {
	struct span kubeconfig; /* the text of the file */
	struct span context_name;
	struct span endpoint;
};
extern const struct pb_table rpc_kubernetes_kubeconfig_response_table;

/* --- sandbox.v1: parts ------------------------------------------------------------------------ */

struct rpc_resource_limits {
	uint32_t vcpus;
	uint64_t memory_mib;
};
extern const struct pb_table rpc_resource_limits_table;

struct rpc_network_spec {
	struct span mode; /* "tap", the default, or "none" */
};
extern const struct pb_table rpc_network_spec_table;

struct rpc_mount {
	struct span source;
	struct span target;
	bool readonly;
};
extern const struct pb_table rpc_mount_table;

struct rpc_terminal_size {
	uint32_t width; /* columns */
	uint32_t height;
};
extern const struct pb_table rpc_terminal_size_table;

struct rpc_sandbox_network {
	struct span ip_address;
	struct span gateway;
	struct span tap_name;
};
extern const struct pb_table rpc_sandbox_network_table;

/* --- sandbox.v1: life of a sandbox ------------------------------------------------------------ */

struct rpc_create_sandbox_request {
	struct span id;        /* empty = the agent makes one */
	struct pb_list labels; /* struct pb_pair */
	struct span kernel;
	struct span rootfs;
	struct span boot_args;
	const struct rpc_resource_limits *limits;
	struct span image;
	struct pb_list cmd; /* span */
	struct pb_list env; /* struct pb_pair */
	struct span working_dir;
	struct span user;
	struct pb_list mounts; /* struct rpc_mount */
	const struct rpc_network_spec *network;
	uint32_t ttl_seconds;       /* 0 = for ever */
	struct span ssh_public_key; /* optional: p == NULL when absent */
};
extern const struct pb_table rpc_create_sandbox_request_table;

struct rpc_create_sandbox_response {
	struct span id;
	struct span ip_address;
	struct span state; /* always "starting" */
};
extern const struct pb_table rpc_create_sandbox_response_table;

struct rpc_stop_sandbox_request {
	struct span id;
	uint32_t timeout_seconds; /* 0 = the agent's own */
};
extern const struct pb_table rpc_stop_sandbox_request_table;

struct rpc_remove_sandbox_request {
	struct span id;
	bool force;
};
extern const struct pb_table rpc_remove_sandbox_request_table;

struct rpc_inspect_sandbox_request {
	struct span id;
};
extern const struct pb_table rpc_inspect_sandbox_request_table;

struct rpc_sandbox_info {
	struct span id;
	struct span state;
	struct pb_list labels; /* struct pb_pair */
	const struct rpc_resource_limits *limits;
	const struct rpc_sandbox_network *network;
	int64_t created_at;     /* unix s, 0 = not yet; so the next two */
	int64_t ready_at;       /* unix s */
	int64_t last_exited_at; /* unix s */
	int32_t last_exit_code;
	struct span error;
};
extern const struct pb_table rpc_sandbox_info_table;

struct rpc_list_sandboxes_request {
	struct span state;     /* empty = all */
	struct pb_list labels; /* struct pb_pair */
};
extern const struct pb_table rpc_list_sandboxes_request_table;

struct rpc_sandbox_summary {
	struct span id;
	struct span state;
	struct pb_list labels; /* struct pb_pair */
	struct span ip_address;
	int64_t created_at; /* unix s */
};
extern const struct pb_table rpc_sandbox_summary_table;

struct rpc_list_sandboxes_response {
	struct pb_list sandboxes; /* struct rpc_sandbox_summary */
};
extern const struct pb_table rpc_list_sandboxes_response_table;

/* --- sandbox.v1: commands and events ---------------------------------------------------------- */

struct rpc_run_request {
	struct span id;
	struct pb_list cmd; /* span */
	struct pb_list env; /* struct pb_pair */
	struct span working_dir;
	struct span user;
	bool tty;
	uint32_t timeout_seconds; /* 0 = none */
};
extern const struct pb_table rpc_run_request_table;

struct rpc_exec_request {
	struct span id;
	struct pb_list cmd; /* span */
	struct pb_list env; /* struct pb_pair */
	struct span working_dir;
	struct span user;
	bool tty;
	const struct rpc_terminal_size *tty_size;
	uint32_t timeout_seconds; /* 0 = none */
};
extern const struct pb_table rpc_exec_request_table;

/* RunOutput and ExecOutput, which are the same. */
struct rpc_output {
	struct span stream; /* "stdout", "stderr" or "exit" */
	struct span data;   /* bytes */
	int32_t exit_code;
	bool done; /* the last one */
};
extern const struct pb_table rpc_output_table;

struct rpc_sandbox_events_request {
	struct span id;     /* empty = all */
	struct span action; /* empty = all */
};
extern const struct pb_table rpc_sandbox_events_request_table;

struct rpc_sandbox_event {
	struct span sandbox_id;
	struct span action;
	int64_t timestamp;         /* unix ns */
	struct pb_list attributes; /* struct pb_pair */
};
extern const struct pb_table rpc_sandbox_event_table;

/* --- sandbox.v1: snapshots -------------------------------------------------------------------- */

struct rpc_checkpoint_request {
	struct span sandbox_id;
	struct span name;
	struct pb_list labels; /* struct pb_pair */
};
extern const struct pb_table rpc_checkpoint_request_table;

struct rpc_checkpoint_response {
	struct span snapshot_id;
	struct span snapshot_dir;
	struct span created_at; /* RFC 3339 */
};
extern const struct pb_table rpc_checkpoint_response_table;

struct rpc_restore_request {
	struct span id; /* empty = the agent makes one */
	struct span snapshot_id;
	struct pb_list labels; /* struct pb_pair */
	bool network_override;
	uint32_t ttl_seconds; /* 0 = for ever */
};
extern const struct pb_table rpc_restore_request_table;

struct rpc_restore_response {
	struct span id;
	struct span ip_address;
};
extern const struct pb_table rpc_restore_response_table;

struct rpc_list_snapshots_request {
	struct span sandbox_id; /* empty = all */
	struct pb_list labels;  /* struct pb_pair */
};
extern const struct pb_table rpc_list_snapshots_request_table;

struct rpc_snapshot_summary {
	struct span id;
	struct span sandbox_id;
	struct span name;
	struct pb_list labels; /* struct pb_pair */
	struct span snapshot_dir;
	struct span created_at; /* RFC 3339 */
};
extern const struct pb_table rpc_snapshot_summary_table;

struct rpc_list_snapshots_response {
	struct pb_list snapshots; /* struct rpc_snapshot_summary */
};
extern const struct pb_table rpc_list_snapshots_response_table;

struct rpc_delete_snapshot_request {
	struct span snapshot_id;
};
extern const struct pb_table rpc_delete_snapshot_request_table;

#endif
