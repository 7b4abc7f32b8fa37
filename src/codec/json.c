#include "codec/json.h"

#include "base/parse.h"
#include "base/utf8.h"

/* What may come next. VALUE has been announced, by a key, by json_item() or by the document itself;
 * an ITEM has not been yet, so that the walk can tell a value that nobody took from one that nobody
 * saw. */
enum expect {
	VALUE,
	ITEM_OR_END,
	ITEM,
	KEY_OR_END,
	KEY,
	NEXT, /* a comma or the end of what is open */
};

struct json json_of(struct span text)
{
	return (struct json){.text = text, .expect = VALUE};
}

void json_fail(struct json *j, enum err err)
{
	if (j->err == E_OK)
		j->err = err;
}

/* For what is not what it should be: at the end of the text, it may only be cut. */
static void unexpected(struct json *j)
{
	json_fail(j, j->at < j->text.n ? E_MALFORMED : E_MORE);
}

static bool in_object(const struct json *j)
{
	return j->depth > 0 && (j->objects >> (j->depth - 1) & 1);
}

static bool in_array(const struct json *j)
{
	return j->depth > 0 && !in_object(j);
}

static bool is_complete(const struct json *j)
{
	return j->depth == 0 && j->expect == NEXT;
}

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Takes the next byte when it is one of these. */
static bool take_byte(struct json *j, const char *bytes)
{
	struct span set = span_str(bytes);

	if (j->err || j->at == j->text.n || span_find(set, j->text.p[j->at]) == set.n)
		return false;
	j->at++;
	return true;
}

static void skip_blanks(struct json *j)
{
	while (j->err == E_OK && j->at < j->text.n && is_blank(j->text.p[j->at]))
		j->at++;
}

/* --- tokens --------------------------------------------------------------- */

static enum json_type type_of(const struct json *j, uint8_t first)
{
	switch (first) {
	case '{': return JSON_OBJECT;
	case '}': return JSON_OBJECT_END;
	case '[': return JSON_ARRAY;
	case ']': return JSON_ARRAY_END;
	case '"': return j->expect == KEY || j->expect == KEY_OR_END ? JSON_KEY : JSON_STRING;
	case 't': return JSON_TRUE;
	case 'f': return JSON_FALSE;
	case 'n': return JSON_NULL;
	case '-': return JSON_NUMBER;
	default: return ascii_digit(first) ? JSON_NUMBER : JSON_END;
	}
}

static bool is_allowed(const struct json *j, enum json_type type)
{
	switch (type) {
	case JSON_END: return false;
	case JSON_KEY: return j->expect == KEY || j->expect == KEY_OR_END;
	case JSON_OBJECT_END: return in_object(j) && (j->expect == KEY_OR_END || j->expect == NEXT);
	case JSON_ARRAY_END: return in_array(j) && (j->expect == ITEM_OR_END || j->expect == NEXT);
	default: return j->expect == VALUE || j->expect == ITEM || j->expect == ITEM_OR_END;
	}
}

static void enter(struct json *j, bool object)
{
	if (j->depth == JSON_DEPTH_MAX) {
		json_fail(j, E_DEPTH);
		return;
	}
	j->at++;
	j->objects &= ~(UINT64_C(1) << j->depth);
	j->objects |= (uint64_t)object << j->depth;
	j->depth++;
	j->expect = object ? KEY_OR_END : ITEM_OR_END;
}
_Static_assert(JSON_DEPTH_MAX <= 64, "a bit of json.objects for each level");

static void leave(struct json *j)
{
	j->at++;
	j->depth--;
	j->expect = NEXT;
}

static void literal(struct json *j, const char *word)
{
	struct span rest = span_from(j->text, j->at);
	struct span want = span_str(word);

	if (span_starts(rest, want)) {
		j->at += want.n;
		j->expect = NEXT;
		return;
	}
	json_fail(j, span_starts(want, rest) ? E_MORE : E_MALFORMED);
}

static void digits(struct json *j)
{
	size_t start = j->at;

	while (j->at < j->text.n && ascii_digit(j->text.p[j->at]))
		j->at++;
	if (j->at == start)
		unexpected(j);
}

static void number(struct json *j)
{
	take_byte(j, "-");
	if (!take_byte(j, "0"))
		digits(j);
	if (take_byte(j, "."))
		digits(j);
	if (take_byte(j, "eE")) {
		take_byte(j, "+-");
		digits(j);
	}
	j->expect = NEXT;
}

