#include "rpc/server.h"

#include "base/log.h"
#include "base/queue.h"
#include "cases.h"
#include "codec/frame.h"
#include "fault.h"
#include "suite.h"
#include "sys/fs.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- a server with methods of the test's, and clients on socket pairs
 * -------------------------------- */

enum { MAX_FRAME = 4096, MAX_CONNECTIONS = 4, PATIENCE_TURNS = 200, ANSWERS_BYTES = 1 << 20 };

static struct loop loop;
static struct rpc_server *server;
static struct rpc_token late; /* of the last request that was kept */
static unsigned kept;
static uint64_t file_bytes; /* that send_file answers with */
static uint64_t stall_ms;
static unsigned fds;

/* What the stream of the last request that began one was told. */
static struct {
	struct rpc_token token;
	unsigned sent, frames; /* of how many */
	unsigned closed, ended;
	size_t takes; /* bytes of input that it takes before it must be resumed */
	uint8_t input[MAX_FRAME];
	size_t input_n;
} stream;

/* Answers with the message it was sent. */
static void echo(struct rpc_call *call, const void *message)
{
	const struct rpc_ping_request *request = message;

	rpc_answer(
	    call->server, call->token, &(struct rpc_ping_response){.message = request->message});
	rpc_error(call->server, call->token, RPC_FAILED, "a second answer"); /* must go nowhere */
}

static void keep(struct rpc_call *call, const void *message)
{
	ck_assert_ptr_null(message);
	ck_assert_ptr_eq(call->services, &kept);
	late = call->token;
	kept++;
}

static void send_file(struct rpc_call *call, const void *message)
{
	int fd = fs_memfd("test");

	(void)message;
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fs_write_all(fd, span_str("0123456789")), 0);
	rpc_answer_file(call->server, call->token, span_str("<"), fd, 2, file_bytes, span_str(">"));
}

/* Sends frames until it has to wait. */
static void stream_on(void *ctx)
{
	ck_assert_ptr_eq(ctx, &stream);
	while (stream.sent < stream.frames) {
		uint32_t number = stream.sent++;
		struct rpc_output output = {
		    .data = span_of(&number, sizeof number),
		    .done = stream.sent == stream.frames,
		};

		if (!rpc_stream_send(server, stream.token, &output))
			break;
	}
	if (stream.frames && stream.sent == stream.frames)
		rpc_stream_end(server, stream.token);
}

static size_t stream_input(void *ctx, struct span bytes)
{
	struct span piece = span_first(bytes, stream.takes);

	ck_assert_ptr_eq(ctx, &stream);
	ck_assert_uint_gt(bytes.n, 0);
	ck_assert_uint_le(piece.n, sizeof stream.input - stream.input_n);
	memcpy(stream.input + stream.input_n, piece.p, piece.n);
	stream.input_n += piece.n;
	stream.takes -= piece.n;
	return piece.n;
}

static void stream_input_ended(void *ctx)
{
	ck_assert_ptr_eq(ctx, &stream);
	stream.ended++;
}

static void stream_closed(void *ctx)
{
	ck_assert_ptr_eq(ctx, &stream);
	stream.closed++;
}

static const struct rpc_stream_ops deaf_ops = {.writable = stream_on, .closed = stream_closed};
static const struct rpc_stream_ops hearing_ops = {
    .input_type = RPC_SANDBOX_EXEC_INPUT,
    .input = stream_input,
    .input_ended = stream_input_ended,
    .writable = stream_on,
    .closed = stream_closed,
};

static void begin(struct rpc_call *call, const struct rpc_stream_ops *ops)
{
	stream.token = call->token;
	stream.sent = stream.closed = stream.ended = 0;
	stream.input_n = 0;
	ck_assert(rpc_stream_begin(call->server, call->token, ops, &stream));
	stream_on(&stream);
}

static void begin_deaf(struct rpc_call *call, const void *message)
{
	(void)message;
	begin(call, &deaf_ops);
}

static void begin_hearing(struct rpc_call *call, const void *message)
{
	(void)message;
	begin(call, &hearing_ops);
}

static const struct rpc_method methods[] = {
    {RPC_PING_REQUEST, RPC_PING_RESPONSE, &rpc_ping_request_table, &rpc_ping_response_table, echo},
    {RPC_GET_SYSTEM_INFO_REQUEST, RPC_SYSTEM_INFO, NULL, NULL, keep},
    {RPC_MMAP_READ_FILE_REQUEST, RPC_MMAP_READ_FILE_RESPONSE, &rpc_empty_table, NULL, send_file},
    {RPC_SANDBOX_EVENTS_REQUEST, RPC_SANDBOX_EVENT, NULL, &rpc_output_table, begin_deaf},
    {RPC_SANDBOX_EXEC_REQUEST, RPC_EXEC_OUTPUT, NULL, &rpc_output_table, begin_hearing},
};

