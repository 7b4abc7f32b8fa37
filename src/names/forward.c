#include "names/forward.h"

#include "base/log.h"
#include "base/map.h"
#include "names/fair.h"
#include "names/upstream.h"
#include "sys/timer.h"

#include <errno.h>
#include <stdlib.h>

enum { NO_SERVER = FORWARD_SERVERS };

struct server {
	struct forward *forward;
	struct addr addr;
	bool down;            /* it did not answer lately; it is being probed */
	uint64_t answered_ns; /* when it last did */
	struct timer probe;
	struct upstream *probing;
};

/* One that waits for the answer to a question. */
struct asker {
	struct link link; /* on the flight's `askers` */
	struct fair_waiter waiter;
	struct flight *flight;
	struct forward_asker who;
	uint16_t id, flags;
	struct dns_edns edns;
	size_t raw_n;
	uint8_t raw[]; /* the question, in this asker's case */
};

/* A question under way. */
struct flight {
	struct map_node node;
	struct link link; /* on `flights` */
	struct forward *forward;
	struct link askers;
	struct upstream *upstream;
	struct dns_query query; /* of the first asker; its question stands in `raw` */
	unsigned server; /* that is being asked; NO_SERVER: one that is on the list no more */
	unsigned tried;  /* bit i: server i was asked */
	uint64_t asked_ns;
	bool answered; /* by a server, but with a failure */
	uint8_t raw[];
};

struct forward {
	struct loop *loop;
	struct forward_conf conf;
	struct server servers[FORWARD_SERVERS];
	unsigned n_servers;
	struct cache *cache;
	struct map map; /* of flights, by the key of their question */
	struct link flights;
	struct fair fair;                   /* to all askers */
	uint8_t message[DNS_MESSAGE_BYTES]; /* the answer being handed out */
};

/* --- servers --------------------------------------------------------------------------------- */

static void log_server(enum log_level level, const char *message, const struct server *s, int rc)
{
	char text[IP_TEXT_BYTES] = "";
	struct ip ip;

	if (addr_to_ip(&s->addr, &ip))
		ip_format(&ip, text);
	log_line(level, "dns", message, KV_STR("server", text), KV_NUM("port", addr_port(&s->addr)),
	    KV_ERR(rc));
}

static void server_answered(struct server *s)
{
	s->answered_ns = s->forward->loop->now_ns;
	if (!s->down)
		return;
	s->down = false;
	timer_at(&s->probe, 0);
	upstream_cancel(s->probing);
	s->probing = NULL;
	log_server(LOG_INFO, "upstream server answers again", s, 0);
}

/* Whether the failure is ours and says nothing of the server. */
static bool is_own_failure(int rc)
{
	return rc == -ENOMEM || rc == -ENOBUFS || rc == -EMFILE || rc == -ENFILE;
}

/* A server that answered others meanwhile is not down: the question is one that it has no answer
 * to. */
static void server_failed(struct server *s, uint64_t asked_ns, int rc)
{
	if (s->down || is_own_failure(rc) || (rc == -ETIMEDOUT && s->answered_ns > asked_ns))
		return;
	s->down = true;
	timer_in(&s->probe, s->forward->conf.probe_ms * NS_PER_MS);
	log_server(LOG_WARN, "upstream server does not answer", s, rc);
}

static void probe_done(void *ctx, int rc, struct span message, const struct dns_response *response)
{
	struct server *s = ctx;

	(void)message;
	(void)response;
	s->probing = NULL;
	if (rc == 0 || rc == -EPROTO)
		server_answered(s);
	else if (s->down)
		timer_in(&s->probe, s->forward->conf.probe_ms * NS_PER_MS);
}

/* Asks for the root's name servers, which any server can say something to. */
static void probe(struct timer *t)
{
	static const uint8_t raw[] = {0, 0, DNS_NS, 0, DNS_IN};
	static const struct dns_query query = {
	    .raw = {raw, sizeof raw},
	    .question = {.name = {1, {0}}, .type = DNS_NS, .class = DNS_IN},
	};
	struct server *s = container_of(t, struct server, probe);
	struct forward *f = s->forward;

	if (upstream_ask(&s->probing, f->loop, &s->addr, &query, f->conf.timeout_ms, probe_done, s))
		timer_in(t, f->conf.probe_ms * NS_PER_MS);
}

static bool all_down(const struct forward *f)
{
	for (unsigned i = 0; i < f->n_servers; i++)
		if (!f->servers[i].down)
			return false;
	return true;
}

/* The first server that was not tried yet and is, or is not, down; or NO_SERVER. */
static unsigned server_untried(const struct forward *f, unsigned tried, bool down)
{
	for (unsigned i = 0; i < f->n_servers; i++)
		if (!(tried & 1u << i) && f->servers[i].down == down)
			return i;
	return NO_SERVER;
}

static unsigned server_next(const struct forward *f, unsigned tried)
{
	unsigned i = server_untried(f, tried, false);

	return i != NO_SERVER ? i : server_untried(f, tried, true);
}

