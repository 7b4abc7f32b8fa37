#include "net/proxy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	DRAIN_BYTES = 16384,
	SPLICE_FLAGS = SPLICE_F_MOVE | SPLICE_F_NONBLOCK,
};

enum { CLIENT, BACKEND };

/* One direction of a relay: from side[i] to the other. What is in flight is in a pipe, or in a
 * buffer where there is no pipe; both are held only while something is. */
struct flow {
	int pipe[2]; /* read end, write end; -1 = none */
	uint8_t *copy;
	size_t at;      /* of the first byte in `copy` */
	size_t n;       /* bytes in flight */
	bool busy;      /* the last chunk was a large one */
	bool no_splice; /* the kernel cannot splice these sockets */
	bool eof;       /* no more will come */
	bool ended;     /* the end was passed on, or nobody takes the bytes any more */
};

struct side {
	struct source source;
	struct relay *relay;
};

/* What a relay is doing is said by the functions of its sources and its timer: waiting for the
 * backend (on the list of the parked, or connecting), moving bytes, or lingering. */
struct relay {
	struct proxy *proxy;
	struct link link; /* on `parked` or `busy` */
	struct side side[2];
	struct flow flow[2];
	struct timer deadline;
	int rc; /* why the backend did not take the connection */
	bool closed;
};
_Static_assert(sizeof(struct relay) < 512, "an idle relay is cheap");

struct proxy {
	struct loop *loop;
	struct proxy_conf conf;
	struct listener listener;
	struct listener_ops listener_ops;
	struct link parked, busy;
	unsigned n_relays;
	struct timer retry;
	struct task wake; /* the backend is up: serve who is parked */
	unsigned n_pipes; /* idle ones included */
	unsigned n_idle;
	int idle[PROXY_PIPES_IDLE][2];
};

static void tell(const struct proxy *p, const char *what, int rc)
{
	if (p->conf.told)
		p->conf.told(p, what, rc);
}

/* --- the pool of pipes ----------------------------------------------------------------------- */

static int pipe_take(struct proxy *p, int fds[2])
{
	if (p->n_idle > 0) {
		memcpy(fds, p->idle[--p->n_idle], sizeof p->idle[0]);
		return 0;
	}
	if (p->n_pipes == PROXY_PIPES_MAX)
		return -ENOBUFS;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	/* Larger pipes save system calls; the kernel's limits may forbid them. */
	fcntl(fds[1], F_SETPIPE_SZ, PROXY_PIPE_BYTES);
	p->n_pipes++;
	return 0;
}

static void pipe_close(struct proxy *p, const int fds[2])
{
	close(fds[0]);
	close(fds[1]);
	p->n_pipes--;
}

/* The pipe is empty: the next that takes it must not find another's bytes. */
static void pipe_give(struct proxy *p, const int fds[2])
{
	if (p->n_idle == PROXY_PIPES_IDLE)
		pipe_close(p, fds);
	else
		memcpy(p->idle[p->n_idle++], fds, sizeof p->idle[0]);
}

/* --- one direction --------------------------------------------------------------------------- */

static void flow_init(struct flow *f)
{
	*f = (struct flow){.pipe = {-1, -1}};
}

/* Gets something to hold bytes in. */
static int flow_hold(struct proxy *p, struct flow *f)
{
	if (!f->no_splice && pipe_take(p, f->pipe) == 0)
		return 0;
	f->pipe[0] = f->pipe[1] = -1;
	f->copy = malloc(PROXY_CHUNK_BYTES);
	return f->copy ? 0 : -ENOMEM;
}

/* Gives it back, and drops what is in it. */
static void flow_release(struct proxy *p, struct flow *f)
{
	if (f->pipe[0] >= 0 && f->n > 0)
		pipe_close(p, f->pipe);
	else if (f->pipe[0] >= 0)
		pipe_give(p, f->pipe);
	free(f->copy);
	f->pipe[0] = f->pipe[1] = -1;
	f->copy = NULL;
	f->n = 0;
}

static ssize_t receive(struct flow *f, int src)
{
	/* Where it copies, the kernel makes pages for all that is asked for, be it for a byte. */
	size_t ask = f->busy ? PROXY_PIPE_BYTES : PROXY_CHUNK_BYTES;

	if (f->copy)
		return read(src, f->copy, PROXY_CHUNK_BYTES);
	return splice(src, NULL, f->pipe[1], NULL, ask, SPLICE_FLAGS);
}

static ssize_t deliver(struct flow *f, int dst)
{
	if (f->copy)
		return write(dst, f->copy + f->at, f->n);
	return splice(f->pipe[0], NULL, dst, NULL, f->n, SPLICE_FLAGS);
}

