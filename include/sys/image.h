/* image.h - a file that a filesystem is in, as a tree of files. */
#ifndef SYS_IMAGE_H
#define SYS_IMAGE_H

#include <sys/types.h>

/* Mounts the filesystem of that type that is in a file, for writing, but nowhere: on a loop device
 * of its own (loop(4)) and out of everybody's sight (fsmount(2), Linux 5.2). An fd of its root
 * directory, for the functions whose names end in -at; with the last fd of the tree the mount goes,
 * and the device. Or -errno. Blocks: for a worker. */
int image_mount(const char *path, const char *type);

/* Puts a copy of a file into a tree, in place of what is there; the directory that it goes to is
 * made with 0755 if need be. Symbolic links lead to nowhere but the tree (openat2(2), Linux 5.6).
 * 0 with all of it on the disk, or -errno. */
int image_put(int root, const char *dir, const char *name, const char *from, mode_t mode);

#endif
