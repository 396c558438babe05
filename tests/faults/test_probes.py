"""What the probes count rather than time: it is nothing, on a slow machine, too."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.faults.probes import abort, answers, cancels, cut_answers, order
from tests.faults.world import World, made


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with made() as world:
        yield world


def test_requests_begin_in_the_order_in_which_they_came(world: World) -> None:
    assert asyncio.run(order(world)).worst == 0


def test_cancel_never_meets_what_comes_behind_it(world: World) -> None:
    assert asyncio.run(cancels(world)).worst == 0


def test_answer_to_who_has_gone_is_nobody_elses(world: World) -> None:
    assert asyncio.run(answers(world)).worst == 0


def test_write_whose_answer_is_lost_is_not_made_again(world: World) -> None:
    assert asyncio.run(cut_answers(world)).worst == 0


def test_statement_ends_with_its_caller(world: World) -> None:
    measured = asyncio.run(abort(world))
    assert measured.is_kept, measured
