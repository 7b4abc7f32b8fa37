#include "sys/netlink.h"

#include "base/cursor.h"
#include "sys/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <linux/if.h>
#include <linux/rtnetlink.h>

enum {
	RECEIVE_BYTES = 32768, /* what the kernel makes a datagram of a dump at most */
	REQUEST_BYTES = 256,   /* the largest, an IPv6 route, has 116 */
	DUMP_TRIES = 5,
	BROADCAST_PREFIX_MAX = 30, /* RFC 3021: two addresses have no third for broadcast */
};

/* --- reading: messages and attributes --------------------------------------------------------- */

/* Copied, since nothing says that it is aligned; zero when the input is cut. */
static void rd_struct(struct rd *r, void *out, size_t n)
{
	struct span s = rd_bytes(r, n);

	memset(out, 0, n);
	if (s.n)
		memcpy(out, s.p, s.n);
}

/* What follows the header of a message or an attribute, whose length counts the header. The last
 * one may lack its padding. */
static struct span rd_body(struct rd *r, size_t len, size_t header_bytes)
{
	struct span body;
	size_t padding = NLMSG_ALIGN(len) - len;

	if (len < header_bytes) {
		rd_fail(r, E_MALFORMED);
		return span_of(NULL, 0);
	}
	body = rd_bytes(r, len - header_bytes);
	rd_bytes(r, padding < rd_left(r) ? padding : rd_left(r));
	return body;
}

/* The next message; false at the end of the datagram, or when it is malformed (r->err). */
static bool rd_message(struct rd *r, struct nlmsghdr *h, struct span *body)
{
	if (rd_left(r) == 0)
		return false;
	rd_struct(r, h, sizeof *h);
	*body = rd_body(r, h->nlmsg_len, sizeof *h);
	return r->err == E_OK;
}

struct attr {
	uint16_t type;
	struct span value;
};

/* The next attribute; false at the end of the message, or when it is malformed (r->err). */
static bool rd_attr(struct rd *r, struct attr *out)
{
	struct rtattr a;

	if (rd_left(r) == 0)
		return false;
	rd_struct(r, &a, sizeof a);
	out->type = a.rta_type & (uint16_t)NLA_TYPE_MASK;
	out->value = rd_body(r, a.rta_len, sizeof a);
	return r->err == E_OK;
}

/* The value as a struct, which later kernels may have made longer; one that is too short fails the
 * message. */
static void attr_struct(struct rd *r, const struct attr *a, void *out, size_t n)
{
	struct rd value = rd_of(a->value);

	rd_struct(&value, out, n);
	if (value.err != E_OK)
		rd_fail(r, E_MALFORMED);
}

static uint32_t attr_u32(struct rd *r, const struct attr *a)
{
	uint32_t v;

	attr_struct(r, a, &v, sizeof v);
	return v;
}

static struct ip attr_ip(struct rd *r, const struct attr *a, uint8_t family)
{
	struct ip ip = {.family = family == AF_INET ? 4 : 6};

	attr_struct(r, a, ip.b, ip_bytes(&ip).n);
	return ip;
}

/* --- reading: entries ------------------------------------------------------------------------- */

/* The functions below read one message into *out, which is to be used only when they say true: the
 * message is well formed, and of the kind that this module speaks of. */

static void attr_name(struct rd *r, const struct attr *a, char name[NETLINK_NAME_BYTES])
{
	struct span text = span_first(a->value, span_find(a->value, '\0'));

	if (!span_to_cstr(text, name, NETLINK_NAME_BYTES))
		rd_fail(r, E_MALFORMED);
}

/* What drives a link that software made: a name within the attribute's own attributes. It may be
 * longer than those of links, and is cut then. */
static void attr_kind(struct rd *r, const struct attr *a, char kind[NETLINK_NAME_BYTES])
{
	struct rd inner = rd_of(a->value);
	struct attr part;

	while (rd_attr(&inner, &part)) {
		if (part.type != IFLA_INFO_KIND)
			continue;
		part.value = span_first(part.value, NETLINK_NAME_BYTES - 1);
		attr_name(r, &part, kind);
	}
	if (inner.err != E_OK)
		rd_fail(r, E_MALFORMED);
}

