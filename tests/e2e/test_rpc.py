"""RPC on a unix socket: requests, files, and clients that are many, slow or hostile."""

import errno
import os
import socket
import struct
import threading
import time

import lab
from lab import Agent, LabTest, Rpc, RpcError, field, frame

MAX_FRAME = 64 * 1024


class RpcTest(LabTest):
    options = ()

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.agent = Agent(cls.lab, *cls.options)
        cls.descriptors = cls.agent.at_rest()

    @classmethod
    def tearDownClass(cls):
        cls.agent.stop()

    def setUp(self):
        self.addCleanup(self.check_agent)  # runs last, when all connections are closed

    def check_agent(self):
        """Whatever a client did: the agent answers, and holds nothing of it."""
        self.agent.ping()
        self.agent.settled(self.descriptors)

    def connect(self):
        rpc = self.agent.rpc()
        self.addCleanup(rpc.socket.close)
        return rpc

    def assert_error(self, rpc, code, trace=b""):
        kind, got_trace, payload = rpc.answer()
        self.assertEqual((kind, got_trace), (lab.ERROR, trace))
        error = RpcError(payload)
        self.assertEqual(error.code, code, error)
        self.assertTrue(error.text)

    def assert_usable(self, rpc):
        self.assertEqual(rpc.call(lab.PING)[1], [b"pong"])


