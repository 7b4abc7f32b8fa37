#include "rpc_case.h"

#include "sys/sock.h"

#include <stdio.h>
#include <stdlib.h>

#define PONG    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
#define NOT_YET "HTTP/1.1 503 Wait\r\nContent-Length: 0\r\n\r\n"
#define WHY_NOT "prerequisites failed: as the test wants it; "

static struct rpc_case c;
static char dir[32], path[64];
static int docker; /* a listener that plays the engine, or -1 */

static int fail_to_prepare(char *why, size_t cap)
{
	span_to_cstr(span_str("as the test wants it"), why, cap);
	return -1;
}

static void setup(unsigned max_waiting)
{
	static struct runtime_conf conf = {
	    .binary_dir = dir,
	    .docker_socket = path,
	    .endpoint = "vsock:2375",
	    .prepare = fail_to_prepare,
	    .prepare_ms = 5000,
	    .probe_ms = 1000,
	};

	strcpy(dir, "/tmp/rpc.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/docker.sock", dir);
	docker = -1;
	conf.max_waiting = max_waiting;
	rpc_case_begin(&c);
	c.services.runtime = runtime_new(&c.loop, &c.reaper, &conf);
	ck_assert_ptr_nonnull(c.services.runtime);
	rpc_case_serve(&c);
}

static void start_docker(void)
{
	struct addr a;

	ck_assert_int_eq(addr_unix(path, &a), E_OK);
	docker = sock_listen(&a, 4);
	ck_assert_int_ge(docker, 0);
}

static void stop_docker(void)
{
	if (docker >= 0)
		close(docker);
	docker = -1;
}

static void teardown(void)
{
	stop_docker();
	rpc_case_end(&c);
	unlink(path);
	rmdir(dir);
}