/* A bridge speaks of its ports in messages of AF_BRIDGE, by which "gone" means from the bridge. */
static bool read_link(struct span body, void *out)
{
	struct netlink_link *link = out;
	struct rd r = rd_of(body);
	struct ifinfomsg info;
	struct attr a;

	rd_struct(&r, &info, sizeof info);
	*link = (struct netlink_link){
	    .index = info.ifi_index,
	    .type = info.ifi_type,
	    .flags = info.ifi_flags,
	    .carrier = info.ifi_flags & IFF_LOWER_UP,
	};
	while (rd_attr(&r, &a)) {
		if (a.type == IFLA_IFNAME)
			attr_name(&r, &a, link->name);
		else if (a.type == IFLA_LINKINFO)
			attr_kind(&r, &a, link->kind);
		else if (a.type == IFLA_MTU)
			link->mtu = attr_u32(&r, &a);
		else if (a.type == IFLA_ADDRESS && a.value.n == sizeof link->mac)
			memcpy(link->mac, a.value.p, sizeof link->mac);
	}
	return r.err == E_OK && info.ifi_family == AF_UNSPEC && link->name[0];
}

/* IFA_ADDRESS is the other end's where a link is point-to-point; IFA_LOCAL is always ours. */
static bool read_addr(struct span body, void *out)
{
	struct netlink_addr *addr = out;
	struct rd r = rd_of(body);
	struct ip local = {0}, address = {0};
	struct ifa_cacheinfo times;
	struct ifaddrmsg info;
	struct attr a;

	rd_struct(&r, &info, sizeof info);
	*addr = (struct netlink_addr){
	    .index = (int)info.ifa_index,
	    .prefix = info.ifa_prefixlen,
	    .scope = info.ifa_scope,
	    .flags = info.ifa_flags,
	    .valid_secs = NETLINK_FOREVER,
	};
	while (rd_attr(&r, &a)) {
		if (a.type == IFA_LOCAL)
			local = attr_ip(&r, &a, info.ifa_family);
		else if (a.type == IFA_ADDRESS)
			address = attr_ip(&r, &a, info.ifa_family);
		else if (a.type == IFA_FLAGS)
			addr->flags = attr_u32(&r, &a);
		else if (a.type == IFA_CACHEINFO) {
			attr_struct(&r, &a, &times, sizeof times);
			addr->valid_secs = times.ifa_valid;
		}
	}
	addr->ip = local.family ? local : address;
	if (local.family && address.family && !ip_eq(&local, &address))
		addr->peer = address;
	return r.err == E_OK && (info.ifa_family == AF_INET || info.ifa_family == AF_INET6) &&
	    addr->ip.family;
}

static bool is_main_unicast(const struct rtmsg *info, uint32_t table)
{
	return (info->rtm_family == AF_INET || info->rtm_family == AF_INET6) &&
	    info->rtm_type == RTN_UNICAST && table == RT_TABLE_MAIN &&
	    !(info->rtm_flags & RTM_F_CLONED);
}

/* The default route comes without RTA_DST. */
static bool read_route(struct span body, void *out)
{
	struct netlink_route *route = out;
	struct rd r = rd_of(body);
	struct rtmsg info;
	struct attr a;
	uint32_t table;

	rd_struct(&r, &info, sizeof info);
	table = info.rtm_table;
	*route = (struct netlink_route){
	    .to.family = info.rtm_family == AF_INET ? 4 : 6,
	    .prefix = info.rtm_dst_len,
	    .table = info.rtm_table,
	    .protocol = info.rtm_protocol,
	    .scope = info.rtm_scope,
	};
	while (rd_attr(&r, &a)) {
		switch (a.type) {
		case RTA_DST: route->to = attr_ip(&r, &a, info.rtm_family); break;
		case RTA_GATEWAY: route->via = attr_ip(&r, &a, info.rtm_family); break;
		case RTA_PREFSRC: route->src = attr_ip(&r, &a, info.rtm_family); break;
		case RTA_OIF: route->index = (int)attr_u32(&r, &a); break;
		case RTA_PRIORITY: route->metric = attr_u32(&r, &a); break;
		case RTA_TABLE: table = attr_u32(&r, &a); break;
		default: break;
		}
	}
	return r.err == E_OK && is_main_unicast(&info, table);
}

