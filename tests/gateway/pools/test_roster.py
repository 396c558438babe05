"""A connection has its unit of the budget from its opening to the end of its socket, and an age at which it goes."""

import asyncio

import pytest

from sqlhttp_gateway.errors import PasswordFailed
from sqlhttp_gateway.events import Closed, Event, Opened
from sqlhttp_gateway.model import PoolKey
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.budget import Budget
from sqlhttp_gateway.pools.roster import Roster, age
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.settings import load_settings
from tests.support.clock import turns
from tests.support.cluster import Database
from tests.support.leases import until

DEADLINE = 20.0  # seconds


class Kept:
    """A roster with room for one connection, and what it told."""

    def __init__(self, database: Database, *, lifetime: float = 100.0) -> None:
        upstream = Targets(load_settings(database_url=database.url, pool={"max_lifetime": lifetime})).default
        self.key = PoolKey(upstream.target.name, database.name, database.role)
        self.budget = Budget(1, lambda: False)
        self.events: list[Event] = []
        self.lost: list[Backend] = []
        self.roster = Roster(self.key, upstream, self.budget, self.events.append, on_lost=self.lost.append)
        self._secret = database.password.encode()

    async def open(self) -> Backend:
        assert self.budget.try_reserve(self.key)
        return await self.roster.open(lambda: self._secret)

    @property
    def has_room(self) -> bool:
        if not self.budget.try_reserve(self.key):
            return False
        self.budget.give_back(self.key)
        return True


async def test_unit_of_the_budget_is_free_when_the_socket_is_gone(database: Database) -> None:
    kept = Kept(database)
    backend = await kept.open()
    assert kept.roster.secret == database.password.encode()
    assert not kept.has_room
    await kept.roster.close(backend, "idle")
    assert kept.has_room
    assert kept.lost == [backend]
    assert not kept.roster.ending
    assert [type(event) for event in kept.events] == [Opened, Closed]


async def test_unit_of_one_that_cannot_be_opened_is_given_back(database: Database) -> None:
    kept = Kept(database)
    assert kept.budget.try_reserve(kept.key)
    with pytest.raises(PasswordFailed):
        await kept.roster.open(lambda: b"not this one")
    assert kept.has_room
    assert kept.roster.secret == b""
    assert kept.events == []


async def test_connections_do_not_grow_old_all_at_once(database: Database) -> None:
    kept, now = Kept(database), asyncio.get_running_loop().time()
    ends = []
    for _ in range(5):
        backend = await kept.open()
        ends.append(backend.expires_at - now)
        assert age(backend) == "lifetime"
        await kept.roster.close(backend, "lifetime")
    assert len(set(ends)) == 5
    assert all(90 <= end < 100 + DEADLINE for end in ends)


async def test_all_are_replaced_those_that_are_just_being_opened_too(database: Database) -> None:
    kept = Kept(database)
    backend = await kept.open()
    kept.roster.expire_all()
    assert (age(backend), backend.expires_at < 0) == ("reconnect", True)
    await kept.roster.close(backend, age(backend))
    opening = asyncio.create_task(kept.open())
    await turns()
    kept.roster.expire_all()
    late = await opening
    assert age(late) == "reconnect"
    await kept.roster.close(late, age(late))
    last = await kept.open()
    assert age(last) == "lifetime"
    await kept.roster.close(last, "idle")


async def test_end_waits_for_what_nobody_else_waits_for_and_then_drops_the_rest(database: Database) -> None:
    kept = Kept(database)
    backend = await kept.open()
    done: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0)
        done.append("done")

    kept.roster.spawn(work())
    await kept.roster.wait_closed(DEADLINE, {}, {})
    assert done == ["done"]
    assert not kept.lost
    await kept.roster.wait_closed(0.01, {backend: 0.0}, {})
    await until(lambda: kept.lost == [backend])
    assert kept.has_room


async def test_statements_of_all_connections_grow_old_together(database: Database) -> None:
    kept = Kept(database)
    backend = await kept.open()
    backend.statements.add("SELECT $1", backend.statements.new_name("SELECT $1"))
    kept.roster.age_statements()
    assert backend.statements.find("SELECT $1") is not None
    kept.roster.age_statements()
    assert backend.statements.find("SELECT $1") is None
    await kept.roster.close(backend, "idle")
