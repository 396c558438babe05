"""WebSockets of the asynchronous client: as in `test_tunnel`, and waiting that is cancelled."""

# ruff: noqa: PT012 - the block of a transaction is what raises

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from sqlhttp import (
    AsyncSql,
    CertificateRejected,
    ConnectFailed,
    ConnectTimeout,
    InterfaceError,
    NeonDbError,
    ProtocolError,
    Refused,
    ServerFailed,
    TransactionLost,
    neon_async,
)
from sqlhttp._endpoint import destination
from sqlhttp._tunnel_async import AsyncTunnel
from tests.support.backend_bytes import GREETING, done, failed, selected
from tests.support.scripted_http import answers, closes_at_the_head, deaf_server, scripted, unused_port
from tests.support.scripted_websocket import (
    TERMINATE,
    ScriptedWebSocket,
    drops,
    hangs,
    says_and_drops,
    scripted_websocket,
)

BEGUN = GREETING + done("BEGIN", "T")
SEVEN = selected([("a", 23)], ["7"], status="T")


def client(server: Any, **options: Any) -> AsyncSql[Any]:
    return neon_async(server.url, **{"retry": None, **options})


async def failure(sql: AsyncSql[Any]) -> NeonDbError:
    """How a transaction that has nothing to do fails."""
    with pytest.raises(NeonDbError) as caught:
        async with sql.begin():
            pass
    return caught.value


async def test_one_connection_carries_all_and_is_left_with_a_goodbye() -> None:
    with scripted_websocket([BEGUN, SEVEN, done("COMMIT")]) as server:
        async with client(server).begin() as tx:
            assert await tx.val("select 7") == 7
        [messages] = server.received
        await asyncio.sleep(0)
    assert messages[-1] == TERMINATE
    assert server.requests[0].path == f"/v2?address=127.0.0.1:{server.port}"


async def test_ways_not_to_be_connected() -> None:
    assert (
        type(await failure(neon_async(f"postgresql://r:p@127.0.0.1:{unused_port()}/db", retry=None))) is ConnectFailed
    )
    with scripted_websocket([drops]) as server:
        assert type(await failure(client(server))) is ConnectFailed
    with scripted(closes_at_the_head) as http:
        assert type(await failure(client(http))) is ConnectFailed
    with scripted_websocket([hangs]) as server:
        assert type(await failure(client(server, timeout=0.2))) is ConnectTimeout
        assert type(await failure(client(server).with_deadline(-1))) is ConnectTimeout
    with scripted_websocket(["hello"]) as server:
        assert type(await failure(client(server))) is ProtocolError


@pytest.mark.parametrize(("status", "kind"), [(503, Refused), (404, ServerFailed), (302, ServerFailed)])
async def test_an_upgrade_that_is_refused_says_why(status: int, kind: type[NeonDbError]) -> None:
    with scripted_websocket([BEGUN]) as server:
        server.statuses.append(status)
        error = await failure(client(server))
    assert type(error) is kind
    assert f"HTTP status {status}" in str(error)


async def test_a_silent_address_leaves_time_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with deaf_server() as deaf, scripted_websocket([BEGUN, done("COMMIT")]) as server:
        both = [socket.getaddrinfo("127.0.0.1", each.port, type=socket.SOCK_STREAM)[0] for each in (deaf, server)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
        sql = neon_async(f"postgresql://r:p@localhost:{server.port}/db", retry=None, timeout=8.0)
        async with sql.begin():
            assert len(server.requests) == 1


async def test_no_address_takes_more_than_the_time_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with deaf_server() as deaf:
        addresses = socket.getaddrinfo("127.0.0.1", deaf.port, type=socket.SOCK_STREAM)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses * 40)
        sql = neon_async(f"postgresql://r:p@localhost:{deaf.port}/db", retry=None, timeout=0.2)
        assert type(await failure(sql)) is ConnectTimeout


