/* commands.h - what can be asked of an agent: a row for each command.
 *
 * commands.c has the rows and the small ones. */
#ifndef ARCBOXCTL_COMMANDS_H
#define ARCBOXCTL_COMMANDS_H

#include "client.h"
#include "codec/pb.h"

enum { TEXTS_MAX = 64 };

/* The values of an option that may be given more than once. */
struct texts {
	const char *values[TEXTS_MAX];
	size_t n;
};

/* What the options say; texts are views of argv or of the environment. Those that were not given
 * are NULL or 0. */
struct settings {
	const char *host;
	bool json, help, version;
	uint64_t timeout_ms;     /* 0 = the command's own */
	uint64_t count;          /* ping */
	bool start;              /* ensure */
	uint64_t grace_secs;     /* shutdown; 0 = the agent's own */
	const char *output;      /* read, k8s kubeconfig; NULL = standard output */
	const char *docker_host; /* docker: where the proxy is; NULL = on the agent's machine */
	uint64_t offset_bytes, length_bytes;

	/* Of sandboxes. */
	const char *id, *name, *state, *action;
	const char *kernel, *rootfs, *boot_args, *network;
	uint64_t cpus, memory_bytes, ttl_ms, limit_ms;
	const char *workdir, *user;
	struct texts labels, env; /* KEY=VALUE */
	bool force, new_network, wait, interactive, tty;
};

/* All return the exit code. */
typedef int command_check_fn(char **args);
typedef int command_fn(struct client *c, const struct settings *s, char **args);

struct command {
	const char *name;
	const char *args; /* for the usage line */
	int args_min, args_max;
	int verbatim; /* after so many words, the name among them, all are: also what begins with
		       * a dash; 0: never */
	int failure;  /* the exit code for all that fails here; 0: the one that it has */
	uint64_t timeout_ms; /* for an answer, unless --timeout says otherwise */
	const char *help;
	command_check_fn *check; /* judges the arguments before there is a connection; NULL: any
				    will do */
	command_fn *run;
	/* Instead of `run`: connects by itself, or not at all. */
	int (*run_on)(const struct host *host, const struct settings *s, char **args);
};

extern const struct command commands[];
extern const size_t command_count;

command_fn run_status, run_ensure, run_logs; /* runtime.c */
command_fn run_k8s;                          /* k8s.c */
command_check_fn check_logs, check_k8s;
command_fn run_create, run_ps, run_inspect, run_stop, run_rm, run_checkpoint, run_restore,
    run_snapshots, run_rm_snapshot, run_events;                                 /* sandbox.c */
command_fn run_run, run_exec;                                                   /* exec.c */
command_check_fn check_cp;                                                      /* cp.c */
int run_docker(const struct host *host, const struct settings *s, char **args); /* docker.c */
int run_cp(const struct host *host, const struct settings *s, char **args);     /* cp.c */

/* Sends a request, whose message may be NULL for an empty one. */
int command_begin(struct client *c, uint32_t type, const void *request);

/* Reads the message of an answer, which has to be of this type. */
int command_read(const struct client *c, const struct frame *answer, uint32_t type,
    const struct pb_table *t, struct pb_arena *arena, void *out);

/* Sends a request and reads its answer into the struct at `response`, which views the client's
 * memory and the arena's. `request` may be NULL for an empty one. */
int command_call(struct client *c, uint32_t type, const void *request, const struct pb_table *t,
    struct pb_arena *arena, void *response);

/* The words of a command line, which ends with NULL; none when they are too many. */
struct pb_list command_words(char **words, struct pb_arena *arena);

/* The environment that a command is to get: NAME=VALUE, or NAME for what it is here. */
struct pb_list command_env(const struct settings *s, struct pb_pair pairs[TEXTS_MAX]);

/* The pairs of an option, in `pairs`: KEY=VALUE, or KEY alone for an empty value. */
struct pb_list command_pairs(const struct texts *texts, struct pb_pair pairs[TEXTS_MAX]);

/* Prints a message as the settings want it. */
int command_print(const struct settings *s, const struct pb_table *t, const void *msg);

/* Calls with memory for the lists of one answer. */
typedef int answer_fn(
    struct client *c, const struct settings *s, char **args, struct pb_arena *arena);
int command_with_arena(answer_fn *fn, struct client *c, const struct settings *s, char **args);

#endif
