#include "init/prerequisites.h"

#include "base/cursor.h"
#include "init/mounts.h"
#include "sys/clock.h"
#include "sys/fs.h"
#include "sys/module.h"
#include "sys/mount.h"

#define YEAR_2020_SECS INT64_C(1577836800)

static void say(struct wr *w, const char *what, const char *more)
{
	wr_str(w, w->n ? ", " : "");
	wr_str(w, what);
	wr_str(w, more);
}

/* A machine without a clock of its own begins in 1970, when no certificate is valid yet. */
static void set_clock(struct wr *w)
{
	int rc = 0;

	if (clock_real_ns() < YEAR_2020_SECS * (int64_t)NS_PER_SEC)
		rc = clock_step(YEAR_2020_SECS * (int64_t)NS_PER_SEC);
	if (rc < 0)
		say(w, "cannot set the clock: ", err_text(rc));
}

int prerequisites_meet(char *why, size_t cap)
{
	struct wr w = wr_of(why, cap);
	const char *missing = mounts_for_containers();
	int rc;

	if (missing)
		say(&w, "cannot be mounted: ", missing);
	else if (!mount_is_writable("/tmp"))
		say(&w, "is not writable: ", missing = "/tmp");
	else if (!mount_is_writable("/run"))
		say(&w, "is not writable: ", missing = "/run");
	rc = fs_write_value("/proc/sys/net/ipv4/ip_forward", "1");
	if (rc < 0)
		say(&w, "cannot forward packets: ", err_text(rc));
	rc = mount_knows("overlay") ? 0 : module_load("overlay");
	if (rc < 0)
		say(&w, "no overlay filesystem: ", err_text(rc));
	set_clock(&w);
	wr_nul(&w);
	return missing ? -1 : 0;
}
