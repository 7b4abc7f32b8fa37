#include "runtime/program.h"

#include "sys/fs.h"

#include <stdlib.h>
#include <unistd.h>

/* "" when it does not fit. */
static void join(char out[PROGRAM_PATH_BYTES], const char *a, const char *b, const char *c)
{
	if (!text_join(out, PROGRAM_PATH_BYTES, a, b, c))
		out[0] = '\0';
}

void program_init(
    struct program *p, const char *directory, const char *name, const char *const *args)
{
	size_t n = 0;

	join(p->path, directory, "/", name);
	join(p->log, "/arcbox/log/", name, ".log");
	join(p->other_log, "/tmp/", name, ".log");
	p->log_paths[0] = p->log;
	p->log_paths[1] = p->other_log;
	p->log_paths[2] = NULL;
	p->argv[n++] = p->path;
	while (*args && n < PROGRAM_ARGS)
		p->argv[n++] = *args++;
	p->argv[n] = NULL;
}

void environment_init(struct environment *e, const char *directory)
{
	const char *own = getenv("PATH");
	struct wr w = wr_of(e->path, sizeof e->path);
	size_t n = 0;

	wr_str(&w, "PATH=");
	wr_str(&w, directory);
	wr_str(&w, own ? ":" : "");
	wr_str(&w, own ? own : "");
	wr_str(&w, ":/usr/sbin:/usr/bin:/sbin:/bin");
	wr_nul(&w);
	e->variables[n++] = w.err == E_OK ? e->path : "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
	for (char **v = environ; *v && n < PROGRAM_VARIABLES - 1; v++)
		if (strncmp(*v, "PATH=", strlen("PATH=")) != 0)
			e->variables[n++] = *v;
	e->variables[n] = NULL;
}

void program_list_missing(const char *directory, const char *const *names, struct wr *out)
{
	char path[PROGRAM_PATH_BYTES];

	for (; *names; names++) {
		join(path, directory, "/", *names);
		if (path[0] && fs_is_program(path))
			continue;
		wr_str(out, out->n ? ", " : "");
		wr_str(out, *names);
	}
}
