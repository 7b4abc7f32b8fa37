"""What the end-to-end tests stand on: an agent, an engine, a network, and the ways to ask them.

A Lab is a temporary directory and the processes started in it. All of them are ended by their
process id when the lab closes, however the test went.
"""

import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

BUILD = Path(os.environ.get("BUILD", "build")).resolve()
AGENT = Path(os.environ.get("AGENT", BUILD / "arcbox-agent")).resolve()
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
PATIENCE_S = 60  # after which a condition is given up; nothing is ever measured by it


def until(condition, what, patience_s=PATIENCE_S):
    """Waits for a true value and returns it."""
    end = time.monotonic() + patience_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"gave up waiting: {what() if callable(what) else what}")
        time.sleep(0.02)


def run(*argv, **options):
    """Runs a program to its end; its output is text unless the input is bytes."""
    options.setdefault("text", not isinstance(options.get("input"), bytes))
    if "input" not in options:
        options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run(argv, capture_output=True, timeout=300, check=False, **options)


def output(*argv, **options):
    """What a program writes; one that fails is an error with its reason."""
    done = run(*argv, **options)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, argv))}: {done.returncode}: {done.stderr}")
    return done.stdout


# --- processes ---


def descriptors(pid, kind=""):
    """How many descriptors a process has; those of a kind: "socket", "pipe"."""
    return sum(link_of(entry.path).startswith(kind) for entry in os.scandir(f"/proc/{pid}/fd"))


def run_state(pid):
    """Of a process as ps(1) shows it: "S" waits, "T" is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0]


def link_of(path):
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return "closed meanwhile"


def memory_bytes(pid):
    """The proportional set size: what would be free if the process were gone."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss: +(\d+) kB", text, re.M)[1]) * 1024


def mib(n):
    return f"{n / 1024 / 1024:.2f} MiB"


def listens(path):
    with socket.socket(socket.AF_UNIX) as s:
        return s.connect_ex(str(path)) == 0


def end(process, sig=signal.SIGTERM):
    """Ends a process that this test started and returns its exit status."""
    if process.poll() is None:
        process.send_signal(sig)
    try:
        return process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


class Lab:
    """A directory, and what runs in it."""

    def __init__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="arcbox-e2e-"))
        self.enter = []  # stands before each command
        self.processes = []

    def start(self, *argv, **options):
        process = subprocess.Popen([*self.enter, *map(str, argv)], **options)
        self.processes.append(process)
        return process

    def close(self):
        for process in reversed(self.processes):
            end(process)
        shutil.rmtree(self.dir, ignore_errors=True)


class NetLab(Lab):
    """A lab with a network namespace of its own."""

    def __init__(self):
        super().__init__()
        self.netns = self.dir.name
        made = run("ip", "netns", "add", self.netns)
        if made.returncode:
            super().close()
            raise unittest.SkipTest(f"no network namespace can be made: {made.stderr.strip()}")
        # Not `ip netns exec`, which hides the mounts of the control groups.
        self.enter = ["nsenter", f"--net=/run/netns/{self.netns}"]
        output("ip", "-n", self.netns, "link", "set", "lo", "up")

    def close(self):
        for process in reversed(self.processes):
            end(process)
        self._end_others()
        self._unmount()
        run("ip", "netns", "del", self.netns)
        super().close()

    def _pids(self):
        return [int(pid) for pid in run("ip", "netns", "pids", self.netns).stdout.split()]

    def _end_others(self):
        """What an engine leaves behind when it is killed: containerd and the shims."""
        for pid in self._pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        until(lambda: not self._pids(), "the end of all in the namespace")

    def _unmount(self):
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed([m for m in mounts if m.startswith(f"{self.dir}/")]):
            run("umount", "-l", mount)


