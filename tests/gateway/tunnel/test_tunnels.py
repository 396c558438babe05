"""All tunnels of a process: who is let in, how each ends, and what is told of it."""

import asyncio
from collections.abc import Callable
from struct import pack
from types import SimpleNamespace
from typing import Any

import pytest

from sqlhttp_gateway.errors import PasswordFailed, WaitTimeout
from sqlhttp_gateway.events import Bug, Event, KeyShown, TunnelClosed, TunnelOpened, TunnelPinned
from sqlhttp_gateway.limits import Quotas
from sqlhttp_gateway.settings import TunnelSettings
from sqlhttp_gateway.siblings import Siblings
from sqlhttp_gateway.tunnel.login import Address
from sqlhttp_gateway.tunnel.tunnels import Tunnels
from sqlhttp_gateway.wire.backend import decode_error
from sqlhttp_gateway.wire.frontend import TERMINATE, encode_query
from tests.support.cluster import Database
from tests.support.lending import FakeLease, FakeRegistry
from tests.support.streams import FakeStream
from tests.support.wire_program import frame, startup

ADA = Database("db.example", 5432, "app", "ada", "sesam")
PASSWORD = frame(b"p", b"sesam\0")
BEGUN = b"C\0\0\0\x0aBEGIN\0Z\0\0\0\x05T"


class Claims:
    """Nothing goes in front of anything."""

    async def ready(self, grant: Any, pool: Any) -> Any:
        return lambda backend: None


