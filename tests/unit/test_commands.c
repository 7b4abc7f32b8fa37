#include "sandbox/remote.h"
#include "vm_fake.h"

/* The test is the other side of the vsock (remote.h); the guest's own commands are real. */

struct remote {
	struct remote_conf conf;
	bool input, clock;
};

static struct remote *remote; /* the last one; NULL: it is gone */
static char asked[128];       /* what it was asked to do, a letter each */
static int remote_rc;
static size_t remote_takes;

static void note(char letter)
{
	size_t n = strlen(asked);

	ck_assert_uint_lt(n, sizeof asked - 1);
	asked[n] = letter;
	asked[n + 1] = '\0';
}

static void assert_asked(const char *letters)
{
	ck_assert_str_eq(asked, letters);
	asked[0] = '\0';
}

static int remote_begin(const struct remote_conf *c, struct remote **out)
{
	if (remote_rc < 0)
		return remote_rc;
	remote = calloc(1, sizeof *remote);
	ck_assert_ptr_nonnull(remote);
	remote->conf = *c;
	*out = remote;
	return 0;
}

int remote_start(
    const struct remote_conf *c, const struct command *command, bool input, struct remote **out)
{
	int rc = remote_begin(c, out);

	ck_assert_uint_eq(c->connect_ms, 1000);
	ck_assert_ptr_nonnull(strstr(c->path, "/sandboxes/one/firecracker.vsock"));
	ck_assert(span_eq(queue_span(&command->args), span_of("true", 5)));
	if (rc == 0)
		remote->input = input;
	return rc;
}

int remote_sync_clock(const struct remote_conf *c, struct remote **out)
{
	int rc = remote_begin(c, out);

	ck_assert_uint_eq(c->connect_ms, 10000);
	if (rc == 0)
		remote->clock = true;
	return rc;
}

size_t remote_input(struct remote *r, struct span bytes)
{
	ck_assert_ptr_eq(r, remote);
	note('i');
	return remote_takes < bytes.n ? remote_takes : bytes.n;
}

void remote_end_input(struct remote *r)
{
	ck_assert_ptr_eq(r, remote);
	note('e');
}

void remote_resize(struct remote *r, struct vmframe_size size)
{
	ck_assert_ptr_eq(r, remote);
	ck_assert_uint_eq(size.width, 80);
	note('s');
}

void remote_pause(struct remote *r)
{
	ck_assert_ptr_eq(r, remote);
	note('p');
}

void remote_resume(struct remote *r)
{
	ck_assert_ptr_eq(r, remote);
	note('r');
}

static void remote_gone(void)
{
	free(remote);
	remote = NULL;
}

void remote_cancel(struct remote *r)
{
	ck_assert_ptr_eq(r, remote);
	note('c');
	remote_gone();
}

void remote_abandon(struct remote *r)
{
	ck_assert_ptr_eq(r, remote);
	note('a');
}

static void remote_ends(int rc, int32_t code)
{
	struct remote_conf c = remote->conf;

	remote_gone();
	c.ops->ended(c.ctx, rc, code);
}

/* --- the host --------------------------------------------------------------------------------- */

static struct sandbox_command *command;
static char output[4096];
static size_t n_output;
static unsigned writable_calls, ended_calls;
static int end_rc;
static int32_t end_code;
static char end_why[SANDBOX_WHY_BYTES], why[SANDBOX_WHY_BYTES];
static enum life_state end_state; /* of sandbox one, when the host is told */

static void host_output(void *ctx, enum exec_stream stream, struct span bytes)
{
	ck_assert_ptr_eq(ctx, &loop);
	ck_assert_uint_lt(n_output + bytes.n, sizeof output);
	if (stream == EXEC_STDERR)
		output[n_output++] = '!';
	memcpy(output + n_output, bytes.p, bytes.n);
	n_output += bytes.n;
}

static void host_writable(void *ctx)
{
	ck_assert_ptr_eq(ctx, &loop);
	writable_calls++;
}

static void host_ended(void *ctx, int rc, int32_t code, const char *text)
{
	const struct sandbox *b = sandbox_find(service, span_str("one"));

	ck_assert_ptr_eq(ctx, &loop);
	ended_calls++;
	end_rc = rc;
	end_code = code;
	strcpy(end_why, text);
	end_state = b ? b->state : LIFE_STATES;
	command = NULL;
}

static const struct sandbox_command_ops ops = {host_output, host_writable, host_ended};

