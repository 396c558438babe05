"""Postgres's dates, times and intervals become datetime's.

Python's types end at the year 9999 and know no infinity, no BC and no 24:00. Such a value stays the text that
Postgres printed, so that one odd row does not make a whole answer unreadable. So does everything when DateStyle or
IntervalStyle is not the default.
"""

import re
from datetime import date, datetime, time, timedelta

_INTERVAL = re.compile(
    r"(?:(?P<years>[+-]?\d+) years? ?)?"
    r"(?:(?P<months>[+-]?\d+) mons? ?)?"
    r"(?:(?P<days>[+-]?\d+) days? ?)?"
    r"(?:(?P<sign>[+-])?(?P<hours>\d+):(?P<minutes>\d\d):(?P<seconds>\d\d)(?:\.(?P<fraction>\d{1,6}))?)?"
)


def decode_date(text: str) -> date | str:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return text


def decode_time(text: str) -> time | str:
    """A time, or a time with zone."""
    if text[:2] == "24":  # the end of a day, which Python 3.14 and newer read as its beginning
        return text
    try:
        return time.fromisoformat(text)
    except ValueError:
        return text


def decode_timestamp(text: str) -> datetime | str:
    """A timestamp; with the offset that Postgres printed when it has one."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return text


def decode_interval(text: str) -> timedelta | str:
    """Days and seconds as they are; a month counts 30 days and a year 365, as in psycopg and asyncpg."""
    match = _INTERVAL.fullmatch(text)
    if match is None or not text:
        return text
    years, months, days, sign, hours, minutes, seconds, fraction = match.groups("0")
    clock = timedelta(
        hours=int(hours), minutes=int(minutes), seconds=int(seconds), microseconds=int(fraction.ljust(6, "0"))
    )
    try:
        whole = timedelta(days=int(years) * 365 + int(months) * 30 + int(days))
        return whole - clock if sign == "-" else whole + clock
    except OverflowError:
        return text
