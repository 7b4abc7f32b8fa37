#include "net/conn.h"

#include "fault.h"
#include "suite.h"
#include "sys/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* --- a connection, its owner, and the peer's end ---------------------------------------------- */

enum { GOT_MAX = 8 << 20, STALL_MS = 300 };

static struct loop loop;
static unsigned fds;

struct owner;
typedef ssize_t data_fn(struct owner *o, struct span in, bool eof);
typedef void act_fn(struct owner *o);

struct owner {
	struct conn conn;
	int peer;
	uint8_t *got; /* what `data` consumed */
	size_t n;
	size_t last_offer; /* bytes of the last call of `data` */
	unsigned offers, eofs, drains, closes;
	int rc;
	data_fn *on_data; /* NULL: consumes all */
	act_fn *on_drained;
	struct owner *other;
};

static ssize_t data(struct conn *c, struct span in, bool eof)
{
	struct owner *o = c->ctx;
	ssize_t used;

	ck_assert_uint_eq(o->closes, 0);
	ck_assert(in.n > 0 || eof);
	o->offers++;
	o->eofs += eof;
	o->last_offer = in.n;
	used = o->on_data ? o->on_data(o, in, eof) : (ssize_t)in.n;
	if (used > 0) {
		ck_assert_uint_le((size_t)used, GOT_MAX - o->n);
		memcpy(o->got + o->n, in.p, (size_t)used);
		o->n += (size_t)used;
	}
	return used;
}

static void drained(struct conn *c)
{
	struct owner *o = c->ctx;

	ck_assert_uint_eq(conn_pending(c), 0);
	o->drains++;
	if (o->on_drained)
		o->on_drained(o);
}

static void closed(struct conn *c, int rc)
{
	struct owner *o = c->ctx;

	o->closes++;
	o->rc = rc;
}

static const struct conn_ops ops = {.data = data, .drained = drained, .closed = closed};

static struct conn_limits limits = {.in_bytes = 1 << 20, .out_bytes = 1 << 20};

static int owner_init(struct owner *o, int fd, int peer, bool connecting)
{
	int rc;

	*o = (struct owner){.peer = peer, .got = o->got ? o->got : malloc(GOT_MAX)};
	ck_assert_ptr_nonnull(o->got);
	if (connecting)
		rc = conn_init_connecting(&o->conn, &loop, fd, "test", &ops, &limits);
	else
		rc = conn_init(&o->conn, &loop, fd, "test", &ops, &limits);
	o->conn.ctx = o;
	return rc;
}

static void socket_pair(int pair[2])
{
	ck_assert_int_eq(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
}

static void start(struct owner *o)
{
	int pair[2];

	socket_pair(pair);
	ck_assert_int_eq(owner_init(o, pair[0], pair[1], false), 0);
}

static int tcp_listen(int backlog, struct addr *addr)
{
	struct ip localhost = ip_v4(127, 0, 0, 1);
	int fd;

	addr_from_ip(&localhost, 0, addr);
	fd = sock_listen(addr, backlog);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(getsockname(fd, &addr->u.sa, &addr->len), 0);
	return fd;
}

/* The same over TCP, which can be reset and holds megabytes. */
static void start_tcp(struct owner *o)
{
	struct addr addr, from;
	int listener = tcp_listen(4, &addr);
	int fd = sock_connect(&addr);
	int peer = -EAGAIN;

	ck_assert_int_ge(fd, 0);
	while (peer == -EAGAIN)
		peer = sock_accept(listener, &from);
	ck_assert_int_ge(peer, 0);
	close(listener);
	ck_assert_int_eq(owner_init(o, fd, peer, false), 0);
}

static void turn(void)
{
	ck_assert_int_eq(loop_turn(&loop, 0), 0);
}

static void turns(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		turn();
}

/* How many turns the loop makes in so many ms: few when nothing spins. */
static unsigned turns_within(unsigned ms)
{
	uint64_t end = clock_mono_ns() + ms * NS_PER_MS;
	unsigned n = 0;

	for (uint64_t now = clock_mono_ns(); now < end; now = clock_mono_ns(), n++)
		ck_assert_int_eq(loop_turn(&loop, (int)((end - now) / NS_PER_MS) + 1), 0);
	return n;
}

static void until_closed(const struct owner *o)
{
	for (unsigned i = 0; i < 200 && !o->closes; i++)
		ck_assert_int_eq(loop_turn(&loop, 50), 0);
	ck_assert_uint_eq(o->closes, 1);
}

static void peer_says(const struct owner *o, const char *text)
{
	ck_assert_int_eq(write(o->peer, text, strlen(text)), (ssize_t)strlen(text));
}

/* Fills the peer's side of the connection; how many bytes went in. Byte i is (uint8_t)(i * 7). */
static size_t peer_floods(const struct owner *o)
{
	static uint8_t block[4096];
	size_t sent = 0;

	for (ssize_t n = 0; n >= 0; sent += (size_t)n) {
		for (size_t i = 0; i < sizeof block; i++)
			block[i] = (uint8_t)((sent + i) * 7);
		n = write(o->peer, block, sizeof block);
		if (n < 0)
			break;
	}
	ck_assert_int_eq(errno, EAGAIN);
	return sent;
}

static bool is_pattern(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != (uint8_t)(i * 7))
			return false;
	return true;
}

static uint8_t *pattern(size_t n)
{
	uint8_t *p = malloc(n);

	ck_assert_ptr_nonnull(p);
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(i * 7);
	return p;
}

/* Reads what the peer has got by now. */
static size_t peer_reads(const struct owner *o, uint8_t *buf, size_t cap)
{
	size_t n = 0;

	while (n < cap) {
		ssize_t got = read(o->peer, buf + n, cap - n);

		if (got <= 0)
			break;
		n += (size_t)got;
	}
	return n;
}

/* Reads n bytes at the peer while the loop turns. */
static uint8_t *peer_takes(const struct owner *o, size_t n)
{
	uint8_t *buf = malloc(n + 1);
	size_t got = 0;

	ck_assert_ptr_nonnull(buf);
	for (unsigned i = 0; i < 100000 && got < n; i++) {
		got += peer_reads(o, buf + got, n - got);
		turn();
	}
	ck_assert_uint_eq(got, n);
	return buf;
}

static void assert_peer_got(const struct owner *o, const char *text)
{
	char buf[256];
	size_t n = peer_reads(o, (uint8_t *)buf, sizeof buf - 1);

	buf[n] = '\0';
	ck_assert_str_eq(buf, text);
}

static void assert_got(const struct owner *o, const char *text)
{
	ck_assert_uint_eq(o->n, strlen(text));
	ck_assert(memcmp(o->got, text, o->n) == 0);
}

static void assert_closed(const struct owner *o, int rc)
{
	ck_assert_uint_eq(o->closes, 1);
	ck_assert_int_eq(o->rc, rc);
}

static int send_text(struct owner *o, const char *text)
{
	return conn_send(&o->conn, span_str(text));
}

