#include "codec/dhcp.h"

enum {
	OP_REQUEST = 1,
	OP_REPLY = 2,
	HARDWARE_ETHERNET = 1,
	CHADDR_BYTES = 16,
	SNAME_BYTES = 64,
	FILE_BYTES = 128,
	REQUEST_MIN_BYTES = 300, /* RFC 951: 64 bytes of vendor information */
	PACKET_MAX_BYTES = 1500, /* what option 57 says: IP header and all */
	MTU_MIN = 68,            /* RFC 2132 section 5.1 */
	OVERLOAD_FILE = 1,       /* bits of option 52 */
	OVERLOAD_SNAME = 2,
};

#define MAGIC_COOKIE 0x63825363u

enum option {
	OPTION_PAD = 0,
	OPTION_MASK = 1,
	OPTION_ROUTERS = 3,
	OPTION_DNS = 6,
	OPTION_HOSTNAME = 12,
	OPTION_DOMAIN = 15,
	OPTION_MTU = 26,
	OPTION_ADDRESS = 50, /* requested */
	OPTION_LEASE_SECS = 51,
	OPTION_OVERLOAD = 52,
	OPTION_TYPE = 53,
	OPTION_SERVER = 54,
	OPTION_PARAMETERS = 55,
	OPTION_MAX_BYTES = 57,
	OPTION_RENEW_SECS = 58,
	OPTION_REBIND_SECS = 59,
	OPTION_CLIENT = 61,
	OPTION_ROUTES = 121,
	OPTION_END = 255,
};

/* --- addresses ------------------------------------------------------------------------------- */

static uint32_t ip_bits(const struct ip *ip)
{
	return (uint32_t)ip->b[0] << 24 | (uint32_t)ip->b[1] << 16 | (uint32_t)ip->b[2] << 8 |
	    ip->b[3];
}

