/* Disks: a device that has a name has one, too, when more of it is read. The input says what is
 * where: by how much the device is larger than what its pieces need to lie apart, how much of its
 * head is read at first (in units of 64 bytes), and what is in the pieces: an area, an offset, a
 * length, and bytes. */
#include "codec/disk.h"

#include "base/cursor.h"
#include "fuzz.h"

#include <stdlib.h>

enum { HEAD, COPY, TAIL, AREAS };

static uint8_t head[DISK_HEAD_BYTES], copy[DISK_COPY_BYTES], tail[DISK_TAIL_BYTES];

static const struct {
	uint8_t *p;
	size_t n;
} areas[AREAS] = {{head, sizeof head}, {copy, sizeof copy}, {tail, sizeof tail}};

/* Writes the pieces, or takes them away again. */
static void put_pieces(struct rd r, bool there)
{
	while (rd_left(&r) && !r.err) {
		unsigned area = rd_u8(&r) % AREAS;
		size_t at = rd_u32le(&r) % areas[area].n;
		struct span bytes = span_first(rd_bytes(&r, rd_u8(&r)), areas[area].n - at);

		for (size_t i = 0; i < bytes.n; i++)
			areas[area].p[at + i] = there ? bytes.p[i] : 0;
	}
}

static enum disk_kind identify(const struct disk *d)
{
	const char *what = NULL;
	enum disk_kind kind = disk_identify(d, &what);

	if (!what || kind > DISK_FOREIGN)
		abort();
	return kind;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct rd r = rd_of(span_of(data, n));
	struct disk whole = {DISK_COPY_AT + sizeof copy + sizeof tail + rd_u32le(&r),
	    span_of(head, sizeof head), span_of(copy, sizeof copy), span_of(tail, sizeof tail)};
	struct disk part = whole;

	part.head = span_first(part.head, (size_t)rd_u16le(&r) * 64);
	part.copy.n = 0; /* what is there may count for nothing when the head is known */
	put_pieces(r, true);
	if (identify(&part) != DISK_UNKNOWN && identify(&whole) == DISK_UNKNOWN)
		abort();
	put_pieces(r, false);
	return 0;
}