/* Ends a test's connection; nothing of it is left. */
static void stop(struct owner *o)
{
	if (o->peer >= 0)
		close(o->peer);
	conn_close(&o->conn, 0);
	if (!o->closes)
		turn();
	ck_assert_uint_eq(o->closes, 1);
	ck_assert_ptr_null(o->conn.in.p);
	ck_assert_ptr_null(o->conn.out.p);
	ck_assert(!timer_armed(&o->conn.stall));
	ck_assert(!o->conn.resume.queued);
	free(o->got);
	o->got = NULL;
	ck_assert_uint_eq(fault_fds(), fds);
}

static void setup(void)
{
	ck_assert_int_eq(loop_init(&loop), 0);
	fds = fault_fds();
}

/* What the owners of the tests do with their bytes. */

static ssize_t consumes_nothing(struct owner *o, struct span in, bool eof)
{
	(void)o, (void)in, (void)eof;
	return 0;
}

static ssize_t echoes(struct owner *o, struct span in, bool eof)
{
	(void)eof;
	ck_assert_int_eq(conn_send(&o->conn, in), 0);
	return (ssize_t)in.n;
}

static ssize_t pauses(struct owner *o, struct span in, bool eof)
{
	(void)eof;
	conn_pause(&o->conn);
	return (ssize_t)in.n;
}

static ssize_t finishes_at_eof(struct owner *o, struct span in, bool eof)
{
	if (eof)
		conn_finish(&o->conn);
	return (ssize_t)in.n;
}

/* --- the common case -------------------------------------------------------------------------- */

START_TEST(a_request_costs_a_read_and_a_write)
{
	static const char *const spared[] = {"malloc", "epoll_ctl", "timerfd_settime"};
	struct owner o = {0};

	setup();
	start(&o);
	o.on_data = echoes;
	for (size_t i = 0; i < sizeof spared / sizeof *spared; i++) {
		fault_arm(spared[i], 1, EIO, true);
		for (unsigned k = 0; k < 50; k++) {
			peer_says(&o, "ping");
			turn();
			assert_peer_got(&o, "ping");
		}
		ck_assert_msg(!fault_disarm(), "%s was called", spared[i]);
	}
	ck_assert_uint_eq(o.offers, 150);
	ck_assert_uint_eq(o.drains, 0);
	stop(&o);
}
END_TEST

START_TEST(one_read_takes_what_is_there)
{
	struct owner o = {0};

	setup();
	start(&o);
	peer_says(&o, "hello");
	fault_arm("read", 2, EIO, true);
	ck_assert_int_eq(loop_turn(&loop, 0), 0);
	ck_assert(!fault_disarm());
	assert_got(&o, "hello");
	stop(&o);
}
END_TEST

START_TEST(an_answer_that_comes_later_costs_no_more)
{
	struct owner o = {0};

	setup();
	start(&o);
	o.on_data = pauses;
	fault_arm("epoll_ctl", 1, EIO, true);
	for (unsigned i = 0; i < 50; i++) {
		uint8_t *to;

		peer_says(&o, "ping");
		turn();
		turn();
		to = conn_reserve(&o.conn, 64);
		ck_assert_ptr_nonnull(to);
		memcpy(to, "pong", 4);
		conn_commit(&o.conn, 4);
		conn_resume(&o.conn);
		turn();
		assert_peer_got(&o, "pong");
	}
	ck_assert(!fault_disarm());
	ck_assert_uint_eq(o.offers, 50);
	stop(&o);
}
END_TEST

START_TEST(short_reads_and_writes_change_nothing)
{
	struct owner o = {0};

	setup();
	for (unsigned n = 1; n < 4; n++) {
		start(&o);
		o.on_data = echoes;
		peer_says(&o, "a somewhat longer text");
		fault_short(n);
		turns(60);
		fault_short(0);
		assert_got(&o, "a somewhat longer text");
		assert_peer_got(&o, "a somewhat longer text");
		ck_assert_uint_eq(conn_pending(&o.conn), 0);
		stop(&o);
	}
}
END_TEST

START_TEST(interrupted_calls_are_made_again)
{
	struct owner o = {0};

	setup();
	start(&o);
	peer_says(&o, "in");
	fault_arm("read", 1, EINTR, false);
	turn();
	ck_assert(fault_disarm());
	ck_assert_uint_eq(o.offers, 0);
	turn();
	assert_got(&o, "in");
	fault_arm("sendto", 1, EINTR, false);
	ck_assert_int_eq(send_text(&o, "out"), 0);
	ck_assert(fault_disarm());
	ck_assert_uint_eq(conn_pending(&o.conn), 3);
	turn();
	assert_peer_got(&o, "out");
	stop(&o);
}
END_TEST

/* --- input ------------------------------------------------------------------------------------ */

static ssize_t takes_lines(struct owner *o, struct span in, bool eof)
{
	size_t used = 0;

	(void)o, (void)eof;
	for (size_t i = 0; i < in.n; i++)
		if (in.p[i] == '\n')
			used = i + 1;
	return (ssize_t)used;
}

START_TEST(what_is_not_consumed_comes_again_with_more)
{
	struct owner o = {0};

	setup();
	start(&o);
	o.on_data = takes_lines;
	peer_says(&o, "one\ntw");
	turn();
	assert_got(&o, "one\n");
	ck_assert_uint_eq(o.conn.in.n, 2);
	turn();
	ck_assert_uint_eq(o.offers, 1);
	peer_says(&o, "o\nthree");
	turn();
	assert_got(&o, "one\ntwo\n");
	ck_assert_uint_eq(o.last_offer, 9);
	peer_says(&o, "\n");
	turn();
	assert_got(&o, "one\ntwo\nthree\n");
	ck_assert_uint_eq(o.conn.in.n, 0);
	stop(&o);
}
END_TEST

START_TEST(a_full_queue_stops_the_reading)
{
	struct owner o = {0};

	setup();
	limits.in_bytes = 4;
	start(&o);
	limits.in_bytes = 1 << 20;
	o.on_data = consumes_nothing;
	peer_says(&o, "abcdefghij");
	ck_assert_uint_le(turns_within(30), 4);
	ck_assert_uint_eq(o.offers, 1);
	ck_assert_uint_eq(o.last_offer, 4);
	o.on_data = NULL;
	conn_resume(&o.conn);
	turns(4);
	assert_got(&o, "abcdefghij");
	stop(&o);
}
END_TEST

START_TEST(a_queue_over_its_budget_ends_the_connection)
{
	struct budget budget = {.limit = 8 << 10};
	struct owner o = {0};

	setup();
	limits.budget = &budget;
	start(&o);
	limits.budget = NULL;
	o.on_data = consumes_nothing;
	peer_floods(&o);
	until_closed(&o);
	ck_assert_int_eq(o.rc, -ENOMEM);
	ck_assert_uint_eq(budget.used, 0);
	stop(&o);
}
END_TEST

START_TEST(a_flood_is_taken_in_bounded_pieces)
{
	struct owner o = {0};
	size_t n, before = 0;

	setup();
	start_tcp(&o);
	n = peer_floods(&o);
	ck_assert_uint_gt(n, 8 * CONN_READ_BYTES);
	for (unsigned i = 0; i < 10000 && o.n < n; i++) {
		ck_assert_int_eq(loop_turn(&loop, 50), 0);
		ck_assert_uint_le(o.n - before, 4 * CONN_READ_BYTES);
		before = o.n;
	}
	ck_assert_uint_eq(o.n, n);
	ck_assert(is_pattern(o.got, n));
	stop(&o);
}
END_TEST

