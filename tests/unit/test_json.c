#include "codec/json.h"

#include "base/utf8.h"
#include "cases.h"
#include "suite.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* Reads all tokens and says how the document ended. */
static enum err drain(struct span text)
{
	struct json j = json_of(text);

	while (json_next(&j).type != JSON_END)
		;
	return json_end(&j);
}

static enum err drain_at_page_end(struct span text)
{
	struct guard g = guard_copy(text);
	enum err err = drain(g.s);

	guard_free(&g);
	return err;
}

/* --- documents -------------------------------------------------------------- */

static const char *const documents[] = {
    "{}",
    "[]",
    "\"\"",
    " \t\r\n{ \"a\" : 1 } \r\n",
    "[0,-0,1,-1,10,0.5,-0.25,1e9,1E+9,1.5e-7,123456789012345678901234567890]",
    "[true,false,null]",
    "[[],[[]],{},{\"a\":{}}]",
    "{\"a\":[1,{\"b\":null}],\"\":\"\",\"a\":2}",
    "[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000\\u00fc\\ud83d\\udc33\\uFFFF\"]",
    "{\"\xc3\xbc\":\"\xe2\x82\xac \xf0\x9f\x90\xb3\"}",
    "[ 1 , 2 , [ 3 ] ]",
    "{\"Type\":\"container\",\"Action\":\"start\",\"Actor\":{\"ID\":\"4f\",\"Attributes\":"
    "{\"image\":\"alpine\",\"name\":\"web\"}},\"time\":1700000000,\"timeNano\":"
    "1700000000123456789}",
};

static void cut_document(struct span cut, void *ctx)
{
	const struct span *whole = ctx;
	enum err want = cut.n == whole->n ? E_OK : E_MORE;

	ck_assert_msg(drain(cut) == want, "%.*s", (int)cut.n, (const char *)cut.p);
}

static void no_crash(struct span text, void *ctx)
{
	struct json j = json_of(text);
	struct json_scan scan = {0};
	size_t used;

	(void)ctx;
	if (drain(text) != E_OK)
		return;
	/* what the reader accepts, the walk and the scanner see alike */
	json_skip(&j);
	ck_assert_int_eq(json_end(&j), E_OK);
	ck_assert_int_ne(json_scan_value(&scan, text, &used), E_MALFORMED);
}

START_TEST(documents_are_read)
{
	for (size_t i = 0; i < COUNT(documents); i++) {
		struct span text = span_str(documents[i]);
		struct span body = text;

		while (body.n && body.p[body.n - 1] <= ' ') /* blanks at the end may be missing */
			body.n--;
		ck_assert_msg(drain_at_page_end(text) == E_OK, "%s", documents[i]);
		each_cut(body, cut_document, &body);
		each_mutation(text, no_crash, NULL);
	}
}
END_TEST

START_TEST(scalars_are_documents)
{
	static const char *const texts[] = {
	    "0", "-1", "1.5e3", "true", "false", "null", "\"x\"", " 7 "};

	for (size_t i = 0; i < COUNT(texts); i++)
		ck_assert_msg(drain_at_page_end(span_str(texts[i])) == E_OK, "%s", texts[i]);
}
END_TEST

