/* network.h - the guest's network: which interfaces there are, and what they get.
 *
 * The first real interface, by name, is configured by DHCP and has the default route; a second one
 * likewise but without a default route, and it forwards for what is behind the guest. One that has
 * an address already, from the kernel's ip= or a person, is left alone. An interface that comes
 * later fills a place that is free. Nothing here is waited for. */
#ifndef INIT_NETWORK_H
#define INIT_NETWORK_H

#include "base/ip.h"
#include "sys/child.h"

struct network;

enum network_mode {
	NETWORK_WHOLE, /* bring it up, and keep it */
	NETWORK_KEEP,  /* only keep the leases that an earlier process left, see below */
};

struct network_conf {
	enum network_mode mode;
	const char *hostname;       /* NULL: that of a lease */
	const char *iptables;       /* the program; none there: no rules */
	uint64_t iptables_ms;       /* for one run of it */
	const char *sandbox_subnet; /* ADDR/PREFIX that is forwarded for */

	/* Limits of DHCP, see dhcp_client.h. */
	uint64_t retry_ms, retry_max_ms, renew_retry_ms;
	uint32_t min_lease_secs, max_lease_secs;

	/* The first interface's lease names these servers; none when it has ended. */
	void (*resolvers)(void *ctx, const struct ip *servers, size_t n);
	void *ctx;
};

/* Starts at once. Addresses that were leased are noted in /run/arcbox, so that another process can
 * keep them. `conf` is copied, what it points to is not. NULL without memory, or when there is no
 * lease to be kept; anything else that fails is logged and tried again where that can help. */
struct network *network_new(struct loop *l, struct reaper *r, const struct network_conf *conf);

/* Stops; addresses stay. Between turns of the loop only. NULL is left alone. */
void network_free(struct network *n);

/* Whether nothing is under way any more: each interface has its address, each rule is made. */
bool network_is_settled(const struct network *n);

#endif
