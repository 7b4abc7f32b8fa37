/* floor_rpc PATH - the least that an RPC server has to do: a read and a write for each ping, which
 * is not looked at. */
#include "bench.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

enum { EVENTS = 64, REQUEST_BYTES = 4096 };

/* PingResponse{message: "pong: ping", version: "0.1.0"}, as the agent answers load_rpc. */
static const uint8_t pong[] = "\0\0\0\31\0\0\20\1\0\0"
			      "\12\12pong: ping\22\0050.1.0";
enum { PONG_BYTES = sizeof pong - 1 };

static void serve(int fd)
{
	uint8_t request[REQUEST_BYTES];
	ssize_t n = read(fd, request, sizeof request);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0 || write(fd, pong, PONG_BYTES) < 0)
		close(fd);
}

int main(int argc, char **argv)
{
	struct epoll_event events[EVENTS];
	int epfd, listener;

	need_args(argc, argv, 1, "PATH");
	signal(SIGPIPE, SIG_IGN); /* a peer may be gone */
	listener = unix_listen(argv[1]);
	epfd = must("epoll_create1", epoll_create1(0));
	watch_fd(epfd, listener, EPOLLIN);
	for (;;) {
		int n = must("epoll_wait", epoll_wait(epfd, events, EVENTS, -1));

		for (int i = 0; i < n; i++) {
			if (events[i].data.fd != listener)
				serve(events[i].data.fd);
			else
				watch_fd(epfd,
				    must("accept4", accept4(listener, NULL, NULL, SOCK_NONBLOCK)),
				    EPOLLIN);
		}
	}
}
