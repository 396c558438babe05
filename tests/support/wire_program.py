"""A program that speaks Postgres's wire over a WebSocket or a TCP socket, message by message, with no driver between.

It knows just enough of the protocol to log in and to find the ends of answers. Nothing here judges an answer.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ssl import SSLContext
from struct import pack, unpack_from
from typing import Any, Protocol, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from sqlhttp_gateway.wire.backend import decode_error
from sqlhttp_gateway.wire.frontend import EXECUTE, SYNC, TERMINATE, encode_bind, encode_parse, encode_query
from tests.support.cluster import Database
from tests.support.gateway import Gateway

TIMEOUT = 30.0  # seconds; nothing takes a tenth of it


class Pipe(Protocol):
    """Bytes to and from the gateway."""

    async def send(self, data: bytes) -> None: ...

    async def receive(self) -> bytes:
        """What came next; empty at the end."""

    async def close(self) -> None: ...

    def abort(self) -> None: ...


class WebSocketPipe:
    """Each `send` is one message; `received` keeps the messages as they came."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.received: list[bytes] = []

    async def send(self, data: bytes) -> None:
        await self.socket.send(data)

    async def receive(self) -> bytes:
        try:
            message = await self.socket.recv(decode=False)
        except ConnectionClosed:
            return b""
        assert isinstance(message, bytes)
        self.received.append(message)
        return message

    async def close(self) -> None:
        await self.socket.close()

    def abort(self) -> None:
        self.socket.transport.abort()


class SocketPipe:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self) -> bytes:
        return await self.read(65536)

    async def read(self, most: int) -> bytes:
        """So many bytes at most; empty at the end."""
        try:
            return await self._reader.read(most)
        except ConnectionError:
            return b""

    @property
    def socket(self) -> Any:
        """For options that asyncio does not know."""
        return self._writer.get_extra_info("socket")

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    def abort(self) -> None:
        self._writer.transport.abort()


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the gateway."""

    tag: str
    body: bytes

    @property
    def error(self) -> dict[str, str]:
        """The fields of an ErrorResponse or NoticeResponse."""
        assert self.tag in "EN", self
        return decode_error(self.body)


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything up to and including ReadyForQuery, or up to the end of the connection."""

    messages: list[Message]

    @property
    def tags(self) -> str:
        """The messages' tags in a row, ParameterStatus and notices left out."""
        return "".join(message.tag for message in self.messages if message.tag not in "SNA")

    @property
    def status(self) -> str:
        """The transaction status; empty when the connection ended before."""
        last = self.messages[-1] if self.messages else None
        return last.body.decode() if last is not None and last.tag == "Z" else ""

    @property
    def error(self) -> dict[str, str]:
        """The first error's fields, or none."""
        return next((message.error for message in self.messages if message.tag == "E"), {})

    @property
    def code(self) -> str:
        """The first error's SQLSTATE, or nothing."""
        return self.error.get("C", "")

    @property
    def rows(self) -> list[list[str | None]]:
        """All rows, as text."""
        return [_columns(message.body) for message in self.messages if message.tag == "D"]

    @property
    def value(self) -> str | None:
        """The one value of the one row."""
        assert not self.error, self.error
        [[value]] = self.rows
        return value

    @property
    def commands(self) -> list[str]:
        """The command tags."""
        return [message.body[:-1].decode() for message in self.messages if message.tag == "C"]


