#include "sys/clone.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/fs.h>

enum { COPY_BYTES = 1 << 30 }; /* the most that is asked for at once */

/* Copies a piece that has data in it; both files keep their place in it. 0 or -errno. */
static int copy_data(int from, int to, off_t at, off_t end)
{
	if (lseek(to, at, SEEK_SET) < 0)
		return -errno;
	while (at < end) {
		off_t left = end - at;
		ssize_t n = sendfile(to, from, &at, left < COPY_BYTES ? (size_t)left : COPY_BYTES);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -EIO; /* it became shorter */
	}
	return 0;
}

/* A file of that size, of whose data only what the source has is there. */
static int copy_sparse(int from, int to, off_t size)
{
	off_t end = 0;
	int rc = ftruncate(to, size) < 0 ? -errno : 0;

	while (rc == 0 && end < size) {
		off_t at = lseek(from, end, SEEK_DATA);

		if (at < 0)
			return errno == ENXIO ? 0 : -errno; /* a hole up to its end */
		end = lseek(from, at, SEEK_HOLE);
		if (end < 0)
			return -errno;
		rc = copy_data(from, to, at, end);
	}
	return rc;
}

static int copy(int from, int to)
{
	struct stat st;

	if (fstat(from, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	return copy_sparse(from, to, st.st_size);
}

static int copy_to(int in, const char *to, mode_t mode)
{
	int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	int rc;

	if (out < 0)
		return -errno;
	rc = copy(in, out);
	if (close(out) < 0 && rc == 0)
		rc = -errno;
	if (rc < 0)
		unlink(to);
	return rc;
}

static int clone(const char *from, int flags, const char *to, mode_t mode)
{
	int in = open(from, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | flags);
	int rc;

	if (in < 0)
		return -errno;
	rc = copy_to(in, to, mode);
	close(in);
	return rc;
}

int clone_file(const char *from, const char *to, mode_t mode)
{
	return clone(from, 0, to, mode);
}

int clone_file_of_others(const char *from, const char *to, mode_t mode)
{
	return clone(from, O_NOFOLLOW, to, mode);
}
