/* streams - the guest's ends of the streams of test_bridge.py: the kernel starts it as /init.
 *
 * It answers the host on vsock port 7000, in a process for each connection: one line, a verb and
 * numbers, says what is to happen on the stream. The bytes of a test are a pattern with a period of
 * PERIOD bytes, so that any of them is known by its place. */
#include "sys/module.h"

#include <errno.h>
#include <linux/vm_sockets.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PORT = 7000, BACKLOG = 1024, PERIOD = 65521, CHUNK = 256 * 1024, NUMBERS = 3 };

#define LOAD_LIST "/lib/modules/load.list"

static unsigned char pattern[PERIOD + CHUNK];

static void make_pattern(void)
{
	for (size_t i = 0; i < sizeof pattern; i++)
		pattern[i] = (unsigned char)(i % PERIOD * 167 >> 3);
}

static bool write_all(int fd, const void *bytes, size_t n)
{
	while (n) {
		ssize_t done = write(fd, bytes, n);

		if (done < 0)
			return false;
		bytes = (const char *)bytes + done;
		n -= (size_t)done;
	}
	return true;
}

static bool send_pattern(int fd, unsigned long long bytes)
{
	unsigned long long at = 0;

	while (at < bytes) {
		size_t n = bytes - at < CHUNK ? (size_t)(bytes - at) : CHUNK;

		if (!write_all(fd, pattern + at % PERIOD, n))
			return false;
		at += n;
	}
	return true;
}

/* Reads `bytes` bytes, or up to the end, and says how many came before the first wrong one. */
static unsigned long long receive_pattern(int fd, unsigned long long bytes)
{
	static unsigned char chunk[CHUNK];
	unsigned long long at = 0;

	while (at < bytes) {
		size_t most = bytes - at < CHUNK ? (size_t)(bytes - at) : CHUNK;
		ssize_t n = read(fd, chunk, most);

		if (n <= 0 || memcmp(chunk, pattern + at % PERIOD, (size_t)n) != 0)
			break;
		at += (unsigned long long)n;
	}
	return at;
}

static void say(int fd, const char *word, unsigned long long number)
{
	char line[64];

	write_all(fd, line, (size_t)snprintf(line, sizeof line, "%s %llu\n", word, number));
}

/* --- verbs ------------------------------------------------------------------------------------ */

/* exchange N: sends N bytes of the pattern, and meanwhile reads it up to the end; then says how
 * much came. */
static void verb_exchange(int fd, const unsigned long long *number)
{
	unsigned long long came;
	pid_t sender = fork();

	if (sender == 0)
		_exit(!send_pattern(fd, number[0]));
	came = receive_pattern(fd, ~0ull);
	waitpid(sender, NULL, 0);
	say(fd, "received", came);
}

static void verb_echo(int fd, const unsigned long long *number)
{
	char bytes[4096];
	ssize_t n;

	(void)number;
	while ((n = read(fd, bytes, sizeof bytes)) > 0 && write_all(fd, bytes, (size_t)n))
		;
}

/* send N: sends without reading, ends its half, and says how the other half ended. */
static void verb_send(int fd, const unsigned long long *number)
{
	if (send_pattern(fd, number[0]))
		shutdown(fd, SHUT_WR);
	receive_pattern(fd, ~0ull);
}

/* leave N: reads N bytes and goes away. */
static void verb_leave(int fd, const unsigned long long *number)
{
	receive_pattern(fd, number[0]);
}

/* late MS: reads after that time, and says how much came. */
static void verb_late(int fd, const unsigned long long *number)
{
	usleep((useconds_t)(number[0] * 1000));
	say(fd, "received", receive_pattern(fd, ~0ull));
}

/* held: reads when another stream says `go`, and says how much came. */
static void verb_held(int fd, const unsigned long long *number)
{
	(void)number;
	while (unlink("/go") < 0)
		usleep(10000);
	say(fd, "received", receive_pattern(fd, ~0ull));
}

static void verb_go(int fd, const unsigned long long *number)
{
	FILE *f = fopen("/go", "we");

	(void)number;
	say(fd, "errno", f ? 0 : (unsigned long long)errno);
	if (f)
		fclose(f);
}

