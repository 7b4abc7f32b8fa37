"""Firecracker's vsock device: the guest's ports behind one unix socket of the host.

The host connects to it, writes `CONNECT PORT\\n`, and reads `OK N\\n` once the guest has accepted;
if nobody listens there it is hung up on. The guest reaches port P of the host at the socket
`<path>_P`. As in Firecracker, either side that closes ends both directions.
"""

import itertools
import os
import socket
import threading

PIECE = 65536
COMMAND_MAX = 32  # bytes of a CONNECT line


class Vsock:
    """Its socket is bound at once, and served from start() on."""

    def __init__(self, path, guest_dir, switches):
        self.path = path
        self.guest_dir = guest_dir
        self.switches = switches
        self.listener = listen(path)
        self.running = threading.Event()  # cleared while the VM is paused
        self.ports = itertools.count(1 << 30)
        self.lock = threading.Lock()
        self.sockets = set()

    def start(self):
        self.running.set()
        serve(self.listener, self._from_host)
        serve(listen(f"{self.guest_dir}/host"), self._from_guest)

    def close(self):
        self.listener.close()
        os.unlink(self.path)

    def pause(self):
        self.running.clear()

    def resume(self):
        self.running.set()

    def reset(self):
        """Ends all connections; whoever listens goes on."""
        with self.lock:
            for sock in self.sockets:
                shut(sock)

    def _from_host(self, host):
        port = connect_command(host)
        self.running.wait()
        if port is None or self.switches.at(f"connect {port}")[0]:
            return
        with socket.socket(socket.AF_UNIX) as guest:
            if guest.connect_ex(f"{self.guest_dir}/{port}") == 0:
                host.sendall(b"OK %d\n" % next(self.ports))
                self._forward(host, guest)

    def _from_guest(self, guest):
        """A program of the guest's that has no vsock: it names the port in the same words."""
        port = connect_command(guest)
        with socket.socket(socket.AF_UNIX) as host:
            if port is not None and host.connect_ex(f"{self.path}_{port}") == 0:
                self._forward(guest, host)

    def _forward(self, a, b):
        with self.lock:
            self.sockets |= {a, b}
        back = threading.Thread(target=self._copy, args=(b, a), daemon=True)
        back.start()
        self._copy(a, b)
        back.join()
        with self.lock:
            self.sockets -= {a, b}

    def _copy(self, source, sink):
        try:
            while piece := source.recv(PIECE):
                self.running.wait()
                sink.sendall(piece)
        except OSError:
            pass
        shut(source)
        shut(sink)


def listen(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(128)
    return listener


def serve(listener, handler):
    """Accepts connections for ever, each handled by a thread of its own."""

    def handle(connection):
        with connection:
            try:
                handler(connection)
            except OSError:
                pass  # the peer has gone

    def accept():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def connect_command(sock):
    """The port of a CONNECT line, read byte by byte since what follows is the guest's."""
    line = b""
    while not line.endswith(b"\n"):
        byte = sock.recv(1)
        if not byte or len(line) == COMMAND_MAX:
            return None
        line += byte
    word, _, port = line.decode("ascii", "replace").strip().partition(" ")
    return int(port) if word.upper() == "CONNECT" and port.isdecimal() else None


def shut(sock):
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is over already
