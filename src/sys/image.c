#include "sys/image.h"

#include "base/cursor.h"
#include "sys/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/loop.h>
#include <linux/openat2.h>

enum { ATTACH_TRIES = 16 }; /* another process may take the device that was free */

/* linux/mount.h has them, but does not go together with every libc's sys/mount.h. */
enum {
	FS_CLOEXEC = 1,
	FS_SET_STRING = 1,
	FS_CREATE = 6,
	MOUNT_CLOEXEC = 1,
	MOUNT_NOSUID_NODEV_NOEXEC = 2 | 4 | 8,
};

/* --- the device ------------------------------------------------------------------------------- */

typedef char device_path[32];

/* The number of a loop device that nobody uses now, or -errno. */
static int find_device(void)
{
	int fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int n;

	if (fd < 0)
		return -errno;
	n = ioctl(fd, LOOP_CTL_GET_FREE);
	if (n < 0)
		n = -errno;
	close(fd);
	return n;
}

/* Makes that device the file until nobody has it open, or mounted, any more. An fd or -errno. */
static int take_device(int number, int file, device_path path)
{
	const struct loop_config config = {
	    .fd = (uint32_t)file,
	    .info = {.lo_flags = LO_FLAGS_AUTOCLEAR},
	};
	struct wr w = wr_of(path, sizeof(device_path));
	int fd, rc;

	wr_str(&w, "/dev/loop");
	wr_dec(&w, (uint64_t)number);
	wr_nul(&w);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ioctl(fd, LOOP_CONFIGURE, &config) == 0)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

static int attach(const char *image, device_path path)
{
	int file = open(image, O_RDWR | O_CLOEXEC);
	int rc = -EBUSY;

	if (file < 0)
		return -errno;
	for (unsigned i = 0; i < ATTACH_TRIES && rc == -EBUSY; i++) {
		rc = find_device();
		if (rc >= 0)
			rc = take_device(rc, file, path);
	}
	close(file);
	return rc;
}

/* --- the mount -------------------------------------------------------------------------------- */

/* An fd of a mount that is nowhere, or -errno. */
static int mount_device(const char *device, const char *type)
{
	int fs = (int)syscall(SYS_fsopen, type, FS_CLOEXEC);
	int root, rc = 0;

	if (fs < 0)
		return -errno;
	if (syscall(SYS_fsconfig, fs, FS_SET_STRING, "source", device, 0) < 0 ||
	    syscall(SYS_fsconfig, fs, FS_CREATE, NULL, NULL, 0) < 0)
		rc = -errno;
	root =
	    rc < 0 ? rc : (int)syscall(SYS_fsmount, fs, MOUNT_CLOEXEC, MOUNT_NOSUID_NODEV_NOEXEC);
	if (rc == 0 && root < 0)
		root = -errno;
	close(fs);
	return root;
}

int image_mount(const char *path, const char *type)
{
	device_path device;
	int fd = attach(path, device);
	int root;

	if (fd < 0)
		return fd;
	root = mount_device(device, type);
	close(fd);
	return root;
}

/* --- files ------------------------------------------------------------------------------------ */

static int open_directory(int root, const char *dir)
{
	const struct open_how how = {
	    .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
	    .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS,
	};

	if (mkdirat(root, dir, 0755) < 0 && errno != EEXIST)
		return -errno;
	return fs_open_how(root, dir, &how);
}

/* Copies a whole file to a new one. */
static int fill(int to, const char *from, mode_t mode)
{
	struct stat st;
	int64_t n = fs_copy_range(from, 0, UINT32_MAX, to);

	if (n < 0)
		return (int)n;
	if (stat(from, &st) < 0 || fchmod(to, mode) < 0 || fsync(to) < 0)
		return -errno;
	return n == st.st_size ? 0 : -EIO;
}

int image_put(int root, const char *dir, const char *name, const char *from, mode_t mode)
{
	int at = open_directory(root, dir);
	int to, rc;

	if (at < 0)
		return at;
	to = unlinkat(at, name, 0) < 0 && errno != ENOENT
	    ? -1
	    : openat(at, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	rc = to < 0 ? -errno : fill(to, from, mode);
	if (to >= 0)
		close(to);
	if (rc == 0 && fsync(at) < 0)
		rc = -errno;
	close(at);
	return rc;
}
