/* load_vsock VHOST HOST in|out MILLISECONDS - is the machine of a vsock bridge, and the program of
 * the host, too: moves bytes into the guest or out of it, and prints `bytes N seconds S`. It does
 * what Linux does as a guest: packets of 64 KiB out, buffers of 4 KiB in, credit of 256 KiB. */
#include "../../tools/vsock-bridge/packet.h"
#include "../../tools/vsock-bridge/vhost_user.h"
#include "bench.h"
#include "sys/clock.h"
#include "sys/fs.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	/* vhost-user */
	GET_FEATURES = 1,
	SET_FEATURES = 2,
	SET_OWNER = 3,
	SET_MEM_TABLE = 5,
	SET_VRING_NUM = 8,
	SET_VRING_ADDR = 9,
	SET_VRING_BASE = 10,
	SET_VRING_KICK = 12,
	SET_VRING_CALL = 13,

	CID = 3,
	PORT = 1024,
	PIECE_BYTES = 128 * 1024,
	CREDIT_BYTES = 256 * 1024,
	PATIENCE_MS = 5000,

	/* memory: for each queue its rings, then its buffers */
	SIZE = 128,
	AVAIL = SIZE * sizeof(struct vring_desc),
	USED = 2 * AVAIL,
	RINGS_BYTES = 4 * AVAIL,
	RX_BYTES = PACKET_BYTES + 4096,
	TX_BYTES = PACKET_BYTES + 65536,
	RX_BUFFERS = SIZE,
	TX_BUFFERS = SIZE / 2,
	RX_AT = 2 * RINGS_BYTES,
	TX_AT = RX_AT + RX_BUFFERS * RX_BYTES,
	MEMORY_BYTES = TX_AT + TX_BUFFERS * TX_BYTES,
};

struct queue_end {
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint8_t *buffers;
	size_t buffer_bytes;
	uint16_t seen; /* of the used ring */
	int kick, call;
};

static uint8_t *memory;
static struct queue_end rx, tx;
static struct pollfd host = {.fd = -1};
static uint32_t host_port, sent, device_fwd_cnt, device_alloc, received, told;
static uint64_t in_bytes, out_bytes; /* that came whole */
static bool ended;

/* --- vhost-user ------------------------------------------------------------------------------- */

static void tell(int fd, uint32_t request, struct vhost_message *m, size_t bytes, int with)
{
	union {
		struct cmsghdr head;
		uint8_t bytes[CMSG_SPACE(sizeof(int))];
	} control = {.head = {.cmsg_len = CMSG_LEN(sizeof(int)),
			 .cmsg_level = SOL_SOCKET,
			 .cmsg_type = SCM_RIGHTS}};
	struct iovec pieces[] = {{&m->head, sizeof m->head}, {&m->payload, bytes}};
	struct msghdr h = {.msg_iov = pieces, .msg_iovlen = 2};

	if (with >= 0) {
		memcpy(CMSG_DATA(&control.head), &with, sizeof with);
		h.msg_control = &control;
		h.msg_controllen = sizeof control;
	}
	m->head.request = request;
	m->head.flags = 1;
	m->head.bytes = (uint32_t)bytes;
	must("sendmsg", (int)sendmsg(fd, &h, 0));
}

static void tell_number(int fd, uint32_t request, uint64_t number, int with)
{
	struct vhost_message m = {.payload.number = number};

	tell(fd, request, &m, sizeof m.payload.number, with);
}

static void tell_state(int fd, uint32_t request, uint32_t index, uint32_t number)
{
	struct vhost_message m = {.payload.state = {index, number}};

	tell(fd, request, &m, sizeof m.payload.state, -1);
}

static void tell_queue(int fd, uint32_t index, struct queue_end *q)
{
	const uint64_t at = index * RINGS_BYTES;
	struct vhost_message m = {.payload.addresses = {index, 0, at, at + USED, at + AVAIL, 0}};

	tell_state(fd, SET_VRING_NUM, index, SIZE);
	tell_state(fd, SET_VRING_BASE, index, 0);
	tell(fd, SET_VRING_ADDR, &m, sizeof m.payload.addresses, -1);
	tell_number(fd, SET_VRING_CALL, index, q->call);
	tell_number(fd, SET_VRING_KICK, index, q->kick);
}

/* Waits until the bridge has done all that it was told. */
static void be_answered(int fd)
{
	struct vhost_message m;
	struct pollfd p = {fd, POLLIN, 0};

	tell(fd, GET_FEATURES, &m, 0, -1);
	must("poll", poll(&p, 1, PATIENCE_MS));
	must("read", (int)read(fd, &m, sizeof m));
}

