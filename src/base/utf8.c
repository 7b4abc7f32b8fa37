#include "base/utf8.h"

/* The length that the lead byte announces, and the bits of the code point in it. C0, C1 and F5 to
 * FF start nothing. */
static size_t lead(uint8_t c, uint32_t *bits)
{
	if (c < 0x80) {
		*bits = c;
		return 1;
	}
	if (c >= 0xc2 && c <= 0xdf) {
		*bits = c & 0x1f;
		return 2;
	}
	if (c >= 0xe0 && c <= 0xef) {
		*bits = c & 0x0f;
		return 3;
	}
	if (c >= 0xf0 && c <= 0xf4) {
		*bits = c & 0x07;
		return 4;
	}
	return 0;
}

static bool is_surrogate(uint32_t cp)
{
	return cp >= 0xd800 && cp <= 0xdfff;
}

size_t utf8_get(struct span text, uint32_t *cp)
{
	static const uint32_t smallest[UTF8_MAX + 1] = {0, 0, 0x80, 0x800, 0x10000};
	uint32_t v = 0;
	size_t n = text.n ? lead(text.p[0], &v) : 0;

	if (n == 0 || n > text.n)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((text.p[i] & 0xc0) != 0x80)
			return 0;
		v = v << 6 | (text.p[i] & 0x3f);
	}
	if (v < smallest[n] || v > 0x10ffff || is_surrogate(v))
		return 0;
	*cp = v;
	return n;
}

/* How many bytes, in steps of eight, are ASCII for certain. */
static size_t ascii_run(struct span text)
{
	size_t n = 0;

	for (uint64_t eight; text.n - n >= sizeof eight; n += sizeof eight) {
		memcpy(&eight, text.p + n, sizeof eight);
		if (eight & 0x8080808080808080u)
			break;
	}
	return n;
}

bool utf8_valid(struct span text)
{
	uint32_t cp;

	while (text.n) {
		size_t n = ascii_run(text);

		if (n == 0)
			n = utf8_get(text, &cp);
		if (n == 0)
			return false;
		text = span_from(text, n);
	}
	return true;
}

struct span utf8_first(struct span text, size_t n)
{
	if (n >= text.n)
		return text;
	while (n > 0 && (text.p[n] & 0xc0) == 0x80)
		n--;
	return span_first(text, n);
}

size_t utf8_put(uint32_t cp, uint8_t out[UTF8_MAX])
{
	static const uint8_t mark[UTF8_MAX + 1] = {0, 0, 0xc0, 0xe0, 0xf0};
	size_t n = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;

	if (cp > 0x10ffff || is_surrogate(cp))
		return 0;
	for (size_t i = n - 1; i > 0; i--) {
		out[i] = (uint8_t)(0x80 | (cp & 0x3f));
		cp >>= 6;
	}
	out[0] = (uint8_t)(mark[n] | cp);
	return n;
}
