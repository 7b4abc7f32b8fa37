#include "net/udp.h"

#include <errno.h>

/* Room for one control message with either kind of address. */
union control {
	struct cmsghdr align;
	uint8_t bytes[CMSG_SPACE(sizeof(struct in6_pktinfo))];
};

static struct msghdr message(struct iovec *iov, const struct udp_peer *peer, union control *control)
{
	return (struct msghdr){
	    .msg_name = (void *)&peer->from.u,
	    .msg_namelen = peer->from.len,
	    .msg_iov = iov,
	    .msg_iovlen = 1,
	    .msg_control = control,
	    .msg_controllen = sizeof *control,
	};
}

/* --- receiving -------------------------------------------------------------------------------- */

/* The only control message that was asked for. Without it the address stays 0, and the kernel
 * chooses where a reply comes from. */
static void read_pktinfo(struct msghdr *m, struct udp_peer *peer)
{
	const struct cmsghdr *c = CMSG_FIRSTHDR(m);

	if (!c)
		return;
	if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO)
		memcpy(&peer->to.in, CMSG_DATA(c), sizeof peer->to.in);
	else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO)
		memcpy(&peer->to.in6, CMSG_DATA(c), sizeof peer->to.in6);
}

static ssize_t receive_with_pktinfo(int fd, struct iovec *iov, struct udp_peer *peer)
{
	union control control;
	struct msghdr m = message(iov, peer, &control);
	ssize_t n = recvmsg(fd, &m, 0);

	peer->from.len = m.msg_namelen;
	peer->to.in6 = (struct in6_pktinfo){0};
	if (n >= 0)
		read_pktinfo(&m, peer);
	return n;
}

/* The length of a datagram, or -errno. */
static ssize_t receive(struct udp *u, struct iovec *iov, struct udp_peer *peer)
{
	ssize_t n;

	peer->from.len = sizeof peer->from.u;
	if (u->pktinfo)
		n = receive_with_pktinfo(u->source.fd, iov, peer);
	else
		n = recvfrom(u->source.fd, iov->iov_base, iov->iov_len, 0, &peer->from.u.sa,
		    &peer->from.len);
	return n < 0 ? -errno : n;
}

static int on_datagram(struct source *s, uint32_t events)
{
	static uint8_t packet[UDP_PACKET_BYTES];
	struct udp *u = container_of(s, struct udp, source);
	struct iovec iov = {packet, sizeof packet};
	struct udp_peer peer = {0};

	(void)events;
	for (unsigned i = 0; i < LOOP_EVENTS && s->fd >= 0; i++) {
		ssize_t n = receive(u, &iov, &peer);

		if (n == -EAGAIN || n == -EINTR)
			break;
		if (n >= 0) {
			u->fn(u, span_of(packet, (size_t)n), &peer);
			continue;
		}
		if (u->error)
			u->error(u, (int)n);
		break; /* an error that persists is told once a turn */
	}
	return 0;
}

int udp_init(struct udp *u, struct loop *l, int fd, bool pktinfo, const char *name)
{
	u->source.fn = on_datagram;
	u->source.name = name;
	u->pktinfo = pktinfo;
	return source_add(l, &u->source, fd, EPOLLIN);
}

/* --- sending ---------------------------------------------------------------------------------- */

/* The address that was asked becomes the source; the way back is the routing table's choice, so the
 * interface stays 0 (a link-local peer names its own in sin6_scope_id). */
static void write_pktinfo(struct msghdr *m, const struct udp_peer *peer)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(m);

	if (peer->from.u.sa.sa_family == AF_INET6) {
		struct in6_pktinfo info = {.ipi6_addr = peer->to.in6.ipi6_addr};

		c->cmsg_level = IPPROTO_IPV6;
		c->cmsg_type = IPV6_PKTINFO;
		c->cmsg_len = CMSG_LEN(sizeof info);
		memcpy(CMSG_DATA(c), &info, sizeof info);
		m->msg_controllen = CMSG_SPACE(sizeof info);
	} else {
		struct in_pktinfo info = {.ipi_spec_dst = peer->to.in.ipi_spec_dst};

		c->cmsg_level = IPPROTO_IP;
		c->cmsg_type = IP_PKTINFO;
		c->cmsg_len = CMSG_LEN(sizeof info);
		memcpy(CMSG_DATA(c), &info, sizeof info);
		m->msg_controllen = CMSG_SPACE(sizeof info);
	}
}

static ssize_t reply_with_pktinfo(int fd, struct span packet, const struct udp_peer *peer)
{
	struct iovec iov = {(void *)packet.p, packet.n};
	union control control = {0};
	struct msghdr m = message(&iov, peer, &control);

	write_pktinfo(&m, peer);
	return sendmsg(fd, &m, MSG_NOSIGNAL);
}

int udp_reply(struct udp *u, struct span packet, const struct udp_peer *peer)
{
	ssize_t n;

	if (u->pktinfo)
		n = reply_with_pktinfo(u->source.fd, packet, peer);
	else
		n = sendto(u->source.fd, packet.p, packet.n, MSG_NOSIGNAL, &peer->from.u.sa,
		    peer->from.len);
	return n < 0 ? -errno : 0;
}

int udp_send(struct udp *u, struct span packet)
{
	ssize_t n = sendto(u->source.fd, packet.p, packet.n, MSG_NOSIGNAL, NULL, 0);
	return n < 0 ? -errno : 0;
}
