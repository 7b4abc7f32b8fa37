#include "sys/tap.h"

#include "base/span.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/if.h>
#include <linux/if_tun.h>

static const char tun_path[] = "/dev/net/tun";

int tap_create(const char *name)
{
	struct ifreq req = {
	    .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL)};
	int fd;
	int rc = 0;

	if (!span_to_cstr(span_str(name), req.ifr_name, sizeof req.ifr_name))
		return -ENAMETOOLONG;
	fd = open(tun_path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* Until it is persistent, the device goes when fd is closed. */
	if (ioctl(fd, TUNSETIFF, &req) < 0 || ioctl(fd, TUNSETPERSIST, 1) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

/* Through netlink, since TUNSETIFF would refuse while somebody else has the device open. */
struct removal {
	struct netlink *netlink;
	struct span name; /* or what it begins with */
	bool prefix;
	unsigned removed;
	int rc; /* of the first failure */
};

static void remove_link(void *ctx, const struct netlink_link *link)
{
	struct removal *r = ctx;
	struct span name = span_str(link->name);
	bool wanted = r->prefix ? span_starts(name, r->name) : span_eq(name, r->name);
	int rc = -EINVAL;

	if (!wanted)
		return;
	if (span_eq_str(span_str(link->kind), "tun"))
		rc = netlink_link_del(r->netlink, link->index);
	else if (r->prefix)
		return;
	if (rc == 0)
		r->removed++;
	else if (r->rc == 0)
		r->rc = rc;
}

static int remove_links(struct removal *r)
{
	int rc = netlink_links(r->netlink, remove_link, r);
	return rc < 0 ? rc : r->rc;
}

int tap_remove(struct netlink *n, const char *name)
{
	struct removal r = {.netlink = n, .name = span_str(name)};
	return remove_links(&r);
}

int tap_remove_all(struct netlink *n, const char *prefix, unsigned *removed)
{
	struct removal r = {.netlink = n, .name = span_str(prefix), .prefix = true};
	int rc = remove_links(&r);

	*removed = r.removed;
	return rc;
}
