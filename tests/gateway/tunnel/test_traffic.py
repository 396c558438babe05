"""A program's traffic, between a stream and backends that the test plays, with the real pipeline in the middle."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from sqlhttp_gateway.errors import ConnectionBroken, GatewayError, SendTimeout, WaitTimeout
from sqlhttp_gateway.events import Event, TunnelPinned
from sqlhttp_gateway.limits import Quotas
from sqlhttp_gateway.pools.scrub import AHEAD
from sqlhttp_gateway.settings import TunnelSettings
from sqlhttp_gateway.tunnel.borrowing import Borrowing
from sqlhttp_gateway.tunnel.greetings import Greetings
from sqlhttp_gateway.tunnel.listeners import Listeners
from sqlhttp_gateway.tunnel.login import LoggedIn
from sqlhttp_gateway.tunnel.pins import Pins
from sqlhttp_gateway.tunnel.traffic import Traffic
from sqlhttp_gateway.wire.backend import decode_error
from sqlhttp_gateway.wire.effects import Pin
from sqlhttp_gateway.wire.frontend import EXECUTE, SYNC, TERMINATE, encode_bind, encode_parse, encode_query
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
        **settings: Any,
    ) -> None:
        self.stream = FakeStream()
        self.registry = FakeRegistry()
        self.events: list[Event] = []
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
            ),
            pins=Pins(max_pinned),
            listeners=Listeners(self.registry),  # type: ignore[arg-type]
            greetings=Greetings(),
            settings=TunnelSettings(**({"idle_in_transaction_timeout": 0} | settings)),
            observe=self.events.append,
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


async def test_greeting_is_one_message_and_the_first_answer_another() -> None:
    async with scene(rest=SELECT) as it:
        lease = it.registry.add()
        await it.until(lambda: lease.backend.written == SELECT)
        lease.say(DONE + READY)
        await it.until(lambda: len(it.stream.sent) == 2)
        assert it.stream.sent[0].startswith(GREETING)
        assert it.stream.sent[0].endswith(b"<key>" + READY)
        assert it.stream.sent[1] == DONE + READY
        await it.until(lambda: lease.ends == ["take_back", "release"])


async def test_nothing_of_what_it_moved_is_held_when_it_has_ended() -> None:
    """Until the next collection of garbage, that would be, and of that there is none for as long as there is little."""
    row, text = b"D\0\0\x40\x0a\0\x01\0\0\x40\0" + bytes(0x4000), encode_query(b"SELECT '" + b"x" * 9999 + b"'")
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(encode_query(b"BEGIN"))
        lease.say(BEGUN)
        it.stream.put(SELECT)
        await it.until(lambda: lease.backend.written.endswith(SELECT))
        lease.say(row)
        await it.until(lambda: it.stream.sent[-1].endswith(row))
        it.stream.hang_up()
        it.stream.put(text)
        await it.ended()
        holders = [*gc.get_referrers(row), *gc.get_referrers(text)]
        assert not any(each is vars(it.traffic) for each in holders)


async def test_backend_is_lent_for_a_transaction_and_given_back_after_it() -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(encode_query(b"BEGIN"))
        lease.say(BEGUN)
        it.stream.put(SELECT)
        await it.until(lambda: lease.backend.written.endswith(SELECT))
        lease.say(DONE + IN_TRANSACTION)
        it.stream.put(encode_query(b"COMMIT"))
        await it.until(lambda: lease.backend.written.endswith(b"COMMIT\0"))
        assert lease.ends == []
        lease.say(b"C\0\0\0\x0bCOMMIT\0" + READY)
        await it.until(lambda: lease.ends == ["take_back", "release"])
        assert len(it.registry.leases) == 2


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


async def test_backend_that_nobody_wants_stays_for_the_next_transaction() -> None:
    async with lingering() as (it, lease):
        assert (lease.ends, it.traffic.state, it.traffic.backend_pid) == ([], "idle", 0)
        it.stream.put(SELECT)
        await it.until(lambda: lease.backend.written == SELECT * 2)
        assert len(it.registry.pool.lingering) == 0
        assert not it.registry.pool.lingering.reclaim()
        lease.say(DONE + READY)
        assert len(it.registry.pool.lingering) == 1
        assert lease.ends == []


PREPARE = encode_parse(b"s", b"SELECT $1") + SYNC
QUESTION = encode_bind(b"s", (b"7",)) + EXECUTE + SYNC
BOUND = b"2\0\0\0\x04"


@asynccontextmanager
async def prepared(**given: Any) -> AsyncIterator[tuple[Scene, FakeLease]]:
    """A program that lingers on a backend which knows its statement `s`."""
    async with lingering(**given) as (it, lease):
        it.stream.put(PREPARE)
        await it.until(lambda: lease.backend.written.endswith(SYNC))
        lease.say(b"1\0\0\0\x04" + b"t\0\0\0\x0a\0\x01\0\0\0\x19" + b"n\0\0\0\x04" + READY)
        assert len(it.registry.pool.lingering) == 1
        yield it, lease


def _has_sent(it: Scene, number: int) -> bool:
    return it.stream.all_sent.count(BOUND + DONE + READY) == number


@pytest.mark.parametrize("cut", [len(QUESTION), len(QUESTION) - 1, 3])
async def test_question_that_is_known_at_sight_goes_the_way_of_any_other(cut: int) -> None:
    async with prepared(transaction_timeout=10) as (it, lease):
        for number in (1, 2):
            lease.backend.written = b""
            it.stream.put(*filter(None, (QUESTION[:cut], QUESTION[cut:])))
            await it.until(lambda: lease.backend.written.endswith(EXECUTE + SYNC))
            assert (len(it.registry.pool.lingering), it.traffic.state) == (0, "active")
            assert it.traffic._clocks.deadline() is not None
            assert it.traffic._clocks.passed(it.traffic._loop.time() + 10) is not None
            assert (it.traffic._inbox_size, it.traffic._fed) == (0, 0)
            lease.say(BOUND + DONE + READY)
            assert (len(it.registry.pool.lingering), it.traffic.state) == (1, "idle")
            await it.until(partial(_has_sent, it, number))
            assert it.traffic._clocks.deadline() is None


async def test_question_that_is_known_at_sight_waits_while_postgres_takes_nothing() -> None:
    async with prepared() as (it, lease):
        before = lease.backend.written
        lease.backend.is_backed_up = True
        it.traffic.take(QUESTION)
        assert lease.backend.written == before
        lease.backend.is_backed_up = False
        it.traffic._advance()
        assert lease.backend.written.endswith(EXECUTE + SYNC, len(before))
        lease.say(BOUND + DONE + READY)


async def test_what_fails_on_the_way_of_a_question_is_raised_where_the_tunnel_is_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with prepared() as (it, lease):
        monkeypatch.setattr(lease.backend, "write", lambda data: 1 // 0)
        it.traffic.take(QUESTION)
        with pytest.raises(ZeroDivisionError):
            await it.ended()
        assert lease.ends
        it.running = asyncio.create_task(asyncio.sleep(0))  # which has been seen to fail


async def test_backend_that_lingers_is_given_back_when_somebody_wants_it() -> None:
    async with lingering() as (it, lease):
        assert it.registry.pool.lingering.reclaim()
        assert lease.ends == ["take_back", "release"]
        second = await it.sends(SELECT)
        assert second.backend.written == SELECT


async def test_backend_that_lingers_is_given_back_after_a_while() -> None:
    async with lingering(linger=0.01) as (it, lease):
        await it.until(lambda: lease.ends == ["take_back", "release"])
        assert len(it.registry.pool.lingering) == 0


async def test_program_that_goes_while_it_lingers_leaves_the_backend_as_usable_as_before() -> None:
    async with lingering() as (it, lease):
        it.stream.put(TERMINATE)
        assert await it.ended() is None
        assert (lease.ends, len(it.registry.pool.lingering)) == (["take_back", "release"], 0)


async def test_backend_that_is_lost_while_it_lingers_is_nobodys_loss() -> None:
    async with lingering() as (it, lease):
        lease.say(FATAL)
        lease.break_off()
        assert (lease.ends, len(it.registry.pool.lingering)) == (["drop lost"], 0)
        second = await it.sends(SELECT)
        second.say(DONE + READY)
        await it.until(lambda: it.stream.all_sent.endswith(DONE + READY))
        assert FATAL not in it.stream.all_sent


async def test_drain_does_not_wait_for_what_lingers() -> None:
    async with lingering() as (it, lease):
        it.traffic.drain()
        error = await it.ended()
        assert error is not None
        assert (error.sqlstate, lease.ends) == ("57P01", ["take_back", "release"])


async def test_cancel_while_it_lingers_cancels_nothing() -> None:
    async with lingering() as (it, lease):
        it.traffic.cancel()
        await turns()
        assert lease.cancels == 0


async def test_nothing_lingers_where_the_settings_want_none() -> None:
    async with scene(linger=0) as it:
        it.registry.pool.lets_linger = True
        await it.greeted()
        lease = await it.sends(SELECT)
        lease.say(DONE + READY)
        assert lease.ends == ["take_back", "release"], "at once"
        assert len(it.registry.pool.lingering) == 0


async def test_goodbye_ends_it_without_an_error() -> None:
    async with scene() as it:
        await it.greeted()
        it.stream.put(TERMINATE)
        assert await it.ended() is None


async def test_goodbye_before_the_greeting_needs_no_backend() -> None:
    async with scene() as it:
        it.stream.put(TERMINATE)
        assert await it.ended() is None
        assert it.registry.leases == []
        assert it.registry.waiting == 0


async def test_no_backend_for_the_greeting_is_the_end() -> None:
    async with scene() as it:
        await it.until(lambda: it.registry.waiting)
        it.registry.refuse(WaitTimeout("all are in use"))
        assert isinstance(await it.ended(), WaitTimeout)
        assert (it.error["C"], it.error["M"]) == ("53300", "all are in use")
        assert it.stream.all_sent.startswith(GREETING)


async def test_no_backend_for_a_transaction_is_an_error_and_not_the_end() -> None:
    async with scene() as it:
        await it.greeted()
        it.stream.put(SELECT)
        await it.until(lambda: it.registry.waiting)
        it.registry.refuse(WaitTimeout("all are in use"))
        await it.until(lambda: it.stream.all_sent.endswith(READY) and b"53300" in it.stream.all_sent)
        it.stream.put(TERMINATE)
        assert await it.ended() is None


async def test_program_that_leaves_while_it_waits_leaves_the_queue() -> None:
    async with scene() as it:
        await it.until(lambda: it.registry.waiting)
        it.stream.hang_up()
        assert await it.ended() is None
        assert it.registry.waiting == 0


async def test_cancel_while_it_waits_is_an_answer() -> None:
    async with scene() as it:
        await it.greeted()
        it.stream.put(SELECT)
        await it.until(lambda: it.registry.waiting)
        it.traffic.cancel()
        await it.until(lambda: b"57014" in it.stream.all_sent)
        assert it.registry.waiting == 0


async def test_cancel_of_what_runs_is_passed_on_once() -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(SELECT)
        it.traffic.cancel()
        it.traffic.cancel()
        await it.until(lambda: lease.cancels)
        lease.say(DONE + READY)
        await turns()
        assert lease.ends == []  # the signal may still come
        lease.cancel_result.set_result(True)
        await it.until(lambda: lease.ends)
        assert (lease.cancels, lease.ends) == (1, ["take_back", "release"])


async def test_every_query_of_a_transaction_can_be_cancelled() -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(encode_query(b"BEGIN"))
        lease.say(BEGUN)
        lease.cancel_result.set_result(True)
        for number in (1, 2, 3):
            it.stream.put(SELECT)
            await it.until(lambda number=number: lease.backend.written.count(SELECT) == number)  # type: ignore[misc]
            it.traffic.cancel()
            await turns()
            assert lease.cancels == number
            lease.say(DONE + IN_TRANSACTION)


async def test_backend_to_which_a_signal_may_still_come_is_not_given_to_others() -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(SELECT)
        it.traffic.cancel()
        lease.say(DONE + READY)
        lease.cancel_result.set_result(False)
        await it.until(lambda: lease.ends)
        assert lease.ends == ["drop unclean"]


async def test_cancel_of_nothing_does_nothing() -> None:
    async with scene() as it:
        lease = await it.greeted()
        it.traffic.cancel()
        await turns()
        assert lease.cancels == 0


@pytest.mark.parametrize(
    ("said", "end"),
    [
        (b"", ["drop abandoned"]),
        (BEGUN, ["take_back in_transaction deep", "release"]),
    ],
    ids=["in a query", "in a transaction"],
)
async def test_program_that_vanishes_leaves_nothing_behind(said: bytes, end: list[str]) -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(encode_query(b"BEGIN"))
        lease.say(said)
        it.stream.hang_up()
        assert await it.ended() is None
        assert lease.ends == end


async def test_what_breaks_the_protocol_is_told_and_ends_it() -> None:
    async with scene() as it:
        await it.greeted()
        it.stream.put(b"?\0\0\0\x04")
        error = await it.ended()
        assert error is not None
        assert (error.kind, it.error["C"]) == ("client", "08P01")


async def test_backend_that_breaks_the_protocol_is_dropped() -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(SELECT)
        lease.say(READY + DONE)
        error = await it.ended()
        assert error is not None
        assert error.kind == "backend"
        assert lease.ends == ["drop abandoned"]


async def test_lost_backend_is_told_by_us_if_postgres_said_nothing() -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(SELECT)
        lease.break_off()
        assert isinstance(await it.ended(), ConnectionBroken)
        assert it.error["C"] == "08006"


async def test_lost_backend_is_told_once_if_postgres_said_why() -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(SELECT)
        lease.say(FATAL)
        lease.break_off()
        assert isinstance(await it.ended(), ConnectionBroken)
        assert it.stream.all_sent.endswith(FATAL)


async def test_program_that_does_not_read_holds_the_backend_back_and_is_asked_for_no_more() -> None:
    async with scene(buffer_bytes=100) as it:
        await it.greeted()
        lease = await it.sends(SELECT)
        it.stream.is_reading = False
        lease.say(b"D\0\0\x10\0" + b"x" * (0x1000 - 4))
        assert lease.backend.is_paused
        it.stream.put(SELECT, SELECT)
        await turns()
        assert lease.backend.written == SELECT
        it.stream.is_reading = True
        await it.until(lambda: not lease.backend.is_paused)
        await it.until(lambda: lease.backend.written == SELECT * 3)


async def test_new_backend_is_held_back_if_what_another_said_still_waits() -> None:
    async with scene(buffer_bytes=10) as it:
        await it.greeted()
        it.stream.is_reading = False
        first = await it.sends(SELECT)
        it.stream.put(SELECT)
        first.say(b"D\0\0\0\x40" + b"x" * 60 + DONE + READY)
        await it.until(lambda: first.ends)
        second = it.registry.add()
        await turns()
        assert second.backend.written == b""
        it.stream.is_reading = True
        await it.until(lambda: second.backend.written)


async def test_program_that_reads_nothing_for_too_long_is_cut_off() -> None:
    async with scene(send_timeout=0.01) as it:
        await it.greeted()
        lease = await it.sends(encode_query(b"BEGIN"))
        it.stream.is_reading = False
        lease.say(BEGUN)
        assert isinstance(await it.ended(), SendTimeout)
        assert it.stream.aborted
        assert lease.ends == ["take_back in_transaction deep", "release"]


async def test_postgres_that_takes_nothing_holds_the_program_back() -> None:
    async with scene(buffer_bytes=100) as it:
        await it.greeted()
        lease = await it.sends(SELECT)
        lease.backend.is_backed_up = True
        it.stream.put(SELECT, SELECT, *[b"Q\0\0\0\x40" + b"x" * 60] * 20)
        await turns()
        assert lease.backend.written == SELECT
        assert it.stream._arriving.qsize() >= 15  # not even fetched
        lease.backend.is_backed_up = False
        lease.backend.room.set()
        await it.until(lambda: lease.backend.written.startswith(SELECT * 3))


async def test_program_that_vanishes_while_postgres_takes_nothing_is_noticed() -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(SELECT)
        lease.backend.is_backed_up = True
        it.stream.put(SELECT)
        await turns()
        it.stream.hang_up()
        await it.ended()
        assert lease.ends == ["drop abandoned"]


async def test_time_limit_ends_it() -> None:
    async with scene(idle_in_transaction_timeout=0.01) as it:
        await it.greeted()
        lease = await it.sends(encode_query(b"BEGIN"))
        lease.say(BEGUN)
        error = await it.ended()
        assert error is not None
        assert (error.sqlstate, it.error["S"]) == ("25P03", "FATAL")
        assert lease.ends == ["take_back in_transaction deep", "release"]


async def test_draining_waits_for_the_end_of_the_transaction() -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(encode_query(b"BEGIN"))
        lease.say(BEGUN)
        it.traffic.drain()
        await turns()
        assert it.running is not None
        assert not it.running.done()
        it.stream.put(encode_query(b"COMMIT"))
        await it.until(lambda: lease.backend.written.endswith(b"COMMIT\0"))
        lease.say(b"C\0\0\0\x0bCOMMIT\0" + READY)
        error = await it.ended()
        assert error is not None
        assert (error.sqlstate, lease.ends) == ("57P01", ["take_back", "release"])


async def test_abort_waits_for_nothing() -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(SELECT)
        it.traffic.abort()
        error = await it.ended()
        assert error is not None
        assert (error.sqlstate, lease.ends) == ("57P01", ["drop abandoned"])


async def test_session_mode_keeps_the_backend_and_counts_as_pinned() -> None:
    async with scene(pins=(Pin.SESSION,), max_pinned=1) as it:
        lease = it.registry.add()
        await it.until(lambda: it.stream.sent)
        await turns()
        assert lease.ends == []
        it.stream.put(TERMINATE)
        assert await it.ended() is None
        assert lease.ends == ["take_back deep", "release"]


async def test_statement_that_needs_a_session_pins_and_says_so() -> None:
    async with scene() as it:
        await it.greeted()
        lease = await it.sends(encode_query(b"LOAD 'x'"))
        lease.say(b"C\0\0\0\x09LOAD\0" + READY)
        await turns()
        assert [event.reason for event in it.events if isinstance(event, TunnelPinned)] == [Pin.LOAD]
        assert lease.ends == []
        it.stream.put(TERMINATE)
        await it.ended()
        assert lease.ends == ["drop unclean"]


async def test_pin_too_many_is_refused() -> None:
    async with scene(max_pinned=0) as it:
        await it.greeted()
        it.registry.add()
        it.stream.put(encode_query(b"LOAD 'x'"))
        error = await it.ended()
        assert error is not None
        assert (error.sqlstate, error.kind) == ("53400", "pool")
        assert "tunnel.max_pinned" in it.error["M"]


async def test_what_the_pipeline_keeps_back_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing runs before the session's parameters are set; meanwhile a program may send what it likes."""
    monkeypatch.setattr("sqlhttp_gateway.tunnel.traffic.MAX_MESSAGE", 1000)
    async with scene(buffer_bytes=1000, parameters={"search_path": "mine"}) as it:
        lease = await it.sends(*[SELECT] * 1000)
        await turns(2000)
        assert it.stream._arriving.qsize() > 800
        assert b"SELECT 1" not in lease.backend.written
        it.traffic.abort()


