"""arcboxctl's commands for sandboxes against servers of the test's: what they ask, how they end."""

import fcntl
import hashlib
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
import unittest

import lab
from lab import Agent, field, fields, frame
from test_arcboxctl import CTL, OK, REFUSED, USAGE, BROKEN, CtlTest, ctl, error

NOT_RUN = 125
LONG_S = 1000000 + os.getpid()  # of a sleep that is known by it
CREATE, STOP, REMOVE, INSPECT, LIST = range(0x20, 0x25)
RUN, EXEC, EVENTS, INPUT = range(0x30, 0x34)
CHECKPOINT, RESTORE, SNAPSHOTS, RM_SNAPSHOT = range(0x40, 0x44)
OUTPUTS = {RUN: 0x1035, EXEC: 0x1036}


def label(key, value):
    return field(1, key) + field(2, value)


def said(stream, data=b"", code=0, done=False):
    out = field(1, stream) + (field(2, data) if data else b"")
    out += field(3, code & (1 << 64) - 1) if code else b""
    return out + (field(4, 1) if done else b"")


class Asking(CtlTest):
    """Requests with one answer."""

    def request_of(self, *argv, answer=b""):
        done = self.ask(lambda s: s.answer(answer), *argv)
        self.assert_ends(done, OK)
        kind, payload = self.server.requests[0]
        return kind, fields(payload), done.stdout

    def test_create(self):
        kind, asked, out = self.request_of(
            *("create", "--id", "box", "-l", "team=a", "--label=x=y=z", "-c2", "-m", "256M"),
            *("--kernel=/k", "--rootfs=/r", "--boot-args=quiet now", "--network=none"),
            *("--ttl=90s", "-e", "A=b", "-w", "/root", "-u", "me", "sh", "-c", "exit 3"),
            answer=field(1, "box") + field(2, "172.20.0.2") + field(3, "starting"),
        )
        self.assertEqual(kind, CREATE)
        self.assertEqual(
            asked,
            {
                1: [b"box"],
                2: [label("team", "a"), label("x", "y=z")],
                3: [b"/k"],
                4: [b"/r"],
                5: [b"quiet now"],
                6: [field(1, 2) + field(2, 256)],
                8: [b"sh", b"-c", b"exit 3"],
                9: [label("A", "b")],
                10: [b"/root"],
                11: [b"me"],
                13: [field(1, "none")],
                14: [90],
            },
        )
        self.assertEqual(out, "box\n")

    def test_create_says_nothing_that_was_not_given(self):
        kind, asked, _ = self.request_of("create", answer=field(1, "box"))
        self.assertEqual((kind, asked), (CREATE, {6: [b""]}))

    def test_create_waits(self):
        states = iter(("starting", "starting", "ready"))

        def play(s):
            s.answer(field(1, "box"))
            for state in states:
                s.answer(field(1, "box") + field(2, state))

        self.assert_ends(self.ask(play, "create", "--wait"), OK)
        self.assertEqual([kind for kind, _ in self.server.requests], [CREATE] + 3 * [INSPECT])

        def play_failure(s):
            s.answer(field(1, "box"))
            s.answer(field(2, "failed") + field(10, "no kernel"))

        done = self.ask(play_failure, "restore", "snap", "--wait")
        self.assert_ends(done, REFUSED, "failed", "no kernel")
        self.assertEqual(done.stdout, "box\n")

    def test_ps(self):
        row = field(1, "box") + field(2, "ready") + field(3, label("team", "a"))
        row += field(4, "172.20.0.2") + field(5, 1700000000)
        kind, asked, out = self.request_of(
            *("ps", "-s", "ready", "-l", "team=a"), answer=field(1, row)
        )
        self.assertEqual((kind, asked), (LIST, {1: [b"ready"], 2: [label("team", "a")]}))
        head, line = out.splitlines()
        self.assertEqual(head.split(), ["ID", "STATE", "ADDRESS", "CREATED", "LABELS"])
        self.assertEqual(
            line.split(), ["box", "ready", "172.20.0.2", "2023-11-14T22:13:20.000Z", "team=a"]
        )
        _, _, out = self.request_of("ps", "--json", answer=field(1, row))
        self.assertEqual(json.loads(out)["sandboxes"][0]["created_at"], 1700000000)

    def test_inspect(self):
        info = field(1, "box") + field(2, "failed") + field(4, field(1, 2) + field(2, 512))
        info += field(5, field(1, "172.20.0.2")) + field(10, "its \x1b kernel panicked")
        kind, asked, out = self.request_of("inspect", "box", answer=info)
        self.assertEqual((kind, asked), (INSPECT, {1: [b"box"]}))
        self.assertIn("its \\x1b kernel panicked\n", out)
        self.assertRegex(out, r"(?m)^cpus +2$")
        self.assertRegex(out, r"(?m)^created +-$")

    def test_several_are_stopped_and_removed(self):
        def play(s):
            s.answer(b"")
            kind, trace, _ = s.request()
            s.send(frame(lab.ERROR, error(404, b"there is no b"), trace))
            s.answer(b"")
            self.assertEqual(kind & 0xF0, 0x20)

        for argv, kind, more in (
            (("stop", "-g", "5"), STOP, {2: [5]}),
            (("rm",), REMOVE, {}),
            (("rm", "-f"), REMOVE, {2: [1]}),
        ):
            with self.subTest(argv=argv):
                done = self.ask(play, *argv, "a", "b", "c")
                self.assert_ends(done, REFUSED, "404", "there is no b")
                self.assertEqual(done.stdout, "a\nc\n")
                self.assertEqual(
                    [(k, fields(p)) for k, p in self.server.requests],
                    [(kind, {1: [name], **more}) for name in (b"a", b"b", b"c")],
                )

    def test_a_connection_that_breaks_ends_it(self):
        def play(s):
            s.send(frame(lab.ERROR, error(404, b"there is no a"), s.request()[1]))
            s.request()  # closed with bytes that were not read, it would be reset

        done = self.ask(play, "rm", "a", "b", "c", "d")
        self.assertEqual(done.returncode, REFUSED)
        self.assertRegex(done.stderr, "\\A.*there is no a\n.*closed the connection.*\n\\Z")

    def test_snapshots(self):
        kind, asked, out = self.request_of(
            *("checkpoint", "box", "-n", "first", "-l", "a=b"), answer=field(1, "snap")
        )
        self.assertEqual(
            (kind, asked, out),
            (CHECKPOINT, {1: [b"box"], 2: [b"first"], 3: [label("a", "b")]}, "snap\n"),
        )
        kind, asked, out = self.request_of(
            *("restore", "--id=new", "--new-network", "--ttl", "1m", "snap"),
            answer=field(1, "new"),
        )
        self.assertEqual(
            (kind, asked, out),
            (RESTORE, {1: [b"new"], 2: [b"snap"], 4: [1], 5: [60]}, "new\n"),
        )
        row = field(1, "snap") + field(2, "box") + field(3, "first") + field(6, "2026")
        kind, asked, out = self.request_of("snapshots", "box", answer=field(1, row))
        self.assertEqual((kind, asked), (SNAPSHOTS, {1: [b"box"]}))
        self.assertEqual(out.splitlines()[1].split(), ["snap", "box", "first", "2026", "-"])
        kind, asked, out = self.request_of("rm-snapshot", "snap")
        self.assertEqual((kind, asked, out), (RM_SNAPSHOT, {1: [b"snap"]}, "snap\n"))

    def test_usage(self):
        host = ("-H", "unix:/nowhere")
        for argv in (
            ("run", "box"),
            ("exec", "box"),
            ("exec", "-x", "box", "sh"),
            ("run", "-i", "box", "sh"),
            ("create", "--cpus=0"),
            ("create", "--memory=x"),
            ("create", "--ttl=0s"),
            ("create", "--force"),
            ("ps", "box"),
            ("inspect",),
            ("stop",),
            ("rm",),
            ("checkpoint",),
            ("restore",),
            ("rm-snapshot",),
            ("events", "a", "b"),
            ("cp", "a", "b"),
            ("cp", ":a", ":b"),
            ("cp", "a"),
            ("ps", *(65 * ("-l", "a=b"))),
        ):
            with self.subTest(argv=argv):
                self.assert_ends(ctl(*host, *argv), USAGE)


