"""Firecracker's documented rules, held against tests/firecracker, and those that need no kernel to
boot against the real one, too, if FIRECRACKER names it.

The documents are Firecracker's firecracker.yaml, vsock.md, snapshot-support.md and jailer.md.
"""

import hashlib
import json
import os
import shlex
import shutil
import signal
import socket
import stat
import struct
import unittest
from pathlib import Path

from lab import BUILD, PATIENCE_S, LabTest, descriptors, end, listens, output, run, until

HERE = Path(__file__).resolve().parent.parent / "firecracker"
STAND_IN = HERE / "firecracker"
JAILER = HERE / "jailer"
ID = "vm-1"
START, EOF, STDOUT, EXIT = 0x01, 0x04, 0x10, 0x12

# A guest that echoes on port 52, calls the host's port 1234 when port 53 is called, and can be shut
# down.
GUEST = """
import os, signal, socket, sys, threading
directory = sys.argv[1]
def accept(port, handler):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(directory + "/" + port)
    listener.listen()
    def loop():
        while True:
            threading.Thread(target=handler, args=(listener.accept()[0],), daemon=True).start()
    threading.Thread(target=loop, daemon=True).start()
def echo(c):
    while data := c.recv(65536):
        c.sendall(data)
    c.close()
def call(c):
    host = socket.socket(socket.AF_UNIX)
    host.connect(directory + "/host")
    host.sendall(b"CONNECT 1234\\nfrom pid %d, cmdline " % os.getpid())
    host.sendall(open("/proc/cmdline", "rb").read())
    c.sendall(host.recv(100))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # of all threads, so that none swallows it
accept("52", echo)
accept("53", call)
signal.sigwait([signal.SIGINT])
os._exit(0)
"""


class Api:
    """A client that keeps its connection, or not."""

    def __init__(self, path):
        self.path = str(path)

    def call(self, method, target, body=None, **headers):
        """The status of the answer, and its body."""
        return self.raw(self.request(method, target, body, **headers))

    @staticmethod
    def request(method, target, body=None, **headers):
        text = b"" if body is None else json.dumps(body).encode()
        fields = {"Host": "localhost", "Content-Type": "application/json", **headers}
        fields["Content-Length"] = len(text)
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode() + text

    def raw(self, request):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(PATIENCE_S)
            s.connect(self.path)
            s.sendall(request)
            return answer(s.makefile("rb"))

    def put(self, target, **body):
        return self.call("PUT", target, body)

    def patch(self, target, **body):
        return self.call("PATCH", target, body)

    def get(self, target):
        return self.call("GET", target)[1]


def answer(stream):
    """Reads one; a connection that is closed is (0, None)."""
    status = stream.readline().split(b" ")
    if len(status) < 2:
        return 0, None
    length = 0
    while line := stream.readline().strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    text = stream.read(length)
    return int(status[1]), json.loads(text) if text else None


