"""The synchronous transport against a server that misbehaves: each fault has its class and says what may have run."""

import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sqlhttp import (
    CertificateRejected,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    InterfaceError,
    NeonDbError,
    OutcomeUnknown,
    ProtocolError,
    Refused,
    ReplyCut,
    RequestTimeout,
    RequestTooLarge,
    Retry,
    SendFailed,
    Sql,
    _transport,
    neon,
)
from sqlhttp._endpoint import destination
from sqlhttp._request import Statement, request
from sqlhttp._transport import POOL, ConnectionPool
from tests.support.scripted_http import (
    ONE_ROW,
    Scripted,
    answers,
    answers_and_closes,
    answers_before_the_body,
    answers_in_silence,
    closes,
    closes_at_the_head,
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


@pytest.fixture(autouse=True)
def _own_connections() -> Iterator[None]:
    POOL.close()
    yield
    POOL.close()


def client(server: Scripted, **options: Any) -> Sql[Any]:
    return neon(server.url, **{"timeout": 10.0, "retry": None, **options})


def rest(sql: Sql[Any], seconds: float) -> None:
    """Let the idle connections look as if they had rested that long."""
    for connections in POOL._idle.values():
        for connection in connections:
            monotonic, wall = connection._rested_at
            connection._rested_at = (monotonic - seconds, wall - seconds)


# ── connections ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_connection_carries_request_after_request_of_all_clients() -> None:
    with scripted(answers()) as server:
        for _ in range(3):
            assert client(server)(WRITE) == [{"a": 1}]
        assert server.connections == 1


def test_a_connection_that_the_server_gives_up_is_not_used_again() -> None:
    with scripted(answers(headers=["Connection: close"])) as server:
        client(server)(WRITE)
        client(server)(WRITE)
        assert server.connections == 2


def test_threads_have_a_connection_each_and_share_them_later() -> None:
    arrived = threading.Barrier(4, timeout=10)

    def together(peer: Any, headers: dict[str, str]) -> None:
        arrived.wait()
        answers()(peer, headers)

    with scripted(together) as server, ThreadPoolExecutor(4) as threads:
        sql = client(server)
        for _ in range(3):
            assert list(threads.map(lambda _: sql(READ), range(4))) == [[{"a": 1}]] * 4
        assert server.connections == 4


def test_idle_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_transport, "MAX_IDLE", 2)
    arrived = threading.Barrier(4, timeout=10)

    def together(peer: Any, headers: dict[str, str]) -> None:
        arrived.wait()
        answers()(peer, headers)

    with scripted(together) as server, ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: client(server)(READ), range(4)))
        assert [len(connections) for connections in POOL._idle.values()] == [2]