static void setup_with(size_t max_buffered_bytes)
{
	const struct rpc_conf conf = {
	    .methods = methods,
	    .n_methods = sizeof methods / sizeof *methods,
	    .services = &kept,
	    .max_frame_bytes = MAX_FRAME,
	    .max_connections = MAX_CONNECTIONS,
	    .max_buffered_bytes = max_buffered_bytes,
	    .arena_bytes = 4096,
	    .max_answer_bytes = 1 << 20,
	    .max_file_bytes = 8,
	    .stall_ms = stall_ms ? stall_ms : 1000,
	};
	struct span bad;

	signal(SIGPIPE, SIG_IGN);
	ck_assert_int_eq(log_filter(span_str("off"), &bad), E_OK);
	fds = fault_fds();
	kept = 0;
	file_bytes = 5;
	stream.frames = 0;
	stream.takes = SIZE_MAX;
	ck_assert_int_eq(loop_init(&loop), 0);
	server = rpc_server_new(&loop, &conf);
	ck_assert_ptr_nonnull(server);
}

static void setup(void)
{
	setup_with(1 << 20);
}

static void turns(unsigned n)
{
	while (n--)
		ck_assert_int_eq(loop_turn(&loop, 1), 0);
}

static void teardown(void)
{
	rpc_server_free(server);
	loop_done(&loop);
	ck_assert_uint_eq(fault_fds(), fds);
}

/* A client whose answers find room for `room_bytes` in the kernel (0 = its default). */
static int client_with(int room_bytes)
{
	int pair[2];

	ck_assert_int_eq(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	if (room_bytes)
		ck_assert_int_eq(
		    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room_bytes, sizeof room_bytes), 0);
	rpc_server_accept(server, pair[1]);
	return pair[0];
}

static int client(void)
{
	return client_with(0);
}

static void send_bytes(int fd, struct span bytes)
{
	ck_assert_int_eq(write(fd, bytes.p, bytes.n), (ssize_t)bytes.n);
}

/* A request frame, valid until the next call. */
static struct span request(uint32_t type, const char *trace, struct span payload)
{
	static uint8_t buf[2 * MAX_FRAME];
	struct wr w = wr_of(buf, sizeof buf);

	frame_head_write(&w, type, span_str(trace), payload.n);
	wr_bytes(&w, payload);
	ck_assert_int_eq(w.err, E_OK);
	return wr_span(&w);
}

static void ask(int fd, uint32_t type, const char *trace)
{
	send_bytes(fd, request(type, trace, span_of(NULL, 0)));
}

/* --- what comes back
 * ---------------------------------------------------------------------------------- */

static uint8_t answers[ANSWERS_BYTES];
static size_t answers_n;
static bool ended;

/* Takes what has come for a client. */
static void receive(int fd)
{
	ssize_t n;

	while ((n = read(fd, answers + answers_n, sizeof answers - answers_n)) > 0)
		answers_n += (size_t)n;
	ended = n == 0;
}

/* The next answer, taken off the front; the connection must not end before. */
static struct frame next_answer(int fd)
{
	static uint8_t whole[ANSWERS_BYTES];
	struct frame f;
	size_t used = 0;

	for (int i = 0; i < PATIENCE_TURNS; i++) {
		if (frame_read(span_of(answers, answers_n), UINT32_MAX, &f, &used) == E_OK)
			break;
		turns(1);
		receive(fd);
	}
	ck_assert_uint_gt(used, 0);
	memcpy(whole, answers, used);
	memmove(answers, answers + used, answers_n - used);
	answers_n -= used;
	ck_assert_int_eq(frame_read(span_of(whole, used), UINT32_MAX, &f, &used), E_OK);
	return f;
}

static void check_answer(int fd, uint32_t type, const char *trace)
{
	struct frame f = next_answer(fd);

	ck_assert_uint_eq(f.type, type);
	ck_assert(span_eq_str(f.trace, trace));
}

static void check_error(int fd, int32_t code, const char *trace)
{
	struct frame f = next_answer(fd);
	struct span text;
	int32_t got;

	ck_assert_uint_eq(f.type, RPC_ERROR);
	ck_assert(span_eq_str(f.trace, trace));
	ck_assert_int_eq(frame_error_read(f.payload, &got, &text), E_OK);
	ck_assert_int_eq(got, code);
	ck_assert_uint_gt(text.n, 0);
}

static void check_usable(int fd)
{
	ask(fd, RPC_PING_REQUEST, "again");
	check_answer(fd, RPC_PING_RESPONSE, "again");
}

