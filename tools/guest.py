"""A virtual machine around the agent: Debian's cloud kernel, an initramfs, a vsock bridge, QEMU.

`tools/vm` shows it to a person, the tests stand on it. Nothing here needs root or a network, but for
fetching the kernel, which is kept, and for shared folders (virtiofsd wants root).
"""

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import debian
from debian import Unavailable

TOOLS = Path(__file__).resolve().parent
META_PACKAGE = "linux-image-cloud-amd64"
QEMU = "qemu-system-x86_64"
VIRTIOFSD = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd")
MODULES = ("virtio_pci", "vmw_vsock_virtio_transport", "virtio_net", "virtio_blk", "virtiofs")
# What the container runtime asks of a kernel.
RUNTIME_MODULES = (
    *("erofs", "btrfs", "overlay", "veth", "bridge", "br_netfilter", "nf_tables", "nft_compat"),
    *("nft_chain_nat", "nft_masq", "nft_nat", "xt_addrtype", "xt_comment", "xt_conntrack"),
    *("xt_mark", "xt_MASQUERADE", "xt_nat", "xt_tcpudp"),
)
IMAGE_PROGRAMS = "cat echo head ls nslookup seq sh sleep tail tee touch true wc wget".split()
PATIENCE_S = 60
# No process outlives this one, however it ends; ^C is this one's to handle.
TIED = ("setpriv", "--pdeathsig", "TERM", "--")


def wait_for(condition, what):
    """Waits for a true value and returns it."""
    end = time.monotonic() + PATIENCE_S
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"gave up waiting for {what() if callable(what) else what}")
        time.sleep(0.01)


# --- the kernel ---


class Kernel:
    """An image, and the modules that belong to it, if it has any."""

    def __init__(self, image):
        self.image = Path(image).resolve()
        release = self.image.name.partition("-")[2]
        modules = self.image.parent.parent / "lib/modules" / release
        self.modules = modules if release and modules.is_dir() else None

    @classmethod
    def find(cls, store):
        """$KERNEL, else the one in the folder `store`, into which it is fetched when it is not there."""
        given = os.environ.get("KERNEL")
        if given and not Path(given).is_file():
            raise Unavailable(f"KERNEL={given} is no file: name a kernel like /boot/vmlinuz-VERSION")
        return cls(given or cls._stored(Path(store)) or cls._fetched(Path(store)))

    @staticmethod
    def _stored(store):
        return max(store.glob("linux-image-*/boot/vmlinuz-*"), default=None)

    @classmethod
    def _fetched(cls, store):
        try:
            needed = debian.described([META_PACKAGE])[META_PACKAGE]
            package = next(name for name in needed if name.startswith("linux-image-"))
            debian.kept(store / package, lambda tree: debian.unpack([package], tree))
        except Unavailable as error:
            raise Unavailable(f"{error}; or set KERNEL=/path/to/vmlinuz-VERSION") from None
        return cls._stored(store)


# --- the emulator ---


def missing_tool():
    """What keeps machines from being had here, or None."""
    for program in (QEMU, "setpriv"):
        if not shutil.which(program):
            return f"{program} is not installed (Debian: qemu-system-x86 util-linux)"
    return None


CPU = ("-cpu", "max")


def kvm_works(kernel):
    """Whether the kernel comes so far under KVM as to miss its root. Nothing less will do: where
    machines are nested, /dev/kvm may open, run a few instructions, and then hang."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    command = [QEMU, "-accel", "kvm", *CPU, "-nodefaults", "-display", "none", "-no-reboot"]
    command += ["-kernel", kernel.image, "-append", "panic=-1"]
    try:
        return subprocess.run(command, capture_output=True, timeout=8, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@cache
def accelerator(kernel):
    return "kvm" if kvm_works(kernel) else "tcg"


def find_virtiofsd():
    program = next((p for p in VIRTIOFSD if os.access(p, os.X_OK)), None)
    if not program:
        raise Unavailable("virtiofsd is not installed (Debian: qemu-system-common)")
    if os.geteuid() != 0:
        raise Unavailable("virtiofsd needs root to share a folder")
    return program


# --- the initramfs ---


def make_initramfs(path, kernel, init, *options, modules=MODULES):
    """An initramfs of the program `init`, the modules that the kernel has, and more by mkinitramfs' options."""
    command = [TOOLS / "mkinitramfs", "-o", path, "--file", f"{init}:/init:755", *options]
    if kernel.modules:
        command += ["--modules", kernel.modules, "--load", *modules]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(done.stderr.strip())
    return path


# --- a guest with the container runtime ---


