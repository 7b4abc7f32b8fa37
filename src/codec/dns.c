#include "codec/dns.h"

#include "base/parse.h"

enum {
	POINTER = 0xc0,        /* the top bits of a length byte that starts a compression pointer */
	POINTER_MASK = 0x3fff, /* the offset in it */
	EDNS_VERSION = 0,      /* the version we speak */
	EDNS_DO = 0x8000,      /* in the lower half of an OPT's TTL */
	ARCOUNT_AT = 10,       /* in the header */
};

/* --- names ---------------------------------------------------------------- */

/* A name is read in runs of labels, all but the last ended by a pointer. Takes the pointer that
 * `high` starts, from the run that began at *start. The run it leads to has to lie before that one,
 * whole: it is a prior occurrence. So offsets only fall, and no name depends on what follows it. */
static void pointer_follow(struct rd *run, size_t *start, uint8_t high)
{
	size_t target = ((size_t)high << 8 | rd_u8(run)) & POINTER_MASK;

	if (target < DNS_HEADER_BYTES || target >= *start)
		rd_fail(run, E_MALFORMED);
	if (run->err != E_OK)
		return;
	run->n = *start;
	run->at = *start = target;
}

/* Appends a label, its length byte first, to the *n bytes in wire, which may be NULL. */
static void label_read(struct rd *run, uint8_t length, uint8_t *wire, size_t *n)
{
	struct span label;

	if (length > DNS_LABEL_BYTES || length >= DNS_NAME_BYTES - *n)
		rd_fail(run, E_MALFORMED);
	label = rd_bytes(run, length);
	if (run->err != E_OK)
		return;
	if (wire) {
		wire[*n] = length;
		for (size_t i = 0; i < label.n; i++)
			wire[*n + 1 + i] = ascii_lower(label.p[i]);
	}
	*n += label.n + 1;
}

/* As dns_name_read(), but *out is spoilt on failure. */
static enum err name_read(struct rd *r, struct dns_name *out)
{
	size_t start = r->at, end = 0, n = 0;
	struct rd run = *r;
	unsigned jumps = 0;
	uint8_t length;

	do {
		length = rd_u8(&run);
		if ((length & POINTER) != POINTER) {
			label_read(&run, length, out ? out->wire : NULL, &n);
		} else if (jumps++ == DNS_JUMPS_MAX) {
			rd_fail(&run, E_MALFORMED);
		} else {
			end = end ? end : run.at + 1;
			pointer_follow(&run, &start, length);
		}
	} while (run.err == E_OK && length != 0);
	/* More bytes would help the first run only. */
	if (run.err != E_OK) {
		rd_fail(r, run.n == r->n ? run.err : E_MALFORMED);
		return r->err;
	}
	r->at = end ? end : run.at;
	if (out)
		out->n = (uint8_t)n;
	return E_OK;
}

enum err dns_name_read(struct rd *r, struct dns_name *out)
{
	struct dns_name name;
	enum err err = name_read(r, &name);

	if (err == E_OK && out)
		*out = name;
	return err;
}

/* The character at the front of a text that is not empty; how many bytes it takes, 0 when
 * malformed. */
static size_t char_read(struct span text, uint8_t *out)
{
	unsigned v = 0;

	*out = text.p[0];
	if (*out != '\\')
		return *out > ' ' && *out != 0x7f ? 1 : 0;
	if (text.n < 2)
		return 0;
	*out = text.p[1];
	if (!ascii_digit(*out))
		return 2;
	if (text.n < 4 || !ascii_digit(text.p[2]) || !ascii_digit(text.p[3]))
		return 0;
	for (size_t i = 1; i < 4; i++)
		v = v * 10 + text.p[i] - '0';
	*out = (uint8_t)v;
	return v <= 255 ? 4 : 0;
}

static void label_write(struct wr *w, struct span label)
{
	wr_u8(w, (uint8_t)label.n);
	wr_bytes(w, label);
}

/* Moves a label, and the dot behind it, from the front of *text to w. */
static enum err label_from_text(struct span *text, struct wr *w)
{
	uint8_t label[DNS_LABEL_BYTES];
	size_t n = 0;

