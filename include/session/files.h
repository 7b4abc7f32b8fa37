/* files.h - port 53: one connection writes or reads one file.
 *
 * Each is served by a worker of its own, for disks and pipes take their time: it reads from the
 * connection only as fast as the disk writes, and the other way round. A file that is written
 * appears at its path whole or not at all, in place of what was there, a symbolic link included;
 * missing parent directories are made. It is synced to the disk before it is acknowledged. */
#ifndef SESSION_FILES_H
#define SESSION_FILES_H

#include "sys/child.h"

enum {
	FILES_MAX_BYTES = 256 << 20, /* of a file, either way */
	FILES_WORKERS = 16,          /* one connection more is answered by an ERR */
	FILES_PATH_BYTES = 4096,
};

struct files {
	struct reaper *reaper;
	struct worker workers[FILES_WORKERS];
};

void files_init(struct files *f, struct reaper *r);

/* Serves a connection; takes the fd. */
void files_accept(struct files *f, int fd);

/* What the worker does: serves the connection `fd` to its end, blocking. The fd stays the caller's.
 */
void files_serve(int fd);

#endif
