#include "runtime/probe.h"

#include "base/cursor.h"
#include "net/http.h"
#include "runtime/daemon.h"
#include "runtime/program.h"
#include "sys/fs.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const containerd_sockets[] = {
    "/run/containerd/containerd.sock",
    "/var/run/containerd/containerd.sock",
};
static const char *const binaries[] = {
    "dockerd", "containerd", "containerd-shim-runc-v2", "runc", NULL};

#define COUNT(array) (sizeof(array) / sizeof *(array))

struct waiter {
	runtime_status_fn *fn;
	struct runtime_caller caller;
};

struct probe {
	struct loop *loop;
	struct reaper *reaper;
	struct probe_conf conf;
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

static bool answers(const char *path)
{
	struct addr addr;
	return addr_unix(path, &addr) == E_OK && daemon_answers(&addr);
}

static void probe_containerd(struct runtime_status *st)
{
	for (size_t i = 0; i < COUNT(containerd_sockets) && !st->containerd_ready; i++)
		st->containerd_ready = answers(containerd_sockets[i]);
	text_join(st->containerd_detail, sizeof st->containerd_detail,
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
static void say_not_ready(struct probe *p, int rc, struct span missing)
{
	struct runtime_status *st = &p->status;
	struct wr w = wr_of(st->detail, sizeof st->detail - 1);
	bool there = access(p->conf.docker_socket, F_OK) == 0;

	wr_str(&w, there ? "docker socket exists but not reachable: " : "docker socket missing: ");
	wr_str(&w, p->conf.docker_socket);
	say_binaries(&w, p->conf.binary_dir, rc, missing);
	st->detail[w.n] = '\0';
	text_join(st->docker_detail, sizeof st->docker_detail, st->detail);
}

static void say_ready(struct runtime_status *st)
{
	text_join(st->detail, sizeof st->detail, "docker socket ready");
	text_join(st->docker_detail, sizeof st->docker_detail,
	    st->api_ready ? "API /_ping OK" : "socket connectable, API initializing");
}

static void finish(struct probe *p)
{
	size_t n = p->n_waiters;

	p->probing = false;
	p->n_waiters = 0;
	if (p->conf.complete)
		p->conf.complete(p->conf.ctx, &p->status);
	for (size_t i = 0; i < n; i++)
		p->waiters[i].fn(&p->status, &p->waiters[i].caller);
}

/* --- no engine: are its binaries there? ------------------------------------------------------- */

/* In the worker, since the directory may lie on a shared filesystem whose server hangs. Reports the
 * names of those that are not there. */
static int list_missing(void *arg, int report_fd)
{
	const struct probe *p = arg;
	char text[128];
	struct wr w = wr_of(text, sizeof text);

	program_list_missing(p->conf.binary_dir, binaries, &w);
	return fs_write_all(report_fd, wr_span(&w)) < 0;
}

static void look_over(struct probe *p, int rc, struct span missing)
{
	timer_at(&p->patience, 0);
	say_not_ready(p, rc, missing);
	finish(p);
}

static void looked(struct worker *w, int rc, struct span missing)
{
	struct probe *p = container_of(w, struct probe, look);

	if (timer_armed(&p->patience)) /* else it came too late for its probe */
		look_over(p, rc, missing);
}

static void impatient(struct timer *t)
{
	look_over(container_of(t, struct probe, patience), -ETIMEDOUT, nothing);
}

/* A look of an earlier probe that hangs is waited for once more. */
static void look(struct probe *p)
{
	int rc = worker_start(&p->look, p->reaper, list_missing, p, 0);

	if (rc < 0 && rc != -EBUSY)
		look_over(p, rc, nothing);
	else
		timer_in(&p->patience, p->conf.answer_ms * NS_PER_MS);
}

/* --- an engine: does its API answer? ---------------------------------------------------------- */

static void ping_over(struct probe *p)
{
	say_ready(&p->status);
	finish(p);
}

static int pong(struct http_call *h, const struct http1_head *head)
{
	struct probe *p = h->ctx;

	p->status.api_ready = head->status == 200;
	return 0;
}

static void pinged(struct http_call *h, int rc)
{
	struct probe *p = h->ctx;

	p->pinging = false;
	if (rc < 0)
		p->status.api_ready = false;
	if (p->probing)
		ping_over(p);
}

static const struct http_ops ping_ops = {.head = pong, .ended = pinged};

static void ping(struct probe *p)
{
	const struct http_request request = {
	    .method = "GET",
	    .target = "/_ping",
	    .timeout_ms = p->conf.answer_ms,
	    .limit_bytes = 4096,
	};
	struct addr docker;

	p->ping.ctx = p;
	p->pinging = addr_unix(p->conf.docker_socket, &docker) == E_OK &&
	    http_start(&p->ping, p->loop, &docker, &request, &ping_ops) == 0;
	if (!p->pinging)
		ping_over(p);
}

/* --- the probe -------------------------------------------------------------------------------- */

static void start(struct task *t)
{
	struct probe *p = container_of(t, struct probe, start);

	p->status = (struct runtime_status){.endpoint = p->conf.endpoint, .notes = ""};
	probe_containerd(&p->status);
	p->status.docker_ready = answers(p->conf.docker_socket);
	if (p->status.docker_ready)
		ping(p);
	else
		look(p);
}

struct probe *probe_new(struct loop *l, struct reaper *reaper, const struct probe_conf *conf)
{
	struct probe *p = calloc(1, sizeof *p + conf->max_waiting * sizeof(struct waiter));

	if (!p)
		return NULL;
	p->loop = l;
	p->reaper = reaper;
	p->conf = *conf;
	p->start.fn = start;
	p->look.fn = looked;
	timer_init(&p->patience, l, impatient);
	return p;
}

void probe_free(struct probe *p)
{
	if (!p)
		return;
	task_cancel(&p->start);
	timer_at(&p->patience, 0);
	worker_cancel(&p->look);
	p->probing = false;
	if (p->pinging) {
		http_cancel(&p->ping, -ECANCELED);
		loop_bury(p->loop);
	}
	free(p);
}

int probe_run(struct probe *p, runtime_status_fn *fn, const struct runtime_caller *caller)
{
	if (p->n_waiters == p->conf.max_waiting)
		return -EAGAIN;
	p->waiters[p->n_waiters++] = (struct waiter){fn, *caller};
	if (!p->probing) {
		p->probing = true;
		task_defer(p->loop, &p->start);
	}
	return 0;
}