class Events(CtlTest):
    def test_they_are_told_one_by_one(self):
        def play(s):
            kind, trace, payload = s.request()
            self.assertEqual((kind, fields(payload)), (EVENTS, {1: [b"box"], 2: [b"idle"]}))
            for i in range(2):
                event = field(1, "box") + field(2, "idle") + field(3, 1700000000123456789)
                event += field(4, label("exit_code", str(i)))
                s.send(frame(0x1037, event, trace))

        done = self.ask(play, "events", "-a", "idle", "box")
        self.assert_ends(done, BROKEN, "closed")
        self.assertEqual(
            done.stdout,
            "2023-11-14T22:13:20.123Z idle box exit_code=0\n"
            "2023-11-14T22:13:20.123Z idle box exit_code=1\n",
        )
        done = self.ask(play, "--json", "events", "-a", "idle", "box")
        self.assertEqual(
            json.loads(done.stdout.splitlines()[1]),
            {
                "sandbox_id": "box",
                "action": "idle",
                "timestamp": 1700000000123456789,
                "attributes": {"exit_code": "1"},
            },
        )


class Commands(CtlTest):
    def play(self, *outputs, hears=None):
        """A server that takes a command and all of its input, and answers so."""

        def play(s):
            kind, trace, payload = s.request()
            self.asked, self.given = (kind, fields(payload)), b""
            while kind == EXEC and hears is not False:
                got, _, piece = s.request()
                self.assertEqual(got, INPUT)
                self.given += piece
                if not piece:
                    break
            for output in outputs:
                s.send(frame(OUTPUTS[kind], output, trace))

        return play

    def test_run(self):
        outputs = [said("stdout", b"\x00out\xff"), said("stderr", b"err\x1b")]
        outputs.append(said("exit", b"", 7, True))
        done = self.ask(
            self.play(*outputs),
            *("run", "-t", "-w", "/root", "-u0:0", "-e", "A=b", "-e", "NOT_SET", "-e", "SET"),
            *("--time-limit=1m", "box", "ls", "-l", "--", "--json"),
            input=b"",
            env={"SET": "here"},
        )
        self.assertEqual((done.returncode, done.stdout), (7, b"\x00out\xff"))
        self.assertEqual(done.stderr, b"err\x1b")
        self.assertEqual(
            self.asked,
            (
                RUN,
                {
                    1: [b"box"],
                    2: [b"ls", b"-l", b"--", b"--json"],
                    3: [label("A", "b"), label("SET", "here")],
                    4: [b"/root"],
                    5: [b"0:0"],
                    6: [1],
                    7: [60],
                },
            ),
        )

    def test_what_is_run_may_follow_two_dashes(self):
        self.ask(self.play(said("exit", done=True)), "exec", "box", "--", "-t", "--", "x")
        self.assertEqual(self.asked[1][2], [b"-t", b"--", b"x"])

    def test_exit_statuses_are_passed_on(self):
        for code, status in ((0, 0), (1, 1), (127, 127), (137, 137), (255, 255), (-1, 255)):
            for name in ("run", "exec"):
                with self.subTest(code=code, name=name):
                    done = self.ask(self.play(said("exit", b"", code, True)), name, "box", "x")
                    self.assertEqual(done.returncode, status)

    def test_input_is_passed_on(self):
        data = os.urandom(3 << 20)
        done = self.ask(
            self.play(said("exit", done=True)), "exec", "-i", "box", "cat", input=data
        )
        self.assertEqual(done.returncode, 0)
        self.assertEqual(self.given, data)
        done = self.ask(self.play(said("exit", done=True)), "exec", "box", "cat", input=data)
        self.assertEqual((done.returncode, self.given), (0, b""))

    def test_input_is_not_read_ahead_of_a_slow_command(self):
        """A sandbox that takes nothing stops what is piped to it."""
        stop = threading.Event()

        def play(s):
            s.request()
            stop.wait(lab.PATIENCE_S)

        self.serve(play)
        argv = (CTL, "-H", f"unix:{self.path}", "exec", "-i", "box", "cat")
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            os.set_blocking(process.stdin.fileno(), False)
            sent = quiet = 0
            while quiet < 20:
                try:
                    sent += os.write(process.stdin.fileno(), bytes(65536))
                    quiet = 0
                except BlockingIOError:
                    quiet += 1
                    time.sleep(0.01)
                self.assertLess(sent, 4 << 20)
            process.kill()
        process.stdin = None
        stop.set()

    def test_a_host_closing_before_its_input_is_read(self):
        """The command ends while its input goes on: no error, and its status."""
        done = self.ask(
            self.play(said("stdout", b"x"), said("exit", b"", 3, True), hears=False),
            *("exec", "-i", "box", "head"),
            input=bytes(1 << 20),
        )
        self.assertEqual((done.returncode, done.stdout), (3, b"x"))

    def test_failures_are_told_apart_from_the_command(self):
        def refuse(s):
            _, trace, _ = s.request()
            s.send(frame(lab.ERROR, error(404, b"there is no box"), trace))

        for name in ("run", "exec"):
            with self.subTest(name=name):
                done = self.ask(refuse, name, "box", "x")
                self.assert_ends(done, NOT_RUN, "404", "there is no box")
                done = self.ask(self.play(said("stdout", b"half")), name, "box", "x")
                self.assert_ends(done, NOT_RUN, "closed the connection")
                self.assertEqual(done.stdout, "half")
                self.assert_ends(ctl("-H", "unix:/nowhere", name, "box", "x"), NOT_RUN)

    def test_json(self):
        done = self.ask(
            self.play(said("stdout", b"hi"), said("exit", b"", 5, True)),
            *("run", "--json", "box", "x"),
        )
        self.assertEqual(done.returncode, 5)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([line["stream"] for line in lines], ["stdout", "exit"])
        self.assertEqual((lines[0]["data"], lines[1]["exit_code"]), ("aGk=", 5))

    def test_a_terminal_is_needed_for_one(self):
        done = ctl("-H", f"unix:{self.serve(self.play()) and self.path}", "exec", "-it", "box", "x")
        self.assertEqual(done.returncode, USAGE)


