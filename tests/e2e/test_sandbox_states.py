"""Each state of a sandbox against each request: what the state refuses is answered by the reason
and changes nothing, and what it allows leads on.
"""

import ctypes
import os
import signal
import unittest
from contextlib import contextmanager

from lab import ERROR, PING, LabTest, RpcError, field, fields, run_state, until
from sandboxes import CHECKPOINT, CREATE, EVENTS, EXEC, INSPECT, REMOVE, RUN, STOP
from sandboxes import AtRest, Ctl, Host, SandboxLab, children, refused, text, vmm_id

PTRACE_SEIZE, WALL = 0x4206, 0x40000000
REMOVERS = 4  # that may wait for one sandbox

REQUESTS = {
    "run": lambda host, name: host.run(name, "true"),
    "exec": lambda host, name: host.exec(name, "true"),
    "stop": lambda host, name: host.stop(name),
    "checkpoint": lambda host, name: host.checkpoint(name),
    "remove": lambda host, name: host.remove(name),
    "remove_by_force": lambda host, name: host.remove(name, force=True),
    "create": lambda host, name: host.create(name),
}


def refusals(state, *requests):
    """By which words a state refuses these, and that its id is used."""
    why = {
        "run": f"it is not ready but {state}",
        "exec": f"it is not ready but {state}",
        "stop": f"it is {state}, not ready or running",
        "checkpoint": "it is not ready",
        "remove": f"it is {state}; stop it first, or use force",
    }
    return {"create": "the id is used", **{request: why[request] for request in requests}}


# What each state refuses. All else is allowed.
REFUSED = {
    "starting": refusals("starting", "run", "exec", "stop", "checkpoint"),
    "ready": refusals("ready"),
    "being checkpointed": refusals(
        "being checkpointed", "run", "exec", "stop", "checkpoint", "remove"
    ),
    "running": refusals("running", "run", "exec", "checkpoint", "remove"),
    "stopping": refusals("stopping", "run", "exec", "stop", "checkpoint"),
    "stopped": refusals("stopped", "run", "exec", "stop", "checkpoint"),
    "failed": refusals("failed", "run", "exec", "stop", "checkpoint"),
    "being removed": refusals("being removed", "run", "exec", "stop", "checkpoint"),
}

# Those that have no name for a host.
SEEN = {"being checkpointed": "ready", "being removed": "stopping"}

# Where what is allowed leads to; "": it is no more.
NEXT = {
    "run": "ready",
    "exec": "ready",
    "stop": "stopped",
    "checkpoint": "ready",
    "remove": "",
    "remove_by_force": "",
}

# What is told to whoever brought it into its state, when a request ends that.
FATES = {
    ("being checkpointed", "remove_by_force"): "the sandbox was removed",
    ("running", "stop"): "the sandbox was stopped",
    ("running", "remove_by_force"): "the sandbox was removed",
    ("stopping", "remove"): "it was removed meanwhile",
    ("stopping", "remove_by_force"): "it was removed meanwhile",
}


