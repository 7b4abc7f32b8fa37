#include "host.h"

#include "base/cursor.h"
#include "base/log.h"
#include "base/parse.h"
#include "sys/timer.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* A program that has connected. Its line stays in the socket until it is whole, so that what
 * follows is left for the guest; the source is edge-triggered for that. */
struct caller {
	struct host *host;
	struct link link;
	struct source source;
	struct timer deadline;
};

static void free_caller(struct source *s)
{
	free(container_of(s, struct caller, source));
}

/* Forgets the caller; its fd is handed back. */
static int detach(struct caller *c)
{
	timer_at(&c->deadline, 0);
	list_remove(&c->link);
	c->host->n_callers--;
	return source_detach(&c->source);
}

static void hang_up(struct caller *c)
{
	close(detach(c));
}

static void on_deadline(struct timer *t)
{
	hang_up(container_of(t, struct caller, deadline));
}

/* Reads `CONNECT <port>`, without its end. */
static enum err parse_line(struct span line, uint32_t *port)
{
	const struct span verb = SPAN_LIT("CONNECT ");
	uint64_t number;
	enum err err;

	if (!span_starts(line, verb))
		return E_MALFORMED;
	err = parse_u64(span_from(line, verb.n), 0, VMADDR_PORT_ANY - 1, &number);
	if (!err)
		*port = (uint32_t)number;
	return err;
}

/* Takes the line out of the socket, and not a byte behind it. 1 with *port set; 0 when it has not
 * come whole; or -errno, -EPROTO for what is no such line. */
static int take_line(int fd, uint32_t *port)
{
	char bytes[HOST_LINE_BYTES];
	ssize_t n = recv(fd, bytes, sizeof bytes, MSG_PEEK);
	size_t end;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	end = span_find(span_of(bytes, (size_t)n), '\n');
	if (end == (size_t)n)
		return n == 0 ? -ECONNRESET : n == sizeof bytes ? -EPROTO : 0;
	if (parse_line(span_of(bytes, end), port))
		return -EPROTO;
	return recv(fd, bytes, end + 1, 0) == (ssize_t)end + 1 ? 1 : -EIO;
}

static int on_line(struct source *s, uint32_t events)
{
	struct caller *c = container_of(s, struct caller, source);
	struct vsock *v = c->host->vsock;
	uint32_t port = 0;
	int rc = take_line(s->fd, &port);
	int fd;

	if (rc == 0 && !(events & (EPOLLRDHUP | EPOLLHUP)))
		return 0;
	fd = detach(c);
	if (rc > 0)
		rc = vsock_connect(v, fd, port);
	else if (rc == 0)
		rc = -ECONNRESET;
	if (rc < 0) {
		close(fd);
		log_info("host", "a program of the host was not connected", KV_ERR(rc));
	}
	return 0;
}

void host_init(
    struct host *h, struct loop *l, struct vsock *v, const char *path, unsigned max_callers)
{
	*h = (struct host){.loop = l, .vsock = v, .path = path, .max_callers = max_callers};
	list_init(&h->callers);
}

void host_done(struct host *h)
{
	struct link *node;

	while ((node = list_first(&h->callers)))
		hang_up(container_of(node, struct caller, link));
}

static int admit(struct host *h, int fd)
{
	struct caller *c;
	int rc;

	if (h->n_callers >= h->max_callers)
		return -ENOSPC;
	c = calloc(1, sizeof *c);
	if (!c)
		return -ENOMEM;
	c->host = h;
	c->source = (struct source){.fn = on_line, .done = free_caller, .name = "caller", .fd = -1};
	rc = source_add(h->loop, &c->source, fd, EPOLLIN | EPOLLRDHUP | EPOLLET);
	if (rc < 0) {
		free(c);
		return rc;
	}
	list_append(&h->callers, &c->link);
	h->n_callers++;
	timer_init(&c->deadline, h->loop, on_deadline);
	timer_at(&c->deadline, clock_mono_ns() + HOST_LINE_MS * NS_PER_MS);
	return 0;
}

void host_call(struct host *h, int fd)
{
	int rc = admit(h, fd);

	if (rc == 0)
		return;
	close(fd);
	log_warn("host", "a program of the host was turned away", KV_ERR(rc));
}

int host_dial(const struct host *h, uint32_t port)
{
	char path[sizeof(struct sockaddr_un)];
	struct wr w = wr_of(path, sizeof path);
	struct addr a;

	wr_str(&w, h->path);
	wr_u8(&w, '_');
	wr_dec(&w, port);
	wr_nul(&w);
	if (w.err || addr_unix(path, &a))
		return -ENAMETOOLONG;
	return sock_connect(&a);
}
