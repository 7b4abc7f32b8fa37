#include "rpc/server.h"

#include "base/log.h"
#include "base/utf8.h"
#include "codec/frame.h"
#include "net/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	FRAMES_A_TURN = 32, /* requests of one connection before others have their turn */
	PENDING_HIGH_BYTES =
	    64 * 1024, /* answers that wait; no request is read while there are more */
	ERROR_TEXT_BYTES = 512,
};

/* One connection. */
struct peer {
	struct conn conn;
	struct rpc_server *server;
	uint32_t slot;
	uint32_t generation;             /* counts requests; the current one's while busy */
	const struct rpc_method *method; /* being answered */
	bool busy;                       /* a request waits for its answer */
	struct span trace;               /* its trace id: a view of the input, or of kept_trace */
	uint8_t *kept_trace;
	uint64_t skip_bytes; /* rest of a payload that nobody wants */

	/* Of a request whose answer is a stream. */
	const struct rpc_stream_ops *stream; /* NULL: it is none */
	void *stream_ctx;
	uint32_t input_left; /* rest of the input frame that is being taken */
	bool input_ended;
};

struct rpc_server {
	struct loop *loop;
	struct rpc_conf conf;
	struct budget budget;
	struct pb_arena arena;
	struct peer **peers;   /* conf.max_connections slots */
	uint32_t *generations; /* of each slot, kept when its connection goes */
	uint32_t n_peers;
};

static const struct rpc_method *method_of(const struct rpc_server *s, uint32_t type)
{
	for (size_t i = 0; i < s->conf.n_methods; i++)
		if (s->conf.methods[i].request == type)
			return &s->conf.methods[i];
	return NULL;
}

/* --- answers -------------------------------------------------------------------------------- */

/* The connection whose request a token names, if it still waits. */
static struct peer *waiting(struct rpc_server *s, struct rpc_token token)
{
	struct peer *p = token.slot < s->conf.max_connections ? s->peers[token.slot] : NULL;

	return p && p->busy && p->generation == token.generation ? p : NULL;
}

static void forget_stream(struct peer *p)
{
	p->stream = NULL;
	p->skip_bytes = p->input_left;
	p->input_left = 0;
	conn_probe(&p->conn, false);
	conn_set_stall(&p->conn, p->server->conf.stall_ms);
	conn_resume(&p->conn); /* what comes next may be there already: a request, or the end */
}

/* The answer is on its way: the connection takes requests again. */
static void answered(struct peer *p)
{
	p->busy = false;
	p->trace = span_of(NULL, 0);
	free(p->kept_trace);
	p->kept_trace = NULL;
	if (p->stream)
		forget_stream(p);
	else if (p->conn.paused) /* the answer came late */
		conn_resume(&p->conn);
}

static bool send_error(struct peer *p, struct span trace, int32_t code, const char *text)
{
	struct span body = utf8_first(span_str(text), ERROR_TEXT_BYTES);
	size_t n = FRAME_HEAD_BYTES + trace.n + 8 + body.n;
	uint8_t *to = conn_reserve(&p->conn, n);
	struct wr w = wr_of(to, n);

	if (!to)
		return false;
	frame_error_write(&w, trace, code, body);
	conn_commit(&p->conn, w.n);
	return true;
}

/* A connection whose answer cannot even be queued is of no more use to its client. */
static void fail(struct peer *p, int32_t code, const char *text)
{
	bool sent = send_error(p, p->trace, code, text);

	answered(p);
	if (!sent)
		conn_close(&p->conn, -ENOBUFS);
}

static bool send_message(struct peer *p, const struct pb_table *table, const void *message)
{
	size_t payload = table ? pb_size(table, message) : 0;
	size_t n = FRAME_HEAD_BYTES + p->trace.n + payload;
	uint8_t *to = conn_reserve(&p->conn, n);
	struct wr w = wr_of(to, n);

	if (!to)
		return false;
	frame_head_write(&w, p->method->response, p->trace, payload);
	if (table)
		pb_write(&w, table, message);
	if (w.err != E_OK)
		return false;
	conn_commit(&p->conn, w.n);
	return true;
}

void rpc_answer(struct rpc_server *s, struct rpc_token token, const void *response)
{
	struct peer *p = waiting(s, token);

	if (!p)
		return;
	if (send_message(p, p->method->out, response))
		answered(p);
	else
		fail(p, RPC_FAILED, "cannot send the answer: too large, or not valid UTF-8");
}

/* Whether n bytes more fit what files may hold until their clients have taken them. */
static bool file_fits(const struct rpc_server *s, uint64_t n)
{
	uint64_t held = 0;

	for (uint32_t i = 0; i < s->conf.max_connections; i++)
		if (s->peers[i])
			held += s->peers[i]->conn.file_left;
	return held <= s->conf.max_file_bytes && n <= s->conf.max_file_bytes - held;
}

