"""Notifications of the asynchronous client."""

# ruff: noqa: PT012 - the block of a transaction is what raises

from contextlib import aclosing
from typing import Any

import pytest

from sqlhttp import AsyncSql, ConnectionLost, InterfaceError, neon_async
from tests.support.backend_bytes import GREETING, done, notified
from tests.support.scripted_websocket import says_and_drops, scripted_websocket

LISTENING = GREETING + done("LISTEN")


def client(server: Any) -> AsyncSql[Any]:
    return neon_async(server.url, retry=None)


async def test_notifications_come_in_order_until_the_connection_ends() -> None:
    heard = []
    two = says_and_drops(LISTENING + notified("jobs", "1") + notified("jobs", "2"))
    with scripted_websocket([two]) as server, pytest.raises(ConnectionLost, match="1011"):
        async for notification in client(server).listen("jobs"):
            heard.append(notification.payload)
    assert heard == ["1", "2"]


async def test_in_a_block_the_next_iteration_goes_on() -> None:
    with scripted_websocket([LISTENING + notified("a", "1") + notified("a", "2")]) as server:
        async with client(server).listen("a", timeout=0.05) as listener:
            async with aclosing(aiter(listener)) as first:  # type: ignore[type-var]  # it is a generator
                assert (await anext(first)).payload == "1"
            assert [notification.payload async for notification in listener] == ["2"]
            assert [notification async for notification in listener] == []


async def test_an_iteration_without_a_block_closes_at_its_end() -> None:
    with scripted_websocket([LISTENING + notified("a")]) as server:
        assert len([n async for n in client(server).listen("a", timeout=0.1)]) == 1
    assert server.received[0][-1] == b"X\0\0\0\x04"


async def test_a_channel_is_needed() -> None:
    with pytest.raises(InterfaceError):
        neon_async("postgresql://r@localhost/d").listen()
