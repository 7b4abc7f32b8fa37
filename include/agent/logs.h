/* logs.h - where the log goes: stderr or a console, and a file. */
#ifndef AGENT_LOGS_H
#define AGENT_LOGS_H

#include "agent/agent.h"

/* Console, file and filter, from the options and the environment. */
void logs_start(struct agent *a);

/* The console again, since its module may have been loaded meanwhile. */
void logs_open_console(struct agent *a);

/* The file again, when it could not be opened before. */
void logs_open_file(struct agent *a);

/* Closes the file, so that its disk can be unmounted; the console stays. */
void logs_close_file(struct agent *a);

#endif
