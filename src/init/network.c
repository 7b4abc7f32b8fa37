#include "init/network.h"

#include "base/cursor.h"
#include "base/log.h"
#include "init/dhcp_client.h"
#include "init/etc.h"
#include "init/firewall.h"
#include "sys/fs.h"
#include "sys/netlink.h"
#include "sys/timer.h"

#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdlib.h>
#include <unistd.h>

#include <linux/rtnetlink.h>

enum { PLACES = 2, PATH_BYTES = 128, LIST_AGAIN_MS = 1000 };

/* One of the places, and the interface that has it. */
struct iface {
	struct network *network;
	struct netlink_link link;   /* index 0: the place is free */
	bool first;                 /* has the default route */
	struct dhcp_client *client; /* NULL: it had an address already */
	struct dhcp_lease lease;    /* what the interface was made to be; prefix 0: nothing,
				     * lease_secs 0: by an earlier process */
};

struct network {
	struct loop *loop;
	struct network_conf conf;
	struct netlink netlink;
	struct netlink_watch watch;
	struct firewall *firewall;
	struct timer again; /* the interfaces could not be listed */
	struct iface places[PLACES];
};

static void list_later(struct network *n, int rc)
{
	log_warn("network", "cannot list the interfaces, trying again", KV_ERR(rc));
	timer_in(&n->again, LIST_AGAIN_MS * NS_PER_MS);
}

static void failed(const char *what, const struct iface *i, int rc)
{
	log_warn("network", what, KV_STR("interface", i->link.name), KV_ERR(rc));
}

/* --- what a lease makes of an interface ---------------------------------------------------------
 */

/* Of the lease's time, what is left: the kernel takes the address away when nobody else does. */
static uint32_t left_secs(const struct iface *i, const struct dhcp_lease *lease)
{
	uint64_t past_secs = (i->network->loop->now_ns - lease->bound_ns) / NS_PER_SEC;

	if (lease->lease_secs == DHCP_INFINITE_SECS)
		return NETLINK_FOREVER;
	return past_secs < lease->lease_secs ? lease->lease_secs - (uint32_t)past_secs : 1;
}

static struct netlink_addr addr_of(const struct iface *i, const struct dhcp_lease *lease)
{
	return (struct netlink_addr){
	    .index = i->link.index,
	    .ip = lease->address,
	    .prefix = lease->prefix,
	    .scope = RT_SCOPE_UNIVERSE,
	    .valid_secs = left_secs(i, lease),
	};
}

static struct netlink_route route_of(const struct iface *i, const struct dhcp_lease *lease)
{
	return (struct netlink_route){
	    .index = i->link.index,
	    .to = ip_v4(0, 0, 0, 0),
	    .src = lease->address,
	    .protocol = RTPROT_DHCP,
	    .scope = RT_SCOPE_UNIVERSE,
	};
}

static bool is_within(const struct dhcp_lease *lease, const struct ip *ip)
{
	for (unsigned bit = 0; bit < lease->prefix; bit++)
		if ((lease->address.b[bit / 8] ^ ip->b[bit / 8]) & (0x80 >> bit % 8))
			return false;
	return true;
}

static void set_route(struct iface *i, const struct netlink_route *route)
{
	char to[IP_TEXT_BYTES];
	int rc = netlink_route_set(&i->network->netlink, route);

	ip_format(&route->to, to);
	if (rc < 0)
		log_warn("network", "cannot set a route", KV_STR("interface", i->link.name),
		    KV_STR("to", to), KV_NUM("prefix", route->prefix), KV_ERR(rc));
}

/* A gateway outside of the interface's own network is told to be on the link first. */
static void set_route_via(
    struct iface *i, const struct dhcp_lease *lease, struct netlink_route *route)
{
	if (ip_is_unspecified(&route->via)) {
		route->via = (struct ip){0};
		route->scope = RT_SCOPE_LINK;
	} else if (!is_within(lease, &route->via)) {
		struct netlink_route gateway = route_of(i, lease);

		gateway.to = route->via;
		gateway.prefix = 32;
		gateway.scope = RT_SCOPE_LINK;
		set_route(i, &gateway);
	}
	set_route(i, route);
}

static void set_routes(struct iface *i, const struct dhcp_lease *lease)
{
	struct netlink_route route = route_of(i, lease);

	for (size_t k = 0; k < lease->n_routes; k++) {
		route = route_of(i, lease);
		route.to = lease->routes[k].to;
		route.prefix = lease->routes[k].prefix;
		route.via = lease->routes[k].via;
		set_route_via(i, lease, &route);
	}
	if (!i->first || !lease->n_routers)
		return;
	route = route_of(i, lease);
	route.via = lease->routers[0];
	set_route_via(i, lease, &route);
}

