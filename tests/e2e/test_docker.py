"""A real Docker engine: DNS says what `docker inspect` says, whatever happens."""

import os

import lab
from lab import Agent, LabTest, NetLab, resolve, start_docker, until

DNS = "127.0.0.1:53"
FAST_RETRY = ("--docker-retry=50ms", "--docker-retry-max=200ms")
# The pages of large hash tables come into use one by one, which looks like a leak.
SMALL_TABLES = ("--max-owners=64", "--max-names=256", "--docker-max-containers=64")
RESTARTS = 20 if os.environ.get("LONG") else 8


def watching_agent(test_lab, docker):
    where = (f"--dns={DNS}", f"--docker-socket={docker.socket}")
    return Agent(test_lab, *where, *FAST_RETRY, *SMALL_TABLES)


class DockerTest(LabTest):
    lab_class = NetLab

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.docker = start_docker(cls.lab)
        cls.agent = watching_agent(cls.lab, cls.docker)
        cls.seen = set()  # each name that any container ever had

    @classmethod
    def tearDownClass(cls):
        cls.agent.stop()

    def run_container(self, name, *options):
        self.addCleanup(self.docker.cli, "rm", "-f", name)
        return self.docker.run(name, *options)

    def network(self, name, *options):
        self.docker.cli("network", "create", *options, name)
        self.addCleanup(self.docker.cli, "network", "rm", name)
        return name

    def settle(self):
        """Waits until DNS and the engine agree, and returns what both say."""
        truth, found = {}, {}

        def agree():
            nonlocal truth, found
            truth = self.docker.names()
            self.seen.update(truth)
            found = resolve(self.agent, sorted(self.seen))
            return found == truth

        until(agree, lambda: f"docker says {truth}\nDNS says {found}")
        return truth


