#include "runtime/runtime.h"

#include "base/log.h"
#include "cell.h"
#include "fault.h"
#include "runtime/volume.h"
#include "sys/signals.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The daemons and the volume are the test's: their functions are defined here. */

static struct loop loop;
static struct reaper reaper;
static struct signals signals;
static struct runtime *runtime;
static unsigned fds;

/* --- what the runtime asks for -------------------------------------------------------------------
 */

static char asked[256]; /* in order */
static struct daemon *containerd, *dockerd;
static struct volume *volume;
static volume_fn *volume_fn_of;
static bool docker_answers, containerd_answers;
static int volume_rc;

static void ask(const char *what)
{
	ck_assert_uint_lt(strlen(asked) + strlen(what), sizeof asked);
	strcat(asked, what);
}

void daemon_init(struct daemon *d, struct loop *l, struct reaper *r, const struct daemon_conf *conf,
    daemon_fn *changed)
{
	ck_assert_ptr_eq(l, &loop);
	*d = (struct daemon){.conf = conf, .changed = changed, .reaper = r};
	if (strcmp(conf->name, "dockerd") == 0)
		dockerd = d;
	else
		containerd = d;
}

static void become(struct daemon *d, enum daemon_state state)
{
	d->state = state;
	d->changed(d);
}

void daemon_start(struct daemon *d)
{
	ask(d == dockerd ? "dockerd;" : "containerd;");
	become(d, DAEMON_STARTING);
}

void daemon_stop(struct daemon *d, uint64_t wait_ms)
{
	ck_assert_uint_gt(wait_ms, 0);
	ask(d == dockerd ? "stop dockerd;" : "stop containerd;");
	become(d, DAEMON_STOPPING);
}

void daemon_done(struct daemon *d)
{
	d->state = DAEMON_DOWN;
}

bool daemon_answers(const struct addr *addr)
{
	ck_assert(addr->len > 0);
	return strstr(addr->u.un.sun_path, "containerd") ? containerd_answers : docker_answers;
}

int volume_setup(struct volume *v, struct reaper *r, const struct volume_conf *conf, volume_fn *fn)
{
	ck_assert_ptr_eq(r, &reaper);
	ck_assert_str_eq(conf->device, "/dev/vdb");
	ask("volume;");
	volume = v;
	volume_fn_of = fn;
	return volume_rc;
}

void volume_cancel(struct volume *v)
{
	(void)v;
}

static char prepare_says[64];
static int prepare_rc;

static int prepare(char *why, size_t cap)
{
	ck_assert(span_to_cstr(span_str(prepare_says), why, cap));
	return prepare_rc;
}

/* --- the case ------------------------------------------------------------------------------------
 */

static const struct runtime_conf conf = {
    .binary_dir = "/nonexistent",
    .docker_socket = "/nonexistent/docker.sock",
    .endpoint = "vsock:2375",
    .data_device = "/dev/vdb",
    .max_waiting = 4,
    .probe_ms = 1000,
    .prepare = prepare,
    .prepare_ms = 5000,
    .volume_ms = 5000,
};

static void on_signal(struct signals *s, int sig)
{
	(void)s;
	if (sig == SIGCHLD)
		reaper_drain(&reaper);
}

static bool setup(void)
{
	struct span bad;

	if (!cell_enter())
		return false;
	signals_block();
	ck_assert_int_eq(log_filter(span_str("off"), &bad), E_OK);
	fds = fault_fds();
	ck_assert_int_eq(loop_init(&loop), 0);
	reaper_init(&reaper, &loop);
	ck_assert_int_eq(signals_init(&signals, &loop, on_signal), 0);
	runtime = runtime_new(&loop, &reaper, &conf);
	ck_assert_ptr_nonnull(runtime);
	return true;
}

/* Until no worker runs. */
static void turn(void)
{
	for (int idle = 0; idle < 3; idle = reaper_count(&reaper) ? 0 : idle + 1)
		ck_assert_int_eq(loop_turn(&loop, 10), 0);
}

static void teardown(void)
{
	runtime_free(runtime);
	signals_done(&signals);
	loop_done(&loop);
	ck_assert_uint_eq(fault_fds(), fds);
	ck_assert_uint_eq(fault_children(), 0);
}

