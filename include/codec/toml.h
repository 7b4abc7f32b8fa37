/* toml.h - TOML 1.0.0 (https://toml.io/en/v1.0.0): a strict pull reader over views.
 *
 * The reader hands out a document piece by piece and refuses what the format forbids, also what
 * only the whole shows: a key or table that is defined twice, or a table that is added to after it
 * was closed. For that it remembers each name of the document, in a table of fixed size; nothing is
 * allocated and nothing is copied until a string is unescaped.
 *
 *     toml_init(&t, text);
 *     while ((token = toml_next(&t)).type != TOML_END)
 *             if (token.type == TOML_KEY && toml_path_is(&t, "network.dns"))
 *                     ...                          toml_next() is its value
 *     if (t.err)
 *             ...                                  t.problem, in line toml_line(&t)
 *
 * All ways to write a key look the same through toml_path_is(): [a] b = 1, a.b = 1 and
 * a = {b = 1} have the path "a.b". */
#ifndef CODEC_TOML_H
#define CODEC_TOML_H

#include "base/cursor.h"
#include "base/err.h"
#include "base/span.h"

enum {
	TOML_DEPTH_MAX = 16,  /* arrays and inline tables that may be open at once */
	TOML_NAMES_MAX = 256, /* keys, tables and elements of arrays of tables in a document */
};

enum toml_type {
	TOML_END,             /* behind the document, or after an error */
	TOML_TABLE,           /* [a.b] */
	TOML_ARRAY_OF_TABLES, /* [[a.b]], one more element */
	TOML_KEY,             /* its value comes next */

	/* values */
	TOML_STRING,
	TOML_INTEGER,
	TOML_FLOAT,
	TOML_TRUE,
	TOML_FALSE,
	TOML_TIME, /* a date, a time of day or both */
	TOML_ARRAY,
	TOML_ARRAY_END,
	TOML_INLINE, /* an inline table: keys and values until its end */
	TOML_INLINE_END,
};

/* `text` is a view of the document: what is between the quotes of a string; others as they stand.
 */
struct toml_token {
	enum toml_type type;
	struct span text;
	bool escaped; /* a string in which backslashes escape */
};

/* What a name stands for, and what may still be said about it. */
enum toml_kind {
	TOML_VALUE,   /* a value, or an inline table that is closed */
	TOML_IMPLIED, /* a table that only stood before a dot in a header */
	TOML_DEFINED, /* a table with a header of its own */
	TOML_DOTTED,  /* a table made by dots in a key */
	TOML_LIST,    /* an array of tables */
	TOML_ELEMENT, /* one of its tables, or an inline table in an array */
};

struct toml_name {
	struct span text; /* without quotes; empty for an element */
	uint16_t parent;  /* index of the table it is in; the root is 0, and its own parent */
	uint8_t kind;
	bool escaped;
};

/* An array or inline table that is open. */
struct toml_open {
	bool array;
	uint16_t owner; /* the name it is the value of */
	uint16_t names; /* how many were known before it */
};

/* Reads one document that the caller holds whole. The first error sticks, and nothing is handed out
 * any more:
 *   E_MALFORMED  not TOML, or the caller said so (toml_fail)
 *   E_MORE       the document ends in the middle of something
 *   E_UTF8       it is not UTF-8
 *   E_RANGE      an integer does not fit into 64 bits
 *   E_DEPTH      nested deeper than TOML_DEPTH_MAX
 *   E_LIMIT      it has more than TOML_NAMES_MAX names */
struct toml {
	struct span text;
	enum err err;        /* sticky */
	const char *problem; /* NULL, or what is wrong in a few words; static */

	/* private */
	size_t at;      /* what has been read */
	size_t token;   /* where the last token begins, or what there was instead of one */
	int expect;     /* what the grammar allows next */
	uint16_t table; /* of the last header */
	uint16_t key;   /* the last key */
	unsigned depth; /* how many of these are open */
	struct toml_open open[TOML_DEPTH_MAX];
	unsigned count; /* of names */
	struct toml_name names[TOML_NAMES_MAX];
};

void toml_init(struct toml *t, struct span text);

/* The next token; TOML_END behind the document and after an error. */
struct toml_token toml_next(struct toml *t);

/* The value that `first` begins is of no interest: reads to its end. */
void toml_skip(struct toml *t, const struct toml_token *first);

/* Makes the reader fail unless it has failed already; for values that the caller refuses. `problem`
 * is static. */
void toml_fail(struct toml *t, enum err err, const char *problem);

/* The line, from 1, of the last token; after an error, the line that is in error. */
unsigned toml_line(const struct toml *t);

/* --- paths: of the last key or header, from the root ------------------------------------------
 *
 * After an error, of what there is of the key or header in error. */

/* Whether it is `path`, bare names with dots between. */
bool toml_path_is(const struct toml *t, const char *path);

/* Whether it is `path` or somewhere below. */
bool toml_path_is_in(const struct toml *t, const char *path);

/* Appends the path as TOML would have it: names that are not bare are in quotes, though not
 * escaped, and what is in an array has "[]" before its name. Fails as the writer does. */
enum err toml_path(const struct toml *t, struct wr *w);

/* --- values ----------------------------------------------------------------------------------- */

/* Appends a string, unescaped, as UTF-8; it may hold NUL. It is never longer than token->text.
 * Fails as the writer does; E_MALFORMED for a token that is none. */
enum err toml_string(const struct toml_token *token, struct wr *w);

/* Integers. E_RANGE outside min..max, E_MALFORMED for a token that is none. */
enum err toml_i64(const struct toml_token *token, int64_t min, int64_t max, int64_t *out);

#endif
