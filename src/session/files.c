#include "session/files.h"

#include "base/container.h"
#include "base/utf8.h"
#include "codec/json.h"
#include "codec/vmframe.h"
#include "sys/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	PIECE_BYTES = 64 * 1024,
	REQUEST_BYTES = 8 * 1024, /* of JSON: a path with an escape here and there */
	REASON_BYTES = 512,
	LINGER_MS = 1000, /* for a peer that got an error to end what it was sending */
};

/* --- frames, blocking ---------------------------------------------------------------------------
 */

/* Exactly n bytes. 0, -ECONNRESET when the peer ends before, or -errno. */
static int read_exactly(int fd, uint8_t *buf, size_t n)
{
	while (n > 0) {
		ssize_t got = read(fd, buf, n);

		if (got == 0)
			return -ECONNRESET;
		if (got < 0 && errno != EINTR)
			return -errno;
		if (got > 0) {
			buf += got;
			n -= (size_t)got;
		}
	}
	return 0;
}

/* The head of the next frame. */
static int read_head(int fd, uint8_t *type, size_t *length)
{
	uint8_t head[VMFRAME_HEAD_BYTES];
	int rc = read_exactly(fd, head, sizeof head);
	struct rd r;

	if (rc < 0)
		return rc;
	r = rd_of(span_of(head, sizeof head));
	*type = rd_u8(&r);
	*length = rd_u32le(&r);
	return *length > VMFRAME_PAYLOAD_MAX ? -EMSGSIZE : 0;
}

/* Reads a payload and does not keep it. */
static int skip(int fd, size_t n)
{
	uint8_t buf[4096];
	int rc = 0;

	while (rc == 0 && n > 0) {
		size_t piece = n < sizeof buf ? n : sizeof buf;

		rc = read_exactly(fd, buf, piece);
		n -= piece;
	}
	return rc;
}

static int send_frame(int fd, enum vmframe_type type, struct span payload)
{
	uint8_t frame[VMFRAME_HEAD_BYTES + REASON_BYTES];
	struct wr w = wr_of(frame, sizeof frame);

	vmframe_write(&w, (uint8_t)type, payload);
	return w.err == E_OK ? fs_write_all(fd, wr_span(&w)) : -EMSGSIZE;
}

/* What a peer still sends is read, or the connection would be reset and the answer lost. */
static void linger(int fd)
{
	struct pollfd source = {.fd = fd, .events = POLLIN};
	uint8_t buf[4096];

	shutdown(fd, SHUT_WR);
	while (poll(&source, 1, LINGER_MS) > 0 && read(fd, buf, sizeof buf) > 0)
		;
}

/* Says why not: "cannot write /x: No space left on device". */
static void send_error(int fd, const char *what, const char *path, const char *why)
{
	char text[REASON_BYTES];
	struct wr w = wr_of(text, sizeof text);

	wr_str(&w, what);
	wr_bytes(&w, utf8_first(span_str(path), REASON_BYTES / 2));
	wr_str(&w, ": ");
	wr_str(&w, why);
	send_frame(fd, VMFRAME_ERR, wr_span(&w));
}

static void fail(int fd, const char *what, const char *path, const char *why)
{
	send_error(fd, what, path, why);
	linger(fd);
}

/* --- the request --------------------------------------------------------------------------------
 */

struct request {
	char path[FILES_PATH_BYTES];
	uint64_t mode; /* permission bits; 0 = not given */
};

static enum err parse_request(struct span text, struct request *out)
{
	struct json j = json_of(text);
	struct json_token key;

	*out = (struct request){0};
	for (json_object(&j); json_key(&j, &key);) {
		if (json_is(&key, "path"))
			json_take_cstr(&j, out->path, sizeof out->path);
		else if (json_is(&key, "mode") && !json_null(&j))
			json_take_u64(&j, 0, 07777, &out->mode);
	}
	if (json_end(&j) == E_OK && out->path[0] != '/')
		json_fail(&j, E_MALFORMED);
	return j.err;
}

/* Reads frames up to a request, *type says which. 0, -EINVAL when it is not understood, or -errno.
 */
static int read_request(int fd, uint8_t *type, struct request *out)
{
	uint8_t text[REQUEST_BYTES];
	size_t length;
	int rc;

	while ((rc = read_head(fd, type, &length)) == 0) {
		if (*type != VMFRAME_WRITE_REQ && *type != VMFRAME_READ_REQ) {
			rc = skip(fd, length);
			if (rc < 0)
				return rc;
			continue;
		}
		if (length > sizeof text)
			return -EINVAL;
		rc = read_exactly(fd, text, length);
		if (rc < 0)
			return rc;
		return parse_request(span_of(text, length), out) == E_OK ? 0 : -EINVAL;
	}
	return rc;
}

/* --- writing ------------------------------------------------------------------------------------
 */

/* A file that is being written, beside where it will be. */
struct upload {
	int peer, file;
	char temp[FILES_PATH_BYTES + 32];
	uint64_t bytes;
	bool lost; /* the peer is gone, or does not speak the protocol: no answer */
};

/* The directory of a path, with the slash. */
static struct span directory_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return span_of(path, (size_t)(slash - path) + 1);
}

static int make_parents(const char *path)
{
	struct span dir = directory_of(path);
	char text[FILES_PATH_BYTES];

	if (dir.n == 1)
		return 0;
	span_to_cstr(span_first(dir, dir.n - 1), text, sizeof text);
	return fs_make_dirs(text, 0755);
}

