#include "names/watch.h"

#include "base/log.h"
#include "base/map.h"
#include "codec/json.h"
#include "names/docker.h"
#include "net/http.h"

#include <errno.h>
#include <stdlib.h>

/* {"type":["container","network"]} */
#define EVENTS_FILTER "filters=%7B%22type%22%3A%5B%22container%22%2C%22network%22%5D%7D"

/* A container of the engine's. */
struct tracked {
	struct map_node node; /* by id */
	struct link dirty;    /* on watch.dirty while it has to be inspected, or on watch.failed */
	bool listed;          /* seen since the event stream was opened */
	char id[DOCKER_ID_BYTES];
};

/* A request whose answer is collected. */
struct question {
	struct watch *watch;
	struct http_call call;
	struct queue body;
	bool busy;
};

struct inspect {
	struct question question;
	struct tracked *container; /* NULL: gone meanwhile, the answer is for nobody */
};

struct watch {
	struct loop *loop;
	struct registry *registry;
	struct watch_conf conf;
	struct addr addr;
	struct timer retry;
	uint64_t retry_ms;
	struct http_call events;
	struct queue event; /* what has come of the next event */
	struct json_scan scan;
	struct question list;
	struct map containers;
	struct link dirty, failed;
	struct timer again;     /* for what failed */
	bool connected, listed; /* the event stream is open; the list has been taken in */
	bool overflowed;        /* said that there are too many containers */
	int last_rc;            /* why there is no connection, as far as it was logged */
	struct docker_container details;
	struct inspect inspects[]; /* conf.inspects */
};

static void pump(struct watch *w);
static void start_over(struct watch *w, int rc);

/* --- containers ----------------------------------------------------------------------------- */

static struct tracked *find(const struct watch *w, const char *id)
{
	struct map_node *node = map_first(&w->containers, map_hash(&w->containers, span_str(id)));

	for (; node; node = map_next(node)) {
		struct tracked *c = container_of(node, struct tracked, node);

		if (strcmp(c->id, id) == 0)
			return c;
	}
	return NULL;
}

static struct tracked *track(struct watch *w, const char *id)
{
	struct tracked *c = find(w, id);

	if (c)
		return c;
	c = w->containers.n < w->conf.max_containers ? calloc(1, sizeof *c) : NULL;
	if (!c) {
		if (!w->overflowed)
			log_warn("docker", "cannot watch more containers: the rest gets no names",
			    KV_NUM("containers", w->containers.n));
		w->overflowed = true;
		return NULL;
	}
	memcpy(c->id, id, strlen(id));
	list_init(&c->dirty);
	map_add(&w->containers, &c->node, map_hash(&w->containers, span_str(id)));
	return c;
}

/* The owner's name in the registry: "docker:" and the id. */
static struct span owner_of(const struct tracked *c, char buf[DOCKER_ID_BYTES + 8])
{
	struct wr w = wr_of(buf, DOCKER_ID_BYTES + 8);

	wr_str(&w, "docker:");
	wr_str(&w, c->id);
	return wr_span(&w);
}

static void drop_names(struct watch *w, const struct tracked *c)
{
	char owner[DOCKER_ID_BYTES + 8];

	registry_drop(w->registry, owner_of(c, owner));
}

static void untrack(struct watch *w, struct tracked *c)
{
	drop_names(w, c);
	for (size_t i = 0; i < w->conf.inspects; i++)
		if (w->inspects[i].container == c)
			w->inspects[i].container = NULL;
	list_remove(&c->dirty);
	map_remove(&w->containers, &c->node);
	free(c);
	if (w->overflowed) /* there is room for one that was left out */
		start_over(w, -ENOBUFS);
	w->overflowed = false;
}

static void mark_dirty(struct watch *w, struct tracked *c)
{
	c->listed = true;
	list_remove(&c->dirty);
	list_append(&w->dirty, &c->dirty);
}

/* --- requests ------------------------------------------------------------------------------- */

static int collect(struct http_call *h, struct span piece)
{
	struct question *q = h->ctx;
	int rc = queue_put(&q->body, piece);

	return rc == -ENOBUFS ? -EFBIG : rc;
}

