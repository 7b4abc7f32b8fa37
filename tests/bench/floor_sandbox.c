/* floor_sandbox VMM DIR ROOTFS SANDBOXES COMMANDS - what load_sandbox asks of the agent, done by
 * the least that can: each sandbox's directory, disk, TAP device, process and API calls, one after
 * the other; then the commands, likewise. Prints the same. */
#include "bench.h"
#include "codec/vmframe.h"
#include "sandbox/network.h"
#include "sys/clock.h"
#include "sys/clone.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_SANDBOXES = 256, MAX_COMMANDS = 1000, RETRY_US = 100, RETRIES = 50000 };

struct box {
	char id[32];
	char dir[64], disk[96], log[96], metrics[96], api[96], vsock[96];
	struct nic nic;
	pid_t pid;
};

static const char *vmm, *rootfs;
static struct subnet subnet;
static struct netlink netlink;

static void note(const struct box *b, const char *event)
{
	printf("%s %s %lld\n", b->id, event, (long long)clock_real_ns());
}

static void name(struct box *b, const char *dir, unsigned i)
{
	snprintf(b->id, sizeof b->id, "box%u", i);
	snprintf(b->dir, sizeof b->dir, "%.40s/%.20s", dir, b->id);
	snprintf(b->disk, sizeof b->disk, "%s/rootfs.ext4", b->dir);
	snprintf(b->log, sizeof b->log, "%s/log", b->dir);
	snprintf(b->metrics, sizeof b->metrics, "%s/metrics", b->dir);
	snprintf(b->api, sizeof b->api, "%s/api", b->dir);
	snprintf(b->vsock, sizeof b->vsock, "%s/vsock", b->dir);
}

static void make_file(const char *path)
{
	close(must(path, open(path, O_WRONLY | O_CREAT | O_EXCL, 0600)));
}

/* --- talking ---------------------------------------------------------------------------------- */

/* The VMM may not have come to listen yet. */
static int reach(const char *path)
{
	struct sockaddr_un a = unix_address(path);
	int fd = must("socket", socket(AF_UNIX, SOCK_STREAM, 0));

	for (int i = 0; connect(fd, (struct sockaddr *)&a, sizeof a) < 0; i++) {
		must(path, i < RETRIES ? 0 : -1);
		usleep(RETRY_US);
	}
	return fd;
}

static void put(const struct box *b, const char *target, const char *body)
{
	char text[512];
	int n = snprintf(text, sizeof text, "PUT %s HTTP/1.1\r\nContent-Length: %zu\r\n\r\n%s",
	    target, strlen(body), body);
	int fd = reach(b->api);

	must("write", write(fd, text, (size_t)n) == n ? 0 : -1);
	must("read", read(fd, text, sizeof text) > 0 ? 0 : -1);
	close(fd);
}

static void run(const struct box *b)
{
	static const char start[] = "{\"cmd\":[\"echo\"]}";
	uint8_t buf[64];
	struct wr w = wr_of(buf, sizeof buf);
	int fd;

	fd = reach(b->vsock);
	must("write", write(fd, "CONNECT 52\n", 11) == 11 ? 0 : -1);
	must("read", read(fd, buf, sizeof buf) > 0 ? 0 : -1);
	vmframe_write(&w, VMFRAME_START, span_str(start));
	must("write", write(fd, w.p, w.n) == (ssize_t)w.n ? 0 : -1);
	must("read", read(fd, buf, sizeof buf) > 0 ? 0 : -1);
	note(b, "byte");
	close(fd);
}

/* --- a sandbox -------------------------------------------------------------------------------- */

static void spawn(struct box *b)
{
	char *argv[] = {(char *)vmm, "--api-sock", b->api, "--id", b->id, NULL};

	must(vmm, -posix_spawn(&b->pid, vmm, NULL, NULL, argv, environ));
}

static void start(struct box *b)
{
	char vsock[128];

	must("a TAP device", nic_attach(&b->nic, &subnet, &netlink, span_str(b->id)));
	must(b->dir, mkdir(b->dir, 0700));
	make_file(b->log);
	make_file(b->metrics);
	must(rootfs, clone_file(rootfs, b->disk, 0600));
	spawn(b);
	snprintf(vsock, sizeof vsock, "{\"uds_path\":\"%s\"}", b->vsock);
	put(b, "/machine-config", "{}");
	put(b, "/boot-source", "{}");
	put(b, "/drives/rootfs", "{}");
	put(b, "/network-interfaces/eth0", "{}");
	put(b, "/vsock", vsock);
	put(b, "/actions", "{\"action_type\":\"InstanceStart\"}");
	note(b, "ready");
}

static void end(struct box *b)
{
	const char *const files[] = {b->disk, b->log, b->metrics, b->api, b->vsock};

	kill(b->pid, SIGKILL);
	waitpid(b->pid, NULL, 0);
	must("a TAP device", nic_unplug(&b->nic));
	nic_release(&b->nic, &subnet);
	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		unlink(files[i]);
	must(b->dir, rmdir(b->dir));
}

static void set_up(void)
{
	struct cidr cidr;
	struct ip gateway;

	must("the subnet", -(int)cidr_parse(span_str("172.20.0.0/16"), &cidr));
	gateway = cidr_at(&cidr, 1);
	subnet_init(&subnet, &cidr, &gateway);
	must("netlink", netlink_open(&netlink));
}

int main(int argc, char **argv)
{
	static struct box boxes[MAX_SANDBOXES];
	unsigned n, commands;

	need_args(argc, argv, 5, "VMM DIR ROOTFS SANDBOXES COMMANDS");
	vmm = argv[1];
	rootfs = argv[3];
	n = number_arg(argv, 4, MAX_SANDBOXES);
	commands = number_arg(argv, 5, MAX_COMMANDS);
	set_up();
	for (unsigned i = 0; i < n; i++) {
		name(&boxes[i], argv[2], i);
		note(&boxes[i], "create");
	}
	for (unsigned i = 0; i < n; i++)
		start(&boxes[i]);
	for (unsigned c = 0; c < commands; c++) {
		for (unsigned i = 0; i < n; i++)
			note(&boxes[i], "run");
		for (unsigned i = 0; i < n; i++)
			run(&boxes[i]);
	}
	for (unsigned i = 0; i < n; i++)
		end(&boxes[i]);
}
