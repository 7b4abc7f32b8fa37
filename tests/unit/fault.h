/* fault.h - makes the Nth fallible call of the code under test fail.
 *
 * The linker's --wrap puts tests/unit/fault.c before the calls listed in the Makefile. A test runs
 * its scenario once for every N until the scenario no longer reaches the Nth call:
 *
 *     FAULT_EACH("malloc", ENOMEM) { int rc = thing_init(&t); ... thing_done(&t); }
 *
 * and checks after each round that it holds what it held before. The body may assert: Check's own
 * calls are not counted. A forked child goes on with the fault of its parent, and what it reaches
 * counts. */
#ifndef TESTS_FAULT_H
#define TESTS_FAULT_H

#include <stdbool.h>

/* The `nth` call (from 1) of the named function from now on fails with errno `err`, and so do all
 * later ones when `stuck`. A name that is not wrapped fails the test. `close` closes even when it
 * fails. */
void fault_arm(const char *call, unsigned nth, int err, bool stuck);

/* Takes the fault away. True when it was reached. */
bool fault_disarm(void);

/* For read, write, recvfrom, sendto, readv, writev, recvmsg and sendmsg: calls move at most n bytes
 * from now on; 0 takes the limit away. */
void fault_short(unsigned n);

/* How many descriptors and how many children (zombies too) this process has. */
unsigned fault_fds(void);
unsigned fault_children(void);

/* For a test that changes its root directory: what a coverage build counts in it, and in the
 * processes that it forks, is written below the root of now. Takes descriptor 0. */
void fault_keep_coverage(void);

/* Runs the body with the 1st, 2nd, … call failing, until a round does not reach the fault. */
#define FAULT_EACH(call, err)                                                                      \
	for (unsigned fault_n_ = 1, fault_go_ = 1;                                                 \
	     fault_go_ && (fault_arm(call, fault_n_, err, false), 1);                              \
	     fault_go_ = fault_disarm(), fault_n_++)

#endif
