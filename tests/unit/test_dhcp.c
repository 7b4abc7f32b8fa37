#include "codec/dhcp.h"

#include "cases.h"
#include "suite.h"

#include <stdarg.h>
#include <stdio.h>

#define XID 0x11223344u
enum { HEAD_BYTES = 240, YIADDR_AT = 16, SNAME_AT = 44, FILE_AT = 108, TEXT_BYTES = 1024 };

static const uint8_t mac[DHCP_MAC_BYTES] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};

/* What every offer has: type, server, 3600 s. */
#define OFFER "35 01 02  36 04 0a000202  33 04 00000e10 "
#define ACK   "35 01 05  36 04 0a000202  33 04 00000e10 "
#define LENT  "10.0.2.15/8 from 10.0.2.2 for 3600"

/* --- messages -------------------------------------------------------------------------------- */

struct message {
	struct wr w;
	uint8_t bytes[DHCP_MESSAGE_BYTES + 64];
};

static struct span message_span(const struct message *m)
{
	return wr_span(&m->w);
}

/* A reply that offers 10.0.2.15, without options. */
static void message_begin(struct message *m)
{
	memset(m, 0, sizeof *m);
	m->w = wr_of(m->bytes, sizeof m->bytes);
	wr_bytes(&m->w,
	    unhex("02 01 06 00  11223344  0000 0000  00000000  0a00020f  0a000202  00000000"));
	wr_bytes(&m->w, span_of(mac, sizeof mac));
	m->w.n = HEAD_BYTES - 4;
	wr_bytes(&m->w, unhex("63825363"));
}

static struct span reply(const char *options)
{
	static struct message m;

	message_begin(&m);
	wr_bytes(&m.w, unhex(options));
	return message_span(&m);
}

/* One option as text, its code in decimal. */
static void option_put(struct message *m, uint8_t code, struct span value)
{
	wr_u8(&m->w, code);
	wr_u8(&m->w, (uint8_t)value.n);
	wr_bytes(&m->w, value);
}

/* --- leases as text -------------------------------------------------------------------------- */

struct text {
	char buf[TEXT_BYTES];
	size_t n;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	t->n += (size_t)vsnprintf(t->buf + t->n, sizeof t->buf - t->n, format, args);
	va_end(args);
	ck_assert_uint_lt(t->n, sizeof t->buf);
}

static const char *ip_text(const struct ip *ip)
{
	static char buf[IP_TEXT_BYTES];

	if (ip->family == 0)
		return "nobody";
	ck_assert_uint_eq(ip->family, 4);
	ip_format(ip, buf);
	return buf;
}

static void put_ips(struct text *t, const char *name, const struct ip *ips, size_t n)
{
	for (size_t i = 0; i < n; i++)
		put(t, " %s %s", name, ip_text(&ips[i]));
}

static void put_lease(struct text *t, const struct dhcp_lease *l)
{
	put(t, "%s/%u", ip_text(&l->address), l->prefix);
	put(t, " from %s for %u", ip_text(&l->server), l->lease_secs);
	if (l->renew_secs)
		put(t, " t1 %u", l->renew_secs);
	if (l->rebind_secs)
		put(t, " t2 %u", l->rebind_secs);
	put_ips(t, "router", l->routers, l->n_routers);
	put_ips(t, "dns", l->dns, l->n_dns);
	for (size_t i = 0; i < l->n_routes; i++) {
		put(t, " route %s/%u", ip_text(&l->routes[i].to), l->routes[i].prefix);
		put(t, " via %s", ip_text(&l->routes[i].via));
	}
	if (l->mtu)
		put(t, " mtu %u", l->mtu);
	if (l->hostname[0])
		put(t, " host %s", l->hostname);
	if (l->domain[0])
		put(t, " domain %s", l->domain);
	ck_assert_uint_eq(l->bound_ns, 0);
}

/* The lease of a message that has to be of the type, read against a guard page. */
static const char *lease_of(struct span message, enum dhcp_type type)
{
	static struct text t;
	struct guard g = guard_copy(message);
	struct dhcp_reply reply;

	ck_assert_int_eq(dhcp_reply_read(g.s, XID, mac, &reply), E_OK);
	guard_free(&g);
	ck_assert_int_eq(reply.type, type);
	t.n = 0;
	put_lease(&t, &reply.lease);
	return t.buf;
}

