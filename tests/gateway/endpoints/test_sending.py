"""Who may take long over an answer, and who is cut off. The clock is moved by hand."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from sqlhttp_gateway.deadline import Deadline, Due
from sqlhttp_gateway.endpoints.sending import LEAST_BYTES, Sending
from sqlhttp_gateway.events import Event, Unsent
from tests.support.clock import LoopClock, fake_time, turns

TIMEOUT = 30.0
USUAL_LIMIT = 65_536


class Transport:
    """One that holds so many bytes, and tells the protocol when it has none, as asyncio's and uvloop's do."""

    def __init__(self, extra: dict[str, object] | None = None) -> None:
        self.held = 0
        self.high = USUAL_LIMIT
        self.is_aborted = False
        self.is_closed = False
        self.extra = extra or {}

    def get_write_buffer_size(self) -> int:
        return self.held

    def set_write_buffer_limits(self, high: int | None = None) -> None:
        self.high = USUAL_LIMIT if high is None else high

    def get_extra_info(self, name: str) -> object:
        return self.extra.get(name)

    def is_closing(self) -> bool:
        return self.is_closed or self.is_aborted

    def abort(self) -> None:
        self.is_aborted = True
        self.held = 0


class Program:
    """A connection with its transport, the clock, and what was told."""

    def __init__(self, clock: LoopClock, **extra: object) -> None:
        self.clock = clock
        self.transport = Transport(extra)
        self.told: list[Event] = []
        self.sending = Sending(
            self.transport,  # type: ignore[arg-type]  # the part of one that is used
            timeout=TIMEOUT,
            peer="192.0.2.7",
            observe=self.told.append,
        )

    async def let_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await turns()

    def due(self, seconds: float) -> Due:
        deadline = Deadline(seconds, "Sqlhttp-Timeout")
        deadline.drop()
        return deadline.due("id", waited=0.25, connected=0.05, executed=0.5)


@pytest.fixture
async def program() -> AsyncIterator[Program]:
    with fake_time() as clock:
        yield Program(clock)


async def test_program_that_takes_nothing_is_cut_off_after_the_send_timeout(program: Program) -> None:
    program.transport.held = 1_000_000
    program.sending.watch()
    await program.let_pass(TIMEOUT - 0.1)
    assert not program.transport.is_aborted
    await program.let_pass(0.2)
    assert program.transport.is_aborted
    message = "in 30 s (request.send_timeout) the program took 0 bytes of its answer; 1000000 were left"
    assert program.told == [Unsent("send_timeout", message, "", "192.0.2.7")]


async def test_program_that_goes_on_taking_may_take_long(program: Program) -> None:
    program.transport.held = 10 * LEAST_BYTES
    program.sending.watch()
    for _ in range(9):
        program.transport.held -= LEAST_BYTES
        await program.let_pass(TIMEOUT + 0.1)
    program.transport.held = 0
    await program.let_pass(TIMEOUT + 0.1)
    assert not program.transport.is_aborted
    assert program.told == []


async def test_program_that_takes_a_byte_now_and_then_is_cut_off(program: Program) -> None:
    program.transport.held = 10 * LEAST_BYTES
    program.sending.watch()
    program.transport.held -= LEAST_BYTES - 1
    await program.let_pass(TIMEOUT + 0.1)
    assert program.transport.is_aborted


async def test_room_ends_the_watch(program: Program) -> None:
    program.transport.held = 1_000_000
    program.sending.watch()
    program.transport.held = 10
    program.sending.has_room()
    await program.let_pass(10 * TIMEOUT)
    assert not program.transport.is_aborted


async def test_rest_behind_a_close_is_watched_to_its_end(program: Program) -> None:
    """What is little enough for the transport to speak of room still keeps the connection open."""
    program.transport.held = 1_000_000
    program.sending.watch()
    program.transport.is_closed = True
    program.transport.held = 10
    program.sending.has_room()
    await program.let_pass(TIMEOUT + 0.1)
    assert not program.transport.is_aborted, "it took nearly all of it"
    await program.let_pass(TIMEOUT + 0.1)
    assert program.transport.is_aborted


async def test_answer_that_is_due_is_cut_off_at_its_deadline_with_the_phases(program: Program) -> None:
    program.transport.held = 100
    program.sending.finish_by(program.due(2.0))
    await turns()
    await program.let_pass(1.9)
    assert not program.transport.is_aborted
    await program.let_pass(0.2)
    assert program.transport.is_aborted
    message = (
        "the request's 2 s (Sqlhttp-Timeout) were over in send: queue 0.200 s, connect 0.050 s, execute 0.500 s, "
        "send 2.100 s; 100 were left"
    )
    assert program.told == [Unsent("deadline", message, "id", "192.0.2.7")]


async def test_answer_that_is_due_and_was_sent_leaves_nothing_behind(program: Program) -> None:
    program.sending.finish_by(program.due(2.0))
    await program.let_pass(3.0)
    assert not program.transport.is_aborted
    assert program.transport.high == USUAL_LIMIT


async def test_nothing_is_written_behind_an_answer_that_is_due_until_it_is_sent(program: Program) -> None:
    """Or what is left at its deadline could be another's."""
    program.transport.held = 100
    program.sending.finish_by(program.due(2.0))
    await turns()
    assert program.transport.high == 0
    program.transport.held = 0
    program.sending.has_room()
    assert program.transport.high == USUAL_LIMIT
    await program.let_pass(3.0)
    assert not program.transport.is_aborted


