#include "sandbox/vm_files.h"

#include "base/parse.h"
#include "sys/addr.h"
#include "sys/clone.h"
#include "sys/fs.h"
#include "sys/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	REMOVE_TRIES = 20, /* while a process that was killed is still dying */
	REMOVE_WAIT_US = 50 * 1000,
	CMDLINE_BYTES = 4096,
};

/* --- names ------------------------------------------------------------------------------------ */

static bool is_jailed(const struct sandbox_config *c)
{
	return c->jailer.binary != NULL;
}

/* The name of the program of Firecracker's, without its directory. */
static const char *program_name(const struct sandbox_config *config)
{
	const char *slash = strrchr(config->binary, '/');

	return slash ? slash + 1 : config->binary;
}

/* Where the directories of all VMs are. False when the path is too long. */
static bool parent_of_homes(const struct sandbox_config *c, vm_path out)
{
	if (is_jailed(c))
		return text_join(
		    out, VM_PATH_BYTES, c->jailer.chroot_base_dir, "/", program_name(c));
	return text_join(out, VM_PATH_BYTES, c->data_dir, "/sandboxes");
}

static const char *name_of(const struct vm_home *h, enum vm_file file)
{
	static const char *const names[2][VM_FILES] = {
	    {
		[VM_API_SOCKET] = "/firecracker.sock",
		[VM_VSOCK] = "/firecracker.vsock",
		[VM_LOG] = "/firecracker.log",
		[VM_METRICS] = "/firecracker.metrics",
		[VM_ROOTFS] = "/rootfs.ext4",
		[VM_KERNEL] = "/vmlinux",
		[VM_VMSTATE] = "/vmstate",
		[VM_MEM] = "/mem",
	    },
	    {
		[VM_API_SOCKET] = "/run/firecracker.sock",
		[VM_VSOCK] = "/run/firecracker.vsock",
		[VM_LOG] = "/run/firecracker.log",
		[VM_METRICS] = "/run/firecracker.metrics",
		[VM_ROOTFS] = "/rootfs.ext4",
		[VM_KERNEL] = "/vmlinux",
		[VM_VMSTATE] = "/vmstate",
		[VM_MEM] = "/mem",
	    },
	};

	return names[is_jailed(h->config)][file];
}

/* All paths of a home fit: vm_home_init() has tried. */
const char *vm_host_path(const struct vm_home *h, enum vm_file file, vm_path buf)
{
	text_join(buf, VM_PATH_BYTES, h->root, name_of(h, file));
	return buf;
}

const char *vm_inner_path(const struct vm_home *h, enum vm_file file, vm_path buf)
{
	text_join(buf, VM_PATH_BYTES, is_jailed(h->config) ? "" : h->root, name_of(h, file));
	return buf;
}

const char *vm_jail(const struct vm_home *h)
{
	return is_jailed(h->config) ? h->root : NULL;
}

void vm_id(const char *id, sandbox_id out)
{
	size_t n = 0;

	for (; id[n] && n < SANDBOX_ID_MAX; n++) {
		uint8_t c = (uint8_t)id[n];
		bool letter = ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z';

		out[n] = (char)(letter || ascii_digit(c) ? c : '-');
	}
	out[n] = '\0';
}

int vm_home_init(struct vm_home *h, const struct sandbox_config *config, const char *id)
{
	sandbox_id jailed_id;
	vm_path parent, path;
	struct addr addr;

	h->config = config;
	vm_id(id, jailed_id);
	if (!parent_of_homes(config, parent) ||
	    !text_join(h->dir, sizeof h->dir, parent, "/", is_jailed(config) ? jailed_id : id) ||
	    !text_join(h->root, sizeof h->root, h->dir, is_jailed(config) ? "/root" : "") ||
	    !text_join(path, sizeof path, h->root, name_of(h, VM_METRICS)))
		return -ENAMETOOLONG;
	return addr_unix(vm_inner_path(h, VM_VSOCK, path), &addr) == E_OK ? 0 : -ENAMETOOLONG;
}

void vm_parts_done(struct vm_parts *p)
{
	free(p->kernel);
	free(p->rootfs);
	free(p->boot_args);
	free(p->snapshot);
	*p = (struct vm_parts){0};
}