static void offers(const char *options, const char *lease)
{
	ck_assert_str_eq(lease_of(reply(options), DHCP_OFFER), lease);
}

static void refuse(struct span message, enum err want)
{
	struct guard g = guard_copy(message);
	struct dhcp_reply out, untouched;

	memset(&out, 0xdd, sizeof out);
	untouched = out;
	ck_assert_int_eq(dhcp_reply_read(g.s, XID, mac, &out), want);
	ck_assert(memcmp(&out, &untouched, sizeof out) == 0);
	guard_free(&g);
}

static void malformed(const char *options)
{
	refuse(reply(options), E_MALFORMED);
}

/* --- replies --------------------------------------------------------------------------------- */

#define FULL                                                                                       \
	"35 01 05  36 04 0a000202  33 04 00000e10  3a 04 00000708  3b 04 00000c4e  01 04 "         \
	"ffffff00 "                                                                                \
	"1c 04 0a0002ff  03 08 0a000202 0a000203  06 08 0a000203 08080808  0c 03 766d31 "          \
	"0f 0b 6578616d706c652e6f7267  1a 02 05dc  3d 07 01 525400123456 "

START_TEST(types)
{
	offers(OFFER "ff", LENT);
	ck_assert_str_eq(lease_of(reply(ACK "ff"), DHCP_ACK), LENT);
	ck_assert_str_eq(lease_of(reply("35 01 06  36 04 0a000202  38 02 6e6f  ff"), DHCP_NAK),
	    "nobody/0 from 10.0.2.2 for 0");
	/* All that stands in a refusal beside is nobody's lease. */
	ck_assert_str_eq(
	    lease_of(
		reply("35 01 06  36 04 0a000202  33 04 00000e10  06 04 08080808 ff"), DHCP_NAK),
	    "nobody/0 from 10.0.2.2 for 0");
}
END_TEST

START_TEST(all_options)
{
	ck_assert_str_eq(lease_of(reply(FULL "ff"), DHCP_ACK),
	    "10.0.2.15/24 from 10.0.2.2 for 3600 t1 1800 t2 3150 router 10.0.2.2 router 10.0.2.3 "
	    "dns 10.0.2.3 dns 8.8.8.8 mtu 1500 host vm1 domain example.org");
	/* Pads between, unknown options, and whatever after the end. */
	offers("00 00 " OFFER "00 e0 03 010203  2b 00  00 ff 00 00 12 34", LENT);
}
END_TEST

START_TEST(for_somebody_else)
{
	static const struct {
		size_t at;
		uint8_t value;
	} changes[] = {{0, 1}, {1, 6}, {2, 16}, {4, 0x10}, {7, 0x45}, {28, 0x53}, {33, 0x57}};

	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		struct span m = reply(OFFER "ff");
		uint8_t bytes[DHCP_MESSAGE_BYTES];

		memcpy(bytes, m.p, m.n);
		bytes[changes[i].at] = changes[i].value;
		refuse(span_of(bytes, m.n), E_UNKNOWN);
	}
	offers(OFFER "3d 07 01 525400123456 ff", LENT);
	refuse(reply(OFFER "3d 07 01 525400123457 ff"), E_UNKNOWN);
	refuse(reply(OFFER "3d 07 00 525400123456 ff"), E_UNKNOWN);
	refuse(reply(OFFER "3d 08 01 525400123456 00 ff"), E_UNKNOWN);
	refuse(reply(OFFER "3d 00 ff"), E_UNKNOWN);
	for (unsigned type = 0; type < 256; type++) {
		char options[128];

		if (type == DHCP_OFFER || type == DHCP_ACK || type == DHCP_NAK)
			continue;
		snprintf(
		    options, sizeof options, "35 01 %02x 36 04 0a000202 33 04 00000e10 ff", type);
		refuse(reply(options), type ? E_UNKNOWN : E_MALFORMED);
	}
}
END_TEST

