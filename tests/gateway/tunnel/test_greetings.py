"""Greetings that are used again."""

import pytest

from sqlhttp_gateway.model import PoolKey
from sqlhttp_gateway.tunnel import greetings
from sqlhttp_gateway.tunnel.greetings import Greetings
from sqlhttp_gateway.wire.told import Greeting

POOL = PoolKey("default", "app", "ada")
REPORTED = {"TimeZone": "UTC", "application_name": ""}
GREETING = Greeting({"TimeZone": "Europe/Vienna", "application_name": "first"}, REPORTED)
ASKED = {"TimeZone": "europe/vienna", "application_name": "first"}


def test_who_asks_for_the_same_is_told_the_same() -> None:
    known = Greetings()
    known.keep(POOL, ASKED, GREETING)
    assert known.find(POOL, {"timezone": "europe/vienna", "application_name": "first"}) == GREETING


def test_name_of_the_application_is_each_programs_own() -> None:
    known = Greetings()
    known.keep(POOL, ASKED, GREETING)
    second = known.find(POOL, ASKED | {"application_name": "second"})
    assert second is not None
    assert second.told == {"TimeZone": "Europe/Vienna", "application_name": "second"}
    nameless = known.find(POOL, {"TimeZone": "europe/vienna"})
    assert nameless is not None
    assert nameless.told["application_name"] == ""


@pytest.mark.parametrize("name", ["ü", "a\tb", "x" * 64])
def test_name_that_postgres_would_change_is_asked_for(name: str) -> None:
    known = Greetings()
    known.keep(POOL, ASKED, GREETING)
    assert known.find(POOL, ASKED | {"application_name": name}) is None


@pytest.mark.parametrize("other", [{"TimeZone": "UTC"}, {}, ASKED | {"DateStyle": "German"}])
def test_who_asks_for_something_else_has_to_ask_a_backend(other: dict[str, str]) -> None:
    known = Greetings()
    known.keep(POOL, ASKED, GREETING)
    assert known.find(POOL, other) is None
    assert known.find(PoolKey("default", "app", "bob"), ASKED) is None


def test_what_a_server_told_is_forgotten_when_it_tells_something_else() -> None:
    known = Greetings()
    known.keep(POOL, ASKED, GREETING)
    known.keep(POOL, {}, GREETING)
    known.forget(PoolKey("default", "app", "bob"))
    assert len(known) == 2
    known.forget(POOL)
    assert len(known) == 0


def test_least_recently_used_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greetings, "MAX_KNOWN", 2)
    known = Greetings()
    for zone in ("a", "b"):
        known.keep(POOL, {"TimeZone": zone}, GREETING)
    known.find(POOL, {"TimeZone": "a"})
    known.keep(POOL, {"TimeZone": "c"}, GREETING)
    assert [known.find(POOL, {"TimeZone": zone}) is not None for zone in "abc"] == [True, False, True]
