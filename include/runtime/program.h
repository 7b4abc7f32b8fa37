/* program.h - how the programs of the runtime directory are run: which one, with what arguments, in
 * what environment, and where they log. */
#ifndef RUNTIME_PROGRAM_H
#define RUNTIME_PROGRAM_H

#include "base/cursor.h"

enum { PROGRAM_ARGS = 12, PROGRAM_PATH_BYTES = 512, PROGRAM_VARIABLES = 256 };

/* In place once it is made: its arrays point into it. */
struct program {
	char path[PROGRAM_PATH_BYTES]; /* "" when the path is too long: cannot be run */
	char log[PROGRAM_PATH_BYTES], other_log[PROGRAM_PATH_BYTES];
	const char *argv[PROGRAM_ARGS + 1]; /* ends with NULL */
	const char *log_paths[3];           /* in the order to try; ends with NULL */
};

/* The program `name` in `directory`, which logs to /arcbox/log/<name>.log, else to /tmp/<name>.log;
 * `args` ends with NULL, holds less than PROGRAM_ARGS, and its strings outlive the command. */
void program_init(
    struct program *p, const char *directory, const char *name, const char *const *args);

/* The agent's own environment, but for PATH: `directory`, the agent's PATH, and the usual ones, so
 * that what belongs together is found together. In place once it is made. */
struct environment {
	char path[2048];
	const char *variables[PROGRAM_VARIABLES]; /* ends with NULL */
};
void environment_init(struct environment *e, const char *directory);

/* Lists those of `names`, which ends with NULL, that are no programs in `directory`: "a, b". Blocks
 * as long as the filesystem does: for a worker. */
void program_list_missing(const char *directory, const char *const *names, struct wr *out);

#endif
