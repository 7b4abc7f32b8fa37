"""vsock-bridge between programs of the host and those of a virtual machine.

BRIDGE_MIB says how much goes through in the test that moves much: 1024 for the real thing.
"""

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path

from lab import AGENT, BUILD, PATIENCE_S, LabTest, descriptors, until
from vm import guest

BRIDGE = AGENT.parent / "vsock-bridge"
STREAMS = BUILD / "streams"
PORT = 7000
BULK_MIB = int(os.environ.get("BRIDGE_MIB", "64"))
CONNECTIONS = 1000
MIB = 1 << 20
AT_REST = 3  # sockets of the bridge: two that listen, and QEMU's

PERIOD, CHUNK = 65521, 256 * 1024
PATTERN = memoryview(bytes(i % PERIOD * 167 >> 3 & 0xFF for i in range(PERIOD + CHUNK)))


def send_pattern(stream, size):
    at = 0
    while at < size:
        start = at % PERIOD
        at += stream.send(PATTERN[start : start + min(CHUNK, size - at)])


def receive_pattern(stream, size):
    """Reads so many bytes, each of which must be the right one."""
    at = 0
    while at < size:
        data = stream.recv(min(CHUNK, size - at))
        if not data:
            raise AssertionError(f"the stream ended after {at} of {size} bytes")
        if data != PATTERN[at % PERIOD : at % PERIOD + len(data)]:
            raise AssertionError(f"wrong bytes behind {at}")
        at += len(data)


def receive_all(stream):
    return b"".join(iter(lambda: stream.recv(65536), b""))


def own_memory_bytes(pid):
    """Without the guest's, which is mapped, too."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss_Anon: +(\d+) kB", text, re.M)[1]) * 1024


class BridgeTest(LabTest):
    """One machine for a class; `streams` is all that runs in it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        missing = guest.missing_tool()
        if missing:
            raise unittest.SkipTest(missing)
        try:
            kernel = guest.Kernel.find(BUILD / "kernel")
            initramfs = guest.make_initramfs(
                cls.lab.dir / "initramfs", kernel, STREAMS,
                modules=("virtio_pci", "vmw_vsock_virtio_transport"),
            )  # fmt: skip
            cls.machine = guest.Machine(cls.lab.dir, BRIDGE, kernel, initramfs, nics=())
        except guest.Unavailable as error:
            raise unittest.SkipTest(str(error)) from None
        cls.lab.processes += cls.machine.processes
        cls.bridge = cls.machine.processes[0].pid
        until(cls.echoes, lambda: f"the guest: {cls.machine.console()[-3000:]}")

    @classmethod
    def echoes(cls):
        stream = cls.machine.connect(PORT)
        if stream:
            stream.close()
        return stream

    def setUp(self):
        self.addCleanup(self.check_rest)  # when the streams of the test are closed

    def check_rest(self):
        """Nothing stays of any stream, and the bridge is well: a sanitizer would have ended it."""
        until(
            lambda: descriptors(self.bridge, "socket") == AT_REST,
            lambda: f"{AT_REST} sockets; there are {descriptors(self.bridge, 'socket')}",
        )
        self.assertTrue(self.echoes())

    def ask(self, *words):
        """A stream on which the guest does as it is told."""
        stream = self.machine.connect(PORT)
        self.assertTrue(stream, "the guest refuses")
        self.addCleanup(stream.close)
        stream.sendall((" ".join(map(str, words)) + "\n").encode())
        return stream

    def said(self, *words):
        return receive_all(self.ask(*words)).decode()


