#include "net/listen.h"

#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- a listener, and what it says ----------------------------------------------------------- */

enum { FDS_MAX = 64 };

static struct loop loop;
static struct listener listener;
static struct addr addr; /* a unix path in `dir` */
static char dir[32];
static unsigned fds;

static struct {
	int accepted[FDS_MAX];
	unsigned n;
	bool stops; /* in `accepted` */
	unsigned told[LISTEN_RESTING + 1];
	int rc; /* told last */
} seen;

static void accepted(struct listener *l, int fd, const struct addr *peer)
{
	ck_assert_ptr_eq(l, &listener);
	ck_assert_ptr_eq(l->ctx, &seen);
	ck_assert_uint_gt(peer->len, 0);
	ck_assert_int_eq(peer->u.sa.sa_family, l->addr.u.sa.sa_family);
	ck_assert_uint_lt(seen.n, FDS_MAX);
	seen.accepted[seen.n++] = fd;
	if (seen.stops)
		listener_stop(l);
}

static void told(struct listener *l, int what, int rc, const struct addr *peer)
{
	ck_assert_ptr_eq(l, &listener);
	ck_assert_ptr_null(peer);
	ck_assert_int_eq(rc == 0, what == LISTEN_BOUND);
	seen.told[what]++;
	seen.rc = rc;
}

static const struct listener_ops ops = {.accepted = accepted, .told = told};

static void setup(void)
{
	char path[64];

	signal(SIGPIPE, SIG_IGN);
	strcpy(dir, "/tmp/listen.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof path, "unix:%s/socket", dir);
	ck_assert_int_eq(addr_parse(span_str(path), &addr), E_OK);
	ck_assert_int_eq(loop_init(&loop), 0);
	listener.ctx = &seen;
	fds = fault_fds();
}

static void start(void)
{
	listener_start(&listener, &loop, &addr, NULL, &ops);
}

static void turn(void)
{
	ck_assert_int_eq(loop_turn(&loop, 0), 0);
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

/* Sleeps through the wait for the next try; how long it would have been. */
static uint64_t skip_wait_ms(void)
{
	uint64_t ns = listener.retry.at_ns - loop.now_ns;

	ck_assert(timer_armed(&listener.retry));
	timer_at(&listener.retry, 1);
	turn();
	return (ns + NS_PER_MS / 2) / NS_PER_MS;
}

static void connect_n(int *clients, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		clients[i] = sock_connect(&addr);
		ck_assert_int_ge(clients[i], 0);
	}
}

static void close_n(const int *list, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		ck_assert_int_eq(close(list[i]), 0);
}

/* Ends a test; nothing of it is left. */
static void stop(void)
{
	listener_stop(&listener);
	turn();
	ck_assert(!timer_armed(&listener.retry));
	close_n(seen.accepted, seen.n);
	ck_assert_uint_eq(fault_fds(), fds);
	ck_assert_int_eq(rmdir(dir), 0); /* its path is gone */
	loop_done(&loop);
}

/* --- the ordinary --------------------------------------------------------------------------- */

START_TEST(accepts_over_a_unix_socket)
{
	struct stat st;
	int client;

	setup();
	start();
	ck_assert_uint_eq(seen.told[LISTEN_BOUND], 1);
	ck_assert_int_eq(stat(addr.u.un.sun_path, &st), 0);
	ck_assert_int_eq(st.st_mode & 0777, 0600);
	connect_n(&client, 1);
	turn();
	ck_assert_uint_eq(seen.n, 1);
	ck_assert_int_ne(fcntl(seen.accepted[0], F_GETFL) & O_NONBLOCK, 0);
	ck_assert_int_ne(fcntl(seen.accepted[0], F_GETFD) & FD_CLOEXEC, 0);
	ck_assert_uint_le(turns_within(20), 2);
	close(client);
	stop();
	ck_assert_int_ne(access(addr.u.un.sun_path, F_OK), 0);
}
END_TEST

START_TEST(accepts_over_tcp)
{
	struct ip localhost = ip_v4(127, 0, 0, 1);
	int client;

	setup();
	addr_from_ip(&localhost, 0, &addr);
	start();
	ck_assert_int_eq(getsockname(listener.source.fd, &addr.u.sa, &addr.len), 0);
	connect_n(&client, 1);
	turns_within(20);
	ck_assert_uint_eq(seen.n, 1);
	close(client);
	stop();
}
END_TEST

START_TEST(a_burst_takes_turns)
{
	int clients[40];

	setup();
	start();
	connect_n(clients, 40);
	turn();
	ck_assert_uint_eq(seen.n, LISTEN_BURST);
	turn();
	ck_assert_uint_eq(seen.n, 2 * LISTEN_BURST);
	turn();
	ck_assert_uint_eq(seen.n, 40);
	close_n(clients, 40);
	stop();
}
END_TEST

START_TEST(nobody_need_be_told)
{
	static const struct listener_ops quiet = {.accepted = accepted};
	int client;

	setup();
	listener_start(&listener, &loop, &addr, NULL, &quiet);
	connect_n(&client, 1);
	turn();
	ck_assert_uint_eq(seen.n, 1);
	close(client);
	stop();
}
END_TEST

/* --- coming up ------------------------------------------------------------------------------ */

START_TEST(an_address_in_use_is_tried_again)
{
	static const uint64_t waits[] = {120, 180, 270, 405, 607, 910, 1365, 2000, 2000, 2000};
	int other;

	setup();
	other = sock_listen(&addr, 1);
	ck_assert_int_ge(other, 0);
	start();
	for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
		ck_assert_uint_eq(skip_wait_ms(), waits[i]);
		ck_assert_uint_eq(seen.told[LISTEN_FAILED], 1);
		ck_assert_int_eq(seen.rc, -EADDRINUSE);
	}
	close(other); /* the path stays, as a crash would leave it */
	skip_wait_ms();
	ck_assert_uint_eq(seen.told[LISTEN_BOUND], 1);
	ck_assert(!timer_armed(&listener.retry));
	stop();
}
END_TEST

