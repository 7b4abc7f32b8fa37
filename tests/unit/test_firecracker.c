#include "sandbox/firecracker.h"

#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* --- a client, and a server that says what the test tells it to ------------------------------- */

enum { TIMEOUT_MS = 5000, SHORT_MS = 500, TEXT_BYTES = 32 * 1024 };

static struct loop loop;
static struct addr addr;
static char dir[32], path[64];
static int server_fd; /* the listener, or -1 */
static unsigned fds;
static struct firecracker api;
static unsigned ends;
static int end_rc;
static bool begin_again; /* asks for ctrl-alt-del when the sequence has ended */

static const struct firecracker_boot boot = {
    .vcpus = 2,
    .memory_mib = 512,
    .kernel = "/k",
    .boot_args = "quiet",
    .rootfs = "/r",
    .tap = "vmtap0-2",
    .mac = "02:00:00:00:00:01",
    .vsock = "/v",
};
static const struct firecracker_snapshot snapshot = {.vmstate = "/s/vmstate", .mem = "/s/mem"};

static const char done[] = "HTTP/1.1 204 \r\nServer: Firecracker API\r\n"
			   "Connection: keep-alive\r\n\r\n";

static void ended(struct firecracker *f, int rc)
{
	ck_assert_ptr_eq(f, &api);
	ck_assert_ptr_eq(f->ctx, &loop);
	ends++;
	end_rc = rc;
	if (begin_again)
		ck_assert_int_eq(firecracker_ctrl_alt_del(f), 0);
	begin_again = false;
}

static void listen_now(void)
{
	server_fd = sock_listen(&addr, 8);
	ck_assert_int_ge(server_fd, 0);
}

static void stop_listening(void)
{
	close(server_fd);
	unlink(path);
	server_fd = -1;
}

/* Without a server yet. */
static void setup(uint64_t timeout_ms)
{
	signal(SIGPIPE, SIG_IGN);
	strcpy(dir, "/tmp/firecracker.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/s", dir);
	ck_assert_int_eq(addr_unix(path, &addr), E_OK);
	fds = fault_fds();
	server_fd = -1;
	ends = 0;
	begin_again = false;
	ck_assert_int_eq(loop_init(&loop), 0);
	memset(&api, 0, sizeof api);
	api.ended = ended;
	api.ctx = &loop;
	ck_assert_int_eq(firecracker_init(&api, &loop, NULL, path, timeout_ms), 0);
}

static void setup_server(void)
{
	setup(TIMEOUT_MS);
	listen_now();
}

static void teardown(void)
{
	loop_done(&loop);
	if (server_fd >= 0)
		stop_listening();
	ck_assert_uint_eq(fault_fds(), fds);
	ck_assert_int_eq(rmdir(dir), 0);
}

static void turn(void)
{
	ck_assert_int_eq(loop_turn(&loop, 1), 0);
}

/* The server's end of the next connection. */
static int accept_next(void)
{
	struct addr from;
	int fd;

	for (int i = 0; i < 1000; i++) {
		turn();
		fd = sock_accept(server_fd, &from);
		if (fd != -EAGAIN)
			break;
	}
	ck_assert_int_ge(fd, 0);
	return fd;
}

/* Reads a request up to the end of its body, and checks its head. The body is returned. */
static const char *read_request(int fd, const char *method, const char *target)
{
	static char text[TEXT_BYTES];
	char line[128], length[64];
	const char *body = NULL;
	size_t n = 0;

	snprintf(line, sizeof line, "%s %s HTTP/1.1\r\n", method, target);
	for (int i = 0; i < 1000; i++) {
		ssize_t got = recv(fd, text + n, sizeof text - 1 - n, 0);

		n += got > 0 ? (size_t)got : 0;
		text[n] = '\0';
		body = strstr(text, "\r\n\r\n");
		if (body && text[n - 1] == '}')
			break;
		turn();
	}
	ck_assert_ptr_nonnull(body);
	ck_assert_int_eq(strncmp(text, line, strlen(line)), 0);
	ck_assert_ptr_nonnull(strstr(text, "\r\nHost: localhost\r\n"));
	ck_assert_ptr_nonnull(strstr(text, "\r\nContent-Type: application/json\r\n"));
	snprintf(length, sizeof length, "\r\nContent-Length: %zu\r\n", strlen(body + 4));
	ck_assert_ptr_nonnull(strstr(text, length));
	return body + 4;
}

static void say(int fd, const char *text)
{
	ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
	turn();
	turn();
}

