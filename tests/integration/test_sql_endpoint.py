"""What POST /sql stands: large batches, noisy servers, odd encodings, and the ways of HTTP."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from tests.support.cluster import Cluster
from tests.support.gateway import Gateway
from tests.support.program import RAW, Program, program_of, scratch_database
from tests.support.sockets import post


@pytest.fixture(scope="module")
def program(postgres: Cluster, gateway: Gateway) -> Iterator[Program]:
    with scratch_database(postgres) as database, program_of(gateway, database) as program:
        yield program


# ── large and many ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_batch_of_three_thousand_statements(program: Program) -> None:
    body = {"queries": [{"query": f"SELECT {i % 300} + $1::int AS v", "params": [i]} for i in range(3000)]}
    results = program.post(body).json()["results"]
    assert [result["rows"] for result in results] == [[{"v": i % 300 + i}] for i in range(3000)]


def test_batch_that_is_large_both_ways_does_not_get_stuck(program: Program) -> None:
    """Postgres stops reading while nobody reads what it writes, so both have to go on at once."""
    query = {"query": "SELECT length($1) AS n, repeat('y', 30000) AS y", "params": ["x" * 30_000]}
    response = program.post({"queries": [query] * 300})
    assert response.status_code == 200
    assert {(row["n"], len(row["y"])) for result in response.json()["results"] for row in result["rows"]} == {
        (30_000, 30_000)
    }


@pytest.mark.parametrize("array_mode", [True, False])
@pytest.mark.parametrize("raw", [True, False])
def test_many_rows_are_what_few_rows_at_a_time_are(program: Program, array_mode: bool, raw: bool) -> None:
    """Many are read as they arrive, few when all are there."""
    text = (
        "SELECT n, n * 1.5 AS half, n % 3 = 0 AS third, CASE WHEN n % 5 > 0 THEN 'größe \"' || n END AS name, "
        "ARRAY['a', 'n' || n] AS tags, jsonb_build_object('n', n, 'none', NULL) AS data "
        "FROM generate_series($1::int, $2::int) AS n ORDER BY n"
    )
    headers = {"Neon-Array-Mode": str(array_mode).lower(), "Neon-Raw-Text-Output": str(raw).lower()}
    few = [program.ask(text, at, at + 199, headers=headers) for at in range(1, 4001, 200)]
    many = program.ask(text, 1, 4000, headers=headers)
    assert (many["fields"], many["rowCount"]) == (few[0]["fields"], 4000)
    assert many["rows"] == [row for answer in few for row in answer["rows"]]
    twice = program.post({"queries": [{"query": text, "params": [1, 4000]}] * 2}, headers=headers).json()["results"]
    assert [result["rows"] for result in twice] == [many["rows"]] * 2


def test_error_behind_many_rows_is_the_answer(program: Program) -> None:
    response = program.post({"query": "SELECT repeat('x', 99), 1 / (5000 - n) FROM generate_series(1, 9999) AS n"})
    assert (response.status_code, response.json()["code"]) == (400, "22012")


async def test_many_at_once_each_get_their_own_answer(start_program: Callable[..., Program]) -> None:
    program = start_program(pool={"max_size": 4, "wait_timeout": 60})

    async def one(number: int) -> None:
        texts = {
            0: {"query": "SELECT $1::int", "params": [number]},
            1: {"query": f"SELECT {number}"},
            2: {"queries": [{"query": "SELECT 0"}, {"query": "SELECT $1::int", "params": [number]}]},
            3: {"query": "SELECT 1 / ($1::int - $1::int)", "params": [number]},
        }
        answer = await post(program, texts[number % 4])
        if number % 4 == 3:
            assert (answer.status, answer.json()["code"]) == (400, "22012")
            return
        body = answer.json()
        assert (body["results"][1] if number % 4 == 2 else body)["rows"] == [[number]]

    await asyncio.gather(*(one(number) for number in range(400)))


# ── a server that says more than was asked ───────────────────────────────────────────────────────────────────────────


def test_notices_and_settings_between_the_rows_do_no_harm(program: Program) -> None:
    program.ask(
        "CREATE FUNCTION noisy(i int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'D%', i; "
        "PERFORM set_config('application_name', 'noise ' || i, false); RETURN i; END $$"
    )
    for headers in ({}, RAW):
        answer = program.ask("SELECT i, noisy(i) AS n FROM generate_series(1, 3000) i", headers=headers)
        rows = [[int(value) for value in (row.values() if isinstance(row, dict) else row)] for row in answer["rows"]]
        assert rows == [[i, i] for i in range(1, 3001)]


def test_notifications_of_ones_own_channel_do_no_harm(program: Program) -> None:
    body = {"queries": [{"query": "LISTEN here"}, {"query": "SELECT pg_notify('here', repeat('x', 5000)) AS v"}] * 20}
    assert program.post(body).status_code == 200
    assert program.value("SELECT 1") == 1


def test_cursor_in_a_batch(program: Program) -> None:
    texts = (
        "DECLARE c CURSOR FOR SELECT generate_series(1, 5) AS g",
        "FETCH 2 FROM c",
        "MOVE 1 FROM c",
        "FETCH ALL FROM c",
    )
    response = program.post({"queries": [{"query": text} for text in texts]})
    told = [(result["command"], result["rowCount"], result["rows"]) for result in response.json()["results"]]
    assert told == [
        ("DECLARE", None, []),
        ("FETCH", 2, [{"g": 1}, {"g": 2}]),
        ("MOVE", 1, []),
        ("FETCH", 2, [{"g": 4}, {"g": 5}]),
    ]


def test_prepare_and_execute_in_a_batch_under_a_name_used_before(program: Program) -> None:
    for value in ("1", "'x'", "NULL::int"):
        texts = (f"PREPARE p AS SELECT {value} AS v", "EXECUTE p")
        response = program.post({"queries": [{"query": text} for text in texts]})
        assert response.status_code == 200, response.text
        assert response.json()["results"][1]["rows"] == [{"v": {"1": 1, "'x'": "x", "NULL::int": None}[value]}]


def test_procedure_may_commit(program: Program) -> None:
    program.ask("CREATE TABLE steps (t text)")
    program.ask(
        "CREATE PROCEDURE step(INOUT n int) LANGUAGE plpgsql AS $$ BEGIN INSERT INTO steps VALUES ('kept'); COMMIT; "
        "INSERT INTO steps VALUES ('lost'); ROLLBACK; n := n + 1; END $$"
    )
    answer = program.ask("CALL step(41)")
    assert (answer["command"], answer["rows"]) == ("CALL", [{"n": 42}])
    assert program.rows("SELECT t FROM steps") == [["kept"]]


def test_statements_that_refuse_a_transaction_work_alone(program: Program) -> None:
    program.ask("CREATE TABLE alone (i int)")
    for text in ("VACUUM alone", "CREATE INDEX CONCURRENTLY ON alone (i)", "REINDEX TABLE CONCURRENTLY alone"):
        program.ask(text)
        assert program.post({"queries": [{"query": text}]}).json()["code"] == "25001"


# ── encodings ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def encoded(postgres: Cluster, program: Program) -> Iterator[Callable[[str], Program]]:
    """A program in a database of another encoding."""
    made = []

    def make(encoding: str) -> Program:
        name = f"in_{encoding.lower()}"
        postgres.maintenance.psql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
        made.append(name)
        return program.to(replace(postgres.maintenance, name=name))

    yield make
    for name in made:
        postgres.maintenance.psql(f"DROP DATABASE {name} WITH (FORCE)")


def test_database_of_another_encoding_is_converted(encoded: Callable[[str], Program]) -> None:
    program = encoded("LATIN1")
    program.ask("CREATE TABLE words (w text)")
    program.ask("INSERT INTO words VALUES ($1)", "déjà vu")
    assert program.rows("SELECT w, octet_length(w) FROM words") == [["déjà vu", 7]]
    assert program.error("SELECT $1::text", "☃")["code"] == "22P05"
    assert program.value("SELECT 1") == 1


def test_database_without_an_encoding_gives_text_or_an_error_but_no_broken_json(
    encoded: Callable[[str], Program],
) -> None:
    program = encoded("SQL_ASCII")
    assert program.value("SELECT 'é☃'") == "é☃"
    for text in ("SELECT chr(200)", "SELECT chr(255) || 'x', NULL", "DO $$ BEGIN RAISE '%', chr(200); END $$"):
        response = program.post({"query": text}, RAW)
        assert response.status_code in (400, 500)
        assert json.loads(response.content)["message"]
        assert program.value("SELECT 1") == 1


def test_client_encoding_of_one_request_is_not_the_nexts(program: Program) -> None:
    for encoding in ("LATIN1", "SJIS", "EUC_JP"):
        program.post({"queries": [{"query": f"SET client_encoding = '{encoding}'"}, {"query": "SELECT chr(233)"}]})
        program.post({"query": f"SET client_encoding = '{encoding}'"})
        assert program.value("SELECT $1::text || 'é☃'", "あ") == "あé☃"


# ── the ways of HTTP ─────────────────────────────────────────────────────────────────────────────────────────────────


def request_bytes(program: Program, text: str, *, extra: str = "", version: str = "1.1") -> bytes:
    body = json.dumps({"query": text}).encode()
    head = (
        f"POST /sql HTTP/{version}\r\nHost: gateway\r\nContent-Length: {len(body)}\r\n"
        f"Neon-Connection-String: {program.connection_string}\r\n{extra}\r\n"
    )
    return head.encode() + body


async def talk(program: Program, *pieces: bytes, until: bytes) -> bytes:
    """Send the pieces one by one; what comes back up to and including `until`."""
    where = urlsplit(program.endpoint)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(20):
            return await reader.readuntil(until)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_requests_sent_ahead_are_answered_in_order(program: Program) -> None:
    ahead = b"".join(
        request_bytes(program, text)
        for text in ("SELECT 1 AS a, pg_sleep(0.05)::text", "SELECT 2 AS a", "SELECT 3 AS a")
    )
    answered = await talk(program, ahead, until=b'"a":3}],"command":"SELECT","rowCount":1,"rowAsArray":false}')
    assert answered.count(b"HTTP/1.1 200") == 3
    assert answered.index(b'"a":1') < answered.index(b'"a":2') < answered.index(b'"a":3')


async def test_request_in_small_pieces(program: Program) -> None:
    request = request_bytes(program, "SELECT 'in pieces' AS v")
    pieces = [request[i : i + 7] for i in range(0, len(request), 7)]
    assert b'"in pieces"' in await talk(program, *pieces, until=b'"rowAsArray":false}')


async def test_expectation_is_met_before_the_body(program: Program) -> None:
    head, _, body = request_bytes(program, "SELECT 5 AS v", extra="Expect: 100-continue\r\n").partition(b"\r\n\r\n")
    answered = await talk(program, head + b"\r\n\r\n", body, until=b'"rowAsArray":false}')
    assert answered.startswith(b"HTTP/1.1 100 Continue")
    assert b'"v":5' in answered


async def test_old_version_of_http(program: Program) -> None:
    answered = await talk(program, request_bytes(program, "SELECT 6 AS v", version="1.0"), until=b'"rowAsArray":false}')
    assert b" 200 OK" in answered
    assert b'"v":6' in answered


async def test_connection_is_kept_after_an_error_and_closed_when_asked(program: Program) -> None:
    answered = await talk(
        program,
        request_bytes(program, "selct") + request_bytes(program, "SELECT 7 AS v", extra="Connection: close\r\n"),
        until=b'"rowAsArray":false}',
    )
    assert b" 400 " in answered
    assert b'"v":7' in answered
