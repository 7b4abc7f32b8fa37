/* cases.h - the shapes every codec case is run in. */
#ifndef TESTS_CASES_H
#define TESTS_CASES_H

#include "base/span.h"

/* A copy of `s` whose last byte is the last of a page, with an unreadable page behind it: reading
 * one byte too far ends the test. Lives until guard_free(). */
struct guard {
	struct span s;
	void *map;
	size_t map_bytes;
};
struct guard guard_copy(struct span s);
void guard_free(struct guard *g);

/* Calls fn(input, ctx) with `s` cut at every length from 0 to s.n, each against a guard page. */
void each_cut(struct span s, void (*fn)(struct span cut, void *ctx), void *ctx);

/* Calls fn with `s` in which, one after the other, each byte is replaced by 0x00, 0xff, its
 * complement of the low bit and of the high bit; each against a guard page. */
void each_mutation(struct span s, void (*fn)(struct span mutated, void *ctx), void *ctx);

/* The bytes of a hex text ("0a 0b", blanks ignored) in a static buffer that the next call reuses;
 * a text that is not hex fails the test. */
struct span unhex(const char *hex);

#endif
