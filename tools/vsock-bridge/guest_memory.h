/* guest_memory.h - the memory of a guest, mapped here (vhost-user, "Memory regions description").
 *
 * The front end shares it as files, a region each. All of it may change at any moment: the guest
 * runs meanwhile. Whoever reads a length or an index there reads it once, and checks the copy. */
#ifndef BRIDGE_GUEST_MEMORY_H
#define BRIDGE_GUEST_MEMORY_H

#include <stddef.h>
#include <stdint.h>

enum { GUEST_REGIONS = 8 }; /* the most that vhost-user tells at once */

/* Where a region is, as it stands in a message. */
struct guest_layout {
	uint64_t guest_addr; /* where the guest sees it */
	uint64_t bytes;
	uint64_t user_addr;   /* where the front end sees it: ring addresses are told in these */
	uint64_t file_offset; /* where it begins in the file */
};

struct guest_region {
	struct guest_layout layout;
	uint8_t *at; /* where this process sees it */
};

struct guest_memory {
	struct guest_region regions[GUEST_REGIONS];
	unsigned n;
};

/* Maps a region. The fd stays the caller's and need not stay open. 0; -EINVAL for a layout that
 * wraps around or reaches beyond the end of the file, where touching it would be fatal; -ENOSPC; or
 * -errno. */
int guest_memory_add(struct guest_memory *m, int fd, const struct guest_layout *layout);

/* Unmaps all. */
void guest_memory_clear(struct guest_memory *m);

/* Where `guest_addr` is, or NULL. *bytes, at least 1, is cut to what lies there in one piece; a
 * region that begins where another ends is a second piece. */
void *guest_memory_at(const struct guest_memory *m, uint64_t guest_addr, size_t *bytes);

/* Where the front end's `user_addr` is, or NULL when not all of `bytes` lies there in one piece. */
void *guest_memory_of_user(const struct guest_memory *m, uint64_t user_addr, size_t bytes);

#endif
