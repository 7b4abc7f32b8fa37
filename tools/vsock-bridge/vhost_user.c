#include "vhost_user.h"

#include "base/log.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <sys/socket.h>
#include <unistd.h>

#define BIT(n) (UINT64_C(1) << (n))

enum {
	/* VHOST_USER_F_... : the one feature bit that is not virtio's */
	F_PROTOCOL_FEATURES = 30,
	/* VHOST_USER_PROTOCOL_F_... */
	PROTOCOL_F_MQ = 0,
	PROTOCOL_F_REPLY_ACK = 3,
	PROTOCOL_F_CONFIG = 9,

	/* VHOST_USER_...: requests of the front end */
	GET_FEATURES = 1,
	SET_FEATURES = 2,
	SET_OWNER = 3,
	RESET_OWNER = 4,
	SET_MEM_TABLE = 5,
	SET_VRING_NUM = 8,
	SET_VRING_ADDR = 9,
	SET_VRING_BASE = 10,
	GET_VRING_BASE = 11,
	SET_VRING_KICK = 12,
	SET_VRING_CALL = 13,
	SET_VRING_ERR = 14,
	GET_PROTOCOL_FEATURES = 15,
	SET_PROTOCOL_FEATURES = 16,
	GET_QUEUE_NUM = 17,
	SET_VRING_ENABLE = 18,
	GET_CONFIG = 24,
	SET_CONFIG = 25,

	/* flags of a message: a version in the two low bits */
	FLAG_VERSION_MASK = 0x3,
	FLAG_VERSION = 0x1,
	FLAG_REPLY = 1 << 2,
	FLAG_NEED_REPLY = 1 << 3,

	/* payloads in bytes, the table and the data at their end not counted */
	NUMBER = 8,
	STATE = 8,
	ADDRESSES = 40,
	MEMORY = 8,
	CONFIG = 12,

	/* of the number in SET_VRING_KICK, _CALL and _ERR */
	RING_INDEX_MASK = 0xff,
	RING_NO_FD = 1 << 8,
};

_Static_assert(sizeof(struct guest_layout) == 32, "a region of SET_MEM_TABLE");
_Static_assert(
    sizeof((struct vhost_message *)NULL)->payload.addresses == ADDRESSES, "SET_VRING_ADDR");

static const uint64_t own_features = BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_INDIRECT_DESC) |
    BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(F_PROTOCOL_FEATURES);
static const uint64_t own_protocol_features =
    BIT(PROTOCOL_F_MQ) | BIT(PROTOCOL_F_REPLY_ACK) | BIT(PROTOCOL_F_CONFIG);

/* Handlers return 0; 1 when they have put a reply into the message; or -errno. */
typedef int handler_fn(struct vhost_user *u, struct vhost_message *m);

static int reply_number(struct vhost_message *m, uint64_t number)
{
	m->head.bytes = sizeof m->payload.number;
	m->payload.number = number;
	return 1;
}

/* --- features --------------------------------------------------------------------------------- */

static int get_features(struct vhost_user *u, struct vhost_message *m)
{
	(void)u;
	return reply_number(m, own_features);
}

/* Without protocol features there is no SET_VRING_ENABLE, and rings are enabled from the start. */
static int set_features(struct vhost_user *u, struct vhost_message *m)
{
	uint64_t features = m->payload.number;

	if (features & ~own_features)
		return -EINVAL;
	u->features = features;
	for (unsigned i = 0; i < VHOST_USER_RINGS; i++) {
		u->rings[i].vq.event_idx = features & BIT(VIRTIO_RING_F_EVENT_IDX);
		if (!(features & BIT(F_PROTOCOL_FEATURES)))
			ring_enable(&u->rings[i], true);
	}
	return 0;
}

static int get_protocol_features(struct vhost_user *u, struct vhost_message *m)
{
	(void)u;
	return reply_number(m, own_protocol_features);
}

static int set_protocol_features(struct vhost_user *u, struct vhost_message *m)
{
	if (m->payload.number & ~own_protocol_features)
		return -EINVAL;
	u->protocol_features = m->payload.number;
	return 0;
}

static int get_queue_num(struct vhost_user *u, struct vhost_message *m)
{
	(void)u;
	return reply_number(m, VHOST_USER_RINGS);
}

static int nothing(struct vhost_user *u, struct vhost_message *m)
{
	(void)u;
	(void)m;
	return 0;
}

/* --- memory ----------------------------------------------------------------------------------- */