	while (text->n && text->p[0] != '.') {
		uint8_t c;
		size_t taken = char_read(*text, &c);

		if (taken == 0)
			return E_MALFORMED;
		if (n == sizeof label)
			return E_LIMIT;
		label[n++] = ascii_lower(c);
		*text = span_from(*text, taken);
	}
	if (n == 0)
		return E_MALFORMED;
	label_write(w, span_of(label, n));
	*text = span_from(*text, 1);
	return E_OK;
}

enum err dns_name_from_text(struct span text, struct dns_name *out)
{
	struct dns_name name;
	struct wr w = wr_of(name.wire, sizeof name.wire);

	if (text.n == 0)
		return E_MALFORMED;
	if (span_eq_str(text, "."))
		text.n = 0;
	while (text.n) {
		enum err err = label_from_text(&text, &w);

		if (err != E_OK)
			return err;
	}
	wr_u8(&w, 0);
	if (w.err != E_OK)
		return E_LIMIT;
	name.n = (uint8_t)w.n;
	*out = name;
	return E_OK;
}

/* Takes the first label off a name; empty at the root. */
static struct span label_take(struct span *wire)
{
	struct span label = span_of(wire->p + 1, wire->p[0]);

	*wire = span_from(*wire, label.n + 1);
	return label;
}

static void char_write(struct wr *w, uint8_t c)
{
	if (c > ' ' && c < 0x7f) {
		if (c == '.' || c == '\\')
			wr_u8(w, '\\');
		wr_u8(w, c);
		return;
	}
	wr_u8(w, '\\');
	wr_u8(w, (uint8_t)('0' + c / 100));
	wr_u8(w, (uint8_t)('0' + c / 10 % 10));
	wr_u8(w, (uint8_t)('0' + c % 10));
}

size_t dns_name_to_text(const struct dns_name *name, char buf[DNS_NAME_TEXT_BYTES])
{
	struct wr w = wr_of(buf, DNS_NAME_TEXT_BYTES);
	struct span wire = dns_name_span(name);
	struct span label = label_take(&wire);

	if (label.n == 0)
		wr_u8(&w, '.');
	while (label.n) {
		for (size_t i = 0; i < label.n; i++)
			char_write(&w, label.p[i]);
		label = label_take(&wire);
		if (label.n)
			wr_u8(&w, '.');
	}
	wr_nul(&w);
	return w.n;
}

static bool wire_under(struct span name, struct span zone)
{
	while (name.n > zone.n)
		label_take(&name);
	return span_eq(name, zone);
}

bool dns_name_under(const struct dns_name *name, const struct dns_name *zone)
{
	return wire_under(dns_name_span(name), dns_name_span(zone));
}

static const struct span in_addr_arpa = SPAN_LIT("\7in-addr\4arpa\0");
static const struct span ip6_arpa = SPAN_LIT("\3ip6\4arpa\0");

static void number_label_write(struct wr *w, uint8_t v)
{
	uint8_t digits[3];
	struct wr d = wr_of(digits, sizeof digits);

	wr_dec(&d, v);
	label_write(w, wr_span(&d));
}

static void nibble_label_write(struct wr *w, unsigned nibble)
{
	label_write(w, span_of(&"0123456789abcdef"[nibble], 1));
}

void dns_name_from_ip(const struct ip *ip, struct dns_name *out)
{
	struct wr w = wr_of(out->wire, sizeof out->wire);
	struct span bytes = ip_bytes(ip);

	for (size_t i = bytes.n; i-- > 0;) {
		if (ip->family == 4) {
			number_label_write(&w, bytes.p[i]);
			continue;
		}
		nibble_label_write(&w, bytes.p[i] & 0xf);
		nibble_label_write(&w, bytes.p[i] >> 4);
	}
	wr_bytes(&w, ip->family == 4 ? in_addr_arpa : ip6_arpa);
	out->n = (uint8_t)w.n;
}

static bool number_label_read(struct span label, uint8_t *out)
{
	uint64_t v;

	if ((label.n > 1 && label.p[0] == '0') || parse_u64(label, 0, 255, &v) != E_OK)
		return false;
	*out = (uint8_t)v;
	return true;
}

