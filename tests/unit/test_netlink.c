#include "sys/netlink.h"

#include "cases.h"
#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/rtnetlink.h>

static struct netlink netlink;
static unsigned fds;

/* --- a network of our own --------------------------------------------------------------------- */

/* A fresh network namespace; Check forks a process for each test, so that it ends with the test. */
static bool enter_network(void)
{
	if (unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0)
		return true;
	skip_test("no network namespace can be made here");
	return false;
}

static bool setup(void)
{
	if (!enter_network())
		return false;
	fds = fault_fds();
	ck_assert_int_eq(netlink_open(&netlink), 0);
	return true;
}

static void teardown(void)
{
	netlink_close(&netlink);
	ck_assert_uint_eq(fault_fds(), fds);
}

/* A message under construction, independent of the code under test. */
struct message {
	size_t n;
	_Alignas(4) uint8_t bytes[4096];
};

static void add(struct message *m, const void *p, size_t n)
{
	ck_assert_uint_le(n, sizeof m->bytes - m->n);
	memcpy(m->bytes + m->n, p, n);
	m->n = (m->n + n + 3) & ~(size_t)3;
}

static void add_attr(struct message *m, uint16_t type, const void *p, size_t n)
{
	struct rtattr a = {.rta_len = (uint16_t)(sizeof a + n), .rta_type = type};

	add(m, &a, sizeof a);
	add(m, p, n);
}

static struct message message(uint16_t type, uint16_t flags, const void *body, size_t n)
{
	struct nlmsghdr h = {.nlmsg_type = type, .nlmsg_flags = flags};
	struct message m = {0};

	add(&m, &h, sizeof h);
	add(&m, body, n);
	return m;
}

static struct nlmsghdr *header(struct message *m)
{
	struct nlmsghdr *h = (void *)m->bytes;

	h->nlmsg_len = (uint32_t)m->n;
	return h;
}

/* What the kernel says to a request. */
static int ask(struct message *m)
{
	struct {
		struct nlmsghdr h;
		struct nlmsgerr e;
		uint8_t rest[512];
	} answer;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	ck_assert_int_ge(fd, 0);
	header(m)->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
	ck_assert_int_eq(send(fd, m->bytes, m->n, 0), (ssize_t)m->n);
	ck_assert_int_ge(recv(fd, &answer, sizeof answer, 0), (ssize_t)sizeof answer.h + 4);
	ck_assert_uint_eq(answer.h.nlmsg_type, NLMSG_ERROR);
	close(fd);
	return answer.e.error;
}

/* Adds a link of a kind; the peer of a "veth" gets a name of the kernel's. Its index, or -errno. */
static int new_link(const char *name, const char *kind)
{
	struct ifinfomsg info = {0};
	struct message m = message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof info);
	struct message inner = {0};
	int rc;

	add_attr(&inner, IFLA_INFO_KIND, kind, strlen(kind) + 1);
	add_attr(&m, IFLA_IFNAME, name, strlen(name) + 1);
	add_attr(&m, IFLA_LINKINFO, inner.bytes, inner.n);
	rc = ask(&m);
	return rc < 0 ? rc : (int)if_nametoindex(name);
}

static void delete_link(int index)
{
	struct ifinfomsg info = {.ifi_index = index};
	struct message m = message(RTM_DELLINK, 0, &info, sizeof info);

	ck_assert_int_eq(ask(&m), 0);
}

static int set_master(int index, int master)
{
	struct ifinfomsg info = {.ifi_index = index};
	struct message m = message(RTM_SETLINK, 0, &info, sizeof info);

	add_attr(&m, IFLA_MASTER, &master, sizeof master);
	return ask(&m);
}

/* Two links that are plugged into each other; false when this kernel has no veth. */
struct pair {
	int here, there;
};

static bool setup_pair(struct pair *p)
{
	if (!setup())
		return false;
	p->here = new_link("here", "veth");
	if (p->here < 0) {
		skip_test("this kernel has no veth");
		teardown();
		return false;
	}
	p->there = p->here - 1; /* the kernel makes the peer first */
	return true;
}

/* --- lists as arrays -------------------------------------------------------------------------- */

static struct netlink_link links[64];
static struct netlink_addr addrs[2048];
static struct netlink_route routes[2048];
static size_t count;

static void on_link(void *ctx, const struct netlink_link *link)
{
	ck_assert_ptr_eq(ctx, links);
	ck_assert_uint_lt(count, 64);
	links[count++] = *link;
}

static void on_addr(void *ctx, const struct netlink_addr *a)
{
	ck_assert_ptr_eq(ctx, addrs);
	ck_assert_uint_lt(count, 2048);
	addrs[count++] = *a;
}

static void on_route(void *ctx, const struct netlink_route *r)
{
	ck_assert_ptr_eq(ctx, routes);
	ck_assert_uint_lt(count, 2048);
	routes[count++] = *r;
}

static size_t list_links(void)
{
	count = 0;
	ck_assert_int_eq(netlink_links(&netlink, on_link, links), 0);
	return count;
}

static size_t list_addrs(int index)
{
	count = 0;
	ck_assert_int_eq(netlink_addrs(&netlink, index, on_addr, addrs), 0);
	return count;
}

static struct netlink_link link_of(int index)
{
	size_t n = list_links();

	for (size_t i = 0; i < n; i++)
		if (links[i].index == index)
			return links[i];
	ck_abort_msg("no link %d", index);
}

/* How many routes lead to `to`, the last of them being *out. */
static unsigned routes_to(struct ip to, uint8_t prefix, struct netlink_route *out)
{
	unsigned n = 0;

	count = 0;
	ck_assert_int_eq(netlink_routes(&netlink, on_route, routes), 0);
	for (size_t i = 0; i < count; i++) {
		if (!ip_eq(&routes[i].to, &to) || routes[i].prefix != prefix)
			continue;
		*out = routes[i];
		n++;
	}
	return n;
}

