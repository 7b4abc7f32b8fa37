#include "session/exec.h"

#include "exec_case.h"
#include "session/launch.h"

#include <errno.h>
#include <fcntl.h>

static uint64_t now_ms(void)
{
	return clock_mono_ns() / NS_PER_MS;
}

/* Whether a process is there, or its corpse. */
static bool is_there(pid_t pid)
{
	return kill(pid, 0) == 0 || errno != ESRCH;
}

static bool is_gone(void *ctx)
{
	reaper_drain(&reaper);
	return !is_there(*(pid_t *)ctx);
}

/* The number that a command has written. */
static pid_t pid_in_output(struct run *r)
{
	case_turn_until(has_output, r);
	return (pid_t)atoi(r->out);
}

/* --- the end ---------------------------------------------------------------------------------- */

static void check_run(const char *script, int code, const char *out, const char *err)
{
	struct run r = run_of_script(script);

	run_whole(&r);
	ck_assert_msg(r.code == code, "%s: %d", script, r.code);
	ck_assert_str_eq(r.out, out);
	ck_assert_str_eq(r.err, err);
	run_free(&r);
}

START_TEST(tells_output_and_code)
{
	case_start();
	check_run("echo out; echo err >&2; exit 7", 7, "out\n", "err\n");
	check_run("true", 0, "", "");
	check_run("exit 255", 255, "", "");
	check_run("cat", 0, "", ""); /* its input is empty */
	check_run("kill -9 $$", 137, "", "");
	check_run("echo 1; kill -TERM $$", 143, "1\n", "");
	check_run("exec >&- 2>&-; exit 3", 3, "", "");
	case_end();
}
END_TEST

START_TEST(says_why_it_cannot_start)
{
	static const struct {
		const char *program;
		int code;
		const char *reason;
	} rows[] = {
	    {"no-such-program", 127, "cannot run no-such-program: No such file or directory\n"},
	    {"/no/such", 127, "cannot run /no/such: No such file or directory\n"},
	    {"/etc/passwd/x", 127, "cannot run /etc/passwd/x: Not a directory\n"},
	    {"/etc/passwd", 126, "cannot run /etc/passwd: Permission denied\n"},
	    {"/", 126, "cannot run /: Permission denied\n"},
	    {"", 127, "cannot run an empty command: No such file or directory\n"},
	};

	case_start();
	for (size_t i = 0; i < 2 * sizeof rows / sizeof *rows; i++) {
		const char *const words[] = {rows[i / 2].program, "x", NULL};
		struct run r = run_of(words);

		r.command.tty = i % 2;
		run_whole(&r);
		ck_assert_int_eq(r.code, rows[i / 2].code);
		ck_assert_str_eq(r.err, rows[i / 2].reason); /* not on the tty */
		ck_assert_str_eq(r.out, "");
		run_free(&r);
	}
	case_end();
}
END_TEST

START_TEST(reads_all_output_before_the_end)
{
	struct run r = run_of_script("head -c 3000000 /dev/zero | tr '\\0' x; echo end >&2");

	case_start();
	run_whole(&r);
	ck_assert_int_eq(r.code, 0);
	ck_assert_uint_eq(r.n_out, 3000000);
	ck_assert_uint_eq(strspn(r.out, "x"), 3000000);
	ck_assert_str_eq(r.err, "end\n");
	run_free(&r);
	case_end();
}
END_TEST

/* --- the output of a command that left something behind ------------------------------------------
 */

START_TEST(does_not_wait_for_what_is_left_behind)
{
	struct run r = run_of_script("sleep 60 & echo $!; exit 4");
	uint64_t before = now_ms();
	pid_t left;

	case_start();
	run_whole(&r);
	ck_assert_uint_ge(now_ms() - before, EXEC_GRACE_MS);
	ck_assert_uint_lt(now_ms() - before, 30 * 1000);
	ck_assert_int_eq(r.code, 4);
	left = pid_in_output(&r);
	ck_assert(is_there(left)); /* it lives on */
	kill(left, SIGKILL);
	run_free(&r);
	case_end();
}
END_TEST

