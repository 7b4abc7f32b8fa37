#include "names/upstream.h"

#include "dns_peer.h"
#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <stdlib.h>

enum { TIMEOUT_MS = 250 };

static struct loop loop;
static struct peer peer;
static struct upstream *upstream;
static unsigned fds;

/* How it ended. */
static int ends, rc_told;
static char said[1024];

static void on_end(void *ctx, int rc, struct span message, const struct dns_response *response)
{
	ck_assert_ptr_eq(ctx, &peer);
	ck_assert(rc < 0 || response != NULL);
	ends++;
	rc_told = rc;
	snprintf(said, sizeof said, "%s", rc < 0 ? "" : case_text(message));
}

static void setup(void)
{
	fds = fault_fds();
	ck_assert_int_eq(loop_init(&loop), 0);
	peer = peer_open(1);
	upstream = NULL;
	ends = rc_told = 0;
}

static void teardown(void)
{
	peer_close(&peer);
	ck_assert_int_eq(loop_turn(&loop, 0), 0);
	loop_done(&loop);
	ck_assert_uint_eq(fault_fds(), fds);
}

static int ask(void)
{
	static const struct dns_case c = {
	    .name = "Www.Example", .type = DNS_A, .flags = DNS_CD, .payload = 4096};
	uint8_t buf[DNS_UDP_BYTES];
	struct dns_query q;

	ck_assert_int_eq(dns_query_read(case_request(&c, buf), &q), E_OK);
	return upstream_ask(&upstream, &loop, &peer.addr, &q, TIMEOUT_MS, on_end, &peer);
}

static void asked(void)
{
	ck_assert_int_eq(ask(), 0);
	UNTIL(&loop, peer_poll(&peer));
	ck_assert_int_eq(ends, 0);
}

static void ended(int rc)
{
	UNTIL(&loop, ends);
	ck_assert_int_eq(ends, 1);
	ck_assert_int_eq(rc_told, rc);
}

START_TEST(answered)
{
	asked();
	ck_assert(span_eq(peer.query.raw, span_of("\3Www\7Example\0\0\1\0\1", 17)));
	ck_assert_uint_eq(peer.query.flags, DNS_RD | DNS_AD | DNS_CD);
	ck_assert_uint_eq(peer.query.edns.payload, DNS_EDNS_BYTES);
	peer_answer(&peer);
	ended(0);
	ck_assert_str_eq(said, "0 ad: www.example 60 1 192.0.2.1; opt 1232;");
}
END_TEST

START_TEST(negative_answers_are_answers)
{
	asked();
	peer_send(&peer, peer_reply(&peer, DNS_NXDOMAIN, 0));
	ended(0);
	ck_assert_str_eq(said, "3 ad: . 60 6 .; opt 1232;");
}
END_TEST

/* Ids and ports that differ between 16 questions: chance has it otherwise once in 2^100 runs. */
START_TEST(hard_to_guess)
{
	unsigned same_id = 0, same_port = 0;
	uint16_t id = 0, port = 0;

	for (unsigned i = 0; i < 16; i++) {
		asked();
		same_id += peer.query.id == id;
		same_port += addr_port(&peer.from) == port;
		id = peer.query.id;
		port = addr_port(&peer.from);
		upstream_cancel(upstream);
	}
	ck_assert_uint_lt(same_id, 8);
	ck_assert_uint_lt(same_port, 8);
}
END_TEST

START_TEST(lost_once)
{
	uint16_t id;

	asked();
	id = peer.query.id;
	UNTIL(&loop, peer_poll(&peer));
	ck_assert_uint_eq(peer.query.id, id);
	peer_answer(&peer);
	ended(0);
}
END_TEST

START_TEST(silent)
{
	asked();
	ended(-ETIMEDOUT);
	ck_assert(peer_poll(&peer));
	ck_assert(!peer_poll(&peer));
}
END_TEST

START_TEST(refused)
{
	peer_close(&peer);
	ck_assert_int_eq(ask(), 0);
	ended(-ECONNREFUSED);
}
END_TEST

/* Neither ends the wait, nor is taken: another id, another question, no question, another opcode,
 * a request, garbage, nothing. */
