#include "net/conn.h"

#include "sys/sock.h"

#include <errno.h>
#include <sys/sendfile.h>
#include <unistd.h>

enum {
	PIECES_A_TURN = 4, /* reads, and sends, of one connection before others have their turn */
	PIECE_BYTES = 64 * 1024, /* the most that one send of them moves */
};

static bool is_open(const struct conn *c)
{
	return c->source.loop && c->source.fd >= 0;
}

/* Whether the owner may send. */
static bool takes_output(const struct conn *c)
{
	return is_open(c) && !c->finishing;
}

uint64_t conn_pending(const struct conn *c)
{
	return c->out.n + c->file_left;
}

/* Whether something waits for the socket to become writable. */
static bool must_wait(const struct conn *c)
{
	return c->connecting || conn_pending(c) > 0;
}

/* Everything has left and the peer is to close, too. */
static bool lingers(const struct conn *c)
{
	return c->finishing && !must_wait(c);
}

/* Whether the socket is read. */
static bool takes_input(const struct conn *c)
{
	if (c->eof || c->connecting)
		return false;
	return c->finishing || (!c->paused && queue_room(&c->in) > 0);
}

/* Tells the loop what to wait for. Input that is not wanted is given up only once it is there:
 * most pauses are over before that, and then cost no system call. */
static void watch(struct conn *c, bool unwanted_input)
{
	uint32_t events = unwanted_input ? 0 : c->source.events & EPOLLIN;
	int rc;

	if (takes_input(c))
		events |= EPOLLIN;
	if (must_wait(c))
		events |= EPOLLOUT;
	if (c->hung_up && !takes_input(c))
		events |= EPOLLET; /* that it hung up is told for ever otherwise */
	rc = source_want(&c->source, events);
	if (rc < 0)
		conn_close(c, rc);
}

/* --- output ----------------------------------------------------------------------------------- */

static void expect_progress(struct conn *c)
{
	if (c->stall_ns)
		timer_in(&c->stall, c->stall_ns);
}

void conn_set_stall(struct conn *c, uint64_t stall_ms)
{
	if (!takes_output(c))
		return;
	c->stall_ns = stall_ms * NS_PER_MS;
	timer_at(&c->stall, 0);
	if (must_wait(c))
		expect_progress(c);
}

static void stalled(struct timer *t)
{
	struct conn *c = container_of(t, struct conn, stall);

	conn_close(c, lingers(c) ? 0 : -ETIMEDOUT);
}

