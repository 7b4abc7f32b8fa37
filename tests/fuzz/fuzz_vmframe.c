/* Frames of the vm-agent: what is read writes back to the same bytes, payloads with a layout too.
 */
#include "codec/vmframe.h"

#include "fuzz.h"

#include <stdlib.h>

static void check(struct wr *w, struct span want)
{
	if (w->err || !span_eq(wr_span(w), want))
		abort();
}

static void check_payload(struct vmframe f, struct span whole)
{
	uint8_t buf[32];
	struct wr w = wr_of(buf, sizeof buf);
	struct vmframe_size size;
	struct vmframe_clock clock;
	int32_t exit_code;

	if (f.type == VMFRAME_RESIZE && vmframe_resize_read(f.payload, &size) == E_OK)
		vmframe_resize_write(&w, size);
	else if (f.type == VMFRAME_EXIT && vmframe_exit_read(f.payload, &exit_code) == E_OK)
		vmframe_exit_write(&w, exit_code);
	else if (f.type == VMFRAME_CLOCK_SYNC && vmframe_clock_read(f.payload, &clock) == E_OK)
		vmframe_clock_write(&w, clock);
	else
		return;
	check(&w, whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct span in = span_of(data, n);
	struct vmframe f, cut;
	size_t used, none;

	while (vmframe_read(in, &f, &used) == E_OK) {
		struct span whole = span_first(in, used);
		static uint8_t buf[4096];
		struct wr w = wr_of(buf, sizeof buf);

		if (used > in.n || used != vmframe_need(in))
			abort();
		if (vmframe_read(span_first(in, used - 1), &cut, &none) != E_MORE)
			abort();
		vmframe_write(&w, f.type, f.payload);
		if (used <= sizeof buf)
			check(&w, whole);
		check_payload(f, whole);
		in = span_from(in, used);
	}
	return 0;
}