/* --- before the start ------------------------------------------------------------------------- */

static int check_program(const char *what, const char *path, struct wr *why)
{
	return fs_is_program(path) ? 0 : wr_failure(why, what, path, -ENOENT);
}

static int check_readable(const char *what, const char *path, struct wr *why)
{
	return access(path, R_OK) == 0 ? 0 : wr_failure(why, what, path, -errno);
}

static int check_kvm(struct wr *why)
{
	return access("/dev/kvm", R_OK | W_OK) == 0
	    ? 0
	    : wr_failure(why, "no KVM:", "/dev/kvm", -errno);
}

int vm_files_check(const struct vm_home *h, const struct vm_parts *p, struct wr *why)
{
	const struct sandbox_config *c = h->config;
	int rc = check_program("no Firecracker:", c->binary, why);

	if (rc == 0 && is_jailed(c))
		rc = check_program("no jailer:", c->jailer.binary, why);
	if (rc == 0)
		rc = check_kvm(why);
	if (rc == 0 && !p->snapshot)
		rc = check_readable("no kernel:", p->kernel, why);
	if (rc == 0)
		rc = check_readable("no root filesystem:", p->rootfs, why);
	return rc;
}

/* --- making ----------------------------------------------------------------------------------- */

/* Gives what was made here to the user that the jailed VM runs as. */
static int give(const struct vm_home *h, const char *path, struct wr *why)
{
	if (!is_jailed(h->config) ||
	    chown(path, (uid_t)h->config->jailer.uid, (gid_t)h->config->jailer.gid) == 0)
		return 0;
	return wr_failure(why, "cannot give away", path, -errno);
}

