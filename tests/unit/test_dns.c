#include "cases.h"
#include "codec/dns.h"
#include "suite.h"

/* A message under construction: the header, then whatever is appended. */
struct msg {
	uint8_t bytes[4096];
	struct wr w;
};

static void msg_begin(struct msg *m, uint16_t flags, const uint16_t counts[4])
{
	m->w = wr_of(m->bytes, sizeof m->bytes);
	wr_u16be(&m->w, 0x1234);
	wr_u16be(&m->w, flags);
	for (int i = 0; i < 4; i++)
		wr_u16be(&m->w, counts[i]);
}
#define MSG(m, flags, ...) msg_begin(m, flags, (const uint16_t[4]){__VA_ARGS__})

/* Bytes of a literal, and a name: the literal's own NUL is the root label. */
#define LIT(s)    span_of(s, sizeof(s) - 1)
#define WIRE(s)   span_of(s, sizeof(s))
#define ROOT      WIRE("")
#define QNAME     LIT("\xc0\x0c")
#define WEB       WIRE("\3WeB\6arcbox\5local")
#define PUT(m, s) wr_bytes(&(m)->w, s)
#define SENT(m)   wr_span(&(m)->w)

static void put_question(struct msg *m, struct span name, uint16_t type, uint16_t class)
{
	wr_bytes(&m->w, name);
	wr_u16be(&m->w, type);
	wr_u16be(&m->w, class);
}

static void put_rr(struct msg *m, struct span owner, uint16_t type, uint16_t class, uint32_t ttl,
    struct span rdata)
{
	put_question(m, owner, type, class);
	wr_u32be(&m->w, ttl);
	wr_u16be(&m->w, (uint16_t)rdata.n);
	wr_bytes(&m->w, rdata);
}

static void put_in(struct msg *m, struct span owner, uint16_t type, uint32_t ttl, struct span rdata)
{
	put_rr(m, owner, type, DNS_IN, ttl, rdata);
}

static void put_opt(struct msg *m, uint16_t payload, uint32_t ttl, struct span options)
{
	put_rr(m, ROOT, DNS_OPT, payload, ttl, options);
}

/* mname and rname are the root; five numbers, the last of them the minimum. */
static void put_soa(struct msg *m, struct span owner, uint32_t ttl, uint8_t minimum)
{
	uint8_t rdata[22] = {0};

	rdata[21] = minimum;
	put_in(m, owner, DNS_SOA, ttl, span_of(rdata, sizeof rdata));
}

static struct dns_name name_of(const char *text)
{
	struct dns_name name;

	ck_assert_msg(dns_name_from_text(span_str(text), &name) == E_OK, "\"%s\"", text);
	return name;
}

static void ck_name(const struct dns_name *name, const char *text)
{
	char buf[DNS_NAME_TEXT_BYTES];

	ck_assert_uint_eq(dns_name_to_text(name, buf), strlen(text));
	ck_assert_str_eq(buf, text);
}

static struct dns_query query_of(struct span message)
{
	struct dns_query q;

	ck_assert_int_eq(dns_query_read(message, &q), E_OK);
	return q;
}

static struct dns_response response_of(struct span message)
{
	struct dns_response r;

	ck_assert_int_eq(dns_response_read(message, &r), E_OK);
	return r;
}

/* --- names ---------------------------------------------------------------- */

START_TEST(text_names)
{
	static const struct {
		const char *text, *canonical;
		size_t wire;
	} rows[] = {
	    {".", ".", 1},
	    {"a", "a", 3},
	    {"a.", "a", 3},
	    {"Web.MyProject.ARCBOX.local.", "web.myproject.arcbox.local", 28},
	    {"a\\.b.c", "a\\.b.c", 7},
	    {"\\\\", "\\\\", 3},
	    {"\\065\\000\\255", "a\\000\\255", 5},
	    {"\\W\\-_", "w-_", 5},
	    {"caf\xc3\xa9", "caf\\195\\169", 7},
	    {"\\ \\032", "\\032\\032", 4},
	    {"1.0.0.127.in-addr.arpa", "1.0.0.127.in-addr.arpa", 24},
	    {"[`{@", "[`{@", 6},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct guard g = guard_copy(span_str(rows[i].text));
		struct dns_name name, again;

		ck_assert_msg(dns_name_from_text(g.s, &name) == E_OK, "\"%s\"", rows[i].text);
		ck_assert_uint_eq(name.n, rows[i].wire);
		ck_assert_uint_eq(name.wire[name.n - 1], 0);
		ck_name(&name, rows[i].canonical);
		again = name_of(rows[i].canonical);
		ck_assert(dns_name_eq(&name, &again));
		guard_free(&g);
	}
}
END_TEST

START_TEST(text_names_refused)
{
	static const char *const texts[] = {"", "..", ".a", "a..b", "a..", "a b", "a\t", "a\n",
	    "\x7f", "\x01", "\\", "a\\", "\\1", "\\12", "\\12x", "\\1x2", "\\256", "\\999"};
	struct dns_name name = {.n = 77};

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct guard g = guard_copy(span_str(texts[i]));

		ck_assert_msg(dns_name_from_text(g.s, &name) == E_MALFORMED, "\"%s\"", texts[i]);
		guard_free(&g);
	}
	ck_assert_int_eq(dns_name_from_text(LIT("a\0b"), &name), E_MALFORMED);
	ck_assert_uint_eq(name.n, 77);
}
END_TEST

/* Text of labels of the lengths given, up to a 0. */
static struct span labels_text(const uint8_t *lengths)
{
	static char text[512];
	size_t n = 0;

	for (; *lengths; lengths++) {
		memset(text + n, 'x', *lengths);
		n += *lengths;
		text[n++] = '.';
	}
	return span_of(text, n);
}

START_TEST(text_names_limits)
{
	struct dns_name name = {.n = 77};
	char text[DNS_NAME_TEXT_BYTES];

	ck_assert_int_eq(dns_name_from_text(labels_text((const uint8_t[]){64, 0}), &name), E_LIMIT);
	ck_assert_int_eq(
	    dns_name_from_text(labels_text((const uint8_t[]){63, 63, 63, 62, 0}), &name), E_LIMIT);
	ck_assert_uint_eq(name.n, 77);
	ck_assert_int_eq(
	    dns_name_from_text(labels_text((const uint8_t[]){63, 63, 63, 61, 0}), &name), E_OK);
	ck_assert_uint_eq(name.n, DNS_NAME_BYTES);
	for (size_t i = 0; i < name.n - 1u; i++)
		name.wire[i] = name.wire[i] == 'x' ? 0x01 : name.wire[i];
	ck_assert_uint_eq(dns_name_to_text(&name, text), DNS_NAME_TEXT_BYTES - 1);
}
END_TEST

START_TEST(under)
{
	static const struct {
		const char *name, *zone;
		bool under;
	} rows[] = {
	    {"web.arcbox.local", "arcbox.local", true}, {"arcbox.local", "ARCBOX.local", true},
	    {"a.b.c.arcbox.local", "arcbox.local", true}, {"xarcbox.local", "arcbox.local", false},
	    {"local", "arcbox.local", false}, {"web.arcbox.local.com", "arcbox.local", false},
	    {"web", ".", true}, {".", ".", true}, {".", "a", false},
	    {"x\\006arcbox\\005local", "arcbox.local", false}, /* its bytes, but no label's edge */
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct dns_name name = name_of(rows[i].name), zone = name_of(rows[i].zone);

		ck_assert_msg(dns_name_under(&name, &zone) == rows[i].under, "%s", rows[i].name);
	}
}
END_TEST

