"""The five Kubernetes requests, against a stand-in for k3s that has bad days (k3s/k3s.c), and
against the real one where $K3S names it.

The agent and all that it starts live in a network and a mount namespace of their own, with empty
/etc, /run, /tmp and /var/lib.
"""

import os
import shutil
import signal
import threading
import time
import unittest
from pathlib import Path

import lab
from lab import Agent, LabTest, NetLab, RpcError, until

START, STOP, DELETE, STATUS, KUBECONFIG = range(5, 10)
STAND_IN, CTL = lab.BUILD / "k3s", lab.BUILD / "arcboxctl"
REAL = os.environ.get("K3S")
DATA = "/var/lib/rancher/k3s"
ENDPOINT = "https://127.0.0.1:16443"
PROGRAMS = ("containerd", "containerd-shim-runc-v2", "runc", "k3s")

# The lab's directory and the programs under test stay where they are.
PREPARE = """
mount -t tmpfs none /mnt
mkdir /mnt/lab /mnt/build
mount --bind "$1" /mnt/lab
mount --bind "$2" /mnt/build
for dir in /etc /run /tmp /var/lib; do mount -t tmpfs -o mode=755 none $dir; done
mkdir -p "$1" "$2" /var/run
mount --move /mnt/lab "$1"
mount --move /mnt/build "$2"
echo ready > "$1/ready"
exec sleep infinity
"""


class KubernetesLab(NetLab):
    def __init__(self):
        super().__init__()
        self.bin, self.day = self.dir / "bin", self.dir / "day"
        self.bin.mkdir()
        self.day.mkdir()
        for program in PROGRAMS:
            shutil.copy(STAND_IN, self.bin / program)
        holder = self.start("unshare", "--mount", "sh", "-c", PREPARE, "sh", self.dir, lab.BUILD)
        until((self.dir / "ready").exists, "a mount namespace")
        self.enter = ["nsenter", f"--target={holder.pid}", "--net", "--mount"]
        self.root = Path(f"/proc/{holder.pid}/root")

    def path(self, name):
        """A file of the namespace, from here."""
        return self.root / name.lstrip("/")

    def sets(self, **day):
        """What kind of a day it is; None: nothing of the kind."""
        for name, value in day.items():
            if value is None:
                (self.day / name).unlink(missing_ok=True)
            else:
                (self.day / name).write_text(f"{value}\n")

    def running(self, word):
        """The processes of this lab whose command line holds the words."""
        found = []
        for pid in self._pids():
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if word in line:
                found.append(pid)
        return found

    def k3s(self):
        """k3s itself, not what it started: that is a process group of its own, but no session."""
        pids = self.running("k3s server")
        return [p for p in pids if os.getpgid(p) == p != os.getsid(p)]

    def agent(self, *options):
        return Agent(
            self,
            f"--runtime-dir={self.bin}",
            "--data-device=off",
            *options,
            env={**os.environ, "K3S_DAY": str(self.day)},
        )


class Answer:
    """A response of any of the five requests, by the names of its fields."""

    NAMES = {
        START: ("running", "api_ready", "endpoint", "detail"),
        STOP: ("stopped", "detail"),
        DELETE: ("detail",),
        STATUS: ("running", "api_ready", "endpoint", "detail", "services"),
        KUBECONFIG: ("kubeconfig", "context_name", "endpoint"),
    }

    def __init__(self, kind, found):
        for number, name in enumerate(self.NAMES[kind], 1):
            value = found.get(number, [0])
            if name == "services":
                self.services = [Answer.service(v) for v in value]
            else:
                value = value[0]
                setattr(self, name, value.decode() if isinstance(value, bytes) else value)

    @staticmethod
    def service(data):
        return tuple(v[0].decode() for v in lab.fields(data).values())


def bad_day(**day):
    """What kind of a day it is from the start of the test."""

    def mark(test):
        test.day = day
        return test

    return mark


@unittest.skipUnless(STAND_IN.exists(), f"{STAND_IN} is not built")
class KubernetesTest(LabTest):
    OPTIONS = ()

    def setUp(self):
        self.lab = self.new_lab(KubernetesLab)
        self.lab.sets(**getattr(getattr(self, self._testMethodName), "day", {}))
        self.agent = self.lab.agent(*self.OPTIONS)

    @classmethod
    def setUpClass(cls):
        pass

    def ask(self, kind):
        with self.agent.rpc() as rpc:
            return Answer(kind, rpc.call(kind))

    def refused(self, kind, code):
        with self.assertRaises(RpcError) as caught:
            self.ask(kind)
        self.assertEqual(caught.exception.code, code, caught.exception.text)
        return caught.exception.text

    def start(self):
        answer = self.ask(START)
        self.assertTrue(answer.running and answer.api_ready, answer.detail)
        return answer


