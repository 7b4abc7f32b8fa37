#include "sys/clock.h"

#include <errno.h>
#include <time.h>

static int64_t read_ns(clockid_t clock)
{
	struct timespec ts = {0};

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * (int64_t)NS_PER_SEC + ts.tv_nsec;
}

uint64_t clock_mono_ns(void)
{
	int64_t ns = read_ns(CLOCK_MONOTONIC);
	return ns > 0 ? (uint64_t)ns : 1;
}

int64_t clock_real_ns(void)
{
	return read_ns(CLOCK_REALTIME);
}

int clock_step(int64_t real_ns)
{
	struct timespec ts = {
	    .tv_sec = (time_t)(real_ns / (int64_t)NS_PER_SEC),
	    .tv_nsec = (long)(real_ns % (int64_t)NS_PER_SEC),
	};

	return clock_settime(CLOCK_REALTIME, &ts) < 0 ? -errno : 0;
}
