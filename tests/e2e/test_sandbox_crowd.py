"""Many sandboxes at once, and what is left when the agent is killed in their midst.

LONG=1 plays more rounds, each with a seed of its own.
"""

import os
import random
import signal
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from lab import PATIENCE_S, LabTest, end, memory_bytes, mib, resolve, until
from sandboxes import EXEC, STAND_INS, AtRest, Ctl, Host, SandboxLab, refused, tap_of

ROUNDS = 10 if os.environ.get("LONG") else 1
KILLS = 20 if os.environ.get("LONG") else 2
SANDBOXES = 50
CONNECTIONS = 16  # at a time; each step has one of its own
LOOKS = 4  # at how all agrees, while things go on
INPUT_BYTES = 1 << 17

# How a sandbox goes once it is ready. "interrupt" removes it by force from under a command.
MIDDLES = ("run", "exec", "create_again", "checkpoint", "fail_to_run")
ENDS = (("remove",), ("stop", "remove"), ("stop", "refuse_all", "remove"), ("interrupt",))


class Life:
    """One sandbox: what is done with it, in this order, and what it has to be in between."""

    def __init__(self, agent, name, rng):
        self.agent, self.name = agent, name
        self.network = rng.choice(("tap", "tap", "tap", "none"))
        self.data = rng.randbytes(INPUT_BYTES)
        self.steps = ["create", "become_ready", *self.plan(rng)]
        if rng.random() < 0.3:  # once more, as another of the same name
            self.steps += ["create", *rng.choice((("become_ready", "remove"), ("remove",)))]
        self.ways = [rng.choice((Host, Host, Ctl)) for _ in self.steps]
        self.state = ""  # not there
        self.snapshot = ""
        self.at, self.turn = 0, threading.Condition()

    @staticmethod
    def plan(rng):
        yield "run"  # of a guest that has not come up yet a shutdown is not heard
        yield from rng.choices(MIDDLES, k=rng.randrange(1, 4))
        yield from rng.choice(ENDS)

    def step(self, number):
        """Takes a step when it is its turn: those of one sandbox do not overtake each other."""
        with self.turn:
            assert self.turn.wait_for(lambda: self.at == number, PATIENCE_S)
        try:
            with self.ways[number](self.agent) as host:
                getattr(self, self.steps[number])(host)
        except Exception as error:
            raise AssertionError(f"{self.name}, {self.steps[: number + 1]}: {error!r}") from error
        finally:
            with self.turn:
                self.at += 1
                self.turn.notify_all()

    # --- the steps ---

    def create(self, host):
        host.create(self.name, network=self.network, labels={"crowd": self.name})
        self.state = "starting"

    def create_again(self, host):
        with refused(500, self.name, "the id is used"):
            host.create(self.name)

    def become_ready(self, host):
        host.ready(self.name)
        self.state = "ready"

    def run(self, host):
        assert host.run(self.name, "sh", "-c", f"echo {self.name}; exit 3") == (
            3, self.name.encode() + b"\n", b"",
        )  # fmt: skip

    def exec(self, host):
        done = host.exec(self.name, "sh", "-c", "echo begun >&2; cat", data=self.data)
        assert done == (0, self.data, b"begun\n")

    def fail_to_run(self, host):
        done = host.run(self.name, "/no/such/program")
        assert (done.status, done.out) == (127, b""), done

    def checkpoint(self, host):
        if self.snapshot:
            host.remove_snapshot(self.snapshot)
        self.snapshot = host.checkpoint(self.name)

    def stop(self, host):
        host.stop(self.name)
        self.state = "stopped"

    def refuse_all(self, host):
        with refused(500, self.name, "stopped"):
            host.stop(self.name)
        with refused(500, self.name, "not ready"):
            host.checkpoint(self.name)

    def remove(self, host):
        host.remove(self.name, force=True)
        self.state = ""

    def interrupt(self, host):
        """Removed by force while a command runs, which is told to its host."""
        with Host(self.agent) as other:
            other.begin(EXEC, self.name, "sh", "-c", "echo begun; sleep 1000")
            other.until_output(b"begun")
            with refused(500, self.name, "use force"):
                host.remove(self.name)
            self.remove(host)
            with refused(500, "the sandbox was removed"):
                other.end()


