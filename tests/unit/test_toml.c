#include "codec/toml.h"

#include "cases.h"
#include "suite.h"

#include <stdio.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* --- what a document says, as one line of text -------------------------------------------------
 */

/* An integer by its number, a string by its text in quotes, others as they stand; each value with a
 * blank behind it. */
static void dump_token(struct toml *t, const struct toml_token *token, struct wr *w)
{
	char number[24];
	int64_t v;

	switch (token->type) {
	case TOML_KEY:
		toml_path(t, w);
		wr_str(w, "=");
		return;
	case TOML_TABLE:
	case TOML_ARRAY_OF_TABLES:
		wr_str(w, token->type == TOML_TABLE ? "[" : "[[");
		toml_path(t, w);
		wr_str(w, token->type == TOML_TABLE ? "] " : "]] ");
		return;
	case TOML_STRING:
		wr_str(w, "'");
		ck_assert_int_eq(toml_string(token, w), w->err);
		wr_str(w, "' ");
		return;
	case TOML_INTEGER:
		ck_assert_int_eq(toml_i64(token, INT64_MIN, INT64_MAX, &v), E_OK);
		snprintf(number, sizeof number, "%lld ", (long long)v);
		wr_str(w, number);
		return;
	default: wr_bytes(w, token->text); wr_str(w, " ");
	}
}

static enum err dump(struct span text, char *buf, size_t cap)
{
	static struct toml t;
	struct toml_token token;
	struct wr w = wr_of(buf, cap);

	toml_init(&t, text);
	while ((token = toml_next(&t)).type != TOML_END)
		dump_token(&t, &token, &w);
	wr_nul(&w);
	ck_assert_int_eq(w.err, E_OK);
	ck_assert_int_eq(toml_next(&t).type, TOML_END);
	ck_assert_int_eq(t.problem == NULL, t.err == E_OK);
	ck_assert_uint_le(t.token, text.n);
	return t.err;
}

static enum err dump_at_page_end(struct span text, char *buf, size_t cap)
{
	struct guard g = guard_copy(text);
	enum err err = dump(g.s, buf, cap);

	guard_free(&g);
	return err;
}

static char out[65536];

/* --- documents that are TOML --------------------------------------------------------------------
 */

