#include "sys/sysinfo.h"

#include "base/parse.h"
#include "sys/fs.h"
#include "sys/netlink.h"

#include <net/if.h>
#include <sched.h>
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

/* "12.34" */
static double read_hundredths(struct span text)
{
	struct span whole = span_split(&text, '.');
	uint64_t a, b;

	if (parse_u64(whole, 0, 1000000, &a) != E_OK || parse_u64(text, 0, 99, &b) != E_OK)
		return 0;
	return (double)(a * 100 + b) / 100;
}

/* "0.20 0.18 0.12 1/80 11206": always with two digits behind the dot (proc_loadavg(5)) */
static void read_load(struct sysinfo_report *out)
{
	char buf[LOADAVG_BYTES];
	ssize_t n = fs_read_file("/proc/loadavg", buf, sizeof buf);
	struct span text = span_of(buf, n > 0 ? (size_t)n : 0);

	for (size_t i = 0; i < 3; i++)
		out->load[i] = read_hundredths(span_split(&text, ' '));
}

static void read_uptime(struct sysinfo_report *out)
{
	struct timespec ts;

	if (clock_gettime(CLOCK_BOOTTIME, &ts) == 0)
		out->uptime_secs = (uint64_t)ts.tv_sec;
}

/* Addresses of all interfaces, in the order of the kernel. */
struct candidates {
	struct netlink_addr addrs[4 * SYSINFO_ADDRS];
	size_t n;
	struct sysinfo_report *out;
};

static void see_addr(void *ctx, const struct netlink_addr *addr)
{
	struct candidates *c = ctx;

	if (c->n < sizeof c->addrs / sizeof *c->addrs && !ip_is_loopback(&addr->ip) &&
	    !ip_is_link_local(&addr->ip))
		c->addrs[c->n++] = *addr;
}

static void see_link(void *ctx, const struct netlink_link *link)
{
	const struct candidates *c = ctx;
	struct sysinfo_report *out = c->out;

	if (!(link->flags & IFF_UP) || (link->flags & IFF_LOOPBACK))
		return;
	for (size_t i = 0; i < c->n && out->n_addrs < SYSINFO_ADDRS; i++)
		if (c->addrs[i].index == link->index)
			out->addrs[out->n_addrs++] = c->addrs[i].ip;
}

/* The addresses that others may reach this machine by, interface by interface. Two lists, and not
 * one for each interface: there may be thousands. */
static void read_addresses(struct sysinfo_report *out)
{
	struct candidates c = {.out = out};
	struct netlink netlink;

	if (netlink_open(&netlink) < 0)
		return;
	netlink_addrs(&netlink, 0, see_addr, &c);
	netlink_links(&netlink, see_link, &c);
	netlink_close(&netlink);
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
