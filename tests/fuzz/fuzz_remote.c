/* What a hostile vm-agent says: the answer to CONNECT and the frames after it, in any pieces, while
 * the host does what it likes. The host hears what was said and nothing else, and is told of the
 * end once; the sandbox gets one command in well-formed frames, and the input that was taken.
 *
 * The first byte of an input chooses what is begun; then each step is a byte and what it asks for.
 */
#include "fuzz.h"

#include "codec/json.h"
#include "kernel.h"
#include "sandbox/guest_port.h"
#include "sandbox/remote.h"
#include "sys/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	CONNECT_MS = 1000,
	STEPS_MAX = 300,
	QUIET_TURNS = 10,
	LAST_TURNS = 100,        /* of 100 ms */
	OWN_FILES = 2,           /* the loop's */
	TYPED_BYTES = 64 * 1024, /* in all */
	SAID_BYTES = 256 * STEPS_MAX,
	GOT_BYTES = 4 * TYPED_BYTES,
};

static struct loop loop;
static struct remote *remote; /* NULL once it has ended, or is cancelled */

static void must(bool held)
{
	if (!held)
		abort();
}

/* --- the host --------------------------------------------------------------------------------- */

static uint8_t heard[2 * SAID_BYTES]; /* the stream of each byte, and the byte */
static size_t n_heard, n_typed;
static bool clock_only, pauses, paused, waits, input_ended, abandoned;
static unsigned ends;
static int end_rc;
static int32_t exit_code;

static size_t put_output(uint8_t *to, enum exec_stream stream, struct span bytes)
{
	for (size_t i = 0; i < bytes.n; i++) {
		to[2 * i] = (uint8_t)stream;
		to[2 * i + 1] = bytes.p[i];
	}
	return 2 * bytes.n;
}

static void on_output(void *ctx, enum exec_stream stream, struct span bytes)
{
	must(ctx == &loop && remote && !paused);
	must(bytes.n > 0 && bytes.n <= EXEC_PIECE_BYTES && bytes.n <= (sizeof heard - n_heard) / 2);
	n_heard += put_output(heard + n_heard, stream, bytes);
	paused = pauses;
	if (pauses)
		remote_pause(remote);
}

static void on_writable(void *ctx)
{
	must(ctx == &loop && remote && waits);
	waits = false;
}

static void on_ended(void *ctx, int rc, int32_t code)
{
	must(ctx == &loop && remote && rc <= 0);
	remote = NULL;
	ends++;
	end_rc = rc;
	exit_code = code;
}

static void begin(uint8_t choice)
{
	static const struct remote_ops ops = {on_output, on_writable, on_ended};
	const struct remote_conf conf = {&loop, "/v", CONNECT_MS, &ops, &loop, NULL};
	struct command c;

	clock_only = choice & 1;
	pauses = choice & 2;
	input_ended = choice & 4;
	paused = waits = abandoned = false;
	n_heard = n_typed = ends = 0;
	command_init(&c);
	must(command_add_arg(&c, span_str("sh")) == 0);
	must(command_add_env(&c, span_str("A"), span_str("\"b\xff\n")) == 0);
	if (clock_only)
		must(remote_sync_clock(&conf, &remote) == 0);
	else
		must(remote_start(&conf, &c, !input_ended, &remote) == 0);
	command_done(&c);
}

static uint8_t text[TYPED_BYTES]; /* that is typed: the front of it, time and again */

static void type(size_t n)
{
	size_t taken;

	if (n > sizeof text - n_typed)
		return;
	taken = remote_input(remote, span_of(text, n));
	must(taken <= n && (!input_ended || taken == n));
	waits = taken < n;
	if (!input_ended)
		n_typed += taken;
}

/* --- the guest ---------------------------------------------------------------------------------
 */

static int guest = -1;
static uint8_t said[SAID_BYTES], got[GOT_BYTES]; /* over the last connection */
static size_t n_said, n_got;

static void hang_up(void)
{
	if (guest >= 0)
		close(guest);
	guest = -1;
}

static void say(struct span bytes)
{
	ssize_t n = guest < 0 ? -1 : send(guest, bytes.p, bytes.n, MSG_NOSIGNAL);

	if (n <= 0)
		return;
	memcpy(said + n_said, bytes.p, (size_t)n);
	n_said += (size_t)n;
}

static void get(void)
{
	ssize_t n = guest < 0 ? -1 : recv(guest, got + n_got, sizeof got - n_got, 0);

	if (n > 0)
		n_got += (size_t)n;
}

/* The first connection that gets an answer is the only one that frames go over. */
static void turn(void)
{
	int fd;

	must(loop_turn(&loop, 0) == 0);
	fd = kernel_accept();
	if (fd < 0)
		return;
	must(n_heard == 0);
	hang_up();
	guest = fd;
	n_said = n_got = 0;
}

/* --- what must have come of it ------------------------------------------------------------------
 */

/* The frames behind the answer to CONNECT; none without a good one. */
static struct span said_frames(void)
{
	static const struct span ok = SPAN_LIT("OK ");
	struct span frames = span_of(said, n_said), line = span_split(&frames, '\n');

	bool whole = line.n < n_said && line.n < GUEST_PORT_ANSWER_BYTES;

	return whole && span_starts(line, ok) ? frames : span_of(NULL, 0);
}

/* An EXIT is heard, and all before it, unless it came too late for the host. */
static void check_exit(struct span payload, size_t n_output)
{
	if (ends == 0 || end_rc == -ETIMEDOUT || (abandoned && end_rc == -ECONNRESET))
		return;
	must(end_rc == 0 && n_heard == n_output);
	must(memcmp(payload.p, &exit_code, payload.n) == 0);
}

