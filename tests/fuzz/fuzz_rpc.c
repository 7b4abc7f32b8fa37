/* The RPC connection: bytes in any split, against the real dispatcher with services of the target's
 * own. The first byte of an input says how the rest is cut at first. Every request must be answered
 * once, in order, by a whole frame with its trace. */
#include "fuzz.h"

#include "base/log.h"
#include "codec/frame.h"
#include "kernel.h"
#include "rpc/server.h"
#include "sys/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_FRAME = 2048, PIECES = 64, TURNS_MAX = 8192, OUT_BYTES = 1 << 20, FILE_BYTES = 100 };

static struct loop loop;
static struct rpc_server *server;
static struct rpc_token late;
static bool waiting, stream_ending;
static int file;

static void echo(struct rpc_call *call, const void *message)
{
	const struct rpc_ping_request *request = message;

	rpc_answer(
	    call->server, call->token, &(struct rpc_ping_response){.message = request->message});
}

static void keep(struct rpc_call *call, const void *message)
{
	(void)message;
	late = call->token;
	waiting = true;
}

static void refuse(struct rpc_call *call, const void *message)
{
	(void)message;
	rpc_error(call->server, call->token, RPC_UNAVAILABLE, "not here");
}

static void send_file(struct rpc_call *call, const void *message)
{
	int fd = fcntl(file, F_DUPFD_CLOEXEC, 0);

	(void)message;
	if (fd < 0)
		abort();
	rpc_answer_file(call->server, call->token, span_str("<"), fd, 0, FILE_BYTES, span_str(">"));
}

/* A stream whose input comes back. */
static size_t stream_input(void *ctx, struct span bytes)
{
	(void)ctx;
	rpc_stream_send(server, late, &(struct rpc_output){.data = bytes});
	return bytes.n;
}

static void stream_input_ended(void *ctx)
{
	(void)ctx;
	stream_ending = true;
}

static void stream_writable(void *ctx)
{
	(void)ctx;
}

static void stream_closed(void *ctx)
{
	(void)ctx;
	stream_ending = false;
}

static void begin_stream(struct rpc_call *call, const void *message)
{
	static const struct rpc_stream_ops ops = {
	    .input_type = RPC_SANDBOX_EXEC_INPUT,
	    .input = stream_input,
	    .input_ended = stream_input_ended,
	    .writable = stream_writable,
	    .closed = stream_closed,
	};

	(void)message;
	late = call->token;
	if (!rpc_stream_begin(call->server, call->token, &ops, NULL))
		abort();
}

static const struct rpc_method methods[] = {
    {RPC_PING_REQUEST, RPC_PING_RESPONSE, &rpc_ping_request_table, &rpc_ping_response_table, echo},
    {RPC_GET_SYSTEM_INFO_REQUEST, RPC_SYSTEM_INFO, NULL, NULL, keep},
    {RPC_SANDBOX_CREATE_REQUEST, RPC_CREATE_SANDBOX_RESPONSE, &rpc_create_sandbox_request_table,
	&rpc_create_sandbox_response_table, refuse},
    {RPC_MMAP_READ_FILE_REQUEST, RPC_MMAP_READ_FILE_RESPONSE, &rpc_mmap_read_file_request_table,
	NULL, send_file},
    {RPC_SANDBOX_EXEC_REQUEST, RPC_EXEC_OUTPUT, NULL, &rpc_output_table, begin_stream},
};

static const struct rpc_method *method_of(uint32_t type)
{
	for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
		if (methods[i].request == type)
			return &methods[i];
	return NULL;
}

static void start(void)
{
	const struct rpc_conf conf = {
	    .methods = methods,
	    .n_methods = sizeof methods / sizeof *methods,
	    .max_frame_bytes = MAX_FRAME,
	    .max_connections = 2,
	    .max_buffered_bytes = 1 << 20,
	    .arena_bytes = 8192,
	    .max_answer_bytes = 1 << 20,
	    .max_file_bytes = 4096,
	    .stall_ms = 60000,
	};
	struct span bad;

	log_filter(span_str("off"), &bad);
	file = fs_memfd("fuzz");
	if (file < 0 || ftruncate(file, FILE_BYTES) < 0)
		abort();
	if (loop_init(&loop) < 0 || !(server = rpc_server_new(&loop, &conf)))
		abort();
}

static void turn(void)
{
	if (loop_turn(&loop, 0) < 0)
		abort();
	if (stream_ending) {
		stream_ending = false;
		rpc_stream_send(server, late, &(struct rpc_output){.done = true});
		rpc_stream_end(server, late);
	}
	if (!waiting)
		return;
	waiting = false;
	rpc_answer(server, late, NULL);
	rpc_answer(server, late, NULL);
}

/* --- the host --------------------------------------------------------------------------------- */

static uint8_t out[OUT_BYTES];
static size_t n_out;
static bool closed;

static void turn_and_receive(int fd)
{
	ssize_t n;

	turn();
	n = recv(fd, out + n_out, sizeof out - n_out, 0);
	if (n < 0 && errno != EAGAIN)
		abort();
	if (n > 0)
		n_out += (size_t)n;
	closed = n == 0;
}

