"""What the tests of sandboxes stand on: an agent that boots them by tests/firecracker, in a network
namespace of its own, the host that asks it, and what the machine itself says of them.
"""

import json
import os
import re
import unittest
from contextlib import contextmanager
from pathlib import Path

from lab import AGENT, BUILD, ERROR, Agent, NetLab, Rpc, RpcError
from lab import descriptors, field, fields, loopback, output, until
from test_arcboxctl import ctl, error
from test_arcboxctl_sandbox import NOT_RUN

CREATE, STOP, REMOVE, INSPECT, LIST = range(0x20, 0x25)
RUN, EXEC, EVENTS, INPUT = range(0x30, 0x34)
CHECKPOINT, RESTORE, SNAPSHOTS, RM_SNAPSHOT = range(0x40, 0x44)

STAND_INS = Path(__file__).resolve().parent.parent / "firecracker"
NO_KVM = "sandboxes need root and /dev/kvm, which the agent looks for"
ROOTFS_BYTES = 1 << 18
MEMORY_MIB = 4
INPUT_PIECE = 1 << 18
HUNG_S = 300  # after which a VMM is given up: later than any test


class SandboxLab(NetLab):
    """Files to boot from, the configuration, and the switches of all VMs."""

    def __init__(self):
        if os.geteuid() != 0 or not os.path.exists("/dev/kvm"):
            raise unittest.SkipTest(NO_KVM)
        super().__init__()
        self.data = self.dir / "data"
        self.homes = self.data / "sandboxes"
        self.config = self.dir / "vmm.toml"
        (self.dir / "kernel").write_bytes(b"kernel")
        (self.dir / "rootfs").write_bytes(os.urandom(ROOTFS_BYTES))
        self.configure()
        self.switch()

    def configure(self, jailer=""):
        """Writes the configuration; in a jail, when what it says of the jailer is given."""
        self.config.write_text(
            f"""[firecracker]
binary = "{STAND_INS}/firecracker"
data_dir = "{self.data}"
socket_timeout_secs = {HUNG_S}
{jailer}
[defaults]
kernel = "{self.dir}/kernel"
rootfs = "{self.dir}/rootfs"
memory_mib = {MEMORY_MIB}
"""
        )

    def switch(self, **rules):
        """What is to go wrong from now on: see tests/firecracker/switches.py."""
        new = self.dir / "switches.new"
        new.write_text(json.dumps(rules))
        new.rename(self.dir / "switches")

    def agent(self, *options):
        env = {
            **os.environ,
            "BUILD": str(BUILD),
            "FIRECRACKER_SWITCHES": str(self.dir / "switches"),
            "FIRECRACKER_GUEST": f"{AGENT.parent}/vm-agent "
            "--exec unix:{dir}/52 --files unix:{dir}/53",
        }
        given = (f"--dns={loopback()}", f"--vmm-config={self.config}", *options)
        return Agent(self, *given, env=env)

    # --- what the machine says ---

    def taps(self):
        links = json.loads(output("ip", "-n", self.netns, "-json", "link", "show"))
        return {link["ifname"] for link in links if link["ifname"].startswith("vmtap")}

    def directories(self):
        return set(os.listdir(self.homes)) if self.homes.exists() else set()

    def snapshots(self):
        """Directories of the catalogue, those under way among them."""
        return {path.name for path in (self.data / "snapshots").glob("*/*")}

    def pids(self):
        """Whoever runs in the network namespace: the agent, VMMs, guests, and their commands."""
        return set(self._pids())

    def vmms(self, agent):
        """The ids of those whose VMM runs."""
        ids = map(vmm_id, children(agent.pid))
        return {vm_id for vm_id in ids if vm_id}


def children(pid):
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


class AtRest:
    """What an agent holds when it has no sandboxes. One of its children keeps the log's file."""

    def __init__(self, lab, agent):
        self.lab, self.agent = lab, agent
        until(lambda: len(children(agent.pid)) < 2, "the end of what the agent's start takes")
        agent.ping()  # behind whatever the end of the last one led to
        self.pids = {agent.pid, *children(agent.pid)}
        self.descriptors = descriptors(agent.pid)

    def check(self):
        """Waits until nothing more than that is left."""
        self.agent.settled(self.descriptors)
        for what, left in (
            ("processes", lambda: self.lab.pids() - self.pids),
            ("devices", self.lab.taps),
            ("directories", self.lab.directories),
        ):
            until(lambda left=left: not left(), lambda w=what, left=left: f"no {w}: {left()}")


