"""Trying again, carried out with real pauses of no length; what runners share is tested where they are."""

from typing import Any

import pytest

from sqlhttp import ConnectFailed, Retry
from sqlhttp._call import asked
from sqlhttp._endpoint import destination
from sqlhttp._options import ClientOptions
from sqlhttp._retry import attempts
from sqlhttp._runs import Runs, tried

OPTIONS = ClientOptions(destination("postgresql://r@localhost/d", None, {}), None)


def decided(count: int) -> Any:
    return attempts(
        lambda brought, number: (brought, number),
        retry=Retry(attempts=count),
        is_repeatable=lambda: False,
        deadline=None,
        chance=lambda: 0.0,
    )


def test_attempts_are_made_until_one_brings_something() -> None:
    outcomes: list[Any] = [ConnectFailed("a"), ConnectFailed("b"), "answer"]

    def attempt(deadline: float | None) -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert tried(decided(3), attempt) == ("answer", 3)


def test_the_last_error_is_raised() -> None:
    def attempt(deadline: float | None) -> Any:
        raise ConnectFailed("no")

    with pytest.raises(ConnectFailed) as caught:
        tried(decided(2), attempt)
    assert caught.value.attempts == 2


def test_a_runner_says_only_where_its_statements_go() -> None:
    class Fixed(Runs[list[dict[str, Any]]]):
        def _run(self, options: Any, query: Any, positional: Any = None) -> Any:
            statement, shape = asked(options, query, positional=positional)
            return [[statement.text, *statement.params]] if shape.row is list else [{"text": statement.text}]

    fixed = Fixed(OPTIONS)
    assert fixed("select 1") == [{"text": "select 1"}]
    assert fixed.first("select 1") == fixed.one("select 1") == {"text": "select 1"}
    assert fixed.val("select $1", 5) == "select $1"
    with pytest.raises(NotImplementedError):
        Runs[Any](OPTIONS)("select 1")