class Vm:
    """A Firecracker process of its own directory, with files to boot from."""

    def __init__(self, lab, name=ID, program=STAND_IN, switches=None, args=(), guest=GUEST):
        self.dir = lab.dir / name
        self.dir.mkdir()
        for file in ("kernel", "rootfs", "log", "metrics"):
            (self.dir / file).write_bytes(b"x")
        self.switches = self.dir / "switches"
        self.switches.write_text(json.dumps(switches or {}))
        self.socket, self.vsock = self.dir / "api.sock", self.dir / "v.sock"
        self.api = Api(self.socket)
        self.process = lab.start(
            program, "--api-sock", self.socket, "--id", name, "--log-path", self.dir / "log",
            "--metrics-path", self.dir / "metrics", "--no-seccomp", *args,
            env=environment(self.switches, guest),
        )  # fmt: skip

    def listening(self):
        until(lambda: listens(self.socket), "the API socket")
        return self

    def configure(self):
        """All that a boot needs; every one of them is answered by 204."""
        machine = {"vcpu_count": 2, "mem_size_mib": 128, "smt": False, "track_dirty_pages": True}
        kernel = {"kernel_image_path": f"{self.dir}/kernel", "boot_args": "console=ttyS0"}
        return [
            self.api.put("/machine-config", **machine),
            self.api.put("/boot-source", **kernel),
            self.api.put("/drives/rootfs", **self.drive()),
            self.api.put("/vsock", guest_cid=3, uds_path=str(self.vsock)),
        ]

    def drive(self, **more):
        return {
            "drive_id": "rootfs",
            "path_on_host": f"{self.dir}/rootfs",
            "is_root_device": True,
            "is_read_only": False,
            **more,
        }

    def start(self):
        return self.api.put("/actions", action_type="InstanceStart")

    def boot(self):
        self.listening().configure()
        self.start()
        return self

    def connect(self, port):
        """A connection to a port that somebody listens on, sooner or later."""
        return until(lambda: self.try_connect(port), f"a listener on port {port}")

    def try_connect(self, port):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(PATIENCE_S)
        s.connect(str(self.vsock))
        s.sendall(b"CONNECT %d\n" % port)
        line = s.makefile("rb", buffering=0).readline()
        if line.startswith(b"OK ") and line[3:].strip().isdigit():
            return s
        s.close()
        return None

    def snapshot(self):
        files = {"snapshot_path": f"{self.dir}/vmstate", "mem_file_path": f"{self.dir}/mem"}
        return self.api.put("/snapshot/create", snapshot_type="Full", **files)

    def load(self, **more):
        files = {"snapshot_path": f"{self.dir}/vmstate", "mem_file_path": f"{self.dir}/mem"}
        return self.api.put("/snapshot/load", **{**files, **more})


def environment(switches, guest=GUEST):
    env = {**os.environ, "BUILD": str(BUILD), "FIRECRACKER_SWITCHES": str(switches)}
    if guest:
        env["FIRECRACKER_GUEST"] = f"/usr/bin/python3 -c {shlex.quote(guest)} {{dir}}"
    return env


def frame(kind, payload=b""):
    """A frame of the exec port."""
    return struct.pack("<BI", kind, len(payload)) + payload


class StandInTest(LabTest):
    def vm(self, **more):
        return Vm(self.new_lab(), **more)

    def assert_fault(self, answered, words, status=400):
        self.assertEqual(answered[0], status)
        self.assertEqual(list(answered[1]), ["fault_message"])
        self.assertIn(words, answered[1]["fault_message"])


class CommandLine(StandInTest):
    def test_version(self):
        self.assertRegex(output(STAND_IN, "--version"), r"^Firecracker v\d+\.\d+\.\d+\n")

    def test_unknown_and_contradicting_arguments_are_refused(self):
        contradiction = ["--no-seccomp", "--seccomp-filter", "f"]
        for args in (["--nonsense"], ["--id"], ["--id", "a", "--id", "b"], contradiction):
            with self.subTest(args=args):
                done = run(STAND_IN, *args)
                self.assertEqual(done.returncode, 153)
                self.assertIn("Arguments parsing error", done.stderr)

    def test_an_id_is_letters_digits_and_hyphens(self):
        for vm_id in ("", "a" * 65, "a/b", "a_b", "a.b"):
            with self.subTest(id=vm_id):
                done = run(STAND_IN, f"--id={vm_id}", "--api-sock", self.lab.dir / "s")
                self.assertEqual(done.returncode, 1)
                self.assertIn("Invalid instance ID", done.stderr)

    def test_the_log_must_be_there_beforehand(self):
        log = self.lab.dir / "no-log"
        done = run(STAND_IN, "--log-path", log, "--api-sock", self.lab.dir / "s")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no-log", done.stderr)

    def test_a_socket_that_is_there_is_not_replaced(self):
        (self.lab.dir / "there").write_text("")
        done = run(STAND_IN, "--api-sock", self.lab.dir / "there")
        self.assertEqual(done.returncode, 1)
        self.assertIn("Failed to open the API socket", done.stderr)


