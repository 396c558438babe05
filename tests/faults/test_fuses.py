"""A gateway is killed where its fuse says, and nothing passes behind the byte at which it was."""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from tests.faults.fuses import ARM, Fuse, FusedNetwork, Where, draw, fit, fused_network
from tests.support.bad_network import Way

MARK = b"again"


def test_same_seed_draws_the_same_fuses_and_all_kinds_of_them() -> None:
    first, second = ([draw(luck) for _ in range(200)] for luck in (Random(5), Random(5)))
    assert first == second
    assert {fuse.where for fuse in first} == set(Where)
    assert len(set(first)) > 150


@pytest.mark.parametrize("where", [Where.START, Where.CALLS])
def test_process_is_killed_at_the_call_that_was_drawn_and_not_before(where: Where) -> None:
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            fit(Fuse(where, 100))
            if where is Where.CALLS:
                for _ in range(1000):
                    os.getpid()
                os.kill(os.getpid(), ARM)
            for number in range(1000):
                os.write(writing, bytes((number % 256,)))  # a call and a return
        finally:
            os._exit(0)
    os.close(writing)
    _, status = os.waitpid(pid, 0)
    with open(reading, "rb") as pipe:
        steps = pipe.read()
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert 40 <= len(steps) <= 60


async def gone(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


class Echo:
    """Says everything twice."""

    def __init__(self) -> None:
        self.heard = b""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):  # a network that kills may reset what it had
            while data := await reader.read(1000):
                self.heard += data
                writer.write(data * 2)
        await gone(writer)
        self.ended.set()

    @asynccontextmanager
    async def behind(self) -> AsyncIterator[FusedNetwork]:
        self.ended = asyncio.Event()
        server = await asyncio.start_server(self, "127.0.0.1", 0)
        async with server:
            with fused_network("127.0.0.1", server.sockets[0].getsockname()[1], MARK) as network:
                yield network
                await asyncio.wait_for(self.ended.wait(), 10)


async def said_to(network: FusedNetwork, data: bytes) -> bytes:
    """All that the server's answer is until its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", network.port)
    writer.write(data)
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        await gone(writer)


async def test_nothing_passes_to_the_server_behind_the_byte_at_which_a_network_kills() -> None:
    echo, blown = Echo(), threading.Event()
    async with echo.behind() as network:
        network.arm(Way.TO_SERVER, 3, blown.set)
        await said_to(network, b"abcdef")
    assert blown.is_set()
    assert echo.heard == b"abc"
    assert network.waiting == 1


async def test_nothing_passes_to_the_client_behind_the_byte_at_which_a_network_kills() -> None:
    echo, blown = Echo(), threading.Event()
    async with echo.behind() as network:
        network.arm(Way.TO_CLIENT, 3, blown.set)
        assert await said_to(network, b"abcdef") == b"abc"
    assert blown.is_set()
    assert echo.heard == b"abcdef"
    assert network.waiting == 1


async def test_network_that_is_armed_no_more_passes_all_and_counts_what_is_marked() -> None:
    echo = Echo()
    async with echo.behind() as network:
        network.arm(Way.TO_CLIENT, 3, lambda: pytest.fail("nobody is to be killed"))
        network.disarm()
        reader, writer = await asyncio.open_connection("127.0.0.1", network.port)
        writer.write(MARK)
        async with asyncio.timeout(10):
            assert await reader.readexactly(2 * len(MARK)) == 2 * MARK
        await gone(writer)
    assert network.waiting == 0
    assert network.marked == 2