static uint32_t hex4(struct rd *r)
{
	uint32_t v = 0;

	for (unsigned i = 0; i < 4; i++) {
		uint64_t digit = 0;

		if (parse_hex_u64(rd_bytes(r, 1), 15, &digit))
			rd_fail(r, E_MALFORMED);
		v = v << 4 | (uint32_t)digit;
	}
	return v;
}

static bool is_high_surrogate(uint32_t v)
{
	return v >= 0xd800 && v <= 0xdbff;
}

static bool is_low_surrogate(uint32_t v)
{
	return v >= 0xdc00 && v <= 0xdfff;
}

/* The code point of \uXXXX, or of the two of them that make a pair, behind the first \u. */
static uint32_t unicode_escape(struct rd *r)
{
	uint32_t high = hex4(r);
	uint32_t low;

	if (is_low_surrogate(high))
		rd_fail(r, E_MALFORMED);
	if (!is_high_surrogate(high))
		return high;
	if (rd_u8(r) != '\\' || rd_u8(r) != 'u')
		rd_fail(r, E_MALFORMED);
	low = hex4(r);
	if (!is_low_surrogate(low))
		rd_fail(r, E_MALFORMED);
	return 0x10000 + ((high & 0x3ff) << 10 | (low & 0x3ff));
}

/* The code point of an escape, behind its backslash. */
static uint32_t escape(struct rd *r)
{
	uint8_t c = rd_u8(r);

	switch (c) {
	case '"':
	case '\\':
	case '/': return c;
	case 'b': return '\b';
	case 'f': return '\f';
	case 'n': return '\n';
	case 'r': return '\r';
	case 't': return '\t';
	case 'u': return unicode_escape(r);
	default: rd_fail(r, E_MALFORMED); return 0;
	}
}

/* How many bytes at the front stand for themselves in a string: all but quotes, backslashes,
 * control bytes and what is not UTF-8. */
static size_t plain_run(struct span s)
{
	size_t n = 0;
	uint32_t cp;

	while (n < s.n) {
		uint8_t c = s.p[n];
		size_t step = c < 0x80 ? 1 : utf8_get(span_from(s, n), &cp);

		if (c < 0x20 || c == '"' || c == '\\' || step == 0)
			break;
		n += step;
	}
	return n;
}

/* Passes an escape or says what is wrong here. */
static void string_special(struct json *j)
{
	struct span rest = span_from(j->text, j->at);
	struct rd r = rd_of(rest);

	if (rest.n == 0 || rest.p[0] < 0x20) {
		unexpected(j);
	} else if (rest.p[0] == '\\') {
		rd_u8(&r);
		escape(&r);
		json_fail(j, r.err);
		j->at += r.at;
	} else {
		/* without a quote to come, the text is cut, perhaps inside this character */
		json_fail(j, span_find(rest, '"') < rest.n ? E_UTF8 : E_MORE);
	}
}

/* Reads a string, checks all of it, and gives the view of what is between the quotes. */
static void string(struct json *j, struct json_token *t)
{
	size_t start = ++j->at;

	while (j->err == E_OK) {
		j->at += plain_run(span_from(j->text, j->at));
		t->text = span_of(j->text.p + start, j->at - start);
		if (take_byte(j, "\""))
			break;
		t->escaped = true;
		string_special(j);
	}
	j->expect = NEXT;
}

static void key(struct json *j, struct json_token *t)
{
	string(j, t);
	skip_blanks(j);
	if (!take_byte(j, ":"))
		unexpected(j);
	j->expect = VALUE;
}

enum json_type json_peek(struct json *j)
{
	if (j->err || is_complete(j))
		return JSON_END;
	skip_blanks(j);
	if (j->expect == NEXT && take_byte(j, ",")) {
		j->expect = in_object(j) ? KEY : ITEM;
		skip_blanks(j);
	}
	return j->at < j->text.n ? type_of(j, j->text.p[j->at]) : JSON_END;
}

static void token(struct json *j, struct json_token *t)
{
	size_t start = j->at;

	switch (t->type) {
	case JSON_OBJECT: enter(j, true); break;
	case JSON_ARRAY: enter(j, false); break;
	case JSON_OBJECT_END:
	case JSON_ARRAY_END: leave(j); break;
	case JSON_KEY: key(j, t); return;
	case JSON_STRING: string(j, t); return;
	case JSON_TRUE: literal(j, "true"); break;
	case JSON_FALSE: literal(j, "false"); break;
	case JSON_NULL: literal(j, "null"); break;
	default: number(j); break;
	}
	t->text = span_of(j->text.p + start, j->at - start);
}

