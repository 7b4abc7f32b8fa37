#include "sys/sock.h"

#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/test_sock.XXXXXX";
static char path[64];
static unsigned fds; /* open when the test starts */

static void setup(void)
{
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/s", dir);
	fds = fault_fds();
}

/* Nothing may be left in the directory but the socket that was bound. */
static void teardown(void)
{
	unlink(path);
	ck_assert_int_eq(rmdir(dir), 0);
	ck_assert_uint_eq(fault_fds(), fds);
}

static struct addr addr_of(const char *text)
{
	struct addr a;

	ck_assert_int_eq(addr_parse(span_str(text), &a), E_OK);
	return a;
}

static struct addr unix_addr(void)
{
	struct addr a;

	ck_assert_int_eq(addr_unix(path, &a), E_OK);
	return a;
}

/* The address that a socket is bound to. */
static struct addr bound(int fd)
{
	struct addr a = {.len = sizeof a.u};

	ck_assert_int_eq(getsockname(fd, &a.u.sa, &a.len), 0);
	return a;
}

static int option(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof value;

	ck_assert_int_eq(getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

static void check_flags(int fd)
{
	ck_assert_int_ge(fd, 0);
	ck_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
	ck_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

static void wait_for(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};

	ck_assert_int_eq(poll(&p, 1, 5000), 1);
}

/* --- streams --------------------------------------------------------------------------------- */

static void check_stream(const struct addr *a, struct addr *peer)
{
	int listener = sock_listen(a, 4);
	struct addr at = bound(listener);
	struct addr untouched = {.len = 77};
	int client, server;

	check_flags(listener);
	ck_assert_int_eq(sock_accept(listener, &untouched), -EAGAIN);
	ck_assert_uint_eq(untouched.len, 77);
	client = sock_connect(&at);
	check_flags(client);
	wait_for(client, POLLOUT);
	ck_assert_int_eq(sock_error(client), 0);
	wait_for(listener, POLLIN);
	server = sock_accept(listener, peer);
	check_flags(server);
	if (addr_family(a) != AF_UNIX) {
		ck_assert_int_eq(option(listener, SOL_SOCKET, SO_REUSEADDR), 1);
		ck_assert_int_eq(option(client, IPPROTO_TCP, TCP_NODELAY), 1);
		ck_assert_int_eq(option(server, IPPROTO_TCP, TCP_NODELAY), 1);
		at = bound(client);
		ck_assert(addr_eq(peer, &at));
	}
	close(listener);
	close(client);
	close(server);
}

START_TEST(connects_over_tcp)
{
	struct addr a = addr_of("tcp:127.0.0.1:0");
	struct addr peer;

	setup();
	check_stream(&a, &peer);
	teardown();
}
END_TEST

START_TEST(connects_over_tcp6)
{
	struct addr a = addr_of("tcp:[::1]:0");
	struct addr any = addr_of("tcp:[::]:0");
	struct addr peer;
	int fd;

	setup();
	check_stream(&a, &peer);
	fd = sock_listen(&any, 1);
	ck_assert_int_eq(option(fd, IPPROTO_IPV6, IPV6_V6ONLY), 1);
	close(fd);
	teardown();
}
END_TEST

START_TEST(connects_over_unix)
{
	char text[ADDR_TEXT_BYTES];
	struct addr a, peer;

	setup();
	a = unix_addr();
	check_stream(&a, &peer);
	ck_assert_str_eq(addr_text(&peer, text), "unix:");
	teardown();
}
END_TEST

static int listen_at(const char *at)
{
	struct addr a;
	int fd;

	ck_assert_int_eq(addr_unix(at, &a), E_OK);
	fd = sock_listen(&a, 4);
	ck_assert_int_ge(fd, 0);
	return fd;
}

/* 0 or -errno. */
static int connect_in(const char *root, const char *at)
{
	struct addr a;
	int fd;

	ck_assert_int_eq(addr_unix(at, &a), E_OK);
	a.root = root;
	fd = sock_connect(&a);
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

START_TEST(links_lead_not_out_of_a_root)
{
	char root[64], at[300];
	int outside, inside;

	setup();
	snprintf(root, sizeof root, "%s/root", dir);
	ck_assert_int_eq(mkdir(root, 0700), 0);
	snprintf(at, sizeof at, "%s/in", root);
	outside = listen_at(path);
	inside = listen_at(at);
	snprintf(at, sizeof at, "ln -s ../s %s/up; ln -s %s %s/out; ln -s /in %s/top", root, path,
	    root, root);
	ck_assert_int_eq(system(at), 0);
	ck_assert_int_eq(connect_in(root, "/in"), 0);
	ck_assert_int_eq(connect_in(root, "/top"), 0);
	ck_assert_int_eq(connect_in(root, "/up"), -ENOENT);
	ck_assert_int_eq(connect_in(root, "/out"), -ENOENT);
	ck_assert_int_eq(connect_in(root, "../s"), -ENOENT);
	ck_assert_int_eq(connect_in(path, "/in"), -ENOTDIR);
	close(inside);
	ck_assert_int_eq(connect_in(root, "/in"), -ECONNREFUSED);
	close(outside);
	snprintf(at, sizeof at, "rm -r %s", root);
	ck_assert_int_eq(system(at), 0);
	teardown();
}
END_TEST

START_TEST(refused_connection_is_an_error)
{
	struct addr a = addr_of("tcp:127.0.0.1:0");
	int fd;

	setup();
	fd = sock_listen(&a, 1);
	a = bound(fd);
	close(fd);
	fd = sock_connect(&a);
	if (fd >= 0) { /* loopback may refuse at once */
		wait_for(fd, POLLOUT);
		ck_assert_int_eq(sock_error(fd), -ECONNREFUSED);
		close(fd);
	} else {
		ck_assert_int_eq(fd, -ECONNREFUSED);
	}
	a = unix_addr();
	ck_assert_int_eq(sock_connect(&a), -ENOENT);
	ck_assert_int_eq(sock_error(-1), -EBADF);
	teardown();
}
END_TEST

START_TEST(full_backlog_of_a_unix_socket_is_eagain)
{
	int clients[8], listener;
	size_t n = 0;
	struct addr a;

	setup();
	a = unix_addr();
	listener = sock_listen(&a, 1);
	do
		clients[n] = sock_connect(&a);
	while (clients[n] >= 0 && ++n < 8);
	ck_assert_uint_lt(n, 8);
	ck_assert_int_eq(clients[n], -EAGAIN);
	ck_assert_int_eq(sock_listen(&a, 1), -EADDRINUSE); /* somebody is there */
	while (n > 0)
		close(clients[--n]);
	close(listener);
	teardown();
}
END_TEST

/* --- the path of a unix listener ------------------------------------------------------------- */

START_TEST(unix_listener_is_private)
{
	mode_t umask_before = umask(0);
	struct stat st;
	struct addr a;
	int fd;

	setup();
	a = unix_addr();
	fd = sock_listen(&a, 1);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert(S_ISSOCK(st.st_mode));
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	close(fd);
	umask(umask_before);
	teardown();
}
END_TEST

START_TEST(stale_unix_socket_is_replaced)
{
	struct addr a, peer;
	int fd;

	setup();
	a = unix_addr();
	fd = sock_listen(&a, 1);
	ck_assert_int_eq(sock_listen(&a, 1), -EADDRINUSE);
	close(fd);
	check_stream(&a, &peer);
	teardown();
}
END_TEST

START_TEST(what_is_no_socket_is_left_alone)
{
	struct addr a;
	struct stat st;
	int fd;

	setup();
	a = unix_addr();
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	close(fd);
	ck_assert_int_eq(sock_listen(&a, 1), -EEXIST);
	ck_assert_int_eq(stat(path, &st), 0);
	unlink(path);
	ck_assert_int_eq(symlink("/nowhere", path), 0);
	ck_assert_int_eq(sock_listen(&a, 1), -EEXIST);
	teardown();
	ck_assert_int_eq(sock_listen(&a, 1), -ENOENT); /* the directory has gone */
}
END_TEST

START_TEST(datagram_socket_is_not_stale)
{
	struct addr a;
	bool pktinfo = true;
	int fd;

	setup();
	a = unix_addr();
	fd = sock_udp_bind(&a, 0, &pktinfo);
	check_flags(fd);
	ck_assert(!pktinfo);
	ck_assert_int_eq(sock_listen(&a, 1), -EADDRINUSE);
	close(fd);
	teardown();
}
END_TEST

/* --- datagrams ------------------------------------------------------------------------------- */

START_TEST(datagrams_arrive)
{
	const struct addr any = addr_of("tcp:127.0.0.1:0");
	struct addr at;
	bool pktinfo = true;
	char buf[8];
	int server, client;

	setup();
	server = sock_udp_bind(&any, 1 << 20, &pktinfo);
	check_flags(server);
	ck_assert(!pktinfo);
	ck_assert_int_ge(option(server, SOL_SOCKET, SO_RCVBUF), 200000);
	at = bound(server);
	client = sock_udp_connect(&at);
	check_flags(client);
	ck_assert_int_eq(send(client, "hello", 5, 0), 5);
	wait_for(server, POLLIN);
	ck_assert_int_eq(recv(server, buf, sizeof buf, 0), 5);
	ck_assert_int_eq(sock_udp_bind(&at, 0, &pktinfo), -EADDRINUSE);
	close(client);
	close(server);
	teardown();
}
END_TEST

static void check_wildcard(const char *text, int level, int name)
{
	struct addr a = addr_of(text);
	bool pktinfo = false;
	int fd = sock_udp_bind(&a, 0, &pktinfo);

	ck_assert_int_ge(fd, 0);
	ck_assert(pktinfo);
	ck_assert_int_eq(option(fd, level, name), 1);
	close(fd);
}

START_TEST(wildcard_tells_the_address_asked)
{
	setup();
	check_wildcard("tcp:0.0.0.0:0", IPPROTO_IP, IP_PKTINFO);
	check_wildcard("tcp:[::]:0", IPPROTO_IPV6, IPV6_RECVPKTINFO);
	check_wildcard("tcp:[::]:0", IPPROTO_IPV6, IPV6_V6ONLY);
	teardown();
}
END_TEST

/* --- failures -------------------------------------------------------------------------------- */

static int stream_once(void)
{
	const struct addr unix_a = unix_addr();
	const struct addr inet = addr_of("tcp:[::1]:0");
	int rc = sock_listen(&unix_a, 1);

	if (rc < 0)
		return rc;
	close(rc);
	rc = sock_listen(&unix_a, 1); /* asks the stale one */
	if (rc < 0)
		return rc;
	close(rc);
	rc = sock_listen(&inet, 1);
	if (rc >= 0)
		close(rc);
	return rc < 0 ? rc : 0;
}

static int udp_once(void)
{
	const struct addr a = addr_of("tcp:[::]:0");
	const struct addr to = addr_of("tcp:127.0.0.1:9");
	bool pktinfo = false;
	int rc = sock_udp_bind(&a, 4096, &pktinfo);

	if (rc < 0) {
		ck_assert(!pktinfo);
		return rc;
	}
	close(rc);
	rc = sock_udp_connect(&to);
	if (rc >= 0)
		close(rc);
	return rc < 0 ? rc : 0;
}

/* However a call fails: its error comes back, and neither a descriptor nor a socket is left. */
static void check_failures(const char *call, int (*scenario)(void))
{
	unsigned failed = 0;

	FAULT_EACH(call, EACCES)
	{
		int rc = scenario();

		ck_assert(rc == 0 || rc == -EACCES || rc == -EADDRINUSE);
		failed += rc < 0;
		ck_assert_uint_eq(fault_fds(), fds);
		unlink(path);
	}
	ck_assert_uint_gt(failed, 0);
}

START_TEST(failures_leave_nothing)
{
	setup();
	check_failures("socket", stream_once);
	check_failures("bind", stream_once);
	check_failures("listen", stream_once);
	check_failures("connect", stream_once); /* the stale one counts as live */
	check_failures("setsockopt", stream_once);
	check_failures("socket", udp_once);
	check_failures("bind", udp_once);
	check_failures("connect", udp_once);
	check_failures("setsockopt", udp_once);
	teardown();
}
END_TEST

START_TEST(failed_listen_takes_its_path_along)
{
	struct addr a;

	setup();
	a = unix_addr();
	fault_arm("listen", 1, EADDRINUSE, false);
	ck_assert_int_eq(sock_listen(&a, 1), -EADDRINUSE);
	ck_assert(fault_disarm());
	ck_assert_int_eq(access(path, F_OK), -1);
	teardown();
}
END_TEST

START_TEST(small_buffer_is_no_failure)
{
	struct addr a = addr_of("tcp:127.0.0.1:0");
	bool pktinfo;
	int fd;

	setup();
	fault_arm("setsockopt", 1, EPERM, true);
	fd = sock_udp_bind(&a, 1 << 20, &pktinfo);
	ck_assert(fault_disarm());
	check_flags(fd);
	close(fd);
	teardown();
}
END_TEST

START_TEST(lost_connection_is_none)
{
	const int lost[] = {ECONNABORTED, EPROTO, ENETDOWN, EHOSTUNREACH, EINTR, EPERM, ETIMEDOUT};
	const int full[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM, EINVAL};
	struct addr a = addr_of("tcp:127.0.0.1:0");
	struct addr peer;
	int fd;

	setup();
	fd = sock_listen(&a, 1);
	for (size_t i = 0; i < sizeof lost / sizeof *lost; i++) {
		fault_arm("accept4", 1, lost[i], false);
		ck_assert_int_eq(sock_accept(fd, &peer), -EAGAIN);
	}
	for (size_t i = 0; i < sizeof full / sizeof *full; i++) {
		fault_arm("accept4", 1, full[i], false);
		ck_assert_int_eq(sock_accept(fd, &peer), -full[i]);
	}
	fault_disarm();
	close(fd);
	teardown();
}
END_TEST

START_TEST(interrupted_connect_goes_on)
{
	struct addr a;
	int fd;

	setup();
	a = unix_addr();
	fault_arm("connect", 1, EINTR, false);
	fd = sock_connect(&a);
	ck_assert(fault_disarm());
	check_flags(fd);
	close(fd);
	fault_arm("socket", 1, EMFILE, false);
	ck_assert_int_eq(sock_connect(&a), -EMFILE);
	fault_arm("getsockopt", 1, ENOTSOCK, false);
	ck_assert_int_eq(sock_error(0), -ENOTSOCK);
	fault_disarm();
	teardown();
}
END_TEST

START_TEST(knows_its_cid)
{
	uint32_t cid;

	setup();
	cid = vsock_local_cid();
	ck_assert_uint_ne(cid, UINT32_MAX); /* VMADDR_CID_ANY */
	fault_arm("open", 1, ENOENT, false);
	ck_assert_uint_eq(vsock_local_cid(), 0);
	ck_assert(fault_disarm());
	teardown();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    connects_over_tcp,
	    connects_over_tcp6,
	    connects_over_unix,
	    links_lead_not_out_of_a_root,
	    refused_connection_is_an_error,
	    full_backlog_of_a_unix_socket_is_eagain,
	    unix_listener_is_private,
	    stale_unix_socket_is_replaced,
	    what_is_no_socket_is_left_alone,
	    datagram_socket_is_not_stale,
	    datagrams_arrive,
	    wildcard_tells_the_address_asked,
	    failures_leave_nothing,
	    failed_listen_takes_its_path_along,
	    small_buffer_is_no_failure,
	    lost_connection_is_none,
	    interrupted_connect_goes_on,
	    knows_its_cid,
	    NULL,
	};

	return suite_of("sock", tests);
}
