#include "runtime/kubernetes.h"

#include "base/container.h"
#include "base/cursor.h"
#include "base/log.h"
#include "base/utf8.h"
#include "runtime/earlier.h"
#include "runtime/program.h"
#include "runtime/wipe.h"
#include "sys/fs.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define CONTAINERD_SOCKET "/run/containerd/containerd.sock"
#define DATA_DIR          "/var/lib/rancher/k3s"
#define KUBECONFIG        DATA_DIR "/k3s.yaml"
#define PID_PATH          "/run/arcbox/k3s.pid"
#define API_PORT          6443

enum {
	POLL_MS = 500,
	LOOK_MS = 1000, /* for binary_dir, which may lie on a shared filesystem */
	READ_MS = 5000, /* for the kubeconfig */
	KILL_MS = 500,
	WORD_BYTES = 256,
	KUBECONFIG_BYTES = 256 * 1024,
};

/* What the request that is being served waits for. */
enum phase {
	PHASE_NONE,
	PHASE_LOOK,       /* are the programs there? */
	PHASE_CONTAINERD, /* the runtime brings it up */
	PHASE_API,        /* k3s takes connections */
	PHASE_STOP,       /* k3s ends */
	PHASE_NAMESPACE,  /* `k3s ctr` ends */
	PHASE_WIPE,       /* the directories are emptied */
	PHASE_READ,       /* the kubeconfig is read */
};

struct waiter {
	enum kubernetes_request what;
	kubernetes_fn *fn;
	struct runtime_caller caller;
};

struct kubernetes {
	struct loop *loop;
	struct reaper *reaper;
	struct kubernetes_conf conf;
	struct environment environment;
	struct program program, ctr_program;
	const char *programs[3]; /* what a k3s may run as */
	struct addr api, containerd[2];

	struct daemon_conf k3s_conf;
	struct daemon k3s;
	pid_t recorded; /* what the pid file says, 0: there is none of ours */
	struct earlier earlier;

	enum phase phase;
	struct notes notes;       /* of the request being served */
	char missing[WORD_BYTES]; /* programs; "" for none */
	struct worker worker;
	struct child ctr;
	int fd; /* file in memory: what ctr or a worker writes; -1 for none */
	struct timer timer;
	uint64_t answer_ns; /* when a start is answered at the latest */

	bool ended; /* nothing is started any more */
	kubernetes_stopped_fn *stopped;
	void *stopped_ctx;

	struct task next;
	unsigned first, n_waiters; /* a ring; the first one is being served */
	struct waiter waiters[];   /* conf.max_waiting */
};

static void note(struct kubernetes *k, const char *what, const char *more)
{
	notes_add(&k->notes, what, span_str(more));
	log_info("kubernetes", what, KV_STR("more", more));
}

/* --- answers --------------------------------------------------------------------------------- */

static void close_file(struct kubernetes *k)
{
	if (k->fd >= 0)
		close(k->fd);
	k->fd = -1;
}

static void answer(struct kubernetes *k, const struct kubernetes_answer *answer)
{
	struct waiter served = k->waiters[k->first];

	k->phase = PHASE_NONE;
	timer_at(&k->timer, 0);
	close_file(k);
	k->first = (k->first + 1) % k->conf.max_waiting;
	if (--k->n_waiters > 0)
		task_defer(k->loop, &k->next);
	served.fn(answer, &served.caller);
}

/* What was done is what the notes say. */
static void answer_notes(struct kubernetes *k, int rc)
{
	answer(k, &(struct kubernetes_answer){.rc = rc, .detail = k->notes.text});
}

/* --- is k3s there? --------------------------------------------------------------------------- */

static pid_t earlier_pid(const struct kubernetes *k)
{
	pid_t pid = earlier_find(PID_PATH, k->programs);

	return pid == k->k3s.pid ? 0 : pid;
}

/* The one that runs, of whichever agent; 0 for none. */
static pid_t k3s_pid(const struct kubernetes *k)
{
	return k->k3s.pid ? k->k3s.pid : earlier_pid(k);
}

static bool has_failed(const struct daemon *d)
{
	return d->state == DAEMON_WAITING || (d->state == DAEMON_DOWN && d->rc < 0);
}