class Rules(StandInTest):
    def test_a_boot(self):
        vm = self.vm().listening()
        self.assertEqual(
            vm.api.get("/"),
            {**vm.api.get("/"), "id": ID, "app_name": "Firecracker", "state": "Not started"},
        )
        self.assertEqual(vm.configure(), [(204, None)] * 4)
        self.assertEqual(vm.api.get("/machine-config")["vcpu_count"], 2)
        self.assertEqual(vm.start(), (204, None))
        self.assertEqual(vm.api.get("/")["state"], "Running")
        self.assertIn("Successfully started microvm", until(lambda: started(vm), "the log's word"))

    def test_after_the_start_nothing_is_configured(self):
        vm = self.vm().boot()
        for answered in (*vm.configure(), vm.start(), vm.load()):
            self.assert_fault(answered, "not supported after starting the microVM")

    def test_before_the_start_nothing_runs(self):
        vm = self.vm().listening()
        ctrl_alt_del = vm.api.put("/actions", action_type="SendCtrlAltDel")
        for answered in (ctrl_alt_del, vm.api.patch("/vm", state="Paused"), vm.snapshot()):
            self.assert_fault(answered, "not supported before starting the microVM")

    def test_no_start_without_a_kernel(self):
        vm = self.vm().listening()
        self.assert_fault(vm.start(), "without kernel configuration")
        self.assertEqual(vm.configure()[1], (204, None))
        self.assertEqual(vm.start(), (204, None))

    def test_bodies_are_checked(self):
        api = self.vm().listening().api
        machine, vsock = "/machine-config", "/vsock"
        for target, body, words in (
            (machine, {"vcpu_count": 1}, "missing field `mem_size_mib`"),
            (machine, {"vcpu_count": "1", "mem_size_mib": 1}, "expected an integer"),
            (machine, {"vcpu_count": True, "mem_size_mib": 1}, "expected an integer"),
            (machine, {"vcpu_count": 33, "mem_size_mib": 1}, "vCPU number"),
            (machine, {"vcpu_count": 1, "mem_size_mib": 0}, "memory size"),
            (vsock, {"guest_cid": 3, "uds_path": "v", "more": 1}, "unknown field `more`"),
            (vsock, {"guest_cid": 2, "uds_path": "v"}, "guest CID"),
            ("/actions", {"action_type": "Explode"}, "unknown variant `Explode`"),
        ):
            with self.subTest(words=words):
                self.assert_fault(api.put(target, **body), words)
        self.assert_fault(api.raw(api.request("PUT", "/vsock") + b"{"), "deserializing")

    def test_files_must_be_there(self):
        vm = self.vm().listening()
        for target, body in (
            ("/boot-source", {"kernel_image_path": "/nonexistent/k"}),
            ("/drives/rootfs", vm.drive(path_on_host="/nonexistent/d")),
            ("/vsock", {"guest_cid": 3, "uds_path": "/nonexistent/v"}),
        ):
            with self.subTest(target=target):
                self.assert_fault(vm.api.put(target, **body), "No such file or directory")

    def test_ids_of_path_and_body_are_the_same(self):
        vm = self.vm().listening()
        self.assert_fault(vm.api.put("/drives/other", **vm.drive()), "does not match")
        self.assert_fault(vm.api.put("/drives/a-b", **vm.drive(drive_id="a-b")), "alphanumeric")
        self.assertEqual(vm.api.put("/drives/rootfs", **vm.drive())[0], 204)
        second = vm.api.put("/drives/b", **vm.drive(drive_id="b"))
        self.assert_fault(second, "root block device already exists")

    def test_unknown_requests(self):
        api = self.vm().listening().api
        for request in ("PUT /", "PUT /nothing", "DELETE /vm", "PUT /drives", "GET /vsock"):
            answered = api.call(*request.split(), {})
            self.assert_fault(answered, f"Invalid request method and/or path: {request}.")

    def test_a_payload_has_a_limit(self):
        vm = self.vm(args=("--http-api-max-payload-size", "100")).listening()
        args = {"kernel_image_path": f"{vm.dir}/kernel", "boot_args": "a" * 100}
        self.assert_fault(vm.api.put("/boot-source", **args), "larger than the limit of 100", 413)

    def test_a_connection_stays_open(self):
        vm = self.vm().listening()
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(vm.socket))
            stream = s.makefile("rb")
            for _ in range(3):
                s.sendall(Api.request("GET", "/", Connection="close"))
                self.assertEqual(answer(stream)[0], 200)

    def test_a_tap_must_be_free(self):
        if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
            self.skipTest("TAP devices need root and /dev/net/tun")
        vm, other = self.vm().listening(), self.vm(name="vm-2").listening()
        tap = f"fct{os.getpid()}"
        interface = {"iface_id": "eth0", "host_dev_name": tap, "guest_mac": "02:00:00:00:00:01"}
        self.assertEqual(vm.api.put("/network-interfaces/eth0", **interface), (204, None))
        self.assertEqual(vm.api.put("/network-interfaces/eth0", **interface), (204, None))
        self.assert_fault(other.api.put("/network-interfaces/eth0", **interface), "busy")
        interface["guest_mac"] = "2"
        self.assert_fault(vm.api.put("/network-interfaces/eth0", **interface), "MAC")
        end(vm.process)
        self.assertFalse(os.path.exists(f"/sys/class/net/{tap}"))