class States(LabTest):
    """By the switches of the stand-in a state is held for as long as it takes."""

    lab_class = SandboxLab

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.agent = cls.lab.agent()
        cls.addClassCleanup(cls.agent.stop)
        cls.at_rest = AtRest(cls.lab, cls.agent)
        cls.libc = ctypes.CDLL(None)

    def setUp(self):
        self.addCleanup(self.at_rest.check)
        self.addCleanup(self.lab.switch)
        self.host = Host(self.agent)
        self.addCleanup(self.host.socket.close)

    # --- each of these brings a sandbox into a state; `other` is whoever waits for something ---

    def be_starting(self, _, name):
        self.lab.switch(**{"PUT /vsock": "hang"})
        self.host.create(name)

    def be_ready(self, _, name):
        """With its guest up: before that a shutdown is not heard."""
        self.host.create(name)
        self.host.ready(name)
        self.host.run(name, "true")

    def be_being_checkpointed(self, other, name):
        self.be_ready(other, name)
        self.lab.switch(**{"PUT /snapshot/create": "hang"})
        before = self.lab.snapshots()
        other.ask(CHECKPOINT, field(1, name))
        until(lambda: self.lab.snapshots() - before, "the begin of a checkpoint")

    def be_running(self, other, name):
        self.be_ready(other, name)
        other.begin(EXEC, name, "sh", "-c", "echo begun; exec sleep 1000")
        other.until_output(b"begun")

    def be_stopping(self, other, name):
        self.be_ready(other, name)
        self.lab.switch(**{"PUT /actions SendCtrlAltDel": "ignore"})
        other.ask(STOP, field(1, name) + field(2, 1000))
        until(lambda: self.host.state(name) == "stopping", "the begin of a stop")

    def be_stopped(self, other, name):
        self.be_ready(other, name)
        self.host.stop(name)

    def be_failed(self, _, name):
        self.lab.switch(**{"PUT /vsock": "die"})
        self.host.create(name)
        until(lambda: self.host.state(name) == "failed", "the end of a VM that dies")

    @contextmanager
    def held(self, state, name):
        """A sandbox in that state."""
        with Host(self.agent) as other:
            getattr(self, "be_" + state.replace(" ", "_"))(other, name)
            try:
                yield other
            finally:
                self.lab.switch()
                if name in self.host.list():
                    self.host.remove(name, force=True)

    def assert_refused(self, state, name):
        for request, why in REFUSED[state].items():
            for way in (Host, Ctl):
                with self.subTest(state=state, request=request, way=way.__name__):
                    with way(self.agent) as host, refused(500, name, why):
                        REQUESTS[request](host, name)
                    self.assertEqual(self.host.state(name), SEEN.get(state, state))

    def assert_allowed(self, state, request, name):
        with self.subTest(state=state, request=request), self.held(state, name) as other:
            result = REQUESTS[request](self.host, name)
            if request == "checkpoint":
                self.host.remove_snapshot(result)
            state_now, _ = self.host.list().get(name, ("", ""))
            self.assertEqual(state_now, NEXT[request])
            if (state, request) in FATES:
                self.assert_told(other, FATES[state, request])

    def assert_told(self, other, why):
        """A command may still tell of its end by the shutdown."""
        kind, _, payload = other.answer()
        if kind != ERROR and why == "the sandbox was stopped":
            self.assertEqual(fields(payload)[3], [128 + signal.SIGTERM])
        else:
            self.assertEqual(kind, ERROR, payload)
            self.assertIn(why, str(RpcError(payload)))

    def test_what_is_refused(self):
        for number, state in enumerate(REFUSED):
            if state != "being removed":
                name = f"refuses{number}"
                with self.held(state, name):
                    self.assert_refused(state, name)

    def test_what_is_allowed(self):
        allowed = [(s, r) for s in REFUSED for r in NEXT if r not in REFUSED[s]]
        for number, (state, request) in enumerate(allowed):
            if state != "being removed":
                self.assert_allowed(state, request, f"allows{number}")

    def test_while_it_is_removed(self):
        """A process that is traced stays its parent's child until the tracer has buried it."""
        name = "stays"
        self.be_ready(None, name)
        (vmm,) = (pid for pid in children(self.agent.pid) if vmm_id(pid) == name)
        if self.libc.ptrace(PTRACE_SEIZE, vmm, 0, 0) < 0:
            self.host.remove(name)
            self.skipTest("no process may be traced here")
        removers = [Host(self.agent) for _ in range(REMOVERS)]
        for remover in removers:
            self.addCleanup(remover.socket.close)
            remover.ask(REMOVE, field(1, name))
        until(lambda: self.host.state(name) == "stopping", "the begin of a removal")
        self.assert_refused("being removed", name)
        with refused(503, name, "too many wait for that already"):
            self.host.remove(name)
        os.waitpid(vmm, WALL)
        for remover in removers:
            self.assertEqual(remover.answer()[0], REMOVE | 0x1000)
        with refused(404, name, "there is no such sandbox"):
            self.host.inspect(name)

    def test_before_it_is_there(self):
        """Until a new one is known to be possible nobody sees it, but its id is used."""
        name = "early"
        kinds = (RUN, EXEC, STOP, CHECKPOINT, REMOVE, INSPECT, CREATE)
        others = [Host(self.agent) for _ in kinds]
        for other in (self.host, *others):
            self.addCleanup(other.socket.close)
            other.call(PING)
        self.stop_in_its_wait()  # so that it finds all of this in one turn, in this order
        self.host.ask(CREATE, field(1, name))
        for kind, other in zip(kinds, others):
            other.ask(kind, field(1, name) + (field(2, "true") if kind in (RUN, EXEC) else b""))
        os.kill(self.agent.pid, signal.SIGCONT)
        for kind, other in zip(kinds, others):
            got, _, payload = other.answer()
            self.assertEqual(got, ERROR, hex(kind))
            self.assertEqual(RpcError(payload).code, 500 if kind == CREATE else 404, hex(kind))
        self.assertEqual(self.host.answer()[0], CREATE | 0x1000)
        self.host.remove(name)

    def stop_in_its_wait(self):
        """Nothing that came before is still to be looked at then, and all that comes waits."""
        until(lambda: run_state(self.agent.pid) == "S", "the agent to wait")
        os.kill(self.agent.pid, signal.SIGSTOP)
        until(lambda: run_state(self.agent.pid) == "T", "the agent to stop")

    def test_one_directory_is_for_one(self):
        """A snapshot's VM wants to be where it was: not while another is there."""
        self.be_ready(None, "origin")
        snapshot = self.host.checkpoint("origin")
        self.addCleanup(self.host.remove_snapshot, snapshot)
        for override in (False, True):
            with refused(500, "the directory that it has to live in is used by another sandbox"):
                self.host.restore(snapshot, "copy", override)
        with refused(500, "the id is used"):
            self.host.restore(snapshot, "origin")
        self.host.remove("origin")
        self.host.restore(snapshot, "copy")
        self.host.ready("copy")
        self.host.remove("copy")

    def test_events_tell_of_every_transition(self):
        listener = Host(self.agent)
        self.addCleanup(listener.socket.close)
        listener.call(PING)  # so that it is heard before what follows on another connection
        listener.ask(EVENTS)
        self.be_ready(None, "told")
        self.host.stop("told")
        self.host.remove("told")
        self.lab.switch(**{"PUT /vsock": "refuse no vsock today"})
        self.host.create("fails")
        until(lambda: self.host.state("fails") == "failed", "a failure")
        self.host.remove("fails")
        told = []
        while told[-1:] != [("fails", "removed", {})]:
            event = fields(listener.answer()[2])
            pairs = [fields(pair) for pair in event.get(4, [])]
            attributes = {text(pair, 1): text(pair, 2) for pair in pairs}
            told.append((text(event, 1), text(event, 2), attributes))
        why = told[-2][2].pop("error")
        self.assertIn("no vsock today", why)
        actions = ("created", "ready", "running", "idle", "stopping", "stopped", "removed")
        attributes = {"idle": {"exit_code": "0"}}
        expected = [("told", action, attributes.get(action, {})) for action in actions]
        expected += [("fails", action, {}) for action in ("created", "failed", "removed")]
        self.assertEqual(told, expected)


if __name__ == "__main__":
    unittest.main()
