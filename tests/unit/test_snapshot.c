#include "sandbox/snapshot.h"

#include "cases.h"
#include "fault.h"
#include "suite.h"
#include "sys/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- meta.json -------------------------------------------------------------------------------- */

static const struct label two_labels[] = {
    {SPAN_LIT("team"), SPAN_LIT("a \"quoted\" one")}, {SPAN_LIT(""), SPAN_LIT("\xc3\xa4\n")}};

static const struct snapshot example = {
    .id = "5b1c",
    .vm_id = "box-1",
    .name = "before \"the\" upgrade \xe2\x9c\x93",
    .vmstate_path = "/var/lib/arcbox/snapshots/box-1/5b1c/vmstate",
    .mem_path = "/var/lib/arcbox/snapshots/box-1/5b1c/mem",
    .created_at = "2026-01-31T12:00:00.123Z",
    .parent_id = "",
    .kernel_path = "/arcbox/bin/vmlinux",
    .rootfs_path = "/var/lib/arcbox/sandboxes/box-1/rootfs.ext4",
    .ip = "172.20.0.2",
    .vcpus = 2,
    .memory_mib = 512,
    .labels = {two_labels, 2},
};

static struct span written(const struct snapshot *s)
{
	static uint8_t buf[SNAPSHOT_META_BYTES];
	struct wr w = wr_of(buf, sizeof buf);

	snapshot_write(s, &w);
	ck_assert_int_eq(w.err, E_OK);
	return wr_span(&w);
}

static void check_same(const struct snapshot *a, const struct snapshot *b)
{
	ck_assert_str_eq(a->id, b->id);
	ck_assert_str_eq(a->vm_id, b->vm_id);
	ck_assert_str_eq(a->name, b->name);
	ck_assert_str_eq(a->vmstate_path, b->vmstate_path);
	ck_assert_str_eq(a->mem_path, b->mem_path);
	ck_assert_str_eq(a->created_at, b->created_at);
	ck_assert_str_eq(a->parent_id, b->parent_id);
	ck_assert_str_eq(a->kernel_path, b->kernel_path);
	ck_assert_str_eq(a->rootfs_path, b->rootfs_path);
	ck_assert_str_eq(a->ip, b->ip);
	ck_assert_uint_eq(a->vcpus, b->vcpus);
	ck_assert_uint_eq(a->memory_mib, b->memory_mib);
	ck_assert_uint_eq(a->labels.n, b->labels.n);
	ck_assert(labels_match(a->labels, b->labels));
}

START_TEST(what_is_written_is_read)
{
	struct snapshot s;

	ck_assert_int_eq(snapshot_read(&s, written(&example)), 0);
	check_same(&s, &example);
	snapshot_done(&s);
	snapshot_done(&s);
}
END_TEST

#define REQUIRED                                                                                   \
	"\"id\":\"i\",\"vm_id\":\"v\",\"vmstate_path\":\"\",\"mem_path\":\"\",\"created_at\":"     \
	"\"2026\",\"kernel_path\":null,\"rootfs_path\":\"\",\"snapshot_type\":\"Full\""

START_TEST(what_need_not_be_there_is_empty)
{
	struct snapshot s;

	ck_assert_int_eq(
	    snapshot_read(
		&s, span_str(" {\"more\":[{}],\"name\":null,\"parent_id\":null," REQUIRED "} ")),
	    0);
	ck_assert_str_eq(s.id, "i");
	ck_assert_str_eq(s.name, "");
	ck_assert_str_eq(s.kernel_path, "");
	ck_assert_str_eq(s.ip, "");
	ck_assert_uint_eq(s.vcpus + s.memory_mib + s.labels.n, 0);
	snapshot_done(&s);
}
END_TEST