/* Deleting the address takes the routes with it that name it as their source, as all of ours do. */
static void remove_address(struct iface *i)
{
	struct netlink_addr addr = addr_of(i, &i->lease);
	int rc = i->lease.prefix ? netlink_addr_del(&i->network->netlink, &addr) : 0;

	if (rc < 0)
		failed("cannot remove an address", i, rc);
	i->lease = (struct dhcp_lease){0};
}

static bool is_same_network(const struct dhcp_lease *a, const struct dhcp_lease *b)
{
	return a->prefix == b->prefix && ip_eq(&a->address, &b->address) &&
	    a->n_routers == b->n_routers && a->n_routes == b->n_routes &&
	    memcmp(a->routers, b->routers, sizeof a->routers) == 0 &&
	    memcmp(a->routes, b->routes, sizeof a->routes) == 0;
}

/* Makes the interface what its lease says, once more when it is already. */
static void configure(struct iface *i)
{
	struct netlink *netlink = &i->network->netlink;
	struct netlink_addr addr = addr_of(i, &i->lease);
	int rc = netlink_addr_set(netlink, &addr);

	if (rc < 0)
		failed("cannot set the leased address", i, rc);
	rc = i->lease.mtu ? netlink_link_mtu(netlink, i->link.index, i->lease.mtu) : 0;
	if (rc < 0)
		failed("cannot set the MTU of the lease", i, rc);
	set_routes(i, &i->lease);
}

/* --- what is left for another process --------------------------------------------------------- */

static const char *note_path(const struct iface *i, char path[PATH_BYTES])
{
	text_join(
	    path, PATH_BYTES, "/run/arcbox/lease-", i->first ? "first." : "second.", i->link.name);
	return path;
}

static void write_note(const struct iface *i)
{
	char path[PATH_BYTES], text[IP_TEXT_BYTES];
	int rc;

	ip_format(&i->lease.address, text);
	rc = fs_make_dirs("/run/arcbox", 0755);
	if (rc >= 0)
		rc = fs_ensure_file(note_path(i, path), span_str(text), 0644);
	if (rc < 0)
		failed("cannot note the leased address", i, rc);
}

/* The address that was leased before, or one of family 0. */
static struct ip read_note(const struct iface *i)
{
	char path[PATH_BYTES], text[IP_TEXT_BYTES];
	ssize_t n = fs_read_file(note_path(i, path), text, sizeof text);
	struct ip ip = {0};

	if (n > 0 && ip_parse(span_of(text, (size_t)n), &ip) == E_OK && ip.family == 4)
		return ip;
	return (struct ip){0};
}

static void remove_note(const struct iface *i)
{
	char path[PATH_BYTES];

	unlink(note_path(i, path));
}

/* --- leases -------------------------------------------------------------------------------------
 */

static void take_names(struct iface *i)
{
	const struct network_conf *conf = &i->network->conf;
	int rc = 0;

	if (!i->first)
		return;
	if (!conf->hostname && i->lease.hostname[0])
		rc = etc_set_hostname(i->lease.hostname);
	if (rc < 0)
		failed("cannot take the hostname of the lease", i, rc);
	conf->resolvers(conf->ctx, i->lease.dns, i->lease.n_dns);
}

static void bound(void *ctx, const struct dhcp_lease *lease)
{
	struct iface *i = ctx;

	if (!is_same_network(&i->lease, lease))
		remove_address(i);
	i->lease = *lease;
	configure(i);
	write_note(i);
	take_names(i);
}

static void lost(void *ctx, const struct dhcp_lease *lease)
{
	struct iface *i = ctx;

	(void)lease;
	remove_address(i);
	remove_note(i);
	if (i->first)
		i->network->conf.resolvers(i->network->conf.ctx, NULL, 0);
}

static const struct dhcp_ops dhcp_ops = {.bound = bound, .lost = lost};

static void start_dhcp(struct iface *i)
{
	const struct network_conf *conf = &i->network->conf;
	struct dhcp_conf dhcp = {
	    .ifindex = i->link.index,
	    .ifname = i->link.name,
	    .hostname = conf->hostname,
	    .address = read_note(i),
	    .ops = &dhcp_ops,
	    .ctx = i,
	    .retry_ms = conf->retry_ms,
	    .retry_max_ms = conf->retry_max_ms,
	    .renew_retry_ms = conf->renew_retry_ms,
	    .min_lease_secs = conf->min_lease_secs,
	    .max_lease_secs = conf->max_lease_secs,
	};

	memcpy(dhcp.mac, i->link.mac, sizeof dhcp.mac);
	i->client = dhcp_client_new(i->network->loop, &dhcp);
	if (!i->client)
		failed("no address: no memory for a DHCP client", i, -ENOMEM);
	else if (!i->link.carrier)
		dhcp_client_link(i->client, false);
}

/* --- interfaces ---------------------------------------------------------------------------------
 */

