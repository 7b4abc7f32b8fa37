#include "sandbox/firecracker.h"

#include "codec/json.h"

#include <errno.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

enum { RETRY_FIRST_MS = 1, RETRY_MAX_MS = 32 };

/* The names that a guest's devices have in the API, and its CID. */
#define ROOT_DRIVE "rootfs"
#define INTERFACE  "eth0"
enum { GUEST_CID = 3 };

/* One request of a sequence; NETWORK: for a VM that has one only; MEMORY: moves all of the memory,
 * and may take its time. */
struct firecracker_step {
	const char *method, *target;
	void (*body)(struct json_writer *j, const void *arg); /* the fields of the object */
	enum { PLAIN, NETWORK, MEMORY } kind;
};

/* --- bodies ----------------------------------------------------------------------------------- */

static void put_str(struct json_writer *j, const char *key, const char *value)
{
	json_put_key(j, key);
	json_put_str(j, value);
}

static void put_u64(struct json_writer *j, const char *key, uint64_t value)
{
	json_put_key(j, key);
	json_put_u64(j, value);
}

static void put_bool(struct json_writer *j, const char *key, bool value)
{
	json_put_key(j, key);
	json_put_bool(j, value);
}

static void put_machine(struct json_writer *j, const void *arg)
{
	const struct firecracker_boot *b = arg;

	put_u64(j, "vcpu_count", b->vcpus);
	put_u64(j, "mem_size_mib", b->memory_mib);
	put_bool(j, "smt", false);
	put_bool(j, "track_dirty_pages", true);
}

static void put_boot_source(struct json_writer *j, const void *arg)
{
	const struct firecracker_boot *b = arg;

	put_str(j, "kernel_image_path", b->kernel);
	put_str(j, "boot_args", b->boot_args);
}

static void put_root_drive(struct json_writer *j, const void *arg)
{
	const struct firecracker_boot *b = arg;

	put_str(j, "drive_id", ROOT_DRIVE);
	put_str(j, "path_on_host", b->rootfs);
	put_bool(j, "is_root_device", true);
	put_bool(j, "is_read_only", false);
}

static void put_interface(struct json_writer *j, const void *arg)
{
	const struct firecracker_boot *b = arg;

	put_str(j, "iface_id", INTERFACE);
	put_str(j, "guest_mac", b->mac);
	put_str(j, "host_dev_name", b->tap);
}

static void put_vsock(struct json_writer *j, const void *arg)
{
	const struct firecracker_boot *b = arg;

	put_u64(j, "guest_cid", GUEST_CID);
	put_str(j, "uds_path", b->vsock);
}

static void put_start(struct json_writer *j, const void *arg)
{
	(void)arg;
	put_str(j, "action_type", "InstanceStart");
}

static void put_ctrl_alt_del(struct json_writer *j, const void *arg)
{
	(void)arg;
	put_str(j, "action_type", "SendCtrlAltDel");
}

static void put_paused(struct json_writer *j, const void *arg)
{
	(void)arg;
	put_str(j, "state", "Paused");
}

static void put_resumed(struct json_writer *j, const void *arg)
{
	(void)arg;
	put_str(j, "state", "Resumed");
}

static void put_full_snapshot(struct json_writer *j, const void *arg)
{
	const struct firecracker_snapshot *s = arg;

	put_str(j, "snapshot_type", "Full");
	put_str(j, "snapshot_path", s->vmstate);
	put_str(j, "mem_file_path", s->mem);
}

static void put_network_override(struct json_writer *j, const char *tap)
{
	json_put_key(j, "network_overrides");
	json_put_array(j);
	json_put_object(j);
	put_str(j, "iface_id", INTERFACE);
	put_str(j, "host_dev_name", tap);
	json_put_object_end(j);
	json_put_array_end(j);
}

static void put_load(struct json_writer *j, const void *arg)
{
	const struct firecracker_snapshot *s = arg;

	put_str(j, "snapshot_path", s->vmstate);
	json_put_key(j, "mem_backend");
	json_put_object(j);
	put_str(j, "backend_type", "File");
	put_str(j, "backend_path", s->mem);
	json_put_object_end(j);
	put_bool(j, "resume_vm", true);
	if (s->tap)
		put_network_override(j, s->tap);
}

