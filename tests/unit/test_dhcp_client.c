#include "init/dhcp_client.h"

#include "base/log.h"
#include "codec/udpip.h"
#include "fault.h"
#include "suite.h"
#include "sys/packet.h"
#include "sys/timer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* The client against a network and a clock of the test's own: the functions of sys/packet.h are
 * defined here, and time goes from timer to timer without anybody waiting. */

enum { IFINDEX = 7, LEASE_SECS = 3600, FOREVER_SECS = 1000000 };

static const struct ip unset = {4, {0}}, everybody = {4, {255, 255, 255, 255}};
static const struct ip address = {4, {10, 0, 2, 15}};
static const struct ip server = {4, {10, 0, 2, 2}}, other = {4, {10, 0, 2, 3}};

static const uint8_t mac[] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};

static struct loop loop;
static struct dhcp_client *client;
static unsigned fds;
static uint64_t start_ns;

/* --- the network ----------------------------------------------------------------------------- */

/* What the client sent last. */
struct sent {
	uint8_t type;
	bool to_all;
	struct ip from, to;
	struct ip ciaddr, address, server; /* family 0: the option is not there */
	uint32_t xid;
	uint16_t secs;
	uint64_t at_ns;
	char hostname[HOSTNAME_BYTES + 1];
};

static struct {
	struct sent last;
	unsigned sent, opened, udp_opened;
	int peer;   /* the network's end of the packet socket; -1: it was never open */
	bool vouch; /* the kernel says that sums are right */
	int open_rc, send_rc, udp_open_rc, udp_send_rc, receive_rc; /* what fails from now on */
	struct ip udp_from;
} net;

const uint8_t packet_broadcast[PACKET_MAC_BYTES] = {255, 255, 255, 255, 255, 255};

int packet_open(int ifindex, uint16_t port)
{
	int pair[2];

	ck_assert_int_eq(ifindex, IFINDEX);
	ck_assert_uint_eq(port, DHCP_CLIENT_PORT);
	if (net.open_rc)
		return net.open_rc;
	ck_assert_int_eq(
	    socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	if (net.peer >= 0)
		close(net.peer);
	net.peer = pair[1];
	net.opened++;
	return pair[0];
}

static struct ip ip_at(const uint8_t *p)
{
	return ip_v4(p[0], p[1], p[2], p[3]);
}

static void take_option(struct sent *s, uint8_t code, struct span value)
{
	switch (code) {
	case 12: ck_assert(span_to_cstr(value, s->hostname, sizeof s->hostname)); break;
	case 50: s->address = ip_at(value.p); break;
	case 53: s->type = value.p[0]; break;
	case 54: s->server = ip_at(value.p); break;
	default: break;
	}
}

static void take_message(struct span message)
{
	struct sent *s = &net.last;
	struct rd r = rd_of(message);
	uint8_t code;

	*s = (struct sent){.at_ns = loop.now_ns};
	ck_assert_uint_eq(rd_u32be(&r), 0x01010600);
	s->xid = rd_u32be(&r);
	s->secs = rd_u16be(&r);
	rd_bytes(&r, 2);
	s->ciaddr = ip_at(rd_bytes(&r, 4).p);
	rd_bytes(&r, 12);
	ck_assert_mem_eq(rd_bytes(&r, 16).p, mac, sizeof mac);
	rd_bytes(&r, 64 + 128 + 4);
	while ((code = rd_u8(&r)) != 255)
		take_option(s, code, rd_bytes(&r, rd_u8(&r)));
	ck_assert_int_eq(r.err, E_OK);
	net.sent++;
}

int packet_send(int fd, int ifindex, const uint8_t to[PACKET_MAC_BYTES], struct span packet)
{
	struct udpip datagram;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ifindex, IFINDEX);
	ck_assert_mem_eq(to, packet_broadcast, PACKET_MAC_BYTES);
	ck_assert_int_eq(udpip_read(packet, false, &datagram), E_OK);
	ck_assert_uint_eq(datagram.from_port, DHCP_CLIENT_PORT);
	ck_assert_uint_eq(datagram.to_port, DHCP_SERVER_PORT);
	take_message(datagram.payload);
	net.last.to_all = true;
	net.last.from = datagram.from;
	net.last.to = datagram.to;
	return net.send_rc;
}

ssize_t packet_receive(int fd, void *buf, size_t cap, bool *checked)
{
	ssize_t n;

	if (net.receive_rc)
		return net.receive_rc;
	n = recv(fd, buf, cap, MSG_TRUNC);
	if (n < 0)
		return -errno;
	*checked = net.vouch;
	return (size_t)n > cap ? -EMSGSIZE : n;
}

int packet_udp_open(int ifindex, const struct addr *from)
{
	int fd;

	ck_assert_int_eq(ifindex, IFINDEX);
	ck_assert_uint_eq(addr_port(from), DHCP_CLIENT_PORT);
	ck_assert(addr_to_ip(from, &net.udp_from));
	if (net.udp_open_rc)
		return net.udp_open_rc;
	fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	net.udp_opened++;
	return fd;
}

int packet_udp_send(int fd, const struct addr *to, struct span payload)
{
	ck_assert_int_ge(fd, 0);
	ck_assert_uint_eq(addr_port(to), DHCP_SERVER_PORT);
	take_message(payload);
	net.last.from = net.udp_from;
	ck_assert(addr_to_ip(to, &net.last.to));
	return net.udp_send_rc;
}

/* --- the server ------------------------------------------------------------------------------ */

struct answer {
	enum dhcp_type type;
	struct ip address, server;
	uint32_t lease_secs, renew_secs, rebind_secs; /* 0: the option is left out */
	uint32_t xid;                                 /* 0: as asked */
};

static void put_u32(struct wr *w, uint8_t code, uint32_t v)
{
	if (v == 0)
		return;
	wr_u8(w, code);
	wr_u8(w, 4);
	wr_u32be(w, v);
}

static uint32_t bits(const struct ip *ip)
{
	struct rd r = rd_of(ip_bytes(ip));

	return rd_u32be(&r);
}

