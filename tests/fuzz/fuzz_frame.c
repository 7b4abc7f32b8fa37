/* RPC frames: what reads as a frame writes back to the same bytes, unless it had no trace field;
 * and it reads from no byte less than it used. */
#include "codec/frame.h"

#include "fuzz.h"

#include <stdlib.h>

#define LIMIT 4096

static void check_written(const struct frame *f, struct span in)
{
	static uint8_t buf[LIMIT + 4];
	struct wr w = wr_of(buf, sizeof buf);

	frame_head_write(&w, f->type, f->trace, f->payload.n);
	wr_bytes(&w, f->payload);
	if (w.err || !span_eq(wr_span(&w), in))
		abort();
}

static void check_error(struct span payload)
{
	static uint8_t buf[LIMIT + 16];
	struct wr w = wr_of(buf, sizeof buf);
	struct frame f;
	struct span text;
	int32_t code;
	size_t used;

	if (frame_error_read(payload, &code, &text))
		return;
	frame_error_write(&w, span_of(NULL, 0), code, text);
	if (w.err || frame_read(wr_span(&w), UINT32_MAX, &f, &used) || !span_eq(f.payload, payload))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct span in = span_of(data, n);
	struct frame f, cut;
	size_t used, none;

	while (frame_read(in, LIMIT, &f, &used) == E_OK) {
		if (used > in.n || used != frame_need(in))
			abort();
		if (frame_read(span_first(in, used - 1), LIMIT, &cut, &none) != E_MORE)
			abort();
		if (used >= FRAME_HEAD_BYTES)
			check_written(&f, span_first(in, used));
		check_error(f.payload);
		in = span_from(in, used);
	}
	return 0;
}
