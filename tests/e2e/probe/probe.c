/* probe - what a test needs inside a virtual machine: the kernel starts it as /init.
 *
 * It leaves a child behind and becomes the agent, which is then PID 1 with a child that it does not
 * know, as in life. The child answers the host on vsock port 9000: one line a connection, a verb
 * and its words; the answer is text, and begins with "error: " when the verb failed.
 *
 * On the kernel command line, probe.root=TYPE makes /dev/vda, of that type, the root, whose /init
 * goes on; probe.sandbox has vm-agent instead of the agent; probe.proc mounts /proc for an agent
 * that cannot start without: that of the sanitizers.
 */
#include "sys/module.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/vm_sockets.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PORT = 9000, WORDS = 16, ORPHANS = 10 /* of one parent */ };

#define AGENT     "/sbin/arcbox-agent"
#define VM_AGENT  "/sbin/vm-agent"
#define LOAD_LIST "/lib/modules/load.list"

static int listener;

/* A verb's words: word[0] is the verb, behind the last there is NULL. */
struct request {
	char *word[WORDS + 1];
	FILE *out;
};

static long number(const char *text)
{
	return text ? strtol(text, NULL, 0) : 0;
}

/* --- files and mounts
 * ----------------------------------------------------------------------------- */

/* stat PATH: mode, uid, gid, size, device numbers. */
static bool verb_stat(struct request *r)
{
	struct stat st;

	if (lstat(r->word[1], &st) < 0)
		return false;
	fprintf(r->out, "%o %u %u %lld %lx", st.st_mode, st.st_uid, st.st_gid,
	    (long long)st.st_size, (unsigned long)st.st_rdev);
	return true;
}

static bool verb_readlink(struct request *r)
{
	char target[4096];
	ssize_t n = readlink(r->word[1], target, sizeof target);

	if (n < 0)
		return false;
	fprintf(r->out, "%.*s", (int)n, target);
	return true;
}

static bool verb_list(struct request *r)
{
	DIR *dir = opendir(r->word[1]);
	const struct dirent *entry;

	if (!dir)
		return false;
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			fprintf(r->out, "%s\n", entry->d_name);
	closedir(dir);
	return true;
}

/* flags PATH: what chattr(1) sets, in hexadecimal. */
static bool verb_flags(struct request *r)
{
	const unsigned get_flags = _IOR('f', 1, long); /* FS_IOC_GETFLAGS */
	int fd = open(r->word[1], O_RDONLY | O_CLOEXEC);
	unsigned flags = 0;
	bool good;

	if (fd < 0)
		return false;
	good = syscall(SYS_ioctl, fd, get_flags, &flags) == 0;
	close(fd);
	if (good)
		fprintf(r->out, "%x", flags);
	return good;
}

