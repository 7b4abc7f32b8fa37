"""tools/mkruntime: a root in which the engine's programs run, the same each time."""

import os
import stat

import lab
from engine import runtime_image
from lab import LabTest
from vm import TOOLS, tool

ENGINE = "/arcbox/runtime/bin"


class Image(LabTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        (cls.lab.dir / "hello").write_text("hello\n")
        files = (f"{cls.lab.dir}/hello:/greetings/hello:640", f"{cls.lab.dir}/hello:/init")
        cls.image = runtime_image(cls.lab.dir / "image", *files)
        cls.again = runtime_image(cls.lab.dir / "again", *files)
        cls.root = cls.lab.dir / "root"
        lab.output(tool("fsck.erofs"), f"--extract={cls.root}", cls.image)

    def test_same_input_same_bytes(self):
        lab.output("cmp", self.image, self.again)

    def test_all_programs_run(self):
        """In that root, with what is in it."""
        if os.geteuid() != 0:
            self.skipTest("to change the root needs root")
        programs = [f"{ENGINE}/{p}" for p in ("dockerd", "containerd", "runc")]
        for program in (*programs, "/sbin/iptables", "/sbin/ip6tables", "/sbin/mkfs.btrfs"):
            with self.subTest(program):
                said = lab.output(tool("chroot"), self.root, program, "--version")
                self.assertRegex(said, r"\d+\.\d+")
        shim = lab.output(tool("chroot"), self.root, f"{ENGINE}/containerd-shim-runc-v2", "-v")
        self.assertIn("Version", shim)

    def test_there_is_a_place_for_each_mount(self):
        for name in "proc sys dev tmp run var etc arcbox Users media/rosetta".split():
            self.assertTrue((self.root / name).is_dir(), name)

    def test_files_are_added(self):
        for path, mode in ("greetings/hello", 0o640), ("init", 0o644):
            self.assertEqual((self.root / path).read_text(), "hello\n")
            self.assertEqual(stat.S_IMODE((self.root / path).stat().st_mode), mode)


class Mistakes(LabTest):
    def assert_refused(self, message, *options):
        image = self.lab.dir / "image"
        done = lab.run(TOOLS / "mkruntime", "-o", image, "--store", self.lab.dir, *options)
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stderr, message)
        self.assertFalse(image.exists())

    def test_files(self):
        for text in "/no/such", "/etc/passwd:/a:7:c", "/etc/passwd:/a:9", "/etc/passwd:/a:":
            with self.subTest(text):
                self.assert_refused("give it as SRC:DEST", "--file", text)
        self.assert_refused("no place in a root", "--file", "/etc/passwd:/../a")

    def test_no_store(self):
        (self.lab.dir / "file").touch()
        self.assert_refused("Not a directory", "--store", self.lab.dir / "file" / "x")
