#include "base/cursor.h"

void rd_fail(struct rd *r, enum err err)
{
	if (r->err == E_OK)
		r->err = err;
}

struct span rd_bytes(struct rd *r, size_t n)
{
	struct span s;

	if (r->err == E_OK && n > rd_left(r))
		r->err = E_MORE;
	if (r->err != E_OK)
		return span_of(NULL, 0);
	s = span_first(span_from(span_of(r->p, r->n), r->at), n);
	r->at += n;
	return s;
}

struct span rd_rest(struct rd *r)
{
	return rd_bytes(r, rd_left(r));
}

static uint64_t be(struct rd *r, size_t n)
{
	struct span s = rd_bytes(r, n);
	uint64_t v = 0;

	for (size_t i = 0; i < s.n; i++)
		v = v << 8 | s.p[i];
	return v;
}

static uint64_t le(struct rd *r, size_t n)
{
	struct span s = rd_bytes(r, n);
	uint64_t v = 0;

	for (size_t i = s.n; i > 0; i--)
		v = v << 8 | s.p[i - 1];
	return v;
}

uint8_t rd_u8(struct rd *r)
{
	return (uint8_t)be(r, 1);
}

uint16_t rd_u16be(struct rd *r)
{
	return (uint16_t)be(r, 2);
}

uint32_t rd_u32be(struct rd *r)
{
	return (uint32_t)be(r, 4);
}

uint16_t rd_u16le(struct rd *r)
{
	return (uint16_t)le(r, 2);
}

uint32_t rd_u32le(struct rd *r)
{
	return (uint32_t)le(r, 4);
}

uint64_t rd_u64le(struct rd *r)
{
	return le(r, 8);
}

void wr_fail(struct wr *w, enum err err)
{
	if (w->err == E_OK)
		w->err = err;
}

/* Where the next n bytes go, NULL when they do not fit. */
static uint8_t *take(struct wr *w, size_t n)
{
	if (w->err == E_OK && n > w->cap - w->n)
		w->err = E_SPACE;
	if (w->err != E_OK)
		return NULL;
	w->n += n;
	return w->p + (w->n - n);
}

void wr_bytes(struct wr *w, struct span s)
{
	uint8_t *to = s.n > 0 ? take(w, s.n) : NULL;

	if (to)
		memcpy(to, s.p, s.n);
}

static void put_be(struct wr *w, uint64_t v, size_t n)
{
	uint8_t *to = take(w, n);

	for (size_t i = 0; to && i < n; i++)
		to[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
}

static void put_le(struct wr *w, uint64_t v, size_t n)
{
	uint8_t *to = take(w, n);

	for (size_t i = 0; to && i < n; i++)
		to[i] = (uint8_t)(v >> (8 * i));
}

void wr_u8(struct wr *w, uint8_t v)
{
	put_be(w, v, 1);
}

void wr_u16be(struct wr *w, uint16_t v)
{
	put_be(w, v, 2);
}

void wr_u32be(struct wr *w, uint32_t v)
{
	put_be(w, v, 4);
}

void wr_u16le(struct wr *w, uint16_t v)
{
	put_le(w, v, 2);
}

void wr_u32le(struct wr *w, uint32_t v)
{
	put_le(w, v, 4);
}

void wr_u64le(struct wr *w, uint64_t v)
{
	put_le(w, v, 8);
}

void wr_str(struct wr *w, const char *s)
{
	wr_bytes(w, span_str(s));
}

void wr_dec(struct wr *w, uint64_t v)
{
	uint8_t digits[20];
	size_t at = sizeof digits;

	do {
		digits[--at] = (uint8_t)('0' + v % 10);
		v /= 10;
	} while (v);
	wr_bytes(w, span_of(digits + at, sizeof digits - at));
}

void wr_hex8(struct wr *w, uint8_t v)
{
	static const char digits[] = "0123456789abcdef";
	const char text[] = {digits[v >> 4], digits[v & 15]};

	wr_bytes(w, span_of(text, sizeof text));
}

int wr_failure(struct wr *w, const char *what, const char *subject, int rc)
{
	wr_str(w, what);
	wr_str(w, " ");
	wr_str(w, subject);
	wr_str(w, ": ");
	wr_str(w, err_text(rc));
	return rc;
}

void wr_plain(struct wr *w, struct span text)
{
	text = span_first(text, w->cap - w->n);
	for (size_t i = 0; i < text.n; i++)
		wr_u8(w, text.p[i] < ' ' || text.p[i] > '~' ? '?' : text.p[i]);
}

void wr_nul(struct wr *w)
{
	size_t n = w->n;

	wr_u8(w, 0);
	w->n = n;
}

const char *dec_text(uint64_t v, char buf[DEC_TEXT_BYTES])
{
	struct wr w = wr_of(buf, DEC_TEXT_BYTES);

	wr_dec(&w, v);
	wr_nul(&w);
	return buf;
}

bool text_join_all(char *buf, size_t cap, const char *const *texts)
{
	struct wr w = wr_of(buf, cap - 1);
	bool whole = true;

	for (; *texts; texts++) {
		struct span text = span_str(*texts);
		struct span fits = span_first(text, w.cap - w.n);

		wr_bytes(&w, fits);
		whole = whole && fits.n == text.n;
	}
	buf[w.n] = '\0';
	return whole;
}
