#include "codec/toml.h"

#include "base/parse.h"
#include "base/utf8.h"

/* What may come next. */
enum expect {
	LINE,         /* a header, or a key */
	LINE_END,     /* a comment at most */
	VALUE,        /* of a key */
	ITEM_OR_END,  /* of an array */
	NEXT_ITEM,    /* a comma, or its end */
	FIELD_OR_END, /* of an inline table */
	FIELD,
	NEXT_FIELD,
};

void toml_fail(struct toml *t, enum err err, const char *problem)
{
	if (t->err)
		return;
	t->err = err;
	t->problem = problem;
}

static void cut(struct toml *t)
{
	toml_fail(t, E_MORE, "the file ends too early");
}

/* For what is not as it should be: at the end of the document, it is only missing. */
static void unexpected(struct toml *t, const char *problem)
{
	if (t->at < t->text.n)
		toml_fail(t, E_MALFORMED, problem);
	else
		cut(t);
}

/* --- characters ---------------------------------------------------------------------------------
 */

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

static bool is_space(uint8_t c)
{
	return is_blank(c) || c == '\n' || c == '\r';
}

static bool is_bare(uint8_t c)
{
	uint8_t lower = ascii_lower(c);
	return (lower >= 'a' && lower <= 'z') || ascii_digit(c) || c == '_' || c == '-';
}

static struct span rest_of(const struct toml *t)
{
	return span_from(t->text, t->at);
}

static bool is_next(const struct toml *t, const char *text)
{
	return t->err == E_OK && span_starts(rest_of(t), span_str(text));
}

static bool take(struct toml *t, const char *text)
{
	bool is = is_next(t, text);

	t->at += is ? strlen(text) : 0;
	return is;
}

static void skip_blanks(struct toml *t)
{
	while (t->at < t->text.n && is_blank(t->text.p[t->at]))
		t->at++;
}

static void skip_comment(struct toml *t)
{
	if (is_next(t, "#"))
		t->at += span_find(rest_of(t), '\n');
}

/* To what is neither blank nor comment, on this line or a later one. */
static void skip_lines(struct toml *t)
{
	skip_comment(t);
	while (t->at < t->text.n && is_space(t->text.p[t->at])) {
		t->at++;
		skip_comment(t);
	}
}

/* Everywhere the same, so that nothing below has to look for it: tabs and line ends are the only
 * control characters, a carriage return stands before a line feed only, all is UTF-8. */
static void check_text(struct toml *t)
{
	while (t->err == E_OK && t->token < t->text.n) {
		struct span rest = span_from(t->text, t->token);
		uint8_t c = rest.p[0];
		uint32_t cp;
		size_t n = utf8_get(rest, &cp);

		if (n == 0)
			toml_fail(t, E_UTF8, "this is not UTF-8");
		else if ((c < ' ' && !is_space(c)) || c == 0x7f)
			toml_fail(t, E_MALFORMED, "a control character must be escaped");
		else if (c == '\r' && !span_starts(rest, span_str("\r\n")))
			toml_fail(t, E_MALFORMED, "a carriage return ends no line by itself");
		else
			t->token += n;
	}
}

void toml_init(struct toml *t, struct span text)
{
	t->text = text;
	t->err = E_OK;
	t->problem = NULL;
	t->at = t->token = 0;
	t->expect = LINE;
	t->table = t->key = 0;
	t->depth = 0;
	t->count = 1;
	t->names[0] = (struct toml_name){.kind = TOML_DEFINED};
	check_text(t);
	take(t, "\xef\xbb\xbf"); /* a byte order mark, as Windows has it */
}

unsigned toml_line(const struct toml *t)
{
	unsigned line = 1;

	for (size_t i = 0; i < t->token; i++)
		line += t->text.p[i] == '\n';
	return line;
}

/* --- strings ------------------------------------------------------------------------------------
 */

static uint32_t hex_char(struct rd *r, size_t digits)
{
	uint8_t scratch[UTF8_MAX];
	uint64_t v = 0;

	if (parse_hex_u64(rd_bytes(r, digits), UINT32_MAX, &v) || !utf8_put((uint32_t)v, scratch))
		rd_fail(r, E_MALFORMED);
	return (uint32_t)v;
}