class Names(DockerTest):
    def test_container_on_the_bridge(self):
        self.run_container("plain")
        (address,) = self.settle()["plain"]
        self.assertEqual(self.agent.dig("-x", address).data(), ["plain.arcbox.local."])
        self.assertEqual(self.agent.dig("PLAIN").data(), [address])
        self.docker.remove("plain")
        self.assertNotIn("plain", self.settle())
        self.assertEqual(self.agent.dig("plain.arcbox.local").status, "NXDOMAIN")
        self.assertEqual(self.agent.dig("-x", address).data(), [])

    def test_two_networks_with_aliases(self):
        front, back = self.network("front"), self.network("back")
        self.run_container("two", "--network", front, "--network-alias", "www")
        self.docker.cli("network", "connect", "--alias", "store", back, "two")
        truth = self.settle()
        self.assertEqual(len(truth["two"]), 2)
        self.assertEqual(truth["www"] | truth["store"], truth["two"])
        self.docker.cli("network", "disconnect", front, "two")
        self.assertNotIn("www", self.settle())
        self.docker.cli("network", "connect", "--alias", "again", front, "two")
        self.assertIn("again", self.settle())

    def test_alias_of_two_containers_has_both_addresses(self):
        pool = self.network("pool")
        self.run_container("one", "--network", pool, "--network-alias", "shared")
        self.run_container("other", "--network", pool, "--network-alias", "shared")
        self.assertEqual(len(self.settle()["shared"]), 2)
        self.docker.remove("one")
        self.assertEqual(len(self.settle()["shared"]), 1)

    def test_ipv6_network(self):
        net = self.network("six", "--ipv6", "--subnet", "fd00:e2e::/64")
        self.run_container("dual", "--network", net)
        addresses = self.settle()["dual"]
        (v6,) = (address for address in addresses if ":" in address)
        self.assertEqual(self.agent.dig("dual.arcbox.local", "AAAA").data(), [v6])
        self.assertEqual(self.agent.dig("-x", v6).data(), ["dual.arcbox.local."])

    def test_compose_labels(self):
        self.run_container("proj-web-1", *compose("proj", "web"))
        self.run_container("half", "--label", "com.docker.compose.project=proj")
        truth = self.settle()
        self.assertEqual(truth["web.proj"], truth["proj-web-1"])

    def test_rename(self):
        self.run_container("before")
        address = self.settle()["before"]
        self.docker.cli("rename", "before", "after")
        self.addCleanup(self.docker.cli, "rename", "after", "before")
        self.assertEqual(self.settle()["after"], address)

    def test_kill_and_start(self):
        self.run_container("phoenix")
        self.assertIn("phoenix", self.settle())
        self.docker.cli("kill", "phoenix")
        self.assertNotIn("phoenix", self.settle())
        self.docker.cli("start", "phoenix")
        self.assertIn("phoenix", self.settle())
        self.docker.cli("restart", "-t", "0", "phoenix")
        self.assertIn("phoenix", self.settle())

    def test_pause_and_unpause(self):
        self.run_container("dozy")
        for verb in ("pause", "unpause"):
            self.docker.cli(verb, "dozy")
            self.assertIn("dozy", self.settle())

    def test_containers_without_an_address(self):
        self.run_container("lonely", "--network", "none")
        self.run_container("on-host", "--network", "host")
        self.run_container("witness")
        self.seen |= {"lonely", "on-host"}
        self.assertEqual(set(self.settle()) & {"lonely", "on-host"}, set())

    def test_container_that_cannot_start(self):
        self.addCleanup(self.docker.cli, "rm", "-f", "broken")
        self.assertNotEqual(self.start_broken().returncode, 0)
        self.seen.add("broken")
        self.assertNotIn("broken", self.settle())

    def start_broken(self):
        return lab.run(*self.docker.command("run", "--name", "broken", "box", "/no/such/program"))

    def test_name_with_a_dot_does_not_shadow_the_world(self):
        self.run_container("github.com")
        truth = self.settle()
        self.assertEqual(set(self.agent.dig("github.com.arcbox.local").data()), truth["github.com"])
        self.assertEqual(self.agent.dig("github.com").data(), [])

    def test_agent_that_starts_later_finds_all(self):
        self.run_container("early", *compose("old", "svc"))
        self.settle()
        self.agent.stop()
        type(self).agent = watching_agent(self.lab, self.docker)
        self.assertIn("svc.old", self.settle())

    def test_runtime_status(self):
        with self.agent.rpc() as rpc:
            status = rpc.call(lab.RUNTIME_STATUS)
            ensured = rpc.call(lab.ENSURE_RUNTIME)
        self.assertEqual(status[2], [1])
        self.assertEqual(status[4], [b"docker socket ready"])
        self.assertIn(b"API /_ping OK", status[5][1])
        self.assertEqual((ensured[1], ensured[4]), ([1], [b"reused"]))


def compose(project, service):
    prefix = "com.docker.compose"
    return ("--label", f"{prefix}.project={project}", "--label", f"{prefix}.service={service}")


class Restarts(DockerTest):
    """dockerd dies again and again while containers come and go."""

    def change_containers(self, turn):
        """One comes, one goes, and one comes back with the engine."""
        if turn == 0:
            self.run_container("steady", "--restart", "always")
        if turn > 1:
            self.docker.remove(f"turn{turn - 2}")
        self.run_container(f"turn{turn}", "--restart", "always" if turn % 2 else "no")

    def test_killed_engine(self):
        descriptors = memory = 0
        for turn in range(RESTARTS):
            self.change_containers(turn)
            if turn % 2:
                self.settle()  # else it is killed with its events still on their way
            self.docker.kill()
            self.assertTrue(self.docker.start(), "dockerd does not start again")
            self.settle()
            if turn == 1:
                descriptors = lab.descriptors(self.agent.pid)
                memory = lab.memory_bytes(self.agent.pid)
        self.agent.settled(descriptors)
        grown = lab.memory_bytes(self.agent.pid) - memory
        self.assert_grown_less(grown, 64 * 1024)
        self.note(
            f"{RESTARTS} restarts: {descriptors} descriptors, memory {lab.mib(memory)}"
            f" then {grown / 1024:+.0f} KiB"
        )
