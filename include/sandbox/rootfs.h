/* rootfs.h - root filesystems out of the layers of container images: a directory is turned into an
 * ext4 image, once, and kept.
 *
 *     /arcbox/bin/rootfs-<hash of the directory's path>.ext4
 *
 * What is in it is the directory, as oci2rootfs turns it into an image, and /sbin/vm-agent. */
#ifndef SANDBOX_ROOTFS_H
#define SANDBOX_ROOTFS_H

#include <stddef.h>

/* Where the programs that it takes are, and the images that it makes. */
#define ROOTFS_BIN_DIR  "/arcbox/bin"
#define ROOTFS_PROGRAM  ROOTFS_BIN_DIR "/oci2rootfs"
#define ROOTFS_VM_AGENT ROOTFS_BIN_DIR "/vm-agent"

/* A sandbox_rootfs_fn: the image of a directory's contents, made now unless it is there. Of several
 * processes that want the same one, one makes it and the others wait. 0 with its path in out[cap],
 * or -errno with one line in why[cap_why] that says what could not be done.
 *
 * Blocks, without a limit of its own: for a worker. One that is killed leaves no mount, no device,
 * and nothing that the next one would take for an image. */
int rootfs_convert(const char *directory, char *out, size_t cap, char *why, size_t cap_why);

#endif
