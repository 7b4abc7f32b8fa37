/* delivery.h - packets to the guest: fills the buffers of its receive queue. */
#ifndef BRIDGE_DELIVERY_H
#define BRIDGE_DELIVERY_H

#include "packet.h"
#include "ring.h"

#include <sys/types.h>

/* Sends a packet without payload. 0, or -ENOBUFS when the guest has no buffer to put it in. */
int delivery_send(struct ring *rx, struct packet *p);

/* Reads up to `bytes`, not 0, from a socket straight into as many buffers as the guest has for
 * them, each with the header *p. What readv(2) gave: the number of bytes, 0 at the end of the
 * stream, or -errno; or -ENOBUFS when the guest has no buffer, and nothing was read. */
ssize_t delivery_read(struct ring *rx, struct packet *p, int fd, size_t bytes);

#endif
