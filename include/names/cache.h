/* cache.h - answers of upstream servers, kept while their TTL lasts (RFC 1035, 2308), and a little
 * longer for the time when nobody answers (RFC 8767).
 *
 * Bounded in entries and in bytes; what was used longest ago goes first. Times are CLOCK_MONOTONIC
 * nanoseconds, given by the caller. */
#ifndef NAMES_CACHE_H
#define NAMES_CACHE_H

#include "codec/dns.h"

enum { CACHE_STALE_TTL_SECS = 30 }; /* what an answer past its time may be kept for (RFC 8767) */

struct cache;

struct cache_conf {
	size_t max_entries, max_bytes;
	uint32_t ttl_secs;          /* nothing is kept, or told to be kept, longer */
	uint32_t negative_ttl_secs; /* that something does not exist neither */
	uint32_t stale_secs;        /* how long an answer stays of use after its time */
	uint64_t seed[2];           /* random, for the hash map */
};

/* What makes two answers interchangeable. */
struct cache_key {
	const struct dns_question *question;
	bool dnssec_ok, checking_disabled;
};

/* The key of a query; lives as long as it. */
struct cache_key cache_key_of(const struct dns_query *query);

/* The bytes of a key, for maps of others too: equal keys, and only those, give equal bytes. */
enum { CACHE_KEY_BYTES = DNS_QUESTION_BYTES + 1 };
struct span cache_key_bytes(const struct cache_key *key, uint8_t buf[CACHE_KEY_BYTES]);

/* NULL without memory. */
struct cache *cache_new(const struct cache_conf *conf);
void cache_free(struct cache *c);

/* Keeps a copy of a message that dns_response_strip() has been over and dns_response_read() gave
 * `ttl_secs`; replaces what there is. One with TTL 0, one too large, and any without memory is not
 * kept. */
void cache_put(struct cache *c, const struct cache_key *key, struct span message, uint32_t ttl_secs,
    uint64_t now_ns);

enum cache_want { CACHE_FRESH, CACHE_STALE };

/* Copies the message for `key` into buf, its TTLs what is left of them; CACHE_STALE takes one that
 * is past its time, too. Its length, or 0 when there is none. */
size_t cache_get(struct cache *c, const struct cache_key *key, enum cache_want want,
    uint64_t now_ns, uint8_t buf[DNS_MESSAGE_BYTES]);

size_t cache_entries(const struct cache *c);

#endif