/* The character of an escape, behind its backslash. */
static uint32_t escape(struct rd *r)
{
	uint8_t c = rd_u8(r);

	switch (c) {
	case '"':
	case '\\': return c;
	case 'b': return '\b';
	case 'f': return '\f';
	case 'n': return '\n';
	case 'r': return '\r';
	case 't': return '\t';
	case 'u': return hex_char(r, 4);
	case 'U': return hex_char(r, 8);
	default: rd_fail(r, E_MALFORMED); return 0;
	}
}

/* How many bytes a backslash at the end of a line, or of the text, takes away: itself, and all up
 * to what is no space. 0: it is not at the end of a line. */
static size_t folded(struct span s)
{
	size_t n = 1;
	bool line_end = false;

	for (; n < s.n && is_space(s.p[n]); n++)
		line_end |= s.p[n] == '\n';
	return line_end || n == s.n ? n : 0;
}

/* The next character of a text that the reader has checked; false at its end. */
static bool next_char(struct rd *r, bool escaped, uint32_t *cp)
{
	struct span rest;

	while (escaped && (rest = span_of(r->p + r->at, rd_left(r))).n && rest.p[0] == '\\') {
		size_t n = folded(rest);

		rd_bytes(r, n ? n : 1);
		if (n == 0) {
			*cp = escape(r);
			return true;
		}
	}
	return rd_bytes(r, utf8_get(span_of(r->p + r->at, rd_left(r)), cp)).n;
}

static bool same_text(const struct toml_name *name, const struct toml_token *part)
{
	struct rd a = rd_of(name->text), b = rd_of(part->text);
	uint32_t x, y;

	if (!name->escaped && !part->escaped)
		return span_eq(name->text, part->text);
	while (next_char(&a, name->escaped, &x))
		if (!next_char(&b, part->escaped, &y) || x != y)
			return false;
	return !next_char(&b, part->escaped, &y);
}

enum err toml_string(const struct toml_token *token, struct wr *w)
{
	struct rd r = rd_of(token->text);
	uint8_t scratch[UTF8_MAX];
	uint32_t cp;

	if (token->type != TOML_STRING)
		wr_fail(w, E_MALFORMED);
	while (w->err == E_OK && next_char(&r, token->escaped, &cp))
		wr_bytes(w, span_of(scratch, utf8_put(cp, scratch)));
	return w->err;
}

/* Passes a backslash and what it escapes. */
static void pass_escape(struct toml *t, bool lines)
{
	struct rd r = rd_of(rest_of(t));
	size_t n = lines ? folded(rest_of(t)) : 0;

	rd_bytes(&r, n ? n : 1);
	if (n == 0)
		escape(&r);
	t->at += r.at;
	if (r.err)
		toml_fail(t, r.err, "there is no such escape");
}

/* A string within one line. */
static void short_string(struct toml *t, const char *quote, struct toml_token *out)
{
	size_t start = t->at += strlen(quote);

	while (!is_next(t, quote) && t->err == E_OK) {
		if (t->at == t->text.n || is_next(t, "\r") || is_next(t, "\n")) {
			unexpected(t, "a string does not end on its line");
		} else if (quote[0] == '"' && is_next(t, "\\")) {
			out->escaped = true;
			pass_escape(t, false);
		} else {
			t->at++;
		}
	}
	out->text = span_of(t->text.p + start, t->at - start);
	take(t, quote);
}

/* A string of several lines. Of five quotes at its end the first two are part of it. */
static void long_string(struct toml *t, const char *quotes, struct toml_token *out)
{
	size_t start;

	t->at += strlen(quotes);
	if (!take(t, "\r\n"))
		take(t, "\n");
	start = t->at;
	while (!is_next(t, quotes) && t->err == E_OK) {
		if (t->at == t->text.n) {
			cut(t);
		} else if (quotes[0] == '"' && is_next(t, "\\")) {
			out->escaped = true;
			pass_escape(t, true);
		} else {
			t->at++;
		}
	}
	for (int more = 0; more < 2 && span_starts(span_from(rest_of(t), 1), span_str(quotes));
	     more++)
		t->at++;
	out->text = span_of(t->text.p + start, t->at - start);
	take(t, quotes);
}

