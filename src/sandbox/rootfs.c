#include "sandbox/rootfs.h"

#include "base/cursor.h"
#include "base/err.h"
#include "base/hash.h"
#include "sys/child.h"
#include "sys/fs.h"
#include "sys/image.h"
#include "sys/tail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	PATH_BYTES = 64, /* of an image */
	MAGIC_AT = 0x438,
	SAID_BYTES = 256, /* kept of what oci2rootfs says */
};

typedef char image_path[PATH_BYTES];

static void name_image(const char *directory, const char *end, image_path out)
{
	uint64_t hash = hash_fnv1a(span_str(directory));
	struct wr w = wr_of(out, sizeof(image_path));

	wr_str(&w, ROOTFS_BIN_DIR "/rootfs-");
	for (int shift = 56; shift >= 0; shift -= 8)
		wr_hex8(&w, (uint8_t)(hash >> shift));
	wr_str(&w, end);
	wr_nul(&w);
}

/* Whether there is an ext2, ext3 or ext4 in that file: the magic number of its superblock. */
static bool is_image(const char *path)
{
	uint8_t magic[2];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	bool found;

	if (fd < 0)
		return false;
	found = pread(fd, magic, sizeof magic, MAGIC_AT) == sizeof magic && magic[0] == 0x53 &&
	    magic[1] == 0xef;
	close(fd);
	return found;
}

/* The last line that a program wrote to a file without a name. */
static void add_said(struct wr *why, int fd)
{
	char said[SAID_BYTES];

	if (tail_lines_of(fd, 1, said, sizeof said) < 0 || !said[0])
		return;
	wr_str(why, ": ");
	wr_str(why, said);
}

static int run_program(const char *directory, const char *output, int said, struct wr *why)
{
	const char *const argv[] = {ROOTFS_PROGRAM, directory, "--output", output, NULL};
	const struct child_spec spec = {
	    .path = ROOTFS_PROGRAM,
	    .argv = argv,
	    .in_fd = -1,
	    .out_fd = -1,
	    .err_fd = said,
	};
	int status = child_run(&spec);

	if (status < 0)
		return wr_failure(why, "cannot run", ROOTFS_PROGRAM, status);
	if (status != 0) {
		wr_str(why,
		    WIFSIGNALED(status) ? ROOTFS_PROGRAM " was killed by signal "
					: ROOTFS_PROGRAM " failed with status ");
		wr_dec(
		    why, (uint64_t)(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status)));
		add_said(why, said);
		return -EIO;
	}
	return is_image(output) ? 0 : wr_failure(why, "no ext4 image:", output, -EIO);
}

static int convert(const char *directory, const char *output, struct wr *why)
{
	int said = fs_memfd("oci2rootfs");
	int rc;

	if (said < 0)
		return wr_failure(why, "cannot run", ROOTFS_PROGRAM, said);
	rc = run_program(directory, output, said, why);
	close(said);
	return rc;
}

static int add_vm_agent(const char *image, struct wr *why)
{
	int root = image_mount(image, "ext4");
	int rc;

	if (root < 0)
		return wr_failure(why, "cannot mount", image, root);
	rc = image_put(root, "sbin", "vm-agent", ROOTFS_VM_AGENT, 0755);
	close(root);
	return rc < 0 ? wr_failure(why, "cannot copy", ROOTFS_VM_AGENT, rc) : 0;
}

/* Gives the image its name, once all of it is on the disk. */
static int publish(const char *part, const char *image, struct wr *why)
{
	int fd = open(part, O_RDONLY | O_CLOEXEC);
	int rc = fd < 0 || fsync(fd) < 0 || rename(part, image) < 0 ? -errno : 0;

	if (fd >= 0)
		close(fd);
	if (rc < 0)
		return wr_failure(why, "cannot keep", image, rc);
	fs_sync_directory(image);
	return 0;
}

static int build(const char *directory, const char *image, struct wr *why)
{
	image_path part;
	int rc;

	name_image(directory, ".part", part);
	unlink(part); /* of one that was killed */
	rc = convert(directory, part, why);
	if (rc == 0)
		rc = add_vm_agent(part, why);
	if (rc == 0)
		rc = publish(part, image, why);
	if (rc < 0)
		unlink(part);
	return rc;
}

/* The directory with a lock on it, which goes with the fd; waits for whoever has it. */
static int lock(const char *directory)
{
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc;

	if (fd < 0)
		return -errno;
	do
		rc = flock(fd, LOCK_EX);
	while (rc < 0 && errno == EINTR);
	if (rc == 0)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

/* Makes it unless it is there. */
static int ensure(const char *directory, const char *image, struct wr *why)
{
	int fd = lock(directory);
	int rc = 0;

	if (fd < 0)
		return wr_failure(why, "cannot lock", directory, fd);
	if (!is_image(image))
		rc = build(directory, image, why);
	close(fd);
	return rc;
}

int rootfs_convert(const char *directory, char *out, size_t cap, char *why, size_t cap_why)
{
	struct wr w = wr_of(why, cap_why ? cap_why - 1 : 0);
	image_path image;
	int rc;

	name_image(directory, ".ext4", image);
	rc = ensure(directory, image, &w);
	if (rc == 0 && !span_to_cstr(span_str(image), out, cap))
		rc = wr_failure(&w, "no room for", image, -ENAMETOOLONG);
	if (cap_why)
		why[w.n] = '\0';
	return rc;
}
