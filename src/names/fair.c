#include "names/fair.h"

#include <errno.h>
#include <stdlib.h>

struct fair_source {
	struct map_node node;
	struct link link;    /* on its rank */
	struct link waiters; /* the one that waits longest comes first; never empty */
	size_t n;
	struct ip ip;
};

int fair_init(struct fair *f, size_t max, const uint64_t seed[2])
{
	struct link *ranks = calloc(max, sizeof *ranks);
	struct map sources;

	if (!ranks || map_init(&sources, max, seed) < 0) {
		free(ranks);
		return -ENOMEM;
	}
	*f = (struct fair){.sources = sources, .ranks = ranks, .max = max};
	return 0;
}

void fair_done(struct fair *f)
{
	struct fair_waiter *w;

	while ((w = fair_first(f)))
		fair_leave(f, w);
	map_done(&f->sources);
	free(f->ranks);
	*f = (struct fair){0};
}

/* --- sources --------------------------------------------------------------------------------- */

static uint64_t hash_of(const struct fair *f, const struct ip *ip)
{
	return map_hash(&f->sources, ip_bytes(ip));
}

static struct fair_source *source_find(const struct fair *f, const struct ip *ip, uint64_t hash)
{
	struct map_node *node = map_first(&f->sources, hash);

	for (; node; node = map_next(node)) {
		struct fair_source *s = container_of(node, struct fair_source, node);

		if (ip_eq(&s->ip, ip))
			return s;
	}
	return NULL;
}

/* One that nobody waits for yet; NULL without memory. */
static struct fair_source *source_new(struct fair *f, const struct ip *ip, uint64_t hash)
{
	struct fair_source *s = malloc(sizeof *s);

	if (!s)
		return NULL;
	*s = (struct fair_source){.ip = *ip};
	list_init(&s->link);
	list_init(&s->waiters);
	map_add(&f->sources, &s->node, hash);
	return s;
}

static void source_free(struct fair *f, struct fair_source *s)
{
	map_remove(&f->sources, &s->node);
	free(s);
}

static struct link *rank_of(struct fair *f, size_t n)
{
	struct link *rank = &f->ranks[n - 1];

	if (!rank->next)
		list_init(rank);
	return rank;
}

/* Moves a source that one more or one less waits for now. */
static void source_rank(struct fair *f, struct fair_source *s, size_t n)
{
	list_remove(&s->link);
	if (n > 0)
		list_append(rank_of(f, n), &s->link);
	s->n = n;
	if (n > f->most)
		f->most = n;
	else if (list_empty(rank_of(f, f->most)))
		f->most--; /* to where this one is now */
}

/* --- those who wait -------------------------------------------------------------------------- */

bool fair_join(struct fair *f, const struct ip *ip, struct fair_waiter *w)
{
	uint64_t hash = hash_of(f, ip);
	struct fair_source *s;

	if (f->n >= f->max)
		return false;
	s = source_find(f, ip, hash);
	if (!s)
		s = source_new(f, ip, hash);
	if (!s)
		return false;
	w->source = s;
	list_append(&s->waiters, &w->link);
	source_rank(f, s, s->n + 1);
	f->n++;
	return true;
}

void fair_leave(struct fair *f, struct fair_waiter *w)
{
	struct fair_source *s = w->source;

	list_remove(&w->link);
	source_rank(f, s, s->n - 1);
	f->n--;
	if (s->n == 0)
		source_free(f, s);
}

struct fair_waiter *fair_first(const struct fair *f)
{
	struct fair_source *s;

	if (f->most == 0)
		return NULL;
	s = container_of(list_first(&f->ranks[f->most - 1]), struct fair_source, link);
	return container_of(list_first(&s->waiters), struct fair_waiter, link);
}
