/* vm.h - one microVM: its directory, its network, its Firecracker, from the first look whether it
 * can be to the last file that is removed.
 *
 *     vm_check → vm_attach → vm_start → up … ended → vm_release → released
 *
 * It ends when it is killed, shuts down, dies, or could not be started in the first place. */
#ifndef SANDBOX_VM_H
#define SANDBOX_VM_H

#include "sandbox/firecracker.h"
#include "sandbox/job.h"
#include "sandbox/network.h"
#include "sandbox/vm_files.h"
#include "sys/child.h"

struct vm;

/* Called by the loop, never from inside the functions below. */
struct vm_ops {
	/* What vm_check() found: "" or why there can be no such VM. */
	void (*checked)(struct vm *vm, const char *why);
	/* It runs. */
	void (*up)(struct vm *vm);
	/* No process is left of it. Told once for each vm_start(), also when that failed; "" when
	 * it was to end. */
	void (*ended)(struct vm *vm, const char *why);
	/* Nothing is left of it; vm_done() may follow. */
	void (*released)(struct vm *vm);
};

/* What all VMs share; outlives them. */
struct vm_host {
	struct loop *loop;
	struct reaper *reaper;
	const struct sandbox_config *config;
	struct netlink netlink;
	struct subnet subnet;
	sandbox_rootfs_fn *rootfs;
	uint64_t prepare_ms, kill_ms; /* see sandboxes_conf */
};

struct vm_boot;

/* Memory of the caller, in place until vm_done(). */
struct vm {
	struct vm_host *host;
	const struct vm_ops *ops;
	struct vm_home home;
	struct vm_parts parts; /* owned */
	struct nic nic;        /* ip.family 0: none */
	struct firecracker api;

	/* private */
	sandbox_id id;
	bool overrides_network;
	struct vm_boot *boot; /* what the API is being told */
	void (*api_then)(struct vm *vm, int rc);
	bool api_busy;
	struct child child;
	struct source process; /* pidfd of one that is no child of ours */
	pid_t pid;             /* 0: it does not run */
	struct timer patience; /* until it is killed, and then until it is given up */
	bool made, launched, asked, killed, examined, over;
	struct job job;
	struct task later;
	void (*later_then)(struct vm *vm);
	char why[SANDBOX_WHY_BYTES];
};

/* Takes the parts over, also on failure. `home` is the id whose directory it lives in. 0 or
 * -ENAMETOOLONG. */
int vm_init(struct vm *vm, struct vm_host *host, const struct vm_ops *ops, const char *id,
    const char *home, struct vm_parts *parts);

/* Kills it, leaves its files behind, and tells nobody. The loop is to be buried before vm_done().
 */
void vm_drop(struct vm *vm);

/* Frees what it holds in memory. It was not started yet, or is released or dropped. */
void vm_done(struct vm *vm);

/* Looks whether it can be; `checked` follows. */
void vm_check(struct vm *vm);

/* Gives it an address, this one unless its family is 0, and a TAP device. As nic_attach_at(). */
int vm_attach(struct vm *vm, const struct ip *wanted);

/* Makes its files and boots it, or lets it go on from its snapshot, with the network that it has
 * now instead of its old one with `overrides_network`. */
void vm_start(struct vm *vm, bool overrides_network);

/* Asks the guest to shut down, and kills it after a while. It was up; one that has died since then
 * ends as if it had been asked to. */
void vm_shutdown(struct vm *vm, uint64_t timeout_ms);

/* Kills it, or ends whatever it takes to start it. */
void vm_kill(struct vm *vm);

/* Gives back all that it holds. It has ended, or was not started. */
void vm_release(struct vm *vm);

/* Asks Firecracker for one more thing, by a function of firecracker.h that has just returned rc; it
 * is up. `then` is told how that went, not if the VM ends meanwhile. */
void vm_await_api(struct vm *vm, int rc, void (*then)(struct vm *vm, int rc));

/* Firecracker has not done what the VM cannot live without: it is killed, and `ended` tells why. */
void vm_fail(struct vm *vm, const char *what, int rc);

#endif
