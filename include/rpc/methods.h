/* methods.h - what the host can ask for: one row a request. */
#ifndef RPC_METHODS_H
#define RPC_METHODS_H

#include "rpc/server.h"
#include "runtime/runtime.h"
#include "system/host_clock.h"
#include "system/reader.h"
#include "system/shutdown.h"

/* The services behind the handlers: rpc_call.services. All outlive the server. */
struct rpc_services {
	struct host_clock clock;
	struct reader *reader;
	struct shutdown *shutdown;
	struct runtime *runtime;
};

extern const struct rpc_method rpc_methods[];
extern const size_t rpc_method_count;

/* The handlers, by the room that they translate for. */
rpc_handler_fn rpc_ping, rpc_get_system_info, rpc_mmap_read_file, rpc_shutdown; /* system.c */
rpc_handler_fn rpc_ensure_runtime, rpc_runtime_status;                          /* runtime.c */

#endif
