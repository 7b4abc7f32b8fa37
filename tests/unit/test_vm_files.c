#include "sandbox/vm_files.h"

#include "cell.h"
#include "fault.h"
#include "suite.h"
#include "sys/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>

static struct sandbox_config config;
static struct vm_home home;
static char dir[32];
static char buf[SANDBOX_WHY_BYTES];
static struct wr why;

static struct vm_parts parts;
static char kernel[64], rootfs[64];

static void put(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	ck_assert_msg(f, "%s", path);
	ck_assert_int_ge(fputs(text, f), 0);
	ck_assert_int_eq(fclose(f), 0);
}

static void setup(bool jailed)
{
	strcpy(dir, "/tmp/files.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(kernel, sizeof kernel, "%s/kernel", dir);
	snprintf(rootfs, sizeof rootfs, "%s/rootfs", dir);
	put(kernel, "kernel");
	put(rootfs, "disk");
	config = (struct sandbox_config){.binary = "/bin/firecracker", .data_dir = dir};
	if (jailed) {
		config.jailer.binary = "/bin/jailer";
		config.jailer.chroot_base_dir = dir;
		config.jailer.uid = geteuid() ? geteuid() : 1234;
		config.jailer.gid = geteuid() ? getegid() : 1235;
	}
	ck_assert_int_eq(vm_home_init(&home, &config, "one"), 0);
	parts = (struct vm_parts){.kernel = kernel, .rootfs = rootfs};
	why = wr_of(buf, sizeof buf);
}

static void teardown(void)
{
	char command[64];

	snprintf(command, sizeof command, "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
}

static const char *reason(void)
{
	wr_nul(&why);
	return buf;
}

static void assert_file(enum vm_file file, const char *text)
{
	char got[16] = "";
	vm_path path;
	struct stat st;
	int fd = open(vm_host_path(&home, file, path), O_RDONLY | O_CLOEXEC);

	ck_assert_msg(fd >= 0, "%s", path);
	ck_assert_int_eq(read(fd, got, sizeof got - 1), (ssize_t)strlen(text));
	ck_assert_str_eq(got, text);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(st.st_mode & 07777, 0600);
	if (config.jailer.binary)
		ck_assert_uint_eq(st.st_uid, config.jailer.uid);
	close(fd);
}

/* --- names ------------------------------------------------------------------------------------ */

START_TEST(paths_are_those_that_each_side_sees)
{
	vm_path path;

	config = (struct sandbox_config){.binary = "/x/firecracker", .data_dir = "/d"};
	ck_assert_int_eq(vm_home_init(&home, &config, "a_b"), 0);
	ck_assert_str_eq(home.dir, "/d/sandboxes/a_b");
	ck_assert_str_eq(vm_host_path(&home, VM_VSOCK, path), "/d/sandboxes/a_b/firecracker.vsock");
	ck_assert_str_eq(vm_inner_path(&home, VM_MEM, path), "/d/sandboxes/a_b/mem");
	config.jailer.binary = "/jailer";
	config.jailer.chroot_base_dir = "/j";
	ck_assert_int_eq(vm_home_init(&home, &config, "a_b"), 0);
	ck_assert_str_eq(home.dir, "/j/firecracker/a-b");
	ck_assert_str_eq(
	    vm_host_path(&home, VM_VSOCK, path), "/j/firecracker/a-b/root/run/firecracker.vsock");
	ck_assert_str_eq(vm_inner_path(&home, VM_VSOCK, path), "/run/firecracker.vsock");
	config.binary = "firecracker";
	ck_assert_int_eq(vm_home_init(&home, &config, "c"), 0);
	ck_assert_str_eq(home.dir, "/j/firecracker/c");
}
END_TEST

START_TEST(paths_that_are_too_long_are_refused)
{
	static char data_dir[2 * VM_PATH_BYTES];
	char id[SANDBOX_ID_MAX + 1];

	memset(id, 'i', sizeof id - 1);
	id[sizeof id - 1] = '\0';
	config = (struct sandbox_config){.binary = "/fc", .data_dir = "/var/lib/arcbox"};
	ck_assert_int_eq(vm_home_init(&home, &config, id), -ENAMETOOLONG); /* of the socket */
	id[63] = '\0';
	ck_assert_int_eq(vm_home_init(&home, &config, id), 0);
	memset(data_dir, 'd', sizeof data_dir - 1);
	config.data_dir = data_dir;
	for (size_t n = VM_PATH_BYTES - 40; n < VM_PATH_BYTES + 2; n++) {
		data_dir[n] = '\0';
		ck_assert_int_eq(vm_home_init(&home, &config, "one"), -ENAMETOOLONG);
		data_dir[n] = 'd';
	}
}
END_TEST

/* --- check ------------------------------------------------------------------------------------ */

static void assert_check(int rc, const char *text)
{
	why = wr_of(buf, sizeof buf);
	ck_assert_int_eq(vm_files_check(&home, &parts, &why), rc);
	ck_assert_str_eq(reason(), text);
}

START_TEST(what_is_missing_is_told)
{
	if (!cell_enter())
		return;
	config = (struct sandbox_config){.binary = "/firecracker", .data_dir = "/d"};
	parts = (struct vm_parts){.kernel = kernel, .rootfs = rootfs};
	strcpy(kernel, "/kernel");
	strcpy(rootfs, "/rootfs");
	ck_assert_int_eq(vm_home_init(&home, &config, "one"), 0);
	assert_check(-ENOENT, "no Firecracker: /firecracker: No such file or directory");
	cell_write("/firecracker", "");
	assert_check(-ENOENT, "no Firecracker: /firecracker: No such file or directory");
	ck_assert_int_eq(chmod("/firecracker", 0755), 0);
	assert_check(-ENOENT, "no KVM: /dev/kvm: No such file or directory");
	config.jailer.binary = "/jailer";
	assert_check(-ENOENT, "no jailer: /jailer: No such file or directory");
	config.jailer.binary = NULL;
	ck_assert_int_eq(mkdir("/dev", 0755), 0);
	cell_write("/dev/kvm", "");
	assert_check(-ENOENT, "no kernel: /kernel: No such file or directory");
	cell_write("/kernel", "");
	assert_check(-ENOENT, "no root filesystem: /rootfs: No such file or directory");
	cell_write("/rootfs", "");
	assert_check(0, "");
	unlink("/kernel"); /* of which a snapshot has no need */
	parts.snapshot = kernel;
	assert_check(0, "");
}
END_TEST

/* --- make and remove -------------------------------------------------------------------------- */

START_TEST(files_are_made_and_removed)
{
	setup(false);
	ck_assert_int_eq(vm_files_make(&home, &parts, NULL, &why), 0);
	assert_file(VM_LOG, "");
	assert_file(VM_METRICS, "");
	assert_file(VM_ROOTFS, "disk");
	ck_assert_int_eq(vm_files_make(&home, &parts, NULL, &why), -EEXIST);
	ck_assert_ptr_nonnull(strstr(reason(), "/sandboxes/one: File exists"));
	ck_assert_int_eq(vm_files_remove(&home, &why), 0);
	ck_assert_int_ne(access(home.dir, F_OK), 0);
	ck_assert_int_eq(vm_files_remove(&home, &why), 0);
	teardown();
}
END_TEST

START_TEST(a_jail_has_copies_that_its_user_owns)
{
	vm_path path;
	struct stat st;

	setup(true);
	ck_assert_int_eq(vm_files_make(&home, &parts, NULL, &why), 0);
	assert_file(VM_LOG, "");
	assert_file(VM_ROOTFS, "disk");
	assert_file(VM_KERNEL, "kernel");
	ck_assert(text_join(path, sizeof path, home.root, "/run"));
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_uid, config.jailer.uid);
	ck_assert_uint_eq(st.st_gid, config.jailer.gid);
	ck_assert_int_eq(stat(home.root, &st), 0);
	ck_assert_uint_eq(st.st_uid, config.jailer.uid);
	ck_assert_int_eq(vm_files_remove(&home, &why), 0);
	ck_assert_int_ne(access(home.dir, F_OK), 0);
	teardown();
}
END_TEST

START_TEST(a_jail_has_a_copy_of_the_snapshot)
{
	char vmstate[64], mem[64];

	setup(true);
	snprintf(vmstate, sizeof vmstate, "%s/vmstate", dir);
	snprintf(mem, sizeof mem, "%s/mem", dir);
	put(vmstate, "state");
	parts.snapshot = dir;
	ck_assert_int_eq(vm_files_make(&home, &parts, NULL, &why), -ENOENT);
	ck_assert_int_eq(vm_files_remove(&home, &why), 0);
	put(mem, "memory");
	ck_assert_int_eq(vm_files_make(&home, &parts, NULL, &why), 0);
	assert_file(VM_VMSTATE, "state");
	assert_file(VM_MEM, "memory");
	teardown();
}
END_TEST

static int convert(const char *directory, char *out, size_t cap, char *text, size_t cap_text)
{
	ck_assert_str_eq(directory, dir);
	if (!rootfs[0]) {
		snprintf(text, cap_text, "mkfs failed");
		return -EIO;
	}
	snprintf(out, cap, "%s", rootfs);
	return 0;
}

START_TEST(a_directory_is_converted_first)
{
	setup(false);
	parts.rootfs = dir;
	ck_assert_int_eq(vm_files_make(&home, &parts, convert, &why), 0);
	assert_file(VM_ROOTFS, "disk");
	ck_assert_int_eq(vm_files_remove(&home, &why), 0);
	rootfs[0] = '\0';
	ck_assert_int_eq(vm_files_make(&home, &parts, convert, &why), -EIO);
	ck_assert_ptr_nonnull(strstr(reason(), ": mkfs failed"));
	ck_assert_int_eq(vm_files_remove(&home, &why), 0);
	ck_assert_int_eq(vm_files_make(&home, &parts, NULL, &why), -EISDIR);
	teardown();
}
END_TEST

static void fails_each(const char *call, int err)
{
	int rc = 0;

	FAULT_EACH(call, err)
	{
		struct wr none = wr_of(buf, sizeof buf);
		unsigned n = fault_fds();

		why = wr_of(buf, sizeof buf);
		rc = vm_files_make(&home, &parts, NULL, &why);
		ck_assert(rc == 0 || (rc == -err && why.n > 0));
		ck_assert_uint_eq(fault_fds(), n);
		vm_files_remove(&home, &none); /* which the fault may reach, too */
		vm_files_remove(&home, &none);
	}
	ck_assert_int_eq(rc, 0);
}

START_TEST(what_cannot_be_made_is_told)
{
	setup(false);
	fails_each("open", EMFILE);
	fails_each("fstat", EIO);
	parts.rootfs = kernel;
	unlink(kernel);
	why = wr_of(buf, sizeof buf);
	ck_assert_int_eq(vm_files_make(&home, &parts, NULL, &why), -ENOENT);
	ck_assert_ptr_nonnull(strstr(reason(), "no root filesystem: "));
	ck_assert_int_eq(vm_files_remove(&home, &why), 0);
	teardown();
}
END_TEST

/* --- what an earlier agent left --------------------------------------------------------------- */

START_TEST(all_directories_of_vms_are_removed)
{
	struct vm_home other;
	char keep[64];

	setup(false);
	ck_assert_uint_eq(vm_files_clean(&config), 0);
	ck_assert_int_eq(vm_files_make(&home, &parts, NULL, &why), 0);
	ck_assert_int_eq(vm_home_init(&other, &config, ".two"), 0);
	ck_assert_int_eq(vm_files_make(&other, &parts, NULL, &why), 0);
	snprintf(keep, sizeof keep, "%s/sandboxes/a file", dir);
	put(keep, "");
	ck_assert_uint_eq(vm_files_clean(&config), 2);
	ck_assert_int_ne(access(home.dir, F_OK), 0);
	ck_assert_int_ne(access(other.dir, F_OK), 0);
	ck_assert_int_eq(access(keep, F_OK), 0);
	ck_assert_int_eq(access(kernel, F_OK), 0);
	teardown();
}
END_TEST

/* A process that has the word among its arguments, by now. */
static pid_t process(char *word)
{
	char *argv[] = {"sh", "-c", "while :; do sleep 0.1; done", word, NULL};
	char path[64], arguments[256];
	pid_t pid;

	ck_assert_int_eq(posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ), 0);
	snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
	while (fs_read_file(path, arguments, sizeof arguments) == 0)
		sched_yield(); /* its exec has begun, but not ended */
	return pid;
}