static bool nibble_label_read(struct span label, uint8_t *out)
{
	uint64_t v;

	if (label.n != 1 || parse_hex_u64(label, 0xf, &v) != E_OK)
		return false;
	*out = (uint8_t)v;
	return true;
}

static bool in_addr_read(struct span wire, struct ip *out)
{
	struct ip ip = {.family = 4};

	for (size_t i = 4; i-- > 0;)
		if (!number_label_read(label_take(&wire), &ip.b[i]))
			return false;
	if (!span_eq(wire, in_addr_arpa))
		return false;
	*out = ip;
	return true;
}

static bool ip6_read(struct span wire, struct ip *out)
{
	struct ip ip = {.family = 6};

	for (size_t i = 16; i-- > 0;) {
		uint8_t low, high;

		if (!nibble_label_read(label_take(&wire), &low) ||
		    !nibble_label_read(label_take(&wire), &high))
			return false;
		ip.b[i] = (uint8_t)(high << 4 | low);
	}
	if (!span_eq(wire, ip6_arpa))
		return false;
	*out = ip;
	return true;
}

bool dns_name_to_ip(const struct dns_name *name, struct ip *out)
{
	struct span wire = dns_name_span(name);

	if (wire_under(wire, in_addr_arpa))
		return in_addr_read(wire, out);
	return wire_under(wire, ip6_arpa) && ip6_read(wire, out);
}

/* --- messages ------------------------------------------------------------- */

static struct dns_header header_read(struct rd *r)
{
	struct dns_header h;

	h.id = rd_u16be(r);
	h.flags = rd_u16be(r);
	h.qdcount = rd_u16be(r);
	for (size_t i = 0; i < DNS_SECTIONS; i++)
		h.count[i] = rd_u16be(r);
	return h;
}

static void header_write(struct wr *w, const struct dns_header *h)
{
	wr_u16be(w, h->id);
	wr_u16be(w, h->flags);
	wr_u16be(w, h->qdcount);
	for (size_t i = 0; i < DNS_SECTIONS; i++)
		wr_u16be(w, h->count[i]);
}

/* *raw is the question's bytes. The first question of a message has no pointer in it: there is
 * nothing before it to point to. Both outputs are spoilt on failure. */
static enum err question_read(struct rd *r, struct dns_question *out, struct span *raw)
{
	size_t at = r->at;

	name_read(r, &out->name);
	out->type = rd_u16be(r);
	out->class = rd_u16be(r);
	*raw = span_of(r->p + at, r->at - at);
	return r->err;
}

bool dns_question_eq(const struct dns_question *a, const struct dns_question *b)
{
	return a->type == b->type && a->class == b->class && dns_name_eq(&a->name, &b->name);
}

/* What the data of a record of class IN looks like: fixed bytes, names, fixed bytes. */
struct layout {
	uint16_t type;
	uint8_t before, names, after;
};
static const struct layout layouts[] = {
    {DNS_A, .before = 4},
    {DNS_AAAA, .before = 16},
    {DNS_NS, .names = 1},
    {DNS_CNAME, .names = 1},
    {DNS_DNAME, .names = 1},
    {DNS_PTR, .names = 1},
    {DNS_MX, .before = 2, .names = 1},
    {DNS_SRV, .before = 6, .names = 1},
    {DNS_SOA, .names = 2, .after = 20},
};

static const struct layout *layout_of(const struct dns_rr *rr)
{
	if (rr->class != DNS_IN)
		return NULL;
	for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
		if (layouts[i].type == rr->type)
			return &layouts[i];
	return NULL;
}

static bool rdata_valid(struct rd r, const struct dns_rr *rr)
{
	const struct layout *layout = layout_of(rr);

	if (!layout)
		return true;
	r.at = rr->rdata_at;
	r.n = rr->rdata_at + rr->rdata.n;
	rd_bytes(&r, layout->before);
	for (unsigned i = 0; i < layout->names; i++)
		name_read(&r, NULL);
	rd_bytes(&r, layout->after);
	return r.err == E_OK && rd_left(&r) == 0;
}