START_TEST(reverse_names)
{
	static const struct {
		const char *ip, *name;
	} rows[] = {
	    {"10.0.2.1", "1.2.0.10.in-addr.arpa"},
	    {"255.100.9.0", "0.9.100.255.in-addr.arpa"},
	    {"2001:db8::567:89ab",
		"b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct ip ip, back;
		struct dns_name name;

		ck_assert_int_eq(ip_parse(span_str(rows[i].ip), &ip), E_OK);
		dns_name_from_ip(&ip, &name);
		ck_name(&name, rows[i].name);
		ck_assert(dns_name_to_ip(&name, &back));
		ck_assert(ip_eq(&ip, &back));
	}
}
END_TEST

START_TEST(reverse_names_refused)
{
	static const char *const texts[] = {".", "arpa", "in-addr.arpa", "1.in-addr.arpa",
	    "2.0.10.in-addr.arpa", "9.1.2.0.10.in-addr.arpa", "01.2.0.10.in-addr.arpa",
	    "256.2.0.10.in-addr.arpa", "1000.2.0.10.in-addr.arpa", "a.2.0.10.in-addr.arpa",
	    "1.2.0.10.in-addr.arpa.com", "0/25.2.0.10.in-addr.arpa", "1.2.0.10", "ip6.arpa",
	    "1.2.0.10.ip6.arpa",
	    "a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
	    "0.b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
	    "g.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
	    "b.g.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
	    "ba.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.2.ip6.arpa"};

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct dns_name name = name_of(texts[i]);
		struct ip ip = {.family = 9};

		ck_assert_msg(!dns_name_to_ip(&name, &ip), "%s", texts[i]);
		ck_assert_uint_eq(ip.family, 9);
	}
}
END_TEST

/* Reads the name at `at` of a message whose header is zeros and whose rest is `body`. */
static enum err read_name_at(struct span body, size_t at, struct dns_name *out, size_t *end)
{
	uint8_t bytes[2048] = {0};
	struct guard g;
	struct rd r;
	enum err err, skipped;

	memcpy(bytes + DNS_HEADER_BYTES, body.p, body.n);
	g = guard_copy(span_of(bytes, DNS_HEADER_BYTES + body.n));
	r = rd_of(g.s);
	r.at = at;
	skipped = dns_name_read(&r, NULL);
	r = rd_of(g.s);
	r.at = at;
	err = dns_name_read(&r, out);
	ck_assert_int_eq(err, skipped);
	ck_assert_int_eq(err, r.err);
	*end = r.at;
	guard_free(&g);
	return err;
}

START_TEST(wire_names)
{
	struct dns_name name;
	size_t end;

	ck_assert_int_eq(read_name_at(WEB, 12, &name, &end), E_OK);
	ck_assert_uint_eq(end, 12 + 18);
	ck_name(&name, "web.arcbox.local");

	/* "a" and a pointer to the name above without its first label; then a pointer to that. */
	ck_assert_int_eq(
	    read_name_at(LIT("\3web\5local\0\1A\xc0\x10\xc0\x17"), 23, &name, &end), E_OK);
	ck_assert_uint_eq(end, 27);
	ck_name(&name, "a.local");
	ck_assert_int_eq(
	    read_name_at(LIT("\3web\5local\0\1A\xc0\x10\xc0\x17"), 27, &name, &end), E_OK);
	ck_assert_uint_eq(end, 29);
	ck_name(&name, "a.local");

	ck_assert_int_eq(read_name_at(LIT("\0"), 12, &name, &end), E_OK);
	ck_assert_uint_eq(end, 13);
	ck_name(&name, ".");
}
END_TEST

START_TEST(wire_names_refused)
{
	static const struct {
		struct span body;
		size_t at;
		enum err err;
	} rows[] = {
	    {SPAN_LIT(""), 12, E_MORE}, {SPAN_LIT("\3we"), 12, E_MORE},
	    {SPAN_LIT("\3web"), 12, E_MORE}, {SPAN_LIT("\xc0"), 12, E_MORE},
	    {SPAN_LIT("\1a\xc0"), 12, E_MORE},
	    {SPAN_LIT("\xc0\x0c"), 12, E_MALFORMED},         /* to itself */
	    {SPAN_LIT("\1a\xc0\x0c"), 12, E_MALFORMED},      /* round and round */
	    {SPAN_LIT("\xc0\x0e\1a"), 12, E_MALFORMED},      /* forwards */
	    {SPAN_LIT("\1a\xc0\x0e"), 12, E_MALFORMED},      /* a pointer to itself */
	    {SPAN_LIT("\1a\0\xc0\x0b"), 15, E_MALFORMED},    /* into the header */
	    {SPAN_LIT("\1a\0\xc0\x00"), 15, E_MALFORMED},    /* to the header */
	    {SPAN_LIT("\xc0\x0e\xc0\x0c"), 14, E_MALFORMED}, /* two at each other */
	    {SPAN_LIT("\3a\xc0\x0c"), 14, E_MALFORMED},      /* to what runs on into it */
	    {SPAN_LIT("\1a\xc0\x0c"), 14, E_MALFORMED},      /* to what ends in it */
	    {SPAN_LIT("\1a\0\xff\xff"), 15, E_MALFORMED},    /* beyond the end */
	    {SPAN_LIT("\x40 reserved"), 12, E_MALFORMED},
	    {SPAN_LIT("\x80 reserved"), 12, E_MALFORMED},
	    {SPAN_LIT("\2ab\xc0\x0d"), 15, E_MALFORMED}, /* into a label: no length byte there */
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct dns_name name = {.n = 77};
		size_t end;

		ck_assert_int_eq(read_name_at(rows[i].body, rows[i].at, &name, &end), rows[i].err);
		ck_assert_uint_eq(end, rows[i].at);
		ck_assert_uint_eq(name.n, 77);
	}
}
END_TEST

