/* sandbox.h - what the handlers for sandboxes share. */
#ifndef RPC_SANDBOX_H
#define RPC_SANDBOX_H

#include "rpc/methods.h"
#include "sandbox/sandbox.h"

/* The service; NULL when there is none, and the host was told. */
struct sandboxes *rpc_sandboxes(struct rpc_call *call);

/* The code of an Error for what sandbox_answer.rc may be. */
int32_t rpc_sandbox_code(int rc);

/* What messages say of a command. */
struct rpc_command {
	struct pb_list cmd, env;
	struct span working_dir, user;
};

/* Fills a command that command_init() has made. False when that cannot be done, and the host was
 * told why. */
bool rpc_read_command(struct rpc_call *call, const struct rpc_command *from, struct command *to);

#endif
