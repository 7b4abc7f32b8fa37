#include "sandbox/life.h"

#include "vm_fake.h"

#include <stdio.h>

/* --- the table -------------------------------------------------------------------------------- */

/* Which events a state takes, by their numbers in LIFE_ order: + or -. */
START_TEST(each_state_takes_its_events_and_no_others)
{
	/* possible, impossible, up, run,
	 * idle, save, saved, stop, remove, ended, released */
	static const char *const expected[LIFE_STATES] = {
	    [LIFE_CHECKING] = "++------+--",
	    [LIFE_STARTING] = "--+-----++-",
	    [LIFE_READY] = "---+-+-+++-",
	    [LIFE_SAVING] = "------+-++-",
	    [LIFE_RUNNING] = "----+--+++-",
	    [LIFE_STOPPING] = "--------++-",
	    [LIFE_STOPPED] = "--------+--",
	    [LIFE_FAILING] = "--------+-+",
	    [LIFE_FAILED] = "--------+--",
	    [LIFE_REMOVING] = "--------+++",
	};

	for (int state = 0; state < LIFE_STATES; state++) {
		const struct sandbox b = {.state = (enum life_state)state};

		for (int event = 0; event < LIFE_EVENTS; event++)
			ck_assert_msg(life_allows(&b, (enum life_event)event) ==
				(expected[state][event] == '+'),
			    "state %d, event %d", state, event);
	}
}
END_TEST

START_TEST(what_a_state_does_not_take_changes_nothing)
{
	struct sandbox *b;

	service_start();
	b = ready("one");
	for (int event = 0; event < LIFE_EVENTS; event++)
		if (!life_allows(b, (enum life_event)event))
			life_happen(b, (enum life_event)event);
	ck_assert_int_eq(b->state, LIFE_READY);
	vm_assert_done("");
	assert_happened("");
	service_end();
}
END_TEST

/* --- from its beginning ----------------------------------------------------------------------- */

START_TEST(it_is_seen_once_it_can_be)
{
	service_start();
	create("one");
	ck_assert_ptr_null(sandbox_find(service, span_str("one")));
	vm_assert_done("c");
	assert_no_answer();
	vm_last->ops->checked(vm_last, "");
	vm_assert_done("as");
	assert_answer(0, "");
	ck_assert_int_eq(answer.info.state, SANDBOX_STARTING);
	ck_assert_str_eq(answer.id, "one");
	ck_assert_str_eq(answer.ip, "172.20.0.2");
	ck_assert_int_gt(answer.info.created_at, 1600000000);
	ck_assert_int_eq(answer.info.ready_at, 0);
	assert_happened("one created");
	assert_names("one=172.20.0.2 ");
	vm_last->ops->up(vm_last);
	ck_assert_int_eq(find("one")->state, LIFE_READY);
	ck_assert_int_gt(find("one")->ready_at, 1600000000);
	assert_happened("one ready");
	service_end();
}
END_TEST

START_TEST(one_that_cannot_be_leaves_nothing)
{
	service_start();
	create("one");
	vm_last->ops->checked(vm_last, "no KVM: /dev/kvm: gone");
	assert_answer(-ENODEV, "cannot create sandbox 'one': no KVM: /dev/kvm: gone");
	ck_assert_uint_eq(service->by_id.n, 0);
	assert_happened("");
	assert_names("");
	service_end();
}
END_TEST

static void assert_no_network(int rc, const char *why)
{
	vm_done_so_far[0] = '\0';
	vm_attach_rc = rc;
	create("one");
	vm_last->ops->checked(vm_last, "");
	assert_answer(rc, why);
	vm_assert_done("ca");
	ck_assert_uint_eq(service->by_id.n, 0);
	assert_happened("");
}