static int ask(struct question *q, const char *target, const struct http_ops *ops)
{
	const struct http_request request = {
	    .method = "GET",
	    .target = target,
	    .timeout_ms = q->watch->conf.answer_ms,
	    .limit_bytes = q->watch->conf.answer_bytes,
	};
	int rc;

	q->call.ctx = q;
	rc = http_start(&q->call, q->watch->loop, &q->watch->addr, &request, ops);
	q->busy = rc == 0;
	return rc;
}

/* The event stream carries the state: whatever goes wrong, it is closed, and all begins anew. */
static void start_over(struct watch *w, int rc)
{
	http_cancel(&w->events, rc);
}

/* --- inspecting ----------------------------------------------------------------------------- */

static void apply(struct watch *w, struct tracked *c, const struct docker_container *d)
{
	char owner[DOCKER_ID_BYTES + 8];
	int rc;

	if (!d->running || d->n_addrs == 0) {
		drop_names(w, c);
		return;
	}
	rc = registry_set(
	    w->registry, owner_of(c, owner), d->names, d->n_names, d->addrs, d->n_addrs);
	if (rc >= 0) {
		log_debug("docker", "registered", KV_STR("id", c->id), KV_NUM("names", d->n_names));
		return;
	}
	log_warn("docker", "cannot register a container's names", KV_STR("id", c->id), KV_ERR(rc));
	drop_names(w, c); /* which may lead to where somebody else is by now */
}

/* Its names stay as they are; an event that came meanwhile has it inspected at once anyway. */
static void inspect_later(struct watch *w, struct tracked *c)
{
	if (!list_empty(&c->dirty))
		return;
	list_append(&w->failed, &c->dirty);
	if (!timer_armed(&w->again))
		timer_in(&w->again, w->conf.retry_max_ms * NS_PER_MS);
}

static void inspect_again(struct timer *t)
{
	struct watch *w = container_of(t, struct watch, again);
	struct link *node;

	while ((node = list_first(&w->failed))) {
		list_remove(node);
		list_append(&w->dirty, node);
	}
	pump(w);
}

/* The details came, or the container's end, or nothing of use. */
static void take_details(struct watch *w, struct tracked *c, unsigned status, struct span body)
{
	enum err err = status == 200 ? docker_container_read(body, &w->details) : E_UNKNOWN;

	if (status == 404) {
		untrack(w, c);
	} else if (err == E_OK) {
		apply(w, c, &w->details);
	} else {
		log_warn("docker", "cannot tell a container's names", KV_STR("id", c->id),
		    KV_NUM("status", status), KV_ERR(err));
		inspect_later(w, c);
	}
}

static void inspected(struct http_call *h, int rc)
{
	struct question *q = h->ctx;
	struct inspect *i = container_of(q, struct inspect, question);
	struct watch *w = q->watch;
	struct tracked *c = i->container;

	q->busy = false;
	i->container = NULL;
	if (c && rc == 0)
		take_details(w, c, h->status, queue_span(&q->body));
	queue_done(&q->body);
	if (c && rc < 0 && rc != -EFBIG) {
		start_over(w, rc);
		return;
	}
	if (c && rc == -EFBIG) /* it would be as large after starting over */
		inspect_later(w, c);
	pump(w);
}

static const struct http_ops inspect_ops = {.data = collect, .ended = inspected};

static int inspect(struct inspect *i, struct tracked *c)
{
	char target[DOCKER_ID_BYTES + 32];
	int rc;

	text_join(target, sizeof target, "/containers/", c->id, "/json");
	rc = ask(&i->question, target, &inspect_ops);
	if (rc == 0)
		i->container = c;
	return rc;
}

static bool being_inspected(const struct watch *w, const struct tracked *c)
{
	for (size_t i = 0; i < w->conf.inspects; i++)
		if (w->inspects[i].container == c)
			return true;
	return false;
}

static struct inspect *idle_inspect(struct watch *w)
{
	for (size_t i = 0; i < w->conf.inspects; i++)
		if (!w->inspects[i].question.busy)
			return &w->inspects[i];
	return NULL;
}

