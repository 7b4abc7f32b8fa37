/* initrd - what a sandbox's kernel has built in and Debian's does not: drivers, the kernel's ip=
 * (Documentation/admin-guide/nfs/nfsroot.rst), and finding the root. It is /init of the initramfs
 * of a virtual machine, and leaves nothing behind when the root's init= takes over.
 */
#include "base/cursor.h"
#include "base/err.h"
#include "init/modules.h"
#include "sys/fs.h"
#include "sys/netlink.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOT "/dev/vda"

enum {
	CMDLINE_BYTES = 4096,
	WAIT_MS = 60 * 1000, /* an emulated machine may have little of a processor */
	STEP_MS = 10,
};

static void must(int rc, const char *what)
{
	if (rc == 0)
		return;
	fprintf(stderr, "initrd: %s: %s\n", what, err_text(rc));
	exit(EXIT_FAILURE); /* upon which the kernel panics, as it does without a root */
}

static int result_of(int call)
{
	return call < 0 ? -errno : 0;
}

static void wait_for(bool (*there)(void *arg), void *arg, const char *what)
{
	for (int waited_ms = 0; !there(arg); waited_ms += STEP_MS) {
		must(waited_ms < WAIT_MS ? 0 : -ETIMEDOUT, what);
		usleep(STEP_MS * 1000);
	}
}

/* --- the kernel's command line ---------------------------------------------------------------- */

static struct span read_cmdline(void)
{
	static char text[CMDLINE_BYTES];
	ssize_t n;

	mkdir("/proc", 0555);
	must(result_of(mount("proc", "/proc", "proc", 0, NULL)), "/proc");
	n = fs_read_file("/proc/cmdline", text, sizeof text);
	must(n < 0 ? (int)n : 0, "/proc/cmdline");
	umount2("/proc", MNT_DETACH);
	return span_first(span_of(text, (size_t)n), span_find(span_of(text, (size_t)n), '\n'));
}

/* The value of the last word that begins with this; NULL and nothing without one. */
static struct span value_of(struct span words, const char *begin)
{
	struct span found = {NULL, 0};

	while (words.n) {
		struct span word = span_split(&words, ' ');

		if (span_starts(word, span_str(begin)))
			found = span_from(word, strlen(begin));
	}
	return found;
}

static bool has_word(struct span words, const char *wanted)
{
	while (words.n)
		if (span_eq_str(span_split(&words, ' '), wanted))
			return true;
	return false;
}

/* --- the network ------------------------------------------------------------------------------ */

struct interface {
	struct netlink netlink;
	struct span name;
	int index; /* 0: it is not there yet */
};

static void look(void *ctx, const struct netlink_link *link)
{
	struct interface *i = ctx;

	if (span_eq_str(i->name, link->name))
		i->index = link->index;
}

static bool is_there(void *arg)
{
	struct interface *i = arg;

	return netlink_links(&i->netlink, look, i) == 0 && i->index;
}

static uint8_t prefix_of(const struct ip *mask)
{
	uint8_t bits = 0;

	while (bits < 32 && mask->b[bits / 8] >> (7 - bits % 8) & 1)
		bits++;
	return bits;
}

static void configure(
    struct interface *i, const struct ip *ip, const struct ip *mask, const struct ip *gateway)
{
	const struct netlink_addr addr = {
	    .index = i->index,
	    .ip = *ip,
	    .prefix = prefix_of(mask),
	    .scope = RT_SCOPE_UNIVERSE,
	    .valid_secs = NETLINK_FOREVER,
	};
	const struct netlink_route route = {
	    .index = i->index,
	    .to = ip_v4(0, 0, 0, 0),
	    .via = *gateway,
	    .protocol = RTPROT_BOOT,
	    .scope = RT_SCOPE_UNIVERSE,
	};

	must(netlink_link_up(&i->netlink, i->index, true), "the interface");
	must(netlink_addr_set(&i->netlink, &addr), "the address");
	must(netlink_route_set(&i->netlink, &route), "the route");
}

/* CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:AUTOCONF */
static void bring_up_network(struct span spec)
{
	struct interface interface = {.index = 0};
	struct span field[7];
	struct ip ip, gateway, mask;

	for (size_t i = 0; i < sizeof field / sizeof *field; i++)
		field[i] = span_split(&spec, ':');
	must((int)ip_parse(field[0], &ip), "the address of ip=");
	must((int)ip_parse(field[2], &gateway), "the gateway of ip=");
	must((int)ip_parse(field[3], &mask), "the mask of ip=");
	interface.name = field[5];
	must(netlink_open(&interface.netlink), "netlink");
	wait_for(is_there, &interface, "the interface of ip=");
	configure(&interface, &ip, &mask, &gateway);
	netlink_close(&interface.netlink);
}

/* --- the root --------------------------------------------------------------------------------- */

static bool root_is_there(void *arg)
{
	(void)arg;
	return access(ROOT, F_OK) == 0;
}

static void switch_root(bool read_only)
{
	mkdir("/dev", 0755);
	mkdir("/root", 0755);
	must(result_of(mount("dev", "/dev", "devtmpfs", 0, NULL)), "/dev");
	wait_for(root_is_there, NULL, ROOT);
	must(result_of(mount(ROOT, "/root", "ext4", read_only ? MS_RDONLY : 0, NULL)), ROOT);
	umount2("/dev", MNT_DETACH);
	must(result_of(chdir("/root")), "/root");
	must(result_of(mount(".", "/", NULL, MS_MOVE, NULL)), "/");
	must(result_of(chroot(".")), "/");
}

/* The kernel has handed us the words that are its init's. */
int main(int argc, char **argv)
{
	static char init[CMDLINE_BYTES] = "/sbin/init";
	struct span words = read_cmdline();
	struct span name = value_of(words, "init="), network = value_of(words, "ip=");

	(void)argc;
	modules_load(WAIT_MS);
	if (network.n)
		bring_up_network(network);
	switch_root(has_word(words, "ro"));
	if (name.n)
		span_to_cstr(name, init, sizeof init);
	argv[0] = init;
	execv(init, argv);
	must(-errno, init);
}
