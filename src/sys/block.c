#include "sys/block.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/fs.h>

static int size_of(int fd, uint64_t *size_bytes)
{
	struct stat st;
	uint64_t size;

	if (fstat(fd, &st) < 0)
		return -errno;
	size = (uint64_t)st.st_size;
	/* Its number is too large for one libc's ioctl() and negative in the other's. */
	if (S_ISBLK(st.st_mode) && syscall(SYS_ioctl, fd, BLKGETSIZE64, &size) < 0)
		return -errno;
	if (!S_ISBLK(st.st_mode) && !S_ISREG(st.st_mode))
		return -ENOTBLK;
	if (size == 0)
		return -ENOMEDIUM;
	*size_bytes = size;
	return 0;
}

int block_open(const char *path, uint64_t *size_bytes)
{
	/* Non-blocking, so that a fifo is told from a device without waiting for its writer. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	int rc;

	if (fd < 0)
		return -errno;
	rc = size_of(fd, size_bytes);
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

int block_read(int fd, uint64_t at, void *buf, size_t n)
{
	uint8_t *to = buf;

	while (n > 0) {
		ssize_t got = pread(fd, to, n, (off_t)at);

		if (got == 0)
			return -EIO;
		if (got < 0 && errno != EINTR)
			return -errno;
		if (got > 0) {
			to += got;
			at += (uint64_t)got;
			n -= (size_t)got;
		}
	}
	return 0;
}