/* The result of a send: a kernel that takes nothing now is no error. */
static ssize_t taken(ssize_t n)
{
	if (n >= 0)
		return n;
	return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

static ssize_t send_bytes(struct conn *c, struct span s)
{
	return taken(sendto(c->source.fd, s.p, s.n, MSG_NOSIGNAL, NULL, 0));
}

static void drop_file(struct conn *c)
{
	if (c->file >= 0)
		close(c->file);
	c->file = -1;
	c->file_left = 0;
}

/* The peer takes nothing any more. */
static void output_failed(struct conn *c, int rc)
{
	if (!c->keeps_input || c->finishing) {
		conn_close(c, rc);
		return;
	}
	queue_take(&c->out, c->out.n);
	drop_file(c);
}

static bool file_is_next(const struct conn *c)
{
	return c->file >= 0 && c->file_after == 0;
}

/* How much to send next in one go. */
static size_t piece_bytes(const struct conn *c)
{
	uint64_t n = c->out.n;

	if (file_is_next(c))
		n = c->file_left;
	else if (c->file >= 0)
		n = c->file_after;
	return n < PIECE_BYTES ? (size_t)n : PIECE_BYTES;
}

static ssize_t send_from_queue(struct conn *c, size_t n)
{
	ssize_t sent = send_bytes(c, span_first(queue_span(&c->out), n));

	if (sent <= 0)
		return sent;
	queue_take(&c->out, (size_t)sent);
	if (c->file >= 0)
		c->file_after -= (size_t)sent;
	return sent;
}

static ssize_t send_from_file(struct conn *c, size_t n)
{
	ssize_t sent = sendfile(c->source.fd, c->file, &c->file_at, n);

	if (sent == 0)
		return -EIO; /* the file has become shorter */
	sent = taken(sent);
	if (sent <= 0)
		return sent;
	c->file_left -= (uint64_t)sent;
	if (c->file_left == 0)
		drop_file(c);
	return sent;
}

/* Sends what the kernel takes. A piece that it takes in part says that it is full. */
static void flush(struct conn *c)
{
	bool moved = false;

	for (unsigned i = 0; i < PIECES_A_TURN && conn_pending(c); i++) {
		size_t n = piece_bytes(c);
		ssize_t sent = file_is_next(c) ? send_from_file(c, n) : send_from_queue(c, n);

		if (sent < 0) {
			output_failed(c, (int)sent);
			break;
		}
		moved |= sent > 0;
		if ((size_t)sent < n)
			break;
	}
	if (!is_open(c))
		return;
	if (!conn_pending(c))
		timer_at(&c->stall, 0);
	else if (moved || !timer_armed(&c->stall))
		expect_progress(c);
}

static void end_output(struct conn *c)
{
	if (c->eof || shutdown(c->source.fd, SHUT_WR) < 0)
		conn_close(c, 0);
	else
		timer_in(&c->stall, CONN_LINGER_MS * NS_PER_MS);
}

static void on_writable(struct conn *c)
{
	bool waited = conn_pending(c) > 0;

	flush(c);
	if (!is_open(c) || conn_pending(c))
		return;
	if (c->finishing)
		end_output(c);
	else if (waited && c->ops->drained)
		c->ops->drained(c);
}

/* The first of what waits: the rest will go when the socket is writable. */
static void push(struct conn *c)
{
	flush(c);
	if (is_open(c))
		watch(c, false);
}

int conn_send(struct conn *c, struct span s)
{
	bool waits = must_wait(c);
	ssize_t sent = 0;
	int rc;

	if (!takes_output(c))
		return -EPIPE;
	if (s.n > queue_room(&c->out))
		return -ENOBUFS;
	if (!waits && s.n > 0)
		sent = send_bytes(c, s);
	if (sent < 0) {
		output_failed(c, (int)sent);
		return is_open(c) ? 0 : -EPIPE;
	}
	rc = queue_put(&c->out, span_from(s, (size_t)sent));
	if (rc < 0 && sent > 0)
		conn_close(c, rc); /* the peer has got a part of it */
	if (rc < 0 || waits || !c->out.n)
		return rc;
	expect_progress(c);
	watch(c, false);
	return 0;
}

/* Nothing is sent: a peer that is there does not notice. */
static void probe(struct timer *t)
{
	struct conn *c = container_of(t, struct conn, probe);

	if (!c->connecting && !lingers(c) && send_bytes(c, span_of("", 0)) < 0)
		conn_close(c, -EPIPE);
	else
		conn_probe(c, true);
}

void conn_probe(struct conn *c, bool on)
{
	if (is_open(c))
		timer_at(&c->probe, on ? c->source.loop->now_ns + CONN_PROBE_MS * NS_PER_MS : 0);
}

uint8_t *conn_reserve(struct conn *c, size_t n)
{
	return takes_output(c) ? queue_reserve(&c->out, n) : NULL;
}

void conn_commit(struct conn *c, size_t n)
{
	bool waits = must_wait(c);

	if (!takes_output(c))
		return;
	queue_commit(&c->out, n);
	if (!waits)
		push(c);
}

int conn_send_file(struct conn *c, int fd, off_t offset, uint64_t n)
{
	bool waits = must_wait(c);
	int rc = 0;

	if (!takes_output(c))
		rc = -EPIPE;
	else if (c->file >= 0)
		rc = -EBUSY;
	if (rc < 0 || n == 0) {
		close(fd);
		return rc;
	}
	c->file = fd;
	c->file_after = c->out.n;
	c->file_at = offset;
	c->file_left = n;
	if (!waits)
		push(c);
	return 0;
}

/* --- input ------------------------------------------------------------------------------------ */

/* How many bytes the owner has done with: all of them when it has done with the connection. */
static size_t offer(struct conn *c, struct span in)
{
	ssize_t n = c->ops->data(c, in, c->eof);

	if (n < 0)
		conn_close(c, (int)n);
	return takes_output(c) ? (size_t)n : in.n;
}

static void offer_queued(struct conn *c)
{
	queue_take(&c->in, offer(c, queue_span(&c->in)));
}

/* Bytes go from the shared buffer straight to the owner where none wait before them. */
static void arrived(struct conn *c, struct span in)
{
	bool alone = c->in.n == 0;
	int rc;

	if (alone)
		in = span_from(in, offer(c, in));
	rc = queue_put(&c->in, in);
	if (rc < 0)
		conn_close(c, rc);
	else if (!alone)
		offer_queued(c);
}

/* How much may be read: no more than can be queued behind what is queued already. */
static size_t readable_bytes(const struct conn *c)
{
	size_t n = c->in.n ? queue_reach(&c->in) - c->in.n : queue_room(&c->in);

	return c->finishing || n > CONN_READ_BYTES ? CONN_READ_BYTES : n;
}

/* The budget is spent by others. The owner may know an answer to that. */
static void no_budget(struct conn *c)
{
	offer_queued(c);
	if (is_open(c) && takes_input(c) && readable_bytes(c) == 0)
		conn_close(c, -ENOMEM);
}

/* Reads once. Whether there may be more: a short read says that the socket is empty. */
static bool read_some(struct conn *c)
{
	static uint8_t shared[CONN_READ_BYTES];
	size_t want = readable_bytes(c);
	ssize_t n;

	if (want == 0) {
		no_budget(c);
		return false;
	}
	n = read(c->source.fd, shared, want);
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			conn_close(c, lingers(c) ? 0 : -errno);
		return false;
	}
	c->eof = n == 0;
	if (!c->finishing)
		arrived(c, span_of(shared, (size_t)n));
	else if (c->eof && lingers(c))
		conn_close(c, 0);
	return (size_t)n == want;
}