static void servers_drop(struct forward *f)
{
	for (unsigned i = 0; i < f->n_servers; i++) {
		timer_at(&f->servers[i].probe, 0);
		upstream_cancel(f->servers[i].probing);
	}
	f->n_servers = 0;
}

static bool servers_same(const struct forward *f, const struct addr *servers, size_t n)
{
	if (n != f->n_servers)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!addr_eq(&f->servers[i].addr, &servers[i]))
			return false;
	return true;
}

void forward_set_servers(struct forward *f, const struct addr *servers, size_t n)
{
	n = n < FORWARD_SERVERS ? n : FORWARD_SERVERS;
	if (servers_same(f, servers, n))
		return;
	servers_drop(f);
	for (; f->n_servers < n; f->n_servers++) {
		struct server *s = &f->servers[f->n_servers];

		*s = (struct server){.forward = f, .addr = servers[f->n_servers]};
		timer_init(&s->probe, f->loop, probe);
	}
	for (struct link *l = f->flights.next; l != &f->flights; l = l->next) {
		struct flight *flight = container_of(l, struct flight, link);

		flight->server = NO_SERVER;
		flight->tried = 0;
	}
}

/* --- askers ---------------------------------------------------------------------------------- */

static void answer_failure(
    struct forward *f, const struct dns_query *query, const struct forward_asker *who)
{
	f->conf.fn(f->conf.ctx, who, query, span_of(NULL, 0));
}

/* False, with nothing done, without memory. */
static bool asker_add(
    struct flight *flight, const struct dns_query *query, const struct forward_asker *who)
{
	struct forward *f = flight->forward;
	struct asker *a = malloc(sizeof *a + query->raw.n);

	if (!a)
		return false;
	*a = (struct asker){
	    .flight = flight,
	    .who = *who,
	    .id = query->id,
	    .flags = query->flags,
	    .edns = query->edns,
	    .raw_n = query->raw.n,
	};
	if (!fair_join(&f->fair, &who->ip, &a->waiter)) {
		free(a);
		return false;
	}
	memcpy(a->raw, query->raw.p, query->raw.n);
	list_append(&flight->askers, &a->link);
	return true;
}

/* NULL when there is none. */
static struct asker *first_asker(const struct flight *flight)
{
	struct link *node = list_first(&flight->askers);

	return node ? container_of(node, struct asker, link) : NULL;
}

static void asker_drop(struct asker *a)
{
	list_remove(&a->link);
	fair_leave(&a->flight->forward->fair, &a->waiter);
	free(a);
}

static void asker_answer(struct asker *a, struct span stored)
{
	const struct forward_conf *conf = &a->flight->forward->conf;
	struct dns_query query = a->flight->query;

	query.id = a->id;
	query.flags = a->flags;
	query.edns = a->edns;
	query.raw = span_of(a->raw, a->raw_n);
	conf->fn(conf->ctx, &a->who, &query, stored);
	asker_drop(a);
}

/* --- flights --------------------------------------------------------------------------------- */

static void flight_drop(struct flight *flight)
{
	struct asker *a;

	map_remove(&flight->forward->map, &flight->node);
	list_remove(&flight->link);
	upstream_cancel(flight->upstream);
	while ((a = first_asker(flight)))
		asker_drop(a);
	free(flight);
}

/* Gives every asker the answer, and ends the flight. */
static void flight_land(struct flight *flight, struct span stored)
{
	struct asker *a;

	while ((a = first_asker(flight)))
		asker_answer(a, stored);
	flight_drop(flight);
}

static void flight_fail(struct flight *flight)
{
	struct forward *f = flight->forward;
	struct cache_key key = cache_key_of(&flight->query);
	size_t n = 0;

	if (!flight->answered)
		n = cache_get(f->cache, &key, CACHE_STALE, f->loop->now_ns, f->message);
	flight_land(flight, span_of(f->message, n));
}

/* Whether a response is worth passing on. The others become SERVFAIL when no server does better,
 * since what they say is meant for us: that we are refused, say. */
static bool is_useful(const struct dns_response *r)
{
	switch (r->rcode) {
	case DNS_FORMERR:
	case DNS_SERVFAIL:
	case DNS_NOTIMP:
	case DNS_REFUSED: return false;
	default: return r->rcode <= DNS_RCODE && r->raw.n > 0;
	}
}

/* Makes what a server said what the askers get, and keeps it. */
static struct span take_message(
    struct flight *flight, struct span message, const struct dns_response *response)
{
	struct forward *f = flight->forward;
	struct cache_key key = cache_key_of(&flight->query);
	struct span stored;

	memcpy(f->message, message.p, message.n);
	stored = span_of(f->message, dns_response_strip(f->message, response));
	dns_age(f->message, stored.n, 0, 0, f->conf.cache.ttl_secs);
	cache_put(f->cache, &key, stored, response->ttl_secs, f->loop->now_ns);
	return stored;
}

static void flight_next(struct flight *flight);

