"""Dates, times and intervals as Postgres prints them."""

from datetime import UTC, date, datetime, time, timedelta, timezone

import pytest

from sqlhttp import _dates
from sqlhttp._dates import decode_date, decode_interval, decode_time, decode_timestamp


def test_values_that_python_has_become_its_own() -> None:
    assert decode_date("0001-01-01") == date.min
    assert decode_time("23:59:59.999999") == time.max
    assert decode_time("04:05:06+05:30") == time(4, 5, 6, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert decode_timestamp("2020-01-01 00:00:00") == datetime(2020, 1, 1)
    assert decode_timestamp("2020-01-01 00:00:00.5+00") == datetime(2020, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)


def test_the_end_of_a_day_is_not_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.14 has learnt ISO 8601's 24:00, and gives the time of day after it, which is 0:00."""

    class Newer(time):
        @classmethod
        def fromisoformat(cls, text: str) -> "Newer":
            return cls.min  # type: ignore[return-value]  # what matters is that it is none of ours

    monkeypatch.setattr(_dates, "time", Newer)
    assert decode_time("24:00:00") == "24:00:00"
    assert decode_time("24:00:00+05:30") == "24:00:00+05:30"


def test_an_offset_with_seconds_is_kept() -> None:
    amsterdam = timezone(timedelta(minutes=19, seconds=32))  # until 1937
    value = decode_timestamp("1900-01-01 00:00:00+00:19:32")
    assert value == datetime(1900, 1, 1, tzinfo=amsterdam)
    assert isinstance(value, datetime)
    assert value.utcoffset() == timedelta(minutes=19, seconds=32)


@pytest.mark.parametrize(
    ("decode", "text"),
    [
        (decode_date, "infinity"),
        (decode_date, "-infinity"),
        (decode_date, "0044-03-15 BC"),
        (decode_date, "10000-01-01"),
        (decode_time, "24:00:00"),
        (decode_timestamp, "infinity"),
        (decode_timestamp, "0044-03-15 12:00:00 BC"),
        (decode_timestamp, "294276-12-31 23:59:59.999999"),
        (decode_timestamp, "01/02/2020 00:00:00"),
        (decode_interval, "infinity"),
        (decode_interval, "P1Y2M3DT4H5M6S"),
        (decode_interval, "@ 1 hour ago"),
        (decode_interval, "178000000 years"),
        (decode_interval, ""),
    ],
)
def test_values_that_python_has_not_stay_text(decode: object, text: str) -> None:
    assert callable(decode)
    assert decode(text) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("00:00:00", timedelta(0)),
        ("1 day", timedelta(days=1)),
        ("-1 days +23:59:59.999999", timedelta(microseconds=-1)),
        ("04:05:06.7", timedelta(hours=4, minutes=5, seconds=6, milliseconds=700)),
        ("-00:00:00.000001", timedelta(microseconds=-1)),
        ("1 year 2 mons 3 days 04:00:00", timedelta(days=365 + 60 + 3, hours=4)),
        ("-1 years -2 mons +3 days -04:05:06", -timedelta(days=365 + 60 - 3, hours=4, minutes=5, seconds=6)),
        ("100:00:00", timedelta(hours=100)),
    ],
)
def test_intervals_become_timedeltas(text: str, value: timedelta) -> None:
    assert decode_interval(text) == value