/* What a server sees of a request, and answers. */
struct exchange {
	const char *method, *target, *body; /* NULL: any body */
};

static void serve(const struct exchange *e, const char *answer)
{
	int fd = accept_next();
	const char *body = read_request(fd, e->method, e->target);

	if (e->body)
		ck_assert_str_eq(body, e->body);
	say(fd, answer);
	close(fd);
}

static void serve_all(const struct exchange *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		ck_assert_uint_eq(ends, 0);
		serve(&rows[i], done);
	}
}

/* The end of the sequence; nothing more is asked. */
static int result(void)
{
	for (int i = 0; i < 10000 && ends == 0; i++)
		turn();
	ck_assert_uint_eq(ends, 1);
	for (int i = 0; i < 3; i++)
		turn();
	ck_assert_uint_eq(ends, 1);
	if (server_fd >= 0)
		ck_assert_int_eq(sock_accept(server_fd, &(struct addr){0}), -EAGAIN);
	ends = 0;
	return end_rc;
}

static const char *reason(void)
{
	static char text[FIRECRACKER_REASON_BYTES];
	struct wr w = wr_of(text, sizeof text);

	firecracker_reason(&api, &w);
	wr_nul(&w);
	ck_assert_int_eq(w.err, E_OK);
	return text;
}

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const struct exchange boot_rows[] = {
    {"PUT", "/machine-config",
	"{\"vcpu_count\":2,\"mem_size_mib\":512,\"smt\":false,\"track_dirty_pages\":true}"},
    {"PUT", "/boot-source", "{\"kernel_image_path\":\"/k\",\"boot_args\":\"quiet\"}"},
    {"PUT", "/drives/rootfs",
	"{\"drive_id\":\"rootfs\",\"path_on_host\":\"/r\",\"is_root_device\":true,"
	"\"is_read_only\":false}"},
    {"PUT", "/network-interfaces/eth0",
	"{\"iface_id\":\"eth0\",\"guest_mac\":\"02:00:00:00:00:01\","
	"\"host_dev_name\":\"vmtap0-2\"}"},
    {"PUT", "/vsock", "{\"guest_cid\":3,\"uds_path\":\"/v\"}"},
    {"PUT", "/actions", "{\"action_type\":\"InstanceStart\"}"},
};
static const struct exchange ctrl_alt_del = {
    "PUT", "/actions", "{\"action_type\":\"SendCtrlAltDel\"}"};

/* --- the sequences ---------------------------------------------------------------------------- */

START_TEST(boots)
{
	setup_server();
	ck_assert_int_eq(firecracker_boot(&api, &boot), 0);
	serve_all(boot_rows, COUNT(boot_rows));
	ck_assert_int_eq(result(), 0);
	ck_assert_str_eq(reason(), "");
	teardown();
}
END_TEST

START_TEST(boots_without_a_network)
{
	struct firecracker_boot alone = boot;

	setup_server();
	alone.tap = alone.mac = NULL;
	ck_assert_int_eq(firecracker_boot(&api, &alone), 0);
	serve_all(boot_rows, 3);
	serve_all(boot_rows + 4, 2);
	ck_assert_int_eq(result(), 0);
	teardown();
}
END_TEST

static const struct exchange save_rows[] = {
    {"PATCH", "/vm", "{\"state\":\"Paused\"}"},
    {"PUT", "/snapshot/create",
	"{\"snapshot_type\":\"Full\",\"snapshot_path\":\"/s/vmstate\","
	"\"mem_file_path\":\"/s/mem\"}"},
};
static const struct exchange resume = {"PATCH", "/vm", "{\"state\":\"Resumed\"}"};

START_TEST(saves_and_resumes)
{
	setup_server();
	ck_assert_int_eq(firecracker_save(&api, &snapshot), 0);
	serve_all(save_rows, COUNT(save_rows));
	ck_assert_int_eq(result(), 0);
	ck_assert_int_eq(firecracker_resume(&api), 0);
	serve(&resume, done);
	ck_assert_int_eq(result(), 0);
	teardown();
}
END_TEST