async def test_deadline_that_has_passed_while_the_answer_was_made_cuts_off_what_is_not_taken_at_once(
    program: Program,
) -> None:
    due = program.due(0.5)
    program.clock.advance(1.0)
    program.transport.held = 100
    program.sending.finish_by(due)
    await program.let_pass(0.001)
    assert program.transport.is_aborted


async def test_connection_that_is_gone_is_not_looked_at_again(program: Program) -> None:
    program.transport.held = 100
    program.sending.watch()
    program.sending.finish_by(program.due(2.0))
    await turns()
    program.sending.close()
    await program.let_pass(10 * TIMEOUT)
    assert not program.transport.is_aborted
    assert program.told == []


async def test_cut_is_told_once(program: Program) -> None:
    program.transport.held = 1_000_000
    program.sending.watch()
    program.sending.finish_by(program.due(TIMEOUT))
    await turns()
    await program.let_pass(TIMEOUT + 0.1)
    await asyncio.sleep(0)
    assert len(program.told) == 1


@pytest.fixture
def full_socket() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection in whose kernel there is no more room, and the end that does not read."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(server.getsockname())
        writer, _ = server.accept()
        with writer:
            writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 200_000)
            writer.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    writer.send(bytes(100_000))
            yield writer, reader


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's kernel")
async def test_under_tls_the_kernel_says_whether_an_answer_waits(
    full_socket: tuple[socket.socket, socket.socket],
) -> None:
    with fake_time() as clock:
        program = Program(clock, sslcontext=object(), socket=full_socket[0])
        program.sending.watch_anew()
        program.sending.has_room()  # which TLS says of itself alone
        await program.let_pass(TIMEOUT + 0.1)
        assert program.transport.is_aborted


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's kernel")
async def test_under_tls_an_answer_that_is_due_and_was_taken_is_not_cut(
    full_socket: tuple[socket.socket, socket.socket],
) -> None:
    writer, reader = full_socket
    with fake_time() as clock:
        program = Program(clock, sslcontext=object(), socket=writer)
        program.sending.watch_anew()
        program.sending.finish_by(program.due(TIMEOUT))
        await turns()
        reader.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while reader.recv(1_000_000):
                pass
        await program.let_pass(TIMEOUT + 0.1)
        assert not program.transport.is_aborted
        assert program.told == []
