/* fs.h - files. */
#ifndef SYS_FS_H
#define SYS_FS_H

#include "base/span.h"

#include <sys/types.h>

struct open_how; /* <linux/openat2.h> */

/* openat2(2), tried again while others disturb it: with a scope for "..", any rename or mount on
 * the machine may (-EBUSY when they do not stop). An fd or -errno. */
int fs_open_how(int dir, const char *path, const struct open_how *how);

/* Reads a whole file (also one of /proc, whose size is not known before) into buf[cap]. The number
 * of bytes, -EFBIG when it is larger than cap, or -errno. Blocks, but not for the writer of a fifo:
 * for small files of local or pseudo filesystems. */
ssize_t fs_read_file(const char *path, void *buf, size_t cap);

/* Writes all of `s`, waiting for a full descriptor. 0 or -errno. For workers and tools; never for
 * the loop. */
int fs_write_all(int fd, struct span s);

/* Replaces a file as a whole: temporary name beside it, fsync, rename. 0 or -errno; on failure the
 * old file is as it was and nothing is left beside it. */
int fs_replace_file(const char *path, struct span content, mode_t mode);

/* Makes a renaming in the directory of `path` last through a crash. Not every filesystem can, and
 * the new file is in place either way. */
void fs_sync_directory(const char *path);

/* Opens, writes and closes: for the kernel's own files, which take a value as one write. 0 or
 * -errno. */
int fs_write_value(const char *path, const char *value);

/* Gives a file its content unless it has it already, as fs_replace_file(). 1 when it was written, 0
 * when it was right, or -errno. */
int fs_ensure_file(const char *path, struct span content, mode_t mode);

/* Makes a directory, whose mode is as given whatever the umask, and its parents with 0755. 1 when
 * it was made now, 0 when it was there, or -errno (-ENOTDIR: something else is there). */
int fs_make_dirs(const char *path, mode_t mode);

/* Makes a symbolic link unless one to that target is there. As fs_make_dirs(); -EEXIST: something
 * else is there, and is left alone. */
int fs_ensure_symlink(const char *target, const char *path);

/* Copies `length` bytes from `offset` of the file at `path`, through a shared mapping, into out_fd.
 * Short when the file ends earlier, also when it shrinks during the copy: the kernel does the
 * copying, so there is no SIGBUS. The number of bytes copied, or -errno. Blocks: for a worker. */
int64_t fs_copy_range(const char *path, uint64_t offset, uint64_t length, int out_fd);

/* A new, empty file in memory; the name shows up in /proc only. An fd, close-on-exec, or -errno. */
int fs_memfd(const char *name);

/* What statx(2) says of a path itself, not of what a symbolic link leads to, from what this machine
 * knows: the server of a shared filesystem, which may hang, is not asked. 0 or -errno. */
int fs_attributes(const char *path, uint64_t *attributes);
#define FS_MOUNT_ROOT UINT64_C(0x2000) /* STATX_ATTR_MOUNT_ROOT, Linux 5.8 */

/* Whether a regular file with an execute bit stands there. */
bool fs_is_program(const char *path);

#endif
