"""What the gateway's result cache did with a call: the headers Cache-Status (RFC 9211) and Age, as a value."""

from collections.abc import Mapping
from typing import NamedTuple

STATUS, AGE = "cache-status", "age"


class CacheStatus(NamedTuple):
    """What the cache did with a call."""

    hit: bool
    """The answer came from the cache."""
    stale: bool = False
    """It was older than asked for, within swr, and is being fetched anew."""
    stored: bool = False
    """It was fetched, and is kept."""
    collapsed: bool = False
    """It was fetched for another call, which this one has joined."""
    age: int | None = None
    """Seconds since it was fetched, where it came from the cache."""
    ttl: int | None = None
    """Seconds for which it is fresh still; below 0 it is stale."""
    detail: str = ""
    """Why the call went past the cache."""


def status_of(headers: Mapping[str, str]) -> CacheStatus | None:
    """What an answer's headers (their names in lower case) say; None where the cache was not asked."""
    value = headers.get(STATUS)
    if value is None:
        return None
    said: dict[str, str] = {}
    for part in value.split(";")[1:]:
        name, _, given = part.strip().partition("=")
        said[name] = given.strip('"')
    hit = "hit" in said
    ttl, age = said.get("ttl"), headers.get(AGE)
    detail = said.get("detail", "")
    return CacheStatus(
        hit,
        stale=hit and detail == "refreshing",
        stored="stored" in said,
        collapsed="collapsed" in said,
        age=int(age) if age is not None and age.isdigit() else None,
        ttl=int(ttl) if ttl is not None and ttl.lstrip("-").isdigit() else None,
        detail="" if hit else detail,
    )
