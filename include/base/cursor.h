/* cursor.h - read and write cursors over bytes, with a sticky error.
 *
 * Calls may be made in a row and checked once: after the first failure every read returns 0 or an
 * empty span, every write does nothing, and `err` keeps the first reason. Bounds are compared by
 * subtraction, so no length a peer sends can overflow them. */
#ifndef BASE_CURSOR_H
#define BASE_CURSOR_H

#include "base/err.h"
#include "base/span.h"

/* Reads from bytes owned by the caller; spans it returns live as long as those. */
struct rd {
	const uint8_t *p; /* start of the input */
	size_t n;         /* its length */
	size_t at;        /* what has been read, at <= n */
	enum err err;     /* E_OK, or why reading stopped: E_MORE for an input that is cut */
};

static inline struct rd rd_of(struct span s)
{
	return (struct rd){s.p, s.n, 0, E_OK};
}

static inline size_t rd_left(const struct rd *r)
{
	return r->n - r->at;
}

/* Makes the cursor fail with `err` unless it has failed already. */
void rd_fail(struct rd *r, enum err err);

uint8_t rd_u8(struct rd *r);
uint16_t rd_u16be(struct rd *r);
uint32_t rd_u32be(struct rd *r);
uint16_t rd_u16le(struct rd *r);
uint32_t rd_u32le(struct rd *r);
uint64_t rd_u64le(struct rd *r);

/* The next n bytes as a view. */
struct span rd_bytes(struct rd *r, size_t n);

/* All that is left as a view. */
struct span rd_rest(struct rd *r);

/* Writes into a buffer owned by the caller. The output is valid only while err is E_OK. */
struct wr {
	uint8_t *p;   /* the buffer */
	size_t cap;   /* its size */
	size_t n;     /* what has been written, n <= cap */
	enum err err; /* E_OK, or E_SPACE when something did not fit */
};

static inline struct wr wr_of(void *p, size_t cap)
{
	return (struct wr){p, cap, 0, E_OK};
}

/* What has been written so far. */
static inline struct span wr_span(const struct wr *w)
{
	return span_of(w->p, w->n);
}

void wr_fail(struct wr *w, enum err err);

void wr_u8(struct wr *w, uint8_t v);
void wr_u16be(struct wr *w, uint16_t v);
void wr_u32be(struct wr *w, uint32_t v);
void wr_u16le(struct wr *w, uint16_t v);
void wr_u32le(struct wr *w, uint32_t v);
void wr_u64le(struct wr *w, uint64_t v);
void wr_bytes(struct wr *w, struct span s);

/* Text: a C string without its NUL, a number in decimal, and a byte as two hexadecimal digits. */
void wr_str(struct wr *w, const char *s);
void wr_dec(struct wr *w, uint64_t v);
void wr_hex8(struct wr *w, uint8_t v);

/* "what subject: why": what a person reads of a failure (err_text()). Returns rc. */
int wr_failure(struct wr *w, const char *what, const char *subject, int rc);

/* As much of what a stranger says as fits, in one line of printable ASCII: '?' for the rest. */
void wr_plain(struct wr *w, struct span text);

/* Ends the text with a NUL that is not counted in n, so that w->p is a C string. */
void wr_nul(struct wr *w);

/* A number in decimal as a C string in buf, which is returned. */
enum { DEC_TEXT_BYTES = sizeof "18446744073709551615" };
const char *dec_text(uint64_t v, char buf[DEC_TEXT_BYTES]);

/* Makes a C string of several in buf[cap], cap > 0: text_join(path, sizeof path, dir, "/", name).
 * False when it had to be cut. */
bool text_join_all(char *buf, size_t cap, const char *const *texts);
#define text_join(buf, cap, ...)                                                                   \
	text_join_all((buf), (cap), (const char *const[]){__VA_ARGS__, NULL})

#endif