/* A container that is being inspected waits: only the answer to a later question is new enough. */
static struct tracked *next_dirty(const struct watch *w)
{
	for (struct link *node = w->dirty.next; node != &w->dirty; node = node->next) {
		struct tracked *c = container_of(node, struct tracked, dirty);

		if (!being_inspected(w, c))
			return c;
	}
	return NULL;
}

static void pump(struct watch *w)
{
	struct inspect *idle;
	struct tracked *c;

	while (w->listed && (idle = idle_inspect(w)) && (c = next_dirty(w))) {
		int rc = inspect(idle, c);

		if (rc < 0) {
			start_over(w, rc);
			return;
		}
		list_remove(&c->dirty);
	}
}

/* --- the list ------------------------------------------------------------------------------- */

static void listed_one(void *ctx, const char *id)
{
	struct watch *w = ctx;
	struct tracked *c = track(w, id);

	if (c)
		mark_dirty(w, c);
}

/* What neither the list nor an event since has named is gone. */
static void drop_unlisted(struct watch *w)
{
	struct map_node *next;

	for (struct map_node *node = map_walk(&w->containers, NULL); node; node = next) {
		struct tracked *c = container_of(node, struct tracked, node);

		next = map_walk(&w->containers, node);
		if (!c->listed)
			untrack(w, c);
	}
}

static void list_ended(struct http_call *h, int rc)
{
	struct question *q = h->ctx;
	struct watch *w = q->watch;
	enum err err = E_MALFORMED;

	q->busy = false;
	if (rc == 0 && h->status == 200 && w->connected)
		err = docker_list_read(queue_span(&q->body), listed_one, w);
	queue_done(&q->body);
	if (!w->connected)
		return;
	if (err != E_OK) {
		log_warn("docker", "cannot list the containers, connecting again",
		    KV_NUM("status", h->status), KV_ERR(rc < 0 ? rc : (int)err));
		start_over(w, -EPROTO);
		return;
	}
	drop_unlisted(w);
	w->listed = true;
	w->retry_ms = w->conf.retry_ms;
	w->last_rc = 0;
	log_info("docker", "watching", KV_STR("socket", w->conf.socket),
	    KV_NUM("containers", w->containers.n));
	pump(w);
}

static const struct http_ops list_ops = {.data = collect, .ended = list_ended};

/* --- events --------------------------------------------------------------------------------- */

static void on_event(struct watch *w, const struct docker_event *e)
{
	struct tracked *c;

	if (e->kind == DOCKER_EVENT_GONE) {
		c = find(w, e->id);
		if (c)
			untrack(w, c);
	} else if (e->kind == DOCKER_EVENT_CHANGED) {
		c = track(w, e->id);
		if (c)
			mark_dirty(w, c);
	}
}

static int subscribed(struct http_call *h, const struct http1_head *head)
{
	struct watch *w = h->ctx;

	if (head->status != 200)
		return -EPROTO;
	w->connected = true;
	for (struct map_node *node = map_walk(&w->containers, NULL); node;
	     node = map_walk(&w->containers, node))
		container_of(node, struct tracked, node)->listed = false;
	return ask(&w->list, "/containers/json", &list_ops);
}

static int events_came(struct http_call *h, struct span piece)
{
	struct watch *w = h->ctx;
	struct docker_event event;
	size_t used;
	enum err err;
	int rc = queue_put(&w->event, piece);

	if (rc < 0)
		return rc == -ENOBUFS ? -EFBIG : rc;
	while ((err = json_scan_value(&w->scan, queue_span(&w->event), &used)) == E_OK) {
		err = docker_event_read(span_first(queue_span(&w->event), used), &event);
		queue_take(&w->event, used);
		if (err != E_OK)
			return -EPROTO;
		on_event(w, &event);
	}
	pump(w);
	if (err != E_MORE)
		return -EPROTO;
	return w->event.n > w->conf.event_bytes ? -EFBIG : 0;
}

