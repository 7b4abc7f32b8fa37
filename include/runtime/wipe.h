/* wipe.h - undoing what Kubernetes left in its directories: mounts, then files. */
#ifndef RUNTIME_WIPE_H
#define RUNTIME_WIPE_H

#include "runtime/notes.h"

/* Unmounts what is mounted below each of the directories (the last is NULL), the youngest first,
 * and not the directory itself; then empties it as tree_empty(). What is busy stays mounted and
 * whole. Each adds a note of what was done or could not be. Blocks: for a worker. */
void wipe_directories(const char *const *paths, struct notes *notes);

#endif
