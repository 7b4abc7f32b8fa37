"""The docker command line through the agent's proxy, and clients that come too early."""

import json
import os
import socket
import subprocess

import lab
from lab import Agent, LabTest, NetLab, start_docker, until

DOCKERFILE = "FROM box\nRUN echo built > /tmp/proof\n"


class ProxyTest(LabTest):
    lab_class = NetLab

    @classmethod
    def start_agent(cls, *options):
        cls.proxy = cls.lab.dir / "proxy.sock"
        backend = cls.lab.dir / "docker.sock"
        return Agent(cls.lab, f"--proxy=unix:{cls.proxy}=unix:{backend}", *options)


class EarlyClient(ProxyTest):
    def test_client_before_the_engine_is_served(self):
        agent = self.start_agent("--park-time=5m")
        before = agent.at_rest("socket")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(lab.PATIENCE_S)
            until(lambda: lab.listens(self.proxy), "the proxy")
            client.connect(str(self.proxy))
            client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            start_docker(self.lab)
            self.assertTrue(client.recv(4096).startswith(b"HTTP/1.0 200"))
        agent.settled(before, "socket")
        agent.stop()


class NoEngine(ProxyTest):
    lab_class = lab.Lab

    def test_client_gets_503_with_the_reason(self):
        agent = self.start_agent("--park-time=100ms", "--park-retry=20ms")
        until(lambda: lab.listens(self.proxy), "the proxy")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(lab.PATIENCE_S)
            client.connect(str(self.proxy))
            client.sendall(b"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n")
            head, body = client.makefile("rb").read().split(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 503 "), head)
        self.assertIn(b"Content-Length: %d" % len(body), head)
        self.assertIn("did not come up", json.loads(body)["message"])
        agent.stop()


class CommandLine(ProxyTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.docker = start_docker(cls.lab)
        cls.agent = cls.start_agent()
        cls.sockets = cls.agent.at_rest("socket")  # pipes are kept for the next relay
        cls.docker.run("server")

    @classmethod
    def tearDownClass(cls):
        cls.agent.stop()

    def tearDown(self):
        self.agent.ping()

    def command(self, *arguments):
        return self.docker.command(*arguments, socket_path=self.proxy)

    def cli(self, *arguments, **options):
        return lab.output(*self.command(*arguments), **options)

    def test_run(self):
        self.assertEqual(self.cli("run", "--rm", "box", "echo", "hello"), "hello\n")
        done = lab.run(*self.command("run", "--rm", "box", "sh", "-c", "echo no >&2; exit 7"))
        self.assertEqual((done.returncode, done.stdout, done.stderr), (7, "", "no\n"))

    def test_exec_passes_stdin_and_its_end(self):
        self.assertEqual(self.cli("exec", "-i", "server", "cat", input="through\n"), "through\n")
        data = bytes(range(256)) * 32768
        size = self.cli("exec", "-i", "server", "wc", "-c", input=data)
        self.assertEqual(int(size), len(data))
        self.assertEqual(self.cli("exec", "-i", "server", "cat", input=data), data)

    def test_attach(self):
        self.docker.cli("create", "-i", "--name", "attached", "box", "cat")
        self.docker.cli("start", "attached")
        self.addCleanup(self.docker.remove, "attached")
        client = self.lab.start(
            *self.command("attach", "attached"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        out, _ = client.communicate("to the container and back\n", timeout=lab.PATIENCE_S)
        self.assertEqual(out, "to the container and back\n")

    def test_logs_are_followed_to_their_end(self):
        self.docker.run("counting", command=("seq", "1", "5000"))
        self.addCleanup(self.docker.remove, "counting")
        lines = self.cli("logs", "-f", "counting").split()
        self.assertEqual(lines, [str(i) for i in range(1, 5001)])

    def test_build(self):
        context = self.lab.dir / "context"
        context.mkdir()
        (context / "Dockerfile").write_text(DOCKERFILE)
        environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
        self.cli("build", "-q", "-t", "built", str(context), env=environment)
        self.assertEqual(self.cli("run", "--rm", "built", "cat", "/tmp/proof"), "built\n")

    def test_image_out_and_in_again(self):
        image = self.cli("save", "box", text=False)
        self.assertIn("Loaded image", self.cli("load", input=image).decode())

    def test_nothing_is_left_of_clients_that_went(self):
        for _ in range(5):
            client = self.lab.start(*self.command("events"), stdout=subprocess.DEVNULL)
            until(lambda: self.count_sockets() > self.sockets, "the client")
            lab.end(client)
        self.agent.settled(self.sockets, "socket")

    def count_sockets(self):
        return lab.descriptors(self.agent.pid, "socket")
