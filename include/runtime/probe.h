/* probe.h - the container runtime as it looks from outside, whoever started it: is containerd
 * there, is dockerd there, does its API answer. */
#ifndef RUNTIME_PROBE_H
#define RUNTIME_PROBE_H

#include "base/err.h"
#include "base/span.h"
#include "sys/child.h"

struct probe;
struct runtime_status;

struct probe_conf {
	const char *binary_dir;    /* where dockerd and the others are looked for */
	const char *docker_socket; /* path */
	const char *endpoint;      /* what a host is told: "vsock:2375" */
	unsigned max_waiting;      /* callers that wait for a probe */
	uint64_t answer_ms;        /* for the API to answer, or for binary_dir, which may hang */

	/* What else there is to say of it, before the callers get to know; NULL: nothing. */
	void (*complete)(void *ctx, struct runtime_status *status);
	void *ctx;
};

enum { RUNTIME_DETAIL_BYTES = 512 };

/* What a probe found. */
struct runtime_status {
	bool containerd_ready;                 /* a socket of it takes connections */
	bool docker_ready;                     /* likewise */
	bool api_ready;                        /* GET /_ping was answered by OK */
	const char *endpoint;                  /* what a host connects to */
	bool starting;                         /* the agent is bringing it up */
	bool containerd_failed, docker_failed; /* it was brought up here, and died */
	const char *notes;                     /* of its start here; "" when there was none */
	char detail[RUNTIME_DETAIL_BYTES];     /* of the runtime as a whole */
	char containerd_detail[RUNTIME_DETAIL_BYTES]; /* of each service */
	char docker_detail[RUNTIME_DETAIL_BYTES];
};

/* What the caller gets back with the status; large enough for an owner and a token. */
struct runtime_caller {
	void *owner;
	uint32_t id[2];
};

typedef void runtime_status_fn(
    const struct runtime_status *status, const struct runtime_caller *caller);

/* `conf` and its strings are used as long as the probe lives. NULL without memory. */
struct probe *probe_new(struct loop *l, struct reaper *reaper, const struct probe_conf *conf);

/* Between turns of the loop only; callers that wait are dropped. */
void probe_free(struct probe *p);

/* Probes the sockets, and then the API of an engine that is there or the binaries of one that is
 * not; callers that come while a probe is under way share its result. 0: fn will be called, never
 * from inside this call; or -EAGAIN (too many wait). */
int probe_run(struct probe *p, runtime_status_fn *fn, const struct runtime_caller *caller);

#endif
