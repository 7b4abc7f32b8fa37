/* A stand-in for k3s (and, by its name, for containerd, and for a dockerd that hangs), which
 * behaves to whoever starts it as the real one does by its documentation (docs.k3s.io/cli/server):
 * it takes the flags that the agent gives and no others, unpacks itself below its data directory
 * and goes over to that copy, writes the kubeconfig late and in two steps, opens the API port later
 * still, leaves shims behind in process groups of their own.
 *
 * Its bad days are files in the directory that $K3S_DAY names, read when they matter:
 *   config_ms, api_ms, containerd_ms   how late they are (100, 300, 0)
 *   no_api                             the port stays shut
 *   die_ms                             exits with 1 then
 *   term_ms                            how long SIGTERM takes (50)
 *   no_term                            SIGTERM is ignored
 *   shims                              how many (1)
 *   ctr                                "busy", "hang" or "noise" */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { API_PORT = 6443, PATH_BYTES = 1024 };

static const char *data_dir = "/var/lib/rancher/k3s", *config_path = "/etc/rancher/k3s/k3s.yaml";
static const char *containerd = "/run/k3s/containerd/containerd.sock", *config_mode = "0600";

/* --- the day --------------------------------------------------------------------------------- */

/* What the file says, or NULL without it; lives until the next call. */
static const char *day(const char *name)
{
	static char text[64];
	const char *dir = getenv("K3S_DAY");
	char path[PATH_BYTES];
	FILE *f = NULL;

	snprintf(path, sizeof path, "%s/%s", dir ? dir : "/nowhere", name);
	f = fopen(path, "re");
	if (!f)
		return NULL;
	text[fread(text, 1, sizeof text - 1, f)] = '\0';
	fclose(f);
	text[strcspn(text, "\n")] = '\0';
	return text;
}

static int day_number(const char *name, int otherwise)
{
	const char *text = day(name);

	return text ? atoi(text) : otherwise;
}

/* --- words ----------------------------------------------------------------------------------- */

static void say(const char *level, const char *format, ...)
{
	char stamp[32], text[512];
	time_t now = time(NULL);
	struct tm utc;
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
	fprintf(stderr, "time=\"%s\" level=%s msg=\"%s\"\n", stamp, level, text);
}

#define fatal(...) (say("fatal", __VA_ARGS__), exit(1))

static void sleep_ms(int ms)
{
	struct timespec left = {ms / 1000, ms % 1000 * 1000000L};

	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		;
}

/* --- files ----------------------------------------------------------------------------------- */

static void make_dirs(const char *path)
{
	char part[PATH_BYTES];

	snprintf(part, sizeof part, "%s", path);
	for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(part, 0755);
		*slash = '/';
	}
	if (mkdir(part, 0755) < 0 && errno != EEXIST)
		fatal("mkdir %s: %s", part, strerror(errno));
}

static const char *in_data(const char *rest)
{
	static char path[PATH_BYTES];

	snprintf(path, sizeof path, "%s/%s", data_dir, rest);
	return path;
}

static void write_file(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, mode);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		fatal("open %s: %s", path, strerror(errno));
	close(fd);
}

static void write_config(void)
{
	static const char text[] =
	    "apiVersion: v1\n"
	    "clusters:\n"
	    "- cluster:\n"
	    "    certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==\n"
	    "    server: https://127.0.0.1:6443\n"
	    "  name: default\n"
	    "contexts:\n"
	    "- context:\n"
	    "    cluster: default\n"
	    "    user: default\n"
	    "  name: default\n"
	    "current-context: default\n"
	    "kind: Config\n"
	    "preferences: {}\n"
	    "users:\n"
	    "- name: default\n"
	    "  user:\n"
	    "    client-certificate-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==\n"
	    "    client-key-data: LS0tLS1CRUdJTiBFQyBQUklWQVRFIEtFWS0tLS0tCg==\n";

	sleep_ms(day_number("config_ms", 100));
	write_file(config_path, "", (mode_t)strtoul(config_mode, NULL, 8));
	sleep_ms(50);
	write_file(config_path, text, 0600);
}