def started(vm):
    text = (vm.dir / "log").read_text()
    return text if "Successfully started" in text else None


class Guests(StandInTest):
    def test_host_initiated_connections(self):
        vm = self.vm().boot()
        data = os.urandom(1 << 20)
        with vm.connect(52) as s:
            s.sendall(b"ab")
            self.assertEqual(s.recv(2, socket.MSG_WAITALL), b"ab")
            os.set_blocking(s.fileno(), True)
            sent = memoryview(data)
            seen = hashlib.sha256()
            for at in range(0, len(data), 4096):
                s.sendall(sent[at : at + 4096])
                seen.update(s.recv(4096, socket.MSG_WAITALL))
            self.assertEqual(seen.digest(), hashlib.sha256(data).digest())
            s.shutdown(socket.SHUT_WR)
            self.assertEqual(s.recv(1), b"")

    def test_nobody_listens(self):
        vm = self.vm().boot()
        vm.connect(52).close()
        self.assertIsNone(vm.try_connect(77))

    def test_lines_that_are_no_command(self):
        vm = self.vm().boot()
        vm.connect(52).close()
        for line in (b"HELLO 52\n", b"CONNECT x\n", b"CONNECT 52" + b"0" * 100):
            with socket.socket(socket.AF_UNIX) as s, self.subTest(line=line):
                s.connect(str(vm.vsock))
                s.sendall(line)
                try:
                    self.assertEqual(s.recv(1), b"")
                except ConnectionResetError:
                    pass  # closed over unread bytes

    def test_guest_initiated_connections(self):
        vm = self.vm().boot()
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(f"{vm.vsock}_1234")
        listener.listen()
        with vm.connect(53) as s:
            host, _ = listener.accept()
            with host:
                said = host.makefile().readline()
                host.sendall(b"hello")
            self.assertEqual(s.recv(5, socket.MSG_WAITALL), b"hello")
        if os.geteuid() == 0:
            self.assertEqual(said, "from pid 1, cmdline console=ttyS0 root=/dev/vda rw\n")

    def test_ctrl_alt_del_ends_guest_and_firecracker(self):
        vm = self.vm().boot()
        vm.connect(52).close()
        self.assertEqual(vm.api.put("/actions", action_type="SendCtrlAltDel"), (204, None))
        self.assertEqual(vm.process.wait(PATIENCE_S), 0)

    def test_a_guest_ends_with_its_firecracker(self):
        vm = self.vm().boot()
        vm.connect(52).close()
        pid = vm.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self.assertEqual(len(children), 1)
        end(vm.process, signal.SIGKILL)
        until(lambda: not os.path.exists(f"/proc/{children[0]}"), "the end of the guest")

    def test_connections_leave_nothing_behind(self):
        vm = self.vm().boot()
        vm.connect(52).close()
        before = descriptors(vm.process.pid)
        for _ in range(20):
            vm.connect(52).close()
            vm.try_connect(77)
        until(lambda: descriptors(vm.process.pid) <= before, "the end of the connections")


