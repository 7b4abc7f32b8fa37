#include "runtime/volume.h"

#include "base/container.h"
#include "base/cursor.h"
#include "codec/disk.h"
#include "sys/block.h"
#include "sys/btrfs.h"
#include "sys/fs.h"
#include "sys/module.h"
#include "sys/mount.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

#define DATA_DIR       "/run/arcbox/data"
#define DATA_OPTIONS   "compress=zstd:3"
#define ENGINE_OPTIONS "compress=zstd:1,space_cache=v2,subvol="

enum { COMPLAINT_BYTES = 256, DATABASES = 7 };

/* Where each engine keeps its things, and which directories of them hold databases: those are
 * overwritten in place all the time, for which copying on write is the wrong way. */
static const struct engine {
	const char *subvolume, *dir;
	const char *databases[DATABASES]; /* ends with NULL */
} engines[] = {
    {"@docker", "/var/lib/docker",
	{"containerd", "network", "builder", "buildkit", "image", "trust"}},
    {"@containerd", "/var/lib/containerd", {"io.containerd.metadata.v1.bolt"}},
    {"@k3s", "/var/lib/rancher/k3s", {NULL}},
    {"@kubelet", "/var/lib/kubelet", {NULL}},
    {"@cni", "/var/lib/cni", {NULL}},
};

/* --- what the worker says -------------------------------------------------------------------- */

/* Lines, of which each begins with one of these. What it was doing is known also when it is killed.
 */
enum line { LINE_STEP = '>', LINE_NOTE = '+', LINE_REASON = '!' };

struct setup {
	const struct volume_conf *conf;
	int report_fd;
};

/* The words are joined as they are. */
static void say(const struct setup *s, enum line kind, const char *const *words)
{
	char line[VOLUME_TEXT_BYTES];
	struct wr w = wr_of(line, sizeof line - 1);

	wr_u8(&w, (uint8_t)kind);
	for (; *words; words++)
		wr_str(&w, *words);
	line[w.n] = '\n';
	fs_write_all(s->report_fd, span_of(line, w.n + 1));
}

#define SAY(s, kind, ...) say(s, kind, (const char *const[]){__VA_ARGS__, NULL})

/* --- the device ------------------------------------------------------------------------------ */

/* As much of the n bytes at `at` as the device has, into *buf, which moves on. */
static int read_piece(
    int fd, uint64_t size_bytes, uint64_t at, size_t n, uint8_t **buf, struct span *piece)
{
	uint64_t left = at < size_bytes ? size_bytes - at : 0;
	int rc;

	n = left < n ? (size_t)left : n;
	rc = block_read(fd, at, *buf, n);
	*piece = span_of(*buf, n);
	*buf += n;
	return rc;
}

static int read_pieces(int fd, uint8_t *buf, struct disk *d)
{
	uint64_t size = d->size_bytes;
	uint64_t tail_at = size > DISK_TAIL_BYTES ? size - DISK_TAIL_BYTES : 0;
	int rc = read_piece(fd, size, 0, DISK_HEAD_BYTES, &buf, &d->head);

	if (rc == 0)
		rc = read_piece(fd, size, DISK_COPY_AT, DISK_COPY_BYTES, &buf, &d->copy);
	if (rc == 0)
		rc = read_piece(fd, size, tail_at, DISK_TAIL_BYTES, &buf, &d->tail);
	return rc;
}

/* An enum disk_kind, or -errno when that cannot be told. */
static int identify(const struct setup *s, const char **what)
{
	struct disk d = {0};
	uint8_t *buf;
	int fd, rc;

	SAY(s, LINE_STEP, "read ", s->conf->device);
	fd = block_open(s->conf->device, &d.size_bytes);
	if (fd == -ENOENT)
		SAY(s, LINE_REASON, "there is no such device; attach a disk to the machine");
	if (fd < 0)
		return fd;
	buf = malloc(DISK_HEAD_BYTES + DISK_COPY_BYTES + DISK_TAIL_BYTES);
	rc = buf ? read_pieces(fd, buf, &d) : -ENOMEM;
	if (rc == 0)
		rc = (int)disk_identify(&d, what);
	free(buf);
	close(fd);
	return rc;
}