static const struct {
	const char *text, *says;
} documents[] = {
    {"", ""},
    {"\n\r\n \t# only a comment, \xc3\xbc", ""},
    {"\xef\xbb\xbf"
     "a=1",
	"a=1 "},
    {"a = 1 # one\r\nb=2", "a=1 b=2 "},

    /* keys */
    {"bare_key-1 = 1\n1234 = 2\n-=3\n", "bare_key-1=1 1234=2 -=3 "},
    {"\"127.0.0.1\" = 1\n'q \"x\"'=2\n\"\"=3\n", "\"127.0.0.1\"=1 \"q \"x\"\"=2 \"\"=3 "},
    {"a . b\t.\"c.d\" = 1", "a.b.\"c.d\"=1 "},
    {"3.14 = 1\ntrue=2", "3.14=1 true=2 "},
    {"\"\\u0061\" = 1\nA=2", "\"a\"=1 A=2 "},
    {"fruit.apple.smooth = 1\norange = 2\nfruit.banana = 3",
	"fruit.apple.smooth=1 orange=2 fruit.banana=3 "},

    /* strings */
    {"a = \"\"\nb = ''", "a='' b='' "},
    {"a = \"\\b\\t\\n\\f\\r\\\"\\\\\\u00fc\\U0001F433\"",
	"a='\b\t\n\f\r\"\\\xc3\xbc\xf0\x9f\x90\xb3' "},
    {"a = \"tab\tand # no comment\"", "a='tab\tand # no comment' "},
    {"a = 'C:\\no\\escapes\"'", "a='C:\\no\\escapes\"' "},
    {"a = \"\"\"\none\ntwo\"\"\"", "a='one\ntwo' "},
    {"a = \"\"\"\r\none\r\ntwo\"\"\"", "a='one\r\ntwo' "},
    {"a = \"\"\"\\\n  one \\  \n\n\t two\\\n\"\"\"", "a='one two' "},
    {"a = \"\"\"\"\"\"\nb=''''''", "a='' b='' "},
    {"a = \"\"\"\"\"two\"\"\"\"\"", "a='\"\"two\"\"' "},
    {"a = \"\"\"x\"\"\"\"", "a='x\"' "},
    {"a = \"\"\"x\\\"\"\"\"", "a='x\"' "},
    {"a = '''\nThat,' she said, 'is \\.'''''", "a='That,' she said, 'is \\.''' "},

    /* integers */
    {"a=[+99,42,0,-17,+0,-0,1_000,5_349_221,1_2_3]", "a=[ 99 42 0 -17 0 0 1000 5349221 123 ] "},
    {"a=[0xDEADBEEF,0xdead_beef,0o755,0b1101_0110,0x00]", "a=[ 3735928559 3735928559 493 214 0 ] "},
    {"a=[9223372036854775807,-9223372036854775808,0x7fffffffffffffff]",
	"a=[ 9223372036854775807 -9223372036854775808 9223372036854775807 ] "},

    /* floats, booleans, dates */
    {"a=[+1.0,3.1415,-0.01,5e+22,1e06,-2E-2,6.626e-34,224_617.445_991,0.0]",
	"a=[ +1.0 3.1415 -0.01 5e+22 1e06 -2E-2 6.626e-34 224_617.445_991 0.0 ] "},
    {"a=[inf,+inf,-inf,nan,+nan,-nan,0e0,-0.0]", "a=[ inf +inf -inf nan +nan -nan 0e0 -0.0 ] "},
    {"a = true\nb=false", "a=true b=false "},
    {"a=[1979-05-27T07:32:00Z,1979-05-27t00:32:00.999999-07:00,1979-05-27 07:32:00z]",
	"a=[ 1979-05-27T07:32:00Z 1979-05-27t00:32:00.999999-07:00 1979-05-27 07:32:00z ] "},
    {"a=[1979-05-27T07:32:00,1979-05-27,07:32:00,00:32:00.9]\nb=2000-02-29\nc=1990-12-31T23:59:60Z",
	"a=[ 1979-05-27T07:32:00 1979-05-27 07:32:00 00:32:00.9 ] b=2000-02-29 "
	"c=1990-12-31T23:59:60Z "},
    {"a=1979-05-27 # a day", "a=1979-05-27 "},

    /* arrays and inline tables */
    {"a=[]\nb=[ [1,2],[\"x\"] , [ ], ]", "a=[ ] b=[ [ 1 2 ] [ 'x' ] [ ] ] "},
    {"a=[ # one\n 1,\r\n\n # two\n2 # three\n, # four\n]", "a=[ 1 2 ] "},
    {"a={}\nb={ x = 1, y.z=2 ,y.w = [\n1,\n] }", "a={ } b={ b.x=1 b.y.z=2 b.y.w=[ 1 ] } "},
    {"a=[{b=1},{b=2,c={d=3}}]\ne=[[{f=1}]]",
	"a=[ { a[].b=1 } { a[].b=2 a[].c={ a[].c.d=3 } } ] e=[ [ { e[].f=1 } ] ] "},
    {"a={b=[{c=1}],d=2}\nf=3", "a={ a.b=[ { a.b[].c=1 } ] a.d=2 } f=3 "},

    /* tables */
    {"[a]\nb=1\n[ c . 'd' ] # x\ne=2", "[a] a.b=1 [c.d] c.d.e=2 "},
    {"[x.y.z]\n[x]\na=1", "[x.y.z] [x] x.a=1 "},
    {"[fruit]\napple.color=1\napple.taste.sweet=2\n[fruit.apple.texture]\nsmooth=3",
	"[fruit] fruit.apple.color=1 fruit.apple.taste.sweet=2 [fruit.apple.texture] "
	"fruit.apple.texture.smooth=3 "},
    {"[a.b.c]\n[a]\nb.d=1", "[a.b.c] [a] a.b.d=1 "},
    {"[a]\n[a.b]\n[a.b.c]\n", "[a] [a.b] [a.b.c] "},
    {"[[p]]\nname=1\n[[p]]\n[[p]]\nname=2", "[[p[]]] p[].name=1 [[p[]]] [[p[]]] p[].name=2 "},
    {"[[f]]\n[f.physical]\nx=1\n[[f.v]]\nn=1\n[[f.v]]\nn=2\n[[f]]\n[f.physical]\n[[f.v]]\nn=3",
	"[[f[]]] [f[].physical] f[].physical.x=1 [[f[].v[]]] f[].v[].n=1 [[f[].v[]]] f[].v[].n=2 "
	"[[f[]]] [f[].physical] [[f[].v[]]] f[].v[].n=3 "},
    {"[a.b]\n[[a.c]]\nx=1", "[a.b] [[a.c[]]] a.c[].x=1 "},
};

