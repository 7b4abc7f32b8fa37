/* hash.h - a hash that never changes, for names made of other names. Not for tables that strangers
 * fill: see map.h. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/span.h"

/* FNV-1a of 64 bits (Fowler, Noll, Vo). */
static inline uint64_t hash_fnv1a(struct span s)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < s.n; i++)
		h = (h ^ s.p[i]) * UINT64_C(0x100000001b3);
	return h;
}

#endif
