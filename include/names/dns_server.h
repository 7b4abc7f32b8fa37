/* dns_server.h - the DNS server: requests come by UDP and TCP, are answered from the registry, and
 * what is not ours is forwarded. */
#ifndef NAMES_DNS_SERVER_H
#define NAMES_DNS_SERVER_H

#include "names/forward.h"
#include "names/registry.h"

enum {
	DNS_SERVER_REQUEST_BYTES = 4096, /* the longest request over TCP */
	DNS_SERVER_OWED = 32, /* requests of one TCP client that are with the forwarder at once */
};

struct dns_server;

struct dns_server_conf {
	struct addr listen;   /* UDP and TCP; one that cannot be bound is tried again for ever */
	uint32_t ttl_secs;    /* of our own answers */
	int rcvbuf_bytes;     /* the UDP socket's: what a burst may hold */
	unsigned max_clients; /* over TCP; one more is closed */
	size_t max_buffered_bytes;   /* that all TCP clients let wait together */
	uint64_t idle_ms;            /* a TCP client that asks nothing for so long is closed */
	uint64_t stall_ms;           /* and one that takes nothing of its answers for so long */
	struct forward_conf forward; /* its fn and ctx are the server's own */
};

/* A server that listens, now or as soon as it can. The registry must outlive it. `conf` is copied.
 * NULL without memory. */
struct dns_server *dns_server_new(
    struct loop *l, struct registry *registry, const struct dns_server_conf *conf);

/* Closes all. Between turns of the loop only. NULL is left alone. */
void dns_server_free(struct dns_server *s);

/* The server's forwarder, for forward_set_servers(). */
struct forward *dns_server_forward(struct dns_server *s);

/* TCP clients. */
unsigned dns_server_clients(const struct dns_server *s);

#endif
