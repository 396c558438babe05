import asyncio
import socket
import sys
from collections import deque
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import get_local_addr, get_remote_addr

from sqlhttp_gateway.endpoints import lean
from sqlhttp_gateway.endpoints.lean import Flow, Line, client_of, server_of, shared


class _Transport:
    """Notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def pause_reading(self) -> None:
        self.asked.append("pause")

    def resume_reading(self) -> None:
        self.asked.append("resume")


@pytest.fixture
def transport() -> _Transport:
    return _Transport()


@pytest.fixture
def flow(transport: _Transport) -> Flow:
    return Flow(cast(asyncio.Transport, transport))


def test_line_serves_as_the_deque_that_uvicorn_has() -> None:
    line, theirs = cast(Any, Line()), deque[object]()
    for each in (line, theirs):
        for request in "abcd":
            each.appendleft(request)
    assert (line.pop(), line.popleft(), len(line), line[0]) == (theirs.pop(), theirs.popleft(), len(theirs), theirs[0])
    assert list(line) == list(theirs) == ["c", "b"]


def test_empty_line_takes_little_of_what_an_empty_deque_does() -> None:
    assert sys.getsizeof(Line()) < sys.getsizeof(deque()) / 6


def test_transport_is_told_once_to_pause_and_once_to_resume(flow: Flow, transport: _Transport) -> None:
    for step in (flow.resume_reading, flow.pause_reading, flow.pause_reading, flow.resume_reading, flow.resume_reading):
        step()
    assert transport.asked == ["pause", "resume"]


async def test_answer_with_room_does_not_wait(flow: Flow) -> None:
    for _ in range(2):
        waiting = asyncio.ensure_future(flow.drain())
        await asyncio.sleep(0)
        assert waiting.done()
        flow.pause_writing()
        flow.resume_writing()


async def test_all_that_wait_for_room_go_on_when_there_is_some_and_wait_again_when_there_is_none(flow: Flow) -> None:
    async with asyncio.timeout(5):
        for _ in range(2):
            flow.pause_writing()
            flow.pause_writing()
            waiting = [asyncio.ensure_future(flow.drain()) for _ in range(2)]
            await asyncio.sleep(0)
            assert not any(each.done() for each in waiting)
            flow.resume_writing()
            await asyncio.gather(*waiting)


def test_flow_has_nothing_of_its_own_until_somebody_waits(flow: Flow) -> None:
    assert flow._room is None
    assert not hasattr(flow, "__dict__")


def test_same_address_is_one_object_for_all_connections() -> None:
    first, second = (str.join(".", ["127", "0", "0", "1"]), int("4000")), (str.join(".", ["127", "0", "0", "1"]), 4000)
    assert first is not second
    assert shared(first) is shared(second)
    assert shared(None) is None


def test_flow_of_a_later_uvicorn_with_more_to_it_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lean.knows_uvicorn()
    monkeypatch.setattr(FlowControl, "pause_all", lambda self: None, raising=False)
    assert not lean.knows_uvicorn()


def test_beginning_of_a_later_uvicorns_connection_with_more_to_it_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made(self: Any, transport: asyncio.Transport) -> None:
        self.connections.add(self)
        self.heard_of_since = transport

    monkeypatch.setattr(HttpToolsProtocol, "connection_made", made)
    assert not lean.knows_uvicorn()


class _Beginning(asyncio.Protocol):
    """Both ways to the addresses of a connection."""

    def __init__(self) -> None:
        self.found: asyncio.Future[tuple[object, object]] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = cast(asyncio.Transport, transport)  # uvloop's are none by name
        ours, theirs = (server_of(made), client_of(made)), (get_local_addr(made), get_remote_addr(made))
        self.found.set_result((ours, theirs))
        made.close()


async def _begin(place: str) -> tuple[object, object]:
    """What is found at a server in this place: an address, or the path of a Unix socket."""
    loop, beginning = asyncio.get_running_loop(), _Beginning()
    bound = socket.socket(socket.AF_UNIX if "/" in place else socket.AF_INET6 if ":" in place else socket.AF_INET)
    bound.bind(place if "/" in place else (place, 0))
    create = loop.create_unix_server if "/" in place else loop.create_server
    async with asyncio.timeout(5), await create(lambda: beginning, sock=bound):
        with socket.socket(bound.family) as program:
            program.setblocking(False)
            await loop.sock_connect(program, bound.getsockname())
            return await beginning.found


PLACES = pytest.mark.parametrize("place", ["127.0.0.1", "::1", "folder/socket"])


@PLACES
async def test_addresses_are_those_that_uvicorn_finds(place: str, tmp_path: Path) -> None:
    _be_the_same(await _begin(_here(place, tmp_path)))


@PLACES
def test_addresses_are_those_that_uvicorn_finds_by_uvloop(place: str, tmp_path: Path) -> None:
    _be_the_same(uvloop.run(_begin(_here(place, tmp_path))))


def _be_the_same(found: tuple[object, object]) -> None:
    ours, theirs = found
    assert ours == theirs
    assert ours != (None, None)


def _here(place: str, folder: Path) -> str:
    if place == "::1" and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    return place.replace("folder", str(folder))


def _has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as tried:
        try:
            tried.bind(("::1", 0))
        except OSError:
            return False
    return True
