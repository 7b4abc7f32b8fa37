#include "codec/http1.h"

#include "cases.h"
#include "suite.h"

#include <stdio.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))
#define OK       "HTTP/1.1 200 OK\r\n"

static enum err head_of(const char *text, struct http1_head *head)
{
	size_t used;

	return http1_head_read(span_str(text), &http1_default_limits, false, head, &used);
}

static enum err head_at_page_end(struct span text)
{
	struct guard g = guard_copy(text);
	struct http1_head head;
	size_t used;
	enum err err = http1_head_read(g.s, &http1_default_limits, false, &head, &used);

	guard_free(&g);
	return err;
}

/* --- heads ------------------------------------------------------------------ */

static const char docker_head[] = "HTTP/1.1 200 OK\r\n"
				  "Api-Version: 1.43\r\n"
				  "Content-Type:application/json\r\n"
				  "Docker-Experimental: false\r\n"
				  "Ostype:\t linux \t\r\n"
				  "Empty:\r\n"
				  "Date: Mon, 01 Jan 2024 00:00:00 GMT\r\n"
				  "Transfer-Encoding: Chunked\r\n"
				  "\r\n";

START_TEST(a_head_is_read)
{
	char text[512];
	struct http1_head head;
	size_t used;

	snprintf(text, sizeof text, "%sbody", docker_head);
	ck_assert_int_eq(
	    http1_head_read(span_str(text), &http1_default_limits, false, &head, &used), E_OK);
	ck_assert_uint_eq(used, sizeof docker_head - 1);
	ck_assert_uint_eq(head.minor, 1);
	ck_assert_uint_eq(head.status, 200);
	ck_assert(span_eq_str(head.reason, "OK"));
	ck_assert_int_eq(head.framing, HTTP1_CHUNKED);
	ck_assert(head.keep_alive && !head.interim);
	ck_assert(span_eq_str(head.content_type, "application/json"));
	ck_assert(span_eq_str(http1_field_find(&head, "API-version"), "1.43"));
	ck_assert(span_eq_str(http1_field_find(&head, "ostype"), "linux"));
	ck_assert_ptr_nonnull(http1_field_find(&head, "empty").p);
	ck_assert_uint_eq(http1_field_find(&head, "empty").n, 0);
	ck_assert_ptr_null(http1_field_find(&head, "absent").p);
}
END_TEST

START_TEST(fields_are_walked_in_order)
{
	static const char *const names[] = {"Api-Version", "Content-Type", "Docker-Experimental",
	    "Ostype", "Empty", "Date", "Transfer-Encoding"};
	struct http1_head head;
	struct http1_field field;
	size_t n = 0;

	ck_assert_int_eq(head_of(docker_head, &head), E_OK);
	for (struct span rest = head.fields; http1_field_next(&rest, &field); n++) {
		ck_assert_uint_lt(n, COUNT(names));
		ck_assert(span_eq_str(field.name, names[n]));
	}
	ck_assert_uint_eq(n, COUNT(names));
	ck_assert_int_eq(head_of(OK "\r\n", &head), E_OK);
	ck_assert(!http1_field_next(&head.fields, &field));
}
END_TEST

static void cut_head(struct span cut, void *ctx)
{
	struct http1_head head = {.status = 1};
	size_t used = 7;
	enum err err = http1_head_read(cut, &http1_default_limits, false, &head, &used);
	bool whole = cut.n == sizeof docker_head - 1;

	(void)ctx;
	ck_assert_int_eq(err, whole ? E_OK : E_MORE);
	ck_assert_uint_eq(head.status, whole ? 200 : 1);
	ck_assert_uint_eq(used, whole ? cut.n : 7);
}

static void mutated_head(struct span text, void *ctx)
{
	struct http1_head head;
	size_t used;

	(void)ctx;
	if (http1_head_read(text, &http1_default_limits, false, &head, &used) == E_OK)
		ck_assert_uint_le(used, text.n);
}

START_TEST(a_cut_head_wants_more)
{
	each_cut(span_str(docker_head), cut_head, NULL);
	each_mutation(span_str(docker_head), mutated_head, NULL);
}
END_TEST

