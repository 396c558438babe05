"""WebSockets of the synchronous client: connecting, deadlines, broken connections."""

# ruff: noqa: PT012 - the block of a transaction is what raises

import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection

import sqlhttp
from sqlhttp import (
    CertificateRejected,
    ConnectFailed,
    ConnectTimeout,
    InterfaceError,
    NeonDbError,
    ProtocolError,
    Refused,
    Retry,
    ServerFailed,
    TransactionLost,
    _tunnel,
    neon,
)
from sqlhttp._line import Cut, TimedOut
from sqlhttp._tunnel import Tunnel
from tests.support.backend_bytes import GREETING, done, failed, selected
from tests.support.scripted_http import answers, deaf_server, scripted, unused_port
from tests.support.scripted_websocket import (
    TERMINATE,
    ScriptedWebSocket,
    drops,
    hangs,
    says_and_drops,
    scripted_websocket,
)

BEGUN = GREETING + done("BEGIN", "T")
CERTIFICATE = Path(__file__).parents[1] / "support" / "certificate.pem"


def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)  # for localhost and right.example
    return context


def client(server: Any, **options: Any) -> sqlhttp.Sql[Any]:
    return neon(server.url, **{"retry": None, **options})


def failure(sql: sqlhttp.Sql[Any]) -> NeonDbError:
    """How a transaction that has nothing to do fails."""
    with pytest.raises(NeonDbError) as caught, sql.begin():
        pass
    return caught.value


def test_one_connection_carries_all_and_is_left_with_a_goodbye() -> None:
    with scripted_websocket([BEGUN, selected([("a", 23)], ["7"], status="T"), done("COMMIT")]) as server:
        with client(server, fetch_options={"headers": {"X-Trace": "7"}}).begin() as tx:
            assert tx.val("select 7") == 7
        [messages] = server.received
    assert len(messages) == 4
    assert messages[-1] == TERMINATE
    [request] = server.requests
    assert request.path == "/v2?address=127.0.0.1:" + str(server.port)
    assert request.headers["X-Trace"] == "7"
    assert request.headers["User-Agent"] == "sqlhttp"
    assert "Sec-WebSocket-Extensions" not in request.headers
    assert b"secret" not in str(request).encode()


def test_a_port_where_nobody_listens() -> None:
    error = failure(neon(f"postgresql://r:p@127.0.0.1:{unused_port()}/db", retry=None))
    assert type(error) is ConnectFailed


def test_a_host_that_does_not_answer() -> None:
    with deaf_server() as server:
        assert type(failure(client(server, timeout=0.2))) is ConnectTimeout


def test_a_server_that_does_not_answer_the_upgrade() -> None:
    def silent(peer: Any, headers: Any) -> None:
        peer.server.over.wait(20)

    with scripted(silent) as server:
        assert type(failure(client(server, timeout=0.2))) is ConnectTimeout


@pytest.mark.parametrize(("status", "kind"), [(503, Refused), (429, Refused), (404, ServerFailed), (301, ServerFailed)])
def test_an_upgrade_that_is_refused_says_why(status: int, kind: type[NeonDbError]) -> None:
    with scripted_websocket([BEGUN]) as server:
        server.statuses.append(status)
        error = failure(client(server))
    assert type(error) is kind
    assert f"HTTP status {status}: busy" in str(error)
    assert not error.may_have_run


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 101 Switching Protocols\r\nUpgr"])
def test_a_connection_that_ends_before_it_is_a_websocket_is_opened_again(data: bytes) -> None:
    def ends(peer: Any, headers: Any) -> None:
        peer.send(data)
        peer.close()

    with scripted(ends) as server:
        error = failure(client(server, retry=Retry(attempts=3)))
    assert type(error) is ConnectFailed
    assert server.connections == error.attempts == 3


def test_a_server_that_knows_no_websockets() -> None:
    def page(peer: Any, headers: Any) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
        peer.close()

    with scripted(page) as server:
        assert type(failure(client(server))) is ServerFailed


def test_a_certificate_nobody_knows() -> None:
    with scripted(answers(), context=tls()) as server:
        sql = neon(f"https://role:password@127.0.0.1:{server.port}/db", retry=None)
        assert type(failure(sql)) is CertificateRejected


def test_a_connection_that_drops_at_the_log_in() -> None:
    with scripted_websocket([drops]) as server:
        assert type(failure(client(server))) is ConnectFailed


def test_the_servers_last_word_is_heard_before_its_close() -> None:
    said = failed("53300", "all 5 connections are in use", severity="FATAL")
    with scripted_websocket([says_and_drops(GREETING + said)]) as server:
        error = failure(client(server))
    assert type(error) is Refused
    assert str(error) == "all 5 connections are in use (SQLSTATE 53300)"


def test_a_last_word_that_came_while_nothing_was_asked_is_heard_too() -> None:
    said = says_and_drops(BEGUN + failed("25P03", "idle for too long", severity="FATAL"))
    idle = pytest.raises(sqlhttp.errors.IdleInTransactionSessionTimeout)
    with scripted_websocket([said]) as server, idle as caught, client(server).begin() as tx:
        closed(tx._tunnel)
        tx("select 1")
    assert not caught.value.may_have_run


def closed(tunnel: Tunnel) -> None:
    """Wait until the client's side has noticed the end."""
    socket: ClientConnection = tunnel._socket
    socket.recv_events_thread.join(20)
    assert not socket.recv_events_thread.is_alive()


def test_text_is_no_protocol_of_postgres() -> None:
    with scripted_websocket(["hello"]) as server:
        assert type(failure(client(server))) is ProtocolError


