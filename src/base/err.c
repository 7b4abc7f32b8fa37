#include "base/err.h"

#include <limits.h>
#include <string.h>

static const char *const texts[] = {
    [E_OK] = "success",
    [E_MORE] = "cut short",
    [E_MALFORMED] = "malformed",
    [E_LIMIT] = "over the limit",
    [E_DEPTH] = "nested too deeply",
    [E_SPACE] = "does not fit",
    [E_UTF8] = "not valid UTF-8",
    [E_RANGE] = "out of range",
    [E_UNKNOWN] = "unknown",
};
_Static_assert(sizeof texts / sizeof *texts == E_COUNT, "every error has a text");

const char *err_text(int rc)
{
	if (rc >= 0)
		return rc < E_COUNT ? texts[rc] : "unknown error";
	return rc == INT_MIN ? "unknown error" : strerror(-rc);
}