class WireProgram:
    """A program that is connected, logged in or not."""

    def __init__(self, pipe: Pipe, database: Database) -> None:
        self.pipe = pipe
        self.database = database
        self.parameters: dict[str, str] = {}
        self.key = b""
        self._data = b""

    # ── log-in ──

    def startup(self, parameters: Mapping[str, str] | None = None) -> bytes:
        """The start-up packet."""
        return startup(self.database, parameters)

    def password(self) -> bytes:
        """The password message."""
        return frame(b"p", self.database.password.encode() + b"\0")

    async def log_in(self, parameters: Mapping[str, str] | None = None) -> Answer:
        """Everything at once, as the serverless driver does; the answer up to ReadyForQuery."""
        await self.send(self.startup(parameters) + self.password())
        return await self.greeted()

    async def greeted(self) -> Answer:
        """The answer to a log-in that was sent."""
        answer = await self.answer()
        for message in answer.messages:
            if message.tag == "S":
                name, value = message.body[:-1].split(b"\0")
                self.parameters[name.decode()] = value.decode()
            elif message.tag == "K":
                self.key = message.body
        return answer

    def cancel_request(self, key: bytes | None = None) -> bytes:
        """The packet that cancels what runs under a key."""
        key = self.key if key is None else key
        return pack("!II", 8 + len(key), 80877102) + key

    # ── traffic ──

    async def send(self, data: bytes) -> None:
        await self.pipe.send(data)

    async def message(self) -> Message | None:
        """The next message; None at the end."""
        async with asyncio.timeout(TIMEOUT):
            while True:
                if len(self._data) >= 5:
                    size = 1 + int.from_bytes(self._data[1:5])
                    if len(self._data) >= size:
                        whole, self._data = self._data[:size], self._data[size:]
                        return Message(chr(whole[0]), whole[5:])
                data = await self.pipe.receive()
                if not data:
                    return None
                self._data += data

    async def answer(self) -> Answer:
        """Up to and including ReadyForQuery, or to the end."""
        messages = []
        while (message := await self.message()) is not None:
            messages.append(message)
            if message.tag == "Z":
                break
        return Answer(messages)

    async def query(self, text: str) -> Answer:
        """A simple query."""
        await self.send(encode_query(text.encode()))
        return await self.answer()

    async def ask(self, text: str, *params: object, name: str = "") -> Answer:
        """An extended query: Parse, Bind, Execute, Sync in one write."""
        await self.send(extended(text, *params, name=name))
        return await self.answer()

    async def value(self, text: str) -> str | None:
        """The one value of a simple query."""
        return (await self.query(text)).value

    # ── the end ──

    async def ended(self) -> list[Message]:
        """What still comes until the connection ends."""
        messages = []
        while (message := await self.message()) is not None:
            messages.append(message)
        return messages

    async def terminate(self) -> list[Message]:
        """Say goodbye and wait for the end."""
        await self.send(TERMINATE)
        return await self.ended()

    async def close(self) -> None:
        await self.pipe.close()

    def vanish(self) -> None:
        """Go without a word."""
        self.pipe.abort()

    @property
    def close_code(self) -> tuple[int | None, str | None]:
        """Code and reason of a WebSocket that was closed."""
        assert isinstance(self.pipe, WebSocketPipe)
        return self.pipe.socket.close_code, self.pipe.socket.close_reason

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()


@asynccontextmanager
async def dialled(
    host: str | None, port: int | None, *, limit: int = 65536, tls: SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that is gone afterwards, whatever happened meanwhile: closed already or aborted now."""
    reader, writer = await asyncio.open_connection(host, port, limit=limit, ssl=tls)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


@asynccontextmanager
async def connected(
    gateway: Gateway, database: Database, *, path: str = "/v2", **options: Any
) -> AsyncIterator[WireProgram]:
    """A program over a WebSocket, not logged in yet; `options` are those of the `websockets` client."""
    url = gateway.url.replace("http", "ws", 1) + path
    defaults: dict[str, Any] = {"compression": None, "max_size": None, "ping_interval": None, "proxy": None}
    async with connect(url, **(defaults | options)) as socket:
        yield WireProgram(WebSocketPipe(socket), database)


@asynccontextmanager
async def logged_in(
    gateway: Gateway, database: Database, parameters: Mapping[str, str] | None = None, **options: Any
) -> AsyncIterator[WireProgram]:
    """The same, logged in."""
    async with connected(gateway, database, **options) as program:
        answer = await program.log_in(parameters)
        assert answer.status == "I", answer.error
        yield program


def frame(tag: bytes, body: bytes) -> bytes:
    """A message."""
    return tag + pack("!I", len(body) + 4) + body


def startup(database: Database, parameters: Mapping[str, str] | None = None, *, version: int = 3 << 16) -> bytes:
    """A start-up packet."""
    given = {"user": database.role, "database": database.name, **(parameters or {})}
    body = b"".join(name.encode() + b"\0" + value.encode() + b"\0" for name, value in given.items())
    return pack("!II", len(body) + 9, version) + body + b"\0"


def extended(text: str, *params: object, name: str = "") -> bytes:
    """Parse, Bind, Execute and Sync."""
    return encode_parse(name.encode(), text.encode()) + bound(*params, name=name)


def bound(*params: object, name: str = "") -> bytes:
    """Bind, Execute and Sync of a statement that exists."""
    values: Sequence[bytes | None] = [None if param is None else str(param).encode() for param in params]
    return encode_bind(name.encode(), values) + EXECUTE + SYNC


def _columns(body: bytes) -> list[str | None]:
    columns: list[str | None] = []
    (count,) = unpack_from("!H", body)
    at = 2
    for _ in range(count):
        (size,) = unpack_from("!i", body, at)
        at += 4
        columns.append(None if size < 0 else body[at : at + size].decode())
        at += max(size, 0)
    return columns
