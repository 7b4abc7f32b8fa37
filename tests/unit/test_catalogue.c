#include "vm_fake.h"

#include <sys/stat.h>

/* The catalogue is real. */

static const struct label blue[] = {{SPAN_LIT("colour"), SPAN_LIT("blue")}};

static sandbox_id snapshot_id;

/* A snapshot of a VM that lived in the directory of `home`. */
static void make_snapshot(const char *vm, const char *home, const char *ip)
{
	char dir[SNAPSHOT_PATH_BYTES], vmstate[SNAPSHOT_PATH_BYTES + 16];
	char mem[SNAPSHOT_PATH_BYTES + 16], rootfs[256], buf[512];
	struct wr why = wr_of(buf, sizeof buf);
	const struct snapshot s = {
	    .id = snapshot_id,
	    .vm_id = vm,
	    .name = "mine",
	    .vmstate_path = vmstate,
	    .mem_path = mem,
	    .created_at = "2026-01-02T03:04:05Z",
	    .parent_id = "",
	    .kernel_path = "/k",
	    .rootfs_path = rootfs,
	    .ip = ip,
	    .vcpus = 3,
	    .memory_mib = 256,
	    .labels = {blue, 1},
	};

	ck_assert_int_eq(sandbox_id_new(snapshot_id), 0);
	ck_assert_int_eq(snapshot_dir(data_dir, vm, snapshot_id, dir), 0);
	snprintf(vmstate, sizeof vmstate, "%s/vmstate", dir);
	snprintf(mem, sizeof mem, "%s/mem", dir);
	snprintf(rootfs, sizeof rootfs, "%s/sandboxes/%s/rootfs.ext4", data_dir, home);
	ck_assert_int_eq(snapshot_begin(data_dir, vm, snapshot_id, &why), 0);
	ck_assert_int_eq(snapshot_commit(data_dir, &s, &why), 0);
}

static size_t list(const char *of, struct labels labels)
{
	sandbox_snapshots(service, span_str(of), labels, answered, &caller);
	await_answer();
	assert_answer(0, "");
	return answer.n_snapshots;
}

static void delete (const char *id)
{
	sandbox_snapshot_delete(service, span_str(id), answered, &caller);
	await_answer();
}

static void restore_spec(const struct sandbox_restore_spec *spec)
{
	sandbox_restore(service, spec, answered, &caller);
	for (unsigned i = 0; i < 20000 && answer.n == 0 && !vm_done_so_far[0]; i++)
		turns(1);
}

static void restore(const char *id, bool network_override)
{
	restore_spec(&(const struct sandbox_restore_spec){.id = span_str(id),
	    .snapshot_id = span_str(snapshot_id),
	    .labels = {blue, 1},
	    .network_override = network_override});
}

START_TEST(snapshots_are_listed_and_deleted)
{
	static const struct label red[] = {{SPAN_LIT("colour"), SPAN_LIT("red")}};
	char too_long[SANDBOX_ID_MAX + 2], dir[SNAPSHOT_PATH_BYTES];

	service_start();
	memset(too_long, 'x', sizeof too_long - 1);
	too_long[sizeof too_long - 1] = '\0';
	ck_assert_uint_eq(list("", (struct labels){0}), 0);
	make_snapshot("one", "one", "172.20.0.9");
	ck_assert_uint_eq(list("", (struct labels){0}), 1);
	ck_assert_str_eq(answer.snapshot, snapshot_id);
	ck_assert_int_eq(snapshot_dir(data_dir, "one", snapshot_id, dir), 0);
	ck_assert_str_eq(answer.dir, dir);
	ck_assert_uint_eq(list("one", (struct labels){blue, 1}), 1);
	ck_assert_uint_eq(list("one", (struct labels){red, 1}), 0);
	ck_assert_uint_eq(list("two", (struct labels){0}), 0);
	ck_assert_uint_eq(list(too_long, (struct labels){0}), 0);
	delete (snapshot_id);
	assert_answer(0, "");
	ck_assert_uint_eq(list("", (struct labels){0}), 0);
	delete (snapshot_id);
	assert_answer(-ENOENT, "cannot delete snapshot '");
	delete (too_long);
	assert_answer(-ENOENT, "there is no such snapshot");
	delete ("");
	assert_answer(-ENOENT, "");
	service_end();
}
END_TEST