async def turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# ── a backend that is not clean ──────────────────────────────────────────────────────────────────────────────────────

CLEAN = AHEAD.scrubbed + AHEAD.committed
REFUSED = b"E\0\0\0\x20SERROR\0VERROR\0C57014\0Mgone\0\0"


async def takes(it: Scene, data: bytes) -> FakeLease:
    """The program sends something, and gets a backend as its last holder left it."""
    await it.greeted()
    lease = it.registry.add(AHEAD)
    it.stream.put(data)
    await it.until(lambda: lease.backend.written)
    assert lease.backend.written == AHEAD.scrub + AHEAD.commit + data
    return lease


async def test_backend_is_known_to_be_clean_by_the_same_answer() -> None:
    async with scene() as it:
        lease = await takes(it, SELECT)
        lease.say(CLEAN + DONE + READY)
        assert lease.ends == ["was_cleansed", "take_back", "release"]
        await it.until(lambda: it.stream.all_sent.endswith(DONE + READY))


async def test_backend_that_refuses_to_be_clean_is_cleaned_and_then_used() -> None:
    async with scene() as it:
        lease = await takes(it, SELECT)
        lease.say(REFUSED)
        lease.say(READY)
        await it.until(lambda: "cleanse" in lease.ends)
        assert lease.ends == ["take_back in_transaction deep", "cleanse"]
        assert lease.backend.written.endswith(SELECT + b"S\0\0\0\4")
        lease.cleansing.set_result(True)
        await it.until(lambda: lease.backend.written.endswith(SELECT))
        lease.say(DONE + READY)
        await it.until(lambda: it.stream.all_sent.endswith(DONE + READY))
        assert REFUSED not in it.stream.all_sent