static void string(struct toml *t, struct toml_token *out)
{
	out->type = TOML_STRING;
	if (is_next(t, "\"\"\""))
		long_string(t, "\"\"\"", out);
	else if (is_next(t, "'''"))
		long_string(t, "'''", out);
	else
		short_string(t, is_next(t, "\"") ? "\"" : "'", out);
}

/* --- numbers ------------------------------------------------------------------------------------
 */

/* How much of `s` is digits of the base, with single underscores between them. */
static size_t digit_run(struct span s, unsigned base)
{
	uint64_t digit;
	size_t n = 0;

	while (n < s.n && parse_hex_u64(span_of(s.p + n, 1), base - 1, &digit) == E_OK) {
		n++;
		if (n + 1 < s.n && s.p[n] == '_' &&
		    parse_hex_u64(span_of(s.p + n + 1, 1), base - 1, &digit) == E_OK)
			n++;
	}
	return n;
}

/* The number of a text that is one digit_run. */
static enum err magnitude(struct span s, unsigned base, uint64_t *out)
{
	uint64_t v = 0, digit;

	for (size_t i = 0; i < s.n; i++) {
		if (parse_hex_u64(span_of(s.p + i, 1), 15, &digit))
			continue; /* an underscore */
		if (v > (UINT64_MAX - digit) / base)
			return E_RANGE;
		v = v * base + digit;
	}
	*out = v;
	return E_OK;
}

static bool has_leading_zero(struct span digits)
{
	return digits.n > 1 && digits.p[0] == '0';
}

static bool take_sign(struct span *s, bool *negative)
{
	if (s->n == 0 || (s->p[0] != '+' && s->p[0] != '-'))
		return false;
	*negative = s->p[0] == '-';
	*s = span_from(*s, 1);
	return true;
}

/* 10, with decimal digits left in *s, or another base whose prefix was taken off. */
static unsigned take_base(struct span *s)
{
	static const struct {
		struct span prefix;
		unsigned base;
	} bases[] = {{SPAN_LIT("0x"), 16}, {SPAN_LIT("0o"), 8}, {SPAN_LIT("0b"), 2}};

	for (size_t i = 0; i < sizeof bases / sizeof *bases; i++)
		if (span_starts(*s, bases[i].prefix)) {
			*s = span_from(*s, bases[i].prefix.n);
			return bases[i].base;
		}
	return 10;
}

/* E_MALFORMED: it is no integer. E_RANGE: but one that does not fit. */
static enum err integer(struct span s, int64_t *out)
{
	bool negative = false;
	bool is_signed = take_sign(&s, &negative);
	unsigned base = take_base(&s);
	uint64_t v;

	if (s.n == 0 || digit_run(s, base) != s.n)
		return E_MALFORMED;
	if (base == 10 ? has_leading_zero(s) : is_signed)
		return E_MALFORMED;
	if (magnitude(s, base, &v) || v > (uint64_t)INT64_MAX + negative)
		return E_RANGE;
	/* INT64_MIN has no positive twin, so it is reached from one above */
	*out = negative && v ? -(int64_t)(v - 1) - 1 : (int64_t)v;
	return E_OK;
}

enum err toml_i64(const struct toml_token *token, int64_t min, int64_t max, int64_t *out)
{
	int64_t v;
	enum err err = token->type == TOML_INTEGER ? integer(token->text, &v) : E_MALFORMED;

	if (err)
		return err;
	if (v < min || v > max)
		return E_RANGE;
	*out = v;
	return E_OK;
}

/* Takes digits off the front; false when there are none. */
static bool take_digits(struct span *s)
{
	size_t n = digit_run(*s, 10);

	*s = span_from(*s, n);
	return n;
}