/* Why it does not run any more, with what it said last. */
static const char *failure_text(const struct daemon *d, char *text, size_t cap)
{
	const char *why = d->rc == -ETIMEDOUT ? "its API did not come up in time"
	    : d->rc < 0 && d->rc != -ECHILD   ? err_text(d->rc)
	    : d->state == DAEMON_WAITING      ? "it died and is started again in a while"
					      : "it ended at once";

	text_join(text, cap, why, d->words[0] ? "; last log lines: " : "", d->words);
	return text;
}

/* The pid file names the process that runs now. */
static void record_pid(struct kubernetes *k)
{
	char pid[DEC_TEXT_BYTES], line[DEC_TEXT_BYTES + 1];
	int rc = 0;

	if (k->k3s.pid == k->recorded)
		return;
	k->recorded = k->k3s.pid;
	text_join(line, sizeof line, dec_text((uint64_t)k->recorded, pid), "\n");
	if (k->recorded)
		rc = fs_replace_file(PID_PATH, span_str(line), 0644);
	else
		unlink(PID_PATH);
	if (rc < 0)
		log_warn("kubernetes", "cannot write the pid file", KV_STR("path", PID_PATH),
		    KV_ERR(rc));
}

/* --- are its programs there? ----------------------------------------------------------------- */

/* In the worker. */
static int look(void *arg, int report_fd)
{
	static const char *const names[] = {
	    "containerd", "containerd-shim-runc-v2", "runc", "k3s", NULL};
	const struct kubernetes *k = arg;
	char text[WORD_BYTES];
	struct wr w = wr_of(text, sizeof text);

	program_list_missing(k->conf.binary_dir, names, &w);
	return fs_write_all(report_fd, wr_span(&w)) < 0;
}

static void looked(struct kubernetes *k);

static void take_missing(struct kubernetes *k, int rc, struct span names)
{
	char list[WORD_BYTES + 1];

	k->missing[0] = '\0';
	if (rc < 0)
		text_join(k->missing, sizeof k->missing, "cannot look into ", k->conf.binary_dir,
		    ": ", err_text(rc));
	if (names.n && span_to_cstr(names, list, sizeof list))
		text_join(k->missing, sizeof k->missing, "missing Kubernetes binaries under ",
		    k->conf.binary_dir, ": ", list);
	looked(k);
}

static void start_look(struct kubernetes *k)
{
	int rc;

	k->phase = PHASE_LOOK;
	rc = worker_start(&k->worker, k->reaper, look, k, LOOK_MS);
	if (rc < 0)
		take_missing(k, rc, span_of(NULL, 0));
}

/* --- start
 * ----------------------------------------------------------------------------------------- */

static void answer_start(struct kubernetes *k)
{
	bool running = k3s_pid(k) != 0;

	answer(k,
	    &(struct kubernetes_answer){
		.detail = k->notes.text,
		.running = running,
		.api_ready = running && daemon_answers(&k->api),
	    });
}

/* Whether the start is over, by the state of k3s or by the time. */
static void check_api(struct kubernetes *k)
{
	const struct daemon *d = &k->k3s;
	bool waits = d->state == DAEMON_DOWN ? earlier_pid(k) != 0 : d->state != DAEMON_STOPPING;
	char text[DAEMON_WORDS_BYTES + WORD_BYTES];

	if (k3s_pid(k) && daemon_answers(&k->api)) {
		note(k, "Kubernetes API ready", "");
		answer_start(k);
	} else if (!waits) {
		note(k, "k3s failed", failure_text(d, text, sizeof text));
		answer_start(k);
	} else if (k->loop->now_ns >= k->answer_ns) {
		note(k, "Kubernetes API not ready yet",
		    has_failed(d) ? failure_text(d, text, sizeof text) : "");
		answer_start(k);
	} else {
		timer_in(&k->timer, POLL_MS * NS_PER_MS);
	}
}

static void await_api(struct kubernetes *k)
{
	k->phase = PHASE_API;
	k->answer_ns = k->loop->now_ns + k->conf.answer_ms * NS_PER_MS;
	timer_in(&k->timer, POLL_MS * NS_PER_MS);
}