START_TEST(another_reason_is_told_too)
{
	int fd;

	setup();
	fd = open(addr.u.un.sun_path, O_CREAT | O_CLOEXEC, 0600); /* somebody's file */
	close(fd);
	start();
	ck_assert_int_eq(seen.rc, -EEXIST);
	ck_assert_int_eq(unlink(addr.u.un.sun_path), 0);
	ck_assert_int_eq(rmdir(dir), 0);
	skip_wait_ms();
	ck_assert_int_eq(seen.rc, -ENOENT);
	ck_assert_uint_eq(seen.told[LISTEN_FAILED], 2);
	ck_assert_int_eq(mkdir(dir, 0700), 0);
	skip_wait_ms();
	ck_assert_uint_eq(seen.told[LISTEN_BOUND], 1);
	stop();
}
END_TEST

START_TEST(a_retry_comes_by_itself)
{
	int other, client;

	setup();
	other = sock_listen(&addr, 1);
	start();
	close(other);
	ck_assert_uint_le(turns_within(LISTEN_FIRST_RETRY_MS / 2), 2);
	ck_assert_uint_eq(seen.told[LISTEN_BOUND], 0);
	ck_assert_uint_le(turns_within(LISTEN_FIRST_RETRY_MS), 4);
	ck_assert_uint_eq(seen.told[LISTEN_BOUND], 1);
	connect_n(&client, 1);
	turn();
	ck_assert_uint_eq(seen.n, 1);
	close(client);
	stop();
}
END_TEST

