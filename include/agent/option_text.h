/* option_text.h - the options as people read them: the help, defaults, and what is wrong. */
#ifndef AGENT_OPTION_TEXT_H
#define AGENT_OPTION_TEXT_H

#include "agent/option_rows.h"
#include "agent/options.h"

/* One line that says what is wrong and what would be right, into buf. Untrusted bytes are not
 * escaped. */
const char *option_problem_text(const struct option_problem *p, char *buf, size_t cap);

/* The default of a row as a person reads it ("16M", "5s"), into buf; "" for none. */
const char *option_default_text(const struct option_row *row, char *buf, size_t cap);

/* Writes the help to a descriptor. */
void options_help(int fd);

#endif