START_TEST(one_without_a_network_where_it_wants_one_cannot_be)
{
	service_start();
	assert_no_network(-EAGAIN, "no address is free");
	assert_no_network(-EADDRINUSE, "its address is that of another sandbox");
	assert_no_network(-EPERM, "not permitted");
	assert_names("");
	service_end();
}
END_TEST

START_TEST(one_may_be_without_a_network)
{
	service_start();
	create_spec(
	    &(const struct sandbox_spec){.id = span_str("one"), .network_mode = span_str("none")});
	vm_last->ops->checked(vm_last, "");
	vm_assert_done("cs");
	assert_answer(0, "");
	ck_assert_str_eq(answer.ip, "");
	assert_names("");
	service_end();
}
END_TEST

START_TEST(starts_take_turns)
{
	struct sandbox *a, *b, *c, *d;

	service_start();
	a = started("a");
	b = started("b");
	create("c");
	vm_last->ops->checked(vm_last, "");
	vm_assert_done("ca"); /* two start already */
	assert_answer(0, "");
	c = find("c");
	create("d");
	vm_last->ops->checked(vm_last, "");
	vm_assert_done("ca");
	assert_answer(0, "");
	d = find("d");
	ck_assert_int_eq(c->state, LIFE_STARTING);
	a->vm.ops->up(&a->vm);
	vm_assert_done("s");
	ck_assert_ptr_eq(vm_last, &c->vm);
	sandbox_remove(service, span_str("d"), false, answered, &caller); /* while it waits */
	vm_assert_done("k");
	b->vm.ops->ended(&b->vm, "dead");
	vm_assert_done("r");
	d->vm.ops->ended(&d->vm, "");
	vm_assert_done("r");
	ck_assert_uint_eq(service->starting, 1);
	c->vm.ops->up(&c->vm);
	ck_assert_uint_eq(service->starting, 0);
	service_end();
}
END_TEST

/* --- to its end ------------------------------------------------------------------------------- */

START_TEST(a_vm_that_dies_is_a_failure_whose_reason_stays)
{
	struct sandbox *b;

	service_start();
	for (enum life_state state = LIFE_STARTING; state <= LIFE_RUNNING; state++) {
		b = state == LIFE_STARTING ? started("one") : ready("one");
		b->state = state;
		take_events(&subscriber);
		happened[0] = names[0] = '\0';
		b->vm.ops->ended(&b->vm, "Firecracker: ended by signal 9");
		ck_assert_int_eq(b->state, LIFE_FAILING);
		vm_assert_done("r");
		assert_happened("one failed Firecracker: ended by signal 9");
		assert_names("-one ");
		b->vm.ops->released(&b->vm);
		ck_assert_int_eq(b->state, LIFE_FAILED);
		sandbox_inspect(service, span_str("one"), answered, &caller);
		assert_answer(0, "");
		ck_assert_int_eq(answer.info.state, SANDBOX_FAILED);
		ck_assert_str_eq(answer.error, "Firecracker: ended by signal 9");
		ck_assert_str_eq(answer.ip, "");
		sandbox_remove(service, span_str("one"), false, answered, &caller);
		assert_answer(0, "");
		assert_happened("one removed");
		assert_names("");
		ck_assert_uint_eq(service->by_id.n, 0);
	}
	service_end();
}
END_TEST

START_TEST(one_is_stopped_and_keeps_what_it_has)
{
	struct sandbox *b;

	service_start();
	b = ready("one");
	sandbox_stop(service, span_str("one"), 0, answered, &caller);
	vm_assert_done("h"); /* as configured */
	assert_no_answer();
	ck_assert_int_eq(b->state, LIFE_STOPPING);
	assert_happened("one stopping");
	b->vm.ops->ended(&b->vm, "");
	assert_answer(0, "");
	ck_assert_int_eq(b->state, LIFE_STOPPED);
	assert_happened("one stopped");
	assert_names("");
	vm_assert_done("");
	sandbox_remove(service, span_str("one"), false, answered, &caller);
	vm_assert_done("r");
	assert_no_answer();
	b->vm.ops->released(&b->vm);
	assert_answer(0, "");
	assert_happened("one removed");
	assert_names("-one ");
	service_end();
}
END_TEST

