"""The guest: vm-agent, or what FIRECRACKER_GUEST says, as a child. FIRECRACKER_GUEST=machine is a
real machine instead, see machine.py.

The guest's end of a vsock port is a unix socket in a directory that it and the VMM share: port 52
is DIR/52. FIRECRACKER_GUEST is a command line in which {dir} stands for that directory.

As root the guest is PID 1 of its own PID namespace, and sees this machine's files under an overlay:
nothing that it writes, mounts or kills is outside. In a jail it is a plain child, jailed itself. It
ends with the VMM, as a VM would.
"""

import os
import select
import shlex
import shutil
import signal
import sys

import kernel
from vsock import Vsock

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("BUILD", f"{HERE}/../../build")
PROGRAM = shlex.quote(os.path.join(BUILD, "vm-agent"))
VM_AGENT = f"{PROGRAM} --exec unix:{{dir}}/52 --files unix:{{dir}}/53"
JAIL_DIR = os.environ.get("FIRECRACKER_GUEST_DIR")  # what the jailer made
ISOLATED = os.geteuid() == 0 and not JAIL_DIR
INIT = "/sbin/vm-agent"  # where the program is in a root that does not have it
SOCKETS = "/mnt"  # where the directory is


class Guest:
    """A child to be, then a child; it is started by the thread that waits for it."""

    has_snapshots = True

    def __init__(self):
        self.boot_args = ""
        self.pid = 0
        self.dir = private_dir()

    def command(self, directory):
        template = os.environ.get("FIRECRACKER_GUEST", VM_AGENT)
        return [word.replace("{dir}", directory) for word in shlex.split(template)]

    def make_vsock(self, config, switches):
        return Vsock(config["uds_path"], self.dir, switches)

    def start(self, vmm):
        self.boot_args = vmm.boot_args()
        if ISOLATED:
            command = self.command(SOCKETS)
            self.pid = fork_isolated(lambda: run(command, self._enter_root))
        else:
            command = self.command(self.dir)
            self.pid = fork(lambda: run(command))

    def wait(self):
        os.waitpid(self.pid, 0)
        self.pid = 0

    def signal(self, sig):
        if self.pid:
            os.kill(self.pid, sig)

    def ctrl_alt_del(self):
        self.signal(signal.SIGINT)

    def _enter_root(self, program):
        """The root is an overlay over the machine's, with the program and the sockets in it."""
        kernel.private_mounts()
        work = os.path.join(self.dir, "root")
        os.makedirs(work, exist_ok=True)
        kernel.mount("tmpfs", work, "tmpfs")
        upper, other, root = (os.path.join(work, name) for name in ("upper", "work", "merged"))
        for path in (upper, other, root):
            os.mkdir(path)
        kernel.mount("overlay", root, "overlay", 0, f"lowerdir=/,upperdir={upper},workdir={other}")
        kernel.mount(self.dir, root + SOCKETS, flags=kernel.MS_BIND)
        if not os.path.exists(root + program):
            shutil.copy(program, root + INIT)
            program = INIT
        kernel.change_root(root)
        kernel.mount("proc", "/proc", "proc")
        self._bind_text(self.boot_args + "\n", "/proc/cmdline")
        return program

    @staticmethod
    def _bind_text(text, path):
        source = "/cmdline"
        with open(source, "w", encoding="utf-8") as file:
            file.write(text)
        kernel.mount(source, path, flags=kernel.MS_BIND)


def fork(body):
    """A child that is killed when this thread ends, even if that was before the child began."""
    alive, held = os.pipe()
    pid = os.fork()
    if pid:
        os.close(alive)
        return pid
    os.close(held)
    kernel.die_with_parent(signal.SIGKILL)
    if not select.select([alive], [], [], 0)[0]:
        body()
    os._exit(127)


def fork_isolated(body):
    """Only this child is in the new namespace: were later ones, too, there could be no threads."""
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    kernel.unshare(kernel.CLONE_NEWPID)
    pid = fork(body)
    kernel.setns(own)
    os.close(own)
    return pid


def run(command, enter=lambda program: program):
    """Becomes the guest's program, with the console on standard output."""
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(sig, signal.SIG_DFL)
    try:
        program = enter(command[0])
        os.execve(program, command, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/"})
    except OSError as error:
        print(f"guest: {command[0]}: {error}", file=sys.stderr)


def private_dir():
    """A directory that goes with this process: in its own mounts as root, else a temporary one."""
    if JAIL_DIR:
        return JAIL_DIR
    if ISOLATED:
        kernel.private_mounts()
        kernel.mount("tmpfs", SOCKETS, "tmpfs")
        return SOCKETS
    path = f"/tmp/firecracker-{os.getpid()}"
    os.mkdir(path, 0o700)
    return path


def remove(directory):
    """Takes a temporary directory away; mounts go by themselves."""
    if directory.startswith("/tmp/firecracker-"):
        shutil.rmtree(directory, ignore_errors=True)
