/* command.h - what a session is to run, in the words of a START frame.
 *
 * Filled by command_read(), or piece by piece by whoever has the request in another form. */
#ifndef SESSION_COMMAND_H
#define SESSION_COMMAND_H

#include "base/queue.h"
#include "codec/vmframe.h"

enum {
	COMMAND_TEXT_BYTES = 1 << 20, /* arguments and environment: each of both, with its NULs */
	COMMAND_DIR_BYTES = 4096,
	COMMAND_USER_BYTES = 256,
	COMMAND_COLUMNS = 80, /* of a terminal whose size nobody told */
	COMMAND_ROWS = 24,
};

struct command {
	struct queue args; /* C strings, one behind the other */
	struct queue env;  /* likewise, KEY=value; of two with a key the later counts */
	char working_dir[COMMAND_DIR_BYTES]; /* empty: / */
	char user[COMMAND_USER_BYTES]; /* as account.h has it; empty: whoever this process is */
	bool tty;
	struct vmframe_size size; /* of the tty; 0 is taken for COMMAND_COLUMNS or _ROWS */
	uint32_t timeout_secs;    /* 0 = none */
};

/* An empty command, which command_done() frees. */
void command_init(struct command *c);
void command_done(struct command *c);

/* Append copies. 0; -EINVAL (a NUL in it; a key that is empty or has a '='); -E2BIG or -ENOMEM. */
int command_add_arg(struct command *c, struct span arg);
int command_add_env(struct command *c, struct span key, struct span value);

/* Adds what a START frame's JSON says to an empty command; keys that nobody knows are ignored, null
 * counts as absent. E_OK, the errors of codec/json.h, E_LIMIT, or E_SPACE without memory. After an
 * error the command is good for command_done() only. */
enum err command_read(struct command *c, struct span json);

#endif