def test_time_ends_waiting_for_an_answer() -> None:
    with scripted_websocket([BEGUN, hangs]) as server:
        began = time.monotonic()
        with pytest.raises(TransactionLost, match="in time"), client(server, timeout=0.3).begin() as tx:
            tx("select 1")
        assert time.monotonic() - began < 10


def test_time_ends_a_send_that_nobody_reads() -> None:
    def stops_reading(connection: Any, state: ScriptedWebSocket) -> None:
        connection.recv_flow_control.acquire()
        connection.send(BEGUN)
        state.over.wait(20)
        connection.recv_flow_control.release()

    with scripted_websocket([stops_reading]) as server:
        began = time.monotonic()
        with pytest.raises(TransactionLost), client(server, timeout=0.5).begin() as tx:
            tx("select $1", "x" * 50_000_000)
        assert time.monotonic() - began < 10


def test_a_large_question_that_was_answered_leaves_no_guard_behind() -> None:
    with scripted_websocket([BEGUN, selected([("a", 25)], ["x"], status="T"), done("COMMIT")]) as server:
        with client(server).begin() as tx:
            tx("select $1", "x" * 100_000)
        deadline = time.monotonic() + 10
        while any(isinstance(thread, threading.Timer) for thread in threading.enumerate()):
            assert time.monotonic() < deadline


def test_a_commit_on_a_connection_that_has_ended_is_no_doubt() -> None:
    lost = pytest.raises(TransactionLost)
    with scripted_websocket([says_and_drops(BEGUN)]) as server, lost as caught, client(server).begin() as tx:
        closed(tx._tunnel)
    assert not caught.value.may_have_run


def test_a_silence_longer_than_connecting_may_take_is_none_of_ours() -> None:
    with scripted_websocket([BEGUN, done("COMMIT")]) as server, client(server).begin() as tx:
        assert tx._tunnel._socket.socket.gettimeout() is None


def test_an_interrupted_question_spoils_the_connection() -> None:
    with scripted_websocket([BEGUN, hangs]) as server:
        with pytest.raises(KeyboardInterrupt), client(server).begin() as tx:

            def interrupt(out: bytes, deadline: float | None) -> bytes:
                raise KeyboardInterrupt

            tx._tunnel._exchange = interrupt  # type: ignore[method-assign]
            tx("select 1")
        assert not tx._tunnel.line.is_usable


def test_an_interrupt_in_the_middle_of_websockets_own_lock_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tunnel, "CLOSE_TIMEOUT", 0.1)
    tunnels: list[Tunnel] = []
    ended = threading.Event()

    def interrupt(out: bytes, deadline: float | None) -> bytes:
        tunnels[0]._socket.protocol_mutex.acquire()
        raise KeyboardInterrupt

    def work() -> None:
        with pytest.raises(KeyboardInterrupt), client(server).begin() as tx:
            tunnels.append(tx._tunnel)
            tx._tunnel._exchange = interrupt  # type: ignore[method-assign]
            tx("select 1")
        ended.set()

    with scripted_websocket([BEGUN, hangs]) as server:
        threading.Thread(target=work, daemon=True).start()
        assert ended.wait(30)
        [tunnel] = tunnels
        tunnel._socket.protocol_mutex.release()
        tunnel._socket.recv_events_thread.join(10)
        assert tunnel._socket.socket.fileno() == -1


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_interrupted_handshake_leaves_no_thread_behind(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    def interrupted(connection: ClientConnection, *_: Any, **__: Any) -> None:
        threads.append(connection.recv_events_thread)
        raise KeyboardInterrupt

    def silent(peer: Any, headers: Any) -> None:
        peer.server.over.wait(20)

    monkeypatch.setattr(ClientConnection, "handshake", interrupted)
    context = tls() if scheme == "https" else None
    trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
    with scripted(silent, context=context) as server:
        sql = client(server, endpoint=f"{scheme}://localhost:{server.port}", fetch_options={"ssl_context": trusting})
        with pytest.raises(KeyboardInterrupt), sql.begin():
            pass
        [reading] = threads
        reading.join(10)
        assert not reading.is_alive()


def test_a_header_that_http_does_not_allow_is_refused_and_not_shown() -> None:
    with scripted_websocket([BEGUN]) as server:
        error = failure(client(server, fetch_options={"headers": {"X-A": "secret\r\nb"}}))
        assert type(error) is InterfaceError
        assert "X-A" in str(error)
        assert "secret" not in str(error)
        assert not server.requests


def test_the_deadline_of_the_client_counts() -> None:
    with scripted_websocket([hangs]) as server:
        assert type(failure(client(server).with_deadline(0.2, margin=0.0))) is ConnectTimeout
        assert type(failure(client(server).with_deadline(-1))) is ConnectTimeout


def test_steps_are_told_how_the_connection_ended() -> None:
    def steps() -> Any:
        try:
            yield b""
        except (Cut, TimedOut) as error:
            return error

    with scripted_websocket([says_and_drops(b"")]) as server:
        tunnel = Tunnel(neon(server.url)._options.destination.websocket)
        tunnel._socket.send(b"x")
        assert tunnel.drive(_second(steps()), None).args == ("the server closed it (1011: the end)",)
        tunnel.close()


def _second(steps: Any) -> Any:
    """The steps after one message that is not looked at."""
    yield b""
    return (yield from steps)


def test_without_the_package_it_is_said_what_to_install() -> None:
    program = """
import sys
sys.modules["websockets"] = None
from sqlhttp import neon
sql = neon("postgresql://r:p@localhost/db")
for use in (sql.begin, sql.session, lambda: sql.listen("a")):
    try:
        use()
    except ImportError as error:
        print(error)
"""
    folder = str(Path(sqlhttp.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONPATH": folder}
    )
    assert (
        done.stdout.splitlines()
        == ["begin, session and listen need the package websockets: pip install 'sqlhttp[websocket]'"] * 3
    )