/* --- the socket ------------------------------------------------------------------------------- */

/* A netlink socket that is a member of these groups. An fd or -errno. */
static int socket_new(int flags, uint32_t groups)
{
	struct sockaddr_nl own = {.nl_family = AF_NETLINK, .nl_groups = groups};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | flags, NETLINK_ROUTE);
	int rc;

	if (fd < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *)&own, sizeof own) == 0)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

/* One datagram of the kernel: its length; 0 when it is not from the kernel or a signal came first;
 * -EMSGSIZE when it did not fit, or another -errno. */
static ssize_t receive(int fd, uint8_t buf[RECEIVE_BYTES])
{
	struct sockaddr_nl from = {0};
	struct iovec iov = {buf, RECEIVE_BYTES};
	struct msghdr m = {
	    .msg_name = &from,
	    .msg_namelen = sizeof from,
	    .msg_iov = &iov,
	    .msg_iovlen = 1,
	};
	ssize_t n = recvmsg(fd, &m, 0);

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	if (from.nl_pid != 0)
		return 0;
	return m.msg_flags & MSG_TRUNC ? -EMSGSIZE : n;
}

static int prepare(struct netlink *n)
{
	struct timeval wait = {.tv_sec = NETLINK_WAIT_MS / 1000};
	struct sockaddr_nl own = {0};
	socklen_t len = sizeof own;

	if (setsockopt(n->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) < 0 ||
	    getsockname(n->fd, (struct sockaddr *)&own, &len) < 0)
		return -errno;
	n->port = own.nl_pid;
	return 0;
}

int netlink_open(struct netlink *n)
{
	int rc;

	*n = (struct netlink){.fd = socket_new(0, 0)};
	if (n->fd < 0)
		return n->fd;
	rc = prepare(n);
	if (rc < 0)
		netlink_close(n);
	return rc;
}

void netlink_close(struct netlink *n)
{
	if (n->fd >= 0)
		close(n->fd);
	n->fd = -1;
}

/* --- requests --------------------------------------------------------------------------------- */

struct request {
	struct wr w;
	uint8_t bytes[REQUEST_BYTES];
};

static void begin(struct request *r, uint16_t type, uint16_t flags, struct span body)
{
	struct nlmsghdr h = {.nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags};

	r->w = wr_of(r->bytes, sizeof r->bytes);
	wr_bytes(&r->w, span_of(&h, sizeof h));
	wr_bytes(&r->w, body);
}

/* Every value that is sent here has a multiple of 4 bytes, and needs no padding. */
static void put(struct request *r, uint16_t type, struct span value)
{
	struct rtattr a = {.rta_len = (uint16_t)(sizeof a + value.n), .rta_type = type};

	wr_bytes(&r->w, span_of(&a, sizeof a));
	wr_bytes(&r->w, value);
}

static void put_u32(struct request *r, uint16_t type, uint32_t v)
{
	put(r, type, span_of(&v, sizeof v));
}

static int send_request(struct netlink *n, struct request *r)
{
	struct nlmsghdr h;
	ssize_t sent;

	if (r->w.err != E_OK)
		return -EMSGSIZE;
	memcpy(&h, r->bytes, sizeof h);
	h.nlmsg_len = (uint32_t)r->w.n;
	h.nlmsg_seq = ++n->seq;
	memcpy(r->bytes, &h, sizeof h);
	do
		sent = sendto(n->fd, r->bytes, r->w.n, 0, NULL, 0);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : 0;
}

/* What one kind of list is made of. */
struct kind {
	uint16_t request, entry; /* RTM_ */
	size_t body_bytes;       /* of the request */
	size_t item_bytes;
	bool (*read)(struct span body, void *item);
};