static struct ip ip_of_bits(uint32_t v)
{
	return ip_v4((uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v);
}

/* The mask of a prefix of 0 to 32 bits. */
static uint32_t mask_bits(uint8_t prefix)
{
	return prefix ? UINT32_MAX << (32 - prefix) : 0;
}

/* Whether one host can have the address: not "this network", loopback, multicast, reserved or
 * broadcast (RFC 6890). */
static bool is_unicast(const struct ip *ip)
{
	return ip->b[0] != 0 && ip->b[0] != 127 && ip->b[0] < 224;
}

/* Nor is it the network itself or its broadcast address; a link of two hosts has neither (RFC
 * 3021). */
static bool is_host_of(const struct ip *ip, uint8_t prefix)
{
	uint32_t host = ip_bits(ip) & ~mask_bits(prefix);

	return is_unicast(ip) && (prefix > 30 || (host != 0 && host != ~mask_bits(prefix)));
}

/* The mask that an address had before masks were sent (RFC 950 section 2.1). */
static uint8_t class_prefix(const struct ip *ip)
{
	if (ip->b[0] < 128)
		return 8;
	return ip->b[0] < 192 ? 16 : 24;
}

static struct ip ip_read(struct rd *r)
{
	return ip_of_bits(rd_u32be(r));
}

/* Reads one address or more, and keeps what is of use and fits. */
static void ips_read(struct rd *r, struct ip *out, size_t max, size_t *n)
{
	do {
		struct ip ip = ip_read(r);

		if (r->err == E_OK && is_unicast(&ip) && *n < max)
			out[(*n)++] = ip;
	} while (r->err == E_OK && rd_left(r));
}

/* --- names ----------------------------------------------------------------------------------- */

/* Some servers end the text with NULs (RFC 2132 section 2) or the dot of the root. */
static void name_read(struct rd *r, char *out, size_t cap)
{
	struct span name = rd_rest(r);

	while (name.n && name.p[name.n - 1] == 0)
		name.n--;
	if (name.n && name.p[name.n - 1] == '.')
		name.n--;
	if (hostname_is_legal(name))
		span_to_cstr(name, out, cap);
}

/* --- options of a reply ---------------------------------------------------------------------- */

static void mask_read(struct rd *r, struct dhcp_lease *lease)
{
	uint32_t mask = rd_u32be(r);
	uint8_t prefix = 32;

	while (prefix > 0 && mask_bits(prefix) != mask)
		prefix--;
	if (prefix == 0)
		rd_fail(r, E_MALFORMED);
	lease->prefix = prefix;
}

static void server_read(struct rd *r, struct dhcp_lease *lease)
{
	lease->server = ip_read(r);
	if (!is_unicast(&lease->server))
		rd_fail(r, E_MALFORMED);
}

static void routers_read(struct rd *r, struct dhcp_lease *lease)
{
	ips_read(r, lease->routers, DHCP_ROUTERS, &lease->n_routers);
}

static void dns_read(struct rd *r, struct dhcp_lease *lease)
{
	ips_read(r, lease->dns, DHCP_DNS_SERVERS, &lease->n_dns);
}

/* A destination is its prefix and the bytes that the prefix covers (RFC 3442). */
static void route_read(struct rd *r, struct dhcp_route *out)
{
	uint8_t bytes[4] = {0};
	struct span to;

	out->prefix = rd_u8(r);
	if (out->prefix > 32) {
		rd_fail(r, E_MALFORMED);
		return;
	}
	to = rd_bytes(r, (out->prefix + 7u) / 8);
	if (to.n)
		memcpy(bytes, to.p, to.n);
	out->to = ip_v4(bytes[0], bytes[1], bytes[2], bytes[3]);
	out->to = ip_of_bits(ip_bits(&out->to) & mask_bits(out->prefix));
	out->via = ip_read(r);
}

static void route_keep(struct dhcp_lease *lease, const struct dhcp_route *route)
{
	bool useful = is_unicast(&route->via) || (route->prefix && ip_is_unspecified(&route->via));

	if (!useful)
		return;
	if (route->prefix == 0 && lease->n_routers < DHCP_ROUTERS)
		lease->routers[lease->n_routers++] = route->via;
	else if (route->prefix && lease->n_routes < DHCP_ROUTES)
		lease->routes[lease->n_routes++] = *route;
}

static void routes_read(struct rd *r, struct dhcp_lease *lease)
{
	memset(lease->routers, 0, sizeof lease->routers); /* those of the router option */
	lease->n_routers = 0;
	do {
		struct dhcp_route route;

		route_read(r, &route);
		if (r->err == E_OK)
			route_keep(lease, &route);
	} while (r->err == E_OK && rd_left(r));
}

static void hostname_read(struct rd *r, struct dhcp_lease *lease)
{
	name_read(r, lease->hostname, sizeof lease->hostname);
}

static void domain_read(struct rd *r, struct dhcp_lease *lease)
{
	name_read(r, lease->domain, sizeof lease->domain);
}

static void mtu_read(struct rd *r, struct dhcp_lease *lease)
{
	uint16_t mtu = rd_u16be(r);

	lease->mtu = mtu < MTU_MIN ? 0 : mtu;
}

static void lease_secs_read(struct rd *r, struct dhcp_lease *lease)
{
	lease->lease_secs = rd_u32be(r);
}

static void renew_secs_read(struct rd *r, struct dhcp_lease *lease)
{
	lease->renew_secs = rd_u32be(r);
}

static void rebind_secs_read(struct rd *r, struct dhcp_lease *lease)
{
	lease->rebind_secs = rd_u32be(r);
}

/* What is asked for and read. Routes stand before routers, as RFC 3442 wants them asked for. */
static const struct lease_option {
	uint8_t code;
	void (*read)(struct rd *r, struct dhcp_lease *lease);
} lease_options[] = {
    {OPTION_MASK, mask_read},
    {OPTION_ROUTES, routes_read},
    {OPTION_ROUTERS, routers_read},
    {OPTION_DNS, dns_read},
    {OPTION_HOSTNAME, hostname_read},
    {OPTION_DOMAIN, domain_read},
    {OPTION_MTU, mtu_read},
    {OPTION_LEASE_SECS, lease_secs_read},
    {OPTION_SERVER, server_read},
    {OPTION_RENEW_SECS, renew_secs_read},
    {OPTION_REBIND_SECS, rebind_secs_read},
};

enum { LEASE_OPTIONS = sizeof lease_options / sizeof *lease_options };

/* --- reading --------------------------------------------------------------------------------- */

/* The options of a message. */
struct options {
	/* The fields that hold them, in the order in which the pieces of one option follow each
	 * other (RFC 3396 section 5). */
	struct span fields[3];
	size_t n;
	uint8_t value[DHCP_MESSAGE_BYTES]; /* the option found last, its pieces put together */
};

/* The next option of a field; false at its end option, or at r->err. */
static bool option_next(struct rd *r, uint8_t *code, struct span *piece)
{
	do
		*code = rd_u8(r);
	while (r->err == E_OK && *code == OPTION_PAD);
	if (r->err || *code == OPTION_END)
		return false;
	*piece = rd_bytes(r, rd_u8(r));
	return r->err == E_OK;
}

/* Adds a field, in which every option must be whole and an end option last. */
static enum err field_add(struct options *o, struct span field)
{
	struct rd r = rd_of(field);
	struct span piece;
	uint8_t code;

