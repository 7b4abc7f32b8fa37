"""DNS as dig sees it: names of the agent's own, and questions that are for others."""

import signal
import socket
import struct
import subprocess
import threading

import lab
from lab import Agent, LabTest, loopback, until

HOSTS = """\
192.0.2.10  db db.project   # two names
2001:db8::10 db
not-an-address oops
""" + "".join(f"198.51.100.{i} many\n" for i in range(1, 201))


class DnsTest(LabTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.hosts = cls.lab.dir / "hosts"
        cls.hosts.write_text(HOSTS)
        cls.agent = Agent(
            cls.lab,
            f"--dns={loopback()}",
            "--dns-name=web=192.0.2.1",
            "--dns-name=Web=192.0.2.2",
            "--dns-name=web=2001:db8::1",
            "--dns-name=v4.only.net=192.0.2.3",
            f"--dns-hosts={cls.hosts}",
            f"--dns-forward={cls.forward_to()}",
            "--dns-timeout=1s",
        )
        until(lambda: "hosts file read" in cls.agent.errors(), "the static names")

    @classmethod
    def forward_to(cls):
        return loopback()  # where nobody listens

    @classmethod
    def tearDownClass(cls):
        cls.agent.stop()

    def dig(self, *arguments):
        return self.agent.dig(*arguments)

    def assert_data(self, expected, *arguments):
        answer = self.dig(*arguments)
        self.assertEqual(answer.status, "NOERROR", answer.text)
        self.assertEqual(answer.data(), sorted(expected), answer.text)
        return answer


class OwnNames(DnsTest):
    def test_addresses_of_both_families(self):
        answer = self.assert_data(["192.0.2.1", "192.0.2.2"], "web.arcbox.local", "A")
        self.assertLessEqual({"qr", "aa", "rd", "ra"}, answer.flags)
        self.assertEqual({record[1] for record in answer.section("ANSWER")}, {"5"})
        self.assert_data(["2001:db8::1"], "web.arcbox.local", "AAAA")

    def test_bare_name_has_no_dot(self):
        self.assert_data(["192.0.2.1", "192.0.2.2"], "web", "A")
        self.assert_data(["192.0.2.3"], "v4.only.net.arcbox.local", "A")
        self.assertEqual(self.dig("v4.only.net", "A").data(), [])

    def test_case_does_not_matter_and_is_kept(self):
        answer = self.assert_data(["192.0.2.1", "192.0.2.2"], "WeB.ArcBox.LOCAL", "A")
        self.assertEqual(answer.section("ANSWER")[0][0], "WeB.ArcBox.LOCAL.")

    def test_answers_are_rotated(self):
        first = {self.dig("web.arcbox.local").section("ANSWER")[0][4] for _ in range(4)}
        self.assertEqual(first, {"192.0.2.1", "192.0.2.2"})

    def test_reverse(self):
        self.assert_data(["web.arcbox.local."], "-x", "192.0.2.1")
        self.assert_data(["web.arcbox.local."], "-x", "2001:db8::1")
        self.assert_data(["db.arcbox.local.", "db.project.arcbox.local."], "-x", "192.0.2.10")

    def test_no_such_name(self):
        for kind in ("A", "AAAA", "MX", "TXT"):
            answer = self.dig("nobody.arcbox.local", kind)
            self.assertEqual(answer.status, "NXDOMAIN")
            self.assertEqual(answer.section("AUTHORITY")[0][0:4:3], ["arcbox.local.", "SOA"])

    def test_name_without_data_of_that_type(self):
        for name, kind in (("v4.only.net", "AAAA"), ("web", "MX"), ("only.net", "A")):
            answer = self.assert_data([], f"{name}.arcbox.local", kind)
            self.assertEqual(answer.section("AUTHORITY")[0][3], "SOA", answer.text)

    def test_tcp(self):
        self.assert_data(["192.0.2.1", "192.0.2.2"], "+tcp", "web.arcbox.local", "A")
        both = lab.dig(
            self.lab, self.agent.dns_at, "+tcp", "+keepopen", "+short", "web.arcbox.local", "A",
            "db.arcbox.local", "A",
        )  # fmt: skip
        self.assertEqual(sorted(both.split()), ["192.0.2.1", "192.0.2.10", "192.0.2.2"])

    def test_edns(self):
        self.assertIn("EDNS: version: 0", self.dig("web.arcbox.local", "+edns=0").text)
        self.assertNotIn("EDNS", self.dig("web.arcbox.local", "+noedns").text)
        answer = self.dig("web.arcbox.local", "+edns=1", "+noednsnegotiation")
        self.assertEqual(answer.status, "BADVERS")

    def test_many_answers_are_cut_and_come_whole_over_tcp(self):
        everything = sorted(f"198.51.100.{i}" for i in range(1, 201))
        for size in ("+noedns", "+bufsize=512", "+bufsize=1232", "+bufsize=4096"):
            answer = self.dig("many.arcbox.local", "+ignore", size)
            self.assertIn("tc", answer.flags, size)
            self.assertLess(len(answer.data()), len(everything))
        self.assert_data(everything, "many.arcbox.local", "+tcp")
        self.assert_data(everything, "many.arcbox.local", "+bufsize=512")

    def test_what_is_not_for_us(self):
        self.assertEqual(self.dig("web.arcbox.local", "-c", "CH", "-t", "A").status, "REFUSED")
        self.assertEqual(self.dig("web.arcbox.local", "+opcode=notify").status, "NOTIMP")

    def test_localhost_is_here(self):
        self.assert_data(["127.0.0.1"], "localhost", "A")

    def test_no_forwarder_that_answers(self):
        self.assertEqual(self.dig("example.org", "A").status, "SERVFAIL")

    def test_packets_that_are_no_questions(self):
        host, port = self.agent.dns_at.split(":")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect((host, int(port)))
            s.settimeout(lab.PATIENCE_S)
            for size in range(12):
                s.send(bytes(size))  # no header: no answer is owed
            s.send(struct.pack(">6H", 7, 0x8000, 1, 0, 0, 0))  # itself an answer
            s.send(struct.pack(">6H", 8, 0, 1, 0, 0, 0))  # its question is missing
            answer_id, flags = struct.unpack(">2H", s.recv(512)[:4])
        self.assertEqual((answer_id, flags & 0xF), (8, 1))

    def test_hosts_file_is_read_again_on_sighup(self):
        self.assert_data(["2001:db8::10"], "db.arcbox.local", "AAAA")
        try:
            self.hosts.write_text("192.0.2.77 fresh\n")
            self.agent.process.send_signal(signal.SIGHUP)
            until(lambda: self.dig("fresh.arcbox.local").data() == ["192.0.2.77"], "the new name")
            self.assertEqual(self.dig("db.arcbox.local").status, "NXDOMAIN")
        finally:
            self.hosts.write_text(HOSTS)
            self.agent.process.send_signal(signal.SIGHUP)
            until(lambda: self.dig("db.arcbox.local").data(), "the old names")


class Upstream:
    """A server that answers A with 203.0.113.1 once its gate is open, and NXDOMAIN for `no.*`."""

    TTL_S = 60

    def __init__(self, at):
        self.at = at
        self.asked = []
        self.gate = threading.Event()
        self.gate.set()
        self.lie = False  # answer with another id first
        host, port = at.split(":")
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((host, int(port)))
        self.tcp = socket.create_server((host, int(port)))
        serve = (self.serve, self.serve_tcp)
        self.threads = [threading.Thread(target=each, daemon=True) for each in serve]
        for thread in self.threads:
            thread.start()

    def answer(self, query, truncate=False):
        end = query.index(b"\0", 12) + 5
        question = query[12:end]
        code = 3 if question.startswith(b"\x02no") else 0
        cut = truncate and question.startswith(b"\x03big")
        record = struct.pack(">3HIH", 0xC00C, 1, 1, self.TTL_S, 4) + bytes([203, 0, 113, 1])
        body = b"" if code or cut else record
        flags = 0x8180 | code | (0x0200 if cut else 0)
        return query[:2] + struct.pack(">5H", flags, 1, bool(body), 0, 0) + question + body

    def serve(self):
        while True:
            try:
                query, peer = self.udp.recvfrom(4096)
            except OSError:
                return
            if not query:
                return
            self.asked.append(query[12 : query.index(b"\0", 12)])
            self.gate.wait()
            answer = self.answer(query, truncate=True)
            if self.lie:
                self.udp.sendto(bytes([answer[0] ^ 1]) + answer[1:-1] + b"\x63", peer)
            self.udp.sendto(answer, peer)

    def serve_tcp(self):
        while True:
            try:
                connection, _ = self.tcp.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as stream:
                while head := stream.read(2):
                    answer = self.answer(stream.read(*struct.unpack(">H", head)))
                    stream.write(struct.pack(">H", len(answer)) + answer)
                    stream.flush()

    def times_asked(self, label):
        return sum(name.startswith(bytes([len(label)]) + label.encode()) for name in self.asked)

    def close(self):
        self.gate.set()
        self.tcp.shutdown(socket.SHUT_RDWR)
        self.udp.sendto(b"", self.udp.getsockname())
        for thread in self.threads:
            thread.join()
        self.tcp.close()
        self.udp.close()


class Forwarding(DnsTest):
    @classmethod
    def forward_to(cls):
        cls.upstream = Upstream(loopback())
        cls.addClassCleanup(cls.upstream.close)
        return cls.upstream.at

    def test_other_names_are_forwarded_and_kept(self):
        answer = self.assert_data(["203.0.113.1"], "kept.example.org", "A")
        self.assertNotIn("aa", answer.flags)
        asked = self.upstream.times_asked("kept")
        self.assert_data(["203.0.113.1"], "KEPT.example.org", "A")
        self.assertEqual(self.upstream.times_asked("kept"), asked)

    def test_no_such_name_there(self):
        self.assertEqual(self.dig("no.example.org").status, "NXDOMAIN")

    def test_cut_answer_is_asked_for_again_over_tcp(self):
        self.assert_data(["203.0.113.1"], "big.example.org", "+tcp")

    def test_answer_with_another_id_is_not_believed(self):
        self.upstream.lie = True
        try:
            self.assert_data(["203.0.113.1"], "forged.example.org", "A")
        finally:
            self.upstream.lie = False

    def test_names_of_our_domain_never_leave(self):
        self.dig("private.arcbox.local")
        self.assertEqual(self.upstream.times_asked("private"), 0)

    def test_slow_upstream_delays_no_name_of_our_own(self):
        self.upstream.gate.clear()
        commands = [lab.dig_command(self.agent.dns_at, f"slow{i}.example.org") for i in range(20)]
        slow = [self.lab.start(*command, stdout=subprocess.DEVNULL) for command in commands]
        until(lambda: any(b"slow" in name for name in self.upstream.asked), "a question in flight")
        self.assert_data(["192.0.2.1", "192.0.2.2"], "web.arcbox.local", "A")
        self.upstream.gate.set()
        for process in slow:
            self.assertEqual(process.wait(lab.PATIENCE_S), 0)

    def test_upstream_that_comes_back(self):
        self.upstream.gate.clear()
        self.assertEqual(self.dig("gone.example.org").status, "SERVFAIL")
        self.upstream.gate.set()
        until(lambda: self.dig("gone.example.org").status == "NOERROR", "the upstream's return")
