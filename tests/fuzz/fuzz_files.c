/* What a host sends behind a request to write a file, or to read one; the first byte of an input
 * says which. */
#include "fuzz.h"

#include "codec/vmframe.h"
#include "session/files.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { INPUT_BYTES = 64 * 1024, WRITE = 0xff };

static char dir[] = "/dev/shm/fuzz_files.XXXXXX";
static char path[64];

static void remove_dir(void)
{
	unlink(path);
	rmdir(dir); /* which is not empty if anything was left there */
}

static void start(void)
{
	struct wr w = wr_of(path, sizeof path);

	signal(SIGPIPE, SIG_IGN);
	if (!mkdtemp(dir))
		abort();
	wr_str(&w, dir);
	wr_str(&w, "/f");
	wr_nul(&w);
	atexit(remove_dir);
}

static void put_request(struct wr *w, enum vmframe_type type)
{
	char text[128];
	struct wr json = wr_of(text, sizeof text);

	wr_str(&json, "{\"path\":\"");
	wr_str(&json, path);
	wr_str(&json, "\"}");
	vmframe_write(w, (uint8_t)type, wr_span(&json));
}

static void send_all(int fd, struct span s)
{
	if (send(fd, s.p, s.n, MSG_NOSIGNAL) != (ssize_t)s.n)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	uint8_t frame[256];
	struct wr request = wr_of(frame, sizeof frame);
	int pair[2];

	if (!path[0])
		start();
	if (n == 0 || n > INPUT_BYTES ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return 0;
	put_request(&request, data[0] == WRITE ? VMFRAME_WRITE_REQ : VMFRAME_READ_REQ);
	send_all(pair[0], wr_span(&request));
	send_all(pair[0], span_of(data + 1, n - 1));
	shutdown(pair[0], SHUT_WR);
	files_serve(pair[1]);
	close(pair[0]);
	close(pair[1]);
	return 0;
}
