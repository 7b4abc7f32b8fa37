/* vm_files.h - the files of one VM, and what is done with them. All that touches a disk is for a
 * worker, and says why it failed in a few words.
 *
 * Without the jailer they lie in <data_dir>/sandboxes/<id>; with it in the root directory that the
 * jailer will make the VM's, <chroot_base_dir>/<name of the program>/<id>/root, where Firecracker
 * knows them by shorter names. */
#ifndef SANDBOX_VM_FILES_H
#define SANDBOX_VM_FILES_H

#include "base/cursor.h"
#include "sandbox/config.h"
#include "sandbox/sandbox.h"

#include <sys/types.h>

enum { VM_PATH_BYTES = 1024 };
typedef char vm_path[VM_PATH_BYTES];

enum vm_file {
	VM_API_SOCKET,
	VM_VSOCK,
	VM_LOG,
	VM_METRICS,
	VM_ROOTFS,
	VM_KERNEL,  /* with the jailer only: a copy, */
	VM_VMSTATE, /* and so these */
	VM_MEM,
	VM_FILES,
};

struct vm_home {
	const struct sandbox_config *config;
	vm_path dir;  /* is removed at the end */
	vm_path root; /* where they lie: the same without the jailer */
};

/* What a VM is made of. A snapshot has its own copy of the root filesystem. */
struct vm_parts {
	char *kernel, *rootfs, *boot_args; /* owned */
	char *snapshot; /* owned: the directory of the snapshot that it goes on from instead of the
			 * kernel; NULL: none */
	uint64_t vcpus, memory_mib;
};

void vm_parts_done(struct vm_parts *p);

/* Firecracker takes letters, digits and hyphens in an id only; other bytes of ours become hyphens.
 */
void vm_id(const char *id, sandbox_id out);

/* 0, or -ENAMETOOLONG: one of its sockets would have a path that the kernel does not take. */
int vm_home_init(struct vm_home *h, const struct sandbox_config *config, const char *id);

/* A file's path, for us and for Firecracker. Return buf. */
const char *vm_host_path(const struct vm_home *h, enum vm_file file, vm_path buf);
const char *vm_inner_path(const struct vm_home *h, enum vm_file file, vm_path buf);

/* The root directory of a jailed VM, in which its inner paths are, and anything else that it may
 * have put there; NULL without a jailer. */
const char *vm_jail(const struct vm_home *h);

/* --- in workers: 0, or -errno with a reason in `why` -------------------------------------------
 */

/* Whether there is a Firecracker that can be used, and what it is to boot. */
int vm_files_check(const struct vm_home *h, const struct vm_parts *p, struct wr *why);

/* Makes the directory with all that Firecracker finds there. */
int vm_files_make(
    const struct vm_home *h, const struct vm_parts *p, sandbox_rootfs_fn *rootfs, struct wr *why);

/* Removes it with all that is in it. */
int vm_files_remove(const struct vm_home *h, struct wr *why);

/* The process that the jailer has started for the VM whose directory that is, by the file that it
 * left; 0 when there is none. */
pid_t vm_files_pid(const struct sandbox_config *config, const char *dir);

/* Kills the jailed VMs of an earlier agent, and removes the directories of all its VMs. (VMs
 * without a jailer die with their agent.) How many directories there were. */
unsigned vm_files_clean(const struct sandbox_config *config);

#endif
