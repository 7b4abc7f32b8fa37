#include "sandbox/sandbox.h"

#include "base/utf8.h"
#include "vm_fake.h"

#include <sys/stat.h>

static const struct label blue[] = {{SPAN_LIT("colour"), SPAN_LIT("blue")}};

/* --- create ----------------------------------------------------------------------------------- */

START_TEST(what_is_not_given_is_as_configured)
{
	struct sandbox *b;

	service_start();
	create("one");
	b = container_of(vm_last, struct sandbox, vm);
	ck_assert_str_eq(b->vm.parts.kernel, "/vmlinux");
	ck_assert_str_eq(b->vm.parts.rootfs, "/rootfs.ext4");
	ck_assert_str_eq(b->vm.parts.boot_args, "init=/sbin/vm-agent");
	ck_assert_uint_eq(b->vm.parts.vcpus, 1);
	ck_assert_uint_eq(b->vm.parts.memory_mib, 512);
	ck_assert_ptr_null(b->vm.parts.snapshot);
	create_spec(&(const struct sandbox_spec){
	    .id = span_str("two"),
	    .labels = {blue, 1},
	    .kernel = span_str("/k"),
	    .rootfs = span_str("/r"),
	    .boot_args = span_str("quiet"),
	    .vcpus = 4,
	    .memory_mib = 128,
	    .network_mode = span_str("tap"),
	});
	b = container_of(vm_last, struct sandbox, vm);
	ck_assert_str_eq(b->vm.parts.kernel, "/k");
	ck_assert_str_eq(b->vm.parts.rootfs, "/r");
	ck_assert_str_eq(b->vm.parts.boot_args, "quiet");
	vm_last->ops->checked(vm_last, "");
	assert_answer(0, "");
	ck_assert_uint_eq(answer.info.vcpus, 4);
	ck_assert_uint_eq(answer.info.memory_mib, 128);
	ck_assert_uint_eq(answer.info.labels.n, 1);
	service_end();
}
END_TEST

START_TEST(an_id_is_made_where_none_is_given)
{
	service_start();
	create("");
	vm_last->ops->checked(vm_last, "");
	assert_answer(0, "");
	ck_assert_uint_eq(strlen(answer.id), 36);
	find(answer.id);
	service_end();
}
END_TEST

static void assert_refused(const struct sandbox_spec *spec, int rc, const char *why)
{
	create_spec(spec);
	assert_answer(rc, why);
	vm_assert_done("");
}

START_TEST(what_cannot_be_is_refused)
{
	static char long_path[SANDBOX_PATH_BYTES + 1], long_id[SANDBOX_ID_MAX + 1];
	static const struct label many[LABELS_MAX + 1];
	static const uint8_t text[LABELS_BYTES + 1];
	const struct label large = {span_of(text, sizeof text), span_str("")};

	service_start();
	memset(long_path, 'x', sizeof long_path - 1);
	memset(long_id, 'x', sizeof long_id);
	assert_refused(&(const struct sandbox_spec){.id = span_str("../x")}, -EINVAL,
	    "cannot create sandbox '../x': it has a slash");
	assert_refused(&(const struct sandbox_spec){.id = span_str("..")}, -EINVAL, "directory");
	assert_refused(&(const struct sandbox_spec){.id = span_str(SANDBOX_GUEST)}, -EINVAL,
	    "the guest itself");
	assert_refused(&(const struct sandbox_spec){.id = span_of(long_id, sizeof long_id)},
	    -EINVAL, "longer than 64");
	assert_refused(&(const struct sandbox_spec){.network_mode = span_str("bridge")}, -EINVAL,
	    "no such network mode");
	assert_refused(&(const struct sandbox_spec){.vcpus = 33}, -EINVAL, "32 CPUs");
	assert_refused(
	    &(const struct sandbox_spec){.kernel = span_str(long_path)}, -EINVAL, "too long");
	assert_refused(
	    &(const struct sandbox_spec){.rootfs = span_of("/a\0b", 4)}, -EINVAL, "too long");
	assert_refused(
	    &(const struct sandbox_spec){.boot_args = span_str(long_path)}, -EINVAL, "too long");
	assert_refused(
	    &(const struct sandbox_spec){.labels = {many, LABELS_MAX + 1}}, -EINVAL, "labels");
	assert_refused(&(const struct sandbox_spec){.labels = {&large, 1}}, -EINVAL, "labels");
	ck_assert_uint_eq(service->by_id.n, 0);
	service_end();
}
END_TEST

START_TEST(an_id_is_used_once)
{
	service_start();
	create("one");
	vm_assert_done("c");
	assert_refused(
	    &(const struct sandbox_spec){.id = span_str("one")}, -EEXIST, "the id is used");
	vm_last->ops->checked(vm_last, "");
	assert_answer(0, "");
	vm_assert_done("as");
	assert_refused(
	    &(const struct sandbox_spec){.id = span_str("one")}, -EEXIST, "the id is used");
	service_end();
}
END_TEST

