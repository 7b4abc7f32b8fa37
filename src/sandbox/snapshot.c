#include "sandbox/snapshot.h"

#include "base/utc.h"
#include "codec/json.h"
#include "sys/clock.h"
#include "sys/fs.h"
#include "sys/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BEGIN_TRIES = 3, FIRST_ITEMS = 16 };

typedef char path_text[SNAPSHOT_PATH_BYTES];

void snapshot_time(int64_t real_ns, char out[SNAPSHOT_TIME_BYTES])
{
	uint64_t ns = real_ns > 0 ? (uint64_t)real_ns : 0;
	struct wr w = wr_of(out, SNAPSHOT_TIME_BYTES);

	utc_write(&w, ns / NS_PER_SEC, (uint32_t)(ns % NS_PER_SEC));
	wr_nul(&w);
}

/* --- meta.json -------------------------------------------------------------------------------- */

/* The members that are texts. */
static const struct {
	const char *key;
	size_t at; /* in struct snapshot */
	bool optional;
} texts[] = {
    {"id", offsetof(struct snapshot, id), false},
    {"vm_id", offsetof(struct snapshot, vm_id), false},
    {"name", offsetof(struct snapshot, name), false},
    {"vmstate_path", offsetof(struct snapshot, vmstate_path), false},
    {"mem_path", offsetof(struct snapshot, mem_path), false},
    {"created_at", offsetof(struct snapshot, created_at), false},
    {"parent_id", offsetof(struct snapshot, parent_id), false},
    {"kernel_path", offsetof(struct snapshot, kernel_path), false},
    {"rootfs_path", offsetof(struct snapshot, rootfs_path), false},
    {"ip_address", offsetof(struct snapshot, ip), true},
};
enum { TEXTS = sizeof texts / sizeof *texts };

static const char **text_member(struct snapshot *s, size_t i)
{
	return (const char **)(void *)((char *)s + texts[i].at);
}

void snapshot_write(const struct snapshot *s, struct wr *w)
{
	struct json_writer j = json_writer_of(w);

	json_put_object(&j);
	for (size_t i = 0; i < TEXTS; i++) {
		json_put_key(&j, texts[i].key);
		json_put_str(&j, *text_member((struct snapshot *)s, i));
	}
	json_put_key(&j, "snapshot_type");
	json_put_str(&j, "Full");
	json_put_key(&j, "vcpus");
	json_put_u64(&j, s->vcpus);
	json_put_key(&j, "memory_mib");
	json_put_u64(&j, s->memory_mib);
	json_put_key(&j, "labels");
	json_put_object(&j);
	for (size_t i = 0; i < s->labels.n; i++) {
		json_put_key_span(&j, s->labels.items[i].key);
		json_put_string(&j, s->labels.items[i].value);
	}
	json_put_object_end(&j);
	json_put_object_end(&j);
	wr_u8(w, '\n');
}

/* What is being read. Texts are unescaped into `text`, which has room for all: none becomes longer
 * than it was with its quotes. */
struct reading {
	struct json j;
	struct wr text;
	uint32_t seen; /* bits: members of `texts`, and the one below */
	struct label labels[LABELS_MAX];
	size_t n_labels;
};
enum { SEEN_TYPE = UINT32_C(1) << TEXTS };

/* Each key at most once. */
static void see(struct reading *r, uint32_t bit)
{
	if (r->seen & bit)
		json_fail(&r->j, E_MALFORMED);
	r->seen |= bit;
}

static struct span unescape(struct reading *r, const struct json_token *t)
{
	size_t from = r->text.n;
	enum err err = json_string(t, &r->text);

	if (err != E_OK)
		json_fail(&r->j, err);
	return span_of(r->text.p + from, r->text.n - from);
}

/* A text, or null for an empty one. */
static void take_text(struct reading *r, const char **out)
{
	struct json_token t;
	struct span text;

	if (json_null(&r->j) || !json_take_string(&r->j, &t))
		return;
	text = unescape(r, &t);
	if (span_find(text, '\0') < text.n)
		json_fail(&r->j, E_MALFORMED);
	wr_u8(&r->text, '\0');
	*out = (const char *)text.p;
}

