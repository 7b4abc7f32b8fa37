#include "sys/sysinfo.h"

#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

static unsigned fds;
static struct sysinfo_report report;

static void read_report(void)
{
	fds = fault_fds();
	memset(&report, 0xa5, sizeof report);
	sysinfo_read(&report);
	ck_assert_uint_eq(fault_fds(), fds);
}

START_TEST(reads_names)
{
	struct utsname u;

	read_report();
	ck_assert_int_eq(uname(&u), 0);
	ck_assert_str_eq(report.kernel_version, u.release);
	ck_assert_str_eq(report.os_name, "Linux");
	ck_assert_str_eq(report.os_version, u.version);
	ck_assert_str_eq(report.arch, u.machine);
	ck_assert_str_eq(report.hostname, u.nodename);
}
END_TEST

START_TEST(reads_figures)
{
	read_report();
	ck_assert_uint_gt(report.memory_total_bytes, 16 << 20);
	ck_assert_uint_gt(report.memory_available_bytes, 0);
	ck_assert_uint_le(report.memory_available_bytes, report.memory_total_bytes);
	ck_assert_uint_gt(report.uptime_secs, 0);
	for (size_t i = 0; i < 3; i++)
		ck_assert(report.load[i] >= 0 && report.load[i] < 10000);
}
END_TEST

START_TEST(counts_the_cpus_it_may_use)
{
	cpu_set_t one;

	read_report();
	ck_assert_uint_ge(report.cpu_count, 1);
	CPU_ZERO(&one);
	CPU_SET((size_t)sched_getcpu(), &one);
	ck_assert_int_eq(sched_setaffinity(0, sizeof one, &one), 0);
	read_report();
	ck_assert_uint_eq(report.cpu_count, 1);
}
END_TEST

START_TEST(lists_addresses_of_others_use)
{
	read_report();
	ck_assert_uint_le(report.n_addrs, SYSINFO_ADDRS);
	for (size_t i = 0; i < report.n_addrs; i++) {
		const struct ip *ip = &report.addrs[i];

		ck_assert(ip->family == 4 || ip->family == 6);
		ck_assert(!ip_is_loopback(ip));
		ck_assert(!ip_is_link_local(ip));
	}
}
END_TEST

/* Among thousands of containers one request for each interface would take seconds. */
START_TEST(asks_for_two_lists_however_many_interfaces)
{
	if (unshare(CLONE_NEWNET) < 0) {
		skip_test("namespaces need root");
		return;
	}
	ck_assert_int_eq(system("ip link set lo up && ip link add eth1 type veth peer name eth2 && "
				"ip addr add 192.0.2.1/24 dev eth1 && ip link set eth1 up && "
				"ip addr add 192.0.2.3/24 dev eth2 && "
				"ip addr add 2001:db8::1/64 dev eth1 nodad && "
				"ip link add eth3 type veth peer name eth4 && ip link set eth3 up"),
	    0);
	fault_arm("sendto", 3, EIO, false);
	read_report();
	ck_assert(!fault_disarm());
	ck_assert_uint_eq(report.n_addrs, 2);
	ck_assert(report.addrs[0].family == 4 && report.addrs[0].b[3] == 1);
	ck_assert(report.addrs[1].family == 6 && report.addrs[1].b[15] == 1);
}
END_TEST

START_TEST(leaves_out_what_cannot_be_read)
{
	fault_arm("open", 1, ENOENT, true);
	sysinfo_read(&report);
	ck_assert(fault_disarm());
	ck_assert_uint_eq(report.memory_total_bytes, 0);
	ck_assert_uint_eq(report.memory_available_bytes, 0);
	ck_assert(report.load[0] == 0 && report.load[1] == 0 && report.load[2] == 0);
	ck_assert_str_eq(report.os_name, "Linux");
	FAULT_EACH("read", EIO)
	read_report();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    reads_names,
	    reads_figures,
	    counts_the_cpus_it_may_use,
	    lists_addresses_of_others_use,
	    asks_for_two_lists_however_many_interfaces,
	    leaves_out_what_cannot_be_read,
	    NULL,
	};

	return suite_of("sysinfo", tests);
}
