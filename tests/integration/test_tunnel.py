"""Programs over a WebSocket: the gateway as it runs, on a real Postgres."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from struct import pack
from urllib.request import Request, urlopen

import pytest
from websockets.asyncio.client import connect

from sqlhttp_gateway.settings import load_settings
from sqlhttp_gateway.wire.frontend import FLUSH, SYNC, TERMINATE, encode_parse, encode_query
from tests.support.cluster import Cluster, Database
from tests.support.gateway import Gateway, GatewayProcess, free_port
from tests.support.watch import watching
from tests.support.wire_program import WebSocketPipe, WireProgram, bound, connected, extended, frame, logged_in, startup

StartGateway = Callable[..., Gateway]
PATHS = ("/", "/sql", "/v1", "/v2", "/v2?address=db.example:5432", "/v1?address=127.0.0.1:5432")


def messages(program: WireProgram) -> list[bytes]:
    """The WebSocket messages that came, as they were."""
    assert isinstance(program.pipe, WebSocketPipe)
    return program.pipe.received


async def activity(database: Database, where: str = "true") -> list[tuple[int, str, str]]:
    """Backends of the database beside our own: pid, state, query."""
    connection = await database.connect()
    try:
        rows = await connection.fetch(
            "SELECT pid, coalesce(state, '') AS state, query FROM pg_stat_activity"
            f" WHERE datname = current_database() AND pid <> pg_backend_pid() AND {where}"
        )
        return [(row["pid"], row["state"], row["query"]) for row in rows]
    finally:
        await connection.close()


async def eventually(database: Database, where: str, count: int) -> None:
    """Wait until so many backends are like that."""
    async with asyncio.timeout(15):
        while len(await activity(database, where)) != count:  # noqa: ASYNC110 - Postgres tells nobody
            await asyncio.sleep(0.01)


# ── the wire ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_log_in_and_first_answer_come_in_the_messages_that_drivers_count_on(
    gateway: Gateway, database: Database
) -> None:
    """The question for the password, all of the greeting, and each answer are one message each."""
    async with connected(gateway, database) as program:
        await program.send(program.startup() + program.password() + encode_query(b"SELECT 1"))
        greeting = await program.greeted()
        answer = await program.answer()
        first, second, third = messages(program)
        assert first == b"R\0\0\0\x08\0\0\0\x03"
        assert second.startswith(b"R\0\0\0\x08\0\0\0\0")
        assert second.endswith(b"Z\0\0\0\x05I")
        assert greeting.tags == "RRKZ"
        assert third.startswith(b"T")
        assert (answer.tags, answer.value) == ("TDCZ", "1")


async def test_program_that_waits_for_each_answer_gets_the_same_messages(gateway: Gateway, database: Database) -> None:
    async with connected(gateway, database) as program:
        await program.send(program.startup())
        message = await program.message()
        assert message is not None
        assert (message.tag, message.body) == ("R", b"\0\0\0\x03")
        await program.send(program.password())
        assert (await program.greeted()).tags == "RKZ"
        assert len(messages(program)) == 2


async def test_parameters_that_are_told_are_those_of_the_real_server(gateway: Gateway, database: Database) -> None:
    direct = await database.connect()
    try:
        version = await direct.fetchval("SHOW server_version")
    finally:
        await direct.close()
    async with logged_in(gateway, database, {"application_name": "my app"}) as program:
        assert program.parameters["server_version"] == version
        assert program.parameters["application_name"] == "my app"
        assert program.parameters["client_encoding"] == "UTF8"
        assert {"DateStyle", "TimeZone", "integer_datetimes", "standard_conforming_strings"} <= set(program.parameters)


@pytest.mark.parametrize("path", PATHS)
async def test_upgrade_is_taken_on_every_path_that_drivers_use(gateway: Gateway, database: Database, path: str) -> None:
    async with logged_in(gateway, database, path=path) as program:
        assert await program.value("SELECT 1") == "1"


async def test_one_byte_a_message_is_as_good_as_any_other_cut(gateway: Gateway, database: Database) -> None:
    async with connected(gateway, database) as program:
        for byte in program.startup() + program.password() + extended("SELECT $1::int + 1", 41):
            await program.send(bytes((byte,)))
        assert (await program.greeted()).status == "I"
        assert (await program.answer()).value == "42"


async def test_fragmented_and_empty_messages_are_part_of_the_stream(gateway: Gateway, database: Database) -> None:
    async with connected(gateway, database) as program:
        assert isinstance(program.pipe, WebSocketPipe)
        everything = program.startup() + program.password() + encode_query(b"SELECT 7")
        await program.pipe.socket.send([everything[:3], b"", everything[3:40], everything[40:]])
        await program.send(b"")
        assert (await program.greeted()).status == "I"
        assert (await program.answer()).value == "7"


async def test_ssl_and_gss_requests_are_declined_with_one_byte(gateway: Gateway, database: Database) -> None:
    async with connected(gateway, database) as program:
        for request in (80877104, 80877103):
            await program.send(pack("!II", 8, request))
            assert await program.pipe.receive() == b"N"
        assert (await program.log_in()).status == "I"


async def test_later_minor_version_is_negotiated(gateway: Gateway, database: Database) -> None:
    async with connected(gateway, database) as program:
        await program.send(startup(database, version=(3 << 16) | 2) + program.password())
        answer = await program.greeted()
        assert (answer.tags, answer.status) == ("vRRKZ", "I")


async def test_text_message_is_refused_with_an_error_and_a_close(gateway: Gateway, database: Database) -> None:
    async with logged_in(gateway, database) as program:
        assert isinstance(program.pipe, WebSocketPipe)
        await program.pipe.socket.send("SELECT 1")
        [message] = await program.ended()
        assert (message.error["C"], message.error["S"]) == ("08P01", "FATAL")
        assert "text messages" in message.error["M"]
        assert program.close_code[0] == 1002
        assert "text messages" in (program.close_code[1] or "")


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (pack("!II", 100_000, 3 << 16), "08P01"),
        (pack("!II", 4, 3 << 16), "08P01"),
        (pack("!II", 9, 2 << 16) + b"\0", "0A000"),
        (b"\x16\x03\x01\x02\0\x01\0\0", "08P01"),
        (pack("!II", 9, 3 << 16) + b"\0", "28000"),
    ],
    ids=["too large", "too short", "protocol 2", "TLS", "nobody"],
)
async def test_start_up_that_makes_no_sense_is_refused_with_an_error_and_a_close(
    gateway: Gateway, database: Database, packet: bytes, code: str
) -> None:
    async with connected(gateway, database) as program:
        await program.send(packet)
        [message] = await program.ended()
        assert (message.error["C"], message.error["S"]) == (code, "FATAL")
        assert program.close_code[0] in (1002, 1008)
        assert program.close_code[1] == message.error["M"][:100]


@pytest.mark.parametrize(
    ("data", "code", "close_code"),
    [
        (b"?\0\0\0\x04", "08P01", 1002),
        (b"Q\0\0\0\x01", "08P01", 1002),
        (b"Q\xff\xff\xff\xff", "54000", 1009),
    ],
    ids=["unknown tag", "short length", "huge length"],
)
async def test_malformed_message_is_refused_with_an_error_and_a_close(
    gateway: Gateway, database: Database, data: bytes, code: str, close_code: int
) -> None:
    async with logged_in(gateway, database) as program:
        await program.send(data)
        [message] = await program.ended()
        assert (message.error["C"], message.error["S"]) == (code, "FATAL")
        assert program.close_code[0] == close_code


async def test_wrong_password_is_refused_in_postgres_own_words(gateway: Gateway, database: Database) -> None:
    async with connected(gateway, database.as_role("postgres", "wrong")) as program:
        answer = await program.log_in()
        assert answer.tags == "RE"
        assert answer.error["M"] == 'password authentication failed for user "postgres"'
        assert (answer.code, answer.error["S"]) == ("28P01", "FATAL")
        assert program.close_code == (1008, 'password authentication failed for user "postgres"')


async def test_database_that_does_not_exist_is_refused_in_postgres_own_words(
    gateway: Gateway, database: Database
) -> None:
    """Which it says once the password has been found right, as Postgres does."""
    nowhere = Database(database.host, database.port, "nowhere")
    async with connected(gateway, nowhere) as program:
        answer = await program.log_in()
        assert (answer.tags, answer.code) == ("RRE", "3D000")
        assert answer.error["M"] == 'database "nowhere" does not exist'


async def test_start_up_has_to_be_complete_in_time(start_gateway: StartGateway, database: Database) -> None:
    gateway = start_gateway(tunnel={"startup_timeout": 0.2})
    async with connected(gateway, database) as program:
        await program.send(program.startup()[:-3])
        [message] = await program.ended()
        assert message.error["M"] == "start-up was not complete within 0.2 s"
        assert program.close_code[0] == 1002


async def test_replication_is_refused_by_name(gateway: Gateway, database: Database) -> None:
    async with connected(gateway, database) as program:
        await program.send(program.startup({"replication": "database"}))
        [message] = await program.ended()
        assert message.error["C"] == "0A000"
        assert "replication" in message.error["M"]


@pytest.mark.parametrize("behind", [b"", encode_query(b"SELECT 1")], ids=["alone", "behind a query"])
async def test_goodbye_closes_the_socket_at_once(gateway: Gateway, database: Database, behind: bytes) -> None:
    """The driver's `end` never settles if the server does not close."""
    async with logged_in(gateway, database) as program:
        await program.send(behind + TERMINATE)
        assert [message.tag for message in await program.ended()] == (list("TDCZ") if behind else [])
        assert program.close_code == (1000, "")


