#include "init/network.h"

#include "base/log.h"
#include "cell.h"
#include "fault.h"
#include "init/dhcp_client.h"
#include "init/firewall.h"
#include "sys/netlink.h"
#include "sys/timer.h"

#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdlib.h>
#include <string.h>

#include <linux/rtnetlink.h>

/* The kernel's network is real, a namespace of its own; the DHCP client and the firewall are the
 * test's: their functions are defined here. */

static struct loop loop;
static struct reaper reaper;
static struct network *network;
static struct netlink netlink;
static unsigned fds;

/* --- the DHCP client that does as it is told ----------------------------------------------------
 */

struct dhcp_client {
	struct dhcp_conf conf;
	char ifname[NETLINK_NAME_BYTES];
	struct dhcp_lease lease;
	bool leased, link_down;
};

static struct {
	struct dhcp_client *last[4]; /* in the order of their start */
	unsigned n, freed;
	bool no_memory;
} dhcp;

struct dhcp_client *dhcp_client_new(struct loop *l, const struct dhcp_conf *conf)
{
	struct dhcp_client *c = dhcp.no_memory ? NULL : calloc(1, sizeof *c);

	ck_assert_ptr_eq(l, &loop);
	if (!c)
		return NULL;
	c->conf = *conf;
	strcpy(c->ifname, conf->ifname);
	dhcp.last[dhcp.n++] = c;
	return c;
}

void dhcp_client_free(struct dhcp_client *c, bool release)
{
	ck_assert(!release);
	dhcp.freed += c != NULL;
	free(c);
}

void dhcp_client_link(struct dhcp_client *c, bool up)
{
	c->link_down = !up;
}

const struct dhcp_lease *dhcp_client_lease(const struct dhcp_client *c)
{
	return c->leased ? &c->lease : NULL;
}

static void lease(struct dhcp_client *c, const struct dhcp_lease *what)
{
	c->lease = *what;
	c->lease.bound_ns = loop.now_ns;
	c->leased = true;
	c->conf.ops->bound(c->conf.ctx, &c->lease);
}

static void lose(struct dhcp_client *c)
{
	c->leased = false;
	c->conf.ops->lost(c->conf.ctx, &c->lease);
}

static const struct dhcp_lease plain = {
    .address = {4, {10, 9, 0, 15}},
    .prefix = 24,
    .server = {4, {10, 9, 0, 2}},
    .routers = {{4, {10, 9, 0, 2}}},
    .n_routers = 1,
    .dns = {{4, {10, 9, 0, 3}}},
    .n_dns = 1,
    .mtu = 1400,
    .hostname = "leased",
    .lease_secs = 3600,
};

/* --- the firewall -------------------------------------------------------------------------------
 */

static char rules[512];

struct firewall *firewall_new(
    struct loop *l, struct reaper *r, const char *iptables, uint64_t timeout_ms)
{
	ck_assert_uint_eq(timeout_ms, 10000);
	ck_assert_ptr_eq(l, &loop);
	ck_assert_ptr_eq(r, &reaper);
	ck_assert_str_eq(iptables, "/sbin/iptables");
	return NULL;
}

void firewall_free(struct firewall *fw)
{
	ck_assert_ptr_null(fw);
}

void firewall_accept(struct firewall *fw, const struct firewall_rule *rule)
{
	size_t n = strlen(rules);

	ck_assert_ptr_null(fw);
	snprintf(rules + n, sizeof rules - n, "%s>%s>%s>%s%s;", rule->in ? rule->in : "",
	    rule->out ? rule->out : "", rule->source ? rule->source : "",
	    rule->destination ? rule->destination : "", rule->established ? "!" : "");
}

bool firewall_is_idle(const struct firewall *fw)
{
	return !fw;
}

/* --- the kernel's side --------------------------------------------------------------------------
 */

static char resolvers[256];

static void take_resolvers(void *ctx, const struct ip *servers, size_t n)
{
	char text[IP_TEXT_BYTES];

	ck_assert_ptr_eq(ctx, resolvers);
	resolvers[0] = '\0';
	for (size_t i = 0; i < n; i++) {
		ip_format(&servers[i], text);
		strcat(strcat(resolvers, text), ";");
	}
}

static const struct network_conf conf = {
    .iptables = "/sbin/iptables",
    .iptables_ms = 10000,
    .sandbox_subnet = "172.20.0.0/16",
    .resolvers = take_resolvers,
    .ctx = resolvers,
};

