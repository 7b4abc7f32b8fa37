/* A checkpoint, step by step:
 *
 *     make its directory → pause, save memory → copy the disk → resume → complete it
 *
 * The disk is copied while the VM is paused, so that it is the one that the memory knows. Whatever
 * fails, a VM that was paused is resumed. */
#include "base/log.h"
#include "base/utf8.h"
#include "sandbox/life.h"
#include "sys/clone.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PATH_BYTES = SNAPSHOT_PATH_BYTES + 16 }; /* of a file in the directory of a snapshot */
_Static_assert((int)PATH_BYTES >= (int)VM_PATH_BYTES, "that of a file of a VM's fits, too");

struct checkpoint {
	struct sandbox *sandbox;
	sandbox_id id;
	char name[SNAPSHOT_NAME_BYTES], created_at[SNAPSHOT_TIME_BYTES];
	struct labels labels;
	char dir[SNAPSHOT_PATH_BYTES], part[SNAPSHOT_PATH_BYTES]; /* at the end, and until then */
	char vmstate[PATH_BYTES], mem[PATH_BYTES];                /* as Firecracker sees them */
	struct firecracker_snapshot request;
	struct job job;
	void (*then)(struct checkpoint *c);
	int rc; /* the first failure */
	char why[SANDBOX_WHY_BYTES];
};

static void checkpoint_free(struct checkpoint *c)
{
	job_cancel(&c->job);
	c->sandbox->checkpoint = NULL;
	labels_done(&c->labels);
	free(c);
}

static const char *data_dir(const struct checkpoint *c)
{
	return c->sandbox->service->conf.config->data_dir;
}

static bool is_jailed(const struct checkpoint *c)
{
	return c->sandbox->service->conf.config->jailer.binary != NULL;
}

/* The first failure is the one to be told of. */
static void note_failure(struct checkpoint *c, int rc, struct span why)
{
	if (c->rc)
		return;
	c->rc = rc;
	span_to_cstr(utf8_first(why, sizeof c->why - 1), c->why, sizeof c->why);
}

/* An errno of the disk's is not one of the request's: ENOENT would say that there is no such
 * sandbox. EAGAIN is fork's. */
static void worked(void *arg, int rc, const char *why)
{
	struct checkpoint *c = arg;

	if (rc < 0)
		note_failure(c, rc == -EAGAIN ? rc : -EIO, span_str(why));
	c->then(c);
}

static void start_work(struct checkpoint *c, job_step_fn *step, void (*then)(struct checkpoint *c))
{
	c->then = then;
	job_start(&c->job, step, worked, c->sandbox->service->conf.checkpoint_ms);
}

/* --- the end ---------------------------------------------------------------------------------- */

static void answer(struct checkpoint *c)
{
	struct sandbox *b = c->sandbox;
	struct waiter saver = b->saver;
	const struct sandbox_snapshot snapshot = {
	    .id = c->id,
	    .sandbox_id = b->id,
	    .name = c->name,
	    .dir = c->dir,
	    .created_at = c->created_at,
	    .labels = c->labels,
	};

	b->saver.fn = NULL;
	if (c->rc < 0)
		waiter_refuse(&saver, c->rc, "checkpoint sandbox", b->id, c->why);
	else
		waiter_answer(&saver,
		    &(struct sandbox_answer){.why = "", .snapshots = &snapshot, .n_snapshots = 1});
}

static void end(struct checkpoint *c)
{
	struct sandbox *b = c->sandbox;

	answer(c);
	checkpoint_free(c);
	life_happen(b, LIFE_SAVED);
}

static int abandon(void *arg, struct wr *why)
{
	const struct checkpoint *c = arg;
	vm_path path;

	if (is_jailed(c)) {
		unlink(vm_host_path(&c->sandbox->vm.home, VM_VMSTATE, path));
		unlink(vm_host_path(&c->sandbox->vm.home, VM_MEM, path));
	}
	return snapshot_abandon(data_dir(c), c->sandbox->id, c->id, why);
}

