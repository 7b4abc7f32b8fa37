#include "init/mounts.h"

#include "base/log.h"
#include "sys/fs.h"
#include "sys/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

enum { CONTROLLERS_BYTES = 4096 };

static const struct mount_spec first[] = {
    {"proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, 0555},
    {"sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, 0555},
    {"devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755", 0755},
};

/* In memory, for a root that is read-only. */
static const struct mount_spec layers[] = {
    {"tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777", 01777},
    {"tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755", 0755},
    {"tmpfs", "/var", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755", 0755},
    {"tmpfs", "/etc", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755", 0755},
};

static const struct mount_spec others[] = {
    {"cgroup2", "/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, 0755},
    {"devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=0620,ptmxmode=0666", 0755},
    {"tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777", 01777},
};

/* What shells, Docker and containerd expect to find. */
static const struct {
	const char *target, *path;
} links[] = {
    {"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"},
    {"/proc/self/fd/1", "/dev/stdout"}, {"/proc/self/fd/2", "/dev/stderr"},
    {"/run", "/var/run"}, /* one place for sockets, as everywhere */
};

static const char *const directories[] = {
    "/var/lib/docker", "/var/run/docker", "/run/containerd", "/run/arcbox"};

static void failed(const char *what, const char *path, int rc)
{
	log_warn("init", what, KV_STR("path", path), KV_ERR(rc));
}

static void mount_rows(const struct mount_spec *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int rc = mount_ensure(&rows[i]);

		if (rc < 0)
			failed("cannot mount", rows[i].target, rc);
		else if (rc > 0)
			log_debug("init", "mounted", KV_STR("path", rows[i].target));
	}
}

/* --- the first ------------------------------------------------------------------------------ */

static void open_standard_fds(void)
{
	for (int fd = 0; fd <= 2; fd++) {
		int got;

		if (fcntl(fd, F_GETFD) >= 0)
			continue;
		got = open("/dev/console", O_RDWR | O_NOCTTY);
		if (got < 0)
			got = open("/dev/null", O_RDWR);
		if (got > fd) /* cannot be: the lowest free one is taken */
			close(got);
	}
}

void mounts_first(void)
{
	mount_rows(first, COUNT(first));
	open_standard_fds();
}

/* --- control groups ------------------------------------------------------------------------- */

/* Lets every controller be used below the root group. One at a time: where one cannot be, the
 * others still are. */
static void delegate_controllers(void)
{
	char text[CONTROLLERS_BYTES];
	ssize_t n = fs_read_file("/sys/fs/cgroup/cgroup.controllers", text, sizeof text);
	struct span left = span_of(text, n > 0 ? (size_t)n : 0);

	while (left.n) {
		char word[64] = "+";
		struct span rest = span_split(&left, '\n');

		while (rest.n) {
			struct span name = span_split(&rest, ' ');
			int rc = -ENAMETOOLONG;

			if (span_to_cstr(name, word + 1, sizeof word - 1))
				rc = fs_write_value("/sys/fs/cgroup/cgroup.subtree_control", word);
			if (rc < 0)
				log_debug("init", "cannot delegate a control group controller",
				    KV_SPAN("controller", name), KV_ERR(rc));
		}
	}
}

/* --- the rest ------------------------------------------------------------------------------- */

static void make_links(void)
{
	for (size_t i = 0; i < COUNT(links); i++) {
		int rc = fs_ensure_symlink(links[i].target, links[i].path);

		if (rc < 0 && rc != -EEXIST) /* a real file or directory there will do as well */
			failed("cannot make a link", links[i].path, rc);
	}
}

static void make_directory(const char *path, mode_t mode)
{
	int rc = fs_make_dirs(path, mode);

	if (rc < 0)
		failed("cannot make a directory", path, rc);
}

/* On the root itself. */
static void make_layers(void)
{
	for (size_t i = 0; i < COUNT(layers); i++)
		make_directory(layers[i].target, layers[i].mode);
}

static void make_directories(void)
{
	for (size_t i = 0; i < COUNT(directories); i++)
		make_directory(directories[i], 0755);
}

void mounts_rest(bool keep_root)
{
	int rc = mount_share("/");

	if (rc < 0)
		failed("cannot share mounts", "/", rc);
	if (keep_root && mount_is_writable("/"))
		make_layers();
	else
		mount_rows(layers, COUNT(layers));
	mount_rows(others, COUNT(others));
	delegate_controllers();
	make_links();
	make_directories();
}

const char *mounts_for_containers(void)
{
	for (size_t i = 0; i < COUNT(others); i++)
		if (mount_ensure(&others[i]) < 0)
			return others[i].target;
	return NULL;
}

bool mounts_are_writable(void)
{
	bool all = true;

	for (size_t i = 0; i < COUNT(layers); i++) {
		if (mount_is_writable(layers[i].target))
			continue;
		failed("is not writable, which later steps need", layers[i].target, -EROFS);
		all = false;
	}
	return all;
}
