#include "vm_fake.h"

#include <fcntl.h>
#include <sys/stat.h>

/* The test is Firecracker; the catalogue and the files are real. */

static int save_rc, resume_rc;
static vm_path vmstate, mem; /* what it is asked to write */

int firecracker_save(struct firecracker *f, const struct firecracker_snapshot *s)
{
	(void)f;
	strcpy(vmstate, s->vmstate);
	strcpy(mem, s->mem);
	return save_rc;
}

int firecracker_resume(struct firecracker *f)
{
	(void)f;
	return resume_rc;
}

void firecracker_reason(const struct firecracker *f, struct wr *w)
{
	(void)f;
	wr_str(w, "PUT /snapshot/create: no");
}

static const struct label blue[] = {{SPAN_LIT("colour"), SPAN_LIT("blue")}};

static void make_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	ck_assert_msg(f, "%s", path);
	ck_assert_int_ge(fputs(text, f), 0);
	ck_assert_int_eq(fclose(f), 0);
}

static void make_dirs(const char *path)
{
	char command[SNAPSHOT_PATH_BYTES + 16];

	snprintf(command, sizeof command, "mkdir -p %s", path);
	ck_assert_int_eq(system(command), 0);
}

/* A sandbox that is ready, and has a disk. */
static struct sandbox *with_disk(void)
{
	struct sandbox *b = ready("one");
	vm_path path;

	make_dirs(b->vm.home.root);
	make_file(vm_host_path(&b->vm.home, VM_ROOTFS, path), "disk");
	return b;
}

static void ask(void)
{
	sandbox_checkpoint(service, span_str("one"), span_str("mine"), (struct labels){blue, 1},
	    answered, &caller);
}

/* Until the VM is asked for something. */
static void await_api(void)
{
	for (unsigned i = 0; i < 20000 && !vm_done_so_far[0]; i++)
		turns(1);
	vm_assert_done("w");
}

static void save_files(void)
{
	make_file(vmstate, "state");
	make_file(mem, "memory");
}

static unsigned list(void)
{
	answer.n = 0;
	sandbox_snapshots(service, span_str("one"), (struct labels){blue, 1}, answered, &caller);
	await_answer();
	assert_answer(0, "");
	return (unsigned)answer.n_snapshots;
}

