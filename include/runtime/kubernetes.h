/* kubernetes.h - k3s under the agent's care: started on top of the runtime's containerd, kept up,
 * stopped, and deleted with all that it left.
 *
 * The five requests are served one after the other, in the order in which they came; nothing else
 * waits for them. What can block is a worker's or a child's. */
#ifndef RUNTIME_KUBERNETES_H
#define RUNTIME_KUBERNETES_H

#include "runtime/runtime.h"

#define KUBERNETES_ENDPOINT "https://127.0.0.1:16443" /* where a host's proxy is */
#define KUBERNETES_CONTEXT  "arcbox"

struct kubernetes;

enum kubernetes_request {
	KUBERNETES_START,
	KUBERNETES_STOP,
	KUBERNETES_DELETE,
	KUBERNETES_STATUS,
	KUBERNETES_KUBECONFIG,
};

/* All strings outlive it. */
struct kubernetes_conf {
	const char *binary_dir;  /* where k3s and the others are looked for */
	struct runtime *runtime; /* whose containerd it uses */
	unsigned max_waiting;    /* requests, the one being served among them */
	uint64_t answer_ms;      /* a start is answered then, even if the API is not up yet */
	uint64_t ready_ms;       /* k3s is given up when its API does not come up in so long */
	uint64_t stop_ms;        /* for k3s to end by SIGTERM */
	uint64_t delete_ms;      /* for removing the namespace, and again for the directories */
	uint64_t restart_ms, restart_max_ms, healthy_ms; /* see daemon.h */
};

/* What a request came to. Views live during the call. */
struct kubernetes_answer {
	int rc;             /* 0; or -errno, and `detail` says why: -ENOENT for no kubeconfig */
	const char *detail; /* what was done or found */
	bool running, api_ready;                    /* start, status */
	bool containerd_ready, k3s_failed;          /* status: k3s died, or could not be started */
	const char *containerd_detail, *k3s_detail; /* status */
	struct span kubeconfig;                     /* the text of the file: valid UTF-8 */
};

typedef void kubernetes_fn(
    const struct kubernetes_answer *answer, const struct runtime_caller *caller);

/* NULL without memory. Starts nothing. */
struct kubernetes *kubernetes_new(
    struct loop *l, struct reaper *reaper, const struct kubernetes_conf *conf);

/* Between turns of the loop only; callers that wait are dropped, a k3s that runs goes on. */
void kubernetes_free(struct kubernetes *k);

/* 0: fn will be called, never from inside this call; or -EAGAIN (too many wait), -ESHUTDOWN. */
int kubernetes_ask(struct kubernetes *k, enum kubernetes_request what, kubernetes_fn *fn,
    const struct runtime_caller *caller);

/* Ends k3s within wait_ms, or sooner if it does not take the time it has for SIGTERM; and all
 * requests, with -ESHUTDOWN. A k3s of an earlier agent is left alone. Nothing is started
 * afterwards. `stopped` is called once, perhaps before this returns. */
typedef void kubernetes_stopped_fn(void *ctx);
void kubernetes_stop(
    struct kubernetes *k, uint64_t wait_ms, kubernetes_stopped_fn *stopped, void *ctx);

#endif