static void launch(struct kubernetes *k)
{
	if (daemon_answers(&k->api)) {
		note(k, "k3s not started", "another process listens on 127.0.0.1:6443");
		answer_start(k);
		return;
	}
	note(k, "k3s started", "");
	await_api(k);
	daemon_start(&k->k3s);
}

static void containerd_there(void *ctx, int rc, const char *notes)
{
	struct kubernetes *k = ctx;

	notes_add(&k->notes, notes, span_str(""));
	if (rc < 0)
		answer_start(k);
	else
		launch(k);
}

static void need_containerd(struct kubernetes *k)
{
	int rc;

	k->phase = PHASE_CONTAINERD;
	rc = runtime_need_containerd(k->conf.runtime, containerd_there, k);
	if (rc == 0)
		return;
	note(k, "containerd failed", err_text(rc));
	answer_start(k);
}

static void start(struct kubernetes *k)
{
	if (k->k3s.state == DAEMON_DOWN && earlier_pid(k) == 0) {
		start_look(k);
		return;
	}
	note(k, "k3s already running", "");
	await_api(k);
	check_api(k);
}

/* --- status
 * ---------------------------------------------------------------------------------------- */

static void describe_k3s(const struct kubernetes *k, bool api_ready, char *text, size_t cap)
{
	char why[DAEMON_WORDS_BYTES + WORD_BYTES];

	if (k3s_pid(k))
		text_join(text, cap, "k3s running, API ", api_ready ? "ready" : "not ready yet");
	else if (has_failed(&k->k3s))
		text_join(text, cap, "k3s failed: ", failure_text(&k->k3s, why, sizeof why));
	else
		text_join(text, cap, "k3s not running");
}

static void answer_status(struct kubernetes *k)
{
	bool containerd = daemon_answers(&k->containerd[0]) || daemon_answers(&k->containerd[1]);
	bool running = k3s_pid(k) != 0;
	bool api_ready = running && daemon_answers(&k->api);
	char text[DAEMON_WORDS_BYTES + 2 * WORD_BYTES];

	describe_k3s(k, api_ready, text, sizeof text);
	note(k, text, "");
	if (k->missing[0])
		note(k, k->missing, "");
	answer(k,
	    &(struct kubernetes_answer){
		.detail = k->notes.text,
		.running = running,
		.api_ready = api_ready,
		.containerd_ready = containerd,
		.k3s_failed = !running && has_failed(&k->k3s),
		.containerd_detail =
		    containerd ? "containerd socket ready" : "containerd socket not reachable",
		.k3s_detail = text,
	    });
}

static void status(struct kubernetes *k)
{
	k->missing[0] = '\0';
	if (k3s_pid(k))
		answer_status(k);
	else
		start_look(k);
}

/* The programs are looked for by a start and by a status. */
static void looked(struct kubernetes *k)
{
	if (k->waiters[k->first].what == KUBERNETES_STATUS) {
		answer_status(k);
	} else if (k->missing[0]) {
		note(k, k->missing, "");
		answer_start(k);
	} else {
		need_containerd(k);
	}
}

/* --- stop
 * ------------------------------------------------------------------------------------------ */

static void remove_namespace(struct kubernetes *k);

static void k3s_stopped(struct kubernetes *k, int rc, const char *text)
{
	note(k, text, rc < 0 ? err_text(rc) : "");
	if (rc == 0 && k->waiters[k->first].what == KUBERNETES_DELETE)
		remove_namespace(k);
	else
		answer_notes(k, rc);
}

static void earlier_stopped(struct earlier *e, int rc, bool forced)
{
	struct kubernetes *k = container_of(e, struct kubernetes, earlier);

	unlink(PID_PATH);
	k3s_stopped(k, rc,
	    rc < 0       ? "k3s does not end"
		: forced ? "k3s force-stopped"
			 : "k3s stopped");
}

static void stop_earlier(struct kubernetes *k, pid_t pid)
{
	int rc = earlier_stop(&k->earlier, k->loop, pid, k->conf.stop_ms);

	if (rc < 0)
		k3s_stopped(k, rc == -ESRCH ? 0 : rc,
		    rc == -ESRCH ? "k3s already stopped" : "k3s cannot be stopped");
}

