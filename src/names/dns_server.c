#include "names/dns_server.h"

#include "base/log.h"
#include "names/answer.h"
#include "net/conn.h"
#include "net/listen.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	LENGTH_BYTES = 2, /* before a message over TCP (RFC 1035 section 4.2.2) */
	/* With so much waiting to be sent a client's requests are not read, and the answers that it
	 * is owed meanwhile have to find room in the rest. */
	HIGH_WATER_BYTES = 64 * 1024,
	OUT_BYTES = 4 * HIGH_WATER_BYTES,
};

/* A connection; its memory is a slot that is used again. */
struct client {
	struct dns_server *server;
	struct link link; /* on `free_clients` when it is not in use */
	struct conn conn;
	struct ip ip; /* its address */
	struct timer idle;
	uint32_t generation; /* of the slot's use; never 0 */
	unsigned owed;       /* answers that are still with the forwarder */
	bool paused;         /* its requests are not read for now */
	bool ended;          /* it has asked its last */
};

struct dns_server {
	struct loop *loop;
	struct dns_server_conf conf;
	struct answerer answerer;
	struct forward *forward;
	struct udp udp;
	struct timer udp_retry;
	uint64_t udp_retry_ms;
	struct listener listener;
	struct budget budget; /* what clients hold in buffers */
	struct link free_clients;
	unsigned n_clients;
	uint8_t out[LENGTH_BYTES + DNS_MESSAGE_BYTES]; /* the answer being written */
	struct client clients[];
};

/* Where answers are written: with room before them for their length. */
static uint8_t *message_buf(struct dns_server *s)
{
	return s->out + LENGTH_BYTES;
}

static void log_socket(const struct dns_server *s, enum log_level level, const char *message,
    const char *proto, int rc)
{
	char text[IP_TEXT_BYTES] = "";
	struct ip ip;

	if (addr_to_ip(&s->conf.listen, &ip))
		ip_format(&ip, text);
	log_line(level, "dns", message, KV_STR("proto", proto), KV_STR("address", text),
	    KV_NUM("port", addr_port(&s->conf.listen)), rc < 0 ? KV_ERR(rc) : (struct log_kv){0});
}

/* --- UDP ------------------------------------------------------------------------------------- */

static void udp_forward(
    struct dns_server *s, const struct dns_query *query, const struct udp_peer *peer)
{
	struct forward_asker who = {.peer = *peer};

	addr_to_ip(&peer->from, &who.ip);
	forward_ask(s->forward, query, &who);
}

static void on_packet(struct udp *udp, struct span packet, const struct udp_peer *peer)
{
	struct dns_server *s = container_of(udp, struct dns_server, udp);
	struct dns_query query;
	struct span reply;

	if (addr_port(&peer->from) == 0)
		return; /* nobody can be there */
	switch (answer_request(&s->answerer, ANSWER_UDP, packet, message_buf(s), &query, &reply)) {
	case ANSWER_DROP: break;
	case ANSWER_READY: udp_reply(udp, reply, peer); break;
	case ANSWER_FORWARD: udp_forward(s, &query, peer); break;
	}
}

static int udp_open(struct dns_server *s)
{
	bool pktinfo;
	int fd = sock_udp_bind(&s->conf.listen, s->conf.rcvbuf_bytes, &pktinfo);
	int rc;

	if (fd < 0)
		return fd;
	rc = udp_init(&s->udp, s->loop, fd, pktinfo, "dns");
	if (rc < 0)
		close(fd);
	return rc;
}

/* As listener_start() does for TCP. */
static void udp_start(struct dns_server *s)
{
	int rc = udp_open(s);

	if (rc == 0) {
		log_socket(s, LOG_INFO, "listening", "udp", 0);
		return;
	}
	if (s->udp_retry_ms == LISTEN_FIRST_RETRY_MS)
		log_socket(s, LOG_ERROR, "cannot listen, trying again", "udp", rc);
	timer_in(&s->udp_retry, s->udp_retry_ms * NS_PER_MS);
	s->udp_retry_ms += s->udp_retry_ms / 2;
	if (s->udp_retry_ms > LISTEN_LAST_RETRY_MS)
		s->udp_retry_ms = LISTEN_LAST_RETRY_MS;
}

static void on_udp_retry(struct timer *t)
{
	udp_start(container_of(t, struct dns_server, udp_retry));
}

/* --- TCP ------------------------------------------------------------------------------------- */