START_TEST(what_is_broken_is_refused)
{
#define OPTIONAL "\"name\":\"\",\"parent_id\":\"\""
	static const char *const broken[] = {
	    "",
	    "[]",
	    "{}",
	    "{" REQUIRED "}",
	    "{" OPTIONAL "," REQUIRED "",
	    "{" OPTIONAL "," REQUIRED "} x",
	    "{" OPTIONAL "," REQUIRED ",\"name\":\"twice\"}",
	    "{" OPTIONAL "," REQUIRED ",\"snapshot_type\":\"Full\"}",
	    "{" OPTIONAL "," REQUIRED ",\"vcpus\":-1}",
	    "{" OPTIONAL "," REQUIRED ",\"vcpus\":1.5}",
	    "{" OPTIONAL "," REQUIRED ",\"labels\":[]}",
	    "{" OPTIONAL "," REQUIRED ",\"labels\":{\"a\":1}}",
	    "{" OPTIONAL "," REQUIRED ",\"ip_address\":\"a\\u0000b\"}",
	    "{" OPTIONAL "," REQUIRED ",\"ip_address\":\"\xff\"}",
	    "{" OPTIONAL "," REQUIRED ",\"ip_address\":7}",
	    "{\"id\":\"..\",\"vm_id\":\"v\"}",
	};
	struct snapshot s = {.id = "untouched"};

	for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
		ck_assert_msg(
		    snapshot_read(&s, span_str(broken[i])) == -EPROTO, "%s was taken", broken[i]);
	ck_assert_str_eq(s.id, "untouched");
}
END_TEST

START_TEST(ids_that_cannot_be_are_refused)
{
	static const char *const ids[] = {"", ".", "..", "a/b", "a\\b", "@guest", "\x7f"};
	struct snapshot s, bad = example;

	for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
		bad = example;
		bad.id = ids[i];
		ck_assert_int_eq(snapshot_read(&s, written(&bad)), -EPROTO);
		bad = example;
		bad.vm_id = ids[i];
		ck_assert_int_eq(snapshot_read(&s, written(&bad)), -EPROTO);
	}
	bad = example;
	bad.created_at = "";
	ck_assert_int_eq(snapshot_read(&s, written(&bad)), -EPROTO);
}
END_TEST

static void check_cut(struct span cut, void *ctx)
{
	struct snapshot s;

	(void)ctx;
	if (snapshot_read(&s, cut) == 0) {
		check_same(&s, &example); /* without the newline */
		snapshot_done(&s);
	}
}

static void check_mutated(struct span mutated, void *ctx)
{
	struct snapshot s, again;

	(void)ctx;
	if (snapshot_read(&s, mutated) < 0)
		return;
	ck_assert_int_eq(snapshot_read(&again, written(&s)), 0);
	check_same(&s, &again);
	snapshot_done(&again);
	snapshot_done(&s);
}

START_TEST(each_cut_and_each_mutation)
{
	each_cut(written(&example), check_cut, NULL);
	each_mutation(written(&example), check_mutated, NULL);
}
END_TEST

START_TEST(too_many_labels_are_refused)
{
	static struct label many[LABELS_MAX + 1];
	static uint8_t large[LABELS_BYTES];
	struct snapshot s, full = example;

	full.labels = (struct labels){many, LABELS_MAX};
	ck_assert_int_eq(snapshot_read(&s, written(&full)), 0);
	ck_assert_uint_eq(s.labels.n, LABELS_MAX);
	snapshot_done(&s);
	full.labels.n++;
	ck_assert_int_eq(snapshot_read(&s, written(&full)), -E2BIG);
	memset(large, 'x', sizeof large);
	many[0] = (struct label){span_of(large, 1), span_of(large, sizeof large)};
	full.labels.n = 1;
	ck_assert_int_eq(snapshot_read(&s, written(&full)), -E2BIG);
}
END_TEST

START_TEST(reading_without_memory)
{
	struct span json = written(&example);

	FAULT_EACH("malloc", ENOMEM)
	{
		struct snapshot s;
		int rc = snapshot_read(&s, json);

		ck_assert(rc == 0 || rc == -ENOMEM);
		if (rc == 0)
			snapshot_done(&s);
	}
}
END_TEST

START_TEST(times_sort)
{
	char a[SNAPSHOT_TIME_BYTES], b[SNAPSHOT_TIME_BYTES];

	snapshot_time(1769860800123456789, a);
	ck_assert_str_eq(a, "2026-01-31T12:00:00.123Z");
	snapshot_time(1769860800124000000, b);
	ck_assert_int_lt(strcmp(a, b), 0);
	snapshot_time(-5, a);
	ck_assert_str_eq(a, "1970-01-01T00:00:00.000Z");
}
END_TEST

