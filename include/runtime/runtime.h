/* runtime.h - the container runtime under the agent's care: brought up step by step when a host
 * asks for it, once, however many ask; kept up; brought down in order.
 *
 *     prerequisites → data volume → directories → containerd → dockerd
 *
 * Kubernetes needs it up to containerd. Each step leaves a note; a step that fails ends the start,
 * and the next request begins again where something is missing. A containerd that somebody else has
 * started is used, and left alone. Everything that can block is a worker's or a child's. */
#ifndef RUNTIME_RUNTIME_H
#define RUNTIME_RUNTIME_H

#include "runtime/daemon.h"
#include "runtime/probe.h"

struct runtime;

/* In a worker: makes something of the system be as the runtime needs it. 0, or -1 with the reason
 * in why[cap]. */
typedef int runtime_prepare_fn(char *why, size_t cap);

/* All strings outlive the runtime. */
struct runtime_conf {
	const char *binary_dir;            /* where dockerd and the others are looked for */
	const char *docker_socket;         /* path */
	const char *endpoint;              /* what a host is told: "vsock:2375" */
	const char *data_device;           /* the data volume's; NULL: none is used */
	bool format_force;                 /* whatever else is on it */
	uint64_t probe_ms;                 /* see probe.h, answer_ms */
	unsigned max_waiting;              /* callers that wait for a probe */
	runtime_prepare_fn *prepare;       /* the prerequisites; NULL: none */
	uint64_t prepare_ms;               /* for these, and for the directories */
	uint64_t volume_ms;                /* for the data volume, formatting it and all */
	uint64_t containerd_ms, docker_ms; /* for each to be ready */
	uint64_t restart_ms, restart_max_ms, healthy_ms; /* see daemon.h */
};

/* NULL without memory. Starts nothing. */
struct runtime *runtime_new(struct loop *l, struct reaper *reaper, const struct runtime_conf *conf);

/* Between turns of the loop only; callers that wait are dropped, daemons that run go on. */
void runtime_free(struct runtime *r);

/* Whether all of it was brought up here, and is there. */
bool runtime_is_ready(const struct runtime *r);

/* Begins a start unless one is under way. False when there is none to wait for: an engine is there
 * already, of whosever making, or the end has come. */
bool runtime_start(struct runtime *r);

/* As configured. */
const char *runtime_endpoint(const struct runtime *r);

/* The notes of the last start, joined by "; "; a view. */
const char *runtime_notes(const struct runtime *r);

/* What there is, with the notes of the start and the last words of daemons that died. As
 * probe_run(). */
int runtime_probe(struct runtime *r, runtime_status_fn *fn, const struct runtime_caller *caller);

/* Brings it up to containerd. `then` is called once, never from inside this call: rc < 0 says that
 * a step failed; `notes` live during the call. -EBUSY: somebody waits already. */
typedef void runtime_then_fn(void *ctx, int rc, const char *notes);
int runtime_need_containerd(struct runtime *r, runtime_then_fn *then, void *ctx);
void runtime_forget(struct runtime *r); /* whoever waits for that does not any more */

/* Ends what was started here, dockerd (which ends its containers) first, all within wait_ms.
 * Nothing is started afterwards. `stopped` is called once, perhaps before this returns; but neither
 * does containerd end nor is it called while somebody else, who is ending, holds containerd. */
typedef void runtime_stopped_fn(void *ctx);
void runtime_stop(struct runtime *r, uint64_t wait_ms, runtime_stopped_fn *stopped, void *ctx);
void runtime_hold(struct runtime *r);
void runtime_release(struct runtime *r);

/* The answer to a Docker client whose API did not come up: a whole HTTP 503. As proxy_conf.refusal.
 */
size_t runtime_docker_refusal(int rc, char *buf, size_t cap);

#endif
