#include "names/forward.h"

#include "base/log.h"
#include "dns_peer.h"
#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

enum { TIMEOUT_MS = 100, PROBE_MS = 120, ASKERS = 64 };

static struct loop loop;
static struct forward *forward;
static struct peer peers[2];
static unsigned fds;

/* What askers were told, by the slot they gave. */
static unsigned answers, told[ASKERS];
static char said[ASKERS][256];
static char case_told[ASKERS][32];

static void on_answer(
    void *ctx, const struct forward_asker *who, const struct dns_query *query, struct span stored)
{
	static uint8_t buf[DNS_MESSAGE_BYTES];
	struct dns_reply r;

	ck_assert_ptr_eq(ctx, &loop);
	ck_assert_uint_eq(query->id, who->slot);
	dns_reply_begin(&r, buf, sizeof buf, query, 0);
	r.rcode = DNS_SERVFAIL;
	if (stored.n)
		dns_reply_stored(&r, stored);
	snprintf(said[who->slot], sizeof said[0], "%s", case_text(dns_reply_finish(&r)));
	snprintf(case_told[who->slot], sizeof case_told[0], "%.*s", query->raw.p[0],
	    (const char *)query->raw.p + 1);
	told[who->slot]++;
	answers++;
}

static struct forward_conf conf(void)
{
	return (struct forward_conf){
	    .fn = on_answer,
	    .ctx = &loop,
	    .max_inflight = 4,
	    .max_askers = 8,
	    .timeout_ms = TIMEOUT_MS,
	    .probe_ms = PROBE_MS,
	    .cache = {.max_entries = 16,
		.max_bytes = 65536,
		.ttl_secs = 3600,
		.negative_ttl_secs = 300,
		.stale_secs = 30,
		.seed = {1, 2}},
	};
}

static void use_servers(size_t n)
{
	const struct addr addrs[] = {peers[0].addr, peers[1].addr};

	forward_set_servers(forward, addrs, n);
}

static void setup(void)
{
	struct forward_conf c = conf();
	struct span bad;

	ck_assert_int_eq(log_filter(span_str("off"), &bad), E_OK);
	fds = fault_fds();
	ck_assert_int_eq(loop_init(&loop), 0);
	forward = forward_new(&loop, &c);
	ck_assert_ptr_nonnull(forward);
	peers[0] = peer_open(1);
	peers[1] = peer_open(2);
	use_servers(2);
	answers = 0;
	memset(told, 0, sizeof told);
}

static void teardown(void)
{
	forward_free(forward);
	peer_close(&peers[0]);
	peer_close(&peers[1]);
	loop_done(&loop);
	ck_assert_uint_eq(fault_fds(), fds);
}

/* Asks as asker `slot`, which is the id, too. */
static void ask_from(struct ip ip, unsigned slot, struct dns_case c)
{
	uint8_t buf[DNS_UDP_BYTES];
	struct dns_query q;

	c.id = (uint16_t)slot;
	ck_assert_int_eq(dns_query_read(case_request(&c, buf), &q), E_OK);
	if (slot == 0)
		q.id = 0;
	forward_ask(forward, &q, &(struct forward_asker){.ip = ip, .slot = slot});
}

static void ask_case(unsigned slot, struct dns_case c)
{
	ask_from(ip_v4(10, 0, 0, 1), slot, c);
}

static void ask(unsigned slot, const char *name)
{
	ask_case(slot, (struct dns_case){.name = name, .type = DNS_A});
}

static void expect(unsigned slot, const char *text)
{
	UNTIL(&loop, told[slot]);
	ck_assert_uint_eq(told[slot], 1);
	ck_assert_str_eq(said[slot], text);
}

/* Begins anew with one server that may take its time, however busy the machine is. */
static void be_patient(void)
{
	struct forward_conf c = conf();

	forward_free(forward);
	c.timeout_ms = PEER_WAIT_MS;
	forward = forward_new(&loop, &c);
	ck_assert_ptr_nonnull(forward);
	use_servers(1);
}

/* Turns the loop for a while in which nobody may be told anything. */
static void quiet(unsigned ms)
{
	uint64_t end = clock_mono_ns() + ms * NS_PER_MS;
	unsigned before = answers;

	while (clock_mono_ns() < end)
		ck_assert_int_eq(loop_turn(&loop, 1), 0);
	ck_assert_uint_eq(answers, before);
}