struct json_token json_next(struct json *j)
{
	const struct json_token none = {.type = JSON_END};
	struct json_token t = {.type = json_peek(j)};

	if (j->err || is_complete(j))
		return none;
	if (is_allowed(j, t.type))
		token(j, &t);
	else
		unexpected(j);
	return j->err ? none : t;
}

enum err json_end(struct json *j)
{
	if (j->err)
		return j->err;
	skip_blanks(j);
	if (!is_complete(j) || j->at < j->text.n)
		unexpected(j);
	return j->err;
}

/* --- the walk ------------------------------------------------------------- */

/* Takes a value of this type; the reader fails in front of any other. */
static bool take(struct json *j, enum json_type type, struct json_token *out)
{
	struct json_token t;

	if (json_peek(j) != type) {
		unexpected(j);
		return false;
	}
	t = json_next(j);
	if (j->err)
		return false;
	*out = t;
	return true;
}

bool json_object(struct json *j)
{
	struct json_token t;

	return take(j, JSON_OBJECT, &t);
}

bool json_array(struct json *j)
{
	struct json_token t;

	return take(j, JSON_ARRAY, &t);
}

bool json_key(struct json *j, struct json_token *out)
{
	struct json_token t;

	if (!in_object(j))
		json_fail(j, E_MALFORMED);
	if (j->expect == VALUE)
		json_skip(j);
	t = json_next(j);
	if (t.type != JSON_KEY)
		return false;
	*out = t;
	return true;
}

bool json_item(struct json *j)
{
	enum json_type type;

	if (!in_array(j))
		json_fail(j, E_MALFORMED);
	if (j->expect == VALUE)
		json_skip(j);
	type = json_peek(j);
	if (type == JSON_ARRAY_END || !is_allowed(j, type)) {
		json_next(j);
		return false;
	}
	j->expect = VALUE;
	return true;
}

bool json_take_string(struct json *j, struct json_token *out)
{
	return take(j, JSON_STRING, out);
}

bool json_take_bool(struct json *j, bool *out)
{
	bool is_true = json_peek(j) == JSON_TRUE;
	struct json_token t;

	if (!take(j, is_true ? JSON_TRUE : JSON_FALSE, &t))
		return false;
	*out = is_true;
	return true;
}

bool json_take_u64(struct json *j, uint64_t min, uint64_t max, uint64_t *out)
{
	struct json_token t;

	if (!take(j, JSON_NUMBER, &t))
		return false;
	json_fail(j, json_u64(&t, min, max, out));
	return j->err == E_OK;
}

bool json_take_i64(struct json *j, int64_t min, int64_t max, int64_t *out)
{
	struct json_token t;

	if (!take(j, JSON_NUMBER, &t))
		return false;
	json_fail(j, json_i64(&t, min, max, out));
	return j->err == E_OK;
}

bool json_take_cstr(struct json *j, char *buf, size_t cap)
{
	struct json_token t;

	if (!json_take_string(j, &t))
		return false;
	json_fail(j, json_cstr(&t, buf, cap));
	return j->err == E_OK;
}

bool json_null(struct json *j)
{
	struct json_token t;

	return json_peek(j) == JSON_NULL && take(j, JSON_NULL, &t);
}

struct span json_skip(struct json *j)
{
	enum json_type type = json_peek(j);
	unsigned depth = j->depth;
	size_t start = j->at;

	if (type == JSON_KEY || type == JSON_OBJECT_END || type == JSON_ARRAY_END)
		json_fail(j, E_MALFORMED);
	do
		json_next(j);
	while (j->err == E_OK && j->depth > depth);
	return j->err ? span_of(NULL, 0) : span_of(j->text.p + start, j->at - start);
}

/* --- strings and numbers -------------------------------------------------- */

/* The next piece of a string's text: a view up to the next escape, or what the escape stands for,
 * put into `scratch`. */
static struct span piece(struct rd *r, uint8_t scratch[UTF8_MAX])
{
	size_t n = span_find(span_of(r->p + r->at, rd_left(r)), '\\');

