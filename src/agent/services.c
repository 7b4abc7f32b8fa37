#include "agent/services.h"

#include "agent/names.h"
#include "base/log.h"
#include "init/prerequisites.h"
#include "sandbox/rootfs.h"

#include <errno.h>
#include <unistd.h>

/* Where a host finds the Docker API: the first proxy. */
static void set_endpoint(struct agent *a)
{
	struct span proxy = span_str(a->options.proxy.values[0]);

	if (!option_is_off(a->options.proxy.values[0]))
		span_to_cstr(span_split(&proxy, '='), a->endpoint, sizeof a->endpoint);
}

/* Of the machine's disks, the one that is for Docker. */
static const char *data_device(const char *option)
{
	static const char console_disk[] = "/dev/arcboxhvc1";

	if (option)
		return option_is_off(option) ? NULL : option;
	return access(console_disk, F_OK) == 0 ? console_disk : "/dev/vdb";
}

static void start_runtime(struct agent *a)
{
	const struct options *o = &a->options;
	const struct runtime_conf conf = {
	    .binary_dir = o->runtime_dir,
	    .docker_socket = o->docker_socket,
	    .endpoint = a->endpoint,
	    .data_device = data_device(o->data_device),
	    .format_force = strcmp(o->format, "force") == 0,
	    .probe_ms = o->probe_ms,
	    .max_waiting = (unsigned)o->max_waiting,
	    .prepare = prerequisites_meet,
	    .prepare_ms = o->prepare_ms,
	    .volume_ms = o->volume_ms,
	    .containerd_ms = o->containerd_ms,
	    .docker_ms = o->docker_start_ms,
	    .restart_ms = o->restart_ms,
	    .restart_max_ms = o->restart_max_ms,
	    .healthy_ms = o->healthy_ms,
	};

	set_endpoint(a);
	a->runtime = runtime_new(&a->loop, &a->reaper, &conf);
}

static void start_kubernetes(struct agent *a)
{
	const struct options *o = &a->options;
	const struct kubernetes_conf conf = {
	    .binary_dir = o->runtime_dir,
	    .runtime = a->runtime,
	    .max_waiting = (unsigned)o->max_waiting,
	    .answer_ms = o->k3s_answer_ms,
	    .ready_ms = o->k3s_ready_ms,
	    .stop_ms = o->k3s_stop_ms,
	    .delete_ms = o->k3s_delete_ms,
	    .restart_ms = o->restart_ms,
	    .restart_max_ms = o->restart_max_ms,
	    .healthy_ms = o->healthy_ms,
	};

	if (a->runtime)
		a->kubernetes = kubernetes_new(&a->loop, &a->reaper, &conf);
}

/* Before /etc is covered by memory. A file that was asked for by name has to be there. */
void services_read_config(struct agent *a)
{
	const char *named = option_or_variable(a->options.vmm_config, "ARCBOX_VMM_CONFIG");
	int rc;

	sandbox_config_default(&a->vmm);
	rc = sandbox_config_load(&a->vmm, named ? named : "/etc/arcbox/vmm.toml");
	if (rc == -ENOENT && named)
		log_error("sandbox", "there is no such configuration, using the built-in one",
		    KV_STR("file", named));
}

static void start_sandboxes(struct agent *a)
{
	const struct options *o = &a->options;
	const struct sandboxes_conf conf = {
	    .config = &a->vmm,
	    .rootfs = rootfs_convert,
	    .names = &a->sandbox_names,
	    .max_sandboxes = (unsigned)o->max_sandboxes,
	    .max_starting = (unsigned)o->max_starting,
	    .max_subscribers = (unsigned)o->max_subscribers,
	    .max_events = o->max_events,
	    .max_snapshots = (unsigned)o->max_snapshots,
	    .max_snapshot_requests = (unsigned)o->max_snapshot_requests,
	    .max_guest_commands = o->no_guest_exec ? 0 : (unsigned)o->max_guest_commands,
	    .prepare_ms = o->sandbox_prepare_ms,
	    .connect_ms = o->sandbox_connect_ms,
	    .stop_ms = o->sandbox_stop_ms,
	    .kill_ms = o->sandbox_kill_ms,
	    .checkpoint_ms = o->checkpoint_ms,
	    .snapshots_ms = o->snapshots_ms,
	    .seed = {a->seed[0], a->seed[1]},
	};

	a->sandbox_names = names_of_sandboxes(a);
	a->sandboxes = sandboxes_new(&a->loop, &a->reaper, &conf);
	if (!a->sandboxes)
		log_error("main", "no memory for sandboxes: running without");
}

void services_start(struct agent *a)
{
	const struct options *o = &a->options;

	start_runtime(a);
	start_kubernetes(a);
	start_sandboxes(a);
	a->services = (struct rpc_services){
	    .clock = {.may_set = a->is_pid1 || o->set_clock},
	    .reader = reader_new(
		&a->loop, &a->reaper, (unsigned)o->max_reads, (unsigned)o->max_waiting, o->read_ms),
	    .shutdown = &a->shutdown,
	    .runtime = a->runtime,
	    .kubernetes = a->kubernetes,
	    .sandboxes = a->sandboxes,
	};
}

/* Of the time for the services. */
static uint64_t left_ms(const struct agent *a)
{
	uint64_t now_ns = a->loop.now_ns, until_ns = a->shutdown.until_ns;

	return until_ns > now_ns ? (until_ns - now_ns) / NS_PER_MS : 0;
}

static void runtime_ended(void *ctx)
{
	struct agent *a = ctx;

	shutdown_services_ended(&a->shutdown);
}

static void kubernetes_ended(void *ctx)
{
	struct agent *a = ctx;

	runtime_release(a->runtime);
}

/* Kubernetes and dockerd at once, then containerd, which both need. */
static void end_runtime(void *ctx)
{
	struct agent *a = ctx;

	if (!a->runtime) {
		runtime_ended(a);
		return;
	}
	if (a->kubernetes) {
		runtime_hold(a->runtime);
		kubernetes_stop(a->kubernetes, left_ms(a), kubernetes_ended, a);
	}
	runtime_stop(a->runtime, left_ms(a), runtime_ended, a);
}

void services_stop(struct shutdown *s, uint64_t wait_ms)
{
	struct agent *a = container_of(s, struct agent, shutdown);

	if (a->sandboxes)
		sandboxes_stop(a->sandboxes, wait_ms / 2, end_runtime, a);
	else
		end_runtime(a);
}
