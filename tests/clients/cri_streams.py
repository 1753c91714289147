"""The streams of exec, attach and port-forward, at the URL that the service answers with.

By SPDY/3.1, which kubelet passes on from kubectl and the API server, or by a WebSocket, where input has
no end of its own.
"""

import base64
import json
import os
import socket
import struct
import sys
import threading
import urllib.parse
import zlib

FIN = 1
GOAWAY = 7


class Connection:
    """HTTP that has been upgraded. To iterate over it gives pairs: the name of a stream, and data of it."""

    def __init__(self, url, method, headers):
        where = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((where.hostname, where.port), timeout=60)
        self.input = self.socket.makefile("rb")
        lines = [f"{method} {where.path} HTTP/1.1", f"Host: {where.netloc}", "Connection: Upgrade"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = self.input.readline().decode().strip()
        while self.input.readline().strip():
            pass
        if " 101 " not in answer:
            sys.exit(f"{url}: {answer}: {self.input.read().decode(errors='replace')}")

    def __iter__(self):
        try:
            while True:
                yield from self.receive()
        except EOFError:
            pass

    def take(self, size):
        data = self.input.read(size)
        if len(data) < size:
            raise EOFError
        return data


class WebSocket(Connection):
    """Each message begins with the number of its channel."""

    NAMES = ["stdin", "stdout", "stderr", "error", "resize"]

    def __init__(self, url):
        super().__init__(url, "GET", {
            "Upgrade": "websocket", "Sec-WebSocket-Version": 13,
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Protocol": "v4.channel.k8s.io",
        })

    def send(self, name, data):
        data = bytes([self.NAMES.index(name)]) + data
        # A client must mask what it sends; a mask of zeros leaves it as it is.
        self.socket.sendall(struct.pack(">BBQI", 0x82, 0x80 | 127, len(data), 0) + data)

    def receive(self):
        kind, size = self.take(2)
        if size > 125:
            size = int.from_bytes(self.take(2 if size == 126 else 8), "big")
        data = self.take(size)
        if kind & 15 == 8:
            raise EOFError
        # An empty message comes first on each channel.
        if data[1:]:
            yield self.NAMES[data[0]], data[1:]


class Spdy(Connection):
    """Streams are opened one by one. The end of one is given as empty data."""

    def __init__(self, url, protocol):
        super().__init__(url, "POST", {"Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": protocol})
        self.names, self.streams = {}, {}
        # SPDY has a dictionary for the headers, but who does not use it is understood, and we need none
        # of the server's headers.
        self.packed = zlib.compressobj()

    def open(self, name, **headers):
        stream = 2 * len(self.names) + 1
        self.names[stream], self.streams[name] = name, stream
        block = struct.pack(">I", len(headers))
        for text in (text for pair in headers.items() for text in pair):
            block += struct.pack(">I", len(text)) + text.encode()
        block = self.packed.compress(block) + self.packed.flush(zlib.Z_SYNC_FLUSH)
        self.socket.sendall(struct.pack(">HHIIIH", 0x8003, 1, len(block) + 10, stream, 0, 0) + block)

    def send(self, name, data, flags=0):
        self.socket.sendall(struct.pack(">II", self.streams[name], flags << 24 | len(data)) + data)

    def end(self, name):
        self.send(name, b"", FIN)

    def receive(self):
        stream, size = struct.unpack(">II", self.take(8))
        flags, data = size >> 24, self.take(size & 0xFFFFFF)
        if stream >> 31:
            if stream & 0xFFFF == GOAWAY:
                raise EOFError
            return
        if data:
            yield self.names[stream], data
        if flags & FIN:
            yield self.names[stream], b""


def copy_input(connection, ends):
    while data := os.read(0, 1 << 16):
        connection.send("stdin", data)
    if ends:
        connection.end("stdin")


def run(url, request, how, size):
    """Exec and attach: our input and output are the program's; returns its exit code.

    size: of the terminal, as "LINESxCOLUMNS".
    """
    if how == "websocket":
        connection = WebSocket(url)
    else:
        connection = Spdy(url, "v4.channel.k8s.io")
        for name in ["error", *(name for name in ("stdin", "stdout", "stderr") if request.get(name))]:
            connection.open(name, streamtype=name)
        if request.get("tty"):
            connection.open("resize", streamtype="resize")
    if size:
        lines, columns = size.split("x")
        connection.send("resize", json.dumps({"Width": int(columns), "Height": int(lines)}).encode())
    if request.get("stdin"):
        # As with kubectl, whoever types on a terminal has no other end than that of the program.
        ends = how == "spdy" and not request.get("tty")
        threading.Thread(target=copy_input, args=[connection, ends], daemon=True).start()
    status = None
    for name, data in connection:
        if name == "error" and data:
            # All at once, and last; input that nobody reads may keep the connection open.
            status = json.loads(data)
            break
        out = sys.stdout if name == "stdout" else sys.stderr
        out.buffer.write(data)
        out.buffer.flush()
    if not status:
        return "the streams ended without a status"
    if status["status"] == "Success":
        return 0
    for cause in status.get("details", {}).get("causes", []):
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    return status["message"]


def forward(url, ports):
    """Port-forward: sends our input to each of the ports, one after the other, and prints the answers."""
    asked = sys.stdin.buffer.read()
    connection = Spdy(url, "portforward.k8s.io")
    for number, port in enumerate(ports):
        live = {"data", "error"}
        for name in ("error", "data"):
            connection.open(name, streamtype=name, port=str(port), requestid=str(number))
        connection.send("data", asked)
        answered = False
        for name, data in connection:
            if not data:
                live.remove(name)
            elif name == "error":
                return data.decode()
            elif not answered:
                # From the end of one direction containerd waits a second for that of the other.
                connection.end("data")
                answered = True
            sys.stdout.buffer.write(data)
            if not live:
                break
    return 0