class Terminal(CtlTest):
    """exec -it on a terminal of the test's."""

    def start(self, play, *argv):
        self.serve(play)
        self.master, slave = pty.openpty()
        self.addCleanup(os.close, self.master)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 43, 132, 0, 0))
        self.attributes = lambda: termios.tcgetattr(slave)
        self.before = self.attributes()
        self.addCleanup(os.close, slave)
        return subprocess.Popen(
            (CTL, "-H", f"unix:{self.path}", *argv),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )

    def output(self, wanted=b""):
        """Until it has these bytes, and what else is there by then."""
        got = b""
        while wanted not in got or select.select([self.master], [], [], 0)[0]:
            got += os.read(self.master, 4096)
        return got

    def test_keys_are_the_commands(self):
        keys = []

        def play(s):
            kind, trace, payload = s.request()
            keys.append((kind, fields(payload)))
            s.send(frame(OUTPUTS[EXEC], said("stdout", b"ready\r\n"), trace))
            while b"q" not in b"".join(keys[1:]):
                keys.append(s.request()[2])
            s.send(frame(OUTPUTS[EXEC], said("exit", b"", 9, True), trace))

        with self.start(play, "exec", "-it", "box", "sh") as process:
            self.output(b"ready\r\n")
            self.assertNotEqual(self.attributes(), self.before)
            os.write(self.master, b"a\x03\x1a\x04\rq")
            self.assertEqual(process.wait(lab.PATIENCE_S), 9)
        self.assertEqual(
            keys[0], (EXEC, {1: [b"box"], 2: [b"sh"], 6: [1], 7: [field(1, 132) + field(2, 43)]})
        )
        self.assertEqual(b"".join(keys[1:]), b"a\x03\x1a\x04\rq")
        self.assertEqual(self.attributes(), self.before)
        self.assertNotIn(b"\x03", self.output())

    def test_the_terminal_is_left_as_it_was(self):
        def play(s):
            _, trace, _ = s.request()
            s.send(frame(OUTPUTS[EXEC], said("stdout", b"ready"), trace))
            s.request()

        for sig in (signal.SIGTERM, signal.SIGHUP, None):
            with self.subTest(signal=sig), self.start(play, "exec", "-it", "box", "sh") as process:
                self.output(b"ready")
                self.assertNotEqual(self.attributes(), self.before)
                if sig:
                    process.send_signal(sig)
                else:
                    os.write(self.master, b"x")  # upon which the server hangs up
                status = process.wait(lab.PATIENCE_S)
                self.assertEqual(status, -sig if sig else NOT_RUN)
                self.assertEqual(self.attributes(), self.before)


