/* Commands: in a sandbox by its vm-agent, in the guest itself by the same engine, linked in here.
 */
#include "base/log.h"
#include "sandbox/life.h"
#include "sandbox/remote.h"

#include <errno.h>
#include <stdlib.h>

enum { CLOCK_MS = 10 * 1000 };

struct sandbox_command {
	const struct sandbox_command_ops *ops; /* NULL: nobody takes what it writes */
	void *ctx;
	struct sandbox *sandbox; /* NULL: the guest, or one that is lost */
	const char *lost;        /* why; NULL: it is not */
	struct remote *remote;   /* one of these */
	struct exec *exec;
};

/* --- its end ---------------------------------------------------------------------------------- */

/* The sandbox has no command any more. */
static void let_go(struct sandbox_command *c, int32_t exit_code)
{
	struct sandbox *b = c->sandbox;

	if (!b)
		return;
	c->sandbox = NULL;
	b->command = NULL;
	b->last_exit_code = exit_code;
	b->last_exited_at = life_now_secs();
	life_happen(b, LIFE_IDLE);
}

static const char *end_text(const struct sandbox_command *c, int rc)
{
	if (rc == 0)
		return "";
	if (c->lost)
		return c->lost;
	if (c->sandbox && c->sandbox->state == LIFE_STOPPING)
		return "the sandbox was stopped";
	return rc == -ETIMEDOUT ? "vm-agent does not answer on port 52 of the sandbox"
	    : rc == -ECONNRESET ? "the connection to vm-agent was lost"
				: err_text(rc);
}

static void end(struct sandbox_command *c, int rc, int32_t exit_code)
{
	const char *why = end_text(c, rc);

	if (rc < 0)
		exit_code = -1;
	let_go(c, exit_code);
	if (c->ops)
		c->ops->ended(c->ctx, rc, exit_code, why);
	free(c);
}

static void end_clock(struct sandbox *b)
{
	timer_at(&b->clock_limit, 0);
	if (b->clock)
		remote_cancel(b->clock);
	b->clock = NULL;
}

void command_lose(struct sandbox *b, const char *why)
{
	struct sandbox_command *c = b->command;

	end_clock(b);
	if (!c)
		return;
	b->command = NULL;
	c->sandbox = NULL;
	c->lost = why;
	remote_abandon(c->remote);
}

/* --- both engines ----------------------------------------------------------------------------- */

static void on_output(void *ctx, enum exec_stream stream, struct span bytes)
{
	struct sandbox_command *c = ctx;

	if (c->ops)
		c->ops->output(c->ctx, stream, bytes);
}

static void on_writable(void *ctx)
{
	struct sandbox_command *c = ctx;

	if (c->ops && c->ops->writable)
		c->ops->writable(c->ctx);
}

static void remote_ended(void *ctx, int rc, int32_t exit_code)
{
	end(ctx, rc, exit_code);
}

static void exec_ended(void *ctx, int exit_code)
{
	end(ctx, 0, exit_code);
}

static const struct remote_ops remote_ops = {
    .output = on_output, .writable = on_writable, .ended = remote_ended};
static const struct exec_ops exec_ops = {
    .output = on_output, .writable = on_writable, .ended = exec_ended};

size_t sandbox_command_input(struct sandbox_command *c, struct span bytes)
{
	return c->exec ? exec_input(c->exec, bytes) : remote_input(c->remote, bytes);
}

void sandbox_command_end_input(struct sandbox_command *c)
{
	if (c->exec)
		exec_end_input(c->exec);
	else
		remote_end_input(c->remote);
}

void sandbox_command_resize(struct sandbox_command *c, struct vmframe_size size)
{
	if (c->exec)
		exec_resize(c->exec, size);
	else
		remote_resize(c->remote, size);
}

void sandbox_command_pause(struct sandbox_command *c)
{
	if (c->exec)
		exec_pause(c->exec);
	else
		remote_pause(c->remote);
}

void sandbox_command_resume(struct sandbox_command *c)
{
	if (c->exec)
		exec_resume(c->exec);
	else
		remote_resume(c->remote);
}

void sandbox_command_cancel(struct sandbox_command *c)
{
	if (c->exec)
		exec_cancel(c->exec);
	else
		remote_cancel(c->remote);
	let_go(c, -1);
	free(c);
}

/* --- its start -------------------------------------------------------------------------------- */

static struct sandbox_command *command_new(const struct sandbox_command_ops *ops, void *ctx)
{
	struct sandbox_command *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->ops = ops;
	c->ctx = ctx;
	return c;
}

