"""How a call's own options change a client's."""

from typing import Any

import pytest

from sqlhttp import FetchOptions, InterfaceError, Retry
from sqlhttp import _options as options_of
from sqlhttp._endpoint import destination
from sqlhttp._options import ClientOptions, Wanted
from sqlhttp._response import Shape

OPTIONS = ClientOptions(destination("postgres://u:p@localhost/db", None, {}), transport=None)


def test_nothing_given_changes_nothing() -> None:
    assert options_of.changed(OPTIONS) == OPTIONS


def test_none_takes_away_what_can_be_taken_away() -> None:
    with_token = options_of.changed(OPTIONS, auth_token="t", timeout=3.0, retry=Retry(attempts=1))
    assert (with_token.auth_token, with_token.timeout, with_token.retry) == ("t", 3.0, Retry(attempts=1))
    without = options_of.changed(with_token, auth_token=None, timeout=None, retry=None)
    assert (without.auth_token, without.timeout, without.retry) == (None, None, None)


def test_a_timeout_without_an_end_is_none_and_what_is_no_number_is_refused() -> None:
    for endless in (float("inf"), 1e12):
        assert options_of.changed(OPTIONS, timeout=endless).timeout is None
    for wrong in (float("nan"), "5"):
        with pytest.raises(InterfaceError, match="timeout= takes seconds"):
            options_of.changed(OPTIONS, timeout=wrong)  # type: ignore[arg-type]  # a string is what it is about


def test_transaction_options_are_taken_one_by_one() -> None:
    once = options_of.changed(OPTIONS, isolation_level="Serializable", read_only=True)
    twice = options_of.changed(once, read_only=False, deferrable=True)
    assert twice.transaction == ("Serializable", False, True)


def test_types_are_added_to_the_clients() -> None:
    shape = options_of.shaped(Shape(types={1: int, 2: int}), Wanted(types={2: str}))
    assert shape.types == {1: int, 2: str}


def test_rows_are_arrays_or_something_else() -> None:
    assert options_of.shaped(Shape(), Wanted(array_mode=True)).row is tuple
    assert options_of.shaped(Shape(tuple), Wanted(array_mode=False)).row is dict
    assert options_of.shaped(Shape(tuple), Wanted(row=list)).row is list
    with pytest.raises(InterfaceError, match="different rows"):
        options_of.shaped(Shape(), Wanted(array_mode=True, row=dict))
    with pytest.raises(InterfaceError, match="row="):
        options_of.shaped(Shape(), Wanted(row=5))  # type: ignore[arg-type]


def test_headers_are_merged_by_their_name_in_any_case() -> None:
    once = options_of.changed(OPTIONS, fetch_options={"headers": {"X-A": "1", "X-B": "2"}})
    twice = options_of.changed(once, fetch_options={"headers": {"x-a": "3"}})
    assert twice.headers == (("x-a", "3"), ("X-B", "2"))
    given: Any = {"headers": {"X": 1}}
    with pytest.raises(InterfaceError, match="strings"):
        options_of.changed(OPTIONS, fetch_options=given)


def test_fetch_options_that_do_not_exist_are_named() -> None:
    given: Any = {"headers": {}, "cache": "no-store"}
    with pytest.raises(InterfaceError, match="cache"):
        options_of.changed(OPTIONS, fetch_options=given)


def test_tls_settings_belong_to_the_transport_alone() -> None:
    given = FetchOptions(headers={"a": "b"}, ssl_context=object())  # type: ignore[typeddict-item]
    assert options_of.without_tls(given) == {"headers": {"a": "b"}}
    assert "ssl_context" in given
    assert options_of.without_tls(None) is None


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> float:
    """What the clock says, which stands still."""
    moment = 1000.0
    monkeypatch.setattr(options_of, "monotonic", lambda: moment)
    return moment


def test_a_call_ends_at_its_timeout_or_the_deadline_whichever_is_first(now: float) -> None:
    assert options_of.deadline_of(OPTIONS._replace(timeout=None)) is None
    assert options_of.deadline_of(OPTIONS._replace(timeout=None, deadline=now)) == now
    assert options_of.deadline_of(OPTIONS._replace(timeout=60.0, deadline=now)) == now
    assert options_of.deadline_of(OPTIONS._replace(timeout=60.0, deadline=now + 900)) == now + 60


def test_a_deadline_is_seconds_or_a_lambdas_context(now: float) -> None:
    class Context:
        def get_remaining_time_in_millis(self) -> int:
            return 3000

    for limit in (3, 3.0, Context()):
        assert options_of.deadline_from(limit, 0.5) == now + 2.5
    with pytest.raises(InterfaceError, match="get_remaining_time_in_millis"):
        options_of.deadline_from("3", 0.5)
