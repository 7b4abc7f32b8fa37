#include "options.h"

#include "base/cursor.h"
#include "base/hostname.h"
#include "base/ip.h"
#include "base/parse.h"
#include "codec/dns.h"
#include "sys/addr.h"
#include "sys/fs.h"

enum { CMDLINE_BYTES = 4096, HELP_COLUMN = 34 };

#define COUNT(array) (sizeof(array) / sizeof *(array))

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
        .help = "forwarded questions under way; the oldest gives way"},
    {.name = "dns-max-askers", .value = "N", .kind = OPTION_NUMBER, .offset = AT(dns_max_askers),
        .min = 1, .max = 65536, .number = 4096,
        .help = "clients that wait for those"},
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
const size_t option_row_count = COUNT(option_rows);

/* --- values --------------------------------------------------------------------------------- */

static void *member(struct options *o, const struct option_row *row)
{
	return (char *)o + row->offset;
}

void options_default(struct options *o)
{
	*o = (struct options){0};
	for (size_t i = 0; i < option_row_count; i++) {
		const struct option_row *row = &option_rows[i];
		struct option_list *list = member(o, row);

		if (row->kind == OPTION_TEXT)
			*(const char **)member(o, row) = row->text[0];
		else if (row->kind == OPTION_LIST)
			for (; list->n < COUNT(row->text) && row->text[list->n]; list->n++)
				list->values[list->n] = row->text[list->n];
		else if (row->kind != OPTION_SWITCH)
			*(uint64_t *)member(o, row) = row->number;
	}
}

static enum err list_add(struct option_list *list, const char *value)
{
	if (!list->given)
		*list = (struct option_list){.given = true};
	if (list->n == OPTIONS_LIST)
		return E_LIMIT;
	list->values[list->n++] = value;
	return E_OK;
}

static enum err set_number(struct options *o, const struct option_row *row, struct span text)
{
	uint64_t *out = member(o, row);

	if (row->kind == OPTION_BYTES)
		return parse_size(text, row->min, row->max, out);
	if (row->kind == OPTION_MS)
		return parse_duration_ms(text, row->min, row->max, out);
	return parse_u64(text, row->min, row->max, out);
}

static enum err set(struct options *o, const struct option_row *row, const char *value)
{
	enum err err = row->check ? row->check(span_str(value)) : E_OK;

	if (err != E_OK)
		return err;
	switch (row->kind) {
	case OPTION_SWITCH: return E_MALFORMED;
	case OPTION_TEXT: *(const char **)member(o, row) = value; return E_OK;
	case OPTION_LIST: return list_add(member(o, row), value);
	case OPTION_NUMBER:
	case OPTION_BYTES:
	case OPTION_MS:
	case OPTION_SECS: return set_number(o, row, span_str(value));
	}
	return E_UNKNOWN;
}

static bool same_name(struct span name, const char *row_name, bool kernel)
{
	if (name.n != strlen(row_name))
		return false;
	for (size_t i = 0; i < name.n; i++)
		if (name.p[i] != (uint8_t)(kernel && row_name[i] == '-' ? '_' : row_name[i]))
			return false;
	return true;
}

/* The data device has an older key on the kernel command line, too. */
static const struct option_row *row_of(struct span name, bool kernel)
{
	if (kernel && span_eq_str(name, "docker_data_device"))
		name = span_str("data_device");
	for (size_t i = 0; i < option_row_count; i++)
		if (same_name(name, option_rows[i].name, kernel))
			return &option_rows[i];
	return NULL;
}

static bool wrong(struct option_problem *p, const char *name, const char *value,
    const struct option_row *row, enum err err)
{
	*p = (struct option_problem){name, value, row, err};
	return false;
}

/* What is given next replaces what a list has, instead of adding to it. */
static void begin_lists(struct options *o)
{
	for (size_t i = 0; i < option_row_count; i++)
		if (option_rows[i].kind == OPTION_LIST)
			((struct option_list *)member(o, &option_rows[i]))->given = false;
}

/* The one word that is no option. */
static bool set_command(struct options *o, struct span word)
{
	static const char *const names[] = {[COMMAND_INIT] = "init", [COMMAND_SERVE] = "serve"};

	for (size_t i = COMMAND_INIT; i < COUNT(names) && o->command == COMMAND_ALL; i++)
		if (span_eq_str(word, names[i]))
			o->command = (enum options_command)i;
	return o->command != COMMAND_ALL && span_eq_str(word, names[o->command]);
}

