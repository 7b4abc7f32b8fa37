/* load_start PATH PROGRAM [ARG...] - runs a server and prints `seconds S pss_kib N`: how long from
 * its start to its first answer to a ping at the unix socket PATH, and what memory it holds then.
 */
#include "bench.h"
#include "sys/clock.h"
#include "sys/fs.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_MS = 5000 };

static int connect_when_up(const char *path, uint64_t deadline)
{
	struct sockaddr_un a = unix_address(path);
	int fd = must("socket", socket(AF_UNIX, SOCK_STREAM, 0));

	while (connect(fd, (struct sockaddr *)&a, sizeof a) < 0)
		if (clock_mono_ns() > deadline)
			return -1;
	return fd;
}

static bool is_answered(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return write(fd, ping_request, sizeof ping_request) == sizeof ping_request &&
	    poll(&p, 1, PATIENCE_MS) > 0 && p.revents == POLLIN;
}

/* Moves this process to a core, so that the server that it starts and its own waiting do not share
 * one. A machine with one core stays as it is. */
static void pin(unsigned core)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(core, &set);
	sched_setaffinity(0, sizeof set, &set);
}

/* The proportional set size; -1 when it cannot be had. */
static long pss_kib(pid_t pid)
{
	char path[64], text[2048];
	const char *at;
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
	n = fs_read_file(path, text, sizeof text - 1);
	text[n > 0 ? n : 0] = '\0';
	at = strstr(text, "\nPss:");
	return at ? strtol(at + 5, NULL, 10) : -1;
}

int main(int argc, char **argv)
{
	static char *no_environment[] = {NULL};
	uint64_t begin, end;
	int fd, rc;
	pid_t pid;

	if (argc < 3)
		need_args(argc, argv, 2, "PATH PROGRAM [ARG...]");
	pin(0);
	begin = clock_mono_ns();
	rc = posix_spawn(&pid, argv[2], NULL, NULL, argv + 2, no_environment);
	if (rc != 0) {
		fprintf(stderr, "%s: %s\n", argv[2], strerror(rc));
		return EXIT_FAILURE;
	}
	pin(1);
	fd = connect_when_up(argv[1], begin + PATIENCE_MS * NS_PER_MS);
	rc = fd >= 0 && is_answered(fd);
	end = clock_mono_ns();
	if (rc)
		printf("seconds %.9f pss_kib %ld\n", (double)(end - begin) / 1e9, pss_kib(pid));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return rc ? EXIT_SUCCESS : EXIT_FAILURE;
}