static bool try_later(void)
{
	return errno == EAGAIN || errno == EINTR;
}

static bool cannot_splice(const struct flow *f)
{
	return errno == EINVAL && !f->copy;
}

/* Nobody takes the bytes of this direction any more. Its sender is told the way a socket tells it:
 * where the family can, its next write fails. */
static void flow_break(struct relay *r, unsigned from)
{
	struct flow *f = &r->flow[from];

	if (f->ended)
		return;
	flow_release(r->proxy, f);
	f->eof = f->ended = true;
	shutdown(r->side[from].source.fd, SHUT_RD);
}

/* Takes in the next bytes. 0, or -errno when the relay cannot go on. */
static int flow_fill(struct relay *r, unsigned from)
{
	struct flow *f = &r->flow[from];
	int rc = flow_hold(r->proxy, f);
	ssize_t n;

	if (rc < 0)
		return rc;
	f->at = 0;
	n = receive(f, r->side[from].source.fd);
	if (n < 0 && cannot_splice(f)) {
		f->no_splice = true;
		flow_release(r->proxy, f);
		return flow_fill(r, from);
	}
	f->busy = n >= PROXY_CHUNK_BYTES;
	if (n > 0)
		f->n = (size_t)n;
	else if (n == 0 || !try_later())
		f->eof = true;
	/* A side that was reset takes nothing either. */
	if (n < 0 && f->eof)
		flow_break(r, !from);
	return 0;
}

/* Goes on with a copy of what is in the pipe. */
static int flow_leave_pipe(struct proxy *p, struct flow *f)
{
	size_t n = f->n;
	uint8_t *copy = malloc(n);

	if (!copy)
		return -ENOMEM;
	if (read(f->pipe[0], copy, n) != (ssize_t)n) {
		free(copy);
		return -EIO;
	}
	f->n = 0;
	flow_release(p, f);
	f->no_splice = true;
	f->copy = copy;
	f->at = 0;
	f->n = n;
	return 0;
}

/* Passes on what is in flight, as far as it is taken. 0, or -errno when the relay cannot go on. */
static int flow_drain(struct relay *r, unsigned from)
{
	struct flow *f = &r->flow[from];
	ssize_t n = deliver(f, r->side[!from].source.fd);
	int rc;

	if (n < 0 && cannot_splice(f)) {
		rc = flow_leave_pipe(r->proxy, f);
		return rc < 0 ? rc : flow_drain(r, from);
	}
	if (n < 0 && !try_later())
		flow_break(r, from);
	if (n > 0) {
		f->n -= (size_t)n;
		f->at += (size_t)n;
	}
	return 0;
}

/* Moves one chunk, and the end behind the last byte: what is left makes the loop come back, after
 * others had their turn. 0, or -errno when the relay cannot go on. */
static int flow_run(struct relay *r, unsigned from)
{
	struct flow *f = &r->flow[from];
	int rc = 0;

	if (f->n == 0 && !f->eof)
		rc = flow_fill(r, from);
	if (rc == 0 && f->n > 0)
		rc = flow_drain(r, from);
	if (rc < 0 || f->n > 0)
		return rc;
	flow_release(r->proxy, f);
	if (f->eof && !f->ended) {
		f->ended = true;
		shutdown(r->side[!from].source.fd, SHUT_WR);
	}
	return 0;
}

/* --- a relay -------------------------------------------------------------------------------- */

static struct side *side_of(struct source *s)
{
	return container_of(s, struct side, source);
}

static void side_done(struct source *s)
{
	struct relay *r = side_of(s)->relay;

	if (r->closed && !r->side[CLIENT].source.dead && !r->side[BACKEND].source.dead)
		free(r);
}

/* The memory follows when the sources are done with. */
static void relay_close(struct relay *r)
{
	r->closed = true;
	r->proxy->n_relays--;
	list_remove(&r->link);
	timer_at(&r->deadline, 0);
	for (unsigned i = CLIENT; i <= BACKEND; i++) {
		flow_release(r->proxy, &r->flow[i]);
		source_remove(&r->side[i].source);
	}
}

static void relay_fail(struct relay *r, const char *what, int rc)
{
	tell(r->proxy, what, rc);
	relay_close(r);
}

/* A peer that only said that it will send no more still takes bytes, and gets none here: vsock does
 * not report a hang-up for one that is gone. */
static bool takes_bytes(int fd)
{
	return sendto(fd, "", 0, MSG_NOSIGNAL, NULL, 0) == 0 || try_later();
}