static void on_answer(void *ctx, int rc, struct span message, const struct dns_response *response)
{
	struct flight *flight = ctx;
	struct forward *f = flight->forward;
	struct server *s = flight->server == NO_SERVER ? NULL : &f->servers[flight->server];
	bool answered = rc == 0 || rc == -EPROTO;

	flight->upstream = NULL;
	if (s && answered)
		server_answered(s);
	else if (s)
		server_failed(s, flight->asked_ns, rc);
	if (rc == 0 && is_useful(response)) {
		flight_land(flight, take_message(flight, message, response));
		return;
	}
	flight->answered |= answered;
	flight_next(flight);
}

/* Asks the next server; without one the flight fails. */
static void flight_next(struct flight *flight)
{
	struct forward *f = flight->forward;
	unsigned i;

	while ((i = server_next(f, flight->tried)) != NO_SERVER) {
		int rc = upstream_ask(&flight->upstream, f->loop, &f->servers[i].addr,
		    &flight->query, f->conf.timeout_ms, on_answer, flight);

		flight->tried |= 1u << i;
		flight->server = i;
		flight->asked_ns = f->loop->now_ns;
		if (rc == 0)
			return;
		server_failed(&f->servers[i], flight->asked_ns, rc);
	}
	flight_fail(flight);
}

static struct flight *flight_find(
    const struct forward *f, const struct cache_key *key, uint64_t hash)
{
	for (struct map_node *node = map_first(&f->map, hash); node; node = map_next(node)) {
		struct flight *flight = container_of(node, struct flight, node);
		struct cache_key k = cache_key_of(&flight->query);

		if (k.dnssec_ok == key->dnssec_ok &&
		    k.checking_disabled == key->checking_disabled &&
		    dns_question_eq(k.question, key->question))
			return flight;
	}
	return NULL;
}

/* A flight with its first asker; NULL without memory. */
static struct flight *flight_new(struct forward *f, const struct dns_query *query, uint64_t hash,
    const struct forward_asker *who)
{
	struct flight *flight = malloc(sizeof *flight + query->raw.n);

	if (!flight)
		return NULL;
	*flight = (struct flight){.forward = f, .query = *query, .server = NO_SERVER};
	memcpy(flight->raw, query->raw.p, query->raw.n);
	flight->query.raw.p = flight->raw;
	list_init(&flight->askers);
	if (!asker_add(flight, query, who)) {
		free(flight);
		return NULL;
	}
	map_add(&f->map, &flight->node, hash);
	list_append(&f->flights, &flight->link);
	return flight;
}

/* Ends the wait of one asker, and a question that nobody else waits for. */
static void give_way(struct forward *f)
{
	struct asker *a = container_of(fair_first(&f->fair), struct asker, waiter);
	struct flight *flight = a->flight;

	asker_answer(a, span_of(NULL, 0));
	if (list_empty(&flight->askers))
		flight_drop(flight);
}

static void ask_upstream(
    struct forward *f, const struct dns_query *query, const struct forward_asker *who)
{
	uint8_t buf[CACHE_KEY_BYTES];
	struct cache_key key = cache_key_of(query);
	uint64_t hash = map_hash(&f->map, cache_key_bytes(&key, buf));
	struct flight *flight;

	if (f->fair.n >= f->conf.max_askers)
		give_way(f); /* before the question is looked for, which may end with that */
	flight = flight_find(f, &key, hash);
	if (flight) {
		if (!asker_add(flight, query, who))
			answer_failure(f, query, who);
		return;
	}
	while (f->map.n >= f->conf.max_inflight)
		give_way(f);
	flight = flight_new(f, query, hash, who);
	if (flight)
		flight_next(flight);
	else
		answer_failure(f, query, who);
}

void forward_ask(struct forward *f, const struct dns_query *query, const struct forward_asker *who)
{
	struct cache_key key = cache_key_of(query);
	enum cache_want want = all_down(f) ? CACHE_STALE : CACHE_FRESH;
	size_t n = cache_get(f->cache, &key, want, f->loop->now_ns, f->message);

	if (n > 0)
		f->conf.fn(f->conf.ctx, who, query, span_of(f->message, n));
	else
		ask_upstream(f, query, who);
}

size_t forward_inflight(const struct forward *f)
{
	return f->map.n;
}

/* --- life ------------------------------------------------------------------------------------ */

struct forward *forward_new(struct loop *l, const struct forward_conf *conf)
{
	struct forward *f = calloc(1, sizeof *f);

	if (!f)
		return NULL;
	f->loop = l;
	f->conf = *conf;
	list_init(&f->flights);
	f->cache = cache_new(&conf->cache);
	if (!f->cache || map_init(&f->map, conf->max_inflight, conf->cache.seed) < 0 ||
	    fair_init(&f->fair, conf->max_askers, conf->cache.seed) < 0) {
		forward_free(f);
		return NULL;
	}
	return f;
}

void forward_free(struct forward *f)
{
	if (!f)
		return;
	servers_drop(f);
	while (!list_empty(&f->flights))
		flight_drop(container_of(list_first(&f->flights), struct flight, link));
	fair_done(&f->fair);
	map_done(&f->map);
	cache_free(f->cache);
	free(f);
}
