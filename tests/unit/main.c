/* The runner that every unit test program links: it runs the one suite that the program defines. */
#include "suite.h"

#include <stdlib.h>

/* With one test, on a machine that is busy with others. */
#define PATIENCE_SECS "240"

int main(void)
{
	SRunner *runner;
	int failed;

	setenv("CK_DEFAULT_TIMEOUT", PATIENCE_SECS, 0);
	runner = srunner_create(suite());
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
