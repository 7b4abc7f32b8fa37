#include "init/shares.h"

#include "base/container.h"
#include "base/log.h"
#include "sys/fs.h"
#include "sys/mount.h"

#include <errno.h>
#include <unistd.h>

#define BINFMT  "/proc/sys/fs/binfmt_misc"
#define ROSETTA "/media/rosetta"

struct share_row {
	const char *tag, *target;
	unsigned long flags;
	bool dax;      /* mapped straight from the host's page cache, where the device can */
	bool standard; /* also when this is not PID 1 */
	int (*then)(void);
};

static int register_rosetta(void);

static const struct share_row rows[SHARES] = {
    {"arcbox", "/arcbox", 0, .dax = true, .standard = true},
    {"users", "/Users", 0, .standard = true},
    {"arcbox-dax", "/run/arcbox-dax", 0, .dax = true},
    {"rosetta", ROSETTA, MS_RDONLY, .then = register_rosetta},
};

/* --- in the worker -------------------------------------------------------------------------- */

/* x86-64 ELF programs, static and position-independent ones (type 2 or 3), are run by Rosetta. F:
 * opened now, so that containers need no copy; C: with the credentials of the program.
 * (Documentation/admin-guide/binfmt-misc.rst) */
static int register_rosetta(void)
{
	static const char rule[] =
	    ":rosetta:M::"
	    "\\x7f\\x45\\x4c\\x46\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00"
	    "\\x00\\x00\\x00\\x00\\x02\\x00\\x3e\\x00:"
	    "\\xff\\xff\\xff\\xff\\xff\\xfe\\xfe\\x00\\xff\\xff\\xff\\xff"
	    "\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff:" ROSETTA "/rosetta:CF";
	static const struct mount_spec binfmt = {
	    "binfmt_misc", BINFMT, "binfmt_misc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, 0755};
	int rc;

	if (access(ROSETTA "/rosetta", F_OK) < 0)
		return 0;
	rc = mount_ensure(&binfmt);
	if (rc < 0 || access(BINFMT "/rosetta", F_OK) == 0)
		return rc < 0 ? rc : 0;
	return fs_write_value(BINFMT "/register", rule);
}

/* A device without a DAX window refuses the option: the share is mounted without it then. */
static int mount_share_of(const struct share_row *row)
{
	struct mount_spec spec = {.source = row->tag,
	    .target = row->target,
	    .type = "virtiofs",
	    .flags = row->flags,
	    .data = row->dax ? "dax=always" : NULL,
	    .mode = 0755};
	int rc;

	if (row->dax && mount_is_there(row->target)) {
		mount(row->tag, row->target, spec.type, row->flags | MS_REMOUNT, spec.data);
		return 0;
	}
	rc = mount_ensure(&spec);
	if (rc == -EINVAL && row->dax) {
		spec.data = NULL;
		rc = mount_ensure(&spec);
	}
	return rc;
}

enum { EXIT_ABSENT = 1, EXIT_FAILED, EXIT_THEN_FAILED, EXIT_MOUNTED };

/* Says by its status what became of the share, and by its report why. */
static int mount_in_worker(void *arg, int report_fd)
{
	const struct share *share = arg;
	int rc = mount_share_of(share->row);
	int status = rc > 0 ? EXIT_MOUNTED : 0;

	if (rc == -EINVAL || rc == -ENODEV || rc == -ENOENT || rc == -EROFS)
		status = EXIT_ABSENT; /* no such tag, no virtiofs, or no directory for it */
	else if (rc < 0)
		status = EXIT_FAILED;
	else if (share->row->then && (rc = share->row->then()) < 0)
		status = EXIT_THEN_FAILED;
	return fs_write_all(report_fd, span_of(&rc, sizeof rc)) < 0 ? EXIT_FAILED : status;
}

/* --- in the agent --------------------------------------------------------------------------- */

static void tell(const struct share_row *row, int status, int rc)
{
	if (status == EXIT_ABSENT)
		log_debug("init", "share is not mounted", KV_STR("tag", row->tag), KV_ERR(rc));
	else if (status == EXIT_FAILED)
		log_warn("init", "cannot mount a share", KV_STR("tag", row->tag),
		    KV_STR("path", row->target), KV_ERR(rc));
	else if (status == EXIT_THEN_FAILED)
		log_warn("init", "cannot register Rosetta for x86-64 programs", KV_ERR(rc));
	else if (status == EXIT_MOUNTED)
		log_info("init", "mounted a share", KV_STR("tag", row->tag),
		    KV_STR("path", row->target));
}

static void ended(struct shares *s)
{
	if (--s->left == 0)
		s->fn(s);
}

static void worked(struct worker *w, int rc, struct span report)
{
	struct share *share = container_of(w, struct share, worker);
	int why = rc;

	if (rc == 0 && report.n == sizeof why)
		memcpy(&why, report.p, sizeof why);
	tell(share->row, rc < 0 ? EXIT_FAILED : w->status, why);
	ended(share->shares);
}

static void start(struct share *share, struct reaper *r, uint64_t timeout_ms)
{
	int rc = worker_start(&share->worker, r, mount_in_worker, share, timeout_ms);

	if (rc == 0)
		return;
	tell(share->row, EXIT_FAILED, rc);
	ended(share->shares);
}

void shares_mount(struct shares *s, struct reaper *r, bool all, uint64_t timeout_ms, shares_fn *fn)
{
	/* Without it no share can be there, and no directory has to be made to find that out. */
	bool any = mount_knows("virtiofs");

	*s = (struct shares){.fn = fn, .left = 1};
	if (!any)
		log_debug("init", "no shares: the kernel has no virtiofs");
	for (size_t i = 0; any && i < SHARES; i++) {
		if (!all && !rows[i].standard)
			continue;
		s->share[i] =
		    (struct share){.row = &rows[i], .shares = s, .worker = {.fn = worked}};
		s->left++;
		start(&s->share[i], r, timeout_ms);
	}
	ended(s);
}

void shares_cancel(struct shares *s)
{
	for (size_t i = 0; i < SHARES; i++)
		worker_cancel(&s->share[i].worker);
}
