#include "sandbox/sandbox.h"

#include "base/log.h"
#include "sandbox/life.h"
#include "sys/fs.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum { CLEAN_MS = 10 * 60 * 1000 };

static const char *const state_names[SANDBOX_STATES] = {
    [SANDBOX_STARTING] = "starting",
    [SANDBOX_READY] = "ready",
    [SANDBOX_RUNNING] = "running",
    [SANDBOX_STOPPING] = "stopping",
    [SANDBOX_STOPPED] = "stopped",
    [SANDBOX_FAILED] = "failed",
    [SANDBOX_GUEST_STATE] = "guest",
};

const char *sandbox_state_name(enum sandbox_state state)
{
	return state_names[state];
}

static void refuse(struct waiter *w, int rc, const char *what, struct span id, const char *why)
{
	char text[SANDBOX_WHY_BYTES];

	refusal_text(text, what, id, why);
	waiter_answer(w, &(struct sandbox_answer){.rc = rc, .why = text});
}

static const char shutting_down[] = "the agent is shutting down";
static const char no_such_sandbox[] = "there is no such sandbox";

/* --- the table of all ------------------------------------------------------------------------- */

static struct sandbox *sandbox_of(struct link *l)
{
	return container_of(l, struct sandbox, link);
}

/* Also one that nobody sees yet. */
static struct sandbox *find_any(const struct sandboxes *s, struct span id)
{
	struct map_node *node = map_first(&s->by_id, map_hash(&s->by_id, id));

	for (; node; node = map_next(node)) {
		struct sandbox *b = container_of(node, struct sandbox, node);

		if (span_eq_str(id, b->id))
			return b;
	}
	return NULL;
}

struct sandbox *sandbox_find(const struct sandboxes *s, struct span id)
{
	struct sandbox *b = find_any(s, id);

	return b && b->state != LIFE_CHECKING ? b : NULL;
}

/* Whether another one lives in its directory: for the jailer, ids that differ may be alike. */
static bool has_company(const struct sandboxes *s, const struct sandbox *b)
{
	for (const struct link *l = s->all.next; l != &s->all; l = l->next) {
		const struct sandbox *other = container_of(l, const struct sandbox, link);

		if (other != b && strcmp(other->vm.home.dir, b->vm.home.dir) == 0)
			return true;
	}
	return false;
}

/* --- new ones --------------------------------------------------------------------------------- */

/* Its time to live is over. */
static void on_ttl(struct timer *t)
{
	struct sandbox *b = container_of(t, struct sandbox, ttl);

	log_info("sandbox", "its time is over", KV_STR("id", b->id));
	life_happen(b, LIFE_REMOVE);
}

/* 0 with an id that is legal and free; or -errno with *why. */
static int choose_id(const struct sandboxes *s, struct span wanted, sandbox_id id, const char **why)
{
	int rc = wanted.n ? 0 : sandbox_id_new(id);

	*why = err_text(rc);
	if (rc < 0 || !wanted.n)
		return rc;
	*why = sandbox_id_problem(wanted);
	if (*why)
		return -EINVAL;
	*why = "the id is used";
	if (find_any(s, wanted))
		return -EEXIST;
	span_to_cstr(wanted, id, sizeof(sandbox_id));
	return 0;
}

/* Whether there is a place for it: 0 with its id, or -errno with *why. */
static int choose_place(
    const struct sandboxes *s, const struct sandbox_plan *plan, sandbox_id id, const char **why)
{
	*why = "there are too many sandboxes";
	if (s->by_id.n >= s->conf.max_sandboxes)
		return -EAGAIN;
	return choose_id(s, plan->id, id, why);
}

