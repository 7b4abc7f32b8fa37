/* packet.h - the header of a virtio-vsock packet (virtio 1.2, section 5.10.6), in this machine's
 * byte order. Operations, types and flags are those of <linux/virtio_vsock.h>. */
#ifndef BRIDGE_PACKET_H
#define BRIDGE_PACKET_H

#include "base/span.h"

#include <linux/virtio_vsock.h>

enum { PACKET_BYTES = sizeof(struct virtio_vsock_hdr) };

struct packet {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port;
	uint32_t len; /* of the payload */
	uint16_t type, op;
	uint32_t flags;
	uint32_t buf_alloc, fwd_cnt; /* credit: what the sender's buffer holds, and has let go */
};

struct packet packet_read(const uint8_t in[PACKET_BYTES]);
void packet_write(const struct packet *p, uint8_t out[PACKET_BYTES]);

#endif
