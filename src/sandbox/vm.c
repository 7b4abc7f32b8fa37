#include "sandbox/vm.h"

#include "base/container.h"
#include "base/log.h"
#include "base/utf8.h"
#include "sandbox/vmm_args.h"
#include "sys/tail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	CHECK_MS = 5000,
	WORDS_MS = 1000, /* for reading its last words */
	WORDS_LINES = 3,
	UNPLUG_MS = 10 * 1000,
	REMOVE_MS = 60 * 1000,
	BOOT_WORD_BYTES = 128, /* ip=… */
};

/* In place while Firecracker is told. */
struct vm_boot {
	struct firecracker_boot boot;
	struct firecracker_snapshot snapshot;
	vm_path kernel, rootfs, vsock, vmstate, mem;
	char boot_args[SANDBOX_BOOT_ARGS_BYTES + BOOT_WORD_BYTES];
	char mac[NIC_MAC_TEXT_BYTES];
};

static void settle(struct vm *vm);

/* --- reasons ---------------------------------------------------------------------------------- */

/* The first is what failed, later ones tell more of it. */
static void keep_why(struct vm *vm, const char *what, const char *text)
{
	size_t n = strlen(vm->why);
	struct wr w = wr_of(vm->why + n, sizeof vm->why - n - 1);

	if (n)
		wr_str(&w, "; ");
	wr_str(&w, what);
	wr_str(&w, ": ");
	wr_bytes(&w, utf8_first(span_str(text), w.cap - w.n));
	vm->why[n + w.n] = '\0';
}

/* --- its end ---------------------------------------------------------------------------------- */

static int read_words(void *arg, struct wr *why)
{
	const struct vm *vm = arg;
	vm_path path;
	int rc = tail_lines(
	    vm_host_path(&vm->home, VM_LOG, path), WORDS_LINES, (char *)why->p, why->cap);

	if (rc == 0)
		why->n = strlen((char *)why->p);
	return rc;
}

static void heard(void *arg, int rc, const char *words)
{
	struct vm *vm = arg;

	(void)rc;
	if (*words)
		keep_why(vm, "its last words", words);
	settle(vm);
}

/* Goes on once nothing of it runs any more: one that was not to end is asked why first. */
static void settle(struct vm *vm)
{
	if (vm->pid || vm->api_busy || job_runs(&vm->job) || vm->over)
		return;
	if (vm->launched && !vm->asked && !vm->examined) {
		vm->examined = true;
		job_start(&vm->job, read_words, heard, WORDS_MS);
		return;
	}
	vm->over = true;
	if (vm->asked)
		vm->why[0] = '\0';
	vm->ops->ended(vm, vm->why);
}

static void gone(struct vm *vm)
{
	vm->pid = 0;
	timer_at(&vm->patience, 0);
	source_remove(&vm->process);
	if (vm->api_busy)
		firecracker_cancel(&vm->api, -ESRCH);
	settle(vm);
}

/* There is a process. Whoever runs it leads a group, but for what a jailer left behind. */
static void signal_it(const struct vm *vm, int sig)
{
	kill(vm->child.pid ? -vm->pid : vm->pid, sig);
}

static void kill_process(struct vm *vm)
{
	vm->killed = true;
	signal_it(vm, SIGKILL);
	timer_in(&vm->patience, vm->host->kill_ms * NS_PER_MS);
}

static void on_impatience(struct timer *t)
{
	struct vm *vm = container_of(t, struct vm, patience);

	if (!vm->killed) {
		log_info("sandbox", "a guest does not shut down, killing it", KV_STR("id", vm->id));
		kill_process(vm);
		return;
	}
	log_error("sandbox", "a VM does not die", KV_STR("id", vm->id), KV_NUM("pid", vm->pid));
	child_forget(&vm->child);
	gone(vm);
}

static void fail(struct vm *vm, const char *what, const char *text)
{
	keep_why(vm, what, text);
	if (vm->pid)
		kill_process(vm);
	else
		settle(vm);
}

/* --- its process ------------------------------------------------------------------------------ */

static int on_process_end(struct source *s, uint32_t events)
{
	(void)events;
	gone(container_of(s, struct vm, process));
	return 0;
}

/* With a PID namespace, the jailer leaves the VM behind: the pid is in a small local file. False
 * when there is none. */