static const struct {
	const char *text;
	enum err err;
} refused[] = {
    {"", E_MORE},
    {"  ", E_MORE},
    {"{", E_MORE},
    {"[1,", E_MORE},
    {"{\"a\"", E_MORE},
    {"{\"a\":", E_MORE},
    {"tru", E_MORE},
    {"-", E_MORE},
    {"1.", E_MORE},
    {"1e", E_MORE},
    {"1e-", E_MORE},
    {"\"abc", E_MORE},
    {"\"abc\\", E_MORE},
    {"\"\\u12", E_MORE},
    {"\"\\ud83d", E_MORE},
    {"\"\xe2\x82", E_MORE},
    {"x", E_MALFORMED},
    {"}", E_MALFORMED},
    {"]", E_MALFORMED},
    {",", E_MALFORMED},
    {":", E_MALFORMED},
    {"[1}", E_MALFORMED},
    {"{]", E_MALFORMED},
    {"[1 2]", E_MALFORMED},
    {"[1,]", E_MALFORMED},
    {"[,1]", E_MALFORMED},
    {"[1,,2]", E_MALFORMED},
    {"{,}", E_MALFORMED},
    {"{\"a\":1,}", E_MALFORMED},
    {"{\"a\" 1}", E_MALFORMED},
    {"{\"a\"}", E_MALFORMED},
    {"{\"a\":}", E_MALFORMED},
    {"{\"a\":1 \"b\":2}", E_MALFORMED},
    {"{\"a\":1:2}", E_MALFORMED},
    {"{a:1}", E_MALFORMED},
    {"{1:1}", E_MALFORMED},
    {"{null:1}", E_MALFORMED},
    {"[\"a\":1]", E_MALFORMED},
    {"{} {}", E_MALFORMED},
    {"1 2", E_MALFORMED},
    {"1,", E_MALFORMED},
    {"truE", E_MALFORMED},
    {"nul ", E_MALFORMED},
    {"nulll", E_MALFORMED},
    {"+1", E_MALFORMED},
    {"01", E_MALFORMED},
    {"-01", E_MALFORMED},
    {".5", E_MALFORMED},
    {"-.5", E_MALFORMED},
    {"1.e3", E_MALFORMED},
    {"1ee3", E_MALFORMED},
    {"1e+-3", E_MALFORMED},
    {"0x10", E_MALFORMED},
    {"NaN", E_MALFORMED},
    {"Infinity", E_MALFORMED},
    {"'a'", E_MALFORMED},
    {"[1] // no", E_MALFORMED},
    {"\f1", E_MALFORMED},
    {"\xef\xbb\xbf{}", E_MALFORMED},
    {"\"a\nb\"", E_MALFORMED},
    {"\"a\tb\"", E_MALFORMED},
    {"\"\\x41\"", E_MALFORMED},
    {"\"\\'\"", E_MALFORMED},
    {"\"\\U0041\"", E_MALFORMED},
    {"\"\\u12\"", E_MALFORMED},
    {"\"\\u12g4\"", E_MALFORMED},
    {"\"\\u+123\"", E_MALFORMED},
    {"\"\\ud83d\"", E_MALFORMED},
    {"\"\\ud83dxxxxxx\"", E_MALFORMED},
    {"\"\\ud83d\\n12345\"", E_MALFORMED},
    {"\"\\ud83d\\u0041\"", E_MALFORMED},
    {"\"\\ud83d\\ud83d\"", E_MALFORMED},
    {"\"\\udc33\"", E_MALFORMED},
    {"\"\xff\"", E_UTF8},
    {"\"\xc0\x80\"", E_UTF8},
    {"\"\xed\xa0\x80\"", E_UTF8},
    {"\"\xe2\x82\"", E_UTF8},
    {"{\"\x80\":1}", E_UTF8},
};

START_TEST(documents_are_refused)
{
	for (size_t i = 0; i < COUNT(refused); i++) {
		enum err err = drain_at_page_end(span_str(refused[i].text));

		ck_assert_msg(err == refused[i].err, "%s: %s", refused[i].text, err_text((int)err));
	}
	ck_assert_int_eq(drain(span_of("\"\0\"", 3)), E_MALFORMED);
	ck_assert_int_eq(drain(span_of("1\0", 2)), E_MALFORMED);
	ck_assert_int_eq(drain(span_of(NULL, 0)), E_MORE);
}
END_TEST

START_TEST(depth_is_limited)
{
	uint8_t text[2 * JSON_DEPTH_MAX + 2];

	memset(text, '[', JSON_DEPTH_MAX);
	memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
	ck_assert_int_eq(drain(span_of(text, 2 * JSON_DEPTH_MAX)), E_OK);
	memset(text, '[', JSON_DEPTH_MAX + 1);
	ck_assert_int_eq(drain(span_of(text, JSON_DEPTH_MAX + 1)), E_DEPTH);
}
END_TEST

