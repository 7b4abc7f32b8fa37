"""The program itself: options, signals, its end, and what it does when it lacks something."""

import os
import select
import signal
import socket
import stat

import lab
from lab import AGENT, Agent, LabTest, field

BAD_OPTIONS = (
    ("--no-such-option", "no-such-option"),
    ("stray", "stray"),
    ("--listen", "listen"),
    ("--listen=", "listen"),
    ("--listen=tcp", "listen"),
    ("--listen=vsock:x", "listen"),
    ("--proxy=unix:/tmp/x", "proxy"),
    ("--dns=1.2.3.4.5:53", "dns"),
    ("--dns-name=web", "dns-name"),
    ("--dns-name=web=1.2.3", "dns-name"),
    ("--max-frame=1", "max-frame"),
    ("--max-frame=99G", "max-frame"),
    ("--max-connections=-1", "max-connections"),
    ("--park-time=soon", "park-time"),
    ("--set-clock=maybe", "set-clock"),
)


class Options(LabTest):
    def run_agent(self, *arguments):
        return lab.run(AGENT, *arguments)

    def test_help_names_every_option(self):
        done = self.run_agent("--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for option in ("listen", "proxy", "dns", "dns-hosts", "docker-socket", "log", "max-frame"):
            self.assertIn(f"--{option}", done.stdout)

    def test_version(self):
        done = self.run_agent("--version")
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stdout, r"^arcbox-agent \d+\.\d+\.\d+\n$")

    def test_a_wrong_option_is_one_clear_line(self):
        for argument, name in BAD_OPTIONS:
            with self.subTest(argument):
                done = self.run_agent(argument)
                self.assertEqual(done.returncode, 2)
                self.assertEqual(done.stdout, "")
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
                self.assertIn(name, done.stderr)


class Ends(LabTest):
    def setUp(self):
        self.lab = self.new_lab()

    def test_signals_end_it_well(self):
        for sig in (signal.SIGTERM, signal.SIGINT):
            agent = Agent(self.lab)
            with agent.rpc() as idle:
                idle.call(lab.PING)
                agent.stop(sig)
                self.assertTrue(idle.closed())

    def test_shutdown_answers_and_then_ends(self):
        other = self.lab.start("sleep", "1000")
        agent = Agent(self.lab)
        with agent.rpc() as rpc:
            self.assertEqual(rpc.call(lab.SHUTDOWN, field(1, 1)), {1: [1]})
            self.assertTrue(rpc.closed())
        self.assertEqual(agent.process.wait(lab.PATIENCE_S), 0)
        self.assertIsNone(other.poll(), "another process was ended, too")
        self.assert_log_ends(agent)

    def assert_log_ends(self, agent):
        """Its writer outlives the agent by a little."""
        lab.until(lambda: "ended clean" in agent.log(), lambda: f"the end of\n{agent.log()}")

    def test_shutdown_ends_its_children(self):
        agent = Agent(self.lab)
        agent.at_rest()
        pipe = self.lab.dir / "pipe"
        os.mkfifo(pipe)
        with agent.rpc() as blocked, agent.rpc() as rpc:
            blocked.ask(lab.READ_FILE, field(1, str(pipe)) + field(3, 1))
            lab.until(lambda: len(agent.children()) > 1 or has_answer(blocked), "the read's start")
            rpc.call(lab.SHUTDOWN, field(1, 1))
            self.assertEqual(agent.process.wait(lab.PATIENCE_S), 0)

    def test_log_is_written_to_its_file(self):
        agent = Agent(self.lab, "--log=info,rpc=debug")
        agent.stop()
        self.assert_log_ends(agent)
        lines = agent.log().splitlines()
        self.assertIn("starts", lines[0])
        for line in lines:
            self.assertRegex(line, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z +(\w+) ")


def has_answer(rpc):
    """A FIFO may as well be refused at once."""
    return select.select([rpc.socket], [], [], 0)[0]


class Lacks(LabTest):
    def setUp(self):
        self.lab = self.new_lab()

    def test_socket_is_for_its_owner_only(self):
        agent = Agent(self.lab)
        self.assertEqual(stat.S_IMODE(agent.socket.stat().st_mode), 0o600)
        agent.stop()

    def test_killed_agent_is_followed_by_another(self):
        for _ in range(3):
            agent = Agent(self.lab)
            agent.ping()
            agent.process.kill()
            agent.process.wait()

    def test_listener_waits_for_its_directory(self):
        late = self.lab.dir / "late"
        agent = Agent(self.lab, f"--listen=unix:{late}/rpc.sock")
        lab.until(lambda: "cannot listen" in agent.log(), "the first try")
        late.mkdir()
        lab.until(lambda: lab.listens(late / "rpc.sock"), "the listener")
        agent.stop()

    def test_no_descriptors_left(self):
        agent = Agent(self.lab, before=("prlimit", "--nofile=40", "--"), env=environment())
        before = agent.at_rest()
        crowd = [agent.rpc() for _ in range(100)]
        lab.until(lambda: lab.descriptors(agent.pid) >= 39, "all descriptors in use")
        first = crowd[0].call(lab.PING)
        self.assertEqual(first[1], [b"pong"])
        for rpc in crowd:
            rpc.socket.close()
        agent.settled(before)
        agent.ping()
        agent.settled(before)
        agent.stop()

    def test_port_in_use_is_tried_again(self):
        address = lab.loopback()
        host, port = address.split(":")
        holder = udp_socket(host, int(port))
        agent = Agent(self.lab, f"--dns={address}", "--dns-name=web=192.0.2.1")
        agent.ping()
        holder.close()
        lab.until(lambda: self.answers(agent), "DNS")
        agent.stop()

    def answers(self, agent):
        once = ("+tries=1", "+time=1", "+short", "web.arcbox.local")
        return lab.run(*lab.dig_command(agent.dns_at, *once)).stdout == "192.0.2.1\n"

    def test_no_log_is_no_reason_to_stop(self):
        agent = Agent(self.lab, "--log-file=/nonexistent/dir/agent.log")
        agent.ping()
        agent.stop()

    def test_stuck_log_reader_blocks_nothing(self):
        reader, writer = os.pipe()
        process = self.lab.start(
            AGENT,
            f"--listen=unix:{self.lab.dir}/stuck.sock",
            "--dns=off",
            "--proxy=off",
            "--docker-socket=off",
            "--log=debug",
            "--log-file=/nonexistent/dir/agent.log",
            stderr=writer,
        )
        lab.until(lambda: lab.listens(self.lab.dir / "stuck.sock"), "the agent's start")
        for _ in range(3000):
            with lab.Rpc(self.lab.dir / "stuck.sock") as rpc:
                rpc.send(b"\x00\x00\x00\x00" * 2)
        with lab.Rpc(self.lab.dir / "stuck.sock") as rpc:
            self.assertEqual(rpc.call(lab.PING)[1], [b"pong"])
        self.assertEqual(lab.end(process), 0)
        os.close(reader)
        os.close(writer)


def environment():
    """A sanitizer needs descriptors of its own to report; leaks are looked for elsewhere."""
    return {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}


def udp_socket(host, port):
    holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    holder.bind((host, port))
    return holder
