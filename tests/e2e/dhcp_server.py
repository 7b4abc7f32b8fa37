"""A DHCP server that does what a test tells it to, right or wrong: RFC 2131, 2132, 3396, 3442.

It runs on a thread and works on frames (packet(7)), so that it can send what no socket would. What
it answers is a function from a request to packets; `Server.answer` is the one that does it right.
"""

import ctypes
import ipaddress
import itertools
import socket
import struct
import threading
import time
from dataclasses import dataclass, field, replace

from lab import until

DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE = range(1, 8)
MASK, ROUTER, DNS, HOSTNAME, DOMAIN, MTU = 1, 3, 6, 12, 15, 26
REQUESTED, LEASE_TIME, OVERLOAD, KIND, SERVER_ID, T1, T2 = 50, 51, 52, 53, 54, 58, 59
ROUTES = 121
COOKIE = b"\x63\x82\x53\x63"
END = b"\xff"
NOBODY = "0.0.0.0"
BROADCAST = "255.255.255.255"


# --- in another namespace ---


def in_netns(netns, function):
    """Calls a function in a network namespace: on a thread, whose own it is. Sockets stay in it."""
    result = []

    def call():
        with open(f"/run/netns/{netns}", "rb") as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0):
                raise OSError(ctypes.get_errno(), f"cannot enter {netns}")
        result.append(function())

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return result[0]


