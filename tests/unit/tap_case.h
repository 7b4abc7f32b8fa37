/* tap_case.h - a test with TAP devices, in a network namespace of its own, which ends with it. */
#ifndef TESTS_TAP_CASE_H
#define TESTS_TAP_CASE_H

#include "fault.h"
#include "suite.h"
#include "sys/netlink.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

static struct netlink netlink;
static unsigned tap_case_fds;

/* False, with the test skipped, where that cannot be had. */
static inline bool tap_setup(void)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		skip_test("there is no /dev/net/tun here");
		return false;
	}
	close(fd);
	if (unshare(CLONE_NEWNET) < 0) {
		skip_test("a network namespace needs root");
		return false;
	}
	tap_case_fds = fault_fds();
	ck_assert_int_eq(netlink_open(&netlink), 0);
	return true;
}

static inline void tap_teardown(void)
{
	netlink_close(&netlink);
	ck_assert_uint_eq(fault_fds(), tap_case_fds);
}

#endif