static void wait_and_connect(struct watch *w, int rc)
{
	if (rc != w->last_rc)
		log_info("docker", "no event stream from the engine, trying again",
		    KV_STR("socket", w->conf.socket), KV_ERR(rc));
	w->last_rc = rc;
	timer_in(&w->retry, w->retry_ms * NS_PER_MS);
	if (rc != -ENOENT) /* an engine that is not there yet is asked for at an even pace */
		w->retry_ms = w->retry_ms * 3 / 2 < w->conf.retry_max_ms ? w->retry_ms * 3 / 2
									 : w->conf.retry_max_ms;
}

static void events_ended(struct http_call *h, int rc)
{
	struct watch *w = h->ctx;
	struct link *node;

	w->connected = w->listed = false;
	queue_done(&w->event);
	w->scan = (struct json_scan){0};
	while ((node = list_first(&w->dirty)))
		list_remove(node); /* the next listing marks them again */
	http_cancel(&w->list.call, -ECANCELED);
	for (size_t i = 0; i < w->conf.inspects; i++) {
		w->inspects[i].container = NULL;
		http_cancel(&w->inspects[i].question.call, -ECANCELED);
	}
	wait_and_connect(w, rc == 0 ? -ECONNRESET : rc);
}

static const struct http_ops events_ops = {
    .head = subscribed, .data = events_came, .ended = events_ended};

/* The engine sends the head a moment before it collects events; `since` has it send again what
 * happened between. An event that comes twice does no harm. */
static void write_events_target(struct wr *w)
{
	wr_str(w, "/events?" EVENTS_FILTER "&since=");
	wr_dec(w, (uint64_t)(clock_real_ns() / (int64_t)NS_PER_SEC) - 1);
	wr_nul(w);
}

static void connect_events(struct timer *t)
{
	struct watch *w = container_of(t, struct watch, retry);
	char target[128];
	struct wr text = wr_of(target, sizeof target);
	const struct http_request request = {
	    .method = "GET",
	    .target = target,
	    .head_timeout_ms = w->conf.answer_ms,
	};
	int rc;

	write_events_target(&text);
	w->events.ctx = w;
	rc = http_start(&w->events, w->loop, &w->addr, &request, &events_ops);
	if (rc < 0)
		wait_and_connect(w, rc);
}

/* --- life ----------------------------------------------------------------------------------- */

struct watch *watch_new(struct loop *l, struct registry *r, const struct watch_conf *conf)
{
	struct watch *w = calloc(1, sizeof *w + conf->inspects * sizeof w->inspects[0]);

	if (!w || addr_unix(conf->socket, &w->addr) != E_OK ||
	    map_init(&w->containers, conf->max_containers, conf->seed) < 0) {
		free(w);
		return NULL;
	}
	w->loop = l;
	w->registry = r;
	w->conf = *conf;
	w->retry_ms = conf->retry_ms;
	list_init(&w->dirty);
	list_init(&w->failed);
	timer_init(&w->again, l, inspect_again);
	/* One read may hold many events: they are taken out before the limit counts. */
	queue_init(&w->event, conf->event_bytes + CONN_READ_BYTES, NULL);
	w->list.watch = w;
	queue_init(&w->list.body, conf->answer_bytes, NULL);
	for (size_t i = 0; i < w->conf.inspects; i++) {
		w->inspects[i].question.watch = w;
		queue_init(&w->inspects[i].question.body, conf->answer_bytes, NULL);
	}
	timer_init(&w->retry, l, connect_events);
	timer_in(&w->retry, 0);
	return w;
}

void watch_free(struct watch *w)
{
	struct map_node *node;

	if (!w)
		return;
	http_cancel(&w->events, -ECANCELED);
	loop_bury(w->loop); /* ends the stream, and with it the other calls */
	timer_at(&w->retry, 0);
	timer_at(&w->again, 0);
	while ((node = map_walk(&w->containers, NULL))) {
		map_remove(&w->containers, node);
		free(container_of(node, struct tracked, node));
	}
	map_done(&w->containers);
	free(w);
}

size_t watch_containers(const struct watch *w)
{
	return w->containers.n;
}

bool watch_synced(const struct watch *w)
{
	if (!w->listed || !list_empty(&w->dirty) || !list_empty(&w->failed))
		return false;
	for (size_t i = 0; i < w->conf.inspects; i++)
		if (w->inspects[i].question.busy)
			return false;
	return true;
}
