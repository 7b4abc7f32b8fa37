#include "runtime/volume.h"

#include "base/log.h"
#include "cell.h"
#include "fault.h"
#include "sys/btrfs.h"
#include "sys/fs.h"
#include "sys/module.h"
#include "sys/mount.h"
#include "sys/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* The device is a file, and mkfs.btrfs a script that writes the signature; Btrfs itself is a
 * stand-in made of directories and bind mounts, whose functions are defined here. Real ones are in
 * the tests that boot a machine. */

#define SUPER_AT 0x10040
#define DISK     "/disk"
#define DATA     "/run/arcbox/data"

enum { DISK_BYTES = 8 << 20, SETUP_MS = 5000, TURNS = 1000 };

/* Shared with the worker, which is another process. */
static struct stage {
	int mount_rc;            /* of the next mounts, while there are any to fail */
	unsigned mount_failures; /* how many */
	int subvolume_rc, cow_rc;
	bool no_btrfs;
	char log[4096]; /* what was done */
} * stage;

static void tell(const char *what, const char *a, const char *b)
{
	size_t n = strlen(stage->log);

	snprintf(stage->log + n, sizeof stage->log - n, "%s %s%s%s\n", what, a, b[0] ? " " : "", b);
}

/* --- the stand-in ---------------------------------------------------------------------------- */

bool mount_knows(const char *type)
{
	ck_assert_str_eq(type, "btrfs");
	return !stage->no_btrfs;
}

int module_load(const char *word)
{
	tell("module", word, "");
	return -ENOENT;
}

bool mount_is_there(const char *path)
{
	uint64_t attributes;

	return fs_attributes(path, &attributes) == 0 && (attributes & FS_MOUNT_ROOT);
}

int mount_ensure(const struct mount_spec *spec)
{
	const char *subvolume = strstr(spec->data, "subvol=@");
	char from[64] = DATA "/";

	ck_assert_str_eq(spec->source, DISK);
	ck_assert_str_eq(spec->type, "btrfs");
	if (mount_is_there(spec->target))
		return 0;
	tell(spec->flags & MS_NOATIME ? "mount noatime," : "mount", spec->data, spec->target);
	if (stage->mount_failures) {
		stage->mount_failures--;
		return stage->mount_rc;
	}
	ck_assert_int_ge(fs_make_dirs(spec->target, spec->mode), 0);
	if (!subvolume)
		return mount("tmpfs", spec->target, "tmpfs", 0, NULL) < 0 ? -errno : 1;
	strncat(from, subvolume + 7, strcspn(subvolume + 7, ","));
	return mount(from, spec->target, NULL, MS_BIND, NULL) < 0 ? -errno : 1;
}

bool btrfs_is_there(const char *path)
{
	return access("/foreign", F_OK) < 0 && strcmp(path, DATA) == 0;
}

int btrfs_make_subvolume(const char *dir, const char *name)
{
	char path[64];

	if (stage->subvolume_rc < 0)
		return stage->subvolume_rc;
	snprintf(path, sizeof path, "%s/%s", dir, name);
	if (mkdir(path, 0755) < 0)
		return errno == EEXIST ? 0 : -errno;
	tell("subvolume", name, "");
	return 1;
}

int btrfs_stop_cow(const char *dir)
{
	struct stat st;

	ck_assert_int_eq(stat(dir, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0700);
	tell("nocow", dir, "");
	return stage->cow_rc;
}

/* --- the set-up ------------------------------------------------------------------------------ */

static struct loop loop;
static struct reaper reaper;
static struct signals signals;
static struct volume volume;
static struct volume_conf conf = {DISK, "/mkfs", false, SETUP_MS};
static unsigned calls, fds;
static int result;
static char why[VOLUME_TEXT_BYTES];

static void on_signal(struct signals *s, int sig)
{
	(void)s;
	if (sig == SIGCHLD)
		reaper_drain(&reaper);
}

static void set_up(struct volume *v, int rc, const char *text)
{
	ck_assert_ptr_eq(v, &volume);
	calls++;
	result = rc;
	strcpy(why, text);
}

static void write_at(uint64_t at, const char *text)
{
	int fd = open(DISK, O_WRONLY | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, text, strlen(text), (off_t)at), (ssize_t)strlen(text));
	close(fd);
}