START_TEST(every_call_may_fail_while_coming_up)
{
	static const char *const calls[] = {"socket", "bind", "listen", "epoll_ctl"};

	setup();
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		unsigned rounds = 0;

		FAULT_EACH(calls[i], ENOMEM)
		{
			start();
			ck_assert_uint_eq(fault_fds(), fds + (unsigned)(listener.source.fd >= 0));
			if (listener.source.fd < 0)
				skip_wait_ms();
			ck_assert_int_ge(listener.source.fd, 0);
			listener_stop(&listener);
			turn();
			ck_assert_uint_eq(fault_fds(), fds);
			rounds++;
		}
		ck_assert_msg(rounds > 1, "%s is never called", calls[i]);
	}
	stop();
}
END_TEST

/* --- accepting that fails ------------------------------------------------------------------- */

START_TEST(without_descriptors_accepting_rests)
{
	struct rlimit limit, none;
	int clients[2];

	setup();
	start();
	connect_n(clients, 2);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = (struct rlimit){.rlim_cur = (rlim_t)clients[1] + 1, .rlim_max = limit.rlim_max};
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	ck_assert_uint_le(turns_within(3 * LISTEN_REST_MS), 10);
	ck_assert_uint_eq(seen.n, 0);
	ck_assert_uint_eq(seen.told[LISTEN_RESTING], 1);
	ck_assert_int_eq(seen.rc, -EMFILE);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	turns_within(2 * LISTEN_REST_MS);
	ck_assert_uint_eq(seen.n, 2);
	ck_assert_uint_eq(seen.told[LISTEN_RESTING], 1);
	close_n(clients, 2);
	stop();
}
END_TEST

START_TEST(whatever_keeps_it_from_accepting_does_not_spin)
{
	static const int errors[] = {EMFILE, EMFILE, ENFILE, ENOBUFS, ENOMEM, EINVAL};
	int client;

	setup();
	start();
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
		connect_n(&client, 1);
		fault_arm("accept4", 1, errors[i], true);
		ck_assert_uint_le(turns_within(20), 3);
		while (!timer_armed(&listener.retry)) /* as long as that took, its rest was over */
			turn();
		ck_assert(fault_disarm());
		ck_assert_int_eq(seen.rc, -errors[i]);
		ck_assert_uint_le(skip_wait_ms(), LISTEN_REST_MS);
		turn();
		ck_assert_uint_eq(seen.n, i + 1);
		ck_assert_uint_eq(seen.told[LISTEN_RESTING], i + 1);
		close(client);
	}
	stop();
}
END_TEST

START_TEST(a_connection_that_is_lost_is_passed_over)
{
	static const int errors[] = {EAGAIN, ECONNABORTED, EINTR, EPROTO};
	int client;

	setup();
	start();
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
		connect_n(&client, 1);
		fault_arm("accept4", 1, errors[i], false);
		turn();
		ck_assert(fault_disarm());
		turn();
		ck_assert_uint_eq(seen.n, i + 1);
		close(client);
	}
	ck_assert_uint_eq(seen.told[LISTEN_RESTING], 0);
	stop();
}
END_TEST

START_TEST(a_rest_that_cannot_end_goes_on)
{
	int client;

	setup();
	start();
	connect_n(&client, 1);
	fault_arm("accept4", 1, EMFILE, false);
	turn();
	fault_arm("epoll_ctl", 1, ENOMEM, false);
	ck_assert_uint_eq(skip_wait_ms(), LISTEN_REST_MS);
	ck_assert(fault_disarm());
	ck_assert_uint_eq(seen.n, 0);
	ck_assert_uint_eq(skip_wait_ms(), LISTEN_REST_MS);
	turn();
	ck_assert_uint_eq(seen.n, 1);
	close(client);
	stop();
}
END_TEST

/* --- stopping ------------------------------------------------------------------------------- */

START_TEST(stops_while_it_accepts)
{
	int clients[3];

	setup();
	start();
	connect_n(clients, 3);
	seen.stops = true;
	turn();
	ck_assert_uint_eq(seen.n, 1);
	ck_assert_uint_eq(seen.told[LISTEN_RESTING], 0);
	ck_assert(!timer_armed(&listener.retry));
	ck_assert_int_ne(access(addr.u.un.sun_path, F_OK), 0);
	close_n(clients, 3);
	stop();
}
END_TEST