static void stop(struct kubernetes *k)
{
	pid_t pid = earlier_pid(k);

	k->phase = PHASE_STOP;
	if (k->k3s.state != DAEMON_DOWN)
		daemon_stop(&k->k3s, 0);
	else if (pid)
		stop_earlier(k, pid);
	else
		k3s_stopped(k, 0, "k3s already stopped");
}

static void k3s_changed(struct daemon *d)
{
	struct kubernetes *k = container_of(d, struct kubernetes, k3s);
	kubernetes_stopped_fn *stopped = k->stopped;

	record_pid(k);
	if (k->phase == PHASE_API) {
		check_api(k);
	} else if (k->phase == PHASE_STOP && d->state == DAEMON_DOWN) {
		k3s_stopped(k, d->rc,
		    d->rc < 0         ? "k3s does not end"
			: d->rung > 1 ? "k3s force-stopped"
				      : "k3s stopped");
	} else if (k->ended && d->state == DAEMON_DOWN && stopped) {
		k->stopped = NULL;
		stopped(k->stopped_ctx);
	}
}

/* --- delete
 * ---------------------------------------------------------------------------------------- */

/* In the worker. */
static int wipe(void *arg, int report_fd)
{
	static const char *const directories[] = {
	    DATA_DIR, "/var/lib/kubelet", "/var/lib/cni", NULL};
	struct notes notes = {""};

	(void)arg;
	wipe_directories(directories, &notes);
	return fs_write_all(report_fd, span_str(notes.text)) < 0;
}

static void wiped(struct kubernetes *k, int rc, struct span report)
{
	char text[NOTES_BYTES];

	if (span_to_cstr(report, text, sizeof text) && text[0])
		note(k, text, "");
	if (rc < 0)
		note(k, "directories not emptied", err_text(rc));
	answer_notes(k, rc);
}

static void start_wipe(struct kubernetes *k)
{
	int rc;

	k->phase = PHASE_WIPE;
	timer_at(&k->timer, 0);
	rc = worker_start(&k->worker, k->reaper, wipe, k, k->conf.delete_ms);
	if (rc < 0)
		wiped(k, rc, span_of(NULL, 0));
}

/* What the program said, without the end of the line. */
static struct span read_words(int fd, char *buf, size_t cap)
{
	ssize_t n = pread(fd, buf, cap, 0);
	struct span words = span_of(buf, n < 0 ? 0 : (size_t)n);

	return span_first(words, span_find(words, '\n'));
}

static void namespace_not_removed(struct kubernetes *k, struct span why)
{
	notes_add(&k->notes, "namespace k8s.io not removed", why);
	start_wipe(k);
}

static void ctr_ended(struct child *c, int exit_status)
{
	struct kubernetes *k = container_of(c, struct kubernetes, ctr);
	char buf[WORD_BYTES];
	struct span words = read_words(k->fd, buf, sizeof buf);

	if (c->exec_rc < 0) {
		namespace_not_removed(k, span_str(err_text(c->exec_rc)));
	} else if (exit_status != 0) {
		namespace_not_removed(k, words.n ? words : span_str("k3s ctr failed"));
	} else {
		note(k, "namespace k8s.io removed", "");
		start_wipe(k);
	}
}

static int start_ctr(struct kubernetes *k)
{
	const struct child_spec spec = {
	    .path = k->ctr_program.path,
	    .argv = k->ctr_program.argv,
	    .envp = k->environment.variables,
	    .in_fd = -1,
	    .out_fd = k->fd,
	    .err_fd = k->fd,
	    .new_group = true,
	};

	return k->fd < 0 ? k->fd : child_launch(k->reaper, &k->ctr, &spec);
}

/* Without containerd, its client would wait for it. */
static void remove_namespace(struct kubernetes *k)
{
	int rc;

	k->phase = PHASE_NAMESPACE;
	if (!daemon_answers(&k->containerd[0])) {
		namespace_not_removed(k, span_str("containerd does not run"));
		return;
	}
	k->fd = fs_memfd("k3s-ctr");
	rc = start_ctr(k);
	if (rc < 0)
		namespace_not_removed(k, span_str(err_text(rc)));
	else
		timer_in(&k->timer, k->conf.delete_ms * NS_PER_MS);
}

