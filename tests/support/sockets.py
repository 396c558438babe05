"""Requests over bare sockets, for programs that hang up in the middle and for many at once.

A request is one connection; nothing waits for another.
"""

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.support.program import Program

TIMEOUT = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Answer:
    """One response, its header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Request:
    """One request under way."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def answer(self) -> Answer:
        """The response, once it is there, and the connection's end."""
        answer = await self.response()
        await self.hang_up()
        return answer

    async def response(self) -> Answer:
        """The response, once it is there."""
        async with asyncio.timeout(TIMEOUT):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            headers = {}
            for line in lines:
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            body = await self._reader.readexactly(int(headers["content-length"]))
        return Answer(int(first.split(" ")[1]), headers, body)

    async def send_ahead(self, program: Program, body: object) -> None:
        """Another request on the same connection, before this one is answered."""
        content = json.dumps(body).encode()
        self._writer.write(_head(program, len(content), raw=False) + content)
        await self._writer.drain()

    async def hang_up(self) -> None:
        """Close the connection, whatever is under way."""
        self._writer.transport.abort()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


async def begin(program: Program, body: object, *, cut: int | None = None, kept: bool = False) -> Request:
    """Send a request and do not wait for its answer. `cut` sends only so many bytes of the body.

    `kept` sends it over a connection that has had an answer, where the gateway knows the head from then, and asks for
    Postgres's own text, so that the gateway may be quick.
    """
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    where = urlsplit(program.endpoint)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    request = Request(reader, writer)
    if kept:
        writer.write(_head(program, 20, raw=True) + b'{"query":"SELECT 1"}')
        await request.response()
    writer.write(_head(program, len(content), raw=kept) + content[:cut])
    await writer.drain()
    return request


def _head(program: Program, length: int, *, raw: bool) -> bytes:
    return (
        f"POST /sql HTTP/1.1\r\nHost: {urlsplit(program.endpoint).netloc}\r\nContent-Length: {length}\r\n"
        f"Neon-Connection-String: {program.connection_string}\r\nNeon-Array-Mode: true\r\n"
        f"Neon-Raw-Text-Output: {json.dumps(raw)}\r\n\r\n"
    ).encode()


async def post(program: Program, body: object) -> Answer:
    """Send a request and wait for its answer."""
    return await (await begin(program, body)).answer()
