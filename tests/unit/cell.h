/* cell.h - a test in a mount, network, UTS and control group namespace of its own, and in a root
 * directory of its own, an empty tmpfs: what it mounts, writes and names is seen by nobody else.
 * Each test is a process of its own, whose end undoes it. */
#ifndef TESTS_CELL_H
#define TESTS_CELL_H

#include "fault.h"
#include "suite.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* False, with the test skipped, where that cannot be had. */
static inline bool cell_enter(void)
{
	if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWCGROUP) < 0) {
		skip_test("namespaces need root");
		return false;
	}
	fault_keep_coverage();
	ck_assert_int_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	ck_assert_int_eq(mount("tmpfs", "/mnt", "tmpfs", 0, "mode=0755"), 0);
	/* The sanitizers read it. */
	ck_assert_int_eq(mkdir("/mnt/proc", 0555), 0);
	ck_assert_int_eq(mount("/proc", "/mnt/proc", NULL, MS_BIND | MS_REC, NULL), 0);
	ck_assert_int_eq(chdir("/mnt"), 0);
	ck_assert_int_eq(mount("/mnt", "/", NULL, MS_MOVE, NULL), 0);
	ck_assert_int_eq(chroot("."), 0);
	ck_assert_int_eq(chdir("/"), 0);
	return true;
}

/* A new file with that text. */
static inline void cell_write(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	ck_assert_ptr_nonnull(f);
	ck_assert_int_ge(fputs(text, f), 0);
	ck_assert_int_eq(fclose(f), 0);
}

/* What a file holds, as a string that lives until the next call. */
static inline const char *cell_read(const char *path)
{
	static char text[8192];
	FILE *f = fopen(path, "re");

	ck_assert_msg(f, "%s cannot be read", path);
	text[fread(text, 1, sizeof text - 1, f)] = '\0';
	fclose(f);
	return text;
}

#endif
