#include "agent/option_rows.h"

#include "agent/options.h"
#include "base/hostname.h"
#include "base/ip.h"
#include "base/parse.h"
#include "codec/dns.h"
#include "sys/addr.h"

/* --- what a text may be --------------------------------------------------------------------- */

static bool is_off(struct span text)
{
	return span_eq_str(text, "off");
}

static enum err check_listen(struct span text)
{
	struct addr a;
	return addr_parse(text, &a);
}

static enum err check_proxy(struct span text)
{
	struct span rest = text;
	struct span listen = span_split(&rest, '=');
	enum err err;

	if (is_off(text))
		return E_OK;
	err = check_listen(listen);
	return err != E_OK ? err : check_listen(rest);
}

static enum err check_peer(struct span text)
{
	uint64_t cid;
	return parse_u64(text, 0, UINT32_MAX, &cid);
}

static enum err check_inet_or_off(struct span text)
{
	struct addr a;
	return is_off(text) ? E_OK : addr_parse_inet(text, 0, &a);
}

static enum err check_inet(struct span text)
{
	struct addr a;
	return addr_parse_inet(text, 53, &a);
}

static enum err check_domain(struct span text)
{
	struct dns_name name;
	return dns_name_from_text(text, &name);
}

static enum err check_ip(struct span text)
{
	struct ip ip;
	return ip_parse(text, &ip);
}

static enum err check_format(struct span text)
{
	return span_eq_str(text, "force") || span_eq_str(text, "safe") ? E_OK : E_MALFORMED;
}

static enum err check_hostname(struct span text)
{
	return text.n <= HOSTNAME_BYTES && hostname_is_legal(text) ? E_OK : E_MALFORMED;
}

static enum err check_static_name(struct span text)
{
	struct span rest = text;
	struct span name = span_split(&rest, '=');
	struct ip ip;
	enum err err = check_domain(name);

	return err != E_OK ? err : ip_parse(rest, &ip);
}

/* --- the table ------------------------------------------------------------------------------ */

#define AT(member) offsetof(struct options, member)
#define MIB(n)     ((n)*UINT64_C(1024) * 1024)