async def test_a_redirect_takes_no_password_to_another_place() -> None:
    with scripted_websocket([BEGUN, done("COMMIT")]) as other:

        def away(peer: Any, headers: Any) -> None:
            peer.send(f"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:{other.port}/v2\r\n\r\n".encode())
            peer.close()

        with scripted(away) as server:
            assert type(await failure(client(server))) is ServerFailed
        assert not other.requests


async def test_a_certificate_nobody_knows() -> None:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(__file__).parents[1] / "support" / "certificate.pem")
    with scripted(answers(), context=context) as server:
        sql = neon_async(f"https://role:password@127.0.0.1:{server.port}/db", retry=None)
        assert type(await failure(sql)) is CertificateRejected


async def test_the_servers_last_word_is_heard_before_its_close() -> None:
    said = failed("25P03", "idle for too long", severity="FATAL")
    with scripted_websocket([says_and_drops(BEGUN + said)]) as server, pytest.raises(NeonDbError) as caught:
        async with client(server).begin() as tx:
            await tx._tunnel._socket.wait_closed()
            await tx("select 1")
    assert caught.value.sqlstate == "25P03"


async def test_a_commit_on_a_connection_that_has_ended_is_no_doubt() -> None:
    with scripted_websocket([says_and_drops(BEGUN)]) as server, pytest.raises(TransactionLost):
        async with client(server).begin() as tx:
            await tx._tunnel._socket.wait_closed()


async def test_time_ends_waiting_for_an_answer_and_a_send_that_nobody_reads() -> None:
    def stops_reading(connection: Any, state: ScriptedWebSocket) -> None:
        connection.recv_flow_control.acquire()
        connection.send(BEGUN)
        state.over.wait(20)
        connection.recv_flow_control.release()

    for script, text in (([BEGUN, hangs], "x"), ([stops_reading], "x" * 50_000_000)):
        with scripted_websocket(script) as server:  # type: ignore[arg-type]  # two kinds of list
            async with asyncio.timeout(10):
                with pytest.raises(TransactionLost, match="in time"):
                    async with client(server, timeout=0.3).begin() as tx:
                        await tx("select $1", text)


async def test_a_cancelled_question_ends_the_connection_at_once() -> None:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def waits(connection: Any, state: ScriptedWebSocket) -> None:
        loop.call_soon_threadsafe(asked.set)
        state.over.wait(20)

    async def work() -> None:
        async with client(server).begin() as tx:
            await tx("select 1")

    with scripted_websocket([BEGUN, waits]) as server:
        async with asyncio.timeout(10):
            task = asyncio.create_task(work())
            await asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    assert TERMINATE not in server.received[0], "nobody waited until that was sent"


async def test_a_cancelled_goodbye_leaves_no_socket_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    saying = asyncio.Event()

    async def unread(_: bytes) -> None:
        saying.set()
        await asyncio.Event().wait()

    with scripted_websocket([BEGUN]) as server:
        tunnel = await AsyncTunnel.open(destination(server.url, None, {}).websocket)
        monkeypatch.setattr(tunnel._socket, "send", unread)
        closing = asyncio.create_task(tunnel.close())
        await saying.wait()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert tunnel._socket.transport.is_closing()
        await tunnel._socket.wait_closed()


async def test_a_header_that_http_does_not_allow_is_refused_and_not_shown() -> None:
    with scripted_websocket([BEGUN]) as server:
        error = await failure(client(server, fetch_options={"headers": {"X-A": "secret\r\nb"}}))
        assert type(error) is InterfaceError
        assert "secret" not in str(error)
        assert not server.requests


async def test_tasks_take_turns() -> None:
    with scripted_websocket([BEGUN, SEVEN, SEVEN, SEVEN, done("COMMIT")]) as server:
        async with client(server).begin() as tx:
            assert await asyncio.gather(*[tx.val("select 7") for _ in range(3)]) == [7, 7, 7]
