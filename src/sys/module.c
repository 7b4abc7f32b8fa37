#include "sys/module.h"

#include "base/cursor.h"
#include "sys/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <linux/module.h>

#ifndef MODULE_INIT_COMPRESSED_FILE /* Linux 5.17 */
#define MODULE_INIT_COMPRESSED_FILE 4
#endif

enum { LIST_BYTES = 8 << 20 }; /* the largest modules.dep or modules.builtin that is read */

static bool is_compressed(const char *path)
{
	return !span_ends(span_str(path), span_str(".ko"));
}

int module_load_file(const char *path)
{
	int flags = is_compressed(path) ? MODULE_INIT_COMPRESSED_FILE : 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int rc = 0;

	if (fd < 0)
		return -errno;
	if (syscall(SYS_finit_module, fd, "", flags) < 0 && errno != EEXIST)
		rc = -errno;
	close(fd);
	return rc;
}

/* Where a file below /lib/modules/<release> is. 0 or -errno. */
static int find_file(struct span name, char path[PATH_MAX])
{
	struct utsname kernel;
	char text[PATH_MAX];

	if (uname(&kernel) < 0)
		return -errno;
	if (!span_to_cstr(name, text, sizeof text) ||
	    !text_join(path, PATH_MAX, "/lib/modules/", kernel.release, "/", text))
		return -ENAMETOOLONG;
	return 0;
}

static int load_relative(struct span name)
{
	char path[PATH_MAX];
	int rc = find_file(name, path);

	return rc < 0 ? rc : module_load_file(path);
}

/* --- by name -------------------------------------------------------------------------------- */

/* A whole file of /lib/modules/<release>, to be freed; NULL when it cannot be had. */
static char *read_list(const char *name, size_t *n)
{
	char path[PATH_MAX];
	char *text = malloc(LIST_BYTES);
	ssize_t got = -1;

	if (text && find_file(span_str(name), path) == 0)
		got = fs_read_file(path, text, LIST_BYTES);
	if (got < 0) {
		free(text);
		return NULL;
	}
	*n = (size_t)got;
	return text;
}

/* Whether "kernel/net/a-b.ko.xz" is the file of module "a_b": hyphens and underscores are one. */
static bool is_file_of(struct span path, struct span module)
{
	size_t base = path.n;

	while (base > 0 && path.p[base - 1] != '/')
		base--;
	path = span_from(path, base);
	if (path.n < module.n || !span_starts(span_from(path, module.n), span_str(".ko")))
		return false;
	for (size_t i = 0; i < module.n; i++)
		if ((path.p[i] == '-' ? '_' : path.p[i]) !=
		    (module.p[i] == '-' ? '_' : module.p[i]))
			return false;
	return true;
}

/* The line whose file is the module's, or an empty span. */
static struct span find_line(struct span text, struct span module)
{
	while (text.n) {
		struct span line = span_split(&text, '\n');
		struct span rest = line;

		if (is_file_of(span_split(&rest, ':'), module))
			return line;
	}
	return span_of(NULL, 0);
}

/* "a.ko: b.ko c.ko": what a needs, in the reverse of the order in which it is to be loaded. */
static int load_line(struct span line)
{
	struct span needs = line;
	struct span file = span_split(&needs, ':');

	while (needs.n) {
		size_t start = needs.n;
		struct span word;
		int rc;

		while (start > 0 && needs.p[start - 1] != ' ')
			start--;
		word = span_from(needs, start);
		needs = span_first(needs, start ? start - 1 : 0);
		rc = word.n ? load_relative(word) : 0;
		if (rc < 0)
			return rc;
	}
	return load_relative(file);
}

static bool is_built_in(struct span module)
{
	size_t n;
	char *text = read_list("modules.builtin", &n);
	bool found = text && find_line(span_of(text, n), module).n;

	free(text);
	return found;
}

static int load_name(struct span module)
{
	size_t n;
	char *text = read_list("modules.dep", &n);
	struct span line = text ? find_line(span_of(text, n), module) : span_of(NULL, 0);
	int rc = line.n ? load_line(line) : is_built_in(module) ? 0 : -ENOENT;

	free(text);
	return rc;
}

int module_load(const char *word)
{
	if (word[0] == '/')
		return module_load_file(word);
	if (strpbrk(word, "/."))
		return load_relative(span_str(word));
	return load_name(span_str(word));
}