static int run_words(const char *id, const char *const *words, bool input)
{
	struct command c;
	int rc;

	command_init(&c);
	for (; *words; words++)
		ck_assert_int_eq(command_add_arg(&c, span_str(*words)), 0);
	rc = sandbox_run(service, span_str(id), &c, input, &ops, &loop, &command, why);
	command_done(&c);
	return rc;
}

static int run(const char *id, bool input)
{
	return run_words(id, (const char *const[]){"true", NULL}, input);
}

static void assert_ended(int rc, int32_t code, const char *text)
{
	ck_assert_uint_eq(ended_calls, 1);
	ck_assert_int_eq(end_rc, rc);
	ck_assert_int_eq(end_code, code);
	ck_assert_str_eq(end_why, text);
	ended_calls = 0;
}

START_TEST(a_command_makes_its_sandbox_run_and_idle)
{
	struct sandbox *b;

	service_start();
	b = ready("one");
	ck_assert_int_eq(run("one", false), 0);
	ck_assert(!remote->input);
	ck_assert_int_eq(b->state, LIFE_RUNNING);
	assert_happened("one running");
	remote->conf.ops->output(remote->conf.ctx, EXEC_STDOUT, span_str("out"));
	remote->conf.ops->output(remote->conf.ctx, EXEC_STDERR, span_str("err"));
	ck_assert_str_eq(output, "out!err");
	remote_ends(0, 42);
	assert_ended(0, 42, "");
	ck_assert_int_eq(end_state, LIFE_READY); /* before the host can ask for more */
	assert_happened("one idle 42");
	sandbox_inspect(service, span_str("one"), answered, &caller);
	assert_answer(0, "");
	ck_assert_int_eq(answer.info.last_exit_code, 42);
	ck_assert_int_gt(answer.info.last_exited_at, 1600000000);
	service_end();
}
END_TEST

START_TEST(all_that_a_host_does_goes_there)
{
	service_start();
	ready("one");
	ck_assert_int_eq(run("one", true), 0);
	ck_assert(remote->input);
	remote_takes = 2;
	ck_assert_uint_eq(sandbox_command_input(command, span_str("abc")), 2);
	remote->conf.ops->writable(remote->conf.ctx);
	ck_assert_uint_eq(writable_calls, 1);
	sandbox_command_resize(command, (struct vmframe_size){80, 24});
	sandbox_command_pause(command);
	sandbox_command_resume(command);
	sandbox_command_end_input(command);
	assert_asked("ispre");
	sandbox_command_cancel(command);
	assert_asked("c");
	ck_assert_uint_eq(ended_calls, 0);
	assert_happened("one running, one idle -1");
	service_end();
}
END_TEST

START_TEST(a_command_needs_ready)
{
	static const struct {
		enum life_state state;
		const char *why;
	} refused[] = {
	    {LIFE_STARTING, "cannot run a command in 'one': it is not ready but starting"},
	    {LIFE_SAVING, "cannot run a command in 'one': it is not ready but being checkpointed"},
	    {LIFE_RUNNING, "cannot run a command in 'one': it is not ready but running"},
	    {LIFE_STOPPING, "cannot run a command in 'one': it is not ready but stopping"},
	    {LIFE_STOPPED, "cannot run a command in 'one': it is not ready but stopped"},
	    {LIFE_FAILED, "cannot run a command in 'one': it is not ready but failed"},
	    {LIFE_REMOVING, "cannot run a command in 'one': it is not ready but being removed"},
	};
	struct sandbox *b;

	service_start();
	b = ready("one");
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		b->state = refused[i].state;
		ck_assert_int_eq(run("one", false), -EBUSY);
		ck_assert_str_eq(why, refused[i].why);
	}
	ck_assert_ptr_null(remote);
	service_end();
}
END_TEST

START_TEST(what_cannot_be_started_is_refused)
{
	struct sandbox *b;

	service_start();
	b = ready("one");
	ck_assert_int_eq(run_words("one", (const char *const[]){NULL}, false), -EINVAL);
	ck_assert_str_eq(why, "cannot run a command in 'one': no command is given");
	ck_assert_int_eq(run("two", false), -ENOENT);
	remote_rc = -E2BIG;
	ck_assert_int_eq(run("one", false), -EINVAL);
	ck_assert_str_eq(
	    why, "cannot run a command in 'one': its arguments and environment are too large");
	remote_rc = 0;
	fault_arm("calloc", 1, ENOMEM, false);
	ck_assert_int_eq(run("one", false), -ENOMEM);
	ck_assert(fault_disarm());
	ck_assert_int_eq(b->state, LIFE_READY);
	service->ended = true;
	ck_assert_int_eq(run("one", false), -ESHUTDOWN);
	service_end();
}
END_TEST

