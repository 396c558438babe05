"""What has come from a program and is not taken apart yet."""

from sqlhttp_gateway.tunnel.inbox import Inbox


class FakeFlow:
    """A transport that keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def write(self, data: bytes) -> bool:
        raise AssertionError("nothing is written here")

    def pause_reading(self) -> None:
        self.told.append("pause")

    def resume_reading(self) -> None:
        self.told.append("resume")

    async def stop(self) -> None: ...


def test_what_has_come_is_taken_in_one_piece_and_in_order() -> None:
    inbox = Inbox(FakeFlow(), limit=1000)
    for piece in (b"a", b"b", b"c"):
        inbox.put(piece)
    assert inbox.take() == b"abc"
    assert inbox.pieces == []


def test_single_piece_is_not_copied() -> None:
    inbox, piece = Inbox(FakeFlow(), limit=1000), bytes(500)
    inbox.put(piece)
    assert inbox.take() is piece


def test_program_is_held_back_once_above_the_limit_and_goes_on_once_all_is_taken() -> None:
    flow = FakeFlow()
    inbox = Inbox(flow, limit=1000)
    inbox.put(bytes(900))
    inbox.hold_back()
    assert flow.told == []
    inbox.put(bytes(100))
    inbox.hold_back()
    inbox.hold_back()
    assert flow.told == ["pause"]
    inbox.take()
    inbox.put(b"more")
    inbox.hold_back()
    inbox.take()
    assert flow.told == ["pause", "resume"]


def test_program_that_sends_a_byte_at_a_time_is_held_back_for_what_the_pieces_cost() -> None:
    flow = FakeFlow()
    inbox = Inbox(flow, limit=1000)
    for _ in range(16):
        inbox.put(b"x")
    inbox.hold_back()
    assert flow.told == ["pause"]


def test_what_is_forgotten_counts_no_more_and_lets_nobody_go_on() -> None:
    flow = FakeFlow()
    inbox = Inbox(flow, limit=1000)
    inbox.put(bytes(1000))
    inbox.clear()
    inbox.hold_back()
    assert (inbox.pieces, flow.told) == ([], [])
