"""arcboxctl against a server that misbehaves on purpose, and against the agent."""

import base64
import json
import os
import pty
import socket
import struct
import subprocess
import threading
import time
import unittest

import lab
from lab import Agent, LabTest, field, frame

CTL = lab.BUILD / "arcboxctl"
OK, REFUSED, USAGE, CONNECT, BROKEN, LOCAL = range(6)
RANGE = 64 << 20


def ctl(*argv, env=(), **options):
    clean = {k: v for k, v in os.environ.items() if k != "ARCBOX_HOST"}
    return lab.run(CTL, *argv, env={**clean, **dict(env)}, **options)


def error(code, text):
    return struct.pack(">iI", code, len(text)) + text


class Server:
    """Serves one connection after the other: `play(peer)` gets each of them."""

    def __init__(self, path, play):
        self.play, self.requests = play, []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(8)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                self.peer, _ = self.listener.accept()
            except OSError:
                return
            with self.peer:
                try:
                    self.play(self)
                except (OSError, EOFError):
                    pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(lab.PATIENCE_S)

    def take(self, n):
        data = b""
        while len(data) < n:
            got = self.peer.recv(n - len(data))
            if not got:
                raise EOFError
            data += got
        return data

    def request(self):
        length, kind, trace_bytes = struct.unpack(">IIH", self.take(10))
        rest = self.take(length - 6)
        self.requests.append((kind, rest[trace_bytes:]))
        return kind, rest[:trace_bytes], rest[trace_bytes:]

    def send(self, data):
        self.peer.sendall(data)

    def answer(self, payload, kind=None):
        """Answers one request with a payload, of the type that is due or of another."""
        asked, trace, _ = self.request()
        self.send(frame(asked | 0x1000 if kind is None else kind, payload, trace))


@unittest.skipUnless(CTL.exists(), f"{CTL} is not built")
class CtlTest(LabTest):
    def serve(self, play):
        self.path = self.new_lab().dir / "s"
        server = Server(self.path, play)
        self.addCleanup(server.close)
        return server

    def ask(self, play, *argv, **options):
        """Runs a command against a server of its own."""
        self.server = self.serve(play)
        return ctl("-H", f"unix:{self.path}", *argv, **options)

    def assert_ends(self, done, status, *words):
        """The exit status, and for a failure one line on stderr that holds the words."""
        self.assertEqual(done.returncode, status, done.stderr)
        err = done.stderr if isinstance(done.stderr, str) else done.stderr.decode()
        self.assertEqual(err.count("\n"), 0 if status == OK else 1, err)
        for word in words:
            self.assertIn(word, err)


