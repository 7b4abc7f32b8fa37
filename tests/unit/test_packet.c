#include "sys/packet.h"

#include "codec/udpip.h"
#include "fault.h"
#include "suite.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Each test runs in a process of its own, and in a network of its own that has a loopback device
 * and nothing else. */
enum { PORT = 68, LO = 1, WAIT_MS = 2000 };

static bool available;
static int fd;

static void lo_set(short flags)
{
	struct ifreq ifr = {.ifr_name = "lo", .ifr_flags = flags};
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(s, 0);
	ck_assert_int_eq(ioctl(s, SIOCSIFFLAGS, &ifr), 0);
	close(s);
}

static void setup(void)
{
	available = unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0;
	if (!available)
		return;
	lo_set(IFF_UP);
	fd = packet_open(LO, PORT);
	ck_assert_int_ge(fd, 0);
}

/* Whether the test can run here. */
static bool can_run(void)
{
	if (!available)
		skip_test("no right to a network namespace");
	return available;
}

static bool readable(int s, int wait_ms)
{
	struct pollfd p = {.fd = s, .events = POLLIN};

	return poll(&p, 1, wait_ms) == 1 && (p.revents & POLLIN);
}

static struct addr local(uint16_t port)
{
	const struct ip ip = ip_v4(127, 0, 0, 1);
	struct addr a;

	addr_from_ip(&ip, port, &a);
	return a;
}

/* An ordinary socket of the kernel's, bound and connected. */
static int ordinary(uint16_t from_port, uint16_t to_port)
{
	struct addr from = local(from_port), to = local(to_port);
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(s, 0);
	ck_assert_int_eq(bind(s, &from.u.sa, from.len), 0);
	ck_assert_int_eq(connect(s, &to.u.sa, to.len), 0);
	return s;
}

/* A packet of our own making: flags are those of the IP header's fragment field. */
static int send_raw(uint16_t port, uint16_t fragment, const char *text)
{
	const struct udpip datagram = {
	    .from = ip_v4(0, 0, 0, 0),
	    .to = ip_v4(255, 255, 255, 255),
	    .from_port = 67,
	    .to_port = port,
	    .payload = span_str(text),
	};
	uint8_t buf[256];
	struct wr w = wr_of(buf, sizeof buf);

	udpip_write(&w, &datagram);
	buf[6] = (uint8_t)(fragment >> 8);
	buf[7] = (uint8_t)fragment;
	return packet_send(fd, LO, packet_broadcast, wr_span(&w));
}

/* The next packet has to carry this text. Returns whether the kernel vouches for its sum. */
static bool expect(const char *text)
{
	uint8_t buf[256];
	struct udpip got;
	ssize_t n;
	bool checked;

	ck_assert(readable(fd, WAIT_MS));
	n = packet_receive(fd, buf, sizeof buf, &checked);
	ck_assert_int_gt(n, 0);
	ck_assert_int_eq(udpip_read(span_of(buf, (size_t)n), checked, &got), E_OK);
	ck_assert(span_eq_str(got.payload, text));
	return checked;
}

static void expect_nothing(void)
{
	uint8_t buf[256];
	bool checked;

	ck_assert_int_eq(packet_receive(fd, buf, sizeof buf, &checked), -EAGAIN);
}

START_TEST(sent_and_received)
{
	if (!can_run())
		return;
	expect_nothing();
	ck_assert_int_eq(send_raw(PORT, 0, "hello"), 0);
	ck_assert(!expect("hello"));
	expect_nothing();
	close(fd);
}
END_TEST

/* Where nothing sums, the kernel says so. */
START_TEST(sum_left_out)
{
	int s;

	if (!can_run())
		return;
	s = ordinary(67, PORT);
	ck_assert_int_eq(send(s, "offloaded", 9, 0), 9);
	ck_assert(expect("offloaded"));
	close(s);
}
END_TEST

START_TEST(filtered)
{
	struct addr to = local(PORT);
	int s, t;

	if (!can_run())
		return;
	s = ordinary(67, PORT + 1);
	t = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(send(s, "no", 2, 0), 2);
	ck_assert_int_eq(connect(t, &to.u.sa, to.len), -1);
	ck_assert_int_eq(send_raw(PORT + 1, 0, "no"), 0);
	ck_assert_int_eq(send_raw(PORT, 0x2000, "no"), 0); /* the first fragment */
	ck_assert_int_eq(send_raw(PORT, 0x0001, "no"), 0);
	ck_assert_int_eq(send_raw(PORT, 0, "yes"), 0);
	expect("yes");
	expect_nothing();
	close(s);
	close(t);
}
END_TEST

START_TEST(too_long)
{
	uint8_t buf[UDPIP_HEADER_BYTES + 4];
	bool checked;

	if (!can_run())
		return;
	ck_assert_int_eq(send_raw(PORT, 0, "12345"), 0);
	ck_assert_int_eq(send_raw(PORT, 0, "1234"), 0);
	ck_assert(readable(fd, WAIT_MS));
	ck_assert_int_eq(packet_receive(fd, buf, sizeof buf, &checked), -EMSGSIZE);
	ck_assert_int_eq(packet_receive(fd, buf, sizeof buf, &checked), sizeof buf);
}
END_TEST

