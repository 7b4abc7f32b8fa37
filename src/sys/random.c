#include "sys/random.h"

#include "sys/clock.h"

#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/random.h>

int random_fill(void *p, size_t n)
{
	uint8_t *at = p;

	while (n > 0) {
		ssize_t got = getrandom(at, n, GRND_NONBLOCK);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		at += got;
		n -= (size_t)got;
	}
	return 0;
}

/* Better than a constant, and no more than that: the clock and the place that the loader chose for
 * us, mixed by the finaliser of MurmurHash3. */
static uint16_t guess_u16(void)
{
	static uint64_t calls;
	uint64_t x = clock_mono_ns() ^ (uint64_t)(uintptr_t)&calls ^ ++calls << 48;

	x = (x ^ x >> 33) * UINT64_C(0xff51afd7ed558ccd);
	x = (x ^ x >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
	return (uint16_t)(x ^ x >> 33);
}

uint16_t random_u16(void)
{
	static uint16_t pool[64];
	static size_t left;

	if (left == 0) {
		if (random_fill(pool, sizeof pool) < 0)
			return guess_u16();
		left = sizeof pool / sizeof pool[0];
	}
	return pool[--left];
}

void random_seed(uint64_t seed[2])
{
	const void *given = (const void *)getauxval(AT_RANDOM); /* 16 bytes, or NULL */

	seed[0] = seed[1] = 0;
	if (random_fill(seed, 2 * sizeof *seed) < 0 && given)
		memcpy(seed, given, 2 * sizeof *seed);
}
