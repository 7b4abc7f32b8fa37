/* id.h - the ids of sandboxes and snapshots: names of files and directories, and of hosts. */
#ifndef SANDBOX_ID_H
#define SANDBOX_ID_H

#include "base/span.h"

enum { SANDBOX_ID_MAX = 64 }; /* bytes */

/* A C string. */
typedef char sandbox_id[SANDBOX_ID_MAX + 1];

/* What stands for the machine that the agent runs in, where a sandbox is asked for. */
#define SANDBOX_GUEST "@guest"

/* NULL, or why this can be the id of no sandbox, in a few words; static. */
const char *sandbox_id_problem(struct span id);

/* A new id, a random UUID (RFC 9562 section 5.4). 0 or -errno as random_fill(). */
int sandbox_id_new(sandbox_id id);

#endif
