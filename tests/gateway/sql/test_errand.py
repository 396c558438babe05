"""A plain statement stands in line, runs and leaves without a task, and what goes wrong with it is its own affair."""

import asyncio
import gc
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sqlhttp_gateway.errors import RemoteProtocolError, TargetDown
from sqlhttp_gateway.events import Answered, Bug, Event
from sqlhttp_gateway.pools.gate import Gate
from sqlhttp_gateway.reply import Reply
from sqlhttp_gateway.story import CLOSED_REQUEST
from tests.support.asking import LEFT_TO_SERVICE, Asking, one
from tests.support.cluster import Database
from tests.support.cut_answers import Cut
from tests.support.leases import until
from tests.support.running_app import running_app
from tests.support.watch import watching

DEADLINE = 20.0  # seconds
SLEEPING = "wait_event = 'PgSleep'"


@pytest.fixture
async def asking(database: Database) -> AsyncIterator[Asking]:
    async with running_app(database, pool={"max_size": 2}, statement={"timeout": 2}) as app:
        asking = Asking(app)
        await asking.of_service(one("SELECT 1"))
        yield asking
        assert not [event for event in app.events if isinstance(event, Bug)]


async def full_gate(asking: Asking) -> Gate:
    """The gate with both of its permits taken, and a connection idle behind it."""
    await asking.of_service(one("SELECT 1"))
    gate = asking.pool.gate
    await until(lambda: asking.pool.idle > 0 and not gate.in_use)
    assert gate.try_enter()
    assert gate.try_enter()
    return gate


async def test_connection_that_postgres_has_closed_is_not_used(asking: Asking) -> None:
    await asking.of_quick(one("SELECT 1"))
    async with watching(asking.app.database) as watch:
        await watch.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    for _ in range(3):
        reply = await asking.of_quick(one("SELECT 1"))
        if reply == LEFT_TO_SERVICE:
            reply = await asking.of_service(one("SELECT 1"))
        assert isinstance(reply, Reply)
        assert reply.status == 200


# ── waiting, and leaving ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_many_at_once_stand_in_line_and_each_gets_its_own(asking: Asking) -> None:
    await asking.of_service(one("SELECT 1"))
    answers = [asking.begin(one("SELECT $1::int AS n", number))[1] for number in range(50)]
    async with asyncio.timeout(DEADLINE):
        replies = await asyncio.gather(*answers)
    for number, reply in enumerate(replies):
        assert isinstance(reply, Reply)
        assert json.loads(reply.body)["rows"] == [{"n": str(number)}]
    assert asking.pool.gate.waiting == 0
    await until(lambda: not asking.pool.gate.in_use)
    assert asking.errands.registry.connections <= 2


async def test_who_leaves_in_line_gives_up_its_place_alone(asking: Asking) -> None:
    await asking.of_service(one("SELECT 1"))
    begun = [asking.begin(one("SELECT $1::int AS n", number)) for number in range(12)]
    for errand, _ in begun[3::2]:
        errand.cancel()
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*[answer for number, (_, answer) in enumerate(begun) if number < 3 or number % 2 == 0])
    await until(lambda: not asking.pool.gate.in_use and not asking.pool.gate.waiting)
    outcomes = [event.status for event in asking.app.answered()]
    assert outcomes.count(CLOSED_REQUEST) == 5
    assert not any(answer.done() for number, (_, answer) in enumerate(begun) if number > 2 and number % 2)


async def test_who_leaves_in_the_tick_of_its_turn_passes_the_connection_on(asking: Asking) -> None:
    await asking.of_service(one("SELECT 1"))
    gate = await full_gate(asking)
    leaving, _ = asking.begin(one("SELECT 1"))
    _, staying = asking.begin(one("SELECT 2"))
    gate.leave()
    assert leaving.done()
    leaving.cancel()
    async with asyncio.timeout(DEADLINE):
        reply = await staying
    assert isinstance(reply, Reply)
    gate.leave()
    await until(lambda: not gate.in_use and not gate.waiting)


class Recording:
    """A transport that notes each write."""

    def __init__(self, transport: Any, order: list[str]) -> None:
        self._transport = transport
        self._order = order

    def write(self, data: bytes) -> None:
        self._order.append("sent")
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def spoiled(*args: object, **options: object) -> None:
    raise RuntimeError("a fault of ours")