START_TEST(tokens_are_views_in_order)
{
	static const struct {
		enum json_type type;
		const char *text;
		bool escaped;
	} want[] = {
	    {JSON_OBJECT, "{", false},
	    {JSON_KEY, "k\\n", true},
	    {JSON_ARRAY, "[", false},
	    {JSON_STRING, "s", false},
	    {JSON_NUMBER, "-1.5e+3", false},
	    {JSON_TRUE, "true", false},
	    {JSON_FALSE, "false", false},
	    {JSON_NULL, "null", false},
	    {JSON_OBJECT, "{", false},
	    {JSON_OBJECT_END, "}", false},
	    {JSON_ARRAY_END, "]", false},
	    {JSON_KEY, "", false},
	    {JSON_STRING, "", false},
	    {JSON_OBJECT_END, "}", false},
	    {JSON_END, "", false},
	    {JSON_END, "", false},
	};
	struct json j =
	    json_of(span_str("{\"k\\n\": [\"s\", -1.5e+3, true, false, null, {}], \"\" : \"\"} "));

	for (size_t i = 0; i < COUNT(want); i++) {
		enum json_type peeked = json_peek(&j);
		struct json_token t = json_next(&j);

		ck_assert_int_eq(peeked, want[i].type);
		ck_assert_int_eq(t.type, want[i].type);
		ck_assert_msg(span_eq_str(t.text, want[i].text), "%zu", i);
		ck_assert_int_eq(t.escaped, want[i].escaped);
	}
	ck_assert_int_eq(json_end(&j), E_OK);
}
END_TEST

START_TEST(an_error_sticks_where_it_is)
{
	struct json j = json_of(span_str("[1, x, 2]"));

	ck_assert_int_eq(json_next(&j).type, JSON_ARRAY);
	ck_assert_int_eq(json_next(&j).type, JSON_NUMBER);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(json_next(&j).type, JSON_END);
		ck_assert_int_eq(json_peek(&j), JSON_END);
		ck_assert_int_eq(j.err, E_MALFORMED);
		ck_assert_uint_eq(j.at, 4);
	}
	json_fail(&j, E_LIMIT);
	ck_assert_int_eq(json_end(&j), E_MALFORMED);
	ck_assert_ptr_null(json_skip(&j).p);
}
END_TEST

/* --- the walk --------------------------------------------------------------- */

START_TEST(an_object_is_walked)
{
	struct json j = json_of(span_str(
	    "{\"skipped\":{\"Id\":[1,{\"a\":\"]\"}]},\"Id\":\"4f\\u0065\",\"Up\":true,\"Down\":"
	    "false,"
	    "\"Pid\":4194304,\"Exit\":-9,\"Names\":[\"/a\",\"/b\"],\"Mounts\":null,\"Empty\":[],"
	    "\"last\":\"skipped, too\"}"));
	struct json_token key, id = {0}, name;
	char cstr[8];
	bool up = false, down = true;
	uint64_t pid = 0;
	int64_t status = 0;
	unsigned names = 0, other = 0;

	ck_assert(json_object(&j));
	while (json_key(&j, &key)) {
		if (json_is(&key, "Id"))
			json_take_string(&j, &id);
		else if (json_is(&key, "Up"))
			json_take_bool(&j, &up);
		else if (json_is(&key, "Down"))
			json_take_bool(&j, &down);
		else if (json_is(&key, "Pid"))
			json_take_u64(&j, 1, UINT32_MAX, &pid);
		else if (json_is(&key, "Exit"))
			json_take_i64(&j, -255, 255, &status);
		else if (json_is(&key, "Names"))
			for (json_array(&j); json_item(&j); names++)
				json_take_string(&j, &name);
		else if (json_is(&key, "Mounts") && !json_null(&j))
			ck_abort_msg("not null");
		else if (json_is(&key, "Empty"))
			for (json_array(&j); json_item(&j);)
				ck_abort_msg("not empty");
		else
			other++;
	}
	ck_assert_int_eq(json_end(&j), E_OK);
	ck_assert(json_is(&id, "4fe") && id.escaped);
	ck_assert_int_eq(json_cstr(&id, cstr, sizeof cstr), E_OK);
	ck_assert_str_eq(cstr, "4fe");
	ck_assert(up && !down);
	ck_assert_uint_eq(pid, 4194304);
	ck_assert_int_eq(status, -9);
	ck_assert_uint_eq(names, 2);
	ck_assert(json_is(&name, "/b"));
	ck_assert_uint_eq(other, 3); /* the first, the last, and the null */
}
END_TEST

