"""API keys and tokens in a tunnel, on a real Postgres: their bounds hold whatever the program sends."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from sqlhttp_gateway import cli
from sqlhttp_gateway.auth.allowed import digest_of
from sqlhttp_gateway.auth.api_keys import hash_of, new_key
from sqlhttp_gateway.auth.credentials import ApiKey
from sqlhttp_gateway.wire.frontend import (
    DESCRIBE_PORTAL,
    EXECUTE,
    FLUSH,
    SYNC,
    encode_bind,
    encode_parse,
)
from tests.support.cluster import Cluster, Database
from tests.support.gateway import Gateway
from tests.support.issuer import Issuer
from tests.support.postgres_model import bind, execute, function_call
from tests.support.program import scratch_role
from tests.support.wire_program import WireProgram, connected, extended, logged_in

ISSUER = Issuer()
ISSUER.rotate("one", "EdDSA")
SCHEMA = """
CREATE TABLE notes (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner text NOT NULL DEFAULT auth.user_id(), body text NOT NULL);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON notes USING (owner = (SELECT auth.user_id())) WITH CHECK (owner = (SELECT auth.user_id()));
INSERT INTO notes (owner, body)
    SELECT who, who || ' ' || n FROM unnest('{{ann,bob}}'::text[]) who, generate_series(1, 3) n;
GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO {role}
"""
WHO = "SELECT string_agg(DISTINCT owner, ',') FROM notes"

StartGateway = Callable[..., Gateway]


class Keyed(NamedTuple):
    """A gateway with one key."""

    gateway: Gateway
    database: Database

    def program(self, parameters: dict[str, str] | None = None) -> AbstractAsyncContextManager[WireProgram]:
        return logged_in(self.gateway, self.database, parameters)


@pytest.fixture
def keyed(start_gateway: StartGateway, database: Database) -> Callable[..., Keyed]:
    """Starts a gateway with a key that may do this: `keyed(read_only=True)`."""

    def start(pool: dict[str, Any] | None = None, **bounds: object) -> Keyed:
        key: ApiKey = new_key()
        settings = {"hash": hash_of(key), "database": database.name, "role": "postgres", **bounds}
        gateway = start_gateway(keys={key.id: settings}, pool=pool or {"max_size": 2})
        return Keyed(gateway, database.as_role("postgres", key.text))

    return start


async def count(database: Database, table: str = "notes") -> int:
    connection = await database.connect()
    try:
        number: int = await connection.fetchval(f"SELECT count(*) FROM {table}")
        return number
    finally:
        await connection.close()


# ── read only ────────────────────────────────────────────────────────────────────────────────────────────────────────

WRITE = "INSERT INTO notes VALUES (1)"
ATTACKS = [
    [WRITE],
    ["BEGIN", WRITE],
    ["BEGIN READ WRITE", WRITE],
    ["START TRANSACTION READ WRITE", "SELECT 1", WRITE],
    ["BEGIN", "SET TRANSACTION READ WRITE", WRITE],
    ["BEGIN", "SELECT 1", "SET TRANSACTION READ WRITE", WRITE],
    ["BEGIN", "SET LOCAL transaction_read_only = off", WRITE],
    ["SET default_transaction_read_only = off", WRITE],
    ["SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", "BEGIN", WRITE],
    ["BEGIN", "COMMIT", WRITE],
    ["BEGIN", "COMMIT AND CHAIN", WRITE],
    ["BEGIN", "ROLLBACK AND CHAIN", "SET TRANSACTION READ WRITE", WRITE],
    ["BEGIN", "SAVEPOINT a", "SET TRANSACTION READ WRITE", WRITE],
    ["BEGIN", "SAVEPOINT a", "SELECT 1/0", "ROLLBACK TO a", WRITE],
    ["BEGIN", "SELECT 1/0", "ROLLBACK", WRITE],
    ["BEGIN", "SELECT 1/0", "COMMIT AND CHAIN", WRITE],
    ["SELECT 1", "COMMIT", WRITE],
    ["/* /* */ */ --\n COMMIT", WRITE],
    ["BEGIN", "PREPARE TRANSACTION 'x'", WRITE],
    ["SELECT set_config('transaction_read_only', 'off', true)", WRITE],
    ["DO $$ BEGIN COMMIT; INSERT INTO notes VALUES (1); END $$"],
    ["DO $$ BEGIN EXECUTE 'SET TRANSACTION READ WRITE'; INSERT INTO notes VALUES (1); END $$"],
    ["CALL escape()"],
    ["PREPARE p AS INSERT INTO notes VALUES (1)", "EXECUTE p"],
    ["SET standard_conforming_strings = off", r"SELECT '\'; COMMIT; INSERT INTO notes VALUES (1); --'"],
    [r"SELECT '\'; COMMIT; INSERT INTO notes VALUES (1); --'"],
    ["RESET ALL", "DISCARD ALL", WRITE],
    ["COPY notes FROM PROGRAM 'echo 1'"],
]


@pytest.fixture
def notes(database: Database) -> None:
    database.psql(
        "CREATE TABLE notes (id int);"
        " CREATE PROCEDURE escape() LANGUAGE plpgsql AS"
        " $$ BEGIN COMMIT; SET TRANSACTION READ WRITE; INSERT INTO notes VALUES (1); END $$"
    )


@pytest.mark.usefixtures("notes")
async def test_read_only_key_writes_nothing_whatever_it_tries(keyed: Callable[..., Keyed], database: Database) -> None:
    site = keyed(read_only=True)
    ways: list[Callable[[WireProgram, list[str]], Any]] = [one_by_one, in_one_query, each_extended, in_one_batch]
    for attack, way in itertools.product(ATTACKS, ways):
        async with site.program() as program:
            await way(program, attack)
            program.vanish()
    assert await count(database) == 0


async def one_by_one(program: WireProgram, texts: list[str]) -> None:
    for text in texts:
        await program.query(text)


async def in_one_query(program: WireProgram, texts: list[str]) -> None:
    await program.query("; ".join(texts))


async def each_extended(program: WireProgram, texts: list[str]) -> None:
    for number, text in enumerate(texts):
        await program.ask(text, name=f"s{number}")
    for number in range(len(texts)):
        await program.send(encode_bind(f"s{number}".encode(), ()) + EXECUTE + SYNC)
        await program.answer()


async def in_one_batch(program: WireProgram, texts: list[str]) -> None:
    await program.send(
        b"".join(encode_parse(b"", text.encode()) + encode_bind(b"", ()) + EXECUTE for text in texts) + SYNC
    )
    await program.answer()


@pytest.mark.usefixtures("notes")
async def test_portal_that_outlives_an_error_does_not_carry_a_commit(
    keyed: Callable[..., Keyed], database: Database
) -> None:
    """Bound, not run, and kept over a savepoint, it could end the transaction under another's name."""
    async with keyed(read_only=True).program() as program:
        await program.query("BEGIN")
        for portal in ("p", ""):
            commit = encode_parse(b"c", b"COMMIT") + bind(portal, "c")
            savepoint = encode_parse(b"s", b"SAVEPOINT a") + bind("q", "s") + execute("q")
            await program.send(commit + savepoint + bind(portal, "nothing") + SYNC)
            await program.answer()
            await program.query("ROLLBACK TO a")
            write = encode_parse(b"", WRITE.encode()) + encode_bind(b"", ()) + EXECUTE
            await program.send(execute(portal) + write + SYNC)
            assert (await program.answer()).code
    assert await count(database) == 0


async def test_commit_prepared_over_the_protocol_and_run_by_sql_leaves_nothing_unfenced(
    keyed: Callable[..., Keyed], database: Database
) -> None:
    database.psql("CREATE TABLE notes (id int)")
    async with keyed(read_only=True).program() as program:
        await program.send(encode_parse(b"c", b"COMMIT") + SYNC)
        await program.answer()
        for escape in ("EXECUTE c", "DO $$ BEGIN EXECUTE 'EXECUTE c'; END $$"):
            await program.query("BEGIN")
            await program.query(escape)
            assert (await program.query(WRITE)).code
            await program.query("ROLLBACK")
            await program.query(f"BEGIN; {escape}; {WRITE}")
            await program.query("ROLLBACK")
    assert await count(database) == 0


