#include "session/files.h"

#include "codec/vmframe.h"
#include "session_case.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { ANSWER_BYTES = 4 << 20 };

static char dir[] = "/tmp/test_files.XXXXXX";

/* A path in the test's directory; lives until the fourth call from here. */
static const char *in_dir(const char *name)
{
	static char paths[4][256];
	static unsigned turn;
	char *path = paths[turn++ % 4];
	struct wr w = wr_of(path, 256);

	wr_str(&w, dir);
	wr_str(&w, name);
	wr_nul(&w);
	ck_assert_int_eq(w.err, E_OK);
	return path;
}

static void make_dir(void)
{
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void remove_dir(void)
{
	const char *const words[] = {"rm", "-r", dir, NULL};
	int status;
	pid_t pid = fork();

	if (pid == 0)
		execv("/bin/rm", (char *const *)words);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}

static unsigned count_entries(const char *path)
{
	DIR *d = opendir(path);
	unsigned n = 0;

	ck_assert_ptr_nonnull(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static void put_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq((int)write(fd, text, strlen(text)), (int)strlen(text));
	close(fd);
}

static void check_file(const char *path, struct span content, mode_t mode)
{
	static uint8_t bytes[ANSWER_BYTES];
	int fd = open(path, O_RDONLY);
	struct stat st;
	ssize_t n;

	ck_assert_msg(fd >= 0, "%s", path);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, mode);
	n = read(fd, bytes, sizeof bytes);
	ck_assert(span_eq(span_of(bytes, (size_t)n), content));
	close(fd);
}

/* --- an exchange, whose bytes fit in the sockets ------------------------------------------------
 */

static uint8_t request[1 << 17], answer[ANSWER_BYTES];
static struct wr out;
static size_t n_answer;

static void begin(void)
{
	out = wr_of(request, sizeof request);
}

static void add(enum vmframe_type type, struct span payload)
{
	vmframe_write(&out, (uint8_t)type, payload);
	ck_assert_int_eq(out.err, E_OK);
}

/* A request for a path of the test's directory, with more members. */
static void add_request(enum vmframe_type type, const char *name, const char *more)
{
	char json[512];
	struct wr w = wr_of(json, sizeof json);

	wr_str(&w, "{\"path\":\"");
	wr_str(&w, in_dir(name));
	wr_str(&w, "\"");
	wr_str(&w, more);
	wr_str(&w, "}");
	add(type, wr_span(&w));
}

static void receive(int fd)
{
	ssize_t n;

	while ((n = recv(fd, answer + n_answer, sizeof answer - n_answer, MSG_DONTWAIT)) > 0)
		n_answer += (size_t)n;
}

/* Serves what was added, and keeps what comes back. With `whole` the peer sends no more. */
static void serve(bool whole)
{
	int pair[2], size = 1 << 20;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	ck_assert_int_eq((int)send(pair[0], out.p, out.n, MSG_NOSIGNAL), (int)out.n);
	if (whole)
		shutdown(pair[0], SHUT_WR);
	files_serve(pair[1]);
	close(pair[1]);
	n_answer = 0;
	receive(pair[0]);
	close(pair[0]);
}

static void check_frame(enum vmframe_type type, const char *start)
{
	struct vmframe f;
	size_t used;

	ck_assert_int_eq(vmframe_read(span_of(answer, n_answer), &f, &used), E_OK);
	ck_assert_uint_eq(used, n_answer);
	ck_assert_msg(f.type == type && span_starts(f.payload, span_str(start)), "0x%x: %.*s",
	    f.type, (int)f.payload.n, (const char *)f.payload.p);
}

static void check_ack(void)
{
	check_frame(VMFRAME_ACK, "");
	ck_assert_uint_eq(n_answer, VMFRAME_HEAD_BYTES);
}

static void check_error(const char *what, const char *name, const char *why)
{
	char text[512];
	struct wr w = wr_of(text, sizeof text);

	wr_str(&w, what);
	wr_str(&w, name ? in_dir(name) : "");
	wr_str(&w, why);
	wr_nul(&w);
	check_frame(VMFRAME_ERR, text);
	ck_assert_uint_eq(n_answer, VMFRAME_HEAD_BYTES + w.n);
}

/* --- writing ------------------------------------------------------------------------------------
 */

START_TEST(writes_a_file)
{
	make_dir();
	begin();
	add(0x77, span_str("nobody knows this"));
	add_request(VMFRAME_WRITE_REQ, "/a/b/c", ",\"mode\":493,\"more\":[]");
	add(VMFRAME_DATA, span_str("some "));
	add(VMFRAME_DATA, span_of(NULL, 0));
	add(0x78, span_str("nor this"));
	add(VMFRAME_DATA, span_of("by\0tes", 6));
	add(VMFRAME_DONE, span_of(NULL, 0));
	serve(false);
	check_ack();
	check_file(in_dir("/a/b/c"), span_of("some by\0tes", 11), 0755);
	ck_assert_uint_eq(count_entries(in_dir("/a/b")), 1);
	remove_dir();
}
END_TEST

static void check_mode(const char *mode, mode_t expected)
{
	begin();
	add_request(VMFRAME_WRITE_REQ, "/m", mode);
	add(VMFRAME_DONE, span_of(NULL, 0));
	serve(false);
	check_ack();
	check_file(in_dir("/m"), span_of(NULL, 0), expected);
}

START_TEST(gives_the_mode_asked_for)
{
	make_dir();
	umask(077);
	check_mode("", 0644);
	check_mode(",\"mode\":0", 0644);
	check_mode(",\"mode\":null", 0644);
	check_mode(",\"mode\":384", 0600);
	check_mode(",\"mode\":3565", 06755);
	remove_dir();
}
END_TEST

START_TEST(replaces_what_is_there)
{
	make_dir();
	put_file(in_dir("/old"), "old");
	ck_assert_int_eq(symlink("old", in_dir("/link")), 0);
	begin();
	add_request(VMFRAME_WRITE_REQ, "/link", "");
	add(VMFRAME_DATA, span_str("new"));
	add(VMFRAME_DONE, span_of(NULL, 0));
	serve(false);
	check_ack();
	check_file(in_dir("/link"), span_str("new"), 0644);
	check_file(in_dir("/old"), span_str("old"), 0600);
	ck_assert_uint_eq(count_entries(dir), 2);
	remove_dir();
}
END_TEST

START_TEST(a_file_that_is_cut_does_not_appear)
{
	size_t whole;

	make_dir();
	put_file(in_dir("/f"), "old");
	begin();
	add_request(VMFRAME_WRITE_REQ, "/f", "");
	add(VMFRAME_DATA, span_str("new"));
	add(VMFRAME_DONE, span_of(NULL, 0));
	whole = out.n;
	for (out.n = 0; out.n < whole; out.n++) {
		serve(true);
		ck_assert_uint_eq(n_answer, 0);
		check_file(in_dir("/f"), span_str("old"), 0600);
		ck_assert_uint_eq(count_entries(dir), 1);
	}
	serve(true);
	check_ack();
	check_file(in_dir("/f"), span_str("new"), 0644);
	remove_dir();
}
END_TEST

START_TEST(what_was_left_behind_is_replaced)
{
	char name[64];
	struct wr w = wr_of(name, sizeof name);

	make_dir();
	wr_str(&w, "/.vm-agent.");
	wr_dec(&w, (uint64_t)getpid());
	wr_nul(&w);
	put_file(in_dir(name), "left behind by another of this number");
	check_mode("", 0644);
	ck_assert_uint_eq(count_entries(dir), 1);
	remove_dir();
}
END_TEST

START_TEST(says_why_it_cannot_write)
{
	make_dir();
	put_file(in_dir("/file"), "");
	ck_assert_int_eq(mkdir(in_dir("/dir"), 0755), 0);
	begin();
	add_request(VMFRAME_WRITE_REQ, "/dir", "");
	add(VMFRAME_DATA, span_str("x"));
	add(VMFRAME_DONE, span_of(NULL, 0));
	serve(true);
	check_error("cannot write ", "/dir", ": Is a directory");
	begin();
	add_request(VMFRAME_WRITE_REQ, "/file/x", "");
	add(VMFRAME_DATA, span_str("x"));
	add(VMFRAME_DONE, span_of(NULL, 0));
	serve(true);
	check_error("cannot write ", "/file/x", ": Not a directory");
	ck_assert_uint_eq(count_entries(dir), 2);
	remove_dir();
}
END_TEST

START_TEST(says_that_the_disk_is_full)
{
	static const uint8_t zeros[60000];
	const struct rlimit limit = {40000, RLIM_INFINITY};

	make_dir();
	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	begin();
	add_request(VMFRAME_WRITE_REQ, "/f", "");
	add(VMFRAME_DATA, span_of(zeros, sizeof zeros));
	add(VMFRAME_DATA, span_of(zeros, sizeof zeros));
	add(VMFRAME_DONE, span_of(NULL, 0));
	serve(true);
	check_error("cannot write ", "/f", ": File too large");
	ck_assert_uint_eq(count_entries(dir), 0);
	remove_dir();
}
END_TEST

START_TEST(a_file_has_a_limit)
{
	static uint8_t zeros[1 << 20];
	uint8_t head[VMFRAME_HEAD_BYTES];
	struct wr w = wr_of(head, sizeof head);
	int pair[2], status;
	pid_t peer;

	make_dir();
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	begin();
	add_request(VMFRAME_WRITE_REQ, "/f", "");
	vmframe_head_write(&w, VMFRAME_DATA, sizeof zeros);
	peer = fork();
	if (peer == 0) {
		close(pair[1]);
		send(pair[0], out.p, out.n, 0);
		for (int i = 0; i <= FILES_MAX_BYTES >> 20; i++)
			if (send(pair[0], head, sizeof head, MSG_NOSIGNAL) < 0 ||
			    send(pair[0], zeros, sizeof zeros, MSG_NOSIGNAL) < 0)
				_exit(2);
		shutdown(pair[0], SHUT_WR);
		_exit(recv(pair[0], answer, 1, 0) != 1 || answer[0] != VMFRAME_ERR);
	}
	close(pair[0]);
	files_serve(pair[1]);
	close(pair[1]);
	ck_assert_int_eq(waitpid(peer, &status, 0), peer);
	ck_assert_int_eq(status, 0);
	ck_assert_uint_eq(count_entries(dir), 0);
	remove_dir();
}
END_TEST

/* --- reading ------------------------------------------------------------------------------------
 */

/* The data of the answer, which must end with DONE, as one piece at the front of `answer`. */
static size_t join_data(void)
{
	struct span in = span_of(answer, n_answer);
	size_t n = 0, used;
	struct vmframe f;

	while (vmframe_read(in, &f, &used) == E_OK && f.type == VMFRAME_DATA) {
		memmove(answer + n, f.payload.p, f.payload.n);
		n += f.payload.n;
		in = span_from(in, used);
	}
	ck_assert_uint_eq(f.type, VMFRAME_DONE);
	ck_assert_uint_eq(in.n, VMFRAME_HEAD_BYTES);
	return n;
}

START_TEST(reads_a_file)
{
	static char text[100001];

	make_dir();
	for (size_t i = 0; i < sizeof text - 1; i++)
		text[i] = (char)('a' + i % 23);
	put_file(in_dir("/f"), text);
	begin();
	add_request(VMFRAME_READ_REQ, "/f", "");
	serve(false);
	ck_assert_uint_eq(join_data(), sizeof text - 1);
	ck_assert_mem_eq(answer, text, sizeof text - 1);
	put_file(in_dir("/empty"), "");
	begin();
	add_request(VMFRAME_READ_REQ, "/empty", "");
	serve(false);
	ck_assert_uint_eq(join_data(), 0);
	remove_dir();
}
END_TEST

START_TEST(reads_files_whose_size_nobody_knows)
{
	begin();
	add(VMFRAME_READ_REQ, span_str("{\"path\":\"/proc/self/status\"}"));
	serve(false);
	ck_assert_uint_gt(join_data(), 100);
	ck_assert_int_eq(strncmp((char *)answer, "Name:", 5), 0);
}
END_TEST

START_TEST(says_why_it_cannot_read)
{
	static const struct {
		const char *name, *why;
	} rows[] = {
	    {"/nothing", ": No such file or directory"},
	    {"/dir", ": Is a directory"},
	    {"/fifo", ": Invalid argument"},
	    {"/loop", ": Too many levels of symbolic links"},
	    {"/large", ": File too large"},
	};
	int fd;

	make_dir();
	ck_assert_int_eq(mkdir(in_dir("/dir"), 0755), 0);
	ck_assert_int_eq(mkfifo(in_dir("/fifo"), 0644), 0);
	ck_assert_int_eq(symlink("loop", in_dir("/loop")), 0);
	fd = open(in_dir("/large"), O_WRONLY | O_CREAT, 0600);
	ck_assert_int_eq(ftruncate(fd, FILES_MAX_BYTES + 1), 0);
	close(fd);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		begin();
		add_request(VMFRAME_READ_REQ, rows[i].name, "");
		serve(true);
		check_error("cannot read ", rows[i].name, rows[i].why);
	}
	remove_dir();
}
END_TEST

