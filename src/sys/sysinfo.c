#include "sys/sysinfo.h"

#include "base/parse.h"
#include "sys/addr.h"
#include "sys/fs.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <time.h>

enum { MEMINFO_BYTES = 8192, LOADAVG_BYTES = 128 };

/* The kernel knows at most 8192 CPUs (NR_CPUS), more than the 1024 of one cpu_set_t. */
enum { CPU_SETS = 8 };

static void copy_text(char out[65], const char *in)
{
	span_to_cstr(span_str(in), out, 65);
}

static void read_names(struct sysinfo_report *out)
{
	struct utsname u;

	if (uname(&u) < 0)
		return;
	copy_text(out->kernel_version, u.release);
	copy_text(out->os_name, u.sysname);
	copy_text(out->os_version, u.version);
	copy_text(out->arch, u.machine);
	copy_text(out->hostname, u.nodename);
}

/* The value of a line such as "MemTotal:       16314768 kB" (proc_meminfo(5)); 0 when there is
 * none. */
static uint64_t meminfo_bytes(struct span text, const char *key)
{
	while (text.n > 0) {
		struct span line = span_split(&text, '\n');
		struct span name = span_split(&line, ':');
		struct span value = span_trim(line);
		uint64_t kib;

		if (span_eq_str(name, key) &&
		    !parse_u64(span_split(&value, ' '), 0, UINT64_MAX / 1024, &kib))
			return kib * 1024;
	}
	return 0;
}

static void read_memory(struct sysinfo_report *out)
{
	char buf[MEMINFO_BYTES];
	ssize_t n = fs_read_file("/proc/meminfo", buf, sizeof buf);
	struct span text = span_of(buf, n > 0 ? (size_t)n : 0);

	out->memory_total_bytes = meminfo_bytes(text, "MemTotal");
	out->memory_available_bytes = meminfo_bytes(text, "MemAvailable");
	if (out->memory_available_bytes == 0) /* before Linux 3.14 */
		out->memory_available_bytes = meminfo_bytes(text, "MemFree");
}

static void read_cpus(struct sysinfo_report *out)
{
	cpu_set_t sets[CPU_SETS] = {0};

	if (sched_getaffinity(0, sizeof sets, sets) == 0)
		out->cpu_count = (uint32_t)CPU_COUNT_S(sizeof sets, sets);
}

/* "0.20 0.18 0.12 1/80 11206" */
static void read_load(struct sysinfo_report *out)
{
	char buf[LOADAVG_BYTES];
	ssize_t n = fs_read_file("/proc/loadavg", buf, sizeof buf - 1);
	char *at = buf;

	if (n < 0)
		return;
	buf[n] = 0;
	for (size_t i = 0; i < 3; i++)
		out->load[i] = strtod(at, &at);
}

static void read_uptime(struct sysinfo_report *out)
{
	struct timespec ts;

	if (clock_gettime(CLOCK_BOOTTIME, &ts) == 0)
		out->uptime_secs = (uint64_t)ts.tv_sec;
}

/* An address that others may reach this machine by. */
static bool address_of(const struct ifaddrs *i, struct ip *out)
{
	struct addr a = {0};

	if (!i->ifa_addr || !(i->ifa_flags & IFF_UP) || (i->ifa_flags & IFF_LOOPBACK))
		return false;
	switch (i->ifa_addr->sa_family) {
	case AF_INET: a.len = sizeof a.u.in; break;
	case AF_INET6: a.len = sizeof a.u.in6; break;
	default: return false;
	}
	memcpy(&a.u, i->ifa_addr, a.len);
	return addr_to_ip(&a, out) && !ip_is_loopback(out) && !ip_is_link_local(out);
}

static void read_addresses(struct sysinfo_report *out)
{
	struct ifaddrs *all;

	if (getifaddrs(&all) < 0)
		return;
	for (const struct ifaddrs *i = all; i && out->n_addrs < SYSINFO_ADDRS; i = i->ifa_next)
		if (address_of(i, &out->addrs[out->n_addrs]))
			out->n_addrs++;
	freeifaddrs(all);
}

void sysinfo_read(struct sysinfo_report *out)
{
	*out = (struct sysinfo_report){0};
	read_names(out);
	read_memory(out);
	read_cpus(out);
	read_load(out);
	read_uptime(out);
	read_addresses(out);
}