static void shell(const char *command)
{
	ck_assert_msg(system(command) == 0, "%s", command);
}

/* Nothing but the network, the hostname, /etc and /run are its own: the test needs ip(8). */
static bool setup(const char *links)
{
	struct span bad;

	if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS) < 0) {
		skip_test("namespaces need root");
		return false;
	}
	ck_assert_int_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	ck_assert_int_eq(mount("tmpfs", "/run", "tmpfs", 0, NULL), 0);
	ck_assert_int_eq(mount("tmpfs", "/etc", "tmpfs", 0, NULL), 0);
	ck_assert_int_eq(log_filter(span_str("off"), &bad), E_OK);
	shell(links);
	fds = fault_fds();
	ck_assert_int_eq(loop_init(&loop), 0);
	reaper_init(&reaper, &loop);
	ck_assert_int_eq(netlink_open(&netlink), 0);
	return true;
}

static void start(const struct network_conf *with)
{
	network = network_new(&loop, &reaper, with);
}

static void turn(void)
{
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(loop_turn(&loop, 20), 0);
}

static void teardown(void)
{
	network_free(network);
	netlink_close(&netlink);
	loop_done(&loop);
	ck_assert_uint_eq(fault_fds(), fds);
	ck_assert_uint_eq(dhcp.freed, dhcp.n);
}

struct listing {
	char text[1024];
	int index;
};

static void list_addr(void *ctx, const struct netlink_addr *a)
{
	struct listing *l = ctx;
	char text[IP_TEXT_BYTES];
	size_t n = strlen(l->text);

	if (a->ip.family != 4)
		return;
	ip_format(&a->ip, text);
	snprintf(l->text + n, sizeof l->text - n, "%s/%u;", text, a->prefix);
}

static const char *addresses(const char *name)
{
	static struct listing l;

	l = (struct listing){.index = (int)if_nametoindex(name)};
	ck_assert_int_gt(l.index, 0);
	ck_assert_int_eq(netlink_addrs(&netlink, l.index, list_addr, &l), 0);
	return l.text;
}

static void take_valid_secs(void *ctx, const struct netlink_addr *a)
{
	if (a->ip.family == 4)
		*(uint32_t *)ctx = a->valid_secs;
}

/* Of the interface's IPv4 address. */
static uint32_t valid_secs(const char *name)
{
	uint32_t secs = 0;

	ck_assert_int_eq(
	    netlink_addrs(&netlink, (int)if_nametoindex(name), take_valid_secs, &secs), 0);
	return secs;
}

static void list_route(void *ctx, const struct netlink_route *r)
{
	struct listing *l = ctx;
	char to[IP_TEXT_BYTES], via[IP_TEXT_BYTES] = "link";
	size_t n = strlen(l->text);

	if (r->to.family != 4 || r->index != l->index || r->protocol != RTPROT_DHCP)
		return;
	ip_format(&r->to, to);
	if (r->via.family)
		ip_format(&r->via, via);
	snprintf(l->text + n, sizeof l->text - n, "%s/%u via %s;", to, r->prefix, via);
}

/* Those that came with a lease. */
static const char *routes(const char *name)
{
	static struct listing l;

	l = (struct listing){.index = (int)if_nametoindex(name)};
	ck_assert_int_eq(netlink_routes(&netlink, list_route, &l), 0);
	return l.text;
}

static const char *note(const char *name)
{
	char path[64];

	snprintf(path, sizeof path, "/run/arcbox/lease-%s", name);
	return access(path, F_OK) == 0 ? cell_read(path) : "";
}

#define TWO_LINKS                                                                                  \
	"ip link add eth1 type veth peer name veth1 && ip link add eth0 type veth peer name "      \
	"veth0 && ip link set veth0 up && ip link set veth1 up"
#define ONE_LINK "ip link add eth0 type veth peer name veth0 && ip link set veth0 up"

/* --- tests --------------------------------------------------------------------------------------
 */