START_TEST(a_directory_is_used_once)
{
	service_start();
	ready("one");
	strcpy(find("one")->vm.home.dir, data_dir);
	strcat(find("one")->vm.home.dir, "/sandboxes/original");
	assert_refused(&(const struct sandbox_spec){.id = span_str("original")}, -EBUSY,
	    "directory that it has to live in");
	service_end();
}
END_TEST

/* Not all that we take for an id is one for the jailer. */
START_TEST(a_jail_is_used_once)
{
	service_start();
	config.jailer.binary = "/jailer";
	config.jailer.chroot_base_dir = "/srv/jailer";
	ready("a_b");
	assert_refused(&(const struct sandbox_spec){.id = span_str("a-b")}, -EBUSY,
	    "directory that it has to live in");
	ready("a-c");
	service_end();
}
END_TEST

START_TEST(their_number_is_limited)
{
	service_start();
	ready("a");
	ready("b");
	ready("c");
	create("d");
	vm_assert_done("c");
	assert_refused(
	    &(const struct sandbox_spec){.id = span_str("e")}, -EAGAIN, "too many sandboxes");
	vm_last->ops->checked(vm_last, "no");
	assert_answer(-ENODEV, "");
	ready("e");
	service_end();
}
END_TEST

START_TEST(a_path_that_no_socket_can_have_is_refused)
{
	service_start();
	vm_init_rc = -ENAMETOOLONG;
	assert_refused(
	    &(const struct sandbox_spec){.id = span_str("one")}, -ENAMETOOLONG, "too long");
	ck_assert_uint_eq(service->by_id.n, 0);
	service_end();
}
END_TEST

START_TEST(without_memory_one_request_fails)
{
	static const char *const calls[] = {"malloc", "calloc"};
	struct command first;

	service_start();
	for (size_t i = 0; i < 2; i++) {
		command_init(&first);
		ck_assert_int_eq(command_add_arg(&first, span_str("true")), 0);
		answer.rc = -1;
		FAULT_EACH(calls[i], ENOMEM)
		{
			create_spec(&(const struct sandbox_spec){
			    .id = span_str("one"), .labels = {blue, 1}, .first = &first});
			if (answer.n) {
				assert_answer(-ENOMEM, "memory");
				ck_assert_uint_eq(service->by_id.n, 0);
				ck_assert_uint_gt(first.args.n, 0);
			}
		}
		ck_assert_uint_eq(service->by_id.n, 1);
		vm_last->ops->checked(vm_last, "no");
		assert_answer(-ENODEV, "");
	}
	sandbox_list(service, span_str(""), (struct labels){0}, answered, &caller);
	assert_answer(0, "");
	fault_arm("malloc", 1, ENOMEM, false);
	sandbox_list(service, span_str(""), (struct labels){0}, answered, &caller);
	ck_assert(fault_disarm());
	assert_answer(-ENOMEM, "cannot list sandboxes");
	service_end();
}
END_TEST

/* --- what a state does not allow -------------------------------------------------------------- */

static void assert_no_stop(const char *why)
{
	sandbox_stop(service, span_str("one"), 0, answered, &caller);
	assert_answer(-EBUSY, why);
	vm_assert_done("");
}

START_TEST(a_stop_needs_ready_or_running)
{
	static const struct {
		enum life_state state;
		const char *why;
	} refused[] = {
	    {LIFE_STARTING, "cannot stop sandbox 'one': it is starting, not ready or running"},
	    {LIFE_SAVING, "it is being checkpointed, not"},
	    {LIFE_STOPPING, "it is stopping, not"},
	    {LIFE_STOPPED, "it is stopped, not"},
	    {LIFE_FAILING, "it is failed, not"},
	    {LIFE_FAILED, "it is failed, not"},
	    {LIFE_REMOVING, "it is being removed, not"},
	};
	struct sandbox *b;

	service_start();
	b = ready("one");
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		b->state = refused[i].state;
		assert_no_stop(refused[i].why);
	}
	b->state = LIFE_RUNNING;
	sandbox_stop(service, span_str("one"), 0, answered, &caller);
	vm_assert_done("h");
	service_end();
}
END_TEST

START_TEST(what_works_is_removed_by_force_only)
{
	struct sandbox *b;

	service_start();
	b = ready("one");
	b->state = LIFE_RUNNING;
	sandbox_remove(service, span_str("one"), false, answered, &caller);
	assert_answer(-EBUSY, "it is running; stop it first, or use force");
	b->state = LIFE_SAVING;
	sandbox_remove(service, span_str("one"), false, answered, &caller);
	assert_answer(-EBUSY, "it is being checkpointed; ");
	vm_assert_done("");
	sandbox_remove(service, span_str("one"), true, answered, &caller);
	vm_assert_done("k");
	service_end();
}
END_TEST

