#include "net/udp.h"

#include "fault.h"
#include "suite.h"
#include "sys/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

/* --- a socket, and what comes to it
 * --------------------------------------------------------------- */

static struct loop loop;
static struct udp udp;
static struct addr addr; /* of `udp` */
static unsigned fds;

static struct {
	unsigned packets, errors, dones;
	uint8_t last[UDP_PACKET_BYTES];
	size_t last_bytes;
	struct udp_peer peer;
	int rc; /* of the last error */
	bool replies, removes;
} seen;

static void came(struct udp *u, struct span packet, const struct udp_peer *peer)
{
	ck_assert_ptr_eq(u->ctx, &seen);
	ck_assert_uint_eq(seen.dones, 0);
	seen.packets++;
	memcpy(seen.last, packet.p, packet.n);
	seen.last_bytes = packet.n;
	seen.peer = *peer;
	if (seen.replies)
		ck_assert_int_eq(udp_reply(u, packet, peer), 0);
	if (seen.removes)
		source_remove(&u->source);
}

static void failed(struct udp *u, int rc)
{
	ck_assert_ptr_eq(u->ctx, &seen);
	seen.errors++;
	seen.rc = rc;
	if (seen.removes)
		source_remove(&u->source);
}

static void done(struct source *s)
{
	ck_assert_ptr_eq(s, &udp.source);
	seen.dones++;
}

static void setup(void)
{
	ck_assert_int_eq(loop_init(&loop), 0);
	fds = fault_fds();
	memset(&seen, 0, sizeof seen);
}

static int init(int fd, bool pktinfo)
{
	udp = (struct udp){.fn = came, .error = failed, .ctx = &seen, .source.done = done};
	return udp_init(&udp, &loop, fd, pktinfo, "test");
}

static int bound(const char *text, bool *pktinfo, struct addr *out)
{
	int fd;

	ck_assert_int_eq(addr_parse_inet(span_str(text), 0, out), E_OK);
	fd = sock_udp_bind(out, 0, pktinfo);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(getsockname(fd, &out->u.sa, &out->len), 0);
	return fd;
}

static void start(const char *text)
{
	bool pktinfo;
	int fd = bound(text, &pktinfo, &addr);

	ck_assert_int_eq(init(fd, pktinfo), 0);
}

/* A client that takes answers from nobody but the one it asked. */
static int client_of(const char *host)
{
	struct addr to;
	int fd;

	ck_assert_int_eq(addr_parse_inet(span_str(host), addr_port(&addr), &to), E_OK);
	fd = sock_udp_connect(&to);
	ck_assert_int_ge(fd, 0);
	return fd;
}

static void client_says(int client, const char *text)
{
	ck_assert_int_eq(send(client, text, strlen(text), 0), (ssize_t)strlen(text));
}

static void assert_client_got(int client, const char *text)
{
	struct pollfd p = {.fd = client, .events = POLLIN};
	char buf[64] = "";

	ck_assert_int_eq(poll(&p, 1, 1000), 1);
	ck_assert_int_eq(recv(client, buf, sizeof buf - 1, 0), (ssize_t)strlen(text));
	ck_assert_str_eq(buf, text);
}

static void assert_last(const char *text)
{
	ck_assert_uint_eq(seen.last_bytes, strlen(text));
	ck_assert(memcmp(seen.last, text, seen.last_bytes) == 0);
}

static void turn(void)
{
	ck_assert_int_eq(loop_turn(&loop, 0), 0);
}

/* How many turns the loop makes in so many ms: few when nothing spins. */
static unsigned turns_within(unsigned ms)
{
	uint64_t end = clock_mono_ns() + ms * NS_PER_MS;
	unsigned n = 0;

	for (uint64_t now = clock_mono_ns(); now < end; now = clock_mono_ns(), n++)
		ck_assert_int_eq(loop_turn(&loop, (int)((end - now) / NS_PER_MS) + 1), 0);
	return n;
}

/* Ends a socket; nothing of it is left. */
static void stop(void)
{
	source_remove(&udp.source);
	turn();
	ck_assert_uint_eq(seen.dones, 1);
	ck_assert_uint_eq(fault_fds(), fds);
	memset(&seen, 0, sizeof seen);
}

/* --- receiving and answering ---------------------------------------------------------------- */

static void exchange(const char *host)
{
	int client = client_of(host);

	seen.replies = true;
	client_says(client, "question");
	turn();
	assert_last("question");
	assert_client_got(client, "question");
	close(client);
}

START_TEST(answers_where_it_is_bound)
{
	struct addr from;
	int client;

	setup();
	start("127.0.0.1:0");
	ck_assert(!udp.pktinfo);
	exchange("127.0.0.1");
	client = client_of("127.0.0.1");
	from.len = sizeof from.u;
	ck_assert_int_eq(getsockname(client, &from.u.sa, &from.len), 0);
	client_says(client, "who am I?");
	turn();
	ck_assert(addr_eq(&seen.peer.from, &from));
	close(client);
	stop();
}
END_TEST

