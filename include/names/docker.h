/* docker.h - what the Docker watcher reads of the engine's JSON (Docker Engine API 1.41): events,
 * the list of containers, and the details of one. No I/O. */
#ifndef NAMES_DOCKER_H
#define NAMES_DOCKER_H

#include "base/ip.h"
#include "base/span.h"

enum {
	DOCKER_ID_BYTES = 65,      /* 64 hex digits and a NUL */
	DOCKER_NAMES = 64,         /* names of one container that are looked at */
	DOCKER_ADDRS = 64,         /* addresses likewise */
	DOCKER_TEXT_BYTES = 16384, /* room for the names' text */
};

/* An event, as far as it matters for names. */
struct docker_event {
	enum docker_event_kind {
		DOCKER_EVENT_OTHER,   /* changes no name */
		DOCKER_EVENT_CHANGED, /* the container has to be looked at */
		DOCKER_EVENT_GONE,    /* the container has no addresses any more */
	} kind;
	char id[DOCKER_ID_BYTES]; /* of the container; "" for DOCKER_EVENT_OTHER */
};

/* Reads one event of GET /events. Errors are those of the JSON reader; *out is written on success.
 */
enum err docker_event_read(struct span text, struct docker_event *out);

/* Calls fn for the id of each container in an answer to GET /containers/json, in its order. An id
 * that is none is passed over. Errors are those of the JSON reader; fn may have been called before.
 */
enum err docker_list_read(struct span text, void (*fn)(void *ctx, const char *id), void *ctx);

/* A container as GET /containers/ID/json tells of it. Large: keep it off the stack. */
struct docker_container {
	bool running;                    /* paused counts */
	struct span names[DOCKER_NAMES]; /* views of `text` */
	size_t n_names;
	struct ip addrs[DOCKER_ADDRS];
	size_t n_addrs;
	size_t text_bytes;
	uint8_t text[DOCKER_TEXT_BYTES];
};

/* Names are the aliases that its networks give the container, but for its own id; its own name; and
 * `service.project` when it has both Compose labels. What does not fit is left out. *out is valid
 * on success only. */
enum err docker_container_read(struct span text, struct docker_container *out);

#endif
