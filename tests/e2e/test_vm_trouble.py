"""Trouble in a virtual machine: every step of the runtime's start fails and works when its trouble
is over; RPC answers all the while, also when disks hang or are full, or an engine is silent.

The daemons are stand-ins (probe/daemon.c, k3s/k3s.c); disk, mkfs.btrfs and mounts are real.
"""

import os
import re
import time
from contextlib import contextmanager

from engine import BUSYBOX, DOCKER_PORT, SIGKILL, EngineVm, Pulse
from lab import BUILD, LabTest
from vm import guest

MIB = 1 << 20
START_KUBERNETES = 5
SMALL_MIB, DISK_MIB = 8, 128  # the one is too small for Btrfs
PROGRAMS = "/run/bin"
STAND_IN, K3S_DAY = "/sbin/stand-in", "/run/day"
LABEL_AT = 0x1012B  # in the superblock of Btrfs, and so in its checksum
VOLUME = "/var/lib/docker"
FULL = "No space left on device"
CALM_S = 2  # how long is pinged when nothing else happens
HANGING = 1  # bytes a second


class TroubleVm(EngineVm):
    FILES = (f"{BUILD}/daemon:{STAND_IN}:755", f"{BUILD}/k3s:/sbin/k3s:755")
    LIMITS = ("volume_time=5s", "containerd_time=2s", "dockerd_time=2s", "restart=200ms",
              "docker_retry=200ms", "slow_turn=1ms")  # fmt: skip

    def __init__(self, home, data):
        options = (f"arcbox.{option}" for option in (f"runtime_dir={PROGRAMS}", *self.LIMITS))
        super().__init__(home, data, f"K3S_DAY={K3S_DAY}", *options)
        self.busybox("mkdir", PROGRAMS, K3S_DAY)
        self.busybox("ln", "-s", "/sbin/k3s", PROGRAMS)
        for name in "dockerd", "containerd", "containerd-shim-runc-v2", "runc":
            self.busybox("ln", "-s", STAND_IN, f"{PROGRAMS}/{name}")

    def resize_disk(self, mib):
        self.machine.qmp("block_resize", device="disk1", size=mib * MIB)
        sectors = str(mib * MIB // 512)
        self.until(lambda: self.file("/sys/block/vdb/size").strip() == sectors, "its size")

    def have_day(self, name, word):
        """What kind of a day the next one of that name has."""
        self.probe("write", f"{PROGRAMS}/{name}.day", word)

    def end_day(self, name):
        self.busybox("rm", f"{PROGRAMS}/{name}.day")


# --- how a step fails: what it says of it ---


@contextmanager
def no_place_to_write(vm):
    vm.busybox("mount", "-t", "tmpfs", "-o", "ro", "none", "/tmp")
    yield "prerequisites failed: is not writable: /tmp"
    vm.busybox("umount", "/tmp")


@contextmanager
def no_disk(vm):
    vm.busybox("mv", "/dev/vdb", "/dev/away")
    yield "data volume setup failed: cannot read /dev/vdb: there is no such device"
    vm.busybox("mv", "/dev/away", "/dev/vdb")


@contextmanager
def a_disk_that_is_too_small(vm):
    vm.resize_disk(SMALL_MIB)
    yield "data volume setup failed: cannot format /dev/vdb: /sbin/mkfs.btrfs: "
    vm.resize_disk(DISK_MIB)


@contextmanager
def a_disk_that_hangs_while_it_is_formatted(vm):
    with held_in_memory(vm):
        vm.throttle(bps=HANGING)
        yield "data volume setup failed: cannot format /dev/vdb: Operation timed out"
        vm.throttle()
    vm.until(lambda: not vm.pids("mkfs.btrfs"), "the end of mkfs.btrfs")


@contextmanager
def a_volume_that_is_damaged(vm):
    vm.probe("run", "/sbin/mkfs.btrfs", "-f", "/dev/vdb")
    change_byte(vm.data, LABEL_AT)
    yield "data volume setup failed: cannot mount /dev/vdb at /run/arcbox/data: "
    change_byte(vm.data, LABEL_AT)


@contextmanager
def a_disk_that_hangs_while_it_is_mounted(vm):
    with held_in_memory(vm):
        vm.throttle(bps=HANGING)
        yield "cannot mount /dev/vdb at /run/arcbox/data: Operation timed out"
        vm.throttle()
    vm.until(lambda: "D" not in {state for _, state, _ in vm.processes().values()}, "its end")


@contextmanager
def no_room_for_a_file(vm):
    """The file that is there is hidden."""
    vm.busybox("mkdir", "-p", "/etc/containerd")
    vm.busybox("mount", "-t", "tmpfs", "-o", "size=4k", "none", "/etc/containerd")
    vm.probe("write", "/etc/containerd/full", "x")
    yield "directories failed: No space left on device"
    vm.busybox("umount", "/etc/containerd")


def no_program(name):
    @contextmanager
    def trouble(vm):
        vm.busybox("mv", f"{PROGRAMS}/{name}", f"{PROGRAMS}/away")
        yield f"{name} failed: No such file or directory"
        vm.busybox("mv", f"{PROGRAMS}/away", f"{PROGRAMS}/{name}")

    trouble.__name__ = f"no_{name}"
    return trouble


def bad_day(name, word, outcome):
    @contextmanager
    def trouble(vm):
        vm.have_day(name, word)
        yield f"{name} failed: {outcome}"
        vm.end_day(name)

    trouble.__name__ = f"{name}_{word}"
    return trouble


def daemon_troubles(name):
    yield no_program(name)
    yield bad_day(name, "dies", "it ended at once; last log lines: no luck today")
    yield bad_day(name, "deaf", "it was not ready in time")


# In the order of the steps: that the next one comes so far shows that the one before is over.
TROUBLES = (
    no_place_to_write,
    no_disk,
    a_disk_that_is_too_small,
    a_disk_that_hangs_while_it_is_formatted,
    a_volume_that_is_damaged,
    a_disk_that_hangs_while_it_is_mounted,
    no_room_for_a_file,
    *daemon_troubles("containerd"),
    *daemon_troubles("dockerd"),
)


@contextmanager
def held_in_memory(vm):
    """What was read of the disk, and is looked at first, stays known while somebody has it open."""
    holder = vm.ask("run", BUSYBOX, "sh", "-c", "exec</dev/vdb;exec${IFS}sleep${IFS}1000")
    vm.until(lambda: vm.pids("sleep"), "who holds it")
    with holder:
        vm.busybox("dd", "if=/dev/vdb", "of=/dev/null", "bs=1M")
        yield
        for pid in vm.pids("sleep"):
            vm.probe("kill", pid, SIGKILL)


def change_byte(path, at):
    """Twice is not at all."""
    with open(path, "r+b", buffering=0) as file:
        old = os.pread(file.fileno(), 1, at)
        os.pwrite(file.fileno(), bytes([old[0] ^ 1]), at)


# --- the machine ---


class Trouble(LabTest):
    """One machine, for one trouble after the other. Tests run in the order of their names: what the
    first one brings up stays for the others, and the last one switches it off.
    """

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.vm = TroubleVm(cls.lab, guest.make_empty_disk(cls.lab.dir / "disk", DISK_MIB))

    @contextmanager
    def answering(self, what):
        """RPC answers as long as this lasts; notes how soon."""
        said = len(self.vm.console())
        with Pulse(self.vm) as pulse:
            yield
        turns = re.findall(r"a turn took long ms=(\d+)", self.vm.console()[said:])
        longest = f"{max(map(int, turns))} ms" if turns else "none"
        self.note(f"{what}: {pulse}; the longest turn that the agent told of: {longest}")

    def start_engine_anew(self):
        self.vm.kill("dockerd")
        self.vm.wait_ready()

    def test_each_step_fails_and_then_works(self):
        with self.answering("when all is calm"):
            time.sleep(CALM_S)
        for trouble in TROUBLES:
            name = trouble.__name__
            with self.subTest(name):
                with trouble(self.vm) as words, self.answering(name.replace("_", " ")):
                    self.vm.ensure()
                    failed = self.vm.wait_ensured(
                        lambda e: " failed: " in e.message, "a failure", start=False
                    )
                self.assertEqual((failed.ready, failed.status), (False, "failed"))
                self.assertIn(words, failed.message)
        self.vm.wait_ready()
        self.assertEqual(self.vm.ensure().status, "reused")

    def test_with_a_full_disk(self):
        self.vm.wait_ready()
        with self.answering("a disk that fills up"), self.assertRaisesRegex(AssertionError, FULL):
            self.vm.busybox("dd", "if=/dev/urandom", f"of={VOLUME}/much", "bs=1M")
        with self.answering("an engine that starts with a full disk"):
            self.start_engine_anew()
        self.vm.busybox("rm", f"{VOLUME}/much")

    def test_with_an_engine_that_is_silent(self):
        self.vm.wait_ready()
        self.vm.have_day("dockerd", "mute")
        self.start_engine_anew()
        with self.answering("an engine that is silent"), self.vm.machine.connect(DOCKER_PORT) as c:
            c.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            self.assertEqual(self.docker_detail(), "socket connectable, API initializing")
            self.assertEqual(self.vm.ensure().status, "reused")
            self.assertEqual(self.docker_detail(), "socket connectable, API initializing")
        self.vm.end_day("dockerd")
        self.start_engine_anew()
        self.assertEqual(self.docker_detail(), "API /_ping OK")

    def docker_detail(self):
        """Has the engine asked."""
        status, _ = self.vm.status()
        return next(s["detail"] for s in status["services"] if s["name"] == "dockerd")

    def test_with_the_power_going_off(self):
        """Kubernetes and the engine end at the same time, and then what both need."""
        self.vm.wait_ready()
        for name, number in ("term_ms", 60000), ("shims", 0):
            self.vm.probe("write", f"{K3S_DAY}/{name}", number)
        with self.vm.rpc() as rpc:
            rpc.call(START_KUBERNETES)
        self.vm.ctl("shutdown")
        self.vm.until(lambda: not self.vm.pids("dockerd"), "the end of dockerd")
        names = {name for _, _, name in self.vm.processes().values()}
        self.assertLessEqual({"k3s-server", "containerd"}, names)
        for pid in self.vm.pids("k3s-server"):
            self.vm.probe("kill", pid, SIGKILL)
        self.assertEqual(self.vm.wait_off(), 0)
        self.assertRegex(self.vm.console(), r"(?m)^\S+ INFO shutdown: powering off clean$")
