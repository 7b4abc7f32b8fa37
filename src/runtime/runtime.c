#include "runtime/runtime.h"

#include "base/container.h"
#include "base/cursor.h"
#include "base/log.h"
#include "runtime/notes.h"
#include "runtime/program.h"
#include "runtime/volume.h"
#include "sys/fs.h"
#include "sys/timer.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define CONTAINERD_CONFIG "/etc/containerd/config.toml"
#define CONTAINERD_SOCKET "/run/containerd/containerd.sock"
#define CNI_BIN           "/var/lib/rancher/k3s/data/cni"
#define CNI_CONF          "/var/lib/rancher/k3s/agent/etc/cni/net.d"

#define COUNT(array) (sizeof(array) / sizeof *(array))

enum {
	WHY_BYTES = 512, /* of a reason that a worker gives */
	STOP_MS = 25000, /* for a daemon to end by SIGTERM, when nobody says */
	KILL_MS = 500,
};

enum step {
	STEP_PREREQUISITES,
	STEP_VOLUME,
	STEP_DIRECTORIES,
	STEP_CONTAINERD,
	STEP_DOCKERD,
	STEPS
};

enum state { NOT_STARTED, STARTING, READY, FAILED, STOPPED };

struct runtime {
	struct loop *loop;
	struct reaper *reaper;
	struct runtime_conf conf;
	struct probe *probe;

	enum state state;
	enum step step;       /* of the start under way: this one runs */
	enum step goal;       /* the last one that is wanted */
	struct task next;     /* the next step */
	struct worker worker; /* prerequisites, directories */
	struct volume volume;
	struct daemon containerd, dockerd;
	struct notes notes;

	runtime_then_fn *then; /* wants containerd */
	void *then_ctx;
	struct task tell; /* it is there already */
	runtime_stopped_fn *stopped;
	void *stopped_ctx;
	uint64_t stop_end_ns;
	bool held; /* containerd, by somebody who is ending */

	struct environment environment;
	struct program containerd_program, dockerd_program;
	struct daemon_conf containerd_conf, dockerd_conf;
	char host_option[PROGRAM_PATH_BYTES];
};

/* --- notes ---------------------------------------------------------------------------------------
 */

static void note(struct runtime *r, const char *what, const char *more)
{
	notes_add(&r->notes, what, span_str(more));
	log_info("runtime", "step", KV_STR("note", what), KV_STR("more", more));
}

static const char *failure_of(enum step step)
{
	static const char *const texts[STEPS] = {
	    [STEP_PREREQUISITES] = "prerequisites failed",
	    [STEP_VOLUME] = "data volume setup failed",
	    [STEP_DIRECTORIES] = "directories failed",
	    [STEP_CONTAINERD] = "containerd failed",
	    [STEP_DOCKERD] = "dockerd failed",
	};
	return texts[step];
}

/* --- the steps -----------------------------------------------------------------------------------
 */

/* Whoever wanted containerd learns what became of it. */
static void tell_then(struct runtime *r, int rc)
{
	runtime_then_fn *then = r->then;

	r->then = NULL;
	if (then)
		then(r->then_ctx, rc, r->notes.text);
}

static void tell(struct task *t)
{
	tell_then(container_of(t, struct runtime, tell), 0);
}

static void fail(struct runtime *r, const char *why)
{
	note(r, failure_of(r->step), why);
	log_error("runtime", failure_of(r->step), KV_STR("why", why));
	r->state = FAILED;
	tell_then(r, -ECANCELED);
}

static void advance(struct runtime *r)
{
	if (r->step >= STEP_CONTAINERD)
		tell_then(r, 0);
	if (r->step < r->goal) {
		r->step++;
		task_defer(r->loop, &r->next);
	} else {
		r->state = r->goal == STEP_DOCKERD ? READY : NOT_STARTED;
	}
}

static void start_worker(struct runtime *r, worker_body_fn *body)
{
	int rc = worker_start(&r->worker, r->reaper, body, r, r->conf.prepare_ms);

	if (rc < 0)
		fail(r, err_text(rc));
}

