#include "sys/tail.h"

#include "base/cursor.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* The end of the file. How many bytes, or -errno. */
static ssize_t read_end(int fd, char *buf, size_t cap)
{
	ssize_t n;

	if (lseek(fd, -(off_t)cap, SEEK_END) < 0)
		lseek(fd, 0, SEEK_SET);
	n = read(fd, buf, cap);
	return n < 0 ? -errno : n;
}

/* Where the last lines begin. */
static size_t begin_of(struct span text, unsigned lines)
{
	size_t at = text.n;

	for (unsigned n = 0; at > 0; at--)
		if (text.p[at - 1] == '\n' && at < text.n && ++n == lines)
			break;
	return at;
}

int tail_lines_of(int fd, unsigned lines, char *out, size_t cap)
{
	char buf[TAIL_READ_BYTES];
	struct wr w = wr_of(out, cap);
	ssize_t n = read_end(fd, buf, sizeof buf);
	struct span text = span_of(buf, n < 0 ? 0 : (size_t)n);

	if (n < 0)
		return (int)n;
	while (text.n && text.p[text.n - 1] == '\n')
		text.n--;
	text = span_from(text, begin_of(text, lines));
	text = text.n < cap ? text : span_from(text, text.n - (cap - 1));
	for (size_t i = 0; i < text.n; i++) {
		uint8_t c = text.p[i];

		wr_u8(&w, c == '\n' ? '|' : c < ' ' || c > '~' ? '?' : c);
	}
	wr_nul(&w);
	return 0;
}

int tail_lines(const char *path, unsigned lines, char *out, size_t cap)
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	int rc = fd < 0 ? -errno : tail_lines_of(fd, lines, out, cap);

	if (fd >= 0)
		close(fd);
	return rc;
}