static struct ip ip_of(const char *text)
{
	struct ip ip;

	ck_assert_int_eq(ip_parse(span_str(text), &ip), E_OK);
	return ip;
}

/* --- links ------------------------------------------------------------------------------------ */

START_TEST(lists_links_in_order)
{
	static const uint8_t no_mac[6];
	struct netlink_link lo, here;
	struct pair p;
	size_t n;

	if (!setup_pair(&p))
		return;
	lo = link_of((int)if_nametoindex("lo"));
	ck_assert_str_eq(lo.name, "lo");
	ck_assert_uint_eq(lo.type, ARPHRD_LOOPBACK);
	ck_assert_uint_eq(lo.flags & (IFF_UP | IFF_LOOPBACK), IFF_LOOPBACK);
	ck_assert(!lo.carrier);
	ck_assert_str_eq(lo.kind, "");
	ck_assert_mem_eq(lo.mac, no_mac, sizeof no_mac);
	here = link_of(p.here);
	ck_assert_str_eq(here.name, "here");
	ck_assert_str_eq(here.kind, "veth");
	ck_assert_uint_eq(here.type, ARPHRD_ETHER);
	ck_assert_uint_eq(here.mtu, 1500);
	ck_assert_mem_ne(here.mac, no_mac, sizeof no_mac);
	n = list_links();
	ck_assert_uint_ge(n, 3);
	for (size_t i = 1; i < n; i++)
		ck_assert_int_lt(links[i - 1].index, links[i].index);
	teardown();
}
END_TEST

START_TEST(sets_links_up_and_down)
{
	struct pair p;

	if (!setup_pair(&p))
		return;
	for (int twice = 0; twice < 2; twice++)
		ck_assert_int_eq(netlink_link_up(&netlink, p.here, true), 0);
	ck_assert(link_of(p.here).flags & IFF_UP);
	ck_assert(!link_of(p.here).carrier);
	ck_assert_int_eq(netlink_link_up(&netlink, p.there, true), 0);
	ck_assert(link_of(p.here).carrier);
	ck_assert_int_eq(netlink_link_up(&netlink, p.there, false), 0);
	ck_assert(!link_of(p.here).carrier);
	for (int twice = 0; twice < 2; twice++)
		ck_assert_int_eq(netlink_link_up(&netlink, p.here, false), 0);
	ck_assert(!(link_of(p.here).flags & IFF_UP));
	ck_assert_int_eq(netlink_link_up(&netlink, 9999, true), -ENODEV);
	teardown();
}
END_TEST

START_TEST(sets_the_mtu)
{
	struct pair p;

	if (!setup_pair(&p))
		return;
	for (int twice = 0; twice < 2; twice++)
		ck_assert_int_eq(netlink_link_mtu(&netlink, p.here, 1400), 0);
	ck_assert_uint_eq(link_of(p.here).mtu, 1400);
	ck_assert_uint_eq(link_of(p.there).mtu, 1500);
	ck_assert_int_eq(netlink_link_mtu(&netlink, p.here, 10), -EINVAL);
	ck_assert_uint_eq(link_of(p.here).mtu, 1400);
	ck_assert_int_eq(netlink_link_mtu(&netlink, 9999, 1400), -ENODEV);
	teardown();
}
END_TEST

static void set_up(void *ctx, const struct netlink_link *link)
{
	ck_assert_int_eq(netlink_link_up(ctx, link->index, true), 0);
}

START_TEST(lets_the_callback_ask)
{
	struct pair p;

	if (!setup_pair(&p))
		return;
	ck_assert_int_eq(netlink_links(&netlink, set_up, &netlink), 0);
	ck_assert(link_of(p.here).carrier);
	ck_assert(link_of(p.there).carrier);
	teardown();
}
END_TEST

/* --- addresses -------------------------------------------------------------------------------- */

/* The broadcast address of a link, by the older way to ask. */
static struct ip broadcast_of(const char *name)
{
	struct ifreq q = {0};
	const struct sockaddr_in *in = (const void *)&q.ifr_broadaddr;
	struct ip ip = {.family = 4};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(q.ifr_name, sizeof q.ifr_name, "%s", name);
	ck_assert_int_eq(ioctl(fd, SIOCGIFBRDADDR, &q), 0);
	memcpy(ip.b, &in->sin_addr, 4);
	close(fd);
	return ip;
}

static void check_addr_life(struct netlink_addr a)
{
	for (int twice = 0; twice < 2; twice++)
		ck_assert_int_eq(netlink_addr_set(&netlink, &a), 0);
	ck_assert_uint_eq(list_addrs(a.index), 1);
	ck_assert_int_eq(addrs[0].index, a.index);
	ck_assert(ip_eq(&addrs[0].ip, &a.ip));
	ck_assert_uint_eq(addrs[0].prefix, a.prefix);
	ck_assert_uint_eq(addrs[0].scope, RT_SCOPE_UNIVERSE);
	ck_assert_uint_ge(addrs[0].valid_secs, a.valid_secs - 2);
	ck_assert_uint_le(addrs[0].valid_secs, a.valid_secs);
	ck_assert(!(addrs[0].flags & IFA_F_PERMANENT));

	a.valid_secs = NETLINK_FOREVER;
	ck_assert_int_eq(netlink_addr_set(&netlink, &a), 0);
	ck_assert_uint_eq(list_addrs(a.index), 1);
	ck_assert_uint_eq(addrs[0].valid_secs, NETLINK_FOREVER);
	ck_assert(addrs[0].flags & IFA_F_PERMANENT);

	a.valid_secs = 0;
	ck_assert_int_eq(netlink_addr_set(&netlink, &a), -EINVAL);
	for (int twice = 0; twice < 2; twice++)
		ck_assert_int_eq(netlink_addr_del(&netlink, &a), 0);
	ck_assert_uint_eq(list_addrs(a.index), 0);
}

