#include "session/channel.h"

#include "fault.h"
#include "suite.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { IN_BYTES = 4096, RECORD_BYTES = 1 << 16 };

static struct loop loop;
static struct channel channel;
static int peer;

/* What was handed on: of each frame its type, then its bytes. */
static struct {
	char text[RECORD_BYTES];
	struct wr w;
	unsigned frames, eofs, drains, closes;
	int rc;
	size_t appetite; /* bytes taken before it pauses; SIZE_MAX: no end of it */
	bool whole;      /* frames are waited for */
	ssize_t error;   /* to be returned */
} seen;

static ssize_t on_frame(struct channel *c, uint8_t type, struct span payload, size_t left)
{
	size_t n = payload.n < seen.appetite ? payload.n : seen.appetite;

	ck_assert_uint_eq(c->type, type);
	ck_assert_uint_eq(payload.n + left, c->left);
	ck_assert_uint_le(c->left, c->length);
	if (seen.error)
		return seen.error;
	if (seen.whole && left)
		return 0;
	if (c->left == c->length)
		wr_u8(&seen.w, type);
	wr_bytes(&seen.w, span_first(payload, n));
	seen.frames += left == 0 && n == payload.n;
	if (seen.appetite != SIZE_MAX)
		seen.appetite -= n;
	if (seen.appetite == 0)
		channel_pause(c);
	return (ssize_t)n;
}

static void on_eof(struct channel *c)
{
	(void)c;
	seen.eofs++;
}

static void on_drained(struct channel *c)
{
	(void)c;
	seen.drains++;
}

static void on_closed(struct channel *c, int rc)
{
	ck_assert_ptr_eq(c, &channel);
	seen.closes++;
	seen.rc = rc;
}

static const struct channel_ops ops = {on_frame, on_eof, on_drained, on_closed};