bool options_parse(struct options *o, int argc, char *const *argv, struct option_problem *p)
{
	begin_lists(o);
	for (int i = 1; i < argc; i++) {
		const char *arg = argv[i];
		struct span name = span_str(arg);
		const char *value = strchr(arg, '=');
		const struct option_row *row;
		enum err err;

		if (set_command(o, name))
			continue;
		if (!span_starts(name, span_str("--")))
			return wrong(p, arg, NULL, NULL, E_UNKNOWN);
		name = span_from(value ? span_first(name, (size_t)(value - arg)) : name, 2);
		row = row_of(name, false);
		if (!row)
			return wrong(p, arg, NULL, NULL, E_UNKNOWN);
		if (row->kind == OPTION_SWITCH && !value) {
			*(bool *)member(o, row) = true;
			continue;
		}
		value = value ? value + 1 : argv[++i];
		if (!value)
			return wrong(p, arg, NULL, row, E_MORE);
		err = set(o, row, value);
		if (err != E_OK)
			return wrong(p, arg, value, row, err);
	}
	return true;
}

static void kernel_word(struct options *o, char *word, void (*tell)(const struct option_problem *p))
{
	char *value = strchr(word, '=');
	struct span name = span_from(span_str(word), strlen("arcbox."));
	const struct option_row *row;
	struct option_problem problem;
	enum err err = E_OK;

	if (value)
		name = span_from(span_of(word, (size_t)(value - word)), strlen("arcbox."));
	row = row_of(name, true);
	if (!row)
		return; /* other keys are other parts' business */
	if (row->kind == OPTION_SWITCH && (!value || strcmp(value, "=1") == 0))
		*(bool *)member(o, row) = true;
	else
		err = value ? set(o, row, value + 1) : E_MORE;
	if (err == E_OK)
		return;
	wrong(&problem, word, value ? value + 1 : NULL, row, err);
	tell(&problem);
}

void options_kernel(
    struct options *o, const char *cmdline, void (*tell)(const struct option_problem *p))
{
	static char words[CMDLINE_BYTES]; /* options view it */
	char *save = NULL;

	if (!span_to_cstr(span_first(span_str(cmdline), sizeof words - 1), words, sizeof words))
		return;
	for (char *word = strtok_r(words, " \t\n", &save); word;
	     word = strtok_r(NULL, " \t\n", &save))
		if (span_starts(span_str(word), span_str("arcbox.")))
			kernel_word(o, word, tell);
}

static bool is_port(struct span text, uint64_t *port)
{
	return parse_u64(text, 1, UINT32_MAX, port) == E_OK;
}

/* The value of the last `key` among the words of a kernel command line. */
static struct span kernel_value(struct span words, struct span key)
{
	struct span value = span_of(NULL, 0);

	while (words.n) {
		struct span word = span_split(&words, ' ');

		if (span_starts(word, key))
			value = span_from(word, key.n);
	}
	return value;
}

void options_docker_port(struct options *o, const char *variable, const char *cmdline)
{
	static const struct span key = SPAN_LIT("arcbox.guest_docker_vsock_port=");
	static char proxy[64]; /* the option views it */
	struct span words = span_str(cmdline);
	uint64_t port;
	struct wr w;

	if (words.n && words.p[words.n - 1] == '\n')
		words.n--;
	if (!(variable && is_port(span_str(variable), &port)) &&
	    !is_port(kernel_value(words, key), &port))
		return;
	w = wr_of(proxy, sizeof proxy);
	wr_str(&w, "vsock:");
	wr_dec(&w, port);
	wr_str(&w, "=unix:/var/run/docker.sock");
	wr_nul(&w);
	o->proxy.values[0] = proxy;
}

/* --- texts ---------------------------------------------------------------------------------- */

