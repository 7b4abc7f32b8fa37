#include "sandbox/network.h"

#include "base/hash.h"
#include "base/parse.h"
#include "sys/tap.h"

#include <errno.h>

#include <linux/rtnetlink.h>

enum { PREFIX_BITS_MIN = 1, PREFIX_BITS_MAX = 30 };

/* --- addresses -------------------------------------------------------------------------------- */

static uint32_t number_of(const struct ip *ip)
{
	struct rd r = rd_of(ip_bytes(ip));
	return rd_u32be(&r);
}

static struct ip address_of(uint32_t number)
{
	return ip_v4((uint8_t)(number >> 24), (uint8_t)(number >> 16), (uint8_t)(number >> 8),
	    (uint8_t)number);
}

static uint32_t mask_of(const struct cidr *c)
{
	return UINT32_MAX << (32 - c->prefix);
}

enum err cidr_parse(struct span text, struct cidr *out)
{
	struct span rest = text;
	struct span address = span_split(&rest, '/');
	struct cidr c;
	struct ip ip;
	uint64_t prefix;
	enum err err = ip_parse(address, &ip);

	if (err == E_OK && ip.family != 4)
		err = E_MALFORMED;
	if (err == E_OK)
		err = parse_u64(rest, PREFIX_BITS_MIN, PREFIX_BITS_MAX, &prefix);
	if (err)
		return err;
	c.prefix = (uint8_t)prefix;
	c.network = address_of(number_of(&ip) & mask_of(&c));
	*out = c;
	return E_OK;
}

struct ip cidr_at(const struct cidr *c, uint32_t offset)
{
	return address_of(number_of(&c->network) + offset);
}

/* How many offsets there are; the last one is the broadcast's. */
static uint32_t size_of(const struct cidr *c)
{
	return UINT32_C(1) << (32 - c->prefix);
}

bool cidr_has_host(const struct cidr *c, const struct ip *ip)
{
	uint32_t offset = number_of(ip) - number_of(&c->network);
	return ip->family == 4 && offset > 0 && offset < size_of(c) - 1;
}

void subnet_init(struct subnet *s, const struct cidr *cidr, const struct ip *gateway)
{
	*s = (struct subnet){.cidr = *cidr, .gateway = *gateway};
}

static bool is_free(const struct subnet *s, uint32_t i)
{
	struct ip ip = cidr_at(&s->cidr, SUBNET_FIRST + i);

	return !(s->taken[i / 64] >> i % 64 & 1) && !ip_eq(&ip, &s->gateway) &&
	    cidr_has_host(&s->cidr, &ip);
}

int subnet_take(struct subnet *s, struct ip *out)
{
	for (uint32_t i = 0; i < SUBNET_SIZE; i++)
		if (is_free(s, i)) {
			s->taken[i / 64] |= UINT64_C(1) << i % 64;
			*out = cidr_at(&s->cidr, SUBNET_FIRST + i);
			return 0;
		}
	return -EAGAIN;
}

int subnet_take_at(struct subnet *s, const struct ip *ip)
{
	uint32_t i = number_of(ip) - number_of(&s->cidr.network) - SUBNET_FIRST;

	if (ip->family != 4 || i >= SUBNET_SIZE || !is_free(s, i))
		return -EADDRINUSE;
	s->taken[i / 64] |= UINT64_C(1) << i % 64;
	return 0;
}

void subnet_give(struct subnet *s, const struct ip *ip)
{
	uint32_t i = number_of(ip) - number_of(&s->cidr.network) - SUBNET_FIRST;

	if (ip->family == 4 && i < SUBNET_SIZE)
		s->taken[i / 64] &= ~(UINT64_C(1) << i % 64);
}

/* --- links ------------------------------------------------------------------------------------ */

static void name_tap(struct nic *nic)
{
	struct wr w = wr_of(nic->tap, sizeof nic->tap);

	wr_str(&w, NIC_TAP_PREFIX);
	wr_dec(&w, nic->ip.b[2]);
	wr_str(&w, "-");
	wr_dec(&w, nic->ip.b[3]);
	wr_nul(&w);
}
_Static_assert(sizeof NIC_TAP_PREFIX "255-255" <= NETLINK_NAME_BYTES, "the longest name fits");

