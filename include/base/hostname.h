/* hostname.h - names of machines (RFC 952, RFC 1123 section 2.1). */
#ifndef BASE_HOSTNAME_H
#define BASE_HOSTNAME_H

#include "base/span.h"

enum { HOSTNAME_BYTES = 64 }; /* the longest that Linux takes, HOST_NAME_MAX */

/* Whether `name` is labels of 1 to 63 letters, digits and inner hyphens with dots between them. Of
 * any length. */
bool hostname_is_legal(struct span name);

#endif