/* --- the answer ------------------------------------------------------------------------------- */

/* Cuts what does not fit. */
static void keep_printable(struct span text, char *buf, size_t cap)
{
	struct wr w = wr_of(buf, cap - 1);

	wr_plain(&w, text);
	buf[w.n] = '\0';
}

/* {"fault_message": …}; an answer that is no such thing leaves the fault empty. */
static void read_fault(struct firecracker *f)
{
	uint8_t buf[FIRECRACKER_ANSWER_BYTES];
	struct wr text = wr_of(buf, sizeof buf);
	struct json j = json_of(queue_span(&f->answer));
	struct json_token key, value;

	json_object(&j);
	while (json_key(&j, &key))
		if (json_is(&key, "fault_message") && json_take_string(&j, &value)) {
			text.n = 0;
			json_string(&value, &text);
		}
	if (json_end(&j) == E_OK)
		keep_printable(wr_span(&text), f->fault, sizeof f->fault);
}

void firecracker_reason(const struct firecracker *f, struct wr *w)
{
	if (!f->failed)
		return;
	wr_str(w, f->failed->method);
	wr_u8(w, ' ');
	wr_str(w, f->failed->target);
	wr_str(w, ": ");
	if (f->fault[0]) {
		wr_str(w, f->fault);
	} else if (f->rc == -EREMOTEIO) {
		wr_str(w, "HTTP status ");
		wr_dec(w, f->status);
	} else {
		wr_str(w, err_text(f->rc));
	}
}

/* --- the sequence ----------------------------------------------------------------------------- */

static void try_request(struct firecracker *f);

static void finish(struct firecracker *f)
{
	f->steps = NULL;
	if (!f->dropped)
		f->ended(f, f->rc);
}

static void fail(struct firecracker *f, int rc)
{
	f->rc = rc;
	f->failed = &f->steps[f->at];
	finish(f);
}

/* From the step at hand on, the next one that is due. */
static void go_on(struct firecracker *f)
{
	while (f->at < f->n_steps && f->steps[f->at].kind == NETWORK && !f->networked)
		f->at++;
	if (f->at == f->n_steps) {
		finish(f);
		return;
	}
	f->give_up_ns = f->loop->now_ns + f->timeout_ms * NS_PER_MS;
	f->retry_ms = RETRY_FIRST_MS;
	try_request(f);
}

static int answer_came(struct http_call *h, struct span piece)
{
	struct firecracker *f = h->ctx;

	return queue_put(&f->answer, piece);
}

static void answered(struct http_call *h, int rc)
{
	struct firecracker *f = h->ctx;
	bool refused = rc == 0 && h->status / 100 != 2;

	if (refused && !f->cancelled)
		read_fault(f);
	queue_done(&f->answer);
	f->calling = false;
	f->status = h->status;
	if (f->cancelled) {
		finish(f);
	} else if (refused || rc < 0) {
		fail(f, refused ? -EREMOTEIO : rc);
	} else {
		f->at++;
		go_on(f);
	}
}

static const struct http_ops call_ops = {.data = answer_came, .ended = answered};

static int send_request(struct firecracker *f, const struct firecracker_step *step)
{
	uint8_t buf[FIRECRACKER_BODY_BYTES];
	struct wr body = wr_of(buf, sizeof buf);
	struct json_writer j = json_writer_of(&body);
	struct http_request request = {
	    .method = step->method,
	    .target = step->target,
	    .content_type = "application/json",
	    .timeout_ms = step->kind == MEMORY ? FIRECRACKER_MEMORY_MS : f->timeout_ms,
	    .limit_bytes = FIRECRACKER_ANSWER_BYTES,
	};

	json_put_object(&j);
	step->body(&j, f->arg);
	json_put_object_end(&j);
	if (body.err)
		return -EMSGSIZE;
	request.body = wr_span(&body);
	f->call.ctx = f;
	return http_start(&f->call, f->loop, &f->addr, &request, &call_ops);
}

/* Firecracker has not made its socket yet, or has its hands full. */
static bool may_pass(int rc)
{
	return rc == -ENOENT || rc == -ECONNREFUSED || rc == -EAGAIN;
}

