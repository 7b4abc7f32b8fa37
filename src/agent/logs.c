#include "agent/logs.h"

#include "base/log.h"
#include "system/log_file.h"

#include <fcntl.h>
#include <unistd.h>

static void set_sinks(const struct agent *a)
{
	const int sinks[LOG_SINKS] = {a->console >= 0 ? a->console : STDERR_FILENO, a->log_file};

	log_sinks(sinks, a->log_file >= 0 ? 2 : 1);
}

/* Again when it could not be opened before: the directory may have been mounted meanwhile. */
void logs_open_file(struct agent *a)
{
	if (!log_file_is_open(a->log_file)) {
		if (a->log_file >= 0)
			close(a->log_file);
		a->log_file = log_file_open(a->options.log_file);
	}
	set_sinks(a);
}

void logs_close_file(struct agent *a)
{
	int fd = a->log_file;

	a->log_file = -1;
	set_sinks(a);
	if (fd >= 0)
		close(fd);
}

/* The one for the log comes before the system's, which may come first. For PID 1 that is not
 * stderr, which the kernel opened so that it could block. */
void logs_open_console(struct agent *a)
{
	const int flags = O_WRONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	int fd = open("/dev/hvc1", flags);

	if (fd < 0 && a->console < 0 && a->is_pid1)
		fd = open("/dev/console", flags);
	if (fd < 0)
		return;
	if (a->console >= 0)
		close(a->console);
	a->console = fd;
	set_sinks(a);
}

void logs_start(struct agent *a)
{
	const struct options *o = &a->options;
	const char *filter =
	    option_or_variable(option_or_variable(o->log, "ARCBOX_LOG"), "RUST_LOG");
	struct span bad;

	a->console = a->log_file = -1;
	logs_open_console(a);
	logs_open_file(a);
	if (filter && log_filter(span_str(filter), &bad) != E_OK)
		log_warn("main", "log filter is not understood, using info", KV_SPAN("at", bad));
}
