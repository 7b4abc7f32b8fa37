/* netlink.h - links, addresses and routes of the kernel: rtnetlink(7).
 *
 * Requests are synchronous: the kernel answers within the call. Should an answer ever fail to come,
 * the call gives up after NETLINK_WAIT_MS with -ETIMEDOUT. All functions return 0 or -errno.
 * Constants (IFF_, ARPHRD_, IFA_F_, RT_SCOPE_, RTPROT_, RT_TABLE_) are those of <net/if.h>,
 * <net/if_arp.h> and <linux/rtnetlink.h>. */
#ifndef SYS_NETLINK_H
#define SYS_NETLINK_H

#include "base/ip.h"
#include "sys/loop.h"

enum {
	NETLINK_NAME_BYTES = 16,  /* IFNAMSIZ */
	NETLINK_WAIT_MS = 2000,   /* for one request */
	NETLINK_LIST_MAX = 16384, /* entries of one list; more are -E2BIG */
};

struct netlink {
	int fd;
	uint32_t port; /* our address, which the kernel's answers carry */
	uint32_t seq;  /* of the last request */
};

int netlink_open(struct netlink *n);
void netlink_close(struct netlink *n);

/* --- lists ------------------------------------------------------------------------------------ */

/* A list is complete before the first call of `fn`, which therefore may use `n`, and tell of each
 * entry once. One that the kernel changed while it was read is read again; -EAGAIN when that goes
 * on for too long. What `fn` gets is a view for the time of the call. */

struct netlink_link {
	int index;
	char name[NETLINK_NAME_BYTES];
	char kind[NETLINK_NAME_BYTES]; /* "veth", "bridge", …; empty for hardware */
	uint8_t mac[6];                /* all 0 for a link without one */
	uint16_t type;                 /* ARPHRD_ */
	uint32_t flags;                /* IFF_ */
	uint32_t mtu;                  /* bytes */
	bool carrier; /* it is up, and so is what it is plugged into (IFF_LOWER_UP) */
};

/* In order of index. */
typedef void netlink_link_fn(void *ctx, const struct netlink_link *link);
int netlink_links(struct netlink *n, netlink_link_fn *fn, void *ctx);

/* A lifetime that does not end; so it is in DHCP, too. */
#define NETLINK_FOREVER UINT32_MAX

struct netlink_addr {
	int index;           /* of the link */
	struct ip ip;        /* ours */
	struct ip peer;      /* of a point-to-point link, the other end's; family 0: none */
	uint8_t prefix;      /* bits; of the peer's address where there is one */
	uint8_t scope;       /* RT_SCOPE_ */
	uint32_t flags;      /* IFA_F_ */
	uint32_t valid_secs; /* until the kernel takes it away, or NETLINK_FOREVER; 0 is refused */
};

/* Those of one link, or of all for index 0. */
typedef void netlink_addr_fn(void *ctx, const struct netlink_addr *addr);
int netlink_addrs(struct netlink *n, int index, netlink_addr_fn *fn, void *ctx);

struct netlink_route {
	int index;        /* of the link; 0 in a list: over several */
	struct ip to;     /* 0.0.0.0 or :: with prefix 0: the default route */
	uint8_t prefix;   /* bits */
	struct ip via;    /* family 0: on-link */
	struct ip src;    /* the preferred source; family 0: none */
	uint32_t metric;  /* the lowest wins; 0 is read back as 1024 for IPv6 */
	uint8_t table;    /* RT_TABLE_; 0 in a request: main */
	uint8_t protocol; /* RTPROT_: who made it */
	uint8_t scope;    /* RT_SCOPE_ */
};

/* The unicast routes of the main table, IPv4 and IPv6. */
typedef void netlink_route_fn(void *ctx, const struct netlink_route *route);
int netlink_routes(struct netlink *n, netlink_route_fn *fn, void *ctx);

/* --- changes: what is so already is left alone ------------------------------------------------ */

int netlink_link_up(struct netlink *n, int index, bool up);
int netlink_link_mtu(struct netlink *n, int index, uint32_t mtu);

/* Removes a link that software made; -EOPNOTSUPP for another one. */
int netlink_link_del(struct netlink *n, int index);

/* Adds the address, or gives the one that is there these lifetimes. An IPv4 subnet with room for it
 * gets its broadcast address. The kernel adds the subnet's route unless IFA_F_NOPREFIXROUTE. */
int netlink_addr_set(struct netlink *n, const struct netlink_addr *a);

/* Index, ip, peer and prefix tell which. */
int netlink_addr_del(struct netlink *n, const struct netlink_addr *a);

/* Adds the route; another one to the same prefix with the same metric is replaced. */
int netlink_route_set(struct netlink *n, const struct netlink_route *route);

/* --- events ----------------------------------------------------------------------------------- */

struct netlink_watch;

/* A link that is new, was changed, or is gone. `link` is a view. */
typedef void netlink_watch_fn(struct netlink_watch *w, const struct netlink_link *link, bool gone);

/* Events came faster than they were read, and some were lost: the owner lists all links again. */
typedef void netlink_lost_fn(struct netlink_watch *w);

/* Memory of the caller, zeroed but for fn, lost (and source.done, if wanted); in place until
 * source.done. Either callback may stop the watch. */
struct netlink_watch {
	netlink_watch_fn *fn;
	netlink_lost_fn *lost;
	struct source source;
};

/* From now on tells of each change; start first, list afterwards, and nothing falls between. */
int netlink_watch_start(struct netlink_watch *w, struct loop *l);
void netlink_watch_stop(struct netlink_watch *w);

#endif
