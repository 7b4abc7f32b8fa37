#include "net/proxy.h"

#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* --- the world: a loop, a proxy, its backend's listener, all in this process ------------------ */

struct world {
	struct loop loop;
	struct proxy *proxy;
	struct proxy_conf conf;
	char dir[32];
	int backend_fd; /* of the backend's listener; -1 = it is down */
	unsigned fds;   /* open before anything was made */
	unsigned tells;
	int told_rc;
};

/* `told` gets the proxy only, and every test has one world. */
static struct world w;

static void told(const struct proxy *p, const char *what, int rc)
{
	ck_assert_uint_gt(proxy_conf(p)->max_relays, 0);
	ck_assert_uint_gt(strlen(what), 0);
	w.tells++;
	w.told_rc = rc;
}

static void listener_told(struct listener *l, int what, int rc, const struct addr *peer)
{
	(void)l;
	(void)what;
	(void)rc;
	(void)peer;
}

static const struct listener_ops listener_ops = {.told = listener_told};

static struct addr unix_addr(const char *name)
{
	char text[64];
	struct addr a;

	snprintf(text, sizeof text, "unix:%s/%s", w.dir, name);
	ck_assert_int_eq(addr_parse(span_str(text), &a), E_OK);
	return a;
}

/* A TCP address of this machine at which nobody listens. */
static struct addr tcp_addr(void)
{
	struct addr a;
	int fd;

	ck_assert_int_eq(addr_parse(span_str("tcp:127.0.0.1:0"), &a), E_OK);
	fd = sock_listen(&a, 1);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(getsockname(fd, &a.u.sa, &a.len), 0);
	close(fd);
	return a;
}

static void world_init(void)
{
	signal(SIGPIPE, SIG_IGN);
	w = (struct world){.backend_fd = -1, .dir = "/tmp/proxy.XXXXXX"};
	ck_assert_ptr_nonnull(mkdtemp(w.dir));
	w.fds = fault_fds();
	ck_assert_int_eq(loop_init(&w.loop), 0);
	w.conf = (struct proxy_conf){
	    .listen = unix_addr("front"),
	    .backend = unix_addr("back"),
	    .listener_ops = &listener_ops,
	    .park_ms = 10000,
	    .retry_ms = 20,
	    .max_relays = 2000,
	    .told = told,
	};
}

static void proxy_up(void)
{
	w.proxy = proxy_new(&w.loop, &w.conf);
	ck_assert_ptr_nonnull(w.proxy);
}

static void backend_up(void)
{
	w.backend_fd = sock_listen(&w.conf.backend, 1024);
	ck_assert_int_ge(w.backend_fd, 0);
}

static void backend_down(void)
{
	if (w.backend_fd >= 0)
		close(w.backend_fd);
	if (w.conf.backend.u.sa.sa_family == AF_UNIX)
		unlink(w.conf.backend.u.un.sun_path);
	w.backend_fd = -1;
}

/* Nothing may be left: no relay, no descriptor, no file. */
static void world_done(void)
{
	proxy_free(w.proxy);
	w.proxy = NULL;
	backend_down();
	loop_done(&w.loop);
	ck_assert_uint_eq(fault_fds(), w.fds);
	ck_assert_int_eq(rmdir(w.dir), 0);
}

static void start(void)
{
	world_init();
	backend_up();
	proxy_up();
}

static void start_tcp(void)
{
	world_init();
	w.conf.listen = tcp_addr();
	w.conf.backend = tcp_addr();
	backend_up();
	proxy_up();
}

static void turns(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		ck_assert_int_eq(loop_turn(&w.loop, 0), 0);
}

