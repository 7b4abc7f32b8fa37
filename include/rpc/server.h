/* server.h - the RPC server: connections, frames, dispatch, answers.
 *
 * A connection's requests are answered in order, one at a time; while one is being answered the
 * connection is not read, and connections do not wait for each other. A handler answers at once or
 * later: what it holds meanwhile is a token, a slot and a generation, never a pointer. An answer to
 * a connection that is gone, or a second answer to one request, is dropped. */
#ifndef RPC_SERVER_H
#define RPC_SERVER_H

#include "codec/messages.h"
#include "net/listen.h"

struct rpc_server;
struct rpc_call;

/* Error codes of the protocol's Error frame. */
enum {
	RPC_CANNOT_DECODE = 400,
	RPC_NOT_FOUND = 404,
	RPC_TOO_LARGE = 413,
	RPC_FAILED = 500,
	RPC_UNAVAILABLE = 503
};

/* Names one request that waits for its answer; small, to be copied freely. */
struct rpc_token {
	uint32_t slot, generation;
};

/* A request being handled; lives during the handler's call only. */
struct rpc_call {
	struct rpc_server *server;
	struct rpc_token token; /* to keep for a late answer */
	uint32_t type;          /* of the request */
	void *services;         /* as given to rpc_server_new */
};

/* `request` is the decoded message of the method's table. It and its views live during the call. */
typedef void rpc_handler_fn(struct rpc_call *call, const void *request);

struct rpc_method {
	uint32_t request, response; /* enum rpc_type */
	const struct pb_table *in,
	    *out; /* `in` NULL: the payload is ignored; `out` NULL: the answer is empty */
	rpc_handler_fn *handler;
};

struct rpc_conf {
	const struct rpc_method *methods;
	size_t n_methods;
	void *services;            /* handed to every handler */
	uint32_t max_frame_bytes;  /* of a request; a larger one is Error 413 and the end */
	uint32_t max_connections;  /* one more is Error 503 and the end */
	size_t max_buffered_bytes; /* what all connections hold in large buffers together */
	size_t arena_bytes;        /* for the lists and sub-messages of one request */
	size_t max_answer_bytes;   /* answers of one connection that wait to be sent; files apart */
	uint64_t max_file_bytes;   /* files that are being sent, together; one more is Error 503 */
	uint64_t stall_ms; /* a client that takes nothing of its answer for so long is cut off */
};

/* NULL without memory. `conf` is copied, what it points to is not. */
struct rpc_server *rpc_server_new(struct loop *l, const struct rpc_conf *conf);

/* Closes all connections and frees. Between turns of the loop only. */
void rpc_server_free(struct rpc_server *s);

/* Serves one connection; takes the fd. */
void rpc_server_accept(struct rpc_server *s, int fd);

unsigned rpc_server_connections(const struct rpc_server *s);

/* Answers with the method's response message. One that is too large to be sent becomes Error 500.
 */
void rpc_answer(struct rpc_server *s, struct rpc_token token, const void *response);

/* Answers with a payload of which `n` bytes from `offset` on are in a file: before, file, after.
 * Takes the fd. */
void rpc_answer_file(struct rpc_server *s, struct rpc_token token, struct span before, int fd,
    off_t offset, uint64_t n, struct span after);

/* Answers with an Error frame, which also ends a stream. The text is what a person reads: what was
 * done, to what, and why not. */
void rpc_error(struct rpc_server *s, struct rpc_token token, int32_t code, const char *text);

/* --- streams ------------------------------------------------------------------------------------
 *
 * An answer of many frames holds its connection: its next request is read after the end of it.
 * Nothing piles up when the host is slow, as long as the service waits when it is told to. A host
 * may take its time: no stall ends a connection meanwhile, only that the host is no more. */

/* Called by the loop, and with the server's end. */
struct rpc_stream_ops {
	/* Frames of this type are the host's input to the stream; 0: there is none. */
	uint32_t input_type;
	/* A piece of it, viewed for the time of the call. Returns how much was taken; what was not
	 * is offered again after rpc_stream_resume_input(). Must not end the stream. */
	size_t (*input)(void *ctx, struct span bytes);
	/* There is no more: the host sent an empty frame, closed its sending side, or sent its next
	 * request. Must not end the stream. */
	void (*input_ended)(void *ctx);
	/* What had to wait has left. */
	void (*writable)(void *ctx);
	/* The connection is gone, and with it the stream: the last call. */
	void (*closed)(void *ctx);
};

/* Makes the answer a stream. False, with no op ever called, when nobody waits for it any more. */
bool rpc_stream_begin(
    struct rpc_server *s, struct rpc_token token, const struct rpc_stream_ops *ops, void *ctx);

/* Sends a frame, the method's response message. False: send no more until `writable` is called, or
 * `closed`. A message that cannot be sent at all ends the connection. */
bool rpc_stream_send(struct rpc_server *s, struct rpc_token token, const void *message);

void rpc_stream_resume_input(struct rpc_server *s, struct rpc_token token);

/* Ends the stream; no op is called any more, and the connection takes requests again. */
void rpc_stream_end(struct rpc_server *s, struct rpc_token token);

#endif
