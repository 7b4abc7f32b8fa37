/* options.h - what the agent was told: the values of its options, and where they are read from. */
#ifndef AGENT_OPTIONS_H
#define AGENT_OPTIONS_H

#include "base/err.h"
#include "base/span.h"

struct option_row;

enum { OPTIONS_LIST = 32 }; /* times that one option may be repeated */

/* Values of a repeatable option, in order; views of argv or of the kernel command line. */
struct option_list {
	const char *values[OPTIONS_LIST];
	size_t n;
	bool given; /* values are being added; else the next one replaces them all */
};

enum options_command {
	COMMAND_ALL,   /* none given: init and serve when PID 1, else serve */
	COMMAND_INIT,  /* bring the system up once, and exit */
	COMMAND_SERVE, /* all but that */
};

struct options {
	enum options_command command;
	/* what to serve */
	struct option_list listen, allow_peer, proxy;
	const char *dns;
	struct option_list dns_forward, dns_name;
	const char *dns_domain, *dns_hosts;
	bool dns_bare_dotted;
	uint64_t dns_ttl_secs;
	/* where things are */
	const char *docker_socket, *runtime_dir, *data_device, *format, *vmm_config;
	/* behaviour */
	const char *log, *log_file;
	uint64_t slow_turn_ms;
	bool set_clock, no_guest_exec;
	/* bringing the system up */
	const char *hostname, *iptables;
	struct option_list docker_dns;
	bool keep_root;
	uint64_t init_ms, modules_ms, share_ms;
	uint64_t dhcp_retry_ms, dhcp_retry_max_ms, dhcp_renew_retry_ms, dhcp_min_lease_secs;
	/* limits */
	uint64_t max_frame_bytes, max_connections, max_buffered_bytes, max_arena_bytes,
	    max_answer_bytes, max_file_bytes, stall_ms;
	uint64_t max_reads, max_waiting, read_ms;
	uint64_t prepare_ms, volume_ms, containerd_ms, docker_start_ms;
	uint64_t restart_ms, restart_max_ms, healthy_ms;
	uint64_t k3s_answer_ms, k3s_ready_ms, k3s_stop_ms, k3s_delete_ms;
	uint64_t max_sandboxes, max_starting, max_subscribers, max_events, max_snapshots,
	    max_snapshot_requests, max_guest_commands;
	uint64_t sandbox_prepare_ms, sandbox_connect_ms, sandbox_stop_ms, sandbox_kill_ms;
	uint64_t checkpoint_ms, snapshots_ms;
	uint64_t max_relays, park_ms, park_retry_ms;
	uint64_t max_owners, max_names, max_names_per_owner, max_addrs_per_owner;
	uint64_t dns_rcvbuf_bytes, dns_max_clients, dns_max_buffered_bytes, dns_idle_ms;
	uint64_t dns_max_inflight, dns_max_askers, dns_timeout_ms, dns_probe_ms;
	uint64_t dns_cache_entries, dns_cache_bytes;
	uint64_t dns_cache_ttl_secs, dns_negative_ttl_secs, dns_stale_secs;
	uint64_t docker_inspects, probe_ms, shutdown_secs, disks_ms, iptables_ms;
	uint64_t docker_max_containers, docker_event_bytes, docker_answer_bytes;
	uint64_t docker_answer_ms, docker_retry_ms, docker_retry_max_ms;
	/* what was asked for instead of running */
	bool help, version;
};

/* Sets every option to its default. */
void options_default(struct options *o);

/* What is wrong with an option, for one clear line. */
struct option_problem {
	const char *name, *value;     /* value NULL: it is missing */
	const struct option_row *row; /* NULL: there is no such option */
	enum err err;
};

/* Reads `--name value`, `--name=value` and one command; views of argv are kept. False with *p
 * filled at the first that is wrong; what came before it is set. */
bool options_parse(struct options *o, int argc, char *const *argv, struct option_problem *p);

/* Reads `arcbox.name=value` out of a kernel command line; values are kept in a copy of this
 * module's. Words that are wrong go to `wrong` and are left out, so that the machine still comes
 * up. */
void options_kernel(
    struct options *o, const char *cmdline, void (*wrong)(const struct option_problem *p));

/* The Docker proxy's port has settings of its own that are older than --proxy and change its
 * default: the value of an environment variable (may be NULL), else
 * arcbox.guest_docker_vsock_port= of the kernel command line. What is no positive number is
 * ignored. */
void options_docker_port(struct options *o, const char *variable, const char *cmdline);

/* The option when it was given, else the environment variable; NULL when that is unset or empty,
 * too. */
const char *option_or_variable(const char *option, const char *variable);

/* Of the options that may be switched off by that word. */
static inline bool option_is_off(const char *value)
{
	return span_eq_str(span_str(value), "off");
}

#endif
