#include "sandbox/life.h"

#include "base/log.h"
#include "base/utf8.h"

#include <errno.h>
#include <stdlib.h>

int64_t life_now_secs(void)
{
	return clock_real_ns() / (int64_t)NS_PER_SEC;
}

/* --- answers ---------------------------------------------------------------------------------- */

void waiter_answer(struct waiter *w, const struct sandbox_answer *answer)
{
	sandbox_fn *fn = w->fn;

	w->fn = NULL;
	if (fn)
		fn(answer, &w->caller);
}

void refusal_text(char *out, const char *what, struct span id, const char *why)
{
	struct wr w = wr_of(out, SANDBOX_WHY_BYTES);

	wr_str(&w, "cannot ");
	wr_str(&w, what);
	if (id.n) {
		wr_str(&w, " '");
		wr_bytes(&w, utf8_first(id, SANDBOX_ID_MAX));
		wr_str(&w, "'");
	}
	wr_str(&w, ": ");
	wr_bytes(&w, utf8_first(span_str(why), w.cap - w.n - 1));
	wr_nul(&w);
}

void waiter_refuse(struct waiter *w, int rc, const char *what, const char *id, const char *why)
{
	char text[SANDBOX_WHY_BYTES];

	refusal_text(text, what, span_str(id), why);
	waiter_answer(w, &(struct sandbox_answer){.rc = rc, .why = text});
}

static void answer_info(struct waiter *w, const struct sandbox *b)
{
	struct sandbox_info info;

	life_info(b, &info);
	waiter_answer(w, &(struct sandbox_answer){.why = "", .infos = &info, .n_infos = 1});
}

/* --- what it is ------------------------------------------------------------------------------- */

enum sandbox_state life_state(const struct sandbox *b)
{
	static const enum sandbox_state seen[LIFE_STATES] = {
	    [LIFE_CHECKING] = SANDBOX_STARTING,
	    [LIFE_STARTING] = SANDBOX_STARTING,
	    [LIFE_READY] = SANDBOX_READY,
	    [LIFE_SAVING] = SANDBOX_READY,
	    [LIFE_RUNNING] = SANDBOX_RUNNING,
	    [LIFE_STOPPING] = SANDBOX_STOPPING,
	    [LIFE_STOPPED] = SANDBOX_STOPPED,
	    [LIFE_FAILING] = SANDBOX_FAILED,
	    [LIFE_FAILED] = SANDBOX_FAILED,
	    [LIFE_REMOVING] = SANDBOX_STOPPING,
	};

	return seen[b->state];
}

const char *life_name(const struct sandbox *b)
{
	if (b->state == LIFE_SAVING)
		return "being checkpointed";
	return b->state == LIFE_REMOVING ? "being removed" : sandbox_state_name(life_state(b));
}

void life_info(const struct sandbox *b, struct sandbox_info *out)
{
	*out = (struct sandbox_info){
	    .id = b->id,
	    .state = life_state(b),
	    .labels = b->labels,
	    .vcpus = b->vm.parts.vcpus,
	    .memory_mib = b->vm.parts.memory_mib,
	    .ip = b->ip,
	    .gateway = b->ip[0] ? b->service->gateway : "",
	    .tap = b->vm.nic.ip.family ? b->vm.nic.tap : "",
	    .created_at = b->created_at,
	    .ready_at = b->ready_at,
	    .last_exited_at = b->last_exited_at,
	    .last_exit_code = b->last_exit_code,
	    .error = b->error,
	};
}

static void publish(struct sandbox *b, const char *action, const char *key, const char *value)
{
	if (key)
		log_info("sandbox", action, KV_STR("id", b->id), KV_STR(key, value));
	else
		log_info("sandbox", action, KV_STR("id", b->id));
	events_publish(&b->service->events, b->id, action, key, value);
}

/* --- actions ---------------------------------------------------------------------------------- */

typedef void action_fn(struct sandbox *b);

static void drop_name(struct sandbox *b)
{
	const struct sandbox_names *names = b->service->conf.names;

	if (names && b->ip[0])
		names->drop(names->ctx, b->id);
	b->ip[0] = '\0';
}

static void keep_address(struct sandbox *b)
{
	const struct sandbox_names *names = b->service->conf.names;

	if (!b->vm.nic.ip.family)
		return;
	ip_format(&b->vm.nic.ip, b->ip);
	if (names)
		names->set(names->ctx, b->id, &b->vm.nic.ip);
}

