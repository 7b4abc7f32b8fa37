"""Sandboxes that boot for real: the agent, a VMM, a kernel, and vm-agent as its first process.

The VMM is tests/firecracker, which has a machine of QEMU's boot Debian's kernel. FIRECRACKER=PATH
is used instead of it, with the kernel that FIRECRACKER_KERNEL names. The agent lives in a network
and a mount namespace of its own.
"""

import fcntl
import hashlib
import json
import os
import pty
import shutil
import struct
import subprocess
import termios
import unittest
from pathlib import Path

import lab
import vm
from lab import BUILD, Agent, LabTest, NetLab, until
from test_arcboxctl import CTL, ctl
from vm import guest

STAND_IN = Path(__file__).resolve().parents[1] / "firecracker" / "firecracker"
REAL = os.environ.get("FIRECRACKER")
BUSYBOX = "/bin/busybox"
PROGRAMS = "cat id ip nc nproc nslookup ping seq sh sha256sum sleep stat stty sync tty".split()
USERS = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n"
ROOTFS_BYTES = 16 << 20
MEMORY_MIB = 128
GATEWAY, MASK_BITS = "172.20.0.1", 16
BOOT_S = 180  # for an emulated machine on a busy one

# The agent looks for /dev/kvm, whatever the VMM does with it.
PREPARE = """
if [ ! -e /dev/kvm ]; then
    mount -t tmpfs none /mnt && mkdir /mnt/upper /mnt/work
    mount -t overlay none /dev -o lowerdir=/dev,upperdir=/mnt/upper,workdir=/mnt/work
    touch /dev/kvm
fi
echo ready > "$1/ready"
exec sleep infinity
"""

# What a sandbox writes to its console is kept, for a test that fails.
VMM = """#!/bin/sh
exec >>{console}
exec {program} "$@"
"""

CONFIG = """
[firecracker]
binary = "{lab}/firecracker"
data_dir = "{lab}/data"
socket_timeout_secs = {patience}
[defaults]
kernel = "{kernel}"
rootfs = "{lab}/rootfs.ext4"
memory_mib = {memory}
"""


def find_kernel():
    if REAL:
        if "FIRECRACKER_KERNEL" not in os.environ:
            raise unittest.SkipTest("FIRECRACKER needs a kernel: name one by FIRECRACKER_KERNEL")
        return os.environ["FIRECRACKER_KERNEL"]
    vm.skip_without_machines()
    try:
        return guest.Kernel.find(BUILD / "kernel").image
    except guest.Unavailable as error:
        raise unittest.SkipTest(str(error)) from None


def make_rootfs(tree, path):
    """An ext4 image of vm-agent and a busybox. Nobody needs to be root for it."""
    for name in ("bin", "sbin", "dev", "etc", "proc", "root", "sys", "tmp"):
        (tree / name).mkdir(parents=True)
    shutil.copy(BUILD / "vm-agent", tree / "sbin")
    shutil.copy(BUSYBOX, tree / "bin")
    for name in PROGRAMS:
        (tree / "bin" / name).symlink_to("busybox")
    (tree / "etc/passwd").write_text(USERS)
    path.touch()
    os.truncate(path, ROOTFS_BYTES)
    lab.output(vm.tool("mke2fs"), "-q", "-t", "ext4", "-F", "-d", tree, path)


class SandboxLab(NetLab):
    """An agent with all that its sandboxes are made of, once it is started."""

    def __init__(self):
        if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
            raise unittest.SkipTest("sandboxes need root and /dev/net/tun")
        self.kernel = find_kernel()
        super().__init__()
        self.console_path = self.dir / "console"
        self.homes = self.dir / "data/sandboxes"
        self.agent = None

    def start_agent(self):
        make_rootfs(self.dir / "tree", self.dir / "rootfs.ext4")
        program, config = self.dir / "firecracker", self.dir / "vmm.toml"
        program.write_text(VMM.format(console=self.console_path, program=REAL or STAND_IN))
        program.chmod(0o755)
        config.write_text(
            CONFIG.format(lab=self.dir, patience=BOOT_S, kernel=self.kernel, memory=MEMORY_MIB)
        )
        self._enter_mounts()
        self.agent = Agent(
            self, "--dns=0.0.0.0:53", f"--vmm-config={config}", f"--sandbox-connect-time={BOOT_S}s",
            env={**os.environ, "BUILD": str(BUILD), "FIRECRACKER_GUEST": "machine"},
        )  # fmt: skip

    def _enter_mounts(self):
        holder = self.start("unshare", "--mount", "sh", "-c", PREPARE, "sh", self.dir)
        until((self.dir / "ready").exists, "a mount namespace")
        self.enter = ["nsenter", f"--target={holder.pid}", "--net", "--mount"]

    def here(self, *argv):
        """What a program of the sandboxes' host writes."""
        return lab.output(*self.enter, *argv)

    def console(self):
        return self.console_path.read_text(errors="replace")

    def vsock(self, name):
        return self.homes / name / "firecracker.vsock"

    def taps(self):
        links = json.loads(self.here("ip", "-json", "link", "show"))
        return {link["ifname"] for link in links if link["ifname"].startswith("vmtap")}

    def running(self):
        """All in the namespace: VMMs, too, and what they start."""
        return set(lab.output("ip", "netns", "pids", self.netns).split())


