/* The start of the system, from top to bottom: options, log, signals, system init, DNS, Docker
 * watcher, proxies, services, RPC, network, shares. A part that cannot be had is logged and left
 * out; RPC always comes up. */
#include "base/cursor.h"
#include "base/log.h"
#include "base/parse.h"
#include "codec/dhcp.h"
#include "init/init.h"
#include "init/network.h"
#include "init/prerequisites.h"
#include "init/shares.h"
#include "names/dns_server.h"
#include "names/hosts_file.h"
#include "names/watch.h"
#include "net/proxy.h"
#include "options.h"
#include "rpc/methods.h"
#include "sandbox/rootfs.h"
#include "sandbox/sandbox.h"
#include "sys/child.h"
#include "sys/fs.h"
#include "sys/random.h"
#include "sys/signals.h"
#include "system/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SUBNET_TEXT_BYTES = IP_TEXT_BYTES + 4 };

/* All that runs, in the order in which it is started. */
struct agent {
	struct options options;
	bool brings_up;        /* does system init, too */
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
	char endpoint[ADDR_TEXT_BYTES];
	struct rpc_services services;
	struct rpc_server *rpc;
	struct listener listeners[OPTIONS_LIST];
};

static uint64_t started_ns; /* when main began, CLOCK_MONOTONIC */

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

static const char *first_set(const char *option, const char *variable)
{
	const char *value = option ? option : getenv(variable);
	return value && *value ? value : NULL;
}

static void set_sinks(const struct agent *a)
{
	const int sinks[LOG_SINKS] = {a->console >= 0 ? a->console : STDERR_FILENO, a->log_file};

	log_sinks(sinks, a->log_file >= 0 ? 2 : 1);
}

/* Again when it could not be opened before: the directory may have been mounted meanwhile. */
static void start_log_file(struct agent *a)
{
	if (!log_file_is_open(a->log_file)) {
		if (a->log_file >= 0)
			close(a->log_file);
		a->log_file = log_file_open(a->options.log_file);
	}
	set_sinks(a);
}

static void end_log_file(struct agent *a)
{
	int fd = a->log_file;

	a->log_file = -1;
	set_sinks(a);
	if (fd >= 0)
		close(fd);
}

/* The one for the log comes before the system's, which may come first. For PID 1 that is not
 * stderr, which the kernel opened so that it could block. */
static void start_console(struct agent *a)
{
	const int flags = O_WRONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	int fd = open("/dev/hvc1", flags);

	if (fd < 0 && a->console < 0 && is_pid1())
		fd = open("/dev/console", flags);
	if (fd < 0)
		return;
	if (a->console >= 0)
		close(a->console);
	a->console = fd;
	set_sinks(a);
}

static void start_log(struct agent *a)
{
	const struct options *o = &a->options;
	const char *filter = first_set(first_set(o->log, "ARCBOX_LOG"), "RUST_LOG");
	struct span bad;

	a->console = a->log_file = -1;
	start_console(a);
	start_log_file(a);
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
		log_info("listen", "listening", KV_STR("at", at),
		    KV_NUM("after_us", (clock_mono_ns() - started_ns) / 1000));
	else if (what == LISTEN_FAILED)
		log_warn("listen", "cannot listen, trying again", KV_STR("at", at), KV_ERR(rc));
	else if (what == LISTEN_REFUSED)
		log_warn("listen", "refused peers that may not connect", KV_STR("at", at),
		    KV_STR("last", addr_text(peer, from)), KV_NUM("refused", rc));
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
	else if (sig != SIGHUP)
		shutdown_begin(&a->shutdown, 0);
}

static void runtime_ended(void *ctx)
{
	struct agent *a = ctx;

	shutdown_services_ended(&a->shutdown);
}

/* Of the time for the services. */
static uint64_t left_ms(const struct agent *a)
{
	uint64_t now_ns = a->loop.now_ns, until_ns = a->shutdown.until_ns;

	return until_ns > now_ns ? (until_ns - now_ns) / NS_PER_MS : 0;
}

static void end_runtime(void *ctx)
{
	struct agent *a = ctx;

	if (a->runtime)
		runtime_stop(a->runtime, left_ms(a), runtime_ended, a);
	else
		runtime_ended(a);
}

/* Kubernetes is on top of the runtime. */
static void end_kubernetes(void *ctx)
{
	struct agent *a = ctx;

	if (a->kubernetes)
		kubernetes_stop(a->kubernetes, left_ms(a) / 2, end_runtime, a);
	else
		end_runtime(a);
}

