/* The first byte says how the answer behind it is cut; 'H' makes it an answer to HEAD. Whole or in
 * pieces, it must mean the same. */
#include "codec/http1.h"
#include "fuzz.h"

#define INPUT_MAX 16384

struct answer {
	enum err err;
	struct http1_head head;
	size_t head_bytes, body_bytes; /* consumed */
	bool end, eof;
	struct wr data;
};

/* Reads a head from an input that grows by `step`. */
static enum err read_head(struct span in, size_t step, bool is_head, struct answer *a)
{
	enum err err = E_MORE;

	for (size_t n = 0; err == E_MORE && n < in.n;) {
		n += step < in.n - n ? step : in.n - n;
		err = http1_head_read(
		    span_first(in, n), &http1_default_limits, is_head, &a->head, &a->head_bytes);
		if (err == E_OK && a->head_bytes > n)
			__builtin_trap();
	}
	return err;
}

static void read_body(struct span in, size_t step, struct answer *a)
{
	struct http1_body body;

	http1_body_init(&body, &a->head);
	do {
		struct span piece = span_first(span_from(in, a->body_bytes), step);
		struct span data;
		size_t used;

		a->err = http1_body_read(&body, piece, &used, &data, &a->end);
		if (a->err)
			break;
		if (used > piece.n || data.n > used || (used == 0 && piece.n && !a->end))
			__builtin_trap();
		a->body_bytes += used;
		wr_bytes(&a->data, data);
	} while (!a->end && a->body_bytes < in.n);
	a->eof = http1_body_eof(&body);
}

static struct answer read_answer(struct span in, size_t step, bool is_head, uint8_t *buf)
{
	struct answer a = {.data = wr_of(buf, INPUT_MAX)};

	a.err = read_head(in, step, is_head, &a);
	if (a.err == E_OK)
		read_body(span_from(in, a.head_bytes), step, &a);
	return a;
}

static void check_fields(const struct http1_head *head)
{
	struct span rest = head->fields;
	struct http1_field field;

	while (http1_field_next(&rest, &field))
		if (field.name.n == 0 || span_find(field.value, '\n') < field.value.n)
			__builtin_trap();
	if (rest.n)
		__builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static uint8_t whole_buf[INPUT_MAX], pieces_buf[INPUT_MAX];
	struct span in = span_from(span_of(data, n), 1);
	struct answer whole, pieces;
	bool is_head = n && data[0] == 'H';

	if (n == 0 || n > INPUT_MAX)
		return 0;
	whole = read_answer(in, n, is_head, whole_buf);
	pieces = read_answer(in, (size_t)data[0] % 64 + 1, is_head, pieces_buf);
	if (whole.err != pieces.err || whole.head_bytes != pieces.head_bytes ||
	    whole.end != pieces.end || whole.eof != pieces.eof ||
	    !span_eq(wr_span(&whole.data), wr_span(&pieces.data)))
		__builtin_trap();
	if (whole.err == E_OK && whole.body_bytes != pieces.body_bytes)
		__builtin_trap();
	check_fields(&whole.head);
	return 0;
}
