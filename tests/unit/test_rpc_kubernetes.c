#include "rpc_case.h"

#include <errno.h>

/* The service is the test's: what it is asked is kept, and answered when the test says so. */

static struct rpc_case c;
static uint8_t service; /* only its address counts */
static enum kubernetes_request asked;
static kubernetes_fn *answer_fn_of;
static struct runtime_caller asker;
static int ask_rc;

int kubernetes_ask(struct kubernetes *k, enum kubernetes_request what, kubernetes_fn *fn,
    const struct runtime_caller *caller)
{
	ck_assert_ptr_eq((void *)k, &service);
	asked = what;
	answer_fn_of = fn;
	asker = *caller;
	return ask_rc;
}

static void setup(void)
{
	rpc_case_begin(&c);
	c.services.kubernetes = (struct kubernetes *)(void *)&service;
	rpc_case_serve(&c);
	ask_rc = 0;
}

static void teardown(void)
{
	rpc_case_end(&c);
}

/* Asks, answers for the service, and reads the response. */
static void ask(uint32_t type, enum kubernetes_request what, const struct kubernetes_answer *a,
    const struct pb_table *table, void *response)
{
	struct frame f;

	answer_fn_of = NULL;
	rpc_case_send(&c, type, span_of(NULL, 0));
	for (int i = 0; i < 3; i++)
		ck_assert(!rpc_case_poll(&c, &f));
	ck_assert_ptr_nonnull(answer_fn_of);
	ck_assert_int_eq((int)asked, (int)what);
	answer_fn_of(a, &asker);
	f = rpc_case_receive(&c);
	ck_assert_uint_eq(f.type, type | 0x1000);
	rpc_case_read(&c, f.payload, table, response);
}

START_TEST(start)
{
	struct rpc_kubernetes_start_response r;

	setup();
	ask(RPC_KUBERNETES_START_REQUEST, KUBERNETES_START,
	    &(struct kubernetes_answer){.running = true, .detail = "k3s started"},
	    &rpc_kubernetes_start_response_table, &r);
	ck_assert(r.running && !r.api_ready);
	ck_assert(span_eq_str(r.endpoint, "https://127.0.0.1:16443"));
	ck_assert(span_eq_str(r.detail, "k3s started"));
	ask(RPC_KUBERNETES_START_REQUEST, KUBERNETES_START,
	    &(struct kubernetes_answer){.running = true, .api_ready = true, .detail = ""},
	    &rpc_kubernetes_start_response_table, &r);
	ck_assert(r.running && r.api_ready);
	teardown();
}
END_TEST

START_TEST(stop_and_delete)
{
	struct rpc_kubernetes_stop_response stopped;
	struct rpc_kubernetes_delete_response deleted;

	setup();
	ask(RPC_KUBERNETES_STOP_REQUEST, KUBERNETES_STOP,
	    &(struct kubernetes_answer){.detail = "k3s stopped"},
	    &rpc_kubernetes_stop_response_table, &stopped);
	ck_assert(stopped.stopped);
	ck_assert(span_eq_str(stopped.detail, "k3s stopped"));
	ask(RPC_KUBERNETES_DELETE_REQUEST, KUBERNETES_DELETE,
	    &(struct kubernetes_answer){.detail = "gone"}, &rpc_kubernetes_delete_response_table,
	    &deleted);
	ck_assert(span_eq_str(deleted.detail, "gone"));
	teardown();
}
END_TEST

static void check_service(const struct rpc_kubernetes_status_response *r, size_t i,
    const char *name, const char *status, const char *detail)
{
	const struct rpc_service_status *services = r->services.items;

	ck_assert(span_eq_str(services[i].name, name));
	ck_assert(span_eq_str(services[i].status, status));
	ck_assert(span_eq_str(services[i].detail, detail));
}

