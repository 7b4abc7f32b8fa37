/* vmframe.h - exec and file frames between the agent and the vm-agent in a sandbox (its vsock ports
 * 52 and 53).
 *
 *     u8 type, u32 length, payload
 *
 * All integers are little-endian. Spans that are read are views into the input and live as long as
 * it. */
#ifndef CODEC_VMFRAME_H
#define CODEC_VMFRAME_H

#include "base/cursor.h"

#define VMFRAME_HEAD_BYTES  5
#define VMFRAME_PAYLOAD_MAX (16u << 20) /* bytes; a peer that says more is hung up on */

enum vmframe_type {
	/* port 52, to the vm-agent */
	VMFRAME_START = 0x01,      /* JSON: what to run */
	VMFRAME_STDIN = 0x02,      /* bytes */
	VMFRAME_RESIZE = 0x03,     /* struct vmframe_size */
	VMFRAME_EOF = 0x04,        /* empty: end of input */
	VMFRAME_CLOCK_SYNC = 0x05, /* struct vmframe_clock; answered by EXIT 0 or -1 */
	/* port 52, to the agent */
	VMFRAME_STDOUT = 0x10, /* bytes */
	VMFRAME_STDERR = 0x11, /* bytes */
	VMFRAME_EXIT = 0x12,   /* i32 exit code, the last frame */
	/* port 53, to the vm-agent */
	VMFRAME_WRITE_REQ = 0x20, /* JSON {path, mode} */
	VMFRAME_DATA = 0x21,      /* bytes; when reading a file, to the agent */
	VMFRAME_DONE = 0x22,      /* empty; likewise */
	VMFRAME_READ_REQ = 0x23,  /* JSON {path} */
	/* port 53, to the agent */
	VMFRAME_ACK = 0x30, /* empty */
	VMFRAME_ERR = 0x31, /* UTF-8: the reason */
};

struct vmframe {
	uint8_t type; /* enum vmframe_type, or one that nobody knows: to be ignored */
	struct span payload;
};

/* Reads the frame at the front of `in`; *used is its size. E_LIMIT as soon as its head says a
 * payload over VMFRAME_PAYLOAD_MAX, E_MORE until the whole frame is there; an error consumes
 * nothing and leaves the outputs alone. */
enum err vmframe_read(struct span in, struct vmframe *out, size_t *used);

/* How many bytes in all the frame at the front of `in` takes, 0 while its length is not there. Make
 * room for it only after vmframe_read() said E_MORE. */
size_t vmframe_need(struct span in);

/* Writes a head; the caller sends `payload_len` bytes after it. E_LIMIT in w->err when over the
 * limit. */
void vmframe_head_write(struct wr *w, uint8_t type, size_t payload_len);

/* Writes a whole frame. */
void vmframe_write(struct wr *w, uint8_t type, struct span payload);

/* The payloads with a layout of their own. The writers write whole frames, the readers take the
 * payload of a frame of that type and answer E_MALFORMED when its size is another one. */

struct vmframe_size {
	uint16_t width; /* columns */
	uint16_t height;
};

/* A CLOCK_REALTIME; nsecs of a second or more is E_RANGE to the reader. */
struct vmframe_clock {
	int64_t secs;
	uint32_t nsecs;
};

void vmframe_resize_write(struct wr *w, struct vmframe_size size);
enum err vmframe_resize_read(struct span payload, struct vmframe_size *out);

void vmframe_exit_write(struct wr *w, int32_t exit_code);
enum err vmframe_exit_read(struct span payload, int32_t *exit_code);

void vmframe_clock_write(struct wr *w, struct vmframe_clock clock);
enum err vmframe_clock_read(struct span payload, struct vmframe_clock *out);

#endif