static void send_nonsense(void)
{
	struct span s = peer_reply(&peer, DNS_NOERROR, 60);

	peer.reply[0] ^= 1;
	peer_send(&peer, s);
	peer.reply[0] ^= 1;
	peer.reply[13] ^= 1;
	peer_send(&peer, s);
	peer.reply[13] ^= 1;
	peer.reply[2] ^= 0x28;
	peer_send(&peer, s);
	peer.reply[2] ^= 0x28;
	peer.reply[2] ^= 0x80;
	peer_send(&peer, s);
	peer.reply[2] ^= 0x80;
	peer.reply[5] = 0;
	peer_send(&peer, s);
	peer.reply[5] = 1;
	peer_send(&peer, span_first(s, s.n - 1));
	peer_send(&peer, span_of("garbage", 7));
	peer_send(&peer, span_of("", 0));
}

START_TEST(nonsense_is_ignored)
{
	asked();
	send_nonsense();
	for (unsigned i = 0; i < 5; i++)
		ck_assert_int_eq(loop_turn(&loop, 0), 0);
	ck_assert_int_eq(ends, 0);
	peer_answer(&peer);
	ended(0);
	ck_assert_str_eq(said, "0 ad: www.example 60 1 192.0.2.1; opt 1232;");
}
END_TEST

/* What others send to the port is not even seen. */
START_TEST(strangers)
{
	struct peer other = peer_open(3);
	struct span s;

	asked();
	s = peer_reply(&peer, DNS_NOERROR, 60);
	ck_assert_int_eq(
	    sendto(other.udp, s.p, s.n, 0, &peer.from.u.sa, peer.from.len), (ssize_t)s.n);
	for (unsigned i = 0; i < 5; i++)
		ck_assert_int_eq(loop_turn(&loop, 1), 0);
	ck_assert_int_eq(ends, 0);
	peer_answer(&peer);
	ended(0);
	peer_close(&other);
}
END_TEST

static void truncated(void)
{
	asked();
	peer_truncate(&peer);
	UNTIL(&loop, peer_accept(&peer));
	UNTIL(&loop, peer_stream_poll(&peer));
	ck_assert_int_eq(ends, 0);
}

START_TEST(tcp)
{
	truncated();
	ck_assert(span_eq(peer.query.raw, span_of("\3Www\7Example\0\0\1\0\1", 17)));
	peer_stream_send(&peer, peer_reply(&peer, DNS_NOERROR, 7));
	ended(0);
	ck_assert_str_eq(said, "0 ad: www.example 7 1 192.0.2.1; opt 1232;");
}
END_TEST

/* Whoever tries all ids gets a few of them wrong, and has no other try. */
START_TEST(guesses_end_in_tcp)
{
	asked();
	for (unsigned i = 0; i < 40 && !peer_accept(&peer); i++) {
		send_nonsense();
		ck_assert_int_eq(loop_turn(&loop, 0), 0);
	}
	ck_assert_int_ge(peer.stream, 0);
	UNTIL(&loop, peer_stream_poll(&peer));
	ck_assert_int_eq(ends, 0);
	peer_stream_send(&peer, peer_reply(&peer, DNS_NOERROR, 7));
	ended(0);
	ck_assert_str_eq(said, "0 ad: www.example 7 1 192.0.2.1; opt 1232;");
}
END_TEST

START_TEST(tcp_byte_by_byte)
{
	uint8_t length[2];
	struct span s;

	truncated();
	s = peer_reply(&peer, DNS_NOERROR, 7);
	length[0] = (uint8_t)(s.n >> 8);
	length[1] = (uint8_t)s.n;
	for (size_t i = 0; i < s.n + 2; i++) {
		ck_assert_int_eq(ends, 0);
		ck_assert_int_eq(write(peer.stream, i < 2 ? &length[i] : &s.p[i - 2], 1), 1);
		ck_assert_int_eq(loop_turn(&loop, 10), 0);
	}
	ended(0);
}
END_TEST

