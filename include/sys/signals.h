/* signals.h - signals as events. They are masked before anything else happens, and read from a
 * signalfd. */
#ifndef SYS_SIGNALS_H
#define SYS_SIGNALS_H

#include "sys/loop.h"

#include <signal.h>

struct signals;
typedef void signals_fn(struct signals *s, int sig);

struct signals {
	struct source source;
	signals_fn *fn;
};

/* Blocks every signal that can be blocked but the ones that report a crash of this process, and
 * ignores SIGPIPE. The first call of main. */
void signals_block(void);

/* Calls fn for each SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGPWR that arrives. Several of one number
 * may arrive as one. 0 or -errno. */
int signals_init(struct signals *s, struct loop *l, signals_fn *fn);

/* Stops; the memory may go at the end of this turn. */
void signals_done(struct signals *s);

/* For a forked child before exec: default actions and an empty mask. */
void signals_reset(void);

#endif
