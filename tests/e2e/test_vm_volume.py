"""The data volume in a virtual machine: what is made of a disk, what is left alone, what survives."""

import hashlib
import os
import signal
import struct

import lab
from engine import BUSYBOX, EngineVm
from lab import LabTest
from vm import ProbeError, guest, tool

MIB = 1 << 20
DISK_BYTES = 256 * MIB
ENGINES = {
    "@docker": "/var/lib/docker",
    "@containerd": "/var/lib/containerd",
    "@k3s": "/var/lib/rancher/k3s",
    "@kubelet": "/var/lib/kubelet",
    "@cni": "/var/lib/cni",
}
DATABASES = {
    "/var/lib/docker": {"containerd", "network", "builder", "buildkit", "image", "trust"},
    "/var/lib/containerd": {"io.containerd.metadata.v1.bolt"},
}
MAGIC = 0x10040  # of Btrfs
NOISE = "/var/lib/docker/noise"
NOCOW = 0x800000  # FS_NOCOW_FL


# --- disks ---


def empty_disk(home, name="disk"):
    return guest.make_empty_disk(home.dir / name, DISK_BYTES // MIB)


def write(disk, *pieces):
    """(offset, bytes); a negative offset counts from the end."""
    with open(disk, "r+b") as file:
        for at, data in pieces:
            file.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
            file.write(data)


def clear(disk):
    os.truncate(disk, 0)
    os.truncate(disk, DISK_BYTES)


def read(disk, at, size):
    with open(disk, "rb") as file:
        file.seek(at)
        return file.read(size)


def digest(disk):
    with open(disk, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ext4(disk):
    lab.output(tool("mkfs.ext4"), "-q", "-F", disk)


def swap(disk):
    lab.output(tool("mkswap"), disk)


def mbr(disk):
    entry = struct.pack("<B3sB3sII", 0x80, b"\0\2\0", 0x83, b"\xff\xff\xff", 2048, 100000)
    write(disk, (446, entry), (510, b"\x55\xaa"))


def gpt(disk):
    """A protecting MBR, the header, one partition, and the copy at the end."""
    mbr(disk)
    partition = bytes(range(1, 33)) + struct.pack("<QQQ", 2048, 4095, 0) + "data".encode("utf-16le")
    write(disk, (512, b"EFI PART\0\0\1\0\x5c\0\0\0"), (1024, partition))
    write(disk, (-512, b"EFI PART\0\0\1\0\x5c\0\0\0"))


def gpt_copy(disk):
    write(disk, (-512, b"EFI PART\0\0\1\0\x5c\0\0\0"))


def luks1(disk):
    write(disk, (0, b"LUKS\xba\xbe\0\1aes".ljust(40, b"\0") + b"xts-plain64"))


def luks2(disk):
    write(disk, (0, b"LUKS\xba\xbe\0\2"), (16384, b"SKUL\xba\xbe\0\2"))


def lvm(disk):
    write(disk, (512, b"LABELONE" + struct.pack("<QII", 1, 0, 32) + b"LVM2 001"))


def raid(disk):
    write(disk, (-8192, struct.pack("<III", 0xA92B4EFC, 1, 0)))


def xfs(disk):
    write(disk, (0, b"XFSB\0\0\x10\0"))


def damaged_btrfs(disk):
    write(disk, (64 * MIB + 0x40, b"_BHRfS_M"))


FOREIGN = {
    ext4: "an ext2, ext3 or ext4 filesystem",
    swap: "swap space",
    mbr: "an MBR partition table",
    gpt: "a GPT partition table",
    gpt_copy: "a GPT partition table",
    luks1: "a LUKS volume",
    luks2: "a LUKS volume",
    lvm: "an LVM physical volume",
    raid: "a member of a Linux RAID array",
    xfs: "an XFS filesystem",
    damaged_btrfs: "a damaged Btrfs filesystem",
}


# --- the machine ---


class VolumeTest(LabTest):
    def boot(self, disk, *words):
        self.vm = EngineVm(self.lab, disk, *words)
        self.addCleanup(self.vm.machine.close)  # memory is for one at a time

    def start(self, outcome):
        """Has the runtime started, and returns what it says of the data volume."""
        self.vm.ensure()
        last = None

        def came_to_it():
            nonlocal last
            last = self.vm.ensure(start=False)
            return outcome in last.message

        self.vm.until(came_to_it, lambda: f"{outcome}; the last answer is {last}")
        return last.message.partition(outcome)[2].partition("; docker socket")[0]

    def failure(self):
        return self.start("data volume setup failed: ")

    def success(self):
        return self.start("data volume ready: ")

    def pull_the_plug(self):
        self.vm.machine.qemu.send_signal(signal.SIGKILL)
        self.vm.machine.qemu.wait()

    def assert_mounted(self):
        mounts = self.vm.mounts()
        self.assertEqual(mounts["/run/arcbox/data"][:2], ("/dev/vdb", "btrfs"))
        for subvolume, path in ENGINES.items():
            source, kind, options = mounts[path]
            self.assertEqual((source, kind), ("/dev/vdb", "btrfs"))
            self.assertLessEqual({f"subvol=/{subvolume}", "noatime", "space_cache=v2"}, options)
            self.assertTrue([o for o in options if o.startswith("compress=zstd:")], options)

    def assert_overwritten_in_place(self):
        """Just the databases, in just the subvolumes where they are."""
        for path in ENGINES.values():
            names = self.vm.probe("list", path).split()
            found = {name for name in names if self.flags(f"{path}/{name}") & NOCOW}
            self.assertEqual(found, DATABASES.get(path, set()), path)

    def flags(self, path):
        return int(self.vm.probe("flags", path), 16)

    def assert_undamaged(self):
        log = [line for line in self.vm.file("/dev/kmsg").splitlines() if "BTRFS" in line]
        self.assertNotRegex("\n".join(log), r"(?i)error|corrupt|warning")


class Foreign(VolumeTest):
    """One machine whose disk changes while nobody looks at it."""

    def test_nothing_of_somebody_elses_is_formatted(self):
        disk = empty_disk(self.lab)
        self.boot(disk)
        for make, name in FOREIGN.items():
            with self.subTest(make.__name__):
                clear(disk)
                make(disk)
                before = digest(disk)
                why = self.failure()
                self.assertIn(f"cannot use /dev/vdb for the data volume: it holds {name};", why)
                self.assertIn("arcbox.format=force", why)
                self.assertEqual(digest(disk), before)
        clear(disk)
        write(disk, (MAGIC, b"!BHRfS_M"))  # mkfs.btrfs was cut off
        self.assertIn("formatted /dev/vdb; mounted /dev/vdb", self.success())
        self.assertEqual(read(disk, MAGIC, 8), b"_BHRfS_M")

    def test_it_is_formatted_by_force(self):
        disk = empty_disk(self.lab)
        ext4(disk)
        self.boot(disk, "arcbox.format=force")
        self.assertIn("formatted /dev/vdb", self.success())
        self.assert_mounted()


class Unreadable(VolumeTest):
    def test_a_disk_that_cannot_be_read(self):
        """Also by force: who knows what is on it."""
        disk = empty_disk(self.lab)
        before = digest(disk)
        errors = self.lab.dir / "errors"
        errors.write_text('[inject-error]\nevent = "read_aio"\nerrno = "5"\n')
        self.boot(f"blkdebug:{errors}:{disk}", "arcbox.format=force")
        self.assertRegex(self.failure(), "^cannot read /dev/vdb: I/O error")
        self.assertEqual(digest(disk), before)

    def test_no_disk(self):
        self.boot(empty_disk(self.lab), "arcbox.data_device=/dev/vdz")
        self.assertRegex(self.failure(), "^cannot read /dev/vdz: there is no such device; ")


class Life(VolumeTest):
    """A volume from one machine to the next."""

    def test_it_outlives_its_machines(self):
        disk = empty_disk(self.lab)
        self.cut_off_formatting(disk)
        self.boot(disk)
        self.assertIn("formatted /dev/vdb; mounted /dev/vdb", self.success())
        self.assert_mounted()
        self.assert_overwritten_in_place()
        kept = self.cut_off_writing()
        self.boot(disk)
        said = self.success()
        self.assertIn("mounted /dev/vdb", said)
        self.assertNotIn("formatted", said)
        self.assert_mounted()
        self.assert_overwritten_in_place()
        self.assertEqual(self.vm.busybox("md5sum", "/var/lib/cni/kept"), kept)
        self.assert_undamaged()

    def cut_off_formatting(self, disk):
        """Pulls the plug when something has been written, but not all."""
        self.boot(disk)
        self.vm.throttle(iops_wr=8)
        self.vm.ensure()
        self.vm.until(lambda: read(disk, MAGIC, 8) == b"!BHRfS_M", "the start of formatting")
        self.pull_the_plug()
        self.assertEqual(read(disk, MAGIC, 8), b"!BHRfS_M")

    def cut_off_writing(self):
        """Pulls the plug while much is being written; the sum of what was synced before."""
        self.vm.busybox("dd", "if=/dev/urandom", "of=/var/lib/cni/kept", "bs=65536", "count=64")
        self.vm.busybox("sync")
        kept = self.vm.busybox("md5sum", "/var/lib/cni/kept")
        with self.vm.ask("run", BUSYBOX, "dd", "if=/dev/urandom", f"of={NOISE}", "bs=65536"):
            self.vm.until(lambda: self.size(NOISE) > 16 * MIB, "enough noise")
            self.pull_the_plug()
        return kept

    def size(self, path):
        """0 as long as it is not there."""
        try:
            return int(self.vm.probe("stat", path).split()[3])
        except ProbeError:
            return 0