START_TEST(sets_addresses)
{
	struct netlink_addr a = {.prefix = 20, .valid_secs = 100};
	struct ip broadcast = ip_v4(10, 1, 31, 255);
	struct ip found;
	struct pair p;

	if (!setup_pair(&p))
		return;
	a.index = p.here;
	a.ip = ip_v4(10, 1, 20, 7);
	check_addr_life(a);
	ck_assert_int_eq(netlink_addr_set(&netlink, &a), 0);
	found = broadcast_of("here");
	ck_assert(ip_eq(&found, &broadcast));
	ck_assert_int_eq(netlink_addr_del(&netlink, &a), 0);

	a.ip = ip_of("fd00::7");
	a.prefix = 64;
	a.flags = IFA_F_NODAD;
	check_addr_life(a);
	teardown();
}
END_TEST

/* RFC 3021: both addresses of a /31 are hosts. */
START_TEST(gives_no_broadcast_to_two)
{
	struct netlink_addr a = {.ip = ip_v4(10, 1, 1, 4), .prefix = 31, .valid_secs = 100};
	struct ip none = ip_v4(0, 0, 0, 0);
	struct ip found;
	struct pair p;

	if (!setup_pair(&p))
		return;
	a.index = p.here;
	ck_assert_int_eq(netlink_addr_set(&netlink, &a), 0);
	found = broadcast_of("here");
	ck_assert(ip_eq(&found, &none));
	teardown();
}
END_TEST

START_TEST(lists_addresses_of_one_link_or_all)
{
	struct netlink_addr a = {.ip = ip_v4(10, 1, 1, 1), .prefix = 24, .valid_secs = 100};
	struct pair p;

	if (!setup_pair(&p))
		return;
	a.index = p.here;
	ck_assert_int_eq(netlink_addr_set(&netlink, &a), 0);
	a.index = p.there;
	a.ip = ip_v4(10, 1, 2, 1);
	ck_assert_int_eq(netlink_addr_set(&netlink, &a), 0);
	ck_assert_uint_eq(list_addrs(p.here), 1);
	ck_assert_uint_eq(list_addrs(p.there), 1);
	ck_assert(ip_eq(&addrs[0].ip, &a.ip));
	ck_assert_uint_eq(list_addrs(0), 2);
	ck_assert_uint_eq(list_addrs(9999), 0);
	teardown();
}
END_TEST

START_TEST(deletes_addresses_of_a_link_that_is_gone)
{
	struct netlink_addr a = {.ip = ip_v4(10, 1, 1, 1), .prefix = 24, .valid_secs = 100};
	struct pair p;

	if (!setup_pair(&p))
		return;
	a.index = p.here;
	ck_assert_int_eq(netlink_addr_set(&netlink, &a), 0);
	delete_link(p.here);
	ck_assert_int_eq(netlink_addr_del(&netlink, &a), 0);
	a.ip = ip_of("fd00::1");
	ck_assert_int_eq(netlink_addr_del(&netlink, &a), 0);
	ck_assert_int_eq(netlink_addr_set(&netlink, &a), -ENODEV);
	teardown();
}
END_TEST

START_TEST(sets_the_address_of_the_other_end)
{
	struct netlink_addr a = {.ip = ip_v4(10, 1, 2, 1),
	    .peer = ip_v4(10, 9, 9, 9),
	    .prefix = 24,
	    .valid_secs = NETLINK_FOREVER};
	struct ip none = {.family = 4}, found;
	struct pair p;

	if (!setup_pair(&p))
		return;
	a.index = p.here;
	for (int twice = 0; twice < 2; twice++)
		ck_assert_int_eq(netlink_addr_set(&netlink, &a), 0);
	ck_assert_uint_eq(list_addrs(p.here), 1);
	ck_assert(ip_eq(&addrs[0].ip, &a.ip));
	ck_assert(ip_eq(&addrs[0].peer, &a.peer));
	ck_assert_uint_eq(addrs[0].prefix, 24);
	found = broadcast_of("here");
	ck_assert(ip_eq(&found, &none));
	ck_assert_int_eq(netlink_addr_del(&netlink, &a), 0);
	ck_assert_uint_eq(list_addrs(p.here), 0);
	teardown();
}
END_TEST

START_TEST(removes_links)
{
	struct pair p;

	if (!setup_pair(&p))
		return;
	for (int twice = 0; twice < 2; twice++)
		ck_assert_int_eq(netlink_link_del(&netlink, p.here), 0);
	ck_assert_uint_eq(if_nametoindex("here"), 0);
	ck_assert_int_eq(netlink_link_del(&netlink, (int)if_nametoindex("lo")), -EOPNOTSUPP);
	teardown();
}
END_TEST

/* More than one datagram holds. */
START_TEST(lists_many)
{
	struct netlink_addr a = {.prefix = 32, .valid_secs = 100};
	struct pair p;

	if (!setup_pair(&p))
		return;
	a.index = p.here;
	for (unsigned i = 0; i < 1000; i++) {
		a.ip = ip_v4(10, 1, (uint8_t)(i / 250), (uint8_t)(i % 250));
		ck_assert_int_eq(netlink_addr_set(&netlink, &a), 0);
	}
	ck_assert_uint_eq(list_addrs(p.here), 1000);
	teardown();
}
END_TEST

/* --- routes ----------------------------------------------------------------------------------- */