/* In the worker: the reason of a failure is its report. */
static int prepare(void *arg, int report_fd)
{
	const struct runtime *r = arg;
	char why[WHY_BYTES] = "";
	int rc = r->conf.prepare(why, sizeof why);

	return fs_write_all(report_fd, span_str(why)) < 0 || rc < 0;
}

static void start_prerequisites(struct runtime *r)
{
	if (r->conf.prepare)
		start_worker(r, prepare);
	else
		advance(r);
}

static const char containerd_config[] = "version = 2\n\n"
					"[plugins.\"io.containerd.grpc.v1.cri\".cni]\n"
					"  bin_dir = \"" CNI_BIN "\"\n"
					"  conf_dir = \"" CNI_CONF "\"\n"
					"  max_conf_num = 1\n";

/* In the worker. A pid file of a dockerd that was killed would keep the next one from starting when
 * another process has that pid by now; nobody answers at its socket, or this start would not be. */
static int make_directories(void *arg, int report_fd)
{
	static const char *const directories[] = {"/run/containerd", "/var/run/docker",
	    "/etc/docker", "/etc/containerd", "/run/arcbox", CNI_BIN, CNI_CONF};
	int rc = 0;

	(void)arg;
	for (size_t i = 0; rc >= 0 && i < COUNT(directories); i++)
		rc = fs_make_dirs(directories[i], 0755);
	if (rc >= 0)
		rc = fs_ensure_file(CONTAINERD_CONFIG, span_str(containerd_config), 0644);
	unlink("/var/run/docker.pid");
	if (rc < 0)
		fs_write_all(report_fd, span_str(err_text(rc)));
	return rc < 0;
}

static void worked(struct worker *w, int rc, struct span report)
{
	struct runtime *r = container_of(w, struct runtime, worker);
	char why[WHY_BYTES];

	if (r->state != STARTING)
		return;
	if (!span_to_cstr(span_first(report, sizeof why - 1), why, sizeof why) || !why[0])
		span_to_cstr(span_str(rc < 0 ? err_text(rc) : "no reason given"), why, sizeof why);
	if (rc < 0 || w->status != 0) {
		fail(r, why);
		return;
	}
	note(r, r->step == STEP_PREREQUISITES ? "prerequisites ready" : "directories ready",
	    report.n ? why : "");
	advance(r);
}

static void volume_done(struct volume *v, int rc, const char *why)
{
	struct runtime *r = container_of(v, struct runtime, volume);

	if (r->state != STARTING)
		return;
	if (rc < 0) {
		fail(r, why);
		return;
	}
	note(r, "data volume ready", why);
	advance(r);
}

static void start_volume(struct runtime *r)
{
	const struct volume_conf conf = {
	    .device = r->conf.data_device,
	    .mkfs = "/sbin/mkfs.btrfs",
	    .force = r->conf.format_force,
	    .timeout_ms = r->conf.volume_ms,
	};
	int rc = 0;

	if (r->conf.data_device)
		rc = volume_setup(&r->volume, r->reaper, &conf, volume_done);
	else
		advance(r);
	if (rc < 0)
		fail(r, err_text(rc));
}

static void start_directories(struct runtime *r)
{
	start_worker(r, make_directories);
}

static void start_daemon(struct runtime *r, struct daemon *d)
{
	if (d->state == DAEMON_READY) /* from an earlier start */
		advance(r);
	else
		daemon_start(d);
}

/* One that this agent did not start is used as it is: a second one would take its socket. */
static void start_containerd(struct runtime *r)
{
	if (r->containerd.state == DAEMON_DOWN && daemon_answers(&r->containerd_conf.ready[0])) {
		note(r, "containerd", "there already");
		advance(r);
	} else {
		start_daemon(r, &r->containerd);
	}
}

static void start_dockerd(struct runtime *r)
{
	start_daemon(r, &r->dockerd);
}

