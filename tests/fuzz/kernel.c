#include "kernel.h"

#include "sys/clock.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum {
	FIRST_FD = 1 << 20, /* beyond what the real kernel gives out */
	PIECE_BYTES = 4096, /* the most that one sendfile() moves */
};

enum kind { UNUSED, SOCKET, EVENT, PASSIVE };

struct file {
	enum kind kind;                     /* EVENT: readable at all times */
	int peer;                           /* of a socket; -1: there is none */
	bool ended;                         /* nothing more will come */
	bool mute;                          /* nothing can be sent */
	bool reset;                         /* the peer went without reading all */
	uint8_t bytes[KERNEL_SOCKET_BYTES]; /* that came: n of them, from `head` on */
	size_t head, n;

	bool watched;              /* by epoll */
	struct epoll_event wanted; /* with what it is told by */
	bool news;                 /* something changed since it was told */
};

static struct file files[KERNEL_FILES];
static int connected = -1;

uint64_t kernel_now_ns = 1;
int kernel_refuses;

/* NULL: a descriptor of the real kernel. */
static struct file *file_of(int fd)
{
	if (fd < FIRST_FD)
		return NULL;
	if (fd >= FIRST_FD + KERNEL_FILES || files[fd - FIRST_FD].kind == UNUSED)
		abort();
	return &files[fd - FIRST_FD];
}

static int open_file(enum kind kind)
{
	int at = 0;

	while (at < KERNEL_FILES && files[at].kind != UNUSED)
		at++;
	if (at == KERNEL_FILES)
		abort();
	files[at].kind = kind;
	files[at].peer = -1;
	files[at].ended = files[at].mute = files[at].reset = files[at].watched = false;
	files[at].head = files[at].n = 0;
	return FIRST_FD + at;
}

static int fail(int err)
{
	errno = err;
	return -1;
}

unsigned kernel_open_files(void)
{
	unsigned n = 0;

	for (int i = 0; i < KERNEL_FILES; i++)
		n += files[i].kind != UNUSED;
	return n;
}

/* --- sockets ---------------------------------------------------------------------------------- */

static struct file *peer_of(const struct file *f)
{
	return f->peer < 0 ? NULL : file_of(f->peer);
}

/* Both ends may have something to hear of. */
static void changed(struct file *f)
{
	struct file *peer = peer_of(f);

	f->news = true;
	if (peer)
		peer->news = true;
}

static void join(int a, int b)
{
	file_of(a)->peer = b;
	file_of(b)->peer = a;
	changed(file_of(a));
}

static ssize_t take(struct file *f, void *to, size_t n, bool peek)
{
	n = n < f->n ? n : f->n;
	if (n == 0 && f->reset) {
		f->reset = false;
		return fail(ECONNRESET);
	}
	if (n == 0)
		return f->ended ? 0 : fail(EAGAIN);
	memcpy(to, f->bytes + f->head, n);
	if (peek)
		return (ssize_t)n;
	f->head += n;
	f->n -= n;
	changed(f);
	return (ssize_t)n;
}

static size_t room_at(const struct file *peer)
{
	return peer ? sizeof peer->bytes - peer->n : 0;
}

/* Appends what fits. */
static ssize_t put(struct file *f, const void *from, size_t n)
{
	struct file *peer = peer_of(f);
	size_t room = room_at(peer);

	if (!peer || f->mute)
		return fail(EPIPE);
	if (n > 0 && room == 0)
		return fail(EAGAIN);
	n = n < room ? n : room;
	if (n > sizeof peer->bytes - peer->head - peer->n) {
		memmove(peer->bytes, peer->bytes + peer->head, peer->n);
		peer->head = 0;
	}
	if (n > 0)
		memcpy(peer->bytes + peer->head + peer->n, from, n);
	peer->n += n;
	changed(f);
	return (ssize_t)n;
}

static void end_output(struct file *f)
{
	struct file *peer = peer_of(f);

	f->mute = true;
	if (peer)
		peer->ended = true;
	changed(f);
}

static void close_file(struct file *f)
{
	struct file *peer = peer_of(f);

	changed(f);
	f->kind = UNUSED;
	if (!peer)
		return;
	peer->peer = -1;
	peer->ended = peer->mute = true;
	peer->reset = f->n > 0;
}

/* --- epoll ------------------------------------------------------------------------------------ */

/* As unix_poll(): writable while most of the peer's buffer is free. */
static uint32_t events_of(const struct file *f)
{
	const struct file *peer = peer_of(f);
	uint32_t events = 0;

	if (f->kind == EVENT)
		return EPOLLIN;
	if (f->kind == PASSIVE)
		return 0;
	if (f->n > 0 || f->ended || f->reset)
		events |= EPOLLIN;
	if (!peer || room_at(peer) > sizeof peer->bytes / 4 * 3)
		events |= EPOLLOUT;
	if (f->ended)
		events |= EPOLLRDHUP;
	if (f->ended && f->mute)
		events |= EPOLLHUP;
	return f->reset ? events | EPOLLERR : events;
}

