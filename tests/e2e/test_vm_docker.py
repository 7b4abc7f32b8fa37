"""The container runtime in a virtual machine: brought up, used from outside, killed, shut down."""

import contextlib
import hashlib
import os
import subprocess
import threading
import time
import unittest

import lab
from engine import (
    BUSYBOX, DOCKER_PORT, KUBERNETES_PORT, LONG, EngineVm, Ensured, Pulse, addresses_in,
)  # fmt: skip
from lab import ENSURE_RUNTIME, LabTest, field
from vm import guest, make_ext4

ASKERS = 1000
CLIENTS = 1000 if LONG else 100
STREAM_BYTES = (1 << 30) if LONG else (4 << 20)
KILLS = 20 if LONG else 1
BRIDGE = ("--network", "bridge")
FAST = ("--network", "host", "--log-driver", "none")
KEPT = ("-v", "kept:/data")
PING_REQUEST = b"GET /_ping HTTP/1.0\r\n\r\n"
READY_FIELD = {"containerd": "containerd_ready", "dockerd": "docker_ready"}

ECHOES = "while read word && [ $word != end ]; do echo $word; done"
# Containers, by what they do when they are told to end.
SLOW = 'trap "sleep 8; echo finished >/data/slow; exit 0" TERM; while :; do sleep 0.2; done'
DEAF = 'trap "" TERM; while :; do sleep 1; done'
QUICK = 'trap "exit 0" TERM; while :; do sleep 0.2; done'


def read_all(stream):
    return b"".join(iter(lambda: stream.recv(1 << 16), b""))


