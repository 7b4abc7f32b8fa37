/* clone.h - copies of large files that take no more of the disk than they must. */
#ifndef SYS_CLONE_H
#define SYS_CLONE_H

#include <sys/types.h>

/* Copies a regular file to one that must not exist yet: sharing its blocks where the filesystem can
 * (FICLONE, ioctl_ficlone(2)), else with its holes. Symbolic links are followed to the source. 0 or
 * -errno (-EINVAL: the source is no regular file); on failure nothing is left. Blocks: for a
 * worker. */
int clone_file(const char *from, const char *to, mode_t mode);

/* The same where somebody may have put anything in the place of the source: -ELOOP when that is a
 * symbolic link now. */
int clone_file_of_others(const char *from, const char *to, mode_t mode);

#endif
