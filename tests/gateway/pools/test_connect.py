"""What goes wrong when a connection is opened, and what the caller is told."""

import asyncio
import errno
import inspect
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import uvloop

from sqlhttp_gateway.errors import (
    ConnectRefused,
    DatabaseMissing,
    FilesExhausted,
    GatewayError,
    PasswordFailed,
    TargetOverloaded,
    TargetUnavailable,
)
from sqlhttp_gateway.model import Target
from sqlhttp_gateway.pools import connect as connect_module
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.connect import connect, refusal
from sqlhttp_gateway.pools.session_jwt import SessionKey
from sqlhttp_gateway.pools.targets import Targets, Upstream
from sqlhttp_gateway.settings import load_settings
from tests.support.cluster import Cluster, Database
from tests.support.gateway import free_port
from tests.support.leases import refusal as refused
from tests.support.program import scratch_role
from tests.support.session_jwt import install_stand_in

NOT_RAISED = (Warning, asyncpg.exceptions.PostgresLogMessage)


def upstream(url: str, **pool: object) -> Upstream:
    return Targets(load_settings(database_url=url, pool=pool)).default


async def opened(
    database: Database, *, role: str = "postgres", password: bytes = b"postgres", name: str | None = None
) -> Backend:
    return await connect(
        upstream(database.url), database=name or database.name, role=role, password=password, on_lost=lambda _: None
    )


