"""vsock-bridge against a guest and a front end that are this process: every packet by hand, and all
that no driver should do."""

import os
import resource
import select
import signal
import socket
import struct
import time
from pathlib import Path

import lab
import vhost
from lab import AGENT, Lab, LabTest, PATIENCE_S, descriptors, end, until
from vhost import Device, FrontEnd
from vhost import CREDIT_REQUEST, CREDIT_UPDATE, REQUEST, RESPONSE, RST, RW, SHUTDOWN
from vhost import GUEST_BASE, INDIRECT, NEXT, QUEUE_SIZE, WRITE

BRIDGE = AGENT.parent / "vsock-bridge"
RCV, SEND = 1, 2


def limited(files):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


def cpu_s(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


class DeviceTest(LabTest):
    """A bridge and a device for each test."""

    def start(self, *options, device=True, **more):
        lab = self.new_lab(Lab)
        self.host, self.vhost = lab.dir / "v", lab.dir / "dev"
        self.log_path = lab.dir / "log"
        with open(self.log_path, "wb") as log:
            self.bridge = lab.start(
                BRIDGE, "--vhost", self.vhost, "--host", self.host, "--log=debug", *options,
                stderr=log, **more,
            )  # fmt: skip
        if device:
            self.device = self.new_device()

    def new_device(self, **options):
        device = Device(self.vhost, **options)
        self.addCleanup(device.close)
        return device

    def log(self):
        return self.log_path.read_text()

    def assert_well(self):
        """The bridge lives, and ends as it should: a sanitizer's word would be an exit status."""
        self.assertIsNone(self.bridge.poll(), self.log())
        self.assertEqual(end(self.bridge), 0, self.log())

    def call(self, port=1024):
        stream = socket.socket(socket.AF_UNIX)
        self.addCleanup(stream.close)
        stream.settimeout(PATIENCE_S)
        stream.connect(str(self.host))
        stream.sendall(b"CONNECT %d\n" % port)
        return stream

    def connect(self, **credit):
        """A stream of the host that the guest has taken, and its packet REQUEST."""
        stream = self.call()
        asked = self.device.receive()
        self.assertEqual((asked.op, asked.dst_port), (REQUEST, 1024))
        self.device.transmit(RESPONSE, asked.src_port, 1024, **credit)
        self.assertEqual(stream.recv(64), b"OK %d\n" % asked.src_port)
        return stream, asked

    def assert_closed(self, stream):
        stream.settimeout(PATIENCE_S)
        try:
            self.assertEqual(stream.recv(1), b"")
        except ConnectionResetError:
            pass

    def receive(self, op):
        packet = self.device.receive()
        self.assertEqual(packet.op, op, packet)
        return packet


class Protocol(DeviceTest):
    """Messages of the front end."""

    def setUp(self):
        self.start()

    def test_what_is_offered(self):
        self.assertEqual(self.device.number(vhost.GET_QUEUE_NUM), 3)
        config = struct.pack("=III8x", 0, 8, 0)
        self.assertEqual(self.device.ask(vhost.GET_CONFIG, config)[12:], struct.pack("<Q", 3))
        self.assertEqual(self.device.ask(vhost.GET_CONFIG, struct.pack("=III2x", 2, 2, 0))[12:], bytes(2))
        for offset, size in ((0, 9), (8, 1), (9, 0), (1 << 31, 1 << 31), (4, 0xFFFFFFFF)):
            config = struct.pack("=III", offset, size, 0)
            self.assertEqual(self.device.ask(vhost.GET_CONFIG, config), b"", (offset, size))
        self.assert_well()

    def test_what_is_refused(self):
        number, state = struct.Struct("=Q"), struct.Struct("=II")
        addresses = struct.pack("=IIQQQQ", 9, 0, 0, 0, 0, 0)
        for request, payload in (
            (99, b""),
            (vhost.SET_FEATURES, number.pack(1 << 27)),
            (vhost.SET_FEATURES, bytes(7)),
            (vhost.SET_PROTOCOL_FEATURES, number.pack(1 << 5)),
            (vhost.SET_VRING_NUM, state.pack(3, 64)),
            (vhost.SET_VRING_NUM, state.pack(0, 64)),  # it runs
            (vhost.SET_VRING_NUM, state.pack(2, 65536)),
            (vhost.SET_VRING_BASE, state.pack(2, 65536)),
            (vhost.SET_VRING_ADDR, addresses),
            (vhost.SET_VRING_KICK, number.pack(2)),  # without an fd
            (vhost.SET_VRING_KICK, number.pack(2 | 1 << 8)),  # to be polled
            (vhost.SET_VRING_CALL, number.pack(7 | 1 << 8)),
            (vhost.SET_VRING_ERR, number.pack(2)),
            (vhost.SET_VRING_ENABLE, state.pack(4, 1)),
            (vhost.SET_CONFIG, struct.pack("=III8x", 0, 8, 0)),
            (vhost.SET_MEM_TABLE, state.pack(9, 0)),
        ):
            with self.subTest(request=request, payload=payload):
                self.assertFalse(self.device.tell(request, payload))
        self.connect()
        self.assert_well()

    def test_a_ring_that_cannot_be(self):
        queue = vhost.Queue(self.device, 2)
        state = struct.Struct("=II")
        for size, place in ((0, 0), (3, 0), (1024, vhost.MEMORY_BYTES - 16), (64, 1), (64, 1 << 40)):
            self.device.must(vhost.SET_VRING_NUM, state.pack(2, size))
            at = vhost.USER + place
            self.device.must(vhost.SET_VRING_ADDR, struct.pack("=IIQQQQ", 2, 0, at, at, at, 0))
            kick = (vhost.SET_VRING_KICK, struct.pack("=Q", 2), [queue.kick])
            self.assertFalse(self.device.tell(*kick), (size, place))
        self.connect()
        self.assert_well()

    def test_memory_that_cannot_be(self):
        memory = self.device.fds[0]
        size, top = vhost.MEMORY_BYTES, (1 << 64) - 4096
        for layout in (
            (GUEST_BASE, size + 1, vhost.USER, 0),
            (GUEST_BASE, size, vhost.USER, 4096),
            (GUEST_BASE, 0, vhost.USER, 0),
            (top, 8192, vhost.USER, 0),
            (GUEST_BASE, 8192, top, 0),
            (GUEST_BASE, 8192, vhost.USER, top),
        ):
            table = struct.pack("=IIQQQQ", 1, 0, *layout)
            self.assertFalse(self.device.tell(vhost.SET_MEM_TABLE, table, [memory]), layout)
            self.device.transmit(RW, 5)
            self.assert_closed(self.call())
        self.assert_well()

    def test_garbage_ends_the_front_end_only(self):
        self.start("--keep", device=False)
        for garbage in (
            b"\0" * 64,
            b"\xff" * 64,
            struct.pack("=III", 1, 2, 0),  # another version
            struct.pack("=III", 1, 5, 0),  # a reply
            struct.pack("=III", 1, 1, 1 << 20),
            struct.pack("=III", 99, 1, 0),  # unknown, and no answer is asked for
        ):
            front = FrontEnd(self.vhost)
            front.socket.sendall(garbage)
            self.assert_closed(front.socket)
            front.close()
        self.device = self.new_device()
        self.connect()
        self.assert_well()

    def test_messages_in_pieces(self):
        message = struct.pack("=III", vhost.GET_QUEUE_NUM, 1, 0)
        message += struct.pack("=IIIII", vhost.SET_VRING_ENABLE, 1 | vhost.NEED_REPLY, 8, 1, 1)
        for byte in message:
            self.device.socket.sendall(bytes([byte]))
        self.assertEqual(self.device.reply(vhost.GET_QUEUE_NUM), struct.pack("=Q", 3))
        self.assertEqual(self.device.reply(vhost.SET_VRING_ENABLE), bytes(8))

    def test_descriptors_do_not_pile_up(self):
        before = descriptors(self.bridge.pid)
        for _ in range(50):
            fds = [self.device.eventfd() for _ in range(3)]
            self.assertFalse(self.device.tell(vhost.SET_OWNER + 80, b"", fds))
            self.device.must(vhost.SET_VRING_CALL, struct.pack("=Q", 0), fds[:1])
            self.device.must(vhost.SET_VRING_KICK, struct.pack("=Q", 0), [self.device.rx.kick])
            self.device.map_memory(self.device.fds[0])
        self.assertEqual(descriptors(self.bridge.pid), before)
        self.connect()


class Streams(DeviceTest):
    """Packets as they should be."""

    def setUp(self):
        self.start("--buffer=64K")

    def test_a_stream_of_the_host(self):
        stream, asked = self.connect()
        self.assertEqual((asked.src_cid, asked.dst_cid, asked.type), (2, 3, 1))
        self.assertEqual((asked.buf_alloc, asked.fwd_cnt, asked.len), (65536, 0, 0))
        stream.sendall(b"to the guest")
        self.assertEqual(self.receive(RW).payload, b"to the guest")
        self.device.transmit(RW, asked.src_port, 1024, b"to the host")
        self.assertEqual(stream.recv(64), b"to the host")
        self.device.transmit(SHUTDOWN, asked.src_port, 1024, flags=SEND)
        self.assertEqual(stream.recv(1), b"")
        stream.shutdown(socket.SHUT_WR)
        self.assertEqual(self.receive(SHUTDOWN).flags, SEND | RCV)  # both halves have ended
        self.device.transmit(RST, asked.src_port, 1024)
        self.assert_well()

    def test_a_program_that_ends_its_half_first(self):
        stream, asked = self.connect()
        stream.shutdown(socket.SHUT_WR)
        self.assertEqual(self.receive(SHUTDOWN).flags, SEND)
        self.device.transmit(RW, asked.src_port, 1024, b"answer")
        self.assertEqual(stream.recv(64), b"answer")
        stream.close()
        self.assertEqual(self.receive(SHUTDOWN).flags, SEND | RCV)
        self.device.transmit(RST, asked.src_port, 1024)
        self.assert_well()

    def test_a_program_that_reads_no_more(self):
        stream, asked = self.connect()
        stream.shutdown(socket.SHUT_RD)
        self.device.transmit(RW, asked.src_port, 1024, b"x")
        self.assertEqual(self.receive(SHUTDOWN).flags, RCV)
        stream.sendall(b"but writes")
        self.assertEqual(self.receive(RW).payload, b"but writes")
        stream.close()
        self.assertEqual(self.receive(SHUTDOWN).flags, SEND | RCV)

    def test_a_stream_of_the_guest(self):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{self.host}_77")
            listener.listen()
            self.device.transmit(REQUEST, 77, 5)
            answer = self.receive(RESPONSE)
            self.assertEqual((answer.src_port, answer.dst_port), (77, 5))
            stream, _ = listener.accept()
        with stream:
            stream.sendall(b"x" * 10000)
            got = b""
            while len(got) < 10000:
                got += self.receive(RW).payload
            self.assertEqual(got, b"x" * 10000)
            self.device.transmit(SHUTDOWN, 77, 5, flags=SEND | RCV)
            self.receive(RST)
            self.assert_closed(stream)
        self.assert_well()

    def test_the_guest_refuses(self):
        stream = self.call()
        self.device.transmit(RST, self.receive(REQUEST).src_port, 1024)
        self.assert_closed(stream)

    def test_the_guest_resets(self):
        stream, asked = self.connect()
        self.device.transmit(RW, asked.src_port, 1024, b"so far", kick=False)
        self.device.transmit(RST, asked.src_port, 1024)
        self.assertEqual(stream.recv(64), b"so far")
        self.assert_closed(stream)
        self.device.transmit(RW, asked.src_port, 1024, b"late")
        self.receive(RST)

    def test_bytes_before_an_end_arrive(self):
        """The guest closes while the host program has not read; its kernel's last word is a reset."""
        stream, asked = self.connect()
        for _ in range(16):
            self.device.transmit(RW, asked.src_port, 1024, bytes(4000))
        self.device.transmit(SHUTDOWN, asked.src_port, 1024, flags=SEND | RCV)
        self.receive_until(RST)
        got = 0
        while data := stream.recv(65536):
            got += len(data)
        self.assertEqual(got, 16 * 4000)

    def receive_until(self, op):
        while True:
            packet = self.device.receive()
            if packet.op == op:
                return packet

    def test_credit_of_the_guest(self):
        stream, asked = self.connect(buf_alloc=10000)
        stream.sendall(bytes(30000))
        got = 0
        while got < 10000:
            got += self.receive(RW).len
        self.receive(CREDIT_REQUEST)
        self.device.look_round()
        self.assertTrue(self.device.quiet())
        self.device.transmit(CREDIT_UPDATE, asked.src_port, 1024, buf_alloc=10000, fwd_cnt=10000)
        while got < 20000:
            got += self.receive(RW).len
        self.receive(CREDIT_REQUEST)
        self.assertEqual(got, 20000)
        self.device.transmit(CREDIT_UPDATE, asked.src_port, 1024, buf_alloc=0, fwd_cnt=99)  # nonsense
        self.device.transmit(CREDIT_UPDATE, asked.src_port, 1024, buf_alloc=10000, fwd_cnt=20000)
        while got < 30000:
            got += self.receive(RW).len
        self.assertEqual(got, 30000)

    def test_credit_for_the_guest(self):
        stream, asked = self.connect()
        told = 0
        for _ in range(64):  # which is four times the buffer
            self.device.transmit(RW, asked.src_port, 1024, bytes(4096))
            got = 0
            while got < 4096:
                got += len(stream.recv(4096 - got))
            self.device.look_round()
            while not self.device.quiet():
                update = self.receive(CREDIT_UPDATE)
                self.assertGreater(update.fwd_cnt, told)
                told = update.fwd_cnt
        self.assertGreaterEqual(told, 64 * 4096 - 65536)
        self.device.transmit(CREDIT_REQUEST, asked.src_port, 1024)
        self.assertEqual(self.receive(CREDIT_UPDATE).fwd_cnt, 64 * 4096)

    def test_more_than_its_credit(self):
        stream, asked = self.connect()
        for _ in range(100):  # the socket takes some of it, the buffer the rest
            self.device.transmit(RW, asked.src_port, 1024, bytes(8192))
            self.device.settle()
        self.receive_until(RST)
        while stream.recv(65536):
            pass

    def test_nothing_spins(self):
        """Streams in every state in which they wait take no time."""
        half, asked = self.connect()
        self.device.transmit(SHUTDOWN, asked.src_port, 1024, flags=SEND)
        self.assertEqual(half.recv(1), b"")
        other_half, _ = self.connect()
        other_half.shutdown(socket.SHUT_WR)
        self.receive(SHUTDOWN)
        deaf, asked = self.connect()
        self.device.transmit(SHUTDOWN, asked.src_port, 1024, flags=RCV)
        deaf_program, asked = self.connect()
        deaf_program.shutdown(socket.SHUT_RD)
        self.device.transmit(RW, asked.src_port, 1024, b"x")
        self.receive(SHUTDOWN)
        without_credit, _ = self.connect(buf_alloc=0)
        without_credit.sendall(b"x")
        self.receive(CREDIT_REQUEST)
        gone_without_credit, _ = self.connect(buf_alloc=0)
        gone_without_credit.sendall(b"x")
        self.receive(CREDIT_REQUEST)
        gone_without_credit.close()
        gone, _ = self.connect()
        gone.close()
        self.receive(SHUTDOWN)
        silent, _ = self.connect()
        for _ in range(8):
            self.device.transmit(RW, asked.src_port, 1024, bytes(8192))
        self.device.settle()
        before = cpu_s(self.bridge.pid)
        time.sleep(0.5)
        self.assertLess(cpu_s(self.bridge.pid) - before, 0.1)

    def test_headers_in_pieces(self):
        """A header may be cut anywhere, and payload too."""
        stream, asked = self.connect()
        values = (3, 2, 1024, asked.src_port, 5, 1, RW, 0, 1 << 18, 0)
        data = vhost.HEADER.pack(*values) + b"piece"
        tx, memory = self.device.tx, self.device.memory
        memory[tx.slot(40) : tx.slot(40) + len(data)] = data
        for i in range(len(data)):
            following = NEXT if i + 1 < len(data) else 0
            tx.describe(10 + i, GUEST_BASE + tx.slot(40) + i, 1, following, 11 + i)
        tx.offer(10)
        self.assertEqual(stream.recv(64), b"piece")

    def test_indirect_buffers(self):
        stream, asked = self.connect()
        data = vhost.HEADER.pack(3, 2, 1024, asked.src_port, 5, 1, RW, 0, 1 << 18, 0) + b"table"
        tx, memory = self.device.tx, self.device.memory
        memory[tx.slot(40) : tx.slot(40) + len(data)] = data
        table = tx.slot(41) + 1  # which need not be aligned
        tx.describe(0, GUEST_BASE + tx.slot(40), 44, NEXT, 1, table)
        tx.describe(1, GUEST_BASE + tx.slot(40) + 44, 5, 0, 0, table)
        tx.describe(20, GUEST_BASE + table, 32, INDIRECT)
        tx.offer(20)
        self.assertEqual(stream.recv(64), b"table")

    def test_no_buffers_for_a_while(self):
        self.device.close()
        self.assertEqual(self.bridge.wait(PATIENCE_S), 0)
        self.start(device=False)
        self.device = self.new_device(buffers=0)
        streams = [self.call() for _ in range(5)]
        self.device.look_round()
        self.assertTrue(self.device.quiet())
        for i in range(5):
            self.device.give_buffer(i)
        ports = {self.receive(REQUEST).src_port for _ in streams}
        self.assertEqual(len(ports), 5)
        for port in ports:
            self.device.transmit(RESPONSE, port, 1024)
        for stream in streams:
            self.assertTrue(stream.recv(64).startswith(b"OK "))
        self.assert_well()


class Notifications(DeviceTest):
    def check(self, features):
        self.start(device=False)
        self.device = self.new_device(features=vhost.VERSION_1 | vhost.PROTOCOL_FEATURES | features)
        stream, asked = self.connect()
        self.device.rx.calls()
        self.device.rx.interrupt_at(self.device.rx.next_used)
        stream.sendall(b"one")
        self.receive(RW)
        return stream, asked.src_port

    def test_flags(self):
        stream, _ = self.check(0)
        until(self.device.rx.calls, "an interrupt")
        struct.pack_into("<H", self.device.memory, self.device.rx.avail, 1)  # NO_INTERRUPT
        stream.sendall(b"two")
        self.receive(RW)
        self.device.look_round()
        self.assertEqual(self.device.rx.calls(), 0)

    def test_event_indices(self):
        stream, _ = self.check(vhost.EVENT_IDX)
        rx = self.device.rx
        until(rx.calls, "an interrupt")
        rx.interrupt_at(rx.next_used + 1)  # the one after next
        stream.sendall(b"two")
        self.receive(RW)
        self.device.look_round()
        self.assertEqual(rx.calls(), 0)
        stream.sendall(b"three")
        self.receive(RW)
        until(rx.calls, "an interrupt")

    def test_kicks_are_asked_for(self):
        _, port = self.check(vhost.EVENT_IDX)
        tx = self.device.tx
        self.device.settle()
        event = tx.used + 4 + 8 * QUEUE_SIZE

        def wanted():
            return struct.unpack_from("<H", self.device.memory, event)[0] == tx.next_avail

        until(wanted, "the wish for a kick")
        self.device.transmit(CREDIT_UPDATE, port, 1024)
        until(wanted, "the next one")


class Hostile(DeviceTest):
    """A guest that does what it must not hurts itself alone."""

    def setUp(self):
        self.start("--keep")

    def test_packets_that_make_no_sense(self):
        stream, asked = self.connect()
        send = self.device.transmit
        for fields in ({"op": 0}, {"op": 99}, {"type": 2}, {"type": 0}, {"dst_cid": 9}):
            send(**{"op": RW, "host_port": 5, **fields})
            answer = self.receive(RST)
            self.assertEqual((answer.src_port, answer.type), (5, fields.get("type", 1)))
            self.assertEqual(answer.src_cid, fields.get("dst_cid", 2))
        for fields in ({"src_cid": 9}, {"len": 1}, {"len": 0xFFFFFFFF}, {"size": 43}, {"size": 0}):
            send(**{"op": RW, "host_port": 5, **fields})
        send(RST, 5)
        self.device.settle()
        self.assertTrue(self.device.quiet())
        stream.sendall(b"still there")
        self.assertEqual(self.receive(RW).payload, b"still there")
        self.assert_well()

    def test_operations_out_of_turn(self):
        for op in (REQUEST, RESPONSE, 99):
            stream, asked = self.connect()
            self.device.transmit(op, asked.src_port, 1024)
            self.receive(RST)
            self.assert_closed(stream)
        for op in (REQUEST, RW, SHUTDOWN, CREDIT_UPDATE):
            stream = self.call()
            self.device.transmit(op, self.receive(REQUEST).src_port, 1024)
            self.receive(RST)
            self.assert_closed(stream)
        self.assert_well()

    def test_bytes_after_the_end(self):
        stream, asked = self.connect()
        self.device.transmit(SHUTDOWN, asked.src_port, 1024, flags=SEND)
        self.device.transmit(RW, asked.src_port, 1024, b"x")
        self.receive(RST)
        self.assert_closed(stream)

    def test_a_flood_to_nowhere(self):
        """Answers wait for buffers, and packets for answers: nothing piles up in between."""
        self.device.close()
        self.device = self.new_device(buffers=0)
        for sent in range(QUEUE_SIZE // 2, 321, QUEUE_SIZE // 2):
            for _ in range(QUEUE_SIZE // 2):
                self.device.transmit(RW, 5, kick=False)
            self.device.tx.kicks()
            taken = min(sent, 256)  # before more is offered: the slots are used again
            until(lambda: self.device.tx.used_index() == taken, f"{taken} packets taken")
        self.device.look_round()
        self.assertEqual(self.device.tx.used_index(), 256)
        for i in range(32):
            self.device.give_buffer(i)
        for _ in range(320):
            self.receive(RST)
        self.device.settle()
        self.assert_well()

    def break_queue(self, queue, scribble):
        """What the guest scribbles stops this queue; a new driver gets a device that works."""
        scribble(queue)
        queue.kicks()
        if queue is self.device.rx:
            self.device.transmit(RW, 5)
        until(queue.failed, "the word that the queue is broken")
        self.device.close()
        self.device = self.new_device()
        self.connect()

    def test_scribbled_rings(self):
        base = GUEST_BASE + 0x100000

        def described(*descriptors, head=50, table=None):
            def scribble(queue):
                for i, descriptor in enumerate(descriptors):
                    queue.describe(50 + i, *descriptor)
                for i, descriptor in enumerate(table or ()):
                    queue.describe(i, *descriptor, table=0x180000)
                queue.offer(head)

            return scribble

        def leap(queue):
            struct.pack_into("<H", queue.memory, queue.avail + 2, queue.next_avail + QUEUE_SIZE + 1)

        table = GUEST_BASE + 0x180000
        cases = {
            "a head that is none": described(head=QUEUE_SIZE),
            "a next that is none": described((base, 64, NEXT, QUEUE_SIZE)),
            "a loop": described((base, 64, NEXT, 51), (base, 64, NEXT, 50)),
            "itself": described((base, 64, NEXT, 50)),
            "no memory": described((0, 64)),
            "behind the memory": described((GUEST_BASE + vhost.MEMORY_BYTES, 64)),
            "over the end": described((GUEST_BASE + vhost.MEMORY_BYTES - 4, 64)),
            "around the end": described(((1 << 64) - 4, 64)),
            "written before read": described((base, 64, NEXT | WRITE, 51), (base, 64)),
            "a table and more": described((table, 16, INDIRECT | NEXT, 51), (base, 64)),
            "a table of no size": described((table, 0, INDIRECT)),
            "a table of half a descriptor": described((table, 24, INDIRECT)),
            "a table too large": described((table, 16 * (QUEUE_SIZE + 1), INDIRECT)),
            "a table nowhere": described((0, 16, INDIRECT)),
            "a table in a table": described((table, 16, INDIRECT), table=[(table, 16, INDIRECT)]),
            "a loop in a table": described((table, 16, INDIRECT), table=[(base, 64, NEXT, 0)]),
            "more than there can be": leap,
        }
        for name, scribble in cases.items():
            with self.subTest(name):
                self.break_queue(self.device.tx, scribble)
        self.assert_well()

    def test_buffers_that_cannot_take_a_packet(self):
        base = GUEST_BASE + 0x100000
        for descriptors in (
            [(base, 44, WRITE)],
            [(base, 43, WRITE)],
            [(base, 64)],
            [(base + 8 * i, 8, WRITE | NEXT, 51 + i) for i in range(6)] + [(base, 64, WRITE)],
        ):
            self.device.close()
            self.device = self.new_device(buffers=0)
            for i, descriptor in enumerate(descriptors):
                self.device.rx.describe(50 + i, *descriptor)
            with self.subTest(descriptors):
                self.break_queue(self.device.rx, lambda queue: queue.offer(50))
        self.assert_well()


class Lives(DeviceTest):
    """Who comes and goes."""

    def test_a_machine_that_is_paused(self):
        self.start()
        stream, asked = self.connect()
        bases = self.device.rx.stop(), self.device.tx.stop()
        self.assertEqual(bases, (self.device.rx.next_used, self.device.tx.next_avail))
        stream.sendall(b"meanwhile")
        self.device.rx.begin(bases[0])
        self.device.tx.begin(bases[1])
        self.assertEqual(self.receive(RW).payload, b"meanwhile")

    def test_a_driver_that_starts_anew(self):
        self.start()
        stream, asked = self.connect()
        for queue in self.device.rx, self.device.tx:
            queue.stop()
            queue.forget()
            queue.begin()
        self.assert_closed(stream)
        for i in range(8):
            self.device.give_buffer(i)
        self.connect()
        self.assert_well()

    def test_it_ends_with_the_front_end(self):
        self.start()
        stream, _ = self.connect()
        self.device.close()
        self.assertEqual(self.bridge.wait(PATIENCE_S), 0)
        self.assert_closed(stream)
        self.assertFalse(self.host.exists() or self.vhost.exists())

    def test_it_is_kept_for_the_next(self):
        self.start("--keep")
        before = descriptors(self.bridge.pid)
        for _ in range(20):
            stream, _ = self.connect()
            self.device.close()
            self.assert_closed(stream)
            self.device = self.new_device()
        self.assertEqual(descriptors(self.bridge.pid), before)
        self.assert_well()

    def test_front_ends_stand_in_line(self):
        self.start("--keep")
        stream, _ = self.connect()
        second = FrontEnd(self.vhost)
        self.addCleanup(second.close)
        second.send(vhost.GET_QUEUE_NUM)
        third = FrontEnd(self.vhost)
        self.assert_closed(third.socket)
        third.close()
        stream.sendall(b"still here")
        self.receive(RW)
        self.device.close()
        self.assertEqual(second.reply(vhost.GET_QUEUE_NUM), struct.pack("=Q", 3))
        self.assert_closed(stream)

    def test_signals(self):
        for sig in (signal.SIGTERM, signal.SIGINT):
            self.start()
            stream, _ = self.connect()
            self.assertEqual(end(self.bridge, sig), 0)
            self.assertFalse(self.host.exists() or self.vhost.exists())
            self.assert_closed(stream)

    def test_no_driver_yet(self):
        self.start(device=False)
        until(self.host.exists, "the bridge")
        self.assert_closed(self.call())

    def test_what_is_no_connect_line(self):
        self.start()
        for line in (b"HELLO\n", b"CONNECT\n", b"CONNECT x\n", b"CONNECT -1\n", b"CONNECT 99999999999\n",
                     b"CONNECT 4294967295\n", b"\n", b"\0" * 40, b"C" * 40):  # fmt: skip
            with socket.socket(socket.AF_UNIX) as stream:
                stream.connect(str(self.host))
                stream.sendall(line)
                self.assert_closed(stream)
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(str(self.host))
            stream.sendall(b"CONN")
        stream = socket.socket(socket.AF_UNIX)
        self.addCleanup(stream.close)
        stream.connect(str(self.host))
        for byte in b"CONNECT 0001024\nand more":
            stream.sendall(bytes([byte]))
        asked = self.receive(REQUEST)
        self.device.transmit(RESPONSE, asked.src_port, 1024)
        got = b""
        while len(got) < 8:
            got += self.receive(RW).payload
        self.assertEqual(got, b"and more")

    def test_too_many_connections(self):
        self.start("--max-connections=3")
        streams = [self.connect()[0] for _ in range(3)]
        self.assert_closed(self.call())
        self.device.transmit(REQUEST, 77)
        self.receive(RST)
        streams.pop().close()
        self.receive(SHUTDOWN)

    def test_too_few_descriptors(self):
        self.start(preexec_fn=limited(24))
        streams = [self.call() for _ in range(40)]
        until(lambda: "accepting nobody" in self.log(), "the end of the descriptors")
        for stream in streams:
            stream.close()
        stream = self.call()

        def answered():
            """Those that went may have asked, too."""
            while not self.device.quiet():
                packet = self.device.receive()
                if packet.op == REQUEST:
                    self.device.transmit(RESPONSE, packet.src_port, 1024)
            return select.select([stream], [], [], 0)[0]

        until(answered, "a connection when descriptors are back")
        self.assertTrue(stream.recv(64).startswith(b"OK "))
        self.assert_well()


class CommandLine(DeviceTest):
    def run_bridge(self, *arguments):
        return lab.run(BRIDGE, *map(str, arguments))

    def test_help_and_version(self):
        done = self.run_bridge("--help")
        self.assertEqual(done.returncode, 0)
        for word in ("--vhost", "--host", "--cid", "qemu-system-x86_64", "vhost-user-vsock-pci", "CONNECT"):
            self.assertIn(word, done.stdout)
        self.assertRegex(self.run_bridge("--version").stdout, r"^vsock-bridge \d")

    def test_wrong_options(self):
        for options in (
            [], ["--vhost=/x"], ["--host=/x"], ["--vhost=/x", "--host=" + "x" * 200], ["--cid=2"],
            ["--cid=x"], ["--nonsense"], ["--cid"], ["extra"], ["--buffer=1"], ["--max-connections=0"],
            ["--vhost=/x", "--host=/y", "--log=loud"],
        ):  # fmt: skip
            done = self.run_bridge(*options)
            self.assertEqual(done.returncode, 2, options)
            self.assertRegex(done.stderr, r"^vsock-bridge: .*--help\n$")

    def test_a_path_that_cannot_be(self):
        folder = self.new_lab().dir
        (folder / "file").write_text("mine")
        for host in (folder / "file", folder / "none/sock"):
            done = self.run_bridge("--vhost", folder / "dev", "--host", host)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn("cannot listen", done.stderr)
        self.assertEqual((folder / "file").read_text(), "mine")
        self.assertFalse((folder / "dev").exists())
