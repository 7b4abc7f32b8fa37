"""Commands in sandboxes, all the way: host, agent, Firecracker's socket, vm-agent and back.

LONG=1 moves 256 MiB where 16 do otherwise.
"""

import fcntl
import hashlib
import os
import pty
import random
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
import unittest

from lab import PATIENCE_S, LabTest, memory_bytes, until
from sandboxes import EXEC, INPUT, RUN, AtRest, Ctl, Host, SandboxLab, children, refused, vmm_id
from test_arcboxctl import CTL

MIB = 1 << 20
BULK_MIB = 256 if os.environ.get("LONG") else 16
GROUP = "sleep 1000 & echo $!; exec sleep 1000"  # of two processes; tells one


def blocks(mib):
    """Bytes of every value, the same ones each time, a MiB at a time."""
    rng = random.Random(mib)
    return (rng.randbytes(MIB) for _ in range(mib))


def digest(pieces):
    whole = hashlib.sha256()
    for piece in pieces:
        whole.update(piece)
    return whole.hexdigest()


class Commands(LabTest):
    lab_class = SandboxLab

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.agent = cls.lab.agent()
        cls.addClassCleanup(cls.agent.stop)
        cls.empty = AtRest(cls.lab, cls.agent)
        cls.addClassCleanup(cls.empty.check)
        with Host(cls.agent) as host:
            for name in ("box", "other"):
                host.create(name)
                cls.addClassCleanup(cls.remove, name)
                host.ready(name)
                host.run(name, "true")  # its vm-agent has come up

    @classmethod
    def remove(cls, name):
        with Host(cls.agent) as host:
            host.remove(name, force=True)

    def setUp(self):
        self.host = Host(self.agent)
        self.addCleanup(self.idle)
        self.addCleanup(self.host.socket.close)

    def idle(self):
        with Host(self.agent) as host:
            until(lambda: host.state("box") == "ready", "the end of what the host left")

    def vmm(self, name):
        (pid,) = (pid for pid in children(self.agent.pid) if vmm_id(pid) == name)
        return pid

    # --- bytes ---

    def test_many_bytes_there_and_back(self):
        def feed():
            for block in blocks(BULK_MIB):
                self.host.ask(INPUT, block)
            self.host.ask(INPUT)

        begun = time.monotonic()
        self.host.begin(EXEC, "box", "cat")
        feeder = threading.Thread(target=feed)
        feeder.start()
        got = hashlib.sha256()
        for stream, data in self.host.outputs():
            if stream != "stdout":
                break
            got.update(data)
        feeder.join()
        self.assertEqual((stream, data), ("exit", 0))
        self.assertEqual(got.hexdigest(), digest(blocks(BULK_MIB)))
        took = time.monotonic() - begun
        self.note(f"{BULK_MIB} MiB there and back, {BULK_MIB / took:.0f} MiB/s")

    def test_many_bytes_by_arcboxctl(self):
        """From a file into a file, as `arcboxctl exec -i box cat <in >out` does."""
        here, there = self.lab.dir / "in", self.lab.dir / "out"
        with open(here, "wb") as file:
            file.writelines(blocks(BULK_MIB))
        with open(here, "rb") as data, open(there, "wb") as out:
            argv = (CTL, *Ctl(self.agent).at, "exec", "-i", "box", "cat")
            done = subprocess.run(argv, stdin=data, stdout=out, stderr=subprocess.PIPE, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        with open(there, "rb") as file:
            got = hashlib.file_digest(file, "sha256").hexdigest()
        self.assertEqual(got, digest(blocks(BULK_MIB)))

    def test_both_streams_are_kept_apart(self):
        every = bytes(range(256)) * 64
        for way in (Host, Ctl):
            with self.subTest(way=way.__name__), way(self.agent) as host:
                done = host.exec("box", "sh", "-c", "tee /dev/stderr", data=every)
                self.assertEqual(done, (0, every, every))

    # --- terminals ---

    def test_a_terminal_has_its_size(self):
        self.host.begin(EXEC, "box", "sh", "-c", "stty size; tty", tty=True, size=(132, 43))
        done = self.host.end()
        self.assertEqual((done.status, done.err), (0, b""))
        self.assertTrue(done.out.startswith(b"43 132\r\n/dev/pts/"), done)
        self.host.begin(EXEC, "box", "stty", "size", tty=True)
        self.assertEqual(self.host.end(), (0, b"24 80\r\n", b""))
        self.host.begin(EXEC, "box", "true", tty=True, size=(65536, 1))
        with refused(400, "65535"):
            self.host.end()

    def test_a_terminal_by_arcboxctl(self):
        """With the size of the one here, and ^C as a key that is the command's to act on."""
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
        script = "trap 'echo caught; exit 9' INT; stty size; while :; do sleep 0.1; done"
        argv = (CTL, *Ctl(self.agent).at, "exec", "-it", "box", "sh", "-c", script)
        with subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave) as process:
            os.close(slave)
            self.assertIn(b"50 120\r\n", read_until(master, b"120\r\n"))
            os.write(master, b"\x03")
            read_until(master, b"caught\r\n")
            self.assertEqual(process.wait(PATIENCE_S), 9)

    # --- ends ---

    def test_how_commands_end(self):
        for words, status in (
            (("sh", "-c", "exit 0"), 0),
            (("sh", "-c", "exit 255"), 255),
            (("sh", "-c", "kill -9 $$"), 128 + signal.SIGKILL),
            (("sh", "-c", "kill -15 $$"), 128 + signal.SIGTERM),
            (("/no/such/program",), 127),
            (("/etc/passwd",), 126),
        ):
            for way in (Host, Ctl):
                with self.subTest(words=words, way=way.__name__), way(self.agent) as host:
                    self.assertEqual(host.run("box", *words).status, status)
                    self.assertEqual(host.exec("box", *words).status, status)
            self.assertEqual(self.host.inspect("box").get(9, [0]), [status])

    def assert_gone(self, pid):
        """A process in the sandbox is no more."""
        gone = ("sh", "-c", f"! kill -0 {pid}")
        until(lambda: self.host.run("box", *gone).status == 0, f"the end of {pid}")

    def test_a_timeout_ends_the_whole_group(self):
        for kind in (RUN, EXEC):
            self.host.begin(kind, "box", "sh", "-c", GROUP, seconds=1)
            done = self.host.end()
            self.assertEqual(done.status, 124)
            self.assert_gone(int(done.out))

    def test_a_host_that_leaves_ends_the_whole_group(self):
        for kind in (RUN, EXEC):
            with Host(self.agent) as leaves:
                leaves.begin(kind, "box", "sh", "-c", GROUP)
                pid = int(leaves.until_output(b"\n"))
            self.idle()
            self.assert_gone(pid)

    def test_a_host_that_says_no_more_still_gets_all(self):
        """Closing its side ends the input, not the command."""
        with Host(self.agent) as other:
            other.begin(EXEC, "box", "sh", "-c", "cat; sleep 0.2; echo end")
            other.ask(INPUT, b"begin ")
            other.socket.shutdown(socket.SHUT_WR)
            self.assertEqual(other.end(), (0, b"begin end\n", b""))

    def test_a_vm_that_dies_in_mid_stream(self):
        """Whoever listens is told, what the sandbox held is given back, nobody else is touched."""
        self.host.create("dies")
        self.addCleanup(self.remove, "dies")
        self.host.ready("dies")
        with Host(self.agent) as other:
            other.begin(EXEC, "dies", "yes")
            other.until_output(b"y\ny\n")
            os.kill(self.vmm("dies"), signal.SIGKILL)
            with refused(500):  # its connection may be lost before its process is
                other.end()
        until(lambda: self.host.state("dies") == "failed", "the failure")
        self.assertIn(b"signal 9", self.host.inspect("dies")[10][0])
        until(lambda: self.lab.directories() == {"box", "other"}, "the end of its directory")
        until(lambda: len(self.lab.taps()) == 2, "the end of its device")
        with refused(500, "it is not ready but failed"):
            self.host.run("dies", "true")
        self.assertEqual(self.host.run("box", "echo", "well"), (0, b"well\n", b""))

    # --- those that do not read ---

    def assert_bounded(self, before):
        """While others are served all the same."""
        for _ in range(20):
            self.assertEqual(self.host.run("other", "echo", "well"), (0, b"well\n", b""))
            self.assert_grown_less(memory_bytes(self.agent.pid) - before, MIB)

    def test_a_host_that_does_not_read_stops_its_command_alone(self):
        before = memory_bytes(self.agent.pid)
        with Host(self.agent) as stuck:
            stuck.begin(EXEC, "box", "sh", "-c", "yes | head -c 67108864; echo done >&2")
            self.assert_bounded(before)
            self.assertEqual(self.host.state("box"), "running")
            outputs = list(stuck.outputs())
        self.assertEqual(outputs[-1], ("exit", 0))
        self.assertEqual(sum(len(data) for stream, data in outputs if stream == "stdout"), 64 * MIB)
        self.assertIn(("stderr", b"done\n"), outputs)

    def test_a_command_that_does_not_read_stops_its_host_alone(self):
        before = memory_bytes(self.agent.pid)
        with Host(self.agent) as stuck:
            stuck.begin(EXEC, "box", "sleep", "1000")
            stuck.socket.settimeout(1)
            with self.assertRaises(TimeoutError):
                for block in blocks(64):
                    stuck.ask(INPUT, block)
            self.assert_bounded(before)


def read_until(fd, wanted):
    got = b""
    while wanted not in got:
        got += os.read(fd, 4096)
    return got


if __name__ == "__main__":
    unittest.main()