/* Rings go on where they are in the new memory; those that are not there stop. */
static int move_rings(struct vhost_user *u)
{
	int rc = 0;

	for (unsigned i = 0; i < VHOST_USER_RINGS; i++)
		if (u->rings[i].vq.live && virtqueue_start(&u->rings[i].vq) < 0)
			rc = -EINVAL;
	return rc;
}

static int set_mem_table(struct vhost_user *u, struct vhost_message *m)
{
	const unsigned n = m->payload.memory.n;
	int rc = 0, moved;

	if (n != m->n_fds || m->head.bytes < MEMORY + n * sizeof(struct guest_layout))
		return -EINVAL;
	guest_memory_clear(&u->memory);
	for (unsigned i = 0; i < n && rc == 0; i++)
		rc = guest_memory_add(&u->memory, m->fds[i], &m->payload.memory.regions[i]);
	moved = move_rings(u);
	return rc < 0 ? rc : moved;
}

/* --- rings ------------------------------------------------------------------------------------ */

static struct ring *ring_of(struct vhost_user *u, uint64_t index)
{
	return index < VHOST_USER_RINGS ? &u->rings[index] : NULL;
}

/* A ring that can be set up: one that does not run. */
static struct ring *idle_ring_of(struct vhost_user *u, uint32_t index)
{
	struct ring *r = ring_of(u, index);

	return r && !r->vq.live ? r : NULL;
}

static int set_vring_num(struct vhost_user *u, struct vhost_message *m)
{
	struct ring *r = idle_ring_of(u, m->payload.state.index);

	if (!r || m->payload.state.number > VIRTQUEUE_SIZE_MAX)
		return -EINVAL;
	r->vq.size = (uint16_t)m->payload.state.number;
	return 0;
}

static int set_vring_addr(struct vhost_user *u, struct vhost_message *m)
{
	struct ring *r = idle_ring_of(u, m->payload.addresses.index);

	if (!r)
		return -EINVAL;
	r->vq.desc_user = m->payload.addresses.desc;
	r->vq.avail_user = m->payload.addresses.avail;
	r->vq.used_user = m->payload.addresses.used;
	return 0;
}

/* A machine that was paused goes on where its rings were; only a new driver begins at 0. */
static int set_vring_base(struct vhost_user *u, struct vhost_message *m)
{
	struct ring *r = idle_ring_of(u, m->payload.state.index);

	if (!r || m->payload.state.number > UINT16_MAX)
		return -EINVAL;
	if (m->payload.state.number == 0 && r->vq.next_avail != 0)
		u->ops->restarted(u);
	r->vq.next_avail = (uint16_t)m->payload.state.number;
	return 0;
}

static int get_vring_base(struct vhost_user *u, struct vhost_message *m)
{
	struct ring *r = ring_of(u, m->payload.state.index);

	if (!r)
		return -EINVAL;
	ring_stop(r);
	m->head.bytes = sizeof m->payload.state;
	m->payload.state.number = r->vq.next_avail;
	return 1;
}

/* The ring that an fd came for, and the fd, -1 for none. */
static struct ring *ring_and_fd(struct vhost_user *u, struct vhost_message *m, int *fd)
{
	struct ring *r = ring_of(u, m->payload.number & RING_INDEX_MASK);
	bool none = m->payload.number & RING_NO_FD;

	if (!r || m->n_fds != (none ? 0 : 1))
		return NULL;
	*fd = none ? -1 : m->fds[0];
	m->n_fds = 0;
	return r;
}

/* A ring without a kick fd would have to be polled. */
static int set_vring_kick(struct vhost_user *u, struct vhost_message *m)
{
	int fd, rc;
	struct ring *r = ring_and_fd(u, m, &fd);

	if (!r || fd < 0)
		return -EINVAL;
	rc = ring_start(r, fd);
	if (rc == 0)
		u->ops->kicked(u);
	return rc;
}

static int set_vring_call(struct vhost_user *u, struct vhost_message *m)
{
	int fd;
	struct ring *r = ring_and_fd(u, m, &fd);

	if (!r)
		return -EINVAL;
	ring_set_call(r, fd);
	return 0;
}

static int set_vring_err(struct vhost_user *u, struct vhost_message *m)
{
	int fd;
	struct ring *r = ring_and_fd(u, m, &fd);

	if (!r)
		return -EINVAL;
	ring_set_err(r, fd);
	return 0;
}

static int set_vring_enable(struct vhost_user *u, struct vhost_message *m)
{
	struct ring *r = ring_of(u, m->payload.state.index);

	if (!r)
		return -EINVAL;
	ring_enable(r, m->payload.state.number != 0);
	u->ops->kicked(u);
	return 0;
}

