#include "names/answer.h"

enum { SOA_REFRESH_SECS = 3600, SOA_RETRY_SECS = 600, SOA_EXPIRE_SECS = 86400 };

static const struct dns_name localhost = {11, "\11localhost"};

void answerer_init(struct answerer *a, struct registry *registry, uint32_t ttl_secs)
{
	static const struct span hostmaster = SPAN_LIT("\12hostmaster");
	const struct dns_name *domain = registry_domain(registry);

	*a = (struct answerer){
	    .registry = registry,
	    .ttl_secs = ttl_secs,
	    .soa = {.zone = *domain,
		.mname = *domain,
		.rname = *domain,
		.ttl_secs = ttl_secs,
		.refresh_secs = SOA_REFRESH_SECS,
		.retry_secs = SOA_RETRY_SECS,
		.expire_secs = SOA_EXPIRE_SECS,
		.minimum_secs = ttl_secs},
	};
	if (domain->n <= DNS_NAME_BYTES - hostmaster.n) {
		struct wr w = wr_of(a->soa.rname.wire, sizeof a->soa.rname.wire);

		wr_bytes(&w, hostmaster);
		wr_bytes(&w, dns_name_span(domain));
		a->soa.rname.n = (uint8_t)w.n;
	}
}

/* --- negative answers ------------------------------------------------------------------------ */

static void add_soa(struct answerer *a, struct dns_reply *r, enum dns_section section)
{
	a->soa.serial = registry_serial(a->registry);
	dns_reply_soa(r, section, &a->soa);
}

/* A name outside of the domain is a zone of its own: the SOA of a negative answer belongs to a name
 * at or above the one asked for (RFC 2308 section 3). */
static void add_own_soa(struct answerer *a, struct dns_reply *r)
{
	struct dns_soa soa = a->soa;

	soa.serial = registry_serial(a->registry);
	soa.zone = r->query->question.name;
	dns_reply_soa(r, DNS_AUTHORITY, &soa);
}

static void add_soa_if_empty(struct answerer *a, struct dns_reply *r)
{
	if (r->count[DNS_ANSWER] > 0)
		return;
	if (dns_name_under(&r->query->question.name, &a->soa.zone))
		add_soa(a, r, DNS_AUTHORITY);
	else
		add_own_soa(a, r);
}

/* --- positive answers ------------------------------------------------------------------------ */

/* ANY is answered with what an application could use (RFC 8482 section 4.1). */
static bool asks_for(const struct dns_query *q, enum dns_type type)
{
	return q->question.type == type || q->question.type == DNS_ANY;
}

/* The family of addresses that a type asks for; 0 when it asks for none. ANY starts with IPv4. */
static uint8_t family_of(uint16_t type)
{
	if (type == DNS_AAAA)
		return 6;
	return type == DNS_A || type == DNS_ANY ? 4 : 0;
}

/* Adds the addresses of a family, and tells how the name is known. */
static enum registry_match add_addrs(struct answerer *a, struct dns_reply *r, uint8_t family)
{
	struct registry_answer found;
	enum registry_match match =
	    registry_lookup(a->registry, &r->query->question.name, family, &found);

	for (size_t i = 0; i < found.n; i++)
		dns_reply_addr(r, a->ttl_secs, found.addrs[i]);
	return match;
}

static size_t names_of(
    const struct answerer *a, const struct ip *ip, struct dns_name out[REGISTRY_ANSWER_NAMES])
{
	if (!ip_is_loopback(ip))
		return registry_reverse(a->registry, ip, out);
	out[0] = localhost;
	return 1;
}

/* The names of an address; false when it is nobody's. */
static bool answer_reverse(struct answerer *a, struct dns_reply *r)
{
	struct dns_name names[REGISTRY_ANSWER_NAMES];
	struct ip ip;
	size_t n;

	if (!dns_name_to_ip(&r->query->question.name, &ip))
		return false;
	n = names_of(a, &ip, names);
	for (size_t i = 0; i < n && asks_for(r->query, DNS_PTR); i++)
		dns_reply_ptr(r, a->ttl_secs, &names[i]);
	return n > 0;
}

static void answer_localhost(struct answerer *a, struct dns_reply *r)
{
	static const struct ip v4 = {4, {127, 0, 0, 1}}, v6 = {6, {[15] = 1}};

	if (asks_for(r->query, DNS_A))
		dns_reply_addr(r, a->ttl_secs, &v4);
	if (asks_for(r->query, DNS_AAAA))
		dns_reply_addr(r, a->ttl_secs, &v6);
}

static void answer_apex(struct answerer *a, struct dns_reply *r)
{
	if (asks_for(r->query, DNS_SOA))
		add_soa(a, r, DNS_ANSWER);
}

/* Names of the registry, its domain and its addresses; false for what others know of. */
static bool answer_registry(struct answerer *a, struct dns_reply *r)
{
	uint16_t type = r->query->question.type;

	switch (add_addrs(a, r, family_of(type))) {
	case REGISTRY_FOREIGN: return answer_reverse(a, r);
	case REGISTRY_APEX: answer_apex(a, r); break;
	case REGISTRY_ABSENT: r->rcode = DNS_NXDOMAIN; break;
	case REGISTRY_BETWEEN: break;
	case REGISTRY_FOUND:
		if (type == DNS_ANY)
			add_addrs(a, r, 6);
		break;
	}
	return true;
}

/* --- requests -------------------------------------------------------------------------------- */

/* Other classes, and transfers of a zone. */
static bool is_refused(const struct dns_question *q)
{
	return q->class != DNS_IN || q->type == DNS_AXFR || q->type == DNS_IXFR;
}

/* Answers a good question; false when it is for the forwarder. */
static bool answer_question(struct answerer *a, struct dns_reply *r)
{
	const struct dns_question *q = &r->query->question;

	if (is_refused(q)) {
		r->rcode = DNS_REFUSED;
		return true;
	}
	if (dns_name_under(&q->name, &localhost))
		answer_localhost(a, r);
	else if (!answer_registry(a, r))
		return false;
	r->flags |= DNS_AA;
	add_soa_if_empty(a, r);
	return true;
}

size_t answer_limit(enum answer_front front, const struct dns_query *query)
{
	if (front == ANSWER_TCP)
		return DNS_MESSAGE_BYTES;
	return query->edns.payload < DNS_EDNS_BYTES ? query->edns.payload : DNS_EDNS_BYTES;
}

enum answer_verdict answer_request(struct answerer *a, enum answer_front front, struct span packet,
    uint8_t *buf, struct dns_query *query, struct span *reply)
{
	struct dns_reply r;

	if (dns_query_read(packet, query) != E_OK)
		return ANSWER_DROP;
	dns_reply_begin(&r, buf, answer_limit(front, query), query, 0);
	if (query->rcode == DNS_NOERROR && !answer_question(a, &r))
		return ANSWER_FORWARD;
	*reply = dns_reply_finish(&r);
	return ANSWER_READY;
}
