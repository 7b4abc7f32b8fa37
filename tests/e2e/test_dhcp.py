"""The agent as PID 1 on networks that lose packets, lie, change, and lend for seconds only."""

import itertools
import json
import os
import random
import shutil
import signal
import threading
import time

import dhcp_server as dhcp
import lab
from dhcp_server import ACK, KIND, LEASE_TIME, OFFER, SERVER_ID, T1, T2
from dhcp_server import Lease, Server, ips, packet, u16, u32
from lab import AGENT, Agent, LabTest, NetLab

LONG = bool(os.environ.get("LONG"))
RENEWALS = 1000 if LONG else 3
LINK_CYCLES = 1000 if LONG else 100
GROWTH_BYTES = 256 * 1024  # of memory, over all cycles
EVIL = Lease(address="10.66.6.6")
SHORT = {T1: u32(1), T2: u32(2)}  # seconds, to be seen within a test
RENEWED = {T1: u32(1), T2: u32(25)}  # likewise, by a server that may be slow to answer


# --- a guest: two namespaces and a wire ---


class DhcpLab(NetLab):
    """The lab's network is the guest's; each wire's other end is in a network of the host's."""

    def __init__(self):
        super().__init__()
        self.host = f"{self.netns}-host"
        lab.output("ip", "netns", "add", self.host)
        self.servers = []

    def plug(self, interface, address, lease=Lease()):
        """Gives the guest an interface, and starts a server at the other end."""
        wire = f"to-{interface}"
        peer = ("peer", "name", wire, "netns", self.host)
        lab.output("ip", "-n", self.netns, "link", "add", interface, "type", "veth", *peer)
        lab.output("ip", "-n", self.host, "addr", "add", f"{address}/24", "dev", wire)
        lab.output("ip", "-n", self.host, "link", "set", wire, "up")
        server = Server(self.host, wire, address, lease)
        self.servers.append(server)
        return server

    def close(self):
        for guest in self.processes:
            guest.kill()
        for server in self.servers:
            server.close()
        lab.run("ip", "netns", "del", self.host)
        super().close()


class Guest(Agent):
    """The agent as PID 1, on a root directory in memory. It is never asked to power off: what it
    would do to disks is for a machine of its own."""

    QUICK = ("--dhcp-retry=100ms", "--dhcp-retry-max=400ms", "--dhcp-renew-retry=200ms")
    NAMESPACES = ("--pid", "--fork", "--kill-child", "--mount", "--uts", "--cgroup", "--mount-proc")

    def __init__(self, lab_of_guest, *options, through=(), **more):
        """PID 1 may be another program, `through` which the agent runs: the rest is its own."""
        self.root = make_root(lab_of_guest)
        before = ("unshare", *self.NAMESPACES, f"--root={self.root}", *through)
        super().__init__(lab_of_guest, "--keep-root", *self.QUICK, *options, before=before, **more)
        self.pid = int(lab.output("pgrep", "-P", str(self.process.pid)))
        self.log_path = self.inside(self.log_path)
        self.socket = self.inside(self.socket)

    def inside(self, path):
        """Where a path of the guest is."""
        return self.root / str(path).lstrip("/")

    def is_well(self):
        return self.process.poll() is None and self.ping()[1] == [b"pong"]

    def logged(self, text):
        return self.log().count(text)

    def wait_logged(self, text, count=1):
        def what():
            return f"{count} of {text!r} in\n{self.log()}"

        lab.until(lambda: self.logged(text) >= count, what)

    # --- its network, as the kernel has it ---

    def ip(self, *arguments):
        return json.loads(lab.output("ip", "-n", self.lab.netns, "-4", "-j", *arguments) or "[]")

    def addresses(self, interface="eth0"):
        """The IPv4 addresses of an interface: "ADDRESS/PREFIX" -> seconds left."""
        infos = [a for link in self.ip("addr", "show", "dev", interface) for a in link["addr_info"]]
        return {f"{a['local']}/{a['prefixlen']}": a["valid_life_time"] for a in infos}

    def routes(self, interface="eth0"):
        """Routes to networks other than the interface's own: to -> gateway."""
        found = self.ip("route", "show", "dev", interface)
        return {r["dst"]: r.get("gateway") for r in found if r["protocol"] != "kernel"}

    def link(self, interface="eth0"):
        return self.ip("link", "show", "dev", interface)[0]

    def set_link(self, state, interface="eth0"):
        lab.output("ip", "-n", self.lab.netns, "link", "set", interface, state)

    def sysctl(self, name):
        path = f"/proc/sys/net/ipv4/{name}"
        return lab.output(*self.lab.enter, "cat", path).strip()

    def rules(self):
        """What iptables was told to insert."""
        calls = self.inside("/calls")
        insert = "-w 5 -I FORWARD "
        lines = calls.read_text().splitlines() if calls.exists() else []
        return [line.removeprefix(insert) for line in lines if line.startswith(insert)]

    def hostname(self):
        return lab.output("nsenter", f"--uts=/proc/{self.pid}/ns/uts", "uname", "-n").strip()

    def wait_for(self, wanted, read):
        lab.until(lambda: read() == wanted, lambda: f"{wanted}: {read()}\n{self.log()}")

    def wait_address(self, address="10.77.0.50/24", interface="eth0"):
        self.wait_for([address], lambda: list(self.addresses(interface)))

    def wait_routes(self, wanted):
        self.wait_for(wanted, self.routes)


