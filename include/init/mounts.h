/* mounts.h - the filesystems that every guest has: the kernel's views of itself, memory for what is
 * written when the root is not, control groups, terminals.
 *
 * What is mounted already is left as it is; what fails is logged and left out. */
#ifndef INIT_MOUNTS_H
#define INIT_MOUNTS_H

#include <stdbool.h>

/* /proc, /sys and /dev, and descriptors 0 to 2, which are closed when the kernel found no console
 * to open for the first process: they become /dev/console, else /dev/null. Before anything else. */
void mounts_first(void);

/* All others. A root that is writable is used as it is with keep_root; otherwise /tmp, /run, /var
 * and /etc are in memory. */
void mounts_rest(bool keep_root);

/* Control groups, terminals and shared memory alone. What cannot be had, or NULL. */
const char *mounts_for_containers(void);

/* Whether each of the directories that later steps write to can be written to. */
bool mounts_are_writable(void);

#endif