/* 0 or -errno; *c is left to the caller. */
static int start_remote(
    struct sandbox_command *c, struct sandbox *b, const struct command *command, bool input)
{
	vm_path path;
	const struct remote_conf conf = {
	    .loop = b->service->loop,
	    .root = vm_jail(&b->vm.home),
	    .path = vm_inner_path(&b->vm.home, VM_VSOCK, path),
	    .connect_ms = b->service->conf.connect_ms,
	    .ops = &remote_ops,
	    .ctx = c,
	};
	int rc = remote_start(&conf, command, input, &c->remote);

	if (rc < 0)
		return rc;
	c->sandbox = b;
	b->command = c;
	life_happen(b, LIFE_RUN);
	return 0;
}

static int start_here(
    struct sandbox_command *c, struct sandboxes *s, const struct command *command, bool input)
{
	int rc = exec_start(&s->executor, command, &exec_ops, c, &c->exec);

	if (rc == 0 && !input)
		exec_end_input(c->exec);
	return rc;
}

static int refuse(char *why, struct span id, int rc, const char *text)
{
	refusal_text(why, "run a command in", id, text);
	return rc;
}

static int refuse_busy(char *why, const struct sandbox *b)
{
	char text[64];

	text_join(text, sizeof text, "it is not ready but ", life_name(b));
	return refuse(why, span_str(b->id), -EBUSY, text);
}

static int refuse_start(char *why, struct span id, int rc)
{
	if (rc == -EBUSY)
		return refuse(why, id, -EAGAIN, "too many commands run there");
	if (rc == -E2BIG)
		return refuse(why, id, -EINVAL, "its arguments and environment are too large");
	return refuse(why, id, rc, err_text(rc));
}

int sandbox_run(struct sandboxes *s, struct span id, const struct command *command, bool input,
    const struct sandbox_command_ops *ops, void *ctx, struct sandbox_command **out, char *why)
{
	bool here = span_eq_str(id, SANDBOX_GUEST) && s->conf.max_guest_commands > 0;
	struct sandbox *b = sandbox_find(s, id);
	struct sandbox_command *c;
	int rc;

	if (s->ended)
		return refuse(why, id, -ESHUTDOWN, "the agent is shutting down");
	if (!here && !b)
		return refuse(why, id, -ENOENT, "there is no such sandbox");
	if (b && !life_allows(b, LIFE_RUN))
		return refuse_busy(why, b);
	if (command->args.n == 0)
		return refuse(why, id, -EINVAL, "no command is given");
	c = command_new(ops, ctx);
	if (!c)
		return refuse(why, id, -ENOMEM, err_text(-ENOMEM));
	rc = b ? start_remote(c, b, command, input) : start_here(c, s, command, input);
	if (rc < 0) {
		free(c);
		return refuse_start(why, id, rc);
	}
	*out = c;
	return 0;
}

void command_run_first(struct sandbox *b)
{
	struct command *first = b->first;
	struct sandbox_command *c;
	char why[SANDBOX_WHY_BYTES];

	if (!first)
		return;
	b->first = NULL;
	if (sandbox_run(b->service, span_str(b->id), first, false, NULL, NULL, &c, why) < 0)
		log_warn("sandbox", "its first command is not run", KV_STR("why", why));
	command_done(first);
	free(first);
}

/* --- the clock of one that was restored ------------------------------------------------------- */

static void clock_over(struct sandbox *b, int rc)
{
	if (rc < 0)
		log_warn("sandbox", "the clock of a restored sandbox is wrong", KV_STR("id", b->id),
		    KV_ERR(rc));
	life_happen(b, LIFE_UP);
}

static void clock_output(void *ctx, enum exec_stream stream, struct span bytes)
{
	(void)ctx;
	(void)stream;
	(void)bytes;
}

static void clock_ended(void *ctx, int rc, int32_t exit_code)
{
	struct sandbox *b = ctx;

	b->clock = NULL;
	timer_at(&b->clock_limit, 0);
	clock_over(b, rc == 0 && exit_code != 0 ? -EPERM : rc);
}

static void clock_late(struct timer *t)
{
	struct sandbox *b = container_of(t, struct sandbox, clock_limit);

	end_clock(b);
	clock_over(b, -ETIMEDOUT);
}

void command_sync_clock(struct sandbox *b)
{
	static const struct remote_ops ops = {.output = clock_output, .ended = clock_ended};
	vm_path path;
	const struct remote_conf conf = {
	    .loop = b->service->loop,
	    .root = vm_jail(&b->vm.home),
	    .path = vm_inner_path(&b->vm.home, VM_VSOCK, path),
	    .connect_ms = CLOCK_MS,
	    .ops = &ops,
	    .ctx = b,
	};
	int rc = remote_sync_clock(&conf, &b->clock);

	timer_init(&b->clock_limit, b->service->loop, clock_late);
	if (rc < 0)
		clock_over(b, rc);
	else
		timer_in(&b->clock_limit, CLOCK_MS * NS_PER_MS);
}