static bool is_float(struct span s)
{
	bool negative;
	size_t whole;

	take_sign(&s, &negative);
	if (span_eq_str(s, "inf") || span_eq_str(s, "nan"))
		return true;
	whole = digit_run(s, 10);
	if (whole == 0 || whole == s.n || has_leading_zero(span_first(s, whole)))
		return false;
	s = span_from(s, whole);
	if (s.p[0] == '.') {
		s = span_from(s, 1);
		if (!take_digits(&s))
			return false;
	}
	if (s.n == 0)
		return true;
	if (ascii_lower(s.p[0]) != 'e')
		return false;
	s = span_from(s, 1);
	take_sign(&s, &negative);
	return take_digits(&s) && s.n == 0;
}

/* --- dates and times (RFC 3339) -----------------------------------------------------------------
 */

static uint64_t number(struct rd *r, size_t digits, uint64_t min, uint64_t max)
{
	uint64_t v = 0;

	if (parse_u64(rd_bytes(r, digits), min, max, &v))
		rd_fail(r, E_MALFORMED);
	return v;
}

static void expect_char(struct rd *r, char c)
{
	if (rd_u8(r) != (uint8_t)c)
		rd_fail(r, E_MALFORMED);
}

static uint64_t days_in(uint64_t year, uint64_t month)
{
	static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	return month == 2 && leap ? 29 : days[month - 1];
}

static void date(struct rd *r)
{
	uint64_t year = number(r, 4, 0, 9999);
	uint64_t month;

	expect_char(r, '-');
	month = number(r, 2, 1, 12);
	expect_char(r, '-');
	if (r->err == E_OK)
		number(r, 2, 1, days_in(year, month));
}

static bool is_next_char(const struct rd *r, char c)
{
	return rd_left(r) && r->p[r->at] == (uint8_t)c;
}

/* A second of 60 is a leap second. */
static void time_of_day(struct rd *r)
{
	number(r, 2, 0, 23);
	expect_char(r, ':');
	number(r, 2, 0, 59);
	expect_char(r, ':');
	number(r, 2, 0, 60);
	if (!is_next_char(r, '.'))
		return;
	rd_u8(r);
	number(r, 1, 0, 9);
	while (r->err == E_OK && rd_left(r) && ascii_digit(r->p[r->at]))
		rd_u8(r);
}

static void offset(struct rd *r)
{
	uint8_t c = rd_u8(r);

	if (ascii_lower(c) == 'z')
		return;
	if (c != '+' && c != '-')
		rd_fail(r, E_MALFORMED);
	number(r, 2, 0, 23);
	expect_char(r, ':');
	number(r, 2, 0, 59);
}

static bool starts_with_date(struct span s)
{
	struct rd r = rd_of(s);

	date(&r);
	return r.err == E_OK;
}

static bool is_time(struct span s)
{
	struct rd r = rd_of(s);
	bool dated = starts_with_date(s);
	uint8_t between;

	if (dated) {
		date(&r);
		if (rd_left(&r) == 0)
			return true;
		between = rd_u8(&r);
		if (ascii_lower(between) != 't' && between != ' ')
			return false;
	}
	time_of_day(&r);
	if (dated && rd_left(&r))
		offset(&r);
	return r.err == E_OK && rd_left(&r) == 0;
}

/* --- names --------------------------------------------------------------------------------------
 */

/* The name in a table; 0 when there is none. */
static uint16_t find(const struct toml *t, uint16_t table, const struct toml_token *part)
{
	for (uint16_t i = 1; i < t->count; i++)
		if (t->names[i].parent == table && t->names[i].kind != TOML_ELEMENT &&
		    same_text(&t->names[i], part))
			return i;
	return 0;
}

static uint16_t add(
    struct toml *t, uint16_t table, const struct toml_token *part, enum toml_kind kind)
{
	if (t->count == TOML_NAMES_MAX) {
		toml_fail(t, E_LIMIT, "the file has too many keys and tables");
		return 0;
	}
	t->names[t->count] = (struct toml_name){part->text, table, (uint8_t)kind, part->escaped};
	return (uint16_t)t->count++;
}

