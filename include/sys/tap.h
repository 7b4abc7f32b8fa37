/* tap.h - TAP devices, as a Firecracker takes them (Documentation/networking/tuntap.rst).
 *
 * They are persistent: there until they are removed, whoever opens and closes them. A device gives
 * and takes Ethernet frames behind a virtio-net header. All functions return 0 or -errno. */
#ifndef SYS_TAP_H
#define SYS_TAP_H

#include "sys/netlink.h"

/* Makes a device, which is down and has no address. -EBUSY: there is a link of that name. */
int tap_create(const char *name);

/* Removes the device, also from under who has it open. One that is gone already is fine; -EINVAL: a
 * link of that name is no TAP device. */
int tap_remove(struct netlink *n, const char *name);

/* Removes all devices whose names begin with `prefix`, and says how many there were. It goes on
 * after a failure, and returns the first one. */
int tap_remove_all(struct netlink *n, const char *prefix, unsigned *removed);

#endif
