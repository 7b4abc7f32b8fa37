#include "guest_memory.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* Whether `from` + `bytes` stays in 64 bits, the address behind the last byte included. */
static bool wraps(uint64_t from, uint64_t bytes)
{
	return bytes > UINT64_MAX - from;
}

static int check(const struct guest_layout *l, int fd)
{
	struct stat st;

	if (l->bytes == 0 || wraps(l->guest_addr, l->bytes) || wraps(l->user_addr, l->bytes))
		return -EINVAL;
	if (wraps(l->file_offset, l->bytes) || l->file_offset + l->bytes > SIZE_MAX)
		return -EINVAL;
	if (fstat(fd, &st) < 0)
		return -errno;
	return l->file_offset + l->bytes > (uint64_t)st.st_size ? -EINVAL : 0;
}

/* The whole file up to the region's end: an offset need not be a multiple of its page size, which
 * may be that of huge pages. */
static size_t map_bytes(const struct guest_layout *l)
{
	return (size_t)(l->file_offset + l->bytes);
}

int guest_memory_add(struct guest_memory *m, int fd, const struct guest_layout *layout)
{
	int rc = check(layout, fd);
	uint8_t *map;

	if (rc < 0)
		return rc;
	if (m->n == GUEST_REGIONS)
		return -ENOSPC;
	map = mmap(
	    NULL, map_bytes(layout), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	m->regions[m->n++] = (struct guest_region){*layout, map + layout->file_offset};
	return 0;
}

void guest_memory_clear(struct guest_memory *m)
{
	for (unsigned i = 0; i < m->n; i++) {
		const struct guest_layout *l = &m->regions[i].layout;

		munmap(m->regions[i].at - l->file_offset, map_bytes(l));
	}
	m->n = 0;
}

void *guest_memory_at(const struct guest_memory *m, uint64_t guest_addr, size_t *bytes)
{
	for (unsigned i = 0; i < m->n; i++) {
		const struct guest_region *r = &m->regions[i];
		uint64_t offset = guest_addr - r->layout.guest_addr; /* wraps for one below */

		if (offset >= r->layout.bytes)
			continue;
		if (*bytes > r->layout.bytes - offset)
			*bytes = (size_t)(r->layout.bytes - offset);
		return r->at + offset;
	}
	return NULL;
}

void *guest_memory_of_user(const struct guest_memory *m, uint64_t user_addr, size_t bytes)
{
	for (unsigned i = 0; i < m->n; i++) {
		const struct guest_region *r = &m->regions[i];
		uint64_t offset = user_addr - r->layout.user_addr;

		if (offset < r->layout.bytes && bytes <= r->layout.bytes - offset)
			return r->at + offset;
	}
	return NULL;
}
