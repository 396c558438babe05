"""A request's own time: what it ends, what is told of it, and that nothing is left over."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvloop

from sqlhttp_gateway.deadline import Deadline, deadline_for
from sqlhttp_gateway.errors import BadRequest, DeadlineBeforeRun, DeadlineExceeded, HasRun
from sqlhttp_gateway.events import Cancelled
from sqlhttp_gateway.pools import connect as connect_module
from sqlhttp_gateway.story import CLOSED_REQUEST, Story, Telling
from tests.support.cluster import Database
from tests.support.leases import until
from tests.support.running_app import RunningApp, running_app
from tests.support.watch import watching

SLEEP = {"query": "SELECT pg_sleep(60)"}
SLEEPING = "wait_event = 'PgSleep'"


@pytest.fixture
async def app(database: Database) -> AsyncIterator[RunningApp]:
    async with running_app(database, pool={"max_size": 1, "wait_timeout": 60}) as running:
        yield running


@asynccontextmanager
async def busy(app: RunningApp, database: Database) -> AsyncIterator[None]:
    """The one connection is in use for the length of the block, by a request that is answered afterwards."""
    async with watching(database) as watch:
        await watch.run("SELECT pg_advisory_lock(1)")
        running = asyncio.create_task(app.post({"query": "SELECT pg_advisory_xact_lock(1)"}))
        await watch.until(1, "wait_event = 'advisory'")
        yield
        await watch.run("SELECT pg_advisory_unlock(1)")
        assert (await running).status == 200


async def test_header_lowers_what_the_settings_allow_and_does_not_raise_it() -> None:
    for header, most, seconds, source in (
        (b"2.5", 0.0, 2.5, "Sqlhttp-Timeout"),
        (b"2.5", 10.0, 2.5, "Sqlhttp-Timeout"),
        (b"20", 10.0, 10.0, "request.deadline"),
        (None, 10.0, 10.0, "request.deadline"),
    ):
        deadline = deadline_for(header, most)
        assert (deadline._seconds, deadline._source) == (seconds, source)
        deadline.drop()


async def test_header_that_is_no_time_is_refused(app: RunningApp) -> None:
    for value in ("0", "-1", "abc", "1e3", "inf", "1s", "0.000"):
        call = await app.post({"query": "SELECT 1"}, sqlhttp_timeout=value)
        assert (call.status, call.json()["message"]) == (400, "invalid sqlhttp-timeout"), value
    with pytest.raises(BadRequest):
        deadline_for(b"", 1.0)


async def test_statement_that_runs_is_cancelled_and_its_connection_kept(app: RunningApp, database: Database) -> None:
    async with watching(database) as watch:
        pid = (await app.post({"query": "SELECT pg_backend_pid() AS pid"})).json()["rows"][0]["pid"]
        call = await app.post(SLEEP, sqlhttp_timeout="0.2")
        assert call.status == 504
        assert call.json()["code"] == "57014"
        times = re.fullmatch(
            r"the request's 0\.2 s \(Sqlhttp-Timeout\) were over in execute: queue (\d+\.\d\d\d) s, connect 0\.000 s, "
            r"execute (\d+\.\d\d\d) s; what ran was cancelled",
            call.json()["message"],
        )
        assert times is not None, call.json()["message"]
        queue, execute = map(float, times.groups())
        assert queue < execute
        assert queue + execute > 0.1, "the rest went by before there was a queue"
        await watch.until(0, SLEEPING)
        assert (await app.post({"query": "SELECT pg_backend_pid() AS pid"})).json()["rows"][0]["pid"] == pid
    [event] = [each for each in app.answered() if each.status == 504]
    assert (event.outcome, event.reason, event.sqlstate) == ("limit", "DeadlineExceeded", "57014")
    assert [each.confirmed for each in app.events if isinstance(each, Cancelled)] == [True]


async def test_time_in_line_counts_and_the_place_there_is_given_up(app: RunningApp, database: Database) -> None:
    async with busy(app, database):
        call = await app.post({"query": "SELECT 1"}, sqlhttp_timeout="0.1")
        assert (call.status, call.json()["code"]) == (504, "53300")
        assert "were over in queue: queue " in call.json()["message"]
        assert call.json()["message"].endswith("; nothing was run")
        assert sum(pool.gate.waiting for pool in app.pools) == 0
    await until(lambda: not any(pool.gate.in_use for pool in app.pools))


async def test_time_for_opening_a_connection_counts(app: RunningApp, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await app.post({"query": "SELECT 1"})).status == 200
    [pool] = app.pools
    pool.reconnect()
    await until(lambda: not pool.idle and not pool.gate.in_use)
    opened = connect_module.open_connection
    may_open = asyncio.Event()

    async def slowly(**how: object) -> object:
        await may_open.wait()
        return await opened(**how)  # type: ignore[arg-type]

    monkeypatch.setattr(connect_module, "open_connection", slowly)
    call = await app.post({"query": "SELECT 1"}, sqlhttp_timeout="0.1")
    assert (call.status, call.json()["code"]) == (504, "53300")
    assert "were over in connect: queue 0.0" in call.json()["message"]
    may_open.set()
    await until(lambda: pool.idle == 1)
    assert pool.gate.in_use == 0, "the connection came, and stays for the next"


async def test_time_for_finding_out_who_asks_counts(app: RunningApp, database: Database) -> None:
    async with busy(app, database):
        call = await app.post({"query": "SELECT 1"}, url=database.as_role("nobody", "x").url, sqlhttp_timeout="0.1")
        assert call.status == 504
        assert "were over in authentication" in call.json()["message"]


async def test_batch_that_is_late_is_not_committed(app: RunningApp) -> None:
    await app.post({"query": "CREATE TABLE late (n int)"})
    batch = [{"query": "INSERT INTO late VALUES (1) RETURNING n"}, SLEEP]
    assert (await app.post({"queries": batch}, sqlhttp_timeout="0.2")).status == 504
    assert (await app.post({"query": "SELECT count(*)::int AS n FROM late"})).json()["rows"] == [{"n": 0}]


async def test_setting_holds_for_requests_that_ask_for_nothing(database: Database) -> None:
    async with running_app(database, request={"deadline": 0.2}) as app:
        call = await app.post(SLEEP)
        assert call.status == 504
        assert "0.2 s (request.deadline) were over in execute" in call.json()["message"]
        assert (await app.post({"query": "SELECT 1"})).status == 200


async def test_answer_made_in_time_has_to_be_sent_in_time_and_one_that_tells_of_lateness_has_not() -> None:
    deadline = Deadline(60.0, "test")
    deadline.drop()
    story = Story(Telling(), traceparent=None, bytes_in=0)
    story.succeeded([1])
    due = story.due(deadline)
    assert due is not None
    assert due.request_id == story.request_id
    assert 59.0 < due.when - asyncio.get_running_loop().time() <= 60.0
    story.refused(story.late(deadline))
    assert story.due(deadline) is None


async def test_program_that_leaves_is_no_deadline(app: RunningApp) -> None:
    asking = asyncio.create_task(app.post(SLEEP, sqlhttp_timeout="30"))
    await until(lambda: any(pool.leased for pool in app.pools))
    asking.cancel()
    await asyncio.wait({asking})
    assert asking.cancelled()
    assert app.answered()[-1].status == CLOSED_REQUEST


async def test_deadline_in_the_tick_of_another_cancellation_is_that_other_one() -> None:
    deadline: Deadline | None = None
    begun = asyncio.Event()

    async def work() -> str:
        nonlocal deadline
        deadline = Deadline(60.0, "test")
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            if deadline.has_ended():
                return "late"
            raise
        finally:
            deadline.drop()
        return ""

    for both in (False, True):
        begun.clear()
        task = asyncio.create_task(work())
        await begun.wait()
        assert deadline is not None
        deadline._pass()
        if both:
            task.cancel()
        await asyncio.wait({task})
        assert task.cancelled() is both
        assert task.cancelling() == int(both)


async def test_deadline_in_the_tick_of_the_end_leaves_the_task_as_it_was() -> None:
    deadline = Deadline(60.0, "test")
    task = asyncio.current_task()
    assert task is not None
    deadline._pass()
    deadline.drop()
    assert task.cancelling() == 0
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)  # which is the tick's own; whoever waits in it has caught it


def test_what_was_run_and_what_was_not_are_told_apart() -> None:
    assert (DeadlineExceeded.status, DeadlineExceeded.ran) == (504, HasRun.MAYBE)
    assert (DeadlineBeforeRun.status, DeadlineBeforeRun.ran, DeadlineBeforeRun.retryable) == (504, HasRun.NO, True)


def test_a_deadline_of_less_than_the_loops_clock_can_tell_is_one_all_the_same() -> None:
    """uvloop has no timer for so short a time."""

    async def run() -> None:
        deadline = deadline_for(b"0.000001", 0.0)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(5)
        assert deadline.has_ended()
        deadline.drop()

    uvloop.run(run())
