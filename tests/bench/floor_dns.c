/* floor_dns ADDR:PORT - the least that a DNS server has to do: a receive and a send for each
 * question, the same address for any. Nothing is parsed, and a wildcard's answers leave from the
 * address of the kernel's choice. */
#include "bench.h"
#include "sys/addr.h"

#include <errno.h>

enum { HEADER_BYTES = 12, PACKET_BYTES = 512 };

/* An A record of the name that stands at byte 12. */
static const uint8_t record[] = {0xc0, HEADER_BYTES, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 1, 2, 3};

static size_t make_answer(uint8_t *packet, size_t n)
{
	packet[2] |= 0x84; /* QR, AA */
	packet[7] = 1;     /* ANCOUNT */
	memcpy(packet + n, record, sizeof record);
	return n + sizeof record;
}

static void serve(int fd)
{
	uint8_t packet[PACKET_BYTES + sizeof record];
	struct sockaddr_storage from;
	socklen_t len = sizeof from;
	ssize_t n;

	while ((n = recvfrom(fd, packet, PACKET_BYTES, 0, (struct sockaddr *)&from, &len)) >= 0) {
		if (n > HEADER_BYTES)
			sendto(fd, packet, make_answer(packet, (size_t)n), 0,
			    (struct sockaddr *)&from, len);
		len = sizeof from;
	}
	if (errno != EAGAIN)
		must("recvfrom", -1);
}

static int open_socket(const char *text)
{
	struct addr a;
	int fd;

	if (addr_parse_inet(span_str(text), 0, &a) != E_OK) {
		fprintf(stderr, "%s: not an address\n", text);
		exit(2);
	}
	fd = must("socket", socket(addr_family(&a), SOCK_DGRAM | SOCK_NONBLOCK, 0));
	must(text, bind(fd, &a.u.sa, a.len));
	return fd;
}

int main(int argc, char **argv)
{
	struct epoll_event ev;
	int epfd, fd;

	need_args(argc, argv, 1, "ADDR:PORT");
	fd = open_socket(argv[1]);
	epfd = must("epoll_create1", epoll_create1(0));
	watch_fd(epfd, fd, EPOLLIN);
	for (;;)
		if (must("epoll_wait", epoll_wait(epfd, &ev, 1, -1)) > 0)
			serve(fd);
}
