/* span.h - a view of bytes that somebody else owns.
 *
 * A span is a pointer and a length; it owns nothing and need not end with NUL. How long it lives is
 * said by whoever hands it out. `p` may be NULL when `n` is 0; messages use p == NULL for "absent".
 */
#ifndef BASE_SPAN_H
#define BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
	const uint8_t *p;
	size_t n;
};

/* A span over a string literal, usable in static tables. */
#define SPAN_LIT(s)                                                                                \
	{                                                                                          \
		(const uint8_t *)("" s), sizeof(s) - 1                                             \
	}

static inline struct span span_of(const void *p, size_t n)
{
	return (struct span){p, n};
}

/* The bytes of a C string, without its NUL. */
static inline struct span span_str(const char *s)
{
	return span_of(s, strlen(s));
}

/* The bytes from `at` on; `at` beyond the end gives an empty span. */
static inline struct span span_from(struct span s, size_t at)
{
	return at < s.n ? span_of(s.p + at, s.n - at) : span_of(s.p ? s.p + s.n : NULL, 0);
}

/* At most the first `n` bytes. */
static inline struct span span_first(struct span s, size_t n)
{
	return span_of(s.p, n < s.n ? n : s.n);
}

static inline bool span_eq(struct span a, struct span b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool span_eq_str(struct span a, const char *s)
{
	return span_eq(a, span_str(s));
}

/* Equality with ASCII letters folded; other bytes compare as they are (RFC 4343). */
bool span_eq_nocase(struct span a, struct span b);

bool span_starts(struct span s, struct span prefix);
bool span_ends(struct span s, struct span suffix);

/* Offset of the first `c`, or s.n when there is none. */
size_t span_find(struct span s, uint8_t c);

/* Takes leading and trailing spaces and tabs off. */
struct span span_trim(struct span s);

/* Takes the text up to the first `sep` off the front of *rest and returns it; *rest starts behind
 * the separator, and is {NULL, 0} after the last piece. Empty pieces are returned as such. */
struct span span_split(struct span *rest, uint8_t sep);

/* Copies `s` as a C string into buf[cap]. False, with buf empty, when it does not fit or holds a
 * NUL. */
bool span_to_cstr(struct span s, char *buf, size_t cap);

static inline uint8_t ascii_lower(uint8_t c)
{
	return (uint8_t)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

static inline bool ascii_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

#endif
