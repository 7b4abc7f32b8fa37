/* The handlers for sandboxes, in front of a service that does what the test says. */
#include "rpc_case.h"

#include "sandbox/sandbox.h"

#include <errno.h>
#include <stdio.h>

static struct rpc_case c;

/* --- the service --------------------------------------------------------------------------------
 */

static char asked[1024]; /* in words */
static struct sandbox_answer due;
static struct sandbox_caller late; /* whom to answer, when not at once */
static sandbox_fn *late_fn;
static bool answers_late;
static int run_rc;

static struct {
	const struct sandbox_command_ops *ops;
	void *ctx;
	bool cancelled, paused;
} command;
static struct events events;

static void note(const char *what, struct span more)
{
	size_t n = strlen(asked);

	snprintf(asked + n, sizeof asked - n, "%s%s=%.*s", n ? " " : "", what, (int)more.n,
	    more.n ? (const char *)more.p : "");
}

static void note_num(const char *what, uint64_t v)
{
	char text[32];

	snprintf(text, sizeof text, "%llu", (unsigned long long)v);
	note(what, span_str(text));
}

static void note_labels(struct labels l)
{
	for (size_t i = 0; i < l.n; i++) {
		note("key", l.items[i].key);
		note("value", l.items[i].value);
	}
}

static void answer(sandbox_fn *fn, const struct sandbox_caller *caller)
{
	late = *caller;
	late_fn = fn;
	if (!answers_late)
		fn(&due, caller);
}

void sandbox_create(struct sandboxes *s, const struct sandbox_spec *spec, sandbox_fn *fn,
    const struct sandbox_caller *caller)
{
	(void)s;
	note("create", spec->id);
	note("kernel", spec->kernel);
	note("rootfs", spec->rootfs);
	note("args", spec->boot_args);
	note_num("vcpus", spec->vcpus);
	note_num("memory", spec->memory_mib);
	note("network", spec->network_mode);
	note_num("ttl", spec->ttl_secs);
	note_labels(spec->labels);
	if (spec->first)
		note("first", span_str((const char *)queue_span(&spec->first->args).p));
	answer(fn, caller);
}

void sandbox_stop(struct sandboxes *s, struct span id, uint32_t timeout_secs, sandbox_fn *fn,
    const struct sandbox_caller *caller)
{
	(void)s;
	note("stop", id);
	note_num("timeout", timeout_secs);
	answer(fn, caller);
}

void sandbox_remove(struct sandboxes *s, struct span id, bool force, sandbox_fn *fn,
    const struct sandbox_caller *caller)
{
	(void)s;
	note("remove", id);
	note_num("force", force);
	answer(fn, caller);
}

void sandbox_inspect(
    struct sandboxes *s, struct span id, sandbox_fn *fn, const struct sandbox_caller *caller)
{
	(void)s;
	note("inspect", id);
	answer(fn, caller);
}

void sandbox_list(struct sandboxes *s, struct span state, struct labels labels, sandbox_fn *fn,
    const struct sandbox_caller *caller)
{
	(void)s;
	note("list", state);
	note_labels(labels);
	answer(fn, caller);
}

void sandbox_checkpoint(struct sandboxes *s, struct span id, struct span name, struct labels labels,
    sandbox_fn *fn, const struct sandbox_caller *caller)
{
	(void)s;
	note("checkpoint", id);
	note("name", name);
	note_labels(labels);
	answer(fn, caller);
}

void sandbox_restore(struct sandboxes *s, const struct sandbox_restore_spec *spec, sandbox_fn *fn,
    const struct sandbox_caller *caller)
{
	(void)s;
	note("restore", spec->snapshot_id);
	note("id", spec->id);
	note_num("override", spec->network_override);
	note_num("ttl", spec->ttl_secs);
	note_labels(spec->labels);
	answer(fn, caller);
}

void sandbox_snapshots(struct sandboxes *s, struct span of, struct labels labels, sandbox_fn *fn,
    const struct sandbox_caller *caller)
{
	(void)s;
	note("snapshots", of);
	note_labels(labels);
	answer(fn, caller);
}

