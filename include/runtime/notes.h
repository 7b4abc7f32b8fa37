/* notes.h - what the steps of a request leave behind for the person who asked: "one; two: why". */
#ifndef RUNTIME_NOTES_H
#define RUNTIME_NOTES_H

#include "base/span.h"

enum { NOTES_BYTES = 2048 };

struct notes {
	char text[NOTES_BYTES]; /* ends with NUL */
};

static inline void notes_clear(struct notes *n)
{
	n->text[0] = '\0';
}

/* Adds "what", or "what: more" when there is more. Bytes that are not printable ASCII become '?'. A
 * note that does not fit is cut. */
void notes_add(struct notes *n, const char *what, struct span more);

#endif
