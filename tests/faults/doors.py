"""The ways to a world's gateway: HTTP by the client or byte by byte, WebSockets, the TCP door; in TLS if it has it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from struct import pack
from typing import Any
from urllib.parse import urlsplit

from sqlhttp import AsyncSql, Sql, neon, neon_async
from tests.faults.world import World
from tests.support.cluster import Database
from tests.support.wire_program import TIMEOUT, SocketPipe, WireProgram, connected, dialled

SSL_REQUEST = pack("!II", 8, 80877103)
_THREADS = ThreadPoolExecutor(32, thread_name_prefix="caller")


class Threaded:
    """The client without asyncio, which sends head and body in one write, where httpx makes two of them."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql
        self.q = sql.q

    async def __call__(self, text: str, *params: object) -> Any:
        return await asyncio.get_running_loop().run_in_executor(_THREADS, lambda: self._sql(text, *params))

    async def transaction(self, queries: Sequence[Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(_THREADS, self._sql.transaction, queries)


def client(world: World, database: Database | None = None) -> AsyncSql:
    """A client that tries once, for this database or the world's."""
    url = (database or world.database).url
    if world.tls is None:
        return neon_async(url, endpoint=world.gateway.sql, retry=None, timeout=TIMEOUT)
    # With TLS settings of its own a client has connections of its own as well, and each would leave one behind.
    if url not in world.clients:
        settings = {"ssl_context": world.tls}
        world.clients[url] = neon_async(
            url, endpoint=world.gateway.sql, retry=None, timeout=TIMEOUT, fetch_options=settings
        )
    return world.clients[url]


def threaded(world: World) -> Threaded:
    """One that sends a request in one piece."""
    settings = None if world.tls is None else {"ssl_context": world.tls}
    return Threaded(neon(world.database.url, endpoint=world.gateway.sql, retry=None, fetch_options=settings))


async def close_clients(world: World) -> None:
    """Close the connections that our own clients keep."""
    await neon_async(world.database.url).close()
    neon(world.database.url).close()
    while world.clients:
        _, kept = world.clients.popitem()
        await kept.close()


@asynccontextmanager
async def http(world: World, *, limit: int = 65536) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection for requests that the caller writes, gone afterwards."""
    where = urlsplit(world.gateway.sql)
    async with dialled(where.hostname, where.port, limit=limit, tls=world.tls) as streams:
        yield streams


def head(world: World, size: int) -> bytes:
    """The head of a statement whose body has so many bytes, with the password of this moment."""
    headers = f"Host: x\r\nContent-Length: {size}\r\nNeon-Connection-String: {world.database.url}"
    return f"POST /sql HTTP/1.1\r\n{headers}\r\n\r\n".encode()


@asynccontextmanager
async def websocket(world: World, database: Database | None = None) -> AsyncIterator[WireProgram]:
    """A program over a WebSocket, not logged in yet."""
    options = {} if world.tls is None else {"ssl": world.tls}
    async with connected(world.gateway, database or world.database, **options) as program:
        yield program


@asynccontextmanager
async def tcp(world: World, database: Database | None = None, *, receives: int = 0) -> AsyncIterator[WireProgram]:
    """A program at the TCP door, not logged in yet; `receives` is how many bytes the kernel may keep for it."""
    door = world.door
    connection = socket.socket()
    if receives:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
    connection.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (door.host, door.port))
    except BaseException:
        connection.close()
        raise
    reader, writer = await asyncio.open_connection(sock=connection, limit=receives or 65536)
    try:
        if world.tls is not None:
            writer.write(SSL_REQUEST)
            if await reader.readexactly(1) != b"S":
                raise ConnectionError("the TCP door speaks no TLS")
            await writer.start_tls(world.tls, server_hostname=door.host)
    except BaseException:
        writer.transport.abort()
        raise
    async with WireProgram(SocketPipe(reader, writer), database or door) as program:
        yield program