/* `net` is a subnet that `link` has an address of; r->via and `other` are in it. */
static void check_route_life(struct netlink_route r, struct ip other, uint32_t metric)
{
	struct netlink_route found = {0};

	for (int twice = 0; twice < 2; twice++)
		ck_assert_int_eq(netlink_route_set(&netlink, &r), 0);
	ck_assert_uint_eq(routes_to(r.to, r.prefix, &found), 1);
	ck_assert_int_eq(found.index, r.index);
	ck_assert(ip_eq(&found.via, &r.via));
	ck_assert(ip_eq(&found.src, &r.src));
	ck_assert_uint_eq(found.metric, metric);
	ck_assert_uint_eq(found.table, RT_TABLE_MAIN);
	ck_assert_uint_eq(found.protocol, RTPROT_DHCP);
	ck_assert_uint_eq(found.scope, RT_SCOPE_UNIVERSE);

	r.via = other;
	ck_assert_int_eq(netlink_route_set(&netlink, &r), 0);
	ck_assert_uint_eq(routes_to(r.to, r.prefix, &found), 1);
	ck_assert(ip_eq(&found.via, &other));
}

static void give_addr(int index, const char *ip, uint8_t prefix)
{
	struct netlink_addr a = {
	    .index = index,
	    .ip = ip_of(ip),
	    .prefix = prefix,
	    .flags = IFA_F_NODAD,
	    .valid_secs = NETLINK_FOREVER,
	};

	ck_assert_int_eq(netlink_link_up(&netlink, index, true), 0);
	ck_assert_int_eq(netlink_addr_set(&netlink, &a), 0);
}

START_TEST(sets_routes)
{
	struct netlink_route r = {.protocol = RTPROT_DHCP};
	struct pair p;

	if (!setup_pair(&p))
		return;
	r.index = p.here;
	give_addr(p.here, "10.1.1.2", 24);
	give_addr(p.here, "fd00::2", 64);

	r.to = ip_of("0.0.0.0");
	r.via = ip_of("10.1.1.1");
	r.src = ip_of("10.1.1.2");
	check_route_life(r, ip_of("10.1.1.9"), 0);
	r.to = ip_of("192.0.2.0");
	r.prefix = 24;
	r.metric = 7;
	check_route_life(r, ip_of("10.1.1.9"), 7);

	r.via = ip_of("fd00::1");
	r.src = ip_of("fd00::2");
	r.to = ip_of("::");
	r.prefix = 0;
	r.metric = 0;
	check_route_life(r, ip_of("fd00::9"), 1024);
	r.to = ip_of("2001:db8::");
	r.prefix = 32;
	r.metric = 7;
	check_route_life(r, ip_of("fd00::9"), 7);
	teardown();
}
END_TEST

START_TEST(sets_on_link_routes)
{
	struct netlink_route r = {.to = ip_v4(192, 0, 2, 1), .prefix = 32, .scope = RT_SCOPE_LINK};
	struct netlink_route found;
	struct pair p;

	if (!setup_pair(&p))
		return;
	r.index = p.here;
	give_addr(p.here, "10.1.1.2", 24);
	ck_assert_int_eq(netlink_route_set(&netlink, &r), 0);
	ck_assert_uint_eq(routes_to(r.to, 32, &found), 1);
	ck_assert_uint_eq(found.via.family, 0);
	ck_assert_uint_eq(found.src.family, 0);
	ck_assert_uint_eq(found.scope, RT_SCOPE_LINK);
	/* The kernel's own, of the subnet. */
	ck_assert_uint_eq(routes_to(ip_v4(10, 1, 1, 0), 24, &found), 1);
	ck_assert_uint_eq(found.protocol, RTPROT_KERNEL);
	teardown();
}
END_TEST

START_TEST(lists_routes_of_the_main_table_only)
{
	struct netlink_route r = {.to = ip_v4(192, 0, 2, 0), .prefix = 24, .table = 77};
	struct netlink_route found;
	struct pair p;

	if (!setup_pair(&p))
		return;
	r.index = p.here;
	give_addr(p.here, "10.1.1.2", 24);
	ck_assert_int_eq(netlink_route_set(&netlink, &r), 0);
	ck_assert_uint_eq(routes_to(r.to, 24, &found), 0);
	/* 10.1.1.2/32 is in the table of local ones. */
	ck_assert_uint_eq(routes_to(ip_v4(10, 1, 1, 2), 32, &found), 0);
	teardown();
}
END_TEST

START_TEST(refuses_a_gateway_out_of_reach)
{
	struct netlink_route r = {.to = ip_v4(0, 0, 0, 0), .via = ip_v4(192, 0, 2, 1)};
	struct pair p;

	if (!setup_pair(&p))
		return;
	r.index = p.here;
	give_addr(p.here, "10.1.1.2", 24);
	ck_assert_int_eq(netlink_route_set(&netlink, &r), -ENETUNREACH);
	r.index = 9999;
	r.via.family = 0;
	ck_assert_int_eq(netlink_route_set(&netlink, &r), -ENODEV);
	teardown();
}
END_TEST

/* --- events ----------------------------------------------------------------------------------- */

struct seen {
	struct netlink_watch watch;
	unsigned events, gone, lost;
	struct netlink_link last;
	bool stop;
};

static void on_event(struct netlink_watch *w, const struct netlink_link *link, bool gone)
{
	struct seen *s = container_of(w, struct seen, watch);

	s->events++;
	s->last = *link;
	s->gone += gone;
	if (s->stop)
		netlink_watch_stop(w);
}

static void on_lost(struct netlink_watch *w)
{
	struct seen *s = container_of(w, struct seen, watch);

	s->lost++;
	if (s->stop)
		netlink_watch_stop(w);
}

static struct loop loop;

static bool setup_watch(struct seen *s, struct pair *p)
{
	if (!setup_pair(p))
		return false;
	*s = (struct seen){.watch = {.fn = on_event, .lost = on_lost}};
	ck_assert_int_eq(loop_init(&loop), 0);
	ck_assert_int_eq(netlink_watch_start(&s->watch, &loop), 0);
	ck_assert_int_eq(netlink_watch_start(&s->watch, &loop), -EBUSY);
	return true;
}

