"""What a program knows of its servers' parameters, and what it is told when another backend has others."""

import pytest

from sqlhttp_gateway.errors import RemoteProtocolError
from sqlhttp_gateway.wire.told import Greeting, Told

UTC = b"S\0\0\0\x11TimeZone\0UTC\0"
CET = b"S\0\0\0\x11TimeZone\0CET\0"


def test_log_in_tells_everything_and_what_start_up_changed_counts_more() -> None:
    told = Told()
    assert told.read(CET) == ("TimeZone", b"CET", True)
    greeting = told.learn({"TimeZone": "UTC", "server_version": "18.1"})
    assert greeting == Greeting(
        {"TimeZone": "CET", "server_version": "18.1"}, {"TimeZone": "UTC", "server_version": "18.1"}
    )
    assert told.statuses() == [CET, b"S\0\0\0\x18server_version\x0018.1\0"]


def test_greeting_does_not_change_with_what_is_told_later() -> None:
    told = Told()
    greeting = told.learn({"TimeZone": "UTC"})
    told.read(CET)
    assert greeting.told == {"TimeZone": "UTC"}


def test_same_value_again_is_nothing_new() -> None:
    told = Told()
    told.learn({"TimeZone": "UTC"})
    assert told.read(UTC) == ("TimeZone", b"UTC", False)
    assert told.read(CET) == ("TimeZone", b"CET", True)
    assert told.read(CET) == ("TimeZone", b"CET", False)


def test_another_backend_is_told_of_where_it_differs_but_not_in_what_the_program_has_set() -> None:
    told = Told()
    told.learn({"TimeZone": "UTC", "IntervalStyle": "postgres", "DateStyle": "ISO"})
    other = {"TimeZone": "CET", "IntervalStyle": "iso_8601", "DateStyle": "ISO"}
    assert told.differences(other, {"intervalstyle": b"sql_standard"}) == [CET]
    assert told.baseline is other
    assert told.differences(other, {"intervalstyle": b"sql_standard"}) == []


def test_what_another_program_was_told_is_known_until_a_backend_says_otherwise() -> None:
    told = Told()
    told.recall(Greeting({"TimeZone": "UTC"}, {"TimeZone": "UTC"}))
    assert told.is_recalled
    assert told.statuses() == [UTC]
    assert told.differences({"TimeZone": "CET"}, ()) == [CET]


def test_status_without_a_value_is_malformed() -> None:
    with pytest.raises(RemoteProtocolError, match="malformed ParameterStatus"):
        Told().read(b"S\0\0\0\x0cTimeZone")
