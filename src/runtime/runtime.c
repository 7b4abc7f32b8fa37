#include "runtime/runtime.h"

#include "base/cursor.h"
#include "net/http.h"
#include "sys/fs.h"

#include <errno.h>
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
	struct runtime_conf conf;
	struct task start;
	struct http_call ping;
	bool probing, pinging;
	struct runtime_status status; /* of the probe under way */
	size_t n_waiters;
	struct waiter waiters[]; /* conf.max_waiting */
};

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

static void say_missing(const char *dir, struct wr *w)
{
	const char *before = "; missing runtime binaries under ";
	char path[512];

	for (size_t i = 0; i < COUNT(binaries); i++) {
		int n = snprintf(path, sizeof path, "%s/%s", dir, binaries[i]);

		if (n > 0 && (size_t)n < sizeof path && fs_is_program(path))
			continue;
		wr_str(w, before);
		if (before[0] == ';') {
			wr_str(w, dir);
			wr_str(w, ": ");
		}
		wr_str(w, binaries[i]);
		before = ", ";
	}
}

static void say_detail(const struct runtime *r, struct runtime_status *st)
{
	struct wr w = wr_of(st->detail, sizeof st->detail - 1);

	if (st->docker_ready) {
		wr_str(&w, "docker socket ready");
	} else {
		bool there = access(r->conf.docker_socket, F_OK) == 0;

		wr_str(&w,
		    there ? "docker socket exists but not reachable: " : "docker socket missing: ");
		wr_str(&w, r->conf.docker_socket);
		say_missing(r->conf.binary_dir, &w);
	}
	st->detail[w.n] = '\0';
}

static void finish(struct runtime *r)
{
	struct runtime_status *st = &r->status;
	size_t n = r->n_waiters;

	say_detail(r, st);
	if (st->docker_ready)
		snprintf(st->docker_detail, sizeof st->docker_detail, "%s",
		    st->api_ready ? "API /_ping OK" : "socket connectable, API initializing");
	else
		snprintf(st->docker_detail, sizeof st->docker_detail, "%s", st->detail);
	r->probing = false;
	r->n_waiters = 0;
	for (size_t i = 0; i < n; i++)
		r->waiters[i].fn(st, &r->waiters[i].caller);
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
		finish(r);
}

static const struct http_ops ping_ops = {.head = pong, .ended = pinged};

static void probe(struct task *t)
{
	static const struct http_request ping = {
	    .method = "GET",
	    .target = "/_ping",
	    .timeout_ms = RUNTIME_API_MS,
	    .limit_bytes = 4096,
	};
	struct runtime *r = container_of(t, struct runtime, start);
	struct addr docker;

	r->status = (struct runtime_status){.endpoint = r->conf.endpoint};
	probe_containerd(&r->status);
	r->status.docker_ready = answers(r->conf.docker_socket);
	if (r->status.docker_ready && addr_unix(r->conf.docker_socket, &docker) == E_OK) {
		r->ping.ctx = r;
		r->pinging = http_start(&r->ping, r->loop, &docker, &ping, &ping_ops) == 0;
	}
	if (!r->pinging)
		finish(r);
}

struct runtime *runtime_new(struct loop *l, const struct runtime_conf *conf)
{
	struct runtime *r = calloc(1, sizeof *r + conf->max_waiting * sizeof(struct waiter));

	if (!r)
		return NULL;
	r->loop = l;
	r->conf = *conf;
	r->start.fn = probe;
	return r;
}

void runtime_free(struct runtime *r)
{
	if (!r)
		return;
	task_cancel(&r->start);
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