/* Like a server that handles a few requests before others have their turn. */
static ssize_t takes_turns(struct owner *o, struct span in, bool eof)
{
	size_t used = in.n < 100 ? in.n : 100;

	if (used < in.n)
		conn_resume(&o->conn);
	else if (eof)
		conn_finish(&o->conn);
	return (ssize_t)used;
}

START_TEST(an_owner_that_takes_turns_is_not_drowned)
{
	struct owner o = {0};
	size_t n;

	setup();
	start(&o);
	o.on_data = takes_turns;
	n = peer_floods(&o);
	close(o.peer); /* the connection hangs up, and still all is offered */
	o.peer = -1;
	for (unsigned i = 0; i < 10000 && !o.closes; i++) {
		turn();
		ck_assert_uint_le(o.conn.in.n, CONN_READ_BYTES);
	}
	assert_closed(&o, 0);
	ck_assert_uint_eq(o.n, n);
	ck_assert(is_pattern(o.got, n));
	stop(&o);
}
END_TEST

START_TEST(an_offer_that_is_due_comes_before_a_hangup)
{
	struct owner o = {0};
	uint8_t *request = pattern(1000);

	setup();
	for (unsigned full = 0; full < 2; full++) {
		limits.in_bytes = full ? 1000 : 1 << 20;
		start(&o);
		limits.in_bytes = 1 << 20;
		o.on_data = full ? takes_turns : consumes_nothing;
		ck_assert_int_eq(write(o.peer, request, 1000), 1000);
		if (!full)
			turn();
		o.on_data = takes_turns;
		close(o.peer);
		o.peer = -1;
		turns(20);
		assert_closed(&o, 0);
		ck_assert_uint_eq(o.n, 1000);
		ck_assert(is_pattern(o.got, 1000));
		stop(&o);
	}
	free(request);
}
END_TEST

/* --- pausing ---------------------------------------------------------------------------------- */

START_TEST(a_paused_connection_is_not_read)
{
	struct owner o = {0};

	setup();
	start(&o);
	conn_pause(&o.conn);
	peer_says(&o, "waiting");
	ck_assert_uint_le(turns_within(30), 3);
	ck_assert_uint_eq(o.offers, 0);
	conn_resume(&o.conn);
	ck_assert_uint_eq(o.offers, 0);
	turns(2);
	assert_got(&o, "waiting");
	stop(&o);
}
END_TEST

static ssize_t consumes_one_and_pauses(struct owner *o, struct span in, bool eof)
{
	(void)in, (void)eof;
	conn_pause(&o->conn);
	return 1;
}

START_TEST(bytes_read_before_a_pause_wait_for_its_end)
{
	struct owner o = {0};

	setup();
	start(&o);
	o.on_data = consumes_one_and_pauses;
	peer_says(&o, "abc");
	turn();
	peer_says(&o, "d");
	turns(3);
	ck_assert_uint_eq(o.offers, 1);
	conn_resume(&o.conn);
	turn();
	ck_assert_uint_eq(o.offers, 2);
	ck_assert_uint_eq(o.last_offer, 2);
	conn_resume(&o.conn);
	conn_pause(&o.conn); /* changed its mind */
	turns(3);
	ck_assert_uint_eq(o.offers, 2);
	o.on_data = NULL;
	conn_resume(&o.conn);
	turns(2);
	assert_got(&o, "abcd");
	stop(&o);
}
END_TEST

/* --- the ends of the two directions --------------------------------------------------------- */

START_TEST(a_half_closed_peer_gets_its_answer)
{
	struct owner o = {0};

	setup();
	start(&o);
	peer_says(&o, "request");
	ck_assert_int_eq(shutdown(o.peer, SHUT_WR), 0);
	ck_assert_uint_le(turns_within(30), 4);
	assert_got(&o, "request");
	ck_assert_uint_eq(o.eofs, 1);
	conn_resume(&o.conn); /* the end is told again to an owner that resumes */
	turn();
	ck_assert_uint_eq(o.eofs, 2);
	ck_assert_uint_eq(o.closes, 0);
	ck_assert_int_eq(send_text(&o, "answer"), 0);
	conn_finish(&o.conn);
	turn();
	assert_closed(&o, 0);
	assert_peer_got(&o, "answer");
	ck_assert_int_eq(read(o.peer, &(char){0}, 1), 0);
	stop(&o);
}
END_TEST

START_TEST(the_end_is_offered_with_what_is_left)
{
	struct owner o = {0};

	setup();
	start(&o);
	o.on_data = consumes_nothing;
	peer_says(&o, "half a request");
	turn();
	ck_assert_int_eq(shutdown(o.peer, SHUT_WR), 0);
	turn();
	ck_assert_uint_eq(o.offers, 2);
	ck_assert_uint_eq(o.eofs, 1);
	ck_assert_uint_eq(o.last_offer, 14);
	o.on_data = finishes_at_eof;
	conn_resume(&o.conn);
	turn();
	ck_assert_uint_eq(o.eofs, 2);
	assert_closed(&o, 0);
	stop(&o);
}
END_TEST

START_TEST(the_end_waits_for_a_paused_owner)
{
	struct owner o = {0};

	setup();
	start(&o);
	o.on_data = pauses;
	peer_says(&o, "request");
	ck_assert_int_eq(shutdown(o.peer, SHUT_WR), 0);
	ck_assert_uint_le(turns_within(30), 4);
	ck_assert_uint_eq(o.offers, 1);
	ck_assert_int_eq(send_text(&o, "answer"), 0);
	o.on_data = finishes_at_eof;
	conn_resume(&o.conn);
	turns(2);
	assert_closed(&o, 0);
	assert_peer_got(&o, "answer");
	stop(&o);
}
END_TEST

/* A refusal in the middle of a large request: the peer goes on sending, then reads the answer. */
static void refuse_a_sender(struct owner *o)
{
	char buf[16];

	o->on_data = finishes_at_eof;
	peer_says(o, "the beginning of a large request");
	turn();
	ck_assert_int_eq(send_text(o, "refused"), 0);
	conn_finish(&o->conn);
	ck_assert_int_eq(send_text(o, "more"), -EPIPE);
	ck_assert_ptr_null(conn_reserve(&o->conn, 1));
	for (unsigned i = 0; i < 20; i++) {
		peer_says(o, "and on it goes");
		turn();
	}
	ck_assert_uint_eq(o->offers, 1);
	ck_assert_uint_eq(o->closes, 0);
	peer_says(o, "with something unread");
	ck_assert_int_eq(read(o->peer, buf, sizeof buf), 7);
	ck_assert_int_eq(read(o->peer, buf, sizeof buf), 0);
	close(o->peer);
	o->peer = -1;
	until_closed(o);
	ck_assert_int_eq(o->rc, 0);
	stop(o);
}

START_TEST(a_refused_sender_reads_the_answer)
{
	struct owner o = {0};

	setup();
	start(&o);
	refuse_a_sender(&o);
	start_tcp(&o);
	refuse_a_sender(&o);
}
END_TEST

