import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.bench.over_http import Kept, http

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
ORDER: dict[str, Any] = {"requests": ["GET / HTTP/1.1\r\n\r\n"], "seconds": 30.0, "most": 20, "connections": 3}


class Server:
    """What its connections have in common: they answer `left` requests more, and close instead of the next."""

    def __init__(self) -> None:
        self.connections: list[asyncio.Future[None]] = []
        """Each done when it is closed."""
        self.left = 1_000


class Connection(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self._server = server
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        server.connections.append(self._closed)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._server.left:
            self._server.left -= 1
            self._transport.write(ANSWER)
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._closed.set_result(None)


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Server, int]]:
    """A server and its port; ends when all that connected have gone."""
    server = Server()
    listening = await asyncio.get_running_loop().create_server(lambda: Connection(server), "127.0.0.1", 0)
    async with listening:
        yield server, listening.sockets[0].getsockname()[1]
        async with asyncio.timeout(10):
            await asyncio.gather(*server.connections)


async def test_no_more_requests_are_made_than_may_be() -> None:
    async with serving() as (server, port):
        found = await http(ORDER | {"port": port, "keep_alive": True})
        assert (found["requests"], found["errors"], len(server.connections)) == (20, 0, 3)


async def test_kept_connections_ask_as_often_as_they_are_told_to() -> None:
    kept = Kept()
    async with serving() as (server, port):
        await kept.open(ORDER | {"port": port})
        for _ in range(2):
            found = await kept.ask(ORDER)
            assert (found["requests"], found["errors"], len(server.connections)) == (20, 0, 3)
        kept.close()


async def test_a_kept_connection_that_is_lost_is_an_error() -> None:
    kept = Kept()
    async with serving() as (server, port):
        await kept.open(ORDER | {"port": port})
        server.left = 5
        found = await kept.ask(ORDER)
        assert (found["requests"], found["errors"]) == (5, 3)
        assert "was lost" in found["fault"]
        kept.close()
