/* fair.h - those who wait, each counted to its source address, so that a crowd from one address is
 * thinned out before anybody else has to give way.
 *
 * The sources are ranked by how many wait for each: joining, leaving and finding the one to give
 * way take the same short time however many there are. */
#ifndef NAMES_FAIR_H
#define NAMES_FAIR_H

#include "base/ip.h"
#include "base/list.h"
#include "base/map.h"

/* Embedded in what waits, which stays the caller's. */
struct fair_waiter {
	struct link link;
	struct fair_source *source;
};

struct fair {
	struct map sources;
	struct link *ranks; /* [i]: sources that i + 1 wait for; begun when first used */
	size_t most;        /* that wait for one source; 0: nobody waits */
	size_t n, max;      /* that wait, and may */
};

/* For `max` at a time, at least 1. 0 or -ENOMEM. */
int fair_init(struct fair *f, size_t max, const uint64_t seed[2]);

/* Forgets all that wait. */
void fair_done(struct fair *f);

/* False, with nothing done, over the limit or without memory. */
bool fair_join(struct fair *f, const struct ip *ip, struct fair_waiter *w);

/* Takes out one that waits. */
void fair_leave(struct fair *f, struct fair_waiter *w);

/* The one to give way: of the source that most wait for, the one that has waited longest; of
 * several such sources, the one that has had so many for longest. NULL when nobody waits. */
struct fair_waiter *fair_first(const struct fair *f);

#endif
