#include "names/dns_server.h"

#include "base/log.h"
#include "dns_peer.h"
#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

enum { TIMEOUT_MS = 200, IDLE_MS = 300, CLIENTS = 4, BURST = 2000 };

static struct loop loop;
static struct registry *registry;
static struct dns_server *server;
static struct dns_server_conf conf;
static struct peer upstream;
static int udp; /* a client's socket */
static unsigned fds;
static uint8_t buf[DNS_MESSAGE_BYTES + 2];

static void add(const char *owner, const char *name, struct ip ip)
{
	struct span s = span_str(name);

	ck_assert_int_eq(registry_set(registry, span_str(owner), &s, 1, &ip, 1), 0);
}

static struct registry *registry_make(void)
{
	struct registry_conf c = {
	    .max_owners = 4096,
	    .max_names = 4096,
	    .max_names_per_owner = 16,
	    .max_addrs_per_owner = 8,
	};

	ck_assert_int_eq(dns_name_from_text(span_str("arcbox.local"), &c.domain), E_OK);
	return registry_new(&c);
}

/* An address of ours at which nobody listens. */
static struct addr free_addr(void)
{
	struct peer p = peer_open(1);

	peer_close(&p);
	return p.addr;
}

static void server_start(void)
{
	server = dns_server_new(&loop, registry, &conf);
	ck_assert_ptr_nonnull(server);
	forward_set_servers(dns_server_forward(server), &upstream.addr, 1);
}

static void setup(void)
{
	struct span bad;

	ck_assert_int_eq(log_filter(span_str("off"), &bad), E_OK);
	signal(SIGPIPE, SIG_IGN);
	fds = fault_fds();
	ck_assert_int_eq(loop_init(&loop), 0);
	registry = registry_make();
	add("a", "web", ip_v4(10, 0, 0, 1));
	upstream = peer_open(2);
	conf = (struct dns_server_conf){
	    .listen = free_addr(),
	    .ttl_secs = 5,
	    .rcvbuf_bytes = 1024 * 1024,
	    .max_clients = CLIENTS,
	    .max_buffered_bytes = 1024 * 1024,
	    .idle_ms = IDLE_MS,
	    .stall_ms = 1000,
	    .forward = {.max_inflight = 64,
		.max_askers = 128,
		.timeout_ms = TIMEOUT_MS,
		.probe_ms = 1000,
		.cache = {.max_entries = 16,
		    .max_bytes = 65536,
		    .ttl_secs = 3600,
		    .negative_ttl_secs = 300,
		    .stale_secs = 30}},
	};
	server_start();
	udp = sock_udp_connect(&conf.listen);
	ck_assert_int_ge(udp, 0);
}

static void teardown(void)
{
	dns_server_free(server);
	registry_free(registry);
	peer_close(&upstream);
	close(udp);
	loop_done(&loop);
	ck_assert_uint_eq(fault_fds(), fds);
}

/* --- clients --------------------------------------------------------------------------------- */

static struct span request(const char *name, uint16_t type, uint16_t id)
{
	static uint8_t bytes[DNS_UDP_BYTES];
	struct dns_case c = {.name = name, .type = type, .id = id};

	return case_request(&c, bytes);
}

static void udp_ask(const char *name, uint16_t type)
{
	struct span s = request(name, type, CASE_ID);

	ck_assert_int_eq(send(udp, s.p, s.n, 0), (ssize_t)s.n);
}

/* The reply that comes next. */
static const char *udp_get(void)
{
	ssize_t n = -1;

	UNTIL(&loop, (n = recv(udp, buf, sizeof buf, 0)) > 0);
	return case_text(span_of(buf, (size_t)n));
}

static bool udp_quiet(void)
{
	for (unsigned i = 0; i < 5; i++)
		ck_assert_int_eq(loop_turn(&loop, 1), 0);
	return recv(udp, buf, sizeof buf, 0) < 0;
}

static int tcp_connect(void)
{
	unsigned before = dns_server_clients(server);
	int fd = sock_connect(&conf.listen);

	ck_assert_int_ge(fd, 0);
	UNTIL(&loop, dns_server_clients(server) == before + 1);
	return fd;
}