/* Whose directory the last VM lives in. */
static void assert_home(const char *id)
{
	ck_assert_str_eq(strrchr(vm_last->home.dir, '/') + 1, id);
}

START_TEST(a_snapshot_becomes_a_sandbox)
{
	struct sandbox *b;

	service_start();
	make_snapshot("one", "original", "172.20.0.9");
	restore("two", false);
	vm_assert_done("c");
	assert_no_answer();
	b = container_of(vm_last, struct sandbox, vm);
	ck_assert_ptr_nonnull(strstr(b->vm.parts.snapshot, snapshot_id));
	ck_assert_ptr_nonnull(strstr(b->vm.parts.rootfs, "/rootfs.ext4"));
	ck_assert_str_eq(b->vm.parts.kernel, "/k");
	ck_assert_uint_eq(b->vm.parts.vcpus, 3);
	ck_assert_uint_eq(b->vm.parts.memory_mib, 256);
	ck_assert_str_eq(b->parent, snapshot_id);
	assert_home("original"); /* where its VM's files were */
	ck_assert_uint_eq(b->labels.n, 1);
	vm_last->ops->checked(vm_last, "");
	vm_assert_done("as");
	assert_answer(0, "");
	ck_assert_str_eq(answer.id, "two");
	ck_assert_str_eq(answer.ip, "172.20.0.9"); /* that it had */
	service_end();
}
END_TEST

START_TEST(a_network_may_be_a_new_one)
{
	service_start();
	make_snapshot("one", "one", "172.20.0.9");
	restore("", true);
	vm_assert_done("c");
	vm_last->ops->checked(vm_last, "");
	vm_assert_done("ao");
	assert_answer(0, "");
	ck_assert_uint_eq(vm_wanted_ip.family, 0);
	ck_assert_str_eq(answer.ip, "172.20.0.2");
	ck_assert_uint_eq(strlen(answer.id), 36);
	service_end();
}
END_TEST

START_TEST(one_that_had_no_network_gets_none)
{
	service_start();
	make_snapshot("one", "one", "");
	restore("two", false);
	vm_last->ops->checked(vm_last, "");
	vm_assert_done("cs");
	assert_answer(0, "");
	ck_assert_str_eq(answer.ip, "");
	service_end();
}
END_TEST

START_TEST(a_directory_that_is_in_use_stands_in_the_way)
{
	service_start();
	make_snapshot("one", "one", "");
	ready("one");
	restore("two", false);
	assert_answer(-EBUSY, "cannot restore snapshot '");
	life_free(find("one"));
	restore("two", false);
	vm_assert_done("c");
	restore("three", false);
	vm_done_so_far[0] = '\0';
	await_answer();
	assert_answer(-EBUSY, "used by another sandbox");
	service_end();
}
END_TEST

START_TEST(a_jailed_one_lives_in_its_own_directory)
{
	service_start();
	make_snapshot("one", "one", "");
	ready("one");
	config.jailer.binary = "/jailer";
	config.jailer.chroot_base_dir = data_dir;
	restore("two", false);
	vm_assert_done("c");
	assert_home("two");
	service_end();
}
END_TEST

START_TEST(a_path_that_tells_no_directory_is_that_of_the_vm)
{
	service_start();
	make_snapshot("one", "..", "");
	restore("two", false);
	assert_home("one");
	service_end();
}
END_TEST

