/* daemon.h - a daemon under the agent's care: started, watched until it is ready, started again
 * when it dies, and stopped by a ladder of signals. One table of states and events.
 *
 * Nothing here blocks: the program may lie on a filesystem that hangs, its log file, too. */
#ifndef RUNTIME_DAEMON_H
#define RUNTIME_DAEMON_H

#include "sys/addr.h"
#include "sys/child.h"

enum daemon_state {
	DAEMON_DOWN,     /* not started, stopped, or its start failed */
	DAEMON_STARTING, /* runs, but cannot be reached yet */
	DAEMON_READY,    /* takes connections */
	DAEMON_WAITING,  /* it died; it is started again in a while */
	DAEMON_STOPPING, /* it was told to end */
	DAEMON_STATES
};

struct daemon;

/* The state is another one now. Called from the loop or from the functions below; may call them. */
typedef void daemon_fn(struct daemon *d);

/* A signal, and how long the daemon has to end by it before the next one. */
struct daemon_rung {
	int sig;
	uint64_t wait_ms;
};

enum { DAEMON_ADDRS = 2, DAEMON_RUNGS = 3, DAEMON_WORDS_BYTES = 512 };

/* All strings outlive the daemon. */
struct daemon_conf {
	const char *name;        /* for the log */
	const char *const *argv; /* ends with NULL; argv[0] is the program's path */
	const char *const *envp; /* ends with NULL */
	const char *const
	    *log_paths; /* ends with NULL; the first that can be opened is appended to */
	struct addr ready[DAEMON_ADDRS];       /* it is ready when one of these takes connections */
	uint64_t poll_ms, ready_ms;            /* how often that is tried, and how long */
	struct daemon_rung stop[DAEMON_RUNGS]; /* sig 0 ends it; SIGKILL should be the last */
	bool group; /* signals go to its process group: its children end with it */
	uint64_t restart_ms, restart_max_ms; /* the first wait, doubled each time to the longest */
	uint64_t healthy_ms; /* after so long in a row it starts over with the first */
};

/* Memory owned by the caller, in place as long as it runs. */
struct daemon {
	const struct daemon_conf *conf;
	daemon_fn *changed;
	enum daemon_state state;
	int rc;    /* DOWN after a start that failed: why; -ECHILD: it ended, see words */
	pid_t pid; /* 0 when it does not run */
	char words[DAEMON_WORDS_BYTES]; /* what it last wrote before it died unasked; "" until then
					 */
	unsigned rung;                  /* DOWN after daemon_stop: how many rungs that took */

	/* private */
	struct reaper *reaper;
	struct child child;
	struct worker listener; /* reads the last words */
	struct timer timer;     /* the next poll, restart or rung */
	uint64_t since_ns, deadline_ns, restart_ms;
	bool wanted, was_ready;
};

void daemon_init(struct daemon *d, struct loop *l, struct reaper *r, const struct daemon_conf *conf,
    daemon_fn *changed);

/* Starts it; ends in READY, or in DOWN with `rc`: it could not be run, died before it was ready, or
 * was not ready in time (-ETIMEDOUT; it is stopped then). Once it was ready it is started again
 * whenever it dies, until daemon_stop. Does nothing unless it is DOWN. */
void daemon_start(struct daemon *d);

/* Climbs the ladder; ends in DOWN with rc 0. Does nothing when it is DOWN. The first rung may have
 * wait_ms as its time instead of its own; 0: its own. A ladder that is being climbed already goes
 * on, and wait_ms may cut its first rung short. */
void daemon_stop(struct daemon *d, uint64_t wait_ms);

/* Forgets it without a signal: for the agent's own end. */
void daemon_done(struct daemon *d);

/* Whether somebody takes connections there; does not wait. */
bool daemon_answers(const struct addr *addr);

#endif
