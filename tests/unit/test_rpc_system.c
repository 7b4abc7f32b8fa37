#include "rpc_case.h"

#include "sys/clock.h"
#include "sys/fs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/utsname.h>

enum { FILE_BYTES = 300000, READ_MS = 5000 };

static struct rpc_case c;

/* --- Ping ------------------------------------------------------------------------------------- */

/* The answer to a Ping: exactly this message and the agent's version. */
static void check_pong(struct span payload, const char *message)
{
	uint8_t buf[2048];
	struct wr w = wr_of(buf, sizeof buf);
	const struct span version = SPAN_LIT(AGENT_VERSION);

	pb_write_bytes_head(&w, 1, strlen(message));
	wr_str(&w, message);
	pb_write_bytes_head(&w, 2, version.n);
	wr_bytes(&w, version);
	ck_assert_int_eq(w.err, E_OK);
	ck_assert(span_eq(payload, wr_span(&w)));
}

static struct span ping(const char *message, int64_t timestamp_secs)
{
	const struct rpc_ping_request request = {span_str(message), timestamp_secs};

	return rpc_case_ask(&c, RPC_PING_REQUEST,
	    rpc_case_payload(&rpc_ping_request_table, &request), RPC_PING_RESPONSE);
}

START_TEST(ping_is_answered_with_the_message)
{
	char longer[1000], answer[1010];

	rpc_case_begin(&c);
	rpc_case_serve(&c);
	check_pong(rpc_case_ask(&c, RPC_PING_REQUEST, span_of(NULL, 0), RPC_PING_RESPONSE), "pong");
	check_pong(ping("", 0), "pong");
	check_pong(ping("hi", 0), "pong: hi");
	check_pong(ping("gr\xc3\xbc\xc3\x9f dich", 0), "pong: gr\xc3\xbc\xc3\x9f dich");
	for (size_t n = 245; n < sizeof longer; n += n < 255 ? 1 : 200) {
		memset(longer, 'x', n);
		longer[n] = '\0';
		snprintf(answer, sizeof answer, "pong: %s", longer);
		check_pong(ping(longer, 0), answer);
	}
	rpc_case_end(&c);
}
END_TEST

START_TEST(ping_without_memory_is_an_error)
{
	char message[300] = "";
	struct rpc_ping_request request;

	memset(message, 'x', sizeof message - 1);
	request = (struct rpc_ping_request){.message = span_str(message)};
	rpc_case_begin(&c);
	rpc_case_serve(&c);
	fault_arm("malloc", 1, ENOMEM, false);
	rpc_case_refused(&c, RPC_PING_REQUEST, rpc_case_payload(&rpc_ping_request_table, &request),
	    RPC_FAILED, "PingRequest: no memory");
	ck_assert(fault_disarm());
	check_pong(ping("again", 0), "pong: again");
	rpc_case_end(&c);
}
END_TEST

/* The one call that would set the clock is made to fail; the answer is the same either way. */
static bool sets_clock(int64_t timestamp_secs)
{
	fault_arm("clock_settime", 1, EPERM, true);
	check_pong(ping("t", timestamp_secs), "pong: t");
	return fault_disarm();
}

START_TEST(ping_moves_a_clock_that_may_be_moved)
{
	int64_t now = clock_real_ns() / (int64_t)NS_PER_SEC;

	rpc_case_begin(&c);
	rpc_case_serve(&c);
	ck_assert(!sets_clock(now + 100));
	c.services.clock.may_set = true;
	ck_assert(sets_clock(now + 100));
	ck_assert(sets_clock(now - 100));
	ck_assert(!sets_clock(now));
	ck_assert(!sets_clock(0));
	ck_assert(!sets_clock(-1));
	rpc_case_end(&c);
}
END_TEST

/* --- GetSystemInfo ---------------------------------------------------------------------------- */