START_TEST(status_lines)
{
	static const struct {
		const char *text;
		enum err err;
		unsigned minor, status;
		const char *reason;
	} rows[] = {
	    {"HTTP/1.1 200 OK\r\n\r\n", E_OK, 1, 200, "OK"},
	    {"HTTP/1.0 404 Not Found\r\n\r\n", E_OK, 0, 404, "Not Found"},
	    {"HTTP/1.9 599 \r\n\r\n", E_OK, 1, 599, ""},
	    {"HTTP/1.1 204\r\n\r\n", E_OK, 1, 204, ""},
	    {"HTTP/1.1 500 \xc3\xbc\t!\r\n\r\n", E_OK, 1, 500, "\xc3\xbc\t!"},
	    {"\r\nHTTP/1.1 200 OK\r\n\r\n", E_MALFORMED, 0, 0, ""},
	    {"HTTP/2.0 200 OK\r\n\r\n", E_MALFORMED, 0, 0, ""},
	    {"HTTP/1.x 200 OK\r\n\r\n", E_MALFORMED, 0, 0, ""},
	    {"HTTP/1.10 200 OK\r\n\r\n", E_MALFORMED, 0, 0, ""},
	    {"http/1.1 200 OK\r\n\r\n", E_MALFORMED, 0, 0, ""},
	    {"HTTP/1.1  200 OK\r\n\r\n", E_MALFORMED, 0, 0, ""},
	    {"HTTP/1.1\t200 OK\r\n\r\n", E_MALFORMED, 0, 0, ""},
	    {"HTTP/1.1 20 OK\r\n\r\n", E_MALFORMED, 0, 0, ""},
	    {"HTTP/1.1 2000 OK\r\n\r\n", E_MALFORMED, 0, 0, ""},
	    {"HTTP/1.1 099 OK\r\n\r\n", E_MALFORMED, 0, 0, ""},
	    {"HTTP/1.1 600 OK\r\n\r\n", E_MALFORMED, 0, 0, ""},
	    {"HTTP/1.1 -20 OK\r\n\r\n", E_MALFORMED, 0, 0, ""},
	    {"HTTP/1.1 200OK\r\n\r\n", E_MALFORMED, 0, 0, ""},
	    {"HTTP/1.1 \r\n\r\n", E_MALFORMED, 0, 0, ""},
	    {"HTTP/1.1\r\n\r\n", E_MALFORMED, 0, 0, ""},
	    {"HTTP/1.1 200 a\x01z\r\n\r\n", E_MALFORMED, 0, 0, ""},
	    {"HTTP/1.1 200 a\x7fz\r\n\r\n", E_MALFORMED, 0, 0, ""},
	    {"HTTP/1.1 200 a\rz\r\n\r\n", E_MALFORMED, 0, 0, ""},
	    {"HTTP/1.1 200 OK\n\n", E_MALFORMED, 0, 0, ""},
	    {"GET / HTTP/1.1\r\n\r\n", E_MALFORMED, 0, 0, ""},
	    {"\r\n\r\n", E_MALFORMED, 0, 0, ""},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct http1_head head = {0};
		enum err err = head_of(rows[i].text, &head);

		ck_assert_msg(err == rows[i].err, "%zu: %s", i, err_text((int)err));
		ck_assert_int_eq(head_at_page_end(span_str(rows[i].text)), err);
		ck_assert_uint_eq(head.minor, rows[i].minor);
		ck_assert_uint_eq(head.status, rows[i].status);
		ck_assert(span_eq_str(head.reason, rows[i].reason));
	}
}
END_TEST

