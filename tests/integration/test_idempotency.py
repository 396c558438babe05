"""A write that carries an Idempotency-Key is carried out once, however often and however closely together it comes."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.asgi import DISCONNECT, Call, piece
from tests.support.cluster import Cluster, Database
from tests.support.issuer import sign
from tests.support.program import scratch_role
from tests.support.running_app import RunningApp, running_app
from tests.support.watch import watching

INSERT = {"query": "INSERT INTO orders (what) VALUES ($1) RETURNING id, what", "params": ["tea"]}


@pytest.fixture
async def app(database: Database) -> AsyncIterator[RunningApp]:
    database.psql("CREATE TABLE orders (id serial PRIMARY KEY, what text UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    async with running_app(database, pool={"max_size": 4}, idempotency={"wait": 0.2}) as running:
        yield running


def orders(database: Database) -> str:
    return database.psql("SELECT string_agg(what, ',' ORDER BY id) FROM orders").strip()


def code_of(call: Call, status: int) -> Any:
    assert call.status == status, call.body
    return call.json()["code"]


async def test_second_request_gets_the_first_ones_answer_byte_for_byte_and_runs_nothing(
    app: RunningApp, database: Database
) -> None:
    first = await app.post(INSERT, idempotency_key="a")
    second = await app.post(INSERT, idempotency_key='"a"')
    assert (first.status, first.json()["rows"]) == (200, [{"id": 1, "what": "tea"}])
    assert (second.status, second.body) == (200, first.body)
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert orders(database) == "tea"


async def test_batch_is_carried_out_once_and_its_headers_are_told_again(app: RunningApp, database: Database) -> None:
    batch = {"queries": [INSERT, INSERT | {"params": ["milk"]}, {"query": "SELECT count(*) FROM orders"}]}
    calls = [await app.post(batch, idempotency_key="a", neon_batch_isolation_level="Serializable") for _ in range(3)]
    assert {call.body for call in calls} == {calls[0].body}
    assert [call.headers["neon-batch-isolation-level"] for call in calls] == ["Serializable"] * 3
    assert calls[0].json()["results"][2]["rows"] == [{"count": "2"}]
    assert orders(database) == "tea,milk"


async def test_same_key_with_another_request_is_refused(app: RunningApp, database: Database) -> None:
    await app.post(INSERT, idempotency_key="a")
    assert code_of(await app.post(INSERT | {"params": ["milk"]}, idempotency_key="a"), 422) == "22023"
    assert code_of(await app.post(INSERT, idempotency_key="a", neon_array_mode="true"), 422) == "22023"
    assert orders(database) == "tea"


async def test_failure_keeps_nothing_and_the_key_is_free_again(app: RunningApp, database: Database) -> None:
    """Also one that Postgres finds only at COMMIT."""
    database.psql("INSERT INTO orders (what) VALUES ('tea')")
    for _ in range(2):
        assert code_of(await app.post(INSERT, idempotency_key="a"), 400) == "23505"
    database.psql("DELETE FROM orders")
    assert (await app.post(INSERT, idempotency_key="a")).status == 200
    assert code_of(await app.post({"query": "selct"}, idempotency_key="b"), 400) == "42601"
    assert database.psql("SELECT count(*) FROM sqlhttp.idempotency_keys").strip() == "1"


async def test_request_waits_for_one_in_flight_and_is_refused_with_a_time_when_that_takes_too_long(
    app: RunningApp, database: Database
) -> None:
    slow = {"queries": [INSERT, {"query": "SELECT pg_sleep(60)"}]}
    first = Call(
        piece(__import__("json").dumps(slow).encode()),
        headers=[(b"neon-connection-string", database.url.encode()), (b"idempotency-key", b"a")],
    )
    running = asyncio.create_task(app.send(first))
    async with watching(database) as watch:
        await watch.until(1, "wait_event = 'PgSleep'")
        call = await app.post(slow, idempotency_key="a")
        assert code_of(call, 409) == "55P03"
        assert call.headers["retry-after"] == "1"
        first.give(DISCONNECT)
        await running
        await watch.until(0, "wait_event = 'PgSleep'")
    assert orders(database) == ""
    assert (await app.post({"queries": [INSERT]}, idempotency_key="a")).status == 200, (
        "what was rolled back took nothing"
    )


async def test_many_at_once_are_carried_out_once(app: RunningApp, database: Database) -> None:
    calls = await asyncio.gather(*(app.post(INSERT, idempotency_key="a") for _ in range(40)))
    answered = [call for call in calls if call.status == 200]
    assert len({call.body for call in answered}) == 1
    assert all(code_of(call, 409) == "55P03" for call in calls if call.status != 200)
    assert orders(database) == "tea"


@pytest.mark.parametrize("level", ["RepeatableRead", "Serializable"])
async def test_stricter_isolation_carries_out_once_too(app: RunningApp, database: Database, level: str) -> None:
    batch = {"queries": [INSERT]}
    calls = await asyncio.gather(
        *(app.post(batch, idempotency_key="a", neon_batch_isolation_level=level) for _ in range(12))
    )
    assert {call.status for call in calls} <= {200, 409}
    assert len({call.body for call in calls if call.status == 200}) == 1
    assert orders(database) == "tea"


async def test_key_is_new_after_its_lifetime(database: Database, app: RunningApp) -> None:
    await app.post(INSERT, idempotency_key="a")
    database.psql("UPDATE sqlhttp.idempotency_keys SET expires_at = now() - interval '1 second'; DELETE FROM orders")
    call = await app.post(INSERT, idempotency_key="a")
    assert call.json()["rows"] == [{"id": 2, "what": "tea"}]
    assert "idempotent-replayed" not in call.headers


async def test_what_is_past_its_lifetime_goes_with_later_answers(database: Database, app: RunningApp) -> None:
    for number in range(3):
        await app.post(INSERT | {"params": [str(number)]}, idempotency_key=str(number))
    database.psql("UPDATE sqlhttp.idempotency_keys SET expires_at = now() - interval '1 second'")
    await app.post(INSERT, idempotency_key="new")
    assert database.psql("SELECT count(*) FROM sqlhttp.idempotency_keys").strip() == "1"


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_what_is_past_its_lifetime_goes_in_the_stricter_levels_too(
    database: Database, app: RunningApp, level: str
) -> None:
    """With one answer in sixteen, and without a failure where somebody else removes it just then."""
    await app.post(INSERT, idempotency_key="a")
    given = "'\\x{}', '\\x00', (SELECT substr(sha256(secret), 1, 8) FROM sqlhttp.idempotency_secret), 60, 1000"
    answer = "SELECT sqlhttp.begin_once({0}); SELECT sqlhttp.keep_answer('\\x{1}', '\\x00')"
    keep = {first: answer.format(given.format(first + "00"), first + "00") for first in ("ff", "0f", "00")}
    old = "UPDATE sqlhttp.idempotency_keys SET expires_at = now() - interval '1 second'"
    count = "SELECT count(*) FROM sqlhttp.idempotency_keys"
    connection = await database.connect()
    for first, left in (("ff", 2), ("0f", 1)):
        database.psql(old)
        async with connection.transaction():
            await connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
            await connection.execute(keep[first])
        assert await connection.fetchval(count) == left
    if level == "REPEATABLE READ":
        database.psql(old)
        async with connection.transaction():
            await connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
            await connection.execute("SELECT 1")
            database.psql("DELETE FROM sqlhttp.idempotency_keys")
            await connection.execute(keep["00"])
        assert await connection.fetchval(count) == 1
    await connection.close()


async def test_answer_that_is_too_large_to_keep_is_refused_and_rolled_back(database: Database) -> None:
    database.psql("CREATE TABLE orders (what text)")
    async with running_app(database, idempotency={"max_answer_bytes": 1000}) as app:
        large = {"query": "INSERT INTO orders VALUES (repeat('x', 1000)) RETURNING what"}
        call = await app.post(large, idempotency_key="a")
        assert code_of(call, 507) == "54000"
        assert "idempotency.max_answer_bytes" in call.json()["message"]
        assert database.psql("SELECT count(*) FROM orders").strip() == "0"
        assert (await app.post({"query": "SELECT 1"})).status == 200


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK", "/* a */ END"])
async def test_request_cannot_end_the_transaction_that_holds_its_key(
    app: RunningApp, database: Database, end: str
) -> None:
    call = await app.post({"queries": [INSERT, {"query": end}]}, idempotency_key="a")
    assert code_of(call, 400) == "0A000"
    assert orders(database) == ""


async def test_what_only_reads_by_postgres_own_rule_takes_no_key(app: RunningApp, database: Database) -> None:
    batch = {"queries": [{"query": "SELECT count(*) FROM orders"}]}
    for _ in range(2):
        call = await app.post(batch, idempotency_key="a", neon_batch_read_only="true")
        assert (call.status, "idempotent-replayed" in call.headers) == (200, False)


async def test_stream_of_copy_is_refused_and_the_connection_stays_clean(app: RunningApp) -> None:
    call = await app.post({"query": "COPY orders FROM STDIN"}, idempotency_key="a")
    assert code_of(call, 400) == "0A000"
    assert (await app.post({"query": "SELECT 1 AS a"})).json()["rows"] == [{"a": 1}]


async def test_caller_can_neither_read_keys_nor_plant_an_answer(
    app: RunningApp, database: Database, postgres: Cluster
) -> None:
    await app.post(INSERT, idempotency_key="a")
    with scratch_role(postgres) as role:
        url = database.as_role(role, "secret").url
        for text in (
            "SELECT * FROM sqlhttp.idempotency_keys",
            "SELECT * FROM sqlhttp.idempotency_secret",
            "DELETE FROM sqlhttp.idempotency_keys",
        ):
            assert code_of(await app.post({"query": text}, url=url), 400) == "42501"
        planted = {"query": "SELECT sqlhttp.keep_answer($1, $2)", "params": ["\\x00", "\\x00"]}
        assert code_of(await app.post(planted, url=url), 400) == "SH003"


async def test_role_that_may_do_little_can_have_keys(app: RunningApp, database: Database, postgres: Cluster) -> None:
    with scratch_role(postgres) as role:
        database.psql(f"GRANT INSERT, SELECT ON orders TO {role}; GRANT USAGE ON SEQUENCE orders_id_seq TO {role}")
        url = database.as_role(role, "secret").url
        bodies = {(await app.post(INSERT, url=url, idempotency_key="a")).body for _ in range(2)}
        assert len(bodies) == 1
        assert (await app.post(INSERT | {"params": ["mine"]}, idempotency_key="a")).status == 200, "another role's key"
        assert orders(database) == "tea,mine"
        database.psql(f"DROP OWNED BY {role}")


@pytest.mark.parametrize(
    "what", ["SCHEMA sqlhttp CASCADE", "TABLE sqlhttp.idempotency_keys", "TABLE sqlhttp.idempotency_secret"]
)
async def test_table_that_is_gone_is_made_again_and_no_request_is_run_without_it(
    app: RunningApp, database: Database, what: str
) -> None:
    await app.post(INSERT, idempotency_key="a")
    database.psql(f"DROP {what}; DELETE FROM orders")
    for _ in range(2):
        assert (await app.post(INSERT, idempotency_key="a")).status == 200
    assert orders(database) == "tea"


async def test_gateways_with_the_secret_of_a_table_that_was_made_anew_carry_out_once_still(
    app: RunningApp, database: Database
) -> None:
    """As when the database was dropped and restored: each has its own memory of the former."""
    database.psql("CREATE TABLE notes (v text)")
    write = {"query": "INSERT INTO notes VALUES ('once') RETURNING v"}
    async with running_app(database) as other:
        for each in (app, other):
            assert (await each.post(INSERT, idempotency_key="before")).status == 200
        database.psql("DROP SCHEMA sqlhttp CASCADE")
        calls = [await each.post(write, idempotency_key="behind") for each in (app, other, app)]
    assert [call.headers.get("idempotent-replayed") for call in calls] == [None, "true", "true"]
    assert {call.body for call in calls} == {calls[0].body}
    assert database.psql("SELECT count(*) FROM notes") == "1\n"


async def test_database_without_the_table_says_how_to_get_one(database: Database) -> None:
    async with running_app(database, idempotency={"create": False}) as app:
        call = await app.post(INSERT, idempotency_key="a")
        assert code_of(call, 500) == "F0000"
        assert "sqlhttp idempotency install" in call.json()["hint"]


async def test_schema_that_somebody_else_made_is_not_trusted(database: Database, postgres: Cluster) -> None:
    with scratch_role(postgres) as role:
        database.psql(f"CREATE SCHEMA sqlhttp AUTHORIZATION {role}")
        async with running_app(database) as app:
            call = await app.post(INSERT, idempotency_key="a")
        assert code_of(call, 500) == "F0000"
        assert "schema sqlhttp" in call.json()["message"]
        database.psql(f"DROP SCHEMA sqlhttp; REASSIGN OWNED BY {role} TO postgres")


async def test_bad_key_is_named(app: RunningApp) -> None:
    call = await app.post(INSERT, idempotency_key="k" * 256)
    assert code_of(call, 400) == "08P01"
    assert "256 characters (max is 255)" in call.json()["message"]


def bearer(secret: str, **claims: object) -> str:
    claims = {"exp": int(time.time()) + 600, **claims}
    return "Bearer " + sign("HS256", secret.encode(), {"alg": "HS256"}, claims)


@pytest.mark.parametrize("name", ["user", "sub"])
async def test_holders_of_tokens_that_name_no_subject_do_not_get_each_others_answers(
    database: Database, name: str
) -> None:
    """A subject is a text (RFC 7519); a number, or another claim, tells who somebody is as well."""
    database.psql("CREATE TABLE said (who text)")
    secret = "s" * 32
    add = "INSERT INTO said VALUES (current_setting('request.jwt.claims')::jsonb->>$1) RETURNING who"
    body = {"query": add, "params": [name]}
    issuers = {"mine": {"secret": secret, "roles": ["postgres"]}}
    async with running_app(database, issuers=issuers, auth={"claims": "plain"}) as app:

        async def answer(who: int, **more: int) -> tuple[Any, bool]:
            token = bearer(secret, **{name: who}, **more)
            url = f"postgres://postgres@db.example/{database.name}"
            call = await app.post(body, url=url, authorization=token, idempotency_key="k")
            assert call.status == 200, call.body
            return call.json()["rows"], "idempotent-replayed" in call.headers

        assert await answer(1) == ([{"who": "1"}], False)
        assert await answer(2) == ([{"who": "2"}], False)
        assert await answer(1, iat=int(time.time())) == ([{"who": "1"}], True), "the token was only renewed"
    assert database.psql("SELECT string_agg(who, ',' ORDER BY who) FROM said").strip() == "1,2"


async def test_holder_of_a_token_who_comes_as_another_role_has_other_keys(
    postgres: Cluster, database: Database
) -> None:
    with scratch_role(postgres, "NOINHERIT") as login:
        database.psql(f"CREATE TABLE said (who text); GRANT pg_monitor, pg_write_all_data TO {login}")
        database.psql("GRANT ALL ON said TO PUBLIC")
        secret, roles = "s" * 32, ["pg_monitor", "pg_write_all_data"]
        mine = {"secret": secret, "roles": roles, "login": login}
        sections = {
            "logins": {"app": {"role": login, "password": "secret"}},
            "issuers": {"mine": mine},
            "auth": {"claims": "plain", "set_role": "any"},
        }
        body = {"query": "INSERT INTO said VALUES (current_user) RETURNING who"}
        async with running_app(database, **sections) as app:
            for role in roles:
                url, token = f"postgres://{role}@db.example/{database.name}", bearer(secret, sub="ann")
                call = await app.post(body, url=url, authorization=token, idempotency_key="k")
                assert (call.status, call.json().get("rows")) == (200, [{"who": role}]), call.body


async def test_keys_work_where_the_database_writes_bytes_in_another_way(database: Database) -> None:
    database.psql(f"CREATE TABLE orders (id int); ALTER DATABASE {database.name} SET bytea_output = 'escape'")
    async with running_app(database) as app:
        body = {"query": "INSERT INTO orders VALUES (1) RETURNING id"}
        first, second = [await app.post(body, idempotency_key="a") for _ in range(2)]
    assert (first.status, second.status, second.body) == (200, 200, first.body)
    assert second.headers["idempotent-replayed"] == "true"


async def test_answer_that_is_too_large_to_be_kept_says_that_nothing_of_its_request_is_there(
    app: RunningApp, database: Database
) -> None:
    large = {"query": "INSERT INTO orders (what) VALUES ('tea') RETURNING repeat('x', 2000000)"}
    call = await app.post(large, idempotency_key="a")
    assert (call.status, call.headers["sqlhttp-ran"]) == (507, "no")
    assert database.psql("SELECT count(*) FROM orders").strip() == "0"


async def test_answer_that_is_given_again_ends_what_was_kept_from_before_its_write(database: Database) -> None:
    """The gateway that carried it out may have ended before it could tell."""
    database.psql("CREATE TABLE t (v int); INSERT INTO t VALUES (1)")
    write = {"query": "UPDATE t SET v = v + 1 RETURNING v"}
    async with running_app(database) as other, running_app(database) as app:
        await app.hear_changes()
        for _ in range(2):
            call = await app.post({"query": "SELECT v FROM t"}, cache_control="max-age=600")
            assert call.json()["rows"] == [{"v": 1}]
        assert "hit" in call.headers["cache-status"]
        await other.post(write, idempotency_key="a")
        again = await app.post(write, idempotency_key="a")
        assert (again.headers["idempotent-replayed"], again.json()["rows"]) == ("true", [{"v": 2}])
        call = await app.post({"query": "SELECT v FROM t"}, cache_control="max-age=600")
        assert call.json()["rows"] == [{"v": 2}]


async def test_answer_that_cannot_be_read_again_says_that_its_write_is_there(
    postgres: Cluster, database: Database
) -> None:
    with scratch_role(postgres, "SUPERUSER") as own:
        database.psql("CREATE TABLE orders (id int)")
        body = {"query": "INSERT INTO orders VALUES (1)"}
        async with running_app(database, database_url=database.as_role(own, "secret").url) as app:
            assert (await app.post(body, idempotency_key="a")).status == 200
            database.psql(f"ALTER ROLE {own} NOLOGIN")
            database.psql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{own}'")
            gone = f"SELECT count(*) = 0 FROM pg_stat_activity WHERE usename = '{own}'"
            async with asyncio.timeout(20):
                while database.psql(gone).strip() != "t":  # noqa: ASYNC110 - it is the server that is waited for
                    await asyncio.sleep(0.01)
            again = await app.post(body, idempotency_key="a")
            assert (again.status, again.headers["sqlhttp-ran"]) == (500, "yes"), again.body
        database.psql(f"DROP OWNED BY {own}")