/* One that is in no table; NULL with *rc and *why. */
static struct sandbox *sandbox_new(
    const struct sandbox_plan *plan, const char *id, int *rc, const char **why)
{
	struct sandbox *b = calloc(1, sizeof *b);

	*rc = b ? labels_copy(&b->labels, plan->labels) : -ENOMEM;
	*why = err_text(*rc);
	if (*rc == -E2BIG) {
		*rc = -EINVAL;
		*why = "its labels are too many, or too large";
	}
	if (*rc < 0) {
		free(b);
		return NULL;
	}
	span_to_cstr(span_str(id), b->id, sizeof b->id);
	if (plan->parent)
		span_to_cstr(span_str(plan->parent), b->parent, sizeof b->parent);
	b->networked = plan->networked;
	b->overrides_network = plan->overrides_network;
	b->wanted_ip = plan->wanted_ip;
	b->ttl_secs = plan->ttl_secs;
	return b;
}

/* Puts it into the tables, with its VM. 0, or -errno with *why. */
static int enter(struct sandboxes *s, struct sandbox *b, const char *home, struct vm_parts *parts,
    const char **why)
{
	int rc;

	b->service = s;
	timer_init(&b->ttl, s->loop, on_ttl);
	list_init(&b->turn);
	list_append(&s->all, &b->link);
	map_add(&s->by_id, &b->node, map_hash(&s->by_id, span_str(b->id)));
	rc = vm_init(&b->vm, &s->host, &life_vm_ops, b->id, home ? home : b->id, parts);
	*why = "the paths of its sockets would be too long";
	if (rc < 0)
		return rc;
	*why = "the directory that it has to live in is used by another sandbox";
	return has_company(s, b) ? -EBUSY : 0;
}

int sandbox_add(struct sandboxes *s, const struct sandbox_plan *plan, struct vm_parts *parts,
    struct sandbox **out, const char **why)
{
	sandbox_id id;
	int rc = choose_place(s, plan, id, why);
	struct sandbox *b = rc < 0 ? NULL : sandbox_new(plan, id, &rc, why);

	if (!b) {
		vm_parts_done(parts);
		return rc;
	}
	rc = enter(s, b, plan->home, parts, why);
	if (rc < 0)
		life_free(b);
	else
		*out = b;
	return rc;
}

/* A copy as a C string; of nothing, of the default. NULL when it cannot be had, with *rc. */
static char *copy_text(struct span given, const char *otherwise, size_t cap, int *rc)
{
	struct span from = given.n ? given : span_str(otherwise);
	char *copy = malloc(from.n + 1);

	if (!copy) {
		*rc = -ENOMEM;
	} else if (from.n >= cap || !span_to_cstr(from, copy, from.n + 1)) {
		*rc = -EINVAL;
		free(copy);
		copy = NULL;
	}
	return copy;
}

static int take_parts(
    const struct sandboxes *s, const struct sandbox_spec *spec, struct vm_parts *out)
{
	const struct sandbox_config *c = s->conf.config;
	int rc = 0;

	*out = (struct vm_parts){
	    .kernel = copy_text(spec->kernel, c->kernel, SANDBOX_PATH_BYTES, &rc),
	    .rootfs = copy_text(spec->rootfs, c->rootfs, SANDBOX_PATH_BYTES, &rc),
	    .boot_args = copy_text(spec->boot_args, c->boot_args, SANDBOX_BOOT_ARGS_BYTES, &rc),
	    .vcpus = spec->vcpus ? spec->vcpus : c->vcpus,
	    .memory_mib = spec->memory_mib ? spec->memory_mib : c->memory_mib,
	};
	if (rc < 0)
		vm_parts_done(out);
	return rc;
}

static const char *spec_problem(const struct sandbox_spec *spec)
{
	if (spec->network_mode.n && !span_eq_str(spec->network_mode, "tap") &&
	    !span_eq_str(spec->network_mode, "none"))
		return "there is no such network mode; there are tap and none";
	if (spec->vcpus > SANDBOX_VCPUS_MAX)
		return "a VM has 32 CPUs at most";
	return NULL;
}

/* 0, or -ENOMEM. */
static int take_first(struct sandbox *b, struct command *first)
{
	if (!first || first->args.n == 0)
		return 0;
	b->first = malloc(sizeof *b->first);
	if (!b->first)
		return -ENOMEM;
	*b->first = *first;
	command_init(first);
	return 0;
}