static void cut_document(struct span cut, void *ctx)
{
	const struct span *whole = ctx;
	enum err err = dump(cut, out, sizeof out);

	/* A number may be cut to what is none, a character to what is not UTF-8. */
	if (cut.n == whole->n)
		ck_assert_int_eq(err, E_OK);
	else
		ck_assert_msg(err == E_OK || err == E_MORE || err == E_UTF8 || err == E_MALFORMED,
		    "%.*s", (int)cut.n, (const char *)cut.p);
}

static void no_crash(struct span text, void *ctx)
{
	(void)ctx;
	dump(text, out, sizeof out);
}

START_TEST(reads_documents)
{
	for (size_t i = 0; i < COUNT(documents); i++) {
		struct span text = span_str(documents[i].text);

		ck_assert_msg(
		    dump_at_page_end(text, out, sizeof out) == E_OK, "%s", documents[i].text);
		ck_assert_str_eq(out, documents[i].says);
		each_cut(text, cut_document, &text);
		each_mutation(text, no_crash, NULL);
	}
}
END_TEST

/* --- and those that are not ----------------------------------------------------------------------
 */

static const struct {
	const char *text;
	enum err err;
	unsigned line;
} refused[] = {
    /* characters */
    {"a=1\rb=2", E_MALFORMED, 1},
    {"a=1\r", E_MALFORMED, 1},
    {"# \x01", E_MALFORMED, 1},
    {"\n# \x7f", E_MALFORMED, 2},
    {"\n\na='\x1f'", E_MALFORMED, 3},
    {"a=1\n# \xff", E_UTF8, 2},
    {"# \xc0\x80", E_UTF8, 1},
    {"# \xed\xa0\x80", E_UTF8, 1},
    {"a=1\n\xef\xbb\xbf"
     "b=2",
	E_MALFORMED, 2},

    /* keys */
    {"=1", E_MALFORMED, 1},
    {"a", E_MORE, 1},
    {"a\nb=1", E_MALFORMED, 1},
    {"a\n=1", E_MALFORMED, 1},
    {"a=", E_MORE, 1},
    {"\na=\n1", E_MALFORMED, 2},
    {"a=1 b=2", E_MALFORMED, 1},
    {"a b=1", E_MALFORMED, 1},
    {".a=1", E_MALFORMED, 1},
    {"a.=1", E_MALFORMED, 1},
    {"a..b=1", E_MALFORMED, 1},
    {"a.", E_MORE, 1},
    {"\xc3\xbc=1", E_MALFORMED, 1},
    {"\"\"\"a\"\"\"=1", E_MALFORMED, 1},
    {"\"a\nb\"=1", E_MALFORMED, 1},
    {"\"a", E_MORE, 1},
    {"a==1", E_MALFORMED, 1},
    {"a:1", E_MALFORMED, 1},

    /* strings */
    {"a=\"", E_MORE, 1},
    {"a='x", E_MORE, 1},
    {"a=\"x\ny\"", E_MALFORMED, 1},
    {"a='x\r\ny'", E_MALFORMED, 1},
    {"a=\"\\a\"", E_MALFORMED, 1},
    {"a=\"\\x41\"", E_MALFORMED, 1},
    {"a=\"\\e\"", E_MALFORMED, 1},
    {"a=\"\\ \"", E_MALFORMED, 1},
    {"a=\"\\\n\"", E_MALFORMED, 1},
    {"a=\"\\u12\"\n", E_MALFORMED, 1},
    {"a=\"\\ud800\"", E_MALFORMED, 1},
    {"a=\"\\U00110000\"", E_MALFORMED, 1},
    {"a=\"\\UFFFFFFFF\"", E_MALFORMED, 1},
    {"a=\"\\u1", E_MORE, 1},
    {"a=\"\"\"\n\nx", E_MORE, 1},
    {"a=\"\"\"x\\ y\"\"\"", E_MALFORMED, 1},
    {"a=\"\"\"x\\ \n ", E_MORE, 1},
    {"a='''x''", E_MORE, 1},
    {"a=\"\"\"\"\"\"\"\"\"", E_MALFORMED, 1},
    {"a=\"x\" y", E_MALFORMED, 1},
    {"a=\"\"\"x\ny\"\"\" z", E_MALFORMED, 2},

    /* integers */
    {"a=01", E_MALFORMED, 1},
    {"a=-01", E_MALFORMED, 1},
    {"a=0_1", E_MALFORMED, 1},
    {"a=_1", E_MALFORMED, 1},
    {"a=1_", E_MALFORMED, 1},
    {"a=1__2", E_MALFORMED, 1},
    {"a=+", E_MALFORMED, 1},
    {"a=++1", E_MALFORMED, 1},
    {"a=0x", E_MALFORMED, 1},
    {"a=0x_1", E_MALFORMED, 1},
    {"a=0xg", E_MALFORMED, 1},
    {"a=0X1", E_MALFORMED, 1},
    {"a=-0x1", E_MALFORMED, 1},
    {"a=+0b1", E_MALFORMED, 1},
    {"a=0o8", E_MALFORMED, 1},
    {"a=0b2", E_MALFORMED, 1},
    {"a=1a", E_MALFORMED, 1},
    {"a=9223372036854775808", E_RANGE, 1},
    {"a=-9223372036854775809", E_RANGE, 1},
    {"\na=99999999999999999999999", E_RANGE, 2},
    {"a=0x8000000000000000", E_RANGE, 1},

    /* floats and booleans */
    {"a=.7", E_MALFORMED, 1},
    {"a=7.", E_MALFORMED, 1},
    {"a=3.e+20", E_MALFORMED, 1},
    {"a=03.1", E_MALFORMED, 1},
    {"a=1_.0", E_MALFORMED, 1},
    {"a=1._0", E_MALFORMED, 1},
    {"a=1.0_", E_MALFORMED, 1},
    {"a=1e", E_MALFORMED, 1},
    {"a=1e1.0", E_MALFORMED, 1},
    {"a=1x1", E_MALFORMED, 1},
    {"a=Inf", E_MALFORMED, 1},
    {"a=1.5x", E_MALFORMED, 1},
    {"a=True", E_MALFORMED, 1},
    {"a=yes", E_MALFORMED, 1},
    {"a=tru", E_MALFORMED, 1},

    /* dates */
    {"a=1979-13-01", E_MALFORMED, 1},
    {"a=1979-00-01", E_MALFORMED, 1},
    {"a=1979-04-31", E_MALFORMED, 1},
    {"a=1900-02-29", E_MALFORMED, 1},
    {"a=1979-5-27", E_MALFORMED, 1},
    {"a=79-05-27", E_MALFORMED, 1},
    {"a=1979-05-27X07:32:00", E_MALFORMED, 1},
    {"a=1979-05-27T", E_MALFORMED, 1},
    {"a=1979-05-27T07:32", E_MALFORMED, 1},
    {"a=1979-05-27T24:00:00", E_MALFORMED, 1},
    {"a=1979-05-27T07:60:00", E_MALFORMED, 1},
    {"a=1979-05-27T07:32:61", E_MALFORMED, 1},
    {"a=1979-05-27T07:32:00.", E_MALFORMED, 1},
    {"a=1979-05-27T07:32:00+0700", E_MALFORMED, 1},
    {"a=1979-05-27T07:32:00+24:00", E_MALFORMED, 1},
    {"a=1979-05-27T07:32:00Zx", E_MALFORMED, 1},
    {"a=1979-05-27  07:32:00", E_MALFORMED, 1},
    {"a=07:32:00.x12", E_MALFORMED, 1},
    {"a=07:32", E_MALFORMED, 1},
    {"a=07:32:00Z", E_MALFORMED, 1},
    {"a=7:32:00", E_MALFORMED, 1},

    /* arrays and inline tables */
    {"a=[", E_MORE, 1},
    {"a=[1", E_MORE, 1},
    {"a=[1,", E_MORE, 1},
    {"a=[,]", E_MALFORMED, 1},
    {"a=[1,,2]", E_MALFORMED, 1},
    {"a=[\n1\n2]", E_MALFORMED, 3},
    {"a=[1}", E_MALFORMED, 1},
    {"a=[1] 2", E_MALFORMED, 1},
    {"a=]", E_MALFORMED, 1},
    {"a={", E_MORE, 1},
    {"a={b=1", E_MORE, 1},
    {"a={b=1,}", E_MALFORMED, 1},
    {"a={,}", E_MALFORMED, 1},
    {"a={b=1 c=2}", E_MALFORMED, 1},
    {"a={b=1,,c=2}", E_MALFORMED, 1},
    {"a={b=1\n}", E_MALFORMED, 1},
    {"a={\nb=1}", E_MALFORMED, 1},
    {"a={b}", E_MALFORMED, 1},
    {"a={b=1]", E_MALFORMED, 1},
    {"a={b=1} c", E_MALFORMED, 1},

    /* headers */
    {"[", E_MORE, 1},
    {"[a", E_MORE, 1},
    {"[]", E_MALFORMED, 1},
    {"[a.]", E_MALFORMED, 1},
    {"[a]]", E_MALFORMED, 1},
    {"[[a]", E_MALFORMED, 1},
    {"[[a] ]", E_MALFORMED, 1},
    {"[ [a]]", E_MALFORMED, 1},
    {"[a] b=1", E_MALFORMED, 1},
    {"[a\n]", E_MALFORMED, 1},
    {"[a b]", E_MALFORMED, 1},
    {"]", E_MALFORMED, 1},

    /* names that are defined twice */
    {"a=1\nb=2\na=3", E_MALFORMED, 3},
    {"a=1\n\"\\u0061\"=3", E_MALFORMED, 2},
    {"\"\\u0061\"=1\n'a'=3", E_MALFORMED, 2},
    {"\"ab\\u0063\"=1\nabcd=2\nab=3\n\"\\u0061bc\"=4", E_MALFORMED, 4},
    {"a=1\n[a]", E_MALFORMED, 2},
    {"a=1\n[a.b]", E_MALFORMED, 2},
    {"a=1\na.b=2", E_MALFORMED, 2},
    {"a.b=1\na.b.c=2", E_MALFORMED, 2},
    {"a.b=1\na=2", E_MALFORMED, 2},
    {"a.b=1\n[a]", E_MALFORMED, 2},
    {"[a]\nb=1\n\n[a]\nc=1", E_MALFORMED, 4},
    {"[a]\nb=1\n[a.b]\nc=1", E_MALFORMED, 3},
    {"[a.b]\n[a]\nb=1", E_MALFORMED, 3},
    {"[a.b.c]\nz=9\n[a]\nb.c.t=1", E_MALFORMED, 4},
    {"[a.b.c.d]\nz=9\n[a]\nb.c.d.k.t=1", E_MALFORMED, 4},
    {"[f]\na.c=1\na.t.s=2\n[f.a]", E_MALFORMED, 4},
    {"[f]\na.c=1\na.t.s=2\n[f.a.t]", E_MALFORMED, 4},
    {"a={b=1}\na.c=2", E_MALFORMED, 2},
    {"a={b=1}\n[a.c]", E_MALFORMED, 2},
    {"a={b=1}\n[a]", E_MALFORMED, 2},
    {"a={b=1,b=2}", E_MALFORMED, 1},
    {"a={b.c=1,b=2}", E_MALFORMED, 1},
    {"a={b={c=1},b.d=2}", E_MALFORMED, 1},
    {"[t]\na.b=1\na={c=1}", E_MALFORMED, 3},
    {"a=[]\n[[a]]", E_MALFORMED, 2},
    {"a=[{b=1}]\n[a.c]", E_MALFORMED, 2},
    {"[[a]]\n[a]", E_MALFORMED, 2},
    {"[a]\n[[a]]", E_MALFORMED, 2},
    {"[a.b]\n[[a]]", E_MALFORMED, 2},
    {"[[a.b]]\n[a]\nb.y=2", E_MALFORMED, 3},
    {"[[a]]\nb=1\nb=2", E_MALFORMED, 3},
    {"[[a]]\n[a.b]\n[a.b]", E_MALFORMED, 3},
};

