/* pty.h - pseudo-terminals; see pty(7). */
#ifndef SYS_PTY_H
#define SYS_PTY_H

#include <stdbool.h>
#include <stdint.h>

/* A new pair, both close-on-exec from birth; the master is non-blocking. 0 or -errno. */
int pty_open(int *master, int *slave);

/* Whoever is in the foreground gets SIGWINCH when the size is another one. */
void pty_resize(int master, uint16_t columns, uint16_t rows);

/* The character that means the end of input, or -1 while the terminal is not read by the line. */
int pty_eof_character(int master);

/* Sends a signal to the process group in the foreground, if there is one. */
void pty_signal(int master, int sig);

#endif