/* What Docker, Kubernetes and the sandboxes make is no way to the host. What software made but
 * looks like hardware, as a container's end of a veth does, is one when it is there from the start.
 */
static bool is_real(const struct netlink_link *link)
{
	static const char *const made[] = {"dummy", "veth", "br-", "docker", "vmtap", "sit"};
	static const char *const kinds[] = {"", "veth", "macvlan", "ipvlan"};
	bool real = false;

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		real = real || strcmp(link->kind, kinds[i]) == 0;
	for (size_t i = 0; i < sizeof made / sizeof *made; i++)
		real = real && strncmp(link->name, made[i], strlen(made[i])) != 0;
	return real && link->type == ARPHRD_ETHER;
}

struct addresses {
	struct ip noted; /* leased by an earlier process */
	bool any;
	uint8_t noted_prefix; /* 0: the noted one is not there */
};

static void see_address(void *ctx, const struct netlink_addr *addr)
{
	struct addresses *found = ctx;

	if (addr->ip.family != 4 || ip_is_link_local(&addr->ip))
		return;
	found->any = true;
	if (ip_eq(&addr->ip, &found->noted))
		found->noted_prefix = addr->prefix;
}

/* Whether the interface is to have an address by DHCP. One that an earlier process leased is kept,
 * or goes when the server does not want it to be kept. */
static bool wants_dhcp(struct iface *i)
{
	struct addresses found = {.noted = read_note(i)};

	netlink_addrs(&i->network->netlink, i->link.index, see_address, &found);
	if (i->network->conf.mode != NETWORK_KEEP || !found.noted_prefix)
		return !found.any;
	i->lease = (struct dhcp_lease){.address = found.noted, .prefix = found.noted_prefix};
	return true;
}

/* The second interface has the guest answer for what it forwards to. */
static void forward_for(struct iface *i)
{
	const struct firewall_rule in = {.in = i->link.name};
	const struct firewall_rule out = {.out = i->link.name, .established = true};
	char path[PATH_BYTES];
	int rc;

	text_join(path, sizeof path, "/proc/sys/net/ipv4/conf/", i->link.name, "/proxy_arp");
	rc = fs_write_value(path, "1");
	if (rc < 0)
		failed("cannot have it answer ARP for others", i, rc);
	firewall_accept(i->network->firewall, &in);
	firewall_accept(i->network->firewall, &out);
}

static void occupy(struct iface *i, const struct netlink_link *link)
{
	int rc;

	i->link = *link;
	rc = netlink_link_up(&i->network->netlink, link->index, true);
	if (rc < 0)
		failed("cannot bring the interface up", i, rc);
	if (!i->first)
		forward_for(i);
	if (wants_dhcp(i))
		start_dhcp(i);
	else
		log_info("network", "the interface has an address already",
		    KV_STR("interface", link->name));
}

static void vacate(struct iface *i)
{
	log_info("network", "the interface is gone", KV_STR("interface", i->link.name));
	dhcp_client_free(i->client, false);
	remove_note(i);
	if (i->first && i->client)
		i->network->conf.resolvers(i->network->conf.ctx, NULL, 0);
	i->client = NULL;
	i->lease = (struct dhcp_lease){0};
	i->link.index = 0;
}

/* Routes go with the link's going down, whoever took it down; the lease may well be good after it.
 */
static void changed(struct iface *i, const struct netlink_link *link)
{
	bool was_up = i->link.carrier;

	i->link = *link;
	if (was_up == link->carrier || !i->client)
		return;
	log_info("network", link->carrier ? "the link is up" : "the link is down",
	    KV_STR("interface", link->name));
	if (link->carrier && i->lease.lease_secs)
		configure(i);
	dhcp_client_link(i->client, link->carrier);
}

static struct iface *place_of(struct network *n, int index)
{
	for (size_t i = 0; i < PLACES; i++)
		if (n->places[i].link.index == index)
			return &n->places[i];
	return NULL;
}

/* A place that is free for it. One that comes late takes none away: the names decide at the start.
 */
static struct iface *place_for(struct network *n, const struct netlink_link *link)
{
	if (!is_real(link))
		return NULL;
	for (size_t i = 0; i < PLACES; i++) {
		struct iface wanted = {.link = *link, .first = n->places[i].first};

		if (n->places[i].link.index == 0 &&
		    (n->conf.mode == NETWORK_WHOLE || read_note(&wanted).family))
			return &n->places[i];
	}
	return NULL;
}

static void link_event(struct netlink_watch *w, const struct netlink_link *link, bool gone)
{
	struct network *n = container_of(w, struct network, watch);
	struct iface *place = place_of(n, link->index);

	if (place && gone) {
		vacate(place);
		return;
	}
	if (place) {
		changed(place, link);
		return;
	}
	place = gone || link->kind[0] ? NULL : place_for(n, link);
	if (place)
		occupy(place, link);
}