class Requests(RpcTest):
    options = (f"--max-frame={MAX_FRAME}",)

    def test_ping(self):
        with self.agent.rpc() as rpc:
            self.assertEqual(rpc.call(lab.PING)[1], [b"pong"])
            self.assertEqual(rpc.call(lab.PING, field(1, "hällo"))[1], [b"pong: h\xc3\xa4llo"])

    def test_system_info_is_what_the_system_says(self):
        with self.agent.rpc() as rpc:
            info = rpc.call(lab.SYSTEM_INFO, b"\xffignored")
        system = os.uname()
        self.assertEqual(info[1], [system.release.encode()])
        self.assertEqual(info[4], [system.machine.encode()])
        self.assertEqual(info[7], [len(os.sched_getaffinity(0))])
        self.assertEqual(info[9], [system.nodename.encode()])
        self.assertEqual(info[5], [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")])

    def test_runtime_that_is_not_there(self):
        with self.agent.rpc() as rpc:
            status = rpc.call(lab.RUNTIME_STATUS)
            self.assertNotIn(2, status)
            names = [lab.fields(service)[1][0] for service in status[5]]
            self.assertEqual(names, [b"containerd", b"dockerd"])
            self.assertEqual(rpc.call(lab.ENSURE_RUNTIME)[4], [b"failed"])

    def test_pipelined_requests_are_answered_in_order(self):
        rpc = self.connect()
        rpc.send(b"".join(frame(lab.PING, field(1, str(i)), b"trace %d" % i) for i in range(300)))
        for i in range(300):
            kind, trace, payload = rpc.answer()
            self.assertEqual((kind, trace), (0x1001, b"trace %d" % i))
            self.assertEqual(lab.fields(payload)[1], [b"pong: %d" % i])

    def test_frame_that_comes_byte_by_byte(self):
        rpc = self.connect()
        for byte in frame(lab.PING, field(1, "slow"), b"t"):
            rpc.send(bytes([byte]))
        self.assertEqual(rpc.answer()[1], b"t")

    def test_half_closed_client_gets_its_answers(self):
        rpc = self.connect()
        rpc.send(frame(lab.PING) * 3)
        rpc.socket.shutdown(socket.SHUT_WR)
        for _ in range(3):
            self.assertEqual(rpc.answer()[0], 0x1001)
        self.assertTrue(rpc.closed())

    def test_frames_without_a_trace_field(self):
        rpc = self.connect()
        rpc.send(struct.pack(">II", 4, lab.PING))
        self.assertEqual(rpc.answer()[:2], (0x1001, b""))
        rpc.send(struct.pack(">IIB", 5, lab.SYSTEM_INFO, 0))
        self.assertEqual(rpc.answer()[:2], (0x1002, b""))

    def test_what_is_no_request_is_refused_and_the_connection_stays(self):
        rpc = self.connect()
        for kind in (0x7777, 0x0000, 0x0033, 0x1001, 0xFFFF):
            rpc.ask(kind, b"payload that nobody wants", b"id")
            self.assert_error(rpc, 400, b"id")
        self.assert_usable(rpc)

    def test_payload_that_does_not_decode_is_refused_and_the_connection_stays(self):
        rpc = self.connect()
        for payload in (b"\x0a\xff", b"\x0a\x02\xff\xfe", b"\x00"):
            rpc.ask(lab.PING, payload, b"id")
            self.assert_error(rpc, 400, b"id")
        self.assert_usable(rpc)

    def test_sandboxes_that_cannot_be_say_so(self):
        """There is no Firecracker here, and no sandbox."""
        rpc = self.connect()
        codes = {500: [0x20], 404: [0x21, 0x22, 0x23, 0x40, 0x41, 0x43], 400: [0x30, 0x31]}
        for code, kinds in codes.items():
            for kind in kinds:
                with self.subTest(kind=kind):
                    rpc.ask(kind, b"", b"id")
                    self.assert_error(rpc, code, b"id")
        for kind in (0x24, 0x42):
            self.assertEqual(rpc.call(kind), {})
        self.assert_usable(rpc)

    def test_malformed_frame_ends_the_connection(self):
        for bad in (
            struct.pack(">II", 3, lab.PING),
            struct.pack(">II", 0, 0),
            struct.pack(">IIH", 6, lab.PING, 1),
        ):
            rpc = self.connect()
            rpc.send(bad)
            self.assert_error(rpc, 400)
            self.assertTrue(rpc.closed())

    def test_frame_over_the_limit_ends_the_connection(self):
        for length in (MAX_FRAME + 1, 0xFFFFFFFF):
            rpc = self.connect()
            rpc.send(struct.pack(">IIH", length, lab.PING, 0))
            self.assert_error(rpc, 413)
            self.assertTrue(rpc.closed())


class Files(RpcTest):
    def make_file(self, size):
        data = os.urandom(size)
        path = self.lab.dir / "file"
        path.write_bytes(data)
        return path, data

    def read(self, path, offset=0, length=64 << 20):
        request = field(1, str(path)) + field(2, offset) + field(3, length)
        with self.agent.rpc() as rpc:
            answer = rpc.call(lab.READ_FILE, request)
        data = answer.get(1, [b""])[0]
        self.assertEqual(answer.get(2, [0]), [len(data)])
        return data

    def assert_errno(self, code, *range_of_file):
        with self.assertRaises(RpcError) as caught:
            self.read(*range_of_file)
        self.assertEqual(caught.exception.code, code, caught.exception)

    def test_whole_file_and_ranges(self):
        path, data = self.make_file(300_001)
        self.assertEqual(self.read(path), data)
        for offset, length in ((0, 1), (4095, 2), (8192, 4096), (300_000, 1), (1, 300_000)):
            self.assertEqual(self.read(path, offset, length), data[offset : offset + length])

    def test_range_past_the_end_is_short(self):
        path, data = self.make_file(5000)
        self.assertEqual(self.read(path, 4000, 4000), data[4000:])
        self.assertEqual(self.read(path, 5000, 10), b"")
        self.assertEqual(self.read(path, 1 << 40, 10), b"")
        self.assertEqual(self.read(path, 0, 0), b"")

    def test_64_mib(self):
        path, data = self.make_file(64 << 20)
        self.assertEqual(self.read(path), data)
        self.note(f"memory afterwards {lab.mib(lab.memory_bytes(self.agent.pid))}")

    def test_errors_are_errno_values(self):
        path, _ = self.make_file(10)
        self.assert_errno(errno.ENOENT, path.with_name("missing"))
        self.assert_errno(errno.ENOTDIR, path / "below")
        self.assert_errno(errno.EINVAL, path, 0, (64 << 20) + 1)
        with self.assertRaises(RpcError):
            self.read(self.lab.dir)

    def test_file_that_shrinks_meanwhile(self):
        for _ in range(20):
            path, data = self.make_file(2 << 20)
            shrinking = threading.Thread(target=shrink, args=(path, len(data), 100))
            shrinking.start()
            got = self.read(path)
            shrinking.join()
            self.assertEqual(got[:100], data[:100])
            self.assertLessEqual(len(got), len(data))

    def test_file_that_blocks_delays_nobody(self):
        pipe = self.lab.dir / "pipe"
        os.mkfifo(pipe)
        path, data = self.make_file(1000)
        with self.agent.rpc() as rpc:
            rpc.ask(lab.READ_FILE, field(1, str(pipe)) + field(3, 10))
            self.agent.ping()
            self.assertEqual(self.read(path), data)


def shrink(path, size, least):
    for end in range(size, least, -4096):
        os.truncate(path, end)
    os.truncate(path, least)


def percentile(values, part):
    return sorted(values)[int(len(values) * part)]


class Crowds(RpcTest):
    options = ("--log=info",)

    def note_memory(self, what):
        self.note(f"{what}: memory {lab.mib(lab.memory_bytes(self.agent.pid))}")

    def timed_pings(self, count=300):
        """Pings one by one, beside whatever else goes on."""
        times = []
        with self.agent.rpc() as rpc:
            for _ in range(count):
                start = time.monotonic()
                rpc.call(lab.PING)
                times.append((time.monotonic() - start) * 1000)
        p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
        self.note(f"ping beside it: p50 {p50:.2f} ms, p99 {p99:.2f} ms")

    def send_until_full(self, rpc, data, limit):
        """Sends without ever reading, until the agent takes no more; the bytes that it took."""
        rpc.socket.settimeout(1)
        sent = 0
        try:
            while sent < limit:
                sent += rpc.socket.send(data)
        except TimeoutError:
            pass
        return sent

    def test_500_idle_and_200_busy_connections(self):
        idle = [self.connect() for _ in range(500)]
        busy = [self.connect() for _ in range(200)]
        requests = b"".join(frame(lab.PING, field(1, "x" * 100)) for _ in range(20))
        for rpc in busy:
            rpc.send(requests)
        self.timed_pings()
        for rpc in busy:
            for _ in range(20):
                self.assertEqual(rpc.answer()[0], 0x1001)
        self.note_memory("500 idle and 200 busy connections")
        for rpc in idle:
            self.assert_usable(rpc)

    def test_client_that_never_reads(self):
        before = lab.memory_bytes(self.agent.pid)
        rpc = self.connect()
        requests = frame(lab.PING, field(1, "x" * 900)) * 100
        sent = self.send_until_full(rpc, requests, 64 << 20)
        self.assertLess(sent, 64 << 20)
        self.timed_pings()
        grown = lab.memory_bytes(self.agent.pid) - before
        self.assert_grown_less(grown, 16 << 20)
        self.note(f"took {lab.mib(sent)} from it, memory grew by {lab.mib(grown)}")

    def test_large_frames_that_never_end(self):
        before = lab.memory_bytes(self.agent.pid)
        clients = [self.connect() for _ in range(16)]
        head = struct.pack(">IIH", 16 << 20, lab.PING, 0)
        for rpc in clients:
            rpc.socket.settimeout(1)
            try:
                rpc.send(head + bytes(15 << 20))
            except OSError:
                pass  # refused, since the buffers of all are bounded
        grown = lab.memory_bytes(self.agent.pid) - before
        self.assert_grown_less(grown, 80 << 20)
        self.timed_pings(50)
        self.note(f"16 frames of 16 MiB, all unfinished: memory grew by {lab.mib(grown)}")

    def test_garbage(self):
        for seed in range(100):
            rpc = self.connect()
            rpc.send(bytes((seed * 31 + i * i * 7) & 0xFF for i in range(200)))
            rpc.socket.shutdown(socket.SHUT_WR)
            while rpc.socket.recv(4096):
                pass

    def test_clients_that_vanish(self):
        for cut in range(1, 16):
            with self.agent.rpc() as rpc:
                rpc.send(frame(lab.PING, field(1, "abc"))[:cut])
        for _ in range(50):
            with self.agent.rpc() as rpc:
                rpc.send(frame(lab.PING) * 100)

    def test_one_connection_too_many_is_told_so(self):
        agent = Agent(self.new_lab(), "--max-connections=3")
        agent.settled(self.descriptors)
        keep = [agent.rpc() for _ in range(3)]
        for rpc in keep:
            self.assert_usable(rpc)
        with agent.rpc() as refused:
            self.assert_error(refused, 503)
            self.assertTrue(refused.closed())
        for rpc in keep:
            rpc.socket.close()
        lab.until(lambda: self.gets_in(agent), "room for a connection")
        agent.stop()

    def gets_in(self, agent):
        with Rpc(agent.socket) as rpc:
            try:
                rpc.ask(lab.PING)
                return rpc.answer()[0] == 0x1001
            except OSError:  # refused, and gone before it was asked
                return False
