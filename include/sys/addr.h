/* addr.h - socket addresses of the kinds the agent speaks, and their text. */
#ifndef SYS_ADDR_H
#define SYS_ADDR_H

#include "base/ip.h"
#include "base/span.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <linux/vm_sockets.h>

struct addr {
	socklen_t len;    /* 0 = none */
	const char *root; /* of a unix socket to connect to: the path is that in this directory, and
			   * no symbolic link leads out of it; NULL: anywhere */
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
		struct sockaddr_vm vm;
	} u;
};

/* AF_UNSPEC for none. */
static inline int addr_family(const struct addr *a)
{
	return a->len ? a->u.sa.sa_family : AF_UNSPEC;
}

enum { ADDR_TEXT_BYTES = 128 };

/* Parses `vsock:PORT` (any CID, for a listener), `vsock:CID:PORT`, `unix:PATH`, `tcp:ADDR:PORT`
 * (ADDR a literal, IPv6 in brackets). Port 0 lets the kernel choose. E_MALFORMED, E_RANGE (port or
 * CID) or E_LIMIT (path over sun_path). */
enum err addr_parse(struct span text, struct addr *out);

/* Parses `ADDR:PORT` or `[ADDR6]:PORT`; with default_port not 0 `:PORT` may be left out. Errors
 * likewise. */
enum err addr_parse_inet(struct span text, uint16_t default_port, struct addr *out);

/* The text of an address in the form that addr_parse takes (inet is always `tcp:`), "none" for
 * none; bytes of a unix path stay as they are. Returns buf, which always ends with NUL. */
const char *addr_text(const struct addr *a, char buf[ADDR_TEXT_BYTES]);

/* The address of a unix socket. E_MALFORMED for an empty path, E_LIMIT for one over sun_path. */
enum err addr_unix(const char *path, struct addr *out);

void addr_from_ip(const struct ip *ip, uint16_t port, struct addr *out);
bool addr_to_ip(const struct addr *a, struct ip *out); /* false when it is not inet */
uint16_t addr_port(const struct addr *a);              /* 0 when it has none */
bool addr_eq(const struct addr *a, const struct addr *b);

#endif