class VmAgent(StandInTest):
    """What it boots unless it is told otherwise."""

    PROGRAM = BUILD / "vm-agent"

    def setUp(self):
        if not self.PROGRAM.exists():
            self.skipTest(f"there is no {self.PROGRAM}")

    def test_a_command_and_a_shutdown(self):
        vm = self.vm(guest=None).boot()
        with vm.connect(52) as s:
            command = ["/bin/sh", "-c", "echo $$ in $(cat /proc/1/comm); exit 7"]
            s.sendall(frame(START, json.dumps({"cmd": command}).encode()))
            s.sendall(frame(EOF))
            out = b""
            stream = s.makefile("rb")
            while (kind := stream.read(1)[0]) != EXIT:
                piece = stream.read(*struct.unpack("<I", stream.read(4)))
                out += piece if kind == STDOUT else b""
            self.assertEqual(struct.unpack("<Ii", stream.read(8)), (4, 7))
        self.assertRegex(out, rb"^\d+ in vm-agent\n$")
        self.assertEqual(vm.api.put("/actions", action_type="SendCtrlAltDel"), (204, None))
        self.assertEqual(vm.process.wait(PATIENCE_S), 0)


class Snapshots(StandInTest):
    def test_pause_and_resume(self):
        vm = self.vm().boot()
        self.assert_fault(vm.snapshot(), "not paused")
        with vm.connect(52) as s:
            for _ in range(2):
                self.assertEqual(vm.api.patch("/vm", state="Paused"), (204, None))
                self.assertEqual(vm.api.get("/")["state"], "Paused")
            s.sendall(b"x")
            s.settimeout(0.2)
            self.assertRaises(TimeoutError, s.recv, 1)
            for _ in range(2):
                self.assertEqual(vm.api.patch("/vm", state="Resumed"), (204, None))
            s.settimeout(PATIENCE_S)
            self.assertEqual(s.recv(1), b"x")

    def test_create_and_load(self):
        vm = self.vm().boot()
        s = vm.connect(52)
        vm.api.patch("/vm", state="Paused")
        self.assertEqual(vm.snapshot(), (204, None))
        self.assertEqual((vm.dir / "mem").stat().st_size, 128 << 20)
        vm.api.patch("/vm", state="Resumed")
        self.assertEqual(s.recv(1), b"")  # the vsock device was reset
        s.close()

        other = self.vm(name="vm-2").listening()
        memory = {"backend_type": "File", "backend_path": f"{vm.dir}/mem"}
        load = {"snapshot_path": f"{vm.dir}/vmstate", "mem_backend": memory}
        more = {"vsock_override": {"uds_path": str(other.vsock)}, "resume_vm": True}
        self.assertEqual(other.api.put("/snapshot/load", **load, **more), (204, None))
        self.assertEqual(other.api.get("/")["state"], "Running")
        self.assertEqual(other.api.get("/machine-config")["vcpu_count"], 2)
        other.connect(52).close()

        late = self.vm(name="vm-3").listening()  # the vsock path is the original's, which lives
        self.assert_fault(late.api.put("/snapshot/load", **load), "Address already in use")
        self.assertEqual(late.process.wait(PATIENCE_S), 1)

    def test_load_is_for_a_fresh_process(self):
        vm = self.vm().listening()
        vm.configure()
        self.assert_fault(vm.load(), "not allowed after configuring boot-specific resources")

    def test_a_bad_snapshot_ends_the_process(self):
        vm = self.vm().listening()
        (vm.dir / "vmstate").write_text('{"version"')
        self.assert_fault(vm.load(), "deserialize")
        self.assertEqual(vm.process.wait(PATIENCE_S), 1)

    def test_a_load_names_the_memory_once(self):
        vm = self.vm().listening()
        self.assert_fault(vm.api.put("/snapshot/load", snapshot_path="a"), "mem_backend")
        self.assertEqual(vm.api.get("/")["state"], "Not started")