class Life(KubernetesTest):
    def test_from_start_to_delete(self):
        before = self.ask(STATUS)
        self.assertEqual((before.running, before.detail), (0, "k3s not running"))
        self.assertEqual(self.ask(STOP).detail, "k3s already stopped")
        self.assertIn("k3s.yaml", self.refused(KUBECONFIG, 404))
        self.assertEqual(self.start().endpoint, ENDPOINT)
        self.check_running()
        self.assertEqual(vars(self.ask(STOP)), {"stopped": 1, "detail": "k3s stopped"})
        self.assertEqual(self.lab.k3s(), [])
        self.assertFalse(self.lab.path("/run/arcbox/k3s.pid").exists())
        self.start()
        deleted = self.ask(DELETE).detail
        for words in ("k3s stopped", "namespace k8s.io removed", f"{DATA} emptied"):
            self.assertIn(words, deleted)
        for name in (DATA, "/var/lib/kubelet", "/var/lib/cni"):
            self.assertEqual(list(self.lab.path(name).iterdir()), [])
        self.refused(KUBECONFIG, 404)
        self.start()

    def check_running(self):
        [pid] = self.lab.k3s()
        self.assertEqual(self.lab.path("/run/arcbox/k3s.pid").read_text(), f"{pid}\n")
        now = self.ask(STATUS)
        self.assertEqual((now.running, now.api_ready, now.endpoint), (1, 1, ENDPOINT))
        self.assertEqual(now.detail, "k3s running, API ready")
        containerd = ("containerd", "ready", "containerd socket ready")
        self.assertEqual(now.services, [containerd, ("k3s", "ready", now.detail)])
        config = self.ask(KUBECONFIG)
        self.assertEqual((config.context_name, config.endpoint), ("arcbox", ENDPOINT))
        file = self.lab.path(f"{DATA}/k3s.yaml")
        self.assertEqual(config.kubeconfig, file.read_text())
        self.assertEqual(file.stat().st_mode & 0o777, 0o600)

    def test_flags(self):
        self.start()
        [pid] = self.lab.k3s()
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
        self.assertEqual(words[0], f"{self.lab.bin}/k3s")
        self.assertEqual(words[1:], [
            "server",
            "--container-runtime-endpoint=/run/containerd/containerd.sock",
            f"--data-dir={DATA}",
            f"--write-kubeconfig={DATA}/k3s.yaml",
            "--write-kubeconfig-mode=0600",
            "--disable=traefik",
            "--disable=servicelb",
        ])  # fmt: skip
        self.assertIn("Starting k3s", self.lab.path("/tmp/k3s.log").read_text())

    def test_start_of_what_runs(self):
        self.start()
        pids = self.lab.k3s()
        self.assertEqual(self.start().detail, "k3s already running; Kubernetes API ready")
        self.assertEqual(self.lab.k3s(), pids)

    def test_children_end_with_it_but_for_shims(self):
        self.lab.sets(shims=2)
        self.start()
        until(lambda: len(self.lab.running("k3s server")) == 4, "children")
        self.ask(STOP)
        until(lambda: len(self.lab.running("k3s server")) == 2, "the end of those of its group")

    def test_shutdown_ends_it_and_answers_those_who_wait(self):
        self.start()
        self.lab.sets(term_ms=2000)
        with self.agent.rpc() as first, self.agent.rpc() as second:
            first.ask(STOP)
            second.ask(STATUS)
            until(lambda: "Shutting down" in self.log(), "the stop")
            self.agent.process.send_signal(signal.SIGTERM)
            for rpc in (first, second):
                kind, _, body = rpc.answer()
                self.assertEqual(kind, lab.ERROR)
                self.assertEqual(RpcError(body).code, 503)
        self.assertEqual(self.agent.process.wait(lab.PATIENCE_S), 0)
        self.assertEqual(self.lab.k3s(), [])

    def log(self):
        return self.lab.path("/tmp/k3s.log").read_text()


