#include "sandbox/rootfs.h"

#include "fault.h"
#include "suite.h"
#include "sys/fs.h"
#include "sys/image.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LAYER "/layers/a"
#define CACHE ROOTFS_BIN_DIR "/rootfs-"

static char out[256], why[256];

/* --- a root directory of its own, in which the programs of this machine are ---------------------
 */

static void write_file(const char *path, const char *text, mode_t mode)
{
	ck_assert_int_eq(fs_replace_file(path, span_str(text), mode), 0);
}

static void bind(const char *path)
{
	char to[PATH_MAX];

	snprintf(to, sizeof to, "/mnt%s", path);
	ck_assert_int_eq(fs_make_dirs(to, 0755), 1);
	ck_assert_int_eq(mount(path, to, NULL, MS_BIND | MS_REC, NULL), 0);
}

static bool can_loop(void)
{
	return access("/dev/loop-control", W_OK) == 0 && access("/usr/sbin/mkfs.ext4", X_OK) == 0;
}

static bool setup(void)
{
	static const char *const links[] = {"bin", "sbin", "lib", "lib64"};
	char target[64], at[64], cwd[PATH_MAX - 8];

	if (unshare(CLONE_NEWNS) < 0 || !can_loop()) {
		skip_test("an image needs root, loop devices and mkfs.ext4");
		return false;
	}
	ck_assert_int_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	ck_assert_int_eq(mount("tmpfs", "/mnt", "tmpfs", 0, "mode=0755"), 0);
	bind("/usr");
	bind("/dev");
	bind("/proc");
	bind(getcwd(cwd, sizeof cwd)); /* to where coverage is written */
	for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
		snprintf(target, sizeof target, "usr/%s", links[i]);
		snprintf(at, sizeof at, "/mnt/%s", links[i]);
		ck_assert_int_eq(symlink(target, at), 0);
	}
	ck_assert_int_eq(chroot("/mnt"), 0);
	ck_assert_int_eq(chdir("/"), 0);
	ck_assert_int_ge(fs_make_dirs(ROOTFS_BIN_DIR, 0755), 0);
	ck_assert_int_ge(fs_make_dirs(LAYER "/etc", 0755), 0);
	write_file(LAYER "/etc/name", "a layer", 0644);
	write_file(ROOTFS_VM_AGENT, "the agent", 0600);
	return true;
}

/* What stands for oci2rootfs: it notes its runs, and does this. */
static void program(const char *does)
{
	char text[512];

	snprintf(text, sizeof text,
	    "#!/bin/sh\nexport PATH=/usr/sbin:/usr/bin\necho \"$*\" >> /runs\n[ \"$2\" = --output "
	    "] "
	    "|| exit 9\n%s\n",
	    does);
	write_file(ROOTFS_PROGRAM, text, 0755);
}

static void works(void)
{
	program("truncate -s 4M $3 && mkfs.ext4 -q -F -O ^has_journal -d $1 $3 2>/dev/null");
}

static unsigned runs(void)
{
	char text[4096];
	ssize_t n = fs_read_file("/runs", text, sizeof text);
	unsigned lines = 0;

	for (ssize_t i = 0; i < n; i++)
		lines += text[i] == '\n';
	return lines;
}

static int convert(const char *directory)
{
	out[0] = why[0] = '\0';
	return rootfs_convert(directory, out, sizeof out, why, sizeof why);
}

static void check_refused(int rc, const char *text)
{
	ck_assert_int_eq(convert(LAYER), rc);
	ck_assert_msg(strstr(why, text) != NULL, "\"%s\" does not hold \"%s\"", why, text);
	ck_assert_ptr_null(strchr(why, '\n'));
	ck_assert_str_eq(out, "");
}