static int create(
    struct sandboxes *s, const struct sandbox_spec *spec, struct sandbox **out, const char **why)
{
	const struct sandbox_plan plan = {
	    .id = spec->id,
	    .labels = spec->labels,
	    .networked = !span_eq_str(spec->network_mode, "none"),
	    .ttl_secs = spec->ttl_secs,
	};
	struct vm_parts parts;
	int rc;

	*why = s->ended ? shutting_down : spec_problem(spec);
	if (*why)
		return s->ended ? -ESHUTDOWN : -EINVAL;
	rc = take_parts(s, spec, &parts);
	*why = rc == -EINVAL ? "a path or its boot arguments are too long" : err_text(rc);
	if (rc == 0)
		rc = sandbox_add(s, &plan, &parts, out, why);
	if (rc < 0)
		return rc;
	rc = take_first(*out, spec->first);
	*why = err_text(rc);
	if (rc < 0)
		life_free(*out);
	return rc;
}

void sandbox_create(struct sandboxes *s, const struct sandbox_spec *spec, sandbox_fn *fn,
    const struct sandbox_caller *caller)
{
	struct waiter w = {fn, *caller};
	struct sandbox *b;
	const char *why;
	int rc = create(s, spec, &b, &why);

	if (rc < 0) {
		refuse(&w, rc, "create sandbox", spec->id, why);
		return;
	}
	b->creator = w;
	life_begin(b);
}

/* --- stop and remove -------------------------------------------------------------------------- */

static void refuse_busy(
    struct waiter *w, const char *what, const struct sandbox *b, const char *wanted)
{
	char text[128];

	text_join(text, sizeof text, "it is ", life_name(b), wanted);
	refuse(w, -EBUSY, what, span_str(b->id), text);
}

void sandbox_stop(struct sandboxes *s, struct span id, uint32_t timeout_secs, sandbox_fn *fn,
    const struct sandbox_caller *caller)
{
	struct waiter w = {fn, *caller};
	struct sandbox *b = sandbox_find(s, id);

	if (!b) {
		refuse(&w, -ENOENT, "stop sandbox", id, no_such_sandbox);
	} else if (!life_allows(b, LIFE_STOP)) {
		refuse_busy(&w, "stop sandbox", b, ", not ready or running");
	} else {
		b->stopper = w;
		b->stop_timeout_secs = timeout_secs;
		life_happen(b, LIFE_STOP);
	}
}

static struct waiter *idle_waiter(struct waiter *waiters, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!waiters[i].fn)
			return &waiters[i];
	return NULL;
}

void sandbox_remove(struct sandboxes *s, struct span id, bool force, sandbox_fn *fn,
    const struct sandbox_caller *caller)
{
	struct waiter w = {fn, *caller};
	struct sandbox *b = sandbox_find(s, id);
	bool works = b && (b->state == LIFE_RUNNING || b->state == LIFE_SAVING);
	struct waiter *remover = b ? idle_waiter(b->removers, LIFE_REMOVERS) : NULL;

	if (!b) {
		refuse(&w, -ENOENT, "remove sandbox", id, no_such_sandbox);
	} else if (works && !force) {
		refuse_busy(&w, "remove sandbox", b, "; stop it first, or use force");
	} else if (!remover) {
		refuse(&w, -EAGAIN, "remove sandbox", id, "too many wait for that already");
	} else {
		*remover = w;
		life_happen(b, LIFE_REMOVE);
	}
}

/* --- inspect and list ------------------------------------------------------------------------- */

/* The guest itself, as far as it is like a sandbox. */
static const struct sandbox_info guest_info = {
    .id = SANDBOX_GUEST,
    .state = SANDBOX_GUEST_STATE,
    .ip = "",
    .gateway = "",
    .tap = "",
    .error = "",
};