@pytest.mark.parametrize("cut", [0, 1, 2])
async def test_goodbye_during_the_log_in_closes_the_socket_at_once(
    gateway: Gateway, database: Database, cut: int
) -> None:
    async with connected(gateway, database) as program:
        parts = [program.startup(), program.password(), b""]
        await program.send(b"".join(parts[: cut + 1]) + TERMINATE)
        await program.ended()
        assert program.close_code[0] == 1000


async def test_goodbye_before_there_was_a_backend_waits_for_none(
    start_gateway: StartGateway, database: Database
) -> None:
    gateway = start_gateway(pool={"max_size": 1, "wait_timeout": 25})
    async with logged_in(gateway, database) as holder, connected(gateway, database) as program:
        await holder.query("BEGIN")
        await program.send(program.startup() + program.password())
        await program.message()
        await program.send(TERMINATE)
        async with asyncio.timeout(5):
            await program.ended()
        assert program.close_code[0] == 1000


async def test_message_as_large_as_a_driver_coalesces_goes_through(gateway: Gateway, database: Database) -> None:
    """uvicorn's own bound is 16 MiB; one message may hold a large insert and all that stands around it."""
    size = 20_000_000
    async with logged_in(gateway, database) as program:
        await program.send(extended("SELECT length($1)", "x" * size))
        assert (await program.answer()).value == str(size)