START_TEST(broken_options)
{
	malformed("");                                  /* no end */
	malformed(OFFER);                               /* no end behind them */
	malformed("36 04 0a000202  33 04 00000e10 ff"); /* BOOTP */
	malformed("35 01 02  33 04 00000e10 ff");       /* no server */
	malformed("35 01 06 ff");
	malformed("35 01 02  36 04 0a000202 ff"); /* no lease time */
	malformed("35 01 02  36 04 0a000202  33 04 00000000 ff");
	malformed("35 02 0202  36 04 0a000202  33 04 00000e10 ff");
	malformed("35 00  36 04 0a000202  33 04 00000e10 ff");
	malformed(OFFER "35 01 02 ff"); /* a second one makes it two bytes */
	malformed(OFFER "36 04 0a000203 ff");
	malformed("35 01 02  36 03 0a0002  33 04 00000e10 ff");
	malformed("35 01 02  36 04 ffffffff  33 04 00000e10 ff");
	malformed(OFFER "06 ff 01020304 ff"); /* longer than the message */
	malformed(OFFER "06");
}
END_TEST

/* Each option with every length that is not its own. */
START_TEST(wrong_lengths)
{
	static const struct {
		uint8_t code;
		size_t length;
		bool many;
	} options[] = {{1, 4, 0}, {3, 4, 1}, {6, 4, 1}, {26, 2, 0}, {51, 4, 0}, {54, 4, 0},
	    {58, 4, 0}, {59, 4, 0}};
	static const uint8_t ones[16] = {255, 255, 255, 255, 255, 255, 255, 255};

	for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
		for (size_t n = 0; n < sizeof ones; n++) {
			struct message m;
			bool right = options[i].many ? n && n % 4 == 0 : n == options[i].length;

			message_begin(&m);
			option_put(&m, options[i].code, span_of(ones, n));
			wr_bytes(&m.w, unhex("35 01 06 36 04 0a000202 ff"));
			if (options[i].code == 54) /* twice: its pieces are put together */
				right = n == 0;
			if (right)
				lease_of(message_span(&m), DHCP_NAK);
			else
				refuse(message_span(&m), E_MALFORMED);
		}
	}
}
END_TEST

START_TEST(masks)
{
	for (unsigned prefix = 1; prefix <= 32; prefix++) {
		char options[128], lease[64];

		snprintf(
		    options, sizeof options, OFFER "01 04 %08x ff", UINT32_MAX << (32 - prefix));
		snprintf(lease, sizeof lease, "10.0.2.15/%u from 10.0.2.2 for 3600", prefix);
		if (prefix >= 28 && prefix <= 30) /* 15 is a broadcast address there */
			malformed(options);
		else
			offers(options, lease);
	}
	malformed(OFFER "01 04 00000000 ff");
	malformed(OFFER "01 04 ff00ff00 ff");
	malformed(OFFER "01 04 000000ff ff");
	malformed(OFFER "01 04 7fffffff ff");
}
END_TEST

static struct span offer_of(const char *address, const char *options)
{
	static uint8_t bytes[DHCP_MESSAGE_BYTES];
	struct span m = reply(options);
	struct ip ip;

	memcpy(bytes, m.p, m.n);
	ck_assert_int_eq(ip_parse(span_str(address), &ip), E_OK);
	memcpy(bytes + YIADDR_AT, ip.b, 4);
	return span_of(bytes, m.n);
}

START_TEST(addresses)
{
	static const char *const good[][2] = {{"10.0.0.1", "10.0.0.1/8"},
	    {"126.1.2.3", "126.1.2.3/8"}, {"128.1.2.3", "128.1.2.3/16"},
	    {"172.16.0.9", "172.16.0.9/16"}, {"192.168.64.2", "192.168.64.2/24"},
	    {"223.255.255.254", "223.255.255.254/24"}, {"169.254.1.1", "169.254.1.1/16"}};
	static const char *const bad[] = {"0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1",
	    "239.1.2.3", "240.0.0.1", "255.255.255.255", "10.0.0.0", "10.255.255.255",
	    "192.168.1.0", "192.168.1.255"};

	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		char lease[64];

		snprintf(lease, sizeof lease, "%s from 10.0.2.2 for 3600", good[i][1]);
		ck_assert_str_eq(lease_of(offer_of(good[i][0], OFFER "ff"), DHCP_OFFER), lease);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		refuse(offer_of(bad[i], OFFER "ff"), E_MALFORMED);
	lease_of(offer_of("192.168.1.255", OFFER "01 04 ffff0000 ff"), DHCP_OFFER);
	lease_of(offer_of("192.168.1.254", OFFER "01 04 fffffffe ff"), DHCP_OFFER);
	lease_of(offer_of("192.168.1.255", OFFER "01 04 fffffffe ff"), DHCP_OFFER);
	refuse(offer_of("192.168.1.252", OFFER "01 04 fffffffc ff"), E_MALFORMED);
}
END_TEST

