"""The agent as PID 1 of a virtual machine: what it makes of a bare kernel, and that it stays.

DAY_CONNECTIONS says how many clients come and go in the test of a day: 10000 for the real thing.
"""

import json
import os
import select
import shutil
import signal
import stat
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import lab
from lab import BUILD, PING, LabTest, field, frame
from vm import (
    IN_GUEST, PROBE, TOOLS, ProbeError, Vm, answer_of, guest, is_sanitized, make_ext4, program_files,
    skip_without_machines, tool,
)  # fmt: skip

DIRECTORY = stat.S_IFDIR
RUN = 0x30
DAY_CONNECTIONS = int(os.environ.get("DAY_CONNECTIONS", "960"))


def wait_for_address(vm, address="10.0.2.15"):
    vm.until(lambda: address in vm.ctl("info")["ip_addresses"], f"the address {address}")


def forward_rules(vm):
    said = vm.probe("run", "/sbin/iptables", "-S", "FORWARD")
    return [line for line in said.splitlines() if line.startswith("-A")]


def iptables():
    """The program, as it is in an image: without modprobe, so not the one of nftables."""
    files = program_files(tool("xtables-legacy-multi"), "/sbin/iptables")
    for name in "standard", "conntrack":
        (plugin,) = Path("/usr/lib").glob(f"*/xtables/libxt_{name}.so")
        files[str(plugin)] = plugin
    return files


class VmTest(LabTest):
    """A class whose tests share one machine has it as `vm`."""

    @classmethod
    def make_shares(cls, *tags):
        """Folders of the host, by tag, where it can share any."""
        try:
            guest.find_virtiofsd()
        except guest.Unavailable as error:
            cls.no_shares = str(error)
            tags = ()
        cls.shares = {tag: cls.lab.dir / tag for tag in tags}
        for folder in cls.shares.values():
            folder.mkdir()
        return cls.shares

    def need_shares(self):
        if not self.shares:
            self.skipTest(self.no_shares)

    def assert_mounted(self, path, kind, *options):
        mounts = self.vm.mounts()
        self.assertIn(path, mounts)
        self.assertEqual(mounts[path][1], kind, path)
        self.assertLessEqual(set(options), mounts[path][2], path)

    def assert_mode(self, path, mode, uid=0, gid=0):
        found = self.vm.stat(path)
        self.assertEqual((oct(found[0]), *found[1:]), (oct(mode), uid, gid), path)