void sandbox_snapshot_delete(struct sandboxes *s, struct span snapshot_id, sandbox_fn *fn,
    const struct sandbox_caller *caller)
{
	(void)s;
	note("delete", snapshot_id);
	answer(fn, caller);
}

const char *sandbox_state_name(enum sandbox_state state)
{
	return state == SANDBOX_READY ? "ready" : "starting";
}

int sandbox_run(struct sandboxes *s, struct span id, const struct command *run, bool input,
    const struct sandbox_command_ops *ops, void *ctx, struct sandbox_command **out, char *why)
{
	(void)s;
	note("run", id);
	note("cmd", span_str((const char *)queue_span(&run->args).p));
	note_num("input", input);
	note_num("tty", run->tty);
	note_num("columns", run->size.width);
	note_num("timeout", run->timeout_secs);
	strcpy(why, "as the test wants it");
	command.ops = ops;
	command.ctx = ctx;
	command.cancelled = command.paused = false;
	*out = (struct sandbox_command *)&command;
	return run_rc;
}

size_t sandbox_command_input(struct sandbox_command *cmd, struct span bytes)
{
	(void)cmd;
	note("input", bytes);
	return bytes.n;
}

void sandbox_command_end_input(struct sandbox_command *cmd)
{
	(void)cmd;
	note("end", span_str(""));
}

void sandbox_command_pause(struct sandbox_command *cmd)
{
	(void)cmd;
	command.paused = true;
}

void sandbox_command_resume(struct sandbox_command *cmd)
{
	(void)cmd;
	command.paused = false;
}

void sandbox_command_cancel(struct sandbox_command *cmd)
{
	(void)cmd;
	command.cancelled = true;
}

int sandbox_subscribe(struct sandboxes *s, struct subscriber *sub, struct span id,
    struct span action, events_fn *fn, void *ctx)
{
	(void)s;
	return events_subscribe(&events, sub, id, action, fn, ctx);
}

/* --- asking it ----------------------------------------------------------------------------------
 */

static const struct label labels[] = {{SPAN_LIT("team"), SPAN_LIT("a")}};
static const struct pb_pair pairs[] = {{SPAN_LIT("team"), SPAN_LIT("a")}};
static const struct sandbox_info info = {
    .id = "box",
    .state = SANDBOX_READY,
    .labels = {labels, 1},
    .vcpus = 2,
    .memory_mib = 512,
    .ip = "172.20.0.2",
    .gateway = "172.20.0.1",
    .tap = "vmtap0-2",
    .created_at = 11,
    .ready_at = 12,
    .last_exited_at = 13,
    .last_exit_code = -1,
    .error = "none",
};
static const struct sandbox_snapshot snapshot = {
    .id = "snap",
    .sandbox_id = "box",
    .name = "first",
    .dir = "/d",
    .created_at = "2026",
    .labels = {labels, 1},
};

static void setup(void)
{
	asked[0] = '\0';
	answers_late = false;
	run_rc = 0;
	due = (struct sandbox_answer){.why = ""};
	rpc_case_begin(&c);
	ck_assert_int_eq(events_init(&events, &c.loop, 4, 1), 0);
	c.services.sandboxes = (struct sandboxes *)&events; /* not NULL */
	rpc_case_serve(&c);
}

static void teardown(void)
{
	close(c.client);
	rpc_server_free(c.server);
	c.server = NULL;
	c.client = -1;
	events_done(&events);
	rpc_case_end(&c);
}

/* Asks with a message; the answer's, if it has one, goes to `out`. */
static void ask(uint32_t type, const void *request, uint32_t response, void *out)
{
	const struct pb_table *t = message_by_type(response)->table;
	struct span payload = rpc_case_ask(
	    &c, type, rpc_case_payload(message_by_type(type)->table, request), response);

	if (out)
		rpc_case_read(&c, payload, t, out);
	else
		ck_assert_uint_eq(payload.n, 0);
}

static void turns(unsigned n)
{
	while (n--)
		ck_assert_int_eq(loop_turn(&c.loop, 1), 0);
}