START_TEST(refuses_what_is_not_toml)
{
	for (size_t i = 0; i < COUNT(refused); i++) {
		struct span text = span_str(refused[i].text);
		static struct toml t;

		ck_assert_msg(dump_at_page_end(text, out, sizeof out) == refused[i].err, "%s: %s",
		    refused[i].text, out);
		toml_init(&t, text);
		while (toml_next(&t).type != TOML_END)
			;
		ck_assert_msg(
		    toml_line(&t) == refused[i].line, "%s: %u", refused[i].text, toml_line(&t));
		each_cut(text, no_crash, NULL);
		each_mutation(text, no_crash, NULL);
	}
}
END_TEST

START_TEST(refuses_nul)
{
	static const uint8_t text[] = {'a', '=', '\'', 0, '\''};
	ck_assert_int_eq(dump(span_of(text, sizeof text), out, sizeof out), E_MALFORMED);
}
END_TEST

/* --- limits
 * --------------------------------------------------------------------------------------- */

/* `before` and `after`, each n times, with `middle` between. */
static struct span nested(const char *before, const char *middle, const char *after, unsigned n)
{
	static char text[8192];
	struct wr w = wr_of(text, sizeof text);

	wr_str(&w, "a=");
	for (unsigned i = 0; i < n; i++)
		wr_str(&w, before);
	wr_str(&w, middle);
	for (unsigned i = 0; i < n; i++)
		wr_str(&w, after);
	ck_assert_int_eq(w.err, E_OK);
	return wr_span(&w);
}