/* The end of one that nobody has seen. */
static void refuse(struct sandbox *b, int rc, const char *why)
{
	struct waiter creator = b->creator;
	char text[SANDBOX_WHY_BYTES];

	refusal_text(text, b->vm.parts.snapshot ? "restore sandbox" : "create sandbox",
	    span_str(b->id), why);
	life_free(b);
	waiter_answer(&creator, &(struct sandbox_answer){.rc = rc, .why = text});
}

static void refuse_impossible(struct sandbox *b)
{
	refuse(b, -ENODEV, b->error);
}

static void refuse_unborn(struct sandbox *b)
{
	refuse(b, -ESHUTDOWN, "the agent is shutting down");
}

static void start_some(struct sandboxes *s)
{
	struct link *node;

	while (s->starting < s->conf.max_starting && (node = list_first(&s->waiting))) {
		struct sandbox *b = container_of(node, struct sandbox, turn);

		list_remove(node);
		b->starts = true;
		s->starting++;
		vm_start(&b->vm, b->overrides_network);
	}
}

/* Its start is over, whatever came of it: it is another's turn. */
static void end_turn(struct sandbox *b)
{
	list_remove(&b->turn);
	if (!b->starts)
		return;
	b->starts = false;
	b->service->starting--;
	start_some(b->service);
}

static void start(struct sandbox *b)
{
	int rc = b->networked ? vm_attach(&b->vm, &b->wanted_ip) : 0;

	if (rc < 0) {
		refuse(b, rc,
		    rc == -EAGAIN           ? "no address is free"
			: rc == -EADDRINUSE ? "its address is that of another sandbox"
					    : err_text(rc));
		return;
	}
	keep_address(b);
	b->state = LIFE_STARTING;
	b->created_at = life_now_secs();
	if (b->ttl_secs)
		timer_in(&b->ttl, b->ttl_secs * NS_PER_SEC);
	list_append(&b->service->waiting, &b->turn);
	start_some(b->service);
	publish(b, "created", NULL, NULL);
	answer_info(&b->creator, b);
}

static void be_ready(struct sandbox *b)
{
	b->state = LIFE_READY;
	b->ready_at = life_now_secs();
	publish(b, "ready", NULL, NULL);
	command_run_first(b);
}

static void run(struct sandbox *b)
{
	b->state = LIFE_RUNNING;
	publish(b, "running", NULL, NULL);
}

static void idle(struct sandbox *b)
{
	char code[16];
	struct wr w = wr_of(code, sizeof code);
	int64_t value = b->last_exit_code;

	if (value < 0)
		wr_u8(&w, '-');
	wr_dec(&w, (uint64_t)(value < 0 ? -value : value));
	wr_nul(&w);
	b->state = LIFE_READY;
	publish(b, "idle", "exit_code", code);
}

static void save(struct sandbox *b)
{
	b->state = LIFE_SAVING;
}

static void saved(struct sandbox *b)
{
	b->state = LIFE_READY;
}

static void stop(struct sandbox *b)
{
	uint64_t secs = b->stop_timeout_secs;

	b->state = LIFE_STOPPING;
	publish(b, "stopping", NULL, NULL);
	vm_shutdown(&b->vm, secs ? secs * 1000 : b->service->conf.stop_ms);
}

static void stopped(struct sandbox *b)
{
	b->state = LIFE_STOPPED;
	command_lose(b, "the sandbox was stopped");
	publish(b, "stopped", NULL, NULL);
	waiter_answer(&b->stopper, &(struct sandbox_answer){.why = ""});
}

static void fail(struct sandbox *b)
{
	b->state = LIFE_FAILING;
	command_lose(b, "the sandbox's VM died");
	checkpoint_lose(b, "the sandbox's VM died");
	drop_name(b);
	publish(b, "failed", "error", b->error);
	vm_release(&b->vm);
}

static void stay_failed(struct sandbox *b)
{
	b->state = LIFE_FAILED;
}

/* Whatever it does is over. */
static void lose_all(struct sandbox *b)
{
	command_lose(b, "the sandbox was removed");
	checkpoint_lose(b, "the sandbox was removed");
	waiter_refuse(&b->stopper, -ECANCELED, "stop sandbox", b->id, "it was removed meanwhile");
}

static void kill_and_remove(struct sandbox *b)
{
	b->state = LIFE_REMOVING;
	list_remove(&b->turn);
	lose_all(b);
	vm_kill(&b->vm);
}

static void release(struct sandbox *b)
{
	b->state = LIFE_REMOVING;
	vm_release(&b->vm);
}

static void await_release(struct sandbox *b)
{
	b->state = LIFE_REMOVING;
}

static void vanish(struct sandbox *b)
{
	struct waiter removers[LIFE_REMOVERS];

	memcpy(removers, b->removers, sizeof removers);
	publish(b, "removed", NULL, NULL);
	life_free(b);
	for (size_t i = 0; i < LIFE_REMOVERS; i++)
		waiter_answer(&removers[i], &(struct sandbox_answer){.why = ""});
}