static void teardown_watch(struct seen *s)
{
	netlink_watch_stop(&s->watch);
	netlink_watch_stop(&s->watch);
	loop_done(&loop);
	teardown();
}

/* The events that wait, counted anew. */
static unsigned events(struct seen *s)
{
	s->events = 0;
	ck_assert_int_eq(loop_turn(&loop, 0), 0);
	return s->events;
}

START_TEST(watches_links)
{
	struct seen s;
	struct pair p;
	int more;

	if (!setup_watch(&s, &p))
		return;
	ck_assert_uint_eq(events(&s), 0);
	ck_assert_int_eq(netlink_link_up(&netlink, p.here, true), 0);
	ck_assert_uint_ge(events(&s), 1);
	ck_assert_int_eq(s.last.index, p.here);
	ck_assert_str_eq(s.last.name, "here");
	ck_assert(s.last.flags & IFF_UP);
	ck_assert_uint_eq(s.gone, 0);
	ck_assert_int_eq(netlink_link_up(&netlink, p.here, true), 0); /* is so already */
	ck_assert_uint_eq(events(&s), 0);
	ck_assert_int_eq(netlink_link_up(&netlink, p.here, false), 0);
	ck_assert_uint_ge(events(&s), 1);
	ck_assert(!(s.last.flags & IFF_UP));

	more = new_link("more", "veth");
	ck_assert_int_gt(more, 0);
	ck_assert_uint_ge(events(&s), 2);
	ck_assert_uint_eq(s.gone, 0);
	delete_link(more);
	ck_assert_uint_ge(events(&s), 2);
	ck_assert_uint_eq(s.gone, 2);
	ck_assert_uint_eq(s.lost, 0);
	teardown_watch(&s);
}
END_TEST

/* A port that leaves a bridge is not a link that is gone. */
START_TEST(keeps_links_that_leave_a_bridge)
{
	struct seen s;
	struct pair p;
	int bridge;

	if (!setup_watch(&s, &p))
		return;
	bridge = new_link("bridge", "bridge");
	if (bridge < 0) {
		skip_test("this kernel has no bridges");
		return;
	}
	ck_assert_int_eq(set_master(p.here, bridge), 0);
	events(&s);
	ck_assert_int_eq(set_master(p.here, 0), 0);
	ck_assert_uint_ge(events(&s), 1);
	ck_assert_uint_eq(s.gone, 0);
	teardown_watch(&s);
}
END_TEST

static void flood(int index)
{
	for (unsigned i = 0; i < 50; i++) {
		ck_assert_int_eq(netlink_link_up(&netlink, index, true), 0);
		ck_assert_int_eq(netlink_link_up(&netlink, index, false), 0);
	}
}

START_TEST(tells_of_lost_events)
{
	struct seen s;
	struct pair p;
	int least = 1;

	if (!setup_watch(&s, &p))
		return;
	ck_assert_int_eq(
	    setsockopt(s.watch.source.fd, SOL_SOCKET, SO_RCVBUF, &least, sizeof least), 0);
	flood(p.here);
	events(&s);
	ck_assert_uint_eq(s.lost, 1);
	/* It goes on. */
	ck_assert_int_eq(netlink_link_up(&netlink, p.here, true), 0);
	ck_assert_uint_ge(events(&s), 1);
	ck_assert_uint_eq(s.lost, 1);
	/* An owner that has had enough. */
	s.stop = true;
	flood(p.here);
	events(&s);
	ck_assert_uint_eq(s.lost + s.events, 2);
	ck_assert_int_eq(s.watch.source.fd, -1);
	teardown_watch(&s);
}
END_TEST

START_TEST(stops_from_a_callback)
{
	struct seen s;
	struct pair p;

	if (!setup_watch(&s, &p))
		return;
	s.stop = true;
	ck_assert_int_eq(netlink_link_up(&netlink, p.here, true), 0);
	ck_assert_int_eq(netlink_link_up(&netlink, p.there, true), 0);
	ck_assert_uint_eq(events(&s), 1);
	ck_assert_int_eq(netlink_watch_start(&s.watch, &loop), 0); /* and may start again */
	s.stop = false;
	ck_assert_int_eq(netlink_link_up(&netlink, p.there, false), 0);
	ck_assert_uint_ge(events(&s), 1);
	teardown_watch(&s);
}
END_TEST

/* --- a kernel of our own: the other end of a socket pair -------------------------------------- */

static int kernel; /* what is written here, netlink reads as an answer of the kernel */

enum { OWN_PORT = 4711 };

static void setup_kernel(void)
{
	struct timeval wait = {.tv_usec = 2000};
	int pair[2];

	fds = fault_fds();
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
	ck_assert_int_eq(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait), 0);
	netlink = (struct netlink){.fd = pair[0], .port = OWN_PORT};
	kernel = pair[1];
}

static void teardown_kernel(void)
{
	close(kernel);
	teardown();
}

static void answer(struct span datagram)
{
	ck_assert_int_eq(send(kernel, datagram.p, datagram.n, 0), (ssize_t)datagram.n);
}

/* Adds a message to a datagram, addressed to request number `seq`. */
static void add_message(struct message *to, struct message m, uint32_t seq, uint16_t flags)
{
	header(&m)->nlmsg_seq = seq;
	header(&m)->nlmsg_pid = OWN_PORT;
	header(&m)->nlmsg_flags |= flags;
	add(to, m.bytes, m.n);
}

static struct message link_message(int index, const char *name)
{
	struct ifinfomsg info = {.ifi_index = index, .ifi_type = ARPHRD_ETHER};
	struct message m = message(RTM_NEWLINK, NLM_F_MULTI, &info, sizeof info);
	uint32_t mtu = 1500;