async def test_large_answer_comes_whole(gateway: Gateway, database: Database) -> None:
    async with logged_in(gateway, database) as program:
        answer = await program.query("SELECT repeat('x', 1000) FROM generate_series(1, 10000)")
        assert len(answer.rows) == 10_000
        assert answer.status == "I"


# ── start-up parameters ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_start_up_parameters_hold_on_every_backend(start_gateway: StartGateway, database: Database) -> None:
    gateway = start_gateway(pool={"max_size": 2}, tunnel={"linger": 0})
    wanted = {
        "search_path": "pg_catalog",
        "statement_timeout": "7777",
        "options": "-c work_mem=5MB --lock_timeout=3333 endpoint=ep-quiet-sun neon_proxy_params_compat:true",
    }
    async with logged_in(gateway, database, wanted) as program, logged_in(gateway, database) as other:
        pids = set()
        for _ in range(2):
            answer = await program.query(
                "SELECT current_setting('search_path'), current_setting('statement_timeout'),"
                " current_setting('work_mem'), current_setting('lock_timeout')"
            )
            assert answer.rows == [["pg_catalog", "7777ms", "5MB", "3333ms"]]
            pids.add(await program.value("SELECT pg_backend_pid()"))
            await other.query("BEGIN")  # takes the backend that was used last
            assert await other.value("SHOW work_mem") == "4MB"
        assert len(pids) == 2


async def test_start_up_parameter_that_cannot_be_set_is_refused(gateway: Gateway, database: Database) -> None:
    async with connected(gateway, database) as program:
        answer = await program.log_in({"work_mem": "plenty"})
        assert answer.code == "22023"
        assert answer.error["S"] == "FATAL"
        assert answer.status == ""


# ── pooling ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_fifty_programs_and_requests_share_two_backends(start_gateway: StartGateway, database: Database) -> None:
    gateway = start_gateway(pool={"max_size": 2, "wait_timeout": 20})
    database.psql("CREATE TABLE t (who int, n int)")

    async def transactions(who: int) -> None:
        async with logged_in(gateway, database) as program:
            await program.send(encode_parse(b"put", b"INSERT INTO t VALUES ($1::int, $2::int)") + SYNC)
            await program.answer()
            for n in range(4):
                await program.query("BEGIN")
                await program.send(bound(who, n, name="put"))
                assert (await program.answer()).commands == ["INSERT 0 1"]
                assert await program.value(f"SELECT count(*) FROM t WHERE who = {who}") == str(n + 1)
                assert (await program.query("COMMIT")).status == "I"

    most = 0

    async def watch() -> None:
        nonlocal most
        connection = await database.connect()
        try:
            while True:
                count = await connection.fetchval(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND application_name = 'sqlhttp'"
                )
                most = max(most, count)
                await asyncio.sleep(0.005)
        finally:
            await connection.close()

    watching = asyncio.create_task(watch())
    try:
        await asyncio.gather(*map(transactions, range(50)))
    finally:
        watching.cancel()
    assert 0 < most <= 2


async def test_wait_that_is_too_long_is_an_error_with_the_numbers_and_not_the_end(
    start_gateway: StartGateway, database: Database
) -> None:
    gateway = start_gateway(pool={"max_size": 1, "wait_timeout": 0.3})
    async with logged_in(gateway, database) as holder, logged_in(gateway, database) as program:
        await holder.query("BEGIN")
        for answer in (await program.query("SELECT 1"), await program.ask("SELECT $1::int", 1)):
            assert (answer.tags, answer.code, answer.status) == ("EZ", "53300", "I")
            assert "all 1 are in use" in answer.error["M"]
        await holder.query("COMMIT")
        assert await program.value("SELECT 1") == "1"


@pytest.mark.parametrize("first", ["BEGIN", "SET search_path = elsewhere"])
@pytest.mark.parametrize("is_simple", [True, False], ids=["simple", "extended"])
async def test_what_was_sent_behind_a_declined_begin_never_runs_by_itself(
    start_gateway: StartGateway, database: Database, first: str, is_simple: bool
) -> None:
    """The backend that was missing for BEGIN may be there for the INSERT behind it, which nothing would undo."""
    gateway = start_gateway(pool={"max_size": 1, "wait_timeout": 0.3})
    database.psql("CREATE TABLE t (n int)")
    async with logged_in(gateway, database) as holder, logged_in(gateway, database) as program:
        await holder.query("BEGIN")
        begin = encode_query(first.encode()) if is_simple else extended(first)
        await program.send(begin + extended("INSERT INTO t VALUES ($1::int)", 1))
        answer = await program.answer()
        await holder.query("COMMIT")
        assert (answer.tags, answer.code, answer.error["S"]) == ("E", "53300", "FATAL")
        assert program.close_code[0] == 1013
        async with logged_in(gateway, database) as other:
            assert await other.value("SELECT count(*) FROM t") == "0"


