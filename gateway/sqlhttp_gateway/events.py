"""What happened, as values. Whoever wants to count, log or trace it is an `Observer`.

The core tells each event once and never asks who listens, so that pools and codecs carry no logger and no counter.
Durations are seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class Answered(NamedTuple):  # made for every request, at half the price of a frozen dataclass
    """One request was answered. `outcome` is "ok" or the error's kind; `target` and `role` are empty until known."""

    request_id: str
    status: int
    outcome: str
    sqlstate: str
    database: str
    role: str
    statements: int
    rows: int
    bytes_out: int
    seconds: float
    waited: float
    message: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """A backend connection was opened."""

    pool: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Closed:
    """A backend connection was closed, and why: idle, lifetime, evicted, broken, unconfirmed, drain."""

    pool: str
    reason: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A running exchange was cancelled; `confirmed` is whether Postgres's answer to it came in time."""

    pool: str
    confirmed: bool


@dataclass(frozen=True, slots=True)
class Bug:
    """Something that is nobody's fault but ours; the text is a traceback and goes to the log only."""

    request_id: str
    traceback: str


Event = Answered | Opened | Closed | Cancelled | Bug
Observer = Callable[[Event], None]


def unobserved(event: Event) -> None:
    """Tell nobody."""
