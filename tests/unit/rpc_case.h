/* rpc_case.h - the agent's own methods on a real server, asked over a socket pair. */
#ifndef TESTS_RPC_CASE_H
#define TESTS_RPC_CASE_H

#include "base/log.h"
#include "codec/frame.h"
#include "fault.h"
#include "rpc/methods.h"
#include "suite.h"
#include "sys/signals.h"

#include <sys/socket.h>
#include <unistd.h>

enum { RPC_CASE_TURNS = 500, RPC_CASE_BYTES = 1 << 20 };

struct rpc_case {
	struct loop loop;
	struct reaper reaper;
	struct signals signals;
	struct rpc_services services;
	struct rpc_server *server;
	int client;
	unsigned fds, children;
	uint8_t in[RPC_CASE_BYTES]; /* the answer received last */
	size_t in_n;
	uint8_t arena[RPC_CASE_BYTES];
};

static inline void rpc_case_signal(struct signals *s, int sig)
{
	if (sig == SIGCHLD)
		reaper_drain(&container_of(s, struct rpc_case, signals)->reaper);
}

/* Loop and reaper are there then; the test makes the services that it needs. */
static inline void rpc_case_begin(struct rpc_case *c)
{
	struct span bad;

	signal(SIGPIPE, SIG_IGN);
	signals_block();
	ck_assert_int_eq(log_filter(span_str("off"), &bad), E_OK);
	memset(&c->services, 0, sizeof c->services);
	c->fds = fault_fds();
	c->children = fault_children();
	ck_assert_int_eq(loop_init(&c->loop), 0);
	reaper_init(&c->reaper, &c->loop);
	ck_assert_int_eq(signals_init(&c->signals, &c->loop, rpc_case_signal), 0);
}

static inline void rpc_case_connect(struct rpc_case *c)
{
	int pair[2];

	ck_assert_int_eq(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	rpc_server_accept(c->server, pair[1]);
	c->client = pair[0];
	c->in_n = 0;
}

static inline void rpc_case_serve(struct rpc_case *c)
{
	const struct rpc_conf conf = {
	    .methods = rpc_methods,
	    .n_methods = rpc_method_count,
	    .services = &c->services,
	    .max_frame_bytes = 1 << 16,
	    .max_connections = 4,
	    .max_buffered_bytes = 1 << 20,
	    .arena_bytes = 1 << 16,
	    .max_answer_bytes = 1 << 20,
	    .max_file_bytes = READER_RANGE_BYTES,
	    .stall_ms = 5000,
	};

	c->server = rpc_server_new(&c->loop, &conf);
	ck_assert_ptr_nonnull(c->server);
	rpc_case_connect(c);
}

/* Ends server, reader and runtime; no descriptor and no child is left of them. */
static inline void rpc_case_end(struct rpc_case *c)
{
	close(c->client);
	rpc_server_free(c->server);
	reader_free(c->services.reader);
	runtime_free(c->services.runtime);
	for (int i = 0; i < RPC_CASE_TURNS && fault_children() > c->children; i++)
		ck_assert_int_eq(loop_turn(&c->loop, 10), 0);
	signals_done(&c->signals);
	loop_done(&c->loop);
	ck_assert_uint_eq(fault_fds(), c->fds);
	ck_assert_uint_eq(fault_children(), c->children);
}

static inline void rpc_case_send(struct rpc_case *c, uint32_t type, struct span payload)
{
	uint8_t buf[4096];
	struct wr w = wr_of(buf, sizeof buf);

	frame_head_write(&w, type, span_str("trace-7"), payload.n);
	wr_bytes(&w, payload);
	ck_assert_int_eq(w.err, E_OK);
	ck_assert_int_eq(write(c->client, w.p, w.n), (ssize_t)w.n);
}

/* One more turn, and what has come of an answer. Whether it is whole; it lives until the next
 * call. */
static inline bool rpc_case_poll(struct rpc_case *c, struct frame *f)
{
	size_t used;
	ssize_t n;

	ck_assert_int_eq(loop_turn(&c->loop, 10), 0);
	n = read(c->client, c->in + c->in_n, sizeof c->in - c->in_n);
	ck_assert_int_ne(n, 0);
	c->in_n += n > 0 ? (size_t)n : 0;
	if (frame_read(span_of(c->in, c->in_n), UINT32_MAX, f, &used) != E_OK)
		return false;
	ck_assert_uint_eq(used, c->in_n);
	ck_assert(span_eq_str(f->trace, "trace-7"));
	c->in_n = 0;
	return true;
}

static inline struct frame rpc_case_receive(struct rpc_case *c)
{
	struct frame f;

	for (int i = 0; i < RPC_CASE_TURNS; i++)
		if (rpc_case_poll(c, &f))
			return f;
	ck_abort_msg("no answer");
	return (struct frame){0};
}

/* Asks, and returns the payload of the answer, which is of the type given. */
static inline struct span rpc_case_ask(
    struct rpc_case *c, uint32_t type, struct span payload, uint32_t response)
{
	struct frame f;

	rpc_case_send(c, type, payload);
	f = rpc_case_receive(c);
	ck_assert_uint_eq(f.type, response);
	return f.payload;
}

/* The payload of a request, which lives until the next call. */
static inline struct span rpc_case_payload(const struct pb_table *table, const void *message)
{
	static uint8_t buf[2048];
	struct wr w = wr_of(buf, sizeof buf);

	ck_assert_int_eq(pb_write(&w, table, message), E_OK);
	return wr_span(&w);
}

/* Reads the message of an answer. */
static inline void rpc_case_read(
    struct rpc_case *c, struct span payload, const struct pb_table *table, void *out)
{
	struct pb_arena arena = pb_arena_of(c->arena, sizeof c->arena);

	ck_assert_int_eq(pb_read(payload, table, &arena, out), E_OK);
}

/* Asks for what must be refused with this code and a text that holds this. */
static inline void rpc_case_refused(
    struct rpc_case *c, uint32_t type, struct span payload, int32_t code, const char *text)
{
	struct span error = rpc_case_ask(c, type, payload, RPC_ERROR), said;
	char copy[1024];
	int32_t got;

	ck_assert_int_eq(frame_error_read(error, &got, &said), E_OK);
	ck_assert_int_eq(got, code);
	ck_assert(span_to_cstr(said, copy, sizeof copy));
	ck_assert_msg(strstr(copy, text) != NULL, "\"%s\" does not hold \"%s\"", copy, text);
}

#endif