void rpc_answer_file(struct rpc_server *s, struct rpc_token token, struct span before, int fd,
    off_t offset, uint64_t n, struct span after)
{
	struct peer *p = waiting(s, token);
	uint8_t *to = NULL;
	struct wr w;

	if (p && file_fits(s, n))
		to = conn_reserve(&p->conn, FRAME_HEAD_BYTES + p->trace.n + before.n);
	if (!to) {
		close(fd);
		if (p)
			fail(p, RPC_UNAVAILABLE,
			    "cannot send the file: too many are being sent, try again later");
		return;
	}
	w = wr_of(to, FRAME_HEAD_BYTES + p->trace.n + before.n);
	frame_head_write(&w, p->method->response, p->trace, before.n + n + after.n);
	wr_bytes(&w, before);
	conn_commit(&p->conn, w.n);
	if (conn_send_file(&p->conn, fd, offset, n) < 0 || conn_send(&p->conn, after) < 0)
		conn_close(&p->conn, -ENOBUFS); /* the frame has begun and cannot be taken back */
	answered(p);
}

void rpc_error(struct rpc_server *s, struct rpc_token token, int32_t code, const char *text)
{
	struct peer *p = waiting(s, token);

	if (p)
		fail(p, code, text);
}

/* --- streams -------------------------------------------------------------------------------- */

/* The connection whose stream a token names, if it goes on. */
static struct peer *streaming(struct rpc_server *s, struct rpc_token token)
{
	struct peer *p = waiting(s, token);

	return p && p->stream ? p : NULL;
}

bool rpc_stream_begin(
    struct rpc_server *s, struct rpc_token token, const struct rpc_stream_ops *ops, void *ctx)
{
	struct peer *p = waiting(s, token);

	if (!p)
		return false;
	p->stream = ops;
	p->stream_ctx = ctx;
	p->input_ended = false;
	conn_set_stall(&p->conn, 0);
	conn_probe(&p->conn, true);
	if (ops->input_type)
		conn_resume(&p->conn);
	return true;
}

bool rpc_stream_send(struct rpc_server *s, struct rpc_token token, const void *message)
{
	struct peer *p = streaming(s, token);

	if (!p || p->conn.finishing)
		return false;
	if (!send_message(p, p->method->out, message)) {
		conn_close(&p->conn, -ENOBUFS);
		return false;
	}
	return conn_pending(&p->conn) == 0;
}

void rpc_stream_resume_input(struct rpc_server *s, struct rpc_token token)
{
	struct peer *p = streaming(s, token);

	if (p)
		conn_resume(&p->conn);
}

void rpc_stream_end(struct rpc_server *s, struct rpc_token token)
{
	struct peer *p = streaming(s, token);

	if (p)
		answered(p);
}

static bool takes_input(const struct peer *p)
{
	return p->stream && p->stream->input_type;
}

static void end_input(struct peer *p)
{
	if (p->input_ended)
		return;
	p->input_ended = true;
	p->stream->input_ended(p->stream_ctx);
}

/* The end of a connection that broke the framing or a limit: nothing after this can be understood.
 */
static void refuse_peer(struct peer *p, struct span trace, int32_t code, const char *text)
{
	send_error(p, trace, code, text);
	conn_set_stall(&p->conn, p->server->conf.stall_ms);
	conn_finish(&p->conn);
}

static void refuse_frame(struct peer *p, enum err err)
{
	if (err == E_LIMIT)
		refuse_peer(p, span_of(NULL, 0), RPC_TOO_LARGE,
		    "request frame is larger than this agent takes");
	else
		refuse_peer(p, span_of(NULL, 0), RPC_CANNOT_DECODE, "request frame is malformed");
}

/* The head of an input frame. Another one, a request, waits for the end of the stream. */
static enum err take_input_head(struct peer *p, struct span in, size_t *used)
{
	struct frame_head head;
	enum err err = frame_head_read(in, p->server->conf.max_frame_bytes, &head);

	if (err == E_OK && head.type != p->stream->input_type) {
		end_input(p);
		conn_pause(&p->conn);
		return E_MORE;
	}
	if (err == E_OK && in.n - head.head_bytes < head.trace_len)
		return E_MORE;
	if (err == E_OK) {
		*used = head.head_bytes + head.trace_len;
		p->input_left = head.payload_len;
		if (head.payload_len == 0)
			end_input(p);
	} else if (err != E_MORE) {
		refuse_frame(p, err);
	}
	return err;
}

/* Takes some input off the front of `in`, in pieces as they come. E_OK when something was used. */
static enum err take_input(struct peer *p, struct span in, size_t *used)
{
	struct span piece = span_first(in, p->input_left);

