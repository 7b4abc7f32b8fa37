/* disk.h - what is on a block device, by its signatures.
 *
 * Knows what blkid(8) knows of what is in use today: filesystems, swap, partition tables, encrypted
 * volumes, and members of volume groups and arrays. Where a format has more than one place for its
 * signature, any of them will do, and what blkid checks further is not checked: a device whose
 * contents are damaged has them nevertheless. The rows say where each format is described. */
#ifndef CODEC_DISK_H
#define CODEC_DISK_H

#include "base/span.h"

/* The pieces of a device that signatures are in. A piece that the device has no place for is
 * shorter, or empty. */
#define DISK_HEAD_BYTES ((size_t)(4 << 20) + 4096)
#define DISK_TAIL_BYTES ((size_t)1 << 20)
#define DISK_COPY_AT    (UINT64_C(64) << 20) /* of Btrfs's superblock, the first copy */
#define DISK_COPY_BYTES ((size_t)4096)

struct disk {
	uint64_t size_bytes;
	struct span head; /* its first DISK_HEAD_BYTES */
	struct span copy; /* DISK_COPY_BYTES from DISK_COPY_AT */
	struct span tail; /* its last DISK_TAIL_BYTES, which may overlap the head */
};

enum disk_kind {
	DISK_UNKNOWN, /* blank, or nothing that has a name: also a Btrfs whose making was cut off */
	DISK_BTRFS,   /* the superblock is there */
	DISK_FOREIGN, /* something else, or a Btrfs that is damaged */
};

/* Never fails. *what is a name with its article, like "a LUKS volume"; static. */
enum disk_kind disk_identify(const struct disk *d, const char **what);

#endif