struct items {
	uint8_t *p; /* items of one kind in a row, allocated */
	size_t n, cap;
};

/* What has come of an answer: to a change it is one acknowledgement, to a dump a row of entries and
 * an end. */
struct answer {
	const struct kind *kind; /* NULL: a change */
	struct items items;
	bool interrupted; /* the list changed while it was read */
	bool done;
	int rc;
};

static int make_room(struct items *l, size_t item_bytes)
{
	size_t cap = l->cap ? 2 * l->cap : 16;
	void *p;

	if (l->n < l->cap)
		return 0;
	if (cap > NETLINK_LIST_MAX)
		return -E2BIG;
	p = realloc(l->p, cap * item_bytes);
	if (!p)
		return -ENOMEM;
	l->p = p;
	l->cap = cap;
	return 0;
}

/* After a failure the rest is read and dropped: a dump that has not ended would be in the way of
 * the next one. */
static void take_entry(struct answer *a, struct span body)
{
	struct items *l = &a->items;

	if (a->rc == 0)
		a->rc = make_room(l, a->kind->item_bytes);
	if (a->rc == 0 && a->kind->read(body, l->p + l->n * a->kind->item_bytes))
		l->n++;
}

/* Both kinds of end begin with 0 or -errno. */
static void take_end(struct answer *a, struct span body)
{
	struct rd r = rd_of(body);
	int rc;

	rd_struct(&r, &rc, sizeof rc);
	a->done = true;
	if (a->rc == 0)
		a->rc = r.err != E_OK || rc > 0 ? -EBADMSG : rc;
}

static void take_message(
    const struct netlink *n, struct answer *a, const struct nlmsghdr *h, struct span body)
{
	/* The late answer to a request that was given up. */
	if (h->nlmsg_seq != n->seq || h->nlmsg_pid != n->port)
		return;
	if (h->nlmsg_flags & NLM_F_DUMP_INTR)
		a->interrupted = true;
	if (h->nlmsg_type == NLMSG_ERROR || h->nlmsg_type == NLMSG_DONE)
		take_end(a, body);
	else if (a->kind && h->nlmsg_type == a->kind->entry)
		take_entry(a, body);
}

/* 0, or -EBADMSG for a datagram that is malformed. */
static int take_datagram(const struct netlink *n, struct answer *a, struct span datagram)
{
	struct rd r = rd_of(datagram);
	struct nlmsghdr h;
	struct span body;

	while (!a->done && rd_message(&r, &h, &body))
		take_message(n, a, &h, body);
	return r.err == E_OK ? 0 : -EBADMSG;
}

/* Sends a request and reads the whole answer. */
static int exchange(struct netlink *n, struct request *r, struct answer *a)
{
	uint64_t deadline_ns = clock_mono_ns() + NETLINK_WAIT_MS * NS_PER_MS;
	uint8_t buf[RECEIVE_BYTES];
	int rc = send_request(n, r);

	while (rc == 0 && !a->done) {
		ssize_t got = receive(n->fd, buf);

		if (got == -EAGAIN || clock_mono_ns() > deadline_ns)
			return -ETIMEDOUT;
		rc = got < 0 ? (int)got : take_datagram(n, a, span_of(buf, (size_t)got));
	}
	return rc < 0 ? rc : a->rc;
}

/* --- lists ------------------------------------------------------------------------------------ */

static const struct kind links = {
    RTM_GETLINK, RTM_NEWLINK, sizeof(struct ifinfomsg), sizeof(struct netlink_link), read_link};
static const struct kind addrs = {
    RTM_GETADDR, RTM_NEWADDR, sizeof(struct ifaddrmsg), sizeof(struct netlink_addr), read_addr};
static const struct kind routes = {
    RTM_GETROUTE, RTM_NEWROUTE, sizeof(struct rtmsg), sizeof(struct netlink_route), read_route};