static void take_labels(struct reading *r)
{
	struct json_token key, value;

	json_object(&r->j);
	while (json_key(&r->j, &key)) {
		struct label *l = &r->labels[r->n_labels];

		if (r->n_labels == LABELS_MAX) {
			json_fail(&r->j, E_LIMIT);
			continue;
		}
		if (!json_take_string(&r->j, &value))
			continue;
		l->key = unescape(r, &key);
		l->value = unescape(r, &value);
		r->n_labels++;
	}
}

static void take_type(struct reading *r)
{
	struct json_token t;

	see(r, SEEN_TYPE);
	if (json_take_string(&r->j, &t) && !json_is(&t, "Full"))
		json_fail(&r->j, E_UNKNOWN);
}

static void take_member(struct reading *r, const struct json_token *key, struct snapshot *out)
{
	for (size_t i = 0; i < TEXTS; i++) {
		if (json_is(key, texts[i].key)) {
			see(r, UINT32_C(1) << i);
			take_text(r, text_member(out, i));
			return;
		}
	}
	if (json_is(key, "snapshot_type"))
		take_type(r);
	else if (json_is(key, "vcpus"))
		json_take_u64(&r->j, 0, UINT32_MAX, &out->vcpus);
	else if (json_is(key, "memory_mib"))
		json_take_u64(&r->j, 0, UINT32_MAX, &out->memory_mib);
	else if (json_is(key, "labels"))
		take_labels(r);
}

/* Whether all that must be there is, and can be what it says. */
static bool is_whole(const struct reading *r, const struct snapshot *s)
{
	for (size_t i = 0; i < TEXTS; i++)
		if (!texts[i].optional && !(r->seen & UINT32_C(1) << i))
			return false;
	return r->seen & SEEN_TYPE && !sandbox_id_problem(span_str(s->id)) &&
	    !sandbox_id_problem(span_str(s->vm_id)) && s->created_at[0];
}

static int take_snapshot(struct reading *r, struct snapshot *out)
{
	struct json_token key;
	enum err err;

	json_object(&r->j);
	while (json_key(&r->j, &key))
		take_member(r, &key, out);
	err = json_end(&r->j);
	if (err == E_LIMIT)
		return -E2BIG;
	if (err != E_OK || !is_whole(r, out))
		return -EPROTO;
	return labels_copy(&out->labels, (struct labels){r->labels, r->n_labels});
}

int snapshot_read(struct snapshot *out, struct span json)
{
	struct snapshot s = {.text = malloc(json.n ? json.n : 1)};
	struct reading r = {.j = json_of(json), .text = wr_of(s.text, json.n)};
	int rc = -ENOMEM;

	for (size_t i = 0; i < TEXTS; i++)
		*text_member(&s, i) = "";
	if (s.text)
		rc = take_snapshot(&r, &s);
	if (rc < 0) {
		snapshot_done(&s);
		return rc;
	}
	*out = s;
	return 0;
}

void snapshot_done(struct snapshot *s)
{
	labels_done(&s->labels);
	free(s->text);
	*s = (struct snapshot){0};
}

/* --- places ----------------------------------------------------------------------------------- */

/* Texts, one behind the other. 0, or -ENAMETOOLONG with an empty one. */
static int join(
    path_text out, const char *a, const char *b, const char *c, const char *d, const char *e)
{
	struct wr w = wr_of(out, SNAPSHOT_PATH_BYTES);

	wr_str(&w, a);
	wr_str(&w, b);
	wr_str(&w, c);
	wr_str(&w, d);
	wr_str(&w, e);
	wr_nul(&w);
	if (w.err == E_OK)
		return 0;
	out[0] = '\0';
	return -ENAMETOOLONG;
}

/* Where the snapshots of one sandbox are; "": the catalogue itself. */
static int dir_of(const char *data_dir, const char *vm_id, path_text dir)
{
	return join(dir, data_dir, "/snapshots", *vm_id ? "/" : "", vm_id, "");
}

int snapshot_dir(const char *data_dir, const char *vm_id, const char *id, path_text dir)
{
	return join(dir, data_dir, "/snapshots/", vm_id, "/", id);
}

int snapshot_part_dir(const char *data_dir, const char *vm_id, const char *id, path_text dir)
{
	return join(dir, data_dir, "/snapshots/", vm_id, "/.", id);
}

