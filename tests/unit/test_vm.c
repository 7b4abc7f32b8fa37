#include "sandbox/vm.h"

#include "base/log.h"
#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Firecracker is a shell script, its API client and the network are the test's, the files real. */

static struct loop loop;
static struct reaper reaper;
static struct sandbox_config config;
static struct vm_host host;
static struct vm vm;
static char dir[32], program[64], rootfs[64];
static unsigned fds;

/* What came: c checked, u up, e ended, r released; and the last reason. */
static char told[16];
static char why[SANDBOX_WHY_BYTES];

/* What the client was asked: b boot, r restore, d ctrl-alt-del, x cancelled, D dropped. */
static char asked[16];
static const struct firecracker_boot *booted_with;
static const struct firecracker_snapshot *restored_with;
static int api_rc;
static const char *api_reason;
static const char *api_path = "/sandboxes/one/firecracker.sock";
static bool api_busy, attached;
static int unplug_rc;

static void note(char *text, size_t cap, char letter)
{
	size_t n = strlen(text);

	ck_assert_uint_lt(n, cap - 1);
	text[n] = letter;
	text[n + 1] = '\0';
}

/* --- the client ------------------------------------------------------------------------------- */

int firecracker_init(
    struct firecracker *f, struct loop *l, const char *root, const char *path, uint64_t timeout_ms)
{
	char got[256], expected[128];

	snprintf(expected, sizeof expected, "%s%s", dir, api_path);
	snprintf(got, sizeof got, "%s%s", root ? root : "", path);
	ck_assert_str_eq(got, expected);
	ck_assert_ptr_eq(root, vm_jail(&vm.home));
	ck_assert_uint_eq(timeout_ms, 5000);
	f->loop = l;
	return 0;
}

static int api_begins(char letter)
{
	note(asked, sizeof asked, letter);
	api_busy = api_rc == 0;
	return api_rc;
}

int firecracker_boot(struct firecracker *f, const struct firecracker_boot *b)
{
	(void)f;
	booted_with = b;
	return api_begins('b');
}

int firecracker_restore(struct firecracker *f, const struct firecracker_snapshot *s)
{
	(void)f;
	restored_with = s;
	return api_begins('r');
}

int firecracker_ctrl_alt_del(struct firecracker *f)
{
	(void)f;
	return api_begins('d');
}

void firecracker_cancel(struct firecracker *f, int rc)
{
	(void)f;
	ck_assert_int_eq(rc, -ESRCH);
	ck_assert(api_busy);
	note(asked, sizeof asked, 'x');
}

void firecracker_drop(struct firecracker *f)
{
	(void)f;
	note(asked, sizeof asked, 'D');
}

void firecracker_reason(const struct firecracker *f, struct wr *w)
{
	(void)f;
	if (api_reason)
		wr_str(w, api_reason);
}

static void api_ends(int rc)
{
	ck_assert(api_busy);
	api_busy = false;
	vm.api.ended(&vm.api, rc);
}

static void assert_asked(const char *letters)
{
	ck_assert_str_eq(asked, letters);
	asked[0] = '\0';
}

/* --- the network ------------------------------------------------------------------------------ */

int nic_attach_at(
    struct nic *nic, struct subnet *s, struct netlink *n, struct span id, const struct ip *ip)
{
	ck_assert_ptr_eq(s, &host.subnet);
	ck_assert_ptr_eq(n, &host.netlink);
	ck_assert(span_eq_str(id, "one"));
	nic->ip = *ip;
	memcpy(nic->tap, "vmtap0-2", sizeof "vmtap0-2");
	attached = true;
	return 0;
}

int nic_attach(struct nic *nic, struct subnet *s, struct netlink *n, struct span id)
{
	const struct ip ip = ip_v4(172, 20, 0, 2);

	return nic_attach_at(nic, s, n, id, &ip);
}

int nic_unplug(const struct nic *nic)
{
	ck_assert_str_eq(nic->tap, "vmtap0-2");
	return unplug_rc;
}

void nic_release(struct nic *nic, struct subnet *s)
{
	ck_assert_ptr_eq(s, &host.subnet);
	*nic = (struct nic){0};
	attached = false;
}

