/* dns_case.h - DNS messages of tests: requests made of text, and replies turned into text. */
#ifndef TESTS_DNS_CASE_H
#define TESTS_DNS_CASE_H

#include "codec/dns.h"

#include <check.h>
#include <stdio.h>

enum { CASE_ID = 0x1234, CASE_NO_EDNS = 0 };

/* A request as a client sends it; the name's case is kept. */
struct dns_case {
	const char *name;
	uint16_t type, class; /* class 0 is IN */
	uint16_t flags;       /* RD is added */
	uint16_t id;          /* 0 is CASE_ID */
	uint16_t payload;     /* CASE_NO_EDNS, or the size in an OPT */
	bool dnssec_ok;
	uint8_t version; /* of EDNS */
};

static inline void case_name_write(struct wr *w, const char *name)
{
	struct span rest = span_str(name);

	if (rest.n == 0)
		rest.p = NULL;
	while (rest.p) {
		struct span label = span_split(&rest, '.');

		wr_u8(w, (uint8_t)label.n);
		wr_bytes(w, label);
	}
	wr_u8(w, 0);
}

/* The request in a buffer of DNS_UDP_BYTES. */
static inline struct span case_request(const struct dns_case *c, uint8_t *buf)
{
	struct wr w = wr_of(buf, DNS_UDP_BYTES);

	wr_u16be(&w, c->id ? c->id : CASE_ID);
	wr_u16be(&w, c->flags | DNS_RD);
	wr_u16be(&w, 1);
	wr_u16be(&w, 0);
	wr_u16be(&w, 0);
	wr_u16be(&w, c->payload ? 1 : 0);
	case_name_write(&w, c->name);
	wr_u16be(&w, c->type);
	wr_u16be(&w, c->class ? c->class : DNS_IN);
	if (c->payload) {
		wr_u8(&w, 0);
		wr_u16be(&w, DNS_OPT);
		wr_u16be(&w, c->payload);
		wr_u32be(&w, (uint32_t)(c->version << 16 | (c->dnssec_ok ? 0x8000 : 0)));
		wr_u16be(&w, 0);
	}
	ck_assert_int_eq(w.err, E_OK);
	return wr_span(&w);
}

static inline const char *case_rdata(struct span message, const struct dns_rr *rr, char *buf)
{
	struct rd r = rd_of(message);
	struct dns_name name;
	struct ip ip = {.family = rr->type == DNS_A ? 4 : 6};

	buf[0] = 0;
	if (rr->type == DNS_A || rr->type == DNS_AAAA) {
		memcpy(ip.b, rr->rdata.p, rr->rdata.n);
		ip_format(&ip, buf);
	} else if (rr->type == DNS_PTR || rr->type == DNS_SOA || rr->type == DNS_CNAME) {
		r.at = rr->rdata_at;
		ck_assert_int_eq(dns_name_read(&r, &name), E_OK);
		dns_name_to_text(&name, buf);
	}
	return buf;
}

/* A reply as "<rcode>[ aa][ tc][ ad]: owner ttl type data; …", OPT records as "opt <payload>". In a
 * static buffer. */
static inline const char *case_text(struct span message)
{
	static char text[65536];
	char owner[DNS_NAME_TEXT_BYTES], data[DNS_NAME_TEXT_BYTES];
	struct dns_response response;
	struct dns_rrs it;
	struct dns_rr rr;
	int n;

	if (dns_response_read(message, &response) != E_OK)
		return "malformed";
	n = snprintf(text, sizeof text, "%u%s%s%s:", response.rcode,
	    response.header.flags & DNS_AA ? " aa" : "",
	    response.header.flags & DNS_TC ? " tc" : "",
	    response.header.flags & DNS_AD ? " ad" : "");
	ck_assert_int_eq(dns_rrs_init(&it, message), E_OK);
	while (dns_rr_next(&it, &rr)) {
		struct rd r = {message.p, message.n, rr.at, E_OK};
		struct dns_name name;

		if (rr.type == DNS_OPT) {
			n += snprintf(text + n, sizeof text - (size_t)n, " opt %u;", rr.class);
			continue;
		}
		ck_assert_int_eq(dns_name_read(&r, &name), E_OK);
		dns_name_to_text(&name, owner);
		n += snprintf(text + n, sizeof text - (size_t)n, " %s %u %u %s;", owner, rr.ttl,
		    rr.type, case_rdata(message, &rr, data));
	}
	ck_assert_int_eq(it.r.err, E_OK);
	return text;
}

#endif
