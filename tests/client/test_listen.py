"""Notifications of the synchronous client."""

# ruff: noqa: PT012 - the block of a transaction is what raises

import time
from typing import Any

import pytest

from sqlhttp import ConnectionLost, InterfaceError, Notification, Sql, neon
from tests.support.backend_bytes import GREETING, done, notified
from tests.support.scripted_websocket import says_and_drops, scripted_websocket

LISTENING = GREETING + done("LISTEN")


def client(server: Any) -> Sql[Any]:
    return neon(server.url, retry=None)


def test_notifications_come_in_order_until_the_connection_ends() -> None:
    with scripted_websocket([says_and_drops(LISTENING + notified("jobs", "1") + notified("jobs", "2"))]) as server:
        heard = []
        with pytest.raises(ConnectionLost, match="1011"):
            for notification in client(server).listen("jobs"):
                heard.append(notification)
    assert heard == [Notification("jobs", "1", 7), Notification("jobs", "2", 7)]


def test_channels_are_names_exactly_as_they_are() -> None:
    with scripted_websocket([LISTENING]) as server:
        with client(server).listen("a", 'B"; drop'):
            pass
        data = server.received[0][0]
    assert b'LISTEN "a"\0' in data
    assert b'LISTEN "B""; drop"\0' in data
    with pytest.raises(InterfaceError):
        client(server).listen()


def test_an_iteration_without_a_block_closes_when_it_is_left() -> None:
    with scripted_websocket([LISTENING + notified("a")]) as server:
        for _ in client(server).listen("a", timeout=20):
            break
        assert list(client(server).listen("a", timeout=0.1)) != []
    assert [messages[-1] for messages in server.received] == [b"X\0\0\0\x04"] * 2


def test_in_a_block_the_next_iteration_goes_on() -> None:
    two = LISTENING + notified("a", "1") + notified("a", "2")
    with scripted_websocket([two]) as server, client(server).listen("a", timeout=0.05) as listener:
        assert next(iter(listener)).payload == "1"
        assert [notification.payload for notification in listener] == ["2"]
        assert list(listener) == []


def test_no_time_looks_at_what_has_come() -> None:
    def in_two(connection: Any, state: Any) -> None:
        connection.send(LISTENING)
        connection.send(notified("a"))

    with scripted_websocket([in_two]) as server, client(server).listen("a", timeout=0) as listener:
        deadline = time.monotonic() + 10
        while not list(listener):
            assert time.monotonic() < deadline


def test_the_deadline_of_the_client_ends_it() -> None:
    with scripted_websocket([LISTENING]) as server:
        assert list(client(server).with_deadline(0.3, margin=0.0).listen("a")) == []
