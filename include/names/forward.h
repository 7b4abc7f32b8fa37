/* forward.h - questions that the agent cannot answer itself, passed on to upstream servers.
 *
 * Answers come from the cache while their TTL lasts. Otherwise each question is asked on its own
 * (see upstream.h), at the same time as any other; askers of one question share it. Servers are
 * asked in their order, those that did not answer lately last; they are probed until they do again.
 * A server that fails, refuses or does not answer hands over to the next one. When none has
 * answered, an answer that is a little too old has to do (RFC 8767), and failing that SERVFAIL.
 *
 * When too many wait, one of them gets SERVFAIL: the oldest from the address that most wait for
 * (see fair.h), so that nobody who asks for too much takes the place of the others. */
#ifndef NAMES_FORWARD_H
#define NAMES_FORWARD_H

#include "names/cache.h"
#include "net/udp.h"

struct forward;

enum { FORWARD_SERVERS = 8 };

/* Who asked. All but `ip` is for the caller to find it again, and not looked at here. */
struct forward_asker {
	struct ip ip;              /* whose share of the limits it takes */
	struct udp_peer peer;      /* over UDP */
	uint32_t slot, generation; /* over TCP; generation 0 = over UDP */
};

/* The answer to one asker: *query as it asked, and what dns_reply_stored() takes; `stored` is empty
 * for SERVFAIL. Both live during the call, which must not ask anything itself. */
typedef void forward_fn(void *ctx, const struct forward_asker *asker, const struct dns_query *query,
    struct span stored);

struct forward_conf {
	forward_fn *fn;
	void *ctx;
	size_t max_inflight; /* questions, 1 or more; askers give way until one ends */
	size_t max_askers;   /* of all questions, 1 or more */
	uint64_t timeout_ms; /* of a try; there are UPSTREAM_TRIES a server */
	uint64_t probe_ms;   /* between probes of a server that does not answer */
	struct cache_conf cache;
};

/* Without servers at first. `conf` is copied. NULL without memory. */
struct forward *forward_new(struct loop *l, const struct forward_conf *conf);

/* Ends all without an answer. Between turns of the loop only. NULL is left alone. */
void forward_free(struct forward *f);

/* Replaces the servers, of which the first FORWARD_SERVERS count; questions under way go on. The
 * same list again changes nothing. */
void forward_set_servers(struct forward *f, const struct addr *servers, size_t n);

/* Gets a query that answer_request() said is to be forwarded its answer. Everything is copied.
 * conf.fn is called exactly once for it, perhaps before this returns. */
void forward_ask(
    struct forward *f, const struct dns_query *query, const struct forward_asker *asker);

/* Questions under way. */
size_t forward_inflight(const struct forward *f);

#endif