START_TEST(a_create_says_all)
{
	const struct span cmd[] = {SPAN_LIT("/bin/init"), SPAN_LIT("-x")};
	const struct rpc_resource_limits limits = {3, 256};
	const struct rpc_network_spec network = {SPAN_LIT("none")};
	struct rpc_create_sandbox_response response;

	setup();
	due.infos = &info;
	due.n_infos = 1;
	ask(RPC_SANDBOX_CREATE_REQUEST,
	    &(struct rpc_create_sandbox_request){
		.id = SPAN_LIT("box"),
		.labels = PB_LIST(pairs),
		.kernel = SPAN_LIT("/k"),
		.rootfs = SPAN_LIT("/r"),
		.boot_args = SPAN_LIT("quiet"),
		.limits = &limits,
		.image = SPAN_LIT("left out"),
		.cmd = PB_LIST(cmd),
		.network = &network,
		.ttl_seconds = 9,
	    },
	    RPC_CREATE_SANDBOX_RESPONSE, &response);
	ck_assert_str_eq(asked,
	    "create=box kernel=/k rootfs=/r args=quiet vcpus=3 memory=256 network=none ttl=9 "
	    "key=team value=a first=/bin/init");
	ck_assert(span_eq_str(response.id, "box"));
	ck_assert(span_eq_str(response.ip_address, "172.20.0.2"));
	ck_assert(span_eq_str(response.state, "ready"));
	asked[0] = '\0';
	ask(RPC_SANDBOX_CREATE_REQUEST, &(struct rpc_create_sandbox_request){.ttl_seconds = 0},
	    RPC_CREATE_SANDBOX_RESPONSE, &response);
	ck_assert_str_eq(asked, "create= kernel= rootfs= args= vcpus=0 memory=0 network= ttl=0");
	teardown();
}
END_TEST

START_TEST(stop_and_remove_answer_with_nothing)
{
	setup();
	ask(RPC_SANDBOX_STOP_REQUEST, &(struct rpc_stop_sandbox_request){SPAN_LIT("box"), 7},
	    RPC_SANDBOX_STOP_RESPONSE, NULL);
	ask(RPC_SANDBOX_REMOVE_REQUEST, &(struct rpc_remove_sandbox_request){SPAN_LIT("box"), true},
	    RPC_SANDBOX_REMOVE_RESPONSE, NULL);
	ask(RPC_SANDBOX_DELETE_SNAPSHOT_REQUEST,
	    &(struct rpc_delete_snapshot_request){SPAN_LIT("snap")},
	    RPC_SANDBOX_DELETE_SNAPSHOT_RESPONSE, NULL);
	ck_assert_str_eq(asked, "stop=box timeout=7 remove=box force=1 delete=snap");
	teardown();
}
END_TEST

START_TEST(inspect_tells_all)
{
	const struct rpc_inspect_sandbox_request request = {SPAN_LIT("box")};
	struct sandbox_info alone = info;
	struct rpc_sandbox_info r;

	setup();
	due.infos = &info;
	due.n_infos = 1;
	ask(RPC_SANDBOX_INSPECT_REQUEST, &request, RPC_SANDBOX_INFO, &r);
	ck_assert(span_eq_str(r.id, "box"));
	ck_assert(span_eq_str(r.state, "ready"));
	ck_assert_uint_eq(r.labels.n, 1);
	ck_assert(span_eq_str(((const struct pb_pair *)r.labels.items)->value, "a"));
	ck_assert_uint_eq(r.limits->vcpus, 2);
	ck_assert_uint_eq(r.limits->memory_mib, 512);
	ck_assert(span_eq_str(r.network->ip_address, "172.20.0.2"));
	ck_assert(span_eq_str(r.network->gateway, "172.20.0.1"));
	ck_assert(span_eq_str(r.network->tap_name, "vmtap0-2"));
	ck_assert_int_eq(r.created_at * 10000 + r.ready_at * 100 + r.last_exited_at, 111213);
	ck_assert_int_eq(r.last_exit_code, -1);
	ck_assert(span_eq_str(r.error, "none"));
	alone.ip = "";
	due.infos = &alone;
	ask(RPC_SANDBOX_INSPECT_REQUEST, &request, RPC_SANDBOX_INFO, &r);
	ck_assert_ptr_null(r.network);
	teardown();
}
END_TEST