	add_attr(&m, IFLA_IFNAME, name, strlen(name) + 1);
	add_attr(&m, IFLA_MTU, &mtu, sizeof mtu);
	add_attr(&m, IFLA_ADDRESS, "\x02\x00\x00\x00\x00\x01", 6);
	return m;
}

static struct message end_message(uint16_t type, int rc)
{
	return message(type, NLM_F_MULTI, &rc, sizeof rc);
}

/* Two links, then the end, in one datagram. */
static struct message dump_of_two(uint32_t seq, uint16_t flags)
{
	struct message d = {0};

	add_message(&d, link_message(2, "b"), seq, flags);
	add_message(&d, link_message(1, "a"), seq, flags);
	add_message(&d, end_message(NLMSG_DONE, 0), seq, flags);
	return d;
}

static struct span span_of_message(const struct message *m)
{
	return span_of(m->bytes, m->n);
}

static int rc_of_links(void)
{
	count = 0;
	return netlink_links(&netlink, on_link, links);
}

START_TEST(reads_a_dump)
{
	struct message d = dump_of_two(1, 0);

	setup_kernel();
	answer(span_of_message(&d));
	ck_assert_int_eq(rc_of_links(), 0);
	ck_assert_uint_eq(count, 2);
	ck_assert_str_eq(links[0].name, "a");
	ck_assert_int_eq(links[1].index, 2);
	ck_assert_uint_eq(links[1].mtu, 1500);
	ck_assert_uint_eq(links[1].mac[5], 1);
	teardown_kernel();
}
END_TEST

START_TEST(gives_up_waiting)
{
	setup_kernel();
	ck_assert_int_eq(rc_of_links(), -ETIMEDOUT);
	ck_assert_int_eq(netlink_link_up(&netlink, 1, true), -ETIMEDOUT);
	teardown_kernel();
}
END_TEST

START_TEST(drops_answers_to_others)
{
	struct message m = end_message(NLMSG_ERROR, -EPERM), d = {0};

	setup_kernel();
	add_message(&d, m, 0, 0);  /* an older request */
	add_message(&d, m, 2, 0);  /* a later one */
	header(&m)->nlmsg_seq = 1; /* another process' */
	add(&d, m.bytes, m.n);
	answer(span_of_message(&d));
	d.n = 0;
	add_message(&d, end_message(NLMSG_ERROR, 0), 1, 0);
	answer(span_of_message(&d));
	ck_assert_int_eq(netlink_link_up(&netlink, 1, true), 0);
	teardown_kernel();
}
END_TEST

START_TEST(passes_errors_on)
{
	struct message d = {0};

	setup_kernel();
	add_message(&d, end_message(NLMSG_ERROR, -EPERM), 1, 0);
	answer(span_of_message(&d));
	ck_assert_int_eq(netlink_link_up(&netlink, 1, true), -EPERM);
	/* Of a list nothing is told when its end is bad. */
	d.n = 0;
	add_message(&d, link_message(1, "a"), 2, 0);
	add_message(&d, end_message(NLMSG_DONE, -ENOBUFS), 2, 0);
	answer(span_of_message(&d));
	ck_assert_int_eq(rc_of_links(), -ENOBUFS);
	ck_assert_uint_eq(count, 0);
	/* No errno. */
	d.n = 0;
	add_message(&d, end_message(NLMSG_ERROR, 7), 3, 0);
	answer(span_of_message(&d));
	ck_assert_int_eq(netlink_link_up(&netlink, 1, true), -EBADMSG);
	teardown_kernel();
}
END_TEST

START_TEST(reads_an_interrupted_dump_again)
{
	struct message d = dump_of_two(1, NLM_F_DUMP_INTR);

	setup_kernel();
	answer(span_of_message(&d));
	d = dump_of_two(2, 0);
	answer(span_of_message(&d));
	ck_assert_int_eq(rc_of_links(), 0);
	ck_assert_uint_eq(count, 2);
	for (uint32_t i = 0; i < 5; i++) {
		d = dump_of_two(3 + i, NLM_F_DUMP_INTR);
		answer(span_of_message(&d));
	}
	ck_assert_int_eq(rc_of_links(), -EAGAIN);
	ck_assert_uint_eq(count, 0);
	teardown_kernel();
}
END_TEST

START_TEST(refuses_a_datagram_that_is_too_long)
{
	static const uint8_t huge[40000];

	setup_kernel();
	answer(span_of(huge, sizeof huge));
	ck_assert_int_eq(rc_of_links(), -EMSGSIZE);
	teardown_kernel();
}
END_TEST

/* Only an answer that is whole may give a list. The last message is the end of the dump, whose code
 * is needed, and nothing else. */
static void check_cut(struct span cut, void *ctx)
{
	const size_t *whole = ctx;
	int rc;

	setup_kernel();
	if (cut.n > 0) /* an empty datagram is no answer */
		answer(cut);
	rc = rc_of_links();
	ck_assert(rc == -ETIMEDOUT || rc == -EBADMSG || (rc == 0 && cut.n == *whole));
	ck_assert_uint_eq(count, rc == 0 ? 2 : 0);
	teardown_kernel();
}

START_TEST(refuses_cut_answers)
{
	struct message d = dump_of_two(1, 0);

	each_cut(span_of_message(&d), check_cut, &d.n);
}
END_TEST

static void check_mutation(struct span mutated, void *ctx)
{
	(void)ctx;
	setup_kernel();
	answer(mutated);
	rc_of_links();
	for (size_t i = 0; i < count; i++)
		ck_assert_uint_lt(strlen(links[i].name), NETLINK_NAME_BYTES);
	teardown_kernel();
}

START_TEST(survives_mutated_answers)
{
	struct message d = {0};

	add_message(&d, link_message(1, "a"), 1, 0);
	add_message(&d, end_message(NLMSG_DONE, 0), 1, 0);
	each_mutation(span_of_message(&d), check_mutation, NULL);
}
END_TEST