static bool owner_valid(struct rd r, const struct dns_rr *rr)
{
	r.at = rr->at;
	return name_read(&r, NULL) == E_OK;
}

/* The records behind the questions that r has read. */
static struct dns_rrs rrs_of(struct rd r, struct dns_header header)
{
	return (struct dns_rrs){r, header, DNS_ANSWER, header.count[DNS_ANSWER]};
}

enum err dns_rrs_init(struct dns_rrs *it, struct span message)
{
	struct rd r = rd_of(message);
	struct dns_header header = header_read(&r);

	for (unsigned i = 0; i < header.qdcount && r.err == E_OK; i++) {
		name_read(&r, NULL);
		rd_bytes(&r, 4);
	}
	if (r.err == E_OK)
		*it = rrs_of(r, header);
	return r.err;
}

/* Goes past a name without following its pointer. */
static void name_skip(struct rd *r)
{
	uint8_t length;

	do {
		length = rd_u8(r);
		if ((length & POINTER) == POINTER) {
			rd_u8(r);
			return;
		}
		rd_bytes(r, length);
	} while (length > 0);
}

/* As dns_rr_next(), with nothing checked but that the record ends within the message. */
static bool rr_take(struct dns_rrs *it, struct dns_rr *out)
{
	struct rd *r = &it->r;

	while (it->left == 0) {
		if (it->section + 1 >= DNS_SECTIONS)
			return false;
		it->left = it->header.count[++it->section];
	}
	it->left--;
	out->section = it->section;
	out->at = r->at;
	name_skip(r);
	out->type = rd_u16be(r);
	out->class = rd_u16be(r);
	out->ttl_at = r->at;
	out->ttl = rd_u32be(r);
	out->rdata = rd_bytes(r, rd_u16be(r));
	out->rdata_at = r->at - out->rdata.n;
	return r->err == E_OK;
}

bool dns_rr_next(struct dns_rrs *it, struct dns_rr *out)
{
	struct dns_rr rr;

	if (!rr_take(it, &rr))
		return false;
	if (!owner_valid(it->r, &rr) || !rdata_valid(it->r, &rr)) {
		rd_fail(&it->r, E_MALFORMED);
		return false;
	}
	*out = rr;
	return true;
}

static const struct dns_edns no_edns = {.payload = DNS_UDP_BYTES};

/* Options, none of which we use, fill the data of an OPT. */
static bool options_valid(struct span rdata)
{
	struct rd r = rd_of(rdata);

	while (r.err == E_OK && rd_left(&r)) {
		rd_bytes(&r, 2);
		rd_bytes(&r, rd_u16be(&r));
	}
	return r.err == E_OK;
}

/* Takes an OPT record into *edns; false when the message must not have it like that. */
static bool opt_read(const struct dns_rrs *it, const struct dns_rr *rr, struct dns_edns *edns)
{
	if (edns->present || rr->section != DNS_ADDITIONAL || it->r.p[rr->at] != 0)
		return false;
	if (!options_valid(rr->rdata))
		return false;
	edns->present = true;
	edns->dnssec_ok = rr->ttl & EDNS_DO;
	edns->version = (uint8_t)(rr->ttl >> 16);
	edns->rcode_high = (uint8_t)(rr->ttl >> 24);
	edns->payload = rr->class < DNS_UDP_BYTES ? DNS_UDP_BYTES : rr->class;
	return true;
}

static void opt_write(struct wr *w, uint16_t rcode, bool dnssec_ok)
{
	wr_u8(w, 0);
	wr_u16be(w, DNS_OPT);
	wr_u16be(w, DNS_EDNS_BYTES);
	wr_u8(w, (uint8_t)(rcode >> 4));
	wr_u8(w, EDNS_VERSION);
	wr_u16be(w, dnssec_ok ? EDNS_DO : 0);
	wr_u16be(w, 0);
}

/* The end of a message that was walked to its last record. */
static enum err message_end(const struct dns_rrs *it)
{
	if (it->r.err == E_OK && rd_left(&it->r))
		return E_MALFORMED;
	return it->r.err;
}

/* --- server --------------------------------------------------------------- */