START_TEST(lists_hold_all_rows_with_their_labels)
{
	const struct sandbox_info infos[] = {info, info, info};
	const struct sandbox_snapshot snapshots[] = {snapshot, snapshot};
	struct rpc_list_sandboxes_response boxes;
	struct rpc_list_snapshots_response snaps;
	const struct rpc_sandbox_summary *box;
	const struct rpc_snapshot_summary *snap;

	setup();
	due = (struct sandbox_answer){
	    .infos = infos, .n_infos = 3, .snapshots = snapshots, .n_snapshots = 2};
	ask(RPC_SANDBOX_LIST_REQUEST,
	    &(struct rpc_list_sandboxes_request){SPAN_LIT("ready"), PB_LIST(pairs)},
	    RPC_LIST_SANDBOXES_RESPONSE, &boxes);
	ck_assert_uint_eq(boxes.sandboxes.n, 3);
	box = &((const struct rpc_sandbox_summary *)boxes.sandboxes.items)[2];
	ck_assert(span_eq_str(box->id, "box"));
	ck_assert(span_eq_str(((const struct pb_pair *)box->labels.items)->key, "team"));
	ck_assert_int_eq(box->created_at, 11);
	ask(RPC_SANDBOX_LIST_SNAPSHOTS_REQUEST,
	    &(struct rpc_list_snapshots_request){SPAN_LIT("box"), PB_LIST(pairs)},
	    RPC_LIST_SNAPSHOTS_RESPONSE, &snaps);
	ck_assert_uint_eq(snaps.snapshots.n, 2);
	snap = &((const struct rpc_snapshot_summary *)snaps.snapshots.items)[1];
	ck_assert(span_eq_str(snap->id, "snap"));
	ck_assert(span_eq_str(snap->sandbox_id, "box"));
	ck_assert(span_eq_str(snap->name, "first"));
	ck_assert(span_eq_str(snap->snapshot_dir, "/d"));
	ck_assert(span_eq_str(snap->created_at, "2026"));
	ck_assert_uint_eq(snap->labels.n, 1);
	ck_assert_str_eq(asked, "list=ready key=team value=a snapshots=box key=team value=a");
	due.n_infos = 0;
	ask(RPC_SANDBOX_LIST_REQUEST, &(struct rpc_list_sandboxes_request){.labels = {NULL, 0}},
	    RPC_LIST_SANDBOXES_RESPONSE, &boxes);
	ck_assert_uint_eq(boxes.sandboxes.n, 0);
	teardown();
}
END_TEST

START_TEST(snapshots_are_taken_and_restored)
{
	struct rpc_checkpoint_response taken;
	struct rpc_restore_response restored;

	setup();
	due = (struct sandbox_answer){
	    .infos = &info, .n_infos = 1, .snapshots = &snapshot, .n_snapshots = 1};
	ask(RPC_SANDBOX_CHECKPOINT_REQUEST,
	    &(struct rpc_checkpoint_request){SPAN_LIT("box"), SPAN_LIT("first"), PB_LIST(pairs)},
	    RPC_CHECKPOINT_RESPONSE, &taken);
	ck_assert(span_eq_str(taken.snapshot_id, "snap"));
	ck_assert(span_eq_str(taken.snapshot_dir, "/d"));
	ck_assert(span_eq_str(taken.created_at, "2026"));
	ask(RPC_SANDBOX_RESTORE_REQUEST,
	    &(struct rpc_restore_request){.id = SPAN_LIT("new"),
		.snapshot_id = SPAN_LIT("snap"),
		.network_override = true,
		.ttl_seconds = 5},
	    RPC_RESTORE_RESPONSE, &restored);
	ck_assert(span_eq_str(restored.id, "box"));
	ck_assert(span_eq_str(restored.ip_address, "172.20.0.2"));
	ck_assert_str_eq(asked,
	    "checkpoint=box name=first key=team value=a restore=snap id=new override=1 ttl=5");
	teardown();
}
END_TEST