START_TEST(what_cannot_be_restored_is_refused)
{
	static const struct label many[LABELS_MAX + 1];

	service_start();
	make_snapshot("one", "one", "");
	ready("used");
	restore("used", false);
	assert_answer(-EEXIST, "the id is used");
	restore("a/b", false);
	assert_answer(-EINVAL, "slash");
	restore_spec(&(const struct sandbox_restore_spec){.snapshot_id = span_str("nobody")});
	assert_answer(-ENOENT, "cannot restore snapshot 'nobody': there is no such snapshot");
	restore_spec(&(const struct sandbox_restore_spec){.snapshot_id = span_str("")});
	assert_answer(-ENOENT, "there is no such snapshot");
	restore_spec(&(const struct sandbox_restore_spec){
	    .snapshot_id = span_str(snapshot_id), .labels = {many, LABELS_MAX + 1}});
	assert_answer(-EINVAL, "labels");
	sandbox_snapshots(
	    service, span_str(""), (struct labels){many, LABELS_MAX + 1}, answered, &caller);
	assert_answer(-EINVAL, "labels");
	vm_assert_done("");
	service_end();
}
END_TEST

START_TEST(one_that_cannot_be_after_all_is_told_so)
{
	service_start();
	make_snapshot("one", "one", "");
	restore("two", false);
	vm_last->ops->checked(vm_last, "no KVM");
	assert_answer(-ENODEV, "cannot restore sandbox 'two': no KVM");
	service_end();
}
END_TEST

START_TEST(requests_are_limited)
{
	service_start();
	for (unsigned i = 0; i < 16; i++)
		sandbox_snapshots(service, span_str(""), (struct labels){0}, answered, &caller);
	assert_no_answer();
	sandbox_snapshots(service, span_str(""), (struct labels){0}, answered, &caller);
	assert_answer(-EAGAIN, "too many requests");
	for (unsigned i = 0; i < 20000 && answer.n < 16; i++)
		turns(1);
	ck_assert_uint_eq(answer.n, 16);
	ck_assert_int_eq(answer.rc, 0);
	service_end();
}
END_TEST

static void stopped(void *ctx)
{
	(void)ctx;
}

START_TEST(requests_end_with_the_service)
{
	service_start();
	sandbox_snapshots(service, span_str(""), (struct labels){0}, answered, &caller);
	sandboxes_stop(service, 1000, stopped, NULL);
	assert_answer(-ESHUTDOWN, "shutting down");
	service_end();
	service_start();
	sandbox_snapshots(service, span_str(""), (struct labels){0}, answered, &caller);
	service_end(); /* nobody is left to be told */
	assert_no_answer();
}
END_TEST

START_TEST(what_fails_is_one_request)
{
	static const struct {
		const char *call;
		int err;
	} faults[] = {{"calloc", ENOMEM}, {"malloc", ENOMEM}, {"memfd_create", EMFILE},
	    {"fork", EAGAIN}, {"pipe2", EMFILE}};

	service_start();
	make_snapshot("one", "one", "");
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
		FAULT_EACH(faults[i].call, faults[i].err)
		{
			answer.n = 0;
			sandbox_snapshots(
			    service, span_str(""), (struct labels){blue, 1}, answered, &caller);
			await_answer();
			ck_assert_uint_eq(answer.n, 1);
			ck_assert_msg(answer.rc == 0 || answer.rc == -faults[i].err, "%s: %d",
			    faults[i].call, answer.rc);
		}
		ck_assert_int_eq(answer.rc, 0);
		ck_assert(list_empty(&service->lookups));
	}
	service_end();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    snapshots_are_listed_and_deleted,
	    a_snapshot_becomes_a_sandbox,
	    a_network_may_be_a_new_one,
	    one_that_had_no_network_gets_none,
	    a_directory_that_is_in_use_stands_in_the_way,
	    a_jailed_one_lives_in_its_own_directory,
	    a_path_that_tells_no_directory_is_that_of_the_vm,
	    what_cannot_be_restored_is_refused,
	    one_that_cannot_be_after_all_is_told_so,
	    requests_are_limited,
	    requests_end_with_the_service,
	    what_fails_is_one_request,
	    NULL,
	};

	return suite_of("catalogue", tests);
}
