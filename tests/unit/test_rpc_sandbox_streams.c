/* Run, Exec and Events on the real service, in whose guest commands are run. */
#include "rpc_case.h"

#include "sandbox/sandbox.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static struct rpc_case c;
static struct sandbox_config config;
static char dir[32];

static void setup(void)
{
	static struct sandboxes_conf conf = {
	    .config = &config,
	    .max_sandboxes = 4,
	    .max_subscribers = 1,
	    .max_events = 8,
	    .max_snapshots = 8,
	    .max_snapshot_requests = 8,
	    .max_guest_commands = 2,
	    .prepare_ms = 5000,
	    .connect_ms = 1000,
	    .stop_ms = 1000,
	    .kill_ms = 1000,
	};

	strcpy(dir, "/tmp/rpc.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	sandbox_config_default(&config);
	config.data_dir = dir;
	rpc_case_begin(&c);
	c.services.sandboxes = sandboxes_new(&c.loop, &c.reaper, &conf);
	ck_assert_ptr_nonnull(c.services.sandboxes);
	rpc_case_serve(&c);
}

static void turns(unsigned n)
{
	while (n--)
		ck_assert_int_eq(loop_turn(&c.loop, 1), 0);
}

static void wait_for_children(void)
{
	for (int i = 0; i < RPC_CASE_TURNS && fault_children() > c.children; i++)
		ck_assert_int_eq(loop_turn(&c.loop, 10), 0);
	ck_assert_uint_eq(fault_children(), c.children);
}

static void teardown(void)
{
	close(c.client);
	rpc_server_free(c.server);
	c.server = NULL;
	c.client = -1;
	wait_for_children();
	sandboxes_free(c.services.sandboxes);
	rpc_case_end(&c);
	rmdir(dir);
}

/* --- commands --------------------------------------------------------------------------------- */

/* What a stream has said up to its end. */
static struct {
	char out[RPC_CASE_BYTES], err[1024];
	size_t n_out, n_err;
	int32_t exit_code;
	bool done;
} heard;

static void keep(char *to, size_t cap, size_t *n, struct span data)
{
	ck_assert_uint_lt(data.n, cap - *n);
	memcpy(to + *n, data.p, data.n);
	*n += data.n;
	to[*n] = '\0';
}

static void hear(const struct rpc_output *o)
{
	ck_assert(!heard.done);
	if (span_eq_str(o->stream, "stdout"))
		keep(heard.out, sizeof heard.out, &heard.n_out, o->data);
	else if (span_eq_str(o->stream, "stderr"))
		keep(heard.err, sizeof heard.err, &heard.n_err, o->data);
	else
		ck_assert(span_eq_str(o->stream, "exit"));
	heard.exit_code = o->exit_code;
	heard.done = o->done;
	ck_assert_int_eq(o->done, span_eq_str(o->stream, "exit"));
}

/* Takes what is there of a stream's frames. */
static void receive(uint32_t type)
{
	struct frame f;
	size_t used;
	ssize_t n = read(c.client, c.in + c.in_n, sizeof c.in - c.in_n);

	c.in_n += n > 0 ? (size_t)n : 0;
	while (frame_read(span_of(c.in, c.in_n), UINT32_MAX, &f, &used) == E_OK) {
		struct rpc_output output = {0};

		ck_assert_uint_eq(f.type, type);
		ck_assert(span_eq_str(f.trace, "trace-7"));
		rpc_case_read(&c, f.payload, &rpc_output_table, &output);
		hear(&output);
		c.in_n -= used;
		memmove(c.in, c.in + used, c.in_n);
	}
}

static void hear_all(uint32_t type)
{
	memset(&heard, 0, sizeof heard);
	for (int i = 0; i < RPC_CASE_TURNS && !heard.done; i++) {
		ck_assert_int_eq(loop_turn(&c.loop, 10), 0);
		receive(type);
	}
	ck_assert_msg(heard.done, "the command did not end: %s", heard.out);
}

static struct span id_guest(void)
{
	return span_str(SANDBOX_GUEST);
}

static void run(const struct rpc_run_request *r)
{
	rpc_case_send(&c, RPC_SANDBOX_RUN_REQUEST, rpc_case_payload(&rpc_run_request_table, r));
	hear_all(RPC_RUN_OUTPUT);
}

static void begin_exec(const struct rpc_exec_request *r)
{
	rpc_case_send(&c, RPC_SANDBOX_EXEC_REQUEST, rpc_case_payload(&rpc_exec_request_table, r));
}

static void give_input(const char *text)
{
	rpc_case_send(&c, RPC_SANDBOX_EXEC_INPUT, span_str(text));
}

START_TEST(a_run_has_output_and_an_end)
{
	const struct span cmd[] = {SPAN_LIT("/bin/sh"), SPAN_LIT("-c"),
	    SPAN_LIT("cat; echo $GREETING; pwd; echo oh >&2; exit 7")};
	const struct pb_pair env[] = {{SPAN_LIT("GREETING"), SPAN_LIT("hello")}};

	setup();
	run(&(struct rpc_run_request){.id = id_guest(),
	    .cmd = PB_LIST(cmd),
	    .env = PB_LIST(env),
	    .working_dir = SPAN_LIT("/usr")});
	ck_assert_str_eq(heard.out, "hello\n/usr\n");
	ck_assert_str_eq(heard.err, "oh\n");
	ck_assert_int_eq(heard.exit_code, 7);
	rpc_case_refused(
	    &c, RPC_SANDBOX_EXEC_INPUT, span_str("late"), RPC_CANNOT_DECODE, "SandboxExecInput");
	teardown();
}
END_TEST

START_TEST(runs_follow_each_other_on_a_connection)
{
	const struct span cmd[] = {SPAN_LIT("/bin/echo"), SPAN_LIT("x")};

	setup();
	for (int i = 0; i < 5; i++) {
		run(&(struct rpc_run_request){.id = id_guest(), .cmd = PB_LIST(cmd)});
		ck_assert_str_eq(heard.out, "x\n");
		ck_assert_int_eq(heard.exit_code, 0);
	}
	teardown();
}
END_TEST

START_TEST(a_run_may_be_timed)
{
	const struct span cmd[] = {SPAN_LIT("/bin/sleep"), SPAN_LIT("60")};

	setup();
	run(&(struct rpc_run_request){.id = id_guest(), .cmd = PB_LIST(cmd), .timeout_seconds = 1});
	ck_assert_int_eq(heard.exit_code, EXEC_TIMED_OUT);
	teardown();
}
END_TEST

START_TEST(an_exec_takes_input)
{
	const struct span cmd[] = {SPAN_LIT("/bin/cat")};

	setup();
	begin_exec(&(struct rpc_exec_request){.id = id_guest(), .cmd = PB_LIST(cmd)});
	give_input("hello ");
	give_input("world\n");
	give_input("");
	hear_all(RPC_EXEC_OUTPUT);
	ck_assert_str_eq(heard.out, "hello world\n");
	ck_assert_int_eq(heard.exit_code, 0);
	teardown();
}
END_TEST

START_TEST(a_host_that_closes_its_side_ends_the_input)
{
	const struct span cmd[] = {SPAN_LIT("/bin/cat")};

	setup();
	begin_exec(&(struct rpc_exec_request){.id = id_guest(), .cmd = PB_LIST(cmd)});
	give_input("hello");
	ck_assert_int_eq(shutdown(c.client, SHUT_WR), 0);
	hear_all(RPC_EXEC_OUTPUT);
	ck_assert_str_eq(heard.out, "hello");
	teardown();
}
END_TEST

START_TEST(an_exec_may_have_a_terminal)
{
	const struct span cmd[] = {SPAN_LIT("/bin/sh"), SPAN_LIT("-c"), SPAN_LIT("stty size")};
	const struct rpc_terminal_size size = {132, 43};

	setup();
	begin_exec(&(struct rpc_exec_request){
	    .id = id_guest(), .cmd = PB_LIST(cmd), .tty = true, .tty_size = &size});
	hear_all(RPC_EXEC_OUTPUT);
	ck_assert_str_eq(heard.out, "43 132\r\n");
	teardown();
}
END_TEST

/* A command whose host takes nothing waits, and so does the agent. */
START_TEST(a_slow_host_holds_the_command_back)
{
	enum { MIB = 8 };
	const struct span cmd[] = {
	    SPAN_LIT("/bin/sh"), SPAN_LIT("-c"), SPAN_LIT("head -c 8388608 /dev/zero")};
	size_t total = 0;

	setup();
	rpc_case_send(&c, RPC_SANDBOX_RUN_REQUEST,
	    rpc_case_payload(&rpc_run_request_table,
		&(struct rpc_run_request){.id = id_guest(), .cmd = PB_LIST(cmd)}));
	turns(50); /* the answers of 1 MiB that may wait would overflow */
	memset(&heard, 0, sizeof heard);
	for (int i = 0; i < 100 * RPC_CASE_TURNS && !heard.done; i++) {
		ck_assert_int_eq(loop_turn(&c.loop, 10), 0);
		receive(RPC_RUN_OUTPUT);
		total += heard.n_out;
		heard.n_out = 0;
	}
	ck_assert(heard.done);
	ck_assert_int_eq(heard.exit_code, 0);
	ck_assert_uint_eq(total, MIB << 20);
	teardown();
}
END_TEST

START_TEST(a_host_that_goes_takes_its_command_along)
{
	const struct span cmd[] = {
	    SPAN_LIT("/bin/sh"), SPAN_LIT("-c"), SPAN_LIT("echo up; sleep 60")};

	setup();
	for (int i = 0; i < 2; i++) {
		begin_exec(&(struct rpc_exec_request){.id = id_guest(), .cmd = PB_LIST(cmd)});
		memset(&heard, 0, sizeof heard);
		for (int k = 0; k < RPC_CASE_TURNS && !heard.n_out; k++) {
			ck_assert_int_eq(loop_turn(&c.loop, 10), 0);
			receive(RPC_EXEC_OUTPUT);
		}
		ck_assert_str_eq(heard.out, "up\n");
		close(c.client);
		wait_for_children();
		rpc_case_connect(&c);
	}
	teardown();
}
END_TEST

START_TEST(what_cannot_be_run_is_refused)
{
	const struct span cmd[] = {SPAN_LIT("/bin/true")}, nul[] = {SPAN_LIT("a\0b")};
	const struct pb_pair env[] = {{SPAN_LIT("A=B"), SPAN_LIT("")}};
	const struct rpc_terminal_size wide = {65536, 1}, high = {1, 65536};
	const struct {
		struct rpc_exec_request r;
		int32_t code;
		const char *text;
	} cases[] = {
	    {{.id = id_guest()}, RPC_CANNOT_DECODE, "no command"},
	    {{.id = id_guest(), .cmd = PB_LIST(nul)}, RPC_CANNOT_DECODE, "NUL"},
	    {{.id = id_guest(), .cmd = PB_LIST(cmd), .env = PB_LIST(env)}, RPC_CANNOT_DECODE,
		"environment"},
	    {{.id = id_guest(), .cmd = PB_LIST(cmd), .tty_size = &wide}, RPC_CANNOT_DECODE,
		"65535"},
	    {{.id = id_guest(), .cmd = PB_LIST(cmd), .tty_size = &high}, RPC_CANNOT_DECODE,
		"65535"},
	    {{.id = SPAN_LIT("nobody"), .cmd = PB_LIST(cmd)}, RPC_NOT_FOUND, "nobody"},
	};

	setup();
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		rpc_case_refused(&c, RPC_SANDBOX_EXEC_REQUEST,
		    rpc_case_payload(&rpc_exec_request_table, &cases[i].r), cases[i].code,
		    cases[i].text);
	rpc_case_refused(
	    &c, RPC_SANDBOX_RUN_REQUEST, span_of(NULL, 0), RPC_CANNOT_DECODE, "no command");
	teardown();
}
END_TEST

START_TEST(one_command_too_many_is_refused)
{
	const struct span cmd[] = {SPAN_LIT("/bin/cat")};
	const struct rpc_exec_request exec = {.id = id_guest(), .cmd = PB_LIST(cmd)};
	int clients[2];

	setup();
	for (size_t i = 0; i < 2; i++) {
		begin_exec(&exec);
		turns(20);
		clients[i] = c.client;
		rpc_case_connect(&c);
	}
	rpc_case_refused(&c, RPC_SANDBOX_EXEC_REQUEST,
	    rpc_case_payload(&rpc_exec_request_table, &exec), RPC_UNAVAILABLE, "too many");
	close(clients[0]);
	close(clients[1]);
	wait_for_children();
	begin_exec(&exec);
	give_input("");
	hear_all(RPC_EXEC_OUTPUT);
	ck_assert_int_eq(heard.exit_code, 0);
	teardown();
}
END_TEST

/* --- events ----------------------------------------------------------------------------------- */

START_TEST(listeners_are_limited)
{
	int first;

	setup();
	rpc_case_send(&c, RPC_SANDBOX_EVENTS_REQUEST, span_of(NULL, 0));
	turns(5);
	first = c.client;
	rpc_case_connect(&c);
	rpc_case_refused(
	    &c, RPC_SANDBOX_EVENTS_REQUEST, span_of(NULL, 0), RPC_UNAVAILABLE, "too many listen");
	close(first); /* which makes room */
	turns(5);
	rpc_case_send(&c, RPC_SANDBOX_EVENTS_REQUEST, span_of(NULL, 0));
	turns(5);
	ck_assert_int_eq(read(c.client, c.in, sizeof c.in), -1);
	teardown();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    a_run_has_output_and_an_end,
	    runs_follow_each_other_on_a_connection,
	    a_run_may_be_timed,
	    an_exec_takes_input,
	    a_host_that_closes_its_side_ends_the_input,
	    an_exec_may_have_a_terminal,
	    a_slow_host_holds_the_command_back,
	    a_host_that_goes_takes_its_command_along,
	    what_cannot_be_run_is_refused,
	    one_command_too_many_is_refused,
	    listeners_are_limited,
	    NULL,
	};

	return suite_of("rpc_sandbox_streams", tests);
}