def udp_socket(address, port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((address, port))
    return s


# --- values ---


def ips(*addresses):
    return b"".join(ipaddress.ip_address(a).packed for a in addresses)


def u16(value):
    return struct.pack(">H", value)


def u32(value):
    return struct.pack(">I", value)


def routes(*pairs):
    """Classless routes (RFC 3442) from (network, gateway)."""
    data = b""
    for network, gateway in pairs:
        network = ipaddress.ip_network(network)
        significant = (network.prefixlen + 7) // 8
        data += bytes([network.prefixlen]) + network.network_address.packed[:significant]
        data += ips(gateway)
    return data


@dataclass(frozen=True)
class Lease:
    address: str = "10.77.0.50"
    mask: str = "255.255.255.0"
    secs: int = 3600
    more: dict = field(default_factory=dict)  # options by number

    def options(self):
        return {MASK: ips(self.mask), LEASE_TIME: u32(self.secs), **self.more}

    def but(self, **changes):
        return replace(self, **changes)


# --- messages and packets ---


class Request:
    """What a client sent."""

    def __init__(self, frame):
        packet = frame[14:]
        self.at = time.monotonic()
        self.mac = frame[6:12]
        self.source, self.to = (str(ipaddress.ip_address(packet[n : n + 4])) for n in (12, 16))
        data = packet[(packet[0] & 15) * 4 + 8 :]
        self.xid, self.secs, self.flags = struct.unpack(">4xIHH", data[:12])
        self.ciaddr = str(ipaddress.ip_address(data[12:16]))
        self.chaddr = data[28:34]
        self.options = dict(read_options(data[240:]))
        self.kind = self._kind()

    def _kind(self):
        """RFC 2131 section 4.3.2: what a REQUEST is, follows from what it holds."""
        kind = self.options[KIND][0]
        if kind != REQUEST:
            return {DISCOVER: "discover", DECLINE: "decline", RELEASE: "release"}[kind]
        if SERVER_ID in self.options:
            return "select"
        if self.ciaddr == NOBODY:
            return "reboot"
        return "rebind" if self.to == BROADCAST else "renew"

    def asks_for(self):
        """The address that it wants, if it says so."""
        if REQUESTED in self.options:
            return str(ipaddress.ip_address(self.options[REQUESTED]))
        return self.ciaddr


def read_options(data):
    at = 0
    while data[at] != 255:
        if data[at] == 0:
            at += 1
            continue
        yield data[at], data[at + 2 : at + 2 + data[at + 1]]
        at += 2 + data[at + 1]


def write_options(options):
    """A value that is too long for one option goes into several (RFC 3396)."""
    data = b""
    for number, value in options.items():
        for at in range(0, max(len(value), 1), 255):
            piece = value[at : at + 255]
            data += bytes([number, len(piece)]) + piece
    return data


def message(request, options, yiaddr=NOBODY, **fields):
    """A reply; `options` is bytes, or a table that is written and ended. Fields may be wrong."""
    if isinstance(options, dict):
        options = write_options(options) + END
    head = struct.pack(
        ">BBBBIHH4s4s4s4s16s64s128s4s",
        fields.get("op", 2),
        1,
        fields.get("hlen", 6),
        0,
        fields.get("xid", request.xid),
        0,
        request.flags,
        ips(NOBODY),
        ips(yiaddr),
        ips(NOBODY),
        ips(NOBODY),
        fields.get("chaddr", request.chaddr),
        fields.get("sname", b""),
        fields.get("file", b""),
        fields.get("cookie", COOKIE),
    )
    return head + options


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(payload, source, to, **wrong):
    """An IPv4 packet that holds a datagram; what is `wrong` replaces a field of a header."""
    ports = struct.pack(">HH", wrong.get("from_port", 67), wrong.get("to_port", 68))
    length = struct.pack(">H", wrong.get("udp_length", 8 + len(payload)))
    pseudo = ips(source, to) + struct.pack(">BBH", 0, 17, 8 + len(payload))
    udp_sum = checksum(pseudo + ports + length + b"\0\0" + payload) or 0xFFFF
    datagram = ports + length + struct.pack(">H", wrong.get("udp_sum", udp_sum)) + payload
    head = struct.pack(
        ">BBHHHBBH4s4s",
        wrong.get("first", 0x45),
        0,
        wrong.get("length", 20 + len(datagram)),
        0,
        wrong.get("fragment", 0),
        64,
        wrong.get("protocol", 17),
        0,
        ips(source),
        ips(to),
    )
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + datagram


# --- the server ---


class Server:
    """On an interface of a network namespace, which has its address already."""

    def __init__(self, netns, interface, address, lease=Lease()):
        self.address = address
        self.lease = lease
        self.behave = self.answer
        self.requests = []
        self.wire = in_netns(netns, lambda: self._open_wire(interface))
        # Nothing is read from it. Without it, the kernel would answer that nobody is there.
        self.port = in_netns(netns, lambda: udp_socket(address, 67))
        self.closing = False
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _open_wire(self, interface):
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        s.bind((interface, 0x0800))
        s.settimeout(0.1)
        return s

    def close(self):
        self.closing = True
        self.thread.join()
        self.wire.close()
        self.port.close()

    def _serve(self):
        while not self.closing:
            try:
                frame = self.wire.recv(2048)
            except OSError:  # nothing came, or the interface is down
                continue
            if is_to_server(frame):
                self._take(Request(frame))

    def _take(self, request):
        self.requests.append(request)
        for reply in self.behave(request):
            self.send(request, reply)

    def send(self, request, reply):
        try:
            self.wire.send(request.mac + self.wire.getsockname()[4] + b"\x08\0" + reply)
        except OSError:  # it is down meanwhile, and the packet lost
            pass

    # --- behaviour ---

    def silent(self, _request):
        return []

    def answer(self, request):
        """What RFC 2131 section 4.3 wants."""
        if request.kind == "discover":
            return [self.offer(request)]
        if request.kind in ("decline", "release"):
            return []
        if request.kind == "select" and request.options[SERVER_ID] != ips(self.address):
            return []
        if request.asks_for() != self.lease.address:
            return [self.nak(request)]
        return [self.ack(request)]

    def offer(self, request, **changes):
        return self.reply(request, OFFER, **changes)

    def ack(self, request, **changes):
        return self.reply(request, ACK, **changes)

    def nak(self, request, server=None):
        server = server or self.address
        options = {KIND: bytes([NAK]), SERVER_ID: ips(server)}
        return packet(message(request, options), server, BROADCAST)

    def reply(self, request, kind, lease=None, server=None):
        lease = lease or self.lease
        server = server or self.address
        options = {KIND: bytes([kind]), SERVER_ID: ips(server), **lease.options()}
        return packet(message(request, options, lease.address), server, lease.address)

    # --- what happened ---

    def count(self, kind):
        return sum(request.kind == kind for request in self.requests)

    def wait(self, kind, count=1):
        """Until that many requests of a kind have come; the last of them."""
        until(lambda: self.count(kind) >= count, lambda: f"{count} of {kind}: {self.kinds()}")
        return [request for request in self.requests if request.kind == kind][count - 1]

    def kinds(self):
        return [request.kind for request in self.requests]

    def story(self):
        """The kinds in order; one that was repeated, as on a slow machine it is, counts once."""
        return [kind for kind, _ in itertools.groupby(self.kinds())]


def is_to_server(frame):
    udp = 14 + (frame[14] & 15) * 4
    return len(frame) > udp + 8 + 240 and frame[23] == 17 and frame[udp + 2 : udp + 4] == u16(67)
