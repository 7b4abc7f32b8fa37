/* block.h - reading block devices, or files that stand for one. Blocks: for a worker. */
#ifndef SYS_BLOCK_H
#define SYS_BLOCK_H

#include <stddef.h>
#include <stdint.h>

/* An fd for reading, and how large the device is, or -errno: -ENOTBLK when it is neither a device
 * nor a file, -ENOMEDIUM when it has no size. */
int block_open(const char *path, uint64_t *size_bytes);

/* Reads all of the n bytes at `at`. 0 or -errno; -EIO when the device ends before. */
int block_read(int fd, uint64_t at, void *buf, size_t n);

#endif
