"""vm-agent, spoken to in frames: as the first process of namespaces, and of a virtual machine.

LONG=1 moves 256 MiB where 16 do otherwise.
"""

import hashlib
import json
import os
import re
import signal
import socket
import struct
import tempfile
import threading
import time
import unittest
from contextlib import suppress
from pathlib import Path

import lab
import vm
from lab import AGENT, BUILD, PATIENCE_S, LabTest, until
from vm import guest

VM_AGENT = AGENT.parent / "vm-agent"
MIB = 1 << 20
BULK_MIB = 256 if os.environ.get("LONG") else 16
SESSIONS = 64

FOR_EVER = "while :; do sleep 0.1; done"

START, STDIN, RESIZE, EOF, CLOCK_SYNC = 1, 2, 3, 4, 5
STDOUT, STDERR, EXIT = 0x10, 0x11, 0x12
WRITE_REQ, DATA, DONE, READ_REQ, ACK, ERR = 0x20, 0x21, 0x22, 0x23, 0x30, 0x31


def frame(kind, payload=b""):
    return struct.pack("<BI", kind, len(payload)) + payload


class Session:
    """One connection to port 52 or 53."""

    def __init__(self, stream):
        self.stream = stream
        self.stream.settimeout(PATIENCE_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()

    def send(self, kind, payload=b""):
        self.stream.sendall(frame(kind, payload))

    def start(self, *words, **members):
        self.send(START, json.dumps({"cmd": words, **members}).encode())
        return self

    def resize(self, width, height):
        self.send(RESIZE, struct.pack("<HH", width, height))

    def exactly(self, size):
        data = b""
        while len(data) < size:
            piece = self.stream.recv(size - len(data))
            if not piece:
                return None
            data += piece
        return data

    def receive(self):
        """The next frame, (kind, payload), or None at the end."""
        head = self.exactly(5)
        if head is None:
            return None
        kind, size = struct.unpack("<BI", head)
        return kind, self.exactly(size)

    def frames(self):
        return iter(self.receive, None)

    def until_output(self, wanted):
        """Reads until the output has these bytes, and returns it."""
        out = b""
        while wanted not in out:
            kind, payload = self.receive()
            assert kind == STDOUT, (kind, payload)
            out += payload
        return out

    def end(self):
        """All that comes: exit code, output, errors."""
        texts = {STDOUT: b"", STDERR: b""}
        code = None
        for kind, payload in self.frames():
            if code is not None:
                raise AssertionError(f"a frame behind EXIT: {kind:#x}")
            if kind == EXIT:
                (code,) = struct.unpack("<i", payload)
            else:
                texts[kind] += payload
        return code, texts[STDOUT].decode(), texts[STDERR].decode()


class InBackground(threading.Thread):
    """Sends while the test receives."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self.work = work
        self.start()

    def run(self):
        self.work()


def pattern(mib):
    """Bytes of every value that repeat nowhere near, a MiB at a time."""
    block = b"".join(hashlib.sha256(str(i).encode()).digest() for i in range(MIB // 32))
    for i in range(mib):
        yield block[i % 31 :] + block[: i % 31]


def digest(pieces):
    whole = hashlib.sha256()
    for piece in pieces:
        whole.update(piece)
    return whole.hexdigest()


class SessionTests:
    """What is the same wherever vm-agent runs; a class that has `exec` and `files` to connect."""

    def run_command(self, *words, input=b"", **members):
        with self.exec() as session:
            session.start(*words, **members)
            if input:
                session.send(STDIN, input)
            session.send(EOF)
            return session.end()

    def sh(self, script, **members):
        return self.run_command("sh", "-c", script, **members)

    def test_output_errors_and_code(self):
        self.assertEqual(self.sh("echo out; echo err >&2; exit 7"), (7, "out\n", "err\n"))
        self.assertEqual(self.run_command("cat", input=b"in"), (0, "in", ""))

    def test_signals_are_codes(self):
        self.assertEqual(self.sh("kill -9 $$")[0], 128 + signal.SIGKILL)
        self.assertEqual(self.sh("kill -15 $$")[0], 128 + signal.SIGTERM)

    def test_what_cannot_be_started(self):
        code, out, errors = self.run_command("no-such-program")
        self.assertEqual((code, out), (127, ""))
        self.assertEqual(errors, "cannot run no-such-program: No such file or directory\n")
        self.assertEqual(self.run_command("/")[0], 126)
        self.assertEqual(self.run_command("ls", working_dir="/no/such")[0], 126)
        self.assertEqual(self.run_command("ls", user="no-such-user")[0], 126)

    def test_environment_user_and_directory(self):
        self.assertEqual(self.sh("echo $A", env={"A": "ü b"}), (0, "ü b\n", ""))
        self.assertEqual(self.sh("pwd", working_dir="/proc"), (0, "/proc\n", ""))
        self.assertEqual(self.sh("id -u; id -g", user="4711:4712"), (0, "4711\n4712\n", ""))
        code, out, _ = self.sh("echo $HOME; echo ${PATH%%:*}", user="4711")
        self.assertEqual((code, out), (0, "/\n/usr/local/sbin\n"))

    def test_a_terminal_and_its_size(self):
        with self.exec() as session:
            script = f"trap 'stty size; exit 3' WINCH; stty size; echo $TERM; {FOR_EVER}"
            session.start("sh", "-c", script, tty=True, tty_width=100, tty_height=30)
            self.assertEqual(session.until_output(b"xterm\r\n"), b"30 100\r\nxterm\r\n")
            session.resize(132, 50)
            self.assertEqual(session.end(), (3, "50 132\r\n", ""))

    def test_a_timeout_ends_the_whole_group(self):
        code, out, _ = self.sh("sleep 1000 & echo $!; sleep 1000", timeout_seconds=2)
        self.assertEqual(code, 124)
        until(lambda: self.sh(f"kill -0 {out.strip()}")[0] == 1, "the end of the group")

    def test_a_host_that_leaves_ends_the_group(self):
        with self.exec() as session:
            session.start("sh", "-c", "sleep 1000 & echo $!; sleep 1000")
            pid = session.until_output(b"\n").decode().strip()
        until(lambda: self.sh(f"kill -0 {pid}")[0] == 1, "the end of the group")

    def test_a_host_that_sends_no_more_still_gets_all(self):
        with self.exec() as session:
            session.start("sh", "-c", "cat; sleep 0.2; echo end")
            session.send(STDIN, b"begin ")
            session.stream.shutdown(socket.SHUT_WR)
            self.assertEqual(session.end(), (0, "begin end\n", ""))

    def test_what_is_left_behind_does_not_hold_up_the_end(self):
        code, out, _ = self.sh("sleep 1000 & echo $!")
        self.assertEqual(code, 0)
        self.assertEqual(self.sh(f"kill {out}")[0], 0)  # it went on

    def move_through_cat(self, mib):
        with self.exec() as session:
            session.start("cat")

            def feed():
                for piece in pattern(mib):
                    session.send(STDIN, piece)
                session.send(EOF)

            started = time.monotonic()
            InBackground(feed)
            got = hashlib.sha256()
            for kind, payload in session.frames():
                if kind != STDOUT:
                    break
                got.update(payload)
            self.assertEqual((kind, payload), (EXIT, bytes(4)))
            self.assertEqual(got.hexdigest(), digest(pattern(mib)))
            self.note(f"{mib} MiB to cat and back, {mib / (time.monotonic() - started):.0f} MiB/s")

    def test_a_file_there_and_back(self):
        path = f"{self.place}/a/b/file"
        with self.files() as session:
            session.send(WRITE_REQ, json.dumps({"path": path, "mode": 0o750}).encode())
            for piece in pattern(self.file_mib):
                session.send(DATA, piece)
            session.send(DONE)
            self.assertEqual(session.receive(), (ACK, b""))
            self.assertIsNone(session.receive())
        code, out, _ = self.sh(f"stat -c '%a %s' {path}; ls -A {self.place}/a/b")
        self.assertEqual((code, out), (0, f"750 {self.file_mib * MIB}\nfile\n"))
        with self.files() as session:
            session.send(READ_REQ, json.dumps({"path": path}).encode())
            *data, last = session.frames()
        self.assertEqual(last, (DONE, b""))
        self.assertEqual({kind for kind, _ in data}, {DATA})
        self.assertEqual(digest(piece for _, piece in data), digest(pattern(self.file_mib)))

    def test_half_a_file_is_none(self):
        with self.files() as session:
            session.send(WRITE_REQ, json.dumps({"path": f"{self.place}/half/file"}).encode())
            session.send(DATA, b"half of it")
        until(lambda: self.sh(f"ls -A {self.place}/half")[1:] == ("", ""), "an empty directory")

    def test_files_that_cannot_be_had(self):
        for kind, path, why in (
            (READ_REQ, "/no/such", "cannot read /no/such: No such file or directory"),
            (READ_REQ, "/proc", "cannot read /proc: Is a directory"),
            (WRITE_REQ, "/proc", "cannot write /proc: "),
            (WRITE_REQ, "relative", "request is not understood: "),
        ):
            with self.subTest(path=path), self.files() as session:
                session.send(kind, json.dumps({"path": path}).encode())
                session.send(DATA, bytes(MIB))
                session.send(DONE)
                kind, text = session.receive()
                self.assertEqual(kind, ERR)
                self.assertTrue(text.decode().startswith(why), text)


# --- in namespaces ---


class Namespaces:
    """PID 1 of namespaces, on unix sockets."""

    def __init__(self, home):
        self.dir = Path(tempfile.mkdtemp(prefix="vm-agent", dir=home.dir))
        self.exec_path, self.files_path = self.dir / "exec", self.dir / "files"
        namespaces = ("--fork", "--pid", "--mount", "--mount-proc", "--net", "--uts", "--ipc")
        self.outer = home.start(
            "unshare", *namespaces, "--kill-child", VM_AGENT,
            f"--exec=unix:{self.exec_path}", "--files", f"unix:{self.files_path}", "ro", "quiet=1",
        )  # fmt: skip
        until(lambda: self.listens() or self.outer.poll() is not None, "vm-agent's start")
        if self.outer.poll() is not None:
            raise unittest.SkipTest("no namespaces can be made: they need root")
        children = Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children")
        self.pid = int(children.read_text().split()[0])

    def end(self):
        """Not by a signal to the outer one, which takes none."""
        os.kill(self.pid, signal.SIGTERM)
        self.outer.wait(PATIENCE_S)

    def listens(self):
        return lab.listens(self.exec_path) and lab.listens(self.files_path)

    def exec(self):
        return connect(self.exec_path)

    def files(self):
        return connect(self.files_path)


def connect(path):
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(str(path))
    return Session(stream)


class InNamespaces(SessionTests, LabTest):
    file_mib = BULK_MIB

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.place = cls.lab.dir
        cls.server = Namespaces(cls.lab)
        cls.addClassCleanup(cls.server.end)
        cls.pid = cls.server.pid
        cls.exec, cls.files = cls.server.exec, cls.server.files
        cls.at_rest = lab.descriptors(cls.pid)

    def setUp(self):
        """What a test opens is closed when it ends."""
        self.addCleanup(until, self.is_at_rest, "closed descriptors")

    def is_at_rest(self):
        return lab.descriptors(self.pid) <= self.at_rest

    def test_many_bytes(self):
        self.move_through_cat(BULK_MIB)

    def test_it_is_small(self):
        self.note(f"{VM_AGENT.stat().st_size} bytes, {lab.memory_bytes(self.pid)} resident")
        self.assert_grown_less(lab.memory_bytes(self.pid), 500 * 1024)

    def test_a_host_that_does_not_read_stops_its_command_alone(self):
        before = lab.memory_bytes(self.pid)
        with self.exec() as stuck:
            stuck.start("yes", "x" * 1000)
            time.sleep(1)
            self.assert_grown_less(lab.memory_bytes(self.pid) - before, MIB)
            self.assertEqual(self.sh("echo fine"), (0, "fine\n", ""))
            stuck.until_output(b"x\n")

    def test_a_command_that_does_not_read_stops_its_host_alone(self):
        before = lab.memory_bytes(self.pid)
        with self.exec() as stuck:
            stuck.start("sleep", "1000")
            stuck.stream.settimeout(1)
            with self.assertRaises(TimeoutError):
                for piece in pattern(16):
                    stuck.send(STDIN, piece)
            self.assert_grown_less(lab.memory_bytes(self.pid) - before, MIB)
            self.assertEqual(self.sh("echo fine"), (0, "fine\n", ""))

    def test_as_many_sessions_as_may_be(self):
        before = lab.memory_bytes(self.pid)
        sessions = [self.exec().start("cat") for _ in range(SESSIONS)]
        with self.exec() as refused:
            why = "cannot start the command: too many sessions are open\n"
            self.assertEqual(refused.end(), (126, "", why))
        for number, session in enumerate(sessions):
            session.send(STDIN, str(number).encode())
        self.assert_grown_less(lab.memory_bytes(self.pid) - before, MIB)
        for number, session in enumerate(sessions):
            session.send(EOF)
            with session:
                self.assertEqual(session.end(), (0, str(number), ""))
        self.assertEqual(self.sh("echo again"), (0, "again\n", ""))

    def test_many_files_at_once(self):
        sessions = [self.files() for _ in range(8)]
        for number, session in enumerate(sessions):
            session.send(WRITE_REQ, json.dumps({"path": f"{self.place}/many/{number}"}).encode())
        for number, session in enumerate(sessions):
            session.send(DATA, str(number).encode())
            session.send(DONE)
        for number, session in enumerate(sessions):
            with session:
                self.assertEqual(session.receive(), (ACK, b""))
            self.assertEqual((self.place / f"many/{number}").read_text(), str(number))

    def test_what_is_no_frame_ends_the_connection(self):
        for connect in (self.exec, self.files):
            with connect() as session:
                session.stream.sendall(b"GET / HTTP/1.1\r\nHost: sandbox\r\n\r\n")
                with suppress(ConnectionResetError):
                    self.assertIsNone(session.receive())

    def test_the_clock_of_the_machine_is_not_ours(self):
        with self.exec() as session:
            session.send(CLOCK_SYNC, struct.pack("<qI", 0, 0))
            self.assertEqual(session.end(), (-1, "", ""))
        self.assertGreater(time.time(), 1_000_000_000)

    def test_loopback_is_up(self):
        code, out, _ = self.sh("cat /proc/net/fib_trie")
        self.assertEqual(code, 0)
        self.assertIn("127.0.0.1", out)

    def test_orphans_are_buried(self):
        self.sh("(sleep 0.2 &) ; (sleep 0.1 &)")
        zombies = "cat /proc/[0-9]*/stat | grep -c ') Z '"
        until(lambda: self.sh(zombies)[1] == "0\n", "no zombies")


class EndsInNamespaces(LabTest):
    """How it ends: one for each test."""

    def setUp(self):
        self.server = Namespaces(self.lab)

    def check_end(self, sig):
        """Commands have time to end."""
        with self.server.exec() as session:
            session.start("sh", "-c", f"trap 'echo bye; exit 5' TERM; echo on; {FOR_EVER}")
            session.until_output(b"on\n")
            os.kill(self.server.pid, sig)
            self.assertEqual(session.end()[:2], (5, "bye\n"))
        self.server.outer.wait(PATIENCE_S)
        self.assertFalse(Path(f"/proc/{self.server.pid}").exists())

    def test_sigterm(self):
        self.check_end(signal.SIGTERM)

    def test_ctrl_alt_del(self):
        self.check_end(signal.SIGINT)

    def test_what_does_not_end_is_killed(self):
        with self.server.exec() as session:
            session.start("sh", "-c", f"trap '' TERM; echo on; {FOR_EVER}")
            session.until_output(b"on\n")
            os.kill(self.server.pid, signal.SIGTERM)
            self.assertEqual(session.end()[0], 128 + signal.SIGKILL)
        self.server.outer.wait(PATIENCE_S)


class Options(unittest.TestCase):
    """Of a vm-agent that is not PID 1."""

    def test_help_and_version(self):
        self.assertIn("--exec ADDR", lab.output(VM_AGENT, "--help"))
        self.assertRegex(lab.output(VM_AGENT, "--version"), r"^vm-agent \d+\.\d+\.\d+\n$")

    def test_wrong_options(self):
        for options in "--exec", "--exec=nowhere", "--files tcp:x", "word", "--exec=":
            with self.subTest(options=options):
                done = lab.run(VM_AGENT, *options.split())
                self.assertEqual(done.returncode, 2)
                self.assertIn("wrong option", done.stderr)


# --- in a virtual machine ---


class InMachine(SessionTests, LabTest):
    """The first process of a machine, as in a sandbox, on vsock."""

    file_mib = BULK_MIB
    place = "/place"
    PROGRAMS = ("cat", "echo", "id", "kill", "ls", "pwd", "sh", "sleep", "stat", "stty", "date")
    IP = "ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:off"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        vm.skip_without_machines()
        if vm.is_sanitized():
            raise unittest.SkipTest("only what ships is static, as a sandbox needs it")
        cls.machine = cls.boot()

    @classmethod
    def boot(cls):
        folder = Path(tempfile.mkdtemp(prefix="vm", dir=cls.lab.dir))
        links = [f"--symlink=busybox:/bin/{name}" for name in cls.PROGRAMS]
        files = (f"--file={VM_AGENT}:/sbin/vm-agent:755", "--file=/bin/busybox:/bin/busybox:755")
        try:
            kernel = guest.Kernel.find(BUILD / "kernel")
            initramfs = guest.make_initramfs(
                folder / "initramfs", kernel, vm.PROBE, *files, *links,
                "--file=/dev/null:/etc/resolv.conf:644", modules=vm.Vm.MODULES,
            )  # fmt: skip
            machine = guest.Machine(
                folder, vm.BRIDGE, kernel, initramfs,
                cmdline=f"probe.sandbox {cls.IP} --exec nonsense", memory_mib=256 + 4 * BULK_MIB,
            )  # fmt: skip
        except guest.Unavailable as error:
            raise unittest.SkipTest(str(error)) from None
        cls.lab.processes += machine.processes
        until(lambda: cls.listens(machine) or not machine.is_on(), "vm-agent's ports")
        return machine

    @staticmethod
    def listens(machine):
        stream = machine.connect(53)
        return stream and stream.close() is None

    def exec(self):
        return Session(self.machine.connect(52))

    def files(self):
        return Session(self.machine.connect(53))

    def test_many_bytes(self):
        self.move_through_cat(BULK_MIB)

    def test_it_is_the_first_process(self):
        self.assertEqual(self.sh("cat /proc/1/comm; echo $PPID")[1], "vm-agent\n1\n")

    def test_views_of_the_kernel_are_mounted(self):
        lines = self.run_command("cat", "/proc/mounts")[1].splitlines()
        mounts = dict(line.split()[1:3] for line in lines)
        wanted = {"/proc": "proc", "/sys": "sysfs", "/dev": "devtmpfs", "/dev/pts": "devpts"}
        self.assertEqual(wanted.items() & mounts.items(), wanted.items())

    def test_the_gateway_is_the_resolver(self):
        self.assertEqual(self.run_command("cat", "/etc/resolv.conf")[1], "nameserver 10.0.2.2\n")

    def test_loopback_is_up(self):
        flags = int(self.run_command("cat", "/sys/class/net/lo/flags")[1], 16)
        self.assertTrue(flags & 1)

    def test_the_host_sets_the_clock(self):
        with self.exec() as session:
            session.send(CLOCK_SYNC, struct.pack("<qI", 2_000_000_000, 0))
            self.assertEqual(session.end(), (0, "", ""))
        self.assertRegex(self.run_command("date", "+%s")[1], r"^20000000\d\d\n")

    def test_it_is_small(self):
        rollup = self.run_command("cat", "/proc/1/smaps_rollup")[1]
        kib = int(re.search(r"^Pss: +(\d+) kB", rollup, re.M)[1])
        self.note(f"{kib} KiB resident")
        self.assertLess(kib, 500)

    def test_ctrl_alt_del_ends_it(self):
        machine = self.boot()
        keys = [{"type": "qcode", "data": key} for key in ("ctrl", "alt", "delete")]
        machine.qmp("send-key", keys=keys)
        machine.wait_off(PATIENCE_S)
        self.assertIn("powering off clean", machine.console())


if __name__ == "__main__":
    unittest.main()
