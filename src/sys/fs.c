#include "sys/fs.h"

#include "base/cursor.h"
#include "sys/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/openat2.h>

enum { COPY_WINDOW_BYTES = 4 << 20 }; /* mapped at a time; a multiple of every page size */

static ssize_t read_retry(int fd, void *buf, size_t n)
{
	ssize_t got;

	do
		got = read(fd, buf, n);
	while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : got;
}

static ssize_t read_all(int fd, uint8_t *buf, size_t cap)
{
	size_t n = 0;
	uint8_t beyond;

	for (;;) {
		ssize_t got =
		    n < cap ? read_retry(fd, buf + n, cap - n) : read_retry(fd, &beyond, 1);

		if (got < 0)
			return got;
		if (got == 0)
			return (ssize_t)n;
		if (n == cap)
			return -EFBIG;
		n += (size_t)got;
	}
}

ssize_t fs_read_file(const char *path, void *buf, size_t cap)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read_all(fd, buf, cap);
	close(fd);
	return n;
}

/* Writes something of `s`, which is not empty, waiting until the descriptor takes it. More than 0,
 * or -errno. */
static ssize_t write_some(int fd, struct span s)
{
	struct pollfd full = {.fd = fd, .events = POLLOUT};

	for (;;) {
		ssize_t n = write(fd, s.p, s.n);

		if (n > 0)
			return n;
		if (n == 0)
			return -EIO;
		if (errno == EAGAIN)
			poll(&full, 1, -1);
		else if (errno != EINTR)
			return -errno;
	}
}

int fs_write_all(int fd, struct span s)
{
	while (s.n > 0) {
		ssize_t n = write_some(fd, s);

		if (n < 0)
			return (int)n;
		s = span_from(s, (size_t)n);
	}
	return 0;
}

void fs_sync_directory(const char *path)
{
	const char *slash = strrchr(path, '/');
	char dir[PATH_MAX] = ".";
	int fd;

	if (slash)
		span_to_cstr(
		    span_of(path, slash == path ? 1 : (size_t)(slash - path)), dir, sizeof dir);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	fsync(fd);
	close(fd);
}

static int write_new(const char *path, struct span content, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int rc;

	if (fd < 0)
		return -errno;
	rc = fs_write_all(fd, content);
	if (rc == 0 && (fchmod(fd, mode) < 0 || fsync(fd) < 0))
		rc = -errno;
	if (close(fd) < 0 && rc == 0)
		rc = -errno;
	if (rc < 0)
		unlink(path);
	return rc;
}

int fs_replace_file(const char *path, struct span content, mode_t mode)
{
	char temp[PATH_MAX];
	struct wr w = wr_of(temp, sizeof temp);
	int rc;

	wr_str(&w, path);
	wr_str(&w, ".");
	wr_dec(&w, (uint64_t)getpid());
	wr_str(&w, ".");
	wr_dec(&w, (uint64_t)clock_real_ns());
	wr_nul(&w);
	if (w.err != E_OK)
		return -ENAMETOOLONG;
	rc = write_new(temp, content, mode);
	if (rc < 0)
		return rc;
	if (rename(temp, path) < 0) {
		rc = -errno;
		unlink(temp);
		return rc;
	}
	fs_sync_directory(path);
	return 0;
}

int fs_write_value(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int rc;

	if (fd < 0)
		return -errno;
	rc = fs_write_all(fd, span_str(value));
	if (close(fd) < 0 && rc == 0)
		rc = -errno;
	return rc;
}

/* Whether the file holds just that. One that cannot be read does not. */
static bool has_content(const char *path, struct span content)
{
	uint8_t *now = malloc(content.n + 1);
	ssize_t n = now ? fs_read_file(path, now, content.n + 1) : -ENOMEM;
	bool same = n >= 0 && span_eq(span_of(now, (size_t)n), content);

	free(now);
	return same;
}

int fs_ensure_file(const char *path, struct span content, mode_t mode)
{
	int rc;

	if (has_content(path, content))
		return 0;
	rc = fs_replace_file(path, content, mode);
	return rc < 0 ? rc : 1;
}