START_TEST(lingering_is_bounded)
{
	struct owner o = {0};
	uint64_t began, took;

	setup();
	start(&o);
	began = loop.now_ns;
	conn_finish(&o.conn);
	conn_finish(&o.conn);
	conn_resume(&o.conn);
	ck_assert_uint_le(turns_within(50), 3);
	ck_assert_uint_eq(o.closes, 0);
	until_closed(&o);
	took = (clock_mono_ns() - began) / NS_PER_MS;
	ck_assert_int_eq(o.rc, 0);
	ck_assert_uint_ge(took, CONN_LINGER_MS - 10);
	stop(&o);
}
END_TEST

/* One that waits with its input for somebody to read it: nothing but a probe tells that the peer
 * has gone. */
static void start_unread(struct owner *o)
{
	start(o);
	conn_keep_input(&o->conn);
	conn_pause(&o->conn);
	conn_probe(&o->conn, true);
}

START_TEST(a_probe_tells_of_a_peer_that_vanished)
{
	struct owner o = {0};
	char byte;

	setup();
	start_unread(&o);
	ck_assert_uint_le(turns_within(CONN_PROBE_MS * 3 / 2), 4);
	ck_assert_uint_eq(o.closes, 0);
	ck_assert_int_lt(read(o.peer, &byte, 1), 0); /* which does not notice */
	ck_assert_int_eq(errno, EAGAIN);
	close(o.peer);
	o.peer = -1;
	until_closed(&o);
	ck_assert_int_eq(o.rc, -EPIPE);
	stop(&o);
}
END_TEST

START_TEST(who_does_not_ask_is_not_told)
{
	struct owner o = {0};

	setup();
	start_unread(&o);
	conn_probe(&o.conn, false);
	close(o.peer);
	o.peer = -1;
	turns_within(CONN_PROBE_MS * 3 / 2);
	ck_assert_uint_eq(o.closes, 0);
	stop(&o);
}
END_TEST

/* After that our own end is what keeps a probe from being sent. */
START_TEST(lingering_needs_no_probe)
{
	struct owner o = {0};

	setup();
	start(&o);
	conn_probe(&o.conn, true);
	conn_finish(&o.conn);
	until_closed(&o);
	ck_assert_int_eq(o.rc, 0);
	stop(&o);
}
END_TEST

START_TEST(a_reset_after_the_answer_is_a_clean_end)
{
	struct owner o = {0};

	setup();
	start(&o);
	ck_assert_int_eq(send_text(&o, "never read"), 0);
	conn_finish(&o.conn);
	close(o.peer); /* with unread bytes: the unix way to reset */
	o.peer = -1;
	until_closed(&o);
	ck_assert_int_eq(o.rc, 0);
	stop(&o);
}
END_TEST

START_TEST(finishing_waits_for_what_is_queued)
{
	size_t n = 900 << 10;
	uint8_t *sent = pattern(n), *got;
	struct owner o = {0};

	setup();
	start(&o);
	ck_assert_int_eq(conn_send(&o.conn, span_of(sent, n)), 0);
	conn_finish(&o.conn);
	ck_assert_int_eq(shutdown(o.peer, SHUT_WR), 0);
	ck_assert_uint_le(turns_within(20), 4);
	ck_assert_uint_eq(o.offers, 0);
	ck_assert_uint_eq(o.closes, 0);
	got = peer_takes(&o, n);
	ck_assert(memcmp(sent, got, n) == 0);
	turn();
	assert_closed(&o, 0);
	ck_assert_uint_eq(o.drains, 0);
	free(sent);
	free(got);
	stop(&o);
}
END_TEST

START_TEST(a_finishing_peer_that_vanishes_is_an_error)
{
	uint8_t *sent = pattern(900 << 10);
	struct owner o = {0};

	setup();
	start(&o);
	ck_assert_int_eq(conn_send(&o.conn, span_of(sent, 900 << 10)), 0);
	conn_finish(&o.conn);
	turn();
	close(o.peer);
	o.peer = -1;
	until_closed(&o);
	ck_assert(o.rc == -EPIPE || o.rc == -ECONNRESET);
	free(sent);
	stop(&o);
}
END_TEST

START_TEST(patience_may_change)
{
	uint8_t *sent = pattern(900 << 10);
	struct owner o = {0};

	setup();
	limits.stall_ms = STALL_MS;
	start(&o);
	limits.stall_ms = 0;
	ck_assert_int_eq(conn_send(&o.conn, span_of(sent, 900 << 10)), 0);
	conn_set_stall(&o.conn, 0);
	turns_within(3 * STALL_MS);
	ck_assert_uint_eq(o.closes, 0);
	conn_set_stall(&o.conn, STALL_MS);
	until_closed(&o);
	ck_assert_int_eq(o.rc, -ETIMEDOUT);
	conn_set_stall(&o.conn, STALL_MS); /* of one that is over: nothing */
	free(sent);
	stop(&o);
}
END_TEST

START_TEST(a_finishing_peer_that_takes_nothing_is_cut_off)
{
	uint8_t *sent = pattern(900 << 10);
	struct owner o = {0};

	setup();
	limits.stall_ms = STALL_MS;
	start(&o);
	limits.stall_ms = 0;
	ck_assert_int_eq(conn_send(&o.conn, span_of(sent, 900 << 10)), 0);
	conn_finish(&o.conn);
	until_closed(&o);
	ck_assert_int_eq(o.rc, -ETIMEDOUT);
	free(sent);
	stop(&o);
}
END_TEST

/* --- peers that vanish ---------------------------------------------------------------------- */

START_TEST(a_peer_that_vanishes_ends_a_paused_connection_at_once)
{
	struct owner o = {0};

	setup();
	start(&o);
	o.on_data = pauses;
	peer_says(&o, "request");
	turn();
	peer_says(&o, "never offered");
	close(o.peer);
	o.peer = -1;
	turn();
	assert_closed(&o, -EPIPE);
	ck_assert_uint_eq(o.offers, 1);
	ck_assert_uint_le(turns_within(30), 2);
	stop(&o);
}
END_TEST

START_TEST(what_a_vanished_peer_sent_is_kept_for_who_wants_it)
{
	struct owner o = {0};

	setup();
	start(&o);
	conn_keep_input(&o.conn);
	o.on_data = pauses;
	peer_says(&o, "first");
	turn();
	peer_says(&o, " and last");
	close(o.peer);
	o.peer = -1;
	ck_assert_uint_le(turns_within(30), 4);
	ck_assert_uint_eq(o.closes, 0);
	ck_assert_int_eq(send_text(&o, "to nobody"), 0);
	ck_assert_uint_le(turns_within(30), 4);
	ck_assert_uint_eq(o.closes, 0);
	o.on_data = NULL;
	conn_resume(&o.conn);
	turns(3);
	assert_got(&o, "first and last");
	ck_assert_uint_eq(o.eofs, 1);
	assert_closed(&o, -EPIPE); /* both directions are over */
	stop(&o);
}
END_TEST