class Boot(VmTest):
    """Everything of the system's start, in one machine with two networks and two shares."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.make_shares("arcbox", "users")
        cls.certificates = cls.lab.dir / "certificates"
        cls.certificates.write_text("trusted\n")
        cls.vm = Vm(
            cls.lab,
            cmdline="arcbox.hostname=box arcbox.log=debug",
            files={**iptables(), "/cacerts/ca-certificates.crt": cls.certificates},
            modules=("vsock_loopback", "iptable_filter", "xt_conntrack"),
            shares=cls.shares,
            nics=("hostname=leased", ""),
        )
        for address in ("10.0.2.15", "10.0.3.15"):
            wait_for_address(cls.vm, address)
        cls.vm.until(lambda: len(forward_rules(cls.vm)) == 4, "all rules")
        cls.vm.until(lambda: len(cls.mounted_shares()) == len(cls.shares), "all shares")

    @classmethod
    def mounted_shares(cls):
        return [m for m in cls.vm.mounts().values() if m[1] == "virtiofs"]

    def test_it_answers_its_host(self):
        self.assertEqual(self.vm.ctl("ping")["message"], "pong")
        self.assertRegex(self.vm.console(), r"starts pid=1\b")

    def test_what_it_takes(self):
        self.note(f"{self.vm.boot_s:.2f} s from QEMU's start to the first answer")
        self.note(f"memory of PID 1: {lab.mib(self.vm.agent_memory_bytes())}")

    # --- mounts ---

    def test_views_of_the_kernel_are_mounted(self):
        hardened = ("nosuid", "nodev", "noexec")
        self.assert_mounted("/proc", "proc", *hardened)
        self.assert_mounted("/sys", "sysfs", *hardened)
        self.assert_mounted("/dev", "devtmpfs", "nosuid")
        self.assert_mounted("/dev/pts", "devpts", "gid=5", "mode=620")
        self.assert_mounted("/sys/fs/cgroup", "cgroup2", *hardened)

    def test_what_is_written_is_in_memory(self):
        for path, mode in ("/tmp", 0o1777), ("/run", 0o755), ("/var", 0o755), ("/etc", 0o755):
            self.assert_mounted(path, "tmpfs", "nosuid", "nodev")
            self.assert_mode(path, DIRECTORY | mode)
        self.assert_mounted("/dev/shm", "tmpfs", "nosuid", "nodev")
        self.assert_mode("/dev/shm", DIRECTORY | 0o1777)

    def test_nothing_is_mounted_twice(self):
        paths = [line.split()[1] for line in self.vm.file("/proc/mounts").splitlines()]
        self.assertEqual(sorted(paths), sorted(set(paths)))

    def test_root_is_a_shared_mount(self):
        roots = [l for l in self.vm.file("/proc/1/mountinfo").splitlines() if l.split()[4] == "/"]
        self.assertRegex(roots[-1], r" shared:\d+ ")

    def test_descriptors_have_names(self):
        self.assertEqual(self.vm.probe("readlink", "/dev/fd"), "/proc/self/fd")
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            self.assertEqual(self.vm.probe("readlink", f"/dev/{name}"), f"/proc/self/fd/{number}")

    def test_directories_of_the_engines_are_there(self):
        for path in "/var/lib/docker", "/var/run/docker", "/run/containerd":
            self.assertEqual(self.vm.stat(path)[0] & ~0o777, DIRECTORY, path)

    def test_all_controllers_are_delegated(self):
        root = "/sys/fs/cgroup/cgroup"
        controllers = set(self.vm.file(f"{root}.controllers").split())
        self.assertLess({"cpu", "memory", "pids"}, controllers)
        self.assertEqual(set(self.vm.file(f"{root}.subtree_control").split()), controllers)

    # --- the system ---

    def test_modules_are_loaded_in_order(self):
        loaded = {line.split()[0] for line in self.vm.file("/proc/modules").splitlines()}
        self.assertLess({"virtio_net", "virtiofs", "binfmt_misc", "vsock_loopback"}, loaded)
        self.assertNotIn("cannot load a module", self.vm.console())

    def test_descriptors_are_many(self):
        limits = self.vm.file("/proc/1/limits")
        self.assertRegex(limits, r"(?m)^Max open files +1048576 +1048576 ")
        self.assertGreaterEqual(int(self.vm.file("/proc/sys/fs/nr_open")), 1048576)

    def test_files_of_etc(self):
        for path, text in (
            ("resolv.conf", "nameserver 127.0.0.1\nsearch arcbox.local\n"),
            ("hosts", "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 box\n"),
            ("group", "root:x:0:\ntty:x:5:\nnobody:x:65534:\n"),
        ):
            self.assertEqual(self.vm.read(f"/etc/{path}"), text, path)
            self.assert_mode(f"/etc/{path}", stat.S_IFREG | 0o644)
        accounts = [line.split(":")[:4] for line in self.vm.read("/etc/passwd").splitlines()]
        self.assertEqual(accounts, [["root", "x", "0", "0"], ["nobody", "x", "65534", "65534"]])

    def test_certificates_of_the_image_are_found(self):
        self.assertEqual(self.vm.read("/etc/ssl/certs/ca-certificates.crt"), "trusted\n")

    def test_docker_is_configured(self):
        config = json.loads(self.vm.read("/etc/docker/daemon.json"))
        self.assertEqual(config["dns"], ["10.0.2.1"])
        limit = config["default-ulimits"]["nofile"]
        self.assertEqual((limit["Soft"], limit["Hard"]), (1048576, 1048576))
        self.assertIs(config["features"]["containerd-snapshotter"], True)

    def test_the_hostname_is_that_of_the_command_line(self):
        self.assertEqual(self.vm.file("/proc/sys/kernel/hostname"), "box\n")
        self.assertEqual(self.vm.ctl("info")["hostname"], "box")

    def test_the_host_sets_the_clock(self):
        self.vm.probe("clock", 1_000_000_000)
        self.vm.ctl("raw", "PingRequest", "-", input=field(2, int(time.time())))
        self.assertLess(abs(int(self.vm.probe("clock")) - time.time()), 30)

    # --- the network ---

    def routes(self):
        """(interface, destination, gateway) in hexadecimal, as the kernel has them."""
        lines = self.vm.file("/proc/net/route").splitlines()[1:]
        return {tuple(line.split()[:3]) for line in lines}

    def test_only_the_first_interface_leads_out(self):
        out = [route for route in self.routes() if route[1] == "00000000"]
        self.assertEqual(out, [("eth0", "00000000", "0202000A")])
        self.assertIn(("eth1", "0003000A", "00000000"), self.routes())

    def test_it_forwards(self):
        switches = "/proc/sys/net/ipv4"
        self.assertEqual(self.vm.file(f"{switches}/ip_forward"), "1\n")
        self.assertEqual(self.vm.file(f"{switches}/conf/eth0/proxy_arp"), "0\n")
        self.assertEqual(self.vm.file(f"{switches}/conf/eth1/proxy_arp"), "1\n")

    def test_loopback_is_up(self):
        self.assertTrue(int(self.vm.file("/sys/class/net/lo/flags"), 16) & 1)

    def test_the_second_interface_is_forwarded_for(self):
        rules = forward_rules(self.vm)
        self.assertIn("-A FORWARD -i eth1 -j ACCEPT", rules)
        self.assertIn(
            "-A FORWARD -o eth1 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", rules
        )
        subnet = "172.20.0.0/16"
        self.assertIn(f"-A FORWARD -s {subnet} -j ACCEPT", rules)
        self.assertIn(f"-A FORWARD -d {subnet} -j ACCEPT", rules)

    # --- who may connect ---

    def test_containers_cannot_reach_it(self):
        self.assertEqual(self.vm.probe("cid"), "3")
        for cid in 1, 3:
            for port in 1024, 2375, 16443:
                with self.subTest(cid=cid, port=port):
                    try:
                        self.assertEqual(self.vm.probe("vsock", cid, port), "closed")
                    except ProbeError as error:
                        self.assertIn("reset", str(error))
        self.assertIn("refused peers", self.vm.console())
        self.assertTrue(self.vm.pings())

    # --- shares ---

    def test_a_host_that_vanishes_takes_its_command_along(self):
        """vsock tells of that only when something is sent, and this command says nothing."""
        quiet = "--listen=unix:/run/other", "--hostname=box", "--proxy=off", "--dns=off", "--log=off"
        silent = IN_GUEST, *quiet
        request = field(1, "@guest") + b"".join(field(2, word) for word in silent)

        def runs():
            for pid in self.vm.processes():
                with suppress(ProbeError):  # it may have ended
                    if "/run/other" in self.vm.file(f"/proc/{pid}/cmdline"):
                        return True
            return False

        with self.vm.machine.connect(1024) as stream:
            stream.sendall(frame(RUN, request))
            self.vm.until(runs, "the command")
        self.vm.until(lambda: not runs(), "the command's end")

    def test_shares_are_mounted(self):
        self.need_shares()
        (self.shares["users"] / "someone").write_text("hello\n")
        for path, tag in ("/arcbox", "arcbox"), ("/Users", "users"):
            self.assertEqual(self.vm.mounts()[path][:2], (tag, "virtiofs"))
        self.assertEqual(self.vm.read("/Users/someone"), "hello\n")
        self.assertNotIn("/run/arcbox-dax", self.vm.mounts())

    def test_the_log_is_on_the_share_too(self):
        self.need_shares()
        log = self.shares["arcbox"] / "log" / "agent.log"
        self.vm.until(log.exists, "the log")
        self.vm.until(lambda: "dhcp: leased" in log.read_text(), "its lines")
        stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
        for line in log.read_text().splitlines():
            self.assertRegex(line, rf"^{stamp} (DEBUG|INFO|WARN|ERROR) \w+: ")

    # --- once more ---

    def state(self):
        files = "resolv.conf", "hosts", "passwd", "group", "docker/daemon.json"
        etc = {name: self.vm.probe("stat", f"/etc/{name}") for name in files}
        info = self.vm.ctl("info")
        addresses = sorted(a for a in info["ip_addresses"] if "." in a)  # others come unasked
        network = addresses, self.routes(), forward_rules(self.vm)
        return self.vm.file("/proc/mounts"), etc, info["hostname"], network

    def test_a_second_start_changes_nothing(self):
        before = self.state()
        said = self.vm.probe("run", IN_GUEST, "init", "--hostname=box", "--slow-turn=0s")
        self.assertTrue(said.endswith("status 0\n"), said)
        self.assertEqual(self.state(), before)
        self.assertNotIn("WARN", said)


class Life(VmTest):
    """One machine, and all that can be done to a PID 1 short of its end."""

    # The kernel makes it the environment of PID 1: a sanitizer takes no signal for a fault then.
    CMDLINE = "ASAN_OPTIONS=handle_segv=0:handle_sigbus=0:handle_sigfpe=0"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for folder in cls.make_shares("rosetta").values():
            (folder / "rosetta").write_bytes(b"\x7fELF: no program")
            (folder / "rosetta").chmod(0o755)
        cls.vm = Vm(
            cls.lab, cmdline=cls.CMDLINE, nics=("hostname=leased",), shares=cls.shares
        )  # fmt: skip
        wait_for_address(cls.vm)

    def test_a_lease_names_the_machine(self):
        self.vm.until(lambda: self.vm.ctl("info")["hostname"] == "leased", "the name")
        self.assertIn("127.0.1.1 leased\n", self.vm.read("/etc/hosts"))

    def test_rosetta_runs_programs_of_x86(self):
        """Not in the machine of Boot: on x86, no program at all can be started after that."""
        self.need_shares()
        registered = "/proc/sys/fs/binfmt_misc/rosetta"
        self.vm.until(
            lambda: "rosetta" in self.vm.probe("list", "/proc/sys/fs/binfmt_misc").split(),
            "the registration",
        )
        self.assert_mounted("/media/rosetta", "virtiofs", "ro")
        rule = self.vm.file(registered)
        self.assertIn("enabled\ninterpreter /media/rosetta/rosetta\n", rule)
        self.assertRegex(rule, r"(?m)^flags: .*C")
        self.assertRegex(rule, r"(?m)^flags: .*F")
        magic = "7f454c4602010100000000000000000002003e00"
        mask = "fffffffffffefe00fffffffffffffffffeffffff"
        self.assertIn(f"offset 0\nmagic {magic}\nmask {mask}\n", rule)

    def pings_while(self, *words):
        """How many pings were answered while the probe worked."""
        pings = 0
        with self.vm.ask(*words) as stream:
            while not select.select([stream], [], [], 0)[0]:
                self.assertTrue(self.vm.pings())
                pings += 1
                time.sleep(0.05)
            answer_of(stream)
        return pings

    def test_orphans_leave_no_zombies(self):
        before = self.vm.agent_descriptors()
        pings = self.pings_while("orphans", 10_000)
        self.note(f"{pings} pings answered while 10,000 orphans ended")
        self.assertGreater(pings, 0)
        self.vm.until(lambda: not self.vm.zombies(), lambda: f"zombies: {self.vm.zombies()}")
        self.vm.until(lambda: self.vm.agent_descriptors() <= before, "no more descriptors")

    def test_storms_of_signals(self):
        pings = self.pings_while("storm", 1000)
        self.assertGreater(pings, 0)
        self.vm.probe("kill", 1, 9, 1000)
        self.assertTrue(self.vm.pings())

    def test_everything_else_is_killed(self):
        self.vm.probe("sleepers", 50)
        self.assertGreater(len(self.vm.processes()), 50)
        self.vm.probe("killall")
        self.assertTrue(self.vm.pings())
        self.vm.until(lambda: len(self.vm.processes()) <= 3, "no others")
        self.assertEqual(self.vm.zombies(), [])

    def connect_often(self, times):
        """Of three clients one asks, one says half a word, and one nothing at all."""
        for number in range(times):
            with self.vm.machine.connect(1024) as stream:
                stream.sendall(frame(PING)[: (10, 5, 0)[number % 3]])
                if number % 3 == 0:
                    self.assertTrue(stream.recv(1024))

    def test_a_day_leaves_nothing_behind(self):
        """Hours pass by jumps of the clock; the link flaps, clients come and go."""
        descriptors = self.vm.agent_descriptors()
        self.connect_often(100)
        memory = self.vm.agent_memory_bytes()
        for hour in range(24):
            self.vm.probe("clock", int(time.time()) + 3600 * hour)
            for _ in range(4):
                self.vm.probe("link", "eth0", "down")
                self.vm.probe("link", "eth0", "up")
            self.connect_often(DAY_CONNECTIONS // 24)
        wait_for_address(self.vm)
        self.vm.until(lambda: self.vm.agent_descriptors() <= descriptors, "no more descriptors")
        grown = self.vm.agent_memory_bytes() - memory
        self.note(f"{DAY_CONNECTIONS} connections; memory grown by {grown} bytes")
        self.assert_grown_less(grown, 64 * 1024)

    def test_a_clock_that_jumps(self):
        for seconds in 1000, 2_000_000_000, 1_000_000_000:
            self.vm.probe("clock", seconds)
            self.assertTrue(self.vm.pings())
        self.assertIn("10.0.2.15", self.vm.ctl("info")["ip_addresses"])


class Ends(VmTest):
    """Each machine ends once."""

    def boot(self, **more):
        self.vm = Vm(self.lab, nics=(), **more)

    def boot_with(self, disk):
        self.boot(disks=[disk])
        self.vm.probe("mkdir", "/run/disk")
        self.vm.probe("mount", "/dev/vda", "/run/disk", "ext4")

    def assert_off(self):
        self.assertEqual(self.vm.wait_off(), 0)
        console = self.vm.console()
        self.assertRegex(console, r"(?m)^\S+ INFO shutdown: .*clean")
        self.assertNotIn("panic", console)

    def test_shutdown_loses_nothing(self):
        disk = make_ext4(self.lab.dir / "disk")
        self.boot_with(disk)
        self.vm.probe("write", "/run/disk/kept", "written")
        self.vm.probe("sleepers", 5)
        self.assertIs(self.vm.ctl("shutdown")["accepted"], True)
        self.assert_off()
        state = lab.output(tool("dumpe2fs"), "-h", disk)
        self.assertRegex(state, r"(?m)^Filesystem state: +clean$")
        self.assertNotIn("needs_recovery", state)
        self.boot_with(disk)
        self.assertEqual(self.vm.read("/run/disk/kept"), "written")

    def test_shutdown_does_not_wait_for_the_stubborn(self):
        disk = make_ext4(self.lab.dir / "busy")
        self.boot_with(disk)
        self.vm.probe("mkdir", "/run/disk/inner")
        self.vm.probe("mount", "none", "/run/disk/inner", "tmpfs")
        self.vm.probe("sleepers", 3, "/run/disk/inner")
        self.vm.probe("write", "/run/disk/kept", "written")
        start = time.monotonic()
        self.vm.ctl("shutdown", "--grace=1")
        self.assert_off()
        self.assertLess(time.monotonic() - start, 15)
        kept = lab.output(tool("debugfs"), "-R", "cat /kept", disk)
        self.assertEqual(kept, "written")

    def test_signals_power_off(self):
        for sig in signal.SIGTERM, signal.SIGPWR:
            self.boot()
            self.vm.probe("kill", 1, int(sig), 20)
            self.assert_off()

    def test_ctrl_alt_del_powers_off(self):
        self.boot()
        keys = [{"type": "qcode", "data": key} for key in ("ctrl", "alt", "delete")]
        self.vm.machine.qmp("send-key", keys=keys)
        self.assert_off()


class OtherInit(VmTest):
    """The agent is not PID 1: that starts it with the command init, then with serve."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.make_shares("users")
        cls.vm = Vm(cls.lab, cmdline="probe.init probe.proc", shares=cls.shares)

    def test_init_leaves_all_ready(self):
        self.assertIn("probe: init ended with 0\n", self.vm.console())
        self.assert_mounted("/etc", "tmpfs")
        self.assert_mounted("/sys/fs/cgroup", "cgroup2")
        self.assertIn("10.0.2.15", self.vm.ctl("info")["ip_addresses"])
        if self.shares:
            self.assertEqual(self.vm.mounts()["/Users"][:2], ("users", "virtiofs"))

    def others(self):
        """The children of PID 1 that are not the agent."""
        children = self.vm.processes().items()
        return {pid for pid, (parent, _, name) in children if parent == 1 and name == "init"}

    def test_shutdown_ends_the_agent_alone(self):
        self.vm.probe("sleepers", 3)
        others = self.others()
        self.assertEqual(len(others), 3 + 1)  # and the probe
        self.assertIs(self.vm.ctl("shutdown")["accepted"], True)
        self.vm.until(lambda: "probe: serve ended with 0\n" in self.vm.console(), "its end")
        self.assertEqual(self.others(), others)
        self.assertEqual(self.vm.stat("/etc/passwd")[0], stat.S_IFREG | 0o644)


