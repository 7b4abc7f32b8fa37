/* init.h - system init: makes a guest out of a kernel that has just started.
 *
 * What is right already is left as it is, so that it may run again in a guest that is up. Nothing
 * is fatal: what fails is logged and left out. What would have to be waited for (addresses, shares)
 * is started by network.h and shares.h afterwards. */
#ifndef INIT_INIT_H
#define INIT_INIT_H

#include "init/etc.h"

#include <stdbool.h>
#include <stdint.h>

struct init_conf {
	bool keep_root;       /* a writable root is written to */
	const char *hostname; /* NULL: the one there is, else "arcbox" */
	uint64_t modules_ms;  /* for all modules to load */
	struct etc_conf etc;
};

/* The very first: descriptors and filesystems without which nothing can be asked of the kernel. */
void init_first(void);

/* The rest, in order. Whether all directories that later steps write to can be written to. */
bool init_rest(const struct init_conf *conf);

#endif