START_TEST(items_that_nobody_takes_are_skipped)
{
	struct json j = json_of(span_str("[ 1, [2, 3], {\"a\": [4]}, \"5\", null ]"));
	unsigned n = 0;

	for (json_array(&j); json_item(&j); n++)
		if (n % 2)
			ck_assert_int_ne(json_peek(&j), JSON_END); /* looking takes nothing */
	ck_assert_int_eq(json_end(&j), E_OK);
	ck_assert_uint_eq(n, 5);
}
END_TEST

START_TEST(a_skipped_value_is_checked)
{
	static const char *const texts[] = {"{\"a\":[1,]}", "{\"a\":\"\\x\"}", "{\"a\":01}",
	    "{\"a\":}", "{\"a\":1,}", "{\"a\":1 \"b\":2}"};

	for (size_t i = 0; i < COUNT(texts); i++) {
		struct json j = json_of(span_str(texts[i]));
		struct json_token key;

		json_object(&j);
		while (json_key(&j, &key))
			;
		ck_assert_msg(json_end(&j) == E_MALFORMED, "%s", texts[i]);
	}
}
END_TEST

START_TEST(broken_arrays_end_the_walk)
{
	static const struct {
		const char *text;
		enum err err;
	} rows[] = {{"[1,]", E_MALFORMED}, {"[1 2]", E_MALFORMED}, {"[1}", E_MALFORMED},
	    {"[1", E_MORE}, {"[1,", E_MORE}, {"[", E_MORE}, {"[:", E_MALFORMED},
	    {"{}", E_MALFORMED}, {"", E_MORE}};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct json j = json_of(span_str(rows[i].text));
		unsigned n = 0;

		for (json_array(&j); json_item(&j);)
			ck_assert_uint_lt(n++, 2);
		ck_assert_msg(json_end(&j) == rows[i].err, "%s", rows[i].text);
	}
}
END_TEST

START_TEST(skip_returns_the_text)
{
	struct json j = json_of(span_str(" [ {\"a\": [1]} , 2.50 ]"));

	json_array(&j);
	ck_assert(json_item(&j) && span_eq_str(json_skip(&j), "{\"a\": [1]}"));
	ck_assert(json_item(&j) && span_eq_str(json_skip(&j), "2.50"));
	ck_assert(!json_item(&j));
	ck_assert_int_eq(json_end(&j), E_OK);
}
END_TEST

START_TEST(skip_takes_values_only)
{
	struct json j = json_of(span_str("{\"a\":1}"));

	json_object(&j);
	ck_assert_ptr_null(json_skip(&j).p);
	ck_assert_int_eq(json_end(&j), E_MALFORMED);
}
END_TEST