/* The rows are laid out by hand: names, range and default, then the help. */
/* clang-format off */
const struct option_row option_rows[] = {
    {.group = "What is served", .name = "listen", .value = "ADDR", .kind = OPTION_LIST,
        .offset = AT(listen), .text = {"vsock:1024"}, .check = check_listen,
        .help = "serve RPC on vsock:PORT or unix:PATH; repeatable"},
    {.name = "allow-peer", .value = "CID", .kind = OPTION_LIST, .offset = AT(allow_peer),
        .text = {"2"}, .check = check_peer,
        .help = "CID that may connect over vsock; repeatable"},
    {.name = "proxy", .value = "LISTEN=BACKEND", .kind = OPTION_LIST, .offset = AT(proxy),
        .text = {"vsock:2375=unix:/var/run/docker.sock", "vsock:16443=tcp:127.0.0.1:6443"},
        .check = check_proxy,
        .help = "relay LISTEN to BACKEND (unix:PATH or tcp:ADDR:PORT); repeatable, or off"},
    {.name = "dns", .value = "ADDR:PORT", .kind = OPTION_TEXT, .offset = AT(dns),
        .text = {"0.0.0.0:53"}, .check = check_inet_or_off,
        .help = "answer DNS there, or off"},
    {.name = "dns-forward", .value = "ADDR:PORT", .kind = OPTION_LIST, .offset = AT(dns_forward),
        .text = {"10.0.2.1:53"}, .check = check_inet,
        .help = "server for all other names; repeatable, tried in order"},
    {.name = "dns-domain", .value = "NAME", .kind = OPTION_TEXT, .offset = AT(dns_domain),
        .text = {"arcbox.local"}, .check = check_domain,
        .help = "domain of the agent's own names"},
    {.name = "dns-ttl", .value = "SECONDS", .kind = OPTION_SECS, .offset = AT(dns_ttl_secs),
        .max = 86400, .number = 5,
        .help = "how long the agent's own answers may be kept"},
    {.name = "dns-name", .value = "NAME=ADDR", .kind = OPTION_LIST, .offset = AT(dns_name),
        .check = check_static_name,
        .help = "static name; repeatable"},
    {.name = "dns-hosts", .value = "FILE", .kind = OPTION_TEXT, .offset = AT(dns_hosts),
        .help = "static names in hosts(5) form, read again on SIGHUP"},
    {.name = "dns-bare-dotted", .kind = OPTION_SWITCH, .offset = AT(dns_bare_dotted),
        .help = "names with dots answer without the domain, too"},

    {.group = "Where things are", .name = "docker-socket", .value = "PATH", .kind = OPTION_TEXT,
        .offset = AT(docker_socket), .text = {"/var/run/docker.sock"},
        .help = "socket of the Docker engine to watch, or off"},
    {.name = "runtime-dir", .value = "DIR", .kind = OPTION_TEXT, .offset = AT(runtime_dir),
        .text = {"/arcbox/runtime/bin"},
        .help = "where dockerd, containerd and the others are"},
    {.name = "data-device", .value = "PATH", .kind = OPTION_TEXT, .offset = AT(data_device),
        .help = "disk for the data volume, or off; else /dev/arcboxhvc1, when it is there, or /dev/vdb"},
    {.name = "vmm-config", .value = "FILE", .kind = OPTION_TEXT, .offset = AT(vmm_config),
        .help = "of sandboxes; else ARCBOX_VMM_CONFIG, /etc/arcbox/vmm.toml, built-in"},
    {.name = "no-guest-exec", .kind = OPTION_SWITCH, .offset = AT(no_guest_exec),
        .help = "the host may run no commands in the guest itself (@guest)"},
    {.name = "format", .value = "force", .kind = OPTION_TEXT, .offset = AT(format), .text = {"safe"},
        .check = check_format,
        .help = "force: format the data disk whatever is on it"},
    {.name = "log", .value = "FILTER", .kind = OPTION_TEXT, .offset = AT(log),
        .help = "level, or module=level, by commas; else ARCBOX_LOG, RUST_LOG, info"},
    {.name = "log-file", .value = "PATH", .kind = OPTION_TEXT, .offset = AT(log_file),
        .text = {"/arcbox/log/agent.log"},
        .help = "appended to when its directory's parent exists"},
    {.name = "slow-turn", .value = "TIME", .kind = OPTION_MS, .offset = AT(slow_turn_ms),
        .max = 60000, .number = 100,
        .help = "what keeps all else waiting so long is logged; 0s: nothing is"},
    {.name = "set-clock", .kind = OPTION_SWITCH, .offset = AT(set_clock),
        .help = "follow the host's clock also when not PID 1"},
    {.name = "help", .kind = OPTION_SWITCH, .offset = AT(help),
        .help = "show this and exit"},
    {.name = "version", .kind = OPTION_SWITCH, .offset = AT(version),
        .help = "show the version and exit"},

    {.group = "Bringing the system up (PID 1, or the command init)", .name = "hostname",
        .value = "NAME", .kind = OPTION_TEXT, .offset = AT(hostname), .check = check_hostname,
        .help = "the guest's name; else the one that DHCP gives, else arcbox"},
    {.name = "docker-dns", .value = "ADDR", .kind = OPTION_LIST, .offset = AT(docker_dns),
        .text = {"10.0.2.1"}, .check = check_ip,
        .help = "resolver that dockerd gives to containers; repeatable"},
    {.name = "keep-root", .kind = OPTION_SWITCH, .offset = AT(keep_root),
        .help = "write to a root that is writable, instead of to memory"},
    {.name = "iptables", .value = "PATH", .kind = OPTION_TEXT, .offset = AT(iptables),
        .text = {"/sbin/iptables"},
        .help = "makes the rules for forwarding, when it is there"},
    {.name = "iptables-time", .value = "TIME", .kind = OPTION_MS, .offset = AT(iptables_ms),
        .min = 100, .max = 3600000, .number = 10000,
        .help = "one run of it"},
    {.name = "init-time", .value = "TIME", .kind = OPTION_MS, .offset = AT(init_ms),
        .max = 3600000, .number = 10000,
        .help = "how long the command init waits for addresses and shares"},
    {.name = "modules-time", .value = "TIME", .kind = OPTION_MS, .offset = AT(modules_ms),
        .min = 100, .max = 3600000, .number = 10000,
        .help = "all kernel modules together"},
    {.name = "share-time", .value = "TIME", .kind = OPTION_MS, .offset = AT(share_ms),
        .min = 100, .max = 3600000, .number = 10000,
        .help = "mounting one VirtioFS share"},
    {.name = "dhcp-retry", .value = "TIME", .kind = OPTION_MS, .offset = AT(dhcp_retry_ms),
        .min = 100, .max = 60000, .number = 1000,
        .help = "first wait for an answer; each further one is twice as long"},
    {.name = "dhcp-retry-max", .value = "TIME", .kind = OPTION_MS,
        .offset = AT(dhcp_retry_max_ms), .min = 100, .max = 3600000, .number = 64000,
        .help = "longest such wait"},
    {.name = "dhcp-renew-retry", .value = "TIME", .kind = OPTION_MS,
        .offset = AT(dhcp_renew_retry_ms), .min = 100, .max = 3600000, .number = 60000,
        .help = "shortest wait for the answer to a renewal"},
    {.name = "dhcp-min-lease", .value = "SECONDS", .kind = OPTION_SECS,
        .offset = AT(dhcp_min_lease_secs), .min = 1, .max = 86400, .number = 2,
        .help = "shorter leases are refused"},

    {.group = "Limits of RPC", .name = "max-frame", .value = "BYTES", .kind = OPTION_BYTES,
        .offset = AT(max_frame_bytes), .min = 1024, .max = MIB(64), .number = MIB(16),
        .help = "request frame; a larger one is Error 413"},
    {.name = "max-connections", .value = "N", .kind = OPTION_NUMBER,
        .offset = AT(max_connections), .min = 1, .max = 65536, .number = 1024,
        .help = "RPC connections; one more is Error 503"},
    {.name = "max-buffered", .value = "BYTES", .kind = OPTION_BYTES,
        .offset = AT(max_buffered_bytes), .min = 65536, .max = MIB(1024), .number = MIB(64),
        .help = "buffers of all RPC connections together"},
    {.name = "max-arena", .value = "BYTES", .kind = OPTION_BYTES, .offset = AT(max_arena_bytes),
        .min = 4096, .max = MIB(16), .number = 65536,
        .help = "lists and sub-messages of one request"},
    {.name = "max-answer", .value = "BYTES", .kind = OPTION_BYTES, .offset = AT(max_answer_bytes),
        .min = MIB(1), .max = MIB(64), .number = MIB(8),
        .help = "answers of one connection that wait to be sent, files apart"},
    {.name = "max-files", .value = "BYTES", .kind = OPTION_BYTES, .offset = AT(max_file_bytes),
        .min = MIB(64), .max = MIB(65536), .number = MIB(256),
        .help = "files that are being sent, together; one more is Error 503"},
    {.name = "stall-time", .value = "TIME", .kind = OPTION_MS, .offset = AT(stall_ms),
        .min = 100, .max = 3600000, .number = 60000,
        .help = "a client that takes none of its answer so long is cut off"},
    {.name = "max-reads", .value = "N", .kind = OPTION_NUMBER, .offset = AT(max_reads), .min = 1,
        .max = 64, .number = 4,
        .help = "files that are read at once"},
    {.name = "max-waiting", .value = "N", .kind = OPTION_NUMBER, .offset = AT(max_waiting),
        .min = 1, .max = 65536, .number = 1024,
        .help = "requests that wait for a read or a probe"},
    {.name = "read-time", .value = "TIME", .kind = OPTION_MS, .offset = AT(read_ms), .min = 100,
        .max = 3600000, .number = 30000,
        .help = "one file read"},

    {.name = "shutdown-time", .value = "SECONDS", .kind = OPTION_SECS, .offset = AT(shutdown_secs),
        .min = 1, .max = 3600, .number = 25,
        .help = "for all to end before SIGKILL, when the request does not say"},
    {.name = "disks-time", .value = "TIME", .kind = OPTION_MS, .offset = AT(disks_ms),
        .min = 100, .max = 3600000, .number = 10000,
        .help = "unmounting and syncing before the power goes off"},

    {.group = "Limits of the container runtime", .name = "probe-time", .value = "TIME",
        .kind = OPTION_MS, .offset = AT(probe_ms), .min = 100, .max = 60000, .number = 1000,
        .help = "the Docker API, or the runtime directory, to answer"},
    {.name = "prepare-time", .value = "TIME", .kind = OPTION_MS, .offset = AT(prepare_ms),
        .min = 100, .max = 3600000, .number = 10000,
        .help = "what the runtime needs of the system; and again its directories"},
    {.name = "volume-time", .value = "TIME", .kind = OPTION_MS, .offset = AT(volume_ms),
        .min = 1000, .max = 3600000, .number = 120000,
        .help = "making and mounting the data volume"},
    {.name = "containerd-time", .value = "TIME", .kind = OPTION_MS, .offset = AT(containerd_ms),
        .min = 100, .max = 3600000, .number = 30000,
        .help = "for containerd to be ready"},
    {.name = "dockerd-time", .value = "TIME", .kind = OPTION_MS, .offset = AT(docker_start_ms),
        .min = 100, .max = 3600000, .number = 90000,
        .help = "for dockerd to be ready"},
    {.name = "restart", .value = "TIME", .kind = OPTION_MS, .offset = AT(restart_ms), .min = 10,
        .max = 3600000, .number = 1000,
        .help = "first wait before a daemon that died is started again; doubles"},
    {.name = "restart-max", .value = "TIME", .kind = OPTION_MS, .offset = AT(restart_max_ms),
        .min = 10, .max = 3600000, .number = 30000,
        .help = "longest such wait"},
    {.name = "healthy-time", .value = "TIME", .kind = OPTION_MS, .offset = AT(healthy_ms),
        .min = 100, .max = 3600000, .number = 60000,
        .help = "ready for so long, the next wait is the first one again"},

    {.name = "k3s-answer-time", .value = "TIME", .kind = OPTION_MS, .offset = AT(k3s_answer_ms),
        .min = 100, .max = 3600000, .number = 30000,
        .help = "a start of Kubernetes is answered then, ready or not"},
    {.name = "k3s-ready-time", .value = "TIME", .kind = OPTION_MS, .offset = AT(k3s_ready_ms),
        .min = 100, .max = 3600000, .number = 300000,
        .help = "for the Kubernetes API to come up"},
    {.name = "k3s-stop-time", .value = "TIME", .kind = OPTION_MS, .offset = AT(k3s_stop_ms),
        .min = 100, .max = 3600000, .number = 10000,
        .help = "for k3s to end before it is killed"},
    {.name = "k3s-delete-time", .value = "TIME", .kind = OPTION_MS, .offset = AT(k3s_delete_ms),
        .min = 100, .max = 3600000, .number = 60000,
        .help = "for removing its namespace, and again for emptying its directories"},

    {.group = "Limits of sandboxes", .name = "max-sandboxes", .value = "N",
        .kind = OPTION_NUMBER, .offset = AT(max_sandboxes), .min = 1, .max = 4096, .number = 256,
        .help = "at once, those that stopped or failed among them"},
    {.name = "max-starting", .value = "N", .kind = OPTION_NUMBER, .offset = AT(max_starting),
        .min = 1, .max = 4096, .number = 8,
        .help = "that boot at a time; others wait for their turn"},
    {.name = "max-subscribers", .value = "N", .kind = OPTION_NUMBER,
        .offset = AT(max_subscribers), .min = 1, .max = 4096, .number = 64,
        .help = "hosts that follow their events"},
    {.name = "max-events", .value = "N", .kind = OPTION_NUMBER, .offset = AT(max_events),
        .min = 2, .max = 65536, .number = 256,
        .help = "that one of those may be behind"},
    {.name = "max-snapshots", .value = "N", .kind = OPTION_NUMBER, .offset = AT(max_snapshots),
        .min = 1, .max = 65536, .number = 1024,
        .help = "that are listed"},
    {.name = "max-snapshot-requests", .value = "N", .kind = OPTION_NUMBER,
        .offset = AT(max_snapshot_requests), .min = 1, .max = 1024, .number = 16,
        .help = "to list, remove or restore them, that wait for the disk"},
    {.name = "max-guest-commands", .value = "N", .kind = OPTION_NUMBER,
        .offset = AT(max_guest_commands), .min = 1, .max = 1024, .number = 64,
        .help = "at once in the guest itself"},
    {.name = "sandbox-prepare-time", .value = "TIME", .kind = OPTION_MS,
        .offset = AT(sandbox_prepare_ms), .min = 100, .max = 3600000, .number = 300000,
        .help = "copying or converting a root filesystem"},
    {.name = "sandbox-connect-time", .value = "TIME", .kind = OPTION_MS,
        .offset = AT(sandbox_connect_ms), .min = 100, .max = 3600000, .number = 30000,
        .help = "for a sandbox to take commands"},
    {.name = "sandbox-stop-time", .value = "TIME", .kind = OPTION_MS,
        .offset = AT(sandbox_stop_ms), .min = 100, .max = 3600000, .number = 30000,
        .help = "for it to shut down, when the request does not say"},
    {.name = "sandbox-kill-time", .value = "TIME", .kind = OPTION_MS,
        .offset = AT(sandbox_kill_ms), .min = 100, .max = 3600000, .number = 5000,
        .help = "for a VM that was killed to be gone"},
    {.name = "checkpoint-time", .value = "TIME", .kind = OPTION_MS, .offset = AT(checkpoint_ms),
        .min = 100, .max = 3600000, .number = 600000,
        .help = "each step of a checkpoint, such as copying the disk"},
    {.name = "snapshots-time", .value = "TIME", .kind = OPTION_MS, .offset = AT(snapshots_ms),
        .min = 100, .max = 3600000, .number = 60000,
        .help = "finding snapshots, or removing one"},

    {.group = "Limits of proxies", .name = "max-relays", .value = "N", .kind = OPTION_NUMBER,
        .offset = AT(max_relays), .min = 1, .max = 65536, .number = 4096,
        .help = "clients of one proxy"},
    {.name = "park-time", .value = "TIME", .kind = OPTION_MS, .offset = AT(park_ms),
        .max = 3600000, .number = 30000,
        .help = "how long a client waits for a backend that is not up"},
    {.name = "park-retry", .value = "TIME", .kind = OPTION_MS, .offset = AT(park_retry_ms),
        .min = 10, .max = 60000, .number = 200,
        .help = "how often that backend is tried"},

    {.group = "Limits of DNS", .name = "max-owners", .value = "N", .kind = OPTION_NUMBER,
        .offset = AT(max_owners), .min = 1, .max = 1000000, .number = 4096,
        .help = "containers and others with names"},
    {.name = "max-names", .value = "N", .kind = OPTION_NUMBER, .offset = AT(max_names), .min = 1,
        .max = 1000000, .number = 32768,
        .help = "labels of all names together"},
    {.name = "max-names-per-owner", .value = "N", .kind = OPTION_NUMBER,
        .offset = AT(max_names_per_owner), .min = 1, .max = 4096, .number = 64,
        .help = "names of one container"},
    {.name = "max-addrs-per-owner", .value = "N", .kind = OPTION_NUMBER,
        .offset = AT(max_addrs_per_owner), .min = 1, .max = 4096, .number = 64,
        .help = "addresses of one container"},
    {.name = "dns-rcvbuf", .value = "BYTES", .kind = OPTION_BYTES,
        .offset = AT(dns_rcvbuf_bytes), .min = 4096, .max = MIB(64), .number = MIB(1),
        .help = "receive buffer of the UDP socket"},
    {.name = "dns-max-clients", .value = "N", .kind = OPTION_NUMBER,
        .offset = AT(dns_max_clients), .min = 1, .max = 65536, .number = 128,
        .help = "clients over TCP"},
    {.name = "dns-max-buffered", .value = "BYTES", .kind = OPTION_BYTES,
        .offset = AT(dns_max_buffered_bytes), .min = 65536, .max = MIB(1024), .number = MIB(4),
        .help = "buffers of all TCP clients together"},
    {.name = "dns-idle-time", .value = "TIME", .kind = OPTION_MS, .offset = AT(dns_idle_ms),
        .min = 100, .max = 3600000, .number = 10000,
        .help = "a TCP client that asks nothing so long is closed"},
    {.name = "dns-max-inflight", .value = "N", .kind = OPTION_NUMBER,
        .offset = AT(dns_max_inflight), .min = 1, .max = 16384, .number = 1024,
        .help = "forwarded questions under way; who asks most gives way"},
    {.name = "dns-max-askers", .value = "N", .kind = OPTION_NUMBER, .offset = AT(dns_max_askers),
        .min = 1, .max = 65536, .number = 4096,
        .help = "clients that wait for those; who asks most gives way"},
    {.name = "dns-timeout", .value = "TIME", .kind = OPTION_MS, .offset = AT(dns_timeout_ms),
        .min = 50, .max = 60000, .number = 2000,
        .help = "one try at a forward server; there are two"},
    {.name = "dns-probe-time", .value = "TIME", .kind = OPTION_MS, .offset = AT(dns_probe_ms),
        .min = 100, .max = 3600000, .number = 5000,
        .help = "between probes of a server that does not answer"},
    {.name = "dns-cache", .value = "N", .kind = OPTION_NUMBER, .offset = AT(dns_cache_entries),
        .min = 1, .max = 1000000, .number = 1024,
        .help = "answers in the cache"},
    {.name = "dns-cache-bytes", .value = "BYTES", .kind = OPTION_BYTES,
        .offset = AT(dns_cache_bytes), .min = 4096, .max = MIB(256), .number = 262144,
        .help = "size of the cache"},

    {.name = "dns-cache-ttl", .value = "SECONDS", .kind = OPTION_SECS,
        .offset = AT(dns_cache_ttl_secs), .min = 1, .max = 604800, .number = 3600,
        .help = "no answer is kept, or told to be kept, longer"},
    {.name = "dns-negative-ttl", .value = "SECONDS", .kind = OPTION_SECS,
        .offset = AT(dns_negative_ttl_secs), .min = 1, .max = 86400, .number = 300,
        .help = "nor that something does not exist"},
    {.name = "dns-stale", .value = "SECONDS", .kind = OPTION_SECS, .offset = AT(dns_stale_secs),
        .max = 604800, .number = 30,
        .help = "an answer is of use so long after its time, while no server answers"},

    {.group = "Limits of the Docker watcher", .name = "docker-max-containers", .value = "N",
        .kind = OPTION_NUMBER, .offset = AT(docker_max_containers), .min = 1, .max = 100000,
        .number = 4096,
        .help = "containers that are watched"},
    {.name = "docker-inspects", .value = "N", .kind = OPTION_NUMBER, .offset = AT(docker_inspects),
        .min = 1, .max = 64, .number = 4,
        .help = "containers that are looked at at once"},
    {.name = "docker-max-event", .value = "BYTES", .kind = OPTION_BYTES,
        .offset = AT(docker_event_bytes), .min = 4096, .max = MIB(16), .number = MIB(1),
        .help = "one event"},
    {.name = "docker-max-answer", .value = "BYTES", .kind = OPTION_BYTES,
        .offset = AT(docker_answer_bytes), .min = 65536, .max = MIB(64), .number = MIB(16),
        .help = "a list or the details of a container"},
    {.name = "docker-timeout", .value = "TIME", .kind = OPTION_MS,
        .offset = AT(docker_answer_ms), .min = 100, .max = 3600000, .number = 10000,
        .help = "one request to the engine"},
    {.name = "docker-retry", .value = "TIME", .kind = OPTION_MS, .offset = AT(docker_retry_ms),
        .min = 10, .max = 60000, .number = 1000,
        .help = "first wait before connecting again"},
    {.name = "docker-retry-max", .value = "TIME", .kind = OPTION_MS,
        .offset = AT(docker_retry_max_ms), .min = 10, .max = 600000, .number = 5000,
        .help = "longest such wait"},
};
/* clang-format on */
const size_t option_row_count = sizeof option_rows / sizeof *option_rows;
