"""One connection: whose answers are whose, what comes unasked, and how it ends."""

import asyncio
import contextlib
import errno
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from asyncpg import connect_utils

from sqlhttp_gateway.errors import ConnectionBroken, GatewayError, RemoteProtocolError
from sqlhttp_gateway.pools.backend import Backend, open_connection
from sqlhttp_gateway.wire.exchange import Exchange
from sqlhttp_gateway.wire.frontend import encode_query
from tests.support.certificates import Authority
from tests.support.cluster import Database
from tests.support.installed_postgres import installed, running_with_tls
from tests.support.watch import watching

READY = b"Z\0\0\0\x05I"
NOTICE = b"N\0\0\0\x0bSNOTE\0\0"
FATAL = b"E\0\0\0\x1aSFATAL\0VFATAL\0C57P01\0\0"
BUSY = """DO $$ BEGIN
    LOOP
        BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN PERFORM nextval('cancels'); END;
    END LOOP;
END $$"""


class FakeTransport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.protocol: Any = None
        self.aborted = False

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_extra_info(self, name: str) -> None:
        return None

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True

    def resume_reading(self) -> None: ...


class FakeProtocol:
    backend_pid = 7
    backend_secret = 8

    def get_settings(self) -> object:
        return object()

    def connection_lost(self, error: Exception | None) -> None: ...


class FakeConnection:
    def __init__(self) -> None:
        self._transport = FakeTransport()
        self._protocol = FakeProtocol()


class Asked:
    """What was sent, what came back, and what `done` was told."""

    def __init__(self) -> None:
        self.exchange = Exchange()
        self.told: list[GatewayError | None] = []

    @property
    def pair(self) -> Any:
        return self.exchange, self.told.append


@pytest.fixture
async def transport() -> FakeTransport:
    return FakeTransport()


@pytest.fixture
async def lost() -> list[Backend]:
    return []


@pytest.fixture
async def backend(lost: list[Backend]) -> Backend:
    return Backend(FakeConnection(), statement_cache_size=5, on_lost=lost.append)


def written(backend: Backend) -> bytes:
    return backend._transport.written  # type: ignore[attr-defined]  # it is the fake


def is_aborted(backend: Backend) -> bool:
    return backend._transport.aborted  # type: ignore[attr-defined]  # it is the fake


async def test_answers_go_to_their_readers_in_the_order_of_the_writes(backend: Backend) -> None:
    first, second, third = Asked(), Asked(), Asked()
    backend.send(b"one", first.pair, second.pair)
    backend.send(b"two", third.pair)
    assert written(backend) == b"onetwo"
    assert not backend.is_quiet
    one, two = b"C\0\0\0\x09ONE0\0" + READY, b"C\0\0\0\x09TWO0\0" + READY
    backend.data_received(one + two[:7])
    assert (first.told, second.told, third.told) == ([None], [], [])
    backend.data_received(two[7:] + READY)
    assert (first.told, second.told, third.told) == ([None], [None], [None])
    assert [asked.exchange.results[0].tag for asked in (first, second)] == [b"ONE0", b"TWO0"]
    assert backend.is_quiet


async def test_reader_may_send_more_when_it_is_told(backend: Backend) -> None:
    second = Asked()
    backend.send(b"one", (Exchange(), lambda _: backend.send(b"two", second.pair)))
    backend.data_received(READY)
    assert written(backend) == b"onetwo"
    backend.data_received(READY)
    assert second.told == [None]


@pytest.mark.parametrize("cut", range(1, len(NOTICE)))
async def test_notice_between_two_exchanges_may_arrive_in_pieces(backend: Backend, cut: int) -> None:
    """The second piece comes in front of an answer, and looks like anything."""
    backend.data_received(NOTICE[:cut])
    asked = Asked()
    backend.send(b"one", asked.pair)
    backend.data_received(NOTICE[cut:] + NOTICE + READY)
    assert asked.told == [None]
    assert asked.exchange.error is None
    assert not backend.closing


async def test_unasked_message_byte_by_byte_is_no_goodbye(backend: Backend) -> None:
    for byte in b"S\0\0\0\x0cEEEEEEE\0" + NOTICE:
        backend.data_received(bytes([byte]))
    assert not backend.closing


@pytest.mark.parametrize("before", [b"", NOTICE, b"S\0\0\0\x0cEEEEEEE\0"])
@pytest.mark.parametrize("step", [1, 100])
async def test_server_that_says_goodbye_between_two_exchanges_is_not_used_again(
    backend: Backend, lost: list[Backend], before: bytes, step: int
) -> None:
    stream = before + FATAL
    for at in range(0, len(stream), step):
        backend.data_received(stream[at : at + step])
    assert backend.closing
    assert not is_aborted(backend), "its process is not gone before the server closes"
    assert lost == []
    asked = Asked()
    backend.send(b"one", asked.pair)
    assert [type(told) for told in asked.told] == [ConnectionBroken]
    assert written(backend) == b""


