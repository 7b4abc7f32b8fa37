#include "codec/udpip.h"

#include "cases.h"
#include "suite.h"

static struct udpip read_packet(struct span packet, bool checked)
{
	struct guard g = guard_copy(packet);
	struct udpip out;

	ck_assert_int_eq(udpip_read(g.s, checked, &out), E_OK);
	out.payload.p = packet.p + (out.payload.p - g.s.p);
	guard_free(&g);
	return out;
}

static void refuse(struct span packet, bool checked, enum err want)
{
	struct guard g = guard_copy(packet);
	struct udpip out = {.from_port = 1, .to_port = 2};

	ck_assert_int_eq(udpip_read(g.s, checked, &out), want);
	ck_assert_uint_eq(out.from_port, 1);
	ck_assert_uint_eq(out.to_port, 2);
	guard_free(&g);
}

static struct span written(const struct udpip *packet)
{
	static uint8_t buf[2048];
	struct wr w = wr_of(buf, sizeof buf);

	udpip_write(&w, packet);
	ck_assert_int_eq(w.err, E_OK);
	return wr_span(&w);
}

static const struct udpip hello = {
    .from = {4, {192, 0, 2, 1}},
    .to = {4, {255, 255, 255, 255}},
    .from_port = 67,
    .to_port = 68,
    .payload = SPAN_LIT("hello"),
};

START_TEST(write_one)
{
	struct span packet = written(&hello);

	ck_assert(span_eq(packet,
	    unhex("45000021 00000000 4011 b8cb c0000201 ffffffff "
		  "00430044 000d f979 68656c6c6f")));
}
END_TEST

START_TEST(read_one)
{
	struct udpip got = read_packet(written(&hello), false);

	ck_assert(ip_eq(&got.from, &hello.from) && ip_eq(&got.to, &hello.to));
	ck_assert_uint_eq(got.from_port, 67);
	ck_assert_uint_eq(got.to_port, 68);
	ck_assert(span_eq_str(got.payload, "hello"));
}
END_TEST

START_TEST(every_length)
{
	uint8_t bytes[1500];

	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 7);
	for (size_t n = 0; n < sizeof bytes; n++) {
		struct udpip in = hello;
		struct udpip got;

		in.payload = span_of(bytes, n);
		got = read_packet(written(&in), false);
		ck_assert(span_eq(got.payload, in.payload));
	}
}
END_TEST

/* A sum that comes out as 0 is sent as 0xffff, since 0 says that there is none. */
START_TEST(sum_of_zero)
{
	uint8_t payload[2];
	struct udpip in = hello;
	bool met = false;

	in.payload = span_of(payload, 2);
	for (unsigned v = 0; v <= UINT16_MAX; v++) {
		struct span packet;

		payload[0] = (uint8_t)(v >> 8);
		payload[1] = (uint8_t)v;
		packet = written(&in);
		ck_assert(packet.p[26] != 0 || packet.p[27] != 0);
		met |= packet.p[26] == 0xff && packet.p[27] == 0xff;
		read_packet(packet, false);
	}
	ck_assert(met);
}
END_TEST

/* The packet with some of its bytes replaced, and the header summed anew. */
static struct span patched(size_t at, const char *hex)
{
	static uint8_t bytes[64];
	struct span packet = written(&hello), patch = unhex(hex);
	size_t n = packet.n;
	uint32_t sum = 0;

	memcpy(bytes, packet.p, n);
	memcpy(bytes + at, patch.p, patch.n);
	bytes[10] = bytes[11] = 0;
	for (size_t i = 0; i < 20; i += 2)
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~((sum & 0xffff) + (sum >> 16));
	bytes[10] = (uint8_t)(sum >> 8);
	bytes[11] = (uint8_t)sum;
	return span_of(bytes, n);
}

START_TEST(not_udp)
{
	refuse(patched(0, "65"), false, E_UNKNOWN);
	refuse(patched(0, "05"), false, E_UNKNOWN);
	refuse(patched(9, "06"), false, E_UNKNOWN);
	refuse(patched(6, "2000"), false, E_UNKNOWN); /* more fragments */
	refuse(patched(6, "0001"), false, E_UNKNOWN); /* a later one */
	read_packet(patched(6, "4000"), false);       /* don't fragment */
	read_packet(patched(1, "10"), false);
	read_packet(patched(4, "abcd"), false);
	read_packet(patched(8, "01"), false);
}
END_TEST