/* A list as a->items, to be freed by the caller, also on failure. */
static int list(struct netlink *n, const struct kind *kind, struct answer *a)
{
	static const uint8_t all[sizeof(struct ifinfomsg)]; /* AF_UNSPEC, and no other condition */
	struct request r;
	int rc;

	*a = (struct answer){.kind = kind};
	for (int tries = 0; tries < DUMP_TRIES; tries++) {
		a->items.n = 0;
		a->interrupted = a->done = false;
		begin(&r, kind->request, NLM_F_DUMP, span_of(all, kind->body_bytes));
		rc = exchange(n, &r, a);
		if (rc < 0 || !a->interrupted)
			return rc;
	}
	return -EAGAIN;
}

/* The kernel tells of them nearly in that order. */
static void sort_by_index(struct netlink_link *link, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		struct netlink_link moved = link[i];
		size_t at = i;

		for (; at > 0 && link[at - 1].index > moved.index; at--)
			link[at] = link[at - 1];
		link[at] = moved;
	}
}

int netlink_links(struct netlink *n, netlink_link_fn *fn, void *ctx)
{
	struct answer a;
	int rc = list(n, &links, &a);
	struct netlink_link *link = (void *)a.items.p;

	if (rc == 0)
		sort_by_index(link, a.items.n);
	for (size_t i = 0; rc == 0 && i < a.items.n; i++)
		fn(ctx, &link[i]);
	free(a.items.p);
	return rc;
}

int netlink_addrs(struct netlink *n, int index, netlink_addr_fn *fn, void *ctx)
{
	struct answer a;
	int rc = list(n, &addrs, &a);
	const struct netlink_addr *addr = (const void *)a.items.p;

	for (size_t i = 0; rc == 0 && i < a.items.n; i++)
		if (index == 0 || addr[i].index == index)
			fn(ctx, &addr[i]);
	free(a.items.p);
	return rc;
}

int netlink_routes(struct netlink *n, netlink_route_fn *fn, void *ctx)
{
	struct answer a;
	int rc = list(n, &routes, &a);
	const struct netlink_route *route = (const void *)a.items.p;

	for (size_t i = 0; rc == 0 && i < a.items.n; i++)
		fn(ctx, &route[i]);
	free(a.items.p);
	return rc;
}

/* --- changes ---------------------------------------------------------------------------------- */

static int change(struct netlink *n, struct request *r)
{
	struct answer a = {0};
	return exchange(n, r, &a);
}

static uint8_t family_of(const struct ip *ip)
{
	return ip->family == 4 ? AF_INET : AF_INET6;
}

/* The kernel leaves flags alone that are so already, and tells nobody. */
int netlink_link_up(struct netlink *n, int index, bool up)
{
	struct ifinfomsg info = {
	    .ifi_index = index,
	    .ifi_flags = up ? IFF_UP : 0,
	    .ifi_change = IFF_UP,
	};
	struct request r;

	begin(&r, RTM_NEWLINK, NLM_F_ACK, span_of(&info, sizeof info));
	return change(n, &r);
}

int netlink_link_mtu(struct netlink *n, int index, uint32_t mtu)
{
	struct ifinfomsg info = {.ifi_index = index};
	struct request r;

	begin(&r, RTM_NEWLINK, NLM_F_ACK, span_of(&info, sizeof info));
	put_u32(&r, IFLA_MTU, mtu);
	return change(n, &r);
}

/* One that is gone already is absent, as it should be. */
int netlink_link_del(struct netlink *n, int index)
{
	struct ifinfomsg info = {.ifi_index = index};
	struct request r;
	int rc;

	begin(&r, RTM_DELLINK, NLM_F_ACK, span_of(&info, sizeof info));
	rc = change(n, &r);
	return rc == -ENODEV ? 0 : rc;
}

static void begin_addr(
    struct request *r, uint16_t type, uint16_t flags, const struct netlink_addr *a)
{
	struct ifaddrmsg info = {
	    .ifa_family = family_of(&a->ip),
	    .ifa_prefixlen = a->prefix,
	    .ifa_scope = a->scope,
	    .ifa_index = (uint32_t)a->index,
	};

	begin(r, type, NLM_F_ACK | flags, span_of(&info, sizeof info));
	put(r, IFA_LOCAL, ip_bytes(&a->ip));
	put(r, IFA_ADDRESS, ip_bytes(a->peer.family ? &a->peer : &a->ip));
}

