"""Transactions and sessions of the synchronous client, on a server that plays a script."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from websockets.sync.server import ServerConnection

from sqlhttp import (
    ConnectionLost,
    InterfaceError,
    NeonDbError,
    OutcomeUnknown,
    Retry,
    SendFailed,
    Sql,
    TransactionLost,
    errors,
    neon,
)
from tests.support.backend_bytes import GREETING, PARSED, done, failed, ready, selected
from tests.support.scripted_websocket import (
    HANG_TIMEOUT,
    ScriptedWebSocket,
    drops,
    says_and_drops,
    scripted_websocket,
)

BEGUN = GREETING + done("BEGIN", "T")
SEVEN = selected([("a", 23)], ["7"], status="T")
CONFLICT = PARSED + failed("40001", "could not serialize") + ready("E")
FULL = says_and_drops(GREETING + failed("53300", severity="FATAL"))


def client(server: ScriptedWebSocket, **options: Any) -> Sql[Any]:
    return neon(server.url, **{"retry": Retry(attempts=3, budget=60.0), **options})


def seven(tx: Any) -> int:
    value: int = tx.val("select 7")
    return value


def test_begin_goes_out_with_the_log_in() -> None:
    with scripted_websocket([BEGUN, done("COMMIT")]) as server:
        assert client(server, isolation_level="Serializable").begin(lambda tx: 7, read_only=True) == 7
    [first, commit, _] = server.received[0]
    assert b"user\0role\0" in first
    assert b"p\0\0\0\x0dpassword\0" in first
    assert b"BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY\0" in first
    assert b"COMMIT\0" in commit


def test_all_ways_to_ask_are_there() -> None:
    two = selected([("a", 23)], ["7"], ["8"], status="T")
    one = SEVEN
    with scripted_websocket(
        [BEGUN, two, one, two, one, two, done("UPDATE 3", "T"), two, two, done("COMMIT")]
    ) as server:
        with client(server).begin() as tx:
            assert tx("select $1", 1) == [{"a": 7}, {"a": 8}]
            assert tx.one("select 1") == {"a": 7}
            assert tx.first("select 1") == {"a": 7}
            assert tx.val("select 1") == 7
            assert tx.col("select 1") == [7, 8]
            assert tx.execute("update t set a = 1") == 3
            assert tx.query("select 1", array_mode=True, full_results=True).rows == [(7,), (8,)]
            assert tx(tx.q("select $1", tx.ident("t"), row=tuple)) == [(7,), (8,)]
        assert b'select "t"\0' in server.received[0][8]


def test_a_clients_wishes_hold_inside() -> None:
    with scripted_websocket([BEGUN, SEVEN, done("COMMIT")]) as server, client(server, row=tuple).begin() as tx:
        assert tx("select 7") == [(7,)]


def test_an_exception_rolls_back_and_is_passed_on() -> None:
    with scripted_websocket([BEGUN, done("ROLLBACK")]) as server:
        with pytest.raises(KeyError), client(server).begin():
            raise KeyError
        assert b"ROLLBACK\0" in server.received[0][1]


def test_waiting_for_another_threads_statement_ends_in_time_and_loses_nothing() -> None:
    asked, may_answer = threading.Event(), threading.Event()

    def slowly(connection: ServerConnection, state: ScriptedWebSocket) -> None:
        asked.set()
        assert may_answer.wait(HANG_TIMEOUT)
        connection.send(SEVEN)

    with scripted_websocket([BEGUN, slowly, SEVEN, done("COMMIT")]) as server, ThreadPoolExecutor() as threads:
        with client(server).begin() as tx:
            first = threads.submit(seven, tx)
            try:
                assert asked.wait(HANG_TIMEOUT)
                with pytest.raises(SendFailed, match="in use by others") as caught:
                    tx.query("select 7", timeout=0.01)
            finally:
                may_answer.set()
            assert not caught.value.may_have_run
            assert (first.result(), seven(tx)) == (7, 7)
        assert sum(b"select 7\0" in message for message in server.received[0]) == 2


def test_a_connection_that_ends_at_commit_leaves_the_outcome_unknown() -> None:
    with scripted_websocket([BEGUN, drops]) as server:
        with pytest.raises(ConnectionLost) as caught, client(server).begin():
            pass
        assert caught.value.may_have_run
        with pytest.raises(OutcomeUnknown) as again:
            client(server).begin(lambda tx: None)
        assert again.value.attempts == 1, "what may have happened is not done twice"
        assert len(server.received) == 2


def test_a_function_that_only_reads_is_called_again_after_that() -> None:
    with scripted_websocket([BEGUN, SEVEN, drops], [BEGUN, SEVEN, done("COMMIT")]) as server:
        assert client(server).begin(seven, read_only=True) == 7
        assert len(server.received) == 2


def test_connecting_is_tried_again_and_the_block_is_not() -> None:
    with scripted_websocket([FULL], [drops], [BEGUN, drops]) as server:
        with pytest.raises(TransactionLost), client(server).begin() as tx:
            tx("select 1")
        assert len(server.received) == 3


@pytest.mark.parametrize("code", ["40001", "40P01"])
def test_a_conflict_calls_the_function_again_on_the_same_connection(code: str) -> None:
    conflict = PARSED + failed(code) + ready("E")
    script = [BEGUN, conflict, done("ROLLBACK"), done("BEGIN", "T"), SEVEN, done("COMMIT")]
    with scripted_websocket(script) as server:
        assert client(server).begin(seven) == 7
        assert len(server.received) == 1


def test_a_conflict_at_commit_calls_the_function_again() -> None:
    conflict = PARSED + failed("40001") + ready("I")
    script = [BEGUN, SEVEN, conflict, done("BEGIN", "T"), SEVEN, done("COMMIT")]
    with scripted_websocket(script) as server:
        assert client(server).begin(seven) == 7


def test_a_lost_connection_calls_the_function_again_on_another() -> None:
    with scripted_websocket([BEGUN, drops], [FULL], [BEGUN, SEVEN, done("COMMIT")]) as server:
        assert client(server).begin(seven) == 7
        assert len(server.received) == 3


def test_attempts_end_and_are_counted() -> None:
    again = [CONFLICT, done("ROLLBACK"), done("BEGIN", "T")]
    with scripted_websocket([BEGUN, *again, *again, *again]) as server:
        with pytest.raises(errors.SerializationFailure) as caught:
            client(server).begin(seven)
        assert caught.value.attempts == 3
    with scripted_websocket([BEGUN, *again]) as server, pytest.raises(errors.SerializationFailure):
        client(server).begin(seven, retry=None)


def test_one_timeout_is_for_all_calls_of_the_function() -> None:
    with scripted_websocket([BEGUN, done("COMMIT")]) as server:
        deadlines = []
        client(server).begin(lambda tx: deadlines.append(tx._options.deadline), timeout=20.0)
        assert deadlines != [None]
        with client(server).begin(timeout=20.0) as tx:
            assert (tx._options.timeout, tx._options.deadline) == (20.0, None)


def test_a_token_that_is_a_function_is_asked_once() -> None:
    with scripted_websocket([BEGUN, done("COMMIT")]) as server:
        url = server.url.replace(":password", "")
        asked = []

        def token() -> str:
            asked.append(1)
            return "jwt"

        with neon(url, auth_token=token).begin():
            pass
        assert b"p\0\0\0\x08jwt\0" in server.received[0][0]
        assert asked == [1]


# ── sessions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_session_asks_the_pool_for_a_backend_of_its_own() -> None:
    with scripted_websocket([GREETING, done("SET"), SEVEN[:-1] + b"I"]) as server:
        with client(server).session() as session:
            session("set lock_timeout = 5")
            assert session.val("select 7") == 7
        assert b"pool_mode\0session\0" in server.received[0][0]


def test_a_statement_of_a_session_that_is_cut_off_may_have_run() -> None:
    with scripted_websocket([GREETING, drops]) as server, client(server).session() as session:
        with pytest.raises(ConnectionLost) as caught:
            session("insert into t values (1)")
        assert caught.value.may_have_run
        with pytest.raises(InterfaceError, match="ended"):
            session("select 1")


def test_a_sessions_transaction_is_tried_again_while_its_connection_stands() -> None:
    begun = done("BEGIN", "T")
    script = [GREETING, begun, CONFLICT, done("ROLLBACK"), begun, SEVEN, done("COMMIT")]
    with scripted_websocket(script) as server, client(server).session() as session:
        assert session.begin(seven, isolation_level="Serializable") == 7
    with scripted_websocket([GREETING, begun, drops]) as server, client(server).session() as session:
        with pytest.raises(TransactionLost) as caught:
            session.begin(seven)
        assert caught.value.attempts == 1


def test_a_statement_of_a_session_may_have_a_timeout_of_its_own() -> None:
    with scripted_websocket([GREETING, SEVEN]) as server, client(server, timeout=None).session() as session:
        assert session.query("select 7", timeout=20.0) == [{"a": 7}]


def test_options_of_http_have_no_place_inside() -> None:
    with scripted_websocket([GREETING]) as server, client(server).session() as session:
        wrong: Any = session.query
        with pytest.raises(TypeError):
            wrong("select 1", read_only=True)


def test_a_role_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with pytest.raises(NeonDbError, match="role"), neon("https://gateway.example").begin():
        pass


@pytest.mark.parametrize("kind", ["session", "begin"])
def test_a_program_ends_though_it_has_left_one_open(kind: str) -> None:
    """By then the thread of its socket has stopped, and whoever waited for that waited for ever."""
    program = (
        "import sys; from sqlhttp import neon; "
        f"left = neon(sys.argv[1]).{kind}(); assert left.__enter__().val('select 7') == 7"
    )
    with scripted_websocket([BEGUN if kind == "begin" else GREETING, SEVEN]) as server:
        ended = subprocess.run([sys.executable, "-c", program, server.url], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_ctrl_c_amid_the_goodbye_leaves_no_socket_and_no_thread_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: bytes) -> None:
        raise KeyboardInterrupt

    with scripted_websocket([GREETING]) as server:
        left = client(server).session()
        socket: Any = left.__enter__()._tunnel._socket
        monkeypatch.setattr(socket, "send", interrupted)
        with pytest.raises(KeyboardInterrupt):
            left.__exit__(None, None, None)
        socket.recv_events_thread.join(HANG_TIMEOUT)
        assert not socket.recv_events_thread.is_alive()
