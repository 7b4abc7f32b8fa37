/* The first byte says where the text behind it is cut. */
#include "codec/json.h"

#include "base/utf8.h"
#include "fuzz.h"

#define INPUT_MAX 4096

/* What is no integer is written as text, which leaves it as it is the next time. */
static void copy_number(const struct json_token *t, struct json_writer *jw)
{
	int64_t v;

	if (json_i64(t, INT64_MIN, INT64_MAX, &v) == E_OK)
		json_put_i64(jw, v);
	else
		json_put_string(jw, t->text);
}

static void copy_text(const struct json_token *t, struct json_writer *jw)
{
	static uint8_t buf[6 * INPUT_MAX];
	struct wr text = wr_of(buf, t->text.n);

	if (json_string(t, &text) || !utf8_valid(wr_span(&text)))
		__builtin_trap();
	if (t->type == JSON_KEY)
		json_put_key_span(jw, wr_span(&text));
	else
		json_put_string(jw, wr_span(&text));
}

static enum err copy(struct span text, struct wr *out)
{
	struct json j = json_of(text);
	struct json_writer jw = json_writer_of(out);

	for (;;) {
		struct json_token t = json_next(&j);

		switch (t.type) {
		case JSON_END: return json_end(&j);
		case JSON_OBJECT: json_put_object(&jw); break;
		case JSON_OBJECT_END: json_put_object_end(&jw); break;
		case JSON_ARRAY: json_put_array(&jw); break;
		case JSON_ARRAY_END: json_put_array_end(&jw); break;
		case JSON_NUMBER: copy_number(&t, &jw); break;
		case JSON_TRUE:
		case JSON_FALSE: json_put_bool(&jw, t.type == JSON_TRUE); break;
		case JSON_NULL: json_put_null(&jw); break;
		default: copy_text(&t, &jw);
		}
	}
}

/* Visits each member at each level the way callers do, and takes nothing but containers. */
static void visit(struct json *j)
{
	struct json_token key;

	if (json_peek(j) == JSON_OBJECT)
		for (json_object(j); json_key(j, &key);)
			visit(j);
	else if (json_peek(j) == JSON_ARRAY)
		for (json_array(j); json_item(j);)
			visit(j);
	else
		json_skip(j);
}

static enum err walk(struct span text)
{
	struct json j = json_of(text);

	visit(&j);
	return json_end(&j);
}

static enum err skip(struct span text)
{
	struct json j = json_of(text);

	json_skip(&j);
	return json_end(&j);
}

/* Cut or whole, the scanner must find the same. */
static void check_scan(struct span text, size_t cut, bool is_document)
{
	struct json_scan whole = {0}, pieces = {0};
	size_t whole_used = 0, pieces_used = 0;
	enum err err = json_scan_value(&whole, text, &whole_used);
	enum err again = json_scan_value(&pieces, span_first(text, cut), &pieces_used);

	if (again == E_MORE)
		again = json_scan_value(&pieces, text, &pieces_used);
	if (err != again || whole_used != pieces_used || whole_used > text.n)
		__builtin_trap();
	if (is_document && err != E_OK && err != E_MORE)
		__builtin_trap();
	if (is_document && err == E_OK && skip(span_first(text, whole_used)) != E_OK)
		__builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static uint8_t first[6 * INPUT_MAX], second[6 * INPUT_MAX];
	struct wr once = wr_of(first, sizeof first), twice = wr_of(second, sizeof second);
	struct span text = span_from(span_of(data, n), 1);
	enum err err;

	if (n == 0 || n > INPUT_MAX)
		return 0;
	err = copy(text, &once);
	if (err != skip(text) || err != walk(text))
		__builtin_trap();
	check_scan(text, text.n ? data[0] % text.n : 0, err == E_OK);
	if (err)
		return 0;
	if (once.err || copy(wr_span(&once), &twice) || !span_eq(wr_span(&once), wr_span(&twice)))
		__builtin_trap();
	err = skip(span_first(text, text.n ? data[0] % text.n : 0));
	if (err != E_OK && err != E_MORE)
		__builtin_trap();
	return 0;
}
