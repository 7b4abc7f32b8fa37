#include "base/span.h"

bool span_eq_nocase(struct span a, struct span b)
{
	if (a.n != b.n)
		return false;
	for (size_t i = 0; i < a.n; i++)
		if (ascii_lower(a.p[i]) != ascii_lower(b.p[i]))
			return false;
	return true;
}

bool span_starts(struct span s, struct span prefix)
{
	return s.n >= prefix.n && span_eq(span_first(s, prefix.n), prefix);
}

bool span_ends(struct span s, struct span suffix)
{
	return s.n >= suffix.n && span_eq(span_from(s, s.n - suffix.n), suffix);
}

size_t span_find(struct span s, uint8_t c)
{
	const uint8_t *hit = s.n ? memchr(s.p, c, s.n) : NULL;
	return hit ? (size_t)(hit - s.p) : s.n;
}

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

struct span span_trim(struct span s)
{
	while (s.n && is_blank(s.p[0]))
		s = span_from(s, 1);
	while (s.n && is_blank(s.p[s.n - 1]))
		s.n--;
	return s;
}

struct span span_split(struct span *rest, uint8_t sep)
{
	size_t at = span_find(*rest, sep);
	struct span piece = span_first(*rest, at);

	*rest = at < rest->n ? span_from(*rest, at + 1) : span_of(NULL, 0);
	return piece;
}

bool span_to_cstr(struct span s, char *buf, size_t cap)
{
	if (cap == 0)
		return false;
	buf[0] = '\0';
	if (s.n >= cap || span_find(s, '\0') != s.n)
		return false;
	if (s.n)
		memcpy(buf, s.p, s.n);
	buf[s.n] = '\0';
	return true;
}
