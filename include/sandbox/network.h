/* network.h - the network of the sandboxes: a subnet whose addresses they get, and for each a TAP
 * device, which is a point-to-point link between the gateway, here, and the sandbox. */
#ifndef SANDBOX_NETWORK_H
#define SANDBOX_NETWORK_H

#include "base/cursor.h"
#include "base/ip.h"
#include "sys/netlink.h"

/* --- addresses -------------------------------------------------------------------------------- */

/* IPv4. */
struct cidr {
	struct ip network; /* its host bits are 0 */
	uint8_t prefix;    /* bits, 1 to 30 */
};

/* Reads ADDR/PREFIX; host bits of ADDR are dropped. E_MALFORMED, or E_RANGE for the prefix. */
enum err cidr_parse(struct span text, struct cidr *out);

/* The address at that offset from the network's own. */
struct ip cidr_at(const struct cidr *c, uint32_t offset);

/* Whether a machine in it may have this address: not the network's own, not the broadcast. */
bool cidr_has_host(const struct cidr *c, const struct ip *ip);

enum {
	SUBNET_FIRST = 2,   /* the first offset that is given out */
	SUBNET_SIZE = 4096, /* how many are looked at, however large the subnet is. TAP devices are
			     * named after the last two bytes, which differ among so few. */
};

/* Which addresses are taken. */
struct subnet {
	struct cidr cidr;
	struct ip gateway;
	uint64_t taken[SUBNET_SIZE / 64];
};

void subnet_init(struct subnet *s, const struct cidr *cidr, const struct ip *gateway);

/* Takes the lowest free address. 0, or -EAGAIN when there is none. */
int subnet_take(struct subnet *s, struct ip *out);

/* Takes this one. 0, or -EADDRINUSE when it is taken, or none that is given out. */
int subnet_take_at(struct subnet *s, const struct ip *ip);

/* Gives one back. */
void subnet_give(struct subnet *s, const struct ip *ip);

/* --- links ------------------------------------------------------------------------------------ */

#define NIC_TAP_PREFIX "vmtap"

enum { NIC_MAC_TEXT_BYTES = 18 };

/* What a sandbox has of the network. */
struct nic {
	struct ip ip; /* the sandbox's; family 0: none */
	char tap[NETLINK_NAME_BYTES];
	uint8_t mac[6]; /* of the sandbox's end */
};

/* Takes an address and sets up a TAP device for it: gateway here, the address there, up. The same
 * `id` always gets the same MAC. 0, -EAGAIN without a free address, or -errno; nothing is left of
 * it then. A device of that name, left by who knows whom, is replaced. */
int nic_attach(struct nic *nic, struct subnet *s, struct netlink *n, struct span id);

/* The same with this address; as subnet_take_at(). */
int nic_attach_at(
    struct nic *nic, struct subnet *s, struct netlink *n, struct span id, const struct ip *ip);

/* Removes the device. The kernel may take tens of ms for each, so this is for a worker, and over a
 * socket of its own. 0 or -errno. */
int nic_unplug(const struct nic *nic);

/* Gives the address back, once its device is gone: there is none in *nic then. */
void nic_release(struct nic *nic, struct subnet *s);

/* Removes the TAP devices that an earlier process left: as tap_remove_all(), and likewise for a
 * worker. */
int nic_clean(unsigned *removed);

/* The MAC as "02:…". */
void nic_mac_text(const struct nic *nic, char out[NIC_MAC_TEXT_BYTES]);

/* Appends the word of a kernel's command line that configures eth0
 * (Documentation/admin-guide/nfs/nfsroot.rst). Errors stick in `w`. */
void nic_boot_word(const struct nic *nic, const struct subnet *s, struct wr *w);

#endif
