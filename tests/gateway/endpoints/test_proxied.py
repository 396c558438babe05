"""The PROXY protocol on a port: read to the byte, required of trusted proxies, and looked for from nobody else."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from sqlhttp_gateway.endpoints import proxied
from sqlhttp_gateway.endpoints.proxied import GreetingServer, first_byte
from tests.support.leases import until

HEADER = b"PROXY TCP4 203.0.113.9 127.0.0.1 56324 443\r\n"


@asynccontextmanager
async def served(
    *, trusts: bool = True, may_greet: Callable[[int, float], bool] = lambda greeting, now: True
) -> AsyncIterator[tuple[GreetingServer, "asyncio.Queue[tuple[str, bytes]]"]]:
    """A server that puts whom it was told of, and what came first, into a queue."""
    taken: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    async def serve(connection: socket.socket, told: str) -> None:
        loop = asyncio.get_running_loop()
        taken.put_nowait((told, await loop.sock_recv(connection, 100)))
        connection.close()

    server = GreetingServer(
        socket.create_server(("127.0.0.1", 0)), serve, backlog=5, trusts=lambda peer: trusts, may_greet=may_greet
    )
    try:
        yield server, taken
    finally:
        server.close()
        await server.wait_closed()


async def connect(server: GreetingServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
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


async def test_who_takes_longest_for_the_beginning_makes_room_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxied, "_LEAST_GREETING", 0.0)
    async with served(may_greet=lambda greeting, now: greeting < 2) as (server, taken), asyncio.timeout(10):
        (first, one), (_, two) = [await connect(server) for _ in range(2)]
        await until(lambda: server.greeting == 2)
        _, three = await connect(server)
        three.write(HEADER + b"third")
        assert await taken.get() == ("203.0.113.9", b"third")
        with suppress(ConnectionResetError):
            assert await first.read() == b""
        two.write(HEADER + b"second")
        assert await taken.get() == ("203.0.113.9", b"second")
        for each in (one, two, three):
            each.close()


async def test_where_nobody_has_taken_long_one_more_is_hung_up_on() -> None:
    async with served(may_greet=lambda greeting, now: greeting < 1) as (server, taken), asyncio.timeout(10):
        _, one = await connect(server)
        await until(lambda: server.greeting == 1)
        reader, two = await connect(server)
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        one.write(HEADER + b"first")
        assert await taken.get() == ("203.0.113.9", b"first")
        for each in (one, two):
            each.close()


async def test_who_is_connected_when_it_closes_is_taken_and_given_up_the_second_time() -> None:
    async with served() as (server, taken), asyncio.timeout(10):
        where = server.sockets[0].getsockname()[:2]
        with socket.create_connection(where) as in_time, socket.create_connection(where) as silent:
            server.close()
            in_time.sendall(HEADER + b"hello")
            assert await taken.get() == ("203.0.113.9", b"hello")
            await until(lambda: server.greeting == 1)
            server.close()
            await server.wait_closed()
            with suppress(ConnectionResetError):
                assert silent.recv(1) == b""


async def test_without_files_it_waits_and_goes_on_once_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket stays readable: whoever looks at once again keeps a processor busy with nothing."""
    monkeypatch.setattr(proxied, "_ACCEPT_AGAIN", 0.05)
    tries = 0

    class Short(socket.socket):
        def accept(self) -> object:  # type: ignore[override]
            nonlocal tries
            tries += 1
            if tries < 3:
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    plain = socket.create_server(("127.0.0.1", 0))
    short = Short(plain.family, plain.type, fileno=plain.detach())
    taken = asyncio.Event()

    async def serve(connection: socket.socket, told: str) -> None:
        connection.close()
        taken.set()

    server = GreetingServer(short, serve, backlog=5)
    _, writer = await asyncio.open_connection(*short.getsockname()[:2])
    async with asyncio.timeout(10):
        await taken.wait()
    assert 3 <= tries <= 5
    writer.close()
    server.close()


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
    wait, early = proxied._readable, [True, True]

    async def readable(connection: socket.socket) -> None:
        if not early or not early.pop():
            await wait(connection)

    monkeypatch.setattr(proxied, "_readable", readable)
    async with served() as (server, taken), asyncio.timeout(10):
        _, writer = await connect(server)
        while early:  # noqa: ASYNC110 - the server tells nobody how often it has looked
            await asyncio.sleep(0)
        writer.write(HEADER + b"hello")
        assert await taken.get() == ("203.0.113.9", b"hello")
        writer.close()


async def test_first_byte_is_seen_and_stays() -> None:
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.send(b"\x16\x03")
        assert await first_byte(here) == b"\x16"
        assert here.recv(10) == b"\x16\x03"


async def test_of_who_leaves_or_says_nothing_there_is_no_first_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = socket.socketpair()
    with here:
        here.setblocking(False)
        with there, monkeypatch.context() as patch:
            patch.setattr(proxied, "_TIMEOUT", 0.01)
            assert await first_byte(here) == b""
        assert await first_byte(here) == b""