START_TEST(what_waits_for_a_vanished_peer_is_lost_alone)
{
	struct owner o = {0};

	setup();
	start(&o);
	conn_keep_input(&o.conn);
	conn_pause(&o.conn);
	while (conn_pending(&o.conn) == 0)
		ck_assert_int_eq(send_text(&o, "nobody reads this"), 0);
	peer_says(&o, "bye");
	shutdown(o.peer, SHUT_RDWR);
	close(o.peer);
	o.peer = -1;
	ck_assert_uint_le(turns_within(30), 5);
	ck_assert_uint_eq(o.closes, 0);
	ck_assert_uint_eq(conn_pending(&o.conn), 0);
	conn_resume(&o.conn);
	turns(3);
	assert_got(&o, "bye");
	conn_finish(&o.conn);
	until_closed(&o);
	ck_assert_uint_eq(o.closes, 1);
	stop(&o);
}
END_TEST

static void reset_by_peer(struct owner *o)
{
	struct linger now = {.l_onoff = 1};

	ck_assert_int_eq(setsockopt(o->peer, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
	close(o->peer);
	o->peer = -1;
}

START_TEST(a_reset_ends_a_connection_whatever_it_does)
{
	struct owner o = {0};

	setup();
	start_tcp(&o);
	reset_by_peer(&o);
	turn();
	assert_closed(&o, -ECONNRESET);
	ck_assert_uint_eq(o.offers, 0);
	stop(&o);

	start_tcp(&o);
	conn_pause(&o.conn);
	reset_by_peer(&o);
	turn();
	assert_closed(&o, -ECONNRESET);
	stop(&o);

	start_tcp(&o);
	ck_assert_int_eq(shutdown(o.peer, SHUT_WR), 0);
	ck_assert_uint_le(turns_within(20), 4);
	ck_assert_uint_eq(o.eofs, 1);
	reset_by_peer(&o);
	turn();
	ck_assert_uint_eq(o.closes, 1);
	ck_assert(o.rc == -EPIPE || o.rc == -ECONNRESET);
	stop(&o);
}
END_TEST

START_TEST(what_a_vanished_peer_sent_is_offered_first)
{
	struct owner o = {0};
	size_t n;

	setup();
	start(&o);
	n = peer_floods(&o);
	close(o.peer);
	o.peer = -1;
	until_closed(&o);
	ck_assert_int_eq(o.rc, -EPIPE);
	ck_assert_uint_eq(o.eofs, 1);
	ck_assert_uint_eq(o.n, n);
	ck_assert(is_pattern(o.got, n));
	stop(&o);

	start(&o);
	o.on_data = finishes_at_eof;
	peer_says(&o, "bye");
	close(o.peer);
	o.peer = -1;
	until_closed(&o);
	assert_closed(&o, 0);
	assert_got(&o, "bye");
	stop(&o);
}
END_TEST

START_TEST(sending_to_nobody_ends_the_connection)
{
	struct owner o = {0};

	setup();
	start(&o);
	close(o.peer);
	o.peer = -1;
	ck_assert_int_eq(send_text(&o, "hello?"), -EPIPE);
	ck_assert_uint_eq(o.closes, 0);
	turn();
	assert_closed(&o, -EPIPE);
	stop(&o);
}
END_TEST

/* --- output ----------------------------------------------------------------------------------- */

START_TEST(what_the_kernel_does_not_take_waits)
{
	size_t n = 1 << 20;
	uint8_t *sent = pattern(n), *got, *to;
	struct owner o = {0};

	setup();
	start(&o);
	ck_assert_int_eq(conn_send(&o.conn, span_of(sent, n / 2)), 0);
	ck_assert_uint_gt(conn_pending(&o.conn), 0);
	fault_arm("sendto", 1, EIO, true);
	ck_assert_int_eq(conn_send(&o.conn, span_of(sent + n / 2, n / 2 - 1)), 0);
	to = conn_reserve(&o.conn, 1);
	ck_assert_ptr_nonnull(to);
	*to = sent[n - 1];
	conn_commit(&o.conn, 1);
	ck_assert(!fault_disarm()); /* nothing is tried before there is room */
	ck_assert_uint_le(turns_within(20), 2);
	ck_assert_uint_eq(o.drains, 0);
	got = peer_takes(&o, n);
	ck_assert(memcmp(sent, got, n) == 0);
	turn();
	ck_assert_uint_eq(o.drains, 1);
	ck_assert_uint_eq(conn_pending(&o.conn), 0);
	ck_assert_uint_le(turns_within(20), 2);
	free(sent);
	free(got);
	stop(&o);
}
END_TEST

START_TEST(a_full_queue_takes_nothing)
{
	size_t n = 1 << 20;
	uint8_t *sent = pattern(n + 1), *got;
	struct owner o = {0};
	size_t waits;

	setup();
	start(&o);
	ck_assert_int_eq(conn_send(&o.conn, span_of(sent, n + 1)), -ENOBUFS);
	ck_assert_int_eq(conn_send(&o.conn, span_of(sent, n)), 0);
	waits = conn_pending(&o.conn);
	ck_assert_int_eq(conn_send(&o.conn, span_of(sent, n - waits + 1)), -ENOBUFS);
	ck_assert_ptr_null(conn_reserve(&o.conn, n - waits + 1));
	ck_assert_uint_eq(conn_pending(&o.conn), waits);
	got = peer_takes(&o, n);
	ck_assert(memcmp(sent, got, n) == 0);
	free(sent);
	free(got);
	stop(&o);
}
END_TEST

START_TEST(a_send_without_memory_sends_nothing_or_closes)
{
	uint8_t *sent = pattern(1 << 20);
	struct owner o = {0};

	setup();
	start(&o);
	fault_arm("malloc", 1, ENOMEM, false);
	ck_assert_int_eq(conn_send(&o.conn, span_of(sent, 1 << 20)), -ENOMEM);
	ck_assert(fault_disarm());
	turn();
	assert_closed(&o, -ENOMEM); /* a part of it had left */
	stop(&o);

	start(&o);
	ck_assert_int_eq(conn_send(&o.conn, span_of(sent, 1 << 19)), 0);
	fault_arm("malloc", 1, ENOMEM, false);
	ck_assert_int_eq(conn_send(&o.conn, span_of(sent, 1 << 19)), -ENOMEM);
	ck_assert(fault_disarm());
	turn();
	ck_assert_uint_eq(o.closes, 0);
	free(peer_takes(&o, 1 << 19));
	turn();
	ck_assert_uint_eq(o.drains, 1);
	free(sent);
	stop(&o);
}
END_TEST

START_TEST(sends_reservations_and_empty_ones_keep_their_order)
{
	struct owner o = {0};
	uint8_t *to;

	setup();
	start(&o);
	ck_assert_int_eq(send_text(&o, "a"), 0);
	ck_assert_int_eq(send_text(&o, ""), 0);
	to = conn_reserve(&o.conn, 10);
	memcpy(to, "bc", 2);
	conn_commit(&o.conn, 2);
	ck_assert_ptr_nonnull(conn_reserve(&o.conn, 10));
	conn_commit(&o.conn, 0);
	fault_arm("sendto", 1, EAGAIN, true);
	ck_assert_int_eq(send_text(&o, "d"), 0);
	to = conn_reserve(&o.conn, 2);
	memcpy(to, "ef", 2);
	conn_commit(&o.conn, 2);
	ck_assert_int_eq(send_text(&o, "g"), 0);
	fault_disarm();
	assert_peer_got(&o, "abc");
	turn();
	assert_peer_got(&o, "defg");
	ck_assert_uint_eq(o.drains, 1);
	stop(&o);
}
END_TEST

START_TEST(a_peer_that_takes_nothing_is_cut_off)
{
	uint8_t *sent = pattern(900 << 10);
	struct owner o = {0};
	uint64_t began;

	setup();
	limits.stall_ms = STALL_MS;
	start(&o);
	limits.stall_ms = 0;
	ck_assert_uint_le(turns_within(2 * STALL_MS), 3); /* nothing waits: nobody stalls */
	began = clock_mono_ns();
	ck_assert_int_eq(conn_send(&o.conn, span_of(sent, 900 << 10)), 0);
	until_closed(&o);
	ck_assert_int_eq(o.rc, -ETIMEDOUT);
	ck_assert_uint_ge((clock_mono_ns() - began) / NS_PER_MS, STALL_MS / 2);
	free(sent);
	stop(&o);
}
END_TEST

START_TEST(a_slow_peer_is_not_cut_off)
{
	enum { STEP_BYTES = 20 << 10, STEP_MS = 40, PATIENCE_MS = 1000 };
	size_t n = 900 << 10, got = 0;
	uint8_t *sent = pattern(n), *buf = malloc(n);
	struct owner o = {0};

	setup();
	limits.stall_ms = PATIENCE_MS; /* for a step; all of them take longer */
	start(&o);
	limits.stall_ms = 0;
	ck_assert_int_eq(conn_send(&o.conn, span_of(sent, n)), 0);
	while (got < n) {
		turns_within(STEP_MS);
		ck_assert_uint_eq(o.closes, 0);
		got += peer_reads(&o, buf + got, n - got < STEP_BYTES ? n - got : STEP_BYTES);
	}
	ck_assert(memcmp(sent, buf, n) == 0);
	turns_within(PATIENCE_MS + STALL_MS); /* nor is one that has taken all */
	ck_assert_uint_eq(o.closes, 0);
	free(sent);
	free(buf);
	stop(&o);
}
END_TEST

/* --- files ------------------------------------------------------------------------------------ */

static int file_of(const void *p, size_t n)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, p, n), (ssize_t)n);
	return fd;
}