async def test_lost_connection_is_told_to_all_who_wait_and_to_the_owner_once(
    backend: Backend, lost: list[Backend]
) -> None:
    first, second = Asked(), Asked()
    backend.send(b"one", first.pair, second.pair)
    backend.connection_lost(None)
    assert [type(told) for told in first.told + second.told] == [ConnectionBroken, ConnectionBroken]
    assert lost == [backend]
    assert backend.is_lost
    assert backend.closing
    late = Asked()
    backend.send(b"two", late.pair)
    assert [type(told) for told in late.told] == [ConnectionBroken]


async def test_whoever_is_told_of_nonsense_sees_a_connection_that_is_closing(backend: Backend) -> None:
    seen: list[object] = []
    backend.send(b"one", (Exchange(), lambda error: seen.extend([type(error), backend.closing])))
    backend.data_received(b"R\0\0\0\x08\0\0\0\0")
    assert seen == [RemoteProtocolError, True]
    assert is_aborted(backend)


async def test_nonsense_between_two_exchanges_ends_the_connection(backend: Backend) -> None:
    backend.data_received(b"N\0\0\0\x01")
    assert is_aborted(backend)


async def test_abandoned_answers_are_not_waited_for_and_not_read(backend: Backend, lost: list[Backend]) -> None:
    asked = Asked()
    backend.send(b"one", asked.pair)
    backend.data_received(b"D\0\0\0\x20\0\x01")
    backend.abandon()
    assert [type(told) for told in asked.told] == [ConnectionBroken]
    backend.data_received(b"anything at all" * 10)
    assert backend.closing
    assert not is_aborted(backend)
    assert lost == []


# ── on a real Postgres ───────────────────────────────────────────────────────────────────────────────────────────────


async def opened(
    database: Database, lost: list[Backend] | None = None, *, tls: ssl.SSLContext | None = None
) -> Backend:
    connection = await open_connection(
        host=database.host,
        port=database.port,
        database=database.name,
        role=database.role,
        password=database.password,
        ssl=tls or False,
        server_settings={"application_name": "opened"},
        timeout=10.0,
    )
    return Backend(connection, statement_cache_size=5, on_lost=(lost if lost is not None else []).append)


@pytest.fixture
async def real(database: Database) -> AsyncIterator[Backend]:
    backend = await opened(database)
    yield backend
    await backend.close(5.0)
    assert backend.is_lost


async def ask(backend: Backend, text: str) -> Exchange:
    exchange = Exchange()
    done = asyncio.get_running_loop().create_future()
    backend.send(encode_query(text.encode()), (exchange, done.set_result))
    await done
    return exchange


def test_asyncpg_has_what_this_file_uses() -> None:
    """Private names, which a new version may move."""
    assert {"loop", "addr", "params", "backend_pid", "backend_secret"} <= set(
        connect_utils._cancel.__kwdefaults__ or connect_utils._cancel.__code__.co_varnames
    )
    assert {"_transport", "_protocol", "_addr", "_params"} <= set(asyncpg.Connection.__slots__)


async def test_asyncpg_lends_its_connection(real: Backend) -> None:
    """All that is taken from it by its private names is there and right."""
    exchange = await ask(real, "SELECT pg_backend_pid(), current_setting('application_name')")
    assert str(real.pid).encode() in exchange.results[0].rows
    assert exchange.results[0].rows.endswith(b"opened")
    assert real.server_parameters["client_encoding"].lower().replace("-", "") == "utf8"
    assert real.server_parameters["server_version"]


async def test_asyncpg_is_told_of_the_end_and_warns_of_nothing(database: Database) -> None:
    lost: list[Backend] = []
    backend = await opened(database, lost)
    connection = backend._connection
    await backend.close(5.0)
    assert lost == [backend]
    assert connection.is_closed()


async def test_closed_connection_is_gone_from_the_server(database: Database) -> None:
    backend = await opened(database)
    async with watching(database) as watch:
        assert await watch.backends("application_name = 'opened'") == 1
        await backend.close(5.0)
        assert await watch.backends("application_name = 'opened'") == 0