/* Answers what the engine is asked on one of its connections. */
static void answer_as_docker(int fd, const char *text)
{
	char request[512];
	ssize_t n = read(fd, request, sizeof request - 1);

	if (n <= 0)
		return;
	request[n] = '\0';
	ck_assert_ptr_eq(strstr(request, "GET /_ping HTTP/1.1\r\n"), request);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

/* Asks, while the engine answers each request with `text`. */
static struct span ask(uint32_t type, struct span payload, uint32_t response, const char *text)
{
	int held[8];
	struct addr peer;
	struct frame f;
	size_t n = 0;
	bool done = false;

	rpc_case_send(&c, type, payload);
	for (int i = 0; i < RPC_CASE_TURNS && !done; i++) {
		done = rpc_case_poll(&c, &f);
		if (docker >= 0 && n < 8 && (held[n] = sock_accept(docker, &peer)) >= 0)
			n++;
		for (size_t k = 0; k < n; k++)
			answer_as_docker(held[k], text);
	}
	while (n > 0)
		close(held[--n]);
	ck_assert(done);
	ck_assert_uint_eq(f.type, response);
	return f.payload;
}

/* --- RuntimeStatus ---------------------------------------------------------------------------- */

static struct rpc_runtime_status_response status(const char *text)
{
	struct rpc_runtime_status_response st;

	rpc_case_read(&c,
	    ask(RPC_RUNTIME_STATUS_REQUEST, span_of(NULL, 0), RPC_RUNTIME_STATUS_RESPONSE, text),
	    &rpc_runtime_status_response_table, &st);
	ck_assert(span_eq_str(st.endpoint, "vsock:2375"));
	ck_assert_uint_eq(st.services.n, 2);
	return st;
}

static void check_service(const struct rpc_runtime_status_response *st, size_t i, const char *name,
    bool ready, const char *detail)
{
	const struct rpc_service_status *service =
	    (const struct rpc_service_status *)st->services.items + i;

	ck_assert(span_eq_str(service->name, name));
	ck_assert(span_eq_str(service->status, ready ? "ready" : "not_ready"));
	ck_assert(span_eq_str(service->detail, detail));
}

/* containerd's sockets have fixed paths: this machine may have one, or not. */
static void check_containerd(const struct rpc_runtime_status_response *st)
{
	check_service(st, 0, "containerd", st->containerd_ready,
	    st->containerd_ready ? "containerd socket ready" : "containerd socket not reachable");
}

static const char *missing(const char *socket_state)
{
	static char text[RUNTIME_DETAIL_BYTES];

	snprintf(text, sizeof text,
	    "docker socket %s: %s; missing runtime binaries under %s: dockerd, containerd, "
	    "containerd-shim-runc-v2, runc",
	    socket_state, path, dir);
	return text;
}

static void check_no_docker(const char *detail)
{
	struct rpc_runtime_status_response st = status("");

	ck_assert(!st.docker_ready);
	ck_assert(span_eq_str(st.detail, detail));
	check_containerd(&st);
	check_service(&st, 1, "dockerd", false, detail);
}

START_TEST(status_follows_the_engine)
{
	struct rpc_runtime_status_response st;

	setup(4);
	check_no_docker(missing("missing"));
	start_docker();
	st = status(NOT_YET);
	ck_assert(st.docker_ready);
	ck_assert(span_eq_str(st.detail, "docker socket ready"));
	check_service(&st, 1, "dockerd", true, "socket connectable, API initializing");
	st = status(PONG);
	ck_assert(st.docker_ready);
	ck_assert(span_eq_str(st.detail, "docker socket ready"));
	check_containerd(&st);
	check_service(&st, 1, "dockerd", true, "API /_ping OK");
	stop_docker();
	check_no_docker(missing("exists but not reachable"));
	teardown();
}
END_TEST

/* --- EnsureRuntime ---------------------------------------------------------------------------- */

static void check_ensure(
    bool start, const char *how, const char *endpoint, const char *prefix, const char *detail)
{
	const struct rpc_runtime_ensure_request request = {.start_if_needed = start};
	struct rpc_runtime_ensure_response response;
	char message[RUNTIME_DETAIL_BYTES + 128];

	rpc_case_read(&c,
	    ask(RPC_ENSURE_RUNTIME_REQUEST,
		rpc_case_payload(&rpc_runtime_ensure_request_table, &request),
		RPC_RUNTIME_ENSURE_RESPONSE, PONG),
	    &rpc_runtime_ensure_response_table, &response);
	snprintf(message, sizeof message, "%s%s", prefix, detail);
	ck_assert(response.ready == (strcmp(how, "reused") == 0));
	ck_assert(span_eq_str(response.status, how));
	ck_assert(span_eq_str(response.endpoint, endpoint));
	ck_assert(span_eq_str(response.message, message));
}

START_TEST(ensure_finds_what_runs)
{
	setup(4);
	check_ensure(false, "failed", "", "", missing("missing"));
	start_docker();
	check_ensure(false, "reused", "vsock:2375", "", "docker socket ready");
	check_ensure(true, "reused", "vsock:2375", "", "docker socket ready");
	stop_docker();
	check_ensure(false, "failed", "", "", missing("exists but not reachable"));
	teardown();
}
END_TEST

START_TEST(ensure_starts_and_tells_what_failed)
{
	setup(4);
	check_ensure(true, "starting", "", "", "runtime start in progress");
	check_ensure(true, "starting", "", "", "runtime start in progress");
	while (reaper_count(&c.reaper))
		ck_assert_int_eq(loop_turn(&c.loop, 10), 0);
	check_ensure(false, "failed", "", WHY_NOT, missing("missing"));
	check_ensure(true, "starting", "", "", "runtime start in progress"); /* another try */
	while (reaper_count(&c.reaper))
		ck_assert_int_eq(loop_turn(&c.loop, 10), 0);
	start_docker(); /* somebody else's */
	check_ensure(true, "reused", "vsock:2375", WHY_NOT, "docker socket ready");
	teardown();
}
END_TEST

START_TEST(too_many_that_wait_are_refused)
{
	setup(0);
	rpc_case_refused(&c, RPC_RUNTIME_STATUS_REQUEST, span_of(NULL, 0), RPC_UNAVAILABLE,
	    "too many requests wait for it");
	rpc_case_refused(&c, RPC_ENSURE_RUNTIME_REQUEST, span_of(NULL, 0), RPC_UNAVAILABLE,
	    "too many requests wait for it");
	teardown();
}
END_TEST

/* A client that goes while its answer is looked for: the next one gets its own. */
START_TEST(a_late_status_for_nobody_is_dropped)
{
	setup(4);
	rpc_case_send(&c, RPC_RUNTIME_STATUS_REQUEST, span_of(NULL, 0));
	while (reaper_count(&c.reaper) == 0)
		ck_assert_int_eq(loop_turn(&c.loop, 10), 0);
	close(c.client);
	while (reaper_count(&c.reaper))
		ck_assert_int_eq(loop_turn(&c.loop, 10), 0);
	rpc_case_connect(&c);
	check_no_docker(missing("missing"));
	teardown();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    status_follows_the_engine,
	    ensure_finds_what_runs,
	    ensure_starts_and_tells_what_failed,
	    too_many_that_wait_are_refused,
	    a_late_status_for_nobody_is_dropped,
	    NULL,
	};

	return suite_of("rpc_runtime", tests);
}