static void end_services(struct shutdown *s, uint64_t wait_ms)
{
	struct agent *a = container_of(s, struct agent, shutdown);

	if (a->sandboxes)
		sandboxes_stop(a->sandboxes, wait_ms / 2, end_kubernetes, a);
	else
		end_kubernetes(a);
}

/* The disks are about to be unmounted. */
static void last_of_all(struct shutdown *s)
{
	end_log_file(container_of(s, struct agent, shutdown));
}

/* Addresses for resolv.conf: the agent's own DNS, or without it those that it would ask. */
static size_t list_nameservers(
    const struct options *o, char texts[][IP_TEXT_BYTES], const char *list[OPTIONS_LIST])
{
	size_t n = 0;

	if (!is_off(o->dns)) {
		list[0] = "127.0.0.1";
		return 1;
	}
	for (size_t i = 0; i < o->dns_forward.n; i++) {
		struct addr addr;
		struct ip ip;

		if (addr_parse_inet(span_str(o->dns_forward.values[i]), 53, &addr) != E_OK ||
		    !addr_to_ip(&addr, &ip))
			continue;
		ip_format(&ip, texts[n]);
		list[n] = texts[n];
		n++;
	}
	return n;
}

/* Whether later steps find what they need. */
static bool start_system(struct agent *a)
{
	const struct options *o = &a->options;
	char texts[OPTIONS_LIST][IP_TEXT_BYTES];
	const char *nameservers[OPTIONS_LIST];
	bool usable;
	const struct init_conf conf = {
	    .keep_root = o->keep_root,
	    .hostname = o->hostname,
	    .modules_ms = o->modules_ms,
	    .etc = {.nameservers = nameservers,
		.n_nameservers = list_nameservers(o, texts, nameservers),
		.domain = o->dns_domain,
		.docker_dns = o->docker_dns.values,
		.n_docker_dns = o->docker_dns.n},
	};

	usable = init_rest(&conf);
	start_console(a); /* its module may have been loaded */
	return usable;
}

/* The servers of the lease stand behind those of the options: they are for when those are silent.
 */
static void set_forwarders(struct agent *a, const struct ip *leased, size_t n_leased)
{
	const struct option_list *list = &a->options.dns_forward;
	struct addr servers[OPTIONS_LIST + DHCP_DNS_SERVERS];
	size_t n = 0;

	if (!a->dns)
		return;
	for (size_t i = 0; i < list->n; i++)
		if (addr_parse_inet(span_str(list->values[i]), 53, &servers[n]) == E_OK)
			n++;
	for (size_t i = 0; i < n_leased; i++)
		addr_from_ip(&leased[i], 53, &servers[n++]);
	forward_set_servers(dns_server_forward(a->dns), servers, n);
}

static void take_resolvers(void *ctx, const struct ip *servers, size_t n)
{
	set_forwarders(ctx, servers, n);
}

static const char *subnet_text(const struct cidr *cidr, char text[SUBNET_TEXT_BYTES])
{
	struct wr w = wr_of(text, SUBNET_TEXT_BYTES);
	char ip[IP_TEXT_BYTES];

	ip_format(&cidr->network, ip);
	wr_str(&w, ip);
	wr_str(&w, "/");
	wr_dec(&w, cidr->prefix);
	wr_nul(&w);
	return text;
}

static void start_network(struct agent *a)
{
	const struct options *o = &a->options;
	const struct network_conf conf = {
	    .mode = a->brings_up ? NETWORK_WHOLE : NETWORK_KEEP,
	    .hostname = o->hostname,
	    .iptables = o->iptables,
	    .iptables_ms = o->iptables_ms,
	    .sandbox_subnet = subnet_text(&a->vmm.cidr, a->sandbox_subnet),
	    .retry_ms = o->dhcp_retry_ms,
	    .retry_max_ms = o->dhcp_retry_max_ms,
	    .renew_retry_ms = o->dhcp_renew_retry_ms,
	    .min_lease_secs = (uint32_t)o->dhcp_min_lease_secs,
	    .max_lease_secs = DHCP_INFINITE_SECS,
	    .resolvers = take_resolvers,
	    .ctx = a,
	};

	a->network = network_new(&a->loop, &a->reaper, &conf);
}

static void shares_mounted(struct shares *s)
{
	start_log_file(container_of(s, struct agent, shares));
}