static void next(struct task *t)
{
	static void (*const steps[STEPS])(struct runtime *) = {
	    [STEP_PREREQUISITES] = start_prerequisites,
	    [STEP_VOLUME] = start_volume,
	    [STEP_DIRECTORIES] = start_directories,
	    [STEP_CONTAINERD] = start_containerd,
	    [STEP_DOCKERD] = start_dockerd,
	};
	struct runtime *r = container_of(t, struct runtime, next);

	if (r->state == STARTING)
		steps[r->step](r);
}

/* A start that is under way goes on, further if need be. */
static void begin(struct runtime *r, enum step goal)
{
	if (r->state == STOPPED)
		return;
	if (r->state == STARTING) {
		if (goal > r->goal)
			r->goal = goal;
		return;
	}
	r->state = STARTING;
	r->step = STEP_PREREQUISITES;
	r->goal = goal;
	notes_clear(&r->notes);
	task_defer(r->loop, &r->next);
}

/* --- the daemons ---------------------------------------------------------------------------------
 */

static void daemon_failed(struct runtime *r, const struct daemon *d)
{
	char why[DAEMON_WORDS_BYTES + 128];
	struct wr w = wr_of(why, sizeof why);

	wr_str(&w,
	    d->rc == -ECHILD          ? "it ended at once"
		: d->rc == -ETIMEDOUT ? "it was not ready in time"
				      : err_text(d->rc));
	wr_str(&w, d->words[0] ? "; last log lines: " : "");
	wr_str(&w, d->words);
	wr_nul(&w);
	fail(r, why);
}

static void stop_next(struct runtime *r);

static void daemon_changed(struct runtime *r, struct daemon *d, enum step step)
{
	bool waits_for_it = r->state == STARTING && r->step == step;

	if (r->state == STOPPED && d->state == DAEMON_DOWN) {
		stop_next(r);
	} else if (waits_for_it && d->state == DAEMON_READY) {
		note(r, d->conf->name, "ready");
		advance(r);
	} else if (waits_for_it && d->state == DAEMON_DOWN) {
		daemon_failed(r, d);
	} else if (waits_for_it && step == STEP_CONTAINERD && d->state == DAEMON_WAITING) {
		tell_then(r, -ECANCELED); /* the next restart may fail, too, and the one after it */
	}
}

/* One that dies after its step was done puts the start back to it, until it is ready again. */
static void fall_back(struct runtime *r, const struct daemon *d, enum step step)
{
	bool was_done = r->state == READY || (r->state == STARTING && r->step > step);

	if (was_done && d->state != DAEMON_READY) {
		r->state = STARTING;
		r->step = step;
		notes_clear(&r->notes); /* they would grow each time */
		note(r, d->conf->name, "ended, started again");
	}
}

static void containerd_changed(struct daemon *d)
{
	struct runtime *r = container_of(d, struct runtime, containerd);

	fall_back(r, d, STEP_CONTAINERD);
	daemon_changed(r, d, STEP_CONTAINERD);
}

static void dockerd_changed(struct daemon *d)
{
	struct runtime *r = container_of(d, struct runtime, dockerd);

	fall_back(r, d, STEP_DOCKERD);
	daemon_changed(r, d, STEP_DOCKERD);
}

/* --- their command lines -------------------------------------------------------------------------
 */

static struct daemon_conf conf_of(
    const struct runtime *r, const char *name, const struct program *c)
{
	return (struct daemon_conf){
	    .name = name,
	    .argv = c->argv,
	    .envp = r->environment.variables,
	    .log_paths = c->log_paths,
	    .restart_ms = r->conf.restart_ms,
	    .restart_max_ms = r->conf.restart_max_ms,
	    .healthy_ms = r->conf.healthy_ms,
	};
}

