/* bench.h - what the programs of the benchmarks share. They end with a message where a call fails.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "sys/addr.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

/* PingRequest{message: "ping"} */
static const uint8_t ping_request[] = {0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0x0a, 4, 'p', 'i', 'n', 'g'};

/* The result of a system call that worked. */
static inline int must(const char *what, int rc)
{
	if (rc >= 0)
		return rc;
	perror(what);
	exit(EXIT_FAILURE);
}

static inline struct sockaddr_un unix_address(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	strncpy(a.sun_path, path, sizeof a.sun_path - 1);
	return a;
}

/* A unix stream socket that listens; what stands at `path` must be gone. */
static inline int unix_listen(const char *path)
{
	struct sockaddr_un a = unix_address(path);
	int fd = must("socket", socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));

	must(path, bind(fd, (struct sockaddr *)&a, sizeof a));
	must(path, listen(fd, SOMAXCONN));
	return fd;
}

/* Blocks until it is connected; reads and writes do not. */
static inline int unix_connect(const char *path)
{
	struct sockaddr_un a = unix_address(path);
	int fd = must("socket", socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));

	must(path, connect(fd, (struct sockaddr *)&a, sizeof a));
	return fd;
}

static inline void watch_fd(int epfd, int fd, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.fd = fd};

	must("epoll_ctl", epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev));
}

/* Argument i as a number from 1 to max. */
static inline unsigned number_arg(char **argv, int i, unsigned max)
{
	char *end;
	unsigned long n = strtoul(argv[i], &end, 10);

	if (n >= 1 && n <= max && *end == '\0')
		return (unsigned)n;
	fprintf(stderr, "%s: %s is not a number from 1 to %u\n", argv[0], argv[i], max);
	exit(2);
}

/* An argument of the form ADDR:PORT. */
static inline struct addr inet_arg(const char *text)
{
	struct addr a;

	if (addr_parse_inet(span_str(text), 0, &a) == E_OK)
		return a;
	fprintf(stderr, "%s is not ADDR:PORT\n", text);
	exit(2);
}

/* Ends a program that was called with another number of arguments. */
static inline void need_args(int argc, char **argv, int n, const char *usage)
{
	if (argc == n + 1)
		return;
	fprintf(stderr, "usage: %s %s\n", argv[0], usage);
	exit(2);
}

#endif