	if (n > 0)
		return rd_bytes(r, n);
	rd_u8(r);
	return span_of(scratch, utf8_put(escape(r), scratch));
}

static bool is_text(const struct json_token *t)
{
	return t->type == JSON_KEY || t->type == JSON_STRING;
}

bool json_is(const struct json_token *t, const char *text)
{
	struct rd r = rd_of(t->text);
	struct span left = span_str(text);
	uint8_t scratch[UTF8_MAX];

	if (!is_text(t))
		return false;
	while (rd_left(&r)) {
		struct span p = piece(&r, scratch);

		if (!span_starts(left, p))
			return false;
		left = span_from(left, p.n);
	}
	return left.n == 0;
}

enum err json_string(const struct json_token *t, struct wr *w)
{
	struct rd r = rd_of(t->text);
	uint8_t scratch[UTF8_MAX];

	if (!is_text(t))
		wr_fail(w, E_MALFORMED);
	while (w->err == E_OK && rd_left(&r))
		wr_bytes(w, piece(&r, scratch));
	return w->err;
}

enum err json_cstr(const struct json_token *t, char *buf, size_t cap)
{
	struct wr w = wr_of(buf, cap);

	json_string(t, &w);
	wr_nul(&w);
	if (w.err == E_OK && span_find(wr_span(&w), '\0') < w.n)
		wr_fail(&w, E_MALFORMED);
	if (w.err && cap)
		buf[0] = '\0';
	return w.err;
}

enum err json_u64(const struct json_token *t, uint64_t min, uint64_t max, uint64_t *out)
{
	return t->type == JSON_NUMBER ? parse_u64(t->text, min, max, out) : E_MALFORMED;
}

enum err json_i64(const struct json_token *t, int64_t min, int64_t max, int64_t *out)
{
	return t->type == JSON_NUMBER ? parse_i64(t->text, min, max, out) : E_MALFORMED;
}

/* --- streams -------------------------------------------------------------- */

enum scan_state {
	SCAN_BEFORE, /* blanks before the document */
	SCAN_INSIDE,
	SCAN_STRING,
	SCAN_ESCAPE,
	SCAN_LITERAL, /* a number or a word at the top */
};

static enum err scan_structure(struct json_scan *s, uint8_t c)
{
	if (c == '"') {
		s->state = SCAN_STRING;
	} else if (c == '{' || c == '[') {
		if (s->depth == JSON_DEPTH_MAX)
			return E_DEPTH;
		s->depth++;
		s->state = SCAN_INSIDE;
	} else if (c == '}' || c == ']') {
		s->depth--;
		return s->depth ? E_MORE : E_OK;
	}
	return E_MORE;
}

static enum err scan_start(struct json_scan *s, uint8_t c)
{
	if (is_blank(c))
		return E_MORE;
	if (c == '{' || c == '[' || c == '"')
		return scan_structure(s, c);
	if (c != '-' && c != 't' && c != 'f' && c != 'n' && !ascii_digit(c))
		return E_MALFORMED;
	s->state = SCAN_LITERAL;
	return E_MORE;
}

/* E_OK when the document ends with this byte, E_MORE when it goes on. */
static enum err scan_byte(struct json_scan *s, uint8_t c)
{
	switch (s->state) {
	case SCAN_BEFORE: return scan_start(s, c);
	case SCAN_INSIDE: return scan_structure(s, c);
	case SCAN_ESCAPE: s->state = SCAN_STRING; return E_MORE;
	case SCAN_STRING:
		if (c == '\\')
			s->state = SCAN_ESCAPE;
		if (c != '"')
			return E_MORE;
		s->state = SCAN_INSIDE;
		return s->depth ? E_MORE : E_OK;
	default: return E_MORE;
	}
}

static bool ends_literal(uint8_t c)
{
	const struct span enders = SPAN_LIT("{}[]:,\"");

	return is_blank(c) || span_find(enders, c) < enders.n;
}

static enum err scan_found(struct json_scan *scan, size_t n, size_t *used)
{
	*scan = (struct json_scan){0};
	*used = n;
	return E_OK;
}

enum err json_scan_value(struct json_scan *scan, struct span in, size_t *used)
{
	struct json_scan s = *scan;

