/* map.h - an intrusive hash map with a number of buckets that is fixed when it is made.
 *
 * Every table of the agent has a limit, so the buckets are allocated once and never move. Entries
 * embed a map_node and stay owned by the caller; adding and removing never allocates. Keys are
 * bytes hashed with a seed drawn at start-up (SipHash-1-3), since container names and DNS questions
 * are chosen by strangers. */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include "base/container.h"
#include "base/err.h"
#include "base/span.h"

struct map_node {
	struct map_node *next;
	uint64_t hash;
};

struct map {
	struct map_node **buckets;
	size_t mask; /* buckets - 1 */
	size_t n;    /* entries in it */
	uint64_t seed[2];
};

/* Makes a map for about `expected` entries (at least 1). 0 or -ENOMEM. */
int map_init(struct map *m, size_t expected, const uint64_t seed[2]);

/* Frees the buckets, not the entries. */
void map_done(struct map *m);

uint64_t map_hash(const struct map *m, struct span key);

/* The first entry with this hash, and the next one after `node` with the same hash; NULL at the
 * end. The caller compares the keys. */
struct map_node *map_first(const struct map *m, uint64_t hash);
struct map_node *map_next(const struct map_node *node);

/* Adds an entry under a hash from map_hash. Equal keys are not looked for. */
void map_add(struct map *m, struct map_node *node, uint64_t hash);

/* Takes out an entry that is in the map. */
void map_remove(struct map *m, struct map_node *node);

/* Walks all entries: NULL starts, and the node returned last goes on. The entry returned last may
 * have been removed only if `map_walk` was asked for its successor before. */
struct map_node *map_walk(const struct map *m, const struct map_node *after);

#endif
