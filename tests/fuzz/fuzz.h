/* fuzz.h - what every fuzz target defines. */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include "base/span.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#endif