static void check_end(int fd)
{
	for (int i = 0; i < PATIENCE_TURNS && !ended; i++) {
		turns(1);
		receive(fd);
	}
	ck_assert(ended);
	ck_assert_uint_eq(answers_n, 0);
	close(fd);
	turns(3);
	ck_assert_uint_eq(rpc_server_connections(server), 0);
	ended = false;
}

static void leave(int fd)
{
	close(fd);
	answers_n = 0;
	turns(5);
}

/* --- requests
 * ------------------------------------------------------------------------------------------- */

START_TEST(answers_a_request)
{
	struct frame f;
	int fd;

	setup();
	fd = client();
	send_bytes(fd, request(RPC_PING_REQUEST, "t-1", span_str("\n\002hi")));
	f = next_answer(fd);
	ck_assert_uint_eq(f.type, RPC_PING_RESPONSE);
	ck_assert(span_eq_str(f.trace, "t-1"));
	ck_assert(span_eq_str(f.payload, "\n\002hi"));
	leave(fd);
	teardown();
}
END_TEST

START_TEST(takes_a_request_byte_by_byte)
{
	uint8_t copy[64];
	struct span r;
	int fd;

	setup();
	fd = client();
	r = request(RPC_PING_REQUEST, "slow", span_str("\n\002hi"));
	memcpy(copy, r.p, r.n);
	for (size_t i = 0; i < r.n; i++) {
		send_bytes(fd, span_of(copy + i, 1));
		turns(1);
	}
	check_answer(fd, RPC_PING_RESPONSE, "slow");
	leave(fd);
	teardown();
}
END_TEST

START_TEST(a_frame_may_have_no_trace_field)
{
	int fd;

	setup();
	fd = client();
	send_bytes(fd, unhex("00000004 00000001"));
	check_answer(fd, RPC_PING_RESPONSE, "");
	send_bytes(
	    fd, unhex("00000005 00000001 ff")); /* the one byte is the payload, and is no message */
	check_error(fd, RPC_CANNOT_DECODE, "");
	check_usable(fd);
	leave(fd);
	teardown();
}
END_TEST

START_TEST(what_breaks_the_framing_ends_the_connection)
{
	static const struct {
		const char *hex;
		int32_t code;
	} cases[] = {
	    {"00000003 000001", RPC_CANNOT_DECODE},
	    {"00000000", RPC_CANNOT_DECODE},
	    {"00000008 00000001 0003 6162", RPC_CANNOT_DECODE},
	    {"ffffffff", RPC_TOO_LARGE},
	    {"00001001", RPC_TOO_LARGE},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		int fd;

		setup();
		fd = client();
		send_bytes(fd, unhex(cases[i].hex));
		check_error(fd, cases[i].code, "");
		check_end(fd);
		teardown();
	}
}
END_TEST

START_TEST(what_is_no_request_leaves_the_connection_usable)
{
	static const uint32_t types[] = {
	    0x99, RPC_EMPTY, RPC_PING_RESPONSE, RPC_SANDBOX_EXEC_INPUT, RPC_ERROR, UINT32_MAX};
	uint8_t payload[MAX_FRAME - 64] = {0};
	int fd;

	setup();
	fd = client();
	for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
		send_bytes(fd, request(types[i], "odd", span_of(payload, sizeof payload)));
		check_error(fd, RPC_CANNOT_DECODE, "odd");
		check_usable(fd);
	}
	send_bytes(fd, request(RPC_PING_REQUEST, "bad", span_str("\n\377")));
	check_error(fd, RPC_CANNOT_DECODE, "bad");
	check_usable(fd);
	leave(fd);
	teardown();
}
END_TEST

START_TEST(a_half_closed_peer_is_still_answered)
{
	int fd;

	setup();
	fd = client();
	ask(fd, RPC_PING_REQUEST, "one");
	ask(fd, RPC_GET_SYSTEM_INFO_REQUEST, "two");
	shutdown(fd, SHUT_WR);
	check_answer(fd, RPC_PING_RESPONSE, "one");
	turns(5);
	ck_assert_uint_eq(kept, 1);
	rpc_answer(server, late, NULL);
	check_answer(fd, RPC_SYSTEM_INFO, "two");
	check_end(fd);
	teardown();
}
END_TEST

START_TEST(pipelined_requests_are_answered_in_order)
{
	char trace[] = "a";
	int fd, other;

	setup();
	fd = client();
	other = client();
	ask(fd, RPC_GET_SYSTEM_INFO_REQUEST, "first");
	for (int i = 0; i < 26; i++, trace[0]++)
		ask(fd, RPC_PING_REQUEST, trace);
	turns(5);
	check_usable(other); /* which waits for nobody */
	ck_assert_uint_eq(kept, 1);
	rpc_answer(server, late, NULL);
	check_answer(fd, RPC_SYSTEM_INFO, "first");
	trace[0] = 'a';
	for (int i = 0; i < 26; i++, trace[0]++)
		check_answer(fd, RPC_PING_RESPONSE, trace);
	leave(other);
	leave(fd);
	teardown();
}
END_TEST