START_TEST(field_lines_are_strict)
{
	static const char *const bad[] = {
	    OK "a : b\r\n\r\n",
	    OK " a: b\r\n\r\n",
	    OK "a: b\r\n c\r\n\r\n",
	    OK "a: b\r\n\tc\r\n\r\n",
	    OK ": b\r\n\r\n",
	    OK "a\r\n\r\n",
	    OK "a b: c\r\n\r\n",
	    OK "a(: c\r\n\r\n",
	    OK "\xc3\xbc: c\r\n\r\n",
	    OK "a: b\rc\r\n\r\n",
	    OK "a: b\nc: d\r\n\r\n",
	    OK "a: b\x01\r\n\r\n",
	    OK "a: b\x7f\r\n\r\n",
	    OK "a: b\r\n\rx",
	    OK "a: b\r\n\n",
	};
	struct http1_head head;

	for (size_t i = 0; i < COUNT(bad); i++)
		ck_assert_msg(head_of(bad[i], &head) == E_MALFORMED, "%s", bad[i]);
	ck_assert_int_eq(head_at_page_end(span_of(OK "a: \0\r\n\r\n", sizeof OK + 7)), E_MALFORMED);
	ck_assert_int_eq(head_of(OK "!#$%&'*+-.^_`|~09azAZ: \xff\r\n\r\n", &head), E_OK);
}
END_TEST