/* The worker is a copy of this process: the checkpoint may go. */
static int abandon_alone(void *arg, int fd)
{
	char buf[SANDBOX_WHY_BYTES];
	struct wr why = wr_of(buf, sizeof buf);

	(void)fd;
	return abandon(arg, &why) < 0;
}

void checkpoint_lose(struct sandbox *b, const char *why)
{
	struct checkpoint *c = b->checkpoint;

	if (!c)
		return;
	job_cancel(&c->job);
	worker_detach(abandon_alone, c, -1);
	note_failure(c, -ECANCELED, span_str(why));
	answer(c);
	checkpoint_free(c);
}

/* --- its steps -------------------------------------------------------------------------------- */

static int complete(void *arg, struct wr *why)
{
	const struct checkpoint *c = arg;
	const struct sandbox *b = c->sandbox;
	char vmstate[PATH_BYTES], mem[PATH_BYTES];
	vm_path rootfs;
	const struct snapshot snapshot = {
	    .id = c->id,
	    .vm_id = b->id,
	    .name = c->name,
	    .vmstate_path = vmstate,
	    .mem_path = mem,
	    .created_at = c->created_at,
	    .parent_id = b->parent,
	    .kernel_path = b->vm.parts.kernel,
	    .rootfs_path = vm_host_path(&b->vm.home, VM_ROOTFS, rootfs),
	    .ip = b->ip,
	    .vcpus = b->vm.parts.vcpus,
	    .memory_mib = b->vm.parts.memory_mib,
	    .labels = c->labels,
	};

	text_join(vmstate, sizeof vmstate, c->dir, "/vmstate");
	text_join(mem, sizeof mem, c->dir, "/mem");
	return snapshot_commit(data_dir(c), &snapshot, why);
}

static void resumed(struct checkpoint *c)
{
	start_work(c, c->rc < 0 ? abandon : complete, end);
}

static void resume_answered(struct vm *vm, int rc)
{
	struct checkpoint *c = container_of(vm, struct sandbox, vm)->checkpoint;

	if (!c)
		return;
	if (rc < 0 && c->rc < 0)
		log_warn("sandbox", "a VM may stay paused after a checkpoint",
		    KV_STR("id", c->sandbox->id), KV_ERR(rc));
	else if (rc < 0) /* it was paused for certain, and is of no more use */
		vm_fail(vm, "cannot resume", rc);
	resumed(c);
}

static void resume(struct checkpoint *c)
{
	struct vm *vm = &c->sandbox->vm;

	vm_await_api(vm, firecracker_resume(&vm->api), resume_answered);
}

/* A file of the VM's, which a jailed one can replace by anything, into the snapshot's directory;
 * `move` takes it away there. */
static int keep(
    struct checkpoint *c, enum vm_file file, const char *name, bool move, struct wr *why)
{
	char to[PATH_BYTES];
	vm_path from;
	int rc;

	text_join(to, sizeof to, c->part, name);
	vm_host_path(&c->sandbox->vm.home, file, from);
	if (move && rename(from, to) == 0)
		return lchown(to, 0, 0) < 0 ? -errno : 0;
	rc = clone_file_of_others(from, to, 0600);
	if (rc == 0 && move)
		unlink(from);
	return rc == 0 ? 0 : wr_failure(why, "cannot copy", from, rc);
}

/* What a jailed VM has saved lies in its jail. */
static int copy(void *arg, struct wr *why)
{
	struct checkpoint *c = arg;
	int rc = keep(c, VM_ROOTFS, "/rootfs.ext4", false, why);

	if (rc == 0 && is_jailed(c))
		rc = keep(c, VM_VMSTATE, "/vmstate", true, why);
	if (rc == 0 && is_jailed(c))
		rc = keep(c, VM_MEM, "/mem", true, why);
	return rc;
}

