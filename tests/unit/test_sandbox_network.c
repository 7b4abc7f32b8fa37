#include "sandbox/network.h"

#include "fault.h"
#include "suite.h"
#include "sys/tap.h"
#include "tap_case.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>

static struct cidr cidr_of(const char *text)
{
	struct cidr c;

	ck_assert_msg(cidr_parse(span_str(text), &c) == E_OK, "%s", text);
	return c;
}

static struct ip ip_of(const char *text)
{
	struct ip ip;

	ck_assert_int_eq(ip_parse(span_str(text), &ip), E_OK);
	return ip;
}

static struct subnet subnet_of(const char *cidr, const char *gateway)
{
	struct cidr c = cidr_of(cidr);
	struct ip ip = ip_of(gateway);
	struct subnet s;

	subnet_init(&s, &c, &ip);
	return s;
}

static void assert_ip(const struct ip *ip, const char *text)
{
	char buf[IP_TEXT_BYTES];

	ip_format(ip, buf);
	ck_assert_str_eq(buf, text);
}

/* --- subnets ---------------------------------------------------------------------------------- */

START_TEST(reads_subnets)
{
	struct cidr c = cidr_of("172.20.0.0/16");
	struct ip ip = cidr_at(&c, 257);

	ck_assert_uint_eq(c.prefix, 16);
	assert_ip(&c.network, "172.20.0.0");
	assert_ip(&ip, "172.20.1.1");
	c = cidr_of("10.1.2.3/8");
	assert_ip(&c.network, "10.0.0.0");
	c = cidr_of("192.168.1.255/30");
	assert_ip(&c.network, "192.168.1.252");
	c = cidr_of("200.0.0.1/1");
	assert_ip(&c.network, "128.0.0.0");
}
END_TEST

START_TEST(refuses_what_is_no_subnet)
{
	static const struct {
		const char *text;
		enum err err;
	} refused[] = {
	    {"", E_MALFORMED},
	    {"10.0.0.0", E_MALFORMED},
	    {"10.0.0.0/", E_MALFORMED},
	    {"10.0.0/8", E_MALFORMED},
	    {"10.0.0.0/0", E_RANGE},
	    {"10.0.0.0/31", E_RANGE},
	    {"10.0.0.0/33", E_RANGE},
	    {"10.0.0.0/8/8", E_MALFORMED},
	    {"10.0.0.0/-8", E_MALFORMED},
	    {"fd00::/8", E_MALFORMED},
	};
	struct cidr c = cidr_of("10.0.0.0/8");

	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		ck_assert_int_eq(cidr_parse(span_str(refused[i].text), &c), refused[i].err);
		ck_assert_uint_eq(c.prefix, 8);
	}
}
END_TEST

START_TEST(knows_its_hosts)
{
	static const struct {
		const char *cidr, *ip;
		bool has;
	} cases[] = {
	    {"10.1.0.0/16", "10.1.0.0", false},
	    {"10.1.0.0/16", "10.1.0.1", true},
	    {"10.1.0.0/16", "10.1.255.254", true},
	    {"10.1.0.0/16", "10.1.255.255", false},
	    {"10.1.0.0/16", "10.2.0.1", false},
	    {"10.1.0.0/16", "10.0.255.255", false},
	    {"10.1.0.0/30", "10.1.0.2", true},
	    {"10.1.0.0/30", "10.1.0.3", false},
	    {"128.0.0.0/1", "255.255.255.254", true},
	    {"128.0.0.0/1", "255.255.255.255", false},
	    {"128.0.0.0/1", "127.255.255.255", false},
	    {"10.1.0.0/16", "fd00::1", false},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct cidr c = cidr_of(cases[i].cidr);
		struct ip ip = ip_of(cases[i].ip);

		ck_assert_msg(
		    cidr_has_host(&c, &ip) == cases[i].has, "%s %s", cases[i].cidr, cases[i].ip);
	}
}
END_TEST

/* --- addresses -------------------------------------------------------------------------------- */

static void take(struct subnet *s, const char *text)
{
	struct ip ip;

	ck_assert_int_eq(subnet_take(s, &ip), 0);
	assert_ip(&ip, text);
}

START_TEST(gives_the_lowest_free_address)
{
	struct subnet s = subnet_of("172.20.0.0/16", "172.20.0.1");
	struct ip second = ip_of("172.20.0.3"), first = ip_of("172.20.0.2");

	take(&s, "172.20.0.2");
	take(&s, "172.20.0.3");
	take(&s, "172.20.0.4");
	subnet_give(&s, &second);
	subnet_give(&s, &first);
	take(&s, "172.20.0.2");
	take(&s, "172.20.0.3");
	take(&s, "172.20.0.5");
}
END_TEST