/* Copies itself, as the real one unpacks its payload, and goes on as the copy. */
static void go_over_to_copy(char **argv)
{
	static const char hash[] = "data/2c6ae4b6cf5c1fdd0dbe";
	char dir[PATH_BYTES], path[PATH_BYTES + 16], buf[65536];
	int from, to;
	ssize_t n;

	snprintf(dir, sizeof dir, "%s/bin", in_data(hash));
	make_dirs(dir);
	snprintf(path, sizeof path, "%s/k3s", dir);
	unlink(path);
	from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	to = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	while ((n = read(from, buf, sizeof buf)) > 0)
		if (write(to, buf, (size_t)n) != n)
			fatal("extracting data: %s", strerror(errno));
	close(from);
	close(to);
	snprintf(path, sizeof path, "%s/k3s-server", dir);
	(void)!symlink("k3s", path);
	setenv("K3S_DATA_DIR", dir, 1);
	execv(path, argv);
	fatal("exec %s: %s", path, strerror(errno));
}

/* --- children -------------------------------------------------------------------------------- */

static void start_child(bool shim)
{
	if (fork() != 0)
		return;
	signal(SIGTERM, shim ? SIG_IGN : SIG_DFL);
	if (shim && (setsid() < 0 || chdir("/var/lib/kubelet") < 0))
		_exit(1);
	for (;;)
		pause();
}

/* --- sockets --------------------------------------------------------------------------------- */

static int connect_unix(const char *path)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
	if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
		return fd;
	close(fd);
	return -1;
}

static int listen_at(const struct sockaddr *at, socklen_t n)
{
	int fd = socket(at->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const int on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(fd, at, n) < 0 || listen(fd, 64) < 0)
		fatal("starting kubernetes: listen: bind: %s", strerror(errno));
	return fd;
}

static int listen_api(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(API_PORT)};

	return listen_at((struct sockaddr *)&at, sizeof at);
}

static volatile sig_atomic_t told_to_end;

static void on_term(int sig)
{
	(void)sig;
	told_to_end = 1;
}

static void end_in_time(void)
{
	if (!told_to_end)
		return;
	say("info", "Shutting down");
	sleep_ms(day_number("term_ms", 50));
	exit(0);
}

/* Waits, and lets clients in and out. */
static void serve(int fd, int ms)
{
	struct pollfd client = {.fd = fd, .events = POLLIN};

	for (; ms > 0; ms -= 10) {
		end_in_time();
		if (poll(&client, 1, 10) == 1)
			close(accept(fd, NULL, NULL));
	}
}

/* --- k3s server ------------------------------------------------------------------------------ */

static void read_server_flags(int argc, char **argv)
{
	static const struct option flags[] = {
	    {"container-runtime-endpoint", required_argument, NULL, 'e'},
	    {"data-dir", required_argument, NULL, 'd'},
	    {"write-kubeconfig", required_argument, NULL, 'o'},
	    {"write-kubeconfig-mode", required_argument, NULL, 'm'},
	    {"disable", required_argument, NULL, 'x'},
	    {0},
	};
	int flag;

	opterr = 0;
	while ((flag = getopt_long(argc, argv, "d:o:", flags, NULL)) != -1) {
		switch (flag) {
		case 'e': containerd = optarg; break;
		case 'd': data_dir = optarg; break;
		case 'o': config_path = optarg; break;
		case 'm': config_mode = optarg; break;
		case 'x': break;
		default: fatal("flag provided but not defined: %s", argv[optind - 1]);
		}
	}
	if (optind < argc)
		fatal("unexpected argument %s", argv[optind]);
}

/* What it leaves in its directories. */
static void fill_directories(void)
{
	static const char *const below[] = {
	    "server/tls", "server/db", "agent/etc/cni/net.d", "agent/containerd", "storage/pvc-1"};

	for (size_t i = 0; i < sizeof below / sizeof *below; i++)
		make_dirs(in_data(below[i]));
	make_dirs("/var/lib/kubelet/pods/4f3a/volumes");
	make_dirs("/var/lib/cni/networks/cbr0");
	write_file("/var/lib/cni/networks/cbr0/10.42.0.2", "pod", 0600);
	write_file(in_data("server/token"), "K10::server:secret\n", 0600);
	(void)!symlink("token", in_data("server/node-token"));
}