START_TEST(wrong_lengths)
{
	refuse(patched(0, "44"), false, E_MALFORMED);   /* an IP header of 16 bytes */
	refuse(patched(0, "4f"), false, E_MALFORMED);   /* longer than the packet */
	refuse(patched(2, "0013"), false, E_MALFORMED); /* shorter than its header */
	refuse(patched(2, "0022"), false, E_MORE);
	refuse(patched(2, "001b"), false, E_MALFORMED); /* 7 bytes of UDP */
	refuse(patched(24, "0007"), true, E_MALFORMED);
	refuse(patched(24, "000e"), true, E_MALFORMED);
	ck_assert_uint_eq(read_packet(patched(24, "0008"), true).payload.n, 0);
}
END_TEST

START_TEST(padding)
{
	uint8_t frame[46] = {0}; /* the shortest of Ethernet */
	struct span packet = written(&hello);

	memset(frame, 0xee, sizeof frame);
	memcpy(frame, packet.p, packet.n);
	ck_assert(span_eq_str(read_packet(span_of(frame, sizeof frame), false).payload, "hello"));
}
END_TEST

START_TEST(ip_options)
{
	/* A router alert (RFC 2113). */
	struct udpip got =
	    read_packet(unhex("46000025 00000000 4011 23c3 c0000201 ffffffff 94040000 "
			      "00430044 000d f979 68656c6c6f"),
		false);

	ck_assert(span_eq_str(got.payload, "hello"));
}
END_TEST

START_TEST(checksums)
{
	struct span packet = patched(26, "0000");
	uint8_t bytes[64];

	read_packet(packet, false); /* the sender did not sum */
	memcpy(bytes, written(&hello).p, packet.n);
	bytes[26] ^= 0x40;
	refuse(span_of(bytes, packet.n), false, E_MALFORMED);
	read_packet(span_of(bytes, packet.n), true);
	bytes[10] ^= 0x40;
	refuse(span_of(bytes, packet.n), true, E_MALFORMED);
}
END_TEST

static void cut_is_more(struct span cut, void *whole)
{
	if (cut.n < *(size_t *)whole)
		refuse(cut, false, E_MORE);
	else
		read_packet(cut, false);
}

START_TEST(cut_at_each_length)
{
	struct span packet = written(&hello);

	each_cut(packet, cut_is_more, &packet.n);
}
END_TEST

/* But for padding, any change of a byte shows. */
static void mutation_shows(struct span mutated, void *same)
{
	struct udpip out;

	if (udpip_read(mutated, false, &out) == E_OK)
		ck_assert(span_eq(mutated, *(struct span *)same));
}

START_TEST(mutations)
{
	static uint8_t bytes[64];
	struct span packet = written(&hello);

	memcpy(bytes, packet.p, packet.n);
	packet.p = bytes;
	each_mutation(packet, mutation_shows, &packet);
}
END_TEST

START_TEST(no_room)
{
	static uint8_t big[65536];
	uint8_t buf[64];
	struct udpip in = hello;
	struct wr w;

	for (size_t cap = 0; cap < 33; cap++) {
		w = wr_of(buf, cap);
		udpip_write(&w, &hello);
		ck_assert_int_eq(w.err, E_SPACE);
	}
	in.payload = span_of(big, 65535 - UDPIP_HEADER_BYTES + 1);
	w = wr_of(big, sizeof big);
	udpip_write(&w, &in);
	ck_assert_int_eq(w.err, E_LIMIT);
	ck_assert_uint_eq(w.n, 0);
}
END_TEST

START_TEST(largest)
{
	static uint8_t payload[65535 - UDPIP_HEADER_BYTES], packet[65535];
	struct udpip in = hello, got;
	struct wr w = wr_of(packet, sizeof packet);

	memset(payload, 0xff, sizeof payload);
	in.payload = span_of(payload, sizeof payload);
	udpip_write(&w, &in);
	ck_assert_int_eq(w.err, E_OK);
	got = read_packet(wr_span(&w), false);
	ck_assert(span_eq(got.payload, in.payload));
}
END_TEST

Suite *suite(void)
{
	const TTest *const tests[] = {write_one, read_one, every_length, sum_of_zero, not_udp,
	    wrong_lengths, padding, ip_options, checksums, cut_at_each_length, mutations, no_room,
	    largest, NULL};

	return suite_of("udpip", tests);
}