START_TEST(never_gives_the_gateway_or_the_broadcast)
{
	struct subnet s = subnet_of("10.0.0.0/29", "10.0.0.4");
	struct ip ip = ip_of("10.0.0.250");

	take(&s, "10.0.0.2");
	take(&s, "10.0.0.3");
	take(&s, "10.0.0.5");
	take(&s, "10.0.0.6");
	ck_assert_int_eq(subnet_take(&s, &ip), -EAGAIN);
	assert_ip(&ip, "10.0.0.250");
	s = subnet_of("10.0.0.0/30", "10.0.0.1");
	take(&s, "10.0.0.2");
	ck_assert_int_eq(subnet_take(&s, &ip), -EAGAIN);
	s = subnet_of("10.0.0.0/30", "10.0.0.2");
	ck_assert_int_eq(subnet_take(&s, &ip), -EAGAIN);
}
END_TEST

START_TEST(is_bounded_in_the_largest_subnet)
{
	struct subnet s = subnet_of("0.0.0.0/1", "0.0.0.1");
	struct ip ip, odd = ip_of("64.0.0.1"), v6 = ip_of("::5");

	for (int i = 0; i < SUBNET_SIZE; i++)
		ck_assert_int_eq(subnet_take(&s, &ip), 0);
	assert_ip(&ip, "0.0.16.1");
	ck_assert_int_eq(subnet_take(&s, &ip), -EAGAIN);
	/* what is none of these changes nothing */
	subnet_give(&s, &odd);
	subnet_give(&s, &v6);
	ck_assert_int_eq(subnet_take(&s, &ip), -EAGAIN);
	ip = ip_of("0.0.8.8");
	subnet_give(&s, &ip);
	take(&s, "0.0.8.8");
}
END_TEST

START_TEST(takes_an_address_that_is_asked_for)
{
	static const struct {
		const char *ip;
		int rc;
	} cases[] = {
	    {"10.0.0.5", 0},
	    {"10.0.0.5", -EADDRINUSE}, /* by now */
	    {"10.0.0.2", 0},
	    {"10.0.0.0", -EADDRINUSE}, /* the network's own */
	    {"10.0.0.1", -EADDRINUSE}, /* before the first */
	    {"10.0.0.4", -EADDRINUSE}, /* the gateway's */
	    {"10.0.0.7", -EADDRINUSE}, /* the broadcast's */
	    {"10.0.0.9", -EADDRINUSE}, /* in another network */
	    {"9.255.255.9", -EADDRINUSE},
	    {"::5", -EADDRINUSE},
	    {"10.0.0.6", 0},
	};
	struct subnet s = subnet_of("10.0.0.0/29", "10.0.0.4");
	struct ip ip;

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		ip = ip_of(cases[i].ip);
		ck_assert_msg(subnet_take_at(&s, &ip) == cases[i].rc, "%s", cases[i].ip);
	}
	take(&s, "10.0.0.3");
	ck_assert_int_eq(subnet_take(&s, &ip), -EAGAIN);
	ip = ip_of("10.0.0.5");
	subnet_give(&s, &ip);
	ck_assert_int_eq(subnet_take_at(&s, &ip), 0);
}
END_TEST

START_TEST(takes_none_that_is_not_given_out)
{
	struct subnet s = subnet_of("10.0.0.0/8", "10.0.0.1");
	struct cidr c = cidr_of("10.0.0.0/8");
	struct ip last = cidr_at(&c, SUBNET_FIRST + SUBNET_SIZE - 1);
	struct ip beyond = cidr_at(&c, SUBNET_FIRST + SUBNET_SIZE);

	ck_assert_int_eq(subnet_take_at(&s, &last), 0);
	ck_assert_int_eq(subnet_take_at(&s, &beyond), -EADDRINUSE);
}
END_TEST

/* --- links ------------------------------------------------------------------------------------ */

static int detach(struct nic *nic, struct subnet *s)
{
	int rc = nic_unplug(nic);

	if (rc == 0)
		nic_release(nic, s);
	return rc;
}

struct seen {
	unsigned taps;
	struct netlink_link link; /* the last of them */
	struct netlink_addr addr;
	unsigned addrs;
};

