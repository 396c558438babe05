"""Trying again, awaited; the rules are in `test_runs`."""

from typing import Any

import pytest

from sqlhttp import ConnectFailed
from sqlhttp._runs_async import AsyncRuns, tried
from tests.client.test_runs import OPTIONS, decided


async def test_attempts_are_made_until_one_brings_something() -> None:
    outcomes: list[Any] = [ConnectFailed("a"), "answer"]

    async def attempt(deadline: float | None) -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert await tried(decided(3), attempt) == ("answer", 2)


async def test_the_last_error_is_raised() -> None:
    async def attempt(deadline: float | None) -> Any:
        raise ConnectFailed("no")

    with pytest.raises(ConnectFailed) as caught:
        await tried(decided(2), attempt)
    assert caught.value.attempts == 2


async def test_a_runner_says_only_where_its_statements_go() -> None:
    class Fixed(AsyncRuns[list[dict[str, Any]]]):
        async def _run(self, options: Any, query: Any, positional: Any = None) -> Any:
            return [{"text": query.text}]

    assert await Fixed(OPTIONS).one("select 1") == {"text": "select 1"}
    with pytest.raises(NotImplementedError):
        await AsyncRuns[Any](OPTIONS)("select 1")
