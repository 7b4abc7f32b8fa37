/* packet.h - UDP on one interface, below the routing table: for a machine that has no address yet.
 *
 * Packets start with their IPv4 header; the kernel adds and takes off the one of the link, which
 * has to be Ethernet. See packet(7). Descriptors are non-blocking and close-on-exec from birth. */
#ifndef SYS_PACKET_H
#define SYS_PACKET_H

#include "base/span.h"
#include "sys/addr.h"

enum { PACKET_MAC_BYTES = 6 };

extern const uint8_t packet_broadcast[PACKET_MAC_BYTES];

/* A socket that sees what comes in on the interface as UDP to `port`, unfragmented, whatever
 * address it is for and before any firewall rule. A filter in the kernel keeps all else away. An
 * fd, or -errno (needs CAP_NET_RAW; -ENODEV: no such interface). */
int packet_open(int ifindex, uint16_t port);

/* Sends one IPv4 packet to a hardware address. 0 or -errno (-ENETDOWN: the interface is down). */
int packet_send(int fd, int ifindex, const uint8_t to[PACKET_MAC_BYTES], struct span packet);

/* The length of the next packet, which is in buf[cap], or -errno: -EAGAIN when there is none,
 * -EMSGSIZE for one that was longer and is lost. -ENETDOWN is told once after the interface went
 * down; the socket works on when it is up again. *checked: its UDP checksum is known to be right,
 * or was never filled in since the packet has not left this machine (TP_STATUS_CSUMNOTREADY). */
ssize_t packet_receive(int fd, void *buf, size_t cap, bool *checked);

/* A datagram socket bound to `from` on the interface that only sends: what comes in for it a
 * packet_open() socket sees as well, so a filter drops it, and while this one holds the port the
 * kernel does not answer with "port unreachable". An fd, or -errno (-EADDRNOTAVAIL while the
 * interface does not have the address). */
int packet_udp_open(int ifindex, const struct addr *from);

/* Sends one datagram from there, the kernel finding the way. 0 or -errno. */
int packet_udp_send(int fd, const struct addr *to, struct span payload);

#endif