/* A client is idle from the last that it asked or was answered. */
static void client_touch(struct client *c)
{
	timer_in(&c->idle, c->server->conf.idle_ms * NS_PER_MS);
}

static void on_idle(struct timer *t)
{
	struct client *c = container_of(t, struct client, idle);

	if (c->owed || conn_pending(&c->conn))
		client_touch(c); /* the forwarder's turn, or the stall timer's matter */
	else
		conn_close(&c->conn, 0);
}

static void finish_if_done(struct client *c)
{
	if (c->ended && c->owed == 0)
		conn_finish(&c->conn);
}

static bool client_has_room(const struct client *c)
{
	return c->owed < DNS_SERVER_OWED && conn_pending(&c->conn) < HIGH_WATER_BYTES;
}

static void resume_if_room(struct client *c)
{
	if (!c->paused || !client_has_room(c))
		return;
	c->paused = false;
	conn_resume(&c->conn);
}

/* Sends an answer, which stands in the server's buffer. 0 or -errno: one that finds no room costs
 * the connection. */
static int client_send(struct client *c, struct span reply)
{
	struct wr length = wr_of(c->server->out, LENGTH_BYTES);

	wr_u16be(&length, (uint16_t)reply.n);
	return conn_send(&c->conn, span_of(c->server->out, LENGTH_BYTES + reply.n));
}

static void client_forward(struct client *c, const struct dns_query *query)
{
	struct dns_server *s = c->server;

	c->owed++;
	forward_ask(s->forward, query,
	    &(struct forward_asker){
		.ip = c->ip, .slot = (uint32_t)(c - s->clients), .generation = c->generation});
}

/* 0, or -errno to close the connection. */
static int client_request(struct client *c, struct span message)
{
	struct dns_server *s = c->server;
	struct dns_query query;
	struct span reply;

	client_touch(c);
	switch (answer_request(&s->answerer, ANSWER_TCP, message, message_buf(s), &query, &reply)) {
	case ANSWER_DROP: return -EPROTO;
	case ANSWER_READY: return client_send(c, reply);
	case ANSWER_FORWARD: client_forward(c, &query); break;
	}
	return 0;
}

/* The length of the request at the front of `in` with its prefix; 0 when it is not all there yet,
 * -EMSGSIZE when it is too long. */
static ssize_t request_bytes(struct span in)
{
	struct rd r = rd_of(in);
	uint16_t n = rd_u16be(&r);

	if (n > DNS_SERVER_REQUEST_BYTES)
		return -EMSGSIZE;
	rd_bytes(&r, n);
	return r.err == E_OK ? (ssize_t)r.at : 0;
}

static ssize_t on_stream(struct conn *conn, struct span in, bool eof)
{
	struct client *c = container_of(conn, struct client, conn);
	size_t at = 0;

	while (client_has_room(c)) {
		struct span rest = span_from(in, at);
		ssize_t n = request_bytes(rest);
		int rc;

		if (n < 0)
			return n;
		if (n == 0) {
			c->ended = eof;
			finish_if_done(c);
			return (ssize_t)at;
		}
		rc = client_request(c, span_from(span_first(rest, (size_t)n), LENGTH_BYTES));
		if (rc < 0)
			return rc;
		at += (size_t)n;
	}
	c->paused = true;
	conn_pause(conn);
	return (ssize_t)at;
}

static void on_drained(struct conn *conn)
{
	struct client *c = container_of(conn, struct client, conn);

	client_touch(c);
	resume_if_room(c);
}

static void on_closed(struct conn *conn, int rc)
{
	struct client *c = container_of(conn, struct client, conn);
	struct dns_server *s = c->server;

	(void)rc; /* clients come and go as they like */
	timer_at(&c->idle, 0);
	if (++c->generation == 0)
		c->generation = 1;
	list_append(&s->free_clients, &c->link);
	s->n_clients--;
}

static const struct conn_ops client_ops = {
    .data = on_stream, .drained = on_drained, .closed = on_closed};

