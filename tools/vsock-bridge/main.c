/* vsock-bridge - gives a QEMU guest a virtio socket device (vsock) on any host: without the
 * kernel's vhost_vsock, and without root. */
#include "base/log.h"
#include "base/parse.h"
#include "host.h"
#include "net/listen.h"
#include "sys/signals.h"
#include "vhost_user.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* --- options ---------------------------------------------------------------------------------- */

struct settings {
	const char *vhost, *host, *log;
	uint64_t cid, max_connections, buffer_bytes;
	bool keep, help, version;
};

enum kind { SWITCH, TEXT, NUMBER, BYTES };

struct option_row {
	char letter;
	const char *name;
	const char *value; /* what stands for the value in the help; NULL for a switch */
	enum kind kind;
	size_t offset;     /* in struct settings */
	uint64_t min, max; /* of a number */
	const char *help;
};

#define AT(member) offsetof(struct settings, member)

/* A context id is the guest's when it is not one of the three that are taken. */
static const struct option_row rows[] = {
    {'v', "vhost", "PATH", TEXT, AT(vhost), 0, 0, "unix socket for QEMU, made here"},
    {'H', "host", "PATH", TEXT, AT(host), 0, 0, "unix socket for the host's programs, made here"},
    {'c', "cid", "N", NUMBER, AT(cid), VSOCK_HOST_CID + 1, UINT32_MAX - 1,
	"the guest's context id; 3 unless given"},
    {'k', "keep", NULL, SWITCH, AT(keep), 0, 0, "wait for the next QEMU when one has gone"},
    {'m', "max-connections", "N", NUMBER, AT(max_connections), 1, 1 << 16,
	"at once, from either side; 4096 unless given"},
    {'b', "buffer", "BYTES", BYTES, AT(buffer_bytes), 4096, 1 << 30,
	"what a connection holds for a slow program of the host; 256K unless given"},
    {'l', "log", "FILTER", TEXT, AT(log), 0, 0, "error, warn, info, debug; warn unless given"},
    {'h', "help", NULL, SWITCH, AT(help), 0, 0, "show this"},
    {'V', "version", NULL, SWITCH, AT(version), 0, 0, "show the version"},
};

enum { ROWS = sizeof rows / sizeof *rows, EXIT_USAGE = 2 };

static const struct option_row *row_of(int letter)
{
	for (size_t i = 0; i < ROWS; i++)
		if (rows[i].letter == letter)
			return &rows[i];
	return NULL;
}

static enum err set_option(struct settings *s, const struct option_row *row, const char *value)
{
	void *at = (uint8_t *)s + row->offset;

	switch (row->kind) {
	case SWITCH: *(bool *)at = true; return E_OK;
	case TEXT: *(const char **)at = value; return E_OK;
	case NUMBER: return parse_u64(span_str(value), row->min, row->max, at);
	default: return parse_size(span_str(value), row->min, row->max, at);
	}
}

/* What getopt_long wants, from the rows. */
static void getopt_tables(struct option longs[ROWS + 1], char shorts[2 * ROWS + 2])
{
	*shorts++ = ':'; /* tells a missing value from an unknown option */
	for (size_t i = 0; i < ROWS; i++) {
		const struct option_row *row = &rows[i];

		longs[i] = (struct option){row->name, row->value != NULL, NULL, row->letter};
		*shorts++ = row->letter;
		if (row->value)
			*shorts++ = ':';
	}
	*shorts = '\0';
	longs[ROWS] = (struct option){0};
}

static int usage(const char *what, const char *which, const char *advice)
{
	fprintf(
	    stderr, "vsock-bridge: %s \"%s\": %s; see vsock-bridge --help\n", what, which, advice);
	return EXIT_USAGE;
}