static const struct {
	const char *text;
	enum err err;
	enum http1_framing framing;
	uint64_t length;
} framing_rows[] = {
    {OK "\r\n", E_OK, HTTP1_UNTIL_CLOSE, 0},
    {OK "Content-Length: 0\r\n\r\n", E_OK, HTTP1_LENGTH, 0},
    {OK "content-length:42\r\n\r\n", E_OK, HTTP1_LENGTH, 42},
    {OK "Content-Length: 18446744073709551615\r\n\r\n", E_OK, HTTP1_LENGTH, UINT64_MAX},
    {OK "Content-Length: 42\r\nContent-Length: 42\r\n\r\n", E_OK, HTTP1_LENGTH, 42},
    {OK "Content-Length: 42, 42\r\n\r\n", E_OK, HTTP1_LENGTH, 42},
    {OK "Transfer-Encoding: chunked\r\n\r\n", E_OK, HTTP1_CHUNKED, 0},
    {"HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n", E_OK, HTTP1_NO_BODY, 0},
    {"HTTP/1.1 304 No\r\nTransfer-Encoding: chunked\r\n\r\n", E_OK, HTTP1_NO_BODY, 0},
    {"HTTP/1.1 100 Go\r\n\r\n", E_OK, HTTP1_NO_BODY, 0},
    {"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\n", E_OK, HTTP1_UPGRADE, 0},
    {OK "Content-Length: 18446744073709551616\r\n\r\n", E_RANGE, 0, 0},
    {OK "Content-Length: 42\r\nContent-Length: 43\r\n\r\n", E_MALFORMED, 0, 0},
    {OK "Content-Length: 42, 43\r\n\r\n", E_MALFORMED, 0, 0},
    {OK "Content-Length: 42,\r\n\r\n", E_MALFORMED, 0, 0},
    {OK "Content-Length:\r\n\r\n", E_MALFORMED, 0, 0},
    {OK "Content-Length: -1\r\n\r\n", E_MALFORMED, 0, 0},
    {OK "Content-Length: +1\r\n\r\n", E_MALFORMED, 0, 0},
    {OK "Content-Length: 0x10\r\n\r\n", E_MALFORMED, 0, 0},
    {OK "Content-Length: 1 2\r\n\r\n", E_MALFORMED, 0, 0},
    {OK "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", E_MALFORMED, 0, 0},
    {OK "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", E_MALFORMED, 0, 0},
    {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", E_MALFORMED, 0, 0},
    {OK "Transfer-Encoding: gzip\r\n\r\n", E_MALFORMED, 0, 0},
    {OK "Transfer-Encoding: identity\r\n\r\n", E_MALFORMED, 0, 0},
    {OK "Transfer-Encoding: chunked, gzip\r\n\r\n", E_MALFORMED, 0, 0},
    {OK "Transfer-Encoding: gzip, chunked\r\n\r\n", E_MALFORMED, 0, 0},
    {OK "Transfer-Encoding: chunked, chunked\r\n\r\n", E_MALFORMED, 0, 0},
    {OK "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", E_MALFORMED, 0, 0},
    {OK "Transfer-Encoding: xchunked\r\n\r\n", E_MALFORMED, 0, 0},
    {OK "Transfer-Encoding: \"chunked\"\r\n\r\n", E_MALFORMED, 0, 0},
    {OK "Transfer-Encoding: chunked;a=b\r\n\r\n", E_MALFORMED, 0, 0},
    {OK "Transfer-Encoding:\r\n\r\n", E_MALFORMED, 0, 0},
};

START_TEST(framing_is_beyond_doubt)
{
	for (size_t i = 0; i < COUNT(framing_rows); i++) {
		struct http1_head head = {0};
		enum err err = head_of(framing_rows[i].text, &head);

		ck_assert_msg(
		    err == framing_rows[i].err, "%s: %s", framing_rows[i].text, err_text((int)err));
		ck_assert_msg(head.framing == framing_rows[i].framing, "%s", framing_rows[i].text);
		ck_assert_uint_eq(head.length, framing_rows[i].length);
	}
}
END_TEST

START_TEST(an_answer_to_head_has_no_body)
{
	struct span text = span_str(OK "Content-Length: 42\r\n\r\n");
	struct http1_head head;
	struct http1_body body;
	struct span data;
	size_t used;
	bool end;

	ck_assert_int_eq(http1_head_read(text, &http1_default_limits, true, &head, &used), E_OK);
	ck_assert_int_eq(head.framing, HTTP1_NO_BODY);
	ck_assert(head.keep_alive);
	http1_body_init(&body, &head);
	ck_assert(http1_body_eof(&body));
	ck_assert_int_eq(http1_body_read(&body, span_str("next"), &used, &data, &end), E_OK);
	ck_assert(end && used == 0 && data.n == 0);
}
END_TEST

START_TEST(connections_are_kept)
{
	static const struct {
		const char *text;
		bool keep_alive;
	} rows[] = {
	    {OK "Content-Length: 1\r\n\r\n", true},
	    {OK "Content-Length: 1\r\nConnection: close\r\n\r\n", false},
	    {OK "Content-Length: 1\r\nConnection: foo, CLOSE\r\n\r\n", false},
	    {OK "Content-Length: 1\r\nConnection: closed\r\n\r\n", true},
	    {OK "Content-Length: 1\r\nConnection:\r\n\r\n", true},
	    {OK "Content-Length: 1\r\nConnection: foo\r\nConnection: close\r\n\r\n", false},
	    {OK "\r\n", false},
	    {OK "Connection: keep-alive\r\n\r\n", false},
	    {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", false},
	    {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: Keep-Alive\r\n\r\n", true},
	    {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive, close\r\n\r\n",
		false},
	    {"HTTP/1.1 204 No\r\n\r\n", true},
	    {"HTTP/1.1 101 Up\r\n\r\n", false},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct http1_head head;

		ck_assert_int_eq(head_of(rows[i].text, &head), E_OK);
		ck_assert_msg(head.keep_alive == rows[i].keep_alive, "%s", rows[i].text);
	}
}
END_TEST

START_TEST(interim_heads_are_told)
{
	struct http1_head head;

	ck_assert_int_eq(head_of("HTTP/1.1 100 Continue\r\n\r\n" OK "\r\n", &head), E_OK);
	ck_assert(head.interim);
	ck_assert_int_eq(head_of("HTTP/1.1 101 UPGRADED\r\n\r\n", &head), E_OK);
	ck_assert(!head.interim);
	ck_assert_int_eq(head_of(OK "\r\n", &head), E_OK);
	ck_assert(!head.interim);
}
END_TEST

static void within_limits(struct span cut, void *ctx)
{
	const struct http1_limits *limits = ctx;
	struct http1_head head;
	size_t used;
	enum err want = cut.n < limits->head_bytes ? E_MORE : E_LIMIT;

	ck_assert_int_eq(http1_head_read(cut, limits, false, &head, &used), want);
}

START_TEST(heads_are_bounded)
{
	struct span text = span_str(docker_head);
	struct http1_limits limits = {.head_bytes = text.n - 1, .fields = 7};
	struct http1_head head;
	size_t used;

	each_cut(text, within_limits, &limits);
	limits.head_bytes = text.n;
	ck_assert_int_eq(http1_head_read(text, &limits, false, &head, &used), E_OK);
	limits.fields = 6;
	ck_assert_int_eq(http1_head_read(text, &limits, false, &head, &used), E_LIMIT);
	limits.fields = 0;
	ck_assert_int_eq(http1_head_read(span_str(OK "\r\n"), &limits, false, &head, &used), E_OK);
}
END_TEST

/* --- bodies ----------------------------------------------------------------- */

/* What came out of a body. */
struct outcome {
	enum err err;
	size_t consumed;
	bool end, eof;
	size_t n;
	uint8_t data[20000];
};

static struct http1_body body_of(enum http1_framing framing, uint64_t length)
{
	const struct http1_head head = {.framing = framing, .length = length};
	struct http1_body body;

	http1_body_init(&body, &head);
	return body;
}

/* Decodes `in` handed over `step` bytes at a time, each piece against a guard page. */
static void decode(struct http1_body body, struct span in, size_t step, struct outcome *o)
{
	memset(o, 0, sizeof *o);
	do {
		struct guard g = guard_copy(span_first(span_from(in, o->consumed), step));
		struct span data = {0};
		size_t used = 0;

		o->err = http1_body_read(&body, g.s, &used, &data, &o->end);
		if (!o->err) {
			ck_assert(used > 0 || o->end || g.s.n == 0);
			ck_assert_uint_le(used, g.s.n);
			ck_assert_uint_le(data.n, used);
			if (data.n)
				memcpy(o->data + o->n, data.p, data.n);
			o->n += data.n;
			o->consumed += used;
		}
		guard_free(&g);
	} while (!o->err && !o->end && o->consumed < in.n);
	o->eof = http1_body_eof(&body);
	if (o->err) /* sticks */
		ck_assert_int_eq(
		    http1_body_read(&body, in, &(size_t){0}, &(struct span){0}, &o->end), o->err);
}

/* The body whole and in pieces of every size gives the same; the outcome is left in a static. */
static const struct outcome *decode_all_ways(struct http1_body body, struct span in)
{
	static struct outcome whole, pieces;

	decode(body, in, in.n, &whole);
	for (size_t step = 1; step < in.n && step <= 64; step++) {
		decode(body, in, step, &pieces);
		ck_assert_int_eq(pieces.err, whole.err);
		ck_assert(span_eq(span_of(pieces.data, pieces.n), span_of(whole.data, whole.n)));
		ck_assert_int_eq(pieces.eof, whole.eof);
		ck_assert(
		    pieces.err || (pieces.end == whole.end && pieces.consumed == whole.consumed));
	}
	return &whole;
}

START_TEST(a_body_by_length)
{
	const struct outcome *o =
	    decode_all_ways(body_of(HTTP1_LENGTH, 5), span_str("helloHTTP/1.1"));

	ck_assert(o->err == E_OK && o->end && o->eof && o->consumed == 5);
	ck_assert(span_eq_str(span_of(o->data, o->n), "hello"));
	o = decode_all_ways(body_of(HTTP1_LENGTH, 6), span_str("hello"));
	ck_assert(o->err == E_OK && !o->end && !o->eof && o->n == 5);
	o = decode_all_ways(body_of(HTTP1_LENGTH, 0), span_str(""));
	ck_assert(o->err == E_OK && o->end && o->eof && o->n == 0);
	o = decode_all_ways(body_of(HTTP1_LENGTH, UINT64_MAX), span_str("hello"));
	ck_assert(o->err == E_OK && !o->end && !o->eof && o->n == 5);
}
END_TEST

START_TEST(a_body_until_close)
{
	const struct outcome *o = decode_all_ways(body_of(HTTP1_UNTIL_CLOSE, 0), span_str("hello"));

	ck_assert(o->err == E_OK && !o->end && o->eof && o->consumed == 5);
	ck_assert(span_eq_str(span_of(o->data, o->n), "hello"));
}
END_TEST

START_TEST(no_body)
{
	static const enum http1_framing framings[] = {HTTP1_NO_BODY, HTTP1_UPGRADE};

	for (size_t i = 0; i < COUNT(framings); i++) {
		const struct outcome *o = decode_all_ways(body_of(framings[i], 0), span_str("raw"));

		ck_assert(o->err == E_OK && o->end && o->eof && o->consumed == 0 && o->n == 0);
	}
}
END_TEST

START_TEST(chunked_bodies)
{
	static const struct {
		const char *text, *want;
		size_t left;
	} rows[] = {
	    {"0\r\n\r\n", "", 0},
	    {"5\r\nhello\r\n0\r\n\r\nHTTP/1.1", "hello", 8},
	    {"5\r\nhello\r\n00A\r\n, world\r\n!\r\n0000\r\n\r\n", "hello, world\r\n!", 0},
	    {"1;a\r\nx\r\n1 ; a=b\r\ny\r\n1\t;\r\nz\r\n0;last=\"x;\xff y\"\r\n\r\n", "xyz", 0},
	    {"0\r\nA: b\r\nLong-Name:\r\nC:d \xff\t\r\n\r\n", "", 0},
	    {"1\r\nx\r\n0\r\nContent-Length: 5\r\n\r\nhello", "x", 5},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct span text = span_str(rows[i].text);
		const struct outcome *o = decode_all_ways(body_of(HTTP1_CHUNKED, 0), text);

		ck_assert_msg(o->err == E_OK && o->end && o->eof, "%s", rows[i].text);
		ck_assert_uint_eq(text.n - o->consumed, rows[i].left);
		ck_assert(span_eq_str(span_of(o->data, o->n), rows[i].want));
	}
}
END_TEST

static void cut_chunks(struct span cut, void *ctx)
{
	const struct outcome *o = decode_all_ways(body_of(HTTP1_CHUNKED, 0), cut);
	bool whole = cut.n == *(const size_t *)ctx;

	ck_assert(o->err == E_OK && o->consumed == cut.n && o->end == whole && o->eof == whole);
}

START_TEST(a_cut_chunked_body_is_no_clean_end)
{
	struct span text = span_str("5;ext=1\r\nhello\r\n3 ;\r\nabc\r\n0\r\nTrailer: x\r\n\r\n");

	each_cut(text, cut_chunks, &text.n);
}
END_TEST

START_TEST(chunks_are_refused)
{
	static const struct {
		const char *text;
		enum err err;
		size_t data;
	} rows[] = {
	    {"\r\n", E_MALFORMED, 0},
	    {";a\r\n", E_MALFORMED, 0},
	    {" 5\r\n", E_MALFORMED, 0},
	    {"-5\r\n", E_MALFORMED, 0},
	    {"+5\r\n", E_MALFORMED, 0},
	    {"0x5\r\n", E_MALFORMED, 0},
	    {"5g\r\n", E_MALFORMED, 0},
	    {"5 \r\n", E_MALFORMED, 0},
	    {"5 5\r\n", E_MALFORMED, 0},
	    {"5\nhello", E_MALFORMED, 0},
	    {"5\rhello", E_MALFORMED, 0},
	    {"5;a\nhello", E_MALFORMED, 0},
	    {"5;\x01\r\n", E_MALFORMED, 0},
	    {"5;\x7f\r\n", E_MALFORMED, 0},
	    {"5\r\nhelloX", E_MALFORMED, 5},
	    {"5\r\nhello\n", E_MALFORMED, 5},
	    {"5\r\nhello\rX", E_MALFORMED, 5},
	    {"5\r\nhello\r\n\r\n", E_MALFORMED, 5},
	    {"0\r\n\n", E_MALFORMED, 0},
	    {"0\r\n\rX", E_MALFORMED, 0},
	    {"0\r\n a: b\r\n", E_MALFORMED, 0},
	    {"0\r\n: b\r\n", E_MALFORMED, 0},
	    {"0\r\na : b\r\n", E_MALFORMED, 0},
	    {"0\r\na\r\n", E_MALFORMED, 0},
	    {"0\r\na: b\x01", E_MALFORMED, 0},
	    {"0\r\na: b\rX", E_MALFORMED, 0},
	    {"0\r\na: b\r\n c\r\n", E_MALFORMED, 0},
	    {"ffffffffffffffff0\r\n", E_RANGE, 0},
	    {"10000000000000000\r\n", E_RANGE, 0},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		const struct outcome *o =
		    decode_all_ways(body_of(HTTP1_CHUNKED, 0), span_str(rows[i].text));

		ck_assert_msg(o->err == rows[i].err, "%s: %s", rows[i].text, err_text((int)o->err));
		ck_assert_uint_eq(o->n, rows[i].data);
		ck_assert(!o->eof);
	}
}
END_TEST

START_TEST(the_largest_chunk_is_taken)
{
	const struct outcome *o =
	    decode_all_ways(body_of(HTTP1_CHUNKED, 0), span_str("FFFFffffFFFFffff\r\nabc"));

	ck_assert(o->err == E_OK && !o->end && !o->eof && o->n == 3);
}
END_TEST

/* `prefix`, `n` times 'a', then `suffix`. */
static struct span padded(const char *prefix, size_t n, const char *suffix)
{
	static uint8_t buf[HTTP1_TRAILER_MAX + 64];
	struct wr w = wr_of(buf, sizeof buf);

	wr_str(&w, prefix);
	for (size_t i = 0; i < n; i++)
		wr_u8(&w, 'a');
	wr_str(&w, suffix);
	ck_assert_int_eq(w.err, E_OK);
	return wr_span(&w);
}

START_TEST(framing_is_bounded)
{
	/* with "0;" and CRLF the line is as long as it may be, then longer by one */
	struct http1_body body = body_of(HTTP1_CHUNKED, 0);
	const struct outcome *o =
	    decode_all_ways(body, padded("0;", HTTP1_CHUNK_LINE_MAX - 4, "\r\n\r\n"));

	ck_assert(o->err == E_OK && o->end);
	o = decode_all_ways(body, padded("0;", HTTP1_CHUNK_LINE_MAX - 3, "\r\n\r\n"));
	ck_assert_int_eq(o->err, E_LIMIT);
	o = decode_all_ways(body, padded("0\r\na:", HTTP1_TRAILER_MAX - 6, "\r\n\r\n"));
	ck_assert(o->err == E_OK && o->end);
	o = decode_all_ways(body, padded("0\r\na:", HTTP1_TRAILER_MAX - 5, "\r\n\r\n"));
	ck_assert_int_eq(o->err, E_LIMIT);
}
END_TEST

START_TEST(every_line_has_its_own_bound)
{
	uint8_t buf[3 * HTTP1_CHUNK_LINE_MAX];
	struct wr w = wr_of(buf, sizeof buf);
	const struct outcome *o;

	for (int i = 0; i < 2; i++) {
		wr_str(&w, "1;");
		for (size_t k = 0; k < HTTP1_CHUNK_LINE_MAX - 4; k++)
			wr_u8(&w, 'e');
		wr_str(&w, "\r\nx\r\n");
	}
	wr_str(&w, "0\r\n\r\n");
	ck_assert_int_eq(w.err, E_OK);
	o = decode_all_ways(body_of(HTTP1_CHUNKED, 0), wr_span(&w));
	ck_assert(o->err == E_OK && o->end && o->n == 2);
}
END_TEST

static void mutated_chunks(struct span text, void *ctx)
{
	(void)ctx;
	decode_all_ways(body_of(HTTP1_CHUNKED, 0), text);
}

START_TEST(mutated_chunks_are_judged_alike)
{
	each_mutation(span_str("3;a=b\r\nabc\r\n0\r\nT: x\r\n\r\n"), mutated_chunks, NULL);
}
END_TEST

/* --- requests --------------------------------------------------------------- */

START_TEST(requests_are_written)
{
	static const struct {
		struct http1_request req;
		const char *want;
	} rows[] = {
	    {{.method = "GET", .target = "/_ping", .host = "localhost", .keep_alive = true},
		"GET /_ping HTTP/1.1\r\nHost: localhost\r\n\r\n"},
	    {{.method = "GET", .target = "/events?filters=%7B%7D", .host = "localhost"},
		"GET /events?filters=%7B%7D HTTP/1.1\r\nHost: localhost\r\nConnection: "
		"close\r\n\r\n"},
	    {{.method = "PUT",
		 .target = "/actions",
		 .host = "localhost",
		 .content_type = "application/json; charset=utf-8",
		 .body_bytes = 31,
		 .keep_alive = true},
		"PUT /actions HTTP/1.1\r\nHost: localhost\r\n"
		"Content-Type: application/json; charset=utf-8\r\nContent-Length: 31\r\n\r\n"},
	    {{.method = "POST", .target = "/", .host = "h:1", .keep_alive = true},
		"POST / HTTP/1.1\r\nHost: h:1\r\nContent-Length: 0\r\n\r\n"},
	    {{.method = "HEAD", .target = "/", .host = "h", .keep_alive = true},
		"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		size_t want = strlen(rows[i].want);

		for (size_t cap = 0; cap <= want + 1; cap++) {
			char buf[256];
			struct wr w = wr_of(buf, cap);

			http1_request_write(&w, &rows[i].req);
			ck_assert_int_eq(w.err, cap < want ? E_SPACE : E_OK);
			ck_assert(w.err || span_eq_str(wr_span(&w), rows[i].want));
		}
	}
}
END_TEST

START_TEST(requests_cannot_be_split)
{
	static const char *const bad[] = {
	    "", "a b", "a\rb", "a\nb", "a\r\nX: y", "a\tb", "a\x7f", "a\x01"};
	const struct http1_request good = {
	    .method = "GET", .target = "/", .host = "h", .content_type = "t"};

	for (size_t i = 0; i < COUNT(bad); i++) {
		char target[16], buf[128];
		struct http1_request reqs[4] = {good, good, good, good};

		snprintf(target, sizeof target, "/%s", bad[i]);
		reqs[0].method = bad[i];
		reqs[1].target = i ? target : "";
		reqs[2].host = bad[i];
		reqs[3].content_type = bad[i];
		for (size_t k = 0; k < COUNT(reqs); k++) {
			struct wr w = wr_of(buf, sizeof buf);
			bool fine =
			    k == 3 && (strcmp(bad[i], "a b") == 0 || strcmp(bad[i], "a\tb") == 0);

			http1_request_write(&w, &reqs[k]);
			ck_assert_msg(w.err == (fine ? E_OK : E_MALFORMED), "%zu %zu", i, k);
			ck_assert(fine || w.n == 0);
		}
	}
}
END_TEST

START_TEST(targets_are_ascii_paths)
{
	static const char *const bad[] = {"_ping", "http://h/", "*", "/\xc3\xbc", "/\x80"};

	for (size_t i = 0; i < COUNT(bad); i++) {
		char buf[128];
		struct wr w = wr_of(buf, sizeof buf);

		http1_request_write(
		    &w, &(struct http1_request){.method = "GET", .target = bad[i], .host = "h"});
		ck_assert_msg(w.err == E_MALFORMED, "%s", bad[i]);
	}
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {a_head_is_read, fields_are_walked_in_order,
	    a_cut_head_wants_more, status_lines, field_lines_are_strict, framing_is_beyond_doubt,
	    an_answer_to_head_has_no_body, connections_are_kept, interim_heads_are_told,
	    heads_are_bounded, a_body_by_length, a_body_until_close, no_body, chunked_bodies,
	    a_cut_chunked_body_is_no_clean_end, chunks_are_refused, the_largest_chunk_is_taken,
	    framing_is_bounded, every_line_has_its_own_bound, mutated_chunks_are_judged_alike,
	    requests_are_written, requests_cannot_be_split, targets_are_ascii_paths, NULL};

	return suite_of("http1", tests);
}
