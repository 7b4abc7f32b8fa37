#include "agent/names.h"

#include "base/log.h"
#include "codec/dhcp.h"

void names_load_hosts(struct agent *a)
{
	if (a->options.dns_hosts && a->registry)
		hosts_file_load(&a->hosts);
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
	hosts_file_init(&a->hosts, &a->reaper, a->registry, o->dns_hosts);
	names_load_hosts(a);
}

/* Addresses for resolv.conf: the agent's own DNS, or without it those that it would ask. */
size_t names_list_servers(
    const struct options *o, char texts[][IP_TEXT_BYTES], const char *list[OPTIONS_LIST])
{
	size_t n = 0;

	if (!option_is_off(o->dns)) {
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

void names_take_resolvers(void *ctx, const struct ip *servers, size_t n)
{
	set_forwarders(ctx, servers, n);
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

	if (!a->registry || option_is_off(o->dns) ||
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

	if (!a->registry || option_is_off(o->docker_socket))
		return;
	a->watch = watch_new(&a->loop, a->registry, &conf);
	if (!a->watch)
		log_error(
		    "main", "cannot watch the Docker engine", KV_STR("socket", o->docker_socket));
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

struct sandbox_names names_of_sandboxes(struct agent *a)
{
	return (struct sandbox_names){.set = name_sandbox, .drop = unname_sandbox, .ctx = a};
}

void names_start(struct agent *a)
{
	start_registry(a);
	start_dns(a);
	start_watch(a);
}