START_TEST(restores)
{
	static const struct exchange as_it_was = {"PUT", "/snapshot/load",
	    "{\"snapshot_path\":\"/s/vmstate\","
	    "\"mem_backend\":{\"backend_type\":\"File\",\"backend_path\":\"/s/mem\"},"
	    "\"resume_vm\":true}"};
	static const struct exchange elsewhere = {"PUT", "/snapshot/load",
	    "{\"snapshot_path\":\"/s/vmstate\","
	    "\"mem_backend\":{\"backend_type\":\"File\",\"backend_path\":\"/s/mem\"},"
	    "\"resume_vm\":true,"
	    "\"network_overrides\":[{\"iface_id\":\"eth0\",\"host_dev_name\":\"vmtap0-3\"}]}"};
	struct firecracker_snapshot s = snapshot;

	setup_server();
	ck_assert_int_eq(firecracker_restore(&api, &s), 0);
	serve(&as_it_was, done);
	ck_assert_int_eq(result(), 0);
	s.tap = "vmtap0-3";
	ck_assert_int_eq(firecracker_restore(&api, &s), 0);
	serve(&elsewhere, done);
	ck_assert_int_eq(result(), 0);
	teardown();
}
END_TEST

START_TEST(asks_to_shut_down)
{
	setup_server();
	ck_assert_int_eq(firecracker_ctrl_alt_del(&api), 0);
	serve(&ctrl_alt_del, done);
	ck_assert_int_eq(result(), 0);
	teardown();
}
END_TEST

START_TEST(one_sequence_at_a_time)
{
	setup_server();
	ck_assert_int_eq(firecracker_ctrl_alt_del(&api), 0);
	ck_assert_int_eq(firecracker_boot(&api, &boot), -EBUSY);
	turn();
	ck_assert_int_eq(firecracker_save(&api, &snapshot), -EBUSY);
	ck_assert_int_eq(firecracker_restore(&api, &snapshot), -EBUSY);
	begin_again = true;
	serve(&ctrl_alt_del, done);
	serve(&ctrl_alt_del, done);
	ck_assert_uint_eq(ends, 2);
	ends = 0;
	ck_assert_int_eq(firecracker_ctrl_alt_del(&api), 0);
	serve(&ctrl_alt_del, done);
	ck_assert_int_eq(result(), 0);
	teardown();
}
END_TEST

START_TEST(texts_are_escaped)
{
	static const struct exchange escaped = {"PUT", "/boot-source",
	    "{\"kernel_image_path\":\"/k\",\"boot_args\":\"a=\\\"\\n\\\\\"}"};
	struct firecracker_boot odd = boot;

	setup_server();
	odd.boot_args = "a=\"\n\\";
	ck_assert_int_eq(firecracker_boot(&api, &odd), 0);
	serve(&boot_rows[0], done);
	serve(&escaped, done);
	firecracker_cancel(&api, -ECANCELED);
	close(accept_next());
	ck_assert_int_eq(result(), -ECANCELED);
	teardown();
}
END_TEST

/* --- refusals --------------------------------------------------------------------------------- */

static const char refused[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 27\r\n\r\n"
			      "{\"fault_message\": \"no way\"}";

START_TEST(a_refusal_ends_a_boot)
{
	char expected[128];

	setup_server();
	for (size_t i = 0; i < COUNT(boot_rows); i++) {
		ck_assert_int_eq(firecracker_boot(&api, &boot), 0);
		serve_all(boot_rows, i);
		serve(&boot_rows[i], refused);
		ck_assert_int_eq(result(), -EREMOTEIO);
		snprintf(expected, sizeof expected, "PUT %s: no way", boot_rows[i].target);
		ck_assert_str_eq(reason(), expected);
	}
	teardown();
}
END_TEST

START_TEST(a_refusal_ends_a_snapshot)
{
	setup_server();
	ck_assert_int_eq(firecracker_save(&api, &snapshot), 0);
	serve(&save_rows[0], refused);
	ck_assert_int_eq(result(), -EREMOTEIO);
	ck_assert_str_eq(reason(), "PATCH /vm: no way");
	ck_assert_int_eq(firecracker_save(&api, &snapshot), 0);
	serve(&save_rows[0], done);
	serve(&save_rows[1], refused);
	ck_assert_int_eq(result(), -EREMOTEIO);
	ck_assert_str_eq(reason(), "PUT /snapshot/create: no way");
	teardown();
}
END_TEST

static const struct {
	const char *answer;
	int rc;
	const char *reason; /* behind the request */
} answers[] = {
    {done, 0, NULL},
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 0, NULL},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 \r\n\r\n", 0, NULL},
    {refused, -EREMOTEIO, "no way"},
    {"HTTP/1.1 400 \r\n\r\n{\"fault_message\":\"a\\n\\u00e9\\u0000b\"}", -EREMOTEIO, "a????b"},
    {"HTTP/1.1 400 \r\n\r\n{\"x\":[{}],\"fault_message\":\"a\",\"fault_message\":\"bc\"}",
	-EREMOTEIO, "bc"},
    {"HTTP/1.1 400 \r\n\r\n{\"fault_message\":\"\"}", -EREMOTEIO, "HTTP status 400"},
    {"HTTP/1.1 400 \r\n\r\n{\"fault_message\":5}", -EREMOTEIO, "HTTP status 400"},
    {"HTTP/1.1 400 \r\n\r\n{\"fault_message\":\"a\"", -EREMOTEIO, "HTTP status 400"},
    {"HTTP/1.1 413 \r\n\r\n[[[[", -EREMOTEIO, "HTTP status 413"},
    {"HTTP/1.1 500 \r\n\r\nnot JSON", -EREMOTEIO, "HTTP status 500"},
    {"HTTP/1.1 302 \r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", -EREMOTEIO, "HTTP status 302"},
    {"HTTP/1.1 101 \r\nUpgrade: x\r\n\r\n", -EPROTO, "Protocol error"},
    {"SSH-2.0-x\r\n\r\n", -EPROTO, "Protocol error"},
    {"", -ECONNRESET, "Connection reset by peer"},
    {"HTTP/1.1 20", -ECONNRESET, "Connection reset by peer"},
    {"HTTP/1.1 400 \r\nContent-Length: 5\r\n\r\n{", -ECONNRESET, "Connection reset by peer"},
    {"HTTP/1.1 400 \r\nContent-Length: 9000\r\n\r\n", -EFBIG, "File too large"},
};

