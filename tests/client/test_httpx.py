"""httpx as a transport, against a server that misbehaves: the same classes as over plain sockets."""

import asyncio
import ssl
import threading
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import sqlhttp
from sqlhttp import (
    AsyncSql,
    CertificateRejected,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    InterfaceError,
    NeonDbError,
    ProtocolError,
    ReplyCut,
    RequestTimeout,
    Retry,
    SendFailed,
    _httpx,
    neon,
    neon_async,
)
from sqlhttp._httpx import LOOPS, translated
from tests.support.scripted_http import (
    Scripted,
    answers,
    answers_and_closes,
    closes,
    cut,
    deaf_server,
    hangs,
    http,
    resets,
    scripted,
    sends,
    trickles,
    unused_port,
)

READ = "select 1"
WRITE = "insert into t values (1)"
THRICE = Retry(attempts=3, budget=5.0)
CERTIFICATE = Path(__file__).parent.parent / "support" / "certificate.pem"


def client(server: Scripted, **options: Any) -> AsyncSql[Any]:
    return neon_async(server.url, **{"timeout": 10.0, "retry": None, **options})


@pytest.fixture
async def own_client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as own:
        yield own


# ── translation ──────────────────────────────────────────────────────────────────────────────────────────────────────


def all_classes(cls: type[Exception]) -> set[type[Exception]]:
    return {cls}.union(*(all_classes(sub) for sub in cls.__subclasses__()))


TRANSLATED = {
    "ConnectTimeout": ConnectTimeout,
    "PoolTimeout": ConnectTimeout,
    "ConnectError": ConnectFailed,
    "ProxyError": ConnectFailed,
    "WriteTimeout": SendFailed,
    "WriteError": SendFailed,
    "ReadTimeout": RequestTimeout,
    "TimeoutException": RequestTimeout,
    "ReadError": ConnectionLost,
    "CloseError": ConnectionLost,
    "NetworkError": ConnectionLost,
    "RemoteProtocolError": ProtocolError,
    "DecodingError": ProtocolError,
    # what the caller's own client or URL is wrong with
    "HTTPError": InterfaceError,
    "RequestError": InterfaceError,
    "TransportError": InterfaceError,
    "ProtocolError": InterfaceError,
    "LocalProtocolError": InterfaceError,
    "UnsupportedProtocol": InterfaceError,
    "TooManyRedirects": InterfaceError,
    "HTTPStatusError": InterfaceError,
    "InvalidURL": InterfaceError,
}


def test_every_exception_of_httpx_has_a_translation() -> None:
    assert {cls.__name__ for cls in all_classes(httpx.HTTPError) | {httpx.InvalidURL}} == set(TRANSLATED)


@pytest.mark.parametrize("name", TRANSLATED)
def test_an_exception_of_httpx_is_translated(name: str) -> None:
    cls = getattr(httpx, name)
    error = cls.__new__(cls)
    Exception.__init__(error, "text")
    assert type(translated(error, began=False)) is TRANSLATED[name]


def test_once_the_reply_has_begun_it_was_cut() -> None:
    assert type(translated(httpx.ReadError("x"), began=True)) is ReplyCut
    assert type(translated(httpx.RemoteProtocolError("x"), began=True)) is ReplyCut


# ── connections ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_one_connection_carries_the_requests_of_all_clients() -> None:
    with scripted(answers()) as server:
        for _ in range(3):
            assert await client(server)(WRITE) == [{"a": 1}]
        assert server.connections == 1


def test_every_event_loop_has_connections_of_its_own_and_closes_them_at_its_end() -> None:
    with scripted(answers()) as server:
        sql = client(server)  # as at module level, before any loop runs
        for _ in range(2):
            assert asyncio.run(sql(WRITE)) == [{"a": 1}]
        assert [request.connection for request in server.requests] == [1, 2]