START_TEST(failures_have_their_code_and_their_text)
{
	static const struct {
		int rc;
		int32_t code;
	} cases[] = {
	    {-ENOENT, RPC_NOT_FOUND},
	    {-EINVAL, RPC_CANNOT_DECODE},
	    {-EEXIST, RPC_FAILED},
	    {-EBUSY, RPC_FAILED},
	    {-EAGAIN, RPC_UNAVAILABLE},
	    {-ESHUTDOWN, RPC_UNAVAILABLE},
	    {-EIO, RPC_FAILED},
	};
	static const uint32_t types[] = {
	    RPC_SANDBOX_CREATE_REQUEST,
	    RPC_SANDBOX_STOP_REQUEST,
	    RPC_SANDBOX_REMOVE_REQUEST,
	    RPC_SANDBOX_INSPECT_REQUEST,
	    RPC_SANDBOX_LIST_REQUEST,
	    RPC_SANDBOX_CHECKPOINT_REQUEST,
	    RPC_SANDBOX_RESTORE_REQUEST,
	    RPC_SANDBOX_LIST_SNAPSHOTS_REQUEST,
	    RPC_SANDBOX_DELETE_SNAPSHOT_REQUEST,
	};

	setup();
	due.why = "it is as it is";
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		due.rc = cases[i].rc;
		for (size_t k = 0; k < sizeof types / sizeof *types; k++)
			rpc_case_refused(
			    &c, types[k], span_of(NULL, 0), cases[i].code, "it is as it is");
	}
	teardown();
}
END_TEST

START_TEST(a_late_answer_arrives_and_one_for_nobody_does_not)
{
	setup();
	answers_late = true;
	rpc_case_send(&c, RPC_SANDBOX_STOP_REQUEST, span_of(NULL, 0));
	turns(5);
	late_fn(&due, &late);
	ck_assert_uint_eq(rpc_case_receive(&c).type, RPC_SANDBOX_STOP_RESPONSE);
	rpc_case_send(&c, RPC_SANDBOX_STOP_REQUEST, span_of(NULL, 0));
	turns(5);
	close(c.client);
	turns(5);
	rpc_case_connect(&c);
	late_fn(&due, &late);
	answers_late = false;
	ask(RPC_SANDBOX_REMOVE_REQUEST, &(struct rpc_remove_sandbox_request){.force = false},
	    RPC_SANDBOX_REMOVE_RESPONSE, NULL);
	teardown();
}
END_TEST

START_TEST(too_many_labels_are_refused)
{
	static struct pb_pair many[LABELS_MAX + 1];
	const struct pb_list list = PB_LIST(many);

	setup();
	for (size_t i = 0; i <= LABELS_MAX; i++)
		many[i].key = span_of(&"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				       "0123456789-_.,+"[i],
		    1);
	rpc_case_refused(&c, RPC_SANDBOX_CREATE_REQUEST,
	    rpc_case_payload(&rpc_create_sandbox_request_table,
		&(struct rpc_create_sandbox_request){.labels = list}),
	    RPC_CANNOT_DECODE, "64 labels");
	rpc_case_refused(&c, RPC_SANDBOX_LIST_REQUEST,
	    rpc_case_payload(&rpc_list_sandboxes_request_table,
		&(struct rpc_list_sandboxes_request){.labels = list}),
	    RPC_CANNOT_DECODE, "64 labels");
	ck_assert_str_eq(asked, "");
	teardown();
}
END_TEST

START_TEST(answers_without_memory)
{
	const struct sandbox_info infos[] = {info};
	const struct sandbox_snapshot snapshots[] = {snapshot};
	static const uint32_t types[] = {
	    RPC_SANDBOX_LIST_REQUEST, RPC_SANDBOX_LIST_SNAPSHOTS_REQUEST};

	setup();
	due = (struct sandbox_answer){
	    .infos = infos, .n_infos = 1, .snapshots = snapshots, .n_snapshots = 1};
	for (size_t i = 0; i < 2; i++) {
		fault_arm("calloc", 1, ENOMEM, false);
		rpc_case_refused(&c, types[i], span_of(NULL, 0), RPC_FAILED, "no memory");
		fault_disarm();
	}
	teardown();
}
END_TEST