static uint16_t add_element(struct toml *t, uint16_t list)
{
	static const struct toml_token none;
	return add(t, list, &none, TOML_ELEMENT);
}

/* The table that was last added to an array of tables. */
static uint16_t last_element(const struct toml *t, uint16_t list)
{
	uint16_t i = (uint16_t)(t->count - 1);

	while (t->names[i].parent != list)
		i--;
	return i;
}

/* The table that a name before a dot stands for, in a key or in a header. */
static uint16_t enter(struct toml *t, uint16_t table, const struct toml_token *part, bool in_key)
{
	uint16_t i = find(t, table, part);

	if (i == 0)
		return add(t, table, part, in_key ? TOML_DOTTED : TOML_IMPLIED);
	if (t->names[i].kind == TOML_IMPLIED && in_key)
		t->names[i].kind = TOML_DOTTED;
	if (t->names[i].kind == TOML_VALUE)
		toml_fail(t, E_MALFORMED, "a value that is defined already is used as a table");
	else if (in_key && t->names[i].kind != TOML_DOTTED)
		toml_fail(t, E_MALFORMED, "a table that has a header is added to from elsewhere");
	return t->names[i].kind == TOML_LIST ? last_element(t, i) : i;
}

/* The name that a key or header ends in. */
static uint16_t define(
    struct toml *t, uint16_t table, const struct toml_token *part, enum toml_kind kind)
{
	uint16_t i = find(t, table, part);

	if (i == 0)
		i = add(t, table, part, kind);
	else if (kind == TOML_DEFINED && t->names[i].kind == TOML_IMPLIED)
		t->names[i].kind = TOML_DEFINED;
	else if (kind != TOML_LIST || t->names[i].kind != TOML_LIST)
		toml_fail(t, E_MALFORMED, "the name is defined already");
	return kind == TOML_LIST && t->err == E_OK ? add_element(t, i) : i;
}

static struct toml_token name(struct toml *t)
{
	struct toml_token part = {.type = TOML_STRING};
	size_t start = t->at;

	if (is_next(t, "\"") || is_next(t, "'")) {
		short_string(t, is_next(t, "\"") ? "\"" : "'", &part);
		return part;
	}
	while (t->at < t->text.n && is_bare(t->text.p[t->at]))
		t->at++;
	if (t->at == start)
		unexpected(t, "a name is missing, or must be in quotes");
	part.text = span_of(t->text.p + start, t->at - start);
	return part;
}

/* Reads names with dots between, from a table on, and makes them known. `kind` is what the last one
 * becomes. */
static struct span names(struct toml *t, uint16_t table, enum toml_kind kind)
{
	struct toml_token part;
	size_t start, end;

	t->key = table;
	skip_blanks(t);
	start = t->at;
	for (;;) {
		part = name(t);
		end = t->at;
		skip_blanks(t);
		if (!take(t, "."))
			break;
		skip_blanks(t);
		t->key = table = enter(t, table, &part, kind == TOML_VALUE);
	}
	if (t->err == E_OK)
		t->key = define(t, table, &part, kind);
	return span_of(t->text.p + start, end - start);
}

/* --- tokens -------------------------------------------------------------------------------------
 */

static void header(struct toml *t, struct toml_token *out)
{
	bool list = take(t, "[[");

	if (!list)
		take(t, "[");
	out->type = list ? TOML_ARRAY_OF_TABLES : TOML_TABLE;
	out->text = names(t, 0, list ? TOML_LIST : TOML_DEFINED);
	t->table = t->key;
	if (!take(t, list ? "]]" : "]"))
		unexpected(t, "a header does not end in its brackets");
	t->expect = LINE_END;
}

static void key(struct toml *t, struct toml_token *out)
{
	out->type = TOML_KEY;
	out->text = names(t, t->depth ? t->open[t->depth - 1].owner : t->table, TOML_VALUE);
	if (!take(t, "="))
		unexpected(t, "there is no = after a name");
	t->expect = VALUE;
}