/* Its shims go on when it ends: they hold the containers. */
static void init_containerd(struct runtime *r)
{
	static const char *const args[] = {"--config", CONTAINERD_CONFIG, "--address",
	    CONTAINERD_SOCKET, "--state", "/run/containerd", NULL};
	struct daemon_conf *conf = &r->containerd_conf;

	program_init(&r->containerd_program, r->conf.binary_dir, "containerd", args);
	*conf = conf_of(r, "containerd", &r->containerd_program);
	addr_unix(CONTAINERD_SOCKET, &conf->ready[0]);
	addr_unix("/var" CONTAINERD_SOCKET, &conf->ready[1]);
	conf->poll_ms = 200;
	conf->ready_ms = r->conf.containerd_ms;
	conf->stop[0] = (struct daemon_rung){SIGTERM, STOP_MS};
	conf->stop[1] = (struct daemon_rung){SIGKILL, KILL_MS};
	daemon_init(&r->containerd, r->loop, r->reaper, conf, containerd_changed);
}

static void init_dockerd(struct runtime *r)
{
	const char *const args[] = {r->host_option, "--containerd=" CONTAINERD_SOCKET,
	    "--exec-root=/var/run/docker", "--data-root=/var/lib/docker", "--userland-proxy=false",
	    NULL};
	struct daemon_conf *conf = &r->dockerd_conf;
	struct wr w = wr_of(r->host_option, sizeof r->host_option);

	wr_str(&w, "--host=unix://");
	wr_str(&w, r->conf.docker_socket);
	wr_nul(&w);
	program_init(&r->dockerd_program, r->conf.binary_dir, "dockerd", args);
	*conf = conf_of(r, "dockerd", &r->dockerd_program);
	addr_unix(r->conf.docker_socket, &conf->ready[0]);
	conf->poll_ms = 500;
	conf->ready_ms = r->conf.docker_ms;
	conf->stop[0] = (struct daemon_rung){SIGTERM, STOP_MS};
	conf->stop[1] = (struct daemon_rung){SIGKILL, KILL_MS};
	daemon_init(&r->dockerd, r->loop, r->reaper, conf, dockerd_changed);
}

/* --- requests ------------------------------------------------------------------------------------
 */

bool runtime_is_ready(const struct runtime *r)
{
	return r->state == READY;
}

const char *runtime_endpoint(const struct runtime *r)
{
	return r->conf.endpoint;
}

const char *runtime_notes(const struct runtime *r)
{
	return r->notes.text;
}

bool runtime_start(struct runtime *r)
{
	if (r->state == STOPPED)
		return false;
	if (r->state != STARTING && daemon_answers(&r->dockerd_conf.ready[0]))
		return false;
	begin(r, STEP_DOCKERD);
	return true;
}

static void add_words(char detail[RUNTIME_DETAIL_BYTES], const struct daemon *d)
{
	size_t n = strlen(detail);
	struct wr w = wr_of(detail + n, RUNTIME_DETAIL_BYTES - n - 1);

	if (!d->words[0])
		return;
	wr_str(&w, "; last log lines: ");
	wr_bytes(&w, span_first(span_str(d->words), w.cap - (w.n < w.cap ? w.n : w.cap)));
	detail[n + w.n] = '\0';
}

/* What is known here beyond what a probe sees. */
static void complete(void *ctx, struct runtime_status *st)
{
	const struct runtime *r = ctx;

	st->starting = r->state == STARTING;
	st->notes = r->notes.text;
	st->containerd_failed = !st->containerd_ready &&
	    (r->containerd.state == DAEMON_WAITING || r->containerd.rc < 0);
	st->docker_failed =
	    !st->docker_ready && (r->dockerd.state == DAEMON_WAITING || r->dockerd.rc < 0);
	if (!st->containerd_ready)
		add_words(st->containerd_detail, &r->containerd);
	if (!st->docker_ready)
		add_words(st->docker_detail, &r->dockerd);
}

int runtime_probe(struct runtime *r, runtime_status_fn *fn, const struct runtime_caller *caller)
{
	return probe_run(r->probe, fn, caller);
}

