/* cp: a file into a sandbox or out of it, by vm-agent's port 53. The agent has no request for it:
 * the host is the sandbox itself. */
#include "codec/json.h"
#include "codec/vmframe.h"
#include "commands.h"
#include "print.h"
#include "sys/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	FILES_PORT = 53,
	PIECE_BYTES = 64 * 1024,
	REQUEST_BYTES = 16 * 1024,
};

/* One file operation. */
struct copy {
	const struct host *host;
	int fd;
	uint64_t timeout_ms; /* for each thing that is waited for */
	struct queue in;
	size_t taken; /* of it, the frame that was handed out last */
};

static int lost(const struct copy *c, int rc)
{
	return fail(EXIT_BROKEN, "cp: the connection to %s broke: %s", c->host->text, err_text(rc));
}

/* 0 or -errno. */
static int wait_for(const struct copy *c, short events)
{
	struct pollfd p = {.fd = c->fd, .events = events};
	int n;

	do
		n = poll(&p, 1, (int)c->timeout_ms);
	while (n < 0 && errno == EINTR);
	return n > 0 ? 0 : n == 0 ? -ETIMEDOUT : -errno;
}

/* --- frames ----------------------------------------------------------------------------------- */

static int read_more(struct copy *c)
{
	uint8_t *place = queue_reserve(&c->in, PIECE_BYTES);
	ssize_t n;
	int rc;

	if (!place)
		return fail(EXIT_LOCAL, "cp: no memory");
	rc = wait_for(c, POLLIN);
	if (rc < 0)
		return lost(c, rc);
	n = read(c->fd, place, PIECE_BYTES);
	if (n > 0)
		queue_commit(&c->in, (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		return lost(c, n == 0 ? -ECONNRESET : -errno);
	return 0;
}

static int refused(const struct copy *c, const struct vmframe *f)
{
	return fail(EXIT_REFUSED, "cp: %s answered: %.*s", c->host->text, (int)f->payload.n,
	    (const char *)f->payload.p);
}

/* The next frame, which lives until the next call; an ERR is a failure. */
static int next_frame(struct copy *c, struct vmframe *out)
{
	for (;;) {
		enum err err;
		int rc;

		queue_take(&c->in, c->taken);
		c->taken = 0;
		err = vmframe_read(queue_span(&c->in), out, &c->taken);
		if (err == E_OK)
			return out->type == VMFRAME_ERR ? refused(c, out) : 0;
		if (err != E_MORE)
			return fail(EXIT_BROKEN, "cp: %s does not speak this protocol; check -H",
			    c->host->text);
		rc = read_more(c);
		if (rc)
			return rc;
	}
}

/* The sandbox may have refused the file meanwhile: its answer tells why. */
static int send_frame(struct copy *c, uint8_t type, struct span payload)
{
	uint8_t head[VMFRAME_HEAD_BYTES];
	struct wr w = wr_of(head, sizeof head);
	int rc;

	vmframe_head_write(&w, type, payload.n);
	rc = fs_write_all(c->fd, wr_span(&w));
	if (rc == 0)
		rc = fs_write_all(c->fd, payload);
	if (rc == -EPIPE || rc == -ECONNRESET) {
		struct vmframe f;

		rc = next_frame(c, &f);
		return rc ? rc : lost(c, -EPIPE);
	}
	return rc < 0 ? lost(c, rc) : 0;
}

/* {"path": …, "mode": …}; without a mode for reading. */
static int send_request(struct copy *c, uint8_t type, const char *path, const mode_t *mode)
{
	uint8_t buf[REQUEST_BYTES];
	struct wr w = wr_of(buf, sizeof buf);
	struct json_writer j = json_writer_of(&w);

	json_put_object(&j);
	json_put_key(&j, "path");
	json_put_str(&j, path);
	if (mode) {
		json_put_key(&j, "mode");
		json_put_u64(&j, *mode);
	}
	json_put_object_end(&j);
	return w.err ? fail(EXIT_USAGE, "cp: the path is too long")
		     : send_frame(c, type, wr_span(&w));
}

/* --- into a sandbox --------------------------------------------------------------------------- */

static int send_file(struct copy *c, int from, const char *name)
{
	static uint8_t buf[PIECE_BYTES];
	ssize_t n = 1;
	int rc = 0;

	while (rc == 0 && n != 0) {
		n = read(from, buf, sizeof buf);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(EXIT_LOCAL, "cp: cannot read %s: %s", name, err_text(-errno));
		rc = send_frame(c, n ? VMFRAME_DATA : VMFRAME_DONE, span_of(buf, (size_t)n));
	}
	return rc;
}

static int await_ack(struct copy *c)
{
	struct vmframe f;
	int rc;

	do
		rc = next_frame(c, &f);
	while (rc == 0 && f.type != VMFRAME_ACK);
	return rc;
}

static int copy_in(struct copy *c, const char *from, const char *path)
{
	bool standard = strcmp(from, "-") == 0;
	int fd = standard ? STDIN_FILENO : open(from, O_RDONLY | O_CLOEXEC);
	struct stat st;
	mode_t mode = 0;
	int rc;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(EXIT_LOCAL, "cp: cannot read %s: %s", from, err_text(-errno));
	if (!standard)
		mode = st.st_mode & 07777;
	rc = send_request(c, VMFRAME_WRITE_REQ, path, &mode);
	if (rc == 0)
		rc = send_file(c, fd, from);
	if (rc == 0)
		rc = await_ack(c);
	if (!standard)
		close(fd);
	return rc;
}

/* --- out of a sandbox ------------------------------------------------------------------------- */

/* The file is made when the first of it is there, so that a failed request leaves an old one alone.
 */
static int put(int *fd, const char *to, struct span data)
{
	int rc;

	if (*fd < 0)
		*fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	rc = *fd < 0 ? -errno : fs_write_all(*fd, data);
	return rc < 0 ? fail(EXIT_LOCAL, "cp: cannot write %s: %s", to, err_text(rc)) : 0;
}

static int copy_out(struct copy *c, const char *path, const char *to)
{
	bool standard = strcmp(to, "-") == 0;
	int fd = standard ? STDOUT_FILENO : -1;
	struct vmframe f = {0};
	int rc = send_request(c, VMFRAME_READ_REQ, path, NULL);

	while (rc == 0 && f.type != VMFRAME_DONE) {
		rc = next_frame(c, &f);
		if (rc == 0 && (f.type == VMFRAME_DATA || f.type == VMFRAME_DONE))
			rc = put(&fd, to, f.payload);
	}
	if (!standard && fd >= 0 && close(fd) < 0 && rc == 0)
		rc = fail(EXIT_LOCAL, "cp: cannot write %s: %s", to, err_text(-errno));
	if (rc && !standard && fd >= 0)
		fail(EXIT_LOCAL, "cp: what is in %s is incomplete", to);
	return rc;
}

/* --- the command ------------------------------------------------------------------------------ */

static bool is_inside(const char *arg)
{
	return arg[0] == ':';
}

int check_cp(char **args)
{
	if (is_inside(args[0]) != is_inside(args[1]))
		return 0;
	return fail(EXIT_USAGE,
	    "cp: one of FROM and TO is a path in the sandbox, with a colon before it: "
	    "cp ./file :/root/file");
}

int run_cp(const struct host *host, const struct settings *s, char **args)
{
	uint64_t timeout_ms = s->timeout_ms ? s->timeout_ms : 60000;
	struct copy c = {.timeout_ms = timeout_ms};
	struct host inside = *host;
	int rc;

	signal(SIGPIPE, SIG_IGN);                  /* a sandbox that hangs up has said why */
	host_with_port(host, FILES_PORT, &inside); /* a unix socket leads to one port only */
	c.host = &inside;
	rc = host_connect(&inside, "cp", timeout_ms, &c.fd);
	if (rc)
		return rc;
	queue_init(&c.in, VMFRAME_PAYLOAD_MAX + VMFRAME_HEAD_BYTES + PIECE_BYTES, NULL);
	rc = is_inside(args[0]) ? copy_out(&c, args[0] + 1, args[1])
				: copy_in(&c, args[0], args[1] + 1);
	queue_done(&c.in);
	close(c.fd);
	return rc;
}