START_TEST(a_late_answer_for_nobody_is_dropped)
{
	struct rpc_token gone;
	int fd;

	setup();
	fd = client();
	ask(fd, RPC_GET_SYSTEM_INFO_REQUEST, "x");
	turns(5);
	gone = late;
	leave(fd);
	ck_assert_uint_eq(rpc_server_connections(server), 0);
	rpc_answer(server, gone, NULL);
	fd = client(); /* in the same slot */
	ask(fd, RPC_GET_SYSTEM_INFO_REQUEST, "y");
	turns(5);
	rpc_error(server, gone, RPC_FAILED, "not yours");
	rpc_answer_file(server, gone, span_str(""), fs_memfd("x"), 0, 0, span_str(""));
	rpc_error(server, late, RPC_UNAVAILABLE, "yours");
	check_error(fd, RPC_UNAVAILABLE, "y");
	check_usable(fd);
	leave(fd);
	teardown();
}
END_TEST

START_TEST(a_file_stands_in_the_middle_of_its_answer)
{
	struct frame f;
	int fd;

	setup();
	fd = client();
	ask(fd, RPC_MMAP_READ_FILE_REQUEST, "f");
	f = next_answer(fd);
	ck_assert_uint_eq(f.type, RPC_MMAP_READ_FILE_RESPONSE);
	ck_assert(span_eq_str(f.payload, "<23456>"));
	check_usable(fd);
	file_bytes = 9; /* one more than may be sent at once */
	ask(fd, RPC_MMAP_READ_FILE_REQUEST, "large");
	check_error(fd, RPC_UNAVAILABLE, "large");
	check_usable(fd);
	leave(fd);
	teardown();
}
END_TEST

/* A file waits behind answers that the client has not taken yet; the next file waits for it. */
START_TEST(files_may_be_pipelined_by_a_slow_client)
{
	uint8_t message[1003] = {'\n', 0xe8, 7};
	int fd;

	setup();
	memset(message + 3, 'm', 1000);
	file_bytes = 2; /* three fit the limit together */
	fd = client_with(1);
	for (int i = 0; i < 20; i++)
		send_bytes(fd, request(RPC_PING_REQUEST, "p", span_of(message, sizeof message)));
	for (int i = 0; i < 3; i++)
		ask(fd, RPC_MMAP_READ_FILE_REQUEST, "f");
	turns(5);
	for (int i = 0; i < 20; i++)
		check_answer(fd, RPC_PING_RESPONSE, "p");
	for (int i = 0; i < 3; i++)
		check_answer(fd, RPC_MMAP_READ_FILE_RESPONSE, "f");
	check_usable(fd);
	leave(fd);
	teardown();
}
END_TEST

START_TEST(one_connection_too_many_is_told)
{
	int held[MAX_CONNECTIONS], fd;

	setup();
	for (int i = 0; i < MAX_CONNECTIONS; i++)
		held[i] = client();
	fd = client();
	check_error(fd, RPC_UNAVAILABLE, "");
	receive(fd);
	ck_assert(ended);
	close(fd);
	for (int i = 0; i < MAX_CONNECTIONS; i++) {
		check_usable(held[i]);
		leave(held[i]);
	}
	teardown();
}
END_TEST

START_TEST(a_spent_budget_costs_one_connection)
{
	uint8_t payload[MAX_FRAME - 64] = {0};
	struct span r;
	int fd;

	setup_with(2048);
	fd = client();
	r = request(RPC_PING_REQUEST, "", span_of(payload, sizeof payload));
	send_bytes(fd, span_first(r, 3000));
	check_error(fd, RPC_UNAVAILABLE, "");
	check_end(fd);
	fd = client();
	check_usable(fd);
	leave(fd);
	teardown();
}
END_TEST

/* Whether a frame of `bytes` in all, sent in two pieces, is taken. If not, Error 503 has come. */
static bool is_taken(size_t bytes, size_t first)
{
	static const uint8_t payload[MAX_FRAME];
	struct span r =
	    request(RPC_GET_SYSTEM_INFO_REQUEST, "", span_of(payload, bytes - FRAME_HEAD_BYTES));
	unsigned before = kept;
	int fd = client();

	send_bytes(fd, span_first(r, first));
	turns(3);
	send_bytes(fd, span_first(span_from(r, first), r.n - first - 1));
	turns(3);
	if (write(fd, r.p + r.n - 1, 1) == 1)
		turns(3);
	if (kept > before) {
		leave(fd);
		return true;
	}
	check_error(fd, RPC_UNAVAILABLE, "");
	check_end(fd);
	return false;
}

