"""What is noted is counted as if it had been told."""

import random

from sqlhttp_gateway.events import Answered
from sqlhttp_gateway.observe import tally
from sqlhttp_gateway.observe.metrics import Metrics
from tests.support.answered import answered

PLACE = "default", "main"


def note(metrics: Metrics, event: Answered) -> None:
    metrics.tally(event.target, event.database).note(
        event.seconds, event.waited, event.executed, event.rows, event.parsed, event.bytes_in, event.bytes_out
    )


def test_noted_requests_are_counted_as_told_ones() -> None:
    chance = random.Random(1)
    told, noted = Metrics(10), Metrics(10)
    for number in range(3 * tally.MOST + 5):
        event = answered(
            seconds=chance.lognormvariate(-5, 3),
            waited=chance.lognormvariate(-9, 3),
            executed=chance.lognormvariate(-7, 3),
            rows=number % 4,
            parsed=number % 2,
            reused=1 - number % 2,
            bytes_in=number,
            bytes_out=2 * number,
        )
        told(event)
        note(noted, event)
    [by_telling], [by_noting] = told.counts().databases.values(), noted.counts().databases.values()
    for name in ("request_seconds", "wait_seconds", "query_seconds", "transaction_seconds"):
        one, other = getattr(by_telling, name), getattr(by_noting, name)
        assert one.counts == other.counts, name
        assert abs(one.sum - other.sum) < 1e-6 * one.sum or one.sum == other.sum == 0
    for name in ("outcomes", "statements", "executed", "parsed", "reused", "rows", "bytes_in", "bytes_out"):
        assert getattr(by_telling, name) == getattr(by_noting, name), name


def test_noted_batches_are_counted_as_told_ones() -> None:
    told, noted = Metrics(10), Metrics(10)
    for number in range(1, 2 * tally.MOST + 5):
        seconds = 0.001 * number
        event = answered(
            seconds=seconds,
            waited=0.25,
            executed=seconds,
            statements=3,
            is_batch=True,
            rows=6,
            parsed=number % 4,
            reused=3 - number % 4,
            bytes_in=number,
            bytes_out=2 * number,
        )
        told(event)
        series = noted.tally(event.target, event.database)
        series.note_batch(seconds, 0.25, seconds, [1, 2, 3], event.parsed, event.reused, number, 2 * number)
        if number % 3 == 0:
            told(answered())
            note(noted, answered())
    [by_telling], [by_noting] = told.counts().databases.values(), noted.counts().databases.values()
    for name in ("request_seconds", "wait_seconds", "query_seconds", "transaction_seconds"):
        assert getattr(by_telling, name).counts == getattr(by_noting, name).counts, name
    for name in ("outcomes", "statements", "executed", "parsed", "reused", "rows", "bytes_in", "bytes_out"):
        assert getattr(by_telling, name) == getattr(by_noting, name), name


def test_what_was_noted_is_seen_at_every_look_and_once() -> None:
    metrics = Metrics(10)
    for number in range(1, 4):
        note(metrics, answered())
        for _ in range(2):
            assert metrics.counts().databases[PLACE].outcomes == {"ok": number}


def test_databases_without_a_label_of_their_own_are_noted_together() -> None:
    metrics = Metrics(1)
    for database in ("main", "second", "third", "second"):
        note(metrics, answered(database=database))
        metrics(answered(database=database))
    counts = metrics.counts().databases
    assert {key: each.outcomes["ok"] for key, each in counts.items()} == {PLACE: 2, ("default", "other"): 6}
    assert len(metrics._tallies) == 2


def test_no_more_than_so_many_are_kept_uncounted() -> None:
    metrics = Metrics(1)
    for _ in range(10 * tally.MOST):
        note(metrics, answered())
        assert len(metrics.tally(*PLACE)._noted) < tally.MOST