/* What a side is waited for. A hang-up cannot be masked, only be reported once: without the edge
 * trigger, a side that is gone while its last bytes wait for the other would keep the loop busy. */
static uint32_t interest(const struct relay *r, unsigned side)
{
	const struct flow *from = &r->flow[side];
	const struct flow *to = &r->flow[!side];
	uint32_t events = 0;

	if (!from->eof && from->n == 0)
		events |= EPOLLIN;
	if (to->n > 0)
		events |= EPOLLOUT;
	return events ? events : EPOLLET;
}

static void probe_client(struct timer *t)
{
	struct relay *r = container_of(t, struct relay, deadline);

	if (takes_bytes(r->side[CLIENT].source.fd))
		timer_in(t, PROXY_PROBE_MS * NS_PER_MS);
	else
		relay_close(r);
}

/* Closes a relay that is over, or waits for what it needs next. A client that has ended may be gone
 * while the backend, which has nothing to say to it, does not notice. */
static void relay_settle(struct relay *r)
{
	int rc = 0;

	if (r->flow[CLIENT].ended && r->flow[BACKEND].ended) {
		relay_close(r);
		return;
	}
	if (r->flow[CLIENT].ended && !timer_armed(&r->deadline))
		timer_in(&r->deadline, PROXY_PROBE_MS * NS_PER_MS);
	for (unsigned i = CLIENT; i <= BACKEND && rc == 0; i++)
		rc = source_want(&r->side[i].source, interest(r, i));
	if (rc < 0)
		relay_fail(r, "cannot wait for a relay", rc);
}

static int relay_moves(struct source *s, uint32_t events)
{
	struct relay *r = side_of(s)->relay;
	unsigned side = side_of(s) == &r->side[BACKEND];
	int rc = 0;

	if (events & EPOLLHUP)
		flow_break(r, !side);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		rc = flow_run(r, side);
	if (rc == 0 && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)))
		rc = flow_run(r, !side);
	if (rc < 0)
		relay_fail(r, "cannot relay", rc);
	else
		relay_settle(r);
	return 0;
}

/* --- getting to the backend ----------------------------------------------------------------- */

static void relay_begin(struct relay *r)
{
	struct proxy *p = r->proxy;

	timer_at(&r->deadline, 0);
	timer_init(&r->deadline, p->loop, probe_client);
	r->side[CLIENT].source.fn = r->side[BACKEND].source.fn = relay_moves;
	relay_settle(r);
	if (!list_empty(&p->parked))
		task_defer(p->loop, &p->wake);
}

/* Until the retry, or until another client finds the backend up. */
static void park(struct relay *r, int rc)
{
	struct proxy *p = r->proxy;

	r->rc = rc;
	list_remove(&r->link);
	list_append(&p->parked, &r->link);
	if (!timer_armed(&p->retry))
		timer_in(&p->retry, p->conf.retry_ms * NS_PER_MS);
}

static int backend_connects(struct source *s, uint32_t events)
{
	struct relay *r = side_of(s)->relay;
	int rc = sock_error(s->fd);

	(void)events;
	if (rc < 0) {
		source_remove(s);
		park(r, rc);
	} else {
		relay_begin(r);
	}
	return 0;
}

/* Takes the relay off the list of the parked when there is hope. 0 or -errno. */
static int connect_backend(struct relay *r)
{
	struct proxy *p = r->proxy;
	struct source *s = &r->side[BACKEND].source;
	int fd = sock_connect(&p->conf.backend);
	int rc;

	if (fd < 0)
		return fd;
	s->fn = backend_connects;
	rc = source_add(p->loop, s, fd, EPOLLOUT);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	list_remove(&r->link);
	list_append(&p->busy, &r->link);
	return 0;
}

/* In the order in which they came; where one fails, so would the next. */
static void try_parked(struct proxy *p)
{
	int rc = 0;

	for (int i = 0; i < LOOP_EVENTS && rc == 0 && !list_empty(&p->parked); i++) {
		struct relay *r = container_of(list_first(&p->parked), struct relay, link);

		rc = connect_backend(r);
		r->rc = rc < 0 ? rc : r->rc;
	}
	if (!list_empty(&p->parked))
		timer_in(&p->retry, p->conf.retry_ms * NS_PER_MS);
}

static void retry_came(struct timer *t)
{
	try_parked(container_of(t, struct proxy, retry));
}

static void backend_is_up(struct task *t)
{
	try_parked(container_of(t, struct proxy, wake));
}

/* --- clients that wait ---------------------------------------------------------------------- */