START_TEST(wire_names_limits)
{
	uint8_t body[1024];
	struct wr w = wr_of(body, sizeof body);
	struct dns_name name;
	size_t end, at;

	/* 127 labels of one byte, each but the last with a pointer to the one before: the most
	 * there is */
	wr_bytes(&w, LIT("\1a\0"));
	for (unsigned i = 1; i < 127; i++) {
		at = DNS_HEADER_BYTES + w.n;
		wr_bytes(&w, LIT("\1a"));
		wr_u16be(&w, (uint16_t)(0xc000 | (i == 1 ? at - 3 : at - 4)));
	}
	ck_assert_int_eq(read_name_at(wr_span(&w), at, &name, &end), E_OK);
	ck_assert_uint_eq(name.n, DNS_NAME_BYTES);
	wr_bytes(&w, LIT("\1a"));
	wr_u16be(&w, (uint16_t)(0xc000 | at));
	ck_assert_int_eq(read_name_at(wr_span(&w), at + 4, &name, &end), E_MALFORMED);

	/* pointers to pointers: legal, up to DNS_JUMPS_MAX */
	w = wr_of(body, sizeof body);
	wr_bytes(&w, LIT("\1a\0\xc0\x0c"));
	for (unsigned i = 1; i < DNS_JUMPS_MAX; i++)
		wr_u16be(&w, (uint16_t)(0xc000 | (DNS_HEADER_BYTES + w.n - 2)));
	at = DNS_HEADER_BYTES + w.n - 2;
	ck_assert_int_eq(read_name_at(wr_span(&w), at, &name, &end), E_OK);
	ck_name(&name, "a");
	wr_u16be(&w, (uint16_t)(0xc000 | at));
	ck_assert_int_eq(read_name_at(wr_span(&w), at + 2, &name, &end), E_MALFORMED);
}
END_TEST

START_TEST(wire_names_sticky)
{
	struct rd r = rd_of(WEB);
	struct dns_name name = {.n = 77};

	rd_fail(&r, E_LIMIT);
	ck_assert_int_eq(dns_name_read(&r, &name), E_LIMIT);
	ck_assert_uint_eq(name.n, 77);
	ck_assert_uint_eq(r.at, 0);
}
END_TEST

/* --- server --------------------------------------------------------------- */

static void msg_query(struct msg *m, uint16_t flags)
{
	MSG(m, flags, 1, 0, 0, 0);
	put_question(m, WEB, DNS_A, DNS_IN);
}

static void msg_edns_query(struct msg *m, uint16_t payload, uint32_t ttl)
{
	MSG(m, DNS_RD, 1, 0, 0, 1);
	put_question(m, WEB, DNS_A, DNS_IN);
	put_opt(m, payload, ttl, span_of(NULL, 0));
}

START_TEST(query_plain)
{
	struct msg m;
	struct guard g;
	struct dns_query q;

	msg_query(&m, DNS_RD | DNS_AD);
	g = guard_copy(SENT(&m));
	q = query_of(g.s);
	ck_assert_uint_eq(q.id, 0x1234);
	ck_assert_uint_eq(q.flags, DNS_RD | DNS_AD);
	ck_assert_uint_eq(q.rcode, DNS_NOERROR);
	ck_assert_uint_eq(q.question.type, DNS_A);
	ck_assert_uint_eq(q.question.class, DNS_IN);
	ck_name(&q.question.name, "web.arcbox.local");
	ck_assert(span_eq(q.raw, span_from(g.s, DNS_HEADER_BYTES)));
	ck_assert(!q.edns.present && !q.edns.dnssec_ok);
	ck_assert_uint_eq(q.edns.payload, DNS_UDP_BYTES);
	guard_free(&g);
}
END_TEST

START_TEST(query_edns)
{
	struct msg m;
	struct dns_query q;

	msg_edns_query(&m, 4096, 0x8000);
	q = query_of(SENT(&m));
	ck_assert_uint_eq(q.rcode, DNS_NOERROR);
	ck_assert(q.edns.present && q.edns.dnssec_ok);
	ck_assert_uint_eq(q.edns.payload, 4096);

	msg_edns_query(&m, 100, 0x7fff);
	q = query_of(SENT(&m));
	ck_assert(q.edns.present && !q.edns.dnssec_ok);
	ck_assert_uint_eq(q.edns.payload, DNS_UDP_BYTES);

	msg_edns_query(&m, 1232, 0x00010000);
	q = query_of(SENT(&m));
	ck_assert_uint_eq(q.rcode, DNS_BADVERS);
	ck_assert_uint_eq(q.edns.version, 1);

	MSG(&m, 0, 1, 0, 0, 1);
	put_question(&m, WEB, DNS_A, DNS_IN);
	put_opt(&m, 1232, 0, LIT("\0\12\0\3abc\0\3\0\0")); /* cookie, NSID */
	ck_assert_uint_eq(query_of(SENT(&m)).rcode, DNS_NOERROR);
}
END_TEST

START_TEST(query_dropped)
{
	struct msg m;
	struct dns_query q = {.id = 77};

	msg_query(&m, 0);
	for (size_t n = 0; n < DNS_HEADER_BYTES; n++)
		ck_assert_int_eq(dns_query_read(span_first(SENT(&m), n), &q), E_MORE);
	msg_query(&m, DNS_QR);
	ck_assert_int_eq(dns_query_read(SENT(&m), &q), E_UNKNOWN);
	MSG(&m, DNS_QR | DNS_OPCODE, 9, 9, 9, 9);
	ck_assert_int_eq(dns_query_read(SENT(&m), &q), E_UNKNOWN);
	ck_assert_uint_eq(q.id, 77);
}
END_TEST

/* The message must be FORMERR, its question readable or not, whole or cut anywhere behind its
 * header. */
static void ck_formerr(const struct msg *m, bool readable)
{
	struct span sent = SENT(m);

	for (size_t n = sent.n; n >= DNS_HEADER_BYTES; n--) {
		struct guard g = guard_copy(span_first(sent, n));
		struct dns_query q = query_of(g.s);

		ck_assert_msg(q.rcode == DNS_FORMERR, "cut at %zu of %zu", n, sent.n);
		ck_assert_uint_eq(q.id, 0x1234);
		if (n == sent.n)
			ck_assert(readable == (q.raw.n > 0));
		guard_free(&g);
	}
}

START_TEST(query_formerr_questions)
{
	struct msg m;

	MSG(&m, 0, 0, 0, 0, 0);
	ck_formerr(&m, false);
	MSG(&m, 0, 2, 0, 0, 0);
	put_question(&m, WEB, DNS_A, DNS_IN);
	put_question(&m, QNAME, DNS_AAAA, DNS_IN);
	ck_formerr(&m, false);
	MSG(&m, 0, 1, 0, 0, 0);
	put_question(&m, QNAME, DNS_A, DNS_IN);
	ck_formerr(&m, false);
	MSG(&m, 0, 1, 0, 0, 0);
	put_question(&m,
	    WIRE("\100"
		 "0123456789012345678901234567890123456789012345678901234567890123"),
	    DNS_A, DNS_IN);
	ck_formerr(&m, false);
	msg_query(&m, 0);
	wr_u8(&m.w, 0);
	ck_assert_uint_eq(query_of(SENT(&m)).rcode, DNS_FORMERR);
	msg_query(&m, 0);
	m.w.n--;
	ck_formerr(&m, false);
}
END_TEST

