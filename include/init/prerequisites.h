/* prerequisites.h - what a container runtime needs of the system. */
#ifndef INIT_PREREQUISITES_H
#define INIT_PREREQUISITES_H

#include <stddef.h>

/* Makes it so: control groups (v2), terminals, shared memory; /tmp and /run writable; forwarding;
 * the overlay module; a clock that certificates can be checked by. 0, or -1 with the reason in
 * why[cap], for what no container can do without; what else there is to say is written there with
 * 0, too. Blocks: for a worker. */
int prerequisites_meet(char *why, size_t cap);

#endif
