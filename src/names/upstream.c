#include "names/upstream.h"

#include "net/conn.h"
#include "net/udp.h"
#include "sys/random.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	QUERY_BYTES = DNS_HEADER_BYTES + DNS_QUESTION_BYTES + DNS_OPT_BYTES,
	LENGTH_BYTES = 2, /* before a message over TCP */
	GUESSES = 16,     /* packets that are no answer, before there is somebody who guesses */
};

struct upstream {
	struct loop *loop;
	struct addr server;
	struct dns_query query; /* its question stands in `raw` */
	uint64_t timeout_ns;
	upstream_fn *fn; /* NULL: it has ended, and waits for its sockets to be let go of */
	void *ctx;
	struct timer timer;
	struct udp udp;
	struct conn tcp;
	bool udp_held, tcp_held; /* by the loop */
	bool edns;
	bool over_tcp;           /* it is asked, or was, where nobody else can answer */
	unsigned tries, guesses; /* over UDP */
	uint16_t id;
	uint8_t raw[DNS_QUESTION_BYTES];
};

/* --- end ------------------------------------------------------------------------------------- */

static void free_if_let_go(struct upstream *u)
{
	if (!u->fn && !u->udp_held && !u->tcp_held)
		free(u);
}

static void udp_gone(struct source *s)
{
	struct upstream *u = container_of(s, struct upstream, udp.source);

	u->udp_held = false;
	free_if_let_go(u);
}

void upstream_cancel(struct upstream *u)
{
	if (!u)
		return;
	u->fn = NULL;
	timer_at(&u->timer, 0);
	source_remove(&u->udp.source);
	conn_close(&u->tcp, 0);
}

static void end(
    struct upstream *u, int rc, struct span message, const struct dns_response *response)
{
	upstream_fn *fn = u->fn;

	upstream_cancel(u);
	fn(u->ctx, rc, message, response);
}

static void fail(struct upstream *u, int rc)
{
	end(u, u->over_tcp ? -EPROTO : rc, span_of(NULL, 0), NULL);
}

/* --- over TCP -------------------------------------------------------------------------------- */

static bool is_answer(const struct upstream *u, struct span message, struct dns_response *out)
{
	return dns_response_read(message, out) == E_OK &&
	    dns_response_matches(out, u->id, &u->query.question);
}

static ssize_t on_stream(struct conn *c, struct span in, bool eof)
{
	struct upstream *u = container_of(c, struct upstream, tcp);
	struct rd r = rd_of(in);
	struct span message = rd_bytes(&r, rd_u16be(&r));
	struct dns_response response;

	if (r.err != E_OK)
		return eof ? -ECONNRESET : 0;
	if (is_answer(u, message, &response) && !(response.header.flags & DNS_TC))
		end(u, 0, message, &response);
	else
		fail(u, -EPROTO);
	return 0;
}

static void stream_gone(struct conn *c, int rc)
{
	struct upstream *u = container_of(c, struct upstream, tcp);

	u->tcp_held = false;
	if (u->fn)
		fail(u, rc < 0 ? rc : -ECONNRESET);
	free_if_let_go(u);
}

static const struct conn_ops stream_ops = {.data = on_stream, .closed = stream_gone};

static int stream_open(struct upstream *u)
{
	const struct conn_limits limits = {
	    .in_bytes = LENGTH_BYTES + DNS_MESSAGE_BYTES,
	    .out_bytes = LENGTH_BYTES + QUERY_BYTES,
	};
	int fd = sock_connect(&u->server);
	int rc;

	if (fd < 0)
		return fd;
	rc = conn_init_connecting(&u->tcp, u->loop, fd, "dns upstream", &stream_ops, &limits);
	if (rc < 0)
		close(fd);
	else
		u->tcp_held = true;
	return rc;
}

static int stream_send(struct upstream *u)
{
	uint8_t buf[LENGTH_BYTES + QUERY_BYTES];
	struct wr length = wr_of(buf, LENGTH_BYTES);
	struct wr w = wr_of(buf + LENGTH_BYTES, QUERY_BYTES);

	dns_query_write(&w, u->id, &u->query, u->edns);
	wr_u16be(&length, (uint16_t)w.n);
	return conn_send(&u->tcp, span_of(buf, LENGTH_BYTES + w.n));
}