START_TEST(answered_and_cached)
{
	ask(1, "Www.example");
	UNTIL(&loop, peer_poll(&peers[0]));
	ck_assert_uint_eq(forward_inflight(forward), 1);
	peer_answer(&peers[0]);
	expect(1, "0: www.example 60 1 192.0.2.1;");
	ck_assert_str_eq(case_told[1], "Www");
	ck_assert_uint_eq(forward_inflight(forward), 0);
	ask(2, "wWW.example");
	expect(2, "0: www.example 60 1 192.0.2.1;");
	ck_assert_str_eq(case_told[2], "wWW");
	ask_case(3,
	    (struct dns_case){
		.name = "www.example", .type = DNS_A, .flags = DNS_AD, .payload = 4096});
	expect(3, "0 ad: www.example 60 1 192.0.2.1; opt 1232;");
	ck_assert(!peer_poll(&peers[0]));
}
END_TEST

START_TEST(negative_answers_are_cached)
{
	ask(1, "nope.example");
	UNTIL(&loop, peer_poll(&peers[0]));
	peer_send(&peers[0], peer_reply(&peers[0], DNS_NXDOMAIN, 0));
	expect(1, "3: . 60 6 .;");
	ask(2, "nope.example");
	expect(2, "3: . 60 6 .;");
}
END_TEST

START_TEST(shared)
{
	ask(1, "www.example");
	ask(2, "WWW.example");
	ask_case(3, (struct dns_case){.name = "www.example", .type = DNS_A, .payload = 512});
	ck_assert_uint_eq(forward_inflight(forward), 1);
	ask_case(4, (struct dns_case){.name = "www.example", .type = DNS_A, .flags = DNS_CD});
	ck_assert_uint_eq(forward_inflight(forward), 2);
	UNTIL(&loop, peer_poll(&peers[0]));
	ck_assert(!(peers[0].query.flags & DNS_CD));
	peer_answer(&peers[0]);
	expect(1, "0: www.example 60 1 192.0.2.1;");
	expect(2, "0: www.example 60 1 192.0.2.1;");
	expect(3, "0: www.example 60 1 192.0.2.1; opt 1232;");
	ck_assert_str_eq(case_told[2], "WWW");
	ck_assert_uint_eq(told[4], 0);
	UNTIL(&loop, peer_poll(&peers[0]));
	ck_assert(peers[0].query.flags & DNS_CD);
	peer_answer(&peers[0]);
	expect(4, "0: www.example 60 1 192.0.2.1;");
}
END_TEST

/* A slow question holds up no other. */
START_TEST(concurrent)
{
	struct peer slow;

	ask(1, "slow.example");
	UNTIL(&loop, peer_poll(&peers[0]));
	slow = peers[0];
	slow.query.raw.p = slow.packet + DNS_HEADER_BYTES;
	ask(2, "fast.example");
	UNTIL(&loop, peer_poll(&peers[0]));
	peer_answer(&peers[0]);
	expect(2, "0: fast.example 60 1 192.0.2.1;");
	ck_assert_uint_eq(told[1], 0);
	peer_answer(&slow);
	expect(1, "0: slow.example 60 1 192.0.2.1;");
}
END_TEST

START_TEST(next_server)
{
	ask(1, "a.example");
	UNTIL(&loop, peer_poll(&peers[1]));
	peer_answer(&peers[1]);
	expect(1, "0: a.example 60 1 192.0.2.1;");
	while (peer_poll(&peers[0])) /* twice */
		;
	/* The first one is known to be silent now. */
	ask(2, "b.example");
	UNTIL(&loop, peer_poll(&peers[1]));
	ck_assert(!peer_poll(&peers[0]));
	peer_answer(&peers[1]);
	expect(2, "0: b.example 60 1 192.0.2.1;");
	/* It is probed, and has its place again when it answers. */
	UNTIL(&loop, peer_poll(&peers[0]));
	ck_assert_uint_eq(peers[0].query.question.type, DNS_NS);
	UNTIL(&loop, peer_poll(&peers[0])); /* the probe's second try */
	quiet(2 * TIMEOUT_MS);
	UNTIL(&loop, peer_poll(&peers[0]));
	peer_send(&peers[0], peer_reply(&peers[0], DNS_REFUSED, 0));
	quiet(TIMEOUT_MS / 2);
	ask(3, "c.example");
	UNTIL(&loop, peer_poll(&peers[0]));
	ck_assert_uint_eq(peers[0].query.question.type, DNS_A);
	peer_answer(&peers[0]);
	expect(3, "0: c.example 60 1 192.0.2.1;");
	quiet(2 * PROBE_MS);
	ck_assert(!peer_poll(&peers[0]));
	ck_assert(!peer_poll(&peers[1]));
}
END_TEST