START_TEST(query_formerr_records)
{
	struct msg m;

	MSG(&m, 0, 1, 0, 0, 2);
	put_question(&m, WEB, DNS_A, DNS_IN);
	put_opt(&m, 1232, 0, span_of(NULL, 0));
	put_opt(&m, 1232, 0, span_of(NULL, 0));
	ck_formerr(&m, true);
	MSG(&m, 0, 1, 1, 0, 0);
	put_question(&m, WEB, DNS_A, DNS_IN);
	put_opt(&m, 1232, 0, span_of(NULL, 0));
	ck_formerr(&m, true);
	MSG(&m, 0, 1, 0, 1, 0);
	put_question(&m, WEB, DNS_A, DNS_IN);
	put_opt(&m, 1232, 0, span_of(NULL, 0));
	ck_formerr(&m, true);
	MSG(&m, 0, 1, 0, 0, 1);
	put_question(&m, WEB, DNS_A, DNS_IN);
	put_rr(&m, QNAME, DNS_OPT, 1232, 0, span_of(NULL, 0));
	ck_formerr(&m, true);
	MSG(&m, 0, 1, 0, 0, 1);
	put_question(&m, WEB, DNS_A, DNS_IN);
	put_rr(
	    &m, LIT("\xc0\x1d"), DNS_OPT, 1232, 0, span_of(NULL, 0)); /* the root, by a pointer */
	ck_formerr(&m, true);
	MSG(&m, 0, 1, 0, 0, 1);
	put_question(&m, WEB, DNS_A, DNS_IN);
	put_opt(&m, 1232, 0, LIT("\0\12\0\4abc"));
	ck_formerr(&m, true);
	MSG(&m, 0, 1, 0, 0, 1);
	put_question(&m, WEB, DNS_A, DNS_IN);
	put_in(&m, QNAME, DNS_A, 1, LIT("\1\2\3"));
	ck_formerr(&m, true);
	MSG(&m, 0, 1, 0, 0, 2);
	put_question(&m, WEB, DNS_A, DNS_IN);
	put_opt(&m, 1232, 0, span_of(NULL, 0));
	ck_formerr(&m, true);
}
END_TEST

START_TEST(query_other_opcodes)
{
	struct msg m;
	struct dns_query q;
	uint8_t buf[DNS_UDP_BYTES];
	struct dns_reply r;

	MSG(&m, 0x2800 | DNS_RD, 7, 7, 7, 7); /* UPDATE */
	q = query_of(SENT(&m));
	ck_assert_uint_eq(q.rcode, DNS_NOTIMP);
	dns_reply_begin(&r, buf, sizeof buf, &q, 0);
	ck_assert(span_eq(dns_reply_finish(&r), unhex("1234 a984 0000 0000 0000 0000")));
}
END_TEST

START_TEST(query_any_type_and_class)
{
	struct msg m;
	struct dns_query q;

	MSG(&m, 0, 1, 0, 0, 0);
	put_question(&m, ROOT, 0xffff, 0xfffe);
	q = query_of(SENT(&m));
	ck_assert_uint_eq(q.rcode, DNS_NOERROR);
	ck_assert_uint_eq(q.question.type, 0xffff);
	ck_assert_uint_eq(q.question.class, 0xfffe);
	ck_name(&q.question.name, ".");
}
END_TEST

static void reply_to_any(struct span message, void *ctx)
{
	uint8_t buf[DNS_UDP_BYTES];
	struct dns_query q;
	struct dns_reply r;
	struct dns_response back;

	(void)ctx;
	if (dns_query_read(message, &q) != E_OK)
		return;
	dns_reply_begin(&r, buf, sizeof buf, &q, 0);
	back = response_of(dns_reply_finish(&r));
	ck_assert_uint_eq(back.rcode, q.rcode);
	ck_assert(span_eq(back.raw, q.raw));
}

START_TEST(query_any_bytes)
{
	struct msg m;

	MSG(&m, DNS_RD, 1, 1, 0, 2);
	put_question(&m, WEB, DNS_A, DNS_IN);
	put_soa(&m, QNAME, 5, 5);
	put_in(&m, QNAME, DNS_MX, 1, LIT("\0\1\1x\xc0\x0c"));
	put_opt(&m, 1232, 0x8000, LIT("\0\12\0\3abc"));
	ck_assert_uint_eq(query_of(SENT(&m)).rcode, DNS_NOERROR);
	each_mutation(SENT(&m), reply_to_any, NULL);
}
END_TEST

START_TEST(reply_address)
{
	struct msg m;
	struct dns_query q;
	struct dns_reply r;
	uint8_t buf[DNS_UDP_BYTES];
	struct ip v4 = ip_v4(10, 0, 2, 1), v6;

	msg_query(&m, DNS_RD | DNS_CD | DNS_AD);
	q = query_of(SENT(&m));
	dns_reply_begin(&r, buf, sizeof buf, &q, DNS_AA);
	dns_reply_addr(&r, 5, &v4);
	ck_assert(span_eq(dns_reply_finish(&r),
	    unhex("1234 8590 0001 0001 0000 0000"
		  "03576542 06617263626f78 056c6f63616c 00 0001 0001"
		  "c00c 0001 0001 00000005 0004 0a000201")));

	ck_assert_int_eq(ip_parse(span_str("2001:db8::1"), &v6), E_OK);
	dns_reply_begin(&r, buf, sizeof buf, &q, 0);
	dns_reply_addr(&r, 300, &v6);
	dns_reply_addr(&r, 300, &v6);
	ck_assert(span_eq(dns_reply_finish(&r),
	    unhex("1234 8190 0001 0002 0000 0000"
		  "03576542 06617263626f78 056c6f63616c 00 0001 0001"
		  "c00c 001c 0001 0000012c 0010 20010db8000000000000000000000001"
		  "c00c 001c 0001 0000012c 0010 20010db8000000000000000000000001")));
}
END_TEST

START_TEST(reply_nxdomain)
{
	const struct dns_soa soa = {
	    .zone = name_of("arcbox.local"),
	    .mname = name_of("ns.arcbox.local"),
	    .rname = name_of("root.example"),
	    .ttl_secs = 5,
	    .serial = 1,
	    .refresh_secs = 2,
	    .retry_secs = 3,
	    .expire_secs = 4,
	    .minimum_secs = 6,
	};
	struct msg m;
	struct dns_query q;
	struct dns_reply r;
	struct dns_response back;
	uint8_t buf[DNS_UDP_BYTES];

	msg_edns_query(&m, 1232, 0x8000);
	q = query_of(SENT(&m));
	dns_reply_begin(&r, buf, sizeof buf, &q, DNS_AA);
	r.rcode = DNS_NXDOMAIN;
	dns_reply_soa(&r, DNS_AUTHORITY, &soa);
	ck_assert(span_eq(dns_reply_finish(&r),
	    unhex("1234 8583 0001 0000 0001 0001"
		  "03576542 06617263626f78 056c6f63616c 00 0001 0001"
		  "c010 0006 0001 00000005 0027"
		  "026e73c010 04726f6f74 076578616d706c65 00"
		  "00000001 00000002 00000003 00000004 00000006"
		  "00 0029 04d0 00 00 8000 0000")));
	back = response_of(wr_span(&r.w));
	ck_assert_uint_eq(back.rcode, DNS_NXDOMAIN);
	ck_assert_uint_eq(back.ttl_secs, 5);
}
END_TEST