static int make_empty(const struct vm_home *h, enum vm_file file, struct wr *why)
{
	vm_path path;
	int fd = open(vm_host_path(h, file, path), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return wr_failure(why, "cannot make", path, -errno);
	close(fd);
	return give(h, path, why);
}

static int copy(const struct vm_home *h, const char *from, enum vm_file file, struct wr *why)
{
	vm_path path;
	int rc = clone_file(from, vm_host_path(h, file, path), 0600);

	return rc < 0 ? wr_failure(why, "cannot copy", from, rc) : give(h, path, why);
}

static int make_directories(const struct vm_home *h, struct wr *why)
{
	bool jailed = is_jailed(h->config);
	vm_path path;
	int rc;

	text_join(path, sizeof path, h->root, jailed ? "/run" : "");
	rc = fs_make_dirs(path, 0700);
	if (rc < 0)
		return wr_failure(why, "cannot make", path, rc);
	if (rc == 0)
		return wr_failure(why, "cannot make", path, -EEXIST);
	if (jailed && chmod(h->root, 0700) < 0)
		return wr_failure(why, "cannot make", h->root, -errno);
	rc = give(h, path, why);
	return rc < 0 ? rc : give(h, h->root, why);
}

static int copy_rootfs(
    const struct vm_home *h, const char *from, sandbox_rootfs_fn *rootfs, struct wr *why)
{
	char image[VM_PATH_BYTES], reason[512] = "";
	struct stat st;
	int rc;

	if (stat(from, &st) < 0)
		return wr_failure(why, "no root filesystem:", from, -errno);
	if (!S_ISDIR(st.st_mode))
		return copy(h, from, VM_ROOTFS, why);
	rc = rootfs ? rootfs(from, image, sizeof image, reason, sizeof reason) : -EISDIR;
	if (rc == 0)
		return copy(h, image, VM_ROOTFS, why);
	wr_failure(why, "no root filesystem:", from, rc);
	if (reason[0]) {
		wr_str(why, ": ");
		wr_str(why, reason);
	}
	return rc;
}

static int copy_from(const struct vm_home *h, const char *directory, const char *name,
    enum vm_file file, struct wr *why)
{
	vm_path path;

	if (!text_join(path, sizeof path, directory, name))
		return -ENAMETOOLONG;
	return copy(h, path, file, why);
}

/* What a jailed VM cannot see where it lies. */
static int copy_in(const struct vm_home *h, const struct vm_parts *p, struct wr *why)
{
	int rc;

	if (!is_jailed(h->config))
		return 0;
	if (!p->snapshot)
		return copy(h, p->kernel, VM_KERNEL, why);
	rc = copy_from(h, p->snapshot, "/vmstate", VM_VMSTATE, why);
	return rc == 0 ? copy_from(h, p->snapshot, "/mem", VM_MEM, why) : rc;
}

int vm_files_make(
    const struct vm_home *h, const struct vm_parts *p, sandbox_rootfs_fn *rootfs, struct wr *why)
{
	int rc = make_directories(h, why);

	if (rc == 0)
		rc = make_empty(h, VM_LOG, why);
	if (rc == 0)
		rc = make_empty(h, VM_METRICS, why);
	if (rc == 0)
		rc = copy_in(h, p, why);
	return rc == 0 ? copy_rootfs(h, p->rootfs, rootfs, why) : rc;
}

/* --- removing --------------------------------------------------------------------------------- */

/* 0 or -errno. */
static int remove_tree(const char *path)
{
	struct tree_report report;
	int rc = -ENOTEMPTY;

	for (unsigned i = 0; i < REMOVE_TRIES && rc == -ENOTEMPTY; i++) {
		if (i > 0)
			usleep(REMOVE_WAIT_US);
		rc = tree_empty(path, &report);
		if (rc == -ENOENT)
			return 0;
		if (rc == 0 && rmdir(path) < 0)
			rc = report.rc < 0 && report.rc != -ENOTEMPTY ? report.rc : -errno;
	}
	return rc;
}

int vm_files_remove(const struct vm_home *h, struct wr *why)
{
	int rc = remove_tree(h->dir);

	return rc < 0 ? wr_failure(why, "cannot remove", h->dir, rc) : 0;
}

/* Whether NAME or OPTION=NAME is among the arguments of the process: pids are used again. One that
 * has none is just about to become the program, or dead. */
static bool is_about(pid_t pid, struct span name)
{
	char path[64], cmdline[CMDLINE_BYTES];
	struct wr w = wr_of(path, sizeof path);
	struct span rest;
	ssize_t n;

	wr_str(&w, "/proc/");
	wr_dec(&w, (uint64_t)pid);
	wr_str(&w, "/cmdline");
	wr_nul(&w);
	n = fs_read_file(path, cmdline, sizeof cmdline);
	if (n == 0)
		return true;
	for (rest = span_of(cmdline, n < 0 ? 0 : (size_t)n); rest.n;) {
		struct span arg = span_split(&rest, '\0');

		if (span_eq(arg, name) || span_eq(span_from(arg, span_find(arg, '=') + 1), name))
			return true;
	}
	return false;
}

pid_t vm_files_pid(const struct sandbox_config *config, const char *dir)
{
	char buf[32];
	vm_path path;
	struct span text;
	uint64_t pid;
	ssize_t n;

	if (!text_join(path, sizeof path, dir, "/root/", program_name(config), ".pid"))
		return 0;
	n = fs_read_file(path, buf, sizeof buf);
	text = span_of(buf, n < 0 ? 0 : (size_t)n);
	if (parse_u64(span_first(text, span_find(text, '\n')), 2, INT32_MAX, &pid) != E_OK)
		return 0;
	return is_about((pid_t)pid, span_str(strrchr(dir, '/') + 1)) ? (pid_t)pid : 0;
}

static void kill_jailed(const struct sandbox_config *config, const char *dir)
{
	pid_t pid = is_jailed(config) ? vm_files_pid(config, dir) : 0;

	if (pid > 0)
		kill(pid, SIGKILL);
}

unsigned vm_files_clean(const struct sandbox_config *config)
{
	vm_path parent, dir;
	const struct dirent *entry;
	unsigned n = 0;
	DIR *d;

	if (!parent_of_homes(config, parent) || !(d = opendir(parent)))
		return 0;
	while ((entry = readdir(d))) {
		if (sandbox_id_problem(span_str(entry->d_name)) ||
		    !text_join(dir, sizeof dir, parent, "/", entry->d_name))
			continue;
		kill_jailed(config, dir);
		if (remove_tree(dir) == 0)
			n++;
	}
	closedir(d);
	return n;
}
