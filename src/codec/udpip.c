#include "codec/udpip.h"

enum {
	IP_HEADER_BYTES = 20,
	UDP_HEADER_BYTES = 8,
	IP_PACKET_MAX = 65535,
	IP_PROTOCOL_UDP = 17,
	IP_TTL = 64,
	IP_FRAGMENT = 0x3fff, /* more fragments, and the offset */
};

/* The sum of 16-bit words in one's complement arithmetic (RFC 1071), before it is complemented; an
 * odd byte is the upper half of a word. */
static uint32_t sum_add(uint32_t sum, struct span s)
{
	for (size_t i = 0; i < s.n; i++)
		sum += i % 2 ? s.p[i] : (uint32_t)s.p[i] << 8;
	return (sum & 0xffff) + (sum >> 16);
}

static uint16_t sum_end(uint32_t sum)
{
	return (uint16_t) ~((sum & 0xffff) + (sum >> 16));
}

/* The sum over the pseudo header of a datagram between two addresses, `datagram` being the UDP
 * header and the payload (RFC 768). */
static uint16_t udp_sum(struct span addresses, struct span datagram)
{
	uint32_t sum = sum_add(0, addresses);

	sum += IP_PROTOCOL_UDP + (uint32_t)datagram.n;
	return sum_end(sum_add(sum, datagram));
}

static void put_u16be(uint8_t *at, uint16_t v)
{
	at[0] = (uint8_t)(v >> 8);
	at[1] = (uint8_t)v;
}

/* --- writing --------------------------------------------------------------------------------- */

static void ip_header_write(struct wr *w, const struct udpip *packet, size_t length)
{
	wr_u8(w, 0x45); /* version 4, 5 words */
	wr_u8(w, 0);
	wr_u16be(w, (uint16_t)length);
	wr_u32be(w, 0); /* identification and fragment */
	wr_u8(w, IP_TTL);
	wr_u8(w, IP_PROTOCOL_UDP);
	wr_u16be(w, 0); /* the checksum */
	wr_bytes(w, ip_bytes(&packet->from));
	wr_bytes(w, ip_bytes(&packet->to));
}

static void udp_write(struct wr *w, const struct udpip *packet)
{
	wr_u16be(w, packet->from_port);
	wr_u16be(w, packet->to_port);
	wr_u16be(w, (uint16_t)(UDP_HEADER_BYTES + packet->payload.n));
	wr_u16be(w, 0); /* the checksum */
	wr_bytes(w, packet->payload);
}

void udpip_write(struct wr *w, const struct udpip *packet)
{
	size_t start = w->n;
	struct span header, datagram;
	uint16_t sum;

	if (packet->payload.n > IP_PACKET_MAX - UDPIP_HEADER_BYTES) {
		wr_fail(w, E_LIMIT);
		return;
	}
	ip_header_write(w, packet, UDPIP_HEADER_BYTES + packet->payload.n);
	udp_write(w, packet);
	if (w->err != E_OK)
		return;
	header = span_of(w->p + start, IP_HEADER_BYTES);
	datagram = span_from(wr_span(w), start + IP_HEADER_BYTES);
	put_u16be(w->p + start + 10, sum_end(sum_add(0, header)));
	sum = udp_sum(span_from(header, 12), datagram);
	put_u16be(w->p + start + IP_HEADER_BYTES + 6, sum ? sum : 0xffff); /* 0 says "none" */
}

/* --- reading --------------------------------------------------------------------------------- */

static struct ip address_read(struct rd *r)
{
	struct span s = rd_bytes(r, 4);

	return s.n == 4 ? ip_v4(s.p[0], s.p[1], s.p[2], s.p[3]) : ip_v4(0, 0, 0, 0);
}

/* Reads the IP header; *datagram is what it carries. */
static enum err ip_read(struct span packet, struct udpip *out, struct span *datagram)
{
	struct rd r = rd_of(packet);
	uint8_t first = rd_u8(&r), protocol;
	size_t header = (size_t)(first & 0x0f) * 4, length;
	uint16_t fragment;

	rd_u8(&r);
	length = rd_u16be(&r);
	rd_u16be(&r);
	fragment = rd_u16be(&r);
	rd_u8(&r);
	protocol = rd_u8(&r);
	rd_u16be(&r);
	out->from = address_read(&r);
	out->to = address_read(&r);
	if (r.err)
		return r.err;
	if (first >> 4 != 4 || protocol != IP_PROTOCOL_UDP || (fragment & IP_FRAGMENT) != 0)
		return E_UNKNOWN;
	if (header < IP_HEADER_BYTES || length < header)
		return E_MALFORMED;
	if (length > packet.n)
		return E_MORE;
	if (sum_end(sum_add(0, span_first(packet, header))) != 0)
		return E_MALFORMED;
	*datagram = span_from(span_first(packet, length), header);
	return E_OK;
}

enum err udpip_read(struct span packet, bool checked, struct udpip *out)
{
	struct udpip got;
	struct span datagram;
	struct rd r;
	size_t length;
	uint16_t sum;
	enum err err = ip_read(packet, &got, &datagram);

	if (err)
		return err;
	r = rd_of(datagram);
	got.from_port = rd_u16be(&r);
	got.to_port = rd_u16be(&r);
	length = rd_u16be(&r);
	sum = rd_u16be(&r);
	if (r.err || length < UDP_HEADER_BYTES || length > datagram.n)
		return E_MALFORMED;
	datagram.n = length;
	/* A sender that does not sum says 0. */
	if (!checked && sum != 0 &&
	    udp_sum(span_from(span_first(packet, IP_HEADER_BYTES), 12), datagram) != 0)
		return E_MALFORMED;
	got.payload = span_from(datagram, UDP_HEADER_BYTES);
	*out = got;
	return E_OK;
}
