#include "connection.h"

#include "base/cursor.h"
#include "delivery.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	DUE_REQUEST = 1 << 0,
	DUE_RESPONSE = 1 << 1,
	DUE_CREDIT_UPDATE = 1 << 2,
	DUE_CREDIT_REQUEST = 1 << 3,
	DUE_RST = 1 << 4,

	SHUTDOWN_RCV = VIRTIO_VSOCK_SHUTDOWN_RCV,
	SHUTDOWN_SEND = VIRTIO_VSOCK_SHUTDOWN_SEND,
	SHUTDOWN_BOTH = SHUTDOWN_RCV | SHUTDOWN_SEND,

	QUANTUM_BYTES = 256 * 1024, /* for the guest, before the next connection has its turn */
};

/* --- the table -------------------------------------------------------------------------------- */

static uint64_t hash_of(const struct vsock *v, uint32_t host_port, uint32_t guest_port)
{
	const uint32_t key[] = {host_port, guest_port};

	return map_hash(&v->table, span_of(key, sizeof key));
}

struct connection *connection_find(const struct vsock *v, uint32_t host_port, uint32_t guest_port)
{
	struct map_node *node = map_first(&v->table, hash_of(v, host_port, guest_port));

	for (; node; node = map_next(node)) {
		struct connection *c = container_of(node, struct connection, node);

		if (c->host_port == host_port && c->guest_port == guest_port)
			return c;
	}
	return NULL;
}

/* The guest has done with it, or is to be told so: its ports may be used again. */
static void forget(struct connection *c)
{
	if (!c->known)
		return;
	c->known = false;
	map_remove(&c->vsock->table, &c->node);
}

/* --- what the guest is to hear ---------------------------------------------------------------- */

static uint32_t forwarded(const struct connection *c)
{
	return c->received - (uint32_t)c->out.n;
}

/* How many bytes the guest has room for. It may lie, to its own harm only. */
static uint32_t credit(const struct connection *c)
{
	uint32_t under_way = c->sent - c->guest_fwd_cnt;

	return under_way < c->guest_alloc ? c->guest_alloc - under_way : 0;
}

/* Whether the host program's bytes are wanted. */
static bool streams(const struct connection *c)
{
	return c->known && c->open && !(c->guest_shutdown & SHUTDOWN_RCV) &&
	    !(c->host_shutdown & SHUTDOWN_SEND);
}

bool connection_wants(const struct connection *c)
{
	if (c->due)
		return true;
	if (!c->known || !c->open)
		return false;
	if (c->host_shutdown != c->told_shutdown)
		return true;
	return streams(c) && c->readable && (credit(c) || !c->starved);
}

static void wake(struct connection *c)
{
	if (!connection_wants(c) || !list_empty(&c->ready))
		return;
	list_append(&c->vsock->ready, &c->ready);
	vsock_work(c->vsock);
}

static void give_deadline(struct connection *c, uint64_t ms)
{
	timer_at(&c->deadline, clock_mono_ns() + ms * NS_PER_MS);
}

/* The host program's side ends in these directions. */
static void host_ends(struct connection *c, uint8_t directions)
{
	c->host_shutdown |= directions;
	if (c->known && c->host_shutdown == SHUTDOWN_BOTH && !timer_armed(&c->deadline))
		give_deadline(c, CLOSE_MS);
}

/* --- beginning and end ------------------------------------------------------------------------ */

static void free_connection(struct source *s)
{
	free(container_of(s, struct connection, source));
}

void connection_end(struct connection *c)
{
	if (c->source.dead)
		return;
	forget(c);
	list_remove(&c->all);
	list_remove(&c->ready);
	c->vsock->n--;
	timer_at(&c->deadline, 0);
	queue_done(&c->out);
	source_remove(&c->source);
}

/* A connection that the guest has done with lives on until the guest has its answer and the host
 * program all of its bytes. */
static void end_if_over(struct connection *c)
{
	if (!c->known && !c->due && c->out.n == 0)
		connection_end(c);
}

