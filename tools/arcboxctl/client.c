#include "client.h"

#include "base/parse.h"
#include "codec/messages.h"
#include "print.h"
#include "sys/clock.h"
#include "sys/sock.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

enum {
	READ_BYTES = 256 * 1024,
	RETRY_MS = 20,
	GREETING_BYTES = 64, /* the most that Firecracker answers */
};

/* --- where the agent is ----------------------------------------------------------------------- */

static enum err parse_vsock(struct span text, struct host *out)
{
	char full[64];
	struct wr w = wr_of(full, sizeof full);

	wr_bytes(&w, text);
	if (span_find(span_from(text, strlen("vsock:")), ':') == text.n - strlen("vsock:")) {
		wr_u8(&w, ':');
		wr_dec(&w, AGENT_PORT);
	}
	return w.err ? E_MALFORMED : addr_parse(wr_span(&w), &out->addr);
}

/* A path may hold colons: only digits behind the last one are a port. */
static enum err parse_firecracker(struct span path, struct host *out)
{
	size_t end = path.n;
	uint64_t port = AGENT_PORT;
	char text[sizeof out->addr.u.un.sun_path];

	while (end > 0 && ascii_digit(path.p[end - 1]))
		end--;
	if (end < path.n && end > 0 && path.p[end - 1] == ':') {
		if (parse_u64(span_from(path, end), 0, VMADDR_PORT_ANY - 1, &port))
			return E_RANGE;
		path = span_first(path, end - 1);
	}
	if (!span_to_cstr(path, text, sizeof text))
		return E_LIMIT;
	out->firecracker = true;
	out->port = (uint32_t)port;
	return addr_unix(text, &out->addr);
}

enum err host_parse(const char *text, struct host *out)
{
	struct host host = {.text = text};
	struct span rest = span_str(text);
	struct span scheme = span_split(&rest, ':');
	enum err err = E_MALFORMED;

	if (span_eq_str(scheme, "vsock"))
		err = rest.n ? parse_vsock(span_str(text), &host) : E_MALFORMED;
	else if (span_eq_str(scheme, "unix"))
		err = addr_parse(span_str(text), &host.addr);
	else if (span_eq_str(scheme, "fc"))
		err = parse_firecracker(rest, &host);
	if (!err)
		*out = host;
	return err;
}

bool host_with_port(const struct host *host, uint32_t port, struct host *out)
{
	struct host other = *host;

	other.port = port;
	if (addr_family(&other.addr) == AF_VSOCK)
		other.addr.u.vm.svm_port = port;
	else if (!other.firecracker)
		return false;
	*out = other;
	return true;
}

/* --- bytes, with a deadline ------------------------------------------------------------------- */

static uint64_t deadline_in(uint64_t ms)
{
	return ms ? clock_mono_ns() + ms * NS_PER_MS : UINT64_MAX;
}

