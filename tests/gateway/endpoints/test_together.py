"""Answers that are due together leave together, whole, each to its own program and behind nothing of its own."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from sqlhttp_gateway.endpoints.submission import MOST, NOT_KNOWN, NOT_TRIED
from sqlhttp_gateway.endpoints.together import LONGEST, SharedTransport, Together, together
from tests.support.clock import turns
from tests.support.io_submit import needs_io_submit
from tests.support.leases import until

pytestmark = needs_io_submit


class Program:
    """A socket, and the gateway's end of its connection."""

    def __init__(self, far: socket.socket, transport: SharedTransport) -> None:
        self.far = far
        self.transport = transport

    def got(self) -> bytes:
        """What has come by now."""
        try:
            return self.far.recv(1 << 20)
        except BlockingIOError:
            return b""


class Doors:
    """Makes programs that are connected."""

    def __init__(self, shared: Together) -> None:
        self.shared = shared
        self._programs: list[Program] = []

    async def program(self) -> Program:
        near, far = socket.socketpair()
        far.setblocking(False)
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=near)
        self._programs.append(program := Program(far, SharedTransport(transport, self.shared)))
        return program

    async def programs(self, count: int) -> list[Program]:
        return [await self.program() for _ in range(count)]

    async def close(self) -> None:
        for program in self._programs:
            program.transport.abort()
            program.far.close()
        await turns(3)
        self.shared.close()


@pytest.fixture
async def doors() -> AsyncIterator[Doors]:
    shared = together(asyncio.get_running_loop())
    assert shared is not None
    made = Doors(shared)
    yield made
    await made.close()


class Kernel:
    """Says of every write what it was told to say, and makes none."""

    def __init__(self, *results: int) -> None:
        self.results = results
        self.written: Sequence[bytes] = ()
        self.closed = False

    def write(self, descriptors: Sequence[int], pieces: Sequence[bytes]) -> list[int]:
        self.written = pieces
        return list(self.results)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("count", [1, 2, 3, 10, MOST, 2 * MOST + 5])
async def test_each_program_gets_its_own_answer_before_the_loop_waits(doors: Doors, count: int) -> None:
    programs = await doors.programs(count)
    for number, program in enumerate(programs):
        program.transport.write_together(b"answer %d" % number)
    await turns(2)
    assert [program.got() for program in programs] == [b"answer %d" % number for number in range(count)]


async def test_answers_wait_for_the_end_of_the_turn_and_no_longer(doors: Doors) -> None:
    programs = await doors.programs(3)
    for program in programs:
        program.transport.write_together(b"x")
    assert [program.got() for program in programs] == [b"", b"", b""]
    doors.shared.flush()
    assert [program.got() for program in programs] == [b"x", b"x", b"x"]


@pytest.mark.parametrize("how", ["write", "writelines", "write_together", "close", "write_eof"])
async def test_what_follows_on_the_same_connection_comes_behind_the_answer(doors: Doors, how: str) -> None:
    programs = await doors.programs(4)
    for program in programs:
        program.transport.write_together(b"first ")
    last = programs[-1].transport
    match how:
        case "write":
            last.write(b"second")
        case "writelines":
            last.writelines([b"sec", b"ond"])
        case "write_together":
            last.write_together(b"second")
        case "close":
            last.close()
        case _:
            last.write_eof()
    await turns(3)
    assert programs[-1].got() == (b"first second" if how.startswith("write") and how != "write_eof" else b"first ")
    assert [program.got() for program in programs[:-1]] == [b"first "] * 3


async def test_a_long_answer_goes_by_itself_at_once(doors: Doors) -> None:
    program, *others = await doors.programs(4)
    for other in others:
        other.transport.write_together(b"short")
    program.transport.write_together(b"x" * (LONGEST + 1))
    assert program.transport.held == b""
    await turns(2)
    assert program.got() == b"x" * (LONGEST + 1)