static int meta_of(const char *dir, path_text path)
{
	return join(path, dir, "/meta.json", "", "", "");
}

/* "what path: why" */
static int fail(struct wr *why, const char *what, const char *path, int rc)
{
	wr_str(why, what);
	wr_str(why, " ");
	wr_str(why, path);
	wr_str(why, ": ");
	wr_str(why, rc == -EPROTO ? "it is broken" : err_text(rc));
	return rc;
}

/* Calls fn for what is in a directory, for as long as it returns 0; what it returned last, or
 * -errno. */
static int each_entry(const char *path, int (*fn)(void *ctx, const char *name), void *ctx)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;
	int rc = 0;

	if (!dir)
		return -errno;
	while (rc == 0 && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			rc = fn(ctx, entry->d_name);
	closedir(dir);
	return rc;
}

static int remove_directory(const char *path)
{
	struct tree_report report;
	int rc = tree_empty(path, &report);

	if (rc == 0 && rmdir(path) < 0)
		rc = report.rc < 0 ? report.rc : -errno;
	return rc == -ENOENT ? 0 : rc;
}

/* --- writing ---------------------------------------------------------------------------------- */

/* The directory above may be removed meanwhile, with the last snapshot that was in it. */
int snapshot_begin(const char *data_dir, const char *vm_id, const char *id, struct wr *why)
{
	path_text dir = "";
	int rc = snapshot_part_dir(data_dir, vm_id, id, dir);

	if (rc == 0)
		rc = -ENOENT;
	for (unsigned i = 0; i < BEGIN_TRIES && rc == -ENOENT; i++)
		rc = fs_make_dirs(dir, 0700);
	if (rc == 0)
		rc = -EEXIST;
	return rc < 0 ? fail(why, "cannot make", dir, rc) : 0;
}

static int write_meta(const char *dir, const struct snapshot *s)
{
	uint8_t *buf = malloc(SNAPSHOT_META_BYTES);
	struct wr w = wr_of(buf, SNAPSHOT_META_BYTES);
	path_text path;
	int rc = -ENOMEM;

	if (buf) {
		snapshot_write(s, &w);
		rc = w.err == E_OK ? meta_of(dir, path) : -E2BIG;
	}
	if (rc == 0)
		rc = fs_replace_file(path, wr_span(&w), 0600);
	free(buf);
	return rc;
}

