/* clock.h - the kernel's clocks as nanoseconds. */
#ifndef SYS_CLOCK_H
#define SYS_CLOCK_H

#include <stdint.h>

#define NS_PER_MS  UINT64_C(1000000)
#define NS_PER_SEC UINT64_C(1000000000)

/* CLOCK_MONOTONIC, never 0. */
uint64_t clock_mono_ns(void);

/* CLOCK_REALTIME since 1970. */
int64_t clock_real_ns(void);

/* Steps CLOCK_REALTIME. 0 or -errno (needs CAP_SYS_TIME). */
int clock_step(int64_t real_ns);

#endif