	if (p->input_left == 0)
		return take_input_head(p, in, used);
	if (p->input_ended)
		*used = piece.n; /* nobody wants it */
	else
		*used = p->stream->input(p->stream_ctx, piece);
	p->input_left -= (uint32_t)*used;
	if (*used == piece.n)
		return E_OK;
	conn_pause(&p->conn);
	return *used ? E_OK : E_MORE;
}

/* --- requests ------------------------------------------------------------------------------- */

static void refuse_request(struct peer *p, struct span trace, const char *what, const char *why)
{
	char text[ERROR_TEXT_BYTES];
	struct wr w = wr_of(text, sizeof text);

	wr_str(&w, what);
	wr_str(&w, ": ");
	wr_str(&w, why);
	wr_nul(&w);
	if (!send_error(p, trace, RPC_CANNOT_DECODE, w.err == E_OK ? text : what))
		conn_close(&p->conn, -ENOBUFS);
}

static void cannot_wait(struct peer *p)
{
	if (p->stream)
		conn_close(&p->conn, -ENOMEM); /* its service is told */
	else
		fail(p, RPC_FAILED, "cannot wait for the answer: no memory");
}

/* A handler that has not answered yet will need the trace id when the input is gone. */
static void keep_trace(struct peer *p)
{
	if (!p->busy)
		return;
	if (!takes_input(p))
		conn_pause(&p->conn);
	if (p->trace.n == 0)
		return;
	p->kept_trace = malloc(p->trace.n);
	if (!p->kept_trace) {
		cannot_wait(p);
		return;
	}
	memcpy(p->kept_trace, p->trace.p, p->trace.n);
	p->trace.p = p->kept_trace;
}

static void handle(struct peer *p, const struct rpc_method *method, const struct frame *f)
{
	struct rpc_server *s = p->server;
	struct rpc_call call = {.server = s, .type = f->type, .services = s->conf.services};
	void *request = NULL;
	enum err err = E_OK;

	s->arena.used = 0;
	if (method->in) {
		request = pb_alloc(&s->arena, method->in->size);
		err = request ? pb_read(f->payload, method->in, &s->arena, request) : E_LIMIT;
	}
	if (err != E_OK) {
		refuse_request(p, f->trace, message_by_type(f->type)->name, err_text((int)err));
		return;
	}
	p->method = method;
	p->trace = f->trace;
	p->busy = true;
	p->generation = ++s->generations[p->slot];
	call.token = (struct rpc_token){p->slot, p->generation};
	method->handler(&call, request);
	keep_trace(p);
}

/* A frame whose payload nobody will look at is refused by its head; its payload is skipped as it
 * comes. */
static bool unwanted(struct peer *p, struct span in, const struct frame_head *h, size_t *used)
{
	size_t head_bytes = h->head_bytes + h->trace_len;
	struct span trace = span_of(in.p + h->head_bytes, h->trace_len);
	const struct message_type *type;

	if (method_of(p->server, h->type) || in.n < head_bytes)
		return false;
	type = message_by_type(h->type);
	if (type)
		refuse_request(p, trace, type->name, "is not a request that is taken here");
	else
		refuse_request(p, trace, "request", "unknown message type");
	p->skip_bytes = h->payload_len;
	*used = head_bytes;
	return true;
}

static void skip(struct peer *p, struct span in, size_t *used)
{
	*used = in.n < p->skip_bytes ? in.n : (size_t)p->skip_bytes;
	p->skip_bytes -= *used;
}

/* Takes at most one frame off the front of `in`. E_OK when something was used. */
static enum err take(struct peer *p, struct span in, size_t *used)
{
	uint32_t limit = p->server->conf.max_frame_bytes;
	struct frame_head head;
	struct frame frame;
	enum err err;

	if (p->skip_bytes) {
		skip(p, in, used);
		return *used ? E_OK : E_MORE;
	}
	err = frame_head_read(in, limit, &head);
	if (err == E_OK && unwanted(p, in, &head, used))
		return E_OK;
	if (err == E_OK)
		err = frame_read(in, limit, &frame, used);
	if (err == E_OK)
		handle(p, method_of(p->server, frame.type), &frame);
	else if (err != E_MORE)
		refuse_frame(p, err);
	else if (frame_need(in) > queue_reach(&p->conn.in))
		refuse_peer(p, span_of(NULL, 0), RPC_UNAVAILABLE,
		    "request buffers are full, try again later");
	return err;
}

/* Whether this connection may have another of its frames handled now. */
static bool has_turn(struct peer *p, unsigned handled)
{
	/* A connection has one file on its way at a time: the next request might be for another. */
	if (!p->busy && (conn_pending(&p->conn) > PENDING_HIGH_BYTES || p->conn.file_left)) {
		conn_pause(&p->conn); /* until the client has taken its answers */
		return false;
	}
	if (handled == FRAMES_A_TURN) {
		conn_resume(&p->conn); /* at the end of this turn, after the others */
		return false;
	}
	return true;
}

