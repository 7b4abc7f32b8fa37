#include "runtime/runtime.h"

#include "fault.h"
#include "suite.h"
#include "sys/sock.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATIENCE_TURNS = 300, WAITING = 3 };

static struct loop loop;
static struct runtime *runtime;
static struct runtime_status seen;
static unsigned answers;
static char dir[32], path[64];
static unsigned fds;

static void setup(void)
{
	static struct runtime_conf conf = {.binary_dir = dir,
	    .docker_socket = path,
	    .endpoint = "vsock:2375",
	    .max_waiting = WAITING};

	signal(SIGPIPE, SIG_IGN);
	answers = 0;
	strcpy(dir, "/tmp/runtime.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/docker.sock", dir);
	fds = fault_fds();
	ck_assert_int_eq(loop_init(&loop), 0);
	runtime = runtime_new(&loop, &conf);
	ck_assert_ptr_nonnull(runtime);
	ck_assert_str_eq(runtime_conf(runtime)->endpoint, "vsock:2375");
}

static void teardown(void)
{
	runtime_free(runtime);
	loop_done(&loop);
	unlink(path);
	rmdir(dir);
	ck_assert_uint_eq(fault_fds(), fds);
}

static void took(const struct runtime_status *status, const struct runtime_caller *caller)
{
	ck_assert_int_eq(caller->tag, 5);
	seen = *status;
	answers++;
}

static int probe(void)
{
	return runtime_probe(runtime, took, &(struct runtime_caller){.tag = 5});
}

static int listen_there(void)
{
	struct addr a;
	int fd;

	ck_assert_int_eq(addr_unix(path, &a), E_OK);
	fd = sock_listen(&a, 4);
	ck_assert_int_ge(fd, 0);
	return fd;
}

/* Plays dockerd: answers every connection that asks with `text`, until the probe is through. */
static void serve(int listen_fd, const char *text)
{
	struct addr peer;
	char request[512];
	int held[8];
	size_t n = 0;

	for (int i = 0; i < PATIENCE_TURNS && answers == 0; i++) {
		ck_assert_int_eq(loop_turn(&loop, 10), 0);
		if (n < 8 && (held[n] = sock_accept(listen_fd, &peer)) >= 0)
			n++;
		for (size_t k = 0; text && k < n; k++)
			if (read(held[k], request, sizeof request) > 0)
				ck_assert_int_gt(write(held[k], text, strlen(text)), 0);
	}
	while (n > 0)
		close(held[--n]);
	ck_assert_uint_ge(answers, 1);
}

START_TEST(nothing_is_there)
{
	char detail[RUNTIME_DETAIL_BYTES];

	setup();
	ck_assert_int_eq(probe(), 0);
	ck_assert_uint_eq(answers, 0);
	ck_assert_int_eq(loop_turn(&loop, 0), 0);
	ck_assert_uint_eq(answers, 1);
	ck_assert(!seen.docker_ready && !seen.api_ready);
	snprintf(detail, sizeof detail,
	    "docker socket missing: %s; missing runtime binaries under %s: dockerd, containerd, "
	    "containerd-shim-runc-v2, runc",
	    path, dir);
	ck_assert_str_eq(seen.detail, detail);
	ck_assert_str_eq(seen.docker_detail, detail);
	ck_assert_str_eq(seen.endpoint, "vsock:2375");
	teardown();
}
END_TEST

START_TEST(a_dead_socket_is_there_but_not_reachable)
{
	setup();
	close(listen_there());
	ck_assert_int_eq(probe(), 0);
	ck_assert_int_eq(loop_turn(&loop, 0), 0);
	ck_assert_uint_eq(answers, 1);
	ck_assert(!seen.docker_ready);
	ck_assert_ptr_nonnull(strstr(seen.detail, "docker socket exists but not reachable: "));
	teardown();
}
END_TEST

START_TEST(the_api_answers)
{
	int fd;

	setup();
	fd = listen_there();
	ck_assert_int_eq(probe(), 0);
	serve(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK");
	ck_assert(seen.docker_ready && seen.api_ready);
	ck_assert_str_eq(seen.detail, "docker socket ready");
	ck_assert_str_eq(seen.docker_detail, "API /_ping OK");
	close(fd);
	teardown();
}
END_TEST

START_TEST(the_api_is_still_starting)
{
	static const char *const texts[] = {
	    NULL, "HTTP/1.1 503 Wait\r\nContent-Length: 0\r\n\r\n", "garbage\r\n\r\n"};

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		int fd;

		setup();
		fd = listen_there();
		ck_assert_int_eq(probe(), 0);
		serve(fd, texts[i]);
		ck_assert(seen.docker_ready && !seen.api_ready);
		ck_assert_str_eq(seen.docker_detail, "socket connectable, API initializing");
		close(fd);
		teardown();
	}
}
END_TEST

START_TEST(callers_share_a_probe)
{
	setup();
	for (int i = 0; i < WAITING; i++)
		ck_assert_int_eq(probe(), 0);
	ck_assert_int_eq(probe(), -EAGAIN);
	ck_assert_int_eq(loop_turn(&loop, 0), 0);
	ck_assert_uint_eq(answers, WAITING);
	ck_assert_int_eq(probe(), 0);
	ck_assert_int_eq(loop_turn(&loop, 0), 0);
	ck_assert_uint_eq(answers, WAITING + 1);
	teardown();
}
END_TEST

START_TEST(is_freed_with_a_probe_under_way)
{
	int fd;

	setup();
	fd = listen_there();
	ck_assert_int_eq(probe(), 0);
	ck_assert_int_eq(loop_turn(&loop, 0), 0);
	close(fd);
	teardown();
	ck_assert_uint_eq(answers, 0);
}
END_TEST

START_TEST(programs_that_are_there_are_not_missing)
{
	char program[64];
	FILE *f;

	setup();
	snprintf(program, sizeof program, "%s/runc", dir);
	f = fopen(program, "we");
	ck_assert_ptr_nonnull(f);
	fclose(f);
	ck_assert_int_eq(chmod(program, 0755), 0);
	ck_assert_int_eq(probe(), 0);
	ck_assert_int_eq(loop_turn(&loop, 0), 0);
	ck_assert_ptr_nonnull(strstr(seen.detail, "containerd-shim-runc-v2"));
	ck_assert_ptr_null(strstr(seen.detail, "v2, runc"));
	unlink(program);
	teardown();
}
END_TEST

START_TEST(the_refusal_is_a_whole_answer)
{
	char text[512];
	size_t n = runtime_docker_refusal(-ENOENT, text, sizeof text - 1);

	text[n] = '\0';
	ck_assert_ptr_eq(strstr(text, "HTTP/1.1 503 Service Unavailable\r\n"), text);
	ck_assert_ptr_nonnull(strstr(text, "No such file or directory"));
	ck_assert_uint_eq((size_t)atoi(strstr(text, "Content-Length: ") + 16),
	    strlen(strstr(text, "\r\n\r\n") + 4));
	ck_assert_uint_eq(runtime_docker_refusal(-ENOENT, text, 20), 0);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    nothing_is_there,
	    a_dead_socket_is_there_but_not_reachable,
	    the_api_answers,
	    the_api_is_still_starting,
	    callers_share_a_probe,
	    is_freed_with_a_probe_under_way,
	    programs_that_are_there_are_not_missing,
	    the_refusal_is_a_whole_answer,
	    NULL,
	};

	return suite_of("runtime", tests);
}
