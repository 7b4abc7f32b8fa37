#include "net/http.h"

#include "cases.h"
#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* --- a client, and a server that says what the test tells it to ------------------------------- */

enum { BODY_MAX = 1 << 20 };

static struct loop loop;
static struct addr addr;
static char dir[32];
static int server_fd; /* the listener */
static int peer_fd;   /* the server's end of the call, or -1 */
static unsigned fds;

/* What the call came to. */
static struct {
	struct http_call call;
	unsigned heads, ends, status;
	enum http1_framing framing;
	int rc;
	uint8_t body[BODY_MAX];
	size_t body_bytes;
	int head_rc, data_rc; /* what the ops return */
	int cancel_in_head;   /* not 0: cancelled with this from within the op */
} seen;

static int head_came(struct http_call *h, const struct http1_head *head)
{
	ck_assert_ptr_eq(h->ctx, &seen);
	ck_assert_uint_eq(seen.body_bytes, 0);
	ck_assert_uint_eq(h->status, head->status);
	seen.heads++;
	seen.status = head->status;
	seen.framing = head->framing;
	if (seen.cancel_in_head)
		http_cancel(h, seen.cancel_in_head);
	return seen.head_rc;
}

static int data_came(struct http_call *h, struct span piece)
{
	ck_assert_uint_gt(piece.n, 0);
	ck_assert_uint_le(piece.n, BODY_MAX - seen.body_bytes);
	ck_assert_uint_eq(seen.heads, 1);
	ck_assert_uint_eq(h->received_bytes, seen.body_bytes + piece.n);
	memcpy(seen.body + seen.body_bytes, piece.p, piece.n);
	seen.body_bytes += piece.n;
	return seen.data_rc;
}

static void ended(struct http_call *h, int rc)
{
	ck_assert_ptr_eq(h->ctx, &seen);
	seen.ends++;
	seen.rc = rc;
}

static const struct http_ops ops = {.head = head_came, .data = data_came, .ended = ended};
static const struct http_request get = {.method = "GET", .target = "/x", .timeout_ms = 5000};