static void see_link(void *ctx, const struct netlink_link *link)
{
	struct seen *seen = ctx;

	if (strncmp(link->name, "vmtap", 5) != 0)
		return;
	seen->taps++;
	seen->link = *link;
}

static void see_addr(void *ctx, const struct netlink_addr *addr)
{
	struct seen *seen = ctx;

	if (addr->ip.family != 4)
		return;
	seen->addrs++;
	seen->addr = *addr;
}

static struct seen see(void)
{
	struct seen seen = {0};

	/* a fault that is still to come meets the first try */
	if (netlink_links(&netlink, see_link, &seen) < 0)
		ck_assert_int_eq(netlink_links(&netlink, see_link, &seen), 0);
	if (seen.taps)
		ck_assert_int_eq(netlink_addrs(&netlink, seen.link.index, see_addr, &seen), 0);
	return seen;
}

START_TEST(attaches_and_detaches)
{
	struct subnet s = subnet_of("172.20.0.0/16", "172.20.0.1");
	struct nic nic;
	struct seen seen;

	if (!tap_setup())
		return;
	ck_assert_int_eq(nic_attach(&nic, &s, &netlink, span_str("box")), 0);
	assert_ip(&nic.ip, "172.20.0.2");
	ck_assert_str_eq(nic.tap, "vmtap0-2");
	seen = see();
	ck_assert_uint_eq(seen.taps, 1);
	ck_assert_str_eq(seen.link.name, "vmtap0-2");
	ck_assert(seen.link.flags & IFF_UP);
	ck_assert_uint_eq(seen.addrs, 1);
	assert_ip(&seen.addr.ip, "172.20.0.1");
	assert_ip(&seen.addr.peer, "172.20.0.2");
	ck_assert_uint_eq(seen.addr.prefix, 32);
	for (int twice = 0; twice < 2; twice++)
		ck_assert_int_eq(nic_unplug(&nic), 0);
	nic_release(&nic, &s);
	ck_assert_uint_eq(nic.ip.family, 0);
	ck_assert_uint_eq(see().taps, 0);
	take(&s, "172.20.0.2");
	tap_teardown();
}
END_TEST

/* They all have the gateway's address here. */
START_TEST(attaches_many)
{
	struct subnet s = subnet_of("172.20.255.0/24", "172.20.255.1");
	struct nic nics[50];

	if (!tap_setup())
		return;
	for (size_t i = 0; i < 50; i++)
		ck_assert_int_eq(nic_attach(&nics[i], &s, &netlink, span_str("box")), 0);
	ck_assert_str_eq(nics[49].tap, "vmtap255-51");
	ck_assert_uint_eq(see().taps, 50);
	ck_assert_uint_eq(see().addrs, 1);
	for (size_t i = 0; i < 50; i++)
		ck_assert_int_eq(detach(&nics[i], &s), 0);
	ck_assert_uint_eq(see().taps, 0);
	tap_teardown();
}
END_TEST

START_TEST(cleans_what_an_earlier_process_left)
{
	struct subnet s = subnet_of("172.20.0.0/16", "172.20.0.1");
	unsigned removed;
	struct nic nic;

	if (!tap_setup())
		return;
	ck_assert_int_eq(tap_create("vmtap0-2"), 0);
	ck_assert_int_eq(nic_attach(&nic, &s, &netlink, span_str("box")), 0);
	ck_assert_uint_eq(see().addrs, 1);
	ck_assert_int_eq(tap_create("vmtap7-7"), 0);
	ck_assert_int_eq(tap_create("mine"), 0);
	ck_assert_int_eq(nic_clean(&removed), 0);
	ck_assert_uint_eq(removed, 2);
	ck_assert_uint_eq(see().taps, 0);
	ck_assert_uint_ne(if_nametoindex("mine"), 0);
	tap_teardown();
}
END_TEST

START_TEST(a_failed_attachment_leaves_nothing)
{
	static const char *const calls[] = {"open", "sendto", "recvfrom", "realloc"};
	struct subnet s = subnet_of("10.0.0.0/30", "10.0.0.1"); /* one address */
	struct nic nic = {0};

	if (!tap_setup())
		return;
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		FAULT_EACH(calls[i], ENOMEM)
		{
			int rc = nic_attach(&nic, &s, &netlink, span_str("box"));

			ck_assert(rc == 0 || nic.ip.family == 0);
			while (nic.ip.family && detach(&nic, &s) < 0)
				;
			ck_assert_uint_eq(see().taps, 0);
		}
	tap_teardown();
}
END_TEST