START_TEST(nobody_is_not_found)
{
	struct sandbox_command *command;
	char why[SANDBOX_WHY_BYTES];
	struct command c;

	service_start();
	create("one"); /* which nobody sees yet */
	sandbox_stop(service, span_str("one"), 0, answered, &caller);
	assert_answer(-ENOENT, "cannot stop sandbox 'one': there is no such sandbox");
	sandbox_remove(service, span_str("one"), true, answered, &caller);
	assert_answer(-ENOENT, "cannot remove sandbox 'one': there");
	sandbox_inspect(service, span_str("one"), answered, &caller);
	assert_answer(-ENOENT, "cannot inspect sandbox 'one': there");
	sandbox_checkpoint(
	    service, span_str("one"), span_str(""), (struct labels){0}, answered, &caller);
	assert_answer(-ENOENT, "cannot checkpoint sandbox 'one': there");
	command_init(&c);
	ck_assert_int_eq(
	    sandbox_run(service, span_str("one"), &c, false, NULL, NULL, &command, why), -ENOENT);
	ck_assert_str_eq(why, "cannot run a command in 'one': there is no such sandbox");
	service_end();
}
END_TEST

START_TEST(what_is_told_is_utf8)
{
	char id[2 * SANDBOX_ID_MAX + 2] = "x";

	service_start();
	while (strlen(id) < sizeof id - 3)
		strcat(id, "\xc3\xa9");
	sandbox_inspect(service, span_str(id), answered, &caller);
	ck_assert(utf8_valid(span_str(answer.why)));
	assert_answer(-ENOENT, "there is no such sandbox");
	service_end();
}
END_TEST

/* --- inspect and list ------------------------------------------------------------------------- */

static size_t list(const char *state, struct labels labels)
{
	sandbox_list(service, span_str(state), labels, answered, &caller);
	assert_answer(0, "");
	return answer.n_infos;
}

START_TEST(a_list_is_of_those_who_match)
{
	const struct labels none = {0};

	service_start();
	ck_assert_uint_eq(list("", none), 0);
	ready("one");
	create_spec(&(const struct sandbox_spec){.id = span_str("two"), .labels = {blue, 1}});
	ck_assert_uint_eq(list("", none), 1); /* the other is not seen yet */
	vm_last->ops->checked(vm_last, "");
	assert_answer(0, "");
	ck_assert_uint_eq(list("", none), 2);
	ck_assert_str_eq(answer.id, "one"); /* the oldest is the first */
	ck_assert_uint_eq(list("ready", none), 1);
	ck_assert_uint_eq(list("starting", none), 1);
	ck_assert_str_eq(answer.id, "two");
	ck_assert_uint_eq(list("", (struct labels){blue, 1}), 1);
	ck_assert_uint_eq(list("ready", (struct labels){blue, 1}), 0);
	ck_assert_uint_eq(list("nonsense", none), 0);
	service_end();
}
END_TEST

START_TEST(the_guest_is_listed_by_its_state_only)
{
	service_start();
	ck_assert_uint_eq(list("guest", (struct labels){0}), 1);
	ck_assert_str_eq(answer.id, SANDBOX_GUEST);
	ck_assert_uint_eq(list("guest", (struct labels){blue, 1}), 0);
	sandbox_inspect(service, span_str(SANDBOX_GUEST), answered, &caller);
	assert_answer(0, "");
	ck_assert_int_eq(answer.info.state, SANDBOX_GUEST_STATE);
	sandbox_stop(service, span_str(SANDBOX_GUEST), 0, answered, &caller);
	assert_answer(-ENOENT, "no such sandbox");
	service->conf.max_guest_commands = 0;
	ck_assert_uint_eq(list("guest", (struct labels){0}), 0);
	sandbox_inspect(service, span_str(SANDBOX_GUEST), answered, &caller);
	assert_answer(-ENOENT, "no such sandbox");
	service_end();
}
END_TEST

START_TEST(states_have_their_names)
{
	ck_assert_str_eq(sandbox_state_name(SANDBOX_STARTING), "starting");
	ck_assert_str_eq(sandbox_state_name(SANDBOX_STOPPED), "stopped");
	for (int i = 0; i < SANDBOX_STATES; i++)
		ck_assert_ptr_nonnull(sandbox_state_name((enum sandbox_state)i));
}
END_TEST

/* --- the service ------------------------------------------------------------------------------ */

