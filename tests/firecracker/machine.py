"""The guest as a real machine: QEMU emulates it, and vsock-bridge is its vsock device.

Kernel, command line, drives, TAP devices, CPUs and memory are as configured, and ctrl-alt-del comes
from a keyboard. Where it differs from Firecracker's machines:

- Its devices are on PCI, since QEMU's machine without it needs KVM: `pci=off` is not passed on.
- The kernel is one of Debian's, in the tree of its package. What a kernel for Firecracker has built
  in comes in an initramfs, whose first program hands over to the root's: see initrd.c.
- There are no snapshots, there is no jail, and no switch is looked at when a port is connected to.
"""

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress

import guest

BRIDGE = os.path.join(guest.BUILD, "vsock-bridge")
INITRD = os.path.join(guest.BUILD, "initrd")
MKINITRAMFS = os.path.join(guest.HERE, "../../tools/mkinitramfs")
QEMU = "qemu-system-x86_64"
MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "vmw_vsock_virtio_transport")
CONSOLE = "file,id=console,path=/dev/stdout,append=on"
CTRL_ALT_DEL = [{"type": "qcode", "data": key} for key in ("ctrl", "alt", "delete")]
BRIDGE_START_S = 30


class Bridge:
    """A vsock-bridge, with the methods of vsock.Vsock."""

    def __init__(self, path, cid, device):
        if os.path.lexists(path):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self.device = device
        command = [BRIDGE, "--vhost", device, "--host", path, "--cid", str(cid)]
        self.pid = guest.fork(lambda: guest.run(command))
        end = time.monotonic() + BRIDGE_START_S
        while not (os.path.exists(device) and os.path.exists(path)):
            if os.waitpid(self.pid, os.WNOHANG)[0] or time.monotonic() > end:
                raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
            time.sleep(0.005)

    def start(self):
        """It serves from the beginning, and refuses while there is no guest."""

    def pause(self):
        """QEMU does so by itself."""

    resume = pause

    def close(self):
        os.kill(self.pid, signal.SIGTERM)
        os.waitpid(self.pid, 0)


class Machine:
    """A machine to be, then a running QEMU; it is started by the thread that waits for it."""

    has_snapshots = False

    def __init__(self):
        self.pid = 0
        self.dir = guest.private_dir()
        self.bridge = None
        self.monitor, self.monitors_end = socket.socketpair()

    def make_vsock(self, config, _switches):
        device = os.path.join(self.dir, "vsock-device")
        self.bridge = Bridge(config["uds_path"], config["guest_cid"], device)
        return self.bridge

    def start(self, vmm):
        command = [shutil.which(QEMU) or QEMU, *self._arguments(vmm)]
        fds = [self.monitors_end.fileno(), *vmm.taps.values()]
        self.pid = guest.fork(lambda: run_with(fds, command))

    def wait(self):
        os.waitpid(self.pid, 0)
        self.pid = 0

    def signal(self, sig):
        if self.pid:
            os.kill(self.pid, sig)

    def ctrl_alt_del(self):
        """Not answered here: a guest that does not listen to its keyboard is nothing unusual."""
        with suppress(BrokenPipeError):
            self._order("qmp_capabilities")
            self._order("send-key", keys=CTRL_ALT_DEL)

    def _order(self, command, **arguments):
        order = {"execute": command, "arguments": arguments}
        self.monitor.sendall(json.dumps(order).encode())

    # --- what QEMU is told ---

    def _arguments(self, vmm):
        memory_mib = vmm.machine["mem_size_mib"]
        arguments = ["-nodefaults", "-no-reboot", "-display", "none", "-cpu", "max"]
        arguments += ["-machine", "q35,accel=tcg,memory-backend=memory"]
        arguments += ["-object", f"memory-backend-memfd,id=memory,size={memory_mib}M,share=on"]
        arguments += ["-m", str(memory_mib), "-smp", str(vmm.machine["vcpu_count"])]
        arguments += ["-chardev", CONSOLE, "-serial", "chardev:console"]
        arguments += ["-chardev", f"socket,id=monitor,fd={self.monitors_end.fileno()}"]
        arguments += ["-mon", "chardev=monitor,mode=control"]
        arguments += self._kernel(vmm)
        for drive in sorted(vmm.drives.values(), key=lambda drive: not drive["is_root_device"]):
            arguments += disk(drive)
        for interface in vmm.interfaces.values():
            arguments += nic(interface, vmm.taps[interface["iface_id"]])
        return arguments + self._vsock()

    def _kernel(self, vmm):
        image = vmm.boot_source["kernel_image_path"]
        words = [word for word in vmm.boot_args().split(" ") if word != "pci=off"]
        initramfs = os.path.join(self.dir, "initramfs")
        make_initramfs(initramfs, image)
        return ["-kernel", image, "-initrd", initramfs, "-append", " ".join(words)]

    def _vsock(self):
        if not self.bridge:
            return []
        chardev = f"socket,id=vsock,path={escaped(self.bridge.device)}"
        return ["-chardev", chardev, "-device", "vhost-user-vsock-pci,chardev=vsock"]


def disk(drive):
    name = drive["drive_id"]
    options = f"file={escaped(drive['path_on_host'])},format=raw,if=none,id={name}"
    options += f",readonly={'on' if drive['is_read_only'] else 'off'}"
    return ["-drive", options, "-device", f"virtio-blk-pci,drive={name}"]


def nic(interface, tap):
    """QEMU gets the TAP device that is open already, so that it is nobody else's at any time."""
    name = interface["iface_id"]
    device = f"virtio-net-pci,netdev={name}"
    if "guest_mac" in interface:
        device += f",mac={interface['guest_mac']}"
    return ["-netdev", f"tap,id={name},fd={tap}", "-device", device]


def escaped(path):
    return path.replace(",", ",,")


def make_initramfs(path, image):
    """With the modules that belong to the kernel, which lie as in its package."""
    image = os.path.realpath(image)
    release = os.path.basename(image).partition("-")[2]
    modules = os.path.join(os.path.dirname(image), "../lib/modules", release)
    command = [MKINITRAMFS, "-o", path, "--file", f"{INITRD}:/init:755"]
    subprocess.run([*command, "--modules", modules, "--load", *MODULES], check=True)


def run_with(fds, command):
    for fd in fds:
        os.set_inheritable(fd, True)
    guest.run(command)