static void tcp_write(int fd, struct span s)
{
	for (size_t at = 0; at < s.n;) {
		ssize_t n = send(fd, s.p + at, s.n - at, MSG_NOSIGNAL);

		ck_assert(n >= 0 || errno == EAGAIN);
		at += n > 0 ? (size_t)n : 0;
		ck_assert_int_eq(loop_turn(&loop, 0), 0);
	}
}

/* A request with its length before it. */
static struct span tcp_request(const char *name, uint16_t type, uint16_t id)
{
	static uint8_t bytes[2 + DNS_UDP_BYTES];
	struct wr w = wr_of(bytes, sizeof bytes);
	struct span s = request(name, type, id);

	wr_u16be(&w, (uint16_t)s.n);
	wr_bytes(&w, s);
	return wr_span(&w);
}

static void read_all(int fd, uint8_t *p, size_t n)
{
	for (size_t at = 0; at < n;) {
		ssize_t got = -1;

		UNTIL(&loop, (got = read(fd, p + at, n - at)) >= 0);
		ck_assert_int_gt(got, 0);
		at += (size_t)got;
	}
}

/* The message that comes next. */
static struct span tcp_get_span(int fd)
{
	size_t n;

	read_all(fd, buf, 2);
	n = (size_t)(buf[0] << 8 | buf[1]);
	read_all(fd, buf, n);
	return span_of(buf, n);
}

static const char *tcp_get(int fd)
{
	return case_text(tcp_get_span(fd));
}

/* Waits for the server to close; what comes before that is an error. */
static void tcp_closed(int fd)
{
	ssize_t n = -1;

	UNTIL(&loop, (n = read(fd, buf, 1)) >= 0 || errno != EAGAIN);
	ck_assert_int_le(n, 0);
	close(fd);
	UNTIL(&loop, dns_server_clients(server) == 0);
}

/* --- UDP ------------------------------------------------------------------------------------- */

START_TEST(local_over_udp)
{
	udp_ask("web", DNS_A);
	ck_assert_str_eq(udp_get(), "0 aa: web 5 1 10.0.0.1;");
	udp_ask("nope.arcbox.local", DNS_A);
	ck_assert_str_eq(udp_get(), "3 aa: arcbox.local 5 6 arcbox.local;");
	ck_assert_int_eq(send(udp, "garbage", 7, 0), 7);
	ck_assert(udp_quiet());
}
END_TEST

START_TEST(forwarded_over_udp)
{
	udp_ask("www.Example", DNS_A);
	UNTIL(&loop, peer_poll(&upstream));
	/* Own names do not wait for it. */
	udp_ask("web", DNS_A);
	ck_assert_str_eq(udp_get(), "0 aa: web 5 1 10.0.0.1;");
	peer_answer(&upstream);
	ck_assert_str_eq(udp_get(), "0: www.example 60 1 192.0.2.1;");
	udp_ask("www.Example", DNS_A);
	ck_assert_str_eq(udp_get(), "0: www.example 60 1 192.0.2.1;");
}
END_TEST

START_TEST(failure)
{
	forward_set_servers(dns_server_forward(server), NULL, 0);
	udp_ask("www.example", DNS_A);
	ck_assert_str_eq(udp_get(), "2:");
}
END_TEST

/* The whole of a burst waits in the receive buffer while the loop is elsewhere. */
START_TEST(burst)
{
	unsigned got = 0;

	for (unsigned i = 0; i < BURST; i++)
		udp_ask("web", DNS_A);
	for (unsigned quiet = 0; quiet < 50;) {
		ck_assert_int_eq(loop_turn(&loop, 0), 0);
		quiet++;
		while (recv(udp, buf, sizeof buf, 0) > 0) {
			got++;
			quiet = 0;
		}
	}
	ck_assert_uint_ge(got, 1000); /* as far as rmem_max allows */
}
END_TEST

/* Many own addresses: truncated over UDP, whole over TCP. */
START_TEST(truncated)
{
	char owner[8];
	int fd;

	for (unsigned i = 0; i < 60; i++) {
		snprintf(owner, sizeof owner, "m%u", i);
		add(owner, "many", ip_v4(10, 0, 1, (uint8_t)i));
	}
	udp_ask("many", DNS_A);
	ck_assert_str_eq(udp_get(), "0 aa tc:");
	fd = tcp_connect();
	tcp_write(fd, tcp_request("many", DNS_A, CASE_ID));
	ck_assert_uint_gt(strlen(tcp_get(fd)), 60 * strlen(" many 5 1 10.0.1.1;"));
	close(fd);
}
END_TEST

