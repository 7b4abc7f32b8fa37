#include "sys/mount.h"

#include "base/cursor.h"
#include "sys/fs.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { MOUNTS_BYTES = 4 << 20, RELEASE_ROUNDS = 16 };

bool mount_knows(const char *type)
{
	char text[4096];
	ssize_t n = fs_read_file("/proc/filesystems", text, sizeof text);
	struct span left = span_of(text, n > 0 ? (size_t)n : 0);

	while (left.n) {
		struct span name = span_split(&left, '\n');

		span_split(&name, '\t'); /* "nodev", or nothing */
		if (span_eq_str(name, type))
			return true;
	}
	return false;
}

bool mount_is_there(const char *path)
{
	uint64_t attributes;

	return fs_attributes(path, &attributes) == 0 && (attributes & FS_MOUNT_ROOT);
}

bool mount_is_writable(const char *path)
{
	struct statvfs fs;

	return statvfs(path, &fs) == 0 && !(fs.f_flag & ST_RDONLY);
}

int mount_ensure(const struct mount_spec *s)
{
	bool made;
	int rc;

	if (mount_is_there(s->target))
		return 0;
	rc = fs_make_dirs(s->target, s->mode);
	if (rc < 0)
		return rc;
	made = rc > 0;
	if (mount(s->source, s->target, s->type, s->flags, s->data) == 0)
		return 1;
	rc = -errno;
	if (made)
		rmdir(s->target);
	return rc;
}

int mount_share(const char *path)
{
	return mount(NULL, path, NULL, MS_REC | MS_SHARED, NULL) < 0 ? -errno : 0;
}

/* --- the list ------------------------------------------------------------------------------- */

/* Undoes the kernel's \ooo for blanks, in place. */
static void unescape(char *text)
{
	char *out = text;

	for (const char *in = text; *in; out++) {
		if (in[0] == '\\' && in[1] >= '0' && in[1] <= '3' && in[2] && in[3]) {
			*out = (char)((in[1] - '0') << 6 | (in[2] - '0') << 3 | (in[3] - '0'));
			in += 4;
		} else {
			*out = *in++;
		}
	}
	*out = '\0';
}

/* "/dev/vda /var/lib/docker btrfs rw,noatime 0 0" (proc_pid_mounts(5)) */
static void tell_line(char *line, mount_fn *fn, void *ctx)
{
	const char *type;
	char *target;

	strsep(&line, " "); /* the source, which may be empty */
	target = strsep(&line, " ");
	type = strsep(&line, " ");
	if (!type)
		return;
	unescape(target);
	fn(ctx, target, type);
}

static void tell_lines(char *text, mount_fn *fn, void *ctx)
{
	char *newline = strrchr(text, '\n');

	if (newline)
		*newline = '\0';
	while ((newline = strrchr(text, '\n'))) {
		tell_line(newline + 1, fn, ctx);
		*newline = '\0';
	}
	tell_line(text, fn, ctx);
}

int mount_each(mount_fn *fn, void *ctx)
{
	char *text = malloc(MOUNTS_BYTES);
	ssize_t n = text ? fs_read_file("/proc/self/mounts", text, MOUNTS_BYTES - 1) : -ENOMEM;

	if (n > 0) {
		text[n] = '\0';
		tell_lines(text, fn, ctx);
	}
	free(text);
	return n < 0 ? (int)n : 0;
}

/* --- the end -------------------------------------------------------------------------------- */

struct release {
	bool remote; /* now those, too, whose servers may hang */
	bool last;   /* what is still busy is made read-only */
	unsigned unmounted, stayed;
	struct wr names; /* of those that stayed */
};

static bool is_one_of(const char *type, const char *const *types)
{
	for (; *types; types++)
		if (strcmp(type, *types) == 0)
			return true;
	return false;
}

/* The kernel's views of itself, and memory: nothing of them is lost when they stay. */
static bool holds_data(const char *type)
{
	static const char *const others[] = {"proc", "sysfs", "devtmpfs", "devpts", "cgroup",
	    "cgroup2", "tmpfs", "ramfs", "rootfs", "binfmt_misc", "debugfs", "tracefs",
	    "securityfs", "bpf", "mqueue", "nsfs", "fusectl", "configfs", "pstore", "hugetlbfs",
	    "autofs", NULL};

	return !is_one_of(type, others);
}

/* What the host or the network has. It is detached, so that a server which hangs is not waited for.
 */
static bool is_remote(const char *type)
{
	static const char *const remote[] = {"virtiofs", "fuse", "9p", "nfs", "nfs4", "cifs", NULL};

	return is_one_of(type, remote) || strncmp(type, "fuse.", 5) == 0;
}

/* The list of mounts is read from /proc; and the root cannot go. */
static bool has_to_stay(const char *target)
{
	return strcmp(target, "/") == 0 || strcmp(target, "/proc") == 0;
}

/* Memory is unmounted, too, for it may be mounted on a disk. */
static void release(void *ctx, const char *target, const char *type)
{
	struct release *r = ctx;
	bool remote = is_remote(type);

	if (remote && !r->remote)
		return;
	if (!has_to_stay(target) &&
	    umount2(target, UMOUNT_NOFOLLOW | (remote ? MNT_DETACH : 0)) == 0) {
		r->unmounted++;
		return;
	}
	if (!r->last || remote || !holds_data(type) || !mount_is_writable(target) ||
	    mount(NULL, target, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0)
		return;
	wr_str(&r->names, r->stayed++ ? " " : "");
	wr_str(&r->names, target);
}

/* As often as that makes a difference. */
static int release_rounds(struct release *r)
{
	unsigned rounds = 0;
	int rc;

	do {
		r->unmounted = 0;
		rc = mount_each(release, r);
	} while (rc == 0 && r->unmounted && ++rounds < RELEASE_ROUNDS);
	return rc;
}

int mount_release_all(char *stayed, size_t cap)
{
	struct release r = {.names = wr_of(stayed, cap)};
	int rc = release_rounds(&r);

	r.remote = true;
	if (rc == 0)
		rc = release_rounds(&r);
	r.last = true;
	if (rc == 0)
		rc = mount_each(release, &r);
	wr_nul(&r.names);
	return rc < 0 ? rc : (int)r.stayed;
}
