/* system.h - brings the guest up by its options: mounts and /etc, then network and shares. */
#ifndef AGENT_SYSTEM_H
#define AGENT_SYSTEM_H

#include "agent/agent.h"

/* Mounts, modules, /etc. False when what later steps need is not there. */
bool system_start(struct agent *a);

/* Links, addresses, DHCP, rules: all of it, or only what the sandboxes need when another init has
 * the machine. Goes on in the loop. */
void system_start_network(struct agent *a);

/* Mounts the host's shares; goes on in workers. */
void system_start_shares(struct agent *a);

/* Whether network and shares have come as far as they will by themselves. */
bool system_is_settled(const struct agent *a);

#endif