START_TEST(lists)
{
	/* Addresses of no use are left out, and so is what there is no room for. */
	offers(OFFER "03 10 00000000 0a000201 ffffffff e0000001 ff", LENT " router 10.0.2.1");
	offers(OFFER "06 08 7f000001 00000000 ff", LENT);
	offers(OFFER "06 14 01010101 02020202 03030303 04040404 05050505 ff",
	    LENT " dns 1.1.1.1 dns 2.2.2.2 dns 3.3.3.3 dns 4.4.4.4");
	offers(OFFER "03 14 01010101 02020202 03030303 04040404 05050505 ff",
	    LENT " router 1.1.1.1 router 2.2.2.2 router 3.3.3.3 router 4.4.4.4");
}
END_TEST

START_TEST(routes)
{
	/* Each width of a destination; bits behind the prefix are cleared. */
	offers(OFFER
	    "79 25  08 0a 0a000201  09 0aff 0a000201  10 ac10 0a000201  11 ac1080 00000000 "
	    "20 01020304 0a000204 ff",
	    LENT " route 10.0.0.0/8 via 10.0.2.1 route 10.128.0.0/9 via 10.0.2.1 "
		 "route 172.16.0.0/16 via 10.0.2.1 route 172.16.128.0/17 via 0.0.0.0 "
		 "route 1.2.3.4/32 via 10.0.2.4");
	/* The router option counts without them only, wherever it stands. */
	offers(OFFER "79 07 10 ac10 0a000204  03 04 0a000202 ff",
	    LENT " route 172.16.0.0/16 via 10.0.2.4");
	offers(OFFER "03 04 0a000202  79 0c 00 0a000209 10 ac10 0a000204 ff",
	    LENT " router 10.0.2.9 route 172.16.0.0/16 via 10.0.2.4");
	/* Of no use: to everywhere on the link, by a router that cannot be one. */
	offers(OFFER "79 11 00 00000000  08 0a 7f000001  08 0b ffffffff ff", LENT);
	malformed(OFFER "79 00 ff");
	malformed(OFFER "79 04 00 0a0002 ff");
	malformed(OFFER "79 06 10 ac 0a000204 ff");
	malformed(OFFER "79 09 21 01020304 0a000204 ff");
	malformed(OFFER "79 0a ff 01020304 0a000204 01 ff");
	malformed(OFFER "79 08 10 ac10 0a000204 08 ff");
}
END_TEST

START_TEST(too_many_routes)
{
	struct message m;
	struct dhcp_reply got;

	message_begin(&m);
	wr_bytes(&m.w, unhex(ACK));
	for (uint8_t i = 0; i < 40; i++) /* in pieces that cut routes anywhere */
		for (uint8_t at = 0; at < 6; at++) {
			const uint8_t route[] = {8, (uint8_t)(i + 1), 10, 0, 2, 1};

			option_put(&m, 121, span_of(route + at, 1));
		}
	for (uint8_t i = 0; i < 10; i++)
		option_put(&m, 121, unhex("00 0a000201"));
	wr_u8(&m.w, 255);
	ck_assert_int_eq(dhcp_reply_read(message_span(&m), XID, mac, &got), E_OK);
	ck_assert_uint_eq(got.lease.n_routes, DHCP_ROUTES);
	ck_assert_uint_eq(got.lease.n_routers, DHCP_ROUTERS);
	for (uint8_t i = 0; i < DHCP_ROUTES; i++)
		ck_assert_uint_eq(got.lease.routes[i].to.b[0], i + 1);
}
END_TEST

START_TEST(options_in_pieces)
{
	offers(OFFER "06 02 0102  01 04 ffffff00  06 06 0304 05060708 ff",
	    "10.0.2.15/24 from 10.0.2.2 for 3600 dns 1.2.3.4 dns 5.6.7.8");
	offers(OFFER "0f 05 6578616d70  0f 00  0f 02 6c65 ff", LENT " domain example");
	malformed(OFFER "06 02 0102  06 03 030405 ff");
	malformed(OFFER "1a 02 05dc 1a 02 05dc ff");
}
END_TEST