START_TEST(reply_ptr)
{
	struct dns_name target = name_of("web.arcbox.local"), shared = name_of("x.in-addr.arpa");
	struct msg m;
	struct dns_query q;
	struct dns_reply r;
	uint8_t buf[DNS_UDP_BYTES];

	MSG(&m, 0, 1, 0, 0, 0);
	put_question(&m, WIRE("\0011\0012\0010\00210\7in-addr\4arpa"), DNS_PTR, DNS_IN);
	q = query_of(SENT(&m));
	dns_reply_begin(&r, buf, sizeof buf, &q, 0);
	dns_reply_ptr(&r, 5, &target);
	dns_reply_ptr(&r, 5, &shared);
	ck_assert(span_eq(span_from(dns_reply_finish(&r), DNS_HEADER_BYTES + q.raw.n),
	    unhex("c00c 000c 0001 00000005 0012 03776562 06617263626f78 056c6f63616c 00"
		  "c00c 000c 0001 00000005 0004 0178 c015")));
}
END_TEST

/* A reply with `count` addresses to an EDNS query, in a buffer of `limit` bytes that ends at a
 * page. */
static void ck_reply_in(size_t limit, unsigned count, bool fits, bool room)
{
	static uint8_t zeros[2048];
	struct guard g = guard_copy(span_of(zeros, limit));
	struct ip ip = ip_v4(1, 2, 3, 4);
	struct msg m;
	struct dns_query q;
	struct dns_reply r;
	struct dns_response back;
	struct span sent;

	msg_edns_query(&m, 4096, 0);
	q = query_of(SENT(&m));
	dns_reply_begin(&r, (uint8_t *)g.map + (g.s.p - (const uint8_t *)g.map), limit, &q, 0);
	for (unsigned i = 0; i < count; i++)
		dns_reply_addr(&r, 5, &ip);
	sent = dns_reply_finish(&r);
	ck_assert(room == (sent.n > 0));
	ck_assert_uint_le(sent.n, limit);
	if (room) {
		back = response_of(sent);
		ck_assert_uint_eq(back.header.count[DNS_ANSWER], fits ? count : 0);
		ck_assert_uint_eq(back.header.count[DNS_ADDITIONAL], 1);
		ck_assert(fits == !(back.header.flags & DNS_TC));
		ck_assert(span_eq(back.raw, q.raw));
		ck_assert(dns_response_matches(&back, 0x1234, &q.question));
	}
	guard_free(&g);
}

START_TEST(reply_truncated)
{
	const size_t head = DNS_HEADER_BYTES + 22, opt = DNS_OPT_BYTES, rr = 16;

	for (size_t limit = 0; limit < head + opt; limit++)
		ck_reply_in(limit, 3, false, false);
	for (size_t limit = head + opt; limit < head + opt + 3 * rr; limit++)
		ck_reply_in(limit, 3, false, true);
	ck_reply_in(head + opt + 3 * rr, 3, true, true);
	ck_reply_in(head + opt, 0, true, true);
}
END_TEST

START_TEST(reply_rcodes)
{
	struct msg m;
	struct dns_query q;
	struct dns_reply r;
	struct span sent;
	uint8_t buf[DNS_UDP_BYTES];

	msg_edns_query(&m, 1232, 0x00ff0000);
	q = query_of(SENT(&m));
	dns_reply_begin(&r, buf, sizeof buf, &q, 0);
	sent = dns_reply_finish(&r);
	ck_assert_uint_eq(response_of(sent).rcode, DNS_BADVERS);
	ck_assert_uint_eq(response_of(sent).edns.version, 0);

	msg_query(&m, 0);
	q = query_of(SENT(&m));
	dns_reply_begin(&r, buf, sizeof buf, &q, 0);
	r.rcode = DNS_BADVERS;
	ck_assert_uint_eq(response_of(dns_reply_finish(&r)).rcode, DNS_SERVFAIL);
	dns_reply_begin(&r, buf, sizeof buf, &q, 0);
	r.rcode = DNS_REFUSED;
	ck_assert_uint_eq(response_of(dns_reply_finish(&r)).rcode, DNS_REFUSED);
}
END_TEST

/* --- records -------------------------------------------------------------- */

START_TEST(records_walked)
{
	struct msg m;
	struct dns_rrs it;
	struct dns_rr rr;
	struct dns_name owner;
	struct rd r;

	MSG(&m, DNS_QR, 2, 1, 0, 2);
	put_question(&m, WEB, DNS_A, DNS_IN);
	put_question(&m, QNAME, DNS_AAAA, DNS_IN);
	put_in(&m, QNAME, DNS_A, 60, LIT("\1\2\3\4"));
	put_in(&m, LIT("\2ns\xc0\x10"), DNS_TXT, 0x80000001, LIT("\1x"));
	put_opt(&m, 4096, 0, span_of(NULL, 0));
	ck_assert_int_eq(dns_rrs_init(&it, SENT(&m)), E_OK);

	ck_assert(dns_rr_next(&it, &rr));
	ck_assert(rr.section == DNS_ANSWER && rr.type == DNS_A && rr.class == DNS_IN);
	ck_assert_uint_eq(dns_rr_ttl_secs(&rr), 60);
	ck_assert(span_eq(rr.rdata, LIT("\1\2\3\4")));
	ck_assert_ptr_eq(rr.rdata.p, m.bytes + rr.rdata_at);
	ck_assert_uint_eq(m.bytes[rr.ttl_at + 3], 60);

	ck_assert(dns_rr_next(&it, &rr));
	ck_assert(rr.section == DNS_ADDITIONAL && rr.type == DNS_TXT);
	ck_assert_uint_eq(dns_rr_ttl_secs(&rr), 0);
	r = rd_of(SENT(&m));
	r.at = rr.at;
	ck_assert_int_eq(dns_name_read(&r, &owner), E_OK);
	ck_name(&owner, "ns.arcbox.local");

	ck_assert(dns_rr_next(&it, &rr) && rr.type == DNS_OPT);
	rr.at = 77;
	ck_assert(!dns_rr_next(&it, &rr) && !dns_rr_next(&it, &rr));
	ck_assert_int_eq(it.r.err, E_OK);
	ck_assert_uint_eq(rd_left(&it.r), 0);
	ck_assert_uint_eq(rr.at, 77);
}
END_TEST

START_TEST(records_cut)
{
	struct msg m;
	struct dns_rrs it;
	struct dns_rr rr;
	size_t head;

	MSG(&m, DNS_QR, 1, 1, 0, 0);
	put_question(&m, WEB, DNS_A, DNS_IN);
	head = m.w.n;
	put_in(&m, QNAME, DNS_A, 60, LIT("\1\2\3\4"));
	for (size_t n = 0; n < SENT(&m).n; n++) {
		struct guard g = guard_copy(span_first(SENT(&m), n));

		if (n < head) {
			ck_assert_int_eq(dns_rrs_init(&it, g.s), E_MORE);
		} else {
			ck_assert_int_eq(dns_rrs_init(&it, g.s), E_OK);
			ck_assert(!dns_rr_next(&it, &rr));
			ck_assert_int_eq(it.r.err, E_MORE);
			ck_assert(!dns_rr_next(&it, &rr));
		}
		guard_free(&g);
	}
}
END_TEST

