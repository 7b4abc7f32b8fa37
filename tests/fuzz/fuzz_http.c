/* A hostile server, as Firecracker's API or the Docker engine: what comes of its answer over a
 * connection, in any pieces, is what it means as a whole, and the call ends once.
 *
 * The first byte of an input says how the answer is cut at first, the second how the server ends.
 */
#include "fuzz.h"

#include "kernel.h"
#include "net/http.h"
#include "sys/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	INPUT_BYTES = 16 * 1024,
	LIMIT_BYTES = 512,
	TIMEOUT_MS = 1000,
	TURN_MS = 10, /* so that all pieces come in time */
	TURNS_MAX = 4 * TIMEOUT_MS / TURN_MS,
	PIECES = 64,
	OWN_FILES = 2, /* the loop's */
};

static struct loop loop;

static void must(bool held)
{
	if (!held)
		abort();
}

/* --- the client ------------------------------------------------------------------------------- */

static uint8_t heard[INPUT_BYTES];
static size_t n_heard;
static unsigned heads, ends;
static int end_rc;

static int on_head(struct http_call *h, const struct http1_head *head)
{
	must(ends == 0 && heads++ == 0 && h->status == head->status && !head->interim);
	return 0;
}

static int on_data(struct http_call *h, struct span piece)
{
	must(ends == 0 && heads == 1 && piece.n > 0 && piece.n <= sizeof heard - n_heard);
	memcpy(heard + n_heard, piece.p, piece.n);
	n_heard += piece.n;
	must(h->received_bytes == n_heard && n_heard <= LIMIT_BYTES);
	return 0;
}

static void on_ended(struct http_call *h, int rc)
{
	(void)h;
	must(rc <= 0);
	ends++;
	end_rc = rc;
}

static void begin(struct http_call *call)
{
	static const struct http_ops ops = {on_head, on_data, on_ended};
	const struct http_request request = {
	    .method = "GET",
	    .target = "/",
	    .timeout_ms = TIMEOUT_MS,
	    .limit_bytes = LIMIT_BYTES,
	};
	struct addr to;

	n_heard = heads = ends = 0;
	must(addr_unix("/s", &to) == E_OK);
	must(http_start(call, &loop, &to, &request, &ops) == 0);
}

/* --- the server ------------------------------------------------------------------------------- */

static void turn(void)
{
	kernel_now_ns += TURN_MS * NS_PER_MS;
	must(loop_turn(&loop, 0) == 0);
}

/* In pieces at first, then as a whole. */
static void answer(int fd, struct span in, size_t piece)
{
	for (unsigned turns = 0; in.n && ends == 0; turns++) {
		struct span now = span_first(in, turns < PIECES ? piece : in.n);
		ssize_t n = send(fd, now.p, now.n, MSG_NOSIGNAL);

		if (n > 0)
			in = span_from(in, (size_t)n);
		turn();
	}
}

/* Says that this was all, or nothing any more, or goes. */
static void end(int fd, uint8_t how)
{
	bool ended = how % 3 == 0, waits = how % 3 == 1;

	if (ended)
		shutdown(fd, SHUT_WR);
	for (unsigned i = 0; (ended || waits) && ends == 0 && i < TURNS_MAX; i++)
		turn();
	close(fd);
	for (unsigned i = 0; ends == 0 && i < TURNS_MAX; i++)
		turn();
	must(ends == 1 && !loop.timers && kernel_open_files() == OWN_FILES);
	must(waits || end_rc != -ETIMEDOUT);
}

/* --- what must have come of it ---------------------------------------------------------------- */

/* The final head of the answer; whether there is one. */
static bool read_head(struct span *in, struct http1_head *head)
{
	size_t used;

	for (unsigned i = 0; i <= HTTP_INTERIM_MAX; i++) {
		if (http1_head_read(*in, &http1_default_limits, false, head, &used) != E_OK)
			return false;
		*in = span_from(*in, used);
		if (!head->interim)
			return true;
	}
	return false;
}

static void check(const struct http_call *call, struct span in)
{
	struct http1_head head;
	struct http1_body body;
	struct span data;
	size_t used, n = 0;
	bool complete = false;

	if (!read_head(&in, &head)) {
		must(heads == 0 && end_rc < 0);
		return;
	}
	must(heads == 0 || call->status == head.status);
	http1_body_init(&body, &head);
	do {
		if (http1_body_read(&body, in, &used, &data, &complete) != E_OK)
			break;
		in = span_from(in, used);
		used += data.n;
		data = span_first(data, n_heard - n);
		must(data.n == 0 || memcmp(heard + n, data.p, data.n) == 0);
		n += data.n;
	} while (used > 0 && !complete);
	must(n == n_heard);
	must(end_rc < 0 || complete || http1_body_eof(&body));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct http_call call = {0};
	struct span in = span_from(span_of(data, n), 2);
	int fd;

	if (!loop.now_ns)
		must(loop_init(&loop) == 0);
	if (n < 2 || n > INPUT_BYTES)
		return 0;
	begin(&call);
	fd = kernel_accept();
	answer(fd, in, data[0] < 128 ? n : (size_t)data[0] - 127);
	end(fd, data[1]);
	check(&call, in);
	return 0;
}
