/* sysinfo.h - what the kernel says of this machine. */
#ifndef SYS_SYSINFO_H
#define SYS_SYSINFO_H

#include "base/ip.h"

#include <stddef.h>
#include <stdint.h>

enum { SYSINFO_ADDRS = 64 };

struct sysinfo_report {
	char kernel_version[65], os_name[65], os_version[65], arch[65],
	    hostname[65]; /* utsname(2), os-release(5) */
	uint64_t memory_total_bytes, memory_available_bytes;
	uint32_t cpu_count;   /* that this process may run on */
	double load[3];       /* 1, 5 and 15 minutes */
	uint64_t uptime_secs; /* suspended time counts */
	struct ip
	    addrs[SYSINFO_ADDRS]; /* not loopback, not link-local, of interfaces that are up */
	size_t n_addrs;
};

/* Fills the report with all that can be read; what cannot is 0 or empty, and addresses beyond
 * SYSINFO_ADDRS are left out. Reads /proc, so it does not block. */
void sysinfo_read(struct sysinfo_report *out);

#endif