class Scene:
    """The owner of tunnels, before backends that the test plays."""

    def __init__(self, *, is_pooler: bool = False, siblings: Siblings | None = None, **settings: Any) -> None:
        self.registry = FakeRegistry()
        self.registry.pool.upstream.is_pooler = is_pooler
        self.events: list[Event] = []
        self.siblings = siblings or Siblings()
        self.tunnels = Tunnels(
            authenticator=self,  # type: ignore[arg-type]
            registry=self.registry,  # type: ignore[arg-type]
            claims=Claims(),  # type: ignore[arg-type]
            siblings=self.siblings,
            quotas=Quotas(self.registry),  # type: ignore[arg-type]
            settings=TunnelSettings(**settings),
            observe=self.events.append,
        )

    on_forget: Callable[[], None]

    async def authenticate_password(self, dsn: Any, *, peer: str, origin: str | None = None) -> Any:
        if dsn.password != b"sesam":
            raise PasswordFailed("wrong " + "x" * 200)
        if dsn.database == "bug":
            raise ZeroDivisionError
        return SimpleNamespace(
            pool=self.registry.pool, database=dsn.database, role=dsn.role, grant=None, allowance=None
        )

    def connect(self, *pieces: bytes, pool_mode: str | None = None) -> "Program":
        stream = FakeStream()
        stream.put(*pieces)
        serving = self.tunnels.serve(stream, door="websocket", address=Address(""), pool_mode=pool_mode)
        return Program(stream, asyncio.create_task(serving))

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - nobody tells the test
                await asyncio.sleep(0)

    async def log_in(self, **parameters: str) -> tuple["Program", FakeLease]:
        lease = self.registry.add()
        program = self.connect(startup(ADA, parameters) + PASSWORD)
        await self.until(lambda: b"Z\0\0\0\x05I" in program.stream.all_sent)
        for _ in range(5):
            await asyncio.sleep(0)
        return program, lease

    def told(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


class Program:
    def __init__(self, stream: FakeStream, serving: "asyncio.Task[None]") -> None:
        self.stream = stream
        self.serving = serving

    async def ended(self) -> None:
        async with asyncio.timeout(5):
            await self.serving

    @property
    def error(self) -> dict[str, str]:
        data = self.stream.all_sent
        return decode_error(data[data.rindex(b"SFATAL\0") :])


async def test_orderly_life_is_told_at_both_ends() -> None:
    it = Scene()
    program, _ = await it.log_in()
    assert it.tunnels.connected == 1
    program.stream.put(TERMINATE)
    await program.ended()
    assert program.stream.closed == (1000, "")
    assert it.tunnels.connected == 0
    assert it.told(TunnelOpened) == [TunnelOpened("websocket")]
    [closed] = it.told(TunnelClosed)
    assert (closed.door, closed.outcome, closed.database, closed.role) == ("websocket", "ok", "app", "ada")


async def test_refused_log_in_is_told_with_its_error_and_closes_with_a_reason() -> None:
    it = Scene()
    program = it.connect(startup(ADA) + frame(b"p", b"salam\0"))
    await program.ended()
    assert program.error["C"] == "28P01"
    assert program.stream.closed == (1008, "wrong " + "x" * 200)
    [closed] = it.told(TunnelClosed)
    assert (closed.outcome, closed.sqlstate, closed.role) == ("auth", "28P01", "")


async def test_no_backend_in_time_closes_with_try_again_later() -> None:
    it = Scene()
    program = it.connect(startup(ADA) + PASSWORD)
    await it.until(lambda: it.registry.waiting)
    it.registry.refuse(WaitTimeout("full"))
    await program.ended()
    assert program.stream.closed == (1013, "full")


async def test_text_that_is_too_long_closes_with_the_code_for_that() -> None:
    it = Scene()
    program, _ = await it.log_in()
    program.stream.put(b"Q\1\0\0\0SELECT")
    await program.ended()
    assert (program.error["C"], program.stream.closed[0]) == ("54000", 1009)


async def test_program_that_just_goes_is_no_error() -> None:
    it = Scene()
    program, _ = await it.log_in()
    program.stream.hang_up()
    await program.ended()
    assert it.told(TunnelClosed)[0].outcome == "ok"


async def test_fault_of_ours_is_told_in_full_to_the_log_and_not_at_all_to_the_program() -> None:
    it = Scene()
    nowhere = Database("db.example", 5432, "bug", "ada", "sesam")
    program = it.connect(startup(nowhere) + PASSWORD)
    await program.ended()
    assert program.stream.closed == (1011, "internal error")
    [bug] = it.told(Bug)
    assert isinstance(bug.error, ZeroDivisionError)


async def test_more_than_may_be_open_are_refused() -> None:
    it = Scene(max_open=1)
    await it.log_in()
    program = it.connect(startup(ADA))
    await program.ended()
    assert program.error["C"] == "53300"
    assert it.tunnels.connected == 1


async def test_unknown_pool_mode_is_refused() -> None:
    it = Scene()
    program = it.connect(startup(ADA), pool_mode="statement")
    await program.ended()
    assert program.error["C"] == "22023"


@pytest.mark.parametrize(
    ("settings", "start", "url", "keeps"),
    [
        ({}, {}, None, False),
        ({"pool_mode": "session"}, {}, None, True),
        ({"pool_mode": "session"}, {}, "transaction", False),
        ({}, {}, "session", True),
        ({}, {"pool_mode": "transaction"}, "session", False),
        ({"database_pool_mode": {"app": "session"}}, {}, None, True),
        ({"database_pool_mode": {"app": "session"}, "role_pool_mode": {"ada": "transaction"}}, {}, None, False),
        ({"role_pool_mode": {"ada": "session"}}, {}, None, True),
        ({"role_pool_mode": {"eve": "session"}}, {}, None, False),
        ({"is_pooler": True}, {}, None, True),
    ],
)
async def test_closest_word_on_the_pool_mode_counts(
    settings: dict[str, Any], start: dict[str, str], url: str | None, keeps: bool
) -> None:
    it = Scene(**settings)
    lease = it.registry.add()
    program = it.connect(startup(ADA, start) + PASSWORD, pool_mode=url)
    await it.until(lambda: b"Z\0\0\0\x05I" in program.stream.all_sent)
    if keeps:
        await it.until(lambda: it.told(TunnelPinned))
        assert lease.ends == []
    else:
        await it.until(lambda: lease.ends)
    program.stream.put(TERMINATE)
    await program.ended()


async def test_cancel_request_reaches_the_tunnel_of_its_key() -> None:
    it = Scene()
    program, lease = await it.log_in()
    data = program.stream.all_sent
    key = data[data.index(b"K\0\0\0\x0c") + 5 :][:8]
    lease = it.registry.add()
    program.stream.put(encode_query(b"SELECT 1"))
    await it.until(lambda: lease.backend.written)
    await it.connect(b"\0\0\0\x10\x04\xd2\x16\x2e" + key).ended()
    await it.until(lambda: lease.cancels == 1)
    lease.cancel_result.set_result(True)
    program.stream.hang_up()
    await program.ended()
    await it.connect(b"\0\0\0\x10\x04\xd2\x16\x2e" + key).ended()
    assert it.told(KeyShown) == [KeyShown(True), KeyShown(False)]
    assert lease.cancels == 1


async def test_cancel_request_that_is_for_another_worker_is_passed_on() -> None:
    told: list[tuple[object, ...]] = []

    class Second(Siblings):
        count = 3

        def tell(self, number: int, kind: str, *words: str) -> None:
            told.append((number, kind, *words))

    it = Scene(siblings=Second(number=1))
    program = it.connect(pack("!IIi", 16, 80877102, 3 * 7 + 2) + b"key!")
    await program.ended()
    assert told == [(2, "cancel", "23", b"key!".hex())]
    assert it.told(KeyShown) == []
    it.siblings._handlers["cancel"]("22", b"none".hex())
    assert it.told(KeyShown) == [KeyShown(known=False)]


async def test_draining_tells_the_idle_and_waits_for_those_in_a_transaction() -> None:
    it = Scene()
    idle, _ = await it.log_in()
    busy, lease = await it.log_in()  # which was let in as the one before, and has not needed its backend
    busy.stream.put(encode_query(b"BEGIN"))
    await it.until(lambda: lease.backend.written)
    lease.say(BEGUN)
    draining = asyncio.create_task(it.tunnels.drain(5.0))
    await idle.ended()
    assert idle.error["C"] == "57P01"
    late = it.connect(startup(ADA) + PASSWORD)
    await late.ended()
    assert late.error["C"] == "57P01"
    assert not busy.serving.done()
    busy.stream.put(encode_query(b"COMMIT"))
    await it.until(lambda: lease.backend.written.endswith(b"COMMIT\0"))
    lease.say(b"C\0\0\0\x0bCOMMIT\0Z\0\0\0\x05I")
    await draining
    assert busy.error["C"] == "57P01"


async def test_draining_ends_what_has_not_ended_in_time() -> None:
    it = Scene()
    program, _ = await it.log_in()
    lease = it.registry.add()
    program.stream.put(encode_query(b"BEGIN"))
    await it.until(lambda: lease.backend.written)
    lease.say(BEGUN)
    await it.tunnels.drain(0.01)
    await program.ended()
    assert program.error["C"] == "57P01"
    assert lease.ends == ["take_back in_transaction deep", "release"]


async def test_program_that_does_not_take_the_close_is_dropped() -> None:
    it = Scene(send_timeout=0.01)
    program, _ = await it.log_in()
    program.stream.is_reading = False
    program.stream.put(TERMINATE)
    await program.ended()
    assert program.stream.aborted
