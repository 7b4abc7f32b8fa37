/* The start of the system, from top to bottom: options, log, signals, DNS, Docker watcher, proxies,
 * RPC. A part that cannot be had is logged and left out; RPC always comes up. */
#include "base/log.h"
#include "base/parse.h"
#include "names/dns_server.h"
#include "names/hosts_file.h"
#include "names/watch.h"
#include "net/proxy.h"
#include "options.h"
#include "rpc/methods.h"
#include "sys/child.h"
#include "sys/fs.h"
#include "sys/random.h"
#include "sys/signals.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* All that runs, in the order in which it is started. */
struct agent {
	struct options options;
	uint32_t cids[OPTIONS_LIST];
	struct peer_list peers;
	uint64_t seed[2];
	struct loop loop;
	struct reaper reaper;
	struct signals signals;
	struct shutdown shutdown;
	struct registry *registry;
	struct hosts_file hosts;
	struct dns_server *dns;
	struct watch *watch;
	struct proxy *proxies[OPTIONS_LIST];
	struct runtime *runtime;
	char endpoint[ADDR_TEXT_BYTES];
	struct rpc_services services;
	struct rpc_server *rpc;
	struct listener listeners[OPTIONS_LIST];
};

static bool is_pid1(void)
{
	return getpid() == 1;
}

static bool is_off(const char *value)
{
	return strcmp(value, "off") == 0;
}

/* --- options and log
 * ------------------------------------------------------------------------------- */

static void log_problem(const struct option_problem *p)
{
	char text[512];

	log_error("main", "kernel command line: option left out",
	    KV_STR("problem", option_problem_text(p, text, sizeof text)));
}

static const char *read_cmdline(void)
{
	static char cmdline[4096]; /* options view it */
	ssize_t n = fs_read_file("/proc/cmdline", cmdline, sizeof cmdline - 1);

	cmdline[n > 0 ? n : 0] = '\0';
	return cmdline;
}

/* True when the agent is to run; else *status is how the process ends. */
static bool read_options(struct options *o, int argc, char **argv, int *status)
{
	const char *cmdline = read_cmdline();
	struct option_problem problem;
	char text[512];

	options_default(o);
	options_docker_port(o, getenv("ARCBOX_GUEST_DOCKER_VSOCK_PORT"), cmdline);
	if (is_pid1()) /* the one that the kernel command line is for */
		options_kernel(o, cmdline, log_problem);
	*status = EXIT_SUCCESS;
	if (!options_parse(o, argc, argv, &problem)) {
		log_error("main", "wrong option",
		    KV_STR("problem", option_problem_text(&problem, text, sizeof text)));
		*status = 2;
		return is_pid1();
	}
	if (o->help)
		options_help(STDOUT_FILENO);
	if (o->version)
		fs_write_all(STDOUT_FILENO, span_str("arcbox-agent " AGENT_VERSION "\n"));
	return is_pid1() || (!o->help && !o->version);
}

/* The log file's directory is made when the one that it stands in exists. */
static int open_log_file(const char *path)
{
	char dir[512];
	char *slash;

	if (!span_to_cstr(span_str(path), dir, sizeof dir))
		return -1;
	slash = strrchr(dir, '/');
	if (slash && slash != dir) {
		*slash = '\0';
		mkdir(dir, 0755);
	}
	return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0644);
}

static const char *first_set(const char *option, const char *variable)
{
	const char *value = option ? option : getenv(variable);
	return value && *value ? value : NULL;
}

