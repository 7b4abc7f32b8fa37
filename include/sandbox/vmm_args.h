/* vmm_args.h - the command lines of Firecracker and of its jailer (docs/getting-started.md and
 * docs/jailer.md of its sources). */
#ifndef SANDBOX_VMM_ARGS_H
#define SANDBOX_VMM_ARGS_H

#include "sandbox/vm_files.h"

enum { VMM_ARGS_MAX = 64, VMM_ARGS_TEXT_BYTES = 4 * VM_PATH_BYTES };

/* In place once it is made: argv points into it, and to the configuration. */
struct vmm_args {
	const char *argv[VMM_ARGS_MAX + 1]; /* ends with NULL; argv[0] is the program's path */

	/* private */
	size_t n;
	sandbox_id id;
	struct wr w; /* into text */
	char text[VMM_ARGS_TEXT_BYTES];
};

/* The program to start for the VM `id`. 0 or -E2BIG. */
int vmm_args_init(struct vmm_args *a, const struct vm_home *h, const char *id);

#endif