/* In pieces at first, then as a whole; as far as the server takes it. */
static void feed(int fd, struct span in, size_t piece)
{
	for (unsigned turns = 0; in.n; turns++) {
		struct span now = span_first(in, turns < PIECES ? piece : in.n);
		ssize_t n = send(fd, now.p, now.n, MSG_NOSIGNAL);

		if (turns > TURNS_MAX)
			abort();
		if (n < 0 && errno != EAGAIN)
			return;
		if (n > 0)
			in = span_from(in, (size_t)n);
		turn_and_receive(fd);
	}
}

/* The bytes of a stream's input that are still to come back. */
struct echo {
	uint8_t bytes[OUT_BYTES];
	size_t n, seen;
};

/* Takes the input frames off the front. E_OK when an empty one, or another request, ended them. */
static enum err take_input(struct span *in, struct echo *echo)
{
	struct frame_head head;
	enum err err;

	while ((err = frame_head_read(*in, MAX_FRAME, &head)) == E_OK) {
		struct span payload = span_from(*in, head.head_bytes + head.trace_len);

		if (head.type != RPC_SANDBOX_EXEC_INPUT)
			return E_OK;
		payload = span_first(payload, head.payload_len);
		memcpy(echo->bytes + echo->n, payload.p, payload.n);
		echo->n += payload.n;
		*in = span_from(*in, head.head_bytes + head.trace_len + payload.n);
		if (head.payload_len == 0)
			return E_OK;
	}
	return err;
}

/* Takes one frame of a stream off the answers. Whether it was the last. */
static bool check_echo(struct span trace, struct span *answers, struct echo *echo)
{
	struct rpc_output output = {0};
	uint8_t memory[64];
	struct pb_arena arena = pb_arena_of(memory, sizeof memory);
	struct frame f;
	size_t used;

	if (frame_read(*answers, OUT_BYTES, &f, &used) != E_OK || !span_eq(f.trace, trace) ||
	    f.type != RPC_EXEC_OUTPUT ||
	    pb_read(f.payload, &rpc_output_table, &arena, &output) != E_OK ||
	    output.data.n > echo->n - echo->seen ||
	    !span_eq(output.data, span_of(echo->bytes + echo->seen, output.data.n)))
		abort();
	echo->seen += output.data.n;
	*answers = span_from(*answers, used);
	return output.done;
}

/* Takes a stream off both, but for its request. False when what follows cannot be foreseen. */
static bool check_stream(struct span trace, struct span *in, struct span *answers)
{
	static struct echo echo;
	struct frame_head next;
	enum err err;

	echo.n = echo.seen = 0;
	err = take_input(in, &echo);
	if (err != E_OK && err != E_MORE) { /* broken framing: an Error instead of the end */
		while (echo.seen < echo.n)
			check_echo(trace, answers, &echo);
		return true;
	}
	/* What is behind the end of the input is for the stream or not, as it comes. */
	err = frame_head_read(*in, MAX_FRAME, &next);
	if ((err != E_OK && err != E_MORE) || (err == E_OK && next.type == RPC_SANDBOX_EXEC_INPUT))
		return false;
	while (!check_echo(trace, answers, &echo))
		;
	if (echo.seen != echo.n)
		abort();
	return true;
}

/* Takes the front frame off the input and off the answers. False when that was the last that can be
 * checked; *all tells whether it was the last of all. */
static bool check_answer(struct span *in, struct span *answers, bool *all)
{
	const struct rpc_method *method = NULL;
	struct frame_head head;
	struct frame answer;
	struct span trace = {0};
	size_t used;
	enum err err = frame_head_read(*in, MAX_FRAME, &head);

	if (err == E_OK) {
		method = method_of(head.type);
		trace = span_first(span_from(*in, head.head_bytes), head.trace_len);
		*in = span_from(*in, head.head_bytes + trace.n);
		if (trace.n < head.trace_len || (method && in->n < head.payload_len))
			return false; /* cut: never asked */
		*in = span_from(*in, in->n < head.payload_len ? in->n : head.payload_len);
	}
	if (err == E_MORE)
		return false;
	if (method && method->handler == begin_stream)
		return *all = check_stream(trace, in, answers);
	if (frame_read(*answers, OUT_BYTES, &answer, &used) != E_OK ||
	    !span_eq(answer.trace, trace))
		abort();
	if (answer.type != RPC_ERROR && (!method || answer.type != method->response))
		abort();
	*answers = span_from(*answers, used);
	return err == E_OK;
}

/* Until the server closes, which it must. */
static void receive(int fd)
{
	closed = false;
	for (int i = 0; i < TURNS_MAX && !closed; i++)
		turn_and_receive(fd);
	if (!closed)
		abort();
}

static void check(struct span in)
{
	struct span answers = span_of(out, n_out);
	bool all = true;

	while (check_answer(&in, &answers, &all))
		;
	if (all && answers.n)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct span in;
	int pair[2];

	if (!server)
		start();
	if (n == 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		return 0;
	in = span_of(data + 1, n - 1);
	n_out = 0;
	rpc_server_accept(server, pair[1]);
	feed(pair[0], in, data[0] < 128 ? n : (size_t)data[0] - 127);
	shutdown(pair[0], SHUT_WR);
	receive(pair[0]);
	check(in);
	close(pair[0]);
	for (int i = 0; i < TURNS_MAX && rpc_server_connections(server); i++)
		turn();
	if (rpc_server_connections(server))
		abort();
	return 0;
}