async def test_program_that_comes_while_all_backends_are_in_use_is_refused_when_the_wait_is_over(
    start_gateway: StartGateway, database: Database
) -> None:
    gateway = start_gateway(pool={"max_size": 1, "wait_timeout": 0.2})
    async with logged_in(gateway, database) as holder, connected(gateway, database) as program:
        await holder.query("BEGIN")
        answer = await program.log_in({"DateStyle": "German"})  # which no server was asked for before
        assert (answer.code, answer.error["S"]) == ("53300", "FATAL")
        assert program.close_code[0] == 1013


@pytest.mark.parametrize(
    "choice",
    [{"path": "/v2?pool_mode=session"}, {"parameters": {"pool_mode": "session"}}, {"settings": "role"},
     {"settings": "database"}, {"parameters": {"options": "-c pool_mode=session"}}],
    ids=["URL", "start-up", "setting of the role", "setting of the database", "options"],
)  # fmt: skip
async def test_session_mode_keeps_one_backend(
    start_gateway: StartGateway, database: Database, choice: dict[str, object]
) -> None:
    tunnel: dict[str, object] = {}
    if "settings" in choice:
        name = {"role": database.role, "database": database.name}[str(choice.pop("settings"))]
        tunnel = {f"{'role' if name == database.role else 'database'}_pool_mode": {name: "session"}}
    gateway = start_gateway(pool={"max_size": 3}, tunnel=tunnel)
    async with logged_in(gateway, database, **choice) as program:  # type: ignore[arg-type]
        pid = await program.value("SELECT pg_backend_pid()")
        await program.query("CREATE TEMP TABLE mine AS SELECT 5 AS five")
        async with logged_in(gateway, database, {"pool_mode": "transaction"}) as other:
            assert await other.value("SELECT pg_backend_pid()") != pid
        assert await program.value("SELECT pg_backend_pid()") == pid
        assert await program.value("SELECT five FROM mine") == "5"


async def test_pool_mode_that_there_is_not_is_refused(gateway: Gateway, database: Database) -> None:
    async with connected(gateway, database, path="/v2?pool_mode=statement") as program:
        [message] = await program.ended()
        assert message.error["C"] == "22023"


async def test_transaction_mode_gives_the_backend_to_others_between_transactions(
    start_gateway: StartGateway, database: Database
) -> None:
    gateway = start_gateway(pool={"max_size": 1, "wait_timeout": 5})
    async with logged_in(gateway, database) as one, logged_in(gateway, database) as two:
        for _ in range(3):
            for program in (one, two):
                assert (await program.query("BEGIN")).commands == ["BEGIN"]
                assert (await program.query("SELECT 1")).status == "T"
                assert (await program.query("COMMIT")).commands == ["COMMIT"]
        assert await one.value("SELECT pg_backend_pid()") == await two.value("SELECT pg_backend_pid()")


async def test_named_statements_work_on_every_backend_and_never_meet(
    start_gateway: StartGateway, database: Database
) -> None:
    gateway = start_gateway(pool={"max_size": 2})
    async with (
        logged_in(gateway, database) as one,
        logged_in(gateway, database) as two,
        logged_in(gateway, database) as holder,
    ):
        assert (await one.ask("SELECT 'one ' || $1", "a", name="s")).value == "one a"
        assert (await two.ask("SELECT 'two ' || $1", "b", name="s")).value == "two b"
        await holder.query("BEGIN")  # keeps the backend that both were parsed on
        for program, word in ((one, "one"), (two, "two"), (one, "one")):
            await program.send(bound("c", name="s"))
            answer = await program.answer()
            assert (answer.value, answer.tags) == (f"{word} c", "2DCZ")


async def test_set_follows_the_program_and_nobody_else(start_gateway: StartGateway, database: Database) -> None:
    gateway = start_gateway(pool={"max_size": 2})
    async with (
        logged_in(gateway, database) as program,
        logged_in(gateway, database) as other,
        logged_in(gateway, database) as holder,
    ):
        await program.query("SET search_path = pg_catalog; SET TimeZone = 'Asia/Tokyo'")
        await program.ask("SELECT set_config('my.tag', 'blue', false)")
        assert await other.value("SHOW search_path") == '"$user", public'
        await holder.query("BEGIN")
        assert await program.value("SHOW search_path") == "pg_catalog"
        assert await program.value("SHOW TimeZone") == "Asia/Tokyo"
        assert await program.value("SHOW my.tag") == "blue"
        assert await other.value("SELECT coalesce(current_setting('my.tag', true), '')") == ""
        await program.query("RESET ALL")
        assert await program.value("SHOW search_path") == '"$user", public'