static void answer_write(struct wr *w, const struct answer *a)
{
	static const uint8_t zeros[236];

	wr_u32be(w, 0x02010600);
	wr_u32be(w, a->xid ? a->xid : net.last.xid);
	wr_u32be(w, 0);
	wr_u32be(w, 0);
	wr_u32be(w, bits(&a->address));
	wr_bytes(w, span_of(zeros, 8));
	wr_bytes(w, span_of(mac, sizeof mac));
	wr_bytes(w, span_of(zeros, 10 + 64 + 128));
	wr_u32be(w, 0x63825363);
	wr_u8(w, 53);
	wr_u8(w, 1);
	wr_u8(w, (uint8_t)a->type);
	put_u32(w, 54, bits(&a->server));
	put_u32(w, 51, a->lease_secs);
	put_u32(w, 58, a->renew_secs);
	put_u32(w, 59, a->rebind_secs);
	put_u32(w, 1, 0xffffff00);
	wr_u8(w, 255);
}

/* Puts a packet on the wire; the client has to be there to hear it. */
static void transmit(struct span packet)
{
	ck_assert_int_ge(net.peer, 0);
	(void)!send(net.peer, packet.p, packet.n, MSG_NOSIGNAL);
}

/* What the loop does in a turn, but for the clock. */
static void deliver(void)
{
	struct epoll_event ev;

	while (epoll_wait(loop.epfd, &ev, 1, 0) == 1) {
		struct source *s = ev.data.ptr;

		ck_assert_int_eq(s->fn(s, ev.events), 0);
		loop_bury(&loop);
	}
}

static void send_answer(const struct answer *a)
{
	uint8_t message[512], packet[600];
	struct wr m = wr_of(message, sizeof message), p = wr_of(packet, sizeof packet);

	answer_write(&m, a);
	udpip_write(&p,
	    &(struct udpip){
		.from = a->server,
		.to = everybody,
		.from_port = DHCP_SERVER_PORT,
		.to_port = DHCP_CLIENT_PORT,
		.payload = wr_span(&m),
	    });
	ck_assert_int_eq(p.err, E_OK);
	transmit(wr_span(&p));
	deliver();
}

static struct answer usual(enum dhcp_type type)
{
	return (struct answer){
	    .type = type, .address = address, .server = server, .lease_secs = LEASE_SECS};
}

static void answer(enum dhcp_type type)
{
	struct answer a = usual(type);

	send_answer(&a);
}

static void answer_from(enum dhcp_type type, struct ip from)
{
	struct answer a = usual(type);

	a.server = from;
	send_answer(&a);
}

/* --- the owner ------------------------------------------------------------------------------- */

static struct {
	unsigned bound, lost;
	bool has;
	bool frees; /* the client, when it is told */
	struct dhcp_lease lease;
} owner;

static void free_client(bool release)
{
	dhcp_client_free(client, release);
	client = NULL;
}

static void on_bound(void *ctx, const struct dhcp_lease *lease)
{
	ck_assert_ptr_eq(ctx, &owner);
	ck_assert_ptr_eq(lease, dhcp_client_lease(client));
	owner.lease = *lease;
	owner.has = true;
	owner.bound++;
	if (owner.frees)
		free_client(false);
}

static void on_lost(void *ctx, const struct dhcp_lease *lease)
{
	ck_assert_ptr_eq(ctx, &owner);
	ck_assert(owner.has);
	ck_assert(ip_eq(&lease->address, &owner.lease.address));
	ck_assert_ptr_null(dhcp_client_lease(client));
	owner.has = false;
	owner.lost++;
	if (owner.frees)
		free_client(false);
}

static const struct dhcp_ops ops = {on_bound, on_lost};

static struct dhcp_conf conf(void)
{
	return (struct dhcp_conf){
	    .ifindex = IFINDEX,
	    .ifname = "eth0",
	    .mac = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56},
	    .hostname = "vm1",
	    .ops = &ops,
	    .ctx = &owner,
	    .retry_ms = 1000,
	    .retry_max_ms = 64000,
	    .renew_retry_ms = 60000,
	    .min_lease_secs = 2,
	    .max_lease_secs = DHCP_INFINITE_SECS,
	};
}

/* --- time ------------------------------------------------------------------------------------ */

static void run_timers(uint64_t now_ns)
{
	loop.now_ns = now_ns;
	timers_run(&loop);
	loop_bury(&loop);
	deliver();
}

/* Goes to the next timer, but no further than `end_ns`. False when there is none before. */
static bool step_before(uint64_t end_ns)
{
	if (!loop.timers || loop.timers->at_ns > end_ns)
		return false;
	run_timers(loop.timers->at_ns > loop.now_ns ? loop.timers->at_ns : loop.now_ns);
	return true;
}

static void run_secs(double secs)
{
	uint64_t end_ns = loop.now_ns + (uint64_t)(secs * 1e9);

	while (step_before(end_ns))
		;
	loop.now_ns = end_ns;
}

/* Lets time go by until the client has sent one more message. */
static const struct sent *next_sent(void)
{
	unsigned before = net.sent;

	while (net.sent == before)
		ck_assert_msg(step_before(loop.now_ns + FOREVER_SECS * NS_PER_SEC),
		    "the client sends nothing any more");
	ck_assert_uint_eq(net.sent, before + 1);
	return &net.last;
}

static double secs_since(uint64_t ns)
{
	return (double)(loop.now_ns - ns) / 1e9;
}

/* Nothing is sent for so long. */
static void quiet_secs(double secs)
{
	unsigned before = net.sent;

	run_secs(secs);
	ck_assert_uint_eq(net.sent, before);
}

/* --- getting anywhere ------------------------------------------------------------------------ */

static void start_with(const struct dhcp_conf *c)
{
	client = dhcp_client_new(&loop, c);
	ck_assert_ptr_nonnull(client);
	ck_assert_ptr_null(dhcp_client_lease(client));
}

static void start(void)
{
	struct dhcp_conf c = conf();

	start_with(&c);
}

static void expect_sent(uint8_t type, struct ip from, struct ip to)
{
	ck_assert_uint_eq(net.last.type, type);
	ck_assert(ip_eq(&net.last.from, &from));
	ck_assert(ip_eq(&net.last.to, &to));
}

