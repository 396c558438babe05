"""Which heads are remembered, and for how long."""

import gc

import pytest

from sqlhttp_gateway.endpoints import heads as heads_module
from sqlhttp_gateway.endpoints.heads import HELD, Heads
from tests.support.clock import fake_time, turns

LINES = [(b"Host", b"gateway"), (b"Content-Length", b"2"), (b"Neon-Array-Mode", b"true")]


def request(*lines: tuple[bytes, bytes], body: bytes = b"{}") -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """A request with what uvicorn makes of its headers."""
    head = b"".join(b"%b: %b\r\n" % line for line in lines)
    return b"POST /sql HTTP/1.1\r\n%b\r\n%b" % (head, body), [(name.lower(), value) for name, value in lines]


def test_head_is_cut_around_the_digits_of_its_length() -> None:
    head = Heads().remember(*request(*LINES), None)
    assert head is not None
    assert head.before == b"POST /sql HTTP/1.1\r\nHost: gateway\r\nContent-Length: "
    assert head.after == b"\r\nNeon-Array-Mode: true\r\n\r\n"
    assert head.headers == {b"host": b"gateway", b"neon-array-mode": b"true"}
    assert head.asker is None


def test_same_head_is_kept_once_whatever_its_length_says() -> None:
    heads = Heads()
    longer = [(b"Host", b"gateway"), (b"Content-Length", b"10"), (b"Neon-Array-Mode", b"true")]
    first = heads.remember(*request(*LINES), None)
    assert heads.remember(*request(*longer, body=b"x" * 10), None) is first
    assert heads.remember(*request(*LINES, (b"A", b"b")), None) is not first


def test_head_is_forgotten_with_the_last_of_its_connections() -> None:
    heads = Heads()
    head = heads.remember(*request(*LINES), None)
    assert len(heads) == 1
    del head
    gc.collect()
    assert len(heads) == 0, "it holds a connection string"


def test_forgotten_head_is_that_of_no_request_and_the_next_one_like_it_is_another() -> None:
    heads = Heads()
    sent, headers = request(*LINES)
    head = heads.remember(sent, headers, None)
    assert head is not None
    assert head.body_of(sent) == b"{}"
    heads.forget()
    assert (head.body_of(sent), len(heads)) == (None, 0)
    again = heads.remember(sent, headers, None)
    assert again is not None
    assert again is not head
    assert again.body_of(sent) == b"{}"


@pytest.mark.parametrize(
    "lines",
    [
        LINES[:1],
        [*LINES, (b"Content-Length", b"2")],
        [*LINES, (b"Host", b"other")],
        [*LINES, (b"Origin", b"https://example.com")],
        [*LINES, (b"Connection", b"close, keep-alive")],
        [*LINES, (b"Connection", b"keep-alive"), (b"Keep-Alive", b"timeout=5")],
        [*LINES, (b"Transfer-Encoding", b"chunked")],
        [*LINES, (b"Expect", b"100-continue")],
        [*LINES, (b"X", b"x" * 9000)],
        [(b"Host", b"gateway"), (b"Content-Length", b"3")],
        [(b"Host", b"gateway"), (b"Content-Length", b"1")],
    ],
)
def test_head_that_leaves_a_doubt_is_not_remembered(lines: list[tuple[bytes, bytes]]) -> None:
    assert Heads().remember(*request(*lines), None) is None


@pytest.mark.parametrize("name", [b"Idempotency-Key", b"Traceparent"])
def test_head_that_is_another_one_each_time_takes_no_place(name: bytes) -> None:
    assert Heads().remember(*request(*LINES, (name, b"00-1")), None) is None


def test_keep_alive_said_aloud_leaves_none() -> None:
    assert Heads().remember(*request(*LINES, (b"Connection", b"Keep-Alive")), None) is not None


def whole(body: bytes, length: bytes | None = None) -> bytes:
    return request((b"Host", b"gateway"), (b"Content-Length", length or b"%d" % len(body)), LINES[2], body=body)[0]


def test_body_is_known_by_the_head_and_its_length() -> None:
    head = Heads().remember(*request(*LINES), None)
    assert head is not None
    for _ in range(2):  # then the head is kept with its digits
        for size in (0, 1, 9, 10, 11, 99, 100, 101, 12_345):
            assert head.body_of(whole(b"x" * size)) == b"x" * size, size


