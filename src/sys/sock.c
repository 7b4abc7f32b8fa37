#include "sys/sock.h"

#include "base/cursor.h"
#include "sys/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/openat2.h>

static int socket_new(const struct addr *a, int type)
{
	int fd = socket(addr_family(a), type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

static int option(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof value) < 0 ? -errno : 0;
}

/* Requests and answers are written as a whole: Nagle's algorithm would only hold back their ends. A
 * hint, so that failing is nothing. */
static void no_delay(int fd, const struct addr *a)
{
	if (addr_family(a) == AF_INET || addr_family(a) == AF_INET6)
		option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

/* Closes fd when rc is an error; returns the one or the other. */
static int fd_or_error(int fd, int rc)
{
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

/* Whether somebody listens on a unix socket. Only a refusal proves that nobody does. */
static int unix_is_stale(const struct addr *a)
{
	int fd = socket_new(a, SOCK_STREAM);
	bool refused;

	if (fd < 0)
		return fd;
	refused = connect(fd, &a->u.sa, a->len) < 0 && errno == ECONNREFUSED;
	close(fd);
	return refused;
}

/* Makes way for a new unix socket: takes a stale one away. */
static int unix_clear(const struct addr *a)
{
	struct stat st;
	int stale;

	if (lstat(a->u.un.sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	stale = unix_is_stale(a);
	if (stale < 0)
		return stale;
	if (!stale)
		return -EADDRINUSE;
	return unlink(a->u.un.sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

/* The mode of a unix socket is that of its descriptor at the time of bind: nobody else can connect
 * before a chmod, since none is needed. */
static int unix_bind_listen(int fd, const struct addr *a, int backlog)
{
	int rc;

	if (fchmod(fd, 0600) < 0 || bind(fd, &a->u.sa, a->len) < 0)
		return -errno;
	if (listen(fd, backlog) == 0)
		return 0;
	rc = -errno;
	unlink(a->u.un.sun_path);
	return rc;
}

static int inet_options(int fd, const struct addr *a)
{
	if (addr_family(a) != AF_INET6)
		return 0;
	return option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
}

static int bind_listen(int fd, const struct addr *a, int backlog)
{
	int rc = inet_options(fd, a);

	if (rc == 0 && addr_family(a) != AF_VSOCK)
		rc = option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (rc < 0)
		return rc;
	return bind(fd, &a->u.sa, a->len) < 0 || listen(fd, backlog) < 0 ? -errno : 0;
}

int sock_listen(const struct addr *a, int backlog)
{
	bool is_unix = addr_family(a) == AF_UNIX;
	int rc = is_unix ? unix_clear(a) : 0;
	int fd;

	if (rc < 0)
		return rc;
	fd = socket_new(a, SOCK_STREAM);
	if (fd < 0)
		return fd;
	rc = is_unix ? unix_bind_listen(fd, a, backlog) : bind_listen(fd, a, backlog);
	return fd_or_error(fd, rc);
}

static bool is_wildcard(const struct addr *a)
{
	struct ip ip;
	return addr_to_ip(a, &ip) && ip_is_unspecified(&ip);
}

static int want_pktinfo(int fd, const struct addr *a)
{
	if (addr_family(a) == AF_INET6)
		return option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	return option(fd, IPPROTO_IP, IP_PKTINFO, 1);
}

int sock_udp_bind(const struct addr *a, int rcvbuf_bytes, bool *pktinfo)
{
	bool wildcard = is_wildcard(a);
	int fd = socket_new(a, SOCK_DGRAM);
	int rc;

	if (fd < 0)
		return fd;
	rc = inet_options(fd, a);
	if (rc == 0 && wildcard)
		rc = want_pktinfo(fd, a);
	/* The first needs CAP_NET_ADMIN, the second stops at net.core.rmem_max; less is no failure.
	 */
	if (rcvbuf_bytes > 0 && option(fd, SOL_SOCKET, SO_RCVBUFFORCE, rcvbuf_bytes) < 0)
		option(fd, SOL_SOCKET, SO_RCVBUF, rcvbuf_bytes);
	if (rc == 0 && bind(fd, &a->u.sa, a->len) < 0)
		rc = -errno;
	if (rc == 0)
		*pktinfo = wildcard;
	return fd_or_error(fd, rc);
}

int sock_udp_connect(const struct addr *to)
{
	int fd = socket_new(to, SOCK_DGRAM);

	if (fd < 0)
		return fd;
	return fd_or_error(fd, connect(fd, &to->u.sa, to->len) < 0 ? -errno : 0);
}

/* What stands at a path for a process with that root directory: an fd, or -errno. */
static int find_in_root(const char *root, const char *path)
{
	const struct open_how how = {
	    .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	int dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd;

	if (dir < 0)
		return -errno;
	fd = fs_open_how(dir, path, &how);
	close(dir);
	return fd;
}

/* Once it is found, nothing can be put in its place. */
static int connect_in_root(const struct addr *to)
{
	int at = find_in_root(to->root, to->u.un.sun_path);
	char path[32];
	struct wr w = wr_of(path, sizeof path);
	struct addr found;
	int fd;

	if (at < 0)
		return at;
	wr_str(&w, "/proc/self/fd/");
	wr_dec(&w, (uint64_t)at);
	wr_nul(&w);
	addr_unix(path, &found);
	fd = sock_connect(&found);
	close(at);
	return fd;
}

int sock_connect(const struct addr *to)
{
	int fd, rc = 0;

	if (to->root)
		return connect_in_root(to);
	fd = socket_new(to, SOCK_STREAM);
	if (fd < 0)
		return fd;
	no_delay(fd, to);
	/* An interrupted connect goes on by itself, like one in progress. */
	if (connect(fd, &to->u.sa, to->len) < 0 && errno != EINPROGRESS && errno != EINTR)
		rc = -errno;
	return fd_or_error(fd, rc);
}

/* Errors of the connection that was to be accepted, not of the listener (accept(2), "Error
 * handling"). */
static bool accept_lost_one(int error)
{
	switch (error) {
	case ECONNABORTED:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case EINTR:
	case ENETDOWN:
	case ENETUNREACH:
	case ENONET:
	case ENOPROTOOPT:
	case EOPNOTSUPP:
	case EPERM:
	case EPROTO:
	case ETIMEDOUT: return true;
	default: return false;
	}
}

int sock_accept(int listen_fd, struct addr *peer)
{
	struct addr a = {.len = sizeof a.u};
	int fd = accept4(listen_fd, &a.u.sa, &a.len, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return accept_lost_one(errno) ? -EAGAIN : -errno;
	if (a.len > sizeof a.u) /* what did not fit was cut off */
		a.len = sizeof a.u;
	no_delay(fd, &a);
	*peer = a;
	return fd;
}

int sock_error(int fd)
{
	int error = 0;
	socklen_t len = sizeof error;

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		return -errno;
	return -error;
}

uint32_t vsock_local_cid(void)
{
	int fd = open("/dev/vsock", O_RDONLY | O_CLOEXEC);
	uint32_t cid = VMADDR_CID_ANY;

	if (fd < 0)
		return 0;
	if (ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid) < 0)
		cid = VMADDR_CID_ANY;
	close(fd);
	return cid == VMADDR_CID_ANY ? 0 : cid;
}