START_TEST(wrong_types_stick)
{
	static const char text[] = "[1, \"s\", true, null, [], {}, 1.5]";
	bool b = true;
	uint64_t u = 42;
	int64_t i = 42;
	char buf[4] = "buf";
	struct json_token t = {.type = JSON_NULL};

	for (int item = 0; item < 7; item++) {
		for (int taker = 0; taker < 7; taker++) {
			struct json j = json_of(span_str(text));
			bool took = false;

			json_array(&j);
			for (int k = 0; k <= item; k++)
				ck_assert(json_item(&j));
			switch (taker) {
			case 0:
				took = json_take_u64(&j, 0, 0, &u) || json_take_i64(&j, 0, 0, &i);
				break;
			case 1: took = item != 1 && json_take_string(&j, &t); break;
			case 2: took = item != 2 && json_take_bool(&j, &b); break;
			case 3: took = item != 1 && json_take_cstr(&j, buf, sizeof buf); break;
			case 4: took = item != 4 && json_array(&j); break;
			case 5: took = item != 5 && json_object(&j); break;
			default: took = json_key(&j, &t); break;
			}
			ck_assert_msg(!took, "item %d, taker %d", item, taker);
			ck_assert_int_ne(json_end(&j), E_OK);
		}
	}
	ck_assert(b && u == 42 && i == 42 && t.type == JSON_NULL);
	ck_assert_str_eq(buf, "buf");
}
END_TEST

START_TEST(a_cut_document_is_not_a_wrong_type)
{
	struct json j = json_of(span_str("{\"a\":"));
	struct json_token key, value;

	json_object(&j);
	ck_assert(json_key(&j, &key));
	ck_assert(!json_take_string(&j, &value));
	ck_assert_int_eq(json_end(&j), E_MORE);
}
END_TEST

START_TEST(a_walk_left_early_is_no_end)
{
	struct json j = json_of(span_str("{\"a\":1}"));

	json_object(&j);
	ck_assert_int_eq(json_end(&j), E_MALFORMED);
}
END_TEST

START_TEST(walking_the_wrong_kind_fails)
{
	struct json j = json_of(span_str("[1]"));
	struct json k = json_of(span_str("{\"a\":1}"));
	struct json_token key;

	json_array(&j);
	ck_assert(!json_key(&j, &key));
	ck_assert_int_eq(json_end(&j), E_MALFORMED);
	json_object(&k);
	ck_assert(!json_item(&k));
	ck_assert_int_eq(json_end(&k), E_MALFORMED);
}
END_TEST

/* --- strings and numbers ---------------------------------------------------- */

static struct json_token first_token(const char *text)
{
	struct json j = json_of(span_str(text));
	struct json_token t = json_next(&j);

	ck_assert_int_eq(json_end(&j), E_OK);
	return t;
}

START_TEST(strings_are_unescaped)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
	    {"\"\"", ""},
	    {"\"plain\"", "plain"},
	    {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
	    {"\"a\\u0041b\"", "aAb"},
	    {"\"\\u00FC\\u20ac\"", "\xc3\xbc\xe2\x82\xac"},
	    {"\"\\ud83d\\udc33\"", "\xf0\x9f\x90\xb3"},
	    {"\"\\uD800\\uDC00\\uDBFF\\uDFFF\"", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"},
	    {"\"\\ud7ff\\ue000\"", "\xed\x9f\xbf\xee\x80\x80"},
	    {"\"\xc3\xbc\\n\xf0\x9f\x90\xb3\"", "\xc3\xbc\n\xf0\x9f\x90\xb3"},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct json_token t = first_token(rows[i].text);
		size_t want = strlen(rows[i].want);
		char buf[64], longer[64];

		for (size_t cap = 0; cap <= want + 1; cap++) {
			struct wr w = wr_of(buf, cap);

			ck_assert_int_eq(json_string(&t, &w), cap < want ? E_SPACE : E_OK);
			ck_assert(cap < want || span_eq_str(wr_span(&w), rows[i].want));
			buf[0] = 'x';
			ck_assert_int_eq(json_cstr(&t, buf, cap), cap <= want ? E_SPACE : E_OK);
			ck_assert(cap == 0 || strcmp(buf, cap <= want ? "" : rows[i].want) == 0);
		}
		ck_assert(json_is(&t, rows[i].want));
		memcpy(longer, rows[i].want, want);
		memcpy(longer + want, "z", 2);
		ck_assert(!json_is(&t, longer));
		longer[want ? want - 1 : 0] = '\0';
		ck_assert(want == 0 || !json_is(&t, longer));
		ck_assert(utf8_valid(span_str(rows[i].want)));
	}
}
END_TEST