async def test_goodbye_to_a_server_whose_end_was_not_read_yet_is_no_fault(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[Backend] = []
    backend = await opened(database, lost)
    transport = backend._transport
    assert transport.can_write_eof()

    def reset() -> None:
        transport.abort()
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    monkeypatch.setattr(transport, "write_eof", reset)
    await backend.close(10)
    assert lost == [backend]


async def test_cancel_request_reaches_what_runs(real: Backend, database: Database) -> None:
    asking = asyncio.create_task(ask(real, "SELECT pg_sleep(60)"))
    async with watching(database) as watch:
        await watch.until(1, "wait_event = 'PgSleep'")
    await real.request_cancel()
    error = (await asking).error
    assert error is not None
    assert error.fields["C"] == "57014"  # type: ignore[attr-defined]  # Postgres's own


async def test_cancel_request_to_nothing_that_runs_is_nothing(real: Backend) -> None:
    for _ in range(20):
        await real.request_cancel()
        assert (await ask(real, "SELECT 1")).error is None


async def test_backend_that_reads_no_goodbye_is_waited_for_and_counts(database: Database) -> None:
    """It swallows cancels, too. Only its own end, or the server's, lets go of it."""
    lost: list[Backend] = []
    backend = await opened(database, lost)
    await ask(backend, "CREATE SEQUENCE cancels")
    asked = asyncio.create_task(ask(backend, BUSY))
    async with watching(database) as watch:
        await watch.until(1, "wait_event = 'PgSleep'")
        backend.abandon()
        await asked
        closing = asyncio.create_task(backend.close(0.02))
        async with asyncio.timeout(20):
            while await watch.value("SELECT last_value FROM cancels") < 3:
                assert not closing.done()
        assert lost == []
        assert await watch.backends("application_name = 'opened'") == 1
        await watch.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'opened'")
        await closing
    assert lost == [backend]


@pytest.mark.parametrize("last", installed()[-1:])
async def test_process_that_waits_for_the_rest_of_a_message_ends_soon_by_tls_too(last: str) -> None:
    """A program has left in the middle of it. Its goodbye is a part of that message to Postgres."""
    with running_with_tls(last) as postgres:
        database = postgres.database
        backend = await opened(database, tls=postgres.trusting)
        assert not backend._transport.can_write_eof(), "it is TLS"
        backend.write(encode_query(b"SELECT 1" + 100 * b" ")[:20])
        async with watching(database) as watch:
            assert await watch.backends("application_name = 'opened'") == 1
            async with asyncio.timeout(30):
                await backend.close(60)
            assert await watch.backends("application_name = 'opened'") == 0


async def test_backend_whose_server_cannot_be_reached_is_let_go(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(self: Backend) -> None:
        raise ConnectionRefusedError

    lost: list[Backend] = []
    backend = await opened(database, lost)
    asked = asyncio.create_task(ask(backend, "SELECT pg_sleep(60)"))
    async with watching(database) as watch:
        await watch.until(1, "wait_event = 'PgSleep'")
        monkeypatch.setattr(Backend, "request_cancel", unreachable)
        backend.abandon()
        await asked
        await backend.close(0.02)
        assert lost == [backend]
        await watch.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'opened'")


async def test_log_in_by_tls_that_is_given_up_leaves_no_socket_to_a_server_that_says_nothing(tmp_path: Path) -> None:
    """asyncpg closes it, which in TLS takes the server's word; its process would stand beside the bound meanwhile."""
    authority = Authority(tmp_path)
    files = authority.issue("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    ends: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def shake_hands(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"S")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                incoming.write(data)
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.do_handshake()  # once that is done it does nothing, and nothing is ever answered
                writer.write(outgoing.read())
        ends.set_result(True)
        writer.close()

    async with await asyncio.start_server(shake_hands, "127.0.0.1", 0) as server:
        with pytest.raises(TimeoutError):
            await open_connection(
                host="localhost",
                port=server.sockets[0].getsockname()[1],
                database="d",
                role="r",
                password="p",
                ssl=ssl.create_default_context(cafile=str(authority.root)),
                server_settings={},
                timeout=2.0,
            )
        async with asyncio.timeout(15):  # half of what asyncio would give the server
            assert await ends


async def test_what_the_server_reads_constants_by_is_compared_with_the_log_in(backend: Backend) -> None:
    backend.server_parameters = {"TimeZone": "UTC", "DateStyle": "ISO, MDY", "in_hot_standby": "off"}
    backend.note_parameters([b"in_hot_standby\0on\0", b"unheard_of\0on\0", b"IntervalStyle\0sql_standard\0"])
    assert not backend.reads_otherwise
    backend.note_parameters([b"TimeZone\0Asia/Kathmandu\0", b"DateStyle\0German\0"])
    backend.note_parameters([b"TimeZone\0UTC\0"])
    assert backend.reads_otherwise
    backend.note_parameters([b"DateStyle\0SQL, DMY\0", b"DateStyle\0ISO, MDY\0"])
    assert not backend.reads_otherwise
