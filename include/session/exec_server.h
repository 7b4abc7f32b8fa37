/* exec_server.h - port 52: one connection runs one command (exec.h), or sets the clock. */
#ifndef SESSION_EXEC_SERVER_H
#define SESSION_EXEC_SERVER_H

#include "session/exec.h"

enum {
	EXEC_SERVER_START_BYTES = 1 << 20, /* the largest START */
	EXEC_SERVER_REFUSALS = 16, /* connections beyond the limit that are told so at a time */
};

struct exec_server_conf {
	unsigned max_sessions;
	bool sets_clock; /* by CLOCK_SYNC; otherwise that is answered by -1 */
};

/* Memory of the caller, in place until the end. */
struct exec_server {
	struct exec_server_conf conf;
	struct executor executor;
	unsigned sessions, refusals; /* connections that are open */
};

void exec_server_init(
    struct exec_server *s, struct loop *l, struct reaper *r, const struct exec_server_conf *conf);

/* Serves a connection; takes the fd. One too many gets a reason and an EXIT. */
void exec_server_accept(struct exec_server *s, int fd);

#endif
