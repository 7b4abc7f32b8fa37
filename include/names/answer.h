/* answer.h - what the agent answers by itself: a function of a request and the registry, without
 * any socket. The UDP and the TCP front of the server share it.
 *
 * Answered here: names of the registry and of its domain, their addresses (PTR), localhost (RFC
 * 6761 section 6.3), and what is refused or wrong. All else is for the forwarder. */
#ifndef NAMES_ANSWER_H
#define NAMES_ANSWER_H

#include "names/registry.h"

struct answerer {
	struct registry *registry;
	uint32_t ttl_secs;
	struct dns_soa soa; /* of the domain; its serial number is set when it is used */
};

/* The registry must outlive the answerer. */
void answerer_init(struct answerer *a, struct registry *registry, uint32_t ttl_secs);

enum answer_verdict {
	ANSWER_DROP,    /* nothing is owed: no DNS request at all, or itself a response */
	ANSWER_READY,   /* there is an answer */
	ANSWER_FORWARD, /* a good question that others are to answer */
};

enum answer_front { ANSWER_UDP, ANSWER_TCP };

/* How long the answer to a query may be: over UDP what the client takes, but no more than we send.
 */
size_t answer_limit(enum answer_front front, const struct dns_query *query);

/* Judges a request. *query is what it asks, unless it is dropped, and views `packet`. For
 * ANSWER_READY *reply is the answer, a view of `buf`, which holds DNS_MESSAGE_BYTES over TCP and
 * DNS_EDNS_BYTES over UDP. */
enum answer_verdict answer_request(struct answerer *a, enum answer_front front, struct span packet,
    uint8_t *buf, struct dns_query *query, struct span *reply);

#endif