START_TEST(two_interfaces_by_name)
{
	if (!setup(TWO_LINKS " && ip link add dummy0 type veth peer name sit1 && "
			     "ip link add docker0 type veth peer name br-1"))
		return;
	start(&conf);
	ck_assert_uint_eq(dhcp.n, 2);
	ck_assert_str_eq(dhcp.last[0]->ifname, "eth0");
	ck_assert_str_eq(dhcp.last[1]->ifname, "eth1");
	ck_assert_str_eq(rules, ">>172.20.0.0/16>;>>>172.20.0.0/16;eth1>>>;>eth1>>!;");
	ck_assert_str_eq(cell_read("/proc/sys/net/ipv4/ip_forward"), "1\n");
	ck_assert_str_eq(cell_read("/proc/sys/net/ipv4/conf/eth1/proxy_arp"), "1\n");
	ck_assert_str_eq(cell_read("/proc/sys/net/ipv4/conf/eth0/proxy_arp"), "0\n");
	ck_assert_str_eq(addresses("lo"), "127.0.0.1/8;");
	ck_assert(!network_is_settled(network));
	lease(dhcp.last[0], &plain);
	ck_assert(!network_is_settled(network));
	lease(dhcp.last[1], &plain);
	ck_assert(network_is_settled(network));
	teardown();
}
END_TEST

START_TEST(a_lease_makes_the_first_interface)
{
	char name[65];

	if (!setup(TWO_LINKS))
		return;
	start(&conf);
	turn();
	lease(dhcp.last[0], &plain);
	ck_assert_str_eq(addresses("eth0"), "10.9.0.15/24;");
	ck_assert_str_eq(routes("eth0"), "0.0.0.0/0 via 10.9.0.2;");
	ck_assert_str_eq(resolvers, "10.9.0.3;");
	ck_assert_str_eq(note("first.eth0"), "10.9.0.15");
	ck_assert_int_eq(gethostname(name, sizeof name), 0);
	ck_assert_str_eq(name, "leased");
	shell("ip link show eth0 | grep -q 'mtu 1400 '");
	lease(dhcp.last[0], &plain); /* renewed */
	ck_assert_str_eq(addresses("eth0"), "10.9.0.15/24;");
	lose(dhcp.last[0]);
	ck_assert_str_eq(addresses("eth0"), "");
	ck_assert_str_eq(routes("eth0"), "");
	ck_assert_str_eq(resolvers, "");
	ck_assert_str_eq(note("first.eth0"), "");
	teardown();
}
END_TEST

START_TEST(the_second_interface_has_no_default_route)
{
	struct dhcp_lease with_route = plain;

	if (!setup(TWO_LINKS))
		return;
	with_route.routes[0] = (struct dhcp_route){ip_v4(192, 168, 0, 0), 16, ip_v4(10, 9, 0, 1)};
	with_route.n_routes = 1;
	strcpy(resolvers, "as before");
	start(&conf);
	turn();
	lease(dhcp.last[1], &with_route);
	ck_assert_str_eq(routes("eth1"), "192.168.0.0/16 via 10.9.0.1;");
	ck_assert_str_eq(resolvers, "as before");
	ck_assert_str_eq(note("second.eth1"), "10.9.0.15");
	teardown();
}
END_TEST

START_TEST(another_lease_replaces_the_one_before)
{
	struct dhcp_lease other = plain;

	if (!setup(ONE_LINK))
		return;
	other.address = ip_v4(10, 9, 1, 15);
	other.routers[0] = ip_v4(10, 9, 1, 1);
	start(&conf);
	turn();
	lease(dhcp.last[0], &plain);
	lease(dhcp.last[0], &other);
	ck_assert_str_eq(addresses("eth0"), "10.9.1.15/24;");
	ck_assert_str_eq(routes("eth0"), "0.0.0.0/0 via 10.9.1.1;");
	other.routers[0] = ip_v4(10, 9, 1, 2); /* the same address, another way */
	lease(dhcp.last[0], &other);
	ck_assert_str_eq(routes("eth0"), "0.0.0.0/0 via 10.9.1.2;");
	teardown();
}
END_TEST

START_TEST(gateways_may_be_outside)
{
	struct dhcp_lease alone = plain;

	if (!setup(ONE_LINK))
		return;
	alone.prefix = 32;
	alone.routes[0] = (struct dhcp_route){ip_v4(192, 168, 0, 0), 16, ip_v4(0, 0, 0, 0)};
	alone.n_routes = 1;
	start(&conf);
	turn();
	lease(dhcp.last[0], &alone);
	ck_assert_str_eq(
	    routes("eth0"), "0.0.0.0/0 via 10.9.0.2;10.9.0.2/32 via link;192.168.0.0/16 via link;");
	teardown();
}
END_TEST