class BadDays(KubernetesTest):
    OPTIONS = ("--restart=100ms", "--k3s-answer-time=4s", "--k3s-stop-time=2s",
               "--containerd-time=3s", "--k3s-delete-time=3s")  # fmt: skip

    def test_missing_binaries_are_named(self):
        for name in ("k3s", "runc"):
            (self.lab.bin / name).rename(self.lab.dir / name)
        words = f"missing Kubernetes binaries under {self.lab.bin}: runc, k3s"
        self.assertEqual(self.ask(STATUS).detail, f"k3s not running; {words}")
        answer = self.ask(START)
        self.assertEqual((answer.running, answer.detail), (0, words))
        for name in ("k3s", "runc"):
            (self.lab.dir / name).rename(self.lab.bin / name)
        self.start()

    def test_what_cannot_be_run(self):
        (self.lab.bin / "k3s").write_text("no program")
        self.assertIn("k3s failed: Exec format error", self.ask(START).detail)
        self.assertFalse(self.lab.path("/run/arcbox/k3s.pid").exists())

    def test_dies_at_once(self):
        self.lab.sets(die_ms=0)
        answer = self.ask(START)
        self.assertEqual((answer.running, answer.api_ready), (0, 0))
        for words in ("k3s failed: it ended at once", "no luck today"):
            self.assertIn(words, answer.detail)
        status = self.ask(STATUS)
        self.assertEqual(status.services[1][:2], ("k3s", "error"))
        self.assertIn("no luck today", status.services[1][2])
        self.lab.sets(die_ms=None)
        self.start()

    def test_dies_when_it_was_ready(self):
        self.start()
        [first] = self.lab.k3s()
        os.kill(first, signal.SIGKILL)
        until(lambda: self.lab.k3s() not in ([], [first]) and self.ask(STATUS).api_ready, "k3s")
        [second] = self.lab.k3s()
        self.assertEqual(self.lab.path("/run/arcbox/k3s.pid").read_text(), f"{second}\n")

    def test_api_that_is_late(self):
        self.lab.sets(no_api=1)
        answer = self.ask(START)
        self.assertEqual((answer.running, answer.api_ready), (1, 0))
        self.assertIn("Kubernetes API not ready yet", answer.detail)
        self.assertEqual(self.ask(STATUS).services[1][1], "not_ready")
        self.lab.sets(no_api=None)
        self.assertIn("already running", self.start().detail)
        self.assertEqual(self.ask(STOP).detail, "k3s stopped")

    def test_api_port_of_another(self):
        code = "import socket,time\ns=socket.create_server(('127.0.0.1',6443))\n"
        code += "open('/tmp/listens','w')\ntime.sleep(99)"
        other = self.lab.start("python3", "-c", code)
        until(self.lab.path("/tmp/listens").exists, "the other process")
        self.assertIn("another process", self.ask(START).detail)
        self.assertEqual(self.lab.k3s(), [])
        lab.end(other)
        self.start()

    def test_stop_that_is_refused(self):
        self.lab.sets(no_term=1)
        self.start()
        self.assertEqual(self.ask(STOP).detail, "k3s force-stopped")
        self.lab.sets(no_term=None, term_ms=300)
        self.start()
        self.assertEqual(self.ask(STOP).detail, "k3s stopped")

    def test_containerd_that_does_not_come(self):
        self.lab.sets(containerd_ms=60000)
        answer = self.ask(START)
        self.assertEqual(answer.running, 0)
        self.assertIn("containerd failed", answer.detail)
        self.assertEqual(self.lab.k3s(), [])
        self.lab.sets(containerd_ms=None)
        self.start()

    def test_stop_during_a_restart(self):
        self.start()
        self.lab.sets(die_ms=0)
        os.kill(self.lab.k3s()[0], signal.SIGKILL)
        until(lambda: self.ask(STATUS).services[1][1] == "error", "its end")
        self.assertEqual(self.ask(STOP).detail, "k3s stopped")
        self.assertEqual(self.ask(STATUS).detail, "k3s not running")

    def test_kubeconfig_that_is_no_text(self):
        self.start()
        file = self.lab.path(f"{DATA}/k3s.yaml")
        file.write_bytes(b"\xff\xfe")
        self.refused(KUBECONFIG, 500)
        file.write_bytes(b"x" * (1 << 20))
        self.refused(KUBECONFIG, 500)
        file.unlink()
        os.mkfifo(file)
        self.refused(KUBECONFIG, 500)
        file.unlink()
        file.write_bytes(b"")
        self.refused(KUBECONFIG, 404)

    def test_namespace_that_stays(self):
        moods = ("busy", "must be empty"), ("noise", "?[31m??"), ("hang", "did not end")
        for mood, words in moods:
            self.lab.sets(ctr=mood)
            self.start()
            detail = self.ask(DELETE).detail
            self.assertIn("namespace k8s.io not removed: ", detail)
            self.assertIn(words, detail)
            self.assertIn(f"{DATA} emptied", detail)