static void expect_to_all(uint8_t type)
{
	expect_sent(type, unset, everybody);
	ck_assert(net.last.to_all);
}

static void get_offer(void)
{
	start();
	next_sent();
	expect_to_all(DHCP_DISCOVER);
	answer(DHCP_OFFER);
	expect_to_all(DHCP_REQUEST);
}

static void get_lease_of(const struct answer *a)
{
	struct answer offer = *a;

	offer.type = DHCP_OFFER;
	start();
	next_sent();
	send_answer(&offer);
	send_answer(a);
	ck_assert_uint_eq(owner.bound, 1);
	ck_assert_ptr_nonnull(dhcp_client_lease(client));
}

static void get_lease(void)
{
	struct answer a = usual(DHCP_ACK);

	get_lease_of(&a);
}

static void get_to_renewing(void)
{
	get_lease();
	next_sent();
	expect_sent(DHCP_REQUEST, address, server);
}

static void get_to_rebinding(void)
{
	get_to_renewing();
	while (!next_sent()->to_all)
		;
	expect_sent(DHCP_REQUEST, address, everybody);
}

static void get_to_rebooting(void)
{
	get_lease();
	dhcp_client_link(client, false);
	dhcp_client_link(client, true);
	deliver();
	expect_to_all(DHCP_REQUEST);
	ck_assert_uint_eq(net.last.server.family, 0);
}

static void setup(void)
{
	struct span bad;

	ck_assert_int_eq(log_filter(span_str("off"), &bad), E_OK);
	fds = fault_fds();
	ck_assert_int_eq(loop_init(&loop), 0);
	net.peer = -1;
	start_ns = loop.now_ns;
}

static void teardown(void)
{
	dhcp_client_free(client, false);
	if (net.peer >= 0)
		close(net.peer);
	loop_bury(&loop);
	ck_assert_ptr_null(loop.timers);
	loop_done(&loop);
	ck_assert_uint_eq(fault_fds(), fds);
}

/* --- getting a lease ------------------------------------------------------------------------- */

START_TEST(four_messages)
{
	uint32_t xid;

	start();
	ck_assert_uint_eq(net.sent, 0); /* not before the loop turns */
	next_sent();
	ck_assert_uint_eq(loop.now_ns, start_ns);
	expect_to_all(DHCP_DISCOVER);
	ck_assert_uint_eq(net.last.address.family, 0);
	ck_assert_str_eq(net.last.hostname, "vm1");
	xid = net.last.xid;
	answer(DHCP_OFFER);
	expect_to_all(DHCP_REQUEST);
	ck_assert_uint_eq(net.last.xid, xid);
	ck_assert(ip_eq(&net.last.address, &address));
	ck_assert(ip_eq(&net.last.server, &server));
	ck_assert(ip_eq(&net.last.ciaddr, &unset));
	ck_assert_uint_eq(owner.bound, 0);
	answer(DHCP_ACK);
	ck_assert_uint_eq(owner.bound, 1);
	ck_assert(ip_eq(&owner.lease.address, &address));
	ck_assert(ip_eq(&owner.lease.server, &server));
	ck_assert_uint_eq(owner.lease.prefix, 24);
	ck_assert_uint_eq(owner.lease.lease_secs, LEASE_SECS);
	ck_assert_uint_eq(owner.lease.renew_secs, LEASE_SECS / 2);
	ck_assert_uint_eq(owner.lease.rebind_secs, LEASE_SECS / 8 * 7);
	ck_assert_uint_eq(owner.lease.bound_ns, loop.now_ns);
	ck_assert_uint_eq(fault_fds(), fds + 3); /* the loop's two, and the network's end */
	quiet_secs(LEASE_SECS / 2 - 1);
}
END_TEST

/* Whether so much time has gone by since: so many seconds, give or take a quarter or one. */
static bool about(uint64_t since_ns, double secs)
{
	double jitter = secs / 4 < 1 ? secs / 4 : 1, gone = secs_since(since_ns);

	return gone > secs - jitter - 0.001 && gone < secs + jitter + 0.001;
}

START_TEST(discovers_for_ever)
{
	static const double waits[] = {1, 2, 4, 8, 16, 32, 64, 64, 64};
	uint64_t last_ns;
	uint32_t xid;

	start();
	last_ns = next_sent()->at_ns;
	xid = net.last.xid;
	for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
		next_sent();
		expect_to_all(DHCP_DISCOVER);
		ck_assert_uint_eq(net.last.xid, xid);
		ck_assert_uint_eq(net.last.secs, (loop.now_ns - start_ns) / NS_PER_SEC);
		ck_assert_msg(
		    about(last_ns, waits[i]), "wait %zu was %f s", i, secs_since(last_ns));
		last_ns = loop.now_ns;
	}
	run_secs(7 * 86400);
	ck_assert_uint_gt(net.sent, 7 * 86400 / 65);
	ck_assert_uint_eq(net.last.secs, UINT16_MAX);
	ck_assert_uint_eq(net.opened, 1);
	answer(DHCP_OFFER);
	answer(DHCP_ACK);
	ck_assert_uint_eq(owner.bound, 1);
}
END_TEST

/* The waits are not all the same. */
START_TEST(jitter)
{
	double least = 1e9, most = 0;

	for (unsigned i = 0; i < 100; i++) {
		uint64_t began_ns;

		start();
		began_ns = next_sent()->at_ns;
		next_sent();
		least = secs_since(began_ns) < least ? secs_since(began_ns) : least;
		most = secs_since(began_ns) > most ? secs_since(began_ns) : most;
		free_client(false);
		loop_bury(&loop);
	}
	ck_assert(least < 0.85 && most > 1.15);
}
END_TEST

/* Loses the nth message of the exchange, either way; the next try makes up for it. */
START_TEST(each_message_lost_in_turn)
{
	for (unsigned lost = 0; lost < 4; lost++) {
		unsigned bound = owner.bound;

		start();
		next_sent();
		if (lost == 0 || lost == 1)
			next_sent();
		answer(DHCP_OFFER);
		expect_to_all(DHCP_REQUEST);
		if (lost == 2 || lost == 3)
			next_sent();
		expect_to_all(DHCP_REQUEST);
		answer(DHCP_ACK);
		ck_assert_uint_eq(owner.bound, bound + 1);
		ck_assert_uint_eq(owner.lease.bound_ns, net.last.at_ns);
		free_client(false);
		owner.has = false;
	}
}
END_TEST