/* As one is for a moment of its exec. */
static pid_t without_arguments(void)
{
	pid_t pid = fork();
	siginfo_t info;

	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		_exit(0);
	ck_assert_int_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	return pid;
}

static void write_pid(pid_t pid)
{
	char text[32];
	vm_path path;

	ck_assert(text_join(path, sizeof path, home.root, "/firecracker.pid"));
	snprintf(text, sizeof text, "%d\n", (int)pid);
	put(path, text);
}

START_TEST(a_jailed_vm_is_known_by_its_pid_and_its_name)
{
	pid_t one, two, bare = without_arguments();
	int status;

	setup(true);
	ck_assert_int_eq(vm_files_make(&home, &parts, NULL, &why), 0);
	ck_assert_int_eq(vm_files_pid(&config, home.dir), 0);
	one = process("one");
	two = process("two");
	write_pid(two); /* the number was used again */
	ck_assert_int_eq(vm_files_pid(&config, home.dir), 0);
	write_pid(1);
	ck_assert_int_eq(vm_files_pid(&config, home.dir), 0);
	write_pid(bare);
	ck_assert_int_eq(vm_files_pid(&config, home.dir), bare);
	ck_assert_int_eq(waitpid(bare, &status, 0), bare);
	ck_assert_int_eq(vm_files_pid(&config, home.dir), 0);
	write_pid(one);
	ck_assert_int_eq(vm_files_pid(&config, home.dir), one);
	ck_assert_uint_eq(vm_files_clean(&config), 1);
	ck_assert_int_eq(waitpid(one, &status, 0), one);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	ck_assert_int_eq(waitpid(two, &status, WNOHANG), 0);
	ck_assert_int_eq(kill(two, SIGKILL), 0);
	ck_assert_int_eq(waitpid(two, &status, 0), two);
	ck_assert_int_ne(access(home.dir, F_OK), 0);
	teardown();
}
END_TEST

START_TEST(parts_are_freed_once)
{
	struct vm_parts p = {.kernel = strdup("k"), .rootfs = strdup("r"), .vcpus = 1};

	vm_parts_done(&p);
	ck_assert_ptr_null(p.kernel);
	vm_parts_done(&p);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    paths_are_those_that_each_side_sees,
	    paths_that_are_too_long_are_refused,
	    what_is_missing_is_told,
	    files_are_made_and_removed,
	    a_jail_has_copies_that_its_user_owns,
	    a_jail_has_a_copy_of_the_snapshot,
	    a_directory_is_converted_first,
	    what_cannot_be_made_is_told,
	    all_directories_of_vms_are_removed,
	    a_jailed_vm_is_known_by_its_pid_and_its_name,
	    parts_are_freed_once,
	    NULL,
	};

	return suite_of("vm_files", tests);
}
