#include "sys/packet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/ethernet.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/if_packet.h>

const uint8_t packet_broadcast[PACKET_MAC_BYTES] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

enum {
	IP_PROTOCOL = 9, /* offsets in the IPv4 header */
	IP_FRAGMENT = 6,
	IP_FRAGMENT_BITS = 0x3fff, /* more fragments, and the offset */
	UDP_TO_PORT = 2,           /* in the UDP header */
};

static int option(int fd, int level, int name, const void *value, socklen_t size)
{
	return setsockopt(fd, level, name, value, size) < 0 ? -errno : 0;
}

static int option_int(int fd, int level, int name, int value)
{
	return option(fd, level, name, &value, sizeof value);
}

static int filter_attach(int fd, struct sock_filter *code, size_t n)
{
	const struct sock_fprog program = {.len = (unsigned short)n, .filter = code};

	return option(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}

/* Closes fd when rc is an error; returns the one or the other. */
static int fd_or_error(int fd, int rc)
{
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

/* --- both ways, below IP --------------------------------------------------------------------- */

/* Packets start with their IP header here: the kernel has taken off that of the link. */
static int port_filter_attach(int fd, uint16_t port)
{
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, IP_PROTOCOL),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 6),
	    BPF_STMT(BPF_LD | BPF_H | BPF_ABS, IP_FRAGMENT),
	    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, IP_FRAGMENT_BITS, 4, 0),
	    BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0), /* the length of the IP header */
	    BPF_STMT(BPF_LD | BPF_H | BPF_IND, UDP_TO_PORT),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, port, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	    BPF_STMT(BPF_RET | BPF_K, 0),
	};

	return filter_attach(fd, code, sizeof code / sizeof *code);
}

static struct sockaddr_ll link_address(int ifindex)
{
	return (struct sockaddr_ll){
	    .sll_family = AF_PACKET,
	    .sll_protocol = htons(ETHERTYPE_IP),
	    .sll_ifindex = ifindex,
	};
}

static int packet_bind(int fd, int ifindex)
{
	const struct sockaddr_ll sll = link_address(ifindex);

	return bind(fd, (const struct sockaddr *)&sll, sizeof sll) < 0 ? -errno : 0;
}

int packet_open(int ifindex, uint16_t port)
{
	/* Of no protocol, it hears nothing until it is bound: the filter is there before that. */
	int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc;

	if (fd < 0)
		return -errno;
	rc = port_filter_attach(fd, port);
	if (rc == 0)
		rc = option_int(fd, SOL_PACKET, PACKET_AUXDATA, 1);
	if (rc == 0)
		rc = packet_bind(fd, ifindex);
	return fd_or_error(fd, rc);
}

int packet_send(int fd, int ifindex, const uint8_t to[PACKET_MAC_BYTES], struct span packet)
{
	struct sockaddr_ll sll = link_address(ifindex);

	sll.sll_halen = PACKET_MAC_BYTES;
	memcpy(sll.sll_addr, to, PACKET_MAC_BYTES);
	if (sendto(fd, packet.p, packet.n, MSG_NOSIGNAL, (struct sockaddr *)&sll, sizeof sll) < 0)
		return -errno;
	return 0;
}

static bool is_checked(struct msghdr *m)
{
	struct tpacket_auxdata aux;
	const struct cmsghdr *c = CMSG_FIRSTHDR(m);

	if (!c || c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA)
		return false;
	memcpy(&aux, CMSG_DATA(c), sizeof aux);
	return (aux.tp_status & (TP_STATUS_CSUMNOTREADY | TP_STATUS_CSUM_VALID)) != 0;
}

ssize_t packet_receive(int fd, void *buf, size_t cap, bool *checked)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
	} control;
	struct iovec iov = {buf, cap};
	struct msghdr m = {
	    .msg_iov = &iov,
	    .msg_iovlen = 1,
	    .msg_control = &control,
	    .msg_controllen = sizeof control,
	};
	ssize_t n = recvmsg(fd, &m, 0);

	if (n < 0)
		return -errno;
	if (m.msg_flags & MSG_TRUNC)
		return -EMSGSIZE;
	*checked = is_checked(&m);
	return n;
}

/* --- out only, over IP ----------------------------------------------------------------------- */

static int deaf_filter_attach(int fd)
{
	struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, 0)};

	return filter_attach(fd, code, sizeof code / sizeof *code);
}

int packet_udp_open(int ifindex, const struct addr *from)
{
	int fd = socket(addr_family(from), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc;

	if (fd < 0)
		return -errno;
	rc = deaf_filter_attach(fd);
	if (rc == 0)
		rc = option_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (rc == 0)
		rc = option_int(fd, SOL_SOCKET, SO_BINDTOIFINDEX, ifindex);
	if (rc == 0 && bind(fd, &from->u.sa, from->len) < 0)
		rc = -errno;
	return fd_or_error(fd, rc);
}

int packet_udp_send(int fd, const struct addr *to, struct span payload)
{
	if (sendto(fd, payload.p, payload.n, MSG_NOSIGNAL, &to->u.sa, to->len) < 0)
		return -errno;
	return 0;
}