static int read_options(struct settings *s, int argc, char **argv)
{
	struct option longs[ROWS + 1];
	char shorts[2 * ROWS + 2];
	int letter;

	getopt_tables(longs, shorts);
	opterr = 0;
	while ((letter = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		const struct option_row *row = row_of(letter);
		enum err err;

		if (!row)
			return usage("option", argv[optind - 1],
			    letter == ':' ? "it needs a value" : "there is no such option");
		err = set_option(s, row, optarg);
		if (err)
			return usage(row->name, optarg, err_text((int)err));
	}
	return optind < argc ? usage("argument", argv[optind], "nothing is expected here") : 0;
}

/* --- help ------------------------------------------------------------------------------------- */

static void print_option(const struct option_row *row)
{
	char left[32];

	snprintf(left, sizeof left, "-%c, --%s%s%s", row->letter, row->name, row->value ? "=" : "",
	    row->value ? row->value : "");
	printf("  %-24s %s\n", left, row->help);
}

static int help(void)
{
	fputs(
	    "usage: vsock-bridge --vhost PATH --host PATH [OPTION...]\n\n"
	    "Gives a QEMU guest a virtio socket device (vsock), without the kernel's vhost_vsock\n"
	    "and without root.\n\nOptions:\n",
	    stdout);
	for (size_t i = 0; i < ROWS; i++)
		print_option(&rows[i]);
	fputs(
	    "\nIt ends when QEMU does, or on SIGTERM and SIGINT, and removes its sockets. Its "
	    "memory\n"
	    "is at most connections x buffer.\n"
	    "\nStart it, and then QEMU, with memory that can be shared:\n"
	    "  vsock-bridge --vhost /tmp/vm.vhost --host /tmp/vm.vsock &\n"
	    "  qemu-system-x86_64 -m 256 \\\n"
	    "    -object memory-backend-memfd,id=mem,size=256M,share=on \\\n"
	    "    -machine q35,memory-backend=mem \\\n"
	    "    -chardev socket,id=vsock,path=/tmp/vm.vhost \\\n"
	    "    -device vhost-user-vsock-pci,chardev=vsock ...\n"
	    "\nThe host's programs do as with Firecracker:\n"
	    "  - To reach port 1024 of the guest, connect to the --host socket, send\n"
	    "    \"CONNECT 1024\\n\", and read \"OK <number>\\n\"; then bytes flow. A guest that\n"
	    "    refuses closes the connection.\n"
	    "  - To serve port 1024 of the host (CID 2) to the guest, listen on the --host path\n"
	    "    with \"_1024\" behind it: /tmp/vm.vsock_1024. If nobody listens, the guest's\n"
	    "    connection is reset.\n"
	    "\nExamples:\n"
	    "  arcboxctl -H fc:/tmp/vm.vsock:1024 ping\n"
	    "  socat - UNIX-CONNECT:/tmp/vm.vsock      then type: CONNECT 1024\n",
	    stdout);
	return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* --- the bridge ------------------------------------------------------------------------------- */

struct bridge {
	struct settings settings;
	struct virtio_vsock_config config;
	struct loop loop;
	struct signals signals;
	struct listener vhost_listener, host_listener;
	struct vhost_user vhost;
	struct vsock vsock;
	struct host host;
	int status;
};

static void on_signal(struct signals *s, int sig)
{
	struct bridge *b = container_of(s, struct bridge, signals);

	if (sig == SIGTERM || sig == SIGINT)
		loop_stop(&b->loop);
}

static void rings_kicked(struct vhost_user *u)
{
	struct bridge *b = u->ctx;

	vsock_work(&b->vsock);
}

static void driver_restarted(struct vhost_user *u)
{
	struct bridge *b = u->ctx;

	vsock_drop(&b->vsock);
}

static void qemu_gone(struct vhost_user *u, int rc)
{
	struct bridge *b = u->ctx;

	if (rc < 0)
		log_error("bridge", "QEMU was cut off", KV_ERR(rc));
	else
		log_info("bridge", "QEMU has gone");
	vsock_drop(&b->vsock);
	if (b->settings.keep)
		return;
	b->status = rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	loop_stop(&b->loop);
}

static const struct vhost_user_ops vhost_ops = {rings_kicked, driver_restarted, qemu_gone};

static void qemu_came(struct listener *l, int fd, const struct addr *peer)
{
	struct bridge *b = l->ctx;
	int rc = vhost_user_serve(&b->vhost, fd);

	(void)peer;
	if (rc == 0) {
		log_info("bridge", "QEMU has come");
		return;
	}
	close(fd);
	log_warn("bridge", "a QEMU too many was turned away", KV_ERR(rc));
}

static void program_came(struct listener *l, int fd, const struct addr *peer)
{
	struct bridge *b = l->ctx;

	(void)peer;
	host_call(&b->host, fd);
}

/* A socket that cannot be had ends the bridge: who started it waits for it. */
static void listener_told(struct listener *l, int what, int rc, const struct addr *peer)
{
	struct bridge *b = l->ctx;

	(void)peer;
	if (what == LISTEN_RESTING)
		log_warn("bridge", "accepting nobody for a moment", KV_ERR(rc));
	if (what != LISTEN_FAILED)
		return;
	log_error(
	    "bridge", "cannot listen there", KV_STR("path", l->addr.u.un.sun_path), KV_ERR(rc));
	b->status = EXIT_FAILURE;
	loop_stop(&b->loop);
}

static const struct listener_ops vhost_listener_ops = {qemu_came, listener_told};
static const struct listener_ops host_listener_ops = {program_came, listener_told};

static int dial(void *ctx, uint32_t port)
{
	struct bridge *b = ctx;
	int fd = host_dial(&b->host, port);

	if (fd < 0)
		log_info("bridge", "the guest was refused a port of the host", KV_NUM("port", port),
		    KV_ERR(fd));
	return fd;
}

/* A connection is a descriptor. */
static void allow_many_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int set_up(struct bridge *b)
{
	const struct settings *s = &b->settings;
	struct vsock_conf conf = {
	    .cid = (uint32_t)s->cid,
	    .buffer_bytes = (uint32_t)s->buffer_bytes,
	    .max_connections = (unsigned)s->max_connections,
	    .dial = dial,
	    .ctx = b,
	};
	int rc = loop_init(&b->loop);

	if (rc < 0)
		return rc;
	b->config.guest_cid = htole64(s->cid);
	vhost_user_init(&b->vhost, &b->loop, &vhost_ops, span_of(&b->config, sizeof b->config), b);
	rc = vsock_init(&b->vsock, &b->loop, &b->vhost.rings[0], &b->vhost.rings[1], &conf);
	if (rc == 0)
		rc = signals_init(&b->signals, &b->loop, on_signal);
	host_init(&b->host, &b->loop, &b->vsock, s->host, conf.max_connections);
	return rc;
}

static void listen_on(
    struct bridge *b, struct listener *l, const struct addr *a, const struct listener_ops *ops)
{
	l->ctx = b;
	listener_start(l, &b->loop, a, NULL, ops);
}

static void tear_down(struct bridge *b)
{
	listener_stop(&b->vhost_listener);
	listener_stop(&b->host_listener);
	host_done(&b->host);
	vhost_user_close(&b->vhost);
	vsock_done(&b->vsock);
	signals_done(&b->signals);
	loop_done(&b->loop);
}

static int run(struct bridge *b)
{
	struct addr vhost, host;
	int rc;

	if (!b->settings.vhost || addr_unix(b->settings.vhost, &vhost))
		return usage("--vhost", b->settings.vhost ? b->settings.vhost : "",
		    "a path for QEMU is needed, of at most 107 bytes");
	if (!b->settings.host || addr_unix(b->settings.host, &host))
		return usage("--host", b->settings.host ? b->settings.host : "",
		    "a path for the host's programs is needed, of at most 107 bytes");
	signals_block();
	allow_many_files();
	rc = set_up(b);
	if (rc < 0) {
		log_error("bridge", "cannot start", KV_ERR(rc));
		return EXIT_FAILURE;
	}
	listen_on(b, &b->host_listener, &host, &host_listener_ops);
	listen_on(b, &b->vhost_listener, &vhost, &vhost_listener_ops);
	loop_run(&b->loop);
	tear_down(b);
	return b->status;
}

int main(int argc, char **argv)
{
	static struct bridge b = {
	    .settings = {.log = "warn",
		.cid = 3,
		.max_connections = 4096,
		.buffer_bytes = 256 * 1024},
	};
	struct span bad;
	int rc = read_options(&b.settings, argc, argv);

	if (rc)
		return rc;
	if (b.settings.help)
		return help();
	if (b.settings.version)
		return printf("vsock-bridge " AGENT_VERSION "\n") < 0;
	if (log_filter(span_str(b.settings.log), &bad))
		return usage("--log", b.settings.log, "it is a level, or module=level");
	return run(&b);
}