/* A server that answers is probed no more; when it fails again, no probe of before is left. */
START_TEST(one_probe_at_a_time)
{
	enum { LONG_MS = 5 * TIMEOUT_MS }; /* for a machine that is busy with others */
	struct forward_conf c = conf();

	forward_free(forward);
	c.timeout_ms = LONG_MS;
	c.probe_ms = LONG_MS / 10;
	forward = forward_new(&loop, &c);
	ck_assert_ptr_nonnull(forward);
	use_servers(1);
	ask(1, "a.example");
	expect(1, "2:");
	UNTIL(&loop, peer_poll(&peers[0]) && peers[0].query.question.type == DNS_NS);
	ask(2, "b.example");
	UNTIL(&loop, peer_poll(&peers[0]) && peers[0].query.question.type == DNS_A);
	peer_answer(&peers[0]);
	expect(2, "0: b.example 60 1 192.0.2.1;");
	peer_close(&peers[0]);
	ask(3, "c.example");
	expect(3, "2:");
	quiet(LONG_MS / 5);
	forward_free(forward);
	forward = NULL;
	quiet(2 * LONG_MS);
}
END_TEST

START_TEST(refusing_server)
{
	peer_close(&peers[0]);
	ask(1, "a.example");
	UNTIL(&loop, peer_poll(&peers[1]));
	peer_answer(&peers[1]);
	expect(1, "0: a.example 60 1 192.0.2.1;");
}
END_TEST

/* Failures, which are for us and not for those who ask, lead to the next server, too. */
START_TEST(failing_server)
{
	static const uint16_t rcodes[] = {DNS_SERVFAIL, DNS_REFUSED, DNS_NOTIMP, DNS_FORMERR};
	char name[] = "0.example";

	for (unsigned i = 0; i < 4; i++, name[0]++) {
		ask(i, name);
		UNTIL(&loop, peer_poll(&peers[0]));
		peer_send(&peers[0], peer_reply(&peers[0], rcodes[i], 0));
		UNTIL(&loop, peer_poll(&peers[1]));
		peer_send(&peers[1], peer_reply(&peers[1], rcodes[3 - i], 0));
		expect(i, "2:");
	}
	/* One that fails is up, and nothing of it is kept. */
	ask(10, "0.example");
	UNTIL(&loop, peer_poll(&peers[0]));
	peer_answer(&peers[0]);
	expect(10, "0: 0.example 60 1 192.0.2.1;");
}
END_TEST

START_TEST(nobody_answers)
{
	uint64_t start_ns = loop.now_ns;

	ask(1, "a.example");
	expect(1, "2:");
	ck_assert_uint_ge(clock_mono_ns() - start_ns, 4 * TIMEOUT_MS * NS_PER_MS);
	ck_assert_uint_eq(forward_inflight(forward), 0);
}
END_TEST

/* How many lines were logged since the pipe was last read. */
static unsigned lines(int fd)
{
	char text[8192];
	ssize_t n = read(fd, text, sizeof text);
	unsigned count = 0;

	for (ssize_t i = 0; i < n; i++)
		count += text[i] == '\n';
	return count;
}

/* One line when a server falls silent and one when it is back, however much is asked. */
START_TEST(logged_once_a_change)
{
	struct span bad;
	int pipe_fds[2];

	ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
	ck_assert_int_eq(log_filter(span_str("info"), &bad), E_OK);
	log_sinks(&pipe_fds[1], 1);
	use_servers(1);
	ask(1, "a.example");
	ask(2, "b.example");
	expect(1, "2:");
	expect(2, "2:");
	ask(3, "c.example");
	expect(3, "2:");
	ck_assert_uint_eq(lines(pipe_fds[0]), 1);
	while (peer_poll(&peers[0]))
		;
	ask(4, "d.example");
	UNTIL(&loop, peer_poll(&peers[0]));
	peer_answer(&peers[0]);
	UNTIL(&loop, lines(pipe_fds[0]) == 1);
	log_sinks(NULL, 0);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}
END_TEST

/* One question that a server has no answer to does not make it silent. */
START_TEST(one_silent_question)
{
	ask(1, "silent.example");
	UNTIL(&loop, peer_poll(&peers[0]));
	UNTIL(&loop, peer_poll(&peers[0]));
	ask(2, "b.example");
	UNTIL(&loop, peer_poll(&peers[0]));
	peer_answer(&peers[0]);
	expect(2, "0: b.example 60 1 192.0.2.1;");
	UNTIL(&loop, peer_poll(&peers[1]));
	peer_answer(&peers[1]);
	expect(1, "0: silent.example 60 1 192.0.2.1;");
	ask(3, "c.example");
	UNTIL(&loop, peer_poll(&peers[0]));
	peer_answer(&peers[0]);
	expect(3, "0: c.example 60 1 192.0.2.1;");
}
END_TEST

