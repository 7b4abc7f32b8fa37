#include "print.h"

#include "base/utf8.h"
#include "codec/json.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

enum { LINE_BYTES = 1024, JSON_START_BYTES = 64 * 1024, COLUMN_GAP = 2 };

/* --- text ------------------------------------------------------------------------------------- */

/* Control characters of ASCII and Latin-1, line and paragraph separators, and what turns the
 * direction of writing (Unicode Bidirectional Algorithm, section 2). */
static bool is_control(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x61c || c == 0x200e || c == 0x200f ||
	    (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

static void print_escape(FILE *to, uint8_t c)
{
	switch (c) {
	case '\n': fputs("\\n", to); break;
	case '\r': fputs("\\r", to); break;
	case '\t': fputs("\\t", to); break;
	case '\\': fputs("\\\\", to); break;
	default: fprintf(to, "\\x%02x", c);
	}
}

/* Characters of `keep` are written as they are. */
static void print_escaped(FILE *to, struct span text, const char *keep)
{
	while (text.n) {
		uint32_t c = 0;
		size_t n = utf8_get(text, &c);
		bool kept = n == 1 && c && strchr(keep, (int)c);

		if (n && (kept || (c != '\\' && !is_control(c))))
			fwrite(text.p, 1, n, to);
		else
			for (size_t i = 0; i < (n ? n : 1); i++)
				print_escape(to, text.p[i]);
		text = span_from(text, n ? n : 1);
	}
}

void print_text(FILE *to, struct span text)
{
	print_escaped(to, text, "");
}

void print_lines(FILE *to, struct span text)
{
	print_escaped(to, text, "\n\t\\");
}

int fail(enum exit_code code, const char *format, ...)
{
	char line[LINE_BYTES];
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(line, sizeof line, format, ap);
	va_end(ap);
	fflush(stdout);
	fputs("arcboxctl: ", stderr);
	print_text(stderr, span_str(n < 0 ? "" : line));
	fputs(n >= LINE_BYTES ? " [cut]\n" : "\n", stderr);
	return (int)code;
}

/* --- messages for people ---------------------------------------------------------------------- */

static void print_fields(FILE *to, const struct pb_table *t, const void *msg, int indent);

static struct span span_at(const void *member)
{
	return *(const struct span *)member;
}

static const void *message_at(const void *member)
{
	const void *msg;

	memcpy(&msg, member, sizeof msg);
	return msg;
}

static bool is_list(const struct pb_field *f)
{
	return f->label == PB_LABEL_REPEATED || f->label == PB_LABEL_MAP;
}

/* A value that is no message. */
static void print_scalar(FILE *to, const struct pb_field *f, const void *at)
{
	switch (f->type) {
	case PB_STRING:
	case PB_BYTES: print_text(to, span_at(at).n ? span_at(at) : span_str("-")); break;
	case PB_BOOL: fputs(*(const bool *)at ? "yes" : "no", to); break;
	case PB_INT32: fprintf(to, "%" PRId32, *(const int32_t *)at); break;
	case PB_INT64: fprintf(to, "%" PRId64, *(const int64_t *)at); break;
	case PB_UINT32: fprintf(to, "%" PRIu32, *(const uint32_t *)at); break;
	case PB_UINT64: fprintf(to, "%" PRIu64, *(const uint64_t *)at); break;
	case PB_DOUBLE: fprintf(to, "%.2f", *(const double *)at); break;
	default: fputs("...", to);
	}
}

static void print_pair(FILE *to, const struct pb_pair *pair)
{
	print_text(to, pair->key);
	fputc('=', to);
	print_text(to, pair->value);
}

/* All that fits on one line: a scalar, a map, a list of scalars. */
static void print_inline(FILE *to, const struct pb_field *f, const void *member)
{
	const struct pb_list *list = member;
	const uint8_t *item;

	if (!is_list(f)) {
		print_scalar(to, f, member);
		return;
	}
	if (list->n == 0)
		fputc('-', to);
	item = list->items;
	for (size_t i = 0; i < list->n; i++, item += pb_item_size(f)) {
		fputs(i ? ", " : "", to);
		if (f->label == PB_LABEL_MAP)
			print_pair(to, (const struct pb_pair *)(const void *)item);
		else
			print_scalar(to, f, item);
	}
}

/* The text of a table's cell, to be freed; NULL without memory. */
static char *cell_text(const struct pb_field *f, const void *member)
{
	char *text = NULL;
	size_t n;
	FILE *to = open_memstream(&text, &n);

	if (!to)
		return NULL;
	print_inline(to, f, member);
	if (fclose(to) == 0)
		return text;
	free(text);
	return NULL;
}

static int column_width(const struct pb_field *f, const struct pb_list *rows, size_t row_size)
{
	size_t width = strlen(f->name);
	const uint8_t *row = rows->items;

	for (size_t i = 0; i < rows->n; i++, row += row_size) {
		char *text = cell_text(f, row + f->offset);
		size_t n = text ? strlen(text) : 0;

		width = n > width ? n : width;
		free(text);
	}
	return width < LINE_BYTES ? (int)width : LINE_BYTES;
}

static void print_cell(FILE *to, const char *text, int width, bool last)
{
	if (last)
		fprintf(to, "%s\n", text);
	else
		fprintf(to, "%-*s", width + COLUMN_GAP, text);
}

static void print_heading(FILE *to, const char *name, int width, bool last)
{
	char text[64];
	size_t n = 0;

	for (; name[n] && n < sizeof text - 1; n++)
		text[n] = (char)(name[n] == '_' ? ' ' : toupper((unsigned char)name[n]));
	text[n] = '\0';
	print_cell(to, text, width, last);
}

static void print_table(
    FILE *to, const struct pb_table *t, const struct pb_list *rows, const int *widths, int indent)
{
	const uint8_t *row = rows->items;

	fprintf(to, "%*s", indent, "");
	for (size_t k = 0; k < t->n; k++)
		print_heading(to, t->fields[k].name, widths[k], k + 1 == t->n);
	for (size_t i = 0; i < rows->n; i++, row += t->size) {
		fprintf(to, "%*s", indent, "");
		for (size_t k = 0; k < t->n; k++) {
			char *text = cell_text(&t->fields[k], row + t->fields[k].offset);

			print_cell(to, text ? text : "?", widths[k], k + 1 == t->n);
			free(text);
		}
	}
}

static void print_messages(
    FILE *to, const struct pb_table *t, const struct pb_list *rows, int indent)
{
	enum { COLUMNS = 32 };
	int widths[COLUMNS];

	if (t->n > COLUMNS)
		return;
	for (size_t k = 0; k < t->n; k++)
		widths[k] = column_width(&t->fields[k], rows, t->size);
	print_table(to, t, rows, widths, indent);
}

/* A field that takes lines of its own: they are indented below its name. */
static void print_block(
    FILE *to, const struct pb_field *f, const void *member, int width, int indent)
{
	const struct pb_list *list = member;
	const void *msg = is_list(f) ? NULL : message_at(member);
	bool empty = is_list(f) ? list->n == 0 : !msg || f->sub->n == 0;

	if (empty) {
		fprintf(to, "%*s%-*s-\n", indent, "", width + COLUMN_GAP, f->name);
		return;
	}
	fprintf(to, "%*s%s\n", indent, "", f->name);
	if (msg)
		print_fields(to, f->sub, msg, indent + COLUMN_GAP);
	else
		print_messages(to, f->sub, list, indent + COLUMN_GAP);
}

static int name_width(const struct pb_table *t)
{
	size_t width = 0;

	for (size_t i = 0; i < t->n; i++)
		if (strlen(t->fields[i].name) > width)
			width = strlen(t->fields[i].name);
	return (int)width;
}

static void print_fields(FILE *to, const struct pb_table *t, const void *msg, int indent)
{
	int width = name_width(t);

	for (size_t i = 0; i < t->n; i++) {
		const struct pb_field *f = &t->fields[i];
		const uint8_t *member = (const uint8_t *)msg + f->offset;

		if (f->type == PB_MESSAGE && f->label != PB_LABEL_MAP) {
			print_block(to, f, member, width, indent);
			continue;
		}
		fprintf(to, "%*s%-*s", indent, "", width + COLUMN_GAP, f->name);
		print_inline(to, f, member);
		fputc('\n', to);
	}
}

void print_message(FILE *to, const struct pb_table *t, const void *msg)
{
	print_fields(to, t, msg, 0);
}

void print_list(FILE *to, const struct pb_table *t, const struct pb_list *rows)
{
	print_messages(to, t, rows, 0);
}

/* --- messages for programs -------------------------------------------------------------------- */

static void put_message(struct json_writer *jw, const struct pb_table *t, const void *msg);

/* Base64 of RFC 4648 section 4. */
static void put_base64(struct json_writer *jw, struct span s)
{
	static const char digits[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	struct wr *w = jw->w;

	json_put_str(jw, "");
	if (w->err)
		return;
	w->n--; /* the closing quote */
	for (; s.n; s = span_from(s, 3)) {
		uint32_t bits = (uint32_t)s.p[0] << 16 | (uint32_t)(s.n > 1 ? s.p[1] : 0) << 8 |
		    (s.n > 2 ? s.p[2] : 0u);

		wr_u8(w, (uint8_t)digits[bits >> 18]);
		wr_u8(w, (uint8_t)digits[bits >> 12 & 63]);
		wr_u8(w, (uint8_t)(s.n > 1 ? digits[bits >> 6 & 63] : '='));
		wr_u8(w, (uint8_t)(s.n > 2 ? digits[bits & 63] : '='));
	}
	wr_u8(w, '"');
}

static void put_value(struct json_writer *jw, const struct pb_field *f, const void *at)
{
	switch (f->type) {
	case PB_STRING: json_put_string(jw, span_at(at)); break;
	case PB_BYTES: put_base64(jw, span_at(at)); break;
	case PB_BOOL: json_put_bool(jw, *(const bool *)at); break;
	case PB_INT32: json_put_i64(jw, *(const int32_t *)at); break;
	case PB_INT64: json_put_i64(jw, *(const int64_t *)at); break;
	case PB_UINT32: json_put_u64(jw, *(const uint32_t *)at); break;
	case PB_UINT64: json_put_u64(jw, *(const uint64_t *)at); break;
	case PB_DOUBLE: json_put_double(jw, *(const double *)at); break;
	default: put_message(jw, f->sub, at);
	}
}

static void put_map(struct json_writer *jw, const struct pb_list *map)
{
	const struct pb_pair *pairs = map->items;

	json_put_object(jw);
	for (size_t i = 0; i < map->n; i++) {
		json_put_key_span(jw, pairs[i].key);
		json_put_string(jw, pairs[i].value);
	}
	json_put_object_end(jw);
}

static void put_list(struct json_writer *jw, const struct pb_field *f, const struct pb_list *list)
{
	const uint8_t *item = list->items;

	json_put_array(jw);
	for (size_t i = 0; i < list->n; i++, item += pb_item_size(f))
		put_value(jw, f, item);
	json_put_array_end(jw);
}

static bool is_absent(const struct pb_field *f, const void *member)
{
	if (f->label == PB_LABEL_OPTIONAL)
		return !span_at(member).p;
	return f->label == PB_LABEL_SINGULAR && f->type == PB_MESSAGE && !message_at(member);
}

static void put_field(struct json_writer *jw, const struct pb_field *f, const void *member)
{
	json_put_key(jw, f->name);
	if (is_absent(f, member))
		json_put_null(jw);
	else if (f->label == PB_LABEL_MAP)
		put_map(jw, member);
	else if (f->label == PB_LABEL_REPEATED)
		put_list(jw, f, member);
	else
		put_value(jw, f, f->type == PB_MESSAGE ? message_at(member) : member);
}

static void put_message(struct json_writer *jw, const struct pb_table *t, const void *msg)
{
	json_put_object(jw);
	for (size_t i = 0; i < t->n; i++)
		put_field(jw, &t->fields[i], (const uint8_t *)msg + t->fields[i].offset);
	json_put_object_end(jw);
}

/* The size is found by trying: an answer is bounded, and so is what it grows to as JSON. */
int print_json(FILE *to, const struct pb_table *t, const void *msg)
{
	for (size_t cap = JSON_START_BYTES;; cap *= 4) {
		char *p = malloc(cap);
		struct wr w = wr_of(p, cap);
		struct json_writer jw = json_writer_of(&w);

		if (!p)
			return fail(EXIT_LOCAL, "no memory to write the answer as JSON");
		put_message(&jw, t, msg);
		wr_u8(&w, '\n');
		if (w.err == E_OK)
			fwrite(p, 1, w.n, to);
		free(p);
		if (w.err != E_SPACE)
			return EXIT_OK;
	}
}
