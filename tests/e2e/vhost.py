"""A front end and a driver for vsock-bridge, without a machine: the guest is this process, and may do
what no driver does.

The rings are plain split virtqueues (virtio 1.2, section 2.7); memory is a file of one region.
"""

import array
import mmap
import os
import select
import socket
import struct
from contextlib import suppress

from lab import PATIENCE_S, until

GET_FEATURES, SET_FEATURES, SET_OWNER, RESET_OWNER, SET_MEM_TABLE = 1, 2, 3, 4, 5
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE = 8, 9, 10, 11
SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR = 12, 13, 14
GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, GET_QUEUE_NUM = 15, 16, 17
SET_VRING_ENABLE, GET_CONFIG, SET_CONFIG = 18, 24, 25
VERSION, REPLY, NEED_REPLY = 1, 4, 8
INDIRECT_DESC, EVENT_IDX, PROTOCOL_FEATURES, VERSION_1 = 1 << 28, 1 << 29, 1 << 30, 1 << 32
MQ, REPLY_ACK, CONFIG = 1 << 0, 1 << 3, 1 << 9

NEXT, WRITE, INDIRECT = 1, 2, 4

REQUEST, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST = range(1, 8)
STREAM, HOST, GUEST = 1, 2, 3
HEADER = struct.Struct("<QQIIIHHIII")

USER, GUEST_BASE = 0x7000_0000_0000, 0x4000_0000  # where front end and guest see the memory
MEMORY_BYTES = 4 << 20
QUEUE_SIZE = 64
BUFFER_BYTES = 4096 + HEADER.size


class Packet:
    FIELDS = "src_cid dst_cid src_port dst_port len type op flags buf_alloc fwd_cnt".split()

    def __init__(self, data):
        for name, value in zip(self.FIELDS, HEADER.unpack_from(data)):
            setattr(self, name, value)
        self.payload = bytes(data[HEADER.size :])

    def __repr__(self):
        return " ".join(f"{name}={getattr(self, name)}" for name in self.FIELDS)


class FrontEnd:
    """The vhost-user side: one request at a time."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_S)
        until(lambda: self.socket.connect_ex(str(path)) == 0, f"the bridge at {path}")
        self.fds = []

    def close(self):
        self.socket.close()
        while self.fds:
            os.close(self.fds.pop())

    def eventfd(self):
        self.fds.append(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        return self.fds[-1]

    def send(self, request, payload=b"", fds=(), flags=0):
        message = struct.pack("=III", request, VERSION | flags, len(payload)) + payload
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.socket.sendmsg([message], rights)

    def _take(self, size):
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise EOFError("the bridge has gone")
            data += more
        return data

    def reply(self, request):
        got, flags, size = struct.unpack("=III", self._take(12))
        assert (got, flags) == (request, VERSION | REPLY), (got, flags)
        return self._take(size)

    def ask(self, request, payload=b""):
        self.send(request, payload)
        return self.reply(request)

    def number(self, request):
        return struct.unpack("=Q", self.ask(request))[0]

    def tell(self, request, payload=b"", fds=()):
        """Whether the bridge did it; asks for an answer, for which REPLY_ACK must be agreed on."""
        self.send(request, payload, fds, NEED_REPLY)
        return self.reply(request) == bytes(8)

    def must(self, *request):
        assert self.tell(*request), f"request {request[0]} was refused"


class Queue:
    """The driver's side of a queue. Buffers have places of their own: slot i is descriptors 2i and 2i + 1."""

    def __init__(self, device, index):
        self.memory, self.device, self.index = device.memory, device, index
        self.start = index * 0x8000
        self.desc, self.avail, self.used = self.start, self.start + 0x2000, self.start + 0x4000
        self.data = 0x100000 * (1 + index)
        self.kick, self.call, self.err = (device.eventfd() for _ in range(3))
        self.forget()

    def forget(self):
        self.memory[self.start : self.start + 0x8000] = bytes(0x8000)
        self.next_avail = self.next_used = 0

    def begin(self, base=0, size=QUEUE_SIZE):
        state = struct.Struct("=II")
        rings = struct.pack(
            "=IIQQQQ", self.index, 0, USER + self.desc, USER + self.used, USER + self.avail, 0
        )
        self.device.must(SET_VRING_NUM, state.pack(self.index, size))
        self.device.must(SET_VRING_BASE, state.pack(self.index, base))
        self.device.must(SET_VRING_ADDR, rings)
        for request, fd in (
            (SET_VRING_ERR, self.err), (SET_VRING_CALL, self.call), (SET_VRING_KICK, self.kick)
        ):  # fmt: skip
            self.device.must(request, struct.pack("=Q", self.index), [fd])
        self.device.must(SET_VRING_ENABLE, state.pack(self.index, 1))

    def stop(self):
        return struct.unpack("=II", self.device.ask(GET_VRING_BASE, struct.pack("=II", self.index, 0)))[1]

    # --- what the driver writes ---

    def describe(self, i, address, size, flags=0, following=0, table=None):
        place = self.desc if table is None else table
        struct.pack_into("<QIHH", self.memory, place + 16 * i, address, size, flags, following)

    def offer(self, head, kick=True):
        struct.pack_into("<H", self.memory, self.avail + 4 + 2 * (self.next_avail % QUEUE_SIZE), head)
        self.next_avail += 1
        struct.pack_into("<H", self.memory, self.avail + 2, self.next_avail & 0xFFFF)
        if kick:
            self.kicks()

    def kicks(self):
        os.eventfd_write(self.kick, 1)

    def slot(self, i):
        return self.data + i * 0x4000

    def interrupt_at(self, index):
        """When that chain is used; means something with EVENT_IDX only."""
        struct.pack_into("<H", self.memory, self.avail + 4 + 2 * QUEUE_SIZE, index & 0xFFFF)

    # --- what the device writes ---

    def used_index(self):
        return struct.unpack_from("<H", self.memory, self.used + 2)[0]

    def take_used(self):
        """The next used chain, as (head, bytes written), or None."""
        if self.used_index() == self.next_used & 0xFFFF:
            return None
        at = self.used + 4 + 8 * (self.next_used % QUEUE_SIZE)
        self.next_used += 1
        return struct.unpack_from("<II", self.memory, at)

    def failed(self):
        return bool(select.select([self.err], [], [], 0)[0])

    def calls(self):
        """How many interrupts came since this was last asked."""
        with suppress(BlockingIOError):
            return os.eventfd_read(self.call)
        return 0


