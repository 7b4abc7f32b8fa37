/* docker - the docker command on a guest's engine: a private socket of this machine is relayed to
 * the proxy of the guest, two processes a connection. */
#include "commands.h"
#include "print.h"
#include "sys/fs.h"
#include "sys/sock.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	PROXY_PORT = 2375,
	RELAY_BYTES = 64 * 1024,
	BACKLOG = 64,
	MAX_RELAYS = 256,
	CONNECT_MS = 10000
};

/* The private socket, and what it leads to. */
struct relay {
	const struct host *host;
	uint64_t timeout_ms;
	char dir[64], path[96];
	int listen_fd;
	unsigned running;
};

/* --- one connection --------------------------------------------------------------------------- */

static void die_with(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_LOCAL);
}

/* Until the end of one side, which the other is told. */
static void copy(int from, int to)
{
	static uint8_t buf[RELAY_BYTES];
	struct pollfd input = {.fd = from, .events = POLLIN};
	ssize_t n = 1;

	while (n != 0) {
		n = read(from, buf, sizeof buf);
		if (n < 0 && errno == EAGAIN)
			poll(&input, 1, -1);
		else if (n < 0 && errno != EINTR)
			break;
		else if (n > 0 && fs_write_all(to, span_of(buf, (size_t)n)) < 0)
			break;
	}
	shutdown(to, SHUT_WR);
}

/* Both ways at once, so that neither waits for the other: a process each. */
static _Noreturn void serve(const struct relay *r, int client, pid_t parent)
{
	pid_t self = getpid(), other;
	int engine = -1;
	int rc;

	die_with(parent);
	close(r->listen_fd);
	rc = host_connect(r->host, "docker", r->timeout_ms, &engine);
	if (rc)
		_exit(rc);
	other = fork();
	if (other == 0) {
		die_with(self);
		copy(client, engine);
		_exit(EXIT_OK);
	}
	if (other > 0)
		copy(engine, client);
	if (other > 0)
		waitpid(other, NULL, 0);
	_exit(EXIT_OK);
}

static void accept_one(struct relay *r)
{
	struct addr peer;
	pid_t parent = getpid();
	int fd = sock_accept(r->listen_fd, &peer);

	if (fd < 0)
		return;
	if (r->running < MAX_RELAYS) {
		pid_t pid = fork();

		if (pid == 0)
			serve(r, fd, parent);
		r->running += pid > 0;
	}
	close(fd);
}

/* --- the socket ------------------------------------------------------------------------------- */

static void close_socket(const struct relay *r)
{
	close(r->listen_fd);
	unlink(r->path);
	rmdir(r->dir);
}

/* In a directory that is nobody else's. */
static int open_socket(struct relay *r)
{
	struct addr at;

	snprintf(r->dir, sizeof r->dir, "/tmp/arcboxctl-XXXXXX");
	if (!mkdtemp(r->dir))
		return -errno;
	snprintf(r->path, sizeof r->path, "%s/docker.sock", r->dir);
	addr_unix(r->path, &at);
	r->listen_fd = sock_listen(&at, BACKLOG);
	if (r->listen_fd >= 0)
		return 0;
	rmdir(r->dir);
	return r->listen_fd;
}

/* --- the command ------------------------------------------------------------------------------ */

static _Noreturn void run_program(const struct relay *r, char **args, const sigset_t *mask)
{
	char value[sizeof r->path + 8];
	char **argv = args - 1; /* the word "docker" itself */

	snprintf(value, sizeof value, "unix://%s", r->path);
	setenv("DOCKER_HOST", value, 1);
	unsetenv("DOCKER_CONTEXT");
	unsetenv("DOCKER_TLS");
	unsetenv("DOCKER_TLS_VERIFY");
	sigprocmask(SIG_SETMASK, mask, NULL);
	execvp("docker", argv);
	_exit(fail(EXIT_LOCAL, "docker: cannot run the docker command: %s; install Docker's client",
	    err_text(-errno)));
}

/* Waits for those that have ended. True with *status when the program is among them. */
static bool reap(struct relay *r, pid_t program, int *status)
{
	pid_t pid;
	int ended;

	while ((pid = waitpid(-1, &ended, WNOHANG)) > 0) {
		if (pid != program) {
			r->running--;
			continue;
		}
		*status = WIFEXITED(ended) ? WEXITSTATUS(ended) : 128 + WTERMSIG(ended);
		return true;
	}
	return false;
}

/* What a terminal sends, it sends to the program, too; what others send is handed on. */
static void take_signal(int signal_fd, pid_t program)
{
	struct signalfd_siginfo info;

	if (read(signal_fd, &info, sizeof info) == sizeof info &&
	    (info.ssi_signo == SIGTERM || info.ssi_signo == SIGHUP))
		kill(program, (int)info.ssi_signo);
}

/* Serves the program until it ends, and returns its exit status. */
static int serve_program(struct relay *r, pid_t program, int signal_fd)
{
	struct pollfd sources[] = {
	    {.fd = r->listen_fd, .events = POLLIN}, {.fd = signal_fd, .events = POLLIN}};
	int status;

	while (!reap(r, program, &status)) {
		if (poll(sources, 2, -1) < 0)
			continue;
		if (sources[0].revents)
			accept_one(r);
		if (sources[1].revents)
			take_signal(signal_fd, program);
	}
	return status;
}

static int run_with_socket(struct relay *r, char **args)
{
	sigset_t taken, before;
	int signal_fd, rc;
	pid_t pid;

	sigemptyset(&taken);
	sigaddset(&taken, SIGCHLD);
	sigaddset(&taken, SIGTERM);
	sigaddset(&taken, SIGHUP);
	sigaddset(&taken, SIGINT);
	sigaddset(&taken, SIGQUIT);
	sigprocmask(SIG_BLOCK, &taken, &before);
	signal_fd = signalfd(-1, &taken, SFD_CLOEXEC);
	pid = signal_fd < 0 ? -1 : fork();
	if (pid == 0)
		run_program(r, args, &before);
	rc = pid < 0
	    ? fail(EXIT_LOCAL, "docker: cannot start the docker command: %s", err_text(-errno))
	    : serve_program(r, pid, signal_fd);
	if (signal_fd >= 0)
		close(signal_fd);
	return rc;
}

static int find_proxy(const struct host *host, const struct settings *s, struct host *out)
{
	enum err err;

	if (!s->docker_host) {
		if (host_with_port(host, PROXY_PORT, out))
			return 0;
		return fail(EXIT_USAGE,
		    "docker: %s leads to the agent only; say where the Docker proxy is by "
		    "--docker-host, before the word docker",
		    host->text);
	}
	err = host_parse(s->docker_host, out);
	return err
	    ? fail(EXIT_USAGE,
		  "--docker-host \"%s\": %s; it is vsock:CID:PORT, unix:PATH or fc:PATH:PORT",
		  s->docker_host, err_text((int)err))
	    : 0;
}

int run_docker(const struct host *host, const struct settings *s, char **args)
{
	struct relay r = {.timeout_ms = s->timeout_ms ? s->timeout_ms : CONNECT_MS};
	struct host proxy;
	int rc = find_proxy(host, s, &proxy);

	if (rc)
		return rc;
	r.host = &proxy;
	rc = open_socket(&r);
	if (rc < 0)
		return fail(
		    EXIT_LOCAL, "docker: cannot make a socket below /tmp: %s", err_text(rc));
	rc = run_with_socket(&r, args);
	close_socket(&r);
	return rc;
}