static const char *number_text(enum option_kind kind, uint64_t v, char *buf, size_t cap)
{
	struct wr w = wr_of(buf, cap);
	static const struct {
		enum option_kind kind;
		uint64_t unit;
		const char *suffix;
	} units[] = {
	    {OPTION_BYTES, MIB(1), "M"},
	    {OPTION_BYTES, 1024, "K"},
	    {OPTION_MS, 60000, "m"},
	    {OPTION_MS, 1000, "s"},
	    {OPTION_MS, 1, "ms"},
	};

	for (size_t i = 0; i < COUNT(units); i++) {
		if (units[i].kind != kind || v == 0 || v % units[i].unit)
			continue;
		wr_dec(&w, v / units[i].unit);
		wr_str(&w, units[i].suffix);
		wr_nul(&w);
		return buf;
	}
	wr_dec(&w, v);
	wr_str(&w, kind == OPTION_MS ? "s" : "");
	wr_nul(&w);
	return buf;
}

const char *option_default_text(const struct option_row *row, char *buf, size_t cap)
{
	struct wr w = wr_of(buf, cap);

	if (row->kind != OPTION_SWITCH && row->kind != OPTION_TEXT && row->kind != OPTION_LIST)
		return number_text(row->kind, row->number, buf, cap);
	for (size_t i = 0; i < COUNT(row->text) && row->text[i]; i++) {
		wr_str(&w, i ? ", " : "");
		wr_str(&w, row->text[i]);
	}
	wr_nul(&w);
	return buf;
}

const char *option_problem_text(const struct option_problem *p, char *buf, size_t cap)
{
	char low[32], high[32];

	if (!p->row)
		text_join(buf, cap, "unknown option '", p->name, "'; --help lists them");
	else if (!p->value)
		text_join(buf, cap, "option --", p->row->name, " needs a value: ", p->row->help);
	else if (p->row->kind == OPTION_SWITCH)
		text_join(buf, cap, "option --", p->row->name, " takes no value");
	else if (p->row->kind == OPTION_TEXT || p->row->kind == OPTION_LIST)
		text_join(buf, cap, "option --", p->row->name, ": '", p->value, "' is ",
		    err_text((int)p->err), " (wanted ", p->row->value, ": ", p->row->help, ")");
	else
		text_join(buf, cap, "option --", p->row->name, ": '", p->value, "' is ",
		    err_text((int)p->err), " (wanted ",
		    number_text(p->row->kind, p->row->min, low, sizeof low), " to ",
		    number_text(p->row->kind, p->row->max, high, sizeof high), ")");
	return buf;
}

static void wr_blanks(struct wr *w, size_t n)
{
	for (; n > 0; n--)
		wr_u8(w, ' ');
}

/* The default follows the help, or stands below it when the line would be too long. */
static void wr_default(struct wr *w, const struct option_row *row)
{
	char buf[160];
	const char *text = option_default_text(row, buf, sizeof buf);
	bool below = strlen(row->help) + strlen(text) >= 60;

	if (!*text)
		return;
	wr_str(w, below ? "\n" : "");
	wr_blanks(w, below ? HELP_COLUMN : 1);
	wr_str(w, "(");
	wr_str(w, text);
	wr_str(w, ")");
}

static void help_row(const struct option_row *row, struct wr *w)
{
	char left[64];
	size_t n;

	text_join(left, sizeof left, "--", row->name, row->value ? " " : "",
	    row->value ? row->value : "");
	n = strlen(left);
	if (row->group) {
		wr_str(w, "\n");
		wr_str(w, row->group);
		wr_str(w, ":\n");
	}
	wr_blanks(w, 2);
	wr_str(w, left);
	wr_blanks(w, n < HELP_COLUMN - 2 ? HELP_COLUMN - 2 - n : 0);
	wr_str(w, row->help);
	wr_default(w, row);
	wr_str(w, "\n");
}

void options_help(int fd)
{
	fs_write_all(fd,
	    span_str(
		"Usage: arcbox-agent [init | serve] [OPTION]...\n"
		"The guest agent of a Linux virtual machine: RPC for the host, DNS, Docker and "
		"Kubernetes relays.\n\n"
		"  init   bring the system up, and exit: for a guest with an init of its own\n"
		"  serve  serve the host and the guest\n\n"
		"Without a command, PID 1 does both, and any other process serves.\n"));
	for (size_t i = 0; i < option_row_count; i++) {
		char lines[512];
		struct wr w = wr_of(lines, sizeof lines);

		help_row(&option_rows[i], &w);
		fs_write_all(fd, wr_span(&w));
	}
}