START_TEST(status)
{
	struct rpc_kubernetes_status_response r;
	struct kubernetes_answer a = {.detail = "k3s running",
	    .running = true,
	    .containerd_ready = true,
	    .containerd_detail = "there",
	    .k3s_detail = "soon"};

	setup();
	ask(RPC_KUBERNETES_STATUS_REQUEST, KUBERNETES_STATUS, &a,
	    &rpc_kubernetes_status_response_table, &r);
	ck_assert(r.running && !r.api_ready);
	ck_assert(span_eq_str(r.endpoint, "https://127.0.0.1:16443"));
	ck_assert(span_eq_str(r.detail, "k3s running"));
	ck_assert_uint_eq(r.services.n, 2);
	check_service(&r, 0, "containerd", "ready", "there");
	check_service(&r, 1, "k3s", "not_ready", "soon");
	a.api_ready = true;
	a.containerd_ready = false;
	ask(RPC_KUBERNETES_STATUS_REQUEST, KUBERNETES_STATUS, &a,
	    &rpc_kubernetes_status_response_table, &r);
	check_service(&r, 0, "containerd", "not_ready", "there");
	check_service(&r, 1, "k3s", "ready", "soon");
	a.running = a.api_ready = false;
	a.k3s_failed = true;
	ask(RPC_KUBERNETES_STATUS_REQUEST, KUBERNETES_STATUS, &a,
	    &rpc_kubernetes_status_response_table, &r);
	check_service(&r, 1, "k3s", "error", "soon");
	teardown();
}
END_TEST

START_TEST(kubeconfig)
{
	struct rpc_kubernetes_kubeconfig_response r;

	setup();
	ask(RPC_KUBERNETES_KUBECONFIG_REQUEST, KUBERNETES_KUBECONFIG,
	    &(struct kubernetes_answer){.detail = "", .kubeconfig = span_str("kind: Config\n")},
	    &rpc_kubernetes_kubeconfig_response_table, &r);
	ck_assert(span_eq_str(r.kubeconfig, "kind: Config\n"));
	ck_assert(span_eq_str(r.context_name, "arcbox"));
	ck_assert(span_eq_str(r.endpoint, "https://127.0.0.1:16443"));
	teardown();
}
END_TEST

static const uint32_t types[] = {RPC_KUBERNETES_START_REQUEST, RPC_KUBERNETES_STOP_REQUEST,
    RPC_KUBERNETES_DELETE_REQUEST, RPC_KUBERNETES_STATUS_REQUEST,
    RPC_KUBERNETES_KUBECONFIG_REQUEST};
enum { TYPES = sizeof types / sizeof *types };

static void check_error(const struct frame *f, int32_t code, const char *text)
{
	struct span said;
	int32_t got;

	ck_assert_uint_eq(f->type, RPC_ERROR);
	ck_assert_int_eq(frame_error_read(f->payload, &got, &said), E_OK);
	ck_assert_int_eq(got, code);
	ck_assert(span_eq_str(said, text));
}

START_TEST(failures_are_errors)
{
	static const struct {
		int rc;
		int32_t code;
	} cases[] = {{-ENOENT, 404}, {-ESHUTDOWN, 503}, {-ETIMEDOUT, 500}, {-EIO, 500}};
	struct frame f;

	setup();
	for (size_t i = 0; i < TYPES; i++)
		for (size_t n = 0; n < 4; n++) {
			const struct kubernetes_answer a = {.rc = cases[n].rc, .detail = "why"};

			rpc_case_send(&c, types[i], span_of(NULL, 0));
			ck_assert(!rpc_case_poll(&c, &f));
			answer_fn_of(&a, &asker);
			f = rpc_case_receive(&c);
			check_error(&f, cases[n].code, "why");
		}
	teardown();
}
END_TEST

START_TEST(what_is_not_taken_is_told_at_once)
{
	setup();
	for (size_t i = 0; i < TYPES; i++) {
		c.services.kubernetes = (struct kubernetes *)(void *)&service;
		ask_rc = -EAGAIN;
		rpc_case_refused(&c, types[i], span_of(NULL, 0), 503, "too many requests");
		ask_rc = -ESHUTDOWN;
		rpc_case_refused(&c, types[i], span_of(NULL, 0), 503, "shutting down");
		c.services.kubernetes = NULL;
		rpc_case_refused(&c, types[i], span_of(NULL, 0), 503, "no memory");
	}
	teardown();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {start, stop_and_delete, status, kubeconfig,
	    failures_are_errors, what_is_not_taken_is_told_at_once, NULL};

	return suite_of("rpc_kubernetes", tests);
}
