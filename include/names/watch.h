/* watch.h - the Docker watcher: keeps the registry equal to what the Docker engine says.
 *
 * First the event stream is opened, then the running containers are listed and each is inspected,
 * then events are applied: nothing falls between. An event only marks its container; however many
 * events come, a container is inspected once more after the last of them. After every reconnect the
 * listing is the truth; until then, what was known stays. */
#ifndef NAMES_WATCH_H
#define NAMES_WATCH_H

#include "names/registry.h"
#include "sys/loop.h"

struct watch;

struct watch_conf {
	const char *socket;    /* path of the engine's API; lives as long as the watcher */
	size_t max_containers; /* that are watched; further ones get no names */
	size_t inspects;       /* containers that are looked at at once */
	size_t event_bytes, answer_bytes; /* one event; a list or the details of a container */
	uint64_t answer_ms;               /* for an answer, and for the head of the event stream */
	uint64_t retry_ms, retry_max_ms;  /* first and longest wait before connecting again */
	uint64_t seed[2];                 /* random, for the hash map */
};

/* Starts to watch, now or as soon as the engine is there. The registry must outlive it. `conf` is
 * copied. NULL without memory. */
struct watch *watch_new(struct loop *l, struct registry *r, const struct watch_conf *conf);

/* Stops, and leaves the registry as it is. Between turns of the loop only. NULL is left alone. */
void watch_free(struct watch *w);

/* Containers that are known, and whether the registry is up to date with the engine. */
size_t watch_containers(const struct watch *w);
bool watch_synced(const struct watch *w);

#endif
