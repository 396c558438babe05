"""The same said to Postgres directly and through the gateway gets the same answers, message by message.

Scripts are run on fresh databases: once over a connection of their own, then over a tunnel for each pool mode, whose
backends change hands between any two transactions, with others in between who leave their settings behind. What is
compared is all that comes: rows, types, tags, notices, every field of errors, the transaction status. What differs on
purpose is in deploy/README.md, "Postgres's own wire", and not in the scripts.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from struct import pack, unpack_from

import pytest

from sqlhttp_gateway.wire.frontend import EXECUTE, FLUSH, SYNC, encode_bind, encode_parse, encode_query
from sqlhttp_gateway.wire.scram import Client
from tests.support.cluster import Cluster, Database
from tests.support.gateway import Gateway, gateway_in_thread
from tests.support.wire_program import Message, SocketPipe, WireProgram, dialled, frame, logged_in

PORTAL = frame(b"D", b"P\0")
NOISE = "SET DateStyle = 'German'; SET search_path = pg_catalog; SET TimeZone = 'Asia/Tokyo'; SET work_mem = '1MB'"
Step = str | bytes | tuple[str, ...]
"""A simple query, messages up to one ReadyForQuery, or a text with parameters in the extended protocol."""


COPY_IN = encode_query(b"COPY t FROM STDIN")
BOUND_COPY_IN = encode_parse(b"", b"COPY t FROM STDIN") + encode_bind(b"", []) + EXECUTE
GOOD, BAD, DONE = frame(b"d", b"1\tx\n2\ty\n"), frame(b"d", b"none\n"), frame(b"c", b"")


def several(*texts: str) -> bytes:
    """Statements in one batch of the extended protocol."""
    each = (encode_parse(b"", text.encode()) + encode_bind(b"", []) + PORTAL + EXECUTE for text in texts)
    return b"".join(each) + SYNC


def rows_at_a_time(text: str, *counts: int) -> bytes:
    """One portal, executed for so many rows each time."""
    executes = (frame(b"E", b"\0" + pack("!I", count)) for count in counts)
    return encode_parse(b"", text.encode()) + encode_bind(b"", []) + b"".join(executes) + SYNC


def named(name: str, text: str) -> bytes:
    """Parse, alone."""
    return encode_parse(name.encode(), text.encode()) + SYNC


def malformed(tag: bytes, body: bytes) -> list[Step]:
    """A message that cannot be read, before and after others, in a transaction and in none."""
    one = frame(tag, body)
    rest = encode_bind(b"a", []) + EXECUTE
    return [one + SYNC, "BEGIN", rest + one + rest + SYNC, one + SYNC, "ROLLBACK", rest + SYNC]


SCRIPTS: dict[str, list[Step]] = {
    "nothing": ["", ";", " ; ;", "-- only", "/* a /* b */ */;;", ("",), ("-- c",), (";",), ("SELECT 1; SELECT 2",)],
    "several statements": [
        "SELECT 1 AS a; SELECT 1/0; SELECT 2",
        "SELECT 1;; SELECT 'x'::text b; CREATE TABLE t (); INSERT INTO t DEFAULT VALUES; SELECT FROM t; TABLE t",
        "BEGIN; INSERT INTO t DEFAULT VALUES; SELECT 1/0; COMMIT",
        "ROLLBACK",
        "SELECT count(*) FROM t",
        several("SELECT 1", "SELECT 1/0", "SELECT 2"),
        several("BEGIN", "INSERT INTO t DEFAULT VALUES", "COMMIT"),
    ],
    "writes": [
        "CREATE TABLE t (a int PRIMARY KEY, b text CHECK (b <> 'bad'), c date, UNIQUE (b))",
        "INSERT INTO t VALUES (1, 'x'), (2, 'y') RETURNING a, b AS \"B b\"",
        ("INSERT INTO t VALUES ($1, $2) RETURNING *", "1", "z"),
        "INSERT INTO t VALUES (3, 'bad')",
        "INSERT INTO t VALUES (4, 'x')",
        "INSERT INTO t VALUES (NULL, 'q')",
        "INSERT INTO t VALUES (5, 'v', '2024-13-45')",
        "WITH d AS (DELETE FROM t RETURNING a) INSERT INTO t SELECT a + 10 FROM d RETURNING a",
        "MERGE INTO t USING (VALUES (11), (99)) v(a) ON t.a = v.a WHEN MATCHED THEN DELETE"
        " WHEN NOT MATCHED THEN INSERT VALUES (v.a)",
        "INSERT INTO t VALUES (12) ON CONFLICT (a) DO UPDATE SET b = 'c' RETURNING *",
        ("SELECT $1::int", "abc"),
        ("SELECT $1::int", "99999999999"),
        ("SELECT $1",),
        ("SELECT 1", "5"),
        "SELECT nope FROM t",
        "SELEC 1",
        "TRUNCATE t",
    ],
    "what functions say": [
        "DO $$ BEGIN RAISE DEBUG 'd'; RAISE INFO 'i'; RAISE NOTICE 'n' USING HINT = 'h', DETAIL = 'dd';"
        " RAISE WARNING 'w' USING ERRCODE = '01999', COLUMN = 'c', CONSTRAINT = 'k', DATATYPE = 't', TABLE = 'tt',"
        " SCHEMA = 'ss'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION 'ä💥' USING ERRCODE = 'P0999', HINT = 'h', DETAIL = 'd', COLUMN = 'c'; END $$",
        "DO $$ BEGIN RAISE SQLSTATE '57P01'; END $$",
        "CREATE FUNCTION inner_one() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1/0; END'",
        "CREATE FUNCTION outer_one() RETURNS int LANGUAGE sql AS 'SELECT inner_one()'",
        ("SELECT outer_one()",),
        "DO $$ BEGIN EXECUTE 'SELECT nope'; END $$",
        "CREATE PROCEDURE p(INOUT a int, OUT b text) LANGUAGE plpgsql AS $$ BEGIN a := a * 2; COMMIT; b := 'x'; END $$",
        "CALL p(1, NULL)",
        "BEGIN",
        "CALL p(1, NULL)",
        "ROLLBACK",
    ],
    "transactions": [
        "SAVEPOINT a",
        "COMMIT",
        "BEGIN",
        "BEGIN",
        "SAVEPOINT a",
        "SELECT 1/0",
        "SELECT 1",
        ("SELECT 1",),
        "ROLLBACK TO a",
        "RELEASE a",
        "COMMIT AND CHAIN",
        "ROLLBACK",
        "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE",
        "SHOW transaction_isolation",
        "CREATE TABLE nope ()",
        "COMMIT",
        ("BEGIN",),
        ("SELECT 1/0",),
        ("COMMIT",),
        "BEGIN; COMMIT; BEGIN",
        "END",
    ],
    "settings": [
        "SET work_mem = '7MB'",
        "SHOW work_mem",
        "SET work_mem = 'bogus'",
        "SET nope = 1",
        "SET LOCAL work_mem = '9MB'",
        "BEGIN; SET LOCAL work_mem = '9MB'",
        "SHOW work_mem",
        "ROLLBACK",
        "SHOW work_mem",
        "SET TimeZone = 'Europe/Berlin'; SET DateStyle = 'SQL, DMY'; SET IntervalStyle = iso_8601",
        "SELECT '2024-07-01 12:00+00'::timestamptz, '1 day 2 hours'::interval",
        "SELECT set_config('work_mem', '6MB', false)",
        "SHOW work_mem",
        "RESET work_mem",
        "SHOW work_mem",
        "SET TimeZone TO DEFAULT",
        "SHOW TimeZone",
        "SET standard_conforming_strings = off; SET escape_string_warning = off",
        "SELECT 'it\\'s; SELECT 2', 3",
        "RESET standard_conforming_strings",
        "SELECT 'a\\', 5",
        "SET statement_timeout = '200ms'",
        "SELECT pg_sleep(20)",
    ],
    "what stays with a session": [
        "PREPARE a AS SELECT $1::int + 1",
        "EXECUTE a(4)",
        "EXECUTE a('x')",
        "DEALLOCATE a",
        "EXECUTE a(1)",
        encode_parse(b"e", b"SELECT $1::int + 1 AS x") + SYNC,
        "EXPLAIN (VERBOSE, COSTS off) EXECUTE e(1)",
        "CREATE TABLE made AS EXECUTE e(41)",
        "SELECT x FROM made",
        "CREATE TEMP TABLE tt (a int) ON COMMIT DELETE ROWS",
        "BEGIN; INSERT INTO tt VALUES (1); SELECT count(*) FROM tt; COMMIT; SELECT count(*) FROM tt",
        "DROP TABLE tt",
        "BEGIN",
        "DECLARE h CURSOR WITH HOLD FOR SELECT generate_series(1, 5)",
        "FETCH 1 FROM h",
        "COMMIT",
        "FETCH 2 FROM h",
        "CLOSE h",
        "FETCH h",
        "SELECT pg_advisory_lock(5)",
        "SELECT pg_advisory_unlock(5), pg_advisory_unlock(5)",
        "DISCARD TEMP",
    ],
    "portals": [
        "BEGIN",
        rows_at_a_time("SELECT generate_series(1, 5)", 2, 2, 2),
        "DECLARE s SCROLL CURSOR FOR SELECT generate_series(1, 10) g",
        "FETCH LAST s",
        "MOVE BACKWARD ALL s",
        "FETCH RELATIVE 2 s",
        "COMMIT",
        rows_at_a_time("SELECT generate_series(1, 3)", 2, 0),
        "FETCH s",
    ],
    "messages that cannot be read": [
        named("a", "SELECT 'ä'"),
        *malformed(b"P", b"a"),
        *malformed(b"P", b"b\0SELECT 1"),
        *malformed(b"P", b"b\0SELECT 1\0"),
        *malformed(b"P", b"b\0SELECT 1\0\0\0more"),
        *malformed(b"P", b""),
        *malformed(b"B", b""),
        *malformed(b"B", b"\0a"),
        *malformed(b"B", b"\0a\0"),
        *malformed(b"D", b""),
        *malformed(b"D", b"S"),
        *malformed(b"D", b"Sa"),
        *malformed(b"D", b"Sa\0more"),
        *malformed(b"D", b"Xa\0"),
        *malformed(b"E", b"a"),
        *malformed(b"C", b""),
        *malformed(b"C", b"Sa"),
        *malformed(b"C", b"Sa\0more"),
        *malformed(b"C", b"Xa\0"),
        frame(b"Q", b"SELECT 1"),
        named("a", "SELECT 1"),
    ],
    "names of statements": [
        named("a", "SELECT $1::int"),
        named("b", "SELECT $1::int"),
        encode_bind(b"a", []) + EXECUTE + SYNC,
        encode_bind(b"b", []) + EXECUTE + SYNC,
        encode_bind(b"a", [b"1", b"2"]) + EXECUTE + SYNC,
        encode_bind(b"c", []) + EXECUTE + SYNC,
        "PREPARE a AS SELECT 'another'",
        ("PREPARE b AS SELECT 'another'",),
        "BEGIN",
        "PREPARE a AS SELECT 'another'",
        "ROLLBACK",
        encode_bind(b"a", [b"7"]) + EXECUTE + SYNC,
        "EXECUTE a(8)",
        "EXECUTE b(9)",
        "DEALLOCATE a",
        "PREPARE a AS SELECT 1; PREPARE b AS SELECT 2",
        "EXECUTE a",
        frame(b"C", b"Sb\0") + SYNC,
        "PREPARE b AS SELECT 'another'",
        named("b", "SELECT 1"),
        encode_bind(b"b", []) + EXECUTE + SYNC,
        named("c", "SELECT 1"),
        named("c", "SELECT 1"),
        encode_bind(b"c", []) + EXECUTE + SYNC,
        "EXECUTE c",
        "EXECUTE b",
        "DEALLOCATE ALL",
        "EXECUTE b",
        "PREPARE a AS SELECT 'another'",
    ],
    "names that one text drops and takes": [
        named("a", "SELECT 1"),
        "DEALLOCATE a; PREPARE a AS SELECT 'another'",
        "EXECUTE a",
        encode_bind(b"a", []) + EXECUTE + SYNC,
        "EXECUTE a; DEALLOCATE a; PREPARE a AS SELECT 'a third'; EXECUTE a",
        "EXECUTE a",
        named("b", "SELECT 1"),
        "EXECUTE b; DEALLOCATE b",
        "EXECUTE b",
        named("c", "SELECT 1"),
        "EXECUTE c",
        "DEALLOCATE ALL; PREPARE c AS SELECT 'another'",
        "EXECUTE c",
        named("d", "SELECT 1"),
        several("DEALLOCATE d", "PREPARE d AS SELECT 'another'"),
        "EXECUTE d",
        "EXECUTE d",
        named("e", "SELECT 1"),
        "DEALLOCATE e; PREPARE e AS SELEC",
        encode_bind(b"e", []) + EXECUTE + SYNC,
        "DEALLOCATE e",
        "PREPARE e AS SELECT 'another'",
    ],
    "COPY": [
        "CREATE TABLE t (a int, b text)",
        COPY_IN + GOOD + DONE,
        encode_query(b"COPY t FROM STDIN; SELECT 1; COPY t TO STDOUT") + GOOD + DONE,
        COPY_IN + BAD + GOOD + DONE,
        COPY_IN + GOOD + frame(b"f", b"no more\0"),
        COPY_IN + FLUSH + GOOD + FLUSH + SYNC + DONE,
        BOUND_COPY_IN + SYNC + GOOD + DONE + SYNC,
        BOUND_COPY_IN + FLUSH + GOOD + DONE + SYNC,
        BOUND_COPY_IN + SYNC + BAD + GOOD + DONE + SYNC,
        BOUND_COPY_IN + FLUSH + GOOD + frame(b"f", b"no more\0") + SYNC,
        BOUND_COPY_IN + GOOD + DONE + encode_parse(b"", b"SELECT 2") + encode_bind(b"", []) + EXECUTE + SYNC,
        "BEGIN",
        COPY_IN + BAD + DONE,
        COPY_IN + GOOD + DONE,
        "ROLLBACK",
        "COPY t TO STDOUT WITH (FORMAT binary)",
        ("COPY t TO STDOUT WITH (HEADER)",),
        "SELECT count(*) FROM t",
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';"
        " CREATE TRIGGER refuse BEFORE INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION refuse()",
        BOUND_COPY_IN + SYNC,
        ("SELECT 1",),
        "BEGIN",
        BOUND_COPY_IN + SYNC,
        ("SELECT 1",),
        "ROLLBACK",
        BOUND_COPY_IN + FLUSH + GOOD + DONE + SYNC,
        ("SELECT 1",),
        COPY_IN,
        SYNC,
    ],
    "the catalog's shapes": [
        "SELECT '{1,NULL,3}'::int[], '[2:3]={1,2}'::int[], ROW(1, NULL, 'a b'), int8range(1, 3), 'NaN'::numeric",
        "SELECT 'infinity'::timestamp, '4713-01-01 BC'::date, '24:00:00'::time, '-0'::float8, 1e-320::float8",
        "SELECT '(1,2)'::point, '$12.30'::money, b'101', '08:00:2b:01:02:03'::macaddr, '::1'::inet, 'a b'::tsvector",
        "SELECT 'pg_class'::regclass, '(0,1)'::tid, '5'::xid8, '1 2'::int2vector, 'a'::\"char\", 'abc'::varchar(2)",
        "SELECT " + ", ".join("1" for _ in range(1665)),
        "EXPLAIN (COSTS OFF) SELECT 1",
        "SHOW nope",
        "VACUUM; SELECT 1",
        "COPY (SELECT 1, NULL, 'a\\b') TO STDOUT",
        "COPY (SELECT 1/0) TO STDOUT",
    ],
}


@pytest.fixture(scope="module")
def restless(postgres: Cluster) -> Iterator[Gateway]:
    """A gateway that takes each backend back at once."""
    settings = {"pool": {"max_size": 3}, "tunnel": {"linger": 0}}
    with gateway_in_thread(postgres.maintenance.url, settings) as gateway:
        yield gateway


@asynccontextmanager
async def directly(database: Database) -> AsyncIterator[WireProgram]:
    """Logged in to Postgres itself."""
    async with dialled(database.host, database.port) as (reader, writer):
        program = WireProgram(SocketPipe(reader, writer), database)
        client = Client(database.password.encode(), "nonce")
        await program.send(program.startup())
        assert await program.message() is not None
        first = client.first()
        await program.send(frame(b"p", b"SCRAM-SHA-256\0" + pack("!I", len(first)) + first))
        while not client.done:
            message = await program.message()
            assert message is not None
            answer = client.receive(message.body[4:])
            if answer is not None:
                await program.send(frame(b"p", answer))
        assert (await program.greeted()).status == "I"
        yield program


async def said(program: WireProgram, step: Step) -> list[tuple[object, ...]]:
    """What comes back for one step, up to ReadyForQuery."""
    if isinstance(step, str):
        await program.send(encode_query(step.encode()))
    elif isinstance(step, bytes):
        await program.send(step)
    else:
        text, *params = step
        values = [value.encode() for value in params]
        await program.send(encode_parse(b"", text.encode()) + encode_bind(b"", values) + PORTAL + EXECUTE + SYNC)
    return [comparable(message) for message in (await program.answer()).messages]


def comparable(message: Message) -> tuple[object, ...]:
    """A message without what is another each time: OIDs of what the script itself has made."""
    if message.tag in "EN":
        return message.tag, message.error
    if message.tag == "T":
        return message.tag, *_fields(message.body)
    return message.tag, message.body


def _fields(body: bytes) -> Iterator[tuple[object, ...]]:
    at = 2
    while at < len(body):
        end = body.index(b"\0", at)
        table, column, kind, size, modifier, form = unpack_from("!IHIhih", body, end + 1)
        yield body[at:end], min(table, 16384), column, min(kind, 16384), size, modifier, form
        at = end + 19


@pytest.mark.parametrize("subject", SCRIPTS)
async def test_answers_are_those_of_a_direct_connection(subject: str, postgres: Cluster, restless: Gateway) -> None:
    script = SCRIPTS[subject]
    database = await postgres.create_database()
    async with directly(database) as program:
        expected = [await said(program, step) for step in script]
    await postgres.drop_database(database)
    for pool_mode in ("transaction", "session"):
        database = await postgres.create_database()
        async with AsyncExitStack() as open_ones:
            program = await open_ones.enter_async_context(logged_in(restless, database, {"pool_mode": pool_mode}))
            other = await open_ones.enter_async_context(logged_in(restless, database))
            for step, answer in zip(script, expected, strict=True):
                assert await said(program, step) == answer, (pool_mode, step)
                await other.query(NOISE)
        await postgres.drop_database(database)
