"""Programs that ask for much and do not read it, on real sockets: each is cut off, and nothing of it stays."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.program import Program

LARGE = {"query": "SELECT repeat('x', 8000000) AS x"}
"""More than the kernel takes on behalf of a program with a small window."""
SMALL = b'{"query":"SELECT 1"}'


def head(program: Program, length: int, *lines: str) -> bytes:
    fields = (
        "POST /sql HTTP/1.1",
        f"Host: {urlsplit(program.endpoint).netloc}",
        f"Content-Length: {length}",
        f"Neon-Connection-String: {program.connection_string}",
        "Neon-Raw-Text-Output: true",
        "Neon-Array-Mode: true",
        *lines,
    )
    return ("\r\n".join(fields) + "\r\n\r\n").encode()


@asynccontextmanager
async def asking(program: Program, *lines: str, kept: bool) -> AsyncIterator[socket.socket]:
    """A socket on which the large answer was asked for; `kept`: behind one that was answered before."""
    loop = asyncio.get_running_loop()
    where = urlsplit(program.endpoint)
    with socket.socket() as plug:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plug.setblocking(False)
        await loop.sock_connect(plug, (where.hostname, where.port))
        if kept:
            await loop.sock_sendall(plug, head(program, len(SMALL), *lines) + SMALL)
            answer = b""
            while not answer.endswith(b"}"):
                answer += await loop.sock_recv(plug, 65536)
        body = json.dumps(LARGE).encode()
        await loop.sock_sendall(plug, head(program, len(body), *lines) + body)
        yield plug


async def taken(plug: socket.socket) -> int:
    """How many bytes come until the connection's end."""
    loop, total = asyncio.get_running_loop(), 0
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(20):
            while data := await loop.sock_recv(plug, 1_000_000):
                total += len(data)
    return total


def cut(program: Program) -> dict[str, float]:
    """Answers that were cut off so far, by why."""
    name = "sqlhttp_unsent_answers_total"
    text = httpx.get(program.endpoint.replace("/sql", "/metrics")).text
    lines = [line for line in text.splitlines() if line.startswith(name + "{")]
    return {line.split('"')[1]: float(line.rpartition(" ")[2]) for line in lines}


async def until_cut(program: Program, reason: str, number: int = 1) -> None:
    async with asyncio.timeout(20):
        while cut(program).get(reason) != number:  # noqa: ASYNC110 - another process is asked
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("kept", [False, True], ids=["first", "kept"])
@pytest.mark.parametrize("close", [False, True], ids=["keep-alive", "close"])
async def test_program_that_never_reads_is_cut_off_after_the_send_timeout(
    start_program: Callable[..., Program], kept: bool, close: bool
) -> None:
    program = start_program(request={"send_timeout": 0.3})
    lines = ["Connection: close"] if close and not kept else []
    async with asking(program, *lines, kept=kept) as plug:
        await until_cut(program, "send_timeout")
        assert await taken(plug) < 8_000_000
    assert program.value("SELECT 1") == 1


@pytest.mark.parametrize("kept", [False, True], ids=["first", "kept"])
async def test_answer_is_sent_within_the_request_s_deadline_or_not_at_all(
    start_program: Callable[..., Program], kept: bool
) -> None:
    program = start_program(request={"send_timeout": 60})
    began = time.monotonic()
    async with asking(program, "Sqlhttp-Timeout: 1.5", kept=kept) as plug:
        await until_cut(program, "deadline")
        assert 1.4 < time.monotonic() - began < 15
        assert await taken(plug) < 8_000_000


@pytest.mark.parametrize("lines", [(), ("Sqlhttp-Timeout: 20",)], ids=["any time", "deadline"])
async def test_program_that_reads_slowly_gets_its_whole_answer(
    start_program: Callable[..., Program], lines: tuple[str, ...]
) -> None:
    program = start_program(request={"send_timeout": 1})
    async with asking(program, *lines, kept=True) as plug:
        loop, total = asyncio.get_running_loop(), 0
        until = loop.time() + 2.2  # longer than two send timeouts
        while loop.time() < until:
            total += len(await loop.sock_recv(plug, 30_000))
            await asyncio.sleep(0.01)  # a slow program is the very subject
        assert total < 8_000_000, "it was not slow"
        while total < 8_000_000:
            data = await loop.sock_recv(plug, 1_000_000)
            assert data, "cut off"
            total += len(data)
        while not data.endswith(b"}"):
            data = await loop.sock_recv(plug, 65536)
        # The same connection goes on.
        await loop.sock_sendall(plug, head(program, len(SMALL), *lines) + SMALL)
        assert (await loop.sock_recv(plug, 65536)).startswith(b"HTTP/1.1 200")
    assert cut(program) == {}