@pytest.mark.usefixtures("notes")
@pytest.mark.parametrize("chain", [b"COMMIT AND CHAIN", b"/**/ rollback work and chain"])
async def test_chain_prepared_over_the_protocol_is_out_of_sqls_reach(
    keyed: Callable[..., Keyed], database: Database, chain: bytes
) -> None:
    """The transaction that it begins would not begin with what the gateway runs first."""
    async with keyed(read_only=True).program() as program:
        await program.send(encode_parse(b"c", chain) + SYNC)
        assert (await program.answer()).tags == "1Z"
        assert (await program.query("SELECT 1")).status == "I"
        for name in ["c", *await prepared(program)]:
            await program.query("BEGIN; SELECT 1")
            await program.query(f"EXECUTE {name}")
            await program.query("SET TRANSACTION READ WRITE")
            assert (await program.query(WRITE)).code
            await program.query("ROLLBACK")
        # Over the protocol it is what it is, twice in a row, and behind it comes what has to come first.
        await program.query("BEGIN; SELECT 1")
        for _ in range(2):
            await program.send(encode_bind(b"c", ()) + EXECUTE + SYNC)
            assert (await program.answer()).status == "T"
            assert (await program.query("SHOW transaction_read_only")).value == "on"
        await program.query("SET TRANSACTION READ WRITE")
        assert (await program.query(WRITE)).code
    assert await count(database) == 0


@pytest.mark.usefixtures("notes")
async def test_chain_that_was_sent_over_http_is_out_of_sqls_reach_in_a_tunnel(
    keyed: Callable[..., Keyed], database: Database
) -> None:
    site = keyed({"max_size": 1}, read_only=True)
    chains = [{"query": "BEGIN"}, {"query": "COMMIT AND CHAIN"}, {"query": "COMMIT"}]
    async with httpx.AsyncClient() as http:
        for body in ({"query": "COMMIT AND CHAIN"}, {"queries": chains}):
            for _ in range(2):
                await http.post(site.gateway.sql, json=body, headers={"Neon-Connection-String": database.url})
    async with site.program() as program:
        for name in await prepared(program):
            await program.query("BEGIN; SELECT 1")
            await program.query(f"EXECUTE {name}")
            await program.query("SET TRANSACTION READ WRITE")
            assert (await program.query(WRITE)).code
            await program.query("ROLLBACK")
    assert await count(database) == 0


@pytest.mark.usefixtures("notes")
async def test_statements_under_names_of_the_gateways_take_the_place_of_none_that_goes_first(
    keyed: Callable[..., Keyed], database: Database
) -> None:
    async with keyed(read_only=True).program() as program:
        assert (await program.ask("SELECT 1", name="one")).value == "1"
        for name in await prepared(program):
            assert not (await program.query(f"DEALLOCATE {name}; PREPARE {name} AS SELECT 1")).code
            assert (await program.query(WRITE)).code == "25006"
            assert (await program.query(f"BEGIN; {WRITE}")).code == "25006"
            await program.query("ROLLBACK")
    assert await count(database) == 0


async def prepared(program: WireProgram) -> list[str | None]:
    """Whatever the program's backend has prepared."""
    return [name for [name] in (await program.query("SELECT name FROM pg_prepared_statements")).rows]