	while (option_next(&r, &code, &piece))
		;
	if (r.err)
		return E_MALFORMED;
	o->fields[o->n++] = field;
	return E_OK;
}

/* Finds an option; false, with *out empty, when there is none. *out lives until the next one is
 * looked for. */
static bool option_find(struct options *o, uint8_t wanted, struct rd *out)
{
	struct wr w = wr_of(o->value, sizeof o->value);
	struct span piece;
	uint8_t code;
	bool found = false;

	for (size_t i = 0; i < o->n; i++) {
		struct rd r = rd_of(o->fields[i]);

		while (option_next(&r, &code, &piece)) {
			if (code != wanted)
				continue;
			wr_bytes(&w, piece);
			found = true;
		}
	}
	*out = rd_of(wr_span(&w));
	return found;
}

static enum err read_whole(const struct rd *r)
{
	return r->err || rd_left(r) ? E_MALFORMED : E_OK;
}

/* An option of one byte, which is never 0; 0 when there is none. */
static enum err byte_read(struct options *o, uint8_t code, uint8_t *out)
{
	struct rd r;

	*out = 0;
	if (!option_find(o, code, &r))
		return E_OK;
	*out = rd_u8(&r);
	return *out ? read_whole(&r) : E_MALFORMED;
}

/* The fields that option 52 says hold options as well (RFC 2132 section 9.3). */
static enum err overload_read(struct options *o, struct span sname, struct span file)
{
	uint8_t overload;
	enum err err = byte_read(o, OPTION_OVERLOAD, &overload);

	if (err == E_OK && overload > (OVERLOAD_FILE | OVERLOAD_SNAME))
		err = E_MALFORMED;
	if (err == E_OK && (overload & OVERLOAD_FILE))
		err = field_add(o, file);
	if (err == E_OK && (overload & OVERLOAD_SNAME))
		err = field_add(o, sname);
	return err;
}

/* All but the meaning of the options (RFC 2131 section 2); *address is yiaddr. */
static enum err message_read(
    struct span message, uint32_t xid, const uint8_t *mac, struct ip *address, struct options *o)
{
	struct rd r = rd_of(message);
	bool ours = rd_u8(&r) == OP_REPLY;
	struct span chaddr, sname, file;
	enum err err;

