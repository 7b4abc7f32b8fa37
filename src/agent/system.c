#include "agent/system.h"

#include "agent/logs.h"
#include "agent/names.h"
#include "base/cursor.h"
#include "codec/dhcp.h"
#include "init/init.h"

/* Whether later steps find what they need. */
bool system_start(struct agent *a)
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
		.n_nameservers = names_list_servers(o, texts, nameservers),
		.domain = o->dns_domain,
		.docker_dns = o->docker_dns.values,
		.n_docker_dns = o->docker_dns.n},
	};

	usable = init_rest(&conf);
	logs_open_console(a); /* its module may have been loaded */
	return usable;
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

void system_start_network(struct agent *a)
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
	    .resolvers = names_take_resolvers,
	    .ctx = a,
	};

	a->network = network_new(&a->loop, &a->reaper, &conf);
}

/* Either file may lie on one of them. */
static void shares_mounted(struct shares *s)
{
	struct agent *a = container_of(s, struct agent, shares);

	logs_open_file(a);
	names_load_hosts(a);
}

void system_start_shares(struct agent *a)
{
	shares_mount(&a->shares, &a->reaper, a->brings_up, a->options.share_ms, shares_mounted);
}

bool system_is_settled(const struct agent *a)
{
	return a->shares.left == 0 && (!a->network || network_is_settled(a->network));
}