/* --- the catalogue ---------------------------------------------------------------------------- */

static char data[64];
static char why_text[512];
static struct wr why;

static void setup(void)
{
	strcpy(data, "/tmp/snapshots-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(data));
	why = wr_of(why_text, sizeof why_text);
}

static const char *said(void)
{
	wr_nul(&why);
	return why_text;
}

static const char *in(const char *dir, const char *name)
{
	static char path[4][SNAPSHOT_PATH_BYTES];
	static unsigned at;
	char *to = path[at++ % 4];

	snprintf(to, SNAPSHOT_PATH_BYTES, "%s/%s", dir, name);
	return to;
}

static void put(const char *dir, const char *name, const char *text)
{
	ck_assert_int_eq(fs_replace_file(in(dir, name), span_str(text), 0600), 0);
}

static bool is_there(const char *path)
{
	return access(path, F_OK) == 0;
}

static void teardown(void)
{
	char command[128];

	snprintf(command, sizeof command, "rm -rf %s", data);
	ck_assert_int_eq(system(command), 0);
}

static struct snapshot called(const char *vm_id, const char *id, const char *created_at)
{
	struct snapshot s = example;

	s.vm_id = vm_id;
	s.id = id;
	s.created_at = created_at;
	return s;
}

static void take(const char *vm_id, const char *id, const char *created_at)
{
	struct snapshot s = called(vm_id, id, created_at);
	char part[SNAPSHOT_PATH_BYTES];

	ck_assert_int_eq(snapshot_begin(data, vm_id, id, &why), 0);
	ck_assert_int_eq(snapshot_part_dir(data, vm_id, id, part), 0);
	put(part, "vmstate", "state");
	put(part, "mem", "memory");
	ck_assert_int_eq(snapshot_commit(data, &s, &why), 0);
	ck_assert(!is_there(part));
}

/* The ids of what is listed, with blanks between. */
static const char *listed(struct snapshot_filter f, unsigned max)
{
	static char ids[256];
	struct snapshot_list l;
	int fd = fs_memfd("list");

	why = wr_of(why_text, sizeof why_text);
	ids[0] = '\0';
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(snapshot_collect(data, &f, max, fd, &why), 0);
	ck_assert_int_eq(snapshot_list_read(&l, fd), 0);
	for (size_t i = 0; i < l.n; i++) {
		strcat(ids, i ? " " : "");
		strcat(ids, l.items[i].id);
	}
	snapshot_list_done(&l);
	close(fd);
	return ids;
}

static const char *all(void)
{
	return listed((struct snapshot_filter){.vm_id = "", .id = ""}, 100);
}

START_TEST(they_are_listed_oldest_first)
{
	static const struct label other[] = {{SPAN_LIT("team"), SPAN_LIT("b")}};
	unsigned fds = fault_fds();

	setup();
	ck_assert_str_eq(all(), "");
	take("box-2", "c", "2026-01-03");
	take("box-1", "b", "2026-01-02");
	take("box-1", "a", "2026-01-04");
	take("box-3", "d", "2026-01-03");
	ck_assert_str_eq(all(), "b c d a");
	ck_assert_str_eq(listed((struct snapshot_filter){.vm_id = "box-1", .id = ""}, 9), "b a");
	ck_assert_str_eq(listed((struct snapshot_filter){.vm_id = "box", .id = ""}, 9), "");
	ck_assert_str_eq(listed((struct snapshot_filter){.vm_id = "", .id = "c"}, 9), "c");
	ck_assert_str_eq(listed((struct snapshot_filter){.vm_id = "box-1", .id = "c"}, 9), "");
	ck_assert_str_eq(
	    listed((struct snapshot_filter){.vm_id = "", .id = "", .labels = {two_labels, 1}}, 9),
	    "b c d a");
	ck_assert_str_eq(
	    listed((struct snapshot_filter){.vm_id = "", .id = "", .labels = {other, 1}}, 9), "");
	ck_assert_str_eq(said(), "");
	ck_assert_uint_eq(strlen(listed((struct snapshot_filter){.vm_id = "", .id = ""}, 2)), 3);
	ck_assert_ptr_nonnull(strstr(said(), "left out"));
	ck_assert_uint_eq(fault_fds(), fds);
	teardown();
}
END_TEST

START_TEST(many_are_listed_in_order)
{
	char id[16], time[16];

	setup();
	for (unsigned i = 0; i < 40; i++) {
		snprintf(id, sizeof id, "%02u", (i * 7) % 40);
		snprintf(time, sizeof time, "2026-%02u", (i * 7) % 40);
		take("box", id, time);
	}
	ck_assert_uint_eq(strlen(all()), 40 * 3 - 1);
	for (unsigned i = 0; i < 40; i++) {
		snprintf(id, sizeof id, "%02u", i);
		ck_assert_int_eq(strncmp(all() + (size_t)3 * i, id, 2), 0);
	}
	teardown();
}
END_TEST

START_TEST(what_is_broken_is_left_out)
{
	char dir[SNAPSHOT_PATH_BYTES];

	setup();
	take("box", "good", "2026");
	take("box", "bad", "2026");
	snapshot_dir(data, "box", "bad", dir);
	put(dir, "meta.json", "{\"id\":");
	ck_assert_str_eq(all(), "good");
	ck_assert_ptr_nonnull(strstr(said(), "box/bad/meta.json"));
	put(dir, "meta.json", (const char *)written(&example).p); /* of another one */
	ck_assert_str_eq(all(), "good");
	ck_assert_int_eq(unlink(in(dir, "meta.json")), 0);
	ck_assert_str_eq(all(), "good");
	ck_assert_int_eq(symlink("/dev/zero", in(dir, "meta.json")), 0);
	ck_assert_str_eq(all(), "good");
	ck_assert_ptr_nonnull(strstr(said(), "too large"));
	snapshot_dir(data, "box", "file", dir);
	close(open(dir, O_CREAT | O_WRONLY, 0600));
	snprintf(dir, sizeof dir, "%s/snapshots/file", data);
	close(open(dir, O_CREAT | O_WRONLY, 0600));
	ck_assert_str_eq(all(), "good");
	teardown();
}
END_TEST

START_TEST(one_that_is_being_written_is_not_there)
{
	struct snapshot s = called("box", "a", "2026");
	char part[SNAPSHOT_PATH_BYTES];

	setup();
	ck_assert_int_eq(snapshot_begin(data, "box", "a", &why), 0);
	ck_assert_int_eq(snapshot_begin(data, "box", "a", &why), -EEXIST);
	ck_assert_str_eq(all(), "");
	snapshot_part_dir(data, "box", "a", part);
	put(part, "vmstate", "half");
	ck_assert_int_eq(snapshot_abandon(data, "box", "a", &why), 0);
	ck_assert(!is_there(part));
	ck_assert_int_eq(snapshot_abandon(data, "box", "a", &why), 0);
	ck_assert_int_eq(snapshot_commit(data, &s, &why), -ENOENT);
	teardown();
}
END_TEST

START_TEST(they_are_removed)
{
	char dir[SNAPSHOT_PATH_BYTES];

	setup();
	ck_assert_int_eq(snapshot_delete(data, "a", &why), -ENOENT);
	take("box-1", "a", "2026-1");
	take("box-2", "b", "2026-2");
	ck_assert_int_eq(snapshot_delete(data, "c", &why), -ENOENT);
	ck_assert_int_eq(snapshot_delete(data, "..", &why), -ENOENT);
	ck_assert_int_eq(snapshot_delete(data, "", &why), -ENOENT);
	ck_assert_int_eq(snapshot_delete(data, "b", &why), 0);
	ck_assert_str_eq(all(), "a");
	snprintf(dir, sizeof dir, "%s/snapshots/box-2", data);
	ck_assert(!is_there(dir));
	ck_assert_int_eq(snapshot_delete(data, "b", &why), -ENOENT);
	teardown();
}
END_TEST

START_TEST(what_is_half_is_cleaned_up)
{
	char part[SNAPSHOT_PATH_BYTES];

	setup();
	ck_assert_uint_eq(snapshot_clean(data), 0);
	take("box-1", "a", "2026-1");
	ck_assert_int_eq(snapshot_begin(data, "box-1", "b", &why), 0);
	ck_assert_int_eq(snapshot_begin(data, "box-2", "c", &why), 0);
	snapshot_part_dir(data, "box-2", "c", part);
	put(part, "mem", "half");
	ck_assert_uint_eq(snapshot_clean(data), 2);
	ck_assert(!is_there(part));
	ck_assert_str_eq(all(), "a");
	ck_assert_uint_eq(snapshot_clean(data), 0);
	teardown();
}
END_TEST

START_TEST(long_paths_are_refused)
{
	static char deep[SNAPSHOT_PATH_BYTES + 1];
	struct snapshot s = called("box", "a", "2026");
	const struct snapshot_filter any = {.vm_id = "", .id = ""};

	setup();
	memset(deep, 'd', sizeof deep - 1);
	ck_assert_int_eq(snapshot_begin(deep, "box", "a", &why), -ENAMETOOLONG);
	ck_assert_int_eq(snapshot_commit(deep, &s, &why), -ENAMETOOLONG);
	ck_assert_int_eq(snapshot_abandon(deep, "box", "a", &why), -ENAMETOOLONG);
	ck_assert_int_eq(snapshot_delete(deep, "a", &why), -ENAMETOOLONG);
	ck_assert_int_eq(snapshot_collect(deep, &any, 1, 2, &why), -ENAMETOOLONG);
	ck_assert_uint_eq(snapshot_clean(deep), 0);
	teardown();
}
END_TEST

/* Takes one more while a call fails. Whether it is there now. */
static bool take_failing(const char *call, unsigned nth)
{
	struct snapshot s = called("box", "new", "2026-2");
	int rc;

	fault_arm(call, nth, EIO, false);
	rc = snapshot_begin(data, "box", "new", &why);
	if (rc == 0)
		rc = snapshot_commit(data, &s, &why);
	fault_disarm();
	return rc == 0;
}

START_TEST(failures_leave_the_old_or_the_new)
{
	static const char *const calls[] = {"malloc", "open", "openat", "write", "fsync", "rename"};
	unsigned fds = fault_fds();
	unsigned failures = 0;
	bool taken;

	setup();
	take("box", "old", "2026-1");
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		for (unsigned nth = 1; nth < 20; nth++) {
			taken = take_failing(calls[i], nth);
			ck_assert_str_eq(all(), taken ? "old new" : "old");
			if (taken)
				ck_assert_int_eq(snapshot_delete(data, "new", &why), 0);
			else
				failures++;
			snapshot_clean(data);
			ck_assert_uint_eq(fault_fds(), fds);
		}
	}
	ck_assert_uint_gt(failures, 5);
	teardown();
}
END_TEST