/* --- commands -----------------------------------------------------------------------------------
 */

static void begin_exec(void)
{
	const struct span cmd[] = {SPAN_LIT("/bin/cat")};
	const struct rpc_terminal_size size = {80, 25};

	rpc_case_send(&c, RPC_SANDBOX_EXEC_REQUEST,
	    rpc_case_payload(&rpc_exec_request_table,
		&(struct rpc_exec_request){.id = SPAN_LIT("box"),
		    .cmd = PB_LIST(cmd),
		    .tty = true,
		    .tty_size = &size,
		    .timeout_seconds = 3}));
	turns(5);
}

static void check_output(const char *stream, const char *data, int32_t exit_code, bool done)
{
	struct frame f = rpc_case_receive(&c);
	struct rpc_output o;

	ck_assert_uint_eq(f.type, RPC_EXEC_OUTPUT);
	rpc_case_read(&c, f.payload, &rpc_output_table, &o);
	ck_assert(span_eq_str(o.stream, stream));
	ck_assert(span_eq_str(o.data, data));
	ck_assert_int_eq(o.exit_code, exit_code);
	ck_assert_int_eq(o.done, done);
}

START_TEST(a_command_and_its_host_hear_each_other)
{
	setup();
	begin_exec();
	ck_assert_str_eq(asked, "run=box cmd=/bin/cat input=1 tty=1 columns=80 timeout=3");
	asked[0] = '\0';
	rpc_case_send(&c, RPC_SANDBOX_EXEC_INPUT, span_str("abc"));
	rpc_case_send(&c, RPC_SANDBOX_EXEC_INPUT, span_str(""));
	turns(5);
	ck_assert_str_eq(asked, "input=abc end=");
	command.ops->output(command.ctx, EXEC_STDOUT, span_str("out"));
	check_output("stdout", "out", 0, false);
	command.ops->output(command.ctx, EXEC_STDERR, span_str("err"));
	check_output("stderr", "err", 0, false);
	command.ops->writable(command.ctx);
	command.ops->ended(command.ctx, 0, 137, "");
	check_output("exit", "", 137, true);
	ck_assert(!command.cancelled);
	teardown();
}
END_TEST

START_TEST(a_command_that_is_lost_is_an_error)
{
	struct span said;
	struct frame f;
	int32_t code;

	setup();
	begin_exec();
	command.ops->output(command.ctx, EXEC_STDOUT, span_str("half of"));
	check_output("stdout", "half of", 0, false);
	command.ops->ended(command.ctx, -EIO, -1, "its VM died");
	f = rpc_case_receive(&c);
	ck_assert_int_eq(frame_error_read(f.payload, &code, &said), E_OK);
	ck_assert_int_eq(code, RPC_FAILED);
	ck_assert(span_eq_str(said, "its VM died"));
	begin_exec(); /* on the same connection */
	command.ops->ended(command.ctx, 0, 0, "");
	check_output("exit", "", 0, true);
	teardown();
}
END_TEST

START_TEST(a_command_that_cannot_start_is_refused)
{
	const struct span cmd[] = {SPAN_LIT("x")};
	const struct rpc_run_request request = {.id = SPAN_LIT("box"), .cmd = PB_LIST(cmd)};
	struct span payload;

	setup();
	payload = rpc_case_payload(&rpc_run_request_table, &request);
	run_rc = -EBUSY;
	rpc_case_refused(&c, RPC_SANDBOX_RUN_REQUEST, payload, RPC_FAILED, "as the test wants it");
	run_rc = -ENOENT;
	rpc_case_refused(
	    &c, RPC_SANDBOX_RUN_REQUEST, payload, RPC_NOT_FOUND, "as the test wants it");
	fault_arm("malloc", 2, ENOMEM, false); /* the first is for the argument */
	rpc_case_refused(&c, RPC_SANDBOX_RUN_REQUEST, payload, RPC_FAILED, "no memory");
	ck_assert(fault_disarm());
	fault_arm("calloc", 1, ENOMEM, false);
	rpc_case_refused(&c, RPC_SANDBOX_EVENTS_REQUEST, span_of(NULL, 0), RPC_FAILED, "no memory");
	ck_assert(fault_disarm());
	teardown();
}
END_TEST