void sandbox_inspect(
    struct sandboxes *s, struct span id, sandbox_fn *fn, const struct sandbox_caller *caller)
{
	struct waiter w = {fn, *caller};
	const struct sandbox *b = sandbox_find(s, id);
	struct sandbox_info info = guest_info;

	if (b) {
		life_info(b, &info);
	} else if (!span_eq_str(id, SANDBOX_GUEST) || !s->conf.max_guest_commands) {
		refuse(&w, -ENOENT, "inspect sandbox", id, no_such_sandbox);
		return;
	}
	waiter_answer(&w, &(struct sandbox_answer){.why = "", .infos = &info, .n_infos = 1});
}

static bool is_listed(const struct sandbox *b, struct span state, struct labels labels)
{
	return b->state != LIFE_CHECKING && labels_match(b->labels, labels) &&
	    (!state.n || span_eq_str(state, sandbox_state_name(life_state(b))));
}

void sandbox_list(struct sandboxes *s, struct span state, struct labels labels, sandbox_fn *fn,
    const struct sandbox_caller *caller)
{
	struct waiter w = {fn, *caller};
	struct sandbox_info *infos = malloc((s->by_id.n + 1) * sizeof *infos);
	size_t n = 0;

	if (!infos) {
		refuse(&w, -ENOMEM, "list sandboxes", span_str(""), err_text(-ENOMEM));
		return;
	}
	for (struct link *l = s->all.next; l != &s->all; l = l->next)
		if (is_listed(sandbox_of(l), state, labels))
			life_info(sandbox_of(l), &infos[n++]);
	if (span_eq_str(state, "guest") && labels.n == 0 && s->conf.max_guest_commands)
		infos[n++] = guest_info;
	waiter_answer(&w, &(struct sandbox_answer){.why = "", .infos = infos, .n_infos = n});
	free(infos);
}

int sandbox_subscribe(struct sandboxes *s, struct subscriber *sub, struct span id,
    struct span action, events_fn *fn, void *ctx)
{
	return s->ended ? -ESHUTDOWN : events_subscribe(&s->events, sub, id, action, fn, ctx);
}

/* --- the service ------------------------------------------------------------------------------ */

/* What an earlier agent left, and is gone. */
struct cleaning {
	unsigned directories, devices;
	int devices_rc;
};

/* VMs that outlived it come first: they hold their devices. */
static int clean(void *arg, int report_fd)
{
	const struct sandboxes *s = arg;
	struct cleaning c = {.directories = vm_files_clean(s->conf.config)};

	c.directories += snapshot_clean(s->conf.config->data_dir);
	c.devices_rc = nic_clean(&c.devices);
	return write(report_fd, &c, sizeof c) != sizeof c;
}

static void be_clean(struct sandboxes *s)
{
	struct link *next;

	s->clean = true;
	for (struct link *l = s->all.next; l != &s->all; l = next) {
		next = l->next;
		life_begin(sandbox_of(l));
	}
}

static void cleaned(struct worker *w, int rc, struct span report)
{
	struct sandboxes *s = container_of(w, struct sandboxes, cleaner);
	struct cleaning c = {0};

	if (rc < 0)
		log_error("sandbox", "cannot clean up after an earlier agent", KV_ERR(rc));
	if (report.n == sizeof c)
		memcpy(&c, report.p, sizeof c);
	if (c.devices_rc < 0)
		log_error("sandbox", "cannot remove old TAP devices", KV_ERR(c.devices_rc));
	if (c.directories || c.devices)
		log_info("sandbox", "removed what an earlier agent left",
		    KV_NUM("directories", c.directories), KV_NUM("devices", c.devices));
	be_clean(s);
}

/* Where an earlier agent would have left something. */
static bool may_be_dirty(const struct sandbox_config *config)
{
	uint64_t attributes;

	return config->jailer.binary || fs_attributes(config->data_dir, &attributes) == 0;
}