static void try_request(struct firecracker *f)
{
	int rc = send_request(f, &f->steps[f->at]);

	if (may_pass(rc) && f->loop->now_ns < f->give_up_ns) {
		timer_in(&f->retry, f->retry_ms * NS_PER_MS);
		f->retry_ms = f->retry_ms < RETRY_MAX_MS ? f->retry_ms * 2 : RETRY_MAX_MS;
	} else if (rc < 0) {
		fail(f, may_pass(rc) ? -ETIMEDOUT : rc);
	} else {
		f->calling = true;
	}
}

static void try_again(struct timer *t)
{
	struct firecracker *f = container_of(t, struct firecracker, retry);

	if (f->cancelled)
		finish(f);
	else if (f->give_up_ns)
		try_request(f);
	else
		go_on(f);
}

int firecracker_init(
    struct firecracker *f, struct loop *l, const char *root, const char *path, uint64_t timeout_ms)
{
	struct addr addr;
	enum err err = addr_unix(path, &addr);

	if (err)
		return err == E_LIMIT ? -ENAMETOOLONG : -EINVAL;
	addr.root = root;
	*f = (struct firecracker){
	    .ended = f->ended,
	    .ctx = f->ctx,
	    .loop = l,
	    .addr = addr,
	    .timeout_ms = timeout_ms,
	};
	timer_init(&f->retry, l, try_again);
	queue_init(&f->answer, FIRECRACKER_ANSWER_BYTES, NULL);
	return 0;
}

/* Begins in the next turn, so that nothing is told before the caller knows that it has begun. */
static int start(struct firecracker *f, const struct firecracker_step *steps, size_t n,
    const void *arg, bool networked)
{
	if (f->steps)
		return -EBUSY;
	f->steps = steps;
	f->n_steps = n;
	f->at = 0;
	f->arg = arg;
	f->networked = networked;
	f->give_up_ns = 0;
	f->cancelled = false;
	f->rc = 0;
	f->failed = NULL;
	f->status = 0;
	f->fault[0] = '\0';
	timer_in(&f->retry, 0);
	return 0;
}

void firecracker_cancel(struct firecracker *f, int rc)
{
	if (!f->steps)
		return;
	f->cancelled = true;
	f->rc = rc;
	if (f->calling)
		http_cancel(&f->call, rc);
	else
		timer_in(&f->retry, 0);
}

void firecracker_drop(struct firecracker *f)
{
	f->dropped = true;
	firecracker_cancel(f, -ECANCELED);
	timer_at(&f->retry, 0);
}

/* --- sequences -------------------------------------------------------------------------------- */

int firecracker_boot(struct firecracker *f, const struct firecracker_boot *b)
{
	static const struct firecracker_step steps[] = {
	    {"PUT", "/machine-config", put_machine, PLAIN},
	    {"PUT", "/boot-source", put_boot_source, PLAIN},
	    {"PUT", "/drives/" ROOT_DRIVE, put_root_drive, PLAIN},
	    {"PUT", "/network-interfaces/" INTERFACE, put_interface, NETWORK},
	    {"PUT", "/vsock", put_vsock, PLAIN},
	    {"PUT", "/actions", put_start, PLAIN},
	};

	return start(f, steps, COUNT(steps), b, b->tap != NULL);
}

int firecracker_save(struct firecracker *f, const struct firecracker_snapshot *s)
{
	static const struct firecracker_step steps[] = {
	    {"PATCH", "/vm", put_paused, PLAIN},
	    {"PUT", "/snapshot/create", put_full_snapshot, MEMORY},
	};

	return start(f, steps, COUNT(steps), s, false);
}

int firecracker_resume(struct firecracker *f)
{
	static const struct firecracker_step steps[] = {
	    {"PATCH", "/vm", put_resumed, PLAIN},
	};

	return start(f, steps, COUNT(steps), NULL, false);
}

int firecracker_restore(struct firecracker *f, const struct firecracker_snapshot *s)
{
	static const struct firecracker_step steps[] = {
	    {"PUT", "/snapshot/load", put_load, MEMORY},
	};

	return start(f, steps, COUNT(steps), s, false);
}

int firecracker_ctrl_alt_del(struct firecracker *f)
{
	static const struct firecracker_step steps[] = {
	    {"PUT", "/actions", put_ctrl_alt_del, PLAIN},
	};

	return start(f, steps, COUNT(steps), NULL, false);
}