START_TEST(answers_from_the_address_that_was_asked)
{
	struct in_addr asked;

	setup();
	start("0.0.0.0:0");
	ck_assert(udp.pktinfo);
	exchange("127.0.0.1");
	exchange("127.0.0.7");
	exchange("127.3.2.1");
	asked.s_addr = htonl(0x7f030201);
	ck_assert_uint_eq(seen.peer.to.in.ipi_addr.s_addr, asked.s_addr);
	stop();
}
END_TEST

START_TEST(answers_over_ipv6)
{
	int probe = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in6 localhost = {
	    .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	bool has_ipv6 =
	    probe >= 0 && bind(probe, (struct sockaddr *)&localhost, sizeof localhost) == 0;

	if (probe >= 0)
		close(probe);
	if (!has_ipv6) {
		fputs("skipped: no IPv6 here\n", stderr);
		return;
	}
	setup();
	start("[::]:0");
	ck_assert(udp.pktinfo);
	exchange("[::1]");
	ck_assert(IN6_IS_ADDR_LOOPBACK(&seen.peer.to.in6.ipi6_addr));
	stop();
	start("[::1]:0");
	ck_assert(!udp.pktinfo);
	exchange("[::1]");
	stop();
}
END_TEST

START_TEST(datagrams_of_every_size_come_whole)
{
	static const size_t sizes[] = {0, 1, 512, 1232, 4096, 65507};
	static const char *const binds[] = {"127.0.0.1:0", "0.0.0.0:0"};
	static uint8_t packet[UDP_PACKET_BYTES];

	setup();
	for (size_t i = 0; i < sizeof packet; i++)
		packet[i] = (uint8_t)(i * 7);
	for (size_t b = 0; b < 2; b++) {
		int client;

		start(binds[b]);
		client = client_of("127.0.0.1");
		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
			ck_assert_int_eq(send(client, packet, sizes[i], 0), (ssize_t)sizes[i]);
			turn();
			ck_assert_uint_eq(seen.packets, i + 1);
			ck_assert_uint_eq(seen.last_bytes, sizes[i]);
			ck_assert(memcmp(seen.last, packet, sizes[i]) == 0);
		}
		close(client);
		stop();
	}
}
END_TEST

START_TEST(a_flood_takes_turns)
{
	int client;

	setup();
	start("127.0.0.1:0");
	client = client_of("127.0.0.1");
	for (unsigned i = 0; i < LOOP_EVENTS + 10; i++)
		client_says(client, "x");
	turn();
	ck_assert_uint_eq(seen.packets, LOOP_EVENTS);
	turn();
	ck_assert_uint_eq(seen.packets, LOOP_EVENTS + 10);
	ck_assert_uint_le(turns_within(20), 2);
	close(client);
	stop();
}
END_TEST

START_TEST(is_removed_between_two_datagrams)
{
	int client;

	setup();
	start("127.0.0.1:0");
	client = client_of("127.0.0.1");
	client_says(client, "one");
	client_says(client, "two");
	seen.removes = true;
	turn();
	ck_assert_uint_eq(seen.packets, 1);
	ck_assert_uint_eq(seen.errors, 0);
	ck_assert_uint_eq(seen.dones, 1);
	close(client);
	stop();
}
END_TEST

/* --- a connected socket --------------------------------------------------------------------- */

static void start_connected(const struct addr *to)
{
	int fd = sock_udp_connect(to);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(init(fd, false), 0);
}

START_TEST(asks_and_is_answered)
{
	bool pktinfo;
	int server;
	struct addr from;
	char buf[16];

	setup();
	server = bound("127.0.0.1:0", &pktinfo, &addr);
	start_connected(&addr);
	ck_assert_int_eq(udp_send(&udp, span_str("question")), 0);
	from.len = sizeof from.u;
	ck_assert_int_eq(recvfrom(server, buf, sizeof buf, 0, &from.u.sa, &from.len), 8);
	ck_assert_int_eq(sendto(server, "answer", 6, 0, &from.u.sa, from.len), 6);
	turn();
	assert_last("answer");
	ck_assert(addr_eq(&seen.peer.from, &addr));
	close(server);
	stop();
}
END_TEST

/* An address on which nobody listens. */
static void deserted(struct addr *out)
{
	bool pktinfo;

	close(bound("127.0.0.1:0", &pktinfo, out));
}

START_TEST(a_refusal_is_told_and_survived)
{
	bool pktinfo;
	int server;
	struct addr from;
	char byte;

	setup();
	deserted(&addr);
	start_connected(&addr);
	ck_assert_int_eq(udp_send(&udp, span_str("anybody?")), 0);
	ck_assert_uint_le(turns_within(20), 4);
	ck_assert_uint_eq(seen.errors, 1);
	ck_assert_int_eq(seen.rc, -ECONNREFUSED);
	server = sock_udp_bind(&addr, 0, &pktinfo);
	ck_assert_int_ge(server, 0);
	ck_assert_int_eq(udp_send(&udp, span_str("x")), 0);
	from.len = sizeof from.u;
	ck_assert_int_eq(recvfrom(server, &byte, 1, 0, &from.u.sa, &from.len), 1);
	ck_assert_int_eq(sendto(server, "here", 4, 0, &from.u.sa, from.len), 4);
	turn();
	assert_last("here");
	close(server);
	stop();
}
END_TEST

