/* kernel.h - stream sockets, epoll, timerfds, eventfds and the clock in memory, for targets that
 * turn a loop: system calls would take longer than what is tested. The linker puts them before the
 * real ones (KERNEL in the Makefile); descriptors of the real kernel are passed on to it, but
 * cannot be waited for.
 *
 * All is as in Linux for non-blocking unix(7) sockets, with buffers so small that they are often
 * full. Nothing waits: time passes when the target says so. */
#ifndef TESTS_FUZZ_KERNEL_H
#define TESTS_FUZZ_KERNEL_H

#include <stdint.h>

enum {
	KERNEL_FILES = 16,               /* that may be open at once */
	KERNEL_SOCKET_BYTES = 16 * 1024, /* that one may hold for its reader */
};

/* What clock_mono_ns() and clock_real_ns() say. */
extern uint64_t kernel_now_ns;

/* What a connect() fails with; 0: it is taken at once. */
extern int kernel_refuses;

/* The other end of the last connection that was made; -1 without a new one. */
int kernel_accept(void);

/* How many of its files are open. */
unsigned kernel_open_files(void);

#endif
