#include "runtime/runtime.h"

#include "base/cursor.h"
#include "net/http.h"
#include "sys/fs.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const containerd_sockets[] = {
    "/run/containerd/containerd.sock",
    "/var/run/containerd/containerd.sock",
};
static const char *const binaries[] = {"dockerd", "containerd", "containerd-shim-runc-v2", "runc"};

#define COUNT(array) (sizeof(array) / sizeof *(array))

struct waiter {
	runtime_status_fn *fn;
	struct runtime_caller caller;
};

struct runtime {
	struct loop *loop;
	struct reaper *reaper;
	struct runtime_conf conf;
	struct task start;
	struct http_call ping;
	struct worker look; /* for the binaries; never killed: one that hangs would not die of it */
	struct timer patience; /* armed while the probe under way waits for the look */
	bool probing, pinging;
	struct runtime_status status; /* of the probe under way */
	size_t n_waiters;
	struct waiter waiters[]; /* conf.max_waiting */
};

static const struct span nothing;

/* Whether something listens at a unix socket. A full backlog is somebody too. */
static bool answers(const char *path)
{
	struct addr addr;
	int fd;

	if (addr_unix(path, &addr) != E_OK)
		return false;
	fd = sock_connect(&addr);
	if (fd >= 0)
		close(fd);
	return fd >= 0 || fd == -EAGAIN;
}

static void probe_containerd(struct runtime_status *st)
{
	for (size_t i = 0; i < COUNT(containerd_sockets) && !st->containerd_ready; i++)
		st->containerd_ready = answers(containerd_sockets[i]);
	snprintf(st->containerd_detail, sizeof st->containerd_detail, "%s",
	    st->containerd_ready ? "containerd socket ready" : "containerd socket not reachable");
}

static void say_binaries(struct wr *w, const char *dir, int rc, struct span missing)
{
	if (rc == -ETIMEDOUT) {
		wr_str(w, "; no answer from ");
		wr_str(w, dir);
	} else if (rc < 0) {
		wr_str(w, "; cannot look into ");
		wr_str(w, dir);
		wr_str(w, ": ");
		wr_str(w, err_text(rc));
	} else if (missing.n) {
		wr_str(w, "; missing runtime binaries under ");
		wr_str(w, dir);
		wr_str(w, ": ");
		wr_bytes(w, missing);
	}
}

/* Why there is no engine: the state of its socket, and what the look for its binaries came to. */
static void say_not_ready(struct runtime *r, int rc, struct span missing)
{
	struct runtime_status *st = &r->status;
	struct wr w = wr_of(st->detail, sizeof st->detail - 1);
	bool there = access(r->conf.docker_socket, F_OK) == 0;

	wr_str(&w, there ? "docker socket exists but not reachable: " : "docker socket missing: ");
	wr_str(&w, r->conf.docker_socket);
	say_binaries(&w, r->conf.binary_dir, rc, missing);
	st->detail[w.n] = '\0';
	snprintf(st->docker_detail, sizeof st->docker_detail, "%s", st->detail);
}

static void say_ready(struct runtime_status *st)
{
	snprintf(st->detail, sizeof st->detail, "docker socket ready");
	snprintf(st->docker_detail, sizeof st->docker_detail, "%s",
	    st->api_ready ? "API /_ping OK" : "socket connectable, API initializing");
}

static void finish(struct runtime *r)
{
	size_t n = r->n_waiters;

	r->probing = false;
	r->n_waiters = 0;
	for (size_t i = 0; i < n; i++)
		r->waiters[i].fn(&r->status, &r->waiters[i].caller);
}

/* --- no engine: are its binaries there? ------------------------------------------------------- */

/* In the worker, since the directory may lie on a shared filesystem whose server hangs. Reports the
 * names of those that are not there. */
static int list_missing(void *arg, int report_fd)
{
	const struct runtime *r = arg;
	char path[PATH_MAX], text[128];
	struct wr w = wr_of(text, sizeof text);

	for (size_t i = 0; i < COUNT(binaries); i++) {
		int n = snprintf(path, sizeof path, "%s/%s", r->conf.binary_dir, binaries[i]);

		if (n > 0 && (size_t)n < sizeof path && fs_is_program(path))
			continue;
		wr_str(&w, w.n ? ", " : "");
		wr_str(&w, binaries[i]);
	}
	return fs_write_all(report_fd, wr_span(&w)) < 0;
}

