#include "init/modules.h"

#include "base/cursor.h"
#include "base/log.h"
#include "sys/child.h"
#include "sys/fs.h"
#include "sys/module.h"

#include <errno.h>
#include <limits.h>

enum { LIST_BYTES = 64 * 1024 };

static const char *const lists[] = {"/etc/modules-load.conf", "/lib/modules/load.list"};

/* How it went, for the parent to log: a line for each that failed, "path: reason". */
static void report_failure(struct span word, int rc, int report_fd)
{
	char line[PATH_MAX + 128];
	struct wr w = wr_of(line, sizeof line);

	wr_bytes(&w, word);
	wr_str(&w, ": ");
	wr_str(&w, err_text(rc));
	wr_str(&w, "\n");
	if (w.err == E_OK)
		fs_write_all(report_fd, wr_span(&w));
}

/* In the worker. */
static int load_list(void *arg, int report_fd)
{
	struct span list = *(const struct span *)arg;

	while (list.n) {
		struct span line = span_split(&list, '\n');
		struct span word = span_trim(span_split(&line, '#'));
		char text[PATH_MAX];
		int rc = -ENAMETOOLONG;

		if (!word.n)
			continue;
		if (span_to_cstr(word, text, sizeof text))
			rc = module_load(text);
		if (rc < 0)
			report_failure(word, rc, report_fd);
	}
	return 0;
}

static ssize_t read_list(const char **path, char *buf, size_t cap)
{
	ssize_t n = -ENOENT;

	for (size_t i = 0; n == -ENOENT && i < sizeof lists / sizeof *lists; i++) {
		*path = lists[i];
		n = fs_read_file(lists[i], buf, cap);
	}
	return n;
}

void modules_load(uint64_t timeout_ms)
{
	static char text[LIST_BYTES];
	uint8_t report[WORKER_REPORT_BYTES];
	const char *path;
	ssize_t n = read_list(&path, text, sizeof text);
	struct span list, failures;

	if (n == -ENOENT)
		return;
	list = span_of(text, n > 0 ? (size_t)n : 0);
	if (n >= 0)
		n = worker_run(load_list, &list, timeout_ms, report);
	if (n < 0)
		log_warn("init", "cannot load all modules", KV_STR("list", path), KV_ERR(n));
	failures = span_of(report, n > 0 ? (size_t)n : 0);
	while (failures.n)
		log_warn(
		    "init", "cannot load a module", KV_SPAN("module", span_split(&failures, '\n')));
}