START_TEST(how_a_command_is_lost_is_told)
{
	static const struct {
		int rc;
		const char *why;
	} ends[] = {
	    {-ETIMEDOUT, "vm-agent does not answer on port 52 of the sandbox"},
	    {-ECONNRESET, "the connection to vm-agent was lost"},
	    {-EPROTO, "Protocol error"},
	};

	service_start();
	ready("one");
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
		ck_assert_int_eq(run("one", false), 0);
		remote_ends(ends[i].rc, 5);
		assert_ended(ends[i].rc, -1, ends[i].why);
		assert_happened("one running, one idle -1");
	}
	service_end();
}
END_TEST

/* The connection ends by itself, a little later. */
static void assert_lost(enum life_state state, const char *text)
{
	struct sandbox *b = ready("one");

	ck_assert_int_eq(run("one", false), 0);
	if (state == LIFE_STOPPED) {
		sandbox_stop(service, span_str("one"), 0, answered, &caller);
		b->vm.ops->ended(&b->vm, "");
	} else if (state == LIFE_FAILING) {
		b->vm.ops->ended(&b->vm, "dead");
	} else {
		sandbox_remove(service, span_str("one"), true, answered, &caller);
	}
	assert_asked("a");
	ck_assert_ptr_null(b->command);
	remote_ends(-ECONNRESET, 0);
	assert_ended(-ECONNRESET, -1, text);
	ck_assert_int_eq(b->state, state);
	answer.n = 0;
	vm_done_so_far[0] = '\0';
	life_free(b);
}

START_TEST(a_vm_that_goes_takes_the_command_with_it)
{
	service_start();
	assert_lost(LIFE_STOPPED, "the sandbox was stopped");
	assert_lost(LIFE_FAILING, "the sandbox's VM died");
	assert_lost(LIFE_REMOVING, "the sandbox was removed");
	service_end();
}
END_TEST

START_TEST(a_command_may_end_while_its_sandbox_is_stopping)
{
	struct sandbox *b;

	service_start();
	b = ready("one");
	ck_assert_int_eq(run("one", false), 0);
	sandbox_stop(service, span_str("one"), 0, answered, &caller);
	remote_ends(-ECONNRESET, 0);
	assert_ended(-ECONNRESET, -1, "the sandbox was stopped");
	ck_assert_int_eq(b->state, LIFE_STOPPING);
	assert_happened("one running, one stopping");
	service_end();
}
END_TEST

START_TEST(nobody_hears_the_first_command)
{
	struct command first;
	struct sandbox *b;

	service_start();
	command_init(&first);
	ck_assert_int_eq(command_add_arg(&first, span_str("true")), 0);
	create_spec(&(const struct sandbox_spec){.id = span_str("one"), .first = &first});
	vm_last->ops->checked(vm_last, "");
	b = find("one");
	b->vm.ops->up(&b->vm);
	ck_assert(!remote->input);
	remote->conf.ops->output(remote->conf.ctx, EXEC_STDOUT, span_str("x"));
	remote->conf.ops->writable(remote->conf.ctx);
	remote_ends(0, 1);
	ck_assert_int_eq(b->last_exit_code, 1);
	ck_assert_int_eq(b->state, LIFE_READY);
	service_end();
}
END_TEST

START_TEST(a_first_command_that_cannot_be_run_is_left_out)
{
	struct command first;
	struct sandbox *b;

	service_start();
	remote_rc = -ENOMEM;
	command_init(&first);
	ck_assert_int_eq(command_add_arg(&first, span_str("true")), 0);
	create_spec(&(const struct sandbox_spec){.id = span_str("one"), .first = &first});
	vm_last->ops->checked(vm_last, "");
	b = find("one");
	b->vm.ops->up(&b->vm);
	ck_assert_int_eq(b->state, LIFE_READY);
	ck_assert_ptr_null(b->first);
	service_end();
}
END_TEST

/* --- the clock -------------------------------------------------------------------------------- */

static struct sandbox *restored(void)
{
	struct sandbox *b = started("one");

	strcpy(b->parent, "a snapshot");
	b->vm.ops->up(&b->vm);
	return b;
}

START_TEST(one_that_was_restored_is_ready_once_its_clock_is_set)
{
	struct sandbox *b;

	service_start();
	b = restored();
	ck_assert(remote->clock);
	ck_assert_int_eq(b->state, LIFE_STARTING);
	remote->conf.ops->output(remote->conf.ctx, EXEC_STDOUT, span_str("x"));
	remote_ends(0, 0);
	ck_assert_int_eq(b->state, LIFE_READY);
	ck_assert(!timer_armed(&b->clock_limit));
	service_end();
}
END_TEST