static void start(void)
{
	int pair[2];

	memset(&seen, 0, sizeof seen);
	seen.w = wr_of(seen.text, sizeof seen.text);
	seen.appetite = SIZE_MAX;
	ck_assert_int_eq(loop_init(&loop), 0);
	ck_assert_int_eq(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	peer = pair[0];
	ck_assert_int_eq(channel_init(&channel, &loop, pair[1], "test", IN_BYTES, &ops), 0);
}

static void turn(unsigned n)
{
	while (n--)
		ck_assert_int_eq(loop_turn(&loop, 0), 0);
}

static void end(void)
{
	conn_close(&channel.conn, 0);
	turn(1);
	ck_assert_uint_eq(seen.closes, 1);
	close(peer);
	loop_done(&loop);
}

static void put(struct span s)
{
	ck_assert_int_eq((int)send(peer, s.p, s.n, MSG_NOSIGNAL), (int)s.n);
}

static void check_seen(const char *text, unsigned frames)
{
	ck_assert_uint_eq(seen.frames, frames);
	ck_assert(span_eq_str(wr_span(&seen.w), text));
}

static const struct span frames = SPAN_LIT("a\3\0\0\0one"
					   "b\0\0\0\0"
					   "c\5\0\0\0three");
static const char handed_on[] = "aonebcthree";

START_TEST(hands_frames_on)
{
	start();
	put(frames);
	turn(2);
	check_seen(handed_on, 3);
	end();
}
END_TEST

START_TEST(hands_frames_on_byte_by_byte)
{
	for (int whole = 0; whole < 2; whole++) {
		start();
		seen.whole = whole;
		for (size_t i = 0; i < frames.n; i++) {
			put(span_first(span_from(frames, i), 1));
			turn(1);
		}
		turn(1);
		check_seen(handed_on, 3);
		end();
	}
}
END_TEST

START_TEST(rests_while_it_is_paused)
{
	for (size_t appetite = 1; appetite < 9; appetite++) {
		start();
		seen.appetite = appetite;
		put(frames);
		shutdown(peer, SHUT_WR);
		for (unsigned i = 0; i < 20 && !seen.eofs; i++) {
			turn(2);
			if (seen.appetite == 0) {
				seen.appetite = appetite;
				channel_resume(&channel);
			}
		}
		check_seen(handed_on, 3);
		ck_assert_uint_eq(seen.eofs, 1);
		end();
	}
}
END_TEST

START_TEST(tells_of_the_end_once)
{
	start();
	put(span_of("a\3\0\0\0on", 7)); /* cut */
	shutdown(peer, SHUT_WR);
	turn(3);
	channel_resume(&channel);
	turn(3);
	check_seen("aon", 0);
	ck_assert_uint_eq(seen.eofs, 1);
	ck_assert_uint_eq(seen.closes, 0); /* it can still send */
	end();
}
END_TEST

START_TEST(a_frame_that_is_waited_for_fills_the_queue_only)
{
	static uint8_t zeros[IN_BYTES];
	uint8_t head[VMFRAME_HEAD_BYTES];
	struct wr w = wr_of(head, sizeof head);
	ssize_t sent = 0, n;

	start();
	seen.whole = true;
	vmframe_head_write(&w, 'x', VMFRAME_PAYLOAD_MAX);
	put(wr_span(&w));
	for (int i = 0; i < 1000; i++) {
		n = send(peer, zeros, sizeof zeros, MSG_NOSIGNAL);
		sent += n > 0 ? n : 0;
		turn(1);
	}
	ck_assert_int_lt(sent, 1 << 20);
	end();
}
END_TEST

START_TEST(hangs_up_on_frames_that_are_too_large)
{
	start();
	put(span_of("x\0\0\0\1", 5)); /* 16 MiB are the limit */
	turn(2);
	ck_assert_uint_eq(seen.closes, 0);
	end();
	start();
	put(span_of("x\1\0\0\1", 5));
	turn(2);
	ck_assert_uint_eq(seen.closes, 1);
	ck_assert_int_eq(seen.rc, -EMSGSIZE);
	close(peer);
	loop_done(&loop);
}
END_TEST

START_TEST(closes_when_the_owner_says_so)
{
	start();
	seen.error = -EPROTO;
	put(frames);
	turn(2);
	ck_assert_uint_eq(seen.closes, 1);
	ck_assert_int_eq(seen.rc, -EPROTO);
	close(peer);
	loop_done(&loop);
}
END_TEST

START_TEST(sends_frames)
{
	static uint8_t large[CHANNEL_PIECE_BYTES], buf[1 << 17];
	size_t n = 0;

	start();
	ck_assert_int_eq(channel_send(&channel, VMFRAME_STDOUT, span_str("out")), 0);
	ck_assert(!channel_is_behind(&channel));
	ck_assert_int_eq(channel_send(&channel, VMFRAME_ACK, span_of(NULL, 0)), 0);
	ck_assert_int_eq((int)read(peer, buf, sizeof buf), 13);
	ck_assert_mem_eq(buf, "\x10\3\0\0\0out\x30\0\0\0\0", 13);
	while (!channel_is_behind(&channel))
		ck_assert_int_eq(
		    channel_send(&channel, VMFRAME_DATA, span_of(large, sizeof large)), 0);
	turn(1);
	ck_assert_uint_eq(seen.drains, 0);
	for (unsigned i = 0; seen.drains == 0; i++) {
		ssize_t got = read(peer, buf, sizeof buf);

		ck_assert_uint_lt(i, 1000);
		ck_assert_int_gt(got, 0);
		n += (size_t)got;
		turn(1);
	}
	ck_assert(!channel_is_behind(&channel));
	ck_assert_uint_gt(n, 0);
	ck_assert_int_eq(channel_send(&channel, VMFRAME_DONE, span_of(NULL, 0)), 0);
	end();
	ck_assert_int_eq(channel_send(&channel, VMFRAME_DONE, span_of(NULL, 0)), -ENOBUFS);
}
END_TEST

START_TEST(a_failing_call_is_no_success)
{
	int pair[2];

	start();
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	end();
	fault_arm("epoll_ctl", 1, ENOMEM, false);
	ck_assert_int_eq(channel_init(&channel, &loop, pair[1], "test", IN_BYTES, &ops), -ENOMEM);
	ck_assert(fault_disarm());
	close(pair[0]);
	close(pair[1]); /* still the caller's */
	start();
	fault_arm("malloc", 1, ENOMEM, true);
	ck_assert_int_eq(channel_send(&channel, VMFRAME_DONE, span_str("x")), -ENOBUFS);
	ck_assert(fault_disarm());
	end();
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {
	    hands_frames_on,
	    hands_frames_on_byte_by_byte,
	    rests_while_it_is_paused,
	    tells_of_the_end_once,
	    a_frame_that_is_waited_for_fills_the_queue_only,
	    hangs_up_on_frames_that_are_too_large,
	    closes_when_the_owner_says_so,
	    sends_frames,
	    a_failing_call_is_no_success,
	    NULL,
	};

	return suite_of("channel", tests);
}
