#include "codec/http1.h"

#include "base/parse.h"

const struct http1_limits http1_default_limits = {.head_bytes = 32768, .fields = 100};

/* RFC 9110 section 5.6.2: what names and methods are made of. */
static bool is_token_char(uint8_t c)
{
	const struct span marks = SPAN_LIT("!#$%&'*+-.^_`|~");
	uint8_t lower = ascii_lower(c);

	return (lower >= 'a' && lower <= 'z') || ascii_digit(c) || span_find(marks, c) < marks.n;
}

static bool is_token(struct span s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!is_token_char(s.p[i]))
			return false;
	return s.n > 0;
}

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

/* What no value may hold. Bytes from 0x80 on are opaque. */
static bool is_control(uint8_t c)
{
	return (c < 0x20 && c != '\t') || c == 0x7f;
}

/* --- the head --------------------------------------------------------------- */

/* The text of the next line without its CRLF; fails on every other control byte. */
static struct span line(struct rd *r)
{
	struct span rest = span_of(r->p + r->at, rd_left(r));
	struct span text, crlf;
	size_t n = 0;

	while (n < rest.n && !is_control(rest.p[n]))
		n++;
	text = rd_bytes(r, n);
	if (n < rest.n && rest.p[n] != '\r')
		rd_fail(r, E_MALFORMED);
	crlf = rd_bytes(r, 2);
	if (crlf.n && crlf.p[1] != '\n')
		rd_fail(r, E_MALFORMED);
	return r->err ? span_of(NULL, 0) : text;
}

/* "HTTP/1.1 200 OK" (RFC 9112 section 4). The blank in front of an empty reason is left out by many
 * a server; it decides nothing. */
static enum err status_line(struct span text, struct http1_head *head)
{
	const struct span protocol = SPAN_LIT("HTTP/1.");
	struct rd r = rd_of(text);
	uint64_t minor, status;

	if (!span_eq(rd_bytes(&r, protocol.n), protocol) ||
	    parse_u64(rd_bytes(&r, 1), 0, 9, &minor) || rd_u8(&r) != ' ' ||
	    parse_u64(rd_bytes(&r, 3), 100, 599, &status))
		return E_MALFORMED;
	if (rd_left(&r) && rd_u8(&r) != ' ')
		return E_MALFORMED;
	head->minor = minor ? 1 : 0;
	head->status = (unsigned)status;
	head->reason = rd_rest(&r);
	return E_OK;
}

/* What the fields say about framing and the connection. */
struct told {
	bool chunked;
	bool has_length;
	uint64_t length;
	bool close;
	bool keep_alive;
};

/* A list of lengths, or several such fields, are one length if they agree (RFC 9112 section 6.3).
 */
static enum err told_length(struct told *told, struct span list)
{
	do {
		struct span item = span_trim(span_split(&list, ','));
		uint64_t length;
		enum err err = parse_u64(item, 0, UINT64_MAX, &length);

		if (err)
			return err;
		if (told->has_length && told->length != length)
			return E_MALFORMED;
		told->has_length = true;
		told->length = length;
	} while (list.p);
	return E_OK;
}

static enum err told_coding(struct told *told, struct span list)
{
	const struct span chunked = SPAN_LIT("chunked");

	if (told->chunked || !span_eq_nocase(list, chunked))
		return E_MALFORMED;
	told->chunked = true;
	return E_OK;
}

static void told_connection(struct told *told, struct span list)
{
	const struct span close = SPAN_LIT("close");
	const struct span keep_alive = SPAN_LIT("keep-alive");

	while (list.n) {
		struct span item = span_trim(span_split(&list, ','));

		told->close |= span_eq_nocase(item, close);
		told->keep_alive |= span_eq_nocase(item, keep_alive);
	}
}

static enum err told_by_field(struct told *told, const struct http1_field *field)
{
	const struct span length = SPAN_LIT("Content-Length");
	const struct span coding = SPAN_LIT("Transfer-Encoding");
	const struct span connection = SPAN_LIT("Connection");

	if (span_eq_nocase(field->name, length))
		return told_length(told, field->value);
	if (span_eq_nocase(field->name, coding))
		return told_coding(told, field->value);
	if (span_eq_nocase(field->name, connection))
		told_connection(told, field->value);
	return E_OK;
}

/* A line that starts with a blank (obs-fold) and a blank before the colon leave no token for a
 * name. */
static enum err field_line(struct span text, struct http1_field *out)
{
	size_t colon = span_find(text, ':');
	struct span name = span_first(text, colon);

	if (colon == text.n || !is_token(name))
		return E_MALFORMED;
	*out = (struct http1_field){name, span_trim(span_from(text, colon + 1))};
	return E_OK;
}

static enum err field_lines(struct rd *r, size_t limit, struct told *told, struct span *fields)
{
	size_t start = r->at;

