#include "net/http.h"

#include <errno.h>
#include <unistd.h>

/* Room for the longest head of an answer: it is the one thing that has to be there as a whole. */
enum { IN_BYTES = 64 * 1024 };

static struct http_call *call_of(struct conn *c)
{
	return container_of(c, struct http_call, conn);
}

/* --- the answer ------------------------------------------------------------------------------ */

static int head_came(struct http_call *h, const struct http1_head *head)
{
	int rc;

	if (head->interim)
		return ++h->interims > HTTP_INTERIM_MAX ? -EPROTO : 0;
	h->status = head->status;
	http1_body_init(&h->body, head);
	timer_at(&h->timer, h->deadline_ns);
	rc = h->ops->head ? h->ops->head(h, head) : 0;
	if (rc < 0)
		return rc;
	if (head->framing == HTTP1_UPGRADE)
		return -EPROTO;
	return h->limit_bytes && head->length > h->limit_bytes ? -EFBIG : 0;
}

/* How much of `in` was a head; 0 when it is cut. */
static ssize_t take_head(struct http_call *h, struct span in)
{
	struct http1_head head;
	size_t used;
	enum err err = http1_head_read(in, &http1_default_limits, h->head_request, &head, &used);
	int rc;

	if (err == E_MORE)
		return 0;
	if (err)
		return -EPROTO;
	rc = head_came(h, &head);
	return rc < 0 ? rc : (ssize_t)used;
}

/* How much of `in` was body; 0 when it is used up or the body is complete. */
static ssize_t take_body(struct http_call *h, struct span in)
{
	struct span data;
	size_t used;
	int rc = 0;

	if (http1_body_read(&h->body, in, &used, &data, &h->complete) != E_OK)
		return -EPROTO;
	h->received_bytes += data.n;
	if (h->limit_bytes && h->received_bytes > h->limit_bytes)
		return -EFBIG;
	if (data.n && h->ops->data)
		rc = h->ops->data(h, data);
	return rc < 0 ? rc : (ssize_t)used;
}

static ssize_t take(struct http_call *h, struct span in)
{
	size_t done = 0;
	ssize_t n;

	do {
		struct span rest = span_from(in, done);

		n = h->status ? take_body(h, rest) : take_head(h, rest);
		if (n < 0)
			return n;
		done += (size_t)n;
	} while (n > 0 && !h->complete && !h->cancelled);
	return (ssize_t)done;
}

static ssize_t answer_came(struct conn *c, struct span in, bool eof)
{
	struct http_call *h = call_of(c);
	ssize_t done = take(h, in);

	if (done < 0 || h->cancelled)
		return done;
	if (eof && h->status && http1_body_eof(&h->body))
		h->complete = true;
	if (h->complete)
		conn_close(c, 0);
	else if (eof)
		return -ECONNRESET;
	return done;
}

static void connection_over(struct conn *c, int rc)
{
	struct http_call *h = call_of(c);

	timer_at(&h->timer, 0);
	h->ops->ended(h, rc);
}

static const struct conn_ops connection_ops = {.data = answer_came, .closed = connection_over};

static void too_late(struct timer *t)
{
	http_cancel(container_of(t, struct http_call, timer), -ETIMEDOUT);
}

/* --- the request ----------------------------------------------------------------------------- */

/* The authority of the target URI (RFC 9110 section 7.2). A path has none; "localhost" is what
 * clients of Docker and Firecracker send. */
static const char *host_of(const struct addr *to, char buf[ADDR_TEXT_BYTES])
{
	if (to->u.sa.sa_family == AF_UNIX)
		return "localhost";
	return addr_text(to, buf) + strlen("tcp:");
}

static int write_head(struct wr *w, const struct addr *to, const struct http_request *req)
{
	char host[ADDR_TEXT_BYTES];
	const struct http1_request head = {
	    .method = req->method,
	    .target = req->target,
	    .host = host_of(to, host),
	    .content_type = req->content_type,
	    .body_bytes = req->body.n,
	};

	http1_request_write(w, &head);
	if (w->err == E_SPACE || req->body.n > HTTP_REQUEST_BODY_BYTES)
		return -EMSGSIZE;
	return w->err ? -EINVAL : 0;
}

static int open_connection(struct http_call *h, struct loop *l, const struct addr *to)
{
	const struct conn_limits limits = {
	    .in_bytes = IN_BYTES,
	    .out_bytes = HTTP_REQUEST_HEAD_BYTES + HTTP_REQUEST_BODY_BYTES,
	    .stall_ms = HTTP_STALL_MS,
	};
	int fd = sock_connect(to);
	int rc;

	if (fd < 0)
		return fd;
	rc = conn_init_connecting(&h->conn, l, fd, "http", &connection_ops, &limits);
	if (rc < 0)
		close(fd);
	return rc;
}

static uint64_t after_ms(const struct loop *l, uint64_t ms)
{
	return ms ? l->now_ns + ms * NS_PER_MS : 0;
}

/* The head may take no longer than the whole. */
static uint64_t head_timeout_ms(const struct http_request *req)
{
	if (req->timeout_ms && req->timeout_ms < req->head_timeout_ms)
		return req->timeout_ms;
	return req->head_timeout_ms ? req->head_timeout_ms : req->timeout_ms;
}

int http_start(struct http_call *h, struct loop *l, const struct addr *to,
    const struct http_request *req, const struct http_ops *ops)
{
	uint8_t buf[HTTP_REQUEST_HEAD_BYTES];
	struct wr head = wr_of(buf, sizeof buf);
	int rc = write_head(&head, to, req);

	if (rc < 0)
		return rc;
	*h = (struct http_call){
	    .ops = ops,
	    .ctx = h->ctx,
	    .head_request = span_eq_str(span_str(req->method), "HEAD"),
	    .deadline_ns = after_ms(l, req->timeout_ms),
	    .limit_bytes = req->limit_bytes,
	};
	rc = open_connection(h, l, to);
	if (rc < 0)
		return rc;
	timer_init(&h->timer, l, too_late);
	timer_at(&h->timer, after_ms(l, head_timeout_ms(req)));
	rc = conn_send(&h->conn, wr_span(&head));
	if (rc == 0)
		rc = conn_send(&h->conn, req->body);
	if (rc < 0)
		http_cancel(h, rc);
	return 0;
}

void http_cancel(struct http_call *h, int rc)
{
	h->cancelled = true;
	conn_close(&h->conn, rc);
}