START_TEST(answers_of_all_kinds)
{
	char expected[128];

	setup_server();
	for (size_t i = 0; i < COUNT(answers); i++) {
		ck_assert_int_eq(firecracker_ctrl_alt_del(&api), 0);
		serve(&ctrl_alt_del, answers[i].answer);
		ck_assert_int_eq(result(), answers[i].rc);
		snprintf(expected, sizeof expected, "PUT /actions: %s", answers[i].reason);
		ck_assert_str_eq(reason(), answers[i].reason ? expected : "");
	}
	teardown();
}
END_TEST

START_TEST(answers_byte_by_byte)
{
	setup_server();
	for (size_t i = 0; i < COUNT(answers); i++) {
		int fd;

		ck_assert_int_eq(firecracker_ctrl_alt_del(&api), 0);
		fd = accept_next();
		read_request(fd, "PUT", "/actions");
		for (const char *p = answers[i].answer; *p && ends == 0; p++) {
			ck_assert_int_eq(send(fd, p, 1, MSG_NOSIGNAL), 1);
			turn();
		}
		close(fd);
		ck_assert_int_eq(result(), answers[i].rc);
	}
	teardown();
}
END_TEST

START_TEST(a_long_fault_is_cut)
{
	static char answer[2 * FIRECRACKER_ANSWER_BYTES];
	const char begin[] = "HTTP/1.1 400 \r\n\r\n{\"fault_message\":\"";
	size_t n = sizeof begin - 1;

	setup_server();
	memcpy(answer, begin, n);
	memset(answer + n, 'x', 7000);
	strcpy(answer + n + 7000, "\"}");
	ck_assert_int_eq(firecracker_ctrl_alt_del(&api), 0);
	serve(&ctrl_alt_del, answer);
	ck_assert_int_eq(result(), -EREMOTEIO);
	ck_assert_uint_eq(strlen(reason()), strlen("PUT /actions: ") + FIRECRACKER_FAULT_BYTES - 1);

	memset(answer + n, 'x', FIRECRACKER_ANSWER_BYTES);
	ck_assert_int_eq(firecracker_ctrl_alt_del(&api), 0);
	serve(&ctrl_alt_del, answer);
	ck_assert_int_eq(result(), -EFBIG);
	teardown();
}
END_TEST

START_TEST(a_body_has_a_limit)
{
	static char args[FIRECRACKER_BODY_BYTES + 1];
	struct firecracker_boot large = boot;

	setup_server();
	memset(args, 'x', sizeof args - 1);
	large.boot_args = args;
	ck_assert_int_eq(firecracker_boot(&api, &large), 0);
	serve(&boot_rows[0], done);
	ck_assert_int_eq(result(), -EMSGSIZE);
	ck_assert_str_eq(reason(), "PUT /boot-source: Message too long");

	args[FIRECRACKER_BODY_BYTES - 100] = '\0';
	ck_assert_int_eq(firecracker_boot(&api, &large), 0);
	serve(&boot_rows[0], done);
	serve(&(struct exchange){.method = "PUT", .target = "/boot-source"}, refused);
	ck_assert_int_eq(result(), -EREMOTEIO);
	teardown();
}
END_TEST

