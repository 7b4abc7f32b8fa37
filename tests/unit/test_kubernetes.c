#include "runtime/kubernetes.h"

#include "base/log.h"
#include "cell.h"
#include "fault.h"
#include "runtime/notes.h"
#include "sys/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* k3s as a daemon and the runtime below it are the test's: their functions are defined here. */

enum { WAITING = 6, ANSWER_MS = 700, PATIENCE_TURNS = 500, SHELL_BYTES = 4 << 20 };

static struct loop loop;
static struct reaper reaper;
static struct signals signals;
static struct kubernetes *k;
static unsigned fds;

/* --- what it stands on ------------------------------------------------------------------------ */

static struct daemon *k3s;
static bool api_answers, containerd_answers, starts_at_once, forgotten;
static unsigned starts, stops;
static uint64_t stop_wait_ms;
static runtime_then_fn *then;
static void *then_ctx;
static int need_rc;

void daemon_init(struct daemon *d, struct loop *l, struct reaper *r, const struct daemon_conf *conf,
    daemon_fn *changed)
{
	ck_assert_ptr_eq(l, &loop);
	ck_assert_str_eq(conf->name, "k3s");
	ck_assert(conf->group);
	*d = (struct daemon){.conf = conf, .changed = changed, .reaper = r};
	k3s = d;
}

static void become(enum daemon_state state, pid_t pid, int rc)
{
	k3s->state = state;
	k3s->pid = pid;
	k3s->rc = rc;
	k3s->changed(k3s);
}

void daemon_start(struct daemon *d)
{
	ck_assert_ptr_eq(d, k3s);
	starts++;
	if (starts_at_once)
		become(DAEMON_STARTING, 4242, 0);
	else
		become(DAEMON_DOWN, 0, -ENOMEM);
}

void daemon_stop(struct daemon *d, uint64_t wait_ms)
{
	ck_assert_ptr_eq(d, k3s);
	stops++;
	stop_wait_ms = wait_ms;
	become(DAEMON_STOPPING, d->pid, 0);
}

void daemon_done(struct daemon *d)
{
	d->state = DAEMON_DOWN;
}

bool daemon_answers(const struct addr *addr)
{
	return addr_family(addr) == AF_INET ? api_answers : containerd_answers;
}

int runtime_need_containerd(struct runtime *r, runtime_then_fn *fn, void *ctx)
{
	ck_assert_ptr_null(r);
	then = fn;
	then_ctx = ctx;
	return need_rc;
}

void runtime_forget(struct runtime *r)
{
	ck_assert_ptr_null(r);
	forgotten = true;
}

/* --- the case --------------------------------------------------------------------------------- */

static const struct kubernetes_conf conf = {
    .binary_dir = "/opt",
    .max_waiting = WAITING,
    .answer_ms = ANSWER_MS,
    .stop_ms = 10000,
    .delete_ms = 2000,
};

static struct kubernetes_answer last;
static char detail[NOTES_BYTES], k3s_detail[NOTES_BYTES], config[512];
static unsigned answers;
static uint32_t order[WAITING];

static void took(const struct kubernetes_answer *a, const struct runtime_caller *caller)
{
	ck_assert_ptr_eq(caller->owner, &last);
	order[answers++ % WAITING] = caller->id[0];
	last = *a;
	snprintf(detail, sizeof detail, "%s", a->detail);
	snprintf(k3s_detail, sizeof k3s_detail, "%s", a->k3s_detail ? a->k3s_detail : "");
	snprintf(
	    config, sizeof config, "%.*s", (int)a->kubeconfig.n, (const char *)a->kubeconfig.p);
}

static int ask_as(enum kubernetes_request what, uint32_t id)
{
	return kubernetes_ask(k, what, took, &(struct runtime_caller){&last, {id, 0}});
}

static void turns_until(unsigned n)
{
	for (int i = 0; i < PATIENCE_TURNS && answers < n; i++)
		ck_assert_int_eq(loop_turn(&loop, 10), 0);
	ck_assert_uint_eq(answers, n);
}

static void turns(unsigned n)
{
	while (n-- > 0)
		ck_assert_int_eq(loop_turn(&loop, 5), 0);
}