START_TEST(a_file_goes_between_what_is_sent_around_it)
{
	struct owner o = {0};

	setup();
	start(&o);
	ck_assert_int_eq(send_text(&o, "<"), 0);
	ck_assert_int_eq(conn_send_file(&o.conn, file_of("0123456789", 10), 2, 5), 0);
	ck_assert_int_eq(send_text(&o, ">"), 0);
	ck_assert_int_eq(conn_send_file(&o.conn, file_of("", 0), 0, 0), 0);
	assert_peer_got(&o, "<23456>");
	ck_assert_uint_eq(conn_pending(&o.conn), 0);
	ck_assert_uint_eq(fault_fds(), fds + 2);
	stop(&o);
}
END_TEST

START_TEST(a_file_waits_in_its_place)
{
	struct owner o = {0};
	int second = file_of("x", 1);

	setup();
	fds--;
	start(&o);
	fault_arm("sendto", 1, EAGAIN, true);
	ck_assert_int_eq(send_text(&o, "abc"), 0);
	ck_assert_int_eq(conn_send_file(&o.conn, file_of("0123456789", 10), 0, 10), 0);
	ck_assert_int_eq(conn_send_file(&o.conn, second, 0, 1), -EBUSY);
	ck_assert_int_eq(send_text(&o, "def"), 0);
	ck_assert_uint_eq(conn_pending(&o.conn), 16);
	ck_assert_uint_eq(fault_fds(), fds + 3);
	fault_disarm();
	fault_short(2);
	turn();
	fault_short(0);
	assert_peer_got(&o, "ab");
	fault_arm("sendfile", 1, EAGAIN, false);
	turn();
	ck_assert(fault_disarm());
	assert_peer_got(&o, "c");
	turn();
	assert_peer_got(&o, "0123456789def");
	ck_assert_uint_eq(o.drains, 1);
	stop(&o);
}
END_TEST

START_TEST(a_large_file_takes_turns)
{
	size_t n = 4 << 20;
	uint8_t *content = pattern(n), *got;
	struct owner o = {0};
	uint64_t before;

	setup();
	start(&o);
	ck_assert_int_eq(send_text(&o, "["), 0);
	ck_assert_int_eq(conn_send_file(&o.conn, file_of(content, n), 0, n), 0);
	ck_assert_int_eq(send_text(&o, "]"), 0);
	before = conn_pending(&o.conn);
	ck_assert_uint_ge(before, n - (256 << 10));
	ck_assert_uint_le(turns_within(20), 2);
	ck_assert_uint_eq(conn_pending(&o.conn), before);
	got = peer_takes(&o, n + 2);
	ck_assert_int_eq(got[0], '[');
	ck_assert(memcmp(got + 1, content, n) == 0);
	ck_assert_int_eq(got[n + 1], ']');
	turn();
	ck_assert_uint_eq(o.drains, 1);
	free(content);
	free(got);
	stop(&o);
}
END_TEST

START_TEST(a_fast_peer_takes_a_file_in_bounded_pieces)
{
	size_t n = 4 << 20;
	uint8_t *content = pattern(n), *buf = malloc(n);
	struct owner o = {0};
	uint64_t before = n;
	size_t got = 0;

	setup();
	start_tcp(&o);
	ck_assert_int_eq(conn_send_file(&o.conn, file_of(content, n), 0, n), 0);
	for (unsigned i = 0; i < 10000 && got < n; i++) {
		ck_assert_uint_le(before - conn_pending(&o.conn), 256 << 10);
		before = conn_pending(&o.conn);
		if (i > 4) /* so that there is room for more */
			got += peer_reads(&o, buf + got, n - got);
		turn();
	}
	ck_assert_uint_eq(got, n);
	ck_assert(memcmp(content, buf, n) == 0);
	free(content);
	free(buf);
	stop(&o);
}
END_TEST

START_TEST(a_file_that_is_too_short_ends_the_connection)
{
	struct owner o = {0};

	setup();
	start(&o);
	ck_assert_int_eq(conn_send_file(&o.conn, file_of("0123456789", 10), 5, 6), 0);
	until_closed(&o);
	ck_assert_int_eq(o.rc, -EIO);
	assert_peer_got(&o, "56789");
	stop(&o);
}
END_TEST

START_TEST(a_file_to_nobody_ends_the_connection)
{
	struct owner o = {0};

	signal(SIGPIPE, SIG_IGN); /* sendfile knows no MSG_NOSIGNAL */
	setup();
	start(&o);
	close(o.peer);
	o.peer = -1;
	ck_assert_int_eq(conn_send_file(&o.conn, file_of("0123456789", 10), 0, 10), 0);
	turn();
	assert_closed(&o, -EPIPE);
	stop(&o);
}
END_TEST