class Roots(VmTest):
    """A root of its own, on a disk."""

    MOUNT_POINTS = ("proc", "sys", "dev", "tmp", "run", "var", "etc")

    def setUp(self):
        self.lab = self.new_lab()

    def make_tree(self, *without):
        tree = self.lab.dir / "tree"
        for name in self.MOUNT_POINTS:
            if name not in without:
                (tree / name).mkdir(parents=True)
        shutil.copy(PROBE, tree / "init")
        for place, file in program_files(lab.AGENT, IN_GUEST).items():
            path = tree / place.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, path)
        return tree

    def make_erofs(self, tree):
        image = self.lab.dir / "root.erofs"
        lab.output(tool("mkfs.erofs"), image, tree)
        return image

    def boot(self, kind, image, *words):
        cmdline = " ".join((f"probe.root={kind}", *words))
        self.vm = Vm(self.lab, cmdline=cmdline, modules=("erofs",), disks=[image])
        wait_for_address(self.vm)

    def test_a_root_that_is_read_only(self):
        """Nothing is worth a warning but that an emulated processor is slow."""
        self.boot("erofs", self.make_erofs(self.make_tree()), "arcbox.slow_turn=0s")
        self.assert_mounted("/", "erofs", "ro")
        for path in "/tmp", "/run", "/var", "/etc":
            self.assert_mounted(path, "tmpfs")
        self.assertIn("nameserver", self.vm.read("/etc/resolv.conf"))
        self.assertTrue(self.vm.probe("run", IN_GUEST, "init").endswith("status 0\n"))
        self.assertNotIn("WARN", self.vm.console())
        self.note(f"{self.vm.listening_us() / 1000:.1f} ms from the agent's start to RPC")

    def test_a_root_that_lacks_something(self):
        """The agent serves its host all the same, and says what is wrong."""
        words = "arcbox.max_frame=lots", "arcbox.dns=nowhere", "arcbox.hostname=-", "arcbox.x=1"
        self.boot("erofs", self.make_erofs(self.make_tree("var")), *words)
        for option in "max-frame", "dns", "hostname":
            self.assertIn(f"option --{option}: ", self.vm.console())
        self.assertNotIn("/var", self.vm.mounts())
        self.assertIn("path=/var", self.vm.console())
        said = self.vm.probe("run", IN_GUEST, "init")
        self.assertTrue(said.endswith("status 1\n"), said)
        self.vm.ctl("shutdown")
        self.assertEqual(self.vm.wait_off(), 0)

    def test_a_root_that_is_kept(self):
        tree = self.make_tree()
        (tree / "etc/passwd").write_text("someone:x:1000:1000::/:/bin/sh\n")
        image = make_ext4(self.lab.dir / "root.ext4", "-d", tree)
        self.boot("ext4", image, "arcbox.keep_root=1")
        self.assert_mounted("/", "ext4", "rw")
        for path in "/tmp", "/run", "/var", "/etc":
            self.assertNotIn(path, self.vm.mounts())
        self.assertIn("someone", self.vm.read("/etc/passwd"))
        self.vm.ctl("shutdown")
        self.assertEqual(self.vm.wait_off(), 0)
        kept = lab.output(tool("debugfs"), "-R", "cat /etc/resolv.conf", image)
        self.assertEqual(kept, "nameserver 127.0.0.1\nsearch arcbox.local\n")


def heed_interrupts():
    """Also where the tests run in the background of a shell, which has them ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Command(LabTest):
    """tools/vm, which starts the agent as /init with nothing beside it."""

    def setUp(self):
        skip_without_machines()
        if is_sanitized():
            self.skipTest("tools/vm boots the agent that ships")

    def test_it_shows_a_machine_and_ends_it(self):
        said = lab.output(TOOLS / "vm", BUILD)
        for words in "first ping answered", "ARCBOX_HOST=fc:", "pong", "powering off clean":
            self.assertIn(words, said)

    def test_it_leaves_nothing_when_it_is_interrupted(self):
        home = self.new_lab()
        vm = home.start(
            TOOLS / "vm", BUILD, env={**os.environ, "TMPDIR": str(home.dir)},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, preexec_fn=heed_interrupts,
        )  # fmt: skip
        lab.until(lambda: list(home.dir.glob("*/console")), "the machine's start")
        vm.send_signal(signal.SIGINT)
        self.assertEqual(vm.wait(lab.PATIENCE_S), 130)
        self.assertEqual(list(home.dir.iterdir()), [])
        self.assertNotIn(str(home.dir), lab.output("ps", "-e", "-o", "args"))
