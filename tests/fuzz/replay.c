/* Runs a fuzz target over files named on the command line, so that the corpora are tests too. */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>

static int replay(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data = malloc(1 << 20);
	size_t n;

	if (!f || !data) {
		perror(path);
		free(data);
		if (f)
			fclose(f);
		return -1;
	}
	n = fread(data, 1, 1 << 20, f);
	fclose(f);
	/* an exact-size copy, so that the sanitizer sees a read past the end */
	uint8_t *exact = malloc(n ? n : 1);
	if (exact) {
		memcpy(exact, data, n);
		LLVMFuzzerTestOneInput(exact, n);
	}
	free(exact);
	free(data);
	return 0;
}

int main(int argc, char **argv)
{
	int bad = 0;

	for (int i = 1; i < argc; i++)
		bad |= replay(argv[i]);
	printf("%d inputs\n", argc - 1);
	return bad ? EXIT_FAILURE : EXIT_SUCCESS;
}
