/* frame.h - RPC frames, as they travel between the host and the agent (vsock port 1024).
 *
 *     u32 length      of all that follows, this field not counted
 *     u32 type        enum rpc_type of codec/messages.h
 *     u16 trace_len   \ absent when length is 4 or 5: what is left then is payload
 *     trace           /
 *     payload
 *
 * All integers are big-endian. Spans that are read are views into the input and live as long as
 * that. */
#ifndef CODEC_FRAME_H
#define CODEC_FRAME_H

#include "base/cursor.h"

/* The most that stands before the trace. */
#define FRAME_HEAD_BYTES 10

struct frame_head {
	uint32_t type;
	uint32_t head_bytes; /* what stands before the trace: 10, or 8 without a trace field */
	uint32_t trace_len;
	uint32_t payload_len;
};

struct frame {
	uint32_t type;
	struct span trace; /* opaque, answers carry it unchanged */
	struct span payload;
};

/* Reads the head of the frame at the front of `in`, deciding with as few bytes as can be: E_LIMIT
 * for a length over `limit_bytes` and E_MALFORMED for one under 4 after 4 bytes, E_MALFORMED for a
 * trace that runs out of the frame after 10, E_MORE while the head is cut. */
enum err frame_head_read(struct span in, uint32_t limit_bytes, struct frame_head *out);

/* Reads the frame at the front of `in`; *used is its size. Errors are those of frame_head_read(),
 * and E_MORE until the whole frame is there; an error consumes nothing and leaves the outputs
 * alone. */
enum err frame_read(struct span in, uint32_t limit_bytes, struct frame *out, size_t *used);

/* How many bytes in all the frame at the front of `in` takes, 0 while not even its length is there.
 * The limit is not looked at: make room for it only after frame_read() said E_MORE. */
size_t frame_need(struct span in);

/* Writes all that stands before the payload, trace included; the caller sends `payload_len` bytes
 * after it. E_LIMIT in w->err for a trace over 65535 bytes or a frame over 4 GiB. */
void frame_head_write(struct wr *w, uint32_t type, struct span trace, size_t payload_len);

/* The Error frame: its payload is no protobuf message but i32 code, u32 length and text. */

/* Writes a whole Error frame. The text has to be UTF-8. */
void frame_error_write(struct wr *w, struct span trace, int32_t code, struct span text);

/* Reads the payload of an Error frame; *text is a view into it. E_MALFORMED when it is cut or
 * longer than it says. The text is not checked for UTF-8. */
enum err frame_error_read(struct span payload, int32_t *code, struct span *text);

#endif