/* A buffer grows by doubling up to the largest frame; what it grows to must fit the budget. */
START_TEST(a_budget_at_its_edge_is_an_answer)
{
	static const struct {
		size_t bytes, needs; /* of a frame, of the budget */
	} cases[] = {{QUEUE_KEEP_BYTES + 1, 2048}, {2048, 2048}, {2049, 4096}, {4096, 4096},
	    {4097, MAX_FRAME + 4}, {MAX_FRAME + 4, MAX_FRAME + 4}};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const size_t cuts[] = {3, FRAME_HEAD_BYTES, cases[i].bytes / 2};

		for (size_t k = 0; k < sizeof cuts / sizeof *cuts; k++) {
			setup_with(cases[i].needs);
			ck_assert(is_taken(cases[i].bytes, cuts[k]));
			teardown();
			setup_with(cases[i].needs - 1);
			ck_assert(!is_taken(cases[i].bytes, cuts[k]));
			teardown();
		}
	}
}
END_TEST

/* What was free when a request began may have gone to others when the rest of it comes. */
START_TEST(a_budget_that_others_took_is_an_answer)
{
	static const uint8_t payload[MAX_FRAME - 64];
	struct span r;
	int slow, other;

	setup_with(4096);
	r = request(RPC_GET_SYSTEM_INFO_REQUEST, "", span_of(payload, sizeof payload));
	slow = client();
	send_bytes(slow, span_first(r, QUEUE_KEEP_BYTES));
	turns(3);
	other = client();
	send_bytes(other, span_first(r, r.n - 1));
	turns(3);
	send_bytes(slow, span_from(r, QUEUE_KEEP_BYTES));
	check_error(slow, RPC_UNAVAILABLE, "");
	leave(slow);
	send_bytes(other, span_from(r, r.n - 1));
	turns(3);
	ck_assert_uint_eq(kept, 1);
	leave(other);
	teardown();
}
END_TEST

/* A client that asks and asks and never reads: at some point it is not read any more. */
START_TEST(a_client_that_never_reads_is_not_read)
{
	struct span r;
	size_t sent = 0;
	ssize_t n;
	int fd;

	setup();
	fd = client();
	for (int quiet = 0; quiet < 20 && sent < 64u << 20; quiet++) {
		uint8_t message[1003] = {'\n', 0xe8, 7};

		memset(message + 3, 'm', 1000);
		r = request(RPC_PING_REQUEST, "flood", span_of(message, sizeof message));
		while ((n = write(fd, r.p, r.n)) == (ssize_t)r.n) {
			sent += (size_t)n;
			quiet = 0;
		}
		if (n > 0) /* half a frame would break the framing: be done */
			break;
		turns(1);
	}
	ck_assert_uint_lt(sent, 4u << 20);
	leave(fd);
	turns(10);
	ck_assert_uint_eq(rpc_server_connections(server), 0);
	teardown();
}
END_TEST

/* --- streams
 * -------------------------------------------------------------------------------------------- */

/* The next frame of a stream, which has this number. Whether it is the last. */
static bool check_frame(int fd, uint32_t type, const char *trace, uint32_t number)
{
	struct frame f = next_answer(fd);
	uint8_t memory[256];
	struct pb_arena arena = pb_arena_of(memory, sizeof memory);
	struct rpc_output output = {0};

	ck_assert_uint_eq(f.type, type);
	ck_assert(span_eq_str(f.trace, trace));
	ck_assert_int_eq(pb_read(f.payload, &rpc_output_table, &arena, &output), E_OK);
	ck_assert(span_eq(output.data, span_of(&number, sizeof number)));
	return output.done;
}

static void give_input(int fd, const char *text)
{
	send_bytes(fd, request(RPC_SANDBOX_EXEC_INPUT, "in", span_str(text)));
}

static void check_input(const char *text)
{
	for (int i = 0; i < PATIENCE_TURNS && stream.input_n < strlen(text); i++)
		turns(1);
	ck_assert(span_eq_str(span_of(stream.input, stream.input_n), text));
}

START_TEST(a_stream_holds_its_connection)
{
	int fd;

	setup();
	fd = client();
	ask(fd, RPC_SANDBOX_EVENTS_REQUEST, "a");
	ask(fd, RPC_PING_REQUEST, "b");
	turns(5);
	receive(fd);
	ck_assert_uint_eq(answers_n, 0);
	stream.frames = 3;
	stream_on(&stream);
	for (uint32_t i = 0; i < 3; i++)
		ck_assert_int_eq(check_frame(fd, RPC_SANDBOX_EVENT, "a", i), i == 2);
	check_answer(fd, RPC_PING_RESPONSE, "b");
	leave(fd);
	ck_assert_uint_eq(stream.closed, 0);
	teardown();
}
END_TEST