START_TEST(half_of_all_lost)
{
	for (unsigned round = 0; round < 200; round++) {
		unsigned bound = owner.bound;

		start();
		while (owner.bound == bound) {
			next_sent();
			while (rand() % 2 && owner.bound == bound)
				answer(net.last.type == DHCP_DISCOVER ? DHCP_OFFER : DHCP_ACK);
		}
		free_client(false);
		owner.has = false;
	}
}
END_TEST

START_TEST(offer_goes_stale)
{
	static const double waits[] = {1, 2, 4};
	uint32_t xid;
	uint16_t secs;
	uint64_t last_ns;

	start();
	next_sent();
	run_secs(20);
	answer(DHCP_OFFER);
	xid = net.last.xid;
	secs = net.last.secs;
	last_ns = loop.now_ns;
	for (size_t i = 0; i < 3; i++) {
		next_sent();
		expect_to_all(DHCP_REQUEST);
		ck_assert(about(last_ns, waits[i]));
		ck_assert_uint_eq(net.last.xid, xid);
		ck_assert_uint_eq(net.last.secs, secs);
		last_ns = loop.now_ns;
	}
	next_sent();
	ck_assert(about(last_ns, 8));
	expect_to_all(DHCP_DISCOVER);
	ck_assert_uint_ne(net.last.xid, xid);
	ck_assert(ip_eq(&net.last.address, &address)); /* it may still be had */
	answer(DHCP_OFFER);
	answer(DHCP_ACK);
	ck_assert_uint_eq(owner.bound, 1);
}
END_TEST

START_TEST(first_offer_taken)
{
	get_offer();
	answer_from(DHCP_OFFER, other);
	ck_assert_uint_eq(net.sent, 2);
	answer_from(DHCP_ACK, other);
	answer_from(DHCP_NAK, other);
	ck_assert_uint_eq(owner.bound, 0);
	answer(DHCP_ACK);
	ck_assert_uint_eq(owner.bound, 1);
}
END_TEST

START_TEST(nak_for_an_offer)
{
	uint64_t last_ns;

	get_offer();
	answer(DHCP_NAK);
	last_ns = loop.now_ns;
	next_sent();
	expect_to_all(DHCP_DISCOVER);
	ck_assert_uint_eq(net.last.address.family, 0);
	ck_assert_uint_eq(loop.now_ns, last_ns); /* at once for this time */
	for (unsigned wait = 1; wait <= 256; wait *= 2) {
		answer(DHCP_OFFER);
		answer(DHCP_NAK);
		last_ns = loop.now_ns;
		next_sent();
		ck_assert(about(last_ns, wait < 64 ? wait : 64));
		expect_to_all(DHCP_DISCOVER);
	}
	answer(DHCP_OFFER);
	answer(DHCP_ACK);
	ck_assert_uint_eq(owner.bound, 1);
	ck_assert_uint_eq(owner.lost, 0);
}
END_TEST

START_TEST(address_asked_for_again)
{
	struct dhcp_conf c = conf();

	c.address = address;
	c.hostname = NULL;
	start_with(&c);
	next_sent();
	expect_to_all(DHCP_REQUEST);
	ck_assert(ip_eq(&net.last.address, &address));
	ck_assert_uint_eq(net.last.server.family, 0);
	ck_assert_str_eq(net.last.hostname, "");
	answer_from(DHCP_ACK, other); /* any server's word counts */
	ck_assert_uint_eq(owner.bound, 1);
	ck_assert(ip_eq(&owner.lease.server, &other));
}
END_TEST

START_TEST(address_nobody_knows)
{
	struct dhcp_conf c = conf();

	c.address = address;
	start_with(&c);
	next_sent();
	next_sent();
	expect_to_all(DHCP_REQUEST);
	next_sent();
	expect_to_all(DHCP_DISCOVER);
	ck_assert(ip_eq(&net.last.address, &address));
	ck_assert(secs_since(start_ns) < 4);
}
END_TEST

START_TEST(address_refused)
{
	struct dhcp_conf c = conf();

	c.address = address;
	start_with(&c);
	next_sent();
	answer(DHCP_NAK);
	next_sent();
	ck_assert_uint_eq(loop.now_ns, start_ns);
	expect_to_all(DHCP_DISCOVER);
	ck_assert_uint_eq(net.last.address.family, 0);
	ck_assert_uint_eq(owner.lost, 0);
}
END_TEST

/* --- keeping it ------------------------------------------------------------------------------ */

START_TEST(renewed)
{
	uint64_t bound_ns;

	get_lease();
	bound_ns = loop.now_ns;
	next_sent();
	ck_assert_uint_eq(loop.now_ns - bound_ns, LEASE_SECS / 2 * NS_PER_SEC);
	expect_sent(DHCP_REQUEST, address, server);
	ck_assert(!net.last.to_all);
	ck_assert(ip_eq(&net.last.ciaddr, &address));
	ck_assert_uint_eq(net.last.address.family, 0);
	ck_assert_uint_eq(net.last.server.family, 0);
	answer_from(DHCP_ACK, other);
	answer_from(DHCP_NAK, other);
	answer(DHCP_OFFER);
	ck_assert_uint_eq(owner.bound, 1);
	answer(DHCP_ACK);
	ck_assert_uint_eq(owner.bound, 2);
	ck_assert_uint_eq(owner.lost, 0);
	ck_assert_uint_eq(owner.lease.bound_ns, net.last.at_ns);
	ck_assert_uint_eq(fault_fds(), fds + 3);
	next_sent();
	ck_assert_uint_eq(loop.now_ns - owner.lease.bound_ns, LEASE_SECS / 2 * NS_PER_SEC);
}
END_TEST

/* RFC 2131 section 4.4.5: half of what is left, 60 s at least; a lease of an hour has its T1, T2
 * and end after 1800, 3150 and 3600 s. */
