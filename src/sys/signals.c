#include "sys/signals.h"

#include "base/container.h"

#include <errno.h>
#include <stddef.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
static const int events[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGPWR};

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

void signals_block(void)
{
	sigset_t mask;

	sigfillset(&mask);
	for (size_t i = 0; i < COUNT(crashes); i++)
		sigdelset(&mask, crashes[i]);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	/* An ignored SIGCHLD, which can be inherited, would let the kernel bury the children
	 * unseen. */
	signal(SIGCHLD, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
}

static int signals_ready(struct source *source, uint32_t ready)
{
	struct signals *s = container_of(source, struct signals, source);
	struct signalfd_siginfo info[COUNT(events)];
	ssize_t n = read(source->fd, info, sizeof info);

	(void)ready;
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	for (size_t i = 0; i < (size_t)n / sizeof info[0] && !source->dead; i++)
		s->fn(s, (int)info[i].ssi_signo);
	return 0;
}

int signals_init(struct signals *s, struct loop *l, signals_fn *fn)
{
	sigset_t mask;
	int fd, rc;

	sigemptyset(&mask);
	for (size_t i = 0; i < COUNT(events); i++)
		sigaddset(&mask, events[i]);
	fd = signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	*s = (struct signals){.source = {.fn = signals_ready, .name = "signals"}, .fn = fn};
	rc = source_add(l, &s->source, fd, EPOLLIN);
	if (rc < 0)
		close(fd);
	return rc;
}

void signals_done(struct signals *s)
{
	source_remove(&s->source);
}

void signals_reset(void)
{
	sigset_t none;

	/* The ones that cannot be changed answer EINVAL. */
	for (int sig = 1; sig <= SIGRTMAX; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}
