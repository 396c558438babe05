"""A request's lease: another one where nothing ran, the same number of tries at most, always given back."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from sqlhttp_gateway.errors import ConnectionBroken, PostgresError
from sqlhttp_gateway.execute.outcome import NothingRan
from sqlhttp_gateway.sql import carrier
from sqlhttp_gateway.sql.attempts import ATTEMPTS
from tests.support.cluster import Database
from tests.support.running_app import RunningApp, running_app

ONE = {"query": "SELECT 1 AS a"}


@pytest.fixture
async def app(database: Database) -> AsyncIterator[RunningApp]:
    async with running_app(database, pool={"max_size": 2}) as running:
        yield running


def in_use(app: RunningApp) -> int:
    return sum(pool.gate.in_use for pool in app.pools)


async def test_request_that_met_a_connection_at_its_end_goes_to_another(
    app: RunningApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = carrier.execute
    ends = ATTEMPTS - 1

    async def met(*args: Any, **kwargs: Any) -> Any:
        nonlocal ends
        if ends:
            ends -= 1
            raise NothingRan(PostgresError({"C": "57P01", "M": "terminating connection", "S": "FATAL"}))
        return await execute(*args, **kwargs)

    monkeypatch.setattr(carrier, "execute", met)
    assert (await app.post(ONE)).status == 200
    ends = 100
    call = await app.post(ONE)
    assert (call.status, call.json()["code"]) == (400, "57P01")
    assert ends == 100 - ATTEMPTS
    assert in_use(app) == 0


async def test_request_that_may_have_run_is_not_tried_again(app: RunningApp, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0

    async def broke(*_: object, **__: object) -> None:
        nonlocal tries
        tries += 1
        raise ConnectionBroken("lost")

    monkeypatch.setattr(carrier, "execute", broke)
    call = await app.post(ONE)
    assert (call.status, call.json()["code"]) == (400, "08006")
    assert tries == 1
    assert in_use(app) == 0


async def test_what_a_lease_has_cost_is_told(app: RunningApp) -> None:
    await app.post(ONE)
    await app.post(ONE)
    first, second = app.answered()
    assert min(first.waited, first.executed, second.waited, second.executed) > 0
    assert (first.parsed, second.parsed, second.reused) == (1, 0, 1)