START_TEST(what_has_an_address_is_left_alone)
{
	if (!setup(TWO_LINKS " && ip addr add 10.1.1.1/24 dev eth0"))
		return;
	start(&conf);
	ck_assert_uint_eq(dhcp.n, 1);
	ck_assert_str_eq(dhcp.last[0]->ifname, "eth1");
	ck_assert_str_eq(addresses("eth0"), "10.1.1.1/24;");
	lease(dhcp.last[0], &plain);
	ck_assert(network_is_settled(network));
	teardown();
}
END_TEST

START_TEST(links_go_down_and_up)
{
	if (!setup(ONE_LINK))
		return;
	start(&conf);
	turn();
	ck_assert(!dhcp.last[0]->link_down);
	lease(dhcp.last[0], &plain);
	shell("ip link set eth0 down");
	turn();
	ck_assert(dhcp.last[0]->link_down);
	ck_assert_str_eq(routes("eth0"), ""); /* the kernel took it */
	shell("ip link set eth0 up");
	turn();
	ck_assert(!dhcp.last[0]->link_down);
	ck_assert_str_eq(routes("eth0"), "0.0.0.0/0 via 10.9.0.2;");
	teardown();
}
END_TEST

START_TEST(interfaces_come_and_go)
{
	if (!setup(ONE_LINK))
		return;
	start(&conf);
	turn();
	lease(dhcp.last[0], &plain);
	shell("ip link del eth0");
	turn();
	ck_assert_uint_eq(dhcp.freed, 1);
	ck_assert_str_eq(resolvers, "");
	ck_assert_str_eq(note("first.eth0"), "");
	/* What is made later by software, as Docker and Kubernetes do, is no way to the host. */
	shell(ONE_LINK);
	shell("ip link add cni0 type veth peer name cni1");
	turn();
	ck_assert_uint_eq(dhcp.n, 1);
	teardown();
}
END_TEST

START_TEST(events_that_were_lost_are_looked_up)
{
	if (!setup(ONE_LINK))
		return;
	start(&conf);
	turn();
	lease(dhcp.last[0], &plain);
	shell("ip link del eth0");
	fault_arm("recvmsg", 1, ENOBUFS, false);
	turn();
	ck_assert(fault_disarm());
	ck_assert_uint_eq(dhcp.freed, 1);
	teardown();
}
END_TEST

/* What is only kept so far has no time of its own that could be told to the kernel. */
START_TEST(a_kept_address_outlives_lost_events)
{
	struct network_conf keep = conf;
	struct netlink_addr forever = {
	    .ip = plain.address, .prefix = plain.prefix, .valid_secs = NETLINK_FOREVER};

	keep.mode = NETWORK_KEEP;
	if (!setup(ONE_LINK " && ip link set eth0 up"))
		return;
	forever.index = (int)if_nametoindex("eth0");
	ck_assert_int_eq(netlink_addr_set(&netlink, &forever), 0);
	shell("mkdir /run/arcbox && printf 10.9.0.15 >/run/arcbox/lease-first.eth0");
	start(&keep);
	ck_assert_uint_eq(dhcp.n, 1);
	shell("ip link add cni0 type veth peer name cni1"); /* an event */
	fault_arm("recvmsg", 1, ENOBUFS, false);
	turn();
	ck_assert(fault_disarm());
	ck_assert_uint_eq(valid_secs("eth0"), NETLINK_FOREVER);
	teardown();
}
END_TEST

START_TEST(a_lease_is_kept_for_the_next_process)
{
	struct network_conf keep = conf;

	keep.mode = NETWORK_KEEP;
	if (!setup(TWO_LINKS))
		return;
	start(&keep);
	ck_assert_ptr_null(network); /* nothing to keep */
	start(&conf);
	turn();
	lease(dhcp.last[0], &plain);
	network_free(network);
	ck_assert_str_eq(addresses("eth0"), "10.9.0.15/24;");
	start(&keep);
	ck_assert_uint_eq(dhcp.n, 3); /* two, and then one */
	ck_assert_str_eq(dhcp.last[2]->ifname, "eth0");
	ck_assert(ip_eq(&dhcp.last[2]->conf.address, &plain.address));
	ck_assert_str_eq(addresses("eth0"), "10.9.0.15/24;");
	lease(dhcp.last[2], &plain);
	ck_assert_str_eq(routes("eth0"), "0.0.0.0/0 via 10.9.0.2;");
	teardown();
}
END_TEST

