"""Transactions and sessions of the asynchronous client; `test_session` has the rules they share."""

import asyncio
import threading
from typing import Any

import pytest
from websockets.sync.server import ServerConnection

from sqlhttp import AsyncSql, ConnectionLost, Retry, SendFailed, TransactionLost, errors, neon_async
from tests.support.backend_bytes import GREETING, PARSED, done, failed, ready, selected
from tests.support.scripted_websocket import HANG_TIMEOUT, TERMINATE, Line, ScriptedWebSocket, drops, scripted_websocket

BEGUN = GREETING + done("BEGIN", "T")
SEVEN = selected([("a", 23)], ["7"], status="T")
CONFLICT = PARSED + failed("40001", "could not serialize") + ready("E")


def client(server: ScriptedWebSocket, **options: Any) -> AsyncSql[Any]:
    return neon_async(server.url, **{"retry": Retry(attempts=3, budget=60.0), **options})


async def seven(tx: Any) -> int:
    value: int = await tx.val("select 7")
    return value


async def test_all_ways_to_ask_are_there() -> None:
    update = done("UPDATE 3", "T")
    with scripted_websocket([BEGUN, SEVEN, SEVEN, SEVEN, SEVEN, SEVEN, update, SEVEN, done("COMMIT")]) as server:
        async with client(server).begin() as tx:
            assert await tx("select $1", 1) == [{"a": 7}]
            assert await tx.one("select 1") == {"a": 7}
            assert await tx.first("select 1") == {"a": 7}
            assert await tx.val("select 1") == 7
            assert await tx.col("select 1") == [7]
            assert await tx.execute("update t set a = 1") == 3
            assert (await tx.query("select 1", array_mode=True, full_results=True)).rows == [(7,)]


async def test_waiting_for_another_tasks_statement_ends_in_time_and_loses_nothing() -> None:
    may_answer = threading.Event()

    def slowly(connection: ServerConnection, state: ScriptedWebSocket) -> None:
        assert may_answer.wait(HANG_TIMEOUT)
        connection.send(SEVEN)

    with scripted_websocket([BEGUN, slowly, SEVEN, done("COMMIT")]) as server:
        async with client(server).begin() as tx:
            first = asyncio.create_task(seven(tx))
            try:
                await asyncio.sleep(0)  # in which it takes its turn
                with pytest.raises(SendFailed, match="in use by others") as caught:
                    await tx.query("select 7", timeout=0.01)
            finally:
                may_answer.set()
            assert not caught.value.may_have_run
            assert (await first, await seven(tx)) == (7, 7)
        assert sum(b"select 7\0" in message for message in server.received[0]) == 2


async def test_an_exception_rolls_back_and_is_passed_on() -> None:
    with scripted_websocket([BEGUN, done("ROLLBACK")]) as server:
        with pytest.raises(KeyError):
            async with client(server).begin():
                raise KeyError
        assert b"ROLLBACK\0" in server.received[0][1]


async def test_a_transaction_may_be_ended_early() -> None:
    with scripted_websocket([BEGUN, done("COMMIT")], [BEGUN, done("ROLLBACK")]) as server:
        async with client(server).begin() as tx:
            await tx.commit()
        async with client(server).begin() as tx:
            await tx.rollback()
    for received, word in zip(server.received, (b"COMMIT\0", b"ROLLBACK\0"), strict=True):
        _, ending, goodbye = received  # and nothing more is said at the block's end
        assert word in ending
        assert goodbye == TERMINATE


async def test_savepoints() -> None:
    point, back, release = done("SAVEPOINT", "T"), done("ROLLBACK", "T"), done("RELEASE", "T")
    undone = back[:-6] + release
    script = [BEGUN, point, PARSED + failed("22012") + ready("E"), undone, point, back, release, done("COMMIT")]
    with scripted_websocket(script) as server:
        async with client(server).begin() as tx:
            with pytest.raises(errors.DivisionByZero):
                async with tx.savepoint():
                    await tx("select 1 / 0")
            async with tx.savepoint() as place:
                await place.rollback()


async def test_a_connection_that_ends_at_commit_leaves_the_outcome_unknown() -> None:
    with scripted_websocket([BEGUN, drops]) as server:
        with pytest.raises(ConnectionLost) as caught:
            async with client(server).begin():
                pass
        assert caught.value.may_have_run
        assert len(server.received) == 1


async def test_a_conflict_and_a_loss_call_the_function_again() -> None:
    script: list[Line] = [BEGUN, CONFLICT, done("ROLLBACK"), done("BEGIN", "T"), drops]
    with scripted_websocket(script, [BEGUN, SEVEN, done("COMMIT")]) as server:
        assert await client(server).begin(seven) == 7
        assert len(server.received) == 2


async def test_a_token_may_be_awaited() -> None:
    async def token() -> str:
        return "jwt"

    with scripted_websocket([BEGUN, done("COMMIT")]) as server:
        sql = neon_async(server.url.replace(":password", ""), auth_token=token)
        async with sql.begin():
            pass
        assert b"p\0\0\0\x08jwt\0" in server.received[0][0]


async def test_a_session_has_transactions_of_its_own() -> None:
    begun = done("BEGIN", "T")
    conflict = [begun, CONFLICT, done("ROLLBACK")]
    script: list[Line] = [GREETING, done("SET"), *conflict, begun, SEVEN, done("COMMIT"), begun, drops]
    with scripted_websocket(script) as server:
        async with client(server).session() as session:
            await session("set lock_timeout = 5")
            assert await session.begin(seven) == 7
            with pytest.raises(TransactionLost) as caught:
                async with session.begin() as tx:
                    await tx("select 1")
            assert not caught.value.may_have_run
        assert b"pool_mode\0session\0" in server.received[0][0]