START_TEST(a_peer_that_is_gone_ends_the_reading)
{
	int pair[2];
	int fd;

	make_dir();
	fd = open(in_dir("/large"), O_WRONLY | O_CREAT, 0600);
	ck_assert_int_eq(ftruncate(fd, FILES_MAX_BYTES), 0);
	close(fd);
	begin();
	add_request(VMFRAME_READ_REQ, "/large", "");
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	ck_assert_int_eq((int)send(pair[0], out.p, out.n, MSG_NOSIGNAL), (int)out.n);
	close(pair[0]);
	files_serve(pair[1]); /* which comes back */
	close(pair[1]);
	remove_dir();
}
END_TEST

/* --- requests that are none ----------------------------------------------------------------------
 */

static void check_refused(struct span payload)
{
	begin();
	add(VMFRAME_WRITE_REQ, payload);
	serve(true);
	check_error("request is not understood", NULL, ": it is no JSON with an absolute path");
}

START_TEST(refuses_what_is_no_request)
{
	static const char *const texts[] = {"", "{}", "[]", "{\"path\":1}", "{\"path\":\"x\"}",
	    "{\"path\":\"\"}", "{\"path\":\"/x\",\"mode\":4096}",
	    "{\"path\":\"/x\",\"mode\":\"r\"}", "{\"path\":\"/x\\u0000\"}", "{\"path\":\"/x\"",
	    "{\"path\":\"/x\"}}"};
	static char large[9000];

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		check_refused(span_str(texts[i]));
	memset(large, ' ', sizeof large);
	check_refused(span_of(large, sizeof large));
	begin();
	wr_u8(&out, VMFRAME_READ_REQ);
	wr_u32le(&out, VMFRAME_PAYLOAD_MAX + 1);
	serve(false); /* hung up on */
	ck_assert_uint_eq(n_answer, 0);
	begin();
	add(VMFRAME_DATA, span_str("x"));
	serve(true);
	ck_assert_uint_eq(n_answer, 0);
}
END_TEST

