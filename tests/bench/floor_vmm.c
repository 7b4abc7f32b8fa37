/* floor_vmm --api-sock PATH --id ID [OPTION VALUE]... - the least that a Firecracker with a guest
 * has to do: each request is answered by 204 at once, and each command by one byte of output and
 * its end. Appends `ID EVENT NS` to the file BENCH_EVENTS, NS being CLOCK_REALTIME: "started" when
 * InstanceStart came, "told" when the START of a command did. */
#include "bench.h"
#include "codec/vmframe.h"
#include "sys/clock.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

enum { REQUEST_BYTES = 8192, PATH_BYTES = 108 };

static const char *id;
static int events_fd;

/* One write, so that the lines of many do not mix. */
static void note(const char *event)
{
	char line[256];
	int n = snprintf(line, sizeof line, "%s %s %lld\n", id, event, (long long)clock_real_ns());

	must("write", write(events_fd, line, (size_t)n) == n ? 0 : -1);
}

/* Reads until `is_whole` says so. False when the peer has closed. */
static bool receive(int fd, char *buf, size_t *n, bool (*is_whole)(const char *buf, size_t n))
{
	while (!is_whole(buf, *n)) {
		ssize_t got = read(fd, buf + *n, REQUEST_BYTES - 1 - *n);

		if (got <= 0)
			return false;
		*n += (size_t)got;
		buf[*n] = '\0';
	}
	return true;
}

/* --- the API ---------------------------------------------------------------------------------- */

static bool is_request(const char *buf, size_t n)
{
	const char *body = n ? strstr(buf, "\r\n\r\n") : NULL;
	const char *length = body ? strstr(buf, "Content-Length: ") : NULL;

	return body && (!length || body + 4 + strtoul(length + 16, NULL, 10) <= buf + n);
}

/* The vsock's listener, once its path was told; else -1. */
static int vsock_of(const char *request)
{
	const char *at = strstr(request, "\"uds_path\":\"");
	char path[PATH_BYTES];

	if (!at || sscanf(at + 12, "%107[^\"]", path) != 1)
		return -1;
	return unix_listen(path);
}

static int accept_from(int listener)
{
	return must("accept4", accept4(listener, NULL, NULL, SOCK_CLOEXEC));
}

static void serve_api(int listener, int *vsock)
{
	static const char done[] = "HTTP/1.1 204 \r\nConnection: close\r\n\r\n";
	char request[REQUEST_BYTES] = "";
	int fd = accept_from(listener);
	size_t n = 0;

	if (receive(fd, request, &n, is_request)) {
		if (strstr(request, "InstanceStart"))
			note("started");
		if (*vsock < 0)
			*vsock = vsock_of(request);
		must("write", write(fd, done, sizeof done - 1) < 0 ? -1 : 0);
	}
	close(fd);
}

/* --- the guest -------------------------------------------------------------------------------- */

static bool is_line(const char *buf, size_t n)
{
	return memchr(buf, '\n', n) != NULL;
}

static bool is_frame(const char *buf, size_t n)
{
	size_t need = vmframe_need(span_of(buf, n));

	return need && n >= need;
}

/* The line CONNECT and the frame START never come in one piece: OK is waited for in between. */
static void serve_command(int listener)
{
	char request[REQUEST_BYTES];
	uint8_t answer[64];
	struct wr w = wr_of(answer, sizeof answer);
	int fd = accept_from(listener);
	size_t n = 0;

	if (receive(fd, request, &n, is_line)) {
		must("write", write(fd, "OK 1\n", 5) < 0 ? -1 : 0);
		n = 0;
		if (receive(fd, request, &n, is_frame)) {
			note("told");
			vmframe_write(&w, VMFRAME_STDOUT, span_str("x"));
			vmframe_exit_write(&w, 0);
			must("write", write(fd, w.p, w.n) < 0 ? -1 : 0);
		}
	}
	close(fd);
}

static const char *option(int argc, char **argv, const char *name)
{
	for (int i = 1; i + 1 < argc; i++)
		if (strcmp(argv[i], name) == 0)
			return argv[i + 1];
	fprintf(stderr, "%s: no %s\n", argv[0], name);
	exit(2);
}

int main(int argc, char **argv)
{
	const char *events = getenv("BENCH_EVENTS");
	struct pollfd sources[] = {{.events = POLLIN}, {.fd = -1, .events = POLLIN}};

	id = option(argc, argv, "--id");
	events_fd =
	    must("BENCH_EVENTS", events ? open(events, O_WRONLY | O_APPEND | O_CLOEXEC) : -1);
	sources[0].fd = unix_listen(option(argc, argv, "--api-sock"));
	for (;;) {
		must("poll", poll(sources, 2, -1));
		if (sources[0].revents)
			serve_api(sources[0].fd, &sources[1].fd);
		if (sources[1].revents)
			serve_command(sources[1].fd);
	}
}
