#include "sys/tap.h"

#include "fault.h"
#include "suite.h"
#include "tap_case.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/if_tun.h>

static void count(void *ctx, const struct netlink_link *link)
{
	if (strncmp(link->name, "tap", 3) == 0)
		++*(unsigned *)ctx;
}

static unsigned taps(void)
{
	unsigned n = 0;

	ck_assert_int_eq(netlink_links(&netlink, count, &n), 0);
	return n;
}

static int open_tap(const char *name, short flags)
{
	struct ifreq req = {.ifr_flags = flags};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	snprintf(req.ifr_name, sizeof req.ifr_name, "%s", name);
	ck_assert_int_eq(ioctl(fd, TUNSETIFF, &req), 0);
	return fd;
}

START_TEST(makes_devices_that_stay)
{
	int fd;

	if (!tap_setup())
		return;
	ck_assert_int_eq(tap_create("tap1"), 0);
	ck_assert_uint_eq(taps(), 1);
	ck_assert_int_eq(tap_create("tap1"), -EBUSY);
	fd = open_tap("tap1", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	close(fd);
	ck_assert_uint_eq(taps(), 1);
	ck_assert_int_eq(tap_create("a-name-that-is-16"), -ENAMETOOLONG);
	ck_assert_int_eq(tap_create("lo"), -EBUSY);
	tap_teardown();
}
END_TEST

START_TEST(removes_devices)
{
	int fd;

	if (!tap_setup())
		return;
	ck_assert_int_eq(tap_create("tap1"), 0);
	ck_assert_int_eq(tap_create("tap11"), 0);
	for (int twice = 0; twice < 2; twice++)
		ck_assert_int_eq(tap_remove(&netlink, "tap1"), 0);
	ck_assert_uint_eq(taps(), 1);
	fd = open_tap("tap11", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	ck_assert_int_eq(tap_remove(&netlink, "tap11"), 0);
	ck_assert_uint_eq(taps(), 0);
	close(fd);
	ck_assert_int_eq(tap_remove(&netlink, "lo"), -EINVAL);
	ck_assert_uint_ne(if_nametoindex("lo"), 0);
	tap_teardown();
}
END_TEST

START_TEST(removes_all_with_a_prefix)
{
	unsigned removed = 7;

	if (!tap_setup())
		return;
	ck_assert_int_eq(tap_remove_all(&netlink, "tapx", &removed), 0);
	ck_assert_uint_eq(removed, 0);
	ck_assert_int_eq(tap_create("tapx1-1"), 0);
	ck_assert_int_eq(tap_create("tapx1-2"), 0);
	ck_assert_int_eq(tap_create("tap"), 0);
	ck_assert_int_eq(tap_remove_all(&netlink, "tapx", &removed), 0);
	ck_assert_uint_eq(removed, 2);
	ck_assert_uint_eq(taps(), 1);
	/* what is no TAP device is left alone */
	ck_assert_int_eq(tap_remove_all(&netlink, "l", &removed), 0);
	ck_assert_uint_eq(removed, 0);
	ck_assert_uint_ne(if_nametoindex("lo"), 0);
	tap_teardown();
}
END_TEST

START_TEST(fails_without_a_trace)
{
	static const char *const calls[] = {"open", "sendto", "recvfrom", "realloc"};
	unsigned removed;

	if (!tap_setup())
		return;
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		FAULT_EACH(calls[i], ENOMEM)
		{
			unsigned open_fds = fault_fds();

			if (tap_create("tap1") == 0 && tap_remove(&netlink, "tap1") < 0)
				ck_assert_uint_eq(taps(), 1);
			ck_assert_uint_eq(fault_fds(), open_fds);
		}
	ck_assert_int_eq(tap_remove_all(&netlink, "tap", &removed), 0);
	ck_assert_uint_eq(taps(), 0);
	tap_teardown();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {makes_devices_that_stay, removes_devices,
	    removes_all_with_a_prefix, fails_without_a_trace, NULL};

	return suite_of("tap", tests);
}