static void ask_by_tcp(struct upstream *u)
{
	int rc;

	source_remove(&u->udp.source);
	u->over_tcp = true;
	u->id = random_u16();
	rc = stream_open(u);
	if (rc == 0)
		rc = stream_send(u);
	if (rc < 0)
		fail(u, rc);
	else
		timer_in(&u->timer, u->timeout_ns * UPSTREAM_TRIES);
}

/* --- over UDP -------------------------------------------------------------------------------- */

/* Sends the query, once more or for the first time. What the kernel has no room for now is as good
 * as lost on the way. */
static int send_query(struct upstream *u)
{
	uint8_t buf[QUERY_BYTES];
	struct wr w = wr_of(buf, sizeof buf);
	int rc;

	dns_query_write(&w, u->id, &u->query, u->edns);
	rc = udp_send(&u->udp, wr_span(&w));
	u->tries++;
	timer_in(&u->timer, u->timeout_ns);
	return rc == -EAGAIN || rc == -ENOBUFS ? 0 : rc;
}

/* Whether a server does not know EDNS: it says so without any (RFC 6891 section 7). */
static bool lacks_edns(const struct dns_response *r)
{
	return !r->edns.present && (r->rcode == DNS_FORMERR || r->rcode == DNS_NOTIMP);
}

/* With a new id, as the refusal may come twice and may carry nothing but the id. */
static void ask_without_edns(struct upstream *u)
{
	int rc;

	u->edns = false;
	u->tries = 0;
	u->id = random_u16();
	rc = send_query(u);
	if (rc < 0)
		fail(u, rc);
}

static void on_packet(struct udp *udp, struct span packet, const struct udp_peer *peer)
{
	struct upstream *u = container_of(udp, struct upstream, udp);
	struct dns_response response;

	(void)peer; /* the socket is connected */
	if (!is_answer(u, packet, &response)) {
		if (++u->guesses == GUESSES)
			ask_by_tcp(u);
		return;
	}
	if (response.header.flags & DNS_TC)
		ask_by_tcp(u);
	else if (u->edns && lacks_edns(&response))
		ask_without_edns(u);
	else
		end(u, 0, packet, &response);
}

static void on_error(struct udp *udp, int rc)
{
	fail(container_of(udp, struct upstream, udp), rc);
}

static void on_timeout(struct timer *t)
{
	struct upstream *u = container_of(t, struct upstream, timer);
	int rc = -ETIMEDOUT;

	if (!u->over_tcp && u->tries < UPSTREAM_TRIES)
		rc = send_query(u);
	if (rc < 0)
		fail(u, rc);
}

static int socket_open(struct upstream *u)
{
	int fd = sock_udp_connect(&u->server);
	int rc;

	if (fd < 0)
		return fd;
	rc = udp_init(&u->udp, u->loop, fd, false, "dns upstream");
	if (rc < 0)
		close(fd);
	else
		u->udp_held = true;
	return rc;
}

int upstream_ask(struct upstream **out, struct loop *l, const struct addr *server,
    const struct dns_query *query, uint64_t timeout_ms, upstream_fn *fn, void *ctx)
{
	struct upstream *u = malloc(sizeof *u);
	int rc;

	if (!u)
		return -ENOMEM;
	*u = (struct upstream){
	    .loop = l,
	    .server = *server,
	    .query = *query,
	    .timeout_ns = timeout_ms * NS_PER_MS,
	    .fn = fn,
	    .ctx = ctx,
	    .udp = {.fn = on_packet, .error = on_error, .source = {.done = udp_gone, .fd = -1}},
	    .tcp = {.source.fd = -1},
	    .edns = true,
	    .id = random_u16(),
	};
	memcpy(u->raw, query->raw.p, query->raw.n);
	u->query.raw.p = u->raw;
	timer_init(&u->timer, l, on_timeout);
	rc = socket_open(u);
	if (rc == 0)
		rc = send_query(u);
	if (rc < 0) {
		upstream_cancel(u);
		free_if_let_go(u);
		return rc;
	}
	*out = u;
	return 0;
}