def vmm_id(pid):
    """What a VMM was told to be called; None when that process is none, or no more."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return words[words.index("--id") + 1] if "--id" in words else None


def tap_of(address):
    return "vmtap{2}-{3}".format(*address.split("."))


# --- the host ---


def pairs(number, mapping):
    return b"".join(field(number, field(1, k) + field(2, v)) for k, v in mapping.items())


def text(message, number):
    return message.get(number, [b""])[0].decode()


@contextmanager
def refused(code, *words):
    """What is asked within is to be answered by an error: with this code, and these words."""
    try:
        yield
    except RpcError as why:
        assert why.code == code and all(word in why.text for word in words), (why, code, words)
    else:
        raise AssertionError(f"not refused with {code} {words}")


class Done:
    """How a command ended, and what it wrote."""

    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    def __eq__(self, other):
        return (self.status, self.out, self.err) == other

    def __repr__(self):
        return f"({self.status}, {self.out!r}, {self.err!r})"


class Host(Rpc):
    """A connection that speaks of sandboxes. What is refused is an RpcError."""

    def __init__(self, agent):
        super().__init__(agent.socket)

    def create(self, name, network="tap", labels=()):
        request = field(1, name) + pairs(2, dict(labels)) + field(13, field(1, network))
        answer = self.call(CREATE, request)
        assert text(answer, 3) == "starting"
        return text(answer, 2)

    def ready(self, name):
        """Waits for the end of its start."""
        until(lambda: self.state(name) != "starting", f"the start of {name}")
        assert self.state(name) == "ready", self.inspect(name)

    def inspect(self, name):
        return self.call(INSPECT, field(1, name))

    def state(self, name):
        return text(self.inspect(name), 2)

    def list(self):
        """Of each sandbox: its state and its address."""
        rows = map(fields, self.call(LIST).get(1, []))
        return {text(row, 1): (text(row, 2), text(row, 4)) for row in rows}

    def stop(self, name, seconds=0):
        self.call(STOP, field(1, name) + field(2, seconds))

    def remove(self, name, force=False):
        self.call(REMOVE, field(1, name) + field(2, int(force)))

    def checkpoint(self, name):
        return text(self.call(CHECKPOINT, field(1, name) + field(2, "named")), 1)

    def restore(self, snapshot, name="", override=False):
        request = field(1, name) + field(2, snapshot) + field(4, int(override))
        return text(self.call(RESTORE, request), 2)

    def snapshots(self):
        return {text(fields(row), 1) for row in self.call(SNAPSHOTS).get(1, [])}

    def remove_snapshot(self, snapshot):
        self.call(RM_SNAPSHOT, field(1, snapshot))

    # --- commands ---

    def begin(self, kind, name, *words, tty=False, size=None, seconds=0):
        request = field(1, name) + b"".join(field(2, word) for word in words)
        request += field(6, int(tty))
        if size:
            request += field(7, field(1, size[0]) + field(2, size[1]))
        self.ask(kind, request + field(8 if kind == EXEC else 7, seconds))

    def feed(self, *pieces):
        """Sends input, and its end, which is an empty piece."""
        for piece in (*pieces, b""):
            self.ask(INPUT, piece)

    def outputs(self):
        """What it writes as it comes, (stream, bytes), at last ("exit", status)."""
        while True:
            kind, _, payload = self.answer()
            if kind == ERROR:
                raise RpcError(payload)
            message = fields(payload)
            stream = text(message, 1)
            if message.get(4):
                yield stream, message.get(3, [0])[0]
                return
            yield stream, message[2][0]

    def until_output(self, wanted):
        """Reads until the standard output holds these bytes, and returns it."""
        out = b""
        while wanted not in out:
            kind, _, payload = self.answer()
            if kind == ERROR:
                raise RpcError(payload)
            out += fields(payload)[2][0]
        return out

    def end(self):
        wrote = {"stdout": [], "stderr": [], "exit": []}
        for stream, value in self.outputs():
            wrote[stream].append(value)
        (status,) = wrote["exit"]
        return Done(status, b"".join(wrote["stdout"]), b"".join(wrote["stderr"]))

    def run(self, name, *words, **how):
        self.begin(RUN, name, *words, **how)
        return self.end()

    def exec(self, name, *words, data=b"", **how):
        self.begin(EXEC, name, *words, **how)
        self.feed(*(data[at : at + INPUT_PIECE] for at in range(0, len(data), INPUT_PIECE)))
        return self.end()


def refusal(message):
    """The agent's error, out of what arcboxctl says."""
    code, why = re.search(r"(\d+): (.*)", message).groups()
    return RpcError(error(int(code), why.encode()))


class Ctl:
    """The same by arcboxctl. Its tables are for people: what is wanted of them is asked as JSON."""

    def __init__(self, agent):
        self.at = ("-H", f"unix:{agent.socket}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ask(self, *words):
        """What it wrote, without the end of the line; a refusal is the agent's own."""
        done = ctl(*self.at, *words)
        if done.returncode:
            raise refusal(done.stderr)
        return done.stdout.rstrip("\n")

    def create(self, name, network="tap", labels=()):
        labels = [f"--label={key}={value}" for key, value in dict(labels).items()]
        assert self.ask("create", "--id", name, f"--network={network}", *labels) == name

    def ready(self, name):
        until(lambda: self.state(name) != "starting", f"the start of {name}")
        assert self.state(name) == "ready"

    def state(self, name):
        return json.loads(self.ask("inspect", "--json", name))["state"]

    def stop(self, name):
        self.ask("stop", name)

    def remove(self, name, force=False):
        self.ask("rm", *(["--force"] if force else []), name)

    def checkpoint(self, name):
        return self.ask("checkpoint", name, "--name=named")

    def remove_snapshot(self, snapshot):
        self.ask("rm-snapshot", snapshot)

    def run(self, name, *words):
        return self.end("run", name, *words)

    def exec(self, name, *words, data=b""):
        return self.end("exec", "-i", name, *words, data=data)

    def end(self, *words, data=b""):
        """How a command ended; arcboxctl has a status of its own for one that was refused."""
        done = ctl(*self.at, *words, input=data)
        if done.returncode == NOT_RUN:
            raise refusal(done.stderr.decode())
        return Done(done.returncode, done.stdout, done.stderr)
