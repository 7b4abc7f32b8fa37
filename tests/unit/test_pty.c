#include "sys/pty.h"

#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static int master, slave;

static void open_pair(void)
{
	ck_assert_int_eq(pty_open(&master, &slave), 0);
}

static void close_pair(void)
{
	close(master);
	close(slave);
}

START_TEST(opens_both_ends)
{
	char buf[16];

	open_pair();
	ck_assert(isatty(slave));
	ck_assert(fcntl(master, F_GETFD) & FD_CLOEXEC);
	ck_assert(fcntl(slave, F_GETFD) & FD_CLOEXEC);
	ck_assert_int_eq((int)read(master, buf, sizeof buf), -1);
	ck_assert_int_eq(errno, EAGAIN);
	ck_assert(!(fcntl(slave, F_GETFL) & O_NONBLOCK));
	ck_assert_int_eq((int)write(master, "in\n", 3), 3);
	ck_assert_int_eq((int)read(slave, buf, sizeof buf), 3);
	ck_assert_int_eq(tcgetsid(slave), -1); /* nobody's terminal */
	close_pair();
}
END_TEST

START_TEST(sets_the_size)
{
	struct winsize size;

	open_pair();
	pty_resize(master, 132, 43);
	ck_assert_int_eq(ioctl(slave, TIOCGWINSZ, &size), 0);
	ck_assert_uint_eq(size.ws_col, 132);
	ck_assert_uint_eq(size.ws_row, 43);
	close_pair();
}
END_TEST

START_TEST(knows_the_end_of_file_character)
{
	struct termios t;

	open_pair();
	ck_assert_int_eq(pty_eof_character(master), 4);
	ck_assert_int_eq(tcgetattr(slave, &t), 0);
	t.c_cc[VEOF] = 'q';
	ck_assert_int_eq(tcsetattr(slave, TCSANOW, &t), 0);
	ck_assert_int_eq(pty_eof_character(master), 'q');
	t.c_cc[VEOF] = _POSIX_VDISABLE;
	ck_assert_int_eq(tcsetattr(slave, TCSANOW, &t), 0);
	ck_assert_int_eq(pty_eof_character(master), -1);
	cfmakeraw(&t);
	ck_assert_int_eq(tcsetattr(slave, TCSANOW, &t), 0);
	ck_assert_int_eq(pty_eof_character(master), -1);
	close_pair();
	ck_assert_int_eq(pty_eof_character(master), -1);
}
END_TEST

START_TEST(signals_the_foreground)
{
	int status;
	pid_t pid;

	open_pair();
	pty_signal(master, SIGKILL); /* there is none */
	pid = fork();
	if (pid == 0) {
		if (setsid() < 0 || ioctl(slave, TIOCSCTTY, 0) < 0 || write(slave, "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	for (char c; read(master, &c, 1) != 1;)
		usleep(1000);
	pty_signal(master, SIGUSR1);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1);
	close_pair();
}
END_TEST

START_TEST(a_failing_call_leaves_nothing_open)
{
	unsigned fds = fault_fds();

	FAULT_EACH("open", ENFILE)
	{
		int rc = pty_open(&master, &slave);

		ck_assert(rc == 0 || rc == -ENFILE);
		if (rc == 0)
			close_pair();
		ck_assert_uint_eq(fault_fds(), fds);
	}
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {opens_both_ends, sets_the_size,
	    knows_the_end_of_file_character, signals_the_foreground,
	    a_failing_call_leaves_nothing_open, NULL};

	return suite_of("pty", tests);
}