static void start_cleaning(struct sandboxes *s)
{
	int rc;

	if (!may_be_dirty(s->conf.config)) {
		be_clean(s);
		return;
	}
	rc = worker_start(&s->cleaner, s->host.reaper, clean, s, CLEAN_MS);
	if (rc < 0)
		cleaned(&s->cleaner, rc, span_of(NULL, 0));
}

static void on_deadline(struct timer *t)
{
	struct sandboxes *s = container_of(t, struct sandboxes, deadline);
	sandboxes_stopped_fn *stopped = s->stopped;

	log_error("sandbox", "not all sandboxes are removed", KV_NUM("left", s->by_id.n));
	s->stopped = NULL;
	stopped(s->stopped_ctx);
}

static void init(struct sandboxes *s, struct loop *l, struct reaper *reaper)
{
	const struct sandboxes_conf *conf = &s->conf;

	s->loop = l;
	s->cleaner.fn = cleaned;
	s->host.loop = l;
	s->host.reaper = reaper;
	s->host.config = conf->config;
	s->host.rootfs = conf->rootfs;
	s->host.prepare_ms = conf->prepare_ms;
	s->host.kill_ms = conf->kill_ms;
	list_init(&s->all);
	list_init(&s->waiting);
	list_init(&s->lookups);
	timer_init(&s->deadline, l, on_deadline);
	ip_format(&conf->config->gateway, s->gateway);
	subnet_init(&s->host.subnet, &conf->config->cidr, &conf->config->gateway);
	executor_init(&s->executor, l, reaper, conf->max_guest_commands);
}

struct sandboxes *sandboxes_new(
    struct loop *l, struct reaper *reaper, const struct sandboxes_conf *conf)
{
	struct sandboxes *s = calloc(1, sizeof *s);
	int rc;

	if (!s)
		return NULL;
	s->conf = *conf;
	init(s, l, reaper);
	rc = netlink_open(&s->host.netlink);
	if (rc < 0) {
		log_error("sandbox", "cannot set up networks", KV_ERR(rc));
		free(s);
		return NULL;
	}
	rc = map_init(&s->by_id, conf->max_sandboxes, conf->seed);
	if (rc == 0)
		rc = events_init(&s->events, l, conf->max_events, conf->max_subscribers);
	if (rc < 0) {
		map_done(&s->by_id);
		netlink_close(&s->host.netlink);
		free(s);
		return NULL;
	}
	start_cleaning(s);
	return s;
}

void sandboxes_free(struct sandboxes *s)
{
	if (!s)
		return;
	s->stopped = NULL;
	worker_cancel(&s->cleaner);
	timer_at(&s->deadline, 0);
	catalogue_drop(s, false);
	s->conf.max_starting = 0; /* nobody starts any more */
	for (struct link *l = s->all.next; l != &s->all; l = l->next)
		life_drop(sandbox_of(l));
	loop_bury(s->loop);
	while (!list_empty(&s->all))
		life_free(sandbox_of(list_first(&s->all)));
	events_done(&s->events);
	map_done(&s->by_id);
	netlink_close(&s->host.netlink);
	free(s);
}

void sandboxes_settle(struct sandboxes *s)
{
	sandboxes_stopped_fn *stopped = s->stopped;

	if (!stopped || !list_empty(&s->all))
		return;
	s->stopped = NULL;
	timer_at(&s->deadline, 0);
	stopped(s->stopped_ctx);
}

void sandboxes_stop(struct sandboxes *s, uint64_t wait_ms, sandboxes_stopped_fn *stopped, void *ctx)
{
	struct link *next;

	s->ended = true;
	worker_cancel(&s->cleaner);
	catalogue_drop(s, true);
	for (struct link *l = s->all.next; l != &s->all; l = next) {
		next = l->next;
		life_happen(sandbox_of(l), LIFE_REMOVE);
	}
	s->stopped = stopped;
	s->stopped_ctx = ctx;
	timer_in(&s->deadline, wait_ms * NS_PER_MS);
	sandboxes_settle(s);
}