class EarlierAgent(KubernetesTest):
    """The agent is killed; its k3s goes on."""

    OPTIONS = ("--k3s-stop-time=600ms",)

    def setUp(self):
        super().setUp()
        self.start()
        [self.pid] = self.lab.k3s()
        self.agent.process.kill()
        self.agent.process.wait()
        self.agent = self.lab.agent(*self.OPTIONS)

    def test_is_found_and_stopped(self):
        status = self.ask(STATUS)
        self.assertEqual((status.running, status.api_ready), (1, 1))
        self.assertIn("already running", self.start().detail)
        self.assertEqual(self.lab.k3s(), [self.pid])
        self.assertEqual(self.ask(STOP).detail, "k3s stopped")
        self.assertFalse(os.path.exists(f"/proc/{self.pid}/exe"))
        self.start()

    @bad_day(no_term=1)
    def test_refuses_to_stop(self):
        self.assertEqual(self.ask(STOP).detail, "k3s force-stopped")
        self.assertEqual(self.lab.k3s(), [])

    def test_dies_by_itself(self):
        os.kill(self.pid, signal.SIGKILL)
        until(lambda: not self.ask(STATUS).running, "its end")
        self.assertEqual(self.ask(STOP).detail, "k3s already stopped")

    def test_pid_file_of_somebody_else(self):
        self.ask(STOP)
        other = self.lab.start("sleep", "99", start_new_session=True)
        for text in (f"{other.pid}\n", "1\n", f"{self.agent.pid}\n", "-1\n", "0", "x", "9" * 40):
            self.lab.path("/run/arcbox/k3s.pid").write_text(text)
            self.assertFalse(self.ask(STATUS).running)
            self.assertEqual(self.ask(STOP).detail, "k3s already stopped")
        self.assertIsNone(other.poll())