	for (; s.at < in.n; s.at++) {
		uint8_t c = in.p[s.at];
		enum err err;

		if (s.state == SCAN_LITERAL && ends_literal(c))
			return scan_found(scan, s.at, used);
		err = scan_byte(&s, c);
		if (err == E_OK)
			return scan_found(scan, s.at + 1, used);
		if (err != E_MORE)
			return err;
	}
	*scan = s;
	return E_MORE;
}

/* --- the writer ----------------------------------------------------------- */

/* Before a value or a key: the comma that it needs. */
static void begin(struct json_writer *jw)
{
	if (jw->comma)
		wr_u8(jw->w, ',');
	jw->comma = true;
}

static void put_open(struct json_writer *jw, uint8_t bracket)
{
	begin(jw);
	wr_u8(jw->w, bracket);
	jw->comma = false;
}

static void put_close(struct json_writer *jw, uint8_t bracket)
{
	wr_u8(jw->w, bracket);
	jw->comma = true;
}

void json_put_object(struct json_writer *jw)
{
	put_open(jw, '{');
}

void json_put_object_end(struct json_writer *jw)
{
	put_close(jw, '}');
}

void json_put_array(struct json_writer *jw)
{
	put_open(jw, '[');
}

void json_put_array_end(struct json_writer *jw)
{
	put_close(jw, ']');
}

static void put_control(struct wr *w, uint8_t c)
{
	static const char hex[] = "0123456789abcdef";

	switch (c) {
	case '\b': wr_str(w, "\\b"); break;
	case '\f': wr_str(w, "\\f"); break;
	case '\n': wr_str(w, "\\n"); break;
	case '\r': wr_str(w, "\\r"); break;
	case '\t': wr_str(w, "\\t"); break;
	default:
		wr_str(w, "\\u00");
		wr_u8(w, (uint8_t)hex[c >> 4]);
		wr_u8(w, (uint8_t)hex[c & 15]);
	}
}

/* A byte that plain_run() stops at. */
static void put_special(struct wr *w, uint8_t c)
{
	uint8_t replacement[UTF8_MAX];

	if (c >= 0x80) {
		wr_bytes(w, span_of(replacement, utf8_put(UTF8_REPLACEMENT, replacement)));
	} else if (c < 0x20) {
		put_control(w, c);
	} else {
		wr_u8(w, '\\');
		wr_u8(w, c);
	}
}

static void put_quoted(struct wr *w, struct span text)
{
	wr_u8(w, '"');
	while (text.n) {
		size_t n = plain_run(text);

		wr_bytes(w, span_first(text, n));
		text = span_from(text, n);
		if (text.n) {
			put_special(w, text.p[0]);
			text = span_from(text, 1);
		}
	}
	wr_u8(w, '"');
}

void json_put_key_span(struct json_writer *jw, struct span text)
{
	begin(jw);
	put_quoted(jw->w, text);
	wr_u8(jw->w, ':');
	jw->comma = false;
}

void json_put_key(struct json_writer *jw, const char *text)
{
	json_put_key_span(jw, span_str(text));
}

void json_put_string(struct json_writer *jw, struct span text)
{
	begin(jw);
	put_quoted(jw->w, text);
}

void json_put_str(struct json_writer *jw, const char *text)
{
	json_put_string(jw, span_str(text));
}

void json_put_u64(struct json_writer *jw, uint64_t v)
{
	begin(jw);
	wr_dec(jw->w, v);
}

void json_put_i64(struct json_writer *jw, int64_t v)
{
	begin(jw);
	if (v < 0)
		wr_u8(jw->w, '-');
	wr_dec(jw->w, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

void json_put_bool(struct json_writer *jw, bool v)
{
	begin(jw);
	wr_str(jw->w, v ? "true" : "false");
}

void json_put_null(struct json_writer *jw)
{
	begin(jw);
	wr_str(jw->w, "null");
}

void json_put_double(struct json_writer *jw, double v)
{
	uint64_t thousandths;

	if (!(v > -1e15 && v < 1e15)) { /* which no NaN is either */
		json_put_null(jw);
		return;
	}
	thousandths = (uint64_t)((v < 0 ? -v : v) * 1000 + 0.5);
	begin(jw);
	if (v < 0 && thousandths)
		wr_u8(jw->w, '-');
	wr_dec(jw->w, thousandths / 1000);
	wr_u8(jw->w, '.');
	for (uint64_t unit = 100; unit; unit /= 10)
		wr_u8(jw->w, (uint8_t)('0' + thousandths / unit % 10));
}