async def test_another_backend_is_waited_for_where_it_cannot_be_cleaned() -> None:
    async with scene() as it:
        lease = await takes(it, SELECT)
        lease.say(REFUSED + READY)
        lease.cleansing.set_result(False)
        await it.until(lambda: it.registry.waiting)
        assert lease.ends[-1] == "drop unclean"
        other = it.registry.add()
        await it.until(lambda: other.backend.written)
        assert other.backend.written == SELECT


async def test_program_that_leaves_while_its_backend_is_cleaned_keeps_nothing() -> None:
    async with scene() as it:
        lease = await takes(it, SELECT)
        lease.say(REFUSED + READY)
        await it.until(lambda: "cleanse" in lease.ends)
        it.stream.hang_up()
        await it.ended()
        assert lease.ends[-1] == "drop unclean"


async def test_cancel_that_meets_what_goes_ahead_is_the_answer_and_nothing_is_sent_again() -> None:
    async with scene() as it:
        lease = await takes(it, SELECT)
        it.traffic.cancel()
        await it.until(lambda: lease.cancels)
        lease.say(REFUSED + READY)
        assert lease.ends == ["take_back in_transaction deep", "drop unclean"]
        await it.until(lambda: b"C57014" in it.stream.all_sent and it.stream.all_sent.endswith(READY))
        lease.cancel_result.set_result(False)
        again = await it.sends(SELECT)
        again.say(DONE + READY)
        await it.until(lambda: again.ends)
        assert again.ends == ["take_back", "release"]  # the doubt was about the other


async def test_end_of_a_backend_that_has_said_why_it_cannot_be_clean_is_no_end_of_the_program() -> None:
    async with scene() as it:
        lease = await takes(it, SELECT)
        lease.say(FATAL)
        lease.cleansing.set_result(False)
        lease.break_off()
        await it.until(lambda: it.registry.waiting)
        other = it.registry.add()
        await it.until(lambda: other.backend.written == SELECT)
        assert FATAL not in it.stream.all_sent


async def test_end_of_a_backend_without_a_word_is_told_since_the_statement_may_have_run() -> None:
    async with scene() as it:
        lease = await takes(it, SELECT)
        lease.break_off()
        assert isinstance(await it.ended(), ConnectionBroken)