/* Two of them do not share a data directory. */
static void lock_database(void)
{
	struct flock all = {.l_type = F_WRLCK};
	int fd = open(in_data("server/db/state.db"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || fcntl(fd, F_SETLK, &all) < 0)
		fatal("starting kubernetes: preparing server: database is locked");
}

static void run_server(void)
{
	bool is_first = true;

	signal(SIGTERM, day("no_term") ? SIG_IGN : on_term);
	signal(SIGCHLD, SIG_IGN);
	say("info", "Starting k3s v1.30.4+k3s1 (98262b5d)");
	while (connect_unix(containerd) < 0) {
		if (is_first)
			say("info", "Waiting for containerd startup: dial unix %s", containerd);
		is_first = false;
		end_in_time();
		sleep_ms(100);
	}
	fill_directories();
	lock_database();
	start_child(false);
	for (int i = day_number("shims", 1); i > 0; i--)
		start_child(true);
	if (day("die_ms")) {
		sleep_ms(day_number("die_ms", 0));
		fatal("starting kubernetes: preparing server: no luck today");
	}
	write_config();
}

static void server(int argc, char **argv)
{
	read_server_flags(argc, argv);
	if (geteuid() != 0)
		fatal("must run as root unless --rootless and/or --disable-agent flags are used");
	if (!getenv("K3S_DATA_DIR"))
		go_over_to_copy(argv - 1);
	run_server();
	serve(-1, day_number("api_ms", 300));
	while (day("no_api"))
		serve(-1, 100);
	say("info", "Kube API server is now running");
	serve(listen_api(), 1 << 30);
}

/* --- k3s ctr --------------------------------------------------------------------------------- */

static int ctr(int argc, char **argv)
{
	static const char *const wanted[] = {"--address", NULL, "namespaces", "remove", "k8s.io"};
	const char *mood = day("ctr");

	for (int i = 0; i < 5; i++)
		if (argc != 6 || (wanted[i] && strcmp(argv[1 + i], wanted[i]) != 0)) {
			fprintf(stderr, "Incorrect Usage.\n");
			return 1;
		}
	if (connect_unix(argv[2]) < 0) {
		fprintf(stderr, "ctr: failed to dial \"%s\": context deadline exceeded\n", argv[2]);
		return 1;
	}
	if (mood && strcmp(mood, "hang") == 0)
		for (signal(SIGTERM, SIG_IGN);;)
			pause();
	if (mood && strcmp(mood, "busy") == 0) {
		fprintf(
		    stderr, "ctr: namespace \"k8s.io\" must be empty, but it still has images\n");
		return 1;
	}
	if (mood && strcmp(mood, "noise") == 0)
		for (int i = 0; i < 100000; i++)
			fprintf(stderr, "\x1b[31m\xff\xfe %d", i);
	puts("k8s.io");
	return mood != NULL;
}

/* --- containerd ------------------------------------------------------------------------------ */

static void run_containerd(int argc, char **argv)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};

	for (int i = 1; i + 1 < argc; i++)
		if (strcmp(argv[i], "--address") == 0)
			snprintf(at.sun_path, sizeof at.sun_path, "%s", argv[i + 1]);
	signal(SIGTERM, on_term);
	serve(-1, day_number("containerd_ms", 0));
	unlink(at.sun_path);
	serve(listen_at((struct sockaddr *)&at, sizeof at), 1 << 30);
}

int main(int argc, char **argv)
{
	const char *slash = strrchr(argv[0], '/');
	const char *name = slash ? slash + 1 : argv[0];

	if (strcmp(name, "containerd") == 0)
		run_containerd(argc, argv);
	if (strcmp(name, "dockerd") == 0)
		for (;;)
			pause();
	if (argc > 1 && strcmp(argv[1], "server") == 0)
		server(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "ctr") == 0)
		return ctr(argc - 1, argv + 1);
	fprintf(stderr, "No help topic for '%s'\n", argc > 1 ? argv[1] : "");
	return 1;
}