START_TEST(record_data)
{
	static const struct {
		uint16_t type, class;
		struct span rdata;
		bool valid;
	} rows[] = {
	    {DNS_A, DNS_IN, SPAN_LIT("\1\2\3\4"), true},
	    {DNS_A, DNS_IN, SPAN_LIT("\1\2\3"), false},
	    {DNS_A, DNS_IN, SPAN_LIT("\1\2\3\4\5"), false},
	    {DNS_A, DNS_IN, SPAN_LIT(""), false},
	    {DNS_A, 3, SPAN_LIT("\1\2\3"), true}, /* CHAOS has addresses of another form */
	    {DNS_AAAA, DNS_IN, SPAN_LIT("0123456789abcdef"), true},
	    {DNS_AAAA, DNS_IN, SPAN_LIT("0123456789abcde"), false},
	    {DNS_CNAME, DNS_IN, SPAN_LIT("\1a\0"), true},
	    {DNS_CNAME, DNS_IN, SPAN_LIT("\1a\xc0\x0c"), true},
	    {DNS_CNAME, DNS_IN, SPAN_LIT("\1a\xc0\x0c!"), false},
	    {DNS_CNAME, DNS_IN, SPAN_LIT("\1a\xc0"), false},
	    {DNS_CNAME, DNS_IN, SPAN_LIT("\1a"), false}, /* runs on into the next record */
	    {DNS_CNAME, DNS_IN, SPAN_LIT(""), false},
	    {DNS_CNAME, DNS_IN, SPAN_LIT("\xc1\xff"), false},
	    {DNS_NS, DNS_IN, SPAN_LIT("\0"), true},
	    {DNS_PTR, DNS_IN, SPAN_LIT("\xc0\x0c"), true},
	    {DNS_DNAME, DNS_IN, SPAN_LIT("\1a"), false},
	    {DNS_MX, DNS_IN, SPAN_LIT("\0\1\1a\0"), true},
	    {DNS_MX, DNS_IN, SPAN_LIT("\0"), false},
	    {DNS_SRV, DNS_IN, SPAN_LIT("\0\1\0\2\0\3\1a\0"), true},
	    {DNS_SRV, DNS_IN, SPAN_LIT("\0\1\0\2\0\3"), false},
	    {DNS_SOA, DNS_IN, SPAN_LIT("\0\300\01401234567890123456789"), true},
	    {DNS_SOA, DNS_IN, SPAN_LIT("\0\300\0140123456789012345678"), false},
	    {DNS_SOA, DNS_IN, SPAN_LIT("\00001234567890123456789"), false},
	    {DNS_TXT, DNS_IN, SPAN_LIT("whatever"), true},
	    {0xff00, DNS_IN, SPAN_LIT(""), true},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct msg m;
		struct dns_rrs it;
		struct dns_rr rr;

		MSG(&m, DNS_QR, 1, 1, 0, 1);
		put_question(&m, WEB, DNS_A, DNS_IN);
		put_rr(&m, QNAME, rows[i].type, rows[i].class, 60, rows[i].rdata);
		put_in(&m, ROOT, DNS_TXT, 60, LIT("\1x"));
		ck_assert_int_eq(dns_rrs_init(&it, SENT(&m)), E_OK);
		ck_assert_msg(dns_rr_next(&it, &rr) == rows[i].valid, "row %zu", i);
		ck_assert_int_eq(it.r.err, rows[i].valid ? E_OK : E_MALFORMED);
		ck_assert(dns_rr_next(&it, &rr) == rows[i].valid);
	}
}
END_TEST

/* --- forwarder and cache -------------------------------------------------- */

START_TEST(query_written)
{
	struct msg m;
	struct dns_query q;
	uint8_t buf[64];
	struct wr w = wr_of(buf, sizeof buf);

	msg_edns_query(&m, 4096, 0x8000);
	q = query_of(SENT(&m));
	dns_query_write(&w, 0xabcd, &q, true);
	ck_assert_int_eq(w.err, E_OK);
	ck_assert(span_eq(wr_span(&w),
	    unhex("abcd 0120 0001 0000 0000 0001"
		  "03576542 06617263626f78 056c6f63616c 00 0001 0001"
		  "00 0029 04d0 00 00 8000 0000")));

	msg_query(&m, DNS_CD);
	q = query_of(SENT(&m));
	w = wr_of(buf, sizeof buf);
	dns_query_write(&w, 1, &q, false);
	ck_assert(span_eq(wr_span(&w),
	    unhex("0001 0130 0001 0000 0000 0000"
		  "03576542 06617263626f78 056c6f63616c 00 0001 0001")));
	w = wr_of(buf, 30);
	dns_query_write(&w, 1, &q, false);
	ck_assert_int_eq(w.err, E_SPACE);
}
END_TEST

/* CNAME and A, glue before and behind the OPT. */
static void msg_response(struct msg *m, uint16_t flags)
{
	MSG(m, flags, 1, 2, 1, 3);
	put_question(m, WEB, DNS_A, DNS_IN);
	put_in(m, QNAME, DNS_CNAME, 300, LIT("\1x\xc0\x10"));
	put_in(m, LIT("\1x\xc0\x10"), DNS_A, 60, LIT("\1\2\3\4"));
	put_in(m, LIT("\xc0\x10"), DNS_NS, 100, LIT("\2ns\xc0\x10"));
	put_in(m, LIT("\2ns\xc0\x10"), DNS_A, 7, LIT("\5\6\7\10"));
	put_opt(m, 1400, 0x8000, span_of(NULL, 0));
	put_in(m, LIT("\2ns\xc0\x10"), DNS_A, 8, LIT("\5\6\7\11"));
}

START_TEST(response_read)
{
	struct msg m;
	struct dns_response r;

	msg_response(&m, DNS_QR | DNS_RD | DNS_RA);
	r = response_of(SENT(&m));
	ck_assert_uint_eq(r.header.id, 0x1234);
	ck_assert_uint_eq(r.rcode, DNS_NOERROR);
	ck_assert_uint_eq(r.ttl_secs, 60); /* glue does not count */
	ck_assert(r.edns.present && r.edns.dnssec_ok);
	ck_assert_uint_eq(r.edns.payload, 1400);
	ck_assert_uint_eq(r.opt_index, 1);
	ck_assert_uint_eq(m.bytes[r.opt_at + 2], DNS_OPT);
	ck_name(&r.question.name, "web.arcbox.local");
	ck_assert_ptr_eq(r.raw.p, m.bytes + DNS_HEADER_BYTES);
}
END_TEST

START_TEST(response_refused)
{
	struct msg m;
	struct dns_response r = {.opt_at = 77};

	msg_response(&m, DNS_QR);
	for (size_t n = 0; n < SENT(&m).n; n++) {
		struct guard g = guard_copy(span_first(SENT(&m), n));

		ck_assert_int_ne(dns_response_read(g.s, &r), E_OK);
		guard_free(&g);
	}
	wr_u8(&m.w, 0);
	ck_assert_int_eq(dns_response_read(SENT(&m), &r), E_MALFORMED);
	msg_response(&m, 0);
	ck_assert_int_eq(dns_response_read(SENT(&m), &r), E_MALFORMED);
	msg_response(&m, DNS_QR | 0x2000);
	ck_assert_int_eq(dns_response_read(SENT(&m), &r), E_MALFORMED);
	MSG(&m, DNS_QR, 2, 0, 0, 0);
	put_question(&m, WEB, DNS_A, DNS_IN);
	put_question(&m, WEB, DNS_A, DNS_IN);
	ck_assert_int_eq(dns_response_read(SENT(&m), &r), E_MALFORMED);
	MSG(&m, DNS_QR, 1, 0, 0, 2);
	put_question(&m, WEB, DNS_A, DNS_IN);
	put_opt(&m, 1232, 0, span_of(NULL, 0));
	put_opt(&m, 1232, 0, span_of(NULL, 0));
	ck_assert_int_eq(dns_response_read(SENT(&m), &r), E_MALFORMED);
	ck_assert_uint_eq(r.opt_at, 77);
}
END_TEST

