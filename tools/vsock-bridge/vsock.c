#include "vsock.h"

#include "connection.h"
#include "delivery.h"
#include "sys/random.h"

#include <errno.h>
#include <unistd.h>

enum {
	BURST_PACKETS = 64,         /* from the guest in one turn */
	BURST_CONNECTIONS = 64,     /* served in one turn */
	FIRST_HOST_PORT = 1u << 30, /* of host programs, as Firecracker counts them */
	LAST_HOST_PORT = (1u << 31) - 1,
};

/* --- packets of no connection ----------------------------------------------------------------- */

/* The caller knows that there is room. */
static void refuse(struct vsock *v, const struct packet *p)
{
	unsigned i = (v->first_reset + v->n_resets++) % VSOCK_RESETS;

	v->resets[i] = (struct reset){p->dst_cid, p->dst_port, p->src_port, p->type};
}

static int send_resets(struct vsock *v)
{
	while (v->n_resets) {
		const struct reset *r = &v->resets[v->first_reset];
		struct packet p = {
		    .src_cid = r->cid,
		    .dst_cid = v->conf.cid,
		    .src_port = r->host_port,
		    .dst_port = r->guest_port,
		    .type = r->type,
		    .op = VIRTIO_VSOCK_OP_RST,
		};
		int rc = delivery_send(v->rx, &p);

		if (rc < 0)
			return rc;
		v->first_reset = (v->first_reset + 1) % VSOCK_RESETS;
		v->n_resets--;
	}
	return 0;
}

/* --- from the guest --------------------------------------------------------------------------- */

static int admit(
    struct vsock *v, int fd, uint32_t host_port, uint32_t guest_port, const struct packet *request)
{
	if (v->n >= v->conf.max_connections)
		return -ENOSPC;
	return connection_open(v, fd, host_port, guest_port, request);
}

/* The guest asks for a port of the host. */
static int accept_guest(struct vsock *v, const struct packet *p)
{
	int fd = v->conf.dial(v->conf.ctx, p->dst_port);
	int rc = fd < 0 ? fd : admit(v, fd, p->dst_port, p->src_port, p);

	if (fd >= 0 && rc < 0)
		close(fd);
	return rc;
}

/* A packet whose payload is cut, or which is not from this guest, belongs to nobody. */
static void receive(struct vsock *v, struct iov bytes)
{
	uint8_t header[PACKET_BYTES];
	struct packet p;
	struct connection *c = NULL;

	if (iov_read(bytes, header, sizeof header) < sizeof header)
		return;
	p = packet_read(header);
	iov_skip(&bytes, sizeof header);
	if (p.src_cid != v->conf.cid || p.len > iov_bytes(bytes))
		return;
	iov_cut(&bytes, p.len);
	if (p.dst_cid == VSOCK_HOST_CID && p.type == VIRTIO_VSOCK_TYPE_STREAM) {
		c = connection_find(v, p.dst_port, p.src_port);
		if (!c && p.op == VIRTIO_VSOCK_OP_REQUEST && accept_guest(v, &p) == 0)
			return;
	}
	if (c)
		connection_receive(c, &p, bytes);
	else if (p.op != VIRTIO_VSOCK_OP_RST)
		refuse(v, &p);
}

/* Whether packets are left that could be taken at once. */
static bool take_packets(struct vsock *v)
{
	static struct iovec pieces[VIRTQUEUE_SIZE_MAX];
	struct chain chain;

	for (unsigned i = 0; i < BURST_PACKETS; i++) {
		if (v->n_resets == VSOCK_RESETS)
			return false; /* goes on when the guest has buffers for them */
		if (!ring_pop(v->tx, pieces, VIRTQUEUE_SIZE_MAX, &chain))
			return ring_await(v->tx);
		receive(v, chain.readable);
		virtqueue_push(&v->tx->vq, chain.head, 0);
	}
	return true;
}

/* --- to the guest ----------------------------------------------------------------------------- */

/* Lets the connections that have something send it, in turn. 0, also when some are left; or
 * -ENOBUFS when the guest has no buffer for more. */
static int serve(struct vsock *v)
{
	struct link *node;

	for (unsigned i = 0; i < BURST_CONNECTIONS && (node = list_first(&v->ready)); i++) {
		struct connection *c = container_of(node, struct connection, ready);
		int rc = connection_transmit(c);

		if (rc < 0)
			return rc;
		list_remove(node);
		if (!c->source.dead && connection_wants(c))
			list_append(&v->ready, node);
	}
	return 0;
}

/* Whether there is more to be given that the guest has buffers for. */
static bool give_packets(struct vsock *v)
{
	int rc = send_resets(v);

	if (rc == 0)
		rc = serve(v);
	return rc == 0 ? !list_empty(&v->ready) : ring_await(v->rx);
}

static void work(struct task *t)
{
	struct vsock *v = container_of(t, struct vsock, work);
	bool more;

	virtqueue_mute(&v->tx->vq);
	virtqueue_mute(&v->rx->vq);
	more = take_packets(v);
	more |= give_packets(v);
	ring_call(v->tx);
	ring_call(v->rx);
	if (more)
		vsock_work(v);
}

void vsock_work(struct vsock *v)
{
	task_defer(v->loop, &v->work);
}

/* --- from the host ---------------------------------------------------------------------------- */

static uint32_t next_port(struct vsock *v, uint32_t guest_port)
{
	do
		v->last_port =
		    v->last_port < LAST_HOST_PORT ? v->last_port + 1 : (uint32_t)FIRST_HOST_PORT;
	while (connection_find(v, v->last_port, guest_port));
	return v->last_port;
}

int vsock_connect(struct vsock *v, int fd, uint32_t guest_port)
{
	if (!v->rx->vq.live || !v->tx->vq.live)
		return -EHOSTUNREACH;
	return admit(v, fd, next_port(v, guest_port), guest_port, NULL);
}

/* --- beginning and end ------------------------------------------------------------------------ */

int vsock_init(struct vsock *v, struct loop *l, struct ring *rx, struct ring *tx,
    const struct vsock_conf *conf)
{
	uint64_t seed[2];

	random_seed(seed);
	*v = (struct vsock){
	    .conf = *conf,
	    .loop = l,
	    .rx = rx,
	    .tx = tx,
	    .work = {.fn = work},
	    .last_port = FIRST_HOST_PORT - 1,
	};
	list_init(&v->connections);
	list_init(&v->ready);
	return map_init(&v->table, conf->max_connections, seed);
}

void vsock_drop(struct vsock *v)
{
	struct link *node;

	while ((node = list_first(&v->connections)))
		connection_end(container_of(node, struct connection, all));
	v->n_resets = 0;
}

void vsock_done(struct vsock *v)
{
	vsock_drop(v);
	task_cancel(&v->work);
	map_done(&v->table);
}