class Switches(StandInTest):
    def test_slow_refused_and_only_one_vm(self):
        vm = self.vm(switches={
            "PUT /machine-config": "slow 50",
            "PUT /boot-source": "refuse no such luck",
            f"{ID} PUT /vsock": "fail broken",
            "other PUT /drives/rootfs": "refuse no",
        }).listening()  # fmt: skip
        machine, kernel, drive, vsock = vm.configure()
        self.assertEqual((machine[0], drive[0]), (204, 204))
        self.assert_fault(kernel, "no such luck")
        self.assert_fault(vsock, "broken", 500)

    def test_dying(self):
        for step, how, status in (
            ("start", "die", -9),
            ("listen", "die 1", 1),
            ("PUT /vsock", "die 7", 7),
            ("PUT /actions InstanceStart", "die", -9),
            ("boot", "die 3", 3),
        ):
            with self.subTest(step=step):
                vm = self.vm(switches={step: how})
                if step not in ("start", "listen"):
                    try:
                        vm.boot()
                    except OSError:
                        pass  # it was gone already
                self.assertEqual(vm.process.wait(PATIENCE_S), status)

    def test_answers_that_are_none(self):
        switches = {"GET /": "cut", "PUT /vsock": "garbage", "PATCH /vm": "flood"}
        vm = self.vm(switches=switches).listening()
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(vm.socket))
            s.sendall(Api.request("GET", "/"))
            self.assertTrue(s.makefile("rb").read().startswith(b"HTTP/1.1 200"))
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(vm.socket))
            s.sendall(Api.request("PUT", "/vsock"))
            self.assertNotIn(b"HTTP", s.makefile("rb").read())
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(vm.socket))
            s.sendall(Api.request("PATCH", "/vm"))
            self.assertEqual(len(s.recv(1 << 20, socket.MSG_WAITALL)), 1 << 20)
        vm.switches.write_text("{}")
        self.assertEqual(vm.api.get("/")["id"], ID)

    def test_half_a_snapshot(self):
        vm = self.vm(switches={"PUT /snapshot/create": "half"}).boot()
        vm.api.patch("/vm", state="Paused")
        try:
            self.assertEqual(vm.snapshot(), (0, None))
        except ConnectionError:
            pass
        self.assertEqual(vm.process.wait(PATIENCE_S), -9)
        self.assertEqual((vm.dir / "mem").stat().st_size, 64 << 20)

    def test_a_process_that_dies_behind_its_answer(self):
        vm = self.vm(switches={"PUT /actions InstanceStart": "die-after"}).listening()
        vm.configure()
        self.assertEqual(vm.start(), (204, None))
        self.assertEqual(vm.process.wait(PATIENCE_S), -9)

    def test_a_shutdown_that_is_ignored(self):
        vm = self.vm(switches={"PUT /actions SendCtrlAltDel": "ignore"}).boot()
        vm.connect(52).close()
        self.assertEqual(vm.api.put("/actions", action_type="SendCtrlAltDel"), (204, None))
        vm.connect(52).close()