/* --- TCP ------------------------------------------------------------------------------------- */

START_TEST(local_over_tcp)
{
	int fd = tcp_connect();
	struct span s = tcp_request("web", DNS_A, CASE_ID);

	tcp_write(fd, s);
	ck_assert_str_eq(tcp_get(fd), "0 aa: web 5 1 10.0.0.1;");
	for (size_t i = 0; i < s.n; i++)
		tcp_write(fd, span_of(s.p + i, 1));
	ck_assert_str_eq(tcp_get(fd), "0 aa: web 5 1 10.0.0.1;");
	close(fd);
	UNTIL(&loop, dns_server_clients(server) == 0);
}
END_TEST

/* Answers come as they are ready, not in the order of the requests (RFC 7766 section 6.2.1.1). */
START_TEST(pipelining)
{
	int fd = tcp_connect();
	struct dns_response response;

	tcp_write(fd, tcp_request("www.example", DNS_A, 1));
	tcp_write(fd, tcp_request("web", DNS_A, 2));
	ck_assert_int_eq(dns_response_read(tcp_get_span(fd), &response), E_OK);
	ck_assert_uint_eq(response.header.id, 2);
	UNTIL(&loop, peer_poll(&upstream));
	peer_answer(&upstream);
	ck_assert_int_eq(dns_response_read(tcp_get_span(fd), &response), E_OK);
	ck_assert_uint_eq(response.header.id, 1);
	close(fd);
}
END_TEST

/* A client that says no more still gets what it is owed, and then the end. */
START_TEST(half_close)
{
	int fd = tcp_connect();

	tcp_write(fd, tcp_request("web", DNS_A, 1));
	tcp_write(fd, tcp_request("www.example", DNS_A, 2));
	shutdown(fd, SHUT_WR);
	ck_assert_str_eq(tcp_get(fd), "0 aa: web 5 1 10.0.0.1;");
	UNTIL(&loop, peer_poll(&upstream));
	peer_answer(&upstream);
	ck_assert_str_eq(tcp_get(fd), "0: www.example 60 1 192.0.2.1;");
	tcp_closed(fd);
	fd = tcp_connect();
	shutdown(fd, SHUT_WR);
	tcp_closed(fd);
}
END_TEST

START_TEST(nonsense_over_tcp)
{
	static const struct span nonsense[] = {
	    SPAN_LIT("\0\0"), SPAN_LIT("\0\7garbage"), SPAN_LIT("GET / HTTP/1.0\r\n")};

	for (size_t i = 0; i < 3; i++) {
		int fd = tcp_connect();

		tcp_write(fd, nonsense[i]);
		tcp_closed(fd);
	}
}
END_TEST

START_TEST(idle)
{
	int fd = tcp_connect();
	struct span s = tcp_request("web", DNS_A, 1);
	uint64_t start_ns = clock_mono_ns();

	/* Parts of a request do not count as one. */
	tcp_write(fd, span_first(s, 5));
	tcp_closed(fd);
	ck_assert_uint_ge(clock_mono_ns() - start_ns, (IDLE_MS - 5) * NS_PER_MS);
	/* Nor is a client idle whose answer is still on its way. */
	fd = tcp_connect();
	tcp_write(fd, tcp_request("www.example", DNS_A, 2));
	ck_assert_str_eq(tcp_get(fd), "2:");
	tcp_closed(fd);
}
END_TEST

/* An answer that comes too late finds another client in the slot, and must not reach it. */
START_TEST(late_answer)
{
	int fd = tcp_connect(), other[CLIENTS];

	tcp_write(fd, tcp_request("www.example", DNS_A, 1));
	UNTIL(&loop, peer_poll(&upstream));
	close(fd);
	UNTIL(&loop, dns_server_clients(server) == 0);
	for (unsigned i = 0; i < CLIENTS; i++)
		other[i] = tcp_connect();
	peer_answer(&upstream);
	UNTIL(&loop, forward_inflight(dns_server_forward(server)) == 0);
	for (unsigned i = 0; i < CLIENTS; i++) {
		ck_assert_int_eq(read(other[i], buf, 1), -1);
		tcp_write(other[i], tcp_request("web", DNS_A, 1));
		ck_assert_str_eq(tcp_get(other[i]), "0 aa: web 5 1 10.0.0.1;");
		close(other[i]);
	}
}
END_TEST