async def test_transactions_of_a_read_only_key_look_as_they_would_without_it(keyed: Callable[..., Keyed]) -> None:
    async with keyed(read_only=True).program() as program:
        answer = await program.query("SELECT 1 AS a")
        assert (answer.tags, answer.status, answer.commands) == ("TDCZ", "I", ["SELECT 1"])
        answer = await program.query("SELECT 1; SET x.y = 'z'; SELECT 2")
        assert (answer.tags, answer.status, answer.error) == ("TDCCTDCZ", "I", {})
        assert (await program.query("")).tags == "IZ"
        assert (await program.query("BEGIN")).status == "T"
        assert (await program.query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")).status == "T"
        assert await program.value("SHOW transaction_isolation") == "serializable"
        assert await program.value("SHOW transaction_read_only") == "on"
        assert (await program.query("SELECT 1/0")).status == "E"
        assert (await program.query("SELECT 1")).code == "25P02"
        assert (await program.query("ROLLBACK")).status == "I"
        answer = await program.query("SELECT 1; SELECT 1/0; SELECT 2")
        assert (answer.tags, answer.status, answer.code) == ("TDCEZ", "I", "22012")
        answer = await program.query("BEGIN; SELECT 1; COMMIT; SELECT 2")
        assert (answer.commands, answer.status) == (["BEGIN", "SELECT 1", "COMMIT", "SELECT 1"], "I")
        answer = await program.query("BEGIN; SELECT 1")
        assert answer.status == "T"
        assert (await program.query("COMMIT AND CHAIN")).status == "T"
        assert await program.value("SHOW transaction_read_only") == "on"
        assert (await program.query("COMMIT")).status == "I"
        assert (await program.query("SELECT nothing")).error["M"] == 'column "nothing" does not exist'
        assert (await program.query("DISCARD ALL")).commands == ["DISCARD ALL"]


async def test_extended_queries_of_a_read_only_key_are_answered_as_ever(keyed: Callable[..., Keyed]) -> None:
    async with keyed(read_only=True).program() as program:
        for _ in range(2):
            assert (await program.ask("SELECT $1::int + 1", 41)).value == "42"
        await program.send(extended("SELECT 1", name="one") + extended("SELECT 1/0") + extended("SELECT 3"))
        answers = [await program.answer() for _ in range(3)]
        assert [answer.code for answer in answers] == ["", "22012", ""]
        assert [answer.status for answer in answers] == ["I", "I", "I"]
        # A row at a time, without a Sync in between: one transaction.
        rows = encode_parse(b"", b"SELECT generate_series(1, 3)") + bind("", "") + DESCRIBE_PORTAL
        await program.send(rows + execute("", 1) + FLUSH)
        seen = [await program.message() for _ in range(5)]
        assert "".join(message.tag for message in seen if message) == "12TDs"
        await program.send(execute("", 2) + SYNC)
        assert (await program.answer()).rows == [["2"], ["3"]]
        await program.send(
            encode_parse(b"b", b"BEGIN") + encode_bind(b"b", ()) + EXECUTE + extended("SHOW transaction_read_only")
        )
        answer = await program.answer()
        assert (answer.rows, answer.status) == ([["on"]], "T")
        assert (await program.ask("COMMIT")).status == "I"


async def test_functions_without_sql_and_copy_in_are_refused_and_the_tunnel_goes_on(
    keyed: Callable[..., Keyed], database: Database
) -> None:
    database.psql("CREATE TABLE notes (id int)")
    async with keyed(read_only=True).program() as program:
        await program.send(function_call(1000))
        answer = await program.answer()
        assert (answer.code, answer.status) == ("42501", "I")
        await program.send(encode_parse(b"", b"SELEC") + function_call(1000) + SYNC)
        answer = await program.answer()
        assert (answer.code, answer.status) == ("42601", "I")
        for text in ("COPY notes FROM STDIN", "/* a */ copy notes from/**/stdout"):
            assert (await program.query(text)).code == "42501"
            assert (await program.ask(text)).code == "42501"
        assert (await program.query("COPY (SELECT 1) TO STDOUT")).tags == "HdcCZ"
        assert await program.value("SELECT 1") == "1"


async def test_backend_of_a_read_only_key_serves_others_as_if_nothing_had_been(
    keyed: Callable[..., Keyed], database: Database
) -> None:
    database.psql("CREATE TABLE notes (id int)")
    site = keyed(read_only=True, pool={"max_size": 1})
    async with site.program() as program, logged_in(site.gateway, database) as other:
        for _ in range(3):
            assert (await program.query(WRITE)).code == "25006"
            assert (await other.query(WRITE)).code == ""
    assert await count(database) == 3


@pytest.mark.parametrize(
    "texts",
    [
        ["DEALLOCATE ALL"],
        ["DEALLOCATE ALL; SELECT 1"],
        ["SELECT 1; DEALLOCATE ALL"],
        ["BEGIN", "DEALLOCATE ALL", "SELECT 1", "ROLLBACK"],
        ["BEGIN; DEALLOCATE ALL; SELECT 1; COMMIT"],
        ["SELECT 1/0; DEALLOCATE ALL"],
        ["DISCARD ALL"],
    ],
)
async def test_statements_that_are_all_dropped_take_no_fence_with_them(
    keyed: Callable[..., Keyed], texts: list[str]
) -> None:
    site = keyed(read_only=True, pool={"max_size": 1})
    ways: list[Callable[[WireProgram, list[str]], Any]] = [one_by_one, each_extended, in_one_batch]
    for way in ways:
        async with site.program() as program:
            assert await program.value("SELECT 1") == "1"
            await way(program, texts if way is one_by_one else [text for text in texts if ";" not in text])
            await program.query("ROLLBACK")
            assert await program.value("SELECT 2") == "2"
        async with site.program() as program:
            assert await program.value("SHOW transaction_read_only") == "on"


async def test_statements_dropped_by_hidden_code_cost_one_program_at_most(keyed: Callable[..., Keyed]) -> None:
    site = keyed(read_only=True, pool={"max_size": 1})
    async with site.program() as program:
        await program.query("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")
        await program.query("SELECT 1")
        program.vanish()
    async with site.program() as program:
        assert await program.value("SHOW transaction_read_only") == "on"


async def test_session_pooling_keeps_the_bounds(keyed: Callable[..., Keyed], database: Database) -> None:
    database.psql("CREATE TABLE notes (id int)")
    async with keyed(read_only=True).program({"pool_mode": "session"}) as program:
        first = await program.value("SELECT pg_backend_pid()")
        assert (await program.query(WRITE)).code == "25006"
        assert (await program.ask(WRITE, name="w")).code == "25006"
        assert await program.value("SELECT pg_backend_pid()") == first
    assert await count(database) == 0


# ── listed statements ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_locked_key_runs_what_is_listed_and_nothing_else(keyed: Callable[..., Keyed]) -> None:
    listed = ["SELECT $1::int AS a", "SELECT 7 AS a", "BEGIN", "COMMIT"]
    async with keyed(statements=[digest_of(text).hex() for text in listed]).program() as program:
        assert await program.value("SELECT 7 AS a;") == "7"
        assert (await program.ask("SELECT $1::int AS a", 5, name="five")).value == "5"
        for text in ("SELECT 8", "SELECT 7 AS a; SELECT 7 AS a", "BEGIN; COMMIT", ""):
            answer = await program.query(text)
            assert (answer.code, answer.status) == ("42501", "I"), text
            assert (await program.ask(text)).code == "42501"
        assert (await program.query("BEGIN")).status == "T"
        assert (await program.query("SELECT 8")).status == "E"
        assert (await program.query("COMMIT")).commands == ["ROLLBACK"]
        # What was refused was not run, and what comes behind it in its batch neither.
        await program.send(encode_parse(b"x", b"SELECT 8") + extended("SELECT 7 AS a"))
        answer = await program.answer()
        assert (answer.tags, answer.code) == ("EZ", "42501")
        assert (await program.ask("SELECT 7 AS a")).value == "7"


async def test_locked_key_sets_nothing_at_start_up_that_changes_what_a_statement_means(
    keyed: Callable[..., Keyed],
) -> None:
    site = keyed(statements=[digest_of("SELECT 7 AS a").hex()])
    for parameters in ({"search_path": "other"}, {"options": "-c role=pg_monitor"}, {"request.jwt.claims": "{}"}):
        async with connected(site.gateway, site.database) as program:
            answer = await program.log_in(parameters)
            assert answer.code == "28000"
            assert "may not be set" in answer.error["M"]
    async with site.program({"application_name": "page", "TimeZone": "UTC"}) as program:
        assert await program.value("SELECT 7 AS a") == "7"


# ── claims ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Tokens(NamedTuple):
    """A gateway with an issuer of tokens for one role."""

    gateway: Gateway
    database: Database
    role: str

    def program(self, name: str, **claims: object) -> AbstractAsyncContextManager[WireProgram]:
        token = ISSUER.token("one", {"sub": name, "exp": int(time.time()) + 600, **claims})
        return logged_in(self.gateway, self.database.as_role(self.role, token))


@pytest.fixture
def tokens(
    start_gateway: StartGateway, database: Database, postgres: Cluster, tmp_path: Path
) -> Iterator[Callable[..., Tokens]]:
    jwks = tmp_path / "jwks.json"
    jwks.write_bytes(ISSUER.jwks())
    with scratch_role(postgres) as role:
        assert cli.main(["auth", "install", "--set", f"database_url={database.url}"]) == 0
        database.psql(SCHEMA.format(role=role))

        def start(**settings: Any) -> Tokens:
            issuers = {"mine": {"jwks_file": str(jwks), "roles": [role]}}
            logins = {"app": {"role": role, "password": "secret"}}
            return Tokens(start_gateway(issuers=issuers, logins=logins, **settings), database, role)

        yield start
        database.psql(f"DROP OWNED BY {role}")


async def test_each_user_sees_their_own_rows_in_every_kind_of_transaction(tokens: Callable[..., Tokens]) -> None:
    site = tokens(pool={"max_size": 1})
    async with site.program("ann") as ann, site.program("bob") as bob:
        for _ in range(3):
            for program, name in ((ann, "ann"), (bob, "bob")):
                assert await program.value(WHO) == name
                assert (await program.ask(WHO)).value == name
                assert (await program.ask(WHO, name="who") if _ == 0 else await program.ask(WHO)).value == name
                answer = await program.query(f"BEGIN; {WHO}; COMMIT AND CHAIN; {WHO}; ROLLBACK; {WHO}")
                assert answer.rows == [[name]] * 3
                await program.query("BEGIN ISOLATION LEVEL REPEATABLE READ")
                assert await program.value(WHO) == name
                await program.query("COMMIT")
        assert await ann.value("INSERT INTO notes (body) VALUES ('x') RETURNING owner") == "ann"
        assert (await ann.query("INSERT INTO notes (owner, body) VALUES ('bob', 'x')")).code == "42501"
        assert (await bob.query("SELECT * FROM notes WHERE body = 'x'")).rows == []


FORGED = """'{"sub":"bob"}'"""


@pytest.mark.parametrize(
    "texts",
    [
        [f"SET sqlhttp.claims = {FORGED}"],
        [f"SELECT set_config('sqlhttp.claims', {FORGED}, false)"],
        ["BEGIN", f"SET LOCAL sqlhttp.claims = {FORGED}"],
        [f"SET request.jwt.claims = {FORGED}"],
        ["BEGIN", "COMMIT"],
        ["BEGIN", "ROLLBACK"],
        ["BEGIN", "SAVEPOINT a", "SELECT 1/0", "ROLLBACK TO a"],
        ["RESET ALL"],
        ["DISCARD ALL"],
        ["SET SESSION AUTHORIZATION DEFAULT"],
        ["RESET ROLE"],
        [
            "CREATE FUNCTION pg_temp.user_id() RETURNS text LANGUAGE sql AS $$SELECT 'bob'$$",
            "SET search_path = pg_temp",
        ],
        ["COMMIT; BEGIN; COMMIT"],
        ["BEGIN; COMMIT AND CHAIN"],
    ],
)
async def test_user_cannot_become_another(tokens: Callable[..., Tokens], texts: list[str]) -> None:
    site = tokens(pool={"max_size": 1})
    async with site.program("ann") as ann:
        for text in texts:
            await ann.query(text)
        answer = await ann.query("SELECT DISTINCT owner FROM public.notes")
        assert answer.error or answer.rows in ([["ann"]], [])
        if answer.status != "I":
            await ann.query("ROLLBACK")
        # Claims of a transaction before are worth nothing in the next.
        kept = await ann.query("SELECT current_setting('sqlhttp.claims', true) AS kept")
        if not kept.error and kept.value:
            await ann.query("BEGIN")
            answer = await ann.query(f"SET LOCAL sqlhttp.claims = '{kept.value}'; SELECT count(*) FROM public.notes")
            assert answer.code == "42501"


async def test_users_interleaved_never_see_each_other(tokens: Callable[..., Tokens]) -> None:
    site = tokens(pool={"max_size": 2})

    async def user(name: str) -> None:
        async with site.program(name) as program:
            for turn in range(60):
                match turn % 4:
                    case 0:
                        assert await program.value(WHO) == name
                    case 1:
                        assert (await program.ask(WHO)).value == name
                    case 2:
                        await program.query("BEGIN")
                        assert await program.value(WHO) == name
                        assert (await program.query("SELECT 1/0")).status == "E"
                        await program.query("ROLLBACK")
                    case _:
                        await program.query(f"BEGIN; INSERT INTO notes (body) VALUES ('{name}')")
                        assert await program.value("SELECT count(*) FROM notes WHERE body <> owner AND id > 6") == "0"
                        await program.query("COMMIT")

    await asyncio.gather(*[user(name) for name in ("ann", "bob") * 4])


async def test_claims_that_cannot_be_set_end_the_tunnel_and_nothing_was_run(
    tokens: Callable[..., Tokens], database: Database
) -> None:
    site = tokens()
    async with site.program("ann") as ann:
        assert await ann.value(WHO) == "ann"
        database.psql("UPDATE sqlhttp.claims_secret SET inner_pad = outer_pad")
        await ann.send(extended("INSERT INTO notes (body) VALUES ('x')"))
        [message] = [message for message in await ann.ended() if message.tag == "E"]
        assert (message.error["C"], message.error["S"]) == ("28000", "FATAL")
        assert "claims could not be set" in message.error["M"]
    assert await count(database) == 6


# ── for how long ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Revocable(NamedTuple):
    """A gateway with a key in its table."""

    gateway: Gateway
    database: Database
    keyed: Database

    def revoke(self) -> None:
        self.database.psql("UPDATE sqlhttp.api_keys SET revoked_at = now()")


@pytest.fixture
def revocable(start_gateway: StartGateway, database: Database) -> Callable[..., Revocable]:
    def start(**settings: Any) -> Revocable:
        key = new_key()
        database.psql(
            "CREATE SCHEMA sqlhttp; CREATE TABLE sqlhttp.api_keys (id text PRIMARY KEY, hash text NOT NULL,"
            " name text DEFAULT '', target text DEFAULT 'default', database text, role text, login text,"
            " expires_at timestamptz, origins text[] DEFAULT '{}', addresses text[] DEFAULT '{}',"
            " read_only boolean DEFAULT false,"
            " statements text[], created_at timestamptz DEFAULT now(), revoked_at timestamptz);"
            f" INSERT INTO sqlhttp.api_keys (id, hash, database, role)"
            f" VALUES ('{key.id}', '{hash_of(key)}', '{database.name}', 'postgres')"
        )
        auth = {"keys_table": True, "keys_refresh": 0.05, "proof_lifetime": 3600}
        gateway = start_gateway(database_url=database.url, auth=auth, **settings)
        return Revocable(gateway, database, database.as_role("postgres", key.text))

    return start


async def test_revoked_key_ends_its_tunnels_when_they_are_idle(revocable: Callable[..., Revocable]) -> None:
    site = revocable()
    async with logged_in(site.gateway, site.keyed) as idle, logged_in(site.gateway, site.keyed) as busy:
        assert (await busy.query("BEGIN")).status == "T"
        site.revoke()
        [message] = await idle.ended()
        assert (message.error["S"], message.error["M"]) == ("FATAL", "invalid API key")
        assert await busy.value("SELECT 1") == "1"
        await busy.send(b"".join((extended("COMMIT"),)))
        last = (await busy.ended())[-1]
        assert (last.tag, last.error["M"]) == ("E", "invalid API key")


async def test_transaction_left_open_with_a_revoked_key_goes_on_for_so_long_and_no_longer(
    revocable: Callable[..., Revocable],
) -> None:
    site = revocable(tunnel={"revoked_timeout": 0.2})
    async with logged_in(site.gateway, site.keyed) as program:
        assert (await program.query("BEGIN")).status == "T"
        site.revoke()
        async with asyncio.timeout(30):
            last = (await program.ended())[-1]
        assert (last.error["S"], last.error["M"]) == ("FATAL", "invalid API key")


async def test_token_that_expires_ends_its_tunnel(tokens: Callable[..., Tokens]) -> None:
    site = tokens(auth={"jwt_leeway": 0})
    async with site.program("ann", exp=int(time.time()) + 2) as ann:
        assert await ann.value(WHO) == "ann"
        last = (await ann.ended())[-1]
        assert (last.error["S"], last.error["C"]) == ("FATAL", "28000")
        assert "expired" in last.error["M"]


async def test_long_token_fits_in_the_passwords_place(tokens: Callable[..., Tokens]) -> None:
    async with tokens().program("ann", groups=["g" * 40] * 100) as ann:
        assert await ann.value(WHO) == "ann"


async def test_addresses_and_pages_of_a_key_are_looked_at_when_it_logs_in(keyed: Callable[..., Keyed]) -> None:
    for bounds, options in (
        ({"addresses": ["192.0.2.0/24"]}, {}),
        ({"origins": ["https://app.example"]}, {}),
        ({"origins": ["https://app.example"]}, {"origin": "https://evil.example"}),
    ):
        site = keyed(**bounds)
        async with connected(site.gateway, site.database, **options) as program:
            answer = await program.log_in()
            assert (answer.code, answer.status) == ("28000", "")
    site = keyed(origins=["https://app.example"], addresses=["127.0.0.1"])
    async with logged_in(site.gateway, site.database, origin="https://app.example") as program:
        assert await program.value("SELECT 1") == "1"