START_TEST(a_stream_may_end_in_its_handler)
{
	int fd;

	setup();
	stream.frames = 2;
	for (size_t i = 0; i < 2; i++) {
		const uint32_t types[] = {RPC_SANDBOX_EVENTS_REQUEST, RPC_SANDBOX_EXEC_REQUEST};

		fd = client();
		ask(fd, types[i], "a");
		ask(fd, RPC_PING_REQUEST, "b");
		ck_assert(!check_frame(fd, types[i] + 0x1005, "a", 0));
		ck_assert(check_frame(fd, types[i] + 0x1005, "a", 1));
		check_answer(fd, RPC_PING_RESPONSE, "b");
		leave(fd);
	}
	teardown();
}
END_TEST

START_TEST(a_slow_reader_of_ten_thousand_frames_bounds_the_server)
{
	enum { FRAMES = 10000, ROOM = 4096 };
	int fd;

	setup();
	stream.frames = FRAMES;
	fd = client_with(ROOM);
	ask(fd, RPC_SANDBOX_EVENTS_REQUEST, "slow");
	ask(fd, RPC_PING_REQUEST, "b");
	for (uint32_t i = 0; i < FRAMES; i++) {
		ck_assert_uint_lt(stream.sent - i, 1000); /* what kernel and client hold */
		ck_assert_int_eq(check_frame(fd, RPC_SANDBOX_EVENT, "slow", i), i == FRAMES - 1);
	}
	check_answer(fd, RPC_PING_RESPONSE, "b");
	leave(fd);
	teardown();
}
END_TEST

START_TEST(a_stream_may_be_read_as_slowly_as_one_likes)
{
	int fd;

	stall_ms = 20;
	setup();
	stream.frames = 1000;
	fd = client_with(4096);
	ask(fd, RPC_SANDBOX_EVENTS_REQUEST, "a");
	turns(3);
	usleep(50000);
	turns(50);
	ck_assert_uint_eq(rpc_server_connections(server), 1);
	for (uint32_t i = 0; i < 999; i++)
		ck_assert(!check_frame(fd, RPC_SANDBOX_EVENT, "a", i));
	ck_assert(check_frame(fd, RPC_SANDBOX_EVENT, "a", 999));
	for (unsigned i = 0; i < 64; i++) /* answers to which may not */
		ask(fd, RPC_MMAP_READ_FILE_REQUEST, "b");
	usleep(50000);
	turns(50);
	ck_assert_uint_eq(rpc_server_connections(server), 0);
	leave(fd);
	teardown();
	stall_ms = 0;
}
END_TEST

START_TEST(input_goes_to_the_stream_in_pieces)
{
	struct span r;
	int fd;

	setup();
	fd = client();
	ask(fd, RPC_SANDBOX_EXEC_REQUEST, "a");
	give_input(fd, "hello ");
	give_input(fd, "world");
	check_input("hello world");
	ck_assert_uint_eq(stream.ended, 0);
	r = request(RPC_SANDBOX_EXEC_INPUT, "in", span_str(", byte by byte"));
	for (size_t i = 0; i < r.n; i++) {
		send_bytes(fd, span_of(r.p + i, 1));
		turns(1);
	}
	check_input("hello world, byte by byte");
	give_input(fd, "");
	turns(5);
	ck_assert_uint_eq(stream.ended, 1);
	give_input(fd, "nobody wants this");
	give_input(fd, "");
	turns(5);
	ck_assert_uint_eq(stream.ended, 1);
	check_input("hello world, byte by byte");
	stream.frames = 1;
	stream_on(&stream);
	ck_assert(check_frame(fd, RPC_EXEC_OUTPUT, "a", 0));
	check_usable(fd);
	leave(fd);
	teardown();
}
END_TEST

START_TEST(input_that_is_not_taken_waits)
{
	int fd;

	setup();
	stream.takes = 4;
	fd = client();
	ask(fd, RPC_SANDBOX_EXEC_REQUEST, "a");
	give_input(fd, "hello");
	give_input(fd, " world");
	ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
	turns(10);
	check_input("hell");
	stream.takes = 3;
	rpc_stream_resume_input(server, stream.token);
	turns(10);
	check_input("hello w");
	ck_assert_uint_eq(stream.ended, 0);
	stream.takes = SIZE_MAX;
	rpc_stream_resume_input(server, stream.token);
	turns(10);
	check_input("hello world");
	ck_assert_uint_eq(stream.ended, 1);
	stream.frames = 1;
	stream_on(&stream);
	ck_assert(check_frame(fd, RPC_EXEC_OUTPUT, "a", 0));
	check_end(fd);
	ck_assert_uint_eq(stream.closed, 0);
	teardown();
}
END_TEST