class LabTest(unittest.TestCase):
    """Tests of a class share a lab; what a test starts in a lab of its own ends with the test."""

    lab_class = Lab

    @classmethod
    def setUpClass(cls):
        cls.lab = cls.lab_class()
        cls.addClassCleanup(cls.lab.close)

    def new_lab(self, lab_class=Lab):
        lab = lab_class()
        self.addCleanup(lab.close)
        return lab

    def assert_grown_less(self, grown, limit):
        """Of the shipped agent: a sanitizer keeps freed memory to itself."""
        if b"__asan_init" not in AGENT.read_bytes():
            self.assertLess(grown, limit)

    def note(self, text):
        """A figure for the reader, never judged."""
        print(f"      {self.id().split('.', 1)[1]}: {text}", flush=True)


# --- the agent ---


class Agent:
    """A running agent that serves RPC on a unix socket, and nothing else unless it is told to."""

    QUIET = {"--dns": "off", "--proxy": "off", "--docker-socket": "off", "--log": "debug"}

    def __init__(self, lab, *options, before=(), **more):
        self.lab = lab
        self.socket = lab.dir / "rpc.sock"
        self.log_path = lab.dir / "agent.log"
        given = [o for option in options for o in option.split("=", 1)]
        quiet = [f"{o}={value}" for o, value in self.QUIET.items() if o not in given]
        argv = [AGENT, f"--listen=unix:{self.socket}", f"--log-file={self.log_path}"]
        self.dns_at = next((o[6:] for o in options if o.startswith("--dns=")), None)
        with open(lab.dir / "agent.err", "wb") as errors:
            self.process = lab.start(*before, *argv, *quiet, *options, stderr=errors, **more)
        self.pid = self.process.pid
        until(lambda: self.is_up() or self.process.poll() is not None, "the agent's start")
        if self.process.poll() is not None:
            raise AssertionError(f"the agent did not start:\n{self.errors()}")

    def is_up(self):
        """By its own word: a connection to find it out would still be there a little later."""
        return f"listening at=unix:{self.socket} " in self.errors()

    def errors(self):
        return (self.lab.dir / "agent.err").read_text(errors="replace")

    def log(self):
        """All that it has written; nothing before it is there."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def stop(self, sig=signal.SIGTERM):
        """Ends the agent, which must be well until then: a sanitizer's word is an exit status."""
        status = end(self.process, sig)
        if status:
            raise AssertionError(f"the agent ended with {status}:\n{self.errors()[-4000:]}")

    def rpc(self):
        return Rpc(self.socket)

    def ping(self):
        with self.rpc() as rpc:
            return rpc.call(PING)

    def children(self):
        return Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()

    def at_rest(self, kind=""):
        """How many descriptors it has when the start is over: of its children the log's writer alone is
        left, and for a while no descriptor comes or goes."""
        seen = []

        def is_steady():
            seen.append((descriptors(self.pid, kind), len(self.children()) <= 1))
            return seen[-1][1] and seen[-20:] == seen[-1:] * 20

        until(is_steady, "the end of what the start takes")
        return seen[-1][0]

    def settled(self, before, kind=""):
        """Waits until nothing is left of what clients did: no more descriptors than before."""
        until(
            lambda: descriptors(self.pid, kind) <= before,
            lambda: f"{before} descriptors; there are {descriptors(self.pid, kind)}",
        )

    def dig(self, *arguments):
        return Dig(self.lab, self.dns_at, *arguments)


# --- RPC: frames and the little of protobuf that is needed, by hand ---

PING, SYSTEM_INFO, ENSURE_RUNTIME, RUNTIME_STATUS = 1, 2, 3, 4
SHUTDOWN, READ_FILE, SANDBOX_LIST = 0x0A, 0x0B, 0x24
ERROR = 0xFFFF


def frame(kind, payload=b"", trace=b""):
    length = 4 + 2 + len(trace) + len(payload)
    return struct.pack(">IIH", length, kind, len(trace)) + trace + payload