START_TEST(is_not_held_up_by_one_that_goes_on_writing)
{
	struct run r = run_of_script("yes & echo $! >&2; exit 5");

	case_start();
	r.pause_at = 1;
	run_start(&r);
	for (uint64_t end = now_ms() + 2 * EXEC_GRACE_MS; now_ms() < end;)
		ck_assert_int_eq(loop_turn(&loop, 50), 0);
	ck_assert(!r.ended); /* the peer has not got it all */
	r.pause_at = 0;
	exec_resume(r.exec);
	run_wait(&r);
	ck_assert_int_eq(r.code, 5);
	ck_assert_uint_gt(r.n_out, 0);
	ck_assert_uint_lt(r.n_out, RUN_OUT_BYTES);
	kill((pid_t)atoi(r.err), SIGKILL);
	run_free(&r);
	case_end();
}
END_TEST

START_TEST(hands_on_what_was_written_before_the_end)
{
	struct run r = run_of_script("head -c 100000 /dev/zero; sleep 60 & echo $! >&2");
	uint64_t end;

	case_start();
	r.pause_at = 1;
	run_start(&r);
	/* The pipe takes the rest of it only now and then: the command itself goes on. */
	for (end = now_ms() + 300; now_ms() < end;)
		ck_assert_int_eq(loop_turn(&loop, 50), 0);
	exec_resume(r.exec);
	for (end = now_ms() + 2 * EXEC_GRACE_MS; now_ms() < end && !r.ended;)
		ck_assert_int_eq(loop_turn(&loop, 50), 0);
	r.pause_at = 0;
	if (!r.ended)
		exec_resume(r.exec);
	run_wait(&r);
	ck_assert_uint_eq(r.n_out, 100000);
	ck_assert_int_eq(r.code, 0);
	kill((pid_t)atoi(r.err), SIGKILL);
	run_free(&r);
	case_end();
}
END_TEST

/* --- back-pressure ---------------------------------------------------------------------------- */

/* Feeds `n` bytes as they are taken, and ends the input. */
static void feed(struct run *r, size_t n)
{
	static uint8_t bytes[100000];
	size_t at = 0;

	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i % 251);
	while (at < n) {
		unsigned writable = r->writable;
		size_t from = at % sizeof bytes;
		size_t piece = sizeof bytes - from < n - at ? sizeof bytes - from : n - at;
		size_t taken = exec_input(r->exec, span_of(bytes + from, piece));

		ck_assert_uint_le(taken, piece);
		at += taken;
		while (taken < piece && r->writable == writable)
			ck_assert_int_eq(loop_turn(&loop, 1000), 0);
	}
	exec_end_input(r->exec);
}

START_TEST(moves_bytes_both_ways)
{
	const size_t n = RUN_OUT_BYTES - 1000;
	struct run r = run_of_script("cat");

	case_start();
	run_start(&r);
	feed(&r, n);
	run_wait(&r);
	ck_assert_int_eq(r.code, 0);
	ck_assert_uint_eq(r.n_out, n);
	for (size_t i = 0; i < n; i++)
		if ((uint8_t)r.out[i] != i % 100000 % 251)
			ck_abort_msg("byte %zu", i);
	run_free(&r);
	case_end();
}
END_TEST

START_TEST(takes_no_more_than_the_command_reads)
{
	static uint8_t zeros[1 << 20];
	struct span input = span_of(zeros, sizeof zeros);
	struct run r = run_of_script("sleep 0.2; wc -c");
	size_t taken;

	case_start();
	run_start(&r);
	taken = exec_input(r.exec, input);
	ck_assert_uint_gt(taken, 0);
	ck_assert_uint_le(taken, 64 * 1024);
	ck_assert_uint_eq(exec_input(r.exec, input), 0);
	ck_assert_uint_eq(r.writable, 0);
	while (r.writable == 0)
		ck_assert_int_eq(loop_turn(&loop, 1000), 0);
	exec_end_input(r.exec);
	run_wait(&r);
	ck_assert_uint_eq((size_t)atoi(r.out), taken);
	run_free(&r);
	case_end();
}
END_TEST

