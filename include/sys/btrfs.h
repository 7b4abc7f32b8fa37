/* btrfs.h - subvolumes and flags of the Btrfs filesystem (btrfs(5), ioctl_iflags(2)). */
#ifndef SYS_BTRFS_H
#define SYS_BTRFS_H

#include <stdbool.h>

/* Whether `path` is on a Btrfs. */
bool btrfs_is_there(const char *path);

/* Makes the subvolume dir/name unless it is there. 1 when it was made now, 0 when it was there, or
 * -errno; -EEXIST: something else has that name. */
int btrfs_make_subvolume(const char *dir, const char *name);

/* Has files that are made in the directory from now on overwritten in place: no copy on write, and
 * so neither checksums nor compression. 0 or -errno. */
int btrfs_stop_cow(const char *dir);

#endif
