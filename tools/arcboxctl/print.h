/* print.h - what arcboxctl writes: messages for people and for programs, and error lines.
 *
 * All that an agent sends is untrusted. For people it is escaped as in C (\n \x1b \\), so that it
 * cannot reach through to the terminal. */
#ifndef ARCBOXCTL_PRINT_H
#define ARCBOXCTL_PRINT_H

#include "codec/pb.h"

#include <stdio.h>

/* How the program ends; --help and arcboxctl(1) tell the same. */
enum exit_code {
	EXIT_OK = 0,
	EXIT_REFUSED = 1, /* the agent answered Error, or that it is not so */
	EXIT_USAGE = 2,
	EXIT_CONNECT = 3,   /* no connection */
	EXIT_BROKEN = 4,    /* no whole answer in time, or not the one to this request */
	EXIT_LOCAL = 5,     /* a file of this machine, or memory */
	EXIT_NOT_RUN = 125, /* run, exec: any of these, for the others are the command's own */
};

/* Writes "arcboxctl: ..." to standard error as one line, escaped and cut where it is over 1 KiB.
 * Returns `code`. */
__attribute__((format(printf, 2, 3))) int fail(enum exit_code code, const char *format, ...);

/* Writes text for people: control characters, also those of Unicode that turn the direction of
 * writing, and what is not UTF-8 are escaped. */
void print_text(FILE *to, struct span text);

/* The same with line breaks and tabs left as they are. */
void print_lines(FILE *to, struct span text);

/* A message for people: a line for each field, lists of messages as tables. */
void print_message(FILE *to, const struct pb_table *t, const void *msg);

/* A list of messages as a table. */
void print_list(FILE *to, const struct pb_table *t, const struct pb_list *rows);

/* A message for programs: one line of JSON with all fields, named as in the .proto; bytes are
 * base64. 0 or EXIT_LOCAL, which has been said. */
int print_json(FILE *to, const struct pb_table *t, const void *msg);

#endif