START_TEST(a_refusal_may_end_the_socket_or_be_ignored)
{
	setup();
	deserted(&addr);
	start_connected(&addr);
	seen.removes = true;
	ck_assert_int_eq(udp_send(&udp, span_str("anybody?")), 0);
	turns_within(20);
	ck_assert_uint_eq(seen.errors, 1);
	ck_assert_uint_eq(seen.dones, 1);
	stop();

	start_connected(&addr);
	udp.error = NULL;
	ck_assert_int_eq(udp_send(&udp, span_str("anybody?")), 0);
	ck_assert_uint_le(turns_within(20), 4);
	ck_assert_int_eq(udp_send(&udp, span_str("still nobody?")), 0);
	stop();
}
END_TEST

START_TEST(a_refusal_may_be_told_by_the_next_send)
{
	setup();
	deserted(&addr);
	start_connected(&addr);
	ck_assert_int_eq(udp_send(&udp, span_str("anybody?")), 0);
	ck_assert_int_eq(udp_send(&udp, span_str("anybody?")), -ECONNREFUSED);
	stop();
}
END_TEST

/* --- calls that fail ------------------------------------------------------------------------ */

START_TEST(a_failed_start_leaves_the_descriptor)
{
	bool pktinfo;
	int fd;

	setup();
	fd = bound("127.0.0.1:0", &pktinfo, &addr);
	fault_arm("epoll_ctl", 1, ENOSPC, false);
	ck_assert_int_eq(init(fd, pktinfo), -ENOSPC);
	ck_assert(fault_disarm());
	ck_assert_uint_eq(fault_fds(), fds + 1);
	ck_assert_int_eq(init(fd, pktinfo), 0);
	stop();
}
END_TEST

/* The receiving and the sending call of a socket, failing once. */
static void fail_once(const char *host, const char *receive, const char *send_call)
{
	int client;

	start(host);
	client = client_of("127.0.0.1");
	client_says(client, "question");
	fault_arm(receive, 1, ENOMEM, false);
	turn();
	ck_assert(fault_disarm());
	ck_assert_uint_eq(seen.errors, 1);
	ck_assert_int_eq(seen.rc, -ENOMEM);
	fault_arm(receive, 1, EINTR, false);
	turn();
	ck_assert(fault_disarm());
	ck_assert_uint_eq(seen.packets, 0);
	turn();
	assert_last("question");
	ck_assert_uint_eq(seen.errors, 1);
	fault_arm(send_call, 1, EAGAIN, false);
	ck_assert_int_eq(udp_reply(&udp, span_str("answer"), &seen.peer), -EAGAIN);
	ck_assert(fault_disarm());
	ck_assert_int_eq(udp_reply(&udp, span_str("answer"), &seen.peer), 0);
	assert_client_got(client, "answer");
	close(client);
	stop();
}

START_TEST(a_call_that_fails_is_survived)
{
	setup();
	fail_once("127.0.0.1:0", "recvfrom", "sendto");
	fail_once("0.0.0.0:0", "recvmsg", "sendmsg");
}
END_TEST

START_TEST(an_error_that_persists_is_told_once_a_turn)
{
	int client;

	setup();
	start("127.0.0.1:0");
	client = client_of("127.0.0.1");
	client_says(client, "question");
	fault_arm("recvfrom", 1, ENOMEM, true);
	turn();
	turn();
	fault_disarm();
	ck_assert_uint_eq(seen.errors, 2);
	turn();
	ck_assert_uint_eq(seen.packets, 1);
	close(client);
	stop();
}
END_TEST

START_TEST(a_datagram_costs_no_memory_and_no_watching)
{
	static const char *const spared[] = {"malloc", "epoll_ctl"};

	setup();
	start("0.0.0.0:0");
	for (size_t i = 0; i < 2; i++) {
		int client = client_of("127.0.0.5");

		seen.replies = true;
		client_says(client, "x");
		fault_arm(spared[i], 1, ENOMEM, true);
		turn();
		ck_assert(!fault_disarm());
		assert_client_got(client, "x");
		close(client);
	}
	stop();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    answers_where_it_is_bound,
	    answers_from_the_address_that_was_asked,
	    answers_over_ipv6,
	    datagrams_of_every_size_come_whole,
	    a_flood_takes_turns,
	    is_removed_between_two_datagrams,
	    asks_and_is_answered,
	    a_refusal_is_told_and_survived,
	    a_refusal_may_end_the_socket_or_be_ignored,
	    a_refusal_may_be_told_by_the_next_send,
	    a_failed_start_leaves_the_descriptor,
	    a_call_that_fails_is_survived,
	    an_error_that_persists_is_told_once_a_turn,
	    a_datagram_costs_no_memory_and_no_watching,
	    NULL,
	};

	return suite_of("udp", tests);
}
