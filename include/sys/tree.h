/* tree.h - emptying a directory, and touching nothing else.
 *
 * Nobody knows what stands in a directory that containers had: symbolic links to everywhere, mounts
 * of a host's files, trees so deep that no path reaches their end. Links are removed, never
 * followed. What is mounted, also by a bind mount of the same filesystem, is left alone, and so are
 * the directories that lead to it (openat2(2), RESOLVE_NO_XDEV; Linux 5.6). */
#ifndef SYS_TREE_H
#define SYS_TREE_H

#include <stddef.h>
#include <stdint.h>

enum { TREE_NAME_BYTES = 256 };

/* What became of it. */
struct tree_report {
	uint64_t removed; /* entries */
	unsigned stayed;  /* entries at the top that are still there, whole or in parts */
	int rc;           /* 0, or why the first of those stayed: -errno, -EXDEV for a mount */
	char first[TREE_NAME_BYTES]; /* its name, "" for none */
};

/* Removes all that is below the directory, not the directory itself. 0 with *report filled; or
 * -errno when it cannot be opened: -ENOENT, or -ENOTDIR when it is a symbolic link or a file. The
 * depth is not limited, descriptors and memory are. Blocks: for a worker. */
int tree_empty(const char *path, struct tree_report *report);

#endif
