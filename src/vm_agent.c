/* vm-agent: the first process of a sandbox. It brings the machine up as far as commands need it,
 * and then runs commands and moves files for the agent outside, until it is told to end. */
#include "base/log.h"
#include "init/mounts.h"
#include "net/listen.h"
#include "session/exec_server.h"
#include "session/files.h"
#include "sys/fs.h"
#include "sys/power.h"
#include "sys/signals.h"
#include "system/shutdown.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
	MAX_SESSIONS = 64,
	SHUTDOWN_SECS = 5, /* the agent outside kills the machine after a while */
	CMDLINE_BYTES = 4096,
};

static const uint32_t host[] = {VMADDR_CID_HOST};
static const struct peer_list host_only = {host, 1};

struct vm_agent {
	struct addr exec_at, files_at;
	struct loop loop;
	struct reaper reaper;
	struct signals signals;
	struct shutdown shutdown;
	struct exec_server exec;
	struct files files;
	struct listener exec_listener, files_listener;
};

static bool is_pid1(void)
{
	return getpid() == 1;
}

/* Not that of a container: its clock and kernel command line are this process's business. */
static bool is_machines_pid1(void)
{
	return is_pid1() && power_is_machines();
}

/* --- options ------------------------------------------------------------------------------------
 */

static const char usage[] =
    "usage: vm-agent [--exec ADDR] [--files ADDR]\n"
    "\n"
    "Runs commands and moves files for the host of a virtual machine, whose first process\n"
    "it is meant to be.\n"
    "\n"
    "  --exec ADDR    where commands are asked for (default: vsock:52)\n"
    "  --files ADDR   where files are (default: vsock:53)\n"
    "  --help         show this and exit\n"
    "  --version      show the version and exit\n"
    "\n"
    "ADDR is vsock:PORT, for the host alone, or unix:PATH.\n";

/* False when an option is wrong. */
static bool set_option(struct vm_agent *a, struct span name, const char *value)
{
	if (!value)
		return false;
	if (span_eq_str(name, "--exec"))
		return addr_parse(span_str(value), &a->exec_at) == E_OK;
	if (span_eq_str(name, "--files"))
		return addr_parse(span_str(value), &a->files_at) == E_OK;
	return false;
}

/* What the process is to end with, or -1 when it is to run. The kernel hands the first process
 * words of its command line that are meant for others: they are passed over. */
static int read_options(struct vm_agent *a, int argc, char **argv)
{
	addr_parse(span_str("vsock:52"), &a->exec_at);
	addr_parse(span_str("vsock:53"), &a->files_at);
	for (int i = 1; i < argc; i++) {
		struct span word = span_str(argv[i]);
		size_t equals = span_find(word, '=');
		const char *value = equals < word.n ? argv[i] + equals + 1 : argv[i + 1];

		if (set_option(a, span_first(word, equals), value)) {
			i += equals == word.n;
			continue;
		}
		if (is_pid1())
			continue;
		if (span_eq_str(word, "--help"))
			return fs_write_all(STDOUT_FILENO, span_str(usage)) < 0;
		if (span_eq_str(word, "--version"))
			return fs_write_all(
				   STDOUT_FILENO, span_str("vm-agent " AGENT_VERSION "\n")) < 0;
		log_error("main", "wrong option, see --help", KV_STR("option", argv[i]));
		return 2;
	}
	return -1;
}

/* --- bringing the machine up --------------------------------------------------------------------
 */

/* The one that the kernel opened for the first process could block. */
static void start_log(void)
{
	int fd = open("/dev/console", O_WRONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd >= 0)
		log_sinks(&fd, 1);
}

/* The third field of the kernel's ip=CLIENT:SERVER:GATEWAY:…
 * (Documentation/admin-guide/nfs/nfsroot.rst), which answers DNS, too. */
static bool find_gateway(struct ip *out)
{
	char text[CMDLINE_BYTES];
	ssize_t n = fs_read_file("/proc/cmdline", text, sizeof text);
	struct span words = span_of(text, n > 0 ? (size_t)n : 0);
	bool found = false;

	words = span_first(words, span_find(words, '\n'));
	while (words.n) {
		struct span word = span_split(&words, ' ');

		if (!span_starts(word, span_str("ip=")))
			continue;
		span_split(&word, ':');
		span_split(&word, ':');
		found = ip_parse(span_split(&word, ':'), out) == E_OK;
	}
	return found;
}

static void write_resolv_conf(void)
{
	char gateway[IP_TEXT_BYTES], text[IP_TEXT_BYTES + 16];
	struct wr w = wr_of(text, sizeof text);
	struct ip ip;
	int rc;

	if (!is_machines_pid1() || !find_gateway(&ip))
		return;
	ip_format(&ip, gateway);
	wr_str(&w, "nameserver ");
	wr_str(&w, gateway);
	wr_str(&w, "\n");
	rc = fs_ensure_file("/etc/resolv.conf", wr_span(&w), 0644);
	if (rc < 0)
		log_warn("main", "cannot write /etc/resolv.conf", KV_ERR(rc));
}