class CommandLine(CtlTest):
    def test_help_and_version(self):
        done = ctl("--help")
        self.assert_ends(done, OK)
        for word in ("ping", "raw TYPE", "--timeout", "ARCBOX_HOST", "fc:PATH", "Exit status"):
            self.assertIn(word, done.stdout)
        self.assertRegex(ctl("-V").stdout, r"^arcboxctl \d+\.\d+\.\d+\n$")

    def test_usage_errors(self):
        host = ("-H", "unix:/nowhere")
        for argv in (
            (),
            ("bogus",),
            ("ping",),
            ("-H", "bogus", "ping"),
            ("-H", "tcp:127.0.0.1:1", "ping"),
            ("-H", "vsock:", "ping"),
            ("-H", "vsock:x", "ping"),
            ("-H", "vsock:3:99999999999", "ping"),
            ("-H", "unix:", "ping"),
            ("-H", "unix:/" + "x" * 200, "ping"),
            ("-H", "fc:", "ping"),
            ("-H", "fc:/x:99999999999", "ping"),
            (*host, "ping", "surplus"),
            (*host, "ping", "--start"),
            (*host, "ping", "-c0"),
            (*host, "ping", "-c"),
            (*host, "ping", "--timeout=10"),
            (*host, "ping", "--nonsense"),
            (*host, "read"),
            (*host, "read", "a", "b"),
            (*host, "read", "--length=-1", "a"),
            (*host, "raw"),
            *((*host, "raw", "--", bad) for bad in ("bogus", "0x", "1x", "-1x", "99999999999", "")),
        ):
            with self.subTest(argv=argv):
                self.assert_ends(ctl(*argv), USAGE)

    def test_cannot_connect(self):
        directory = self.new_lab().dir
        self.assert_ends(ctl("-H", f"unix:{directory}/no", "ping"), CONNECT, "no such socket")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{directory}/dead")
        listener.close()
        self.assert_ends(ctl("-H", f"unix:{directory}/dead", "ping"), CONNECT, "start the agent")

    def test_listener_whose_queue_is_full(self):
        path = f"{self.new_lab().dir}/full"
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
            listener.bind(path)
            listener.listen(0)
            first.connect(path)
            self.assert_ends(ctl("-H", f"unix:{path}", "-t200ms", "ping"), CONNECT)

    def test_host_of_the_environment(self):
        self.serve(lambda s: s.answer(field(1, "pong") + field(2, "9.9")))
        env = {"ARCBOX_HOST": f"unix:{self.path}"}
        self.assertIn("agent 9.9", ctl("ping", env=env).stdout)
        self.assert_ends(ctl("ping", "-H", "unix:/nowhere", env=env), CONNECT)

    def test_full_disk(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([CTL, "--help"], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assert_ends(done, LOCAL, "standard output")


class Answers(CtlTest):
    def test_ping_leaves_the_clock_alone(self):
        done = self.ask(lambda s: [s.answer(field(1, "pong")) for _ in range(3)], "ping", "-c3")
        self.assert_ends(done, OK)
        self.assertEqual(self.server.requests, [(lab.PING, b"")] * 3)
        self.assertIn("3 round trips", done.stdout)

    def test_ping_json(self):
        play = lambda s: [s.answer(field(1, "pong") + field(2, "1.2")) for _ in range(2)]
        lines = self.ask(play, "ping", "--json", "-c", "2").stdout.splitlines()
        reports = [json.loads(line) for line in lines]
        self.assertEqual([r["number"] for r in reports], [1, 2])
        self.assertEqual(reports[0]["version"], "1.2")
        self.assertGreater(reports[0]["round_trip_ms"], 0)

    def test_info(self):
        load = struct.pack("<3d", 0.5, 1, 2.25)
        info = field(1, "6.1") + field(5, 8 << 30) + field(7, 4) + field(8, load)
        info += field(10, 90061) + field(11, "10.0.0.2") + field(11, "fd00::2")
        text = self.ask(lambda s: s.answer(info), "info").stdout
        for words in ("8.00 GiB", "0.50 1.00 2.25", "1 d 01:01", "10.0.0.2, fd00::2"):
            self.assertIn(words, text)
        got = json.loads(self.ask(lambda s: s.answer(info), "info", "-j").stdout)
        self.assertEqual(got["total_memory"], 8 << 30)
        self.assertEqual(got["load_average"], [0.5, 1, 2.25])
        self.assertEqual(got["ip_addresses"], ["10.0.0.2", "fd00::2"])
        self.assertEqual(got["hostname"], "")

    def test_info_without_anything(self):
        self.assert_ends(self.ask(lambda s: s.answer(b""), "info"), OK)

    def test_status_is_a_table(self):
        services = [("containerd", "ready", "ok"), ("dockerd", "not_ready", "no")]
        rows = [b"".join(field(i + 1, v) for i, v in enumerate(row)) for row in services]
        status = field(1, 1) + b"".join(field(5, row) for row in rows)
        text = self.ask(lambda s: s.answer(status), "status").stdout
        self.assertIn("  NAME        STATUS     DETAIL\n  containerd  ready      ok\n", text)
        got = json.loads(self.ask(lambda s: s.answer(status), "status", "-j").stdout)
        dockerd = {"name": "dockerd", "status": "not_ready", "detail": "no"}
        self.assertEqual(got["services"][1], dockerd)

    def test_ensure(self):
        ready = field(1, 1) + field(2, "vsock:2375") + field(4, "reused")
        self.assert_ends(self.ask(lambda s: s.answer(ready), "ensure"), OK)
        self.assertEqual(self.server.requests, [(lab.ENSURE_RUNTIME, b"")])
        done = self.ask(lambda s: s.answer(field(4, "failed")), "ensure", "--start")
        self.assertEqual((done.returncode, done.stderr), (REFUSED, ""))
        self.assertEqual(self.server.requests, [(lab.ENSURE_RUNTIME, field(1, 1))])

    def test_shutdown(self):
        self.assert_ends(self.ask(lambda s: s.answer(field(1, 1)), "shutdown", "-g", "7"), OK)
        self.assertEqual(self.server.requests, [(lab.SHUTDOWN, field(1, 7))])
        self.assertEqual(self.ask(lambda s: s.answer(b""), "shutdown").returncode, REFUSED)

    def test_raw(self):
        play = lambda s: s.answer(field(1, "a\nb") + field(99, "unknown"))
        text = self.ask(play, "raw", "0x1", "-", input="payload").stdout
        self.assertEqual(self.server.requests, [(1, b"payload")])
        words = ["type", "PingResponse", "message", "message", r"a\nb", "version", "-"]
        self.assertEqual(text.split(), words)
        got = json.loads(self.ask(play, "raw", "PingRequest", "--json").stdout)
        message = {"message": "a\nb", "version": ""}
        self.assertEqual(got, {"type": "PingResponse", "message": message})

    def test_raw_of_what_nobody_knows(self):
        play = lambda s: s.answer(b"\x00\xffz", kind=0x4242)
        self.assertIn(r"\x00\xffz", self.ask(play, "raw", "7").stdout)
        got = json.loads(self.ask(play, "raw", "0x7777", "-j").stdout)
        self.assertEqual(got["type"], "0x4242")
        self.assertEqual(base64.b64decode(got["payload"]), b"\x00\xffz")

    def test_raw_with_maps_messages_and_absent_fields(self):
        pair = field(1, "k") + field(2, "v\x1b")
        box = field(1, "box") + field(3, pair) + field(4, field(1, 2))
        text = self.ask(lambda s: s.answer(box), "raw", "SandboxInspectRequest").stdout
        self.assertIn(r"k=v\x1b", text)
        self.assertRegex(text, r"network +-\n")
        got = json.loads(self.ask(lambda s: s.answer(box), "raw", "0x23", "-j").stdout)["message"]
        self.assertEqual(got["labels"], {"k": "v\x1b"})
        self.assertEqual((got["limits"]["vcpus"], got["network"]), (2, None))

    def test_raw_with_a_payload_that_cannot_be_read(self):
        self.assert_ends(self.ask(lambda s: s.request(), "raw", "1", "/nowhere"), LOCAL)


class Ensure(CtlTest):
    """Waits, and shows the steps."""

    STEPS = ["prerequisites ready", "data volume ready: formatted", "containerd: ready", "dockerd: ready"]

    def play(self, *answers):
        """Each is status and message; the last one for ever."""

        def run(s):
            for i in range(1000):
                status, message = answers[min(i, len(answers) - 1)]
                ready = field(1, 1) if status in ("started", "reused") else b""
                s.answer(ready + field(3, message) + field(4, status))

        return run

    def starting(self, n):
        return "starting", "; ".join([*self.STEPS[:n], "docker socket missing: /d"])

    def test_steps_are_shown_once(self):
        answers = [("starting", "runtime start in progress")]
        answers += [self.starting(n) for n in (1, 1, 3, 3)]
        answers += [("reused", "; ".join([*self.STEPS, "docker socket ready"]))]
        done = self.ask(self.play(*answers), "ensure", "--start")
        self.assert_ends(done, OK)
        self.assertEqual(done.stdout.splitlines()[:3], self.STEPS[:3])
        self.assertRegex(done.stdout, r"status +reused\n")
        asked = [payload for _, payload in self.server.requests]
        self.assertEqual(asked, [field(1, 1)] + [b""] * 5)

    def test_json_is_one_line(self):
        play = self.play(self.starting(1), self.starting(2), ("failed", "dockerd failed: no"))
        done = self.ask(play, "ensure", "-s", "-j")
        self.assertEqual(done.returncode, REFUSED)
        self.assertEqual(json.loads(done.stdout)["message"], "dockerd failed: no")

    def test_start_that_takes_too_long(self):
        done = self.ask(self.play(self.starting(2)), "ensure", "-s", "-t", "800ms")
        self.assertEqual(done.returncode, REFUSED)
        self.assertRegex(done.stdout, r"status +starting\n")

    def test_nothing_is_waited_for_when_nothing_starts(self):
        self.assertEqual(self.ask(self.play(("failed", "no")), "ensure").returncode, REFUSED)
        self.assertEqual(len(self.server.requests), 1)


class Kubernetes(CtlTest):
    CONFIG = """apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: LS0tLS1CRUdJTi+/DRVJU==
    server: https://127.0.0.1:6443
  name: default
contexts:
- context:
    cluster: default
    user: default
  name: default
current-context: default
kind: Config
preferences: {}
users:
- name: default
  user:
    client-certificate-data: LS0tLS1CRUdJTg==
    client-key-data: LS0tLS1CRUdJTg==
"""

    def config(self, text=CONFIG, name="arcbox", server="https://127.0.0.1:16443"):
        return lambda s: s.answer(field(1, text) + field(2, name) + field(3, server))

    def test_actions(self):
        for action, kind, answer, status in (
            ("start", 5, field(1, 1) + field(2, 1), OK),
            ("start", 5, field(1, 1) + field(4, "not yet"), REFUSED),
            ("stop", 6, field(1, 1) + field(2, "k3s stopped"), OK),
            ("stop", 6, b"", REFUSED),
            ("delete", 7, field(1, "gone"), OK),
            ("status", 8, field(4, "k3s not running"), OK),
        ):
            done = self.ask(lambda s: s.answer(answer), "k8s", action, "--json")
            self.assertEqual((done.returncode, done.stderr), (status, ""))
            self.assertEqual(self.server.requests, [(kind, b"")])
            self.assertIsInstance(json.loads(done.stdout), dict)
        for argv in (["k8s"], ["k8s", "bogus"], ["k8s", "start", "x"], ["logs", "bogus"]):
            self.assert_ends(ctl("-H", "unix:/nowhere", *argv), USAGE)

    def test_kubeconfig_is_made_fit(self):
        done = self.ask(self.config(), "k8s", "kubeconfig")
        self.assert_ends(done, OK)
        wanted = self.CONFIG.replace("default", "arcbox").replace(":6443", ":16443")
        self.assertEqual(done.stdout, wanted)
        raw = json.loads(self.ask(self.config(), "k8s", "kubeconfig", "-j").stdout)
        self.assertEqual(raw["kubeconfig"], self.CONFIG)

    def test_kubeconfig_in_a_file(self):
        out = self.new_lab().dir / "it's mine.yaml"
        done = self.ask(self.config(), "k8s", "kubeconfig", "-o", str(out))
        self.assert_ends(done, OK)
        self.assertIn("name: arcbox", out.read_text())
        self.assertEqual(out.stat().st_mode & 0o777, 0o600)
        for own, first in (("", "/home/me/.kube/config"), ("/a:/b", "/a:/b")):
            env = {"HOME": "/home/me", **({"KUBECONFIG": own} if own else {})}
            script = f'{done.stdout}printf %s "$KUBECONFIG"'
            self.assertEqual(lab.output("sh", "-c", script, env=env), f"{first}:{out}")
        done = self.ask(self.config(), "k8s", "kubeconfig", "-o", "/nowhere/x")
        self.assert_ends(done, LOCAL, "/nowhere/x")

    def test_kubeconfig_that_could_run_programs(self):
        """kubectl would, as its user; a guest must not reach so far."""
        evil = (
            "    exec:\n",
            "    exec: {command: sh}\n",
            "  user: {exec: {command: sh}}\n",
            '    "\\x65xec": {}\n',
            "    server: https://x\u2028exec:\n",
            "    client-key-data: a b\n",
            "    client-key-data: &a\n",
            "    server: \n",
            "    proxy-url: http://evil\n",
            "---\n",
            "\n",
            "# comment\n",
            "    insecure-skip-tls-verify: true\n",
            "    server: https://x\r\n",
        )
        texts = [self.CONFIG + line for line in evil]
        texts += [self.CONFIG.replace("    server: https://127.0.0.1:6443\n", e) for e in evil]
        for text in texts:
            done = self.ask(self.config(text), "k8s", "kubeconfig")
            self.assert_ends(done, BROKEN, "k3s does not write")
            self.assertEqual(done.stdout, "")
        for name, server in (("a\nb", "https://x"), ("a", "https://x\ny"), ("", "https://x")):
            done = self.ask(self.config(name=name, server=server), "k8s", "kubeconfig")
            self.assert_ends(done, BROKEN)

    def test_kubeconfig_that_is_not_there(self):
        play = lambda s: s.answer(error(404, b"start Kubernetes first"), lab.ERROR)
        done = self.ask(play, "k8s", "kubeconfig")
        self.assert_ends(done, REFUSED, "error 404: start Kubernetes first")

    def test_logs(self):
        def service(name, status, detail):
            return field(5, field(1, name) + field(2, status) + field(3, detail))

        words = "k3s failed: it ended at once; last log lines: one|two \x1b[2J|three"
        runtime = service("containerd", "ready", "fine") + service("dockerd", "error", words)
        kubernetes = service("containerd", "ready", "") + service("k3s", "error", words)

        def play(s):
            s.answer(runtime)
            s.answer(kubernetes)

        lines = ["  one", r"  two \x1b[2J", "  three"]
        wanted = ["containerd: ready", "dockerd: error", *lines, "k3s: error", *lines]
        self.assertEqual(self.ask(play, "logs").stdout.splitlines(), wanted)
        self.assertEqual(self.ask(play, "logs", "dockerd").stdout.splitlines(), wanted[1:5])
        done = self.ask(lambda s: s.answer(kubernetes), "logs", "k3s", "--json")
        self.assertEqual(json.loads(done.stdout)["detail"], words)


class DockerCommand(CtlTest):
    """With something that is called docker, and something that plays the proxy."""

    PLAY = """#!/usr/bin/env python3
import os, socket, stat, sys
path = os.environ["DOCKER_HOST"].removeprefix("unix://")
"""

    def docker(self, code, *argv, play=None, host=None, env=(), **options):
        self.server = self.serve(play or (lambda s: None))
        bin = self.new_lab().dir
        (bin / "docker").write_text(self.PLAY + code)
        (bin / "docker").chmod(0o755)
        path = {"PATH": f"{bin}:{os.environ['PATH']}", "DOCKER_TLS_VERIFY": "1"}
        host = host or ("-H", "unix:/agent", "-d", f"unix:{self.path}")
        return ctl(*host, *argv, env={**path, **dict(env)}, **options)

    def test_arguments_and_exit_status_are_passed_on(self):
        code = "print(sys.argv[1:]); print('DOCKER_TLS_VERIFY' in os.environ); sys.exit(7)"
        argv = ["run", "-it", "-H", "x", "--json", "--", "--help", "a b"]
        done = self.docker(code, "docker", *argv)
        self.assertEqual(done.returncode, 7)
        self.assertEqual(done.stdout.splitlines(), [repr(argv), "False"])
        done = self.docker("os.kill(os.getpid(), 15)", "docker")
        self.assertEqual(done.returncode, 128 + 15)

    def test_socket_is_private_and_gone_afterwards(self):
        code = """
print(path)
print(oct(os.stat(path).st_mode & 0o777), oct(os.stat(os.path.dirname(path)).st_mode & 0o777))
"""
        path, modes = self.docker(code, "docker").stdout.splitlines()
        self.assertEqual(modes, "0o600 0o700")
        self.assertFalse(os.path.exists(os.path.dirname(path)))

    def test_bytes_both_ways_at_once(self):
        """As much as fits into no buffer, echoed; then the end of one side, and the other's."""

        def echo(s):
            while data := s.peer.recv(1 << 20):
                s.send(data)
            s.send(b"end")

        code = """
import threading
data = os.urandom(16 << 20)
s = socket.socket(socket.AF_UNIX)
s.connect(path)
def send():
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
got = bytearray()
while part := s.recv(1 << 20):
    got += part
print(bytes(got) == data + b"end")
"""
        done = self.docker(code, "docker", play=echo)
        self.assertEqual((done.stdout, done.stderr), ("True\n", ""))

    def test_many_connections(self):
        code = """
peers = []
for i in range(40):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.sendall(b"%03d" % i)
    print(s.recv(3).decode())
    s.close()
"""
        done = self.docker(code, "docker", play=lambda s: s.send(s.take(3)))
        self.assertEqual(done.stdout.split(), [f"{i:03}" for i in range(40)])

    def test_firecracker(self):
        def play(s):
            while s.take(1) != b"\n":
                pass
            s.send(b"OK 1\nhello")

        code = "s = socket.socket(socket.AF_UNIX); s.connect(path); print(s.recv(5))"
        server = self.serve(play)
        host = ("-H", f"fc:{self.path}:1024")
        path = self.path
        done = self.docker(code, "docker", host=host)
        self.assertEqual(done.stdout, "b'hello'\n")
        self.assertTrue(path.exists() and server)

    def test_proxy_that_is_not_there(self):
        code = "s = socket.socket(socket.AF_UNIX); s.connect(path); print(s.recv(5))"
        done = self.docker(code, "docker", host=("-H", "unix:/a", "-d", "unix:/nowhere"))
        self.assertEqual((done.returncode, done.stdout), (0, "b''\n"))
        self.assertIn("cannot connect to unix:/nowhere", done.stderr)

    def test_wrong_usage(self):
        for host in (("-H", "unix:/a"), ("-H", "unix:/a", "-d", "bogus"), ()):
            self.assert_ends(ctl(*host, "docker", "ps"), USAGE)
        self.assert_ends(ctl("-H", "unix:/a", "-d", "unix:/b", "ping"), USAGE, "docker")
        done = ctl("-H", "unix:/a", "-d", "unix:/b", "docker", env={"PATH": "/nowhere"})
        self.assert_ends(done, LOCAL, "cannot run the docker command")

    def test_end_from_outside_reaches_it(self):
        code = "print(os.getpid(), flush=True); import time; time.sleep(99)"
        lab_of_it = self.new_lab()
        (lab_of_it.dir / "docker").write_text(self.PLAY + code)
        (lab_of_it.dir / "docker").chmod(0o755)
        process = lab_of_it.start(
            CTL, "-H", "unix:/a", "-d", "unix:/b", "docker", stdout=subprocess.PIPE,
            env={**os.environ, "PATH": f"{lab_of_it.dir}:{os.environ['PATH']}"},
        )  # fmt: skip
        pid = int(process.stdout.readline())
        process.terminate()
        self.assertEqual(process.wait(lab.PATIENCE_S), 128 + 15)
        self.assertFalse(os.path.exists(f"/proc/{pid}"))
        process.stdout.close()


class Hostile(CtlTest):
    def test_answer_that_is_cut_at_each_byte(self):
        whole = frame(0x1001, field(1, "pong"), b"arcboxctl-1")
        for n in range(len(whole)):

            def play(s, n=n):
                s.request()
                s.send(whole[:n])

            self.assert_ends(self.ask(play, "ping"), BROKEN, "before its answer was complete")

    def test_answer_byte_by_byte(self):
        def play(s):
            kind, trace, _ = s.request()
            for byte in frame(kind | 0x1000, field(1, "slow"), trace):
                s.send(bytes([byte]))
                time.sleep(0.002)

        self.assertIn("slow", self.ask(play, "ping").stdout)

    def test_what_is_no_answer(self):
        for data, word in (
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "more than 64 MiB"),
            (struct.pack(">IIH", 3, 0x1001, 0), "this protocol"),
            (struct.pack(">IIH", 6, 0x1001, 9), "this protocol"),
            (struct.pack(">IIH", 0xFFFFFFFF, 0x1001, 0), "more than 64 MiB"),
            (struct.pack(">IIH", (66 << 20), 0x1001, 0), "more than 64 MiB"),
            (frame(0x1001, b"", b"other"), "another request"),
            (frame(0x1001, b""), "another request"),
        ):

            def play(s, data=data):
                s.request()
                s.send(data)
                s.peer.recv(1)

            self.assert_ends(self.ask(play, "ping"), BROKEN, word)

    def test_wrong_type_and_payload(self):
        self.assert_ends(self.ask(lambda s: s.answer(b"", 0x1002), "ping"), BROKEN, "0x1002")
        for bad in (b"\x0a\xff", b"\x0a\x01\xff", b"\x07", b"\x0a" * 5000):
            self.assert_ends(self.ask(lambda s: s.answer(bad), "ping"), BROKEN, "does not decode")
        many = field(11, "") * 200_000
        self.assert_ends(self.ask(lambda s: s.answer(many), "info"), BROKEN, "does not decode")

    def test_silence_ends_in_time(self):
        def play(s):
            s.request()
            s.peer.recv(1)

        self.assert_ends(self.ask(play, "ping", "-t300ms"), BROKEN, "within 0.3 s")

    def test_trickle_ends_in_time(self):
        def play(s):
            s.request()
            s.send(struct.pack(">IIH", 1 << 20, 0x1001, 0))
            while True:
                s.send(b"x")
                time.sleep(0.01)

        self.assert_ends(self.ask(play, "ping", "-t300ms"), BROKEN, "within 0.3 s")

    def test_error_frames(self):
        done = self.ask(lambda s: s.answer(error(503, b"not now"), lab.ERROR), "info")
        self.assert_ends(done, REFUSED, "error 503: not now")
        for bad in (b"", b"\0" * 7, error(1, b"x")[:-1], error(1, b"x") + b"y"):
            self.assert_ends(self.ask(lambda s: s.answer(bad, lab.ERROR), "info"), BROKEN)

    def test_error_without_a_trace_comes_before_the_request_is_read(self):
        play = lambda s: s.send(frame(lab.ERROR, error(503, b"too many connections")))
        done = self.ask(play, "raw", "1", "-", input=bytes(8 << 20))
        self.assert_ends(done, REFUSED, "too many connections")

    def test_control_characters_do_not_reach_the_terminal(self):
        nasty = "\x1b[2J\r\n\x07\x7f\u009b1m\u202eevil\u2066 ä€\\"
        outputs = [
            self.ask(lambda s: s.answer(field(1, nasty)), "ping").stdout,
            self.ask(lambda s: s.answer(field(1, nasty) + field(11, nasty)), "info").stdout,
            self.ask(lambda s: s.answer(field(5, field(3, nasty))), "status").stdout,
            self.ask(lambda s: s.answer(error(1, nasty.encode()), lab.ERROR), "ping").stderr,
            self.ask(lambda s: s.answer(error(1, b"\xff\x1b"), lab.ERROR), "ping").stderr,
        ]
        for text in outputs:
            self.assertFalse(set(text) & set("\x1b\r\x07\x7f\u009b\u202e\u2066"), repr(text))
            self.assertIn(r"\x1b", text)
        self.assertIn("ä€", outputs[0])

    def test_long_error_is_one_line(self):
        done = self.ask(lambda s: s.answer(error(1, b"x" * (1 << 20)), lab.ERROR), "ping")
        self.assert_ends(done, REFUSED, "[cut]")
        self.assertLess(len(done.stderr), 2000)


class Firecracker(CtlTest):
    def fc(self, play, suffix="", *argv):
        self.server = self.serve(play)
        return ctl("-H", f"fc:{self.path}{suffix}", "-t", "30s", *(argv or ("ping",)))

    def test_handshake(self):
        for suffix, port in (("", b"1024"), (":52", b"52")):
            asked = []

            def play(s, asked=asked):
                while not asked or asked[-1] != b"\n":
                    asked.append(s.take(1))
                s.send(b"OK 1073741824\n")
                s.answer(field(1, "through"))

            self.assertIn("through", self.fc(play, suffix).stdout)
            self.assertEqual(b"".join(asked), b"CONNECT " + port + b"\n")

    def test_guest_that_does_not_listen(self):
        self.assert_ends(self.fc(lambda s: s.take(13)), CONNECT, "does not listen")

    def test_what_is_not_firecracker(self):
        for greeting in (b"NO\n", b"\n", b"O", b"OK" * 60, frame(lab.ERROR, b"\0" * 64)):

            def play(s, greeting=greeting):
                s.take(13)
                s.send(greeting)

            self.assert_ends(self.fc(play), CONNECT)


class ReadRanges(CtlTest):
    """Of a file that the server makes up."""

    def play(self, size, cheat=lambda data: field(1, data) + field(2, len(data))):
        def run(s):
            while True:
                kind, trace, payload = s.request()
                asked = lab.fields(payload)
                offset, length = asked.get(2, [0])[0], asked.get(3, [0])[0]
                data = bytes(max(0, min(length, size - offset)))
                s.send(frame(kind | 0x1000, cheat(data), trace))

        return run

    def ranges(self):
        found = [lab.fields(payload) for _, payload in self.server.requests]
        return [(f.get(2, [0])[0], f[3][0]) for f in found]

    def test_file_over_64_mib_comes_range_by_range(self):
        out = self.new_lab().dir / "out"
        done = self.ask(self.play(RANGE + 5), "read", "/big", "-o", str(out))
        self.assert_ends(done, OK)
        self.assertEqual(out.stat().st_size, RANGE + 5)
        self.assertEqual(self.ranges(), [(0, RANGE), (RANGE, RANGE)])

    def test_file_of_just_64_mib(self):
        self.assert_ends(self.ask(self.play(RANGE), "read", "/f", "-o", "/dev/null"), OK)
        self.assertEqual(self.ranges(), [(0, RANGE), (RANGE, RANGE)])

    def test_offset_and_length(self):
        done = self.ask(self.play(100), "read", "/f", "--offset=10", "-l", "20", text=False)
        self.assertEqual(done.stdout, bytes(20))
        self.assertEqual(self.ranges(), [(10, 20)])
        self.assert_ends(self.ask(self.play(100), "read", "/f", "-l0"), OK)
        self.assertEqual(self.ranges(), [])

    def test_counts_that_do_not_match(self):
        for cheat in (
            lambda data: field(1, data) + field(2, len(data) + 1),
            lambda data: field(1, data),
            lambda data: field(1, data + b"x") + field(2, len(data) + 1),
        ):
            self.assert_ends(self.ask(self.play(9, cheat), "read", "-l9", "/f"), BROKEN, "counted")

    def test_failures_leave_an_old_file_alone(self):
        out = self.new_lab().dir / "out"
        out.write_text("old")
        play = lambda s: s.answer(error(2, b"no such file"), lab.ERROR)
        self.assert_ends(self.ask(play, "read", "/f", f"--output={out}"), REFUSED, "no such file")
        self.assertEqual(out.read_text(), "old")

    def test_output_that_cannot_be_written(self):
        for path in ("/nowhere/x", "/dev/full"):
            self.assert_ends(self.ask(self.play(9), "read", "/f", "-o", path), LOCAL, path)

    def test_terminal_gets_escaped_bytes(self):
        self.serve(lambda s: s.answer(field(1, b"a\x1b[2J\n\xff") + field(2, 7)))
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        done = subprocess.run([CTL, "-H", f"unix:{self.path}", "read", "/f"], stdout=theirs)
        os.close(theirs)
        self.assertEqual(done.returncode, OK)
        self.assertEqual(os.read(ours, 1000), b"a\\x1b[2J\r\n\\xff")


@unittest.skipUnless(lab.AGENT.exists(), f"{lab.AGENT} is not built")
class WithTheAgent(CtlTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.agent = Agent(cls.lab)
        cls.host = f"unix:{cls.agent.socket}"

    @classmethod
    def tearDownClass(cls):
        cls.agent.stop()

    def test_each_command(self):
        for argv in ("ping", "ping -c 5", "info", "status", "info -j", "status --json", "raw 1"):
            self.assert_ends(ctl("-H", self.host, *argv.split()), OK)
        self.assertEqual(ctl("-H", self.host, "ensure").returncode, REFUSED)

    def test_read(self):
        data = os.urandom(1_000_003)
        path = self.lab.dir / "file"
        path.write_bytes(data)
        done = ctl("-H", self.host, "read", path, text=False)
        self.assertEqual((done.returncode, done.stdout), (OK, data))
        self.assert_ends(ctl("-H", self.host, "read", "/nowhere"), REFUSED, "error 2")

    def test_errors(self):
        self.assert_ends(ctl("-H", self.host, "raw", "0x7777"), REFUSED, "error 400")
        self.assert_ends(ctl("-H", self.host, "raw", "SandboxStopRequest"), REFUSED, "error 404")


@unittest.skipUnless(CTL.exists(), f"{CTL} is not built")
class WithAnEngine(LabTest):
    """The docker command, through the agent's proxy to a real engine."""

    lab_class = lab.NetLab

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.engine = lab.start_docker(cls.lab)
        cls.proxy = cls.lab.dir / "proxy.sock"
        cls.agent = Agent(cls.lab, f"--proxy=unix:{cls.proxy}=unix:{cls.engine.socket}")
        cls.config = cls.lab.dir / "client"

    @classmethod
    def tearDownClass(cls):
        cls.agent.stop()

    def docker(self, *argv, status=0, **options):
        where = ("-H", f"unix:{self.agent.socket}", "-d", f"unix:{self.proxy}")
        done = ctl(*where, "docker", "--config", str(self.config), *argv, **options)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stdout

    def test_commands(self):
        self.assertIn("Server:", self.docker("version"))
        box = self.engine.IMAGE
        self.assertEqual(self.docker("run", "--rm", box, "echo", "-n", "--json"), "--json")
        self.docker("run", "--rm", box, "sh", "-c", "exit 9", status=9)
        data = os.urandom(4 << 20)
        self.assertEqual(self.docker("run", "--rm", "-i", box, "cat", input=data), data)
        name = self.docker("run", "-d", box, "seq", "20000").strip()
        self.docker("wait", name)
        self.assertEqual(len(self.docker("logs", name).splitlines()), 20000)
        self.docker("rm", name)
