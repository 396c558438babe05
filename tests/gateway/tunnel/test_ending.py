"""The end of a tunnel."""

import pytest

from sqlhttp_gateway.errors import ConnectionBroken, ShuttingDown
from sqlhttp_gateway.tunnel.ending import Ending

FIRST, SECOND = ConnectionBroken("the connection to Postgres was lost"), ShuttingDown("the gateway stops")


async def test_first_reason_is_the_one_that_is_told() -> None:
    ending = Ending()
    ending.fail(FIRST)
    ending.fail(SECOND)
    assert ending.over.done()
    assert (ending.error, ending.untold) == (FIRST, FIRST)


async def test_what_the_program_knows_already_is_not_told_again_by_what_follows_from_it() -> None:
    ending = Ending()
    ending.was_told(FIRST)
    assert not ending.over.done()
    ending.fail(SECOND)
    assert ending.over.done()
    assert (ending.error, ending.untold) == (FIRST, None)


async def test_orderly_end_stays_one_whatever_comes_later() -> None:
    ending = Ending()
    ending.finish()
    ending.finish()
    ending.fail(FIRST)
    assert (ending.error, ending.untold) == (None, None)


async def test_bug_is_raised_where_the_end_is_waited_for() -> None:
    ending = Ending()
    ending.crash(ZeroDivisionError())
    ending.crash(KeyError())
    with pytest.raises(ZeroDivisionError):
        await ending.over


async def test_bug_after_the_end_changes_nothing() -> None:
    ending = Ending()
    ending.finish()
    ending.crash(ZeroDivisionError())
    assert await ending.over is None  # type: ignore[func-returns-value]
