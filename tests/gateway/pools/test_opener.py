"""A connection is opened as the settings say, and what came of it is told to the server's breaker."""

import asyncio
import socket

import pytest

from sqlhttp_gateway.errors import PasswordFailed, TargetUnavailable
from sqlhttp_gateway.model import PoolKey
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.breaker import Breaker
from sqlhttp_gateway.pools.budget import Budget
from sqlhttp_gateway.pools.opener import CLOSE_TIMEOUT, Opener
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.settings import load_settings
from tests.support.cluster import Database
from tests.support.gateway import free_port
from tests.support.leases import until


def opener(
    database: Database, lost: list[Backend] | None = None, *, budget: Budget | None = None
) -> tuple[Opener, Breaker]:
    """One for this database, with a breaker that opens at the first failure."""
    settings = load_settings(database_url=database.url, breaker={"failures": 1})
    upstream = Targets(settings).default
    breaker = Breaker("server", settings.breaker, on_open=lambda error: None, observe=lambda event: None)
    key = PoolKey(upstream.target.name, database.name, database.role)
    return Opener(
        key, upstream, budget or Budget(9, lambda: False), breaker, on_lost=[].append if lost is None else lost.append
    ), breaker


async def test_connection_knows_how_long_it_took_to_open_and_tells_when_it_is_lost(database: Database) -> None:
    lost: list[Backend] = []
    opening, breaker = opener(database, lost)
    backend = await opening.open(database.password.encode())
    assert backend.connect_seconds > 0.0
    assert opening.under_way == 0
    assert not breaker.is_open
    await backend.close(CLOSE_TIMEOUT)
    assert lost == [backend]


async def test_wrong_password_is_no_failure_of_the_server(database: Database) -> None:
    opening, breaker = opener(database)
    with pytest.raises(PasswordFailed):
        await opening.open(b"not this one")
    assert opening.under_way == 0
    assert not breaker.is_open


async def test_server_that_is_not_there_is_tried_until_it_is(database: Database) -> None:
    opening, breaker = opener(database)
    there = opening.upstream
    nowhere, _ = opener(Database("127.0.0.1", free_port(), database.name, database.role, database.password))
    opening.upstream = nowhere.upstream
    with pytest.raises(TargetUnavailable):
        await opening.open(database.password.encode())
    assert opening.under_way == 0
    assert breaker.is_open
    opening.upstream = there
    await until(lambda: not breaker.is_open)
    await breaker.stop()


async def test_server_is_tried_by_the_opener_that_was_made_or_changed_last(database: Database) -> None:
    """The one that has seen it fail may be of a pool that nobody has any more, and lead to where nothing is."""
    opening, breaker = opener(database)
    there = opening.upstream
    nowhere, _ = opener(Database("127.0.0.1", free_port(), database.name, database.role, database.password))

    async def goes_down() -> None:
        opening.reconfigure(nowhere.upstream)
        with pytest.raises(TargetUnavailable):
            await opening.open(database.password.encode())
        assert breaker.is_open

    await goes_down()
    lost: list[Backend] = []
    later = Opener(opening._key, there, opening._budget, breaker, on_lost=lost.append)
    await until(lambda: not breaker.is_open)
    await goes_down()
    later.reconfigure(there)
    await until(lambda: not breaker.is_open)
    await breaker.stop()


async def test_tries_of_a_server_that_accepts_and_never_answers_keep_to_the_bound(database: Database) -> None:
    """All but one of them, where the bound is reached by others."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        port = silent.getsockname()[1]
        budget = Budget(2, lambda: False)
        opening, _ = opener(Database("127.0.0.1", port, database.name, database.role, database.password), budget=budget)
        tries = [asyncio.ensure_future(opening._probe()) for _ in range(6)]
        taken = [(await asyncio.get_running_loop().sock_accept(silent))[0] for _ in range(3)]
        assert [each.result() for each in tries if each.done()] == [False] * 3
        assert budget.used == 2
        for each in tries:
            each.cancel()
        await asyncio.wait(tries)
        assert budget.used == 0
        again = asyncio.ensure_future(opening._probe())
        taken.append((await asyncio.get_running_loop().sock_accept(silent))[0])
        again.cancel()
        await asyncio.wait({again})
        for connection in taken:
            connection.close()
