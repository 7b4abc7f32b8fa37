/* sock.h - sockets. Every descriptor is non-blocking and close-on-exec from birth. */
#ifndef SYS_SOCK_H
#define SYS_SOCK_H

#include "sys/addr.h"

/* All return an fd or -errno, and leave nothing behind on failure. */

/* Binds and listens. A unix path: a stale socket there (nobody answers) is replaced, a live one is
 * -EADDRINUSE, anything else but a socket is left alone (-EEXIST); the new socket has mode 0600
 * from the first moment on, less what the umask takes away. Closing it leaves the path. */
int sock_listen(const struct addr *a, int backlog);

/* A bound datagram socket with a receive buffer of rcvbuf_bytes (as far as the kernel allows; 0 =
 * the kernel's default). `pktinfo` says that the address is a wildcard and that replies are to
 * leave from the address that was asked. */
int sock_udp_bind(const struct addr *a, int rcvbuf_bytes, bool *pktinfo);

/* A datagram socket connected to `to`, from a random port of the kernel's choice. */
int sock_udp_connect(const struct addr *to);

/* Begins to connect a stream; it is writable once connected, and sock_error() says how it went. A
 * unix socket whose backlog is full is -EAGAIN at once. (One with a root directory needs /proc, and
 * Linux 5.6.) */
int sock_connect(const struct addr *to);

/* Accepts one connection. -EAGAIN when there is none, or when the one that came is lost already
 * (more may wait: a level-triggered loop comes back). -EMFILE, -ENFILE, -ENOBUFS and -ENOMEM leave
 * it waiting: the caller should not ask again at once. *peer is filled on success. */
int sock_accept(int listen_fd, struct addr *peer);

/* The pending error of a socket, as 0 or -errno. */
int sock_error(int fd);

/* The CID of this machine, or 0 when it has none (no vsock device). */
uint32_t vsock_local_cid(void);

#endif