START_TEST(a_stop_that_is_overtaken_by_a_removal_is_told_so)
{
	struct sandbox *b;

	service_start();
	b = ready("one");
	sandbox_stop(service, span_str("one"), 5, answered, &caller);
	vm_assert_done("H"); /* as asked */
	sandbox_remove(service, span_str("one"), false, answered, &caller);
	assert_answer(-ECANCELED, "it was removed meanwhile");
	vm_assert_done("k");
	ck_assert_int_eq(b->state, LIFE_REMOVING);
	b->vm.ops->ended(&b->vm, "");
	vm_assert_done("r");
	b->vm.ops->released(&b->vm);
	assert_answer(0, "");
	assert_happened("one stopping, one removed");
	service_end();
}
END_TEST

START_TEST(one_is_removed_from_wherever_it_is)
{
	struct sandbox *b;

	service_start();
	for (enum life_state state = LIFE_STARTING; state <= LIFE_STOPPING; state++) {
		b = ready("one");
		b->state = state;
		sandbox_remove(service, span_str("one"), true, answered, &caller);
		vm_assert_done("k");
		ck_assert_int_eq(life_state(b), SANDBOX_STOPPING);
		b->vm.ops->ended(&b->vm, "");
		vm_assert_done("r");
		b->vm.ops->released(&b->vm);
		assert_answer(0, "");
		assert_happened("one removed");
	}
	service_end();
}
END_TEST

START_TEST(one_that_is_failing_is_removed_when_it_is_done_with_that)
{
	struct sandbox *b;

	service_start();
	b = ready("one");
	b->vm.ops->ended(&b->vm, "dead");
	vm_assert_done("r");
	sandbox_remove(service, span_str("one"), false, answered, &caller);
	assert_no_answer();
	vm_assert_done("");
	b->vm.ops->released(&b->vm);
	assert_answer(0, "");
	ck_assert_uint_eq(service->by_id.n, 0);
	service_end();
}
END_TEST

START_TEST(several_may_wait_for_a_removal)
{
	struct sandbox *b;

	service_start();
	b = ready("one");
	for (unsigned i = 0; i < LIFE_REMOVERS; i++)
		sandbox_remove(service, span_str("one"), false, answered, &caller);
	vm_assert_done("k");
	assert_no_answer();
	sandbox_remove(service, span_str("one"), false, answered, &caller);
	assert_answer(-EAGAIN, "too many wait");
	b->vm.ops->ended(&b->vm, "");
	b->vm.ops->released(&b->vm);
	ck_assert_uint_eq(answer.n, LIFE_REMOVERS);
	ck_assert_int_eq(answer.rc, 0);
	service_end();
}
END_TEST

/* --- what runs in it -------------------------------------------------------------------------- */

START_TEST(a_time_to_live_ends_by_force)
{
	struct sandbox *b;

	service_start();
	create_spec(&(const struct sandbox_spec){.id = span_str("one"), .ttl_secs = 1});
	ck_assert(!timer_armed(&container_of(vm_last, struct sandbox, vm)->ttl));
	vm_last->ops->checked(vm_last, "");
	b = find("one");
	ck_assert(timer_armed(&b->ttl));
	b->vm.ops->up(&b->vm);
	b->state = LIFE_RUNNING;
	vm_assert_done("cas");
	b->ttl.fn(&b->ttl);
	vm_assert_done("k");
	ck_assert_int_eq(b->state, LIFE_REMOVING);
	b->ttl.fn(&b->ttl); /* which changes nothing */
	vm_assert_done("");
	service_end();
}
END_TEST