/* --- closing ---------------------------------------------------------------------------------- */

START_TEST(a_connection_that_is_over_does_nothing)
{
	static struct conn zeroed;
	struct owner o = {0};

	setup();
	ck_assert_int_eq(conn_send(&zeroed, span_str("x")), -EPIPE);
	conn_finish(&zeroed);
	conn_close(&zeroed, 0);
	start(&o);
	peer_says(&o, "unread");
	conn_resume(&o.conn);
	conn_close(&o.conn, -ECANCELED);
	conn_close(&o.conn, -EIO);
	ck_assert_uint_eq(o.closes, 0);
	conn_pause(&o.conn);
	conn_resume(&o.conn);
	conn_finish(&o.conn);
	conn_commit(&o.conn, 0);
	ck_assert_int_eq(send_text(&o, "x"), -EPIPE);
	ck_assert_ptr_null(conn_reserve(&o.conn, 1));
	ck_assert_int_eq(conn_send_file(&o.conn, file_of("x", 1), 0, 1), -EPIPE);
	turns(3);
	assert_closed(&o, -ECANCELED);
	ck_assert_uint_eq(o.offers, 0);
	stop(&o);
}
END_TEST

static ssize_t fails(struct owner *o, struct span in, bool eof)
{
	(void)o, (void)in, (void)eof;
	return -EBADMSG;
}

static ssize_t closes(struct owner *o, struct span in, bool eof)
{
	(void)eof;
	conn_close(&o->conn, -ECANCELED);
	ck_assert_uint_eq(o->closes, 0);
	return (ssize_t)in.n / 2;
}

static ssize_t closes_both(struct owner *o, struct span in, bool eof)
{
	(void)eof;
	conn_close(&o->other->conn, -ECANCELED);
	conn_close(&o->conn, -ECANCELED);
	return (ssize_t)in.n;
}

static ssize_t finishes(struct owner *o, struct span in, bool eof)
{
	(void)in, (void)eof;
	conn_send(&o->conn, span_str("bye"));
	conn_finish(&o->conn);
	return 0;
}

static void closes_when_drained(struct owner *o)
{
	conn_close(&o->conn, -ECANCELED);
}

START_TEST(an_owner_closes_from_inside_data)
{
	struct owner o = {0};

	setup();
	start(&o);
	o.on_data = fails;
	peer_says(&o, "x");
	turn();
	assert_closed(&o, -EBADMSG);
	stop(&o);

	start(&o);
	o.on_data = consumes_nothing;
	peer_says(&o, "queued and ");
	turn();
	o.on_data = closes;
	peer_says(&o, "more");
	turn();
	assert_closed(&o, -ECANCELED);
	stop(&o);

	start(&o);
	o.on_data = finishes;
	peer_says(&o, "x");
	turn();
	assert_peer_got(&o, "bye");
	ck_assert_uint_eq(o.conn.in.n, 0);
	ck_assert_uint_eq(o.closes, 0);
	close(o.peer);
	o.peer = -1;
	turn();
	assert_closed(&o, 0);
	stop(&o);
}
END_TEST

START_TEST(an_owner_closes_another_whose_event_is_due)
{
	struct owner a = {0}, b = {0};

	setup();
	start(&a);
	start(&b);
	a.other = &b;
	b.other = &a;
	a.on_data = b.on_data = closes_both;
	peer_says(&a, "x");
	peer_says(&b, "x");
	turn();
	assert_closed(&a, -ECANCELED);
	assert_closed(&b, -ECANCELED);
	ck_assert_uint_eq(a.offers + b.offers, 1);
	close(b.peer);
	free(b.got);
	stop(&a);
}
END_TEST

static ssize_t closes_a_resumed_one(struct owner *o, struct span in, bool eof)
{
	(void)eof;
	conn_resume(&o->other->conn);
	conn_close(&o->other->conn, -ECANCELED);
	return (ssize_t)in.n;
}

START_TEST(an_owner_closes_another_whose_offer_is_due)
{
	struct owner a = {0}, b = {0};

	setup();
	start(&a);
	start(&b);
	a.other = &b;
	a.on_data = b.on_data = consumes_nothing;
	peer_says(&a, "x");
	peer_says(&b, "x");
	turn();
	a.on_data = closes_a_resumed_one;
	conn_resume(&a.conn);
	turn();
	assert_closed(&b, -ECANCELED);
	ck_assert(!b.conn.resume.queued);
	ck_assert_uint_eq(b.offers, 1);
	turn();
	close(b.peer);
	free(b.got);
	stop(&a);
}
END_TEST

START_TEST(an_owner_closes_when_all_has_left)
{
	struct owner o = {0};

	setup();
	start(&o);
	o.on_drained = closes_when_drained;
	fault_arm("sendto", 1, EAGAIN, false);
	ck_assert_int_eq(send_text(&o, "last words"), 0);
	fault_disarm();
	peer_says(&o, "never offered");
	turn();
	assert_closed(&o, -ECANCELED);
	assert_peer_got(&o, "last words");
	ck_assert_uint_eq(o.offers, 0);
	stop(&o);
}
END_TEST

/* --- connecting ------------------------------------------------------------------------------- */

START_TEST(what_is_sent_while_connecting_waits)
{
	struct addr addr, from;
	struct owner o = {0};
	int listener, fd;

	setup();
	listener = tcp_listen(4, &addr);
	fd = sock_connect(&addr);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(owner_init(&o, fd, -1, true), 0);
	ck_assert_int_eq(send_text(&o, "hello"), 0);
	ck_assert_uint_eq(conn_pending(&o.conn), 5);
	turns_within(20);
	ck_assert_uint_eq(o.drains, 1);
	o.peer = sock_accept(listener, &from);
	ck_assert_int_ge(o.peer, 0);
	assert_peer_got(&o, "hello");
	peer_says(&o, "welcome");
	turns_within(20);
	assert_got(&o, "welcome");
	close(listener);
	stop(&o);
}
END_TEST

START_TEST(a_connection_may_stand_without_a_word)
{
	struct addr addr, from;
	struct owner o = {0};
	int listener;

	setup();
	listener = tcp_listen(4, &addr);
	limits.stall_ms = STALL_MS;
	ck_assert_int_eq(owner_init(&o, sock_connect(&addr), -1, true), 0);
	limits.stall_ms = 0;
	ck_assert_uint_le(turns_within(2 * STALL_MS), 4);
	ck_assert_uint_eq(o.closes, 0);
	ck_assert_uint_eq(o.drains, 0);
	o.peer = sock_accept(listener, &from);
	peer_says(&o, "welcome");
	turns_within(20);
	assert_got(&o, "welcome");
	close(listener);
	stop(&o);
}
END_TEST

START_TEST(a_connection_may_be_finished_before_it_stands)
{
	struct addr addr, from;
	struct owner o = {0};
	int listener;

	setup();
	listener = tcp_listen(4, &addr);
	for (unsigned said = 0; said < 2; said++) {
		ck_assert_int_eq(owner_init(&o, sock_connect(&addr), -1, true), 0);
		if (said)
			ck_assert_int_eq(send_text(&o, "hello"), 0);
		conn_finish(&o.conn);
		ck_assert_uint_eq(o.closes, 0);
		turns_within(20);
		o.peer = sock_accept(listener, &from);
		ck_assert_int_ge(o.peer, 0);
		assert_peer_got(&o, said ? "hello" : "");
		close(o.peer);
		until_closed(&o);
		ck_assert_int_eq(o.rc, 0);
	}
	close(listener);
	o.peer = -1;
	stop(&o);
}
END_TEST