/* Reads what follows the header. */
static enum err query_body_read(
    struct rd *r, const struct dns_header *header, struct dns_query *out)
{
	struct dns_rrs it;
	struct dns_rr rr;
	struct span raw;

	if (header->qdcount != 1)
		return E_MALFORMED;
	if (question_read(r, &out->question, &raw) != E_OK)
		return r->err;
	out->raw = raw;
	it = rrs_of(*r, *header);
	while (dns_rr_next(&it, &rr))
		if (rr.type == DNS_OPT && !opt_read(&it, &rr, &out->edns))
			return E_MALFORMED;
	return message_end(&it);
}

enum err dns_query_read(struct span message, struct dns_query *out)
{
	struct rd r = rd_of(message);
	struct dns_header header = header_read(&r);

	if (r.err != E_OK)
		return r.err;
	if (header.flags & DNS_QR)
		return E_UNKNOWN;
	out->id = header.id;
	out->flags = header.flags;
	out->raw = span_of(NULL, 0);
	out->edns = no_edns;
	if (header.flags & DNS_OPCODE)
		out->rcode = DNS_NOTIMP;
	else if (query_body_read(&r, &header, out) != E_OK)
		out->rcode = DNS_FORMERR;
	else
		out->rcode = out->edns.version > EDNS_VERSION ? DNS_BADVERS : DNS_NOERROR;
	return E_OK;
}

void dns_reply_begin(
    struct dns_reply *r, void *buf, size_t limit, const struct dns_query *query, uint16_t flags)
{
	static const uint8_t header[DNS_HEADER_BYTES];
	size_t opt_bytes = query->edns.present ? DNS_OPT_BYTES : 0;

	/* The OPT's room is kept free, so that it always fits. */
	*r = (struct dns_reply){
	    .w = wr_of(buf, limit > opt_bytes ? limit - opt_bytes : 0),
	    .query = query,
	    .rcode = query->rcode,
	    .flags = (uint16_t)(DNS_QR | DNS_RA | flags |
		(query->flags & (DNS_OPCODE | DNS_RD | DNS_CD))),
	};
	wr_bytes(&r->w, span_of(header, sizeof header));
	wr_bytes(&r->w, query->raw);
	r->head_bytes = r->w.err == E_OK ? r->w.n : 0;
}

static void pointer_write(struct wr *w, size_t offset)
{
	wr_u16be(w, (uint16_t)(POINTER << 8 | offset));
}

/* Writes a name, and for as much of its end as the question's name ends in too a pointer there. */
static void name_write(struct wr *w, const struct dns_name *name, const struct dns_query *query)
{
	struct span qname = dns_name_span(&query->question.name);
	struct span rest = dns_name_span(name);

	while (rest.n > 1) {
		if (wire_under(qname, rest)) {
			pointer_write(w, DNS_HEADER_BYTES + qname.n - rest.n);
			return;
		}
		label_write(w, label_take(&rest));
	}
	wr_u8(w, 0);
}

/* Writes what stands between a record's owner and its data; returns where the data starts. */
static size_t rr_open(struct wr *w, uint16_t type, uint32_t ttl_secs)
{
	wr_u16be(w, type);
	wr_u16be(w, DNS_IN);
	wr_u32be(w, ttl_secs);
	wr_u16be(w, 0);
	return w->n;
}

/* Counts the record, and tells it the length of its data. */
static void rr_close(struct dns_reply *r, enum dns_section section, size_t rdata_at)
{
	struct wr length;

	if (r->w.err != E_OK)
		return;
	length = wr_of(r->w.p + rdata_at - 2, 2);
	wr_u16be(&length, (uint16_t)(r->w.n - rdata_at));
	r->count[section]++;
}

void dns_reply_addr(struct dns_reply *r, uint32_t ttl_secs, const struct ip *ip)
{
	size_t rdata_at;

	pointer_write(&r->w, DNS_HEADER_BYTES);
	rdata_at = rr_open(&r->w, ip->family == 4 ? DNS_A : DNS_AAAA, ttl_secs);
	wr_bytes(&r->w, ip_bytes(ip));
	rr_close(r, DNS_ANSWER, rdata_at);
}