START_TEST(nul_is_for_spans_only)
{
	struct json_token t = first_token("\"a\\u0000b\"");
	struct json j = json_of(span_str("\"a\\u0000b\""));
	char buf[8] = "before";
	struct wr w = wr_of(buf, sizeof buf);

	ck_assert_int_eq(json_string(&t, &w), E_OK);
	ck_assert(span_eq(wr_span(&w), span_of("a\0b", 3)));
	ck_assert_int_eq(json_cstr(&t, buf, sizeof buf), E_MALFORMED);
	ck_assert_str_eq(buf, "");
	ck_assert(!json_is(&t, "a"));
	ck_assert(!json_take_cstr(&j, buf, sizeof buf));
	ck_assert_int_eq(json_end(&j), E_MALFORMED);
}
END_TEST

START_TEST(strings_are_taken_as_cstr)
{
	struct json j = json_of(span_str("[\"fits\",\"too long\"]"));
	char buf[5];

	json_array(&j);
	ck_assert(json_item(&j) && json_take_cstr(&j, buf, sizeof buf));
	ck_assert_str_eq(buf, "fits");
	ck_assert(json_item(&j) && !json_take_cstr(&j, buf, sizeof buf));
	ck_assert_int_eq(json_end(&j), E_SPACE);
}
END_TEST

START_TEST(only_texts_are_strings)
{
	struct json_token t = first_token("123");
	char buf[8];

	ck_assert(!json_is(&t, "123"));
	ck_assert_int_eq(json_cstr(&t, buf, sizeof buf), E_MALFORMED);
}
END_TEST

START_TEST(integers_are_exact)
{
	static const struct {
		const char *text;
		enum err u64, i64;
	} rows[] = {
	    {"0", E_OK, E_OK},
	    {"-0", E_MALFORMED, E_OK},
	    {"9007199254740993", E_OK, E_OK},
	    {"9223372036854775807", E_OK, E_OK},
	    {"9223372036854775808", E_OK, E_RANGE},
	    {"18446744073709551615", E_OK, E_RANGE},
	    {"18446744073709551616", E_RANGE, E_RANGE},
	    {"-9223372036854775808", E_MALFORMED, E_OK},
	    {"-9223372036854775809", E_MALFORMED, E_RANGE},
	    {"1.0", E_MALFORMED, E_MALFORMED},
	    {"1e3", E_MALFORMED, E_MALFORMED},
	    {"\"1\"", E_MALFORMED, E_MALFORMED},
	    {"null", E_MALFORMED, E_MALFORMED},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct json_token t = first_token(rows[i].text);
		struct json j = json_of(span_str(rows[i].text));
		uint64_t u = 7;
		int64_t s = 7;

		ck_assert_msg(json_u64(&t, 0, UINT64_MAX, &u) == rows[i].u64, "%s", rows[i].text);
		ck_assert_msg(
		    json_i64(&t, INT64_MIN, INT64_MAX, &s) == rows[i].i64, "%s", rows[i].text);
		ck_assert(rows[i].u64 == E_OK || u == 7);
		ck_assert(rows[i].i64 == E_OK || s == 7);
		ck_assert_int_eq(json_take_u64(&j, 0, UINT64_MAX, &u), rows[i].u64 == E_OK);
		ck_assert_int_eq(json_end(&j), rows[i].u64);
		j = json_of(span_str(rows[i].text));
		ck_assert_int_eq(json_take_i64(&j, INT64_MIN, INT64_MAX, &s), rows[i].i64 == E_OK);
		ck_assert_int_eq(json_end(&j), rows[i].i64);
	}
}
END_TEST