static bool is_in_scalar(uint8_t c)
{
	return is_bare(c) || c == '+' || c == '.' || c == ':';
}

/* The length of what is neither a string nor in brackets. Behind a date and a blank, a time may
 * follow. */
static size_t scalar_bytes(struct span s)
{
	enum { DATE_BYTES = 10 };
	size_t n = 0;

	while (n < s.n && is_in_scalar(s.p[n]))
		n++;
	if (n != DATE_BYTES || s.n - n < 2 || s.p[n] != ' ' || !ascii_digit(s.p[n + 1]) ||
	    !starts_with_date(s))
		return n;
	for (n++; n < s.n && is_in_scalar(s.p[n]);)
		n++;
	return n;
}

static enum toml_type scalar_type(struct toml *t, struct span text)
{
	int64_t v;
	enum err err = integer(text, &v);

	if (err == E_RANGE)
		toml_fail(t, E_RANGE, "an integer does not fit into 64 bits");
	if (err == E_OK)
		return TOML_INTEGER;
	if (span_eq_str(text, "true"))
		return TOML_TRUE;
	if (span_eq_str(text, "false"))
		return TOML_FALSE;
	if (is_float(text))
		return TOML_FLOAT;
	if (is_time(text))
		return TOML_TIME;
	toml_fail(t, E_MALFORMED, "a value is of no known form; strings must be in quotes");
	return TOML_END;
}

static void scalar(struct toml *t, struct toml_token *out)
{
	out->text = span_first(rest_of(t), scalar_bytes(rest_of(t)));
	if (out->text.n == 0)
		unexpected(t, "a value is missing");
	else
		out->type = scalar_type(t, out->text);
	t->at += out->text.n;
}

/* Begins an array or inline table as the next value. A table in an array is an element of what the
 * array belongs to. */
static void open_value(struct toml *t, bool array, struct toml_token *out)
{
	struct toml_open *o = &t->open[t->depth];

	if (t->depth == TOML_DEPTH_MAX) {
		toml_fail(t, E_DEPTH, "arrays and tables are nested too deep");
		return;
	}
	out->type = array ? TOML_ARRAY : TOML_INLINE;
	out->text = span_first(rest_of(t), 1);
	*o = (struct toml_open){.array = array, .owner = t->key, .names = (uint16_t)t->count};
	if (!array && t->depth && t->open[t->depth - 1].array)
		o->owner = t->key = add_element(t, t->key);
	t->at++;
	t->depth++;
	t->expect = array ? ITEM_OR_END : FIELD_OR_END;
}

static void end_value(struct toml *t)
{
	if (t->depth == 0)
		t->expect = LINE_END;
	else
		t->expect = t->open[t->depth - 1].array ? NEXT_ITEM : NEXT_FIELD;
}

/* Nothing can be added to it any more: the names in it are forgotten. */
static void close_value(struct toml *t, struct toml_token *out)
{
	const struct toml_open *o = &t->open[--t->depth];

	out->type = o->array ? TOML_ARRAY_END : TOML_INLINE_END;
	out->text = span_first(rest_of(t), 1);
	t->key = t->names[o->owner].kind == TOML_ELEMENT ? t->names[o->owner].parent : o->owner;
	t->count = o->names;
	t->at++;
	end_value(t);
}

static void value(struct toml *t, struct toml_token *out)
{
	if (is_next(t, "[")) {
		open_value(t, true, out);
	} else if (is_next(t, "{")) {
		open_value(t, false, out);
	} else {
		if (is_next(t, "\"") || is_next(t, "'"))
			string(t, out);
		else
			scalar(t, out);
		end_value(t);
	}
}

