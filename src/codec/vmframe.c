#include "codec/vmframe.h"

#define NSECS_PER_SEC 1000000000u

enum err vmframe_read(struct span in, struct vmframe *out, size_t *used)
{
	struct rd r = rd_of(in);
	uint8_t type = rd_u8(&r);
	uint32_t length = rd_u32le(&r);
	struct span payload;

	if (r.err)
		return r.err;
	if (length > VMFRAME_PAYLOAD_MAX)
		return E_LIMIT;
	payload = rd_bytes(&r, length);
	if (r.err)
		return r.err;
	*out = (struct vmframe){type, payload};
	*used = r.at;
	return E_OK;
}

size_t vmframe_need(struct span in)
{
	struct rd r = rd_of(in);
	uint32_t length;

	rd_u8(&r);
	length = rd_u32le(&r);
	return r.err ? 0 : (size_t)VMFRAME_HEAD_BYTES + length;
}

void vmframe_head_write(struct wr *w, uint8_t type, size_t payload_len)
{
	if (payload_len > VMFRAME_PAYLOAD_MAX) {
		wr_fail(w, E_LIMIT);
		return;
	}
	wr_u8(w, type);
	wr_u32le(w, (uint32_t)payload_len);
}

void vmframe_write(struct wr *w, uint8_t type, struct span payload)
{
	vmframe_head_write(w, type, payload.n);
	wr_bytes(w, payload);
}

/* Whether the cursor has read all of a payload, and no more than there was. */
static enum err all_read(const struct rd *r)
{
	return r->err || rd_left(r) ? E_MALFORMED : E_OK;
}

void vmframe_resize_write(struct wr *w, struct vmframe_size size)
{
	vmframe_head_write(w, VMFRAME_RESIZE, sizeof size.width + sizeof size.height);
	wr_u16le(w, size.width);
	wr_u16le(w, size.height);
}

enum err vmframe_resize_read(struct span payload, struct vmframe_size *out)
{
	struct rd r = rd_of(payload);
	struct vmframe_size size;

	size.width = rd_u16le(&r);
	size.height = rd_u16le(&r);
	if (all_read(&r))
		return E_MALFORMED;
	*out = size;
	return E_OK;
}

void vmframe_exit_write(struct wr *w, int32_t exit_code)
{
	vmframe_head_write(w, VMFRAME_EXIT, sizeof exit_code);
	wr_u32le(w, (uint32_t)exit_code);
}

enum err vmframe_exit_read(struct span payload, int32_t *exit_code)
{
	struct rd r = rd_of(payload);
	uint32_t code = rd_u32le(&r);

	if (all_read(&r))
		return E_MALFORMED;
	*exit_code = (int32_t)code;
	return E_OK;
}

void vmframe_clock_write(struct wr *w, struct vmframe_clock clock)
{
	vmframe_head_write(w, VMFRAME_CLOCK_SYNC, sizeof clock.secs + sizeof clock.nsecs);
	wr_u64le(w, (uint64_t)clock.secs);
	wr_u32le(w, clock.nsecs);
}

enum err vmframe_clock_read(struct span payload, struct vmframe_clock *out)
{
	struct rd r = rd_of(payload);
	struct vmframe_clock clock;

	clock.secs = (int64_t)rd_u64le(&r);
	clock.nsecs = rd_u32le(&r);
	if (all_read(&r))
		return E_MALFORMED;
	if (clock.nsecs >= NSECS_PER_SEC)
		return E_RANGE;
	*out = clock;
	return E_OK;
}