async def test_a_program_that_takes_nothing_gets_the_rest_when_it_does_and_holds_up_nobody(doors: Doors) -> None:
    slow, *others = await doors.programs(4)
    answer = bytes(range(256)) * (LONGEST // 256)
    sent = 0
    while not slow.transport.get_write_buffer_size():
        for program in (slow, *others):
            program.transport.write_together(answer)
        await turns(2)
        sent += 1
        assert [other.got() for other in others] == [answer] * 3
    slow.transport.write_together(b"the last")  # behind what its transport holds
    got = b""

    def is_whole() -> bool:
        nonlocal got
        got += slow.got()
        return len(got) == sent * len(answer) + 8

    await until(is_whole)
    assert got == answer * sent + b"the last"


async def test_an_answer_does_not_overtake_what_its_transport_still_holds(doors: Doors) -> None:
    slow, *others = await doors.programs(4)
    slow.transport.write(b"x" * (4 << 20))
    left = slow.transport.get_write_buffer_size()
    assert left
    got = slow.got()  # there is room for more now, of which the loop has not heard
    for program in (slow, *others):
        program.transport.write_together(b"the last")
    doors.shared.flush()

    def is_whole() -> bool:
        nonlocal got
        got += slow.got()
        return len(got) == (4 << 20) + 8

    await until(is_whole)
    assert got.endswith(b"xthe last")
    assert got.count(b"x") == 4 << 20


async def test_nobody_gets_the_answer_of_one_whose_descriptor_he_has_now(doors: Doors) -> None:
    others = await doors.programs(3)
    near, far = socket.socketpair()
    with near, far:
        far.setblocking(False)
        lost = Lost(near)
        gone = SharedTransport(lost, doors.shared)
        for transport in (gone, *(other.transport for other in others)):
            transport.write_together(b"secret of one")
        lost.closing = True  # its program's end was noticed, and the number given to another's connection
        await turns(2)
        with pytest.raises(BlockingIOError):
            far.recv(100)
    assert [other.got() for other in others] == [b"secret of one"] * 3


class Lost:
    """A transport that is about to close, whose socket is already another's."""

    def __init__(self, reused: socket.socket) -> None:
        self._reused = reused
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> socket.socket:
        return self._reused

    def write(self, data: bytes) -> None:
        raise AssertionError("written to a transport that is closing")


async def test_what_waits_counts_as_not_sent_yet(doors: Doors) -> None:
    [program] = await doors.programs(1)
    program.transport.write_together(b"four")
    assert program.transport.get_write_buffer_size() == 4
    await turns(2)
    assert program.transport.get_write_buffer_size() == 0


async def test_an_abort_drops_what_waits(doors: Doors) -> None:
    programs = await doors.programs(4)
    for program in programs:
        program.transport.write_together(b"x")
    programs[0].transport.abort()
    await turns(3)
    assert [program.got() for program in programs] == [b"", b"x", b"x", b"x"]


async def test_once_closed_everybody_is_sent_to_by_his_own_transport(doors: Doors) -> None:
    programs = await doors.programs(4)
    for program in programs:
        program.transport.write_together(b"before ")
    doors.shared.close()
    for program in programs:
        program.transport.write_together(b"and after")
    await turns(3)
    assert [program.got() for program in programs] == [b"before and after"] * 4


@pytest.mark.uncompiled
async def test_what_the_kernel_did_not_come_to_is_sent_by_the_transport(doors: Doors) -> None:
    kernel: Any = Kernel(-32, 2, NOT_TRIED, 4)
    doors.shared = Together(kernel, asyncio.get_running_loop().call_soon)
    programs = await doors.programs(4)
    for program in programs:
        program.transport.write_together(b"four")
    await turns(2)
    assert [program.got() for program in programs] == [b"four", b"ur", b"four", b""]
    assert kernel.written == [b"four"] * 4


@pytest.mark.uncompiled
async def test_a_write_of_which_nothing_is_known_ends_its_connection_and_is_the_last_of_its_kind(doors: Doors) -> None:
    kernel: Any = Kernel(1, NOT_KNOWN, 1)
    doors.shared = Together(kernel, asyncio.get_running_loop().call_soon)
    programs = await doors.programs(3)
    for program in programs:
        program.transport.write_together(b"x")
    await turns(2)
    assert [program.transport.is_closing() for program in programs] == [False, True, False]
    assert kernel.closed
    programs[0].transport.write_together(b"y")
    await turns(2)
    assert programs[0].got() == b"y"
