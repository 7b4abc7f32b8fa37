/* Requests that need the catalogue of snapshots, which is on a disk: each has a worker of its own.
 */
#include "base/log.h"
#include "sandbox/life.h"
#include "sys/fs.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* What a restore is told beyond the snapshot's id. */
struct restore {
	sandbox_id id; /* of the new sandbox; "": any */
	struct labels labels;
	bool network_override;
	uint32_t ttl_secs;
};

struct lookup {
	struct link link;
	struct sandboxes *service;
	struct waiter waiter;
	const char *what; /* for a refusal */
	sandbox_id vm_id, id;
	struct labels labels;
	struct restore restore;
	void (*then)(struct lookup *l, struct snapshot_list *found);
	struct job job; /* its keep_fd: the memory that a list is written to */
};

static void lookup_free(struct lookup *l)
{
	job_cancel(&l->job);
	list_remove(&l->link);
	if (l->job.keep_fd)
		close(l->job.keep_fd);
	labels_done(&l->labels);
	labels_done(&l->restore.labels);
	free(l);
}

static void fail(struct lookup *l, int rc, const char *why)
{
	waiter_refuse(&l->waiter, rc, l->what, l->id, why);
	lookup_free(l);
}

static void fail_labels(struct lookup *l, int rc)
{
	if (rc == -E2BIG)
		fail(l, -EINVAL, "the labels are too many, or too large");
	else
		fail(l, rc, err_text(rc));
}

/* --- the worker ------------------------------------------------------------------------------- */

static const char *data_dir(const struct lookup *l)
{
	return l->service->conf.config->data_dir;
}

static int collect(void *arg, struct wr *why)
{
	const struct lookup *l = arg;
	const struct snapshot_filter filter = {.vm_id = l->vm_id, .id = l->id, .labels = l->labels};

	return snapshot_collect(
	    data_dir(l), &filter, l->service->conf.max_snapshots, l->job.keep_fd, why);
}

static int delete (void *arg, struct wr *why)
{
	const struct lookup *l = arg;

	return snapshot_delete(data_dir(l), l->id, why);
}

static void worked(void *arg, int rc, const char *why)
{
	struct lookup *l = arg;
	struct snapshot_list found = {0};

	if (rc == 0 && *why)
		log_warn("sandbox", "not all snapshots are listed", KV_STR("why", why));
	if (rc == 0 && l->job.keep_fd) {
		rc = snapshot_list_read(&found, l->job.keep_fd);
		why = err_text(rc);
	}
	if (rc < 0) {
		fail(l, rc, why);
		return;
	}
	l->then(l, &found);
	snapshot_list_done(&found);
	lookup_free(l);
}

/* How many there are. */
static unsigned count(const struct sandboxes *s)
{
	unsigned n = 0;

	for (const struct link *l = s->lookups.next; l != &s->lookups; l = l->next)
		n++;
	return n;
}

/* A request; NULL with the refusal told. An id that none can have is refused, too. */
static struct lookup *lookup_new(struct sandboxes *s, const char *what, struct span id,
    sandbox_fn *fn, const struct sandbox_caller *caller)
{
	struct waiter w = {fn, *caller};
	bool busy = count(s) >= s->conf.max_snapshot_requests;
	struct lookup *l = s->ended || busy ? NULL : calloc(1, sizeof *l);

	if (s->ended)
		waiter_refuse(&w, -ESHUTDOWN, what, "", "the agent is shutting down");
	else if (busy)
		waiter_refuse(&w, -EAGAIN, what, "", "too many requests for snapshots wait");
	else if (!l)
		waiter_refuse(&w, -ENOMEM, what, "", err_text(-ENOMEM));
	if (!l)
		return NULL;
	l->service = s;
	l->waiter = w;
	l->what = what;
	l->job = (struct job){.reaper = s->host.reaper, .arg = l};
	list_append(&s->lookups, &l->link);
	if (span_to_cstr(id, l->id, sizeof l->id))
		return l;
	fail(l, -ENOENT, "there is no such snapshot");
	return NULL;
}

static void start(struct lookup *l, bool lists, job_step_fn *step,
    void (*then)(struct lookup *l, struct snapshot_list *found))
{
	int fd = lists ? fs_memfd("snapshots") : 0;

	if (fd < 0) {
		fail(l, fd, err_text(fd));
		return;
	}
	l->then = then;
	l->job.keep_fd = fd;
	job_start(&l->job, step, worked, l->service->conf.snapshots_ms);
}

void catalogue_drop(struct sandboxes *s, bool tell)
{
	while (!list_empty(&s->lookups)) {
		struct lookup *l = container_of(list_first(&s->lookups), struct lookup, link);

		if (!tell)
			l->waiter.fn = NULL;
		fail(l, -ESHUTDOWN, "the agent is shutting down");
	}
}

/* --- list and delete -------------------------------------------------------------------------- */

/* Where its directory is: that of its files. */
static void dir_of(const struct snapshot *s, char out[SNAPSHOT_PATH_BYTES])
{
	struct span path = span_str(s->vmstate_path);

	while (path.n && path.p[path.n - 1] != '/')
		path.n--;
	if (path.n)
		path.n--;
	span_to_cstr(path, out, SNAPSHOT_PATH_BYTES);
}

static struct sandbox_snapshot view(const struct snapshot *s, char dir[SNAPSHOT_PATH_BYTES])
{
	dir_of(s, dir);
	return (struct sandbox_snapshot){
	    .id = s->id,
	    .sandbox_id = s->vm_id,
	    .name = s->name,
	    .dir = dir,
	    .created_at = s->created_at,
	    .labels = s->labels,
	};
}