START_TEST(limits_depth)
{
	static const char *const shapes[][3] = {{"[", "", "]"}, {"{b=", "1", "}"}};

	for (size_t i = 0; i < COUNT(shapes); i++) {
		const char *const *s = shapes[i];

		ck_assert_int_eq(
		    dump(nested(s[0], s[1], s[2], TOML_DEPTH_MAX), out, sizeof out), E_OK);
		ck_assert_int_eq(
		    dump(nested(s[0], s[1], s[2], TOML_DEPTH_MAX + 1), out, sizeof out), E_DEPTH);
	}
}
END_TEST

START_TEST(limits_names)
{
	static char text[8192];

	/* The root is one of them. */
	for (unsigned names = TOML_NAMES_MAX - 1; names <= TOML_NAMES_MAX; names++) {
		struct wr w = wr_of(text, sizeof text);
		enum err want = names < TOML_NAMES_MAX ? E_OK : E_LIMIT;

		for (unsigned i = 0; i < names; i++) {
			wr_str(&w, "k");
			wr_dec(&w, i);
			wr_str(&w, "={b=1}\n"); /* what is in there is forgotten again */
		}
		ck_assert_int_eq(w.err, E_OK);
		/* the last one's own content has no room */
		ck_assert_int_eq(dump(wr_span(&w), out, sizeof out), E_LIMIT);
		w = wr_of(text, sizeof text);
		for (unsigned i = 0; i < names; i++)
			wr_str(&w, i ? ".b" : "[b");
		wr_str(&w, "]\n");
		ck_assert_int_eq(dump(wr_span(&w), out, sizeof out), want);
	}
	ck_assert_int_eq(dump(nested("", "[", "{x=1},", 1000), out, sizeof out), E_MORE);
}
END_TEST