static void look_over(struct runtime *r, int rc, struct span missing)
{
	timer_at(&r->patience, 0);
	say_not_ready(r, rc, missing);
	finish(r);
}

static void looked(struct worker *w, int rc, struct span missing)
{
	struct runtime *r = container_of(w, struct runtime, look);

	if (timer_armed(&r->patience)) /* else it came too late for its probe */
		look_over(r, rc, missing);
}

static void impatient(struct timer *t)
{
	look_over(container_of(t, struct runtime, patience), -ETIMEDOUT, nothing);
}

/* A look of an earlier probe that hangs is waited for once more. */
static void look(struct runtime *r)
{
	int rc = worker_start(&r->look, r->reaper, list_missing, r, 0);

	if (rc < 0 && rc != -EBUSY)
		look_over(r, rc, nothing);
	else
		timer_in(&r->patience, RUNTIME_LOOK_MS * NS_PER_MS);
}

/* --- an engine: does its API answer? ---------------------------------------------------------- */

static void ping_over(struct runtime *r)
{
	say_ready(&r->status);
	finish(r);
}

static int pong(struct http_call *h, const struct http1_head *head)
{
	struct runtime *r = h->ctx;

	r->status.api_ready = head->status == 200;
	return 0;
}

static void pinged(struct http_call *h, int rc)
{
	struct runtime *r = h->ctx;

	r->pinging = false;
	if (rc < 0)
		r->status.api_ready = false;
	if (r->probing)
		ping_over(r);
}

static const struct http_ops ping_ops = {.head = pong, .ended = pinged};

static void ping(struct runtime *r)
{
	static const struct http_request request = {
	    .method = "GET",
	    .target = "/_ping",
	    .timeout_ms = RUNTIME_API_MS,
	    .limit_bytes = 4096,
	};
	struct addr docker;

	r->ping.ctx = r;
	r->pinging = addr_unix(r->conf.docker_socket, &docker) == E_OK &&
	    http_start(&r->ping, r->loop, &docker, &request, &ping_ops) == 0;
	if (!r->pinging)
		ping_over(r);
}

/* --- the probe -------------------------------------------------------------------------------- */

static void probe(struct task *t)
{
	struct runtime *r = container_of(t, struct runtime, start);

	r->status = (struct runtime_status){.endpoint = r->conf.endpoint};
	probe_containerd(&r->status);
	r->status.docker_ready = answers(r->conf.docker_socket);
	if (r->status.docker_ready)
		ping(r);
	else
		look(r);
}

struct runtime *runtime_new(struct loop *l, struct reaper *reaper, const struct runtime_conf *conf)
{
	struct runtime *r = calloc(1, sizeof *r + conf->max_waiting * sizeof(struct waiter));

	if (!r)
		return NULL;
	r->loop = l;
	r->reaper = reaper;
	r->conf = *conf;
	r->start.fn = probe;
	r->look.fn = looked;
	timer_init(&r->patience, l, impatient);
	return r;
}

void runtime_free(struct runtime *r)
{
	if (!r)
		return;
	task_cancel(&r->start);
	timer_at(&r->patience, 0);
	worker_cancel(&r->look);
	r->probing = false;
	if (r->pinging) {
		http_cancel(&r->ping, -ECANCELED);
		loop_bury(r->loop);
	}
	free(r);
}

const struct runtime_conf *runtime_conf(const struct runtime *r)
{
	return &r->conf;
}

int runtime_probe(struct runtime *r, runtime_status_fn *fn, const struct runtime_caller *caller)
{
	if (r->n_waiters == r->conf.max_waiting)
		return -EAGAIN;
	r->waiters[r->n_waiters++] = (struct waiter){fn, *caller};
	if (!r->probing) {
		r->probing = true;
		task_defer(r->loop, &r->start);
	}
	return 0;
}

size_t runtime_docker_refusal(int rc, char *buf, size_t cap)
{
	char body[256];
	int body_bytes = snprintf(body, sizeof body,
	    "{\"message\":\"the Docker engine did not come up: %s\"}\n", err_text(rc));
	int n = snprintf(buf, cap,
	    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
	    "Content-Length: %d\r\nConnection: close\r\n\r\n%s",
	    body_bytes, body);

	return n > 0 && (size_t)n < cap ? (size_t)n : 0;
}
