/* dhcp_client.h - a DHCP client for one interface: gets a lease, and keeps it.
 *
 * RFC 2131 section 4.4 as a table of states and events, on the loop. It never waits, never gives
 * up, and survives every failure of its sockets: the next try opens them anew. It changes nothing
 * of the interface: its owner does, told by two callbacks. It logs as "dhcp".
 *
 * Where it goes its own way:
 * - The first message goes out at once instead of after 1 to 10 s, and is repeated after 1, 2, 4, …
 *   64 s, each give or take a quarter but no more than 1 s, instead of from 4 s on: a machine that
 * is being waited for asks few servers.
 * - The first offer is taken.
 * - The address is not probed by ARP (RFC 5227) before use: the server of a virtual network knows
 * who has which.
 * - A lease begins when the last request before its ACK was sent. The clock is CLOCK_MONOTONIC:
 *   stepping the time of day moves nothing. */
#ifndef INIT_DHCP_CLIENT_H
#define INIT_DHCP_CLIENT_H

#include "codec/dhcp.h"
#include "sys/loop.h"

struct dhcp_client;

/* Called from the loop, never from inside a function below. The client may be freed from inside. */
struct dhcp_ops {
	/* There is a lease: new, renewed or changed, in its address or anything else. The interface
	 * is to be made so, also when it is already. *lease lives as dhcp_client_lease() says. */
	void (*bound)(void *ctx, const struct dhcp_lease *lease);

	/* The lease ran out or was refused: its address, *lease, has to go at once. The client goes
	 * on asking for another. *lease is valid during the call only. */
	void (*lost)(void *ctx, const struct dhcp_lease *lease);
};

struct dhcp_conf {
	int ifindex;
	const char *ifname; /* for the log; copied */
	uint8_t mac[DHCP_MAC_BYTES];
	const char *hostname; /* told to servers; copied. NULL, or no legal name: not told */
	struct ip address;    /* to ask for again (INIT-REBOOT); family 0 = none */
	const struct dhcp_ops *ops;
	void *ctx; /* for ops */

	uint64_t retry_ms, retry_max_ms; /* first and longest wait for an answer (1 s, 64 s) */
	uint64_t renew_retry_ms; /* shortest wait when a renewal is not answered (60 s); an eighth
				  * of the lease where that is less */
	uint32_t min_lease_secs; /* shorter leases are refused (2, and no less) */
	uint32_t max_lease_secs; /* longer ones are taken for this long (DHCP_INFINITE_SECS) */
};

/* Starts to ask in the loop's next turn. The link is taken to be up. NULL without memory. */
struct dhcp_client *dhcp_client_new(struct loop *l, const struct dhcp_conf *conf);

/* Ends it; no callback runs any more. With `release` the server is told, once and without waiting,
 * that the address is free: before the interface loses it. Its memory goes at the end of the
 * loop's turn at the latest. NULL is left alone. */
void dhcp_client_free(struct dhcp_client *c, bool release);

/* The link went down or came up; to be told of changes only. While it is down nothing is sent, and
 * a lease goes on until it ends. Once it is up again a lease is confirmed at once (INIT-REBOOT),
 * for the network may be another; without one the client asks at once. */
void dhcp_client_link(struct dhcp_client *c, bool up);

/* The lease that is in force, with T1 and T2 as the client keeps them, or NULL. The view lives
 * until the loop's next turn. */
const struct dhcp_lease *dhcp_client_lease(const struct dhcp_client *c);

#endif
