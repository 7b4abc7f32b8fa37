/* The DHCP client, its network and clock played by the input: answers right and wrong, failing
 * sockets, a link that comes and goes, and time. It must always be of one mind with its owner, and
 * still get a lease when all is well again. */
#include "fuzz.h"

#include "base/cursor.h"
#include "base/log.h"
#include "codec/udpip.h"
#include "init/dhcp_client.h"
#include "sys/packet.h"
#include "sys/timer.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>

enum { PACKET_BYTES = 400, XID_AT = 4, EVENTS = 30, DAY_SECS = 86400 };

static const uint8_t mac[] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};

static struct loop loop;
static struct dhcp_client *client;
static bool has_lease;

static void must(bool held)
{
	if (!held)
		abort();
}

/* --- the network ------------------------------------------------------------------------------ */

static uint32_t xid;
static bool fails;
static struct span waiting; /* the packet that comes next */

const uint8_t packet_broadcast[PACKET_MAC_BYTES] = {255, 255, 255, 255, 255, 255};

/* Readable at any time. */
int packet_open(int ifindex, uint16_t port)
{
	(void)ifindex, (void)port;
	return fails ? -ENOBUFS : eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
}

static int take_message(struct span message)
{
	struct rd r = rd_of(span_from(message, XID_AT));

	xid = rd_u32be(&r);
	return fails ? -ENETDOWN : 0;
}

int packet_send(int fd, int ifindex, const uint8_t to[PACKET_MAC_BYTES], struct span packet)
{
	(void)fd, (void)ifindex, (void)to;
	return take_message(span_from(packet, UDPIP_HEADER_BYTES));
}

ssize_t packet_receive(int fd, void *buf, size_t cap, bool *checked)
{
	ssize_t n = (ssize_t)waiting.n;

	(void)fd;
	if (fails)
		return -ENETDOWN;
	if (n == 0)
		return -EAGAIN;
	must(waiting.n <= cap);
	memcpy(buf, waiting.p, waiting.n);
	*checked = true;
	waiting.n = 0;
	return n;
}

int packet_udp_open(int ifindex, const struct addr *from)
{
	(void)ifindex, (void)from;
	return fails ? -EADDRNOTAVAIL : eventfd(0, EFD_CLOEXEC);
}

int packet_udp_send(int fd, const struct addr *to, struct span payload)
{
	(void)fd, (void)to;
	return take_message(payload);
}

/* Hands a packet to the client, if it listens. */
static void deliver(struct span packet)
{
	struct epoll_event ev;

	waiting = packet;
	if (epoll_wait(loop.epfd, &ev, 1, 0) == 1) {
		struct source *s = ev.data.ptr;

		must(s->fn(s, EPOLLIN) == 0);
	}
	loop_bury(&loop);
}

/* --- answers ---------------------------------------------------------------------------------- */

struct answer {
	uint8_t type, address, server; /* the last bytes of the two */
	uint16_t lease_secs, renew_secs, rebind_secs;
};

static void put_secs(struct wr *w, uint8_t code, uint16_t secs)
{
	if (secs == 0)
		return;
	wr_u8(w, code);
	wr_u8(w, 4);
	wr_u32be(w, secs == UINT16_MAX ? DHCP_INFINITE_SECS : secs);
}

static void answer_write(struct wr *w, const struct answer *a)
{
	static const uint8_t zeros[202];

	wr_u32be(w, 0x02010600);
	wr_u32be(w, xid);
	wr_bytes(w, span_of(zeros, 8));
	wr_u32be(w, 0x0a000200u | a->address);
	wr_bytes(w, span_of(zeros, 8));
	wr_bytes(w, span_of(mac, sizeof mac));
	wr_bytes(w, span_of(zeros, 202));
	wr_u32be(w, 0x63825363);
	wr_bytes(w, span_of((const uint8_t[]){53, 1, a->type, 54, 4, 10, 0, 2, a->server}, 9));
	put_secs(w, 51, a->lease_secs);
	put_secs(w, 58, a->renew_secs);
	put_secs(w, 59, a->rebind_secs);
	wr_u8(w, 255);
}

