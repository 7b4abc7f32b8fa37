/* vm_fake.h - VMs for the tests of the service: what sandbox/vm.h and what lies below it do, noted
 * and not done. A test says what comes of it through vm->ops. */
#ifndef TESTS_VM_FAKE_H
#define TESTS_VM_FAKE_H

#include "base/log.h"
#include "fault.h"
#include "sandbox/life.h"
#include "suite.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* What was done to VMs, in order: a letter each, and who it was done to last. */
static char vm_done_so_far[64];
static struct vm *vm_last;
static int vm_attach_rc, vm_init_rc;
static struct ip vm_wanted_ip;
static void (*vm_api_then)(struct vm *vm, int rc);
static int vm_api_rc; /* that vm_await_api() was told */

static inline void vm_note(struct vm *vm, char letter)
{
	size_t n = strlen(vm_done_so_far);

	ck_assert_uint_lt(n, sizeof vm_done_so_far - 1);
	vm_done_so_far[n] = letter;
	vm_done_so_far[n + 1] = '\0';
	vm_last = vm;
}

static inline void vm_assert_done(const char *letters)
{
	ck_assert_str_eq(vm_done_so_far, letters);
	vm_done_so_far[0] = '\0';
}

int vm_init(struct vm *vm, struct vm_host *host, const struct vm_ops *ops, const char *id,
    const char *home, struct vm_parts *parts)
{
	*vm = (struct vm){.host = host, .ops = ops, .parts = *parts};
	*parts = (struct vm_parts){0};
	span_to_cstr(span_str(id), vm->id, sizeof vm->id);
	ck_assert_int_eq(vm_home_init(&vm->home, host->config, home), 0);
	return vm_init_rc;
}

void vm_done(struct vm *vm)
{
	vm_parts_done(&vm->parts);
}

void vm_drop(struct vm *vm)
{
	vm_note(vm, 'd');
}

void vm_check(struct vm *vm)
{
	vm_note(vm, 'c');
}

int vm_attach(struct vm *vm, const struct ip *wanted)
{
	vm_note(vm, 'a');
	vm_wanted_ip = *wanted;
	if (vm_attach_rc == 0) {
		vm->nic.ip = wanted->family ? *wanted : ip_v4(172, 20, 0, 2);
		memcpy(vm->nic.tap, "vmtap0-2", sizeof "vmtap0-2");
	}
	return vm_attach_rc;
}

void vm_start(struct vm *vm, bool overrides_network)
{
	vm_note(vm, overrides_network ? 'o' : 's');
}

void vm_shutdown(struct vm *vm, uint64_t timeout_ms)
{
	vm_note(vm, timeout_ms == 30000 ? 'h' : 'H');
}

void vm_kill(struct vm *vm)
{
	vm_note(vm, 'k');
}

void vm_release(struct vm *vm)
{
	vm_note(vm, 'r');
	vm->nic = (struct nic){0};
}

void vm_await_api(struct vm *vm, int rc, void (*then)(struct vm *vm, int rc))
{
	vm_note(vm, 'w');
	vm_api_then = then;
	vm_api_rc = rc;
}

void vm_fail(struct vm *vm, const char *what, int rc)
{
	(void)what;
	(void)rc;
	vm_note(vm, 'f');
}

int netlink_open(struct netlink *n)
{
	n->fd = -1;
	return 0;
}

void netlink_close(struct netlink *n)
{
	(void)n;
}

int nic_clean(unsigned *removed)
{
	*removed = 1;
	return 0;
}

void subnet_init(struct subnet *s, const struct cidr *cidr, const struct ip *gateway)
{
	*s = (struct subnet){.cidr = *cidr, .gateway = *gateway};
}

/* --- the service ------------------------------------------------------------------------------ */

static struct loop loop;
static struct reaper reaper;
static struct sandbox_config config;
static struct sandboxes_conf conf;
static struct sandboxes *service;
static char data_dir[32];
static unsigned fds;

/* What happened: "one created, one ready, one idle 0". */
static char happened[4096];
static struct subscriber subscriber;

/* The last answer, and how many there were. */
static struct {
	unsigned n;
	int rc;
	char why[SANDBOX_WHY_BYTES];
	size_t n_infos, n_snapshots;
	struct sandbox_info info; /* its strings are gone but for the state */
	char id[SANDBOX_ID_MAX + 1], ip[IP_TEXT_BYTES], error[SANDBOX_WHY_BYTES];
	char snapshot[SANDBOX_ID_MAX + 1], dir[SNAPSHOT_PATH_BYTES];
	uint32_t caller;
} answer;

static inline void answered(const struct sandbox_answer *a, const struct sandbox_caller *caller)
{
	answer.n++;
	answer.rc = a->rc;
	answer.n_infos = a->n_infos;
	answer.n_snapshots = a->n_snapshots;
	answer.caller = caller->id[0];
	ck_assert_ptr_eq(caller->owner, &loop);
	ck_assert_int_eq(a->rc == 0, a->why[0] == '\0');
	strcpy(answer.why, a->why);
	if (a->n_infos) {
		answer.info = a->infos[0];
		strcpy(answer.id, a->infos[0].id);
		strcpy(answer.ip, a->infos[0].ip);
		strcpy(answer.error, a->infos[0].error);
	}
	if (a->n_snapshots) {
		strcpy(answer.snapshot, a->snapshots[0].id);
		strcpy(answer.dir, a->snapshots[0].dir);
	}
}

static const struct sandbox_caller caller = {&loop, {7, 8}};

