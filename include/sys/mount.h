/* mount.h - mounts: is something mounted there, mounting, and unmounting. */
#ifndef SYS_MOUNT_H
#define SYS_MOUNT_H

#include "base/span.h"

#include <sys/mount.h>
#include <sys/types.h>

/* What to mount, in the words of mount(2). */
struct mount_spec {
	const char *source, *target, *type;
	unsigned long flags;
	const char *data; /* NULL: none */
	mode_t mode;      /* of the target, when it has to be made */
};

/* Whether the kernel has filesystems of that type: built in, or by a module that is loaded. */
bool mount_knows(const char *type);

/* Whether `path` itself is where something is mounted. A hung server of that filesystem is not
 * asked. */
bool mount_is_there(const char *path);

/* Whether the filesystem that holds `path` takes writes; false when that cannot be told. */
bool mount_is_writable(const char *path);

/* Mounts unless something is mounted on the target, which is made if need be (its parents, too,
 * with mode 0755) and removed again when mounting fails. 1 when it was mounted now, 0 when it was
 * already, or -errno. Blocks as long as the filesystem does. */
int mount_ensure(const struct mount_spec *spec);

/* Makes a mount, and all those below it that are private, pass on what is mounted there later
 * (MS_SHARED; mount_namespaces(7)). 0 or -errno. */
int mount_share(const char *path);

/* Called for each mount of this process's namespace, the youngest first, so that it may be
 * unmounted. The strings live during the call. */
typedef void mount_fn(void *ctx, const char *target, const char *type);

/* 0 or -errno. The list is the one of the start of the call. */
int mount_each(mount_fn *fn, void *ctx);

/* Unmounts all but the root and /proc, for as long as that makes a difference. What is busy after
 * all, as the root is, is made read-only. Returns how many that hold data take writes nevertheless,
 * or -errno when the mounts cannot be listed; `stayed` names those, separated by blanks, as far as
 * they fit. Blocks: for a worker. */
int mount_release_all(char *stayed, size_t cap);

#endif