/* The name is that of an entry of the directory that *ctx is an fd of. */
static int sync_entry(void *ctx, const char *name)
{
	const int *dir = ctx;
	int fd = openat(*dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	int rc;

	if (fd < 0)
		return -errno;
	rc = fsync(fd) < 0 ? -errno : 0;
	close(fd);
	return rc;
}

static int sync_directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc;

	if (fd < 0)
		return -errno;
	rc = each_entry(path, sync_entry, &fd);
	if (rc == 0 && fsync(fd) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

/* Gives it its name, for good. */
static int publish(const char *data_dir, const char *vm_id, const char *part, const char *dir)
{
	path_text above;
	int rc = rename(part, dir) < 0 ? -errno : 0;

	if (rc < 0)
		return rc;
	fs_sync_directory(dir);
	dir_of(data_dir, vm_id, above);
	fs_sync_directory(above);
	dir_of(data_dir, "", above);
	fs_sync_directory(above);
	return 0;
}

int snapshot_commit(const char *data_dir, const struct snapshot *s, struct wr *why)
{
	path_text part = "", dir = "";
	int rc = snapshot_part_dir(data_dir, s->vm_id, s->id, part);

	if (rc == 0)
		rc = snapshot_dir(data_dir, s->vm_id, s->id, dir);
	if (rc == 0)
		rc = write_meta(part, s);
	if (rc == 0)
		rc = sync_directory(part);
	if (rc == 0)
		rc = publish(data_dir, s->vm_id, part, dir);
	if (rc == 0)
		return 0;
	fail(why, "cannot write", dir, rc);
	snapshot_abandon(data_dir, s->vm_id, s->id, &(struct wr){0});
	return rc;
}

/* --- removing --------------------------------------------------------------------------------- */

/* Removes what lies there, and the directory above if nothing else is in it. */
static int remove_part(const char *data_dir, const char *vm_id, const char *id)
{
	path_text path;
	int rc = snapshot_part_dir(data_dir, vm_id, id, path);

	if (rc == 0)
		rc = remove_directory(path);
	if (rc == 0 && dir_of(data_dir, vm_id, path) == 0)
		rmdir(path);
	return rc;
}

int snapshot_abandon(const char *data_dir, const char *vm_id, const char *id, struct wr *why)
{
	int rc = remove_part(data_dir, vm_id, id);

	return rc < 0 ? fail(why, "cannot remove what was written of snapshot", id, rc) : 0;
}

struct deletion {
	const char *data_dir, *id;
	int rc;
};

/* Looks for it among those of one sandbox. Whether it was there. */
static int delete_of(void *ctx, const char *vm_id)
{
	struct deletion *d = ctx;
	path_text dir, part;

	if (snapshot_dir(d->data_dir, vm_id, d->id, dir) < 0 ||
	    snapshot_part_dir(d->data_dir, vm_id, d->id, part) < 0)
		return 0;
	if (rename(dir, part) < 0) {
		if (errno == ENOENT || errno == ENOTDIR)
			return 0;
		d->rc = -errno;
		return 1;
	}
	fs_sync_directory(dir);
	d->rc = remove_part(d->data_dir, vm_id, d->id);
	return 1;
}

int snapshot_delete(const char *data_dir, const char *id, struct wr *why)
{
	struct deletion d = {data_dir, id, -ENOENT};
	bool can_be = !sandbox_id_problem(span_str(id)) && id[0] != '.';
	path_text all;
	int rc = dir_of(data_dir, "", all);

	if (rc == 0 && can_be)
		rc = each_entry(all, delete_of, &d);
	if (rc >= 0)
		rc = d.rc;
	if (rc == -ENOENT)
		wr_str(why, "there is no such snapshot");
	else if (rc < 0)
		fail(why, "cannot remove snapshot", id, rc);
	return rc;
}

struct cleaning {
	const char *data_dir, *vm_id;
	unsigned n;
};

static int clean_part(void *ctx, const char *name)
{
	struct cleaning *c = ctx;

	if (name[0] == '.' && remove_part(c->data_dir, c->vm_id, name + 1) == 0)
		c->n++;
	return 0;
}

static int clean_of(void *ctx, const char *vm_id)
{
	struct cleaning *c = ctx;
	path_text path;

	c->vm_id = vm_id;
	if (dir_of(c->data_dir, vm_id, path) == 0) {
		each_entry(path, clean_part, c);
		rmdir(path); /* one that is empty */
	}
	return 0;
}

unsigned snapshot_clean(const char *data_dir)
{
	struct cleaning c = {.data_dir = data_dir};
	path_text path;

	if (dir_of(data_dir, "", path) == 0)
		each_entry(path, clean_of, &c);
	return c.n;
}

/* --- listing ---------------------------------------------------------------------------------- */

struct collection {
	const char *data_dir, *vm_id;
	const struct snapshot_filter *filter;
	unsigned left; /* more than that are left out */
	size_t bytes;
	int fd;
	uint8_t *meta; /* SNAPSHOT_META_BYTES */
	struct wr *why;
};

/* 0, 1 when that one is not wanted, or -errno. */
static int check_meta(const struct collection *c, struct span json, const char *id)
{
	struct snapshot s;
	int rc = snapshot_read(&s, json);

	if (rc < 0)
		return rc;
	if (strcmp(s.id, id) != 0 || strcmp(s.vm_id, c->vm_id) != 0)
		rc = -EPROTO;
	else if (!labels_match(s.labels, c->filter->labels))
		rc = 1;
	snapshot_done(&s);
	return rc;
}

static int collect_one(void *ctx, const char *id)
{
	struct collection *c = ctx;
	path_text dir, path = "";
	ssize_t n;
	int rc;

	if (id[0] == '.' || (c->filter->id[0] && strcmp(id, c->filter->id) != 0))
		return 0;
	rc = snapshot_dir(c->data_dir, c->vm_id, id, dir);
	if (rc == 0)
		rc = meta_of(dir, path);
	n = rc < 0 ? rc : fs_read_file(path, c->meta, SNAPSHOT_META_BYTES);
	rc = n < 0 ? (int)n : check_meta(c, span_of(c->meta, (size_t)n), id);
	if (rc == 0 && (c->left == 0 || (size_t)n > SNAPSHOT_LIST_BYTES - c->bytes))
		rc = -E2BIG;
	if (rc < 0 && c->why->n == 0)
		fail(c->why, "left out", path, rc);
	if (rc != 0)
		return 0;
	c->left--;
	c->bytes += (size_t)n;
	return fs_write_all(c->fd, span_of(c->meta, (size_t)n));
}

static int collect_of(void *ctx, const char *vm_id)
{
	struct collection *c = ctx;
	path_text path;
	int rc;

	c->vm_id = vm_id;
	if (c->filter->vm_id[0] && strcmp(vm_id, c->filter->vm_id) != 0)
		return 0;
	rc = dir_of(c->data_dir, vm_id, path);
	if (rc == 0)
		rc = each_entry(path, collect_one, c);
	return rc == -ENOENT || rc == -ENOTDIR ? 0 : rc;
}

int snapshot_collect(
    const char *data_dir, const struct snapshot_filter *f, unsigned max, int fd, struct wr *why)
{
	struct collection c = {
	    .data_dir = data_dir,
	    .filter = f,
	    .left = max,
	    .fd = fd,
	    .meta = malloc(SNAPSHOT_META_BYTES),
	    .why = why,
	};
	path_text path = "";
	int rc = dir_of(data_dir, "", path);

	if (!c.meta)
		rc = -ENOMEM;
	if (rc == 0)
		rc = each_entry(path, collect_of, &c);
	free(c.meta);
	if (rc == -ENOENT)
		rc = 0;
	return rc < 0 ? fail(why, "cannot list", path, rc) : 0;
}

/* By time, and by id where that is the same. */
static bool is_before(const struct snapshot *a, const struct snapshot *b)
{
	int order = strcmp(a->created_at, b->created_at);

	return order < 0 || (order == 0 && strcmp(a->id, b->id) < 0);
}

/* Puts one in its place, moved from *s. */
static int insert(struct snapshot_list *l, struct snapshot *s)
{
	struct snapshot *items = l->items;
	size_t at = l->n;

	if (l->n == 0 || (l->n >= FIRST_ITEMS && (l->n & (l->n - 1)) == 0)) {
		size_t room = l->n ? 2 * l->n : FIRST_ITEMS;

		items = realloc(l->items, room * sizeof *items);
		if (!items)
			return -ENOMEM;
		l->items = items;
	}
	for (; at > 0 && is_before(s, &items[at - 1]); at--)
		items[at] = items[at - 1];
	items[at] = *s;
	l->n++;
	return 0;
}

/* One document of the stream after the other. */
static int read_stream(struct snapshot_list *l, struct span in)
{
	struct json_scan scan = {0};
	struct snapshot s;
	size_t used;
	int rc = 0;

	while (rc == 0 && json_scan_value(&scan, in, &used) == E_OK) {
		rc = snapshot_read(&s, span_first(in, used));
		if (rc < 0)
			break;
		rc = insert(l, &s);
		if (rc < 0)
			snapshot_done(&s);
		in = span_from(in, used);
	}
	return rc;
}

/* All of a file in memory, which comes at once. */
static int read_whole(int fd, uint8_t **out, size_t *n)
{
	struct stat st;
	uint8_t *buf;
	ssize_t got;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size > SNAPSHOT_LIST_BYTES)
		return -E2BIG;
	buf = malloc((size_t)st.st_size + 1);
	if (!buf)
		return -ENOMEM;
	got = pread(fd, buf, (size_t)st.st_size, 0);
	if (got != st.st_size) {
		free(buf);
		return got < 0 ? -errno : -EIO;
	}
	*out = buf;
	*n = (size_t)got;
	return 0;
}

int snapshot_list_read(struct snapshot_list *out, int fd)
{
	struct snapshot_list l = {0};
	uint8_t *buf = NULL;
	size_t n = 0;
	int rc = read_whole(fd, &buf, &n);

	if (rc < 0)
		return rc;
	rc = read_stream(&l, span_of(buf, n));
	free(buf);
	if (rc < 0)
		snapshot_list_done(&l);
	else
		*out = l;
	return rc;
}

void snapshot_list_done(struct snapshot_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		snapshot_done(&l->items[i]);
	free(l->items);
	*l = (struct snapshot_list){0};
}
