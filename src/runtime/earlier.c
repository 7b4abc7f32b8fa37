#include "runtime/earlier.h"

#include "base/container.h"
#include "base/cursor.h"
#include "base/parse.h"
#include "sys/fs.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { KILL_MS = 500 };

/* --- finding it ------------------------------------------------------------------------------ */

static pid_t read_pid(const char *path)
{
	char text[32];
	ssize_t n = fs_read_file(path, text, sizeof text);
	struct span digits = span_of(text, n < 0 ? 0 : (size_t)n);
	uint64_t pid;

	if (digits.n && digits.p[digits.n - 1] == '\n')
		digits.n--;
	return parse_u64(digits, 2, INT_MAX, &pid) == E_OK ? (pid_t)pid : 0;
}

static bool is_one_of(struct span path, const char *const *programs)
{
	for (; *programs; programs++) {
		struct span program = span_str(*programs);
		bool below = span_ends(program, span_str("/"));

		if (below ? span_starts(path, program) : span_eq(path, program))
			return true;
	}
	return false;
}

/* What a process runs is known by its executable, which may have been replaced meanwhile. */
static bool runs_one_of(pid_t pid, const char *const *programs)
{
	static const struct span deleted = SPAN_LIT(" (deleted)");
	char digits[DEC_TEXT_BYTES], link[32], exe[PATH_MAX];
	struct span path;
	ssize_t n;

	text_join(link, sizeof link, "/proc/", dec_text((uint64_t)pid, digits), "/exe");
	n = readlink(link, exe, sizeof exe);
	path = span_of(exe, n < 0 ? 0 : (size_t)n);
	if (span_ends(path, deleted))
		path.n -= deleted.n;
	return path.n && is_one_of(path, programs);
}

pid_t earlier_find(const char *pid_path, const char *const *programs)
{
	pid_t pid = read_pid(pid_path);

	return pid && getpgid(pid) == pid && runs_one_of(pid, programs) ? pid : 0;
}

/* --- stopping it ----------------------------------------------------------------------------- */

static void end(struct earlier *e, int rc)
{
	earlier_forget(e);
	e->fn(e, rc, e->forced);
}

static int has_ended(struct source *s, uint32_t events)
{
	struct earlier *e = container_of(s, struct earlier, source);

	(void)events;
	kill(-e->pid, SIGKILL); /* what it leaves in its group */
	end(e, 0);
	return 0;
}

static void is_late(struct timer *t)
{
	struct earlier *e = container_of(t, struct earlier, timer);

	if (e->forced) {
		end(e, -ETIMEDOUT);
		return;
	}
	e->forced = true;
	kill(-e->pid, SIGKILL);
	timer_in(t, KILL_MS * NS_PER_MS);
}

int earlier_stop(struct earlier *e, struct loop *l, pid_t pid, uint64_t wait_ms)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0U);
	int rc;

	if (fd < 0)
		return -errno;
	e->source = (struct source){.fn = has_ended, .name = "daemon of an earlier agent"};
	rc = source_add(l, &e->source, fd, EPOLLIN);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	e->pid = pid;
	e->forced = false;
	timer_init(&e->timer, l, is_late);
	timer_in(&e->timer, wait_ms * NS_PER_MS);
	kill(-pid, SIGTERM);
	return 0;
}

void earlier_forget(struct earlier *e)
{
	source_remove(&e->source);
	timer_at(&e->timer, 0);
}