class Crowd(LabTest):
    lab_class = SandboxLab

    def assert_agreed(self, agent, lives):
        """The list, the names, the devices, the processes and the disk tell of the same."""
        with Host(agent) as host:
            listed, snapshots = host.list(), host.snapshots()
        states = {name: state for name, (state, _) in listed.items()}
        addresses = {name: address for name, (_, address) in listed.items() if address}
        ready = {name for name, state in states.items() if state == "ready"}
        starting = {name for name, state in states.items() if state == "starting"}
        self.assertEqual(states.keys(), {life.name for life in lives if life.state})
        for life in lives:
            if life.state not in ("", "starting"):
                self.assertEqual(states[life.name], life.state, life.name)
            self.assertEqual(life.name in addresses, bool(life.state) and life.network == "tap")
        self.assertEqual(len(set(addresses.values())), len(addresses))
        self.assertEqual(self.lab.taps(), set(map(tap_of, addresses.values())))
        names = resolve(agent, [life.name for life in lives])
        self.assertEqual(names, {name: {address} for name, address in addresses.items()})
        homes, vmms = self.lab.directories(), self.lab.vmms(agent)
        self.assertEqual(homes - starting, states.keys() - starting)
        self.assertEqual(vmms - starting, ready)
        self.assertEqual(snapshots, {life.snapshot for life in lives if life.snapshot})
        self.assertEqual(snapshots, self.lab.snapshots())
        return states

    def play(self, steps):
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(lambda step: step[0].step(step[1]), steps))

    def test_many_come_and_go(self):
        agent = self.lab.agent()
        self.addCleanup(agent.stop)
        at_rest, memory = AtRest(self.lab, agent), memory_bytes(agent.pid)
        for seed in range(ROUNDS):
            with self.subTest(seed=seed):
                self.come_and_go(agent, random.Random(seed))
                at_rest.check()
        self.note(f"{mib(memory_bytes(agent.pid) - memory)} more memory after {ROUNDS} rounds")

    def come_and_go(self, agent, rng):
        lives = [Life(agent, f"box{i}", rng) for i in range(SANDBOXES)]
        begun = time.monotonic()
        self.play(in_order(rng, {life: range(2) for life in lives}))
        states = self.assert_agreed(agent, lives)
        self.assertEqual(set(states.values()), {"ready"})
        self.note(f"{SANDBOXES} ready after {time.monotonic() - begun:.1f} s, "
                  f"{mib(memory_bytes(agent.pid))} of memory")  # fmt: skip
        steps = in_order(rng, {life: range(2, len(life.steps)) for life in lives})
        looks = [0, *sorted(rng.sample(range(1, len(steps)), LOOKS)), len(steps)]
        for begin, stop in zip(looks, looks[1:]):
            self.play(steps[begin:stop])
            states = self.assert_agreed(agent, lives)
        self.assertEqual(states, {})
        self.note(f"{len(steps)} more steps, all gone after {time.monotonic() - begun:.1f} s")
        with Host(agent) as host:
            for snapshot in host.snapshots():
                host.remove_snapshot(snapshot)
        self.assertEqual(self.lab.snapshots(), set())


def in_order(rng, numbers):
    """All the steps, (life, number), in a random order that is for each life its own."""
    order = [life for life, of_it in numbers.items() for _ in of_it]
    rng.shuffle(order)
    left = {life: iter(of_it) for life, of_it in numbers.items()}
    return [(life, next(left[life])) for life in order]


