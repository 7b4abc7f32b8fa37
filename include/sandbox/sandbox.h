/* sandbox.h - sandboxes: microVMs of Firecracker's in which a host runs commands.
 *
 *     starting ─▶ ready ⇄ running ─▶ stopping ─▶ stopped          and from everywhere: failed
 *
 * Each is one state × event table. What a request asks for that its sandbox's state does not allow
 * is refused. Nothing here blocks: files are a worker's, VMs are children, and commands are
 * connections. */
#ifndef SANDBOX_SANDBOX_H
#define SANDBOX_SANDBOX_H

#include "sandbox/config.h"
#include "sandbox/events.h"
#include "sandbox/id.h"
#include "sandbox/labels.h"
#include "session/exec.h"
#include "sys/child.h"

struct sandboxes;

enum {
	SANDBOX_WHY_BYTES = 1024,
	SANDBOX_PATH_BYTES = 4096,      /* of kernel and rootfs, with the NUL */
	SANDBOX_BOOT_ARGS_BYTES = 2048, /* likewise; that of Linux on x86 */
	SANDBOX_VCPUS_MAX = 32,         /* Firecracker's */
};

enum sandbox_state {
	SANDBOX_STARTING,
	SANDBOX_READY, /* the VM was started; vm-agent may still be on its way */
	SANDBOX_RUNNING,
	SANDBOX_STOPPING,
	SANDBOX_STOPPED,
	SANDBOX_FAILED,
	SANDBOX_GUEST_STATE, /* of SANDBOX_GUEST */
	SANDBOX_STATES,
};

/* "starting", …, "guest"; static. */
const char *sandbox_state_name(enum sandbox_state state);

/* What a sandbox is; all are views for the time of the call. */
struct sandbox_info {
	const char *id;
	enum sandbox_state state;
	struct labels labels;
	uint64_t vcpus, memory_mib;
	const char *ip, *gateway, *tap;               /* "" without a network */
	int64_t created_at, ready_at, last_exited_at; /* unix s; 0 = not yet */
	int32_t last_exit_code;
	const char *error; /* "" unless it has failed */
};

/* What a snapshot is; likewise. */
struct sandbox_snapshot {
	const char *id, *sandbox_id, *name, *dir;
	const char *created_at; /* RFC 3339 */
	struct labels labels;
};

/* What a service gets back with the answer; large enough for an owner and a token. */
struct sandbox_caller {
	void *owner;
	uint32_t id[2];
};

/* What a request came to. Views live during the call. */
struct sandbox_answer {
	/* 0, or -errno:
	 *   -ENOENT     there is no such sandbox or snapshot
	 *   -EINVAL     the request says something that cannot be
	 *   -EEXIST     the id is used
	 *   -EBUSY      the sandbox's state does not allow it
	 *   -EAGAIN     a limit is reached
	 *   -ESHUTDOWN  the agent is shutting down
	 * and others for what failed */
	int rc;
	const char *why;                  /* what was done, to what, and why not; "" for rc 0 */
	const struct sandbox_info *infos; /* create, restore, inspect: one; list: any number */
	size_t n_infos;
	const struct sandbox_snapshot *snapshots; /* checkpoint: one; list: any number */
	size_t n_snapshots;
};

/* Called exactly once, perhaps before the request returns. */
typedef void sandbox_fn(const struct sandbox_answer *answer, const struct sandbox_caller *caller);

/* Whom names are told to: each sandbox's id leads to its address while it exists. May be NULL. */
struct sandbox_names {
	void (*set)(void *ctx, const char *id, const struct ip *ip);
	void (*drop)(void *ctx, const char *id);
	void *ctx;
};

/* Turns the directory of a layer into an image, in a worker. 0 with the image's path in out[cap];
 * or -errno with the reason in why[cap_why]. */
typedef int sandbox_rootfs_fn(
    const char *directory, char *out, size_t cap, char *why, size_t cap_why);

/* Strings, the configuration and the tables outlive the service. */
struct sandboxes_conf {
	const struct sandbox_config *config;
	sandbox_rootfs_fn *rootfs;
	const struct sandbox_names *names;
	unsigned max_sandboxes;         /* failed and stopped ones among them */
	unsigned max_starting;          /* VMs that boot at a time; others wait for their turn */
	unsigned max_subscribers;       /* to events */
	size_t max_events;              /* that a subscriber may be behind */
	unsigned max_snapshots;         /* that are listed */
	unsigned max_snapshot_requests; /* that wait for the disk */
	unsigned max_guest_commands;    /* in the guest itself; 0: none may be run there */
	uint64_t prepare_ms;            /* for copying or converting a root filesystem */
	uint64_t connect_ms;            /* for vm-agent to take connections */
	uint64_t stop_ms;               /* for a guest to shut down, where the host does not say */
	uint64_t kill_ms;               /* for a killed VM to be gone */
	uint64_t checkpoint_ms;         /* for each step of one, such as copying a disk */
	uint64_t snapshots_ms;          /* for finding them, or removing one */
	uint64_t seed[2];               /* random, for the hash map */
};

/* NULL without memory. Begins to clean up what an earlier agent left; creates wait for that. */
struct sandboxes *sandboxes_new(
    struct loop *l, struct reaper *reaper, const struct sandboxes_conf *conf);

/* Between turns of the loop only; callers that wait are dropped, VMs are killed and left. */
void sandboxes_free(struct sandboxes *s);