START_TEST(drops_input_that_nobody_reads)
{
	static uint8_t zeros[1 << 20];
	struct span input = span_of(zeros, sizeof zeros);
	struct run r = run_of_script("exec <&-; echo closed; sleep 0.3; exit 6");

	case_start();
	run_start(&r);
	while (exec_input(r.exec, input) < input.n)
		ck_assert_int_eq(loop_turn(&loop, 1000), 0);
	ck_assert_uint_eq(exec_input(r.exec, input), input.n);
	exec_end_input(r.exec);
	exec_end_input(r.exec);
	run_wait(&r);
	ck_assert_int_eq(r.code, 6);
	run_free(&r);
	case_end();
}
END_TEST

START_TEST(a_pause_stops_the_command)
{
	struct run r = run_of_script("yes");
	size_t n;

	case_start();
	r.pause_at = 100000;
	run_start(&r);
	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(loop_turn(&loop, 20), 0);
	n = r.n_out;
	ck_assert_uint_ge(n, 100000);
	ck_assert_uint_le(n, 100000 + EXEC_PIECE_BYTES);
	r.pause_at = n + 1;
	exec_resume(r.exec);
	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(loop_turn(&loop, 20), 0);
	ck_assert_uint_gt(r.n_out, n);
	ck_assert_uint_le(r.n_out, n + 1 + EXEC_PIECE_BYTES);
	exec_cancel(r.exec);
	case_end();
	run_free(&r);
}
END_TEST

START_TEST(a_paused_end_costs_no_turns)
{
	struct run r = run_of_script("echo x; echo y >&2");
	unsigned turns = 0;
	uint64_t end;

	case_start();
	r.pause_at = 1;
	run_start(&r);
	case_turn_until(has_output, &r);
	for (end = now_ms() + 300; now_ms() < end; turns++)
		ck_assert_int_eq(loop_turn(&loop, 50), 0);
	ck_assert_uint_lt(turns, 50); /* a hang-up that is told for ever would spin */
	exec_resume(r.exec);
	run_wait(&r);
	ck_assert_str_eq(r.out, "x\n");
	ck_assert_str_eq(r.err, "y\n");
	run_free(&r);
	case_end();
}
END_TEST

/* --- time and signals ------------------------------------------------------------------------- */

START_TEST(kills_the_group_when_time_is_up)
{
	struct run r = run_of_script("trap '' TERM HUP; sleep 60 & echo $!; sleep 60; echo no");
	pid_t other;

	case_start();
	r.command.timeout_secs = 1;
	run_start(&r);
	other = pid_in_output(&r);
	ck_assert(is_there(other));
	run_wait(&r);
	ck_assert_int_eq(r.code, EXEC_TIMED_OUT);
	case_turn_until(is_gone, &other);
	run_free(&r);
	case_end();
}
END_TEST

START_TEST(hangs_up_when_the_peer_is_gone)
{
	struct run r = run_of_script("sleep 60 & echo $!; sleep 60");
	pid_t other;

	case_start();
	run_start(&r);
	other = pid_in_output(&r);
	exec_cancel(r.exec);
	ck_assert_uint_eq(executor.running, 1);
	while (!is_gone(&other)) /* without a turn, in which it may be killed */
		usleep(10000);
	case_end();
	ck_assert(!r.ended); /* nobody was told */
	run_free(&r);
}
END_TEST