static void end_ctr(struct kubernetes *k)
{
	if (k->ctr.pid)
		kill(-k->ctr.pid, SIGKILL);
	child_forget(&k->ctr);
}

/* --- kubeconfig
 * ------------------------------------------------------------------------------------ */

/* In the worker. Reports how much it is, or why there is none. */
static int read_config(void *arg, int report_fd)
{
	const struct kubernetes *k = arg;
	int64_t n = fs_copy_range(KUBECONFIG, 0, KUBECONFIG_BYTES + 1, k->fd);

	return fs_write_all(report_fd, span_of(&n, sizeof n)) < 0;
}

static void no_config(struct kubernetes *k, int rc)
{
	note(k, "kubeconfig " KUBECONFIG,
	    rc == -ENOENT ? "there is none, start Kubernetes first" : err_text(rc));
	answer_notes(k, rc);
}

static void answer_config(struct kubernetes *k, size_t n)
{
	char *text = calloc(1, n);
	struct span config = span_of(text, n);

	if (!text)
		no_config(k, -ENOMEM);
	else if (pread(k->fd, text, n, 0) != (ssize_t)n || !utf8_valid(config))
		no_config(k, -EBADMSG);
	else
		answer(k, &(struct kubernetes_answer){.detail = "", .kubeconfig = config});
	free(text);
}

/* k3s makes the file first and fills it then. */
static void config_read(struct kubernetes *k, int rc, struct span report)
{
	int64_t n = rc;

	if (rc == 0 && report.n == sizeof n)
		memcpy(&n, report.p, sizeof n);
	if (n == 0)
		n = -ENOENT;
	if (n > KUBECONFIG_BYTES)
		n = -EFBIG;
	if (n < 0)
		no_config(k, (int)n);
	else
		answer_config(k, (size_t)n);
}

static void kubeconfig(struct kubernetes *k)
{
	int rc;

	k->phase = PHASE_READ;
	k->fd = fs_memfd("kubeconfig");
	k->worker.keep_fd = k->fd < 0 ? 0 : k->fd;
	rc = k->fd < 0 ? k->fd : worker_start(&k->worker, k->reaper, read_config, k, READ_MS);
	k->worker.keep_fd = 0;
	if (rc < 0)
		no_config(k, rc);
}

/* --- what happens
 * ---------------------------------------------------------------------------------- */

static void worked(struct worker *w, int rc, struct span report)
{
	struct kubernetes *k = container_of(w, struct kubernetes, worker);

	if (k->phase == PHASE_LOOK)
		take_missing(k, rc, report);
	else if (k->phase == PHASE_WIPE)
		wiped(k, rc, report);
	else if (k->phase == PHASE_READ)
		config_read(k, rc, report);
}

static void on_time(struct timer *t)
{
	struct kubernetes *k = container_of(t, struct kubernetes, timer);

	if (k->phase == PHASE_API) {
		check_api(k);
	} else if (k->phase == PHASE_NAMESPACE) {
		end_ctr(k);
		namespace_not_removed(k, span_str("k3s ctr did not end"));
	}
}

static void serve(struct task *t)
{
	static void (*const begin[])(struct kubernetes *) = {
	    [KUBERNETES_START] = start,
	    [KUBERNETES_STOP] = stop,
	    [KUBERNETES_DELETE] = stop, /* first of all */
	    [KUBERNETES_STATUS] = status,
	    [KUBERNETES_KUBECONFIG] = kubeconfig,
	};
	struct kubernetes *k = container_of(t, struct kubernetes, next);

	notes_clear(&k->notes);
	begin[k->waiters[k->first].what](k);
}

int kubernetes_ask(struct kubernetes *k, enum kubernetes_request what, kubernetes_fn *fn,
    const struct runtime_caller *caller)
{
	if (k->ended)
		return -ESHUTDOWN;
	if (k->n_waiters == k->conf.max_waiting)
		return -EAGAIN;
	k->waiters[(k->first + k->n_waiters) % k->conf.max_waiting] =
	    (struct waiter){what, fn, *caller};
	if (k->n_waiters++ == 0)
		task_defer(k->loop, &k->next);
	return 0;
}