def test_places_that_are_used_no_more_keep_no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each database with a host, or each client with TLS settings, of its own left a descriptor behind for good."""
    monkeypatch.setattr(_transport, "MAX_PLACES", 3)
    with ExitStack() as servers:
        for _ in range(8):
            client(servers.enter_context(scripted(answers())))(WRITE)
        assert [len(idle) for idle in POOL._idle.values()] == [1, 1, 1]
        with scripted(answers()) as last:
            for connections in POOL._idle.values():
                for each in connections:
                    monkeypatch.setattr(each, "is_old", lambda: True)
            for _ in range(3):
                client(last)(WRITE)
            assert [len(idle) for idle in POOL._idle.values()] == [1]
            assert last.connections == 1


def test_tls_settings_are_for_https_alone() -> None:
    settings = {"fetch_options": {"ssl_context": ssl.create_default_context()}}
    with scripted(answers()) as server:
        assert client(server, **settings)(WRITE) == client(server)(WRITE)


def test_closing_a_client_leaves_it_usable() -> None:
    with scripted(answers()) as server, client(server) as sql:
        sql(READ)
        sql.close()
        sql(READ)
        assert server.connections == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own() -> None:
    with scripted(answers()) as server:
        sql = client(server)
        sql(WRITE)
        child = os.fork()
        if child == 0:
            os._exit(0 if sql(WRITE) == [{"a": 1}] else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        sql(WRITE)
        assert [request.connection for request in server.requests] == [1, 2, 1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_that_was_forked_during_a_call_does_not_keep_its_connection_open() -> None:
    asked, told = threading.Event(), threading.Event()

    def waits(peer: Any, headers: dict[str, str]) -> None:
        peer.read_body(headers)
        asked.set()
        if peer.read_head() is None:
            told.set()

    def call() -> None:
        with pytest.raises(RequestTimeout):
            client(server, timeout=1.0)(WRITE)

    with scripted(waits) as server, ThreadPoolExecutor(1) as thread:
        calling = thread.submit(call)
        assert asked.wait(10)
        until_then, over = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(over)
            os.read(until_then, 1)
            os._exit(0)
        try:
            calling.result(20)
            assert told.wait(10), "the server does not know, and goes on with the statement"
        finally:
            os.close(over)
            os.close(until_then)
            os.waitpid(child, 0)


def test_a_signals_handler_may_ask_while_its_own_thread_holds_the_pool() -> None:
    """Such as one of SIGTERM that writes down the end of the program."""
    pool, given = ConnectionPool(), []

    def interrupted(server: Scripted) -> None:
        endpoint = destination(server.url, None, {}).endpoint
        with pool._lock:
            asked = request((Statement(READ),), batch=False, connection_string=None)
            given.append(pool.send(endpoint, asked, time.monotonic() + 10, None))
        pool.close()

    with scripted(answers()) as server:
        thread = threading.Thread(target=interrupted, args=(server,), daemon=True)
        thread.start()
        thread.join(30)
    assert [reply.status for reply in given] == [200]


def test_a_fork_while_another_thread_holds_the_pool_does_not_hang() -> None:
    with POOL._lock:
        held = POOL._lock
        POOL.forget()
    assert POOL._lock is not held


# ── a connection that has rested ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", [READ, WRITE])
def test_a_server_that_closed_between_requests_is_not_the_callers_problem(text: str) -> None:
    with scripted(answers_and_closes(), answers()) as server:
        sql = client(server)
        sql(text)
        assert server.closed.wait(10)
        assert sql(text) == [{"a": 1}]
        assert server.queries == [text, text]


def test_a_write_over_a_rested_connection_asks_first() -> None:
    with scripted(answers()) as server:
        sql = client(server)
        sql(WRITE)
        rest(sql, 5)
        assert sql(WRITE) == [{"a": 1}]
        assert server.requests[1].headers["expect"] == "100-continue"
        assert server.connections == 1


def test_a_rested_connection_that_ends_at_the_question_is_replaced_and_the_write_runs_once() -> None:
    with scripted(answers(), closes_at_the_head, answers()) as server:
        sql = client(server)
        sql(WRITE)
        rest(sql, 5)
        assert sql(WRITE) == [{"a": 1}]
        assert server.queries == [WRITE, WRITE]
        assert [request.connection for request in server.requests] == [1, 2]


def test_a_rested_connection_over_which_nothing_can_be_sent_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    def answers_and_resets(peer: Any, headers: dict[str, str]) -> None:
        answers()(peer, headers)
        peer.reset()

    with scripted(answers_and_resets, answers()) as server:
        sql = client(server)
        sql(WRITE)
        assert server.closed.wait(10)
        # As if the reset had come just after the connection was looked at.
        monkeypatch.setattr(_transport.Connection, "_is_silent", lambda self: True)
        assert sql(WRITE) == [{"a": 1}]
        assert server.queries == [WRITE, WRITE]


def test_a_read_over_a_rested_connection_is_sent_at_once_and_again_if_it_is_lost() -> None:
    with scripted(answers(), closes, answers()) as server:
        sql = client(server)
        sql(READ)
        rest(sql, 5)
        assert sql(READ) == [{"a": 1}]
        assert server.queries == [READ, READ, READ]
        assert "expect" not in server.requests[1].headers


def test_a_write_that_is_lost_on_a_connection_in_use_has_an_unknown_outcome() -> None:
    with scripted(answers(), closes) as server:
        sql = client(server)
        sql(WRITE)
        with pytest.raises(ConnectionLost) as caught:
            sql(WRITE)
        assert caught.value.may_have_run
        assert server.queries == [WRITE, WRITE]


def test_a_server_that_does_not_like_to_be_asked_gets_the_request_over_a_new_connection() -> None:
    with scripted(answers(), answers_before_the_body(417, "no"), answers()) as server:
        sql = client(server)
        sql(WRITE)
        rest(sql, 5)
        assert sql(WRITE) == [{"a": 1}]
        assert server.queries == [WRITE, WRITE]


def test_a_server_that_never_says_continue_gets_the_body_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_transport, "CONTINUE_WAIT", 0.05)
    with scripted(answers(), answers_in_silence) as server:
        sql = client(server)
        sql(WRITE)
        rest(sql, 5)
        assert sql(WRITE) == [{"a": 1}]
        assert server.connections == 1


def test_an_answer_to_the_head_alone_is_the_answer() -> None:
    with scripted(answers(), answers_before_the_body(413, {"message": "too large"}), answers()) as server:
        sql = client(server)
        sql(WRITE)
        rest(sql, 5)
        with pytest.raises(RequestTooLarge):
            sql(WRITE)
        assert sql(WRITE) == [{"a": 1}]


@pytest.mark.parametrize("clock", [0, 1])
def test_a_write_asks_after_a_rest_by_either_clock(clock: int) -> None:
    """In a sandbox that was frozen for seconds the end of a connection may arrive after the request has left."""
    with scripted(answers(), closes_at_the_head, answers()) as server:
        sql = client(server)
        sql(WRITE)
        [[connection]] = POOL._idle.values()
        at = list(connection._rested_at)
        at[clock] -= _transport.ASK_AFTER + 1
        connection._rested_at = (at[0], at[1])
        assert sql(WRITE) == [{"a": 1}]
        assert server.queries == [WRITE, WRITE]


@pytest.mark.parametrize("clock", [0, 1])
def test_a_connection_that_rested_too_long_by_either_clock_is_replaced(clock: int) -> None:
    with scripted(answers()) as server:
        sql = client(server)
        sql(WRITE)
        [[connection]] = POOL._idle.values()
        at = list(connection._rested_at)
        at[clock] -= _transport.MAX_REST + 1  # a frozen sandbox: the monotonic clock stood still, the other did not
        connection._rested_at = (at[0], at[1])
        sql(WRITE)
        assert server.connections == 2


def test_bytes_that_nobody_asked_for_end_a_connection() -> None:
    def talks(peer: Any, headers: dict[str, str]) -> None:
        peer.read_body(headers)
        peer.send(http(200, ONE_ROW) + http(200, ONE_ROW))

    with scripted(talks, answers()) as server:
        sql = client(server)
        sql(WRITE)
        sql(WRITE)
        assert server.connections == 2


# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nobody_listens() -> None:
    sql = neon(f"postgresql://u:p@127.0.0.1:{unused_port()}/db", retry=None)
    with pytest.raises(ConnectFailed, match="refused") as caught:
        sql(WRITE)
    assert not caught.value.may_have_run
    assert isinstance(caught.value.source_error, ConnectionRefusedError)


def test_an_unknown_host() -> None:
    sql = neon("postgresql://u:p@localhost/db", endpoint="http://host.invalid", retry=None)
    with pytest.raises(ConnectFailed, match=r"host\.invalid") as caught:
        sql(WRITE)
    assert not caught.value.may_have_run


def test_no_time_was_left_to_connect() -> None:
    with scripted(answers()) as server:
        sql = client(server).with_deadline(0.0, margin=0.0)
        with pytest.raises(ConnectTimeout) as caught:
            sql(WRITE)
        assert not caught.value.may_have_run
        assert server.connections == 0


def test_a_server_that_does_not_accept_in_time() -> None:
    with deaf_server() as server:
        with pytest.raises(ConnectTimeout) as caught:
            client(server, timeout=0.2)(WRITE)
        assert not caught.value.may_have_run


def test_a_host_of_many_silent_addresses_takes_no_longer_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with deaf_server() as server:
        addresses = socket.getaddrinfo("127.0.0.1", server.port, type=socket.SOCK_STREAM)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses * 40)
        began = time.monotonic()
        with pytest.raises(ConnectTimeout):
            client(server, timeout=0.5, retry=None)(WRITE)
        assert time.monotonic() - began < 10  # and not twenty


def test_a_silent_address_leaves_time_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(_transport, "monotonic", lambda: now)  # a machine that is slow takes none of the time
    monkeypatch.setattr(_transport, "CONNECT_TIMEOUT", 1.0)
    with deaf_server() as deaf, scripted(answers()) as server:
        both = [socket.getaddrinfo("127.0.0.1", each.port, type=socket.SOCK_STREAM)[0] for each in (deaf, server)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
        assert client(server, timeout=60.0, retry=None)(WRITE) == [{"a": 1}]


def test_a_name_server_that_is_silent_takes_no_more_than_the_time_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    is_over = threading.Event()

    def silent(*_: Any, flags: int = 0, **__: Any) -> list[Any]:
        if flags != socket.AI_NUMERICHOST:
            is_over.wait(60)
        raise socket.gaierror(socket.EAI_NONAME, "no such host")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    try:
        with pytest.raises(ConnectTimeout, match="gateway:4444"):
            neon("postgresql://u:p@gateway/db", retry=None, timeout=0.2)(READ)
    finally:
        is_over.set()


def test_a_name_is_looked_up_where_no_thread_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_transport, "start_new_thread", refused)
    with scripted(answers()) as server:
        assert neon(f"postgresql://u:p@localhost:{server.port}/db", retry=None)(READ) == [{"a": 1}]


def test_a_reset_after_sending_is_an_unknown_outcome_for_a_write() -> None:
    with scripted(resets) as server:
        with pytest.raises(OutcomeUnknown) as caught:
            client(server, retry=THRICE)(WRITE)
        assert type(caught.value) is ConnectionLost
        assert caught.value.may_have_run
        assert caught.value.attempts == 1
        assert server.queries == [WRITE]


def test_a_reset_after_sending_is_tried_again_for_a_read() -> None:
    with scripted(resets, answers()) as server:
        full = client(server, retry=THRICE).query(READ, full_results=True)
        assert (full.rows, full.attempts) == ([{"a": 1}], 2)


def test_a_busy_server_is_asked_again_when_it_says() -> None:
    busy = answers({"message": "no connection within 5 s", "code": "53300"}, status=503, headers=["Retry-After: 0"])
    with scripted(busy, answers()) as server:
        full = client(server, retry=THRICE).query(WRITE, full_results=True)
        assert full.attempts == 2
        assert server.queries == [WRITE, WRITE]


def test_a_balancers_word_of_a_server_that_went_away_has_no_write_sent_twice() -> None:
    """Envoy's, a mesh's: 503 also where the server had the request already."""
    gone = answers(b"upstream connect error or disconnect/reset before headers", status=503)
    with scripted(gone, answers()) as server:
        with pytest.raises(Refused) as caught:
            client(server, retry=THRICE)(WRITE)
        assert (caught.value.attempts, caught.value.may_have_run) == (1, True)
        assert server.queries == [WRITE]
    with scripted(gone, answers()) as server:
        assert client(server, retry=THRICE)(READ) == [{"a": 1}]
    with scripted(gone, answers()) as server:
        assert client(server, retry=THRICE).query(WRITE, idempotency_key="auto") == [{"a": 1}]


def test_a_server_that_stays_busy_says_so() -> None:
    busy = answers({"message": "no connection within 5 s", "code": "53300"}, status=503, headers=["Retry-After: 0"])
    with scripted(busy) as server:
        with pytest.raises(Refused, match=r"no connection within 5 s \(SQLSTATE 53300\)") as caught:
            client(server, retry=THRICE)(WRITE)
        assert (caught.value.attempts, caught.value.may_have_run, caught.value.retry_after) == (3, False, 0.0)


@pytest.mark.parametrize("after", [1, 20, 110, 200])
def test_a_reply_that_is_cut_has_an_unknown_outcome(after: int) -> None:
    with scripted(cut(after)) as server:
        with pytest.raises(ReplyCut) as caught:
            client(server)(WRITE)
        assert caught.value.may_have_run


def test_a_reply_that_does_not_come_in_time_has_an_unknown_outcome() -> None:
    with scripted(hangs) as server:
        with pytest.raises(RequestTimeout) as caught:
            client(server, timeout=0.5)(WRITE)
        assert caught.value.may_have_run
        assert server.queries == [WRITE]


def test_a_reply_that_comes_a_byte_at_a_time_is_held_to_the_same_time() -> None:
    with scripted(trickles(0.01)) as server:
        began = time.monotonic()
        with pytest.raises(RequestTimeout):
            client(server, timeout=0.2)(WRITE)
        assert time.monotonic() - began < 2


def test_a_timeout_ends_the_connection_so_that_the_server_is_told() -> None:
    told = threading.Event()

    def waits(peer: Any, headers: dict[str, str]) -> None:
        peer.read_body(headers)
        if peer.read_head() is None:
            told.set()

    with scripted(waits) as server:
        with pytest.raises(RequestTimeout):
            client(server, timeout=0.5)(WRITE)
        assert told.wait(10)


def test_a_request_that_could_not_be_sent_whole_did_not_run() -> None:
    def stops_reading(peer: Any, headers: dict[str, str]) -> None:
        peer.reset()

    with scripted(stops_reading) as server:
        with pytest.raises(SendFailed) as caught:
            client(server)("insert into t values ($1)", "x" * 50_000_000)
        assert not caught.value.may_have_run


@pytest.mark.parametrize(("status", "kind"), [(413, RequestTooLarge), (408, SendFailed), (503, SendFailed)])
def test_why_a_server_takes_no_more_of_a_request_is_heard(status: int, kind: type[NeonDbError]) -> None:
    """Who stands before the gateway may have smaller limits than it has."""

    def says(peer: Any, headers: dict[str, str]) -> None:
        peer.send(http(status, {"message": "no more than 1 MB"}, headers=["Connection: close"]))
        peer.close()  # with much unread, which is a reset

    with scripted(says) as server, pytest.raises(NeonDbError) as caught:
        client(server, retry=Retry(attempts=1))("insert into t values ($1)", "x" * 50_000_000)
    assert type(caught.value) is kind
    assert not caught.value.may_have_run
    assert caught.value.attempts == 1


@pytest.mark.parametrize(
    "data",
    [b"E\0\0\0\x0fSFATAL\0C08P01\0\0", b"SSH-2.0-OpenSSH_9.9\r\n", http(200, b"<html>"), http(200, b"{}")],
)
def test_an_endpoint_that_is_something_else(data: bytes) -> None:
    with scripted(sends(data)) as server, pytest.raises(ProtocolError) as caught:
        client(server)(WRITE)
    assert caught.value.may_have_run


def test_an_interrupt_does_not_leave_a_connection_in_the_middle_of_an_answer() -> None:
    class Interrupt(BaseException):
        pass

    def interrupted(*_: Any) -> None:
        raise Interrupt

    with scripted(answers()) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(_transport.Connection, "_read", interrupted)
        with pytest.raises(Interrupt):
            client(server)(WRITE)
        patch.undo()
        assert client(server)(WRITE) == [{"a": 1}]
        assert server.connections == 2


def test_a_header_that_http_does_not_allow_is_refused_before_anything_is_sent() -> None:
    with scripted(answers()) as server:
        with pytest.raises(InterfaceError, match="X-A"):
            client(server, fetch_options={"headers": {"X-A": "a\r\nb"}})(READ)
        assert server.connections == 0


# ── TLS ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)  # for localhost and right.example
    return context


def test_tls_with_the_right_name_works_and_is_kept_alive(tls: ssl.SSLContext) -> None:
    trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
    with scripted(answers(), context=tls) as server:
        sql = client(server, endpoint=f"https://localhost:{server.port}", fetch_options={"ssl_context": trusting})
        assert sql(WRITE) == sql(WRITE) == [{"a": 1}]
        rest(sql, 5)
        assert sql(WRITE) == [{"a": 1}]
        assert server.connections == 1


def test_tls_with_a_wrong_name(tls: ssl.SSLContext) -> None:
    trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
    with scripted(answers(), context=tls) as server:
        sql = client(server, endpoint=f"https://127.0.0.1:{server.port}", fetch_options={"ssl_context": trusting})
        with pytest.raises(CertificateRejected, match=r"127\.0\.0\.1") as caught:
            sql(WRITE)
        assert not caught.value.may_have_run
        assert not caught.value.retryable
        assert not server.requests


def test_tls_with_an_unknown_authority(tls: ssl.SSLContext) -> None:
    with scripted(answers(), context=tls) as server:
        with pytest.raises(CertificateRejected, match="self-signed"):
            client(server, endpoint=f"https://localhost:{server.port}")(WRITE)
        assert not server.requests


def test_tls_to_a_server_that_speaks_plain_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as thread:

        def answer() -> None:
            with listener.accept()[0] as sock:
                sock.recv(65536)
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        answering = thread.submit(answer)
        endpoint = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ConnectFailed, match=r"WRONG_VERSION_NUMBER|wrong version number"):
            neon("postgresql://u:p@localhost/db", endpoint=endpoint, retry=None)(WRITE)
        answering.result(10)