	ours &= rd_u8(&r) == HARDWARE_ETHERNET;
	ours &= rd_u8(&r) == DHCP_MAC_BYTES;
	rd_u8(&r); /* hops */
	ours &= rd_u32be(&r) == xid;
	rd_bytes(&r, 8); /* secs, flags, ciaddr */
	*address = ip_read(&r);
	rd_bytes(&r, 8); /* siaddr, giaddr */
	chaddr = rd_bytes(&r, CHADDR_BYTES);
	sname = rd_bytes(&r, SNAME_BYTES);
	file = rd_bytes(&r, FILE_BYTES);
	if (rd_u32be(&r) != MAGIC_COOKIE || r.err)
		return E_MALFORMED;
	if (!ours || memcmp(chaddr.p, mac, DHCP_MAC_BYTES) != 0)
		return E_UNKNOWN;
	err = field_add(o, rd_rest(&r));
	return err ? err : overload_read(o, sname, file);
}

/* A server that sends the client identifier back sends it as it was (RFC 6842). */
static bool is_for_other_client(struct options *o, const uint8_t *mac)
{
	struct rd r;
	bool same;

	if (!option_find(o, OPTION_CLIENT, &r))
		return false;
	same = rd_u8(&r) == HARDWARE_ETHERNET;
	same &= span_eq(rd_rest(&r), span_of(mac, DHCP_MAC_BYTES));
	return !same;
}

static enum err type_read(struct options *o, enum dhcp_type *out)
{
	uint8_t type;
	enum err err = byte_read(o, OPTION_TYPE, &type);

	if (err)
		return err;
	switch (type) {
	case 0: return E_MALFORMED; /* BOOTP, from before DHCP */
	case DHCP_OFFER:
	case DHCP_ACK:
	case DHCP_NAK: *out = type; return E_OK;
	default: return E_UNKNOWN;
	}
}

static enum err lease_option_read(
    struct options *o, const struct lease_option *option, struct dhcp_lease *lease)
{
	struct rd r;

	if (!option_find(o, option->code, &r))
		return E_OK;
	option->read(&r, lease);
	return read_whole(&r);
}

/* Backwards, so that routes come after routers, which they overrule. */
static enum err lease_read(struct options *o, struct dhcp_lease *lease)
{
	for (size_t i = LEASE_OPTIONS; i > 0; i--)
		if (lease_option_read(o, &lease_options[i - 1], lease))
			return E_MALFORMED;
	return E_OK;
}

/* Checks what no reply goes without, and gives a mask to those that do. */
static enum err reply_complete(struct dhcp_reply *reply, const struct ip *address)
{
	struct dhcp_lease *lease = &reply->lease;

	if (lease->server.family == 0)
		return E_MALFORMED;
	if (reply->type == DHCP_NAK) {
		*lease = (struct dhcp_lease){.server = lease->server};
		return E_OK;
	}
	if (lease->lease_secs == 0)
		return E_MALFORMED;
	lease->address = *address;
	if (lease->prefix == 0)
		lease->prefix = class_prefix(address);
	return is_host_of(address, lease->prefix) ? E_OK : E_MALFORMED;
}

enum err dhcp_reply_read(
    struct span message, uint32_t xid, const uint8_t mac[DHCP_MAC_BYTES], struct dhcp_reply *out)
{
	struct options options = {0};
	struct dhcp_reply reply = {0};
	struct ip address;
	enum err err;

