#include "net/listen.h"

#include <errno.h>
#include <unistd.h>

enum { BACKLOG = 128 };

static void tell(struct listener *l, int what, int rc, const struct addr *peer)
{
	if (l->ops->told)
		l->ops->told(l, what, rc, peer);
}

/* What goes on for a while is told once. */
static void tell_change(struct listener *l, int what, int rc)
{
	if (rc == l->last_rc)
		return;
	l->last_rc = rc;
	tell(l, what, rc, NULL);
}

/* --- accepting -------------------------------------------------------------------------------- */

bool peer_allowed(const struct peer_list *peers, uint32_t own_cid, const struct addr *peer)
{
	uint32_t cid = peer->u.vm.svm_cid;

	if (peer->u.sa.sa_family != AF_VSOCK)
		return true;
	if (cid == VMADDR_CID_LOCAL || (own_cid != 0 && cid == own_cid))
		return false;
	for (size_t i = 0; peers && i < peers->n; i++)
		if (peers->cids[i] == cid)
			return true;
	return false;
}

/* Anybody in the guest can be refused as often as he likes, but not fill the log by that. */
static void tell_refused(struct listener *l, const struct addr *peer)
{
	uint64_t now_ns = l->source.loop->now_ns;

	l->refused++;
	if (l->refused_told_ns && now_ns - l->refused_told_ns < LISTEN_REFUSED_MS * NS_PER_MS)
		return;
	l->refused_told_ns = now_ns;
	tell(l, LISTEN_REFUSED, l->refused, peer);
	l->refused = 0;
}

static void admit(struct listener *l, int fd, const struct addr *peer)
{
	l->last_rc = 0;
	if (peer_allowed(l->peers, l->own_cid, peer)) {
		l->ops->accepted(l, fd, peer);
		return;
	}
	close(fd);
	tell_refused(l, peer);
}

/* A connection that cannot be accepted stays, and would wake the loop again and again. */
static void rest(struct listener *l, int rc)
{
	tell_change(l, LISTEN_RESTING, rc);
	if (source_want(&l->source, 0) == 0)
		timer_in(&l->retry, LISTEN_REST_MS * NS_PER_MS);
}

static int on_connection(struct source *s, uint32_t events)
{
	struct listener *l = container_of(s, struct listener, source);

	(void)events;
	for (unsigned i = 0; i < LISTEN_BURST && s->fd >= 0; i++) {
		struct addr peer;
		int fd = sock_accept(s->fd, &peer);

		if (fd == -EAGAIN)
			return 0;
		if (fd < 0) {
			rest(l, fd);
			return 0;
		}
		admit(l, fd, &peer);
	}
	return 0;
}

/* --- coming up -------------------------------------------------------------------------------- */

static int start(struct listener *l)
{
	int fd = sock_listen(&l->addr, BACKLOG);
	int rc;

	if (fd < 0)
		return fd;
	rc = source_add(l->retry.loop, &l->source, fd, EPOLLIN);
	if (rc < 0)
		close(fd);
	return rc;
}

static void try_start(struct listener *l)
{
	int rc = start(l);

	if (rc < 0) {
		timer_in(&l->retry, l->retry_ms * NS_PER_MS);
		l->retry_ms += l->retry_ms / 2;
		if (l->retry_ms > LISTEN_LAST_RETRY_MS)
			l->retry_ms = LISTEN_LAST_RETRY_MS;
		tell_change(l, LISTEN_FAILED, rc);
		return;
	}
	if (l->addr.u.sa.sa_family == AF_VSOCK)
		l->own_cid = vsock_local_cid();
	l->last_rc = 0;
	tell(l, LISTEN_BOUND, 0, NULL);
}

static void on_retry(struct timer *t)
{
	struct listener *l = container_of(t, struct listener, retry);

	if (l->source.fd < 0)
		try_start(l);
	else if (source_want(&l->source, EPOLLIN) < 0)
		timer_in(t, LISTEN_REST_MS * NS_PER_MS);
}

void listener_start(struct listener *l, struct loop *loop, const struct addr *addr,
    const struct peer_list *peers, const struct listener_ops *ops)
{
	*l = (struct listener){
	    .ops = ops,
	    .ctx = l->ctx,
	    .addr = *addr,
	    .peers = peers,
	    .source = {.fn = on_connection, .name = "listener", .fd = -1},
	    .retry_ms = LISTEN_FIRST_RETRY_MS,
	};
	timer_init(&l->retry, loop, on_retry);
	try_start(l);
}

void listener_stop(struct listener *l)
{
	int fd = source_detach(&l->source);

	timer_at(&l->retry, 0);
	if (fd < 0)
		return;
	if (l->addr.u.sa.sa_family == AF_UNIX)
		unlink(l->addr.u.un.sun_path);
	close(fd);
}