async def test_what_a_function_leaves_behind_is_gone_before_the_next_program(
    start_gateway: StartGateway, database: Database
) -> None:
    """No text tells of it: the scrub of the connection has to find it."""
    database.psql(
        "CREATE FUNCTION leave() RETURNS void LANGUAGE plpgsql AS $$ BEGIN"
        " EXECUTE 'PREPARE p AS SELECT 42'; CREATE TEMP TABLE mine (n int); SET my.tag = 'seen';"
        " PERFORM pg_advisory_lock(7); END $$"
    )
    gateway = start_gateway(pool={"max_size": 1})
    async with logged_in(gateway, database) as one, logged_in(gateway, database) as two:
        for leaving in ("SELECT leave()", "SELECT leave() WHERE true"):
            await one.ask(leaving)
            assert (await two.query("EXECUTE p")).code == "26000"
            assert (await two.query("TABLE mine")).code == "42P01"
            assert await two.value("SELECT coalesce(current_setting('my.tag', true), '')") == ""
            assert await two.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "0"


async def test_temporary_table_keeps_the_backend_until_it_is_dropped(
    start_gateway: StartGateway, database: Database
) -> None:
    gateway = start_gateway(pool={"max_size": 2, "wait_timeout": 0.3})
    async with logged_in(gateway, database) as program, logged_in(gateway, database) as other:
        await program.query("CREATE TEMP TABLE mine AS SELECT 1 AS one")
        await other.query("BEGIN")
        assert await program.value("SELECT one FROM mine") == "1"
        await program.query("DROP TABLE mine")
        async with logged_in(gateway, database) as third:  # would find no backend otherwise
            assert await third.value("SELECT count(*) FROM pg_class WHERE relname = 'mine'") == "0"


async def test_pins_beyond_the_bound_are_refused_with_the_numbers(
    start_gateway: StartGateway, database: Database
) -> None:
    gateway = start_gateway(pool={"max_size": 5}, tunnel={"max_pinned": 1})
    async with logged_in(gateway, database) as one, logged_in(gateway, database) as two:
        await one.query("CREATE TEMP TABLE mine (n int)")
        await one.query("SELECT 1")  # answered once it is known that the backend has to stay
        await two.send(encode_query(b"CREATE TEMP TABLE mine (n int)"))
        refusals = [message.error for message in await two.ended() if message.tag == "E"]
        assert [(error["C"], error["S"]) for error in refusals] == [("53400", "FATAL")]
        assert "tunnel.max_pinned" in refusals[0]["M"]
        assert two.close_code[0] == 1013
        assert await one.value("SELECT count(*) FROM mine") == "0"
        async with logged_in(gateway, database) as three:
            assert await three.value("SELECT 1") == "1"


async def test_pin_of_a_program_that_left_is_free_again(start_gateway: StartGateway, database: Database) -> None:
    gateway = start_gateway(pool={"max_size": 2}, tunnel={"max_pinned": 1})
    for _ in range(3):
        async with logged_in(gateway, database) as program:
            assert (await program.query("CREATE TEMP TABLE mine (n int)")).commands == ["CREATE TABLE"]
            await program.terminate()


async def test_copy_in_and_out_and_cursors_work(gateway: Gateway, database: Database) -> None:
    async with logged_in(gateway, database) as program:
        await program.query("CREATE TABLE t (n int)")
        await program.send(encode_query(b"COPY t FROM STDIN"))
        message = await program.message()
        assert message is not None
        assert message.tag == "G"
        await program.send(frame(b"d", b"1\n2\n") + frame(b"d", b"3\n") + frame(b"c", b""))
        assert (await program.answer()).commands == ["COPY 3"]
        assert (await program.query("COPY t TO STDOUT")).tags == "HdddcCZ"
        await program.query("BEGIN; DECLARE c CURSOR FOR SELECT n FROM t ORDER BY n")
        assert (await program.query("FETCH 2 FROM c")).rows == [["1"], ["2"]]
        assert (await program.query("FETCH 2 FROM c")).rows == [["3"]]
        assert (await program.query("COMMIT")).status == "I"


async def test_flush_brings_answers_before_sync(gateway: Gateway, database: Database) -> None:
    async with logged_in(gateway, database) as program:
        await program.send(encode_parse(b"", b"SELECT 1") + FLUSH)
        message = await program.message()
        assert message is not None
        assert message.tag == "1"
        await program.send(SYNC)
        assert (await program.answer()).tags == "Z"


# ── cancel ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_cancel_ends_the_query_of_its_key_and_no_other(gateway: Gateway, database: Database) -> None:
    async with (
        logged_in(gateway, database) as one,
        logged_in(gateway, database) as two,
        watching(database) as watch,
    ):
        await watch.run("SELECT pg_advisory_lock(1)")
        for program, name in ((one, b"one"), (two, b"two")):
            await program.send(encode_query(b"SELECT pg_advisory_xact_lock(1), '%b'" % name))
        await watch.until(2, "wait_event = 'advisory'")
        async with connected(gateway, database) as canceller:
            await canceller.send(canceller.cancel_request(one.key))
            assert await canceller.ended() == []
        answer = await one.answer()
        assert (answer.code, answer.status) == ("57014", "I")
        await watch.run("SELECT pg_advisory_unlock(1)")
        assert (await two.answer()).rows == [["", "two"]]
        assert await one.value("SELECT 1") == "1"