START_TEST(kills_what_does_not_hang_up)
{
	struct run r =
	    run_of_script("trap '' HUP PIPE; sleep 60 & echo $!; while :; do sleep 1; done");
	uint64_t before = now_ms();
	pid_t other;

	case_start();
	run_start(&r);
	other = pid_in_output(&r);
	exec_cancel(r.exec);
	case_turn_until(is_gone, &other);
	case_end();
	ck_assert_uint_ge(now_ms() - before, EXEC_HANGUP_MS);
	run_free(&r);
}
END_TEST

START_TEST(a_stopped_command_hangs_up_too)
{
	struct run r = run_of_script("echo $$; kill -STOP $$; sleep 60");
	pid_t pid;

	case_start();
	run_start(&r);
	pid = pid_in_output(&r);
	usleep(50000);
	exec_cancel(r.exec);
	case_turn_until(is_gone, &pid);
	run_free(&r);
	case_end();
}
END_TEST

START_TEST(can_be_cancelled_at_any_time)
{
	case_start();
	for (int turns = 0; turns < 6; turns++) {
		struct run r = run_of_script("echo x; sleep 1 & exit 0");

		r.pause_at = turns % 2 ? 1 : 0;
		run_start(&r);
		for (int i = 0; i < turns && !r.ended; i++)
			ck_assert_int_eq(loop_turn(&loop, 20), 0);
		if (!r.ended)
			exec_cancel(r.exec);
		case_turn_until(nothing_runs, NULL);
		run_free(&r);
	}
	case_end();
}
END_TEST

START_TEST(runs_no_more_than_so_many)
{
	struct run runs[RUNNING_MAX + 1];

	case_start();
	for (int i = 0; i <= RUNNING_MAX; i++)
		runs[i] = run_of_script("cat");
	for (int i = 0; i < RUNNING_MAX; i++)
		run_start(&runs[i]);
	ck_assert_int_eq(exec_start(&executor, &runs[RUNNING_MAX].command, &run_ops,
			     &runs[RUNNING_MAX], &runs[RUNNING_MAX].exec),
	    -EBUSY);
	exec_end_input(runs[0].exec);
	run_wait(&runs[0]);
	ck_assert_int_eq(loop_turn(&loop, 0), 0);
	run_start(&runs[RUNNING_MAX]);
	for (int i = 1; i <= RUNNING_MAX; i++)
		exec_end_input(runs[i].exec);
	for (int i = 0; i <= RUNNING_MAX; i++) {
		run_wait(&runs[i]);
		run_free(&runs[i]);
	}
	case_end();
}
END_TEST

/* --- terminals -------------------------------------------------------------------------------- */

START_TEST(gives_a_terminal)
{
	struct run r = run_of_script("test -t 0 && test -t 1 && test -t 2 && : > /dev/tty && "
				     "stty size && echo $TERM && echo err >&2");

	case_start();
	r.command.tty = true;
	run_whole(&r);
	ck_assert_str_eq(r.out, "24 80\r\nxterm\r\nerr\r\n");
	ck_assert_str_eq(r.err, "");
	ck_assert_int_eq(r.code, 0);
	run_free(&r);
	case_end();
}
END_TEST

static bool is_ready(void *ctx)
{
	return strstr(((struct run *)ctx)->out, "ready") != NULL;
}

START_TEST(resizes_the_terminal)
{
	struct run r = run_of_script(
	    "trap 'stty size; exit 9' WINCH; stty size; echo ready; while :; do sleep 0.05; done");

	case_start();
	r.command.tty = true;
	r.command.size = (struct vmframe_size){100, 30};
	run_start(&r);
	case_turn_until(is_ready, &r);
	exec_resize(r.exec, (struct vmframe_size){121, 41});
	run_wait(&r);
	ck_assert_str_eq(r.out, "30 100\r\nready\r\n41 121\r\n");
	ck_assert_int_eq(r.code, 9);
	run_free(&r);
	case_end();
}
END_TEST