START_TEST(response_truncated)
{
	struct msg m;
	struct dns_response r;

	msg_response(&m, DNS_QR | DNS_TC);
	m.w.n -= 5; /* cut in a record, as old servers do */
	r = response_of(SENT(&m));
	ck_assert(r.header.flags & DNS_TC);
	ck_assert_uint_eq(r.ttl_secs, 0);
	ck_assert_uint_eq(r.opt_at, SENT(&m).n);
	ck_name(&r.question.name, "web.arcbox.local");
}
END_TEST

START_TEST(response_matching)
{
	struct msg m;
	struct dns_response r;
	struct dns_question q = {name_of("WEB.arcbox.local"), DNS_A, DNS_IN}, other = q;

	msg_response(&m, DNS_QR);
	r = response_of(SENT(&m));
	ck_assert(dns_response_matches(&r, 0x1234, &q));
	ck_assert(!dns_response_matches(&r, 0x1235, &q));
	other.type = DNS_AAAA;
	ck_assert(!dns_response_matches(&r, 0x1234, &other));
	other = q;
	other.class = 3;
	ck_assert(!dns_response_matches(&r, 0x1234, &other));
	other = q;
	other.name = name_of("web.arcbox.loca");
	ck_assert(!dns_response_matches(&r, 0x1234, &other));

	MSG(&m, DNS_QR | DNS_FORMERR, 0, 0, 0, 0);
	r = response_of(SENT(&m));
	ck_assert(dns_response_matches(&r, 0x1234, &q));
	ck_assert(!dns_response_matches(&r, 0x1235, &q));
	MSG(&m, DNS_QR | DNS_NXDOMAIN, 0, 0, 0, 0);
	r = response_of(SENT(&m));
	ck_assert(!dns_response_matches(&r, 0x1234, &q));
}
END_TEST

/* The TTL of a response with what `records` appends. */
static uint32_t ttl_of(
    uint16_t rcode, uint16_t qtype, uint16_t an, uint16_t ns, void (*records)(struct msg *))
{
	struct msg m;

	MSG(&m, (uint16_t)(DNS_QR | rcode), 1, an, ns, 0);
	put_question(&m, WEB, qtype, DNS_IN);
	records(&m);
	return response_of(SENT(&m)).ttl_secs;
}

static void no_records(struct msg *m)
{
	(void)m;
}

static void soa_ttl_least(struct msg *m)
{
	put_soa(m, QNAME, 30, 40);
}

static void soa_minimum_least(struct msg *m)
{
	put_soa(m, QNAME, 30, 20);
}

static void cname_only(struct msg *m)
{
	put_in(m, QNAME, DNS_CNAME, 10, LIT("\1x\0"));
}

static void cname_and_soa(struct msg *m)
{
	cname_only(m);
	put_soa(m, QNAME, 30, 20);
}

static void referral(struct msg *m)
{
	put_in(m, QNAME, DNS_NS, 10, LIT("\1x\0"));
}

static void huge_ttl(struct msg *m)
{
	put_in(m, QNAME, DNS_A, 0xffffffff, LIT("\1\2\3\4"));
}

static void chaos_soa(struct msg *m)
{
	put_rr(m, QNAME, DNS_SOA, 3, 10, LIT("\1"));
}

START_TEST(response_ttl)
{
	ck_assert_uint_eq(ttl_of(DNS_NXDOMAIN, DNS_A, 0, 1, soa_ttl_least), 30);
	ck_assert_uint_eq(ttl_of(DNS_NXDOMAIN, DNS_A, 0, 1, soa_minimum_least), 20);
	ck_assert_uint_eq(ttl_of(DNS_NOERROR, DNS_A, 0, 1, soa_minimum_least), 20);
	ck_assert_uint_eq(ttl_of(DNS_NXDOMAIN, DNS_A, 0, 0, no_records), 0);
	ck_assert_uint_eq(ttl_of(DNS_NOERROR, DNS_A, 0, 0, no_records), 0);
	ck_assert_uint_eq(ttl_of(DNS_SERVFAIL, DNS_A, 0, 1, soa_ttl_least), 0);
	ck_assert_uint_eq(ttl_of(DNS_NOERROR, DNS_A, 1, 0, cname_only), 0);
	ck_assert_uint_eq(ttl_of(DNS_NXDOMAIN, DNS_CNAME, 1, 0, cname_only), 0);
	ck_assert_uint_eq(ttl_of(DNS_NOERROR, DNS_CNAME, 1, 0, cname_only), 10);
	ck_assert_uint_eq(ttl_of(DNS_NOERROR, DNS_ANY, 1, 0, cname_only), 10);
	ck_assert_uint_eq(ttl_of(DNS_NOERROR, DNS_A, 1, 1, cname_and_soa), 10);
	ck_assert_uint_eq(ttl_of(DNS_NOERROR, DNS_SOA, 1, 0, soa_minimum_least), 30);
	ck_assert_uint_eq(ttl_of(DNS_NOERROR, DNS_A, 0, 1, referral), 0);
	ck_assert_uint_eq(ttl_of(DNS_NOERROR, DNS_A, 1, 0, huge_ttl), 0);
	ck_assert_uint_eq(ttl_of(DNS_NXDOMAIN, DNS_A, 0, 1, chaos_soa), 0);
}
END_TEST

START_TEST(response_extended_rcode)
{
	struct msg m;

	MSG(&m, DNS_QR, 1, 0, 0, 1);
	put_question(&m, WEB, DNS_A, DNS_IN);
	put_opt(&m, 1232, 0x01000000, span_of(NULL, 0));
	ck_assert_uint_eq(response_of(SENT(&m)).rcode, DNS_BADVERS);
	MSG(&m, DNS_QR | DNS_RCODE, 1, 0, 0, 1);
	put_question(&m, WEB, DNS_A, DNS_IN);
	put_opt(&m, 1232, 0xff000000, span_of(NULL, 0));
	ck_assert_uint_eq(response_of(SENT(&m)).rcode, 0xfff);
}
END_TEST

START_TEST(stripped)
{
	struct msg m;
	struct dns_response r, bare;
	size_t n;

	msg_response(&m, DNS_QR);
	r = response_of(SENT(&m));
	n = dns_response_strip(m.bytes, &r);
	ck_assert_uint_eq(n, r.opt_at);
	bare = response_of(span_of(m.bytes, n));
	ck_assert(!bare.edns.present);
	ck_assert_uint_eq(bare.header.count[DNS_ADDITIONAL], 1);
	ck_assert_uint_eq(bare.ttl_secs, r.ttl_secs);
	ck_assert_uint_eq(bare.opt_at, n);
	ck_assert_uint_eq(dns_response_strip(m.bytes, &bare), n);
	ck_assert_uint_eq(response_of(span_of(m.bytes, n)).header.count[DNS_ADDITIONAL], 1);
}
END_TEST