/* Options of which some stand in sname or file. */
static struct span overloaded(const char *options, const char *file, const char *sname)
{
	static struct message m;
	struct span s;

	message_begin(&m);
	s = unhex(options);
	wr_bytes(&m.w, s);
	s = unhex(file);
	memcpy(m.bytes + FILE_AT, s.p, s.n);
	s = unhex(sname);
	memcpy(m.bytes + SNAME_AT, s.p, s.n);
	return message_span(&m);
}

START_TEST(overload)
{
	const char *file = "1a 02 05dc  06 04 02020202 ff", *sname = "0c 02 766d 06 04 03030303 ff";
	const char *all = OFFER "06 04 01010101 ";
	char options[128];

	/* Not looked at unless the message says so. */
	ck_assert_str_eq(lease_of(overloaded(OFFER "ff", file, sname), DHCP_OFFER), LENT);
	ck_assert_str_eq(lease_of(overloaded(OFFER "ff", "0c", "0c 99"), DHCP_OFFER), LENT);
	snprintf(options, sizeof options, "%s 34 01 01 ff", all);
	ck_assert_str_eq(lease_of(overloaded(options, file, sname), DHCP_OFFER),
	    LENT " dns 1.1.1.1 dns 2.2.2.2 mtu 1500");
	snprintf(options, sizeof options, "34 01 02 %s ff", all);
	ck_assert_str_eq(lease_of(overloaded(options, file, sname), DHCP_OFFER),
	    LENT " dns 1.1.1.1 dns 3.3.3.3 host vm");
	snprintf(options, sizeof options, "%s 34 01 03 ff", all);
	ck_assert_str_eq(lease_of(overloaded(options, file, sname), DHCP_OFFER),
	    LENT " dns 1.1.1.1 dns 2.2.2.2 dns 3.3.3.3 mtu 1500 host vm");
	/* Even the type may be there, but not another overload. */
	ck_assert_str_eq(
	    lease_of(overloaded("34 01 01 ff", OFFER "34 01 02 ff", ""), DHCP_OFFER), LENT);
	refuse(overloaded(options, file, "0c 99"), E_MALFORMED);
	refuse(overloaded(options, "0c 99", sname), E_MALFORMED);
	refuse(overloaded(OFFER "34 01 01 ff", "0c 7f", sname), E_MALFORMED);
	malformed(OFFER "34 01 00 ff");
	malformed(OFFER "34 01 04 ff");
	malformed(OFFER "34 02 01 01 ff");
	malformed(OFFER "34 00 ff");
}
END_TEST

static void name_is(uint8_t code, struct span name, const char *rest)
{
	struct message m;
	char lease[TEXT_BYTES];

	message_begin(&m);
	wr_bytes(&m.w, unhex(OFFER));
	while (name.n > 255) {
		option_put(&m, code, span_first(name, 255));
		name = span_from(name, 255);
	}
	option_put(&m, code, name);
	wr_u8(&m.w, 255);
	snprintf(lease, sizeof lease, LENT "%s", rest);
	ck_assert_str_eq(lease_of(message_span(&m), DHCP_OFFER), lease);
}

START_TEST(names)
{
	static const char *const good[] = {
	    "a", "vm-1", "VM1", "1", "a.b", "web.example.org", "x--y"};
	static const char *const bad[] = {"-a", "a-", ".a", "a..b", "a.", "a b", "a/b", "../etc",
	    "a_b", "a\nb", "a\x7f", "caf\xc3\xa9", "a;b", "*", "a.-b"};
	char text[128];

	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		snprintf(text, sizeof text, " host %s", good[i]);
		name_is(12, span_str(good[i]), text);
		snprintf(text, sizeof text, " domain %s", good[i]);
		name_is(15, span_str(good[i]), text);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		bool dot = strcmp(bad[i], "a.") == 0;

		name_is(12, span_str(bad[i]), dot ? " host a" : "");
		name_is(15, span_str(bad[i]), dot ? " domain a" : "");
	}
	name_is(12, span_of("vm\0", 3), " host vm");
	name_is(15, span_of("example.org.\0\0", 14), " domain example.org");
	name_is(12, span_of("v\0m", 3), "");
	name_is(12, span_of("\0", 1), "");
	name_is(12, span_of("a..", 3), "");
	name_is(12, span_of("", 0), "");
}
END_TEST