static void answer_list(struct lookup *l, struct snapshot_list *found)
{
	struct sandbox_snapshot *views = malloc(found->n * sizeof *views + 1);
	char(*dirs)[SNAPSHOT_PATH_BYTES] = malloc(found->n * sizeof *dirs + 1);

	for (size_t i = 0; views && dirs && i < found->n; i++)
		views[i] = view(&found->items[i], dirs[i]);
	if (views && dirs)
		waiter_answer(&l->waiter,
		    &(struct sandbox_answer){
			.why = "", .snapshots = views, .n_snapshots = found->n});
	else
		waiter_refuse(&l->waiter, -ENOMEM, l->what, "", err_text(-ENOMEM));
	free(views);
	free(dirs);
}

void sandbox_snapshots(struct sandboxes *s, struct span of, struct labels labels, sandbox_fn *fn,
    const struct sandbox_caller *caller)
{
	struct lookup *l = lookup_new(s, "list snapshots", span_str(""), fn, caller);
	int rc;

	if (!l)
		return;
	/* One that nobody can have has no snapshots. */
	if (!span_to_cstr(of, l->vm_id, sizeof l->vm_id)) {
		answer_list(l, &(struct snapshot_list){0});
		lookup_free(l);
		return;
	}
	rc = labels_copy(&l->labels, labels);
	if (rc < 0)
		fail_labels(l, rc);
	else
		start(l, true, collect, answer_list);
}

static void answer_delete(struct lookup *l, struct snapshot_list *found)
{
	(void)found;
	waiter_answer(&l->waiter, &(struct sandbox_answer){.why = ""});
}

void sandbox_snapshot_delete(struct sandboxes *s, struct span snapshot_id, sandbox_fn *fn,
    const struct sandbox_caller *caller)
{
	struct lookup *l = lookup_new(s, "delete snapshot", snapshot_id, fn, caller);

	if (l)
		start(l, false, delete, answer_delete);
}

/* --- restore ---------------------------------------------------------------------------------- */

/* Without a jailer a snapshot's VM finds its files where they were, in the directory that this path
 * tells: .../<id>/rootfs.ext4. */
static void home_of(const struct snapshot *snap, sandbox_id home)
{
	struct span rest = span_str(snap->rootfs_path), parent = span_of(NULL, 0), name = parent;

	while (rest.p) {
		parent = name;
		name = span_split(&rest, '/');
	}
	if (sandbox_id_problem(parent) || !span_to_cstr(parent, home, sizeof(sandbox_id)))
		span_to_cstr(span_str(snap->vm_id), home, sizeof(sandbox_id));
}

static char *concatenate(const char *a, const char *b)
{
	size_t n = strlen(a) + strlen(b) + 1;
	char *text = malloc(n);

	if (text)
		text_join(text, n, a, b);
	return text;
}

static int take_parts(const struct snapshot *snap, struct vm_parts *out)
{
	char dir[SNAPSHOT_PATH_BYTES];

	dir_of(snap, dir);
	*out = (struct vm_parts){
	    .kernel = concatenate(snap->kernel_path, ""),
	    .rootfs = concatenate(dir, "/rootfs.ext4"),
	    .boot_args = concatenate("", ""),
	    .snapshot = concatenate(dir, ""),
	    .vcpus = snap->vcpus,
	    .memory_mib = snap->memory_mib,
	};
	if (out->kernel && out->rootfs && out->boot_args && out->snapshot)
		return 0;
	vm_parts_done(out);
	return -ENOMEM;
}

static int restore(
    struct lookup *l, const struct snapshot *snap, struct sandbox **out, const char **why)
{
	const struct restore *r = &l->restore;
	bool jailed = l->service->conf.config->jailer.binary != NULL;
	struct sandbox_plan plan = {
	    .id = span_str(r->id),
	    .labels = r->labels,
	    .networked = snap->ip[0] != '\0',
	    .overrides_network = r->network_override,
	    .parent = snap->id,
	    .ttl_secs = r->ttl_secs,
	};
	struct vm_parts parts;
	sandbox_id home;
	int rc;

	home_of(snap, home);
	plan.home = jailed ? NULL : home;
	if (!r->network_override)
		ip_parse(span_str(snap->ip), &plan.wanted_ip);
	rc = take_parts(snap, &parts);
	*why = err_text(rc);
	return rc < 0 ? rc : sandbox_add(l->service, &plan, &parts, out, why);
}

static void restore_found(struct lookup *l, struct snapshot_list *found)
{
	struct sandbox *b;
	const char *why;
	int rc;

	if (found->n == 0) {
		waiter_refuse(&l->waiter, -ENOENT, l->what, l->id, "there is no such snapshot");
		return;
	}
	rc = restore(l, &found->items[0], &b, &why);
	if (rc < 0) {
		waiter_refuse(&l->waiter, rc, l->what, l->id, why);
		return;
	}
	b->creator = l->waiter;
	life_begin(b);
}

void sandbox_restore(struct sandboxes *s, const struct sandbox_restore_spec *spec, sandbox_fn *fn,
    const struct sandbox_caller *caller)
{
	struct lookup *l = lookup_new(s, "restore snapshot", spec->snapshot_id, fn, caller);
	const char *problem = spec->id.n ? sandbox_id_problem(spec->id) : NULL;
	int rc;

	if (!l)
		return;
	if (problem) {
		fail(l, -EINVAL, problem);
		return;
	}
	if (!l->id[0]) { /* which would stand for all */
		fail(l, -ENOENT, "there is no such snapshot");
		return;
	}
	span_to_cstr(spec->id, l->restore.id, sizeof l->restore.id);
	l->restore.network_override = spec->network_override;
	l->restore.ttl_secs = spec->ttl_secs;
	rc = labels_copy(&l->restore.labels, spec->labels);
	if (rc < 0)
		fail_labels(l, rc);
	else
		start(l, true, collect, restore_found);
}
