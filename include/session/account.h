/* account.h - who a command runs as: users and groups out of passwd(5) and group(5).
 *
 * A user is written USER[:GROUP], each a name or a number; what looks like a number is one. As in
 * containers, a number that no line of passwd has is a user of group 0 whose home is /, and naming
 * a GROUP leaves the user's other groups out. */
#ifndef SESSION_ACCOUNT_H
#define SESSION_ACCOUNT_H

#include "base/err.h"
#include "base/span.h"

#include <sys/types.h>

enum { ACCOUNT_GROUPS = 64 }; /* other groups of a user; more are left out */

struct account {
	uid_t uid;
	gid_t gid;
	gid_t groups[ACCOUNT_GROUPS];
	size_t n_groups;
	struct span name; /* a view of `passwd`, or of what was looked for */
	struct span home; /* a view of `passwd`, or static; never empty */
};

/* Looks up `who` in the texts of both files. E_UNKNOWN: there is no such user or group; E_RANGE: a
 * number is none of a user or group. Lines that are damaged are passed over. */
enum err account_find(struct span passwd, struct span group, struct span who, struct account *out);

#endif
