/* floor_relay FROM TO - the least that a relay between unix sockets has to do: two splices through
 * a pipe for what has come. One connection at a time. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

enum { PIPE_BYTES = 256 * 1024 };

/* One direction. */
struct flow {
	int src, dst;
	int pipe[2];
	size_t n; /* bytes in the pipe */
	bool eof;
};

static struct flow flow_of(int src, int dst)
{
	struct flow f = {.src = src, .dst = dst};

	must("pipe2", pipe2(f.pipe, O_NONBLOCK));
	fcntl(f.pipe[1], F_SETPIPE_SZ, PIPE_BYTES);
	return f;
}

/* Fills the empty pipe. Whether there is something in it. */
static bool receive(struct flow *f)
{
	ssize_t n;

	if (f->n || f->eof)
		return f->n > 0;
	n = splice(f->src, NULL, f->pipe[1], NULL, PIPE_BYTES, SPLICE_F_NONBLOCK);
	if (n > 0)
		f->n = (size_t)n;
	f->eof = n == 0 || (n < 0 && errno != EAGAIN);
	if (f->eof)
		shutdown(f->dst, SHUT_WR);
	return n > 0;
}

/* Moves what can be moved. */
static void pump(struct flow *f)
{
	while (receive(f)) {
		ssize_t n = splice(f->pipe[0], NULL, f->dst, NULL, f->n, SPLICE_F_NONBLOCK);

		if (n < 0 && errno == EAGAIN)
			return;
		f->eof |= n < 0;
		f->n = n < 0 ? 0 : f->n - (size_t)n;
	}
}

static void close_flow(const struct flow *f)
{
	close(f->src);
	close(f->pipe[0]);
	close(f->pipe[1]);
}

static void relay(int client, int backend)
{
	struct flow up = flow_of(client, backend), down = flow_of(backend, client);
	int epfd = must("epoll_create1", epoll_create1(0));

	watch_fd(epfd, client, EPOLLIN | EPOLLOUT | EPOLLET);
	watch_fd(epfd, backend, EPOLLIN | EPOLLOUT | EPOLLET);
	while (!up.eof || !down.eof || up.n || down.n) {
		struct epoll_event ev;
		bool of_client;

		must("epoll_wait", epoll_wait(epfd, &ev, 1, -1));
		of_client = ev.data.fd == client;
		if (ev.events & ~(uint32_t)EPOLLOUT)
			pump(of_client ? &up : &down);
		if (ev.events & ~(uint32_t)EPOLLIN)
			pump(of_client ? &down : &up);
	}
	close_flow(&up);
	close_flow(&down);
	close(epfd);
}

int main(int argc, char **argv)
{
	int listener;

	need_args(argc, argv, 2, "FROM TO");
	signal(SIGPIPE, SIG_IGN); /* a peer may be gone */
	listener = unix_listen(argv[1]);
	must("fcntl", fcntl(listener, F_SETFL, 0));
	for (;;) {
		int client = must("accept4", accept4(listener, NULL, NULL, SOCK_NONBLOCK));

		relay(client, unix_connect(argv[2]));
	}
}