/* Up to where the daemons begin. */
static void start_to_containerd(void)
{
	ck_assert(runtime_start(runtime));
	turn();
	volume_fn_of(volume, 0, "");
	turn();
	ck_assert_str_eq(asked, "volume;containerd;");
}

static void start_to_ready(void)
{
	start_to_containerd();
	become(containerd, DAEMON_READY);
	turn();
	ck_assert_str_eq(asked, "volume;containerd;dockerd;");
	become(dockerd, DAEMON_READY);
}

/* --- tests ---------------------------------------------------------------------------------------
 */

START_TEST(step_by_step_to_ready)
{
	if (!setup())
		return;
	ck_assert(!runtime_is_ready(runtime));
	strcpy(prepare_says, "no overlay filesystem: unknown");
	start_to_ready();
	ck_assert(runtime_is_ready(runtime));
	ck_assert_str_eq(runtime_endpoint(runtime), "vsock:2375");
	ck_assert_str_eq(runtime_notes(runtime),
	    "prerequisites ready: no overlay filesystem: unknown; data volume ready; "
	    "directories ready; containerd: ready; dockerd: ready");
	ck_assert_ptr_nonnull(strstr(cell_read("/etc/containerd/config.toml"),
	    "version = 2\n\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\n"
	    "  bin_dir = \"/var/lib/rancher/k3s/data/cni\"\n"
	    "  conf_dir = \"/var/lib/rancher/k3s/agent/etc/cni/net.d\"\n"
	    "  max_conf_num = 1\n"));
	ck_assert_int_eq(access("/var/lib/rancher/k3s/agent/etc/cni/net.d", F_OK), 0);
	teardown();
}
END_TEST