/* Killed at whatever moment, it is there as a whole or not at all, and what is half is cleaned up.
 */
START_TEST(a_crash_leaves_the_old_or_the_new)
{
	char part[SNAPSHOT_PATH_BYTES];

	setup();
	take("box", "old", "2026-1");
	snapshot_part_dir(data, "box", "new", part);
	for (unsigned us = 0; us < 3000; us += 100) {
		pid_t pid = fork();
		bool whole;

		ck_assert_int_ge(pid, 0);
		if (pid == 0) {
			take("box", "new", "2026-2");
			_exit(0);
		}
		usleep(us);
		kill(pid, SIGKILL);
		ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
		whole = strcmp(all(), "old new") == 0;
		ck_assert(whole || strcmp(all(), "old") == 0);
		snapshot_clean(data);
		ck_assert(!is_there(part));
		if (whole)
			ck_assert_int_eq(snapshot_delete(data, "new", &why), 0);
	}
	teardown();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    what_is_written_is_read,
	    what_need_not_be_there_is_empty,
	    what_is_broken_is_refused,
	    ids_that_cannot_be_are_refused,
	    each_cut_and_each_mutation,
	    too_many_labels_are_refused,
	    reading_without_memory,
	    times_sort,
	    they_are_listed_oldest_first,
	    many_are_listed_in_order,
	    what_is_broken_is_left_out,
	    one_that_is_being_written_is_not_there,
	    they_are_removed,
	    what_is_half_is_cleaned_up,
	    long_paths_are_refused,
	    failures_leave_the_old_or_the_new,
	    a_crash_leaves_the_old_or_the_new,
	    NULL,
	};

	return suite_of("snapshot", tests);
}