/* Locally administered, and no group address. */
static void choose_mac(struct nic *nic, struct span id)
{
	uint64_t hash = hash_fnv1a(id);

	for (size_t i = 0; i < sizeof nic->mac; i++)
		nic->mac[i] = (uint8_t)(hash >> 8 * i);
	nic->mac[0] = (uint8_t)((nic->mac[0] & ~1u) | 2u);
}

struct lookup {
	const char *name;
	int index; /* 0: there is no such link */
};

static void look(void *ctx, const struct netlink_link *link)
{
	struct lookup *l = ctx;

	if (span_eq_str(span_str(l->name), link->name))
		l->index = link->index;
}

/* The gateway's address is on each of the links; whose is told by the other end's. */
static int configure(const struct nic *nic, const struct subnet *s, struct netlink *n)
{
	struct lookup link = {.name = nic->tap};
	struct netlink_addr address = {
	    .ip = s->gateway,
	    .peer = nic->ip,
	    .prefix = 32,
	    .scope = RT_SCOPE_UNIVERSE,
	    .valid_secs = NETLINK_FOREVER,
	};
	int rc = netlink_links(n, look, &link);

	if (rc == 0 && link.index == 0)
		rc = -ENODEV;
	address.index = link.index;
	if (rc == 0)
		rc = netlink_addr_set(n, &address);
	if (rc == 0)
		rc = netlink_link_up(n, link.index, true);
	return rc;
}

static int set_up(const struct nic *nic, const struct subnet *s, struct netlink *n)
{
	int rc = tap_create(nic->tap);

	if (rc == -EBUSY && tap_remove(n, nic->tap) == 0)
		rc = tap_create(nic->tap);
	if (rc < 0)
		return rc;
	rc = configure(nic, s, n);
	if (rc < 0)
		tap_remove(n, nic->tap);
	return rc;
}

/* At an address that is taken already, and given back on failure. */
static int attach(
    struct nic *nic, struct subnet *s, struct netlink *n, struct span id, const struct ip *ip)
{
	struct nic new = {.ip = *ip};
	int rc;

	name_tap(&new);
	choose_mac(&new, id);
	rc = set_up(&new, s, n);
	if (rc < 0)
		subnet_give(s, ip);
	else
		*nic = new;
	return rc;
}

int nic_attach(struct nic *nic, struct subnet *s, struct netlink *n, struct span id)
{
	struct ip ip;
	int rc = subnet_take(s, &ip);

	return rc < 0 ? rc : attach(nic, s, n, id, &ip);
}

int nic_attach_at(
    struct nic *nic, struct subnet *s, struct netlink *n, struct span id, const struct ip *ip)
{
	int rc = subnet_take_at(s, ip);

	return rc < 0 ? rc : attach(nic, s, n, id, ip);
}

int nic_unplug(const struct nic *nic)
{
	struct netlink n;
	int rc = netlink_open(&n);

	if (rc < 0)
		return rc;
	rc = tap_remove(&n, nic->tap);
	netlink_close(&n);
	return rc;
}

void nic_release(struct nic *nic, struct subnet *s)
{
	subnet_give(s, &nic->ip);
	*nic = (struct nic){0};
}

int nic_clean(unsigned *removed)
{
	struct netlink n;
	int rc = netlink_open(&n);

	if (rc < 0)
		return rc;
	rc = tap_remove_all(&n, NIC_TAP_PREFIX, removed);
	netlink_close(&n);
	return rc;
}

void nic_mac_text(const struct nic *nic, char out[NIC_MAC_TEXT_BYTES])
{
	struct wr w = wr_of(out, NIC_MAC_TEXT_BYTES);

	for (size_t i = 0; i < sizeof nic->mac; i++) {
		wr_str(&w, i ? ":" : "");
		wr_hex8(&w, nic->mac[i]);
	}
	wr_nul(&w);
}

static void put_ip(struct wr *w, const struct ip *ip)
{
	char text[IP_TEXT_BYTES];

	wr_bytes(w, span_of(text, ip_format(ip, text)));
}

/* ip=CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:AUTOCONF */
void nic_boot_word(const struct nic *nic, const struct subnet *s, struct wr *w)
{
	struct ip mask = address_of(mask_of(&s->cidr));

	wr_str(w, "ip=");
	put_ip(w, &nic->ip);
	wr_str(w, "::");
	put_ip(w, &s->gateway);
	wr_str(w, ":");
	put_ip(w, &mask);
	wr_str(w, "::eth0:off");
}