START_TEST(stops_while_it_waits_to_come_up)
{
	int other;

	setup();
	other = sock_listen(&addr, 1);
	start();
	listener_stop(&listener);
	listener_stop(&listener);
	ck_assert_int_eq(access(addr.u.un.sun_path, F_OK), 0); /* the other's, not ours */
	ck_assert_uint_le(turns_within(2 * LISTEN_FIRST_RETRY_MS), 3);
	ck_assert_uint_eq(seen.told[LISTEN_BOUND], 0);
	ck_assert_int_eq(unlink(addr.u.un.sun_path), 0);
	close(other);
	stop();
}
END_TEST

START_TEST(stops_though_it_never_started)
{
	setup();
	stop();
}
END_TEST

/* --- who may connect ------------------------------------------------------------------------ */

static bool vsock_allowed(const struct peer_list *peers, uint32_t own_cid, uint32_t cid)
{
	struct addr peer = {.len = sizeof peer.u.vm};

	peer.u.vm.svm_family = AF_VSOCK;
	peer.u.vm.svm_cid = cid;
	peer.u.vm.svm_port = 1023;
	return peer_allowed(peers, own_cid, &peer);
}

START_TEST(over_vsock_only_listed_peers_may_connect)
{
	static const uint32_t host[] = {2};
	static const uint32_t many[] = {2, 1, 7, 3, 0};
	static const struct peer_list host_only = {host, 1}, several = {many, 5}, none = {NULL, 0};

	ck_assert(vsock_allowed(&host_only, 3, 2));
	ck_assert(!vsock_allowed(&host_only, 3, 1));
	ck_assert(!vsock_allowed(&host_only, 3, 3));
	ck_assert(!vsock_allowed(&host_only, 3, 4));
	ck_assert(!vsock_allowed(&host_only, 0, 0));
	ck_assert(!vsock_allowed(&host_only, 3, VMADDR_CID_ANY));
	ck_assert(vsock_allowed(&several, 3, 2));
	ck_assert(vsock_allowed(&several, 3, 7));
	ck_assert(!vsock_allowed(&several, 3, 1)); /* this machine, listed or not */
	ck_assert(!vsock_allowed(&several, 3, 3));
	ck_assert(vsock_allowed(&several, 0, 3)); /* without a CID of its own */
	ck_assert(vsock_allowed(&several, 0, 0));
	ck_assert(!vsock_allowed(&none, 3, 2));
	ck_assert(!vsock_allowed(NULL, 3, 2));
}
END_TEST

START_TEST(over_other_families_everybody_may)
{
	static const struct peer_list none = {NULL, 0};
	struct ip localhost = ip_v4(127, 0, 0, 1);
	struct addr peer = {.len = sizeof(sa_family_t)};

	peer.u.un.sun_family = AF_UNIX;
	ck_assert(peer_allowed(&none, 3, &peer));
	addr_from_ip(&localhost, 1, &peer);
	ck_assert(peer_allowed(&none, 3, &peer));
	ck_assert(peer_allowed(NULL, 3, &peer));
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    accepts_over_a_unix_socket,
	    accepts_over_tcp,
	    a_burst_takes_turns,
	    nobody_need_be_told,
	    an_address_in_use_is_tried_again,
	    another_reason_is_told_too,
	    a_retry_comes_by_itself,
	    every_call_may_fail_while_coming_up,
	    without_descriptors_accepting_rests,
	    whatever_keeps_it_from_accepting_does_not_spin,
	    a_connection_that_is_lost_is_passed_over,
	    a_rest_that_cannot_end_goes_on,
	    stops_while_it_accepts,
	    stops_while_it_waits_to_come_up,
	    stops_though_it_never_started,
	    over_vsock_only_listed_peers_may_connect,
	    over_other_families_everybody_may,
	    NULL,
	};

	return suite_of("listen", tests);
}