/* One more who wants it to be removed, and waits already. */
static void join(struct sandbox *b)
{
	(void)b;
}

/* --- the table -------------------------------------------------------------------------------- */

static action_fn *const table[LIFE_STATES][LIFE_EVENTS] = {
    [LIFE_CHECKING] =
	{
	    [LIFE_POSSIBLE] = start,
	    [LIFE_IMPOSSIBLE] = refuse_impossible,
	    [LIFE_REMOVE] = refuse_unborn,
	},
    [LIFE_STARTING] = {[LIFE_UP] = be_ready, [LIFE_ENDED] = fail, [LIFE_REMOVE] = kill_and_remove},
    [LIFE_READY] =
	{
	    [LIFE_RUN] = run,
	    [LIFE_SAVE] = save,
	    [LIFE_STOP] = stop,
	    [LIFE_ENDED] = fail,
	    [LIFE_REMOVE] = kill_and_remove,
	},
    [LIFE_SAVING] = {[LIFE_SAVED] = saved, [LIFE_ENDED] = fail, [LIFE_REMOVE] = kill_and_remove},
    [LIFE_RUNNING] =
	{
	    [LIFE_IDLE] = idle,
	    [LIFE_STOP] = stop,
	    [LIFE_ENDED] = fail,
	    [LIFE_REMOVE] = kill_and_remove,
	},
    [LIFE_STOPPING] = {[LIFE_ENDED] = stopped, [LIFE_REMOVE] = kill_and_remove},
    [LIFE_STOPPED] = {[LIFE_REMOVE] = release},
    [LIFE_FAILING] = {[LIFE_RELEASED] = stay_failed, [LIFE_REMOVE] = await_release},
    [LIFE_FAILED] = {[LIFE_REMOVE] = vanish},
    [LIFE_REMOVING] = {[LIFE_ENDED] = release, [LIFE_RELEASED] = vanish, [LIFE_REMOVE] = join},
};

bool life_allows(const struct sandbox *b, enum life_event event)
{
	return table[b->state][event] != NULL;
}

void life_happen(struct sandbox *b, enum life_event event)
{
	if (life_allows(b, event))
		table[b->state][event](b);
}

/* --- what happens to the VM ------------------------------------------------------------------- */

static struct sandbox *sandbox_of(struct vm *vm)
{
	return container_of(vm, struct sandbox, vm);
}

static void keep_error(struct sandbox *b, const char *why)
{
	span_to_cstr(utf8_first(span_str(why), sizeof b->error - 1), b->error, sizeof b->error);
}

static void vm_checked(struct vm *vm, const char *why)
{
	struct sandbox *b = sandbox_of(vm);

	keep_error(b, why);
	life_happen(b, *why ? LIFE_IMPOSSIBLE : LIFE_POSSIBLE);
}

static void vm_up(struct vm *vm)
{
	struct sandbox *b = sandbox_of(vm);

	end_turn(b);
	if (b->parent[0])
		command_sync_clock(b);
	else
		life_happen(b, LIFE_UP);
}

static void vm_ended(struct vm *vm, const char *why)
{
	struct sandbox *b = sandbox_of(vm);

	end_turn(b);
	keep_error(b, why);
	life_happen(b, LIFE_ENDED);
}

static void vm_released(struct vm *vm)
{
	life_happen(sandbox_of(vm), LIFE_RELEASED);
}

const struct vm_ops life_vm_ops = {
    .checked = vm_checked, .up = vm_up, .ended = vm_ended, .released = vm_released};

/* --- beginning and end ------------------------------------------------------------------------ */

void life_begin(struct sandbox *b)
{
	b->state = LIFE_CHECKING;
	if (b->service->clean)
		vm_check(&b->vm);
}

void life_drop(struct sandbox *b)
{
	b->creator.fn = b->stopper.fn = b->saver.fn = NULL;
	memset(b->removers, 0, sizeof b->removers);
	if (b->command)
		sandbox_command_cancel(b->command);
	checkpoint_lose(b, "");
	vm_drop(&b->vm);
}

void life_free(struct sandbox *b)
{
	struct sandboxes *s = b->service;

	drop_name(b);
	lose_all(b);
	end_turn(b);
	timer_at(&b->ttl, 0);
	list_remove(&b->link);
	map_remove(&s->by_id, &b->node);
	if (b->first)
		command_done(b->first);
	free(b->first);
	labels_done(&b->labels);
	vm_done(&b->vm);
	free(b);
	sandboxes_settle(s);
}