class Sandbox(LabTest):
    """One sandbox, which is shared by the tests, and others beside it."""

    lab_class = SandboxLab
    NAME = "box"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.lab.start_agent()
        first = ("-e", "WORD=first", "sh", "-c", "echo $WORD > /tmp/first")
        cls.address = cls.create(cls.NAME, *first)
        until(lambda: cls.inspect(cls.NAME)["state"] != "running", cls.lab.console, BOOT_S)

    # --- the host ---

    @classmethod
    def ask(cls, *words, **options):
        return ctl("-H", f"unix:{cls.lab.agent.socket}", *words, **options)

    @classmethod
    def told(cls, *words, **options):
        """What arcboxctl writes; a failure comes with all that there is to know."""
        done = cls.ask(*words, **options)
        if done.returncode:
            said = f"{done.stderr}\n{cls.lab.agent.log()[-4000:]}\n{cls.lab.console()[-4000:]}"
            raise AssertionError(f"{' '.join(words)}: {done.returncode}: {said}")
        return done.stdout

    @classmethod
    def inspect(cls, name):
        return json.loads(cls.told("inspect", "--json", name))

    @classmethod
    def create(cls, name, *words):
        """Waits until its VM runs, and returns its address, if it has any."""
        cls.told("create", "--id", name, "--wait", *words)
        info = cls.inspect(name)
        assert info["state"] in ("ready", "running"), info
        return info["network"] and info["network"]["ip_address"]

    def sh(self, script, name=NAME):
        return self.told("run", name, "sh", "-c", script)

    def copy(self, *words):
        done = ctl("-H", f"fc:{self.lab.vsock(self.NAME)}", "cp", *map(str, words))
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    # --- what there is in it ---

    def test_vm_agent_is_the_first_process(self):
        self.assertEqual(self.sh("cat /proc/1/comm; echo $PPID"), "vm-agent\n1\n")

    def test_its_root_is_its_own_and_writable(self):
        self.assertRegex(self.sh("cat /proc/mounts"), r"(?m)^/dev/(vda|root) / ext4 rw")
        before = hashlib.sha256((self.lab.dir / "rootfs.ext4").read_bytes()).digest()
        self.sh("echo more > /etc/more && sync")
        after = hashlib.sha256((self.lab.dir / "rootfs.ext4").read_bytes()).digest()
        self.assertEqual(before, after)

    def test_memory_and_processors(self):
        kib = int(self.sh("cat /proc/meminfo").split()[1])
        self.assertLess(kib, MEMORY_MIB << 10)
        self.assertGreater(kib, MEMORY_MIB << 9)
        self.assertEqual(self.sh("nproc"), "1\n")

    def test_the_first_command(self):
        self.assertEqual(self.inspect(self.NAME)["state"], "ready")
        self.assertEqual(self.sh("cat /tmp/first"), "first\n")

    def test_output_and_status(self):
        done = self.ask("run", self.NAME, "sh", "-c", "echo out; echo err >&2; exit 7")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (7, "out\n", "err\n"))
        done = self.ask("run", "-u", "user", "-w", "/etc", self.NAME, "sh", "-c", "id -u; pwd")
        self.assertEqual((done.returncode, done.stdout), (0, "1000\n/etc\n"))
        self.assertEqual(self.ask("run", self.NAME, "/nowhere").returncode, 127)

    def test_input_comes_back(self):
        data = os.urandom(4 << 20)
        done = self.ask("exec", "-i", self.NAME, "cat", input=data)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(hashlib.sha256(done.stdout).digest(), hashlib.sha256(data).digest())

    def test_a_terminal(self):
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 43, 132, 0, 0))
        argv = (CTL, "-H", f"unix:{self.lab.agent.socket}", "exec", "-it", self.NAME, "sh")
        with subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave) as process:
            os.close(slave)
            self.read_until(master, b"# ")
            os.write(master, b"tty; stty size; exit 5\r")
            said = self.read_until(master, b"43 132\r\n")
            self.assertEqual(process.wait(BOOT_S), 5)
        self.assertRegex(said, rb"\n/dev/pts/\d\r\n43 132\r\n")

    @staticmethod
    def read_until(terminal, wanted):
        said = b""
        while wanted not in said:
            said += os.read(terminal, 4096)  # an error when nobody is left to write
        return said

    def test_files(self):
        source, back = self.lab.dir / "file", self.lab.dir / "back"
        source.write_bytes(os.urandom(1 << 20))
        source.chmod(0o640)
        self.copy(source, ":/root/file")
        self.assertEqual(self.sh("stat -c '%a %s' /root/file"), f"640 {1 << 20}\n")
        digest = self.sh("sha256sum < /root/file").split()[0]
        self.assertEqual(digest, hashlib.sha256(source.read_bytes()).hexdigest())
        self.copy(":/root/file", back)
        self.assertEqual(back.read_bytes(), source.read_bytes())

    # --- its network ---

    def test_it_is_as_configured(self):
        address = json.loads(self.lab.here("ip", "-json", "addr", "show", self.tap()))
        (host,) = (a for a in address[0]["addr_info"] if a["family"] == "inet")
        self.assertEqual((host["local"], host["address"]), (GATEWAY, self.address))
        self.assertIn(f"inet {self.address}/{MASK_BITS} ", self.sh("ip -4 addr show eth0"))
        self.assertIn(f"default via {GATEWAY} dev eth0", self.sh("ip route"))
        self.assertEqual(self.sh("cat /etc/resolv.conf"), f"nameserver {GATEWAY}\n")

    def tap(self):
        return "vmtap{2}-{3}".format(*self.address.split("."))

    def test_both_sides_reach_each_other(self):
        self.sh(f"ping -c 1 -W 60 {GATEWAY}")
        self.lab.here(BUSYBOX, "ping", "-c", "1", "-W", "60", self.address)
        seen = self.lab.here("ip", "neigh", "show", self.address, "dev", self.tap())
        mac = self.sh("cat /sys/class/net/eth0/address").strip()
        self.assertIn(mac, seen)
        self.assertEqual(int(mac[:2], 16) & 3, 2, "a locally administered address")

    def test_a_stream_to_the_host(self):
        got = self.lab.dir / "got"
        listener = self.lab.start("socat", "-u", "TCP-LISTEN:7000", f"CREATE:{got}")
        script = f"seq 50000 > /tmp/seq; until nc {GATEWAY} 7000 < /tmp/seq; do sleep 0.1; done"
        self.sh(script)
        self.assertEqual(listener.wait(BOOT_S), 0)
        self.assertEqual(got.read_text().split(), [str(n) for n in range(1, 50001)])

    def test_names(self):
        """The agent's names are the sandboxes' own, too."""
        self.assertIn(self.address, self.lookup(self.NAME).stdout)
        self.assertIn("NXDOMAIN", self.lookup("nobody").stdout)

    def lookup(self, name):
        """What the agent answers when it is asked from within."""
        return self.ask("run", self.NAME, "nslookup", f"{name}.arcbox.local")

    # --- others, which come and go ---

    def test_two_are_apart_and_one_goes(self):
        taps, running = self.lab.taps(), self.lab.running()
        address = self.create("other", "--cpus=2")
        self.assertNotEqual(address, self.address)
        self.assertEqual(self.sh("nproc", "other"), "2\n")
        self.assertIn(address, self.lookup("other").stdout)
        for name in (self.NAME, "other"):
            self.sh(f"ping -c 1 -W 60 {GATEWAY}", name)
        self.stops("other")
        self.told("rm", "other")
        until(lambda: self.lab.running() <= running, "the end of its processes")
        self.assertEqual(self.lab.taps(), taps)
        self.assertEqual(os.listdir(self.lab.homes), [self.NAME])
        self.assertEqual([row["id"] for row in self.listed()], [self.NAME])
        self.assertIn("NXDOMAIN", self.lookup("other").stdout)

    def stops(self, name):
        """By its own vm-agent, which has time for the disk."""
        before = self.lab.console().count("powering off clean")
        self.told("stop", "--grace", str(BOOT_S), name)
        self.assertEqual(self.inspect(name)["state"], "stopped")
        self.assertEqual(self.lab.console().count("powering off clean"), before + 1)
        self.assertNotIn("killing it", self.lab.agent.log())

    def listed(self):
        return json.loads(self.told("ps", "--json"))["sandboxes"]

    def test_a_guest_that_ends_itself(self):
        """Its end is the VM's, and the VMM's."""
        self.create("short", "--network=none")
        self.assertEqual(self.told("run", "short", "ip", "-o", "link").count("\n"), 1)
        self.ask("run", "short", "sh", "-c", "kill -TERM 1; sleep 1000")
        until(lambda: self.inspect("short")["state"] == "failed", "its failure", BOOT_S)
        self.assertIn("ended with status 0", self.inspect("short")["error"])
        self.told("rm", "short")

    @unittest.skipIf(REAL, "Firecracker can")
    def test_no_snapshots_of_a_machine(self):
        done = self.ask("checkpoint", self.NAME)
        self.assertEqual(done.returncode, 1)
        self.assertIn("Operation not supported", done.stderr)
        self.assertEqual(self.sh("echo goes on"), "goes on\n")
        self.assertEqual(json.loads(self.told("snapshots", "--json"))["snapshots"], [])


if __name__ == "__main__":
    unittest.main()
