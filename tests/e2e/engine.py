"""A virtual machine with the container runtime in its root, which the agent brings up."""

import os
import re
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from statistics import median, quantiles

import lab
from lab import AGENT, BUILD
from vm import CTL, IN_GUEST, PROBE, Vm, guest, is_sanitized, skip_without_machines

LONG = bool(os.environ.get("LONG"))  # the full numbers, which take an emulator long
SIGKILL = 9
RPC_PORT, DOCKER_PORT, KUBERNETES_PORT = 1024, 2375, 16443
BUSYBOX = "/bin/busybox"
PULSE_S = 0.02
START_S = 100  # for all of the runtime to come up, by an emulator on a busy machine


class VsockRpc(lab.Rpc):
    """RPC over a vsock that is one."""

    def __init__(self, machine):
        self.socket = machine.connect(RPC_PORT)
        if not self.socket:
            raise AssertionError("nobody listens for RPC")


class Ensured:
    """The answer to EnsureRuntime."""

    def __init__(self, fields):
        self.ready = bool(fields.get(1, [0])[0])
        self.endpoint, self.message, self.status = (
            fields.get(number, [b""])[0].decode() for number in (2, 3, 4)
        )

    def __repr__(self):
        return f"{self.status} (ready: {self.ready}): {self.message}"


class Pulse:
    """Pings all the while, and knows how long each answer took; one that failed fails its end."""

    def __init__(self, agent):
        self.rpc = agent.rpc()
        self.took_ms = []
        self.over = threading.Event()
        self.pool = ThreadPoolExecutor(1)

    def _beat(self):
        while not self.took_ms or not self.over.wait(PULSE_S):
            sent_s = time.monotonic()
            self.rpc.call(lab.PING)
            self.took_ms.append(1000 * (time.monotonic() - sent_s))

    def __enter__(self):
        self.beating = self.pool.submit(self._beat)
        return self

    def __exit__(self, *_):
        self.over.set()
        self.pool.shutdown()
        self.rpc.socket.close()
        self.beating.result()

    @property
    def count(self):
        return len(self.took_ms)

    def __str__(self):
        if self.count < 2:
            return f"{self.count} pings"
        p99 = quantiles(self.took_ms, n=100, method="inclusive")[-1]
        return (
            f"{self.count} pings: median {median(self.took_ms):.1f} ms,"
            f" p99 {p99:.1f} ms, max {max(self.took_ms):.1f} ms"
        )


class EngineVm(Vm):
    """Its data volume is the disk `data`; words are more for the kernel's command line."""

    FILES = ()  # more for the root: "SRC:DEST[:MODE]"
    WORDS = ("probe.root=erofs", "arcbox.docker_dns=172.17.0.1", "arcbox.log=debug")

    def __init__(self, home, data, *words):
        self.home, self.data = home, data
        self.environment = {
            **os.environ,
            "DOCKER_CONFIG": str(home.dir / "docker-config"),
            "DOCKER_BUILDKIT": "0",  # the builder that needs no other program
        }
        super().__init__(
            home,
            modules=guest.RUNTIME_MODULES,
            cmdline=" ".join((*self.WORDS, *words)),
            disks=[make_root(home, self.FILES), data],
            memory_mib=640,
            cpus=2,
        )

    # --- the runtime, by RPC ---

    def rpc(self):
        return VsockRpc(self.machine)

    def ensure(self, start=True):
        with self.rpc() as rpc:
            return Ensured(rpc.call(lab.ENSURE_RUNTIME, lab.field(1, int(start))))

    def status(self):
        """The answer, and service -> status."""
        status = self.ctl("status")
        return status, {service["name"]: service["status"] for service in status["services"]}

    def wait_ready(self):
        return self.wait_ensured(lambda ensured: ensured.ready, "the runtime")

    def wait_ensured(self, condition, what, start=True):
        """Asks for the runtime until an answer is as it should be."""
        last = None

        def met():
            nonlocal last
            last = self.ensure(start)
            return condition(last)

        self.until(met, lambda: f"{what}; the last answer is {last}", START_S)
        return last

    # --- the engine ---

    def docker_command(self, *arguments):
        return [CTL, "--host", self.machine.host, "docker", *map(str, arguments)]

    def docker(self, *arguments, **options):
        """What the command line outside the machine says."""
        command = self.docker_command(*arguments)
        return lab.output(*command, env=self.environment, **options).strip()

    def load_image(self):
        self.docker("import", "-", "box", input=guest.image_archive())

    def run(self, script, *options):
        """A container of a shell: what it says, or its id. To make a network for it takes long."""
        given = options if "--network" in options else ("--network", "host", *options)
        return self.docker("run", *given, "box", "sh", "-c", script)

    def start(self, name, script, *options):
        """One that goes on."""
        return self.run(script, "-d", "--name", name, *options)

    def address(self, name):
        return self.docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name)

    # --- its inside ---

    def busybox(self, *words):
        """What a command says that has to work."""
        said = self.probe("run", BUSYBOX, *words)
        if not said.endswith("status 0\n"):
            raise AssertionError(f"{' '.join(map(str, words))}: {said}")
        return said.removesuffix("status 0\n")

    def throttle(self, **limits):
        """The data disk from now on: bps, iops_wr, ... a second; as fast as it is without any."""
        kinds = (f"{kind}{way}" for kind in ("bps", "iops") for way in ("", "_rd", "_wr"))
        rates = {**dict.fromkeys(kinds, 0), **limits}
        self.machine.qmp("block_set_io_throttle", device="disk1", **rates)

    def pids(self, name):
        """Also of one that is dying: what it listens on is there as long as any thread of it."""
        return [pid for pid, (_, _, found) in self.processes().items() if found == name]

    def kill(self, name):
        """The one process of that name; returns when it is no more."""
        (pid,) = self.pids(name)
        self.probe("kill", pid, SIGKILL)
        self.until(lambda: pid not in self.processes(), f"the end of {name}")

    def resolve(self, name):
        """The addresses that the guest's own resolver gives for a name."""
        return addresses_in(self.probe("run", BUSYBOX, "nslookup", name, "127.0.0.1"))


def make_root(home, more):
    """The first machine of a lab makes it, the others have the same."""
    skip_without_machines()
    if is_sanitized():
        raise unittest.SkipTest("an engine takes long: once, with the agent that ships")
    image = home.dir / "root.erofs"
    files = (f"{PROBE}:/init:755", f"{AGENT}:{IN_GUEST}:755", f"{BUSYBOX}:{BUSYBOX}:755", *more)
    return image if image.exists() else runtime_image(image, *files)


def runtime_image(path, *files):
    try:
        return guest.make_runtime_root(path, BUILD / "runtime", *files)
    except guest.Unavailable as error:
        raise unittest.SkipTest(str(error)) from None


def addresses_in(nslookup):
    """Those of the name that was asked for; the server's comes first, with a port."""
    return set(re.findall(r"(?m)^Name:.*\nAddress[^:]*: (\S+)", nslookup))