void nic_mac_text(const struct nic *nic, char out[NIC_MAC_TEXT_BYTES])
{
	(void)nic;
	strcpy(out, "02:00:00:00:00:01");
}

void nic_boot_word(const struct nic *nic, const struct subnet *s, struct wr *w)
{
	(void)nic;
	(void)s;
	wr_str(w, "ip=172.20.0.2::");
}

/* --- the owner -------------------------------------------------------------------------------- */

static void checked(struct vm *v, const char *text)
{
	ck_assert_ptr_eq(v, &vm);
	note(told, sizeof told, 'c');
	strcpy(why, text);
}

static void up(struct vm *v)
{
	ck_assert_ptr_eq(v, &vm);
	note(told, sizeof told, 'u');
}

static void ended(struct vm *v, const char *text)
{
	ck_assert_ptr_eq(v, &vm);
	note(told, sizeof told, 'e');
	strcpy(why, text);
}

static void released(struct vm *v)
{
	ck_assert_ptr_eq(v, &vm);
	note(told, sizeof told, 'r');
}

static const struct vm_ops ops = {checked, up, ended, released};

static void write_file(const char *path, const char *text, mode_t mode)
{
	FILE *f = fopen(path, "we");

	ck_assert_ptr_nonnull(f);
	ck_assert_int_ge(fputs(text, f), 0);
	ck_assert_int_eq(fclose(f), 0);
	ck_assert_int_eq(chmod(path, mode), 0);
}