static struct queue_end queue_end(uint32_t index, size_t buffers_at, size_t buffer_bytes)
{
	uint8_t *at = memory + index * RINGS_BYTES;

	return (struct queue_end){
	    .desc = (void *)at,
	    .avail = (void *)(at + AVAIL),
	    .used = (void *)(at + USED),
	    .buffers = memory + buffers_at,
	    .buffer_bytes = buffer_bytes,
	    .kick = must("eventfd", eventfd(0, EFD_NONBLOCK)),
	    .call = must("eventfd", eventfd(0, EFD_NONBLOCK)),
	};
}

static void plug_in(const char *path)
{
	int fd = unix_connect(path);
	int file = must("memfd", fs_memfd("guest"));
	struct vhost_message m = {.payload.memory = {.n = 1, .regions = {{0, MEMORY_BYTES, 0, 0}}}};

	must("ftruncate", ftruncate(file, MEMORY_BYTES));
	memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	must("mmap", memory == MAP_FAILED ? -1 : 0);
	rx = queue_end(0, RX_AT, RX_BYTES);
	tx = queue_end(1, TX_AT, TX_BYTES);
	tell(fd, SET_OWNER, &m, 0, -1);
	tell_number(fd, SET_FEATURES, 1ull << 32 | 1ull << VIRTIO_RING_F_EVENT_IDX, -1);
	tell(fd, SET_MEM_TABLE, &m, 8 + sizeof *m.payload.memory.regions, file);
	tell_queue(fd, 0, &rx);
	tell_queue(fd, 1, &tx);
	be_answered(fd);
}

/* --- the driver ------------------------------------------------------------------------------- */

static uint8_t *buffer(const struct queue_end *q, uint32_t i)
{
	return q->buffers + i * q->buffer_bytes;
}

/* Makes a buffer available, and kicks when the device asked for it. */
static void offer(struct queue_end *q, uint16_t i, size_t bytes, uint16_t flags)
{
	const uint64_t one = 1;
	uint16_t at = q->avail->idx;
	uint16_t event;

	q->desc[i] =
	    (struct vring_desc){(uint64_t)(buffer(q, i) - memory), (uint32_t)bytes, flags, 0};
	q->avail->ring[at % SIZE] = i;
	__atomic_store_n(&q->avail->idx, (uint16_t)(at + 1), __ATOMIC_SEQ_CST);
	event = __atomic_load_n((uint16_t *)(void *)&q->used->ring[SIZE], __ATOMIC_SEQ_CST);
	if (event == at)
		(void)!write(q->kick, &one, sizeof one);
}

static bool has_used(const struct queue_end *q)
{
	return __atomic_load_n(&q->used->idx, __ATOMIC_ACQUIRE) != q->seen;
}

/* Whether the device has used anything; if not, it is to call when it has. */
static bool used_or_await(struct queue_end *q)
{
	__atomic_store_n(&q->avail->ring[SIZE], q->seen, __ATOMIC_SEQ_CST);
	return has_used(q);
}

static bool has_slot(void)
{
	while (has_used(&tx))
		tx.seen++;
	return (uint16_t)(tx.avail->idx - tx.seen) < TX_BUFFERS;
}

/* There is a slot; payload is already in it, or there is none. */
static void transmit(uint16_t op, uint32_t flags, uint32_t len)
{
	uint16_t slot = tx.avail->idx % TX_BUFFERS;
	struct packet p = {
	    .src_cid = CID,
	    .dst_cid = 2,
	    .src_port = PORT,
	    .dst_port = host_port,
	    .len = len,
	    .type = VIRTIO_VSOCK_TYPE_STREAM,
	    .op = op,
	    .flags = flags,
	    .buf_alloc = CREDIT_BYTES,
	    .fwd_cnt = received,
	};

	told = received;
	packet_write(&p, buffer(&tx, slot));
	offer(&tx, slot, PACKET_BYTES + len, 0);
}

static void take(const struct packet *p, const uint8_t *payload)
{
	static uint8_t program[4096]; /* of the guest, that reads */

	device_fwd_cnt = p->fwd_cnt;
	device_alloc = p->buf_alloc;
	if (p->op == VIRTIO_VSOCK_OP_REQUEST)
		host_port = p->src_port;
	if (p->op == VIRTIO_VSOCK_OP_SHUTDOWN || p->op == VIRTIO_VSOCK_OP_RST)
		ended = true;
	if (p->op != VIRTIO_VSOCK_OP_RW)
		return;
	memcpy(program, payload, p->len);
	received += p->len;
	in_bytes += p->len;
}