/* Passes what separates the last token from the next one. */
static void separate(struct toml *t)
{
	if (t->expect == LINE_END) {
		skip_blanks(t);
		skip_comment(t);
		t->token = t->at;
		if (t->at < t->text.n && !take(t, "\n") && !take(t, "\r\n"))
			unexpected(t, "something follows on the line");
		t->expect = LINE;
	}
	if (t->expect == LINE || t->expect == ITEM_OR_END || t->expect == NEXT_ITEM)
		skip_lines(t);
	else
		skip_blanks(t);
	if (t->expect == NEXT_ITEM && take(t, ",")) {
		skip_lines(t);
		t->expect = ITEM_OR_END;
	} else if (t->expect == NEXT_FIELD && take(t, ",")) {
		skip_blanks(t);
		t->expect = FIELD;
	}
}

static void next_token(struct toml *t, struct toml_token *out)
{
	switch ((enum expect)t->expect) {
	case LINE:
		if (is_next(t, "["))
			header(t, out);
		else if (t->at < t->text.n)
			key(t, out);
		return;
	case ITEM_OR_END:
	case NEXT_ITEM:
		if (is_next(t, "]"))
			close_value(t, out);
		else if (t->expect == ITEM_OR_END)
			value(t, out);
		else
			unexpected(t, "a comma or ] is missing");
		return;
	case FIELD_OR_END:
	case NEXT_FIELD:
		if (is_next(t, "}"))
			close_value(t, out);
		else if (t->expect == FIELD_OR_END)
			key(t, out);
		else
			unexpected(t, "a comma or } is missing");
		return;
	case FIELD: key(t, out); return;
	default: value(t, out);
	}
}

struct toml_token toml_next(struct toml *t)
{
	struct toml_token none = {.type = TOML_END}, token = none;

	if (t->err)
		return none;
	separate(t);
	t->token = t->err ? t->token : t->at;
	if (t->err == E_OK)
		next_token(t, &token);
	return t->err ? none : token;
}

void toml_skip(struct toml *t, const struct toml_token *first)
{
	unsigned depth = t->depth;

	if (first->type == TOML_ARRAY || first->type == TOML_INLINE)
		while (t->depth >= depth && toml_next(t).type != TOML_END)
			;
}

/* --- paths --------------------------------------------------------------------------------------
 */

/* Whether the last of the names in *path is that one; it is taken off then. */
static bool take_last(struct span *path, const struct toml_name *last)
{
	struct toml_token part = {.type = TOML_STRING};
	size_t start = path->n;

	while (start > 0 && path->p[start - 1] != '.')
		start--;
	part.text = span_from(*path, start);
	*path = span_first(*path, start ? start - 1 : 0);
	return last->kind != TOML_ELEMENT && same_text(last, &part);
}

static bool is_path(const struct toml *t, uint16_t i, struct span path)
{
	while (i && path.n && take_last(&path, &t->names[i]))
		i = t->names[i].parent;
	return i == 0 && path.n == 0;
}

bool toml_path_is(const struct toml *t, const char *path)
{
	return is_path(t, t->key, span_str(path));
}

bool toml_path_is_in(const struct toml *t, const char *path)
{
	for (uint16_t i = t->key; i; i = t->names[i].parent)
		if (is_path(t, i, span_str(path)))
			return true;
	return false;
}

static bool is_bare_name(struct span text)
{
	size_t n = 0;

	while (n < text.n && is_bare(text.p[n]))
		n++;
	return n && n == text.n;
}

static void put_name(struct wr *w, const struct toml_name *name)
{
	const struct toml_token text = {TOML_STRING, name->text, name->escaped};
	bool bare = is_bare_name(name->text);

	if (name->kind == TOML_ELEMENT) {
		wr_str(w, "[]");
		return;
	}
	wr_str(w, bare ? "" : "\"");
	toml_string(&text, w);
	wr_str(w, bare ? "" : "\"");
}

enum err toml_path(const struct toml *t, struct wr *w)
{
	uint16_t chain[TOML_NAMES_MAX];
	size_t n = 0;

	for (uint16_t i = t->key; i; i = t->names[i].parent)
		chain[n++] = i;
	for (size_t left = n; left; left--) {
		const struct toml_name *part = &t->names[chain[left - 1]];

		wr_str(w, left == n || part->kind == TOML_ELEMENT ? "" : ".");
		put_name(w, part);
	}
	return w->err;
}