/* --- the socket ------------------------------------------------------------------------------- */

START_TEST(paths)
{
	char large[200];

	setup(TIMEOUT_MS);
	memset(large, 'x', sizeof large);
	large[sizeof large - 1] = '\0';
	ck_assert_int_eq(firecracker_init(&api, &loop, NULL, large, 1), -ENAMETOOLONG);
	ck_assert_int_eq(firecracker_init(&api, &loop, NULL, "", 1), -EINVAL);
	teardown();
}
END_TEST

START_TEST(a_socket_that_comes_late)
{
	setup(TIMEOUT_MS);
	ck_assert_int_eq(firecracker_boot(&api, &boot), 0);
	for (int i = 0; i < 20; i++)
		turn();
	listen_now();
	serve_all(boot_rows, COUNT(boot_rows));
	ck_assert_int_eq(result(), 0);
	teardown();
}
END_TEST

/* It is there, but nobody listens any more. */
START_TEST(a_stale_socket)
{
	setup(TIMEOUT_MS);
	listen_now();
	close(server_fd);
	ck_assert_int_eq(firecracker_ctrl_alt_del(&api), 0);
	for (int i = 0; i < 20; i++)
		turn();
	listen_now();
	serve(&ctrl_alt_del, done);
	ck_assert_int_eq(result(), 0);
	teardown();
}
END_TEST

START_TEST(a_socket_that_never_comes)
{
	uint64_t start_ns;

	setup(SHORT_MS);
	start_ns = clock_mono_ns();
	ck_assert_int_eq(firecracker_boot(&api, &boot), 0);
	ck_assert_int_eq(result(), -ETIMEDOUT);
	ck_assert_uint_ge(clock_mono_ns() - start_ns, SHORT_MS * NS_PER_MS);
	ck_assert_str_eq(reason(), "PUT /machine-config: Connection timed out");
	teardown();
}
END_TEST

START_TEST(a_socket_that_goes_away)
{
	setup(SHORT_MS);
	listen_now();
	ck_assert_int_eq(firecracker_boot(&api, &boot), 0);
	serve(&boot_rows[0], refused);
	ck_assert_int_eq(result(), -EREMOTEIO);
	ck_assert_int_eq(firecracker_save(&api, &snapshot), 0);
	stop_listening();
	ck_assert_int_eq(result(), -ETIMEDOUT);
	ck_assert_str_eq(reason(), "PATCH /vm: Connection timed out");
	teardown();
}
END_TEST

/* A queue of connections that is full is not the end. */
START_TEST(a_socket_with_its_hands_full)
{
	int others[64];
	size_t n = 0;

	setup(TIMEOUT_MS);
	server_fd = sock_listen(&addr, 0);
	while (n < COUNT(others) && (others[n] = sock_connect(&addr)) >= 0)
		n++;
	ck_assert_uint_lt(n, COUNT(others));
	ck_assert_int_eq(firecracker_ctrl_alt_del(&api), 0);
	for (int i = 0; i < 5; i++)
		turn();
	for (size_t i = 0; i < n; i++) {
		close(sock_accept(server_fd, &(struct addr){0}));
		close(others[i]);
	}
	serve(&ctrl_alt_del, done);
	ck_assert_int_eq(result(), 0);
	teardown();
}
END_TEST

START_TEST(an_answer_that_never_comes)
{
	int fd;

	setup(SHORT_MS);
	listen_now();
	ck_assert_int_eq(firecracker_boot(&api, &boot), 0);
	fd = accept_next();
	ck_assert_int_eq(result(), -ETIMEDOUT);
	ck_assert_str_eq(reason(), "PUT /machine-config: Connection timed out");
	close(fd);
	teardown();
}
END_TEST

/* Writing all of the memory may take longer than other requests. */
START_TEST(a_snapshot_takes_its_time)
{
	int fd;

	setup(SHORT_MS);
	listen_now();
	ck_assert_int_eq(firecracker_save(&api, &snapshot), 0);
	serve(&save_rows[0], done);
	fd = accept_next();
	read_request(fd, "PUT", "/snapshot/create");
	usleep(2 * SHORT_MS * 1000);
	turn();
	ck_assert_uint_eq(ends, 0);
	say(fd, done);
	close(fd);
	ck_assert_int_eq(result(), 0);
	teardown();
}
END_TEST

