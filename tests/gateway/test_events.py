"""Events: whoever listens is told each, in order, and none has a place for a secret."""

import dataclasses
import inspect
from typing import get_args

import pytest

from sqlhttp_gateway import events
from sqlhttp_gateway.events import Bug, Closed, Event, Leaked, Opened, each, unobserved
from sqlhttp_gateway.observe.logs import LogLines
from sqlhttp_gateway.observe.metrics import Metrics
from sqlhttp_gateway.settings import LogSettings

KINDS = get_args(Event)
SECRET_WORDS = ("password", "param", "dsn", "connection_string", "token", "secret", "authorization", "claims")


def fields(kind: type) -> dict[str, object]:
    return inspect.get_annotations(kind)


def made(kind: type) -> Event:
    """One of this kind, every field at the plainest value of its type."""
    plain: dict[object, object] = {
        **{str: "x", int: 1, float: 0.5, bool: True, BaseException: ValueError("x")},
        **{tuple[str, ...]: ("SELECT 1",), tuple[int, ...]: (1,)},
    }
    given = {name: plain[declared] for name, declared in fields(kind).items()}
    if "traceparent" in given:
        given["traceparent"] = f"00-{1:032x}-{1:016x}-01"
    event: Event = kind(**given)
    return event


def test_every_event_of_the_module_belongs_to_the_union() -> None:
    defined = {kind for kind in vars(events).values() if inspect.isclass(kind) and kind.__module__ == events.__name__}
    assert defined == set(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_event_has_no_place_for_a_secret(kind: type) -> None:
    assert not [name for name in fields(kind) for word in SECRET_WORDS if word in name]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_event_cannot_be_changed_by_whoever_is_told_first(kind: type) -> None:
    event = made(kind)
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
        setattr(event, next(iter(fields(kind)), "another"), "changed")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_observer_takes_every_event(kind: type) -> None:
    for observe in (unobserved, LogLines(LogSettings(requests="all")), Metrics(10)):
        observe(made(kind))


def test_observers_are_told_in_order() -> None:
    told: list[tuple[str, Event]] = []
    observe = each(lambda event: told.append(("first", event)), lambda event: told.append(("second", event)))
    opened, closed = Opened("p", 0.1), Closed("p", "idle")
    observe(opened)
    observe(closed)
    assert told == [("first", opened), ("second", opened), ("first", closed), ("second", closed)]


def test_single_observer_is_told_without_a_detour() -> None:
    told: list[Event] = []
    observer = told.append
    assert each(observer) is observer


def test_events_of_equal_content_are_equal() -> None:
    assert Leaked("p") == Leaked("p")
    assert Bug("id", ValueError()) != Bug("id", ValueError())