async def test_wrong_key_cancels_nothing(gateway: Gateway, database: Database) -> None:
    async with logged_in(gateway, database) as program, watching(database) as watch:
        await watch.run("SELECT pg_advisory_lock(1)")
        await program.send(encode_query(b"SELECT pg_advisory_xact_lock(1), 'done'"))
        await watch.until(1, "wait_event = 'advisory'")
        wrong = program.key[:4] + bytes(byte ^ 1 for byte in program.key[4:])
        for key in (wrong, program.key + b"\0", b"\0\0\0\1\0\0\0\0"):
            async with connected(gateway, database) as canceller:
                await canceller.send(canceller.cancel_request(key))
                assert await canceller.ended() == []
        await watch.run("SELECT pg_advisory_unlock(1)")
        assert (await program.answer()).rows == [["", "done"]]


async def test_cancel_that_comes_late_meets_nobody(start_gateway: StartGateway, database: Database) -> None:
    gateway = start_gateway(pool={"max_size": 1})
    async with logged_in(gateway, database) as one, logged_in(gateway, database) as two:
        for _ in range(20):
            await one.query("SELECT 1")
            async with connected(gateway, database) as canceller:
                await canceller.send(canceller.cancel_request(one.key))
                assert (await two.query("SELECT pg_sleep(0.01)")).code == ""


async def test_cancel_reaches_a_program_that_waits_for_a_backend(
    start_gateway: StartGateway, database: Database
) -> None:
    gateway = start_gateway(pool={"max_size": 1, "wait_timeout": 25})
    async with logged_in(gateway, database) as holder, logged_in(gateway, database) as program:
        await holder.query("BEGIN")
        await program.send(encode_query(b"SELECT 1"))
        answering = asyncio.create_task(program.answer())
        while not answering.done():
            async with connected(gateway, database) as canceller:
                await canceller.send(canceller.cancel_request(program.key))
                await canceller.ended()
        answer = await answering
        assert (answer.code, answer.status) == ("57014", "I")


# ── programs that vanish, and those that do not read ─────────────────────────────────────────────────────────────────


async def test_program_that_vanishes_in_a_transaction_is_rolled_back(
    start_gateway: StartGateway, database: Database
) -> None:
    gateway = start_gateway(pool={"max_size": 1})
    async with logged_in(gateway, database) as program:
        await program.query("CREATE TABLE t (n int)")
        await program.query("BEGIN; INSERT INTO t VALUES (1); SET work_mem = '5MB'; PREPARE p AS SELECT 1")
        program.vanish()
    async with logged_in(gateway, database) as other:
        assert await other.value("SELECT count(*) FROM t") == "0"
        assert await other.value("SHOW work_mem") == "4MB"
        assert await other.value("SELECT count(*) FROM pg_prepared_statements WHERE from_sql") == "0"
    await eventually(database, "state LIKE 'idle in transaction%'", 0)


async def test_program_that_vanishes_in_a_query_has_it_cancelled(
    start_gateway: StartGateway, database: Database
) -> None:
    gateway = start_gateway(pool={"max_size": 1})
    async with logged_in(gateway, database) as program:
        await program.send(encode_query(b"SELECT pg_sleep(100)"))
        await eventually(database, "state = 'active' AND query LIKE '%pg_sleep%'", 1)
        program.vanish()
    await eventually(database, "query LIKE '%pg_sleep%' AND state = 'active'", 0)
    async with logged_in(gateway, database) as other:
        assert await other.value("SELECT 1") == "1"


@pytest.mark.parametrize(
    "torn",
    [
        encode_query(b"COPY t FROM STDIN") + frame(b"d", b"1\n"),
        encode_query(b"COPY t FROM STDIN") + frame(b"d", b"1\n")[:-1],
        b"B\0\0\xff\xff\0\0" + b"x" * 20_000,
        extended("INSERT INTO t VALUES (1)")[:-5],
    ],
    ids=["COPY", "COPY data cut", "Bind cut", "before Sync"],
)
async def test_program_that_vanishes_in_the_middle_of_something_leaves_a_free_backend(
    start_gateway: StartGateway, database: Database, torn: bytes
) -> None:
    gateway = start_gateway(pool={"max_size": 1, "wait_timeout": 8})
    async with logged_in(gateway, database) as program:
        await program.query("CREATE TABLE t (n int)")
        await program.send(torn)
        await program.send(b"")
        await eventually(database, "backend_type = 'client backend' AND application_name = 'sqlhttp'", 1)
        program.vanish()
    async with logged_in(gateway, database) as other:
        assert await other.value("SELECT count(*) FROM t") == "0"


async def test_program_that_does_not_read_is_cut_and_its_backend_is_free(
    start_gateway: StartGateway, database: Database
) -> None:
    gateway = start_gateway(pool={"max_size": 1, "wait_timeout": 10}, tunnel={"send_timeout": 0.5})
    async with connected(gateway, database, max_queue=1) as program:
        await program.log_in()
        await program.send(encode_query(b"SELECT repeat('x', 1000) FROM generate_series(1, 300000)"))
        await program.message()
        async with logged_in(gateway, database) as other:
            assert await other.value("SELECT 1") == "1"
        rows = len(await program.ended())
        assert 0 < rows < 300_000


