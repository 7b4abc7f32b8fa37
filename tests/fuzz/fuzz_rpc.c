/* The RPC connection: bytes in any split, against the real dispatcher with a service of the
 * target's. The first byte of an input says how the rest is cut. Every answer must be a whole
 * frame. */
#include "fuzz.h"

#include "base/log.h"
#include "codec/frame.h"
#include "rpc/server.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_FRAME = 2048, TURNS_MAX = 64, OUT_BYTES = 1 << 20 };

static struct loop loop;
static struct rpc_server *server;
static struct rpc_token late;
static bool waiting;

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

static const struct rpc_method methods[] = {
    {RPC_PING_REQUEST, RPC_PING_RESPONSE, &rpc_ping_request_table, &rpc_ping_response_table, echo},
    {RPC_GET_SYSTEM_INFO_REQUEST, RPC_SYSTEM_INFO, NULL, NULL, keep},
    {RPC_SANDBOX_CREATE_REQUEST, RPC_CREATE_SANDBOX_RESPONSE, &rpc_create_sandbox_request_table,
	&rpc_create_sandbox_response_table, refuse},
};

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

	signal(SIGPIPE, SIG_IGN);
	log_filter(span_str("off"), &bad);
	if (loop_init(&loop) < 0 || !(server = rpc_server_new(&loop, &conf)))
		abort();
}

static void turn(void)
{
	if (loop_turn(&loop, 0) < 0)
		abort();
	if (!waiting)
		return;
	waiting = false;
	rpc_answer(server, late, NULL);
	rpc_answer(server, late, NULL);
}

/* Sends the input in pieces, as far as the server takes it. */
static void feed(int fd, struct span in, size_t piece)
{
	while (in.n) {
		ssize_t n = send(fd, in.p, in.n < piece ? in.n : piece, MSG_NOSIGNAL);

		if (n < 0)
			return;
		in = span_from(in, (size_t)n);
		turn();
	}
}

static void check_answers(int fd)
{
	static uint8_t out[OUT_BYTES];
	struct span left;
	struct frame f;
	size_t n = 0, used;
	ssize_t got;

	for (int i = 0; i < TURNS_MAX; i++) {
		turn();
		while ((got = read(fd, out + n, sizeof out - n)) > 0)
			n += (size_t)got;
		if (got == 0 || (got < 0 && errno != EAGAIN))
			break;
	}
	for (left = span_of(out, n); left.n; left = span_from(left, used))
		if (frame_read(left, OUT_BYTES, &f, &used) != E_OK)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	int pair[2];

	if (!server)
		start();
	if (n == 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		return 0;
	rpc_server_accept(server, pair[1]);
	feed(pair[0], span_of(data + 1, n - 1), data[0] < 128 ? 4096 : (size_t)data[0] - 127);
	shutdown(pair[0], SHUT_WR);
	check_answers(pair[0]);
	close(pair[0]);
	for (int i = 0; i < TURNS_MAX && rpc_server_connections(server); i++)
		turn();
	if (rpc_server_connections(server))
		abort();
	return 0;
}
