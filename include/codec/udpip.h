/* udpip.h - UDP over IPv4 as whole packets (RFC 768, RFC 791), for sockets below the IP layer.
 *
 * Views point into the packet that was read. */
#ifndef CODEC_UDPIP_H
#define CODEC_UDPIP_H

#include "base/cursor.h"
#include "base/ip.h"

enum { UDPIP_HEADER_BYTES = 28 }; /* both headers as written, without IP options */

struct udpip {
	struct ip from, to; /* IPv4 */
	uint16_t from_port, to_port;
	struct span payload;
};

/* Writes headers and payload, with both checksums; "don't fragment" is left off. E_LIMIT in w->err
 * for a payload that no packet holds, E_SPACE. */
void udpip_write(struct wr *w, const struct udpip *packet);

/* Reads a packet from its IP header on; what the link padded it with is ignored. `checked` says
 * that the UDP checksum needs no look: the kernel has done that, or has left it to a network card
 * that a virtual machine does not have. E_MORE when it is cut, E_UNKNOWN when it is not UDP over
 * IPv4 or only a fragment, E_MALFORMED for wrong lengths or checksums. */
enum err udpip_read(struct span packet, bool checked, struct udpip *out);

#endif