@pytest.mark.parametrize(
    "other",
    [
        whole(b"xx", b"3"),
        whole(b"xx", b"1"),
        whole(b"xx", b"+2"),
        whole(b"xx", b"2 "),
        whole(b"xx", b"0x2"),
        whole(b"xx") + b"P",
        whole(b"xx")[:-1],
        whole(b"xx").replace(b"gateway", b"Gateway"),
        whole(b"xx").replace(b"true", b"fals"),
        b"",
        b"POST",
    ],
)
def test_request_that_is_another_is_not_known(other: bytes) -> None:
    head = Heads().remember(*request(*LINES), None)
    assert head is not None
    for size in range(5):
        head.body_of(whole(b"x" * size))
    assert head.body_of(other) is None
    assert head.body_of(whole(b"xx")) == b"xx"


def test_length_with_a_zero_in_front_stands_in_the_way_of_no_other() -> None:
    head = Heads().remember(*request(*LINES), None)
    assert head is not None
    assert head.body_of(whole(b"xx", b"02")) == b"xx"
    assert head.body_of(whole(b"xxx", b"3")) == b"xxx"


def test_number_of_lengths_that_a_head_is_kept_with_is_bounded() -> None:
    head = Heads().remember(*request(*LINES), None)
    assert head is not None
    for size in range(1000):
        assert head.body_of(whole(b"x" * size)) is not None
    assert len(head._wholes) <= 64


def test_large_head_is_kept_with_few_lengths() -> None:
    lines = [*LINES, (b"X", b"x" * 7900)]
    head = Heads().remember(*request(*lines), None)
    assert head is not None
    for size in range(1000, 2000):
        lines[1] = (b"Content-Length", b"%d" % size)
        assert head.body_of(request(*lines, body=b"x" * size)[0]) is not None
        assert sum(map(len, head._wholes.values())) <= 20_000


# ── heads of connections that are gone ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [b"Content-Length", b"content-length", b"CONTENT-length"])
def test_request_is_recognised_by_a_head_that_some_connection_has_sent(name: bytes) -> None:
    heads = Heads()
    lines = [LINES[0], (name, b"2"), LINES[2]]
    head = heads.remember(*request(*lines), None)
    lines[1] = (name, b"11")
    assert heads.known(request(*lines, body=b"x" * 11)[0]) is head


@pytest.mark.parametrize(
    "other",
    [
        request(*LINES[:2])[0],
        request(*LINES, (b"X", b"y"))[0],
        request((b"X-Length", b"2"), *LINES)[0],
        request((b"Host", b"gateway"), (b"Content-Length", b"2"))[0][:40],
        b"POST /sql HTTP/1.1\r\n\r\n",
        b"",
    ],
)
def test_request_with_another_head_is_not_recognised(other: bytes) -> None:
    heads = Heads()
    head = heads.remember(*request(*LINES), None)
    assert head is not None
    assert heads.known(other) is None


async def test_head_of_a_program_that_has_proven_itself_is_held_for_a_minute_behind_its_last_connection() -> None:
    heads = Heads()
    sent, headers = request(*LINES)
    with fake_time() as clock:
        head = heads.remember(sent, headers, None)
        assert head is not None
        heads.hold(head)
        del head
        for _ in range(3):
            clock.advance(HELD - 1)
            await turns()
            assert heads.known(sent) is not None
        clock.advance(HELD + 1)
        await turns()
        gc.collect()
        assert (heads.known(sent), len(heads)) == (None, 0), "it holds a connection string"


async def test_head_that_is_only_known_is_not_held() -> None:
    heads = Heads()
    sent, headers = request(*LINES)
    head = heads.remember(sent, headers, None)
    assert heads.known(sent) is head
    del head
    gc.collect()
    assert len(heads) == 0


async def test_number_of_heads_that_are_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads_module, "MOST_HELD", 2)
    heads = Heads()
    for number in range(3):
        head = heads.remember(*request(*LINES, (b"X", b"%d" % number)), None)
        assert head is not None
        heads.hold(head)
    del head
    gc.collect()
    assert len(heads) == 2


async def test_nothing_is_held_once_all_is_to_be_judged_again() -> None:
    heads = Heads()
    head = heads.remember(*request(*LINES), None)
    assert head is not None
    heads.hold(head)
    heads.forget()
    del head
    gc.collect()
    assert (len(heads), heads.known(request(*LINES)[0])) == (0, None)


def test_head_says_whether_its_connection_ends() -> None:
    heads = Heads()
    for said, is_last in ((b"close", True), (b"Close", True), (b"keep-alive", False)):
        head = heads.remember(*request(*LINES, (b"Connection", said)), None)
        assert head is not None
        assert head.is_last is is_last