/* read PATH: also of /proc and /sys, which cannot be mapped. */
static bool verb_read(struct request *r)
{
	char buf[4096];
	int fd = open(r->word[1], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n;

	if (fd < 0)
		return false;
	while ((n = read(fd, buf, sizeof buf)) > 0)
		fwrite(buf, 1, (size_t)n, r->out);
	close(fd);
	return n == 0;
}

/* write PATH WORD: into the cache of the filesystem, no further. */
static bool verb_write(struct request *r)
{
	int fd = open(r->word[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	bool good;

	if (fd < 0)
		return false;
	good = write(fd, r->word[2], strlen(r->word[2])) >= 0;
	close(fd);
	return good;
}

static bool verb_mkdir(struct request *r)
{
	return mkdir(r->word[1], 0755) == 0;
}

/* mount SOURCE DIR TYPE [DATA] */
static bool verb_mount(struct request *r)
{
	return mount(r->word[1], r->word[2], r->word[3], 0, r->word[4]) == 0;
}

static bool verb_umount(struct request *r)
{
	return umount2(r->word[1], 0) == 0;
}

/* --- processes
 * ----------------------------------------------------------------------------------- */

struct process {
	int pid, ppid;
	char state;
	char name[32];
};

static bool read_process(const char *pid, struct process *p)
{
	char path[64], line[512] = "";
	FILE *f;

	snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (!fgets(line, sizeof line, f))
		line[0] = '\0';
	fclose(f);
	return sscanf(line, "%d (%31[^)]) %c %d", &p->pid, p->name, &p->state, &p->ppid) == 4;
}

/* ps: pid, parent, state and name of each process with a program of its own. */
static bool verb_ps(struct request *r)
{
	DIR *dir = opendir("/proc");
	const struct dirent *entry;
	struct process p;

	if (!dir)
		return false;
	while ((entry = readdir(dir)))
		if (number(entry->d_name) > 0 && read_process(entry->d_name, &p))
			fprintf(r->out, "%d %d %c %s\n", p.pid, p.ppid, p.state, p.name);
	closedir(dir);
	return true;
}

/* Leaves processes that end at once to PID 1. */
static bool make_orphans(long n)
{
	pid_t parent = fork();
	int status = 1;

	if (parent == 0) {
		while (n-- > 0) {
			pid_t child = fork();

			if (child <= 0)
				_exit(child < 0);
		}
		_exit(0);
	}
	return parent > 0 && waitpid(parent, &status, 0) == parent && status == 0;
}

/* orphans COUNT */
static bool verb_orphans(struct request *r)
{
	for (long left = number(r->word[1]); left > 0; left -= ORPHANS)
		if (!make_orphans(left < ORPHANS ? left : ORPHANS))
			return false;
	return true;
}

static void sleep_on(const char *dir)
{
	if (dir) {
		signal(SIGTERM, SIG_IGN);
		if (chdir(dir) < 0)
			_exit(1);
	}
	for (;;)
		pause();
}

/* sleepers COUNT [DIR]: orphans that stay until they are killed; in DIR, and not by SIGTERM. */
static bool verb_sleepers(struct request *r)
{
	for (long i = number(r->word[1]); i > 0; i--) {
		pid_t child = fork();

		if (child < 0)
			return false;
		if (child == 0) {
			close(fileno(r->out));
			sleep_on(r->word[2]);
		}
	}
	return true;
}

/* kill PID SIGNAL [TIMES] */
static bool verb_kill(struct request *r)
{
	long times = r->word[3] ? number(r->word[3]) : 1;

	while (times-- > 0)
		if (kill((pid_t)number(r->word[1]), (int)number(r->word[2])) < 0)
			return false;
	return true;
}

/* Signals that mean power-off to PID 1, and those that libc keeps for itself. */
static bool is_spared(int sig)
{
	return sig == SIGTERM || sig == SIGINT || sig == SIGPWR || (sig > 31 && sig < 35);
}

/* storm ROUNDS: every signal that may come to PID 1 without ending it, again and again. */
static bool verb_storm(struct request *r)
{
	for (long i = number(r->word[1]); i > 0; i--)
		for (int sig = 1; sig <= SIGRTMAX; sig++)
			if (!is_spared(sig) && kill(1, sig) < 0)
				return false;
	return true;
}

/* run PATH ARGUMENT...: its output, and last its exit status. */
static bool verb_run(struct request *r)
{
	int status = 0;
	pid_t child;

	fflush(r->out);
	child = fork();
	if (child == 0) {
		dup2(fileno(r->out), STDOUT_FILENO);
		dup2(fileno(r->out), STDERR_FILENO);
		execv(r->word[1], &r->word[1]);
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0)
		return false;
	fprintf(r->out, "status %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
	return true;
}

/* --- network and clock
 * ---------------------------------------------------------------------------- */

/* link NAME up|down */
static bool verb_link(struct request *r)
{
	struct ifreq request = {0};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool good;

	if (fd < 0)
		return false;
	snprintf(request.ifr_name, sizeof request.ifr_name, "%s", r->word[1]);
	good = ioctl(fd, SIOCGIFFLAGS, &request) == 0;
	request.ifr_flags = (short)(request.ifr_flags & ~IFF_UP);
	if (strcmp(r->word[2], "up") == 0)
		request.ifr_flags |= IFF_UP;
	good = good && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
	close(fd);
	return good;
}

/* clock [SECONDS]: sets the time of day, or tells it. */
static bool verb_clock(struct request *r)
{
	struct timespec now = {.tv_sec = number(r->word[1])};

	if (r->word[1])
		return clock_settime(CLOCK_REALTIME, &now) == 0;
	clock_gettime(CLOCK_REALTIME, &now);
	fprintf(r->out, "%lld", (long long)now.tv_sec);
	return true;
}

/* As a container would be: a nobody in namespaces of its own. */
static bool contain(void)
{
	return unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) == 0 &&
	    setgid(65534) == 0 && setuid(65534) == 0;
}

/* vsock CID PORT: connects out of a container and pings the agent; what came of it, in a word. */
static bool verb_vsock(struct request *r)
{
	static const char ping[10] = {0, 0, 0, 6, 0, 0, 0, 1, 0, 0};
	struct sockaddr_vm to = {
	    .svm_family = AF_VSOCK,
	    .svm_cid = (unsigned)number(r->word[1]),
	    .svm_port = (unsigned)number(r->word[2]),
	};
	int fd = -1;
	char byte;
	ssize_t n;

	if (!contain() || (fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0)
		return false;
	if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
		return false;
	n = send(fd, ping, sizeof ping, MSG_NOSIGNAL);
	if (n > 0)
		n = recv(fd, &byte, 1, 0);
	fputs(n > 0 ? "answered" : "closed", r->out);
	return true;
}

/* cid: the guest's own context id. */
static bool verb_cid(struct request *r)
{
	int fd = open("/dev/vsock", O_RDONLY | O_CLOEXEC);
	unsigned cid;

	if (fd < 0 || ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid) < 0)
		return false;
	fprintf(r->out, "%u", cid);
	return true;
}

/* --- the daemon
 * ----------------------------------------------------------------------------------- */

static void serve(void);

/* killall: SIGKILL to every process but PID 1 and this one, which takes the daemon's place. */
static bool verb_killall(struct request *r)
{
	if (kill(-1, SIGKILL) < 0)
		return false;
	fclose(r->out);
	serve();
	return true;
}

static const struct verb {
	const char *name;
	int words;                      /* that it needs */
	bool (*run)(struct request *r); /* false with errno */
} verbs[] = {
    {"stat", 1, verb_stat},
    {"readlink", 1, verb_readlink},
    {"list", 1, verb_list},
    {"flags", 1, verb_flags},
    {"read", 1, verb_read},
    {"write", 2, verb_write},
    {"mkdir", 1, verb_mkdir},
    {"mount", 3, verb_mount},
    {"umount", 1, verb_umount},
    {"ps", 0, verb_ps},
    {"orphans", 1, verb_orphans},
    {"sleepers", 1, verb_sleepers},
    {"kill", 2, verb_kill},
    {"storm", 1, verb_storm},
    {"killall", 0, verb_killall},
    {"run", 1, verb_run},
    {"link", 2, verb_link},
    {"clock", 0, verb_clock},
    {"vsock", 2, verb_vsock},
    {"cid", 0, verb_cid},
};

static void answer(struct request *r, int words)
{
	const struct verb *verb = NULL;

	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
		if (words > 0 && strcmp(verbs[i].name, r->word[0]) == 0)
			verb = &verbs[i];
	errno = EINVAL;
	if (!verb || words <= verb->words || !verb->run(r))
		fprintf(r->out, "error: %s", strerror(errno));
	fclose(r->out);
}

static void handle(int fd)
{
	struct request request = {.out = fdopen(fd, "r+")};
	char line[4096] = "";
	int words = 0;
	char *rest;

	if (!request.out || !fgets(line, sizeof line, request.out))
		return;
	fseek(request.out, 0, SEEK_CUR); /* from reading to writing */
	for (char *word = strtok_r(line, " \n", &rest); word && words < WORDS;
	     word = strtok_r(NULL, " \n", &rest))
		request.word[words++] = word;
	answer(&request, words);
}

/* A process for each connection, reaped by the kernel. */
static void serve(void)
{
	for (;;) {
		int fd;

		signal(SIGCHLD, SIG_IGN);
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0 && fork() == 0) {
			signal(SIGCHLD, SIG_DFL);
			handle(fd);
			_exit(0);
		}
		if (fd >= 0)
			close(fd);
	}
}

/* There is no vsock before the agent has loaded the modules for it. */
static void run_daemon(void)
{
	const struct sockaddr_vm at = {
	    .svm_family = AF_VSOCK,
	    .svm_cid = VMADDR_CID_ANY,
	    .svm_port = PORT,
	};

	setsid();
	while ((listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0)
		usleep(20000);
	if (bind(listener, (const struct sockaddr *)&at, sizeof at) == 0 &&
	    listen(listener, 16) == 0)
		serve();
	_exit(1);
}

/* --- the start
 * ------------------------------------------------------------------------------------- */

static void load_modules(void)
{
	FILE *list = fopen(LOAD_LIST, "re");
	char path[512];

	while (list && fgets(path, sizeof path, list)) {
		path[strcspn(path, "\n")] = '\0';
		module_load_file(path);
	}
	if (list)
		fclose(list);
}

static bool mount_proc(void)
{
	mkdir("/proc", 0555);
	return mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0;
}

static void read_cmdline(char *line, int cap)
{
	FILE *f = mount_proc() ? fopen("/proc/cmdline", "re") : NULL;

	if (!f || !fgets(line, cap, f))
		line[0] = '\0';
	if (f)
		fclose(f);
	umount2("/proc", MNT_DETACH);
}

/* The value of probe.root=TYPE, into type[32]. */
static bool wants_root(const char *cmdline, char *type)
{
	const char *found = strstr(cmdline, "probe.root=");
	return found && sscanf(found, "probe.root=%31s", type) == 1;
}

/* Makes /dev/vda the root, which is not unpacked from the initramfs any more. */
static bool switch_root(const char *type)
{
	load_modules();
	mkdir("/dev", 0755);
	mkdir("/root", 0755);
	if (mount("dev", "/dev", "devtmpfs", 0, NULL) < 0)
		return false;
	for (int tries = 0; tries < 100 && access("/dev/vda", F_OK) < 0; tries++)
		usleep(20000);
	return mount("/dev/vda", "/root", type, strcmp(type, "erofs") == 0 ? MS_RDONLY : 0, NULL) ==
	    0 &&
	    umount2("/dev", MNT_DETACH) == 0 && chdir("/root") == 0 &&
	    mount(".", "/", NULL, MS_MOVE, NULL) == 0 && chroot(".") == 0 && chdir("/") == 0;
}

static void run_agent(const char *command)
{
	int status = 0;
	pid_t child = fork();

	if (child == 0) {
		execl(AGENT, AGENT, command, (char *)NULL);
		_exit(127);
	}
	waitpid(child, &status, 0);
	fprintf(stderr, "probe: %s ended with %d\n", command,
	    WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
}

static void be_init(void)
{
	run_agent("init");
	run_agent("serve");
	for (;;)
		if (wait(NULL) < 0)
			sleep(1);
}

/* A sandbox's kernel needs no modules; this one does. */
static void be_sandbox(void)
{
	load_modules();
	execl(VM_AGENT, VM_AGENT, (char *)NULL);
	perror("probe: " VM_AGENT);
}

int main(int argc, char **argv)
{
	char cmdline[4096], type[32];

	(void)argc;
	read_cmdline(cmdline, sizeof cmdline);
	if (strcmp(argv[0], "/init") == 0 && wants_root(cmdline, type)) {
		if (switch_root(type))
			execl("/init", "/sbin/init", (char *)NULL);
		perror("probe: cannot switch the root");
		return 1;
	}
	if (strstr(cmdline, "probe.sandbox"))
		be_sandbox();
	if (strstr(cmdline, "probe.proc"))
		mount_proc();
	if (fork() == 0)
		run_daemon();
	if (strstr(cmdline, "probe.init"))
		be_init();
	execl(AGENT, AGENT, (char *)NULL);
	perror("probe: " AGENT);
	return 1;
}