/* The address of the subnet whose host bits are all 1. */
static struct ip broadcast_of(struct ip ip, unsigned prefix)
{
	for (unsigned bit = prefix; bit < 32; bit++)
		ip.b[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
	return ip;
}

int netlink_addr_set(struct netlink *n, const struct netlink_addr *a)
{
	struct ifa_cacheinfo times = {.ifa_prefered = a->valid_secs, .ifa_valid = a->valid_secs};
	struct ip broadcast;
	struct request r;

	begin_addr(&r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, a);
	if (a->ip.family == 4 && !a->peer.family && a->prefix <= BROADCAST_PREFIX_MAX) {
		broadcast = broadcast_of(a->ip, a->prefix);
		put(&r, IFA_BROADCAST, ip_bytes(&broadcast));
	}
	put_u32(&r, IFA_FLAGS, a->flags);
	put(&r, IFA_CACHEINFO, span_of(&times, sizeof times));
	return change(n, &r);
}

/* An address goes with its link, so that one whose link is gone is absent, too. */
int netlink_addr_del(struct netlink *n, const struct netlink_addr *a)
{
	struct request r;
	int rc;

	begin_addr(&r, RTM_DELADDR, 0, a);
	rc = change(n, &r);
	return rc == -EADDRNOTAVAIL || rc == -ENODEV || rc == -ENXIO ? 0 : rc;
}

int netlink_route_set(struct netlink *n, const struct netlink_route *route)
{
	struct rtmsg info = {
	    .rtm_family = family_of(&route->to),
	    .rtm_dst_len = route->prefix,
	    .rtm_table = route->table ? route->table : RT_TABLE_MAIN,
	    .rtm_protocol = route->protocol,
	    .rtm_scope = route->scope,
	    .rtm_type = RTN_UNICAST,
	};
	struct request r;

	begin(&r, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
	    span_of(&info, sizeof info));
	put(&r, RTA_DST, ip_bytes(&route->to));
	if (route->via.family)
		put(&r, RTA_GATEWAY, ip_bytes(&route->via));
	if (route->src.family)
		put(&r, RTA_PREFSRC, ip_bytes(&route->src));
	put_u32(&r, RTA_OIF, (uint32_t)route->index);
	put_u32(&r, RTA_PRIORITY, route->metric);
	return change(n, &r);
}

/* --- events ----------------------------------------------------------------------------------- */

static void tell(struct netlink_watch *w, struct span datagram)
{
	struct rd r = rd_of(datagram);
	struct netlink_link link;
	struct nlmsghdr h;
	struct span body;

	while (w->source.fd >= 0 && rd_message(&r, &h, &body))
		if ((h.nlmsg_type == RTM_NEWLINK || h.nlmsg_type == RTM_DELLINK) &&
		    read_link(body, &link))
			w->fn(w, &link, h.nlmsg_type == RTM_DELLINK);
}

static int on_events(struct source *s, uint32_t events)
{
	struct netlink_watch *w = container_of(s, struct netlink_watch, source);
	uint8_t buf[RECEIVE_BYTES];

	(void)events;
	for (unsigned i = 0; i < LOOP_EVENTS && s->fd >= 0; i++) {
		ssize_t n = receive(s->fd, buf);

		if (n == -EAGAIN)
			return 0;
		if (n >= 0)
			tell(w, span_of(buf, (size_t)n));
		else if (n == -ENOBUFS || n == -EMSGSIZE)
			w->lost(w);
		else
			return (int)n;
	}
	return 0;
}

int netlink_watch_start(struct netlink_watch *w, struct loop *l)
{
	int fd = socket_new(SOCK_NONBLOCK, RTMGRP_LINK);
	int rc;

	if (fd < 0)
		return fd;
	w->source.fn = on_events;
	w->source.name = "netlink";
	rc = source_add(l, &w->source, fd, EPOLLIN);
	if (rc < 0)
		close(fd);
	return rc;
}

void netlink_watch_stop(struct netlink_watch *w)
{
	source_remove(&w->source);
}
