"""psql, pgbench, pg_dump and asyncpg through the TCP door."""

import asyncio
import contextlib
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psycopg
import pytest

from sqlhttp_gateway.embedded import programs
from tests.support.cluster import PASSWORD, Database
from tests.support.gateway import Gateway, free_port
from tests.support.wire_program import SocketPipe, WireProgram, startup

StartGateway = Callable[..., Gateway]
CERTIFICATE = Path(__file__).parents[1] / "support" / "certificate.pem"


@pytest.fixture
def door(start_gateway: StartGateway, database: Database) -> Database:
    """The database, by way of the gateway."""
    port = free_port()
    start_gateway(listen={"port": 0, "postgres": port}, pool={"max_size": 4, "wait_timeout": 20})
    return Database("127.0.0.1", port, database.name)


def run(program: str, *arguments: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """One of Postgres's own programs."""
    return subprocess.run(
        [str(programs() / program), *arguments],
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C", "PGCONNECT_TIMEOUT": "10", **environment},
    )


def test_psql_works_as_it_does_directly(door: Database, database: Database) -> None:
    script = """
        CREATE TABLE t (n int PRIMARY KEY, s text);
        INSERT INTO t SELECT n, 'row ' || n FROM generate_series(1, 3) AS n;
        BEGIN; UPDATE t SET s = 'changed' WHERE n = 1; SAVEPOINT a; DELETE FROM t; ROLLBACK TO a; COMMIT;
        COPY t FROM STDIN;
4\tfour
\\.
        SELECT * FROM t WHERE n = $1 \\bind 4 \\g
        SELECT n / 0 FROM t;
        SET search_path = pg_catalog; SHOW search_path; RESET search_path;
        CREATE TEMP TABLE mine AS SELECT 5 AS five; TABLE mine;
        PREPARE p AS SELECT count(*) FROM t; EXECUTE p; DEALLOCATE p;
        COPY (TABLE t) TO STDOUT;
        SELECT 'parsed' \\parse s
        \\bind_named s \\g
        \\echo :SERVER_VERSION_NUM
    """
    through = run("psql", "-X", "-At", door.url, given=script)
    database.psql("DROP TABLE t")
    direct = run("psql", "-X", "-At", database.url, given=script)
    assert through.stdout == direct.stdout
    assert through.stderr == direct.stderr
    assert "changed" in through.stdout


def test_psql_lists_what_is_there(door: Database, database: Database) -> None:
    database.psql("CREATE TABLE t (n int PRIMARY KEY)")
    for command in ("\\d", "\\d t", "\\l", "\\dn+", "\\conninfo"):
        listed = run("psql", "-X", door.url, "-c", command)
        assert (listed.returncode, listed.stderr) == (0, ""), command


def test_wrong_password_is_told_in_postgres_own_words(door: Database) -> None:
    refused = run("psql", "-X", door.as_role("postgres", "wrong").url, "-c", "SELECT 1")
    assert 'FATAL:  password authentication failed for user "postgres"' in refused.stderr


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_pgbench_runs_without_an_error(door: Database, database: Database, mode: str) -> None:
    """More clients than backends."""
    assert run("pgbench", "-i", "-q", "-s", "1", database.url).returncode == 0
    done = run("pgbench", "-n", "-M", mode, "-c", "12", "-t", "20", door.url)
    assert done.returncode == 0, done.stderr
    assert "number of transactions actually processed: 240/240" in done.stdout
    assert re.search(r"number of failed transactions: 0 ", done.stdout)
    assert database.psql("SELECT count(*) FROM pgbench_history").strip() == "240"


def test_pgbench_pipelines(door: Database) -> None:
    script = "\\startpipeline\nSELECT 1;\nSELECT 2;\n\\endpipeline\n"
    done = run("pgbench", "-n", "-M", "prepared", "-c", "8", "-t", "20", "-f", "/dev/stdin", door.url, given=script)
    assert done.returncode == 0, done.stderr
    assert "160/160" in done.stdout


def test_dump_and_restore_through_the_door(door: Database, database: Database) -> None:
    database.psql(
        "CREATE TABLE t (n int PRIMARY KEY, s text); INSERT INTO t SELECT n, 'é' || n FROM generate_series(1, 1000) n"
    )
    dump = run("pg_dump", door.url)
    assert (dump.returncode, dump.stderr) == (0, "")
    database.psql("DROP TABLE t")
    restored = run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", door.url, given=dump.stdout)
    assert (restored.returncode, restored.stderr) == (0, "")
    assert database.psql("SELECT count(*), max(s) FROM t").strip() == "1000|é999"


def test_parallel_dump_and_restore_through_the_door(door: Database, database: Database, tmp_path: Path) -> None:
    """Workers of pg_dump share a snapshot, and those of pg_restore write at once: a session each, and COPY."""
    database.psql(
        "CREATE TABLE a (n int PRIMARY KEY, s text); INSERT INTO a SELECT n, 'a' || n FROM generate_series(1, 5000) n;"
        "CREATE TABLE b (n int REFERENCES a, d bytea); INSERT INTO b SELECT n, sha256(n::text::bytea)"
        " FROM generate_series(1, 5000) n; CREATE INDEX ON b (n);"
        "CREATE VIEW both_of_them AS SELECT * FROM a JOIN b USING (n)"
    )
    look = "SELECT count(*), md5(string_agg(n || s || encode(d, 'hex'), ',' ORDER BY n)) FROM both_of_them"
    before = database.psql(look)
    folder = tmp_path / "dump"
    dump = run("pg_dump", "--format=directory", "--jobs=2", f"--file={folder}", door.url)
    assert (dump.returncode, dump.stderr) == (0, "")
    database.psql("DROP VIEW both_of_them; DROP TABLE b, a")
    restored = run("pg_restore", "--jobs=2", f"--dbname={door.url}", str(folder))
    assert (restored.returncode, restored.stderr) == (0, "")
    assert database.psql(look) == before


async def test_tls_is_there_with_a_certificate(start_gateway: StartGateway, database: Database) -> None:
    port = free_port()
    start_gateway(listen={"port": 0, "postgres": port, "tls_certificate": str(CERTIFICATE)})
    context = ssl.create_default_context(cafile=str(CERTIFICATE))
    for choice in (context, "require", "prefer", False):
        connection = await asyncpg.connect(
            host="localhost", port=port, user="postgres", password=PASSWORD, database=database.name, ssl=choice
        )
        assert len(await connection.fetchval("SELECT repeat('x', 1000000)")) == 1_000_000
        assert (connection._transport.get_extra_info("ssl_object") is None) == (choice is False)
        await connection.close()


async def test_tls_may_begin_without_being_asked_for(start_gateway: StartGateway, database: Database) -> None:
    """As libpq does from 17 on with sslnegotiation=direct, which saves a round trip."""
    port = free_port()
    start_gateway(listen={"port": 0, "postgres": port, "tls_certificate": str(CERTIFICATE)})
    given = f"host=localhost port={port} user=postgres password={PASSWORD} dbname={database.name} gssencmode=disable"
    for ssl_options in ("sslmode=require sslnegotiation=direct", "sslmode=require", "sslmode=disable"):
        async with await psycopg.AsyncConnection.connect(f"{given} {ssl_options}") as connection:
            assert connection.pgconn.ssl_in_use == (ssl_options != "sslmode=disable")
            rows = await (await connection.execute("SELECT repeat('x', 1000000)")).fetchall()
            assert len(rows[0][0]) == 1_000_000


async def test_tls_that_is_for_something_else_is_ended(start_gateway: StartGateway, database: Database) -> None:
    """Else a web page could have its visitor's browser say something to Postgres."""
    port = free_port()
    start_gateway(listen={"port": 0, "postgres": port, "tls_certificate": str(CERTIFICATE)})
    context = ssl.create_default_context(cafile=str(CERTIFICATE))
    for offered in ([], ["http/1.1"]):
        if offered:
            context.set_alpn_protocols(offered)
        reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
        with contextlib.suppress(ConnectionError):
            writer.write(startup(database))
            assert await reader.read() == b""
        writer.transport.abort()


async def test_tls_that_there_is_not_is_declined(door: Database) -> None:
    with pytest.raises(ConnectionError, match="rejected SSL"):
        await asyncpg.connect(door.url, ssl="require")
    connection = await asyncpg.connect(door.url, ssl="prefer")
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


async def test_asyncpg_works_with_its_statement_cache(door: Database) -> None:
    pool = await asyncpg.create_pool(door.url, min_size=8, max_size=8)
    async with pool:
        await pool.execute("CREATE TABLE t (n int)")

        async def work(number: int) -> None:
            async with pool.acquire() as connection:
                for _ in range(5):
                    assert await connection.fetchval("SELECT $1::int * 2", number) == number * 2
                async with connection.transaction(isolation="repeatable_read"):
                    await connection.execute("INSERT INTO t VALUES ($1)", number)
                    assert [row["n"] async for row in connection.cursor("SELECT n FROM t WHERE n = $1", number)] == [
                        number
                    ]
                with pytest.raises(asyncpg.DivisionByZeroError):
                    await connection.fetch("SELECT 1/$1::int", 0)

        await asyncio.gather(*map(work, range(30)))
        assert await pool.fetchval("SELECT count(*) FROM t") == 30
        async with pool.acquire() as connection:
            await connection.copy_records_to_table("t", records=[(n,) for n in range(100)], columns=["n"])
            assert await connection.fetchval("SELECT count(*) FROM t") == 130
            with pytest.raises(asyncio.TimeoutError):  # asyncpg sends a CancelRequest
                await connection.execute("SELECT pg_sleep(20)", timeout=0.1)
            assert await connection.fetchval("SELECT 1") == 1
            statement = await connection.prepare("SELECT $1::int[]")
            assert await statement.fetchval([1, None]) == [1, None]


async def test_listen_hears(door: Database) -> None:
    listener, speaker = await asyncpg.connect(door.url), await asyncpg.connect(door.url)
    heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    try:
        await listener.add_listener("talk", lambda _, pid, channel, payload: heard.put_nowait((channel, payload)))
        await speaker.execute("SELECT pg_notify('talk', 'hello')")
        async with asyncio.timeout(5):
            assert await heard.get() == ("talk", "hello")
    finally:
        await listener.close()
        await speaker.close()


async def test_program_that_vanishes_is_rolled_back(door: Database, database: Database) -> None:
    reader, writer = await asyncio.open_connection(door.host, door.port)
    program = WireProgram(SocketPipe(reader, writer), door)
    await program.log_in()
    await program.query("CREATE TABLE t (n int)")
    await program.query("BEGIN; INSERT INTO t VALUES (1)")
    program.vanish()
    async with asyncio.timeout(10):
        still = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%'"
        while database.psql(still).strip() != "0":  # noqa: ASYNC110 - Postgres tells nobody
            await asyncio.sleep(0.01)
    assert database.psql("SELECT count(*) FROM t").strip() == "0"


async def test_psql_through_the_tunnel_command(start_gateway: StartGateway, database: Database) -> None:
    gateway = start_gateway()
    port = free_port()
    command = ["-c", "from sqlhttp._cli import main; raise SystemExit(main())", "tunnel"]
    tunnel = await asyncio.create_subprocess_exec(
        sys.executable, *command, "--listen", f"127.0.0.1:{port}", gateway.url, stderr=asyncio.subprocess.PIPE
    )
    assert tunnel.stderr is not None
    try:
        assert b"listening on 127.0.0.1 port" in await tunnel.stderr.readline()
        local = Database("127.0.0.1", port, database.name)
        done = await asyncio.to_thread(run, "psql", "-X", "-At", local.url, "-c", "SELECT repeat('x', 100000)")
        assert (done.returncode, done.stderr, len(done.stdout)) == (0, "", 100_001)
        dumped = await asyncio.to_thread(run, "pg_dump", local.url)
        assert (dumped.returncode, dumped.stderr) == (0, "")
    finally:
        tunnel.terminate()
        assert await tunnel.wait() == 0


def test_console_answers_the_gateways_own_role_and_those_that_are_named(
    start_gateway: StartGateway, database: Database
) -> None:
    port = free_port()
    database.psql("CREATE ROLE watcher LOGIN PASSWORD 'w'; CREATE ROLE stranger LOGIN PASSWORD 's'")
    start_gateway(listen={"port": 0, "postgres": port}, admin={"roles": ["watcher"]})
    console = Database("127.0.0.1", port, "sqlhttp")
    try:
        for who in (console, console.as_role("watcher", "w")):
            for what in ("VERSION", "POOLS", "STATS", "DATABASES", "CLIENTS", "SERVERS", "LISTS", "CONFIG"):
                done = run("psql", "-X", "-At", who.url, "-c", f"SHOW {what}")
                assert (done.returncode, done.stderr) == (0, ""), what
                assert "postgres:postgres@" not in done.stdout
        refused = run("psql", "-X", console.as_role("stranger", "s").url, "-c", "SHOW POOLS")
        assert 'role "stranger" may not use the console' in refused.stderr
        assert "password authentication failed" in run("psql", "-X", console.as_role("watcher", "x").url).stderr
    finally:
        database.psql("DROP ROLE watcher; DROP ROLE stranger")


async def test_scram_proves_the_password_of_a_role_that_the_gateway_holds(
    start_gateway: StartGateway, database: Database
) -> None:
    port = free_port()
    database.psql("CREATE ROLE prover LOGIN PASSWORD 'long enough'; CREATE ROLE other LOGIN PASSWORD 'o'")
    logins = {"prover": {"role": "prover", "password": "long enough"}}
    start_gateway(listen={"port": 0, "postgres": port, "scram": True}, logins=logins)
    door = Database("127.0.0.1", port, database.name)
    try:
        for who in (door, door.as_role("prover", "long enough")):
            connection = await who.connect()
            assert await connection.fetchval("SELECT current_user") == who.role
            await connection.close()
        for role, password in (("prover", "wrong"), ("postgres", ""), ("nobody", "x")):
            with pytest.raises(asyncpg.InvalidPasswordError):
                await door.as_role(role, password).connect()
        only = {"PGREQUIREAUTH": "scram-sha-256"}
        asked = run("psql", "-X", "-At", door.as_role("prover", "long enough").url, "-c", "SELECT current_user", **only)
        assert (asked.stdout, asked.stderr) == ("prover\n", "")
        connection = await door.as_role("other", "o").connect()  # its password is nobody's but its own
        await connection.close()
    finally:
        database.psql("DROP ROLE prover; DROP ROLE other")