START_TEST(renewal_unanswered)
{
	static const double unicast[] = {1800, 2475, 2812.5, 2981.25, 3065.625, 3125.625},
			    broadcast[] = {3150, 3375, 3487.5, 3547.5};
	uint64_t bound_ns;
	uint32_t xid = 0;

	get_lease();
	bound_ns = loop.now_ns;
	for (size_t i = 0; i < sizeof unicast / sizeof *unicast; i++) {
		next_sent();
		ck_assert_double_eq_tol(secs_since(bound_ns), unicast[i], 0.001);
		expect_sent(DHCP_REQUEST, address, server);
		ck_assert_uint_eq(net.last.secs, (unsigned)(unicast[i] - 1800));
	}
	for (size_t i = 0; i < sizeof broadcast / sizeof *broadcast; i++) {
		next_sent();
		ck_assert_double_eq_tol(secs_since(bound_ns), broadcast[i], 0.001);
		expect_sent(DHCP_REQUEST, address, everybody);
		ck_assert(ip_eq(&net.last.ciaddr, &address));
		ck_assert(i == 0 || net.last.xid == xid);
		xid = net.last.xid;
	}
	ck_assert_uint_eq(owner.lost, 0);
	next_sent();
	expect_to_all(DHCP_DISCOVER);
	ck_assert_double_eq_tol(secs_since(bound_ns), 3600, 0.001);
	ck_assert(ip_eq(&net.last.address, &address));
	ck_assert_uint_eq(owner.lost, 1);
	answer(DHCP_OFFER);
	answer(DHCP_ACK);
	ck_assert_uint_eq(owner.bound, 2);
}
END_TEST

START_TEST(rebound_to_another_server)
{
	get_to_rebinding();
	answer_from(DHCP_ACK, other);
	ck_assert_uint_eq(owner.bound, 2);
	ck_assert(ip_eq(&owner.lease.server, &other));
	next_sent();
	expect_sent(DHCP_REQUEST, address, other);
}
END_TEST

START_TEST(renewed_with_another_address)
{
	struct answer a = usual(DHCP_ACK);

	a.address = ip_v4(10, 0, 2, 16);
	get_to_renewing();
	send_answer(&a);
	ck_assert_uint_eq(owner.bound, 2);
	ck_assert_uint_eq(owner.lost, 0);
	ck_assert(ip_eq(&owner.lease.address, &a.address));
	next_sent();
	expect_sent(DHCP_REQUEST, a.address, server);
}
END_TEST

static void nak_ends_it(void)
{
	uint64_t now_ns = loop.now_ns;

	answer(DHCP_NAK);
	ck_assert_uint_eq(owner.lost, 1);
	ck_assert_ptr_null(dhcp_client_lease(client));
	next_sent();
	expect_to_all(DHCP_DISCOVER);
	ck_assert_uint_eq(net.last.address.family, 0);
	ck_assert_uint_eq(loop.now_ns, now_ns);
	answer(DHCP_OFFER);
	answer(DHCP_ACK);
	ck_assert_uint_eq(owner.bound, 2);
	ck_assert_uint_eq(owner.lost, 1);
}

START_TEST(nak_while_renewing)
{
	get_to_renewing();
	nak_ends_it();
}
END_TEST

START_TEST(nak_while_rebinding)
{
	get_to_rebinding();
	nak_ends_it();
}
END_TEST

START_TEST(nak_while_rebooting)
{
	get_to_rebooting();
	nak_ends_it();
}
END_TEST

START_TEST(times)
{
	static const struct {
		uint32_t lease, t1, t2, max, want, want_t1, want_t2;
	} rows[] = {
	    {3600, 0, 0, 0, 3600, 1800, 3150},
	    {3600, 600, 1200, 0, 3600, 600, 1200},
	    {3600, 600, 0, 0, 3600, 600, 3150},
	    {3600, 0, 2000, 0, 3600, 1800, 2000},
	    {3600, 0, 1000, 0, 3600, 1800, 3150}, /* T2 before the usual T1 */
	    {3600, 3200, 0, 0, 3600, 1800, 3150},
	    {3600, 1200, 1200, 0, 3600, 1800, 3150},
	    {3600, 1200, 600, 0, 3600, 1800, 3150},
	    {3600, 600, 3600, 0, 3600, 1800, 3150},
	    {3600, 4000, 5000, 0, 3600, 1800, 3150},
	    {2, 0, 0, 0, 2, 1, 1},
	    {3, 1, 2, 0, 3, 1, 2},
	    {4, 0, 0, 0, 4, 2, 3},
	    {3600, 600, 1200, 1000, 1000, 500, 875},
	    {3600, 300, 600, 1000, 1000, 300, 600},
	    {0xfffffffe, 0, 0, 0, 0xfffffffe, 0x7fffffff, 0xdffffffe},
	    {0xffffffff, 0, 0, 3600, 3600, 1800, 3150},
	    {0xffffffff, 0, 0, 0, 0xffffffff, 0xffffffff, 0xffffffff},
	    {0xffffffff, 60, 120, 0, 0xffffffff, 0xffffffff, 0xffffffff},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct dhcp_conf c = conf();
		struct answer a = usual(DHCP_OFFER);

		a.lease_secs = rows[i].lease;
		a.renew_secs = rows[i].t1;
		a.rebind_secs = rows[i].t2;
		if (rows[i].max)
			c.max_lease_secs = rows[i].max;
		start_with(&c);
		next_sent();
		send_answer(&a);
		a.type = DHCP_ACK;
		send_answer(&a);
		ck_assert_uint_eq(owner.lease.lease_secs, rows[i].want);
		ck_assert_uint_eq(owner.lease.renew_secs, rows[i].want_t1);
		ck_assert_uint_eq(owner.lease.rebind_secs, rows[i].want_t2);
		free_client(false);
		owner.has = false;
	}
}
END_TEST

START_TEST(infinite_lease)
{
	struct answer a = usual(DHCP_ACK);

	a.lease_secs = DHCP_INFINITE_SECS;
	get_lease_of(&a);
	ck_assert_ptr_null(loop.timers);
	dhcp_client_link(client, false);
	dhcp_client_link(client, true);
	expect_to_all(DHCP_REQUEST);
	send_answer(&a);
	ck_assert_ptr_null(loop.timers);
	ck_assert_uint_eq(owner.bound, 2);
}
END_TEST