START_TEST(ranges_are_kept)
{
	struct json j = json_of(span_str("65536"));
	uint64_t port = 1;

	ck_assert(!json_take_u64(&j, 1, 65535, &port));
	ck_assert_int_eq(json_end(&j), E_RANGE);
	ck_assert_uint_eq(port, 1);
}
END_TEST

/* --- streams ---------------------------------------------------------------- */

static const char stream[] =
    "{\"a\":\"}\\\"]\"}\n[1,[2],{}]\r\n \"s\\\\\"1 true\t-2.5e3{}null\n\n{\"b\":[]}";
static const char *const stream_parts[] = {"{\"a\":\"}\\\"]\"}", "\n[1,[2],{}]", "\r\n \"s\\\\\"",
    "1", " true", "\t-2.5e3", "{}", "null", "\n\n{\"b\":[]}"};

/* Feeds the stream `step` bytes at a time, as a reader of a socket does. */
static void scan_in_steps(size_t step)
{
	struct json_scan scan = {0};
	struct span all = span_str(stream);
	size_t start = 0, part = 0, have = 0;

	while (start < all.n) {
		struct guard g = guard_copy(span_first(span_from(all, start), have - start));
		size_t used = SIZE_MAX;
		enum err err = json_scan_value(&scan, g.s, &used);

		guard_free(&g);
		if (err == E_OK) {
			struct span found = span_first(span_from(all, start), used);

			ck_assert_uint_lt(part, COUNT(stream_parts));
			ck_assert_msg(
			    span_eq_str(found, stream_parts[part]), "%zu: %zu", step, part);
			ck_assert_int_eq(drain(found), E_OK);
			start += used;
			part++;
		} else {
			ck_assert_int_eq(err, E_MORE);
			ck_assert_uint_eq(used, SIZE_MAX);
			ck_assert_uint_eq(scan.at, have - start); /* nothing is looked at twice */
			ck_assert_uint_lt(have, all.n);
			have += step < all.n - have ? step : all.n - have;
		}
	}
	ck_assert_uint_eq(part, COUNT(stream_parts));
}

START_TEST(a_stream_is_cut_into_documents)
{
	for (size_t step = 1; step <= sizeof stream; step++)
		scan_in_steps(step);
}
END_TEST

START_TEST(a_stream_is_refused)
{
	static const char *const texts[] = {"}", "]", ",", ":", "x", " \n/", "\xff"};
	uint8_t deep[JSON_DEPTH_MAX + 1];
	struct json_scan scan = {0};
	size_t used = 7;

	for (size_t i = 0; i < COUNT(texts); i++)
		ck_assert_int_eq(json_scan_value(&scan, span_str(texts[i]), &used), E_MALFORMED);
	memset(deep, '[', sizeof deep);
	ck_assert_int_eq(json_scan_value(&scan, span_of(deep, JSON_DEPTH_MAX), &used), E_MORE);
	ck_assert_int_eq(json_scan_value(&scan, span_of(deep, sizeof deep), &used), E_DEPTH);
	ck_assert_uint_eq(used, 7);
}
END_TEST

START_TEST(a_number_ends_with_the_next_byte)
{
	struct json_scan scan = {0};
	size_t used = 0;

	ck_assert_int_eq(json_scan_value(&scan, span_str(" 12"), &used), E_MORE);
	ck_assert_int_eq(json_scan_value(&scan, span_str(" 123"), &used), E_MORE);
	ck_assert_int_eq(json_scan_value(&scan, span_str(" 123\n"), &used), E_OK);
	ck_assert_uint_eq(used, 4);
	ck_assert_int_eq(json_scan_value(&scan, span_str("\n"), &used), E_MORE);
	ck_assert_int_eq(json_scan_value(&scan, span_of(NULL, 0), &used), E_MORE);
}
END_TEST

/* --- the writer ------------------------------------------------------------- */