	for (size_t count = 0;; count++) {
		size_t end = r->at;
		struct span text = line(r);
		struct http1_field field;
		enum err err;

		if (r->err)
			return r->err;
		if (text.n == 0) {
			*fields = span_of(r->p + start, end - start);
			return E_OK;
		}
		if (count == limit)
			return E_LIMIT;
		err = field_line(text, &field);
		if (!err)
			err = told_by_field(told, &field);
		if (err)
			return err;
	}
}

/* RFC 9112 section 6.3, in its order. */
static enum http1_framing framing(unsigned status, bool head_request, const struct told *told)
{
	if (status == 101)
		return HTTP1_UPGRADE;
	if (head_request || status < 200 || status == 204 || status == 304)
		return HTTP1_NO_BODY;
	if (told->chunked)
		return HTTP1_CHUNKED;
	return told->has_length ? HTTP1_LENGTH : HTTP1_UNTIL_CLOSE;
}

static enum err conclude(struct http1_head *head, bool head_request, const struct told *told)
{
	if (told->chunked && (told->has_length || head->minor == 0))
		return E_MALFORMED;
	head->framing = framing(head->status, head_request, told);
	head->length = head->framing == HTTP1_LENGTH ? told->length : 0;
	head->interim = head->status < 200 && head->status != 101;
	head->keep_alive = !told->close && (head->minor > 0 || told->keep_alive) &&
	    head->framing != HTTP1_UNTIL_CLOSE && head->framing != HTTP1_UPGRADE;
	head->content_type = http1_field_find(head, "Content-Type");
	return E_OK;
}

enum err http1_head_read(struct span in, const struct http1_limits *limits, bool head_request,
    struct http1_head *out, size_t *used)
{
	struct rd r = rd_of(span_first(in, limits->head_bytes));
	struct http1_head head = {0};
	struct told told = {0};
	struct span first = line(&r);
	enum err err = r.err;

	if (!err)
		err = status_line(first, &head);
	if (!err)
		err = field_lines(&r, limits->fields, &told, &head.fields);
	if (!err)
		err = conclude(&head, head_request, &told);
	if (err == E_MORE && in.n >= limits->head_bytes)
		return E_LIMIT;
	if (err)
		return err;
	*out = head;
	*used = r.at;
	return E_OK;
}

bool http1_field_next(struct span *fields, struct http1_field *out)
{
	size_t n = span_find(*fields, '\r');

	if (fields->n == 0 || field_line(span_first(*fields, n), out))
		return false;
	*fields = span_from(*fields, n + 2);
	return true;
}

struct span http1_field_find(const struct http1_head *head, const char *name)
{
	struct span rest = head->fields;
	struct http1_field field;

	while (http1_field_next(&rest, &field))
		if (span_eq_nocase(field.name, span_str(name)))
			return field.value;
	return span_of(NULL, 0);
}

/* --- the body --------------------------------------------------------------- */

/* From CHUNK_SIZE on, the next byte is framing (RFC 9112 section 7.1). */
enum body_state {
	DONE,
	SIZED,
	UNTIL_CLOSE,
	CHUNK_DATA,
	CHUNK_SIZE,
	CHUNK_SIZE_BLANK,
	CHUNK_EXT,
	CHUNK_LINE_LF,
	CHUNK_DATA_CR,
	CHUNK_DATA_LF,
	TRAILER, /* at the start of a line */
	TRAILER_NAME,
	TRAILER_VALUE,
	TRAILER_LF,
	LAST_LF,
};

void http1_body_init(struct http1_body *b, const struct http1_head *head)
{
	static const int states[] = {
	    [HTTP1_NO_BODY] = DONE,
	    [HTTP1_LENGTH] = SIZED,
	    [HTTP1_CHUNKED] = CHUNK_SIZE,
	    [HTTP1_UNTIL_CLOSE] = UNTIL_CLOSE,
	    [HTTP1_UPGRADE] = DONE,
	};

	*b = (struct http1_body){.state = states[head->framing], .left = head->length};
	if (b->state == SIZED && b->left == 0)
		b->state = DONE;
}

static enum err chunk_size_byte(struct http1_body *b, uint8_t c)
{
	const uint8_t text[] = {c};
	uint64_t digit;

	if (parse_hex_u64(span_of(text, 1), 15, &digit) == E_OK) {
		if (b->left > UINT64_MAX >> 4)
			return E_RANGE;
		b->left = b->left << 4 | digit;
		return E_OK;
	}
	if (b->line == 1) /* no digit at all */
		return E_MALFORMED;
	if (c == '\r')
		b->state = CHUNK_LINE_LF;
	else if (c == ';')
		b->state = CHUNK_EXT;
	else if (is_blank(c))
		b->state = CHUNK_SIZE_BLANK;
	else
		return E_MALFORMED;
	return E_OK;
}

