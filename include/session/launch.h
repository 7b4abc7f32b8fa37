/* launch.h - from a forked child to the command: session, terminal, user, directory, program.
 *
 * All that has to do with files happens here, in the child, so that a filesystem which hangs holds
 * up nobody else. */
#ifndef SESSION_LAUNCH_H
#define SESSION_LAUNCH_H

#include "session/command.h"

enum { LAUNCH_NOT_EXECUTABLE = 126, LAUNCH_NOT_FOUND = 127 };

struct launch {
	const struct command *command;
	int reason_fd; /* close-on-exec, or the command's stderr */
};

/* In the child, whose descriptors 0 to 2 are those of the command: becomes it, in a session of its
 * own whose terminal is descriptor 0 if the command wants one. A program without a '/' is looked
 * for along the PATH of the command's environment. Comes back only when that failed, with one of
 * the exit codes above, after it has written a line to reason_fd that says why. `arg` is a struct
 * launch. */
int launch(void *arg);

#endif