/* The last request, and only it, was answered so. */
static inline void assert_answer(int rc, const char *why)
{
	ck_assert_uint_eq(answer.n, 1);
	ck_assert_msg(answer.rc == rc, "%d: %s", answer.rc, answer.why);
	ck_assert_uint_eq(answer.caller, 7);
	ck_assert_msg(strstr(answer.why, why), "\"%s\" is not in \"%s\"", why, answer.why);
	answer.n = 0;
}

static inline void assert_no_answer(void)
{
	ck_assert_uint_eq(answer.n, 0);
}

static inline void take_events(struct subscriber *s)
{
	struct event e;
	size_t n;

	while (events_next(s, &e)) {
		n = strlen(happened);
		snprintf(happened + n, sizeof happened - n, "%s%s %s%s%s", n ? ", " : "", e.id,
		    e.action, e.key ? " " : "", e.key ? e.value : "");
	}
}

static inline void assert_happened(const char *what)
{
	take_events(&subscriber);
	ck_assert_str_eq(happened, what);
	happened[0] = '\0';
}

static char names[256];

static inline void name_set(void *ctx, const char *id, const struct ip *ip)
{
	char text[IP_TEXT_BYTES];
	size_t n = strlen(names);

	ip_format(ip, text);
	snprintf(names + n, sizeof names - n, "%s=%s ", id, text);
	ck_assert_ptr_eq(ctx, &loop);
}

static inline void name_drop(void *ctx, const char *id)
{
	size_t n = strlen(names);

	snprintf(names + n, sizeof names - n, "-%s ", id);
	ck_assert_ptr_eq(ctx, &loop);
}

static inline void assert_names(const char *what)
{
	ck_assert_str_eq(names, what);
	names[0] = '\0';
}

static inline void turns(unsigned n)
{
	while (n-- > 0) {
		ck_assert_int_eq(loop_turn(&loop, 1), 0);
		reaper_drain(&reaper);
	}
}

/* Waits for a worker. */
static inline void await(const bool *what)
{
	uint64_t end_ns = clock_mono_ns() + 20 * NS_PER_SEC;

	while (!*what && clock_mono_ns() < end_ns)
		turns(1);
	ck_assert(*what);
}

static inline void await_answer(void)
{
	uint64_t end_ns = clock_mono_ns() + 20 * NS_PER_SEC;

	while (answer.n == 0 && clock_mono_ns() < end_ns)
		turns(1);
}

static inline void service_start_dirty(void)
{
	static const struct sandbox_names table = {name_set, name_drop, &loop};
	struct span bad;

	ck_assert_int_eq(log_filter(span_str("off"), &bad), E_OK);
	strcpy(data_dir, "/tmp/sandbox.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(data_dir));
	fds = fault_fds();
	ck_assert_int_eq(loop_init(&loop), 0);
	reaper_init(&reaper, &loop);
	config = (struct sandbox_config){
	    .binary = "/firecracker",
	    .data_dir = data_dir,
	    .gateway = ip_v4(172, 20, 0, 1),
	    .vcpus = 1,
	    .memory_mib = 512,
	    .kernel = "/vmlinux",
	    .rootfs = "/rootfs.ext4",
	    .boot_args = "init=/sbin/vm-agent",
	};
	conf = (struct sandboxes_conf){
	    .config = &config,
	    .names = &table,
	    .max_sandboxes = 4,
	    .max_starting = 2,
	    .max_subscribers = 2,
	    .max_events = 64,
	    .max_snapshots = 16,
	    .max_snapshot_requests = 16,
	    .max_guest_commands = 2,
	    .prepare_ms = 1000,
	    .connect_ms = 1000,
	    .stop_ms = 30000,
	    .kill_ms = 1000,
	    .checkpoint_ms = 60000,
	    .snapshots_ms = 60000,
	    .seed = {1, 2},
	};
	service = sandboxes_new(&loop, &reaper, &conf);
	ck_assert_ptr_nonnull(service);
	ck_assert_int_eq(
	    sandbox_subscribe(service, &subscriber, span_str(""), span_str(""), take_events, NULL),
	    0);
}

static inline void service_start(void)
{
	service_start_dirty();
	await(&service->clean);
}

static inline void remove_data_dir(void)
{
	char command[64];

	snprintf(command, sizeof command, "rm -rf %s", data_dir);
	ck_assert_int_eq(system(command), 0);
}

static inline void service_end(void)
{
	events_unsubscribe(&subscriber);
	sandboxes_free(service);
	reaper_done(&reaper);
	loop_done(&loop);
	ck_assert_uint_eq(fault_fds(), fds);
	remove_data_dir();
}

static inline struct sandbox *find(const char *id)
{
	struct sandbox *b = sandbox_find(service, span_str(id));

	ck_assert_msg(b, "there is no sandbox %s", id);
	return b;
}

static inline void create_spec(const struct sandbox_spec *spec)
{
	sandbox_create(service, spec, answered, &caller);
}

static inline void create(const char *id)
{
	create_spec(&(const struct sandbox_spec){.id = span_str(id)});
}

/* One that starts, and one that is ready. */
static inline struct sandbox *started(const char *id)
{
	struct sandbox *b;

	create(id);
	vm_last->ops->checked(vm_last, "");
	assert_answer(0, "");
	b = find(id);
	vm_assert_done("cas");
	return b;
}

static inline struct sandbox *ready(const char *id)
{
	struct sandbox *b = started(id);

	b->vm.ops->up(&b->vm);
	ck_assert_int_eq(b->state, LIFE_READY);
	take_events(&subscriber);
	happened[0] = names[0] = '\0';
	return b;
}

#endif
