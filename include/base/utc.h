/* utc.h - a time as text, as RFC 3339 has it: 2026-01-31T12:00:00.123Z. */
#ifndef BASE_UTC_H
#define BASE_UTC_H

#include "base/cursor.h"

enum { UTC_TEXT_BYTES = 25 }; /* until the year 9999, with a NUL */

/* Appends the time that is so many seconds, and nanoseconds, after the beginning of 1970. Errors
 * stick in `w`. */
void utc_write(struct wr *w, uint64_t secs, uint32_t ns);

#endif