START_TEST(too_many_clients)
{
	int fd[CLIENTS + 1];
	ssize_t n = -1;

	for (unsigned i = 0; i < CLIENTS; i++)
		fd[i] = tcp_connect();
	fd[CLIENTS] = sock_connect(&conf.listen);
	UNTIL(&loop, (n = read(fd[CLIENTS], buf, 1)) >= 0 || errno != EAGAIN);
	ck_assert_int_le(n, 0);
	ck_assert_uint_eq(dns_server_clients(server), CLIENTS);
	for (unsigned i = 0; i <= CLIENTS; i++)
		close(fd[i]);
	UNTIL(&loop, dns_server_clients(server) == 0);
	close(tcp_connect());
}
END_TEST

/* More questions for others than one client may have under way: the rest waits in its socket. */
START_TEST(many_forwarded)
{
	char name[16];
	unsigned got = 0;
	int fd;

	dns_server_free(server);
	conf.forward.timeout_ms = conf.idle_ms = PEER_WAIT_MS; /* they are answered one by one */
	server_start();
	fd = tcp_connect();
	for (unsigned i = 0; i < 2 * DNS_SERVER_OWED; i++) {
		snprintf(name, sizeof name, "%u.example", i);
		tcp_write(fd, tcp_request(name, DNS_A, (uint16_t)i));
	}
	for (unsigned i = 0; i < 5; i++)
		ck_assert_int_eq(loop_turn(&loop, 1), 0);
	ck_assert_uint_eq(forward_inflight(dns_server_forward(server)), DNS_SERVER_OWED);
	shutdown(fd, SHUT_WR);
	while (got < 2 * DNS_SERVER_OWED) {
		UNTIL(&loop, peer_poll(&upstream));
		peer_answer(&upstream);
		ck_assert_str_ne(tcp_get(fd), "2:");
		got++;
	}
	tcp_closed(fd);
}
END_TEST

/* Questions from one address, far more than there is room for, take the place of nobody else's. */
START_TEST(flood)
{
	enum { FLOOD = 200 };
	const struct ip ip = ip_v4(127, 0, 0, 9);
	struct peer before;
	struct addr from;
	char name[16];
	int fd;

	dns_server_free(server);
	conf.forward.timeout_ms = conf.idle_ms = PEER_WAIT_MS;
	server_start();
	fd = tcp_connect();
	tcp_write(fd, tcp_request("a.example", DNS_A, 1));
	UNTIL(&loop, peer_poll(&upstream));
	before = upstream;
	before.query.raw.p = before.packet + DNS_HEADER_BYTES;
	addr_from_ip(&ip, 0, &from);
	close(udp);
	udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ck_assert_int_eq(bind(udp, &from.u.sa, from.len), 0);
	ck_assert_int_eq(connect(udp, &conf.listen.u.sa, conf.listen.len), 0);
	for (unsigned i = 0; i < FLOOD; i++) {
		snprintf(name, sizeof name, "%u.flood", i);
		udp_ask(name, DNS_A);
		UNTIL(&loop, peer_poll(&upstream));
	}
	ck_assert_uint_eq(forward_inflight(dns_server_forward(server)), 64);
	ck_assert_str_eq(udp_get(), "2:");
	peer_answer(&before);
	ck_assert_str_eq(tcp_get(fd), "0: a.example 60 1 192.0.2.1;");
	close(fd);
}
END_TEST

/* Asks for more than may wait for it and reads nothing for a while: it is not read either, and gets
 * it all later. */
START_TEST(slow_reader)
{
	enum { REQUESTS = 4000, OUT_BYTES = 1024 * 1024 };
	struct span s = tcp_request("many", DNS_A, 7);
	unsigned sent = 0, got = 0;
	size_t at = 0;
	char owner[8];
	int fd;

	dns_server_free(server);
	conf.idle_ms = conf.stall_ms = PEER_WAIT_MS; /* the loop does not turn while we read */
	server_start();
	for (unsigned i = 0; i < 200; i++) {
		snprintf(owner, sizeof owner, "m%u", i);
		add(owner, "many", ip_v4(10, 0, 1, (uint8_t)i));
	}
	fd = tcp_connect();
	for (unsigned stuck = 0; sent < REQUESTS && stuck < 50;) {
		ssize_t n = send(fd, s.p + at, s.n - at, MSG_NOSIGNAL);

		ck_assert_int_eq(loop_turn(&loop, 0), 0);
		stuck = n > 0 ? 0 : stuck + 1;
		at += n > 0 ? (size_t)n : 0;
		sent += at == s.n;
		at = at == s.n ? 0 : at;
	}
	ck_assert_uint_gt(sent, OUT_BYTES / (200 * 16));
	for (; got < sent; got++)
		ck_assert_uint_gt(tcp_get_span(fd).n, 200 * 16);
	close(fd);
	UNTIL(&loop, dns_server_clients(server) == 0);
}
END_TEST

