"""An HTTP server that misbehaves on command: each request is met by the next act of a script.

Acts are the functions at the end of this file. What a connection is asked and how often the server was connected to
is kept, so that a test can say what was sent twice and what was not.
"""

import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

HANG_TIMEOUT = 20.0  # seconds after which a test that forgot the server fails instead of hanging


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it arrived."""

    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    connection: int
    """The how manieth connection it came over, from 1."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Scripted:
    """The running server."""

    port: int
    acts: list["Act"]
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)
    """Set when an act has closed a connection that a client may still hold."""

    @property
    def url(self) -> str:
        """A connection string whose endpoint is this server."""
        return f"postgresql://role:password@127.0.0.1:{self.port}/main"

    @property
    def queries(self) -> list[str]:
        """The SQL text of every request that was read whole."""
        return [request.json["query"] for request in self.requests]


class Peer:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket, server: Scripted, number: int) -> None:
        self._socket = sock
        self._buffer = b""
        self._number = number
        self.server = server

    def read_head(self) -> dict[str, str] | None:
        """The headers of the next request; None at the end of the connection."""
        while b"\r\n\r\n" not in self._buffer:
            received = self._socket.recv(65536)
            if not received:
                return None
            self._buffer += received
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def read_body(self, headers: dict[str, str]) -> None:
        """The body of the request, which is then kept by the server."""
        length = int(headers["content-length"])
        while len(self._buffer) < length:
            received = self._socket.recv(65536)
            if not received:
                raise ConnectionError("the client closed the connection in the middle of a body")
            self._buffer += received
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        self.server.requests.append(Received(headers, body, self._number))

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def close(self) -> None:
        """Close in order: what was sent arrives, then the end."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self._socket.close()
        self.server.closed.set()

    def reset(self) -> None:
        """Close with RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()
        self.server.closed.set()


Act = Callable[[Peer, dict[str, str]], None]
"""Given the connection and a request's headers; it reads the body itself, answers or does not."""


@contextmanager
def scripted(*acts: Act, context: ssl.SSLContext | None = None) -> Iterator[Scripted]:
    """A server that meets the first request with the first act, and so on; the last act meets all that follow."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Scripted(listener.getsockname()[1], list(acts))
    threads: list[threading.Thread] = []
    peers: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):  # the listener is closed when the test is over
            while True:
                sock, _ = listener.accept()
                peers.append(sock)
                server.connections += 1
                thread = threading.Thread(target=serve, args=(sock, server.connections))
                threads.append(thread)
                thread.start()

    def serve(sock: socket.socket, number: int) -> None:
        sock.settimeout(HANG_TIMEOUT)
        with suppress(OSError):  # a client that ends a connection is what many tests are about
            if context is not None:
                sock = context.wrap_socket(sock, server_side=True)
                peers.append(sock)
            peer = Peer(sock, server, number)
            while (headers := peer.read_head()) is not None:
                act = server.acts.pop(0) if len(server.acts) > 1 else server.acts[0]
                act(peer, headers)
        sock.close()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield server
    finally:
        server.over.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(HANG_TIMEOUT)
        for sock in peers:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(HANG_TIMEOUT)
        for sock in peers:
            sock.close()


@contextmanager
def deaf_server() -> Iterator[Scripted]:
    """A port whose queue of connections is full: one more is neither accepted nor refused."""
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield Scripted(listener.getsockname()[1], [])


def unused_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def result(*rows: Sequence[str | None], types: Sequence[int] = (23,), command: str = "SELECT") -> dict[str, Any]:
    """One statement's answer: columns `a`, `b`, … of these types."""
    names = "abcdefgh"
    return {
        "fields": [
            {
                "name": names[index],
                "dataTypeID": type_id,
                "tableID": 0,
                "columnID": 0,
                "dataTypeSize": 4,
                "dataTypeModifier": -1,
                "format": "text",
            }
            for index, type_id in enumerate(types)
        ],
        "rows": [list(row) for row in rows],
        "command": command,
        "rowCount": len(rows),
        "rowAsArray": True,
    }


def http(status: int, body: Any, *, headers: Sequence[str] = ()) -> bytes:
    """A reply's bytes; a body that is not bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Whatever", "Content-Type: application/json", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


# ── acts ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

ONE_ROW = result(["1"])


def _continue(peer: Peer, headers: dict[str, str]) -> None:
    if headers.get("expect") == "100-continue":
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")


def answers(body: Any = ONE_ROW, *, status: int = 200, headers: Sequence[str] = ()) -> Act:
    """Answer as a server should, to a batch with as many results as it has queries."""

    def act(peer: Peer, received: dict[str, str]) -> None:
        _continue(peer, received)
        peer.read_body(received)
        queries = peer.server.requests[-1].json.get("queries")
        given = {"results": [body] * len(queries)} if queries is not None and status == 200 else body
        peer.send(http(status, given, headers=headers))

    return act


def answers_and_closes(body: Any = ONE_ROW) -> Act:
    """Answer as if the connection stayed, then close it."""

    def act(peer: Peer, received: dict[str, str]) -> None:
        answers(body)(peer, received)
        peer.close()

    return act


def resets(peer: Peer, received: dict[str, str]) -> None:
    """Read the whole request, then reset the connection."""
    _continue(peer, received)
    peer.read_body(received)
    peer.reset()


def closes(peer: Peer, received: dict[str, str]) -> None:
    """Read the whole request, then close the connection."""
    _continue(peer, received)
    peer.read_body(received)
    peer.close()


def closes_at_the_head(peer: Peer, received: dict[str, str]) -> None:
    """Close before the body, as a server does whose idle timeout ran out a moment ago."""
    peer.close()


def cut(after: int, body: Any = ONE_ROW) -> Act:
    """Send that many bytes of a proper answer, then close the connection."""

    def act(peer: Peer, received: dict[str, str]) -> None:
        _continue(peer, received)
        peer.read_body(received)
        peer.send(http(200, body)[:after])
        peer.close()

    return act


def hangs(peer: Peer, received: dict[str, str]) -> None:
    """Read the request and say nothing until the test is over."""
    _continue(peer, received)
    peer.read_body(received)
    peer.server.over.wait(HANG_TIMEOUT)


def trickles(every: float) -> Act:
    """Send an answer a byte at a time, a byte every so many seconds."""

    def act(peer: Peer, received: dict[str, str]) -> None:
        peer.read_body(received)
        for byte in http(200, ONE_ROW):
            if peer.server.over.wait(every):
                return
            peer.send(bytes([byte]))

    return act


def sends(data: bytes) -> Act:
    """Send these bytes for an answer, then close the connection."""

    def act(peer: Peer, received: dict[str, str]) -> None:
        peer.read_body(received)
        peer.send(data)
        peer.close()

    return act


def answers_before_the_body(status: int, body: Any) -> Act:
    """Answer at the head, without a word on the body."""

    def act(peer: Peer, received: dict[str, str]) -> None:
        peer.send(http(status, body, headers=["Connection: close"]))
        peer.close()

    return act


def answers_in_silence(peer: Peer, received: dict[str, str]) -> None:
    """Answer properly, but never say "100 Continue"."""
    peer.read_body(received)
    peer.send(http(200, ONE_ROW))
