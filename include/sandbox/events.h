/* events.h - what happens to sandboxes, told to whoever wants to know.
 *
 * All subscribers share one ring of events and read it at their own pace. One that is so slow that
 * the ring overtakes it misses events: it gets one named "lagged" in their place, which says how
 * many of those that it wanted they were. It delays nobody, and costs no memory. */
#ifndef SANDBOX_EVENTS_H
#define SANDBOX_EVENTS_H

#include "base/list.h"
#include "base/span.h"
#include "sandbox/id.h"
#include "sys/loop.h"

enum { EVENTS_ACTION_BYTES = 16, EVENTS_VALUE_BYTES = 512 };

#define EVENTS_LAGGED "lagged" /* attribute "missed"; of no sandbox */

struct event {
	int64_t at_ns;                  /* CLOCK_REALTIME */
	sandbox_id id;                  /* of the sandbox */
	const char *action;             /* static: "created", "ready", … */
	const char *key;                /* of its attribute, static; NULL: it has none */
	char value[EVENTS_VALUE_BYTES]; /* of the attribute: printable ASCII */
};

struct subscriber;

/* There are events to take. Called by the loop, once until events_next() has said that there are no
 * more; may take them, and may end its own subscription. */
typedef void events_fn(struct subscriber *s);

/* Memory of the caller, in place until events_unsubscribe(). */
struct subscriber {
	events_fn *fn;
	void *ctx; /* the caller's */

	/* private */
	struct events *events;
	struct link link;
	struct task wake;
	bool idle; /* it is to be woken */
	sandbox_id id;
	char action[EVENTS_ACTION_BYTES];
	uint64_t next;   /* the number of the event that it reads next */
	uint64_t missed; /* since it was last told */
};

struct events {
	struct loop *loop;
	struct link subscribers;
	unsigned n_subscribers, max_subscribers;
	uint64_t next;       /* the number of the next event */
	size_t size;         /* of the ring */
	struct event **ring; /* event i is at i % size; those that nobody waits for may be NULL */
};

/* 0 or -ENOMEM. `max_events` is the size of the ring. */
int events_init(struct events *e, struct loop *l, size_t max_events, unsigned max_subscribers);

/* All subscriptions must have been ended. */
void events_done(struct events *e);

/* Tells of something; key and value may be NULL. Bytes of the value that are not printable ASCII
 * become '?', and it is cut where it is too long. Without memory all subscribers miss it. */
void events_publish(
    struct events *e, const char *id, const char *action, const char *key, const char *value);

/* From now on; only events of this sandbox and with this action, empty: of all. 0; -EAGAIN: there
 * are too many subscribers. A filter that nothing can match is fine. */
int events_subscribe(struct events *e, struct subscriber *s, struct span id, struct span action,
    events_fn *fn, void *ctx);

/* One that is not subscribed (zeroed) is left alone. */
void events_unsubscribe(struct subscriber *s);

/* Takes the next event; false when there is none yet. */
bool events_next(struct subscriber *s, struct event *out);

#endif