/* --- values and paths
 * ------------------------------------------------------------------------------ */

START_TEST(converts_integers_within_a_range)
{
	static struct toml t;
	struct toml_token token;
	int64_t v = 7;

	toml_init(&t, span_str("a=-0x\nb=2"));
	toml_next(&t);
	ck_assert_int_eq(toml_next(&t).type, TOML_END);
	toml_init(&t, span_str("a=5"));
	toml_next(&t);
	token = toml_next(&t);
	ck_assert_int_eq(toml_i64(&token, 6, 9, &v), E_RANGE);
	ck_assert_int_eq(toml_i64(&token, 0, 4, &v), E_RANGE);
	ck_assert_int_eq(v, 7);
	ck_assert_int_eq(toml_i64(&token, 5, 5, &v), E_OK);
	ck_assert_int_eq(v, 5);
	token.type = TOML_FLOAT;
	ck_assert_int_eq(toml_i64(&token, 0, 9, &v), E_MALFORMED);
}
END_TEST

START_TEST(converts_strings_only)
{
	static struct toml t;
	struct toml_token token;
	char small[3];
	struct wr w = wr_of(small, sizeof small);

	toml_init(&t, span_str("a='four'"));
	token = toml_next(&t);
	ck_assert_int_eq(toml_string(&token, &w), E_MALFORMED);
	w = wr_of(small, sizeof small);
	token = toml_next(&t);
	ck_assert_int_eq(toml_string(&token, &w), E_SPACE);
}
END_TEST

