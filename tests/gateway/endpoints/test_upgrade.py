"""uvicorn's WebSocket with what tunnels need: tried on a real socket, since it rests on uvicorn's own names."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

from sqlhttp_gateway.endpoints.upgrade import ABORT, FLOW, TunnelProtocol
from sqlhttp_gateway.tunnel.stream import Flow, StreamMisused
from tests.support.clock import fake_time, turns

Handle = Callable[[Any, Any, Any], Awaitable[None]]
DEADLINE = 120.0  # seconds, of which a clock that is moved by hand may take some


@asynccontextmanager
async def serving(handle: Handle, **config: Any) -> AsyncIterator[str]:
    """A server whose WebSockets are accepted and then `handle`d."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        await handle(scope, receive, send)

    settings = uvicorn.Config(
        app, host="127.0.0.1", port=0, ws=TunnelProtocol, lifespan="off", log_config=None, log_level="error", **config
    )
    server = uvicorn.Server(settings)
    server.capture_signals = _nothing  # type: ignore[method-assign, assignment]  # pytest keeps its own
    running = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.001)
    try:
        yield f"ws://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        await running


async def test_abort_drops_what_waits_to_be_sent() -> None:
    gone = asyncio.Event()

    async def handle(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["bytes"] == b"not reading any more"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                while True:
                    await send({"type": "websocket.send", "bytes": b"x" * 1_000_000})
                    await asyncio.sleep(0)
        scope["extensions"][ABORT]()
        assert (await receive())["type"] == "websocket.disconnect"
        gone.set()

    async with serving(handle) as url, connect(url, proxy=None, close_timeout=0.1) as socket:
        socket.transport.pause_reading()
        await socket.send(b"not reading any more")
        async with asyncio.timeout(5):
            await gone.wait()


async def test_program_that_is_not_read_from_is_not_taken_for_dead() -> None:
    """Its pongs wait behind what it sent."""
    sent = asyncio.Event()

    async def handle(scope: Any, receive: Any, send: Any) -> None:
        await sent.wait()
        await turns(20)  # it is read that there is a message, and no more than that
        with fake_time() as clock:
            for _ in range(6):  # three times what a pong may take, with a message that nobody has fetched
                clock.advance(10)
                await turns(20)
        for _ in range(2):
            await send({"type": "websocket.send", "bytes": (await receive())["bytes"]})

    async with (
        serving(handle, ws_ping_interval=10, ws_ping_timeout=10) as url,
        connect(url, proxy=None, ping_interval=None) as socket,
    ):
        await socket.send(b"one")
        await socket.send(b"two")
        sent.set()
        async with asyncio.timeout(DEADLINE):
            assert (await socket.recv(), await socket.recv()) == (b"one", b"two")


async def test_program_that_is_dead_is_noticed() -> None:
    gone = asyncio.Event()

    async def handle(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.disconnect"
        gone.set()

    async with (
        serving(handle, ws_ping_interval=0.05, ws_ping_timeout=0.05) as url,
        connect(url, proxy=None, close_timeout=0.1) as socket,
    ):
        socket.transport.pause_reading()
        async with asyncio.timeout(5):
            await gone.wait()


class Heard:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.taken = b""
        self.left: list[StreamMisused | None] = []
        self.rooms = 0
        self.told = asyncio.Event()

    def take(self, data: bytes) -> None:
        self.taken += data
        self.told.set()

    def leave(self, error: StreamMisused | None) -> None:
        self.left.append(error)
        self.told.set()

    def go_on(self) -> None:
        self.rooms += 1
        self.told.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self.told.clear()
                await self.told.wait()


@asynccontextmanager
async def flowing(after: int = 0, **config: Any) -> AsyncIterator[tuple[ClientConnection, Flow, Heard]]:
    """A client, and its WebSocket as a flow that began when so many messages had been fetched in ASGI's way."""
    heard, flows, over = Heard(), asyncio.Queue[Flow](), asyncio.Event()

    async def handle(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(after):
            heard.taken += (await receive())["bytes"]
        flows.put_nowait(scope["extensions"][FLOW](heard))
        await over.wait()

    async with serving(handle, **config) as url, connect(url, proxy=None, close_timeout=0.1) as client:
        for number in range(after):
            await client.send(b"%d" % number)
        flow = await flows.get()
        try:
            yield client, flow, heard
        finally:
            over.set()


@pytest.mark.parametrize("after", [0, 2])
async def test_flow_goes_both_ways(after: int) -> None:
    async with flowing(after) as (client, flow, heard):
        await client.send(b"a")
        await client.send(b"")
        await client.send([b"b", b"c"])  # in fragments
        await client.send(b"x" * 300_000)
        await heard.until(lambda: len(heard.taken) == after + 300_003)
        assert heard.taken.startswith(b"01"[:after] + b"abcx")
        for size in (0, 1, 200, 100_000):
            assert flow.write(b"y" * size)
            assert await client.recv() == b"y" * size


async def test_ping_is_answered_while_it_flows() -> None:
    async with flowing() as (client, flow, _):
        await (await client.ping())
        flow.write(b"here")
        assert await client.recv() == b"here"


async def test_end_of_the_program_is_told_once() -> None:
    async with flowing() as (client, flow, heard):
        await client.send(b"last")
        await client.close()
        await heard.until(lambda: heard.left)
        assert (heard.taken, heard.left) == (b"last", [None])
        flow.write(b"to nobody")


async def test_text_is_told_as_misuse() -> None:
    async with flowing() as (client, _, heard):
        await client.send("text")
        await heard.until(lambda: heard.left)
        assert isinstance(heard.left[0], StreamMisused)


async def test_message_above_the_limit_ends_it() -> None:
    async with flowing(ws_max_size=1000) as (client, _, heard):
        await client.send(b"x" * 1000)
        await heard.until(lambda: len(heard.taken) == 1000)
        await client.send(b"x" * 1001)
        await heard.until(lambda: heard.left)
        with pytest.raises(ConnectionClosedError, match="1009"):
            await client.recv()
        assert len(heard.taken) == 1000


async def test_program_waits_while_it_is_not_read_from() -> None:
    async with flowing() as (client, flow, heard):
        flow.pause_reading()
        for _ in range(30):
            await client.send(b"x" * 1000)
        await turns(50)  # all that was sent is in the socket, which would be read at the next turn
        assert heard.taken == b""
        flow.resume_reading()
        await heard.until(lambda: len(heard.taken) == 30_000)


async def test_flow_says_when_the_transport_has_enough_and_when_it_has_room() -> None:
    async with flowing() as (client, flow, heard):
        client.transport.pause_reading()
        while flow.write(b"x" * 1_000_000):
            pass
        assert heard.rooms == 0
        client.transport.resume_reading()
        await heard.until(lambda: heard.rooms)


async def test_after_its_stop_nothing_is_told() -> None:
    async with flowing() as (client, flow, heard):
        await client.send(b"a")
        await heard.until(lambda: heard.taken)
        await flow.stop()
        await client.send(b"b")
        await (await client.ping())
        await client.close()
        assert (heard.taken, heard.left) == (b"a", [])


class _nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...
