#include "base/ip.h"

#include "base/cursor.h"
#include "base/parse.h"

/* One number of a dotted quad: a leading zero would make it octal to others. */
static bool octet_read(struct span text, uint8_t *out)
{
	uint64_t v;

	if ((text.n > 1 && text.p[0] == '0') || parse_u64(text, 0, 255, &v) != E_OK)
		return false;
	*out = (uint8_t)v;
	return true;
}

static bool quad_read(struct span text, uint8_t out[4])
{
	for (int i = 0; i < 4; i++)
		if (!octet_read(span_split(&text, '.'), &out[i]))
			return false;
	return text.p == NULL;
}

static bool group_read(struct span text, uint8_t out[2])
{
	uint64_t v;

	if (text.n > 4 || parse_hex_u64(text, 0xffff, &v) != E_OK)
		return false;
	out[0] = (uint8_t)(v >> 8);
	out[1] = (uint8_t)v;
	return true;
}

/* Groups with single colons between them, the last two perhaps as a dotted quad. Returns how many
 * bytes of out[] they fill, or -1. */
static int groups_read(struct span text, bool quad_allowed, uint8_t out[16])
{
	int n = 0;

	if (text.n == 0)
		return 0;
	for (; text.p; n += 2) {
		if (quad_allowed && n <= 12 && quad_read(text, out + n))
			return n + 4;
		if (n == 16 || !group_read(span_split(&text, ':'), out + n))
			return -1;
	}
	return n;
}

/* Where "::" stands, or text.n. */
static size_t gap_find(struct span text)
{
	for (size_t at = 0; at + 1 < text.n; at++)
		if (text.p[at] == ':' && text.p[at + 1] == ':')
			return at;
	return text.n;
}

static bool v6_read(struct span text, uint8_t out[16])
{
	size_t gap = gap_find(text);
	uint8_t tail[16];
	int head_n, tail_n;

	if (gap == text.n)
		return groups_read(text, true, out) == 16;
	head_n = groups_read(span_first(text, gap), false, out);
	tail_n = groups_read(span_from(text, gap + 2), true, tail);
	if (head_n < 0 || tail_n < 0 || head_n + tail_n > 14)
		return false;
	memset(out + head_n, 0, (size_t)(16 - head_n - tail_n));
	memcpy(out + 16 - tail_n, tail, (size_t)tail_n);
	return true;
}

enum err ip_parse(struct span text, struct ip *out)
{
	struct ip ip = {0};

	ip.family = span_find(text, ':') < text.n ? 6 : 4;
	if (ip.family == 4 ? !quad_read(text, ip.b) : !v6_read(text, ip.b))
		return E_MALFORMED;
	*out = ip;
	return E_OK;
}

static void quad_write(struct wr *w, const uint8_t b[4])
{
	for (int i = 0; i < 4; i++) {
		if (i > 0)
			wr_u8(w, '.');
		wr_dec(w, b[i]);
	}
}

static unsigned group_of(const struct ip *ip, int i)
{
	return (unsigned)ip->b[2 * i] << 8 | ip->b[2 * i + 1];
}

static void group_write(struct wr *w, unsigned v)
{
	int shift = 12;

	while (shift > 0 && v >> shift == 0)
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		wr_u8(w, (uint8_t) "0123456789abcdef"[v >> shift & 0xf]);
}

/* The first of the longest runs of at least two zero groups; its length, 0 for none. */
static int zeros_find(const struct ip *ip, int *start)
{
	int longest = 0, run = 0;

	for (int i = 0; i < 8; i++) {
		run = group_of(ip, i) == 0 ? run + 1 : 0;
		if (run <= longest)
			continue;
		longest = run;
		*start = i + 1 - run;
	}
	return longest >= 2 ? longest : 0;
}

static void v6_write(struct wr *w, const struct ip *ip)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	int start = 0;
	int zeros = zeros_find(ip, &start);
	int i = 0;

	if (memcmp(ip->b, mapped, sizeof mapped) == 0) {
		wr_str(w, "::ffff:");
		quad_write(w, ip->b + 12);
		return;
	}
	while (i < 8) {
		if (zeros > 0 && i == start) {
			wr_str(w, "::");
			i += zeros;
			continue;
		}
		if (i > 0 && !(zeros > 0 && i == start + zeros))
			wr_u8(w, ':');
		group_write(w, group_of(ip, i++));
	}
}

size_t ip_format(const struct ip *ip, char buf[IP_TEXT_BYTES])
{
	struct wr w = wr_of(buf, IP_TEXT_BYTES);

	if (ip->family == 4)
		quad_write(&w, ip->b);
	else
		v6_write(&w, ip);
	wr_nul(&w);
	return w.n;
}

bool ip_eq(const struct ip *a, const struct ip *b)
{
	return a->family == b->family && span_eq(ip_bytes(a), ip_bytes(b));
}

/* True when all bytes but the last are 0 and the last is `last`. */
static bool is_low(struct span bytes, uint8_t last)
{
	for (size_t i = 0; i + 1 < bytes.n; i++)
		if (bytes.p[i] != 0)
			return false;
	return bytes.p[bytes.n - 1] == last;
}

bool ip_is_loopback(const struct ip *ip)
{
	return ip->family == 4 ? ip->b[0] == 127 : is_low(ip_bytes(ip), 1);
}

bool ip_is_link_local(const struct ip *ip)
{
	if (ip->family == 4)
		return ip->b[0] == 169 && ip->b[1] == 254;
	return ip->b[0] == 0xfe && (ip->b[1] & 0xc0) == 0x80;
}

bool ip_is_unspecified(const struct ip *ip)
{
	return is_low(ip_bytes(ip), 0);
}
