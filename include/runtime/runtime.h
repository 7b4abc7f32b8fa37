/* runtime.h - the container runtime as the agent sees it: is containerd there, is dockerd there,
 * does its API answer. */
#ifndef RUNTIME_RUNTIME_H
#define RUNTIME_RUNTIME_H

#include "base/err.h"
#include "base/span.h"
#include "sys/child.h"

struct runtime;

struct runtime_conf {
	const char *binary_dir;    /* where dockerd and the others are looked for */
	const char *docker_socket; /* path */
	const char *endpoint;      /* what a host is told: "vsock:2375" */
	unsigned max_waiting;      /* callers that wait for a probe */
};

enum {
	RUNTIME_DETAIL_BYTES = 512,
	RUNTIME_API_MS = 1000, /* for the API to answer */
	RUNTIME_LOOK_MS = 1000 /* for binary_dir, which may lie on a shared filesystem */
};

/* What a probe found. */
struct runtime_status {
	bool containerd_ready;                        /* a socket of it takes connections */
	bool docker_ready;                            /* likewise */
	bool api_ready;                               /* GET /_ping was answered by OK */
	const char *endpoint;                         /* what a host connects to */
	char detail[RUNTIME_DETAIL_BYTES];            /* of the runtime as a whole */
	char containerd_detail[RUNTIME_DETAIL_BYTES]; /* of each service */
	char docker_detail[RUNTIME_DETAIL_BYTES];
};

/* What the caller gets back with the status; large enough for an owner and a token. */
struct runtime_caller {
	void *owner;
	uint32_t id[2];
	int tag;
};

typedef void runtime_status_fn(
    const struct runtime_status *status, const struct runtime_caller *caller);

/* `conf` and its strings are used as long as the runtime lives. NULL without memory. */
struct runtime *runtime_new(struct loop *l, struct reaper *reaper, const struct runtime_conf *conf);

/* Between turns of the loop only; callers that wait are dropped. */
void runtime_free(struct runtime *r);

const struct runtime_conf *runtime_conf(const struct runtime *r);

/* Probes the sockets, and then the API of an engine that is there or the binaries of one that is
 * not; callers that come while a probe is under way share its result. 0: fn will be called, never
 * from inside this call; or -EAGAIN (too many wait). */
int runtime_probe(struct runtime *r, runtime_status_fn *fn, const struct runtime_caller *caller);

/* The answer to a Docker client whose API did not come up: a whole HTTP 503. As proxy_conf.refusal.
 */
size_t runtime_docker_refusal(int rc, char *buf, size_t cap);

#endif
