/* floor_dns ADDR:PORT [pktinfo] - the least that a DNS server has to do: a receive and a send for
 * each question, the same address for any; nothing is parsed. With "pktinfo" the answers leave from
 * the address that was asked, as they must where the server is bound to a wildcard (RFC 2181
 * section 4.1); without it the kernel chooses one. */
#include "bench.h"

#include <errno.h>

enum { HEADER_BYTES = 12, PACKET_BYTES = 512 };

/* An A record of the name that stands at byte 12. */
static const uint8_t record[] = {0xc0, HEADER_BYTES, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 1, 2, 3};

static uint8_t packet[PACKET_BYTES + sizeof record];

static size_t make_answer(size_t n)
{
	packet[2] |= 0x84; /* QR, AA */
	packet[7] = 1;     /* ANCOUNT */
	memcpy(packet + n, record, sizeof record);
	return n + sizeof record;
}

/* One question, or -1 when there is none. */
static ssize_t serve(int fd)
{
	struct sockaddr_storage from;
	socklen_t len = sizeof from;
	ssize_t n = recvfrom(fd, packet, PACKET_BYTES, 0, (struct sockaddr *)&from, &len);

	if (n > HEADER_BYTES)
		sendto(fd, packet, make_answer((size_t)n), 0, (struct sockaddr *)&from, len);
	return n;
}

/* Likewise: the control message that came goes back as it is. */
static ssize_t serve_with_pktinfo(int fd)
{
	_Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(struct in_pktinfo))];
	struct sockaddr_storage from;
	struct iovec iov = {packet, PACKET_BYTES};
	struct msghdr m = {
	    .msg_name = &from,
	    .msg_namelen = sizeof from,
	    .msg_iov = &iov,
	    .msg_iovlen = 1,
	    .msg_control = control,
	    .msg_controllen = sizeof control,
	};
	ssize_t n = recvmsg(fd, &m, 0);

	if (n > HEADER_BYTES) {
		iov.iov_len = make_answer((size_t)n);
		sendmsg(fd, &m, 0);
	}
	return n;
}

static int open_socket(const char *text, bool pktinfo)
{
	struct addr a = inet_arg(text);
	int fd = must("socket", socket(addr_family(&a), SOCK_DGRAM | SOCK_NONBLOCK, 0));
	int on = pktinfo;

	must("setsockopt", setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on));
	must(text, bind(fd, &a.u.sa, a.len));
	return fd;
}

int main(int argc, char **argv)
{
	bool pktinfo = argc == 3 && strcmp(argv[2], "pktinfo") == 0;
	struct epoll_event ev;
	int epfd, fd;

	need_args(argc - pktinfo, argv, 1, "ADDR:PORT [pktinfo]");
	fd = open_socket(argv[1], pktinfo);
	epfd = must("epoll_create1", epoll_create1(0));
	watch_fd(epfd, fd, EPOLLIN);
	for (;;) {
		must("epoll_wait", epoll_wait(epfd, &ev, 1, -1));
		while ((pktinfo ? serve_with_pktinfo(fd) : serve(fd)) >= 0)
			continue;
		if (errno != EAGAIN)
			must("recv", -1);
	}
}
