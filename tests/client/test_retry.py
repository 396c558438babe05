"""When a request is tried again, with a clock and chance of the test's own."""

from typing import Any

import pytest

from sqlhttp import (
    CertificateRejected,
    ConnectFailed,
    ConnectionLost,
    NeonDbError,
    Refused,
    ReplyCut,
    Retry,
    SendFailed,
    errors,
)
from sqlhttp._http1 import Reply
from sqlhttp._retry import Pause, Send, attempts

REPLY = Reply(200, {}, b"")


def played(
    *outcomes: NeonDbError | Reply,
    retry: Retry | None = Retry(),  # noqa: B008  a frozen value
    reads_only: bool = False,
    deadline: float | None = None,
    takes: float = 0.0,
    chance: float = 1.0,
) -> tuple[Any, list[float]]:
    """What the caller gets when attempts end with these outcomes, each after `takes` seconds; and the pauses."""
    now = 100.0

    def read(reply: Reply, number: int) -> int:
        return number

    steps = attempts(
        read, retry=retry, is_repeatable=lambda: reads_only, deadline=deadline, clock=lambda: now, chance=lambda: chance
    )
    left, pauses = list(outcomes), []
    try:
        step = next(steps)
        while True:
            if isinstance(step, Pause):
                pauses.append(step.seconds)
                now += step.seconds
                step = steps.send(None)
                continue
            assert step == Send(deadline)
            now += takes
            outcome = left.pop(0)
            step = steps.throw(outcome) if isinstance(outcome, NeonDbError) else steps.send(outcome)
    except StopIteration as done:
        assert not left
        return done.value, pauses
    except NeonDbError as error:
        assert not left, "it was not tried again"
        return error, pauses


def busy(retry_after: float | None = None) -> NeonDbError:
    error = Refused("busy")
    error.retry_after = retry_after
    return error


def conflict(code: str = "40001") -> NeonDbError:
    return errors.class_of(code)("conflict", code=code)


def test_an_answer_at_once_is_the_first_attempt() -> None:
    assert played(REPLY) == (1, [])


@pytest.mark.parametrize("error", [ConnectFailed("refused"), SendFailed("cut"), busy(), conflict(), conflict("40P01")])
def test_what_did_not_run_is_tried_again(error: NeonDbError) -> None:
    answer, pauses = played(error, REPLY)
    assert answer == 2
    assert len(pauses) == 1


@pytest.mark.parametrize(
    "error", [CertificateRejected("no"), conflict("23505"), ConnectionLost("reset"), ReplyCut("cut")]
)
def test_what_may_have_run_or_fails_again_is_not(error: NeonDbError) -> None:
    assert played(error) == (error, [])


def test_a_lost_connection_is_tried_again_for_what_only_reads() -> None:
    assert played(ConnectionLost("reset"), ReplyCut("cut"), REPLY, reads_only=True)[0] == 3


def test_a_conflict_whose_outcome_is_unknown_is_not_tried_again() -> None:
    error = conflict()
    error.may_have_run = True
    assert played(error) == (error, [])


def test_the_last_attempts_error_says_how_many_there_were() -> None:
    last = busy()
    answer, pauses = played(busy(), ConnectFailed("no"), last)
    assert answer is last
    assert last.attempts == 3
    assert len(pauses) == 2


def test_attempts_and_retry_can_be_turned_off() -> None:
    error = busy()
    assert played(error, retry=None) == (error, [])
    assert played(error, retry=Retry(attempts=1)) == (error, [])


def test_pauses_are_by_chance_and_grow_to_a_bound() -> None:
    outcomes = [busy() for _ in range(9)]
    _, longest = played(*outcomes, REPLY, retry=Retry(attempts=10, budget=100))
    assert longest == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0, 2.0]
    _, shortest = played(busy(), REPLY, chance=0.0)
    assert shortest == [0.0]


def test_the_server_says_how_long_to_wait_at_least() -> None:
    assert played(busy(3.0), REPLY, chance=0.5) == (2, [3.05])


def test_no_attempt_begins_after_the_budget() -> None:
    error = busy(11.0)
    assert played(error) == (error, [])
    slow = busy()
    assert played(slow, takes=10.0) == (slow, [])


def test_no_attempt_begins_after_the_deadline() -> None:
    error = busy(3.0)
    assert played(error, deadline=102.0) == (error, [])
    assert played(busy(1.0), REPLY, deadline=102.0, chance=0.0) == (2, [1.0])