class Delete(KubernetesTest):
    """Nothing but what is in its directories goes."""

    def setUp(self):
        super().setUp()
        self.precious = self.lab.path("/var/lib/precious")
        (self.precious / "inner").mkdir(parents=True)
        (self.precious / "inner/file").write_text("dear")
        self.data = self.lab.path(DATA)
        self.data.mkdir(parents=True)

    def mount(self, *argv):
        lab.output(*self.lab.enter, "mount", *argv)

    def assert_unhurt(self):
        self.assertEqual((self.precious / "inner/file").read_text(), "dear")

    def test_mounts_are_unmounted_and_what_they_show_is_left(self):
        for name in ("bind", "over", "deep/er"):
            (self.data / name).mkdir(parents=True)
            self.mount("--bind", "/var/lib/precious", f"{DATA}/{name}")
        self.mount("-t", "tmpfs", "none", f"{DATA}/over/inner")
        (self.data / "file").write_text("")
        self.mount("--bind", "/var/lib/precious/inner/file", f"{DATA}/file")
        detail = self.ask(DELETE).detail
        self.assertIn(f"5 unmounted below {DATA}; {DATA} emptied", detail)
        self.assert_unhurt()
        self.assertEqual(list(self.data.iterdir()), [])

    def test_mount_that_is_busy_stays_whole(self):
        """A bind mount of the same filesystem: it has the device number of its parent."""
        target = self.data / "pods/volume"
        target.mkdir(parents=True)
        self.mount("--bind", "/var/lib/precious", f"{DATA}/pods/volume")
        code = f"import os,time\nos.chdir('{DATA}/pods/volume/inner')\nopen('here','w')\ntime.sleep(99)"
        busy = self.lab.start("python3", "-c", code)
        until((self.precious / "inner/here").exists, "the one who is there")
        (self.data / "other").write_text("goes")
        detail = self.ask(DELETE).detail
        self.assertIn(f"1 still mounted below {DATA}, {DATA}/pods/volume", detail)
        self.assertIn("1 left, first pods: something is mounted there", detail)
        self.assert_unhurt()
        self.assertEqual(list(self.data.iterdir()), [self.data / "pods"])
        lab.end(busy)
        self.assertIn(f"{DATA} emptied", self.ask(DELETE).detail)
        self.assert_unhurt()

    def test_symbolic_links_go_and_what_they_name_stays(self):
        inner = "/var/lib/precious/inner"
        (self.data / "to-dir").symlink_to(inner)
        (self.data / "to-file").symlink_to(f"{inner}/file")
        (self.data / "up").symlink_to("../../precious")
        (self.data / "loop").symlink_to("loop")
        (self.data / "root").symlink_to("/")
        self.assertIn(f"{DATA} emptied", self.ask(DELETE).detail)
        self.assert_unhurt()

    def test_directory_that_is_a_symbolic_link(self):
        self.lab.path("/var/lib/kubelet").symlink_to("/var/lib/precious")
        self.assertIn("/var/lib/kubelet left alone", self.ask(DELETE).detail)
        self.assert_unhurt()

    def test_deep_and_wide(self):
        make = f"import os\nos.chdir('{DATA}')\nfor i in range(3000): os.mkdir('d'); os.chdir('d')"
        lab.output(*self.lab.enter, "python3", "-c", make)
        for i in range(3000):
            (self.data / f"file {i}\n\x1b").write_text("")
        self.assertIn(f"{DATA} emptied", self.ask(DELETE).detail)
        self.assertEqual(list(self.data.iterdir()), [])

    def test_what_does_not_go_is_named(self):
        self.start()
        self.lab.sets(no_term=1)
        target = self.data / "pinned"
        target.mkdir()
        self.mount("-t", "tmpfs", "-o", "size=1m", "none", f"{DATA}/pinned")
        (target / "x").write_text("")
        self.mount("-o", "remount,ro", f"{DATA}/pinned")
        code = f"import os,time\nos.chdir('{DATA}/pinned')\nopen('/tmp/there','w')\ntime.sleep(99)"
        self.lab.start("python3", "-c", code)
        until(self.lab.path("/tmp/there").exists, "the one who is there")
        self.assertIn("pinned", self.ask(DELETE).detail)
        self.assertTrue((target / "x").exists())


class Storms(KubernetesTest):
    OPTIONS = ("--restart=50ms", "--restart-max=100ms", "--max-waiting=1024",
               "--k3s-answer-time=5s")  # fmt: skip

    def test_many_at_once(self):
        """Mixtures of all five, and the ping beside them."""
        self.lab.sets(api_ms=20, config_ms=10, term_ms=10)
        rounds, slowest, problems = [], [], []
        kinds = [START, STATUS, STOP, KUBECONFIG, START, DELETE, STATUS, START] * 4

        def client(kind):
            try:
                rounds.append((kind, self.ask(kind)))
            except RpcError as e:
                rounds.append((kind, e))
                if (kind, e.code) != (KUBECONFIG, 404):
                    problems.append(e.text)
            except Exception as e:
                problems.append(e)

        self.start()
        before = lab.descriptors(self.agent.pid)
        threads = [threading.Thread(target=client, args=(kind,)) for kind in kinds]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            began = time.monotonic()
            self.agent.ping()
            slowest.append(time.monotonic() - began)
        self.assertEqual(problems, [])
        self.assertEqual(len(rounds), len(kinds))
        self.note(f"{len(slowest)} pings meanwhile, slowest {max(slowest) * 1000:.1f} ms")
        self.start()
        self.assertEqual(len(self.lab.k3s()), 1)
        self.agent.settled(before)

    def test_killed_again_and_again(self):
        self.lab.sets(api_ms=20, config_ms=10, shims=0)
        self.start()
        for _ in range(20):
            [pid] = until(self.lab.k3s, "a k3s")
            os.kill(pid, signal.SIGKILL)
            status = self.ask(STATUS)
            self.assertFalse(status.api_ready and not status.running)
            until(lambda: self.lab.k3s() not in ([], [pid]), "the next one")
        until(lambda: self.ask(STATUS).api_ready, "its API")
        zombies = [p for p in self.lab._pids() if " Z " in Path(f"/proc/{p}/stat").read_text()]
        self.assertEqual(zombies, [])
        self.assertEqual(self.ask(STOP).detail, "k3s stopped")
        until(lambda: self.lab.k3s() == [], "the end of all")

    def test_agent_that_dies_in_the_middle_of_anything(self):
        self.lab.sets(api_ms=20, config_ms=10, term_ms=30, shims=0)
        for i in range(12):
            with self.agent.rpc() as rpc:
                rpc.ask((START, DELETE, START, STOP)[i % 4])
                time.sleep(0.03 * (i % 5))
                self.agent.process.kill()
                self.agent.process.wait()
            self.agent = self.lab.agent(*self.OPTIONS)
        self.ask(STOP)
        self.assertEqual(self.ask(STATUS).running, 0)
        until(lambda: self.lab.k3s() == [], "the end of all")
        self.start()

    def test_only_so_many_wait(self):
        self.agent.stop()
        self.agent = self.lab.agent("--max-waiting=3", "--k3s-answer-time=1500ms")
        self.lab.sets(no_api=1)
        peers = [self.agent.rpc() for _ in range(6)]
        for rpc in peers:
            rpc.ask(START)
        kinds = sorted(rpc.answer()[0] for rpc in peers)
        self.assertEqual(kinds, [START | 0x1000] * 3 + [lab.ERROR] * 3)
        for rpc in peers:
            rpc.socket.close()

    def test_clients_that_vanish(self):
        self.start()
        before = lab.descriptors(self.agent.pid)
        for kind in (STATUS, STOP, START, DELETE, KUBECONFIG) * 4:
            with self.agent.rpc() as rpc:
                rpc.ask(kind)
        self.start()
        self.agent.settled(before)


