/* dns.h - DNS messages: names, queries, replies, and what a forwarder has to know of an answer.
 *
 * RFC 1035 (messages), 2181 (TTLs, truncation), 2308 (negative answers), 3225 (DO), 4343 (case),
 * 6891 (EDNS). A "message" is what a datagram holds, or a TCP message without its two length bytes.
 *
 *     server:     dns_query_read → dns_reply_begin → dns_reply_addr, … → dns_reply_finish
 *     forwarder:  dns_query_write → dns_response_read → dns_response_matches
 *     cache:      dns_response_strip, kept → dns_reply_stored → dns_reply_finish → dns_age
 *
 * Views point into the message that was read. All work is linear in the message, but for its
 * compressed names, each of which costs DNS_JUMPS_MAX jumps at most. */
#ifndef CODEC_DNS_H
#define CODEC_DNS_H

#include "base/cursor.h"
#include "base/ip.h"

enum {
	DNS_HEADER_BYTES = 12,
	DNS_NAME_BYTES = 255, /* a name on the wire, its root label included */
	DNS_LABEL_BYTES = 63, /* a label without its length byte */
	DNS_QUESTION_BYTES = DNS_NAME_BYTES + 4,
	DNS_OPT_BYTES = 11,    /* an OPT record without options */
	DNS_JUMPS_MAX = 127,   /* compression pointers in a name: it has no more labels than that */
	DNS_UDP_BYTES = 512,   /* what every requestor takes over UDP */
	DNS_EDNS_BYTES = 1232, /* what we take and send over UDP: no IPv6 path fragments it */
	DNS_MESSAGE_BYTES = 65535,  /* what TCP can frame */
	DNS_NAME_TEXT_BYTES = 1004, /* 250 escaped bytes, 3 dots and the NUL */
};

enum dns_type {
	DNS_A = 1,
	DNS_NS = 2,
	DNS_CNAME = 5,
	DNS_SOA = 6,
	DNS_PTR = 12,
	DNS_MX = 15,
	DNS_TXT = 16,
	DNS_AAAA = 28,
	DNS_SRV = 33,
	DNS_DNAME = 39,
	DNS_OPT = 41,
	DNS_IXFR = 251,
	DNS_AXFR = 252,
	DNS_ANY = 255, /* a question only */
};

enum dns_class { DNS_IN = 1 };

enum dns_rcode {
	DNS_NOERROR = 0,
	DNS_FORMERR = 1,
	DNS_SERVFAIL = 2,
	DNS_NXDOMAIN = 3,
	DNS_NOTIMP = 4,
	DNS_REFUSED = 5,
	DNS_BADVERS = 16, /* needs the upper bits that only an OPT record carries */
};

/* The second 16 bits of the header. */
enum dns_flag {
	DNS_QR = 0x8000,     /* a response */
	DNS_OPCODE = 0x7800, /* mask; 0 is QUERY */
	DNS_AA = 0x0400,     /* authoritative answer */
	DNS_TC = 0x0200,     /* truncated */
	DNS_RD = 0x0100,     /* recursion desired */
	DNS_RA = 0x0080,     /* recursion available */
	DNS_AD = 0x0020,     /* authentic data (RFC 4035) */
	DNS_CD = 0x0010,     /* checking disabled (RFC 4035) */
	DNS_RCODE = 0x000f,  /* mask; the lower bits of the rcode */
};

/* --- names ---------------------------------------------------------------- */

/* A name without compression, in lower case: equal names are equal bytes, and a hash over the bytes
 * does. Only the first n bytes are defined; n is 1 for the root. */
struct dns_name {
	uint8_t n;
	uint8_t wire[DNS_NAME_BYTES];
};

static inline struct span dns_name_span(const struct dns_name *name)
{
	return span_of(name->wire, name->n);
}

static inline bool dns_name_eq(const struct dns_name *a, const struct dns_name *b)
{
	return span_eq(dns_name_span(a), dns_name_span(b));
}

/* Reads the name at r->at; r spans the message from its header on, and ends behind the name. A
 * pointer leads to a name that is whole before this one, never into the header. `out` may be NULL
 * to check and skip the name. The error is r's too: E_MORE for a name that is cut, else
 * E_MALFORMED. */