START_TEST(a_clock_that_cannot_be_set_is_not_fatal)
{
	struct sandbox *b;

	service_start();
	b = restored();
	remote_ends(0, -1);
	ck_assert_int_eq(b->state, LIFE_READY);
	life_free(b);
	vm_done_so_far[0] = '\0';
	b = restored();
	remote_ends(-ETIMEDOUT, 0);
	ck_assert_int_eq(b->state, LIFE_READY);
	life_free(b);
	vm_done_so_far[0] = '\0';
	remote_rc = -ENOMEM;
	b = restored();
	ck_assert_int_eq(b->state, LIFE_READY);
	remote_rc = 0;
	life_free(b);
	vm_done_so_far[0] = '\0';
	b = restored();
	b->clock_limit.fn(&b->clock_limit); /* no answer came */
	assert_asked("c");
	ck_assert_int_eq(b->state, LIFE_READY);
	service_end();
}
END_TEST

START_TEST(a_clock_is_not_set_in_one_that_dies)
{
	struct sandbox *b;

	service_start();
	b = restored();
	b->vm.ops->ended(&b->vm, "dead");
	assert_asked("c");
	ck_assert(!timer_armed(&b->clock_limit));
	ck_assert_int_eq(b->state, LIFE_FAILING);
	service_end();
}
END_TEST

/* --- the guest itself ------------------------------------------------------------------------- */

static void await_end(void)
{
	for (unsigned i = 0; i < 20000 && ended_calls == 0; i++)
		turns(1);
}

START_TEST(the_guest_runs_commands_by_the_same_interface)
{
	static const char *const words[] = {"/bin/sh", "-c", "cat; echo err >&2; exit 3", NULL};

	service_start();
	ck_assert_int_eq(run_words(SANDBOX_GUEST, words, true), 0);
	ck_assert_uint_eq(sandbox_command_input(command, span_str("hello")), 5);
	sandbox_command_resize(command, (struct vmframe_size){80, 24});
	sandbox_command_pause(command);
	sandbox_command_resume(command);
	sandbox_command_end_input(command);
	await_end();
	assert_ended(0, 3, "");
	ck_assert_ptr_nonnull(strstr(output, "hello"));
	ck_assert_ptr_nonnull(strstr(output, "err"));
	assert_happened("");
	service_end();
}
END_TEST

START_TEST(a_command_without_input_is_at_its_end)
{
	service_start();
	ck_assert_int_eq(
	    run_words(SANDBOX_GUEST, (const char *const[]){"/bin/cat", NULL}, false), 0);
	await_end();
	assert_ended(0, 0, "");
	service_end();
}
END_TEST

START_TEST(the_guests_commands_are_limited)
{
	static const char *const words[] = {"/bin/cat", NULL};
	struct sandbox_command *first, *second;

	service_start();
	ck_assert_int_eq(run_words(SANDBOX_GUEST, words, true), 0);
	first = command;
	ck_assert_int_eq(run_words(SANDBOX_GUEST, words, true), 0);
	second = command;
	ck_assert_int_eq(run_words(SANDBOX_GUEST, words, true), -EAGAIN);
	ck_assert_str_eq(why, "cannot run a command in '@guest': too many commands run there");
	sandbox_command_cancel(first);
	sandbox_command_cancel(second);
	for (unsigned i = 0; i < 20000 && service->executor.running; i++)
		turns(1);
	ck_assert_uint_eq(service->executor.running, 0);
	service->conf.max_guest_commands = 0;
	ck_assert_int_eq(run_words(SANDBOX_GUEST, words, true), -ENOENT);
	service_end();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    a_command_makes_its_sandbox_run_and_idle,
	    all_that_a_host_does_goes_there,
	    a_command_needs_ready,
	    what_cannot_be_started_is_refused,
	    how_a_command_is_lost_is_told,
	    a_vm_that_goes_takes_the_command_with_it,
	    a_command_may_end_while_its_sandbox_is_stopping,
	    nobody_hears_the_first_command,
	    a_first_command_that_cannot_be_run_is_left_out,
	    one_that_was_restored_is_ready_once_its_clock_is_set,
	    a_clock_that_cannot_be_set_is_not_fatal,
	    a_clock_is_not_set_in_one_that_dies,
	    the_guest_runs_commands_by_the_same_interface,
	    a_command_without_input_is_at_its_end,
	    the_guests_commands_are_limited,
	    NULL,
	};

	return suite_of("commands", tests);
}