class Streams(BridgeTest):
    def test_much_both_ways_at_once(self):
        size = BULK_MIB * MIB
        start = time.monotonic()
        stream = self.ask("exchange", size)
        sender = threading.Thread(
            target=lambda: (send_pattern(stream, size), stream.shutdown(socket.SHUT_WR))
        )
        sender.start()
        receive_pattern(stream, size)
        sender.join()
        self.assertEqual(receive_all(stream), b"received %d\n" % size)
        took = time.monotonic() - start
        self.note(f"{BULK_MIB} MiB each way in {took:.1f} s: {2 * BULK_MIB / took:.0f} MiB/s")

    def test_small_pieces(self):
        stream = self.ask("echo")
        for size in (1, 2, 43, 44, 45, 4051, 4052, 4053, 4095, 4096, 4097, 65535, 65536, 65537):
            send_pattern(stream, size)
            receive_pattern(stream, size)

    def test_each_side_can_end_its_half(self):
        stream = self.ask("send", 100000)
        receive_pattern(stream, 100000)
        self.assertEqual(stream.recv(1), b"")
        stream.sendall(b"still open")
        stream.shutdown(socket.SHUT_WR)
        stream = self.ask("late", 0)
        send_pattern(stream, 300000)
        stream.shutdown(socket.SHUT_WR)
        self.assertEqual(receive_all(stream), b"received 300000\n")

    def test_a_guest_that_reads_late_holds_the_host_back(self):
        stream = self.ask("held")
        stream.settimeout(0.3)
        sent = 0
        with self.assertRaises(TimeoutError):
            while sent < 64 * MIB:
                start = sent % PERIOD
                sent += stream.send(PATTERN[start : start + CHUNK])
        self.assertLess(sent, 2 * MIB)
        self.assertEqual(self.said("go"), "errno 0\n")
        stream.settimeout(PATIENCE_S)
        stream.shutdown(socket.SHUT_WR)
        self.assertEqual(receive_all(stream), b"received %d\n" % sent)

    def test_a_host_that_reads_late_holds_the_guest_back(self):
        size = 4 * MIB
        before = own_memory_bytes(self.bridge)
        stream = self.ask("send", size)
        time.sleep(1)
        self.assert_grown_less(own_memory_bytes(self.bridge) - before, 1 * MIB)
        receive_pattern(stream, size)
        self.assertEqual(stream.recv(1), b"")

    def test_a_port_where_nobody_listens(self):
        self.assertIsNone(self.machine.connect(PORT + 1))

    def test_a_paused_machine_goes_on(self):
        stream = self.ask("echo")
        stream.sendall(b"before")
        self.assertEqual(stream.recv(64), b"before")
        self.machine.qmp("stop")
        stream.sendall(b"meanwhile")
        self.machine.qmp("cont")
        self.assertEqual(stream.recv(64), b"meanwhile")

    # --- one side goes away in mid-stream ---

    def test_the_guest_goes(self):
        stream = self.ask("leave", 1 * MIB)
        with self.assertRaises((BrokenPipeError, ConnectionResetError)):
            send_pattern(stream, 64 * MIB)

    def test_the_host_program_is_killed(self):
        code = f"""import socket, time
s = socket.socket(socket.AF_UNIX)
s.connect({str(self.machine.vsock)!r})
s.sendall(b"CONNECT {PORT}\\nwatch\\n")
s.recv(1 << 16)
print("up", flush=True)
while s.recv(1 << 16): pass
"""
        program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        with program:
            program.stdout.readline()
            program.kill()
        until(lambda: self.said("watch", 1) == "errno 32\n", "EPIPE in the guest")

    def test_what_was_sent_before_the_end_arrives(self):
        stream = self.ask("late", 500)
        send_pattern(stream, 200000)
        stream.close()
        stream = self.ask("send", 200000)
        time.sleep(0.5)
        receive_pattern(stream, 200000)
        stream.close()

    # --- the guest connects to the host ---

    def listen(self, port):
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(f"{self.machine.vsock}_{port}")
        listener.listen()
        listener.settimeout(PATIENCE_S)
        return listener

    def test_a_program_that_listens_is_reached(self):
        listener = self.listen(5000)
        stream = self.ask("call", 5000, 1 * MIB)
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(PATIENCE_S)
            receive_pattern(peer, 1 * MIB)
            self.assertEqual(peer.recv(1), b"")
            send_pattern(peer, 300000)
        self.assertEqual(receive_all(stream), b"received 300000\n")

    def test_nobody_listens(self):
        self.assertEqual(self.said("call", 5001, 1), "errno 104\n")

    def test_a_socket_that_was_left_behind(self):
        self.listen(5002).close()
        self.assertEqual(self.said("call", 5002, 1), "errno 104\n")

    def test_another_machine(self):
        self.assertEqual(self.said("call", 5000, 1, 77), "errno 104\n")

    # --- many ---

    def test_many_at_once(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        before = own_memory_bytes(self.bridge)
        start = time.monotonic()
        streams = [self.ask("echo") for _ in range(CONNECTIONS)]
        for number, stream in enumerate(streams):
            stream.sendall(b"this is %d" % number)
        for number, stream in enumerate(streams):
            self.assertEqual(stream.recv(100), b"this is %d" % number)
        took = time.monotonic() - start
        grown = (own_memory_bytes(self.bridge) - before) // CONNECTIONS
        self.note(f"{CONNECTIONS} streams in {took:.1f} s, {grown} bytes for each")
        for stream in streams:
            stream.close()

    def test_one_after_the_other(self):
        start = time.monotonic()
        for _ in range(200):
            stream = self.ask("echo")
            stream.sendall(b"x")
            self.assertEqual(stream.recv(1), b"x")
            stream.close()
        self.note(f"200 streams, one after the other, in {time.monotonic() - start:.1f} s")


class End(BridgeTest):
    def check_rest(self):
        """There is none."""

    def test_it_ends_with_the_machine(self):
        bridge, qemu = self.machine.processes
        stream = self.ask("echo")
        qemu.send_signal(signal.SIGKILL)
        self.assertEqual(bridge.wait(PATIENCE_S), 0)
        self.assertEqual(stream.recv(1), b"")
        self.assertFalse(self.machine.vsock.exists())