/* --- the device's configuration --------------------------------------------------------------- */

/* A part that is not there is answered by an empty payload. */
static int get_config(struct vhost_user *u, struct vhost_message *m)
{
	const uint32_t offset = m->payload.config.offset, bytes = m->payload.config.bytes;

	if (offset > u->config.n || bytes > u->config.n - offset) {
		m->head.bytes = 0;
		return 1;
	}
	memcpy(m->payload.config.data, u->config.p + offset, bytes);
	m->head.bytes = CONFIG + bytes;
	return 1;
}

/* No field of it is the driver's to write (virtio 1.2, section 5.10.4). */
static int set_config(struct vhost_user *u, struct vhost_message *m)
{
	(void)u;
	(void)m;
	return -EPERM;
}

/* --- messages --------------------------------------------------------------------------------- */

static const struct {
	uint32_t request;
	uint32_t bytes; /* of payload, at least */
	handler_fn *fn;
} rows[] = {
    {GET_FEATURES, 0, get_features},
    {SET_FEATURES, NUMBER, set_features},
    {SET_OWNER, 0, nothing},
    {RESET_OWNER, 0, nothing}, /* deprecated: back ends are to ignore it */
    {SET_MEM_TABLE, MEMORY, set_mem_table},
    {SET_VRING_NUM, STATE, set_vring_num},
    {SET_VRING_ADDR, ADDRESSES, set_vring_addr},
    {SET_VRING_BASE, STATE, set_vring_base},
    {GET_VRING_BASE, STATE, get_vring_base},
    {SET_VRING_KICK, NUMBER, set_vring_kick},
    {SET_VRING_CALL, NUMBER, set_vring_call},
    {SET_VRING_ERR, NUMBER, set_vring_err},
    {GET_PROTOCOL_FEATURES, 0, get_protocol_features},
    {SET_PROTOCOL_FEATURES, NUMBER, set_protocol_features},
    {GET_QUEUE_NUM, 0, get_queue_num},
    {SET_VRING_ENABLE, STATE, set_vring_enable},
    {GET_CONFIG, CONFIG, get_config},
    {SET_CONFIG, CONFIG, set_config},
};

static int dispatch(struct vhost_user *u, struct vhost_message *m)
{
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (rows[i].request == m->head.request)
			return m->head.bytes < rows[i].bytes ? -EBADMSG : rows[i].fn(u, m);
	return -EOPNOTSUPP;
}

static void close_fds(struct vhost_message *m)
{
	while (m->n_fds)
		close(m->fds[--m->n_fds]);
}

/* The front end waits for the answer, so that its socket has room. */
static int send_reply(struct vhost_user *u, struct vhost_message *m)
{
	struct iovec pieces[] = {{&m->head, sizeof m->head}, {&m->payload, m->head.bytes}};
	struct msghdr h = {.msg_iov = pieces, .msg_iovlen = 2};
	ssize_t n;

	m->head.flags = FLAG_VERSION | FLAG_REPLY;
	n = sendmsg(u->source.fd, &h, MSG_NOSIGNAL);
	if (n < 0)
		return -errno;
	return (size_t)n == sizeof m->head + m->head.bytes ? 0 : -EIO;
}

/* Acts on a whole message. */
static int handle(struct vhost_user *u, struct vhost_message *m)
{
	bool acknowledge =
	    (u->protocol_features & BIT(PROTOCOL_F_REPLY_ACK)) && (m->head.flags & FLAG_NEED_REPLY);
	int rc = dispatch(u, m);

	close_fds(m);
	if (rc < 0)
		log_warn("vhost-user", "request refused", KV_NUM("request", m->head.request),
		    KV_ERR(rc));
	if (rc <= 0 && acknowledge) {
		reply_number(m, rc < 0);
		rc = 1;
	}
	return rc > 0 ? send_reply(u, m) : rc;
}

/* --- the socket ------------------------------------------------------------------------------- */

static bool has_head(const struct vhost_user *u)
{
	return u->received >= sizeof u->message.head;
}

/* Takes the fds out of what recvmsg got. -EMFILE when some were lost: this process may hold no
 * more. */
static int take_fds(struct vhost_message *m, struct msghdr *h)
{
	const struct cmsghdr *c = CMSG_FIRSTHDR(h); /* nothing else can come */

	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
		size_t bytes = c->cmsg_len - CMSG_LEN(0);

		close_fds(m);
		memcpy(m->fds, CMSG_DATA(c), bytes);
		m->n_fds = (unsigned)(bytes / sizeof *m->fds);
	}
	return h->msg_flags & MSG_CTRUNC ? -EMFILE : 0;
}