/* Reads nothing at all, ever. */
START_TEST(stuck_reader)
{
	struct span s = tcp_request("many", DNS_A, 7);
	char owner[8];
	int fd, small = 4096;

	for (unsigned i = 0; i < 200; i++) {
		snprintf(owner, sizeof owner, "m%u", i);
		add(owner, "many", ip_v4(10, 0, 1, (uint8_t)i));
	}
	fd = tcp_connect();
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
	for (unsigned i = 0; i < 10000 && send(fd, s.p, s.n, MSG_NOSIGNAL) > 0; i++)
		ck_assert_int_eq(loop_turn(&loop, 0), 0);
	UNTIL(&loop, dns_server_clients(server) == 0);
	close(fd);
}
END_TEST

/* --- life ------------------------------------------------------------------------------------ */

START_TEST(comes_up_later)
{
	struct peer squatter;

	dns_server_free(server);
	squatter = peer_open(1);
	conf.listen = squatter.addr;
	server_start();
	for (unsigned i = 0; i < 200; i++)
		ck_assert_int_eq(loop_turn(&loop, 1), 0);
	peer_close(&squatter);
	close(udp);
	udp = sock_udp_connect(&conf.listen);
	UNTIL(&loop, (udp_ask("web", DNS_A), !udp_quiet()));
	close(tcp_connect());
}
END_TEST

START_TEST(faults)
{
	static const char *const calls[] = {"calloc", "socket", "bind", "epoll_ctl", "setsockopt"};

	dns_server_free(server);
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		FAULT_EACH(calls[i], ENOMEM)
		{
			server = dns_server_new(&loop, registry, &conf);
			dns_server_free(server);
			ck_assert_uint_eq(fault_fds(), fds + 5);
		}
	server = NULL;
	dns_server_free(NULL);
}
END_TEST

START_TEST(faults_of_clients)
{
	int fd;

	fault_arm("epoll_ctl", 1, ENOMEM, false);
	fd = sock_connect(&conf.listen);
	tcp_closed(fd);
	ck_assert(fault_disarm());
	fd = tcp_connect();
	fault_arm("sendto", 1, ECONNRESET, false);
	ck_assert_int_eq(write(fd, tcp_request("web", DNS_A, 1).p, 23), 23);
	tcp_closed(fd);
	ck_assert(fault_disarm());
	/* With neither room in the socket nor memory there is no answer. */
	fd = tcp_connect();
	tcp_write(fd, tcp_request("www.example", DNS_A, 1));
	UNTIL(&loop, peer_poll(&upstream));
	peer_answer(&upstream);
	fault_arm("sendto", 1, ECONNRESET, false);
	tcp_closed(fd);
	ck_assert(fault_disarm());
}
END_TEST

START_TEST(freed_under_way)
{
	int fd = tcp_connect();

	tcp_write(fd, tcp_request("www.example", DNS_A, 1));
	udp_ask("www.example", DNS_A);
	UNTIL(&loop, peer_poll(&upstream));
	dns_server_free(server);
	server = NULL;
	for (unsigned i = 0; i < 5; i++)
		ck_assert_int_eq(loop_turn(&loop, 1), 0);
	close(fd);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {local_over_udp, forwarded_over_udp, failure, burst, truncated,
	    local_over_tcp, pipelining, half_close, nonsense_over_tcp, idle, late_answer,
	    too_many_clients, many_forwarded, flood, slow_reader, stuck_reader, comes_up_later,
	    faults, faults_of_clients, freed_under_way};
	Suite *s = suite_create("dns_server");
	TCase *c = tcase_create("dns_server");

	tcase_add_checked_fixture(c, setup, teardown);
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
		tcase_add_test(c, tests[i]);
	suite_add_tcase(s, c);
	return s;
}