static bool adopt(struct vm *vm)
{
	pid_t pid = vm_files_pid(vm->host->config, vm->home.dir);
	int fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

	if (fd < 0)
		return false;
	if (source_add(vm->host->loop, &vm->process, fd, EPOLLIN) < 0) {
		close(fd);
		return false;
	}
	vm->pid = pid;
	return true;
}

static void keep_status(struct vm *vm, int exec_rc, int status)
{
	char text[64];
	struct wr w = wr_of(text, sizeof text);

	if (exec_rc < 0) {
		wr_str(&w, err_text(exec_rc));
	} else if (WIFSIGNALED(status)) {
		wr_str(&w, "ended by signal ");
		wr_dec(&w, (uint64_t)WTERMSIG(status));
	} else {
		wr_str(&w, "ended with status ");
		wr_dec(&w, (uint64_t)WEXITSTATUS(status));
	}
	wr_nul(&w);
	keep_why(vm, exec_rc < 0 ? "Firecracker cannot be run" : "Firecracker", text);
}

static void on_exit_of_child(struct child *c, int status)
{
	struct vm *vm = container_of(c, struct vm, child);

	if (status == 0 && !vm->killed && vm->host->config->jailer.new_pid_ns && adopt(vm))
		return;
	if (!vm->killed)
		keep_status(vm, c->exec_rc, status);
	gone(vm);
}

struct become {
	struct vmm_args args;
	vm_path log;
	pid_t parent;
};

/* In the child. The guest's serial console, which is Firecracker's standard output, may say
 * anything for ever: it is not kept. */
static int become_firecracker(void *arg)
{
	struct become *b = arg;
	int fd = open(b->log, O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0)
		dup2(fd, STDERR_FILENO);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != b->parent) /* it died before the prctl */
		_exit(1);
	execve(b->args.argv[0], (char *const *)b->args.argv, environ);
	return -errno;
}

/* 0 or -errno. */
static int launch(struct vm *vm)
{
	struct become b = {.parent = getpid()};
	const struct child_spec spec = {
	    .in_fd = -1,
	    .out_fd = -1,
	    .err_fd = -1,
	    .new_group = true,
	    .become = become_firecracker,
	    .become_arg = &b,
	};
	int rc = vmm_args_init(&b.args, &vm->home, vm->id);

	vm_host_path(&vm->home, VM_LOG, b.log);
	if (rc == 0)
		rc = child_launch(vm->host->reaper, &vm->child, &spec);
	if (rc < 0)
		return rc;
	vm->pid = vm->child.pid;
	vm->launched = true;
	return 0;
}

/* --- what Firecracker is told ----------------------------------------------------------------- */

static void api_ended(struct firecracker *f, int rc)
{
	struct vm *vm = container_of(f, struct vm, api);

	vm->api_busy = false;
	free(vm->boot);
	vm->boot = NULL;
	if (vm->pid)
		vm->api_then(vm, rc);
	else
		settle(vm);
}

void vm_await_api(struct vm *vm, int rc, void (*then)(struct vm *vm, int rc))
{
	vm->api_then = then;
	vm->api_busy = rc == 0;
	if (rc < 0)
		then(vm, rc);
}

void vm_fail(struct vm *vm, const char *what, int rc)
{
	char text[FIRECRACKER_REASON_BYTES];
	struct wr w = wr_of(text, sizeof text);

	if (!vm->pid || vm->killed)
		return;
	firecracker_reason(&vm->api, &w);
	if (w.n == 0)
		wr_str(&w, err_text(rc));
	wr_nul(&w);
	keep_why(vm, what, text);
	kill_process(vm);
}

static void booted(struct vm *vm, int rc)
{
	if (rc == 0)
		vm->ops->up(vm);
	else
		vm_fail(vm, vm->parts.snapshot ? "cannot restore" : "cannot boot", rc);
}

/* Whether a kernel's command line has a word that begins with this. */
static bool has_word(const char *line, const char *begin)
{
	struct span rest = span_str(line);

	while (rest.p)
		if (span_starts(span_split(&rest, ' '), span_str(begin)))
			return true;
	return false;
}

