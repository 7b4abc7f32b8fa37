#include "cases.h"

#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

Suite *suite_of(const char *name, const TTest *const *tests)
{
	Suite *s = suite_create(name);
	TCase *tc = tcase_create(name);

	for (; *tests; tests++)
		tcase_add_test(tc, *tests);
	suite_add_tcase(s, tc);
	return s;
}

void skip_test(const char *why)
{
	printf("skip: %s\n", why);
	fflush(stdout);
}

struct guard guard_copy(struct span s)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t body = (s.n + page - 1) / page * page;
	struct guard g = {.map_bytes = body + page};
	uint8_t *map =
	    mmap(NULL, g.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert(map != MAP_FAILED);
	ck_assert_int_eq(mprotect(map + body, page, PROT_NONE), 0);
	if (s.n)
		memcpy(map + body - s.n, s.p, s.n);
	g.map = map;
	g.s = span_of(map + body - s.n, s.n);
	return g;
}

void guard_free(struct guard *g)
{
	munmap(g->map, g->map_bytes);
}

void each_cut(struct span s, void (*fn)(struct span cut, void *ctx), void *ctx)
{
	for (size_t n = 0; n <= s.n; n++) {
		struct guard g = guard_copy(span_first(s, n));

		fn(g.s, ctx);
		guard_free(&g);
	}
}

void each_mutation(struct span s, void (*fn)(struct span mutated, void *ctx), void *ctx)
{
	struct guard g = guard_copy(s);
	uint8_t *p = (uint8_t *)g.map + (g.s.p - (const uint8_t *)g.map);

	for (size_t i = 0; i < s.n; i++) {
		const uint8_t other[] = {0x00, 0xff, s.p[i] ^ 0x01, s.p[i] ^ 0x80};

		for (size_t k = 0; k < sizeof other; k++) {
			p[i] = other[k];
			fn(g.s, ctx);
		}
		p[i] = s.p[i];
	}
	guard_free(&g);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

struct span unhex(const char *hex)
{
	static uint8_t buf[65536];
	size_t n = 0;

	while (*hex) {
		int hi, lo;

		if (*hex == ' ' || *hex == '\n' || *hex == '\t') {
			hex++;
			continue;
		}
		hi = hex_digit(hex[0]);
		lo = hi < 0 ? -1 : hex_digit(hex[1]);
		if (lo < 0 || n == sizeof buf)
			ck_abort_msg("not hex: %.16s", hex);
		buf[n++] = (uint8_t)(hi << 4 | lo);
		hex += 2;
	}
	return span_of(buf, n);
}