static void save_answered(struct vm *vm, int rc)
{
	struct checkpoint *c = container_of(vm, struct sandbox, vm)->checkpoint;
	char text[FIRECRACKER_REASON_BYTES];
	struct wr w = wr_of(text, sizeof text);

	if (!c)
		return;
	if (rc == 0) {
		start_work(c, copy, resume);
		return;
	}
	firecracker_reason(&vm->api, &w);
	note_failure(c, rc, w.n ? wr_span(&w) : span_str(err_text(rc)));
	resume(c);
}

static const char *file_for_vm(
    struct checkpoint *c, enum vm_file file, const char *name, char buf[PATH_BYTES])
{
	if (is_jailed(c))
		return vm_inner_path(&c->sandbox->vm.home, file, buf);
	text_join(buf, PATH_BYTES, c->part, name);
	return buf;
}

static void save(struct checkpoint *c)
{
	struct vm *vm = &c->sandbox->vm;

	if (c->rc < 0) {
		end(c);
		return;
	}
	c->request = (struct firecracker_snapshot){
	    .vmstate = file_for_vm(c, VM_VMSTATE, "/vmstate", c->vmstate),
	    .mem = file_for_vm(c, VM_MEM, "/mem", c->mem),
	};
	vm_await_api(vm, firecracker_save(&vm->api, &c->request), save_answered);
}

static int begin(void *arg, struct wr *why)
{
	const struct checkpoint *c = arg;

	return snapshot_begin(data_dir(c), c->sandbox->id, c->id, why);
}

/* --- the request ------------------------------------------------------------------------------ */

/* 0 or -errno with *why. */
static int fill(struct checkpoint *c, struct span name, struct labels labels, const char **why)
{
	int rc = sandbox_id_new(c->id);

	*why = err_text(rc);
	if (rc < 0)
		return rc;
	*why = "its name is too long";
	if (!span_to_cstr(name, c->name, sizeof c->name))
		return -EINVAL;
	*why = "its directory's path would be too long";
	rc = snapshot_dir(data_dir(c), c->sandbox->id, c->id, c->dir);
	if (rc == 0)
		rc = snapshot_part_dir(data_dir(c), c->sandbox->id, c->id, c->part);
	if (rc < 0)
		return rc;
	snapshot_time(clock_real_ns(), c->created_at);
	rc = labels_copy(&c->labels, labels);
	*why = rc == -E2BIG ? "the labels are too many, or too large" : err_text(rc);
	return rc == -E2BIG ? -EINVAL : rc;
}

static int check(const struct sandboxes *s, const struct sandbox *b, const char **why)
{
	*why = s->ended ? "the agent is shutting down" : "there is no such sandbox";
	if (s->ended)
		return -ESHUTDOWN;
	if (!b)
		return -ENOENT;
	*why = "it is not ready";
	return life_allows(b, LIFE_SAVE) ? 0 : -EBUSY;
}

void sandbox_checkpoint(struct sandboxes *s, struct span id, struct span name, struct labels labels,
    sandbox_fn *fn, const struct sandbox_caller *caller)
{
	struct waiter w = {fn, *caller};
	struct sandbox *b = sandbox_find(s, id);
	struct checkpoint *c = NULL;
	char text[SANDBOX_WHY_BYTES];
	const char *why;
	int rc = check(s, b, &why);

	if (rc == 0) {
		why = err_text(-ENOMEM);
		c = calloc(1, sizeof *c);
		rc = c ? 0 : -ENOMEM;
	}
	if (rc == 0) {
		c->sandbox = b;
		c->job = (struct job){.reaper = s->host.reaper, .arg = c};
		rc = fill(c, name, labels, &why);
	}
	if (rc < 0) {
		free(c);
		refusal_text(text, "checkpoint sandbox", id, why);
		waiter_answer(&w, &(struct sandbox_answer){.rc = rc, .why = text});
		return;
	}
	b->saver = w;
	b->checkpoint = c;
	life_happen(b, LIFE_SAVE);
	start_work(c, begin, save);
}