/* The kernel does so only when it sets up another one, too. */
static void bring_up_loopback(void)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &lo) < 0)
		log_warn("main", "cannot bring up the loopback interface", KV_ERR(-errno));
	if (fd >= 0)
		close(fd);
}

static void bring_up(void)
{
	const char *missing;
	int rc;

	mounts_first();
	start_log();
	missing = mounts_for_containers();
	if (missing)
		log_warn("main", "cannot mount", KV_STR("path", missing));
	rc = power_take_ctrl_alt_del();
	if (rc < 0)
		log_debug("main", "ctrl-alt-del resets the machine", KV_ERR(rc));
	bring_up_loopback();
	write_resolv_conf();
}

/* --- what runs ----------------------------------------------------------------------------------
 */

static void on_signal(struct signals *s, int sig)
{
	struct vm_agent *a = container_of(s, struct vm_agent, signals);

	if (sig == SIGCHLD)
		reaper_drain(&a->reaper);
	else if (sig != SIGHUP) /* ctrl-alt-del is a SIGINT */
		shutdown_begin(&a->shutdown, SHUTDOWN_SECS);
}

static void accept_exec(struct listener *l, int fd, const struct addr *peer)
{
	struct vm_agent *a = l->ctx;

	(void)peer;
	exec_server_accept(&a->exec, fd);
}

static void accept_files(struct listener *l, int fd, const struct addr *peer)
{
	struct vm_agent *a = l->ctx;

	(void)peer;
	files_accept(&a->files, fd);
}

static void told(struct listener *l, int what, int rc, const struct addr *peer)
{
	char at[ADDR_TEXT_BYTES], from[ADDR_TEXT_BYTES];

	addr_text(&l->addr, at);
	if (what == LISTEN_BOUND)
		log_info("main", "listening", KV_STR("at", at));
	else if (what == LISTEN_FAILED)
		log_warn("main", "cannot listen, trying again", KV_STR("at", at), KV_ERR(rc));
	else if (what == LISTEN_REFUSED)
		log_warn("main", "refused a peer that is not the host",
		    KV_STR("peer", addr_text(peer, from)));
	else if (what == LISTEN_RESTING)
		log_warn("main", "cannot accept connections for a while", KV_ERR(rc));
}

static const struct listener_ops exec_listener_ops = {.accepted = accept_exec, .told = told};
static const struct listener_ops files_listener_ops = {.accepted = accept_files, .told = told};

static void nothing_open(struct shutdown *s)
{
	(void)s;
}

static int start_loop(struct vm_agent *a)
{
	static struct shutdown_conf shutdown_conf = {
	    .restarts = true, .default_secs = 25, .disks_ms = 10000, .last = nothing_open};
	const struct exec_server_conf exec_conf = {
	    .max_sessions = MAX_SESSIONS,
	    .sets_clock = is_machines_pid1(),
	};
	int rc = loop_init(&a->loop);

	if (rc < 0)
		return rc;
	rc = signals_init(&a->signals, &a->loop, on_signal);
	if (rc < 0) {
		loop_done(&a->loop);
		return rc;
	}
	shutdown_conf.machine = is_pid1();
	reaper_init(&a->reaper, &a->loop);
	shutdown_init(&a->shutdown, &a->loop, &a->reaper, &shutdown_conf);
	exec_server_init(&a->exec, &a->loop, &a->reaper, &exec_conf);
	files_init(&a->files, &a->reaper);
	return 0;
}

static void listen_for_peers(struct vm_agent *a)
{
	a->exec_listener.ctx = a->files_listener.ctx = a;
	listener_start(&a->exec_listener, &a->loop, &a->exec_at, &host_only, &exec_listener_ops);
	listener_start(&a->files_listener, &a->loop, &a->files_at, &host_only, &files_listener_ops);
}

int main(int argc, char **argv)
{
	static struct vm_agent agent;
	struct vm_agent *a = &agent;
	int status, rc;

	signals_block();
	if (is_pid1())
		bring_up();
	status = read_options(a, argc, argv);
	if (status >= 0)
		return status;
	log_info("main", "vm-agent " AGENT_VERSION " starts", KV_NUM("pid", getpid()));
	while ((rc = start_loop(a)) < 0) {
		log_error("main", "cannot make an event loop", KV_ERR(rc));
		if (!is_pid1())
			return EXIT_FAILURE;
		sleep(1);
	}
	listen_for_peers(a);
	do
		loop_run(&a->loop);
	while (is_pid1()); /* whose end would be the machine's */
	listener_stop(&a->exec_listener);
	listener_stop(&a->files_listener);
	return EXIT_SUCCESS;
}