START_TEST(the_end_of_the_sending_side_ends_the_input_only)
{
	int fd;

	setup();
	fd = client();
	ask(fd, RPC_SANDBOX_EXEC_REQUEST, "a");
	give_input(fd, "x");
	ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
	turns(10);
	check_input("x");
	ck_assert_uint_eq(stream.ended, 1);
	ck_assert_uint_eq(stream.closed, 0);
	stream.frames = 2;
	stream_on(&stream);
	check_frame(fd, RPC_EXEC_OUTPUT, "a", 0);
	check_frame(fd, RPC_EXEC_OUTPUT, "a", 1);
	check_end(fd);
	teardown();
}
END_TEST

START_TEST(the_next_request_ends_the_input_and_waits)
{
	int fd;

	setup();
	fd = client();
	ask(fd, RPC_SANDBOX_EXEC_REQUEST, "a");
	give_input(fd, "x");
	ask(fd, RPC_PING_REQUEST, "b");
	give_input(fd, "outside of a session");
	turns(10);
	check_input("x");
	ck_assert_uint_eq(stream.ended, 1);
	receive(fd);
	ck_assert_uint_eq(answers_n, 0);
	stream.frames = 1;
	stream_on(&stream);
	check_frame(fd, RPC_EXEC_OUTPUT, "a", 0);
	check_answer(fd, RPC_PING_RESPONSE, "b");
	check_error(fd, RPC_CANNOT_DECODE, "in");
	check_usable(fd);
	leave(fd);
	teardown();
}
END_TEST

START_TEST(the_rest_of_an_input_frame_goes_with_its_stream)
{
	int fd;

	setup();
	stream.takes = 2;
	fd = client();
	ask(fd, RPC_SANDBOX_EXEC_REQUEST, "a");
	give_input(fd, "half of it");
	turns(5);
	check_input("ha");
	stream.frames = 1;
	stream_on(&stream);
	check_frame(fd, RPC_EXEC_OUTPUT, "a", 0);
	check_usable(fd);
	leave(fd);
	teardown();
}
END_TEST

START_TEST(a_stream_is_told_that_its_host_has_gone)
{
	struct rpc_token gone;
	int fd;

	setup();
	for (size_t i = 0; i < 2; i++) {
		fd = client();
		ask(fd, i ? RPC_SANDBOX_EXEC_REQUEST : RPC_SANDBOX_EVENTS_REQUEST, "a");
		turns(5);
		gone = stream.token;
		leave(fd);
		ck_assert_uint_eq(stream.closed, 1);
		ck_assert(!rpc_stream_send(server, gone, &(struct rpc_output){0}));
		ck_assert(!rpc_stream_begin(server, gone, &deaf_ops, &stream));
		rpc_stream_resume_input(server, gone);
		rpc_stream_end(server, gone);
	}
	fd = client();
	ask(fd, RPC_SANDBOX_EVENTS_REQUEST, "a");
	turns(5);
	ck_assert(!rpc_stream_send(server, gone, &(struct rpc_output){0}));
	rpc_stream_end(server, gone);
	receive(fd);
	ck_assert_uint_eq(answers_n, 0);
	fds++;      /* the client's */
	teardown(); /* which ends the stream, too */
	ck_assert_uint_eq(stream.closed, 1);
	close(fd);
}
END_TEST

/* As on vsock, where nothing tells of it but a send. */
START_TEST(a_stream_asks_whether_its_host_is_still_there)
{
	int fd;

	setup();
	fd = client();
	ask(fd, RPC_SANDBOX_EVENTS_REQUEST, "a");
	turns(5);
	fault_arm("sendto", 1, EPIPE, true);
	for (unsigned i = 0; i < 100 && !stream.closed; i++)
		ck_assert_int_eq(loop_turn(&loop, 100), 0);
	ck_assert(fault_disarm());
	ck_assert_uint_eq(stream.closed, 1);
	close(fd);
	teardown();
}
END_TEST

START_TEST(an_error_ends_a_stream)
{
	int fd;

	setup();
	fd = client();
	ask(fd, RPC_SANDBOX_EXEC_REQUEST, "a");
	turns(5);
	ck_assert(rpc_stream_send(server, stream.token, &(struct rpc_output){0}));
	rpc_error(server, stream.token, RPC_FAILED, "lost");
	rpc_error(server, stream.token, RPC_FAILED, "and again");
	check_answer(fd, RPC_EXEC_OUTPUT, "a");
	check_error(fd, RPC_FAILED, "a");
	check_usable(fd);
	leave(fd);
	ck_assert_uint_eq(stream.closed, 0);
	teardown();
}
END_TEST