static void write_everything(struct wr *w)
{
	struct json_writer jw = json_writer_of(w);

	json_put_object(&jw);
	json_put_key(&jw, "empty");
	json_put_object(&jw);
	json_put_object_end(&jw);
	json_put_key_span(&jw, span_str("list \"1\""));
	json_put_array(&jw);
	json_put_array(&jw);
	json_put_array_end(&jw);
	json_put_u64(&jw, UINT64_MAX);
	json_put_i64(&jw, INT64_MIN);
	json_put_i64(&jw, 7);
	json_put_bool(&jw, true);
	json_put_bool(&jw, false);
	json_put_null(&jw);
	json_put_array_end(&jw);
	json_put_key(&jw, "text");
	json_put_str(&jw, "\"\\/\b\f\n\r\t\x01\x1f\x7f \xc3\xbc \xf0\x9f\x90\xb3");
	json_put_key(&jw, "bytes");
	json_put_string(&jw, span_of("\xff\0\xe2\x82z\xed\xa0\x80", 8));
	json_put_object_end(&jw);
}

static const char everything[] =
    "{\"empty\":{},\"list "
    "\\\"1\\\"\":[[],18446744073709551615,-9223372036854775808,7,true,false,null],"
    "\"text\":\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f \xc3\xbc \xf0\x9f\x90\xb3\","
    "\"bytes\":"
    "\"\xef\xbf\xbd\\u0000\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"}";

START_TEST(documents_are_written)
{
	char buf[512];
	struct wr w = wr_of(buf, sizeof buf);

	write_everything(&w);
	wr_nul(&w);
	ck_assert_int_eq(w.err, E_OK);
	ck_assert_str_eq(buf, everything);
	ck_assert_int_eq(drain(wr_span(&w)), E_OK);
}
END_TEST

START_TEST(what_does_not_fit_sticks)
{
	char buf[sizeof everything];

	for (size_t cap = 0; cap < sizeof everything; cap++) {
		struct wr w = wr_of(buf, cap);

		write_everything(&w);
		ck_assert_int_eq(w.err, cap < sizeof everything - 1 ? E_SPACE : E_OK);
		ck_assert_uint_le(w.n, cap);
	}
}
END_TEST

START_TEST(doubles_have_three_decimals)
{
	static const struct {
		double v;
		const char *want;
	} rows[] = {{0, "0.000"}, {0.5, "0.500"}, {1.0004, "1.000"}, {1.9996, "2.000"},
	    {-0.25, "-0.250"}, {-0.0001, "0.000"}, {123456.789, "123456.789"},
	    {9e14, "900000000000000.000"}, {1e15, "null"}, {-1e15, "null"}, {1e300 * 1e300, "null"},
	    {-1e300 * 1e300, "null"}, {1e300 * 1e300 * 0, "null"}};

	for (size_t i = 0; i < COUNT(rows); i++) {
		char buf[32];
		struct wr w = wr_of(buf, sizeof buf);
		struct json_writer jw = json_writer_of(&w);

		json_put_double(&jw, rows[i].v);
		wr_nul(&w);
		ck_assert_str_eq(buf, rows[i].want);
		ck_assert_int_eq(drain(wr_span(&w)), E_OK);
	}
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {documents_are_read, scalars_are_documents,
	    documents_are_refused, depth_is_limited, tokens_are_views_in_order,
	    an_error_sticks_where_it_is, an_object_is_walked, items_that_nobody_takes_are_skipped,
	    a_skipped_value_is_checked, broken_arrays_end_the_walk, skip_returns_the_text,
	    skip_takes_values_only, wrong_types_stick, a_cut_document_is_not_a_wrong_type,
	    a_walk_left_early_is_no_end, walking_the_wrong_kind_fails, strings_are_unescaped,
	    nul_is_for_spans_only, strings_are_taken_as_cstr, only_texts_are_strings,
	    integers_are_exact, ranges_are_kept, a_stream_is_cut_into_documents,
	    a_stream_is_refused, a_number_ends_with_the_next_byte, documents_are_written,
	    what_does_not_fit_sticks, doubles_have_three_decimals, NULL};

	return suite_of("json", tests);
}
