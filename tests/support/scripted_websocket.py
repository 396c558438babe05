"""A WebSocket server that answers from a script: each message of a client is met by the script's next line.

A line is the bytes to answer with, or one of the functions at the end of this file. Each connection plays the next
script, the last one again and again. What was sent is kept as it came.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

HANG_TIMEOUT = 20.0  # seconds after which a test that forgot the server fails instead of hanging

TERMINATE = b"X\0\0\0\x04"


@dataclass(slots=True)
class ScriptedWebSocket:
    """The running server."""

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    """Upgrades, in order, refused ones too."""
    received: list[list[bytes]] = field(default_factory=list)
    """Messages, connection by connection."""
    statuses: list[int] = field(default_factory=list)
    """With which the next upgrades are refused."""
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """A connection string whose WebSocket is this server."""
        return f"postgresql://role:password@127.0.0.1:{self.port}/main"


Line = bytes | str | Callable[[ServerConnection, ScriptedWebSocket], None]


@contextmanager
def scripted_websocket(*scripts: Sequence[Line]) -> Iterator[ScriptedWebSocket]:
    """A server that plays the first script to its first connection, and so on; at the block's end all was received."""
    state = ScriptedWebSocket()
    left = [list(script) for script in scripts]
    lock = threading.Lock()
    playing: list[threading.Thread] = []

    def refuse(connection: ServerConnection, request: Request) -> Response | None:
        state.requests.append(request)
        return connection.respond(HTTPStatus(state.statuses.pop(0)), "busy\n") if state.statuses else None

    def play(connection: ServerConnection) -> None:
        with lock:
            lines = list(left.pop(0) if len(left) > 1 else left[0])
            heard: list[bytes] = []
            state.received.append(heard)
            playing.append(threading.current_thread())
        try:
            for line in lines:
                heard.append(connection.recv(HANG_TIMEOUT, decode=False))
                if callable(line):
                    line(connection, state)
                else:
                    connection.send(line)
            while heard[-1:] != [TERMINATE]:
                heard.append(connection.recv(HANG_TIMEOUT, decode=False))
        except ConnectionClosed:
            pass  # a client that ends a connection is what many tests are about

    server: Server = serve(play, "127.0.0.1", 0, process_request=refuse, compression=None, close_timeout=1)
    state.port = server.socket.getsockname()[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield state
    finally:
        state.over.set()
        server.shutdown()
        for ending in (thread, *playing):
            ending.join(HANG_TIMEOUT)


# ── lines ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def drops(connection: ServerConnection, state: ScriptedWebSocket) -> None:
    """End the connection without a word."""
    connection.close_socket()


def says_and_drops(data: bytes) -> Line:
    """Send that and end the connection in order."""

    def line(connection: ServerConnection, state: ScriptedWebSocket) -> None:
        connection.send(data)
        connection.close(1011, "the end")

    return line


def hangs(connection: ServerConnection, state: ScriptedWebSocket) -> None:
    """Say nothing until the test is over."""
    state.over.wait(HANG_TIMEOUT)