static void start_shares(struct agent *a)
{
	shares_mount(&a->shares, &a->reaper, a->brings_up, a->options.share_ms, shares_mounted);
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
		    .cache =
			{
			    .max_entries = o->dns_cache_entries,
			    .max_bytes = o->dns_cache_bytes,
			    .ttl_secs = (uint32_t)o->dns_cache_ttl_secs,
			    .negative_ttl_secs = (uint32_t)o->dns_negative_ttl_secs,
			    .stale_secs = (uint32_t)o->dns_stale_secs,
			    .seed = {a->seed[0], a->seed[1]},
			},
		},
	};

	if (!a->registry || is_off(o->dns) ||
	    addr_parse_inet(span_str(o->dns), 0, &conf.listen) != E_OK)
		return;
	a->dns = dns_server_new(&a->loop, a->registry, &conf);
	if (a->dns)
		set_forwarders(a, NULL, 0);
	else
		log_error("main", "no memory for the DNS server: running without");
}

static void start_watch(struct agent *a)
{
	const struct options *o = &a->options;
	const struct watch_conf conf = {
	    .socket = o->docker_socket,
	    .max_containers = o->docker_max_containers,
	    .inspects = o->docker_inspects,
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

/* Of the machine's disks, the one that is for Docker. */
static const char *data_device(const char *option)
{
	static const char console_disk[] = "/dev/arcboxhvc1";

	if (option)
		return is_off(option) ? NULL : option;
	return access(console_disk, F_OK) == 0 ? console_disk : "/dev/vdb";
}

static void start_kubernetes(struct agent *a)
{
	const struct options *o = &a->options;
	const struct kubernetes_conf conf = {
	    .binary_dir = o->runtime_dir,
	    .runtime = a->runtime,
	    .max_waiting = (unsigned)o->max_waiting,
	    .answer_ms = o->k3s_answer_ms,
	    .ready_ms = o->k3s_ready_ms,
	    .stop_ms = o->k3s_stop_ms,
	    .delete_ms = o->k3s_delete_ms,
	    .restart_ms = o->restart_ms,
	    .restart_max_ms = o->restart_max_ms,
	    .healthy_ms = o->healthy_ms,
	};

	if (a->runtime)
		a->kubernetes = kubernetes_new(&a->loop, &a->reaper, &conf);
}

static void start_runtime(struct agent *a)
{
	const struct options *o = &a->options;
	const struct runtime_conf conf = {
	    .binary_dir = o->runtime_dir,
	    .docker_socket = o->docker_socket,
	    .endpoint = a->endpoint,
	    .data_device = data_device(o->data_device),
	    .format_force = strcmp(o->format, "force") == 0,
	    .probe_ms = o->probe_ms,
	    .max_waiting = (unsigned)o->max_waiting,
	    .prepare = prerequisites_meet,
	    .prepare_ms = o->prepare_ms,
	    .volume_ms = o->volume_ms,
	    .containerd_ms = o->containerd_ms,
	    .docker_ms = o->docker_start_ms,
	    .restart_ms = o->restart_ms,
	    .restart_max_ms = o->restart_max_ms,
	    .healthy_ms = o->healthy_ms,
	};

	set_endpoint(a);
	a->runtime = runtime_new(&a->loop, &a->reaper, &conf);
}

/* Before /etc is covered by memory. A file that was asked for by name has to be there. */
static void read_vmm_config(struct agent *a)
{
	const char *named = first_set(a->options.vmm_config, "ARCBOX_VMM_CONFIG");
	int rc;

	sandbox_config_default(&a->vmm);
	rc = sandbox_config_load(&a->vmm, named ? named : "/etc/arcbox/vmm.toml");
	if (rc == -ENOENT && named)
		log_error("sandbox", "there is no such configuration, using the built-in one",
		    KV_STR("file", named));
}

static struct span owner_of(const char *id, char owner[SANDBOX_ID_MAX + 16])
{
	text_join(owner, SANDBOX_ID_MAX + 16, "sandbox:", id);
	return span_str(owner);
}

static void name_sandbox(void *ctx, const char *id, const struct ip *ip)
{
	const struct agent *a = ctx;
	char owner[SANDBOX_ID_MAX + 16];
	struct span name = span_str(id);
	int rc = a->registry ? registry_set(a->registry, owner_of(id, owner), &name, 1, ip, 1) : 0;

	if (rc < 0)
		log_warn(
		    "sandbox", "its name cannot be registered", KV_STR("sandbox", id), KV_ERR(rc));
}

static void unname_sandbox(void *ctx, const char *id)
{
	const struct agent *a = ctx;
	char owner[SANDBOX_ID_MAX + 16];

	if (a->registry)
		registry_drop(a->registry, owner_of(id, owner));
}

static void start_sandboxes(struct agent *a)
{
	const struct options *o = &a->options;
	const struct sandboxes_conf conf = {
	    .config = &a->vmm,
	    .rootfs = rootfs_convert,
	    .names = &a->sandbox_names,
	    .max_sandboxes = (unsigned)o->max_sandboxes,
	    .max_starting = (unsigned)o->max_starting,
	    .max_subscribers = (unsigned)o->max_subscribers,
	    .max_events = o->max_events,
	    .max_snapshots = (unsigned)o->max_snapshots,
	    .max_guest_commands = o->no_guest_exec ? 0 : (unsigned)o->max_guest_commands,
	    .prepare_ms = o->sandbox_prepare_ms,
	    .connect_ms = o->sandbox_connect_ms,
	    .stop_ms = o->sandbox_stop_ms,
	    .kill_ms = o->sandbox_kill_ms,
	    .seed = {a->seed[0], a->seed[1]},
	};

	a->sandbox_names =
	    (struct sandbox_names){.set = name_sandbox, .drop = unname_sandbox, .ctx = a};
	a->sandboxes = sandboxes_new(&a->loop, &a->reaper, &conf);
	if (!a->sandboxes)
		log_error("main", "no memory for sandboxes: running without");
}

static void start_services(struct agent *a)
{
	const struct options *o = &a->options;

	start_runtime(a);
	start_kubernetes(a);
	start_sandboxes(a);
	a->services = (struct rpc_services){
	    .clock = {.may_set = is_pid1() || o->set_clock},
	    .reader = reader_new(
		&a->loop, &a->reaper, (unsigned)o->max_reads, (unsigned)o->max_waiting, o->read_ms),
	    .shutdown = &a->shutdown,
	    .runtime = a->runtime,
	    .kubernetes = a->kubernetes,
	    .sandboxes = a->sandboxes,
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

/* --- start and end -------------------------------------------------------------------------------
 */

static int start_loop(struct agent *a)
{
	int rc = loop_init(&a->loop);

	if (rc < 0)
		return rc;
	reaper_init(&a->reaper, &a->loop);
	a->end = (struct shutdown_conf){
	    .machine = is_pid1(),
	    .default_secs = (uint32_t)a->options.shutdown_secs,
	    .disks_ms = a->options.disks_ms,
	    .services = end_services,
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
static void start(struct agent *a)
{
	read_vmm_config(a);
	if (a->brings_up)
		start_system(a);
	set_peers(a);
	start_registry(a);
	start_dns(a);
	start_watch(a);
	start_proxies(a);
	start_services(a);
	start_rpc(a);
	start_network(a);
	start_shares(a);
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
	sandboxes_free(a->sandboxes);
	kubernetes_free(a->kubernetes);
	runtime_free(a->runtime);
	shares_cancel(&a->shares);
	network_free(a->network);
	reaper_done(&a->reaper);
	signals_done(&a->signals);
	loop_done(&a->loop);
}

static bool is_settled(const struct agent *a)
{
	return a->shares.left == 0 && (!a->network || network_is_settled(a->network));
}

/* The command init: section by section as above, then an end. */
static int bring_up(struct agent *a)
{
	uint64_t end_ns = clock_mono_ns() + a->options.init_ms * NS_PER_MS;
	bool usable;

	read_vmm_config(a);
	usable = start_system(a);
	start_network(a);
	start_shares(a);
	while (!a->loop.stopping && !is_settled(a) && clock_mono_ns() < end_ns)
		loop_turn(&a->loop, 100);
	if (!is_settled(a))
		log_warn(
		    "main", "the system is up, but not all addresses, rules and shares are there");
	shares_cancel(&a->shares);
	network_free(a->network);
	return usable ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	static struct agent agent;
	struct agent *a = &agent;
	int status, rc;

	started_ns = clock_mono_ns();
	signals_block();
	if (is_pid1())
		init_first();
	if (!read_options(&a->options, argc, argv, &status))
		return status;
	a->brings_up = is_pid1() && a->options.command != COMMAND_SERVE;
	start_log(a);
	log_info("main", "arcbox-agent " AGENT_VERSION " starts", KV_NUM("pid", getpid()),
	    KV_NUM("since_boot_ms", started_ns / NS_PER_MS));
	while ((rc = start_loop(a)) < 0) {
		log_error("main", "cannot make an event loop", KV_ERR(rc));
		if (!is_pid1())
			return EXIT_FAILURE;
		sleep(1);
	}
	if (a->options.command == COMMAND_INIT && !is_pid1()) {
		a->brings_up = true;
		return bring_up(a);
	}
	start(a);
	do
		loop_run(&a->loop);
	while (is_pid1()); /* whose end would be the machine's */
	stop(a);
	return EXIT_SUCCESS;
}
