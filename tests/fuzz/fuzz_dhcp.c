/* A DHCP message, taken as an answer to whoever it is for; what is read of it survives being said
 * again in the plainest way. The same bytes as a packet: what is read can be written and read. */
#include "codec/dhcp.h"
#include "codec/udpip.h"
#include "fuzz.h"

enum { XID_AT = 4, MAC_AT = 28, OPTIONS_AT = 240 };

static void must(bool held)
{
	if (!held)
		__builtin_trap();
}

/* --- replies --------------------------------------------------------------------------------- */

static void check_ip(const struct ip *ip)
{
	must(ip->family == 4 && ip->b[0] != 0 && ip->b[0] != 127 && ip->b[0] < 224);
}

static void check_ips(const struct ip *ips, size_t n, size_t max)
{
	must(n <= max);
	for (size_t i = 0; i < n; i++)
		check_ip(&ips[i]);
}

static void check_name(const char *name, size_t cap)
{
	must(strlen(name) < cap);
	for (; *name; name++)
		must(ascii_digit((uint8_t)*name) || *name == '-' || *name == '.' ||
		    (ascii_lower((uint8_t)*name) >= 'a' && ascii_lower((uint8_t)*name) <= 'z'));
}

static void check_lease(const struct dhcp_lease *l)
{
	check_ip(&l->address);
	must(l->prefix >= 1 && l->prefix <= 32 && l->lease_secs > 0);
	check_ips(l->routers, l->n_routers, DHCP_ROUTERS);
	check_ips(l->dns, l->n_dns, DHCP_DNS_SERVERS);
	must(l->n_routes <= DHCP_ROUTES && (l->mtu == 0 || l->mtu >= 68));
	for (size_t i = 0; i < l->n_routes; i++)
		must(l->routes[i].prefix >= 1 && l->routes[i].prefix <= 32);
	check_name(l->hostname, sizeof l->hostname);
	check_name(l->domain, sizeof l->domain);
}

static void put(struct wr *w, uint8_t code, struct span value)
{
	if (value.n == 0)
		return;
	wr_u8(w, code);
	wr_u8(w, (uint8_t)value.n);
	wr_bytes(w, value);
}

static void put_u32(struct wr *w, uint8_t code, uint32_t v)
{
	const uint8_t b[] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};

	put(w, code, span_of(b, v ? sizeof b : 0));
}

static void put_ips(struct wr *w, uint8_t code, const struct ip *ips, size_t n)
{
	for (size_t i = 0; i < n; i++) /* pieces of one option */
		put(w, code, ip_bytes(&ips[i]));
}

static void put_routes(struct wr *w, const struct dhcp_lease *l)
{
	for (size_t i = 0; i < l->n_routes; i++) {
		const struct dhcp_route *route = &l->routes[i];
		uint8_t bytes[9] = {route->prefix};
		size_t n = (route->prefix + 7u) / 8;

		memcpy(bytes + 1, route->to.b, n);
		memcpy(bytes + 1 + n, route->via.b, 4);
		put(w, 121, span_of(bytes, 1 + n + 4));
	}
	for (size_t i = 0; i < l->n_routers && l->n_routes; i++) {
		const uint8_t *b = l->routers[i].b;

		put(w, 121, span_of((const uint8_t[]){0, b[0], b[1], b[2], b[3]}, 5));
	}
}

static void put_lease(struct wr *w, const struct dhcp_lease *l)
{
	const uint8_t mtu[] = {(uint8_t)(l->mtu >> 8), (uint8_t)l->mtu};

	put(w, 54, ip_bytes(&l->server));
	put_u32(w, 51, l->lease_secs);
	put_u32(w, 58, l->renew_secs);
	put_u32(w, 59, l->rebind_secs);
	put_u32(w, 1, l->prefix ? UINT32_MAX << (32 - l->prefix) : 0);
	put_ips(w, 3, l->routers, l->n_routers);
	put_ips(w, 6, l->dns, l->n_dns);
	put_routes(w, l);
	put(w, 26, span_of(mtu, l->mtu ? sizeof mtu : 0));
	put(w, 12, span_str(l->hostname));
	put(w, 15, span_str(l->domain));
}

static void check_again(struct span message, const struct dhcp_reply *reply)
{
	uint8_t buf[DHCP_MESSAGE_BYTES];
	struct wr w = wr_of(buf, sizeof buf);
	struct rd r = rd_of(span_from(message, XID_AT));
	struct dhcp_reply again;
	uint8_t type = (uint8_t)reply->type;

	wr_bytes(&w, span_first(message, OPTIONS_AT));
	put(&w, 53, span_of(&type, 1));
	put_lease(&w, &reply->lease);
	wr_u8(&w, 255);
	must(w.err == E_OK);
	must(dhcp_reply_read(wr_span(&w), rd_u32be(&r), message.p + MAC_AT, &again) == E_OK);
	must(memcmp(reply, &again, sizeof again) == 0);
}

static void check_reply(struct span message)
{
	static struct dhcp_reply reply;
	struct rd r = rd_of(span_from(message, XID_AT));

	if (message.n < OPTIONS_AT ||
	    dhcp_reply_read(message, rd_u32be(&r), message.p + MAC_AT, &reply) != E_OK)
		return;
	must(message.n <= DHCP_MESSAGE_BYTES);
	check_ip(&reply.lease.server);
	if (reply.type != DHCP_NAK)
		check_lease(&reply.lease);
	check_again(message, &reply);
}

/* --- packets --------------------------------------------------------------------------------- */

static void check_packet(struct span packet)
{
	static uint8_t buf[65535];
	struct wr w = wr_of(buf, sizeof buf);
	struct udpip one, two;

	if (udpip_read(packet, true, &one) != E_OK)
		return;
	udpip_write(&w, &one);
	must(udpip_read(wr_span(&w), false, &two) == E_OK);
	must(ip_eq(&one.from, &two.from) && ip_eq(&one.to, &two.to));
	must(one.from_port == two.from_port && one.to_port == two.to_port);
	must(span_eq(one.payload, two.payload));
	check_reply(one.payload);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	check_reply(span_of(data, n));
	check_packet(span_of(data, n));
	return 0;
}
