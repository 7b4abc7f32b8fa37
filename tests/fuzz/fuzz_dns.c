/* A message, taken as a request and as an upstream's response; what is made of it must be readable.
 */
#include "codec/dns.h"
#include "fuzz.h"

static uint8_t copy[DNS_MESSAGE_BYTES], reply_bytes[DNS_MESSAGE_BYTES];

static void must(bool held)
{
	if (!held)
		__builtin_trap();
}

static void check_name(const struct dns_name *name)
{
	char text[DNS_NAME_TEXT_BYTES];
	struct dns_name again;
	struct ip ip;
	size_t n = dns_name_to_text(name, text);

	must(dns_name_from_text(span_of(text, n), &again) == E_OK && dns_name_eq(name, &again));
	must(dns_name_under(name, &again));
	if (!dns_name_to_ip(name, &ip))
		return;
	dns_name_from_ip(&ip, &again);
	must(dns_name_eq(name, &again));
}

/* The reply to `q`, with the records of `stored` unless it is empty, read back. */
static struct dns_response check_reply(const struct dns_query *q, struct span stored)
{
	struct dns_reply r;
	struct dns_response back;

	dns_reply_begin(&r, reply_bytes, q->edns.payload, q, DNS_AA);
	if (stored.n)
		dns_reply_stored(&r, stored);
	else if (q->raw.n)
		dns_reply_ptr(&r, 5, &q->question.name);
	must(dns_response_read(dns_reply_finish(&r), &back) == E_OK);
	must(span_eq(back.raw, q->raw));
	must(back.edns.present == q->edns.present);
	return back;
}

static void check_query(struct span message)
{
	struct dns_query q;
	struct dns_response back;

	if (dns_query_read(message, &q) != E_OK)
		return;
	if (q.raw.n)
		check_name(&q.question.name);
	if (q.flags & DNS_OPCODE)
		return;
	back = check_reply(&q, span_of(NULL, 0));
	must(back.rcode == q.rcode);
	must(q.raw.n == 0 || dns_response_matches(&back, q.id, &q.question));
}

static void check_response(struct span message)
{
	struct dns_response r, kept;
	struct dns_query q = {.edns.payload = UINT16_MAX};
	size_t n;

	if (dns_response_read(message, &r) != E_OK || r.header.flags & DNS_TC)
		return;
	n = dns_response_strip(copy, &r);
	must(dns_response_read(span_of(copy, n), &kept) == E_OK && !kept.edns.present);
	must(kept.ttl_secs == r.ttl_secs || r.rcode > DNS_RCODE);
	if (kept.raw.n == 0)
		return;
	q.raw = kept.raw;
	q.question = kept.question;
	must(check_reply(&q, span_of(copy, n)).ttl_secs == kept.ttl_secs);
}

/* Ageing by nothing changes no TTL that is within its bounds. */
static void check_ageing(struct span message)
{
	memcpy(reply_bytes, message.p, message.n);
	dns_age(reply_bytes, message.n, 1, 0, 60);
	memcpy(copy, reply_bytes, message.n);
	dns_age(copy, message.n, 0, 0, 60);
	must(memcmp(copy, reply_bytes, message.n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct span message = span_of(data, n);

	if (n == 0 || n > sizeof copy)
		return 0;
	check_query(message);
	check_ageing(message);
	memcpy(copy, data, n);
	check_response(message);
	return 0;
}