static void assert_file(const char *name, const char *text)
{
	char path[SNAPSHOT_PATH_BYTES + 16], got[16] = "";
	int fd;

	snprintf(path, sizeof path, "%s/%s", answer.dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert_msg(fd >= 0, "%s", path);
	ck_assert_int_ge(read(fd, got, sizeof got - 1), 0);
	ck_assert_str_eq(got, text);
	close(fd);
}

START_TEST(a_checkpoint_goes_step_by_step)
{
	struct sandbox *b;

	service_start();
	b = with_disk();
	ask();
	ck_assert_int_eq(b->state, LIFE_SAVING);
	ck_assert_int_eq(life_state(b), SANDBOX_READY);
	await_api();
	ck_assert_ptr_nonnull(strstr(vmstate, "/snapshots/one/."));
	save_files();
	vm_api_then(&b->vm, 0);
	await_api(); /* the disk is copied, and it is resumed */
	assert_no_answer();
	vm_api_then(&b->vm, 0);
	await_answer();
	assert_answer(0, "");
	ck_assert_uint_eq(answer.n_snapshots, 1);
	ck_assert_int_eq(b->state, LIFE_READY);
	assert_file("rootfs.ext4", "disk");
	assert_file("vmstate", "state");
	assert_file("mem", "memory");
	ck_assert_uint_eq(list(), 1);
	assert_file("vmstate", "state"); /* in the directory that is listed */
	assert_happened("");
	service_end();
}
END_TEST

START_TEST(a_vm_that_cannot_be_saved_is_resumed)
{
	struct sandbox *b;

	service_start();
	b = with_disk();
	ask();
	await_api();
	save_files(); /* half of it */
	vm_api_then(&b->vm, -EREMOTEIO);
	vm_assert_done("w");
	vm_api_then(&b->vm, 0);
	await_answer();
	assert_answer(-EREMOTEIO, "cannot checkpoint sandbox 'one': PUT /snapshot/create: no");
	ck_assert_int_eq(b->state, LIFE_READY);
	ck_assert_uint_eq(list(), 0);
	ck_assert_int_ne(access(vmstate, F_OK), 0);
	service_end();
}
END_TEST

START_TEST(a_disk_that_cannot_be_copied_leaves_no_snapshot)
{
	struct sandbox *b;
	vm_path path;

	service_start();
	b = with_disk();
	unlink(vm_host_path(&b->vm.home, VM_ROOTFS, path));
	ask();
	await_api();
	save_files();
	vm_api_then(&b->vm, 0);
	await_api();
	vm_api_then(&b->vm, 0);
	await_answer();
	assert_answer(-EIO, "rootfs.ext4: No such file");
	ck_assert_uint_eq(list(), 0);
	service_end();
}
END_TEST

START_TEST(a_vm_that_is_not_resumed_is_of_no_more_use)
{
	struct sandbox *b;

	service_start();
	b = with_disk();
	ask();
	await_api();
	save_files();
	vm_api_then(&b->vm, 0);
	await_api();
	vm_api_then(&b->vm, -ETIMEDOUT);
	vm_assert_done("f");
	await_answer();
	assert_answer(0, "");
	/* Where it may not even have been paused, it is left alone. */
	b->state = LIFE_READY;
	ask();
	await_api();
	vm_api_then(&b->vm, -EREMOTEIO);
	vm_assert_done("w");
	vm_api_then(&b->vm, -EREMOTEIO);
	vm_assert_done("");
	await_answer();
	assert_answer(-EREMOTEIO, "");
	service_end();
}
END_TEST

START_TEST(a_directory_that_cannot_be_made_ends_it)
{
	char path[64];

	service_start();
	with_disk();
	snprintf(path, sizeof path, "%s/snapshots", data_dir);
	make_file(path, "in the way");
	ask();
	await_answer();
	assert_answer(-EIO, "snapshots");
	vm_assert_done("");
	ck_assert_int_eq(find("one")->state, LIFE_READY);
	service_end();
}
END_TEST

static void assert_refused(const char *name, struct labels labels, int rc, const char *why)
{
	sandbox_checkpoint(service, span_str("one"), span_str(name), labels, answered, &caller);
	assert_answer(rc, why);
	ck_assert_ptr_null(find("one")->checkpoint);
}

START_TEST(what_cannot_be_is_refused)
{
	static const struct label many[LABELS_MAX + 1];
	char name[SNAPSHOT_NAME_BYTES + 1];
	struct sandbox *b;

	service_start();
	b = with_disk();
	memset(name, 'n', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	assert_refused(name, (struct labels){0}, -EINVAL, "its name is too long");
	assert_refused("", (struct labels){many, LABELS_MAX + 1}, -EINVAL, "labels");
	for (int state = LIFE_STARTING; state < LIFE_STATES; state++) {
		b->state = (enum life_state)state;
		if (state != LIFE_READY)
			assert_refused("", (struct labels){0}, -EBUSY, "it is not ready");
	}
	b->state = LIFE_READY;
	fault_arm("calloc", 1, ENOMEM, false);
	assert_refused("", (struct labels){0}, -ENOMEM, "memory");
	ck_assert(fault_disarm());
	service->ended = true;
	assert_refused("", (struct labels){0}, -ESHUTDOWN, "shutting down");
	service_end();
}
END_TEST

/* What is written by then goes. */
static void assert_nothing_left(void)
{
	for (unsigned i = 0; i < 20000 && access(vmstate, F_OK) == 0; i++)
		turns(1);
	ck_assert_uint_eq(list(), 0);
}

START_TEST(a_vm_that_dies_takes_the_checkpoint_with_it)
{
	struct sandbox *b;

	service_start();
	b = with_disk();
	ask();
	await_api();
	save_files();
	b->vm.ops->ended(&b->vm, "dead");
	assert_answer(-ECANCELED, "the sandbox's VM died");
	ck_assert_int_eq(b->state, LIFE_FAILING);
	vm_api_then(&b->vm, 0); /* too late */
	assert_nothing_left();
	service_end();
}
END_TEST

START_TEST(a_removal_takes_the_checkpoint_with_it)
{
	service_start();
	with_disk();
	ask(); /* its directory is being made */
	sandbox_remove(service, span_str("one"), true, answered, &caller);
	assert_answer(-ECANCELED, "the sandbox was removed");
	vm_assert_done("k");
	service_end();
}
END_TEST

START_TEST(without_a_worker_there_is_no_checkpoint)
{
	service_start();
	with_disk();
	fault_arm("fork", 1, EAGAIN, false);
	ask();
	ck_assert(fault_disarm());
	turns(1);
	assert_answer(-EAGAIN, "");
	ck_assert_int_eq(find("one")->state, LIFE_READY);
	service_end();
}
END_TEST

static struct sandbox *jailed_with_disk(void)
{
	static char base[64];

	snprintf(base, sizeof base, "%s/jail", data_dir);
	config.jailer.binary = "/jailer";
	config.jailer.chroot_base_dir = base;
	return with_disk();
}

/* What a jailed VM saves lies in its jail, and is moved out. */
START_TEST(a_jailed_vm_saves_where_it_can)
{
	struct sandbox *b;
	vm_path path;

	service_start();
	b = jailed_with_disk();
	ask();
	await_api();
	ck_assert_str_eq(vmstate, "/vmstate");
	ck_assert_str_eq(mem, "/mem");
	make_file(vm_host_path(&b->vm.home, VM_VMSTATE, path), "state");
	make_file(vm_host_path(&b->vm.home, VM_MEM, path), "memory");
	vm_api_then(&b->vm, 0);
	await_api();
	ck_assert_int_ne(access(path, F_OK), 0);
	vm_api_then(&b->vm, 0);
	await_answer();
	assert_answer(0, "");
	assert_file("vmstate", "state");
	assert_file("mem", "memory");
	service_end();
}
END_TEST

/* Nothing keeps the VM from putting something else where its disk was. */
START_TEST(a_jailed_vm_gets_no_file_of_others)
{
	char secret[64];
	struct sandbox *b;
	vm_path path;

	service_start();
	b = jailed_with_disk();
	snprintf(secret, sizeof secret, "%s/secret", data_dir);
	make_file(secret, "secret");
	vm_host_path(&b->vm.home, VM_ROOTFS, path);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(symlink(secret, path), 0);
	ask();
	await_api();
	make_file(vm_host_path(&b->vm.home, VM_VMSTATE, path), "state");
	make_file(vm_host_path(&b->vm.home, VM_MEM, path), "memory");
	vm_api_then(&b->vm, 0);
	await_api();
	vm_api_then(&b->vm, 0);
	await_answer();
	assert_answer(-EIO, "rootfs.ext4: Too many levels of symbolic links");
	ck_assert_uint_eq(list(), 0);
	service_end();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    a_checkpoint_goes_step_by_step,
	    a_vm_that_cannot_be_saved_is_resumed,
	    a_disk_that_cannot_be_copied_leaves_no_snapshot,
	    a_vm_that_is_not_resumed_is_of_no_more_use,
	    a_directory_that_cannot_be_made_ends_it,
	    what_cannot_be_is_refused,
	    a_vm_that_dies_takes_the_checkpoint_with_it,
	    a_removal_takes_the_checkpoint_with_it,
	    without_a_worker_there_is_no_checkpoint,
	    a_jailed_vm_saves_where_it_can,
	    a_jailed_vm_gets_no_file_of_others,
	    NULL,
	};

	return suite_of("checkpoint", tests);
}