/* A server that answers, but not over TCP: refused, silent, gone, nonsense, still truncated. */
START_TEST(tcp_fails)
{
	struct span s;

	asked();
	close(peer.tcp);
	peer.tcp = -1;
	peer_truncate(&peer);
	ended(-EPROTO);

	peer_close(&peer);
	peer = peer_open(1);
	ends = 0;
	truncated();
	ended(-EPROTO);

	ends = 0;
	truncated();
	ck_assert_int_eq(write(peer.stream, "\0", 1), 1);
	close(peer.stream);
	peer.stream = -1;
	ended(-EPROTO);

	ends = 0;
	truncated();
	peer_stream_send(&peer, span_of("garbage", 7));
	ended(-EPROTO);

	ends = 0;
	truncated();
	s = peer_reply(&peer, DNS_NOERROR, 7);
	peer.reply[2] |= 0x02;
	peer_stream_send(&peer, s);
	ended(-EPROTO);
}
END_TEST

static void send_formerr(bool bare)
{
	struct span s;

	peer.query.edns.present = false;
	s = peer_reply(&peer, DNS_FORMERR, 0);
	if (bare) {
		peer.reply[5] = 0;
		s = span_first(s, DNS_HEADER_BYTES);
	}
	peer_send(&peer, s);
}

/* Servers from before EDNS answer FORMERR, some with nothing but the header. */
START_TEST(no_edns)
{
	for (int bare = 0; bare < 2; bare++) {
		ends = 0;
		asked();
		ck_assert(peer.query.edns.present);
		send_formerr(bare);
		UNTIL(&loop, peer_poll(&peer));
		ck_assert(!peer.query.edns.present);
		peer_answer(&peer);
		ended(0);
		ck_assert_str_eq(said, "0 ad: www.example 60 1 192.0.2.1;");
	}
	ends = 0;
	asked();
	send_formerr(false);
	UNTIL(&loop, peer_poll(&peer));
	send_formerr(false);
	ended(0);
	ck_assert_str_eq(said, "1 ad:");
}
END_TEST

START_TEST(cancelled)
{
	asked();
	upstream_cancel(upstream);
	peer_answer(&peer);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(loop_turn(&loop, TIMEOUT_MS), 0);
	truncated();
	upstream_cancel(upstream);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(loop_turn(&loop, TIMEOUT_MS), 0);
	ck_assert_int_eq(ends, 0);
	upstream_cancel(NULL);
}
END_TEST

/* A call that fails at the start is told at once, later by `fn`; nothing is left behind. */
START_TEST(faults)
{
	static const char *const calls[] = {"malloc", "socket", "connect", "epoll_ctl", "sendto"};

	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		fault_arm(calls[i], 1, ENOMEM, false);
		ck_assert_int_eq(ask(), -ENOMEM);
		ck_assert(fault_disarm());
		ck_assert_int_eq(loop_turn(&loop, 0), 0);
		ck_assert_uint_eq(fault_fds(), fds + 4);
	}
	ck_assert_int_eq(ends, 0);
	fault_arm("sendto", 1, EAGAIN, false); /* as good as lost */
	ck_assert_int_eq(ask(), 0);
	fault_disarm();
	UNTIL(&loop, peer_poll(&peer));
	fault_arm("recvfrom", 1, EHOSTUNREACH, false);
	peer_send(&peer, span_of("x", 1));
	ended(-EHOSTUNREACH);
	fault_disarm();
}
END_TEST

START_TEST(faults_over_tcp)
{
	static const char *const calls[] = {"socket", "connect", "epoll_ctl", "sendto", "read"};

	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		ends = 0;
		asked();
		peer_truncate(&peer);
		fault_arm(calls[i], 1, ECONNRESET, true);
		while (!ends && loop_turn(&loop, 1) == 0)
			;
		ck_assert(fault_disarm());
		ended(-EPROTO);
		ck_assert_int_eq(loop_turn(&loop, 0), 0);
		while (peer_accept(&peer))
			;
		ck_assert_uint_eq(fault_fds(), fds + 4);
	}
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {answered, negative_answers_are_answers, hard_to_guess,
	    lost_once, silent, refused, nonsense_is_ignored, strangers, tcp, guesses_end_in_tcp,
	    tcp_byte_by_byte, tcp_fails, no_edns, cancelled, faults, faults_over_tcp};
	Suite *s = suite_create("upstream");
	TCase *c = tcase_create("upstream");

	tcase_add_checked_fixture(c, setup, teardown);
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
		tcase_add_test(c, tests[i]);
	suite_add_tcase(s, c);
	return s;
}