/* From the shortest lease on, everything happens within it. */
START_TEST(short_leases)
{
	for (uint32_t secs = 2; secs <= 8; secs++) {
		struct answer a = usual(DHCP_ACK);
		unsigned sent, lost = owner.lost;

		owner.bound = 0;
		a.lease_secs = secs;
		get_lease_of(&a);
		sent = net.sent;
		run_secs(secs - 0.001);
		ck_assert_uint_eq(owner.lost, lost);
		ck_assert_uint_ge(net.sent - sent, 2);
		ck_assert_uint_le(net.sent - sent, 16);
		ck_assert(net.last.to_all);
		run_secs(0.001);
		ck_assert_uint_eq(owner.lost, lost + 1);
		free_client(false);
	}
}
END_TEST

START_TEST(too_short_a_lease)
{
	struct answer a = usual(DHCP_OFFER);
	struct dhcp_conf c = conf();

	start();
	next_sent();
	a.lease_secs = 1;
	send_answer(&a);
	ck_assert_uint_eq(net.sent, 1);
	free_client(false);
	c.min_lease_secs = c.max_lease_secs = 0; /* cannot be */
	start_with(&c);
	next_sent();
	send_answer(&a);
	expect_to_all(DHCP_DISCOVER);
	a.lease_secs = 2;
	send_answer(&a);
	a.type = DHCP_ACK;
	send_answer(&a);
	ck_assert_uint_eq(owner.lease.lease_secs, 2);
	free_client(false);
	owner.has = false;
	c = conf();
	c.min_lease_secs = 60;
	start_with(&c);
	next_sent();
	a = usual(DHCP_OFFER);
	send_answer(&a);
	a.type = DHCP_ACK;
	a.lease_secs = 59;
	send_answer(&a);
	ck_assert_uint_eq(owner.bound, 1);
	a.lease_secs = 60;
	send_answer(&a);
	ck_assert_uint_eq(owner.bound, 2);
}
END_TEST

/* The machine slept through T1, T2 and the end. */
START_TEST(asleep)
{
	get_lease();
	run_timers(loop.now_ns + LEASE_SECS * NS_PER_SEC);
	ck_assert_uint_eq(owner.lost, 1);
	next_sent();
	expect_to_all(DHCP_DISCOVER);
}
END_TEST

START_TEST(thousand_renewals)
{
	get_lease();
	fault_arm("malloc", 1, ENOMEM, true); /* nothing is allocated any more */
	for (unsigned i = 0; i < 1000; i++) {
		next_sent();
		expect_sent(DHCP_REQUEST, address, server);
		answer(DHCP_ACK);
		ck_assert_uint_eq(owner.bound, 2 + i);
		ck_assert_uint_eq(fault_fds(), fds + 3);
	}
	ck_assert_uint_eq(owner.lost, 0);
	ck_assert_uint_eq(net.opened, 1001);
	ck_assert_uint_eq(net.udp_opened, 1000);
	ck_assert_double_eq_tol(secs_since(start_ns), 1000.0 * LEASE_SECS / 2, 1);
	fault_disarm();
}
END_TEST

/* --- the link -------------------------------------------------------------------------------- */

START_TEST(link_bounces)
{
	get_lease();
	run_secs(60);
	dhcp_client_link(client, false);
	quiet_secs(60);
	ck_assert_ptr_nonnull(dhcp_client_lease(client));
	dhcp_client_link(client, true);
	ck_assert_double_eq_tol(secs_since(start_ns), 120, 0.001);
	expect_to_all(DHCP_REQUEST);
	ck_assert(ip_eq(&net.last.address, &address));
	ck_assert_ptr_nonnull(dhcp_client_lease(client));
	answer(DHCP_ACK);
	ck_assert_uint_eq(owner.bound, 2);
	ck_assert_uint_eq(owner.lost, 0);
	ck_assert_uint_eq(owner.lease.bound_ns, loop.now_ns);
}
END_TEST

/* Nobody answers: the lease is good all the same. */
START_TEST(link_up_to_silence)
{
	uint64_t bound_ns;

	get_to_rebooting();
	bound_ns = loop.now_ns;
	next_sent();
	expect_to_all(DHCP_REQUEST);
	quiet_secs(100);
	ck_assert_ptr_nonnull(dhcp_client_lease(client));
	next_sent();
	ck_assert_double_eq_tol(secs_since(bound_ns), 1800, 0.001);
	expect_sent(DHCP_REQUEST, address, server);
	answer(DHCP_ACK);
	ck_assert_uint_eq(owner.bound, 2);
}
END_TEST

START_TEST(link_up_after_t1)
{
	get_lease();
	dhcp_client_link(client, false);
	quiet_secs(LEASE_SECS / 2 + 10);
	dhcp_client_link(client, true);
	expect_to_all(DHCP_REQUEST);
	next_sent();
	next_sent(); /* from the second try on it renews */
	expect_sent(DHCP_REQUEST, address, server);
}
END_TEST

START_TEST(lease_ends_without_link)
{
	get_lease();
	dhcp_client_link(client, false);
	quiet_secs(LEASE_SECS - 1);
	ck_assert_uint_eq(owner.lost, 0);
	quiet_secs(2);
	ck_assert_uint_eq(owner.lost, 1);
	quiet_secs(LEASE_SECS);
	dhcp_client_link(client, true);
	expect_to_all(DHCP_DISCOVER);
	ck_assert(ip_eq(&net.last.address, &address));
}
END_TEST

START_TEST(lease_ends_while_confirmed)
{
	struct answer a = usual(DHCP_ACK);

	a.lease_secs = 4;
	get_lease_of(&a);
	run_secs(1.9);
	dhcp_client_link(client, false);
	run_secs(2);
	dhcp_client_link(client, true);
	expect_to_all(DHCP_REQUEST);
	run_secs(0.2);
	ck_assert_uint_eq(owner.lost, 1);
	next_sent();
	expect_to_all(DHCP_DISCOVER);
}
END_TEST

