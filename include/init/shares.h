/* shares.h - directories of the host (virtiofs), and Rosetta, which comes as one.
 *
 * A share whose host hangs would hang whoever touches it: each is mounted by a worker. One that the
 * host does not offer is no more than a debug line. */
#ifndef INIT_SHARES_H
#define INIT_SHARES_H

#include "sys/child.h"

enum { SHARES = 4 };

struct shares;

/* All that could be mounted is, or was given up. */
typedef void shares_fn(struct shares *s);

struct share {
	const struct share_row *row;
	struct shares *shares;
	struct worker worker;
};

/* Memory owned by the caller; in place until fn was called or shares_cancel. */
struct shares {
	shares_fn *fn;
	struct share share[SHARES];
	unsigned left; /* workers that have not ended */
};

/* Mounts the standard shares, and the guest's own ones when `all`; each may take timeout_ms. fn is
 * called once, perhaps before this returns. */
void shares_mount(struct shares *s, struct reaper *r, bool all, uint64_t timeout_ms, shares_fn *fn);

void shares_cancel(struct shares *s);

#endif
