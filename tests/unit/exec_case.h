/* exec_case.h - commands on the loop of session_case.h, whose output is kept. */
#ifndef TESTS_EXEC_CASE_H
#define TESTS_EXEC_CASE_H

#include "session_case.h"

/* --- a command that runs ---------------------------------------------------------------------- */

enum { RUN_OUT_BYTES = 4 << 20 };

struct run {
	struct exec *exec;
	struct command command;
	char *out;
	size_t n_out;
	char err[1024];
	size_t n_err;
	size_t pause_at; /* 0, or as soon as so much has come */
	unsigned writable;
	bool ended;
	int code;
};

static void run_output(void *ctx, enum exec_stream stream, struct span bytes)
{
	struct run *r = ctx;

	ck_assert(!r->ended);
	ck_assert_uint_gt(bytes.n, 0);
	ck_assert_uint_le(bytes.n, EXEC_PIECE_BYTES);
	if (stream == EXEC_STDERR) {
		ck_assert_msg(r->n_err + bytes.n < sizeof r->err, "%.*s", (int)bytes.n,
		    (const char *)bytes.p);
		memcpy(r->err + r->n_err, bytes.p, bytes.n);
		r->n_err += bytes.n;
		return;
	}
	ck_assert_uint_lt(r->n_out + bytes.n, RUN_OUT_BYTES);
	memcpy(r->out + r->n_out, bytes.p, bytes.n);
	r->n_out += bytes.n;
	r->out[r->n_out] = '\0';
	if (r->pause_at && r->n_out >= r->pause_at)
		exec_pause(r->exec);
}

static void run_writable(void *ctx)
{
	((struct run *)ctx)->writable++;
}

static void run_ended(void *ctx, int code)
{
	struct run *r = ctx;

	ck_assert(!r->ended);
	r->ended = true;
	r->code = code;
}

static const struct exec_ops run_ops = {run_output, run_writable, run_ended};

/* A run of these words, which end with NULL; not started yet. */
static struct run run_of(const char *const *words)
{
	struct run r = {.out = malloc(RUN_OUT_BYTES)};

	ck_assert_ptr_nonnull(r.out);
	r.out[0] = '\0';
	command_init(&r.command);
	for (; *words; words++)
		ck_assert_int_eq(command_add_arg(&r.command, span_str(*words)), 0);
	return r;
}

static inline struct run run_of_script(const char *script)
{
	const char *const words[] = {"sh", "-c", script, NULL};

	return run_of(words);
}

static void run_free(struct run *r)
{
	command_done(&r->command);
	free(r->out);
}

static void run_start(struct run *r)
{
	ck_assert_int_eq(exec_start(&executor, &r->command, &run_ops, r, &r->exec), 0);
}

static bool has_ended(void *ctx)
{
	return ((struct run *)ctx)->ended;
}

static inline void run_wait(struct run *r)
{
	case_turn_until(has_ended, r);
}

/* Without input, to the end. */
static inline void run_whole(struct run *r)
{
	run_start(r);
	exec_end_input(r->exec);
	run_wait(r);
}

static inline bool has_output(void *ctx)
{
	return ((struct run *)ctx)->n_out > 0;
}

#endif