/* What the script does, with its arguments in "$@". */
static void setup(const char *script)
{
	struct span bad;
	char text[512];
	struct vm_parts parts = {
	    .kernel = strdup("/vmlinux"),
	    .boot_args = strdup("quiet"),
	    .vcpus = 2,
	    .memory_mib = 64,
	};

	ck_assert_int_eq(log_filter(span_str("off"), &bad), E_OK);
	strcpy(dir, "/tmp/vm.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(program, sizeof program, "%s/firecracker", dir);
	snprintf(rootfs, sizeof rootfs, "%s/root.ext4", dir);
	snprintf(text, sizeof text, "#!/bin/sh\n%s\n", script);
	write_file(program, text, 0755);
	write_file(rootfs, "disk", 0644);
	parts.rootfs = strdup(rootfs);
	fds = fault_fds();
	ck_assert_int_eq(loop_init(&loop), 0);
	reaper_init(&reaper, &loop);
	config =
	    (struct sandbox_config){.binary = program, .data_dir = dir, .socket_timeout_secs = 5};
	host = (struct vm_host){.loop = &loop,
	    .reaper = &reaper,
	    .config = &config,
	    .prepare_ms = 5000,
	    .kill_ms = 2000};
	ck_assert_int_eq(vm_init(&vm, &host, &ops, "one", "one", &parts), 0);
	ck_assert_ptr_null(parts.kernel);
}

static void teardown(void)
{
	char command[64];

	vm_done(&vm);
	reaper_done(&reaper);
	loop_done(&loop);
	ck_assert_uint_eq(fault_fds(), fds);
	for (unsigned i = 0; i < 200 && fault_children(); i++)
		usleep(5000);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
}

static void turns(unsigned n)
{
	while (n-- > 0) {
		ck_assert_int_eq(loop_turn(&loop, 1), 0);
		reaper_drain(&reaper);
	}
}

/* Turns the loop until these letters have come, which are forgotten then; more may have come. */
static void await(char *text, const char *letters)
{
	uint64_t end_ns = clock_mono_ns() + 20 * NS_PER_SEC;
	size_t n = strlen(letters);

	while (strlen(text) < n && clock_mono_ns() < end_ns)
		turns(1);
	ck_assert_msg(strncmp(text, letters, n) == 0, "%s instead of %s", text, letters);
	memmove(text, text + n, strlen(text) - n + 1);
}

static void await_told(const char *letters)
{
	await(told, letters);
}

static void await_asked(const char *letters)
{
	await(asked, letters);
}

/* Until a script has written it. */
static void await_file(const char *path)
{
	struct stat st;

	for (unsigned i = 0; i < 1000 && (stat(path, &st) < 0 || st.st_size == 0); i++)
		usleep(5000);
}

/* Up, by a script that lasts. */
static void be_up(void)
{
	vm_start(&vm, false);
	await_asked("b");
	api_ends(0);
	await_told("u");
}

static void release(void)
{
	char path[64];

	vm_release(&vm);
	ck_assert_str_eq(told, "");
	await_told("r");
	snprintf(path, sizeof path, "%s/sandboxes/one", dir);
	ck_assert_int_ne(access(path, F_OK), 0);
}

#define LASTS "exec sleep 1000"

/* --- its start -------------------------------------------------------------------------------- */

START_TEST(it_boots_and_ends_when_it_is_killed)
{
	const struct ip any = {0};
	char path[128], text[512] = "";
	FILE *f;

	setup("echo \"$@\" > \"$0.args\"; " LASTS);
	ck_assert_int_eq(vm_attach(&vm, &any), 0);
	vm_start(&vm, false);
	ck_assert_str_eq(told, "");
	await_asked("b");
	ck_assert_uint_eq(booted_with->vcpus, 2);
	ck_assert_uint_eq(booted_with->memory_mib, 64);
	ck_assert_str_eq(booted_with->kernel, "/vmlinux");
	ck_assert_str_eq(booted_with->boot_args, "quiet ip=172.20.0.2::");
	ck_assert_str_eq(booted_with->tap, "vmtap0-2");
	ck_assert_str_eq(booted_with->mac, "02:00:00:00:00:01");
	snprintf(path, sizeof path, "%s/sandboxes/one/rootfs.ext4", dir);
	ck_assert_str_eq(booted_with->rootfs, path);
	ck_assert_int_eq(access(path, R_OK | W_OK), 0);
	snprintf(path, sizeof path, "%s/sandboxes/one/firecracker.vsock", dir);
	ck_assert_str_eq(booted_with->vsock, path);
	api_ends(0);
	await_told("u");
	snprintf(path, sizeof path, "%s.args", program);
	await_file(path);
	vm_kill(&vm);
	ck_assert_str_eq(told, "");
	await_told("e");
	ck_assert_str_eq(why, "");
	ck_assert(attached);
	release();
	ck_assert(!attached);
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	ck_assert_ptr_nonnull(fgets(text, sizeof text, f));
	fclose(f);
	ck_assert_ptr_nonnull(strstr(text, "--id one"));
	teardown();
}
END_TEST

START_TEST(without_a_network_it_has_none)
{
	setup(LASTS);
	vm_start(&vm, true);
	await_asked("b");
	ck_assert_str_eq(booted_with->boot_args, "quiet");
	ck_assert_ptr_null(booted_with->tap);
	ck_assert_ptr_null(booted_with->mac);
	api_ends(0);
	await_told("u");
	vm_kill(&vm);
	await_told("e");
	release();
	teardown();
}
END_TEST

START_TEST(boot_arguments_that_have_an_address_keep_it)
{
	const struct ip wanted = ip_v4(172, 20, 0, 9);

	setup(LASTS);
	ck_assert_int_eq(vm_attach(&vm, &wanted), 0);
	ck_assert_uint_eq(vm.nic.ip.b[3], 9);
	free(vm.parts.boot_args);
	vm.parts.boot_args = strdup("skip=1 ip=dhcp");
	vm_start(&vm, false);
	await_asked("b");
	ck_assert_str_eq(booted_with->boot_args, "skip=1 ip=dhcp");
	api_ends(0);
	vm_kill(&vm);
	await_told("ue");
	/* Here the word only looks like it. */
	teardown();
	setup(LASTS);
	ck_assert_int_eq(vm_attach(&vm, &wanted), 0);
	free(vm.parts.boot_args);
	vm.parts.boot_args = strdup("skip=1");
	vm_start(&vm, false);
	await_asked("b");
	ck_assert_str_eq(booted_with->boot_args, "skip=1 ip=172.20.0.2::");
	vm_kill(&vm);
	await_asked("x");
	api_ends(-ESRCH);
	await_told("e");
	teardown();
}
END_TEST

START_TEST(a_snapshot_is_loaded_instead)
{
	const struct ip any = {0};
	char path[128];

	setup(LASTS);
	vm.parts.snapshot = strdup("/snapshots/x");
	ck_assert_int_eq(vm_attach(&vm, &any), 0);
	vm_start(&vm, true);
	await_asked("r");
	snprintf(path, sizeof path, "%s/vmstate", "/snapshots/x");
	ck_assert_str_eq(restored_with->vmstate, path);
	ck_assert_str_eq(restored_with->mem, "/snapshots/x/mem");
	ck_assert_str_eq(restored_with->tap, "vmtap0-2");
	api_reason = "PUT /snapshot/load: no";
	api_ends(-EREMOTEIO);
	await_told("e");
	ck_assert_int_eq(strncmp(why, "cannot restore: PUT /snapshot/load: no", 38), 0);
	teardown();
	setup(LASTS);
	vm.parts.snapshot = strdup("/snapshots/x");
	ck_assert_int_eq(vm_attach(&vm, &any), 0);
	vm_start(&vm, false);
	await_asked("r");
	ck_assert_ptr_null(restored_with->tap);
	api_ends(0);
	vm_kill(&vm);
	await_told("ue");
	teardown();
}
END_TEST

START_TEST(a_check_tells_what_is_missing)
{
	setup(LASTS);
	config.binary = "/nowhere/firecracker";
	vm_check(&vm);
	await_told("c");
	ck_assert_str_eq(why, "no Firecracker: /nowhere/firecracker: No such file or directory");
	fault_arm("fork", 1, EAGAIN, false);
	vm_check(&vm);
	ck_assert(fault_disarm());
	ck_assert_str_eq(told, "");
	await_told("c");
	ck_assert_str_eq(why, "Resource temporarily unavailable");
	vm_check(&vm);
	vm_release(&vm); /* it was not started */
	await_told("r");
	teardown();
}
END_TEST

/* --- what goes wrong -------------------------------------------------------------------------- */

START_TEST(files_that_cannot_be_made_end_it)
{
	setup(LASTS);
	unlink(rootfs);
	vm_start(&vm, false);
	await_told("e");
	ck_assert_int_eq(strncmp(why, "cannot prepare: no root filesystem: /tmp/vm.", 44), 0);
	assert_asked("");
	release();
	teardown();
}
END_TEST

START_TEST(a_program_that_cannot_be_run_ends_it)
{
	setup(LASTS);
	write_file(program, "no script", 0644);
	vm_start(&vm, false);
	await_asked("bx");
	ck_assert_str_eq(told, "");
	api_ends(-ESRCH);
	await_told("e");
	ck_assert_str_eq(why, "Firecracker cannot be run: Permission denied");
	release();
	teardown();
}
END_TEST

START_TEST(what_cannot_be_forked_ends_it)
{
	setup(LASTS);
	fault_arm("fork", 1, EAGAIN, false);
	vm_start(&vm, false);
	ck_assert(fault_disarm());
	ck_assert_str_eq(told, "");
	await_told("e");
	ck_assert_str_eq(why, "cannot prepare: Resource temporarily unavailable");
	release();
	teardown();
	setup(LASTS);
	vm_start(&vm, false);
	fault_arm("fork", 1, EAGAIN, false); /* of the program */
	await_told("e");
	ck_assert(fault_disarm());
	ck_assert_str_eq(why, "cannot start Firecracker: Resource temporarily unavailable");
	release();
	teardown();
}
END_TEST

START_TEST(a_process_that_dies_tells_its_last_words)
{
	setup("echo first; echo second >&2; echo third >&2; exit 7");
	vm_start(&vm, false);
	await_asked("bx");
	api_ends(-ESRCH);
	await_told("e");
	/* What it writes to its standard output is the guest's console. */
	ck_assert_str_eq(why, "Firecracker: ended with status 7; its last words: second|third");
	release();
	teardown();
}
END_TEST

START_TEST(a_process_that_dies_later_tells_them_too)
{
	char path[80];

	setup("trap 'echo ouch >&2; kill -9 $$' TERM\n"
	      "echo >\"$0.set\"\n"
	      "while :; do sleep 0.01; done");
	snprintf(path, sizeof path, "%s.set", program);
	be_up();
	await_file(path);
	ck_assert_int_eq(kill(vm.pid, SIGTERM), 0);
	await_told("e");
	ck_assert_str_eq(why, "Firecracker: ended by signal 9; its last words: ouch");
	release();
	teardown();
}
END_TEST

START_TEST(a_boot_that_is_refused_ends_it)
{
	setup(LASTS);
	vm_start(&vm, false);
	await_asked("b");
	api_reason = "PUT /boot-source: no such kernel";
	api_ends(-EREMOTEIO);
	await_told("e");
	ck_assert_str_eq(why, "cannot boot: PUT /boot-source: no such kernel");
	release();
	teardown();
	setup(LASTS);
	api_reason = NULL;
	api_rc = -ENOMEM;
	vm_start(&vm, false);
	await_told("e");
	ck_assert_str_eq(why, "cannot boot: Cannot allocate memory");
	teardown();
}
END_TEST

START_TEST(an_owner_may_end_one_that_does_not_do)
{
	setup(LASTS);
	be_up();
	vm_fail(&vm, "cannot resume", -ETIMEDOUT);
	vm_fail(&vm, "cannot resume", -ETIMEDOUT);
	await_told("e");
	ck_assert_str_eq(why, "cannot resume: Connection timed out");
	release();
	teardown();
}
END_TEST

/* --- its end ---------------------------------------------------------------------------------- */

START_TEST(a_guest_shuts_down_by_itself)
{
	setup("exec sleep 0.05");
	be_up();
	vm_shutdown(&vm, 10000);
	assert_asked("d");
	api_ends(0);
	await_told("e");
	ck_assert_str_eq(why, "");
	release();
	teardown();
}
END_TEST

START_TEST(a_guest_that_does_not_is_killed)
{
	setup(LASTS);
	be_up();
	vm_shutdown(&vm, 20);
	assert_asked("d");
	api_ends(0);
	await_told("e");
	ck_assert_str_eq(why, "");
	release();
	teardown();
}
END_TEST

START_TEST(a_guest_that_cannot_be_asked_is_killed_at_once)
{
	setup(LASTS);
	be_up();
	vm_shutdown(&vm, 100000);
	assert_asked("d");
	api_ends(-EREMOTEIO);
	await_told("e");
	ck_assert_str_eq(why, "");
	release();
	teardown();
}
END_TEST

START_TEST(one_that_has_died_is_not_asked)
{
	siginfo_t info;

	setup(LASTS);
	be_up();
	ck_assert_int_eq(kill(vm.pid, SIGKILL), 0);
	ck_assert_int_eq(waitid(P_PID, (id_t)vm.pid, &info, WEXITED | WNOWAIT), 0);
	fault_arm("waitpid", 2, ECHILD, false); /* so that it alone is reaped, and not its reader */
	reaper_drain(&reaper);
	ck_assert(fault_disarm());
	ck_assert_str_eq(told, ""); /* its last words are being read */
	vm_shutdown(&vm, 1);
	turns(20);
	await_told("e");
	assert_asked("");
	ck_assert_str_eq(why, "");
	release();
	teardown();
}
END_TEST

START_TEST(it_is_killed_wherever_it_is)
{
	pid_t maker;

	setup(LASTS);
	vm_start(&vm, false); /* its files are being made */
	maker = vm.job.worker.child.pid;
	vm_kill(&vm);
	ck_assert_str_eq(told, "");
	await_told("e");
	ck_assert_int_lt(kill(maker, 0), 0); /* it makes no more of them */
	ck_assert_str_eq(why, "");
	release();
	teardown();
	setup(LASTS);
	vm_start(&vm, false);
	await_asked("b");
	vm_kill(&vm); /* it is being booted */
	await_asked("x");
	ck_assert_str_eq(told, "");
	api_ends(-ESRCH);
	await_told("e");
	release();
	teardown();
	setup("exit 1");
	vm_start(&vm, false);
	await_asked("bx");
	api_ends(-ESRCH);
	vm_kill(&vm); /* its last words are being read */
	await_told("e");
	release();
	teardown();
}
END_TEST

START_TEST(a_process_that_does_not_die_is_given_up)
{
	setup(LASTS);
	host.kill_ms = 20;
	be_up();
	vm_kill(&vm);
	for (unsigned i = 0; i < 100 && !told[0]; i++) /* its end is not noticed */
		ck_assert_int_eq(loop_turn(&loop, 5), 0);
	await_told("e");
	ck_assert_int_eq(vm.child.pid, 0);
	release();
	teardown();
}
END_TEST

START_TEST(a_tap_that_stays_does_not_hold_it_up)
{
	const struct ip any = {0};

	setup(LASTS);
	ck_assert_int_eq(vm_attach(&vm, &any), 0);
	be_up();
	vm_kill(&vm);
	await_told("e");
	unplug_rc = -EPERM;
	release();
	teardown();
}
END_TEST

START_TEST(it_is_dropped_without_a_word)
{
	setup(LASTS);
	be_up();
	vm_drop(&vm);
	assert_asked("D");
	loop_bury(&loop);
	turns(20);
	ck_assert_str_eq(told, "");
	teardown();
}
END_TEST

/* --- the jailer ------------------------------------------------------------------------------- */

static char base[64];

static void setup_jailer(const char *script)
{
	struct vm_parts parts;

	setup(script);
	snprintf(base, sizeof base, "%s/jail", dir);
	config.jailer.binary = program;
	config.jailer.uid = geteuid();
	config.jailer.gid = getegid();
	config.jailer.chroot_base_dir = base;
	config.jailer.new_pid_ns = true;
	config.binary = "/bin/firecracker";
	vm_done(&vm);
	parts = (struct vm_parts){
	    .kernel = strdup(rootfs), .rootfs = strdup(rootfs), .boot_args = strdup("")};
	ck_assert_int_eq(vm_init(&vm, &host, &ops, "one", "one", &parts), 0);
	api_path = "/jail/firecracker/one/root/run/firecracker.sock";
}

/* It leaves the VM behind in a PID namespace, and its pid in a file. */
START_TEST(one_that_the_jailer_left_behind_is_watched)
{
	setup_jailer("cd \"${0%/*}/jail/firecracker/one/root\"\n"
		     "/bin/sh -c 'while :; do sleep 0.1; done' one &\n"
		     "echo $! > firecracker.pid");
	vm_start(&vm, false);
	await_asked("b");
	ck_assert_str_eq(booted_with->kernel, "/vmlinux");
	ck_assert_str_eq(booted_with->rootfs, "/rootfs.ext4");
	ck_assert_str_eq(booted_with->vsock, "/run/firecracker.vsock");
	api_ends(0);
	await_told("u");
	for (unsigned i = 0; i < 10000 && vm.child.pid; i++)
		turns(1);
	ck_assert_int_eq(vm.child.pid, 0);
	ck_assert_int_gt(vm.pid, 0);
	vm_kill(&vm);
	await_told("e");
	ck_assert_str_eq(why, "");
	vm_release(&vm);
	await_told("r");
	teardown();
}
END_TEST

START_TEST(one_that_left_nobody_behind_has_ended)
{
	setup_jailer("exit 0");
	vm_start(&vm, false);
	await_asked("bx");
	api_ends(-ESRCH);
	await_told("e");
	ck_assert_str_eq(why, "Firecracker: ended with status 0");
	teardown();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    it_boots_and_ends_when_it_is_killed,
	    without_a_network_it_has_none,
	    boot_arguments_that_have_an_address_keep_it,
	    a_snapshot_is_loaded_instead,
	    a_check_tells_what_is_missing,
	    files_that_cannot_be_made_end_it,
	    a_program_that_cannot_be_run_ends_it,
	    what_cannot_be_forked_ends_it,
	    a_process_that_dies_tells_its_last_words,
	    a_process_that_dies_later_tells_them_too,
	    a_boot_that_is_refused_ends_it,
	    an_owner_may_end_one_that_does_not_do,
	    a_guest_shuts_down_by_itself,
	    a_guest_that_does_not_is_killed,
	    a_guest_that_cannot_be_asked_is_killed_at_once,
	    one_that_has_died_is_not_asked,
	    it_is_killed_wherever_it_is,
	    a_process_that_does_not_die_is_given_up,
	    a_tap_that_stays_does_not_hold_it_up,
	    it_is_dropped_without_a_word,
	    one_that_the_jailer_left_behind_is_watched,
	    one_that_left_nobody_behind_has_ended,
	    NULL,
	};

	return suite_of("vm", tests);
}