@unittest.skipUnless(CTL.exists(), f"{CTL} is not built")
class Commands(KubernetesTest):
    """arcboxctl, with the agent."""

    OPTIONS = ("--k3s-answer-time=3s", "--dockerd-time=2s", "--docker-socket=/run/d.sock")

    def ctl(self, *argv, status=0):
        done = lab.run(CTL, "-H", f"unix:{self.agent.socket}", *argv)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout

    def test_k8s(self):
        self.assertIn("k3s not running", self.ctl("k8s", "status"))
        self.ctl("k8s", "kubeconfig", status=1)
        self.lab.sets(no_api=1)
        self.assertIn("API not ready yet", self.ctl("k8s", "start", status=1))
        self.lab.sets(no_api=None)
        until(lambda: self.ask(STATUS).api_ready, "the API")
        self.assertIn("k3s already running", self.ctl("k8s", "start"))
        config = self.lab.path(f"{DATA}/k3s.yaml").read_text()
        config = config.replace("default", "arcbox").replace("127.0.0.1:6443", "127.0.0.1:16443")
        self.assertEqual(self.ctl("k8s", "kubeconfig"), config)
        self.assertIn("k3s stopped", self.ctl("k8s", "stop"))
        self.assertIn(f"{DATA} emptied", self.ctl("k8s", "delete"))

    def test_last_words(self):
        self.lab.sets(die_ms=0)
        self.ctl("k8s", "start", status=1)
        lines = self.ctl("logs", "k3s").splitlines()
        self.assertEqual(lines[0], "k3s: error")
        self.assertIn("no luck today", lines[-1])
        self.assertIn("containerd: ready\ndockerd: not_ready\nk3s: error\n", self.ctl("logs"))

    def test_ensure_shows_the_steps(self):
        """A dockerd that never answers."""
        shutil.copy(self.lab.bin / "runc", self.lab.bin / "dockerd")
        out = self.ctl("ensure", "--start", status=1)
        steps = ["prerequisites ready", "directories ready", "containerd: ready"]
        self.assertEqual(out.splitlines()[:3], steps)
        self.assertIn("dockerd failed: it was not ready in time", out)


@unittest.skipUnless(REAL, "K3S does not name a k3s")
class Real(KubernetesTest):
    """The real one, on the containerd of this machine."""

    OPTIONS = ("--k3s-answer-time=5m",)

    def setUp(self):
        self.lab = self.new_lab(KubernetesLab)
        for program in PROGRAMS:
            (self.lab.bin / program).unlink()
            (self.lab.bin / program).symlink_to(REAL if program == "k3s" else shutil.which(program))
        self.agent = self.lab.agent(*self.OPTIONS)

    def test_from_start_to_delete(self):
        self.start()
        self.assertIn("certificate-authority-data", self.ask(KUBECONFIG).kubeconfig)
        self.assertEqual(self.ask(STOP).stopped, 1)
        self.assertIn(DATA, self.ask(DELETE).detail)
