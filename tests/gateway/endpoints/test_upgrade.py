"""uvicorn's WebSocket with what tunnels need: tried on a real socket, since it rests on uvicorn's own names."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from websockets.asyncio.client import connect

from sqlhttp_gateway.endpoints.upgrade import ABORT, TunnelProtocol

Handle = Callable[[Any, Any, Any], Awaitable[None]]


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
    over = asyncio.Event()

    async def handle(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.3)  # three times what a pong may take, with a message that nobody has fetched
        assert (await receive())["bytes"] == b"one"
        assert (await receive())["bytes"] == b"two"
        over.set()

    async with (
        serving(handle, ws_ping_interval=0.05, ws_ping_timeout=0.05) as url,
        connect(url, proxy=None) as socket,
    ):
        await socket.send(b"one")
        await socket.send(b"two")
        async with asyncio.timeout(5):
            await over.wait()


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


class _nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...
