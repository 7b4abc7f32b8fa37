#include "system/log_file.h"

#include "sys/child.h"
#include "sys/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

/* "/arcbox/log/agent.log" without its last name, "/arcbox/log"; false when nothing is left. */
static bool cut_name(char *path)
{
	char *slash = strrchr(path, '/');

	if (!slash || slash == path)
		return false;
	*slash = '\0';
	return true;
}

/* In the writer. A file that cannot be opened ends it. */
static int write_lines(void *arg, int lines_fd)
{
	const char *path = arg;
	char dir[PATH_MAX], lines[4096];
	int fd;
	ssize_t n;

	if (span_to_cstr(span_str(path), dir, sizeof dir) && cut_name(dir))
		mkdir(dir, 0755);
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0644);
	if (fd < 0)
		return 1;
	while ((n = read(lines_fd, lines, sizeof lines)) > 0 || (n < 0 && errno == EINTR))
		if (n > 0)
			fs_write_all(fd, span_of(lines, (size_t)n)); /* a full disk loses lines */
	return 0;
}

/* Whether the directory above the file's own is there. */
static bool has_place(const char *path)
{
	char dir[PATH_MAX];
	uint64_t attributes;

	return span_to_cstr(span_str(path), dir, sizeof dir) && cut_name(dir) && cut_name(dir) &&
	    fs_attributes(dir, &attributes) == 0;
}

int log_file_open(const char *path)
{
	int ends[2], rc;

	if (!has_place(path))
		return -ENOENT;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	rc = worker_detach(write_lines, (void *)path, ends[0]);
	close(ends[0]);
	if (rc == 0 && fcntl(ends[1], F_SETFL, O_NONBLOCK) < 0)
		rc = -errno;
	if (rc < 0)
		close(ends[1]);
	return rc < 0 ? rc : ends[1];
}

bool log_file_is_open(int fd)
{
	struct pollfd end = {.fd = fd, .events = POLLOUT};
	return fd >= 0 && poll(&end, 1, 0) >= 0 && !(end.revents & POLLERR);
}