# ── time limits ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("setting", "first", "code", "words"),
    [
        ("idle_in_transaction_timeout", "BEGIN", "25P03", "idle-in-transaction timeout"),
        ("transaction_timeout", "BEGIN", "25P04", "transaction timeout"),
        ("client_idle_timeout", "SELECT 1", "57P05", "idle-session timeout"),
        ("pinned_idle_timeout", "CREATE TEMP TABLE mine (n int)", "57P05", "idle-session timeout"),
    ],
)
async def test_time_limit_that_is_passed_ends_the_tunnel_and_is_named(
    start_gateway: StartGateway, database: Database, setting: str, first: str, code: str, words: str
) -> None:
    gateway = start_gateway(pool={"max_size": 1}, tunnel={setting: 0.3})
    async with logged_in(gateway, database) as program:
        await program.query(first)
        [message] = await program.ended()
        assert (message.error["C"], message.error["S"]) == (code, "FATAL")
        assert words in message.error["M"]
        assert f"tunnel.{setting} is 0.3 s" in message.error["M"]
        assert program.close_code[0] == 1008
    await eventually(database, "state LIKE 'idle in transaction%'", 0)


@pytest.mark.parametrize("pool_mode", ["transaction", "session"])
async def test_batch_that_is_left_without_its_sync_is_an_idle_transaction(
    start_gateway: StartGateway, database: Database, pool_mode: str
) -> None:
    gateway = start_gateway(pool={"max_size": 1}, tunnel={"idle_in_transaction_timeout": 0.3})
    async with logged_in(gateway, database, {"pool_mode": pool_mode}) as program:
        await program.query("CREATE TABLE t ()")
        await program.send(extended("INSERT INTO t DEFAULT VALUES").removesuffix(SYNC) + FLUSH)
        *answer, last = await program.ended()
        assert "".join(message.tag for message in answer) == "12C"
        assert last.error["C"] == "25P03"
    async with logged_in(gateway, database) as program:
        assert await program.value("SELECT count(*) FROM t") == "0"


async def test_time_of_a_query_does_not_count_as_idle(start_gateway: StartGateway, database: Database) -> None:
    gateway = start_gateway(tunnel={"idle_in_transaction_timeout": 1.0, "client_idle_timeout": 1.0})
    async with logged_in(gateway, database) as program:
        await program.query("BEGIN")
        await program.query("SELECT pg_sleep(1.3)")
        assert (await program.query("COMMIT")).commands == ["COMMIT"]


# ── trouble with Postgres, and the end ───────────────────────────────────────────────────────────────────────────────


async def test_backend_that_is_killed_is_told_in_postgres_words_once(gateway: Gateway, database: Database) -> None:
    async with logged_in(gateway, database) as program:
        await program.query("BEGIN")
        pid = await program.value("SELECT pg_backend_pid()")
        connection = await database.connect()
        await connection.execute(f"SELECT pg_terminate_backend({pid})")
        await connection.close()
        errors = [message.error for message in await program.ended() if message.tag == "E"]
        assert [error["C"] for error in errors] == ["57P01"]


async def test_idle_program_does_not_notice_that_a_backend_died(gateway: Gateway, database: Database) -> None:
    async with logged_in(gateway, database) as program:
        pid = await program.value("SELECT pg_backend_pid()")
        connection = await database.connect()
        await connection.execute(f"SELECT pg_terminate_backend({pid})")
        await connection.close()
        await eventually(database, f"pid = {pid}", 0)
        assert await program.value("SELECT 1") == "1"


async def test_more_programs_than_may_be_connected_are_told_so(start_gateway: StartGateway, database: Database) -> None:
    gateway = start_gateway(tunnel={"max_open": 1})
    async with logged_in(gateway, database), connected(gateway, database) as program:
        [message] = await program.ended()
        assert message.error["C"] == "53300"
        assert "tunnel.max_open" in message.error["M"]


async def test_compression_is_not_agreed_to(gateway: Gateway) -> None:
    async with connect(gateway.url.replace("http", "ws") + "/v2", proxy=None) as socket:
        assert socket.protocol.extensions == []


async def test_transaction_may_finish_when_the_gateway_is_told_to_stop(postgres: Cluster, database: Database) -> None:
    port = free_port()
    environment = {"DATABASE_URL": postgres.maintenance.url, "SQLHTTP_LISTEN__PORT": str(port)}
    url = f"http://127.0.0.1:{port}"
    with GatewayProcess("serve", environment=environment) as process:
        process.wait_until_ready(url)
        gateway = Gateway(url, load_settings(database_url=postgres.maintenance.url))
        async with logged_in(gateway, database) as busy, logged_in(gateway, database) as idle:
            await busy.query("CREATE TABLE t (n int)")
            await busy.query("BEGIN; INSERT INTO t VALUES (1)")
            process.send(signal.SIGTERM)
            [message] = await idle.ended()
            assert message.error["C"] == "57P01"
            await busy.query("INSERT INTO t VALUES (2)")
            assert (await busy.query("COMMIT")).commands == ["COMMIT"]
            [message] = await busy.ended()
            assert (message.error["C"], busy.close_code[0]) == ("57P01", 1013)
        assert process.wait() == 0
    assert database.psql("SELECT count(*) FROM t").strip() == "2"


