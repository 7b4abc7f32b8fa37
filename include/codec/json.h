/* json.h - JSON (RFC 8259): a pull reader over views, a scanner for streams, a writer.
 *
 * Nothing is allocated and nothing is copied until a string is unescaped. Texts are UTF-8, checked
 * strictly; a lone surrogate (\ud800) is refused. A name that occurs twice in an object is handed
 * out twice. */
#ifndef CODEC_JSON_H
#define CODEC_JSON_H

#include "base/cursor.h"
#include "base/err.h"
#include "base/span.h"

/* How many objects and arrays may be open at once; one more is E_DEPTH. */
#define JSON_DEPTH_MAX 64

enum json_type {
	JSON_END, /* behind the document, or after an error */
	JSON_OBJECT,
	JSON_OBJECT_END,
	JSON_ARRAY,
	JSON_ARRAY_END,
	JSON_KEY,
	JSON_STRING,
	JSON_NUMBER,
	JSON_TRUE,
	JSON_FALSE,
	JSON_NULL,
};

/* `text` is a view of the document. */
struct json_token {
	enum json_type type;
	struct span text; /* of a key or string without its quotes, escapes as they stand */
	bool escaped;     /* a key or string with escapes in it */
};

/* Reads one document that the caller holds whole. The first error sticks: from then on every walk
 * ends, every taker leaves its output alone, and nothing is consumed; so callers check json_end()
 * once. What they may find in it:
 *   E_MORE       the text is cut
 *   E_MALFORMED  not JSON, or a value is not of the type that was asked for
 *   E_UTF8       a string is not UTF-8
 *   E_DEPTH      nested deeper than JSON_DEPTH_MAX
 *   E_RANGE      a number is outside the range that was asked for */
struct json {
	struct span text;
	size_t at;        /* what has been read; after an error, where it is */
	enum err err;     /* sticky */
	unsigned depth;   /* objects and arrays open */
	uint64_t objects; /* a bit for each level that is open: set for an object */
	int expect;       /* what the grammar allows next; private */
};

struct json json_of(struct span text);

/* Makes the reader fail with `err` unless it has failed already. */
void json_fail(struct json *j, enum err err);

/* Ends the reading: E_OK when the document is complete and only blanks follow it. */
enum err json_end(struct json *j);

/* --- the walk -------------------------------------------------------------
 *
 *     json_object(&j);
 *     while (json_key(&j, &key)) {
 *             if (json_is(&key, "Id"))
 *                     json_take_string(&j, &id);
 *             else if (json_is(&key, "Names") && !json_null(&j))
 *                     for (json_array(&j); json_item(&j);)
 *                             json_take_string(&j, &name);
 *     }
 *     return json_end(&j);
 *
 * A value that nobody takes is skipped by the next json_key() or json_item(), and checked all the
 * same. A loop must run to its end: leaving it early leaves the reader inside. */

/* Enters the object or array that comes next; false when it is something else. */
bool json_object(struct json *j);
bool json_array(struct json *j);

/* The next key of the innermost object, whose value comes next; false when the object ends, which
 * is then left, or on an error. */
bool json_key(struct json *j, struct json_token *key);

/* True when the innermost array has one more value, which comes next; else as json_key(). */
bool json_item(struct json *j);

/* Take the value that comes next: false, with *out left alone, when it is not of that type.
 * Integers are exact: no fraction and no exponent. */
bool json_take_string(struct json *j, struct json_token *out);
bool json_take_bool(struct json *j, bool *out);
bool json_take_u64(struct json *j, uint64_t min, uint64_t max, uint64_t *out);
bool json_take_i64(struct json *j, int64_t min, int64_t max, int64_t *out);

/* json_take_string() and json_cstr() in one: the errors of the latter stick, too. */
bool json_take_cstr(struct json *j, char *buf, size_t cap);

/* Takes a null that comes next; false, with nothing consumed, when it is another value. */
bool json_null(struct json *j);

/* Takes whatever value comes next, checks it, and returns its text. */
struct span json_skip(struct json *j);

/* --- below the walk ------------------------------------------------------- */

/* The next token of the document; JSON_END behind it and after an error. */
struct json_token json_next(struct json *j);

/* The type of the token that json_next() would return. Only its first byte is looked at. */
enum json_type json_peek(struct json *j);

/* True when a key or string is this text, escapes honoured. */
bool json_is(const struct json_token *t, const char *text);

/* Appends the text of a key or string that the reader handed out, unescaped, as UTF-8; it may hold
 * NUL. It is never longer than t->text. Fails as the writer does. */
enum err json_string(const struct json_token *t, struct wr *w);

/* The same as a C string in buf[cap]; E_SPACE when it does not fit, E_MALFORMED when it holds a
 * NUL; buf is empty then. */
enum err json_cstr(const struct json_token *t, char *buf, size_t cap);

/* The integer that a number token holds; errors and range as parse_u64(), E_MALFORMED for a
 * fraction or an exponent. */
enum err json_u64(const struct json_token *t, uint64_t min, uint64_t max, uint64_t *out);
enum err json_i64(const struct json_token *t, int64_t min, int64_t max, int64_t *out);

/* --- streams -------------------------------------------------------------- */

/* Finds where documents end in a stream of them, looking at each byte once. Starts as {0}. */
struct json_scan {
	size_t at;      /* how much of the input has been looked at */
	unsigned depth; /* objects and arrays open */
	int state;      /* what the last byte was part of; private */
};

/* Looks for the end of the document that `in` starts with. `in` must begin with the same bytes
 * until it is found: hand in what has arrived so far, and drop *used bytes when it is. The blanks
 * before the document count as part of it. E_OK: the first *used bytes hold one document for
 * json_of(), and the state is ready for the next. E_MORE: not yet (a number at the top ends with
 * the byte behind it). E_MALFORMED or E_DEPTH: no document starts like this; whether what is found
 * is JSON is for the reader to say. */
enum err json_scan_value(struct json_scan *scan, struct span in, size_t *used);

/* --- the writer ----------------------------------------------------------- */

/* Writes compact JSON and puts the commas in. Errors stick in `w`. That begins and ends match and
 * values of an object have keys is up to the caller. */
struct json_writer {
	struct wr *w;
	bool comma; /* the next key or value needs one before it */
};

static inline struct json_writer json_writer_of(struct wr *w)
{
	return (struct json_writer){w, false};
}

void json_put_object(struct json_writer *jw);
void json_put_object_end(struct json_writer *jw);
void json_put_array(struct json_writer *jw);
void json_put_array_end(struct json_writer *jw);

/* Texts may be anything: bytes that are not UTF-8 become U+FFFD. */
void json_put_key(struct json_writer *jw, const char *key);
void json_put_key_span(struct json_writer *jw, struct span key);
void json_put_str(struct json_writer *jw, const char *text);
void json_put_string(struct json_writer *jw, struct span text);

void json_put_u64(struct json_writer *jw, uint64_t v);
void json_put_i64(struct json_writer *jw, int64_t v);
void json_put_bool(struct json_writer *jw, bool v);
void json_put_null(struct json_writer *jw);

/* Rounded to three decimals; null when it is no number or not within ±1e15. */
void json_put_double(struct json_writer *jw, double v);

#endif
