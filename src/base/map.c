#include "base/map.h"

#include <errno.h>
#include <stdlib.h>

int map_init(struct map *m, size_t expected, const uint64_t seed[2])
{
	size_t n = 8;

	while (n < expected && n < SIZE_MAX / 2 / sizeof *m->buckets)
		n *= 2;
	*m = (struct map){.buckets = calloc(n, sizeof *m->buckets), .mask = n - 1};
	if (!m->buckets)
		return -ENOMEM;
	m->seed[0] = seed[0];
	m->seed[1] = seed[1];
	return 0;
}

void map_done(struct map *m)
{
	free(m->buckets);
	*m = (struct map){0};
}

static uint64_t rotl(uint64_t x, int by)
{
	return x << by | x >> (64 - by);
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

static uint64_t le64(const uint8_t *p, size_t n)
{
	uint64_t v = 0;

	for (size_t i = n; i > 0; i--)
		v = v << 8 | p[i - 1];
	return v;
}

/* SipHash-1-3 (Aumasson, Bernstein: "SipHash: a fast short-input PRF"). */
uint64_t map_hash(const struct map *m, struct span key)
{
	uint64_t v[4] = {m->seed[0] ^ 0x736f6d6570736575, m->seed[1] ^ 0x646f72616e646f6d,
	    m->seed[0] ^ 0x6c7967656e657261, m->seed[1] ^ 0x7465646279746573};
	size_t whole = key.n & ~(size_t)7;
	uint64_t word;

	for (size_t i = 0; i < whole; i += 8) {
		word = le64(key.p + i, 8);
		v[3] ^= word;
		sip_round(v);
		v[0] ^= word;
	}
	word = (uint64_t)key.n << 56;
	if (key.n > whole)
		word |= le64(key.p + whole, key.n - whole);
	v[3] ^= word;
	sip_round(v);
	v[0] ^= word;
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static struct map_node *same_hash(struct map_node *node, uint64_t hash)
{
	while (node && node->hash != hash)
		node = node->next;
	return node;
}

struct map_node *map_first(const struct map *m, uint64_t hash)
{
	return same_hash(m->buckets[hash & m->mask], hash);
}

struct map_node *map_next(const struct map_node *node)
{
	return same_hash(node->next, node->hash);
}

void map_add(struct map *m, struct map_node *node, uint64_t hash)
{
	struct map_node **bucket = &m->buckets[hash & m->mask];

	node->hash = hash;
	node->next = *bucket;
	*bucket = node;
	m->n++;
}

void map_remove(struct map *m, struct map_node *node)
{
	struct map_node **link = &m->buckets[node->hash & m->mask];

	while (*link != node)
		link = &(*link)->next;
	*link = node->next;
	node->next = NULL;
	m->n--;
}

struct map_node *map_walk(const struct map *m, const struct map_node *after)
{
	size_t i = 0;

	if (after) {
		if (after->next)
			return after->next;
		i = (after->hash & m->mask) + 1;
	}
	for (; m->buckets && i <= m->mask; i++)
		if (m->buckets[i])
			return m->buckets[i];
	return NULL;
}
