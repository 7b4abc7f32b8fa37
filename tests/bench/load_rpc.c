/* load_rpc PATH MILLISECONDS CONNECTIONS - pings over so many connections, each with one request
 * under way, and prints `answers N seconds S`. */
#include "bench.h"
#include "codec/frame.h"
#include "codec/messages.h"
#include "sys/clock.h"

#include <unistd.h>

enum { MAX_CONNECTIONS = 1024, EVENTS = 64, ANSWER_BYTES = 256 };

static void ask(int fd)
{
	must("write", write(fd, ping_request, sizeof ping_request) == sizeof ping_request ? 0 : -1);
}

/* A small answer comes in one piece. */
static void take(int fd)
{
	uint8_t answer[ANSWER_BYTES];
	ssize_t n = read(fd, answer, sizeof answer);
	struct frame f;
	size_t used;

	if (n > 0 && frame_read(span_of(answer, (size_t)n), ANSWER_BYTES, &f, &used) == E_OK &&
	    f.type == RPC_PING_RESPONSE)
		return;
	fputs("load_rpc: not the answer that was expected\n", stderr);
	exit(EXIT_FAILURE);
}

int main(int argc, char **argv)
{
	struct epoll_event events[EVENTS];
	uint64_t begin, end, now, answers = 0;
	int epfd = must("epoll_create1", epoll_create1(0));

	need_args(argc, argv, 3, "PATH MILLISECONDS CONNECTIONS");
	begin = now = clock_mono_ns();
	end = begin + number_arg(argv, 2, 60000) * NS_PER_MS;
	for (unsigned i = number_arg(argv, 3, MAX_CONNECTIONS); i > 0; i--) {
		int fd = unix_connect(argv[1]);

		watch_fd(epfd, fd, EPOLLIN);
		ask(fd);
	}
	for (; now < end; now = clock_mono_ns()) {
		int n = must("epoll_wait", epoll_wait(epfd, events, EVENTS, -1));

		for (int i = 0; i < n; i++) {
			take(events[i].data.fd);
			ask(events[i].data.fd);
		}
		answers += (unsigned)n;
	}
	printf("answers %llu seconds %.6f\n", (unsigned long long)answers,
	    (double)(now - begin) / 1e9);
}
