/* hosts.h - the lines of a hosts(5) file: an address and its names, split by blanks; '#' starts a
 * comment, lines end in LF or CRLF. */
#ifndef CODEC_HOSTS_H
#define CODEC_HOSTS_H

#include "base/ip.h"

/* The longest line that is read, its comment and the blanks around it apart. */
#define HOSTS_LINE_BYTES 4096

struct hosts_reader {
	struct span rest;
	unsigned line; /* the number of the last line taken, from 1 */
};

/* A line that is an entry; or, with a problem, one to be told of and passed over. */
struct hosts_entry {
	unsigned line;
	const char *problem; /* NULL, or what is wrong with the line, in a few words */
	struct ip ip;        /* this and the next are defined when there is no problem */
	struct span names;   /* one at least, for hosts_name_next(); a view of the file */
};

static inline struct hosts_reader hosts_reader_of(struct span file)
{
	return (struct hosts_reader){file, 0};
}

/* The next line that holds anything, good or bad; false at the end of the file. */
bool hosts_next(struct hosts_reader *r, struct hosts_entry *out);

/* Takes the next name off the front of *names; false, with *out untouched, when there is none left.
 * Names are whatever stands between blanks: the caller judges them. */
bool hosts_name_next(struct span *names, struct span *out);

#endif