/* Asks what is answered without further ado. */
static void ask(enum kubernetes_request what)
{
	unsigned before = answers;

	ck_assert_int_eq(ask_as(what, 0), 0);
	ck_assert_uint_eq(answers, before);
	turns_until(before + 1);
}

static void on_signal(struct signals *s, int sig)
{
	(void)s;
	if (sig == SIGCHLD)
		reaper_drain(&reaper);
}

/* The shell of this machine, when it is one that needs no libraries. */
static void bring_shell(const void *p, size_t n)
{
	int fd;

	ck_assert_int_eq(mkdir("/bin", 0755), 0);
	fd = open("/bin/sh", O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	ck_assert_int_eq(write(fd, p, n), (ssize_t)n);
	close(fd);
}

static void install(const char *name, const char *text)
{
	char path[64];

	snprintf(path, sizeof path, "/opt/%s", name);
	cell_write(path, text);
	ck_assert_int_eq(chmod(path, 0755), 0);
}

static void install_all(const char *script)
{
	static const char *const others[] = {"containerd", "containerd-shim-runc-v2", "runc"};

	for (size_t i = 0; i < 3; i++)
		install(others[i], "");
	install("k3s", script);
}

static bool setup(void)
{
	static uint8_t shell[SHELL_BYTES];
	struct span bad;
	int fd = open("/bin/busybox", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, shell, sizeof shell);

	if (fd >= 0)
		close(fd);
	if (!cell_enter())
		return false;
	if (n > 0)
		bring_shell(shell, (size_t)n);
	ck_assert_int_eq(mkdir("/opt", 0755), 0);
	ck_assert_int_eq(mkdir("/run", 0755), 0);
	ck_assert_int_eq(mkdir("/run/arcbox", 0755), 0);
	ck_assert_int_eq(mkdir("/tmp", 0755), 0);
	ck_assert_int_eq(mkdir("/dev", 0755), 0);
	cell_write("/dev/null", "");
	signals_block();
	ck_assert_int_eq(log_filter(span_str("off"), &bad), E_OK);
	fds = fault_fds();
	ck_assert_int_eq(loop_init(&loop), 0);
	reaper_init(&reaper, &loop);
	ck_assert_int_eq(signals_init(&signals, &loop, on_signal), 0);
	k = kubernetes_new(&loop, &reaper, &conf);
	ck_assert_ptr_nonnull(k);
	starts_at_once = true;
	return true;
}

static void teardown(void)
{
	kubernetes_free(k);
	for (int i = 0; i < PATIENCE_TURNS && fault_children() > 0; i++)
		ck_assert_int_eq(loop_turn(&loop, 10), 0);
	signals_done(&signals);
	loop_done(&loop);
	ck_assert_uint_eq(fault_fds(), fds);
	ck_assert_uint_eq(fault_children(), 0);
}

static void containerd_is(int rc, const char *notes)
{
	for (int i = 0; i < PATIENCE_TURNS && !then; i++)
		ck_assert_int_eq(loop_turn(&loop, 10), 0);
	ck_assert_ptr_nonnull(then);
	then(then_ctx, rc, notes);
	then = NULL;
}

static void start(void)
{
	unsigned before = answers;

	ck_assert_int_eq(ask_as(KUBERNETES_START, 0), 0);
	containerd_is(0, "containerd: ready");
	api_answers = true;
	become(DAEMON_READY, 4242, 0);
	turns_until(before + 1);
	ck_assert(last.running && last.api_ready);
}

/* --- start ------------------------------------------------------------------------------------ */

START_TEST(start_needs_the_programs)
{
	if (!setup())
		return;
	ask(KUBERNETES_START);
	ck_assert_str_eq(detail,
	    "missing Kubernetes binaries under /opt: containerd, containerd-shim-runc-v2, runc, "
	    "k3s");
	ck_assert(!last.running && last.rc == 0 && !then);
	install_all("");
	start();
	ck_assert_str_eq(detail, "containerd: ready; k3s started; Kubernetes API ready");
	ck_assert_str_eq(cell_read("/run/arcbox/k3s.pid"), "4242\n");
	teardown();
}
END_TEST

START_TEST(start_with_the_flags_of_the_specification)
{
	static const char *const argv[] = {"/opt/k3s", "server",
	    "--container-runtime-endpoint=/run/containerd/containerd.sock",
	    "--data-dir=/var/lib/rancher/k3s", "--write-kubeconfig=/var/lib/rancher/k3s/k3s.yaml",
	    "--write-kubeconfig-mode=0600", "--disable=traefik", "--disable=servicelb"};

	if (!setup())
		return;
	for (size_t i = 0; i < sizeof argv / sizeof *argv; i++)
		ck_assert_str_eq(k3s->conf->argv[i], argv[i]);
	ck_assert_ptr_null(k3s->conf->argv[8]);
	ck_assert_str_eq(k3s->conf->log_paths[0], "/arcbox/log/k3s.log");
	ck_assert_str_eq(k3s->conf->log_paths[1], "/tmp/k3s.log");
	ck_assert_uint_eq(addr_port(&k3s->conf->ready[0]), 6443);
	teardown();
}
END_TEST

START_TEST(start_without_containerd)
{
	if (!setup())
		return;
	install_all("");
	ask_as(KUBERNETES_START, 0);
	containerd_is(-ECANCELED, "data volume setup failed: no disk");
	turns_until(1);
	ck_assert_str_eq(detail, "data volume setup failed: no disk");
	need_rc = -ESHUTDOWN;
	ask(KUBERNETES_START);
	ck_assert_ptr_nonnull(strstr(detail, "containerd failed: "));
	ck_assert_uint_eq(starts, 0);
	teardown();
}
END_TEST

START_TEST(start_that_fails)
{
	if (!setup())
		return;
	install_all("");
	starts_at_once = false;
	ask_as(KUBERNETES_START, 0);
	containerd_is(0, "ok");
	turns_until(1);
	ck_assert_ptr_nonnull(strstr(detail, "ok; k3s started; k3s failed: "));
	ck_assert(!last.running);
	starts_at_once = true;
	ask_as(KUBERNETES_START, 0);
	containerd_is(0, "ok");
	strcpy(k3s->words, "fatal|no luck");
	become(DAEMON_DOWN, 0, -ECHILD);
	turns_until(2);
	ck_assert_str_eq(
	    detail, "ok; k3s started; k3s failed: it ended at once; last log lines: fatal|no luck");
	ask(KUBERNETES_STATUS);
	ck_assert(last.k3s_failed);
	ck_assert_ptr_nonnull(strstr(k3s_detail, "no luck"));
	become(DAEMON_DOWN, 0, -ETIMEDOUT);
	ask(KUBERNETES_STATUS);
	ck_assert_ptr_nonnull(strstr(k3s_detail, "its API did not come up in time"));
	teardown();
}
END_TEST

START_TEST(start_is_answered_when_the_time_is_over)
{
	if (!setup())
		return;
	install_all("");
	ask_as(KUBERNETES_START, 0);
	containerd_is(0, "ok");
	turns_until(1);
	ck_assert(last.running && !last.api_ready);
	ck_assert_str_eq(detail, "ok; k3s started; Kubernetes API not ready yet");
	ask_as(KUBERNETES_START, 0);
	turns(2);
	become(DAEMON_WAITING, 0, 0);
	ck_assert(access("/run/arcbox/k3s.pid", F_OK) < 0);
	turns_until(2);
	ck_assert_str_eq(detail,
	    "k3s already running; Kubernetes API not ready yet: it died and is started again in a "
	    "while");
	ck_assert(!last.running);
	become(DAEMON_STARTING, 77, 0);
	ck_assert_str_eq(cell_read("/run/arcbox/k3s.pid"), "77\n");
	api_answers = true;
	ask(KUBERNETES_START);
	ck_assert_str_eq(detail, "k3s already running; Kubernetes API ready");
	teardown();
}
END_TEST

START_TEST(port_of_another)
{
	if (!setup())
		return;
	install_all("");
	api_answers = true;
	ask(KUBERNETES_STATUS);
	ck_assert(!last.running && !last.api_ready);
	ask_as(KUBERNETES_START, 0);
	containerd_is(0, "ok");
	turns_until(2);
	ck_assert_ptr_nonnull(strstr(detail, "k3s not started: another process listens"));
	ck_assert_uint_eq(starts, 0);
	teardown();
}
END_TEST

/* --- status ----------------------------------------------------------------------------------- */

START_TEST(status)
{
	if (!setup())
		return;
	install("k3s", "");
	ask(KUBERNETES_STATUS);
	ck_assert_str_eq(detail,
	    "k3s not running; missing Kubernetes binaries under /opt: containerd, "
	    "containerd-shim-runc-v2, runc");
	ck_assert(!last.containerd_ready && !last.k3s_failed);
	ck_assert_str_eq(last.containerd_detail, "containerd socket not reachable");
	containerd_answers = true;
	become(DAEMON_STARTING, 4242, 0);
	ask(KUBERNETES_STATUS);
	ck_assert(last.running && !last.api_ready && last.containerd_ready);
	ck_assert_str_eq(detail, "k3s running, API not ready yet");
	api_answers = true;
	ask(KUBERNETES_STATUS);
	ck_assert_str_eq(detail, "k3s running, API ready");
	ck_assert_str_eq(k3s_detail, detail);
	teardown();
}
END_TEST

/* --- stop ------------------------------------------------------------------------------------- */

static void stop_by(unsigned rung, int rc, const char *text)
{
	unsigned before = answers;

	ck_assert_int_eq(ask_as(KUBERNETES_STOP, 0), 0);
	turns(2);
	ck_assert_uint_eq(answers, before);
	ck_assert_int_eq(k3s->state, DAEMON_STOPPING);
	k3s->rung = rung;
	become(DAEMON_DOWN, 0, rc);
	ck_assert_uint_eq(answers, before + 1);
	ck_assert_int_eq(last.rc, rc);
	ck_assert_ptr_nonnull(strstr(detail, text));
}

START_TEST(stop)
{
	if (!setup())
		return;
	install_all("");
	ask(KUBERNETES_STOP);
	ck_assert_str_eq(detail, "k3s already stopped");
	ck_assert_uint_eq(stops, 0);
	start();
	stop_by(1, 0, "k3s stopped");
	ck_assert_uint_eq(stop_wait_ms, 0);
	ck_assert(access("/run/arcbox/k3s.pid", F_OK) < 0);
	api_answers = false;
	start();
	stop_by(2, 0, "k3s force-stopped");
	api_answers = false;
	start();
	stop_by(2, -ETIMEDOUT, "k3s does not end");
	teardown();
}
END_TEST

/* --- delete ----------------------------------------------------------------------------------- */

static void fill(void)
{
	ck_assert_int_eq(mkdir("/var", 0755), 0);
	ck_assert_int_eq(mkdir("/var/lib", 0755), 0);
	ck_assert_int_eq(mkdir("/var/lib/rancher", 0755), 0);
	ck_assert_int_eq(mkdir("/var/lib/rancher/k3s", 0755), 0);
	cell_write("/var/lib/rancher/k3s/k3s.yaml", "config");
	ck_assert_int_eq(mkdir("/var/lib/kubelet", 0755), 0);
	cell_write("/var/lib/kubelet/pod", "pod");
}

START_TEST(delete_without_containerd)
{
	if (!setup())
		return;
	fill();
	ask(KUBERNETES_DELETE);
	ck_assert_str_eq(detail,
	    "k3s already stopped; namespace k8s.io not removed: containerd does not run; "
	    "/var/lib/rancher/k3s emptied; /var/lib/kubelet emptied");
	ck_assert(access("/var/lib/rancher/k3s/k3s.yaml", F_OK) < 0);
	ck_assert(access("/var/lib/kubelet/pod", F_OK) < 0);
	ck_assert_int_eq(rmdir("/var/lib/kubelet"), 0);
	teardown();
}
END_TEST

/* It is not deleted from under a k3s that runs. */
START_TEST(delete_of_what_does_not_end)
{
	if (!setup())
		return;
	install_all("");
	fill();
	start();
	ask_as(KUBERNETES_DELETE, 0);
	turns(2);
	become(DAEMON_DOWN, 0, -ETIMEDOUT);
	turns_until(2);
	ck_assert_int_eq(last.rc, -ETIMEDOUT);
	ck_assert_str_eq(cell_read("/var/lib/rancher/k3s/k3s.yaml"), "config");
	teardown();
}
END_TEST

static void delete_says(const char *script, const char *text)
{
	install("k3s", script);
	ask(KUBERNETES_DELETE);
	ck_assert_msg(strstr(detail, text) != NULL, "\"%s\" does not hold \"%s\"", detail, text);
	ck_assert_int_eq(last.rc, 0);
}

START_TEST(delete_of_the_namespace)
{
	if (!setup())
		return;
	containerd_answers = true;
	if (access("/bin/sh", X_OK) < 0) {
		skip_test("no busybox that could be a shell");
		return;
	}
	delete_says("#!/bin/sh\n[ \"$*\" = \"ctr --address /run/containerd/containerd.sock "
		    "namespaces remove k8s.io\" ]\n",
	    "k3s already stopped; namespace k8s.io removed");
	delete_says("#!/bin/sh\necho it is used >&2; echo more; exit 1\n",
	    "namespace k8s.io not removed: it is used");
	delete_says("#!/bin/sh\nkill -9 $$\n", "namespace k8s.io not removed: k3s ctr failed");
	delete_says("", "namespace k8s.io not removed: ");
	delete_says("#!/bin/sh\ntrap '' TERM; sleep 99\n",
	    "namespace k8s.io not removed: k3s ctr did not end");
	ck_assert_int_eq(unlink("/opt/k3s"), 0);
	ask(KUBERNETES_DELETE);
	ck_assert_ptr_nonnull(strstr(detail, "not removed: No such file"));
	teardown();
}
END_TEST

/* --- kubeconfig ------------------------------------------------------------------------------- */

START_TEST(kubeconfig)
{
	const char path[] = "/var/lib/rancher/k3s/k3s.yaml";

	if (!setup())
		return;
	ask(KUBERNETES_KUBECONFIG);
	ck_assert_int_eq(last.rc, -ENOENT);
	ck_assert_ptr_nonnull(strstr(detail, path));
	fill();
	ask(KUBERNETES_KUBECONFIG);
	ck_assert_int_eq(last.rc, 0);
	ck_assert_str_eq(config, "config");
	cell_write(path, "");
	ask(KUBERNETES_KUBECONFIG);
	ck_assert_int_eq(last.rc, -ENOENT);
	cell_write(path, "\xff");
	ask(KUBERNETES_KUBECONFIG);
	ck_assert_int_eq(last.rc, -EBADMSG);
	ck_assert_int_eq(truncate(path, 256 * 1024), 0);
	ask(KUBERNETES_KUBECONFIG);
	ck_assert_int_eq(last.rc, -EBADMSG);
	ck_assert_int_eq(truncate(path, 256 * 1024 + 1), 0);
	ask(KUBERNETES_KUBECONFIG);
	ck_assert_int_eq(last.rc, -EFBIG);
	teardown();
}
END_TEST

/* --- one after the other ---------------------------------------------------------------------- */

START_TEST(requests_are_answered_in_their_order)
{
	static const enum kubernetes_request what[WAITING] = {KUBERNETES_STOP, KUBERNETES_STATUS,
	    KUBERNETES_KUBECONFIG, KUBERNETES_DELETE, KUBERNETES_START, KUBERNETES_STATUS};

	if (!setup())
		return;
	for (unsigned round = 0; round < 3; round++) {
		answers = 0;
		for (uint32_t i = 0; i < WAITING; i++)
			ck_assert_int_eq(ask_as(what[i], 10 + i), 0);
		ck_assert_int_eq(ask_as(KUBERNETES_STATUS, 99), -EAGAIN);
		turns_until(WAITING);
		for (uint32_t i = 0; i < WAITING; i++)
			ck_assert_uint_eq(order[i], 10 + i);
		ask(KUBERNETES_STOP); /* so that the next round starts elsewhere in the ring */
	}
	teardown();
}
END_TEST

/* --- the end ---------------------------------------------------------------------------------- */

static bool stopped;

static void took_stopped(void *ctx)
{
	ck_assert_ptr_eq(ctx, &stopped);
	stopped = true;
}

START_TEST(end_of_all)
{
	if (!setup())
		return;
	install_all("");
	start();
	ask_as(KUBERNETES_STATUS, 1);
	ask_as(KUBERNETES_DELETE, 2);
	ask_as(KUBERNETES_START, 3);
	kubernetes_stop(k, 1000, took_stopped, &stopped);
	ck_assert_uint_eq(answers, 4);
	ck_assert_int_eq(last.rc, -ESHUTDOWN);
	ck_assert_uint_eq(stops, 1);
	ck_assert(!stopped && stop_wait_ms > 500 && stop_wait_ms <= 1000);
	ck_assert_int_eq(ask_as(KUBERNETES_STATUS, 1), -ESHUTDOWN);
	become(DAEMON_DOWN, 0, 0);
	ck_assert(stopped);
	turns(5);
	ck_assert_uint_eq(answers, 4);
	teardown();
}
END_TEST

START_TEST(end_without_k3s)
{
	if (!setup())
		return;
	install_all("");
	ask_as(KUBERNETES_START, 1);
	for (int i = 0; i < PATIENCE_TURNS && !then; i++)
		ck_assert_int_eq(loop_turn(&loop, 10), 0);
	kubernetes_stop(k, 60000, took_stopped, &stopped);
	ck_assert(forgotten && stopped);
	ck_assert_int_eq(last.rc, -ESHUTDOWN);
	turns(5);
	ck_assert_uint_eq(answers, 1);
	teardown();
}
END_TEST

/* It has its own time for SIGTERM, not all that there is. */
START_TEST(end_with_much_time)
{
	if (!setup())
		return;
	install_all("");
	start();
	kubernetes_stop(k, 60000, took_stopped, &stopped);
	ck_assert_uint_eq(stop_wait_ms, 0);
	teardown();
}
END_TEST

START_TEST(free_in_the_middle_of_each)
{
	static const enum kubernetes_request what[] = {
	    KUBERNETES_START, KUBERNETES_STATUS, KUBERNETES_DELETE, KUBERNETES_KUBECONFIG};

	if (!setup())
		return;
	for (size_t i = 0; i < 4; i++)
		for (unsigned n = 0; n < 3; n++) {
			ask_as(what[i], 0);
			turns(n);
			kubernetes_free(k);
			k = kubernetes_new(&loop, &reaper, &conf);
			ck_assert_ptr_nonnull(k);
		}
	teardown();
}
END_TEST

/* --- faults ----------------------------------------------------------------------------------- */

/* Whatever fails, each request is answered, and the next one is not hurt by it. */
static void each_fails(const char *call, int err)
{
	static const enum kubernetes_request what[] = {
	    KUBERNETES_STATUS, KUBERNETES_DELETE, KUBERNETES_KUBECONFIG, KUBERNETES_STOP};

	for (size_t i = 0; i < 4; i++) {
		unsigned before = fault_fds();

		FAULT_EACH(call, err)
		{
			ask(what[i]);
		}
		ck_assert_uint_eq(fault_fds(), before);
	}
}

START_TEST(faults)
{
	if (!setup())
		return;
	install_all("");
	fill();
	containerd_answers = true;
	each_fails("fork", EAGAIN);
	each_fails("pipe2", EMFILE);
	each_fails("memfd_create", EMFILE);
	each_fails("malloc", ENOMEM);
	each_fails("calloc", ENOMEM);
	fault_arm("calloc", 1, ENOMEM, false);
	ck_assert_ptr_null(kubernetes_new(&loop, &reaper, &conf));
	ck_assert(fault_disarm());
	kubernetes_free(NULL);
	teardown();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {start_needs_the_programs,
	    start_with_the_flags_of_the_specification, start_without_containerd, start_that_fails,
	    start_is_answered_when_the_time_is_over, port_of_another, status, stop,
	    delete_without_containerd, delete_of_what_does_not_end, delete_of_the_namespace,
	    kubeconfig, requests_are_answered_in_their_order, end_of_all, end_without_k3s,
	    end_with_much_time, free_in_the_middle_of_each, faults, NULL};

	return suite_of("kubernetes", tests);
}
