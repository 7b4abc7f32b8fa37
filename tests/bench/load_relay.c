/* load_relay TO FROM MILLISECONDS - listens at FROM for what a relay brings of that which this
 * writes to TO, and prints `bytes N seconds S`. */
#include "bench.h"
#include "sys/clock.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

enum { PIECE_BYTES = 128 * 1024, PATIENCE_MS = 5000 };

static int accept_one(int listener)
{
	struct pollfd p = {.fd = listener, .events = POLLIN};

	if (must("poll", poll(&p, 1, PATIENCE_MS)) == 0) {
		fputs("load_relay: the relay does not connect\n", stderr);
		exit(EXIT_FAILURE);
	}
	return must("accept4", accept4(listener, NULL, NULL, SOCK_NONBLOCK));
}

static size_t moved(const char *what, ssize_t n)
{
	if (n < 0 && errno == EAGAIN)
		return 0;
	must(what, n < 0 ? -1 : 0);
	return (size_t)n;
}

/* Waits, then writes and reads once where that goes. False at the end of what comes. */
static bool step(struct pollfd p[2], uint64_t *written, uint64_t *read_bytes)
{
	static uint8_t piece[PIECE_BYTES];
	size_t n;

	if (must("poll", poll(p, 2, PATIENCE_MS)) == 0) {
		fputs("load_relay: nothing moves\n", stderr);
		exit(EXIT_FAILURE);
	}
	if (p[0].revents & POLLOUT)
		*written += moved("write", write(p[0].fd, piece, sizeof piece));
	if (!p[1].revents)
		return true;
	n = moved("read", read(p[1].fd, piece, sizeof piece));
	*read_bytes += n;
	return n > 0;
}

int main(int argc, char **argv)
{
	struct pollfd p[2] = {{.events = POLLOUT}, {.events = POLLIN}};
	uint64_t written = 0, read_bytes = 0, begin, end, now;
	int listener;

	need_args(argc, argv, 3, "TO FROM MILLISECONDS");
	listener = unix_listen(argv[2]);
	p[0].fd = unix_connect(argv[1]);
	p[1].fd = accept_one(listener);
	begin = now = clock_mono_ns();
	end = begin + number_arg(argv, 3, 60000) * NS_PER_MS;
	for (; now < end; now = clock_mono_ns())
		step(p, &written, &read_bytes);
	must("shutdown", shutdown(p[0].fd, SHUT_WR));
	p[0].fd = -1; /* poll() leaves it out */
	while (step(p, &written, &read_bytes))
		continue;
	now = clock_mono_ns();
	if (read_bytes != written) {
		fputs("load_relay: bytes are missing\n", stderr);
		return EXIT_FAILURE;
	}
	printf("bytes %llu seconds %.6f\n", (unsigned long long)read_bytes,
	    (double)(now - begin) / 1e9);
}
