#include "agent/listeners.h"

#include "base/log.h"
#include "base/parse.h"

static void told(struct listener *l, int what, int rc, const struct addr *peer)
{
	char at[ADDR_TEXT_BYTES], from[ADDR_TEXT_BYTES];

	addr_text(&l->addr, at);
	if (what == LISTEN_BOUND)
		log_info("listen", "listening", KV_STR("at", at));
	else if (what == LISTEN_FAILED)
		log_warn("listen", "cannot listen, trying again", KV_STR("at", at), KV_ERR(rc));
	else if (what == LISTEN_REFUSED)
		log_warn("listen", "refused peers that may not connect", KV_STR("at", at),
		    KV_STR("last", addr_text(peer, from)), KV_NUM("refused", rc));
	else if (what == LISTEN_RESTING)
		log_warn("listen", "cannot accept connections for a while", KV_STR("at", at),
		    KV_ERR(rc));
}

void listeners_set_peers(struct agent *a)
{
	const struct option_list *list = &a->options.allow_peer;
	uint64_t cid;

	for (size_t i = 0; i < list->n; i++)
		if (parse_u64(span_str(list->values[i]), 0, UINT32_MAX, &cid) == E_OK)
			a->cids[a->peers.n++] = (uint32_t)cid;
	a->peers.cids = a->cids;
}

static void proxy_told(const struct proxy *p, const char *what, int rc)
{
	char at[ADDR_TEXT_BYTES];

	log_warn("proxy", what, KV_STR("at", addr_text(&proxy_conf(p)->listen, at)), KV_ERR(rc));
}

static const struct listener_ops proxy_listener_ops = {.told = told};

static size_t docker_refusal(const struct proxy *p, int rc, char *buf, size_t cap)
{
	(void)p;
	return runtime_docker_refusal(rc, buf, cap);
}

void listeners_start_proxies(struct agent *a)
{
	const struct options *o = &a->options;
	struct proxy_conf conf = {
	    .peers = &a->peers,
	    .listener_ops = &proxy_listener_ops,
	    .park_ms = o->park_ms,
	    .retry_ms = o->park_retry_ms,
	    .max_relays = (unsigned)o->max_relays,
	    .told = proxy_told,
	};

	for (size_t i = 0; i < o->proxy.n; i++) {
		struct span backend = span_str(o->proxy.values[i]);
		struct span listen = span_split(&backend, '=');

		if (addr_parse(listen, &conf.listen) != E_OK ||
		    addr_parse(backend, &conf.backend) != E_OK)
			continue; /* "off" */
		conf.refusal = conf.backend.u.sa.sa_family == AF_UNIX ? docker_refusal : NULL;
		a->proxies[i] = proxy_new(&a->loop, &conf);
		if (!a->proxies[i])
			log_error(
			    "main", "no memory for a proxy", KV_STR("proxy", o->proxy.values[i]));
	}
}

static void accept_rpc(struct listener *l, int fd, const struct addr *peer)
{
	struct agent *a = l->ctx;

	(void)peer;
	rpc_server_accept(a->rpc, fd);
}

/* How long it took from the start of the process is worth knowing of the host's way in. */
static void rpc_told(struct listener *l, int what, int rc, const struct addr *peer)
{
	const struct agent *a = l->ctx;
	char at[ADDR_TEXT_BYTES];

	if (what == LISTEN_BOUND)
		log_info("listen", "listening", KV_STR("at", addr_text(&l->addr, at)),
		    KV_NUM("after_us", (clock_mono_ns() - a->started_ns) / 1000));
	else
		told(l, what, rc, peer);
}

static const struct listener_ops rpc_listener_ops = {.accepted = accept_rpc, .told = rpc_told};

void listeners_start_rpc(struct agent *a)
{
	const struct options *o = &a->options;
	const struct rpc_conf conf = {
	    .methods = rpc_methods,
	    .n_methods = rpc_method_count,
	    .services = &a->services,
	    .max_frame_bytes = (uint32_t)o->max_frame_bytes,
	    .max_connections = (uint32_t)o->max_connections,
	    .max_buffered_bytes = o->max_buffered_bytes,
	    .arena_bytes = o->max_arena_bytes,
	    .max_answer_bytes = o->max_answer_bytes,
	    .max_file_bytes = o->max_file_bytes,
	    .stall_ms = o->stall_ms,
	};
	struct addr addr;

	a->rpc = rpc_server_new(&a->loop, &conf);
	for (size_t i = 0; a->rpc && i < o->listen.n; i++) {
		a->listeners[i].ctx = a;
		if (addr_parse(span_str(o->listen.values[i]), &addr) == E_OK)
			listener_start(
			    &a->listeners[i], &a->loop, &addr, &a->peers, &rpc_listener_ops);
	}
}
