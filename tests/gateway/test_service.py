"""The life of one request: what is answered, and what is told of it."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sqlhttp_gateway.events import Answered, Bug
from sqlhttp_gateway.sql import carrier
from sqlhttp_gateway.story import CLOSED_REQUEST
from tests.support.asgi import DISCONNECT, Call, piece
from tests.support.cluster import Cluster, Database
from tests.support.program import scratch_role
from tests.support.running_app import RunningApp, running_app
from tests.support.watch import watching

ONE = {"query": "SELECT 1 AS a"}


@pytest.fixture
async def app(database: Database) -> AsyncIterator[RunningApp]:
    async with running_app(database, pool={"max_size": 2}) as running:
        yield running


def error_of(call: Call, status: int = 400) -> dict[str, Any]:
    assert call.status == status, call.body
    error: dict[str, Any] = call.json()
    return error


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_statement_is_answered_as_neon_answers(app: RunningApp) -> None:
    call = await app.post({"query": "SELECT $1::int AS a, 'é' AS b", "params": [42]})
    assert call.status == 200
    assert call.json() == {
        "fields": [
            {
                "name": "a",
                "dataTypeID": 23,
                "tableID": 0,
                "columnID": 0,
                "dataTypeSize": 4,
                "dataTypeModifier": -1,
                "format": "text",
            },
            {
                "name": "b",
                "dataTypeID": 25,
                "tableID": 0,
                "columnID": 0,
                "dataTypeSize": -1,
                "dataTypeModifier": -1,
                "format": "text",
            },
        ],
        "rows": [{"a": 42, "b": "é"}],
        "command": "SELECT",
        "rowCount": 1,
        "rowAsArray": False,
    }


async def test_headers_choose_the_form_and_the_statement_has_the_last_word(app: RunningApp) -> None:
    headers = {"neon_raw_text_output": "true", "neon_array_mode": "true"}
    assert (await app.post(ONE, **headers)).json()["rows"] == [["1"]]
    call = await app.post({"queries": [ONE, ONE | {"arrayMode": False}]}, **headers)
    assert [result["rows"] for result in call.json()["results"]] == [[["1"]], [{"a": "1"}]]


async def test_batch_echoes_how_its_transaction_began_and_a_statement_does_not(app: RunningApp) -> None:
    headers = {
        "neon_batch_read_only": "true",
        "neon_batch_deferrable": "true",
        "neon_batch_isolation_level": "Serializable",
    }
    call = await app.post({"queries": [{"query": "SHOW transaction_isolation"}]}, **headers)
    assert call.json()["results"][0]["rows"] == [{"transaction_isolation": "serializable"}]
    for name, value in headers.items():
        assert call.headers[name.replace("_", "-")] == value
    call = await app.post(ONE, **headers)
    assert not any(name.startswith("neon-batch") for name in call.headers)
    call = await app.post({"queries": [{"query": "selct"}]}, **headers)
    assert not any(name.startswith("neon-batch") for name in call.headers)


async def test_typed_values_know_the_arrays_of_the_database(app: RunningApp) -> None:
    await app.post({"query": "CREATE TYPE mood AS ENUM ('sad', 'ok')"})
    for _ in range(2):
        call = await app.post({"query": "SELECT ARRAY['sad', NULL, 'ok']::mood[] AS moods"})
        assert call.json()["rows"] == [{"moods": ["sad", None, "ok"]}]
    call = await app.post({"query": "SELECT ARRAY['sad']::mood[] AS moods"}, neon_raw_text_output="true")
    assert call.json()["rows"] == [{"moods": "{sad}"}]


async def test_every_answer_has_an_id_of_its_own(app: RunningApp) -> None:
    calls = [await app.post(ONE), await app.post({"query": "selct"}), await app.post(b"no json")]
    ids = [call.headers["neon-request-id"] for call in calls]
    assert len(set(ids)) == 3
    assert [event.request_id for event in app.answered()] == ids


async def test_body_in_a_coding_that_nobody_undoes_is_told_so_and_one_that_can_be_read_is_read(app: RunningApp) -> None:
    call = await app.post(gzip.compress(b'{"query": "SELECT 1"}'), content_encoding="gzip")
    assert "content-encoding gzip" in error_of(call, 415)["message"]
    assert call.headers["accept-encoding"] == "identity"
    assert (await app.post(ONE, content_encoding="utf-8")).status == 200
    call = await app.post({"query": "selct"}, content_encoding="gzip")
    assert error_of(call)["code"] == "42601"
    assert "accept-encoding" not in call.headers


# ── the order of the checks ──────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_wrong_first_is_told_first(app: RunningApp, database: Database) -> None:
    """Header, connection string, body, password, as with Neon."""
    bad_url, wrong = "nonsense", database.as_role("postgres", "wrong").url
    call = await app.post(b"{", url=bad_url, neon_batch_isolation_level="No")
    assert error_of(call)["message"] == "invalid isolation level"
    call = await app.post(b"{", url=bad_url)
    assert error_of(call)["message"].startswith("invalid connection string")
    call = await app.post(b"{", url=wrong)
    assert error_of(call)["message"].startswith("could not parse the HTTP request body")
    call = await app.post({"query": "selct"}, url=wrong)
    assert error_of(call)["message"].startswith("password authentication failed")
    call = await app.post({"query": "selct"})
    assert error_of(call)["code"] == "42601"


async def test_nothing_is_run_for_a_wrong_password(app: RunningApp, database: Database) -> None:
    await app.post({"query": "CREATE TABLE t (i int)"})
    call = await app.post({"query": "INSERT INTO t VALUES (1)"}, url=database.as_role("postgres", "wrong").url)
    assert error_of(call)["code"] == "28P01"
    assert database.psql("SELECT count(*) FROM t") == "0\n"


async def test_database_is_the_callers_and_the_host_is_not(app: RunningApp, database: Database) -> None:
    call = await app.post(
        {"query": "SELECT current_database()::text AS d"},
        url=f"postgres://postgres:postgres@169.254.169.254:1/{database.name}",
    )
    assert call.json()["rows"] == [{"d": database.name}]


async def test_role_is_the_callers(app: RunningApp, database: Database, postgres: Cluster) -> None:
    with scratch_role(postgres) as role:
        call = await app.post({"query": "SELECT current_user::text AS u"}, url=database.as_role(role, "secret").url)
        assert call.json()["rows"] == [{"u": role}]


# ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_statement_is_told_with_its_numbers(app: RunningApp, database: Database) -> None:
    body = b'{"query":"SELECT i FROM generate_series(1, 7) i"}'
    call = await app.post(body)
    await app.post(body)
    first, second = app.answered()
    assert (first.status, first.outcome, first.sqlstate, first.reason) == (200, "ok", "", "")
    assert (first.target, first.database, first.role) == ("default", database.name, "postgres")
    assert (first.statements, first.rows, first.is_batch, first.is_proven) == (1, 7, False, True)
    assert (first.bytes_in, first.bytes_out) == (len(body), len(call.body))
    assert (first.parsed, first.reused) == (1, 0)
    assert (second.parsed, second.reused) == (0, 1)
    assert 0 < first.executed < first.seconds
    assert first.waited > 0


async def test_batch_is_told_as_one(app: RunningApp) -> None:
    await app.post({"queries": [{"query": "SELECT 1"}, {"query": "SELECT i FROM generate_series(1, 4) i"}]})
    [event] = app.answered()
    assert (event.is_batch, event.statements, event.rows) == (True, 2, 5)


async def test_refusals_are_told_with_their_kind(app: RunningApp, database: Database) -> None:
    await app.post({"query": "selct"})
    await app.post(b"{")
    await app.post(ONE, url=database.as_role("postgres", "wrong").url)
    told = [(event.outcome, event.sqlstate, event.reason, event.is_proven) for event in app.answered()]
    assert told == [
        ("postgres", "42601", "PostgresError", True),
        ("client", "08P01", "BadRequest", False),
        ("auth", "28P01", "PasswordFailed", False),
    ]


async def test_program_that_leaves_is_told_as_cancelled(app: RunningApp, database: Database) -> None:
    call = Call(piece(b'{"query":"SELECT pg_sleep(60)"}'), headers=[(b"neon-connection-string", database.url.encode())])
    answering = asyncio.create_task(app.send(call))
    async with watching(database) as watch:
        await watch.until(1, "wait_event = 'PgSleep'")
        call.give(DISCONNECT)
        await answering
        await watch.until(0, "wait_event = 'PgSleep'")
    assert call.sent == []
    [event] = app.answered()
    assert (event.status, event.outcome, event.bytes_out) == (CLOSED_REQUEST, "cancelled", 0)


async def test_nothing_secret_is_told(app: RunningApp, database: Database) -> None:
    url = database.as_role("postgres", "hunter2").url
    await app.post({"query": "SELECT $1", "params": ["swordfish"]}, url=url)
    await app.post({"query": "SELECT $1", "params": ["swordfish"]})
    told = repr(app.events)
    assert "hunter2" not in told
    assert "swordfish" not in told


# ── what should not happen ───────────────────────────────────────────────────────────────────────────────────────────


async def test_bug_is_told_with_its_traceback_and_answered_without(
    app: RunningApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise ValueError("the password is hunter2")

    with monkeypatch.context() as patched:
        patched.setattr(carrier, "execute", fails)
        call = await app.post(ONE)
    error = error_of(call, 500)
    assert b"hunter2" not in call.body
    assert call.headers["neon-request-id"] in error["message"]
    assert (error["code"], error["severity"]) == ("XX000", "ERROR")
    [bug] = [event for event in app.events if isinstance(event, Bug)]
    assert bug.request_id == call.headers["neon-request-id"]
    assert str(bug.error) == "the password is hunter2"
    assert [event.outcome for event in app.answered()] == ["bug"]
    assert (await app.post(ONE)).status == 200, "and the connection is whole"


async def test_text_that_is_not_utf8_is_refused_in_words(app: RunningApp) -> None:
    call = await app.post(
        {"queries": [{"query": "SET client_encoding = 'LATIN1'"}, {"query": "SELECT chr(233)::text AS t"}]}
    )
    assert "not UTF-8" in error_of(call, 500)["message"]
    assert app.answered()[-1].reason == "ResultUnreadable"
    assert (await app.post({"query": "SELECT chr(233)::text AS t"})).json()["rows"] == [{"t": "é"}]


async def test_many_at_once_all_get_their_own_answers(app: RunningApp) -> None:
    calls = await asyncio.gather(
        *(app.post({"query": "SELECT $1::int AS a", "params": [number]}) for number in range(100))
    )
    assert [call.json()["rows"] for call in calls] == [[{"a": number}] for number in range(100)]
    assert all(isinstance(event, Answered) for event in app.answered())