START_TEST(link_before_a_lease)
{
	start();
	dhcp_client_link(client, false);
	quiet_secs(1000);
	dhcp_client_link(client, true);
	expect_to_all(DHCP_DISCOVER);
	ck_assert_uint_eq(net.sent, 1);
	run_secs(1000);
	dhcp_client_link(client, true); /* it was not known to be down: ask now, not in a minute */
	ck_assert_uint_eq(net.last.at_ns, loop.now_ns);
	answer(DHCP_OFFER);
	dhcp_client_link(client, true);
	dhcp_client_link(client, false);
	answer(DHCP_ACK);
	ck_assert_uint_eq(owner.bound, 0);
	dhcp_client_link(client, true);
	expect_to_all(DHCP_DISCOVER);
	answer(DHCP_OFFER);
	answer(DHCP_NAK);
	answer(DHCP_OFFER); /* too late */
	dhcp_client_link(client, true);
	expect_to_all(DHCP_DISCOVER);
	answer(DHCP_OFFER);
	answer(DHCP_ACK);
	ck_assert_uint_eq(owner.bound, 1);
}
END_TEST

START_TEST(link_up_is_no_news)
{
	unsigned sent;

	get_lease();
	sent = net.sent;
	dhcp_client_link(client, true);
	ck_assert_uint_eq(net.sent, sent);
	next_sent();
	sent = net.sent;
	dhcp_client_link(client, true);
	ck_assert_uint_eq(net.sent, sent);
}
END_TEST

START_TEST(link_down_in_each_state)
{
	static void (*const ways[])(void) = {
	    start, get_offer, get_lease, get_to_renewing, get_to_rebinding, get_to_rebooting};

	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		bool leased = i >= 2;

		owner.bound = owner.lost = 0;
		ways[i]();
		dhcp_client_link(client, false);
		quiet_secs(100);
		dhcp_client_link(client, false);
		ck_assert_int_eq(dhcp_client_lease(client) != NULL, leased);
		dhcp_client_link(client, true);
		expect_to_all(leased ? DHCP_REQUEST : DHCP_DISCOVER);
		deliver();
		if (!leased)
			answer(DHCP_OFFER);
		answer(DHCP_ACK);
		ck_assert_uint_eq(owner.bound, leased ? 2 : 1);
		ck_assert_uint_eq(owner.lost, 0);
		free_client(false);
		loop_bury(&loop);
		owner.has = false;
	}
}
END_TEST

/* --- strangers and failures ------------------------------------------------------------------ */

START_TEST(garbage)
{
	static const uint8_t zeros[2000];
	struct answer a = usual(DHCP_OFFER);

	start();
	next_sent();
	for (size_t n = 0; n < sizeof zeros; n += 13) {
		transmit(span_of(zeros, n));
		deliver();
	}
	a.xid = net.last.xid ^ 1;
	send_answer(&a);
	answer(DHCP_ACK);
	answer(DHCP_NAK);
	a = usual(DHCP_OFFER);
	a.address = ip_v4(127, 0, 0, 1);
	send_answer(&a);
	a.address = ip_v4(10, 0, 2, 255);
	send_answer(&a);
	ck_assert_uint_eq(net.sent, 1);
	for (unsigned i = 0; i < 1000; i++) /* more than a turn takes */
		transmit(span_of(zeros, 300));
	deliver();
	answer(DHCP_OFFER);
	answer(DHCP_ACK);
	ck_assert_uint_eq(owner.bound, 1);
	ck_assert_uint_eq(net.opened, 1);
}
END_TEST

/* A sum that was left out is no reason to drop a packet; a wrong one is. */
START_TEST(checksums)
{
	uint8_t message[512], packet[600];
	struct wr m = wr_of(message, sizeof message), p = wr_of(packet, sizeof packet);
	const struct answer a = usual(DHCP_OFFER);

	start();
	next_sent();
	answer_write(&m, &a);
	udpip_write(
	    &p, &(struct udpip){server, address, DHCP_SERVER_PORT, DHCP_CLIENT_PORT, wr_span(&m)});
	packet[26] ^= 1;
	transmit(wr_span(&p));
	deliver();
	ck_assert_uint_eq(net.sent, 1);
	net.vouch = true;
	transmit(wr_span(&p));
	deliver();
	ck_assert_uint_eq(net.sent, 2);
}
END_TEST

START_TEST(socket_cannot_be_opened)
{
	start();
	net.open_rc = -EMFILE;
	run_secs(1000);
	ck_assert_uint_eq(net.sent, 0);
	net.open_rc = 0;
	next_sent();
	expect_to_all(DHCP_DISCOVER);
	answer(DHCP_OFFER);
	answer(DHCP_ACK);
	net.open_rc = -ENODEV;
	run_secs(LEASE_SECS / 8 * 7 + 1);
	ck_assert_uint_eq(owner.lost, 0);
	net.open_rc = 0;
	next_sent();
	answer(DHCP_ACK);
	ck_assert_uint_eq(owner.bound, 2);
	net.open_rc = -ENODEV;
	run_secs(LEASE_SECS + 1);
	ck_assert_uint_eq(owner.lost, 1);
}
END_TEST

START_TEST(nothing_can_be_sent)
{
	start();
	net.send_rc = -ENETDOWN;
	run_secs(100);
	ck_assert_uint_gt(net.sent, 5);
	net.send_rc = -ENOBUFS;
	run_secs(100);
	net.send_rc = 0;
	next_sent();
	answer(DHCP_OFFER);
	answer(DHCP_ACK);
	ck_assert_uint_eq(owner.bound, 1);
	net.udp_open_rc = -EADDRNOTAVAIL;
	run_secs(LEASE_SECS / 2 + 1);
	net.udp_open_rc = 0;
	net.udp_send_rc = -ENETUNREACH;
	next_sent();
	expect_sent(DHCP_REQUEST, address, server);
	net.udp_send_rc = 0;
	next_sent();
	ck_assert_uint_eq(net.udp_opened, 1);
	answer(DHCP_ACK);
	ck_assert_uint_eq(owner.bound, 2);
}
END_TEST