static void start_log(const struct options *o)
{
	const char *filter = first_set(first_set(o->log, "ARCBOX_LOG"), "RUST_LOG");
	int console = open("/dev/hvc1", O_WRONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	int file = open_log_file(o->log_file);
	int sinks[LOG_SINKS] = {console >= 0 ? console : STDERR_FILENO, file};
	struct span bad;

	log_sinks(sinks, file >= 0 ? 2 : 1);
	if (filter && log_filter(span_str(filter), &bad) != E_OK)
		log_warn("main", "log filter is not understood, using info", KV_SPAN("at", bad));
}

/* --- listeners
 * ------------------------------------------------------------------------------------- */

static void told(struct listener *l, int what, int rc, const struct addr *peer)
{
	char at[ADDR_TEXT_BYTES], from[ADDR_TEXT_BYTES];

	addr_text(&l->addr, at);
	if (what == LISTEN_BOUND)
		log_info("listen", "listening", KV_STR("at", at));
	else if (what == LISTEN_FAILED)
		log_warn("listen", "cannot listen, trying again", KV_STR("at", at), KV_ERR(rc));
	else if (what == LISTEN_REFUSED)
		log_warn("listen", "refused a peer that may not connect", KV_STR("at", at),
		    KV_STR("peer", addr_text(peer, from)));
	else if (what == LISTEN_RESTING)
		log_warn("listen", "cannot accept connections for a while", KV_STR("at", at),
		    KV_ERR(rc));
}

static void accept_rpc(struct listener *l, int fd, const struct addr *peer)
{
	struct agent *a = l->ctx;

	(void)peer;
	rpc_server_accept(a->rpc, fd);
}

static const struct listener_ops rpc_listener_ops = {.accepted = accept_rpc, .told = told};
static const struct listener_ops proxy_listener_ops = {.told = told};

static void set_peers(struct agent *a)
{
	const struct option_list *list = &a->options.allow_peer;
	uint64_t cid;

	for (size_t i = 0; i < list->n; i++)
		if (parse_u64(span_str(list->values[i]), 0, UINT32_MAX, &cid) == E_OK)
			a->cids[a->peers.n++] = (uint32_t)cid;
	a->peers.cids = a->cids;
}

/* --- the parts, in their order
 * --------------------------------------------------------------------- */

static void on_signal(struct signals *s, int sig)
{
	struct agent *a = container_of(s, struct agent, signals);

	if (sig == SIGCHLD)
		reaper_drain(&a->reaper);
	else if (sig == SIGHUP && a->options.dns_hosts && a->registry)
		hosts_file_load(&a->hosts);
	else if (sig != SIGHUP && a->services.shutdown)
		shutdown_begin(a->services.shutdown, 0);
}

static void start_registry(struct agent *a)
{
	const struct options *o = &a->options;
	struct registry_conf conf = {
	    .bare_dotted = o->dns_bare_dotted,
	    .max_owners = o->max_owners,
	    .max_names = o->max_names,
	    .max_names_per_owner = o->max_names_per_owner,
	    .max_addrs_per_owner = o->max_addrs_per_owner,
	    .seed = {a->seed[0], a->seed[1]},
	};

	if (dns_name_from_text(span_str(o->dns_domain), &conf.domain) != E_OK)
		return;
	a->registry = registry_new(&conf);
	if (!a->registry) {
		log_error("main", "no memory for names: running without DNS");
		return;
	}
	for (size_t i = 0; i < o->dns_name.n; i++)
		if (host_option_set(a->registry, (unsigned)i, span_str(o->dns_name.values[i])) < 0)
			log_error("dns", "cannot register a static name",
			    KV_STR("name", o->dns_name.values[i]));
	if (!o->dns_hosts)
		return;
	a->hosts = hosts_file_of(a->registry, o->dns_hosts);
	hosts_file_load(&a->hosts);
}

static void set_forwarders(struct agent *a)
{
	const struct option_list *list = &a->options.dns_forward;
	struct addr servers[OPTIONS_LIST];
	size_t n = 0;

	for (size_t i = 0; i < list->n; i++)
		if (addr_parse_inet(span_str(list->values[i]), 53, &servers[n]) == E_OK)
			n++;
	forward_set_servers(dns_server_forward(a->dns), servers, n);
}

static void start_dns(struct agent *a)
{
	const struct options *o = &a->options;
	struct dns_server_conf conf = {
	    .ttl_secs = (uint32_t)o->dns_ttl_secs,
	    .rcvbuf_bytes = (int)o->dns_rcvbuf_bytes,
	    .max_clients = (unsigned)o->dns_max_clients,
	    .max_buffered_bytes = o->dns_max_buffered_bytes,
	    .idle_ms = o->dns_idle_ms,
	    .stall_ms = o->dns_idle_ms,
	    .forward =
		{
		    .max_inflight = o->dns_max_inflight,
		    .max_askers = o->dns_max_askers,
		    .timeout_ms = o->dns_timeout_ms,
		    .probe_ms = o->dns_probe_ms,
		    .cache = {o->dns_cache_entries, o->dns_cache_bytes, {a->seed[0], a->seed[1]}},
		},
	};

	if (!a->registry || is_off(o->dns) ||
	    addr_parse_inet(span_str(o->dns), 0, &conf.listen) != E_OK)
		return;
	a->dns = dns_server_new(&a->loop, a->registry, &conf);
	if (a->dns)
		set_forwarders(a);
	else
		log_error("main", "no memory for the DNS server: running without");
}

static void start_watch(struct agent *a)
{
	const struct options *o = &a->options;
	const struct watch_conf conf = {
	    .socket = o->docker_socket,
	    .max_containers = o->docker_max_containers,
	    .event_bytes = o->docker_event_bytes,
	    .answer_bytes = o->docker_answer_bytes,
	    .answer_ms = o->docker_answer_ms,
	    .retry_ms = o->docker_retry_ms,
	    .retry_max_ms = o->docker_retry_max_ms,
	    .seed = {a->seed[0], a->seed[1]},
	};

	if (!a->registry || is_off(o->docker_socket))
		return;
	a->watch = watch_new(&a->loop, a->registry, &conf);
	if (!a->watch)
		log_error(
		    "main", "cannot watch the Docker engine", KV_STR("socket", o->docker_socket));
}

static void proxy_told(const struct proxy *p, const char *what, int rc)
{
	char at[ADDR_TEXT_BYTES];

	log_warn("proxy", what, KV_STR("at", addr_text(&proxy_conf(p)->listen, at)), KV_ERR(rc));
}

static size_t docker_refusal(const struct proxy *p, int rc, char *buf, size_t cap)
{
	(void)p;
	return runtime_docker_refusal(rc, buf, cap);
}

static void start_proxies(struct agent *a)
{
	const struct options *o = &a->options;
	struct proxy_conf conf = {
	    .peers = &a->peers,
	    .listener_ops = &proxy_listener_ops,
	    .park_ms = o->park_ms,
	    .retry_ms = o->park_retry_ms,
	    .max_relays = (unsigned)o->max_relays,
	    .told = proxy_told,
	};

	for (size_t i = 0; i < o->proxy.n; i++) {
		struct span backend = span_str(o->proxy.values[i]);
		struct span listen = span_split(&backend, '=');

		if (addr_parse(listen, &conf.listen) != E_OK ||
		    addr_parse(backend, &conf.backend) != E_OK)
			continue; /* "off" */
		conf.refusal = conf.backend.u.sa.sa_family == AF_UNIX ? docker_refusal : NULL;
		a->proxies[i] = proxy_new(&a->loop, &conf);
		if (!a->proxies[i])
			log_error(
			    "main", "no memory for a proxy", KV_STR("proxy", o->proxy.values[i]));
	}
}

/* Where a host finds the Docker API: the first proxy. */
static void set_endpoint(struct agent *a)
{
	struct span proxy = span_str(a->options.proxy.values[0]);

	if (!is_off(a->options.proxy.values[0]))
		span_to_cstr(span_split(&proxy, '='), a->endpoint, sizeof a->endpoint);
}

static void start_services(struct agent *a)
{
	const struct options *o = &a->options;
	const struct runtime_conf conf = {
	    .binary_dir = o->runtime_dir,
	    .docker_socket = o->docker_socket,
	    .endpoint = a->endpoint,
	    .max_waiting = (unsigned)o->max_waiting,
	};

	set_endpoint(a);
	a->runtime = runtime_new(&a->loop, &conf);
	a->services = (struct rpc_services){
	    .clock = {.may_set = is_pid1() || o->set_clock},
	    .reader = reader_new(
		&a->loop, &a->reaper, (unsigned)o->max_reads, (unsigned)o->max_waiting, o->read_ms),
	    .shutdown = is_pid1() ? NULL : &a->shutdown, /* if PID 1 ends, the machine does */
	    .runtime = a->runtime,
	};
}

static void start_rpc(struct agent *a)
{
	const struct options *o = &a->options;
	const struct rpc_conf conf = {
	    .methods = rpc_methods,
	    .n_methods = rpc_method_count,
	    .services = &a->services,
	    .max_frame_bytes = (uint32_t)o->max_frame_bytes,
	    .max_connections = (uint32_t)o->max_connections,
	    .max_buffered_bytes = o->max_buffered_bytes,
	    .arena_bytes = o->max_arena_bytes,
	    .max_answer_bytes = o->max_answer_bytes,
	    .max_file_bytes = o->max_file_bytes,
	    .stall_ms = o->stall_ms,
	};
	struct addr addr;

	a->rpc = rpc_server_new(&a->loop, &conf);
	for (size_t i = 0; a->rpc && i < o->listen.n; i++) {
		a->listeners[i].ctx = a;
		if (addr_parse(span_str(o->listen.values[i]), &addr) == E_OK)
			listener_start(
			    &a->listeners[i], &a->loop, &addr, &a->peers, &rpc_listener_ops);
	}
}

static int start(struct agent *a)
{
	int rc = loop_init(&a->loop);

	if (rc < 0)
		return rc;
	reaper_init(&a->reaper, &a->loop);
	shutdown_init(&a->shutdown, &a->loop, &a->reaper);
	rc = signals_init(&a->signals, &a->loop, on_signal);
	if (rc < 0)
		log_error("main", "cannot receive signals", KV_ERR(rc));
	random_seed(a->seed);
	set_peers(a);
	start_registry(a);
	start_dns(a);
	start_watch(a);
	start_proxies(a);
	start_services(a);
	start_rpc(a);
	return 0;
}

static void stop(struct agent *a)
{
	for (size_t i = 0; i < a->options.listen.n; i++)
		listener_stop(&a->listeners[i]);
	rpc_server_free(a->rpc);
	for (size_t i = 0; i < OPTIONS_LIST; i++)
		if (a->proxies[i])
			proxy_free(a->proxies[i]);
	watch_free(a->watch);
	dns_server_free(a->dns);
	registry_free(a->registry);
	reader_free(a->services.reader);
	runtime_free(a->runtime);
	signals_done(&a->signals);
	loop_done(&a->loop);
}

int main(int argc, char **argv)
{
	static struct agent agent;
	int status, rc;

	signals_block();
	if (!read_options(&agent.options, argc, argv, &status))
		return status;
	start_log(&agent.options);
	log_info("main", "arcbox-agent " AGENT_VERSION " starts", KV_NUM("pid", getpid()));
	while ((rc = start(&agent)) < 0) {
		log_error("main", "cannot make an event loop", KV_ERR(rc));
		if (!is_pid1())
			return EXIT_FAILURE;
		sleep(1);
	}
	loop_run(&agent.loop);
	stop(&agent);
	return EXIT_SUCCESS;
}
