/* suite.h - what a unit test program defines: its one suite, named after the source file it tests.
 */
#ifndef TESTS_SUITE_H
#define TESTS_SUITE_H

#include <check.h>

Suite *suite(void);

/* A suite with one test case that holds the tests given, ended by NULL. */
Suite *suite_of(const char *name, const TTest *const *tests);

/* Says why the test under way cannot run here. The caller returns then; tests/run counts it as
 * skipped. */
void skip_test(const char *why);

#endif