/* Turns until `cond`, for 5 s at most. */
#define TURN_UNTIL(cond)                                                                           \
	do {                                                                                       \
		uint64_t give_up_ns_ = clock_mono_ns() + 5 * NS_PER_SEC;                           \
                                                                                                   \
		while (!(cond)) {                                                                  \
			ck_assert_msg(clock_mono_ns() < give_up_ns_, "never: %s", #cond);          \
			ck_assert_int_eq(loop_turn(&w.loop, 1), 0);                                \
		}                                                                                  \
	} while (0)

/* The loop gets to sleep: a source that stays ready, and a task that comes back, would keep it from
 * that for ever. */
static void assert_quiet(void)
{
	struct pollfd epoll = {.fd = w.loop.epfd, .events = POLLIN};
	unsigned awake = 0;

	do {
		ck_assert_uint_lt(awake++, 200);
		turns(1);
	} while (!list_empty(&w.loop.tasks) || poll(&epoll, 1, 0) > 0);
}

/* --- the two ends of a relay ---------------------------------------------------------------- */

enum { PATTERN_PERIOD = 65521, PIECE_MAX = 65536 };

/* Byte i of every stream, so that a byte that is lost, doubled or swapped shows. */
static const uint8_t *pattern(uint64_t i)
{
	static uint8_t bytes[PATTERN_PERIOD + PIECE_MAX];
	uint32_t x = 1;

	for (size_t k = 0; !bytes[PATTERN_PERIOD] && k < PATTERN_PERIOD; k++) {
		x = x * 1664525 + 1013904223;
		bytes[k] = (uint8_t)(x >> 24 | 1);
	}
	for (size_t k = PATTERN_PERIOD; !bytes[sizeof bytes - 1] && k < sizeof bytes; k++)
		bytes[k] = bytes[k - PATTERN_PERIOD];
	return bytes + i % PATTERN_PERIOD;
}

struct end {
	int fd;
	uint64_t sent, got;
	bool eof;
	int error; /* that ended reading or writing */
};

static struct end end_of(int fd)
{
	ck_assert_int_ge(fd, 0);
	return (struct end){.fd = fd};
}

static struct end connect_client(void)
{
	return end_of(sock_connect(&w.conf.listen));
}

static struct end accept_backend(void)
{
	struct addr peer;
	int fd = -EAGAIN;

	TURN_UNTIL((fd = sock_accept(w.backend_fd, &peer)) != -EAGAIN);
	return end_of(fd);
}

static void connect_pair(struct end *client, struct end *backend)
{
	*client = connect_client();
	*backend = accept_backend();
	turns(3);
}

static void end_close(struct end *e)
{
	close(e->fd);
	e->fd = -1;
}

/* Sends up to n bytes of the stream. False when none was taken. */
static bool end_send(struct end *e, size_t n)
{
	ssize_t rc = send(e->fd, pattern(e->sent), n < PIECE_MAX ? n : PIECE_MAX, MSG_NOSIGNAL);

	if (rc < 0 && errno != EAGAIN)
		e->error = errno;
	if (rc > 0)
		e->sent += (uint64_t)rc;
	return rc > 0;
}

/* Receives up to n bytes, which must be the next ones. False when there was none. */
static bool end_receive(struct end *e, size_t n)
{
	static uint8_t buf[PIECE_MAX];
	ssize_t rc = recv(e->fd, buf, n < sizeof buf ? n : sizeof buf, 0);

	if (rc < 0 && errno != EAGAIN) {
		e->error = errno;
		e->eof = true;
	}
	if (rc == 0)
		e->eof = true;
	if (rc <= 0)
		return false;
	ck_assert_mem_eq(buf, pattern(e->got), (size_t)rc);
	e->got += (uint64_t)rc;
	return true;
}

/* Fills everything between this end and the other. */
static void end_stuff(struct end *e)
{
	for (unsigned idle = 0; idle < 10; idle++) {
		while (end_send(e, PIECE_MAX))
			idle = 0;
		turns(1);
	}
}

/* Receives some, and says whether the first n bytes of the stream have come. */
static bool end_has(struct end *e, uint64_t n)
{
	end_receive(e, PIECE_MAX);
	return e->got == n;
}

static bool end_is_over(struct end *e)
{
	end_receive(e, PIECE_MAX);
	return e->eof;
}

static void receive_until_eof(struct end *e)
{
	TURN_UNTIL(end_is_over(e));
}

static bool has_moved(struct end *from, struct end *to, uint64_t goal)
{
	if (from->sent < goal)
		end_send(from, (size_t)(goal - from->sent));
	return end_has(to, goal);
}

static void transfer(struct end *from, struct end *to, size_t n)
{
	uint64_t goal = from->sent + n;

	TURN_UNTIL(has_moved(from, to, goal));
}

static bool is_told_off(struct end *e)
{
	end_send(e, 100);
	return e->error == EPIPE;
}

/* --- moving bytes --------------------------------------------------------------------------- */

START_TEST(small_messages)
{
	struct end client, backend;

	start();
	connect_pair(&client, &backend);
	for (size_t n = 1; n < 300; n++) {
		transfer(&client, &backend, n);
		transfer(&backend, &client, 2 * n);
	}
	assert_quiet();
	end_close(&client);
	receive_until_eof(&backend);
	end_close(&backend);
	TURN_UNTIL(proxy_relays(w.proxy) == 0);
	world_done();
}
END_TEST

/* Random sizes from 1 to 64 KiB, with a bias to small ones. */
static size_t random_size(void)
{
	return (size_t)1 + (size_t)random() % ((size_t)1 << (random() % 17));
}

/* Both ends send `goal` bytes and read them, by turns. */
static void exchange(struct end ends[2], uint64_t goal, unsigned reads[2])
{
	uint64_t give_up_ns = clock_mono_ns() + 50 * NS_PER_SEC;

	while (ends[0].got < goal || ends[1].got < goal) {
		ck_assert_uint_lt(clock_mono_ns(), give_up_ns);
		for (int i = 0; i < 2; i++) {
			uint64_t left = goal - ends[i].sent;
			size_t n = random_size();

			if (left > 0)
				end_send(&ends[i], n < left ? n : (size_t)left);
			for (unsigned k = 0; k < reads[i]; k++)
				end_receive(&ends[i], random_size());
		}
		turns(1);
	}
}

static void exchange_and_close(uint64_t goal, unsigned client_reads, unsigned backend_reads)
{
	struct end ends[2];

	connect_pair(&ends[0], &ends[1]);
	exchange(ends, goal, (unsigned[]){client_reads, backend_reads});
	shutdown(ends[0].fd, SHUT_WR);
	receive_until_eof(&ends[1]);
	ck_assert_uint_eq(ends[1].got, goal);
	end_close(&ends[1]);
	receive_until_eof(&ends[0]);
	ck_assert_uint_eq(ends[0].got, goal);
	ck_assert_int_eq(ends[0].error, 0);
	end_close(&ends[0]);
	TURN_UNTIL(proxy_relays(w.proxy) == 0);
}

START_TEST(much_both_ways_at_once)
{
	start();
	exchange_and_close(64 << 20, 2, 2);
	world_done();
}
END_TEST

START_TEST(much_over_tcp)
{
	start_tcp();
	exchange_and_close(32 << 20, 2, 2);
	world_done();
}
END_TEST

/* What a reader does not take must stop the sender, and cost nothing meanwhile. */
START_TEST(slow_reader)
{
	struct end client, backend;
	uint64_t stuffed;

	start();
	connect_pair(&client, &backend);
	end_stuff(&client);
	stuffed = client.sent;
	ck_assert_uint_lt(stuffed, 2 << 20);
	assert_quiet();
	transfer(&backend, &client, 100000);
	assert_quiet();
	ck_assert(!end_send(&client, 1));
	TURN_UNTIL(end_has(&backend, stuffed));
	transfer(&client, &backend, 100000);
	assert_quiet();
	end_close(&client);
	end_close(&backend);
	world_done();
}
END_TEST

START_TEST(both_directions_stuffed)
{
	struct end ends[2];
	uint64_t goal;

	start();
	connect_pair(&ends[0], &ends[1]);
	end_stuff(&ends[0]);
	end_stuff(&ends[1]);
	assert_quiet();
	goal = ends[0].sent > ends[1].sent ? ends[0].sent : ends[1].sent;
	exchange(ends, goal, (unsigned[]){1, 1});
	end_close(&ends[0]);
	end_close(&ends[1]);
	world_done();
}
END_TEST

/* --- ends ----------------------------------------------------------------------------------- */

/* `first` ends its stream behind bytes that wait; the other goes on sending, then ends, too. */
static void half_close(struct end *first, struct end *second)
{
	end_stuff(first);
	shutdown(first->fd, SHUT_WR);
	assert_quiet();
	transfer(second, first, 200000);
	assert_quiet();
	receive_until_eof(second);
	ck_assert_uint_eq(second->got, first->sent);
	assert_quiet();
	transfer(second, first, 200000);
	ck_assert_uint_eq(proxy_relays(w.proxy), 1);
	end_stuff(second);
	shutdown(second->fd, SHUT_WR);
	assert_quiet();
	receive_until_eof(first);
	ck_assert_uint_eq(first->got, second->sent);
	ck_assert_int_eq(first->error | second->error, 0);
	TURN_UNTIL(proxy_relays(w.proxy) == 0);
}

START_TEST(half_close_in_both_orders)
{
	struct end client, backend;

	start();
	connect_pair(&client, &backend);
	half_close(&client, &backend);
	end_close(&client);
	end_close(&backend);
	connect_pair(&client, &backend);
	half_close(&backend, &client);
	end_close(&client);
	end_close(&backend);
	world_done();
}
END_TEST

/* As on vsock, where nothing tells of it but a send. */
START_TEST(a_client_that_ended_may_be_gone)
{
	struct end client, backend;

	start();
	connect_pair(&client, &backend);
	shutdown(client.fd, SHUT_WR);
	receive_until_eof(&backend);
	for (int i = 0; i < 15; i++)
		ck_assert_int_eq(loop_turn(&w.loop, 100), 0);
	ck_assert_uint_eq(proxy_relays(w.proxy), 1);
	fault_arm("sendto", 1, EPIPE, true);
	for (int i = 0; i < 50 && proxy_relays(w.proxy); i++)
		ck_assert_int_eq(loop_turn(&w.loop, 100), 0);
	ck_assert(fault_disarm());
	ck_assert_uint_eq(proxy_relays(w.proxy), 0);
	end_close(&client);
	end_close(&backend);
	world_done();
}
END_TEST

/* A client that says all it has and goes: the bytes arrive, however slow the backend reads. */
START_TEST(client_leaves_its_bytes_behind)
{
	struct end client, backend;

	start();
	connect_pair(&client, &backend);
	end_stuff(&client);
	end_close(&client);
	assert_quiet();
	ck_assert_uint_eq(proxy_relays(w.proxy), 1);
	receive_until_eof(&backend);
	ck_assert_uint_eq(backend.got, client.sent);
	TURN_UNTIL(proxy_relays(w.proxy) == 0);
	end_close(&backend);
	world_done();
}
END_TEST

/* A backend that answers without reading all, and goes: the client gets the answer, and learns that
 * its own bytes go nowhere. */
START_TEST(backend_answers_early_and_leaves)
{
	struct end client, backend;

	start();
	connect_pair(&client, &backend);
	end_stuff(&client);
	end_send(&backend, 50000);
	end_close(&backend);
	receive_until_eof(&client);
	ck_assert_uint_eq(client.got, 50000);
	TURN_UNTIL(proxy_relays(w.proxy) == 0);
	ck_assert(!end_send(&client, 1));
	ck_assert_int_eq(client.error, EPIPE);
	end_close(&client);
	assert_quiet();
	world_done();
}
END_TEST

/* The client does not read what the backend left behind: that waits, and the loop sleeps. */
START_TEST(backend_leaves_a_slow_client)
{
	struct end client, backend;

	start();
	connect_pair(&client, &backend);
	end_stuff(&backend);
	end_close(&backend);
	assert_quiet();
	ck_assert(!end_send(&client, 1));
	ck_assert_int_eq(client.error, EPIPE);
	assert_quiet();
	receive_until_eof(&client);
	ck_assert_uint_eq(client.got, backend.sent);
	TURN_UNTIL(proxy_relays(w.proxy) == 0);
	end_close(&client);
	world_done();
}
END_TEST

START_TEST(backend_that_reads_no_more)
{
	struct end client, backend;

	start();
	connect_pair(&client, &backend);
	shutdown(backend.fd, SHUT_RD);
	end_send(&client, 100);
	TURN_UNTIL(is_told_off(&client));
	transfer(&backend, &client, 100000);
	assert_quiet();
	end_close(&backend);
	receive_until_eof(&client);
	end_close(&client);
	TURN_UNTIL(proxy_relays(w.proxy) == 0);
	world_done();
}
END_TEST

START_TEST(backend_that_connects_and_dies)
{
	struct end client, backend;

	start();
	client = connect_client();
	end_send(&client, 100);
	backend = accept_backend();
	end_close(&backend);
	receive_until_eof(&client);
	ck_assert_uint_eq(client.got, 0);
	TURN_UNTIL(proxy_relays(w.proxy) == 0);
	end_close(&client);
	ck_assert_uint_eq(w.tells, 0);
	world_done();
}
END_TEST

static void reset(struct end *e)
{
	const struct linger none = {.l_onoff = 1, .l_linger = 0};

	ck_assert_int_eq(setsockopt(e->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none), 0);
	end_close(e);
}

/* A reset of one side reaches the other, whatever was under way. */
static void reset_one(bool client_resets, bool stuffed)
{
	struct end client, backend;
	struct end *dying = client_resets ? &client : &backend;
	struct end *other = client_resets ? &backend : &client;

	connect_pair(&client, &backend);
	if (stuffed) {
		end_stuff(&client);
		end_stuff(&backend);
	}
	reset(dying);
	receive_until_eof(other);
	TURN_UNTIL(proxy_relays(w.proxy) == 0);
	end_close(other);
	assert_quiet();
}

START_TEST(resets)
{
	start_tcp();
	for (unsigned i = 0; i < 4; i++)
		reset_one(i & 1, i & 2);
	ck_assert_uint_eq(w.tells, 0);
	world_done();
}
END_TEST

static void act_at_random(struct end *e)
{
	if (e->fd < 0)
		return;
	switch (random() % 40) {
	case 0: shutdown(e->fd, SHUT_WR); break;
	case 1: shutdown(e->fd, SHUT_RD); break;
	case 2: end_close(e); break;
	default:
		end_send(e, random_size());
		if (random() % 3 > 0)
			end_receive(e, random_size());
	}
}

/* Whatever the two ends do, in whatever order: what arrives is what was sent, the loop sleeps when
 * nobody acts, and nothing is left. */
static void live_at_random(void)
{
	struct end ends[2];

	connect_pair(&ends[0], &ends[1]);
	for (unsigned i = 0; i < 400 && (ends[0].fd >= 0 || ends[1].fd >= 0); i++) {
		act_at_random(&ends[random() % 2]);
		turns((unsigned)random() % 3);
		if (i % 16 == 0)
			assert_quiet();
	}
	for (int i = 0; i < 2; i++)
		if (ends[i].fd >= 0)
			end_close(&ends[i]);
	TURN_UNTIL(proxy_relays(w.proxy) == 0);
}

START_TEST(lives_at_random)
{
	start();
	for (unsigned seed = 0; seed < 300; seed++) {
		srandom(seed);
		live_at_random();
	}
	ck_assert_uint_eq(w.tells, 0);
	world_done();
}
END_TEST

START_TEST(tcp_lives_at_random)
{
	start_tcp();
	for (unsigned seed = 0; seed < 300; seed++) {
		srandom(seed);
		live_at_random();
	}
	ck_assert_uint_eq(w.tells, 0);
	world_done();
}
END_TEST

/* --- parking -------------------------------------------------------------------------------- */

static void park_and_serve(void)
{
	struct end client, backend;

	proxy_up();
	turns(2);
	client = connect_client();
	end_send(&client, 5000);
	TURN_UNTIL(proxy_relays(w.proxy) == 1);
	assert_quiet();
	backend_up();
	backend = accept_backend();
	TURN_UNTIL(end_has(&backend, 5000));
	transfer(&backend, &client, 5000);
	end_close(&client);
	end_close(&backend);
	TURN_UNTIL(proxy_relays(w.proxy) == 0);
	ck_assert_uint_eq(w.tells, 0);
}

START_TEST(backend_that_appears_late)
{
	world_init();
	park_and_serve();
	world_done();
}
END_TEST

START_TEST(tcp_backend_that_appears_late)
{
	world_init();
	w.conf.backend = tcp_addr();
	park_and_serve();
	world_done();
}
END_TEST

/* A backend that went away while connections waited to be accepted did not serve them. */
START_TEST(backend_that_restarts)
{
	struct end client, backend;

	start();
	client = connect_client();
	end_send(&client, 100);
	turns(1);
	backend_down();
	TURN_UNTIL(proxy_relays(w.proxy) == 1);
	assert_quiet();
	backend_up();
	backend = accept_backend();
	TURN_UNTIL(end_has(&backend, 100));
	end_close(&client);
	end_close(&backend);
	world_done();
}
END_TEST

static void park_half_closed(void)
{
	struct end client, backend;

	proxy_up();
	turns(2);
	client = connect_client();
	end_send(&client, 300);
	shutdown(client.fd, SHUT_WR);
	TURN_UNTIL(proxy_relays(w.proxy) == 1);
	assert_quiet();
	backend_up();
	backend = accept_backend();
	receive_until_eof(&backend);
	ck_assert_uint_eq(backend.got, 300);
	transfer(&backend, &client, 300);
	end_close(&backend);
	receive_until_eof(&client);
	end_close(&client);
}

START_TEST(parked_client_that_half_closes)
{
	world_init();
	park_half_closed();
	world_done();
}
END_TEST

START_TEST(parked_tcp_client_that_half_closes)
{
	world_init();
	w.conf.listen = tcp_addr();
	park_half_closed();
	world_done();
}
END_TEST

START_TEST(parked_clients_that_leave)
{
	struct end clients[3];

	world_init();
	proxy_up();
	for (int i = 0; i < 3; i++)
		clients[i] = connect_client();
	TURN_UNTIL(proxy_relays(w.proxy) == 3);
	end_send(&clients[1], 100);
	shutdown(clients[2].fd, SHUT_WR);
	assert_quiet();
	for (unsigned i = 0; i < 3; i++) {
		end_close(&clients[i]);
		TURN_UNTIL(proxy_relays(w.proxy) == 2 - i);
	}
	ck_assert_uint_eq(w.tells, 0);
	world_done();
}
END_TEST

START_TEST(parked_tcp_client_that_resets)
{
	struct end client;

	world_init();
	w.conf.listen = tcp_addr();
	proxy_up();
	turns(2);
	client = connect_client();
	TURN_UNTIL(proxy_relays(w.proxy) == 1);
	reset(&client);
	TURN_UNTIL(proxy_relays(w.proxy) == 0);
	world_done();
}
END_TEST

/* More clients than the loop tries in one turn, all before the backend is there. */
static void park_many(void)
{
	enum { MANY = 3 * LOOP_EVENTS };
	struct end clients[MANY], backends[MANY];

	proxy_up();
	turns(2);
	for (int i = 0; i < MANY; i++) {
		clients[i] = connect_client();
		turns(2);
	}
	TURN_UNTIL(proxy_relays(w.proxy) == MANY);
	backend_up();
	for (int i = 0; i < MANY; i++)
		backends[i] = accept_backend();
	for (int i = 0; i < MANY; i++)
		end_send(&clients[i], 1 + (size_t)i);
	for (int i = 0; i < MANY; i++)
		end_close(&clients[i]);
	for (int i = 0; i < MANY; i++) {
		receive_until_eof(&backends[i]);
		ck_assert_uint_gt(backends[i].got, 0);
		end_close(&backends[i]);
	}
	TURN_UNTIL(proxy_relays(w.proxy) == 0);
}

START_TEST(many_parked)
{
	world_init();
	park_many();
	world_done();
}
END_TEST

START_TEST(many_parked_for_tcp)
{
	world_init();
	w.conf.backend = tcp_addr();
	park_many();
	world_done();
}
END_TEST

/* --- refusals ------------------------------------------------------------------------------- */

static size_t refusal(const struct proxy *p, int rc, char *buf, size_t cap)
{
	ck_assert_ptr_eq(p, w.proxy);
	ck_assert_int_eq(rc, -ENOENT);
	ck_assert_uint_eq(cap, PROXY_REFUSAL_BYTES);
	return (size_t)snprintf(buf, cap, "503 %s", err_text(rc));
}

static void expect_refusal(struct end *client)
{
	char got[64] = {0};

	TURN_UNTIL(recv(client->fd, got, sizeof got, 0) > 0);
	ck_assert_str_eq(got, "503 No such file or directory");
	TURN_UNTIL(recv(client->fd, got, sizeof got, 0) == 0);
	ck_assert_uint_eq(w.tells, 1);
	ck_assert_int_eq(w.told_rc, -ENOENT);
}

static void park_briefly(struct end *client)
{
	world_init();
	w.conf.park_ms = 60;
	w.conf.refusal = refusal;
	proxy_up();
	*client = connect_client();
	end_stuff(client);
}

START_TEST(refused_after_a_while)
{
	struct end client;
	uint64_t start_ns = clock_mono_ns();

	park_briefly(&client);
	expect_refusal(&client);
	ck_assert_uint_ge(clock_mono_ns() - start_ns, 60 * NS_PER_MS);
	ck_assert_uint_eq(proxy_relays(w.proxy), 1);
	end_send(&client, 100);
	turns(20);
	ck_assert_int_eq(client.error, 0);
	end_close(&client);
	TURN_UNTIL(proxy_relays(w.proxy) == 0);
	world_done();
}
END_TEST

START_TEST(refused_client_that_lingers)
{
	struct end client;
	uint64_t start_ns;

	park_briefly(&client);
	expect_refusal(&client);
	start_ns = clock_mono_ns();
	turns(20);
	assert_quiet();
	TURN_UNTIL(proxy_relays(w.proxy) == 0);
	ck_assert_uint_ge(clock_mono_ns() - start_ns, (PROXY_LINGER_MS - 100) * NS_PER_MS);
	end_close(&client);
	world_done();
}
END_TEST

START_TEST(closed_without_a_word)
{
	struct end client;

	world_init();
	w.conf.park_ms = 30;
	proxy_up();
	client = connect_client();
	receive_until_eof(&client);
	ck_assert_uint_eq(client.got, 0);
	ck_assert_uint_eq(proxy_relays(w.proxy), 0);
	ck_assert_int_eq(w.told_rc, -ENOENT);
	end_close(&client);
	world_done();
}
END_TEST

START_TEST(one_client_too_many)
{
	struct end clients[3];

	world_init();
	w.conf.max_relays = 2;
	proxy_up();
	for (int i = 0; i < 3; i++)
		clients[i] = connect_client();
	receive_until_eof(&clients[2]);
	ck_assert_uint_eq(proxy_relays(w.proxy), 2);
	ck_assert_int_eq(w.told_rc, -EUSERS);
	for (int i = 0; i < 3; i++)
		end_close(&clients[i]);
	world_done();
}
END_TEST

/* --- what it costs -------------------------------------------------------------------------- */

START_TEST(a_thousand_clients)
{
	enum { MANY = 1000 };
	static struct end clients[MANY], backends[MANY];
	unsigned fds;

	start();
	turns(2);
	fds = fault_fds();
	for (int i = 0; i < MANY; i++)
		connect_pair(&clients[i], &backends[i]);
	ck_assert_uint_eq(proxy_relays(w.proxy), MANY);
	ck_assert_uint_eq(fault_fds(), fds + 4 * MANY);
	for (int i = 0; i < MANY; i++) {
		end_send(&clients[i], random_size());
		end_send(&backends[i], random_size());
	}
	for (int i = 0; i < MANY; i++) {
		TURN_UNTIL(end_has(&backends[i], clients[i].sent));
		TURN_UNTIL(end_has(&clients[i], backends[i].sent));
	}
	assert_quiet();
	ck_assert_uint_le(fault_fds(), fds + 4 * MANY + 2 * PROXY_PIPES_IDLE);
	for (int i = 0; i < MANY; i++) {
		end_close(&clients[i]);
		end_close(&backends[i]);
	}
	TURN_UNTIL(proxy_relays(w.proxy) == 0);
	world_done();
}
END_TEST

/* More relays that are stuck than there are pipes: the others copy. */
START_TEST(more_stuck_relays_than_pipes)
{
	enum { MANY = PROXY_PIPES_MAX + 20 };
	static struct end clients[MANY], backends[MANY];
	unsigned fds;

	start();
	turns(2);
	fds = fault_fds();
	for (int i = 0; i < MANY; i++) {
		connect_pair(&clients[i], &backends[i]);
		end_stuff(&clients[i]);
	}
	ck_assert_uint_eq(fault_fds(), fds + 4 * MANY + 2 * PROXY_PIPES_MAX);
	assert_quiet();
	for (int i = 0; i < MANY; i++) {
		shutdown(clients[i].fd, SHUT_WR);
		receive_until_eof(&backends[i]);
		ck_assert_uint_eq(backends[i].got, clients[i].sent);
		end_close(&clients[i]);
		end_close(&backends[i]);
	}
	TURN_UNTIL(proxy_relays(w.proxy) == 0);
	ck_assert_uint_le(fault_fds(), fds + 2 * PROXY_PIPES_IDLE);
	world_done();
}
END_TEST

/* --- faults --------------------------------------------------------------------------------- */

START_TEST(without_pipes)
{
	start();
	fault_arm("pipe2", 1, EMFILE, true);
	exchange_and_close(4 << 20, 2, 2);
	ck_assert(fault_disarm());
	exchange_and_close(4 << 20, 1, 2);
	ck_assert_uint_eq(w.tells, 0);
	world_done();
}
END_TEST

/* Sockets that cannot splice, found out at any time, with bytes in the pipe or none. */
START_TEST(without_splice)
{
	start();
	for (unsigned nth = 1; nth < 40; nth++) {
		fault_arm("splice", nth, EINVAL, true);
		exchange_and_close(1 << 20, 1, 2);
		ck_assert(fault_disarm());
	}
	ck_assert_uint_eq(w.tells, 0);
	world_done();
}
END_TEST

START_TEST(copies_in_small_pieces)
{
	start();
	fault_arm("splice", 1, EINVAL, true);
	fault_short(7);
	exchange_and_close(20000, 3, 3);
	fault_short(0);
	ck_assert(fault_disarm());
	world_done();
}
END_TEST

/* One client's whole life. What goes wrong may end it, but nothing else. */
static void live(void)
{
	struct end client = {.fd = sock_connect(&w.conf.listen)};
	struct end backend = {.fd = -1};
	struct addr peer;

	for (unsigned i = 0; i < 200 && client.fd >= 0; i++) {
		loop_turn(&w.loop, 1);
		if (backend.fd < 0)
			backend.fd = sock_accept(w.backend_fd, &peer);
		if (client.sent < 90000)
			end_send(&client, 90000 - (size_t)client.sent);
		if (backend.fd < 0)
			continue;
		end_receive(&backend, 40000);
		if (backend.sent < backend.got)
			end_send(&backend, (size_t)(backend.got - backend.sent));
		end_receive(&client, 40000);
		if (client.eof || client.got == 90000)
			break;
	}
	if (client.fd >= 0)
		close(client.fd);
	if (backend.fd >= 0)
		close(backend.fd);
}

START_TEST(every_call_fails_once)
{
	static const struct {
		const char *call;
		int err;
	} rows[] = {
	    {"calloc", ENOMEM},
	    {"malloc", ENOMEM},
	    {"socket", EMFILE},
	    {"connect", EAGAIN},
	    {"accept4", EMFILE},
	    {"getsockopt", ENOMEM},
	    {"epoll_ctl", ENOMEM},
	    {"pipe2", ENFILE},
	    {"splice", EIO},
	    {"splice", EAGAIN},
	    {"splice", EINTR},
	    {"splice", EINVAL},
	    {"read", EIO},
	    {"write", EIO},
	};

	start();
	turns(2);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		FAULT_EACH(rows[i].call, rows[i].err)
		{
			live();
		}
		TURN_UNTIL(proxy_relays(w.proxy) == 0);
	}
	exchange_and_close(100000, 1, 1);
	world_done();
}
END_TEST

