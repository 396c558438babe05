"""Writes to several sockets in one call do what write(2) would have done to each."""

import contextlib
import errno
import platform
import socket
import sys
from collections.abc import Iterator

import pytest

from sqlhttp_gateway.endpoints.submission import MOST, NOT_TRIED, Submission, submission
from tests.support.io_submit import needs_io_submit

Pair = tuple[socket.socket, socket.socket]

pytestmark = needs_io_submit


@pytest.fixture
def kernel() -> Iterator[Submission]:
    made = Submission()
    yield made
    made.close()


def _fill(end: socket.socket) -> None:
    """Send until the kernel takes nothing more."""
    with contextlib.suppress(BlockingIOError):
        while True:
            end.send(b"x" * 65_536)


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    """Three connections; the first end of each does not block."""
    made = [socket.socketpair() for _ in range(3)]
    for ours, theirs in made:
        ours.setblocking(False)
        theirs.settimeout(10.0)
    yield made
    for pair in made:
        for end in pair:
            end.close()


def test_one_that_is_allowed_is_seen_to_work() -> None:
    found = submission()
    assert found is not None
    found.close()


def test_each_socket_gets_its_own_bytes_and_each_write_its_own_result(kernel: Submission, pairs: list[Pair]) -> None:
    assert kernel.write([ours.fileno() for ours, _ in pairs], [b"x", b"yy", b"zzz"]) == [1, 2, 3]
    assert [theirs.recv(16) for _, theirs in pairs] == [b"x", b"yy", b"zzz"]


def test_what_was_written_is_not_written_again(kernel: Submission, pairs: list[Pair]) -> None:
    (first, _), (second, theirs), _ = pairs
    kernel.write([first.fileno(), second.fileno()], [b"long", b"before"])
    assert theirs.recv(16) == b"before"
    assert kernel.write([second.fileno()], [b"now"]) == [3]
    assert theirs.recv(16) == b"now"


def test_several_writes_to_one_socket_keep_their_order(kernel: Submission, pairs: list[Pair]) -> None:
    ours, theirs = pairs[0]
    kernel.write([ours.fileno()] * 3, [b"one ", b"two ", b"three"])
    assert theirs.recv(64) == b"one two three"


def test_a_socket_without_room_takes_nothing_and_holds_up_nobody(kernel: Submission, pairs: list[Pair]) -> None:
    (full, _), (other, theirs), _ = pairs
    _fill(full)
    assert kernel.write([full.fileno(), other.fileno()], [b"more", b"in time"]) == [-errno.EAGAIN, 7]
    assert theirs.recv(16) == b"in time"


def test_a_socket_with_little_room_takes_a_part(kernel: Submission, pairs: list[Pair]) -> None:
    ours, theirs = pairs[0]
    [taken] = kernel.write([ours.fileno()], [b"x" * (8 << 20)])
    assert 0 < taken < 8 << 20
    got = 0
    while got < taken:
        got += len(theirs.recv(1 << 20))
    assert got == taken


def test_a_socket_whose_peer_has_gone_tells_so_and_holds_up_nobody(kernel: Submission, pairs: list[Pair]) -> None:
    (lonely, gone), (other, theirs), _ = pairs
    gone.close()
    taken = kernel.write([lonely.fileno(), other.fileno()], [b"is there anybody?", b"yes"])
    assert taken == [-errno.EPIPE, 3]
    assert theirs.recv(16) == b"yes"


def test_a_descriptor_that_is_none_keeps_the_kernel_from_those_behind_it(kernel: Submission, pairs: list[Pair]) -> None:
    (first, _), (closed, _), (last, theirs) = pairs
    number = closed.detach()
    socket.close(number)
    assert kernel.write([first.fileno(), number, last.fileno()], [b"x"] * 3) == [1, NOT_TRIED, NOT_TRIED]
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(1)


def test_as_many_as_fit_into_one_call_are_written(kernel: Submission, pairs: list[Pair]) -> None:
    ours, theirs = pairs[0]
    pieces = [b"%d " % number for number in range(MOST)]
    assert kernel.write([ours.fileno()] * MOST, pieces) == [len(piece) for piece in pieces]
    assert theirs.recv(4096) == b"".join(pieces)


def test_one_that_is_closed_tries_nothing(pairs: list[Pair]) -> None:
    kernel = Submission()
    kernel.close()
    assert kernel.write([pairs[0][0].fileno()], [b"x"]) == [NOT_TRIED]


@pytest.mark.parametrize(
    ("module", "name", "value"), [(platform, "machine", lambda: "vax"), (sys, "platform", "plan9")]
)
def test_a_system_of_which_nothing_is_known_has_none(
    monkeypatch: pytest.MonkeyPatch, module: object, name: str, value: object
) -> None:
    monkeypatch.setattr(module, name, value)
    with pytest.raises(OSError, match="not known"):
        Submission()
    assert submission() is None
