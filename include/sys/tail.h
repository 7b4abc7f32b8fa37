/* tail.h - the last lines of a log file, to be told in an error. */
#ifndef SYS_TAIL_H
#define SYS_TAIL_H

#include <stddef.h>

enum { TAIL_READ_BYTES = 2048 }; /* of the end of the file; longer lines are cut */

/* The last `lines` lines of a file as a C string in out[cap]: their ends become '|', what is no
 * printable ASCII becomes '?', and of a text that does not fit the end is kept. 0 or -errno (-ELOOP
 * for a symbolic link, which may lead anywhere). Blocks as long as the filesystem does: for a
 * worker. */
int tail_lines(const char *path, unsigned lines, char *out, size_t cap);

/* Likewise of an open file, and it is read on from its end. */
int tail_lines_of(int fd, unsigned lines, char *out, size_t cap);

#endif