/* The events to be told, 0 when there are none. */
static uint32_t ready_events(struct file *f)
{
	uint32_t events;

	if (f->kind == UNUSED || !f->watched || (f->wanted.events & EPOLLET && !f->news))
		return 0;
	events = events_of(f) & (f->wanted.events | EPOLLHUP | EPOLLERR);
	f->news = false;
	return events;
}

static int wait_events(struct epoll_event *out, int max)
{
	int n = 0;

	for (int i = 0; i < KERNEL_FILES && n < max; i++) {
		uint32_t events = ready_events(&files[i]);

		if (events)
			out[n++] = (struct epoll_event){events, files[i].wanted.data};
	}
	return n;
}

static int control(int op, struct file *f, const struct epoll_event *event)
{
	if (!f || f->watched != (op != EPOLL_CTL_ADD))
		abort();
	f->watched = op != EPOLL_CTL_DEL;
	f->news = true;
	if (event)
		f->wanted = *event;
	return 0;
}

/* --- in place of the real calls --------------------------------------------------------------- */

#define CALL(type, name, ...)                                                                      \
	type __real_##name(__VA_ARGS__);                                                           \
	type __wrap_##name(__VA_ARGS__);                                                           \
	type __wrap_##name(__VA_ARGS__)

CALL(ssize_t, read, int fd, void *to, size_t n)
{
	struct file *f = file_of(fd);

	return f ? take(f, to, n, false) : __real_read(fd, to, n);
}

CALL(ssize_t, recv, int fd, void *to, size_t n, int flags)
{
	struct file *f = file_of(fd);

	return f ? take(f, to, n, flags & MSG_PEEK) : __real_recv(fd, to, n, flags);
}

CALL(ssize_t, send, int fd, const void *from, size_t n, int flags)
{
	struct file *f = file_of(fd);

	return f ? put(f, from, n) : __real_send(fd, from, n, flags);
}

CALL(ssize_t, sendto, int fd, const void *from, size_t n, int flags, const struct sockaddr *to,
    socklen_t len)
{
	struct file *f = file_of(fd);

	return f ? put(f, from, n) : __real_sendto(fd, from, n, flags, to, len);
}

CALL(ssize_t, sendfile, int fd, int from, off_t *at, size_t n)
{
	struct file *f = file_of(fd);
	size_t room = room_at(peer_of(f));
	uint8_t piece[PIECE_BYTES];
	ssize_t got;

	if (room == 0)
		return put(f, piece, 1);
	n = n < room ? n : room;
	got = pread(from, piece, n < sizeof piece ? n : sizeof piece, *at);
	if (got <= 0)
		return got;
	*at += got;
	return put(f, piece, (size_t)got);
}

CALL(int, shutdown, int fd, int how)
{
	struct file *f = file_of(fd);

	if (!f)
		return __real_shutdown(fd, how);
	end_output(f);
	return 0;
}

CALL(int, close, int fd)
{
	struct file *f = file_of(fd);

	if (!f)
		return __real_close(fd);
	close_file(f);
	return 0;
}

CALL(int, socketpair, int domain, int type, int protocol, int pair[2])
{
	(void)domain, (void)type, (void)protocol;
	pair[0] = open_file(SOCKET);
	pair[1] = open_file(SOCKET);
	join(pair[0], pair[1]);
	return 0;
}

CALL(int, socket, int domain, int type, int protocol)
{
	(void)domain, (void)type, (void)protocol;
	return open_file(SOCKET);
}

CALL(int, connect, int fd, const struct sockaddr *to, socklen_t len)
{
	(void)to, (void)len;
	if (kernel_refuses)
		return fail(kernel_refuses);
	connected = open_file(SOCKET);
	join(fd, connected);
	return 0;
}

int kernel_accept(void)
{
	int fd = connected;

	connected = -1;
	return fd;
}

CALL(int, getsockopt, int fd, int level, int name, void *value, socklen_t *len)
{
	struct file *f = file_of(fd);

	if (!f)
		return __real_getsockopt(fd, level, name, value, len);
	*(int *)value = f->reset ? ECONNRESET : 0;
	f->reset = false;
	return 0;
}

CALL(int, epoll_create1, int flags)
{
	(void)flags;
	return open_file(PASSIVE);
}

CALL(int, epoll_ctl, int epfd, int op, int fd, struct epoll_event *event)
{
	(void)epfd;
	return control(op, file_of(fd), event);
}

CALL(int, epoll_wait, int epfd, struct epoll_event *events, int max, int timeout_ms)
{
	(void)epfd, (void)timeout_ms;
	return wait_events(events, max);
}

CALL(int, eventfd, unsigned value, int flags)
{
	(void)value, (void)flags;
	return open_file(EVENT);
}

/* A loop that does not wait runs its timers without being woken. */
CALL(int, timerfd_create, clockid_t clock, int flags)
{
	(void)clock, (void)flags;
	return open_file(PASSIVE);
}

CALL(int, timerfd_settime, int fd, int flags, const struct itimerspec *when,
    struct itimerspec *before)
{
	(void)fd, (void)flags, (void)when, (void)before;
	return 0;
}

uint64_t clock_mono_ns(void)
{
	return kernel_now_ns;
}

int64_t clock_real_ns(void)
{
	return (int64_t)kernel_now_ns;
}

int clock_step(int64_t real_ns)
{
	(void)real_ns;
	return 0;
}
