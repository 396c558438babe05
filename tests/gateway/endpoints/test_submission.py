"""Writes to several sockets in one call do what write(2) would have done to each."""

import contextlib
import errno
import platform
import socket
import sys
from collections.abc import Iterator

import pytest

from sqlhttp_gateway.endpoints.submission import MOST, MOST_BYTES, NOT_TRIED, Submission, submission

Pair = tuple[socket.socket, socket.socket]

pytestmark = pytest.mark.skipif(submission() is None, reason="the system has no io_submit, or forbids it")


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


def test_each_socket_gets_its_own_bytes_and_each_write_its_own_result(kernel: Submission, pairs: list[Pair]) -> None:
    for number, (ours, _) in enumerate(pairs):
        kernel.add(ours.fileno(), b"x" * (number + 1))
    assert list(kernel.submit()) == [1, 2, 3]
    assert [theirs.recv(16) for _, theirs in pairs] == [b"x", b"xx", b"xxx"]


def test_what_was_submitted_is_not_submitted_again(kernel: Submission, pairs: list[Pair]) -> None:
    (first, _), (second, theirs), _ = pairs
    kernel.add(first.fileno(), b"long before")
    kernel.submit()
    kernel.add(second.fileno(), b"now")
    assert list(kernel.submit()) == [3]
    assert theirs.recv(16) == b"now"


def test_several_writes_to_one_socket_keep_their_order(kernel: Submission, pairs: list[Pair]) -> None:
    ours, theirs = pairs[0]
    for word in (b"one ", b"two ", b"three"):
        kernel.add(ours.fileno(), word)
    kernel.submit()
    assert theirs.recv(64) == b"one two three"


def test_a_socket_without_room_takes_a_part_or_nothing_and_holds_up_nobody(
    kernel: Submission, pairs: list[Pair]
) -> None:
    (full, _), (other, theirs), _ = pairs
    _fill(full)
    kernel.add(full.fileno(), b"more")
    kernel.add(other.fileno(), b"in time")
    assert list(kernel.submit()) == [-errno.EAGAIN, 7]
    assert theirs.recv(16) == b"in time"


def test_a_socket_whose_peer_has_gone_tells_so_and_holds_up_nobody(kernel: Submission, pairs: list[Pair]) -> None:
    (lonely, gone), (other, theirs), _ = pairs
    gone.close()
    kernel.add(lonely.fileno(), b"is there anybody?")
    kernel.add(other.fileno(), b"yes")
    assert list(kernel.submit()) == [-errno.EPIPE, 3]
    assert theirs.recv(16) == b"yes"


def test_a_descriptor_that_is_none_keeps_the_kernel_from_those_behind_it(kernel: Submission, pairs: list[Pair]) -> None:
    (first, _), (closed, _), (last, theirs) = pairs
    number = closed.detach()
    socket.close(number)
    for descriptor in (first.fileno(), number, last.fileno()):
        kernel.add(descriptor, b"x")
    assert list(kernel.submit()) == [1, NOT_TRIED, NOT_TRIED]
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(1)


def test_there_is_room_up_to_both_bounds(kernel: Submission, pairs: list[Pair]) -> None:
    ours, theirs = pairs[0]
    assert kernel.has_room(MOST_BYTES)
    assert not kernel.has_room(MOST_BYTES + 1)
    kernel.add(ours.fileno(), b"x" * 10)
    assert kernel.has_room(MOST_BYTES - 10)
    assert not kernel.has_room(MOST_BYTES - 9)
    for _ in range(MOST - 1):
        assert kernel.has_room(1)
        kernel.add(ours.fileno(), b"y")
    assert not kernel.has_room(0)
    assert list(kernel.submit()) == [10] + [1] * (MOST - 1)
    assert theirs.recv(100) == b"x" * 10 + b"y" * (MOST - 1)
    assert kernel.has_room(MOST_BYTES)


def test_one_that_is_closed_tries_nothing(pairs: list[Pair]) -> None:
    kernel = Submission()
    kernel.close()
    kernel.add(pairs[0][0].fileno(), b"x")
    assert list(kernel.submit()) == [NOT_TRIED]


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
