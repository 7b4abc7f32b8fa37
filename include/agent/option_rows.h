/* option_rows.h - the table of options: a row says all of one, and everything else is made from the
 * rows. */
#ifndef AGENT_OPTION_ROWS_H
#define AGENT_OPTION_ROWS_H

#include "base/err.h"
#include "base/span.h"

enum option_kind {
	OPTION_SWITCH,
	OPTION_TEXT,
	OPTION_LIST,
	OPTION_NUMBER,
	OPTION_BYTES,
	OPTION_MS,
	OPTION_SECS,
};

struct option_row {
	const char *group; /* heading, on the first row of a group */
	const char *name;  /* without the dashes */
	const char *value; /* what stands for the value in the help; NULL for a switch */
	enum option_kind kind;
	size_t offset;                       /* in struct options */
	uint64_t min, max, number;           /* of a number: range and default */
	const char *text[3];                 /* of a text or list: the defaults */
	enum err (*check)(struct span text); /* NULL: any text */
	const char *help;
};

extern const struct option_row option_rows[];
extern const size_t option_row_count;

#endif
