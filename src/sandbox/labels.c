#include "sandbox/labels.h"

#include <errno.h>
#include <stdlib.h>

/* Appends a text behind the list that it belongs to. */
static struct span keep(uint8_t **at, struct span text)
{
	struct span kept = span_of(*at, text.n);

	if (text.n)
		memcpy(*at, text.p, text.n);
	*at += text.n;
	return kept;
}

/* All texts together, or more than LABELS_BYTES. */
static size_t text_bytes(struct labels l)
{
	size_t n = 0;

	for (size_t i = 0; i < l.n; i++) {
		if (l.items[i].key.n > LABELS_BYTES || l.items[i].value.n > LABELS_BYTES)
			return LABELS_BYTES + 1;
		n += l.items[i].key.n + l.items[i].value.n;
	}
	return n;
}

int labels_copy(struct labels *out, struct labels from)
{
	struct label *items;
	size_t n_bytes;
	uint8_t *at;

	if (from.n > LABELS_MAX || (n_bytes = text_bytes(from)) > LABELS_BYTES)
		return -E2BIG;
	if (from.n == 0) {
		*out = (struct labels){NULL, 0};
		return 0;
	}
	items = malloc(from.n * sizeof *items + n_bytes);
	if (!items)
		return -ENOMEM;
	at = (uint8_t *)(items + from.n);
	for (size_t i = 0; i < from.n; i++) {
		items[i].key = keep(&at, from.items[i].key);
		items[i].value = keep(&at, from.items[i].value);
	}
	*out = (struct labels){items, from.n};
	return 0;
}

void labels_done(struct labels *l)
{
	free((void *)l->items);
	*l = (struct labels){NULL, 0};
}

static bool has(struct labels l, const struct label *wanted)
{
	for (size_t i = 0; i < l.n; i++)
		if (span_eq(l.items[i].key, wanted->key))
			return span_eq(l.items[i].value, wanted->value);
	return false;
}

bool labels_match(struct labels have, struct labels wanted)
{
	for (size_t i = 0; i < wanted.n; i++)
		if (!has(have, &wanted.items[i]))
			return false;
	return true;
}
