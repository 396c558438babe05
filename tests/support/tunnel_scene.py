"""One tunnel's traffic between a stream and backends that the test plays, with the real pipeline in the middle."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from sqlhttp_gateway.errors import GatewayError
from sqlhttp_gateway.events import Event
from sqlhttp_gateway.limits import Quotas
from sqlhttp_gateway.settings import TunnelSettings
from sqlhttp_gateway.tunnel.borrowing import Borrowing
from sqlhttp_gateway.tunnel.greetings import Greetings
from sqlhttp_gateway.tunnel.listeners import Listeners
from sqlhttp_gateway.tunnel.login import LoggedIn
from sqlhttp_gateway.tunnel.pins import Pins
from sqlhttp_gateway.tunnel.traffic import Traffic
from sqlhttp_gateway.wire.backend import decode_error
from sqlhttp_gateway.wire.effects import Pin
from sqlhttp_gateway.wire.frontend import encode_query
from sqlhttp_gateway.wire.pipeline import Pipeline
from sqlhttp_gateway.wire.prepared import Sources
from sqlhttp_gateway.wire.startup import Startup
from tests.support.lending import FakeLease, FakeRegistry
from tests.support.streams import FakeStream

SELECT = encode_query(b"SELECT 1")
READY, IN_TRANSACTION = b"Z\0\0\0\x05I", b"Z\0\0\0\x05T"
DONE = b"C\0\0\0\x0dSELECT 1\0"
BEGUN = b"C\0\0\0\x0aBEGIN\0" + IN_TRANSACTION
FATAL = b"E\0\0\0\x20SFATAL\0VFATAL\0C57P01\0Mgone\0\0"
GREETING = b"<ok>"


async def _never() -> Any:
    raise AssertionError("nobody asked for it")


class Scene:
    """One tunnel and everything around it."""

    def __init__(
        self,
        *,
        pins: tuple[Pin, ...] = (),
        max_pinned: int = 5,
        rest: bytes = b"",
        parameters: dict[str, str] | None = None,
        servers: Any = None,
        **settings: Any,
    ) -> None:
        self.stream = FakeStream()
        self.registry = FakeRegistry()
        self.events: list[Event] = []
        self.pins = Pins(max_pinned)
        caller: Any = SimpleNamespace(pool=self.registry.pool, grant=None, allowance=None)
        logged_in = LoggedIn(caller, Startup("ada", "app", {}), b"sesam", GREETING, rest, renew=_never)
        self.traffic = Traffic(
            self.stream,
            logged_in,
            Pipeline(parameters or {}, Sources(), key_data=b"<key>", pins=pins),
            borrowing=Borrowing(
                logged_in,
                registry=self.registry,  # type: ignore[arg-type]
                quotas=Quotas(self.registry),  # type: ignore[arg-type]
                pins=self.pins,
                observe=self.events.append,
                servers=servers,
            ),
            listeners=Listeners(self.registry),  # type: ignore[arg-type]
            greetings=Greetings(),
            settings=TunnelSettings(**({"idle_in_transaction_timeout": 0} | settings)),
        )
        self.running: asyncio.Task[GatewayError | None] | None = None

    async def until(self, condition: Callable[[], object]) -> None:
        """Let the loop turn until something is so."""
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - nobody tells the test
                await asyncio.sleep(0)

    async def greeted(self) -> FakeLease:
        """Lend the backend that is needed for the greeting; it is given back at once."""
        lease = self.registry.add()
        await self.until(lambda: lease.ends)
        assert lease.ends == ["take_back", "release"]
        await self.until(lambda: self.stream.sent)
        return lease

    async def sends(self, *pieces: bytes) -> FakeLease:
        """The program sends something that takes a backend."""
        lease = self.registry.add()
        self.stream.put(*pieces)
        await self.until(lambda: lease.backend.written)
        return lease

    async def ended(self) -> GatewayError | None:
        assert self.running is not None
        async with asyncio.timeout(5):
            return await self.running

    @property
    def error(self) -> dict[str, str]:
        """The error that the program was sent last."""
        data = self.stream.all_sent
        return decode_error(data[data.rindex(b"SFATAL\0") :])


@asynccontextmanager
async def scene(**given: Any) -> AsyncIterator[Scene]:
    made = Scene(**given)
    made.running = asyncio.create_task(made.traffic.run())
    yield made
    if not made.running.done():
        made.stream.hang_up()
    await made.ended()
    assert made.traffic.ended.done()


@asynccontextmanager
async def lingering(**given: Any) -> AsyncIterator[tuple[Scene, FakeLease]]:
    """A program that has done one transaction, on a backend that nobody else wants."""
    async with scene(**({"linger": 10} | given)) as it:
        await it.greeted()
        it.registry.pool.lets_linger = True
        lease = await it.sends(SELECT)
        lease.say(DONE + READY)
        assert len(it.registry.pool.lingering) == 1
        yield it, lease


async def turns(count: int = 50) -> None:
    """Let the loop turn so often."""
    for _ in range(count):
        await asyncio.sleep(0)
