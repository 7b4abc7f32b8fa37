/* A document is written anew from its tokens, which must give the same tokens again. The first byte
 * says where it is cut. */
#include "codec/toml.h"

#include "base/utf8.h"
#include "fuzz.h"

enum { INPUT_MAX = 4096, COPY_MAX = 16 * INPUT_MAX };

static void must(bool held)
{
	if (!held)
		__builtin_trap();
}

static void put_hex(struct wr *w, uint8_t c)
{
	static const char digits[] = "0123456789abcdef";

	wr_str(w, "\\u00");
	wr_u8(w, (uint8_t)digits[c >> 4]);
	wr_u8(w, (uint8_t)digits[c & 15]);
}

static void put_string(const struct toml_token *token, struct wr *w)
{
	static uint8_t buf[INPUT_MAX];
	struct wr text = wr_of(buf, token->text.n);

	must(toml_string(token, &text) == E_OK && utf8_valid(wr_span(&text)));
	wr_u8(w, '"');
	for (size_t i = 0; i < text.n; i++)
		if (buf[i] < 0x20 || buf[i] == 0x7f || buf[i] == '"' || buf[i] == '\\')
			put_hex(w, buf[i]);
		else
			wr_u8(w, buf[i]);
	wr_u8(w, '"');
}

static void put_integer(const struct toml_token *token, struct wr *w)
{
	int64_t v;

	must(toml_i64(token, INT64_MIN, INT64_MAX, &v) == E_OK);
	wr_str(w, v < 0 ? "-" : "");
	wr_dec(w, v < 0 ? -(uint64_t)v : (uint64_t)v);
}

/* What is behind a value depends on what it is in. */
static void put_end(const struct toml *t, struct wr *w)
{
	if (t->depth == 0)
		wr_str(w, "\n");
	else if (t->open[t->depth - 1].array)
		wr_str(w, ", ");
}

static void put_value(const struct toml *t, const struct toml_token *token, struct wr *w)
{
	switch (token->type) {
	case TOML_STRING: put_string(token, w); break;
	case TOML_INTEGER: put_integer(token, w); break;
	default: wr_bytes(w, token->text);
	}
	if (token->type != TOML_ARRAY && token->type != TOML_INLINE)
		put_end(t, w);
}

static void put_header(const struct toml_token *token, struct wr *w)
{
	bool list = token->type == TOML_ARRAY_OF_TABLES;

	wr_str(w, list ? "[[" : "[");
	wr_bytes(w, token->text);
	wr_str(w, list ? "]]\n" : "]\n");
}

static enum err copy(struct span text, struct wr *w)
{
	static struct toml t;
	static uint8_t path[COPY_MAX];
	struct toml_token token, last = {.type = TOML_END};

	for (toml_init(&t, text); (token = toml_next(&t)).type != TOML_END; last = token) {
		struct wr p = wr_of(path, sizeof path);

		must(token.text.p >= text.p && token.text.p + token.text.n <= text.p + text.n);
		must(toml_path(&t, &p) == E_OK);
		if (token.type == TOML_KEY && t.depth && last.type != TOML_INLINE)
			wr_str(w, ", ");
		if (token.type == TOML_KEY) {
			wr_bytes(w, token.text);
			wr_str(w, " = ");
		} else if (token.type == TOML_TABLE || token.type == TOML_ARRAY_OF_TABLES) {
			put_header(&token, w);
		} else {
			put_value(&t, &token, w);
		}
	}
	must((t.problem == NULL) == (t.err == E_OK));
	must(toml_line(&t) >= 1 && toml_line(&t) <= text.n + 1);
	return t.err;
}

static enum err skip(struct span text)
{
	static struct toml t;
	struct toml_token token;

	for (toml_init(&t, text); (token = toml_next(&t)).type != TOML_END;) {
		toml_skip(&t, &token);
		must(t.err || t.depth == 0);
	}
	return t.err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static uint8_t first[COPY_MAX], second[COPY_MAX];
	struct wr once = wr_of(first, sizeof first), twice = wr_of(second, sizeof second);
	struct span text = span_from(span_of(data, n), 1);

	if (n == 0 || n > INPUT_MAX)
		return 0;
	skip(span_first(text, text.n ? data[0] % text.n : 0));
	if (copy(text, &once) != skip(text))
		__builtin_trap();
	if (once.err || skip(text))
		return 0;
	must(copy(wr_span(&once), &twice) == E_OK);
	must(span_eq(wr_span(&once), wr_span(&twice)));
	return 0;
}