START_TEST(stale_when_nobody_answers)
{
	ask(1, "a.example");
	UNTIL(&loop, peer_poll(&peers[0]));
	peer_send(&peers[0], peer_reply(&peers[0], DNS_NOERROR, 1));
	expect(1, "0: a.example 1 1 192.0.2.1;");
	quiet(1001);
	/* Too old, but better than nothing: once it is clear that nobody answers, at once. */
	ask(2, "a.example");
	ck_assert_uint_eq(told[2], 0);
	expect(2, "0: a.example 1 1 192.0.2.1;");
	ask(3, "a.example");
	ck_assert_uint_eq(told[3], 1);
	ck_assert_str_eq(said[3], "0: a.example 1 1 192.0.2.1;");
}
END_TEST

/* A server that says SERVFAIL has answered. */
START_TEST(not_stale_when_somebody_answers)
{
	use_servers(1);
	ask(1, "a.example");
	UNTIL(&loop, peer_poll(&peers[0]));
	peer_send(&peers[0], peer_reply(&peers[0], DNS_NOERROR, 1));
	expect(1, "0: a.example 1 1 192.0.2.1;");
	quiet(1001);
	ask(2, "a.example");
	UNTIL(&loop, peer_poll(&peers[0]));
	peer_send(&peers[0], peer_reply(&peers[0], DNS_SERVFAIL, 0));
	expect(2, "2:");
}
END_TEST

START_TEST(truncated_without_tcp)
{
	use_servers(1);
	close(peers[0].tcp);
	peers[0].tcp = -1;
	ask(1, "a.example");
	UNTIL(&loop, peer_poll(&peers[0]));
	peer_truncate(&peers[0]);
	expect(1, "2:");
	quiet(2 * PROBE_MS);
	ck_assert(!peer_poll(&peers[0]));
}
END_TEST

START_TEST(over_tcp)
{
	ask(1, "a.example");
	UNTIL(&loop, peer_poll(&peers[0]));
	peer_truncate(&peers[0]);
	UNTIL(&loop, peer_accept(&peers[0]));
	UNTIL(&loop, peer_stream_poll(&peers[0]));
	peer_stream_send(&peers[0], peer_reply(&peers[0], DNS_NOERROR, 9));
	expect(1, "0: a.example 9 1 192.0.2.1;");
}
END_TEST

START_TEST(limits)
{
	char name[] = "0.example";

	for (unsigned i = 1; i <= 5; i++, name[0]++)
		ask(i, name);
	ck_assert_uint_eq(forward_inflight(forward), 4);
	expect(1, "2:");
	ck_assert_uint_eq(answers, 1);
	for (unsigned i = 6; i <= 9; i++)
		ask(i, "1.example");
	ck_assert_uint_eq(answers, 1);
	ask(10, "1.example");
	expect(2, "2:");
	ask(11, "9.example");
	ck_assert_uint_eq(forward_inflight(forward), 4);
	expect(3, "2:");
	ck_assert_uint_eq(answers, 3);
}
END_TEST

/* Who asks for more than there is room for takes it from nobody else. */
START_TEST(flood)
{
	const struct ip flooder = ip_v4(10, 0, 0, 2);
	char name[] = "0.flood";

	be_patient();
	ask(1, "a.example");
	for (unsigned i = 0; i < 20; i++, name[0]++)
		ask_from(flooder, 10 + i, (struct dns_case){.name = name, .type = DNS_A});
	ask(2, "b.example");
	ck_assert_uint_eq(forward_inflight(forward), 4);
	for (unsigned i = 0; i < 18; i++)
		expect(10 + i, "2:");
	ck_assert_uint_eq(answers, 18);
	while (forward_inflight(forward)) {
		ck_assert_int_eq(loop_turn(&loop, 1), 0);
		if (peer_poll(&peers[0]))
			peer_answer(&peers[0]);
	}
	expect(1, "0: a.example 60 1 192.0.2.1;");
	expect(2, "0: b.example 60 1 192.0.2.1;");
	expect(29, "0: c.flood 60 1 192.0.2.1;");
}
END_TEST