/* What a file in an image holds. */
static const char *inside(const char *image, const char *path)
{
	static char text[64];
	int root = image_mount(image, "ext4");
	int fd;
	ssize_t n;

	ck_assert_int_ge(root, 0);
	fd = openat(root, path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	n = read(fd, text, sizeof text - 1);
	ck_assert_int_ge(n, 0);
	text[n] = '\0';
	close(fd);
	close(root);
	return text;
}

/* Whether nothing but images and programs is left there. */
static bool is_tidy(void)
{
	return system("cd " ROOTFS_BIN_DIR " && test -z \"$(ls -A | grep -v -e '\\.ext4$' -e "
		      "oci2rootfs -e vm-agent)\"") == 0;
}

/* --- the cases ----------------------------------------------------------------------------------
 */

START_TEST(a_layer_becomes_an_image_with_vm_agent_in_it)
{
	unsigned fds;
	struct stat st;
	int root;

	if (!setup())
		return;
	works();
	fds = fault_fds();
	ck_assert_int_eq(convert(LAYER), 0);
	ck_assert_str_eq(why, "");
	ck_assert_int_eq(strncmp(out, CACHE, strlen(CACHE)), 0);
	ck_assert_uint_eq(strlen(out), strlen(CACHE) + 16 + strlen(".ext4"));
	ck_assert_str_eq(inside(out, "etc/name"), "a layer");
	ck_assert_str_eq(inside(out, "sbin/vm-agent"), "the agent");
	root = image_mount(out, "ext4");
	ck_assert_int_eq(fstatat(root, "sbin/vm-agent", &st, 0), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0755);
	close(root);
	ck_assert_uint_eq(fault_fds(), fds);
	ck_assert(is_tidy());
}
END_TEST

START_TEST(an_image_that_is_there_is_used_again)
{
	char first[sizeof out];

	if (!setup())
		return;
	works();
	ck_assert_int_eq(convert(LAYER), 0);
	strcpy(first, out);
	ck_assert_int_eq(convert(LAYER), 0);
	ck_assert_str_eq(out, first);
	ck_assert_uint_eq(runs(), 1);
	ck_assert_int_ge(fs_make_dirs("/layers/b", 0755), 0);
	ck_assert_int_eq(convert("/layers/b"), 0);
	ck_assert_str_ne(out, first);
	ck_assert_uint_eq(runs(), 2);
	write_file(first, "no image", 0644);
	ck_assert_int_eq(convert(LAYER), 0);
	ck_assert_uint_eq(runs(), 3);
	ck_assert_str_eq(inside(first, "etc/name"), "a layer");
}
END_TEST

START_TEST(those_who_want_the_same_one_make_it_once)
{
	enum { PROCESSES = 6 };
	pid_t pids[PROCESSES];

	if (!setup())
		return;
	program("sleep 0.2; truncate -s 4M $3 && mkfs.ext4 -q -F -d $1 $3 2>/dev/null");
	for (size_t i = 0; i < PROCESSES; i++) {
		pids[i] = fork();
		ck_assert_int_ge(pids[i], 0);
		if (pids[i] == 0)
			_exit(convert(LAYER) == 0 ? 0 : 1);
	}
	for (size_t i = 0; i < PROCESSES; i++) {
		int status;

		ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
		ck_assert_int_eq(status, 0);
	}
	ck_assert_uint_eq(runs(), 1);
	ck_assert(is_tidy());
}
END_TEST

START_TEST(one_that_is_killed_leaves_nothing_that_is_taken_for_an_image)
{
	pid_t pid;
	int status;

	if (!setup())
		return;
	program("truncate -s 4M $3 && mkfs.ext4 -q -F -d $1 $3 2>/dev/null; : >/made; sleep 60");
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		setpgid(0, 0);
		convert(LAYER);
		_exit(1);
	}
	while (access("/made", F_OK) < 0)
		usleep(10000);
	ck_assert_int_eq(kill(-pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	works();
	ck_assert_int_eq(convert(LAYER), 0);
	ck_assert_uint_eq(runs(), 2);
	ck_assert_str_eq(inside(out, "etc/name"), "a layer");
	ck_assert(is_tidy());
}
END_TEST

START_TEST(what_cannot_be_converted_says_why)
{
	if (!setup())
		return;
	check_refused(-ENOENT, "cannot run " ROOTFS_PROGRAM);
	program("echo one >&2; echo 'no such thing' >&2; exit 3");
	check_refused(-EIO, "failed with status 3: no such thing");
	program("exit 4");
	check_refused(-EIO, "failed with status 4");
	program("kill -9 $$");
	check_refused(-EIO, "killed by signal 9");
	program("exit 0");
	check_refused(-EIO, "no ext4 image");
	program("echo rubbish > $3");
	check_refused(-EIO, "no ext4 image");
	program("head -c 4096 /dev/zero > $3; printf '\\123\\357' | dd of=$3 bs=1 seek=1080 "
		"conv=notrunc 2>/dev/null");
	check_refused(-EINVAL, "cannot mount");
	works();
	ck_assert_int_eq(unlink(ROOTFS_VM_AGENT), 0);
	check_refused(-ENOENT, "cannot copy " ROOTFS_VM_AGENT);
	ck_assert(is_tidy());
	ck_assert_int_eq(convert("/layers/none"), -ENOENT);
	ck_assert_int_eq(convert(LAYER "/etc/name"), -ENOTDIR);
}
END_TEST

/* Whatever the layer says, the agent's machine is not written to. */
START_TEST(links_in_a_layer_stay_in_it)
{
	struct stat st;

	if (!setup())
		return;
	works();
	ck_assert_int_ge(fs_make_dirs(LAYER "/usr/sbin", 0755), 0);
	ck_assert_int_eq(symlink("usr/sbin", LAYER "/sbin"), 0);
	ck_assert_int_eq(symlink("/etc/target", LAYER "/usr/sbin/vm-agent"), 0);
	ck_assert_int_eq(convert(LAYER), 0);
	ck_assert_str_eq(inside(out, "usr/sbin/vm-agent"), "the agent");
	ck_assert_int_lt(stat("/etc/target", &st), 0);

	ck_assert_int_ge(fs_make_dirs("/layers/b", 0755), 0);
	ck_assert_int_ge(fs_make_dirs("/outside", 0755), 0);
	ck_assert_int_eq(symlink("/outside", "/layers/b/sbin"), 0);
	ck_assert_int_lt(convert("/layers/b"), 0);
	ck_assert_int_lt(stat("/outside/vm-agent", &st), 0);
	ck_assert(is_tidy());
}
END_TEST

START_TEST(texts_are_cut_to_their_room)
{
	char small[8] = "1234567";

	if (!setup())
		return;
	ck_assert_int_lt(rootfs_convert("/none", out, sizeof out, small, sizeof small), 0);
	ck_assert_uint_lt(strlen(small), sizeof small);
	ck_assert_int_lt(rootfs_convert("/none", out, sizeof out, NULL, 0), 0);
	works();
	ck_assert_int_eq(
	    rootfs_convert(LAYER, small, sizeof small, why, sizeof why), -ENAMETOOLONG);
}
END_TEST

START_TEST(failing_calls_are_told)
{
	static const char *const calls[] = {"open", "fsync", "rename", "memfd_create", "fork"};

	if (!setup())
		return;
	works();
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		for (unsigned nth = 1; nth <= 3; nth++) {
			unsigned fds = fault_fds();
			int rc;

			fault_arm(calls[i], nth, EIO, false);
			rc = convert(LAYER);
			fault_disarm();
			ck_assert(rc == 0 || why[0]);
			ck_assert_uint_eq(fault_fds(), fds);
			ck_assert(is_tidy());
			unlink(out);
		}
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    a_layer_becomes_an_image_with_vm_agent_in_it,
	    an_image_that_is_there_is_used_again,
	    those_who_want_the_same_one_make_it_once,
	    one_that_is_killed_leaves_nothing_that_is_taken_for_an_image,
	    what_cannot_be_converted_says_why,
	    links_in_a_layer_stay_in_it,
	    texts_are_cut_to_their_room,
	    failing_calls_are_told,
	    NULL,
	};

	return suite_of("rootfs", tests);
}