/* Entries that cannot be told are left out, the others stay. */
START_TEST(leaves_out_malformed_entries)
{
	struct ifinfomsg info = {.ifi_index = 5};
	struct message m = message(RTM_NEWLINK, 0, &info, sizeof info), d = {0};
	uint16_t tiny = 1;

	setup_kernel();
	add_message(&d, m, 1, 0); /* without a name */
	add_attr(&m, IFLA_IFNAME, "0123456789abcdef", 17);
	add_message(&d, m, 1, 0);
	m = link_message(6, "short-mtu");
	add_attr(&m, IFLA_MTU, &tiny, sizeof tiny);
	add_message(&d, m, 1, 0);
	m = link_message(7, "bad-attr");
	add(&m, (const uint8_t[4]){1, 0, 0, 0}, 4); /* shorter than its own header */
	add_message(&d, m, 1, 0);
	add_message(&d, link_message(8, "good"), 1, 0);
	add_message(&d, end_message(NLMSG_DONE, 0), 1, 0);
	answer(span_of_message(&d));
	ck_assert_int_eq(rc_of_links(), 0);
	ck_assert_uint_eq(count, 1);
	ck_assert_str_eq(links[0].name, "good");
	teardown_kernel();
}
END_TEST

START_TEST(reads_kinds)
{
	struct message inner = {0}, m = link_message(1, "a"), d = {0};

	setup_kernel();
	add_attr(&inner, IFLA_INFO_DATA, "data", 4);
	add_attr(&inner, IFLA_INFO_KIND, "a-kind-of-many-words", 21);
	add_attr(&m, IFLA_LINKINFO, inner.bytes, inner.n);
	add_message(&d, m, 1, 0);
	m = link_message(2, "b");
	add_attr(&m, IFLA_LINKINFO, inner.bytes, inner.n - 6); /* cut */
	add_message(&d, m, 1, 0);
	add_message(&d, end_message(NLMSG_DONE, 0), 1, 0);
	answer(span_of_message(&d));
	ck_assert_int_eq(rc_of_links(), 0);
	ck_assert_uint_eq(count, 1);
	ck_assert_str_eq(links[0].kind, "a-kind-of-many-");
	teardown_kernel();
}
END_TEST

START_TEST(reads_addresses_of_either_form)
{
	struct ifaddrmsg info = {.ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_index = 3};
	struct message m = message(RTM_NEWADDR, 0, &info, sizeof info), d = {0};
	struct ip ours = ip_v4(10, 0, 0, 1), peer = ip_v4(10, 0, 0, 2);

	setup_kernel();
	add_message(&d, m, 1, 0); /* without any address */
	add_attr(&m, IFA_LOCAL, ours.b, 4);
	add_attr(&m, IFA_ADDRESS, peer.b, 4);
	add_message(&d, m, 1, 0); /* point-to-point */
	m = message(RTM_NEWADDR, 0, &info, sizeof info);
	add_attr(&m, IFA_ADDRESS, peer.b, 4);
	add_message(&d, m, 1, 0);
	m = message(RTM_NEWADDR, 0, &info, sizeof info);
	add_attr(&m, IFA_LOCAL, ours.b, 3); /* too short */
	add_message(&d, m, 1, 0);
	info.ifa_family = AF_BRIDGE;
	m = message(RTM_NEWADDR, 0, &info, sizeof info);
	add_attr(&m, IFA_LOCAL, (uint8_t[16]){0}, 16);
	add_message(&d, m, 1, 0);
	add_message(&d, end_message(NLMSG_DONE, 0), 1, 0);
	answer(span_of_message(&d));
	ck_assert_uint_eq(list_addrs(0), 2);
	ck_assert(ip_eq(&addrs[0].ip, &ours));
	ck_assert(ip_eq(&addrs[1].ip, &peer));
	ck_assert_uint_eq(addrs[1].valid_secs, NETLINK_FOREVER);
	teardown_kernel();
}
END_TEST

/* A list without end is read to its end, so that the next request finds the socket free. */
static void write_endless_list(void)
{
	enum { AT_ONCE = 64 };
	struct message d = {0};

	for (int i = 1; i <= AT_ONCE; i++)
		add_message(&d, link_message(i, "x"), 1, 0);
	for (uint32_t n = 0; n <= NETLINK_LIST_MAX; n += AT_ONCE)
		answer(span_of_message(&d));
}

START_TEST(bounds_a_list)
{
	struct message d = {0};
	struct timeval wait = {.tv_sec = 5};
	pid_t pid;

	setup_kernel();
	ck_assert_int_eq(setsockopt(netlink.fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait), 0);
	add_message(&d, end_message(NLMSG_DONE, 0), 1, 0);
	add_message(&d, end_message(NLMSG_ERROR, 0), 2, 0);
	pid = fork();
	if (pid == 0) {
		write_endless_list();
		answer(span_of_message(&d));
		d = dump_of_two(3, 0);
		answer(span_of_message(&d));
		_exit(0);
	}
	ck_assert_int_eq(rc_of_links(), -E2BIG);
	ck_assert_uint_eq(count, 0);
	netlink.seq++;
	ck_assert_int_eq(rc_of_links(), 0);
	ck_assert_uint_eq(count, 2);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	teardown_kernel();
}
END_TEST

/* Any process may send to our port; the kernel's own is 0. */
START_TEST(drops_answers_of_strangers)
{
	struct sockaddr_nl to = {.nl_family = AF_NETLINK};
	struct message d = {0};
	int fd;

	if (!setup())
		return;
	to.nl_pid = netlink.port;
	add_message(&d, end_message(NLMSG_ERROR, -EPERM), 1, 0);
	((struct nlmsghdr *)(void *)d.bytes)->nlmsg_pid = netlink.port;
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(sendto(fd, d.bytes, d.n, 0, (const void *)&to, sizeof to), (ssize_t)d.n);
	ck_assert_int_eq(netlink_link_up(&netlink, (int)if_nametoindex("lo"), true), 0);
	close(fd);
	teardown();
}
END_TEST

