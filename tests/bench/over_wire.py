"""A program that speaks Postgres's wire and waits for each answer: on a socket to Postgres, or over a WebSocket.

One client for both, as thin as can be (a blocking socket, the same bytes, no row decoded), so that what differs is the
way. Run with `python -m tests.bench.over_wire HOW SECONDS` it asks and prints what an answer took; HOW is `direct`,
`tcp` (the TCP door) or `websocket`. With `idle` instead it opens COUNT WebSockets, and keeps them until a line comes.
"""

import base64
import json
import os
import secrets
import socket
import sys
import time
from struct import pack, unpack_from
from typing import Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from sqlhttp_gateway.wire.frontend import EXECUTE, SYNC, encode_bind, encode_parse
from sqlhttp_gateway.wire.scram import MECHANISM, Client
from tests.bench.measure import percentile

_WARM_UP = 200
_READY = ord("Z")
_OK, _CLEARTEXT, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 3, 10, 11, 12


class Way(Protocol):
    """Bytes to a server and back."""

    def send(self, data: bytes) -> None:
        """All of it."""

    def receive(self) -> bytes:
        """What comes next."""


class Plain:
    """A TCP connection, or with a folder for a host one by the Unix socket in it."""

    def __init__(self, host: str, port: int) -> None:
        if host.startswith("/"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(30)
            self.socket.connect(f"{host}/.s.PGSQL.{port}")
        else:
            self.socket = socket.create_connection((host, port), timeout=30)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> bytes:
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the server has closed the connection")
        return data


class WebSocket(Plain):
    """The same, in binary messages; the mask is zero, which is a mask as good as any."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        self.socket.sendall(
            f"GET /v2 HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self._data = b""
        while b"\r\n\r\n" not in self._data:
            self._data += self.socket.recv(65536)
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        if b" 101 " not in head:
            raise ConnectionError(head.decode())

    def send(self, data: bytes) -> None:
        size = len(data)
        head = pack("!BB", 0x82, 0x80 | size) if size < 126 else pack("!BBH", 0x82, 0x80 | 126, size)
        self.socket.sendall(head + b"\0\0\0\0" + data)

    def receive(self) -> bytes:
        """One message: the gateway sends none longer than 64 KiB here."""
        while True:
            data = self._data
            if len(data) >= 2:
                long = data[1] == 126
                start = 4 if long else 2
                if len(data) >= start:
                    end = start + (unpack_from("!H", data, 2)[0] if long else data[1])
                    if len(data) >= end:
                        self._data = data[end:]
                        return data[start:end]
            self._data += super().receive()


class Session:
    """A logged-in program."""

    def __init__(self, way: Way, url: str) -> None:
        self._way = way
        where = urlsplit(url)
        role, database = unquote(where.username or ""), where.path.lstrip("/")
        password = unquote(where.password or "").encode()
        words = b"user\0" + role.encode() + b"\0database\0" + database.encode() + b"\0\0"
        way.send(pack("!II", 8 + len(words), 196608) + words)
        scram = Client(password, secrets.token_urlsafe(18))
        data = b""
        while True:
            while len(data) < 5 or len(data) < 1 + unpack_from("!I", data, 1)[0]:
                data += way.receive()
            size = 1 + unpack_from("!I", data, 1)[0]
            frame, data = data[:size], data[size:]
            if frame[0] == ord("E"):
                raise ConnectionError(frame.decode(errors="replace"))
            if frame[0] == _READY:
                return
            if frame[0] == ord("R"):
                self._answer(unpack_from("!I", frame, 5)[0], frame[9:], scram=scram, password=password)

    def _answer(self, kind: int, body: bytes, *, scram: Client, password: bytes) -> None:
        if kind == _CLEARTEXT:
            self._say(password + b"\0")
        elif kind == _SASL:
            first = scram.first()
            self._say(MECHANISM.encode() + b"\0" + pack("!I", len(first)) + first)
        elif kind in (_SASL_CONTINUE, _SASL_FINAL):
            answer = scram.receive(body)
            if answer:
                self._say(answer)
        elif kind != _OK:
            raise ConnectionError(f"authentication of kind {kind}")

    def _say(self, body: bytes) -> None:
        self._way.send(b"p" + pack("!I", 4 + len(body)) + body)

    def ask(self, data: bytes) -> bytes:
        """Send, and receive up to ReadyForQuery."""
        self._way.send(data)
        answer = self._way.receive()
        while answer[-6:-1] != b"Z\0\0\0\x05":
            answer += self._way.receive()
        if answer[0] == ord("E"):
            raise ConnectionError(answer.decode(errors="replace"))
        return answer


def connected(how: str) -> Session:
    """A session of the kind that the environment says where to find."""
    url = os.environ["BENCH_URL"]
    if how == "websocket":
        return Session(WebSocket("127.0.0.1", int(os.environ["BENCH_PORT"])), url)
    if how == "tcp":
        return Session(Plain("127.0.0.1", int(os.environ["BENCH_DOOR"])), url)
    where = urlsplit(url)
    among = {name: values[0] for name, values in parse_qs(where.query).items()}
    return Session(Plain(where.hostname or among["host"], where.port or int(among["port"])), url)


def ask_for(seconds: float, how: str) -> None:
    """Prepared look-ups by key one after another; prints a Sample."""
    session = connected(how)
    statement, argument = os.environ["BENCH_STATEMENT"].encode(), os.environ["BENCH_ARGUMENT"].encode()
    session.ask(encode_parse(b"s", statement) + SYNC)
    question = encode_bind(b"s", [argument] if argument else []) + b"D\0\0\0\x06P\0" + EXECUTE + SYNC
    for _ in range(_WARM_UP):
        session.ask(question)
    latencies = []
    began, cpu = time.perf_counter(), time.process_time()
    now = began
    while now - began < seconds:
        session.ask(question)
        before, now = now, time.perf_counter()
        latencies.append(now - before)
    used = time.process_time() - cpu
    latencies.sort()
    found = {
        "requests": len(latencies),
        "seconds": now - began,
        "p50": percentile(latencies, 50) * 1e6,
        "p99": percentile(latencies, 99) * 1e6,
        "client_cpu": used / len(latencies) * 1e6,
    }
    print(json.dumps(found))


def keep(count: int) -> None:
    """Open so many WebSockets, each with one statement done; says so, and keeps them until a line comes."""
    sessions = []
    for _ in range(count):
        session = connected("websocket")
        session.ask(encode_parse(b"", b"SELECT 1") + encode_bind(b"", ()) + EXECUTE + SYNC)
        sessions.append(session)
    print("open", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    if sys.argv[1] == "idle":
        keep(int(sys.argv[2]))
    else:
        ask_for(float(sys.argv[2]), sys.argv[1])