async def test_memory_of_a_program_that_does_not_read_is_bounded(
    start_gateway: StartGateway, database: Database
) -> None:
    """What waits for it is the gateway's buffer, not the answer."""
    gateway = start_gateway(pool={"max_size": 2}, tunnel={"buffer_bytes": 200_000})
    async with connected(gateway, database, max_queue=1) as program:
        await program.log_in()
        before = resident_bytes()
        await program.send(encode_query(b"SELECT repeat('x', 1000000) FROM generate_series(1, 300)"))
        await eventually(database, "state = 'active' AND wait_event = 'ClientWrite'", 1)
        assert resident_bytes() - before < 100_000_000  # of 300 MB; the kernel's own buffers are not ours
        program.vanish()
    await eventually(database, "state = 'active'", 0)


def resident_bytes() -> int:
    """Of this process, in which the gateway runs."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


# ── who lingers ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_backend_that_lingers_is_clean_for_whoever_wants_it(
    start_gateway: StartGateway, database: Database
) -> None:
    """Nobody waits for the end of the lingering, and what no text tells of is gone when the backend changes hands."""
    gateway = start_gateway(pool={"max_size": 1, "wait_timeout": 5}, tunnel={"linger": 60})
    database.psql(
        "CREATE FUNCTION hide() RETURNS text LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM set_config('my.own', 'secret', false), pg_advisory_lock(4711);"
        " CREATE TEMP TABLE hidden (n int); RETURN current_setting('my.own'); END $$"
    )
    look = "SELECT current_setting('my.own', true), to_regclass('hidden')"
    async with logged_in(gateway, database) as program, logged_in(gateway, database) as other:
        pid = await program.value("SELECT pg_backend_pid()")
        assert await program.value("SELECT hide()") == "secret"
        assert (await program.query(look)).rows == [["secret", "hidden"]]  # as with a connection of one's own
        assert [backend for backend, *_ in await activity(database)] == [int(str(pid))]
        assert (await other.query(look)).rows[0][0] in (None, "")
        assert (await other.query(look)).rows[0][1] is None
        assert await other.value("SELECT pg_backend_pid()") == pid
        assert (await program.query(look)).rows[0][1] is None
        answer = await asyncio.to_thread(post_statement, gateway, database, "SELECT pg_try_advisory_lock(4711)")
        assert b'"t"' in answer or b"true" in answer


async def test_backend_that_lingers_makes_room_for_another_pool(
    start_gateway: StartGateway, database: Database
) -> None:
    gateway = start_gateway(pool={"max_size": 1, "max_total": 1, "wait_timeout": 5}, tunnel={"linger": 60})
    database.psql("CREATE ROLE lingers_beside LOGIN PASSWORD 'secret'")
    try:
        async with logged_in(gateway, database) as program:
            assert await program.value("SELECT 1") == "1"
            async with logged_in(gateway, database.as_role("lingers_beside", "secret")) as other:
                assert await other.value("SELECT current_user") == "lingers_beside"
                assert await program.value("SELECT current_user") == "postgres"
    finally:
        await eventually(database, "usename = 'lingers_beside'", 0)
        database.psql("DROP ROLE lingers_beside")


async def test_backend_that_dies_while_it_lingers_is_nobodys_loss(
    start_gateway: StartGateway, database: Database
) -> None:
    gateway = start_gateway(pool={"max_size": 1}, tunnel={"linger": 60})
    async with logged_in(gateway, database) as program:
        pid = await program.value("SELECT pg_backend_pid()")
        database.psql(f"SELECT pg_terminate_backend({pid})")
        await eventually(database, "true", 0)
        assert await program.value("SELECT pg_backend_pid()") != pid


def post_statement(gateway: Gateway, database: Database, text: str) -> bytes:
    """One statement over HTTP."""
    request = Request(
        gateway.sql, json.dumps({"query": text, "params": []}).encode(), {"Neon-Connection-String": database.url}
    )
    with urlopen(request, timeout=10) as response:
        return bytes(response.read())


async def test_log_in_needs_no_free_backend_once_somebody_was_let_in(
    start_gateway: StartGateway, database: Database
) -> None:
    gateway = start_gateway(pool={"max_size": 1, "wait_timeout": 0.5}, tunnel={"linger": 0})
    parameters = {"TimeZone": "europe/vienna", "application_name": "one"}
    async with logged_in(gateway, database, parameters) as first:
        await first.query("BEGIN")
        async with logged_in(gateway, database, parameters | {"application_name": "two"}) as second:
            assert second.parameters == first.parameters | {"application_name": "two"}
            assert (await second.query("SELECT 1")).code == "53300"
            await first.query("COMMIT")
            assert await second.value("SELECT current_setting('TimeZone') || current_setting('application_name')") == (
                "Europe/Viennatwo"
            )
