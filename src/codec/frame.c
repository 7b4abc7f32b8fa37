#include "codec/frame.h"

#include "codec/messages.h"

#define LENGTH_BYTES 4
#define TYPE_BYTES   4
#define TRACE_BYTES  2 /* of the field that says how long the trace is */

enum err frame_head_read(struct span in, uint32_t limit_bytes, struct frame_head *out)
{
	struct rd r = rd_of(in);
	uint32_t length = rd_u32be(&r);
	uint32_t left, trace_len;
	uint32_t type;

	if (r.err)
		return r.err;
	if (length > limit_bytes)
		return E_LIMIT;
	if (length < TYPE_BYTES)
		return E_MALFORMED;
	type = rd_u32be(&r);
	left = length - TYPE_BYTES;
	if (r.err)
		return r.err;
	if (left < TRACE_BYTES) {
		*out = (struct frame_head){type, (uint32_t)r.at, 0, left};
		return E_OK;
	}
	trace_len = rd_u16be(&r);
	left -= TRACE_BYTES;
	if (r.err)
		return r.err;
	if (trace_len > left)
		return E_MALFORMED;
	*out = (struct frame_head){type, (uint32_t)r.at, trace_len, left - trace_len};
	return E_OK;
}

enum err frame_read(struct span in, uint32_t limit_bytes, struct frame *out, size_t *used)
{
	struct frame_head head;
	struct span trace, payload;
	enum err err = frame_head_read(in, limit_bytes, &head);
	struct rd r = rd_of(in);

	if (err)
		return err;
	rd_bytes(&r, head.head_bytes);
	trace = rd_bytes(&r, head.trace_len);
	payload = rd_bytes(&r, head.payload_len);
	if (r.err)
		return r.err;
	*out = (struct frame){head.type, trace, payload};
	*used = r.at;
	return E_OK;
}

size_t frame_need(struct span in)
{
	struct rd r = rd_of(in);
	uint32_t length = rd_u32be(&r);

	return r.err ? 0 : (size_t)LENGTH_BYTES + length;
}

void frame_head_write(struct wr *w, uint32_t type, struct span trace, size_t payload_len)
{
	const uint32_t fixed = TYPE_BYTES + TRACE_BYTES;

	if (trace.n > UINT16_MAX || payload_len > UINT32_MAX - fixed - trace.n) {
		wr_fail(w, E_LIMIT);
		return;
	}
	wr_u32be(w, (uint32_t)(fixed + trace.n + payload_len));
	wr_u32be(w, type);
	wr_u16be(w, (uint16_t)trace.n);
	wr_bytes(w, trace);
}

void frame_error_write(struct wr *w, struct span trace, int32_t code, struct span text)
{
	frame_head_write(w, RPC_ERROR, trace, sizeof code + sizeof(uint32_t) + text.n);
	wr_u32be(w, (uint32_t)code);
	wr_u32be(w, (uint32_t)text.n);
	wr_bytes(w, text);
}

enum err frame_error_read(struct span payload, int32_t *code, struct span *text)
{
	struct rd r = rd_of(payload);
	uint32_t value = rd_u32be(&r);
	struct span message = rd_bytes(&r, rd_u32be(&r));

	if (r.err || rd_left(&r))
		return E_MALFORMED;
	*code = (int32_t)value;
	*text = message;
	return E_OK;
}