START_TEST(long_names)
{
	char name[300], text[TEXT_BYTES];

	memset(name, 'a', sizeof name);
	name[0] = 'x';
	name_is(12, span_of(name, 64), ""); /* a label has 63 at most */
	snprintf(text, sizeof text, " host %.63s", name);
	name_is(12, span_of(name, 63), text);
	name[10] = '.';
	snprintf(text, sizeof text, " host %.64s", name);
	name_is(12, span_of(name, 64), text);
	name_is(12, span_of(name, 65), "");
	for (size_t at = 60; at < sizeof name; at += 60)
		name[at] = '.';
	snprintf(text, sizeof text, " domain %.253s", name);
	name_is(15, span_of(name, 253), text);
	name_is(15, span_of(name, 254), "");
	name_is(15, span_of(name, 256), "");
}
END_TEST

START_TEST(mtus)
{
	offers(OFFER "1a 02 0044 ff", LENT " mtu 68");
	offers(OFFER "1a 02 0043 ff", LENT);
	offers(OFFER "1a 02 ffff ff", LENT " mtu 65535");
}
END_TEST

static void cut_is_refused(struct span cut, void *whole)
{
	if (cut.n < *(size_t *)whole)
		refuse(cut, E_MALFORMED);
	else
		lease_of(cut, DHCP_ACK);
}

START_TEST(cut_at_each_length)
{
	struct span m = reply(FULL "ff");
	uint8_t bytes[DHCP_MESSAGE_BYTES];

	memcpy(bytes, m.p, m.n);
	each_cut(span_of(bytes, m.n), cut_is_refused, &m.n);
	refuse(span_of(NULL, 0), E_MALFORMED);
}
END_TEST

static void mutation_is_sane(struct span mutated, void *accepted)
{
	struct dhcp_reply out = {0};
	enum err err = dhcp_reply_read(mutated, XID, mac, &out);

	ck_assert(err == E_OK || err == E_MALFORMED || err == E_UNKNOWN);
	ck_assert_uint_le(out.lease.n_dns, DHCP_DNS_SERVERS);
	ck_assert_uint_le(out.lease.n_routers, DHCP_ROUTERS);
	if (err == E_OK)
		++*(unsigned *)accepted;
}

START_TEST(mutations)
{
	struct span m = reply(FULL "ff");
	uint8_t bytes[DHCP_MESSAGE_BYTES];
	unsigned accepted = 0;

	memcpy(bytes, m.p, m.n);
	each_mutation(span_of(bytes, m.n), mutation_is_sane, &accepted);
	ck_assert_uint_gt(accepted, 500); /* most of a message is of no interest */
}
END_TEST

START_TEST(largest)
{
	struct message m;

	message_begin(&m);
	wr_bytes(&m.w, unhex(OFFER "ff"));
	m.w.n = DHCP_MESSAGE_BYTES;
	lease_of(message_span(&m), DHCP_OFFER);
	m.w.n++;
	refuse(message_span(&m), E_LIMIT);
	/* One option that fills it, in pieces. */
	message_begin(&m);
	wr_bytes(&m.w, unhex("35 01 06  36 04 0a000202"));
	while (m.w.n + 3 + 8 < DHCP_MESSAGE_BYTES)
		option_put(&m, 6, unhex("01010101 02020202"));
	wr_u8(&m.w, 255);
	lease_of(message_span(&m), DHCP_NAK);
}
END_TEST

/* --- requests -------------------------------------------------------------------------------- */

static const struct dhcp_request base = {
    .xid = XID,
    .secs = 7,
    .mac = mac,
    .address = {4, {10, 0, 2, 15}},
    .server = {4, {10, 0, 2, 2}},
    .hostname = SPAN_LIT("vm1"),
};