/* The last line of what a program wrote, as text[cap]. */
static void last_line(int fd, char *text, size_t cap)
{
	off_t end = lseek(fd, 0, SEEK_END);
	off_t at = end > (off_t)cap - 1 ? end - (off_t)cap + 1 : 0;
	ssize_t n = pread(fd, text, cap - 1, at);
	char *newline;

	while (n > 0 && text[n - 1] == '\n')
		n--;
	text[n > 0 ? n : 0] = '\0';
	newline = strrchr(text, '\n');
	if (newline)
		memmove(text, newline + 1, strlen(newline));
}

static int run_mkfs(const struct setup *s, int complaint_fd)
{
	const char *const argv[] = {s->conf->mkfs, "-f", s->conf->device, NULL};
	const struct child_spec spec = {
	    .path = s->conf->mkfs,
	    .argv = argv,
	    .in_fd = -1,
	    .out_fd = -1,
	    .err_fd = complaint_fd,
	};
	int status = child_run(&spec);
	char why[COMPLAINT_BYTES];

	if (status < 0) {
		SAY(s, LINE_REASON, s->conf->mkfs, ": ", err_text(status));
		return status;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	last_line(complaint_fd, why, sizeof why);
	SAY(s, LINE_REASON, s->conf->mkfs, ": ", why[0] ? why : "it failed without a word");
	return -EIO;
}

/* Only then does mkfs.btrfs write the signature when all else is on the device: one that is cut off
 * leaves something that is formatted again. */
static int format(const struct setup *s)
{
	int fd, rc;

	SAY(s, LINE_STEP, "format ", s->conf->device);
	fd = fs_memfd("mkfs");
	if (fd < 0)
		return fd;
	rc = run_mkfs(s, fd);
	close(fd);
	if (rc == 0)
		SAY(s, LINE_NOTE, "formatted ", s->conf->device);
	return rc;
}

/* Formats what may be. */
static int make_filesystem(const struct setup *s)
{
	const char *what;
	int kind = identify(s, &what);

	if (kind < 0 || kind == DISK_BTRFS)
		return kind < 0 ? kind : 0;
	if (kind == DISK_UNKNOWN || s->conf->force)
		return format(s);
	SAY(s, LINE_STEP, "use ", s->conf->device, " for the data volume");
	SAY(s, LINE_REASON, "it holds ", what,
	    "; attach another disk, or have this one erased by arcbox.format=force on the kernel"
	    " command line");
	return -EEXIST;
}

/* --- mounts ---------------------------------------------------------------------------------- */

/* Discarding what is free is left out where that cannot be done. As mount_ensure(). */
static int mount_btrfs(const struct setup *s, const char *target, unsigned long flags,
    const char *options, const char *subvolume)
{
	static const char *const discards[] = {",discard=async", ""};
	char data[128];
	int rc = -EINVAL;

	SAY(s, LINE_STEP, "mount ", s->conf->device, " ", subvolume, subvolume[0] ? " " : "", "at ",
	    target);
	for (size_t i = 0; rc == -EINVAL && i < COUNT(discards); i++) {
		struct wr w = wr_of(data, sizeof data);

		wr_str(&w, options);
		wr_str(&w, subvolume);
		wr_str(&w, discards[i]);
		wr_nul(&w);
		rc = mount_ensure(
		    &(struct mount_spec){s->conf->device, target, "btrfs", flags, data, 0755});
	}
	if (rc == -ENODEV)
		SAY(s, LINE_REASON, "the kernel has no Btrfs");
	return rc;
}

/* Whatever was mounted there before is another one. */
static int taken(const struct setup *s)
{
	SAY(s, LINE_REASON, "something else is mounted there");
	return -EBUSY;
}

static int mount_volume(const struct setup *s)
{
	int rc;

	if (!mount_knows("btrfs"))
		module_load("btrfs");
	rc = mount_btrfs(s, DATA_DIR, 0, DATA_OPTIONS, "");
	if (rc > 0)
		SAY(s, LINE_NOTE, "mounted ", s->conf->device);
	if (rc < 0)
		return rc;
	return btrfs_is_there(DATA_DIR) ? 0 : taken(s);
}

static bool are_same(const char *a, const char *b)
{
	struct stat sa, sb;

	return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
	    sa.st_ino == sb.st_ino;
}

/* What an engine loses without it is speed: a failure is noted. */
static void make_database(const struct setup *s, const char *dir, const char *name)
{
	char path[PATH_MAX];
	bool fits = text_join(path, sizeof path, dir, "/", name);
	int rc = fits ? fs_make_dirs(path, 0700) : -ENAMETOOLONG;

	if (rc >= 0)
		rc = btrfs_stop_cow(path);
	if (rc < 0)
		SAY(s, LINE_NOTE, "copies on write in ", path, ": ", err_text(rc));
}

static int bring_up_engine(const struct setup *s, const struct engine *e)
{
	char path[PATH_MAX];
	int rc;

	SAY(s, LINE_STEP, "make the subvolume ", e->subvolume);
	text_join(path, sizeof path, DATA_DIR "/", e->subvolume);
	rc = btrfs_make_subvolume(DATA_DIR, e->subvolume);
	if (rc == -EEXIST)
		SAY(s, LINE_REASON, "something else has that name");
	if (rc < 0)
		return rc;
	rc = mount_btrfs(s, e->dir, MS_NOATIME, ENGINE_OPTIONS, e->subvolume);
	if (rc < 0)
		return rc;
	if (!are_same(path, e->dir))
		return taken(s);
	for (const char *const *name = e->databases; *name; name++)
		make_database(s, e->dir, *name);
	return 0;
}

/* --- in the worker --------------------------------------------------------------------------- */

/* A volume that is mounted is in use: its device is not looked at. */
static int bring_up(const struct setup *s)
{
	int rc = mount_is_there(DATA_DIR) ? 0 : make_filesystem(s);

	if (rc == 0)
		rc = mount_volume(s);
	for (size_t i = 0; rc == 0 && i < COUNT(engines); i++)
		rc = bring_up_engine(s, &engines[i]);
	return rc;
}

/* Its exit status is an errno. */
static int set_up(void *arg, int report_fd)
{
	const struct volume *v = arg;
	const struct setup s = {v->conf, report_fd};

	return -bring_up(&s);
}

/* --- in the agent ---------------------------------------------------------------------------- */

struct tale {
	struct span step, reason;
	struct wr notes;
};

static struct tale read_report(struct span report, struct wr notes)
{
	struct tale t = {.notes = notes};

	while (report.n) {
		struct span line = span_split(&report, '\n');
		struct span text = span_from(line, 1);

		if (line.n == 0)
			continue;
		if (line.p[0] == LINE_STEP) {
			t.step = text;
			t.reason = span_of(NULL, 0);
		} else if (line.p[0] == LINE_REASON) {
			t.reason = text;
		} else if (line.p[0] == LINE_NOTE) {
			wr_str(&t.notes, t.notes.n ? "; " : "");
			wr_plain(&t.notes, text);
		}
	}
	return t;
}

static void worked(struct worker *worker, int rc, struct span report)
{
	struct volume *v = container_of(worker, struct volume, worker);
	struct wr w = wr_of(v->why, sizeof v->why - 1);
	struct tale t = read_report(report, w);

	rc = rc < 0 ? rc : -worker->status;
	if (rc == 0)
		w = t.notes;
	if (rc < 0) {
		wr_str(&w, "cannot ");
		wr_plain(&w, t.step.n ? t.step : span_str("set it up"));
		wr_str(&w, ": ");
		wr_plain(&w, t.reason.n ? t.reason : span_str(err_text(rc)));
	}
	v->why[w.n] = '\0';
	v->fn(v, rc, v->why);
}

int volume_setup(struct volume *v, struct reaper *r, const struct volume_conf *conf, volume_fn *fn)
{
	int rc;

	if (v->worker.running)
		return -EBUSY;
	v->fn = fn;
	v->conf = conf;
	v->worker.fn = worked;
	rc = worker_start(&v->worker, r, set_up, v, conf->timeout_ms);
	v->conf = NULL; /* the worker has it all */
	return rc;
}

void volume_cancel(struct volume *v)
{
	worker_cancel(&v->worker);
}