/* Sends an answer, with one byte of it changed where `at` is within it. */
static void send_answer(const struct answer *a, uint16_t at, uint8_t flip)
{
	uint8_t message[PACKET_BYTES], packet[PACKET_BYTES];
	struct wr m = wr_of(message, sizeof message), p = wr_of(packet, sizeof packet);

	answer_write(&m, a);
	if (at < m.n)
		message[at] ^= flip;
	udpip_write(&p,
	    &(struct udpip){
		.from = ip_v4(10, 0, 2, a->server),
		.to = ip_v4(255, 255, 255, 255),
		.from_port = DHCP_SERVER_PORT,
		.to_port = DHCP_CLIENT_PORT,
		.payload = wr_span(&m),
	    });
	must(p.err == E_OK);
	deliver(wr_span(&p));
}

/* --- the owner -------------------------------------------------------------------------------- */

static void on_bound(void *ctx, const struct dhcp_lease *lease)
{
	(void)ctx;
	must(lease == dhcp_client_lease(client) && lease->lease_secs >= 2);
	must(lease->renew_secs > 0 && lease->renew_secs <= lease->rebind_secs);
	must(lease->rebind_secs <= lease->lease_secs);
	has_lease = true;
}

static void on_lost(void *ctx, const struct dhcp_lease *lease)
{
	(void)ctx;
	must(has_lease && lease->lease_secs > 0);
	has_lease = false;
}

static void start(void)
{
	static const struct dhcp_ops ops = {on_bound, on_lost};
	const struct dhcp_conf conf = {
	    .ifname = "eth0",
	    .mac = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56},
	    .ops = &ops,
	    .retry_ms = 1000,
	    .retry_max_ms = 1024000, /* so long, or a run would be nothing but sending */
	    .renew_retry_ms = 600000,
	    .min_lease_secs = 2,
	    .max_lease_secs = DHCP_INFINITE_SECS,
	};

	has_lease = fails = false;
	client = dhcp_client_new(&loop, &conf);
	must(client != NULL);
}

/* --- time ------------------------------------------------------------------------------------- */

static void run_secs(uint64_t secs)
{
	uint64_t end_ns = loop.now_ns + secs * NS_PER_SEC;

	while (loop.timers && loop.timers->at_ns <= end_ns) {
		loop.now_ns = loop.timers->at_ns > loop.now_ns ? loop.timers->at_ns : loop.now_ns;
		timers_run(&loop);
		loop_bury(&loop);
	}
	loop.now_ns = end_ns;
}

static void event(struct rd *r)
{
	struct answer a;
	uint16_t at;

	switch (rd_u8(r) % 8) {
	case 0: dhcp_client_link(client, false); break;
	case 1: dhcp_client_link(client, true); break;
	case 2: fails = !fails; break;
	case 3: run_secs(rd_u8(r)); break;
	case 4: run_secs(rd_u16be(r) % 4096); break;
	default:
		a = (struct answer){
		    rd_u8(r), rd_u8(r), rd_u8(r), rd_u16be(r), rd_u16be(r), rd_u16be(r)};
		at = rd_u16be(r);
		send_answer(&a, at, rd_u8(r));
	}
	loop_bury(&loop);
	must((dhcp_client_lease(client) != NULL) == has_lease);
}

/* Whatever was, a server that behaves is enough. */
static void check_recovery(void)
{
	struct answer a = {.type = DHCP_OFFER, .address = 15, .server = 2, .lease_secs = 3600};

	fails = false;
	dhcp_client_link(client, false);
	run_secs(DAY_SECS); /* the lease has run out, unless it never does */
	loop_bury(&loop);
	dhcp_client_link(client, true);
	if (!has_lease)
		send_answer(&a, UINT16_MAX, 0);
	a.type = DHCP_ACK;
	send_answer(&a, UINT16_MAX, 0);
	must(has_lease && dhcp_client_lease(client)->lease_secs == 3600);
	run_secs(3600);
	must(!has_lease);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct rd r = rd_of(span_of(data, n));
	struct span bad;

	if (!loop.epfd) {
		log_filter(span_str("off"), &bad);
		must(loop_init(&loop) == 0);
	}
	start();
	run_secs(0);
	for (unsigned i = 0; i < EVENTS && rd_left(&r) && r.err == E_OK; i++)
		event(&r);
	check_recovery();
	dhcp_client_free(client, false);
	loop_bury(&loop);
	must(loop.timers == NULL);
	return 0;
}