START_TEST(what_cannot_be_sent_ends_the_connection)
{
	static uint8_t data[2 << 20];
	const struct rpc_output large = {.data = span_of(data, sizeof data)};
	int fd;

	setup();
	fd = client();
	ask(fd, RPC_SANDBOX_EVENTS_REQUEST, "a");
	turns(5);
	ck_assert(!rpc_stream_send(server, stream.token, &large));
	ck_assert_uint_eq(stream.closed, 0);
	check_end(fd);
	ck_assert_uint_eq(stream.closed, 1);
	teardown();
}
END_TEST

START_TEST(broken_framing_ends_a_stream)
{
	static const struct {
		const char *bytes;
		int32_t code;
	} cases[] = {
	    {"00000003", RPC_CANNOT_DECODE},
	    {"7fffffff", RPC_TOO_LARGE},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		int fd;

		setup();
		fd = client();
		ask(fd, RPC_SANDBOX_EXEC_REQUEST, "a");
		give_input(fd, "x");
		send_bytes(fd, unhex(cases[i].bytes));
		check_error(fd, cases[i].code, "");
		ck_assert(!rpc_stream_send(server, stream.token, &(struct rpc_output){0}));
		check_end(fd);
		ck_assert_uint_eq(stream.closed, 1);
		teardown();
	}
}
END_TEST

START_TEST(a_stream_without_memory_is_told)
{
	for (unsigned nth = 1; nth <= 4; nth++) {
		int fd;

		setup();
		fd = client();
		stream.closed = 0;
		fault_arm("malloc", nth, ENOMEM, false);
		ask(fd, RPC_SANDBOX_EXEC_REQUEST, "a trace to be kept");
		turns(5);
		ck_assert_uint_eq(stream.closed, fault_disarm());
		leave(fd);
		ck_assert_uint_eq(stream.closed, 1);
		teardown();
	}
}
END_TEST

START_TEST(failing_calls_cost_one_request)
{
	static const struct {
		const char *call;
		int err;
	} faults[] = {{"malloc", ENOMEM}, {"calloc", ENOMEM}, {"epoll_ctl", ENOMEM},
	    {"read", ECONNRESET}, {"sendto", EPIPE}};

	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
		for (unsigned nth = 1; nth <= 4; nth++) {
			struct span r;
			int fd;

			setup();
			fault_arm(faults[i].call, nth, faults[i].err, false);
			fd = client();
			r = request(RPC_GET_SYSTEM_INFO_REQUEST, "trace", span_of(NULL, 0));
			if (send(fd, r.p, r.n, 0) <
			    0) /* the connection may be the request that failed */
				ck_assert_int_eq(errno, EPIPE);
			turns(5);
			rpc_answer(server, late, NULL);
			turns(5);
			fault_disarm();
			leave(fd);
			fd = client();
			check_usable(fd);
			leave(fd);
			teardown();
		}
	}
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    answers_a_request,
	    takes_a_request_byte_by_byte,
	    a_frame_may_have_no_trace_field,
	    what_breaks_the_framing_ends_the_connection,
	    what_is_no_request_leaves_the_connection_usable,
	    a_half_closed_peer_is_still_answered,
	    pipelined_requests_are_answered_in_order,
	    a_late_answer_for_nobody_is_dropped,
	    a_file_stands_in_the_middle_of_its_answer,
	    files_may_be_pipelined_by_a_slow_client,
	    one_connection_too_many_is_told,
	    a_spent_budget_costs_one_connection,
	    a_budget_at_its_edge_is_an_answer,
	    a_budget_that_others_took_is_an_answer,
	    a_client_that_never_reads_is_not_read,
	    failing_calls_cost_one_request,
	    a_stream_holds_its_connection,
	    a_stream_may_end_in_its_handler,
	    a_slow_reader_of_ten_thousand_frames_bounds_the_server,
	    a_stream_may_be_read_as_slowly_as_one_likes,
	    input_goes_to_the_stream_in_pieces,
	    input_that_is_not_taken_waits,
	    the_end_of_the_sending_side_ends_the_input_only,
	    the_next_request_ends_the_input_and_waits,
	    the_rest_of_an_input_frame_goes_with_its_stream,
	    a_stream_is_told_that_its_host_has_gone,
	    a_stream_asks_whether_its_host_is_still_there,
	    an_error_ends_a_stream,
	    what_cannot_be_sent_ends_the_connection,
	    broken_framing_ends_a_stream,
	    a_stream_without_memory_is_told,
	    NULL,
	};

	return suite_of("server", tests);
}