class Copy(CtlTest):
    """cp, and a port 53 of the test's behind a Firecracker's greeting."""

    def copy(self, play, *argv, **options):
        path = self.new_lab().dir / "v.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        self.frames = []

        def serve():
            peer, _ = listener.accept()
            with peer, peer.makefile("rwb") as stream:
                self.assertEqual(stream.readline(), b"CONNECT 53\n")
                stream.write(b"OK 1\n")
                stream.flush()
                play(stream)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        done = ctl("-H", f"fc:{path}", "cp", *argv, **options)
        thread.join(lab.PATIENCE_S)
        listener.close()
        return done

    def take(self, stream):
        kind, size = struct.unpack("<BI", stream.read(5))
        self.frames.append((kind, stream.read(size)))
        return kind

    @staticmethod
    def put(stream, kind, payload=b""):
        stream.write(struct.pack("<BI", kind, len(payload)) + payload)
        stream.flush()

    def test_into_a_sandbox(self):
        source = self.new_lab().dir / "file"
        source.write_bytes(os.urandom(200000))
        source.chmod(0o750)

        def play(stream):
            while self.take(stream) != 0x22:
                pass
            self.put(stream, 0x30)

        self.assert_ends(self.copy(play, source, ":/root/file"), OK)
        kind, request = self.frames[0]
        self.assertEqual((kind, json.loads(request)), (0x20, {"path": "/root/file", "mode": 0o750}))
        self.assertEqual(b"".join(data for _, data in self.frames[1:]), source.read_bytes())
        self.assert_ends(self.copy(play, "-", ":x", input=b"piped"), OK)
        self.assertEqual(self.frames[1:], [(0x21, b"piped"), (0x22, b"")])

    def test_out_of_a_sandbox(self):
        target = self.new_lab().dir / "file"

        def play(stream):
            self.take(stream)
            for piece in (b"one", bytes(100000), b"two"):
                self.put(stream, 0x21, piece)
            self.put(stream, 0x22)

        self.assert_ends(self.copy(play, ":/etc/file", target), OK)
        self.assertEqual(self.frames, [(0x23, b'{"path":"/etc/file"}')])
        self.assertEqual(target.read_bytes(), b"one" + bytes(100000) + b"two")
        self.assertEqual(self.copy(play, ":x", "-", input=b"").stdout, target.read_bytes())

    def test_failures(self):
        target = self.new_lab().dir / "file"
        target.write_text("old")

        def refuse(stream):
            self.take(stream)
            self.put(stream, 0x31, b"no such file")

        def hang_up(stream):
            self.take(stream)

        self.assert_ends(self.copy(refuse, ":x", target), REFUSED, "no such file")
        self.assert_ends(self.copy(refuse, "-", ":x", input="data"), REFUSED, "no such file")
        self.assert_ends(self.copy(hang_up, ":x", target), BROKEN, "broke")
        self.assertEqual(target.read_text(), "old")