def test_loops_in_two_threads_do_not_meet() -> None:
    with scripted(answers()) as server:
        sql = client(server)
        threads = [threading.Thread(target=lambda: asyncio.run(sql(WRITE))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert server.connections == 2


async def test_many_calls_at_once_share_one_client() -> None:
    with scripted(answers()) as server:
        sql = client(server)
        assert await asyncio.gather(*[sql(READ) for _ in range(20)]) == [[{"a": 1}]] * 20


async def test_a_proxy_of_the_environment_is_not_shown_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with scripted(answers()) as server, scripted(closes) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert await client(server)(WRITE) == [{"a": 1}]
        assert not proxy.connections


async def test_closing_is_optional_and_leaves_the_client_usable() -> None:
    with scripted(answers()) as server:
        async with client(server) as sql:
            await sql(READ)
        assert await sql(READ) == [{"a": 1}]
        assert server.connections == 2


async def test_closing_does_not_end_the_calls_of_others() -> None:
    asked, released = threading.Event(), threading.Event()

    def waits(peer: Any, headers: dict[str, str]) -> None:
        asked.set()
        released.wait(10)
        answers()(peer, headers)

    with scripted(waits) as server:
        sql = client(server)
        running = asyncio.create_task(sql(READ))
        await asyncio.to_thread(asked.wait, 10)
        await sql.close()
        released.set()
        assert await running == [{"a": 1}]


async def test_after_a_frozen_sandbox_connections_are_new() -> None:
    with scripted(answers()) as server:
        sql = client(server)
        await sql(WRITE)
        LOOPS._clients[asyncio.get_running_loop()]._used_at -= _httpx.KEEP_ALIVE + 1
        await sql(WRITE)
        assert server.connections == 2


async def test_a_server_that_closed_between_requests_is_not_the_callers_problem() -> None:
    with scripted(answers_and_closes(), answers()) as server:
        sql = client(server)
        await sql(WRITE)
        await asyncio.to_thread(server.closed.wait, 10)
        assert await sql(WRITE) == [{"a": 1}]
        assert server.queries == [WRITE, WRITE]


async def test_the_callers_client_sends_and_stays_open(own_client: httpx.AsyncClient) -> None:
    own_client.headers["X-Mine"] = "1"
    with scripted(answers()) as server:
        async with client(server, transport=own_client) as sql:
            await sql(WRITE)
        await sql(WRITE)
        assert [request.headers["x-mine"] for request in server.requests] == ["1", "1"]
        assert not own_client.is_closed


def test_a_synchronous_client_of_the_callers_sends_too() -> None:
    with scripted(answers()) as server, httpx.Client(headers={"X-Mine": "1"}) as own:
        sql = neon(server.url, transport=own)
        assert sql(WRITE) == [{"a": 1}]
        assert server.requests[0].headers["x-mine"] == "1"


def test_a_transport_of_the_wrong_kind_is_refused() -> None:
    wrong: Any = object()
    with pytest.raises(InterfaceError, match=r"httpx\.Client"):
        neon("postgres://u:p@localhost/db", transport=wrong)
    with pytest.raises(InterfaceError, match=r"httpx\.AsyncClient"):
        neon_async("postgres://u:p@localhost/db", transport=wrong)


# ── faults, the same over an httpx client of either kind ─────────────────────────────────────────────────────────────


async def asynchronously(server: Scripted, text: str, **options: Any) -> Any:
    return await client(server, **options)(text)


async def with_httpx(server: Scripted, text: str, **options: Any) -> Any:
    def run() -> Any:
        with httpx.Client() as own:
            return neon(server.url, **{"timeout": 10.0, "retry": None, "transport": own, **options})(text)

    return await asyncio.to_thread(run)


@pytest.fixture(params=[asynchronously, with_httpx], ids=["async", "sync"])
def call(request: pytest.FixtureRequest) -> Any:
    return request.param


async def test_nobody_listens(call: Any) -> None:
    with pytest.raises(ConnectFailed) as caught:
        await call(Scripted(unused_port(), []), WRITE)
    assert not caught.value.may_have_run


@pytest.mark.parametrize("token", ["secret\n", "secret€"])
async def test_a_token_that_is_no_header_is_refused_and_not_shown(call: Any, token: str) -> None:
    with pytest.raises(InterfaceError, match="'Authorization' has a character") as caught:
        await call(Scripted(unused_port(), []), WRITE, auth_token=token)
    assert "secret" not in "".join(traceback.format_exception(caught.value))


async def test_a_header_is_latin_1_as_over_sockets(call: Any) -> None:
    with scripted(answers()) as server:
        await call(server, WRITE, fetch_options={"headers": {"X-Mine": "é"}})
        assert server.requests[0].headers["x-mine"] == "é"


@pytest.mark.parametrize("act", [resets, closes])
async def test_a_connection_that_ends_after_sending_is_an_unknown_outcome_for_a_write(call: Any, act: Any) -> None:
    with scripted(act) as server:
        with pytest.raises(ConnectionLost) as caught:
            await call(server, WRITE, retry=THRICE)
        assert caught.value.may_have_run
        assert server.queries == [WRITE]


async def test_a_connection_that_ends_after_sending_is_tried_again_for_a_read(call: Any) -> None:
    with scripted(resets, closes, answers()) as server:
        assert await call(server, READ, retry=THRICE) == [{"a": 1}]
        assert len(server.requests) == 3


async def test_a_busy_server_is_asked_again(call: Any) -> None:
    busy = answers({"message": "busy", "code": "53300"}, status=503, headers=["Retry-After: 0"])
    with scripted(busy, answers()) as server:
        assert await call(server, WRITE, retry=THRICE) == [{"a": 1}]


async def test_a_reply_that_is_cut_has_an_unknown_outcome(call: Any) -> None:
    with scripted(cut(200)) as server:
        with pytest.raises(ReplyCut) as caught:
            await call(server, WRITE)
        assert caught.value.may_have_run


async def test_a_reply_that_does_not_come_in_time_has_an_unknown_outcome(call: Any) -> None:
    with scripted(hangs) as server:
        with pytest.raises(RequestTimeout) as caught:
            await call(server, WRITE, timeout=0.5)
        assert caught.value.may_have_run


async def test_a_reply_that_comes_a_byte_at_a_time_is_held_to_the_same_time(call: Any) -> None:
    with scripted(trickles(0.01)) as server, pytest.raises(RequestTimeout):
        await call(server, WRITE, timeout=0.3)


async def test_no_time_was_left_to_connect(call: Any) -> None:
    with scripted(answers()) as server:
        with pytest.raises(NeonDbError) as caught:
            await call(server, WRITE, timeout=0.0)
        assert not caught.value.may_have_run
        assert not server.requests


async def test_a_server_that_does_not_accept_in_time(call: Any) -> None:
    with deaf_server() as server:
        with pytest.raises(ConnectTimeout) as caught:
            await call(server, WRITE, timeout=0.2)
        assert not caught.value.may_have_run


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH_9.9\r\n\r\n", http(200, b"<html>")])
async def test_an_endpoint_that_is_something_else(call: Any, data: bytes) -> None:
    with scripted(sends(data)) as server, pytest.raises(ProtocolError):
        await call(server, WRITE)


async def test_a_call_that_is_cancelled_ends_its_connection() -> None:
    asked, told = threading.Event(), threading.Event()

    def waits(peer: Any, headers: dict[str, str]) -> None:
        peer.read_body(headers)
        asked.set()
        if peer.read_head() is None:
            told.set()

    with scripted(waits, answers()) as server:
        running = asyncio.create_task(client(server)(WRITE))
        await asyncio.to_thread(asked.wait, 10)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await asyncio.to_thread(told.wait, 10)
        assert await client(server)(WRITE) == [{"a": 1}]


async def test_tls_with_a_right_and_a_wrong_name() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
    with scripted(answers(), context=context) as server:
        right = client(server, endpoint=f"https://localhost:{server.port}", fetch_options={"ssl_context": trusting})
        assert await right(WRITE) == [{"a": 1}]
        wrong = client(server, endpoint=f"https://127.0.0.1:{server.port}", fetch_options={"ssl_context": trusting})
        with pytest.raises(CertificateRejected) as caught:
            await wrong(WRITE)
        assert not caught.value.may_have_run
        await right.close()
        await wrong.close()


def test_without_httpx_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in ("sqlhttp._httpx", "sqlhttp._async"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(vars(sqlhttp), "neon_async", raising=False)
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(ImportError, match=r"pip install 'sqlhttp\[async\]'"):
        _ = sqlhttp.neon_async
