#include "init/init.h"

#include "base/cursor.h"
#include "base/hostname.h"
#include "base/log.h"
#include "base/parse.h"
#include "init/modules.h"
#include "init/mounts.h"
#include "sys/fs.h"
#include "sys/power.h"

#include <errno.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
	DESCRIPTORS = 1048576
}; /* for PID 1 and what it starts; dockerd gives as many to containers */

void init_first(void)
{
	mounts_first();
}

static void raise_nr_open(void)
{
	char text[32];
	ssize_t n = fs_read_file("/proc/sys/fs/nr_open", text, sizeof text);
	struct span number = span_of(text, n > 0 ? (size_t)n : 0);
	struct wr w = wr_of(text, sizeof text);
	uint64_t now = 0;
	int rc;

	if (n > 0 && parse_u64(span_split(&number, '\n'), 0, UINT64_MAX, &now) == E_OK &&
	    now >= DESCRIPTORS)
		return;
	wr_dec(&w, DESCRIPTORS);
	wr_nul(&w);
	rc = fs_write_value("/proc/sys/fs/nr_open", text);
	if (rc < 0)
		log_warn("init", "cannot raise fs.nr_open", KV_ERR(rc));
}

static void raise_descriptors(void)
{
	struct rlimit now, wanted;

	raise_nr_open();
	if (prlimit(0, RLIMIT_NOFILE, NULL, &now) < 0)
		return;
	wanted = now;
	if (wanted.rlim_cur < DESCRIPTORS)
		wanted.rlim_cur = DESCRIPTORS;
	if (wanted.rlim_max < wanted.rlim_cur)
		wanted.rlim_max = wanted.rlim_cur;
	if (wanted.rlim_cur != now.rlim_cur && prlimit(0, RLIMIT_NOFILE, &wanted, NULL) < 0)
		log_warn("init", "cannot raise the number of descriptors", KV_ERR(-errno));
}

/* A name that was given at an earlier start, by a lease or a person, stays. */
static void set_hostname(const char *wanted)
{
	char now[HOSTNAME_BYTES + 1] = "";
	int rc;

	if (gethostname(now, sizeof now) < 0)
		now[0] = '\0';
	if (!wanted && now[0] && strcmp(now, "(none)") != 0 && strcmp(now, "localhost") != 0)
		wanted = now;
	rc = etc_set_hostname(wanted ? wanted : "arcbox");
	if (rc < 0)
		log_warn("init", "cannot set the hostname",
		    KV_STR("hostname", wanted ? wanted : "arcbox"), KV_ERR(rc));
}

bool init_rest(const struct init_conf *conf)
{
	int rc = getpid() == 1 ? power_take_ctrl_alt_del() : 0;

	if (rc < 0)
		log_debug("init", "ctrl-alt-del resets the machine", KV_ERR(rc));
	modules_load(conf->modules_ms);
	raise_descriptors();
	mounts_rest(conf->keep_root);
	set_hostname(conf->hostname);
	etc_write(&conf->etc);
	return mounts_are_writable();
}