def make_runtime_root(path, store, *files):
    """The image of a root with the runtime in it and more files, "SRC:DEST[:MODE]"."""
    command = [TOOLS / "mkruntime", "-o", path, "--store", store, *(f"--file={f}" for f in files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(done.stderr.strip())
    return path


def make_empty_disk(path, size_mib=2048):
    """It takes no room until it is written to."""
    with open(path, "wb") as disk:
        disk.truncate(size_mib << 20)
    return path


def image_archive(busybox="/bin/busybox"):
    """What `docker import` makes an image of: a static busybox with names for a few of its parts."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(busybox, "bin/busybox")
        for name in IMAGE_PROGRAMS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return archive.getvalue()


# --- the machine ---


class Machine:
    """A running virtual machine. All that belongs to it is in a folder, and ends with it.

    cmdline:  words for the kernel's command line
    disks:    files, /dev/vda and on; raw
    shares:   tag -> folder, by virtiofsd
    nics:     a network interface each, with a user network and DHCP behind it: options of QEMU's,
              like hostname=NAME, or ""
    """

    CID = 3

    def __init__(
        self, folder, bridge, kernel, initramfs,
        cmdline="", disks=(), shares=None, nics=("",), memory_mib=256, cpus=1,
    ):  # fmt: skip
        self.folder = Path(folder)
        self.memory_mib, self.cpus = memory_mib, cpus
        self.vsock = self.folder / "vsock"
        self.console_path = self.folder / "console"
        self.processes = []
        self.started_s = None
        try:
            arguments = self._base(kernel, initramfs, cmdline)
            arguments += self._vsock(bridge)
            for number, disk in enumerate(disks):
                arguments += self._disk(number, disk)
            for number, options in enumerate(nics):
                arguments += self._nic(number, options)
            for tag, source in (shares or {}).items():
                arguments += self._share(tag, source)
            self.started_s = time.monotonic()
            self.qemu = self._start("qemu", QEMU, *arguments)
        except BaseException:
            self.close()
            raise

    def _start(self, name, *command):
        """What a process says goes into a file of its name."""
        command = [*TIED, *map(str, command)]
        with open(self.folder / f"{name}.log", "wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.processes.append(process)
        return process

    def _start_server(self, name, path, *command):
        """A process that makes a socket when it is ready to be connected to."""
        process = self._start(name, *command)
        wait_for(lambda: path.exists() or process.poll() is not None, f"{name}'s start")
        if process.poll() is not None:
            why = (self.folder / f"{name}.log").read_text(errors="replace").strip()
            raise Unavailable(f"{name} did not start: {why}")

    def _base(self, kernel, initramfs, cmdline):
        memory = f"memory-backend-memfd,id=mem,size={self.memory_mib}M,share=on"
        return [
            *("-nodefaults", "-no-reboot", "-display", "none"),
            *("-machine", f"q35,accel={accelerator(kernel)},memory-backend=mem", "-object", memory),
            *(*CPU, "-smp", self.cpus, "-m", self.memory_mib),
            *("-kernel", kernel.image, "-initrd", initramfs),
            # An emulated timer on a busy host may be too late for the kernel's check of it.
            *("-append", f"console=ttyS0 quiet panic=-1 no_timer_check {cmdline}"),
            *("-serial", f"file:{self.console_path}"),
            *("-qmp", f"unix:{self.folder}/qmp,server=on,wait=off"),
        ]

    def _vsock(self, bridge):
        device = self.folder / "vsock-device"
        options = ("--vhost", device, "--host", self.vsock, "--cid", self.CID)
        self._start_server("vsock-bridge", device, bridge, *options)
        return self._vhost_user("vsock", device, "vhost-user-vsock-pci")

    def _share(self, tag, source):
        path = self.folder / f"fs-{tag}"
        options = (f"--socket-path={path}", "-o", f"source={source}", "-o", "sandbox=chroot")
        self._start_server(f"virtiofsd-{tag}", path, find_virtiofsd(), *options)
        return self._vhost_user(f"fs-{tag}", path, f"vhost-user-fs-pci,tag={tag}")

    @staticmethod
    def _vhost_user(name, path, device):
        return ["-chardev", f"socket,id={name},path={path}", "-device", f"{device},chardev={name}"]

    @staticmethod
    def _disk(number, path):
        drive = f"file={path},format=raw,if=none,id=disk{number},cache=writeback"
        return ["-drive", drive, "-device", f"virtio-blk-pci,drive=disk{number}"]

    @staticmethod
    def _nic(number, options):
        """Each network is another one: 10.0.2.0/24, as is usual with QEMU, then 10.0.3.0/24."""
        net = f"user,id=net{number},net=10.0.{2 + number}.0/24"
        net += f",{options}" if options else ""
        return ["-netdev", net, "-device", f"virtio-net-pci,netdev=net{number}"]

    # --- what can be asked ---

    @property
    def host(self):
        """What arcboxctl takes as --host."""
        return f"fc:{self.vsock}:1024"

    def console(self):
        with suppress(FileNotFoundError):
            return self.console_path.read_text(errors="replace")
        return ""

    def is_on(self):
        return self.qemu.poll() is None

    def connect(self, port):
        """A stream to a port of the guest, or None when nobody listens there."""
        stream = socket.socket(socket.AF_UNIX)
        stream.settimeout(PATIENCE_S)
        with suppress(OSError):
            stream.connect(str(self.vsock))
            stream.sendall(b"CONNECT %d\n" % port)
            if read_line(stream).startswith(b"OK "):
                return stream
        stream.close()
        return None

    def qmp(self, command, **arguments):
        """One command to QEMU itself."""
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(PATIENCE_S)
            stream.connect(str(self.folder / "qmp"))
            lines = stream.makefile("rw")
            lines.readline()  # the greeting
            for request in ("qmp_capabilities", {}), (command, arguments):
                lines.write(json.dumps({"execute": request[0], "arguments": request[1]}) + "\n")
                lines.flush()
                while "event" in (answer := json.loads(lines.readline())):
                    pass
                if "error" in answer:
                    raise RuntimeError(answer["error"]["desc"])
        return answer["return"]

    def errors(self):
        """What QEMU itself said."""
        return (self.folder / "qemu.log").read_text(errors="replace")

    # --- its end ---

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def wait_off(self, timeout_s=PATIENCE_S):
        """Waits until the guest has powered itself off."""
        return self.qemu.wait(timeout_s)

    def close(self):
        """Ends what still runs, the last started first."""
        for process in reversed(self.processes):
            end(process)


def read_line(stream):
    """Byte by byte: what comes after it is not ours to take."""
    line = b""
    while not line.endswith(b"\n"):
        byte = stream.recv(1)
        if not byte:
            break
        line += byte
    return line


def end(process):
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def folder():
    """For a machine; not in too deep a place, for a socket has room for a path of 107 bytes."""
    path = tempfile.mkdtemp(prefix="arcbox-vm-")
    try:
        yield Path(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)
