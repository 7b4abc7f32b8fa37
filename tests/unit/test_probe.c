#include "runtime/probe.h"

#include "fault.h"
#include "suite.h"
#include "sys/signals.h"
#include "sys/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATIENCE_TURNS = 300, WAITING = 3 };

static struct loop loop;
static struct reaper reaper;
static struct signals signals;
static struct probe *runtime;
static struct runtime_status seen;
static unsigned answers;
static char dir[32], bin[64], path[64];
static unsigned fds, children;

static void on_signal(struct signals *s, int sig)
{
	(void)s;
	if (sig == SIGCHLD)
		reaper_drain(&reaper);
}

static void setup(void)
{
	static struct probe_conf conf = {.binary_dir = bin,
	    .docker_socket = path,
	    .endpoint = "vsock:2375",
	    .answer_ms = 1000,
	    .max_waiting = WAITING};

	signal(SIGPIPE, SIG_IGN);
	signals_block();
	answers = 0;
	strcpy(dir, "/tmp/runtime.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(bin, sizeof bin, "%s/bin", dir);
	ck_assert_int_eq(mkdir(bin, 0700), 0);
	snprintf(path, sizeof path, "%s/docker.sock", dir);
	fds = fault_fds();
	children = fault_children();
	ck_assert_int_eq(loop_init(&loop), 0);
	reaper_init(&reaper, &loop);
	ck_assert_int_eq(signals_init(&signals, &loop, on_signal), 0);
	runtime = probe_new(&loop, &reaper, &conf);
	ck_assert_ptr_nonnull(runtime);
}

static void turns_until(unsigned n)
{
	for (int i = 0; i < PATIENCE_TURNS && answers < n; i++)
		ck_assert_int_eq(loop_turn(&loop, 20), 0);
	ck_assert_uint_eq(answers, n);
}

static void teardown(void)
{
	probe_free(runtime);
	for (int i = 0; i < PATIENCE_TURNS && fault_children() > children; i++)
		ck_assert_int_eq(loop_turn(&loop, 20), 0);
	signals_done(&signals);
	loop_done(&loop);
	unlink(path);
	rmdir(bin);
	rmdir(dir);
	ck_assert_uint_eq(fault_fds(), fds);
	ck_assert_uint_eq(fault_children(), children);
}

static void took(const struct runtime_status *status, const struct runtime_caller *caller)
{
	ck_assert_int_eq(caller->id[0], 5);
	seen = *status;
	answers++;
}

static int probe(void)
{
	return probe_run(runtime, took, &(struct runtime_caller){.id = {5, 0}});
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

/* What the answer must say of the runtime as a whole. */
static void check_detail(const char *socket_state, const char *binaries)
{
	char detail[RUNTIME_DETAIL_BYTES];

	snprintf(detail, sizeof detail, "docker socket %s: %s%s", socket_state, path, binaries);
	ck_assert_str_eq(seen.detail, detail);
	ck_assert_str_eq(seen.docker_detail, detail);
	ck_assert(!seen.docker_ready && !seen.api_ready);
}

START_TEST(nothing_is_there)
{
	char missing[256];

	setup();
	ck_assert_int_eq(probe(), 0);
	ck_assert_uint_eq(answers, 0);
	turns_until(1);
	snprintf(missing, sizeof missing,
	    "; missing runtime binaries under %s: dockerd, containerd, containerd-shim-runc-v2, "
	    "runc",
	    bin);
	check_detail("missing", missing);
	ck_assert_str_eq(seen.endpoint, "vsock:2375");
	teardown();
}
END_TEST

START_TEST(a_dead_socket_is_there_but_not_reachable)
{
	setup();
	close(listen_there());
	ck_assert_int_eq(probe(), 0);
	turns_until(1);
	ck_assert(!seen.docker_ready);
	ck_assert_ptr_eq(
	    strstr(seen.detail, "docker socket exists but not reachable: "), seen.detail);
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
	ck_assert_uint_eq(reaper_count(&reaper), 1);
	turns_until(WAITING);
	ck_assert_int_eq(probe(), 0);
	turns_until(WAITING + 1);
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

START_TEST(is_freed_with_a_look_under_way)
{
	setup();
	ck_assert_int_eq(probe(), 0);
	ck_assert_int_eq(loop_turn(&loop, 0), 0);
	ck_assert_uint_eq(reaper_count(&reaper), 1);
	teardown();
	ck_assert_uint_eq(answers, 0);
}
END_TEST

/* --- binaries --------------------------------------------------------------------------------- */

static void put_binary(const char *name, mode_t mode)
{
	char program[128];
	int fd;

	snprintf(program, sizeof program, "%s/%s", bin, name);
	fd = open(program, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fchmod(fd, mode), 0);
	close(fd);
}

static void take_binary(const char *name)
{
	char program[128];

	snprintf(program, sizeof program, "%s/%s", bin, name);
	ck_assert_int_eq(remove(program), 0);
}

START_TEST(programs_that_are_there_are_not_missing)
{
	char missing[256];

	setup();
	put_binary("dockerd", 0755);
	put_binary("containerd", 0644);
	put_binary("runc", 0755);
	ck_assert_int_eq(probe(), 0);
	turns_until(1);
	snprintf(missing, sizeof missing,
	    "; missing runtime binaries under %s: containerd, containerd-shim-runc-v2", bin);
	check_detail("missing", missing);
	put_binary("containerd", 0100);
	put_binary("containerd-shim-runc-v2", 0755);
	ck_assert_int_eq(probe(), 0);
	turns_until(2);
	check_detail("missing", "");
	take_binary("dockerd");
	take_binary("containerd");
	take_binary("containerd-shim-runc-v2");
	take_binary("runc");
	teardown();
}
END_TEST

START_TEST(a_look_that_cannot_be_taken_says_so)
{
	char reason[256];

	setup();
	fault_arm("fork", 1, EAGAIN, false);
	ck_assert_int_eq(probe(), 0);
	turns_until(1);
	ck_assert(fault_disarm());
	snprintf(reason, sizeof reason, "; cannot look into %s: %s", bin, err_text(-EAGAIN));
	check_detail("missing", reason);
	fault_arm("write", 1, EIO, false); /* the worker's report */
	ck_assert_int_eq(probe(), 0);
	turns_until(2);
	ck_assert(fault_disarm());
	snprintf(reason, sizeof reason, "; cannot look into %s: %s", bin, err_text(-EIO));
	check_detail("missing", reason);
	teardown();
}
END_TEST

/* Mounts a filesystem whose server never answers, seen by this process only. The server's
 * descriptor, or -1 where that is not possible; closing it ends what hangs. */
static int hang(const char *at)
{
	char options[64];
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
	if (fd >= 0 && unshare(CLONE_NEWNS) == 0 &&
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	    mount("hung", at, "fuse", MS_NODEV | MS_NOSUID, options) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

START_TEST(a_directory_that_hangs_holds_up_nobody)
{
	char reason[256];
	int fuse, turns = 0;

	setup();
	fuse = hang(bin);
	if (fuse < 0) {
		skip_test("no FUSE filesystem can be mounted here");
		teardown();
		return;
	}
	snprintf(reason, sizeof reason, "; no answer from %s", bin);
	for (unsigned n = 1; n <= 2; n++) {
		ck_assert_int_eq(probe(), 0);
		for (; answers < n && turns < PATIENCE_TURNS; turns++)
			ck_assert_int_eq(loop_turn(&loop, 20), 0);
		ck_assert_uint_eq(answers, n);
		check_detail("missing", reason);
		ck_assert_uint_eq(reaper_count(&reaper), 1); /* a second does not join it */
	}
	ck_assert_int_gt(turns, 10); /* the loop went on meanwhile */
	close(fuse);
	for (int i = 0; i < PATIENCE_TURNS && reaper_count(&reaper); i++)
		ck_assert_int_eq(loop_turn(&loop, 20), 0);
	ck_assert_uint_eq(answers, 2); /* nobody waits for what it found */
	ck_assert_int_eq(umount2(bin, MNT_DETACH), 0);
	ck_assert_int_eq(probe(), 0);
	turns_until(3);
	ck_assert_ptr_nonnull(strstr(seen.detail, "; missing runtime binaries under "));
	teardown();
}
END_TEST

/* --- the proxy's answer ----------------------------------------------------------------------- */

Suite *suite(void)
{
	const TTest *const tests[] = {
	    nothing_is_there,
	    a_dead_socket_is_there_but_not_reachable,
	    the_api_answers,
	    the_api_is_still_starting,
	    callers_share_a_probe,
	    is_freed_with_a_probe_under_way,
	    is_freed_with_a_look_under_way,
	    programs_that_are_there_are_not_missing,
	    a_look_that_cannot_be_taken_says_so,
	    a_directory_that_hangs_holds_up_nobody,
	    NULL,
	};

	return suite_of("probe", tests);
}
