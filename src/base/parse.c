#include "base/parse.h"

static unsigned digit_value(uint8_t c)
{
	if (ascii_digit(c))
		return (unsigned)(c - '0');
	c = ascii_lower(c);
	return c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10 : 16;
}

/* A text that is no number is E_MALFORMED even where its front already overflows. */
static enum err digits(struct span text, unsigned base, uint64_t *out)
{
	uint64_t v = 0;
	bool overflow = false;

	if (text.n == 0)
		return E_MALFORMED;
	for (size_t i = 0; i < text.n; i++) {
		unsigned d = digit_value(text.p[i]);

		if (d >= base)
			return E_MALFORMED;
		overflow |= v > (UINT64_MAX - d) / base;
		v = v * base + d;
	}
	if (overflow)
		return E_RANGE;
	*out = v;
	return E_OK;
}

static enum err in_range(uint64_t v, uint64_t min, uint64_t max, uint64_t *out)
{
	if (v < min || v > max)
		return E_RANGE;
	*out = v;
	return E_OK;
}

enum err parse_u64(struct span text, uint64_t min, uint64_t max, uint64_t *out)
{
	uint64_t v;
	enum err err = digits(text, 10, &v);

	return err ? err : in_range(v, min, max, out);
}

enum err parse_hex_u64(struct span text, uint64_t max, uint64_t *out)
{
	uint64_t v;
	enum err err = digits(text, 16, &v);

	return err ? err : in_range(v, 0, max, out);
}

enum err parse_i64(struct span text, int64_t min, int64_t max, int64_t *out)
{
	bool negative = text.n && text.p[0] == '-';
	uint64_t magnitude;
	int64_t v;
	enum err err = digits(span_from(text, negative ? 1 : 0), 10, &magnitude);

	if (err)
		return err;
	if (magnitude > (uint64_t)INT64_MAX + (negative ? 1 : 0))
		return E_RANGE;
	/* INT64_MIN has no positive twin, so it is reached from one above */
	v = negative && magnitude ? -(int64_t)(magnitude - 1) - 1 : (int64_t)magnitude;
	if (v < min || v > max)
		return E_RANGE;
	*out = v;
	return E_OK;
}

struct unit {
	struct span suffix;
	uint64_t factor;
};

/* `text` with one of the units behind the digits, times its factor. */
static enum err with_unit(struct span text, const struct unit *units, size_t count, uint64_t *out)
{
	size_t n = 0;
	uint64_t v;
	enum err err;

	while (n < text.n && ascii_digit(text.p[n]))
		n++;
	for (size_t i = 0; i < count; i++) {
		if (!span_eq_nocase(span_from(text, n), units[i].suffix))
			continue;
		err = digits(span_first(text, n), 10, &v);
		if (err)
			return err;
		if (v > UINT64_MAX / units[i].factor)
			return E_RANGE;
		*out = v * units[i].factor;
		return E_OK;
	}
	return E_MALFORMED;
}

enum err parse_size(struct span text, uint64_t min, uint64_t max, uint64_t *out)
{
	static const struct unit units[] = {
	    {SPAN_LIT(""), 1},
	    {SPAN_LIT("K"), 1ull << 10},
	    {SPAN_LIT("M"), 1ull << 20},
	    {SPAN_LIT("G"), 1ull << 30},
	    {SPAN_LIT("T"), 1ull << 40},
	};
	uint64_t v;
	enum err err = with_unit(text, units, sizeof units / sizeof *units, &v);

	return err ? err : in_range(v, min, max, out);
}

enum err parse_duration_ms(struct span text, uint64_t min_ms, uint64_t max_ms, uint64_t *out_ms)
{
	static const struct unit units[] = {
	    {SPAN_LIT("ms"), 1},
	    {SPAN_LIT("s"), 1000},
	    {SPAN_LIT("m"), 60 * 1000},
	    {SPAN_LIT("h"), 60 * 60 * 1000},
	};
	uint64_t v;
	enum err err = with_unit(text, units, sizeof units / sizeof *units, &v);

	return err ? err : in_range(v, min_ms, max_ms, out_ms);
}