START_TEST(link_down_and_up)
{
	uint8_t buf[64];
	bool checked;

	if (!can_run())
		return;
	lo_set(0);
	ck_assert_int_eq(send_raw(PORT, 0, "lost"), -ENETDOWN);
	ck_assert_int_eq(packet_receive(fd, buf, sizeof buf, &checked), -ENETDOWN);
	expect_nothing();
	lo_set(IFF_UP);
	ck_assert_int_eq(send_raw(PORT, 0, "back"), 0);
	expect("back");
}
END_TEST

START_TEST(no_such_interface)
{
	unsigned fds;

	if (!can_run())
		return;
	fds = fault_fds();
	ck_assert_int_eq(packet_open(4711, PORT), -ENODEV);
	ck_assert_uint_eq(fault_fds(), fds);
}
END_TEST

START_TEST(failing_calls)
{
	static const char *const calls[] = {"socket", "setsockopt", "bind"};
	const struct addr from = local(PORT);
	unsigned fds;

	if (!can_run())
		return;
	fds = fault_fds();
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		FAULT_EACH(calls[i], ENOBUFS)
		{
			int a = packet_open(LO, PORT), b = packet_udp_open(LO, &from);

			ck_assert(a >= 0 || a == -ENOBUFS);
			ck_assert(b >= 0 || b == -ENOBUFS);
			if (a >= 0)
				close(a);
			if (b >= 0)
				close(b);
			ck_assert_uint_eq(fault_fds(), fds);
		}
	}
	FAULT_EACH("sendto", ENOBUFS)
	ck_assert(send_raw(PORT, 0, "x") == -ENOBUFS || fault_n_ > 1);
	ck_assert(readable(fd, WAIT_MS));
}
END_TEST

/* --- out only -------------------------------------------------------------------------------- */

START_TEST(udp_sends)
{
	struct addr from = local(PORT), to = local(67), peer = {.len = sizeof peer.u};
	char buf[16];
	int server, s;

	if (!can_run())
		return;
	server = ordinary(67, PORT);
	s = packet_udp_open(LO, &from);
	ck_assert_int_ge(s, 0);
	ck_assert_int_eq(packet_udp_send(s, &to, span_str("renew")), 0);
	ck_assert(readable(server, WAIT_MS));
	ck_assert_int_eq(recvfrom(server, buf, sizeof buf, 0, &peer.u.sa, &peer.len), 5);
	ck_assert(addr_eq(&peer, &from));
	close(s);
	close(server);
}
END_TEST

/* The answer is seen below, not here, and the server is not told that nobody was listening. */
START_TEST(udp_is_deaf)
{
	struct addr from = local(PORT);
	char buf[16];
	int server, s;

	if (!can_run())
		return;
	server = ordinary(67, PORT);
	s = packet_udp_open(LO, &from);
	ck_assert_int_ge(s, 0);
	ck_assert_int_eq(send(server, "answer", 6, 0), 6);
	expect("answer");
	ck_assert_int_eq(recv(s, buf, sizeof buf, 0), -1);
	ck_assert_int_eq(errno, EAGAIN);
	ck_assert_int_eq(send(server, "answer", 6, 0), 6); /* no ECONNREFUSED */
	close(s);
	ck_assert_int_eq(send(server, "answer", 6, 0), 6);
	ck_assert_int_eq(send(server, "answer", 6, 0), -1);
	ck_assert_int_eq(errno, ECONNREFUSED);
	close(server);
}
END_TEST

START_TEST(udp_without_address)
{
	const struct ip ip = ip_v4(192, 0, 2, 1);
	struct addr from;
	unsigned fds;

	if (!can_run())
		return;
	fds = fault_fds();
	addr_from_ip(&ip, PORT, &from);
	ck_assert_int_eq(packet_udp_open(LO, &from), -EADDRNOTAVAIL);
	ck_assert_uint_eq(fault_fds(), fds);
}
END_TEST

START_TEST(udp_while_down)
{
	struct addr from = local(PORT), to = local(67);
	int s;

	if (!can_run())
		return;
	s = packet_udp_open(LO, &from);
	ck_assert_int_ge(s, 0);
	lo_set(0);
	ck_assert_int_lt(packet_udp_send(s, &to, span_str("x")), 0);
	close(s);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {sent_and_received, sum_left_out, filtered, too_long,
	    link_down_and_up, no_such_interface, failing_calls, udp_sends, udp_is_deaf,
	    udp_without_address, udp_while_down, NULL};
	Suite *s = suite_create("packet");
	TCase *t = tcase_create("core");

	tcase_add_checked_fixture(t, setup, NULL);
	for (const TTest *const *test = tests; *test; test++)
		tcase_add_test(t, *test);
	suite_add_tcase(s, t);
	return s;
}
