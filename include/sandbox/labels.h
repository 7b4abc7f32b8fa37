/* labels.h - what people stick on sandboxes and snapshots: keys and values, to find them by. */
#ifndef SANDBOX_LABELS_H
#define SANDBOX_LABELS_H

#include "base/span.h"

enum {
	LABELS_MAX = 64,      /* of one thing */
	LABELS_BYTES = 16384, /* all its keys and values together */
};

/* A view. */
struct label {
	struct span key, value;
};

/* A list of them. One that labels_copy() made is freed by labels_done(), others are views. */
struct labels {
	const struct label *items;
	size_t n;
};

/* Copies a list, texts and all, in the same order. 0; -E2BIG over a limit; or -ENOMEM. */
int labels_copy(struct labels *out, struct labels from);
void labels_done(struct labels *l);

/* Whether each of `wanted` is among `have`, with the same value. */
bool labels_match(struct labels have, struct labels wanted);

#endif
