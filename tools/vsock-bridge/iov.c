#include "iov.h"

#include <stdint.h>
#include <string.h>

size_t iov_bytes(struct iov v)
{
	size_t bytes = 0;

	for (unsigned i = 0; i < v.n; i++)
		bytes += v.p[i].iov_len;
	return bytes;
}

void iov_skip(struct iov *v, size_t bytes)
{
	while (v->n && bytes >= v->p->iov_len) {
		bytes -= v->p->iov_len;
		v->p++;
		v->n--;
	}
	if (!v->n)
		return;
	v->p->iov_base = (uint8_t *)v->p->iov_base + bytes;
	v->p->iov_len -= bytes;
}

void iov_cut(struct iov *v, size_t bytes)
{
	unsigned i = 0;

	while (i < v->n && bytes >= v->p[i].iov_len)
		bytes -= v->p[i++].iov_len;
	if (i < v->n && bytes)
		v->p[i++].iov_len = bytes;
	v->n = i;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

size_t iov_read(struct iov v, void *to, size_t bytes)
{
	size_t done = 0;

	for (unsigned i = 0; i < v.n && done < bytes; i++) {
		size_t n = least(v.p[i].iov_len, bytes - done);

		memcpy((uint8_t *)to + done, v.p[i].iov_base, n);
		done += n;
	}
	return done;
}

size_t iov_write(struct iov v, const void *from, size_t bytes)
{
	size_t done = 0;

	for (unsigned i = 0; i < v.n && done < bytes; i++) {
		size_t n = least(v.p[i].iov_len, bytes - done);

		memcpy(v.p[i].iov_base, (const uint8_t *)from + done, n);
		done += n;
	}
	return done;
}
