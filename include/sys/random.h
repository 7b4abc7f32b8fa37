/* random.h - the kernel's random numbers. */
#ifndef SYS_RANDOM_H
#define SYS_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* Fills the buffer from getrandom(2). 0 or -errno (-EAGAIN: the pool is not initialised yet). */
int random_fill(void *p, size_t n);

/* A random number for protocol ids. Drawn from a pool that is refilled 64 numbers at a time; falls
 * back to clock and address bits only while the kernel has no entropy. */
uint16_t random_u16(void);

/* Seeds for hash tables that strangers fill. While the kernel's pool is not initialised yet, they
 * are the random bytes that it gave this process at exec (getauxval(3), AT_RANDOM). */
void random_seed(uint64_t seed[2]);

#endif