async def test_next_in_line_has_sent_its_statement_before_the_last_answer_is_told(asking: Asking) -> None:
    gate = await full_gate(asking)
    gate.leave()
    for _ in range(3):  # so that it is foreseen
        _, answer = asking.begin(one("SELECT 1"))
        await answer
        await until(lambda: gate.in_use == 1)
    order: list[str] = []
    [backend] = asking.pool.idle_backends[-1:]
    transport = backend._transport
    whole = Cut(backend)  # in pieces, the answer is told before it is known that the connection is clean
    backend._transport = Recording(transport, order)  # type: ignore[assignment]
    _, first = asking.begin(one("SELECT 1"))
    _, second = asking.begin(one("SELECT 1"))
    first.add_done_callback(lambda _: order.append("told"))
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(first, second)
    assert order == ["sent", "sent", "told"]
    backend._transport = transport
    whole.heal()
    gate.leave()


@pytest.mark.uncompiled
async def test_what_goes_wrong_with_the_next_in_line_is_its_own_affair(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = await full_gate(asking)
    gate.leave()
    _, first = asking.begin(one("SELECT 1"))
    _, second = asking.begin(one("SELECT 2"))
    monkeypatch.setattr("sqlhttp_gateway.sql.errand.start_plain", spoiled)
    async with asyncio.timeout(DEADLINE):
        replies = await asyncio.gather(first, second)
    assert [reply.status for reply in replies if isinstance(reply, Reply)] == [200, 500]
    gate.leave()
    monkeypatch.undo()
    await until(lambda: not gate.in_use and not asking.pool.returning)
    asking.app.events.remove(next(event for event in asking.app.events if isinstance(event, Bug)))


async def test_who_leaves_in_the_tick_of_a_refusal_gives_no_permit_back(asking: Asking) -> None:
    gate = await full_gate(asking)
    leaving, answer = asking.begin(one("SELECT 1"))
    gate.refuse_waiters(TargetDown("the server is down"))
    leaving.cancel()
    await until(lambda: asking.app.answered()[-1].status == CLOSED_REQUEST)
    assert gate.in_use == 2
    assert not answer.done()
    gate.leave()
    gate.leave()


async def test_connection_that_breaks_while_its_next_holder_stands_in_line_is_not_used(asking: Asking) -> None:
    gate = await full_gate(asking)
    _, answer = asking.begin(one("SELECT 1"))
    for backend in asking.pool.idle_backends:
        backend.abandon()
    gate.leave()
    gate.leave()
    async with asyncio.timeout(DEADLINE):
        reply = await answer
    assert isinstance(reply, Reply)
    assert reply.status == 200
    await until(lambda: not gate.in_use)


async def test_refusal_is_delivered_when_begin_has_answered(asking: Asking) -> None:
    """Whoever begins a request is not told of its end before it knows that it has begun."""
    gate = await full_gate(asking)
    gate.resize(2, max_waiting=0)
    errand, answer = asking.begin(one("SELECT 1"))
    assert errand is not None
    assert not answer.done()
    async with asyncio.timeout(DEADLINE):
        reply = await answer
    assert isinstance(reply, Reply)
    assert reply.status == 503
    errand.cancel()
    gate.leave()
    gate.leave()


async def test_statement_of_a_program_that_left_is_cancelled_and_its_connection_kept(asking: Asking) -> None:
    await asking.of_service(one("SELECT 1"))
    async with watching(asking.app.database) as watch:
        errand, answer = asking.begin(one("SELECT set_config('statement_timeout', '0', false), pg_sleep(60)"))
        await watch.until(1, SLEEPING)
        errand.cancel()
        errand.cancel()
        assert asking.app.answered()[-1].status == CLOSED_REQUEST
        await watch.until(0, SLEEPING)
    await until(lambda: not asking.pool.gate.in_use and not asking.pool.returning)
    assert asking.pool.idle
    assert not answer.done()


async def test_line_that_is_full_is_told_as_by_the_service(database: Database) -> None:
    async with running_app(database, pool={"max_size": 1, "max_waiting": 1}) as app:
        asking = Asking(app)
        await asking.of_service(one("SELECT 1"))
        async with watching(database) as watch:
            first, _ = asking.begin(one("SELECT pg_sleep(60)"))
            await watch.until(1, SLEEPING)
            second, _ = asking.begin(one("SELECT 1"))
            by_service, refused = await asking.of_service(one("SELECT 1")), await asking.of_quick(one("SELECT 1"))
            assert isinstance(refused, Reply)
            assert (refused.status, refused.headers, refused.body) == (503, by_service.headers, by_service.body)
            first.cancel()
            second.cancel()


async def test_many_rows_are_not_put_together_and_are_those_of_the_service(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = one("SELECT n, NULLIF(n % 7, 0), 'row ' || n AS text FROM generate_series(1, 10000) AS n")
    by_service = await asking.of_service(many)
    monkeypatch.setattr("sqlhttp_gateway.sql.errand.encode_result", spoiled)
    quickly = await asking.of_quick(many)
    assert isinstance(quickly, Reply)
    assert quickly.body == by_service.body


async def test_nothing_is_left_of_requests_that_are_over(asking: Asking) -> None:
    """No cycle keeps a request until the garbage collector looks."""
    await asking.of_service(one("SELECT 1"))
    await asking.of_quick(one("SELECT 1"))
    await until(lambda: not asking.pool.gate.in_use and not asking.pool.returning)
    gc.collect()
    gc.disable()
    try:
        before = _of_requests()  # of other tests, which something may hold
        for _ in range(20):
            await asking.of_quick(one("SELECT 1"))
        await until(lambda: not asking.pool.gate.in_use and not asking.pool.returning)
        assert _of_requests() <= before
    finally:
        gc.enable()


def _of_requests() -> Counter[str]:
    """How many there are of each kind of object that a request needs."""
    kinds = Counter(type(each).__name__ for each in gc.get_objects())
    return Counter({name: kinds[name] for name in ("Errand", "Lease", "Exchange", "Story")})


@pytest.mark.uncompiled
async def test_server_that_breaks_the_protocol_ends_the_request_and_not_the_loop(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asking.of_service(one("SELECT 1"))

    def broken(*_: object, **__: object) -> bytes:
        raise RemoteProtocolError("rows of another size")

    monkeypatch.setattr("sqlhttp_gateway.sql.errand.encode_result", broken)
    reply = await asking.of_quick(one("SELECT 1"))
    assert isinstance(reply, Reply)
    assert reply.status == 500
    await until(lambda: not asking.pool.gate.in_use)


# ── faults of the gateway's own ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.uncompiled
@pytest.mark.parametrize("step", ["encode_plain_timing", "new_request_id"])
async def test_fault_behind_an_answer_is_told_its_program_and_leaves_the_connection_to_the_next(
    database: Database, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    async with running_app(database, is_heard=False, pool={"max_size": 1}) as app:
        asking = Asking(app)
        await asking.of_service(one("SELECT 1"))
        pids = [await asking.of_quick(one("SELECT pg_backend_pid()")) for _ in range(2)]
        monkeypatch.setattr(f"sqlhttp_gateway.sql.errand.{step}", spoiled)
        _, first = asking.begin(one("SELECT pg_backend_pid()"))
        _, second = asking.begin(one("SELECT pg_backend_pid()"))  # has the connection when the first one fails
        async with asyncio.timeout(DEADLINE):
            failed = await asyncio.gather(first, second)
        assert [reply.status for reply in failed if isinstance(reply, Reply)] == [500, 500]
        monkeypatch.undo()
        again = await asking.of_quick(one("SELECT pg_backend_pid()"))
        assert {reply.body for reply in [*pids, again] if isinstance(reply, Reply)} == {again.body}  # type: ignore[union-attr]
        await until(lambda: not asking.pool.gate.in_use and not asking.pool.returning)


async def test_observer_that_fails_fails_neither_the_request_nor_its_connection(asking: Asking) -> None:
    reported: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    fault = RuntimeError("a fault of an observer's")
    hear = asking.errands.observe

    def observe(event: Event) -> None:
        hear(event)
        if isinstance(event, Answered):
            raise fault

    asking.errands.observe = observe
    for body, status in ((one("SELECT 1"), 200), (one("SELECT FROM WHERE"), 400), (one("SELECT 1"), 200)):
        reply = await asking.of_quick(body)
        assert isinstance(reply, Reply)
        assert reply.status == status
    begun, answer = asking.begin(one("SELECT pg_sleep(60)"))
    begun.cancel()
    await until(lambda: len(reported) == 4)
    assert reported == [fault] * 4
    assert not answer.done()
    await until(lambda: not asking.pool.gate.in_use and not asking.pool.returning)
    assert asking.errands.registry.connections == 1
    loop.set_exception_handler(None)
