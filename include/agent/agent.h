/* agent.h - the agent put together: all that runs in its one process, and the order in which it
 * comes up and goes. The other files of this room make a part's configuration out of the options
 * and start it.
 *
 * A part that cannot be had is logged and left out; RPC always comes up. */
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H

#include "agent/options.h"
#include "base/ip.h"
#include "init/network.h"
#include "init/shares.h"
#include "names/dns_server.h"
#include "names/hosts_file.h"
#include "names/watch.h"
#include "net/proxy.h"
#include "rpc/methods.h"
#include "sandbox/sandbox.h"
#include "sys/child.h"
#include "sys/signals.h"

enum { SUBNET_TEXT_BYTES = IP_TEXT_BYTES + 4 };

/* In the order in which it is started. Parts that are not there are NULL. */
struct agent {
	struct options options;
	bool is_pid1;
	bool brings_up;        /* does system init, too */
	uint64_t started_ns;   /* when the process began, CLOCK_MONOTONIC */
	int console, log_file; /* negative: none */
	uint32_t cids[OPTIONS_LIST];
	struct peer_list peers;
	uint64_t seed[2];
	struct loop loop;
	struct reaper reaper;
	struct signals signals;
	struct shutdown_conf end;
	struct shutdown shutdown;
	struct network *network;
	struct shares shares;
	struct registry *registry;
	struct hosts_file hosts;
	struct dns_server *dns;
	struct watch *watch;
	struct proxy *proxies[OPTIONS_LIST];
	struct runtime *runtime;
	struct kubernetes *kubernetes;
	struct sandbox_config vmm; /* of the sandboxes */
	char sandbox_subnet[SUBNET_TEXT_BYTES];
	struct sandbox_names sandbox_names;
	struct sandboxes *sandboxes;
	char endpoint[ADDR_TEXT_BYTES]; /* where a host finds the Docker API; "" = nowhere */
	struct rpc_services services;
	struct rpc_server *rpc;
	struct listener listeners[OPTIONS_LIST];
};

/* The loop, its signals and the reaper. 0, or -errno when there can be no loop. */
int agent_init(struct agent *a);

/* Starts all parts; they run when the loop does. */
void agent_start(struct agent *a);

/* Ends all parts. Between turns of the loop only. */
void agent_done(struct agent *a);

/* The command init: brings the system up, and waits for addresses and shares at most for
 * options.init_ms. False when what later steps need is not there. */
bool agent_bring_up(struct agent *a);

#endif