static void write_boot_args(const struct vm *vm, struct vm_boot *b)
{
	struct wr w = wr_of(b->boot_args, sizeof b->boot_args);

	wr_str(&w, vm->parts.boot_args);
	if (vm->nic.ip.family && !has_word(vm->parts.boot_args, "ip=")) {
		wr_u8(&w, ' ');
		nic_boot_word(&vm->nic, &vm->host->subnet, &w);
	}
	wr_nul(&w);
}

static int boot(struct vm *vm, struct vm_boot *b)
{
	const struct vm_home *h = &vm->home;
	bool jailed = h->config->jailer.binary != NULL;
	bool networked = vm->nic.ip.family != 0;

	write_boot_args(vm, b);
	if (networked)
		nic_mac_text(&vm->nic, b->mac);
	b->boot = (struct firecracker_boot){
	    .vcpus = vm->parts.vcpus,
	    .memory_mib = vm->parts.memory_mib,
	    .kernel = jailed ? vm_inner_path(h, VM_KERNEL, b->kernel) : vm->parts.kernel,
	    .boot_args = b->boot_args,
	    .rootfs = vm_inner_path(h, VM_ROOTFS, b->rootfs),
	    .tap = networked ? vm->nic.tap : NULL,
	    .mac = networked ? b->mac : NULL,
	    .vsock = vm_inner_path(h, VM_VSOCK, b->vsock),
	};
	return firecracker_boot(&vm->api, &b->boot);
}

/* Where a snapshot's file is, for Firecracker. */
static const char *snapshot_path(const struct vm *vm, enum vm_file file, vm_path buf)
{
	struct vm_home lying = {.config = vm->home.config};

	if (vm->home.config->jailer.binary)
		return vm_inner_path(&vm->home, file, buf);
	span_to_cstr(span_str(vm->parts.snapshot), lying.root, sizeof lying.root);
	return vm_host_path(&lying, file, buf);
}

static int restore(struct vm *vm, struct vm_boot *b)
{
	b->snapshot = (struct firecracker_snapshot){
	    .vmstate = snapshot_path(vm, VM_VMSTATE, b->vmstate),
	    .mem = snapshot_path(vm, VM_MEM, b->mem),
	    .tap = vm->overrides_network && vm->nic.ip.family ? vm->nic.tap : NULL,
	};
	return firecracker_restore(&vm->api, &b->snapshot);
}

/* 0 or -errno. */
static int tell(struct vm *vm)
{
	vm_path path;
	int rc = firecracker_init(&vm->api, vm->host->loop, vm_jail(&vm->home),
	    vm_inner_path(&vm->home, VM_API_SOCKET, path),
	    vm->host->config->socket_timeout_secs * 1000);

	vm->api.ended = api_ended;
	vm->boot = calloc(1, sizeof *vm->boot);
	if (rc == 0 && !vm->boot)
		rc = -ENOMEM;
	if (rc == 0)
		rc = vm->parts.snapshot ? restore(vm, vm->boot) : boot(vm, vm->boot);
	return rc;
}

/* --- its start -------------------------------------------------------------------------------- */

static int check(void *arg, struct wr *why)
{
	const struct vm *vm = arg;

	return vm_files_check(&vm->home, &vm->parts, why);
}

static void checked(void *arg, int rc, const char *why)
{
	struct vm *vm = arg;

	(void)rc;
	if (vm->asked)
		settle(vm);
	else
		vm->ops->checked(vm, why);
}

void vm_check(struct vm *vm)
{
	job_start(&vm->job, check, checked, CHECK_MS);
}

int vm_attach(struct vm *vm, const struct ip *wanted)
{
	struct vm_host *h = vm->host;
	struct span id = span_str(vm->id);

	if (wanted->family)
		return nic_attach_at(&vm->nic, &h->subnet, &h->netlink, id, wanted);
	return nic_attach(&vm->nic, &h->subnet, &h->netlink, id);
}

static int make(void *arg, struct wr *why)
{
	const struct vm *vm = arg;

	return vm_files_make(&vm->home, &vm->parts, vm->host->rootfs, why);
}

static void made(void *arg, int rc, const char *why)
{
	struct vm *vm = arg;

	if (vm->asked)
		settle(vm);
	else if (rc < 0)
		fail(vm, "cannot prepare", why);
	else if ((rc = launch(vm)) < 0)
		fail(vm, "cannot start Firecracker", err_text(rc));
	else
		vm_await_api(vm, tell(vm), booted);
}