START_TEST(socket_fails)
{
	start();
	next_sent();
	net.receive_rc = -ENETDOWN;
	transmit(span_of("x", 1));
	deliver();
	ck_assert_uint_eq(fault_fds(), fds + 3);
	net.receive_rc = 0;
	next_sent();
	ck_assert_uint_eq(net.opened, 2);
	net.receive_rc = -EINTR;
	transmit(span_of("x", 1));
	loop.alarm.fn(&loop.alarm, 0);
	net.receive_rc = 0;
	answer(DHCP_OFFER);
	answer(DHCP_ACK);
	ck_assert_uint_eq(owner.bound, 1);
}
END_TEST

START_TEST(no_memory)
{
	struct dhcp_conf c = conf();

	FAULT_EACH("calloc", ENOMEM)
	{
		client = dhcp_client_new(&loop, &c);
		ck_assert(client || fault_n_ == 1);
		free_client(false);
	}
	FAULT_EACH("epoll_ctl", ENOSPC)
	{
		start();
		next_sent();
		answer(DHCP_OFFER);
		answer(DHCP_ACK);
		ck_assert(owner.has);
		free_client(false);
		loop_bury(&loop);
		owner.has = false;
	}
}
END_TEST

/* --- the end --------------------------------------------------------------------------------- */

START_TEST(released)
{
	get_lease();
	free_client(true);
	expect_sent(DHCP_RELEASE, address, server);
	ck_assert(ip_eq(&net.last.ciaddr, &address));
	ck_assert(ip_eq(&net.last.server, &server));
	ck_assert_uint_eq(owner.lost, 0);
	ck_assert_ptr_null(loop.timers);
	loop_bury(&loop);
	ck_assert_uint_eq(fault_fds(), fds + 3);
}
END_TEST

START_TEST(release_fails)
{
	get_to_renewing();
	net.udp_send_rc = -ENETUNREACH;
	free_client(true);
	expect_sent(DHCP_RELEASE, address, server);
}
END_TEST

START_TEST(freed_in_each_state)
{
	static void (*const ways[])(void) = {
	    start, get_offer, get_lease, get_to_renewing, get_to_rebinding, get_to_rebooting};

	dhcp_client_free(NULL, true);
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		unsigned sent;

		owner.bound = owner.lost = 0;
		ways[i]();
		sent = net.sent;
		free_client(i % 2 == 0);
		ck_assert_uint_eq(net.sent, sent + (i > 0 && i % 2 == 0));
		ck_assert_ptr_null(loop.timers);
		loop_bury(&loop);
		ck_assert_uint_eq(fault_fds(), fds + 2 + (net.peer >= 0));
	}
}
END_TEST

START_TEST(freed_by_its_owner)
{
	get_offer();
	owner.frees = true;
	answer(DHCP_ACK);
	ck_assert_ptr_null(client);
	owner.frees = false;
	owner.bound = 0;
	get_to_renewing();
	owner.frees = true;
	answer(DHCP_NAK);
	ck_assert_ptr_null(client);
	owner.frees = false;
	owner.bound = 0;
	get_lease();
	owner.frees = true;
	run_secs(LEASE_SECS + 1);
	ck_assert_ptr_null(client);
	ck_assert_uint_eq(owner.lost, 2);
}
END_TEST

/* --- anything goes --------------------------------------------------------------------------- */

static void random_event(void)
{
	static const enum dhcp_type types[] = {DHCP_OFFER, DHCP_ACK, DHCP_NAK};
	struct answer a = usual(types[rand() % 3]);

	switch (rand() % 8) {
	case 0: dhcp_client_link(client, rand() % 2); break;
	case 1: run_secs(rand() % 4000); break;
	case 2: net.open_rc = rand() % 2 ? 0 : -ENOBUFS; break;
	case 3: net.send_rc = rand() % 2 ? 0 : -ENETDOWN; break;
	case 4: step_before(loop.now_ns + FOREVER_SECS * NS_PER_SEC); break;
	default:
		if (net.peer < 0)
			break;
		a.server = rand() % 4 ? server : other;
		a.lease_secs = (uint32_t)(rand() % 4000);
		a.address.b[3] = (uint8_t)(rand() % 3 + 14);
		send_answer(&a);
		break;
	}
	loop_bury(&loop);
}

/* Whatever comes, owner and client are of one mind, and it can still get a lease. */
START_TEST(random_events)
{
	start();
	for (unsigned i = 0; i < 20000; i++) {
		random_event();
		ck_assert_int_eq(dhcp_client_lease(client) != NULL, owner.has);
		ck_assert_uint_le(fault_fds(), fds + 5);
	}
	ck_assert_uint_gt(owner.bound, 100);
	ck_assert_uint_gt(owner.lost, 100);
	net.open_rc = net.send_rc = 0;
	dhcp_client_link(client, false);
	dhcp_client_link(client, true);
	run_secs(2 * LEASE_SECS);
	ck_assert(!owner.has);
	next_sent();
	answer(DHCP_OFFER);
	answer(DHCP_ACK);
	ck_assert(owner.has);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {four_messages, discovers_for_ever, jitter,
	    each_message_lost_in_turn, half_of_all_lost, offer_goes_stale, first_offer_taken,
	    nak_for_an_offer, address_asked_for_again, address_nobody_knows, address_refused,
	    renewed, renewal_unanswered, rebound_to_another_server, renewed_with_another_address,
	    nak_while_renewing, nak_while_rebinding, nak_while_rebooting, times, infinite_lease,
	    short_leases, too_short_a_lease, asleep, thousand_renewals, link_bounces,
	    link_up_to_silence, link_up_after_t1, lease_ends_without_link,
	    lease_ends_while_confirmed, link_before_a_lease, link_up_is_no_news,
	    link_down_in_each_state, garbage, checksums, socket_cannot_be_opened,
	    nothing_can_be_sent, socket_fails, no_memory, released, release_fails,
	    freed_in_each_state, freed_by_its_owner, random_events};
	Suite *s = suite_create("dhcp_client");
	TCase *c = tcase_create("dhcp_client");

	tcase_add_checked_fixture(c, setup, teardown);
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
		tcase_add_test(c, tests[i]);
	suite_add_tcase(s, c);
	return s;
}