/* Nor do many who wait for one question, which goes on for the others. */
START_TEST(flood_of_one_question)
{
	const struct ip flooder = ip_v4(10, 0, 0, 2);

	be_patient();
	for (unsigned i = 10; i < 30; i++)
		ask_from(flooder, i, (struct dns_case){.name = "www.example", .type = DNS_A});
	ask(1, "www.example");
	ask(2, "a.example");
	ck_assert_uint_eq(answers, 14);
	expect(23, "2:");
	UNTIL(&loop, peer_poll(&peers[0]));
	peer_answer(&peers[0]);
	expect(1, "0: www.example 60 1 192.0.2.1;");
}
END_TEST

START_TEST(no_servers)
{
	use_servers(0);
	ask(1, "a.example");
	expect(1, "2:");
}
END_TEST

START_TEST(other_servers)
{
	ask(1, "a.example");
	UNTIL(&loop, peer_poll(&peers[0]));
	use_servers(2);
	forward_set_servers(forward, &peers[1].addr, 1);
	ask(2, "b.example");
	UNTIL(&loop, peer_poll(&peers[1]));
	peer_answer(&peers[1]);
	expect(2, "0: b.example 60 1 192.0.2.1;");
	/* What is under way goes on, and goes on with those that there are now. */
	UNTIL(&loop, peer_poll(&peers[1]));
	peer_answer(&peers[1]);
	expect(1, "0: a.example 60 1 192.0.2.1;");
	/* Probes of those that are gone end. */
	use_servers(1);
	ask(3, "c.example");
	expect(3, "2:");
	while (peer_poll(&peers[0]))
		;
	UNTIL(&loop, peer_poll(&peers[0]));
	ck_assert_uint_eq(peers[0].query.question.type, DNS_NS);
	forward_set_servers(forward, &peers[1].addr, 1);
	quiet(2 * PROBE_MS);
	ck_assert(!peer_poll(&peers[0]));
}
END_TEST

START_TEST(freed_under_way)
{
	ask(1, "a.example");
	ask(2, "a.example");
	ask(3, "b.example");
	UNTIL(&loop, peer_poll(&peers[0]));
	forward_free(forward);
	forward = NULL;
	quiet(2 * TIMEOUT_MS);
	ck_assert_uint_eq(answers, 0);
}
END_TEST

START_TEST(faults)
{
	static const char *const calls[] = {"malloc", "socket", "connect", "epoll_ctl", "sendto"};
	struct forward_conf c = conf();
	unsigned slot = 0;

	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++, slot++) {
		fault_arm(calls[i], 1, EMFILE, true);
		ask(slot, "a.example");
		ck_assert(fault_disarm());
		expect(slot, "2:");
		ck_assert_uint_eq(forward_inflight(forward), 0);
	}
	ask(slot, "a.example"); /* it was not the servers' fault */
	UNTIL(&loop, peer_poll(&peers[0]));
	peer_answer(&peers[0]);
	expect(slot, "0: a.example 60 1 192.0.2.1;");
	FAULT_EACH("calloc", ENOMEM)
	{
		forward_free(forward_new(&loop, &c));
	}
	forward_free(NULL);
}
END_TEST

/* Each allocation in turn fails one question and no other. */
START_TEST(one_allocation_fails)
{
	char name[] = "0.example";
	unsigned slot = 0;

	FAULT_EACH("malloc", ENOMEM)
	{
		ask(slot, name);
		name[0]++;
		slot++;
	}
	ck_assert_uint_gt(slot, 2);
	while (forward_inflight(forward)) {
		ck_assert_int_eq(loop_turn(&loop, 1), 0);
		for (unsigned i = 0; i < 2; i++)
			if (peer_poll(&peers[i]))
				peer_answer(&peers[i]);
	}
	for (unsigned i = 0; i < slot; i++)
		ck_assert_uint_eq(told[i], 1);
	ck_assert_str_eq(said[0], "2:");
	ck_assert_str_ne(said[slot - 1], "2:");
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {answered_and_cached, negative_answers_are_cached, shared,
	    concurrent, next_server, one_probe_at_a_time, refusing_server, failing_server,
	    nobody_answers, logged_once_a_change, one_silent_question, stale_when_nobody_answers,
	    not_stale_when_somebody_answers, truncated_without_tcp, over_tcp, limits, flood,
	    flood_of_one_question, no_servers, other_servers, freed_under_way, faults,
	    one_allocation_fails};
	Suite *s = suite_create("forward");
	TCase *c = tcase_create("forward");

	tcase_add_checked_fixture(c, setup, teardown);
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
		tcase_add_test(c, tests[i]);
	suite_add_tcase(s, c);
	return s;
}
