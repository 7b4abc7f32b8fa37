/* exec.h - running a command for a peer: its input, its output, its end.
 *
 * The engine knows no transport. Whoever has one hands it input and takes output, and stops and
 * resumes either; nothing is buffered here, so what one side does not take, the other cannot send.
 *
 * The command leads a session and process group of its own. Its exit code is 128 + N when signal N
 * ended it, EXEC_TIMED_OUT after its time ran out, and LAUNCH_NOT_FOUND or LAUNCH_NOT_EXECUTABLE
 * with a reason on its stderr when it could not be started.
 *
 * The end is told when the command has ended and its output was read to the end. A process that it
 * left behind may keep the output open for ever: it is listened to for EXEC_GRACE_MS after the
 * command's end, and what is in the pipes then is still handed on. Such a process lives on. */
#ifndef SESSION_EXEC_H
#define SESSION_EXEC_H

#include "session/command.h"
#include "sys/child.h"

enum {
	EXEC_PIECE_BYTES = 64 * 1024 - 64, /* the most that `output` is called with; a frame around
					    * it fits in 64 KiB */
	EXEC_GRACE_MS = 500,
	EXEC_HANGUP_MS = 2000, /* between SIGHUP and SIGKILL to a command whose peer has gone */
	EXEC_KILL_MS = 2000,   /* for a killed one to die; then it is told as ended */
	EXEC_TIMED_OUT = 124,
};

struct exec;

enum exec_stream { EXEC_STDOUT, EXEC_STDERR };

/* Called by the loop, never from inside an exec_ call. */
struct exec_ops {
	/* The command wrote something, viewed for the time of the call; all of it is taken.
	 * exec_pause() keeps more from coming. A tty's output is all EXEC_STDOUT. */
	void (*output)(void *ctx, enum exec_stream stream, struct span bytes);
	/* Input is taken again after exec_input() took less than it was given. */
	void (*writable)(void *ctx);
	/* The last call; the exec is gone afterwards. */
	void (*ended)(void *ctx, int code);
};

/* What commands share. Memory of the caller, in place while any runs. */
struct executor {
	struct loop *loop;
	struct reaper *reaper;
	unsigned max, running; /* commands, those included that are being ended */
};

void executor_init(struct executor *x, struct loop *l, struct reaper *r, unsigned max);

/* Starts a command; it is copied by the fork. 0 with *out, which is the engine's and lives until
 * `ended` or exec_cancel; -EBUSY: `max` commands run already; or -errno. */
int exec_start(struct executor *x, const struct command *c, const struct exec_ops *ops, void *ctx,
    struct exec **out);

/* Hands input on; how much of it was taken. Less than all of it: call again after `writable`. A
 * command that reads no input any more takes everything. */
size_t exec_input(struct exec *e, struct span bytes);

/* No more input will come. A tty gets its end-of-file character. */
void exec_end_input(struct exec *e);

/* Resizes the tty, if there is one; the command's foreground group gets SIGWINCH. */
void exec_resize(struct exec *e, struct vmframe_size size);

void exec_pause(struct exec *e);
void exec_resume(struct exec *e);

/* The peer has gone: no op is called any more. The command and its group get SIGHUP, then SIGKILL.
 */
void exec_cancel(struct exec *e);

#endif