START_TEST(stored_replied)
{
	struct msg m, asked;
	struct dns_response stored, back;
	struct dns_query q;
	struct dns_reply r;
	struct span sent, kept;
	uint8_t buf[DNS_UDP_BYTES];

	msg_response(&m, DNS_QR | DNS_AA | DNS_AD | DNS_NXDOMAIN);
	stored = response_of(SENT(&m));
	kept = span_of(m.bytes, dns_response_strip(m.bytes, &stored));

	MSG(&asked, DNS_RD, 1, 0, 0, 0);
	asked.bytes[1] = 0x99;
	put_question(&asked, WIRE("\3wEb\6ARCBOX\5LOCAL"), DNS_A, DNS_IN);
	q = query_of(SENT(&asked));
	dns_reply_begin(&r, buf, sizeof buf, &q, 0);
	dns_reply_stored(&r, kept);
	sent = dns_reply_finish(&r);
	ck_assert_uint_eq(sent.n, kept.n);
	ck_assert(span_eq(span_first(sent, 12), unhex("1299 8183 0001 0002 0001 0001")));
	back = response_of(sent);
	ck_assert(span_eq(back.raw, q.raw));
	ck_assert(dns_response_matches(&back, 0x1299, &stored.question));
	ck_assert(!back.edns.present);

	q.flags |= DNS_AD;
	dns_reply_begin(&r, buf, sizeof buf, &q, 0);
	dns_reply_stored(&r, kept);
	ck_assert(response_of(dns_reply_finish(&r)).header.flags & DNS_AD);

	q.flags = 0;
	q.edns = (struct dns_edns){.present = true, .dnssec_ok = true, .payload = 1232};
	dns_reply_begin(&r, buf, sizeof buf, &q, 0);
	dns_reply_stored(&r, kept);
	back = response_of(dns_reply_finish(&r));
	ck_assert(back.header.flags & DNS_AD);
	ck_assert_uint_eq(back.header.count[DNS_ADDITIONAL], 2);
	ck_assert_uint_eq(back.rcode, DNS_NXDOMAIN);
	ck_assert(back.edns.present && back.edns.dnssec_ok);

	dns_reply_begin(&r, buf, kept.n, &q, 0);
	dns_reply_stored(&r, kept);
	back = response_of(dns_reply_finish(&r));
	ck_assert(back.header.flags & DNS_TC);
	ck_assert_uint_eq(back.header.count[DNS_ANSWER], 0);
	ck_assert_uint_eq(back.rcode, DNS_NXDOMAIN);
}
END_TEST

static void ck_ttls(struct span message, const uint32_t *ttls)
{
	struct dns_rrs it;
	struct dns_rr rr;

	ck_assert_int_eq(dns_rrs_init(&it, message), E_OK);
	while (dns_rr_next(&it, &rr))
		ck_assert_uint_eq(rr.ttl, *ttls++);
	ck_assert_int_eq(it.r.err, E_OK);
}
#define CK_TTLS(m, ...) ck_ttls(SENT(m), (const uint32_t[]){__VA_ARGS__})

START_TEST(ageing)
{
	struct msg m, before;

	msg_response(&m, DNS_QR);
	dns_age(m.bytes, m.w.n, 0, 0, UINT32_MAX);
	CK_TTLS(&m, 300, 60, 100, 7, 0x8000, 8);
	dns_age(m.bytes, m.w.n, 50, 0, UINT32_MAX);
	CK_TTLS(&m, 250, 10, 50, 0, 0x8000, 0);
	dns_age(m.bytes, m.w.n, 10, 1, 200);
	CK_TTLS(&m, 200, 1, 40, 1, 0x8000, 1);
	dns_age(m.bytes, m.w.n, UINT32_MAX, 30, 30);
	CK_TTLS(&m, 30, 30, 30, 30, 0x8000, 30);

	MSG(&m, DNS_QR, 1, 1, 0, 0);
	put_question(&m, WEB, DNS_A, DNS_IN);
	put_in(&m, QNAME, DNS_A, 0xffffffff, LIT("\1\2\3\4"));
	dns_age(m.bytes, m.w.n, 1, 0, UINT32_MAX);
	CK_TTLS(&m, 0);

	/* a record that is cut stays as it is */
	before = m;
	dns_age(m.bytes, 20, 1, 9, 9);
	dns_age(m.bytes, m.w.n - 1, 1, 9, 9);
	ck_assert_mem_eq(m.bytes, before.bytes, m.w.n);
}
END_TEST

/* A name may lead into a TTL; ageing reaches the records behind it all the same. */
START_TEST(ageing_under_a_pointer)
{
	struct msg m;
	struct dns_response r;

	MSG(&m, DNS_QR, 1, 3, 0, 0);
	put_question(&m, WEB, DNS_A, DNS_IN);
	put_in(&m, QNAME, DNS_A, 256, LIT("\1\2\3\4"));
	put_in(&m, LIT("\xc0\x2b"), DNS_A, 256, LIT("\1\2\3\4"));
	put_in(&m, QNAME, DNS_A, 256, LIT("\1\2\3\4"));
	ck_assert_int_eq(dns_response_read(SENT(&m), &r), E_OK);
	dns_age(m.bytes, m.w.n, 0, 0, 0xff);
	ck_assert_int_eq(dns_response_read(SENT(&m), &r), E_MALFORMED);
	ck_assert_uint_eq(m.bytes[m.w.n - 7], 0xff);
}
END_TEST

static void response_any(struct span message, void *ctx)
{
	uint8_t copy[512];
	struct dns_response r, bare;
	size_t n;

	(void)ctx;
	ck_assert_uint_le(message.n, sizeof copy);
	memcpy(copy, message.p, message.n);
	dns_age(copy, message.n, 1, 0, 60);
	memcpy(copy, message.p, message.n);
	if (dns_response_read(message, &r) != E_OK || r.header.flags & DNS_TC)
		return;
	n = dns_response_strip(copy, &r);
	bare = response_of(span_of(copy, n));
	ck_assert(!bare.edns.present);
}

START_TEST(response_any_bytes)
{
	struct msg m;

	msg_response(&m, DNS_QR);
	each_cut(SENT(&m), response_any, NULL);
	each_mutation(SENT(&m), response_any, NULL);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {text_names, text_names_refused, text_names_limits, under,
	    reverse_names, reverse_names_refused, wire_names, wire_names_refused, wire_names_limits,
	    wire_names_sticky, query_plain, query_edns, query_dropped, query_formerr_questions,
	    query_formerr_records, query_other_opcodes, query_any_type_and_class, query_any_bytes,
	    reply_address, reply_nxdomain, reply_ptr, reply_truncated, reply_rcodes, records_walked,
	    records_cut, record_data, query_written, response_read, response_refused,
	    response_truncated, response_matching, response_ttl, response_extended_rcode, stripped,
	    stored_replied, ageing, ageing_under_a_pointer, response_any_bytes, NULL};

	return suite_of("dns", tests);
}
