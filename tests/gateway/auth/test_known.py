"""Callers that were proven a short while ago."""

from types import SimpleNamespace
from typing import Any

import pytest

from sqlhttp_gateway.auth import known
from sqlhttp_gateway.auth.caller import Caller
from sqlhttp_gateway.auth.known import Known

DSN, BEARER, HOST = b"postgres://app@db/main", b"Bearer secret", b"acme.db.example"


class Clock:
    """Moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def caller(*, until: float = 30.0, is_retired: bool = False) -> Caller:
    pool: Any = SimpleNamespace(is_retired=is_retired)
    return Caller("default", "main", "app", pool, until)


def test_caller_is_known_by_all_that_it_showed_and_by_nothing_less() -> None:
    subject, ada = Known(Clock()), caller()
    subject.remember(ada, DSN, BEARER, HOST)
    assert subject.recall(DSN, BEARER, HOST) is ada
    for shown in ((DSN, BEARER, b""), (DSN, None, HOST), (b"", BEARER, HOST), (DSN, BEARER + b"x", HOST)):
        assert subject.recall(*shown) is None


def test_proof_holds_until_its_end_and_not_beyond() -> None:
    clock = Clock()
    subject = Known(clock)
    subject.remember(caller(until=30.0), DSN, None, b"")
    clock.now = 29.9
    assert subject.recall(DSN, None, b"") is not None
    clock.now = 30.0
    assert subject.recall(DSN, None, b"") is None


def test_caller_whose_pool_is_no_more_is_looked_up_again() -> None:
    subject = Known(Clock())
    subject.remember(caller(is_retired=True), DSN, None, b"")
    assert subject.recall(DSN, None, b"") is None


def test_nobody_is_known_once_all_is_forgotten() -> None:
    subject = Known(Clock())
    subject.remember(caller(), DSN, None, b"")
    subject.forget()
    assert (subject.recall(DSN, None, b""), len(subject)) == (None, 0)


def test_where_too_many_would_be_remembered_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "MAX_KNOWN", 3)
    subject = Known(Clock())
    texts = [b"%b?application_name=%d" % (DSN, number) for number in range(4)]
    for text in texts:
        subject.remember(caller(), text, None, b"")
    assert [subject.recall(text, None, b"") is not None for text in texts] == [False, True, True, True]


def test_caller_that_is_proven_again_counts_as_the_youngest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "MAX_KNOWN", 2)
    subject = Known(Clock())
    for text in (b"a", b"b", b"a", b"c"):
        subject.remember(caller(), text, None, b"")
    assert [subject.recall(text, None, b"") is not None for text in (b"a", b"b", b"c")] == [True, False, True]


def test_callers_whose_proof_is_over_are_not_kept() -> None:
    clock = Clock()
    subject = Known(clock)
    for number in range(100):
        subject.remember(caller(until=clock.now + 30.0), b"%d" % number, None, b"")
        clock.now += 10.0
    assert len(subject) <= 4  # three hold at a time


def test_nothing_that_was_shown_is_kept() -> None:
    subject = Known(Clock())
    subject.remember(caller(), DSN, BEARER, HOST)
    kept = repr(list(subject._callers.items())).encode()
    for shown in (DSN, BEARER, HOST):
        assert shown not in kept