/* Breaks off, and tells both sides. */
static void reset(struct connection *c)
{
	forget(c);
	queue_done(&c->out);
	shutdown(c->source.fd, SHUT_RDWR);
	c->due = DUE_RST;
	wake(c);
}

static void on_deadline(struct timer *t)
{
	reset(container_of(t, struct connection, deadline));
}

/* --- bytes for the host program --------------------------------------------------------------- */

/* The host program takes no more. Whether it gives any shows when it is read. */
static void lose_reader(struct connection *c)
{
	queue_done(&c->out);
	host_ends(c, SHUTDOWN_RCV);
}

/* Passes on the end of the guest's bytes behind the last of them; once, since that itself is an
 * event of the socket. */
static void pass_on_end(struct connection *c)
{
	if (c->passed_on || c->out.n || !(c->guest_shutdown & SHUTDOWN_SEND))
		return;
	c->passed_on = true;
	shutdown(c->source.fd, SHUT_WR);
}

/* After bytes were taken: lets the guest know of room before it runs out. */
static void after_write(struct connection *c)
{
	pass_on_end(c);
	if (c->known && forwarded(c) - c->told >= c->vsock->conf.buffer_bytes / 4)
		c->due |= DUE_CREDIT_UPDATE;
	wake(c);
	end_if_over(c);
}

/* Writes what had to wait. */
static void flush(struct connection *c)
{
	while (c->out.n) {
		struct span s = queue_span(&c->out);
		ssize_t n = write(c->source.fd, s.p, s.n);

		if (n >= 0)
			queue_take(&c->out, (size_t)n);
		else if (errno == EAGAIN)
			break;
		else if (errno != EINTR)
			lose_reader(c);
	}
	after_write(c);
}

/* Keeps what the host program did not take. */
static int keep(struct connection *c, struct iov payload)
{
	size_t bytes = iov_bytes(payload);
	uint8_t *place;

	if (bytes == 0)
		return 0;
	place = queue_reserve(&c->out, bytes);
	if (!place)
		return -ENOMEM;
	iov_read(payload, place, bytes);
	queue_commit(&c->out, bytes);
	return 0;
}

static void receive_bytes(struct connection *c, const struct packet *p, struct iov payload)
{
	ssize_t n;

	if (p->len > queue_room(&c->out) || (c->guest_shutdown & SHUTDOWN_SEND)) {
		reset(c); /* more than its credit, or after its end */
		return;
	}
	c->received += p->len;
	if (c->host_shutdown & SHUTDOWN_RCV)
		return;
	if (c->out.n == 0) {
		n = writev(c->source.fd, payload.p, (int)payload.n);
		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			lose_reader(c);
			wake(c);
			return;
		}
		iov_skip(&payload, n > 0 ? (size_t)n : 0);
	}
	if (keep(c, payload) < 0)
		reset(c);
	else
		after_write(c);
}

/* --- packets from the guest ------------------------------------------------------------------- */

/* Tells the host program that it is connected, the way Firecracker does. */
static int greet(struct connection *c)
{
	char line[32];
	struct wr w = wr_of(line, sizeof line);

	wr_str(&w, "OK ");
	wr_dec(&w, c->host_port);
	wr_u8(&w, '\n');
	return write(c->source.fd, line, w.n) == (ssize_t)w.n ? 0 : -EIO;
}

static void receive_response(struct connection *c)
{
	if (c->open || greet(c) < 0) {
		reset(c);
		return;
	}
	c->open = true;
	timer_at(&c->deadline, 0);
	wake(c);
}

/* What the guest sent before stands; after the end of both directions it only waits for a reset. */
static void receive_shutdown(struct connection *c, const struct packet *p)
{
	c->guest_shutdown |= p->flags & SHUTDOWN_BOTH;
	if (c->guest_shutdown & SHUTDOWN_RCV)
		shutdown(c->source.fd, SHUT_RD);
	if (c->guest_shutdown == SHUTDOWN_BOTH) {
		forget(c);
		timer_at(&c->deadline, 0);
		c->due = DUE_RST;
	}
	after_write(c);
}

