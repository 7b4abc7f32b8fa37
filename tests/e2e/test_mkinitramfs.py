"""tools/mkinitramfs: what is in the archive, in which order, and what it says when something is wrong."""

import gzip
import lzma
import stat
from pathlib import Path

import lab
from lab import LabTest

MKINITRAMFS = Path(__file__).resolve().parents[2] / "tools/mkinitramfs"
RELEASE = "1.2.3-test"
LOAD_LIST = "lib/modules/load.list"


def unpack(archive):
    """The entries of a "newc" archive, in order: path -> (numbers of its head, contents)."""
    entries, at = {}, 0
    while True:
        assert archive[at : at + 6] == b"070701"
        numbers = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        size, name_size = numbers[6], numbers[11]
        path = archive[at + 110 : at + 109 + name_size].decode()
        start = at + 110 + name_size + 3 & ~3
        if path == "TRAILER!!!":
            assert start == len(archive)
            return entries
        assert path not in entries
        entries[path] = (numbers, archive[start : start + size])
        at = start + size + 3 & ~3


class Mkinitramfs(LabTest):
    def setUp(self):
        self.lab = self.new_lab()
        self.out = self.lab.dir / "out"

    def run_it(self, *arguments):
        return lab.run(MKINITRAMFS, "-o", self.out, *arguments)

    def make(self, *arguments):
        done = self.run_it(*arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return unpack(self.out.read_bytes())

    def assert_refused(self, word, *arguments):
        self.out.unlink(missing_ok=True)
        done = self.run_it(*arguments)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(word, done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertEqual([p.name for p in self.lab.dir.glob("out*")], [])

    def file(self, name, content=b"content", mode=0o644):
        path = self.lab.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
        return path

    # --- files ---

    def test_nothing_is_a_console(self):
        entries = self.make()
        self.assertEqual(list(entries), ["dev", "dev/console"])
        numbers, _ = entries["dev/console"]
        self.assertEqual(numbers[1], stat.S_IFCHR | 0o600)
        self.assertEqual(numbers[9:11], [5, 1])

    def test_what_is_named_is_there(self):
        plain, program = self.file("plain"), self.file("program", b"run", 0o700)
        entries = self.make(
            f"--file={plain}:/etc/a/plain", f"--file={program}:init", f"--file={plain}:/x:4711",
            "--dir=/tmp:1777", "--symlink=/etc/a:/b", "--node=/dev/vda:b:254:0:660",
        )  # fmt: skip
        found = {path: (oct(numbers[1]), data) for path, (numbers, data) in entries.items()}
        self.assertEqual(
            found,
            {
                "b": (oct(stat.S_IFLNK | 0o777), b"/etc/a"),
                "dev": (oct(stat.S_IFDIR | 0o755), b""),
                "dev/console": (oct(stat.S_IFCHR | 0o600), b""),
                "dev/vda": (oct(stat.S_IFBLK | 0o660), b""),
                "etc": (oct(stat.S_IFDIR | 0o755), b""),
                "etc/a": (oct(stat.S_IFDIR | 0o755), b""),
                "etc/a/plain": (oct(stat.S_IFREG | 0o644), b"content"),
                "init": (oct(stat.S_IFREG | 0o755), b"run"),
                "tmp": (oct(stat.S_IFDIR | 0o1777), b""),
                "x": (oct(stat.S_IFREG | 0o4711), b"content"),
            },
        )
        self.assertEqual(list(entries), sorted(entries))

    def test_it_is_the_same_each_time(self):
        a, b = self.file("a"), self.file("b", b"other")
        self.make(f"--file={a}:/a", f"--file={b}:/b")
        first = self.out.read_bytes()
        a.touch()
        entries = self.make(f"--file={b}:/b", f"--file={a}:/a")
        self.assertEqual(self.out.read_bytes(), first)
        for inode, (numbers, _) in enumerate(entries.values(), 1):
            # inode, owner, group, time of change
            self.assertEqual((numbers[0], *numbers[2:4], numbers[5]), (inode, 0, 0, 0))
        self.run_it("--gzip", f"--file={a}:/a", f"--file={b}:/b")
        packed = self.out.read_bytes()
        self.assertEqual(gzip.decompress(packed), first)
        self.assertEqual(packed[3:8], bytes(5))  # no name, no time

    def test_what_is_wrong_is_one_clear_line(self):
        a = self.file("a")
        self.assert_refused("/nowhere", "--file=/nowhere:/a")
        self.assert_refused("SRC:DEST", f"--file={a}")
        self.assert_refused("SRC:DEST", f"--file={a}:/a:rw")
        self.assert_refused("PATH:MODE", "--dir=/tmp:99999")
        self.assert_refused("MAJOR", "--node=/dev/x:q:1:2:600")
        self.assert_refused("twice", f"--file={a}:/a", f"--file={a}:/a")
        self.assert_refused("no directory", f"--file={a}:/a", f"--file={a}:/a/b")
        self.assert_refused("no place", f"--file={a}:/../a")

    # --- modules ---

    def module(self, name, text="", pack=bytes, suffix=""):
        """An object whose .modinfo says that."""
        strings = text.replace(" | ", "\\0")
        code = f'__attribute__((section(".modinfo"), used)) static const char i[] = "{strings}";'
        built = self.lab.dir / "module.o"
        lab.output("gcc", "-c", "-x", "c", "-o", built, "-", input=code)
        path = f"{RELEASE}/kernel/{name}.ko{suffix}"
        return self.file(path, pack(built.read_bytes()))

    def loaded(self, *names):
        entries = self.make(f"--modules={self.lab.dir / RELEASE}", "--load", *names)
        lines = entries[LOAD_LIST][1].decode().splitlines()
        for line in lines:
            self.assertIn(line.lstrip("/"), entries)
            self.assertTrue(entries[line.lstrip("/")][1].startswith(b"\x7fELF"))
        kernel = f"/lib/modules/{RELEASE}/kernel/"
        return [line.removeprefix(kernel).removesuffix(".ko") for line in lines]

    def test_modules_stand_behind_what_they_need(self):
        self.module("net/top", "license=GPL | depends=mid,low-level")
        self.module("mid", "depends=low_level | depends=")
        self.module("low-level")
        self.module("unused", "depends=top")
        self.assertEqual(self.loaded("top"), ["low-level", "mid", "net/top"])
        self.assertEqual(self.loaded("mid", "top"), ["low-level", "mid", "net/top"])
        self.assertEqual(self.loaded("low_level"), ["low-level"])

    def test_modules_that_should_be_there(self):
        self.module("fs", "softdep=pre: sum other-sum crypto-none post: late | depends=")
        self.module("sum_generic", "alias=sum")
        self.module("other_sum")
        self.module("late")
        self.assertEqual(self.loaded("fs"), ["sum_generic", "other_sum", "fs"])

    def test_what_is_built_in_is_left_out(self):
        self.module("fs", "depends=virtio | softdep=pre: sum")
        self.module("sum_fast", "alias=sum")
        self.file(f"{RELEASE}/modules.builtin.modinfo", b"virtio.license=GPL\0sum_c.alias=sum\0")
        self.file(f"{RELEASE}/modules.builtin", b"kernel/virtio.ko\nkernel/sum-c.ko\n")
        self.assertEqual(self.loaded("fs", "virtio", "sum-c"), ["fs"])

    def test_packed_modules_are_unpacked(self):
        self.module("a", "depends=b", pack=lzma.compress, suffix=".xz")
        self.module("b", pack=gzip.compress, suffix=".gz")
        self.assertEqual(self.loaded("a"), ["b", "a"])
        for name, suffix, why in ("c", ".zst", "unpack"), ("d", ".xz", "damaged"):
            self.module(name, suffix=suffix)
            self.assert_refused(why, f"--modules={self.lab.dir / RELEASE}", "--load", name)

    def test_modules_that_cannot_be_had(self):
        where = f"--modules={self.lab.dir / RELEASE}"
        self.assert_refused("no kernel modules", where, "--load", "a")
        self.module("a", "depends=gone")
        self.assert_refused("gone", where, "--load", "a")
        self.assert_refused("nope", where, "--load", "nope")
        self.file(f"{RELEASE}/kernel/bad.ko", b"no module")
        self.assert_refused("bad.ko", where, "--load", "bad")
        whole = self.module("cut").read_bytes()
        for size in range(6, len(whole), 97):
            self.file(f"{RELEASE}/kernel/cut.ko", whole[:size])
            done = self.run_it(where, "--load", "cut")
            self.assertNotIn("Traceback", done.stderr)