/* Its options as "code=hex", after all that stands before them has been compared. */
static const char *request_text(const struct dhcp_request *request, const char *ciaddr)
{
	static struct text t;
	uint8_t buf[DHCP_REQUEST_BYTES], head[HEAD_BYTES] = {0};
	struct wr w = wr_of(buf, sizeof buf), want = wr_of(head, sizeof head);
	struct rd r;
	uint8_t code;

	dhcp_request_write(&w, request);
	ck_assert_int_eq(w.err, E_OK);
	ck_assert_uint_ge(w.n, 300);
	wr_bytes(&want, unhex("01 01 06 00  11223344  0007 0000"));
	wr_bytes(&want, unhex(ciaddr));
	memcpy(head + 28, mac, sizeof mac);
	memcpy(head + 236, unhex("63825363").p, 4);
	ck_assert_mem_eq(buf, head, HEAD_BYTES);
	r = rd_of(span_from(wr_span(&w), HEAD_BYTES));
	for (t.n = 0; (code = rd_u8(&r)) != 255;) {
		struct span value = rd_bytes(&r, rd_u8(&r));

		put(&t, "%s%u=", t.n ? " " : "", code);
		for (size_t i = 0; i < value.n; i++)
			put(&t, "%02x", value.p[i]);
	}
	ck_assert_int_eq(r.err, E_OK);
	while (rd_left(&r))
		ck_assert_uint_eq(rd_u8(&r), 0);
	return t.buf;
}

#define CLIENT "61=01525400123456"
#define WISHES "55=017903060c0f1a33363a3b 57=05dc 12=766d31"

START_TEST(forms)
{
	static const struct {
		enum dhcp_form form;
		const char *ciaddr, *options;
	} rows[] = {
	    {DHCP_FORM_DISCOVER, "00000000", "53=01 " CLIENT " 50=0a00020f " WISHES},
	    {DHCP_FORM_SELECT, "00000000", "53=03 " CLIENT " 50=0a00020f 54=0a000202 " WISHES},
	    {DHCP_FORM_REBOOT, "00000000", "53=03 " CLIENT " 50=0a00020f " WISHES},
	    {DHCP_FORM_RENEW, "0a00020f", "53=03 " CLIENT " " WISHES},
	    {DHCP_FORM_REBIND, "0a00020f", "53=03 " CLIENT " " WISHES},
	    {DHCP_FORM_RELEASE, "0a00020f", "53=07 " CLIENT " 54=0a000202"},
	};

	ck_assert_uint_eq(sizeof rows / sizeof *rows, DHCP_FORMS);
	for (size_t i = 0; i < DHCP_FORMS; i++) {
		struct dhcp_request request = base;

		request.form = rows[i].form;
		ck_assert_str_eq(request_text(&request, rows[i].ciaddr), rows[i].options);
	}
}
END_TEST

START_TEST(nothing_to_tell)
{
	struct dhcp_request request = base;

	request.address.family = 0;
	request.hostname = span_of(NULL, 0);
	ck_assert_str_eq(request_text(&request, "00000000"),
	    "53=01 " CLIENT " 55=017903060c0f1a33363a3b 57=05dc");
	request.hostname = span_str("no/name");
	ck_assert_str_eq(request_text(&request, "00000000"),
	    "53=01 " CLIENT " 55=017903060c0f1a33363a3b 57=05dc");
}
END_TEST

START_TEST(no_room)
{
	struct dhcp_request request = base;
	uint8_t buf[DHCP_REQUEST_BYTES];
	char name[HOSTNAME_BYTES + 2];
	struct wr w;

	memset(name, 'a', sizeof name);
	name[20] = '.';
	request.form = DHCP_FORM_SELECT;
	request.hostname = span_of(name, HOSTNAME_BYTES);
	w = wr_of(buf, sizeof buf);
	dhcp_request_write(&w, &request);
	ck_assert_int_eq(w.err, E_OK);
	for (size_t cap = 0; cap < 300; cap++) {
		w = wr_of(buf, cap);
		dhcp_request_write(&w, &request);
		ck_assert_int_eq(w.err, E_SPACE);
	}
	request.hostname.n++; /* of 65 bytes: left out */
	request_text(&request, "00000000");
	ck_assert_ptr_null(strstr(request_text(&request, "00000000"), " 12="));
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {types, all_options, for_somebody_else, broken_options,
	    wrong_lengths, masks, addresses, lists, routes, too_many_routes, options_in_pieces,
	    overload, names, long_names, mtus, cut_at_each_length, mutations, largest, forms,
	    nothing_to_tell, no_room, NULL};

	return suite_of("dhcp", tests);
}
