/* dhcp.h - DHCPv4 messages as a client sees them: requests written, replies read.
 *
 * RFC 2131 (messages), 2132 (options), 3396 (options in several pieces), 3442 (classless routes),
 * 6842 (the client identifier comes back). A message is what a UDP datagram holds.
 *
 * A reply that breaks the format is refused as a whole. A value that is well-formed but of no use
 * (a name that is none, a router at 0.0.0.0, an MTU under 68) is left out instead: it shall not
 * cost the machine its network. */
#ifndef CODEC_DHCP_H
#define CODEC_DHCP_H

#include "base/cursor.h"
#include "base/hostname.h"
#include "base/ip.h"

enum {
	DHCP_SERVER_PORT = 67,
	DHCP_CLIENT_PORT = 68,
	DHCP_MAC_BYTES = 6,          /* Ethernet is the one kind of hardware */
	DHCP_MESSAGE_BYTES = 1472,   /* the longest that is read: what a frame holds */
	DHCP_REQUEST_BYTES = 400,    /* room for any request */
	DHCP_DOMAIN_BYTES = 253 + 1, /* RFC 1035 section 2.3.4 as text, and the NUL */
	DHCP_ROUTERS = 4,            /* of these and the next two, further ones are left out */
	DHCP_DNS_SERVERS = 4,
	DHCP_ROUTES = 16,
};

#define DHCP_INFINITE_SECS 0xffffffffu /* a lease that does not end */

/* A way to a network; `via` 0.0.0.0 says that it is on the link itself. */
struct dhcp_route {
	struct ip to;   /* the bits behind the prefix are 0 */
	uint8_t prefix; /* 1 to 32 */
	struct ip via;
};

/* What a server lends and tells. Plain values, no views. All addresses are IPv4 and unicast. */
struct dhcp_lease {
	struct ip address;
	uint8_t prefix;   /* 1 to 32: the mask sent, or that of the address's class without one */
	struct ip server; /* its identifier, and where it takes renewals */

	/* Default routes, best first: those among the classless routes when these were sent, which
	 * overrule the router option (RFC 3442). One that is not within the prefix has to be given
	 * a route on the link. */
	struct ip routers[DHCP_ROUTERS];
	size_t n_routers;
	struct dhcp_route routes[DHCP_ROUTES]; /* but the default routes */
	size_t n_routes;

	struct ip dns[DHCP_DNS_SERVERS];
	size_t n_dns;
	uint16_t mtu; /* 68 or more; 0 = not told */

	/* Legal names (base/hostname.h) as C strings, empty when not told. */
	char hostname[HOSTNAME_BYTES + 1];
	char domain[DHCP_DOMAIN_BYTES];

	/* From the start of the lease: its end, when to renew it (T1) and when to ask any server
	 * (T2). As read, T1 and T2 are 0 when not told, and not checked against each other. */
	uint32_t lease_secs, renew_secs, rebind_secs;
	uint64_t bound_ns; /* the start of the lease, CLOCK_MONOTONIC: for the client to fill in */
};

enum dhcp_type {
	DHCP_DISCOVER = 1,
	DHCP_OFFER = 2,
	DHCP_REQUEST = 3,
	DHCP_ACK = 5,
	DHCP_NAK = 6,
	DHCP_RELEASE = 7,
};

struct dhcp_reply {
	enum dhcp_type type;     /* DHCP_OFFER, DHCP_ACK or DHCP_NAK */
	struct dhcp_lease lease; /* of a NAK, the server alone is set */
};

/* Reads a server's message to the client with this xid and hardware address. E_UNKNOWN when it is
 * for somebody else: not a reply, another xid, hardware address or client identifier, or a type
 * that servers do not send. E_LIMIT over DHCP_MESSAGE_BYTES. E_MALFORMED for anything that the
 * format forbids: no magic cookie, no end option, an option that is cut or has a length not its
 * own, no type or server, and in an OFFER or ACK no lease time, a mask with holes, or an address
 * that no host can have. */
enum err dhcp_reply_read(
    struct span message, uint32_t xid, const uint8_t mac[DHCP_MAC_BYTES], struct dhcp_reply *out);

/* What a client may say, and when (RFC 2131 section 4.3 and table 5). Which fields of the request
 * are used, and where they stand in the message, follows from the form. */
enum dhcp_form {
	DHCP_FORM_DISCOVER, /* who has an address for me? `address`, if any, is welcome again */
	DHCP_FORM_SELECT,   /* REQUEST of the `address` that this `server` offered */
	DHCP_FORM_REBOOT,   /* REQUEST: may I go on with this `address`? */
	DHCP_FORM_RENEW,    /* REQUEST to the lease's server alone, from the `address` in use */
	DHCP_FORM_REBIND,   /* the same to all servers */
	DHCP_FORM_RELEASE,  /* the `address` goes back to this `server` */
	DHCP_FORMS
};

struct dhcp_request {
	enum dhcp_form form;
	uint32_t xid;
	uint16_t secs;        /* since the client began to ask */
	const uint8_t *mac;   /* DHCP_MAC_BYTES */
	struct ip address;    /* family 0 = none, in a DISCOVER only */
	struct ip server;     /* used by SELECT and RELEASE */
	struct span hostname; /* told where it is a legal name */
};

/* Writes a request, padded to the 300 bytes that old servers and relays insist on. Answers are
 * wanted as unicast where the server can. E_SPACE in w->err. */
void dhcp_request_write(struct wr *w, const struct dhcp_request *request);

#endif