START_TEST(system_info_is_the_kernel_s)
{
	struct rpc_system_info info;
	struct utsname u;

	rpc_case_begin(&c);
	rpc_case_serve(&c);
	ck_assert_int_eq(uname(&u), 0);
	rpc_case_read(&c,
	    rpc_case_ask(&c, RPC_GET_SYSTEM_INFO_REQUEST,
		span_str("\xff is no message, and ignored"), RPC_SYSTEM_INFO),
	    &rpc_system_info_table, &info);
	ck_assert(span_eq_str(info.kernel_version, u.release));
	ck_assert(span_eq_str(info.hostname, u.nodename));
	ck_assert(span_eq_str(info.arch, u.machine));
	ck_assert_uint_gt(info.os_name.n, 0);
	ck_assert_uint_ge(info.cpu_count, 1);
	ck_assert_uint_le(info.cpu_count, (unsigned)sysconf(_SC_NPROCESSORS_CONF));
	ck_assert_uint_gt(info.available_memory, 0);
	ck_assert_uint_le(info.available_memory, info.total_memory);
	ck_assert_uint_eq(info.load_average.n, 3);
	ck_assert_uint_gt(info.uptime, 0);
	for (size_t i = 0; i < info.ip_addresses.n; i++) {
		const struct span *texts = info.ip_addresses.items;
		struct ip ip;

		ck_assert_int_eq(ip_parse(texts[i], &ip), E_OK);
		ck_assert(!ip_is_loopback(&ip) && !ip_is_link_local(&ip));
	}
	rpc_case_end(&c);
}
END_TEST

/* --- MmapReadFile ----------------------------------------------------------------------------- */

static char dir[32], path[64];
static uint8_t content[FILE_BYTES];

static void setup_reader(unsigned max_waiting)
{
	FILE *f;

	strcpy(dir, "/tmp/rpc.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/file", dir);
	for (size_t i = 0; i < sizeof content; i++)
		content[i] = (uint8_t)(i * 7 + i / 256);
	f = fopen(path, "we");
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(content, 1, sizeof content, f), sizeof content);
	fclose(f);
	rpc_case_begin(&c);
	c.services.reader = reader_new(&c.loop, &c.reaper, 2, max_waiting, READ_MS);
	ck_assert_ptr_nonnull(c.services.reader);
	rpc_case_serve(&c);
}

static void teardown_reader(void)
{
	rpc_case_end(&c);
	unlink(path);
	rmdir(dir);
}

static struct span range_of(struct span of, uint64_t offset, uint64_t length)
{
	const struct rpc_mmap_read_file_request request = {of, offset, length};

	return rpc_case_payload(&rpc_mmap_read_file_request_table, &request);
}

/* The answer holds exactly these bytes of the file. */
static void check_range(uint64_t offset, uint64_t length, size_t n)
{
	static uint8_t expected[FILE_BYTES + 32];
	struct wr w = wr_of(expected, sizeof expected);
	struct rpc_mmap_read_file_response response;
	struct span payload = rpc_case_ask(&c, RPC_MMAP_READ_FILE_REQUEST,
	    range_of(span_str(path), offset, length), RPC_MMAP_READ_FILE_RESPONSE);

	response = (struct rpc_mmap_read_file_response){
	    .data = n ? span_of(content + offset, n) : span_of(NULL, 0), .bytes_read = n};
	ck_assert_int_eq(pb_write(&w, &rpc_mmap_read_file_response_table, &response), E_OK);
	ck_assert(span_eq(payload, wr_span(&w)));
}

START_TEST(reads_the_range_that_is_there)
{
	setup_reader(8);
	check_range(0, FILE_BYTES, FILE_BYTES);
	check_range(0, READER_RANGE_BYTES, FILE_BYTES);
	check_range(0, 1, 1);
	check_range(4095, 4098, 4098);
	check_range(FILE_BYTES - 1, 1, 1);
	check_range(FILE_BYTES - 200, 1000, 200);
	check_range(0, 0, 0);
	check_range(FILE_BYTES, 10, 0);
	check_range(UINT64_MAX, 10, 0);
	teardown_reader();
}
END_TEST

