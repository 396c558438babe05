"""The PROXY protocol on a port: read to the byte, required of trusted proxies, and looked for from nobody else."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from sqlhttp_gateway.endpoints import proxied
from sqlhttp_gateway.endpoints.proxied import ProxiedServer

HEADER = b"PROXY TCP4 203.0.113.9 127.0.0.1 56324 443\r\n"


@asynccontextmanager
async def served(*, trusts: bool = True) -> AsyncIterator[tuple[ProxiedServer, "asyncio.Queue[tuple[str, bytes]]"]]:
    """A server that puts whom it was told of, and what came first, into a queue."""
    taken: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    async def serve(connection: socket.socket, told: str) -> None:
        loop = asyncio.get_running_loop()
        taken.put_nowait((told, await loop.sock_recv(connection, 100)))
        connection.close()

    server = ProxiedServer(socket.create_server(("127.0.0.1", 0)), serve, trusts=lambda peer: trusts, backlog=5)
    try:
        yield server, taken
    finally:
        server.close()
        await server.wait_closed()


async def connect(server: ProxiedServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*server.sockets[0].getsockname()[:2])


async def test_what_follows_the_header_is_the_programs_however_it_is_cut() -> None:
    async with served() as (server, taken), asyncio.timeout(10):
        for cut in range(1, len(HEADER) + 2):
            _, writer = await connect(server)
            writer.write((HEADER + b"hello")[:cut])
            await asyncio.sleep(0)
            writer.write((HEADER + b"hello")[cut:])
            told, first = await taken.get()
            assert told == "203.0.113.9"
            assert b"hello".startswith(first)
            writer.close()


async def test_a_trusted_proxy_without_the_header_is_cut_off() -> None:
    async with served() as (server, taken), asyncio.timeout(10):
        reader, writer = await connect(server)
        writer.write(b"POST /sql HTTP/1.1\r\n\r\n")
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        assert taken.empty()
        writer.close()


async def test_nobody_else_is_asked_for_one() -> None:
    async with served(trusts=False) as (server, taken), asyncio.timeout(10):
        _, writer = await connect(server)
        writer.write(HEADER)
        assert await taken.get() == ("", HEADER)
        writer.close()


async def test_a_proxy_that_says_nothing_is_cut_off_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxied, "_TIMEOUT", 0.05)
    async with served() as (server, taken), asyncio.timeout(10):
        reader, writer = await connect(server)
        writer.write(HEADER[:20])
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        assert taken.empty()
        writer.close()


async def test_closed_it_takes_nobody() -> None:
    async with served() as (server, _):
        host, port = server.sockets[0].getsockname()[:2]
        server.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, port)


async def test_a_connection_that_is_said_to_be_readable_and_is_not_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Linux may say so: "BUGS" in select(2)."""
    wait, early = ProxiedServer._readable, [True, True]

    async def readable(server: ProxiedServer, connection: socket.socket) -> None:
        if not early or not early.pop():
            await wait(server, connection)

    monkeypatch.setattr(ProxiedServer, "_readable", readable)
    async with served() as (server, taken), asyncio.timeout(10):
        _, writer = await connect(server)
        while early:  # noqa: ASYNC110 - the server tells nobody how often it has looked
            await asyncio.sleep(0)
        writer.write(HEADER + b"hello")
        assert await taken.get() == ("203.0.113.9", b"hello")
        writer.close()