static void on_accepted(struct listener *l, int fd, const struct addr *peer)
{
	struct dns_server *s = container_of(l, struct dns_server, listener);
	const struct conn_limits limits = {
	    .in_bytes = LENGTH_BYTES + DNS_SERVER_REQUEST_BYTES,
	    .out_bytes = OUT_BYTES,
	    .budget = &s->budget,
	    .stall_ms = s->conf.stall_ms,
	};
	struct link *node = list_first(&s->free_clients);
	struct client *c;

	if (!node) {
		close(fd);
		return;
	}
	c = container_of(node, struct client, link);
	if (conn_init(&c->conn, s->loop, fd, "dns client", &client_ops, &limits) < 0) {
		close(fd);
		return;
	}
	list_remove(node);
	s->n_clients++;
	addr_to_ip(peer, &c->ip);
	c->owed = 0;
	c->paused = c->ended = false;
	client_touch(c);
}

static void on_told(struct listener *l, int what, int rc, const struct addr *peer)
{
	struct dns_server *s = container_of(l, struct dns_server, listener);

	(void)peer;
	if (what == LISTEN_BOUND)
		log_socket(s, LOG_INFO, "listening", "tcp", 0);
	else if (what == LISTEN_FAILED)
		log_socket(s, LOG_ERROR, "cannot listen, trying again", "tcp", rc);
	else
		log_socket(s, LOG_WARN, "cannot accept, resting", "tcp", rc);
}

static const struct listener_ops listener_ops = {.accepted = on_accepted, .told = on_told};

/* --- answers of the forwarder ---------------------------------------------------------------- */

/* Clients that are gone meanwhile, whoever has their slot now, get nothing. */
static void client_answered(
    struct dns_server *s, const struct forward_asker *who, struct span reply)
{
	struct client *c = &s->clients[who->slot];
	int rc;

	if (c->generation != who->generation)
		return;
	c->owed--;
	client_touch(c);
	rc = client_send(c, reply);
	if (rc < 0)
		conn_close(&c->conn, rc);
	resume_if_room(c);
	finish_if_done(c);
}

static void on_forwarded(
    void *ctx, const struct forward_asker *who, const struct dns_query *query, struct span stored)
{
	struct dns_server *s = ctx;
	enum answer_front front = who->generation ? ANSWER_TCP : ANSWER_UDP;
	struct dns_reply r;
	struct span reply;

	dns_reply_begin(&r, message_buf(s), answer_limit(front, query), query, 0);
	if (stored.n)
		dns_reply_stored(&r, stored);
	else
		r.rcode = DNS_SERVFAIL;
	reply = dns_reply_finish(&r);
	if (front == ANSWER_TCP)
		client_answered(s, who, reply);
	else
		udp_reply(&s->udp, reply, &who->peer);
}

/* --- life ------------------------------------------------------------------------------------ */

static void clients_init(struct dns_server *s)
{
	list_init(&s->free_clients);
	for (unsigned i = 0; i < s->conf.max_clients; i++) {
		struct client *c = &s->clients[i];

		c->server = s;
		c->conn.source.fd = -1;
		c->generation = 1;
		timer_init(&c->idle, s->loop, on_idle);
		list_append(&s->free_clients, &c->link);
	}
}

struct dns_server *dns_server_new(
    struct loop *l, struct registry *registry, const struct dns_server_conf *conf)
{
	struct dns_server *s = calloc(1, sizeof *s + conf->max_clients * sizeof *s->clients);
	struct forward_conf forward = conf->forward;

	if (!s)
		return NULL;
	forward.fn = on_forwarded;
	forward.ctx = s;
	s->forward = forward_new(l, &forward);
	if (!s->forward) {
		free(s);
		return NULL;
	}
	s->loop = l;
	s->conf = *conf;
	s->budget.limit = conf->max_buffered_bytes;
	s->udp = (struct udp){.fn = on_packet, .source.fd = -1};
	s->udp_retry_ms = LISTEN_FIRST_RETRY_MS;
	timer_init(&s->udp_retry, l, on_udp_retry);
	answerer_init(&s->answerer, registry, conf->ttl_secs);
	clients_init(s);
	udp_start(s);
	listener_start(&s->listener, l, &conf->listen, NULL, &listener_ops);
	return s;
}

void dns_server_free(struct dns_server *s)
{
	if (!s)
		return;
	listener_stop(&s->listener);
	timer_at(&s->udp_retry, 0);
	source_remove(&s->udp.source);
	for (unsigned i = 0; i < s->conf.max_clients; i++)
		conn_close(&s->clients[i].conn, 0);
	forward_free(s->forward);
	loop_bury(s->loop);
	free(s);
}

struct forward *dns_server_forward(struct dns_server *s)
{
	return s->forward;
}

unsigned dns_server_clients(const struct dns_server *s)
{
	return s->n_clients;
}