/* Bytes of a guest that had ended its stream before are still the host program's. */
static void receive_reset(struct connection *c)
{
	if (!(c->guest_shutdown & SHUTDOWN_SEND))
		queue_done(&c->out);
	forget(c);
	timer_at(&c->deadline, 0);
	c->due = 0;
	end_if_over(c);
}

static void receive_credit_request(struct connection *c)
{
	c->due |= DUE_CREDIT_UPDATE;
	wake(c);
}

/* Each packet of the guest says how much room it has. */
static void hear_credit(struct connection *c, const struct packet *p)
{
	c->guest_alloc = p->buf_alloc;
	c->guest_fwd_cnt = p->fwd_cnt;
	if (credit(c))
		c->starved = false;
}

void connection_receive(struct connection *c, const struct packet *p, struct iov payload)
{
	if (p->op == VIRTIO_VSOCK_OP_RST) {
		receive_reset(c);
		return;
	}
	hear_credit(c, p);
	if (!c->open && p->op != VIRTIO_VSOCK_OP_RESPONSE) {
		reset(c);
		return;
	}
	switch (p->op) {
	case VIRTIO_VSOCK_OP_RESPONSE: receive_response(c); break;
	case VIRTIO_VSOCK_OP_RW: receive_bytes(c, p, payload); break;
	case VIRTIO_VSOCK_OP_SHUTDOWN: receive_shutdown(c, p); break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST: receive_credit_request(c); break;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE: wake(c); break;
	default: reset(c);
	}
}

/* --- packets to the guest --------------------------------------------------------------------- */

static struct packet packet_of(const struct connection *c, uint16_t op, uint32_t flags)
{
	return (struct packet){
	    .src_cid = VSOCK_HOST_CID,
	    .dst_cid = c->vsock->conf.cid,
	    .src_port = c->host_port,
	    .dst_port = c->guest_port,
	    .type = VIRTIO_VSOCK_TYPE_STREAM,
	    .op = op,
	    .flags = flags,
	    .buf_alloc = c->vsock->conf.buffer_bytes,
	    .fwd_cnt = forwarded(c),
	};
}

static int send_op(struct connection *c, uint16_t op, uint32_t flags)
{
	struct packet p = packet_of(c, op, flags);
	int rc = delivery_send(c->vsock->rx, &p);

	if (rc == 0)
		c->told = p.fwd_cnt;
	return rc;
}

/* Sends those packets of the set `which` that are due. */
static int send_due(struct connection *c, uint8_t which)
{
	static const struct {
		uint8_t due;
		uint16_t op;
	} rows[] = {
	    {DUE_RST, VIRTIO_VSOCK_OP_RST},
	    {DUE_REQUEST, VIRTIO_VSOCK_OP_REQUEST},
	    {DUE_RESPONSE, VIRTIO_VSOCK_OP_RESPONSE},
	    {DUE_CREDIT_REQUEST, VIRTIO_VSOCK_OP_CREDIT_REQUEST},
	    {DUE_CREDIT_UPDATE, VIRTIO_VSOCK_OP_CREDIT_UPDATE},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		int rc = c->due & which & rows[i].due ? send_op(c, rows[i].op, 0) : 0;

		if (rc < 0)
			return rc;
		c->due &= (uint8_t) ~(which & rows[i].due);
	}
	return 0;
}

/* What a read of the socket came to, but for bytes. */
static void end_of_input(struct connection *c, ssize_t rc)
{
	if (rc == -EAGAIN)
		c->readable = false;
	else if (rc == 0)
		host_ends(c, c->hung_up ? SHUTDOWN_BOTH : SHUTDOWN_SEND);
	else
		reset(c);
}

