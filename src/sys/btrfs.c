#include "sys/btrfs.h"

#include "base/span.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/btrfs.h>
#include <linux/fs.h>
#include <linux/magic.h>

enum { SUBVOLUME_INODE = 256 }; /* BTRFS_FIRST_FREE_OBJECTID: the root directory of each */

bool btrfs_is_there(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && (uint32_t)fs.f_type == BTRFS_SUPER_MAGIC;
}

/* ioctl(2), whose requests are too large for one libc's type and negative in the other's. */
static int control(int fd, unsigned request, void *arg)
{
	return syscall(SYS_ioctl, fd, request, arg) < 0 ? -errno : 0;
}

static int open_dir(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* What has the name: 0 for a subvolume. */
static int check_subvolume(int dir_fd, const char *name)
{
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) && st.st_ino == SUBVOLUME_INODE ? 0 : -EEXIST;
}

static int make_subvolume(int dir_fd, const char *name)
{
	struct btrfs_ioctl_vol_args args = {0};
	int rc;

	if (!span_to_cstr(span_str(name), args.name, sizeof args.name))
		return -ENAMETOOLONG;
	rc = control(dir_fd, BTRFS_IOC_SUBVOL_CREATE, &args);
	if (rc == -EEXIST)
		return check_subvolume(dir_fd, name);
	return rc < 0 ? rc : 1;
}

int btrfs_make_subvolume(const char *dir, const char *name)
{
	int fd = open_dir(dir);
	int rc;

	if (fd < 0)
		return fd;
	rc = make_subvolume(fd, name);
	close(fd);
	return rc;
}

static int stop_cow(int fd)
{
	int flags;
	int rc = control(fd, FS_IOC_GETFLAGS, &flags);

	if (rc < 0 || (flags & FS_NOCOW_FL))
		return rc;
	flags |= FS_NOCOW_FL;
	return control(fd, FS_IOC_SETFLAGS, &flags);
}

int btrfs_stop_cow(const char *dir)
{
	int fd = open_dir(dir);
	int rc;

	if (fd < 0)
		return fd;
	rc = stop_cow(fd);
	close(fd);
	return rc;
}