IPTABLES = """#!/bin/busybox sh
echo "$*" >>/calls
[ "$3" != -C ]
"""


def make_root(of):
    """What an initramfs would hold: the agent with its libraries, a few devices, and an iptables
    that only notes what it is told. A devtmpfs would be that of this machine."""
    root = of.dir / "root"
    root.mkdir()
    lab.output("mount", "-t", "tmpfs", "root", str(root))
    for name in ("proc", "sys", "dev", "etc", "var", "run", "bin", "sbin"):
        (root / name).mkdir()
    (root / str(of.dir).lstrip("/")).mkdir(parents=True)
    lab.output("mount", "-t", "tmpfs", "dev", str(root / "dev"))
    for minor, name in ((3, "null"), (5, "zero"), (9, "urandom")):
        os.mknod(root / "dev" / name, 0o20666, os.makedev(1, minor))
    for path in ("/bin/busybox", str(AGENT), *libraries(AGENT)):
        copy = root / path.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    iptables = root / "sbin/iptables"
    iptables.write_text(IPTABLES)
    iptables.chmod(0o755)
    return root


def libraries(program):
    """Of a program that is linked dynamically, as the sanitizers want it."""
    words = lab.run("ldd", str(program)).stdout.split()
    return [word for word in words if word.startswith("/")]


class DhcpTest(LabTest):
    def setUp(self):
        if os.geteuid() != 0:
            self.skipTest("namespaces of a guest need root")
        self.lab = self.new_lab(DhcpLab)

    def plug(self, **lease):
        return self.lab.plug("eth0", "10.77.0.1", Lease(**lease))

    def start(self, *options, **more):
        guest = Guest(self.lab, *options, **more)
        self.addCleanup(self.assert_well, guest)
        return guest

    def assert_well(self, guest):
        self.assertTrue(guest.is_well(), guest.errors()[-4000:])


# --- the tests ---