/* --- faults ----------------------------------------------------------------------------------- */

static void check_open_failing(const char *call)
{
	FAULT_EACH(call, EMFILE)
	{
		int rc = netlink_open(&netlink);

		ck_assert(rc == 0 || rc == -EMFILE);
		netlink_close(&netlink);
		netlink_close(&netlink);
		ck_assert_uint_eq(fault_fds(), fds);
	}
}

START_TEST(survives_a_failed_open)
{
	if (!enter_network())
		return;
	fds = fault_fds();
	check_open_failing("socket");
	check_open_failing("bind");
	check_open_failing("setsockopt");
	check_open_failing("getsockname");
}
END_TEST

static void check_requests_failing(const char *call, int err)
{
	struct netlink_addr a = {
	    .ip = ip_v4(127, 9, 9, 9), .prefix = 32, .valid_secs = NETLINK_FOREVER};

	a.index = (int)if_nametoindex("lo");
	FAULT_EACH(call, err)
	{
		int rc = rc_of_links();

		ck_assert(rc == 0 || rc == -err);
		ck_assert_uint_eq(count > 0, rc == 0);
		rc = netlink_addr_set(&netlink, &a);
		ck_assert(rc == 0 || rc == -err);
		count = 0;
		rc = netlink_addrs(&netlink, 0, on_addr, addrs);
		ck_assert(rc == 0 || rc == -err);
		count = 0;
		rc = netlink_routes(&netlink, on_route, routes);
		ck_assert(rc == 0 || rc == -err);
		rc = netlink_addr_del(&netlink, &a);
		ck_assert(rc == 0 || rc == -err);
	}
}

START_TEST(survives_failed_requests)
{
	if (!setup())
		return;
	ck_assert_int_eq(netlink_link_up(&netlink, (int)if_nametoindex("lo"), true), 0);
	check_requests_failing("sendto", ENOBUFS);
	check_requests_failing("realloc", ENOMEM);
	teardown();
}
END_TEST

/* What is left of an answer that was not read must not be taken for that of the next request. */
START_TEST(survives_failed_answers)
{
	if (!setup())
		return;
	FAULT_EACH("recvmsg", ENOBUFS)
	{
		int rc = netlink_link_up(&netlink, (int)if_nametoindex("lo"), true);

		ck_assert(rc == 0 || rc == -ENOBUFS);
		rc = netlink_link_up(&netlink, 9999, true);
		ck_assert(rc == -ENODEV || rc == -ENOBUFS);
		rc = netlink_link_up(&netlink, (int)if_nametoindex("lo"), false);
		ck_assert(rc == 0 || rc == -ENOBUFS);
	}
	teardown();
}
END_TEST

START_TEST(goes_on_after_signals)
{
	if (!setup())
		return;
	fault_arm("recvmsg", 1, EINTR, false);
	ck_assert_uint_gt(list_links(), 0);
	ck_assert(fault_disarm());
	fault_arm("sendto", 1, EINTR, false);
	ck_assert_uint_gt(list_links(), 0);
	ck_assert(fault_disarm());
	teardown();
}
END_TEST

static void check_watch_failing(const char *call)
{
	FAULT_EACH(call, ENOMEM)
	{
		struct seen s = {.watch = {.fn = on_event, .lost = on_lost}};
		int rc;

		ck_assert_int_eq(loop_init(&loop), 0);
		rc = netlink_watch_start(&s.watch, &loop);
		ck_assert(rc == 0 || rc == -ENOMEM);
		netlink_watch_stop(&s.watch);
		loop_done(&loop);
		ck_assert_uint_eq(fault_fds(), fds);
	}
}

START_TEST(survives_a_failed_watch)
{
	struct seen s;
	struct pair p;

	if (!enter_network())
		return;
	fds = fault_fds();
	check_watch_failing("socket");
	check_watch_failing("bind");
	if (!setup_watch(&s, &p))
		return;
	/* One that cannot be read any more is taken away by the loop. */
	ck_assert_int_eq(netlink_link_up(&netlink, p.here, true), 0);
	fault_arm("recvmsg", 1, EBADF, false);
	ck_assert_uint_eq(events(&s), 0);
	ck_assert(fault_disarm());
	ck_assert_int_eq(s.watch.source.fd, -1);
	teardown_watch(&s);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    lists_links_in_order,
	    sets_links_up_and_down,
	    sets_the_mtu,
	    lets_the_callback_ask,
	    sets_addresses,
	    gives_no_broadcast_to_two,
	    lists_addresses_of_one_link_or_all,
	    deletes_addresses_of_a_link_that_is_gone,
	    sets_the_address_of_the_other_end,
	    removes_links,
	    lists_many,
	    sets_routes,
	    sets_on_link_routes,
	    lists_routes_of_the_main_table_only,
	    refuses_a_gateway_out_of_reach,
	    watches_links,
	    keeps_links_that_leave_a_bridge,
	    tells_of_lost_events,
	    stops_from_a_callback,
	    reads_a_dump,
	    gives_up_waiting,
	    drops_answers_to_others,
	    passes_errors_on,
	    reads_an_interrupted_dump_again,
	    refuses_a_datagram_that_is_too_long,
	    refuses_cut_answers,
	    survives_mutated_answers,
	    leaves_out_malformed_entries,
	    reads_kinds,
	    reads_addresses_of_either_form,
	    bounds_a_list,
	    drops_answers_of_strangers,
	    survives_a_failed_open,
	    survives_failed_requests,
	    survives_failed_answers,
	    goes_on_after_signals,
	    survives_a_failed_watch,
	    NULL,
	};

	return suite_of("netlink", tests);
}
