/* names.h - starts what answers names: registry, static names, DNS server, Docker watcher. */
#ifndef AGENT_NAMES_H
#define AGENT_NAMES_H

#include "agent/agent.h"

void names_start(struct agent *a);

/* Reads the file of static names, if there is one, again. */
void names_load_hosts(struct agent *a);

/* Forwards to the servers of a lease, too, behind those of the options. `ctx` is the agent. */
void names_take_resolvers(void *ctx, const struct ip *servers, size_t n);

/* What resolv.conf is to name: the agent's own DNS, or without it those that it would ask. Fills
 * `list` with views of `texts` or of constants; returns how many. */
size_t names_list_servers(
    const struct options *o, char texts[][IP_TEXT_BYTES], const char *list[OPTIONS_LIST]);

/* How sandboxes get into the registry. Views the agent. */
struct sandbox_names names_of_sandboxes(struct agent *a);

#endif