static int make_dir(const char *path, mode_t mode)
{
	struct stat st;

	if (mkdir(path, mode) == 0)
		return chmod(path, mode) < 0 ? -errno : 1;
	if (errno != EEXIST)
		return -errno;
	return stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int fs_make_dirs(const char *path, mode_t mode)
{
	char parent[PATH_MAX];
	int rc = 0;

	if (!span_to_cstr(span_str(path), parent, sizeof parent))
		return -ENAMETOOLONG;
	for (char *slash = parent; rc >= 0 && (slash = strchr(slash + 1, '/'));) {
		*slash = '\0';
		rc = make_dir(parent, 0755);
		*slash = '/';
	}
	return rc < 0 ? rc : make_dir(path, mode);
}

int fs_ensure_symlink(const char *target, const char *path)
{
	char now[PATH_MAX];
	ssize_t n;

	if (symlink(target, path) == 0)
		return 1;
	if (errno != EEXIST)
		return -errno;
	n = readlink(path, now, sizeof now);
	return n >= 0 && span_eq_str(span_of(now, (size_t)n), target) ? 0 : -EEXIST;
}

static int open_regular(const char *path, struct stat *st)
{
	/* Non-blocking, so that a fifo is told from a file without waiting for its writer. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	int rc = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, st) < 0)
		rc = -errno;
	else if (S_ISDIR(st->st_mode))
		rc = -EISDIR;
	else if (!S_ISREG(st->st_mode))
		rc = -EINVAL;
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

/* Why pages of the mapping at `at` could not be read: 0 when the file ends there by now. */
static int fault_reason(int fd, uint64_t at)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	return (uint64_t)st.st_size > at ? -EIO : 0;
}

/* Copies the file's bytes at..end, which lie in one window. How many, short at the end of a file
 * that shrank, or -errno. The kernel reads the mapping: where it cannot, write says EFAULT. */
static int64_t copy_window(int fd, uint64_t at, uint64_t end, int out_fd)
{
	uint64_t base = at & ~((uint64_t)getpagesize() - 1);
	size_t bytes = (size_t)(end - base);
	size_t done = (size_t)(at - base);
	uint8_t *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, (off_t)base);
	ssize_t n = 0;

	if (map == MAP_FAILED)
		return -errno;
	while (done < bytes) {
		n = write_some(out_fd, span_of(map + done, bytes - done));
		if (n < 0)
			break;
		done += (size_t)n;
	}
	munmap(map, bytes);
	if (n == -EFAULT)
		n = fault_reason(fd, base + done);
	return n < 0 ? n : (int64_t)(base + done - at);
}

static int64_t copy_range(int fd, uint64_t offset, uint64_t end, int out_fd)
{
	uint64_t at = offset;

	while (at < end) {
		uint64_t left = COPY_WINDOW_BYTES - at % COPY_WINDOW_BYTES;
		uint64_t stop = end - at < left ? end : at + left;
		int64_t n = copy_window(fd, at, stop, out_fd);

		if (n < 0)
			return n;
		at += (uint64_t)n;
		if (at < stop)
			break;
	}
	return (int64_t)(at - offset);
}

int64_t fs_copy_range(const char *path, uint64_t offset, uint64_t length, int out_fd)
{
	struct stat st;
	int fd = open_regular(path, &st);
	uint64_t left;
	int64_t copied = 0;

	if (fd < 0)
		return fd;
	if (offset < (uint64_t)st.st_size) {
		left = (uint64_t)st.st_size - offset;
		copied = copy_range(fd, offset, offset + (length < left ? length : left), out_fd);
	}
	close(fd);
	return copied;
}

int fs_open_how(int dir, const char *path, const struct open_how *how)
{
	enum { TRIES = 100 };
	unsigned tries = 0;
	long fd;

	do
		fd = syscall(SYS_openat2, dir, path, how, sizeof *how);
	while (fd < 0 && errno == EAGAIN && ++tries < TRIES);
	if (fd >= 0)
		return (int)fd;
	return errno == EAGAIN ? -EBUSY : -errno;
}

int fs_memfd(const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* The part of the kernel's struct statx that is of use here; it has 256 bytes in all. Not every
 * libc knows it. */
struct statx_head {
	uint32_t mask, blksize;
	uint64_t attributes;
	uint8_t rest[240];
};

int fs_attributes(const char *path, uint64_t *attributes)
{
	enum { DONT_ASK_SERVER = 0x4000 /* AT_STATX_DONT_SYNC */ };
	struct statx_head st;

	if (syscall(SYS_statx, AT_FDCWD, path, DONT_ASK_SERVER | AT_SYMLINK_NOFOLLOW, 0, &st) < 0)
		return -errno;
	*attributes = st.attributes;
	return 0;
}

bool fs_is_program(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0111);
}