enum err dns_name_read(struct rd *r, struct dns_name *out);

/* From text as in RFC 1035 section 5.1: \X and \DDD escapes, the final dot optional, "." the root.
 * No blank or control byte stands unescaped. E_MALFORMED, or E_LIMIT for a label or name that is
 * too long. */
enum err dns_name_from_text(struct span text, struct dns_name *out);

/* To text without the final dot, as a C string; returns its length. What is not printable ASCII,
 * the dot and the backslash are escaped: the text is safe to log. */
size_t dns_name_to_text(const struct dns_name *name, char buf[DNS_NAME_TEXT_BYTES]);

/* True when `name` is `zone` or lies below it. */
bool dns_name_under(const struct dns_name *name, const struct dns_name *zone);

/* The reverse name of an address (RFC 1035 section 3.5, RFC 3596 section 2.5) and back; false when
 * the name is not that of one whole address. */
void dns_name_from_ip(const struct ip *ip, struct dns_name *out);
bool dns_name_to_ip(const struct dns_name *name, struct ip *out);

/* --- messages ------------------------------------------------------------- */

enum dns_section { DNS_ANSWER, DNS_AUTHORITY, DNS_ADDITIONAL, DNS_SECTIONS };

struct dns_header {
	uint16_t id;
	uint16_t flags; /* DNS_QR … DNS_RCODE */
	uint16_t qdcount;
	uint16_t count[DNS_SECTIONS]; /* ANCOUNT, NSCOUNT, ARCOUNT */
};

struct dns_question {
	struct dns_name name;
	uint16_t type;  /* enum dns_type, or any other number */
	uint16_t class; /* enum dns_class, or any other number */
};

bool dns_question_eq(const struct dns_question *a, const struct dns_question *b);

/* What an OPT record says (RFC 6891 section 6.1). */
struct dns_edns {
	bool present;
	bool dnssec_ok; /* DO */
	uint8_t version;
	uint8_t rcode_high; /* the upper 8 of the 12 bits of the rcode */
	uint16_t payload;   /* what the sender takes over UDP, DNS_UDP_BYTES at least */
};

struct dns_rr {
	enum dns_section section;
	size_t at; /* where the record, with its owner's name, starts in the message */
	uint16_t type, class;
	uint32_t ttl;    /* as it stands there; see dns_rr_ttl_secs() */
	size_t ttl_at;   /* where the TTL stands in the message */
	size_t rdata_at; /* where rdata stands in the message: names in it may point back */
	struct span rdata;
};

/* A TTL with its top bit set counts as 0 (RFC 2181 section 8). That of an OPT is no time at all. */
static inline uint32_t dns_rr_ttl_secs(const struct dns_rr *rr)
{
	return rr->ttl & 0x80000000u ? 0 : rr->ttl;
}

/* Walks the records of any message, section by section. */
struct dns_rrs {
	struct rd r;
	struct dns_header header;
	enum dns_section section;
	uint16_t left; /* records left in the section */
};

/* E_MORE or E_MALFORMED when the header or a question cannot be read. */
enum err dns_rrs_init(struct dns_rrs *it, struct span message);

/* The next record, its owner and the data of well-known types checked. False at the end of the last
 * section, or at a record that cannot be read: then it->r.err says why. */
bool dns_rr_next(struct dns_rrs *it, struct dns_rr *out);

/* --- server --------------------------------------------------------------- */

/* All that a server has to know of a request. */
struct dns_query {
	uint16_t id;
	uint16_t flags;  /* as received */
	uint16_t rcode;  /* not DNS_NOERROR: what it must be answered with at once */
	struct span raw; /* the question as it came, in its case; empty when unreadable */
	struct dns_question question; /* defined when raw is not empty */
	struct dns_edns edns;
};

/* Reads a request. E_OK: an answer is owed, and out->rcode says which kind: DNS_FORMERR for a
 * message that has not exactly one question, has a second OPT, one elsewhere than at the root in
 * the additional section, or bytes behind its last record; DNS_NOTIMP for an opcode that is not
 * QUERY; DNS_BADVERS. Otherwise the message is to be dropped: E_MORE when it is shorter than a
 * header, E_UNKNOWN when it is a response itself. */
