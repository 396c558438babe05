"""Owners live in the order of their table, and end in reverse, whatever becomes of one of them."""

import pytest

from sqlhttp_gateway.owners import Owners
from sqlhttp_gateway.settings import Settings, load_settings


class Life:
    """A table of owners that write down what happens to them."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.owners = Owners()

    def add(self, name: str, *, fails: str = "") -> None:
        def tell(what: str) -> None:
            self.told.append(f"{name} {what}")
            if what == fails:
                raise ValueError(f"{name} {what}")

        async def stop() -> None:
            tell("stops")

        self.owners.add(
            start=lambda: tell("starts"), stop=stop, reconfigure=lambda new: tell(f"has {new.pool.max_size}")
        )


@pytest.fixture
def life() -> Life:
    return Life()


async def test_they_are_started_in_order_and_stopped_in_reverse(life: Life) -> None:
    life.add("one")
    life.add("two")
    async with life.owners.running():
        assert life.told == ["one starts", "two starts"]
    assert life.told[2:] == ["two stops", "one stops"]


async def test_what_was_begun_is_stopped_when_another_cannot_start(life: Life) -> None:
    life.add("one")
    life.add("two", fails="starts")
    life.add("three")
    with pytest.raises(ValueError, match="two starts"):
        async with life.owners.running():
            pass
    assert life.told == ["one starts", "two starts", "two stops", "one stops"]


async def test_one_that_cannot_stop_keeps_no_other_from_it(life: Life) -> None:
    life.add("one")
    life.add("two", fails="stops")
    with pytest.raises(ValueError, match="two stops"):
        async with life.owners.running():
            pass
    assert life.told[2:] == ["two stops", "one stops"]


async def test_steps_may_be_awaited_or_not_and_may_be_missing() -> None:
    owners, told = Owners(), []

    async def start() -> None:
        told.append("started")

    owners.add()
    owners.add(start=start, stop=lambda: told.append("stopped"))
    async with owners.running():
        assert told == ["started"]
    assert told == ["started", "stopped"]


def test_new_settings_reach_all_in_order_before_and_while_they_run(life: Life) -> None:
    life.add("one")
    life.owners.add()
    life.add("two")
    settings: Settings = load_settings(pool={"max_size": 7})
    life.owners.reconfigure(settings)
    assert life.told == ["one has 7", "two has 7"]
