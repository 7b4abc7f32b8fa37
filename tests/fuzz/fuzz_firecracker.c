/* A hostile Firecracker: each sequence is told of its end once, what is asked is JSON, and no
 * answer finds its way past what a log or a terminal can take.
 *
 * The first byte chooses the sequence. Lines are answers: '2', '4' and '5' begin one with such a
 * status, the rest of the line being its body in pieces of odd sizes; 'n' is a socket that is not
 * there, 'r' a connection that is reset, 'c' a sequence that is cancelled meanwhile. */
#include "codec/json.h"
#include "fuzz.h"
#include "sandbox/firecracker.h"

#include <errno.h>
#include <stdlib.h>

static struct firecracker api;
static struct span rest;             /* of the input */
static const struct http_ops *asked; /* NULL: no request is under way */
static bool tick;                    /* the timer is armed */
static bool checks_bodies;
static unsigned ends;
static int end_rc;

/* --- in place of the loop and the connection -------------------------------------------------- */

void timer_init(struct timer *t, struct loop *l, timer_fn *fn)
{
	*t = (struct timer){.loop = l, .fn = fn};
}

void timer_at(struct timer *t, uint64_t at_ns)
{
	(void)t;
	tick = at_ns != 0;
}

void timer_in(struct timer *t, uint64_t ns)
{
	t->loop->now_ns += ns;
	tick = true;
}

static void check_json(struct span text)
{
	struct json j = json_of(text);

	json_skip(&j);
	if (json_end(&j) != E_OK)
		abort();
}

int http_start(struct http_call *h, struct loop *l, const struct addr *to,
    const struct http_request *req, const struct http_ops *ops)
{
	(void)l;
	(void)to;
	if (asked)
		abort();
	if (checks_bodies)
		check_json(req->body);
	if (rest.n && rest.p[0] == 'n') {
		span_split(&rest, '\n');
		return -ENOENT;
	}
	*h = (struct http_call){.ops = ops, .ctx = h->ctx};
	asked = ops;
	return 0;
}

static void end_call(int rc)
{
	const struct http_ops *ops = asked;

	asked = NULL;
	ops->ended(&api.call, rc);
}

void http_cancel(struct http_call *h, int rc)
{
	(void)h;
	(void)rc;
}

/* As http.h: no more than the limit is handed on. */
static void answer(struct span line)
{
	struct span body = span_first(span_from(line, 1), FIRECRACKER_ANSWER_BYTES);

	switch (line.n ? line.p[0] : 0) {
	case '2': api.call.status = 204; break;
	case '4': api.call.status = 400; break;
	case '5': api.call.status = 500; break;
	case 'c':
		firecracker_cancel(&api, -ECANCELED);
		end_call(-ECANCELED);
		return;
	default: end_call(-ECONNRESET); return;
	}
	for (size_t n = 1; body.n; n = n * 3 + 1) {
		asked->data(&api.call, span_first(body, n));
		body = span_from(body, n);
	}
	end_call(0);
}

/* --- the client ------------------------------------------------------------------------------- */

static void ended(struct firecracker *f, int rc)
{
	(void)f;
	ends++;
	end_rc = rc;
}

static void begin(uint8_t choice)
{
	static const struct firecracker_boot boot = {
	    1, 1, "/k", "\"\xff\n", "/r", "tap", "02:00:00:00:00:01", "/v"};
	static const struct firecracker_snapshot snapshot = {"/s", "/m", "tap"};

	switch ((uint8_t)(choice - '0') % 5) {
	case 0: firecracker_boot(&api, &boot); break;
	case 1: firecracker_save(&api, &snapshot); break;
	case 2: firecracker_resume(&api); break;
	case 3: firecracker_restore(&api, &snapshot); break;
	default: firecracker_ctrl_alt_del(&api); break;
	}
}

static void check_end(void)
{
	uint8_t text[FIRECRACKER_REASON_BYTES];
	struct wr w = wr_of(text, sizeof text);

	firecracker_reason(&api, &w);
	if (ends != 1 || end_rc > 0 || w.err)
		abort();
	if ((w.n == 0) != (end_rc == 0 || end_rc == -ECANCELED))
		abort();
	for (size_t i = 0; i < w.n; i++)
		if (text[i] < ' ' || text[i] > '~')
			abort();
}

static void run_sequence(struct loop *l, uint8_t choice, struct span answers)
{
	l->now_ns = 1;
	rest = answers;
	asked = NULL;
	tick = false;
	ends = 0;
	api = (struct firecracker){.ended = ended};
	if (firecracker_init(&api, l, NULL, "/s", 1000) < 0)
		abort();
	begin(choice);
	while (ends == 0) {
		if (asked) {
			answer(span_split(&rest, '\n'));
		} else if (tick) {
			tick = false;
			api.retry.fn(&api.retry);
		} else {
			abort();
		}
	}
	check_end();
}

/* Bodies do not depend on answers: one look at each is enough. */
static void check_bodies(struct loop *l)
{
	checks_bodies = true;
	for (uint8_t choice = '0'; choice < '5'; choice++)
		run_sequence(l, choice, span_str("2\n2\n2\n2\n2\n2\n"));
	checks_bodies = false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct loop loop;

	if (!loop.now_ns)
		check_bodies(&loop);
	if (n > 0)
		run_sequence(&loop, data[0], span_of(data + 1, n - 1));
	return 0;
}