START_TEST(what_an_earlier_agent_left_is_gone_before_anything_starts)
{
	char path[128];

	service_start_dirty();
	create("one");
	vm_assert_done(""); /* it waits */
	assert_no_answer();
	await(&service->clean);
	vm_assert_done("c");
	service_end();
	/* And now there is something to remove. */
	service_start();
	snprintf(path, sizeof path, "%s/sandboxes", data_dir);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	snprintf(path, sizeof path, "%s/sandboxes/.old", data_dir);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	events_unsubscribe(&subscriber);
	sandboxes_free(service);
	service = sandboxes_new(&loop, &reaper, &conf);
	ck_assert_int_eq(
	    sandbox_subscribe(service, &subscriber, span_str(""), span_str(""), take_events, NULL),
	    0);
	await(&service->clean);
	ck_assert_int_eq(rmdir(path), -1);
	service_end();
}
END_TEST

START_TEST(without_a_worker_there_is_no_cleaning)
{
	service_start();
	fault_arm("fork", 1, EAGAIN, false);
	events_unsubscribe(&subscriber);
	sandboxes_free(service);
	service = sandboxes_new(&loop, &reaper, &conf);
	ck_assert(fault_disarm());
	ck_assert(service->clean);
	service_end();
}
END_TEST

START_TEST(without_memory_there_is_no_service)
{
	struct sandboxes *s = NULL;

	service_start();
	FAULT_EACH("calloc", ENOMEM)
	{
		s = sandboxes_new(&loop, &reaper, &conf);
		if (s)
			sandboxes_free(s);
	}
	ck_assert_ptr_nonnull(s);
	sandboxes_free(NULL);
	service_end();
}
END_TEST

static unsigned stopped_calls;

static void stopped(void *ctx)
{
	ck_assert_ptr_eq(ctx, &loop);
	stopped_calls++;
}

START_TEST(stopping_removes_all_by_force)
{
	struct sandbox *one, *two;

	service_start();
	one = ready("one");
	two = ready("two");
	two->state = LIFE_RUNNING;
	create("three");
	vm_assert_done("c");
	sandboxes_stop(service, 10000, stopped, &loop);
	assert_answer(-ESHUTDOWN, "the agent is shutting down");
	vm_assert_done("kk");
	ck_assert_uint_eq(stopped_calls, 0);
	create("four");
	assert_answer(-ESHUTDOWN, "shutting down");
	sandbox_snapshots(service, span_str(""), (struct labels){0}, answered, &caller);
	assert_answer(-ESHUTDOWN, "shutting down");
	one->vm.ops->ended(&one->vm, "");
	one->vm.ops->released(&one->vm);
	ck_assert_uint_eq(stopped_calls, 0);
	two->vm.ops->ended(&two->vm, "");
	two->vm.ops->released(&two->vm);
	ck_assert_uint_eq(stopped_calls, 1);
	turns(3);
	ck_assert_uint_eq(stopped_calls, 1);
	service_end();
}
END_TEST

START_TEST(stopping_nothing_is_over_at_once)
{
	service_start();
	sandboxes_stop(service, 10000, stopped, &loop);
	ck_assert_uint_eq(stopped_calls, 1);
	service_end();
}
END_TEST

START_TEST(stopping_does_not_wait_for_ever)
{
	service_start();
	ready("one");
	sandboxes_stop(service, 20, stopped, &loop);
	ck_assert_uint_eq(stopped_calls, 0);
	for (unsigned i = 0; i < 200 && !stopped_calls; i++)
		turns(1);
	ck_assert_uint_eq(stopped_calls, 1);
	service_end();
}
END_TEST

START_TEST(subscribing_ends_with_the_service)
{
	struct subscriber late = {0};

	service_start();
	sandboxes_stop(service, 10000, stopped, &loop);
	ck_assert_int_eq(
	    sandbox_subscribe(service, &late, span_str(""), span_str(""), take_events, NULL),
	    -ESHUTDOWN);
	service_end();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    what_is_not_given_is_as_configured,
	    an_id_is_made_where_none_is_given,
	    what_cannot_be_is_refused,
	    an_id_is_used_once,
	    a_directory_is_used_once,
	    a_jail_is_used_once,
	    their_number_is_limited,
	    a_path_that_no_socket_can_have_is_refused,
	    without_memory_one_request_fails,
	    a_stop_needs_ready_or_running,
	    what_works_is_removed_by_force_only,
	    nobody_is_not_found,
	    what_is_told_is_utf8,
	    a_list_is_of_those_who_match,
	    the_guest_is_listed_by_its_state_only,
	    states_have_their_names,
	    what_an_earlier_agent_left_is_gone_before_anything_starts,
	    without_a_worker_there_is_no_cleaning,
	    without_memory_there_is_no_service,
	    stopping_removes_all_by_force,
	    stopping_nothing_is_over_at_once,
	    stopping_does_not_wait_for_ever,
	    subscribing_ends_with_the_service,
	    NULL,
	};

	return suite_of("sandbox", tests);
}
