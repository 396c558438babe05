"""Changes of the reasons to keep a backend become events, in an order that does not vary."""

from sqlhttp_gateway.wire.effects import Pin
from sqlhttp_gateway.wire.tunnel_events import Pinned, Unpinned, changes


def test_what_is_new_is_told_before_what_is_over() -> None:
    before, after = frozenset({Pin.TEMPORARY, Pin.CURSOR}), frozenset({Pin.CURSOR, Pin.ADVISORY_LOCK})
    assert changes(before, after) == [Pinned(Pin.ADVISORY_LOCK), Unpinned(Pin.TEMPORARY)]


def test_several_are_told_in_one_order() -> None:
    pins = frozenset({Pin.TEMPORARY, Pin.CURSOR, Pin.LISTEN})
    told = [Pinned(pin) for pin in sorted(pins)]
    assert changes(frozenset(), pins) == told
    assert changes(pins, frozenset()) == [Unpinned(event.pin) for event in told]


def test_nothing_is_told_of_what_stays() -> None:
    pins = frozenset({Pin.TEMPORARY})
    assert changes(pins, pins) == []
