#include "agent/agent.h"

#include "agent/listeners.h"
#include "agent/logs.h"
#include "agent/names.h"
#include "agent/services.h"
#include "agent/system.h"
#include "base/log.h"
#include "sys/random.h"

static void on_signal(struct signals *s, int sig)
{
	struct agent *a = container_of(s, struct agent, signals);

	if (sig == SIGCHLD)
		reaper_drain(&a->reaper);
	else if (sig == SIGHUP)
		names_load_hosts(a);
	else
		shutdown_begin(&a->shutdown, 0);
}

/* The disks are about to be unmounted. */
static void last_of_all(struct shutdown *s)
{
	logs_close_file(container_of(s, struct agent, shutdown));
}

int agent_init(struct agent *a)
{
	int rc = loop_init(&a->loop);

	if (rc < 0)
		return rc;
	a->loop.slow_ns = a->options.slow_turn_ms * NS_PER_MS;
	reaper_init(&a->reaper, &a->loop);
	a->end = (struct shutdown_conf){
	    .machine = a->is_pid1,
	    .default_secs = (uint32_t)a->options.shutdown_secs,
	    .disks_ms = a->options.disks_ms,
	    .services = services_stop,
	    .last = last_of_all,
	};
	shutdown_init(&a->shutdown, &a->loop, &a->reaper, &a->end);
	rc = signals_init(&a->signals, &a->loop, on_signal);
	if (rc < 0)
		log_error("main", "cannot receive signals", KV_ERR(rc));
	random_seed(a->seed);
	return 0;
}

/* RPC comes before what takes its time anyway: addresses and shares. */
void agent_start(struct agent *a)
{
	services_read_config(a);
	if (a->brings_up)
		system_start(a);
	listeners_set_peers(a);
	names_start(a);
	listeners_start_proxies(a);
	services_start(a);
	listeners_start_rpc(a);
	system_start_network(a);
	system_start_shares(a);
}

void agent_done(struct agent *a)
{
	for (size_t i = 0; i < a->options.listen.n; i++)
		listener_stop(&a->listeners[i]);
	rpc_server_free(a->rpc);
	sandboxes_free(a->sandboxes); /* whose names are in the registry */
	for (size_t i = 0; i < OPTIONS_LIST; i++)
		if (a->proxies[i])
			proxy_free(a->proxies[i]);
	watch_free(a->watch);
	dns_server_free(a->dns);
	hosts_file_done(&a->hosts);
	registry_free(a->registry);
	reader_free(a->services.reader);
	kubernetes_free(a->kubernetes);
	runtime_free(a->runtime);
	shares_cancel(&a->shares);
	network_free(a->network);
	reaper_done(&a->reaper);
	signals_done(&a->signals);
	loop_done(&a->loop);
}

/* The command init: section by section as above, then an end. */
bool agent_bring_up(struct agent *a)
{
	uint64_t end_ns = clock_mono_ns() + a->options.init_ms * NS_PER_MS;
	bool usable;

	services_read_config(a);
	usable = system_start(a);
	system_start_network(a);
	system_start_shares(a);
	while (!a->loop.stopping && !system_is_settled(a) && clock_mono_ns() < end_ns)
		loop_turn(&a->loop, 100);
	if (!system_is_settled(a))
		log_warn(
		    "main", "the system is up, but not all addresses, rules and shares are there");
	shares_cancel(&a->shares);
	network_free(a->network);
	return usable;
}
