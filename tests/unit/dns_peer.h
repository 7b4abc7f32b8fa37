/* dns_peer.h - a DNS server of tests on loopback, whose every word is the test's. */
#ifndef TESTS_DNS_PEER_H
#define TESTS_DNS_PEER_H

#include "dns_case.h"
#include "sys/loop.h"
#include "sys/sock.h"
#include "sys/timer.h"

#include <unistd.h>

enum { PEER_WAIT_MS = 30000 };

struct peer {
	struct addr addr;
	int udp, tcp; /* tcp: the listener, or -1 */
	int stream;   /* the connection accepted last, or -1 */
	struct addr from;
	uint8_t packet[DNS_MESSAGE_BYTES]; /* the request received last */
	struct dns_query query;            /* what it says, a view of it */
	uint8_t reply[DNS_MESSAGE_BYTES];
};

/* Turns the loop until the expression holds; fails the test when it does not for too long. */
#define UNTIL(loop, condition)                                                                     \
	for (uint64_t until_ = clock_mono_ns() + PEER_WAIT_MS * NS_PER_MS; !(condition);) {        \
		ck_assert_msg(clock_mono_ns() < until_, "waited in vain for " #condition);         \
		ck_assert_int_eq(loop_turn(loop, 1), 0);                                           \
	}

/* UDP and TCP on one port; 127.0.0.<host>. */
static inline struct peer peer_open(uint8_t host)
{
	struct peer p = {.udp = -1, .tcp = -1, .stream = -1};
	struct ip ip = ip_v4(127, 0, 0, host);
	bool pktinfo;

	for (unsigned i = 0; i < 100 && p.tcp < 0; i++) {
		if (p.udp >= 0)
			close(p.udp);
		addr_from_ip(&ip, 0, &p.addr);
		p.udp = sock_udp_bind(&p.addr, 0, &pktinfo);
		ck_assert_int_ge(p.udp, 0);
		ck_assert_int_eq(getsockname(p.udp, &p.addr.u.sa, &p.addr.len), 0);
		p.tcp = sock_listen(&p.addr, 8);
	}
	ck_assert_int_ge(p.tcp, 0);
	return p;
}

static inline void peer_close(struct peer *p)
{
	close(p->udp);
	if (p->tcp >= 0)
		close(p->tcp);
	if (p->stream >= 0)
		close(p->stream);
	p->udp = p->tcp = p->stream = -1;
}

/* Whether a request has come by UDP; it is in p->query then. */
static inline bool peer_poll(struct peer *p)
{
	ssize_t n;

	p->from.len = sizeof p->from.u;
	n = recvfrom(p->udp, p->packet, sizeof p->packet, 0, &p->from.u.sa, &p->from.len);
	if (n < 0)
		return false;
	ck_assert_int_eq(dns_query_read(span_of(p->packet, (size_t)n), &p->query), E_OK);
	ck_assert_uint_eq(p->query.rcode, DNS_NOERROR);
	return true;
}

/* A reply to the request received last: an address unless the rcode is an error, and AD. */
static inline struct span peer_reply(struct peer *p, uint16_t rcode, uint32_t ttl_secs)
{
	static const struct dns_soa soa = {.zone = {1, {0}},
	    .mname = {1, {0}},
	    .rname = {1, {0}},
	    .ttl_secs = 60,
	    .minimum_secs = 60};
	struct ip ip = ip_v4(192, 0, 2, 1);
	struct dns_reply r;

	dns_reply_begin(&r, p->reply, sizeof p->reply, &p->query, DNS_AD);
	r.rcode = rcode;
	if (rcode == DNS_NOERROR)
		dns_reply_addr(&r, ttl_secs, &ip);
	if (rcode == DNS_NXDOMAIN)
		dns_reply_soa(&r, DNS_AUTHORITY, &soa);
	return dns_reply_finish(&r);
}

static inline void peer_send(const struct peer *p, struct span s)
{
	ck_assert_int_eq(sendto(p->udp, s.p, s.n, 0, &p->from.u.sa, p->from.len), (ssize_t)s.n);
}

static inline void peer_answer(struct peer *p)
{
	peer_send(p, peer_reply(p, DNS_NOERROR, 60));
}

/* Answers with TC and nothing else. */
static inline void peer_truncate(struct peer *p)
{
	struct span s = peer_reply(p, DNS_REFUSED, 0);

	p->reply[2] |= 0x02;
	p->reply[3] &= 0xf0;
	peer_send(p, s);
}

static inline bool peer_accept(struct peer *p)
{
	struct addr from;

	if (p->stream >= 0)
		close(p->stream);
	p->stream = sock_accept(p->tcp, &from);
	return p->stream >= 0;
}

/* Whether a whole request has come over TCP. */
static inline bool peer_stream_poll(struct peer *p)
{
	ssize_t n = recv(p->stream, p->packet, sizeof p->packet, MSG_PEEK);

	if (n < 2 || n < 2 + (p->packet[0] << 8 | p->packet[1]))
		return false;
	ck_assert_int_eq(dns_query_read(span_of(p->packet + 2, (size_t)n - 2), &p->query), E_OK);
	ck_assert_int_eq(read(p->stream, p->packet, (size_t)n), n);
	return true;
}

static inline void peer_stream_send(const struct peer *p, struct span s)
{
	uint8_t length[] = {(uint8_t)(s.n >> 8), (uint8_t)s.n};

	ck_assert_int_eq(write(p->stream, length, 2), 2);
	ck_assert_int_eq(write(p->stream, s.p, s.n), (ssize_t)s.n);
}

#endif
