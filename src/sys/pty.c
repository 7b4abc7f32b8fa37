#include "sys/pty.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#ifndef TIOCGPTPEER /* Linux 4.13 */
#define TIOCGPTPEER _IO('T', 0x41)
#endif

/* By descriptor, not by name: /dev/pts need not be where the master comes from. */
static int open_slave(int master)
{
	int locked = 0;
	int fd;

	if (ioctl(master, TIOCSPTLCK, &locked) < 0)
		return -errno;
	fd = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int pty_open(int *master, int *slave)
{
	int fd = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	int peer;

	if (fd < 0)
		return -errno;
	peer = open_slave(fd);
	if (peer < 0) {
		close(fd);
		return peer;
	}
	*master = fd;
	*slave = peer;
	return 0;
}

void pty_resize(int master, uint16_t columns, uint16_t rows)
{
	const struct winsize size = {.ws_col = columns, .ws_row = rows};

	ioctl(master, TIOCSWINSZ, &size);
}

int pty_eof_character(int master)
{
	struct termios t;

	if (tcgetattr(master, &t) < 0 || !(t.c_lflag & ICANON) || t.c_cc[VEOF] == _POSIX_VDISABLE)
		return -1;
	return t.c_cc[VEOF];
}

void pty_signal(int master, int sig)
{
	pid_t group = tcgetpgrp(master);

	if (group > 1)
		kill(-group, sig);
}