/* 0 when fd is ready, or -errno. */
static int wait_for(int fd, short events, uint64_t deadline_ns)
{
	struct pollfd p = {fd, events, 0};

	for (;;) {
		uint64_t now = clock_mono_ns();
		uint64_t ms = now < deadline_ns ? (deadline_ns - now) / NS_PER_MS + 1 : 0;
		int n;

		if (ms == 0)
			return -ETIMEDOUT;
		n = poll(&p, 1, ms < INT_MAX ? (int)ms : INT_MAX);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

/* How many bytes came, 0 at the end, or -errno. */
static ssize_t receive(int fd, void *p, size_t n, uint64_t deadline_ns)
{
	for (;;) {
		ssize_t got = read(fd, p, n);
		int rc;

		if (got >= 0)
			return got;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return -errno;
		rc = wait_for(fd, POLLIN, deadline_ns);
		if (rc < 0)
			return rc;
	}
}

static int send_all(int fd, struct span s, uint64_t deadline_ns)
{
	while (s.n) {
		ssize_t n = send(fd, s.p, s.n, MSG_NOSIGNAL);
		int rc = 0;

		if (n >= 0)
			s = span_from(s, (size_t)n);
		else if (errno == EAGAIN)
			rc = wait_for(fd, POLLOUT, deadline_ns);
		else if (errno != EINTR)
			rc = -errno;
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* --- connecting ------------------------------------------------------------------------------- */

/* A unix socket whose queue is full cannot be waited for, only tried again. */
static int connect_to(const struct addr *a, uint64_t deadline_ns)
{
	int fd = sock_connect(a);
	int rc;

	while (fd == -EAGAIN && clock_mono_ns() < deadline_ns) {
		poll(NULL, 0, RETRY_MS);
		fd = sock_connect(a);
	}
	if (fd < 0)
		return fd;
	rc = wait_for(fd, POLLOUT, deadline_ns);
	if (rc == 0)
		rc = sock_error(fd);
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

/* Reads a line, and not a byte behind it: those are the guest's. 0 or -errno, -ENOTCONN at the end
 * of input. */
static int read_greeting(int fd, char *line, size_t cap, uint64_t deadline_ns)
{
	for (size_t n = 0; n < cap; n++) {
		ssize_t got = receive(fd, line + n, 1, deadline_ns);

		if (got <= 0)
			return got < 0 ? (int)got : -ENOTCONN;
		if (line[n] == '\n')
			return span_starts(span_of(line, n), span_str("OK ")) ? 0 : -EPROTO;
	}
	return -EPROTO;
}

/* Asks Firecracker for a port of its guest: `CONNECT <port>\n`, answered by `OK <n>\n`. */
static int ask_firecracker(int fd, uint32_t port, uint64_t deadline_ns)
{
	char text[GREETING_BYTES];
	struct wr w = wr_of(text, sizeof text);
	int rc;

	wr_str(&w, "CONNECT ");
	wr_dec(&w, port);
	wr_u8(&w, '\n');
	rc = send_all(fd, wr_span(&w), deadline_ns);
	return rc < 0 ? rc : read_greeting(fd, text, sizeof text, deadline_ns);
}

static const char *connect_advice(int rc)
{
	switch (-rc) {
	case ENOENT: return "there is no such socket; check -H, and whether the machine runs";
	case ECONNREFUSED: return "nobody listens there; start the agent";
	case ECONNRESET:
	case ENOTCONN:
	case EPIPE: return "the guest does not listen on that port; start the agent in it";
	case EACCES:
	case EPERM: return "this user may not; run it as the owner of the socket";
	case ENODEV:
	case EADDRNOTAVAIL:
	case EAFNOSUPPORT: return "this machine has no vsock; load the module vhost_vsock";
	case EAGAIN:
	case ETIMEDOUT: return "no answer; see whether the guest is stuck, or raise --timeout";
	case EPROTO: return "what listens there is not Firecracker; use unix: for an agent's own";
	default: return "check -H";
	}
}

int host_connect(const struct host *host, const char *doing, uint64_t timeout_ms, int *out)
{
	uint64_t deadline_ns = deadline_in(timeout_ms);
	int fd = connect_to(&host->addr, deadline_ns);
	int rc = fd;

	if (fd >= 0 && host->firecracker)
		rc = ask_firecracker(fd, host->port, deadline_ns);
	if (rc < 0) {
		if (fd >= 0)
			close(fd);
		return fail(EXIT_CONNECT, "%s: cannot connect to %s: %s: %s", doing, host->text,
		    err_text(rc), connect_advice(rc));
	}
	*out = fd;
	return 0;
}

int client_open(struct client *c, const struct host *host, const char *doing, uint64_t timeout_ms)
{
	int fd = -1;
	int rc = host_connect(host, doing, timeout_ms, &fd);

	if (rc)
		return rc;
	*c = (struct client){.host = host, .doing = doing, .timeout_ms = timeout_ms, .fd = fd};
	queue_init(&c->in, ANSWER_MAX_BYTES, NULL);
	return 0;
}

void client_close(struct client *c)
{
	close(c->fd);
	queue_done(&c->in);
}

/* --- request and answer ----------------------------------------------------------------------- */

static int broken(const struct client *c, const char *what)
{
	return fail(EXIT_BROKEN, "%s: %s %s", c->doing, c->host->text, what);
}

int client_lost(const struct client *c, int rc)
{
	if (rc == -ETIMEDOUT)
		return fail(EXIT_BROKEN,
		    "%s: no whole answer from %s within %.1f s; see whether the agent is stuck, or "
		    "raise --timeout",
		    c->doing, c->host->text, (double)c->timeout_ms / 1000);
	return fail(EXIT_BROKEN, "%s: the connection to %s broke: %s; try again", c->doing,
	    c->host->text, err_text(rc));
}

/* Reads more of the answer into the queue. */
static int receive_more(struct client *c, uint64_t deadline_ns)
{
	size_t room = queue_room(&c->in);
	size_t n = room < READ_BYTES ? room : READ_BYTES;
	uint8_t *place = queue_reserve(&c->in, n);
	ssize_t got;

	if (!place)
		return fail(
		    EXIT_LOCAL, "%s: no memory for the answer of %s", c->doing, c->host->text);
	got = receive(c->fd, place, n, deadline_ns);
	if (got < 0)
		return client_lost(c, (int)got);
	if (got == 0)
		return broken(c,
		    "closed the connection before its answer was complete; "
		    "look into the agent's log");
	queue_commit(&c->in, (size_t)got);
	return 0;
}

int client_read(struct client *c)
{
	return receive_more(c, UINT64_MAX);
}

static int refused(const struct client *c, const struct frame *answer)
{
	struct span text;
	int32_t code;

	if (frame_error_read(answer->payload, &code, &text))
		return broken(c, "sent an Error that does not decode; check the agent's version");
	return fail(EXIT_REFUSED, "%s: %s answered error %d: %.*s", c->doing, c->host->text,
	    (int)code, (int)text.n, (const char *)text.p);
}

/* An Error about the connection itself, not about a request, carries no trace. */
static int check_answer(const struct client *c, const struct frame *answer, struct span trace)
{
	bool is_error = answer->type == RPC_ERROR;

	if (!span_eq(answer->trace, trace) && !(is_error && answer->trace.n == 0))
		return broken(c, "answered another request than this; check the agent's version");
	return is_error ? refused(c, answer) : 0;
}

static struct span trace_of(const struct client *c)
{
	return span_str(c->trace);
}

int client_take(struct client *c, struct frame *answer, bool *whole)
{
	const uint32_t limit = ANSWER_MAX_BYTES - sizeof(uint32_t); /* the length itself */
	struct frame frame;
	enum err err;
	int rc;

	queue_take(&c->in, c->taken);
	c->taken = 0;
	*whole = false;
	err = frame_read(queue_span(&c->in), limit, &frame, &c->taken);
	if (err == E_MORE)
		return 0;
	if (err == E_LIMIT)
		return broken(c,
		    "announces an answer of more than 64 MiB; "
		    "check that an agent listens there");
	if (err != E_OK)
		return broken(c, "does not speak this protocol; check -H");
	rc = check_answer(c, &frame, trace_of(c));
	if (rc)
		return rc;
	*whole = true;
	*answer = frame;
	return 0;
}

static int receive_frame(struct client *c, uint64_t deadline_ns, struct frame *answer)
{
	bool whole;

	for (;;) {
		int rc = client_take(c, answer, &whole);

		if (rc || whole)
			return rc;
		rc = receive_more(c, deadline_ns);
		if (rc)
			return rc;
	}
}

/* A peer that refuses a request may close before it has read all of it: its answer tells why. */
static int send_request(const struct client *c, struct span head, struct span payload, uint64_t at)
{
	int rc = send_all(c->fd, head, at);

	if (rc == 0)
		rc = send_all(c->fd, payload, at);
	return rc == -EPIPE || rc == -ECONNRESET ? 0 : rc;
}

static int begin(struct client *c, uint32_t type, struct span payload, uint64_t deadline_ns)
{
	uint8_t head[FRAME_HEAD_BYTES + CLIENT_TRACE_BYTES];
	struct wr w = wr_of(head, sizeof head);
	int rc;

	snprintf(c->trace, sizeof c->trace, "arcboxctl-%u", ++c->calls);
	frame_head_write(&w, type, trace_of(c), payload.n);
	rc = send_request(c, wr_span(&w), payload, deadline_ns);
	return rc < 0 ? client_lost(c, rc) : 0;
}

int client_begin(struct client *c, uint32_t type, struct span payload)
{
	return begin(c, type, payload, deadline_in(c->timeout_ms));
}

int client_next(struct client *c, uint64_t timeout_ms, struct frame *answer)
{
	return receive_frame(c, deadline_in(timeout_ms), answer);
}

int client_call(struct client *c, uint32_t type, struct span payload, struct frame *answer)
{
	uint64_t deadline_ns = deadline_in(c->timeout_ms);
	int rc = begin(c, type, payload, deadline_ns);

	return rc ? rc : receive_frame(c, deadline_ns, answer);
}