/* Receives up to the end of the head, or of the message: never bytes of the next one, which has fds
 * of its own. How many bytes, 0 at the end, or -errno. */
static ssize_t receive_some(struct vhost_user *u)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof u->message.fds)];
	} control;
	struct vhost_message *m = &u->message;
	const size_t head = sizeof m->head;
	struct iovec piece = {(uint8_t *)&m->head + u->received, head - u->received};
	struct msghdr h = {
	    .msg_iov = &piece,
	    .msg_iovlen = 1,
	    .msg_control = &control,
	    .msg_controllen = sizeof control,
	};
	ssize_t n;
	int rc;

	if (has_head(u))
		piece = (struct iovec){(uint8_t *)&m->payload + (u->received - head),
		    m->head.bytes - (u->received - head)};
	n = recvmsg(u->source.fd, &h, MSG_CMSG_CLOEXEC);
	if (n < 0)
		return -errno;
	rc = take_fds(m, &h);
	u->received += (size_t)n;
	return rc < 0 ? rc : n;
}

/* 0 for a head that a message may have, or -errno. */
static int check_head(const struct vhost_message *m)
{
	if ((m->head.flags & FLAG_VERSION_MASK) != FLAG_VERSION || (m->head.flags & FLAG_REPLY))
		return -EPROTO;
	return m->head.bytes > sizeof m->payload ? -EMSGSIZE : 0;
}

/* Receives, and handles the message when it is whole. 0 or -errno; -ECONNRESET at the end. */
static int advance(struct vhost_user *u)
{
	struct vhost_message *m = &u->message;
	ssize_t n = receive_some(u);
	int rc;

	if (n <= 0)
		return n == -EAGAIN || n == -EINTR ? 0 : n < 0 ? (int)n : -ECONNRESET;
	if (!has_head(u))
		return 0;
	rc = check_head(m);
	if (rc < 0 || u->received < sizeof m->head + m->head.bytes)
		return rc;
	u->received = 0;
	return handle(u, m);
}

/* Forgets the front end and all that it said. */
static void let_go(struct vhost_user *u)
{
	source_remove(&u->source);
	close_fds(&u->message);
	u->received = 0;
	u->features = u->protocol_features = 0;
	for (unsigned i = 0; i < VHOST_USER_RINGS; i++)
		ring_done(&u->rings[i]);
	guest_memory_clear(&u->memory);
}

static int on_message(struct source *s, uint32_t events)
{
	struct vhost_user *u = container_of(s, struct vhost_user, source);
	int rc = advance(u);

	(void)events;
	if (rc < 0) {
		let_go(u);
		u->ops->closed(u, rc == -ECONNRESET ? 0 : rc);
	}
	return 0;
}

/* The front end before has gone: now there is room for the next one. */
static void front_end_removed(struct source *s)
{
	struct vhost_user *u = container_of(s, struct vhost_user, source);
	int fd = u->next_fd;
	int rc = fd >= 0 ? source_add(u->loop, s, fd, EPOLLIN) : 0;

	u->next_fd = -1;
	if (rc < 0) {
		close(fd);
		u->ops->closed(u, rc);
	}
}

static void ring_kicked(struct ring *r)
{
	struct vhost_user *u = r->ctx;

	u->ops->kicked(u);
}

void vhost_user_init(struct vhost_user *u, struct loop *l, const struct vhost_user_ops *ops,
    struct span config, void *ctx)
{
	*u = (struct vhost_user){
	    .ops = ops,
	    .ctx = ctx,
	    .config = config,
	    .loop = l,
	    .source = {.fn = on_message, .done = front_end_removed, .name = "vhost-user", .fd = -1},
	    .next_fd = -1,
	};
	for (unsigned i = 0; i < VHOST_USER_RINGS; i++) {
		ring_init(&u->rings[i], l, ring_kicked, u);
		u->rings[i].vq.memory = &u->memory;
	}
}

int vhost_user_serve(struct vhost_user *u, int fd)
{
	if (u->source.fd < 0 && !u->source.dead)
		return source_add(u->loop, &u->source, fd, EPOLLIN);
	if (u->next_fd >= 0)
		return -EBUSY;
	u->next_fd = fd;
	return 0;
}

void vhost_user_close(struct vhost_user *u)
{
	if (u->next_fd >= 0)
		close(u->next_fd);
	u->next_fd = -1;
	let_go(u);
}