def send_pattern(stream, total):
    """Pseudorandom bytes; returns their hash."""
    block = hashlib.shake_256(b"pattern").digest(1 << 20)
    sent = hashlib.sha256()
    for _ in range(total // len(block)):
        sent.update(block)
        stream.write(block)
    stream.close()
    return sent.hexdigest()


# --- one machine for all but the last class ---


class Machine:
    """The machine, and what was seen as its runtime came up."""

    vm = None
    early = None  # what a client got that connected before there was an engine
    answers = ()  # to all that asked at once
    pulse = None
    seconds = 0.0


def ensure_at_once(vm, total):
    """Asks many times before the first answer is read."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(vm.rpc()) for _ in range(20)]
        for _ in range(total // len(connections)):
            for rpc in connections:
                rpc.ask(ENSURE_RUNTIME, field(1, 1))
        answers = [rpc.answer() for _ in range(total // len(connections)) for rpc in connections]
    return [Ensured(lab.fields(payload)) for _, _, payload in answers]


def setUpModule():
    home = lab.Lab()
    unittest.addModuleCleanup(home.close)
    data = guest.make_empty_disk(home.dir / "data")
    Machine.vm = vm = EngineVm(home, data, "arcbox.restart=200ms", "arcbox.restart_max=1s")
    with vm.machine.connect(DOCKER_PORT) as early, Pulse(vm) as Machine.pulse:
        early.settimeout(lab.PATIENCE_S)
        early.sendall(PING_REQUEST)
        Machine.seconds = time.monotonic()
        Machine.answers = ensure_at_once(vm, ASKERS)
        vm.wait_ready()
        Machine.seconds = time.monotonic() - Machine.seconds
        Machine.early = read_all(early)
    vm.load_image()


class EngineTest(LabTest):
    def setUp(self):
        self.vm = Machine.vm

    def start(self, name, script, *options):
        self.addCleanup(self.vm.docker, "rm", "-f", "-v", name)
        return self.vm.start(name, script, *options)

    def wait_resolved(self, name):
        """Until the guest's DNS says what the engine says."""
        truth, found = set(), set()

        def agree():
            nonlocal truth, found
            truth = {self.vm.address(name)}
            found = self.vm.resolve(f"{name}.arcbox.local")
            return "" not in truth and found == truth

        self.vm.until(agree, lambda: f"{name}: docker says {truth}, DNS says {found}")
        return truth


class Life(EngineTest):
    """What can be done with it."""

    # --- how it came up ---

    def test_it_is_started_once(self):
        self.note(f"ready {Machine.seconds:.1f} s after it was asked for; {Machine.pulse}")
        self.assertEqual(len(Machine.answers), ASKERS)
        self.assertEqual({(a.ready, a.status) for a in Machine.answers}, {(False, "starting")})
        for name in "dockerd", "containerd":
            self.assertEqual(len(self.vm.pids(name)), 1, name)

    def test_an_early_client_is_served(self):
        self.assertRegex(Machine.early, rb"(?s)^HTTP/1\.[01] 200 OK\r\n.*\r\n\r\nOK$")

    def test_its_status(self):
        status, services = self.vm.status()
        self.assertEqual(services, {"containerd": "ready", "dockerd": "ready"})
        self.assertEqual(status["detail"], "docker socket ready")
        self.assertEqual(status["endpoint"], "vsock:2375")
        ensured = self.vm.ensure()
        self.assertEqual((ensured.ready, ensured.status), (True, "reused"))
        for step in "prerequisites", "data volume", "containerd", "dockerd":
            self.assertIn(step, ensured.message)

    def test_the_data_is_on_the_volume(self):
        mounts = self.vm.mounts()
        for path in "/var/lib/docker", "/var/lib/containerd", "/var/lib/rancher/k3s":
            self.assertEqual(mounts[path][:2], ("/dev/vdb", "btrfs"), path)

    # --- names ---

    def test_names_of_containers(self):
        compose = {"project": "shop", "service": "front"}
        labels = (f"--label=com.docker.compose.{key}={value}" for key, value in compose.items())
        self.start("web", QUICK, *BRIDGE, *labels)
        truth = self.wait_resolved("web")
        names = ("web", "web.arcbox.local", "front.shop.arcbox.local")
        said = self.vm.run("; ".join(f"nslookup {name}" for name in names), "--rm", *BRIDGE)
        for name, part in zip(names, said.split("Server:")[1:], strict=True):
            self.assertEqual(addresses_in(part), truth, name)
        self.vm.docker("kill", "web")
        self.vm.until(lambda: not self.vm.resolve("web.arcbox.local"), "no name any more")

    # --- the command line outside ---

    def test_run(self):
        command = self.vm.docker_command("run", "--rm", "box", "sh", "-c", "echo hello; exit 7")
        done = lab.run(*command, env=self.vm.environment)
        self.assertEqual((done.stdout, done.returncode), ("hello\n", 7), done.stderr)

    def test_attach(self):
        self.start("listener", ECHOES, "-i")
        command = self.vm.docker_command("attach", "listener")
        with subprocess.Popen(
            command, env=self.vm.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as attached:
            for word in b"one\n", b"two\n":
                attached.stdin.write(word)
                attached.stdin.flush()
                self.assertEqual(attached.stdout.readline(), word)
            attached.stdin.write(b"end\n")
            attached.stdin.close()
            self.assertEqual(attached.wait(lab.PATIENCE_S), 0)

    def test_exec(self):
        self.start("host", QUICK)
        self.assertEqual(self.vm.docker("exec", "-i", "host", "cat", input="through"), "through")

    def test_build(self):
        recipe = "FROM box\nRUN echo built | tee /result\nLABEL baked=yes\n"
        said = self.vm.docker("build", "--network", "host", "-t", "baked", "-", input=recipe)
        self.assertRegex(said, r"(?m)^built$")
        label = self.vm.docker("inspect", "-f", "{{.Config.Labels.baked}}", "baked")
        self.assertEqual(label, "yes")

    def test_logs_are_followed(self):
        self.start("talker", "for i in 1 2 3; do echo line $i; sleep 1; done")
        command = self.vm.docker_command("logs", "-f", "talker")
        followed = subprocess.run(
            command, env=self.vm.environment, capture_output=True, text=True, timeout=300, check=True
        )
        self.assertEqual(followed.stdout, "line 1\nline 2\nline 3\n")

    # --- the proxies ---

    def test_many_clients(self):
        with contextlib.ExitStack() as stack:
            clients = [self.vm.machine.connect(DOCKER_PORT) for _ in range(CLIENTS)]
            for client in clients:
                stack.enter_context(client).sendall(PING_REQUEST)
            answers = [read_all(client) for client in clients]
        self.assertEqual([a for a in answers if b" 200 OK\r\n" not in a], [])

    def test_much_both_ways_through_docker(self):
        command = self.vm.docker_command("run", "--rm", "-i", *FAST, "box", "cat")
        with subprocess.Popen(
            command, env=self.vm.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as cat:
            self.assert_echoed(cat.stdin, cat.stdout, "through attach")

    def test_much_both_ways_through_kubernetes(self):
        """What listens there is no k3s, but the proxy does not know."""
        echo = self.vm.ask("run", BUSYBOX, "nc", "-l", "-p", 6443, "-e", BUSYBOX, "cat")
        self.addCleanup(echo.close)
        with self.vm.machine.connect(KUBERNETES_PORT) as stream:
            stream.settimeout(600)
            out = HalfClosing(stream)
            self.assert_echoed(out, stream.makefile("rb"), "through the other proxy")

    def assert_echoed(self, to, back, how):
        received = hashlib.sha256()

        def receive():
            while block := back.read(1 << 16):
                received.update(block)

        reader = threading.Thread(target=receive)
        start_s = time.monotonic()
        reader.start()
        sent = send_pattern(to, STREAM_BYTES)
        reader.join()
        self.assertEqual(received.hexdigest(), sent)
        rate = STREAM_BYTES / (time.monotonic() - start_s)
        self.note(f"{lab.mib(STREAM_BYTES)} there and back {how}: {lab.mib(rate)}/s each way")

    # --- daemons that die ---

    def test_killed_daemons_come_back(self):
        self.start("steady", QUICK, *BRIDGE, "--restart", "always")
        self.start("ended", "exit 0")
        for _ in range(KILLS):
            for name in "dockerd", "containerd":
                self.vm.kill(name)
                self.assert_honest_until_ready(name)
                self.wait_resolved("steady")
                found = self.vm.docker("ps", "-a", "--format", "{{.Names}}").split()
                self.assertLessEqual({"steady", "ended"}, set(found))
                self.assertEqual(self.vm.zombies(), [])

    def assert_honest_until_ready(self, name):
        """The status never says more than is true while a daemon is down and comes up again."""
        is_down = True
        while True:
            status, services = self.vm.status()
            ensured = self.vm.ensure()
            was_down, is_down = is_down, not self.vm.pids(name)
            if was_down and is_down:
                self.assertFalse(status[READY_FIELD[name]], status)
                self.assertNotEqual(services[name], "ready")
                self.assertFalse(ensured.ready, ensured)
            elif ensured.ready and services == {"containerd": "ready", "dockerd": "ready"}:
                return


class HalfClosing:
    """A stream's writing half as a file."""

    def __init__(self, stream):
        self.stream = stream
        self.write = stream.sendall

    def close(self):
        self.stream.shutdown(1)


class PowerOff(EngineTest):
    """The end of that machine, and what the next one finds."""

    def test_nothing_is_lost(self):
        self.vm.start("slow", f"echo here >/data/file; {SLOW}", *KEPT, "--stop-timeout", 20)
        self.vm.start("deaf", DEAF)
        self.vm.start("quick", QUICK, *BRIDGE, "--restart", "always")
        start_s = time.monotonic()
        self.vm.ctl("shutdown")
        self.assertEqual(self.vm.machine.wait_off(120), 0)
        self.note(f"three containers ended, and power off, in {time.monotonic() - start_s:.1f} s")
        self.assertRegex(self.vm.console(), r"(?m)^\S+ INFO shutdown: .*\bclean\b")
        self.boot_again()
        said = self.vm.run("cat /data/file /data/slow", "--rm", *KEPT)
        self.assertEqual(said, "here\nfinished")
        for name, status in ("slow", "0"), ("deaf", "137"):
            found = self.vm.docker("inspect", "-f", "{{.State.ExitCode}}", name)
            self.assertEqual(found, status, name)
        self.wait_resolved("quick")

    def boot_again(self):
        old = Machine.vm
        Machine.vm = self.vm = EngineVm(old.home, old.data)
        self.vm.wait_ready()
        log = self.vm.file("/dev/kmsg")
        said = [line for line in log.splitlines() if "BTRFS" in line]
        self.assertNotEqual(said, [])
        self.assertNotRegex("\n".join(said), r"(?i)replay|error|corrupt|warning")


class StrangeDisk(LabTest):
    """A machine of its own, on whose disk there is something else."""

    def test_it_is_never_formatted(self):
        with contextlib.suppress(AttributeError):
            Machine.vm.machine.close()  # memory is for one at a time
        disk = make_ext4(self.lab.dir / "disk")
        os.truncate(disk, 512 << 20)
        before = digest(disk)
        self.vm = EngineVm(self.lab, disk, "arcbox.park_time=2s")
        self.assertRegex(self.refusal(), rb"^HTTP/1\.1 503 .*\r\n")
        self.assertEqual(self.vm.ensure().status, "starting")
        failed = self.vm.wait_ensured(
            lambda e: "setup failed" in e.message, "the failure", start=False
        )
        self.assertEqual(failed.status, "failed")
        self.assertRegex(failed.message, r"data volume setup failed: .*ext4")
        self.assertEqual(digest(disk), before)
        self.make_free()
        self.assert_answers_while_formatting()

    def refusal(self):
        """What a client gets that waits in vain."""
        with self.vm.machine.connect(DOCKER_PORT) as client:
            client.sendall(PING_REQUEST)
            return read_all(client)

    def make_free(self):
        self.vm.probe("run", BUSYBOX, "dd", "if=/dev/zero", "of=/dev/vdb", "bs=65536", "count=1")

    def assert_answers_while_formatting(self):
        """The disk is slowed down so that it takes a while."""
        self.vm.throttle(iops_wr=2)
        self.assertEqual(self.vm.ensure().status, "starting")
        self.vm.until(lambda: self.vm.pids("mkfs.btrfs"), "mkfs")
        with Pulse(self.vm) as pulse:
            self.vm.until(lambda: pulse.count > 5, "answers")
            self.assertTrue(self.vm.pids("mkfs.btrfs"), "mkfs is over already")
        self.note(f"while mkfs ran: {pulse}")
        self.vm.throttle()
        self.vm.wait_ensured(lambda e: "data volume ready" in e.message, "a data volume")


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