START_TEST(a_full_subnet_attaches_nothing)
{
	struct subnet s = subnet_of("10.0.0.0/30", "10.0.0.1");
	struct nic nic = {0}, other = {0};

	if (!tap_setup())
		return;
	ck_assert_int_eq(nic_attach(&nic, &s, &netlink, span_str("a")), 0);
	ck_assert_int_eq(nic_attach(&other, &s, &netlink, span_str("b")), -EAGAIN);
	ck_assert_uint_eq(other.ip.family, 0);
	ck_assert_uint_eq(see().taps, 1);
	ck_assert_int_eq(detach(&nic, &s), 0);
	tap_teardown();
}
END_TEST

START_TEST(attaches_at_an_address_that_is_asked_for)
{
	struct subnet s = subnet_of("10.0.0.0/29", "10.0.0.1");
	struct ip wanted = ip_of("10.0.0.5");
	struct nic nic = {0}, other = {0};
	struct seen seen;

	if (!tap_setup())
		return;
	ck_assert_int_eq(nic_attach_at(&nic, &s, &netlink, span_str("a"), &wanted), 0);
	assert_ip(&nic.ip, "10.0.0.5");
	ck_assert_str_eq(nic.tap, "vmtap0-5");
	seen = see();
	assert_ip(&seen.addr.peer, "10.0.0.5");
	ck_assert_int_eq(nic_attach_at(&other, &s, &netlink, span_str("b"), &wanted), -EADDRINUSE);
	ck_assert_uint_eq(other.ip.family, 0);
	ck_assert_uint_eq(see().taps, 1);
	ck_assert_int_eq(detach(&nic, &s), 0);
	FAULT_EACH("sendto", ENOMEM)
	{
		int rc = nic_attach_at(&nic, &s, &netlink, span_str("a"), &wanted);

		ck_assert(rc == 0 || nic.ip.family == 0);
		while (nic.ip.family && detach(&nic, &s) < 0)
			;
	}
	/* whatever failed gave it back */
	ck_assert_int_eq(subnet_take_at(&s, &wanted), 0);
	ck_assert_uint_eq(see().taps, 0);
	tap_teardown();
}
END_TEST

START_TEST(macs_are_stable_and_local)
{
	struct subnet s = subnet_of("10.0.0.0/24", "10.0.0.1");
	char first[NIC_MAC_TEXT_BYTES], text[NIC_MAC_TEXT_BYTES];
	struct nic nic;

	if (!tap_setup())
		return;
	for (int i = 0; i < 20; i++) {
		char id[] = {'i', (char)('a' + i % 10), '\0'};

		ck_assert_int_eq(nic_attach(&nic, &s, &netlink, span_str(id)), 0);
		ck_assert_uint_eq(nic.mac[0] & 3, 2);
		nic_mac_text(&nic, text);
		ck_assert_uint_eq(strlen(text), 17);
		ck_assert_int_eq(text[2], ':');
		if (i == 0)
			memcpy(first, text, sizeof first);
		ck_assert_int_eq(strcmp(first, text) == 0, i % 10 == 0);
	}
	/* also in the next version: it is in snapshots */
	ck_assert_str_eq(first, "3e:43:5c:b5:07:33");
	tap_teardown();
}
END_TEST

START_TEST(tells_the_kernel_of_the_sandbox)
{
	struct subnet s = subnet_of("172.20.0.0/16", "172.20.0.1");
	struct nic nic = {.ip = ip_of("172.20.0.2")};
	char text[64];
	struct wr w = wr_of(text, sizeof text);

	nic_boot_word(&nic, &s, &w);
	wr_nul(&w);
	ck_assert_str_eq(text, "ip=172.20.0.2::172.20.0.1:255.255.0.0::eth0:off");
	w = wr_of(text, 20);
	nic_boot_word(&nic, &s, &w);
	ck_assert_int_eq(w.err, E_SPACE);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {reads_subnets, refuses_what_is_no_subnet, knows_its_hosts,
	    gives_the_lowest_free_address, never_gives_the_gateway_or_the_broadcast,
	    is_bounded_in_the_largest_subnet, takes_an_address_that_is_asked_for,
	    takes_none_that_is_not_given_out, attaches_and_detaches, attaches_many,
	    cleans_what_an_earlier_process_left, a_failed_attachment_leaves_nothing,
	    a_full_subnet_attaches_nothing, attaches_at_an_address_that_is_asked_for,
	    macs_are_stable_and_local, tells_the_kernel_of_the_sandbox, NULL};

	return suite_of("network", tests);
}
