/* firecracker.h - the API of one Firecracker process: JSON over HTTP, on a unix socket
 * (src/firecracker/swagger/firecracker.yaml of its sources).
 *
 * What a VM is to do is a sequence of requests. They are sent one after the other, each when the
 * one before it was answered by a success; the first that is not ends the sequence. A request waits
 * for the socket, which Firecracker makes some time after its start. */
#ifndef SANDBOX_FIRECRACKER_H
#define SANDBOX_FIRECRACKER_H

#include "base/queue.h"
#include "net/http.h"

#include <stdbool.h>

enum {
	FIRECRACKER_BODY_BYTES = 16 * 1024,  /* of a request */
	FIRECRACKER_ANSWER_BYTES = 8 * 1024, /* a longer one ends the sequence with -EFBIG */
	FIRECRACKER_FAULT_BYTES = 512,       /* what is kept of a fault's text, with its NUL */
	FIRECRACKER_REASON_BYTES = FIRECRACKER_FAULT_BYTES + 256,
	FIRECRACKER_MEMORY_MS = 10 * 60 * 1000, /* a request that writes or reads all memory */
};

struct firecracker;
struct firecracker_step;

/* The sequence is over, told once: 0; -EREMOTEIO when Firecracker refused a request, and said why;
 * -ETIMEDOUT when the socket or an answer did not come in time; -EPROTO, -EFBIG or -ECONNRESET for
 * an answer that is none; -EMSGSIZE for a body over FIRECRACKER_BODY_BYTES; what
 * firecracker_cancel() gave; or -errno of the connection. Another sequence may be started from
 * here, or the memory go. */
typedef void firecracker_fn(struct firecracker *f, int rc);

/* Memory of the caller, in place until `ended` was called. Zeroed, it does nothing. */
struct firecracker {
	firecracker_fn *ended; /* set by the caller */
	void *ctx;             /* likewise */

	/* private */
	struct loop *loop;
	struct addr addr;
	uint64_t timeout_ms;
	const struct firecracker_step *steps; /* the sequence, NULL when there is none */
	size_t n_steps, at;
	const void *arg; /* for the bodies */
	bool networked;
	struct timer retry;  /* armed while the socket takes no connection */
	uint64_t give_up_ns; /* when it has to; 0 before the first try */
	uint64_t retry_ms;   /* until the try after the next one */
	struct http_call call;
	bool calling, cancelled, dropped;
	struct queue answer;
	int rc;                                /* what the sequence came to, */
	const struct firecracker_step *failed; /* where it failed, */
	unsigned status;                       /* what was answered there */
	char fault[FIRECRACKER_FAULT_BYTES];   /* and why */
};

/* For the API socket at `path` (in `root`, which outlives it; as addr.root), which need not be
 * there yet. Before each request the socket, and then the answer, may take timeout_ms to come. 0,
 * or -EINVAL or -ENAMETOOLONG for the path. */
int firecracker_init(
    struct firecracker *f, struct loop *l, const char *root, const char *path, uint64_t timeout_ms);

/* Ends the sequence with rc, wherever it is; `ended` is told, not before this returns. Without a
 * sequence nothing happens. */
void firecracker_cancel(struct firecracker *f, int rc);

/* Ends the sequence without a word. The loop is to be buried before the memory goes. */
void firecracker_drop(struct firecracker *f);

/* What went wrong with the last sequence, as text for a person: "PUT /boot-source: The kernel file
 * cannot be opened". Bytes of Firecracker's that are not printable ASCII are '?'. Empty when
 * nothing did. */
void firecracker_reason(const struct firecracker *f, struct wr *w);

/* --- sequences --------------------------------------------------------------------------------
 *
 * All take what the requests are to say, which stays in place until `ended`, and return at once:
 * 0, or -EBUSY while a sequence is under way. */

struct firecracker_boot {
	uint64_t vcpus, memory_mib;
	const char *kernel, *boot_args, *rootfs; /* paths as Firecracker sees them */
	const char *tap, *mac;                   /* NULL: no network */
	const char *vsock;                       /* where Firecracker makes that socket */
};

/* Configures a VM on a fresh Firecracker and starts it. */
int firecracker_boot(struct firecracker *f, const struct firecracker_boot *b);

struct firecracker_snapshot {
	const char *vmstate, *mem; /* paths as Firecracker sees them */
	const char *tap;           /* of a restore: in place of the one it had; NULL: as it was */
};

/* Pauses a running VM and writes a full snapshot. The VM stays paused, whatever came of that: there
 * may be disks to copy, too. */
int firecracker_save(struct firecracker *f, const struct firecracker_snapshot *s);

/* Lets a VM run on; one that runs is left alone. */
int firecracker_resume(struct firecracker *f);

/* Loads a snapshot into a fresh Firecracker and lets the VM run. */
int firecracker_restore(struct firecracker *f, const struct firecracker_snapshot *s);

/* Asks the guest to shut down. */
int firecracker_ctrl_alt_del(struct firecracker *f);

#endif