def varint(n):
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, value):
    """A field of a message: an integer, text or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields(data):
    """All fields of a message: number -> values in order."""
    found, at = {}, 0
    while at < len(data):
        key, at = read_varint(data, at)
        if key & 7 == 0:
            value, at = read_varint(data, at)
        else:
            size, at = (8, at) if key & 7 == 1 else read_varint(data, at)
            value, at = data[at : at + size], at + size
        found.setdefault(key >> 3, []).append(value)
    return found


class RpcError(Exception):
    def __init__(self, payload):
        self.code, size = struct.unpack(">iI", payload[:8])
        self.text = payload[8:].decode()
        assert size == len(payload) - 8
        super().__init__(f"{self.code}: {self.text}")


class Rpc:
    """A connection. `ask` and `answer` apart allow to pipeline."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_S)
        # With a time limit, connect() does not wait for room in the listener's queue.
        until(lambda: self.socket.connect_ex(str(path)) == 0, f"a connection to {path}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def ask(self, kind, payload=b"", trace=b""):
        self.send(frame(kind, payload, trace))

    def _take(self, n):
        data = bytearray(n)
        view = memoryview(data)
        while view:
            got = self.socket.recv_into(view)
            if got == 0:
                raise EOFError("the agent closed the connection")
            view = view[got:]
        return bytes(data)

    def answer(self):
        """The next frame: type, trace id, payload."""
        length, kind, trace_bytes = struct.unpack(">IIH", self._take(10))
        rest = self._take(length - 6)
        return kind, rest[:trace_bytes], rest[trace_bytes:]

    def call(self, kind, payload=b""):
        """The fields of the answer to one request, or RpcError."""
        self.ask(kind, payload, b"call")
        got, trace, body = self.answer()
        if got == ERROR:
            raise RpcError(body)
        assert (got, trace) == (kind | 0x1000, b"call")
        return fields(body)

    def closed(self):
        """Whether the agent has closed: waits for its next byte or the end."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


# --- DNS ---

loopbacks = 0


def loopback(port=5300):
    """An address on which nobody else listens: of this process, by its id, and of one use."""
    global loopbacks
    loopbacks += 1
    pid = os.getpid()
    return f"127.{pid >> 8 & 0x7F | 0x80}.{pid & 0xFF}.{loopbacks}:{port}"


def dig_command(server, *arguments):
    address, port = server.rsplit(":", 1)
    return ["dig", "-r", f"@{address}", "-p", port, "+tries=2", "+time=10", "+nocookie", *arguments]


def dig(lab, server, *arguments):
    return output(*lab.enter, *dig_command(server, *arguments))


class Dig:
    """One answer, as dig shows it."""

    def __init__(self, lab, server, *arguments):
        self.text = dig(lab, server, *arguments)
        header = re.search(r"status: (\w+), id.*\n;; flags:([a-z ]*);", self.text)
        self.status = header[1]
        self.flags = set(header[2].split())

    def section(self, name):
        """The records of a section, as lists of words."""
        found = re.search(rf"^;; {name} SECTION:\n((?:.+\n)*)", self.text, re.M)
        return [line.split() for line in found[1].splitlines()] if found else []

    def data(self):
        """What the answers say, sorted."""
        return sorted(" ".join(record[4:]) for record in self.section("ANSWER"))


def resolve(agent, names, domain="arcbox.local"):
    """The addresses of many names: name -> set; a name without any is left out."""
    questions = [q for name in names for kind in ("A", "AAAA") for q in (f"{name}.{domain}", kind)]
    found = {}
    text = dig(agent.lab, agent.dns_at, "+noall", "+answer", *questions) if questions else ""
    for line in text.splitlines():
        name, _, _, _, address = line.split()
        found.setdefault(name.removesuffix(f".{domain}."), set()).add(address)
    return found


# --- Docker ---


class Docker:
    """A private engine in a NetLab. It can be killed and started again; its containerd stays."""

    IMAGE = "box"

    def __init__(self, lab):
        self.lab = lab
        self.dir = lab.dir / "docker"
        self.dir.mkdir()
        self.socket = lab.dir / "docker.sock"
        self.process = None
        self._start_containerd()

    def _start_logged(self, program, **options):
        given = [f"--{option.replace('_', '-')}={value}" for option, value in options.items()]
        with open(self.dir / "log", "ab") as log:
            return self.lab.start(
                program, *given, stdout=log, stderr=log, env={**os.environ, "PATH": PATH}
            )

    def _start_containerd(self):
        config = self.dir / "containerd.toml"
        config.write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
        self.containerd = self.dir / "containerd.sock"
        self._start_logged(
            "containerd",
            config=config,
            address=self.containerd,
            root=self.dir / "containerd-root",
            state=self.dir / "containerd-state",
        )

    def start(self):
        """Starts dockerd and waits until it answers; False when it ends instead."""
        self.process = self._start_logged(
            "dockerd",
            host=f"unix://{self.socket}",
            containerd=self.containerd,
            data_root=self.dir / "data",
            exec_root=self.dir / "exec",
            pidfile=self.dir / "pid",
        )
        until(lambda: self.answers() or self.process.poll() is not None, "dockerd's start")
        return self.process.poll() is None

    def answers(self):
        return run(*self.command("version")).returncode == 0

    def kill(self):
        self.process.kill()
        self.process.wait()

    def load_image(self):
        """An image of nothing but a static busybox."""
        root = self.dir / "image"
        for name in ("bin", "dev", "proc", "sys", "etc", "tmp"):
            (root / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", root / "bin")
        for name in ("sh", "sleep", "cat", "echo", "seq", "wc", "true"):
            (root / "bin" / name).symlink_to("busybox")
        archive = output("tar", "-C", str(root), "-c", ".", text=False)
        self.cli("import", "-", self.IMAGE, input=archive)

    def command(self, *arguments, socket_path=None):
        host = f"unix://{socket_path or self.socket}"
        return ["docker", "--config", str(self.dir / "config"), "-H", host, *arguments]

    def cli(self, *arguments, **options):
        return output(*self.command(*arguments), **options)

    def run(self, name, *options, command=("sleep", "1000")):
        """Starts a container that stays. A program that is PID 1 ends by nothing but SIGKILL."""
        how = ("-d", "--name", name, "--stop-signal", "KILL")
        self.cli("run", *how, *options, self.IMAGE, *command)
        return name

    def remove(self, *names):
        self.cli("rm", "-f", *names)

    def inspect_running(self):
        ids = self.cli("ps", "-q", "--no-trunc").split()
        return json.loads(self.cli("inspect", *ids)) if ids else []

    def names(self):
        """The truth that DNS is held against: name -> addresses of the running containers."""
        truth = {}
        for container in self.inspect_running():
            addresses = container_addresses(container)
            for name in container_names(container) if addresses else ():
                truth.setdefault(name, set()).update(addresses)
        return truth


def container_addresses(container):
    networks = container["NetworkSettings"]["Networks"].values()
    return {n[key] for n in networks for key in ("IPAddress", "GlobalIPv6Address") if n[key]}


def container_names(container):
    labels = container["Config"]["Labels"] or {}
    project = labels.get("com.docker.compose.project")
    service = labels.get("com.docker.compose.service")
    names = {container["Name"].lstrip("/")}
    if project and service:
        names.add(f"{service}.{project}")
    for network in container["NetworkSettings"]["Networks"].values():
        for alias in (network.get("Aliases") or []) + (network.get("DNSNames") or []):
            if not container["Id"].startswith(alias):
                names.add(alias)
    return names


def start_docker(lab):
    """An engine with the image in it; the test is skipped when none can run here."""
    if os.geteuid() != 0 or not shutil.which("dockerd", path=PATH):
        raise unittest.SkipTest("a Docker engine needs root and dockerd")
    docker = Docker(lab)
    if not docker.start():
        reason = (docker.dir / "log").read_text().strip().splitlines()[-1]
        raise unittest.SkipTest(f"no Docker engine can run here: {reason}")
    docker.load_image()
    return docker
