/* http.h - an HTTP/1.1 client for one request a connection, over unix or TCP sockets.
 *
 * The request asks the server to close the connection afterwards. Interim answers (1xx) are
 * skipped; bytes behind a complete answer are ignored. The body is handed on as it comes and is not
 * kept. */
#ifndef NET_HTTP_H
#define NET_HTTP_H

#include "codec/http1.h"
#include "net/conn.h"
#include "sys/sock.h"

struct http_call;

struct http_ops {
	/* The head of the answer (not of 1xx). Views live during the call. 0, or -errno to end the
	 * call. May be NULL. A 101 is reported, too, and ends the call with -EPROTO: nobody asked.
	 */
	int (*head)(struct http_call *h, const struct http1_head *head);
	/* A piece of the body, never empty. The view lives during the call. 0, or -errno to end the
	 * call. May be NULL: the body is dropped. */
	int (*data)(struct http_call *h, struct span piece);
	/* The end, called exactly once: 0 after a complete answer; -ETIMEDOUT; -EPROTO for an
	 * answer that is no HTTP, or has a head over http1_default_limits; -EFBIG over limit_bytes;
	 * -ECONNRESET for one that was cut; else the -errno of the connection or of an op. The
	 * memory may go. */
	void (*ended)(struct http_call *h, int rc);
};

struct http_request {
	const char *method, *target;
	const char *content_type; /* NULL without a body */
	struct span body;         /* copied; at most HTTP_REQUEST_BODY_BYTES */
	uint64_t timeout_ms;      /* for the whole of the answer; 0 = none (an event stream) */
	uint64_t head_timeout_ms; /* until the head has come; 0 = timeout_ms */
	uint64_t limit_bytes;     /* of the answer's body; 0 = no limit */
};

enum {
	HTTP_REQUEST_HEAD_BYTES = 8 * 1024, /* method, target and fields must fit */
	HTTP_REQUEST_BODY_BYTES = 64 * 1024,
	HTTP_INTERIM_MAX = 8, /* one more 1xx is -EPROTO */
	HTTP_STALL_MS =
	    30 * 1000 /* a server that takes nothing of the request for so long: -ETIMEDOUT */
};

/* Memory of the caller, in place until `ended`. `ctx` is the caller's, set before http_start;
 * `status` and `received_bytes` may be read; the rest is private. */
struct http_call {
	const struct http_ops *ops;
	void *ctx;
	unsigned status;         /* 0 until the head has come */
	uint64_t received_bytes; /* of the body */
	struct conn conn;
	struct timer timer;
	struct http1_body body;
	unsigned interims;
	bool head_request, complete, cancelled;
	uint64_t deadline_ns; /* of the whole answer; 0 = none */
	uint64_t limit_bytes;
};

/* Connects and sends. 0, or -errno when it cannot be started (-EINVAL: the request holds bytes that
 * cannot be sent; -EMSGSIZE: it is too large); `ended` is not called then, and neither before this
 * returns. */
int http_start(struct http_call *h, struct loop *l, const struct addr *to,
    const struct http_request *req, const struct http_ops *ops);

/* Ends the call with rc (given to `ended` at the end of the turn); no other op is called any more.
 * A call that is over is left alone. */
void http_cancel(struct http_call *h, int rc);

#endif
