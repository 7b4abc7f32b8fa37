/* commands.h - what can be asked of an agent: a row for each command. */
#ifndef ARCBOXCTL_COMMANDS_H
#define ARCBOXCTL_COMMANDS_H

#include "client.h"

/* What the options say; texts are views of argv or of the environment. */
struct settings {
	const char *host;
	bool json, help, version;
	uint64_t timeout_ms; /* 0 = the command's own */
	uint64_t count;      /* ping */
	bool start;          /* ensure */
	uint64_t grace_secs; /* shutdown; 0 = the agent's own */
	const char *output;  /* read; NULL = standard output */
	uint64_t offset_bytes, length_bytes;
};

struct command {
	const char *name;
	const char *args; /* for the usage line */
	int args_min, args_max;
	uint64_t timeout_ms; /* for an answer, unless --timeout says otherwise */
	const char *help;
	/* Both return the exit code. `check` judges the arguments before there is a connection;
	 * NULL: any will do. */
	int (*check)(char **args);
	int (*run)(struct client *c, const struct settings *s, char **args);
};

extern const struct command commands[];
extern const size_t command_count;

#endif
