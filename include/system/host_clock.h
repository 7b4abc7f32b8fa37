/* host_clock.h - following the host's clock, which it sends with its pings. */
#ifndef SYSTEM_HOST_CLOCK_H
#define SYSTEM_HOST_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

struct host_clock {
	bool may_set; /* PID 1, or asked to */
};

/* The host says that it is `secs` since 1970 (0 or less: it does not say). The host sends whole
 * seconds, so a clock within one second of it is right; one further off is stepped, and that is
 * logged. */
void host_clock_follow(const struct host_clock *c, int64_t secs);

/* Whether a clock that shows now_ns differs from the host's whole second by more than a second. */
bool host_clock_is_off(int64_t now_ns, int64_t host_secs);

#endif
