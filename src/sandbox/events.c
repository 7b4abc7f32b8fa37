#include "sandbox/events.h"

#include "base/cursor.h"
#include "sys/clock.h"

#include <errno.h>
#include <stdlib.h>

static struct subscriber *subscriber_of(struct link *l)
{
	return container_of(l, struct subscriber, link);
}

static struct event **slot(const struct events *e, uint64_t number)
{
	return &e->ring[number % e->size];
}

static bool is_wanted(const struct subscriber *s, const struct event *event)
{
	return (!s->id[0] || strcmp(s->id, event->id) == 0) &&
	    (!s->action[0] || strcmp(s->action, event->action) == 0);
}

/* --- the ring --------------------------------------------------------------------------------- */

int events_init(struct events *e, struct loop *l, size_t max_events, unsigned max_subscribers)
{
	*e = (struct events){.loop = l, .max_subscribers = max_subscribers, .size = max_events};
	list_init(&e->subscribers);
	e->ring = calloc(max_events, sizeof(struct event *));
	return e->ring ? 0 : -ENOMEM;
}

void events_done(struct events *e)
{
	for (size_t i = 0; e->ring && i < e->size; i++)
		free(e->ring[i]);
	free(e->ring);
	e->ring = NULL;
}

/* Nobody will read this event any more: it makes room for the next. */
static void overtake(struct events *e)
{
	uint64_t oldest = e->next - e->size; /* wraps before there are as many, and is nobody's */
	struct event **oldest_slot = slot(e, e->next);

	for (struct link *l = e->subscribers.next; l != &e->subscribers; l = l->next) {
		struct subscriber *s = subscriber_of(l);

		if (s->next != oldest)
			continue;
		if (!*oldest_slot || is_wanted(s, *oldest_slot))
			s->missed++;
		s->next++;
	}
	free(*oldest_slot);
	*oldest_slot = NULL;
}

static void copy_value(struct event *event, const char *value)
{
	struct wr w = wr_of(event->value, sizeof event->value - 1);

	wr_plain(&w, span_str(value));
	event->value[w.n] = '\0';
}

static struct event *event_new(
    const char *id, const char *action, const char *key, const char *value)
{
	struct event *event = calloc(1, sizeof *event);

	if (!event)
		return NULL;
	event->at_ns = clock_real_ns();
	event->action = action;
	event->key = key;
	span_to_cstr(span_str(id), event->id, sizeof event->id);
	if (key)
		copy_value(event, value);
	return event;
}

static void wake(struct events *e, struct subscriber *s)
{
	if (!s->idle)
		return;
	s->idle = false;
	task_defer(e->loop, &s->wake);
}

void events_publish(
    struct events *e, const char *id, const char *action, const char *key, const char *value)
{
	struct event *event;

	if (list_empty(&e->subscribers))
		return;
	event = event_new(id, action, key, value);
	overtake(e);
	*slot(e, e->next++) = event;
	for (struct link *l = e->subscribers.next; l != &e->subscribers; l = l->next)
		if (!event || is_wanted(subscriber_of(l), event))
			wake(e, subscriber_of(l));
}

/* --- subscribers ------------------------------------------------------------------------------ */

static void woken(struct task *t)
{
	struct subscriber *s = container_of(t, struct subscriber, wake);

	s->fn(s);
}

int events_subscribe(struct events *e, struct subscriber *s, struct span id, struct span action,
    events_fn *fn, void *ctx)
{
	if (e->n_subscribers == e->max_subscribers)
		return -EAGAIN;
	*s = (struct subscriber){
	    .fn = fn,
	    .ctx = ctx,
	    .events = e,
	    .wake = {.fn = woken},
	    .idle = true,
	    .next = e->next,
	};
	/* What no event can have must not turn into "all". */
	if (!span_to_cstr(id, s->id, sizeof s->id))
		memcpy(s->id, "/", sizeof "/");
	if (!span_to_cstr(action, s->action, sizeof s->action))
		memcpy(s->action, "/", sizeof "/");
	list_append(&e->subscribers, &s->link);
	e->n_subscribers++;
	return 0;
}

/* What is left in the ring was for subscribers that are gone. */
static void forget_all(struct events *e)
{
	for (size_t i = 0; i < e->size; i++) {
		free(e->ring[i]);
		e->ring[i] = NULL;
	}
}

void events_unsubscribe(struct subscriber *s)
{
	struct events *e = s->events;

	if (!e)
		return;
	s->events = NULL;
	task_cancel(&s->wake);
	list_remove(&s->link);
	e->n_subscribers--;
	if (e->n_subscribers == 0)
		forget_all(e);
}

/* The event that stands for those that were missed. */
static void tell_missed(struct subscriber *s, struct event *out)
{
	struct wr w = wr_of(out->value, sizeof out->value);

	*out = (struct event){.at_ns = clock_real_ns(), .action = EVENTS_LAGGED, .key = "missed"};
	wr_dec(&w, s->missed);
	wr_nul(&w);
	s->missed = 0;
}

bool events_next(struct subscriber *s, struct event *out)
{
	const struct event *event;

	for (; s->events && s->next < s->events->next; s->next++) {
		if (s->missed)
			break;
		event = *slot(s->events, s->next);
		if (!event) {
			s->missed++;
		} else if (is_wanted(s, event)) {
			*out = *event;
			s->next++;
			return true;
		}
	}
	if (!s->missed) {
		s->idle = true;
		return false;
	}
	tell_missed(s, out);
	return true;
}