/* --- the start ----------------------------------------------------------------------------------
 */

/* The links that could have a place, by name. */
struct candidates {
	struct network *network;
	struct netlink_link best[PLACES];
	size_t n;
};

static void consider(void *ctx, const struct netlink_link *link)
{
	struct candidates *c = ctx;
	struct iface *place;
	size_t at = c->n;

	if ((link->flags & IFF_LOOPBACK) && c->network->conf.mode == NETWORK_WHOLE)
		netlink_link_up(&c->network->netlink, link->index, true);
	place = place_for(c->network, link);
	if (place && c->network->conf.mode == NETWORK_KEEP)
		occupy(place, link);
	if (!place || c->network->conf.mode == NETWORK_KEEP)
		return;
	while (at > 0 && strcmp(link->name, c->best[at - 1].name) < 0)
		at--;
	if (at == PLACES)
		return;
	if (c->n < PLACES)
		c->n++;
	memmove(&c->best[at + 1], &c->best[at], (c->n - 1 - at) * sizeof c->best[0]);
	c->best[at] = *link;
}

static void occupy_places(struct network *n)
{
	struct candidates c = {.network = n};
	int rc = netlink_links(&n->netlink, consider, &c);

	if (rc < 0)
		list_later(n, rc);
	for (size_t i = 0; i < c.n; i++)
		occupy(&n->places[i], &c.best[i]);
}

/* Some events were lost: all is looked at again. */
struct look {
	struct network *network;
	bool seen[PLACES];
};

static void look_at(void *ctx, const struct netlink_link *link)
{
	struct look *look = ctx;
	struct iface *place = place_of(look->network, link->index);

	if (place)
		look->seen[place - look->network->places] = true;
	link_event(&look->network->watch, link, false);
	if (place && place->lease.lease_secs && place->link.carrier)
		configure(place); /* its routes are gone if it was down for a moment */
}

static void look_again(struct network *n)
{
	struct look look = {.network = n};
	int rc = netlink_links(&n->netlink, look_at, &look);

	if (rc < 0)
		list_later(n, rc);
	for (size_t i = 0; rc == 0 && i < PLACES; i++)
		if (n->places[i].link.index && !look.seen[i])
			vacate(&n->places[i]);
}

static void events_lost(struct netlink_watch *w)
{
	look_again(container_of(w, struct network, watch));
}

static void list_again(struct timer *t)
{
	look_again(container_of(t, struct network, again));
}

static bool has_any(const struct network *n)
{
	for (size_t i = 0; i < PLACES; i++)
		if (n->places[i].link.index)
			return true;
	return false;
}

static void forward_packets(struct network *n)
{
	const struct firewall_rule from = {.source = n->conf.sandbox_subnet};
	const struct firewall_rule to = {.destination = n->conf.sandbox_subnet};
	int rc = fs_write_value("/proc/sys/net/ipv4/ip_forward", "1");

	if (rc < 0)
		log_warn("network", "cannot have the guest forward packets", KV_ERR(rc));
	firewall_accept(n->firewall, &from);
	firewall_accept(n->firewall, &to);
}

struct network *network_new(struct loop *l, struct reaper *r, const struct network_conf *conf)
{
	struct network *n = calloc(1, sizeof *n);
	int rc;

	if (!n)
		return NULL;
	*n = (struct network){.loop = l,
	    .conf = *conf,
	    .watch = {.fn = link_event, .lost = events_lost},
	    .firewall = firewall_new(l, r, conf->iptables, conf->iptables_ms)};
	timer_init(&n->again, l, list_again);
	for (size_t i = 0; i < PLACES; i++)
		n->places[i] = (struct iface){.network = n, .first = i == 0};
	rc = netlink_open(&n->netlink);
	if (rc == 0)
		rc = netlink_watch_start(&n->watch, l);
	if (rc < 0)
		log_error("network", "cannot ask the kernel about interfaces", KV_ERR(rc));
	if (conf->mode == NETWORK_WHOLE)
		forward_packets(n);
	occupy_places(n);
	if (conf->mode == NETWORK_WHOLE || has_any(n))
		return n;
	network_free(n);
	return NULL;
}

void network_free(struct network *n)
{
	if (!n)
		return;
	for (size_t i = 0; i < PLACES; i++)
		dhcp_client_free(n->places[i].client, false);
	timer_at(&n->again, 0);
	netlink_watch_stop(&n->watch);
	netlink_close(&n->netlink);
	firewall_free(n->firewall);
	loop_bury(n->loop);
	free(n);
}

bool network_is_settled(const struct network *n)
{
	for (size_t i = 0; i < PLACES; i++)
		if (n->places[i].client && !dhcp_client_lease(n->places[i].client))
			return false;
	return firewall_is_idle(n->firewall);
}