START_TEST(its_first_command_runs_once_it_is_ready)
{
	struct command first;
	struct sandbox *b;

	service_start();
	command_init(&first);
	ck_assert_int_eq(command_add_arg(&first, span_str("true")), 0);
	create_spec(&(const struct sandbox_spec){.id = span_str("one"), .first = &first});
	ck_assert_uint_eq(first.args.n, 0); /* it was taken */
	vm_last->ops->checked(vm_last, "");
	b = find("one");
	ck_assert_ptr_null(b->command);
	b->vm.ops->up(&b->vm);
	ck_assert_int_eq(b->state, LIFE_RUNNING);
	ck_assert_ptr_nonnull(b->command);
	assert_happened("one created, one ready, one running");
	sandbox_command_cancel(b->command);
	assert_happened("one idle -1");
	ck_assert_int_eq(b->state, LIFE_READY);
	service_end();
}
END_TEST

START_TEST(exit_codes_are_told_as_they_are)
{
	static const struct {
		int32_t code;
		const char *text;
	} codes[] = {{0, "one idle 0"}, {255, "one idle 255"}, {INT32_MIN, "one idle -2147483648"},
	    {INT32_MAX, "one idle 2147483647"}};
	struct sandbox *b;

	service_start();
	b = ready("one");
	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
		life_happen(b, LIFE_RUN);
		assert_happened("one running");
		b->last_exit_code = codes[i].code;
		life_happen(b, LIFE_IDLE);
		assert_happened(codes[i].text);
		ck_assert_int_eq(b->state, LIFE_READY);
	}
	service_end();
}
END_TEST

START_TEST(states_have_names)
{
	struct sandbox b = {.state = LIFE_SAVING};

	ck_assert_int_eq(life_state(&b), SANDBOX_READY);
	ck_assert_str_eq(life_name(&b), "being checkpointed");
	b.state = LIFE_REMOVING;
	ck_assert_str_eq(life_name(&b), "being removed");
	b.state = LIFE_FAILING;
	ck_assert_str_eq(life_name(&b), "failed");
	b.state = LIFE_RUNNING;
	ck_assert_str_eq(life_name(&b), "running");
}
END_TEST

/* --- texts ------------------------------------------------------------------------------------ */

START_TEST(a_refusal_fits_whatever_is_said)
{
	char out[SANDBOX_WHY_BYTES], why[2 * SANDBOX_WHY_BYTES];
	char id[2 * SANDBOX_ID_MAX];

	memset(why, 'w', sizeof why - 1);
	why[sizeof why - 1] = '\0';
	memset(id, 'i', sizeof id);
	refusal_text(out, "stop sandbox", span_of(id, sizeof id), why);
	ck_assert_uint_eq(strlen(out), sizeof out - 1);
	ck_assert_int_eq(memcmp(out, "cannot stop sandbox 'iii", 24), 0);
	refusal_text(out, "list sandboxes", span_str(""), "no memory");
	ck_assert_str_eq(out, "cannot list sandboxes: no memory");
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    each_state_takes_its_events_and_no_others,
	    what_a_state_does_not_take_changes_nothing,
	    it_is_seen_once_it_can_be,
	    one_that_cannot_be_leaves_nothing,
	    one_without_a_network_where_it_wants_one_cannot_be,
	    one_may_be_without_a_network,
	    starts_take_turns,
	    a_vm_that_dies_is_a_failure_whose_reason_stays,
	    one_is_stopped_and_keeps_what_it_has,
	    a_stop_that_is_overtaken_by_a_removal_is_told_so,
	    one_is_removed_from_wherever_it_is,
	    one_that_is_failing_is_removed_when_it_is_done_with_that,
	    several_may_wait_for_a_removal,
	    a_time_to_live_ends_by_force,
	    its_first_command_runs_once_it_is_ready,
	    exit_codes_are_told_as_they_are,
	    states_have_names,
	    a_refusal_fits_whatever_is_said,
	    NULL,
	};

	return suite_of("life", tests);
}