static void check_terminal_input(const char *input, const char *out)
{
	struct run r = run_of_script("stty -echo; echo ready; cat; echo end");

	r.command.tty = true;
	run_start(&r);
	case_turn_until(is_ready, &r);
	ck_assert_uint_eq(exec_input(r.exec, span_str(input)), strlen(input));
	exec_end_input(r.exec);
	run_wait(&r);
	ck_assert_str_eq(r.out, out);
	ck_assert_int_eq(r.code, 0);
	run_free(&r);
}

START_TEST(ends_the_input_of_a_terminal)
{
	case_start();
	check_terminal_input("", "ready\r\nend\r\n");
	check_terminal_input("line\n", "ready\r\nline\r\nend\r\n");
	check_terminal_input("line\nrest", "ready\r\nline\r\nrestend\r\n");
	case_end();
}
END_TEST

START_TEST(signals_the_foreground_of_a_terminal)
{
	struct run r = run_of_script("set -m; sleep 60; echo never");

	case_start();
	r.command.tty = true;
	r.command.timeout_secs = 1;
	run_start(&r);
	run_wait(&r);
	ck_assert_int_eq(r.code, EXEC_TIMED_OUT);
	run_free(&r);
	case_end(); /* which finds no sleep */
}
END_TEST

START_TEST(a_terminal_hangs_up)
{
	struct run r = run_of_script("echo $$; sleep 60");
	pid_t pid;

	case_start();
	r.command.tty = true;
	run_start(&r);
	pid = pid_in_output(&r);
	exec_cancel(r.exec);
	case_turn_until(is_gone, &pid);
	run_free(&r);
	case_end();
}
END_TEST

/* --- faults ----------------------------------------------------------------------------------- */

static void check_fault(const char *call, int err, bool tty)
{
	FAULT_EACH(call, err)
	{
		struct run r = run_of_script("exit 8");
		int rc;

		r.command.tty = tty;
		rc = exec_start(&executor, &r.command, &run_ops, &r, &r.exec);
		if (rc == 0)
			run_wait(&r);
		else
			ck_assert_int_eq(rc, -err);
		if (rc == 0)
			ck_assert_msg(r.code == 8 || r.code == LAUNCH_NOT_EXECUTABLE ||
				r.code == LAUNCH_NOT_FOUND,
			    "%s: %d", call, r.code);
		case_turn_until(nothing_runs, NULL);
		ck_assert_uint_eq(fault_fds(), fds);
		run_free(&r);
	}
}

START_TEST(a_failing_call_leaves_nothing_behind)
{
	case_start();
	for (int tty = 0; tty < 2; tty++) {
		check_fault("calloc", ENOMEM, tty);
		check_fault("pipe2", EMFILE, tty);
		check_fault("fork", EAGAIN, tty);
	}
	check_fault("open", EMFILE, true);
	case_end();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    tells_output_and_code,
	    says_why_it_cannot_start,
	    reads_all_output_before_the_end,
	    does_not_wait_for_what_is_left_behind,
	    is_not_held_up_by_one_that_goes_on_writing,
	    hands_on_what_was_written_before_the_end,
	    moves_bytes_both_ways,
	    takes_no_more_than_the_command_reads,
	    drops_input_that_nobody_reads,
	    a_pause_stops_the_command,
	    a_paused_end_costs_no_turns,
	    kills_the_group_when_time_is_up,
	    hangs_up_when_the_peer_is_gone,
	    kills_what_does_not_hang_up,
	    a_stopped_command_hangs_up_too,
	    can_be_cancelled_at_any_time,
	    runs_no_more_than_so_many,
	    gives_a_terminal,
	    resizes_the_terminal,
	    ends_the_input_of_a_terminal,
	    signals_the_foreground_of_a_terminal,
	    a_terminal_hangs_up,
	    a_failing_call_leaves_nothing_behind,
	    NULL,
	};

	return suite_of("exec", tests);
}