/* --- faults -------------------------------------------------------------------------------------
 */

static void check_fault(const char *call)
{
	begin();
	add_request(VMFRAME_WRITE_REQ, "/f", "");
	add(VMFRAME_DATA, span_str("new"));
	add(VMFRAME_DONE, span_of(NULL, 0));
	FAULT_EACH(call, ENOSPC)
	{
		serve(true);
		if (n_answer == 0 || answer[0] == VMFRAME_ACK)
			continue; /* it is the answer that failed, or nothing did */
		check_file(in_dir("/f"), span_str("old"), 0600);
		ck_assert_uint_eq(count_entries(dir), 1);
	}
	check_file(in_dir("/f"), span_str("new"), 0644);
	put_file(in_dir("/f"), "old");
	chmod(in_dir("/f"), 0600);
}

START_TEST(a_failing_call_leaves_the_old_file)
{
	make_dir();
	put_file(in_dir("/f"), "old");
	check_fault("read");
	check_fault("write");
	check_fault("fsync");
	check_fault("rename");
	remove_dir();
}
END_TEST

/* --- the server ----------------------------------------------------------------------------------
 */

static struct files files;

static int connect_to_files(void)
{
	int pair[2];

	ck_assert_int_eq(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	files_accept(&files, pair[1]);
	return pair[0];
}

static void exchange(int fd)
{
	uint64_t end = clock_mono_ns() + 20 * NS_PER_SEC;
	ssize_t n = -1;

	n_answer = 0;
	while (n != 0) {
		ck_assert_uint_lt(clock_mono_ns(), end);
		ck_assert_int_eq(loop_turn(&loop, 10), 0);
		n = recv(fd, answer + n_answer, sizeof answer - n_answer, MSG_DONTWAIT);
		n_answer += n > 0 ? (size_t)n : 0;
	}
	close(fd);
}

static bool nobody_works(void *ctx)
{
	(void)ctx;
	for (size_t i = 0; i < FILES_WORKERS; i++)
		if (files.workers[i].running)
			return false;
	return true;
}

START_TEST(serves_so_many_at_once)
{
	int peers[FILES_WORKERS];

	case_start();
	files_init(&files, &reaper);
	for (size_t i = 0; i < FILES_WORKERS; i++)
		peers[i] = connect_to_files();
	exchange(connect_to_files());
	check_error("cannot serve", NULL, ": too many at once");
	for (size_t i = 0; i < FILES_WORKERS; i++) {
		begin();
		add(VMFRAME_READ_REQ, span_str("{\"path\":\"/etc/passwd\"}"));
		ck_assert_int_eq((int)send(peers[i], out.p, out.n, MSG_NOSIGNAL), (int)out.n);
		exchange(peers[i]);
		ck_assert_uint_gt(join_data(), 0);
	}
	case_turn_until(nobody_works, NULL);
	close(connect_to_files()); /* one that leaves */
	case_turn_until(nobody_works, NULL);
	case_end();
}
END_TEST

START_TEST(says_that_there_can_be_no_worker)
{
	case_start();
	files_init(&files, &reaper);
	FAULT_EACH("fork", EAGAIN)
	{
		int fd = connect_to_files();

		if (nobody_works(NULL)) {
			exchange(fd);
			check_error("cannot serve", NULL, ": Resource temporarily unavailable");
		} else {
			close(fd);
			case_turn_until(nobody_works, NULL);
		}
	}
	case_end();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    writes_a_file,
	    gives_the_mode_asked_for,
	    replaces_what_is_there,
	    a_file_that_is_cut_does_not_appear,
	    what_was_left_behind_is_replaced,
	    says_why_it_cannot_write,
	    says_that_the_disk_is_full,
	    a_file_has_a_limit,
	    reads_a_file,
	    reads_files_whose_size_nobody_knows,
	    says_why_it_cannot_read,
	    a_peer_that_is_gone_ends_the_reading,
	    refuses_what_is_no_request,
	    a_failing_call_leaves_the_old_file,
	    serves_so_many_at_once,
	    says_that_there_can_be_no_worker,
	    NULL,
	};

	return suite_of("files", tests);
}