void dns_reply_ptr(struct dns_reply *r, uint32_t ttl_secs, const struct dns_name *target)
{
	size_t rdata_at;

	pointer_write(&r->w, DNS_HEADER_BYTES);
	rdata_at = rr_open(&r->w, DNS_PTR, ttl_secs);
	name_write(&r->w, target, r->query);
	rr_close(r, DNS_ANSWER, rdata_at);
}

void dns_reply_soa(struct dns_reply *r, enum dns_section section, const struct dns_soa *soa)
{
	size_t rdata_at;

	name_write(&r->w, &soa->zone, r->query);
	rdata_at = rr_open(&r->w, DNS_SOA, soa->ttl_secs);
	name_write(&r->w, &soa->mname, r->query);
	name_write(&r->w, &soa->rname, r->query);
	wr_u32be(&r->w, soa->serial);
	wr_u32be(&r->w, soa->refresh_secs);
	wr_u32be(&r->w, soa->retry_secs);
	wr_u32be(&r->w, soa->expire_secs);
	wr_u32be(&r->w, soa->minimum_secs);
	rr_close(r, section, rdata_at);
}

void dns_reply_stored(struct dns_reply *r, struct span stored)
{
	struct rd in = rd_of(stored);
	struct dns_header header = header_read(&in);

	rd_bytes(&in, r->query->raw.n);
	wr_bytes(&r->w, rd_rest(&in));
	memcpy(r->count, header.count, sizeof r->count);
	r->rcode = header.flags & DNS_RCODE;
	if (r->query->edns.dnssec_ok || r->query->flags & DNS_AD)
		r->flags |= header.flags & DNS_AD;
}

/* The rcode as this reply can say it: without an OPT there is no room for the upper bits. */
static uint16_t reply_rcode(const struct dns_reply *r)
{
	return r->rcode > DNS_RCODE && !r->query->edns.present ? DNS_SERVFAIL : r->rcode;
}

struct span dns_reply_finish(struct dns_reply *r)
{
	struct wr head = wr_of(r->w.p, DNS_HEADER_BYTES);
	uint16_t rcode = reply_rcode(r);
	struct dns_header header;

	if (r->head_bytes == 0)
		return span_of(NULL, 0);
	if (r->w.err != E_OK) {
		r->w.err = E_OK;
		r->w.n = r->head_bytes;
		r->flags |= DNS_TC;
		memset(r->count, 0, sizeof r->count);
	}
	if (r->query->edns.present) {
		r->w.cap += DNS_OPT_BYTES;
		opt_write(&r->w, rcode, r->query->edns.dnssec_ok);
		r->count[DNS_ADDITIONAL]++;
	}
	header = (struct dns_header){
	    .id = r->query->id,
	    .flags = (uint16_t)(r->flags | (rcode & DNS_RCODE)),
	    .qdcount = r->query->raw.n ? 1 : 0,
	};
	memcpy(header.count, r->count, sizeof header.count);
	header_write(&head, &header);
	return wr_span(&r->w);
}

/* --- forwarder and cache -------------------------------------------------- */

void dns_query_write(struct wr *w, uint16_t id, const struct dns_query *query, bool edns)
{
	const struct dns_header header = {
	    .id = id,
	    .flags = (uint16_t)(DNS_RD | DNS_AD | (query->flags & DNS_CD)),
	    .qdcount = 1,
	    .count[DNS_ADDITIONAL] = edns,
	};

	header_write(w, &header);
	wr_bytes(w, query->raw);
	if (edns)
		opt_write(w, DNS_NOERROR, query->edns.dnssec_ok);
}

/* What decides how long a response may be kept. */
struct keep {
	uint32_t least_secs;
	bool answered; /* there is a record of the type that was asked for */
	bool soa;      /* the authority section has a SOA */
};

