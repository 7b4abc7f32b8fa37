/* services.h - starts and stops what the host asks for: container runtime, Kubernetes, sandboxes,
 * and the services of the machine itself. */
#ifndef AGENT_SERVICES_H
#define AGENT_SERVICES_H

#include "agent/agent.h"

/* The sandboxes' configuration, from its file. */
void services_read_config(struct agent *a);

void services_start(struct agent *a);

/* Of the shutdown: stops sandboxes, then Kubernetes and the runtime, in wait_ms at most in all.
 * Tells shutdown_services_ended. */
void services_stop(struct shutdown *s, uint64_t wait_ms);

#endif