class Configures(DhcpTest):
    def test_all_that_a_lease_tells(self):
        more = {
            dhcp.ROUTER: ips("10.77.0.1"),
            dhcp.DNS: ips("10.77.0.1", "10.77.0.2"),
            dhcp.HOSTNAME: b"guest-7",
            dhcp.DOMAIN: b"example.org",
            dhcp.MTU: u16(1400),
        }
        server = self.plug(secs=600, more=more)
        guest = self.start()
        guest.wait_address()
        guest.wait_for("guest-7", guest.hostname)  # the last that is done
        self.assertIn(guest.addresses()["10.77.0.50/24"], range(500, 601))
        self.assertEqual(guest.routes(), {"default": "10.77.0.1"})
        self.assertEqual(guest.link()["mtu"], 1400)
        self.assertIn("guest-7", guest.inside("/etc/hosts").read_text())
        self.assertEqual(server.story(), ["discover", "select"])
        self.assertEqual(server.requests[0].source, dhcp.NOBODY)
        with guest.rpc() as rpc:
            self.assertIn([b"10.77.0.50"], rpc.call(lab.SYSTEM_INFO).values())

    def test_classless_routes_overrule_the_router(self):
        table = dhcp.routes(
            ("192.0.2.0/24", "10.77.0.9"),
            ("198.51.100.128/25", dhcp.NOBODY),
            ("0.0.0.0/0", "10.77.0.2"),
        )
        self.plug(more={dhcp.ROUTER: ips("10.77.0.1"), dhcp.ROUTES: table})
        guest = self.start()
        guest.wait_address()
        guest.wait_routes(
            {"192.0.2.0/24": "10.77.0.9", "198.51.100.128/25": None, "default": "10.77.0.2"}
        )

    def test_gateway_outside_of_the_network(self):
        self.plug(mask="255.255.255.255", more={dhcp.ROUTER: ips("10.77.0.1")})
        guest = self.start()
        guest.wait_address("10.77.0.50/32")
        guest.wait_routes({"10.77.0.1": None, "default": "10.77.0.1"})

    def test_second_interface(self):
        """No default route by it; it answers for, and forwards to, what is behind the guest."""
        table = dhcp.routes(("0.0.0.0/0", "10.78.0.1"), ("192.0.2.0/24", "10.78.0.1"))
        second = Lease(address="10.78.0.50", more={dhcp.ROUTES: table})
        self.lab.plug("eth1", "10.78.0.1", second)  # names make the order, and nothing else
        self.plug(more={dhcp.ROUTER: ips("10.77.0.1")})
        guest = self.start()
        guest.wait_address()
        guest.wait_address("10.78.0.50/24", "eth1")
        guest.wait_routes({"default": "10.77.0.1"})
        guest.wait_for({"192.0.2.0/24": "10.78.0.1"}, lambda: guest.routes("eth1"))
        self.assertEqual(guest.sysctl("conf/eth1/proxy_arp"), "1")
        self.assertEqual(guest.sysctl("conf/eth0/proxy_arp"), "0")
        self.assertEqual(guest.sysctl("ip_forward"), "1")
        rules = [
            "-s 172.20.0.0/16 -j ACCEPT",
            "-d 172.20.0.0/16 -j ACCEPT",
            "-i eth1 -j ACCEPT",
            "-o eth1 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        ]
        guest.wait_for(rules, guest.rules)

    def test_dns_forwards_to_the_servers_of_the_lease(self):
        self.plug(more={dhcp.DNS: ips("10.77.0.1"), dhcp.ROUTER: ips("10.77.0.1")})
        resolver = dhcp.in_netns(self.lab.host, lambda: dhcp.udp_socket("10.77.0.1", 53))
        self.addCleanup(resolver.close)
        threading.Thread(target=deny_all, args=(resolver,), daemon=True).start()
        guest = self.start("--dns=127.0.0.1:5300", "--dns-timeout=100ms")
        guest.wait_address()
        lab.until(lambda: guest.dig("example.org", "A").status == "NXDOMAIN", "its answer")

    def test_lease_without_end(self):
        self.plug(secs=0xFFFFFFFF)
        guest = self.start()
        guest.wait_address()
        self.assertEqual(guest.addresses(), {"10.77.0.50/24": 0xFFFFFFFF})

    def test_names_that_are_none(self):
        """What is told of names ends up in files and in the kernel."""
        bad = b"a\n127.0.0.1 bank.example"
        self.plug(more={dhcp.HOSTNAME: bad, dhcp.DOMAIN: bad, dhcp.DNS: ips("127.0.0.1")})
        guest = self.start()
        before = guest.hostname()
        guest.wait_address()
        self.assertEqual(guest.hostname(), before)
        for name in ("hosts", "resolv.conf"):
            self.assertNotIn("bank", guest.inside(f"/etc/{name}").read_text())

    def test_boot_does_not_wait(self):
        server = self.plug()
        server.behave = server.silent
        guest = self.start()
        self.assertTrue(guest.is_well())
        guest.wait_logged("no server offers an address")
        self.assertEqual(guest.addresses(), {})


def deny_all(resolver):
    """Answers each query with NXDOMAIN."""
    while True:
        try:
            query, asker = resolver.recvfrom(512)
        except OSError:  # closed
            return
        resolver.sendto(query[:2] + b"\x81\x83" + query[4:], asker)


class BadNetwork(DhcpTest):
    """Packets are lost, doubled, late and not in order."""

    def test_lost_packets(self):
        server = self.plug()
        arrives = {"discover": 4, "select": 3}

        def lossy(request):
            lost = server.count(request.kind) < arrives[request.kind]
            return [] if lost else server.answer(request)

        server.behave = lossy
        guest = self.start()
        guest.wait_address()
        self.assertEqual(server.story(), ["discover", "select"])
        self.assertGreaterEqual(server.count("discover"), 4)
        self.assertGreaterEqual(server.count("select"), 3)
        self.assertEqual(len({request.xid for request in server.requests}), 1)

    def test_offer_whose_server_is_gone(self):
        server = self.plug()
        server.behave = lambda r: server.answer(r) if r.kind == "discover" else []
        guest = self.start()
        server.wait("select", 9)
        self.assertGreaterEqual(server.story().count("discover"), 3)
        self.assertEqual(guest.addresses(), {})
        server.behave = server.answer
        guest.wait_address()

    def test_slow_server(self):
        """It is behind with its answers, and goes on with what was asked in vain."""
        server = self.plug()

        def slow(request):
            time.sleep(0.25)
            return server.answer(request)

        server.behave = slow
        guest = self.start()
        guest.wait_address()

    def test_doubled_and_late_answers(self):
        server = self.plug()
        sent = []

        def again(request):
            sent.extend(server.answer(request))
            return sent * 3

        server.behave = again
        guest = self.start()
        guest.wait_address()
        for cycle in range(3):
            guest.set_link("down")
            guest.set_link("up")
            server.wait("reboot", cycle + 1)
        guest.wait_address()
        self.assertEqual(server.story().count("discover"), 1)
        self.assertEqual(guest.logged("leased"), 1)

    def test_refusal(self):
        server = self.plug()
        server.behave = lambda r: [server.nak(r)] if r.kind == "select" else server.answer(r)
        guest = self.start()
        fourth = server.wait("select", 4)
        self.assertEqual(guest.addresses(), {})
        self.assertGreater(fourth.at - server.requests[0].at, 0.1, "it asks without a pause")
        server.behave = server.answer
        guest.wait_address()


class Hostile(DhcpTest):
    """What a stranger on the same network may send. His address must not become the guest's."""

    def assert_not_fooled(self, hostile):
        """`hostile` makes packets that come before and after each right answer."""
        server = self.plug()
        server.behave = lambda r: [*hostile(r), *server.answer(r), *hostile(r)]
        guest = self.start()
        guest.wait_address()
        guest.set_link("down")
        guest.set_link("up")
        server.wait("reboot")
        guest.wait_address()
        self.assertTrue(guest.is_well())
        self.assertNotIn(EVIL.address, guest.log())
        self.assertEqual(guest.logged("ended the lease"), 0)

    def test_what_is_right_is_taken(self):
        """The proof that the packets below are refused for what is wrong with them."""
        server = self.plug()
        server.behave = lambda r: [evil(r)]
        guest = self.start()
        guest.wait_address("10.66.6.6/24")

    def test_garbage(self):
        dice = random.Random(7)

        def garbage(request):
            for n in range(0, 1473, 16):
                yield packet(dice.randbytes(n), "10.77.0.1", EVIL.address)
            for n in range(1, 48):
                yield dice.randbytes(n)

        self.assert_not_fooled(garbage)

    def test_cut_messages(self):
        def cut(request):
            whole = evil_message(request)
            for n in range(len(whole)):
                yield packet(whole[:n], "10.77.0.1", EVIL.address)

        self.assert_not_fooled(cut)

    def test_messages_for_others(self):
        def others(request):
            yield evil(request, xid=request.xid ^ 1)
            yield evil(request, chaddr=b"\2\0\0\0\0\7")
            yield evil(request, hlen=16)
            yield evil(request, op=1)
            yield evil(request, options={KIND: b"\1"})
            yield evil(request, options={KIND: b"\xff"})

        self.assert_not_fooled(others)

    def test_wrong_messages(self):
        def wrong(request):
            yield evil(request, cookie=b"\x63\x82\x53\x62")
            for lease in unusable_leases():
                yield evil(request, lease)
            for number in (KIND, SERVER_ID, LEASE_TIME):
                yield evil(request, without=number)
                yield evil(request, options={number: b""})
                yield evil(request, options={number: b"\0" * 9})
            yield evil(request, tail=b"\x0c\xff" + b"x" * 30)
            yield evil(request, tail=b"\x0c")
            yield evil(request, tail=b"")

        self.assert_not_fooled(wrong)

    def test_wrong_packets(self):
        def wrong(request):
            whole = evil_message(request)
            for what in (
                {"udp_sum": 0x1234},
                {"udp_length": 7},
                {"udp_length": 8 + len(whole) + 1},
                {"udp_length": 0xFFFF},
                {"length": 27},
                {"length": 0xFFFF},
                {"protocol": 6},
                {"fragment": 0x2000},
                {"fragment": 0x0001},
                {"to_port": 69},
                {"first": 0x65},
                {"first": 0x44},
                {"first": 0x4F},
            ):
                yield packet(whole, "10.77.0.1", EVIL.address, **what)

        self.assert_not_fooled(wrong)

    def test_second_server(self):
        """His offer comes second, and his word on the first one's lease counts nothing."""
        server = self.plug(secs=30, more=RENEWED)

        def spoofed(request):
            right = server.answer(request)
            offer = server.offer(request, lease=EVIL, server="10.77.0.66")
            ack = server.ack(request, lease=EVIL, server="10.77.0.66")
            nak = server.nak(request, server="10.77.0.66")
            if request.kind == "discover":
                return [ack, nak, *right, offer, ack, nak]
            return [offer, ack, nak, *right, offer, ack, nak]

        server.behave = spoofed
        guest = self.start()
        guest.wait_address()
        select = server.wait("select")
        self.assertEqual(select.options[SERVER_ID], ips("10.77.0.1"))
        self.assertEqual(select.asks_for(), "10.77.0.50")
        guest.wait_logged("renewed")
        guest.wait_address()
        self.assertEqual(server.story(), ["discover", "select", "renew"])
        self.assertNotIn(EVIL.address, guest.log())

    def test_flood(self):
        server = self.plug()

        def flood(request):
            noise = evil(request, xid=request.xid ^ 1)
            return [*itertools.repeat(noise, 5000), *server.answer(request)]

        server.behave = flood
        guest = self.start()
        self.assertTrue(guest.is_well())
        guest.wait_address()
        self.assertNotIn(EVIL.address, guest.log())

    def test_options_in_all_places(self):
        """Overload, and values in pieces over all three fields (RFC 2131 and 3396)."""
        server = self.plug()
        table = dhcp.routes(*((f"192.0.2.{n}/32", "10.77.0.9") for n in range(15)))

        def spread(request):
            kind = OFFER if request.kind == "discover" else ACK
            places = (
                {KIND: bytes([kind]), SERVER_ID: ips("10.77.0.1"), dhcp.OVERLOAD: b"\3"},
                {dhcp.MASK: ips("255.255.255.0")},
                {LEASE_TIME: u32(600)},
            )
            pieces = (table[:50], table[50:101], table[101:])
            options, file, sname = (
                dhcp.write_options({**place, dhcp.ROUTES: piece}) + dhcp.END
                for place, piece in zip(places, pieces)
            )
            whole = dhcp.message(request, options, "10.77.0.50", file=file, sname=sname)
            return [packet(whole, "10.77.0.1", "10.77.0.50")]

        server.behave = spread
        guest = self.start()
        guest.wait_address()
        guest.wait_routes({f"192.0.2.{n}": "10.77.0.9" for n in range(15)})


def evil_options(request, lease=EVIL):
    kind = OFFER if request.kind == "discover" else ACK
    return {KIND: bytes([kind]), SERVER_ID: ips("10.77.0.1"), **lease.options()}


def evil_message(request):
    return dhcp.message(request, evil_options(request), EVIL.address)


def evil(request, lease=EVIL, options=None, without=None, tail=dhcp.END, **fields):
    """A packet that would be right but for what is given."""
    table = {**evil_options(request, lease), **(options or {})}
    table.pop(without, None)
    data = dhcp.write_options(table) + tail
    return packet(dhcp.message(request, data, lease.address, **fields), "10.77.0.1", EVIL.address)


def unusable_leases():
    for address in ("0.0.0.0", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"):
        yield EVIL.but(address=address)
    for mask in ("255.0.255.0", "0.0.0.255", "0.0.0.0"):
        yield EVIL.but(mask=mask)
    for secs in (0, 1):
        yield EVIL.but(secs=secs)


class Lives(DhcpTest):
    """Leases of seconds, so that all of a lease's life is seen."""

    def test_renewal_rebinding_expiry_and_return(self):
        server = self.plug(secs=3, more={**SHORT, dhcp.ROUTER: ips("10.77.0.1")})
        guest = self.start()
        guest.wait_address()
        leased_at = server.wait("select").at

        renewal = server.wait("renew")
        self.assertEqual((renewal.source, renewal.to), ("10.77.0.50", "10.77.0.1"))
        self.assertEqual(renewal.ciaddr, "10.77.0.50")
        self.assertGreater(renewal.at - leased_at, 0.5)
        guest.wait_routes({"default": "10.77.0.1"})

        server.behave = server.silent
        rebinding = server.wait("rebind")
        self.assertEqual(rebinding.source, "10.77.0.50")
        self.assertGreaterEqual(server.count("renew"), 2)
        guest.wait_address()
        guest.wait_logged("the lease ran out interface=eth0 address=10.77.0.50")
        guest.wait_for({}, guest.addresses)
        self.assertEqual(guest.routes(), {})

        server.wait("discover", 3)
        server.behave = server.answer
        guest.wait_address()
        guest.wait_routes({"default": "10.77.0.1"})

    def test_rebinding_with_another_server(self):
        """The first one is gone for good; another knows the lease, and has it from then on."""
        server = self.plug(secs=4, more=SHORT)

        def other(request):
            return [server.ack(request, server="10.77.0.2")] if request.kind == "rebind" else []

        guest = self.start()
        guest.wait_address()
        server.behave = other
        server.wait("rebind")
        guest.wait_logged("server=10.77.0.2")
        guest.wait_address()
        self.assertEqual(guest.logged("ran out"), 0)

    def test_guest_with_an_init_of_its_own(self):
        """The command init leaves a lease to the one that serves, which keeps it."""
        script = 'agent=$1; shift; "$agent" init "$@"; echo "init: $?"; exec "$agent" serve "$@"'
        server = self.plug(secs=4, more={**SHORT, dhcp.ROUTER: ips("10.77.0.1")})
        with open(self.lab.dir / "init", "wb") as said:
            guest = self.start(through=("/bin/busybox", "sh", "-c", script, "sh"), stdout=said)
        self.assertEqual((self.lab.dir / "init").read_text(), "init: 0\n")
        guest.wait_address()
        server.wait("renew", 2)
        self.assertEqual(server.story(), ["discover", "select", "reboot", "renew"])
        guest.wait_routes({"default": "10.77.0.1"})

    def test_renewal_that_moves_the_guest(self):
        server = self.plug(secs=30, more={**RENEWED, dhcp.ROUTER: ips("10.77.0.1")})
        guest = self.start()
        guest.wait_address()
        moved = server.lease.but(address="10.77.0.51")
        server.behave = lambda r: [server.ack(r, lease=moved)]
        guest.wait_address("10.77.0.51/24")
        guest.wait_routes({"default": "10.77.0.1"})
        lab.until(lambda: server.requests[-1].ciaddr == "10.77.0.51", "a renewal of it")

    def test_refusal_of_a_renewal(self):
        server = self.plug(secs=30, more=RENEWED)
        guest = self.start()
        guest.wait_address()
        server.lease = server.lease.but(address="10.77.0.51")
        server.wait("renew")
        guest.wait_address("10.77.0.51/24")
        self.assertEqual(guest.logged("the server ended the lease"), 1)
        self.assertEqual(server.story()[2:], ["renew", "discover", "select"])

    def test_address_that_somebody_takes_away(self):
        server = self.plug(secs=30, more={**SHORT, dhcp.ROUTER: ips("10.77.0.1")})
        guest = self.start()
        guest.wait_address()
        lab.output("ip", "-n", self.lab.netns, "addr", "flush", "dev", "eth0")
        guest.wait_address()
        guest.wait_routes({"default": "10.77.0.1"})
        self.assertEqual(server.story().count("discover"), 1)

    def test_renewal_that_changes_all(self):
        table = dhcp.routes(("0.0.0.0/0", "10.77.0.1"), ("192.0.2.0/24", "10.77.0.1"))
        first = {**RENEWED, dhcp.ROUTES: table, dhcp.MTU: u16(1400)}
        then = {**RENEWED, dhcp.ROUTER: ips("10.77.0.9"), dhcp.MTU: u16(1300)}
        server = self.plug(secs=30, more=first)
        guest = self.start()
        guest.wait_routes({"default": "10.77.0.1", "192.0.2.0/24": "10.77.0.1"})
        self.assertEqual(guest.link()["mtu"], 1400)
        server.lease = server.lease.but(more=then)
        guest.wait_routes({"default": "10.77.0.9"})
        guest.wait_address()
        self.assertEqual(guest.link()["mtu"], 1300)

    def test_renewals_leave_nothing_behind(self):
        server = self.plug(secs=30, more=RENEWED)
        guest = self.start()
        guest.wait_logged("renewed")
        with Growth(self, guest, f"{RENEWALS} renewals"):
            for n in range(RENEWALS):
                guest.wait_logged("renewed", n + 2)
        self.assertEqual(server.story()[2:], ["renew"])
        guest.wait_address()


class Links(DhcpTest):
    def test_link_that_goes_and_comes(self):
        server = self.plug(more={dhcp.ROUTER: ips("10.77.0.1")})
        guest = self.start()
        guest.wait_address()
        self.cycle(guest, 1)
        with Growth(self, guest, f"{LINK_CYCLES} times the link went and came"):
            for n in range(LINK_CYCLES):
                self.cycle(guest, n + 2)
        guest.wait_address()
        guest.wait_routes({"default": "10.77.0.1"})
        self.assertEqual(server.story().count("discover"), 1)

    def cycle(self, guest, nth):
        guest.set_link("down")
        guest.set_link("up")
        guest.wait_logged("renewed", nth)

    def test_other_network_behind_the_link(self):
        """Pulled out here and plugged in there: the old address is refused, and goes."""
        server = self.plug()
        guest = self.start()
        guest.wait_address()
        self.set_wire("down")
        guest.wait_logged("the link is down interface=eth0")
        guest.wait_address()
        server.lease = server.lease.but(address="10.77.0.51")
        self.set_wire("up")
        guest.wait_address("10.77.0.51/24")
        self.assertEqual(server.story()[2:], ["reboot", "discover", "select"])

    def test_more_events_than_can_be_kept(self):
        """What happened to the link meanwhile is made up for."""
        self.plug(more={dhcp.ROUTER: ips("10.77.0.1")})
        guest = self.start()
        guest.wait_routes({"default": "10.77.0.1"})
        os.kill(guest.pid, signal.SIGSTOP)
        flaps = 2000 * ["link set lo down", "link set lo up"]
        lab.output("ip", "-n", self.lab.netns, "-batch", "-", input="\n".join(flaps))
        guest.set_link("down")
        guest.set_link("up")
        self.assertEqual(guest.routes(), {})
        os.kill(guest.pid, signal.SIGCONT)
        guest.wait_routes({"default": "10.77.0.1"})
        guest.wait_address()

    def test_silence_behind_the_link_is_no_reason_to_let_go(self):
        server = self.plug(more={dhcp.ROUTER: ips("10.77.0.1")})
        guest = self.start()
        guest.wait_routes({"default": "10.77.0.1"})
        server.behave = server.silent
        guest.set_link("down")
        guest.set_link("up")
        server.wait("reboot", 2)
        time.sleep(0.5)
        guest.wait_address()
        guest.wait_routes({"default": "10.77.0.1"})
        self.assertEqual(server.story(), ["discover", "select", "reboot"])

    def test_link_that_is_down_at_the_start(self):
        server = self.plug()
        self.set_wire("down")
        guest = self.start()
        guest.wait_logged("listening")
        time.sleep(0.3)
        self.assertEqual(server.kinds(), [])
        self.set_wire("up")
        guest.wait_address()

    def test_interface_that_goes_away(self):
        server = self.plug()
        guest = self.start()
        guest.wait_address()
        lab.output("ip", "-n", self.lab.netns, "link", "del", "eth0")
        guest.wait_logged("the interface is gone interface=eth0")
        self.assertTrue(guest.is_well())
        self.assertEqual(server.story().count("discover"), 1)

    def set_wire(self, state):
        lab.output("ip", "-n", self.lab.host, "link", "set", "to-eth0", state)


class Growth:
    """Asserts that what happens inside leaves no descriptor and no memory behind."""

    def __init__(self, test, guest, what):
        self.test, self.guest, self.what = test, guest, what

    def figures(self):
        return lab.descriptors(self.guest.pid), lab.memory_bytes(self.guest.pid)

    def __enter__(self):
        self.before = self.figures()

    def __exit__(self, kind, *_):
        if kind:
            return
        self.guest.settled(self.before[0])
        descriptors, memory = self.figures()
        grown = memory - self.before[1]
        self.test.note(
            f"{self.what}: descriptors {self.before[0]} -> {descriptors}, "
            f"memory {lab.mib(self.before[1])} -> {lab.mib(memory)}"
        )
        self.test.assert_grown_less(grown, GROWTH_BYTES)