START_TEST(memory_runs_out_while_copying)
{
	struct end client, backend;

	start();
	connect_pair(&client, &backend);
	fault_arm("splice", 1, EINVAL, true);
	end_send(&client, 100);
	turns(2);
	ck_assert(fault_disarm());
	transfer(&backend, &client, 100);
	fault_arm("malloc", 1, ENOMEM, true);
	end_send(&client, 100);
	turns(3);
	ck_assert(fault_disarm());
	ck_assert_uint_eq(proxy_relays(w.proxy), 0);
	ck_assert_int_eq(w.told_rc, -ENOMEM);
	end_close(&client);
	end_close(&backend);
	world_done();
}
END_TEST

START_TEST(no_memory_for_a_proxy)
{
	world_init();
	fault_arm("calloc", 1, ENOMEM, false);
	ck_assert_ptr_null(proxy_new(&w.loop, &w.conf));
	ck_assert(fault_disarm());
	proxy_free(NULL);
	world_done();
}
END_TEST

/* Freed in the middle of everything: bytes in flight, parked, lingering, connecting. */
START_TEST(freed_at_any_time)
{
	struct end client, backend, late;

	start();
	connect_pair(&client, &backend);
	end_stuff(&client);
	end_stuff(&backend);
	backend_down();
	late = connect_client();
	turns(3);
	ck_assert_uint_eq(proxy_relays(w.proxy), 2);
	proxy_free(w.proxy);
	w.proxy = NULL;
	receive_until_eof(&late);
	end_close(&late);
	end_close(&client);
	end_close(&backend);
	world_done();

	park_briefly(&client);
	TURN_UNTIL(w.tells == 1);
	end_close(&client);
	world_done();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    small_messages,
	    much_both_ways_at_once,
	    much_over_tcp,
	    slow_reader,
	    both_directions_stuffed,
	    half_close_in_both_orders,
	    a_client_that_ended_may_be_gone,
	    client_leaves_its_bytes_behind,
	    backend_answers_early_and_leaves,
	    backend_leaves_a_slow_client,
	    backend_that_reads_no_more,
	    backend_that_connects_and_dies,
	    resets,
	    lives_at_random,
	    tcp_lives_at_random,
	    backend_that_appears_late,
	    tcp_backend_that_appears_late,
	    backend_that_restarts,
	    parked_client_that_half_closes,
	    parked_tcp_client_that_half_closes,
	    parked_clients_that_leave,
	    parked_tcp_client_that_resets,
	    many_parked,
	    many_parked_for_tcp,
	    refused_after_a_while,
	    refused_client_that_lingers,
	    closed_without_a_word,
	    one_client_too_many,
	    a_thousand_clients,
	    more_stuck_relays_than_pipes,
	    without_pipes,
	    without_splice,
	    copies_in_small_pieces,
	    every_call_fails_once,
	    memory_runs_out_while_copying,
	    no_memory_for_a_proxy,
	    freed_at_any_time,
	    NULL,
	};

	return suite_of("proxy", tests);
}
