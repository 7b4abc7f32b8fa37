/* life.h - the life of one sandbox: a table of states and events. For the service's own files. */
#ifndef SANDBOX_LIFE_H
#define SANDBOX_LIFE_H

#include "base/map.h"
#include "sandbox/sandbox.h"
#include "sandbox/snapshot.h"
#include "sandbox/vm.h"

/* What a host sees is sandbox_state; these tell more. */
enum life_state {
	LIFE_CHECKING, /* whether it can be; nobody sees it yet */
	LIFE_STARTING,
	LIFE_READY,
	LIFE_SAVING, /* ready, but for a checkpoint that is under way */
	LIFE_RUNNING,
	LIFE_STOPPING,
	LIFE_STOPPED,
	LIFE_FAILING, /* it has failed, and is giving back what it held */
	LIFE_FAILED,
	LIFE_REMOVING,
	LIFE_STATES
};

enum life_event {
	LIFE_POSSIBLE,   /* it can be */
	LIFE_IMPOSSIBLE, /* it cannot */
	LIFE_UP,         /* its VM runs */
	LIFE_RUN,        /* a command begins */
	LIFE_IDLE,       /* the command has ended */
	LIFE_SAVE,       /* a checkpoint begins */
	LIFE_SAVED,      /* that is over, whatever came of it */
	LIFE_STOP,
	LIFE_REMOVE,
	LIFE_ENDED,    /* its VM has ended */
	LIFE_RELEASED, /* it holds nothing any more */
	LIFE_EVENTS
};

/* Somebody who waits for an answer; fn NULL: nobody. */
struct waiter {
	sandbox_fn *fn;
	struct sandbox_caller caller;
};

enum { LIFE_REMOVERS = 4 }; /* that wait at a time */

struct checkpoint;
struct remote;

struct sandbox {
	struct sandboxes *service;
	struct map_node node; /* by id */
	struct link link;     /* oldest first */
	sandbox_id id;
	enum life_state state;
	struct vm vm;
	struct link turn; /* on sandboxes.waiting until its VM may start, */
	bool starts;      /* and then until that is over */
	bool networked, overrides_network;
	struct ip wanted_ip; /* family 0: any */
	sandbox_id parent;   /* the snapshot that it was made of; "": none */
	struct labels labels;
	char ip[IP_TEXT_BYTES];                       /* "" without one */
	int64_t created_at, ready_at, last_exited_at; /* unix s */
	int32_t last_exit_code;
	char error[SANDBOX_WHY_BYTES];
	uint32_t stop_timeout_secs; /* of the stop that begins; 0: as configured */
	struct timer ttl;
	uint32_t ttl_secs;               /* 0: for ever */
	struct command *first;           /* owned; NULL: none */
	struct sandbox_command *command; /* that runs in it */
	struct remote *clock;            /* sets its clock after a restore, */
	struct timer clock_limit;        /* not for ever */
	struct checkpoint *checkpoint;   /* that is under way */
	struct waiter creator, stopper, saver, removers[LIFE_REMOVERS];
};

struct sandboxes {
	struct loop *loop;
	struct sandboxes_conf conf;
	struct vm_host host;
	struct events events;
	struct executor executor; /* for commands in the guest itself */
	char gateway[IP_TEXT_BYTES];
	struct map by_id;
	struct link all;     /* oldest first */
	struct link waiting; /* those whose VMs are to be started next */
	unsigned starting;   /* VMs that are */
	struct worker cleaner;
	bool clean;          /* what an earlier agent left is gone */
	struct link lookups; /* requests that wait for the catalogue of snapshots */
	bool ended;
	sandboxes_stopped_fn *stopped;
	void *stopped_ctx;
	struct timer deadline;
};

/* Begins with a look whether it can be. It is in the service's tables, and all but its VM's state
 * is set. */
void life_begin(struct sandbox *b);

/* Whether its state allows that. */
bool life_allows(const struct sandbox *b, enum life_event event);

/* Lets it happen; what the state does not allow does nothing. The sandbox may be gone afterwards.
 */
void life_happen(struct sandbox *b, enum life_event event);

enum sandbox_state life_state(const struct sandbox *b);

/* Its word for logs and refusals: "ready", … */
const char *life_name(const struct sandbox *b);

/* A view. */
void life_info(const struct sandbox *b, struct sandbox_info *out);

/* The VM's callbacks. */
extern const struct vm_ops life_vm_ops;

/* Ends whatever it does, and tells nobody: for the service's own end. The loop is to be buried
 * then, before life_free(). */
void life_drop(struct sandbox *b);

/* Frees it. */
void life_free(struct sandbox *b);

/* --- for all these files -----------------------------------------------------------------------
 */

/* Answers, if somebody waits; once. */
void waiter_answer(struct waiter *w, const struct sandbox_answer *answer);

/* The same with a failure: "what 'id': why". */
void waiter_refuse(struct waiter *w, int rc, const char *what, const char *id, const char *why);

/* That text in out[SANDBOX_WHY_BYTES]; cut where it is too long. */
void refusal_text(char *out, const char *what, struct span id, const char *why);

/* CLOCK_REALTIME, unix s. */
int64_t life_now_secs(void);

/* --- sandbox.c ---------------------------------------------------------------------------------
 */

/* NULL when there is none, or none that anybody sees yet. */
struct sandbox *sandbox_find(const struct sandboxes *s, struct span id);

/* What a sandbox is to be. */
struct sandbox_plan {
	struct span id;   /* empty: a new one */
	const char *home; /* the id whose directory it lives in; NULL: its own */
	struct labels labels;
	bool networked, overrides_network;
	struct ip wanted_ip; /* family 0: any */
	const char *parent;  /* the snapshot that it is made of; NULL: none */
	uint32_t ttl_secs;
};

/* Adds one that has not begun its life; the parts are taken over, also on failure. 0 or what
 * sandbox_answer.rc may be, and *why. */
int sandbox_add(struct sandboxes *s, const struct sandbox_plan *plan, struct vm_parts *parts,
    struct sandbox **out, const char **why);

/* Tells whoever waits for the end, when there is nothing left to wait for. */
void sandboxes_settle(struct sandboxes *s);

/* --- commands.c --------------------------------------------------------------------------------
 */

/* Starts the sandbox's first command, of which nobody takes the output. */
void command_run_first(struct sandbox *b);

/* Sets the clock of a sandbox that was restored; LIFE_UP follows, whatever came of it. */
void command_sync_clock(struct sandbox *b);

/* Its VM is no more, for this reason (static): what runs in it ends by itself, soon. */
void command_lose(struct sandbox *b, const char *why);

/* --- catalogue.c -------------------------------------------------------------------------------
 */

/* Requests that wait are refused, or forgotten without a word. */
void catalogue_drop(struct sandboxes *s, bool tell);

/* --- checkpoint.c ------------------------------------------------------------------------------
 */

/* Its VM is no more, for this reason (static): a checkpoint that is under way is refused. */
void checkpoint_lose(struct sandbox *b, const char *why);

#endif