START_TEST(a_host_that_takes_nothing_pauses_the_command)
{
	static uint8_t piece[EXEC_PIECE_BYTES];
	uint8_t drop[4096];

	setup();
	begin_exec();
	for (unsigned i = 0; i < 64 && !command.paused; i++)
		command.ops->output(command.ctx, EXEC_STDOUT, span_of(piece, sizeof piece));
	ck_assert(command.paused);
	for (unsigned i = 0; i < 1000 && command.paused; i++) {
		if (read(c.client, drop, sizeof drop) < 0)
			turns(1);
	}
	turns(5);
	ck_assert(!command.paused);
	close(c.client);
	turns(5);
	ck_assert(command.cancelled);
	rpc_case_connect(&c);
	teardown();
}
END_TEST

/* --- events -------------------------------------------------------------------------------------
 */

/* The next of the events that have come. */
static void check_event(const char *id, const char *action, const char *key, const char *value)
{
	const struct pb_pair *attribute;
	struct rpc_sandbox_event e;
	struct frame f;
	size_t used = 0;
	ssize_t n;

	turns(5);
	n = read(c.client, c.in + c.in_n, sizeof c.in - c.in_n);
	c.in_n += n > 0 ? (size_t)n : 0;
	ck_assert_int_eq(frame_read(span_of(c.in, c.in_n), UINT32_MAX, &f, &used), E_OK);
	ck_assert_uint_eq(f.type, RPC_SANDBOX_EVENT);
	ck_assert(span_eq_str(f.trace, "trace-7"));
	rpc_case_read(&c, f.payload, &rpc_sandbox_event_table, &e);
	ck_assert(span_eq_str(e.sandbox_id, id));
	ck_assert(span_eq_str(e.action, action));
	ck_assert_int_gt(e.timestamp, 0);
	ck_assert_uint_eq(e.attributes.n, key ? 1 : 0);
	attribute = e.attributes.items;
	if (key) {
		ck_assert(span_eq_str(attribute->key, key));
		ck_assert(span_eq_str(attribute->value, value));
	}
	c.in_n -= used;
	memmove(c.in, c.in + used, c.in_n);
}

START_TEST(events_go_to_who_listens)
{
	setup();
	rpc_case_send(&c, RPC_SANDBOX_EVENTS_REQUEST,
	    rpc_case_payload(&rpc_sandbox_events_request_table,
		&(struct rpc_sandbox_events_request){.id = SPAN_LIT("box")}));
	turns(5);
	events_publish(&events, "other", "ready", NULL, NULL);
	events_publish(&events, "box", "ready", NULL, NULL);
	check_event("box", "ready", NULL, NULL);
	events_publish(&events, "box", "idle", "exit_code", "7");
	check_event("box", "idle", "exit_code", "7");
	for (unsigned i = 0; i < 9; i++) /* more than are kept */
		events_publish(&events, "box", "ready", NULL, NULL);
	check_event("", EVENTS_LAGGED, "missed", "5");
	for (unsigned i = 0; i < 4; i++)
		check_event("box", "ready", NULL, NULL);
	teardown();
	ck_assert_uint_eq(events.n_subscribers, 0);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    a_create_says_all,
	    stop_and_remove_answer_with_nothing,
	    inspect_tells_all,
	    lists_hold_all_rows_with_their_labels,
	    snapshots_are_taken_and_restored,
	    failures_have_their_code_and_their_text,
	    a_late_answer_arrives_and_one_for_nobody_does_not,
	    too_many_labels_are_refused,
	    answers_without_memory,
	    a_command_and_its_host_hear_each_other,
	    a_command_that_is_lost_is_an_error,
	    a_command_that_cannot_start_is_refused,
	    a_host_that_takes_nothing_pauses_the_command,
	    events_go_to_who_listens,
	    NULL,
	};

	return suite_of("rpc_sandbox", tests);
}