static int client_waits(struct source *s, uint32_t events)
{
	struct relay *r = side_of(s)->relay;

	if ((events & (EPOLLHUP | EPOLLERR)) || !takes_bytes(s->fd)) {
		relay_close(r);
		return 0;
	}
	return source_want(s, EPOLLET);
}

static int client_lingers(struct source *s, uint32_t events)
{
	char dropped[DRAIN_BYTES];
	ssize_t n = read(s->fd, dropped, sizeof dropped);

	(void)events;
	if (n == 0 || (n < 0 && !try_later()))
		relay_close(side_of(s)->relay);
	return 0;
}

static void lingered(struct timer *t)
{
	relay_close(container_of(t, struct relay, deadline));
}

/* Says why, and reads on for a while: closing a socket with unread bytes would reset it, and the
 * client might never see the answer. */
static void refuse(struct timer *t)
{
	struct relay *r = container_of(t, struct relay, deadline);
	struct proxy *p = r->proxy;
	struct source *client = &r->side[CLIENT].source;
	char text[PROXY_REFUSAL_BYTES];
	size_t n = p->conf.refusal ? p->conf.refusal(p, r->rc, text, sizeof text) : 0;

	tell(p, "backend did not come up, client closed", r->rc);
	source_remove(&r->side[BACKEND].source);
	client->fn = client_lingers;
	if (n == 0 || write(client->fd, text, n) < 0 || source_want(client, EPOLLIN) < 0) {
		relay_close(r);
		return;
	}
	shutdown(client->fd, SHUT_WR);
	list_remove(&r->link);
	list_append(&p->busy, &r->link);
	timer_init(&r->deadline, p->loop, lingered);
	timer_in(&r->deadline, PROXY_LINGER_MS * NS_PER_MS);
}

/* --- the proxy ------------------------------------------------------------------------------ */

static struct relay *relay_new(struct proxy *p)
{
	struct relay *r = calloc(1, sizeof *r);

	if (!r)
		return NULL;
	r->proxy = p;
	r->rc = -ETIMEDOUT;
	timer_init(&r->deadline, p->loop, refuse);
	for (unsigned i = CLIENT; i <= BACKEND; i++) {
		flow_init(&r->flow[i]);
		r->side[i] = (struct side){
		    .source = {.name = "proxy", .fd = -1, .done = side_done}, .relay = r};
	}
	return r;
}

static int serve(struct proxy *p, int fd)
{
	struct relay *r;
	int rc;

	if (p->n_relays >= p->conf.max_relays)
		return -EUSERS;
	r = relay_new(p);
	if (!r)
		return -ENOMEM;
	r->side[CLIENT].source.fn = client_waits;
	rc = source_add(p->loop, &r->side[CLIENT].source, fd, EPOLLRDHUP);
	if (rc < 0) {
		free(r);
		return rc;
	}
	p->n_relays++;
	list_append(&p->busy, &r->link);
	timer_in(&r->deadline, p->conf.park_ms * NS_PER_MS);
	rc = connect_backend(r);
	if (rc < 0)
		park(r, rc);
	return 0;
}

static void client_came(struct listener *l, int fd, const struct addr *peer)
{
	struct proxy *p = container_of(l, struct proxy, listener);
	int rc = serve(p, fd);

	(void)peer;
	if (rc == 0)
		return;
	close(fd);
	tell(p, "cannot serve a client", rc);
}

struct proxy *proxy_new(struct loop *l, const struct proxy_conf *conf)
{
	struct proxy *p = calloc(1, sizeof *p);

	if (!p)
		return NULL;
	p->loop = l;
	p->conf = *conf;
	list_init(&p->parked);
	list_init(&p->busy);
	timer_init(&p->retry, l, retry_came);
	p->wake.fn = backend_is_up;
	p->listener_ops =
	    (struct listener_ops){.accepted = client_came, .told = conf->listener_ops->told};
	p->listener.ctx = p;
	listener_start(&p->listener, l, &conf->listen, conf->peers, &p->listener_ops);
	return p;
}

const struct proxy_conf *proxy_conf(const struct proxy *p)
{
	return &p->conf;
}

unsigned proxy_relays(const struct proxy *p)
{
	return p->n_relays;
}

static void close_all(struct link *relays)
{
	struct link *node;

	while ((node = list_first(relays)))
		relay_close(container_of(node, struct relay, link));
}

void proxy_free(struct proxy *p)
{
	if (!p)
		return;
	listener_stop(&p->listener);
	timer_at(&p->retry, 0);
	task_cancel(&p->wake);
	close_all(&p->parked);
	close_all(&p->busy);
	while (p->n_idle > 0)
		pipe_close(p, p->idle[--p->n_idle]);
	loop_bury(p->loop);
	free(p);
}
