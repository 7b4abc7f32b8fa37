"""Firecracker's API server: HTTP/1.1 on a unix socket.

Connections are kept open, whatever the client asks for, and served by threads; the VMM takes the
requests of all of them one by one.
"""

import json
import queue
import threading

import vsock

HEAD_MAX = 16384
PHRASES = {
    100: "Continue",
    200: "OK",
    204: "",
    400: "Bad Request",
    413: "Payload Too Large",
    500: "Internal Server Error",
}
MEDIA_TYPES = ("application/json", "text/plain")


class Request:
    def __init__(self, method, target, body):
        self.method, self.target, self.body = method, target, body
        self.step = f"{method} {target}"
        self.reply = queue.Queue(1)


class Reply:
    """A status, a body (a dict, or None), and how to send it wrongly."""

    def __init__(self, status, body=None, trouble="", then=None):
        self.status, self.body, self.trouble = status, body, trouble
        self.then = then  # called by the VMM when the answer has left
        self.sent = threading.Event()

    def encode(self):
        text = "" if self.body is None else json.dumps(self.body)
        lines = [
            f"HTTP/1.1 {self.status} {PHRASES[self.status]}",
            "Server: Firecracker API",
            "Connection: keep-alive",
        ]
        if text:
            lines += ["Content-Type: application/json", f"Content-Length: {len(text)}"]
        return "\r\n".join([*lines, "", text]).encode()


def fault(text, status=400):
    return Reply(status, {"fault_message": text})


class Server:
    """Requests come out of `requests`; each is answered by putting a Reply into its `reply`."""

    def __init__(self, path, max_payload):
        self.max_payload = max_payload
        self.requests = queue.Queue()
        self.listener = vsock.listen(path)

    def start(self):
        vsock.serve(self.listener, self._serve)

    def _serve(self, connection):
        with connection.makefile("rb") as stream:
            while request := self._read(connection, stream):
                if isinstance(request, Reply):
                    connection.sendall(request.encode())
                    return
                self.requests.put(request)
                reply = request.reply.get()
                try:
                    if not send(connection, reply):
                        return
                finally:
                    reply.sent.set()

    def _read(self, connection, stream):
        """The next request, an answer to one that is none, or None at the end."""
        line = stream.readline(HEAD_MAX).decode("latin-1").rstrip("\r\n")
        if not line:
            return None
        method, target, version = (line.split(" ") + ["", ""])[:3]
        if version not in ("HTTP/1.0", "HTTP/1.1") or not target.startswith("/"):
            return fault("Invalid HTTP request line.")
        headers = read_headers(stream)
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            return fault("Invalid header. Reason: Invalid value. Key:Content-Length")
        if headers.get("content-type", MEDIA_TYPES[0]).split(";")[0] not in MEDIA_TYPES:
            return fault("Invalid header. Reason: Unsupported media type.")
        if int(length) > self.max_payload:
            return fault(
                f"Request payload with size {length} is larger than the limit of "
                f"{self.max_payload} allowed by server.\n"
                "All previous unanswered requests will be dropped.",
                413,
            )
        if headers.get("expect") == "100-continue":
            connection.sendall(Reply(100).encode())
        body = stream.read(int(length))
        return Request(method, target, body) if len(body) == int(length) else None


def read_headers(stream):
    headers = {}
    while line := stream.readline(HEAD_MAX).decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return headers


def send(connection, reply):
    """Sends an answer, wrongly if so told. False when the connection is to be closed."""
    text = reply.encode()
    if reply.trouble == "cut":
        connection.sendall(text[: len(text) // 2])
    elif reply.trouble == "garbage":
        connection.sendall(b"\x00\xff PANIC at src/main.rs\r\n\r\n" * 8)
    elif reply.trouble == "flood":
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 1099511627776\r\n\r\n")
        connection.sendall(b'{"fault_message": "')
        while True:
            connection.sendall(b"A" * 65536)
    else:
        connection.sendall(text)
        return True
    return False
