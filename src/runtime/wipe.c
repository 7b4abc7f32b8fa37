#include "runtime/wipe.h"

#include "base/cursor.h"
#include "base/err.h"
#include "sys/mount.h"
#include "sys/tree.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

enum { ROUNDS = 16, LINE_BYTES = 512 };

/* --- mounts ---------------------------------------------------------------------------------- */

struct unmounting {
	struct span above; /* the directory, as the kernel names it, and a slash */
	unsigned done, busy;
	int rc; /* why one stayed */
	char stayed[LINE_BYTES];
};

static void unmount(void *ctx, const char *target, const char *type)
{
	struct unmounting *u = ctx;

	(void)type;
	if (!span_starts(span_str(target), u->above))
		return;
	if (umount2(target, UMOUNT_NOFOLLOW) == 0) {
		u->done++;
		return;
	}
	u->rc = -errno;
	u->busy++;
	text_join(u->stayed, sizeof u->stayed, target);
}

/* As often as that makes a difference: the list names what lies on top of others first, but not
 * what propagates from elsewhere. */
static int unmount_rounds(struct unmounting *u)
{
	unsigned before;
	unsigned rounds = 0;
	int rc;

	do {
		before = u->done;
		u->busy = 0;
		rc = mount_each(unmount, u);
	} while (rc == 0 && u->busy && u->done > before && ++rounds < ROUNDS);
	return rc;
}

static void note_unmounting(const struct unmounting *u, const char *path, struct notes *notes)
{
	char what[2 * LINE_BYTES], number[DEC_TEXT_BYTES];

	if (u->done) {
		text_join(what, sizeof what, dec_text(u->done, number), " unmounted below ", path);
		notes_add(notes, what, span_of(NULL, 0));
	}
	if (u->busy) {
		text_join(what, sizeof what, dec_text(u->busy, number), " still mounted below ",
		    path, ", ", u->stayed);
		notes_add(notes, what, span_str(err_text(u->rc)));
	}
}

static void unmount_below(const char *path, struct notes *notes)
{
	char above[PATH_MAX + 1], what[LINE_BYTES];
	struct unmounting u = {0};
	int rc;

	if (!realpath(path, above))
		return; /* there is nothing */
	strcat(above, "/");
	u.above = span_str(above);
	rc = unmount_rounds(&u);
	text_join(what, sizeof what, "mounts below ", path, " cannot be listed");
	if (rc < 0)
		notes_add(notes, what, span_str(err_text(rc)));
	note_unmounting(&u, path, notes);
}

/* --- files ----------------------------------------------------------------------------------- */

static const char *reason(int rc)
{
	return rc == -EXDEV ? "something is mounted there" : err_text(rc);
}

static void empty(const char *path, struct notes *notes)
{
	struct tree_report report = {0};
	char what[2 * LINE_BYTES], number[DEC_TEXT_BYTES];
	int rc = tree_empty(path, &report);

	if (rc == -ENOENT)
		return;
	if (rc < 0) {
		text_join(what, sizeof what, path, " left alone");
		notes_add(notes, what, span_str(err_text(rc)));
	} else if (report.stayed) {
		text_join(what, sizeof what, path, " not empty, ", dec_text(report.stayed, number),
		    " left, first ", report.first);
		notes_add(notes, what, span_str(reason(report.rc)));
	} else {
		text_join(what, sizeof what, path, " emptied");
		notes_add(notes, what, span_of(NULL, 0));
	}
}

/* A symbolic link in its place leads to what is not ours. */
static bool is_link(const char *path)
{
	char target;

	return readlink(path, &target, sizeof target) >= 0;
}

void wipe_directories(const char *const *paths, struct notes *notes)
{
	for (; *paths; paths++) {
		if (!is_link(*paths))
			unmount_below(*paths, notes);
		empty(*paths, notes);
	}
}