static void receive(void)
{
	while (has_used(&rx)) {
		uint16_t i = (uint16_t)rx.used->ring[rx.seen++ % SIZE].id;
		struct packet p = packet_read(buffer(&rx, i));

		take(&p, buffer(&rx, i) + PACKET_BYTES);
		offer(&rx, i, RX_BYTES, VRING_DESC_F_WRITE);
	}
}

static uint32_t credit(void)
{
	return device_alloc - (sent - device_fwd_cnt);
}

static void send_bytes(void)
{
	static const uint8_t program[TX_BYTES]; /* of the guest, that writes */

	while (has_slot() && credit()) {
		uint32_t n = credit() < 65536 ? credit() : 65536;

		memcpy(buffer(&tx, tx.avail->idx % TX_BUFFERS) + PACKET_BYTES, program, n);
		transmit(VIRTIO_VSOCK_OP_RW, 0, n);
		sent += n;
	}
}

/* --- both together ---------------------------------------------------------------------------- */

/* Waits until the device calls or the host program's socket is ready. */
static void wait_for_any(void)
{
	struct pollfd p[] = {{rx.call, POLLIN, 0}, {tx.call, POLLIN, 0}, host};
	uint64_t count;
	int patience = used_or_await(&rx) || used_or_await(&tx) ? 0 : PATIENCE_MS;

	if (must("poll", poll(p, 3, patience)) == 0 && patience) {
		fputs("load_vsock: nothing moves\n", stderr);
		exit(EXIT_FAILURE);
	}
	for (int i = 0; i < 2; i++)
		if (p[i].revents)
			(void)!read(p[i].fd, &count, sizeof count);
	host.revents = p[2].revents;
}

static size_t moved(ssize_t n)
{
	if (n < 0 && errno == EAGAIN)
		return 0;
	return (size_t)must("host", (int)n);
}

static void connect_host(const char *path)
{
	char ok[64];

	host = (struct pollfd){.fd = unix_connect(path), .events = POLLIN};
	must("write", (int)write(host.fd, "CONNECT 1024\n", 13));
	while (!host_port) {
		wait_for_any();
		receive();
	}
	has_slot();
	transmit(VIRTIO_VSOCK_OP_RESPONSE, 0, 0);
	while (!moved(read(host.fd, ok, sizeof ok)))
		wait_for_any();
}

/* Host program to guest, until `end`, and then what is under way. */
static uint64_t run_in(uint64_t end)
{
	static const uint8_t piece[PIECE_BYTES];
	uint64_t written = 0;

	host.events = POLLOUT;
	while (!ended) {
		wait_for_any();
		receive();
		if (received - told >= CREDIT_BYTES / 2 && has_slot())
			transmit(VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, 0);
		if (host.events && clock_mono_ns() >= end) {
			must("shutdown", shutdown(host.fd, SHUT_WR));
			host.events = 0;
		} else if (host.revents) {
			written += moved(write(host.fd, piece, sizeof piece));
		}
	}
	return written == in_bytes ? in_bytes : 0;
}

/* Guest to host program. */
static uint64_t run_out(uint64_t end)
{
	static uint8_t piece[PIECE_BYTES];
	uint64_t written = 0;
	bool stopped = false;
	size_t n = 1;

	while (n) {
		uint32_t before = sent;

		receive();
		if (!stopped && clock_mono_ns() < end)
			send_bytes();
		else if (!stopped && has_slot()) {
			transmit(VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND, 0);
			stopped = true;
		}
		written += sent - before;
		wait_for_any();
		if (host.revents)
			n = moved(read(host.fd, piece, sizeof piece));
		out_bytes += host.revents ? n : 0;
	}
	return written == out_bytes ? out_bytes : 0;
}

int main(int argc, char **argv)
{
	uint64_t begin, end, bytes;

	need_args(argc, argv, 4, "VHOST HOST in|out MILLISECONDS");
	plug_in(argv[1]);
	for (uint16_t i = 0; i < RX_BUFFERS; i++)
		offer(&rx, i, RX_BYTES, VRING_DESC_F_WRITE);
	connect_host(argv[2]);
	begin = clock_mono_ns();
	end = begin + number_arg(argv, 4, 60000) * NS_PER_MS;
	bytes = strcmp(argv[3], "in") == 0 ? run_in(end) : run_out(end);
	if (bytes == 0) {
		fputs("load_vsock: bytes are missing\n", stderr);
		return EXIT_FAILURE;
	}
	printf("bytes %llu seconds %.6f\n", (unsigned long long)bytes,
	    (double)(clock_mono_ns() - begin) / 1e9);
}