START_TEST(the_daemons_are_run_as_they_should_be)
{
	static const char *const expected[] = {"/nonexistent/dockerd",
	    "--host=unix:///nonexistent/docker.sock",
	    "--containerd=/run/containerd/containerd.sock", "--exec-root=/var/run/docker",
	    "--data-root=/var/lib/docker", "--userland-proxy=false", NULL};
	static const char *const others[] = {"/nonexistent/containerd", "--config",
	    "/etc/containerd/config.toml", "--address", "/run/containerd/containerd.sock",
	    "--state", "/run/containerd", NULL};

	setenv("PATH", "/own/bin", 1);
	if (!setup())
		return;
	for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
		ck_assert_pstr_eq(dockerd->conf->argv[i], expected[i]);
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		ck_assert_pstr_eq(containerd->conf->argv[i], others[i]);
	ck_assert_str_eq(
	    dockerd->conf->envp[0], "PATH=/nonexistent:/own/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	ck_assert_str_eq(dockerd->conf->log_paths[0], "/arcbox/log/dockerd.log");
	ck_assert_str_eq(containerd->conf->log_paths[1], "/tmp/containerd.log");
	teardown();
}
END_TEST

START_TEST(many_ask_and_it_starts_once)
{
	if (!setup())
		return;
	for (int i = 0; i < 1000; i++)
		ck_assert(runtime_start(runtime));
	turn();
	for (int i = 0; i < 1000; i++)
		ck_assert(runtime_start(runtime));
	ck_assert_str_eq(asked, "volume;");
	teardown();
}
END_TEST

START_TEST(an_engine_that_is_there_is_left_alone)
{
	if (!setup())
		return;
	docker_answers = true;
	ck_assert(!runtime_start(runtime));
	turn();
	ck_assert_str_eq(asked, "");
	teardown();
}
END_TEST

/* A second one would take the socket from it. */
START_TEST(a_containerd_that_is_there_is_used)
{
	if (!setup())
		return;
	containerd_answers = true;
	ck_assert(runtime_start(runtime));
	turn();
	volume_fn_of(volume, 0, "");
	turn();
	ck_assert_str_eq(asked, "volume;dockerd;");
	become(dockerd, DAEMON_READY);
	ck_assert(runtime_is_ready(runtime));
	ck_assert_ptr_nonnull(
	    strstr(runtime_notes(runtime), "; containerd: there already; dockerd: ready"));
	teardown();
}
END_TEST

static void check_failed(const char *notes)
{
	ck_assert(!runtime_is_ready(runtime));
	ck_assert_str_eq(runtime_notes(runtime), notes);
}

START_TEST(each_step_may_fail_and_a_later_start_work)
{
	if (!setup())
		return;
	prepare_rc = -1;
	strcpy(prepare_says, "/tmp is not writable");
	ck_assert(runtime_start(runtime));
	turn();
	check_failed("prerequisites failed: /tmp is not writable");

	prepare_rc = 0;
	prepare_says[0] = '\0';
	ck_assert(runtime_start(runtime));
	turn();
	volume_fn_of(volume, -EINVAL, "/dev/vdb holds ext4");
	check_failed("prerequisites ready; data volume setup failed: /dev/vdb holds ext4");

	volume_rc = -EAGAIN;
	ck_assert(runtime_start(runtime));
	turn();
	check_failed(
	    "prerequisites ready; data volume setup failed: Resource temporarily unavailable");

	volume_rc = 0;
	asked[0] = '\0';
	start_to_containerd();
	containerd->rc = -ENOENT;
	become(containerd, DAEMON_DOWN);
	check_failed("prerequisites ready; data volume ready; directories ready; "
		     "containerd failed: No such file or directory");

	asked[0] = '\0';
	start_to_containerd();
	become(containerd, DAEMON_READY);
	turn();
	dockerd->rc = -ECHILD;
	strcpy(dockerd->words, "no space");
	become(dockerd, DAEMON_DOWN);
	check_failed(
	    "prerequisites ready; data volume ready; directories ready; containerd: ready; "
	    "dockerd failed: it ended at once; last log lines: no space");

	asked[0] = '\0';
	ck_assert(runtime_start(runtime)); /* containerd is still there */
	turn();
	volume_fn_of(volume, 0, "");
	turn();
	ck_assert_str_eq(asked, "volume;dockerd;");
	dockerd->rc = -ETIMEDOUT;
	dockerd->words[0] = '\0';
	become(dockerd, DAEMON_DOWN);
	ck_assert_ptr_nonnull(
	    strstr(runtime_notes(runtime), "dockerd failed: it was not ready in time"));
	teardown();
}
END_TEST

START_TEST(a_worker_that_cannot_start_fails_its_step)
{
	if (!setup())
		return;
	fault_arm("fork", 1, EAGAIN, false);
	ck_assert(runtime_start(runtime));
	turn();
	ck_assert(fault_disarm());
	check_failed("prerequisites failed: Resource temporarily unavailable");
	ck_assert_int_eq(mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	ck_assert(runtime_start(runtime));
	turn();
	volume_fn_of(volume, 0, "made");
	turn();
	check_failed("prerequisites ready; data volume ready: made; directories failed: "
		     "Read-only file system");
	teardown();
}
END_TEST

START_TEST(it_is_not_ready_while_dockerd_is_dead)
{
	if (!setup())
		return;
	start_to_ready();
	become(dockerd, DAEMON_STARTING);
	ck_assert(!runtime_is_ready(runtime));
	become(dockerd, DAEMON_WAITING);
	ck_assert(!runtime_is_ready(runtime));
	ck_assert(runtime_start(runtime)); /* under way, by supervision */
	turn();
	ck_assert_str_eq(asked, "volume;containerd;dockerd;");
	become(dockerd, DAEMON_STARTING);
	become(dockerd, DAEMON_READY);
	ck_assert(runtime_is_ready(runtime));
	teardown();
}
END_TEST

static struct runtime_status seen;
static unsigned probes;

static void took(const struct runtime_status *status, const struct runtime_caller *caller)
{
	ck_assert_uint_eq(caller->id[1], 7);
	seen = *status;
	probes++;
}

static void probe(void)
{
	const struct runtime_caller caller = {.id = {0, 7}};
	unsigned before = probes;

	ck_assert_int_eq(runtime_probe(runtime, took, &caller), 0);
	for (int i = 0; i < 500 && probes == before; i++)
		ck_assert_int_eq(loop_turn(&loop, 10), 0);
	ck_assert_uint_eq(probes, before + 1);
}

START_TEST(a_probe_tells_of_the_dead)
{
	if (!setup())
		return;
	probe();
	ck_assert(!seen.starting && !seen.docker_failed && !seen.containerd_failed);
	start_to_ready();
	strcpy(dockerd->words, "panic: x");
	become(dockerd, DAEMON_WAITING);
	probe();
	ck_assert(seen.starting && seen.docker_failed && !seen.containerd_failed);
	ck_assert_ptr_nonnull(strstr(seen.docker_detail, "; last log lines: panic: x"));
	ck_assert_ptr_null(strstr(seen.detail, "panic"));
	memset(dockerd->words, 'x', sizeof dockerd->words - 1);
	probe();
	ck_assert_uint_eq(strlen(seen.docker_detail), sizeof seen.docker_detail - 1);
	teardown();
}
END_TEST

static char then_said[512];

static void then(void *ctx, int rc, const char *notes)
{
	ck_assert_ptr_eq(ctx, then_said);
	snprintf(then_said, sizeof then_said, "%d %s", rc, notes);
}

START_TEST(kubernetes_needs_containerd_only)
{
	if (!setup())
		return;
	ck_assert_int_eq(runtime_need_containerd(runtime, then, then_said), 0);
	ck_assert_int_eq(runtime_need_containerd(runtime, then, then_said), -EBUSY);
	turn();
	volume_fn_of(volume, 0, "");
	turn();
	ck_assert_str_eq(then_said, "");
	become(containerd, DAEMON_READY);
	ck_assert_str_eq(then_said,
	    "0 prerequisites ready; data volume ready; directories ready; containerd: ready");
	turn();
	ck_assert_str_eq(asked, "volume;containerd;");
	ck_assert(!runtime_is_ready(runtime));
	ck_assert(runtime_start(runtime)); /* and now all of it */
	turn();
	volume_fn_of(volume, 0, "");
	turn();
	ck_assert_str_eq(asked, "volume;containerd;volume;dockerd;");
	then_said[0] = '\0';
	ck_assert_int_eq(runtime_need_containerd(runtime, then, then_said), 0);
	ck_assert_str_eq(then_said, "");
	turn();
	ck_assert_int_eq(strncmp(then_said, "0 ", 2), 0);
	teardown();
}
END_TEST

START_TEST(a_start_goes_on_as_far_as_anybody_wants)
{
	if (!setup())
		return;
	ck_assert_int_eq(runtime_need_containerd(runtime, then, then_said), 0);
	ck_assert(runtime_start(runtime));
	turn();
	volume_fn_of(volume, 0, "");
	turn();
	runtime_forget(runtime);
	become(containerd, DAEMON_READY);
	turn();
	ck_assert_str_eq(then_said, "");
	ck_assert_str_eq(asked, "volume;containerd;dockerd;");
	teardown();
}
END_TEST

START_TEST(who_needs_containerd_learns_of_a_failure)
{
	if (!setup())
		return;
	prepare_rc = -1;
	ck_assert_int_eq(runtime_need_containerd(runtime, then, then_said), 0);
	turn();
	ck_assert_str_eq(then_said, "-125 prerequisites failed: Input/output error");
	teardown();
}
END_TEST

/* It is started again, but who knows for how long that fails. */
START_TEST(who_needs_containerd_does_not_wait_for_ever)
{
	if (!setup())
		return;
	start_to_ready();
	become(containerd, DAEMON_STARTING);
	become(containerd, DAEMON_WAITING);
	ck_assert_int_eq(runtime_need_containerd(runtime, then, then_said), 0);
	turn();
	ck_assert_str_eq(then_said, "");
	become(containerd, DAEMON_STARTING);
	ck_assert_str_eq(then_said, "");
	become(containerd, DAEMON_WAITING);
	ck_assert_str_eq(then_said, "-125 containerd: ended, started again");
	become(containerd, DAEMON_STARTING);
	become(containerd, DAEMON_READY);
	turn();
	ck_assert(runtime_is_ready(runtime));
	teardown();
}
END_TEST

static unsigned stops;

static void stopped(void *ctx)
{
	ck_assert_ptr_eq(ctx, &stops);
	stops++;
}

START_TEST(dockerd_ends_before_containerd)
{
	if (!setup())
		return;
	start_to_ready();
	asked[0] = '\0';
	runtime_stop(runtime, 10000, stopped, &stops);
	ck_assert_str_eq(asked, "stop dockerd;");
	become(dockerd, DAEMON_DOWN);
	ck_assert_str_eq(asked, "stop dockerd;stop containerd;");
	ck_assert_uint_eq(stops, 0);
	become(containerd, DAEMON_DOWN);
	ck_assert_uint_eq(stops, 1);
	ck_assert(!runtime_start(runtime));
	ck_assert_int_eq(runtime_need_containerd(runtime, then, then_said), -ESHUTDOWN);
	turn();
	ck_assert_str_eq(asked, "stop dockerd;stop containerd;");
	teardown();
}
END_TEST

START_TEST(containerd_ends_when_nobody_holds_it)
{
	if (!setup())
		return;
	start_to_ready();
	asked[0] = '\0';
	runtime_hold(runtime);
	runtime_stop(runtime, 10000, stopped, &stops);
	become(dockerd, DAEMON_DOWN);
	ck_assert_str_eq(asked, "stop dockerd;");
	runtime_release(runtime);
	ck_assert_str_eq(asked, "stop dockerd;stop containerd;");
	become(containerd, DAEMON_DOWN);
	ck_assert_uint_eq(stops, 1);
	teardown();
}
END_TEST

START_TEST(containerd_ends_after_dockerd_when_it_is_held_no_more)
{
	if (!setup())
		return;
	start_to_ready();
	asked[0] = '\0';
	runtime_hold(runtime);
	runtime_stop(runtime, 10000, stopped, &stops);
	runtime_release(runtime);
	ck_assert_str_eq(asked, "stop dockerd;");
	become(dockerd, DAEMON_DOWN);
	ck_assert_str_eq(asked, "stop dockerd;stop containerd;");
	teardown();
}
END_TEST

START_TEST(its_end_waits_for_who_holds_containerd)
{
	if (!setup())
		return;
	runtime_hold(runtime);
	runtime_stop(runtime, 10000, stopped, &stops);
	ck_assert_uint_eq(stops, 0);
	runtime_release(runtime);
	ck_assert_uint_eq(stops, 1);
	ck_assert_str_eq(asked, "");
	teardown();
}
END_TEST

START_TEST(a_start_that_is_under_way_ends)
{
	if (!setup())
		return;
	ck_assert_int_eq(runtime_need_containerd(runtime, then, then_said), 0);
	turn();
	runtime_stop(runtime, 10000, stopped, &stops);
	ck_assert_uint_eq(stops, 1);
	ck_assert_int_eq(strncmp(then_said, "-108 ", 5), 0);
	volume_fn_of(volume, 0, "");
	turn();
	ck_assert_str_eq(asked, "volume;");
	teardown();
}
END_TEST

START_TEST(the_refusal_is_a_whole_answer)
{
	char text[512];
	size_t n = runtime_docker_refusal(-ENOENT, text, sizeof text - 1);

	text[n] = '\0';
	ck_assert_ptr_eq(strstr(text, "HTTP/1.1 503 Service Unavailable\r\n"), text);
	ck_assert_ptr_nonnull(strstr(text, "No such file or directory"));
	ck_assert_uint_eq((size_t)atoi(strstr(text, "Content-Length: ") + 16),
	    strlen(strstr(text, "\r\n\r\n") + 4));
	ck_assert_uint_eq(runtime_docker_refusal(-ENOENT, text, 20), 0);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    step_by_step_to_ready,
	    the_daemons_are_run_as_they_should_be,
	    many_ask_and_it_starts_once,
	    an_engine_that_is_there_is_left_alone,
	    a_containerd_that_is_there_is_used,
	    each_step_may_fail_and_a_later_start_work,
	    a_worker_that_cannot_start_fails_its_step,
	    it_is_not_ready_while_dockerd_is_dead,
	    a_probe_tells_of_the_dead,
	    kubernetes_needs_containerd_only,
	    a_start_goes_on_as_far_as_anybody_wants,
	    who_needs_containerd_learns_of_a_failure,
	    who_needs_containerd_does_not_wait_for_ever,
	    dockerd_ends_before_containerd,
	    containerd_ends_when_nobody_holds_it,
	    containerd_ends_after_dockerd_when_it_is_held_no_more,
	    its_end_waits_for_who_holds_containerd,
	    a_start_that_is_under_way_ends,
	    the_refusal_is_a_whole_answer,
	    NULL,
	};

	return suite_of("runtime", tests);
}