class Jailer(StandInTest):
    def jail(self, *more, **env):
        lab = self.new_lab()
        switches = lab.dir / "switches"
        root = lab.dir / "jails/firecracker" / ID / "root"
        (root / "run").mkdir(parents=True)
        for name in ("vmlinux", "rootfs.ext4", "run/log"):
            (root / name).write_text("x")
            os.chown(root / name, 1234, 1234)
        os.chown(root / "run", 1234, 1234)
        process = lab.start(
            JAILER, "--id", ID, "--exec-file", STAND_IN, "--uid", "1234", "--gid", "1234",
            "--chroot-base-dir", lab.dir / "jails", *more,
            "--", "--api-sock", "/run/s", "--log-path", "/run/log",
            env={**environment(switches), **env},
        )  # fmt: skip
        until(lambda: listens(root / "run/s"), "the API socket in the jail")
        return root, process, Api(root / "run/s")

    def setUp(self):
        if os.geteuid() != 0:
            self.skipTest("a jail needs root")

    def boot(self, api):
        drive = {"drive_id": "rootfs", "is_root_device": True, "is_read_only": False}
        for target, body in (
            ("/boot-source", {"kernel_image_path": "/vmlinux"}),
            ("/drives/rootfs", {**drive, "path_on_host": "/rootfs.ext4"}),
            ("/vsock", {"guest_cid": 3, "uds_path": "/run/v"}),
            ("/actions", {"action_type": "InstanceStart"}),
        ):
            self.assertEqual(api.put(target, **body), (204, None))

    def test_a_jail(self):
        root, process, api = self.jail("--resource-limit", "no-file=512")
        status = Path(f"/proc/{process.pid}/status").read_text()
        self.assertIn("Uid:\t1234\t1234\t1234\t1234\n", status)
        self.assertIn("512 ", Path(f"/proc/{process.pid}/limits").read_text())
        self.assertTrue(os.path.samefile(f"/proc/{process.pid}/root", root))
        self.assertEqual((root / "firecracker.pid").read_text(), str(process.pid))
        self.assertTrue(stat.S_ISCHR((root / "dev/net/tun").stat().st_mode))
        self.assertEqual((root.stat().st_uid, root.stat().st_gid), (1234, 1234))
        self.assertEqual(list((root / "usr").iterdir()), [])
        self.assertEqual(api.get("/")["id"], ID)
        self.boot(api)
        vm = Vm.__new__(Vm)
        vm.vsock = root / "run/v"
        with vm.connect(52) as s:
            s.sendall(b"x")
            self.assertEqual(s.recv(1), b"x")
        self.assertEqual(end(process), -signal.SIGTERM)

    def test_a_pid_namespace(self):
        root, process, _ = self.jail("--new-pid-ns")
        self.assertEqual(process.wait(PATIENCE_S), 0)
        pid = int((root / "firecracker.pid").read_text())
        self.assertIn(f"NSpid:\t{pid}\t1\n", Path(f"/proc/{pid}/status").read_text())
        os.kill(pid, signal.SIGKILL)

    def test_arguments(self):
        required = ["--id", ID, "--exec-file", STAND_IN, "--uid", "1", "--gid", "1"]
        no_file = ["--exec-file", "/nonexistent/firecracker"]
        for wrong in (["--uid", "x"], ["--id", "a/b"], no_file, ["--gid"]):
            args = required.copy()
            at = args.index(wrong[0])
            args[at : at + 2] = wrong
            with self.subTest(args=wrong):
                self.assertNotEqual(run(JAILER, *args).returncode, 0)
        self.assertNotEqual(run(JAILER, *required, "--resource-limit", "cpu=1").returncode, 0)
        self.assertEqual(run(JAILER, *required[:4]).returncode, 153)


@unittest.skipUnless(os.environ.get("FIRECRACKER"), "FIRECRACKER names no real one")
class Real(StandInTest):
    """The rules that need no kernel to boot, against the real thing."""

    def test_rules(self):
        vm = self.vm(program=shutil.which(os.environ["FIRECRACKER"])).listening()
        self.assertEqual(vm.api.get("/")["state"], "Not started")
        self.assert_fault(vm.start(), "kernel")
        paused = vm.api.patch("/vm", state="Paused")
        self.assert_fault(paused, "not supported before starting the microVM")
        self.assert_fault(vm.api.put("/machine-config", vcpu_count=33, mem_size_mib=128), "vCPU")
        self.assertEqual(vm.api.put("/machine-config", vcpu_count=1, mem_size_mib=128), (204, None))
        self.assert_fault(vm.api.put("/nothing"), "Invalid request method and/or path")


if __name__ == "__main__":
    unittest.main()