static int send_bytes(struct connection *c)
{
	size_t left = QUANTUM_BYTES;

	while (streams(c) && c->readable && credit(c) && left) {
		struct packet p = packet_of(c, VIRTIO_VSOCK_OP_RW, 0);
		size_t most = left < credit(c) ? left : credit(c);
		ssize_t n = delivery_read(c->vsock->rx, &p, c->source.fd, most);

		if (n == -ENOBUFS)
			return -ENOBUFS;
		if (n <= 0) {
			end_of_input(c, n);
			continue;
		}
		c->sent += (uint32_t)n;
		c->told = p.fwd_cnt;
		c->due &= (uint8_t)~DUE_CREDIT_UPDATE;
		left -= (size_t)n;
	}
	return 0;
}

/* When the host program has to wait for credit, the guest is asked for it, once. */
static void ask_for_credit(struct connection *c)
{
	if (!streams(c) || !c->readable || credit(c) || c->starved)
		return;
	c->starved = true;
	c->due |= DUE_CREDIT_REQUEST;
}

static int send_shutdown(struct connection *c)
{
	int rc = 0;

	if (c->known && c->open && c->host_shutdown != c->told_shutdown)
		rc = send_op(c, VIRTIO_VSOCK_OP_SHUTDOWN, c->host_shutdown);
	if (rc == 0)
		c->told_shutdown = c->host_shutdown;
	return rc;
}

int connection_transmit(struct connection *c)
{
	const uint8_t credits = DUE_CREDIT_UPDATE | DUE_CREDIT_REQUEST;
	int rc = send_due(c, (uint8_t)~credits);

	if (rc == 0)
		rc = send_bytes(c); /* which bear the credit update, too */
	ask_for_credit(c);
	if (rc == 0)
		rc = send_due(c, credits);
	if (rc == 0)
		rc = send_shutdown(c);
	if (rc == 0)
		end_if_over(c);
	return rc;
}

/* --- the socket ------------------------------------------------------------------------------- */

static int on_socket(struct source *s, uint32_t events)
{
	struct connection *c = container_of(s, struct connection, source);

	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->readable = true;
	if (events & (EPOLLHUP | EPOLLERR))
		c->hung_up = true;
	if (c->hung_up && (c->host_shutdown & SHUTDOWN_SEND))
		host_ends(c, SHUTDOWN_RCV);
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		flush(c);
	wake(c);
	return 0;
}

/* The kernel is to take at once what the guest has credit for, which saves the copy. A hint. */
static void widen(int fd, uint32_t bytes)
{
	const int n = (int)bytes;

	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &n, sizeof n);
}

/* Makes it one of the device's connections. */
static void enlist(struct connection *c)
{
	struct vsock *v = c->vsock;

	list_init(&c->ready);
	list_append(&v->connections, &c->all);
	v->n++;
	map_add(&v->table, &c->node, hash_of(v, c->host_port, c->guest_port));
	c->known = true;
	queue_init(&c->out, v->conf.buffer_bytes, NULL);
	timer_init(&c->deadline, v->loop, on_deadline);
}

int connection_open(
    struct vsock *v, int fd, uint32_t host_port, uint32_t guest_port, const struct packet *request)
{
	struct connection *c = calloc(1, sizeof *c);
	int rc;

	if (!c)
		return -ENOMEM;
	*c = (struct connection){
	    .vsock = v,
	    .source = {.fn = on_socket, .done = free_connection, .name = "connection", .fd = -1},
	    .host_port = host_port,
	    .guest_port = guest_port,
	};
	rc = source_add(v->loop, &c->source, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
	if (rc < 0) {
		free(c);
		return rc;
	}
	widen(fd, v->conf.buffer_bytes);
	enlist(c);
	if (request) {
		hear_credit(c, request);
		c->open = true;
		c->due = DUE_RESPONSE;
	} else {
		c->due = DUE_REQUEST;
		give_deadline(c, CONNECT_MS);
	}
	wake(c);
	return 0;
}
