#include "sandbox/guest_port.h"

#include "base/container.h"
#include "base/cursor.h"
#include "sys/sock.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

/* The source, if there is one, has the last word: its memory is the caller's, too. */
static void end(struct guest_port *p, int result)
{
	bool has_source = p->source.fd >= 0 || p->source.dead;

	p->over = true;
	p->result = result;
	timer_at(&p->timer, 0);
	source_remove(&p->source);
	if (!has_source)
		p->fn(p, result);
}

static void source_gone(struct source *s)
{
	struct guest_port *p = container_of(s, struct guest_port, source);

	if (p->over)
		p->fn(p, p->result);
}

static void try_again_later(struct guest_port *p)
{
	uint64_t at_ns = p->loop->now_ns + GUEST_PORT_RETRY_MS * NS_PER_MS;

	source_remove(&p->source);
	timer_at(&p->timer, at_ns < p->give_up_ns ? at_ns : p->give_up_ns);
}

/* --- one try ---------------------------------------------------------------------------------- */

/* A fresh socket's buffer has room for that. 0 or -errno. */
static int ask(struct guest_port *p)
{
	char text[32];
	struct wr w = wr_of(text, sizeof text);
	ssize_t n;

	wr_str(&w, "CONNECT ");
	wr_dec(&w, p->port);
	wr_u8(&w, '\n');
	n = send(p->source.fd, w.p, w.n, MSG_NOSIGNAL);
	if (n < 0)
		return -errno;
	p->asked = true;
	return source_want(&p->source, EPOLLIN);
}

/* Takes more of the answer, and nothing of what the guest sends after it. 1 when it is complete, 0
 * when it is not, or -errno. */
static int take_answer(struct guest_port *p)
{
	char *to = p->answer + p->answered;
	size_t room = sizeof p->answer - p->answered;
	ssize_t n = recv(p->source.fd, to, room, MSG_PEEK);
	size_t line;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -ECONNRESET;
	line = span_find(span_of(to, (size_t)n), '\n');
	if (line < (size_t)n)
		n = (ssize_t)line + 1;
	n = recv(p->source.fd, to, (size_t)n, 0);
	if (n < 0)
		return -errno;
	p->answered += (size_t)n;
	if (p->answer[p->answered - 1] == '\n')
		return 1;
	return p->answered < sizeof p->answer ? 0 : -EPROTO;
}

/* Firecracker closes the connection when nobody listens in the guest. */
static void take(struct guest_port *p)
{
	static const struct span ok = SPAN_LIT("OK ");
	int rc = take_answer(p);

	if (rc > 0 && !span_starts(span_of(p->answer, p->answered), ok))
		rc = -EPROTO;
	if (rc > 0)
		end(p, source_detach(&p->source));
	else if (rc == -EPROTO)
		end(p, rc);
	else if (rc < 0)
		try_again_later(p);
}

static int on_event(struct source *s, uint32_t events)
{
	struct guest_port *p = container_of(s, struct guest_port, source);

	(void)events;
	if (p->asked)
		take(p);
	else if (sock_error(s->fd) < 0 || ask(p) < 0)
		try_again_later(p);
	return 0;
}

static void try_now(struct guest_port *p)
{
	int fd = sock_connect(&p->addr);

	p->asked = false;
	p->answered = 0;
	if (fd < 0 || source_add(p->loop, &p->source, fd, EPOLLOUT) < 0) {
		if (fd >= 0)
			close(fd);
		try_again_later(p);
		return;
	}
	timer_at(&p->timer, p->give_up_ns);
}

static void on_time(struct timer *t)
{
	struct guest_port *p = container_of(t, struct guest_port, timer);

	if (p->loop->now_ns >= p->give_up_ns)
		end(p, -ETIMEDOUT);
	else
		try_now(p);
}

/* --- beginning and end ------------------------------------------------------------------------ */

int guest_port_connect(struct guest_port *p, struct loop *l, const char *root, const char *path,
    uint32_t port, uint64_t timeout_ms, guest_port_fn *fn)
{
	*p = (struct guest_port){
	    .fn = fn,
	    .loop = l,
	    .source = {.fn = on_event, .done = source_gone, .name = "vsock of a sandbox", .fd = -1},
	    .port = port,
	    .give_up_ns = clock_mono_ns() + timeout_ms * NS_PER_MS,
	};
	switch (addr_unix(path, &p->addr)) {
	case E_OK: break;
	case E_LIMIT: return -ENAMETOOLONG;
	default: return -EINVAL;
	}
	p->addr.root = root;
	timer_init(&p->timer, l, on_time);
	try_now(p);
	return 0;
}

void guest_port_cancel(struct guest_port *p, int rc)
{
	if (p->loop && !p->over && timer_armed(&p->timer))
		end(p, rc);
}