# ── a server that looks whether the gateway is still there ────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "refuses",
    [
        asyncpg.UndefinedObjectError('unrecognized configuration parameter "client_connection_check_interval"'),
        asyncpg.InvalidParameterValueError("client_connection_check_interval must be set to 0 on this platform"),
        asyncpg.ProtocolViolationError("unsupported startup parameter: client_connection_check_interval"),
    ],
)
async def test_server_that_cannot_look_for_the_gateway_is_asked_once_and_used_all_the_same(
    database: Database, monkeypatch: pytest.MonkeyPatch, refuses: asyncpg.PostgresError
) -> None:
    asked: list[bool] = []
    real = connect_module.open_connection

    async def old_server(**wanted: Any) -> Any:
        asked.append("client_connection_check_interval" in wanted["server_settings"])
        if asked[-1]:
            raise refuses
        return await real(**wanted)

    monkeypatch.setattr(connect_module, "open_connection", old_server)
    there = upstream(database.url)
    for _ in range(2):
        backend = await connect(
            there, database=database.name, role="postgres", password=b"postgres", on_lost=lambda _: None
        )
        backend.abort()
    assert asked == [True, False, False]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_want_of_files_is_not_taken_for_the_servers_absence(
    database: Database, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """It would open the breaker, and nobody would look for the cause here."""

    async def none_left(**wanted: Any) -> Any:
        raise OSError(number, "")

    monkeypatch.setattr(connect_module, "open_connection", none_left)
    with pytest.raises(FilesExhausted, match="Too many open files"):
        await opened(database)


# ── a key for pg_session_jwt ─────────────────────────────────────────────────────────────────────────────────────────


async def with_a_key(database: Database) -> Backend:
    wanted = replace(upstream(database.url), session_jwt=True)
    return await connect(wanted, database=database.name, role="postgres", password=b"postgres", on_lost=lambda _: None)


async def test_connection_takes_its_key_to_the_extension_before_anybody_has_it(database: Database) -> None:
    install_stand_in(database)
    backend = await with_a_key(database)
    try:
        assert backend.session_key is not None
        assert database.psql("SELECT jwk FROM auth.stand_in") == f"{backend.session_key.jwk}\n"
    finally:
        await backend.close(5.0)


async def test_connection_has_no_key_where_there_is_no_extension_or_none_was_asked_for(database: Database) -> None:
    for opening in (with_a_key(database), opened(database)):
        backend = await opening
        assert backend.session_key is None
        await backend.close(5.0)


async def test_connection_that_is_lost_while_it_takes_its_key_is_a_target_that_cannot_be_reached(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(self: SessionKey, connection: Any) -> bool:
        raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr(SessionKey, "begin", lose)
    assert isinstance(await refused(with_a_key(database)), TargetUnavailable)
    left = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database.name}' AND pid <> pg_backend_pid()"
    async with asyncio.timeout(10):
        while database.psql(left) != "0\n":  # noqa: ASYNC110 - Postgres tells nobody
            await asyncio.sleep(0.01)


# ── translations ─────────────────────────────────────────────────────────────────────────────────────────────────────


def raised_by_asyncpg() -> list[type[BaseException]]:
    """Every class of exception that asyncpg has."""
    classes = {kind for _, kind in inspect.getmembers(asyncpg.exceptions, inspect.isclass)}
    found = [kind for kind in classes if issubclass(kind, Exception) and not issubclass(kind, NOT_RAISED)]
    return sorted(found, key=lambda kind: kind.__name__)


OF_THE_NETWORK = [
    ConnectionRefusedError(111, "Connection refused"),
    ConnectionResetError(104, "Connection reset by peer"),
    socket.gaierror(-2, "Name or service not known"),
    ssl.SSLCertVerificationError(1, "certificate verify failed"),
    asyncio.IncompleteReadError(b"", 5),
    TimeoutError(),
    OSError("no number"),
    UnicodeError("label empty or too long"),
]


async def translated(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> GatewayError:
    """What the caller is told when opening raises `error`."""

    async def fail(**_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(connect_module, "open_connection", fail)
        return await refused(
            connect(upstream("postgres://a:b@h/d"), database="d", role="r", password=b"secret", on_lost=lambda _: None)
        )


async def test_every_exception_of_asyncpg_has_a_translation(monkeypatch: pytest.MonkeyPatch) -> None:
    """One without would pass through here as it is, and fail the test."""
    for kind in raised_by_asyncpg():
        told = await translated(kind("some text"), monkeypatch)
        assert told.message, kind
        assert "secret" not in told.message, kind
        if not issubclass(kind, asyncpg.PostgresError):
            assert isinstance(told, TargetUnavailable), kind


@pytest.mark.parametrize(
    "error", [*OF_THE_NETWORK, asyncpg.ConnectionDoesNotExistError("x")], ids=lambda error: type(error).__name__
)
async def test_what_goes_wrong_on_the_network_is_told_as_a_target_that_is_away(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = await translated(error, monkeypatch)
    assert isinstance(told, TargetUnavailable)
    assert told.retry_after == 1
    assert "target default" in told.message


def test_there_are_exceptions_to_translate() -> None:
    assert len(raised_by_asyncpg()) > 200


@pytest.mark.parametrize(
    ("code", "kind", "status"),
    [
        ("28P01", PasswordFailed, 400),
        ("28000", PasswordFailed, 400),
        ("3D000", DatabaseMissing, 400),
        ("42501", DatabaseMissing, 400),
        ("55000", DatabaseMissing, 400),
        ("53300", TargetOverloaded, 503),
        ("57P03", TargetOverloaded, 503),
        ("57P01", TargetOverloaded, 503),
        ("XX000", ConnectRefused, 500),
        ("0A000", ConnectRefused, 500),
    ],
)
def test_refusals_by_their_code(code: str, kind: type[GatewayError], status: int) -> None:
    error = asyncpg.PostgresError("no")
    error.sqlstate = code
    told = refusal(error, "someone")
    assert type(told) is kind
    assert told.status == status
    assert told.retryable is (kind is TargetOverloaded)


def test_refusal_by_peer_says_nothing_of_the_password_and_how_to_go_on() -> None:
    error = asyncpg.InvalidAuthorizationSpecificationError('Peer authentication failed for user "app"')
    error.sqlstate = "28000"
    told = refusal(error, "app")
    assert isinstance(told, ConnectRefused)
    assert "scram-sha-256" in told.fields["H"]


def test_refusal_is_passed_on_whole() -> None:
    error = asyncpg.PostgresError("no")
    error.sqlstate, error.severity, error.message, error.detail, error.hint = "XX000", "FATAL", "no", "why", "do"
    told = refusal(error, "someone")
    assert isinstance(told, ConnectRefused)
    assert told.fields == {"S": "FATAL", "C": "XX000", "M": "no", "D": "why", "H": "do"}


# ── a server that misbehaves ─────────────────────────────────────────────────────────────────────────────────────────

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def error_message(code: str, text: str) -> bytes:
    body = f"SFATAL\0VFATAL\0C{code}\0M{text}\0\0".encode()
    return b"E" + (len(body) + 4).to_bytes(4) + body


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[Upstream]:
    """An upstream whose server answers a start-up message like this."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        try:
            await answer(reader, writer)
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    try:
        yield upstream(f"postgres://a:b@127.0.0.1:{port}/d?sslmode=disable", connect_timeout=0.3)
    finally:
        listening.close()
        await listening.wait_closed()


async def told_by(answer: Answer) -> GatewayError:
    async with server(answer) as place:
        return await refused(connect(place, database="d", role="r", password=b"p", on_lost=lambda _: None))


@pytest.mark.parametrize(
    ("code", "kind"), [("57P03", TargetOverloaded), ("53300", TargetOverloaded), ("3D000", DatabaseMissing)]
)
async def test_refusal_on_the_wire(code: str, kind: type[GatewayError]) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(error_message(code, "not now"))

    told = await told_by(answer)
    assert type(told) is kind
    assert told.message == "not now"


async def test_server_that_hangs_up() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None: ...

    assert isinstance(await told_by(answer), TargetUnavailable)


async def test_connection_that_ends_between_its_log_in_and_us_is_a_target_that_hung_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_connection = connect_module.open_connection

    async def open_and_lose(**how: Any) -> Any:
        connection = await open_connection(**how)
        connection._transport.abort()
        return connection

    monkeypatch.setattr(connect_module, "open_connection", open_and_lose)
    error = await refused(opened(database))
    assert isinstance(error, TargetUnavailable)
    assert "during log-in" in error.message


async def test_server_that_is_no_postgres() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    assert isinstance(await told_by(answer), TargetUnavailable)


async def test_server_that_says_nothing_is_given_up_in_time() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    told = await told_by(answer)
    assert isinstance(told, TargetUnavailable)
    assert "within 0.3 s" in told.message


async def test_nobody_at_home() -> None:
    place = upstream(f"postgres://a:b@127.0.0.1:{free_port()}/d")
    told = await refused(connect(place, database="d", role="r", password=b"p", on_lost=lambda _: None))
    assert isinstance(told, TargetUnavailable)
    assert "target default" in told.message


@pytest.mark.parametrize(
    ("left", "reason"), [(None, "No such file or directory"), ("socket", "Connection refused"), ("file", "refused")]
)
async def test_nobody_at_a_socket(tmp_path: Path, left: str | None, reason: str) -> None:
    path = tmp_path / ".s.PGSQL.5432"
    if left == "socket":
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(str(path))
    elif left == "file":
        path.touch()
    place = upstream(f"postgres://a:b@/d?host={tmp_path}")
    told = await refused(connect(place, database="d", role="r", password=b"p", on_lost=lambda _: None))
    assert isinstance(told, TargetUnavailable)
    assert "cannot connect to Postgres by its Unix socket: " in told.message
    assert reason in told.message


def test_socket_before_which_too_many_wait_is_tried_until_there_is_no_time_left(tmp_path: Path) -> None:
    """On the loop of production: asyncio's own takes such a connection for one that is open."""
    path = str(tmp_path / ".s.PGSQL.5432")
    place = upstream(f"postgres://a:b@/d?host={tmp_path}", connect_timeout=0.3)

    async def full() -> GatewayError:
        return await refused(connect(place, database="d", role="r", password=b"p", on_lost=lambda _: None))

    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as waiting:
        listening.bind(path)
        listening.listen(0)
        waiting.connect(path)
        told = uvloop.run(full())
    assert isinstance(told, TargetUnavailable)
    assert told.message == "target default: no connection to Postgres within 0.3 s"


async def test_socket_at_which_there_is_room_again_is_used(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    real, tries = connect_module.open_connection, iter(range(3))

    async def full_at_first(**wanted: Any) -> Any:
        if next(tries) < 2:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return await real(**wanted)

    monkeypatch.setattr(connect_module, "open_connection", full_at_first)
    (await opened(database)).abort()
    assert next(tries, None) is None


async def test_host_that_is_no_name() -> None:
    place = upstream("postgres://a:b@h/d")
    place = replace(place, target=Target("default", "x" * 300, 5432))
    told = await refused(connect(place, database="d", role="r", password=b"p", on_lost=lambda _: None))
    assert isinstance(told, TargetUnavailable)


# ── on a real Postgres ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_connection_is_logged_in_and_has_what_the_upstream_asks_for(database: Database) -> None:
    backend = await opened(database)
    assert backend.pid
    assert len(backend.statements) == 0
    await backend.close(5.0)


async def test_wrong_password_unknown_role_and_role_without_login_are_told_alike(
    database: Database, postgres: Cluster
) -> None:
    with scratch_role(postgres) as role:
        postgres.maintenance.psql(f"ALTER ROLE {role} NOLOGIN")
        for who in ("postgres", "nobody_here", role):
            told = await refused(opened(database, role=who, password=b"wrong"))
            assert isinstance(told, PasswordFailed)
            assert told.message == f'password authentication failed for user "{who}"'


async def test_password_that_is_no_text_fails_without_asking(database: Database) -> None:
    assert isinstance(await refused(opened(database, password=b"\xff\xfe")), PasswordFailed)


async def test_missing_database_is_told_as_postgres_tells_it(database: Database) -> None:
    told = await refused(opened(database, name="there_is_none"))
    assert isinstance(told, DatabaseMissing)
    assert told.code == "3D000"
    assert told.fields["S"] == "FATAL"
    assert told.message == 'database "there_is_none" does not exist'