/* What is going to be offered again anyway is not added to: an owner that takes turns is not to be
 * drowned. */
static void on_readable(struct conn *c)
{
	for (unsigned i = 0; i < PIECES_A_TURN; i++)
		if (!is_open(c) || !takes_input(c) || c->resume.queued || !read_some(c))
			return;
}

/* Both directions are over. What came before is read first; the end of it is a turn away. */
static void on_hangup(struct conn *c)
{
	int rc;

	if (takes_input(c) || c->resume.queued)
		return;
	if (c->keeps_input && !c->eof && !c->finishing) {
		c->hung_up = true;
		return;
	}
	rc = sock_error(c->source.fd);
	conn_close(c, rc < 0 ? rc : -EPIPE);
}

static void resumed(struct task *t)
{
	struct conn *c = container_of(t, struct conn, resume);

	if (!takes_output(c) || c->paused)
		return;
	if (c->in.n || c->eof)
		offer_queued(c);
	if (is_open(c))
		watch(c, false);
}

void conn_pause(struct conn *c)
{
	c->paused = true;
}

void conn_resume(struct conn *c)
{
	if (!takes_output(c))
		return;
	c->paused = false;
	task_defer(c->source.loop, &c->resume);
}

/* --- beginning and end ---------------------------------------------------------------------- */

static void on_connected(struct conn *c)
{
	int rc = sock_error(c->source.fd);

	c->connecting = false;
	if (rc < 0)
		conn_close(c, rc);
	else
		on_writable(c);
}

static int on_event(struct source *s, uint32_t events)
{
	struct conn *c = container_of(s, struct conn, source);
	bool unwanted_input = (events & EPOLLIN) && !takes_input(c);

	if (c->connecting)
		on_connected(c);
	else if (events & EPOLLOUT)
		on_writable(c);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		on_readable(c);
	if (is_open(c) && events & (EPOLLHUP | EPOLLERR))
		on_hangup(c);
	if (is_open(c))
		watch(c, unwanted_input);
	return 0;
}

static void gone(struct source *s)
{
	struct conn *c = container_of(s, struct conn, source);

	queue_done(&c->in);
	queue_done(&c->out);
	drop_file(c);
	c->ops->closed(c, c->rc);
}

static int init(struct conn *c, struct loop *l, int fd, bool connecting, const char *name,
    const struct conn_ops *ops, const struct conn_limits *limits)
{
	*c = (struct conn){
	    .ops = ops,
	    .source = {.fn = on_event, .done = gone, .name = name, .fd = -1},
	    .resume = {.fn = resumed},
	    .stall_ns = limits->stall_ms * NS_PER_MS,
	    .connecting = connecting,
	    .file = -1,
	};
	queue_init(&c->in, limits->in_bytes, limits->budget);
	queue_init(&c->out, limits->out_bytes, limits->budget);
	timer_init(&c->stall, l, stalled);
	timer_init(&c->probe, l, probe);
	return source_add(l, &c->source, fd, connecting ? EPOLLOUT : EPOLLIN);
}

int conn_init(struct conn *c, struct loop *l, int fd, const char *name, const struct conn_ops *ops,
    const struct conn_limits *limits)
{
	return init(c, l, fd, false, name, ops, limits);
}

int conn_init_connecting(struct conn *c, struct loop *l, int fd, const char *name,
    const struct conn_ops *ops, const struct conn_limits *limits)
{
	int rc = init(c, l, fd, true, name, ops, limits);

	if (rc == 0)
		expect_progress(c);
	return rc;
}

void conn_finish(struct conn *c)
{
	if (!takes_output(c))
		return;
	c->finishing = true;
	if (!must_wait(c))
		end_output(c);
	if (is_open(c))
		watch(c, false);
}

void conn_close(struct conn *c, int rc)
{
	if (!is_open(c))
		return;
	c->rc = rc;
	timer_at(&c->stall, 0);
	timer_at(&c->probe, 0);
	task_cancel(&c->resume);
	source_remove(&c->source);
}