class Killed(LabTest):
    """The agent is killed, and another one started in its place."""

    lab_class = SandboxLab

    def kill(self, agent):
        """Not before there is something to clean."""
        self.assertTrue(self.lab.taps() and self.lab.vmms(agent))
        end(agent.process, signal.SIGKILL)

    def start(self):
        """Another agent, once it has cleaned up: its sandboxes, names and devices are none."""
        agent = self.lab.agent()
        self.addCleanup(end, agent.process)
        at_rest = AtRest(self.lab, agent)
        at_rest.check()
        with Host(agent) as host:
            self.assertEqual(host.list(), {})
        return agent, at_rest

    def test_in_the_midst_of_all(self):
        for seed in range(KILLS):
            with self.subTest(seed=seed):
                self.kill_in_the_midst(random.Random(seed))

    def kill_in_the_midst(self, rng):
        agent, _ = self.start()
        old = [f"old{i}" for i in range(rng.randrange(3, 8))]
        midst = Midst(agent)
        with Host(agent) as host:
            for name in old:
                host.create(name)
            for name in old:
                host.ready(name)
        midst.begin(old)
        enough = rng.randrange(10, 40)
        until(lambda: midst.done >= enough, "something to be in the midst of")
        self.kill(agent)
        midst.end()
        until(lambda: not self.lab.pids(), "the end of the VMs, which goes with the agent's")
        agent, at_rest = self.start()
        self.assertEqual(resolve(agent, old), {})
        self.restore(agent, midst)
        at_rest.check()
        self.note(f"killed after {midst.done} answers, {len(midst.snapshots)} snapshots restored")
        agent.stop()

    def restore(self, agent, midst):
        """Every snapshot that the killed one told of is there, and of use; so is any other that is
        listed, which was told too late."""
        with Host(agent) as host:
            listed = host.snapshots()
            self.assertEqual(listed, self.lab.snapshots())
            self.assertLessEqual(midst.snapshots.keys(), listed)
            self.assertLessEqual(len(listed), len(midst.snapshots) + midst.savers)
            for snapshot in listed:
                address = host.restore(snapshot, "again", override=True)
                host.ready("again")
                self.assertEqual(resolve(agent, ["again"]), {"again": {address}})
                self.assertEqual(host.run("again", "echo", "well"), (0, b"well\n", b""))
                host.remove("again")
                host.remove_snapshot(snapshot)
        self.assertEqual(self.lab.snapshots(), set())

    def test_with_machines_that_outlive_it(self):
        """In a PID namespace of their own they do not end with it: the next agent ends them."""
        self.lab.configure(
            f"""[firecracker.jailer]
binary = "{STAND_INS}/jailer"
uid = 1234
gid = 1234
chroot_base_dir = "{self.lab.dir}/jails"
new_pid_ns = true
"""
        )
        self.addCleanup(self.lab.configure)
        agent, _ = self.start()
        names = {f"jailed{i}" for i in range(3)}
        with Host(agent) as host:
            for name in names:
                host.create(name)
            for name in names:
                host.ready(name)
                self.assertEqual(host.run(name, "echo", name).status, 0)
        jails = self.lab.dir / "jails/firecracker"
        self.assertEqual(set(os.listdir(jails)), names)
        end(agent.process, signal.SIGKILL)
        self.assertGreaterEqual(len(self.lab.pids()), len(names))
        agent, at_rest = self.start()
        self.assertEqual(os.listdir(jails), [])
        at_rest.check()
        agent.stop()


class Midst:
    """Hosts that keep an agent busy until it is gone."""

    CREATED = 30

    def __init__(self, agent):
        self.agent = agent
        self.done = 0  # answers that came
        self.snapshots = {}  # and those that told of a snapshot: of which sandbox it is
        self.savers = 0
        self.pool = ThreadPoolExecutor(CONNECTIONS)
        self.work = []

    def begin(self, names):
        """A third of the sandboxes is saved over and over, the others run commands."""
        self.start(self.create)
        for i, name in enumerate(names):
            self.start(self.save if i % 3 == 0 else self.run, name)
            self.savers += i % 3 == 0

    def start(self, work, *arguments):
        self.work.append(self.pool.submit(self.until_the_end, work, *arguments))

    def until_the_end(self, work, *arguments):
        with suppress(EOFError, ConnectionError), Host(self.agent) as host:
            work(host, *arguments)

    def create(self, host):
        for i in range(self.CREATED):
            host.create(f"new{i}")
            self.done += 1

    def run(self, host, name):
        while True:
            assert host.run(name, "sh", "-c", "sleep 0.1; echo run").status == 0
            self.done += 1

    def save(self, host, name):
        while True:
            self.snapshots[host.checkpoint(name)] = name
            self.done += 1

    def end(self):
        self.pool.shutdown()
        for work in self.work:
            work.result()


if __name__ == "__main__":
    unittest.main()