static void setup(void)
{
	char text[64];

	signal(SIGPIPE, SIG_IGN);
	strcpy(dir, "/tmp/http.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(text, sizeof text, "unix:%s/s", dir);
	ck_assert_int_eq(addr_parse(span_str(text), &addr), E_OK);
	fds = fault_fds();
	server_fd = sock_listen(&addr, 8);
	ck_assert_int_ge(server_fd, 0);
	peer_fd = -1;
	ck_assert_int_eq(loop_init(&loop), 0);
}

static void teardown(void)
{
	loop_done(&loop);
	close(server_fd);
	ck_assert_uint_eq(fault_fds(), fds);
	unlink(addr.u.un.sun_path);
	ck_assert_int_eq(rmdir(dir), 0);
}

static void turn(void)
{
	ck_assert_int_eq(loop_turn(&loop, 0), 0);
}

static int start(const struct http_request *req)
{
	memset(&seen, 0, sizeof seen);
	seen.call.ctx = &seen;
	return http_start(&seen.call, &loop, &addr, req, &ops);
}

/* Starts a call and accepts it. */
static void call(const struct http_request *req)
{
	struct addr from;

	ck_assert_int_eq(start(req), 0);
	ck_assert_uint_eq(seen.ends, 0);
	peer_fd = sock_accept(server_fd, &from);
	ck_assert_int_ge(peer_fd, 0);
	turn();
}

static void say(struct span s)
{
	while (s.n > 0 && seen.ends == 0) {
		ssize_t n = send(peer_fd, s.p, s.n, MSG_NOSIGNAL);

		if (n > 0)
			s = span_from(s, (size_t)n);
		else if (errno != EAGAIN)
			return;
		turn();
	}
}

/* Reads the request first: closing a unix socket with unread bytes resets it. */
static void hang_up(void)
{
	char request[4096];

	while (recv(peer_fd, request, sizeof request, 0) > 0)
		;
	close(peer_fd);
	peer_fd = -1;
}

/* The end of the call, with the server's end closed. */
static int result(void)
{
	uint64_t give_up_ns = clock_mono_ns() + 30 * NS_PER_SEC;

	while (seen.ends == 0) {
		ck_assert_uint_lt(clock_mono_ns(), give_up_ns);
		ck_assert_int_eq(loop_turn(&loop, 5), 0);
	}
	if (peer_fd >= 0)
		hang_up();
	turn();
	ck_assert_uint_eq(seen.ends, 1);
	return seen.rc;
}

static int answer(const char *text)
{
	call(&get);
	say(span_str(text));
	hang_up();
	return result();
}

static void expect_body(const char *body)
{
	ck_assert_uint_eq(seen.body_bytes, strlen(body));
	ck_assert_mem_eq(seen.body, body, seen.body_bytes);
}

/* --- answers -------------------------------------------------------------------------------- */

static const char by_length[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
static const char by_chunks[] = "HTTP/1.1 100 Continue\r\n\r\n"
				"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
				"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: t\r\n\r\n";
static const char until_close[] = "HTTP/1.0 404 Not Found\r\nServer: x\r\n\r\nhello";
static const char empty[] = "HTTP/1.1 204 No Content\r\n\r\n";

static const struct answer_row {
	const char *text;
	unsigned status;
	const char *body;
	bool ends_itself;
} rows[] = {
    {by_length, 200, "hello", true},
    {by_chunks, 200, "hello", true},
    {until_close, 404, "hello", false},
    {empty, 204, "", true},
    {"HTTP/1.1 500 \r\nContent-Length: 0\r\n\r\n", 500, "", true},
};
enum { ROWS = sizeof rows / sizeof *rows };

static void expect_row(const struct answer_row *row)
{
	ck_assert_uint_eq(seen.heads, 1);
	ck_assert_uint_eq(seen.status, row->status);
	expect_body(row->body);
}

START_TEST(whole)
{
	setup();
	for (size_t i = 0; i < ROWS; i++) {
		ck_assert_int_eq(answer(rows[i].text), 0);
		expect_row(&rows[i]);
	}
	teardown();
}
END_TEST

START_TEST(ends_without_the_server_closing)
{
	setup();
	for (size_t i = 0; i < ROWS; i++) {
		if (!rows[i].ends_itself)
			continue;
		call(&get);
		say(span_str(rows[i].text));
		turn();
		ck_assert_uint_eq(seen.ends, 1);
		ck_assert_int_eq(result(), 0);
		expect_row(&rows[i]);
	}
	teardown();
}
END_TEST

START_TEST(byte_by_byte)
{
	setup();
	for (size_t i = 0; i < ROWS; i++) {
		call(&get);
		for (const char *p = rows[i].text; *p; p++)
			say(span_of(p, 1));
		hang_up();
		ck_assert_int_eq(result(), 0);
		expect_row(&rows[i]);
	}
	teardown();
}
END_TEST

START_TEST(in_two_pieces)
{
	setup();
	for (size_t i = 0; i < ROWS; i++)
		for (size_t n = 0; n <= strlen(rows[i].text); n++) {
			call(&get);
			say(span_of(rows[i].text, n));
			say(span_str(rows[i].text + n));
			hang_up();
			ck_assert_int_eq(result(), 0);
			expect_row(&rows[i]);
		}
	teardown();
}
END_TEST

START_TEST(cut)
{
	const size_t until_close_head = sizeof until_close - 1 - 5;

	setup();
	for (size_t i = 0; i < ROWS; i++)
		for (size_t n = 0; n < strlen(rows[i].text); n++) {
			bool complete = !rows[i].ends_itself && n >= until_close_head;

			call(&get);
			say(span_of(rows[i].text, n));
			hang_up();
			ck_assert_int_eq(result(), complete ? 0 : -ECONNRESET);
		}
	teardown();
}
END_TEST

START_TEST(bytes_behind_the_answer_are_ignored)
{
	setup();
	ck_assert_int_eq(
	    answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 No"), 0);
	expect_body("ok");
	ck_assert_uint_eq(seen.status, 200);
	teardown();
}
END_TEST

START_TEST(garbage)
{
	static const char *const texts[] = {
	    "\n",
	    "SSH-2.0-OpenSSH\r\n",
	    "HTTP/2.0 200 OK\r\n\r\n",
	    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
	    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
	    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
	    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: tcp\r\n\r\n",
	};

	setup();
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		ck_assert_msg(answer(texts[i]) == -EPROTO, "%s", texts[i]);
		ck_assert_uint_eq(seen.body_bytes, 0);
	}
	ck_assert_uint_eq(seen.heads, 1);
	ck_assert_int_eq(seen.framing, HTTP1_UPGRADE);
	teardown();
}
END_TEST

static void expect_mutation(struct span mutated, void *ctx)
{
	(void)ctx;
	call(&get);
	say(mutated);
	if (peer_fd >= 0)
		hang_up();
	switch (result()) {
	case 0: ck_assert_uint_eq(seen.heads, 1); break;
	case -EPROTO:
	case -ECONNRESET: break;
	default: ck_abort_msg("%s", err_text(seen.rc));
	}
}

START_TEST(mutations)
{
	setup();
	each_mutation(span_str(by_chunks), expect_mutation, NULL);
	teardown();
}
END_TEST

START_TEST(many_interim_answers)
{
	char text[64 * 16] = "";

	setup();
	for (int i = 0; i < HTTP_INTERIM_MAX; i++)
		strcat(text, "HTTP/1.1 102 Wait\r\n\r\n");
	strcat(text, by_length);
	ck_assert_int_eq(answer(text), 0);
	expect_body("hello");
	text[0] = 0;
	for (int i = 0; i <= HTTP_INTERIM_MAX; i++)
		strcat(text, "HTTP/1.1 102 Wait\r\n\r\n");
	ck_assert_int_eq(answer(text), -EPROTO);
	ck_assert_uint_eq(seen.heads, 0);
	teardown();
}
END_TEST

/* --- sizes ---------------------------------------------------------------------------------- */

/* An answer whose head is filled up with one long field to `head_bytes`. */
static int answer_with_head_of(size_t head_bytes)
{
	const char before[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: ";
	static char text[1 << 17];
	size_t n = sizeof before - 1;

	memcpy(text, before, n);
	memset(text + n, 'x', head_bytes - n - 4);
	strcpy(text + head_bytes - 4, "\r\n\r\n");
	return answer(text);
}

START_TEST(huge_heads)
{
	size_t limit = http1_default_limits.head_bytes;

	setup();
	ck_assert_int_eq(answer_with_head_of(limit), 0);
	ck_assert_int_eq(answer_with_head_of(limit + 1), -EPROTO);
	ck_assert_int_eq(answer_with_head_of(100000), -EPROTO);
	teardown();
}
END_TEST

START_TEST(large_body)
{
	static uint8_t body[BODY_MAX];
	char head[64];

	setup();
	for (size_t i = 0; i < sizeof body; i++)
		body[i] = (uint8_t)(i * 7 + (i >> 9));
	snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", BODY_MAX);
	call(&get);
	say(span_str(head));
	say(span_of(body, sizeof body));
	ck_assert_int_eq(result(), 0);
	ck_assert_uint_eq(seen.body_bytes, sizeof body);
	ck_assert_mem_eq(seen.body, body, sizeof body);
	teardown();
}
END_TEST

START_TEST(body_over_the_limit)
{
	struct http_request req = get;

	setup();
	for (size_t i = 0; i < 3; i++) {
		req.limit_bytes = 5;
		call(&req);
		say(span_str(rows[i].text));
		hang_up();
		ck_assert_int_eq(result(), 0);
		req.limit_bytes = 4;
		call(&req);
		say(span_str(rows[i].text));
		hang_up();
		ck_assert_int_eq(result(), -EFBIG);
		ck_assert_uint_le(seen.body_bytes, 4);
	}
	teardown();
}
END_TEST

/* --- requests ------------------------------------------------------------------------------- */

static void expect_request(const struct http_request *req, const char *text)
{
	static char got[1 << 17];
	size_t n = 0;

	call(req);
	while (n < strlen(text)) {
		ssize_t rc = recv(peer_fd, got + n, sizeof got - n - 1, 0);

		ck_assert(rc > 0 || errno == EAGAIN);
		n += rc > 0 ? (size_t)rc : 0;
		turn();
	}
	got[n] = 0;
	ck_assert_str_eq(got, text);
	say(span_str(empty));
	ck_assert_int_eq(result(), 0);
}

START_TEST(requests)
{
	struct http_request put = {
	    .method = "PUT",
	    .target = "/drives/rootfs?x=%20",
	    .content_type = "application/json",
	    .body = span_str("{\"a\":1}"),
	};

	setup();
	expect_request(&get, "GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
	expect_request(&put,
	    "PUT /drives/rootfs?x=%20 HTTP/1.1\r\nHost: localhost\r\n"
	    "Content-Type: application/json\r\nContent-Length: 7\r\nConnection: "
	    "close\r\n\r\n{\"a\":1}");
	teardown();
}
END_TEST

START_TEST(largest_body)
{
	static char body[HTTP_REQUEST_BODY_BYTES + 1], text[HTTP_REQUEST_BODY_BYTES + 256];
	struct http_request post = {.method = "POST", .target = "/"};

	setup();
	memset(body, 'b', HTTP_REQUEST_BODY_BYTES);
	snprintf(text, sizeof text,
	    "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nConnection: "
	    "close\r\n\r\n%s",
	    HTTP_REQUEST_BODY_BYTES, body);
	post.body = span_of(body, HTTP_REQUEST_BODY_BYTES);
	expect_request(&post, text);
	post.body.n++;
	ck_assert_int_eq(start(&post), -EMSGSIZE);
	teardown();
}
END_TEST

START_TEST(requests_that_cannot_be)
{
	static char target[HTTP_REQUEST_HEAD_BYTES + 1] = "/";
	struct http_request req = {.method = "GET", .target = "/a b"};

	setup();
	ck_assert_int_eq(start(&req), -EINVAL);
	req.target = "/\r\nHost: evil";
	ck_assert_int_eq(start(&req), -EINVAL);
	memset(target + 1, 'x', sizeof target - 2);
	req.target = target;
	ck_assert_int_eq(start(&req), -EMSGSIZE);
	unlink(addr.u.un.sun_path);
	ck_assert_int_eq(start(&get), -ENOENT);
	turn();
	ck_assert_uint_eq(seen.ends, 0);
	teardown();
}
END_TEST

START_TEST(head_request)
{
	const struct http_request head = {.method = "HEAD", .target = "/"};

	setup();
	call(&head);
	say(span_str("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"));
	ck_assert_int_eq(result(), 0);
	ck_assert_uint_eq(seen.heads, 1);
	teardown();
}
END_TEST

START_TEST(over_tcp)
{
	char host[ADDR_TEXT_BYTES], text[256];
	struct addr unix_addr;
	int unix_fd;

	setup();
	unix_addr = addr;
	unix_fd = server_fd;
	ck_assert_int_eq(addr_parse(span_str("tcp:127.0.0.1:0"), &addr), E_OK);
	server_fd = sock_listen(&addr, 1);
	ck_assert_int_ge(server_fd, 0);
	ck_assert_int_eq(getsockname(server_fd, &addr.u.sa, &addr.len), 0);
	snprintf(text, sizeof text, "GET /x HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
	    addr_text(&addr, host) + strlen("tcp:"));
	expect_request(&get, text);
	close(server_fd);
	ck_assert_int_eq(start(&get), 0);
	ck_assert_int_eq(result(), -ECONNREFUSED);
	addr = unix_addr;
	server_fd = unix_fd;
	teardown();
}
END_TEST

/* --- ends ----------------------------------------------------------------------------------- */

START_TEST(server_that_closes_at_once)
{
	int rc;

	setup();
	call(&get);
	hang_up();
	rc = result();
	ck_assert_int_eq(rc, -ECONNRESET);
	ck_assert_uint_eq(seen.heads, 0);
	ck_assert_int_eq(start(&get), 0);
	peer_fd = sock_accept(server_fd, &(struct addr){0});
	hang_up();
	rc = result();
	ck_assert_msg(rc == -EPIPE || rc == -ECONNRESET, "%s", err_text(rc));
	teardown();
}
END_TEST

static uint64_t timed_out_ms(const struct http_request *req, const char *text)
{
	uint64_t start_ns = clock_mono_ns();

	call(req);
	say(span_str(text));
	ck_assert_int_eq(result(), -ETIMEDOUT);
	return (clock_mono_ns() - start_ns) / NS_PER_MS;
}

START_TEST(server_that_never_answers)
{
	struct http_request req = {.method = "GET", .target = "/", .timeout_ms = 60};
	uint64_t ms;

	setup();
	ms = timed_out_ms(&req, "");
	ck_assert_uint_ge(ms, 55);
	req.timeout_ms = 500; /* so much may pass until it is read */
	timed_out_ms(&req, "HTTP/1.1 200 OK\r\n");
	ck_assert_uint_eq(seen.heads, 0);
	timed_out_ms(&req, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell");
	ck_assert_uint_eq(seen.heads, 1);
	expect_body("hell");
	req.head_timeout_ms = 10000;
	timed_out_ms(&req, "HTTP/1.1 100 Continue\r\n\r\n");
	teardown();
}
END_TEST

/* An event stream: the head in time, the rest whenever it comes. */
START_TEST(head_timeout)
{
	struct http_request req = {.method = "GET", .target = "/events", .head_timeout_ms = 500};

	setup();
	timed_out_ms(&req, "");
	call(&req);
	say(span_str("HTTP/1.1 200 OK\r\n\r\n"));
	ck_assert_uint_eq(seen.heads, 1);
	for (int i = 0; i < 3; i++) {
		usleep(200 * 1000);
		turn();
		say(span_str("x"));
	}
	hang_up();
	ck_assert_int_eq(result(), 0);
	expect_body("xxx");
	teardown();
}
END_TEST

START_TEST(ops_end_the_call)
{
	setup();
	call(&get);
	seen.head_rc = -EXDEV;
	say(span_str(by_length));
	ck_assert_int_eq(result(), -EXDEV);
	expect_body("");
	call(&get);
	seen.data_rc = -EXDEV;
	say(span_str(by_chunks));
	ck_assert_int_eq(result(), -EXDEV);
	expect_body("he");
	call(&get);
	seen.cancel_in_head = -ECANCELED;
	say(span_str(by_length));
	ck_assert_int_eq(result(), -ECANCELED);
	expect_body("");
	teardown();
}
END_TEST

START_TEST(cancelled)
{
	setup();
	ck_assert_int_eq(start(&get), 0);
	http_cancel(&seen.call, -ECANCELED);
	http_cancel(&seen.call, -EXDEV);
	ck_assert_uint_eq(seen.ends, 0);
	peer_fd = sock_accept(server_fd, &(struct addr){0});
	ck_assert_int_eq(result(), -ECANCELED);
	call(&get);
	say(span_of(by_length, sizeof by_length - 3));
	http_cancel(&seen.call, 0);
	ck_assert_int_eq(result(), 0);
	teardown();
}
END_TEST

START_TEST(without_ops)
{
	const struct http_ops few = {.ended = ended};

	setup();
	memset(&seen, 0, sizeof seen);
	seen.call.ctx = &seen;
	ck_assert_int_eq(http_start(&seen.call, &loop, &addr, &get, &few), 0);
	peer_fd = sock_accept(server_fd, &(struct addr){0});
	turn();
	say(span_str(by_chunks));
	ck_assert_int_eq(result(), 0);
	ck_assert_uint_eq(seen.call.status, 200);
	ck_assert_uint_eq(seen.call.received_bytes, 5);
	teardown();
}
END_TEST

/* --- faults --------------------------------------------------------------------------------- */

/* One call, whatever happens; what started must end, once. */
static void one_call(void)
{
	struct http_request req = get;
	int rc;

	req.method = "POST";
	req.timeout_ms = 300;
	req.body = span_str("body");
	rc = start(&req);
	if (rc == 0)
		peer_fd = sock_accept(server_fd, &(struct addr){0});
	for (const char *p = by_chunks; rc == 0 && peer_fd >= 0 && *p; p += 3) {
		if (send(peer_fd, p, strlen(p) < 3 ? strlen(p) : 3, MSG_NOSIGNAL) < 0)
			break;
		loop_turn(&loop, 1);
		if (strlen(p) < 3)
			break;
	}
	while (rc == 0 && seen.ends == 0)
		loop_turn(&loop, 10);
	if (peer_fd >= 0)
		hang_up();
	turn();
	ck_assert_uint_eq(seen.ends, rc == 0);
	if (rc == 0 && seen.rc == 0)
		expect_body("hello");
}

START_TEST(every_call_fails_once)
{
	static const struct {
		const char *call;
		int err;
	} calls[] = {
	    {"malloc", ENOMEM},
	    {"socket", EMFILE},
	    {"connect", EAGAIN},
	    {"getsockopt", ENOMEM},
	    {"epoll_ctl", ENOMEM},
	    {"read", EIO},
	    {"read", EINTR},
	    {"sendto", EIO},
	    {"sendto", EAGAIN},
	    {"epoll_wait", EINTR},
	};

	setup();
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		FAULT_EACH(calls[i].call, calls[i].err)
		{
			one_call();
		}
		/* a connection that nobody accepted in a round that failed */
		while ((peer_fd = sock_accept(server_fd, &(struct addr){0})) >= 0)
			hang_up();
	}
	ck_assert_int_eq(answer(by_length), 0);
	teardown();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    whole,
	    ends_without_the_server_closing,
	    byte_by_byte,
	    in_two_pieces,
	    cut,
	    bytes_behind_the_answer_are_ignored,
	    garbage,
	    mutations,
	    many_interim_answers,
	    huge_heads,
	    large_body,
	    body_over_the_limit,
	    requests,
	    largest_body,
	    requests_that_cannot_be,
	    head_request,
	    over_tcp,
	    server_that_closes_at_once,
	    server_that_never_answers,
	    head_timeout,
	    ops_end_the_call,
	    cancelled,
	    without_ops,
	    every_call_fails_once,
	    NULL,
	};

	return suite_of("http", tests);
}