static uint32_t u32_min(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* The last field of a SOA, whose layout was checked. */
static uint32_t soa_minimum(const struct dns_rr *rr)
{
	struct rd r = rd_of(span_from(rr->rdata, rr->rdata.n - 4));

	return rd_u32be(&r);
}

static void keep_note(struct keep *k, const struct dns_rr *rr, uint16_t qtype)
{
	if (rr->section == DNS_ADDITIONAL)
		return;
	k->least_secs = u32_min(k->least_secs, dns_rr_ttl_secs(rr));
	if (rr->section == DNS_ANSWER && (rr->type == qtype || qtype == DNS_ANY))
		k->answered = true;
	if (rr->section == DNS_AUTHORITY && rr->type == DNS_SOA && rr->class == DNS_IN) {
		k->least_secs = u32_min(k->least_secs, soa_minimum(rr));
		k->soa = true;
	}
}

static uint32_t keep_secs(const struct keep *k, uint16_t rcode)
{
	bool positive = rcode == DNS_NOERROR && k->answered;
	bool negative = (rcode == DNS_NOERROR || rcode == DNS_NXDOMAIN) && k->soa;

	return positive || negative ? k->least_secs : 0;
}

/* Reads the records of a response that r has read the question of. */
static enum err response_body_read(struct rd r, struct dns_response *out)
{
	struct dns_rrs it = rrs_of(r, out->header);
	struct keep keep = {.least_secs = UINT32_MAX};
	struct dns_rr rr;

	while (dns_rr_next(&it, &rr)) {
		if (rr.type != DNS_OPT) {
			keep_note(&keep, &rr, out->question.type);
			continue;
		}
		if (!opt_read(&it, &rr, &out->edns))
			return E_MALFORMED;
		out->opt_at = rr.at;
		out->opt_index = (uint16_t)(it.header.count[DNS_ADDITIONAL] - it.left - 1);
	}
	out->rcode |= (uint16_t)(out->edns.rcode_high << 4);
	out->ttl_secs = keep_secs(&keep, out->rcode);
	return message_end(&it);
}

enum err dns_response_read(struct span message, struct dns_response *out)
{
	struct rd r = rd_of(message);
	struct dns_response response = {.edns = no_edns, .opt_at = message.n};
	enum err err;

	response.header = header_read(&r);
	if (r.err != E_OK)
		return r.err;
	response.rcode = response.header.flags & DNS_RCODE;
	if ((response.header.flags & (DNS_QR | DNS_OPCODE)) != DNS_QR ||
	    response.header.qdcount > 1)
		return E_MALFORMED;
	if (response.header.qdcount == 1 &&
	    question_read(&r, &response.question, &response.raw) != E_OK)
		return r.err;
	if (!(response.header.flags & DNS_TC)) {
		err = response_body_read(r, &response);
		if (err != E_OK)
			return err;
	}
	*out = response;
	return E_OK;
}

bool dns_response_matches(
    const struct dns_response *response, uint16_t id, const struct dns_question *question)
{
	if (response->header.id != id)
		return false;
	if (response->raw.n == 0)
		return response->rcode == DNS_FORMERR;
	return dns_question_eq(&response->question, question);
}

size_t dns_response_strip(uint8_t *message, const struct dns_response *response)
{
	struct wr arcount = wr_of(message + ARCOUNT_AT, 2);

	if (response->edns.present)
		wr_u16be(&arcount, response->opt_index);
	return response->opt_at;
}

static uint32_t aged(uint32_t ttl_secs, uint32_t elapsed_secs, uint32_t min_secs, uint32_t max_secs)
{
	uint32_t left = ttl_secs > elapsed_secs ? ttl_secs - elapsed_secs : 0;

	return left < min_secs ? min_secs : u32_min(left, max_secs);
}

void dns_age(
    uint8_t *message, size_t n, uint32_t elapsed_secs, uint32_t min_secs, uint32_t max_secs)
{
	struct dns_rrs it;
	struct dns_rr rr;

	if (dns_rrs_init(&it, span_of(message, n)) != E_OK)
		return;
	/* Unchecked, so that no pointer into a TTL can make the walk go astray over what it writes.
	 */
	while (rr_take(&it, &rr)) {
		struct wr ttl = wr_of(message + rr.ttl_at, 4);

		if (rr.type != DNS_OPT)
			wr_u32be(
			    &ttl, aged(dns_rr_ttl_secs(&rr), elapsed_secs, min_secs, max_secs));
	}
}