/* No other worker has this pid: a file of that name was left behind by one that was killed. */
static int open_temp(struct upload *u, const char *path)
{
	const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	struct wr w = wr_of(u->temp, sizeof u->temp);
	int rc = make_parents(path);

	if (rc < 0)
		return rc;
	wr_bytes(&w, directory_of(path));
	wr_str(&w, ".vm-agent.");
	wr_dec(&w, (uint64_t)getpid());
	wr_nul(&w);
	unlink(u->temp);
	u->file = open(u->temp, flags, 0600);
	return u->file < 0 ? -errno : 0;
}

static int receive_data(struct upload *u, size_t n)
{
	static uint8_t buf[PIECE_BYTES];
	int rc;

	if (n > FILES_MAX_BYTES - u->bytes)
		return -EFBIG;
	u->bytes += n;
	while (n > 0) {
		size_t piece = n < sizeof buf ? n : sizeof buf;

		rc = read_exactly(u->peer, buf, piece);
		u->lost = rc < 0;
		if (rc == 0)
			rc = fs_write_all(u->file, span_of(buf, piece));
		if (rc < 0)
			return rc;
		n -= piece;
	}
	return 0;
}

/* All data up to DONE. */
static int receive(struct upload *u)
{
	for (;;) {
		uint8_t type;
		size_t length;
		int rc = read_head(u->peer, &type, &length);

		u->lost = rc < 0;
		if (rc == 0 && type == VMFRAME_DATA) {
			rc = receive_data(u, length);
		} else if (rc == 0) {
			rc = skip(u->peer, length);
			u->lost = rc < 0;
			if (rc == 0 && type == VMFRAME_DONE)
				return 0;
		}
		if (rc < 0)
			return rc;
	}
}

static int put_in_place(struct upload *u, const struct request *r)
{
	mode_t mode = r->mode ? (mode_t)r->mode : 0644;

	if (fchmod(u->file, mode) < 0 || fsync(u->file) < 0 || rename(u->temp, r->path) < 0)
		return -errno;
	fs_sync_directory(r->path);
	return 0;
}

static void serve_write(int peer, const struct request *r)
{
	struct upload u = {.peer = peer, .file = -1};
	int rc = open_temp(&u, r->path);

	if (rc == 0)
		rc = receive(&u);
	if (rc == 0)
		rc = put_in_place(&u, r);
	if (u.file >= 0)
		close(u.file);
	if (rc < 0 && u.file >= 0)
		unlink(u.temp);
	if (rc == 0)
		send_frame(peer, VMFRAME_ACK, span_of(NULL, 0));
	else if (!u.lost)
		fail(peer, "cannot write ", r->path, err_text(rc));
}

/* --- reading ------------------------------------------------------------------------------------
 */

/* An fd of a regular file, or -errno. */
static int open_file(const char *path)
{
	/* Non-blocking: a fifo is not to wait for its writer. */
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;
	int rc = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		rc = -errno;
	else if (!S_ISREG(st.st_mode))
		rc = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	else if (st.st_size > FILES_MAX_BYTES)
		rc = -EFBIG;
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

/* Sends a file to its end, wherever that is by then. */
static int send_data(int peer, int file)
{
	static uint8_t frame[PIECE_BYTES];
	uint64_t bytes = 0;

	for (;;) {
		struct wr w = wr_of(frame, sizeof frame);
		ssize_t n =
		    read(file, frame + VMFRAME_HEAD_BYTES, sizeof frame - VMFRAME_HEAD_BYTES);
		int rc;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		bytes += (uint64_t)n;
		if (bytes > FILES_MAX_BYTES)
			return -EFBIG;
		vmframe_head_write(&w, VMFRAME_DATA, (size_t)n);
		rc = fs_write_all(peer, span_of(frame, VMFRAME_HEAD_BYTES + (size_t)n));
		if (rc < 0)
			return rc;
	}
}

static void serve_read(int peer, const struct request *r)
{
	int file = open_file(r->path);
	int rc = file < 0 ? file : send_data(peer, file);

	if (file >= 0)
		close(file);
	if (rc == 0)
		send_frame(peer, VMFRAME_DONE, span_of(NULL, 0));
	else
		fail(peer, "cannot read ", r->path, err_text(rc));
}

/* --- the server ---------------------------------------------------------------------------------
 */

void files_serve(int fd)
{
	struct request r;
	uint8_t type;
	int rc;

	signal(SIGPIPE, SIG_IGN);
	fcntl(fd, F_SETFL, 0); /* blocking */
	rc = read_request(fd, &type, &r);
	if (rc == -EINVAL)
		fail(fd, "request is not understood", "", "it is no JSON with an absolute path");
	else if (rc == 0 && type == VMFRAME_WRITE_REQ)
		serve_write(fd, &r);
	else if (rc == 0)
		serve_read(fd, &r);
}

static int work(void *arg, int report_fd)
{
	(void)report_fd;
	files_serve(*(const int *)arg);
	return 0;
}

static void worked(struct worker *w, int rc, struct span report)
{
	(void)w;
	(void)rc;
	(void)report;
}

void files_init(struct files *f, struct reaper *r)
{
	*f = (struct files){.reaper = r};
	for (size_t i = 0; i < FILES_WORKERS; i++)
		f->workers[i].fn = worked;
}

static int start_worker(struct files *f, int fd)
{
	for (size_t i = 0; i < FILES_WORKERS; i++) {
		struct worker *w = &f->workers[i];

		if (w->running)
			continue;
		w->keep_fd = fd;
		return worker_start(w, f->reaper, work, &fd, 0);
	}
	return -EBUSY;
}

void files_accept(struct files *f, int fd)
{
	int rc = start_worker(f, fd);

	if (rc < 0) /* it fits in the socket's buffer */
		send_error(
		    fd, "cannot serve", "", rc == -EBUSY ? "too many at once" : err_text(rc));
	close(fd);
}