/* Removes all sandboxes by force, within wait_ms, and refuses requests from now on. `stopped` is
 * called once, perhaps before this returns. */
typedef void sandboxes_stopped_fn(void *ctx);
void sandboxes_stop(
    struct sandboxes *s, uint64_t wait_ms, sandboxes_stopped_fn *stopped, void *ctx);

/* --- their life ---------------------------------------------------------------------------------
 */

/* Views for the time of the call. */
struct sandbox_spec {
	struct span id; /* empty: a new one is made */
	struct labels labels;
	struct span kernel, rootfs, boot_args; /* empty: the configuration's */
	uint32_t vcpus;                        /* 0: likewise */
	uint64_t memory_mib;                   /* likewise */
	struct span network_mode;              /* "tap", or empty for it; "none" */
	uint32_t ttl_secs;                     /* it is removed by force then; 0: never */
	struct command *first;                 /* run once it is ready; NULL: none. What it holds
						* is taken, and it is empty afterwards. */
};

/* Answered as soon as its VM can be tried, in state "starting"; it boots afterwards. */
void sandbox_create(struct sandboxes *s, const struct sandbox_spec *spec, sandbox_fn *fn,
    const struct sandbox_caller *caller);

/* Answered when the VM has ended: by the guest's own shutdown, or killed after timeout_secs (0: as
 * configured). */
void sandbox_stop(struct sandboxes *s, struct span id, uint32_t timeout_secs, sandbox_fn *fn,
    const struct sandbox_caller *caller);

/* Answered when all that it held is released. */
void sandbox_remove(struct sandboxes *s, struct span id, bool force, sandbox_fn *fn,
    const struct sandbox_caller *caller);

void sandbox_inspect(
    struct sandboxes *s, struct span id, sandbox_fn *fn, const struct sandbox_caller *caller);

/* Those in this state (empty: in any) that have these labels, oldest first. SANDBOX_GUEST only by
 * its state. */
void sandbox_list(struct sandboxes *s, struct span state, struct labels labels, sandbox_fn *fn,
    const struct sandbox_caller *caller);

/* --- commands -----------------------------------------------------------------------------------
 */

/* One that runs in a sandbox, or in the guest itself (SANDBOX_GUEST). */
struct sandbox_command;

/* Called by the loop, never from inside a sandbox_command_ call. Any may call these. */
struct sandbox_command_ops {
	/* It wrote something, at most EXEC_PIECE_BYTES, viewed for the time of the call; all of it
	 * is taken. sandbox_command_pause() keeps more from coming. */
	void (*output)(void *ctx, enum exec_stream stream, struct span bytes);
	/* Input is taken again after sandbox_command_input() took less than it was given. NULL for
	 * a command without input. */
	void (*writable)(void *ctx);
	/* The last call; the command is gone afterwards. rc 0: it exited; or -errno, and `why` says
	 * how it was lost: its VM died, was stopped, or never took a connection. */
	void (*ended)(void *ctx, int rc, int32_t exit_code, const char *why);
};

/* Starts a command, which is copied; without `input` its input is at its end at once. 0 with *out,
 * which lives until `ended` or sandbox_command_cancel(); or what sandbox_answer.rc may be, and
 * why[SANDBOX_WHY_BYTES] says it. */
int sandbox_run(struct sandboxes *s, struct span id, const struct command *c, bool input,
    const struct sandbox_command_ops *ops, void *ctx, struct sandbox_command **out, char *why);

/* Hands input on; how much of it was taken. */
size_t sandbox_command_input(struct sandbox_command *c, struct span bytes);
void sandbox_command_end_input(struct sandbox_command *c);
void sandbox_command_resize(struct sandbox_command *c, struct vmframe_size size);

/* Stops and resumes the output, and with it, in time, the command. */
void sandbox_command_pause(struct sandbox_command *c);
void sandbox_command_resume(struct sandbox_command *c);

/* The host has gone: no op is called any more, and the command is ended. */
void sandbox_command_cancel(struct sandbox_command *c);

/* --- events -------------------------------------------------------------------------------------
 */

/* As events_subscribe(); then events_next() and events_unsubscribe(). -ESHUTDOWN. */
int sandbox_subscribe(struct sandboxes *s, struct subscriber *sub, struct span id,
    struct span action, events_fn *fn, void *ctx);

/* --- snapshots ----------------------------------------------------------------------------------
 */

/* Of a sandbox that is ready. */
void sandbox_checkpoint(struct sandboxes *s, struct span id, struct span name, struct labels labels,
    sandbox_fn *fn, const struct sandbox_caller *caller);

/* A new sandbox out of a snapshot. */
struct sandbox_restore_spec {
	struct span id; /* empty: a new one is made */
	struct span snapshot_id;
	struct labels labels;
	bool network_override; /* with an address and a TAP of its own, not those it had */
	uint32_t ttl_secs;
};

/* Answered as sandbox_create(). */
void sandbox_restore(struct sandboxes *s, const struct sandbox_restore_spec *spec, sandbox_fn *fn,
    const struct sandbox_caller *caller);

/* Of one sandbox (empty: of all, also of those that are no more) with these labels, oldest first.
 */
void sandbox_snapshots(struct sandboxes *s, struct span of, struct labels labels, sandbox_fn *fn,
    const struct sandbox_caller *caller);

void sandbox_snapshot_delete(struct sandboxes *s, struct span snapshot_id, sandbox_fn *fn,
    const struct sandbox_caller *caller);

#endif