/* watch: waits in the kernel's memory for what a writer hears when its reader has gone: how many
 * bytes it could send, and the errno. */
static void verb_watch(int fd, const unsigned long long *number)
{
	static unsigned long long last[2];
	unsigned long long sent = 0;
	FILE *f;

	if (number[0]) { /* watch 1: what was the last one's end? */
		f = fopen("/watch", "re");
		if (f && fscanf(f, "%llu %llu", &last[0], &last[1]) == 2)
			say(fd, "errno", last[1]);
		return;
	}
	errno = 0;
	while (write_all(fd, pattern, PERIOD))
		sent += PERIOD;
	f = fopen("/watch", "we");
	if (f) {
		fprintf(f, "%llu %d\n", sent, errno);
		fclose(f);
	}
}

/* call PORT N [CID]: connects to the host, or another, and exchanges N bytes with it; says what
 * came of it. */
static void verb_call(int fd, const unsigned long long *number)
{
	const struct sockaddr_vm to = {
	    .svm_family = AF_VSOCK,
	    .svm_cid = number[2] ? (unsigned)number[2] : VMADDR_CID_HOST,
	    .svm_port = (unsigned)number[0],
	};
	int peer = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unsigned long long came;

	if (peer < 0 || connect(peer, (const struct sockaddr *)&to, sizeof to) < 0) {
		say(fd, "errno", (unsigned long long)errno);
		return;
	}
	send_pattern(peer, number[1]);
	shutdown(peer, SHUT_WR);
	came = receive_pattern(peer, ~0ull);
	close(peer);
	say(fd, "received", came);
}

static const struct {
	const char *name;
	void (*run)(int fd, const unsigned long long *number);
} verbs[] = {
    {"exchange", verb_exchange},
    {"echo", verb_echo},
    {"send", verb_send},
    {"leave", verb_leave},
    {"late", verb_late},
    {"held", verb_held},
    {"go", verb_go},
    {"watch", verb_watch},
    {"call", verb_call},
};

/* --- the server ------------------------------------------------------------------------------- */

/* Byte by byte: what follows the line belongs to the verb. */
static bool read_line(int fd, char *line, size_t cap)
{
	for (size_t n = 0; n + 1 < cap; n++) {
		if (read(fd, line + n, 1) <= 0)
			return false;
		if (line[n] == '\n') {
			line[n] = '\0';
			return true;
		}
	}
	return false;
}

static void handle(int fd)
{
	unsigned long long number[NUMBERS] = {0};
	char line[128], name[16];

	if (!read_line(fd, line, sizeof line) ||
	    sscanf(line, "%15s %llu %llu %llu", name, &number[0], &number[1], &number[2]) < 1)
		return;
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
		if (strcmp(verbs[i].name, name) == 0)
			verbs[i].run(fd, number);
}

static void load_modules(void)
{
	FILE *list = fopen(LOAD_LIST, "re");
	char path[512];

	while (list && fgets(path, sizeof path, list)) {
		path[strcspn(path, "\n")] = '\0';
		if (module_load_file(path) < 0)
			fprintf(stderr, "streams: cannot load %s\n", path);
	}
	if (list)
		fclose(list);
}

static int listen_vsock(void)
{
	const struct sockaddr_vm at = {
	    .svm_family = AF_VSOCK,
	    .svm_cid = VMADDR_CID_ANY,
	    .svm_port = PORT,
	};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&at, sizeof at) < 0 ||
	    listen(fd, BACKLOG) < 0)
		return -1;
	return fd;
}

int main(void)
{
	int listener;

	load_modules();
	make_pattern();
	signal(SIGPIPE, SIG_IGN);
	listener = listen_vsock();
	while (listener >= 0) {
		int fd;

		signal(SIGCHLD, SIG_IGN);
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0 && fork() == 0) {
			signal(SIGCHLD, SIG_DFL);
			close(listener);
			handle(fd);
			_exit(0);
		}
		if (fd >= 0)
			close(fd);
	}
	perror("streams: vsock");
	return 1;
}