enum err dns_query_read(struct span message, struct dns_query *out);

/* A reply being written. `rcode` and `flags` may be changed until it is finished. */
struct dns_reply {
	struct wr w;                   /* the buffer is the caller's, and not the query's */
	const struct dns_query *query; /* it and its message must outlive the reply */
	uint16_t rcode;
	uint16_t flags;
	uint16_t count[DNS_SECTIONS];
	size_t head_bytes; /* header and question: what a truncated reply keeps */
};

struct dns_soa {
	struct dns_name zone, mname, rname;
	uint32_t ttl_secs, serial;
	uint32_t refresh_secs, retry_secs, expire_secs, minimum_secs;
};

/* Starts the reply to `query`: QR, RA, its opcode, RD and CD, and `flags` (DNS_AA or 0), its rcode,
 * and its question as it came. `limit` is the size of buf and what the reply may measure: over UDP
 * at most query->edns.payload. */
void dns_reply_begin(
    struct dns_reply *r, void *buf, size_t limit, const struct dns_query *query, uint16_t flags);

/* Answers to the question's name. A record that does not fit truncates the reply. */
void dns_reply_addr(struct dns_reply *r, uint32_t ttl_secs, const struct ip *ip); /* A or AAAA */
void dns_reply_ptr(struct dns_reply *r, uint32_t ttl_secs, const struct dns_name *target);

/* A SOA, as the answer to a question for it, or in the authority section of a negative answer;
 * behind any answers. */
void dns_reply_soa(struct dns_reply *r, enum dns_section section, const struct dns_soa *soa);

/* The rcode and the records of a stored response to the same question, asked with the same DO and
 * CD, that dns_response_strip() has been over. AD is only for those who understand it (RFC 6840
 * section 5.8). */
void dns_reply_stored(struct dns_reply *r, struct span stored);

/* Ends the reply and returns it, a view of the buffer. Where not all fitted, it has TC set, and the
 * question and OPT alone. Has an OPT when the query had one. Empty only when `limit` is too small
 * for those: DNS_UDP_BYTES always does. */
struct span dns_reply_finish(struct dns_reply *r);

/* --- forwarder and cache -------------------------------------------------- */

/* Writes a query for an upstream: RD, AD, the client's CD, its question as it came, and when `edns`
 * an OPT of our own with the client's DO. */
void dns_query_write(struct wr *w, uint16_t id, const struct dns_query *query, bool edns);

/* All that a forwarder has to know of a response. */
struct dns_response {
	struct dns_header header;
	uint16_t rcode;               /* 12 bits: enum dns_rcode, or any other number */
	struct span raw;              /* the question as it stands; empty when there is none */
	struct dns_question question; /* defined when raw is not empty */
	struct dns_edns edns;
	uint32_t ttl_secs;  /* how long it may be kept; 0: not at all */
	size_t opt_at;      /* where the OPT starts; without one, the length of the message */
	uint16_t opt_index; /* how many records stand before it in the additional section */
};

/* Reads a response to a QUERY and checks it to its last byte. Of one with DNS_TC only the header
 * and the question are read: it is to be asked for again over TCP, and never stored. E_MORE or
 * E_MALFORMED. ttl_secs is the least TTL of answer and authority; a negative answer has one only
 * when it brings a SOA, whose minimum counts too (RFC 2308 section 5). */
enum err dns_response_read(struct span message, struct dns_response *out);

/* True when the response answers this id and question; also for the bare FORMERR of a server that
 * does not know EDNS, on its id alone. */
bool dns_response_matches(
    const struct dns_response *response, uint16_t id, const struct dns_question *question);

/* Takes the OPT, which is meant for us alone (RFC 6891 section 6.2.1), off the message that was
 * read into *response; records behind it go with it, being optional. Returns the new length. */
size_t dns_response_strip(uint8_t *message, const struct dns_response *response);

/* Takes `elapsed_secs` off every TTL of a message, then brings it into [min_secs, max_secs]. Goes
 * as far as there are whole records: through a message that dns_response_read() has accepted. */
void dns_age(
    uint8_t *message, size_t n, uint32_t elapsed_secs, uint32_t min_secs, uint32_t max_secs);

#endif