int runtime_need_containerd(struct runtime *r, runtime_then_fn *then, void *ctx)
{
	if (r->then)
		return -EBUSY;
	if (r->state == STOPPED)
		return -ESHUTDOWN;
	r->then = then;
	r->then_ctx = ctx;
	if (r->state == READY || (r->state == STARTING && r->step == STEP_DOCKERD))
		task_defer(r->loop, &r->tell);
	else
		begin(r, STEP_CONTAINERD);
	return 0;
}

void runtime_forget(struct runtime *r)
{
	r->then = NULL;
}

/* --- the end -------------------------------------------------------------------------------------
 */

/* dockerd has almost all of the time that is left, for its containers. */
static void stop_next(struct runtime *r)
{
	uint64_t now_ns = r->loop->now_ns;
	uint64_t left_ms = r->stop_end_ns > now_ns ? (r->stop_end_ns - now_ns) / NS_PER_MS : 0;
	runtime_stopped_fn *stopped = r->stopped;

	if (r->dockerd.state != DAEMON_DOWN) {
		daemon_stop(&r->dockerd, left_ms * 9 / 10 + 1);
	} else if (r->held) {
		return;
	} else if (r->containerd.state != DAEMON_DOWN) {
		daemon_stop(&r->containerd, left_ms + 1);
	} else if (stopped) {
		r->stopped = NULL;
		stopped(r->stopped_ctx);
	}
}

void runtime_stop(struct runtime *r, uint64_t wait_ms, runtime_stopped_fn *stopped, void *ctx)
{
	r->state = STOPPED;
	r->stopped = stopped;
	r->stopped_ctx = ctx;
	r->stop_end_ns = r->loop->now_ns + wait_ms * NS_PER_MS;
	worker_cancel(&r->worker);
	tell_then(r, -ESHUTDOWN);
	stop_next(r);
}

void runtime_hold(struct runtime *r)
{
	r->held = true;
}

void runtime_release(struct runtime *r)
{
	r->held = false;
	if (r->state == STOPPED && r->dockerd.state == DAEMON_DOWN)
		stop_next(r);
}

/* --- its life ------------------------------------------------------------------------------------
 */

struct runtime *runtime_new(struct loop *l, struct reaper *reaper, const struct runtime_conf *conf)
{
	struct probe_conf probe = {
	    .binary_dir = conf->binary_dir,
	    .docker_socket = conf->docker_socket,
	    .endpoint = conf->endpoint,
	    .max_waiting = conf->max_waiting,
	    .answer_ms = conf->probe_ms,
	    .complete = complete,
	};
	struct runtime *r = calloc(1, sizeof *r);

	if (!r)
		return NULL;
	r->loop = l;
	r->reaper = reaper;
	r->conf = *conf;
	r->next.fn = next;
	r->worker.fn = worked;
	r->tell.fn = tell;
	probe.ctx = r;
	r->probe = probe_new(l, reaper, &probe);
	if (!r->probe) {
		free(r);
		return NULL;
	}
	environment_init(&r->environment, conf->binary_dir);
	init_containerd(r);
	init_dockerd(r);
	return r;
}

void runtime_free(struct runtime *r)
{
	if (!r)
		return;
	task_cancel(&r->next);
	task_cancel(&r->tell);
	worker_cancel(&r->worker);
	volume_cancel(&r->volume);
	daemon_done(&r->dockerd);
	daemon_done(&r->containerd);
	probe_free(r->probe);
	free(r);
}

size_t runtime_docker_refusal(int rc, char *buf, size_t cap)
{
	const char *why = err_text(rc);
	const char *const before = "{\"message\":\"the Docker engine did not come up: ";
	struct wr w = wr_of(buf, cap);

	wr_str(&w,
	    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
	    "Content-Length: ");
	wr_dec(&w, strlen(before) + strlen(why) + strlen("\"}\n"));
	wr_str(&w, "\r\nConnection: close\r\n\r\n");
	wr_str(&w, before);
	wr_str(&w, why);
	wr_str(&w, "\"}\n");
	return w.err == E_OK ? w.n : 0;
}