/* --- its life
 * -------------------------------------------------------------------------------------- */

static void init_k3s(struct kubernetes *k)
{
	static const char *const args[] = {"server",
	    "--container-runtime-endpoint=" CONTAINERD_SOCKET, "--data-dir=" DATA_DIR,
	    "--write-kubeconfig=" KUBECONFIG, "--write-kubeconfig-mode=0600", "--disable=traefik",
	    "--disable=servicelb", NULL};

	program_init(&k->program, k->conf.binary_dir, "k3s", args);
	k->k3s_conf = (struct daemon_conf){
	    .name = "k3s",
	    .argv = k->program.argv,
	    .envp = k->environment.variables,
	    .log_paths = k->program.log_paths,
	    .ready = {k->api},
	    .poll_ms = POLL_MS,
	    .ready_ms = k->conf.ready_ms,
	    .stop = {{SIGTERM, k->conf.stop_ms}, {SIGKILL, KILL_MS}},
	    .group = true,
	    .restart_ms = k->conf.restart_ms,
	    .restart_max_ms = k->conf.restart_max_ms,
	    .healthy_ms = k->conf.healthy_ms,
	};
	daemon_init(&k->k3s, k->loop, k->reaper, &k->k3s_conf, k3s_changed);
}

/* k3s goes over to the copy of itself that it unpacks below its data directory. */
static void init_commands(struct kubernetes *k)
{
	static const char *const ctr_args[] = {
	    "ctr", "--address", CONTAINERD_SOCKET, "namespaces", "remove", "k8s.io", NULL};
	const struct ip loopback = ip_v4(127, 0, 0, 1);

	addr_from_ip(&loopback, API_PORT, &k->api);
	addr_unix(CONTAINERD_SOCKET, &k->containerd[0]);
	addr_unix("/var" CONTAINERD_SOCKET, &k->containerd[1]);
	environment_init(&k->environment, k->conf.binary_dir);
	init_k3s(k);
	program_init(&k->ctr_program, k->conf.binary_dir, "k3s", ctr_args);
	k->programs[0] = k->program.path;
	k->programs[1] = DATA_DIR "/data/";
}

struct kubernetes *kubernetes_new(
    struct loop *l, struct reaper *reaper, const struct kubernetes_conf *conf)
{
	struct kubernetes *k = calloc(1, sizeof *k + conf->max_waiting * sizeof(struct waiter));

	if (!k)
		return NULL;
	k->loop = l;
	k->reaper = reaper;
	k->conf = *conf;
	k->fd = -1;
	k->next.fn = serve;
	k->worker.fn = worked;
	k->ctr.fn = ctr_ended;
	k->earlier.fn = earlier_stopped;
	timer_init(&k->timer, l, on_time);
	init_commands(k);
	return k;
}

/* Whatever the request that is being served waits for, it does not any more. */
static void drop_work(struct kubernetes *k)
{
	if (k->phase == PHASE_CONTAINERD)
		runtime_forget(k->conf.runtime);
	task_cancel(&k->next);
	timer_at(&k->timer, 0);
	worker_cancel(&k->worker);
	end_ctr(k);
	earlier_forget(&k->earlier);
	close_file(k);
	k->phase = PHASE_NONE;
}

void kubernetes_free(struct kubernetes *k)
{
	if (!k)
		return;
	drop_work(k);
	daemon_done(&k->k3s);
	loop_bury(k->loop);
	free(k);
}

void kubernetes_stop(
    struct kubernetes *k, uint64_t wait_ms, kubernetes_stopped_fn *stopped, void *ctx)
{
	uint64_t term_ms = wait_ms * 9 / 10 + 1;

	k->ended = true;
	drop_work(k);
	notes_clear(&k->notes);
	note(k, "the agent is shutting down", "");
	while (k->n_waiters > 0)
		answer_notes(k, -ESHUTDOWN);
	task_cancel(&k->next);
	if (k->k3s.state == DAEMON_DOWN) {
		stopped(ctx);
		return;
	}
	k->stopped = stopped;
	k->stopped_ctx = ctx;
	daemon_stop(&k->k3s, term_ms < k->conf.stop_ms ? term_ms : 0);
}