START_TEST(a_lease_that_is_refused_to_the_next_process_goes)
{
	struct network_conf keep = conf;
	struct dhcp_lease other = plain;

	keep.mode = NETWORK_KEEP;
	other.address = ip_v4(10, 9, 0, 16);
	if (!setup(TWO_LINKS))
		return;
	start(&conf);
	turn();
	lease(dhcp.last[1], &plain);
	network_free(network);
	start(&keep); /* the second interface alone has one */
	ck_assert_uint_eq(dhcp.n, 3);
	ck_assert_str_eq(dhcp.last[2]->ifname, "eth1");
	shell("ip link set eth1 down && ip link set eth1 up");
	turn();
	ck_assert_str_eq(addresses("eth1"), "10.9.0.15/24;");
	lease(dhcp.last[2], &other);
	ck_assert_str_eq(addresses("eth1"), "10.9.0.16/24;");
	ck_assert_str_eq(routes("eth1"), "");
	ck_assert_str_eq(resolvers, "");
	teardown();
}
END_TEST

START_TEST(a_listing_that_fails_is_done_again)
{
	if (!setup(ONE_LINK))
		return;
	fault_arm("recvmsg", 1, EAGAIN, false);
	start(&conf);
	ck_assert(fault_disarm());
	shell("ip link del eth0");
	for (int i = 0; i < 70; i++)
		ck_assert_int_eq(loop_turn(&loop, 20), 0);
	ck_assert_uint_eq(dhcp.n, 0);
	ck_assert(network_is_settled(network));
	teardown();
}
END_TEST

START_TEST(a_second_start_changes_nothing)
{
	if (!setup(ONE_LINK))
		return;
	start(&conf);
	turn();
	lease(dhcp.last[0], &plain);
	network_free(network);
	start(&conf);
	ck_assert_uint_eq(dhcp.n, 1);
	ck_assert_str_eq(addresses("eth0"), "10.9.0.15/24;");
	ck_assert_str_eq(routes("eth0"), "0.0.0.0/0 via 10.9.0.2;");
	ck_assert_str_eq(note("first.eth0"), "10.9.0.15");
	teardown();
}
END_TEST

START_TEST(the_hostname_of_the_options_stays)
{
	struct network_conf named = conf;
	char name[65];

	named.hostname = "guest";
	if (!setup(ONE_LINK))
		return;
	ck_assert_int_eq(sethostname("guest", 5), 0);
	start(&named);
	ck_assert_str_eq(dhcp.last[0]->conf.hostname, "guest");
	lease(dhcp.last[0], &plain);
	ck_assert_int_eq(gethostname(name, sizeof name), 0);
	ck_assert_str_eq(name, "guest");
	teardown();
}
END_TEST

START_TEST(failures_cost_parts)
{
	static const char *const calls[] = {"socket", "bind", "sendto", "sendmsg", "recvmsg",
	    "epoll_ctl", "open", "calloc", "malloc"};

	if (!setup(TWO_LINKS))
		return;
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		FAULT_EACH(calls[i], ENOMEM)
		{
			dhcp.n = dhcp.freed = 0;
			start(&conf);
			network_free(network);
			network = NULL;
		}
	}
	dhcp.n = dhcp.freed = 0;
	dhcp.no_memory = true;
	start(&conf);
	turn();
	ck_assert(network_is_settled(network));
	teardown();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    two_interfaces_by_name,
	    a_lease_makes_the_first_interface,
	    the_second_interface_has_no_default_route,
	    another_lease_replaces_the_one_before,
	    gateways_may_be_outside,
	    what_has_an_address_is_left_alone,
	    links_go_down_and_up,
	    interfaces_come_and_go,
	    events_that_were_lost_are_looked_up,
	    a_kept_address_outlives_lost_events,
	    a_lease_is_kept_for_the_next_process,
	    a_lease_that_is_refused_to_the_next_process_goes,
	    a_listing_that_fails_is_done_again,
	    a_second_start_changes_nothing,
	    the_hostname_of_the_options_stays,
	    failures_cost_parts,
	    NULL,
	};

	return suite_of("network", tests);
}
