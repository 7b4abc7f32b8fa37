/* daemon - stands in for dockerd or containerd, whichever it runs as: it opens the socket that its
 * flags name, and answers whatever is asked there as dockerd answers a ping.
 *
 * A file beside it with ".day" behind its own name makes it a bad day:
 *   dies   it says why and ends at once          deaf   it never opens its socket
 *   mute   it takes connections and never answers */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* The word in the file, "" without one. */
static const char *day_of(const char *program)
{
	static char word[16];
	char path[256];
	FILE *f;

	snprintf(path, sizeof path, "%s.day", program);
	f = fopen(path, "re");
	if (f && !fgets(word, sizeof word, f))
		word[0] = '\0';
	if (f)
		fclose(f);
	return word;
}

/* "--address", PATH of containerd's flags; "--host=unix://PATH" of dockerd's. */
static const char *socket_of(char **argv)
{
	static const char host[] = "--host=unix://";

	for (; *argv; argv++) {
		if (strcmp(*argv, "--address") == 0)
			return argv[1];
		if (strncmp(*argv, host, strlen(host)) == 0)
			return *argv + strlen(host);
	}
	return NULL;
}

static int listen_at(const char *path)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 64) < 0)
		fail(path);
	return fd;
}

static void answer(int fd)
{
	static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";
	char request[4096];

	if (read(fd, request, sizeof request) > 0)
		send(fd, ok, strlen(ok), MSG_NOSIGNAL);
}

int main(int argc, char **argv)
{
	const char *day = day_of(argv[0]);
	const char *path = socket_of(argv);
	bool is_mute = strcmp(day, "mute") == 0;
	int listener;

	if (argc < 2 || !path) {
		fprintf(stderr, "no socket is named\n");
		return 2;
	}
	if (strcmp(day, "dies") == 0) {
		fprintf(stderr, "no luck today\n");
		return 1;
	}
	if (strcmp(day, "deaf") == 0)
		for (;;)
			pause();
	listener = listen_at(path);
	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0 || is_mute)
			continue; /* whoever it is waits in vain */
		answer(fd);
		close(fd);
	}
}