void vm_start(struct vm *vm, bool overrides_network)
{
	vm->overrides_network = overrides_network;
	vm->made = true;
	job_start(&vm->job, make, made, vm->host->prepare_ms);
}

/* --- how it is ended -------------------------------------------------------------------------- */

static void do_later(struct task *t)
{
	struct vm *vm = container_of(t, struct vm, later);

	vm->later_then(vm);
}

static void defer(struct vm *vm, void (*then)(struct vm *vm))
{
	vm->later_then = then;
	task_defer(vm->host->loop, &vm->later);
}

static void asked_to_shut_down(struct vm *vm, int rc)
{
	if (rc == 0 || vm->killed)
		return;
	log_warn("sandbox", "a guest cannot be asked to shut down, killing it",
	    KV_STR("id", vm->id), KV_ERR(rc));
	kill_process(vm);
}

void vm_shutdown(struct vm *vm, uint64_t timeout_ms)
{
	vm->asked = true;
	if (!vm->pid) /* it has died, and is being examined: `ended` follows */
		return;
	timer_in(&vm->patience, timeout_ms * NS_PER_MS);
	vm_await_api(vm, firecracker_ctrl_alt_del(&vm->api), asked_to_shut_down);
}

void vm_kill(struct vm *vm)
{
	vm->asked = true;
	job_kill(&vm->job); /* what makes its files would race with what removes them */
	if (vm->pid)
		kill_process(vm);
	else
		defer(vm, settle);
}

static int unmake(void *arg, struct wr *why)
{
	const struct vm *vm = arg;

	return vm_files_remove(&vm->home, why);
}

static void unmade(void *arg, int rc, const char *why)
{
	struct vm *vm = arg;

	if (rc < 0)
		log_error(
		    "sandbox", "files of a VM stay", KV_STR("id", vm->id), KV_STR("why", why));
	vm->ops->released(vm);
}

static void remove_files(struct vm *vm)
{
	if (vm->made)
		job_start(&vm->job, unmake, unmade, REMOVE_MS);
	else
		vm->ops->released(vm);
}

static int unplug(void *arg, struct wr *why)
{
	struct vm *vm = arg;

	(void)why;
	return nic_unplug(&vm->nic);
}

/* The address of a device that stays is nobody else's. */
static void unplugged(void *arg, int rc, const char *why)
{
	struct vm *vm = arg;

	if (rc < 0)
		log_error("sandbox", "a TAP device stays", KV_STR("tap", vm->nic.tap),
		    KV_STR("why", why));
	else
		nic_release(&vm->nic, &vm->host->subnet);
	remove_files(vm);
}

static void give_back(struct vm *vm)
{
	if (vm->nic.ip.family)
		job_start(&vm->job, unplug, unplugged, UNPLUG_MS);
	else
		remove_files(vm);
}

void vm_release(struct vm *vm)
{
	defer(vm, give_back);
}

/* --- memory ----------------------------------------------------------------------------------- */

int vm_init(struct vm *vm, struct vm_host *host, const struct vm_ops *ops, const char *id,
    const char *home, struct vm_parts *parts)
{
	*vm = (struct vm){
	    .host = host,
	    .ops = ops,
	    .parts = *parts,
	    .child = {.fn = on_exit_of_child},
	    .process = {.fn = on_process_end, .name = "jailed VM", .fd = -1},
	    .job = {.reaper = host->reaper, .arg = vm},
	    .later = {.fn = do_later},
	};
	*parts = (struct vm_parts){0};
	timer_init(&vm->patience, host->loop, on_impatience);
	span_to_cstr(span_str(id), vm->id, sizeof vm->id);
	return vm_home_init(&vm->home, host->config, home);
}

void vm_drop(struct vm *vm)
{
	if (vm->pid)
		signal_it(vm, SIGKILL);
	child_forget(&vm->child);
	source_remove(&vm->process);
	timer_at(&vm->patience, 0);
	firecracker_drop(&vm->api);
	vm->api_busy = false;
}

void vm_done(struct vm *vm)
{
	job_cancel(&vm->job);
	task_cancel(&vm->later);
	vm_parts_done(&vm->parts);
	free(vm->boot);
	vm->boot = NULL;
}
