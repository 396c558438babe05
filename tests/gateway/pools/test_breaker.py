"""When a server is given up, and when it is back. Tries are played; time is moved by hand."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from sqlhttp_gateway.errors import (
    ConnectRefused,
    GatewayError,
    PasswordFailed,
    TargetDown,
    TargetOverloaded,
    TargetUnavailable,
)
from sqlhttp_gateway.events import Event, TargetChanged
from sqlhttp_gateway.pools.breaker import Breaker
from sqlhttp_gateway.settings import BreakerSettings
from tests.support.clock import LoopClock, fake_time, turns
from tests.support.cluster import Cluster, Database, running_cluster
from tests.support.leases import leases, refusal, until

ABSENT = TargetUnavailable("target t: cannot connect to Postgres: Connection refused")


class Server:
    """What a try meets."""

    def __init__(self) -> None:
        self.error: GatewayError | None = ABSENT
        self.tries = 0
        self.under_way: list[int] = []
        """The numbers of the tries that have not ended."""
        self.has_room = True
        self.is_silent = False
        """Tries come to no end."""
        self.told: list[GatewayError] = []
        self.events: list[Event] = []
        self.breaker = Breaker(
            "t",
            BreakerSettings(failures=3, probe_interval=0.25),
            on_open=self.told.append,
            observe=self.events.append,
            chance=lambda: 0.5,
        )

    async def probe(self) -> bool:
        if not self.has_room:
            return False
        self.tries += 1
        if self.is_silent:
            number = self.tries
            self.under_way.append(number)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self.under_way.remove(number)
        if self.error is not None:
            raise self.error
        return True

    def fail(self, error: GatewayError = ABSENT, times: int = 1) -> None:
        for _ in range(times):
            self.breaker.failed(error, self.probe)


@pytest.fixture
async def clock() -> AsyncIterator[LoopClock]:
    with fake_time() as clock:
        yield clock


@pytest.fixture
async def server(clock: LoopClock) -> AsyncIterator[Server]:
    server = Server()
    yield server
    await server.breaker.stop()


async def test_some_failures_in_a_row_open_it_and_tell_those_who_wait(server: Server) -> None:
    server.fail(times=2)
    assert not server.breaker.is_open
    server.fail()
    assert server.breaker.is_open
    [error] = server.told
    assert isinstance(error, TargetDown)
    assert (error.status, error.sqlstate, error.retryable, error.retry_after) == (503, "08001", True, 1)
    assert error.message == (
        "target t has been unreachable for 0.0 s, after 3 failures in a row: "
        "target t: cannot connect to Postgres: Connection refused"
    )
    assert server.events == [TargetChanged("t", is_up=False, reason=ABSENT.message)]
    server.fail(times=5)
    assert len(server.told) == 1, "once"


async def test_success_between_failures_begins_the_count_anew(server: Server) -> None:
    server.fail(times=2)
    server.breaker.succeeded()
    server.fail(times=2)
    assert not server.breaker.is_open


@pytest.mark.parametrize(
    "answer",
    [
        TargetOverloaded({"C": "53300", "M": "sorry, too many clients already"}),
        ConnectRefused({"C": "28000", "M": "no pg_hba.conf entry"}),
    ],
)
async def test_server_that_says_no_is_there(server: Server, answer: GatewayError) -> None:
    server.fail(times=2)
    server.fail(answer)
    server.fail(times=2)
    assert not server.breaker.is_open


async def test_password_that_was_never_sent_says_nothing_of_the_server(server: Server) -> None:
    server.fail(times=2)
    server.fail(PasswordFailed("no"))
    server.fail()
    assert server.breaker.is_open


async def test_server_that_starts_or_stops_is_not_there_yet(server: Server) -> None:
    server.fail(TargetOverloaded({"C": "57P03", "M": "the database system is starting up"}), times=3)
    assert server.breaker.is_open


async def test_no_number_of_failures_is_never_enough() -> None:
    server = Server()
    server.breaker.reconfigure(BreakerSettings(failures=0))
    server.fail(times=100)
    assert not server.breaker.is_open


async def test_it_is_tried_at_intervals_until_it_is_back(server: Server, clock: LoopClock) -> None:
    server.fail(times=3)
    for number in range(1, 5):
        await turns()
        clock.advance(0.26)
        await turns()
        assert server.tries == number
        assert server.breaker.is_open
    server.error = None
    clock.advance(0.26)
    await turns()
    assert not server.breaker.is_open
    change = server.events[-1]
    assert isinstance(change, TargetChanged)
    assert change.is_up
    assert change.seconds == pytest.approx(1.3)
    clock.advance(10)
    await turns()
    assert server.tries == 5, "and no more after that"


async def test_it_is_tried_where_connections_would_be_opened_now(server: Server, clock: LoopClock) -> None:
    """Whoever saw it fail may belong to settings that are no longer in force."""
    server.fail(times=3)
    elsewhere = Server()
    elsewhere.error = None
    server.breaker.probe_by(elsewhere.probe)
    await turns()
    clock.advance(0.26)
    await turns()
    assert (server.tries, elsewhere.tries) == (0, 1)
    assert not server.breaker.is_open


async def test_server_that_nobody_connects_to_any_more_is_not_tried(server: Server, clock: LoopClock) -> None:
    server.fail(times=3)
    server.breaker.forget()
    assert not server.breaker.is_open
    await turns()
    clock.advance(1.0)
    await turns()
    assert server.tries == 0
    assert server.events[-1] == TargetChanged("t", is_up=True, seconds=0.0)


async def test_tries_that_come_to_no_end_do_not_hold_up_the_next(server: Server, clock: LoopClock) -> None:
    server.is_silent = True
    server.fail(times=3)
    for _ in range(4):
        await turns()
        clock.advance(0.26)
        await turns()
    server.is_silent, server.error = False, None
    clock.advance(0.26)
    await turns()
    assert not server.breaker.is_open
    assert len(asyncio.all_tasks()) == 1, "the others were ended"


async def test_no_more_than_a_few_tries_are_under_way_and_the_oldest_keeps_its_time(
    server: Server, clock: LoopClock
) -> None:
    """Each is a connection; a server that is slow needs one that is not given up for a newer one."""
    server.is_silent = True
    server.fail(times=3)
    seen = []
    for _ in range(6):
        await turns()
        clock.advance(0.26)
        await turns()
        await turns()  # one has to end before another begins
        seen.append(list(server.under_way))
    assert seen == [[1], [1, 2], [1, 2, 3], [1, 3, 4], [1, 4, 5], [1, 5, 6]]
    server.is_silent, server.error = False, None
    clock.advance(0.26)
    await turns()
    assert not server.breaker.is_open
    assert server.under_way == []


async def test_try_for_which_there_was_no_room_says_nothing_of_the_server(server: Server, clock: LoopClock) -> None:
    server.fail(times=3)
    server.has_room, server.error = False, None
    await turns()
    clock.advance(0.26)
    await turns()
    assert server.breaker.is_open
    server.has_room = True
    clock.advance(0.26)
    await turns()
    assert not server.breaker.is_open


async def test_server_that_refuses_the_gateway_s_own_role_is_back(server: Server, clock: LoopClock) -> None:
    server.fail(times=3)
    server.error = PasswordFailed("no")
    await turns()
    clock.advance(0.26)
    await turns()
    assert not server.breaker.is_open


# ── a real one ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


async def test_requests_are_refused_at_once_while_postgres_is_down_and_served_soon_after_it_is_back(
    own_cluster: Cluster,
) -> None:
    loop = asyncio.get_running_loop()
    database = Database(own_cluster.host, own_cluster.port, "postgres")
    async with leases(database, pool={"max_size": 2, "wait_timeout": 20}, breaker={"failures": 3}) as lending:
        assert await lending.value("SELECT 1") == "1"
        await asyncio.to_thread(own_cluster.stop)
        waiting = [asyncio.create_task(refusal(lending.value("SELECT 1"))) for _ in range(50)]
        began = loop.time()
        errors = await asyncio.gather(*waiting)
        assert loop.time() - began < 10.0, "and not the 20 s that they may wait"
        assert {type(error) for error in errors} <= {TargetUnavailable, TargetDown}
        breaker = lending.pool.breaker
        assert breaker is not None
        await until(lambda: breaker.is_open)
        assert isinstance(await refusal(lending.pool.log_in(b"x")), TargetDown)
        began = loop.time()
        for _ in range(100):
            assert isinstance(await refusal(lending.lease()), TargetDown)
        assert loop.time() - began < 5.0, "and not once the 20 s that they may wait"
        await until(lambda: not lending.pool.gate.in_use)  # what was being closed has been, and nothing was lost
        starting = asyncio.create_task(asyncio.to_thread(own_cluster.start))
        accepted = await first_accept(database)
        await until(lambda: not breaker.is_open)
        served = await lending.value("SELECT 1")
        took = loop.time() - accepted
        await starting
        print(f"\nserved {took:.3f} s after Postgres accepted connections")
        assert served == "1"
        assert took < 1.0 + 1.0, "one of them is for a busy machine"
        assert [event.is_up for event in lending.told(TargetChanged)] == [False, True]


async def first_accept(database: Database) -> float:
    """The moment from which on Postgres lets somebody in."""
    async with asyncio.timeout(30):
        while True:
            try:
                connection = await database.connect()
            except Exception:
                await asyncio.sleep(0.005)
            else:
                moment = asyncio.get_running_loop().time()
                await connection.close()
                return moment