class Guest(CtlTest):
    """Commands in the guest itself, by the agent."""

    def agent(self, *options):
        agent = Agent(self.new_lab(), *options)
        self.addCleanup(agent.stop)
        self.host = ("-H", f"unix:{agent.socket}")
        return agent

    def test_it_is_listed_when_asked_for(self):
        self.agent()
        self.assertEqual(ctl(*self.host, "ps").stdout.count("\n"), 1)
        self.assertIn("@guest", ctl(*self.host, "ps", "--state=guest").stdout)

    def test_how_commands_end(self):
        self.agent()
        for command, status in (
            ("exit 3", 3),
            ("kill -9 $$", 137),
            ("kill -TERM $$", 143),
            ("exec /nowhere", 127),
            ("exec /etc/passwd", 126),
        ):
            with self.subTest(command=command):
                done = ctl(*self.host, "run", "@guest", "sh", "-c", command)
                self.assertEqual(done.returncode, status)
        self.assertEqual(ctl(*self.host, "run", "@guest", "/nowhere").returncode, 127)
        self.assertEqual(ctl(*self.host, "run", "@guest", "/etc/passwd").returncode, 126)
        sleeps = f"sleep {LONG_S} & sleep {LONG_S}"
        limited = ("run", "--time-limit=1s", "@guest", "sh", "-c", sleeps)
        self.assertEqual(ctl(*self.host, *limited).returncode, 124)
        lab.until(lambda: not self.sleeps(), "the end of the group")

    @staticmethod
    def sleeps():
        return lab.run("pgrep", "-fx", f"sleep {LONG_S}").stdout

    def test_bytes_go_through_unchanged(self):
        self.agent()
        data = os.urandom(64 << 20)
        done = ctl(*self.host, "exec", "-i", "@guest", "cat", input=data)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(hashlib.sha256(done.stdout).digest(), hashlib.sha256(data).digest())

    def test_many_at_once(self):
        self.agent()
        argv = (CTL, *self.host, "exec", "-i", "@guest", "sh", "-c", "cat; exit 5")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        running = [subprocess.Popen(argv, **pipes) for _ in range(20)]
        for i, process in enumerate(running):
            out, _ = process.communicate(b"%d" % i * 1000)
            self.assertEqual((out, process.returncode), (b"%d" % i * 1000, 5))

    def test_a_host_that_stops_reading_costs_no_memory_and_nobody_else(self):
        agent = self.agent()
        agent.at_rest()
        others, before = agent.children(), lab.memory_bytes(agent.pid)
        with agent.rpc() as rpc:
            rpc.ask(RUN, field(1, "@guest") + field(2, "yes"))
            time.sleep(1)
            self.assert_grown_less(lab.memory_bytes(agent.pid) - before, 1 << 20)
            agent.ping()
            for _ in range(100):
                kind, _, payload = rpc.answer()
                self.assertEqual((kind, fields(payload)[1]), (0x1035, [b"stdout"]))
            self.assertEqual(len(agent.children()), len(others) + 1)
        lab.until(lambda: agent.children() == others, "the end of the command")

    def test_a_terminal(self):
        self.agent()
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 43, 132, 0, 0))
        argv = (CTL, *self.host, "exec", "-it", "@guest", "sh", "-c", f"stty size; sleep {LONG_S}")
        with subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave) as process:
            os.close(slave)
            got = b""
            while b"\n" not in got:
                got += os.read(master, 100)
            self.assertEqual(got, b"43 132\r\n")
            lab.until(self.sleeps, "the last command")  # before it runs the shell may swallow ^C
            os.write(master, b"\x03")
            self.assertEqual(process.wait(lab.PATIENCE_S), 130)

    def test_it_may_be_forbidden(self):
        self.agent("--no-guest-exec")
        done = ctl(*self.host, "run", "@guest", "true")
        self.assert_ends(done, NOT_RUN, "404", "@guest")
        self.assertNotIn("@guest", ctl(*self.host, "ps", "--state=guest").stdout)


if __name__ == "__main__":
    unittest.main()