START_TEST(nothing_is_read_of_no_file_when_nothing_is_asked)
{
	setup_reader(8);
	ck_assert_uint_eq(rpc_case_ask(&c, RPC_MMAP_READ_FILE_REQUEST,
			      range_of(span_str("/nonexistent"), 0, 0), RPC_MMAP_READ_FILE_RESPONSE)
			      .n,
	    0);
	teardown_reader();
}
END_TEST

static void check_errno(struct span of, uint64_t length, int code)
{
	char text[128];

	snprintf(text, sizeof text, "cannot read the file: %s", err_text(-code));
	rpc_case_refused(&c, RPC_MMAP_READ_FILE_REQUEST, range_of(of, 0, length), code, text);
}

START_TEST(tells_the_errno_of_a_file_that_it_cannot_read)
{
	setup_reader(8);
	check_errno(span_str(path), READER_RANGE_BYTES + 1, EINVAL);
	check_errno(span_str(path), UINT64_MAX, EINVAL);
	check_errno(span_str("/nonexistent"), 1, ENOENT);
	check_errno(span_str("/etc/hostname/x"), 1, ENOTDIR);
	check_errno(span_str(dir), 1, EISDIR);
	check_errno(span_str("/dev/null"), 1, EINVAL);
	check_errno(span_str(""), 1, EINVAL);
	check_errno(span_of("/etc/hosts\0", 11), 1, EINVAL);
	check_range(0, 10, 10);
	teardown_reader();
}
END_TEST

START_TEST(too_many_reads_are_refused)
{
	setup_reader(0);
	check_errno(span_str(path), 1, EAGAIN);
	teardown_reader();
}
END_TEST

/* A client that goes while its file is read: the answer goes nowhere, the next client gets its own.
 */
START_TEST(a_late_file_for_nobody_is_dropped)
{
	setup_reader(8);
	rpc_case_send(&c, RPC_MMAP_READ_FILE_REQUEST, range_of(span_str(path), 0, FILE_BYTES));
	while (reaper_count(&c.reaper) == 0)
		ck_assert_int_eq(loop_turn(&c.loop, 10), 0);
	close(c.client);
	while (reaper_count(&c.reaper))
		ck_assert_int_eq(loop_turn(&c.loop, 10), 0);
	rpc_case_connect(&c);
	check_range(3, 10, 10);
	teardown_reader();
}
END_TEST

/* --- Shutdown --------------------------------------------------------------------------------- */

START_TEST(shutdown_is_accepted_and_begins)
{
	const struct rpc_shutdown_request request = {.timeout_seconds = 7};
	struct shutdown sd;
	struct span payload;

	rpc_case_begin(&c);
	shutdown_init(&sd, &c.loop, &c.reaper, &(const struct shutdown_conf){.default_secs = 25});
	c.services.shutdown = &sd;
	rpc_case_serve(&c);
	ck_assert(!shutdown_begun(&sd));
	payload = rpc_case_ask(&c, RPC_SHUTDOWN_REQUEST,
	    rpc_case_payload(&rpc_shutdown_request_table, &request), RPC_SHUTDOWN_RESPONSE);
	ck_assert(span_eq_str(payload, "\x08\x01"));
	ck_assert(shutdown_begun(&sd));
	ck_assert_uint_eq(sd.secs, 7);
	for (int i = 0; i < RPC_CASE_TURNS && !c.loop.stopping; i++)
		ck_assert_int_eq(loop_turn(&c.loop, 10), 0);
	ck_assert(c.loop.stopping);
	rpc_case_end(&c);
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    ping_is_answered_with_the_message,
	    ping_without_memory_is_an_error,
	    ping_moves_a_clock_that_may_be_moved,
	    system_info_is_the_kernel_s,
	    reads_the_range_that_is_there,
	    nothing_is_read_of_no_file_when_nothing_is_asked,
	    tells_the_errno_of_a_file_that_it_cannot_read,
	    too_many_reads_are_refused,
	    a_late_file_for_nobody_is_dropped,
	    shutdown_is_accepted_and_begins,
	    NULL,
	};

	return suite_of("rpc_system", tests);
}