START_TEST(knows_paths)
{
	static struct toml t;

	toml_init(&t, span_str("[a]\nb.'c'={d=1}\n[[x]]\ny=1\n[\"a.b\"]\n"));
	toml_next(&t);
	ck_assert(toml_path_is(&t, "a") && toml_path_is_in(&t, "a"));
	ck_assert(!toml_path_is(&t, "b") && !toml_path_is_in(&t, "a.b") && !toml_path_is(&t, ""));
	ck_assert_int_eq(toml_next(&t).type, TOML_KEY);
	ck_assert(toml_path_is(&t, "a.b.c") && toml_path_is_in(&t, "a.b.c"));
	ck_assert(toml_path_is_in(&t, "a") && toml_path_is_in(&t, "a.b"));
	ck_assert(
	    !toml_path_is(&t, "b.c") && !toml_path_is(&t, "c") && !toml_path_is(&t, "z.a.b.c"));
	ck_assert(!toml_path_is(&t, "a.b") && !toml_path_is_in(&t, "b"));
	ck_assert_int_eq(toml_next(&t).type, TOML_INLINE);
	ck_assert_int_eq(toml_next(&t).type, TOML_KEY);
	ck_assert(toml_path_is(&t, "a.b.c.d"));
	ck_assert_int_eq(toml_next(&t).type, TOML_INTEGER);
	ck_assert_int_eq(toml_next(&t).type, TOML_INLINE_END);
	ck_assert(toml_path_is(&t, "a.b.c"));
	ck_assert_int_eq(toml_next(&t).type, TOML_ARRAY_OF_TABLES);
	ck_assert(!toml_path_is(&t, "x") && toml_path_is_in(&t, "x"));
	ck_assert_int_eq(toml_next(&t).type, TOML_KEY);
	ck_assert(!toml_path_is(&t, "x.y") && toml_path_is_in(&t, "x"));
	ck_assert_int_eq(toml_next(&t).type, TOML_INTEGER);
	ck_assert_int_eq(toml_next(&t).type, TOML_TABLE);
	ck_assert(!toml_path_is(&t, "a.b") && !toml_path_is_in(&t, "a"));
}
END_TEST

START_TEST(skips_values)
{
	static struct toml t;
	struct toml_token token;

	toml_init(&t, span_str("a=[1,{b=[2]},[3]]\nc={d={}}\ne=1\nf=[{g=2},3]\nh=4"));
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(toml_next(&t).type, TOML_KEY);
		token = toml_next(&t);
		toml_skip(&t, &token);
	}
	ck_assert_int_eq(toml_next(&t).type, TOML_KEY);
	ck_assert(toml_path_is(&t, "f"));
	ck_assert_int_eq(toml_next(&t).type, TOML_ARRAY);
	token = toml_next(&t);
	toml_skip(&t, &token);
	ck_assert_int_eq(toml_next(&t).type, TOML_INTEGER);
	ck_assert_int_eq(toml_next(&t).type, TOML_ARRAY_END);
	toml_init(&t, span_str("a=[1"));
	toml_next(&t);
	token = toml_next(&t);
	toml_skip(&t, &token);
	ck_assert_int_eq(t.err, E_MORE);
}
END_TEST

START_TEST(the_first_failure_stays)
{
	static struct toml t;

	toml_init(&t, span_str("\na=1\nb=2"));
	toml_next(&t);
	toml_next(&t);
	toml_fail(&t, E_RANGE, "mine");
	toml_fail(&t, E_UTF8, "another's");
	ck_assert_int_eq(toml_next(&t).type, TOML_END);
	ck_assert_int_eq(t.err, E_RANGE);
	ck_assert_str_eq(t.problem, "mine");
	ck_assert_uint_eq(toml_line(&t), 2);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {reads_documents, refuses_what_is_not_toml, refuses_nul,
	    limits_depth, limits_names, converts_integers_within_a_range, converts_strings_only,
	    knows_paths, skips_values, the_first_failure_stays, NULL};

	return suite_of("toml", tests);
}