/* Whether more of its frames may be taken now. */
static bool is_read(const struct peer *p)
{
	return !p->busy || (takes_input(p) && !p->conn.paused);
}

static ssize_t peer_data(struct conn *c, struct span in, bool eof)
{
	struct peer *p = c->ctx;
	size_t done = 0;

	for (unsigned handled = 0; done < in.n && is_read(p); handled++) {
		size_t used = 0;
		enum err err;

		if (!has_turn(p, handled))
			return (ssize_t)done;
		err = takes_input(p) ? take_input(p, span_from(in, done), &used)
				     : take(p, span_from(in, done), &used);
		if (err == E_MORE)
			break;
		if (err != E_OK)
			return (ssize_t)in.n;
		done += used;
	}
	/* It may have closed its sending side only, and still wants its answers. */
	if (eof && !p->busy)
		conn_finish(c);
	else if (eof && takes_input(p) && is_read(p))
		end_input(p);
	return (ssize_t)done;
}

static void peer_drained(struct conn *c)
{
	struct peer *p = c->ctx;

	if (p->stream)
		p->stream->writable(p->stream_ctx);
	else if (!p->busy)
		conn_resume(c);
}

static void peer_closed(struct conn *c, int rc)
{
	struct peer *p = c->ctx;
	struct rpc_server *s = p->server;

	if (rc < 0 && rc != -ECONNRESET && rc != -EPIPE)
		log_warn("rpc", "connection ended", KV_ERR(rc));
	if (p->stream)
		p->stream->closed(p->stream_ctx);
	s->peers[p->slot] = NULL;
	s->n_peers--;
	free(p->kept_trace);
	free(p);
}

static const struct conn_ops peer_ops = {
    .data = peer_data,
    .drained = peer_drained,
    .closed = peer_closed,
};

/* --- connections ---------------------------------------------------------------------------- */

/* There is a free slot as long as there are fewer connections than slots. */
static void take_slot(struct rpc_server *s, struct peer *p)
{
	while (s->peers[p->slot])
		p->slot++;
	s->peers[p->slot] = p;
	s->n_peers++;
}

/* Best effort: the client is told why, as far as its socket takes it at once. */
static void turn_away(int fd)
{
	uint8_t buf[128];
	struct wr w = wr_of(buf, sizeof buf);

	frame_error_write(
	    &w, span_of(NULL, 0), RPC_UNAVAILABLE, span_str("too many connections, close some"));
	if (write(fd, w.p, w.n) < 0)
		log_debug("rpc", "cannot tell a client that there are too many", KV_ERR(-errno));
	close(fd);
	log_warn("rpc", "refused a connection: too many");
}

void rpc_server_accept(struct rpc_server *s, int fd)
{
	const struct conn_limits limits = {
	    .in_bytes = (size_t)s->conf.max_frame_bytes + 4,
	    .out_bytes = s->conf.max_answer_bytes,
	    .budget = &s->budget,
	    .stall_ms = s->conf.stall_ms,
	};
	struct peer *p;
	int rc;

	if (s->n_peers == s->conf.max_connections) {
		turn_away(fd);
		return;
	}
	p = calloc(1, sizeof *p);
	rc = p ? conn_init(&p->conn, s->loop, fd, "rpc", &peer_ops, &limits) : -ENOMEM;
	if (rc < 0) {
		log_error("rpc", "cannot serve a connection", KV_ERR(rc));
		free(p);
		close(fd);
		return;
	}
	p->server = s;
	p->conn.ctx = p;
	take_slot(s, p);
}

struct rpc_server *rpc_server_new(struct loop *l, const struct rpc_conf *conf)
{
	struct rpc_server *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->loop = l;
	s->conf = *conf;
	s->budget.limit = conf->max_buffered_bytes;
	s->arena = pb_arena_of(malloc(conf->arena_bytes), conf->arena_bytes);
	s->peers = calloc(conf->max_connections, sizeof(struct peer *));
	s->generations = calloc(conf->max_connections, sizeof *s->generations);
	if (s->arena.p && s->peers && s->generations)
		return s;
	rpc_server_free(s);
	return NULL;
}

void rpc_server_free(struct rpc_server *s)
{
	if (!s)
		return;
	for (uint32_t i = 0; s->peers && i < s->conf.max_connections; i++)
		if (s->peers[i])
			conn_close(&s->peers[i]->conn, 0);
	loop_bury(s->loop);
	free(s->generations);
	free(s->peers);
	free(s->arena.p);
	free(s);
}

unsigned rpc_server_connections(const struct rpc_server *s)
{
	return s->n_peers;
}
