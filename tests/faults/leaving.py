"""Callers that go away at one step of a protocol or another, or hardly read what they asked for.

Each step says what was sent by then, and so whether its write may be there: never without the Sync, the COMMIT, the
CopyDone or the whole body that it takes.
"""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from websockets.exceptions import WebSocketException

from sqlhttp_gateway.wire.frontend import EXECUTE, SYNC, TERMINATE, encode_bind, encode_parse, encode_query
from tests.faults.doors import SSL_REQUEST, http, tcp, websocket
from tests.faults.episodes import INSERT, Caller, Episode, Outcome
from tests.faults.world import CANARY
from tests.support.wire_program import TIMEOUT, SocketPipe, WebSocketPipe, WireProgram, frame

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends a reset
_FLUSH = frame(b"H", b"")
_SLOW_READS = 3
_LARGE = b"SELECT repeat('x', 1000) FROM generate_series(1, 20000)"
When = Literal["connected", "greeted"]


@dataclass(frozen=True, slots=True)
class Step:
    """What is sent before the caller goes: `sends` makes it of the tag. `awaits` is a message to be seen first."""

    when: When
    sends: Callable[[WireProgram, bytes], bytes]
    may_write: bool = False
    awaits: str = ""


def _parse(tag: bytes) -> bytes:
    return encode_parse(b"", INSERT.encode())


def _bind(tag: bytes) -> bytes:
    return _parse(tag) + encode_bind(b"", (tag, CANARY.encode()))


def _execute(tag: bytes) -> bytes:
    return _bind(tag) + EXECUTE


def _copy(tag: bytes) -> bytes:
    return encode_query(b"COPY written FROM STDIN") + frame(b"d", tag + b"\tx\n")


WIRE: dict[str, Step] = {
    "at once": Step("connected", lambda program, tag: b""),
    "after SSLRequest": Step("connected", lambda program, tag: SSL_REQUEST),
    "in the start-up": Step("connected", lambda program, tag: program.startup()[:11]),
    "after the start-up": Step("connected", lambda program, tag: program.startup()),
    "in the password": Step("connected", lambda program, tag: program.startup() + program.password()[:7]),
    "after the password": Step("connected", lambda program, tag: program.startup() + program.password()),
    "in a CancelRequest": Step("connected", lambda program, tag: program.cancel_request(bytes(8))[:13]),
    "idle": Step("greeted", lambda program, tag: b""),
    "after Parse": Step("greeted", lambda program, tag: _parse(tag)),
    "after ParseComplete": Step("greeted", lambda program, tag: _parse(tag) + _FLUSH, awaits="1"),
    "in Bind": Step("greeted", lambda program, tag: _bind(tag)[:-5]),
    "after Bind": Step("greeted", lambda program, tag: _bind(tag)),
    "before Sync": Step("greeted", lambda program, tag: _execute(tag)),
    "before Sync, done": Step("greeted", lambda program, tag: _execute(tag) + _FLUSH, awaits="C"),
    "after Sync": Step("greeted", lambda program, tag: _execute(tag) + SYNC, may_write=True),
    "pipelining": Step("greeted", lambda program, tag: (_execute(tag) + SYNC) + 50 * (encode_query(b"SELECT 1")), True),
    "in a transaction": Step("greeted", lambda program, tag: encode_query(b"BEGIN") + _execute(tag) + SYNC),
    "before COMMIT": Step("greeted", lambda program, tag: encode_query(b"BEGIN") + _execute(tag) + SYNC, awaits="2"),
    "with Terminate": Step("greeted", lambda program, tag: encode_query(b"BEGIN") + _execute(tag) + SYNC + TERMINATE),
    "with nonsense": Step("greeted", lambda program, tag: encode_query(b"BEGIN") + _execute(tag) + SYNC + b"\xff" * 9),
    "in COPY": Step("greeted", lambda program, tag: _copy(tag)),
    "in CopyData": Step("greeted", lambda program, tag: _copy(tag) + frame(b"d", b"half\tof a row")[:9]),
    "after CopyFail": Step("greeted", lambda program, tag: _copy(tag) + frame(b"f", b"no\0")),
    "in COPY out": Step("greeted", lambda program, tag: encode_query(b"COPY (" + _LARGE + b") TO STDOUT"), awaits="H"),
    "in a large answer": Step("greeted", lambda program, tag: encode_query(_LARGE), awaits="T"),
    "in a long statement": Step("greeted", lambda program, tag: encode_query(b"SELECT pg_sleep(5)")),
}
"""By name; where nothing else is said, the write must not be there."""