static void make_disk(void)
{
	cell_write(DISK, "");
	ck_assert_int_eq(truncate(DISK, DISK_BYTES), 0);
}

static void make_mkfs(const char *script)
{
	cell_write("/mkfs", script);
	ck_assert_int_eq(chmod("/mkfs", 0755), 0);
}

static const char good_mkfs[] =
    "#!/bin/sh\n"
    "echo $@ >>/formatted; echo noise; echo nothing wrong >&2\n"
    "printf _BHRfS_M | dd of=$2 bs=1 seek=65600 conv=notrunc status=none\n";

/* A cell with the shell of the host in it, a blank disk and a mkfs that works. */
static bool begin(void)
{
	int usr = open_tree(AT_FDCWD, "/usr", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	struct span bad;

	if (!cell_enter())
		return false;
	ck_assert_int_eq(mkdir("/usr", 0755), 0);
	ck_assert_int_eq(move_mount(usr, "", AT_FDCWD, "/usr", MOVE_MOUNT_F_EMPTY_PATH), 0);
	close(usr);
	ck_assert_int_eq(symlink("usr/bin", "/bin"), 0);
	ck_assert_int_eq(symlink("usr/lib", "/lib"), 0);
	ck_assert_int_eq(symlink("usr/lib64", "/lib64"), 0);
	ck_assert_int_eq(mkdir("/dev", 0755), 0);
	ck_assert_int_eq(mknod("/dev/null", S_IFCHR | 0666, (1 << 8) + 3), 0);
	make_disk();
	make_mkfs(good_mkfs);
	stage =
	    mmap(NULL, sizeof *stage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert(stage != MAP_FAILED);
	fds = fault_fds();
	signals_block();
	ck_assert_int_eq(log_filter(span_str("off"), &bad), E_OK);
	ck_assert_int_eq(loop_init(&loop), 0);
	reaper_init(&reaper, &loop);
	ck_assert_int_eq(signals_init(&signals, &loop, on_signal), 0);
	return true;
}

static void turn_until_called(void)
{
	for (int i = 0; i < TURNS && !calls; i++)
		ck_assert_int_eq(loop_turn(&loop, 10), 0);
	ck_assert_uint_eq(calls, 1);
}

/* Sets the volume up; 0 or -errno, with `why`. */
static int run(void)
{
	calls = 0;
	stage->log[0] = '\0';
	ck_assert_int_eq(volume_setup(&volume, &reaper, &conf, set_up), 0);
	ck_assert_uint_eq(calls, 0);
	turn_until_called();
	ck_assert_uint_eq(strlen(why), strcspn(why, "\n"));
	return result;
}

static void end(void)
{
	ck_assert_uint_eq(reaper_count(&reaper), 0);
	signals_done(&signals);
	loop_done(&loop);
	ck_assert_uint_eq(fault_fds(), fds);
	ck_assert_uint_eq(fault_children(), 0);
}

static void check_failed(int rc, const char *text)
{
	ck_assert_int_eq(run(), rc);
	ck_assert_str_eq(why, text);
}

static bool was_formatted(void)
{
	return access("/formatted", F_OK) == 0;
}

/* --- what comes up --------------------------------------------------------------------------- */

#define ENGINE "compress=zstd:1,space_cache=v2,subvol="

static const char mounts[] =
    "mount compress=zstd:3,discard=async " DATA "\n"
    "subvolume @docker\n"
    "mount noatime, " ENGINE "@docker,discard=async /var/lib/docker\n"
    "nocow /var/lib/docker/containerd\n"
    "nocow /var/lib/docker/network\n"
    "nocow /var/lib/docker/builder\n"
    "nocow /var/lib/docker/buildkit\n"
    "nocow /var/lib/docker/image\n"
    "nocow /var/lib/docker/trust\n"
    "subvolume @containerd\n"
    "mount noatime, " ENGINE "@containerd,discard=async /var/lib/containerd\n"
    "nocow /var/lib/containerd/io.containerd.metadata.v1.bolt\n"
    "subvolume @k3s\n"
    "mount noatime, " ENGINE "@k3s,discard=async /var/lib/rancher/k3s\n"
    "subvolume @kubelet\n"
    "mount noatime, " ENGINE "@kubelet,discard=async /var/lib/kubelet\n"
    "subvolume @cni\n"
    "mount noatime, " ENGINE "@cni,discard=async /var/lib/cni\n";

START_TEST(a_blank_disk_is_formatted)
{
	if (!begin())
		return;
	ck_assert_int_eq(run(), 0);
	ck_assert_str_eq(why, "formatted " DISK "; mounted " DISK);
	ck_assert_str_eq(cell_read("/formatted"), "-f " DISK "\n");
	ck_assert_str_eq(stage->log, mounts);
	end();
}
END_TEST

START_TEST(a_volume_is_mounted_as_it_is)
{
	if (!begin())
		return;
	write_at(SUPER_AT, "_BHRfS_M");
	conf.force = true; /* that is not for what is ours */
	ck_assert_int_eq(run(), 0);
	ck_assert_str_eq(why, "mounted " DISK);
	ck_assert(!was_formatted());
	ck_assert_str_eq(stage->log, mounts);
	end();
}
END_TEST

START_TEST(a_second_time_changes_nothing)
{
	if (!begin())
		return;
	ck_assert_int_eq(run(), 0);
	ck_assert_int_eq(unlink(DISK), 0); /* it is not even looked at */
	ck_assert_int_eq(run(), 0);
	ck_assert_str_eq(why, "");
	ck_assert_ptr_null(strstr(stage->log, "mount"));
	ck_assert_ptr_null(strstr(stage->log, "subvolume"));
	end();
}
END_TEST

START_TEST(what_is_missing_is_made_up_for)
{
	if (!begin())
		return;
	ck_assert_int_eq(run(), 0);
	ck_assert_int_eq(umount("/var/lib/rancher/k3s"), 0);
	ck_assert_int_eq(run(), 0);
	ck_assert_ptr_nonnull(strstr(stage->log, "@k3s,discard=async /var/lib/rancher/k3s\n"));
	ck_assert_ptr_null(strstr(stage->log, "@docker"));
	end();
}
END_TEST

START_TEST(a_making_that_was_cut_off_is_begun_again)
{
	if (!begin())
		return;
	make_mkfs("#!/bin/sh\n"
		  "printf '!BHRfS_M' | dd of=$2 bs=1 seek=65600 conv=notrunc status=none\n"
		  "kill -9 $$\n");
	check_failed(-EIO, "cannot format " DISK ": /mkfs: it failed without a word");
	make_mkfs(good_mkfs);
	ck_assert_int_eq(run(), 0);
	ck_assert(was_formatted());
	end();
}
END_TEST

/* --- what is left alone ---------------------------------------------------------------------- */

#define REFUSAL(what)                                                                              \
	"cannot use " DISK " for the data volume: it holds " what "; attach another disk, or have" \
	" this one erased by arcbox.format=force on the kernel command line"

START_TEST(what_is_foreign_is_left_alone)
{
	if (!begin())
		return;
	write_at(0, "LUKS\xba\xbe");
	check_failed(-EEXIST, REFUSAL("a LUKS volume"));
	write_at(0, "______");
	write_at(DISK_BYTES - 512, "EFI PART");
	check_failed(-EEXIST, REFUSAL("a GPT partition table"));
	ck_assert(!was_formatted());
	ck_assert_str_eq(stage->log, "");
	conf.force = true;
	ck_assert_int_eq(run(), 0);
	ck_assert(was_formatted());
	end();
}
END_TEST

START_TEST(what_cannot_be_read_is_left_alone)
{
	if (!begin())
		return;
	conf.force = true;
	ck_assert_int_eq(truncate(DISK, 0), 0);
	check_failed(-ENOMEDIUM, "cannot read " DISK ": No medium found");
	ck_assert_int_eq(unlink(DISK), 0);
	check_failed(
	    -ENOENT, "cannot read " DISK ": there is no such device; attach a disk to the machine");
	ck_assert_int_eq(mkfifo(DISK, 0600), 0);
	check_failed(-ENOTBLK, "cannot read " DISK ": Block device required");
	ck_assert(!was_formatted());
	end();
}
END_TEST

/* With each call that fails it is formatted once at most, and never when it was not read. */
static void check_call(const char *call, int err)
{
	FAULT_EACH(call, err)
	{
		calls = 0;
		result = volume_setup(&volume, &reaper, &conf, set_up);
		if (result == 0)
			turn_until_called();
		ck_assert(result == 0 || why[0]);
		ck_assert(result <= 0);
		umount2(DATA, MNT_DETACH);
	}
}

START_TEST(calls_that_fail)
{
	if (!begin())
		return;
	check_call("open", EMFILE);
	check_call("malloc", ENOMEM);
	check_call("memfd_create", EMFILE);
	check_call("pipe2", EMFILE);
	check_call("fork", EAGAIN);
	check_call("waitpid", EINTR);
	ck_assert_str_eq(cell_read("/formatted"), "-f " DISK "\n");
	end();
}
END_TEST

/* --- steps that fail ------------------------------------------------------------------------- */

START_TEST(formatting_fails)
{
	if (!begin())
		return;
	make_mkfs("#!/bin/sh\necho first >&2\nprintf 'ERROR: no \\033[1mroom\\n\\n' >&2\nexit 3\n");
	check_failed(-EIO, "cannot format " DISK ": /mkfs: ERROR: no ?[1mroom");
	make_mkfs("#!/bin/sh\nexit 1\n");
	check_failed(-EIO, "cannot format " DISK ": /mkfs: it failed without a word");
	make_mkfs("#!/bin/sh\nfor i in $(seq 500); do printf 'a word '; done >&2; exit 1\n");
	ck_assert_int_eq(run(), -EIO);
	ck_assert_ptr_nonnull(strstr(why, "a word a word a word"));
	ck_assert_int_eq(unlink("/mkfs"), 0);
	check_failed(-ENOENT, "cannot format " DISK ": /mkfs: No such file or directory");
	ck_assert_str_eq(stage->log, "");
	make_mkfs(good_mkfs); /* a later one may succeed */
	ck_assert_int_eq(run(), 0);
	end();
}
END_TEST

START_TEST(formatting_hangs)
{
	if (!begin())
		return;
	make_mkfs("#!/bin/sh\necho $$ >/pid; exec sleep 60\n");
	conf.timeout_ms = 2000;
	check_failed(-ETIMEDOUT, "cannot format " DISK ": Connection timed out");
	for (int i = 0; i < TURNS && kill(atoi(cell_read("/pid")), 0) == 0; i++)
		ck_assert_int_eq(loop_turn(&loop, 10), 0);
	ck_assert_int_eq(kill(atoi(cell_read("/pid")), 0), -1);
	end();
}
END_TEST

START_TEST(mounting_fails)
{
	if (!begin())
		return;
	stage->mount_rc = -EINVAL;
	stage->mount_failures = 2;
	check_failed(-EINVAL, "cannot mount " DISK " at " DATA ": Invalid argument");
	ck_assert_str_eq(stage->log,
	    "mount compress=zstd:3,discard=async " DATA "\n"
	    "mount compress=zstd:3 " DATA "\n");
	stage->mount_rc = -EIO; /* it is ours, and damaged: it is not formatted again */
	stage->mount_failures = 1;
	check_failed(-EIO, "cannot mount " DISK " at " DATA ": Input/output error");
	ck_assert_str_eq(cell_read("/formatted"), "-f " DISK "\n");
	stage->mount_rc = -ENODEV;
	stage->mount_failures = 1;
	stage->no_btrfs = true;
	check_failed(-ENODEV, "cannot mount " DISK " at " DATA ": the kernel has no Btrfs");
	ck_assert_ptr_nonnull(strstr(stage->log, "module btrfs\n"));
	end();
}
END_TEST

START_TEST(discarding_is_left_out_where_it_cannot_be)
{
	if (!begin())
		return;
	stage->mount_rc = -EINVAL;
	stage->mount_failures = 1;
	ck_assert_int_eq(run(), 0);
	ck_assert_ptr_nonnull(strstr(stage->log, "mount compress=zstd:3 " DATA "\n"));
	end();
}
END_TEST

START_TEST(a_mount_of_somebody_elses)
{
	if (!begin())
		return;
	ck_assert_int_eq(fs_make_dirs("/var/lib/containerd", 0755), 1);
	ck_assert_int_eq(mount("tmpfs", "/var/lib/containerd", "tmpfs", 0, NULL), 0);
	check_failed(-EBUSY,
	    "cannot mount " DISK " @containerd at /var/lib/containerd: something "
	    "else is mounted there");
	cell_write("/foreign", "");
	check_failed(-EBUSY, "cannot mount " DISK " at " DATA ": something else is mounted there");
	end();
}
END_TEST

START_TEST(subvolumes_fail)
{
	if (!begin())
		return;
	stage->subvolume_rc = -EEXIST;
	check_failed(-EEXIST, "cannot make the subvolume @docker: something else has that name");
	stage->subvolume_rc = -EROFS;
	check_failed(-EROFS, "cannot make the subvolume @docker: Read-only file system");
	stage->subvolume_rc = 0;
	stage->cow_rc = -ENOSPC; /* that is no reason not to start */
	ck_assert_int_eq(run(), 0);
	ck_assert_ptr_nonnull(
	    strstr(why, "copies on write in /var/lib/docker/network: No space left on device"));
	end();
}
END_TEST

/* --- one at a time --------------------------------------------------------------------------- */

START_TEST(one_at_a_time)
{
	if (!begin())
		return;
	make_mkfs("#!/bin/sh\necho $$ >/pid; exec sleep 60\n");
	ck_assert_int_eq(volume_setup(&volume, &reaper, &conf, set_up), 0);
	ck_assert_int_eq(volume_setup(&volume, &reaper, &conf, set_up), -EBUSY);
	for (int i = 0; i < TURNS && (access("/pid", F_OK) < 0 || !atoi(cell_read("/pid"))); i++)
		ck_assert_int_eq(loop_turn(&loop, 10), 0);
	volume_cancel(&volume);
	volume_cancel(&volume);
	for (int i = 0; i < TURNS && kill(atoi(cell_read("/pid")), 0) == 0; i++)
		ck_assert_int_eq(loop_turn(&loop, 10), 0);
	ck_assert_uint_eq(calls, 0);
	make_mkfs(good_mkfs);
	ck_assert_int_eq(run(), 0);
	end();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    a_blank_disk_is_formatted,
	    a_volume_is_mounted_as_it_is,
	    a_second_time_changes_nothing,
	    what_is_missing_is_made_up_for,
	    a_making_that_was_cut_off_is_begun_again,
	    what_is_foreign_is_left_alone,
	    what_cannot_be_read_is_left_alone,
	    calls_that_fail,
	    formatting_fails,
	    formatting_hangs,
	    mounting_fails,
	    discarding_is_left_out_where_it_cannot_be,
	    a_mount_of_somebody_elses,
	    subvolumes_fail,
	    one_at_a_time,
	    NULL,
	};

	return suite_of("volume", tests);
}