class Device(FrontEnd):
    """A device that works, as a driver sees it."""

    def __init__(self, path, features=VERSION_1 | INDIRECT_DESC | PROTOCOL_FEATURES, buffers=32):
        super().__init__(path)
        memory = os.memfd_create("guest", os.MFD_CLOEXEC)
        self.fds.append(memory)
        os.ftruncate(memory, MEMORY_BYTES)
        self.memory = mmap.mmap(memory, MEMORY_BYTES)
        self.must_have(self.number(GET_FEATURES), features)
        self.must_have(self.number(GET_PROTOCOL_FEATURES), MQ | REPLY_ACK | CONFIG)
        self.send(SET_PROTOCOL_FEATURES, struct.pack("=Q", REPLY_ACK | CONFIG))
        self.must(SET_OWNER)
        self.must(SET_FEATURES, struct.pack("=Q", features))
        self.map_memory(memory)
        self.rx, self.tx = Queue(self, 0), Queue(self, 1)
        self.rx.begin()
        self.tx.begin()
        for i in range(buffers):
            self.give_buffer(i)

    @staticmethod
    def must_have(offered, wanted):
        assert offered & wanted == wanted, hex(offered)

    def map_memory(self, memory):
        table = struct.pack("=IIQQQQ", 1, 0, GUEST_BASE, MEMORY_BYTES, USER, 0)
        self.must(SET_MEM_TABLE, table, [memory])

    def close(self):
        super().close()
        self.memory.close()

    # --- packets ---

    def give_buffer(self, i):
        self.rx.describe(2 * i, GUEST_BASE + self.rx.slot(i), BUFFER_BYTES, WRITE)
        self.rx.offer(2 * i)

    def transmit(self, op, host_port, guest_port=9, payload=b"", *, kick=True, size=None, **fields):
        """Sends a packet; returns its slot."""
        values = {"src_cid": GUEST, "dst_cid": HOST, "src_port": guest_port, "dst_port": host_port,
                  "len": len(payload), "type": STREAM, "op": op, "flags": 0,
                  "buf_alloc": 1 << 18, "fwd_cnt": 0, **fields}  # fmt: skip
        data = HEADER.pack(*(values[name] for name in Packet.FIELDS)) + payload
        i = self.tx.next_avail % (QUEUE_SIZE // 2)
        self.memory[self.tx.slot(i) : self.tx.slot(i) + len(data)] = data
        self.tx.describe(2 * i, GUEST_BASE + self.tx.slot(i), len(data) if size is None else size)
        self.tx.offer(2 * i, kick)

    def receive(self):
        """The next packet from the device; its buffer is given back."""
        head, size = until(self.rx.take_used, "a packet from the device")
        at = self.rx.slot(head // 2)
        packet = Packet(self.memory[at : at + size])
        self.rx.offer(head)
        return packet

    def look_round(self):
        """Waits until the device has looked at all that there was for it: it has answered, and its
        loop has come to that again."""
        for _ in range(2):
            self.number(GET_QUEUE_NUM)

    def quiet(self):
        return self.rx.used_index() == self.rx.next_used & 0xFFFF

    def settle(self):
        """Waits until the device has taken all that was sent."""
        until(lambda: self.tx.used_index() == self.tx.next_avail & 0xFFFF, "the end of transmission")