	if (message.n > DHCP_MESSAGE_BYTES)
		return E_LIMIT;
	err = message_read(message, xid, mac, &address, &options);
	if (err == E_OK)
		err = type_read(&options, &reply.type);
	if (err == E_OK && is_for_other_client(&options, mac))
		err = E_UNKNOWN;
	if (err == E_OK)
		err = lease_read(&options, &reply.lease);
	if (err == E_OK)
		err = reply_complete(&reply, &address);
	if (err == E_OK)
		*out = reply;
	return err;
}

/* --- requests -------------------------------------------------------------------------------- */

/* What stands where in the requests (RFC 2131, tables 4 and 5). */
static const struct form {
	enum dhcp_type type;
	bool ciaddr;  /* the address in use: in the header */
	bool address; /* one that is not: in an option */
	bool server;
	bool asks; /* for a lease, and tells who asks */
} forms[DHCP_FORMS] = {
    [DHCP_FORM_DISCOVER] = {DHCP_DISCOVER, .address = true, .asks = true},
    [DHCP_FORM_SELECT] = {DHCP_REQUEST, .address = true, .server = true, .asks = true},
    [DHCP_FORM_REBOOT] = {DHCP_REQUEST, .address = true, .asks = true},
    [DHCP_FORM_RENEW] = {DHCP_REQUEST, .ciaddr = true, .asks = true},
    [DHCP_FORM_REBIND] = {DHCP_REQUEST, .ciaddr = true, .asks = true},
    [DHCP_FORM_RELEASE] = {DHCP_RELEASE, .ciaddr = true, .server = true},
};

/* At most REQUEST_MIN_BYTES. */
static void zeros_write(struct wr *w, size_t n)
{
	static const uint8_t zeros[REQUEST_MIN_BYTES];

	wr_bytes(w, span_of(zeros, n));
}

static void header_write(struct wr *w, const struct dhcp_request *request, bool ciaddr)
{
	wr_u8(w, OP_REQUEST);
	wr_u8(w, HARDWARE_ETHERNET);
	wr_u8(w, DHCP_MAC_BYTES);
	wr_u8(w, 0); /* hops */
	wr_u32be(w, request->xid);
	wr_u16be(w, request->secs);
	wr_u16be(w, 0); /* flags: no need to broadcast */
	wr_u32be(w, ciaddr ? ip_bits(&request->address) : 0);
	zeros_write(w, 12); /* yiaddr, siaddr, giaddr */
	wr_bytes(w, span_of(request->mac, DHCP_MAC_BYTES));
	zeros_write(w, CHADDR_BYTES - DHCP_MAC_BYTES + SNAME_BYTES + FILE_BYTES);
	wr_u32be(w, MAGIC_COOKIE);
}

static void option_write(struct wr *w, uint8_t code, struct span value)
{
	wr_u8(w, code);
	wr_u8(w, (uint8_t)value.n);
	wr_bytes(w, value);
}

static void client_write(struct wr *w, const uint8_t *mac)
{
	wr_u8(w, OPTION_CLIENT);
	wr_u8(w, 1 + DHCP_MAC_BYTES);
	wr_u8(w, HARDWARE_ETHERNET);
	wr_bytes(w, span_of(mac, DHCP_MAC_BYTES));
}

static void wishes_write(struct wr *w, struct span hostname)
{
	wr_u8(w, OPTION_PARAMETERS);
	wr_u8(w, LEASE_OPTIONS);
	for (size_t i = 0; i < LEASE_OPTIONS; i++)
		wr_u8(w, lease_options[i].code);
	wr_u8(w, OPTION_MAX_BYTES);
	wr_u8(w, 2);
	wr_u16be(w, PACKET_MAX_BYTES);
	if (hostname.n <= HOSTNAME_BYTES && hostname_is_legal(hostname))
		option_write(w, OPTION_HOSTNAME, hostname);
}

void dhcp_request_write(struct wr *w, const struct dhcp_request *request)
{
	const struct form *form = &forms[request->form];
	size_t start = w->n;
	uint8_t type = (uint8_t)form->type;

	header_write(w, request, form->ciaddr);
	option_write(w, OPTION_TYPE, span_of(&type, 1));
	client_write(w, request->mac);
	if (form->address && request->address.family == 4)
		option_write(w, OPTION_ADDRESS, ip_bytes(&request->address));
	if (form->server)
		option_write(w, OPTION_SERVER, ip_bytes(&request->server));
	if (form->asks)
		wishes_write(w, request->hostname);
	wr_u8(w, OPTION_END);
	if (w->err == E_OK && w->n - start < REQUEST_MIN_BYTES)
		zeros_write(w, REQUEST_MIN_BYTES - (w->n - start));
}