START_TEST(a_connection_that_is_refused_is_reported)
{
	struct addr addr;
	struct owner o = {0};

	setup();
	close(tcp_listen(1, &addr));
	ck_assert_int_eq(owner_init(&o, sock_connect(&addr), -1, true), 0);
	ck_assert_int_eq(send_text(&o, "hello"), 0);
	until_closed(&o);
	ck_assert_int_eq(o.rc, -ECONNREFUSED);
	stop(&o);
}
END_TEST

START_TEST(a_connection_that_never_stands_is_given_up)
{
	struct addr addr;
	struct owner o = {0};
	int fillers[8], listener;

	setup();
	listener = tcp_listen(0, &addr); /* and nobody accepts */
	for (size_t i = 0; i < 8; i++)
		fillers[i] = sock_connect(&addr);
	limits.stall_ms = STALL_MS;
	ck_assert_int_eq(owner_init(&o, sock_connect(&addr), -1, true), 0);
	limits.stall_ms = 0;
	until_closed(&o);
	ck_assert_int_eq(o.rc, -ETIMEDOUT);
	for (size_t i = 0; i < 8; i++)
		close(fillers[i]);
	close(listener);
	stop(&o);
}
END_TEST

/* --- every call fails in turn --------------------------------------------------------------- */

static ssize_t answers_with_a_file(struct owner *o, struct span in, bool eof)
{
	static const char content[300 << 10];

	if (eof) {
		conn_finish(&o->conn);
		return (ssize_t)in.n;
	}
	if (in.n < 8)
		return 0;
	conn_send(&o->conn, span_str("head"));
	conn_send_file(&o->conn, file_of(content, sizeof content), 0, sizeof content);
	conn_send(&o->conn, span_str("tail"));
	return (ssize_t)in.n;
}

/* A request in two pieces, a large answer, and the peer's end. */
static void exchange(struct owner *o)
{
	static uint8_t buf[64 << 10];
	int pair[2], rc;

	socket_pair(pair);
	rc = owner_init(o, pair[0], pair[1], false);
	if (rc < 0) {
		ck_assert_uint_eq(o->closes, 0);
		ck_assert_int_eq(send_text(o, "x"), -EPIPE);
		close(pair[0]);
		close(pair[1]);
		return;
	}
	o->on_data = answers_with_a_file;
	(void)!send(o->peer, "requ", 4, MSG_NOSIGNAL);
	loop_turn(&loop, 0);
	(void)!send(o->peer, "est!", 4, MSG_NOSIGNAL);
	for (unsigned i = 0; i < 20; i++) {
		loop_turn(&loop, 0);
		for (unsigned k = 0; k < 4; k++)
			(void)!recv(o->peer, buf, sizeof buf, 0);
	}
	shutdown(o->peer, SHUT_WR);
	turns(3);
	close(o->peer);
	turns(3);
	ck_assert_uint_eq(o->closes, 1);
}

START_TEST(every_call_may_fail)
{
	static const char *const calls[] = {"epoll_ctl", "read", "sendto", "sendfile", "malloc"};
	struct owner o = {0};

	signal(SIGPIPE, SIG_IGN); /* sendfile knows no MSG_NOSIGNAL */
	setup();
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		unsigned rounds = 0;

		o.got = malloc(GOT_MAX);
		FAULT_EACH(calls[i], i % 2 ? EIO : ENOMEM)
		{
			exchange(&o);
			ck_assert_uint_eq(fault_fds(), fds);
			ck_assert_ptr_null(o.conn.in.p);
			ck_assert_ptr_null(o.conn.out.p);
			rounds++;
		}
		ck_assert_msg(rounds > 1, "%s is never called", calls[i]);
		ck_assert_int_eq(o.rc, 0); /* the last round ran without a fault */
		ck_assert_uint_eq(o.n, 8);
		free(o.got);
		o.got = NULL;
	}
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    a_request_costs_a_read_and_a_write,
	    one_read_takes_what_is_there,
	    an_answer_that_comes_later_costs_no_more,
	    short_reads_and_writes_change_nothing,
	    interrupted_calls_are_made_again,
	    what_is_not_consumed_comes_again_with_more,
	    a_full_queue_stops_the_reading,
	    a_queue_over_its_budget_ends_the_connection,
	    a_flood_is_taken_in_bounded_pieces,
	    an_owner_that_takes_turns_is_not_drowned,
	    an_offer_that_is_due_comes_before_a_hangup,
	    a_paused_connection_is_not_read,
	    bytes_read_before_a_pause_wait_for_its_end,
	    a_half_closed_peer_gets_its_answer,
	    the_end_is_offered_with_what_is_left,
	    the_end_waits_for_a_paused_owner,
	    a_refused_sender_reads_the_answer,
	    lingering_is_bounded,
	    a_probe_tells_of_a_peer_that_vanished,
	    who_does_not_ask_is_not_told,
	    lingering_needs_no_probe,
	    a_reset_after_the_answer_is_a_clean_end,
	    finishing_waits_for_what_is_queued,
	    a_finishing_peer_that_vanishes_is_an_error,
	    patience_may_change,
	    a_finishing_peer_that_takes_nothing_is_cut_off,
	    a_peer_that_vanishes_ends_a_paused_connection_at_once,
	    what_a_vanished_peer_sent_is_kept_for_who_wants_it,
	    what_waits_for_a_vanished_peer_is_lost_alone,
	    a_reset_ends_a_connection_whatever_it_does,
	    what_a_vanished_peer_sent_is_offered_first,
	    sending_to_nobody_ends_the_connection,
	    what_the_kernel_does_not_take_waits,
	    a_full_queue_takes_nothing,
	    a_send_without_memory_sends_nothing_or_closes,
	    sends_reservations_and_empty_ones_keep_their_order,
	    a_peer_that_takes_nothing_is_cut_off,
	    a_slow_peer_is_not_cut_off,
	    a_file_goes_between_what_is_sent_around_it,
	    a_file_waits_in_its_place,
	    a_large_file_takes_turns,
	    a_fast_peer_takes_a_file_in_bounded_pieces,
	    a_file_that_is_too_short_ends_the_connection,
	    a_file_to_nobody_ends_the_connection,
	    a_connection_that_is_over_does_nothing,
	    an_owner_closes_from_inside_data,
	    an_owner_closes_another_whose_event_is_due,
	    an_owner_closes_another_whose_offer_is_due,
	    an_owner_closes_when_all_has_left,
	    what_is_sent_while_connecting_waits,
	    a_connection_may_stand_without_a_word,
	    a_connection_may_be_finished_before_it_stands,
	    a_connection_that_is_refused_is_reported,
	    a_connection_that_never_stands_is_given_up,
	    every_call_may_fail,
	    NULL,
	};

	return suite_of("conn", tests);
}