/* Frames up to EXIT are output or nothing; of the last one there may be a part. */
static void check_heard(void)
{
	static uint8_t want[2 * SAID_BYTES];
	struct rd r = rd_of(said_frames());
	size_t n = 0, length = 0;
	uint8_t type = 0;
	struct span payload = {0};

	while (r.err == E_OK && type != VMFRAME_EXIT) {
		type = rd_u8(&r);
		length = rd_u32le(&r);
		if (r.err || length > VMFRAME_PAYLOAD_MAX)
			break;
		payload = rd_bytes(&r, length < rd_left(&r) ? length : rd_left(&r));
		if (type == VMFRAME_STDOUT || type == VMFRAME_STDERR)
			n += put_output(
			    want + n, type == VMFRAME_STDERR ? EXEC_STDERR : EXEC_STDOUT, payload);
	}
	must(n_heard <= n && memcmp(heard, want, n_heard) == 0);
	if (r.err == E_OK && type == VMFRAME_EXIT && length == sizeof exit_code &&
	    payload.n == length)
		check_exit(payload, n);
	else
		must(ends == 0 || end_rc < 0);
}

static void check_first(const struct vmframe *f)
{
	struct json j = json_of(f->payload);

	must(f->type == (clock_only ? VMFRAME_CLOCK_SYNC : VMFRAME_START));
	if (clock_only)
		return;
	json_skip(&j);
	must(json_end(&j) == E_OK);
}

static size_t check_input(struct span bytes)
{
	must(bytes.n <= sizeof text && memcmp(bytes.p, text, bytes.n) == 0);
	return bytes.n;
}

static void check_got(void)
{
	static const struct span connect = SPAN_LIT("CONNECT 52\n");
	struct span in = span_of(got, n_got);
	size_t used, input = 0;
	bool first = true, over = false;
	struct vmframe f;

	must(span_eq(span_first(in, connect.n), span_first(connect, in.n)));
	in = span_from(in, connect.n < in.n ? connect.n : in.n);
	for (; vmframe_read(in, &f, &used) == E_OK; in = span_from(in, used)) {
		if (first)
			check_first(&f);
		else
			must(f.type == VMFRAME_STDIN || f.type == VMFRAME_RESIZE ||
			    f.type == VMFRAME_EOF);
		must(!over || f.type == VMFRAME_RESIZE);
		over |= f.type == VMFRAME_EOF;
		if (f.type == VMFRAME_STDIN)
			input += check_input(f.payload);
		first = false;
	}
	must(input <= n_typed && vmframe_read(in, &f, &used) == E_MORE);
}

/* --- steps ------------------------------------------------------------------------------------ */

static void pass_ms(uint64_t ms)
{
	kernel_now_ns += ms * NS_PER_MS;
}

static void guest_step(uint8_t what, struct rd *r)
{
	switch (what % 8) {
	case 0: say(span_str("OK 1\n")); break;
	case 1: get(); break;
	case 2: pass_ms(rd_u8(r) * UINT64_C(10)); break;
	case 3: kernel_refuses = kernel_refuses ? 0 : ECONNREFUSED; break;
	case 4:
		if (guest >= 0)
			shutdown(guest, SHUT_WR);
		break;
	case 5: hang_up(); break;
	default: say(rd_bytes(r, rd_u8(r)));
	}
}

static void host_step(uint8_t what, struct rd *r)
{
	struct vmframe_size size;

	if (!remote || (clock_only && what % 8 < 3)) /* that are for a command */
		return;
	switch (what % 8) {
	case 0: type((size_t)rd_u8(r) * 64); break;
	case 1:
		remote_end_input(remote);
		input_ended = true;
		waits = false;
		break;
	case 2:
		size = (struct vmframe_size){rd_u8(r), rd_u8(r)};
		remote_resize(remote, size);
		break;
	case 3:
		remote_pause(remote);
		paused = true;
		break;
	case 4:
		remote_abandon(remote);
		abandoned = true;
		break;
	case 5:
		remote_cancel(remote);
		remote = NULL;
		break;
	default: paused = false; remote_resume(remote);
	}
}

/* What was said and what was typed has all come; then nobody is there any more. */
static void end(void)
{
	bool runs = remote != NULL;

	pauses = paused = false;
	if (runs)
		remote_resume(remote);
	get();
	for (unsigned i = 0; i < QUIET_TURNS && waits; i++) {
		turn();
		get();
	}
	must(!waits || !remote || !said_frames().p);
	hang_up();
	for (unsigned i = 0;
	     i < LAST_TURNS && (remote || loop.timers || kernel_open_files() > OWN_FILES); i++) {
		pass_ms(100);
		turn();
		hang_up();
	}
	must(!remote && ends <= 1 && (!runs || ends == 1));
	must(!loop.timers && kernel_open_files() == OWN_FILES);
}

static void start(void)
{
	for (size_t i = 0; i < sizeof text; i++)
		text[i] = (uint8_t)(i % 251);
	must(loop_init(&loop) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct rd r = rd_of(span_of(data, n));

	if (!loop.now_ns)
		start();
	kernel_refuses = 0;
	n_said = n_got = 0;
	begin(rd_u8(&r));
	for (unsigned i = 0; i < STEPS_MAX && rd_left(&r) && r.err == E_OK; i++) {
		uint8_t what = rd_u8(&r);

		turn();
		if (what & 0x80)
			host_step(what, &r);
		else
			guest_step(what, &r);
	}
	end();
	check_heard();
	check_got();
	return 0;
}
