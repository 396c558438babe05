"""POST /cache/invalidate, on a real Postgres."""

import json
from collections.abc import AsyncIterator

import pytest

from sqlhttp_gateway.auth.api_keys import hash_of, new_key
from sqlhttp_gateway.endpoints import cache
from sqlhttp_gateway.errors import KeysUnreadable
from tests.support.asgi import DISCONNECT, Call, piece
from tests.support.cluster import Cluster, Database
from tests.support.program import scratch_role
from tests.support.running_app import RunningApp, running_app


@pytest.fixture
async def app(database: Database) -> AsyncIterator[RunningApp]:
    database.psql("CREATE TABLE t AS SELECT 1 AS id")
    async with running_app(database) as running:
        await running.hear_changes()
        yield running


async def end(app: RunningApp, body: object, **headers: str) -> Call:
    given = {"neon-connection-string": app.database.url} | {
        name.replace("_", "-"): each for name, each in headers.items()
    }
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    pairs = [(name.encode(), value.encode()) for name, value in given.items() if value]
    return await app.send(Call(piece(content), path="/cache/invalidate", headers=pairs))


async def is_hit(app: RunningApp, *, tags: str = "", **headers: str) -> bool:
    call = await app.post({"query": "SELECT * FROM t"}, cache_control="max-age=60", sqlhttp_cache_tags=tags, **headers)
    assert call.status == 200, call.body
    return "; hit" in call.headers["cache-status"]


@pytest.mark.parametrize(
    "body", [{"tags": ["t", "u"]}, {"relations": ["t"]}, {"relations": ["public.t"]}, {"all": True}]
)
async def test_what_is_named_is_gone_when_the_answer_comes(app: RunningApp, body: object) -> None:
    await is_hit(app, tags="t")
    assert await is_hit(app, tags="t")
    call = await end(app, body)
    assert (call.status, call.body) == (204, b"")
    assert not await is_hit(app, tags="t")


@pytest.mark.parametrize("body", [{"tags": ["u"]}, {"relations": ["u"]}])
async def test_what_is_not_named_stays(app: RunningApp, body: object) -> None:
    await is_hit(app, tags="t")
    assert (await end(app, body)).status == 204
    assert await is_hit(app, tags="t")


@pytest.mark.parametrize(
    "body", [b"", b"{", [], {}, {"tag": ["t"]}, {"tags": "t"}, {"tags": [1]}, {"tags": ["a b"]}, {"all": 1}]
)
async def test_body_that_names_nothing_is_refused(app: RunningApp, body: object) -> None:
    call = await end(app, body)
    assert (call.status, call.json()["code"]) == (400, "08P01")


async def test_body_that_is_too_large_is_refused(app: RunningApp) -> None:
    assert (await end(app, b" " * 70_000)).status == 413


async def test_body_that_does_not_arrive_is_given_up(app: RunningApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_READ_TIMEOUT", 0.01)
    call = await app.send(Call(piece(b"{", more=True), path="/cache/invalidate"))
    assert (call.status, call.json()["code"]) == (408, "57014")
    assert call.headers["sqlhttp-ran"] == "no"


async def test_refusal_says_when_to_come_again(app: RunningApp, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise KeysUnreadable("the table of keys cannot be read", retry_after=3)

    monkeypatch.setattr(cache.Invalidate, "run", refuse)
    call = await end(app, {"all": True})
    assert (call.status, call.headers["retry-after"]) == (503, "3")


async def test_wrong_password_ends_nothing(app: RunningApp, database: Database) -> None:
    await is_hit(app)
    call = await end(app, {"all": True}, neon_connection_string=database.as_role("postgres", "wrong").url)
    assert (call.status, call.json()["code"]) == (400, "28P01")
    assert await is_hit(app)


async def test_only_the_gateways_own_role_may_end_everything(
    app: RunningApp, database: Database, postgres: Cluster
) -> None:
    await is_hit(app)
    with scratch_role(postgres) as role:
        url = database.as_role(role, "secret").url
        call = await end(app, {"everywhere": True}, neon_connection_string=url)
        assert call.status == 400
        assert "admin.roles" in call.json()["message"]
    assert await is_hit(app)
    assert (await end(app, {"everywhere": True})).status == 204
    assert not await is_hit(app)


async def test_key_ends_its_own_answers_alone(database: Database) -> None:
    database.psql("CREATE TABLE t AS SELECT 1 AS id")
    keys = {}
    texts = []
    for _ in range(2):
        key = new_key()
        keys[key.id] = {"hash": hash_of(key), "database": database.name, "role": "postgres"}
        texts.append(key.text)
    async with running_app(database, keys=keys) as app:
        await app.hear_changes()
        mine, other = ({"authorization": f"Bearer {text}"} for text in texts)
        assert not await is_hit(app, tags="t", **mine)
        assert not await is_hit(app, tags="t", **other)
        assert (await end(app, {"tags": ["t"]}, **mine)).status == 204
        assert not await is_hit(app, tags="t", **mine)
        assert await is_hit(app, tags="t", **other)
        assert (await end(app, {"tags": ["t"]})).status == 204
        assert not await is_hit(app, tags="t", **other)


async def test_page_may_ask_and_read_what_became_of_it(app: RunningApp) -> None:
    call = await app.get("/cache/invalidate", method="OPTIONS")
    assert call.headers["access-control-allow-origin"] == "*"
    assert "Neon-Connection-String" in call.headers["access-control-allow-headers"]
    assert (call.headers["allow"], call.headers["access-control-allow-methods"]) == ("OPTIONS, POST", "POST")


async def test_without_a_cache_there_is_nothing_to_end(database: Database) -> None:
    async with running_app(database, cache={"max_bytes": 0}) as app:
        assert (await end(app, {"all": True})).status == 204


@pytest.mark.parametrize(
    ("peer", "told", "status"),
    [
        ("203.0.113.5", "", 400),
        ("192.0.2.7", "", 204),
        ("203.0.113.5", "192.0.2.7", 400),
        ("127.0.0.1", "192.0.2.7", 204),
        ("127.0.0.1", "203.0.113.5", 400),
    ],
)
async def test_who_may_not_come_in_may_not_end_answers_either(
    database: Database, peer: str, told: str, status: int
) -> None:
    """By the address of the connection, or by what a trusted proxy tells."""
    listen = {"allow_from": ["192.0.2.0/24"], "trusted_proxies": ["127.0.0.0/8"]}
    given = {"neon-connection-string": database.url, "x-forwarded-for": told}
    pairs = [(name.encode(), value.encode()) for name, value in given.items() if value]
    async with running_app(database, listen=listen) as app:
        call = Call(piece(b'{"all": true}'), path="/cache/invalidate", headers=pairs)
        call.scope["client"] = (peer, 1234)
        assert (await app.send(call)).status == status


async def test_credentials_that_come_twice_end_nothing(app: RunningApp) -> None:
    pairs = [(b"neon-connection-string", app.database.url.encode())] * 2
    call = await app.send(Call(piece(b'{"all": true}'), path="/cache/invalidate", headers=pairs))
    assert (call.status, json.loads(call.body)["message"]) == (400, "the header neon-connection-string came twice")


async def test_program_that_leaves_in_the_middle_of_its_body_is_no_fault_of_the_gateway(app: RunningApp) -> None:
    """What the application raises is logged as one, with a traceback, for whoever likes to fill a log."""
    headers = [(b"neon-connection-string", app.database.url.encode())]
    await app.send(Call(piece(b'{"tags"', more=True), DISCONNECT, path="/cache/invalidate", headers=headers))
