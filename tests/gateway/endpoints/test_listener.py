"""The TCP door: bytes over real sockets, TLS, and who may send a password without it."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from struct import pack
from typing import Any

import pytest

from sqlhttp_gateway.certificate import Certificate
from sqlhttp_gateway.endpoints.connections import Connections
from sqlhttp_gateway.endpoints.listener import Listener, SocketStream, is_loopback
from sqlhttp_gateway.errors import ConfigurationError, TooManyConnections
from sqlhttp_gateway.events import unobserved
from sqlhttp_gateway.pools.targets import DEFAULT
from sqlhttp_gateway.settings import ListenSettings
from sqlhttp_gateway.tunnel.login import Address
from sqlhttp_gateway.tunnel.stream import TOO_BIG, Stream, StreamClosed, StreamMisused
from tests.support.clock import turns

CERTIFICATE = Path(__file__).parents[2] / "support" / "certificate.pem"
SSL_REQUEST = pack("!II", 8, 80877103)


class Tunnels:
    """Hands over every stream that it is asked to serve."""

    def __init__(self) -> None:
        self.streams: asyncio.Queue[Stream] = asyncio.Queue()
        self.given: dict[str, Any] = {}
        self.cancelled = 0
        self._over: dict[Stream, asyncio.Event] = {}

    async def serve(self, stream: Stream, **given: Any) -> None:
        self.given = given
        self.streams.put_nowait(stream)
        self._over[stream] = asyncio.Event()
        try:
            await self._over[stream].wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def end(self, stream: Stream) -> None:
        self._over[stream].set()


class Door:
    def __init__(self, listener: Listener, tunnels: Tunnels) -> None:
        self.listener = listener
        self.tunnels = tunnels
        self.writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Stream]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.listener.port)
        self.writers.append(writer)
        return reader, writer, await self.tunnels.streams.get()


@asynccontextmanager
async def door(*, connections: Connections | None = None, **settings: Any) -> AsyncIterator[Door]:
    tunnels = Tunnels()
    listen = ListenSettings(postgres=0, **settings)
    certificate = Certificate(listen, unobserved) if listen.tls_certificate else None
    listener = Listener(tunnels, listen, certificate=certificate, connections=connections)  # type: ignore[arg-type]
    await listener.start()
    opened = Door(listener, tunnels)
    try:
        yield opened
    finally:
        for writer in opened.writers:
            writer.transport.abort()
        await listener.stop()


async def test_bytes_go_both_ways_and_the_target_is_the_default_one() -> None:
    async with door() as it:
        reader, writer, stream = await it.connect()
        assert it.tunnels.given == {"door": "tcp", "address": Address(DEFAULT), "proves": False, "refused": None}
        assert (stream.peer, stream.origin) == ("127.0.0.1", None)
        writer.write(b"abc")
        assert await stream.receive() == b"abc"
        await stream.send(b"xyz")
        assert await reader.readexactly(3) == b"xyz"
        writer.close()
        with pytest.raises(StreamClosed):
            await stream.receive()
        with pytest.raises(StreamClosed):
            await stream.send(b"x")


async def test_who_comes_beyond_the_places_is_served_as_one_to_refuse_and_whoever_leaves_makes_room() -> None:
    connections = Connections(1)
    async with door(connections=connections) as it:
        _, _, first = await it.connect()
        await it.connect()
        refused = it.tunnels.given["refused"]
        assert isinstance(refused, TooManyConnections)
        assert connections.snapshot().open["tcp"] == 1
        first.abort()
        it.tunnels.end(first)
        async with asyncio.timeout(10):
            while connections.taken:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
        await it.connect()
        assert it.tunnels.given["refused"] is None
    assert connections.taken == 0


async def test_what_came_before_the_end_is_still_received() -> None:
    async with door() as it:
        _, writer, stream = await it.connect()
        writer.write(b"last words")
        writer.close()
        await writer.wait_closed()
        assert await stream.receive() == b"last words"
        with pytest.raises(StreamClosed):
            await stream.receive()


async def test_close_sends_what_waits() -> None:
    async with door() as it:
        reader, _, stream = await it.connect()
        await stream.send(b"x" * 10_000)
        closing = asyncio.create_task(stream.close(1000, ""))
        assert len(await reader.read(-1)) == 10_000
        await closing


async def test_program_that_is_told_in_the_middle_of_a_message_learns_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlhttp_gateway.endpoints.listener._READ_ON", 60.0)  # however slow the machine
    async with door() as it:
        reader, writer, stream = await it.connect()
        writer.write(b"x" * 30_000_000)
        await stream.send(b"too long")
        closing = asyncio.create_task(stream.close(TOO_BIG, ""))
        await writer.drain()
        assert await reader.read(-1) == b"too long"
        writer.close()
        await closing


async def test_program_that_sends_without_end_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlhttp_gateway.endpoints.listener._READ_ON", 0.05)
    async with door() as it:
        _, writer, stream = await it.connect()
        writer.write(b"x" * 1000)
        await stream.close(TOO_BIG, "")  # though the program does not leave


async def test_program_that_sends_without_end_is_not_read_without_end() -> None:
    async with door() as it:
        _, writer, stream = await it.connect()
        assert isinstance(stream, SocketStream)
        for _ in range(100):
            writer.write(b"x" * 100_000)
            await asyncio.sleep(0)
        assert stream._waiting < 1_000_000
        received = 0
        while received < 10_000_000:
            received += len(await stream.receive())
        assert received == 10_000_000


async def test_program_that_does_not_read_makes_send_wait_until_it_is_dropped() -> None:
    async with door() as it:
        reader, _, stream = await it.connect()
        reader._transport.pause_reading()  # type: ignore[attr-defined]

        async def send() -> None:
            for _ in range(count):
                await stream.send(b"x" * 1_000_000)
                await asyncio.sleep(0)

        count = 30  # of a megabyte each: more than two kernels hold for one connection
        assert isinstance(stream, SocketStream)
        sending = asyncio.create_task(send())
        async with asyncio.timeout(10):
            while stream._writable.is_set():  # noqa: ASYNC110 - it is the kernel that has no more room
                await asyncio.sleep(0)
        await turns(10 * count)
        assert not sending.done()
        stream.abort()
        with pytest.raises(StreamClosed):
            await sending


async def test_tls_begins_after_the_answer_to_its_request() -> None:
    async with door(tls_certificate=CERTIFICATE) as it:
        reader, writer, stream = await it.connect()
        assert stream.offers_tls
        writer.write(SSL_REQUEST)
        assert await stream.receive() == SSL_REQUEST
        await stream.send(b"S")
        assert await reader.readexactly(1) == b"S"
        context = ssl.create_default_context(cafile=str(CERTIFICATE))
        starting = asyncio.create_task(stream.start_tls())
        await writer.start_tls(context, server_hostname="localhost")
        await starting
        assert stream.is_secure
        writer.write(b"secret")
        assert await stream.receive() == b"secret"
        await stream.send(b"answer")
        assert await reader.readexactly(6) == b"answer"
        writer.close()


async def test_unencrypted_data_after_the_request_is_refused() -> None:
    """Whoever sits in between could have put it there (CVE-2021-23214)."""
    async with door(tls_certificate=CERTIFICATE) as it:
        _, writer, stream = await it.connect()
        writer.write(SSL_REQUEST)
        await stream.receive()
        writer.write(b"injected")
        assert isinstance(stream, SocketStream)
        async with asyncio.timeout(10):
            while not stream._waiting:  # noqa: ASYNC110 - nothing tells but receiving it
                await asyncio.sleep(0)
        with pytest.raises(StreamMisused):
            await stream.start_tls()


async def test_program_that_does_not_speak_tls_is_gone() -> None:
    async with door(tls_certificate=CERTIFICATE) as it:
        _, writer, stream = await it.connect()
        starting = asyncio.create_task(stream.start_tls())
        await asyncio.sleep(0)
        writer.write(b"no TLS at all, and long enough to be looked at")
        with pytest.raises(StreamClosed):
            await starting


@pytest.mark.parametrize(
    ("address", "is_so"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.1", False),
        ("fe80::1%eth0", False),
        ("", False),
    ],
)
def test_loopback(address: str, is_so: bool) -> None:
    assert is_loopback(address) is is_so


@pytest.mark.parametrize(
    ("next_hop", "told", "is_secure"),
    [
        ("127.0.0.1", "", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "192.0.2.1", False),
        ("192.0.2.9", "127.0.0.1", False),  # a program on the proxy's own machine, which is another one
    ],
)
def test_behind_a_proxy_both_ways_have_to_be_within_this_machine(next_hop: str, told: str, is_secure: bool) -> None:
    class Transport(asyncio.Transport):
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return (next_hop, 5) if name == "peername" else default

    stream = SocketStream(told=told)
    stream.connection_made(Transport())
    assert stream.is_secure is is_secure
    assert stream.peer == (told or next_hop)


@pytest.mark.parametrize(("takes_cleartext", "is_secure"), [(False, False), (True, True)])
def test_from_another_machine_a_password_needs_tls_or_a_setting(takes_cleartext: bool, is_secure: bool) -> None:
    class Transport(asyncio.Transport):
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return ("192.0.2.1", 5) if name == "peername" else None

    stream = SocketStream(takes_cleartext=takes_cleartext)
    stream.connection_made(Transport())
    assert stream.is_secure is is_secure


async def test_port_that_is_taken_is_named() -> None:
    async with door() as it:
        other = Listener(it.tunnels, ListenSettings(postgres=it.listener.port))  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match=rf"listen\.postgres: .* port {it.listener.port} is in use"):
            await other.start()


async def test_without_a_port_there_is_no_door() -> None:
    listener = Listener(Tunnels(), ListenSettings())  # type: ignore[arg-type]
    await listener.start()
    assert not listener._servers
    listener.close()
    await listener.stop()


async def test_closed_door_lets_nobody_in_and_nobody_out() -> None:
    async with door() as it:
        _, writer, stream = await it.connect()
        port = it.listener.port
        it.listener.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"still here")
        assert await stream.receive() == b"still here"
        await it.listener.stop()
        assert it.tunnels.cancelled == 1


async def test_who_is_connected_when_the_door_closes_is_served_and_not_reset() -> None:
    async with door() as it:
        with socket.create_connection(("127.0.0.1", it.listener.port)) as program:
            it.listener.close()
            stream = await it.tunnels.streams.get()
            program.sendall(b"here")
            assert await stream.receive() == b"here"


async def test_who_has_not_been_served_yet_when_it_stops_is_hung_up_on() -> None:
    async with door() as it:
        with socket.create_connection(("127.0.0.1", it.listener.port)) as program:
            await it.listener.stop()
            assert program.recv(1) == b""
    assert it.tunnels.streams.empty()
