"""The VMM: what the API's requests do, and when they may be made."""

import fcntl
import json
import os
import re
import signal
import struct
import threading
import time

import bodies
from api import Reply, fault
from bodies import Fault
from guest import Guest, remove
from machine import Machine
from switches import die

VERSION = "1.12.0"
SNAPSHOT_VERSION = "5.0.0"
PAGE = 4096
MACHINE_DEFAULTS = {"smt": False, "track_dirty_pages": False}

NOT_STARTED, RUNNING, PAUSED = "Not started", "Running", "Paused"
AFTER = "The requested operation is not supported after starting the microVM."
BEFORE = "The requested operation is not supported before starting the microVM."
DRIVE_ERROR = "Drive config error: Unable to create the virtio block device"
TAP_ERROR = "Network config error: Cannot create network device: Open tap device failed"
RESTORE_ERROR = "Load snapshot error: Failed to restore from snapshot"

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 2, 0x1000, 0x4000


class Vmm:
    def __init__(self, vm_id, server, switches, log, metrics_path):
        self.vm_id, self.server, self.switches = vm_id, server, switches
        self.log, self.metrics_path = log, metrics_path
        self.state = NOT_STARTED
        self.machine = {**MACHINE_DEFAULTS, "vcpu_count": 1, "mem_size_mib": 128}
        self.boot_source = None
        self.drives, self.interfaces, self.taps = {}, {}, {}
        self.vsock_config = self.vsock = None
        self.guest = Machine() if os.environ.get("FIRECRACKER_GUEST") == "machine" else Guest()
        self.configured = False  # beyond what may be before a snapshot is loaded
        self.snapshot_taken = False
        self.half = False  # the snapshot under way is to stay so
        self.fatal = False  # the process is to end when the answer has left

    # --- the requests, one by one ---

    def run(self):
        """Takes requests until the guest ends. The thread that does so is the guest's parent."""
        while True:
            request = self.server.requests.get()
            if request is None:
                return
            reply = self._answer(request)
            self.log(f"The API server answered {request.method} {request.target}: {reply.status}")
            request.reply.put(reply)
            reply.sent.wait()
            if reply.trouble == "die-after":
                die()
            if self.fatal:
                os._exit(1)
            if reply.then:
                reply.then()

    def _answer(self, request):
        step = step_of(request)
        verb, argument = self.switches.at(step)
        if verb == "refuse":
            return fault(argument or f"{step} was refused.")
        if verb == "fail":
            return fault(argument, 500)
        if verb == "ignore":
            return Reply(204)
        try:
            reply = self._do(request, verb)
        except Fault as error:
            reply = fault(str(error))
        reply.trouble = verb
        return reply

    def _do(self, request, verb):
        resource, _, name = request.target[1:].partition("/")
        if resource == "snapshot":
            resource, name = f"snapshot/{name}", ""
        call = CALLS.get((request.method, resource))
        if not call or bool(name) != (resource in NAMED):
            raise Fault(f"Invalid request method and/or path: {request.method} {request.target}.")
        function, when = call
        if request.method == "GET":
            return Reply(200, function(self))
        body = bodies.read(resource, request.body)
        if name:
            check_name(name, body[NAMED[resource]])
        if resource == "actions":
            when = ACTIONS[body["action_type"]][1]
        if when == "before" and self.state != NOT_STARTED:
            raise Fault(AFTER)
        if when == "after" and self.state == NOT_STARTED:
            raise Fault(BEFORE)
        self.half = verb == "half"
        return Reply(204, then=function(self, body))

    # --- before the start ---

    def put_machine(self, body):
        if not 1 <= body["vcpu_count"] <= 32:
            raise Fault("Machine config error: The vCPU number is invalid!")
        if not 1 <= body["mem_size_mib"]:
            raise Fault("Machine config error: The memory size (MiB) is invalid.")
        self.configured = True
        self.machine = {**MACHINE_DEFAULTS, **body}

    def put_boot_source(self, body):
        self.configured = True
        what = "Boot source error: The kernel file cannot be opened"
        must_open(body["kernel_image_path"], os.O_RDONLY, what)
        self.boot_source = body

    def put_drive(self, body):
        self.configured = True
        if "path_on_host" not in body or "is_read_only" not in body:
            raise Fault(f"{DRIVE_ERROR}: Invalid configuration.")
        open_drive(body)
        if body["is_root_device"] and any(
            d["is_root_device"] for d in self.drives.values() if d["drive_id"] != body["drive_id"]
        ):
            raise Fault("Drive config error: A root block device already exists!")
        self.drives[body["drive_id"]] = body

    def put_interface(self, body):
        self.configured = True
        mac = body.get("guest_mac", "")
        if mac and not re.fullmatch("([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}", mac):
            raise bodies.malformed(f"invalid MAC address: {mac}")
        others = [i for i in self.interfaces.values() if i["iface_id"] != body["iface_id"]]
        if mac and mac in (i.get("guest_mac") for i in others):
            raise Fault(f"Network config error: The MAC address is already in use: {mac}")
        self._open_tap(body)
        self.interfaces[body["iface_id"]] = body

    def _open_tap(self, interface):
        name = interface["iface_id"]
        if name in self.taps:
            os.close(self.taps.pop(name))
        self.taps[name] = open_tap(interface["host_dev_name"])

    def put_vsock(self, body):
        self.configured = True
        if body["guest_cid"] < 3:
            raise Fault("Vsock config error: Cannot create vsock device: Invalid guest CID.")
        self._make_vsock(body, "Vsock config error: Cannot create backend for vsock device")
        self.vsock_config = body

    def _make_vsock(self, body, what):
        if self.vsock:
            self.vsock.close()
            self.vsock = None
        try:
            self.vsock = self.guest.make_vsock(body, self.switches)
        except OSError as error:
            raise Fault(f"{what}: UnixBind({os_error(error)})") from error

    # --- starting and ending ---

    def act(self, body):
        return ACTIONS[body["action_type"]][0](self)

    def start(self):
        if not self.boot_source:
            raise Fault("Start microvm error: Cannot start microvm without kernel configuration.")
        self.state = RUNNING
        return self._boot

    def _boot(self):
        self.switches.at("boot")
        self.guest.start(self)
        threading.Thread(target=self._wait_for_guest, daemon=True).start()
        if self.vsock:
            self.vsock.start()
        self.log("Successfully started microvm.")

    def boot_args(self):
        """What a guest finds in /proc/cmdline: Firecracker adds the root device."""
        args = (self.boot_source or {}).get("boot_args", "")
        root = next((d for d in self.drives.values() if d["is_root_device"]), None)
        if root:
            args += f" root=/dev/vda {'ro' if root['is_read_only'] else 'rw'}"
        return args

    def _wait_for_guest(self):
        """A guest that ends, however it does, resets its CPU, and Firecracker exits."""
        self.guest.wait()
        self.log("Vmm is stopping.")
        self.server.requests.put(None)

    def ctrl_alt_del(self):
        self.guest.ctrl_alt_del()

    def flush_metrics(self):
        if not self.metrics_path:
            raise Fault("Internal VMM error: Metrics error: Logger was not initialized.")
        with open(self.metrics_path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"utc_timestamp_ms": int(time.time() * 1000)}) + "\n")

    # --- running ---

    def patch_vm(self, body):
        if body["state"] == "Paused":
            self._pause()
        else:
            return self._resume()

    def _pause(self):
        self.guest.signal(signal.SIGSTOP)
        if self.vsock:
            self.vsock.pause()
        self.state = PAUSED

    def _resume(self):
        self.state = RUNNING
        if not self.guest.pid:  # it was loaded
            return self._boot
        if self.snapshot_taken and self.vsock:
            self.vsock.reset()
        self.snapshot_taken = False
        self.guest.signal(signal.SIGCONT)
        if self.vsock:
            self.vsock.resume()

    # --- snapshots ---

    def create_snapshot(self, body):
        if self.state != PAUSED:
            raise Fault(
                "Create snapshot error: Cannot save the microVM state: Operation not allowed: "
                "the microVM is not paused."
            )
        self._must_have_snapshots("Create snapshot error: Cannot save the microVM state")
        state = json.dumps({"version": SNAPSHOT_VERSION, **self._config()}).encode()
        memory = self.machine["mem_size_mib"] << 20
        share = 2 if self.half else 1
        write_file(body["snapshot_path"], state[: len(state) // share], len(state) // share)
        write_file(body["mem_file_path"], os.urandom(PAGE), memory // share)
        if self.half:
            die()
        self.snapshot_taken = True

    def load_snapshot(self, body):
        if self.configured:
            raise Fault(
                "Load snapshot error: Loading a microVM snapshot not allowed after configuring "
                "boot-specific resources."
            )
        if ("mem_file_path" in body) == ("mem_backend" in body):
            raise bodies.malformed("either `mem_file_path` or `mem_backend` must be present")
        for override in body.get("network_overrides", ()):
            bodies.check("network_overrides", override)
        self._must_have_snapshots("Load snapshot error")
        self.fatal = True  # a process whose load failed is of no more use
        self._load(body)
        self.fatal = False
        self.state = PAUSED
        return self._resume() if body.get("resume_vm") else None

    def _must_have_snapshots(self, what):
        if not self.guest.has_snapshots:
            raise Fault(f"{what}: Operation not supported: the guest is a machine of QEMU's.")

    def _load(self, body):
        state = read_snapshot(body["snapshot_path"])
        self.machine, self.boot_source = state["machine-config"], state["boot-source"]
        if file_size(memory_path(body)) != self.machine["mem_size_mib"] << 20:
            raise bad_snapshot("Failed to load guest memory: the file is of another size")
        for drive in state["drives"]:
            open_drive(drive)
            self.drives[drive["drive_id"]] = drive
        self._load_interfaces(state["network-interfaces"], body.get("network_overrides", ()))
        self.vsock_config = state["vsock"]
        if self.vsock_config:
            config = {**self.vsock_config, **body.get("vsock_override", {})}
            self._make_vsock(config, f"{RESTORE_ERROR}: vsock backend")

    def _load_interfaces(self, interfaces, overrides):
        self.interfaces = {i["iface_id"]: i for i in interfaces}
        for override in overrides:
            if override["iface_id"] not in self.interfaces:
                raise bad_snapshot(f"Unknown Network Device: {override['iface_id']}")
            self.interfaces[override["iface_id"]].update(override)
        for interface in self.interfaces.values():
            self._open_tap(interface)

    # --- what it is ---

    def info(self):
        return {
            "id": self.vm_id,
            "state": self.state,
            "vmm_version": VERSION,
            "app_name": "Firecracker",
        }

    def version(self):
        return {"firecracker_version": VERSION}

    def machine_config(self):
        return self.machine

    def _config(self):
        return {
            "machine-config": self.machine,
            "boot-source": self.boot_source,
            "drives": list(self.drives.values()),
            "network-interfaces": list(self.interfaces.values()),
            "vsock": self.vsock_config,
        }

    def close(self):
        remove(self.guest.dir)


# --- the tables ---

CALLS = {
    ("GET", ""): (Vmm.info, "ever"),
    ("GET", "version"): (Vmm.version, "ever"),
    ("GET", "machine-config"): (Vmm.machine_config, "ever"),
    ("PUT", "machine-config"): (Vmm.put_machine, "before"),
    ("PUT", "boot-source"): (Vmm.put_boot_source, "before"),
    ("PUT", "drives"): (Vmm.put_drive, "before"),
    ("PUT", "network-interfaces"): (Vmm.put_interface, "before"),
    ("PUT", "vsock"): (Vmm.put_vsock, "before"),
    ("PUT", "actions"): (Vmm.act, "ever"),
    ("PATCH", "vm"): (Vmm.patch_vm, "after"),
    ("PUT", "snapshot/create"): (Vmm.create_snapshot, "after"),
    ("PUT", "snapshot/load"): (Vmm.load_snapshot, "before"),
}

ACTIONS = {
    "InstanceStart": (Vmm.start, "before"),
    "SendCtrlAltDel": (Vmm.ctrl_alt_del, "after"),
    "FlushMetrics": (Vmm.flush_metrics, "after"),
}

# Resources with a name in the path, and the field that must say the same.
NAMED = {"drives": "drive_id", "network-interfaces": "iface_id"}


def step_of(request):
    """The request, with the action for those that have one."""
    if request.target != "/actions":
        return request.step
    try:
        return f"{request.step} {json.loads(request.body)['action_type']}"
    except (ValueError, KeyError, TypeError):
        return request.step


def check_name(name, in_body):
    if not re.fullmatch("[A-Za-z0-9_]+", name):
        raise Fault("API Resource IDs can only contain alphanumeric characters and underscores.")
    if name != in_body:
        raise Fault(
            f"The id from the path [{name}] does not match the id from the body [{in_body}]!"
        )


# --- files and devices ---


def os_error(error):
    return f"{os.strerror(error.errno)} (os error {error.errno})"


def must_open(path, flags, what):
    try:
        os.close(os.open(path, flags))
    except OSError as error:
        raise Fault(f"{what}: {os_error(error)}") from error


def open_drive(drive):
    flags = os.O_RDONLY if drive["is_read_only"] else os.O_RDWR
    path = drive["path_on_host"]
    must_open(path, flags, f"{DRIVE_ERROR}: Virtio backend error: {path}")


def open_tap(name):
    """Attaches to a TAP device, which keeps any other from it, until the descriptor is closed."""
    fd = -1
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        return fd
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise Fault(f"{TAP_ERROR}: Couldn't open {name}: {os_error(error)}") from error


def write_file(path, start, size):
    try:
        with open(path, "wb") as file:
            file.write(start)
            file.truncate(size)
    except OSError as error:
        raise Fault(f"Create snapshot error: Cannot write {path}: {os_error(error)}") from error


def bad_snapshot(why):
    return Fault(f"{RESTORE_ERROR}: {why}")


def read_snapshot(path):
    what = "Failed to get snapshot state from file"
    try:
        with open(path, encoding="utf-8") as file:
            state = json.load(file)
    except OSError as error:
        raise bad_snapshot(f"{what}: {os_error(error)}") from error
    except ValueError as error:
        raise bad_snapshot(f"{what}: Failed to deserialize: {error}") from error
    if state.get("version") != SNAPSHOT_VERSION:
        raise bad_snapshot(f"{what}: Invalid snapshot version")
    return state


def memory_path(body):
    """Where the memory is: said in one of two ways."""
    if "mem_file_path" in body:
        return body["mem_file_path"]
    return bodies.check("mem_backend", body["mem_backend"])["backend_path"]


def file_size(path):
    try:
        return os.stat(path).st_size
    except OSError as error:
        raise bad_snapshot(f"Failed to load guest memory: {os_error(error)}") from error
