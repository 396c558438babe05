"""When a request is tried again. One generator decides; the two drivers only send and sleep.

What may be tried again never runs a statement twice: a request that did not reach the server whole, one that was
refused, and a transaction that Postgres rolled back over a conflict. A request whose outcome is unknown is tried
again only if it does nothing but read, or has an Idempotency-Key.
"""

from collections.abc import Callable, Generator
from time import monotonic
from typing import Any, NamedTuple

from sqlhttp._errors import NeonDbError, OutcomeUnknown

_CONFLICTS = ("40001", "40P01")
"""serialization_failure and deadlock_detected: everything was rolled back, and the same may succeed now."""

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0


class Retry(NamedTuple):
    """How often to try, and for how long."""

    attempts: int = 3
    """Most attempts, the first one included."""
    budget: float = 10.0
    """Seconds from the start of the call in which another attempt may begin."""


class Send(NamedTuple):
    """What the generator asks of its driver: one attempt, with `deadline` on the monotonic clock."""

    deadline: float | None


class Pause(NamedTuple):
    """What the generator asks of its driver: sleep."""

    seconds: float


Steps = Generator[Send | Pause, Any, Any]


def attempts(
    read: Callable[[Any, int], Any],
    *,
    retry: Retry | None,
    is_repeatable: Callable[[], bool],
    deadline: float | None,
    is_possible: Callable[[], bool] = lambda: True,
    clock: Callable[[], float] = monotonic,
    chance: Callable[[], float] | None = None,
) -> Steps:
    """Ask for attempts until `read` accepts what one of them brought; `read` takes that and the number of attempts.

    `is_repeatable` is asked only when the outcome of an attempt is unknown, `is_possible` before every further attempt.

    `chance` gives numbers from 0 to 1.

    Raises:
        NeonDbError: the last attempt's; `attempts` says how many there were.
    """
    started = clock()
    number = 0
    while True:
        number += 1
        try:
            reply = yield Send(deadline)
            return read(reply, number)
        except NeonDbError as error:
            error.attempts = number
            pause = _pause(error, retry, number, clock() - started, is_repeatable=is_repeatable, chance=chance)
            if pause is None or not is_possible() or (deadline is not None and clock() + pause >= deadline):
                raise
        yield Pause(pause)


def _pause(
    error: NeonDbError,
    retry: Retry | None,
    number: int,
    elapsed: float,
    *,
    is_repeatable: Callable[[], bool],
    chance: Callable[[], float] | None,
) -> float | None:
    """Seconds until the next attempt; None when there is none."""
    if retry is None or number >= retry.attempts or not may_retry(error, is_repeatable=is_repeatable):
        return None
    if chance is None:
        from random import random  # a twentieth of the package's own import, which few programs ever need

        chance = random
    # Full jitter: callers that were refused together do not come back together.
    pause = chance() * min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0**number)
    if error.retry_after is not None:
        pause += error.retry_after
    return pause if elapsed + pause < retry.budget else None


def may_retry(error: NeonDbError, *, is_repeatable: Callable[[], bool]) -> bool:
    """Whether another attempt can neither repeat an effect nor is bound to fail in the same way."""
    if isinstance(error, OutcomeUnknown) or (error.retryable and error.may_have_run):
        return is_repeatable()
    return error.retryable or (error.code in _CONFLICTS and not error.may_have_run)
