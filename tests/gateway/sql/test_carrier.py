"""Carrying out: the comment of a trace, the limits of a tenant, and reading without leave to write."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from sqlhttp_gateway.errors import PostgresError, ResponseTooLarge, StatementTimeout
from sqlhttp_gateway.events import unobserved
from sqlhttp_gateway.execute.limits import Limits
from sqlhttp_gateway.model import Allowance, Options, Statement
from sqlhttp_gateway.sql.carrier import Carrier
from sqlhttp_gateway.story import Story, Telling
from tests.support.cluster import Database
from tests.support.running_app import RunningApp, running_app

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def app(database: Database) -> AsyncIterator[RunningApp]:
    async with running_app(database, trace={"comment": True}) as running:
        yield running


async def test_every_statement_of_a_sampled_trace_carries_its_comment(app: RunningApp) -> None:
    asking = {"query": "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()"}
    call = await app.post({"queries": [asking, asking]}, traceparent=SAMPLED)
    texts = [result["rows"][0]["query"] for result in call.json()["results"]]
    assert [text.endswith(f"/*traceparent='{SAMPLED}'*/") for text in texts] == [True, True]
    assert "/*" not in (await app.post(asking)).json()["rows"][0]["query"]
    once = await app.post(asking, traceparent=SAMPLED, idempotency_key="a")
    assert once.json()["rows"][0]["query"].endswith(f"/*traceparent='{SAMPLED}'*/")


async def test_what_the_gateway_wants_to_know_cannot_write(app: RunningApp, database: Database) -> None:
    await app.post({"query": "CREATE TABLE t (i int)"})
    assert app.app._sql is not None
    service = app.app._sql._service
    caller = service._authenticator.recall(database.url.encode(), None, b"")
    assert caller is not None
    access = await service._ways.of(caller, database.url.encode(), None)
    story = Story(Telling(), traceparent=None, bytes_in=0)
    ran = await service._carrier.read(access, Statement("SELECT 1"), Options(), story)
    assert ran.results[0].row_count == 1
    with pytest.raises(PostgresError) as error:
        await service._carrier.read(access, Statement("INSERT INTO t VALUES (1)"), Options(), story)
    assert error.value.code == "25006"
    assert database.psql("SELECT count(*) FROM t") == "0\n"


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (StatementTimeout("too long"), "For this tenant it is 5 s (limits.statement_timeout)."),
        (ResponseTooLarge("too large"), "For this tenant it is 50 bytes (limits.max_response_bytes)."),
    ],
)
def test_lower_limit_of_a_tenant_is_named_as_what_it_is(error: StatementTimeout | ResponseTooLarge, hint: str) -> None:
    nobody = cast(Any, None)
    limits = Limits(max_bytes=100, statement_timeout=10)
    carrier = Carrier(nobody, registry=nobody, probes=nobody, limits=limits, observe=unobserved)
    carrier.explain(error, Allowance(statement_timeout=20, max_response_bytes=200))
    assert error.hint != hint
    carrier.explain(error, Allowance(statement_timeout=5, max_response_bytes=50))
    assert error.hint == hint