/* --- cancelling ------------------------------------------------------------------------------- */

START_TEST(cancelled_anywhere)
{
	int fd;

	setup(TIMEOUT_MS);
	firecracker_cancel(&api, -ECANCELED); /* nothing is under way */
	turn();
	ck_assert_uint_eq(ends, 0);
	ck_assert_int_eq(firecracker_boot(&api, &boot), 0); /* before the first try */
	firecracker_cancel(&api, -ECANCELED);
	ck_assert_uint_eq(ends, 0);
	ck_assert_int_eq(result(), -ECANCELED);
	ck_assert_int_eq(firecracker_boot(&api, &boot), 0); /* waiting for the socket */
	turn();
	firecracker_cancel(&api, -ESRCH);
	ck_assert_int_eq(result(), -ESRCH);
	ck_assert_str_eq(reason(), "");

	listen_now();
	ck_assert_int_eq(firecracker_save(&api, &snapshot), 0); /* waiting for an answer */
	fd = accept_next();
	read_request(fd, "PATCH", "/vm");
	firecracker_cancel(&api, -ESRCH);
	ck_assert_uint_eq(ends, 0);
	ck_assert_int_eq(result(), -ESRCH);
	close(fd);
	teardown();
}
END_TEST

START_TEST(dropped_anywhere)
{
	int peer = -1;

	for (int turns = 0; turns < 4; turns++) {
		setup(TIMEOUT_MS);
		if (turns > 1)
			listen_now();
		ck_assert_int_eq(firecracker_boot(&api, &boot), 0);
		for (int i = 0; i < turns; i++)
			turn();
		if (turns > 1)
			peer = sock_accept(server_fd, &(struct addr){0});
		firecracker_drop(&api);
		loop_bury(&loop);
		for (int i = 0; i < 3; i++)
			turn();
		ck_assert_uint_eq(ends, 0);
		if (peer >= 0)
			close(peer);
		peer = -1;
		teardown();
	}
}
END_TEST

/* --- faults ----------------------------------------------------------------------------------- */

/* A server that answers whatever is asked, until the sequence has ended. */
static void serve_anything(void)
{
	char request[1024];

	for (int i = 0; ends == 0; i++) {
		int fd;

		ck_assert_int_lt(i, 10000);
		loop_turn(&loop, 1);
		fd = sock_accept(server_fd, &(struct addr){0});
		if (fd < 0)
			continue;
		for (int t = 0; t < 50 && recv(fd, request, sizeof request, 0) <= 0; t++)
			loop_turn(&loop, 1);
		send(fd, refused, sizeof refused - 1, MSG_NOSIGNAL);
		loop_turn(&loop, 1);
		close(fd);
	}
	ck_assert_uint_eq(ends, 1);
	ck_assert_int_lt(end_rc, 0);
	ends = 0;
}

START_TEST(every_call_fails_once)
{
	static const struct {
		const char *call;
		int err;
	} calls[] = {
	    {"malloc", ENOMEM},
	    {"realloc", ENOMEM},
	    {"socket", EMFILE},
	    {"connect", EAGAIN},
	    {"connect", EACCES},
	    {"epoll_ctl", ENOMEM},
	    {"read", EIO},
	    {"read", EINTR},
	    {"sendto", EIO},
	    {"sendto", EAGAIN},
	};

	setup(SHORT_MS);
	listen_now();
	for (size_t i = 0; i < COUNT(calls); i++) {
		FAULT_EACH(calls[i].call, calls[i].err)
		{
			ck_assert_int_eq(firecracker_save(&api, &snapshot), 0);
			serve_anything();
		}
	}
	teardown();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    boots,
	    boots_without_a_network,
	    saves_and_resumes,
	    restores,
	    asks_to_shut_down,
	    one_sequence_at_a_time,
	    texts_are_escaped,
	    a_refusal_ends_a_boot,
	    a_refusal_ends_a_snapshot,
	    answers_of_all_kinds,
	    answers_byte_by_byte,
	    a_long_fault_is_cut,
	    a_body_has_a_limit,
	    paths,
	    a_socket_that_comes_late,
	    a_stale_socket,
	    a_socket_that_never_comes,
	    a_socket_that_goes_away,
	    a_socket_with_its_hands_full,
	    an_answer_that_never_comes,
	    a_snapshot_takes_its_time,
	    cancelled_anywhere,
	    dropped_anywhere,
	    every_call_fails_once,
	    NULL,
	};

	return suite_of("firecracker", tests);
}
