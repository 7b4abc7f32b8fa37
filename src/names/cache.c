#include "names/cache.h"

#include "base/list.h"
#include "base/map.h"
#include "sys/clock.h"

#include <stdlib.h>

enum { LARGEST_SHARE = 8 }; /* one message takes at most this part of the bytes there are */

struct cache {
	struct map map;
	struct link entries; /* what was used longest ago comes first */
	struct cache_conf conf;
	size_t bytes;
};

struct entry {
	struct map_node node;
	struct link link;
	uint64_t stored_ns;
	uint32_t ttl_secs;
	size_t key_n, message_n;
	uint8_t bytes[]; /* the key, the message */
};

struct cache_key cache_key_of(const struct dns_query *query)
{
	return (struct cache_key){&query->question, query->edns.dnssec_ok, query->flags & DNS_CD};
}

struct span cache_key_bytes(const struct cache_key *key, uint8_t buf[CACHE_KEY_BYTES])
{
	struct wr w = wr_of(buf, CACHE_KEY_BYTES);

	wr_bytes(&w, dns_name_span(&key->question->name));
	wr_u16be(&w, key->question->type);
	wr_u16be(&w, key->question->class);
	wr_u8(&w, (uint8_t)(key->dnssec_ok << 1 | key->checking_disabled));
	return wr_span(&w);
}

struct cache *cache_new(const struct cache_conf *conf)
{
	struct cache *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	if (map_init(&c->map, conf->max_entries, conf->seed) < 0) {
		free(c);
		return NULL;
	}
	list_init(&c->entries);
	c->conf = *conf;
	return c;
}

static size_t entry_bytes(const struct entry *e)
{
	return sizeof *e + e->key_n + e->message_n;
}

static void entry_drop(struct cache *c, struct entry *e)
{
	map_remove(&c->map, &e->node);
	list_remove(&e->link);
	c->bytes -= entry_bytes(e);
	free(e);
}

static void drop_oldest(struct cache *c)
{
	entry_drop(c, container_of(list_first(&c->entries), struct entry, link));
}

void cache_free(struct cache *c)
{
	if (!c)
		return;
	while (!list_empty(&c->entries))
		drop_oldest(c);
	map_done(&c->map);
	free(c);
}

static struct entry *entry_find(const struct cache *c, struct span key)
{
	struct map_node *node = map_first(&c->map, map_hash(&c->map, key));

	for (; node; node = map_next(node)) {
		struct entry *e = container_of(node, struct entry, node);

		if (span_eq(span_of(e->bytes, e->key_n), key))
			return e;
	}
	return NULL;
}

/* Whether a message says that something does not exist. */
static bool is_negative(struct span message)
{
	struct rd r = rd_of(message);
	uint16_t flags, answers;

	rd_u16be(&r);
	flags = rd_u16be(&r);
	rd_u16be(&r);
	answers = rd_u16be(&r);
	return (flags & DNS_RCODE) != DNS_NOERROR || answers == 0;
}

static uint32_t ttl_max(const struct cache *c, struct span message)
{
	return is_negative(message) ? c->conf.negative_ttl_secs : c->conf.ttl_secs;
}

static struct entry *entry_new(struct span key, struct span message)
{
	struct entry *e = malloc(sizeof *e + key.n + message.n);

	if (!e)
		return NULL;
	*e = (struct entry){.key_n = key.n, .message_n = message.n};
	memcpy(e->bytes, key.p, key.n);
	memcpy(e->bytes + key.n, message.p, message.n);
	return e;
}

void cache_put(struct cache *c, const struct cache_key *key, struct span message, uint32_t ttl_secs,
    uint64_t now_ns)
{
	uint8_t buf[CACHE_KEY_BYTES];
	struct span k = cache_key_bytes(key, buf);
	struct entry *old = entry_find(c, k), *e;
	uint32_t max = ttl_max(c, message);

	if (ttl_secs == 0 || message.n > c->conf.max_bytes / LARGEST_SHARE)
		return;
	e = entry_new(k, message);
	if (!e)
		return;
	if (old)
		entry_drop(c, old);
	e->stored_ns = now_ns;
	e->ttl_secs = ttl_secs < max ? ttl_secs : max;
	map_add(&c->map, &e->node, map_hash(&c->map, k));
	list_append(&c->entries, &e->link);
	c->bytes += entry_bytes(e);
	while (c->map.n > c->conf.max_entries || c->bytes > c->conf.max_bytes)
		drop_oldest(c);
}

size_t cache_get(struct cache *c, const struct cache_key *key, enum cache_want want,
    uint64_t now_ns, uint8_t buf[DNS_MESSAGE_BYTES])
{
	uint8_t key_buf[CACHE_KEY_BYTES];
	struct entry *e = entry_find(c, cache_key_bytes(key, key_buf));
	uint64_t age_secs = e ? (now_ns - e->stored_ns) / NS_PER_SEC : 0;
	struct span message;
	bool fresh;

	if (!e)
		return 0;
	if (age_secs >= (uint64_t)e->ttl_secs + c->conf.stale_secs) {
		entry_drop(c, e);
		return 0;
	}
	fresh = age_secs < e->ttl_secs;
	if (!fresh && want == CACHE_FRESH)
		return 0;
	list_remove(&e->link);
	list_append(&c->entries, &e->link);
	message = span_of(e->bytes + e->key_n, e->message_n);
	memcpy(buf, message.p, message.n);
	dns_age(buf, message.n, (uint32_t)age_secs, fresh ? 0 : 1,
	    fresh ? ttl_max(c, message) : CACHE_STALE_TTL_SECS);
	return message.n;
}

size_t cache_entries(const struct cache *c)
{
	return c->map.n;
}
