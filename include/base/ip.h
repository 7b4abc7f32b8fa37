/* ip.h - IPv4 and IPv6 addresses and their text.
 *
 * Text is read strictly: four decimal numbers without leading zeros (RFC 6943 section 3.1.1,
 * "strict form"), or RFC 4291 section 2.2, its last 32 bits as dotted quad where wanted. Zones
 * ("%eth0"), prefixes ("/24") and blanks are refused. Text is written as RFC 5952 recommends. */
#ifndef BASE_IP_H
#define BASE_IP_H

#include "base/err.h"
#include "base/span.h"

struct ip {
	uint8_t family; /* 4 or 6 */
	uint8_t b[16];  /* network byte order; a 4 uses the first four, the rest is 0 */
};

/* Room for any text that ip_format() writes, its NUL included. */
#define IP_TEXT_BYTES 46

static inline struct ip ip_v4(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
	return (struct ip){4, {a, b, c, d}};
}

/* The 4 or 16 bytes of the address; the view lives as long as *ip. */
static inline struct span ip_bytes(const struct ip *ip)
{
	return span_of(ip->b, ip->family == 4 ? 4 : 16);
}

/* Reads an address that fills `text` whole. E_MALFORMED when it is none. */
enum err ip_parse(struct span text, struct ip *out);

/* Writes the address as a C string; returns its length. IPv4-mapped addresses (::ffff:0:0/96) end
 * in a dotted quad. */
size_t ip_format(const struct ip *ip, char buf[IP_TEXT_BYTES]);

/* The same family and the same bytes: 127.0.0.1 and ::ffff:127.0.0.1 differ. */
bool ip_eq(const struct ip *a, const struct ip *b);

bool ip_is_loopback(const struct ip *ip);    /* 127.0.0.0/8, ::1 */
bool ip_is_link_local(const struct ip *ip);  /* 169.254.0.0/16, fe80::/10 */
bool ip_is_unspecified(const struct ip *ip); /* 0.0.0.0, :: */

#endif
