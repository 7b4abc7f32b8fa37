#include "sys/tree.h"

#include "base/cursor.h"
#include "sys/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <linux/openat2.h>

enum { DEPTH = 32 }; /* levels that are held open at once; what is deeper is moved to the top */

struct walk {
	int top;
	uint64_t removed, moved;
	struct tree_report report; /* of this pass: what stayed */
};

static int remove_all(struct walk *w, int fd, unsigned depth);

/* A directory of this very mount. */
static int open_below(int dir, const char *name)
{
	const struct open_how how = {
	    .flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
	    .resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH,
	};

	return fs_open_how(dir, name, &how);
}

/* The kernel does not move what is mounted. */
static int move_up(struct walk *w, int dir, const char *name)
{
	char pid[DEC_TEXT_BYTES], number[DEC_TEXT_BYTES], to[64];

	text_join(to, sizeof to, ".removing-", dec_text((uint64_t)getpid(), pid), "-",
	    dec_text(w->moved, number));
	if (renameat(dir, name, w->top, to) < 0)
		return -errno;
	w->moved++;
	return 0;
}

static int remove_directory(struct walk *w, int dir, const char *name, unsigned depth)
{
	int fd = open_below(dir, name);
	int rc;

	if (fd < 0)
		return fd;
	rc = remove_all(w, fd, depth + 1);
	if (unlinkat(dir, name, AT_REMOVEDIR) < 0)
		return rc < 0 ? rc : -errno;
	w->removed++;
	return 0;
}

static int remove_entry(struct walk *w, int dir, const char *name, unsigned depth)
{
	int rc;

	if (unlinkat(dir, name, 0) == 0) {
		w->removed++;
		return 0;
	}
	if (errno == ENOENT)
		return 0;
	if (errno != EISDIR)
		return -errno;
	if (depth < DEPTH)
		rc = remove_directory(w, dir, name, depth);
	else
		rc = move_up(w, dir, name);
	return rc == -ENOENT ? 0 : rc;
}

static void keep_first(struct tree_report *report, const char *name, int rc)
{
	if (report->stayed++ > 0)
		return;
	report->rc = rc;
	text_join(report->first, sizeof report->first, name);
}

/* Takes the fd. 0, or the first reason why something stays. */
static int remove_all(struct walk *w, int fd, unsigned depth)
{
	DIR *dir = fdopendir(fd);
	const struct dirent *entry;
	int first = 0;

	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	while ((entry = readdir(dir))) {
		int rc = 0;

		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			rc = remove_entry(w, dirfd(dir), entry->d_name, depth);
		if (rc < 0 && depth == 0)
			keep_first(&w->report, entry->d_name, rc);
		if (rc < 0 && first == 0)
			first = rc;
	}
	closedir(dir);
	return first;
}

/* Whether it made a difference; or -errno. */
static int pass(struct walk *w)
{
	uint64_t before = w->removed + w->moved;
	int fd = openat(w->top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	w->report = (struct tree_report){0};
	remove_all(w, fd, 0);
	return w->removed + w->moved > before;
}

int tree_empty(const char *path, struct tree_report *report)
{
	struct walk w = {.top = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
	int rc;

	if (w.top < 0)
		return -errno;
	do
		rc = pass(&w);
	while (rc > 0);
	close(w.top);
	if (rc < 0)
		return rc;
	w.report.removed = w.removed;
	*report = w.report;
	return 0;
}
