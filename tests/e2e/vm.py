"""Virtual machines for the tests: the agent is PID 1, and a probe does what the agent will not.

What a machine is made of comes from tools/guest.py; this adds the ways to ask it.
"""

import json
import os
import re
import shutil
import sys
import tempfile
import time
import unittest
from pathlib import Path

import lab
from lab import AGENT, BUILD, until

TOOLS = Path(__file__).resolve().parents[2] / "tools"
sys.path.insert(0, str(TOOLS))
import guest  # noqa: E402

CTL = BUILD / "arcboxctl"
PROBE = BUILD / "probe"
BRIDGE = BUILD / "vsock-bridge"
PROBE_PORT = 9000
IN_GUEST = "/sbin/arcbox-agent"


def skip_without_machines():
    missing = guest.missing_tool()
    if missing:
        raise unittest.SkipTest(missing)


def is_sanitized():
    """Whether the agent is not the one that ships; it needs /proc, and more memory."""
    return b"__asan_init" in AGENT.read_bytes()


def program_files(program, place):
    """A program of the host and its libraries: place in the guest -> file of the host."""
    libraries = re.findall(r"(/\S+) \(", lab.run("ldd", program).stdout)
    return {place: program, **{path: path for path in libraries}}


class ProbeError(Exception):
    pass


class Vm:
    """A machine that has booted: it ends with the lab.

    files:   more for the initramfs: place in the guest -> file of the host
    modules: more to load, by name
    others:  see guest.Machine
    """

    MODULES = (*guest.MODULES, "binfmt_misc")

    def __init__(self, home, files=None, modules=(), cmdline="", **others):
        skip_without_machines()
        if is_sanitized():
            cmdline += " probe.proc"
            others.setdefault("memory_mib", 512)
        folder = Path(tempfile.mkdtemp(prefix="vm", dir=home.dir))
        files = {**(files or {}), **program_files(AGENT, IN_GUEST)}
        given = [f"--file={file}:{place}:755" for place, file in files.items()]
        try:
            kernel = guest.Kernel.find(BUILD / "kernel")
            initramfs = guest.make_initramfs(
                folder / "initramfs", kernel, PROBE, *given, modules=(*self.MODULES, *modules)
            )
            self.machine = guest.Machine(
                folder, BRIDGE, kernel, initramfs, cmdline=cmdline, **others
            )
        except guest.Unavailable as error:
            raise unittest.SkipTest(str(error)) from None
        home.processes += self.machine.processes
        self.until(self.pings, "the first answer")
        self.boot_s = time.monotonic() - self.machine.started_s

    # --- what it says ---

    def console(self):
        return self.machine.console()

    def until(self, condition, what, patience_s=lab.PATIENCE_S):
        """As lab.until, but a machine that is off does nothing any more."""

        def met_or_off():
            return condition() or (not self.machine.is_on() and "off")

        try:
            value = until(met_or_off, what, patience_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.console()[-6000:]}") from None
        if value == "off":
            raise AssertionError(f"the machine is off: {what}\n{self.console()[-6000:]}")
        return value

    # --- asking the agent ---

    def command(self, *arguments):
        return [CTL, "--host", self.machine.host, "--timeout", "30s", *map(str, arguments)]

    def pings(self):
        return lab.run(*self.command("ping")).returncode == 0

    def ctl(self, *arguments, **options):
        """The agent's answer."""
        return json.loads(lab.output(*self.command("--json", *arguments), **options))

    def read(self, path):
        """A file, by the agent."""
        return lab.output(*self.command("read", path))

    # --- asking the probe ---

    def ask(self, *words):
        """A stream from which the answer comes."""
        stream = self.until(lambda: self.machine.connect(PROBE_PORT), "the probe")
        stream.sendall((" ".join(map(str, words)) + "\n").encode())
        return stream

    def probe(self, *words):
        """What a verb says; one that fails is a ProbeError."""
        with self.ask(*words) as stream:
            return answer_of(stream)

    def stat(self, path):
        """Mode with type, uid, gid."""
        mode, uid, gid, *_ = self.probe("stat", path).split()
        return int(mode, 8), int(uid), int(gid)

    def file(self, path):
        """A file, by the probe: also those of the kernel."""
        return self.probe("read", path)

    def mounts(self):
        """What is mounted, the last one of a path: path -> (source, type, set of options)."""
        lines = [line.split() for line in self.file("/proc/mounts").splitlines()]
        return {path: (source, kind, set(o.split(","))) for source, path, kind, o, *_ in lines}

    def processes(self):
        """pid -> (parent, state, name), of what is no thread of the kernel."""
        lines = [line.split(" ", 3) for line in self.probe("ps").splitlines()]
        return {
            int(pid): (int(parent), state, name)
            for pid, parent, state, name in lines
            if 2 not in (int(pid), int(parent))
        }

    def zombies(self):
        return [p for p in self.processes().values() if p[1] == "Z"]

    def listening_us(self):
        """From the agent's start until it served RPC, by its own log."""
        return int(re.search(r"listening at=vsock:1024 .*after_us=(\d+)", self.console())[1])

    def agent_memory_bytes(self):
        rollup = self.file("/proc/1/smaps_rollup")
        return 1024 * int(next(l.split()[1] for l in rollup.splitlines() if l.startswith("Pss:")))

    def agent_descriptors(self):
        return len(self.probe("list", "/proc/1/fd").split())

    # --- its end ---

    def wait_off(self):
        return self.machine.wait_off(lab.PATIENCE_S)


def answer_of(stream):
    answer = b"".join(iter(lambda: stream.recv(65536), b"")).decode()
    if answer.startswith("error: "):
        raise ProbeError(answer)
    return answer


def tool(name):
    """A program of the host, also of root's part of PATH."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:{lab.PATH}")
    if not found:
        raise unittest.SkipTest(f"{name} is not installed: see tools/setup")
    return found


def make_ext4(path, *options):
    """A file with an ext4 filesystem in it."""
    with open(path, "wb") as disk:
        disk.truncate(32 << 20)
    lab.output(tool("mkfs.ext4"), "-q", "-F", *options, path)
    return path