async def leave_wire(caller: Caller) -> Outcome:
    """Postgres's wire, over a WebSocket or the TCP door."""
    name = caller.luck.choice(list(WIRE))
    step, ledger = WIRE[name], caller.world.ledger
    ledger.expect([caller.tag])
    try:
        async with asyncio.timeout(TIMEOUT), _program(caller) as program:
            if step.when == "greeted" and (await program.log_in()).status != "I":
                ledger.refuse([caller.tag])
                return "refused"
            await program.send(step.sends(program, caller.tag.encode()))
            if step.awaits:
                await _until(program, step.awaits)
            if caller.luck.random() < 0.5:
                await asyncio.sleep(0.05 * caller.luck.random())
            if caller.luck.random() < 0.5:
                _reset_at_close(program)
            program.vanish()
    except (OSError, EOFError, TimeoutError, WebSocketException):
        name = "refused"
    if not step.may_write:
        ledger.refuse([caller.tag])
    return name


def _parts(caller: Caller) -> dict[str, tuple[bytes, bool]]:
    """What is sent of a request before the caller goes, and whether its write may be there."""
    body = json.dumps({"query": INSERT, "params": [caller.tag, CANARY]}).encode()
    first = f"POST /sql HTTP/1.1\r\nHost: x\r\nNeon-Connection-String: {caller.url}\r\n".encode()
    sized = first + b"Content-Length: %d\r\n\r\n" % len(body)
    chunked = first + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body)
    ping = first + b"Content-Length: 20\r\n\r\n" + b'{"query":"SELECT 1"}'
    upgrade = b"GET /v2 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    return {
        "in the head": (first[:-9], False),
        "in the body": (sized + body[:-1], False),
        "at a chunk's end": (chunked + body + b"\r\n", False),
        "expecting 100": (first + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body), False),
        "request pipelined": (20 * ping + sized + body + 20 * ping, True),
        "request whole": (sized + body, True),
        "in an upgrade": (upgrade, False),
    }


async def leave_http(caller: Caller) -> Outcome:
    """HTTP: a request of which some is sent."""
    ledger = caller.world.ledger
    name, (sent, may_write) = caller.luck.choice(list(_parts(caller).items()))
    ledger.expect([caller.tag])
    with contextlib.suppress(OSError):
        async with http(caller.world) as (_, writer):
            writer.write(sent)
            await asyncio.sleep(0.05 * caller.luck.random())
            if caller.luck.random() < 0.5:
                _reset_socket(writer.get_extra_info("socket"))
    if not may_write:
        ledger.refuse([caller.tag])
    return name


async def read_a_byte_a_second(caller: Caller) -> Outcome:
    """A large answer, of which a byte is read now and then, or none; cut off by the gateway or left."""
    with contextlib.suppress(OSError, TimeoutError, WebSocketException):
        async with asyncio.timeout(TIMEOUT), tcp(caller.world, receives=4096) as program:
            if (await program.log_in()).status != "I":
                return "refused"
            await program.send(encode_query(_LARGE))
            assert isinstance(program.pipe, SocketPipe)
            for _ in range(caller.luck.randrange(_SLOW_READS + 1)):
                await program.pipe.read(1)
                await asyncio.sleep(1)
            program.vanish()
    return "left"


@asynccontextmanager
async def _program(caller: Caller) -> AsyncIterator[WireProgram]:
    async with (websocket if caller.luck.random() < 0.5 else tcp)(caller.world) as program:
        yield program


async def _until(program: WireProgram, tag: str) -> None:
    """Until a message of this kind has come, or an error in its place."""
    while (message := await program.message()) is not None:
        if message.tag in (tag, "E"):
            return


def _reset_at_close(program: WireProgram) -> None:
    pipe = program.pipe
    if isinstance(pipe, WebSocketPipe):
        _reset_socket(pipe.socket.transport.get_extra_info("socket"))
    elif isinstance(pipe, SocketPipe):
        _reset_socket(pipe.socket)


def _reset_socket(connection: socket.socket | None) -> None:
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


LEAVING: dict[str, tuple[int, Episode]] = {
    "leave wire": (8, leave_wire),
    "leave http": (3, leave_http),
    "byte a second": (1, read_a_byte_a_second),
}
"""As `episodes.EPISODES`; the outcome is the step."""
