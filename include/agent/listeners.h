/* listeners.h - starts what is connected to from outside: RPC and the API proxies. */
#ifndef AGENT_LISTENERS_H
#define AGENT_LISTENERS_H

#include "agent/agent.h"

/* Who may connect over vsock, for both. */
void listeners_set_peers(struct agent *a);

void listeners_start_proxies(struct agent *a);
void listeners_start_rpc(struct agent *a);

#endif
