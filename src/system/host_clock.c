#include "system/host_clock.h"

#include "base/log.h"
#include "sys/clock.h"

#include <errno.h>

bool host_clock_is_off(int64_t now_ns, int64_t host_secs)
{
	int64_t now_secs = now_ns / (int64_t)NS_PER_SEC;

	return now_secs < host_secs - 1 || now_secs > host_secs + 1;
}

void host_clock_follow(const struct host_clock *c, int64_t secs)
{
	int64_t now_ns;
	int rc;

	if (!c->may_set || secs <= 0)
		return;
	now_ns = clock_real_ns();
	if (!host_clock_is_off(now_ns, secs))
		return;
	rc = secs > INT64_MAX / (int64_t)NS_PER_SEC ? -ERANGE
						    : clock_step(secs * (int64_t)NS_PER_SEC);
	if (rc < 0)
		log_warn("clock", "cannot set the clock to the host's", KV_NUM("host_secs", secs),
		    KV_ERR(rc));
	else
		log_info("clock", "clock stepped to the host's", KV_NUM("host_secs", secs),
		    KV_NUM("was_secs", now_ns / (int64_t)NS_PER_SEC));
}