/* The line before a chunk: its size, then extensions, which mean nothing to us. */
static enum err chunk_line_byte(struct http1_body *b, uint8_t c)
{
	if (b->line == HTTP1_CHUNK_LINE_MAX)
		return E_LIMIT;
	b->line++;
	if (b->state == CHUNK_SIZE)
		return chunk_size_byte(b, c);
	if (b->state == CHUNK_SIZE_BLANK) {
		if (c == ';')
			b->state = CHUNK_EXT;
		return c == ';' || is_blank(c) ? E_OK : E_MALFORMED;
	}
	if (b->state == CHUNK_EXT) {
		if (c == '\r')
			b->state = CHUNK_LINE_LF;
		return c == '\r' || !is_control(c) ? E_OK : E_MALFORMED;
	}
	if (c != '\n')
		return E_MALFORMED;
	b->line = 0;
	b->state = b->left ? CHUNK_DATA : TRAILER;
	return E_OK;
}

/* Trailers are checked as fields are, and dropped. */
static enum err trailer_byte(struct http1_body *b, uint8_t c)
{
	if (b->line == HTTP1_TRAILER_MAX)
		return E_LIMIT;
	b->line++;
	switch (b->state) {
	case TRAILER:
		b->state = c == '\r' ? LAST_LF : TRAILER_NAME;
		return c == '\r' || is_token_char(c) ? E_OK : E_MALFORMED;
	case TRAILER_NAME:
		if (c == ':')
			b->state = TRAILER_VALUE;
		return c == ':' || is_token_char(c) ? E_OK : E_MALFORMED;
	case TRAILER_VALUE:
		if (c == '\r')
			b->state = TRAILER_LF;
		return c == '\r' || !is_control(c) ? E_OK : E_MALFORMED;
	default:
		b->state = b->state == LAST_LF ? DONE : TRAILER;
		return c == '\n' ? E_OK : E_MALFORMED;
	}
}

static enum err framing_byte(struct http1_body *b, uint8_t c)
{
	if (b->state >= TRAILER)
		return trailer_byte(b, c);
	if (b->state == CHUNK_DATA_CR) {
		b->state = CHUNK_DATA_LF;
		return c == '\r' ? E_OK : E_MALFORMED;
	}
	if (b->state == CHUNK_DATA_LF) {
		b->state = CHUNK_SIZE;
		return c == '\n' ? E_OK : E_MALFORMED;
	}
	return chunk_line_byte(b, c);
}

/* Takes what is data off the front of `in`. */
static struct span body_data(struct http1_body *b, struct span in)
{
	struct span data;

	if (b->state == UNTIL_CLOSE)
		return in;
	if (b->state != SIZED && b->state != CHUNK_DATA)
		return span_first(in, 0);
	data = b->left < in.n ? span_first(in, (size_t)b->left) : in;
	b->left -= data.n;
	if (b->left == 0)
		b->state = b->state == SIZED ? DONE : CHUNK_DATA_CR;
	return data;
}

enum err http1_body_read(
    struct http1_body *b, struct span in, size_t *used, struct span *data, bool *end)
{
	size_t at = 0;

	while (at < in.n && b->state >= CHUNK_SIZE && b->err == E_OK)
		b->err = framing_byte(b, in.p[at++]);
	if (b->err)
		return b->err;
	*data = body_data(b, span_from(in, at));
	*used = at + data->n;
	*end = b->state == DONE;
	return E_OK;
}

bool http1_body_eof(const struct http1_body *b)
{
	return b->err == E_OK && (b->state == DONE || b->state == UNTIL_CLOSE);
}

/* --- requests --------------------------------------------------------------- */

/* Visible ASCII and nothing else. */
static bool is_visible(const char *text)
{
	const char *c = text;

	while (*c > ' ' && *c < 0x7f)
		c++;
	return c > text && *c == '\0';
}

static bool is_value(const char *text)
{
	struct span s = span_str(text);

	for (size_t i = 0; i < s.n; i++)
		if (is_control(s.p[i]))
			return false;
	return s.n > 0;
}

static void put_field(struct wr *w, const char *name, const char *value)
{
	wr_str(w, name);
	wr_str(w, ": ");
	wr_str(w, value);
	wr_str(w, "\r\n");
}

void http1_request_write(struct wr *w, const struct http1_request *req)
{
	struct span method = span_str(req->method);
	bool bodiless = span_eq_str(method, "GET") || span_eq_str(method, "HEAD");

	if (!is_token(method) || req->target[0] != '/' || !is_visible(req->target) ||
	    !is_visible(req->host) || (req->content_type && !is_value(req->content_type))) {
		wr_fail(w, E_MALFORMED);
		return;
	}
	wr_bytes(w, method);
	wr_str(w, " ");
	wr_str(w, req->target);
	wr_str(w, " HTTP/1.1\r\n");
	put_field(w, "Host", req->host);
	if (req->content_type)
		put_field(w, "Content-Type", req->content_type);
	if (req->body_bytes || !bodiless) {
		wr_str(w, "Content-Length: ");
		wr_dec(w, req->body_bytes);
		wr_str(w, "\r\n");
	}
	if (!req->keep_alive)
		put_field(w, "Connection", "close");
	wr_str(w, "\r\n");
}
