/* iov.h - lists of pieces of memory (struct iovec), handled as one run of bytes. */
#ifndef BRIDGE_IOV_H
#define BRIDGE_IOV_H

#include <stddef.h>
#include <sys/uio.h>

/* A list owned by the caller, whose iovecs are changed as bytes are taken off. */
struct iov {
	struct iovec *p;
	unsigned n;
};

size_t iov_bytes(struct iov v);

/* Takes up to `bytes` bytes off the front. */
void iov_skip(struct iov *v, size_t bytes);

/* Cuts the list to at most its first `bytes` bytes. */
void iov_cut(struct iov *v, size_t bytes);

/* Copies between the list and a flat buffer; returns how many bytes, less than `bytes` when the
 * list is shorter. */
size_t iov_read(struct iov v, void *to, size_t bytes);
size_t iov_write(struct iov v, const void *from, size_t bytes);

#endif
